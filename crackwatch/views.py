"""A picture as the views that a model scores, and from their scores back to one judgement.

A small picture is one view; a photograph has one for each of its tiles. Daemon, ``classify`` and
replays judge through here alike. Knows neither decoder nor model: it is handed what they gave.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from crackwatch.domain import Light, Photograph, Prediction, Verdict
from crackwatch.examining import Emit
from crackwatch.runtime import Classifier
from crackwatch.second_look import Cuttable, looked_again
from crackwatch.verdict import judge, judge_tiles, photograph

LightMeter = Callable[[NDArray[np.uint8]], Light]


class Tiled(Cuttable, Protocol):
    """A photograph that a decoder cuts as it reads: see ``images.photographs``."""

    @property
    def overlap(self) -> int: ...
    def tiles(self) -> Iterator[tuple[NDArray[np.intp], NDArray[np.uint8]]]:
        """Tile numbers (n,) and the tiles, uint8 (n, 227, 227, 3) BGR; each tile once.

        Raises Unreadable where the file turns out to be damaged.
        """
        ...


# What a decoder makes of a file.
Decoded = NDArray[np.uint8] | Tiled
Decode = Callable[[bytes], Decoded]  # raises Unreadable


@dataclass(frozen=True, slots=True)
class Rule:
    """By what scores become a verdict. ``threshold`` is for a picture that is one view.

    Of a photograph, ``min_tiles`` connected tiles must reach ``tiled_threshold``: among hundreds of
    tiles a false alarm is hundreds of times as likely. Tiles that score ``second_look_from`` or more
    are looked at again and have the score of that (``second_look.looked_again``); None: none is.
    """

    threshold: float
    tiled_threshold: float
    min_tiles: int = 1
    second_look_from: float | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """What is remembered of a picture while its views are scored."""

    light: Light | None
    tiled: SeenTiles | None = None  # None: it is one view


@dataclass(frozen=True, slots=True)
class SeenTiles:
    """A photograph, and which of its tiles each view was: (N,). Its file's bytes are held meanwhile."""

    photograph: Tiled
    order: NDArray[np.intp]

    def grid(self, scores: NDArray[np.float32]) -> NDArray[np.float32]:
        """``scores`` (N,), in the order of the views, as (rows, columns) of tiles."""
        of_tiles = np.empty(len(self.order), np.float32)
        of_tiles[self.order] = scores
        return of_tiles.reshape(self.photograph.layout.shape)


@dataclass(frozen=True, slots=True)
class Judgement:
    """One picture's verdict, the score that it is known by, and the threshold that was in force."""

    verdict: Verdict
    score: float
    threshold: float
    photograph: Photograph | None


def see(decoded: Decoded, emit: Emit, measure: LightMeter | None = None) -> Seen:
    """Hands over the views of a decoded picture. Raises Unreadable as the decoder does.

    Light is measured of each view; a photograph's is the mean over its tiles, so that it can be
    compared with the crops that the model learned from.
    """
    if isinstance(decoded, np.ndarray):
        light = measure(decoded) if measure else None
        emit(decoded)
        return Seen(light)
    order: list[NDArray[np.intp]] = []
    lights: list[Light] = []
    for numbers, tiles in decoded.tiles():
        if measure:
            lights += map(measure, tiles)
        order.append(numbers)
        emit(tiles)
    return Seen(_mean(lights) if lights else None, SeenTiles(decoded, np.concatenate(order)))


def judged(
    seen: Seen,
    scores: NDArray[np.float32],
    rule: Rule,
    classifier: Classifier,
    mm_per_px: float | None = None,
) -> Judgement:
    """From the scores of a picture's views, in the order in which ``see`` handed them over.

    ``classifier`` gave them, and is asked again where the rule has a second look. ``mm_per_px`` is
    of a photograph's own pixels, None where nobody knows. Raises ValueError where a score is no
    probability: a broken model must not pass cracks.
    """
    if seen.tiled is None:
        (score,) = scores.tolist()
        return Judgement(judge(Prediction(score), rule.threshold), score, rule.threshold, None)
    tiled = seen.tiled.photograph
    grid, corners = seen.tiled.grid(scores), tiled.layout.origins
    if rule.second_look_from is not None:
        looked = looked_again(tiled, grid, rule.second_look_from, classifier)
        grid, corners = looked.scores, looked.corners
    found = judge_tiles(grid, rule.tiled_threshold, rule.min_tiles)
    return Judgement(
        found.verdict,
        found.prediction.score,
        rule.tiled_threshold,
        photograph(
            found,
            grid,
            rule.tiled_threshold,
            tiled.layout,
            (tiled.width, tiled.height),
            tiled.overlap,
            mm_per_px,
            rule.second_look_from,
            corners,
        ),
    )


def _mean(lights: list[Light]) -> Light:
    return Light(
        sum(each.brightness for each in lights) / len(lights),
        sum(each.sharpness for each in lights) / len(lights),
    )
