"""Draws concrete, with a crack or without, the same to the last bit everywhere; knows no model.

The pictures serve the tests, the demo and the golden sets that travel with models. Nothing here is
fitted to any model, and no recipe that trains the shipped one may use it. To be the same on every
processor and with every numpy, pixels are made only from raw PCG64 bits, whole numbers, and single
additions, multiplications, divisions, square roots, roundings and comparisons of floats, all of
which IEEE 754 defines exactly; no library function that may be vectorised differently elsewhere
(sin, exp, sums of floats, filters) has a part in it. Changing anything here changes what golden
sets mean: a test pins the result.

``chance`` and ``fields`` are what ``concrete``, ``brick``, ``cracks`` and ``camera`` are made with.
"""

from __future__ import annotations

from typing import Final

from crackwatch.runtime import SIDE
from crackwatch.synthetic import brick, camera, concrete, cracks
from crackwatch.synthetic.camera import Picture
from crackwatch.synthetic.chance import Dice

SURFACES: Final = ("concrete", "brick")


def draw(seed: int, *, crack: bool, side: int = SIDE, surface: str = "concrete") -> Picture:
    """One picture, uint8 (side, side, 3) BGR; the same arguments give the same bytes, for ever.

    The same ``seed`` with and without ``crack`` shows the same surface in the same light. ``side``
    is in pixels, at least 32; ``surface`` is one of ``SURFACES``. Raises ValueError for others.
    """
    if surface not in SURFACES:
        raise ValueError(f"surface is {surface!r}; it must be one of {', '.join(SURFACES)}")
    if seed < 0 or side < 32:
        raise ValueError(f"seed is {seed} and side {side}; they must be at least 0 and 32")
    ground = Dice(seed, 0)
    colours = (
        concrete.surface(ground, side) if surface == "concrete" else brick.surface(ground, side)
    )
    if crack:
        colours = cracks.cracked(Dice(seed, 1), colours)
    return camera.photographed(Dice(seed, 2), colours)
