"""Claims about a picture's views: what is scored of it, and what their scores come to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from crackwatch.domain import Label, Light
from crackwatch.runtime import SIDE
from crackwatch.tiling import Layout, end_px, lay_out
from crackwatch.views import Judgement, Rule, judged, see
from tests.painted import Painted, Window

RULE = Rule(threshold=0.1, tiled_threshold=0.5, min_tiles=1)


class Unasked:
    """A classifier that nothing more is asked of."""

    model_id = "unasked"

    def scores(self, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        raise AssertionError(f"{len(pictures)} pictures more were scored")


class Wall:
    """A photograph whose tile number i is grey i, cut in pieces of three, from the last one on."""

    def __init__(self, width: int = 1000, height: int = 700, overlap: int = 32) -> None:
        self.width, self.height, self.overlap = width, height, overlap
        self.layout: Layout = lay_out(width, height, overlap)

    def tiles(self) -> Iterator[tuple[NDArray[np.intp], NDArray[np.uint8]]]:
        numbers = np.arange(len(self.layout))[::-1]
        for start in range(0, len(numbers), 3):
            these = numbers[start : start + 3]
            tiles = np.zeros((len(these), SIDE, SIDE, 3), np.uint8)
            tiles[:] = these[:, None, None, None]
            yield these, tiles

    def squares(self, boxes: NDArray[np.intp]) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        raise AssertionError(f"{len(boxes)} squares are looked at again")


def _judged(wall: Painted, classifier: Window, rule: Rule) -> Judgement:
    emitted: list[NDArray[np.uint8]] = []
    seen = see(wall, emitted.append)
    scores = classifier.scores(np.concatenate(emitted))
    classifier.batches.clear()
    return judged(seen, scores, rule, classifier)


def _light(picture: NDArray[np.uint8]) -> Light:
    return Light(float(picture.mean()), 1.0)


def test_a_small_picture_is_one_view_and_judged_by_its_own_threshold() -> None:
    emitted: list[NDArray[np.uint8]] = []
    picture = np.full((SIDE, SIDE, 3), 9, np.uint8)
    seen = see(picture, emitted.append, _light)
    assert [each is picture for each in emitted] == [True]
    assert seen.light == Light(9.0, 1.0)
    found = judged(seen, np.array([0.2], np.float32), RULE, Unasked())
    assert (found.verdict, found.threshold, found.photograph) == (Label.ANOMALY, 0.1, None)
    assert found.score == float(np.float32(0.2))


def test_scores_come_back_to_their_tiles_whatever_the_order_of_decoding() -> None:
    wall = Wall()
    emitted: list[NDArray[np.uint8]] = []
    seen = see(wall, emitted.append)
    views = np.concatenate(emitted)
    assert len(views) == len(wall.layout) == 5 * 4
    scores = (views[:, 0, 0, 0] / 100).astype(np.float32)  # of tile i: i / 100
    found = judged(seen, scores, Rule(0.9, 0.17), Unasked())
    assert found.verdict is Label.ANOMALY
    assert found.score == float(np.float32(0.19))
    kept = found.photograph
    assert kept is not None
    assert (kept.width, kept.height, kept.tiles, kept.tiles_over) == (1000, 700, 20, 3)
    assert [box.score for box in kept.boxes] == pytest.approx([0.19, 0.18, 0.17])
    assert (kept.boxes[0].x, kept.boxes[0].y) == (1000 - SIDE, 700 - SIDE)


def test_the_rule_may_ask_for_neighbours() -> None:
    wall = Wall()
    seen = see(wall, lambda _: None)
    lonely = np.zeros(20, np.float32)
    lonely[[0, 19]] = 0.8  # opposite corners
    assert judged(seen, lonely, Rule(0.1, 0.5, min_tiles=2), Unasked()).verdict is Label.NORMAL
    pair = np.zeros(20, np.float32)
    pair[[0, 1]] = 0.8
    assert judged(seen, pair, Rule(0.1, 0.5, min_tiles=2), Unasked()).verdict is Label.ANOMALY


def test_the_light_of_a_photograph_is_the_mean_of_its_tiles() -> None:
    seen = see(Wall(), lambda _: None, _light)
    assert seen.light == Light(float(np.arange(20).mean()), 1.0)


@pytest.mark.parametrize("broken", [float("nan"), 1.5, -0.1])
def test_a_score_that_is_no_probability_is_refused(broken: float) -> None:
    small = see(np.zeros((SIDE, SIDE, 3), np.uint8), lambda _: None)
    with pytest.raises(ValueError, match="not a probability"):
        judged(small, np.array([broken], np.float32), RULE, Unasked())
    scores = np.zeros(20, np.float32)
    scores[7] = broken
    with pytest.raises(ValueError, match="not a probability"):
        judged(see(Wall(), lambda _: None), scores, RULE, Unasked())


def test_a_length_is_told_where_the_scale_is_known_only() -> None:
    seen = see(Wall(), lambda _: None)
    scores = np.zeros(20, np.float32)
    scores[-3:] = 0.9  # decoded last: tiles 2, 1 and 0
    without = judged(seen, scores, RULE, Unasked()).photograph
    within = judged(seen, scores, RULE, Unasked(), mm_per_px=0.5).photograph
    assert without is not None and without.length_mm is None
    # three tiles in a row, 195 px from one to the next, and what lies beyond either end
    assert within is not None
    assert within.length_mm == pytest.approx((2 * 195 + 2 * end_px(32)) * 0.5)


# ------------------------------------------------------------------------------- a second look


def test_a_rule_may_ask_for_a_second_look_and_the_row_says_so() -> None:
    pixels = np.full((700, 1000), 255, np.uint8)
    x, y = Wall().layout.origins[7].tolist()
    pixels[y + SIDE // 2, x + SIDE // 2] = 0  # a speck: to be seen from one place only
    wall, window = Painted(pixels), Window(reach=10)
    once = _judged(wall, window, RULE)
    assert (once.verdict, once.score) == (Label.ANOMALY, 1.0)
    assert once.photograph is not None and once.photograph.second_look_from is None
    again = _judged(wall, window, replace(RULE, second_look_from=0.05))
    assert again.verdict is Label.NORMAL
    assert again.photograph is not None
    assert (again.photograph.tiles_over, again.photograph.second_look_from) == (0, 0.05)


def test_where_nothing_is_suspicious_nothing_is_decoded_again() -> None:
    seen = see(Wall(), lambda _: None)
    scores = np.full(20, 0.04, np.float32)
    rule = replace(RULE, second_look_from=0.05)
    assert judged(seen, scores, rule, Unasked()).verdict is Label.NORMAL


def test_a_box_is_the_frame_that_has_the_score() -> None:
    """Of a tile that shows a crack at its rim: it is the frame beside it that was judged."""
    pixels = np.full((700, 1000), 255, np.uint8)
    x, y = Wall().layout.origins[7].tolist()
    across, down = x + SIDE // 2 + 85, y + SIDE // 2 + 57
    pixels[down - 45 : down + 46, across - 45 : across + 46] = 0
    pixels[y + SIDE // 2, x + SIDE // 2] = 240  # a trace, for which tile 7 is looked at again
    found = _judged(Painted(pixels), Window(reach=15), replace(RULE, second_look_from=0.05))
    assert found.photograph is not None
    assert found.photograph.boxes
    for box in found.photograph.boxes:
        middle = box.x + box.w // 2, box.y + box.h // 2
        assert abs(middle[0] - across) <= 30 and abs(middle[1] - down) <= 30
        assert box.score > 0.99
