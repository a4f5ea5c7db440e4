"""A score and a threshold make a verdict, a verdict and a setting make a place."""

from __future__ import annotations

import math

import pytest

from crackwatch.domain import Label, Place, Prediction
from crackwatch.verdict import judge, place_of


@pytest.mark.parametrize(
    ("score", "threshold", "verdict"),
    [
        (0.5, 0.5, Label.ANOMALY),  # the threshold itself counts
        (math.nextafter(0.5, 0), 0.5, Label.NORMAL),
        (0.0, 0.0, Label.ANOMALY),
        (1.0, 1.0, Label.ANOMALY),
        (0.999, 1.0, Label.NORMAL),
        (0.001, 0.0, Label.ANOMALY),
    ],
)
def test_a_score_that_reaches_the_threshold_is_an_anomaly(
    score: float, threshold: float, verdict: Label
) -> None:
    assert judge(Prediction(score), threshold) is verdict


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf, -0.001, 1.001])
def test_a_broken_models_score_passes_no_crack(score: float) -> None:
    with pytest.raises(ValueError, match="not a probability"):
        judge(Prediction(score), 0.5)


@pytest.mark.parametrize(
    ("verdict", "normal", "place"),
    [
        (Label.NORMAL, "keep", Place.KEPT),
        (Label.NORMAL, "archive", Place.ARCHIVED),
        (Label.NORMAL, "delete", Place.DELETED),
        (Label.ANOMALY, "keep", Place.FLAGGED),
        (Label.ANOMALY, "archive", Place.FLAGGED),
        (Label.ANOMALY, "delete", Place.FLAGGED),
    ],
)
def test_anomalies_are_flagged_whatever_becomes_of_normals(
    verdict: Label, normal: str, place: Place
) -> None:
    assert place_of(verdict, normal) is place
