"""Bytes to a uint8 array (227, 227, 3), blue first, or Unreadable with a reason; knows no files.

Everything that judges a picture sees it through ``decode``, so that training, evaluation and the
daemon agree to the last bit. What is too big is refused by its header, before a decoder sees it.
What is larger than a crop is read tile by tile: see ``crackwatch.images.photographs``.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final

# OpenCV reads its own limits when it is imported. Ours come first; OpenCV's must not refuse what
# ours allow.
for _limit in ("WIDTH", "HEIGHT", "PIXELS"):
    os.environ.setdefault(f"OPENCV_IO_MAX_IMAGE_{_limit}", str(2**31 - 1))

# ruff: noqa: E402 (the limits above must be in the environment before cv2 is imported)
import cv2

from crackwatch.domain import QuarantineReason
from crackwatch.errors import Unreadable
from crackwatch.images import conversion, formats, whole
from crackwatch.images.conversion import Pixels
from crackwatch.images.headers import Header
from crackwatch.runtime import SIDE

RESIZE_UP_TO: Final = 2 * SIDE  # pixels a side; in what is larger a hairline crack would vanish
LARGER: Final = ("tile", "resize", "quarantine")


@dataclass(frozen=True, slots=True)
class Limits:
    """What may be decoded.

    ``max_pixels`` is width times height. ``larger`` says what becomes of a picture with more than
    454 pixels on a side: ``tile`` (it is a photograph, cut into tiles), ``resize`` (to 227 x 227)
    or ``quarantine`` (it is TOO_LARGE).
    """

    max_pixels: int
    larger: str

    def __post_init__(self) -> None:
        if self.larger not in LARGER:
            raise ValueError(f"larger is {self.larger!r}; it must be one of {', '.join(LARGER)}")

    def require(self, header: Header) -> None:
        """Raises Unreadable (OVERSIZE) where the header names more than ``max_pixels``."""
        pixels = header.width * header.height
        if pixels > self.max_pixels:
            raise Unreadable(
                QuarantineReason.OVERSIZE,
                f"{header.width} x {header.height} is {pixels} pixels; "
                f"at most {self.max_pixels} are decoded (files.max_pixels)",
            )

    def tiles(self, header: Header) -> bool:
        """Whether such a picture is a photograph, which is cut into tiles."""
        return self.larger == "tile" and is_larger(header)


def is_larger(header: Header) -> bool:
    """Whether a picture is too large to become one square of the model's side unharmed."""
    return max(header.width, header.height) > RESIZE_UP_TO


def check_complete(data: bytes) -> None:
    """Raises Unreadable unless ``data`` holds a picture from its first byte to its end marker.

    Reasons: EMPTY, TRUNCATED, NOT_AN_IMAGE, UNREADABLE. Decodes nothing.
    """
    formats.read_header(data)


def dimensions(data: bytes) -> tuple[int, int]:
    """Width and height in pixels as the header has them, before EXIF turns the picture.

    Decodes nothing. Raises Unreadable as ``check_complete`` does.
    """
    header = formats.read_header(data)
    return header.width, header.height


def is_photograph(data: bytes, limits: Limits) -> bool:
    """Whether ``data`` is for ``photographs.open_photograph`` and not for ``decode``.

    Decodes nothing. Raises Unreadable as ``check_complete`` does.
    """
    return limits.tiles(formats.read_header(data))


def decode(data: bytes, limits: Limits) -> Pixels:
    """The picture as the models take it: uint8, (227, 227, 3), BGR, 0..255, contiguous.

    A picture of 227 x 227 in 8-bit colour comes out as OpenCV decodes it, bit for bit. Otherwise,
    in this order:

    - 16-bit samples are divided by 257 and rounded; floating-point ones must lie in 0..1.
    - Transparency is blended over mid-grey: concrete is near it, so the rim of a transparent area
      has less contrast than it would have over black or white and looks less like a crack. A
      picture of which nothing is visible is UNREADABLE.
    - Grey becomes three equal channels.
    - EXIF's or TIFF's orientation is applied, once.
    - Both sides are brought to 227, whatever their ratio, as the model wants a square: first every
      side that is longer is shrunk by area, then every shorter one is stretched bilinearly.

    Raises Unreadable: what ``check_complete`` raises; OVERSIZE for more than ``max_pixels``, from
    the header alone; TOO_LARGE for more than 454 pixels on a side unless they may be resized (a
    photograph is not for ``decode``: see ``photographs.look``); UNREADABLE where the decoder fails
    or reports that picture data are missing. Raises SystemFault if memory runs out.
    """
    return decode_with(formats.read_header(data), data, limits)


def decode_with(header: Header, data: bytes, limits: Limits) -> Pixels:
    """The same for data whose header has been read."""
    limits.require(header)
    if limits.tiles(header):
        # who learns or measures needs to know what one square shows; nobody can say it of a whole
        raise Unreadable(
            QuarantineReason.TOO_LARGE,
            f"{header.width} x {header.height} is a photograph, where single crops of up to "
            f"{RESIZE_UP_TO} pixels a side are needed; 'crackwatch dataset import --tiles' cuts "
            "labelled crops from it",
        )
    if is_larger(header) and limits.larger != "resize":
        raise Unreadable(
            QuarantineReason.TOO_LARGE,
            f"{header.width} x {header.height}; shrunk from more than {RESIZE_UP_TO} pixels a side "
            f"to {SIDE}, it would lose fine cracks (images.larger)",
        )
    picture = conversion.bgr(whole.decoded(data, header), header)
    return conversion.fitted(conversion.turned(picture, whole.left_to_turn(header)))


def encode_jpeg(picture: Pixels, quality: int = 90) -> bytes:
    """``picture`` (height, width, 3) BGR as a JPEG file; ``quality`` 1..100."""
    return _encoded(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])


def encode_png(picture: Pixels) -> bytes:
    """``picture`` (height, width, 3) BGR, or (height, width) grey, as a PNG file; lossless."""
    return _encoded(".png", picture, [])


def encode_bmp(picture: Pixels) -> bytes:
    """``picture`` (height, width, 3) BGR as a BMP file: the same bytes whatever OpenCV's version."""
    return _encoded(".bmp", picture, [])


def _encoded(suffix: str, picture: Pixels, options: list[int]) -> bytes:
    done, data = cv2.imencode(suffix, picture, options)
    if not done:
        raise ValueError(f"cannot encode an array of shape {picture.shape} as {suffix}")
    return data.tobytes()
