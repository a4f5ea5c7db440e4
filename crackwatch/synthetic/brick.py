"""A wall of bricks: what a model of concrete was not taught."""

from __future__ import annotations

import numpy as np

from crackwatch.synthetic import fields
from crackwatch.synthetic.chance import Dice
from crackwatch.synthetic.fields import Colours


def surface(dice: Dice, side: int) -> Colours:
    """Courses of bricks with mortar between them; for what a model was not taught."""
    height, width = dice.between(34, 60), dice.between(90, 150)
    mortar = dice.between(5, 9)
    rows = np.arange(side) + dice.between(0, height)
    course = np.floor(rows / height)
    columns = np.arange(side)[None, :] + dice.between(0, width)
    columns = columns + ((course % 2.0) * (width / 2.0))[:, None]
    stone = np.floor(columns / width)
    down = rows - course * height
    right = columns - stone * width
    edge = np.minimum(np.minimum(down, height - down)[:, None], np.minimum(right, width - right))
    edge = edge + fields.clouds(dice, side, 5) * 3.0
    shades = dice.units(int(course.max()) + 1, int(stone.max()) + 1)
    shade = shades[course.astype(np.intp)[:, None], stone.astype(np.intp)] * 0.3 + 0.85
    texture = 1.0 + fields.clouds(dice, side, 4) * 0.12 + fields.grain(dice, side, 1) * 0.4
    bricks = np.stack([shade * texture * each for each in (62.0, 82.0, 148.0)])
    grey = texture * dice.between(150, 190)
    joints = np.stack([grey * each for each in (0.95, 0.98, 1.0)])
    share = fields.ramp(edge, mortar / 2.0, mortar / 2.0 + 2.0)
    return joints + (bricks - joints) * share
