"""What lens, light and sensor make of a surface: the picture."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from crackwatch.synthetic import fields
from crackwatch.synthetic.chance import Dice
from crackwatch.synthetic.fields import Colours

Picture = NDArray[np.uint8]  # (side, side, 3), BGR


def _softened(colours: Colours, share: float) -> Colours:
    """Each pixel mixed with its left and right neighbours, 1 : 2 : 1 where ``share`` is 1."""
    soft = colours.copy(order="K")
    neighbours = colours[:, :, :-2] + colours[:, :, 2:]
    soft[:, :, 1:-1] += (neighbours * 0.5 - colours[:, :, 1:-1]) * (share * 0.5)
    return soft


def photographed(dice: Dice, colours: Colours) -> Picture:
    """The lens's softness, uneven light, now and then a shadow, noise; rounded to bytes."""
    side = colours.shape[1]
    colours = _softened(colours, dice.between(0.4, 1.0))
    colours = _softened(colours.swapaxes(1, 2), dice.between(0.4, 1.0)).swapaxes(1, 2)
    down = (np.arange(side) / side - 0.5)[:, None] * dice.between(-0.10, 0.10)
    across = (np.arange(side) / side - 0.5)[None, :] * dice.between(-0.10, 0.10)
    light = 1.0 + down + across
    if dice.chance(0.08):
        shadow = fields.ramp(fields.line(dice, side), -dice.between(6, 30), dice.between(6, 30))
        light = light * (1.0 - shadow * dice.between(0.08, 0.30))
    noise = fields.grain(dice, side, 1) * dice.between(3, 11)
    exposed = colours * light + noise
    exposed[0] += fields.grain(dice, side, 2) * 10.0  # colour noise is coarser, blue the noisiest
    exposed[2] += fields.grain(dice, side, 2) * 7.0
    rounded = np.floor(np.clip(exposed, 0.0, 255.0) + 0.5).astype(np.uint8)
    return np.ascontiguousarray(rounded.transpose(1, 2, 0))
