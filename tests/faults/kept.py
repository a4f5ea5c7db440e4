"""An inbox of kept files without number, and books that know them: what each costs the station.

The files are tiny and their rows are written through the schema, as the station would have written
them: years of inspections in a minute. One picture arrives, and everything is measured around it.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import insert

from crackwatch.arrivals.gate import Gate
from crackwatch.arrivals.intake import Intake
from crackwatch.arrivals.known import Known
from crackwatch.arrivals.pace import FEW_KEPT, full_pause_s, quick_pause_s
from crackwatch.config_file import load
from crackwatch.domain import Arrival
from crackwatch.inbox import NamePolicy
from crackwatch.store.books import Books
from crackwatch.store.engine import open_writer, writing
from crackwatch.store.schema import batches, inspections, models
from tests.faults import arriving, gauge
from tests.faults.arriving import Works
from tests.faults.gauge import Figure
from tests.test_daemon import Process

_CHUNK = 10_000
_A_DAY = 20_000  # inspections: so the books have days, not one
_ENOUGH = 100_000  # kept files, from which on memory is more than a process's own ups and downs
_FIRST_VERDICT_S, _QUICK_S, _FULL_S = 15.0, 2.0, 10.0
_BYTES_A_FILE = 64
_IDLE_SHARE = 0.5  # per cent of a core


def fill(station: Process, count: int) -> dict[str, bytes]:
    """Files and their rows; the hash of each name. None of them is a picture: they are known."""
    arrived: dict[str, bytes] = {}
    began = datetime.now(UTC) - timedelta(days=1 + count / _A_DAY)
    name = load(station.config, {}).station.name
    engine = open_writer(station.database)
    inbox = os.open(station.inbox, os.O_RDONLY)
    try:
        with writing(engine) as connection:
            model = connection.execute(
                insert(models)
                .values(id="earlier", sha256="0" * 64, card="{}", first_used_at=began)
                .returning(models.c.pk)
            ).scalar_one()
        for start in range(0, count, _CHUNK):
            numbers = range(start, min(start + _CHUNK, count))
            with writing(engine) as connection:
                moment = began + timedelta(days=start / _A_DAY)
                batch = connection.execute(
                    insert(batches)
                    .values(
                        model_pk=model, runtime="openvino", precision="f32", closed_by="size",
                        size=len(numbers), recorded_at=moment, read_us=1, classify_us=1,
                    )
                    .returning(batches.c.id)
                ).scalar_one()  # fmt: skip
                rows = []
                for number in numbers:
                    source, content = b"kept-%09d.jpg" % number, b"kept %d" % number
                    stat = _written(inbox, source, content)
                    arrived[os.fsdecode(source)] = digest = hashlib.sha256(content).digest()
                    rows.append(
                        {
                            "station": name, "source": source, "size_bytes": stat.st_size,
                            "mtime_ns": stat.st_mtime_ns, "ctime_ns": stat.st_ctime_ns,
                            "device": stat.st_dev, "inode": stat.st_ino, "sha256": digest,
                            "outcome": "normal", "score": 0.01, "threshold": 0.5,
                            "model_pk": model, "batch_id": batch, "settled_at": moment,
                            "settled_by": "lease", "inspected_at": moment, "place": "kept",
                            "brightness": 128.0, "sharpness": 50.0, "filed_at": moment,
                        }
                    )  # fmt: skip
                connection.execute(insert(inspections), rows)
    finally:
        os.close(inbox)
    return arrived


def _written(inbox: int, source: bytes, content: bytes) -> os.stat_result:
    file = os.open(source, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644, dir_fd=inbox)
    try:
        os.write(file, content)
        return os.fstat(file)
    finally:
        os.close(file)


def kept(works: Works, count: int, idle_s: float) -> list[Figure]:
    """What ``count`` kept files cost at start, at a scan, in memory and at rest."""
    station = works.station()
    if (why := inodes_missing(station.root, count)) is not None:
        pytest.skip(why)
    empty = _at_rest(works.station())
    began = time.monotonic()
    arrived = fill(station, count)
    filled_s = time.monotonic() - began
    producer = works.producer(station)
    producer.arrived.update(arrived)
    producer.one("first.jpg", arriving.picture(1))  # while nobody ran
    began = time.monotonic()
    station.start(wait=False)
    station.wait_until(lambda: station.count() > count, 1200)
    first_s = time.monotonic() - began
    full_anon = _settled(station)
    assert station.child is not None
    pid = station.child.pid
    before = gauge.processor_s(pid)
    time.sleep(idle_s)
    idle = (gauge.processor_s(pid) - before) / idle_s
    producer.one("second.jpg", arriving.picture(2))
    began = time.monotonic()
    station.wait_until(lambda: station.count() > count + 1, 120)
    second_s = time.monotonic() - began
    station.stop()
    quick_s, full_s, slice_s = scans(station)
    # the minute had room for one of the scans at most: what they take is spread over their pauses
    rescan_s = load(station.config, {}).watch.rescan_s
    scanning = full_s / full_pause_s(full_s, rescan_s) + quick_s / quick_pause_s(quick_s, rescan_s)
    each = (full_anon - empty) / count
    return [
        Figure("kept files", count),
        Figure("filling inbox and books", filled_s, unit="s"),
        Figure("start to first new verdict", first_s, _FIRST_VERDICT_S, "s"),
        Figure("a quick scan, of one core", quick_s, _QUICK_S, "s"),
        Figure("a full scan, of one core", full_s, _FULL_S, "s"),
        Figure("its longest slice", slice_s * 1e3, unit="ms"),
        Figure(
            "memory a kept file", each, _BYTES_A_FILE if count >= _ENOUGH else None, unit="bytes"
        ),
        Figure(f"at rest over {idle_s:.0f} s, without scans", 100 * idle, unit="% core"),
        Figure("at rest with its scans spread", 100 * (idle + scanning), _IDLE_SHARE, "% core"),
        Figure("a new picture's verdict while all are known", second_s, unit="s"),
        *gauge.none_of("missed, doubled or wrong", arriving.wrong(station, producer.arrived)),
    ]


def _at_rest(station: Process) -> int:
    """What a station without kept files holds once it has inspected one."""
    (station.inbox / "first.jpg").write_bytes(arriving.picture(1))
    station.start()
    station.wait_until(lambda: station.count() == 1)
    held = _settled(station)
    station.stop()
    return held


def _settled(station: Process) -> int:
    """Waits until it has looked at everything and rests; what it holds then."""
    assert station.child is not None
    pid = station.child.pid
    for _ in range(300):
        before = gauge.processor_s(pid)
        time.sleep(3)
        if gauge.processor_s(pid) - before < 0.1 and station.status()["inbox_pending"] == 0:
            break
    return gauge.anonymous_bytes(pid)


def scans(station: Process) -> tuple[float, float, float]:
    """Processor time of a quick scan and of a full one, and wall time of the latter's longest slice.

    The station's own intake on its inbox and books, alone in this process.
    """
    settings = load(station.config, {})
    known = Known()
    known.update(Books(open_writer(station.database), settings.station.name).present())
    turns: list[float] = []

    def nothing_new(arrival: Arrival, timeout_s: float) -> bool:
        raise AssertionError(f"{arrival.source!r} has a row and is offered again")

    intake = Intake(
        os.fsencode(station.inbox),
        NamePolicy(settings.files.patterns, recursive=settings.files.recursive),
        Gate(settle_s=2.0, incomplete_s=30.0, network=False),
        known,
        nothing_new,
        capacity=512,
        rescan_s=3600.0,
        progress=lambda: turns.append(time.perf_counter()),
    )
    began_s = time.process_time()
    backlog = intake.count_backlog()
    quick_s = time.process_time() - began_s
    assert backlog.pending == 0
    asked_s, began_s = time.monotonic(), time.process_time()
    worker = threading.Thread(target=intake.run)
    worker.start()
    while not intake.looked_since(asked_s):
        time.sleep(0.01)
    full_s = time.process_time() - began_s
    if len(known) > FEW_KEPT:
        full_s -= quick_s  # one went before it
    intake.stop()
    worker.join()
    slice_s = max(b - a for a, b in itertools.pairwise(turns))
    return quick_s, full_s, slice_s


def inodes_missing(folder: Path, count: int) -> str | None:
    """Why so many files cannot be made there; None where they can."""
    found = os.statvfs(folder)
    if found.f_files and found.f_favail < count * 1.05:
        return f"{folder} has room for {found.f_favail:,} more files"
    return None
