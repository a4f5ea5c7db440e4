"""What a picture of any format says before it is decoded, and what is said of a damaged one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from crackwatch.domain import QuarantineReason
from crackwatch.errors import Unreadable

Alpha = Literal["straight", "premultiplied", "unused"]

# More than any camera or program writes; without a bound, 64 MiB of small ones would cost minutes.
MAX_CHUNKS = 1_048_576

UPRIGHT = 1  # EXIF's and TIFF's orientation 1: rows from the top, columns from the left


@dataclass(frozen=True, slots=True)
class Header:
    """What the file says before anything is decoded.

    ``width`` and ``height`` are in pixels, at least 1, as stored (before any turn). ``orientation``
    is EXIF's or TIFF's value, 1..8: what has to be undone for the picture to stand upright.
    ``alpha`` is how a fourth channel, if there is one, relates to the colours as they are stored.
    ``white_is_zero`` is true of a TIFF whose grey scale runs backwards as it is stored.

    ``channels`` (palettes expanded, transparency counted) and ``sample_bytes`` are the most that
    may come out of a decoder. ``sequential`` is true if the rows lie in the file one after another
    and hold plain samples of 8 or 16 bits: a baseline JPEG, a PNG that is neither interlaced nor
    animated, a TIFF of grey or RGB. To give one row of it, ``rows_at_once`` must be unpacked.
    ``coefficients`` is how many a pixel a JPEG has that must all be held before its first row is
    known; 0 of others. ``pixels_bytes`` is how many packed bytes a PNG has for its pixels; 0 of
    others. ``exif`` are the places (first byte, end) of the EXIF blocks of a JPEG or PNG, with what
    holds them: all that has to be left out for a decoder to find none.
    """

    format: str
    width: int
    height: int
    orientation: int = UPRIGHT
    alpha: Alpha = "straight"
    white_is_zero: bool = False
    channels: int = 3
    sample_bytes: int = 1
    sequential: bool = False
    rows_at_once: int = 1
    coefficients: float = 0.0
    pixels_bytes: int = 0
    exif: tuple[tuple[int, int], ...] = ()


def truncated(name: str, what: str) -> Unreadable:
    """To raise where a picture of the format ``name`` lacks its end."""
    return Unreadable(QuarantineReason.TRUNCATED, f"{name} ends too early: {what}")


def contradictory(name: str, what: str) -> Unreadable:
    """To raise where its structure contradicts itself."""
    return Unreadable(QuarantineReason.UNREADABLE, f"{name} is damaged: {what}")
