"""The threshold as a promise: from scores and labels to an operating point, and how far it holds.

Plain arithmetic on arrays; knows no model, no file and no station.

A bound that is computed on the very pictures on which the threshold was chosen is worth nothing,
unless the choice is made blindly. It is here: how many errors may be seen, k, follows from the
number of examples, the rate and the confidence alone, and the threshold is then the k-th worst
score of that class, or a hair beyond it. What lies beyond an order statistic has a beta distribution
whatever the scores' distribution is (Wilks 1941: distribution-free tolerance limits), and its
quantile is the exact one-sided Clopper-Pearson bound (1934) for the errors that were seen. Over many data sets the
promise is broken in a share of 1 - confidence of them at most; equal scores only make it rarer.
The other class's bound is exact too, as the threshold did not look at that class. Neither holds for
the threshold of least cost, which looks at both: its figures flatter a little.

Examples that show the same concrete are no independent evidence. Each group counts once, by its
worst score: a group of cracks is found if all its pictures are, a group of normals is a false alarm
if one of its pictures is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from crackwatch.bounds import (
    ROUNDING,
    Span,
    errors_allowed,
    examples_needed,
    lower_bound,
    upper_bound,
)
from crackwatch.errors import PromiseError
from crackwatch.labelled_scores import Counts, Examples, count

CONFIDENCE = 0.95
RESAMPLES = 1_000
HANDFUL = 5  # fewer errors of one kind than this are luck: their count is known to a half at best

# Of a probability, and a share of a small one. Scores of one picture in batches of 1 and of 64 were
# up to 1.2e-7 apart (390 METU cracks scored 0.001 to 0.9999).
_CLEARANCE = 1e-6
_CLEARANCE_SHARE = 1e-3

_PER = 1_000


# ---------------------------------------------------------------------------------- what is asked


@dataclass(frozen=True, slots=True)
class MinRecall:
    """Of all cracks, at least this share is found; 0..1, both exclusive."""

    recall: float


@dataclass(frozen=True, slots=True)
class MaxFalseAlarms:
    """Of a thousand normals, at most so many are called an anomaly; 0..1000, both exclusive."""

    per_1000: float


@dataclass(frozen=True, slots=True)
class LeastCost:
    """What one missed crack and one false alarm cost, in any one unit; both above 0."""

    miss: float
    false_alarm: float


Goal = MinRecall | MaxFalseAlarms | LeastCost


def goal_text(goal: Goal, confidence: float, normals: str = "normals") -> str:
    """What was asked for, as the end of a sentence; ``normals`` are what has no crack."""
    sure = f"at a confidence of {confidence:g}"
    if isinstance(goal, MinRecall):
        return f"a recall of at least {goal.recall:g} {sure}"
    if isinstance(goal, MaxFalseAlarms):
        return f"at most {goal.per_1000:g} false alarms per 1,000 {normals} {sure}"
    return (
        f"the least cost: {goal.miss:g} for a missed crack, {goal.false_alarm:g} for a false alarm"
    )


# ---------------------------------------------------------------------------------- what is found


@dataclass(frozen=True, slots=True)
class Forecast:
    """A thousand pictures at the station, ``prevalence`` (0..1) of them with a crack.

    The three spans hold together at the promise's confidence (Clopper-Pearson for both classes,
    Bonferroni). They take the prevalence as given, and they are of rates: what one particular
    thousand shows scatters around them.
    """

    prevalence: float
    flagged: Span
    false_alarms: Span
    missed: Span


@dataclass(frozen=True, slots=True)
class Cost:
    """Expected cost a picture, in the unit of the goal.

    ``span`` is the bootstrap's, over whole groups and within each class, at the promise's
    confidence and at the threshold that was chosen; ``optimism`` is by how much the expected cost
    flatters, as it was minimised on these pictures (Efron 1983): add it. ``thresholds`` is the
    range over which the resamples' own optima lie. The bootstrap knows only errors that were seen.
    """

    span: Span
    optimism: float
    thresholds: tuple[float, float]
    handful: bool  # fewer than HANDFUL independent misses or false alarms decided it


@dataclass(frozen=True, slots=True)
class Promise:
    """An operating point, what it is known to do and what it will cost.

    ``recall`` and ``false_alarms_per_1000`` are of the pictures; their bounds are one-sided, at
    ``confidence``, of the independent examples.
    """

    goal: Goal
    confidence: float
    threshold: float
    pictures: Counts
    independent: Counts
    recall: float
    recall_bound: float
    false_alarms_per_1000: float
    false_alarms_per_1000_bound: float
    forecast: Forecast
    cost: Cost | None


def choose(
    examples: Examples, goal: Goal, prevalence: float, confidence: float = CONFIDENCE, seed: int = 0
) -> Promise:
    """The operating point for ``goal``; the station's share of cracks is ``prevalence``, 0..1.

    The highest threshold that keeps a recall, the lowest that keeps a rate of false alarms, or the
    middle (in logits) of the gap between scores in which the cost is least; of equal ones the
    lowest, as a miss is what a station exists to avoid. ``seed`` is the bootstrap's. Raises
    PromiseError, with the number of examples needed, where the examples cannot support the goal.
    """
    _require_sane(goal, prevalence, confidence)
    anomalies, normals = examples.units(1)[0], examples.units(0)[1]
    require_enough(goal, confidence, len(anomalies), len(normals))
    misses = false_alarms = 0  # that were allowed
    if isinstance(goal, MinRecall):
        threshold, misses = _keeping_recall(anomalies, goal.recall, confidence)
    elif isinstance(goal, MaxFalseAlarms):
        threshold, false_alarms = _keeping_false_alarms(normals, goal.per_1000 / _PER, confidence)
    else:
        threshold = 0.0
    for label, found in (("anomalies", anomalies), ("normals", normals)):
        if not len(found):
            raise PromiseError(
                f"there are no scores of {label}: what a threshold will cost cannot be said",
                have=0,
                needed=1,
            )
    cost = None
    if isinstance(goal, LeastCost):
        threshold, cost = _least_cost(examples, goal, prevalence, confidence, seed)
    pictures = count(examples.of_class(1), examples.of_class(0), threshold)
    independent = count(anomalies, normals, threshold)
    # what was allowed if fewer were seen: equal scores would make more of it than was promised
    misses, false_alarms = max(misses, independent.fn), max(false_alarms, independent.fp)
    return Promise(
        goal=goal,
        confidence=confidence,
        threshold=threshold,
        pictures=pictures,
        independent=independent,
        recall=pictures.tp / (pictures.tp + pictures.fn),
        recall_bound=lower_bound(len(anomalies) - misses, len(anomalies), confidence),
        false_alarms_per_1000=_PER * pictures.fp / (pictures.fp + pictures.tn),
        false_alarms_per_1000_bound=_PER * upper_bound(false_alarms, len(normals), confidence),
        forecast=_forecast(examples, pictures, threshold, prevalence, confidence),
        cost=cost,
    )


@dataclass(frozen=True, slots=True)
class Curve:
    """Recall and false alarms over every threshold at which one of them changes; all (M,)."""

    thresholds: NDArray[np.float64]  # rising
    recall: NDArray[np.float64]
    false_alarms_per_1000: NDArray[np.float64]


def curve(examples: Examples) -> Curve:
    """Of the pictures, both classes present."""
    thresholds = np.unique(examples.scores)
    anomalies, normals = np.sort(examples.of_class(1)), np.sort(examples.of_class(0))
    recall = 1 - np.searchsorted(anomalies, thresholds, "left") / len(anomalies)
    false_alarms = 1 - np.searchsorted(normals, thresholds, "left") / len(normals)
    return Curve(thresholds, recall, _PER * false_alarms)


def _require_sane(goal: Goal, prevalence: float, confidence: float) -> None:
    sane = 0 <= prevalence <= 1 and 0 < confidence < 1
    if isinstance(goal, MinRecall):
        sane &= 0 < goal.recall < 1
    elif isinstance(goal, MaxFalseAlarms):
        sane &= 0 < goal.per_1000 < _PER
    else:
        sane &= 0 < goal.miss < math.inf and 0 < goal.false_alarm < math.inf
    if not sane:
        raise ValueError(f"{goal} at prevalence {prevalence} and confidence {confidence}")


# ------------------------------------------------------------------------------------- the goals


def require_enough(goal: Goal, confidence: float, anomalies: int, normals: int) -> None:
    """Raises PromiseError, with the number needed, where so many cannot support ``goal``.

    Whatever they score: independent examples that come out right, every one of them, are too few.
    """
    if isinstance(goal, MinRecall):
        needed = examples_needed(1 - goal.recall, confidence)
        if anomalies < needed:
            raise PromiseError(
                f"a recall of {goal.recall:g} at a confidence of {confidence:g} takes at least "
                f"{needed} independent anomalies, every one of them found; there are {anomalies}",
                have=anomalies,
                needed=needed,
            )
    elif isinstance(goal, MaxFalseAlarms):
        needed = examples_needed(goal.per_1000 / _PER, confidence)
        if normals < needed:
            raise PromiseError(
                f"at most {goal.per_1000:g} false alarms per 1,000 at a confidence of "
                f"{confidence:g} takes at least {needed} independent normals, none of them "
                f"flagged; there are {normals}",
                have=normals,
                needed=needed,
            )


def _keeping_recall(
    anomalies: NDArray[np.float64], recall: float, confidence: float
) -> tuple[float, int]:
    """The threshold, and how many misses among ``anomalies`` it was allowed."""
    allowed = errors_allowed(len(anomalies), 1 - recall, confidence)
    return _clear_of(float(np.sort(anomalies)[allowed]), -1), allowed


def _keeping_false_alarms(
    normals: NDArray[np.float64], rate: float, confidence: float
) -> tuple[float, int]:
    """The threshold, and how many false alarms among ``normals`` it was allowed."""
    allowed = errors_allowed(len(normals), rate, confidence)
    highest_kept = np.float32(np.sort(normals)[-1 - allowed])
    if highest_kept >= 1:
        certain = int((normals >= 1).sum())
        raise PromiseError(
            f"at most {_PER * rate:g} false alarms per 1,000 cannot be had from this model: "
            f"{certain} of {len(normals)} independent normals have the score 1, as high as "
            f"scores go, and {allowed} may be flagged",
            have=len(normals),
            needed=None,
        )
    return _clear_of(float(highest_kept), 1), allowed


def _clear_of(score: float, side: int) -> float:
    """A threshold just below (``side`` -1) or above (1) a score, as a float32 in 0..1.

    So far from it that the picture's verdict is the same in a batch of another size or on another
    processor; how far has nothing to do with any other score, or the bounds would not be exact.
    """
    moved = np.float32(score + side * min(_CLEARANCE, score * _CLEARANCE_SHARE))
    neighbour = np.nextafter(np.float32(score), np.float32(max(side, 0)))
    found = max(moved, neighbour) if side > 0 else min(moved, neighbour)
    return float(min(max(found, np.float32(0)), np.float32(1)))


def _least_cost(
    examples: Examples, goal: LeastCost, prevalence: float, confidence: float, seed: int
) -> tuple[float, Cost]:
    order = np.argsort(examples.scores, kind="stable")
    scores, is_anomaly = examples.scores[order], examples.labels[order] == 1
    values, first = np.unique(scores, return_index=True)
    if values[-1] < 1:  # else "flag nothing" is out of reach
        values, first = np.append(values, 1.0), np.append(first, len(scores))

    def costs(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Cost a picture at each of ``values``: (M,); ``weights`` (N,) say what counts twice."""
        below = np.concatenate([[0.0], np.cumsum(weights * is_anomaly)])
        normals = np.concatenate([[0.0], np.cumsum(weights * ~is_anomaly)])
        miss, false_alarm = below[first] / below[-1], 1 - normals[first] / normals[-1]
        cost: NDArray[np.float64] = (
            prevalence * goal.miss * miss + (1 - prevalence) * goal.false_alarm * false_alarm
        )
        return cost

    seen = costs(np.ones(len(scores)))
    best = _lowest(seen)
    units = np.unique(np.stack([examples.groups[order], is_anomaly]), axis=1, return_inverse=True)
    of_anomaly, unit = units[0][1] == 1, units[1].ravel()
    random = np.random.default_rng(seed)
    at_best, optima, optimism = [], [], []
    for _ in range(RESAMPLES):
        drawn = np.empty(len(of_anomaly))
        for mine in (of_anomaly, ~of_anomaly):
            size = int(mine.sum())
            drawn[mine] = random.multinomial(size, np.full(size, 1 / size))
        again = costs(drawn[unit])
        optimum = _lowest(again)
        at_best.append(again[best])
        optima.append(values[optimum])
        optimism.append(seen[optimum] - again[optimum])
    tails = [(1 - confidence) / 2, (1 + confidence) / 2]
    low, high = np.quantile(at_best, tails)
    least, most = np.quantile(optima, tails, method="inverted_cdf")
    threshold = _middle(values[best - 1] if best else None, values[best])
    there = count(examples.units(1)[0], examples.units(0)[1], threshold)
    return threshold, Cost(
        span=Span(float(seen[best]), float(low), float(high)),
        optimism=max(0.0, float(np.mean(optimism))),
        thresholds=(float(least), float(most)),
        handful=min(there.fn, there.fp) < HANDFUL,
    )


def _lowest(costs: NDArray[np.float64]) -> int:
    """The first place of the least cost; sums of floats in another order are no difference."""
    least = float(costs.min())
    return int(np.argmax(costs <= least + ROUNDING * max(least, float(costs.max()))))


def _middle(below: float | None, value: float) -> float:
    """Between two scores, in logits, as a float32; above ``below``, at most ``value``.

    No single picture then decides a verdict by its last digit.
    """
    if below is None:
        return 0.0
    inside = 2.0**-24  # half the distance of 1 from the float32 below it
    ends = np.clip([below, value], np.finfo(np.float32).tiny, 1 - inside)
    middle = float(np.float32(expit(logit(ends).mean())))
    return min(max(middle, float(np.nextafter(np.float32(below), np.float32(2)))), value)


# ----------------------------------------------------------------------------- what it will cost


def _forecast(
    examples: Examples, pictures: Counts, threshold: float, prevalence: float, confidence: float
) -> Forecast:
    one_side = 1 - (1 - confidence) / 4  # two classes, two sides
    recall = _rate(
        pictures.tp / (pictures.tp + pictures.fn), examples.units(1), threshold, one_side
    )
    false_alarm = _rate(
        pictures.fp / (pictures.fp + pictures.tn), examples.units(0), threshold, one_side
    )
    cracks, normals = _PER * prevalence, _PER * (1 - prevalence)
    found = Span(cracks * recall.expected, cracks * recall.low, cracks * recall.high)
    false_alarms = Span(
        normals * false_alarm.expected, normals * false_alarm.low, normals * false_alarm.high
    )
    return Forecast(
        prevalence=prevalence,
        flagged=Span(
            found.expected + false_alarms.expected,
            found.low + false_alarms.low,
            found.high + false_alarms.high,
        ),
        false_alarms=false_alarms,
        missed=Span(cracks - found.expected, cracks - found.high, cracks - found.low),
    )


def _rate(
    expected: float,
    units: tuple[NDArray[np.float64], NDArray[np.float64]],
    threshold: float,
    one_side: float,
) -> Span:
    """How many are flagged. A group counts below only if it is as a whole, above if in part."""
    lowest, highest = units
    whole, part = int((lowest >= threshold).sum()), int((highest >= threshold).sum())
    return Span(
        expected,
        lower_bound(whole, len(lowest), one_side),
        upper_bound(part, len(highest), one_side),
    )
