"""Decisions at the level of scores: at which threshold, against which labels, and with which reason.

And what is told of one that its process did not live to carry out.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from crackwatch.dataset import Pictures, PixelCache
from crackwatch.dataset.copies import FOLDED
from crackwatch.registry import Card, Guarantee, Registry, Threshold
from crackwatch.training import calibration
from crackwatch.training.deciding import Judged, audit, judge
from crackwatch.training.honest import Champion
from crackwatch.training.operating import operating_point
from crackwatch.training.planning import Plan, Request
from crackwatch.training.recipes import STATION
from crackwatch.training.replaying import Replay
from crackwatch.training.retraining import Challenger, enter
from tests.model_folders import card

CRACKS, NORMALS = 455, 4000  # of the base data
REVIEWED = 200


def plan_of(
    folder: Path, labels: NDArray[np.int8], reviewed: NDArray[np.bool_], recipe: str = "station"
) -> Plan:
    count = len(labels)
    cache = PixelCache(0, folder)
    cache.close()  # scores alone are looked at
    pictures = Pictures(
        cache=cache,
        slots=np.arange(count),
        paths=tuple(b"%d.png" % each for each in range(count)),
        labels=labels,
        sha256=(b"",) * count,
        pixel_hashes=(b"",) * count,
        folded=np.zeros((count, FOLDED), np.float32),
        problems=(),
        contradictions=(),
    )
    return Plan(
        pictures=pictures,
        recipe=replace(STATION, name=recipe),
        parent=None,
        reviewed=reviewed,
        groups=np.arange(count),
        folds=(np.arange(count) % 5).astype(np.int8),
        train=np.arange(count),
        held=np.empty(0, np.intp),
    )


def asked(**changes: object) -> Request:
    request = Request(Path("dataset"), "station", 1, "auto")
    return replace(request, **changes)  # type: ignore[arg-type]  # names are the fields'


def own(value: float, promise: Guarantee | None = None) -> Threshold:
    return Threshold(value=value, chosen_by="a test", promise=promise)


def guarantee(goal: str, target: float | None) -> Guarantee:
    return Guarantee(
        goal=goal,
        target=target,
        confidence=0.95,
        recall_bound=0.9,
        false_alarms_per_1000_bound=5.0,
        anomalies=6,
        normals=6,
        examples="out of fold",
    )


@dataclass(frozen=True)
class Station:
    """What two models of like skill think of base data and reviews, and how each is labelled."""

    plan: Plan
    challenger: NDArray[np.float64]
    champion: Champion | str

    def judged(self, **changes: object) -> Judged:
        threshold = calibration.threshold(10)
        return judge(asked(**changes), self.plan, self.challenger, own(threshold), self.champion)


def station(folder: Path, flipped: int, seed: int = 0) -> Station:
    """Of 200 reviewed pictures, half of them cracks, ``flipped`` have the other's label."""
    random = np.random.default_rng(seed)
    truth = np.zeros(CRACKS + NORMALS + REVIEWED, np.int8)
    truth[:CRACKS] = truth[-REVIEWED // 2 :] = 1
    reviewed = np.arange(len(truth)) >= CRACKS + NORMALS
    labels = truth.copy()
    wrong = random.choice(np.flatnonzero(reviewed), flipped, replace=False)
    labels[wrong] = 1 - labels[wrong]
    # what makes a picture hard, it makes hard for both
    common = np.where(truth == 1, 8.0, -8.0) + random.normal(0, 2.5, len(truth))
    mine, theirs = (common + random.normal(0, 1, len(truth)) for _ in range(2))
    learned = calibration.calibrate(mine, labels)(mine)
    before = calibration.calibrate(theirs[~reviewed], labels[~reviewed])(theirs)
    return Station(
        plan_of(folder, labels, reviewed),
        1 / (1 + np.exp(-learned)),
        Champion("old", calibration.threshold(10), 1 / (1 + np.exp(-before)), "as in a test"),
    )


class TestReviews:
    @pytest.mark.parametrize("seed", [0, 7, 11])
    def test_with_one_in_ten_labelled_wrongly_nothing_is_promoted_and_the_reason_says_why(
        self, seed: int, tmp_path: Path
    ) -> None:
        there = station(tmp_path, 20, seed)
        verdict = there.judged()
        assert not verdict.promoted
        assert "of 200 reviewed labels contradict what the models see" in verdict.reason
        found = set(audit(there.plan, there.challenger, there.plan.reviewed).suspects.tolist())
        wrong = set(np.flatnonzero(there.plan.reviewed)) - {
            position
            for position in np.flatnonzero(there.plan.reviewed)
            if there.plan.pictures.labels[position] == int(position >= CRACKS + NORMALS + 100)
        }
        assert len(found & wrong) >= 16
        assert len(found - wrong) <= 2

    @pytest.mark.parametrize("seed", [0, 7, 11])
    def test_rightly_labelled_ones_are_believed(self, seed: int, tmp_path: Path) -> None:
        assert "reviewed labels" not in station(tmp_path, 0, seed).judged().reason

    def test_always_takes_it_all_the_same_and_says_so(self, tmp_path: Path) -> None:
        verdict = station(tmp_path, 20).judged(promote="always")
        assert verdict.promoted
        assert verdict.reason.startswith("promoted (--promote always): ")
        assert "reviewed labels contradict" in verdict.reason

    @pytest.mark.parametrize(
        "why", ["there was no champion", "the champion cannot be used: lenet.keras: is missing"]
    )
    def test_without_a_champion_to_compare_with_wrong_ones_are_no_more_believed(
        self, why: str, tmp_path: Path
    ) -> None:
        flipped = replace(station(tmp_path, 20), champion=why).judged()
        assert not flipped.promoted
        assert "of 200 reviewed labels contradict what the models see" in flipped.reason
        assert flipped.reason.endswith(why)
        assert replace(station(tmp_path, 0), champion=why).judged().reason == f"promoted: {why}"

    def test_without_base_data_the_reviews_calibrate_what_they_are_audited_by(
        self, tmp_path: Path
    ) -> None:
        there = station(tmp_path, 20)
        own = np.flatnonzero(there.plan.reviewed)
        alone = plan_of(
            tmp_path, there.plan.pictures.labels[own], np.ones(len(own), bool), "station-continued"
        )
        scores = there.challenger[own]
        found = audit(alone, scores, alone.reviewed)
        labels = alone.pictures.labels
        of_label = np.where(labels == 1, scores, 1 - scores)
        assert sorted(found.suspects.tolist()) == np.flatnonzero(of_label <= 0.05).tolist()


class TestThresholds:
    """Ten cracks and ten normals; the champion's own threshold is 0.5, the challenger's 0.1."""

    labels = np.repeat(np.array([1, 0], np.int8), 10)
    champion = np.array([0.9] * 9 + [0.3] + [0.2] * 10)
    challenger = np.array([0.9] * 9 + [0.05] + [0.02] * 10)

    def judged(self, folder: Path, **changes: object) -> Judged:
        plan = plan_of(folder, self.labels, np.zeros(20, bool))
        met = Champion("old", 0.5, self.champion, "")
        return judge(asked(**changes), plan, self.challenger, own(0.1), met)

    def test_each_is_judged_at_its_own(self, tmp_path: Path) -> None:
        verdict = self.judged(tmp_path)
        assert verdict.comparison is not None
        assert verdict.comparison.champion_escapes == verdict.comparison.challenger_escapes == 1
        assert verdict.promoted

    def test_what_the_champions_was_tuned_for_is_said_to_be_no_longer_promised(
        self, tmp_path: Path
    ) -> None:
        plan = plan_of(tmp_path, self.labels, np.zeros(20, bool))
        tuned = guarantee("max_false_alarms_per_1000", 5.0)
        met = Champion("old", 0.5, self.champion, "", tuned)
        told = "tuned for max_false_alarms_per_1000 5, which nobody has promised of this one's"
        cases: list[tuple[dict[str, object], bool]] = [
            ({}, True),
            ({"promote": "never"}, False),
            ({"threshold": 0.5}, False),
        ]
        for changes, said in cases:
            verdict = judge(asked(**changes), plan, self.challenger, own(0.1), met)
            assert (told in verdict.reason) is said
        verdict = judge(asked(), plan, self.challenger, own(0.1, tuned), met)
        assert "its threshold promises max_false_alarms_per_1000 5, as the champion's does" in (
            verdict.reason
        )

    def test_where_the_station_has_one_both_are_judged_at_that(self, tmp_path: Path) -> None:
        verdict = self.judged(tmp_path, threshold=0.25)
        assert verdict.comparison is not None
        assert verdict.comparison.champion_escapes == 0
        assert verdict.comparison.challenger_escapes == 1
        assert verdict.champion is not None
        assert verdict.champion.measures.threshold == 0.25
        assert not verdict.promoted
        assert "both judged from 0.25 on, as [model] threshold has it" in verdict.reason


class TestThePromise:
    """The champion's threshold was tuned: whether the challenger's keeps the same promise."""

    @dataclass(frozen=True)
    class Models:
        card_: Card

        def champion(self) -> str:
            return self.card_.id

        def card(self, model_id: str) -> Card:
            assert model_id == self.card_.id
            return self.card_

    def chosen(self, folder: Path, promised: Guarantee | None, cracks: int = 400) -> Threshold:
        random = np.random.default_rng(3)
        labels = np.repeat(np.array([1, 0], np.int8), [cracks, 3_000])
        logits = np.where(labels == 1, 4.0, -4.0) + random.normal(0, 2, len(labels))
        models = self.Models(card("old").model_copy(update={"threshold": own(0.7, promised)}))
        plan = plan_of(folder, labels, np.zeros(len(labels), bool))
        found, threshold = operating_point(models, asked(), plan, logits)
        scores = 1 / (1 + np.exp(-found(logits)))
        self.recall = float((scores[labels == 1] >= threshold.value).mean())
        return threshold

    def test_is_kept_by_the_new_ones_own_scores(self, tmp_path: Path) -> None:
        found = self.chosen(tmp_path, guarantee("min_recall", 0.9))
        assert found.promise is not None
        assert (found.promise.goal, found.promise.target) == ("min_recall", 0.9)
        assert found.promise.recall_bound >= 0.9
        assert found.promise.anomalies == 400, "its own examples, not the champion's"
        assert 0.9 < self.recall < 0.97
        assert "as old promises it" in found.chosen_by

        found = self.chosen(tmp_path, guarantee("max_false_alarms_per_1000", 10))
        assert found.promise is not None
        assert found.promise.false_alarms_per_1000_bound <= 10

    def test_that_cannot_be_proved_is_said_and_costs_decide(self, tmp_path: Path) -> None:
        found = self.chosen(tmp_path, guarantee("min_recall", 0.999))
        assert found.promise is None
        assert found.value == calibration.threshold(10)
        assert "a recall of at least 0.999 at a confidence of 0.95, as old promises" in (
            found.chosen_by
        )
        assert "takes at least 2995 independent anomalies" in found.chosen_by

    @pytest.mark.parametrize("goal", [None, "least_cost"])
    def test_without_one_costs_decide(self, goal: str | None, tmp_path: Path) -> None:
        found = self.chosen(tmp_path, goal and guarantee(goal, None))
        assert (found.promise, found.value) == (None, calibration.threshold(10))
        assert "promises" not in found.chosen_by


def test_where_no_crack_has_two_honest_scores_nothing_is_promoted_and_a_way_out_is_named(
    tmp_path: Path,
) -> None:
    labels = np.repeat(np.array([1, 0], np.int8), 6)
    plan = plan_of(tmp_path, labels, np.zeros(12, bool))
    known = np.where(labels == 1, np.nan, 0.1)
    verdict = judge(asked(), plan, np.full(12, 0.5), own(0.5), Champion("old", 0.5, known, ""))
    assert not verdict.promoted
    assert "--promote always" in verdict.reason
    assert verdict.positions.tolist() == list(range(6, 12))


@pytest.mark.parametrize("rare", [0, 1])
def test_nine_of_a_class_prove_nothing_and_ten_may(rare: int, tmp_path: Path) -> None:
    for count, promote, promoted in ((9, "auto", False), (10, "auto", True), (9, "always", True)):
        labels = np.array([rare] * count + [1 - rare] * 30, np.int8)
        plan = plan_of(tmp_path, labels, np.zeros(len(labels), bool))
        scores = np.where(labels == 1, 0.9, 0.1)
        met = Champion("old", 0.5, scores, "")
        verdict = judge(asked(promote=promote), plan, scores, own(0.5), met)
        assert verdict.promoted is promoted
        assert ("fewer than 10 of a class prove nothing" in verdict.reason) is (count < 10)


# Dies by SIGKILL where it would rename a file to be the champion's pointer, if it is told to.
ENTERING = """
import os, signal, sys
from pathlib import Path

sys.path.insert(0, sys.argv[1])
from tests.test_deciding import enter_the_models_of

def hook(event, arguments):
    if event == "os.rename" and os.path.basename(arguments[1]) == "champion":
        os.kill(os.getpid(), signal.SIGKILL)

if sys.argv[3] == "die":
    sys.addaudithook(hook)
enter_the_models_of(Path(sys.argv[2]), sys.argv[4])
"""


def enter_the_models_of(folder: Path, model_id: str) -> None:
    """Publishes and promotes a challenger whose files are only bytes."""
    there = station(folder, 0)
    made = folder / model_id
    made.mkdir()
    (made / "lenet.keras").write_bytes(b"weights")
    challenger = Challenger(made, card(model_id), there.challenger, (), Replay(0, 0, ()))
    registry = Registry(folder / "models")
    enter(registry, asked(), there.plan, challenger, lambda: "there was no champion")


def test_killed_between_publishing_and_promoting_no_card_tells_of_a_promotion(
    tmp_path: Path,
) -> None:
    def run(what: str, model_id: str) -> int:
        root = Path(__file__).parents[1]
        arguments = [str(root), str(tmp_path), what, model_id]
        return subprocess.run([sys.executable, "-c", ENTERING, *arguments]).returncode

    registry = Registry(tmp_path / "models")
    assert run("die", "one") == -signal.SIGKILL
    assert registry.ids() == ["one"]
    assert registry.champion() is None
    assert registry.verify("one").decisions == ()
    assert run("live", "two") == 0
    assert registry.champion() == "two"
    (decision,) = registry.verify("two").decisions
    assert (decision.what, decision.reason) == ("promotion", "promoted: there was no champion")
    assert registry.verify("one").decisions == ()
