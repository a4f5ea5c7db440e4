"""A folder is a station's inbox if it says so in the words that the station knows it by."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from crackwatch import belonging
from crackwatch.belonging import OwnInbox, adopt
from crackwatch.domain import MoveResult
from crackwatch.errors import SystemFault, UsageError
from crackwatch.filing.mover import Mover
from crackwatch.inbox import MARKER, NamePolicy, walk
from tests.disks import as_an_ordinary_user
from tests.station import Station, jpeg


@pytest.fixture
def home(tmp_path: Path) -> Path:
    for name in ("inbox", "other", "state"):
        (tmp_path / name).mkdir()
    return tmp_path


def own(home: Path, inbox: str = "inbox") -> OwnInbox:
    return OwnInbox(os.fsencode(home / inbox), home / "state", home)


def fault(inbox: OwnInbox) -> SystemFault:
    with pytest.raises(SystemFault) as caught:
        inbox.check()
    return caught.value


def marker(folder: Path) -> Path:
    return folder / os.fsdecode(MARKER)


def test_an_adopted_folder_is_the_stations_and_adopting_again_changes_nothing(home: Path) -> None:
    adoption = adopt(home / "inbox", home / "state", "north")
    assert adoption is not None and adoption.before is None
    inbox = own(home)
    inbox.check()
    assert inbox.guarded
    written = marker(home / "inbox").stat().st_mtime_ns
    assert adopt(home / "inbox", home / "state", "north") is None
    assert marker(home / "inbox").stat().st_mtime_ns == written


def test_a_folder_without_the_marker_is_not_mounted_until_the_marker_is_back(home: Path) -> None:
    adopt(home / "inbox", home / "state", "north")
    inbox = own(home)
    inbox.check()
    marker(home / "inbox").rename(home / "marker")
    found = fault(inbox)
    assert found.code == "inbox_unmarked"
    assert str(home / "inbox") in found.problem
    assert f"crackwatch init {home}" in found.remedy
    (home / "marker").rename(marker(home / "inbox"))
    inbox.check()


def test_another_stations_inbox_is_not_this_ones_until_it_is_adopted(home: Path) -> None:
    (home / "theirs").mkdir()
    adopt(home / "inbox", home / "theirs", "south")
    adopt(home / "other", home / "state", "north")
    inbox = own(home)
    found = fault(inbox)
    assert (found.code, "'south'" in found.problem) == ("inbox_foreign", True)
    adoption = adopt(home / "inbox", home / "state", "north")
    assert adoption is not None and adoption.before is not None
    assert adoption.before.name == "south"
    inbox.check()
    assert fault(OwnInbox(os.fsencode(home / "inbox"), home / "theirs", home)).code == (
        "inbox_foreign"
    )


def test_the_empty_folder_below_a_mount_that_was_adopted_by_mistake_is_not_believed_for_ever(
    home: Path,
) -> None:
    """The share was not mounted when init ran: its mount point was marked, then the share."""
    adopt(home / "inbox", home / "state", "north")
    adopt(home / "other", home / "state", "north")
    own(home, "other").check()
    found = fault(own(home))
    assert found.code == "inbox_foreign"
    assert "another folder was adopted" in found.problem


def test_a_station_from_before_there_were_markers_goes_on_and_knows_that_it_is_unguarded(
    home: Path,
) -> None:
    inbox = own(home)
    inbox.check()
    assert not inbox.guarded
    adopt(home / "inbox", home / "state", "north")
    inbox.check()
    assert inbox.guarded


def test_such_a_station_keeps_away_from_an_inbox_that_is_marked_for_another(home: Path) -> None:
    (home / "theirs").mkdir()
    adopt(home / "inbox", home / "theirs", "south")
    assert fault(own(home)).code == "inbox_foreign"


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b'{"station": 1}', b"[" * 4000])
def test_a_marker_that_says_nothing_is_none(home: Path, text: bytes) -> None:
    adopt(home / "inbox", home / "state", "north")
    marker(home / "inbox").write_bytes(text)
    assert fault(own(home)).code == "inbox_unmarked"


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_a_marker_that_is_no_file_is_none_and_hangs_nobody(home: Path, kind: str) -> None:
    adopt(home / "inbox", home / "state", "north")
    there = marker(home / "inbox")
    there.rename(home / "marker")
    if kind == "link":
        there.symlink_to(home / "marker")
    elif kind == "pipe":
        os.mkfifo(there)
    else:
        there.mkdir()
    assert fault(own(home)).code == "inbox_unmarked"


def test_a_station_that_has_forgotten_who_it_is_waits_and_can_adopt_anew(home: Path) -> None:
    adopt(home / "inbox", home / "state", "north")
    (home / "state" / belonging.IDENTITY_FILE).write_bytes(b"")
    found = fault(own(home))
    assert (found.code, "damaged" in found.problem) == ("inbox_unreadable", True)
    assert adopt(home / "inbox", home / "state", "north") is not None
    own(home).check()


def test_an_adoption_that_is_interrupted_leaves_a_station_that_waits_not_one_that_believes(
    home: Path,
) -> None:
    adopt(home / "inbox", home / "state", "north")
    before = (home / "state" / belonging.IDENTITY_FILE).read_bytes()
    adopt(home / "other", home / "state", "north")
    # killed between the marker and the station's own note of it
    (home / "state" / belonging.IDENTITY_FILE).write_bytes(before)
    assert fault(own(home, "other")).code == "inbox_foreign"
    own(home).check()
    adopt(home / "other", home / "state", "north")
    own(home, "other").check()


def test_a_folder_that_is_not_there_is_missing(home: Path) -> None:
    (home / "inbox").rmdir()
    assert fault(own(home)).code == "inbox_missing"


def test_who_may_not_read_the_marker_or_write_one_is_told() -> None:
    with as_an_ordinary_user() as folder:
        for name in ("inbox", "state"):
            (folder / name).mkdir()
        adopt(folder / "inbox", folder / "state", "north")
        marker(folder / "inbox").chmod(0)
        found = fault(own(folder))
        assert (found.code, str(marker(folder / "inbox")) in found.problem) == (
            "inbox_unreadable",
            True,
        )
        marker(folder / "inbox").unlink()
        (folder / "inbox").chmod(0o555)
        with pytest.raises(UsageError, match="cannot be written"):
            adopt(folder / "inbox", folder / "state", "north")
        (folder / "inbox").chmod(0o755)


def test_names_that_are_no_text_do_not_keep_a_marker_from_being_written(home: Path) -> None:
    adopt(home / "inbox", home / "state", "bad-\udcff")
    own(home).check()


def test_the_marker_is_never_an_arrival_whatever_the_patterns(home: Path) -> None:
    adopt(home / "inbox", home / "state", "north")
    marked = json.loads(marker(home / "inbox").read_text())
    assert marked["name"] == "north" and marked["what"]
    alone: list[object] = []
    policy = NamePolicy(["*"], recursive=True)
    assert list(walk(os.fsencode(home / "inbox"), policy, alone.append)) == []
    assert alone == []


def test_a_move_that_finds_no_inbox_is_owed_and_not_given_up(tmp_path: Path) -> None:
    """The share went away between the commit and the move: the picture has not vanished."""
    station = Station(tmp_path)
    adopt(station.inbox, tmp_path / "state", "station")
    inbox = OwnInbox(os.fsencode(station.inbox), tmp_path / "state", tmp_path)
    mover = Mover(os.fsencode(station.inbox), station.places, inbox.check)
    station.put("a.jpg", jpeg(dark=True))
    with station.pipeline(mover=mover) as pipeline:
        pipeline.inspect(station.batch("a.jpg"), station.judging())
        station.inbox.rename(tmp_path / "share")
        station.inbox.mkdir()  # what lies below the mount
        station.put("a.jpg", b"written to the wrong disk")
        with pytest.raises(SystemFault) as caught:
            pipeline.file()
        assert caught.value.code == "inbox_unmarked"
        (station.inbox / "a.jpg").unlink()
        station.inbox.rmdir()
        (tmp_path / "share").rename(station.inbox)
        report = pipeline.file()
        pipeline.close()
    assert (report.vanished, report.replaced) == ((), 0)
    (row,) = station.rows()
    assert row["place"] == "flagged" and row["filed_at"] and not row["superseded_at"]
    assert [name for name in station.files() if name.startswith("flagged/")]


def test_a_deletion_that_finds_no_inbox_is_not_believed_done(tmp_path: Path) -> None:
    station = Station(tmp_path, normal="delete")
    adopt(station.inbox, tmp_path / "state", "station")
    inbox = OwnInbox(os.fsencode(station.inbox), tmp_path / "state", tmp_path)
    mover = Mover(os.fsencode(station.inbox), station.places, inbox.check)
    station.put("a.jpg", jpeg(dark=False))
    with station.pipeline(mover=mover) as pipeline:
        done = pipeline.inspect(station.batch("a.jpg"), station.judging())
        (filing,) = done.recorded.filings
        station.inbox.rename(tmp_path / "share")
        station.inbox.mkdir()
        with pytest.raises(SystemFault):
            mover.file(filing)
        station.inbox.rmdir()
        (tmp_path / "share").rename(station.inbox)
        assert mover.file(filing).result is MoveResult.DONE
    assert not (station.inbox / "a.jpg").exists()
