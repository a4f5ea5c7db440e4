"""Files made to harm a decoder cost no more than honest ones, and end as Unreadable or as a picture."""

from __future__ import annotations

import struct
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crackwatch import images
from crackwatch.domain import QuarantineReason
from crackwatch.errors import Unreadable
from crackwatch.images import formats
from crackwatch.images.jpeg import MAX_SCANS
from crackwatch.images.photographs import (
    BATCH_TILES,
    Photograph,
    Tiling,
    cost_bytes,
    look,
    thumbnail,
)
from crackwatch.runtime import SIDE
from tests.hostile.fuzzing import examples

LIMITS = images.Limits(1_000_000, "tile")
AS_SHIPPED = images.Limits(120_000_000, "tile")
TILING = Tiling()


def noise(width: int, height: int, channels: int = 3) -> Any:
    chance = np.random.default_rng(width + height)
    return chance.integers(0, 256, (height, width, channels)).astype(np.uint8)


def encoded(suffix: str, picture: Any, *options: int) -> bytes:
    return bytes(cv2.imencode(suffix, picture, options)[1])


def seen(data: bytes, limits: images.Limits = LIMITS) -> Any:
    """What the station would show the model of a file, all of it: (N, SIDE, SIDE, 3)."""
    found = look(data, limits, TILING)
    if not isinstance(found, Photograph):
        return found[None]
    tiles = np.empty((len(found.layout), SIDE, SIDE, 3), np.uint8)
    for indices, batch in found.tiles():
        assert len(indices) <= BATCH_TILES
        tiles[indices] = batch
    return tiles


def judged(data: bytes) -> bool:
    """Whether a picture came of it; whatever else than Unreadable is raised fails the test."""
    try:
        tiles = seen(data)
    except Unreadable as exc:
        return not exc.detail
    assert tiles.dtype == np.uint8 and tiles.shape[1:] == (SIDE, SIDE, 3)
    return True


@contextmanager
def soon(cpu_s: float = 4.0) -> Iterator[None]:
    began = time.process_time()
    yield
    assert time.process_time() - began < cpu_s


# ------------------------------------------------------------------------------- known bombs


def chunk(kind: bytes, body: bytes, *, sound: bool = True) -> bytes:
    checksum = zlib.crc32(kind + body) ^ (0 if sound else 1)
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", checksum)


def png(width: int, height: int, *before: bytes, pixels: bytes | None = None) -> bytes:
    """A grey PNG of 8 bits with other chunks before its pixels."""
    if pixels is None:
        pixels = zlib.compress(bytes((width + 1) * height))
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
        + b"".join(before)
        + chunk(b"IDAT", pixels)
        + chunk(b"IEND", b"")
    )


@cache
def zeros_packed(mebibytes: int) -> bytes:
    """A zlib stream of so many zero bytes, without the work of packing them all."""
    packer = zlib.compressobj(9)
    head = packer.compress(b"") + packer.flush(zlib.Z_FULL_FLUSH)
    part = packer.compress(bytes(1 << 24)) + packer.flush(zlib.Z_FULL_FLUSH)
    return head + part * (mebibytes >> 4) + b"\x03\0" + bytes(4)


def test_a_progressive_jpeg_of_endless_scans_is_refused_by_its_header() -> None:
    data = encoded(
        ".jpg", np.full((1_500, 1_500, 3), 120, np.uint8), cv2.IMWRITE_JPEG_PROGRESSIVE, 1
    )
    last = data[data.rindex(b"\xff\xda") : -2]
    bomb = data[:-2] + last * 5_000 + b"\xff\xd9"
    assert len(bomb) < 200_000
    with soon(), pytest.raises(Unreadable, match=f"more than {MAX_SCANS} scans") as caught:
        look(bomb, AS_SHIPPED, TILING)
    assert caught.value.reason is QuarantineReason.UNREADABLE
    few = data[:-2] + last * (MAX_SCANS // 2) + b"\xff\xd9"
    images.check_complete(few)


@pytest.mark.parametrize("side", [300, 1_000])
def test_texts_that_unpack_to_megabytes_are_counted(side: int) -> None:
    text = chunk(b"zTXt", b"x\0\0" + zeros_packed(16))
    with soon(), pytest.raises(Unreadable, match="packed texts"):
        look(png(side, side, *[text] * 200), AS_SHIPPED, TILING)
    with soon():
        assert seen(png(side, side, *[text] * 3)).max() == 0


def test_pixels_that_go_on_behind_the_last_row_are_not_unpacked() -> None:
    data = png(300, 300, pixels=zeros_packed(4_096))
    assert len(data) < 5_000_000
    with soon(), pytest.raises(Unreadable, match="more pixels than 300 x 300"):
        look(data, AS_SHIPPED, TILING)


def interlaced(picture: Any) -> bytes:
    """As a PNG whose rows come in seven passes."""
    height, width = picture.shape[:2]
    passes = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2))
    raw = b"".join(
        b"\0" + row.tobytes()
        for x, y, dx, dy in (*passes, (0, 1, 1, 2))
        for row in picture[y::dy, x::dx, ::-1]
        if row.size
    )
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 1))
        + chunk(b"IDAT", zlib.compress(raw, 1))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("size", [(454, 454), (453, 451), (601, 457)])
def test_an_honest_png_that_packs_badly_is_not_taken_for_a_bomb(size: tuple[int, int]) -> None:
    picture = noise(*size)
    plain, in_passes = encoded(".png", picture), interlaced(picture)
    for data in (plain, in_passes):  # noise: packed it is as large as it was, the bound is close
        assert formats.read_header(data).pixels_bytes * 1032 > 256 << 20
    np.testing.assert_array_equal(seen(plain), seen(in_passes))
    deep = encoded(".png", noise(400, 300, 4).astype(np.uint16) * 257)
    assert seen(deep).shape == (1, SIDE, SIDE, 3)


CIRCLES = (
    b"II*\0\x08\0\0\0"
    + struct.pack("<H", 2_000)
    + struct.pack("<HHII", 0x8769, 4, 1, 8) * 2_000
    + struct.pack("<I", 8)
)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_exif_that_leads_round_in_circles_is_not_followed(suffix: str) -> None:
    data = encoded(suffix, noise(700, 500))
    block = b"Exif\0\0" + CIRCLES
    where, circles = {
        ".jpg": (2, b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block),
        ".png": (33, chunk(b"eXIf", CIRCLES)),
    }[suffix]
    hostile = data[:where] + circles + data[where:]
    with soon():
        np.testing.assert_array_equal(seen(hostile), seen(data))
        np.testing.assert_array_equal(thumbnail(hostile, LIMITS, 90), thumbnail(data, LIMITS, 90))
    # the copy that is made without it is counted among what the picture will hold
    assert cost_bytes(hostile, LIMITS, TILING) == cost_bytes(data, LIMITS, TILING) + len(hostile)


# ------------------------------------------------------------------------- pages and giant sizes


def tiff(pages: list[Any], *, sizes: tuple[int, int] | None = None) -> bytes:
    """Grey pages one after another, one strip each; ``sizes`` is what all of them claim."""
    out = bytearray(b"II*\0\0\0\0\0")
    link = 4
    for page in pages:
        strip = len(out)
        out += page.tobytes()
        out[link : link + 4] = struct.pack("<I", len(out))
        width, height = sizes or (page.shape[1], page.shape[0])
        fields = {256: width, 257: height, 258: 8, 259: 1, 262: 1, 273: strip, 277: 1}
        fields |= {278: height, 279: page.size}
        out += struct.pack("<H", len(fields))
        for tag, value in sorted(fields.items()):
            out += struct.pack("<HHII", tag, 4, 1, value)
        link = len(out)
        out += bytes(4)
    return bytes(out)


@pytest.mark.parametrize("side", [200, 600])
def test_of_a_tiff_with_many_pages_the_first_is_judged_and_the_rest_costs_nothing(
    side: int,
) -> None:
    first, other = noise(side, side, 1)[..., 0], noise(side + 1, side, 1)[..., 0]
    alone = seen(tiff([first]))
    with soon():
        np.testing.assert_array_equal(seen(tiff([first, *[other] * 40])), alone)
    cut = tiff([first, other])
    with pytest.raises(Unreadable) as caught:  # a page is missing: what else is, nobody knows
        seen(cut[:-40])
    assert caught.value.reason is QuarantineReason.TRUNCATED


def with_size(name: str, width: int, height: int) -> bytes:
    """A small file whose header claims another size."""
    if name == "TIFF":
        return tiff([noise(20, 20, 1)[..., 0]], sizes=(width, height))
    if name == "PNG":
        return png(width, height, pixels=zlib.compress(bytes(400)))
    if name == "WebP":
        data = encoded(".webp", noise(20, 20), cv2.IMWRITE_WEBP_QUALITY, 50)
        sides = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
        body = chunks = b"VP8X" + struct.pack("<I", 10) + bytes(4) + sides + data[12:]
        return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + chunks
    data = bytearray(encoded({"JPEG": ".jpg", "BMP": ".bmp"}[name], noise(20, 20)))
    if name == "JPEG":
        at = data.index(b"\xff\xc0")
        data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    else:
        data[18:26] = struct.pack("<ii", width, height)
        data[30:34] = struct.pack("<I", 1)  # run-length encoded: its bytes do not tell its size
    return bytes(data)


_MOST = {"JPEG": 2**16 - 1, "WebP": 2**24}


@examples(40)
@given(st.sampled_from(["JPEG", "PNG", "BMP", "TIFF", "WebP"]), st.data())
def test_giant_sizes_are_refused_by_their_header_whatever_the_format(
    name: str, data: st.DataObject
) -> None:
    most = _MOST.get(name, 2**31 - 1)
    width = data.draw(st.integers(1, most))
    height = data.draw(st.integers(min(most, LIMITS.max_pixels // width + 1), most))
    if width * height <= LIMITS.max_pixels:
        width = most
    file = with_size(name, width, height)
    assert images.dimensions(file) == (width, height)
    with soon(1.0), pytest.raises(Unreadable) as caught:
        look(file, LIMITS, TILING)
    assert caught.value.reason is QuarantineReason.OVERSIZE
    assert cost_bytes(file, LIMITS, TILING) == 0


# ------------------------------------------------------------------- files of sound structure
#
# A flipped bit ends at a checksum. Here lengths and checksums are right and what they hold is not.

small = st.binary(max_size=48)
sides = st.sampled_from([1, 2, 7, 227, 300, 455, 500])


@st.composite
def pngs(draw: st.DrawFn) -> bytes:
    width, height = draw(sides), draw(sides)
    depth, colours = draw(st.sampled_from([1, 2, 4, 8, 16, 3])), draw(st.integers(0, 6))
    raw = bytes(draw(st.sampled_from([0, 100, width * height, (8 * width + 1) * height])))
    kinds = [b"PLTE", b"tRNS", b"acTL", b"fcTL", b"fdAT", b"iCCP", b"zTXt", b"iTXt", b"eXIf"]
    kinds += [b"gAMA", b"cHRM", b"sBIT", b"bKGD", b"hIST", b"pHYs", b"sPLT", b"tIME", b"IDAT"]
    others = draw(st.lists(st.tuples(st.sampled_from(kinds), small, st.booleans()), max_size=6))
    middle = [
        chunk(kind, struct.pack(">II", 1, 1) + body if fits else body)
        for kind, body, fits in others
    ]
    middle.insert(draw(st.integers(0, len(middle))), chunk(b"IDAT", zlib.compress(raw, 1)))
    header = struct.pack(">IIBBBBB", width, height, depth, colours, 0, 0, draw(st.integers(0, 2)))
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + b"".join(middle)
        + chunk(b"IEND", b"", sound=draw(st.booleans()))
    )


@cache
def _jpegs() -> tuple[bytes, ...]:
    return tuple(
        encoded(".jpg", noise(*size), *options)
        for size in ((60, 40), (460, 230))
        for options in ((), (cv2.IMWRITE_JPEG_PROGRESSIVE, 1), (cv2.IMWRITE_JPEG_RST_INTERVAL, 1))
    )


@st.composite
def jpegs(draw: st.DrawFn) -> bytes:
    data = draw(st.sampled_from(_jpegs()))
    for _ in range(draw(st.integers(1, 4))):
        marker = draw(st.sampled_from([*range(0xC0, 0xD0), *range(0xDA, 0xF0), 0xFE]))
        body = draw(
            st.sampled_from([b"", b"Exif\0\0II*\0\x08\0\0\0", b"Adobe\0", b"ICC_PROFILE\0"])
        )
        body += draw(small)
        segment = bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body
        scan = data.index(b"\xff\xda")
        at = draw(st.sampled_from([2, scan, len(data) - 2]))
        data = data[:at] + segment + data[at:]
    return data


@st.composite
def tiffs(draw: st.DrawFn) -> bytes:
    order, big = draw(st.sampled_from("<>")), draw(st.booleans())
    word, slot = ("Q", 8) if big else ("I", 4)
    side = draw(sides)
    fields: dict[int, tuple[int, int]] = {
        256: (4, side), 257: (4, draw(sides)), 258: (3, 8), 259: (3, 1), 262: (3, 1),
        273: (4, 8 + slot), 277: (3, 1), 278: (4, side), 279: (4, draw(st.integers(0, 2_000))),
    }  # fmt: skip
    tags = st.sampled_from(
        [254, 256, 257, 258, 259, 262, 266, 273, 274, 277, 278, 279, 284, 292, 317, 320, 322, 323,
         324, 325, 330, 338, 339, 347, 513, 514, 529, 530, 532, 33723, 34665, 34675]
    )  # fmt: skip
    values = st.one_of(st.integers(0, 40), st.integers(0, 2**32 - 1), st.just(8 + slot))
    changes = draw(
        st.dictionaries(tags, st.tuples(st.sampled_from([1, 3, 4, 5, 16]), values), max_size=6)
    )
    fields |= changes
    directory = struct.pack(order + ("Q" if big else "H"), len(fields))
    for tag, (kind, value) in sorted(fields.items()):
        letter = {1: "B", 3: "H", 4: "I", 16: word}.get(kind, "I")
        packed = struct.pack(order + letter, value % (1 << 8 * struct.calcsize("<" + letter)))
        count = draw(st.sampled_from([1, 1, 1, 2, 300]))
        directory += struct.pack(order + "HH" + word, tag, kind, count) + packed.ljust(slot, b"\0")
    directory += bytes(slot)
    pixels = draw(st.binary(min_size=60, max_size=200)) + bytes(draw(st.sampled_from([0, 90_000])))
    start = {"<": b"II", ">": b"MM"}[order] + struct.pack(order + "H", 43 if big else 42)
    head = start + (struct.pack(order + "HHQ", 8, 0, 16 + len(pixels)) if big else b"")
    if not big:
        head += struct.pack(order + "I", 8 + len(pixels))
    return head + pixels + directory


@cache
def _webp_parts() -> tuple[bytes, ...]:
    picture = noise(60, 40)
    return tuple(
        encoded(".webp", picture, cv2.IMWRITE_WEBP_QUALITY, quality)[12:] for quality in (50, 101)
    )


@st.composite
def webps(draw: st.DrawFn) -> bytes:
    def part(kind: bytes, body: bytes) -> bytes:
        return kind + struct.pack("<I", len(body)) + body + bytes(len(body) % 2)

    whole = st.sampled_from(_webp_parts())
    made: list[bytes] = []
    if draw(st.booleans()):
        size = b"".join((draw(sides) - 1).to_bytes(3, "little") for _ in range(2))
        made.append(part(b"VP8X", bytes([draw(st.integers(0, 255)), 0, 0, 0]) + size))
    for _ in range(draw(st.integers(0, 4))):
        kind = draw(
            st.sampled_from([b"ANIM", b"ANMF", b"ALPH", b"EXIF", b"ICCP", b"XMP ", b"VP8 "])
        )
        body = draw(small)
        if kind == b"ANMF":
            body = bytes(6) + draw(st.binary(min_size=10, max_size=10)) + draw(whole)
        made.append(part(kind, body))
    made.insert(draw(st.integers(0, len(made))), draw(whole))
    body = b"WEBP" + b"".join(made)
    return b"RIFF" + struct.pack("<I", len(body)) + body


@st.composite
def bmps(draw: st.DrawFn) -> bytes:
    numbers = st.one_of(st.integers(-3, 600), st.integers(-(2**31), 2**31 - 1))
    size = draw(st.sampled_from([12, 40, 52, 56, 64, 108, 124]))
    depth, packing = draw(st.sampled_from([1, 4, 8, 16, 24, 32, 7])), draw(st.integers(0, 6))
    width, height = draw(st.one_of(sides, numbers)), draw(st.one_of(sides, numbers))
    stated = draw(st.integers(0, 3_000))
    colours = draw(st.one_of(st.integers(0, 300), st.integers(0, 2**32 - 1)))
    fields = struct.pack(
        "<IiiHHIIiiII", size, width, height, 1, depth, packing, stated, 0, 0, colours, 0
    )
    header = (fields + draw(st.binary(min_size=84, max_size=84)))[:size]
    body = draw(st.binary(max_size=200)) + bytes(draw(st.sampled_from([0, 4_000, 400_000])))
    offset = draw(st.sampled_from([14 + size, 14 + size + 1_024, 0, 2]))
    return b"BM" + struct.pack("<IHHI", 0, 0, 0, offset) + header + body


@examples(250)
@given(st.one_of(pngs(), jpegs(), tiffs(), webps(), bmps()))
def test_whatever_a_sound_structure_holds_only_unreadable_is_raised(data: bytes) -> None:
    with soon(5.0):
        came = judged(data)
    if came:  # and what was judged can be shown, but for a crop as TIFF, which OpenCV alone reads:
        images.check_complete(data)
        with suppress(*[Unreadable] if formats.read_header(data).format == "TIFF" else []):
            small = thumbnail(data, LIMITS, 100)
            assert small.dtype == np.uint8 and max(small.shape[:2]) <= 100


@cache
def _corpus() -> tuple[bytes, ...]:
    pages = tiff([noise(460, 230, 1)[..., 0]] * 2)
    return (*_jpegs(), encoded(".png", noise(460, 230)), encoded(".bmp", noise(60, 40)), pages,
            encoded(".tif", noise(460, 230)), encoded(".webp", noise(460, 230)))  # fmt: skip


@examples(60)
@given(st.data())
def test_a_file_cut_anywhere_is_never_judged_as_if_it_were_whole(data: st.DataObject) -> None:
    file = data.draw(st.sampled_from(_corpus()))
    cut = file[: data.draw(st.integers(0, len(file) - 1))]
    with pytest.raises(Unreadable) as caught:
        seen(cut)
    allowed = {QuarantineReason.EMPTY, QuarantineReason.TRUNCATED, QuarantineReason.NOT_AN_IMAGE}
    assert caught.value.reason in allowed
    assert caught.value.reason is not QuarantineReason.NOT_AN_IMAGE or len(cut) < 18


@examples(80)
@given(st.data())
def test_flipped_bits_raise_nothing_but_unreadable(data: st.DataObject) -> None:
    file = bytearray(data.draw(st.sampled_from(_corpus())))
    near = st.integers(0, min(len(file), 300) - 1)
    for at in data.draw(
        st.lists(st.one_of(near, st.integers(0, len(file) - 1)), min_size=1, max_size=8)
    ):
        file[at] ^= 1 << data.draw(st.integers(0, 7))
    judged(bytes(file))
