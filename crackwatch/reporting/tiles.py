"""What a photograph's tiles came to, as JSON and in a few words; knows no report and no book."""

from __future__ import annotations

from dataclasses import asdict
from math import floor, log10
from typing import Any

from crackwatch.domain import Photograph
from crackwatch.tiled_words import rule_text

_MEANT_DIGITS = 2  # of a length: it is indicative, to within about a tile


def document(photograph: Photograph) -> dict[str, Any]:
    """The keys that an entry of JSON has more if it was judged in tiles.

    Boxes are in the photograph's own upright pixels, the highest score first; ``length_mm`` is
    indicative, null where it is not known.
    """
    return {
        "tiles": photograph.tiles,
        "tiles_over": photograph.tiles_over,
        "min_tiles": photograph.min_tiles,
        "boxes": [asdict(each) for each in photograph.boxes],
        "width": photograph.width,
        "height": photograph.height,
        "length_mm": photograph.length_mm,
        "second_look_from": photograph.second_look_from,
    }


def judged_text(min_tiles: int | None) -> str:
    """What a threshold was for: single pictures, or the tiles of photographs."""
    return "single pictures" if min_tiles is None else f"photographs, {rule_text(min_tiles)}"


def found_text(photograph: Photograph | None) -> str:
    """How much of a photograph was over the threshold; "" for a single picture."""
    if photograph is None:
        return ""
    text = f"{photograph.tiles_over:,} of {photograph.tiles:,} tiles"
    if photograph.length_mm is None:
        return text
    return f"{text}, {length_text(photograph.length_mm)}"


def length_text(length_mm: float) -> str:
    """A length above 0, no finer than it is meant: "about 120 mm, indicative"."""
    rounded = round(length_mm, _MEANT_DIGITS - 1 - floor(log10(length_mm)))
    return f"about {rounded:,.10g} mm, indicative"
