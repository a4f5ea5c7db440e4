"""What the plots show, as numbers: curves, bins and costs of scores; draws nothing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_curve, roc_curve

from crackwatch.evaluation import ECE_BINS, Measures, exact_interval

# A score of exactly 0 or 1 has no logit; float32 cannot tell nearer ones from it.
FURTHEST_LOGIT = 16.0
LOGIT_STEP = 0.5  # width of a histogram's bin

WEIGHTS = 401  # points of a cost curve
FURTHEST_WEIGHT = 1e5  # of escapes against false alarms, and of these against escapes

Numbers = NDArray[np.float64]


def logits(scores: NDArray[np.floating]) -> Numbers:
    """log(score / (1 - score)), at most ``FURTHEST_LOGIT`` from 0."""
    exact = scores.astype(np.float64)
    with np.errstate(divide="ignore"):
        free = np.log(exact) - np.log1p(-exact)
    clipped: Numbers = np.clip(free, -FURTHEST_LOGIT, FURTHEST_LOGIT)
    return clipped


# ---------------------------------------------------------------------------------------- curves


@dataclass(frozen=True, slots=True)
class Curve:
    """What each threshold gives: two rates, 0..1, over all thresholds in falling order."""

    x: Numbers
    y: Numbers


def roc(scores: NDArray[np.floating], labels: NDArray[np.int8]) -> Curve | None:
    """x: false-alarm rate, y: recall; None unless both classes are there."""
    if not _both(labels):
        return None
    x, y, _ = roc_curve(labels == 1, scores)
    return Curve(x, y)


def precision_recall(scores: NDArray[np.floating], labels: NDArray[np.int8]) -> Curve | None:
    """x: recall, y: precision; None unless both classes are there."""
    if not _both(labels):
        return None
    precision, recall, _ = precision_recall_curve(labels == 1, scores)
    return Curve(recall[::-1], precision[::-1])


def _both(labels: NDArray[np.int8]) -> bool:
    return bool((labels == 1).any() and (labels == 0).any())


def iso_f1(f1: float, recall: Numbers) -> Numbers:
    """The precision that gives ``f1`` at each ``recall``; nan where none does."""
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = f1 * recall / (2 * recall - f1)
    return np.where((precision > 0) & (precision <= 1), precision, np.nan)


# ----------------------------------------------------------------------------------- reliability


@dataclass(frozen=True, slots=True)
class Bin:
    """Pictures whose scores lie in ``low <= score < high`` (the last bin holds 1 as well).

    None where the bin is empty. ``interval`` is the exact 95 % one of ``rate``.
    """

    low: float
    high: float
    count: int
    anomalies: int
    mean_score: float | None
    rate: float | None
    interval: tuple[float, float] | None


def reliability(scores: NDArray[np.floating], labels: NDArray[np.int8]) -> tuple[Bin, ...]:
    """How often pictures of about one score are anomalies: ten bins, those of ``Measures.ece``."""
    exact = scores.astype(np.float64)
    places = np.minimum((exact * ECE_BINS).astype(np.intp), ECE_BINS - 1)
    bins = []
    for place in range(ECE_BINS):
        inside = places == place
        count, anomalies = int(inside.sum()), int((labels[inside] == 1).sum())
        bins.append(
            Bin(
                low=place / ECE_BINS,
                high=(place + 1) / ECE_BINS,
                count=count,
                anomalies=anomalies,
                mean_score=float(exact[inside].mean()) if count else None,
                rate=anomalies / count if count else None,
                interval=exact_interval(anomalies, count),
            )
        )
    return tuple(bins)


# ------------------------------------------------------------------------------------------ cost


@dataclass(frozen=True, slots=True)
class Costs:
    """Drummond and Holte's cost curves (2006), each an array over ``weight``.

    ``weight`` says how much all escapes weigh against all false alarms: (cracks / sound pictures)
    x (cost of an escape / cost of a false alarm). Their probability-cost is weight / (1 + weight).
    Costs are normalised: 1 is what it costs to get every picture wrong.
    """

    weight: Numbers
    at_threshold: Numbers
    low: Numbers  # with both rates at the lower end of their exact 95 % intervals
    high: Numbers
    best: Numbers  # with the threshold that these pictures would choose for each weight
    flag_nothing: Numbers
    flag_everything: Numbers
    # weights at which the model beats both of these with both rates at the upper end as well
    worthwhile: tuple[float, float] | None


def costs(
    scores: NDArray[np.floating], labels: NDArray[np.int8], measures: Measures
) -> Costs | None:
    """What errors cost, for every rarity of cracks and price of an escape; None for one class."""
    curve = roc(scores, labels)
    if curve is None:
        return None
    weight = np.geomspace(1 / FURTHEST_WEIGHT, FURTHEST_WEIGHT, WEIGHTS)
    share = weight / (1 + weight)  # the probability-cost

    def cost(missed: float, alarmed: float) -> Numbers:
        return missed * share + alarmed * (1 - share)

    missed, alarmed = _rates(measures)
    (missed_low, missed_high), (alarmed_low, alarmed_high) = error_intervals(measures)
    every = cost(1, 0), cost(0, 1)
    best = np.minimum(*every)
    for rate, recall in zip(curve.x.tolist(), curve.y.tolist(), strict=True):
        best = np.minimum(best, cost(1 - recall, rate))
    # missed * w + alarmed < w (nothing is flagged) and < 1 (everything is); no upper end is 0
    least = alarmed_high / (1 - missed_high) if missed_high < 1 else np.inf
    most = (1 - alarmed_high) / missed_high
    return Costs(
        weight=weight,
        at_threshold=cost(missed, alarmed),
        low=cost(missed_low, alarmed_low),
        high=cost(missed_high, alarmed_high),
        best=best,
        flag_nothing=every[0],
        flag_everything=every[1],
        worthwhile=(least, most) if least < most else None,
    )


def _rates(measures: Measures) -> tuple[float, float]:
    """Share of the anomalies missed, share of the normals flagged."""
    return (
        measures.fn / (measures.tp + measures.fn),
        measures.fp / (measures.fp + measures.tn),
    )


def error_intervals(measures: Measures) -> tuple[tuple[float, float], tuple[float, float]]:
    """Exact 95 % intervals of the miss rate and of the false-alarm rate; 0 to 1 of no pictures."""
    everything = (0.0, 1.0)
    return (
        exact_interval(measures.fn, measures.tp + measures.fn) or everything,
        exact_interval(measures.fp, measures.fp + measures.tn) or everything,
    )


# ------------------------------------------------------------------------------------- histogram


@dataclass(frozen=True, slots=True)
class Histogram:
    """Pictures by the logit of their score; ``edges`` has one more than each of the counts."""

    edges: Numbers
    normal: NDArray[np.intp]
    anomaly: NDArray[np.intp]


def histogram(
    scores: NDArray[np.floating], labels: NDArray[np.int8], threshold: float
) -> Histogram:
    """Counts in bins of ``LOGIT_STEP``, of which one edge is the threshold: no bin is on both sides.

    Raises no error for no scores: all counts are 0 then.
    """
    values = logits(scores)
    middle = float(logits(np.array([threshold]))[0])
    below = above = 6.0  # logits on either side that are shown in any case
    if len(values):
        below = max(below, middle - float(values.min()))
        above = max(above, float(values.max()) - middle)
    steps = np.arange(
        -int(np.ceil(below / LOGIT_STEP)), int(np.ceil(above / LOGIT_STEP)) + 1, dtype=np.float64
    )
    edges = middle + steps * LOGIT_STEP
    # by the scores themselves: a logit at the threshold may be rounded to either side
    flagged = scores.astype(np.float64) >= threshold
    zero = int(np.searchsorted(steps, 0.0))
    places = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(edges) - 2)
    places = np.where(flagged, np.maximum(places, zero), np.minimum(places, zero - 1))
    normal, anomaly = (
        np.bincount(places[labels == value], minlength=len(edges) - 1) for value in (0, 1)
    )
    return Histogram(edges, normal, anomaly)
