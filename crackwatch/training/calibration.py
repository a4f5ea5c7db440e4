"""From logits of pictures that were not learned from to a calibration and a threshold; arithmetic.

A logit is the difference of the last layer's two outputs before the softmax, anomaly less normal;
the score is its logistic function.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

# How far a temperature strays from 1 unless the pictures insist: one standard deviation of its
# logarithm. Without it a perfect separation would drive the temperature to zero.
TEMPERATURE_SPREAD = 0.5
TEMPERATURE_RANGE = (0.1, 10.0)
SHIFT_SPREAD = 5.0  # logits
SHIFT_LIMIT = 20.0

# Each score is taken as known to one logit: the threshold then falls into the middle of a plateau,
# and no single picture decides it.
BANDWIDTH_LOGITS = 1.0
_GRID = 2001

# The smoothed F1 is flat around its top: within this, the widest gap between scores is taken, so
# that the last digit of a score does not change a verdict.
_LEEWAY_LOGITS = 0.25


def log_loss(logits: NDArray[np.float64], labels: NDArray[np.int8]) -> float:
    """Mean negative log-likelihood, nats a picture."""
    return float(np.logaddexp(0.0, np.where(labels == 1, -logits, logits)).mean())


def average_precision(logits: NDArray[np.float64], labels: NDArray[np.int8]) -> float:
    """Area under precision-recall as a step function, 0..1; nan without anomalies."""
    positives = int((labels == 1).sum())
    if positives == 0:
        return math.nan
    order = np.argsort(-logits, kind="stable")
    ranked, hits = logits[order], np.cumsum(labels[order] == 1)
    last_of_tie = np.append(ranked[1:] != ranked[:-1], True)
    hits, seen = hits[last_of_tie], np.flatnonzero(last_of_tie) + 1
    return float((np.diff(hits, prepend=0) / positives * (hits / seen)).sum())


@dataclass(frozen=True, slots=True)
class Calibration:
    """``(logit - shift) / temperature`` is the log of the odds that there is an anomaly."""

    temperature: float
    shift: float

    def __call__(self, logits: NDArray[np.float64]) -> NDArray[np.float64]:
        return (logits - self.shift) / self.temperature


NONE = Calibration(temperature=1.0, shift=0.0)


def calibrate(logits: NDArray[np.float64], labels: NDArray[np.int8]) -> Calibration:
    """The temperature and the shift under which the labels are most likely.

    ``logits`` and ``labels`` are (N,), both classes among them, scored by models that had not
    learned from these pictures. The temperature (Guo et al. 2017) is drawn towards 1 by a
    log-normal prior of TEMPERATURE_SPREAD. The shift (the intercept of Platt 1999) undoes what a
    recipe that shows anomalies more often than they come does to every score (Elkan 2001). Raises
    ValueError without both classes: no shift would be too large.
    """
    if len(np.unique(labels)) < 2:
        raise ValueError("a calibration needs pictures of both classes")

    def cost(at: NDArray[np.float64]) -> float:
        prior = 0.5 * float(at[0] / TEMPERATURE_SPREAD) ** 2
        scaled = (logits - at[1]) / math.exp(at[0])
        # the shift gets a very wide prior, so that a perfect separation has one answer as well
        prior += 0.5 * float(at[1] / SHIFT_SPREAD) ** 2
        return len(logits) * log_loss(scaled, labels) + prior

    low, high = (math.log(bound) for bound in TEMPERATURE_RANGE)
    found = minimize(
        cost, np.zeros(2), method="L-BFGS-B", bounds=[(low, high), (-SHIFT_LIMIT, SHIFT_LIMIT)]
    )
    return Calibration(temperature=math.exp(float(found.x[0])), shift=float(found.x[1]))


def threshold(logits: NDArray[np.float64], labels: NDArray[np.int8]) -> float:
    """The score at which a smoothed F1 of calibrated logits is largest, 0..1.

    Each picture counts as an anomaly to the degree expit((logit - t) / BANDWIDTH_LOGITS). The
    largest F1 on the bare counts is a plateau whose ends are single pictures: on 114 anomalies it
    swung from 0.05 to 0.999. Raises ValueError without both classes.
    """
    anomalies, normals = logits[labels == 1], logits[labels == 0]
    if not len(anomalies) or not len(normals):
        raise ValueError("a threshold needs pictures of both classes")
    best_f1, best = -1.0, 0.0
    for candidate in np.linspace(float(logits.min()), float(logits.max()), _GRID):
        hits = float(expit((anomalies - candidate) / BANDWIDTH_LOGITS).sum())
        false_alarms = float(expit((normals - candidate) / BANDWIDTH_LOGITS).sum())
        f1 = 2 * hits / (len(anomalies) + hits + false_alarms)
        if f1 > best_f1:
            best_f1, best = f1, float(candidate)
    near = logits[np.abs(logits - best) < _LEEWAY_LOGITS]
    edges = np.sort(np.concatenate([near, [best - _LEEWAY_LOGITS, best + _LEEWAY_LOGITS]]))
    widest = int(np.argmax(np.diff(edges)))
    return float(expit(edges[widest : widest + 2].mean()))
