"""PNG's own structure, chunk by chunk to its end; decodes nothing."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from crackwatch.images.exif import exif_orientation
from crackwatch.images.headers import MAX_CHUNKS, UPRIGHT, Header, contradictory, truncated

# Each may become 8 MB in a decoder that wants none of them.
MAX_PACKED_TEXTS = 64

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CHUNK = struct.Struct(">I4s")
_GREY = 0
_PACKED_TEXTS = frozenset({b"zTXt", b"iTXt", b"iCCP"})
_CHANNELS = {_GREY: 1, 2: 3, 3: 3, 4: 2, 6: 4}  # by colour type; 3 is a palette, expanded


def png(data: bytes) -> Header:
    width = height = 0
    depth = colours = interlaced = 0
    orientation = UPRIGHT
    pixels = transparency = animated = False
    pixels_bytes = packed_texts = 0
    exif: list[tuple[int, int]] = []
    at = len(PNG_SIGNATURE)
    for index in range(MAX_CHUNKS):
        if at + 8 > len(data):
            raise truncated("PNG", f"no IEND in {len(data)} bytes")
        length, kind = _CHUNK.unpack_from(data, at)
        body = at + 8
        at = body + length + 4  # the checksum behind it is the decoder's to verify
        if at > len(data):
            raise truncated("PNG", f"the chunk {kind!r} is longer than the file")
        if index == 0:
            if kind != b"IHDR" or length != 13:
                raise contradictory("PNG", f"it begins with {kind!r} instead of IHDR")
            width, height, depth, colours, interlaced = struct.unpack_from(">IIBBxxB", data, body)
        elif kind == b"IDAT":
            pixels = True
            pixels_bytes += length
        elif kind in _PACKED_TEXTS:
            packed_texts += 1
            if packed_texts > MAX_PACKED_TEXTS:
                raise contradictory("PNG", f"it has more than {MAX_PACKED_TEXTS} packed texts")
        elif kind == b"tRNS":
            transparency = True
        elif kind == b"acTL":
            animated = True
        elif kind == b"eXIf":
            exif.append((body - 8, at))
            orientation = exif_orientation(data[body : body + length])
        elif kind == b"IEND":
            if not pixels:
                raise contradictory("PNG", "it ends before any picture data")
            return Header(
                "PNG",
                width,
                height,
                orientation,
                channels=_CHANNELS.get(colours, 4) + transparency,
                sample_bytes=2 if depth == 16 else 1,
                # OpenCV takes a grey level that is said to be clear for the grey that it is
                sequential=not (interlaced or animated or (transparency and colours == _GREY)),
                pixels_bytes=pixels_bytes,
                exif=tuple(exif),
            )
    raise contradictory("PNG", f"it has more than {MAX_CHUNKS} chunks")


def png_pixels(data: bytes) -> Iterator[memoryview]:
    """The packed bytes of a PNG's pixels, chunk by chunk, uncopied; ``data`` has a header of ours."""
    view = memoryview(data)
    at, kind = len(PNG_SIGNATURE), b""
    while kind != b"IEND":
        length, kind = _CHUNK.unpack_from(data, at)
        if kind == b"IDAT":
            yield view[at + 8 : at + 8 + length]
        at += 8 + length + 4
