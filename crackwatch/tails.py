"""How often a normal scores higher than any that was seen; plain arithmetic on logits.

The highest normals' logits over a start follow a generalised Pareto distribution, whatever their own
(Pickands 1975, Balkema and de Haan 1974), and it goes on where no normal was seen. It is fitted by
probability-weighted moments (Hosking and Wallis 1987). That is an extrapolation, and its interval, a
bootstrap over groups and over how much is taken for the tail, knows only what these normals show.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit

from crackwatch.bounds import Span

RESAMPLES = 400
FEWEST_NORMALS = 400  # independent; of fewer the tail is no sample of anything
_TAIL_PER_ROOT = 2.0  # normals in the tail, to the root of all: 240 of 14,400
_TAILS = (0.5, 1.0, 2.0)  # of that number: what is tail is a choice, and the span has to show it
_STEEPEST = 0.9  # shape of a tail; at 1 it has no mean and the moments no meaning
_CERTAIN = 1 - 2.0**-25  # the middle between 1 and the float32 below: what a score of 1 stands for


@dataclass(frozen=True, slots=True)
class Tail:
    """Where single normals are and where none was seen: how many of them are beyond a logit.

    ``normals`` are the logits of the independent ones, falling; beyond ``start`` it is not they
    that are counted, but the generalised Pareto distribution of ``scale`` and ``shape``.
    """

    normals: NDArray[np.float64]
    start: float
    share: float  # of the normals that are beyond start, 0..1
    scale: float  # logits
    shape: float  # 0: exponential; above: heavier; below: ends

    def rate(self, at: float) -> float:
        """Share of normals with a logit of at least ``at``: 0..1."""
        if at < self.start:
            return float((self.normals >= at).mean())
        beyond = (at - self.start) / self.scale
        if abs(self.shape) < 1e-9:
            return self.share * math.exp(-beyond)
        left = 1 + self.shape * beyond
        return self.share * left ** (-1 / self.shape) if left > 0 else 0.0

    def logit_of(self, rate: float) -> float:
        """The lowest logit that at most this share of the normals reaches."""
        if rate >= self.share:
            allowed = int(rate * len(self.normals) * (1 + 1e-9))
            highest_kept = self.normals[min(allowed, len(self.normals) - 1)]
            return float(np.nextafter(highest_kept, np.inf))
        fold = self.share / rate
        if abs(self.shape) < 1e-9:
            return self.start + self.scale * math.log(fold)
        return self.start + self.scale / self.shape * math.expm1(self.shape * math.log(fold))


def fit(normals: NDArray[np.float64], tail: float = 1.0) -> Tail:
    """The tail of independent normals' logits, (N,) and at least FEWEST_NORMALS of them.

    The 2 sqrt(N) highest are the tail, or ``tail`` times as many: more of them as N grows, and an
    ever smaller share. No look at the logits decides it.
    """
    falling = np.sort(normals)[::-1]
    size = _tail_size(len(falling), tail)
    start = float(falling[size])
    scale, shape = _moments(falling[None, :size] - start)
    return Tail(falling, start, size / len(falling), float(scale[0]), float(shape[0]))


def _tail_size(normals: int, tail: float) -> int:
    return min(round(tail * _TAIL_PER_ROOT * math.sqrt(normals)), normals - 1)


def _moments(beyond: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Scale and shape of each row of ``beyond`` (M, n), falling: both (M,)."""
    count = beyond.shape[1]
    weights = np.arange(count - 1, -1, -1) / (count - 1)  # of the largest: 1
    mean = beyond.mean(axis=1)
    spread = np.maximum(2 * (beyond * weights).mean(axis=1) - mean, 1e-12)  # the second L-moment
    shape = np.clip(2 - mean / spread, -5.0, _STEEPEST)
    return np.maximum(mean * (1 - shape), 1e-9), shape


def rate_beyond(
    normals: NDArray[np.float64], threshold: float, confidence: float, seed: int
) -> Span:
    """Share of normals with a logit of at least ``threshold``: fitted, and between what."""
    fitted = fit(normals)
    random = np.random.default_rng(seed)
    count = len(normals)
    if threshold < fitted.start:  # among the normals that were seen: no tail is needed
        flagged = int((normals >= threshold).sum())
        rates = random.binomial(count, flagged / count, RESAMPLES) / count
    else:
        highest = _highest_of_resamples(fitted.normals, random)
        over = (highest >= threshold).sum(axis=1) / count
        rates = np.concatenate(
            [_resampled(highest, count, threshold, over, tail) for tail in _TAILS]
        )
    low, high = np.quantile(rates, [(1 - confidence) / 2, (1 + confidence) / 2])
    expected = fitted.rate(threshold)
    return Span(expected, min(float(low), expected), max(float(high), expected))


def _highest_of_resamples(
    falling: NDArray[np.float64], random: np.random.Generator
) -> NDArray[np.float64]:
    """The highest logits of RESAMPLES bootstrap samples, each falling: (RESAMPLES, a few hundred).

    Which ranks a sample drew, the lowest first, are the order statistics of as many uniform
    numbers; these are sums of exponential ones (Renyi 1953), so that the rest need not be drawn.
    """
    count = len(falling)
    most = _tail_size(count, max(_TAILS)) + 1
    steps = np.cumsum(random.exponential(size=(RESAMPLES, most)), axis=1)
    total = steps[:, -1] + random.gamma(count + 1 - most, size=RESAMPLES)
    return falling[(steps / total[:, None] * count).astype(np.intp)]


def _resampled(
    highest: NDArray[np.float64],
    count: int,
    threshold: float,
    over: NDArray[np.float64],
    tail: float,
) -> NDArray[np.float64]:
    """The rate at ``threshold`` in each resample, with so much of it taken for the tail."""
    size = _tail_size(count, tail)
    start = highest[:, size]
    scale, shape = _moments(highest[:, :size] - start[:, None])
    shape = np.where(np.abs(shape) < 1e-9, 1e-9, shape)
    left = np.maximum(1 + shape * np.maximum(threshold - start, 0.0) / scale, 0.0)
    with np.errstate(divide="ignore"):  # a tail that has ended
        beyond = np.where(left > 0, left ** (-1 / shape), 0.0)
    return np.where(threshold < start, over, size / count * beyond)


def logits(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of scores 0..1, (N,); a score of 1 stands for the middle between 1 and the float32 below."""
    found: NDArray[np.float64] = logit(np.clip(scores, np.finfo(np.float32).tiny, _CERTAIN))
    return found


def logit_of(score: float) -> float:
    """The same of one score."""
    return float(logits(np.array([score]))[0])
