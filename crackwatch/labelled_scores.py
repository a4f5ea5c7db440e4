"""Scores of pictures whose labels are known, and what a threshold makes of them; plain arithmetic."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit


@dataclass(frozen=True, slots=True)
class Examples:
    """Labelled scores, each given by a model that had not learned from its picture.

    ``scores`` are float32 numbers, for a station's scores are: what it cannot tell apart is no
    operating point.
    """

    scores: NDArray[np.float64]  # (N,) 0..1
    labels: NDArray[np.int8]  # (N,) 1 for an anomaly
    groups: NDArray[np.intp]  # (N,) pictures that show the same concrete

    def __post_init__(self) -> None:
        if not len(self.scores) == len(self.labels) == len(self.groups):
            raise ValueError("scores, labels and groups are of different lengths")
        if not ((self.scores >= 0) & (self.scores <= 1)).all():
            raise ValueError("scores are probabilities")

    @classmethod
    def of_scores(
        cls,
        scores: NDArray[np.floating],
        labels: NDArray[np.integer],
        groups: NDArray[np.integer] | None = None,
    ) -> Examples:
        """``scores`` (N,), 0..1. Without ``groups`` every picture is independent of the others."""
        rounded = scores.astype(np.float32).astype(np.float64)
        if groups is None:
            groups = np.arange(len(scores))
        return cls(rounded, labels.astype(np.int8), groups.astype(np.intp))

    @classmethod
    def of_logits(
        cls,
        logits: NDArray[np.floating],
        labels: NDArray[np.integer],
        groups: NDArray[np.integer] | None = None,
    ) -> Examples:
        """``logits`` (N,): anomaly less normal, calibrated; rounded only as the station's are."""
        return cls.of_scores(expit(logits.astype(np.float64)), labels, groups)

    def of_class(self, label: int) -> NDArray[np.float64]:
        """The scores of one class."""
        chosen: NDArray[np.float64] = self.scores[self.labels == label]
        return chosen

    def units(self, label: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Lowest and highest score of each group of one class: both (number of groups,)."""
        scores = self.of_class(label)
        _, unit = np.unique(self.groups[self.labels == label], return_inverse=True)
        count = int(unit.max()) + 1 if len(unit) else 0
        lowest, highest = np.full(count, np.inf), np.full(count, -np.inf)
        np.minimum.at(lowest, unit, scores)
        np.maximum.at(highest, unit, scores)
        return lowest, highest


@dataclass(frozen=True, slots=True)
class Counts:
    """Verdicts at a threshold, of pictures or of independent examples."""

    tp: int
    fn: int
    fp: int
    tn: int


def count(anomalies: NDArray[np.float64], normals: NDArray[np.float64], threshold: float) -> Counts:
    """Holds scores against a threshold, as the station does: an anomaly is a score >= it."""
    tp, fp = int((anomalies >= threshold).sum()), int((normals >= threshold).sum())
    return Counts(tp=tp, fn=len(anomalies) - tp, fp=fp, tn=len(normals) - fp)
