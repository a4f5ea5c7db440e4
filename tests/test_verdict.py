"""A score and a threshold make a verdict, a verdict and a setting make a place."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from crackwatch import score_map, tiling
from crackwatch.domain import Label, Photograph, Place, Prediction
from crackwatch.runtime import SIDE
from crackwatch.verdict import flagged_up_to, judge, judge_tiles, photograph, place_of


@pytest.mark.parametrize(
    ("score", "threshold", "verdict"),
    [
        (0.5, 0.5, Label.ANOMALY),  # the threshold itself counts
        (math.nextafter(0.5, 0), 0.5, Label.NORMAL),
        (0.0, 0.0, Label.ANOMALY),
        (1.0, 1.0, Label.ANOMALY),
        (0.999, 1.0, Label.NORMAL),
        (0.001, 0.0, Label.ANOMALY),
    ],
)
def test_a_score_that_reaches_the_threshold_is_an_anomaly(
    score: float, threshold: float, verdict: Label
) -> None:
    assert judge(Prediction(score), threshold) is verdict


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf, -0.001, 1.001])
def test_a_broken_models_score_passes_no_crack(score: float) -> None:
    with pytest.raises(ValueError, match="not a probability"):
        judge(Prediction(score), 0.5)


@pytest.mark.parametrize(
    ("verdict", "normal", "place"),
    [
        (Label.NORMAL, "keep", Place.KEPT),
        (Label.NORMAL, "archive", Place.ARCHIVED),
        (Label.NORMAL, "delete", Place.DELETED),
        (Label.ANOMALY, "keep", Place.FLAGGED),
        (Label.ANOMALY, "archive", Place.FLAGGED),
        (Label.ANOMALY, "delete", Place.FLAGGED),
    ],
)
def test_anomalies_are_flagged_whatever_becomes_of_normals(
    verdict: Label, normal: str, place: Place
) -> None:
    assert place_of(verdict, normal) is place


# -------------------------------------------------------------------------------- photographs


def grid(text: str) -> NDArray[np.float32]:
    """Scores from a drawing: # is 0.9, anything else 0.1."""
    rows = [[0.9 if each == "#" else 0.1 for each in line] for line in text.split()]
    return np.array(rows, np.float32)


@pytest.mark.parametrize(
    ("drawing", "min_tiles", "verdict"),
    [
        (".... .... ....", 1, Label.NORMAL),
        (".... .#.. ....", 1, Label.ANOMALY),
        (".... .#.. ....", 2, Label.NORMAL),
        ("#... .#.. ....", 2, Label.ANOMALY),  # a corner touches
        ("#.#. .... #.#.", 2, Label.NORMAL),  # four tiles over, none beside another
        ("#.#. .... #.##", 2, Label.ANOMALY),
        ("##.. .... ..##", 3, Label.NORMAL),
        ("##.. ..#. ....", 3, Label.ANOMALY),
        ("...# #... ....", 2, Label.NORMAL),  # the end of a row does not touch the next one's start
    ],
)
def test_a_photograph_is_an_anomaly_if_enough_tiles_that_touch_reach_the_threshold(
    drawing: str, min_tiles: int, verdict: Label
) -> None:
    judged = judge_tiles(grid(drawing), 0.5, min_tiles)
    assert judged.verdict is verdict
    assert judged.over.sum() == drawing.count("#")


@pytest.mark.parametrize("drawing", ["#", "##", "# #"])
def test_no_rule_blinds_the_station_to_a_photograph_of_few_tiles(drawing: str) -> None:
    judged = judge_tiles(grid(drawing), 0.5, 3)
    assert judged.verdict is Label.ANOMALY
    assert judged.min_tiles == drawing.count("#")  # the rule that was applied is what is recorded


@given(
    score=st.floats(0, 1, width=32),
    threshold=st.one_of(st.floats(0, 1), st.floats(0, 1, width=32), st.just(0.9)),
    min_tiles=st.integers(1, 5),
)
def test_one_tile_is_judged_as_a_picture_of_its_own(
    score: float, threshold: float, min_tiles: int
) -> None:
    judged = judge_tiles(np.array([[score]], np.float32), threshold, min_tiles)
    assert judged.verdict is judge(Prediction(score), threshold)
    assert judged.prediction == Prediction(score)


def test_a_threshold_is_not_rounded_to_the_precision_of_the_scores() -> None:
    just_below = np.float32(0.9)  # 0.89999998
    assert judge(Prediction(float(just_below)), 0.9) is Label.NORMAL
    assert judge_tiles(np.array([[just_below, 0]], np.float32), 0.9, 1).verdict is Label.NORMAL


@pytest.mark.parametrize("broken", [math.nan, math.inf, -0.001, 1.001])
def test_one_broken_score_among_the_tiles_passes_no_photograph(broken: float) -> None:
    scores = grid("... ... ..#")
    scores[1, 1] = broken
    with pytest.raises(ValueError, match="not a probability"):
        judge_tiles(scores, 0.5, 1)


def test_a_rule_asks_for_a_tile_at_least() -> None:
    with pytest.raises(ValueError, match="0 tiles"):
        judge_tiles(grid("#"), 0.5, 0)


def kept(
    drawing: str, min_tiles: int = 1, mm_per_px: float | None = None, side: float = 1.0
) -> Photograph:
    """A photograph of that drawing's tiles, its own pixels ``side`` of the model's."""
    scores = grid(drawing)
    rows, columns = scores.shape
    layout = tiling.lay_out(columns * 195 + 32, rows * 195 + 32, 32)
    size = round(layout.width / side), round(layout.height / side)
    judged = judge_tiles(scores, 0.5, min_tiles)
    return photograph(judged, scores, 0.5, layout, size, 32, mm_per_px)


def test_what_is_kept_says_which_rule_was_in_force_and_what_it_came_to() -> None:
    found = kept("##.# .... ...#", min_tiles=2)
    assert (found.tiles, found.tiles_over, found.min_tiles, found.largest_cluster) == (12, 4, 2, 2)
    assert (found.width, found.height, found.scale, found.overlap) == (812, 617, 1.0, 32)


def test_there_is_a_box_for_every_tile_over_the_threshold_the_highest_score_first() -> None:
    scores = np.array([[0.6, 0.1], [0.2, 0.8]], np.float32)
    layout = tiling.lay_out(400, 400, 32)
    found = photograph(judge_tiles(scores, 0.5, 1), scores, 0.5, layout, (400, 400), 32, None)
    assert [(box.x, box.y, box.w, box.h) for box in found.boxes] == [
        (173, 173, SIDE, SIDE),
        (0, 0, SIDE, SIDE),
    ]
    assert [box.score for box in found.boxes] == [float(np.float32(0.8)), float(np.float32(0.6))]


def test_boxes_are_in_the_photographs_own_pixels() -> None:
    finer = kept("#.", side=0.5)  # two of its pixels to one of the model's
    assert [(box.x, box.y, box.w, box.h) for box in finer.boxes] == [(0, 0, 454, 454)]
    assert finer.scale == 0.5


def test_the_length_is_in_mm_of_the_photograph_and_only_of_an_anomaly() -> None:
    along = 195 + 2 * tiling.end_px(32)  # two centres, and what lies beyond either
    assert kept("##.", mm_per_px=0.25).length_mm == pytest.approx(along / 4)
    assert kept("##.", mm_per_px=0.25, side=0.5).length_mm == pytest.approx(along / 2)
    assert kept("##.", mm_per_px=0.25, min_tiles=3).length_mm is None
    assert kept("...", mm_per_px=0.25).length_mm is None
    assert kept("##.").length_mm is None


def test_the_length_is_that_of_the_longest_chain_not_of_the_most_tiles() -> None:
    block_and_line = "##.... ##.... ......  ###..."
    line = kept("...... ...... ...... ###...", mm_per_px=1.0).length_mm
    assert kept(block_and_line, mm_per_px=1.0).length_mm == line


@settings(max_examples=50)
@given(data=st.data(), threshold=st.floats(0.01, 0.99), min_tiles=st.integers(1, 4))
def test_the_kept_map_gives_the_verdict_and_the_boxes_again(
    data: st.DataObject, threshold: float, min_tiles: int
) -> None:
    layout = tiling.lay_out(1000, 700, 32)
    near = st.floats(-3e-4, 3e-4).map(lambda shift: min(max(threshold + shift, 0.0), 1.0))
    scores = np.array(
        data.draw(st.lists(near, min_size=len(layout), max_size=len(layout))), np.float32
    ).reshape(layout.shape)
    judged = judge_tiles(scores, threshold, min_tiles)
    found = photograph(judged, scores, threshold, layout, (1000, 700), 32, None)
    again = score_map.decode(found.score_map)
    judged_again = judge_tiles(again.scores, again.threshold, min_tiles)
    assert judged_again.verdict is judged.verdict
    assert (judged_again.over == judged.over).all()
    places = {(box.x, box.y) for box in found.boxes}
    assert places == {
        (x, y)
        for x, y, _, _ in tiling.boxes(
            layout, np.flatnonzero(judged_again.over), 1000, 700
        ).tolist()
    }


@given(
    st.lists(st.integers(0, 5), min_size=12, max_size=12),
    st.integers(1, 14),
    st.sampled_from([(1, 12), (3, 4), (4, 3)]),
)
def test_photographs_are_flagged_up_to_a_threshold_and_no_further(
    levels: list[int], min_tiles: int, shape: tuple[int, int]
) -> None:
    scores = (np.array(levels, np.float32) / 5).reshape(shape)
    highest = flagged_up_to(scores, min_tiles)
    assert judge_tiles(scores, highest, min_tiles).verdict is Label.ANOMALY
    beyond = math.nextafter(highest, 2)
    assert judge_tiles(scores, beyond, min_tiles).verdict is Label.NORMAL


@pytest.mark.parametrize("scores", [[[0.5, math.nan]], [[math.nan]], [[1.5, 0.1, 0.2]]])
def test_a_broken_models_tiles_are_flagged_up_to_no_threshold(scores: list[list[float]]) -> None:
    with pytest.raises(ValueError, match="not a probability"):
        flagged_up_to(np.array(scores), 1)
