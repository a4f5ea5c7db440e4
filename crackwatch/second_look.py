"""The second look at suspicious tiles: whether they show a crack from the places around, too.

A grain, a pit or a fleck of paint looks like a crack where the frame happens to cut it so; a crack
looks like one wherever the frame shows a fair piece of it, and whichever way it is turned. Knows
neither decoder nor model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from crackwatch.runtime import SIDE, Classifier
from crackwatch.tiling import Layout, boxes_at
from crackwatch.verdict import require_probabilities

MOST: Final = 32  # tiles of one photograph, the highest scores first: what it may cost is bounded
STEPS_PX: Final = tuple(round(SIDE * eighth / 8) for eighth in range(-4, 5))
ORIENTATIONS: Final = 8

_SIDE_BY_SIDE: Final = len(STEPS_PX)
_BATCH: Final = 64  # squares that are scored together
_SURE: Final = 1e-7  # float32 has no scores between 1 and this less


class Cuttable(Protocol):
    """A photograph of which any square can be had again: see ``images.photographs``."""

    @property
    def width(self) -> int: ...  # own pixels, upright
    @property
    def height(self) -> int: ...
    @property
    def layout(self) -> Layout: ...
    def squares(self, boxes: NDArray[np.intp]) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """The place in ``boxes`` (n, 4), and what the model would see there, each once.

        uint8 (227, 227, 3) BGR, valid until the next one. Decodes anew; raises Unreadable where the
        file turns out to be damaged.
        """
        ...


def looked_again(
    photograph: Cuttable, grid: NDArray[np.float32], at_least: float, classifier: Classifier
) -> NDArray[np.float32]:
    """``grid`` (rows, columns) of first scores, with suspicious tiles' scores of a second look.

    Those are the tiles that score ``at_least``; of more than MOST the highest, and the others keep
    their score. The frame is moved by eighths of its side, half a side at most in each direction.
    Where nine neighbouring places score highest, by the mean of their logits, these nine are scored
    in all eight orientations; the mean of the 72 logits is the tile's, as a probability.

    Costs two more decodings where there is such a tile, and 144 scores for each. Raises ValueError
    where a score is no probability, and what ``photograph.squares`` raises.
    """
    scores = grid.ravel()
    suspects = np.argsort(-scores, kind="stable")[: min(MOST, int((scores >= at_least).sum()))]
    if not len(suspects):
        return grid
    corners = placements(photograph.layout, suspects)
    upright = _logits(photograph, corners, classifier, (0,))[..., 0]
    rows, columns = surest(upright)
    each = np.arange(len(suspects))[:, None, None]
    down, right = np.arange(-1, 2)[:, None], np.arange(-1, 2)
    nine = each, rows[:, None, None] + down, columns[:, None, None] + right
    turned = _logits(photograph, corners[nine], classifier, range(1, ORIENTATIONS))
    every = np.concatenate([upright[nine][..., None], turned], axis=-1)
    again = scores.copy()
    again[suspects] = 1 / (1 + np.exp(-every.mean(axis=(1, 2, 3))))
    return again.reshape(grid.shape)


def placements(layout: Layout, tiles: NDArray[np.intp]) -> NDArray[np.intp]:  # (n, 9, 9, 2)
    """Upper left corners, x and y, of ``tiles`` (n,) moved down and to the right by STEPS_PX.

    None looks over the edge: at the rim several are alike.
    """
    offsets = np.array([(x, y) for y, x in product(STEPS_PX, repeat=2)], np.intp)
    corners = layout.origins[tiles][:, None] + offsets
    last = np.array([layout.width - SIDE, layout.height - SIDE], np.intp)
    inside: NDArray[np.intp] = np.clip(corners, 0, last)
    return inside.reshape(len(tiles), _SIDE_BY_SIDE, _SIDE_BY_SIDE, 2)


def surest(logits: NDArray[np.float64]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Row and column, (n,) each, of the place whose three-by-three neighbourhood has the highest mean.

    ``logits`` is (n, 9, 9). Of equal ones it is the nearest to the middle, where the tile lies.
    """
    inner = range(1, _SIDE_BY_SIDE - 1)
    middle = _SIDE_BY_SIDE // 2
    places = sorted(
        product(inner, inner),
        key=lambda place: ((place[0] - middle) ** 2 + (place[1] - middle) ** 2, place),
    )
    means = [
        logits[:, row - 1 : row + 2, column - 1 : column + 2].mean(axis=(1, 2))
        for row, column in places
    ]
    found = np.array(places, np.intp)[np.argmax(means, axis=0)]
    return found[:, 0], found[:, 1]


def _logits(
    photograph: Cuttable,
    corners: NDArray[np.intp],
    classifier: Classifier,
    orientations: Sequence[int],
) -> NDArray[np.float64]:
    """Of the squares at ``corners`` (..., 2), in each of the orientations: (..., orientations)."""
    places = boxes_at(
        photograph.layout, corners.reshape(-1, 2), photograph.width, photograph.height
    )
    turns = len(orientations)
    scores = np.empty(len(places) * turns, np.float32)
    batch = np.empty((min(_BATCH, len(scores)), SIDE, SIDE, 3), np.uint8)
    waiting: list[int] = []
    done = 0
    for place, square in photograph.squares(places):
        for turn, orientation in enumerate(orientations):
            batch[len(waiting)] = _oriented(square, orientation)
            waiting.append(place * turns + turn)
            done += 1
            if len(waiting) == len(batch) or done == len(scores):
                scores[waiting] = classifier.scores(batch[: len(waiting)])
                waiting.clear()
    require_probabilities(scores)
    sure = np.clip(scores.astype(np.float64), _SURE, 1 - _SURE)
    return np.log(sure / (1 - sure)).reshape(*corners.shape[:-1], turns)


def _oriented(square: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """One of the eight ways in which a square can lie; 0 is its own."""
    turned = np.rot90(square, orientation // 2)
    return turned[:, ::-1] if orientation % 2 else turned
