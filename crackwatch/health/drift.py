"""Whether a day's pictures still look like those that the model learned from: pure arithmetic.

Three measures of each picture are compared with their distribution in the training data: brightness,
sharpness and the model's score. The distance is that of Kolmogorov and Smirnov, the largest
difference of the two cumulative distributions: 0 where they are alike, 1 where they do not overlap.
Drift is raised only where it is both more than chance explains and large:

- Chance. The p-value must be below ``ALPHA`` over the number of tests, Bonferroni's bound: three
  measures on each of a year's days, so that a station whose pictures do not change is called
  drifting by chance in one year of twenty at most. Pictures of one wall are alike and do not count
  as independent: ``WALL`` of them count as one (Kish's design effect, Survey Sampling, 1965).
- Size. With thousands of pictures a day every difference is more than chance. Only a distance of
  ``FLOOR`` or more is told; docs/drift.md has the measurements that it was chosen by.

A crack is darker and sharper than bare concrete, so another share of cracks alone would shift the
distributions. Therefore each day is compared with what the training data would be with *the day's
own share* of pictures at or above the threshold, and scores are compared among those below it.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Final, Protocol

from crackwatch.domain import DayDrift, DriftFinding

ALPHA: Final = 0.05  # of calling a station drifting by chance, once in a year of days
FAMILY_DAYS: Final = 365
MEASURES: Final = ("brightness", "sharpness", "score")
WALL: Final = 5  # pictures that count as one, for they show the same wall in the same light
FLOOR: Final = 0.2
MIN_PICTURES: Final = 30
QUANTILES: Final = 201  # of a reference: every half per cent

# Two models of one recipe differ in how near to 0 they put a plain wall, and that says nothing of
# the wall: below this a score is "surely normal", and all such scores are alike.
SURE: Final = 0.01


@dataclass(frozen=True, slots=True)
class Spread:
    """An empirical distribution of ``n`` values, as its quantiles: evenly spaced, ascending.

    The first is the smallest value, the last the largest.
    """

    n: int
    quantiles: tuple[float, ...]

    def shares(self, value: float) -> tuple[float, float]:
        """The shares of values smaller than ``value``, and of those smaller or equal: 0..1.

        Linear between quantiles, where the two are the same.
        """
        quantiles = self.quantiles
        last = len(quantiles) - 1
        left = bisect_left(quantiles, value)
        if left > last:
            return 1.0, 1.0
        high = quantiles[left]
        if high == value:  # of a run of equal quantiles, over which the distribution jumps
            return left / last, (bisect_right(quantiles, value, left) - 1) / last
        if left == 0:
            return 0.0, 0.0
        low = quantiles[left - 1]
        share = (left - 1 + (value - low) / (high - low)) / last
        return share, share

    @property
    def median(self) -> float:
        return _median(self.quantiles)


def _median(ordered: Sequence[float]) -> float:
    # not the standard library's, whose module takes as long to import as a report takes to count
    return (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2


@dataclass(frozen=True, slots=True)
class Light:
    """Brightness and sharpness of one kind of picture: see ``images.light``."""

    brightness: Spread
    sharpness: Spread


@dataclass(frozen=True, slots=True)
class Reference:
    """What the pictures that a model learned from look like; its card carries it.

    ``threshold`` parts them into ``normal``, scored below it, and ``anomaly``, the rest; None: too
    few were that high. ``score`` is of those below, none smaller than ``SURE``.
    """

    threshold: float
    score: Spread
    normal: Light
    anomaly: Light | None

    def document(self) -> dict[str, Any]:
        """As the card's ``reference`` has it."""
        return {
            "threshold": self.threshold,
            "score": _spread_document(self.score),
            "normal": _light_document(self.normal),
            "anomaly": None if self.anomaly is None else _light_document(self.anomaly),
        }

    @classmethod
    def of_card(cls, card: Mapping[str, Any]) -> Reference | None:
        """From a card's JSON document; None where it has none, or one that this program cannot use.

        A station must start with a card from a newer program, so a strange reference is no error.
        """
        found = card.get("reference")
        try:
            return None if found is None else cls._read(found)
        except (KeyError, TypeError, ValueError, OverflowError):
            return None

    @classmethod
    def _read(cls, found: Mapping[str, Any]) -> Reference:
        anomaly = found["anomaly"]
        return cls(
            float(found["threshold"]),
            _spread(found["score"]),
            _light(found["normal"]),
            None if anomaly is None else _light(anomaly),
        )


class SeenLike(Protocol):
    """One inspected picture, as far as drift asks: see ``store.drift.Sampled``."""

    @property
    def score(self) -> float: ...
    @property
    def brightness(self) -> float: ...
    @property
    def sharpness(self) -> float: ...


@dataclass(frozen=True, slots=True)
class Seen:
    """One inspected picture, as far as drift asks."""

    score: float
    brightness: float
    sharpness: float


# ------------------------------------------------------------------------------- the publisher's


def reference_of(
    scores: Sequence[float],
    brightness: Sequence[float],
    sharpness: Sequence[float],
    threshold: float,
) -> Reference:
    """What the card of a new model says of its training data.

    ``scores`` are honest ones, out of fold or held back, 0..1; all three have a value for each of
    the same pictures, in one order, lists or arrays. Raises ValueError where their lengths differ
    or fewer than ``MIN_PICTURES`` score below ``threshold``.
    """
    pictures = [
        Seen(float(score), float(bright), float(sharp))
        for score, bright, sharp in zip(scores, brightness, sharpness, strict=True)
    ]
    normal = [each for each in pictures if each.score < threshold]
    anomaly = [each for each in pictures if each.score >= threshold]
    if len(normal) < MIN_PICTURES:
        raise ValueError(
            f"{len(normal)} pictures score below {threshold}; {MIN_PICTURES} are needed to say what "
            "normal ones look like"
        )
    return Reference(
        threshold,
        spread_of([_unsure(each.score) for each in normal]),
        _light_of(normal),
        _light_of(anomaly) if len(anomaly) >= MIN_PICTURES else None,
    )


def spread_of(values: Sequence[float]) -> Spread:
    """``QUANTILES`` quantiles, linear between neighbours. Raises ValueError if there is no value."""
    ordered = sorted(values)
    if not ordered:
        raise ValueError("there is no distribution of no values")
    if not all(math.isfinite(value) for value in ordered):
        raise ValueError("a distribution of finite values only")
    last = len(ordered) - 1
    return Spread(
        len(ordered), tuple(_between(ordered, last * at, QUANTILES - 1) for at in range(QUANTILES))
    )


def _between(ordered: Sequence[float], numerator: int, denominator: int) -> float:
    """The value at position ``numerator / denominator``: exact where neighbours are equal."""
    position, rest = divmod(numerator, denominator)
    low = ordered[position]
    high = ordered[position + 1] if rest else low
    return low if low == high else low + (high - low) * (rest / denominator)


def _light_of(pictures: Sequence[Seen]) -> Light:
    return Light(
        spread_of([each.brightness for each in pictures]),
        spread_of([each.sharpness for each in pictures]),
    )


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
    tests = len(MEASURES) * max(days, FAMILY_DAYS)
    below = [each for each in pictures if each.score < reference.threshold]
    share = 1 - len(below) / len(pictures) if pictures else 0.0
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
            [_unsure(each.score) for each in below],
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
        median=_median(sorted(values)),
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


def _unsure(score: float) -> float:
    return max(SURE, score)


def _spread_document(spread: Spread) -> dict[str, Any]:
    # seven figures: more than any measure has, and a card that a person can still scroll through
    return {"n": spread.n, "quantiles": [float(f"{value:.7g}") for value in spread.quantiles]}


def _light_document(light: Light) -> dict[str, Any]:
    return {
        "brightness": _spread_document(light.brightness),
        "sharpness": _spread_document(light.sharpness),
    }


def _spread(found: Mapping[str, Any]) -> Spread:
    quantiles = tuple(float(value) for value in found["quantiles"])
    n = int(found["n"])
    if n < 1 or len(quantiles) < 2 or list(quantiles) != sorted(quantiles):
        raise ValueError("no ascending quantiles of some values")
    if not all(math.isfinite(value) for value in quantiles):  # JSON in Python knows NaN
        raise ValueError("quantiles of finite values only")
    return Spread(n, quantiles)


def _light(found: Mapping[str, Any]) -> Light:
    return Light(_spread(found["brightness"]), _spread(found["sharpness"]))
