"""Whatever a decoder gives, to upright uint8 BGR and to the model's side; decodes nothing.

One code for pictures that come whole and for photographs that come a few rows at a time.
"""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from crackwatch.domain import QuarantineReason
from crackwatch.errors import Unreadable
from crackwatch.images.headers import Alpha, Header
from crackwatch.runtime import SIDE

BACKGROUND: Final = 128  # the grey that shows through where a picture is transparent

_BAND_PIXELS = 1 << 18  # converted at a time, so that big pictures need no big intermediates

Pixels = NDArray[np.uint8]


def bgr(raw: NDArray[np.generic], header: Header) -> Pixels:
    """(height, width), or (height, width, 1 to 4), of any depth, to uint8 (height, width, 3).

    Raises Unreadable (UNREADABLE) for samples whose black and white cannot be known, and for a
    picture of which nothing is visible.
    """
    if raw.dtype == np.uint8 and raw.ndim == 3 and raw.shape[2] == 3:
        return raw.view(np.uint8)
    height, width = raw.shape[:2]
    picture = np.empty((height, width, 3), np.uint8)
    visible = False
    rows = max(1, _BAND_PIXELS // width)
    for top in range(0, height, rows):
        band = slice(top, top + rows)
        visible = convert(raw[band], header, picture[band]) or visible
    if not visible:
        raise invisible()
    return picture


def convert(raw: NDArray[np.generic], header: Header, into: Pixels) -> bool:
    """Some rows of a picture, as ``bgr`` takes them, written to ``into`` (rows, width, 3).

    Returns whether anything is visible of them. Raises Unreadable as ``bgr`` does.
    """
    height, width = raw.shape[:2]
    channels = raw.shape[2] if raw.ndim == 3 else 1
    if channels not in (1, 3, 4):
        raise Unreadable(
            QuarantineReason.UNREADABLE,
            f"{header.format} with {channels} channels; grey, colour and colour with "
            "transparency are understood",
        )
    band = _eight_bit(raw.reshape(height, width, channels), header)
    if channels < 4 or header.alpha == "unused":
        into[:] = band[..., :3]  # one channel is broadcast to three
        return True
    # libtiff multiplies 8-bit colours by their alpha itself; deeper ones come as they are stored
    multiplied = header.format == "TIFF" and raw.dtype == np.uint8
    alpha = band[..., 3:]
    into[:] = _blended(band[..., :3], alpha, "premultiplied" if multiplied else header.alpha)
    return bool(alpha.any())


def invisible() -> Unreadable:
    """What to raise where ``convert`` saw nothing in any row."""
    return Unreadable(QuarantineReason.UNREADABLE, "the picture is transparent everywhere")


def _eight_bit(band: NDArray[np.generic], header: Header) -> Pixels:
    if band.dtype == np.uint8:
        return band.view(np.uint8)  # libtiff has turned backward grey scales of this depth round
    if band.dtype == np.uint16:
        # 65535 / 255 = 257, an odd number: no value lies half-way, this is the nearest
        scaled = ((band.astype(np.uint32) + 128) // 257).astype(np.uint8)
    elif np.issubdtype(band.dtype, np.floating):
        values = band.astype(np.float64)
        if not bool(((values >= 0) & (values <= 1)).all()):  # NaN fails as well
            raise Unreadable(
                QuarantineReason.UNREADABLE,
                f"{header.format} with floating-point samples outside 0..1: "
                "what is black and what is white cannot be known",
            )
        scaled = np.rint(values * 255).astype(np.uint8)
    else:
        raise Unreadable(
            QuarantineReason.UNREADABLE,
            f"{header.format} with {band.dtype} samples: "
            "what is black and what is white cannot be known",
        )
    return 255 - scaled if header.white_is_zero else scaled


def _blended(colours: Pixels, alpha: Pixels, kind: Alpha) -> Pixels:
    """``colours`` (h, w, 3) seen over BACKGROUND through ``alpha`` (h, w, 1), to the nearest."""
    if bool((alpha == 255).all()):
        return colours
    opacity = alpha.astype(np.uint32)
    behind = BACKGROUND * (255 - opacity)
    if kind == "straight":
        mixed = (colours * opacity + behind + 127) // 255
    else:
        mixed = np.minimum(colours + (behind + 127) // 255, 255)
    return mixed.astype(np.uint8)


def turned(picture: Pixels, orientation: int) -> Pixels:
    """Undoes the camera's position; ``orientation`` as EXIF numbers it, 1..8."""
    if orientation >= 5:
        picture = picture.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        picture = picture[:, ::-1]
    if orientation in (3, 4, 7, 8):
        picture = picture[::-1]
    return picture


def fitted(picture: Pixels) -> Pixels:
    """To SIDE x SIDE. Area averaging is right for shrinking only, so the axes may differ."""
    picture = np.ascontiguousarray(picture)
    height, width = picture.shape[:2]
    if (height, width) == (SIDE, SIDE):
        return picture
    shrunk = (min(width, SIDE), min(height, SIDE))
    if shrunk != (width, height):
        picture = cv2.resize(picture, shrunk, interpolation=cv2.INTER_AREA).view(np.uint8)
    if shrunk != (SIDE, SIDE):
        picture = cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR).view(np.uint8)
    return picture
