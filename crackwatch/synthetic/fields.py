"""What surfaces, cracks and light are made of: smooth noise, grain, dots and lines."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crackwatch.synthetic.chance import Dice

Plane = NDArray[np.float64]  # (side, side)
Colours = NDArray[np.float64]  # (3, side, side): blue, green, red; 0..255


def grain(dice: Dice, side: int, radius: int) -> Plane:
    """Noise averaged over squares of 2 * ``radius`` + 1 pixels; about -0.5..0.5."""
    width = 2 * radius + 1
    noise = dice.grains(side + 2 * radius, side + 2 * radius)
    for _ in range(2):  # down the columns, then the same along the rows
        sums = np.cumsum(noise, axis=0, dtype=np.int32)
        upper = np.zeros((side, noise.shape[1]), np.int32)
        upper[1:] = sums[: side - 1]
        noise = np.ascontiguousarray((sums[width - 1 :] - upper).T)
    return noise / float(width * width * 255) - 0.5


def clouds(dice: Dice, side: int, cell: float, *, stretch: float = 1.0, tilt: float = 0.0) -> Plane:
    """Smooth noise with features about ``cell`` pixels wide; -0.5..0.5.

    Features are ``stretch`` times as long across as down, and lean by ``tilt`` pixels a row.
    """
    rows = np.arange(side) / cell + dice.unit()
    columns = np.arange(side)[None, :] / (cell * stretch) + dice.unit()
    if tilt:
        columns = columns + (np.arange(side) * (tilt / (cell * stretch)))[:, None]
        columns = columns - columns.min()
    top, left = np.floor(rows).astype(np.intp), np.floor(columns).astype(np.intp)
    down, across = eased(rows - top)[:, None], eased(columns - left)
    knots = dice.units(int(top[-1]) + 2, int(left.max()) + 2) - 0.5
    if not tilt:  # the few rows of knots first, then all rows from them
        wide = knots[:, left[0]]
        wide += (knots[:, left[0] + 1] - wide) * across
        return between(wide[top], wide[top + 1], down)
    flat, stride = knots.ravel(), knots.shape[1]
    at = top[:, None] * stride + left
    upper = between(flat[at], flat[at + 1], across)
    lower = between(flat[at + stride], flat[at + stride + 1], across)
    return between(upper, lower, down)


def between(start: Plane, end: Plane, share: NDArray[np.float64]) -> Plane:
    """``start`` where ``share`` is 0, ``end`` where it is 1."""
    mixed: Plane = start + (end - start) * share
    return mixed


def eased(share: NDArray[np.float64]) -> NDArray[np.float64]:
    """0..1 to 0..1 with level ends."""
    eased: NDArray[np.float64] = share * share * (3.0 - 2.0 * share)
    return eased


def ramp(values: Plane, low: float, high: float) -> Plane:
    """0 below ``low``, 1 above ``high``, eased between."""
    return eased(np.minimum(np.maximum((values - low) / (high - low), 0.0), 1.0))


def shifted(plane: Plane, down: int, right: int) -> Plane:
    """``plane`` moved by whole pixels, its border repeated."""
    side = plane.shape[0]
    rows = np.clip(np.arange(side) - down, 0, side - 1)
    columns = np.clip(np.arange(side) - right, 0, side - 1)
    moved: Plane = plane[rows][:, columns]
    return moved


def warped(plane: Plane, dice: Dice, reach: float, cell: float) -> Plane:
    """``plane`` with its outlines torn by up to ``reach`` pixels."""
    side = plane.shape[0]
    down = np.floor(clouds(dice, side, cell) * (2 * reach) + 0.5).astype(np.intp)
    right = np.floor(clouds(dice, side, cell) * (2 * reach) + 0.5).astype(np.intp)
    rows = np.clip(np.arange(side)[:, None] + down, 0, side - 1)
    columns = np.clip(np.arange(side)[None, :] + right, 0, side - 1)
    torn: Plane = plane[rows, columns]
    return torn


@dataclass(frozen=True, slots=True)
class Dots:
    """Soft discs: centres and radii in pixels, strengths 0..1; all (N,)."""

    y: NDArray[np.float64]
    x: NDArray[np.float64]
    radius: NDArray[np.float64]
    strength: NDArray[np.float64]


def stamped(dots: Dots, side: int, softness: float) -> Plane:
    """At each pixel the strongest dot that covers it, 0..1; rims are ``softness`` pixels wide."""
    if not dots.y.size:
        return np.zeros((side, side))
    reach = int(float(dots.radius.max()) + softness) + 2
    padded = side + 2 * reach
    offsets = np.arange(-reach, reach + 1)
    row, column = np.floor(dots.y).astype(np.intp), np.floor(dots.x).astype(np.intp)
    inside = (row >= -reach) & (row < side + reach) & (column >= -reach) & (column < side + reach)
    row, column = row[inside], column[inside]
    # (dots, window) each, then (dots, window, window)
    down = offsets[None, :] - (dots.y[inside] - row)[:, None]
    across = offsets[None, :] - (dots.x[inside] - column)[:, None]
    distance = np.sqrt((down * down)[:, :, None] + (across * across)[:, None, :])
    cover = (dots.radius[inside][:, None, None] - distance) / softness + 0.5
    cover = np.clip(cover, 0.0, 1.0) * dots.strength[inside][:, None, None]
    rows = row[:, None] + offsets + 2 * reach
    columns = column[:, None] + offsets + 2 * reach
    wide = padded + 2 * reach
    canvas = np.zeros(wide * wide)
    at = rows[:, :, None] * wide + columns[:, None, :]
    np.maximum.at(canvas, at.ravel(), cover.ravel())
    return canvas.reshape(wide, wide)[2 * reach : 2 * reach + side, 2 * reach : 2 * reach + side]


def line(dice: Dice, side: int) -> Plane:
    """Each pixel's distance from one straight line across the middle, signed, in pixels."""
    slope = dice.between(-0.6, 0.6)
    length = float(np.sqrt(1.0 + slope * slope))
    down = np.arange(side)[:, None] - dice.between(0.2, 0.8) * side
    across = np.arange(side)[None, :] - side / 2.0
    distance = (down - across * slope) / length
    return distance if dice.chance(0.5) else np.ascontiguousarray(distance.T)
