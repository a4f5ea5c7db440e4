"""The surface of concrete: relief, colour, stains, joints, scratches, pores."""

from __future__ import annotations

import numpy as np

from crackwatch.runtime import SIDE
from crackwatch.synthetic import fields
from crackwatch.synthetic.chance import Dice
from crackwatch.synthetic.fields import Colours, Plane


def surface(dice: Dice, side: int) -> Colours:
    """The surface itself, before light and lens."""
    relief = _relief(dice, side)
    colours = _tinted(dice, relief)
    for _ in range(int(dice.pick((0, 0, 1, 1, 2)))):
        colours = _stained(dice, colours)
    if dice.chance(0.12):
        colours = _jointed(dice, colours)
    if dice.chance(0.12):
        colours = _scratched(dice, colours)
    return _pitted(dice, colours)


def _relief(dice: Dice, side: int) -> Plane:
    """The surface's lightness around 1: broad clouds, blotches, and grain lit from one side."""
    kind = dice.unit()
    lightness = 1.0 + fields.clouds(dice, side, 90) * dice.between(0.02, 0.10)
    lightness = lightness + fields.clouds(dice, side, 28) * dice.between(0.02, 0.11)
    stretch = dice.between(1.0, 2.0)
    lightness = lightness + fields.clouds(dice, side, 11, stretch=stretch) * dice.between(
        0.02, 0.10
    )
    lightness = lightness + fields.clouds(dice, side, 5) * dice.between(0.02, 0.10)
    speckle = fields.clouds(dice, side, 2.6)
    lightness = lightness + speckle * dice.between(0.02, 0.08)
    # small hollows: the darkest tenth of the speckle, where the surface is not troweled shut
    lightness = lightness - fields.ramp(-speckle, 0.26, 0.45) * dice.between(0.0, 0.16)
    if kind < 0.25:  # rough: stones and hollows that throw shadows
        bumps = fields.clouds(dice, side, dice.between(4, 9), stretch=dice.between(1.0, 1.6))
        bumps = bumps + speckle * 0.5
        step = dice.whole(1, 2)
        lit = bumps - fields.shifted(bumps, step, dice.whole(-step, step))
        lightness = lightness + lit * dice.between(0.15, 0.45)
    elif kind < 0.45:  # trowelled or brushed: long ridges
        long, tilt = dice.between(4, 9), dice.between(-5, 5)
        ridges = fields.clouds(dice, side, dice.between(3, 6), stretch=long, tilt=tilt)
        lit = ridges - fields.shifted(ridges, 1, 1)
        lightness = lightness + ridges * 0.05 + lit * dice.between(0.05, 0.20)
    grain = fields.grain(dice, side, 1)
    return lightness + grain * dice.between(0.04, 0.18)


def _tinted(dice: Dice, lightness: Plane) -> Colours:
    """Grey to beige, from dark to nearly white."""
    level = 122.0 + (dice.unit() + dice.unit()) * 49.0
    warmth = dice.unit()
    blue = warmth * dice.between(6, 17) + dice.between(-1, 4)
    red = warmth * dice.between(2, 11) + dice.between(-1, 3)
    # beige does not come evenly: it drifts a little over the surface
    drift = fields.clouds(dice, lightness.shape[0], 60) * dice.between(0, 8)
    return np.stack(
        (
            lightness * (level - blue) - drift,
            lightness * level,
            lightness * (level + red) + drift * 0.5,
        )
    )


def _stained(dice: Dice, colours: Colours) -> Colours:
    """A patch of damp or soot, with soft borders, or one of whitewash, with torn ones."""
    side = colours.shape[1]
    shape = fields.clouds(dice, side, dice.between(45, 90)) + fields.clouds(dice, side, 19) * 0.5
    shape = shape + fields.clouds(dice, side, 7) * 0.35 + fields.clouds(dice, side, 3) * 0.12
    low = dice.between(0.18, 0.42)
    patchy = 1.0 + fields.clouds(dice, side, 5) * 0.9
    if dice.chance(0.6):
        share = fields.ramp(shape, low, low + dice.between(0.15, 0.5)) * dice.between(0.08, 0.38)
        return colours * (1.0 - share * patchy)
    share = fields.ramp(shape, low, low + dice.between(0.06, 0.3)) * dice.between(0.12, 0.55)
    return colours + (228.0 - colours) * (share * patchy)


def _jointed(dice: Dice, colours: Colours) -> Colours:
    """The seam of two formwork boards: straight, soft, lit on one side; or two shades that meet."""
    distance = fields.line(dice, colours.shape[1])
    width = dice.between(2.0, 6.0)
    seam = 1.0 - fields.ramp(np.abs(distance), 0.0, width)
    lit = (1.0 - fields.ramp(np.abs(distance - width), 0.0, width)) * dice.between(0.02, 0.10)
    board = fields.ramp(distance, -1.5, 1.5) * dice.between(-0.08, 0.08)
    return colours * (1.0 + board + lit - seam * dice.between(0.03, 0.14))


def _scratched(dice: Dice, colours: Colours) -> Colours:
    """A straight pale scratch that begins and ends."""
    side = colours.shape[1]
    width = dice.between(0.8, 2.2)
    line = 1.0 - fields.ramp(np.abs(fields.line(dice, side)), width * 0.3, width)
    ends = fields.ramp(fields.clouds(dice, side, side / 3.0), -0.05, 0.10)
    share = line * ends * dice.between(0.15, 0.45)
    return colours + (235.0 - colours) * share


def _pitted(dice: Dice, colours: Colours) -> Colours:
    """Pores with a lit lower rim, a few bug holes, and pale specks."""
    side = colours.shape[1]
    area = side * side / float(SIDE * SIDE)
    many = int(dice.whole(0, 30) * dice.unit() * area) + dice.whole(0, 3)
    few = dice.whole(1, 3) if dice.chance(0.3) else 0
    pores = _scattered(dice, side, many, 0.6, 1.9)
    holes = _scattered(dice, side, few, 2.5, 5.5)
    dark = np.maximum(fields.stamped(pores, side, 1.4), fields.stamped(holes, side, 2.2))
    dark = fields.warped(dark, dice, 2.4, 3.5) * dice.between(0.45, 0.95)
    rim = np.clip(fields.shifted(dark, 2, 1) - dark, 0.0, 1.0) * dice.between(0.1, 0.5)
    colours = colours * (1.0 - dark * 0.75)
    colours = colours + (240.0 - colours) * rim
    specks = _scattered(dice, side, int(dice.whole(0, 14) * dice.unit() * area), 0.5, 2.2)
    if not specks.y.size:
        return colours
    pale = fields.warped(fields.stamped(specks, side, 1.5), dice, 1.6, 3.0) * dice.between(0.3, 0.8)
    return colours + (238.0 - colours) * pale


def _scattered(dice: Dice, side: int, count: int, low: float, high: float) -> fields.Dots:
    values = dice.units(4, count)
    radius = low + values[2] * values[2] * (high - low)
    return fields.Dots(values[0] * side, values[1] * side, radius, 0.5 + values[3] * 0.5)
