"""Tiles cover a photograph, and what is said of their places, neighbours and chains is true."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse.csgraph import shortest_path

from crackwatch.runtime import SIDE
from crackwatch.tiling import (
    SEEN_PX,
    boxes,
    chain_length_px,
    clusters,
    end_px,
    lay_out,
    neighbours,
)

SIDES = st.integers(SIDE, 3 * SIDE)
MASKS = arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=9))


@given(width=SIDES, height=SIDES, overlap=st.integers(0, SIDE - 20))
def test_every_pixel_is_in_a_tile_and_neighbours_share_the_overlap(
    width: int, height: int, overlap: int
) -> None:
    layout = lay_out(width, height, overlap)
    for length, starts in ((width, layout.columns), (height, layout.rows)):
        steps = np.diff(starts)
        assert starts[0] == 0
        assert starts[-1] == length - SIDE
        assert ((steps > 0) & (steps <= SIDE - overlap)).all()


# ------------------------------------------------------------------------------------------ boxes


@given(
    width=st.integers(100, 3000),
    height=st.integers(100, 3000),
    scale=st.floats(0.3, 3),
    data=st.data(),
)
def test_a_box_is_its_tile_in_the_photographs_own_pixels_to_the_nearest_one(
    width: int, height: int, scale: float, data: st.DataObject
) -> None:
    resampled = max(round(width * scale), SIDE), max(round(height * scale), SIDE)
    layout = lay_out(*resampled, 32)
    tile = data.draw(st.integers(0, len(layout) - 1))
    (x, y, w, h) = boxes(layout, np.array([tile]), width, height)[0].tolist()
    corner = layout.origins[tile]
    for start, extent, first, own, judged in (
        (x, w, int(corner[0]), width, resampled[0]),
        (y, h, int(corner[1]), height, resampled[1]),
    ):
        ratio = own / judged
        assert 0 <= start < start + extent <= own
        assert abs(start - first * ratio) <= 0.5 + 1e-6
        assert abs(start + extent - (first + SIDE) * ratio) <= 0.5 + 1e-6


@given(
    width=st.integers(1, 900),
    height=st.integers(1, 900),
    scale=st.floats(0.3, 3),
    overlap=st.integers(0, SIDE - 20),
)
def test_the_boxes_of_all_tiles_leave_no_pixel_out(
    width: int, height: int, scale: float, overlap: int
) -> None:
    layout = lay_out(max(round(width * scale), SIDE), max(round(height * scale), SIDE), overlap)
    shown = np.zeros((height, width), np.bool_)
    for x, y, w, h in boxes(layout, np.arange(len(layout)), width, height).tolist():
        assert min(x, y) >= 0 and w >= 1 and h >= 1 and x + w <= width and y + h <= height
        shown[y : y + h, x : x + w] = True
    assert shown.all()


def test_at_native_scale_a_box_is_the_tile() -> None:
    layout = lay_out(4000, 3000, 32)
    every = boxes(layout, np.arange(len(layout)), 4000, 3000)
    assert (every[:, :2] == layout.origins).all()
    assert (every[:, 2:] == SIDE).all()


# ----------------------------------------------------------------------------------- neighbourhood


@given(mask=MASKS)
def test_clusters_are_those_of_scipy(mask: NDArray[np.bool_]) -> None:
    labels, count = ndimage.label(mask, np.ones((3, 3)))
    wanted = {tuple(np.flatnonzero(labels == each).tolist()) for each in range(1, count + 1)}
    found = clusters(mask)
    assert {tuple(each.tolist()) for each in found} == wanted
    assert len(found) == count
    order = [(-len(each), int(each[0])) for each in found]
    assert order == sorted(order)


@given(rows=st.integers(1, 6), columns=st.integers(1, 6))
def test_a_tile_touches_those_a_kings_move_away(rows: int, columns: int) -> None:
    for tile in range(rows * columns):
        row, column = divmod(tile, columns)
        wanted = [
            other
            for other in range(rows * columns)
            if other != tile
            and max(abs(other // columns - row), abs(other % columns - column)) == 1
        ]
        assert neighbours((rows, columns), tile) == wanted


def test_the_shifted_last_column_is_a_neighbour_like_any_other() -> None:
    layout = lay_out(SIDE + 195 + 1, SIDE, 32)  # the third tile is one pixel beyond the second
    assert layout.columns == (0, 195, 196)
    assert neighbours(layout.shape, 1) == [0, 2]
    assert [each.tolist() for each in clusters(np.array([[True, False, True]]))] == [[0], [2]]


# ------------------------------------------------------------------------------------------ length


ENDS = 2 * end_px(32)


def test_the_length_of_a_straight_chain_is_from_centre_to_centre_and_its_ends() -> None:
    layout = lay_out(SIDE + 4 * 195, SIDE + 4 * 195, 32)
    assert chain_length_px(layout, np.array([7]), 32) == ENDS
    assert chain_length_px(layout, np.array([5, 6, 7]), 32) == 2 * 195 + ENDS
    diagonal = chain_length_px(layout, np.array([0, 6, 12]), 32)
    assert diagonal == pytest.approx(2 * 195 * math.sqrt(2) + ENDS)


def test_a_chain_into_the_shifted_column_is_as_long_as_the_pixels_say() -> None:
    layout = lay_out(SIDE + 195 + 40, SIDE, 32)
    assert chain_length_px(layout, np.array([0, 1, 2]), 32) == 195 + 40 + ENDS


def test_a_chain_with_a_bend_is_measured_along_it() -> None:
    layout = lay_out(SIDE + 4 * 195, SIDE + 4 * 195, 32)
    hook = np.array([0, 5, 10, 15, 20, 21, 22, 23, 24])  # down the first column, along the last row
    corner_cut = 3 + math.sqrt(2) + 3  # a way may cross from (3, 0) to (4, 1)
    assert chain_length_px(layout, hook, 32) == pytest.approx(corner_cut * 195 + ENDS)


@settings(max_examples=60, deadline=None)
@given(mask=MASKS.filter(lambda mask: bool(mask.any())))
def test_no_chain_is_said_to_be_longer_than_the_longest_shortest_way(
    mask: NDArray[np.bool_],
) -> None:
    layout = lay_out(SIDE + (mask.shape[1] - 1) * 195, SIDE + (mask.shape[0] - 1) * 195, 32)
    for cluster in clusters(mask):
        steps = np.zeros((len(cluster), len(cluster)))
        for at, tile in enumerate(cluster.tolist()):
            for other in set(neighbours(layout.shape, tile)) & set(cluster.tolist()):
                step = math.dist(layout.origins[tile], layout.origins[other])
                steps[at, int(np.searchsorted(cluster, other))] = step
        exact = float(shortest_path(steps).max()) + ENDS
        assert 0.9 * exact <= chain_length_px(layout, cluster, 32) + 1e-6 <= exact + 2e-6


def _flagged(layout_origins: NDArray[np.intp], start: float, end: float, y: float) -> list[bool]:
    """Tiles in which at least 75 px of a horizontal crack lie."""
    x, top = layout_origins[:, 0], layout_origins[:, 1]
    inside = np.minimum(x + SIDE, end) - np.maximum(x, start)
    return ((inside >= 75) & (top <= y) & (y < top + SIDE)).tolist()


@pytest.mark.parametrize("overlap", [0, 32, 64])
def test_the_length_of_a_straight_crack_is_right_on_average_and_within_a_tile(overlap: int) -> None:
    layout = lay_out(4000, 3000, overlap)
    random = np.random.default_rng(3)
    errors = []
    for _ in range(300):
        length = random.uniform(200, 2000)
        start, y = random.uniform(300, 1600), random.uniform(300, 2600)
        mask = np.array(_flagged(layout.origins, start, start + length, y)).reshape(layout.shape)
        errors.append(chain_length_px(layout, clusters(mask)[0], overlap) - length)
    assert abs(np.mean(errors)) < 40
    assert np.quantile(np.abs(errors), 0.95) < SIDE


def test_no_chain_is_shorter_than_what_makes_a_tile_an_anomaly() -> None:
    layout = lay_out(1000, 1000, 200)
    assert chain_length_px(layout, np.array([7]), 200) == SEEN_PX
