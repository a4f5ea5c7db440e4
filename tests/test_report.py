"""A report counts what stands, says where each file is, and reads the same in every format."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import re
import sqlite3
import subprocess
import sys
import time as clock
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import Engine, event, insert, text

from crackwatch import cli
from crackwatch.days import Window
from crackwatch.domain import Outcome, Place
from crackwatch.health import status
from crackwatch.reported import Summary
from crackwatch.reporting import render_csv, render_table
from crackwatch.reporting.chart import chart
from crackwatch.reporting.render_html import html
from crackwatch.reporting.render_json import document
from crackwatch.reporting.summary import Pending, Whereabouts, summarize
from crackwatch.store.engine import open_writer
from crackwatch.store.reports import reading
from crackwatch.store.schema import batches, inspections, models, to_microseconds
from tests.station import Station, jpeg

BERLIN = ZoneInfo("Europe/Berlin")
NOON = datetime(2026, 11, 20, 12, tzinfo=BERLIN)
DAY = Window(NOON.replace(hour=0), NOON.replace(hour=0) + timedelta(days=1))

_PLACES = {
    Outcome.NORMAL: Place.KEPT,
    Outcome.ANOMALY: Place.FLAGGED,
    Outcome.QUARANTINED: Place.QUARANTINED,
}


class Filler:
    """Writes rows straight into the books, as the daemon would have at another time."""

    def __init__(self, database: Path) -> None:
        self.engine: Engine = open_writer(database)
        self._id = 0
        with self.engine.begin() as connection:
            for pk, id in ((1, "first"), (2, "second")):
                connection.execute(
                    insert(models).values(
                        pk=pk, id=id, sha256="0" * 64, card="{}", first_used_at=NOON
                    )
                )
            connection.execute(
                insert(batches).values(
                    id=1,
                    model_pk=1,
                    runtime="openvino",
                    precision="f32",
                    closed_by="size",
                    size=1,
                    recorded_at=NOON,
                    read_us=0,
                    classify_us=0,
                )
            )

    def row(self, outcome: Outcome, at: datetime, **more: Any) -> dict[str, Any]:
        self._id += 1
        place = more.pop("place", _PLACES[outcome])
        judged = outcome is not Outcome.QUARANTINED
        source = more.pop("source", b"%06d.jpg" % self._id)
        row = {
            "id": self._id,
            "station": "station",
            "source": source,
            "size_bytes": 1_000,
            "mtime_ns": self._id,
            "ctime_ns": self._id,
            "device": 1,
            "inode": self._id,
            "sha256": hashlib.sha256(source).digest(),
            "outcome": outcome.value,
            "score": {Outcome.NORMAL: 0.25, Outcome.ANOMALY: 0.75}.get(outcome),
            "threshold": 0.5 if judged else None,
            "model_pk": 1 if judged else None,
            "batch_id": 1,
            "reason": None if judged else "truncated",
            "detail": None,
            "duplicate_of": None,
            "settled_at": at,
            "settled_by": "lease",
            "inspected_at": at,
            "place": place.value,
            "destination": None
            if place in (Place.KEPT, Place.DELETED)
            else b"2026-11-20/" + source,
            "filed_at": at,
            "released_at": None if place is Place.KEPT else at,
            "superseded_at": None,
            "expired_at": None,
            "vanished_at": None,
            "vanished_by": None,
        }
        return {**row, **more}

    def add(self, *rows: dict[str, Any]) -> None:
        with self.engine.begin() as connection:
            connection.execute(insert(inspections), list(rows))

    def __call__(self, outcome: Outcome, at: datetime, **more: Any) -> None:
        self.add(self.row(outcome, at, **more))


def fill(database: Path, count: int, until: datetime) -> None:
    """``count`` inspections, 0.7 s apart, the last just before ``until``; every 33rd an anomaly.

    Made by the database itself out of one row, in a fraction of the time that sending them takes.
    """
    filler = Filler(database)
    first = filler.row(Outcome.NORMAL, until)
    step_us = 700_000
    made = {
        **{name: f":{name}" for name in first},
        "id": "number",
        "source": "CAST(printf('camera-1/%07d.jpg', number) AS BLOB)",
        "mtime_ns": "number",
        "sha256": "randomblob(32)",
        "outcome": "iif(number % 33, 'normal', 'anomaly')",
        "place": "iif(number % 33, 'kept', 'flagged')",
        "score": "iif(number % 33, 0.25, 0.75)",
        "destination": "iif(number % 33, NULL, CAST(printf('2026-11-20/%d', number) AS BLOB))",
        "released_at": "iif(number % 33, NULL, 1)",
        "inspected_at": f"{to_microseconds(until)} - (:count + 1 - number) * {step_us}",
    }
    statement = (
        "WITH RECURSIVE numbers(number) AS "
        "(SELECT 1 UNION ALL SELECT number + 1 FROM numbers WHERE number < :count) "
        f"INSERT INTO inspections ({', '.join(made)}) SELECT {', '.join(made.values())} FROM numbers"
    )
    moments = ("settled_at", "filed_at")
    given = {**first, **dict.fromkeys(moments, to_microseconds(until)), "count": count}
    with filler.engine.begin() as connection:
        connection.execute(text(statement), given)


@pytest.fixture
def station(tmp_path: Path) -> Station:
    return Station(tmp_path)


@pytest.fixture
def filler(station: Station) -> Filler:
    return Filler(station.database)


def summary_of(
    station: Station,
    window: Window = DAY,
    pending: Pending | None = None,
    limit: int | None = None,
) -> Summary:
    places = {**station.places}
    with reading(station.database) as rows:
        return summarize(
            rows,
            window,
            Whereabouts(os.fsencode(station.inbox), places),
            lambda: pending,
            limit=limit,
        )


# --------------------------------------------------------------------------------- counting


def test_nothing_is_nothing(station: Station) -> None:
    found = summary_of(station)
    assert (found.inspected, found.quarantined, found.superseded) == (0, 0, 0)
    assert found.anomaly_rate is None
    assert found.models == found.anomalies == found.quarantine == found.hourly == ()


def test_a_window_holds_its_first_instant_and_not_its_last(
    station: Station, filler: Filler
) -> None:
    tick = timedelta(microseconds=1)
    for at in (DAY.since - tick, DAY.since, DAY.until - tick, DAY.until):
        filler(Outcome.NORMAL, at)
    assert summary_of(station).normal == 2
    assert summary_of(station, Window(DAY.until, DAY.until + tick)).normal == 1


def test_the_outcomes_are_counted_apart(station: Station, filler: Filler) -> None:
    for outcome, count in ((Outcome.NORMAL, 6), (Outcome.ANOMALY, 2), (Outcome.QUARANTINED, 3)):
        for _ in range(count):
            filler(outcome, NOON)
    found = summary_of(station)
    assert (found.normal, found.anomaly, found.quarantined, found.inspected) == (6, 2, 3, 8)
    assert found.anomaly_rate == 0.25
    assert len(found.anomalies) == 2
    assert len(found.quarantine) == 3


def test_superseded_inspections_count_apart_and_nowhere_else(
    station: Station, filler: Filler
) -> None:
    for outcome in Outcome:
        filler(outcome, NOON)
        filler(outcome, NOON, superseded_at=NOON)
    found = summary_of(station)
    assert (found.normal, found.anomaly, found.quarantined, found.superseded) == (1, 1, 1, 3)
    assert [each.source for each in found.anomalies] == [b"000003.jpg"]
    assert [each.source for each in found.quarantine] == [b"000005.jpg"]
    assert [(each.normal, each.anomaly, each.quarantined) for each in found.hourly] == [(1, 1, 1)]
    assert found.models[0].inspected == 2


def test_an_hour_with_nothing_but_superseded_inspections_is_left_out(
    station: Station, filler: Filler
) -> None:
    filler(Outcome.NORMAL, NOON, superseded_at=NOON)
    found = summary_of(station)
    assert found.hourly == ()
    assert found.models == ()
    assert found.superseded == 1


def test_each_model_is_told_with_each_of_its_thresholds(station: Station, filler: Filler) -> None:
    for model_pk, threshold, outcome in (
        (1, 0.5, Outcome.NORMAL),
        (1, 0.5, Outcome.ANOMALY),
        (1, 0.9, Outcome.NORMAL),
        (2, 0.5, Outcome.ANOMALY),
    ):
        filler(outcome, NOON, model_pk=model_pk, threshold=threshold)
    filler(Outcome.QUARANTINED, NOON)
    assert {
        (each.id, each.threshold, each.inspected, each.anomaly)
        for each in summary_of(station).models
    } == {("first", 0.5, 2, 1), ("first", 0.9, 1, 0), ("second", 0.5, 1, 1)}


def test_anomalies_come_newest_first_and_no_more_than_asked_for(
    station: Station, filler: Filler
) -> None:
    for minute in (5, 30, 10):
        filler(Outcome.ANOMALY, NOON.replace(minute=minute), source=b"%d.jpg" % minute)
    found = summary_of(station)
    assert [each.source for each in found.anomalies] == [b"30.jpg", b"10.jpg", b"5.jpg"]
    assert found.anomalies[0].inspected_at == NOON.replace(minute=30)
    assert (found.anomalies[0].score, found.anomalies[0].model) == (0.75, "first")
    few = summary_of(station, limit=1)
    assert [each.source for each in few.anomalies] == [b"30.jpg"]
    assert few.anomaly == 3


# --------------------------------------------------------------------------- where the file is


def test_a_path_is_where_the_file_is_now(station: Station, filler: Filler) -> None:
    filler(Outcome.ANOMALY, NOON, source=b"filed.jpg")
    filler(Outcome.ANOMALY, NOON, source=b"waits.jpg", filed_at=None, released_at=None)
    filler(Outcome.ANOMALY, NOON, source=b"moved.jpg", filed_at=None, released_at=None)
    filler(Outcome.QUARANTINED, NOON, source=b"bad.jpg")
    moved = station.root / "flagged/2026-11-20/moved.jpg"
    moved.parent.mkdir()
    moved.touch()
    found = summary_of(station)
    paths = {each.source: os.fsdecode(each.path) for each in found.anomalies}
    assert paths == {
        b"filed.jpg": f"{station.root}/flagged/2026-11-20/filed.jpg",
        b"waits.jpg": f"{station.root}/inbox/waits.jpg",
        b"moved.jpg": str(moved),
    }
    assert [os.fsdecode(each.path) for each in found.quarantine] == [
        f"{station.root}/quarantine/2026-11-20/bad.jpg"
    ]


# ------------------------------------------------------------------------------------ by hour


def hours(station: Station, window: Window) -> list[tuple[str, int]]:
    return [(each.hour.isoformat(), each.normal) for each in summary_of(station, window).hourly]


def test_hours_are_those_of_the_stations_clock(station: Station, filler: Filler) -> None:
    for minute in (0, 14, 15, 59):
        filler(Outcome.NORMAL, NOON.replace(minute=minute))
    filler(Outcome.NORMAL, NOON.replace(hour=14))
    assert hours(station, DAY) == [
        ("2026-11-20T12:00:00+01:00", 4),
        ("2026-11-20T14:00:00+01:00", 1),
    ]
    kathmandu = ZoneInfo("Asia/Kathmandu")  # 5 h 45 min ahead of UTC
    there = Window(DAY.since.astimezone(kathmandu), DAY.until.astimezone(kathmandu))
    assert hours(station, there) == [
        ("2026-11-20T16:00:00+05:45", 2),
        ("2026-11-20T17:00:00+05:45", 2),
        ("2026-11-20T18:00:00+05:45", 1),
    ]


def test_the_hour_that_comes_twice_is_two_hours(station: Station, filler: Filler) -> None:
    change = datetime(2026, 10, 25, 1, tzinfo=UTC)
    for minutes in (-61, -60, -1, 0, 59, 60):
        filler(Outcome.NORMAL, change + timedelta(minutes=minutes))
    day = Window(datetime(2026, 10, 25, tzinfo=BERLIN), datetime(2026, 10, 26, tzinfo=BERLIN))
    assert hours(station, day) == [
        ("2026-10-25T01:00:00+02:00", 1),
        ("2026-10-25T02:00:00+02:00", 2),
        ("2026-10-25T02:00:00+01:00", 2),
        ("2026-10-25T03:00:00+01:00", 1),
    ]
    found = chart(summary_of(station, day))
    assert found is not None
    assert len(found.bars) == 25


# --------------------------------------------------------------------------------------- JSON


def test_the_json_has_the_keys_of_the_contract(station: Station, filler: Filler) -> None:
    filler(Outcome.NORMAL, NOON)
    filler(Outcome.ANOMALY, NOON, source=b"caf\xe9 \\ \n.jpg")
    filler(Outcome.QUARANTINED, NOON)
    found = document(summary_of(station, pending=Pending(7, NOON.astimezone(UTC))))
    assert json.loads(json.dumps(found)) == {
        "since": "2026-11-20T00:00:00+01:00",
        "until": "2026-11-21T00:00:00+01:00",
        "inspected": 2,
        "normal": 1,
        "anomaly": 1,
        "quarantined": 1,
        "superseded": 0,
        "pending": 7,
        "pending_as_of": "2026-11-20T12:00:00+01:00",
        "anomaly_rate": 0.5,
        "models": [
            {"id": "first", "inspected": 2, "anomaly": 1, "threshold": 0.5, "min_tiles": None}
        ],
        "anomalies": [
            {
                "source": "caf\\xe9 \\\\ \\x0a.jpg",
                "path": f"{station.root}/flagged/2026-11-20/caf\\xe9 \\\\ \\x0a.jpg",
                "score": 0.75,
                "inspected_at": "2026-11-20T12:00:00+01:00",
                "model": "first",
                "in_review_band": None,
                "threshold": 0.5,
            }
        ],
        "quarantine": [
            {
                "source": "000003.jpg",
                "path": f"{station.root}/quarantine/2026-11-20/000003.jpg",
                "reason": "truncated",
            }
        ],
        "hourly": [
            {"hour": "2026-11-20T12:00:00+01:00", "normal": 1, "anomaly": 1, "quarantined": 1}
        ],
        "reviewed": {
            "crack": 0,
            "ok": 0,
            "contradictions": 0,
            "escapes": 0,
            "false_alarms": 0,
        },
        "review_band": {"waiting": 0},
        "drift": [],
    }
    unknown = document(summary_of(station))
    assert unknown["pending"] is None
    assert unknown["pending_as_of"] is None


# ---------------------------------------------------------------------------------------- CSV


def as_csv(station: Station, window: Window = DAY) -> list[dict[str, str]]:
    text = io.StringIO()
    with reading(station.database) as rows:
        render_csv.write(
            text,
            rows.with_photographs(rows.lines(window, superseded=True, newest_first=False)),
            Whereabouts(os.fsencode(station.inbox), station.places),
            BERLIN,
        )
    return list(csv.DictReader(io.StringIO(text.getvalue())))


def test_the_csv_has_a_line_for_every_inspection(station: Station, filler: Filler) -> None:
    filler(Outcome.ANOMALY, NOON.replace(minute=1), source=b"crack.jpg", duplicate_of=None)
    filler(Outcome.NORMAL, NOON, source=b"wall.jpg", duplicate_of=1)
    filler(
        *(Outcome.QUARANTINED, NOON.replace(minute=2)),
        source=b"bad.jpg",
        sha256=None,
        detail="ends early",
    )
    filler(Outcome.NORMAL, NOON.replace(minute=3), superseded_at=NOON)
    filler(Outcome.NORMAL, NOON.replace(minute=4), place=Place.DELETED)
    filler(Outcome.NORMAL, NOON.replace(minute=5), place=Place.ARCHIVED, filed_at=None)
    filler(Outcome.ANOMALY, NOON.replace(minute=6), expired_at=NOON)
    filler(Outcome.ANOMALY, NOON.replace(minute=7), vanished_at=NOON)
    found = as_csv(station)
    assert list(found[0]) == list(render_csv.COLUMNS)
    assert [line["standing"] for line in found] == [
        *("kept", "flagged", "quarantined", "superseded", "deleted", "pending"),
        *("expired", "vanished"),
    ]
    assert found[0] == {
        "id": "2",
        "inspected_at": "2026-11-20T12:00:00+01:00",
        "outcome": "normal",
        "standing": "kept",
        "score": "0.25",
        "threshold": "0.5",
        "model": "first",
        "source": "wall.jpg",
        "path": f"{station.root}/inbox/wall.jpg",
        "reason": "",
        "detail": "",
        "sha256": hashlib.sha256(b"wall.jpg").hexdigest(),
        "duplicate_of": "1",
        **dict.fromkeys(("tiles", "tiles_over", "min_tiles", "length_mm"), ""),
    }
    assert found[1]["path"] == f"{station.root}/flagged/2026-11-20/crack.jpg"
    bad = found[2]
    assert (bad["reason"], bad["detail"], bad["sha256"], bad["score"]) == (
        *("truncated", "ends early", "", ""),
    )
    assert [bool(line["path"]) for line in found[3:]] == [False, False, True, False, False]


def test_the_help_names_every_column(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.execute(["report", "--help"]) == 0
    words = set(re.findall(r"[a-z0-9_]+", capsys.readouterr().out))
    assert set(render_csv.COLUMNS) <= words


@pytest.mark.parametrize("first", ["=", "+", "-", "@"])
def test_no_cell_of_the_csv_is_a_formula(station: Station, filler: Filler, first: str) -> None:
    name = f'{first}cmd|"/c calc"!A1,.jpg'
    filler(Outcome.QUARANTINED, NOON, source=name.encode(), detail=f"{first}1+1")
    (line,) = as_csv(station)
    assert line["source"] == "'" + name
    assert line["detail"] == f"'{first}1+1"


@pytest.mark.parametrize("cell", ["\tx", "\rx", "=x"])
def test_a_cell_that_begins_like_a_formula_gets_an_apostrophe(cell: str) -> None:
    assert render_csv.safe(cell) == "'" + cell
    assert render_csv.safe("x" + cell) == "x" + cell
    assert render_csv.safe("") == ""


# -------------------------------------------------------------------------------------- table


def test_the_plain_table_keeps_every_line_whole(station: Station, filler: Filler) -> None:
    long = b"/".join([b"camera" * 20] * 3) + b"/crack.jpg"
    filler(Outcome.NORMAL, NOON)
    filler(Outcome.ANOMALY, NOON, source=long)
    filler(Outcome.QUARANTINED, NOON)
    text = render_table.plain(summary_of(station, pending=Pending(1_234, NOON)), "north")
    assert text.startswith("north: 2026-11-20 00:00+01:00 until 2026-11-21 00:00+01:00\n")
    assert f"{station.root}/flagged/2026-11-20/{long.decode()}" in text
    assert re.search(r"^Inspected +2$", text, re.MULTILINE)
    assert re.search(r"^  anomaly +1  50\.00%$", text, re.MULTILINE)
    assert re.search(r"^Pending +1,234  in the inbox, as of 2026-11-20 12:00:00$", text, re.M)
    assert re.search(r"^  first +0\.5000 +2 +1$", text, re.MULTILINE)
    assert re.search(r"^  truncated  .*/000003\.jpg$", text, re.MULTILINE)
    assert "\x1b" not in text
    assert "Superseded" not in text


def test_the_table_says_how_much_it_leaves_out(station: Station, filler: Filler) -> None:
    for _ in range(5):
        filler(Outcome.ANOMALY, NOON)
    few = render_table.plain(summary_of(station, limit=2), "north")
    assert "and 3 more: --limit 5, or --format json or csv for all" in few
    assert few.count(".jpg") == 2
    assert "and 5 more" in render_table.plain(summary_of(station, limit=0), "north")
    assert "more:" not in render_table.plain(summary_of(station), "north")


def on_terminal(summary: Summary, width: int) -> str:
    stream = io.StringIO()
    render_table.on_terminal(summary, "north", stream, width=width)
    return stream.getvalue()


@pytest.mark.parametrize("width", [60, 80, 200])
def test_on_a_terminal_nothing_is_wider_and_no_name_is_cut(
    station: Station, filler: Filler, width: int
) -> None:
    name = "a" * 150 + ".jpg"
    filler(Outcome.ANOMALY, NOON, source=name.encode())
    filler(Outcome.NORMAL, NOON)
    drawn = on_terminal(summary_of(station), width)
    assert max(len(line) for line in drawn.splitlines()) <= width
    assert name in re.sub(r"\s+", "", drawn)


def test_a_name_that_looks_like_markup_is_drawn_as_it_is(station: Station, filler: Filler) -> None:
    filler(Outcome.ANOMALY, NOON, source=b"[red]:warning:[/].jpg")
    assert "[red]:warning:[/].jpg" in on_terminal(summary_of(station), 250)


# --------------------------------------------------------------------------------------- HTML


class Elements(HTMLParser):
    """Every tag, and the text of each cell; a tag left open is an error."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in ("meta",):
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_the_html_stands_alone_and_escapes_names(station: Station, filler: Filler) -> None:
    evil = '<script>alert("1")</script>&.jpg'
    filler(Outcome.NORMAL, NOON)
    filler(Outcome.ANOMALY, NOON.replace(hour=14), source=evil.encode().replace(b"/", b"_"))
    filler(Outcome.QUARANTINED, NOON)
    text = html(summary_of(station, pending=Pending(3, NOON)), "<b>north</b>", NOON)
    page = Elements(text)
    assert "script" not in page.tags
    assert "b" not in page.tags
    assert any(evil.replace("/", "_") in piece for piece in page.text)
    assert not {name for name, _ in page.attributes} & {"src", "href", "action", "data"}
    assert "http:" not in text
    assert "https:" not in text
    assert page.tags.count("rect") == 3
    assert "50.00%" in text
    assert "truncated" in text
    assert "@media print" in text


def test_the_html_of_an_empty_window_says_so(station: Station) -> None:
    page = Elements(html(summary_of(station), "north", NOON))
    assert "svg" not in page.tags
    assert any("Nothing was inspected" in piece for piece in page.text)


# -------------------------------------------------------------------------------------- chart


def test_the_chart_has_a_place_for_every_hour_and_its_bars_add_up(
    station: Station, filler: Filler
) -> None:
    for _ in range(3):
        filler(Outcome.NORMAL, NOON)
    filler(Outcome.ANOMALY, NOON)
    filler(Outcome.QUARANTINED, NOON.replace(hour=23))
    found = chart(summary_of(station))
    assert found is not None
    assert found.unit == "hour"
    assert len(found.bars) == 24
    noon = found.bars[12]
    assert noon.name == "2026-11-20 12:00+01:00"
    assert (noon.normal, noon.anomaly, noon.quarantined) == (3, 1, 0)
    assert [piece.kind for piece in noon.pieces] == ["anomaly", "normal"]
    heights = {piece.kind: piece.height for piece in noon.pieces}
    assert heights["normal"] == pytest.approx(3 * heights["anomaly"])
    assert found.bars[0].pieces == ()
    assert sum(each.normal + each.anomaly + each.quarantined for each in found.bars) == 5


@pytest.mark.parametrize(
    ("days", "unit", "bars"),
    [(1, "hour", 24), (9, "hour", 216), (30, "day", 31), (800, "month", 1)],
)
def test_a_longer_window_is_drawn_in_a_coarser_unit(
    station: Station, filler: Filler, days: int, unit: str, bars: int
) -> None:
    filler(Outcome.NORMAL, NOON)
    summary = summary_of(station)
    found = chart(replace(summary, window=Window(DAY.since, DAY.since + timedelta(days=days))))
    assert found is not None
    assert found.unit == unit
    assert abs(len(found.bars) - bars) <= 1
    assert all(0 <= bar.x < 960 for bar in found.bars)


def test_a_single_crack_among_thousands_is_seen(station: Station, filler: Filler) -> None:
    filler.add(*(filler.row(Outcome.NORMAL, NOON) for _ in range(4_000)))
    filler(Outcome.ANOMALY, NOON)
    found = chart(summary_of(station))
    assert found is not None
    assert found.bars[12].pieces[0].kind == "anomaly"
    assert found.bars[12].pieces[0].height >= 1
    assert [tick.text for tick in found.ticks] == ["5,000", "2,500", "0"] or [
        tick.text for tick in found.ticks
    ] == ["0", "2,500", "5,000"]


# ------------------------------------------------------------------------------ command line


@pytest.fixture
def config(station: Station) -> str:
    file = station.root / "config.toml"
    file.write_text('[station]\ntimezone = "Europe/Berlin"\n[report]\nday_starts_at = "06:00"\n')
    return str(file)


def report(config: str, *arguments: str) -> int:
    return cli.execute(["report", "--config", config, *arguments])


SPAN = ("--since", "2026-11-20", "--until", "2026-11-21")


def test_a_day_of_the_command_begins_by_day_starts_at(
    filler: Filler, config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for hour in (5, 6, 7):
        filler(Outcome.NORMAL, NOON.replace(hour=hour))
    assert report(config, *SPAN, "--format", "json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["since"] == "2026-11-20T06:00:00+01:00"
    assert found["until"] == "2026-11-21T06:00:00+01:00"
    assert found["normal"] == 2


def test_every_format_tells_the_same(
    filler: Filler, config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for at in range(30):
        filler(Outcome.ANOMALY, NOON + timedelta(seconds=at))
    told: dict[str, str] = {}
    for output_format in ("table", "json", "csv", "html"):
        assert report(config, *SPAN, "--format", output_format) == 0
        told[output_format] = capsys.readouterr().out
    assert len(json.loads(told["json"])["anomalies"]) == 30
    assert len(list(csv.DictReader(io.StringIO(told["csv"])))) == 30
    assert told["table"].count("flagged/2026-11-20") == 20
    assert "and 10 more" in told["table"]
    assert told["html"].count("flagged/2026-11-20") == 30
    assert report(config, *SPAN, "--limit", "3") == 0
    assert capsys.readouterr().out.count("flagged/2026-11-20") == 3


@pytest.mark.parametrize("output_format", ["table", "json", "csv", "html"])
def test_output_writes_a_file_whole_and_replaces_it(
    filler: Filler, config: str, output_format: str, tmp_path: Path, capsys: Any
) -> None:
    filler(Outcome.ANOMALY, NOON, source="größe.jpg".encode())
    file = tmp_path / "out" / "report"
    file.parent.mkdir()
    file.write_text("yesterday's")
    assert report(config, *SPAN, "--format", output_format, "--output", str(file)) == 0
    assert capsys.readouterr().out == ""
    assert "größe.jpg" in file.read_text("utf-8")
    assert [path.name for path in file.parent.iterdir()] == ["report"]


def test_output_into_nowhere_is_an_error_and_leaves_nothing(
    filler: Filler, config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report(config, *SPAN, "--output", str(tmp_path / "no" / "report")) == 2
    assert "cannot be written: No such file or directory" in capsys.readouterr().err
    (tmp_path / "folder").mkdir()
    assert report(config, *SPAN, "--output", str(tmp_path / "folder")) == 2
    assert list(tmp_path.glob(".*.part")) == []


def test_wrong_times_and_missing_books_have_their_exit_statuses(
    station: Station, config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report(config, "--since", "banana") == 2
    assert "--since 'banana': not understood" in capsys.readouterr().err
    assert report(config, "--since", "tomorrow") == 2
    assert report(config, "--since", "") == 2
    assert report(config, "--limit", "-1") == 2
    station.database.unlink()
    assert report(config) == 5
    station.database.write_bytes(b"This is no database, whatever its name says." * 100)
    capsys.readouterr()
    assert report(config) == 5
    assert "crackwatch.db" in capsys.readouterr().err


def test_without_since_it_is_todays(
    station: Station, config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    station.put("a.jpg", jpeg(dark=True))
    station.inspect("a.jpg")
    assert report(config, "--format", "json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["anomaly"] == 1
    assert found["anomalies"][0]["path"] == f"{station.root}/flagged/2026-11-23/a.jpg"


# ------------------------------------------------------------------------------------ pending


def pending(config: str, capsys: pytest.CaptureFixture[str]) -> tuple[int | None, str | None]:
    assert report(config, "--format", "json") == 0
    found = json.loads(capsys.readouterr().out)
    return found["pending"], found["pending_as_of"]


def test_pending_is_what_is_in_the_inbox_without_a_row(
    station: Station, config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for at in range(5):
        station.put(f"deep/{at}.jpg", jpeg(dark=False, seed=at))
    station.put("notes.txt", b"")
    station.inspect("deep/0.jpg", "deep/1.jpg")
    os.utime(station.inbox / "deep/1.jpg", ns=(1, 1))  # to the daemon a new arrival
    count, as_of = pending(config, capsys)
    assert count == 4
    assert as_of is not None
    assert datetime.fromisoformat(as_of).utcoffset() in (timedelta(hours=1), timedelta(hours=2))


def test_without_an_inbox_nobody_knows_what_is_pending(
    station: Station, config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    station.inbox.rmdir()
    assert pending(config, capsys) == (None, None)
    assert report(config) == 0
    assert re.search(r"^Pending +unknown$", capsys.readouterr().out, re.MULTILINE)


@pytest.fixture
def daemon(station: Station) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the station's lock and does nothing else."""
    code = (
        "import sys, time; from pathlib import Path; from crackwatch import locking\n"
        "with locking.held(Path(sys.argv[1]), 'the station'):\n"
        "    print('held', flush=True); time.sleep(60)"
    )
    lock = station.root / "state" / status.LOCK_FILE
    with subprocess.Popen(
        [sys.executable, "-c", code, str(lock)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_running_daemon_is_asked_while_its_count_is_fresh(
    station: Station,
    config: str,
    daemon: subprocess.Popen[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    now = datetime.now(UTC)
    said = status.Status("running", pid=daemon.pid, inbox_pending=41, as_of=now, pending_as_of=now)
    status.write(station.root / "state", said)
    count, as_of = pending(config, capsys)
    assert count == 41
    assert as_of is not None
    assert abs(datetime.fromisoformat(as_of) - now) < timedelta(milliseconds=2)
    stale = replace(said, pending_as_of=now - timedelta(minutes=1))
    status.write(station.root / "state", stale)
    assert pending(config, capsys)[0] == 0
    status.write(station.root / "state", replace(said, pid=daemon.pid + 1))
    assert pending(config, capsys)[0] == 0


# -------------------------------------------------------------------------------------- speed

HEAVY = ("tensorflow", "keras", "cv2", "openvino")
FOR_OTHER_COMMANDS = ("alembic", "dateparser", "jinja2", "rich", "numpy", "watchdog", "structlog")


def modules_after(*arguments: str) -> set[str]:
    """What one run of the command line has imported, top levels only."""
    code = (
        "import sys; from crackwatch.cli import execute\n"
        "status = execute(sys.argv[1:]); sys.stdout.flush()\n"
        "assert status in (0, 1), status\n"
        "print('MODULES', *{name.partition('.')[0] for name in sys.modules})"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True
    )
    return set(ran.stdout.splitlines()[-1].split()[1:])


@pytest.mark.parametrize(
    "arguments",
    [
        ("--help",),
        ("report", "--help"),
        ("report", "--since", "yesterday"),
        ("report", "--format", "html"),
        ("status",),
        ("audit",),
        ("audit", "--full", "--format", "json"),
    ],
)
def test_looking_at_the_books_loads_no_library_of_the_model(
    config: str, arguments: tuple[str, ...]
) -> None:
    more = () if "--help" in arguments else ("--config", config)
    loaded = modules_after(*arguments, *more)
    assert "crackwatch" in loaded
    assert not loaded & set(HEAVY)


@pytest.mark.parametrize("output_format", ["table", "json", "csv"])
def test_a_report_loads_nothing_that_it_does_not_need(config: str, output_format: str) -> None:
    loaded = modules_after("report", "--config", config, "--format", output_format)
    assert "sqlalchemy" in loaded
    assert not loaded & {*HEAVY, *FOR_OTHER_COMMANDS}


def test_a_hundred_thousand_rows_are_summed_up_by_the_covering_index(station: Station) -> None:
    """The whole command is held to a second by measurement; this is the part that grows."""
    fill(station.database, 100_000, NOON)
    asked: list[tuple[str, Any]] = []

    @event.listens_for(Engine, "before_cursor_execute")
    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        asked.append((statement, parameters))

    started = clock.process_time()
    try:
        found = summary_of(station, Window(NOON - timedelta(days=2), NOON), limit=20)
    finally:
        event.remove(Engine, "before_cursor_execute", note)
    assert clock.process_time() - started < 1.0
    assert found.inspected == 100_000
    assert found.anomaly == 3_030
    assert len(found.anomalies) == 20
    assert sum(each.normal + each.anomaly for each in found.hourly) == 100_000
    with closing(sqlite3.connect(station.database)) as connection:
        plans = [
            str(connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters).fetchall())
            for statement, parameters in asked
            if statement.startswith("SELECT") and "inspections.inspected_at >=" in statement
        ]
    assert len(plans) == 4  # counts, those superseded, anomalies, quarantine
    assert all("ix_inspections_window" in plan for plan in plans)
    assert "COVERING INDEX ix_inspections_window" in plans[0]
