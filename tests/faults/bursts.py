"""More files than a queue holds, and a file that takes its time: nothing missed, memory as before."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from contextlib import closing
from pathlib import Path

from tests.faults import arriving, gauge
from tests.faults.arriving import Producer, Works
from tests.faults.gauge import Figure, Watched
from tests.test_daemon import Process

_FEW = 2_000  # memory is compared with what so many take
_MEMORY_GROWS_AT_MOST = 1.20
_PER_PICTURE_S = 0.5  # a machine that needs longer for each has other troubles
_PATIENCE_S = 240.0


def burst(works: Works, pictures: int) -> list[Figure]:
    """``pictures`` while the daemon is stopped, and as many again while it runs."""
    few = min(_FEW, pictures)
    station = works.station()
    station.start()
    with _watched(station) as small:
        producer = works.producer(station)
        producer.drop(few)
        _all_in(station, few)
    station.stop()
    works.remove(station)

    station = works.station()
    station.start()
    assert station.child is not None
    producer = works.producer(station)
    with _watched(station) as large:
        station.child.send_signal(signal.SIGSTOP)
        _overflow(producer)
        producer.drop(pictures, "stopped")
        station.child.send_signal(signal.SIGCONT)
        began = time.monotonic()
        _all_in(station, pictures)
        stopped_s = time.monotonic() - began
        began = time.monotonic()
        producer.drop(pictures, "running")
        _all_in(station, 2 * pictures)
        running_s = time.monotonic() - began
    overflowed = arriving.named(station, "events_lost")
    ended, _ = station.stop()
    found = [] if overflowed else ["the kernel's queue did not overflow: nothing is proved"]
    found += [] if ended == 0 else [f"the daemon ended with {ended}"]
    return [
        Figure("pictures while stopped, and as many while running", pictures),
        *gauge.none_of("missed, doubled or wrong", arriving.wrong(station, producer.arrived)),
        *gauge.none_of("else wrong", found),
        Figure(f"memory at {few:,}", small.most_bytes / 1e6, unit="MB"),
        Figure("memory at most", large.most_bytes / 1e6, unit="MB"),
        Figure(
            "memory, times that of the few",
            large.most_bytes / small.most_bytes,
            _MEMORY_GROWS_AT_MOST,
        ),
        Figure("after SIGCONT until all were recorded", stopped_s, unit="s"),
        Figure("from the first file while running until all were", running_s, unit="s"),
    ]


def slow_file(works: Works, seconds: float) -> list[Figure]:
    """Two files come in pieces: one is held open, one is closed after each and opened again."""
    station = works.station()
    station.start()
    producer = works.producer(station)
    data = {"held.jpg": arriving.picture(1), "again.jpg": arriving.picture(2)}
    pieces = max(4, int(seconds / 5))  # each comes long before an unfinished file is given up
    others = 0
    held = (station.inbox / "held.jpg").open("wb", buffering=0)
    complete_us: dict[str, int] = {}
    for index in range(pieces):
        held.write(_piece(data["held.jpg"], index, pieces))
        complete_us["again.jpg"] = time.time_ns() // 1000  # the last one counts
        with (station.inbox / "again.jpg").open("ab") as again:
            again.write(_piece(data["again.jpg"], index, pieces))
        if index < pieces - 1:  # beside it the station has other work
            producer.drop(2)
            others += 2
            _all_in(station, others)
            time.sleep(seconds / pieces)
    complete_us["held.jpg"] = time.time_ns() // 1000
    held.close()
    for name, whole in data.items():
        producer.came(name, whole)
    began = time.monotonic()
    _all_in(station, others + 2)
    delay_s = time.monotonic() - began
    station.stop()
    with closing(sqlite3.connect(f"{station.database.as_uri()}?mode=ro", uri=True)) as books:
        inspected = books.execute("SELECT source, inspected_at FROM inspections").fetchall()
    found = [
        f"{name} was judged while it was written"
        for name, us in complete_us.items()
        if any(source == name.encode() and at < us for source, at in inspected)
    ]
    return [
        Figure("seconds of writing", seconds, unit="s"),
        Figure("others judged meanwhile", others),
        *gauge.none_of("judged too early", found),
        *gauge.none_of("missed, doubled or wrong", arriving.wrong(station, producer.arrived)),
        Figure("from the last byte to the row", delay_s, unit="s"),
    ]


def _piece(data: bytes, index: int, pieces: int) -> bytes:
    size = -(-len(data) // pieces)
    return data[index * size : (index + 1) * size]


def _overflow(producer: Producer) -> None:
    """More events than the kernel keeps for a process that does not read them."""
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    inbox = os.open(producer.folder, os.O_RDONLY)
    try:  # each is two events, and no picture: its name is temporary
        for index in range(limit // 2 + 1_000):
            name = f"{index}.part"
            os.close(os.open(name, os.O_CREAT | os.O_WRONLY, dir_fd=inbox))
            os.unlink(name, dir_fd=inbox)
    finally:
        os.close(inbox)


def _all_in(station: Process, count: int) -> None:
    station.wait_until(
        lambda: _pause() and station.count() >= count, _PATIENCE_S + _PER_PICTURE_S * count
    )


def _pause() -> bool:
    """Asking is work for the machine as well."""
    time.sleep(0.2)
    return True


def _watched(station: Process) -> Watched:
    assert station.child is not None
    return Watched(station.child.pid)
