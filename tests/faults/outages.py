"""What the station stands on goes away and comes back: its inbox, its clock, its database."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import sqlite3
import subprocess
import time
from multiprocessing.synchronize import Event
from pathlib import Path

from crackwatch.inbox import MARKER
from tests.disks import mounted, unmount
from tests.faults import arriving, gauge
from tests.faults.arriving import Producer, Works
from tests.faults.clock import Clock
from tests.faults.gauge import Figure
from tests.test_daemon import Process

_EACH = 20  # pictures between two disturbances
_AGAIN_S = 30.0  # until a station has noticed that the cause of its pause is gone
_HOUR_S = 3600


def unmounted(works: Works, times: int) -> list[Figure]:
    """A share in memory is taken from below the inbox, filled elsewhere, and brought back."""
    station = works.station(watch__rescan_s=1.0)
    share = station.root / "share"
    share.mkdir()
    skip = "a share that comes and goes needs the right to mount"
    (station.inbox / os.fsdecode(MARKER)).unlink()  # below the mount there is just a folder
    longest_s = 0.0
    with (
        mounted("-t", "tmpfs", "crackwatch-load", share, skip=skip),
        mounted("--bind", share, station.inbox, skip=skip),
    ):
        arriving.ask_init(station)
        station.start()
        producer = Producer(share, works.seed)
        for _ in range(times):
            producer.drop(_EACH)
            _all_in(station, producer)
            unmount(station.inbox)
            _until(station, "inbox_unmarked")
            # what is written into the folder below meanwhile is nobody's arrival
            stray = station.inbox / "stray.jpg"
            stray.write_bytes(arriving.picture(0))
            producer.drop(_EACH)
            time.sleep(2)
            stray.unlink()
            began = time.monotonic()
            subprocess.run(["mount", "--bind", str(share), str(station.inbox)], check=True)
            _all_in(station, producer)
            longest_s = max(longest_s, time.monotonic() - began)
        ended, _ = station.stop()
        found = arriving.wrong(station, producer.arrived)
    return [
        Figure("times unmounted and mounted again", times),
        Figure("from mounted to all recorded, at most", longest_s, _AGAIN_S, "s"),
        *gauge.none_of("missed, doubled or wrong", found + _status(ended)),
    ]


def deleted(works: Works, times: int) -> list[Figure]:
    """The inbox is deleted with all that is in it, made anew and adopted by `init`."""
    station = works.station(watch__rescan_s=1.0, files__normal="archive")
    station.start()
    producer = works.producer(station)
    longest_s = 0.0
    for _ in range(times):
        producer.drop(_EACH)
        _all_in(station, producer)
        station.wait_until(lambda: not any(station.inbox.glob("*.jpg")))  # all moved
        shutil.rmtree(station.inbox)
        _until(station, "inbox_missing")
        station.inbox.mkdir()
        producer.drop(_EACH)
        _until(station, "inbox_unmarked")  # it might be the folder of a share that is not there
        began = time.monotonic()
        arriving.ask_init(station)
        _all_in(station, producer)
        longest_s = max(longest_s, time.monotonic() - began)
    ended, _ = station.stop()
    return [
        Figure("times deleted and made anew", times),
        Figure("from adopted to all recorded, at most", longest_s, _AGAIN_S, "s"),
        *gauge.none_of(
            "missed, doubled or wrong", arriving.wrong(station, producer.arrived) + _status(ended)
        ),
    ]


def clock(works: Works, times: int) -> list[Figure]:
    """The wall clock is set back and forward by an hour below the running daemon.

    At each step there are pictures before and after, and one of which half has come, closed: it must
    wait for the rest as long as any other, however old an hour on the clock makes it look.
    """
    # on a busy machine a step takes its time: what must not happen is that an hour counts as one
    station = works.station(watch__rescan_s=1.0, watch__incomplete_s=900.0)
    own = Clock(station.root)
    own.set_ahead(-_HOUR_S)
    # a busy machine takes its time to ask: half an hour is enough to tell the one from the other
    assert own.tells() < -_HOUR_S / 2, "the clock's library is not listened to here"
    own.set_ahead(0)
    station.start(**own.environment)
    producer = works.producer(station)
    found: list[str] = []
    steps = 0
    for _ in range(times):
        for ahead_s in (-_HOUR_S, 0, _HOUR_S, 0):
            half = f"half{steps:03}.jpg"
            data = arriving.picture(1_000_000 + steps)
            (station.inbox / half).write_bytes(data[: len(data) // 2])
            producer.drop(_EACH)
            _all_in(station, producer)  # and half of the half one has been read by now
            own.set_ahead(ahead_s)
            producer.drop(_EACH)
            _all_in(station, producer)
            time.sleep(2)
            said = arriving.ask(station, "status", "--format", "json", **own.environment)
            state = json.loads(said.stdout)["state"]
            if state != "running":
                found.append(f"at {ahead_s:+} s the station is {state}: {said.stdout[-500:]}")
            if station.count() != len(producer.arrived):
                found.append(f"at {ahead_s:+} s a picture was judged of which half had come")
            with (station.inbox / half).open("ab") as rest:
                rest.write(data[len(data) // 2 :])
            producer.came(half, data)
            _all_in(station, producer)
            steps += 1
    ended, _ = station.stop()
    return [
        Figure("steps of an hour", steps),
        *gauge.none_of("taken for incomplete or for silent", found),
        *gauge.none_of(
            "missed, doubled or wrong", arriving.wrong(station, producer.arrived) + _status(ended)
        ),
    ]


def locked(works: Works, seconds: float) -> list[Figure]:
    """Another process holds the database's write lock while pictures come in."""
    station = works.station()
    station.start()
    producer = works.producer(station)
    producer.drop(_EACH)
    _all_in(station, producer)
    spawn = multiprocessing.get_context("spawn")
    holds, enough = spawn.Event(), spawn.Event()
    holder = spawn.Process(target=_hold, args=(station.database, holds, enough))
    holder.start()
    assert holds.wait(60)
    began = time.monotonic()
    producer.drop(_EACH)
    _until(station, "database_locked")
    before = station.count()
    time.sleep(max(0.0, seconds - (time.monotonic() - began)))
    recorded = station.count() - before
    held_s = time.monotonic() - began
    enough.set()
    holder.join(60)
    began = time.monotonic()
    _all_in(station, producer, 90)
    again_s = time.monotonic() - began
    station.wait_until(lambda: not arriving.problems(station))
    ended, _ = station.stop()
    return [
        Figure("database locked for", held_s, unit="s"),
        Figure("recorded meanwhile", recorded, 0),
        # the pause between two attempts doubles to half a minute, and each waits 10 s for the lock
        Figure("from released to all recorded", again_s, 45.0, "s"),
        *gauge.none_of(
            "missed, doubled or wrong", arriving.wrong(station, producer.arrived) + _status(ended)
        ),
    ]


def _hold(database: Path, holds: Event, enough: Event) -> None:
    books = sqlite3.connect(database, isolation_level=None, timeout=60)
    books.execute("BEGIN IMMEDIATE")
    holds.set()
    enough.wait()
    books.execute("ROLLBACK")
    books.close()


def _until(station: Process, code: str) -> None:
    station.wait_until(lambda: code in arriving.problems(station), 60)


def _all_in(station: Process, producer: Producer, timeout_s: float = 60.0) -> None:
    station.wait_until(lambda: station.count() >= len(producer.arrived), timeout_s)


def _status(ended: int) -> list[str]:
    return [f"the daemon ended with {ended}"] if ended else []
