"""Pictures come out as the models take them, or are refused with the reason that is true."""

from __future__ import annotations

import io
import json
import os
import random
import resource
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from crackwatch import images
from crackwatch.domain import QuarantineReason
from crackwatch.errors import Unreadable
from crackwatch.images import RESIZE_UP_TO, SIDE, Limits, formats
from crackwatch.images.exif import exif_orientation
from crackwatch.images.headers import UPRIGHT

LIMITS = Limits(max_pixels=120_000_000, larger="quarantine")
ANY_SIZE = Limits(max_pixels=120_000_000, larger="resize")

Array = NDArray[Any]


def refusal(data: bytes, limits: Limits = LIMITS) -> QuarantineReason:
    """The reason for which ``data`` is refused."""
    with pytest.raises(Unreadable) as caught:
        images.decode(data, limits)
    assert caught.value.detail
    return caught.value.reason


# ---------------------------------------------------------------------------------- making files


def noise(*shape: int, dtype: str = "u1") -> Array:
    top = np.iinfo(dtype).max
    return np.random.default_rng(7).integers(0, top, shape, dtype=dtype, endpoint=True)


def photograph(height: int = SIDE, width: int = SIDE) -> NDArray[np.uint8]:
    """Something as smooth as a photograph, for the lossy formats."""
    small = np.random.default_rng(3).integers(60, 200, (9, 9, 3), dtype=np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC).view(np.uint8)


def encoded(suffix: str, array: Array, *options: int) -> bytes:
    done, data = cv2.imencode(suffix, array, list(options))
    assert done
    return data.tobytes()


def pillow(array: Array, form: str, **options: Any) -> bytes:
    """``array`` has red first here."""
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, form, **options)
    return buffer.getvalue()


def tiff(
    array: Array,
    *,
    photometric: int | None = None,
    extra: int | None = None,
    orientation: int | None = None,
    bits: int | None = None,
    sample_format: int = 1,
    order: str = "<",
    big: bool = False,
    payload: bytes | None = None,
) -> bytes:
    """An uncompressed TIFF of one strip, every field of it at will; red first."""
    height, width = array.shape[:2]
    channels = array.shape[2] if array.ndim == 3 else 1
    pixels = array.astype(array.dtype.newbyteorder(order)).tobytes()
    pixels = pixels if payload is None else payload
    start = 16 if big else 8
    fields: dict[int, tuple[str, list[int]]] = {
        256: ("H", [width]),
        257: ("H", [height]),
        258: ("H", [bits or array.dtype.itemsize * 8] * channels),
        259: ("H", [1]),
        262: ("H", [(2 if channels >= 3 else 1) if photometric is None else photometric]),
        273: ("I", [start]),
        277: ("H", [channels]),
        278: ("H", [height]),
        279: ("I", [len(pixels)]),
        339: ("H", [sample_format] * channels),
    }
    if extra is not None:
        fields[338] = ("H", [extra])
    if orientation is not None:
        fields[274] = ("H", [orientation])
    word, inline = ("Q", 8) if big else ("I", 4)
    directory_at = start + len(pixels)
    heap_at = directory_at + struct.calcsize(f"={'Q' if big else 'H'}")
    heap_at += len(fields) * (12 + 2 * (inline - 4)) + inline
    directory = struct.pack(order + ("Q" if big else "H"), len(fields))
    heap = b""
    for tag, (letter, values) in sorted(fields.items()):
        value = struct.pack(f"{order}{len(values)}{letter}", *values)
        if len(value) > inline:
            heap, value = heap + value, struct.pack(order + word, heap_at + len(heap))
        kind = {"H": 3, "I": 4}[letter]
        directory += struct.pack(order + "HH" + word, tag, kind, len(values))
        directory += value.ljust(inline, b"\0")
    directory += struct.pack(order + word, 0)
    head = b"II" if order == "<" else b"MM"
    head += struct.pack(
        order + ("HHHQ" if big else "HI"), *((43, 8, 0) if big else (42,)), directory_at
    )
    return head + pixels + directory + heap


def png_of_one_bit(width: int, height: int) -> bytes:
    """A huge white PNG that takes a few kB, made without holding it."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    packer = zlib.compressobj(9)
    row = b"\0" + b"\xff" * ((width + 7) // 8)
    body = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    )


WHOLE: dict[str, bytes] = {
    "jpeg": encoded(".jpg", photograph()),
    "progressive jpeg": encoded(".jpg", photograph(), cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
    "jpeg with restarts": encoded(".jpg", photograph(), cv2.IMWRITE_JPEG_RST_INTERVAL, 4),
    "png": encoded(".png", photograph()),
    "bmp": encoded(".bmp", photograph()),
    "tiff": encoded(".tiff", photograph()),
    "tiff, directory last": tiff(photograph()),
    "tiff, big endian": tiff(photograph(), order=">"),
    "big tiff": tiff(photograph(), big=True),
    "big tiff, big endian": tiff(photograph(), big=True, order=">"),
    "tiff of jpeg": pillow(photograph(), "TIFF", compression="jpeg"),
    "webp": encoded(".webp", photograph(), cv2.IMWRITE_WEBP_QUALITY, 80),
    "lossless webp": encoded(".webp", photograph(), cv2.IMWRITE_WEBP_QUALITY, 101),
}
whole = pytest.mark.parametrize("data", WHOLE.values(), ids=WHOLE.keys())


# ------------------------------------------------------------------------------ what comes out


@pytest.mark.real_pictures
def test_metu_pictures_come_out_as_opencv_decodes_them_bit_for_bit(metu: Path) -> None:
    files = [
        file
        for folder in ("train/anomaly", "train/normal", "valid_balanced/anomaly")
        for file in sorted((metu / folder).iterdir())[::40][:40]
    ]
    assert len(files) > 50
    for file in files:
        data = file.read_bytes()
        expected = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        picture = images.decode(data, LIMITS)
        assert picture.dtype == np.uint8
        assert picture.shape == (227, 227, 3)
        assert picture.flags.c_contiguous
        np.testing.assert_array_equal(picture, expected)


@whole
def test_every_format_is_known_by_its_content_and_decoded(data: bytes) -> None:
    images.check_complete(data)
    assert images.dimensions(data) == (SIDE, SIDE)
    picture = images.decode(data, LIMITS)
    assert picture.shape == (SIDE, SIDE, 3)
    assert np.abs(picture.mean() - photograph().mean()) < 1


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tiff"])
def test_lossless_colour_of_8_bits_is_untouched(suffix: str) -> None:
    picture = noise(SIDE, SIDE, 3)
    np.testing.assert_array_equal(images.decode(encoded(suffix, picture), LIMITS), picture)


def test_lossless_webp_is_untouched() -> None:
    picture = noise(SIDE, SIDE, 3)
    data = encoded(".webp", picture, cv2.IMWRITE_WEBP_QUALITY, 101)
    np.testing.assert_array_equal(images.decode(data, LIMITS), picture)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tiff", ".jpg", ".webp"])
def test_grey_becomes_three_equal_channels(suffix: str) -> None:
    grey = photograph()[..., 0]
    picture = images.decode(
        encoded(suffix, grey, *([64, 101] if suffix == ".webp" else [])), LIMITS
    )
    assert (picture[..., 0] == picture[..., 1]).all()
    assert (picture[..., 0] == picture[..., 2]).all()
    if suffix in (".png", ".bmp", ".tiff"):
        np.testing.assert_array_equal(picture[..., 0], grey)


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
@pytest.mark.parametrize("channels", [1, 3])
def test_16_bits_are_scaled_to_the_nearest_of_8(suffix: str, channels: int) -> None:
    deep = noise(SIDE, SIDE, channels, dtype="u2")
    deep[0, :4, 0] = 0, 65535, 128, 129  # 128/257 is below a half, 129/257 above
    picture = images.decode(encoded(suffix, deep.squeeze()), LIMITS)
    expected = np.floor(deep / 257 + 0.5).astype(np.uint8)
    np.testing.assert_array_equal(picture, np.broadcast_to(expected, (SIDE, SIDE, 3)))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("dtype", ["u1", "u2"])
def test_tiff_of_either_byte_order_and_size(order: str, big: bool, dtype: str) -> None:
    colours = noise(SIDE, SIDE, 3, dtype=dtype)
    picture = images.decode(tiff(colours, order=order, big=big), LIMITS)
    scale = 1 if dtype == "u1" else 257
    np.testing.assert_array_equal(picture, np.rint(colours[..., ::-1] / scale).astype(np.uint8))


@pytest.mark.parametrize("dtype", ["u1", "u2"])
def test_tiff_whose_white_is_zero_is_turned_round_once(dtype: str) -> None:
    grey = noise(SIDE, SIDE, dtype=dtype)
    straight = images.decode(tiff(grey, photometric=1), LIMITS)
    backward = images.decode(tiff(grey, photometric=0), LIMITS)
    np.testing.assert_array_equal(backward, 255 - straight)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_floating_point_between_0_and_1_is_understood(dtype: str) -> None:
    grey = np.random.default_rng(1).random((SIDE, SIDE)).astype(dtype)
    picture = images.decode(tiff(grey, sample_format=3), LIMITS)
    np.testing.assert_array_equal(picture[..., 1], np.rint(grey.astype("f8") * 255))


@pytest.mark.parametrize(
    "array",
    [
        np.full((20, 20), 1.5, "f4"),
        np.full((20, 20), -0.1, "f4"),
        np.full((20, 20), np.nan, "f4"),
        np.full((20, 20), np.inf, "f8"),
    ],
)
def test_floating_point_beyond_that_is_refused(array: Array) -> None:
    assert refusal(tiff(array, sample_format=3)) is QuarantineReason.UNREADABLE


@pytest.mark.parametrize("dtype", ["i1", "i2", "i4"])
def test_signed_samples_are_refused_rather_than_guessed(dtype: str) -> None:
    array = np.zeros((20, 20), dtype)
    assert refusal(tiff(array, sample_format=2)) is QuarantineReason.UNREADABLE


@pytest.mark.parametrize("bits", [10, 12])
def test_white_of_10_and_12_bits_is_white(bits: int) -> None:
    data = tiff(np.zeros((SIDE, SIDE), "u2"), bits=bits, payload=b"\xff" * (SIDE * SIDE * 2))
    assert (images.decode(data, LIMITS) == 255).all()


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF"])
@pytest.mark.parametrize("mode", ["1", "P"])
def test_palettes_and_single_bits_are_expanded(form: str, mode: str) -> None:
    flat = Image.fromarray(photograph()).convert(mode)
    buffer = io.BytesIO()
    flat.save(buffer, form)
    picture = images.decode(buffer.getvalue(), LIMITS)
    np.testing.assert_array_equal(picture[..., ::-1], np.asarray(flat.convert("RGB")))


def test_cmyk_jpeg_shows_its_colours() -> None:
    printed = Image.fromarray(photograph()).convert("CMYK")
    buffer = io.BytesIO()
    printed.save(buffer, "JPEG", quality=100)
    picture = images.decode(buffer.getvalue(), LIMITS)[..., ::-1].astype(int)
    assert np.abs(picture - np.asarray(printed.convert("RGB")).astype(int)).mean() < 3


# ------------------------------------------------------------------------------- transparency


def blend(colours: Array, alpha: Array) -> Array:
    share = alpha[..., None] / 255
    return np.floor(colours * share + 128 * (1 - share) + 0.5)


def test_transparency_is_blended_over_mid_grey() -> None:
    pixels = noise(SIDE, SIDE, 4)
    expected = blend(pixels[..., 2::-1], pixels[..., 3])  # red first: turned to blue first
    for form, options in (("PNG", {}), ("WEBP", {"lossless": True, "exact": True})):
        picture = images.decode(pillow(pixels, form, **options), LIMITS)
        assert np.abs(picture - expected).max() <= 1e-9
    deep = pixels.astype("u2") * 257
    picture = images.decode(encoded(".png", deep[..., [2, 1, 0, 3]]), LIMITS)
    np.testing.assert_array_equal(picture, expected)


@pytest.mark.parametrize("dtype", ["u1", "u2"])
def test_tiff_transparency_is_blended_whether_multiplied_or_not(dtype: str) -> None:
    pixels = noise(SIDE, SIDE, 4)
    expected = blend(pixels[..., 2::-1], pixels[..., 3])
    multiplied = np.dstack([pixels[..., :3] * (pixels[..., 3:] / 255), pixels[..., 3]])
    scale = 1 if dtype == "u1" else 257
    for array, extra in ((pixels, 2), (np.rint(multiplied), 1)):
        data = tiff(array.astype(dtype) * np.array(scale, dtype), extra=extra)
        assert np.abs(images.decode(data, LIMITS) - expected).max() <= 1


@pytest.mark.parametrize("dtype", ["u1", "u2"])
def test_a_fourth_tiff_sample_that_is_not_said_to_be_alpha_is_ignored(dtype: str) -> None:
    pixels = noise(SIDE, SIDE, 4, dtype=dtype)
    with_fourth = images.decode(tiff(pixels, extra=0), LIMITS)
    np.testing.assert_array_equal(with_fourth, images.decode(tiff(pixels[..., :3].copy()), LIMITS))


def test_opaque_transparency_changes_nothing() -> None:
    pixels = noise(SIDE, SIDE, 4)
    pixels[..., 3] = 255
    np.testing.assert_array_equal(images.decode(encoded(".png", pixels), LIMITS), pixels[..., :3])


def test_a_picture_of_which_nothing_is_visible_is_refused() -> None:
    pixels = noise(SIDE, SIDE, 4)
    pixels[..., 3] = 0
    assert refusal(encoded(".png", pixels)) is QuarantineReason.UNREADABLE
    pixels[5, 5, 3] = 1
    assert images.decode(encoded(".png", pixels), LIMITS).shape == (SIDE, SIDE, 3)


def test_the_spare_byte_of_a_32_bit_bmp_is_not_transparency() -> None:
    body = noise(SIDE, SIDE, 4)
    body[..., 3] = 0
    head = struct.pack("<2sIHHI", b"BM", 54 + body.size, 0, 0, 54)
    head += struct.pack("<IiiHHIIiiII", 40, SIDE, -SIDE, 1, 32, 0, body.size, 0, 0, 0, 0)
    picture = images.decode(head + body.tobytes(), LIMITS)
    np.testing.assert_array_equal(picture, body[..., :3])


# -------------------------------------------------------------------------------- orientation

# corners top left, top right, bottom left, bottom right as they are shown, if the stored picture
# has one bright corner at its top left (EXIF 2.32, table 6)
SHOWN = {1: 0, 2: 1, 3: 3, 4: 2, 5: 0, 6: 1, 7: 3, 8: 2}


def bright_corner(dtype: str = "u1") -> Array:
    stored = np.zeros((80, 120, 3), dtype)  # wider than high: a turn shows in the shape
    stored[:40, :40] = np.iinfo(dtype).max  # and so does a transposition, in the corner's shape
    return stored


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "deep TIFF"])
def test_orientation_is_applied_exactly_once(kind: str, orientation: int) -> None:
    if kind == "deep TIFF":
        data = tiff(bright_corner("u2"), orientation=orientation)
    else:
        exif = Image.Exif()
        exif[0x112] = orientation
        options = {"lossless": True} if kind == "WEBP" else {}
        data = pillow(bright_corner(), kind, exif=exif, **options)
    picture = images.decode(data, LIMITS)
    reach = SIDE // 4
    corners = picture[:: SIDE - 1, :: SIDE - 1, 0].reshape(4) > 128
    assert corners.tolist() == [corner == SHOWN[orientation] for corner in range(4)]
    # the bright square is half of the short side, a third of the long side
    bright = picture[..., 0] > 128
    across, down = bright.any(axis=0).mean(), bright.any(axis=1).mean()
    long, short = (across, down) if orientation < 5 else (down, across)
    assert long == pytest.approx(1 / 3, abs=0.03)
    assert short == pytest.approx(1 / 2, abs=0.03)
    assert bright.sum() > reach * reach


@pytest.mark.parametrize(
    "block",
    [
        b"",
        b"Exif\0\0",
        b"II*\0",
        b"II*\0\xff\xff\xff\xff",
        b"II*\0\x08\0\0\0\xff\xff",
        b"II*\0\x08\0\0\0\x01\0" + struct.pack("<HHIHH", 0x112, 3, 1, 9, 0),
        b"II*\0\x08\0\0\0\x01\0" + struct.pack("<HHIHH", 0x112, 4, 1, 6, 0),
        b"neither",
    ],
)
def test_senseless_exif_means_upright(block: bytes) -> None:
    assert exif_orientation(block) == UPRIGHT


# ---------------------------------------------------------------------------------- sizes


@pytest.mark.parametrize(
    ("width", "height"),
    [(1, 1), (2, 300), (454, 454), (454, 1), (100, 400), (228, 226), (227, 454), (113, 227)],
)
def test_sizes_up_to_454_come_out_at_227_with_their_brightness(width: int, height: int) -> None:
    picture = photograph(height, width)
    fitted = images.decode(encoded(".png", picture), LIMITS)
    assert fitted.shape == (SIDE, SIDE, 3)
    assert np.abs(fitted.mean(axis=(0, 1)) - picture.mean(axis=(0, 1))).max() < 2


def test_half_size_is_the_mean_of_four_pixels() -> None:
    picture = noise(2 * SIDE, 2 * SIDE, 3)
    means = picture.reshape(SIDE, 2, SIDE, 2, 3).mean(axis=(1, 3))
    assert np.abs(images.decode(encoded(".png", picture), LIMITS) - means).max() <= 0.5


def test_a_side_is_averaged_even_where_the_other_is_stretched() -> None:
    stripes = np.zeros((100, 454, 3), np.uint8)
    stripes[:, ::2] = 200  # sampled instead of averaged they would come out black or white
    fitted = images.decode(encoded(".png", stripes), LIMITS)
    assert np.abs(fitted.astype(int) - 100).max() <= 1


@pytest.mark.parametrize("shape", [(RESIZE_UP_TO + 1, 10), (10, RESIZE_UP_TO + 1), (4000, 3000)])
@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_larger_pictures_are_refused_unless_they_may_be_shrunk(
    shape: tuple[int, int], suffix: str
) -> None:
    data = encoded(suffix, photograph(*shape))
    with pytest.raises(Unreadable, match=f"{shape[1]} x {shape[0]}") as caught:
        images.decode(data, LIMITS)
    assert caught.value.reason is QuarantineReason.TOO_LARGE
    assert images.decode(data, ANY_SIZE).shape == (SIDE, SIDE, 3)


@pytest.mark.parametrize("shape", [(1, 100_000), (100_000, 1), (1, 5_000), (60_000, 3)])
@pytest.mark.parametrize("dtype", ["u1", "u2"])
def test_ribbons_do_not_break_anything(shape: tuple[int, int], dtype: str) -> None:
    data = encoded(".png", np.full((*shape, 3), np.iinfo(dtype).max // 3, dtype))
    assert refusal(data) is QuarantineReason.TOO_LARGE
    assert (images.decode(data, ANY_SIZE) == 85).all()


def test_a_large_picture_is_converted_in_bands_without_a_seam() -> None:
    deep = np.full((2100, 2100, 4), 40_000, "u2")
    deep[..., 3] = np.arange(2100, dtype="u2")[:, None] * 31
    picture = images.decode(encoded(".png", deep, cv2.IMWRITE_PNG_COMPRESSION, 1), ANY_SIZE)
    steps = np.diff(picture[:, 0, 0].astype(int))
    assert (steps >= 0).all()  # ever more of the lighter colour, from top to bottom
    assert steps.max() <= 1


def test_limits_refuse_a_word_they_do_not_know() -> None:
    with pytest.raises(ValueError, match="tile"):
        Limits(1_000_000, "tiles")


# ---------------------------------------------------------------------------------- bombs


def peak_memory_mib(data: bytes, folder: Path) -> tuple[float, dict[str, str]]:
    """What decoding ``data`` in a process of its own adds to its peak, and what it says."""
    file = folder / "bomb"
    file.write_bytes(data)
    script = (
        "import resource, json, sys; from crackwatch import images; from crackwatch.errors import"
        " Unreadable\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024\n"
        "data, before, said = open(sys.argv[1], 'rb').read(), peak(), {}\n"
        "try: images.decode(data, images.Limits(120_000_000, 'resize'))\n"
        "except Unreadable as exc: said = {'reason': exc.reason, 'detail': exc.detail}\n"
        "print(json.dumps([peak() - before, said]))"
    )
    out = subprocess.run(
        [sys.executable, "-c", script, str(file)], check=True, capture_output=True, timeout=60
    )
    grown, said = json.loads(out.stdout)
    return grown, said


def test_a_png_of_20000_by_20000_pixels_costs_no_memory(tmp_path: Path) -> None:
    data = png_of_one_bit(20_000, 20_000)
    assert len(data) < 100_000
    grown, said = peak_memory_mib(data, tmp_path)
    assert said["reason"] == "oversize"
    assert "20000 x 20000" in said["detail"]
    assert "120000000" in said["detail"]
    assert grown < 5


def test_claims_of_size_are_believed_before_any_decoder_is_asked() -> None:
    jpeg = bytearray(WHOLE["jpeg"])
    at = jpeg.index(b"\xff\xc0")
    jpeg[at + 5 : at + 9] = struct.pack(">HH", 65_500, 65_500)
    assert refusal(bytes(jpeg)) is QuarantineReason.OVERSIZE
    small = Limits(max_pixels=SIDE * SIDE - 1, larger="quarantine")
    for name, data in WHOLE.items():
        assert refusal(data, small) is QuarantineReason.OVERSIZE, name


def test_a_header_that_contradicts_its_data_is_refused() -> None:
    """A webp whose canvas is small and whose picture is not would slip past the limits."""
    inner = WHOLE["webp"][12:]
    canvas = b"VP8X" + struct.pack("<I", 10) + bytes(4) + struct.pack("<I", 9)[:3] * 2
    body = b"WEBP" + canvas + inner
    data = b"RIFF" + struct.pack("<I", len(body)) + body
    assert images.dimensions(data) == (10, 10)
    assert refusal(data) is QuarantineReason.UNREADABLE


def pages_that_share_their_strips() -> bytes:
    """A TIFF of 2,000 pages that all name the same half million strips."""
    strips, heap_at = 500_000, 8
    data = bytearray(b"II*\0" + struct.pack("<I", heap_at + 4 * strips) + bytes(4 * strips))
    for _ in range(2_000):
        entries = [(256, 1, 9), (257, 1, 9), (273, strips, heap_at), (279, strips, heap_at)]
        data += struct.pack("<H", len(entries))
        data += b"".join(struct.pack("<HHII", tag, 4, *rest) for tag, *rest in entries)
        data += struct.pack("<I", len(data) + 4)
    return bytes(data)


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xd8\xff" + b"\xe0\x00\x02\xff" * 2_000_000,
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I4s13sI", 13, b"IHDR", bytes(13), 0)
        + struct.pack(">I4sI", 0, b"tEXt", 0) * 1_500_000,
        b"RIFF\xff\xff\xff\x00WEBP" + bytes(8_000_000),
        pages_that_share_their_strips(),
    ],
    ids=["jpeg", "png", "webp", "tiff"],
)
def test_endless_structures_are_given_up_soon(data: bytes) -> None:
    began = time.process_time()
    refusal(data)
    assert time.process_time() - began < 5


def test_pages_in_a_loop_are_noticed() -> None:
    data = tiff(photograph())
    directory_at = struct.unpack_from("<I", data, 4)[0]
    entries = struct.unpack_from("<H", data, directory_at)[0]
    next_at = directory_at + 2 + entries * 12
    looped = data[:next_at] + struct.pack("<I", directory_at) + data[next_at + 4 :]
    assert refusal(looped) is QuarantineReason.UNREADABLE


# ------------------------------------------------------------------------------- refusals


@whole
@pytest.mark.parametrize("sixteenths", range(16))
def test_a_file_cut_short_is_known_as_such_without_decoding(data: bytes, sixteenths: int) -> None:
    cut = data[: len(data) * sixteenths // 16]
    expected = QuarantineReason.TRUNCATED if cut else QuarantineReason.EMPTY
    with pytest.raises(Unreadable) as caught:
        images.check_complete(cut)
    assert caught.value.reason is expected
    assert refusal(cut) is expected


@whole
def test_the_last_byte_matters(data: bytes) -> None:
    assert refusal(data[:-1]) is QuarantineReason.TRUNCATED


@pytest.mark.parametrize("name", ["jpeg", "progressive jpeg", "jpeg with restarts", "png", "bmp"])
def test_what_follows_the_end_marker_does_no_harm(name: str) -> None:
    picture = images.decode(WHOLE[name] + b"\0 appended by the camera", LIMITS)
    np.testing.assert_array_equal(picture, images.decode(WHOLE[name], LIMITS))


def test_the_end_of_a_thumbnail_is_not_the_end_of_the_photograph() -> None:
    thumbnail = b"Exif\0\0" + encoded(".jpg", photograph(40, 40))
    segment = b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail
    data = WHOLE["jpeg"][:2] + segment + WHOLE["jpeg"][2:]
    images.check_complete(data)
    assert images.dimensions(data) == (SIDE, SIDE)
    for end in (2 + len(segment), 2 + len(segment) + 300, len(data) - 2):
        assert refusal(data[:end]) is QuarantineReason.TRUNCATED


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", QuarantineReason.EMPTY),
        (b"this is a text that was named .jpg\n", QuarantineReason.NOT_AN_IMAGE),
        (b"BMW 320d, 140000 km, one owner", QuarantineReason.NOT_AN_IMAGE),
        (b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0", QuarantineReason.NOT_AN_IMAGE),
        (b"GIF89a" + bytes(30), QuarantineReason.NOT_AN_IMAGE),
        (b"\0\0\0\x18ftypheic" + bytes(30), QuarantineReason.NOT_AN_IMAGE),
        (b"\xff\xd8\xff", QuarantineReason.TRUNCATED),
        (b"\xff", QuarantineReason.TRUNCATED),
        (bytes(10_000), QuarantineReason.TRUNCATED),  # allocated, and never written
        (b"II*\0\0\0\0\0", QuarantineReason.TRUNCATED),
        (b"\xff\xd8\xff\xd9", QuarantineReason.UNREADABLE),
        (b"\xff\xd8\xff\xe0\0\0" + bytes(10), QuarantineReason.UNREADABLE),
        (WHOLE["jpeg"][:2] + WHOLE["jpeg"], QuarantineReason.UNREADABLE),
    ],
)
def test_each_fault_has_its_reason(data: bytes, reason: QuarantineReason) -> None:
    assert refusal(data) is reason
    with pytest.raises(Unreadable) as caught:
        images.dimensions(data)
    assert caught.value.reason is reason


def damaged_jpeg(name: str = "jpeg") -> bytes:
    """Whole by its markers, but part of the picture data is gone."""
    data = WHOLE[name]
    start = data.index(b"\xff\xda") + 14
    return data[: start + (len(data) - start) // 2] + b"\xff\xd9"


def test_jpeg_whose_data_end_early_is_refused_although_opencv_returns_a_picture() -> None:
    data = damaged_jpeg()
    images.check_complete(data)
    assert cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) is not None
    with pytest.raises(Unreadable, match="premature end") as caught:
        images.decode(data, LIMITS)
    assert caught.value.reason is QuarantineReason.UNREADABLE


def test_jpeg_with_a_block_of_zeros_in_it_is_refused() -> None:
    data = encoded(".jpg", noise(SIDE, SIDE, 3))
    holed = data[:8192] + bytes(4096) + data[12288:]
    assert refusal(holed) is QuarantineReason.UNREADABLE


def test_a_few_bytes_before_the_end_marker_are_a_cheap_cameras_padding() -> None:
    padded = WHOLE["jpeg"][:-2] + bytes(5) + WHOLE["jpeg"][-2:]
    np.testing.assert_array_equal(
        images.decode(padded, LIMITS), images.decode(WHOLE["jpeg"], LIMITS)
    )


def test_png_with_a_wrong_checksum_is_refused() -> None:
    data = bytearray(WHOLE["png"])
    data[len(data) // 2] ^= 0x55
    assert refusal(bytes(data)) is QuarantineReason.UNREADABLE


def test_a_damaged_picture_is_not_blamed_on_its_neighbours_in_other_threads() -> None:
    good, bad = WHOLE["jpeg with restarts"], damaged_jpeg()
    wrong: list[str] = []

    def work(offset: int) -> None:
        for turn in range(200):
            damaged = (turn + offset) % 3 == 0
            try:
                images.decode(bad if damaged else good, LIMITS)
            except Unreadable:
                if not damaged:
                    wrong.append("a healthy picture was refused")
            else:
                if damaged:
                    wrong.append("a damaged picture was accepted")

    threads = [threading.Thread(target=work, args=(offset,)) for offset in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_decoders_say_nothing_on_standard_error_and_others_are_still_heard() -> None:
    script = (
        "import ctypes, sys; from crackwatch import images; from crackwatch.errors import Unreadable\n"
        "def attempt(data):\n"
        "    try: images.decode(data, images.Limits(120_000_000, 'resize'))\n"
        "    except Unreadable: pass\n"
        "for line in sys.stdin: attempt(bytes.fromhex(line))\n"
        "libc = ctypes.CDLL(None); stderr = lambda: ctypes.c_void_p.in_dll(libc, 'stderr')\n"
        "with images.whole.complaints.listening(): libc.fputs(b'another library, meanwhile\\n', stderr())\n"
        "libc.fputs(b'another library, afterwards\\n', stderr())\n"
        "print('ours', file=sys.stderr)\n"
    )
    broken_png = bytearray(WHOLE["png"])
    broken_png[len(broken_png) // 2] ^= 0x55
    broken_tiff = WHOLE["tiff of jpeg"].replace(b"\xff\xda", b"\xff\xdd")
    files = [damaged_jpeg(), bytes(broken_png), broken_tiff, WHOLE["jpeg"], b"junk"]
    out = subprocess.run(
        [sys.executable, "-c", script],
        input="\n".join(data.hex() for data in files),
        text=True,
        check=True,
        capture_output=True,
        timeout=60,
    )
    assert out.stderr.splitlines() == [
        "another library, meanwhile",
        "another library, afterwards",
        "ours",
    ]


# -------------------------------------------------------------------------- arbitrary bytes

SIGNATURES = [signature for signature, _ in formats._WALKERS] + [b"RIFF\x40\0\0\0WEBPVP8X", b""]
fuzz = settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)


def survives(call: Callable[[], object]) -> bool:
    """False if ``call`` refuses with a detail; whatever else it raises fails the test."""
    try:
        call()
    except Unreadable as exc:
        return not exc.detail
    return True


@fuzz
@given(st.sampled_from(SIGNATURES), st.binary(min_size=1, max_size=400))
def test_arbitrary_bytes_raise_nothing_but_unreadable(signature: bytes, rest: bytes) -> None:
    data = signature + rest
    complete = survives(lambda: images.check_complete(data))
    decoded = survives(lambda: images.decode(data, LIMITS))
    assert complete or not decoded


@fuzz
@given(
    st.sampled_from(sorted(WHOLE)),
    st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=6)), min_size=1, max_size=6),
    st.integers(0, 3),
)
def test_mutated_pictures_raise_nothing_but_unreadable(
    name: str, changes: list[tuple[float, bytes]], headers: int
) -> None:
    data = bytearray(WHOLE[name])
    for where, what in changes:
        # most of a file is pixels; its structure is at both ends
        span = len(data) if headers == 0 else min(len(data), 400)
        at = int(where * (span - 1))
        at = len(data) - 1 - at if headers == 3 else at
        data[at : at + len(what)] = what
    complete = survives(lambda: images.check_complete(bytes(data)))
    decoded = survives(lambda: images.decode(bytes(data), LIMITS))
    assert complete or not decoded


def test_random_damage_anywhere_is_survived() -> None:
    chance = random.Random(5)
    for name, data in WHOLE.items():
        for _ in range(60):
            mutated = bytearray(data)
            for _ in range(chance.choice((1, 3, 20))):
                mutated[chance.randrange(len(mutated))] = chance.randrange(256)
            try:
                picture = images.decode(bytes(mutated), ANY_SIZE)
            except Unreadable:
                continue
            assert picture.shape == (SIDE, SIDE, 3), name


# ------------------------------------------------------------------------- the child process


def child(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "crackwatch.images", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **options,
    )


def test_the_child_exits_0_whatever_the_pictures_are(tmp_path: Path) -> None:
    good = tmp_path / "good.jpg"
    good.write_bytes(WHOLE["jpeg"])
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"no picture")
    odd = os.fsencode(tmp_path) + b"/\xff.jpg"
    Path(os.fsdecode(odd)).write_bytes(damaged_jpeg())
    pipe = tmp_path / "pipe.jpg"
    os.mkfifo(pipe)
    gone = tmp_path / "gone.jpg"
    files = [str(good), str(bad), os.fsdecode(odd), str(pipe), str(gone)]
    done = child("--try", "1000000", "quarantine", *files)
    assert done.returncode == 0, done.stderr
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert [each["reason"] for each in told] == [None, "not_an_image", "unreadable", None, None]
    assert told[2]["path"].endswith("\\xff.jpg")
    assert "not a regular file" in told[3]["detail"]
    assert "not read" in told[4]["detail"]


def test_the_child_shows_a_death_by_its_status(tmp_path: Path) -> None:
    file = tmp_path / "big.png"
    file.write_bytes(png_of_one_bit(10_000, 10_000))

    def starve() -> None:
        resource.setrlimit(resource.RLIMIT_CPU, (2, 2))
        resource.setrlimit(resource.RLIMIT_AS, (400 << 20, 400 << 20))

    done = child("--try", "120000000", "resize", str(file), preexec_fn=starve)
    assert done.returncode != 0


def test_the_child_explains_its_usage() -> None:
    assert child("--try", "many", "resize").returncode == 2
    assert "usage" in child().stderr
    assert child("--try", "1000", "resize").returncode == 0  # nothing to decode: nothing dies


def test_what_is_encoded_is_decoded_again() -> None:
    picture = photograph()
    np.testing.assert_array_equal(images.decode(images.encode_png(picture), LIMITS), picture)
    jpeg = images.encode_jpeg(picture, quality=100)
    assert np.abs(images.decode(jpeg, LIMITS).astype(int) - picture).mean() < 2
    assert len(images.encode_jpeg(picture, quality=10)) < len(jpeg)
