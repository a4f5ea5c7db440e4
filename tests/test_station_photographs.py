"""Claims about a whole station that is given photographs: judged in tiles, recorded as one picture."""

from __future__ import annotations

import json
import shutil
import signal
import sqlite3
import struct
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import cv2
import pytest

from crackwatch import images, packaged
from crackwatch.images.overlay import LONGEST_PX
from crackwatch.tiling import lay_out
from tests.test_daemon import Process, crackwatch, drawn
from tests.walls import wall, wall_jpeg

pytestmark = pytest.mark.skipif(
    not (packaged.starter() / "lenet.keras").is_file(), reason="the starter model is not here"
)

OVERLAY = {"CRACKWATCH_IMAGES__OVERLAY": "true"}
RULE = {"CRACKWATCH_MODEL__THRESHOLD": "0.9", "CRACKWATCH_MODEL__TILED_THRESHOLD": "0.95"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("made") / "station"
    done = crackwatch("init", root)
    assert done.returncode == 0, done.stderr
    return root


@pytest.fixture
def station(made: Path, tmp_path: Path) -> Iterator[Process]:
    root = tmp_path / "station"
    shutil.copytree(made, root)
    process = Process(root)
    yield process
    if process.child is not None and process.child.poll() is None:
        process.child.kill()
        process.child.wait()


def once(station: Process, **environment: str) -> None:
    done = crackwatch("run", "--once", "--config", station.config, **environment)
    assert done.returncode == 0, done.stderr
    (station.root / "once.log").write_text(done.stderr)


def logged(station: Process, event: str) -> list[dict[str, Any]]:
    lines = map(json.loads, (station.root / "once.log").read_text().splitlines())
    return [line for line in lines if line["event"] == event]


def photographs(station: Process) -> dict[bytes, dict[str, Any]]:
    """The row of ``photographs`` of each picture that has one."""
    with closing(sqlite3.connect(f"{station.database.as_uri()}?mode=ro", uri=True)) as books:
        books.row_factory = sqlite3.Row
        found = books.execute(
            "SELECT i.source, p.* FROM photographs p JOIN inspections i ON i.id = p.inspection_id"
        ).fetchall()
    return {row["source"]: dict(row) for row in found}


def of_300_megapixels() -> bytes:
    """A whole JPEG whose header claims 20,000 x 15,000 pixels."""
    data = bytearray(wall_jpeg(460, 460))
    at = data.index(b"\xff\xc0")
    struct.pack_into(">HH", data, at + 5, 15_000, 20_000)
    return bytes(data)


def test_photographs_and_crops_side_by_side_are_each_recorded_once_and_shown(
    station: Process, made: Path, tmp_path: Path
) -> None:
    crops = {f"crop-{index}.jpg": data for index, data in enumerate(drawn(6))}
    others = {
        "crack.jpg": wall_jpeg(1400, 900, (2, 1), (4, 2)),
        "wall.jpg": wall_jpeg(1400, 900),
        "strip.png": images.encode_png(wall(100_000, 1)),
        "228.png": images.encode_png(wall(228, 227)),
        "huge.jpg": of_300_megapixels(),
    }
    for name, data in {**crops, **others}.items():
        (station.inbox / name).write_bytes(data)
    once(station, **OVERLAY, **RULE)
    rows = {row["source"].decode(): row for row in station.rows()}
    assert len(rows) == len(station.rows()) == 11
    # each photograph is one row, with what its tiles came to
    tiled = photographs(station)
    assert {name: row["tiles"] for name, row in tiled.items()} == {
        b"crack.jpg": 9 * 6,
        b"wall.jpg": 9 * 6,
        b"strip.png": 614,
    }
    crack = rows["crack.jpg"]
    assert (crack["outcome"], crack["place"], crack["threshold"]) == ("anomaly", "flagged", 0.95)
    boxes = json.loads(tiled[b"crack.jpg"]["boxes"])
    assert 0 < len(boxes) == tiled[b"crack.jpg"]["tiles_over"] < 27
    assert boxes[0][4] == crack["score"] > 0.95
    assert rows["wall.jpg"]["outcome"] == "normal" and rows["wall.jpg"]["score"] < 0.95
    # what is no photograph is judged as ever, at its own threshold
    assert rows["228.png"]["outcome"] == "normal" and rows["228.png"]["threshold"] == 0.9
    assert (rows["huge.jpg"]["reason"], rows["huge.jpg"]["score"]) == ("oversize", None)
    assert "300000000 pixels; at most 120000000" in rows["huge.jpg"]["detail"]
    # the same crops without photographs among them
    alone = Process(tmp_path / "alone")
    shutil.copytree(made, alone.root)
    for name, data in crops.items():
        (alone.inbox / name).write_bytes(data)
    once(alone, **RULE)
    for row in alone.rows():
        beside = rows[row["source"].decode()]
        assert beside["score"] == pytest.approx(row["score"], abs=1e-6)
        assert (beside["outcome"], beside["threshold"]) == (row["outcome"], 0.9)
        assert beside["brightness"] == row["brightness"]
    # the flagged photograph has its marked copy, a flagged crop has none; the original is as it was
    flagged = {path.name: path for path in (station.root / "flagged").rglob("*") if path.is_file()}
    assert flagged["crack.jpg"].read_bytes() == others["crack.jpg"]
    copy = cv2.imread(str(flagged["crack.jpg.overlay.jpg"]), cv2.IMREAD_COLOR)
    assert copy is not None
    assert copy.shape[1] == 1400 <= LONGEST_PX and copy.shape[0] > 900  # a title above it
    marked = {name.removesuffix(".overlay.jpg") for name in flagged if ".overlay." in name}
    assert marked == {name.decode() for name in tiled} & flagged.keys()
    assert any(name.startswith("crop-") for name in flagged)
    audit = station.audit()
    assert audit["ok"], audit
    assert (audit["arrived"], audit["quarantined"]) == (11, 1)
    # again: nothing is new
    once(station, **OVERLAY, **RULE)
    assert station.count() == 11


def test_a_model_of_another_scale_is_told_and_photographs_are_brought_to_it(
    station: Process,
) -> None:
    models = station.root / "models"
    file = models / (models / "champion").read_text().strip() / "card.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "mm_per_px": 0.2}))
    (station.inbox / "wall.jpg").write_bytes(wall_jpeg(500, 460))
    once(station, CRACKWATCH_IMAGES__MM_PER_PX="0.5")
    (problem,) = [each for each in logged(station, "problem") if each["code"] == "scale_far"]
    assert "enlarged 2.5 times" in problem["message"]
    assert "--mm-per-px 0.5" in problem["remedy"]
    row = photographs(station)[b"wall.jpg"]
    assert (row["scale"], row["tiles"]) == (2.5, len(lay_out(1250, 1150, 64)))
    # the same wall from nearer: nothing to say
    (station.inbox / "near.jpg").write_bytes(wall_jpeg(500, 461))
    once(station, CRACKWATCH_IMAGES__MM_PER_PX="0.4")
    assert not [each for each in logged(station, "problem") if each["code"] == "scale_far"]
    assert photographs(station)[b"near.jpg"]["scale"] == 2.0


def test_a_kill_in_the_middle_of_a_photograph_and_it_is_inspected_once_as_a_whole(
    station: Process,
) -> None:
    data = wall_jpeg(2600, 2000, (3, 3), (9, 5))
    (station.inbox / "big.jpg").write_bytes(data)
    journal = station.root / "state" / "in-flight.json"
    station.start(wait=False, **RULE)
    station.wait_until(lambda: b"big.jpg" in _read(journal))
    assert station.stop(signal.SIGKILL)[0] == -signal.SIGKILL
    assert station.count() == 0, "killed too late to prove anything"
    assert station.audit()["pending"] == 1
    once(station, **OVERLAY, **RULE)
    (row,) = station.rows()
    assert (row["outcome"], row["filed_at"] is not None) == ("anomaly", True)
    assert photographs(station)[b"big.jpg"]["tiles"] == len(lay_out(2600, 2000, 64)) == 16 * 12
    (copy,) = (station.root / "flagged").rglob("*.overlay.jpg")
    assert copy.with_name("big.jpg").read_bytes() == data
    audit = station.audit()
    assert audit["ok"] and audit["flagged"] == 1
    small = cv2.imread(str(copy), cv2.IMREAD_COLOR)
    assert small is not None and small.shape[1] == LONGEST_PX


def _read(file: Path) -> bytes:
    return file.read_bytes() if file.exists() else b""


def test_a_batch_closes_when_what_its_photographs_will_hold_is_enough(station: Process) -> None:
    """Else hundreds of photographs would wait for one another, and for minutes."""
    for index in range(3):
        (station.inbox / f"wall-{index}.jpg").write_bytes(wall_jpeg(1400, 900 - index))
    once(station, CRACKWATCH_BATCH__QUEUE_BYTES=str(50 << 20), CRACKWATCH_BATCH__MAX_WAIT_MS="1500")
    assert [line["size"] for line in logged(station, "batch_inspected")] == [1, 1, 1]
    for index, data in enumerate(drawn(6)):
        (station.inbox / f"crop-{index}.jpg").write_bytes(data)
    once(station, CRACKWATCH_BATCH__QUEUE_BYTES=str(50 << 20), CRACKWATCH_BATCH__MAX_WAIT_MS="1500")
    assert [line["size"] for line in logged(station, "batch_inspected")] == [6]


def test_a_marked_copy_that_cannot_be_written_is_told_and_holds_nothing_up(
    station: Process,
) -> None:
    (station.inbox / "crack.jpg").write_bytes(wall_jpeg(1400, 900, (2, 1), (4, 2)))
    once(station, **RULE)  # without
    (day,) = (each for each in (station.root / "flagged").iterdir() if each.is_dir())
    assert [each.name for each in day.iterdir()] == ["crack.jpg"]
    # a name of ours that is taken by a folder: not even root can write there
    (day / ".crackwatch-2.overlay.part").mkdir()
    (station.inbox / "later.jpg").write_bytes(wall_jpeg(1400, 900, (2, 1), (4, 2), (0, 0)))
    once(station, **OVERLAY, **RULE)
    (told,) = logged(station, "overlay_failed")
    assert told["path"].endswith("later.jpg")
    assert [row["filed_at"] is not None for row in station.rows()] == [True, True]
    assert sorted(each.name for each in day.iterdir() if each.is_file()) == [
        "crack.jpg",
        "later.jpg",
    ]
