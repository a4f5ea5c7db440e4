"""A decoder that kills or hangs the station costs one picture: its own, and only for a second death."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from crackwatch import suspects
from crackwatch.domain import QuarantineReason
from tests.station import jpeg

pytestmark = pytest.mark.timeout(400)  # a dozen processes, one after another

# Read by every Python that is started with this folder on its path: OpenCV's decoder, with a fault.
FAULTY = """
import os, time
import cv2

_decode = cv2.imdecode

def imdecode(data, flags):
    content = data.tobytes()
    if content.endswith(b"kills"):
        os.abort()
    if content.endswith(b"hangs"):
        until = time.process_time() + 600  # processor time: else the machine would be to blame
        while time.process_time() < until:
            pass
    if content.endswith(b"kills once"):
        try:
            os.close(os.open(os.environ["DIED_ONCE"], os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            pass
        else:
            os.abort()
    return _decode(data, flags)

cv2.imdecode = imdecode
"""


@pytest.fixture
def faulty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The environment in which OpenCV dies of some pictures; ours, and our children's."""
    place = tmp_path / "faulty"
    place.mkdir()
    (place / "sitecustomize.py").write_text(FAULTY)
    checkout = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join([str(place), checkout])
    monkeypatch.setenv("PYTHONPATH", path)
    monkeypatch.setenv("DIED_ONCE", str(tmp_path / "died once"))
    return dict(os.environ)


def crackwatch(
    *arguments: str | Path, environment: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "crackwatch", *map(str, arguments)],
        env=environment, capture_output=True, text=True, timeout=110, check=False,
    )  # fmt: skip


def rows(database: Path) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as books:
        return books.execute(
            "SELECT CAST(source AS TEXT), outcome, reason FROM inspections ORDER BY source"
        ).fetchall()


def test_the_picture_that_kills_the_station_is_quarantined_and_those_beside_it_are_inspected(
    tmp_path: Path, faulty: dict[str, str]
) -> None:
    root = tmp_path / "station"
    made = crackwatch("init", root, environment=faulty)
    assert made.returncode == 0, made.stderr
    config, inbox = root / "config.toml", root / "inbox"
    (inbox / "good.jpg").write_bytes(jpeg(dark=False))
    (inbox / "kills.jpg").write_bytes(jpeg(dark=False, seed=1) + b"kills")
    (inbox / "once.jpg").write_bytes(jpeg(dark=False, seed=2) + b"kills once")
    died = crackwatch("run", "--once", "--config", config, environment=faulty)
    assert died.returncode == -signal.SIGABRT, died.stderr
    journal = json.loads((root / "state" / "in-flight.json").read_text())
    assert "kills.jpg" in journal
    assert rows(root / "state" / "crackwatch.db") == []

    # what no decoder may see is no suspect either: a child could only run out of memory by it
    (inbox / "huge.jpg").touch()
    os.truncate(inbox / "huge.jpg", 1 << 40)
    (root / "state" / "in-flight.json").write_text(json.dumps([*journal, "huge.jpg"]))

    # nobody has asked for it: the next start finds out by itself
    again = crackwatch("run", "--once", "--config", config, environment=faulty)
    assert again.returncode == 0, again.stderr
    found = {
        source: (outcome, reason)
        for source, outcome, reason in rows(root / "state" / "crackwatch.db")
    }
    assert found["kills.jpg"] == ("quarantined", "decoder_crash")
    assert found["huge.jpg"] == ("quarantined", "oversize")
    assert {found[name][1] for name in ("good.jpg", "once.jpg")} == {None}
    assert {found[name][0] for name in ("good.jpg", "once.jpg")} <= {"normal", "anomaly"}
    assert len(rows(root / "state" / "crackwatch.db")) == 4
    assert not (inbox / "kills.jpg").exists()
    balanced = crackwatch("audit", "--full", "--config", config, environment=faulty)
    assert balanced.returncode == 0, balanced.stdout + balanced.stderr


@pytest.mark.slow  # its time limit has to pass, twice; the one that kills is tried every time
def test_the_picture_that_hangs_the_decoder_is_the_only_one_to_blame(
    tmp_path: Path, faulty: dict[str, str]
) -> None:
    (tmp_path / "good.jpg").write_bytes(jpeg(dark=False))
    (tmp_path / "hangs.jpg").write_bytes(jpeg(dark=False) + b"hangs")
    guilty = suspects.condemn(
        tmp_path, [b"good.jpg", b"hangs.jpg"], 1_000_000, "tile", patience_s=8
    )
    assert guilty == {b"hangs.jpg": QuarantineReason.DECODER_TIMEOUT}
