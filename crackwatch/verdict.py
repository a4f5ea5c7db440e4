"""From a score and a threshold to a verdict, and to the place where the file belongs: pure."""

from __future__ import annotations

import math

from crackwatch.domain import Label, Place, Prediction, Verdict

_NORMAL_PLACES = {"keep": Place.KEPT, "archive": Place.ARCHIVED, "delete": Place.DELETED}


def judge(prediction: Prediction, threshold: float) -> Verdict:
    """Anomaly if the score reaches the threshold.

    Raises ValueError for a score that is no probability: a broken model must not pass cracks.
    """
    score = prediction.score
    if not (math.isfinite(score) and 0.0 <= score <= 1.0):
        raise ValueError(f"the score {score!r} is not a probability")
    return Label.ANOMALY if score >= threshold else Label.NORMAL


def place_of(verdict: Verdict, normal: str) -> Place:
    """Where a picture with this verdict belongs; ``normal`` is the setting files.normal."""
    return Place.FLAGGED if verdict is Label.ANOMALY else _NORMAL_PLACES[normal]
