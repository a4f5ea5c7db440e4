"""Claims about a marked copy: what is framed, what is tinted, and that the original stays as it is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from crackwatch import score_map
from crackwatch.domain import Box, Photograph
from crackwatch.images import overlay
from crackwatch.runtime import SIDE
from crackwatch.tiling import boxes, lay_out


def _photograph(width: int = 2000, height: int = 1500) -> Photograph:
    layout = lay_out(width, height, 32)
    scores = np.full(layout.shape, 0.01)
    scores[2, 3] = 0.97
    tile = 2 * layout.shape[1] + 3
    ((x, y, w, h),) = boxes(layout, np.array([tile]), width, height).tolist()
    return Photograph(
        width=width,
        height=height,
        scale=1.0,
        overlap=32,
        tiles=len(layout),
        tiles_over=1,
        min_tiles=1,
        largest_cluster=1,
        boxes=(Box(x, y, w, h, 0.97),),
        score_map=score_map.encode(scores, 0.5),
        length_mm=None,
    )


def test_the_box_is_framed_where_it_lies_and_the_rest_is_hardly_touched() -> None:
    photograph = _photograph()
    small = np.full((750, 1000, 3), 120, np.uint8)
    before = small.copy()
    marked = overlay.draw(small, photograph, "wall.jpg  0.970")
    assert np.array_equal(small, before)
    strip = marked.shape[0] - 750
    assert strip > 10 and marked.shape[1] == 1000
    picture = marked[strip:].astype(int)
    red = (picture[..., 2] > 180) & (picture[..., 1] < 90)
    ys, xs = np.nonzero(red)
    box = photograph.boxes[0]
    assert abs(xs.min() - box.x / 2) <= 3 and abs(xs.max() - (box.x + box.w) / 2) <= 3
    assert abs(ys.min() - box.y / 2) <= 3 and abs(ys.max() - (box.y + box.h) / 2) <= 3
    far = picture[600:, :200]
    assert np.abs(far - 120).max() <= 3


def test_the_veil_is_strongest_on_the_tile_that_scored_highest() -> None:
    photograph = _photograph()
    small = np.full((1500, 2000, 3), 120, np.uint8)
    marked = overlay.draw(small, photograph, "wall")
    picture = marked[marked.shape[0] - 1500 :].astype(int)
    box = photograph.boxes[0]
    inside = picture[box.y + box.h // 2, box.x + box.w // 2]
    outside = picture[1400, 100]
    assert inside[2] - inside[0] > 40 > abs(outside[2] - outside[0])


@pytest.mark.parametrize("scale", [1.0, 0.5])
@pytest.mark.parametrize("tile", [(0, 0), (3, 4), (5, 7), (6, 9)])  # (6, 9) is shifted inwards
def test_the_veil_of_a_tile_is_strongest_at_its_middle(tile: tuple[int, int], scale: float) -> None:
    width, height = round(2000 / scale), round(1400 / scale)
    layout = lay_out(2000, 1400, 32)
    assert layout.shape == (8, 11) or layout.shape == (7, 10)
    scores = np.zeros(layout.shape)
    scores[tile] = 0.4  # below the threshold: no frame lies over it
    photograph = replace(
        _photograph(width, height),
        scale=scale,
        boxes=(),
        tiles_over=0,
        largest_cluster=0,
        score_map=score_map.encode(scores, 0.5),
    )
    small = np.full((700, 1000, 3), 120, np.uint8)
    marked = overlay.draw(small, photograph, "wall")[-700:].astype(int)
    veil = marked[..., 2] - 120
    ys, xs = np.nonzero(veil == veil.max())
    middle = (layout.columns[tile[1]] + SIDE / 2) / 2, (layout.rows[tile[0]] + SIDE / 2) / 2
    near = [np.hypot(x - middle[0], y - middle[1]) for x, y in zip(xs, ys, strict=True)]
    assert min(near) <= 3
    outward = 0 in tile or tile == (6, 9)  # up to the rim it is as strong
    assert outward or max(near) <= 8


def test_a_photograph_without_a_box_is_copied_with_its_title() -> None:
    photograph = _photograph()
    bare = Photograph(
        **{
            **{name: getattr(photograph, name) for name in Photograph.__slots__},
            "boxes": (),
            "tiles_over": 0,
            "largest_cluster": 0,
            "score_map": score_map.encode(np.zeros(lay_out(2000, 1500, 32).shape), 0.5),
        }
    )
    small = np.full((150, 200, 3), 120, np.uint8)
    marked = overlay.draw(small, bare, "wall")
    assert np.abs(marked[marked.shape[0] - 150 :].astype(int) - 120).max() == 0
    assert marked[: marked.shape[0] - 150].max() > 200  # the title's letters
