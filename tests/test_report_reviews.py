"""A report tells what people said of its pictures, and what waits for their eye, at no cost."""

from __future__ import annotations

import hashlib
import sqlite3
import time as clock
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event

from crackwatch.days import Window
from crackwatch.domain import Label, Outcome, Place
from crackwatch.reported import ReviewTally, Summary
from crackwatch.reporting.render_json import document
from crackwatch.reporting.render_table import plain
from crackwatch.store.engine import open_writer
from crackwatch.store.reports import reading
from crackwatch.store.reviews import Review, ReviewBooks
from crackwatch.store.schema import to_microseconds
from tests.station import Station
from tests.test_report import DAY, NOON, Filler, fill, summary_of

CRACK, OK = Label.ANOMALY, Label.NORMAL


@pytest.fixture
def station(tmp_path: Path) -> Station:
    return Station(tmp_path)


def tally_of(station: Station) -> ReviewTally:
    with reading(station.database) as rows:
        return rows.reviews(DAY)


def say(
    station: Station, name: bytes, label: Label, at: datetime = NOON, pixels: bytes = b""
) -> None:
    sha256 = hashlib.sha256(name).digest()
    books = ReviewBooks(open_writer(station.database), "station")
    review = Review(
        sha256, None, label, "anna", at, None, label.encode() + b"/x.jpg", pixels or sha256[:16]
    )
    books.add(review, counts=False)


def test_labels_of_the_windows_pictures_are_counted_by_the_latest(station: Station) -> None:
    filler = Filler(station.database)
    for name in (b"hit", b"false-alarm"):
        filler(Outcome.ANOMALY, NOON, source=name)
    for name in (b"miss", b"fine", b"unreviewed"):
        filler(Outcome.NORMAL, NOON, source=name)
    filler(Outcome.NORMAL, NOON - timedelta(days=3), source=b"earlier")
    later = NOON + timedelta(days=30)
    say(station, b"hit", CRACK)
    say(station, b"false-alarm", CRACK)
    say(station, b"false-alarm", OK, later)
    say(station, b"miss", CRACK, pixels=b"alike")
    say(station, b"elsewhere", OK, pixels=b"alike")  # of a file that was never inspected
    say(station, b"fine", OK)
    say(station, b"earlier", CRACK)
    assert tally_of(station) == ReviewTally(
        crack=2, ok=2, contradictions=2, escapes=1, false_alarms=1, waiting=0
    )


def test_a_picture_inspected_twice_counts_once_and_superseded_ones_do_not(
    station: Station,
) -> None:
    filler = Filler(station.database)
    twice = {"sha256": hashlib.sha256(b"twice").digest()}
    filler(Outcome.NORMAL, NOON, source=b"a", **twice)
    filler(Outcome.NORMAL, NOON, source=b"b", **twice)
    filler(Outcome.NORMAL, NOON, source=b"gone", superseded_at=NOON)
    say(station, b"twice", CRACK)
    say(station, b"gone", CRACK)
    assert tally_of(station) == ReviewTally(1, 0, 0, 1, 0, 0)


@pytest.mark.parametrize(
    ("row", "waiting"),
    [
        ({"in_review_band": True}, 1),
        ({"in_review_band": False}, 0),
        ({"in_review_band": None}, 0),
        ({"in_review_band": True, "inspected_at": DAY.since}, 1),
        ({"in_review_band": True, "inspected_at": DAY.until}, 0),
        ({"in_review_band": True, "inspected_at": DAY.since - timedelta(seconds=1)}, 0),
        ({"in_review_band": True, "superseded_at": NOON}, 0),
        ({"in_review_band": True, "expired_at": NOON}, 0),
        ({"in_review_band": True, "vanished_at": NOON}, 0),
        ({"in_review_band": True, "place": Place.DELETED}, 0),
    ],
)
def test_what_waits_is_in_the_band_still_there_and_not_reviewed(
    station: Station, row: dict[str, Any], waiting: int
) -> None:
    filler = Filler(station.database)
    filler(Outcome.NORMAL, NOON, source=b"doubtful", **row)
    assert tally_of(station).waiting == waiting
    say(station, b"doubtful", OK)
    assert tally_of(station).waiting == 0


def test_the_report_shows_reviews_only_where_there_are_any(station: Station) -> None:
    filler = Filler(station.database)
    filler(Outcome.ANOMALY, NOON, source=b"doubtful", in_review_band=True)
    filler(Outcome.NORMAL, NOON, source=b"wall", in_review_band=False)
    silent = shown(station, with_reviews=False)
    assert "Reviewed" not in plain(silent, "here")
    assert "For review" not in plain(silent, "here")
    say(station, b"wall", CRACK)
    summary = shown(station)
    found = document(summary)
    assert found["review_band"] == {"waiting": 1}
    assert found["reviewed"] == {
        "crack": 1,
        "ok": 0,
        "contradictions": 0,
        "escapes": 1,
        "false_alarms": 0,
    }
    assert found["anomalies"][0]["in_review_band"] is True
    lines = plain(summary, "here").splitlines()
    assert "Reviewed             1  by people: 1 crack, 0 ok; 1 escaped, 0 false alarms" in lines
    assert "For review           1  doubtful: crackwatch review list --band" in lines


def shown(station: Station, *, with_reviews: bool = True) -> Summary:
    summary = summary_of(station)
    return replace(summary, reviews=tally_of(station)) if with_reviews else summary


# ---------------------------------------------------------------------------------- what it costs


@pytest.fixture
def large(station: Station) -> Station:
    """100,000 inspections, of which 5,000 lie in the band; 1,000 of those are reviewed."""
    fill(station.database, 100_000, NOON)
    with closing(sqlite3.connect(station.database)) as connection:
        connection.execute("UPDATE inspections SET in_review_band = (id % 20 = 0)")
        connection.execute(
            "INSERT INTO reviews (sha256, inspection_id, label, reviewed_by, reviewed_at, picture, "
            "pixels) SELECT sha256, id, 'normal', 'anna', ?, x'00', substr(sha256, 1, 16) "
            "FROM inspections WHERE id % 100 = 0",
            [to_microseconds(NOON)],
        )
        connection.commit()
    return station


@pytest.mark.parametrize("analysed", [False, True])
def test_a_report_of_a_hundred_thousand_rows_counts_reviews_by_their_indexes(
    large: Station, analysed: bool
) -> None:
    if analysed:
        with closing(sqlite3.connect(large.database)) as connection:
            connection.execute("ANALYZE")
    asked: list[tuple[str, Any]] = []

    @event.listens_for(Engine, "before_cursor_execute")
    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        asked.append((statement, parameters))

    started = clock.process_time()
    try:
        with reading(large.database) as rows:
            found = rows.reviews(Window(NOON - timedelta(days=2), NOON))
    finally:
        event.remove(Engine, "before_cursor_execute", note)
    assert clock.process_time() - started < 0.5
    assert (found.ok, found.false_alarms, found.waiting) == (1_000, 30, 4_000)
    with closing(sqlite3.connect(large.database)) as connection:
        plans = [
            str(connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters).fetchall())
            for statement, parameters in asked
            if "FROM inspections" in statement
        ]
    *by_bytes, band = plans
    assert by_bytes
    assert all("ix_inspections_sha256" in plan for plan in by_bytes)
    assert "ix_inspections_review_band" in band
    assert "COVERING INDEX ix_reviews_sha256" in band
    assert not any("SCAN inspections" in plan for plan in plans)
