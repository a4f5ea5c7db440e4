"""The demo shows a real station at work and tells its misses as plainly as its hits."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from rich.console import Console

from crackwatch import demo
from crackwatch.demo import Dropped, Judged
from crackwatch.domain import Label

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)


def play(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """The demo in a process of its own, its temporary folder inside ``folder``."""
    return subprocess.run(
        [sys.executable, "-m", "crackwatch.demo", *arguments],
        env={**os.environ, "TMPDIR": str(folder), "CRACKWATCH_FOLDERS__INBOX": "elsewhere"},
        capture_output=True,
        text=True,
        timeout=280,  # some 10 s, unless the machine is busy with other things
        check=False,
    )


@pytest.mark.timeout(300)
def test_every_picture_is_judged_reported_and_accounted_for(tmp_path: Path) -> None:
    station = tmp_path / "station"
    done = play("--pictures", "7", "--keep", str(station), folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    for number in range(7):
        assert f"drawn-{number:03}.jpg" in done.stdout
    assert "2 with a crack" in done.stdout
    assert "5 without" in done.stdout
    assert "not judged" not in done.stdout
    assert "Inspected" in done.stdout  # the report itself
    assert "SIGTERM: the daemon ended with status 0" in done.stdout
    assert "These pictures are drawn" in done.stdout
    assert "\x1b" not in done.stdout  # colour is for terminals
    config = str(station / "config.toml")
    report = subprocess.run(
        [sys.executable, "-m", "crackwatch", "report", "--format", "json", "--config", config],
        capture_output=True,
        check=True,
        timeout=60,
    )
    assert json.loads(report.stdout)["inspected"] == 7  # the station that was kept still answers


def test_a_folder_that_is_not_empty_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.toml").write_text("mine")
    assert demo.main(["--keep", str(tmp_path)]) == 2
    assert "not an empty folder" in capsys.readouterr().err
    assert (tmp_path / "config.toml").read_text() == "mine"


def test_a_station_that_is_not_kept_leaves_nothing_behind() -> None:
    with demo.folder_for(None) as folder:
        (folder / "inbox").mkdir()
    assert not folder.exists()


def test_a_daemon_that_ends_by_itself_is_told_with_its_last_words(tmp_path: Path) -> None:
    """The station was never made, so the daemon has no settings."""
    station = demo.Station(tmp_path)
    with pytest.raises(demo.DemoError, match="status"):
        station.start()
    station.stop()


def test_both_kinds_of_producer_and_every_third_with_a_crack(tmp_path: Path) -> None:
    dropped = [demo.drop(tmp_path, number, seed=5) for number in range(6)]
    assert [each.truth for each in dropped].count(Label.ANOMALY) == 2
    assert {each.written for each in dropped} == {"renamed", "in place"}
    assert sorted(file.name for file in tmp_path.iterdir()) == [each.name for each in dropped]


@pytest.mark.parametrize(
    ("truth", "judged", "word"),
    [
        (Label.ANOMALY, Judged(Label.ANOMALY, 0.9, NOON), "hit"),
        (Label.ANOMALY, Judged(Label.NORMAL, 0.1, NOON), "escape"),
        (Label.NORMAL, Judged(Label.ANOMALY, 0.9, NOON), "false alarm"),
        (Label.NORMAL, Judged(Label.NORMAL, 0.1, NOON), "right"),
        (Label.ANOMALY, Judged(None, None, NOON), "not judged"),
        (Label.NORMAL, None, "not judged"),
    ],
)
def test_each_picture_is_called_what_it_is(truth: Label, judged: Judged | None, word: str) -> None:
    assert demo.outcome(truth, judged)[0] == word


def test_misses_are_told_with_the_hits() -> None:
    truths = [Label.ANOMALY] * 5 + [Label.NORMAL] * 4
    verdicts = [Label.ANOMALY] * 3 + [Label.NORMAL] * 2 + [Label.ANOMALY] + [Label.NORMAL] * 2
    dropped = [Dropped(f"{i}.jpg", truth, "renamed", NOON) for i, truth in enumerate(truths)]
    judged = {
        f"{i}.jpg": Judged(verdict, 0.5, NOON + timedelta(seconds=i))
        for i, verdict in enumerate(verdicts)
    }
    out = io.StringIO()
    demo.tell(Console(file=out, width=100), dropped, judged)
    text = out.getvalue()
    assert "5 with a crack: 3 found, 2 escaped." in text
    assert "4 without: 2 passed, 1 false alarms." in text
    assert "1 not judged." in text
    assert "median 4.00 s, longest 7.00 s" in text
    assert text.count("escape") == 3  # two rows and the count


def test_the_csv_report_is_read_by_name() -> None:
    table = (
        "id,inspected_at,outcome,score,source\n"
        "1,2026-11-01T12:00:00+00:00,anomaly,0.75,a.jpg\n"
        "2,2026-11-01T13:00:00+01:00,quarantined,,b.jpg\n"
    )
    assert demo.read_lines(table) == {
        "a.jpg": Judged(Label.ANOMALY, 0.75, NOON),
        "b.jpg": Judged(None, None, NOON),
    }


@pytest.mark.parametrize("arguments", [["--pictures", "0"], ["--seed", "-1"], ["--loud"]])
def test_senseless_arguments_are_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        demo.main(arguments)
    assert caught.value.code == 2
