"""From logits of pictures held back to a temperature and a threshold; plain arithmetic.

A logit is the difference of the last layer's two outputs before the softmax, anomaly less normal;
the score is its logistic function.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import expit

# How far a temperature strays from 1 unless the pictures insist: one standard deviation of its
# logarithm. Without it a perfect separation would drive the temperature to zero.
TEMPERATURE_SPREAD = 0.5
TEMPERATURE_RANGE = (0.1, 10.0)

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


def temperature(logits: NDArray[np.float64], labels: NDArray[np.int8]) -> float:
    """The temperature under which ``logits / temperature`` are most likely, drawn towards 1.

    ``logits`` and ``labels`` are (N,); N >= 1. Returns a value of TEMPERATURE_RANGE. Method: Guo et
    al. (2017), with a log-normal prior of TEMPERATURE_SPREAD.
    """

    def cost(log_temperature: float) -> float:
        prior = 0.5 * (log_temperature / TEMPERATURE_SPREAD) ** 2
        return len(logits) * log_loss(logits / math.exp(log_temperature), labels) + prior

    low, high = (math.log(bound) for bound in TEMPERATURE_RANGE)
    found = minimize_scalar(cost, bounds=(low, high), method="bounded", options={"xatol": 1e-6})
    return math.exp(float(found.x))


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
