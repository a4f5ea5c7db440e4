"""A whole file through OpenCV, or Unreadable if any decoder complained; knows no size that is wanted.

OpenCV stores JPEG, BMP, WebP, TIFF and PNG of every kind; what it decodes is held twice for a moment.
"""

from __future__ import annotations

import threading
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from crackwatch.domain import QuarantineReason
from crackwatch.errors import SystemFault, Unreadable
from crackwatch.images import formats
from crackwatch.images.complaints import Complaints

_TRIES_TO_HEAR = 8
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


def left_to_turn(header: formats.Header) -> int:
    """The orientation that ``decoded`` leaves to be undone: OpenCV turns JPEG and TIFF itself."""
    return formats.UPRIGHT if header.format in ("JPEG", "TIFF") else header.orientation


def decoded(data: bytes, header: formats.Header, reduced: int = 1) -> NDArray[np.generic]:
    """What OpenCV makes of the file, if no decoder complained of damage; see ``left_to_turn``.

    (height, width), or (height, width, channels), blue first, of the depth that the file has. A
    JPEG may be asked for at a half, a quarter or an eighth of its sides (``reduced`` 2, 4, 8),
    rounded up: all of its data are read, and heard about, but hardly any memory is needed.

    Raises Unreadable (UNREADABLE), and SystemFault if memory runs out.
    """
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


def _imdecode(data: bytes, header: formats.Header, reduced: int) -> NDArray[np.generic]:
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


def _undecodable(header: formats.Header) -> Unreadable:
    return Unreadable(
        QuarantineReason.UNREADABLE,
        f"{header.format} of {header.width} x {header.height}: the decoder fails",
    )
