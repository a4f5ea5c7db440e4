"""A station that is given another name neither counts its pictures again nor forgets its moves."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from crackwatch import belonging, naming, packaged
from crackwatch.cli import execute
from crackwatch.config_file import load
from crackwatch.domain import DepartureKind, Place
from crackwatch.errors import UsageError
from crackwatch.requeue import departure_of
from crackwatch.settings import Settings
from crackwatch.store import renaming
from crackwatch.store.engine import open_writer
from tests.leaving import rows_of
from tests.station import Station, jpeg
from tests.test_daemon import Process, crackwatch, drawn
from tests.test_daemon import station as made

__all__ = ["made"]  # fixtures


@pytest.fixture
def station(tmp_path: Path) -> Station:
    return Station(tmp_path)


def named(station: Station, name: str) -> Settings:
    config = station.root / "config.toml"
    config.write_text(f'[station]\nname = "{name}"\n')
    return load(config, {})


def settled(station: Station, name: str = "station") -> Settings:
    """A station that has run under that name."""
    settings = named(station, name)
    belonging.adopt(station.inbox, settings.folders.state, name)
    naming.remember(settings)
    return settings


def required(station: Station, settings: Settings) -> None:
    engine = open_writer(station.database)
    naming.require_same(settings, lambda name: renaming.recorded_as(engine, name))


def kept(station: Station, *names: str) -> None:
    for seed, name in enumerate(names):
        station.put(name, jpeg(dark=False, seed=seed))
    station.inspect(*names)


def test_another_name_is_refused_while_rows_bear_the_old_one(station: Station) -> None:
    kept(station, "a.jpg", "b.jpg")
    required(station, settled(station))
    with pytest.raises(UsageError) as caught:
        required(station, named(station, "north"))
    assert all(each in caught.value.problem for each in ("'north'", "'station'", "2 pictures"))
    assert "crackwatch db rename" in caught.value.remedy


def test_a_station_that_inspected_nothing_may_be_renamed(station: Station) -> None:
    settled(station)
    required(station, named(station, "north"))


def test_one_that_never_wrote_its_name_down_and_one_without_an_identity_go_on(
    station: Station,
) -> None:
    kept(station, "a.jpg")
    required(station, named(station, "north"))
    belonging.adopt(station.inbox, station.root / "state", "south")
    required(station, named(station, "north"))


def test_a_second_station_in_the_same_database_is_not_taken_for_the_first(
    station: Station, tmp_path: Path
) -> None:
    kept(station, "a.jpg")
    settled(station)
    other = Station(tmp_path / "other")
    settings = settled(other, "north")
    naming.require_same(
        settings, lambda name: renaming.recorded_as(open_writer(station.database), name)
    )


def test_every_table_is_renamed_at_once_or_none(station: Station) -> None:
    kept(station, "a.jpg")
    station.put("c.jpg", jpeg(dark=True))
    station.inspect("c.jpg")
    rows = rows_of(station)
    (picture,) = rows.oldest(Place.FLAGGED)
    rows.begin([departure_of(picture, DepartureKind.EXPIRY)], "retention")
    engine = open_writer(station.database)
    assert renaming.rename(engine, "station", "north") == 2
    with closing(sqlite3.connect(station.database)) as books:
        for table in ("inspections", "departures"):
            assert books.execute(f"SELECT DISTINCT station FROM {table}").fetchall() == [("north",)]
        tables = [
            name for (name,) in books.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        ]
        with_names = {
            table
            for table in tables
            if any(
                column[1] == "station" for column in books.execute(f"PRAGMA table_info({table})")
            )
        }
    assert {table.name for table in renaming._NAMED} == with_names
    kept(station, "d.jpg")
    with pytest.raises(UsageError, match="already"):
        renaming.rename(engine, "north", "station")
    assert renaming.recorded_as(engine, "north") == 2


@pytest.mark.parametrize(
    "arguments", [["audit"], ["audit", "--repair"], ["requeue", "--all"], ["retention"]]
)
def test_no_command_that_mends_works_under_another_name(
    station: Station, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    kept(station, "a.jpg")
    settled(station)
    settings = named(station, "north")
    config = ["--config", str(settings.file)]
    assert execute([*arguments, *config]) == 2
    assert "'station'" in capsys.readouterr().err
    assert execute(["db", "rename", *config]) == 0
    assert "1 inspections of 'station' are 'north' now" in capsys.readouterr().out
    assert execute([*arguments, *config]) == 0
    assert execute(["db", "rename", *config]) == 2


def test_a_name_that_nobody_wrote_down_has_to_be_told(
    station: Station, capsys: pytest.CaptureFixture[str]
) -> None:
    kept(station, "a.jpg")
    config = ["--config", str(named(station, "north").file)]
    assert execute(["db", "rename", *config]) == 2
    assert "--from" in capsys.readouterr().err
    assert execute(["db", "rename", "--from", "station", *config]) == 0
    assert {row["station"] for row in station.rows()} == {"north"}


@contextmanager
def renamed(station: Process, name: str) -> Iterator[None]:
    text = station.config.read_text()
    station.config.write_text(text.replace('name = "station"', f'name = "{name}"'))
    yield
    station.config.write_text(text)


@pytest.mark.skipif(
    not (packaged.starter() / "lenet.keras").is_file(), reason="the starter model is not here"
)
def test_a_station_renamed_in_its_settings_alone_does_not_count_its_pictures_again(
    made: Process,
) -> None:
    config = made.config
    for index, data in enumerate(drawn(3)):
        (made.inbox / f"{index}.jpg").write_bytes(data)
    assert crackwatch("run", "--once", "--config", config).returncode == 0
    before = made.rows()
    with renamed(made, "north"):
        refused = crackwatch("run", "--once", "--config", config)
        assert refused.returncode == 2
        assert "'station'" in refused.stderr and "crackwatch db rename" in refused.stderr
        assert made.rows() == before
        assert crackwatch("db", "rename", "--config", config).returncode == 0
        assert crackwatch("run", "--once", "--config", config).returncode == 0
        assert [row["station"] for row in made.rows()] == ["north"] * len(before)
        made.start()
        assert crackwatch("db", "rename", "--config", config).returncode == 3
        assert made.stop()[0] == 0
        assert made.audit()["ok"]
    assert crackwatch("run", "--once", "--config", config).returncode == 2
