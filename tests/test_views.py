"""Claims about a picture's views: what is scored of it, and what their scores come to."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from crackwatch.domain import Label, Light
from crackwatch.runtime import SIDE
from crackwatch.tiling import MOVED_PX, Layout, end_px, lay_out
from crackwatch.views import Judgement, Rule, judged, see

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


class Painted(Wall):
    """A photograph of given pixels, (height, width) uint8, with what was looked at again."""

    def __init__(self, pixels: NDArray[np.uint8]) -> None:
        super().__init__(pixels.shape[1], pixels.shape[0])
        self.pixels = np.repeat(pixels[:, :, None], 3, axis=2)
        self.again: list[tuple[int, ...]] = []

    def _at(self, x: int, y: int) -> NDArray[np.uint8]:
        return self.pixels[y : y + SIDE, x : x + SIDE]

    def tiles(self) -> Iterator[tuple[NDArray[np.intp], NDArray[np.uint8]]]:
        for number, (x, y) in enumerate(self.layout.origins.tolist()):
            yield np.array([number]), self._at(x, y)[None]

    def squares(self, boxes: NDArray[np.intp]) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        for place in np.argsort(boxes[:, 1], kind="stable").tolist():  # as a file's rows come
            x, y, width, height = boxes[place].tolist()
            assert (width, height) == (SIDE, SIDE)
            self.again.append((x, y))
            yield place, self._at(x, y)


class Window:
    """Scores the darkness of the pixels that a square shows within ``reach`` of its middle."""

    model_id = "window"

    def __init__(self, reach: int) -> None:
        self._seen = slice(SIDE // 2 - reach, SIDE // 2 + reach + 1)
        self.batches: list[int] = []

    def scores(self, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.batches.append(len(pictures))
        darkest = pictures[:, self._seen, self._seen].min(axis=(1, 2, 3))
        return (1 - darkest / 255).astype(np.float32)


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

SECOND = Rule(threshold=0.1, tiled_threshold=0.5, second_look_from=0.05)


def _wall() -> NDArray[np.uint8]:
    return np.full((700, 1000), 255, np.uint8)


def _middle(wall: Wall, tile: int) -> tuple[int, int]:
    x, y = wall.layout.origins[tile].tolist()
    return x + SIDE // 2, y + SIDE // 2


def test_what_looks_like_a_crack_from_one_place_only_is_none() -> None:
    pixels = _wall()
    x, y = _middle(Wall(), 7)
    pixels[y, x] = 0
    wall, window = Painted(pixels), Window(reach=20)
    assert _judged(wall, window, RULE).verdict is Label.ANOMALY  # by one look
    found = _judged(wall, window, SECOND)
    assert (found.verdict, found.score) == (Label.NORMAL, 0.0)
    assert found.photograph is not None
    assert (found.photograph.tiles_over, found.photograph.second_look_from) == (0, 0.05)
    assert len(set(wall.again)) == 8
    own = wall.layout.origins[7]
    assert {abs(x - own[0]) for x, _ in wall.again} == {0, MOVED_PX}
    assert window.batches == [8]


def test_what_is_seen_from_most_places_is_a_crack_where_its_tile_lies() -> None:
    pixels = _wall()
    x, y = _middle(Wall(), 7)
    pixels[y - 60 : y + 60, x] = 100
    found = _judged(Painted(pixels), Window(reach=60), SECOND)
    assert found.verdict is Label.ANOMALY
    assert found.photograph is not None
    boxes = [(each.x, each.y) for each in found.photograph.boxes]
    assert tuple(Wall().layout.origins[7].tolist()) in boxes


def test_a_second_look_may_raise_a_score() -> None:
    pixels = _wall()
    x, y = _middle(Wall(), 7)
    pixels[y - 57 : y + 58 : 57, x + 57] = 0  # beside the middle: to be seen from the right
    pixels[y, x] = 240  # and a trace, for which the tile is looked at again
    once = _judged(Painted(pixels), Window(reach=10), RULE)
    assert once.verdict is Label.NORMAL
    pixels[y - 57 : y + 58 : 57, x - 57] = 0
    again = _judged(Painted(pixels), Window(reach=10), SECOND)
    assert (again.verdict, again.score) == (Label.ANOMALY, 1.0)


def test_where_nothing_is_suspicious_nothing_is_decoded_again() -> None:
    seen = see(Wall(), lambda _: None)
    scores = np.full(20, 0.04, np.float32)
    assert judged(seen, scores, SECOND, Unasked()).verdict is Label.NORMAL


def test_a_photograph_that_is_suspicious_everywhere_is_scored_in_batches() -> None:
    wall, window = Painted(np.zeros((700, 1000), np.uint8)), Window(reach=5)
    found = _judged(wall, window, SECOND)
    assert found.photograph is not None and found.photograph.tiles_over == 20
    assert sum(window.batches) == 160
    assert max(window.batches) == 64
    assert all(0 <= x <= 1000 - SIDE and 0 <= y <= 700 - SIDE for x, y in wall.again)


def test_a_second_look_that_gives_no_probability_is_refused() -> None:
    class Broken(Window):
        def scores(self, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
            found = super().scores(pictures)
            if self.batches == [len(pictures)] and len(pictures) == 8:
                found[3] = np.nan
            return found

    pixels = _wall()
    x, y = _middle(Wall(), 7)
    pixels[y, x] = 0
    with pytest.raises(ValueError, match="not a probability"):
        _judged(Painted(pixels), Broken(reach=20), SECOND)
