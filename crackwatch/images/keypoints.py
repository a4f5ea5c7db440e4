"""Landmarks of a picture, told apart by their surroundings, and a quick search among them.

Knows what OpenCV can find in one picture, and nothing of what is concluded from it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from crackwatch.runtime import SIDE

PER_PICTURE: Final = 48  # at most

_CELLS: Final = (
    4  # a side: overlaps are often narrow strips, and each must keep landmarks of its own
)
_PER_CELL: Final = 3
_HALF: Final = (
    SIDE + 1
) // 2  # halved pictures: a quarter of the work, and less of the encoder's noise
_CONTRAST: Final = 0.005  # plain plaster has landmarks, too: OpenCV's default of 0.04 finds none
_TREES: Final = 4
_CHECKS: Final = 16  # leaves looked at for each search
_SEED: Final = 20_261_101

Search = Callable[[NDArray[np.float32], int], NDArray[np.int32]]


def landmarks(picture: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """The strongest SIFT keypoints (Lowe 2004) of each part of a (227, 227, 3) BGR picture.

    Returns (K, 4) float32: x, y and diameter in pixels, direction in degrees clockwise; and their
    descriptors (K, 128) uint8. K is at most 48, and 0 where a picture shows nothing. Safe from
    threads.
    """
    grey = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
    small = cv2.resize(grey, (_HALF, _HALF), interpolation=cv2.INTER_AREA)
    sift = cv2.SIFT.create(0, contrastThreshold=_CONTRAST)
    found = sift.detect(small, None)
    if not found:
        return np.empty((0, 4), np.float32), np.empty((0, 128), np.uint8)
    told = np.array([(*point.pt, point.response) for point in found], dtype=np.float64)
    column, row = (told[:, :2] * _CELLS / _HALF).astype(np.intp).T
    cell = row * _CELLS + column
    order = np.lexsort((told[:, 1], told[:, 0], -told[:, 2], cell))
    begins = np.searchsorted(cell[order], cell[order])
    kept = np.sort(order[np.arange(len(order)) - begins < _PER_CELL])
    points, descriptors = sift.compute(small, [found[index] for index in kept])
    scale = SIDE / _HALF
    where = np.array(
        [
            (point.pt[0] * scale, point.pt[1] * scale, point.size * scale, point.angle)
            for point in points
        ],
        dtype=np.float32,
    )
    return where.reshape(-1, 4), np.asarray(descriptors).astype(np.uint8).reshape(-1, 128)


def searcher(points: NDArray[np.float32]) -> Search:
    """A search for the nearest of ``points`` (M, D), M at least 1; approximate, always the same.

    ``search(queries (Q, D), count)`` gives their positions as (Q, count), the nearest first and -1
    where there are fewer; it may be called from threads. Four randomised k-d trees (Silpa-Anan and
    Hartley 2008): with 15,000 pictures a hundred times quicker than comparing all.
    """
    points = np.ascontiguousarray(points)
    cv2.setRNGSeed(_SEED)
    index = cv2.flann.Index(points, {"algorithm": 1, "trees": _TREES})  # 1: randomised k-d trees

    def search(queries: NDArray[np.float32], count: int) -> NDArray[np.int32]:
        asked = min(count, len(points))
        found = np.full((len(queries), count), -1, np.int32)
        if len(queries):
            nearest, _ = index.knnSearch(
                np.ascontiguousarray(queries), asked, params={"checks": _CHECKS}
            )
            found[:, :asked] = nearest
        return found

    return search
