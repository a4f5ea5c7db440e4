"""What a station must hold, measured on real photographs; minutes long: ``make acceptance``.

Each test prints what it saw, so that a figure can be quoted with the command that gave it.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import statistics
import subprocess
import sys
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from crackwatch.inbox import FOLDER_MARKER, MARKER
from tests.test_daemon import Process, crackwatch, station  # noqa: F401 (fixtures)

pytestmark = [pytest.mark.slow, pytest.mark.real_pictures, pytest.mark.timeout(900)]


def fill(inbox: Path, metu: Path) -> int:
    """Both validation folders, 3,000 pictures, under names that cannot collide."""
    count = 0
    for folder in ("valid_unbalanced", "valid_balanced"):
        for label in ("anomaly", "normal"):
            source = metu / folder / label
            for name in sorted(os.listdir(source)):
                shutil.copyfile(source / name, inbox / f"{folder}-{label}-{name}")
                count += 1
    return count


def moved(folder: Path) -> list[Path]:
    marker = os.fsdecode(FOLDER_MARKER)
    return [path for path in folder.rglob("*") if path.is_file() and path.name != marker]


def check(station: Process, normal: str) -> None:  # noqa: F811 (the fixture's type)
    """Books, report and disk tell the same story."""
    report, audit = station.report(), station.audit()
    found = station.rows()
    assert len(found) == len({row["source"] for row in found}) == 3000
    assert report["inspected"] == 3000
    flagged = moved(station.root / "flagged")
    assert report["anomaly"] == len(flagged) == len(report["anomalies"])
    assert all(row["place"] == "flagged" for row in found if row["outcome"] == "anomaly")
    kept = len(set(os.listdir(os.fsencode(station.inbox))) - {MARKER})
    archived = len(moved(station.root / "archive"))
    assert (kept, archived) == {
        "keep": (report["normal"], 0),
        "archive": (0, report["normal"]),
        "delete": (0, 0),
    }[normal]
    assert audit["ok"]
    truth = [row["source"].split(b"-")[1] == b"anomaly" for row in found]
    said = [row["outcome"] == "anomaly" for row in found]
    hits = sum(t and s for t, s in zip(truth, said, strict=True))
    print(
        f"\n{normal}: 3,000 inspected, {report['anomaly']} flagged, {hits} of {sum(truth)} cracks "
        f"found, {sum(said) - hits} false alarms, audit ok {audit['ok']}"
    )


def test_three_thousand_real_pictures_at_once_into_a_running_station(
    station: Process,  # noqa: F811 (pytest's way)
    metu: Path,
) -> None:
    station.start()
    began = time.monotonic()
    assert fill(station.inbox, metu) == 3000
    station.wait_until(lambda: station.count() == 3000, 300)
    print(f"\n3,000 pictures in {time.monotonic() - began:.1f} s, copying included")
    assert station.stop()[0] == 0
    check(station, "keep")


@pytest.mark.parametrize("normal", ["keep", "archive", "delete"])
def test_three_thousand_real_pictures_with_once(
    station: Process,  # noqa: F811 (pytest's way)
    metu: Path,
    normal: str,
) -> None:
    assert fill(station.inbox, metu) == 3000
    began = time.monotonic()
    station.start(once=True, wait=False, CRACKWATCH_FILES__NORMAL=normal)
    assert station.child is not None
    assert station.child.wait(300) == 0
    print(f"\n--once over 3,000 pictures: {time.monotonic() - began:.1f} s")
    check(station, normal)


def test_a_picture_is_committed_within_a_second_of_being_closed(
    station: Process,  # noqa: F811 (pytest's way)
    metu: Path,
) -> None:
    """200 pictures at 5 a second; the commit is seen by another process that looks every 3 ms."""
    source = metu / "valid_unbalanced" / "normal"
    names = sorted(os.listdir(source))[:200]
    station.start()
    closed: dict[bytes, float] = {}
    seen: dict[bytes, float] = {}
    uri = f"{station.database.as_uri()}?mode=ro"
    with closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as books:
        began = time.monotonic()
        last_id = 0
        while len(seen) < len(names):
            assert time.monotonic() - began < 120
            if len(closed) < len(names) and time.monotonic() >= began + len(closed) / 5:
                name = names[len(closed)]
                shutil.copyfile(source / name, station.inbox / name)
                closed[name.encode()] = time.monotonic()
            for id, name_bytes in books.execute(
                "SELECT id, source FROM inspections WHERE id > ? ORDER BY id", (last_id,)
            ):
                seen[name_bytes] = time.monotonic()
                last_id = id
            time.sleep(0.003)
    delays_s = sorted(seen[name] - closed[name] for name in closed)
    p99_s = delays_s[int(len(delays_s) * 0.99) - 1]
    print(
        f"\nclose to commit over {len(delays_s)} pictures at 5 a second: median "
        f"{statistics.median(delays_s) * 1e3:.0f} ms, p99 {p99_s * 1e3:.0f} ms, "
        f"largest {delays_s[-1] * 1e3:.0f} ms"
    )
    assert p99_s < 1.0


def test_memory_does_not_grow_with_the_backlog(
    made_station: Path,
    tmp_path: Path,
    metu: Path,
) -> None:
    """Peak resident memory (VmHWM) of the daemon over 2,000 and over 20,000 waiting pictures."""
    peaks_mib: dict[int, float] = {}
    for count in (2_000, 20_000):
        root = tmp_path / str(count)
        shutil.copytree(made_station, root)
        process = Process(root)
        pictures = sorted((metu / "train" / "normal").iterdir())
        for index in range(count):
            copy = index // len(pictures)
            shutil.copyfile(
                pictures[index % len(pictures)], process.inbox / f"{copy}-{index:05}.jpg"
            )
        process.start(wait=False)
        assert process.child is not None
        process.wait_until(lambda p=process, n=count: p.count() == n, 400)
        status = Path(f"/proc/{process.child.pid}/status").read_text()
        peaks_mib[count] = int(status.split("VmHWM:")[1].split()[0]) / 1024
        assert process.stop()[0] == 0
        shutil.rmtree(process.inbox)
    print(f"\npeak resident memory by backlog: {peaks_mib}")
    assert max(peaks_mib.values()) < 600
    assert peaks_mib[20_000] < peaks_mib[2_000] * 1.1


def test_a_report_over_a_hundred_thousand_rows_is_there_within_a_second(
    station: Process,  # noqa: F811 (pytest's way)
) -> None:
    from tests.test_report import fill as fill_rows

    fill_rows(station.database, 100_000, datetime.now(UTC))
    took_s = []
    for _ in range(5):
        began = time.monotonic()
        done = crackwatch(
            "report", "--since", "yesterday", "--config", station.config, "--format", "json"
        )
        took_s.append(time.monotonic() - began)
        assert done.returncode == 0, done.stderr
    print(
        f"\nreport, {json.loads(done.stdout)['inspected']:,} in the window of 100,000 rows: "
        f"median {statistics.median(took_s):.2f} s of {len(took_s)} whole processes"
    )
    assert statistics.median(took_s) < 1.0


def test_init_makes_a_station_within_three_seconds(tmp_path: Path) -> None:
    began = time.monotonic()
    subprocess.run(
        [sys.executable, "-m", "crackwatch", "init", str(tmp_path / "station")],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    print(f"\ninit: {time.monotonic() - began:.2f} s, the OpenVINO files built from the weights")
