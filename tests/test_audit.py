"""The audit balances when all is well, and names whatever is not."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from crackwatch import cli
from crackwatch.audit import Auditor
from crackwatch.audited import COUNTED, Audit
from crackwatch.escaping import path_text
from crackwatch.inbox import NamePolicy
from crackwatch.store.audits import AuditBooks
from tests.station import Station, jpeg

PATTERNS = ["*.jpg", "*.json"]


@pytest.fixture
def station(tmp_path: Path) -> Station:
    return Station(tmp_path)


def never() -> None:
    raise AssertionError("there was nothing to look at a second time")


def audit(
    station: Station, *, full: bool = False, pause: Callable[[], None] = lambda: None
) -> Audit:
    return Auditor(
        AuditBooks(station.database, "station"),
        os.fsencode(station.inbox),
        station.places,
        NamePolicy(PATTERNS, recursive=True),
        full=full,
        pause=pause,
    ).audit()


def counts(outcome: Audit) -> dict[str, int]:
    """What was counted, without the zeros."""
    return {word: count for word, count in outcome.counts.items() if count}


def findings(outcome: Audit, root: Path) -> list[tuple[str, str, int | None]]:
    """(kind, path within the station, row) of each finding."""
    return sorted(
        (each.kind, path_text(each.path).removeprefix(f"{root}/"), each.id)
        for each in outcome.findings
    )


def change(station: Station, statement: str) -> None:
    """Puts something into the books that this version does not do itself."""
    with closing(sqlite3.connect(station.database)) as connection, connection:
        connection.execute(statement)


def everything(root: Path) -> dict[str, tuple[int, int, bytes]]:
    return {
        str(path): (path.lstat().st_mtime_ns, path.lstat().st_ctime_ns, path.read_bytes())
        for path in root.rglob("*")
        if path.is_file() and not path.name.endswith(("-shm", "-wal"))
    }


# ---------------------------------------------------------------------------------- the sum


def test_an_empty_station_balances(station: Station) -> None:
    outcome = audit(station, pause=never)
    assert outcome.ok
    assert outcome.arrived == 0


@pytest.mark.parametrize(("normal", "word"), [("keep", "kept"), ("archive", "archived")])
def test_whatever_arrived_is_in_one_place(tmp_path: Path, normal: str, word: str) -> None:
    station = Station(tmp_path, normal=normal)
    for name, data in {
        "a.jpg": jpeg(dark=True),
        "b.jpg": jpeg(dark=False),
        "deep/er/c.jpg": jpeg(dark=False, seed=1),
        "not.jpg": b"This is a text, whatever its name says.",
    }.items():
        station.put(name, data)
    station.inspect("a.jpg", "b.jpg", "deep/er/c.jpg", "not.jpg")
    station.put("later.jpg", jpeg(dark=False, seed=2))
    outcome = audit(station, pause=never)
    assert counts(outcome) == {word: 2, "flagged": 1, "quarantined": 1, "pending": 1}
    assert outcome.arrived == 5
    assert outcome.ok
    assert audit(station, full=True, pause=never) == outcome


def test_a_deleted_picture_is_proved_by_its_row_and_its_absence(tmp_path: Path) -> None:
    station = Station(tmp_path, normal="delete")
    station.put("b.jpg", jpeg(dark=False))
    station.inspect("b.jpg")
    outcome = audit(station, pause=never)
    assert counts(outcome) == {"deleted": 1}
    assert outcome.ok


def test_a_file_at_the_name_of_a_deleted_one_is_a_new_arrival(tmp_path: Path) -> None:
    station = Station(tmp_path, normal="delete")
    station.put("b.jpg", jpeg(dark=False))
    station.inspect("b.jpg")
    again = station.put("b.jpg", jpeg(dark=False))
    os.utime(again, ns=(1, station.rows()[0]["mtime_ns"]))  # to the byte and the nanosecond
    outcome = audit(station, pause=never)
    assert counts(outcome) == {"deleted": 1, "pending": 1}
    assert outcome.ok


def test_what_is_left_alone_in_the_inbox_has_not_arrived(station: Station) -> None:
    station.put("notes.txt", b"not a pattern")
    station.put(".hidden.jpg", jpeg(dark=True))
    station.put("half.jpg.part", b"\xff\xd8")
    os.mkfifo(station.inbox / "pipe.jpg")
    (station.inbox / "link.jpg").symlink_to(station.inbox / "notes.txt")
    station.put(".crackwatch-inbox.json", b"{}")
    outcome = audit(station, pause=never)
    assert outcome.ok
    assert outcome.arrived == 0


def test_the_marker_of_an_inbox_is_odd_nowhere_in_it(station: Station) -> None:
    """Not even in a folder that was an inbox once and was moved into this one."""
    for name in (".crackwatch-inbox.json", "old/.crackwatch-inbox.json", "old/a.jpg"):
        station.put(name, jpeg(dark=False))
    station.put(".crackwatch-inbox.json.part", b"an adoption that was cut short")
    station.inspect("old/a.jpg")
    outcome = audit(station)
    assert (outcome.ok, outcome.arrived, counts(outcome)) == (True, 1, {"kept": 1})


def test_names_that_are_not_text_are_accounted_for(station: Station) -> None:
    for name in (b"caf\xe9.jpg", b"two\nlines.jpg", b"back\\slash.jpg"):
        station.put(name, jpeg(dark=True, seed=len(name)))
        station.inspect(name)
    assert counts(audit(station, pause=never)) == {"flagged": 3}
    os.unlink(os.fsencode(station.root) + b"/flagged/2026-11-23/caf\xe9.jpg")
    assert findings(audit(station), station.root) == [
        ("missing", "flagged/2026-11-23/caf\\xe9.jpg", 1)
    ]


def test_a_row_whose_place_is_unknown_spoils_the_sum(station: Station) -> None:
    station.put("b.jpg", jpeg(dark=False))
    station.inspect("b.jpg")
    change(station, "UPDATE inspections SET place = 'lost'")
    outcome = audit(station)
    assert not outcome.balances
    assert [each.kind for each in outcome.findings] == ["unexplained"]
    assert not outcome.ok


def test_a_sum_that_does_not_balance_is_not_ok_whatever_else_is_well() -> None:
    nothing = dict.fromkeys(COUNTED, 0)
    assert Audit(rows=1, unrecorded=1, counts={**nothing, "kept": 2}, findings=()).ok
    assert not Audit(rows=2, unrecorded=1, counts={**nothing, "kept": 2}, findings=()).ok


# ---------------------------------------------------------------------------------- missing


@pytest.mark.parametrize("normal", ["keep", "archive"])
def test_each_file_that_is_gone_is_missing(tmp_path: Path, normal: str) -> None:
    station = Station(tmp_path, normal=normal)
    station.put("a.jpg", jpeg(dark=True))
    station.put("b.jpg", jpeg(dark=False))
    station.put("not.jpg", b"text")
    station.inspect("a.jpg", "b.jpg", "not.jpg")
    kept = "inbox/b.jpg" if normal == "keep" else "archive/2026-11-23/b.jpg"
    gone = ["flagged/2026-11-23/a.jpg", kept, "quarantine/2026-11-23/not.jpg"]
    for name in gone:
        (tmp_path / name).unlink()
    outcome = audit(station)
    # what stays of the quarantined picture, its reason, still has a row
    assert findings(outcome, tmp_path) == sorted(
        ("missing", name, row) for row, name in enumerate(gone, start=1)
    )
    assert outcome.balances
    assert not outcome.ok


def test_a_folder_that_is_not_there_leaves_all_its_files_missing(station: Station) -> None:
    for seed in range(3):
        station.put(f"{seed}.jpg", jpeg(dark=True, seed=seed))
        station.inspect(f"{seed}.jpg")
    shutil.rmtree(station.root / "flagged")
    assert len(audit(station).of("missing")) == 3


def test_a_kept_file_behind_a_link_of_its_name_is_missing(station: Station) -> None:
    picture = station.put("b.jpg", jpeg(dark=False))
    station.inspect("b.jpg")
    picture.rename(station.root / "elsewhere.jpg")
    picture.symlink_to(station.root / "elsewhere.jpg")
    outcome = audit(station)
    assert findings(outcome, station.root) == [("missing", "inbox/b.jpg", 1)]
    assert "a symbolic link" in outcome.findings[0].reason


@pytest.mark.parametrize(
    ("column", "word"), [("vanished_at", "vanished"), ("expired_at", "expired")]
)
def test_what_is_known_to_be_gone_is_not_missing(station: Station, column: str, word: str) -> None:
    station.put("a.jpg", jpeg(dark=True))
    station.inspect("a.jpg")
    change(station, f"UPDATE inspections SET {column} = 1")
    file = station.root / "flagged/2026-11-23/a.jpg"
    there = audit(station)
    assert findings(there, station.root) == [("unexplained", "flagged/2026-11-23/a.jpg", 1)]
    file.unlink()
    outcome = audit(station, pause=never)
    assert counts(outcome) == {word: 1}
    assert outcome.ok


# ------------------------------------------------------------------------------ unexplained


@pytest.mark.parametrize("place", ["flagged", "archive", "quarantine"])
def test_a_file_that_no_row_names_is_unexplained(station: Station, place: str) -> None:
    (station.root / place / "day").mkdir()
    (station.root / place / "day" / "stray.jpg").write_bytes(b"?")
    (station.root / place / "top.json").write_bytes(b"{}")
    (station.root / place / "link").symlink_to(station.root)
    (station.root / place / ".DS_Store").write_bytes(b"a file browser's")
    outcome = audit(station)
    assert findings(outcome, station.root) == [
        ("unexplained", f"{place}/day/stray.jpg", None),
        ("unexplained", f"{place}/link", None),
        ("unexplained", f"{place}/top.json", None),
    ]
    assert not outcome.ok


def test_a_row_explains_its_file_in_its_own_place_only(station: Station) -> None:
    station.put("a.jpg", jpeg(dark=True))
    station.inspect("a.jpg")
    flagged = station.root / "flagged/2026-11-23/a.jpg"
    (station.root / "archive/2026-11-23").mkdir()
    shutil.copy2(flagged, station.root / "archive/2026-11-23/a.jpg")
    assert findings(audit(station), station.root) == [
        ("unexplained", "archive/2026-11-23/a.jpg", None)
    ]


def test_the_reason_beside_a_quarantined_picture_is_explained_by_it(station: Station) -> None:
    station.put("not.jpg", b"text")
    station.put("not.json", b"text, too")  # a name that a sidecar could have
    station.inspect("not.jpg", "not.json")
    folder = station.root / "quarantine/2026-11-23"
    assert sorted(path.name for path in folder.iterdir()) == [
        "not.jpg",
        "not.jpg.json",
        "not.json",
        "not.json.json",
    ]
    assert audit(station, pause=never).ok
    (folder / "other.jpg.json").write_bytes(b"{}")
    assert findings(audit(station), station.root) == [
        ("unexplained", "quarantine/2026-11-23/other.jpg.json", None)
    ]


def test_the_marked_copy_beside_a_flagged_picture_is_explained_by_it(station: Station) -> None:
    station.put("a.jpg", jpeg(dark=True))
    station.inspect("a.jpg")
    folder = station.root / "flagged/2026-11-23"
    (folder / "a.jpg.overlay.jpg").write_bytes(jpeg(dark=True))
    assert audit(station, pause=never).ok
    (folder / "other.jpg.overlay.jpg").write_bytes(jpeg(dark=True))
    (station.root / "archive/a.jpg.overlay.jpg").write_bytes(jpeg(dark=True))
    assert findings(audit(station), station.root) == [
        ("unexplained", "archive/a.jpg.overlay.jpg", None),
        ("unexplained", "flagged/2026-11-23/other.jpg.overlay.jpg", None),
    ]


def test_a_temporary_file_of_ours_needs_an_unfinished_move(station: Station) -> None:
    station.put("a.jpg", jpeg(dark=True))
    station.put("b.jpg", jpeg(dark=True, seed=1))
    station.inspect("a.jpg")
    with station.pipeline() as pipeline:
        pipeline.inspect(station.batch("b.jpg"), station.judging())
    for folder in ("inbox", "flagged"):
        for id in (1, 2, 77):
            (station.root / folder / f".crackwatch-{id}.part").write_bytes(b"")
    for id in (1, 2):  # a marked copy that is being drawn, and one that was
        (station.root / "flagged" / f".crackwatch-{id}.overlay.part").write_bytes(b"")
    (station.root / "inbox" / ".crackwatch-odd").write_bytes(b"")
    assert findings(audit(station), station.root) == [
        ("unexplained", "flagged/.crackwatch-1.overlay.part", 1),
        ("unexplained", "flagged/.crackwatch-1.part", 1),
        ("unexplained", "flagged/.crackwatch-77.part", None),
        ("unexplained", "inbox/.crackwatch-1.part", 1),
        ("unexplained", "inbox/.crackwatch-77.part", None),
        ("unexplained", "inbox/.crackwatch-odd", None),
    ]


def test_a_deletion_that_never_happened_is_unexplained(station: Station) -> None:
    station.put("b.jpg", jpeg(dark=False))
    station.inspect("b.jpg")
    change(station, "UPDATE inspections SET place = 'deleted', released_at = 1")
    outcome = audit(station)
    assert findings(outcome, station.root) == [("unexplained", "inbox/b.jpg", 1)]


def test_a_deletion_without_a_hash_proves_nothing(station: Station) -> None:
    station.put("b.jpg", jpeg(dark=False))
    station.inspect("b.jpg")
    change(station, "UPDATE inspections SET place = 'deleted', released_at = 1, sha256 = NULL")
    (station.inbox / "b.jpg").unlink()
    assert findings(audit(station), station.root) == [("unexplained", "inbox/b.jpg", 1)]


# ---------------------------------------------------------------------------------- changed


def test_a_filed_picture_of_other_content_is_changed(station: Station) -> None:
    station.put("a.jpg", jpeg(dark=True))
    station.inspect("a.jpg")
    flagged = station.root / "flagged/2026-11-23/a.jpg"
    flagged.write_bytes(jpeg(dark=False))
    assert findings(audit(station), station.root) == [("changed", "flagged/2026-11-23/a.jpg", 1)]


def test_a_filed_picture_swapped_for_one_of_its_size_and_time_is_changed(
    station: Station,
) -> None:
    station.put("a.jpg", jpeg(dark=True))
    station.inspect("a.jpg")
    flagged = station.root / "flagged/2026-11-23/a.jpg"
    times = (flagged.stat().st_atime_ns, flagged.stat().st_mtime_ns)
    swapped = station.root / "swapped.jpg"
    swapped.write_bytes(bytes(len(jpeg(dark=True))))
    os.utime(swapped, ns=times)
    swapped.rename(flagged)
    assert len(audit(station).of("changed")) == 1


def test_full_finds_what_hides_behind_size_time_and_inode(station: Station) -> None:
    station.put("a.jpg", jpeg(dark=True))
    station.inspect("a.jpg")
    flagged = station.root / "flagged/2026-11-23/a.jpg"
    times = (flagged.stat().st_atime_ns, flagged.stat().st_mtime_ns)
    with flagged.open("r+b") as stream:
        stream.write(b"\x00")
    os.utime(flagged, ns=times)
    assert audit(station, pause=never).ok
    assert findings(audit(station, full=True), station.root) == [
        ("changed", "flagged/2026-11-23/a.jpg", 1)
    ]


def test_a_filed_picture_that_was_touched_or_copied_back_is_the_same(station: Station) -> None:
    station.put("a.jpg", jpeg(dark=True))
    station.put("b.jpg", jpeg(dark=True, seed=1))
    station.inspect("a.jpg", "b.jpg")
    folder = station.root / "flagged/2026-11-23"
    os.utime(folder / "a.jpg", ns=(1, 1))
    shutil.copy2(folder / "b.jpg", folder / "b.tmp")
    (folder / "b.tmp").rename(folder / "b.jpg")
    assert audit(station, pause=never).ok


def test_a_folder_in_the_place_of_a_picture_is_a_change(station: Station) -> None:
    station.put("a.jpg", jpeg(dark=True))
    station.inspect("a.jpg")
    flagged = station.root / "flagged/2026-11-23/a.jpg"
    flagged.unlink()
    flagged.mkdir()
    assert "a folder" in audit(station).of("changed")[0].reason


def test_a_picture_too_big_to_be_read_is_known_by_size_and_time(tmp_path: Path) -> None:
    station = Station(tmp_path, max_bytes=1_000)
    station.put("big.jpg", jpeg(dark=True))
    station.inspect("big.jpg")
    assert station.rows()[0]["sha256"] is None
    assert audit(station, full=True, pause=never).ok
    os.utime(tmp_path / "quarantine/2026-11-23/big.jpg", ns=(1, 1))
    assert len(audit(station).of("changed")) == 1


def test_across_file_systems_the_inode_hints_at_nothing(tmp_path: Path) -> None:
    memory = Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("needs /dev/shm as a second file system")
    with tempfile.TemporaryDirectory(dir=memory) as other:
        (tmp_path / "flagged").symlink_to(other)
        station = Station(tmp_path)
        station.put("a.jpg", jpeg(dark=True))
        station.inspect("a.jpg")
        flagged = Path(other, "2026-11-23/a.jpg")
        times = (flagged.stat().st_atime_ns, flagged.stat().st_mtime_ns)
        assert audit(station, pause=never).ok
        flagged.write_bytes(bytes(flagged.stat().st_size))
        os.utime(flagged, ns=times)
        # size and time are right, and a copy has an inode of its own: only --full reads it
        assert audit(station, pause=never).ok
        assert len(audit(station, full=True).of("changed")) == 1


# ------------------------------------------------------------------- kept files, replaced ones


@pytest.mark.parametrize("seed", [1, None])
def test_a_kept_file_that_was_replaced_waits_and_the_sum_holds(
    station: Station, seed: int | None
) -> None:
    """By other content, and by the same bytes with another mtime: to the daemon both are new."""
    station.put("b.jpg", jpeg(dark=False))
    station.inspect("b.jpg")
    replaced = station.put("b.jpg", jpeg(dark=False, seed=seed or 0))
    os.utime(replaced, ns=(1, 1))
    before = audit(station, pause=never)
    assert counts(before) == {"kept": 1, "pending": 1}
    assert before.ok
    assert before.arrived == 2
    assert audit(station, full=True, pause=never) == before
    station.inspect("b.jpg")
    after = audit(station, pause=never)
    assert counts(after) == {"kept": 1, "superseded": 1}
    assert after.ok
    assert after.arrived == 2


def test_a_kept_file_replaced_by_one_of_its_size_and_time_waits(station: Station) -> None:
    picture = station.put("b.jpg", jpeg(dark=False))
    station.inspect("b.jpg")
    times = (picture.stat().st_atime_ns, picture.stat().st_mtime_ns)
    picture.write_bytes(jpeg(dark=False)[:-2] + b"??")
    os.utime(picture, ns=times)
    outcome = audit(station, pause=never)
    assert counts(outcome) == {"kept": 1, "pending": 1}
    assert outcome.ok


def test_a_kept_file_with_other_rights_is_the_same(station: Station) -> None:
    picture = station.put("b.jpg", jpeg(dark=False))
    station.inspect("b.jpg")
    picture.chmod(0o600)
    outcome = audit(station, pause=never)
    assert counts(outcome) == {"kept": 1}
    assert outcome.ok


def test_full_finds_a_kept_file_that_rotted_unseen(station: Station) -> None:
    station.put("b.jpg", jpeg(dark=False))
    station.inspect("b.jpg")
    change(station, "UPDATE inspections SET sha256 = zeroblob(32)")
    assert audit(station, pause=never).ok
    assert findings(audit(station, full=True), station.root) == [("changed", "inbox/b.jpg", 1)]


def test_a_kept_file_that_no_pattern_admits_any_more_is_compared(station: Station) -> None:
    kept = station.put("b.jpg", jpeg(dark=False))
    station.inspect("b.jpg")
    change(station, "UPDATE inspections SET source = CAST('b.png' AS BLOB)")
    kept.rename(kept.with_suffix(".png"))
    assert audit(station, pause=never).ok  # a rename sets the ctime anew: hashed, the same
    kept.with_suffix(".png").write_bytes(b"other")
    outcome = audit(station)
    assert findings(outcome, station.root) == [("changed", "inbox/b.png", 1)]
    assert counts(outcome) == {"kept": 1}


# --------------------------------------------------------------------------- unfinished moves


def test_a_move_that_is_recorded_and_not_done_is_pending(station: Station) -> None:
    station.put("a.jpg", jpeg(dark=True))
    with station.pipeline() as pipeline:
        pipeline.inspect(station.batch("a.jpg"), station.judging())
        recorded = audit(station, pause=never)
        pipeline.file()
        moved = audit(station, pause=never)
        pipeline.close()
    assert counts(recorded) == counts(moved) == {"pending": 1}
    assert recorded.ok
    assert moved.ok
    assert counts(audit(station, pause=never)) == {"flagged": 1}


def test_a_picture_that_is_at_neither_end_of_its_move_is_missing(station: Station) -> None:
    picture = station.put("a.jpg", jpeg(dark=True))
    with station.pipeline() as pipeline:
        pipeline.inspect(station.batch("a.jpg"), station.judging())
    picture.unlink()
    outcome = audit(station)
    assert findings(outcome, station.root) == [("missing", "inbox/a.jpg", 1)]
    assert counts(outcome) == {"pending": 1}


def test_a_picture_that_is_being_given_up_is_pending(tmp_path: Path) -> None:
    station = Station(tmp_path, normal="delete")
    picture = station.put("deep/b.jpg", jpeg(dark=False))
    with station.pipeline() as pipeline:
        pipeline.inspect(station.batch("deep/b.jpg"), station.judging())
    picture.rename(picture.with_name(".crackwatch-1.gone"))
    outcome = audit(station, pause=never)
    assert counts(outcome) == {"pending": 1}
    assert outcome.ok
    picture.with_name(".crackwatch-1.gone").unlink()
    assert audit(station, pause=never).ok  # deleted, and not yet marked so


def test_content_that_took_the_name_of_a_pending_picture_is_an_arrival(station: Station) -> None:
    picture = station.put("a.jpg", jpeg(dark=True))
    with station.pipeline() as pipeline:
        pipeline.inspect(station.batch("a.jpg"), station.judging())
        picture.unlink()
        station.put("a.jpg", jpeg(dark=True, seed=5))
        os.utime(picture, ns=(1, 1))
        before = audit(station, pause=never)
        pipeline.file()
        pipeline.close()
    assert counts(before) == {"pending": 2}
    assert before.ok
    after = audit(station, pause=never)
    assert counts(after) == {"superseded": 1, "pending": 1}
    assert after.ok
    assert after.arrived == before.arrived == 2


# --------------------------------------------------------------------- beside a running daemon


def test_what_is_well_at_a_second_look_does_not_count(station: Station) -> None:
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        station.put(name, jpeg(dark=True, seed=ord(name[0])))
        station.inspect(name)
    folder = station.root / "flagged/2026-11-23"
    (folder / "a.jpg").rename(station.root / "a.jpg")
    (folder / "b.jpg").unlink()
    (folder / "new.jpg").write_bytes(b"?")
    (folder / "stays.jpg").write_bytes(b"?")
    (station.inbox / ".crackwatch-9.gone").write_bytes(b"?")
    looks: list[str] = []

    def meanwhile() -> None:
        looks.append("again")
        (station.root / "a.jpg").rename(folder / "a.jpg")
        (folder / "new.jpg").unlink()
        (station.inbox / ".crackwatch-9.gone").unlink()

    outcome = audit(station, pause=meanwhile)
    assert looks == ["again"]
    assert findings(outcome, station.root) == [
        ("missing", "flagged/2026-11-23/b.jpg", 2),
        ("unexplained", "flagged/2026-11-23/stays.jpg", None),
    ]


def test_a_row_that_changes_meanwhile_is_read_again(station: Station) -> None:
    station.put("a.jpg", jpeg(dark=True))
    station.inspect("a.jpg")
    (station.root / "flagged/2026-11-23/a.jpg").unlink()
    outcome = audit(
        station, pause=lambda: change(station, "UPDATE inspections SET vanished_at = 1")
    )
    assert outcome.findings == ()


def test_pictures_recorded_during_the_look_at_the_inbox_are_not_counted_twice(
    station: Station,
) -> None:
    for name in ("a.jpg", "b.jpg"):
        station.put(name, jpeg(dark=False, seed=ord(name[0])))
    books = AuditBooks(station.database, "station")
    with books.snapshot() as snapshot:
        assert snapshot.total() == 0
        station.inspect("a.jpg")
        assert snapshot.total() == 0
        assert snapshot.present([b"a.jpg"]) == {}
    assert books.total() == 1


# -------------------------------------------------------------------------------------- rest


def test_an_audit_changes_nothing(station: Station) -> None:
    station.put("a.jpg", jpeg(dark=True))
    station.put("b.jpg", jpeg(dark=False))
    station.inspect("a.jpg", "b.jpg")
    (station.root / "flagged/2026-11-23/a.jpg").chmod(0o640)
    before = everything(station.root)
    audit(station, full=True, pause=never)
    assert everything(station.root) == before


def test_rows_of_a_station_that_was_renamed_are_still_proved(station: Station) -> None:
    station.put("a.jpg", jpeg(dark=True))
    station.put("b.jpg", jpeg(dark=False))
    station.inspect("a.jpg", "b.jpg")
    change(station, "UPDATE inspections SET station = 'before'")
    outcome = audit(station, pause=never)
    # the daemon of the new name will inspect what was kept as a new arrival, and so it counts
    assert counts(outcome) == {"kept": 1, "flagged": 1, "pending": 1}
    assert outcome.ok


def test_many_rows_are_read_in_pages(station: Station, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crackwatch.store.audits._PAGE_ROWS", 3)
    monkeypatch.setattr("crackwatch.store.audits._NAMES_AT_ONCE", 2)
    monkeypatch.setattr("crackwatch.audit._FILES_AT_ONCE", 3)
    names = [f"{at}.jpg" for at in range(10)]
    for at, name in enumerate(names):
        station.put(name, jpeg(dark=at % 2 == 0, seed=at))
    station.inspect(*names)
    seen: list[int] = []
    outcome = Auditor(
        AuditBooks(station.database, "station"),
        os.fsencode(station.inbox),
        station.places,
        NamePolicy(PATTERNS, recursive=True),
        pause=never,
        progress=seen.append,
    ).audit()
    assert counts(outcome) == {"kept": 5, "flagged": 5}
    assert outcome.ok
    assert seen == [3, 6, 9, 10]


# ----------------------------------------------------------------------------- command line


@pytest.fixture
def config(station: Station) -> str:
    file = station.root / "config.toml"
    file.write_text('[station]\ntimezone = "Europe/Berlin"\n')
    return str(file)


def as_json(config: str, capsys: pytest.CaptureFixture[str], *more: str) -> tuple[int, Any]:
    status = cli.execute(["audit", "--config", config, "--format", "json", *more])
    return status, json.loads(capsys.readouterr().out)


def test_the_command_exits_0_and_1_and_gives_the_keys_of_the_contract(
    station: Station, config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    station.put("a.jpg", jpeg(dark=True))
    station.inspect("a.jpg")
    station.put("later.jpg", jpeg(dark=True))
    status, document = as_json(config, capsys)
    assert status == 0
    assert list(document) == [
        *("ok", "arrived", "kept", "flagged", "archived", "deleted", "quarantined"),
        *("superseded", "expired", "vanished", "pending", "missing", "unexplained", "changed"),
    ]
    assert document["ok"] is True
    assert document["arrived"] == 2 == sum(document[word] for word in COUNTED)
    flagged = station.root / "flagged/2026-11-23/a.jpg"
    flagged.unlink()
    status, document = as_json(config, capsys, "--full")
    assert status == 1
    assert document["ok"] is False
    assert document["missing"] == [
        {"path": str(flagged), "id": 1, "reason": "it was flagged and is gone"}
    ]


def test_the_table_says_it_in_words(
    station: Station, config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    station.put("a.jpg", jpeg(dark=True))
    station.inspect("a.jpg")
    assert cli.execute(["audit", "--config", config]) == 0
    assert "Everything that arrived is accounted for." in capsys.readouterr().out
    for at in range(60):
        (station.root / f"flagged/{at}.jpg").write_bytes(b"")
    assert cli.execute(["audit", "--config", config]) == 1
    said = capsys.readouterr().out
    assert "Unexplained: 60, a file that no row explains" in said
    assert "and 10 more: --format json" in said
    assert "Not everything is accounted for." in said
    change(station, "UPDATE inspections SET place = 'lost'")
    assert cli.execute(["audit", "--config", config]) == 1
    assert "does not balance: 1 arrived, 0 found" in capsys.readouterr().out


def test_without_an_inbox_or_a_database_it_says_so(
    station: Station, config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    station.inbox.rmdir()
    assert cli.execute(["audit", "--config", config]) == 2
    assert "folders.inbox" in capsys.readouterr().err
    station.inbox.mkdir()
    station.database.unlink()
    assert cli.execute(["audit", "--config", config]) == 5
    assert "there is no database here" in capsys.readouterr().err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_it_may_not_see_is_an_error_and_no_proof(
    station: Station, config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (station.root / "flagged").chmod(0)
    try:
        assert cli.execute(["audit", "--config", config]) == 2
    finally:
        (station.root / "flagged").chmod(0o700)
    assert "as the user that the station runs as" in capsys.readouterr().err


def test_a_folder_that_cannot_be_listed_is_an_error_and_no_proof(
    station: Station, config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (station.root / "flagged").rmdir()
    (station.root / "flagged").symlink_to("flagged")
    assert cli.execute(["audit", "--config", config]) == 2
    said = capsys.readouterr()
    assert "cannot be looked at: Too many levels of symbolic links" in said.err
    assert said.out == ""
