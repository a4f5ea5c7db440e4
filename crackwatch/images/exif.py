"""EXIF blocks inside pictures: which way up one is, and the bytes without them."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from crackwatch.images.headers import UPRIGHT

EXIF = b"Exif\0\0"  # what a block in a JPEG begins with
ORIENTATION = 274  # the tag, of TIFF as well


def without(data: bytes, places: Sequence[tuple[int, int]]) -> bytes:
    """``data`` less what lies at ``places`` (first byte, end), which come in order."""
    at, parts = 0, []
    for start, end in places:
        parts.append(data[at:start])
        at = end
    return b"".join([*parts, data[at:]])


def exif_orientation(block: bytes) -> int:
    """The orientation 1..8 in an EXIF block (a small TIFF); 1 where it says nothing sensible.

    An EXIF block that is damaged is no reason to refuse a picture that is not.
    """
    block = block.removeprefix(EXIF)
    orders = {b"II*\0": "<", b"MM\0*": ">"}
    order = orders.get(block[:4])
    if order is None or len(block) < 8:
        return UPRIGHT
    (at,) = struct.unpack_from(order + "I", block, 4)
    if at + 2 > len(block):
        return UPRIGHT
    (entries,) = struct.unpack_from(order + "H", block, at)
    for entry in range(at + 2, min(at + 2 + entries * 12, len(block) - 11), 12):
        tag, kind, count, value = struct.unpack_from(order + "HHIH", block, entry)
        if tag == ORIENTATION:
            return value if kind == 3 and count == 1 and 1 <= value <= 8 else UPRIGHT
    return UPRIGHT
