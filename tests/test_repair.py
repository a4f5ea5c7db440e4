"""What a person broke by hand is mended, and only what that person looked at is accepted."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from crackwatch.cli import execute
from tests.disks import another_file_system, mounted
from tests.station import Station, jpeg

DAY = "2026-11-23"


@pytest.fixture
def station(tmp_path: Path) -> Station:
    (tmp_path / "config.toml").write_text("")
    return Station(tmp_path)


@pytest.fixture
def audit(station: Station, capsys: pytest.CaptureFixture[str]) -> Any:
    def run(*arguments: str, status: int) -> dict[str, Any]:
        config = ["--config", str(station.root / "config.toml"), "--format", "json"]
        done = execute(["audit", *arguments, *config])
        out, err = capsys.readouterr()
        assert done == status, (out, err)
        found: dict[str, Any] = json.loads(out) if out else {"error": err}
        return found

    return run


def flag(station: Station, *names: str) -> list[Path]:
    for seed, name in enumerate(names):
        station.put(name, jpeg(dark=True, seed=seed))
    station.inspect(*names)
    return [station.root / "flagged" / DAY / name for name in names]


def test_what_is_gone_is_accepted_with_who_and_when(station: Station, audit: Any) -> None:
    lost, _ = flag(station, "a.jpg", "b.jpg")
    station.put("c.jpg", jpeg(dark=False))
    station.inspect("c.jpg")
    lost.unlink()
    (station.inbox / "c.jpg").unlink()
    station.put("notes.txt", b"so that the inbox is not empty")
    planned = audit("--repair", "--dry-run", "--by", "anna", status=1)
    assert [each["id"] for each in planned["repair"]["accepted"]] == [1, 3]
    assert [row["vanished_at"] for row in station.rows()] == [None] * 3
    told = audit("--repair", "--by", "anna", status=0)
    assert told["repair"]["accepted"] == planned["repair"]["accepted"]
    assert (told["vanished"], told["flagged"], told["kept"]) == (2, 1, 0)
    first, second, third = station.rows()
    assert (first["vanished_by"], second["vanished_by"], third["vanished_by"]) == (
        "anna", None, "anna",
    )  # fmt: skip
    assert first["vanished_at"] and third["released_at"]
    assert audit("--full", status=0)["missing"] == []


def test_only_what_was_named_is_accepted(station: Station, audit: Any) -> None:
    paths = flag(station, "a.jpg", "b.jpg", "sub/c.jpg", "sub/d.jpg", "e.jpg")
    for path in paths[:4]:
        path.unlink()
    told = audit("--accept", "1", status=1)
    assert [each["id"] for each in told["repair"]["accepted"]] == [1]
    assert [each["id"] for each in told["missing"]] == [2, 3, 4]
    told = audit("--repair", "--accept", str(paths[1]), status=1)
    assert [each["id"] for each in told["missing"]] == [3, 4]
    told = audit("--accept", str(paths[2].parent), status=0)
    assert told["vanished"] == 4
    assert "nothing of that name" in audit("--accept", "5", status=2)["error"]


def test_a_folder_that_may_not_be_mounted_is_not_accepted_as_lost(
    station: Station, audit: Any
) -> None:
    flag(station, "a.jpg", "b.jpg")
    flagged = station.root / "flagged"
    shutil.rmtree(flagged / DAY)
    told = audit("--repair", status=1)
    assert told["repair"]["accepted"] == []
    assert "mounted" in told["repair"]["left"][0]["why"]
    flagged.rmdir()
    assert audit("--repair", status=1)["vanished"] == 0
    assert audit("--accept", str(flagged), status=0)["vanished"] == 2


def kept(station: Station, *names: str) -> None:
    for seed, name in enumerate(names):
        station.put(name, jpeg(dark=False, seed=seed))
    station.inspect(*names)


def test_a_disk_below_the_inbox_that_may_not_be_mounted_is_not_accepted_as_lost(
    station: Station, audit: Any
) -> None:
    """The inbox itself is there, and so are other pictures in it."""
    kept(station, "a.jpg", "camera/b.jpg", "camera/day/c.jpg")
    camera = station.inbox / "camera"
    camera.rename(station.root / "disk")
    camera.mkdir()  # what lies below the mount
    told = audit("--repair", status=1)
    assert (told["repair"]["accepted"], told["vanished"]) == ([], 0)
    assert {each["id"] for each in told["repair"]["left"]} == {2, 3}
    assert f"{camera} is empty" in told["repair"]["left"][0]["why"]
    camera.rmdir()
    (station.root / "disk").rename(camera)
    assert audit("--repair", status=0)["kept"] == 3
    shutil.rmtree(camera)
    camera.mkdir()
    assert audit("--accept", str(camera), status=0)["vanished"] == 2


def test_files_that_were_on_another_disk_than_their_folder_is_on_are_left(
    station: Station, audit: Any
) -> None:
    """Its mount point went with it, or something was written there meanwhile."""
    with another_file_system(station.inbox) as disk:
        (station.inbox / "camera").mkdir()
        with mounted("--bind", disk, station.inbox / "camera", skip="needs the right to mount"):
            kept(station, "a.jpg", "b.jpg", "camera/c.jpg")
    (station.inbox / "b.jpg").unlink()
    (station.inbox / "camera" / "other.txt").write_text("not empty")
    told = audit("--repair", status=1)
    assert [each["id"] for each in told["repair"]["accepted"]] == [2]
    assert [each["id"] for each in told["repair"]["left"]] == [3]
    shutil.rmtree(station.inbox / "camera")
    assert [each["id"] for each in audit("--repair", status=1)["repair"]["left"]] == [3]
    assert audit("--accept", "3", status=0)["vanished"] == 2


def test_a_disk_that_is_numbered_anew_after_a_reboot_is_the_same(
    station: Station, audit: Any
) -> None:
    kept(station, "a.jpg", "b.jpg")
    with closing(sqlite3.connect(station.database)) as books, books:
        books.execute("UPDATE inspections SET device = 4711")
    (station.inbox / "b.jpg").unlink()
    assert audit("--repair", status=0)["vanished"] == 1


def test_files_that_no_row_explains_are_taken_in(station: Station, audit: Any) -> None:
    flag(station, "a.jpg")
    strange = {
        f"flagged/{DAY}/sub/new.jpg": "inbox/sub/new.jpg",
        "archive/old.jpg": "inbox/old.jpg",
        f"quarantine/{DAY}/a.jpg": "inbox/a.jpg",
    }
    for number, name in enumerate(strange):
        path = station.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"%d" % number)
    assert {each["path"] for each in audit(status=1)["unexplained"]} == {
        str(station.root / name) for name in strange
    }
    before = station.files()
    assert len(audit("--repair", "--dry-run", status=1)["repair"]["taken_in"]) == 3
    assert station.files() == before
    told = audit("--repair", status=0)
    assert {each["path"]: each["to"] for each in told["repair"]["taken_in"]} == {
        str(station.root / name): str(station.root / to) for name, to in strange.items()
    }
    assert (told["pending"], told["flagged"], told["arrived"]) == (3, 1, 4)


def test_a_file_that_came_back_after_it_was_accepted_is_a_new_arrival(
    station: Station, audit: Any
) -> None:
    lost, _ = flag(station, "a.jpg", "b.jpg")
    saved = lost.read_bytes()
    lost.unlink()
    audit("--repair", status=0)
    lost.write_bytes(saved)
    told = audit("--repair", status=0)
    assert (told["vanished"], told["pending"]) == (1, 1)
    station.inspect("a.jpg")
    told = audit(status=0)
    assert (told["vanished"], told["flagged"]) == (1, 2)


def test_what_is_no_picture_is_left_and_said(station: Station, audit: Any) -> None:
    flag(station, "a.jpg")
    day = station.root / "flagged" / DAY
    (day / "notes.txt").write_text("mine")
    (day / "link.jpg").symlink_to(day / "a.jpg")
    told = audit("--repair", status=1)
    assert sorted(Path(each["path"]).name for each in told["repair"]["left"]) == [
        "link.jpg",
        "notes.txt",
    ]
    assert (day / "notes.txt").exists() and (day / "link.jpg").is_symlink()


def test_changed_files_are_left_unless_told(station: Station, audit: Any) -> None:
    (path,) = flag(station, "a.jpg")
    path.write_bytes(b"something else")
    told = audit("--repair", status=1)
    assert [each["kind"] for each in told["repair"]["left"]] == ["changed"]
    assert path.read_bytes() == b"something else"
    told = audit("--repair", "--take-in-changed", status=0)
    assert (told["superseded"], told["pending"], told["flagged"]) == (1, 1, 0)
    assert (station.inbox / "a.jpg").read_bytes() == b"something else"


def test_leftovers_of_moves_are_cleared_or_taken_in(station: Station, audit: Any) -> None:
    (path,) = flag(station, "sub/a.jpg")
    (path.parent / ".crackwatch-77.part").write_bytes(b"half a copy")
    os.rename(path, path.parent / ".crackwatch-1.gone")
    told = audit("--repair", status=0)
    assert [Path(each["path"]).name for each in told["repair"]["removed"]] == [
        ".crackwatch-77.part"
    ]
    assert station.files() == {"inbox/sub/a.jpg"}
    assert (told["vanished"], told["pending"]) == (1, 1)


def test_books_that_went_back_to_a_backup_balance_again(station: Station, audit: Any) -> None:
    """The picture is inspected anew; the reason beside it was of a row that is no more."""
    backup = station.database.read_bytes()
    station.put("a.jpg", b"a text")
    station.inspect("a.jpg", waited=True)
    (day,) = (station.root / "quarantine").iterdir()
    for name in ("mine.json", "list.json"):
        (day / name).write_text('{"id": 1}' if name == "mine.json" else "[1]")
    station.database.write_bytes(backup)
    for name in ("crackwatch.db-wal", "crackwatch.db-shm"):
        station.database.with_name(name).unlink(missing_ok=True)
    told = audit("--repair", status=1)
    assert [Path(each["path"]).name for each in told["repair"]["removed"]] == ["a.jpg.json"]
    assert {Path(each["path"]).name for each in told["unexplained"]} == {"mine.json", "list.json"}
    assert (station.inbox / "a.jpg").exists()


def test_a_marked_copy_is_no_picture_to_take_in(station: Station, audit: Any) -> None:
    flag(station, "a.jpg")
    copy = station.root / "flagged" / DAY / "b.jpg.overlay.jpg"
    copy.write_bytes(jpeg(dark=True, seed=9))
    told = audit("--repair", status=1)
    assert "marked copy" in told["repair"]["left"][0]["why"]
    assert copy.exists()


def test_a_healthy_station_is_left_alone(
    station: Station, audit: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    flag(station, "a.jpg")
    before = station.files(), station.rows()
    told = audit("--repair", status=0)["repair"]
    assert not (told["accepted"] or told["taken_in"] or told["removed"] or told["left"])
    assert (station.files(), station.rows()) == before
    assert execute(["audit", "--repair", "--config", str(station.root / "config.toml")]) == 0
    assert "nothing to repair" in capsys.readouterr().out
    assert "nothing to repair" in audit("--dry-run", status=2)["error"]


def test_a_persons_note_beside_a_stray_in_the_quarantine_stays(
    station: Station, audit: Any
) -> None:
    stray = station.root / "quarantine" / "x" / "p.jpg"
    stray.parent.mkdir(parents=True)
    stray.write_bytes(jpeg(dark=False))
    note = stray.with_name("p.jpg.json")
    note.write_text('{"reason": "kept for the court case", "by": "anna"}')
    told = audit("--repair", status=1)
    assert [each["path"] for each in told["repair"]["taken_in"]] == [str(stray)]
    assert note.read_text().startswith('{"reason"')
