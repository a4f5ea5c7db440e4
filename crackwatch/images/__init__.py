"""Bytes to a uint8 array (227, 227, 3), blue first, or Unreadable with a reason; knows no files.

Everything that judges a picture sees it through ``decode``, so that training, evaluation and the
daemon agree to the last bit. What is too big is refused by its header, before a decoder sees it.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from typing import Final

# OpenCV reads its own limits when it is imported. Ours come first; OpenCV's must not refuse what
# ours allow.
for _limit in ("WIDTH", "HEIGHT", "PIXELS"):
    os.environ.setdefault(f"OPENCV_IO_MAX_IMAGE_{_limit}", str(2**31 - 1))

# ruff: noqa: E402 (the limits above must be in the environment before cv2 is imported)
import cv2
import numpy as np
from numpy.typing import NDArray

from crackwatch.domain import QuarantineReason
from crackwatch.errors import SystemFault, Unreadable
from crackwatch.images import formats
from crackwatch.images.complaints import Complaints
from crackwatch.runtime import SIDE

RESIZE_UP_TO: Final = 2 * SIDE  # pixels a side; in what is larger a hairline crack would vanish
BACKGROUND: Final = 128  # the grey that shows through where a picture is transparent

_BAND_PIXELS = 1 << 22  # converted at a time, so that big pictures need no big intermediates
_TRIES_TO_HEAR = 8

# The caller decodes in threads of its own; OpenCV's pool would only fight them for the cores.
cv2.setNumThreads(0)
# A picture that cannot be decoded is reported once, by us, with its reason.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)

_complaints = Complaints()
_second_opinion = threading.Lock()

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Limits:
    """What may be decoded.

    ``max_pixels`` is width times height. ``larger`` says what becomes of a picture with more than
    454 pixels on a side: ``quarantine`` (it is TOO_LARGE) or ``resize``.
    """

    max_pixels: int
    larger: str

    def __post_init__(self) -> None:
        if self.larger not in ("quarantine", "resize"):
            raise ValueError(f"larger is {self.larger!r}; it must be 'quarantine' or 'resize'")


def check_complete(data: bytes) -> None:
    """Raises Unreadable unless ``data`` holds a picture from its first byte to its end marker.

    Reasons: EMPTY, TRUNCATED, NOT_AN_IMAGE, UNREADABLE. Decodes nothing.
    """
    formats.read_header(data)


def dimensions(data: bytes) -> tuple[int, int]:
    """Width and height in pixels as the header has them, before EXIF turns the picture.

    Decodes nothing. Raises Unreadable as ``check_complete`` does.
    """
    header = formats.read_header(data)
    return header.width, header.height


def decode(data: bytes, limits: Limits) -> Pixels:
    """The picture as the models take it: uint8, (227, 227, 3), BGR, 0..255, contiguous.

    A picture of 227 x 227 in 8-bit colour comes out as OpenCV decodes it, bit for bit. Otherwise,
    in this order:

    - 16-bit samples are divided by 257 and rounded; floating-point ones must lie in 0..1.
    - Transparency is blended over mid-grey: concrete is near it, so the rim of a transparent area
      has less contrast than it would have over black or white and looks less like a crack. A
      picture of which nothing is visible is UNREADABLE.
    - Grey becomes three equal channels.
    - EXIF's or TIFF's orientation is applied, once.
    - Both sides are brought to 227, whatever their ratio, as the model wants a square: first every
      side that is longer is shrunk by area, then every shorter one is stretched bilinearly.

    Raises Unreadable: what ``check_complete`` raises; OVERSIZE for more than ``max_pixels``, from
    the header alone; TOO_LARGE as ``Limits`` has it; UNREADABLE where the decoder fails or reports
    that picture data are missing. Raises SystemFault if memory runs out.
    """
    header = formats.read_header(data)
    width, height = header.width, header.height
    if width * height > limits.max_pixels:
        raise Unreadable(
            QuarantineReason.OVERSIZE,
            f"{width} x {height} is {width * height} pixels; "
            f"at most {limits.max_pixels} are decoded (files.max_pixels)",
        )
    if max(width, height) > RESIZE_UP_TO and limits.larger != "resize":
        raise Unreadable(
            QuarantineReason.TOO_LARGE,
            f"{width} x {height}; shrunk from more than {RESIZE_UP_TO} pixels a side to {SIDE}, "
            "it would lose fine cracks (images.larger)",
        )
    raw = _decoded(data, header)
    return _fitted(_turned(_bgr(raw, header), header.orientation))


def encode_jpeg(picture: Pixels, quality: int = 90) -> bytes:
    """``picture`` (height, width, 3) BGR as a JPEG file; ``quality`` 1..100."""
    return _encoded(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])


def encode_png(picture: Pixels) -> bytes:
    """``picture`` (height, width, 3) BGR, or (height, width) grey, as a PNG file; lossless."""
    return _encoded(".png", picture, [])


# -------------------------------------------------------------------------------------- decoding


def _decoded(data: bytes, header: formats.Header) -> NDArray[np.generic]:
    """What OpenCV makes of the file, if no decoder complained of damage."""
    with _complaints.listening() as heard:
        raw = _imdecode(data, header)
    if heard.damage:
        # Another thread's picture may have been meant. While this lock is held, every other
        # thread with a damaged picture stops here after its first try, so silence returns.
        with _second_opinion:
            for _ in range(_TRIES_TO_HEAR):
                with _complaints.listening() as heard:
                    raw = _imdecode(data, header)
                if not heard.damage or heard.alone:
                    break
        if heard.damage:
            raise Unreadable(
                QuarantineReason.UNREADABLE, f"{header.format} is damaged: {heard.damage}"
            )
    return raw


def _imdecode(data: bytes, header: formats.Header) -> NDArray[np.generic]:
    # JPEG and BMP have neither depth nor transparency to keep, and IMREAD_COLOR is what the models
    # were trained with; it also turns a JPEG upright, where IMREAD_UNCHANGED does not.
    plain = header.format in ("JPEG", "BMP")
    flags = cv2.IMREAD_COLOR if plain else cv2.IMREAD_UNCHANGED
    try:
        raw: NDArray[np.generic] | None = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as exc:
        if exc.code == cv2.Error.StsNoMem:
            raise SystemFault(
                "out_of_memory",
                f"no memory to decode a {header.format} of {header.width} x {header.height}",
                "Lower files.max_pixels, or give the station more memory.",
            ) from exc
        raise _undecodable(header) from exc
    if raw is None:
        raise _undecodable(header)
    if sorted(raw.shape[:2]) != sorted((header.height, header.width)):
        raise Unreadable(
            QuarantineReason.UNREADABLE,
            f"{header.format} contradicts itself: its header says {header.width} x "
            f"{header.height}, its data {raw.shape[1]} x {raw.shape[0]}",
        )
    return raw


def _undecodable(header: formats.Header) -> Unreadable:
    return Unreadable(
        QuarantineReason.UNREADABLE,
        f"{header.format} of {header.width} x {header.height}: the decoder fails",
    )


# ------------------------------------------------------------------------------------ conversion


def _bgr(raw: NDArray[np.generic], header: formats.Header) -> Pixels:
    """(height, width), or (height, width, 1 to 4), of any depth, to uint8 (height, width, 3)."""
    if raw.dtype == np.uint8 and raw.ndim == 3 and raw.shape[2] == 3:
        return raw.view(np.uint8)
    height, width = raw.shape[:2]
    channels = raw.shape[2] if raw.ndim == 3 else 1
    if channels not in (1, 3, 4):
        raise Unreadable(
            QuarantineReason.UNREADABLE,
            f"{header.format} with {channels} channels; grey, colour and colour with "
            "transparency are understood",
        )
    raw = raw.reshape(height, width, channels)
    # libtiff multiplies 8-bit colours by their alpha itself; deeper ones come as they are stored
    multiplied = header.format == "TIFF" and raw.dtype == np.uint8
    kind = "premultiplied" if multiplied else header.alpha
    picture = np.empty((height, width, 3), np.uint8)
    visible = False
    rows = max(1, _BAND_PIXELS // width)
    for top in range(0, height, rows):
        band = _eight_bit(raw[top : top + rows], header)
        if channels == 4 and header.alpha != "unused":
            alpha = band[..., 3:]
            visible = visible or bool(alpha.any())
            picture[top : top + rows] = _blended(band[..., :3], alpha, kind)
        else:
            visible = True
            picture[top : top + rows] = band[..., :3]  # one channel is broadcast to three
    if not visible:
        raise Unreadable(QuarantineReason.UNREADABLE, "the picture is transparent everywhere")
    return picture


def _eight_bit(band: NDArray[np.generic], header: formats.Header) -> Pixels:
    if band.dtype == np.uint8:
        return band.view(np.uint8)  # libtiff has turned backward grey scales of this depth round
    if band.dtype == np.uint16:
        # 65535 / 255 = 257, an odd number: no value lies half-way, this is the nearest
        scaled = ((band.astype(np.uint32) + 128) // 257).astype(np.uint8)
    elif np.issubdtype(band.dtype, np.floating):
        values = band.astype(np.float64)
        if not bool(((values >= 0) & (values <= 1)).all()):  # NaN fails as well
            raise Unreadable(
                QuarantineReason.UNREADABLE,
                f"{header.format} with floating-point samples outside 0..1: "
                "what is black and what is white cannot be known",
            )
        scaled = np.rint(values * 255).astype(np.uint8)
    else:
        raise Unreadable(
            QuarantineReason.UNREADABLE,
            f"{header.format} with {band.dtype} samples: "
            "what is black and what is white cannot be known",
        )
    return 255 - scaled if header.white_is_zero else scaled


def _blended(colours: Pixels, alpha: Pixels, kind: formats.Alpha) -> Pixels:
    """``colours`` (h, w, 3) seen over BACKGROUND through ``alpha`` (h, w, 1), to the nearest."""
    if bool((alpha == 255).all()):
        return colours
    opacity = alpha.astype(np.uint32)
    behind = BACKGROUND * (255 - opacity)
    if kind == "straight":
        mixed = (colours * opacity + behind + 127) // 255
    else:
        mixed = np.minimum(colours + (behind + 127) // 255, 255)
    return mixed.astype(np.uint8)


def _turned(picture: Pixels, orientation: int) -> Pixels:
    """Undoes the camera's position; ``orientation`` as EXIF numbers it, 1..8."""
    if orientation >= 5:
        picture = picture.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        picture = picture[:, ::-1]
    if orientation in (3, 4, 7, 8):
        picture = picture[::-1]
    return picture


def _fitted(picture: Pixels) -> Pixels:
    """To SIDE x SIDE. Area averaging is right for shrinking only, so the axes may differ."""
    picture = np.ascontiguousarray(picture)
    height, width = picture.shape[:2]
    if (height, width) == (SIDE, SIDE):
        return picture
    shrunk = (min(width, SIDE), min(height, SIDE))
    if shrunk != (width, height):
        picture = cv2.resize(picture, shrunk, interpolation=cv2.INTER_AREA).view(np.uint8)
    if shrunk != (SIDE, SIDE):
        picture = cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR).view(np.uint8)
    return picture


def _encoded(suffix: str, picture: Pixels, options: list[int]) -> bytes:
    done, data = cv2.imencode(suffix, picture, options)
    if not done:
        raise ValueError(f"cannot encode an array of shape {picture.shape} as {suffix}")
    return data.tobytes()
