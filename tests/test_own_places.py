"""Nothing is moved below a mount point, or into a folder of another station's."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from crackwatch import belonging, own_places
from crackwatch.belonging import IDENTITY_FILE
from crackwatch.cli import execute
from crackwatch.config_file import load
from crackwatch.domain import MoveResult, Place
from crackwatch.errors import SystemFault, UsageError
from crackwatch.filing.mover import Mover
from crackwatch.inbox import FOLDER_MARKER
from crackwatch.own_places import OwnPlaces
from crackwatch.settings import Settings
from crackwatch.store.newest import in_file
from tests.leaving import audited
from tests.station import Station, jpeg

FOLDERS = ("flagged", "archive", "quarantine")
MARKER = os.fsdecode(FOLDER_MARKER)


def told(root: Path, text: str = "") -> Settings:
    (root / "config.toml").write_text(text)
    return load(root / "config.toml", {})


def adopted(root: Path, text: str = "") -> Settings:
    """A station whose folders are all marked as its own."""
    settings = told(root, text)
    belonging.adopt(settings.folders.inbox, settings.folders.state, settings.station.name)
    for place, folder in own_places.folders_of(settings).items():
        own_places.adopt(place, folder, settings.folders.state, settings.station.name)
    return settings


def places(settings: Settings, *, adopts: bool = False) -> OwnPlaces:
    return OwnPlaces(settings, in_file(settings.database_file, "station"), adopts=adopts)


def fault(asked: OwnPlaces, place: Place = Place.FLAGGED) -> SystemFault:
    with pytest.raises(SystemFault) as caught:
        asked.check(place)
    return caught.value


def earlier(station: Station) -> Settings:
    """A station whose inbox has a marker, and whose other folders have none yet."""
    settings = told(station.root)
    belonging.adopt(settings.folders.inbox, settings.folders.state, settings.station.name)
    return settings


def flagged(station: Station, *names: str) -> list[Path]:
    for seed, name in enumerate(names):
        station.put(name, jpeg(dark=True, seed=seed))
    station.inspect(*names)
    return [station.root / "flagged" / "2026-11-23" / name for name in names]


# ----------------------------------------------------------------------------- whose a folder is


@pytest.fixture
def station(tmp_path: Path) -> Station:
    return Station(tmp_path, normal="archive")


@pytest.mark.parametrize("place", list(own_places.KEYS))
def test_a_folder_that_is_not_mounted_is_waited_for(station: Station, place: Place) -> None:
    settings = adopted(station.root)
    asked = places(settings)
    asked.check_all()
    folder = station.root / own_places.KEYS[place]
    folder.rename(station.root / "disk")
    found = fault(asked, place)
    assert (found.code, str(folder) in found.problem) == ("folder_missing", True)
    folder.mkdir()  # what lies below the mount
    found = fault(asked, place)
    assert (found.code, str(folder) in found.problem) == ("folder_unmarked", True)
    assert f"crackwatch init {station.root}" in found.remedy
    folder.rmdir()
    (station.root / "disk").rename(folder)
    asked.check_all()


def test_adopting_again_changes_nothing_and_another_folder_is_adopted_anew(
    station: Station,
) -> None:
    settings = adopted(station.root)
    state, folder = settings.folders.state, settings.folders.flagged
    before = (state / IDENTITY_FILE).read_bytes(), (folder / MARKER).read_bytes()
    assert own_places.adopt(Place.FLAGGED, os.fsencode(folder), state, "station") is None
    assert ((state / IDENTITY_FILE).read_bytes(), (folder / MARKER).read_bytes()) == before
    folder.rename(station.root / "disk")
    folder.mkdir()
    assert own_places.adopt(Place.FLAGGED, os.fsencode(folder), state, "station") is not None
    asked = places(settings)
    asked.check_all()
    shutil.rmtree(folder)
    (station.root / "disk").rename(folder)
    assert "adopted last" in fault(asked).problem


def test_an_inbox_that_is_adopted_anew_leaves_the_other_folders_the_stations(
    station: Station,
) -> None:
    settings = adopted(station.root)
    shutil.rmtree(station.inbox)
    station.inbox.mkdir()
    belonging.adopt(station.inbox, settings.folders.state, "station")
    places(settings).check_all()


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b'{"station": 1}'])
def test_a_marker_that_says_nothing_is_none(station: Station, text: bytes) -> None:
    settings = adopted(station.root)
    (settings.folders.flagged / MARKER).write_bytes(text)
    assert fault(places(settings)).code == "folder_unmarked"


def test_a_station_that_does_not_know_who_it_is_files_as_it_did(station: Station) -> None:
    settings = told(station.root)
    places(settings, adopts=True).check_all()
    assert not list(station.root.glob(f"*/{MARKER}"))


def test_a_station_of_an_earlier_version_marks_its_folders_by_itself(station: Station) -> None:
    flagged(station, "a.jpg")
    settings = earlier(station)
    asked = places(settings, adopts=True)
    asked.check_all()
    assert {path.parent.name for path in station.root.glob(f"*/{MARKER}")} == set(FOLDERS)
    asked.check_all()
    assert all(asked.known(place) for place in own_places.KEYS)
    (settings.folders.flagged / MARKER).unlink()
    assert fault(asked).code == "folder_unmarked"


def test_but_not_where_nothing_is_seen_of_what_it_filed_there(station: Station) -> None:
    flagged(station, "a.jpg", "b.jpg")
    settings = earlier(station)
    asked = places(settings, adopts=True)
    folder = settings.folders.flagged
    folder.rename(station.root / "disk")
    folder.mkdir()
    found = fault(asked)
    assert (found.code, "filed there last" in found.problem) == ("folder_unmarked", True)
    assert not (folder / MARKER).exists()
    folder.rmdir()
    assert fault(asked).code == "folder_unmarked"
    (station.root / "disk").rename(folder)
    asked.check(Place.FLAGGED)
    assert (folder / MARKER).exists()


def test_who_only_looks_marks_nothing(station: Station) -> None:
    flagged(station, "a.jpg")
    places(earlier(station)).check_all()
    assert not list(station.root.glob(f"*/{MARKER}"))


def test_a_user_who_may_not_write_there_goes_on_as_before(
    station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    settings = earlier(station)
    monkeypatch.setattr(belonging, "put_document", refuse)
    places(settings, adopts=True).check_all()


def test_no_audit_finds_a_marker_odd(station: Station) -> None:
    flagged(station, "a.jpg")
    adopted(station.root)
    assert audited(station).ok


# -------------------------------------------------------------------------------------- the moves


def test_a_move_waits_for_its_folder_and_is_not_made_below_the_mount(station: Station) -> None:
    settings = adopted(station.root)
    mover = Mover(os.fsencode(station.inbox), station.places, standing=places(settings).check)
    station.put("a.jpg", jpeg(dark=True))
    with station.pipeline(mover=mover) as pipeline:
        pipeline.inspect(station.batch("a.jpg"), station.judging())
        folder = settings.folders.flagged
        folder.rename(station.root / "disk")
        for below in (None, folder):
            if below is not None:
                below.mkdir()
            with pytest.raises(SystemFault):
                pipeline.file()
            assert (station.inbox / "a.jpg").exists()
            assert below is None or not any(below.iterdir())
        assert folder.exists() and not any(folder.iterdir())
        folder.rmdir()
        (station.root / "disk").rename(folder)
        report = pipeline.file()
        pipeline.close()
    assert (report.vanished, report.refused) == ((), ())
    assert (folder / "2026-11-23" / "a.jpg").exists()
    assert audited(station).ok


def test_a_disk_that_goes_away_within_a_batch_is_missed_at_the_next_move(
    station: Station,
) -> None:
    settings = adopted(station.root)
    mover = Mover(os.fsencode(station.inbox), station.places, standing=places(settings).check)
    for name in ("a.jpg", "b.jpg"):
        station.put(name, jpeg(dark=True, seed=ord(name[0])))
    with station.pipeline(mover=mover) as pipeline:
        done = pipeline.inspect(station.batch("a.jpg", "b.jpg"), station.judging())
        first, second = done.recorded.filings
        assert mover.file(first).result is MoveResult.DONE
        settings.folders.flagged.rename(station.root / "disk")
        settings.folders.flagged.mkdir()
        with pytest.raises(SystemFault) as caught:
            mover.file(second)
    assert caught.value.code == "folder_unmarked"
    assert (station.inbox / "b.jpg").exists()


def test_a_move_that_was_made_before_is_not_given_up_while_its_folder_is_away(
    station: Station,
) -> None:
    """Killed between the rename and the row: the picture lies where nobody can see it just now."""
    settings = adopted(station.root)
    station.put("a.jpg", jpeg(dark=True))
    with station.pipeline() as pipeline:
        done = pipeline.inspect(station.batch("a.jpg"), station.judging())
    (filing,) = done.recorded.filings
    assert station.mover.file(filing).result is MoveResult.DONE
    mover = Mover(os.fsencode(station.inbox), station.places, standing=places(settings).check)
    settings.folders.flagged.rename(station.root / "disk")
    with pytest.raises(SystemFault):
        mover.file(filing)
    (station.root / "disk").rename(settings.folders.flagged)
    assert mover.file(filing).result is MoveResult.DONE


# ------------------------------------------------------------------------------------- commands


@pytest.mark.parametrize(
    "arguments",
    [
        ("audit",),
        ("audit", "--repair"),
        ("audit", "--repair", "--dry-run"),
        ("retention",),
        ("retention", "--dry-run"),
        ("requeue", "--all"),
        ("requeue", "--all", "--dry-run"),
    ],
)
def test_what_cannot_be_seen_is_not_gone(
    station: Station, arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    flagged(station, "a.jpg")
    station.put("text.jpg", b"no picture")
    station.inspect("text.jpg", waited=True)
    settings = adopted(station.root, "[retention]\nflagged_max_days = 0.0000001\n")
    key = "quarantine" if "requeue" in arguments else "flagged"
    folder = station.root / key
    config = ["--config", str(settings.file)]
    folder.rename(station.root / "disk")
    for below in (False, True):
        if below:
            folder.mkdir()
        assert execute([*arguments, *config]) == 2
        assert f"{folder}: " in capsys.readouterr().err
    rows = station.rows()
    assert not any(row["vanished_at"] or row["expired_at"] for row in rows)
    folder.rmdir()
    (station.root / "disk").rename(folder)
    assert execute(["audit", *config]) == 0


def test_a_departure_that_was_begun_waits_for_its_folder(station: Station) -> None:
    from crackwatch.departures import Departing
    from crackwatch.domain import DepartureKind
    from crackwatch.filing.leaving import Leaver
    from crackwatch.requeue import departure_of
    from tests.leaving import folders_of, rows_of

    flagged(station, "a.jpg")
    settings = adopted(station.root)
    rows = rows_of(station)
    (picture,) = rows.oldest(Place.FLAGGED)
    rows.begin([departure_of(picture, DepartureKind.EXPIRY)], "retention")
    (begun,) = rows.open()
    rows.expire([picture.id])
    settings.folders.flagged.rename(station.root / "disk")
    departing = Departing(rows, Leaver(folders_of(station), lambda: None, places(settings).check))
    with pytest.raises(SystemFault):
        departing.resume()
    assert [each.id for each in rows.open()] == [begun.id]
    (station.root / "disk").rename(settings.folders.flagged)
    departing.resume()
    assert rows.open() == []
    assert audited(station).ok


# -------------------------------------------------------------------------------- two stations


def two(tmp_path: Path, second: str) -> tuple[Settings, Settings]:
    """Two stations, the second of which is to use the first one's flagged folder."""
    for name in ("one", "two"):
        Station(tmp_path / name)
    first = adopted(tmp_path / "one")
    text = f'[station]\nname = "{second}"\n[folders]\nflagged = "{first.folders.flagged}"\n'
    return first, told(tmp_path / "two", text)


@pytest.mark.parametrize("name", ["station", "south"])
def test_a_folder_of_another_station_is_refused(tmp_path: Path, name: str) -> None:
    """Also where both have the name that config.toml comes with."""
    first, second = two(tmp_path, name)
    with pytest.raises(UsageError, match="another station"):
        own_places.require_free(second)
    belonging.adopt(second.folders.inbox, second.folders.state, name)
    found = fault(places(second, adopts=True))
    assert (found.code, "'station'" in found.problem) == ("folder_foreign", True)
    assert str(first.folders.flagged) in found.problem
    places(first).check_all()


def test_repair_does_not_take_another_stations_pictures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = Station(tmp_path / "one")
    (path,) = flagged(one, "a.jpg")
    _, second = two(tmp_path, "south")
    for arguments in (["audit"], ["audit", "--repair"], ["audit", "--accept", "1"]):
        assert execute([*arguments, "--config", str(second.file)]) == 2
        assert "another station" in capsys.readouterr().err
    assert path.exists()


def test_a_station_takes_the_place_of_one_that_is_no_more(tmp_path: Path) -> None:
    """As on a new machine, where only folders and config.toml were brought along."""
    first, second = two(tmp_path, "station")
    shutil.rmtree(first.folders.state)
    own_places.require_free(second)
    adopted(tmp_path / "two", second.file.read_text())
    places(second).check_all()


def test_the_station_whose_folder_was_taken_over_waits(tmp_path: Path) -> None:
    first, second = two(tmp_path, "south")
    asked = places(first)
    asked.check_all()
    adopted(tmp_path / "two", second.file.read_text())
    assert "'south'" in fault(asked).problem


def test_init_refuses_and_takes_over_when_it_is_told_to(made_station: Path, tmp_path: Path) -> None:
    from tests.test_daemon import crackwatch

    one, other = tmp_path / "one", tmp_path / "two"
    for root in (one, other):
        root.mkdir()
        shutil.copyfile(made_station / "config.toml", root / "config.toml")
        shutil.copytree(made_station / "models", root / "models")
    assert crackwatch("init", one).returncode == 0
    config = other / "config.toml"
    config.write_text(config.read_text().replace('"flagged"', f'"{one / "flagged"}"'))
    refused = crackwatch("init", other)
    assert (refused.returncode, "another station" in refused.stderr) == (2, True)
    assert "--take-over" in refused.stderr
    ran = crackwatch("run", "--once", "--config", config)
    assert (ran.returncode, "another station" in ran.stderr) == (2, True)
    taken = crackwatch("init", "--take-over", other)
    assert taken.returncode == 0, taken.stderr
    assert f"marked    {one / 'flagged'}/ as this station's flagged folder" in taken.stdout
    assert crackwatch("audit", "--config", config).returncode == 0
    waits = crackwatch("audit", "--config", one / "config.toml")
    assert (waits.returncode, "another station" in waits.stderr) == (2, True)
    again = crackwatch("init", other)
    assert (again.returncode, "marked" in again.stdout) == (0, False)
    assert json.loads((other / "state" / IDENTITY_FILE).read_text())["folders"].keys() == set(
        FOLDERS
    )
    assert subprocess.run(["ls", one / "flagged"], capture_output=True).stdout == b""
