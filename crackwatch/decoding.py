"""What a file shows, by one station's settings: its limits, its overlap, its scale.

The daemon and ``classify`` see pictures through here alike. Knows settings and decoders; no model,
only its scale, and no verdict.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable

from crackwatch import inbox as inbox_module
from crackwatch import scales
from crackwatch.domain import Arrival
from crackwatch.errors import Unreadable
from crackwatch.images import Limits
from crackwatch.images.photographs import Tiling, cost_bytes, look
from crackwatch.runtime import SIDE
from crackwatch.settings import Settings
from crackwatch.views import Decoded

CROP_BYTES = SIDE * SIDE * 3


class Decoder:
    """From a file's bytes to a crop, or to a photograph that is cut as it is read.

    ``model_mm_per_px`` is the scale at which a model learned, None where nobody knows. Only with it
    and the station's own (``[images] mm_per_px``) are photographs resampled.
    """

    def __init__(self, settings: Settings) -> None:
        self._images = settings.images
        self.limits = Limits(settings.files.max_pixels, settings.images.larger)

    def __call__(self, data: bytes, model_mm_per_px: float | None) -> Decoded:
        """Raises Unreadable as ``images.photographs.look`` does."""
        return look(data, self.limits, self._tiling(model_mm_per_px))

    def cost_bytes(self, data: bytes, model_mm_per_px: float | None) -> int:
        """What the picture will hold while it is decoded, by its header. Raises Unreadable."""
        return cost_bytes(data, self.limits, self._tiling(model_mm_per_px))

    def _tiling(self, model_mm_per_px: float | None) -> Tiling:
        scale = scales.factor(self._images.mm_per_px, model_mm_per_px)
        return Tiling(self._images.tile_overlap, scale)


class Cost:
    """What a settled picture of the inbox will hold while it is decoded, in bytes.

    The file is read for its header, without following links. One that is gone, that is damaged or
    that will be refused holds no more than a crop does. ``model_mm_per_px`` asks for the scale of
    the model in force.
    """

    def __init__(
        self,
        decoder: Decoder,
        inbox: bytes,
        max_bytes: int,
        model_mm_per_px: Callable[[], float | None],
    ) -> None:
        self._decoder = decoder
        self._inbox = inbox
        self._max_bytes = max_bytes
        self._model_mm_per_px = model_mm_per_px

    def __call__(self, arrival: Arrival) -> int:
        size_bytes = arrival.fingerprint.size_bytes
        if size_bytes > self._max_bytes:
            return CROP_BYTES
        try:
            data = self._read(arrival.source, size_bytes)
            return max(CROP_BYTES, self._decoder.cost_bytes(data, self._model_mm_per_px()))
        except (OSError, Unreadable):
            return CROP_BYTES

    def _read(self, source: bytes, size_bytes: int) -> bytes:
        folder = inbox_module.open_folder(self._inbox)
        try:
            descriptor = inbox_module.open_beneath(folder, source)
        finally:
            os.close(folder)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return b""  # something else has taken the name
            with open(descriptor, "rb", buffering=0, closefd=False) as file:
                return file.read(size_bytes)
        finally:
            os.close(descriptor)
