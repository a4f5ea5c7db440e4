"""A copy of a photograph for a person's eye: its score map as a tint, its boxes as frames.

Draws on what it is given, a small copy; the original is never touched. Knows no model and no files.
"""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from crackwatch import score_map
from crackwatch.domain import Photograph
from crackwatch.images.conversion import Pixels
from crackwatch.runtime import SIDE

LONGEST_PX: Final = (
    2000  # of a copy: a crack of a few pixels can still be seen, a mail still be sent
)

_FRAME: Final = (40, 40, 230)  # blue, green, red
_OUTLINE: Final = (255, 255, 255)
_TINT: Final = np.array((0, 80, 255), np.float32)
_STRONGEST = 0.35  # of the tint, where the score is 1
_LABELLED = 12  # boxes, the highest scores; more labels would hide what they name


def draw(small: Pixels, photograph: Photograph, title: str) -> Pixels:
    """``small``, the upright photograph at any scale, (height, width, 3) uint8 BGR, marked.

    Each tile is tinted by its score, those over the threshold are framed, the highest of them with
    their scores; ``title`` stands in a strip of its own above the picture. Returns a new array.
    """
    height, width = small.shape[:2]
    marked = _tinted(small, photograph)
    across, down = width / photograph.width, height / photograph.height
    thickness = max(1, round(max(width, height) / 700))
    size = max(0.4, max(width, height) / 2600)
    # the highest score last: its frame lies above the others
    for place in range(len(photograph.boxes) - 1, -1, -1):
        box = photograph.boxes[place]
        first = (round(box.x * across), round(box.y * down))
        last = (round((box.x + box.w) * across) - 1, round((box.y + box.h) * down) - 1)
        cv2.rectangle(marked, first, last, _OUTLINE, thickness + 2)
        cv2.rectangle(marked, first, last, _FRAME, thickness)
        if place < _LABELLED:
            _write(marked, f"{box.score:.3f}", (first[0] + 4, first[1] + round(34 * size)), size)
    return np.vstack([_strip(width, title, size), marked])


def _tinted(small: Pixels, photograph: Photograph) -> Pixels:
    """The scores as a smooth veil: a tile's score stands at its middle, between them it is mixed."""
    scores = score_map.decode(photograph.score_map).scores.astype(np.float32)
    height, width = small.shape[:2]
    rows = _between(scores.shape[0], photograph.height * photograph.scale, height, photograph)
    columns = _between(scores.shape[1], photograph.width * photograph.scale, width, photograph)
    across, down = np.meshgrid(columns, rows)
    veil = cv2.remap(scores, across, down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    veil = (_STRONGEST * np.clip(veil, 0, 1))[..., None]
    mixed: NDArray[np.float32] = small * (1 - veil) + _TINT * veil
    return np.rint(mixed).astype(np.uint8)


def _between(
    tiles: int, length: float, pixels: int, photograph: Photograph
) -> NDArray[np.float32]:  # (pixels,)
    """Between which tiles of a row or column each of so many pixels lies, as a fractional number.

    ``length`` is in pixels at the model's scale. Tiles lie as ``tiling.lay_out`` lays them: the last
    one is shifted inwards.
    """
    first = np.minimum(np.arange(tiles) * (SIDE - photograph.overlap), length - SIDE)
    middles = (first + SIDE / 2) * pixels / length
    numbers: NDArray[np.float64] = np.interp(np.arange(pixels) + 0.5, middles, np.arange(tiles))
    return numbers.astype(np.float32)


def _strip(width: int, title: str, size: float) -> Pixels:
    strip = np.full((round(52 * size) + 8, width, 3), 32, np.uint8)
    _write(strip, title, (10, round(36 * size) + 4), size, outlined=False)
    return strip


def _write(
    picture: Pixels, text: str, at: tuple[int, int], size: float, *, outlined: bool = True
) -> None:
    # OpenCV's letters are ASCII: whatever else a name holds is shown as escapes by the caller
    thickness = max(1, round(2 * size))
    if outlined:
        cv2.putText(
            picture, text, at, cv2.FONT_HERSHEY_SIMPLEX, size, (0, 0, 0), thickness + 3, cv2.LINE_AA
        )
    cv2.putText(picture, text, at, cv2.FONT_HERSHEY_SIMPLEX, size, _OUTLINE, thickness, cv2.LINE_AA)
