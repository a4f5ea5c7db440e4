"""A report says of a photograph where it was over the threshold, by which rule, and how indicative it is."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, event, insert

from crackwatch import cli
from crackwatch.days import Window
from crackwatch.domain import Box, Outcome, Photograph
from crackwatch.reporting import tiles
from crackwatch.reporting.render_json import document
from crackwatch.reporting.render_table import plain
from crackwatch.store.photographs import photograph_row
from crackwatch.store.schema import photographs
from tests.station import Station
from tests.test_report import NOON, Filler, fill, summary_of

SPAN = ("--since", "2026-11-20", "--until", "2026-11-21")


def photograph(over: int = 3, min_tiles: int = 1, length_mm: float | None = 121.3) -> Photograph:
    """Of 336 tiles."""
    return Photograph(
        width=4000,
        height=3000,
        scale=1.0,
        overlap=32,
        tiles=336,
        tiles_over=over,
        min_tiles=min_tiles,
        largest_cluster=over,
        boxes=tuple(Box(195 * at, 390, 227, 227, 0.99 - at / 100) for at in range(over)),
        score_map=b"map",
        length_mm=length_mm,
        second_look_from=0.05,
    )


@pytest.fixture
def station(tmp_path: Any) -> Station:
    return Station(tmp_path)


@pytest.fixture
def filler(station: Station) -> Filler:
    return Filler(station.database)


def add(filler: Filler, outcome: Outcome, kept: Photograph, **more: Any) -> int:
    """One photograph's inspection and its row; the number of the inspection."""
    row = filler.row(outcome, more.pop("at", NOON), threshold=0.9, **more)
    filler.add(row)
    with filler.engine.begin() as connection:
        connection.execute(insert(photographs), [photograph_row(row["id"], kept)])
    return int(row["id"])


# ------------------------------------------------------------------------------------- formats


def test_an_anomaly_that_was_judged_in_tiles_lists_its_boxes(
    station: Station, filler: Filler
) -> None:
    add(filler, Outcome.ANOMALY, photograph(2, min_tiles=2))
    filler(Outcome.ANOMALY, NOON + timedelta(seconds=1))
    crop, found = json.loads(json.dumps(document(summary_of(station))))["anomalies"]
    assert "tiles" not in crop
    assert "boxes" not in crop
    assert crop["threshold"] == 0.5
    assert found["threshold"] == 0.9
    assert (found["tiles"], found["tiles_over"], found["min_tiles"]) == (336, 2, 2)
    assert (found["width"], found["height"], found["length_mm"]) == (4000, 3000, 121.3)
    assert found["second_look_from"] == 0.05
    assert found["boxes"] == [
        {"x": 0, "y": 390, "w": 227, "h": 227, "score": 0.99},
        {"x": 195, "y": 390, "w": 227, "h": 227, "score": 0.98},
    ]


def test_a_length_that_is_not_known_is_null(station: Station, filler: Filler) -> None:
    add(filler, Outcome.ANOMALY, photograph(length_mm=None))
    (found,) = document(summary_of(station))["anomalies"]
    assert found["length_mm"] is None
    assert "indicative" not in plain(summary_of(station), "wall")


def test_photographs_stand_apart_from_single_pictures_of_the_same_model(
    station: Station, filler: Filler
) -> None:
    """Whoever reads a threshold must see what it was for, even where both kinds have the same."""
    for outcome in (Outcome.NORMAL, Outcome.ANOMALY):
        filler(outcome, NOON, threshold=0.9)
    add(filler, Outcome.ANOMALY, photograph())
    add(filler, Outcome.NORMAL, photograph(0))
    add(filler, Outcome.NORMAL, photograph(1, min_tiles=2))
    add(filler, Outcome.ANOMALY, photograph(), superseded_at=NOON)
    add(filler, Outcome.ANOMALY, photograph(), at=NOON - timedelta(days=1))
    summary = summary_of(station)
    assert {
        (each.id, each.threshold, each.min_tiles, each.inspected, each.anomaly)
        for each in summary.models
    } == {("first", 0.9, None, 2, 1), ("first", 0.9, 1, 2, 1), ("first", 0.9, 2, 1, 0)}
    assert summary.inspected == sum(each.inspected for each in summary.models)
    said = plain(summary, "wall")
    assert "single pictures" in said
    assert "photographs, flagged by any one tile" in said
    assert "photographs, flagged by 2 tiles that touch" in said


def test_a_station_of_crops_reads_as_before(station: Station, filler: Filler) -> None:
    filler(Outcome.ANOMALY, NOON)
    said = plain(summary_of(station), "wall")
    assert "tiles" not in said
    assert "photographs" not in said


def test_tables_and_pages_say_it_in_few_words(
    filler: Filler, station: Station, capsys: pytest.CaptureFixture[str]
) -> None:
    config = station.root / "config.toml"
    config.write_text('[station]\ntimezone = "Europe/Berlin"\n')
    number = add(filler, Outcome.ANOMALY, photograph())
    filler(Outcome.NORMAL, NOON + timedelta(seconds=1))
    for output_format in ("table", "html"):
        assert (
            cli.execute(["report", "--config", str(config), *SPAN, "--format", output_format]) == 0
        )
        assert "3 of 336 tiles, about 120 mm, indicative" in capsys.readouterr().out
    assert cli.execute(["report", "--config", str(config), *SPAN, "--format", "csv"]) == 0
    lines = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    tiled = {line["id"]: line for line in lines}[str(number)]
    assert (tiled["tiles"], tiled["tiles_over"], tiled["min_tiles"]) == ("336", "3", "1")
    assert tiled["length_mm"] == "121.3"
    assert [line["tiles"] for line in lines if line is not tiled] == [""]


@pytest.mark.parametrize(
    ("length_mm", "said"),
    [
        (0.456, "about 0.46 mm"),
        (22.8, "about 23 mm"),
        (121.3, "about 120 mm"),
        (1_951.0, "about 2,000 mm"),
    ],
)
def test_a_length_is_told_no_finer_than_it_is_meant(length_mm: float, said: str) -> None:
    assert tiles.length_text(length_mm) == f"{said}, indicative"


# --------------------------------------------------------------------------------------- speed


@contextmanager
def statements() -> Iterator[list[tuple[str, Any]]]:
    asked: list[tuple[str, Any]] = []

    @event.listens_for(Engine, "before_cursor_execute")
    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        asked.append((statement, parameters))

    try:
        yield asked
    finally:
        event.remove(Engine, "before_cursor_execute", note)


def test_a_station_of_crops_is_asked_for_photographs_by_a_look_at_one_page(
    station: Station,
) -> None:
    fill(station.database, 2_000, NOON)
    with statements() as asked:
        assert summary_of(station, Window(NOON - timedelta(days=2), NOON)).inspected == 2_000
    about = [statement for statement, _ in asked if "photographs" in statement]
    assert about
    assert all("JOIN" not in each and "LIMIT" in each for each in about)


def test_photographs_lead_to_their_rows_and_only_those_listed_are_read(station: Station) -> None:
    fill(station.database, 2_000, NOON)
    anomalies = range(33, 2_001, 33)
    with closing(sqlite3.connect(station.database)) as connection, connection:
        made = photograph_row(0, photograph())
        places = ", ".join(f":{name}" for name in made)
        connection.executemany(
            f"INSERT INTO photographs ({', '.join(made)}) VALUES ({places})",
            [{**made, "inspection_id": id} for id in anomalies],
        )
    with statements() as asked:
        found = summary_of(station, Window(NOON - timedelta(days=2), NOON), limit=5)
    assert sum(each.photograph is not None for each in found.anomalies) == 5
    ((_, listed),) = [each for each in asked if "photographs.inspection_id IN" in each[0]]
    assert set(listed) == set(list(anomalies)[-5:])
    ((counting, parameters),) = [
        each for each in asked if "GROUP BY" in each[0] and "JOIN" in each[0]
    ]
    with closing(sqlite3.connect(station.database)) as connection:
        plan = [row[-1] for row in connection.execute(f"EXPLAIN QUERY PLAN {counting}", parameters)]
    assert "SEARCH photographs USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)" in plan
    assert "SEARCH inspections USING INTEGER PRIMARY KEY (rowid=?)" in plan
    assert not any("inspections" in step and "SCAN" in step for step in plan)
