"""Photographs of a drawn wall: squares of the project's own generator laid side by side."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from crackwatch import images, synthetic
from crackwatch.runtime import SIDE

_DRAWN = 6  # different squares; a wall of any size is quickly drawn


@cache
def _square(seed: int, crack: bool) -> NDArray[np.uint8]:
    return synthetic.draw(seed, crack=crack)


def wall(width: int, height: int, *cracked: tuple[int, int]) -> NDArray[np.uint8]:
    """(height, width, 3) uint8 BGR; ``cracked`` names squares, (column, row), with a crack."""
    rows = [
        np.concatenate(
            [
                _square((3 * row + column) % _DRAWN, (column, row) in cracked)
                for column in range(-(-width // SIDE))
            ],
            axis=1,
        )
        for row in range(-(-height // SIDE))
    ]
    return np.ascontiguousarray(np.concatenate(rows)[:height, :width])


def wall_jpeg(width: int, height: int, *cracked: tuple[int, int]) -> bytes:
    """The same as a camera would write it."""
    return images.encode_jpeg(wall(width, height, *cracked), 92)
