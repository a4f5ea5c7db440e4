"""Once an arrival: identity, hints, hashes, destinations, and one transaction that holds them all."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from crackwatch.domain import (
    Arrival,
    BatchFacts,
    Closing,
    Draft,
    Fingerprint,
    Outcome,
    Place,
    QuarantineReason,
    Recorded,
    SettledBy,
)
from crackwatch.errors import ModelTampered, StoreError, SystemFault
from crackwatch.store import engine as engines
from crackwatch.store.books import Books
from tests.disks import as_an_ordinary_user, read_only
from tests.station import Station

FACTS = BatchFacts(None, "openvino", "f32", "size", 1000, 2000)
STAT = Fingerprint(size_bytes=6000, mtime_ns=10**18, ctime_ns=10**18 + 5, device=1, inode=42)


@pytest.fixture
def station(tmp_path: Path) -> Station:
    return Station(tmp_path)


def arrival(source: bytes = b"a.jpg", stat: Fingerprint = STAT) -> Arrival:
    return Arrival(source, stat, datetime.now(UTC), SettledBy.LEASE)


def draft(
    source: bytes = b"a.jpg",
    content: bytes | None = b"picture",
    place: Place = Place.KEPT,
    stat: Fingerprint = STAT,
) -> Draft:
    outcome = {Place.FLAGGED: Outcome.ANOMALY, Place.QUARANTINED: Outcome.QUARANTINED}
    spoiled = place is Place.QUARANTINED
    return Draft(
        arrival(source, stat),
        None if content is None else hashlib.sha256(content).digest(),
        outcome.get(place, Outcome.NORMAL),
        place,
        score=None if spoiled else 0.25,
        threshold=None if spoiled else 0.5,
        reason=QuarantineReason.TRUNCATED if spoiled else None,
        detail="its end is missing" if spoiled else None,
    )


def record(station: Station, *drafts: Draft, closings: Sequence[Closing] = ()) -> Recorded:
    return station.books.record(FACTS, drafts, station.destinations, closings)


def sole(items: Sequence[Any]) -> Any:
    (item,) = items
    return item


# -------------------------------------------------------------------------------------- identity


def test_the_same_file_again_is_known_and_not_recorded_twice(station: Station) -> None:
    first = record(station, draft())
    again = record(station, draft())
    assert (first.inspected, len(first.kept), first.known) == (1, 1, ())
    assert (again.inspected, again.kept, len(again.known)) == (0, (), 1)
    assert len(station.rows()) == 1


@pytest.mark.parametrize("hint", ["ctime_ns", "device", "inode"])
def test_another_hint_with_the_same_bytes_is_the_same_arrival(station: Station, hint: str) -> None:
    """After a reboot, a restored backup, a chmod."""
    record(station, draft())
    moved = replace(STAT, **{hint: 77})
    assert len(record(station, draft(stat=moved)).known) == 1
    row = sole(station.rows())
    assert row[hint] == 77 and row["superseded_at"] is None
    assert list(station.books.present()) == [(b"a.jpg", moved)]


@pytest.mark.parametrize("hint", ["ctime_ns", "device", "inode"])
def test_another_hint_with_other_bytes_is_other_content(station: Station, hint: str) -> None:
    record(station, draft())
    done = record(station, draft(content=b"other", stat=replace(STAT, **{hint: 77})))
    assert (done.superseded, len(done.kept)) == (1, 1)
    old, new = station.rows()
    assert old["superseded_at"] and old["released_at"]
    assert new["superseded_at"] is None and new["duplicate_of"] is None


def test_a_touched_file_is_a_new_arrival_with_the_bytes_of_the_old(station: Station) -> None:
    record(station, draft())
    record(station, draft(stat=replace(STAT, mtime_ns=STAT.mtime_ns + 1)))
    old, new = station.rows()
    assert old["superseded_at"] and new["duplicate_of"] == old["id"]


def test_a_file_too_big_to_be_read_is_known_by_what_stat_says(station: Station) -> None:
    oversize = draft(content=None, place=Place.QUARANTINED)
    record(station, oversize)
    assert len(record(station, oversize).known) == 1
    moved = draft(content=None, place=Place.QUARANTINED, stat=replace(STAT, inode=7))
    assert len(record(station, moved).known) == 1


def test_the_same_bytes_under_two_names_are_two_inspections(station: Station) -> None:
    record(station, draft(b"a.jpg"), draft(b"b.jpg"))
    record(station, draft(b"c.jpg"), draft(b"d.jpg", b"other"))
    assert [row["duplicate_of"] for row in station.rows()] == [None, 1, 1, None]


def test_one_file_offered_twice_in_a_batch_is_one_inspection(station: Station) -> None:
    done = record(station, draft(), draft())
    assert (done.inspected, len(done.known), len(station.rows())) == (1, 1, 1)


def test_stations_that_share_a_database_do_not_know_each_others_files(station: Station) -> None:
    record(station, draft(place=Place.FLAGGED))
    other = Books(engines.open_writer(station.database), "station 2")
    assert list(other.present()) == [] and other.unfiled() == []
    other.record(FACTS, [draft(place=Place.FLAGGED)], station.destinations)
    assert [row["station"] for row in station.rows()] == ["station", "station 2"]
    assert len({row["destination"] for row in station.rows()}) == 2


def test_a_date_that_no_database_could_hold_is_recorded(station: Station) -> None:
    path = station.put("a.jpg", b"picture")
    os.utime(path, (0, 13_569_465_600))  # the year 2400
    record(station, replace(draft(), arrival=station.arrival("a.jpg")))
    assert list(station.books.present()) == [(b"a.jpg", station.arrival("a.jpg").fingerprint)]


# ------------------------------------------------------------------------------- closing, freeing


def test_a_closing_in_the_same_transaction_frees_the_name(station: Station) -> None:
    filing = sole(record(station, draft(place=Place.FLAGGED)).filings)
    done = record(station, draft(place=Place.FLAGGED), closings=[Closing(filing.id)])
    assert (done.superseded, len(done.filings)) == (0, 1)
    old, new = station.rows()
    assert old["filed_at"] and old["released_at"] and old["superseded_at"] is None
    assert new["duplicate_of"] == old["id"]


def test_a_replaced_file_s_row_is_superseded_and_never_filed(station: Station) -> None:
    filing = sole(record(station, draft(place=Place.FLAGGED)).filings)
    station.books.close([Closing(filing.id, superseded=True)])
    row = sole(station.rows())
    assert row["superseded_at"] and row["released_at"] and row["filed_at"] is None
    assert station.books.unfiled() == [] and list(station.books.present()) == []


def test_a_transaction_that_fails_closes_nothing_either(station: Station) -> None:
    filing = sole(record(station, draft(place=Place.FLAGGED)).filings)

    class Failing:
        def propose(self, *_: object) -> bytes | None:
            raise RuntimeError("in the middle")

        def taken(self, *_: object) -> bool:
            return False

    with pytest.raises(RuntimeError):
        station.books.record(
            FACTS, [draft(b"b.jpg", b"b", Place.FLAGGED)], Failing(), [Closing(filing.id)]
        )
    assert [each.id for each in station.books.unfiled()] == [filing.id]
    assert len(station.rows()) == 1


def test_a_kept_picture_is_filed_at_once_and_present_for_good(station: Station) -> None:
    done = record(station, draft())
    row = sole(station.rows())
    assert done.filings == () and row["filed_at"] and row["released_at"] is None
    assert row["destination"] is None


def test_what_was_not_finished_is_told_oldest_first_with_all_that_the_move_needs(
    station: Station,
) -> None:
    places = [Place.FLAGGED, Place.KEPT, Place.QUARANTINED, Place.DELETED, Place.ARCHIVED]
    drafts = [draft(b"%d.jpg" % n, b"%d" % n, place) for n, place in enumerate(places)]
    recorded = record(station, *drafts)
    assert station.books.unfiled() == list(recorded.filings)
    assert [each.place for each in recorded.filings] == [
        place for place in places if place is not Place.KEPT
    ]
    quarantined = recorded.filings[1]
    assert (quarantined.reason, quarantined.detail) == (
        QuarantineReason.TRUNCATED,
        "its end is missing",
    )
    station.books.close([Closing(each.id) for each in recorded.filings[:2]])
    assert station.books.unfiled() == list(recorded.filings[2:])


def test_many_closings_are_all_closed(station: Station) -> None:
    drafts = [draft(b"%d.jpg" % n, b"%d" % n, Place.FLAGGED) for n in range(1000)]
    filings = record(station, *drafts).filings
    station.books.close([Closing(each.id) for each in filings])
    assert station.books.unfiled() == []
    again = record(station, *drafts)
    assert (len(again.known), again.duplicates) == (0, 1000)


# ---------------------------------------------------------------------------- ids, destinations


def test_an_id_is_never_used_twice(station: Station) -> None:
    record(station, draft(b"a.jpg"), draft(b"b.jpg", b"b"))
    with closing(sqlite3.connect(station.database)) as connection, connection:
        connection.execute("DELETE FROM inspections")
    record(station, draft(b"c.jpg", b"c"))
    assert [row["id"] for row in station.rows()] == [3]


def test_names_that_collide_within_a_batch_with_rows_and_with_files_get_the_id(
    station: Station,
) -> None:
    put = station.root / "flagged/2026-11-23/x"
    put.mkdir(parents=True)
    (put / "a.jpg").write_bytes(b"somebody's")
    first = record(
        station,
        draft(b"a.jpg", b"1", Place.FLAGGED),
        draft(b"x/a.jpg", b"2", Place.FLAGGED),
        draft(b"a (4).jpg", b"3", Place.FLAGGED),
    )
    assert [each.destination for each in first.filings] == [
        b"2026-11-23/a.jpg",
        b"2026-11-23/x/a (2).jpg",
        b"2026-11-23/a (4).jpg",
    ]
    station.books.close([Closing(each.id) for each in first.filings])
    second = record(station, draft(b"a.jpg", b"4", Place.FLAGGED))
    assert sole(second.filings).destination == b"2026-11-23/a (4-2).jpg"


def test_the_same_name_may_stand_in_different_places(station: Station) -> None:
    filings = record(
        station,
        draft(b"a.jpg", b"1", Place.FLAGGED),
        draft(b"a.jpg", b"2", Place.ARCHIVED, replace(STAT, mtime_ns=1)),
    ).filings
    assert {each.destination for each in filings} == {b"2026-11-23/a.jpg"}


def test_what_is_deleted_has_no_destination(station: Station) -> None:
    assert sole(record(station, draft(place=Place.DELETED)).filings).destination is None


def test_another_destination_is_committed_before_it_is_tried(station: Station) -> None:
    filing = sole(record(station, draft(place=Place.FLAGGED)).filings)
    again = station.books.reassign(filing.id, filing.place, filing.source, station.destinations)
    assert again == b"2026-11-23/a (1).jpg"
    for taken in (filing.destination, again):
        path = station.destinations.path(Place.FLAGGED, taken or b"")
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.symlink(b"nowhere", path)
    third = station.books.reassign(filing.id, filing.place, filing.source, station.destinations)
    assert third not in (filing.destination, again)
    assert sole(station.books.unfiled()).destination == third


def test_a_row_that_is_not_to_be_moved_is_given_no_destination(station: Station) -> None:
    with pytest.raises(ValueError, match="not one to be moved"):
        station.books.reassign(1, Place.DELETED, b"a.jpg", station.destinations)


# ----------------------------------------------------------------------------------- what is told


def test_the_row_says_what_was_found_and_by_whom(station: Station) -> None:
    pk = station.books.model_pk("m1", "ab" * 32, "{}")
    facts = replace(FACTS, model_pk=pk)
    before = datetime.now(UTC)
    station.books.record(
        facts, [draft(b"a\xff.jpg"), draft(b"b.jpg", b"b", Place.QUARANTINED)], station.destinations
    )
    judged, spoiled = station.rows()
    assert judged["source"] == b"a\xff.jpg"
    assert judged["sha256"] == hashlib.sha256(b"picture").digest()
    assert (judged["score"], judged["threshold"], judged["model_pk"]) == (0.25, 0.5, pk)
    assert (spoiled["score"], spoiled["model_pk"], spoiled["reason"]) == (None, None, "truncated")
    at = datetime.fromtimestamp(judged["inspected_at"] / 1e6, UTC)
    assert timedelta(seconds=-1) < at - before < timedelta(minutes=1)


def test_a_batch_counts_what_it_held(station: Station) -> None:
    done = record(
        station,
        draft(b"1", b"1"),
        draft(b"2", b"1", Place.FLAGGED),
        draft(b"3", b"3", Place.QUARANTINED),
    )
    assert (done.inspected, done.anomalies, done.quarantined, done.duplicates) == (2, 1, 1, 1)


def test_today_counts_neither_quarantined_nor_superseded_pictures(station: Station) -> None:
    began = datetime.now(UTC)
    record(
        station,
        draft(b"1", b"1"),
        draft(b"2", b"2", Place.FLAGGED),
        draft(b"3", b"3", Place.QUARANTINED),
    )
    record(station, draft(b"1", b"other", stat=replace(STAT, mtime_ns=5)))
    assert station.books.inspected_since(began) == (2, 1)
    assert station.books.inspected_since(datetime.now(UTC) + timedelta(seconds=1)) == (0, 0)


def test_a_model_has_one_row_and_its_weights_never_change(station: Station) -> None:
    pk = station.books.model_pk("m1", "ab" * 32, "{}")
    assert station.books.model_pk("m1", "ab" * 32, '{"later": "card"}') == pk
    assert station.books.model_pk("m2", "cd" * 32, "{}") != pk
    with pytest.raises(ModelTampered, match="m1"):
        station.books.model_pk("m1", "ee" * 32, "{}")


# --------------------------------------------------------------------------------------- indexes


def plans(books: Books, act: Callable[[], object]) -> dict[str, list[str]]:
    """How SQLite goes about every SELECT that ``act`` makes it run."""
    asked: list[tuple[str, Any]] = []

    def listen(_c: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        asked.append((statement, parameters))

    engine = books._engine
    event.listen(engine, "before_cursor_execute", listen)
    try:
        act()
    finally:
        event.remove(engine, "before_cursor_execute", listen)
    with closing(engine.raw_connection()) as connection:
        cursor = connection.cursor()
        return {
            statement: [
                str(step[3])
                for step in cursor.execute(f"EXPLAIN QUERY PLAN {statement}", parameters).fetchall()
            ]
            for statement, parameters in asked
            if statement.startswith("SELECT") and "FROM inspections" in statement
        }


@pytest.mark.parametrize(
    ("act", "index"),
    [
        (lambda s: record(s, draft(b"b.jpg")), "uq_inspections_present"),
        (lambda s: record(s, draft(b"b.jpg")), "ix_inspections_sha256"),
        (lambda s: record(s, draft(b"b.jpg", place=Place.FLAGGED)), "uq_inspections_destination"),
        (lambda s: s.books.unfiled(), "ix_inspections_unfiled"),
        (lambda s: list(s.books.present()), "uq_inspections_present"),
        (lambda s: s.books.inspected_since(datetime.now(UTC)), "ix_inspections_window"),
    ],
    ids=["known files", "the same bytes", "destinations", "unfiled", "present", "today"],
)
def test_no_question_of_the_daemon_looks_through_all_rows(
    station: Station, act: Callable[[Station], object], index: str
) -> None:
    record(station, *(draft(b"%d" % n, b"%d" % n, Place.FLAGGED) for n in range(50)))
    found = plans(station.books, lambda: act(station))
    assert any(index in step for steps in found.values() for step in steps), found
    for statement, steps in found.items():
        assert all("INDEX" in step or "TEMP B-TREE" in step for step in steps), (statement, steps)


# ------------------------------------------------------------------------- processes and faults

WRITE = """
import sys
from datetime import UTC, datetime, date
from pathlib import Path
from crackwatch.domain import *
from crackwatch.filing.names import DayDestinations
from crackwatch.store.books import Books
from crackwatch.store.engine import open_writer

database, name, root = Path(sys.argv[1]), sys.argv[2], sys.argv[3].encode()
books = Books(open_writer(database), name)
destinations = DayDestinations({Place.FLAGGED: root}, lambda: date(2026, 11, 23))
sys.stdin.readline()
for number in range(30):
    drafts = []
    for index in range(4):
        source = b"%d-%d.jpg" % (number, index)
        stat = Fingerprint(6000, number, number, 1, index)
        arrival = Arrival(source, stat, datetime.now(UTC), SettledBy.LEASE)
        drafts.append(Draft(arrival, source.ljust(32), Outcome.ANOMALY, Place.FLAGGED, 0.9, 0.5))
    facts = BatchFacts(None, "openvino", "f32", "size", 1, 1)
    recorded = books.record(facts, drafts, destinations)
    books.close([Closing(each.id) for each in recorded.filings])
"""


def test_two_writing_processes_and_a_reader_never_find_the_database_locked(
    station: Station,
) -> None:
    command = [sys.executable, "-c", WRITE, str(station.database)]
    root = str(station.root / "flagged")
    writers = [
        subprocess.Popen([*command, name, root], stdin=subprocess.PIPE, stderr=subprocess.PIPE)
        for name in ("one", "two")
    ]
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write(b"\n")
        writer.stdin.flush()
    while any(writer.poll() is None for writer in writers):
        reader = Books(engines.open_reader(station.database), "one")
        assert len(reader.unfiled()) <= 4
    for writer in writers:
        _, said = writer.communicate()
        assert writer.returncode == 0, said.decode()
    rows = station.rows()
    assert len(rows) == 240 and all(row["filed_at"] for row in rows)
    assert len({row["destination"] for row in rows}) == 240
    assert [row["id"] for row in rows] == list(range(1, 241))


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "BUSY_TIMEOUT_S", 0.1)


@pytest.fixture
def another_writer(station: Station) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(station.database, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield connection


def test_a_database_that_another_program_holds_is_a_fault_that_ends(
    station: Station, impatient: None, another_writer: sqlite3.Connection
) -> None:
    for act in (station.books.probe, lambda: record(station, draft())):
        with pytest.raises(SystemFault) as caught:
            act()
        assert caught.value.code == "database_locked" and caught.value.remedy
    another_writer.execute("ROLLBACK")
    station.books.probe()
    assert record(station, draft()).inspected == 1


def test_a_reader_is_not_kept_waiting_by_a_writer(
    station: Station, impatient: None, another_writer: sqlite3.Connection
) -> None:
    assert Books(engines.open_reader(station.database), "station").unfiled() == []


def test_a_full_disk_is_a_fault_and_records_nothing(station: Station) -> None:
    record(station, draft())

    def limit(connection: sqlite3.Connection, _: Any) -> None:
        connection.execute("PRAGMA max_page_count = 1")  # SQLite keeps what there is, no more

    event.listen(station.books._engine, "connect", limit)
    drafts = [draft(b"%d" % n * 50, b"%d" % n, Place.FLAGGED) for n in range(2000)]
    with pytest.raises(SystemFault) as caught:
        record(station, *drafts)
    assert caught.value.code == "disk_full"
    event.remove(station.books._engine, "connect", limit)
    assert len(station.rows()) == 1
    assert record(station, *drafts).anomalies == 2000


def test_a_database_that_became_read_only_is_a_fault_that_ends() -> None:
    with as_an_ordinary_user() as folder:
        station = Station(folder)
        station.database.chmod(0o444)
        station.database.parent.chmod(0o555)
        with pytest.raises(SystemFault) as caught:
            record(station, draft())
        assert caught.value.code in ("database_readonly", "database_unopenable")
        station.database.parent.chmod(0o755)
        station.database.chmod(0o644)
        assert record(station, draft()).inspected == 1


def test_a_probe_is_refused_where_recording_would_be_and_changes_nothing(
    station: Station,
) -> None:
    record(station, draft(place=Place.FLAGGED))
    before = station.rows()
    station.books.probe()
    with engines.open_reader(station.database).connect() as reader:
        reader.exec_driver_sql("SELECT 1 FROM inspections")
        with read_only(station.database.parent), pytest.raises(SystemFault) as caught:
            station.books.probe()
    assert caught.value.code == "database_readonly"
    station.books.probe()
    assert station.rows() == before


def test_what_was_inspected_at_the_very_moment_counts_as_since_then(station: Station) -> None:
    record(station, draft(place=Place.FLAGGED))
    at = sole(station.books.unfiled()).inspected_at
    assert station.books.inspected_since(at) == (1, 1)
    assert station.books.inspected_since(at + timedelta(microseconds=1)) == (0, 0)


def test_a_damaged_database_is_an_error_that_names_a_way_out(station: Station) -> None:
    record(station, *(draft(b"%d" % n, b"%d" % n) for n in range(200)))
    size = station.database.stat().st_size
    with station.database.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(size - 4096))
    with pytest.raises(StoreError) as caught:
        list(station.books.present())
    assert "malformed" in caught.value.problem and "backup" in caught.value.remedy
