"""Whether a day's pictures still look like those that the model learned from: pure arithmetic.

Three measures of each picture are compared with their distribution in the training data: brightness,
sharpness and the model's score. The distance is that of Kolmogorov and Smirnov, the largest
difference of the two cumulative distributions: 0 where they are alike, 1 where they do not overlap.
Drift is raised only where it is both more than chance explains and large:

- Chance. The p-value must be below ``ALPHA`` over the number of tests, Bonferroni's bound: three
  measures on each of a year's days, ``LOOKS`` for each day, so that a station whose pictures do not
  change is called drifting by chance in one year of twenty at most. Pictures of one wall are alike
  and do not count as independent: ``WALL`` of them count as one (Kish's design effect, Survey
  Sampling, 1965).
- Size. With thousands of pictures a day every difference is more than chance. Only a distance of
  ``FLOOR`` or more is told; docs/drift.md has the measurements that it was chosen by.

A crack is darker and sharper than bare concrete, so another share of cracks alone would shift the
distributions. Therefore each day is compared with what the training data would be with *the day's
own share* of pictures at or above the threshold, and scores are compared among those below it.

A photograph that was judged in tiles has light, the mean of its tiles, and no score: the highest of
hundreds is high by chance alone. It counts as normal, as a crack in a few tiles leaves the mean.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Final, Protocol

from crackwatch.domain import DriftFinding
from crackwatch.likeness import MIN_PICTURES, Reference, Spread, median, unsure
from crackwatch.reported import DayDrift

ALPHA: Final = 0.05  # of calling a station drifting by chance, once in a year of days
FAMILY_DAYS: Final = 365
# The station looks again and again while a day's pictures come in. These looks share most of their
# pictures: together they err as often as so many that share none (docs/drift.md has the trial).
LOOKS: Final = 7
MEASURES: Final = ("brightness", "sharpness", "score")
WALL: Final = 5  # pictures that count as one, for they show the same wall in the same light
FLOOR: Final = 0.2


class SeenLike(Protocol):
    """One inspected picture, as far as drift asks: see ``store.drift.Sampled``."""

    @property
    def score(self) -> float | None: ...
    @property
    def brightness(self) -> float: ...
    @property
    def sharpness(self) -> float: ...


# ----------------------------------------------------------------------------------- a day's


def assess(
    day: date,
    model: str,
    pictures: Sequence[SeenLike],
    reference: Reference | None,
    *,
    days: int = 1,
) -> tuple[DayDrift, ...]:
    """One finding for each of ``MEASURES``. ``days``: how many are looked at together.

    Up to a year of them makes no difference: a day is judged alike by ``status`` and by a report.
    """
    if reference is None:
        return tuple(
            DayDrift(day, model, measure, len(pictures), DriftFinding.NO_REFERENCE)
            for measure in MEASURES
        )
    tests = len(MEASURES) * LOOKS * max(days, FAMILY_DAYS)
    scores = [each.score for each in pictures if each.score is not None]
    below = [score for score in scores if score < reference.threshold]
    share = (len(scores) - len(below)) / len(pictures) if pictures else 0.0
    normal, anomaly = reference.normal, reference.anomaly
    compared = [
        (
            "brightness",
            [each.brightness for each in pictures],
            Mixture(normal.brightness, anomaly.brightness if anomaly else None, share),
        ),
        (
            "sharpness",
            [each.sharpness for each in pictures],
            Mixture(normal.sharpness, anomaly.sharpness if anomaly else None, share),
        ),
        (
            "score",
            [unsure(score) for score in below],
            Mixture(reference.score, None, 0.0),
        ),
    ]
    return tuple(
        _judged(day, model, measure, values, expected, tests)
        for measure, values, expected in compared
    )


@dataclass(frozen=True, slots=True)
class Mixture:
    """``share`` of one distribution and the rest of another; of ``normal`` alone without the one."""

    normal: Spread
    anomaly: Spread | None
    share: float

    def shares(self, value: float) -> tuple[float, float]:
        """As ``Spread.shares``."""
        below, up_to = self.normal.shares(value)
        if self.anomaly is None or self.share == 0:
            return below, up_to
        below_too, up_to_too = self.anomaly.shares(value)
        rest = 1 - self.share
        return rest * below + self.share * below_too, rest * up_to + self.share * up_to_too

    @property
    def n(self) -> float:
        """How many values of a single sample would place the distribution as exactly."""
        if self.anomaly is None:
            return self.normal.n
        return 1 / ((1 - self.share) ** 2 / self.normal.n + self.share**2 / self.anomaly.n)

    @property
    def median(self) -> float:
        if self.anomaly is None or self.share == 0:
            return self.normal.median
        # linear between two neighbours of these, and at none of them before the last a half
        steps = sorted(self.normal.quantiles + self.anomaly.quantiles)
        at = bisect_left(steps, 0.5, key=lambda value: self.shares(value)[1])
        high = steps[at]
        below_high = self.shares(high)[0]
        if at == 0 or below_high <= 0.5:  # it jumps over the half just there
            return high
        low = steps[at - 1]
        up_to_low = self.shares(low)[1]
        return low + (high - low) * (0.5 - up_to_low) / (below_high - up_to_low)


def distance(values: Sequence[float], expected: Spread | Mixture) -> float:
    """The Kolmogorov-Smirnov distance, signed: positive where ``values`` are the larger ones.

    Between two neighbouring values the sample's distribution is level, so the largest difference is
    found just before a value or at it. Both distributions only rise: where even the ends of a stretch
    are too near to one another, nothing within it is looked at. Raises ValueError if there is no
    value.
    """
    if not values:
        raise ValueError("there is no distance from no values")
    ordered = sorted(values)
    n = len(ordered)
    largest = 0.0
    stretches = [(0, n, 0.0, 1.0)]  # of ``ordered``, and between which shares they must lie
    while stretches:
        start, end, low, high = stretches.pop()
        if start == end or max(high - start / n, end / n - low) <= abs(largest):
            continue
        value = ordered[(start + end) // 2]
        first = bisect_left(ordered, value, start, end)
        after = bisect_right(ordered, value, first, end)
        below, up_to = expected.shares(value)
        for difference in (below - first / n, up_to - after / n):
            if abs(difference) > abs(largest):
                largest = difference
        stretches += [(start, first, low, below), (after, end, up_to, high)]
    return largest


def p_value(distance: float, independent: float) -> float:
    """How often chance makes two samples of one distribution differ by ``distance`` or more.

    ``independent`` is n * m / (n + m) for samples of n and m. Kolmogorov's asymptotic series with
    Stephens's correction for small samples (J. Royal Statistical Society B 32, 1970, 115-122);
    down to 1e-3 within a twentieth of the exact value for 30 independent values, within a third
    for 8; smaller ones come out too large, on the side of chance.
    """
    root = math.sqrt(independent)
    reach = (root + 0.12 + 0.11 / root) * abs(distance)
    if reach < 0.3:  # 1 to the seventh figure; the series is slow there
        return 1.0
    total = 0.0
    for k in range(1, 101):
        term = 2 * (-1) ** (k - 1) * math.exp(-2 * k * k * reach * reach)
        total += term
        if abs(term) < 1e-12 * abs(total):
            break
    return min(1.0, max(0.0, total))


def _judged(
    day: date, model: str, measure: str, values: Sequence[float], expected: Mixture, tests: int
) -> DayDrift:
    if len(values) < MIN_PICTURES:
        return DayDrift(day, model, measure, len(values), DriftFinding.TOO_FEW)
    signed = distance(values, expected)
    n = len(values)
    # WALL pictures count as one on both sides: training data are of walls as well
    p = p_value(signed, n * expected.n / (n + expected.n) / WALL)
    raised = p < ALPHA / tests and abs(signed) >= FLOOR
    return DayDrift(
        day,
        model,
        measure,
        n,
        DriftFinding.DRIFT if raised else DriftFinding.ALIKE,
        distance=abs(signed),
        p=p,
        median=median(sorted(values)),
        expected_median=expected.median,
        larger=signed > 0,
    )


# ----------------------------------------------------------------------------- in plain words

_WORDS = {  # measure: (unit of the medians, when larger, when smaller)
    "brightness": ("grey level", "brighter", "darker"),
    "sharpness": ("variance of the Laplacian", "sharper, or rougher", "more blurred, or smoother"),
}

REMEDY: Final = (
    "Look at the camera, its lens and the lamps. If the station's pictures are to look like this, "
    "the model's figures do not hold for them: have some reviewed (crackwatch review mark) and "
    "retrain."
)


def in_words(found: DayDrift) -> str:
    """What was found of a day, as a clause with the figures that it rests on."""
    if found.finding is DriftFinding.NO_REFERENCE:
        return (
            f"model {found.model} does not say what it learned from: retrain, or take a newer "
            "starter"
        )
    if found.finding is DriftFinding.TOO_FEW:
        return f"too few to say: {found.n} pictures, {MIN_PICTURES} are needed"
    if found.finding is DriftFinding.ALIKE:
        return "like what the model learned from"
    if found.measure == "score":
        surer = "less" if found.larger else "more"
        return (
            f"the model is {surer} sure of normal pictures than it was of those that it learned from "
            f"(distance {found.distance:.2f})"
        )
    unit, larger, smaller = _WORDS[found.measure]
    return (
        f"pictures are {larger if found.larger else smaller} than what the model learned from "
        f"(median {unit} {_figure(found.median)} against {_figure(found.expected_median)})"
    )


def _figure(value: float | None) -> str:
    """To three figures: 171, 23.8."""
    assert value is not None  # whoever raised drift knows both medians
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


# ------------------------------------------------------------------------------------ documents


def document(found: DayDrift) -> dict[str, Any]:
    """As JSON has it, in ``status`` and in a report."""
    return {
        "day": found.day.isoformat(),
        "model": found.model,
        "measure": found.measure,
        "n": found.n,
        "finding": found.finding.value,
        "raised": found.raised,
        "distance": found.distance,
        "p": found.p,
        "median": found.median,
        "expected_median": found.expected_median,
    }
