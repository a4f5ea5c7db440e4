"""What the pictures that a model learned from look like: distributions, not the pictures.

The publisher makes a ``Reference``, the model's card carries it, and drift is measured from it. Pure
arithmetic, as cheap to import as to read: a report pays for it.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

MIN_PICTURES: Final = 30  # fewer are no distribution, neither of a day nor of what was learned from
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
        return median(self.quantiles)


def median(ordered: Sequence[float]) -> float:
    """Of ascending values, at least one."""
    # not the standard library's, whose module takes as long to import as a report takes to count
    return (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2


@dataclass(frozen=True, slots=True)
class LightSpread:
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
    normal: LightSpread
    anomaly: LightSpread | None

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

        The books have cards that a newer program wrote, so a strange reference is no error there.
        """
        found = card.get("reference")
        try:
            return None if found is None else cls.of_document(found)
        except ValueError:
            return None

    @classmethod
    def of_document(cls, found: Any) -> Reference:
        """From what ``document`` gave. Raises ValueError, saying what is wrong with it."""
        try:
            return cls._read(found)
        except KeyError as exc:
            raise ValueError(f"{exc.args[0]} is missing") from exc
        except (TypeError, OverflowError) as exc:
            raise ValueError(f"is no reference: {exc}") from exc

    @classmethod
    def _read(cls, found: Mapping[str, Any]) -> Reference:
        threshold, anomaly = float(found["threshold"]), found.get("anomaly")
        if not 0 <= threshold <= 1:
            raise ValueError("a threshold from 0 to 1")
        return cls(
            threshold,
            _spread(found["score"]),
            _light(found["normal"]),
            None if anomaly is None else _light(anomaly),
        )


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
        spread_of([unsure(each.score) for each in normal]),
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


def _light_of(pictures: Sequence[Seen]) -> LightSpread:
    return LightSpread(
        spread_of([each.brightness for each in pictures]),
        spread_of([each.sharpness for each in pictures]),
    )


def unsure(score: float) -> float:
    """The score as distributions have it: none is surer than ``SURE``."""
    return max(SURE, score)


# ------------------------------------------------------------------------------------ documents


def _spread_document(spread: Spread) -> dict[str, Any]:
    # seven figures: more than any measure has, and a card that a person can still scroll through
    return {"n": spread.n, "quantiles": [float(f"{value:.7g}") for value in spread.quantiles]}


def _light_document(light: LightSpread) -> dict[str, Any]:
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


def _light(found: Mapping[str, Any]) -> LightSpread:
    return LightSpread(_spread(found["brightness"]), _spread(found["sharpness"]))
