"""A promise about a threshold holds as often as it says, and is refused where nothing supports it."""

from __future__ import annotations

import math
import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import binom, norm

from crackwatch import bounds, labelled_scores, promise
from crackwatch.errors import PromiseError
from crackwatch.labelled_scores import Examples
from crackwatch.promise import LeastCost, MaxFalseAlarms, MinRecall

RATES = (0.001, 0.002, 0.01, 0.02, 0.05, 0.1, 0.5, 0.9)
CONFIDENCES = (0.5, 0.8, 0.9, 0.95, 0.99)


def examples(
    anomalies: list[float] | NDArray[np.floating], normals: list[float] | NDArray[np.floating]
) -> Examples:
    """Scores by class, each picture independent of the others."""
    scores = np.concatenate([np.asarray(anomalies, float), np.asarray(normals, float)])
    labels = np.repeat([1, 0], [len(anomalies), len(normals)])
    return Examples.of_scores(scores, labels)


def drawn(anomalies: int, normals: int, seed: int = 7) -> Examples:
    """Normal logits that overlap a little."""
    random = np.random.default_rng(seed)
    logits = np.concatenate([random.normal(5, 2.5, anomalies), random.normal(-7, 2.5, normals)])
    return Examples.of_logits(logits, np.repeat([1, 0], [anomalies, normals]))


def asked(known: Examples, goal: promise.Goal, confidence: float) -> promise.Promise | PromiseError:
    """What ``choose`` gives, or why it refuses."""
    try:
        return promise.choose(known, goal, 0.1, confidence)
    except PromiseError as refused:
        return refused


# ---------------------------------------------------------------------------- against brute force


@pytest.mark.parametrize("confidence", CONFIDENCES)
@pytest.mark.parametrize("rate", RATES)
def test_the_number_needed_is_the_least_that_would_do(rate: float, confidence: float) -> None:
    needed = bounds.examples_needed(rate, confidence)
    chance, doubt = 1 - Fraction(str(rate)), 1 - Fraction(str(confidence))
    assert chance**needed <= doubt < chance ** (needed - 1)
    assert bounds.errors_allowed(needed, rate, confidence) >= 0
    assert bounds.errors_allowed(needed - 1, rate, confidence) == -1


def test_the_numbers_that_the_textbooks_have() -> None:
    assert bounds.examples_needed(0.01, 0.95) == 299
    assert bounds.examples_needed(0.05, 0.95) == 59  # Wilks's 95/95
    assert bounds.examples_needed(0.10, 0.90) == 22
    assert bounds.examples_needed(0.002, 0.95) == 1_497


def test_the_table_of_the_documentation_is_true() -> None:
    text = (Path(__file__).parents[1] / "docs/threshold.md").read_text()
    rows = re.findall(r"^\| (0\.\d+) \| (0\.\d+) \| (.*) \|$", text, re.MULTILINE)
    assert len(rows) == 8
    for recall, confidence, numbers in rows:
        rate = 1 - float(recall)
        for misses, number in zip((0, 1, 2, 5), map(int, numbers.split(" | ")), strict=True):
            assert bounds.errors_allowed(number, rate, float(confidence)) == misses
            assert bounds.errors_allowed(number - 1, rate, float(confidence)) == misses - 1


@pytest.mark.parametrize("confidence", CONFIDENCES)
@pytest.mark.parametrize("rate", RATES)
def test_errors_are_allowed_as_long_as_the_binomial_tail_permits(
    rate: float, confidence: float
) -> None:
    for trials in (1, 7, 30, 299, 457, 3_000):
        tails = binom.cdf(np.arange(trials + 1), trials, rate)
        wanted = int(np.sum(tails <= (1 - confidence) * (1 + 1e-9))) - 1
        assert bounds.errors_allowed(trials, rate, confidence) == wanted


@pytest.mark.parametrize(("successes", "trials"), [(1, 1), (30, 30), (29, 30), (1, 30), (450, 457)])
def test_the_bounds_are_where_the_binomial_tails_reach_the_doubt(
    successes: int, trials: int
) -> None:
    low = bounds.lower_bound(successes, trials, 0.95)
    assert binom.sf(successes - 1, trials, low) == pytest.approx(0.05, rel=1e-9)
    if successes < trials:
        high = bounds.upper_bound(successes, trials, 0.95)
        assert binom.cdf(successes, trials, high) == pytest.approx(0.05, rel=1e-9)


def test_the_bounds_have_ends() -> None:
    assert bounds.lower_bound(0, 30, 0.95) == 0
    assert bounds.upper_bound(30, 30, 0.95) == 1
    assert bounds.lower_bound(30, 30, 0.95) == pytest.approx(0.05 ** (1 / 30))


# ------------------------------------------------------------------------------------ the choice


def test_the_highest_threshold_whose_bound_suffices_is_taken() -> None:
    known = drawn(600, 3_000)
    found = promise.choose(known, MinRecall(0.98), 0.03)
    anomalies = known.of_class(1)
    suffices = [
        score
        for score in anomalies
        if bounds.lower_bound(int((anomalies >= score).sum()), 600, 0.95) >= 0.98
    ]
    assert max(suffices) - 2e-6 < found.threshold < max(suffices)
    assert found.pictures.fn == 6  # 7 of 600 would leave a bound of 0.978
    assert found.recall == 594 / 600
    assert found.recall_bound == bounds.lower_bound(594, 600, 0.95) >= 0.98
    assert found.pictures == found.independent


def test_the_lowest_threshold_whose_bound_suffices_is_taken() -> None:
    known = drawn(600, 3_000)
    found = promise.choose(known, MaxFalseAlarms(5), 0.03)
    normals = known.of_class(0)
    assert bounds.upper_bound(found.pictures.fp, 3_000, 0.95) <= 0.005
    assert bounds.upper_bound(found.pictures.fp + 1, 3_000, 0.95) > 0.005
    left_alone = normals[normals < found.threshold].max()
    assert found.threshold - 2e-6 < left_alone
    assert (normals >= left_alone).sum() == found.pictures.fp + 1
    assert found.false_alarms_per_1000 == pytest.approx(found.pictures.fp / 3)
    assert found.false_alarms_per_1000_bound <= 5


def test_thirty_anomalies_do_not_support_a_recall_of_99_per_cent() -> None:
    with pytest.raises(PromiseError, match="at least 299 independent anomalies") as caught:
        promise.choose(drawn(30, 970), MinRecall(0.99), 0.03)
    assert (caught.value.have, caught.value.needed) == (30, 299)
    with pytest.raises(PromiseError, match="there are 298"):
        promise.choose(drawn(298, 10), MinRecall(0.99), 0.03)
    assert promise.choose(drawn(299, 10), MinRecall(0.99), 0.03).pictures.fn == 0


def test_a_thousand_normals_do_not_support_two_false_alarms_in_a_thousand() -> None:
    with pytest.raises(PromiseError, match="at least 1497 independent normals") as caught:
        promise.choose(drawn(30, 970), MaxFalseAlarms(2), 0.03)
    assert (caught.value.have, caught.value.needed) == (970, 1_497)


def test_normals_that_are_certain_cracks_cannot_be_promised_away() -> None:
    known = examples([0.9] * 60, [1.0] * 10 + [0.1] * 990)
    with pytest.raises(PromiseError, match="10 of 1000 independent normals have the score 1"):
        promise.choose(known, MaxFalseAlarms(10), 0.03)


@pytest.mark.parametrize("goal", [MinRecall(0.5), MaxFalseAlarms(500), LeastCost(10, 1)])
def test_without_one_class_there_is_no_promise(goal: promise.Goal) -> None:
    for known in (examples([0.9] * 50, []), examples([], [0.1] * 50)):
        with pytest.raises(PromiseError, match=r"anomalies|normals"):
            promise.choose(known, goal, 0.1)


def test_scores_that_the_station_cannot_tell_apart_are_one() -> None:
    """A float32 next to 1 is 6e-8 away: above a logit of 17 every score is 1."""
    logits = np.array([17.5, 18.0, 30.0] * 20 + [-5.0] * 50)
    known = Examples.of_logits(logits, np.repeat([1, 0], [60, 50]))
    found = promise.choose(known, MinRecall(0.9), 0.1)
    assert 1 - 2e-6 < found.threshold < 1
    assert found.pictures.fn == 0  # and yet no more is promised than the second worst allows
    assert found.recall_bound == bounds.lower_bound(
        60 - bounds.errors_allowed(60, 0.1, 0.95), 60, 0.95
    )


def test_low_scores_keep_their_differences() -> None:
    logits = np.concatenate([np.linspace(-60, 10, 100), np.full(50, -70.0)])
    known = Examples.of_logits(logits, np.repeat([1, 0], [100, 50]))
    found = promise.choose(known, MinRecall(0.95), 0.1)
    allowed = bounds.errors_allowed(100, 0.05, 0.95)
    assert found.pictures.fn == allowed > 0
    assert found.pictures.fp == 0


@pytest.mark.parametrize("score", [1.0, 0.99999994, 0.9, 0.5, 1e-3, 1e-7, 1e-30])
@pytest.mark.parametrize("goal", [MinRecall(0.9), MaxFalseAlarms(100.0)], ids=["crack", "normal"])
def test_the_picture_at_the_threshold_has_its_verdict_in_batches_of_any_size(
    goal: promise.Goal, score: float
) -> None:
    """What sums in another order make of a score: METU's were up to 1.2e-7 apart."""
    if isinstance(goal, MaxFalseAlarms) and score == 1.0:
        return  # refused: no threshold lies above it
    found = promise.choose(examples([score] * 100, [score] * 100), goal, 0.1)
    away = np.float32(min(1.2e-7, score * 1e-5))
    assert 0 <= found.threshold <= 1
    if isinstance(goal, MinRecall):
        assert float(np.float32(score) - away) >= found.threshold > score - 2e-6
    else:
        assert found.threshold < score + 2e-6
        if score < 0.999:
            assert float(np.float32(score) + away) < found.threshold


# --------------------------------------------------------------------------------- independence


@pytest.mark.parametrize(
    "goal", [MinRecall(0.9), MaxFalseAlarms(100.0)], ids=["recall", "false alarms"]
)
def test_equal_scores_do_not_make_a_bound_better_than_what_was_allowed(goal: promise.Goal) -> None:
    """Had fewer errors been seen because scores are equal, that would be luck of the choice."""
    scores = np.repeat([0.5, 0.5], 300)
    found = promise.choose(examples(scores[:300], scores[300:]), goal, 0.1)
    allowed = bounds.errors_allowed(300, 0.1, 0.95)
    assert allowed > 10
    if isinstance(goal, MinRecall):
        assert found.pictures.fn == 0
        assert found.recall_bound == bounds.lower_bound(300 - allowed, 300, 0.95)
    else:
        assert found.pictures.fp == 0
        assert found.false_alarms_per_1000_bound == 1000 * bounds.upper_bound(allowed, 300, 0.95)


@pytest.mark.parametrize("trials", [0, 1, 5])
@pytest.mark.parametrize("confidence", [1e-9, 0.5])
def test_where_all_may_be_wrong_one_at_least_must_be_right(trials: int, confidence: float) -> None:
    assert bounds.errors_allowed(trials, 0.999, confidence) <= trials - 1


def test_pictures_of_one_crack_count_once_by_the_worst() -> None:
    scores = np.array([0.9, 0.2, 0.8, 0.7] * 100 + [0.1, 0.6] * 100)
    labels = np.repeat([1, 0], [400, 200])
    groups = np.concatenate([np.repeat(np.arange(100), 4), 100 + np.repeat(np.arange(100), 2)])
    found = promise.choose(Examples.of_scores(scores, labels, groups), MinRecall(0.9), 0.5)
    assert 0.2 - 2e-6 < found.threshold < 0.2
    assert found.independent == labelled_scores.Counts(tp=100, fn=0, fp=100, tn=0)
    assert found.pictures == labelled_scores.Counts(tp=400, fn=0, fp=100, tn=100)
    assert found.false_alarms_per_1000 == 500
    assert found.false_alarms_per_1000_bound == 1000
    with pytest.raises(PromiseError, match="there are 100") as caught:
        promise.choose(Examples.of_scores(scores, labels, groups), MinRecall(0.98), 0.5)
    assert (caught.value.have, caught.value.needed) == (100, 149)


def test_a_group_with_both_labels_is_evidence_for_both() -> None:
    known = Examples.of_scores(
        np.array([0.9, 0.1] * 60), np.array([1, 0] * 60), np.repeat(np.arange(60), 2)
    )
    found = promise.choose(known, MinRecall(0.95), 0.5)
    assert found.independent == labelled_scores.Counts(tp=60, fn=0, fp=0, tn=60)


# ------------------------------------------------------------------------------------ properties

SCORES = st.lists(st.floats(0, 1, width=32), min_size=1, max_size=200)


@settings(deadline=None)
@given(SCORES, SCORES, st.sampled_from([0.5, 0.8, 0.9, 0.98]), st.sampled_from([0.6, 0.9, 0.95]))
def test_a_promised_recall_is_never_above_what_was_seen(
    anomalies: list[float], normals: list[float], recall: float, confidence: float
) -> None:
    known = examples(anomalies, normals)
    found = asked(known, MinRecall(recall), confidence)
    if isinstance(found, PromiseError):
        needed = bounds.examples_needed(1 - recall, confidence)
        assert (found.have, found.needed) == (len(anomalies), needed)
        assert len(anomalies) < needed
        return
    assert recall <= found.recall_bound + 1e-9
    assert found.recall_bound <= found.recall
    worst = min(score for score in anomalies if score >= found.threshold)
    assert worst - found.threshold < 2e-6
    higher = [score for score in anomalies if score > worst + 2e-6]
    for score in higher:  # none of them would do
        there = sum(each >= score for each in anomalies)
        assert bounds.lower_bound(there, len(anomalies), confidence) < recall


@settings(deadline=None)
@given(SCORES, SCORES, st.sampled_from([5.0, 100.0, 400.0]), st.sampled_from([0.6, 0.9, 0.95]))
def test_promised_false_alarms_are_never_fewer_than_were_seen(
    anomalies: list[float], normals: list[float], per_1000: float, confidence: float
) -> None:
    known = examples(anomalies, normals)
    found = asked(known, MaxFalseAlarms(per_1000), confidence)
    if isinstance(found, PromiseError):
        assert found.have == len(normals)
        assert found.needed is None or len(normals) < found.needed
        return
    assert found.false_alarms_per_1000 <= found.false_alarms_per_1000_bound <= per_1000 + 1e-6
    assert 0 <= found.threshold <= 1


@settings(deadline=None)
@given(SCORES, SCORES, st.floats(0, 1), st.integers(0, 3))
def test_a_forecast_keeps_its_books_and_holds_what_was_seen(
    anomalies: list[float], normals: list[float], prevalence: float, seed: int
) -> None:
    random = np.random.default_rng(seed)
    known = Examples.of_scores(
        np.array(anomalies + normals),
        np.repeat([1, 0], [len(anomalies), len(normals)]),
        random.integers(0, 50, len(anomalies) + len(normals)) if seed else None,
    )
    try:
        found = promise.choose(known, MinRecall(0.5), prevalence, 0.6)
    except PromiseError:
        return
    cost = found.forecast
    found_cracks = 1000 * prevalence - cost.missed.expected
    assert cost.flagged.expected == pytest.approx(found_cracks + cost.false_alarms.expected)
    for span in (cost.flagged, cost.false_alarms, cost.missed):
        assert -1e-9 <= span.low <= span.high <= 1000 + 1e-9
        if not seed:
            assert span.low - 1e-9 <= span.expected <= span.high + 1e-9


def test_a_forecast_has_the_exact_bounds_of_both_classes_at_half_the_doubt_each() -> None:
    known = examples([0.9] * 95 + [0.05] * 5, [0.9] * 3 + [0.05] * 197)
    found = promise.choose(known, MinRecall(0.8), 0.1, 0.95)
    assert 0.9 - 2e-6 < found.threshold < 0.9
    missed, false = found.forecast.missed, found.forecast.false_alarms
    assert missed.expected == pytest.approx(100 * 5 / 100)
    assert false.expected == pytest.approx(900 * 3 / 200)
    tail = pytest.approx(0.05 / 4, rel=1e-6)
    assert binom.cdf(5, 100, missed.high / 100) == tail
    assert binom.sf(4, 100, missed.low / 100) == tail
    assert binom.cdf(3, 200, false.high / 900) == tail
    assert binom.sf(2, 200, false.low / 900) == tail
    assert found.forecast.flagged.high == pytest.approx(100 - missed.low + false.high)
    assert found.forecast.flagged.low == pytest.approx(100 - missed.high + false.low)


def test_a_forecast_counts_a_group_for_what_is_sure_of_it() -> None:
    """Pairs of which one picture is flagged: below they count as none, above as all."""
    scores = np.array([0.9, 0.9] * 50 + [0.9, 0.05] * 40)
    labels = np.repeat([1, 0], [100, 80])
    groups = np.repeat(np.arange(90), 2)
    found = promise.choose(Examples.of_scores(scores, labels, groups), MinRecall(0.5), 0.0)
    false = found.forecast.false_alarms
    assert (false.low, false.expected, false.high) == (0, 500, 1000)


@settings(deadline=None)
@given(SCORES, SCORES)
def test_the_curve_counts_as_the_station_does(anomalies: list[float], normals: list[float]) -> None:
    known = examples(anomalies, normals)
    drawn_curve = promise.curve(known)
    for at, threshold in enumerate(drawn_curve.thresholds):
        there = labelled_scores.count(known.of_class(1), known.of_class(0), float(threshold))
        assert drawn_curve.recall[at] == pytest.approx(there.tp / len(anomalies))
        assert drawn_curve.false_alarms_per_1000[at] == pytest.approx(
            1000 * there.fp / len(normals)
        )


# ------------------------------------------------------------------------- is the promise kept?

DATA_SETS = 2_000


def _allowed_deviation(share: float) -> float:
    return 3 * math.sqrt(share * (1 - share) / DATA_SETS)


@pytest.mark.parametrize(("count", "recall", "confidence"), [(300, 0.98, 0.95), (500, 0.95, 0.9)])
def test_a_promised_recall_is_kept_as_often_as_promised(
    count: int, recall: float, confidence: float
) -> None:
    """The truth is known here; how often it must hold follows from the binomial, and is met."""
    random = np.random.default_rng(20_261_123)
    normals = [0.01]
    kept = 0
    for _ in range(DATA_SETS):
        logits = random.normal(3, 1.5, count)
        known = examples(1 / (1 + np.exp(-logits)), normals)
        found = promise.choose(known, MinRecall(recall), 0.03, confidence)
        at = math.log(found.threshold / (1 - found.threshold))
        kept += norm.sf(at, 3, 1.5) >= recall
    allowed = bounds.errors_allowed(count, 1 - recall, confidence)
    exact = binom.sf(allowed, count, 1 - recall)
    assert exact >= confidence
    assert kept / DATA_SETS >= confidence - _allowed_deviation(confidence)
    assert abs(kept / DATA_SETS - exact) <= _allowed_deviation(exact)


def test_promised_false_alarms_are_kept_and_the_other_class_is_bounded_too() -> None:
    random = np.random.default_rng(20_261_124)
    kept = bounded = 0
    for _ in range(DATA_SETS):
        anomalies, normals = random.normal(1, 1.5, 60), random.normal(-2, 1.5, 800)
        known = Examples.of_logits(
            np.concatenate([anomalies, normals]), np.repeat([1, 0], [60, 800])
        )
        found = promise.choose(known, MaxFalseAlarms(10), 0.03, 0.9)
        at = math.log(found.threshold / (1 - found.threshold))
        kept += norm.sf(at, -2, 1.5) <= 0.01
        bounded += norm.sf(at, 1, 1.5) >= found.recall_bound
    least = 0.9 - _allowed_deviation(0.9)
    assert kept / DATA_SETS >= least
    assert bounded / DATA_SETS >= least


def test_overlapping_pictures_break_a_promise_that_counts_them_one_by_one() -> None:
    """Forty cracks of ten pictures each, alike within: 400 pictures are no 400 examples."""
    random = np.random.default_rng(20_261_125)
    groups = np.concatenate([np.repeat(np.arange(40), 10), [40]])
    labels = np.append(np.ones(400), 0).astype(np.int8)
    kept = {"by group": 0, "one by one": 0}
    for _ in range(DATA_SETS):
        logits = np.repeat(random.normal(3, 1.5, 40), 10) + random.normal(0, 0.3, 400)
        logits = np.append(logits, -9)
        for name, of in (("by group", groups), ("one by one", None)):
            found = promise.choose(
                Examples.of_logits(logits, labels, of), MinRecall(0.9), 0.03, 0.95
            )
            at = math.log(found.threshold / (1 - found.threshold))
            kept[name] += norm.sf(at, 3, math.hypot(1.5, 0.3)) >= 0.9
    assert kept["by group"] / DATA_SETS >= 0.95 - _allowed_deviation(0.95)
    assert kept["one by one"] / DATA_SETS < 0.9


# ------------------------------------------------------------------------------------ least cost


@settings(deadline=None, max_examples=25)
@given(
    st.lists(st.floats(0, 1, width=32), min_size=1, max_size=25),
    st.lists(st.floats(0, 1, width=32), min_size=1, max_size=25),
    st.floats(0, 1),
    st.sampled_from([0.1, 1.0, 20.0]),
)
def test_no_threshold_costs_less(
    anomalies: list[float], normals: list[float], prevalence: float, miss: float
) -> None:
    known = examples(anomalies, normals)
    found = promise.choose(known, LeastCost(miss, 1.0), prevalence)

    def cost(threshold: float) -> float:
        there = labelled_scores.count(known.of_class(1), known.of_class(0), threshold)
        return prevalence * miss * there.fn / len(anomalies) + (1 - prevalence) * there.fp / len(
            normals
        )

    assert found.cost is not None
    assert found.cost.span.expected == pytest.approx(cost(found.threshold), abs=1e-12)
    for threshold in {0.0, 1.0, *known.scores.tolist()}:
        assert cost(found.threshold) <= cost(threshold) + 1e-8 * max(1, miss)


def test_a_dear_miss_lowers_the_threshold_and_a_dear_false_alarm_raises_it() -> None:
    known = drawn(400, 4_000)
    careful, level, sparing = (
        promise.choose(known, LeastCost(*costs), 0.05).threshold
        for costs in ((1_000, 1), (10, 1), (1, 100))
    )
    assert careful < level < sparing


def test_the_threshold_of_least_cost_lies_between_two_scores() -> None:
    known = examples([0.9, 0.8, 0.99], [0.01, 0.2, 0.05])
    found = promise.choose(known, LeastCost(10, 1), 0.5)
    assert found.threshold == pytest.approx(0.5)  # the middle of 0.2 and 0.8, in logits
    assert found.pictures == labelled_scores.Counts(tp=3, fn=0, fp=0, tn=3)
    assert found.cost is not None
    assert found.cost.span.expected == 0
    assert found.cost.handful


def test_where_no_error_is_worth_its_price_all_or_nothing_is_flagged() -> None:
    known = examples([0.4, 0.6], [0.5, 0.3])
    assert promise.choose(known, LeastCost(1e9, 1), 0.5).pictures.tn <= 1
    assert promise.choose(known, LeastCost(1, 1), 0.0).pictures.fp == 0
    assert promise.choose(known, LeastCost(1, 1), 1.0).threshold == 0.0


def test_the_bootstrap_covers_what_the_threshold_really_costs() -> None:
    """With a few hundred errors, where it may be believed: 50 data sets, nine tenths or so."""
    random = np.random.default_rng(20_261_126)
    covered = 0
    for number in range(50):
        logits = np.concatenate([random.normal(1, 1.5, 400), random.normal(-1, 1.5, 600)])
        known = Examples.of_logits(logits, np.repeat([1, 0], [400, 600]))
        found = promise.choose(known, LeastCost(2, 1), 0.3, 0.9, seed=number)
        at = math.log(found.threshold / (1 - found.threshold))
        truth = 0.3 * 2 * norm.cdf(at, 1, 1.5) + 0.7 * norm.sf(at, -1, 1.5)
        assert found.cost is not None
        assert not found.cost.handful
        assert found.cost.optimism < found.cost.span.expected
        covered += found.cost.span.low <= truth <= found.cost.span.high + found.cost.optimism
    assert covered >= 50 * 0.9 - 3 * math.sqrt(50 * 0.9 * 0.1)


def test_the_same_question_has_the_same_answer() -> None:
    known = drawn(100, 500)
    goal = LeastCost(20, 1)
    assert promise.choose(known, goal, 0.1) == promise.choose(known, goal, 0.1)


# ------------------------------------------------------------------------------------- nonsense


@pytest.mark.parametrize(
    ("goal", "prevalence", "confidence"),
    [
        (MinRecall(1.0), 0.1, 0.95),
        (MinRecall(0.0), 0.1, 0.95),
        (MaxFalseAlarms(0.0), 0.1, 0.95),
        (MaxFalseAlarms(1000.0), 0.1, 0.95),
        (LeastCost(0, 1), 0.1, 0.95),
        (LeastCost(1, math.inf), 0.1, 0.95),
        (MinRecall(0.9), 1.1, 0.95),
        (MinRecall(0.9), 0.1, 1.0),
    ],
)
def test_nonsense_is_not_answered(goal: promise.Goal, prevalence: float, confidence: float) -> None:
    with pytest.raises(ValueError, match="prevalence"):
        promise.choose(drawn(300, 300), goal, prevalence, confidence)


@pytest.mark.parametrize("scores", [[0.5, 1.5], [0.5, math.nan]])
def test_what_is_no_probability_is_no_score(scores: list[float]) -> None:
    with pytest.raises(ValueError, match="probabilities"):
        examples(scores, [0.1])


def test_arrays_must_belong_together() -> None:
    with pytest.raises(ValueError, match="different lengths"):
        Examples.of_scores(np.array([0.1, 0.2]), np.array([1]))
