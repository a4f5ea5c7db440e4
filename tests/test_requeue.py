"""Quarantined pictures go back into the inbox once, whatever happens on the way."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from crackwatch.cli import execute
from crackwatch.departures import Departed
from crackwatch.domain import DepartureKind, DepartureResult
from crackwatch.requeue import departure_of
from tests.disks import another_file_system
from tests.leaving import audited, departing, killed_at, rows_of
from tests.station import Station, jpeg


@pytest.fixture
def station(tmp_path: Path) -> Station:
    (tmp_path / "config.toml").write_text('[images]\nlarger = "quarantine"\n')
    return Station(tmp_path)


def spoil(station: Station, *names: str) -> None:
    """Inspects files that are no pictures: they are in quarantine then."""
    for number, name in enumerate(names):
        station.put(name, b"a text, %d" % number)
    station.inspect(*names, waited=True)


def requeue(station: Station, *arguments: str, status: int = 0) -> None:
    config = ["--config", str(station.root / "config.toml"), "--format", "json"]
    assert execute(["requeue", *arguments, *config]) == status


def send_back(station: Station) -> list[Departed]:
    asked = [
        (departure_of(each, DepartureKind.RETURN), each.source)
        for each in rows_of(station).quarantined()
    ]
    out = departing(station)
    done = out.resume()
    for some in out.back_to_inbox(asked, "anna"):
        done += some
    return done


def standings(station: Station) -> list[tuple[str, bool]]:
    return [(row["place"], row["superseded_at"] is not None) for row in station.rows()]


def test_a_picture_goes_back_under_its_own_path_and_is_a_new_arrival(
    station: Station, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(station, "deep/er/a.jpg")
    assert station.files() == {
        "quarantine/2026-11-23/deep/er/a.jpg",
        "quarantine/2026-11-23/deep/er/a.jpg.json",
    }
    requeue(station, "--all", "--by", "anna")
    told = json.loads(capsys.readouterr().out)
    assert [(each["id"], each["source"], each["reason"]) for each in told["requeued"]] == [
        (1, "deep/er/a.jpg", "not_an_image")
    ]
    assert told["requeued"][0]["to"] == str(station.inbox / "deep/er/a.jpg")
    assert told["left"] == []
    assert station.files() == {"inbox/deep/er/a.jpg"}
    outcome = audited(station)
    assert outcome.ok
    assert (outcome.counts["superseded"], outcome.counts["pending"]) == (1, 1)
    station.inspect("deep/er/a.jpg", waited=True)
    assert standings(station) == [("quarantined", True), ("quarantined", False)]
    assert station.rows()[1]["duplicate_of"] == 1
    assert audited(station).ok


def test_a_name_that_is_taken_is_not_replaced(station: Station) -> None:
    spoil(station, "a.jpg")
    station.put("a.jpg", b"another file")
    requeue(station, "--all")
    assert (station.inbox / "a.jpg").read_bytes() == b"another file"
    assert (station.inbox / "a (1).jpg").read_bytes() == b"a text, 0"


def test_a_name_that_a_row_still_vouches_for_is_not_taken(station: Station) -> None:
    """Else the row of a kept picture that was lost would be superseded, and nobody would know."""
    spoil(station, "a.jpg")
    station.put("a.jpg", jpeg(dark=False))
    station.inspect("a.jpg")
    (station.inbox / "a.jpg").unlink()
    requeue(station, "--all")
    assert station.files() == {"inbox/a (1).jpg"}
    assert [each.kind for each in audited(station).findings] == ["missing"]


def test_a_file_in_the_place_of_its_folder_costs_the_folder(station: Station) -> None:
    spoil(station, "deep/a.jpg")
    (station.inbox / "deep").rmdir()
    station.put("deep", b"a file")
    requeue(station, "--all")
    assert station.files() == {"inbox/deep", "inbox/a.jpg"}


def test_pictures_are_chosen_by_reason_time_number_and_path(
    station: Station, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(station, "a.jpg", "b.jpg", "sub/c\\d.jpg")
    station.put("e.jpg", b"")
    station.inspect("e.jpg", waited=True)
    monkeypatch.chdir(station.root / "quarantine")

    def meant(*arguments: str) -> list[int]:
        requeue(station, "--dry-run", *arguments)
        return [each["id"] for each in json.loads(capsys.readouterr().out)["requeued"]]

    assert meant("--all") == [1, 2, 3, 4]
    assert meant("--reason", "empty") == [4]
    assert meant("--reason", "empty", "--reason", "not_an_image") == [1, 2, 3, 4]
    assert meant("--since", "1 hour ago") == [1, 2, 3, 4]
    assert meant("--until", "1 hour ago") == []
    assert meant("--since", "1 hour ago", "--reason", "empty", "4", "1") == [4]
    assert meant("2", "a.jpg") == [1, 2]
    assert meant("2026-11-23/b.jpg", str(station.root / "inbox/a.jpg")) == [1, 2]
    assert meant("sub/c\\\\d.jpg") == [3]  # as report and audit show it
    assert meant(str(station.root / "quarantine/2026-11-23/sub/c\\d.jpg")) == [3]
    assert len(station.files()) == 8  # nothing has moved


def test_what_is_not_understood_is_told(
    station: Station, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(station, "a.jpg")
    requeue(station, status=2)
    assert "nothing says which" in capsys.readouterr().err
    requeue(station, "b.jpg", status=2)
    assert "no quarantined picture" in capsys.readouterr().err
    requeue(station, "--all", "a.jpg", status=2)
    assert "exclude" in capsys.readouterr().err
    requeue(station, "--since", "tomorrow", status=2)
    assert "future" in capsys.readouterr().err


def test_a_flagged_picture_is_not_meant(station: Station) -> None:
    station.put("a.jpg", jpeg(dark=True))
    station.inspect("a.jpg")
    requeue(station, "--all")
    requeue(station, "1", status=2)
    assert station.files() == {"flagged/2026-11-23/a.jpg"}


def test_what_is_gone_or_changed_stays_as_it_is(
    station: Station, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(station, "a.jpg", "b.jpg", "c.jpg")
    day = station.root / "quarantine/2026-11-23"
    (day / "a.jpg").unlink()
    (day / "b.jpg").write_bytes(b"a text, X")
    requeue(station, "--all", status=1)
    told = json.loads(capsys.readouterr().out)
    assert [(each["id"], each["why"]) for each in told["left"]] == [
        (1, "it is not there"),
        (2, "it is not what was inspected"),
    ]
    assert standings(station) == [
        ("quarantined", False),
        ("quarantined", False),
        ("quarantined", True),
    ]
    assert sorted(each.kind for each in audited(station).findings) == ["changed", "missing"]


def test_a_reason_that_a_person_wrote_is_not_removed(station: Station) -> None:
    spoil(station, "a.jpg")
    beside = station.root / "quarantine/2026-11-23/a.jpg.json"
    beside.write_text('{"id": 99, "reason": "mine"}')
    requeue(station, "--all")
    assert beside.exists()


def test_the_table_says_what_went_where(
    station: Station, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(station, "a.jpg")
    config = ["--config", str(station.root / "config.toml")]
    assert execute(["requeue", "--all", "--dry-run", *config]) == 0
    assert "1 would go back" in capsys.readouterr().out
    assert execute(["requeue", "--all", *config]) == 0
    told = capsys.readouterr().out
    assert "1 went back" in told and str(station.inbox / "a.jpg") in told
    assert execute(["requeue", "--all", *config]) == 0
    assert "No quarantined picture" in capsys.readouterr().out


@pytest.mark.parametrize("elsewhere", [False, True], ids=["renamed", "copied"])
def test_killed_anywhere_it_is_in_quarantine_or_in_the_inbox(
    tmp_path: Path, elsewhere: bool
) -> None:
    """Each boundary in turn; the station takes in what is in the inbox before anybody finishes."""
    seen: list[str] = []
    with another_file_system(tmp_path) as memory:  # where syncing costs nothing
        for boundary in range(60):
            root = memory / f"{boundary}"
            root.mkdir()
            if elsewhere:
                (tmp_path / f"{boundary}").mkdir()
                (root / "quarantine").symlink_to(tmp_path / f"{boundary}")
            station = Station(root)
            spoil(station, "sub/a.jpg")
            at = killed_at(partial(send_back, station), boundary)
            if at is None:
                break
            seen.append(at)
            found = [place for place in ("inbox", "quarantine") if _there(station, place)]
            # copied, both have it for a moment; the open departure says which of them is to go
            assert found if elsewhere else len(found) == 1, at
            assert audited(station).findings == (), at
            if "inbox" in found:
                station.inspect("sub/a.jpg", waited=True)
            assert audited(station).findings == (), at
            departing(station).resume()
            assert rows_of(station).open() == []
            outcome = audited(station)
            assert outcome.ok, (at, outcome.findings)
            pictures = [each for each in station.files() if each.endswith(".jpg")]
            assert len(pictures) == 1, at
            assert outcome.counts["quarantined"] + outcome.counts["pending"] == 1, at
            assert (
                outcome.counts["superseded"]
                == len(station.rows()) - (outcome.counts["quarantined"])
            )
        else:
            raise AssertionError("there is no end to the boundaries")
    assert {"before begin", "after begin", "after rename_noreplace", "before end"} <= set(seen)


def _there(station: Station, place: str) -> bool:
    day = "2026-11-23/" if place == "quarantine" else ""
    return os.path.lexists(station.root / place / f"{day}sub/a.jpg")


def test_a_target_that_is_taken_at_the_last_moment_is_changed_for_another(
    station: Station,
) -> None:
    spoil(station, "a.jpg")
    rows = rows_of(station)
    (picture,) = rows.quarantined()
    departure = replace(departure_of(picture, DepartureKind.RETURN), target=b"a.jpg")
    assert len(rows.begin([departure], "anna")) == 1
    station.put("a.jpg", b"somebody was quicker")
    (done,) = departing(station).resume()
    assert done.result is DepartureResult.DONE
    assert (station.inbox / "a (1).jpg").read_bytes() == b"a text, 0"
    assert (station.inbox / "a.jpg").read_bytes() == b"somebody was quicker"


def test_a_picture_departs_once_at_a_time(station: Station) -> None:
    spoil(station, "a.jpg")
    rows = rows_of(station)
    (picture,) = rows.quarantined()
    departure = departure_of(picture, DepartureKind.RETURN)
    assert len(rows.begin([departure], "anna")) == 1
    assert rows.begin([departure], "berta") == []
    assert [each.held for each in rows.quarantined()] == ["departing"]


def test_a_picture_that_is_lost_on_its_way_back_is_missing_until_somebody_accepts_it(
    station: Station, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(station, "a.jpg", "b.jpg")
    requeue(station, "--all", "--by", "anna")
    assert audited(station).ok
    (station.inbox / "a.jpg").unlink()
    outcome = audited(station)
    assert outcome.balances and not outcome.ok
    (finding,) = outcome.of("missing")
    assert (finding.id, os.path.basename(finding.path)) == (1, b"a.jpg")
    assert "sent back into the inbox" in finding.reason
    config = ["--config", str(station.root / "config.toml")]
    assert execute(["audit", "--accept", str(station.inbox / "a.jpg"), "--by", "eva", *config]) == 0
    outcome = audited(station)
    assert outcome.ok
    assert [outcome.counts[word] for word in ("vanished", "superseded", "pending")] == [1, 1, 1]
    assert (station.rows()[0]["vanished_by"], station.rows()[1]["vanished_by"]) == ("eva", None)
    station.inspect("b.jpg", waited=True)
    assert audited(station).ok
    (quarantined,) = (station.root / "quarantine").rglob("b*.jpg")
    quarantined.unlink()
    assert [each.id for each in audited(station).of("missing")] == [3]


def test_a_picture_that_other_content_replaced_on_its_way_back_is_missing(
    station: Station,
) -> None:
    spoil(station, "a.jpg")
    send_back(station)
    station.put("a.jpg", jpeg(dark=False, seed=5))
    station.inspect("a.jpg")
    assert [each.id for each in audited(station).of("missing")] == [1]


@pytest.mark.parametrize(
    ("source", "files"),
    [("cam/x.jpg", "recursive = false"), ("x.jpeg", 'patterns = ["*.jpg"]')],
)
def test_a_picture_goes_back_only_where_the_station_would_look_at_it(
    station: Station, capsys: pytest.CaptureFixture[str], source: str, files: str
) -> None:
    spoil(station, source)
    with (station.root / "config.toml").open("a") as settings:
        settings.write(f"[files]\n{files}\n")
    for dry in (["--dry-run"], []):
        requeue(station, "--all", *dry, status=1)
        told = json.loads(capsys.readouterr().out)
        assert told["requeued"] == []
        (left,) = told["left"]
        assert "[files] patterns, recursive" in left["why"]
    assert standings(station) == [("quarantined", False)]
    assert audited(station).ok
