"""The second look at suspicious tiles: whether they show a crack from the places around, too.

A grain, a pit or a fleck of paint looks like a crack where the frame happens to cut it so; a crack
looks like one wherever the frame shows a fair piece of it, and whichever way it is turned. Knows
neither decoder nor model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Final, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from crackwatch.runtime import SIDE, Classifier
from crackwatch.tiling import Layout, boxes_at
from crackwatch.verdict import require_probabilities

MOST: Final = 32  # tiles of one photograph, the highest scores first: what it may cost is bounded
STEPS_PX: Final = tuple(round(SIDE * eighth / 8) for eighth in range(-4, 5))
ORIENTATIONS: Final = 8
UNCLEAR: Final = (0.25, 0.925)  # between these a tile is turned as well

_SIDE_BY_SIDE: Final = len(STEPS_PX)
# Of five by five places around one of the coarse ones, those that are not coarse themselves.
_BETWEEN: Final = np.array([(y, x) for y, x in product(range(5), repeat=2) if y % 2 or x % 2]).T
_BATCH: Final = 64  # squares that are scored together
_SURE: Final = 1e-7  # float32 has no scores between 1 and this less

T = TypeVar("T", bound=np.generic)


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


@dataclass(frozen=True, slots=True)
class Looked:
    """Tiles after a second look; those that had none are as they were."""

    scores: NDArray[np.float32]  # (rows, columns)
    corners: NDArray[np.intp]  # (N, 2): upper left, of what has these scores, as Layout.origins


def looked_again(
    photograph: Cuttable, grid: NDArray[np.float32], at_least: float, classifier: Classifier
) -> Looked:
    """What became of ``grid`` (rows, columns), first scores, when suspicious tiles were looked at.

    Those are the tiles that score ``at_least``; of more than MOST the highest, and the others keep
    their score. The frame is moved by up to half its side in each direction, first by fourths of it
    and then, around the best of these places, by eighths: to where nine neighbouring places score
    highest, by the mean of their logits. If that is no clear answer, or if the photograph has no room
    for nine, these are scored in all eight orientations. The mean logit, of 9 or 72, is the tile's,
    as a probability, and the middle one of the nine places what has it.

    Costs three more decodings at most where there is such a tile, and 41 or 104 scores for each.
    Raises ValueError where a score is no probability, and what ``photograph.squares`` raises.
    """
    scores, frames = grid.ravel(), photograph.layout.origins
    suspects = np.argsort(-scores, kind="stable")[: min(MOST, int((scores >= at_least).sum()))]
    if not len(suspects):
        return Looked(grid, frames)

    def asked(corners: NDArray[np.intp], orientations: Sequence[int] = (0,)) -> NDArray[np.float64]:
        return _logits(photograph, corners, classifier, orientations)

    corners = placements(photograph.layout, suspects)
    coarse = asked(corners[:, ::2, ::2])[..., 0]
    best = surest(coarse)
    around = _blocks(corners, 2 * best, 2)  # five by five, every second one known
    logits = np.empty(around.shape[:3])
    logits[:, ::2, ::2] = _blocks(coarse, best, 1)
    logits[:, *_BETWEEN] = asked(around[:, *_BETWEEN])[..., 0]
    best = surest(logits)
    upright, nine = _blocks(logits, best, 1), _blocks(around, best, 1)
    means = upright.mean(axis=(1, 2))
    low, high = _logit(np.array(UNCLEAR))
    crowded = [len(np.unique(places.reshape(-1, 2), axis=0)) < 9 for places in nine]
    unclear = np.flatnonzero(((means > low) & (means < high)) | crowded)
    if len(unclear):
        turned = asked(nine[unclear], range(1, ORIENTATIONS)).sum(axis=(1, 2, 3))
        means[unclear] = (upright[unclear].sum(axis=(1, 2)) + turned) / (9 * ORIENTATIONS)
    again = scores.copy()
    again[suspects] = 1 / (1 + np.exp(-means))
    frames[suspects] = nine[:, 1, 1]
    return Looked(again.reshape(grid.shape), frames)


def placements(layout: Layout, tiles: NDArray[np.intp]) -> NDArray[np.intp]:  # (n, 9, 9, 2)
    """Upper left corners, x and y, of ``tiles`` (n,) moved down and to the right by STEPS_PX.

    None looks over the edge: at the rim all are shifted inwards, and several are alike where the
    photograph has no room for so many.
    """
    offsets = np.array([(x, y) for y, x in product(STEPS_PX, repeat=2)], np.intp)
    last = np.array([layout.width - SIDE, layout.height - SIDE], np.intp)
    reach = STEPS_PX[-1]
    middles = np.maximum(np.minimum(layout.origins[tiles], last - reach), reach)
    inside: NDArray[np.intp] = np.clip(middles[:, None] + offsets, 0, last)
    return inside.reshape(len(tiles), _SIDE_BY_SIDE, _SIDE_BY_SIDE, 2)


def surest(logits: NDArray[np.float64]) -> NDArray[np.intp]:  # (n, 2)
    """Row and column of the place whose three-by-three neighbourhood has the highest mean.

    ``logits`` is (n, 5, 5). Of equal places it is the nearest to the middle.
    """
    inner = product(range(1, 4), repeat=2)
    places = sorted(inner, key=lambda place: abs(place[0] - 2) + abs(place[1] - 2))
    means = [
        logits[:, row - 1 : row + 2, column - 1 : column + 2].mean(axis=(1, 2))
        for row, column in places
    ]
    found: NDArray[np.intp] = np.array(places, np.intp)[np.argmax(means, axis=0)]
    return found


def _blocks(
    places: NDArray[T], middles: NDArray[np.intp], reach: int
) -> NDArray[T]:  # (n, 2 reach + 1, 2 reach + 1, ...)
    """Of each of ``places`` (n, rows, columns, ...) those around its row and column in ``middles``."""
    steps = np.arange(-reach, reach + 1)
    each = np.arange(len(places))[:, None, None]
    rows, columns = middles.T[:, :, None, None]
    found: NDArray[T] = places[each, rows + steps[:, None], columns + steps]
    return found


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
    return _logit(scores).reshape(*corners.shape[:-1], turns)


def _logit(scores: NDArray[np.floating]) -> NDArray[np.float64]:
    sure = np.clip(scores.astype(np.float64), _SURE, 1 - _SURE)
    return np.log(sure / (1 - sure))


def _oriented(square: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """One of the eight ways in which a square can lie; 0 is its own."""
    turned = np.rot90(square, orientation // 2)
    return turned[:, ::-1] if orientation % 2 else turned
