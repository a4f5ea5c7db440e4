"""A score map keeps every decision exactly and every score closely, in few bytes."""

from __future__ import annotations

import math
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray

from crackwatch import score_map

PROBABILITIES = st.one_of(
    st.floats(0, 1, width=32), st.sampled_from([0.0, 1.0, 0.5, 1e-38, 1e-9, float(np.float32(0.9))])
)
MAPS = arrays(np.float32, array_shapes(min_dims=2, max_dims=2, max_side=12), elements=PROBABILITIES)


@given(scores=MAPS, threshold=st.one_of(st.floats(0, 1), PROBABILITIES))
def test_every_score_stays_close_and_on_its_side_of_the_threshold(
    scores: NDArray[np.float32], threshold: float
) -> None:
    again = score_map.decode(score_map.encode(scores, threshold))
    assert again.threshold == threshold
    assert again.scores.shape == scores.shape
    assert ((again.scores >= threshold) == (scores.astype(float) >= threshold)).all()
    assert np.abs(again.scores - scores).max() <= score_map.ERROR
    assert ((again.scores >= 0) & (again.scores <= 1)).all()


@given(scores=MAPS, threshold=PROBABILITIES, other=PROBABILITIES)
def test_at_another_threshold_only_scores_next_to_it_may_change_sides(
    scores: NDArray[np.float32], threshold: float, other: float
) -> None:
    again = score_map.decode(score_map.encode(scores, threshold)).scores
    changed = (again >= other) != (scores.astype(float) >= other)
    assert (np.abs(scores[changed] - other) <= score_map.ERROR).all()


def test_small_and_large_scores_keep_their_odds() -> None:
    odds = np.exp(np.linspace(-19, 15, 300))
    scores = (odds / (1 + odds)).reshape(15, 20)
    again = score_map.decode(score_map.encode(scores, 0.5)).scores
    assert np.abs((again / (1 - again)) / odds.reshape(15, 20) - 1).max() < 7e-4


def test_a_photograph_of_twelve_megapixels_takes_less_than_a_kilobyte() -> None:
    scores = 1 / (1 + np.exp(-np.random.default_rng(1).normal(-8, 2, (16, 21))))
    assert len(score_map.encode(scores, 0.9)) < 800


@pytest.mark.parametrize(
    "scores",
    [
        np.zeros(3),
        np.zeros((0, 3)),
        np.array([[0.5, math.nan]]),
        np.array([[1.5]]),
        np.array([[-0.1]]),
    ],
)
def test_what_is_no_map_of_probabilities_is_refused(scores: NDArray[np.float64]) -> None:
    with pytest.raises(ValueError, match=r"no map|are probabilities"):
        score_map.encode(scores, 0.5)


def _of(body: bytes) -> bytes:
    return bytes([score_map.VERSION]) + zlib.compress(body)


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        b"\x01",
        b"\x01not zlib",
        _of(b""),
        _of(struct.pack(">HHd", 2, 2, 0.5)),
        _of(struct.pack(">HHd", 0, 0, 0.5)),
        _of(struct.pack(">HHd", 1, 1, math.nan) + bytes(3)),
        _of(struct.pack(">HHd", 1, 1, 0.5) + bytes(4)),
        _of(struct.pack(">HHd", 1, 1, 0.5) + bytes(3)) + b"more",
        _of(struct.pack(">HHd", 1, 1, 0.5) + bytes(10_000_000)),
        score_map.encode(np.full((5, 5), 0.3), 0.5)[:-1],
    ],
)
def test_a_damaged_map_is_refused(damaged: bytes) -> None:
    with pytest.raises(ValueError, match="score map"):
        score_map.decode(damaged)


def test_a_map_of_a_later_version_is_not_misread() -> None:
    later = bytes([score_map.VERSION + 1]) + score_map.encode(np.full((2, 2), 0.3), 0.5)[1:]
    with pytest.raises(ValueError, match="version 1"):
        score_map.decode(later)
