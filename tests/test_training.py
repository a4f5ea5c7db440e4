"""Recipes, calibration, and whole retrainings of tiny folders, published or refused."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from crackwatch import lenet
from crackwatch.agreement import check_golden, read_golden
from crackwatch.domain import QuarantineReason
from crackwatch.errors import DatasetError, LockedError, ModelDisagrees, Unreadable
from crackwatch.evaluation import measure
from crackwatch.registry import MODEL_FILE, Registry
from crackwatch.runtime import GRAPH_FILE, load
from crackwatch.runtime.openvino import build
from crackwatch.runtime.reference import KerasClassifier
from crackwatch.training import calibration, recipes, retraining
from crackwatch.training.fitting import Epoch
from crackwatch.training.retraining import Duel, Tools
from tests.labelled import Silent, asked, contents, draw

# Keras's own reading of its variables, with NumPy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


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
        assert calibration.temperature(logits * factor, labels) == pytest.approx(factor, rel=0.03)

    def test_a_perfect_separation_does_not_run_away(self) -> None:
        logits = np.array([-9.0] * 50 + [9.0] * 50)
        labels = np.array([0] * 50 + [1] * 50, np.int8)
        assert 0.5 < calibration.temperature(logits, labels) <= 1

    def test_the_threshold_is_in_the_middle_of_a_plateau(self) -> None:
        logits = np.array([-8.0] * 200 + [4.0] * 200)
        labels = np.array([0] * 200 + [1] * 200, np.int8)
        assert calibration.threshold(logits, labels) == pytest.approx(1 / (1 + np.exp(2)), rel=0.05)

    def test_one_picture_does_not_swing_the_threshold(self) -> None:
        random = np.random.default_rng(2)
        logits = np.concatenate([random.normal(-7, 2, 3000), random.normal(5, 2, 100)])
        labels = np.repeat(np.array([0, 1], np.int8), [3000, 100])
        whole = calibration.threshold(logits, labels)
        for left_out in (int(np.argmax(logits[:3000])), 3000 + int(np.argmin(logits[3000:]))):
            others = np.delete(np.arange(3100), left_out)
            without = calibration.threshold(logits[others], labels[others])
            assert abs(np.log(without / (1 - without)) - np.log(whole / (1 - whole))) < 0.35

    def test_one_class_has_no_threshold(self) -> None:
        with pytest.raises(ValueError, match="both classes"):
            calibration.threshold(np.zeros(3), np.zeros(3, np.int8))

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
            return np.concatenate(list(found)).tolist()

        assert epoch(1) == epoch(1) != epoch(2)

    def test_turning_and_mirroring_reach_all_eight_orientations_and_move_pixels_only(self) -> None:
        picture = np.random.default_rng(1).integers(0, 256, (227, 227, 3), dtype=np.uint8)
        only_turns = replace(recipes.STATION, jitter=0.0, shift=0)
        batch = np.repeat(picture[None], 100, axis=0)
        seen = recipes.augment(only_turns, batch, np.random.default_rng(2))
        assert len({each.tobytes() for each in seen}) == 8
        for each in seen:
            np.testing.assert_array_equal(np.sort(each.ravel()), np.sort(picture.ravel()))

    def test_jitter_stays_within_bytes_and_bounds(self) -> None:
        grey = np.full((200, 227, 227, 3), 150, np.uint8)
        seen = recipes.augment(recipes.STATION, grey, np.random.default_rng(2))
        assert seen.dtype == np.float32
        assert 150 * 0.8 <= seen.min() < 150 * 0.85
        assert 150 * 1.15 < seen.max() <= 150 * 1.2
        white = np.full((50, 227, 227, 3), 255, np.uint8)
        assert recipes.augment(recipes.STATION, white, np.random.default_rng(2)).max() <= 255

    def test_the_notebook_sees_pictures_as_they_are(self) -> None:
        picture = np.random.default_rng(1).integers(0, 256, (2, 227, 227, 3), dtype=np.uint8)
        seen = recipes.augment(recipes.NOTEBOOK, picture, np.random.default_rng(2))
        np.testing.assert_array_equal(seen, picture)


# ----------------------------------------------------------------------------------- retrainings


def decode(content: bytes) -> NDArray[np.uint8]:
    picture = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    if picture is None:
        raise Unreadable(QuarantineReason.NOT_AN_IMAGE, "no decoder knows it")
    return picture


TOOLS = Tools(
    decode=decode,
    export=lambda folder: build(folder / MODEL_FILE, folder / GRAPH_FILE),
    open_classifier=load,
    open_reference=lambda file: KerasClassifier("reference", file),
)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("labelled")
    draw(folder / "train", 55, 75)
    (folder / "train/normal/notes.txt").write_text("no picture")
    return folder


@pytest.fixture(scope="module")
def taught(
    pictures: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Registry, retraining.Result]:
    """A models folder with its first champion."""
    registry = Registry(tmp_path_factory.mktemp("station") / "models")
    return registry, retraining.retrain(registry, asked(pictures), TOOLS, Silent())


class TestRetraining:
    def test_the_first_model_becomes_champion(
        self, taught: tuple[Registry, retraining.Result]
    ) -> None:
        registry, result = taught
        assert registry.champion() == result.model
        assert result.promoted
        assert result.reason == "promoted: there was no champion"
        assert result.champion is None
        assert result.train["normal"] == 60
        assert result.validation["normal"] == 15
        assert result.train["anomaly"] + result.validation["anomaly"] == 55
        assert 11 <= result.validation["anomaly"] <= 12  # two bars may be alike: one group
        assert [Path(problem.path).name for problem in result.problems] == ["notes.txt"]

    def test_its_card_tells_where_it_comes_from(
        self, taught: tuple[Registry, retraining.Result]
    ) -> None:
        registry, result = taught
        card = registry.verify(result.model)
        assert card.parameters == lenet.PARAMETERS
        assert (card.recipe, card.seed, card.parent) == ("station", 3, None)
        assert card.data.counts == {"train": result.train, "validation": result.validation}
        assert card.recipe_settings["best_epoch"] in (1, 2)
        assert {"tensorflow", "keras", "numpy", "python"} <= set(card.libraries)
        held = sum(result.validation.values())
        assert card.scores["validation"]["n"] == held
        assert card.export is not None
        assert card.export.compared == held
        assert card.export.largest_difference <= 1e-4
        assert "anomalies and 15 normals held back" in card.threshold.chosen_by
        assert any("1 files were left out" in note for note in card.notes)

    def test_its_golden_pictures_score_as_the_card_says(
        self, taught: tuple[Registry, retraining.Result]
    ) -> None:
        registry, result = taught
        card, folder = registry.card(result.model), registry.folder_of(result.model)
        golden = read_golden(folder, card)
        assert len(golden) == sum(result.validation.values())
        check_golden(load(folder, card), golden, card.golden.scores, 1e-4, card.threshold.value)

    def test_it_learned_something(self, taught: tuple[Registry, retraining.Result]) -> None:
        pr_auc = taught[1].challenger.measures.pr_auc
        assert pr_auc is not None
        assert pr_auc > 0.9  # drawn bars are easy; chance is 0.42

    def test_the_same_seed_and_data_give_the_same_verdicts_and_are_no_worse(
        self, taught: tuple[Registry, retraining.Result], pictures: Path
    ) -> None:
        registry, first = taught
        watcher = Silent()
        again = retraining.retrain(registry, asked(pictures), TOOLS, watcher)
        mine, theirs = again.challenger.measures, first.challenger.measures
        assert (mine.tp, mine.fn, mine.fp, mine.tn) == (theirs.tp, theirs.fn, theirs.fp, theirs.tn)
        assert mine.threshold == pytest.approx(theirs.threshold, abs=1e-3)
        assert mine.brier == pytest.approx(theirs.brier, abs=1e-3)
        assert again.champion is not None
        assert again.champion.measures == theirs
        assert again.promoted
        assert "neither model learned from these pictures" in again.reason
        assert registry.previous() == first.model
        assert [epoch.number for epoch in watcher.epochs] == [1, 2]
        assert watcher.steps == 2 * -(-60 // 24)

    @pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
    def test_an_interrupted_run_leaves_the_models_as_they_were(
        self,
        taught: tuple[Registry, retraining.Result],
        pictures: Path,
        error: type[BaseException],
    ) -> None:
        registry, _ = taught
        before = contents(registry.folder)

        class Interrupting(Silent):
            def epoch(self, epoch: Epoch) -> None:
                raise error

        with pytest.raises(error):
            retraining.retrain(registry, asked(pictures), TOOLS, Interrupting())
        assert contents(registry.folder) == before

    def test_an_export_that_disagrees_is_not_published(
        self, taught: tuple[Registry, retraining.Result], pictures: Path
    ) -> None:
        registry, _ = taught
        before = contents(registry.folder)

        class Off:
            model_id = "off"

            def scores(self, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
                return np.full(len(pictures), 0.5, np.float32)

        tools = replace(TOOLS, open_classifier=lambda *_: Off())
        with pytest.raises(ModelDisagrees):
            retraining.retrain(registry, asked(pictures, epochs=1), tools, Silent())
        assert contents(registry.folder) == before

    def test_too_few_pictures_are_refused_before_anything_is_learned(self, tmp_path: Path) -> None:
        draw(tmp_path / "few", 3, 4)
        registry = Registry(tmp_path / "models")
        with pytest.raises(DatasetError, match="too few normal pictures: found 4; at least 50"):
            retraining.retrain(registry, asked(tmp_path / "few"), TOOLS, Silent())
        assert registry.ids() == []

    def test_a_models_folder_that_another_process_holds_is_refused(
        self, tmp_path: Path, pictures: Path
    ) -> None:
        code = (
            "import sys, pathlib, crackwatch.registry\n"
            "with crackwatch.registry.Registry(pathlib.Path(sys.argv[1])).lock():\n"
            "    print('held', flush=True)\n"
            "    sys.stdin.read()\n"
        )
        holder = subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path / "models")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        with holder:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"held\n"
            with pytest.raises(LockedError, match=str(holder.pid)):
                retraining.retrain(Registry(tmp_path / "models"), asked(pictures), TOOLS, Silent())

    def test_the_notebook_recipe_keeps_its_flaws_and_never_beats_a_champion_unseen(
        self, taught: tuple[Registry, retraining.Result], pictures: Path
    ) -> None:
        registry, _ = taught
        champion = registry.champion()
        result = retraining.retrain(
            registry, asked(pictures, recipe="notebook", epochs=1), TOOLS, Silent()
        )
        card = registry.card(result.model)
        assert (card.recipe, card.threshold.value, card.temperature) == ("notebook", 0.5, 1.0)
        assert result.validation == {"anomaly": 0, "normal": 55}
        assert result.train == {"anomaly": 55, "normal": 110}
        assert not result.promoted
        assert "held back no anomaly" in result.reason
        assert registry.champion() == champion

    def test_reviews_alone_continue_the_champion_and_the_card_says_so(
        self, taught: tuple[Registry, retraining.Result], tmp_path: Path
    ) -> None:
        registry, _ = taught
        champion = registry.champion()
        assert champion is not None
        draw(tmp_path / "reviewed", 24, 24, seed=9)
        result = retraining.retrain(
            registry, asked(tmp_path, promote="never", epochs=1), TOOLS, Silent()
        )
        card = registry.card(result.model)
        assert card.parent == champion
        assert card.recipe == "station-continued"
        assert card.recipe_settings["learning_rate"] == pytest.approx(5e-5)
        assert any(f"Continued from the weights of {champion}" in note for note in card.notes)
        assert card.threshold.value == registry.card(champion).threshold.value
        assert "kept from" in card.threshold.chosen_by
        assert not result.promoted
        assert registry.champion() == champion

    def test_too_few_reviews_are_refused_by_their_own_folder(
        self, taught: tuple[Registry, retraining.Result], tmp_path: Path
    ) -> None:
        draw(tmp_path / "reviewed", 19, 30)
        with pytest.raises(DatasetError, match="at least 20") as caught:
            retraining.retrain(taught[0], asked(tmp_path), TOOLS, Silent())
        assert str(tmp_path / "reviewed/anomaly") in caught.value.problem

    def test_reviews_without_a_champion_need_as_many_as_any_data(self, tmp_path: Path) -> None:
        draw(tmp_path / "reviewed", 24, 24)
        with pytest.raises(DatasetError, match="at least 50"):
            retraining.retrain(Registry(tmp_path / "models"), asked(tmp_path), TOOLS, Silent())


class TestJudging:
    def duel(self, fn: int, fp: int) -> Duel:
        scores = np.repeat([0.9, 0.1, 0.9, 0.1], [20 - fn, fn, fp, 100 - fp])
        labels = np.repeat(np.array([1, 1, 0, 0], np.int8), [20 - fn, fn, fp, 100 - fp])
        return Duel("some", measure(scores, labels, 0.5))

    @pytest.mark.parametrize(
        ("promote", "champion", "challenger", "promoted"),
        [
            ("auto", (1, 1), (0, 1), True),
            ("auto", (1, 1), (1, 1), True),
            ("auto", (1, 1), (2, 1), False),
            ("always", (1, 1), (9, 9), True),
            ("never", (9, 9), (0, 0), False),
        ],
    )
    def test_auto_promotes_what_is_no_worse(
        self,
        promote: str,
        champion: tuple[int, int],
        challenger: tuple[int, int],
        promoted: bool,
    ) -> None:
        got, reason = retraining.judge(
            asked(Path(), promote=promote),
            recipes.STATION,
            self.duel(*champion),
            self.duel(*challenger),
            "a remark",
        )
        assert got is promoted
        assert reason.startswith("promoted" if promoted else "not promoted")
        assert f"{challenger[0]} against {champion[0]} escapes" in reason
        assert "20 anomalies and 100 normals" in reason
        assert "a remark" in reason
