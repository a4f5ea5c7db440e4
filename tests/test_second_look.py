"""Claims about the second look at suspicious tiles."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from crackwatch.runtime import SIDE
from crackwatch.second_look import (
    MOST,
    ORIENTATIONS,
    STEPS_PX,
    UNCLEAR,
    looked_again,
    placements,
    surest,
)
from crackwatch.tiling import lay_out
from tests.painted import Painted, Window

SIDES = st.integers(SIDE, 4 * SIDE)
MOVED = 25 + 16  # scores of one tile whose answer is clear
TURNED = 9 * (ORIENTATIONS - 1)  # and of another


class Weighing:
    """Scores a square by a fixed pattern that no turning and no mirroring leaves as it is."""

    model_id = "weighing"

    def __init__(self) -> None:
        self.asked = 0
        self._weights = np.random.default_rng(5).normal(size=(SIDE, SIDE)).astype(np.float32)

    def scores(self, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.asked += len(pictures)
        darkness = 127.5 - pictures[..., 0]
        logits = (darkness * self._weights).sum(axis=(1, 2), dtype=np.float64) / 3000
        return (1 / (1 + np.exp(-logits))).astype(np.float32)


def _first(photograph: Painted, classifier: Window | Weighing) -> NDArray[np.float32]:
    tiles = np.concatenate([tile for _, tile in photograph.tiles()])
    return classifier.scores(tiles).reshape(photograph.layout.shape)


def _logit(score: float) -> float:
    return math.log(score / (1 - score))


def test_a_tile_scores_the_mean_logit_of_the_surest_nine_places() -> None:
    """Against the same worked out place by place."""
    rng = np.random.default_rng(3)
    photograph = Painted(rng.integers(0, 256, (530, 740), np.uint8))
    classifier = Weighing()
    first = _first(photograph, classifier)
    at_least = float(np.sort(first.ravel())[-5])
    classifier.asked = clear = 0
    looked = looked_again(photograph, first, at_least, classifier)
    found = looked.scores
    asked = classifier.asked

    def at(x: int, y: int) -> NDArray[np.uint8]:
        return photograph.at(min(max(x, 0), 740 - SIDE), min(max(y, 0), 530 - SIDE))

    def score(square: NDArray[np.uint8]) -> float:
        found = float(classifier.scores(np.ascontiguousarray(square)[None])[0])
        return _logit(min(max(found, 1e-7), 1 - 1e-7))  # float32 has none nearer to 1

    for tile, (x, y) in enumerate(photograph.layout.origins.tolist()):
        if first.ravel()[tile] < at_least:
            assert found.ravel()[tile] == first.ravel()[tile]
            continue
        x = min(max(x, 114), 740 - SIDE - 114)  # at the rim all places are shifted inwards
        y = min(max(y, 114), 530 - SIDE - 114)
        grid = np.array([[score(at(x + dx, y + dy)) for dx in STEPS_PX] for dy in STEPS_PX])

        def mean(row: int, column: int, step: int, grid: NDArray[np.float64] = grid) -> float:
            rows = slice(row - step, row + step + 1, step)
            return float(grid[rows, column - step : column + step + 1 : step].mean())

        far = max(product((2, 4, 6), repeat=2), key=lambda place: mean(*place, 2))
        near = [(far[0] + down, far[1] + right) for down, right in product((-1, 0, 1), repeat=2)]
        row, column = max(near, key=lambda place: mean(*place, 1))
        found_logit = _logit(float(found.ravel()[tile]))
        assert looked.corners[tile].tolist() == [x + STEPS_PX[column], y + STEPS_PX[row]]
        if not _logit(UNCLEAR[0]) < mean(row, column, 1) < _logit(UNCLEAR[1]):
            assert found_logit == pytest.approx(mean(row, column, 1), abs=1e-4)
            clear += 1
            continue
        every = [
            score(turned)
            for dy in STEPS_PX[row - 1 : row + 2]
            for dx in STEPS_PX[column - 1 : column + 2]
            for mirrored in (at(x + dx, y + dy), at(x + dx, y + dy)[:, ::-1])
            for turned in (np.rot90(mirrored, quarter) for quarter in range(4))
        ]
        assert len(every) == 72
        assert found_logit == pytest.approx(np.mean(every), abs=1e-4)
    assert (found != first).sum() == 5
    assert 0 < clear < 5
    assert asked == 5 * MOVED + (5 - clear) * TURNED


@given(width=SIDES, height=SIDES, overlap=st.integers(0, SIDE - 20), data=st.data())
def test_no_place_looks_over_the_edge_and_as_many_as_there_is_room_for_are_apart(
    width: int, height: int, overlap: int, data: st.DataObject
) -> None:
    layout = lay_out(width, height, overlap)
    tile = data.draw(st.integers(0, len(layout) - 1))
    (found,) = placements(layout, np.array([tile]))
    x, y = layout.origins[tile].tolist()
    for axis, (own, last) in enumerate(((x, width - SIDE), (y, height - SIDE))):
        places = found[..., axis] if axis == 0 else found[..., axis].T
        assert (places == places[0]).all()
        row = places[0].tolist()
        assert row == sorted(row) and row[0] >= 0 and row[-1] <= last
        assert len(set(row)) == 9 or last < 228
        assert abs(min(row, key=lambda place: abs(place - own)) - own) <= 14
        if 114 <= own <= last - 114:
            assert row == [own + step for step in STEPS_PX]


def test_a_frame_is_moved_by_half_its_side_at_most() -> None:
    assert STEPS_PX == (-114, -85, -57, -28, 0, 28, 57, 85, 114)


def test_of_equal_places_the_nearest_to_the_tile_is_taken() -> None:
    logits = np.zeros((3, 5, 5))
    logits[1, 2:5, 0:3] = 1.0
    logits[2, 0, :] = logits[2, 4, :] = 1.0  # above and below alike
    assert surest(logits).tolist() == [[2, 2], [3, 1], [1, 2]]


def test_what_looks_like_a_crack_from_one_place_only_is_none() -> None:
    pixels = np.full((700, 1000), 255, np.uint8)
    x, y = lay_out(1000, 700, 32).origins[7].tolist()
    pixels[y + SIDE // 2, x + SIDE // 2] = 0
    photograph, window = Painted(pixels), Window(reach=10)
    first = _first(photograph, window)
    assert (first.ravel()[7], (first > 0).sum()) == (1.0, 1)
    found = looked_again(photograph, first, 0.05, window).scores
    assert found.max() < 0.01


def test_what_is_seen_from_everywhere_around_stays() -> None:
    pixels = np.full((700, 1000), 255, np.uint8)
    x, y = lay_out(1000, 700, 32).origins[7].tolist()
    pixels[y + SIDE // 2 - 30 : y + SIDE // 2 + 31, x + SIDE // 2 - 30 : x + SIDE // 2 + 31] = 100
    photograph, window = Painted(pixels), Window(reach=20)
    first = _first(photograph, window)
    found = looked_again(photograph, first, 0.05, window).scores
    assert found.ravel()[7] == pytest.approx(1 - 100 / 255, abs=1e-6)


def test_a_crack_that_a_tile_shows_at_its_rim_raises_its_score() -> None:
    pixels = np.full((700, 1000), 255, np.uint8)
    x, y = lay_out(1000, 700, 32).origins[7].tolist()
    left, top = x + SIDE // 2 + 70, y + SIDE // 2
    pixels[top - 30 : top + 31, left - 30 : left + 31] = 0
    pixels[top, x + SIDE // 2] = 240  # a trace, for which the tile is looked at again
    photograph, window = Painted(pixels), Window(reach=20)
    first = _first(photograph, window)
    assert first.ravel()[7] < 0.1
    assert looked_again(photograph, first, 0.05, window).scores.ravel()[7] > 0.99


def test_where_nothing_is_suspicious_nothing_is_looked_at() -> None:
    photograph, window = Painted(np.full((700, 1000), 255, np.uint8)), Window(reach=20)
    first = np.full(photograph.layout.shape, 0.04, np.float32)
    looked = looked_again(photograph, first, 0.05, window)
    assert looked.scores is first
    assert (looked.corners == photograph.layout.origins).all()
    assert (photograph.again, window.batches) == ([], [])


def test_of_a_surface_that_is_suspicious_everywhere_the_highest_are_looked_at() -> None:
    pixels = np.full((1400, 1600), 255, np.uint8)
    photograph, window = Painted(pixels), Window(reach=20)
    first = np.linspace(0.5, 0.9, len(photograph.layout), dtype=np.float32)
    first = np.random.default_rng(2).permutation(first).reshape(photograph.layout.shape)
    found = looked_again(photograph, first, 0.05, window).scores
    changed = found != first
    assert changed.sum() == MOST < found.size
    assert first[changed].min() > first[~changed].max()
    assert sum(window.batches) == MOST * MOVED  # white all over: that is clear
    assert max(window.batches) == 64


@pytest.mark.parametrize("bad", [math.nan, -0.1, 1.1])
@pytest.mark.parametrize("before", [0, 25, MOVED])  # far, near, and turned
def test_a_second_look_does_not_pass_over_what_is_no_probability(bad: float, before: int) -> None:
    class Broken(Window):
        def scores(self, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
            found = super().scores(pictures)
            if sum(self.batches) > before:
                found[3] = bad
            return found

    photograph = Painted(np.full((SIDE, SIDE), 128, np.uint8))  # neither clear nor clearly not
    with pytest.raises(ValueError, match="not a probability"):
        looked_again(photograph, np.full((1, 1), 0.5, np.float32), 0.05, Broken(reach=20))


def test_a_photograph_with_no_room_to_move_is_turned_all_the_same() -> None:
    pixels = np.full((SIDE, SIDE), 255, np.uint8)
    pixels[100:110, 100:110] = 0  # as clear as can be, and there is one place only
    photograph, window = Painted(pixels), Window(reach=40)
    looked = looked_again(photograph, _first(photograph, window), 0.05, window)
    assert looked.scores[0, 0] > 0.99
    assert sum(window.batches) == 1 + MOVED + TURNED
