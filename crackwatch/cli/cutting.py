"""Wires the decoder of photographs into what cuts labelled squares out of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from crackwatch.dataset.cutting import Tools
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


def tools(settings: Settings) -> Tools:
    """For labelled photographs that were never inspected; those of the station's scale."""
    from crackwatch import images
    from crackwatch.dataset.cutting import Tools
    from crackwatch.errors import Unreadable
    from crackwatch.images import formats
    from crackwatch.images.photographs import Tiling, open_photograph

    limits = images.Limits(max_pixels=settings.files.max_pixels, larger="tile")
    tiling = Tiling(settings.images.tile_overlap, scale_of(settings))

    def opened(content: bytes) -> Photograph:
        if not images.is_photograph(content, limits):
            width, height = images.dimensions(content)
            raise ValueError(
                f"{width} x {height} is a single crop: 'crackwatch dataset import' without --tiles "
                "takes such in"
            )
        return open_photograph(content, limits, tiling)

    def mask(content: bytes) -> Photograph:
        try:
            header = formats.read_header(content)
            if header.format == "JPEG":
                raise ValueError(
                    "its mask is a JPEG, whose black is seldom 0: save masks as PNG, BMP or TIFF"
                )
            if header.channels in (2, 4):
                raise ValueError("its mask has transparency: save it as grey, 0 where no crack is")
            return opened(content)
        except Unreadable as exc:
            raise ValueError(f"its mask: {exc}") from exc

    return Tools(opened, mask, images.encode_bmp)


def scale_of(settings: Settings) -> float:
    """The model's pixels to one of a photograph; 1.0 unless station and champion know theirs."""
    from crackwatch import scales
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
    return scales.factor(own, theirs)
