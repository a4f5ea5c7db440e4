"""Where the tiles of a photograph lie, and which of them touch; plain geometry, knows no pixels.

A photograph is judged at the scale that the model was trained at: cut into squares of the model's
input side, each overlapping the next one, so that what one tile cuts the next one shows.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crackwatch.runtime import SIDE

# How much of a crack is taken to make a tile an anomaly, where a chain's length is told. A crack then
# ends anywhere between so many pixels into the chain's last tile and into the one that would follow.
SEEN_PX = 75


@dataclass(frozen=True, slots=True)
class Layout:
    """A grid of tiles over a photograph that stands upright, at the model's scale.

    Tile ``row * len(columns) + column`` has its upper left corner at ``(columns[column],
    rows[row])``, in pixels; each is SIDE x SIDE. The last column and the last row are shifted
    inwards: every pixel is in a tile, and no tile looks over the edge.
    """

    width: int
    height: int
    columns: tuple[int, ...]
    rows: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.columns) * len(self.rows)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of tiles."""
        return len(self.rows), len(self.columns)

    @property
    def origins(self) -> NDArray[np.intp]:
        """Upper left corners, (N, 2): x, y."""
        x, y = np.meshgrid(np.array(self.columns, np.intp), np.array(self.rows, np.intp))
        return np.stack([x.ravel(), y.ravel()], axis=1)


def lay_out(width: int, height: int, overlap: int) -> Layout:
    """Tiles over ``width`` x ``height`` pixels, neighbours sharing at least ``overlap`` pixels.

    Raises ValueError where a side is shorter than a tile, or ``overlap`` is not in 0..SIDE - 1.
    """
    if min(width, height) < SIDE:
        raise ValueError(f"{width} x {height} is smaller than a tile of {SIDE} x {SIDE}")
    if not 0 <= overlap < SIDE:
        raise ValueError(f"an overlap of {overlap} pixels; it must be from 0 to {SIDE - 1}")
    return Layout(width, height, _starts(width, overlap), _starts(height, overlap))


def boxes(
    layout: Layout, tiles: NDArray[np.intp], width: int, height: int
) -> NDArray[np.intp]:  # (n, 4)
    """Where ``tiles`` (n,) lie in the photograph's own upright pixels: rows of x, y, w, h.

    ``width`` x ``height`` are the photograph's own; the layout's are those that it was resampled
    to. Each edge is rounded to the nearest whole pixel, which keeps a tile's scale best. These are
    the pixels that are cut and judged as well as those that the row's boxes name.
    """
    return boxes_at(layout, layout.origins[tiles], width, height)


def boxes_at(
    layout: Layout, corners: NDArray[np.intp], width: int, height: int
) -> NDArray[np.intp]:  # (n, 4)
    """The same of squares that need not lie on the grid: ``corners`` (n, 2) are as ``origins``."""
    own, judged = np.array([width, height]), np.array([layout.width, layout.height])
    # in whole numbers, so that every machine rounds alike
    first = (2 * corners * own + judged) // (2 * judged)
    behind = (2 * (corners + SIDE) * own + judged) // (2 * judged)
    first = np.minimum(first, own - 1)
    return np.concatenate([first, np.maximum(behind - first, 1)], axis=1)


# ------------------------------------------------------------------------------- which tiles touch


def neighbours(shape: tuple[int, int], tile: int) -> list[int]:
    """The up to eight tiles that touch ``tile`` by a side or a corner, rising.

    By their places in the grid of ``shape`` (rows, columns): the last row and column, shifted
    inwards, have the neighbours that they would have without the shift.
    """
    rows, columns = shape
    row, column = divmod(tile, columns)
    return [
        r * columns + c
        for r in range(max(row - 1, 0), min(row + 2, rows))
        for c in range(max(column - 1, 0), min(column + 2, columns))
        if (r, c) != (row, column)
    ]


def clusters(mask: NDArray[np.bool_]) -> list[NDArray[np.intp]]:
    """The connected clusters of the tiles that are set in ``mask`` (rows, columns).

    Each as its tiles' numbers, rising; the largest cluster first, of equal ones that with the
    first tile.
    """
    # By hand: scipy.ndimage would cost the station 29 MiB and 0.4 s for these few lines.
    shape = (mask.shape[0], mask.shape[1])
    waiting = set(np.flatnonzero(mask).tolist())
    found = []
    while waiting:
        cluster, frontier = [], [waiting.pop()]
        while frontier:
            tile = frontier.pop()
            cluster.append(tile)
            touched = waiting.intersection(neighbours(shape, tile))
            waiting -= touched
            frontier.extend(touched)
        found.append(sorted(cluster))
    found.sort(key=lambda each: (-len(each), each[0]))
    return [np.array(each, np.intp) for each in found]


def end_px(overlap: int) -> float:
    """How far beyond the centre of a chain's last tile a crack along it ends, on average.

    Below 0 where tiles overlap so much that the crack ends before that centre.
    """
    return SEEN_PX + (SIDE - overlap) / 2 - SIDE / 2


def chain_length_px(layout: Layout, cluster: NDArray[np.intp], overlap: int) -> float:
    """How long the chain of a connected cluster's tiles is, in pixels at the model's scale.

    The longest of the shortest ways between two of its tiles, from centre to centre through tiles
    that touch, and ``end_px`` beyond the centre at either end; SEEN_PX at least. ``overlap`` is that
    of the layout. An indication of the length
    of one unbranched crack, no measurement: a tile says that there is a crack in it, not where.
    What it is worth is in docs/photographs-verdict.md; a branch, a wiggle inside a tile, and what
    lies beyond the photograph's edge are not in it.

    Ways are looked for from a few ends, each time on to the farthest tile. In clusters that are
    more of an area than a chain a longer one may be overlooked.
    """
    members = set(cluster.tolist())
    centres = layout.origins.tolist()  # of corners, rather: distances are the same
    longest = 0.0
    for end in _outermost(cluster, layout.shape[1]):
        farthest, length = _farthest(end, members, centres, layout.shape)
        while length > longest:
            longest = length
            farthest, length = _farthest(farthest, members, centres, layout.shape)
    return max(longest + 2 * end_px(overlap), SEEN_PX)


def _outermost(cluster: NDArray[np.intp], columns: int) -> set[int]:
    """The tiles that lie farthest in each of eight directions."""
    rows, places = np.divmod(cluster, columns)
    directions = (rows, places, rows + places, rows - places)
    return {int(cluster[at]) for each in directions for at in (each.argmin(), each.argmax())}


def _farthest(
    start: int, members: set[int], centres: list[list[int]], shape: tuple[int, int]
) -> tuple[int, float]:
    """The member that is farthest from ``start`` by the shortest way, and how far (Dijkstra)."""
    settled: dict[int, float] = {}
    reached = [(0.0, start)]
    while reached:
        length, tile = heapq.heappop(reached)
        if tile in settled:
            continue
        settled[tile] = length
        for other in neighbours(shape, tile):
            if other in members and other not in settled:
                step = math.dist(centres[tile], centres[other])
                heapq.heappush(reached, (length + step, other))
    end = max(settled, key=lambda tile: (settled[tile], -tile))
    return end, settled[end]


def _starts(length: int, overlap: int) -> tuple[int, ...]:
    last = length - SIDE
    return (*range(0, last, SIDE - overlap), last)
