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
from crackwatch.runtime import SIDE
from crackwatch.tiling import Layout
from crackwatch.verdict import judge, judge_tiles, photograph

LightMeter = Callable[[NDArray[np.uint8]], Light]


class Tiled(Protocol):
    """A photograph that a decoder cuts as it reads: see ``images.photographs``."""

    @property
    def width(self) -> int: ...  # own pixels, upright
    @property
    def height(self) -> int: ...
    @property
    def layout(self) -> Layout: ...
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
    tiles a false alarm is hundreds of times as likely.
    """

    threshold: float
    tiled_threshold: float
    min_tiles: int = 1


@dataclass(frozen=True, slots=True)
class Seen:
    """What is remembered of a picture while its views are scored."""

    light: Light | None
    order: NDArray[np.intp] | None = None  # of a photograph: the tile of each view
    layout: Layout | None = None
    size: tuple[int, int] = (SIDE, SIDE)  # own width and height, upright
    overlap: int = 0

    def grid(self, scores: NDArray[np.float32]) -> NDArray[np.float32]:
        """A photograph's ``scores``, in the order of its views, as (rows, columns) of tiles."""
        assert self.layout is not None and self.order is not None, "a single view"
        of_tiles = np.empty(len(self.layout), np.float32)
        of_tiles[self.order] = scores
        return of_tiles.reshape(self.layout.shape)


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
    return Seen(
        _mean(lights) if lights else None,
        np.concatenate(order),
        decoded.layout,
        (decoded.width, decoded.height),
        decoded.overlap,
    )


def judged(
    seen: Seen, scores: NDArray[np.float32], rule: Rule, mm_per_px: float | None = None
) -> Judgement:
    """From the scores of a picture's views, in the order in which ``see`` handed them over.

    ``mm_per_px`` is of a photograph's own pixels, None where nobody knows. Raises ValueError where a
    score is no probability: a broken model must not pass cracks.
    """
    if seen.layout is None:
        (score,) = scores.tolist()
        return Judgement(judge(Prediction(score), rule.threshold), score, rule.threshold, None)
    grid = seen.grid(scores)
    found = judge_tiles(grid, rule.tiled_threshold, rule.min_tiles)
    return Judgement(
        found.verdict,
        found.prediction.score,
        rule.tiled_threshold,
        photograph(
            found, grid, rule.tiled_threshold, seen.layout, seen.size, seen.overlap, mm_per_px
        ),
    )


def _mean(lights: list[Light]) -> Light:
    return Light(
        sum(each.brightness for each in lights) / len(lights),
        sum(each.sharpness for each in lights) / len(lights),
    )
