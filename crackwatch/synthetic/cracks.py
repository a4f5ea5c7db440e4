"""A crack through a surface: where it runs, how wide it is, how its flanks catch the light."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crackwatch.synthetic import fields
from crackwatch.synthetic.chance import Dice
from crackwatch.synthetic.fields import Colours


@dataclass(frozen=True, slots=True)
class _Heading:
    """A direction of length 1, in pixels down and right."""

    down: float
    right: float

    def turned(self, by: float) -> _Heading:
        """Leaning to its left by ``by`` (0.5: 27 degrees), still of length 1."""
        down, right = self.down - self.right * by, self.right + self.down * by
        length = float(np.sqrt(down * down + right * right))
        return _Heading(down / length, right / length)

    def back(self) -> _Heading:
        return _Heading(-self.down, -self.right)


def cracked(dice: Dice, colours: Colours) -> Colours:
    side = colours.shape[1]
    faint = dice.chance(0.12)
    radius = dice.pick((0.9, 1.2, 1.6, 2.1, 2.7, 3.5, 4.5, 5.7, 7.2)) * dice.between(0.85, 1.2)
    radius = min(radius, 1.2) if faint else radius
    strength = dice.between(0.40, 0.60) if faint else dice.between(0.78, 1.0)
    paths = _paths(dice, side, radius)
    softness = dice.between(1.0, 2.2)
    dots = fields.Dots(*(np.array(column) for column in zip(*paths, strict=True)))
    cover = fields.stamped(dots, side, softness)
    cover = fields.warped(cover, dice, min(3.0, 0.8 + radius * 0.4), 3.5 + radius)
    # one flank catches the light, the other lies in the shade of a chipped edge
    down, right = dice.pick((-2, -1, 1, 2)), dice.whole(-2, 2)
    rim = np.clip(fields.shifted(cover, int(down), right) - cover, 0.0, 1.0)
    broken = fields.ramp(fields.clouds(dice, side, 14), -0.1, 0.25)
    rim = rim * broken * dice.between(0.0, 0.9)
    colours = colours + (236.0 - colours) * rim
    # dirt and the crack's own wall make the inside uneven; it is seldom black
    inside = dice.between(16, 46) * (1.0 + fields.clouds(dice, side, 6) * 0.9)
    tint = (dice.between(0.85, 1.05), 1.0, dice.between(1.0, 1.15))
    inside = np.stack([inside * each for each in tint])
    share = cover * strength * (1.0 - fields.ramp(fields.clouds(dice, side, 11), 0.12, 0.5) * 0.45)
    return colours + (inside - colours) * share


Point = tuple[float, float, float, float]  # y, x, radius, strength


def _paths(dice: Dice, side: int, radius: float) -> list[Point]:
    """A crack from edge to edge through the middle half, and perhaps branches of it."""
    down, right = dice.between(-1, 1), dice.between(-1, 1)
    length = max(float(np.sqrt(down * down + right * right)), 1e-3)
    heading = _Heading(down / length, right / length) if length > 0.05 else _Heading(1.0, 0.0)
    y, x = side * dice.between(0.25, 0.75), side * dice.between(0.25, 0.75)
    restless = dice.between(0.10, 0.34)
    ahead = _walk(dice, side, (y, x), heading, restless, radius, taper=False)
    behind = _walk(dice, side, (y, x), heading.back(), restless, radius, taper=False)
    points = behind[::-1] + ahead
    branches = dice.pick((0, 0, 0, 1, 1, 2))
    trunk = len(points)
    for _ in range(int(branches)):
        y, x, width, _ = points[int(dice.between(0.15, 0.85) * trunk)]
        lean = dice.between(0.6, 1.6) * (1.0 if dice.chance(0.5) else -1.0)
        towards = (heading if dice.chance(0.5) else heading.back()).turned(lean)
        narrower = max(0.6, width * dice.between(0.35, 0.7))
        points += _walk(dice, side, (y, x), towards, restless, narrower, taper=dice.chance(0.6))
    return points


def _walk(
    dice: Dice,
    side: int,
    start: tuple[float, float],
    main: _Heading,
    restless: float,
    radius: float,
    *,
    taper: bool,
) -> list[Point]:
    """Steps of about a pixel until the picture's edge, or until a tapering branch has thinned out.

    The heading strays a little at each step, kinks now and then, and is drawn back to ``main``.
    """
    points: list[Point] = []
    (y, x), heading = start, main
    longest = int(side * dice.between(0.25, 0.6)) if taper else 3 * side
    width = goal = 1.0
    depth = depth_goal = 1.0
    margin = radius + 4.0
    for step in range(longest):
        if not (-margin < y < side + margin and -margin < x < side + margin):
            break
        if step % 9 == 0:  # how wide and how open the next stretch will be
            goal = dice.between(0.55, 1.5)
            depth_goal = dice.between(0.7, 1.15)
        width += (goal - width) * 0.18
        depth += (depth_goal - depth) * 0.12
        left = 1.0 - step / longest if taper else 1.0
        ragged = dice.between(0.9, 1.1)
        points.append((y, x, max(0.45, radius * width * ragged * left), min(1.0, depth)))
        stray = dice.between(-1, 1) * restless
        if dice.chance(0.05):
            stray += dice.between(-1, 1) * 1.1
        heading = heading.turned(stray)
        down, right = heading.down + main.down * 0.13, heading.right + main.right * 0.13
        size = max(float(np.sqrt(down * down + right * right)), 1e-3)
        heading = _Heading(down / size, right / size)
        y, x = y + heading.down, x + heading.right
    return points
