"""Recipes, calibration, and whole retrainings of tiny folders, published or refused."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score

from crackwatch import dataset, learned, lenet
from crackwatch.agreement import check_golden, read_golden
from crackwatch.domain import QuarantineReason
from crackwatch.errors import DatasetError, LockedError, ModelDisagrees, Unreadable, UsageError
from crackwatch.images.light import measure_all
from crackwatch.images.warping import warp
from crackwatch.registry import MODEL_FILE, Card, Registry
from crackwatch.runtime import GRAPH_FILE, Classifier, load, load_quick
from crackwatch.runtime.openvino import build
from crackwatch.runtime.reference import KerasClassifier
from crackwatch.training import calibration, honest, making, recipes, retraining
from crackwatch.training.making import Exporting
from crackwatch.training.replaying import Lately, Recent
from crackwatch.training.retraining import Tools
from tests.labelled import Silent, asked, contents, draw

# Keras's own reading of its variables, with NumPy 2.
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.timeout(300),
    pytest.mark.xdist_group("training"),  # see test_cli_retrain
]


# ----------------------------------------------------------------------------------- calibration


def logits_and_labels(seed: int) -> tuple[NDArray[np.float64], NDArray[np.int8]]:
    """Logits that are true as they are: labels drawn from their own probabilities."""
    random = np.random.default_rng(seed)
    logits = random.normal(-1, 3, 20_000)
    return logits, (random.random(20_000) < 1 / (1 + np.exp(-logits))).astype(np.int8)


class TestCalibration:
    @pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
    def test_the_temperature_undoes_over_and_under_confidence(self, factor: float) -> None:
        logits, labels = logits_and_labels(1)
        found = calibration.calibrate(logits * factor, labels)
        assert found.temperature == pytest.approx(factor, rel=0.03)
        np.testing.assert_allclose(found(logits * factor), logits, atol=0.3)

    @pytest.mark.parametrize("shift", [-2.0, 2.4])
    def test_the_shift_undoes_what_showing_anomalies_more_often_did(self, shift: float) -> None:
        logits, labels = logits_and_labels(2)
        found = calibration.calibrate(logits + shift, labels)
        assert found.shift == pytest.approx(shift, abs=0.08)
        assert found.temperature == pytest.approx(1, rel=0.05)

    def test_with_many_pictures_it_is_what_likelihood_alone_says(self) -> None:
        logits, labels = logits_and_labels(4)
        raw = 2.5 * logits + 1.5
        found = calibration.calibrate(raw, labels)
        plain = LogisticRegression(C=1e12, tol=1e-10).fit(raw[:, None], labels)
        slope, intercept = plain.coef_[0, 0], plain.intercept_[0]
        assert 1 / found.temperature == pytest.approx(float(slope), rel=0.005)
        assert -found.shift / found.temperature == pytest.approx(float(intercept), abs=0.01)

    @pytest.mark.parametrize(
        ("logits", "labels"),
        [([3.0] * 200, [1] * 20 + [0] * 180), ([-1.0, 2.0], [0, 1]), ([5.0, -5.0], [0, 1])],
        ids=["all alike", "two pictures", "two pictures, the wrong way round"],
    )
    def test_where_likelihood_has_no_one_answer_there_is_one_all_the_same(
        self, logits: list[float], labels: list[int]
    ) -> None:
        values, classes = np.array(logits), np.array(labels, np.int8)
        found = calibration.calibrate(values, classes)
        assert 0.5 < found.temperature < 3
        assert abs(found.shift) < 6
        before = calibration.log_loss(values, classes)
        assert calibration.log_loss(found(values), classes) < before

    def test_a_perfect_separation_does_not_run_away(self) -> None:
        logits = np.array([-9.0] * 50 + [9.0] * 50)
        labels = np.array([0] * 50 + [1] * 50, np.int8)
        found = calibration.calibrate(logits, labels)
        assert 0.2 < found.temperature <= 1
        assert abs(found.shift) < 0.1  # the two classes are alike

    def test_one_class_has_no_calibration(self) -> None:
        with pytest.raises(ValueError, match="both classes"):
            calibration.calibrate(np.zeros(3), np.zeros(3, np.int8))

    @pytest.mark.parametrize("miss_costs", [1.0, 10.0, 99.0])
    def test_at_the_threshold_flagging_and_leaving_alone_cost_the_same(
        self, miss_costs: float
    ) -> None:
        logits, labels = logits_and_labels(3)
        probabilities = 1 / (1 + np.exp(-logits))

        def cost(threshold: float) -> float:
            flagged = probabilities >= threshold
            missed = int((labels[~flagged] == 1).sum())
            return missed * miss_costs + int((labels[flagged] == 0).sum())

        chosen = calibration.threshold(miss_costs)
        others = [cost(each) for each in np.linspace(0.002, 0.998, 250)]
        assert cost(chosen) <= min(others) * 1.05

    def test_average_precision_is_the_usual_one_ties_included(self) -> None:
        random = np.random.default_rng(3)
        logits = random.integers(-5, 5, 400).astype(float)
        labels = random.integers(0, 2, 400).astype(np.int8)
        assert calibration.average_precision(logits, labels) == pytest.approx(
            average_precision_score(labels, logits)
        )

    def test_without_anomalies_there_is_no_average_precision(self) -> None:
        assert np.isnan(calibration.average_precision(np.zeros(3), np.zeros(3, np.int8)))


# --------------------------------------------------------------------------------------- recipes


class TestRecipes:
    labels = np.repeat(np.array([1, 0], np.int8), [40, 1000])

    def test_the_notebook_learns_from_all_anomalies_and_holds_back_none(self) -> None:
        split = recipes.notebook_split(self.labels, seed=1)
        assert len(split.train) == 120
        assert len(split.validation) == 40
        assert sorted(split.train[:40]) == list(range(40))
        assert not self.labels[split.validation].any()

    def test_the_notebook_draws_some_normals_twice(self) -> None:
        labels = np.repeat(np.array([1, 0], np.int8), [455, 14_545])
        split = recipes.notebook_split(labels, seed=1)
        drawn = np.concatenate([split.train[455:], split.validation])
        assert len(drawn) == 1365
        assert len(set(drawn.tolist())) < 1365
        learned = split.train[labels[split.train] == 0]
        assert 850 < len(set(learned.tolist())) < 900

    def test_the_notebooks_epoch_has_43_batches(self) -> None:
        labels = np.repeat(np.array([1, 0], np.int8), [455, 14_545])
        split = recipes.notebook_split(labels, seed=1)
        batches = list(recipes.epoch_batches(recipes.NOTEBOOK, labels, split.train, 1, 1))
        assert len(batches) == 43
        together = np.concatenate(batches)
        assert sorted(together.tolist()) == sorted(split.train.tolist())
        assert together.tolist() != split.train.tolist()

    def test_a_quarter_of_each_station_batch_shows_anomalies(self) -> None:
        train = np.arange(len(self.labels))
        batches = list(recipes.epoch_batches(recipes.STATION, self.labels, train, 1, 1))
        assert len(batches) == recipes.steps_per_epoch(recipes.STATION, self.labels, train) == 42
        assert {int(self.labels[batch].sum()) for batch in batches} == {8}
        seen = np.bincount(np.concatenate(batches), minlength=len(train))
        assert set(seen[40:]) == {1}  # each normal once
        assert set(seen[:40]) <= {8, 9}  # each anomaly as often as any other, but for one

    def test_an_epoch_repeats_with_its_seed_and_differs_from_the_next(self) -> None:
        train = np.arange(len(self.labels))

        def epoch(number: int) -> list[int]:
            found = recipes.epoch_batches(recipes.STATION, self.labels, train, 1, number)
            together: list[int] = np.concatenate(list(found)).tolist()
            return together

        assert epoch(1) == epoch(1) != epoch(2)

    def test_turning_and_mirroring_reach_all_eight_orientations_and_move_pixels_only(self) -> None:
        picture = np.random.default_rng(1).integers(0, 256, (227, 227, 3), dtype=np.uint8)
        only_turns = replace(recipes.STATION, jitter=0.0, shift=0, tilt=0.0, zoom=0.0)
        batch = np.repeat(picture[None], 100, axis=0)
        seen = recipes.augment(only_turns, batch, np.random.default_rng(2), warp)
        assert len({each.tobytes() for each in seen}) == 8
        for each in seen:
            np.testing.assert_array_equal(np.sort(each.ravel()), np.sort(picture.ravel()))

    def test_tilting_and_zooming_keep_the_middle_and_change_the_rest(self) -> None:
        picture = np.full((1, 227, 227, 3), 200, np.uint8)
        picture[:, 103:124, :, :] = 20  # a bar through the middle
        tilting = replace(recipes.STATION, turns=False, shift=0, jitter=0.0, tilt=20.0, zoom=0.25)
        random = np.random.default_rng(4)
        seen = np.concatenate([recipes.augment(tilting, picture, random, warp) for _ in range(40)])
        assert (seen[:, 113, 113] == 20).all()
        widths = (seen[:, :, 113, 0] < 110).sum(axis=1)
        assert 21 * 0.79 <= widths.min() < 19
        assert 24 < widths.max() <= 21 * 1.26 / np.cos(np.radians(20)) + 1
        ends = (seen[:, :, 0, 0] < 110).argmax(axis=1)
        assert ends.min() < 90  # up to 20 degrees one way
        assert ends.max() > 125  # and the other

    def test_jitter_stays_within_bytes_and_bounds(self) -> None:
        grey = np.full((200, 227, 227, 3), 150, np.uint8)
        seen = recipes.augment(recipes.STATION, grey, np.random.default_rng(2), warp)
        assert seen.dtype == np.float32
        assert 150 * 0.8 <= seen.min() < 150 * 0.85
        assert 150 * 1.15 < seen.max() <= 150 * 1.2
        white = np.full((50, 227, 227, 3), 255, np.uint8)
        assert recipes.augment(recipes.STATION, white, np.random.default_rng(2), warp).max() <= 255

    def test_the_notebook_sees_pictures_as_they_are(self) -> None:
        picture = np.random.default_rng(1).integers(0, 256, (2, 227, 227, 3), dtype=np.uint8)
        seen = recipes.augment(recipes.NOTEBOOK, picture, np.random.default_rng(2), warp)
        np.testing.assert_array_equal(seen, picture)

    def test_some_of_the_normals_an_epoch_are_others_each_time(self) -> None:
        train = np.arange(len(self.labels))

        def normals(number: int) -> list[int]:
            batches = recipes.epoch_batches(recipes.QUICK, self.labels, train, 1, number)
            seen = np.concatenate(list(batches))
            chosen: list[int] = seen[self.labels[seen] == 0].tolist()
            return sorted(chosen)

        assert len(normals(1)) == len(set(normals(1))) == 400
        assert normals(1) != normals(2)

    def test_what_moves_into_view_is_a_reflection(self) -> None:
        picture = np.random.default_rng(1).integers(0, 256, (1, 227, 227, 3), dtype=np.uint8)
        moving = replace(recipes.STATION, turns=False, jitter=0.0, tilt=0.0, zoom=0.0)
        padded = np.pad(picture[0], ((20, 20), (20, 20), (0, 0)), mode="reflect")
        places = {
            padded[down : down + 227, right : right + 227].tobytes(): (down - 20, right - 20)
            for down in range(41)
            for right in range(41)
        }
        random = np.random.default_rng(3)
        found = {
            places[recipes.augment(moving, picture, random, warp).astype(np.uint8).tobytes()]
            for _ in range(60)
        }
        assert len(found) > 50
        for axis in zip(*found, strict=True):
            assert min(axis) < -10
            assert max(axis) > 10


# ----------------------------------------------------------------------------------- retrainings


def decode(content: bytes) -> NDArray[np.uint8]:
    picture = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    if picture is None:
        raise Unreadable(QuarantineReason.NOT_AN_IMAGE, "no decoder knows it")
    return picture.astype(np.uint8)


def exporting(open_classifier: Callable[[Path, Card], Classifier] = load) -> Exporting:
    return Exporting(
        lambda folder: build(folder / MODEL_FILE, folder / GRAPH_FILE),
        open_classifier,
        lambda file: KerasClassifier("reference", file),
        load_quick,
    )


class Off:
    """A runtime that does not give the scores that it should."""

    model_id = "off"

    def scores(self, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.full(len(pictures), 0.5, np.float32)


def tune_elsewhere(registry: Registry, model_id: str, threshold: float) -> None:
    """As ``tune --apply`` does it: fails where this process holds the models' lock."""
    code = (
        "import sys, pathlib\n"
        "from crackwatch.registry import Registry, Threshold\n"
        "registry = Registry(pathlib.Path(sys.argv[1]))\n"
        "tuned = Threshold(value=float(sys.argv[3]), chosen_by='a test')\n"
        "registry.set_threshold(sys.argv[2], tuned, decided_by='me', reason='a test')\n"
    )
    arguments = [str(registry.folder), model_id, str(threshold)]
    subprocess.run([sys.executable, "-c", code, *arguments], check=True)


RECENT: list[Recent] = []  # what the station inspected lately, for one test

TOOLS = Tools(
    decode=decode,
    exporting=exporting,
    open_classifier=load,
    relate=lambda pictures, progress: dataset.kinship(pictures, None, progress),
    light=measure_all,
    recent=lambda _days: Lately(tuple(RECENT), 2),
)


@dataclass(frozen=True)
class Taught:
    """A models folder with its first champion, and how it came to that: two failures first."""

    registry: Registry
    result: retraining.Result
    interrupted: Silent
    disagreed: Silent
    at_last: Silent
    left: tuple[dict[str, bytes], dict[str, bytes]]  # of the models, after each failure
    kept: Path  # a copy of all that was trained, as the last failure left it


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("labelled")
    draw(folder / "train", 55, 75)
    (folder / "train/normal/notes.txt").write_text("no picture")
    return folder


@pytest.fixture(scope="module")
def taught(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Taught:
    registry = Registry(tmp_path_factory.mktemp("station") / "models")

    class Interrupting(Silent):
        def finished(self, job: str, done: int, total: int) -> None:
            super().finished(job, done, total)
            if done == 2:
                raise KeyboardInterrupt

    interrupted, disagreed, at_last = Interrupting(), Silent(), Silent()
    with pytest.raises(KeyboardInterrupt):
        retraining.retrain(registry, asked(pictures), TOOLS, interrupted)
    first = contents(registry.folder)
    bad = replace(TOOLS, exporting=lambda: exporting(lambda *_: Off()))
    with pytest.raises(ModelDisagrees):
        retraining.retrain(registry, asked(pictures), bad, disagreed)
    second = contents(registry.folder)
    kept = tmp_path_factory.mktemp("kept") / "training"
    shutil.copytree(registry.folder / ".training", kept)
    result = retraining.retrain(registry, asked(pictures, mm_per_px=0.25), TOOLS, at_last)
    return Taught(registry, result, interrupted, disagreed, at_last, (first, second), kept)


class TestRetraining:
    def test_a_failed_run_publishes_nothing_and_what_it_finished_is_not_learned_again(
        self, taught: Taught
    ) -> None:
        assert taught.left == ({}, {})
        finished_first = set(taught.interrupted.done)
        assert len(finished_first) == 2
        again = {job for job, _ in taught.disagreed.epochs}
        assert again.isdisjoint(finished_first)
        assert set(taught.disagreed.done) == {"fold-1", "fold-2", "fold-3", "whole"}
        assert taught.at_last.epochs == []
        assert len(taught.at_last.done) == 4
        assert not (taught.registry.folder / ".training").exists()

    def test_the_first_model_becomes_champion(self, taught: Taught) -> None:
        result = taught.result
        assert taught.registry.champion() == result.model
        assert result.promoted
        assert result.reason == "promoted: there was no champion"
        assert result.champion is None
        assert result.train == result.validation == {"anomaly": 55, "normal": 75}
        assert [Path(problem.path).name for problem in result.problems] == ["notes.txt"]

    def test_its_card_tells_where_it_comes_from(self, taught: Taught) -> None:
        result = taught.result
        card = taught.registry.verify(result.model)
        assert card.parameters == lenet.PARAMETERS
        assert (card.recipe, card.seed, card.parent) == ("station-quick", 3, None)
        assert card.data.counts["train"] == result.train
        history = cast(list[dict[str, Any]], card.recipe_settings["history"])
        assert [epoch["number"] for epoch in history] == list(range(1, 9))
        assert {"tensorflow", "keras", "numpy", "python"} <= set(card.libraries)
        assert card.scores["out_of_fold"]["n"] == 130
        assert card.scores["out_of_fold"]["ece"] == pytest.approx(
            taught.result.challenger.measures.ece, abs=1e-9
        )
        assert card.export is not None
        assert card.export.compared == 130
        assert card.export.largest_difference <= 1e-4
        assert card.threshold.value == pytest.approx(1 / 11)
        assert "on 55 anomalies and 75 normals, each scored by a model" in card.threshold.chosen_by
        assert any("1 files were left out" in note for note in card.notes)
        assert card.mm_per_px == 0.25
        assert any("0.25 mm, as was said with --mm-per-px" in note for note in card.notes)
        assert "0.25 mm a pixel, as was said with --mm-per-px" in taught.at_last.stages
        assert card.reference is not None
        (decision,) = card.decisions
        assert (decision.what, decision.reason) == ("promotion", result.reason)

    def test_what_it_learned_from_travels_with_it(self, taught: Taught) -> None:
        card = taught.registry.card(taught.result.model)
        known = learned.read(taught.registry.folder_of(card.id))
        assert known is not None
        assert len(known) == len(known.out_of_fold) == 130
        assert set(known.folds.tolist()) == {0, 1, 2}
        assert not known.reviewed.any()
        flagged = 1 / (1 + np.exp(-known.logits.astype(float))) >= card.threshold.value
        assert int((flagged & (known.labels == 1)).sum()) == card.scores["out_of_fold"]["tp"]

    def test_its_golden_pictures_score_as_the_card_says(self, taught: Taught) -> None:
        card = taught.registry.card(taught.result.model)
        folder = taught.registry.folder_of(card.id)
        golden = read_golden(folder, card)
        assert 20 <= len(golden) <= 32
        assert set(card.golden.expected) == {"keras/f32", "openvino/f32"}
        check_golden(load(folder, card), golden, card.golden.scores, 1e-4, card.threshold.value)

    def test_it_learned_something(self, taught: Taught) -> None:
        pr_auc = taught.result.challenger.measures.pr_auc
        assert pr_auc is not None
        assert pr_auc > 0.85  # drawn bars are easy; chance is 0.42

    def test_the_same_seed_and_data_give_the_same_weights_and_are_no_worse(
        self, taught: Taught, pictures: Path
    ) -> None:
        first = taught.result
        RECENT[:] = [
            Recent(7, os.fsencode(pictures / "train/anomaly/001.png"), 0.001, False, "older"),
            Recent(6, os.fsencode(pictures / "train/anomaly/gone.png"), 0.9, True, "older"),
        ]
        # The folds are taken up as they were: the weights that are published are learned anew.
        work = taught.registry.folder / ".training"
        shutil.copytree(taught.kept, work)
        (whole,) = work.glob("*/whole")
        shutil.rmtree(whole)
        watcher = Silent()
        try:
            again = retraining.retrain(
                taught.registry, asked(pictures, mm_per_px=0.25), TOOLS, watcher
            )
        finally:
            RECENT.clear()
        assert watcher.epochs == [("whole", number) for number in range(1, 9)]
        published = [taught.registry.folder_of(each.model) for each in (first, again)]
        weights = [making.load(folder / MODEL_FILE).get_weights() for folder in published]
        for before, now in zip(*weights, strict=True):
            np.testing.assert_array_equal(before, now)
        cards = [taught.registry.card(each.model) for each in (first, again)]
        known = [learned.read(taught.registry.folder_of(card.id)) for card in cards]
        assert known[0] is not None
        assert known[1] is not None
        np.testing.assert_array_equal(known[0].logits, known[1].logits)
        # scored by several threads, which round as they come
        np.testing.assert_allclose(cards[0].golden.scores, cards[1].golden.scores, atol=1e-6)
        assert again.champion is not None
        assert again.champion.measures == again.challenger.measures == first.challenger.measures
        assert again.promoted
        assert "the champion judged 130 of these pictures out of fold" in again.reason
        assert taught.registry.previous() == first.model
        assert again.comparison is not None
        assert (again.comparison.only_champion, again.comparison.mcnemar_p) == (0, 1.0)
        (flip,) = again.replay.flips
        assert (flip.id, flip.was, flip.now) == (7, "normal", "anomaly")
        assert (again.replay.replayed, again.replay.missing) == (1, 1 + 2)
        figures = cast(dict[str, Any], cards[1].decisions[0].figures)
        assert figures["replay"]["flips"][0]["id"] == 7
        assert figures["comparison"]["anomalies"] == 55

    def test_too_few_pictures_are_refused_before_anything_is_learned(self, tmp_path: Path) -> None:
        draw(tmp_path / "few", 3, 4)
        registry = Registry(tmp_path / "models")
        with pytest.raises(DatasetError, match="too few normal pictures: found 4; at least 50"):
            retraining.retrain(registry, asked(tmp_path / "few"), TOOLS, Silent())
        assert registry.ids() == []

    def test_a_second_training_is_refused_and_a_rollback_is_not(
        self, taught: Taught, pictures: Path
    ) -> None:
        code = (
            "import sys, pathlib, crackwatch.registry\n"
            "from crackwatch.training.retraining import alone\n"
            "with alone(crackwatch.registry.Registry(pathlib.Path(sys.argv[1]))):\n"
            "    print('held', flush=True)\n"
            "    sys.stdin.read()\n"
        )
        holder = subprocess.Popen(
            [sys.executable, "-c", code, str(taught.registry.folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        with holder:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"held\n"
            with pytest.raises(LockedError, match=str(holder.pid)):
                retraining.retrain(taught.registry, asked(pictures), TOOLS, Silent())
            before = taught.registry.champion()
            taught.registry.rollback()
            assert taught.registry.rollback() == before

    def test_the_notebook_recipe_keeps_its_flaws_and_never_beats_a_champion_unseen(
        self, taught: Taught, pictures: Path
    ) -> None:
        champion = taught.registry.champion()
        assert champion is not None
        own = taught.registry.card(champion).threshold

        def tuned_meanwhile(folder: Path, card: Card) -> Classifier:
            """Another process tunes the champion once its threshold has been read."""
            if card.threshold == own:
                tune_elsewhere(taught.registry, champion, 0.25)
            return load(folder, card)

        result = retraining.retrain(
            taught.registry,
            asked(pictures, recipe="notebook", epochs=1, quick=False),
            replace(TOOLS, open_classifier=tuned_meanwhile),
            Silent(),
        )
        assert result.champion is not None
        assert result.champion.measures.threshold == 0.25
        taught.registry.set_threshold(champion, own, decided_by="me", reason="as it was")
        card = taught.registry.card(result.model)
        assert (card.recipe, card.threshold.value, card.temperature) == ("notebook", 0.5, 1.0)
        assert card.data.counts["validation"] == {"anomaly": 0, "normal": 55}
        assert result.train == {"anomaly": 55, "normal": 110}
        assert not result.promoted
        assert "held back no anomaly" in result.reason
        assert taught.registry.champion() == champion
        known = learned.read(taught.registry.folder_of(result.model))
        assert known is not None
        assert not len(known.out_of_fold)

    def test_who_changes_the_models_for_a_moment_is_waited_for(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        registry = Registry(tmp_path / "models")
        code = (
            "import sys, pathlib, time, crackwatch.registry\n"
            "with crackwatch.registry.Registry(pathlib.Path(sys.argv[1])).lock():\n"
            "    print('held', flush=True)\n"
            "    time.sleep(1)\n"
        )
        with subprocess.Popen(
            [sys.executable, "-c", code, str(registry.folder)], stdout=subprocess.PIPE
        ) as holder:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"held\n"
            monkeypatch.setattr(retraining, "_LOCK_WAIT_S", 0.0)
            with pytest.raises(LockedError, match=str(holder.pid)), retraining._patiently(registry):
                pass
            monkeypatch.setattr(retraining, "_LOCK_WAIT_S", 30.0)
            with retraining._patiently(registry):
                assert holder.wait(timeout=10) == 0

    def test_the_notebook_has_no_quick_form(self, taught: Taught, pictures: Path) -> None:
        watcher = Silent()
        with pytest.raises(UsageError, match="no quick form"):
            retraining.retrain(taught.registry, asked(pictures, recipe="notebook"), TOOLS, watcher)
        assert watcher.stages == []  # before anything is read

    def test_reviews_alone_continue_the_champion_and_the_card_says_so(
        self, taught: Taught, tmp_path: Path
    ) -> None:
        champion = taught.registry.champion()
        assert champion is not None
        draw(tmp_path / "reviewed", 24, 24, seed=12)
        result = retraining.retrain(
            taught.registry, asked(tmp_path, promote="always", epochs=1), TOOLS, Silent()
        )
        card = taught.registry.card(result.model)
        assert card.parent == champion
        assert card.mm_per_px == 0.25  # nobody said anything else
        assert card.recipe == "station-continued"
        assert card.recipe_settings["learning_rate"] == pytest.approx(5e-5)
        assert any(f"Continued from the weights of {champion}" in note for note in card.notes)
        assert card.threshold.value == taught.registry.card(champion).threshold.value
        assert "kept from" in card.threshold.chosen_by
        assert "48 that it had never seen" in result.reason
        known = learned.read(taught.registry.folder_of(result.model))
        assert known is not None
        assert len(known) == 48 + 130  # its own, and what its parent had learned from
        assert known.reviewed.sum() == len(known.out_of_fold) == 48
        assert taught.registry.champion() == result.model

        # With more reviews it begins again where that one began: those weights know none of them.
        class Begun(Silent):
            def training(self, steps: Mapping[str, int]) -> None:
                raise KeyboardInterrupt  # how the trainings themselves go is known by now

        draw(tmp_path / "reviewed", 25, 26, seed=12)
        begun = Begun()
        with pytest.raises(KeyboardInterrupt):
            retraining.retrain(taught.registry, asked(tmp_path), TOOLS, begun)
        assert begun.stages[-1].endswith(f"continuing from {champion}")
        files = dataset.list_files(dataset.find_layout(tmp_path / "reviewed"))
        with dataset.load(files, decode, tmp_path) as pictures:
            groups = dataset.kinship(pictures).group_of
            met = honest.champion_scores(taught.registry, load, pictures, groups)
        assert isinstance(met, honest.Champion)
        assert met.id == result.model
        assert np.isfinite(met.scores).all()
        assert "the champion judged 48 of these pictures out of fold and 3 that" in met.note
        taught.registry.promote(champion)

    def test_too_few_reviews_are_refused_by_their_own_folder(
        self, taught: Taught, tmp_path: Path
    ) -> None:
        draw(tmp_path / "reviewed", 19, 30)
        with pytest.raises(DatasetError, match="at least 20") as caught:
            retraining.retrain(taught.registry, asked(tmp_path), TOOLS, Silent())
        assert str(tmp_path / "reviewed/anomaly") in caught.value.problem

    def test_reviews_without_a_champion_need_as_many_as_any_data(self, tmp_path: Path) -> None:
        draw(tmp_path / "reviewed", 24, 24)
        with pytest.raises(DatasetError, match="at least 50"):
            retraining.retrain(Registry(tmp_path / "models"), asked(tmp_path), TOOLS, Silent())
