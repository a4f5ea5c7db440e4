"""What the bytes of a picture say of themselves: format, size, completeness; decodes nothing.

JPEG, PNG, BMP, TIFF (classic and big) and WebP are told apart by content, never by name. Each
walker follows its format's own structure from the first byte to the end marker, so that a file cut
short is known as such although a decoder would fill the rest with grey. Whatever the bytes are, the
only exception is Unreadable.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NoReturn

from crackwatch.domain import QuarantineReason
from crackwatch.errors import Unreadable

Alpha = Literal["straight", "premultiplied", "unused"]

# More than any camera or program writes; without a bound, 64 MiB of two-byte segments would cost
# minutes.
MAX_SEGMENTS = 65_536
MAX_CHUNKS = 1_048_576
MAX_VALUES = 1_048_576  # entries and values of all directories of a TIFF together

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
    known; 0 of others.
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


def read_header(data: bytes) -> Header:
    """The header of a complete picture; raises Unreadable for every other sequence of bytes.

    The reasons are EMPTY, NOT_AN_IMAGE, TRUNCATED (it begins as a picture and ends too early) and
    UNREADABLE (its structure contradicts itself). Costs about 10 microseconds for a JPEG of 10 KB.
    """
    if not data:
        raise Unreadable(QuarantineReason.EMPTY, "the file has no bytes")
    for signature, walk in _WALKERS:
        if data.startswith(signature):
            header = walk(data)
            if header.width < 1 or header.height < 1:
                _contradictory(header.format, f"its size is {header.width} x {header.height}")
            return header
    if any(signature.startswith(data) for signature, _ in _WALKERS):
        _truncated("picture", f"only {len(data)} bytes are there")
    if not data[:64].strip(b"\0"):
        # space that was set aside for a file and never written: what a power cut leaves behind
        _truncated("picture", "it begins with zero bytes; its content was never written")
    for signature, at, name in _FOREIGN:
        if data.startswith(signature, at):
            raise Unreadable(
                QuarantineReason.NOT_AN_IMAGE,
                f"it is {name}; only JPEG, PNG, BMP, TIFF and WebP are inspected",
            )
    raise Unreadable(
        QuarantineReason.NOT_AN_IMAGE,
        f"it begins with {data[:12]!r}, which is none of JPEG, PNG, BMP, TIFF, WebP",
    )


def _truncated(name: str, what: str) -> NoReturn:
    raise Unreadable(QuarantineReason.TRUNCATED, f"{name} ends too early: {what}")


def _contradictory(name: str, what: str) -> NoReturn:
    raise Unreadable(QuarantineReason.UNREADABLE, f"{name} is damaged: {what}")


# ----------------------------------------------------------------------------------------- JPEG

# A marker that means something: not a stuffed zero, not a restart, not a fill byte.
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")

_TEM, _SOI, _EOI, _SOS, _APP1 = 0x01, 0xD8, 0xD9, 0xDA, 0xE1
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SEQUENTIAL_FRAMES = frozenset({0xC0, 0xC1})  # Huffman-coded, each block whole, from the top
_EXIF = b"Exif\0\0"


def _jpeg(data: bytes) -> Header:
    """Walks segments by their lengths, so that the end of an embedded thumbnail does not count."""
    frame: _Frame | None = None
    scans = 0
    interleaved = False
    orientation: int | None = None
    at = 2
    for _ in range(MAX_SEGMENTS):
        match = _MARKER.search(data, at)
        if match is None:
            _truncated("JPEG", f"no end marker in {len(data)} bytes")
        at = match.end()
        marker = data[at - 1]
        if marker == _EOI:
            if not scans:
                _contradictory("JPEG", "it ends before any picture data")
            frame = frame or _Frame(0, 0, 0, 0, 0, b"")
            return frame.header(scans == 1 and interleaved, orientation or UPRIGHT)
        if marker == _TEM:
            continue
        if marker == _SOI:
            _contradictory("JPEG", f"a second picture begins at byte {at - 2}")
        length = int.from_bytes(data[at : at + 2], "big")
        if at + max(length, 2) > len(data):
            _truncated("JPEG", f"the segment at byte {at - 2} is longer than the file")
        if length < 2:
            _contradictory("JPEG", f"the segment at byte {at - 2} has length {length}")
        if marker in _FRAMES:
            if length < 8:
                _contradictory("JPEG", f"the frame header at byte {at - 2} is too short")
            if frame is None or not frame.width:
                depth, height, width, channels = struct.unpack_from(">BHHB", data, at + 2)
                sampling = data[at + 9 : min(at + length, at + 8 + 3 * channels) : 3]
                frame = _Frame(marker, width, height, channels, depth, sampling)
        elif marker == _SOS:
            scans += 1
            interleaved = frame is not None and length > 2 and data[at + 2] == frame.channels
        elif marker == _APP1 and orientation is None and data.startswith(_EXIF, at + 2):
            orientation = exif_orientation(data[at + 2 : at + length])
        at += length
    _contradictory("JPEG", f"it has more than {MAX_SEGMENTS} segments")


@dataclass(frozen=True, slots=True)
class _Frame:
    marker: int
    width: int
    height: int
    channels: int
    depth: int
    sampling: bytes  # of each channel: how finely across (4 bits) and down (4 bits)

    @property
    def samples(self) -> float:
        """A pixel has, over all channels: 1.5 of a colour picture whose colours are coarser."""
        across = [each >> 4 for each in self.sampling]
        down = [each & 15 for each in self.sampling]
        finest = max(across, default=0) * max(down, default=0)
        if not finest or len(self.sampling) != self.channels:
            return float(self.channels)  # damaged; the decoder will say so
        return sum(a * d for a, d in zip(across, down, strict=True)) / finest

    def header(self, one_scan: bool, orientation: int) -> Header:
        """``one_scan``: all channels lie in a single scan, beside one another."""
        from_the_top = one_scan and self.marker in _SEQUENTIAL_FRAMES
        return Header(
            "JPEG",
            self.width,
            self.height,
            orientation,
            channels=self.channels,
            sample_bytes=1 if self.depth <= 8 else 2,
            # four channels are ink: OpenCV has its own way to turn them into colours
            sequential=from_the_top and self.depth == 8 and self.channels in (1, 3),
            coefficients=0.0 if from_the_top else self.samples,
        )


# ------------------------------------------------------------------------------------------ PNG

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_CHUNK = struct.Struct(">I4s")
_PNG_GREY = 0
_PNG_CHANNELS = {_PNG_GREY: 1, 2: 3, 3: 3, 4: 2, 6: 4}  # by colour type; 3 is a palette, expanded


def _png(data: bytes) -> Header:
    width = height = 0
    depth = colours = interlaced = 0
    orientation = UPRIGHT
    pixels = transparency = animated = False
    at = len(_PNG_SIGNATURE)
    for index in range(MAX_CHUNKS):
        if at + 8 > len(data):
            _truncated("PNG", f"no IEND in {len(data)} bytes")
        length, kind = _PNG_CHUNK.unpack_from(data, at)
        body = at + 8
        at = body + length + 4  # the checksum behind it is the decoder's to verify
        if at > len(data):
            _truncated("PNG", f"the chunk {kind!r} is longer than the file")
        if index == 0:
            if kind != b"IHDR" or length != 13:
                _contradictory("PNG", f"it begins with {kind!r} instead of IHDR")
            width, height, depth, colours, interlaced = struct.unpack_from(">IIBBxxB", data, body)
        elif kind == b"IDAT":
            pixels = True
        elif kind == b"tRNS":
            transparency = True
        elif kind == b"acTL":
            animated = True
        elif kind == b"eXIf":
            orientation = exif_orientation(data[body : body + length])
        elif kind == b"IEND":
            if not pixels:
                _contradictory("PNG", "it ends before any picture data")
            return Header(
                "PNG",
                width,
                height,
                orientation,
                channels=_PNG_CHANNELS.get(colours, 4) + transparency,
                sample_bytes=2 if depth == 16 else 1,
                # OpenCV takes a grey level that is said to be clear for the grey that it is
                sequential=not (interlaced or animated or (transparency and colours == _PNG_GREY)),
            )
    _contradictory("PNG", f"it has more than {MAX_CHUNKS} chunks")


# ------------------------------------------------------------------------------------------ BMP

_BMP_CORE = 12  # the oldest header, OS/2's
_BMP_HEADERS = frozenset({_BMP_CORE, 40, 52, 56, 64, 108, 124})
_BMP_PACKED = frozenset({1, 2})  # run-length encoded: only the header knows how long


def _bmp(data: bytes) -> Header:
    if len(data) < 18:
        _truncated("BMP", f"only {len(data)} bytes are there")
    pixels_at, header_bytes = struct.unpack_from("<II", data, 10)
    if header_bytes not in _BMP_HEADERS:
        raise Unreadable(
            QuarantineReason.NOT_AN_IMAGE, "it begins with the letters BM, but it is no BMP"
        )
    if len(data) < 14 + header_bytes:
        _truncated("BMP", f"only {len(data)} bytes are there")
    packing = stated = 0
    if header_bytes == _BMP_CORE:
        width, height, _, depth = struct.unpack_from("<HHHH", data, 18)
    else:
        width, height, _, depth, packing, stated = struct.unpack_from("<iiHHII", data, 18)
    height = abs(height)  # negative: rows run from the top
    if width < 1 or height < 1:
        _contradictory("BMP", f"its size is {width} x {height}")
    needed = stated if packing in _BMP_PACKED else (width * depth + 31) // 32 * 4 * height
    if pixels_at + max(needed, 1) > len(data):
        _truncated("BMP", f"{pixels_at + needed} bytes are needed, {len(data)} are there")
    # The fourth byte of a 32-bit pixel is padding for most writers, and zero: not transparency.
    return Header("BMP", width, height, alpha="unused")


# ----------------------------------------------------------------------------------------- TIFF

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 256, 257, 258, 259, 262
_ORIENTATION, _SAMPLES, _ROWS_A_STRIP, _PLANES = 274, 277, 278, 284
_STRIP_OFFSETS, _STRIP_COUNTS, _TILE_OFFSETS, _TILE_COUNTS = 273, 279, 324, 325
_TILE_HEIGHT, _EXTRA_SAMPLES, _SAMPLE_FORMAT = 323, 338, 339
_WANTED = frozenset(
    {_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _ORIENTATION, _SAMPLES, _ROWS_A_STRIP}
    | {_PLANES, _STRIP_OFFSETS, _STRIP_COUNTS, _TILE_OFFSETS, _TILE_COUNTS, _TILE_HEIGHT}
    | {_EXTRA_SAMPLES, _SAMPLE_FORMAT}
)
_GREY, _RGB = 1, 2  # photometric interpretations
_PLAIN_SAMPLES = 1  # of SampleFormat: whole numbers without a sign
_IN_ONE_PLANE = 1
_PACKINGS = frozenset({1, 5, 8, 32773, 32946})  # none, LZW, Deflate, PackBits, the old Deflate
_UNSIGNED = {1: "B", 3: "H", 4: "I", 16: "Q"}  # a field's type: struct's letter for it
_TYPE_BYTES = dict(enumerate((1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4), start=1)) | {
    16: 8,
    17: 8,
    18: 8,
}
_ASSOCIATED, _UNASSOCIATED = 1, 2  # ExtraSamples: colours multiplied by alpha already, or not

Fields = dict[int, tuple[int, ...]]


class _Tiff:
    """Reads one TIFF by its own conventions, never beyond its end and never without end."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.order = "<" if data[:2] == b"II" else ">"
        self.big = data[2 if self.order == "<" else 3] == 43
        self.values_left = MAX_VALUES

    def numbers(self, at: int, letters: str) -> tuple[int, ...]:
        layout = self.order + letters
        self.require(at, struct.calcsize(layout))
        return struct.unpack_from(layout, self.data, at)

    def require(self, at: int, size_bytes: int) -> None:
        if at + size_bytes > len(self.data):
            _truncated("TIFF", f"{at + size_bytes} bytes are needed, {len(self.data)} are there")

    def spend(self, values: int) -> None:
        self.values_left -= values
        if self.values_left < 0:
            _contradictory("TIFF", f"its directories hold more than {MAX_VALUES} values")

    def directory(self, at: int) -> tuple[Fields, int]:
        """The wanted fields of the directory at ``at``, and where the next one is (0: nowhere)."""
        (entries,) = self.numbers(at, "Q" if self.big else "H")
        at += 8 if self.big else 2
        entry_bytes = 20 if self.big else 12
        word, inline_bytes = ("Q", 8) if self.big else ("I", 4)
        (following,) = self.numbers(at + entries * entry_bytes, word)  # so all of it is there
        self.spend(entries)
        fields: Fields = {}
        for entry in range(at, at + entries * entry_bytes, entry_bytes):
            tag, kind, count = self.numbers(entry, "HH" + word)
            value = entry + entry_bytes - inline_bytes
            size_bytes = _TYPE_BYTES.get(kind, 0) * count
            if size_bytes > inline_bytes:
                (value,) = self.numbers(value, word)
                self.require(value, size_bytes)
            if tag in _WANTED and kind in _UNSIGNED and tag not in fields:
                self.spend(count)
                fields[tag] = self.numbers(value, f"{count}{_UNSIGNED[kind]}")
        return fields, following


def _tiff(data: bytes) -> Header:
    tiff = _Tiff(data)
    (at,) = tiff.numbers(8, "Q") if tiff.big else tiff.numbers(4, "I")
    if at == 0:
        _truncated("TIFF", "its directory has not been written")  # writers put it last
    first: Fields | None = None
    seen: set[int] = set()
    while at:
        if at in seen:
            _contradictory("TIFF", "its pages form a loop")
        seen.add(at)
        tiff.spend(1)
        fields, at = tiff.directory(at)
        strips = _require_strips(tiff, fields)
        if first is None:
            first = fields
            if not strips:
                _contradictory("TIFF", "it has no picture data")
    return _tiff_header(first or {})


def _require_strips(tiff: _Tiff, fields: Fields) -> int:
    """Every strip and tile of a page lies within the file; returns how many there are."""
    strips = 0
    for offsets_tag, counts_tag in ((_STRIP_OFFSETS, _STRIP_COUNTS), (_TILE_OFFSETS, _TILE_COUNTS)):
        offsets = fields.get(offsets_tag, ())
        counts = fields.get(counts_tag, ()) or (0,) * len(offsets)  # old writers left them out
        if len(counts) < len(offsets):
            _contradictory("TIFF", f"{len(offsets)} strips, but {len(counts)} lengths")
        for offset, count in zip(offsets, counts, strict=False):
            tiff.require(offset, max(count, 1))
        strips += len(offsets)
    return strips


def _tiff_header(fields: Fields) -> Header:
    def value(tag: int, default: int) -> int:
        values = fields.get(tag)
        return values[0] if values else default

    alphas: dict[int, Alpha] = {_ASSOCIATED: "premultiplied", _UNASSOCIATED: "straight"}
    height = value(_HEIGHT, 0)
    orientation = value(_ORIENTATION, UPRIGHT)
    photometric, samples = value(_PHOTOMETRIC, 1), value(_SAMPLES, 1)
    bits = set(fields.get(_BITS, (1,)))
    in_tiles = bool(fields.get(_TILE_OFFSETS))
    plain = (
        bits in ({8}, {16})
        and (photometric, samples) in ((_GREY, 1), (_RGB, 3))
        and set(fields.get(_SAMPLE_FORMAT, (_PLAIN_SAMPLES,))) == {_PLAIN_SAMPLES}
        and value(_PLANES, _IN_ONE_PLANE) == _IN_ONE_PLANE
        and value(_COMPRESSION, 1) in _PACKINGS
    )
    return Header(
        "TIFF",
        value(_WIDTH, 0),
        height,
        orientation if 1 <= orientation <= 8 else UPRIGHT,
        alpha=alphas.get(value(_EXTRA_SAMPLES, 0), "unused"),
        white_is_zero=photometric == 0,
        # a palette has one sample a pixel and becomes three
        channels=max(samples, 1 if photometric in (0, _GREY) else 3),
        sample_bytes=max(1, -(-max(bits, default=8) // 8)),
        sequential=plain,
        rows_at_once=max(
            1, min(height, value(_TILE_HEIGHT if in_tiles else _ROWS_A_STRIP, height))
        ),
    )


# ----------------------------------------------------------------------------------------- WebP


def _webp(data: bytes) -> Header:
    if len(data) < 20:
        _truncated("WebP", f"only {len(data)} bytes are there")
    if data[8:12] != b"WEBP":
        raise Unreadable(QuarantineReason.NOT_AN_IMAGE, "it is RIFF, but no WebP")
    end = 8 + int.from_bytes(data[4:8], "little")
    if end > len(data):
        _truncated("WebP", f"{end} bytes are needed, {len(data)} are there")
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
            _contradictory("WebP", f"the chunk {kind!r} is longer than the file")
        size = size or _webp_size(kind, body)
        if kind in (b"VP8 ", b"VP8L", b"ANMF"):
            pixels = True
        elif kind == b"EXIF":
            orientation = exif_orientation(data[at + 8 : at + 8 + length])
        at += 8 + length + length % 2
    if size is None or not pixels:
        _contradictory("WebP", "it has no picture data")
    return Header("WebP", *size, orientation, channels=4)


def _webp_size(kind: bytes, body: bytes) -> tuple[int, int] | None:
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


# ----------------------------------------------------------------------------------------- EXIF


def exif_orientation(block: bytes) -> int:
    """The orientation 1..8 in an EXIF block (a small TIFF); 1 where it says nothing sensible.

    An EXIF block that is damaged is no reason to refuse a picture that is not.
    """
    block = block.removeprefix(_EXIF)
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
        if tag == _ORIENTATION:
            return value if kind == 3 and count == 1 and 1 <= value <= 8 else UPRIGHT
    return UPRIGHT


_WALKERS: tuple[tuple[bytes, Callable[[bytes], Header]], ...] = (
    (b"\xff\xd8\xff", _jpeg),
    (_PNG_SIGNATURE, _png),
    (b"BM", _bmp),
    (b"II*\0", _tiff),
    (b"MM\0*", _tiff),
    (b"II+\0", _tiff),
    (b"MM\0+", _tiff),
    (b"RIFF", _webp),
)

# what a person is likely to drop by mistake: (signature, where it stands, name)
_FOREIGN = (
    (b"GIF8", 0, "a GIF"),
    (b"%PDF", 0, "a PDF document"),
    (b"ftyphei", 4, "a HEIC photograph"),
    (b"ftypmif", 4, "a HEIC photograph"),
    (b"ftypavif", 4, "an AVIF picture"),
    (b"ftyp", 4, "a film"),
    (b"\0\0\0\x0cjP  ", 0, "a JPEG 2000 picture"),
    (b"PK\x03\x04", 0, "a zip archive"),
)
