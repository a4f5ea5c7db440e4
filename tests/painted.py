"""A photograph of given pixels, and a classifier that says how dark the middle of a square is."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from crackwatch.runtime import SIDE
from crackwatch.tiling import lay_out


class Painted:
    """Pixels (height, width) uint8, in tiles; remembers the corners of what was looked at again."""

    def __init__(self, pixels: NDArray[np.uint8], overlap: int = 32) -> None:
        self.height, self.width = pixels.shape
        self.overlap = overlap
        self.layout = lay_out(self.width, self.height, overlap)
        self.pixels = np.repeat(pixels[:, :, None], 3, axis=2)
        self.again: list[tuple[int, ...]] = []

    def at(self, x: int, y: int) -> NDArray[np.uint8]:
        return self.pixels[y : y + SIDE, x : x + SIDE]

    def tiles(self) -> Iterator[tuple[NDArray[np.intp], NDArray[np.uint8]]]:
        for number, (x, y) in enumerate(self.layout.origins.tolist()):
            yield np.array([number]), self.at(x, y)[None]

    def squares(self, boxes: NDArray[np.intp]) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        for place in np.argsort(boxes[:, 1], kind="stable").tolist():  # as a file's rows come
            x, y, width, height = boxes[place].tolist()
            assert (width, height) == (SIDE, SIDE)
            self.again.append((x, y))
            yield place, self.at(x, y)


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
