"""Where the tiles of a photograph lie, and which of them touch; plain geometry, knows no pixels.

A photograph is judged at the scale that the model was trained at: cut into squares of the model's
input side, each overlapping the next one, so that what one tile cuts the next one shows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crackwatch.runtime import SIDE


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


def _starts(length: int, overlap: int) -> tuple[int, ...]:
    last = length - SIDE
    return (*range(0, last, SIDE - overlap), last)
