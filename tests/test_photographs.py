"""A photograph's tiles are its pixels, whatever the file's format, turn and depth; memory is bounded."""

from __future__ import annotations

import io
import json
import random
import struct
import subprocess
import sys
import threading
import zlib
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from crackwatch import images, suspects, synthetic
from crackwatch.domain import QuarantineReason
from crackwatch.errors import Unreadable
from crackwatch.images import RESIZE_UP_TO, SIDE, Limits, conversion, formats, photographs, whole
from crackwatch.images.photographs import (
    BATCH_TILES,
    HELD_BYTES,
    Photograph,
    Tiling,
    cost_bytes,
    open_photograph,
    thumbnail,
)
from crackwatch.views import Rule, judged, see
from tests.test_images import encoded, noise, pillow, png_of_one_bit, tiff

TILED = Limits(max_pixels=120_000_000, larger="tile")
RESIZED = Limits(max_pixels=120_000_000, larger="resize")
TILING = Tiling()

Array = NDArray[Any]


@cache
def wall(height: int, width: int) -> NDArray[np.uint8]:
    """Drawn concrete, crack by crack; (height, width, 3) BGR."""
    squares = [synthetic.draw(seed, crack=seed % 2 == 0) for seed in range(6)]
    row = np.hstack(squares[:3] * (-(-width // (3 * SIDE))))[:, :width]
    other = np.hstack(squares[3:] * (-(-width // (3 * SIDE))))[:, :width]
    pairs = np.vstack([row, other] * (-(-height // (2 * SIDE))))
    return np.ascontiguousarray(pairs[:height])


def gathered(photograph: Photograph) -> NDArray[np.uint8]:
    """All tiles in the layout's order; each has come exactly once, in batches that are no larger."""
    tiles = np.zeros((len(photograph.layout), SIDE, SIDE, 3), np.uint8)
    seen: list[int] = []
    for indices, pixels in photograph.tiles():
        assert pixels.shape == (len(indices), SIDE, SIDE, 3)
        assert pixels.dtype == np.uint8 and pixels.flags.c_contiguous
        assert 0 < len(indices) <= BATCH_TILES
        tiles[indices] = pixels
        seen += indices.tolist()
    assert sorted(seen) == list(range(len(photograph.layout)))
    return tiles


def tiles_of(data: bytes, tiling: Tiling = TILING) -> NDArray[np.uint8]:
    return gathered(open_photograph(data, TILED, tiling))


def cut(picture: Array, overlap: int = 64) -> Array:
    """The tiles of an array, one slice each."""
    layout = photographs.lay_out(picture.shape[1], picture.shape[0], overlap)
    return np.stack([picture[y : y + SIDE, x : x + SIDE] for x, y in layout.origins])


def as_decode_sees_it(data: bytes) -> NDArray[np.uint8]:
    """The whole picture by the path that ``images.decode`` takes, before it is resized."""
    header = formats.read_header(data)
    picture = conversion.bgr(whole.decoded(data, header), header)
    return conversion.turned(picture, whole.left_to_turn(header))


def refusal(data: bytes, limits: Limits = TILED, tiling: Tiling = TILING) -> Unreadable:
    with pytest.raises(Unreadable) as caught:
        for _ in open_photograph(data, limits, tiling).tiles():
            pass
    assert caught.value.detail
    return caught.value


def interlaced(picture: Array) -> bytes:
    """A PNG in seven passes, which no encoder at hand writes: filter 0, red first."""
    height, width = picture.shape[:2]
    rows = b""
    steps = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2))
    for top, left, down, right in (*steps, (1, 0, 2, 1)):
        for row in picture[top:height:down, left:width:right, ::-1]:
            rows += b"\0" + row.tobytes() if row.size else b""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 1))
    body = chunk(b"IDAT", zlib.compress(rows, 1))
    return b"\x89PNG\r\n\x1a\n" + header + body + chunk(b"IEND", b"")


# ------------------------------------------------------------------------- the same pixels

HEIGHT, WIDTH = 500, 700

LOSSLESS = {
    "png": lambda picture: encoded(".png", picture),
    "interlaced png": interlaced,
    "tiff": lambda picture: encoded(".tiff", picture),
    "tiff in one strip": lambda picture: tiff(picture[..., ::-1]),
    "big tiff, big endian": lambda picture: tiff(picture[..., ::-1], big=True, order=">"),
    "tiff, deflated": lambda picture: pillow(
        picture[..., ::-1], "TIFF", compression="tiff_adobe_deflate"
    ),
    "tiff, packed bits": lambda picture: pillow(picture[..., ::-1], "TIFF", compression="packbits"),
    "bmp": lambda picture: encoded(".bmp", picture),
    "webp": lambda picture: encoded(".webp", picture, cv2.IMWRITE_WEBP_QUALITY, 101),
}
_JPEG = {
    "4:2:0": (),
    "4:2:2": (cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422),
    "4:4:4": (cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444),
    "restarts": (cv2.IMWRITE_JPEG_RST_INTERVAL, 4),
    "progressive": (cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
}
SEQUENTIAL = {"png", "tiff", "tiff in one strip", "big tiff, big endian", "tiff, deflated",
              "tiff, packed bits", "4:2:0", "4:2:2", "4:4:4", "restarts"}  # fmt: skip


@pytest.mark.parametrize("name", LOSSLESS)
def test_the_tiles_of_a_lossless_file_are_slices_of_the_picture(name: str) -> None:
    picture = wall(HEIGHT, WIDTH)
    data = LOSSLESS[name](picture)
    assert formats.read_header(data).sequential is (name in SEQUENTIAL)
    np.testing.assert_array_equal(tiles_of(data), cut(picture))


@pytest.mark.parametrize("name", _JPEG)
@pytest.mark.parametrize("grey", [False, True])
def test_the_tiles_of_a_jpeg_are_slices_of_what_opencv_decodes(name: str, grey: bool) -> None:
    picture = wall(HEIGHT, WIDTH)
    data = encoded(".jpg", picture[..., 1] if grey else picture, *_JPEG[name])
    assert formats.read_header(data).sequential is (name in SEQUENTIAL)
    expected = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(tiles_of(data), cut(expected))


@pytest.mark.real_pictures
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tiff"])
def test_real_pictures_in_a_mosaic_come_out_as_opencv_decodes_them(metu: Path, suffix: str) -> None:
    files = sorted((metu / "valid_unbalanced/normal").glob("*.jpg"))[:9]
    files += sorted((metu / "valid_unbalanced/anomaly").glob("*.jpg"))[:6]
    crops = [cv2.imread(str(file)) for file in files]
    mosaic = np.vstack([np.hstack(crops[at : at + 5]) for at in (0, 5, 10)])
    data = encoded(suffix, mosaic)
    expected = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(tiles_of(data), cut(expected))
    for tile in tiles_of(data, Tiling(overlap=0))[:2]:  # the crops stand on the grid
        assert tile.shape == (SIDE, SIDE, 3)


def odd_files() -> dict[str, bytes]:
    """Everything that is not three channels of eight bits."""
    picture = wall(300, 470)
    rgb = picture[..., ::-1]
    alpha = noise(300, 470, 1)
    deep = picture.astype("u2") * 257 - noise(300, 470, 3, dtype="u2") // 300 * (picture > 0)
    image = Image.fromarray(rgb)
    palette = image.quantize(40)

    def saved(what: Image.Image, form: str, **options: Any) -> bytes:
        buffer = io.BytesIO()
        what.save(buffer, form, **options)
        return buffer.getvalue()

    return {
        "16-bit png": encoded(".png", deep),
        "16-bit grey png": encoded(".png", deep[..., 0]),
        "16-bit png with alpha": encoded(".png", np.dstack([deep, alpha.astype("u2") * 257])),
        "png with alpha": encoded(".png", np.dstack([picture, alpha])),
        "grey png with alpha": saved(Image.fromarray(np.dstack([rgb[..., 0], alpha])), "PNG"),
        "grey png": encoded(".png", picture[..., 0]),
        "1-bit png": saved(image.convert("1"), "PNG"),
        "palette png": saved(palette, "PNG"),
        "palette png, one colour clear": saved(palette, "PNG", transparency=3),
        "grey png, one level clear": saved(image.convert("L"), "PNG", transparency=120),
        "png, one colour clear": saved(image, "PNG", transparency=tuple(map(int, rgb[5, 5]))),
        "16-bit tiff": encoded(".tiff", deep),
        "16-bit grey tiff": encoded(".tiff", deep[..., 0]),
        "grey tiff": encoded(".tiff", picture[..., 0]),
        "backward grey tiff": tiff(picture[..., 0], photometric=0),
        "backward 16-bit grey tiff": tiff(deep[..., 0], photometric=0),
        "tiff with alpha": tiff(np.dstack([rgb, alpha]), extra=2),
        "16-bit tiff with alpha": tiff(
            np.dstack([deep[..., ::-1], alpha.astype("u2") * 257]), extra=2
        ),
        "tiff of jpeg": pillow(rgb, "TIFF", compression="jpeg"),
        "palette tiff": saved(palette, "TIFF"),
        "cmyk tiff": saved(image.convert("CMYK"), "TIFF"),
        "floating tiff": tiff((picture[..., 0] / 255).astype("f4"), sample_format=3),
        "cmyk jpeg": saved(image.convert("CMYK"), "JPEG"),
        "progressive cmyk jpeg": saved(image.convert("CMYK"), "JPEG", progressive=True),
        "rgb jpeg": saved(image, "JPEG", keep_rgb=True),
        "webp with alpha": pillow(np.dstack([rgb, alpha]), "WEBP", lossless=True, exact=True),
        "webp": encoded(".webp", picture, cv2.IMWRITE_WEBP_QUALITY, 80),
        "animated png": saved(
            image, "PNG", save_all=True, append_images=[image.transpose(Image.Transpose.ROTATE_180)]
        ),
        "palette bmp": saved(palette, "BMP"),
    }


ODD = odd_files()


@pytest.mark.parametrize("name", ODD)
def test_every_kind_of_sample_comes_out_of_a_photograph_as_out_of_a_crop(name: str) -> None:
    """The strips of libvips and OpenCV's whole pictures pass through the same conversion."""
    np.testing.assert_array_equal(tiles_of(ODD[name]), cut(as_decode_sees_it(ODD[name])))


def test_what_is_deep_or_clear_is_read_row_by_row_all_the_same() -> None:
    for name, data in ODD.items():
        if "png" in name:
            as_a_whole = name in ("animated png", "grey png, one level clear")
            assert formats.read_header(data).sequential is not as_a_whole, name
    for name in ("16-bit tiff", "16-bit grey tiff", "grey tiff"):
        assert formats.read_header(ODD[name]).sequential, name


def test_a_photograph_of_which_nothing_is_visible_is_refused() -> None:
    clear = np.dstack([wall(300, 470), np.zeros((300, 470), np.uint8)])
    assert refusal(encoded(".png", clear)).reason is QuarantineReason.UNREADABLE
    clear[299, 469, 3] = 1  # the last pixel of the last strip
    assert len(tiles_of(encoded(".png", clear))) == 6


# ---------------------------------------------------------------------------- orientation


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["PNG", "TIFF", "WEBP"])
def test_the_tiles_of_a_turned_file_are_those_of_the_upright_one(
    form: str, orientation: int
) -> None:
    upright = wall(480, 640)
    exif = Image.Exif()
    exif[0x112] = orientation
    options = {"lossless": True} if form == "WEBP" else {}
    data = pillow(as_stored(upright, orientation)[..., ::-1], form, exif=exif, **options)
    photograph = open_photograph(data, TILED, TILING)
    assert (photograph.width, photograph.height) == (640, 480)
    np.testing.assert_array_equal(gathered(photograph), cut(upright))
    small = thumbnail(data, TILED, 64)
    assert small.shape == (48, 64, 3)
    assert np.abs(small.astype(int) - thumbnail(encoded(".png", upright), TILED, 64)).max() <= 2


def as_stored(upright: Array, orientation: int) -> Array:
    """What a camera in that position has written (EXIF 2.32, table 6)."""
    if orientation in (3, 4, 7, 8):
        upright = upright[::-1]
    if orientation in (2, 3, 6, 7):
        upright = upright[:, ::-1]
    if orientation >= 5:
        upright = upright.transpose(1, 0, 2)
    return np.ascontiguousarray(upright)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["baseline", "progressive"])
def test_a_turned_jpeg_stands_as_opencv_puts_it(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x112] = orientation
    data = pillow(wall(480, 640), "JPEG", exif=exif, progressive=kind == "progressive")
    expected = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(tiles_of(data), cut(expected))


def test_a_resampled_tile_of_a_turned_file_is_that_of_the_upright_one() -> None:
    upright = wall(480, 640)
    exif = Image.Exif()
    exif[0x112] = 6
    data = pillow(as_stored(upright, 6)[..., ::-1], "PNG", exif=exif)
    for scale in (0.6, 1.4):
        expected = tiles_of(encoded(".png", upright), Tiling(scale=scale))
        np.testing.assert_array_equal(tiles_of(data, Tiling(scale=scale)), expected)


# ---------------------------------------------------------------------------- sizes, scale


@pytest.mark.parametrize(("width", "height"), [(228, 227), (454, 454), (454, 1), (227, 227)])
def test_what_is_small_stays_a_crop(width: int, height: int) -> None:
    data = encoded(".png", wall(height, width))
    assert not images.is_photograph(data, TILED)
    assert images.decode(data, TILED).shape == (SIDE, SIDE, 3)
    with pytest.raises(ValueError, match=r"images\.decode"):
        open_photograph(data, TILED, TILING)


def test_only_a_limit_that_says_tile_makes_photographs() -> None:
    data = encoded(".png", wall(RESIZE_UP_TO + 1, 300))
    assert images.is_photograph(data, TILED)
    for larger in ("resize", "quarantine"):
        assert not images.is_photograph(data, Limits(10**6, larger))
    with pytest.raises(Unreadable) as caught:  # by mistake: never shrunk unseen
        images.decode(data, TILED)
    assert caught.value.reason is QuarantineReason.TOO_LARGE


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp"])
def test_the_smallest_photographs_are_stretched_as_crops_are(suffix: str) -> None:
    for height, width in ((227, 455), (455, 227), (100, 500), (500, 3)):
        data = encoded(suffix, wall(height, width))
        picture = as_decode_sees_it(data)
        photograph = open_photograph(data, TILED, TILING)
        assert (photograph.width, photograph.height) == (width, height)
        assert (photograph.layout.width, photograph.layout.height) == (
            max(width, SIDE),
            max(height, SIDE),
        )
        expected = [
            conversion.fitted(picture[y : y + tall, x : x + wide])
            for x, y, wide, tall in photograph.boxes
        ]
        np.testing.assert_array_equal(gathered(photograph), np.stack(expected))


@pytest.mark.parametrize("shape", [(1, 100_000), (100_000, 1)])
@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_a_ribbon_of_one_pixel_is_judged(shape: tuple[int, int], suffix: str) -> None:
    ribbon = np.zeros((*shape, 3), np.uint8)
    ribbon.reshape(-1, 3)[:] = (np.arange(100_000) // 500 % 200)[:, None]
    photograph = open_photograph(encoded(suffix, ribbon), TILED, TILING)
    assert len(photograph.layout) == 614
    tiles = gathered(photograph)
    assert (tiles[0] == 0).all()
    for index in (100, 512):
        lengthwise = tiles[index] if shape[0] == 1 else tiles[index].swapaxes(0, 1)
        x = photograph.layout.origins[index].max()
        np.testing.assert_array_equal(lengthwise[9, :, 1], ribbon.reshape(-1, 3)[x : x + SIDE, 0])


@pytest.mark.parametrize("scale", [0.98, 1.0, 1.029])
def test_a_scale_that_is_nearly_the_models_resamples_nothing(scale: float) -> None:
    picture = wall(HEIGHT, WIDTH)
    photograph = open_photograph(encoded(".png", picture), TILED, Tiling(scale=scale))
    assert photograph.scale == 1.0
    np.testing.assert_array_equal(gathered(photograph), cut(picture))


@pytest.mark.parametrize("scale", [0.3, 0.55, 0.9, 1.5, 2.2])
def test_another_scale_shows_each_tiles_box_at_the_models(scale: float) -> None:
    picture = wall(HEIGHT, WIDTH)
    photograph = open_photograph(encoded(".png", picture), TILED, Tiling(scale=scale))
    assert photograph.scale == scale
    layout, boxes = photograph.layout, photograph.boxes
    assert (layout.width, layout.height) == (
        max(SIDE, round(WIDTH * scale)),
        max(SIDE, round(HEIGHT * scale)),
    )
    covered = np.zeros((HEIGHT, WIDTH), bool)
    for (x, y, width, height), tile in zip(boxes, gathered(photograph), strict=True):
        assert abs(width - SIDE * WIDTH / layout.width) <= 1
        assert abs(height - SIDE * HEIGHT / layout.height) <= 1
        covered[y : y + height, x : x + width] = True
        crop = picture[y : y + height, x : x + width]
        np.testing.assert_array_equal(tile, conversion.fitted(crop))
    assert covered.all()


@pytest.mark.parametrize("scale", [0.3, 0.55, 0.9, 1.0, 1.5, 2.2])
def test_the_boxes_that_a_row_keeps_cut_out_what_was_judged_bit_for_bit(scale: float) -> None:
    data = encoded(".png", wall(HEIGHT, WIDTH))
    photograph = open_photograph(data, TILED, Tiling(scale=scale))
    views: list[NDArray[np.uint8]] = []
    seen = see(photograph, lambda pixels: views.extend(pixels.copy()))
    assert seen.tiled is not None
    scores = np.linspace(0.5, 1, len(views), dtype=np.float32)  # all reach the threshold
    kept = judged(seen, scores, Rule(0.5, 0.5), Mock()).photograph
    assert kept is not None and len(kept.boxes) == len(views)
    places = np.array([(box.x, box.y, box.w, box.h) for box in kept.boxes])
    # the highest score first: the view that was handed over last
    np.testing.assert_array_equal(np.stack(photograph.cut(places)), np.stack(views[::-1]))


@pytest.mark.parametrize("overlap", [0, 1, 200])
def test_tiles_share_as_many_pixels_as_they_are_told_to(overlap: int) -> None:
    picture = wall(300, 460)
    data = encoded(".png", picture)
    np.testing.assert_array_equal(tiles_of(data, Tiling(overlap)), cut(picture, overlap))


@pytest.mark.parametrize(
    "wrong", [{"overlap": -1}, {"overlap": SIDE}, {"scale": 0.0}, {"scale": float("nan")}]
)
def test_a_tiling_refuses_what_cannot_be_cut(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Tiling(**wrong)


# -------------------------------------------------------------------------------- damage


def test_a_jpeg_that_ends_in_the_middle_is_refused_before_its_first_tile() -> None:
    for name, options in _JPEG.items():
        data = encoded(".jpg", wall(HEIGHT, WIDTH), *options)
        start = data.index(b"\xff\xda") + 14
        for share in (0.1, 0.5, 0.9995):
            broken = data[: start + int((len(data) - start) * share)] + b"\xff\xd9"
            found = refusal(broken)
            assert found.reason is QuarantineReason.UNREADABLE, (name, share)
        assert refusal(data[: len(data) // 2]).reason is QuarantineReason.TRUNCATED
    sequential = encoded(".jpg", wall(HEIGHT, WIDTH))
    broken = sequential[: len(sequential) // 2] + b"\xff\xd9"
    with pytest.raises(Unreadable, match="premature end"):
        open_photograph(broken, TILED, TILING)


def test_what_cheap_cameras_do_to_a_jpeg_is_borne_by_photographs_too() -> None:
    data = encoded(".jpg", wall(HEIGHT, WIDTH), *_JPEG["restarts"])
    restart = data.index(b"\xff\xd3", len(data) // 2)
    for odd in (
        data[:restart] + bytes(3) + data[restart:],
        data[:-2] + bytes(5) + data[-2:],
        data + b"\0 appended",
    ):
        np.testing.assert_array_equal(tiles_of(odd), cut(as_decode_sees_it(odd)))


@pytest.mark.parametrize("name", ["png", "tiff", "tiff, deflated", "interlaced png"])
def test_a_file_with_a_hole_in_it_is_refused(name: str) -> None:
    data = LOSSLESS[name](wall(HEIGHT, WIDTH))
    holed = data[: len(data) // 2] + bytes(2_000) + data[len(data) // 2 + 2_000 :]
    reasons = {QuarantineReason.UNREADABLE, QuarantineReason.TRUNCATED}  # or a chunk's length hit
    assert refusal(holed).reason in reasons


def test_a_photograph_is_never_accepted_where_a_crop_is_refused() -> None:
    """Nor the other way round, but for TIFF: OpenCV makes up a strip that cannot be unpacked."""
    chance = random.Random(11)
    picture = wall(260, 460)
    files = {
        name: encoded(".jpg", picture, *_JPEG[name]) for name in ("4:2:0", "4:4:4", "restarts")
    }
    files |= {name: LOSSLESS[name](picture) for name in ("png", "tiff", "tiff, deflated")}
    files["16-bit png"] = ODD["16-bit png"]
    accepted = 0
    for name, data in files.items():
        for _ in range(25):
            mutated = bytearray(data)
            for _ in range(chance.choice((1, 1, 3))):
                mutated[chance.randrange(600, len(mutated))] = chance.randrange(256)
            try:
                expected = cut(as_decode_sees_it(bytes(mutated)))
            except Unreadable:
                assert refusal(bytes(mutated)).reason, name
                continue
            try:
                tiles = tiles_of(bytes(mutated))
            except Unreadable:
                assert name.startswith("tiff")
                continue
            np.testing.assert_array_equal(tiles, expected, err_msg=name)
            accepted += 1
    assert accepted > 30  # most wounds of a JPEG heal unheard


def test_arbitrary_wounds_raise_nothing_but_unreadable() -> None:
    chance = random.Random(12)
    files = [LOSSLESS[name](wall(230, 460)) for name in LOSSLESS]
    files += [ODD[name] for name in ("cmyk jpeg", "palette png", "tiff of jpeg", "floating tiff")]
    for data in files:
        for _ in range(15):
            mutated = bytearray(data)
            for _ in range(chance.choice((1, 3, 20))):
                mutated[chance.randrange(min(len(mutated), 400))] = chance.randrange(256)
            try:
                if images.is_photograph(bytes(mutated), TILED):
                    gathered(open_photograph(bytes(mutated), Limits(10**6, "tile"), TILING))
            except Unreadable:
                continue


def test_several_threads_read_photographs_at_once() -> None:
    good = encoded(".jpg", wall(HEIGHT, WIDTH))
    bad = good[: len(good) // 2] + b"\xff\xd9"
    expected = cut(as_decode_sees_it(good))
    wrong: list[str] = []

    def work(offset: int) -> None:
        for turn in range(6):
            damaged = (turn + offset) % 3 == 0
            try:
                tiles = tiles_of(bad if damaged else good)
            except Unreadable:
                if not damaged:
                    wrong.append("a healthy photograph was refused")
            else:
                if damaged or not (tiles == expected).all():
                    wrong.append("a damaged photograph was accepted")

    threads = [threading.Thread(target=work, args=(offset,)) for offset in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


# -------------------------------------------------------------------------------- limits


def claiming(data: bytes, width: int, height: int) -> bytes:
    """A JPEG whose frame header says so."""
    frame = data.index(b"\xff\xc0") if b"\xff\xc0" in data else data.index(b"\xff\xc2")
    return data[: frame + 5] + struct.pack(">HH", height, width) + data[frame + 9 :]


def test_300_megapixels_are_refused_from_the_header_with_the_limit_stated() -> None:
    found = refusal(claiming(encoded(".jpg", wall(300, 470)), 20_000, 15_000))
    assert found.reason is QuarantineReason.OVERSIZE
    assert "300000000 pixels" in found.detail and "120000000" in found.detail


def test_what_cannot_be_read_row_by_row_has_a_limit_of_its_own() -> None:
    data = encoded(".jpg", wall(300, 470), *_JPEG["progressive"])
    for width, height in ((4_000, 3_000), (8_000, 5_000)):
        assert cost_bytes(claiming(data, width, height), TILED, TILING) < HELD_BYTES
    huge = claiming(data, 12_000, 8_000)
    found = refusal(huge)
    assert found.reason is QuarantineReason.OVERSIZE
    assert "row by row" in found.detail and "MiB" in found.detail
    assert cost_bytes(huge, TILED, TILING) == 0
    with pytest.raises(Unreadable) as caught:
        thumbnail(claiming(data, 20_000, 15_000), TILED, 64)
    assert caught.value.reason is QuarantineReason.OVERSIZE


def test_rows_that_are_too_long_are_refused() -> None:
    found = refusal(png_of_one_bit(1_000_000, 300), Limits(2**31, "tile"))
    assert found.reason is QuarantineReason.OVERSIZE and "rows" in found.detail


def test_what_becomes_too_large_at_the_models_scale_is_refused() -> None:
    data = encoded(".png", wall(300, 470))
    found = refusal(data, tiling=Tiling(scale=40.0))
    assert found.reason is QuarantineReason.OVERSIZE and "18800 x 12000" in found.detail
    ribbon = png_of_one_bit(600_000, 1)  # 136 million pixels, once it is as high as a tile
    assert "600000 x 227" in refusal(ribbon).detail


def test_what_a_picture_costs_is_known_from_its_header() -> None:
    crop = encoded(".jpg", wall(SIDE, SIDE))
    assert cost_bytes(crop, TILED, TILING) == SIDE * SIDE * 3
    twelve = claiming(encoded(".jpg", wall(300, 470)), 4_000, 3_000)
    assert 40 << 20 < cost_bytes(twelve, TILED, TILING) < 100 << 20
    assert cost_bytes(twelve, Limits(10**6, "tile"), TILING) == 0
    assert cost_bytes(twelve, Limits(10**8, "quarantine"), TILING) == 0
    assert cost_bytes(twelve, RESIZED, TILING) > 72_000_000
    with pytest.raises(Unreadable):
        cost_bytes(crop[:-9], TILED, TILING)


_PEAK = """
import json, resource, sys
from crackwatch.images import Limits, photographs
limits, tiling = Limits(120_000_000, "tile"), photographs.Tiling()
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
data = open(sys.argv[1], "rb").read()
allowed, before, tiles = photographs.cost_bytes(data, limits, tiling), peak(), 0
for indices, _ in photographs.open_photograph(data, limits, tiling).tiles():
    tiles += len(indices)
print(json.dumps([peak() - before, allowed, tiles]))
"""


@pytest.mark.parametrize("kind", ["baseline", "progressive", "png", "16-bit png", "bmp", "webp"])
def test_a_photograph_holds_no_more_memory_than_its_header_promises(
    tmp_path: Path, kind: str
) -> None:
    picture = wall(1_500, 2_000)
    data = {
        "baseline": lambda: encoded(".jpg", picture),
        "progressive": lambda: encoded(".jpg", picture, *_JPEG["progressive"]),
        "png": lambda: png_of_one_bit(9_000, 9_000),
        "16-bit png": lambda: encoded(
            ".png", picture.astype("u2") * 257, cv2.IMWRITE_PNG_COMPRESSION, 1
        ),
        "bmp": lambda: encoded(".bmp", picture),
        "webp": lambda: encoded(".webp", picture, cv2.IMWRITE_WEBP_QUALITY, 80),
    }[kind]()
    file = tmp_path / "photograph"
    file.write_bytes(data)
    done = subprocess.run(
        [sys.executable, "-c", _PEAK, str(file)], check=True, capture_output=True, timeout=110
    )
    grown, allowed, tiles = json.loads(done.stdout)
    assert tiles > 80
    assert grown <= allowed


def test_crops_do_not_load_the_library_for_photographs(tmp_path: Path) -> None:
    file = tmp_path / "crop.jpg"
    file.write_bytes(encoded(".jpg", wall(SIDE, SIDE)))
    script = (
        "import sys; from crackwatch import images; from crackwatch.images import photographs\n"
        "images.decode(open(sys.argv[1], 'rb').read(), images.Limits(10**6, 'tile'))\n"
        "print('pyvips' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(file)], check=True, capture_output=True, timeout=60
    )
    assert done.stdout.split() == [b"False"]


# ----------------------------------------------------------------------------- thumbnails


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tiff", ".bmp", ".webp"])
@pytest.mark.parametrize("longest_px", [31, 200, 450, 10_000])
def test_a_thumbnail_shows_the_picture_small(suffix: str, longest_px: int) -> None:
    picture = wall(430, 901)  # no multiple of anything
    small = thumbnail(encoded(suffix, picture), TILED, longest_px)
    longest = min(longest_px, 901)
    assert small.shape == (round(430 * longest / 901), longest, 3)
    assert small.dtype == np.uint8 and small.flags.c_contiguous
    expected = cv2.resize(picture, small.shape[1::-1], interpolation=cv2.INTER_AREA)
    assert np.abs(small.astype(int) - expected).mean() < 4


def test_a_thumbnail_of_odd_files_is_upright_bgr_as_well() -> None:
    for name, data in ODD.items():
        small = thumbnail(data, TILED, 100)
        assert small.shape == (64, 100, 3), name
        picture = as_decode_sees_it(data)
        expected = cv2.resize(picture, (100, 64), interpolation=cv2.INTER_AREA)
        grain = 12 if name == "1-bit png" else 3  # black and white dots
        assert np.abs(small.astype(int) - expected).mean() < grain, name


def test_a_thumbnail_of_a_damaged_file_is_refused() -> None:
    data = encoded(".jpg", wall(HEIGHT, WIDTH))
    for longest_px in (50, 600):
        with pytest.raises(Unreadable):
            thumbnail(data[: len(data) // 2] + b"\xff\xd9", TILED, longest_px)
    with pytest.raises(ValueError, match="longest_px"):
        thumbnail(data, TILED, 0)


# --------------------------------------------------------------------- suspects, the child


def test_suspects_are_decoded_as_the_station_decodes_photographs(tmp_path: Path) -> None:
    good = encoded(".jpg", wall(HEIGHT, WIDTH))
    deflated = LOSSLESS["tiff, deflated"](wall(HEIGHT, WIDTH))
    half = len(deflated) // 2
    files = {
        "good.jpg": good,
        "bad.jpg": good[: len(good) // 2] + b"\xff\xd9",
        "late.tiff": deflated[:half] + bytes(200) + deflated[half + 200 :],
        "crop.jpg": encoded(".jpg", wall(SIDE, SIDE)),
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    command = [*suspects.CHILD, "120000000", "tile", *(str(tmp_path / name) for name in files)]
    done = subprocess.run(command, check=True, capture_output=True, timeout=100)
    told = [json.loads(line)["reason"] for line in done.stdout.splitlines()]
    assert told == [None, "unreadable", "unreadable", None]
    sources = [name.encode() for name in files]
    assert suspects.condemn(tmp_path, sources, 120_000_000, "tile", patience_s=100) == {}
