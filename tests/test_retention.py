"""Only what is recorded, filed and unchanged is ever deleted; oldest first, and no more than asked."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from crackwatch import logs
from crackwatch.cli import execute
from crackwatch.config_file import load
from crackwatch.domain import DepartureResult, Place
from crackwatch.filing import copies
from crackwatch.health.board import Board
from crackwatch.housekeeping import PROBLEM, Housekeeping, spared
from crackwatch.retention import Limits, PlaceOutcome, Policy, Retention, Slices
from crackwatch.store.departures import Departures
from crackwatch.store.engine import open_writer
from tests.disks import another_file_system
from tests.leaving import audited, departing, killed_at, rows_of
from tests.station import Station, jpeg

DAY = "2026-11-23"
PLENTY = 1 << 50


def filled(root: Path, *, normal: str = "archive", pictures: int = 4) -> Station:
    """A station with normals 0.jpg, 1.jpg, ... whose inspections are as many days old, 0 the oldest."""
    station = Station(root, normal=normal)
    for number in range(pictures):
        name = f"{number}.jpg"
        station.put(name, jpeg(dark=False, seed=number))
        station.inspect(name)
        aged(station, number + 1, pictures - number)
    return station


def aged(station: Station, id: int, days: float) -> None:
    moment = datetime.now(UTC) - timedelta(days=days)
    change(
        station,
        f"UPDATE inspections SET inspected_at = {int(moment.timestamp() * 1e6)} WHERE id = {id}",
    )


def heard(station: Station, days: float) -> None:
    """The station was running so many days ago, by the clock of now."""
    moment = int((datetime.now(UTC) - timedelta(days=days)).timestamp() * 1e6)
    change(
        station,
        "INSERT INTO heartbeats (station, model_pk, runtime, precision, beat_at, good, flipped, "
        "newest_inspection) "
        f"SELECT 'station', model_pk, 'openvino', 'f32', {moment}, 1, 0, 0 FROM inspections "
        "WHERE model_pk IS NOT NULL LIMIT 1",
    )


def label(station: Station, id: int) -> None:
    change(
        station,
        "INSERT INTO reviews (sha256, inspection_id, label, reviewed_by, reviewed_at, picture, "
        "pixels) SELECT sha256, NULL, 'normal', 'anna', 7, x'61', x'00' FROM inspections "
        f"WHERE id = {id}",
    )


def change(station: Station, statement: str) -> None:
    with closing(sqlite3.connect(station.database)) as connection, connection:
        connection.execute(statement)


def tend(
    station: Station,
    place: Place = Place.ARCHIVED,
    *,
    free_bytes: int = PLENTY,
    dry: bool = False,
    keep_reviewed: bool = True,
    keep_awaiting_review: bool = True,
    trust_clock: bool = False,
    **limits: Any,
) -> PlaceOutcome:
    policy = Policy({place: Limits(**limits)}, keep_reviewed, keep_awaiting_review)
    lets = None if dry else departing(station)
    started = station_bytes(station)
    (outcome,) = Retention(
        rows_of(station),
        policy,
        lambda _: (1, free_bytes + started - station_bytes(station)),
        lets,
        now=datetime.now(UTC),
        trust_clock=trust_clock,
    ).run()
    return outcome


def station_bytes(station: Station) -> int:
    return sum((station.root / name).lstat().st_size for name in station.files())


def ids(outcome: PlaceOutcome) -> list[tuple[int, str]]:
    return [(each.picture.id, each.rule) for each in outcome.removed]


def expired(station: Station) -> list[int]:
    return [row["id"] for row in station.rows() if row["expired_at"] is not None]


def test_what_is_too_old_goes_and_its_row_says_so(tmp_path: Path) -> None:
    station = filled(tmp_path)
    assert ids(tend(station, max_days=2.5, dry=True)) == [(1, "age"), (2, "age")]
    assert len(station.files()) == 4
    assert ids(tend(station, max_days=2.5)) == [(1, "age"), (2, "age")]
    assert station.files() == {f"archive/{DAY}/2.jpg", f"archive/{DAY}/3.jpg"}
    assert expired(station) == [1, 2]
    outcome = audited(station)
    assert outcome.ok
    assert (outcome.counts["expired"], outcome.counts["archived"]) == (2, 2)
    assert ids(tend(station, max_days=2.5)) == []


def test_the_oldest_go_until_the_bytes_fit(tmp_path: Path) -> None:
    station = filled(tmp_path)
    sizes = [row["size_bytes"] for row in station.rows()]
    assert ids(tend(station, max_bytes=sum(sizes))) == []
    for dry in (True, False):
        outcome = tend(station, max_bytes=sizes[2] + sizes[3], dry=dry)
        assert ids(outcome) == [(1, "bytes"), (2, "bytes")]
        assert outcome.short_bytes == 0
    assert expired(station) == [1, 2]


def test_the_oldest_go_until_the_disk_is_free_enough(tmp_path: Path) -> None:
    station = filled(tmp_path)
    first = station.rows()[0]["size_bytes"]
    for dry in (True, False):
        outcome = tend(station, min_free_bytes=1_000 + first + 1, free_bytes=1_000, dry=dry)
        assert ids(outcome) == [(1, "free"), (2, "free")]
    assert ids(tend(station, min_free_bytes=1_000, free_bytes=1_000)) == []


def test_a_limit_that_cannot_be_kept_is_said(tmp_path: Path) -> None:
    station = filled(tmp_path)
    sizes = [row["size_bytes"] for row in station.rows()]
    for id in (1, 2):
        label(station, id)
    outcome = tend(station, min_free_bytes=sum(sizes), free_bytes=0)
    assert ids(outcome) == [(3, "free"), (4, "free")]
    assert outcome.short_bytes == sizes[0] + sizes[1] and not outcome.in_vain


def test_nothing_goes_for_room_that_all_of_it_would_not_make(tmp_path: Path) -> None:
    station = filled(tmp_path)
    outcome = tend(station, min_free_bytes=1 << 30, free_bytes=0)
    assert ids(outcome) == [] and outcome.in_vain
    assert outcome.short_bytes == 1 << 30
    assert ids(tend(station, min_free_bytes=1 << 30, free_bytes=0, max_days=3.5)) == [(1, "age")]


@pytest.mark.parametrize(
    ("place", "normal", "dark", "data"),
    [
        (Place.FLAGGED, "keep", True, None),
        (Place.KEPT, "keep", False, None),
        (Place.QUARANTINED, "keep", False, b"no picture"),
    ],
)
def test_each_place_has_its_own_limit(
    tmp_path: Path, place: Place, normal: str, dark: bool, data: bytes | None
) -> None:
    station = filled(tmp_path, pictures=1)
    station.normal = normal
    station.put("sub/x.jpg", data or jpeg(dark=dark, seed=7))
    station.inspect("sub/x.jpg", waited=True)
    aged(station, 1, 11)
    aged(station, 2, 10)
    heard(station, 1)
    assert ids(tend(station, place, max_days=5)) == [(2, "age")]
    assert station.files() == {f"archive/{DAY}/0.jpg"}  # the reason beside it went as well
    assert audited(station).ok
    row = station.rows()[1]
    assert row["expired_at"] and row["released_at"]


def test_labelled_pictures_and_those_that_wait_for_a_label_stay(tmp_path: Path) -> None:
    station = filled(tmp_path)
    label(station, 1)
    change(station, "UPDATE inspections SET in_review_band = 1 WHERE id = 2")
    outcome = tend(station, max_days=0.5, dry=True)
    assert ids(outcome) == [(3, "age"), (4, "age")]
    assert outcome.held == 2
    assert ids(tend(station, max_days=0.5, dry=True, keep_reviewed=False))[0] == (1, "age")
    assert ids(tend(station, max_days=0.5, dry=True, keep_awaiting_review=False))[0] == (2, "age")
    assert tend(station, max_bytes=0, dry=True).short_bytes > 0
    tend(station, max_days=0.5)
    assert expired(station) == [3, 4]


def test_what_no_row_names_or_is_not_what_was_inspected_stays(tmp_path: Path) -> None:
    station = filled(tmp_path)
    day = station.root / "archive" / DAY
    (day / "mine.jpg").write_bytes(b"no row")
    (day / "0.jpg").write_bytes(b"x" * (day / "0.jpg").stat().st_size)  # as big as it was
    (day / "1.jpg").write_bytes(b"shorter")
    (day / "2.jpg").unlink()
    outcome = tend(station, max_days=0.5)
    assert ids(outcome) == [(4, "age")]
    assert [(over.picture.id, departed.result) for over, departed in outcome.left] == [
        (1, DepartureResult.CHANGED),
        (2, DepartureResult.CHANGED),
        (3, DepartureResult.GONE),
    ]
    assert station.files() == {f"archive/{DAY}/{name}.jpg" for name in ("mine", "0", "1")}
    assert expired(station) == [4]


def test_a_picture_that_is_not_filed_yet_stays(tmp_path: Path) -> None:
    station = filled(tmp_path, pictures=1)
    change(station, "UPDATE inspections SET filed_at = NULL")
    assert ids(tend(station, max_bytes=0)) == []
    assert len(station.files()) == 1


def test_the_same_bytes_sent_again_to_the_inbox_are_an_arrival_of_their_own(
    tmp_path: Path,
) -> None:
    station = filled(tmp_path, normal="keep", pictures=1)
    again = station.inbox / "0.jpg"
    again.write_bytes(again.read_bytes())
    outcome = tend(station, Place.KEPT, max_days=0.5)
    assert [departed.result for _, departed in outcome.left] == [DepartureResult.CHANGED]
    assert again.exists() and expired(station) == []


def test_a_marked_copy_goes_with_its_photograph_and_a_stranger_stays(tmp_path: Path) -> None:
    station = Station(tmp_path)
    for name in ("a.jpg", "b.jpg"):
        station.put(name, jpeg(dark=True, seed=len(station.rows())))
        station.inspect(name)
    for id in (1, 2):
        change(
            station,
            f"INSERT INTO photographs VALUES ({id}, 9, 9, 1.0, 32, 4, 1, 1, 1, '[]', x'00', NULL, "
            "NULL)",
        )
    flagged = station.root / "flagged" / DAY
    marked = jpeg(dark=False)
    (flagged / "a.jpg.overlay.jpg").write_bytes(copies.signed(marked, 1))
    (flagged / "b.jpg.overlay.jpg").write_bytes(marked)  # a person's: it only has the name
    tend(station, Place.FLAGGED, max_bytes=0)
    assert expired(station) == [1, 2]
    assert station.files() == {f"flagged/{DAY}/b.jpg.overlay.jpg"}


def test_a_picture_of_its_own_under_the_name_of_a_marked_copy_stays(tmp_path: Path) -> None:
    station = Station(tmp_path)
    for seed, name in enumerate(("a.jpg", "a.jpg.overlay.jpg")):
        station.put(name, jpeg(dark=True, seed=seed))
        station.inspect(name)
    change(
        station,
        "INSERT INTO photographs VALUES (1, 9, 9, 1.0, 32, 4, 1, 1, 1, '[]', x'00', NULL, NULL)",
    )
    names = [os.fsdecode(row["destination"]) for row in station.rows()]
    assert names == [f"{DAY}/a.jpg", f"{DAY}/a.jpg.overlay (2).jpg"]
    tend(station, Place.FLAGGED, max_bytes=station.rows()[1]["size_bytes"])
    assert station.files() == {f"flagged/{names[1]}"}
    assert audited(station).ok


def test_a_label_that_was_given_while_it_was_leaving_keeps_it(tmp_path: Path) -> None:
    for boundary in range(4):  # before the first rename, and after it
        station = filled(tmp_path / f"{boundary}", pictures=1)
        assert killed_at(partial(tend, station, max_bytes=0), boundary + 1) is not None
        (departure,) = rows_of(station).open()
        assert not departure.expired
        label(station, 1)
        departing(station).resume()
        assert station.files() == {f"archive/{DAY}/0.jpg"}
        assert expired(station) == [] and audited(station).ok


def test_a_picture_that_is_old_only_by_a_wrong_clock_stays(tmp_path: Path) -> None:
    station = filled(tmp_path)
    aged(station, 4, 400)  # recorded last, by a clock that was more than a year behind
    heard(station, 1)
    assert ids(tend(station, max_days=2.5)) == [(1, "age"), (2, "age")]
    assert ids(tend(station, max_days=365)) == []


def test_while_the_clock_may_be_ahead_nothing_goes_by_age(tmp_path: Path) -> None:
    station = filled(tmp_path)
    for id in range(1, 5):
        aged(station, id, 100 + 5 - id)
    outcome = tend(station, max_days=30)  # as if it had been set 100 days ahead
    assert ids(outcome) == [] and outcome.clock_unsure
    assert ids(tend(station, max_bytes=0, dry=True)) != []
    assert len(ids(tend(station, max_days=30, dry=True, trust_clock=True))) == 4
    heard(station, 1)
    outcome = tend(station, max_days=102.5)
    assert ids(outcome) == [(1, "age"), (2, "age")] and not outcome.clock_unsure


def test_killed_anywhere_it_is_there_or_expired(tmp_path: Path) -> None:
    """At each boundary: a file without a committed row is never gone, and the next call finishes."""
    seen: list[str] = []
    with another_file_system(tmp_path) as memory:  # where syncing costs nothing
        for boundary in range(60):
            station = filled(memory / f"{boundary}", pictures=2)
            at = killed_at(partial(tend, station, max_days=1.5), boundary)
            if at is None:
                assert expired(station) == [1]
                break
            seen.append(at)
            there = any("0.jpg" in name or ".gone" in name for name in station.files())
            assert there or expired(station) == [1], at
            assert audited(station).findings == (), at
            departing(station).resume()
            tend(station, max_days=1.5)
            assert station.files() == {f"archive/{DAY}/1.jpg"}, at
            assert expired(station) == [1]
            assert audited(station).ok, at
            assert rows_of(station).open() == []
        else:
            raise AssertionError("there is no end to the boundaries")
    assert {"after rename_noreplace", "before expire", "after expire", "before unlink"} <= set(seen)


def test_an_expiry_whose_rename_a_power_cut_undid_is_finished(tmp_path: Path) -> None:
    station = filled(tmp_path, pictures=1)
    killed_at(partial(tend, station, max_days=0.5), 5)  # after expired was committed
    while expired(station) != [1]:
        pytest.fail("the boundaries have moved: name another one")
    gone = station.root / "archive" / DAY / ".crackwatch-1.gone"
    os.rename(gone, gone.with_name("0.jpg"))
    assert audited(station).findings == ()
    departing(station).resume()
    assert station.files() == set()
    assert audited(station).ok


# ------------------------------------------------------------------------------------- commands


def configured(station: Station, text: str) -> list[str]:
    file = station.root / "config.toml"
    file.write_text(text)
    return ["--config", str(file)]


def test_the_command_plans_then_deletes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    station = filled(tmp_path)
    config = configured(station, "[retention]\narchive_max_days = 2.5\n")
    for dry in (["--dry-run"], []):
        assert execute(["retention", "--format", "json", *dry, *config]) == 0
        told = json.loads(capsys.readouterr().out)
        assert [(each["id"], each["folder"], each["rule"]) for each in told["removed"]] == [
            (1, "archive", "age"),
            (2, "archive", "age"),
        ]
        assert told["removed"][0]["path"] == str(tmp_path / "archive" / DAY / "0.jpg")
        assert len(station.files()) == (4 if dry else 2)
    assert execute(["retention", *config]) == 0
    assert "archive: 0 of 2 deleted" in capsys.readouterr().out


def test_without_a_limit_nothing_is_deleted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    station = filled(tmp_path, pictures=1)
    assert execute(["retention", *configured(station, "")]) == 0
    assert "sets no limit" in capsys.readouterr().out
    assert len(station.files()) == 1


def test_what_cannot_be_deleted_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    station = filled(tmp_path, pictures=1)
    (tmp_path / "archive" / DAY / "0.jpg").write_bytes(b"changed")
    config = configured(station, "[retention]\narchive_max_days = 0.5\n")
    assert execute(["retention", "--format", "json", *config]) == 1
    (left,) = json.loads(capsys.readouterr().out)["left"]
    assert left["why"] == "it is not what was inspected"


# -------------------------------------------------------------------------- the running station


def housekeeping(station: Station, board: Board) -> Housekeeping:
    settings = load(station.root / "config.toml", {})
    logs.configure("error", "json")  # anew: each test has a standard error of its own
    rows = Departures(open_writer(station.database), "station", **spared(settings))
    return Housekeeping(settings, rows, lambda: None, board, logs.get())


def test_the_station_does_it_by_itself_at_a_quiet_moment(tmp_path: Path) -> None:
    station = filled(tmp_path)
    configured(station, "[retention]\narchive_max_days = 2.5\n")
    keeper = housekeeping(station, Board(lambda _problem, _appeared: None))
    keeper.tend(quiet=False)
    assert len(station.files()) == 4
    keeper.tend(quiet=True)
    assert expired(station) == [1, 2]
    aged(station, 3, 9)
    keeper.tend(quiet=True)  # not due again for an hour
    assert expired(station) == [1, 2]


def test_the_station_says_that_a_limit_cannot_be_kept_until_it_can(tmp_path: Path) -> None:
    station = filled(tmp_path, pictures=1)
    change(station, "UPDATE inspections SET in_review_band = 1")
    board = Board(lambda _problem, _appeared: None)
    configured(station, "[retention]\narchive_max_bytes = 0\nevery_s = 1\n")
    housekeeping(station, board).tend(quiet=True)
    assert [each.code for each in board.problems()] == [PROBLEM]
    configured(station, "[retention]\narchive_max_bytes = 0\nkeep_awaiting_review = false\n")
    housekeeping(station, board).tend(quiet=True)
    assert board.problems() == ()
    assert station.files() == set()


def test_the_station_finishes_what_a_kill_left_open(tmp_path: Path) -> None:
    station = filled(tmp_path, pictures=1)
    killed_at(partial(tend, station, max_days=0.5), 2)
    assert rows_of(station).open() != []
    configured(station, "")
    housekeeping(station, Board(lambda _problem, _appeared: None)).resume()
    assert rows_of(station).open() == []
    assert expired(station) == [1] and station.files() == set()


def test_a_look_that_ran_out_of_its_time_goes_on_at_the_next_quiet_moment() -> None:
    now = [0.0]
    slices = Slices(3_600, 1, lambda: now[0])
    assert slices.due and not slices.overdue
    slices.begin()
    now[0] = 2.0
    assert not slices.go_on()
    slices.end()
    assert slices.due
    slices.begin()
    assert slices.go_on()
    slices.end()
    assert not slices.due
    waits: Sequence[float] = (3_601.9, 3_602.0, 7_202.0)
    states = []
    for now[0] in waits:
        states.append((slices.due, slices.overdue))
    assert states == [(False, False), (True, False), (True, True)]
