"""BMP's own structure: its headers, and how many bytes they promise; decodes nothing."""

from __future__ import annotations

import struct

from crackwatch.domain import QuarantineReason
from crackwatch.errors import Unreadable
from crackwatch.images.headers import Header, contradictory, truncated

_CORE = 12  # the oldest header, OS/2's
_HEADERS = frozenset({_CORE, 40, 52, 56, 64, 108, 124})
_PACKED = frozenset({1, 2})  # run-length encoded: only the header knows how long


def bmp(data: bytes) -> Header:
    if len(data) < 18:
        raise truncated("BMP", f"only {len(data)} bytes are there")
    pixels_at, header_bytes = struct.unpack_from("<II", data, 10)
    if header_bytes not in _HEADERS:
        raise Unreadable(
            QuarantineReason.NOT_AN_IMAGE, "it begins with the letters BM, but it is no BMP"
        )
    if len(data) < 14 + header_bytes:
        raise truncated("BMP", f"only {len(data)} bytes are there")
    packing = stated = 0
    if header_bytes == _CORE:
        width, height, _, depth = struct.unpack_from("<HHHH", data, 18)
    else:
        width, height, _, depth, packing, stated = struct.unpack_from("<iiHHII", data, 18)
    height = abs(height)  # negative: rows run from the top
    if width < 1 or height < 1:
        raise contradictory("BMP", f"its size is {width} x {height}")
    needed = stated if packing in _PACKED else (width * depth + 31) // 32 * 4 * height
    if pixels_at + max(needed, 1) > len(data):
        raise truncated("BMP", f"{pixels_at + needed} bytes are needed, {len(data)} are there")
    # The fourth byte of a 32-bit pixel is padding for most writers, and zero: not transparency.
    return Header("BMP", width, height, alpha="unused")
