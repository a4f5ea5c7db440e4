"""Exact bounds of a rate, from how often something was seen; plain arithmetic.

The one-sided ones of Clopper and Pearson (1934), and how many examples it takes for one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy.stats import beta, binom

ROUNDING = 1e-9  # relative: what two ways to compute one binomial tail may differ by


@dataclass(frozen=True, slots=True)
class Span:
    """What is expected, and between what it may lie."""

    expected: float
    low: float
    high: float


def lower_bound(successes: int, trials: int, confidence: float) -> float:
    """Exact one-sided lower bound of a rate (Clopper and Pearson)."""
    return float(beta.ppf(1 - confidence, successes, trials - successes + 1)) if successes else 0.0


def upper_bound(successes: int, trials: int, confidence: float) -> float:
    """Exact one-sided upper bound of a rate (Clopper and Pearson)."""
    if successes == trials:
        return 1.0
    return float(beta.ppf(confidence, successes + 1, trials - successes))


def errors_allowed(trials: int, rate: float, confidence: float) -> int:
    """The most errors in ``trials`` that prove a rate of errors of at most ``rate``; -1: none do.

    The largest x below ``trials`` for which x errors or fewer are less likely than 1 - confidence at
    that rate.
    """
    tail = (1 - confidence) * (1 + ROUNDING)
    found = int(binom.ppf(1 - confidence, trials, rate))  # the first that may be too many
    found = min(found, trials - 1)
    while found >= 0 and binom.cdf(found, trials, rate) > tail:
        found -= 1
    return found


def examples_needed(rate: float, confidence: float) -> int:
    """How many examples without one error prove a rate of errors of at most ``rate``."""
    exact = math.log1p(-confidence) / math.log1p(-rate)
    return math.ceil(exact * (1 - ROUNDING / 1_000))
