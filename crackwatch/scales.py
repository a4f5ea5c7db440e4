"""How a station's photographs compare with what a model learned from, in millimetres a pixel.

Knows numbers alone: no picture, no settings, no model.
"""

from __future__ import annotations

from typing import Final

# Up to this factor either way photographs are brought to a model's scale and nothing is said. It is
# a choice, not a measurement: beyond it a line one pixel wide is spread over more than two, or is
# left with less than half of its contrast. Models learn from zooms of a quarter at most.
FAR: Final = 2.0


def factor(own_mm_per_px: float | None, model_mm_per_px: float | None) -> float:
    """The model's pixels to one of a photograph; 1.0 unless both scales are known."""
    if own_mm_per_px is None or model_mm_per_px is None:
        return 1.0
    return own_mm_per_px / model_mm_per_px


def complaint(
    own_mm_per_px: float | None, model_mm_per_px: float | None, model_id: str
) -> tuple[str, str] | None:
    """What is wrong, and the remedy, where the two differ by more than FAR; None where all is well."""
    times = factor(own_mm_per_px, model_mm_per_px)
    if 1 / FAR <= times <= FAR:
        return None
    if times > 1:
        happens = f"are enlarged {times:.2g} times, and what is finer than their own pixels is not in them"
        remedy = "bring the camera closer, or "
    else:
        happens = f"are shrunk {1 / times:.2g} times, and what is finer than that is averaged away"
        remedy = ""
    return (
        f"a pixel shows {own_mm_per_px:g} mm here ([images] mm_per_px), and {model_mm_per_px:g} mm in "
        f"the pictures that {model_id} learned from: photographs {happens}",
        f"Check [images] mm_per_px. If it is right, {remedy}retrain on crops at this station's own "
        f"scale: 'crackwatch retrain --data DIR --mm-per-px {own_mm_per_px:g}'.",
    )
