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

# How far a temperature strays from 1 unless the pictures insist: one standard deviation of its
# logarithm. Without it a perfect separation would drive the temperature to zero.
TEMPERATURE_SPREAD = 0.5
TEMPERATURE_RANGE = (0.1, 10.0)
SHIFT_SPREAD = 5.0  # logits
SHIFT_LIMIT = 20.0


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


def threshold(miss_costs: float) -> float:
    """The probability from which on flagging is the cheaper mistake, 0..1.

    ``miss_costs``: how many false alarms a missed crack is worth, > 0. With probability p, leaving
    a picture alone costs p * miss_costs on average and flagging it 1 - p: equal at
    1 / (1 + miss_costs) (Elkan 2001). Nothing is chosen by looking at single scores: from the
    largest F1 on 114 held-back anomalies the threshold swung from 0.05 to 0.999.
    """
    return 1 / (1 + miss_costs)
