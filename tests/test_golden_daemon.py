"""Claims about a whole station whose model stops scoring its golden pictures: it waits, and tells."""

from __future__ import annotations

import csv
import io
import json
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from crackwatch import packaged
from tests.test_daemon import Process, crackwatch, drawn

pytestmark = pytest.mark.skipif(
    not (packaged.starter() / "lenet.keras").is_file(), reason="the starter model is not here"
)


@pytest.fixture
def station(made_station: Path, tmp_path: Path) -> Iterator[Process]:
    root = tmp_path / "station"
    shutil.copytree(made_station, root)
    process = Process(root)
    yield process
    if process.child is not None and process.child.poll() is None:
        process.child.kill()
        process.child.wait()


def expect_other_scores(station: Process, model_id: str, off: float) -> str:
    """Lets the card expect scores ``off`` away from what it did; its text before."""
    file = station.root / "models" / model_id / "card.json"
    before = file.read_text()
    document = json.loads(before)
    expected = document["golden"]["expected"]
    expected["openvino/f32"] = [abs(score - off) for score in expected["openvino/f32"]]
    replace_card(station, model_id, json.dumps(document))
    return before


def replace_card(station: Process, model_id: str, text: str) -> None:
    """In one step: the daemon reads it whenever it likes."""
    (station.root / "card.part").write_text(text)
    (station.root / "card.part").rename(station.root / "models" / model_id / "card.json")


def containment(station: Process, *arguments: str) -> tuple[int, dict[str, Any]]:
    done = crackwatch("containment", "--config", station.config, "--format", "json", *arguments)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def champion(station: Process) -> str:
    return (station.root / "models" / "champion").read_text().strip()


def beats(station: Process) -> list[tuple[int, int]]:
    with closing(sqlite3.connect(station.database)) as books:
        return books.execute(
            "SELECT good, newest_inspection FROM heartbeats ORDER BY id"
        ).fetchall()


def test_a_station_whose_model_goes_wrong_stops_judging_tells_what_is_in_doubt_and_resumes(
    station: Process,
) -> None:
    station.start(CRACKWATCH_MODEL__GOLDEN_EVERY_S="1")
    station.wait_until(lambda: bool(beats(station)))
    picture = drawn(1)[0]
    dropped = 0

    def drop() -> None:
        nonlocal dropped
        (station.inbox / f"{dropped:04}.jpg").write_bytes(picture)
        dropped += 1
        time.sleep(0.05)

    while station.count() < 3:
        drop()
    model = champion(station)
    card = expect_other_scores(station, model, 2e-3)
    while station.status()["state"] != "unhealthy":
        drop()
    judged = station.count()
    for _ in range(5):
        drop()
    time.sleep(1.5)
    assert station.count() == judged < dropped

    asked = crackwatch("status", "--config", station.config, "--format", "json")
    status = json.loads(asked.stdout)
    assert (asked.returncode, status["state"]) == (1, "unhealthy")
    assert status["last_golden"]["good"] is False
    assert status["last_golden"]["largest_difference"] == pytest.approx(2e-3, rel=0.1)
    errors = [each["code"] for each in status["problems"] if each["severity"] == "error"]
    assert errors == ["golden_failed"]
    assert status["inbox_pending"] == dropped - judged
    shown = crackwatch("status", "--config", station.config).stdout
    assert "NOT scored as published" in shown
    assert station.log.read_text().count('"verdict_in_doubt"') > 0

    goods = [newest for good, newest in beats(station) if good]
    returned, document = containment(station)
    assert (returned, document["open"]) == (1, True)
    (incident,) = document["incidents"]
    doubted = [each["id"] for each in incident["inspections"]]
    assert doubted == list(range(goods[-1] + 1, judged + 1))
    assert len(doubted) == incident["in_doubt"] > 0
    for each in incident["inspections"]:
        assert Path(each["path"]).is_file()
        assert each["verdict"] in ("normal", "anomaly")
        assert each["model"] == incident["model"] == model

    replace_card(station, model, card)
    station.wait_until(lambda: station.count() == dropped)
    station.wait_until(lambda: station.status()["state"] == "running")
    assert station.stop()[0] == 0
    assert station.audit()["ok"]
    returned, later = containment(station)
    assert (returned, later["open"]) == (0, False)
    assert later["incidents"][0]["inspections"] == incident["inspections"]
    table = crackwatch("containment", "--config", station.config, "--since", "today")
    assert f"in doubt   {len(doubted)} inspections" in table.stdout
    _, one = containment(station, "--beat", str(incident["beat"]))
    assert one == later
    lines = crackwatch(
        "containment", "--config", station.config, "--format", "csv", "--since", "today"
    ).stdout
    assert [int(each["id"]) for each in csv.DictReader(io.StringIO(lines))] == doubted


def test_a_station_that_starts_with_a_failing_model_waits_for_another_one(
    station: Process,
) -> None:
    first = champion(station)
    models = station.root / "models"
    shutil.copytree(models / first, models / "second")
    card = json.loads((models / "second" / "card.json").read_text())
    (models / "second" / "card.json").write_text(json.dumps({**card, "id": "second"}))
    expect_other_scores(station, first, 2e-3)
    (station.inbox / "a.jpg").write_bytes(drawn(1)[0])

    once = crackwatch("run", "--once", "--config", station.config)
    assert once.returncode == 4
    assert "does not score its golden pictures" in once.stderr
    assert "models rollback" in once.stderr
    assert station.count() == 0
    assert (station.inbox / "a.jpg").is_file()

    station.start(wait=False)
    station.wait_until(lambda: station.status()["state"] == "unhealthy")
    promoted = crackwatch("models", "promote", "second", "--config", station.config)
    assert promoted.returncode == 0, promoted.stderr
    station.wait_until(lambda: station.count() == 1)
    station.wait_until(lambda: station.status()["state"] == "running")
    assert station.stop()[0] == 0
    returned, document = containment(station)
    assert (returned, document["open"]) == (0, False)
    (incident,) = document["incidents"]  # of both processes: no good beat came between them
    assert (incident["model"], incident["in_doubt"], incident["last_good_at"]) == (first, 0, None)


def test_a_beat_that_was_not_bad_has_no_containment_list(station: Process) -> None:
    (station.inbox / "a.jpg").write_bytes(drawn(1)[0])
    assert crackwatch("run", "--once", "--config", station.config).returncode == 0
    assert [good for good, _ in beats(station)] == [1, 1]  # at the start and at the end
    asked = crackwatch("containment", "--config", station.config, "--beat", "1")
    assert asked.returncode == 2
    assert "beat 1 is not a bad one" in asked.stderr
    both = crackwatch("containment", "--config", station.config, "--beat", "1", "--since", "today")
    assert both.returncode == 2
    returned, document = containment(station)
    assert (returned, document) == (0, {"open": False, "incidents": []})
