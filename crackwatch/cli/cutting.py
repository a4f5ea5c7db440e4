"""Wires the decoder of photographs into what cuts labelled squares out of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from crackwatch.images import Limits
    from crackwatch.images.photographs import Photograph
    from crackwatch.review.photographs import Scissors
    from crackwatch.settings import Settings


def limits_of(settings: Settings) -> Limits:
    """What the station decodes, and what it takes for a photograph."""
    from crackwatch import images

    return images.Limits(max_pixels=settings.files.max_pixels, larger=settings.images.larger)


def scissors(settings: Settings) -> Scissors:
    """For parts of photographs at the scale of the model: the champion's, where nobody judged them."""
    from crackwatch import images
    from crackwatch.review.photographs import Scissors

    limits, default = limits_of(settings), scale_of(settings)

    def open_photograph(content: bytes, scale: float | None) -> Photograph:
        from crackwatch.images.photographs import Tiling
        from crackwatch.images.photographs import open_photograph as opened

        tiling = Tiling(settings.images.tile_overlap, default if scale is None else scale)
        return opened(content, limits, tiling)

    return Scissors(open_photograph, images.encode_bmp, b".bmp")


def scale_of(settings: Settings) -> float:
    """The model's pixels to one of a photograph; 1.0 unless station and champion know theirs."""
    from crackwatch.errors import ModelError
    from crackwatch.registry import Registry

    own = settings.images.mm_per_px
    if own is None:
        return 1.0
    registry = Registry(settings.folders.models)
    try:
        champion = registry.champion()
        theirs = registry.card(champion).mm_per_px if champion is not None else None
    except ModelError:  # whoever labels pictures needs no model
        return 1.0
    return 1.0 if theirs is None else own / theirs
