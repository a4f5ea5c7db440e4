"""The threshold for photographs: what hundreds of tiles make of one tile's false alarms.

Plain arithmetic on scores of single pictures with labels; knows no photograph, no model, no file.

A photograph of N tiles is N chances of a false alarm. How these hang together cannot be had from
single pictures, so that everything here holds whatever they do. The number of tiles over the
threshold is N times one tile's rate on average, however they depend on one another; at least k
tiles are over in at most N / k times that rate of all photographs (Markov), and a rule of k
connected tiles asks for more than that. One thing is assumed: that a photograph without a crack is
made, on average, of tiles like the normals that were scored.

One tile's rate has two sources, never mixed. *Proved*: the exact bound of ``promise``, which needs
as many normals as the rate is small. *Estimated*: what ``tails`` makes of the normals that score highest, an
extrapolation whose interval knows only what these normals show.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from scipy.stats import beta

from crackwatch import bounds, labelled_scores, promise, tails
from crackwatch.bounds import Span
from crackwatch.errors import PromiseError
from crackwatch.labelled_scores import Counts, Examples
from crackwatch.promise import CONFIDENCE, MaxFalseAlarms

# A photograph of twelve megapixels, 4000 x 3000, in tiles of 227 with an overlap of 64: the settings' own.
TWELVE_MEGAPIXELS = 475
# What a model's card asks for where nobody asked: three false alarms in a hundred photographs.
DEFAULT_PER_1000 = 30.0
# And how many there may be by the same estimate if the labels that it doubts are right after all.
DOUBT_MAY_COST_PER_1000 = 100.0

# A normal that scores so high, out of fold, may well be a crack that somebody overlooked. Equal to
# what the audit of labels doubts (training.gate).
DOUBTED_FROM = 0.95
# Of the normals that are no person's word at the station, the share that may be wrong labels. If
# more score that high it is the model that errs, and none of them is left out.
DOUBTED_SHARE = 1e-3

_PER = 1_000
_HIGHEST = 10
_LEFT_OUT = (1, 2, 5, 10)
_CHAINS = (1, 2, 3, 5)
# Shapes of 1, 2, ... squares that touch by sides or corners, each orientation for itself (Redelmeier
# 1981; OEIS A006770): an upper bound of the connected sets of tiles to one tile of a photograph.
_CONNECTED = (1, 4, 20, 110, 638, 3_832)


class Basis(enum.StrEnum):
    """What a threshold for photographs rests on."""

    PROVED = "proved"
    ESTIMATED = "estimated"
    GIVEN = "given"


@dataclass(frozen=True, slots=True)
class Wish:
    """Of a thousand photographs without a crack, at most ``per_1000`` are flagged.

    ``per_1000`` is in 0..1000, both exclusive; each has ``tiles`` tiles and is flagged if
    ``min_tiles`` connected ones reach the threshold (``verdict.judge_tiles``).
    """

    per_1000: float
    tiles: int
    min_tiles: int = 1

    def __post_init__(self) -> None:
        if not (0 < self.per_1000 < _PER and 1 <= self.min_tiles <= self.tiles):
            raise ValueError(f"{self} is no wish")

    @property
    def tile_rate(self) -> float:
        """The rate of false alarms of one tile that keeps it, whatever hangs together; 0..1."""
        return self.per_1000 / _PER * self.min_tiles / self.tiles

    def per_1000_at(self, tile_rate: float) -> float:
        """At most so many of 1,000 photographs are false alarms, at that rate of one tile."""
        return _PER * min(1.0, tile_rate * self.tiles / self.min_tiles)


@dataclass(frozen=True, slots=True)
class Chain:
    """Of cracks that run through ``tiles`` tiles in a row, the share that is found; all 0..1.

    If each of those tiles by itself is found as often as a single picture of a crack. ``bound`` is
    proved and ``at_least`` expected, whatever hangs together; ``if_independent`` is what it would
    be if a tile's miss said nothing of the next one's, which nobody has shown.
    """

    tiles: int
    bound: float
    at_least: float
    if_independent: float


@dataclass(frozen=True, slots=True)
class WhatIf:
    """The threshold and a single tile's recall, had ``left_out`` highest normals not been there."""

    left_out: int
    threshold: float
    recall: float


@dataclass(frozen=True, slots=True)
class TiledPromise:
    """A threshold for the tiles of photographs, what is proved of it and what estimated.

    False alarms are of 1,000 photographs without a crack. ``bound`` is one-sided at ``confidence``;
    it is exact although the threshold went by the same normals. ``estimate``'s span is two-sided.
    ``if_independent``, where the rule asks for several tiles: the estimate if one tile's false
    alarm said nothing of the next one's; tiles of one surface are not like that, so it is a floor.
    ``left_out`` doubtful normals had no part in the estimate; with all of them it would be
    ``believed``. Counts, recall and the proved bound believe every label.
    """

    wish: Wish
    confidence: float
    basis: Basis
    threshold: float
    bound: float
    estimate: Span | None  # None: too few normals for one
    if_independent: float | None
    pictures: Counts
    independent: Counts
    recall: float  # of single pictures of cracks
    recall_bound: float
    chains: tuple[Chain, ...]
    highest: tuple[int, ...]  # places, in the examples, of the normals that score highest
    what_if: tuple[WhatIf, ...]  # those were cracks; for an estimated threshold
    left_out: int = 0  # pictures
    believed: Span | None = None  # None: nothing was left out, or there is no estimate


# ------------------------------------------------------------------------------------- the choice


def choose(
    examples: Examples,
    wish: Wish,
    basis: Basis,
    confidence: float = CONFIDENCE,
    seed: int = 0,
    left_out: NDArray[np.bool_] | None = None,
) -> TiledPromise:
    """The lowest threshold for photographs that keeps ``wish``: PROVED, or ESTIMATED.

    Proved at ``confidence``, which few normals support. Estimated by the expected rate; the span
    and the proved bound say how far that may be off. An estimate, and nothing else, may go without
    the examples ``left_out`` (N,): see ``doubted``. ``seed`` is the bootstrap's. Raises
    PromiseError, with the numbers that it would take, where the examples cannot support it.
    """
    _both_classes(examples)
    if basis is Basis.ESTIMATED:
        trusted = _without(examples, left_out)
        _, normals = _both_classes(trusted)
        threshold = _estimated(normals, wish)
        what_if = _what_if(examples, normals, wish)
        return _described(
            examples, wish, basis, threshold, None, what_if, confidence, seed, trusted
        )
    if basis is not Basis.PROVED:
        raise ValueError(f"a threshold that is {basis.value} is not chosen")
    one = MaxFalseAlarms(_PER * wish.tile_rate)
    try:
        proved = promise.choose(examples, one, 0.0, confidence)
    except PromiseError as exc:
        raise _refusal(wish, exc.needed, len(examples.units(0)[1]), confidence) from exc
    tile_bound = proved.false_alarms_per_1000_bound / _PER
    return _described(examples, wish, basis, proved.threshold, tile_bound, (), confidence, seed)


def at(
    examples: Examples,
    wish: Wish,
    threshold: float,
    confidence: float = CONFIDENCE,
    seed: int = 0,
    left_out: NDArray[np.bool_] | None = None,
) -> TiledPromise:
    """What ``threshold`` does to photographs like ``wish``'s, whose rate is not looked at.

    Raises PromiseError without examples of both classes.
    """
    trusted = _without(examples, left_out)
    return _described(examples, wish, Basis.GIVEN, threshold, None, (), confidence, seed, trusted)


def for_card(examples: Examples, own: float, sure: NDArray[np.bool_] | None = None) -> TiledPromise:
    """What a model's card says of photographs where nobody has asked for anything.

    At most DEFAULT_PER_1000 of 1,000 photographs of twelve megapixels, flagged by any one tile: a
    rule of several tiles is blind to a crack in one corner, and nobody has chosen that. By the
    estimate, for hardly a data set is large enough to prove it, and without the few normals that
    are ``doubted``: one tile in 11,200 may be a false alarm, and at that depth the tail is that of
    the labels. Should these labels be right, DOUBT_MAY_COST_PER_1000 is kept. Never below ``own``, the model's threshold for single pictures: then that is
    described. Raises PromiseError as ``choose`` does; a card without a threshold for photographs
    leaves the station the model's own.
    """
    wish = Wish(DEFAULT_PER_1000, TWELVE_MEGAPIXELS)
    left_out = doubted(examples, sure)
    found = choose(examples, wish, Basis.ESTIMATED, left_out=left_out)
    if found.left_out:
        worst = Wish(DOUBT_MAY_COST_PER_1000, wish.tiles, wish.min_tiles)
        try:
            least = _estimated(examples.units(0)[1], worst)
        except PromiseError:  # no score is high enough, if those labels are right
            least = found.threshold
        if found.threshold < least:
            described = at(examples, wish, least, left_out=left_out)
            found = replace(described, basis=Basis.ESTIMATED, what_if=found.what_if)
    return found if found.threshold >= own else at(examples, wish, own, left_out=left_out)


def doubted(examples: Examples, sure: NDArray[np.bool_] | None = None) -> NDArray[np.bool_]:
    """Which normals an estimate had better not believe: (N,), mostly none.

    Those that score DOUBTED_FROM or more, if they are a handful: DOUBTED_SHARE of the normals at
    most, or one. More are no slips of a labeller but what the model gets wrong, and leaving those
    out would promise whatever one likes. ``sure`` (N,) are labels of which a person at the station
    has said so: they are believed.
    """
    normal = examples.labels == 0
    if sure is not None:
        normal = normal & ~sure
    high: NDArray[np.bool_] = normal & (examples.scores >= DOUBTED_FROM)
    if high.sum() > max(1.0, DOUBTED_SHARE * normal.sum()):
        return np.zeros(len(high), dtype=bool)
    return high


def _without(examples: Examples, left_out: NDArray[np.bool_] | None) -> Examples:
    if left_out is None or not left_out.any():
        return examples
    kept = ~left_out
    return Examples(examples.scores[kept], examples.labels[kept], examples.groups[kept])


def _both_classes(examples: Examples) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Independent anomalies by their lowest scores, independent normals by their highest."""
    anomalies, normals = examples.units(1)[0], examples.units(0)[1]
    for label, found in (("anomalies", anomalies), ("normals", normals)):
        if not len(found):
            raise PromiseError(
                f"there are no scores of {label}: what a threshold will cost cannot be said",
                have=0,
                needed=1,
            )
    return anomalies, normals


def _described(
    examples: Examples,
    wish: Wish,
    basis: Basis,
    threshold: float,
    tile_bound: float | None,  # None: the one that holds for a threshold chosen in any way
    what_if: tuple[WhatIf, ...],
    confidence: float,
    seed: int,
    trusted: Examples | None = None,  # by the estimate; None: all
) -> TiledPromise:
    anomalies, normals = _both_classes(examples)
    trusted = trusted or examples
    pictures = labelled_scores.count(examples.of_class(1), examples.of_class(0), threshold)
    independent = labelled_scores.count(anomalies, normals, threshold)
    recall = pictures.tp / (pictures.tp + pictures.fn)
    # the threshold went by the normals, or by nothing: exact
    recall_bound = bounds.lower_bound(independent.tp, len(anomalies), confidence)
    if tile_bound is None:
        tile_bound = bound_wherever(independent.fp, len(normals), confidence)
    estimate = if_independent = believed = None
    normals_trusted = trusted.units(0)[1]
    if len(normals_trusted) >= tails.FEWEST_NORMALS:
        rate = tails.rate_beyond(
            tails.logits(normals_trusted), tails.logit_of(threshold), confidence, seed
        )
        estimate = _photographs(wish, rate)
        if wish.min_tiles > 1:
            if_independent = _PER * independent_tiles(wish, rate.expected)
        if trusted is not examples:
            every = tails.rate_beyond(
                tails.logits(normals), tails.logit_of(threshold), confidence, seed
            )
            believed = _photographs(wish, every)
    return TiledPromise(
        wish=wish,
        confidence=confidence,
        basis=basis,
        threshold=threshold,
        bound=wish.per_1000_at(tile_bound),
        estimate=estimate,
        if_independent=if_independent,
        pictures=pictures,
        independent=independent,
        recall=recall,
        recall_bound=recall_bound,
        chains=tuple(
            Chain(
                tiles=tiles,
                bound=chain_recall(tiles, wish.min_tiles, recall_bound),
                at_least=chain_recall(tiles, wish.min_tiles, recall),
                if_independent=run_recall(tiles, wish.min_tiles, recall),
            )
            for tiles in _CHAINS
        ),
        highest=_highest(examples),
        what_if=what_if,
        left_out=len(examples.labels) - len(trusted.labels),
        believed=believed,
    )


def _photographs(wish: Wish, rate: Span) -> Span:
    """A tile's rate of false alarms as photographs of a thousand."""
    return Span(*(wish.per_1000_at(each) for each in (rate.expected, rate.low, rate.high)))


# -------------------------------------------------------------------------------- what is proved


def bound_wherever(flagged: int, normals: int, confidence: float) -> float:
    """Upper bound of the rate of false alarms at a threshold that ``flagged`` of them reach.

    However the threshold was chosen, by these very normals too. Clopper's and Pearson's bound is
    exact at each order statistic; the doubt is shared out among all of them, 1/2, 1/6, 1/12, ...
    """
    if flagged == normals:
        return 1.0
    doubt = (1 - confidence) / ((flagged + 1) * (flagged + 2))
    return float(beta.isf(doubt, flagged + 1, normals - flagged))


def normals_needed(wish: Wish, confidence: float) -> int:
    """How many independent normals, none of them flagged, prove ``wish``."""
    return bounds.examples_needed(wish.tile_rate, confidence)


def photographs_needed(wish: Wish, confidence: float) -> int:
    """How many photographs without a crack, none of them flagged, prove it with nothing assumed.

    Each of other concrete. Their tiles may hang together as they like.
    """
    return bounds.examples_needed(wish.per_1000 / _PER, confidence)


def _refusal(wish: Wish, needed: int | None, have: int, confidence: float) -> PromiseError:
    photographs = photographs_needed(wish, confidence)
    asked = (
        f"at most {wish.per_1000:g} false alarms per 1,000 photographs of {wish.tiles} tiles at a "
        f"confidence of {confidence:g}"
    )
    if needed is None:
        return PromiseError(
            f"{asked} cannot be had from this model: more normals than that takes have the score "
            "1, as high as scores go",
            have=have,
            needed=None,
        )
    best = wish.per_1000_at(bounds.upper_bound(0, have, confidence))
    return PromiseError(
        f"{asked} takes at least {needed:,} independent normals, none of them flagged; there are "
        f"{have:,}, which prove {math.ceil(10 * best) / 10:.1f} at best",
        f"{photographs:,} photographs without a crack, each of other concrete and none of them "
        "flagged, would prove it as well.",
        have=have,
        needed=needed,
    )


# ----------------------------------------------------------------------------- what is estimated


def _estimated(normals: NDArray[np.float64], wish: Wish) -> float:
    """The threshold, a float32 as a score is."""
    if len(normals) < tails.FEWEST_NORMALS:
        raise PromiseError(
            f"an estimate beyond the normals that were seen takes at least {tails.FEWEST_NORMALS} "
            f"independent ones; there are {len(normals)}",
            have=len(normals),
            needed=tails.FEWEST_NORMALS,
        )
    found = tails.fit(tails.logits(normals)).logit_of(wish.tile_rate)
    threshold = float(np.float32(expit(found)))
    if threshold >= 1:
        raise PromiseError(
            f"at most {wish.per_1000:g} false alarms per 1,000 photographs of {wish.tiles} tiles "
            f"cannot be had from this model: as its normals score, that takes a logit of "
            f"{found:.1f}, and from 17 on every score is 1",
            "See whether the normals that score highest show cracks.",
            have=len(normals),
            needed=None,
        )
    return threshold


def _what_if(examples: Examples, normals: NDArray[np.float64], wish: Wish) -> tuple[WhatIf, ...]:
    falling = np.sort(normals)[::-1]
    cracks = examples.of_class(1)
    found = []
    for left_out in _LEFT_OUT:
        try:
            threshold = _estimated(falling[left_out:], wish)
        except PromiseError:
            continue  # still out of reach
        found.append(WhatIf(left_out, threshold, float((cracks >= threshold).mean())))
    return tuple(found)


def _highest(examples: Examples) -> tuple[int, ...]:
    normals = np.flatnonzero(examples.labels == 0)
    order = np.argsort(-examples.scores[normals], kind="stable")
    return tuple(normals[order[:_HIGHEST]].tolist())


# --------------------------------------------------------------------------- what tiles do together


def independent_tiles(wish: Wish, tile_rate: float) -> float:
    """Share of photographs that are false alarms if no tile knew of another: at most this, 0..1.

    So many connected sets of tiles there are at most, each of them over the threshold as a whole
    with the rate to the power of its size.
    """
    sizes = range(1, min(wish.min_tiles, len(_CONNECTED)) + 1)
    ways = (wish.tiles * _CONNECTED[size - 1] * tile_rate**size for size in sizes)
    return min(wish.per_1000_at(tile_rate) / _PER, *ways, 1.0)


def chain_recall(tiles: int, min_tiles: int, recall: float) -> float:
    """Of cracks through ``tiles`` tiles in a row, at least so many are found; 0..1.

    Whatever the tiles' misses have to do with one another: the first ``min_tiles`` of them are all
    found but for ``min_tiles`` misses' shares (Boole). How much more often a longer crack is
    found only photographs could tell.
    """
    return max(0.0, 1 - min_tiles * (1 - recall)) if tiles >= min_tiles else 0.0


def run_recall(tiles: int, min_tiles: int, recall: float) -> float:
    """The same if one tile's miss said nothing of the next one's: exact, 0..1.

    The chance of ``min_tiles`` found in a row among ``tiles``.
    """
    open_runs = np.zeros(min_tiles)  # by the length of the run that the last tile ends
    open_runs[0], done = 1.0, 0.0
    for _ in range(tiles):
        done += open_runs[-1] * recall
        longer = open_runs[:-1] * recall
        open_runs = np.concatenate([[open_runs.sum() * (1 - recall)], longer])
    return float(done)
