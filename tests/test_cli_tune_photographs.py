"""``crackwatch tune --tiles`` and ``--photographs``: the threshold of photographs, and what it rests on."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from crackwatch import champion, dataset, learned, packaged, synthetic
from crackwatch.cli import execute
from crackwatch.config_file import load as load_settings
from crackwatch.registry import Registry
from crackwatch.starters import install_starter
from crackwatch.views import Rule
from tests.tuning import Tune, everything, publish, some, station_in
from tests.walls import wall_jpeg


@pytest.fixture
def station(tmp_path: Path) -> Path:
    return station_in(tmp_path)


@pytest.fixture
def tune(capsys: pytest.CaptureFixture[str]) -> Tune:
    return Tune(capsys)


# ----------------------------------------------------------------------------- by single pictures

TWELVE = ("--tiles", 336, "--max-false-alarms-per-1000", 30)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--tiles", 336, "--min-recall", 0.9), "goes with --max-false-alarms-per-1000"),
        (("--max-false-alarms-per-1000", 30, "--estimated"), "give --tiles N as well"),
        (("--max-false-alarms-per-1000", 30, "--min-tiles", 2), "give --tiles N as well"),
        ((*TWELVE, "--leave-out-doubtful"), "goes with --estimated"),
        ((*TWELVE, "--prevalence", 0.1), "go without --tiles"),
        ((*TWELVE, "--plot", "plot.png"), "go without --tiles"),
        (("--tiles", 1, "--min-tiles", 2, *TWELVE[2:]), "has fewer"),
        (("--tiles", 0, *TWELVE[2:]), "not in the range"),
    ],
)
def test_what_cannot_be_asked_of_photographs_is_not(
    station: Path, tune: Tune, arguments: tuple[object, ...], complaint: str
) -> None:
    status, out, err = tune(station, *arguments)
    assert (status, out) == (2, "")
    assert complaint in " ".join(err.split())


def test_what_the_normals_cannot_prove_of_photographs_is_refused_with_the_numbers(
    station: Path, tune: Tune
) -> None:
    before = everything(station)
    status, out, err = tune(station, *TWELVE, "--apply")
    assert (status, out) == (2, "")
    said = " ".join(err.split())
    assert "takes at least 33,551 independent normals" in said
    assert "there are 4,000" in said
    assert "99 photographs without a crack" in said
    assert "--estimated gives an estimate, and calls it one" in said
    assert everything(station) == before


def test_a_proof_for_photographs_states_its_bound(station: Path, tune: Tune) -> None:
    said = tune.document(station, "--tiles", 20, "--max-false-alarms-per-1000", 100)
    assert (said["basis"], said["tiles"], said["min_tiles"]) == ("proved", 20, 1)
    assert said["false_alarms_per_1000_bound"] <= 100
    assert (said["applied"], said["before"], said["overridden_by"]) == (False, None, None)
    assert len(said["highest"]) == 10


def test_an_estimate_for_photographs_is_called_one(station: Path, tune: Tune) -> None:
    status, out, _ = tune(station, *TWELVE, "--estimated")
    assert status == 0
    assert "rests on" in out
    assert "an ESTIMATE" in out
    assert "at most 30 false alarms per 1,000 photographs of 336 tiles, flagged by any" in out
    assert "(now 0.5, that of single pictures)" in out
    assert "Nothing was changed" in out


def test_an_applied_threshold_of_photographs_leaves_that_of_single_pictures_alone(
    station: Path, tune: Tune, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = (*TWELVE, "--min-tiles", 2, "--estimated", "--apply", "--by", "anna")
    said = tune.document(station, *asked)
    known = Registry(station / "models").verify("one")
    assert known.threshold.value == 0.5
    assert known.tiled is not None
    assert (known.tiled.value, known.tiled.min_tiles, known.tiled.tiles) == (
        said["threshold"], 2, 336,
    )  # fmt: skip
    assert "an ESTIMATE" in known.tiled.chosen_by
    assert "2 tiles that touch" in known.tiled.chosen_by
    (decision,) = known.decisions
    assert (decision.what, decision.decided_by) == ("tiled_threshold", "anna")
    assert (decision.old_tiled, decision.new_tiled, decision.new) == (None, known.tiled, None)
    assert decision.figures["false_alarms_per_1000_bound"] == said["false_alarms_per_1000_bound"]
    settings = load_settings(station / "config.toml", {}).model
    assert champion.rule_of(known, settings) == Rule(0.5, said["threshold"], 2)
    again = tune.document(station, *TWELVE, "--estimated", "--apply")
    assert again["before"]["value"] == said["threshold"]
    assert execute(["models", "show", "--config", str(station / "config.toml")]) == 0
    shown = capsys.readouterr().out
    assert (
        f"tiled_threshold none to {said['threshold']:.6g}, flagged by 2 tiles that touch" in shown
    )
    assert "of photographs, flagged by any one tile" in shown
    _, out, _ = tune(station, "--min-recall", 0.98, "--apply")
    assert f"Photographs go on being judged from {again['threshold']:.6g} on" in out


@pytest.mark.parametrize(
    ("written", "above"),
    [
        ("threshold = 0.7", {"threshold": 0.7}),
        ("tiled_threshold = 0.8", {"tiled_threshold": 0.8}),
        ("threshold = 0.7\ntiled_threshold = 0.8\nmin_tiles = 3",
         {"tiled_threshold": 0.8, "min_tiles": 3}),
    ],
)  # fmt: skip
def test_settings_that_stand_above_the_threshold_of_photographs_are_named(
    station: Path, tune: Tune, written: str, above: dict[str, float]
) -> None:
    (station / "config.toml").write_text(f"[model]\n{written}\n")
    assert tune.document(station, *TWELVE, "--estimated")["overridden_by"] == above
    _, out, _ = tune(station, *TWELVE, "--estimated", "--apply")
    for name, value in above.items():
        assert f"says [model] {name} = {value:g}" in out
    assert "A running station takes it" not in out


def test_doubtful_labels_have_a_part_in_the_estimate_unless_told_otherwise(
    station: Path, tune: Tune
) -> None:
    taught = some()
    taught.logits[500:503] = (4.0, 5.0, 6.0)  # normals that score as cracks do
    publish(station, "doubtful", taught)
    asked = (*TWELVE, "--estimated", "--model", "doubtful")
    believed = tune.document(station, *asked)
    left_out = tune.document(station, *asked, "--leave-out-doubtful")
    assert (believed["left_out"], left_out["left_out"]) == (0, 3)
    assert left_out["threshold"] < believed["threshold"]
    assert left_out["recall"] > believed["recall"]
    estimate = left_out["false_alarms_per_1000_estimate"]["expected"]
    assert left_out["false_alarms_per_1000_if_every_label_is_right"]["expected"] > estimate
    _, out, _ = tune(station, *asked, "--leave-out-doubtful")
    assert "3 normals that score 0.95 or more had no part in the estimate" in out
    assert "if every label is right" in out


# ---------------------------------------------------------------------------- by photographs


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A station with the starter model, and a folder of drawn, labelled photographs."""
    folder = tmp_path_factory.mktemp("station")
    (folder / "config.toml").touch()
    install_starter(Registry(folder / "models"), packaged.starter())
    for name in ("anomaly", "normal"):
        (folder / "walls" / name).mkdir(parents=True)
    for number in range(12):
        where = (number % 3, number % 2)
        size = 640 + 8 * number, 500
        (folder / "walls/anomaly" / f"{number}.jpg").write_bytes(wall_jpeg(*size, where))
        (folder / "walls/normal" / f"{number}.jpg").write_bytes(wall_jpeg(*size))
    return folder


def asked(folder: Path, *goal: object) -> tuple[object, ...]:
    return ("--photographs", folder / "walls", "--confidence", 0.6, *goal)


def test_photographs_are_scored_as_wholes(
    labelled: Path, tune: Tune, capsys: pytest.CaptureFixture[str]
) -> None:
    said = tune.document(labelled, *asked(labelled, "--min-recall", 0.9))
    assert said["source"] == "photographs"
    assert said["goal"] == {"min_recall": 0.9}
    assert said["tp"] + said["fn"] == said["fp"] + said["tn"] == 12
    assert (said["tiles"], said["min_tiles"], said["applied"]) == (12, 1, False)
    assert said["second_look_from"] == 0.05
    assert said["recall"] == 1


def test_without_a_second_look_the_highest_tile_decides(
    labelled: Path, tune: Tune, capsys: pytest.CaptureFixture[str]
) -> None:
    goal = ("--min-recall", 0.9, "--second-look", 1, "--apply")
    said = tune.document(labelled, *asked(labelled, *goal))
    flagged = labelled / "walls" / "anomaly"
    config = ("--config", str(labelled / "config.toml"))
    assert execute(["classify", *config, str(flagged), "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [each["verdict"] for each in found] == ["anomaly"] * 12
    lowest = min(each["score"] for each in found)
    assert said["threshold"] == pytest.approx(lowest, rel=2e-3)
    assert said["threshold"] < lowest
    assert tune(labelled, "--undo")[0] == 0


def test_a_rule_of_two_tiles_asks_for_the_second_one(labelled: Path, tune: Tune) -> None:
    one, two = (
        tune.document(labelled, *asked(labelled, "--min-recall", 0.9, "--min-tiles", tiles))
        for tiles in (1, 2)
    )
    assert two["min_tiles"] == 2
    assert two["threshold"] < one["threshold"]


def test_an_applied_threshold_is_that_of_photographs_and_says_that_photographs_told_it(
    labelled: Path, tune: Tune, capsys: pytest.CaptureFixture[str]
) -> None:
    goal = ("--cost-miss", 10, "--cost-false-alarm", 1, "--apply", "--by", "anna")
    registry = Registry(labelled / "models")
    chosen = registry.champion()
    assert chosen is not None
    before = registry.card(chosen).threshold
    status, out, _ = tune(labelled, *asked(labelled, *goal))
    assert status == 0
    assert "12 photographs" in out
    assert "Of 1,000 photographs at the station" in out
    known = registry.verify(chosen)
    assert known.tiled is not None
    assert (known.tiled.on, known.tiled.min_tiles, known.tiled.tiles) == ("photographs", 1, 12)
    assert known.tiled.second_look_from == 0.05
    assert "after a second look at tiles that score 0.05 or more" in known.tiled.chosen_by
    assert known.tiled.promise is not None
    assert (known.tiled.promise.anomalies, known.tiled.promise.normals) == (12, 12)
    decision = known.decisions[-1]
    assert (decision.what, decision.decided_by) == ("tiled_threshold", "anna")
    assert known.threshold == before
    settings = load_settings(labelled / "config.toml", {}).model
    rule = champion.rule_of(known, settings)
    assert (rule.tiled_threshold, rule.second_look_from) == (known.tiled.value, 0.05)
    # the station finds what was promised
    for name, verdict in (("anomaly", "anomaly"), ("normal", "normal")):
        capsys.readouterr()
        config = ("--config", str(labelled / "config.toml"))
        assert (
            execute(["classify", *config, str(labelled / "walls" / name), "--format", "json"]) == 0
        )
        said = capsys.readouterr()
        assert [each["verdict"] for each in json.loads(said.out)] == [verdict] * 12
        assert "after a second look at tiles that score 0.05 or more" in said.err
    status, out, _ = tune(labelled, "--undo", "--by", "anna")
    assert status == 0
    assert registry.card(chosen).tiled == decision.old_tiled


def test_a_second_look_goes_with_photographs(station: Path, tune: Tune) -> None:
    status, out, err = tune(station, *TWELVE, "--estimated", "--second-look", 0.1)
    assert (status, out) == (2, "")
    assert "--second-look goes with --photographs" in err


def test_what_photographs_cannot_prove_is_refused_with_the_number_needed(
    labelled: Path, tune: Tune
) -> None:
    before = everything(labelled / "models")
    arguments = ("--photographs", labelled / "walls", "--max-false-alarms-per-1000", 30, "--apply")
    status, out, err = tune(labelled, *arguments)
    assert (status, out) == (2, "")
    said = " ".join(err.split())
    assert "99" in said
    assert "Add labelled photographs of other concrete" in said
    assert everything(labelled / "models") == before


def test_what_is_no_photograph_or_labelled_both_ways_has_no_part_in_it(
    labelled: Path, tune: Tune, tmp_path: Path
) -> None:
    walls = tmp_path / "walls"
    shutil.copytree(labelled / "walls", walls)
    shutil.copy(walls / "normal/0.jpg", walls / "anomaly/twice.jpg")  # both ways
    shutil.copy(walls / "normal/1.jpg", walls / "normal/again.jpg")  # counts once
    (walls / "normal/crop.jpg").write_bytes(wall_jpeg(227, 227))
    (walls / "normal/torn.jpg").write_bytes(wall_jpeg(700, 500)[:9_000])
    status, out, err = tune(
        labelled, "--photographs", walls, "--confidence", 0.6, "--min-recall", 0.9
    )
    assert status == 0
    assert "crop.jpg: is a single crop" in err
    assert "torn.jpg" in err
    assert "twice.jpg: the same photograph is labelled both ways" in err
    assert "12 photographs, 11 of them independent" in out


def test_a_folder_without_photographs_is_refused(
    labelled: Path, tune: Tune, tmp_path: Path
) -> None:
    for name in ("anomaly", "normal"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "crop.jpg").write_bytes(wall_jpeg(227, 227))
    status, _, err = tune(
        labelled, "--photographs", tmp_path, "--cost-miss", 5, "--cost-false-alarm", 1
    )
    assert status == 2
    assert "none of its 2 files is a photograph" in err
    assert "--data" in err


@pytest.mark.parametrize(
    "other", [("--tiles", 20), ("--data", "x"), ("--estimated",), ("--leave-out-doubtful",)]
)
def test_what_goes_by_crops_cannot_be_asked_of_photographs(
    station: Path, tune: Tune, other: tuple[object, ...]
) -> None:
    status, out, err = tune(station, "--photographs", "walls", "--min-recall", 0.9, *other)
    assert (status, out) == (2, "")
    assert "--photographs goes without" in err


def test_too_few_files_are_refused_before_any_is_scored(
    labelled: Path, tune: Tune, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unasked(*_: object) -> None:
        raise AssertionError("photographs were scored")

    monkeypatch.setattr("crackwatch.evaluation.photographs.score_photographs", unasked)
    walls = ("--photographs", labelled / "walls")
    status, _, err = tune(labelled, *walls, "--min-recall", 0.95)
    assert status == 2
    assert "takes at least 59 independent anomalies, every one of them found; there are 12" in err
    status, _, err = tune(labelled, *walls, "--max-false-alarms-per-1000", 30)
    assert status == 2
    assert "takes at least 99 independent normals, none of them flagged; there are 12" in err
    assert "Add labelled photographs of other concrete" in err


def test_the_stations_own_marked_copies_are_no_photographs_more(
    labelled: Path, tune: Tune, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("anomaly", "normal"):
        (tmp_path / name).mkdir()
        for number in range(3):
            data = (labelled / "walls" / name / f"{number}.jpg").read_bytes()
            (tmp_path / name / f"{number}.jpg").write_bytes(data)
            (tmp_path / name / f"{number}.jpg.overlay.jpg").write_bytes(data + b"another")
    costs = ("--cost-miss", 5, "--cost-false-alarm", 1)
    status, out, err = tune(labelled, "--photographs", tmp_path, *costs, "--format", "json")
    assert status == 0
    counts = json.loads(out)
    assert counts["tp"] + counts["fn"] == counts["fp"] + counts["tn"] == 3
    assert "0.jpg.overlay.jpg: is a marked copy of the photograph beside it" in err


def test_a_second_look_from_nan_is_refused(labelled: Path, tune: Tune) -> None:
    walls = ("--photographs", labelled / "walls", "--cost-miss", 5, "--cost-false-alarm", 1)
    status, _, err = tune(labelled, *walls, "--second-look", "nan")
    assert status == 2
    assert "nan is not a number" in err


def test_photographs_whose_crops_the_model_has_learned_promise_nothing(
    labelled: Path, tune: Tune, tmp_path: Path
) -> None:
    """A part that a person labelled, which a retraining has learned, names its photograph."""
    registry = Registry(tmp_path / "models")
    install_starter(registry, packaged.starter())
    (tmp_path / "config.toml").touch()
    champion = registry.champion()
    assert champion is not None
    taught = learned.read(registry.folder_of(champion))
    assert taught is not None
    square = synthetic.draw(1, crack=True)
    photograph = (labelled / "walls/anomaly/3.jpg").read_bytes()
    name = dataset.name_of(b"3.jpg", hashlib.sha256(photograph).digest(), 10, 20, b".png")
    (tmp_path / "dataset/reviewed/anomaly").mkdir(parents=True)
    crop = tmp_path / "dataset/reviewed/anomaly" / os.fsdecode(name)
    crop.write_bytes(cv2.imencode(".png", square)[1].tobytes())
    walls = ("--photographs", labelled / "walls", "--cost-miss", 5, "--cost-false-alarm", 1)
    assert tune(tmp_path, *walls)[0] == 0  # it was not learned yet
    hashes = taught.pixel_hashes.copy()
    hashes[0] = np.frombuffer(dataset.pixel_hash(square), np.uint8)
    taught = replace(taught, pixel_hashes=hashes)
    with registry.staging() as staged:
        shutil.copy(registry.folder_of(champion) / "lenet.keras", staged)
        learned.write(staged, taught)
        registry.publish(staged, registry.card(champion).model_copy(update={"id": "retrained"}))
    registry.promote("retrained")
    status, _, err = tune(tmp_path, *walls)
    assert status == 2
    assert "learned from crops of 1 of these photographs" in err
    assert "anomaly/3.jpg" in err
