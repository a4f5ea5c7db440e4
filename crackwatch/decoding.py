"""What a file shows, by one station's settings: its limits, its overlap, its scale.

The daemon and ``classify`` see pictures through here alike. Knows settings and decoders; no model,
only its scale, and no verdict.
"""

from __future__ import annotations

from crackwatch.images import Limits
from crackwatch.images.photographs import Tiling, cost_bytes, look
from crackwatch.settings import Settings
from crackwatch.views import Decoded


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
        own = self._images.mm_per_px
        if own is None or model_mm_per_px is None:
            return Tiling(self._images.tile_overlap)
        return Tiling(self._images.tile_overlap, own / model_mm_per_px)
