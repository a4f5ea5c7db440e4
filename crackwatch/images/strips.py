"""A photograph from top to bottom, a few rows at a time, through libvips; knows no tiles.

libvips is told which of its decoders to use and may use no other: what a file is, our own header
check has found out. It reads in the calling thread, keeps nothing for later, and holds some hundred
rows at most (measured: see docs/photographs.md). Its baseline JPEG, PNG and TIFF come out as
OpenCV's do, bit for bit; tests/test_photographs.py holds it to that.
"""

from __future__ import annotations

import logging
import os
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from crackwatch.domain import QuarantineReason
from crackwatch.errors import Unreadable
from crackwatch.images import conversion
from crackwatch.images.conversion import Pixels
from crackwatch.images.exif import without
from crackwatch.images.headers import Header

# Before libvips is loaded, which reads it then. We ask in threads of our own.
os.environ.setdefault("VIPS_CONCURRENCY", "1")

import pyvips

_ROWS: Final = 16  # asked for at a time: a JPEG's row of blocks
_LOADERS: Final = {"JPEG": "jpegload_source", "PNG": "pngload_source", "TIFF": "tiffload_source"}
_CLASSES: Final = (
    "VipsForeignLoadJpegSource",
    "VipsForeignLoadPngSource",
    "VipsForeignLoadTiffSource",
)
Samples = NDArray[np.integer[Any]]

_DEPTHS: Final[dict[str, type[np.integer[Any]]]] = {"uchar": np.uint8, "ushort": np.uint16}

# What goes wrong is raised; the same again in the journal would only be noise.
logging.getLogger("pyvips").setLevel(logging.CRITICAL)
pyvips.cache_set_max(0)
pyvips.concurrency_set(1)
pyvips.operation_block_set("VipsForeignLoad", True)
for _allowed in _CLASSES:
    pyvips.operation_block_set(_allowed, False)


class Strips:
    """The rows of one sequential picture (``Header.sequential``), as they are stored, once.

    Raises Unreadable (UNREADABLE) here and in ``read_into`` where the decoder fails. A JPEG's
    missing data are made up without a word: ask ``whole.decoded`` about its health first.
    """

    def __init__(self, data: bytes, header: Header) -> None:
        self._header = header
        self._at = 0
        self._visible = False
        if header.exif:
            # libvips has EXIF read by a library of its own, which a few bytes that lead round in
            # circles keep busy for half a minute; what we need of it, the header has
            data = without(data, header.exif)
        try:
            self._source = pyvips.Source.new_from_memory(data)  # not copied, so held on to
            # a JPEG's complaints have been heard, and those that remain are harmless
            fail_on = "none" if header.format == "JPEG" else "warning"
            self._image: Any = pyvips.Operation.call(
                _LOADERS[header.format], self._source, access="sequential", fail_on=fail_on
            )
            self._region = pyvips.Region.new(self._image)
        except pyvips.Error as exc:
            raise self._failed(exc) from exc
        size = (self._image.width, self._image.height)
        if size != (header.width, header.height):
            raise Unreadable(
                QuarantineReason.UNREADABLE,
                f"{header.format} contradicts itself: its header says {header.width} x "
                f"{header.height}, its data {size[0]} x {size[1]}",
            )

    def read_into(self, rows: Pixels) -> None:
        """The next rows, as many as ``rows`` (n, width, 3) has; BGR, 0..255."""
        for top in range(0, len(rows), _ROWS):
            part = rows[top : top + _ROWS]
            self._convert(self._fetch(len(part)), part)
        if self._at == self._header.height and not self._visible:
            raise conversion.invisible()

    def _fetch(self, count: int) -> Samples:
        """(count, width, channels), red first, of the depth that the file has."""
        image = self._image
        try:
            raw = self._region.fetch(0, self._at, image.width, count)
        except pyvips.Error as exc:
            raise self._failed(exc) from exc
        self._at += count
        depth = _DEPTHS.get(image.format)
        if depth is None:
            raise Unreadable(
                QuarantineReason.UNREADABLE,
                f"{self._header.format} with {image.format} samples: "
                "what is black and what is white cannot be known",
            )
        return np.frombuffer(raw, depth).reshape(count, image.width, image.bands)

    def _convert(self, raw: Samples, into: Pixels) -> None:
        bands = raw.shape[2]
        if raw.dtype == np.uint8 and bands in (1, 3):  # nearly every photograph
            cv2.cvtColor(raw, cv2.COLOR_GRAY2BGR if bands == 1 else cv2.COLOR_RGB2BGR, dst=into)
            self._visible = True
            return
        blue_first: NDArray[np.generic] = raw
        if bands == 2:
            blue_first = raw[..., [0, 0, 0, 1]]
        elif bands >= 3:
            code = cv2.COLOR_RGB2BGR if bands == 3 else cv2.COLOR_RGBA2BGRA
            blue_first = cv2.cvtColor(raw, code)
        self._visible = conversion.convert(blue_first, self._header, into) or self._visible

    def _failed(self, exc: pyvips.Error) -> Unreadable:
        header = self._header
        said = " ".join(str(exc.detail).split())[:200]
        return Unreadable(
            QuarantineReason.UNREADABLE,
            f"{header.format} of {header.width} x {header.height}: the decoder fails"
            + (f" ({said})" if said else ""),
        )
