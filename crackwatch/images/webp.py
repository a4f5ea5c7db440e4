"""WebP's own structure, chunk by chunk; decodes nothing."""

from __future__ import annotations

import struct

from crackwatch.domain import QuarantineReason
from crackwatch.errors import Unreadable
from crackwatch.images.exif import exif_orientation
from crackwatch.images.headers import MAX_CHUNKS, UPRIGHT, Header, contradictory, truncated


def webp(data: bytes) -> Header:
    if len(data) < 20:
        raise truncated("WebP", f"only {len(data)} bytes are there")
    if data[8:12] != b"WEBP":
        raise Unreadable(QuarantineReason.NOT_AN_IMAGE, "it is RIFF, but no WebP")
    end = 8 + int.from_bytes(data[4:8], "little")
    if end > len(data):
        raise truncated("WebP", f"{end} bytes are needed, {len(data)} are there")
    size: tuple[int, int] | None = None
    orientation = UPRIGHT
    pixels = False
    at = 12
    for _ in range(MAX_CHUNKS):
        if at + 8 > end:
            break
        kind = data[at : at + 4]
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        body = data[at + 8 : at + 8 + min(length, 10)]
        if at + 8 + length > end:
            raise contradictory("WebP", f"the chunk {kind!r} is longer than the file")
        size = size or _size(kind, body)
        if kind in (b"VP8 ", b"VP8L", b"ANMF"):
            pixels = True
        elif kind == b"EXIF":
            orientation = exif_orientation(data[at + 8 : at + 8 + length])
        at += 8 + length + length % 2
    if size is None or not pixels:
        raise contradictory("WebP", "it has no picture data")
    return Header("WebP", *size, orientation, channels=4)


def _size(kind: bytes, body: bytes) -> tuple[int, int] | None:
    """Width and height from the chunk that tells them; ``body`` is its first ten bytes."""
    if kind == b"VP8X" and len(body) == 10:
        return (
            1 + int.from_bytes(body[4:7], "little"),
            1 + int.from_bytes(body[7:10], "little"),
        )
    if kind == b"VP8 " and len(body) == 10 and body[3:6] == b"\x9d\x01\x2a":
        width, height = struct.unpack_from("<HH", body, 6)
        return width & 0x3FFF, height & 0x3FFF
    if kind == b"VP8L" and len(body) >= 5 and body[0] == 0x2F:
        bits = int.from_bytes(body[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    return None
