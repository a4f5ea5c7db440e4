"""A whole file through OpenCV, or Unreadable if any decoder complained; knows no size that is wanted.

OpenCV stores JPEG, BMP, WebP, TIFF and PNG of every kind; what it decodes is held twice for a moment.
"""

from __future__ import annotations

import threading
import zlib
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from crackwatch.domain import QuarantineReason
from crackwatch.errors import SystemFault, Unreadable
from crackwatch.images.complaints import Complaints
from crackwatch.images.headers import UPRIGHT, Header
from crackwatch.images.png import png_pixels

_TRIES_TO_HEAR = 8
# What a few bytes of a PNG can at most become; up to so much, nobody asks what they do become.
_INFLATED_AT_MOST = 1032
_HARMLESS_BYTES: Final = 256 << 20
_INFLATE_BYTES = 1 << 16  # packed, at a time
_REDUCED: Final = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}

# The caller decodes in threads of its own; OpenCV's pool would only fight them for the cores.
cv2.setNumThreads(0)
# A picture that cannot be decoded is reported once, by us, with its reason.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)

complaints = Complaints()
_second_opinion = threading.Lock()


def left_to_turn(header: Header) -> int:
    """The orientation that ``decoded`` leaves to be undone: OpenCV turns JPEG and TIFF itself."""
    return UPRIGHT if header.format in ("JPEG", "TIFF") else header.orientation


def decoded(data: bytes, header: Header, reduced: int = 1) -> NDArray[np.generic]:
    """What OpenCV makes of the file, if no decoder complained of damage; see ``left_to_turn``.

    (height, width), or (height, width, channels), blue first, of the depth that the file has. A
    JPEG may be asked for at a half, a quarter or an eighth of its sides (``reduced`` 2, 4, 8),
    rounded up: all of its data are read, and heard about, but hardly any memory is needed.

    Raises Unreadable (UNREADABLE), and SystemFault if memory runs out.
    """
    if header.pixels_bytes * _INFLATED_AT_MOST > _HARMLESS_BYTES:
        _require_no_bomb(data, header)
    with complaints.listening() as heard:
        raw = _imdecode(data, header, reduced)
    if heard.damage:
        # Another thread's picture may have been meant. While this lock is held, every other
        # thread with a damaged picture stops here after its first try, so silence returns.
        with _second_opinion:
            for _ in range(_TRIES_TO_HEAR):
                with complaints.listening() as heard:
                    raw = _imdecode(data, header, reduced)
                if not heard.damage or heard.alone:
                    break
        if heard.damage:
            raise Unreadable(
                QuarantineReason.UNREADABLE, f"{header.format} is damaged: {heard.damage}"
            )
    return raw


def _require_no_bomb(data: bytes, header: Header) -> None:
    """Raises Unreadable where a PNG's pixels go on and on behind its last row.

    libpng unpacks all of it, ten seconds for a megabyte, only to throw it away.
    """
    row_bytes = header.width * header.channels * header.sample_bytes
    # rows of an interlaced picture have up to seven beginnings; a little more does no harm either
    most = (row_bytes + 8) * header.height + (1 << 16)
    inflater, found = zlib.decompressobj(), 0
    try:
        for chunk in png_pixels(data):
            for start in range(0, len(chunk), _INFLATE_BYTES):
                packed: bytes | memoryview = chunk[start : start + _INFLATE_BYTES]
                while packed and not inflater.eof:
                    found += len(inflater.decompress(packed, 1 << 20))
                    packed = inflater.unconsumed_tail
                    if found > most:
                        raise Unreadable(
                            QuarantineReason.UNREADABLE,
                            f"PNG is damaged: more pixels than {header.width} x {header.height}",
                        )
    except zlib.error:
        return  # the decoder comes as far as this did, and says so


def _imdecode(data: bytes, header: Header, reduced: int) -> NDArray[np.generic]:
    # JPEG and BMP have neither depth nor transparency to keep, and IMREAD_COLOR is what the models
    # were trained with; it also turns a JPEG upright, where IMREAD_UNCHANGED does not.
    plain = header.format in ("JPEG", "BMP")
    flags = _REDUCED[reduced] if plain else cv2.IMREAD_UNCHANGED
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
    expected = (-(-header.height // reduced), -(-header.width // reduced))
    if sorted(raw.shape[:2]) != sorted(expected):
        raise Unreadable(
            QuarantineReason.UNREADABLE,
            f"{header.format} contradicts itself: its header says {header.width} x "
            f"{header.height}, its data {raw.shape[1]} x {raw.shape[0]}",
        )
    return raw


def _undecodable(header: Header) -> Unreadable:
    return Unreadable(
        QuarantineReason.UNREADABLE,
        f"{header.format} of {header.width} x {header.height}: the decoder fails",
    )
