"""``crackwatch tune`` promises what the scores support, changes a model only when told, and says so."""

from __future__ import annotations

import re
import subprocess
import sys
from math import floor
from pathlib import Path

import cv2
import numpy as np
import pytest

from crackwatch import learned, packaged, promise, synthetic
from crackwatch.cli import execute
from crackwatch.dataset import pixel_hash
from crackwatch.labelled_scores import Examples
from crackwatch.promise import MinRecall
from crackwatch.registry import Registry, read_card
from tests.station import Station, jpeg
from tests.tuning import Tune, everything, publish, some, station_in


@pytest.fixture
def station(tmp_path: Path) -> Path:
    return station_in(tmp_path)


@pytest.fixture
def tune(capsys: pytest.CaptureFixture[str]) -> Tune:
    return Tune(capsys)


# ---------------------------------------------------------------------------------------- goals


def test_undo_puts_back_what_stood_before_and_is_undone_itself(tune: Tune, station: Path) -> None:
    registry = Registry(station / "models")
    published = registry.card("one").threshold
    assert tune(station, "--undo")[0] == 2
    assert tune(station, "--min-recall", "0.98", "--apply")[0] == 0
    tuned = registry.card("one").threshold
    assert tuned != published
    status, out, _ = tune(station, "--undo", "--by", "anna")
    assert (status, registry.card("one").threshold) == (0, published)
    assert f"threshold {published.value:.6g} again (was {tuned.value:.6g})" in out
    last = registry.card("one").decisions[-1]
    assert (last.decided_by, last.old, last.new) == ("anna", tuned, published)
    assert tune.document(station, "--undo")["threshold"] == tuned.value
    assert registry.card("one").threshold == tuned

    photographs = ("--tiles", "2", "--max-false-alarms-per-1000", "100", "--apply")
    assert tune(station, *photographs)[0] == 0
    assert registry.card("one").tiled is not None
    out = tune(station, "--undo")[1]
    assert "threshold of photographs none, but that of single pictures, again" in out
    assert (registry.card("one").tiled, registry.card("one").threshold) == (None, tuned)
    assert tune(station, "--undo", "--min-recall", "0.98")[0] == 2
    assert "--undo goes without --min-recall" in tune(station, "--undo", "--min-recall", "0.9")[2]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ((), "give one goal"),
        (("--min-recall", 0.9, "--max-false-alarms-per-1000", 5), "give one goal"),
        (("--min-recall", 0.9, "--cost-miss", 5, "--cost-false-alarm", 1), "give one goal"),
        (("--cost-miss", 5), "give --cost-false-alarm as well"),
        (("--min-recall", 0.9, "--cost-false-alarm", 5), "give --cost-miss as well"),
        (("--min-recall", 1), "not in the range"),
        (("--min-recall", 0.9, "--confidence", 1), "not in the range"),
        (("--min-recall", 1e-17), "not in the range"),
        (("--min-recall", 0.9, "--confidence", 1e-9), "not in the range"),
        (("--max-false-alarms-per-1000", 1e-310), "not in the range"),
        (("--cost-miss", 0, "--cost-false-alarm", 1), "not in the range"),
        (("--min-recall", "nan"), "nan is not a number"),
        (("--min-recall", 0.9, "--prevalence", "nan"), "nan is not a number"),
        (("--min-recall", 0.9, "--plot", "plot.svg"), "ends in .png"),
    ],
)
def test_exactly_one_goal_is_asked_for(
    station: Path, tune: Tune, arguments: tuple[object, ...], complaint: str
) -> None:
    status, out, err = tune(station, *arguments)
    assert (status, out) == (2, "")
    assert complaint in err


def test_the_document_has_what_was_promised_and_what_it_costs(station: Path, tune: Tune) -> None:
    said = tune.document(station, "--min-recall", 0.98, "--prevalence", 0.03)
    taught = some()
    found = promise.choose(
        Examples.of_logits(taught.logits, taught.labels, taught.groups), MinRecall(0.98), 0.03
    )
    assert said["threshold"] == found.threshold
    assert said["recall_bound"] == found.recall_bound >= 0.98
    assert said["tp"] + said["fn"] == 400
    assert (said["tp"], said["fp"]) == (found.pictures.tp, found.pictures.fp)
    assert said["false_alarms_per_1000_bound"] == found.false_alarms_per_1000_bound
    assert (said["model"], said["source"], said["goal"]) == (
        "one", "out_of_fold", {"min_recall": 0.98},
    )  # fmt: skip
    assert (said["applied"], said["overridden_by"], said["before"]) == (False, None, 0.5)
    at_the_station = said["station"]
    assert (at_the_station["prevalence"], at_the_station["prevalence_from"]) == (0.03, "as given")
    missed = at_the_station["missed_per_1000"]
    assert missed["low"] <= missed["expected"] <= missed["high"]
    assert missed["expected"] == pytest.approx(30 * said["fn"] / 400)


def test_the_table_tells_the_same(station: Path, tune: Tune) -> None:
    said = tune.document(station, "--max-false-alarms-per-1000", 2)
    status, out, _ = tune(station, "--max-false-alarms-per-1000", 2)
    assert status == 0
    assert f"{said['threshold']!r}  (now 0.5)" in out
    assert f"at least {floor(said['recall_bound'] * 1e4) / 1e4:.4f} at a confidence of 0.95" in out
    assert f"at most {said['false_alarms_per_1000_bound']:.2f}" in out
    assert said["false_alarms_per_1000_bound"] <= 2
    assert "--apply makes it" in out


def test_the_table_has_the_threshold_to_its_last_digit_and_bounds_that_hold(
    tmp_path: Path, tune: Tune
) -> None:
    """A threshold that is copied by hand must find the crack whose score it is."""
    (tmp_path / "config.toml").touch()
    publish(tmp_path, "sure", some(60_000, 60_000))
    Registry(tmp_path / "models").promote("sure")
    goal = ("--min-recall", 0.9, "--prevalence", 0.03)
    said = tune.document(tmp_path, *goal)
    _, out, _ = tune(tmp_path, *goal)
    shown = dict(re.split("  +", line, maxsplit=1) for line in out.splitlines() if "  " in line)
    assert float(shown["threshold"].split()[0]) == said["threshold"]
    at_least, at_most = (
        float(shown[row].split()[3]) for row in ("recall", "false alarms per 1,000")
    )
    assert said["recall_bound"] - 1e-4 < at_least <= said["recall_bound"]
    assert 0 < said["false_alarms_per_1000_bound"] <= at_most


@pytest.mark.parametrize("by", ["--min-recall", "--max-false-alarms-per-1000"])
def test_a_single_picture_supports_next_to_nothing_and_is_told_so(
    tmp_path: Path, tune: Tune, by: str
) -> None:
    (tmp_path / "config.toml").touch()
    publish(tmp_path, "young", some(1, 1))
    Registry(tmp_path / "models").promote("young")
    status, out, err = tune(tmp_path, by, 0.9, "--confidence", 0.9999)
    assert (status, out) == (2, "")
    assert "1000 at best" not in err


def test_costs_are_weighed_and_a_handful_is_named(station: Path, tune: Tune) -> None:
    said = tune.document(station, "--cost-miss", 50, "--cost-false-alarm", 1)
    cost = said["cost"]
    assert cost["low"] <= cost["expected"] <= cost["high"]
    assert cost["handful"]
    _, out, _ = tune(station, "--cost-miss", 50, "--cost-false-alarm", 1)
    there = said["independent"]
    assert f"independent misses: {there['fn']}, false alarms: {there['fp']}" in out
    assert "flatter a little" in out


def test_what_cannot_be_promised_is_refused_with_the_number_needed(
    station: Path, tune: Tune
) -> None:
    publish(station, "few", some(30, 970))
    status, out, err = tune(station, "--model", "few", "--min-recall", 0.99)
    assert (status, out) == (2, "")
    assert "at least 299 independent anomalies" in err
    assert "there are 30" in err
    assert "crackwatch review mark" in err
    assert "crackwatch dataset import" in err
    assert "supports --min-recall 0.904 at most" in err
    assert tune(station, "--model", "few", "--min-recall", 0.904)[0] == 0
    status, _, err = tune(station, "--model", "few", "--max-false-alarms-per-1000", 2)
    assert status == 2
    assert "at least 1497 independent normals" in err
    assert "supports --max-false-alarms-per-1000 3.09 at best" in err
    assert tune(station, "--model", "few", "--max-false-alarms-per-1000", 3.09)[0] == 0


def test_pictures_of_the_same_concrete_count_once(station: Path, tune: Tune) -> None:
    publish(station, "overlapping", some(400, 4_000, a_group=4))
    status, _, err = tune(station, "--model", "overlapping", "--min-recall", 0.98)
    assert status == 2
    assert "at least 149 independent anomalies" in err
    assert "there are 100 (400 cracks" in err
    _, out, _ = tune(station, "--model", "overlapping", "--min-recall", 0.9)
    assert "400 pictures, 100 of them independent" in out


# --------------------------------------------------------------------------------------- models


def test_a_model_without_honest_scores_says_how_to_get_some(station: Path, tune: Tune) -> None:
    publish(station, "before", None)
    notebook = some(60, 60)
    notebook.logits[:] = np.nan
    publish(station, "notebook", notebook)
    for model_id in ("before", "notebook"):
        status, _, err = tune(station, "--model", model_id, "--min-recall", 0.9)
        assert status == 4
        assert "--data DIR" in err
        assert "crackwatch retrain" in err


def test_without_a_model_there_is_nothing_to_tune(tmp_path: Path, tune: Tune) -> None:
    (tmp_path / "config.toml").touch()
    status, _, err = tune(tmp_path, "--min-recall", 0.9)
    assert status == 4
    assert "there is no champion" in err


def test_scores_that_were_tampered_with_promise_nothing(station: Path, tune: Tune) -> None:
    learned.write(station / "models/one", some(500))
    status, _, err = tune(station, "--min-recall", 0.9)
    assert status == 4
    assert "learned.npz" in err


# ---------------------------------------------------------------------------------------- apply


def test_nothing_is_changed_unless_it_is_asked_for(station: Path, tune: Tune) -> None:
    before = everything(station)
    tune.document(station, "--min-recall", 0.98)
    tune(station, "--min-recall", 0.98)
    assert everything(station) == before


def test_an_applied_threshold_is_the_models_own_and_its_card_knows_why(
    station: Path, tune: Tune
) -> None:
    arguments = ("--min-recall", 0.98, "--apply", "--by", "anna")
    said = tune.document(station, *arguments)
    known = Registry(station / "models").verify("one")
    assert said["applied"]
    assert known.threshold.value == said["threshold"]
    kept = known.threshold.promise
    assert kept is not None
    assert (kept.goal, kept.target, kept.confidence) == ("min_recall", 0.98, 0.95)
    assert (kept.recall_bound, kept.anomalies, kept.normals) == (said["recall_bound"], 400, 4_000)
    (decision,) = known.decisions
    assert (decision.decided_by, decision.what) == ("anna", "threshold")
    assert decision.old is not None
    assert (decision.old.value, decision.new) == (0.5, known.threshold)
    assert decision.figures["fn"] == said["fn"]
    again = tune.document(station, *arguments)
    assert again["before"] == again["threshold"] == said["threshold"]
    _, out, _ = tune(station, *arguments)
    assert "A running station takes it between two batches" in out


def test_the_decisions_can_be_read(
    station: Path, tune: Tune, capsys: pytest.CaptureFixture[str]
) -> None:
    for recall in (0.98, 0.95):
        tune(station, "--min-recall", recall, "--apply", "--by", "anna")
    thresholds = [each.new for each in Registry(station / "models").card("one").decisions]
    assert execute(["models", "show", "--config", str(station / "config.toml")]) == 0
    said = capsys.readouterr().out
    values = [f"{each.value:.6g}" for each in thresholds if each is not None]
    assert f"threshold 0.5 to {values[0]}, by anna: a recall of at least 0.98" in said
    assert f"threshold {values[0]} to {values[1]}, by anna: a recall of at least 0.95" in said


def test_a_model_that_is_not_the_champion_can_be_tuned(station: Path, tune: Tune) -> None:
    publish(station, "two", some(500))
    status, out, _ = tune(station, "--model", "two", "--min-recall", 0.98, "--apply")
    assert status == 0
    assert "It is not the champion" in out
    assert Registry(station / "models").card("one").decisions == ()
    assert len(Registry(station / "models").card("two").decisions) == 1


def test_a_number_in_the_settings_is_said_to_stand_above_it(station: Path, tune: Tune) -> None:
    (station / "config.toml").write_text("[model]\nthreshold = 0.7\n")
    said = tune.document(station, "--min-recall", 0.98)
    assert said["overridden_by"] == 0.7
    for more in ((), ("--apply",)):
        _, out, _ = tune(station, "--min-recall", 0.98, *more)
        assert f"{station / 'config.toml'} (or the environment) says [model] threshold = 0.7" in out
        assert 'until it says threshold = "model"' in out
        assert "A running station takes it" not in out


# ----------------------------------------------------------------------------------- prevalence


def test_without_inspections_the_scored_pictures_tell_how_common_cracks_are(
    station: Path, tune: Tune
) -> None:
    at_the_station = tune.document(station, "--min-recall", 0.98)["station"]
    assert at_the_station["prevalence"] == pytest.approx(400 / 4_400)
    assert "share among the scored pictures, 400 of 4,400" in at_the_station["prevalence_from"]


def test_the_stations_own_books_tell_how_common_cracks_are(station: Path, tune: Tune) -> None:
    books = Station(station)
    names = []
    for number in range(30):
        names.append(f"{number}.jpg")
        books.put(names[-1], jpeg(dark=number % 3 == 0, seed=number))
    # a station that flagged a few knows next to nothing of how common cracks are
    books.inspect(*names[:27])
    at_the_station = tune.document(station, "--min-recall", 0.98)["station"]
    assert "scored pictures" in at_the_station["prevalence_from"]
    books.inspect(*names[27:])
    at_the_station = tune.document(station, "--min-recall", 0.98)["station"]
    assert at_the_station["prevalence"] == pytest.approx(1 / 3)
    assert "flagged in the last 30 days, 10 of 30" in at_the_station["prevalence_from"]
    flagged = at_the_station["flagged_per_1000"]
    assert 320 < flagged["expected"] < 340


# ----------------------------------------------------------------------------------------- plot


def test_the_plot_is_a_picture(station: Path, tune: Tune) -> None:
    for goal in (("--min-recall", 0.98), ("--cost-miss", 9, "--cost-false-alarm", 1)):
        status, _, err = tune(station, *goal, "--plot", station / "plot.png")
        assert status == 0, err
        picture = cv2.imread(str(station / "plot.png"))
        assert picture is not None
        assert picture.shape[1] > 600
    status, _, err = tune(station, "--min-recall", 0.98, "--plot", station / "no/plot.png")
    assert status == 2
    assert "--plot FILE.png" in err


# ----------------------------------------------------------------------------------------- data


@pytest.fixture(scope="module")
def with_starter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A station with the starter model, and labelled pictures that it has not learned from."""
    from crackwatch.starters import install_starter

    folder = tmp_path_factory.mktemp("station")
    (folder / "config.toml").touch()
    install_starter(Registry(folder / "models"), packaged.starter())
    for name, crack in (("anomaly", True), ("normal", False)):
        (folder / "labelled" / name).mkdir(parents=True)
        for seed in range(40):
            picture = synthetic.draw(5_000 + seed, crack=crack)
            assert cv2.imwrite(str(folder / "labelled" / name / f"{seed}.png"), picture)
        copied = cv2.imread(str(folder / "labelled" / name / "0.png"))
        assert copied is not None
        assert cv2.imwrite(str(folder / "labelled" / name / "mirrored.png"), copied[:, ::-1])
    return folder


def test_a_labelled_folder_is_scored_by_the_model_itself(with_starter: Path, tune: Tune) -> None:
    arguments = ("--data", with_starter / "labelled", "--min-recall", 0.8, "--confidence", 0.9)
    said = tune.document(with_starter, *arguments)
    assert said["source"] == "data"
    assert said["tp"] + said["fn"] == 41
    assert said["independent"]["tp"] + said["independent"]["fn"] == 40  # the mirrored one
    assert said["recall_bound"] >= 0.8
    status, _, err = tune(with_starter, *arguments[:2], "--min-recall", 0.99)
    assert status == 2
    assert "there are 40" in err
    assert "to that folder" in err


def test_pictures_that_were_learned_from_promise_nothing(with_starter: Path, tune: Tune) -> None:
    registry = Registry(with_starter / "models")
    champion = registry.champion()
    assert champion is not None
    known = cv2.imread(str(with_starter / "labelled/normal/7.png"))
    assert known is not None
    taught = some(3, 3)
    turned = np.ascontiguousarray(np.rot90(known)).astype(np.uint8)
    taught.pixel_hashes[0] = np.frombuffer(pixel_hash(turned), np.uint8)
    with registry.staging() as staged:
        for file in registry.folder_of(champion).rglob("*"):
            target = staged / file.relative_to(registry.folder_of(champion))
            if file.is_dir():
                target.mkdir()
            else:
                target.write_bytes(file.read_bytes())
        learned.write(staged, taught)
        model = read_card(registry.folder_of(champion)).model_copy(update={"id": "taught"})
        registry.publish(staged, model)
    arguments = ("--data", with_starter / "labelled", "--min-recall", 0.8, "--model", "taught")
    status, _, err = tune(with_starter, *arguments)
    assert status == 2
    assert "learned from 1 of these pictures" in err
    assert "normal/7.png" in err


def test_a_folder_without_labels_is_refused(with_starter: Path, tune: Tune) -> None:
    status, _, err = tune(with_starter, "--data", with_starter / "models", "--min-recall", 0.8)
    assert status == 2
    assert "no labelled pictures" in err


def test_out_of_fold_scores_need_no_model_to_be_loaded(station: Path) -> None:
    code = (
        "import sys\n"
        "from crackwatch.cli import execute\n"
        "status = execute(sys.argv[1:])\n"
        "heavy = {'tensorflow', 'keras', 'cv2', 'openvino', 'matplotlib'} & set(sys.modules)\n"
        "sys.exit(status or ', '.join(heavy) or 0)\n"
    )
    arguments = ["tune", "--min-recall", "0.98", "--config", str(station / "config.toml")]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
