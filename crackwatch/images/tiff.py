"""TIFF's own structure, classic and big: directories, strips and tiles; decodes nothing."""

from __future__ import annotations

import struct

from crackwatch.images.exif import ORIENTATION
from crackwatch.images.headers import UPRIGHT, Alpha, Header, contradictory, truncated

MAX_VALUES = 1_048_576  # entries and values of all directories together

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 256, 257, 258, 259, 262
_SAMPLES, _ROWS_A_STRIP, _PLANES = 277, 278, 284
_STRIP_OFFSETS, _STRIP_COUNTS, _TILE_OFFSETS, _TILE_COUNTS = 273, 279, 324, 325
_TILE_HEIGHT, _EXTRA_SAMPLES, _SAMPLE_FORMAT = 323, 338, 339
_WANTED = frozenset(
    {_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, ORIENTATION, _SAMPLES, _ROWS_A_STRIP}
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
            raise truncated(
                "TIFF", f"{at + size_bytes} bytes are needed, {len(self.data)} are there"
            )

    def spend(self, values: int) -> None:
        self.values_left -= values
        if self.values_left < 0:
            raise contradictory("TIFF", f"its directories hold more than {MAX_VALUES} values")

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


def tiff(data: bytes) -> Header:
    reader = _Tiff(data)
    (at,) = reader.numbers(8, "Q") if reader.big else reader.numbers(4, "I")
    if at == 0:
        raise truncated("TIFF", "its directory has not been written")  # writers put it last
    first: Fields | None = None
    seen: set[int] = set()
    while at:
        if at in seen:
            raise contradictory("TIFF", "its pages form a loop")
        seen.add(at)
        reader.spend(1)
        fields, at = reader.directory(at)
        strips = _require_strips(reader, fields)
        if first is None:
            first = fields
            if not strips:
                raise contradictory("TIFF", "it has no picture data")
    return _header(first or {})


def _require_strips(reader: _Tiff, fields: Fields) -> int:
    """Every strip and tile of a page lies within the file; returns how many there are."""
    strips = 0
    for offsets_tag, counts_tag in ((_STRIP_OFFSETS, _STRIP_COUNTS), (_TILE_OFFSETS, _TILE_COUNTS)):
        offsets = fields.get(offsets_tag, ())
        counts = fields.get(counts_tag, ()) or (0,) * len(offsets)  # old writers left them out
        if len(counts) < len(offsets):
            raise contradictory("TIFF", f"{len(offsets)} strips, but {len(counts)} lengths")
        for offset, count in zip(offsets, counts, strict=False):
            reader.require(offset, max(count, 1))
        strips += len(offsets)
    return strips


def _header(fields: Fields) -> Header:
    def value(tag: int, default: int) -> int:
        values = fields.get(tag)
        return values[0] if values else default

    alphas: dict[int, Alpha] = {_ASSOCIATED: "premultiplied", _UNASSOCIATED: "straight"}
    height = value(_HEIGHT, 0)
    orientation = value(ORIENTATION, UPRIGHT)
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
