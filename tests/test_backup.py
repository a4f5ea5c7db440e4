"""A copy of the books that was made beside a writing station brings it back, by docs/backup.md alone."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest

from crackwatch import packaged
from tests.test_daemon import Process, drawn, station
from tests.test_docs import blocks, section

__all__ = ["station"]  # fixtures

pytestmark = pytest.mark.skipif(
    not (packaged.starter() / "lenet.keras").is_file(), reason="the starter model is not here"
)

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "backup.md"


def steps(title: str) -> list[str]:
    return list(blocks(section(DOCUMENT.read_text(), title), "sh"))


def typed(step: str, station: Process) -> subprocess.CompletedProcess[str]:
    """The lines of a block, in the station's folder, as a person would type them."""
    programs = station.root / "bin"
    if not programs.exists():
        programs.mkdir()
        (programs / "crackwatch").write_text(
            f'#!/bin/sh\nexec {sys.executable} -m crackwatch "$@"\n'
        )
        (programs / "crackwatch").chmod(0o755)
    environment = {key: value for key, value in os.environ.items() if "CRACKWATCH_" not in key}
    environment["PATH"] = f"{programs}{os.pathsep}{environment['PATH']}"
    environment["PYTHONPATH"] = os.pathsep.join([str(DOCUMENT.parents[1]), *sys.path])
    return subprocess.run(
        ["sh", "-c", step],
        cwd=station.root,
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_a_copy_made_while_the_station_writes_is_restored_by_the_documented_steps(
    station: Process,
) -> None:
    pictures = drawn(90)
    (backup,) = steps("Back up")
    restore, take_back = steps("Restore")
    station.start(CRACKWATCH_BATCH__MAX_SIZE="4")  # many commits
    for index, data in enumerate(pictures[:30]):
        (station.inbox / f"{index:02}.jpg").write_bytes(data)
    station.wait_until(lambda: station.count() >= 30)

    # the copy is made while rows are written
    done: list[subprocess.CompletedProcess[str]] = []
    copying = threading.Thread(target=lambda: done.append(typed(backup, station)))
    copying.start()
    before = station.count()
    for index, data in enumerate(pictures[30:], 30):
        (station.inbox / f"{index:02}.jpg").write_bytes(data)
        if index % 4 == 0:
            copying.join(0.05)
    copying.join()
    station.wait_until(lambda: station.count() == 90)
    assert before < 90
    assert done[0].returncode == 0 and "integrity ok" in done[0].stdout, done[0].stderr
    # whatever moment the copy is of, some were flagged after it
    for index, data in enumerate(drawn(12, seed=300)):
        (station.inbox / f"late-{index}.jpg").write_bytes(data)
    station.wait_until(lambda: station.count() == 102)
    assert station.stop()[0] == 0
    late = next(row for row in station.rows()[90:] if row["place"] == "flagged")
    with closing(sqlite3.connect(station.root / "backups" / "station.db")) as copy:
        assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        (held,) = copy.execute("SELECT count(*) FROM inspections").fetchone()
        known = copy.execute(
            "SELECT destination FROM inspections WHERE place = 'flagged' ORDER BY id"
        ).fetchone()[0]
    assert 30 <= held <= 90

    # a picture that the copy knows is gone, and so are the books
    lost = station.root / "flagged" / os.fsdecode(known)
    lost.rename(station.root / "lost.jpg")
    station.database.write_bytes(b"a disk that failed")
    audited = typed(restore, station)
    assert audited.returncode == 1, audited.stderr
    missing, _, unexplained = audited.stdout.partition("Unexplained")
    assert str(lost) in missing.partition("Missing")[2]
    late_path = station.root / "flagged" / os.fsdecode(late["destination"])
    assert str(late_path) in unexplained
    assert (station.root / "state" / "before" / "crackwatch.db").exists()

    (station.root / "lost.jpg").rename(lost)  # "Put it back from where the pictures are kept."
    last = typed(take_back, station)
    assert last.returncode == 0, last.stdout + last.stderr
    assert "Everything that arrived is accounted for." in last.stdout
    assert station.audit()["ok"]
    assert station.count() == 102
    assert late["source"] in [row["source"] for row in station.rows() if row["place"] == "flagged"]


def test_the_documents_name_one_way_to_restore() -> None:
    """README and the way to install lead to it, so that what is tested is what is read."""
    root = DOCUMENT.parents[1]
    for document in (root / "README.md", root / "docs" / "install.md"):
        assert "backup.md" in document.read_text(), document.name
