"""Draws concrete, with a crack or without, the same to the last bit everywhere; knows no model.

The pictures serve the tests, the demo and the golden sets that travel with models. Nothing here is
fitted to any model, and no recipe that trains the shipped one may use it. To be the same on every
processor and with every numpy, pixels are made only from raw PCG64 bits, whole numbers, and single
additions, multiplications, divisions, square roots, roundings and comparisons of floats, all of
which IEEE 754 defines exactly; no library function that may be vectorised differently elsewhere
(sin, exp, sums of floats, filters) has a part in it. Changing anything here changes what golden
sets mean: a test pins the result.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from crackwatch.runtime import SIDE

SURFACES: Final = ("concrete", "brick")

Plane = NDArray[np.float64]  # (side, side)
Colours = NDArray[np.float64]  # (3, side, side): blue, green, red; 0..255
Picture = NDArray[np.uint8]  # (side, side, 3), BGR


def draw(seed: int, *, crack: bool, side: int = SIDE, surface: str = "concrete") -> Picture:
    """One picture, uint8 (side, side, 3) BGR; the same arguments give the same bytes, for ever.

    The same ``seed`` with and without ``crack`` shows the same surface in the same light. ``side``
    is in pixels, at least 32; ``surface`` is one of ``SURFACES``. Raises ValueError for others.
    """
    if surface not in SURFACES:
        raise ValueError(f"surface is {surface!r}; it must be one of {', '.join(SURFACES)}")
    if seed < 0 or side < 32:
        raise ValueError(f"seed is {seed} and side {side}; they must be at least 0 and 32")
    ground = _Dice(seed, 0)
    colours = _concrete(ground, side) if surface == "concrete" else _brick(ground, side)
    if crack:
        colours = _cracked(_Dice(seed, 1), colours)
    return _photographed(_Dice(seed, 2), colours)


# ----------------------------------------------------------------------------------- chance


class _Dice:
    """Numbers from the raw bits of PCG64, whose stream numpy promises never to change.

    The methods of ``numpy.random.Generator`` carry no such promise.
    """

    def __init__(self, *key: int) -> None:
        self._bits = np.random.PCG64(np.random.SeedSequence(key))

    def unit(self) -> float:
        """From 0 up to, but not including, 1."""
        return (int(self._bits.random_raw()) >> 11) * 2.0**-53

    def between(self, low: float, high: float) -> float:
        return low + self.unit() * (high - low)

    def whole(self, low: int, high: int) -> int:
        """From ``low`` to ``high``, both included."""
        return low + int(self.unit() * (high - low + 1))

    def chance(self, probability: float) -> bool:
        return self.unit() < probability

    def pick(self, choices: Sequence[float]) -> float:
        return choices[self.whole(0, len(choices) - 1)]

    def units(self, *shape: int) -> NDArray[np.float64]:
        """An array of numbers as ``unit`` gives them."""
        count = int(np.prod(shape))
        raw = np.asarray(self._bits.random_raw(count), np.uint64)
        return ((raw >> np.uint64(11)).astype(np.float64) * 2.0**-53).reshape(shape)

    def grains(self, height: int, width: int) -> NDArray[np.int32]:
        """(height, width) whole numbers 0..255."""
        count = height * width
        raw = np.asarray(self._bits.random_raw(-(-count // 8)), np.uint64)
        octets = raw.astype("<u8").view(np.uint8)[:count]
        return octets.astype(np.int32).reshape(height, width)


# ----------------------------------------------------------------------------------- fields


def _grain(dice: _Dice, side: int, radius: int) -> Plane:
    """Noise averaged over squares of 2 * ``radius`` + 1 pixels; about -0.5..0.5."""
    width = 2 * radius + 1
    noise = dice.grains(side + 2 * radius, side + 2 * radius)
    for _ in range(2):  # down the columns, then the same along the rows
        sums = np.cumsum(noise, axis=0, dtype=np.int32)
        upper = np.zeros((side, noise.shape[1]), np.int32)
        upper[1:] = sums[: side - 1]
        noise = np.ascontiguousarray((sums[width - 1 :] - upper).T)
    return noise / float(width * width * 255) - 0.5


def _clouds(
    dice: _Dice, side: int, cell: float, *, stretch: float = 1.0, tilt: float = 0.0
) -> Plane:
    """Smooth noise with features about ``cell`` pixels wide; -0.5..0.5.

    Features are ``stretch`` times as long across as down, and lean by ``tilt`` pixels a row.
    """
    rows = np.arange(side) / cell + dice.unit()
    columns = np.arange(side)[None, :] / (cell * stretch) + dice.unit()
    if tilt:
        columns = columns + (np.arange(side) * (tilt / (cell * stretch)))[:, None]
        columns = columns - columns.min()
    top, left = np.floor(rows).astype(np.intp), np.floor(columns).astype(np.intp)
    down, across = _eased(rows - top)[:, None], _eased(columns - left)
    knots = dice.units(int(top[-1]) + 2, int(left.max()) + 2) - 0.5
    if not tilt:  # the few rows of knots first, then all rows from them
        wide = knots[:, left[0]]
        wide += (knots[:, left[0] + 1] - wide) * across
        return _between(wide[top], wide[top + 1], down)
    flat, stride = knots.ravel(), knots.shape[1]
    at = top[:, None] * stride + left
    upper = _between(flat[at], flat[at + 1], across)
    lower = _between(flat[at + stride], flat[at + stride + 1], across)
    return _between(upper, lower, down)


def _between(start: Plane, end: Plane, share: NDArray[np.float64]) -> Plane:
    """``start`` where ``share`` is 0, ``end`` where it is 1."""
    mixed: Plane = start + (end - start) * share
    return mixed


def _eased(share: NDArray[np.float64]) -> NDArray[np.float64]:
    """0..1 to 0..1 with level ends."""
    eased: NDArray[np.float64] = share * share * (3.0 - 2.0 * share)
    return eased


def _ramp(values: Plane, low: float, high: float) -> Plane:
    """0 below ``low``, 1 above ``high``, eased between."""
    return _eased(np.minimum(np.maximum((values - low) / (high - low), 0.0), 1.0))


def _shifted(plane: Plane, down: int, right: int) -> Plane:
    """``plane`` moved by whole pixels, its border repeated."""
    side = plane.shape[0]
    rows = np.clip(np.arange(side) - down, 0, side - 1)
    columns = np.clip(np.arange(side) - right, 0, side - 1)
    moved: Plane = plane[rows][:, columns]
    return moved


def _warped(plane: Plane, dice: _Dice, reach: float, cell: float) -> Plane:
    """``plane`` with its outlines torn by up to ``reach`` pixels."""
    side = plane.shape[0]
    down = np.floor(_clouds(dice, side, cell) * (2 * reach) + 0.5).astype(np.intp)
    right = np.floor(_clouds(dice, side, cell) * (2 * reach) + 0.5).astype(np.intp)
    rows = np.clip(np.arange(side)[:, None] + down, 0, side - 1)
    columns = np.clip(np.arange(side)[None, :] + right, 0, side - 1)
    torn: Plane = plane[rows, columns]
    return torn


@dataclass(frozen=True, slots=True)
class _Dots:
    """Soft discs: centres and radii in pixels, strengths 0..1; all (N,)."""

    y: NDArray[np.float64]
    x: NDArray[np.float64]
    radius: NDArray[np.float64]
    strength: NDArray[np.float64]


def _stamped(dots: _Dots, side: int, softness: float) -> Plane:
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


# --------------------------------------------------------------------------------- concrete


def _concrete(dice: _Dice, side: int) -> Colours:
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


def _relief(dice: _Dice, side: int) -> Plane:
    """The surface's lightness around 1: broad clouds, blotches, and grain lit from one side."""
    kind = dice.unit()
    lightness = 1.0 + _clouds(dice, side, 90) * dice.between(0.02, 0.10)
    lightness = lightness + _clouds(dice, side, 28) * dice.between(0.02, 0.11)
    stretch = dice.between(1.0, 2.0)
    lightness = lightness + _clouds(dice, side, 11, stretch=stretch) * dice.between(0.02, 0.10)
    lightness = lightness + _clouds(dice, side, 5) * dice.between(0.02, 0.10)
    speckle = _clouds(dice, side, 2.6)
    lightness = lightness + speckle * dice.between(0.02, 0.08)
    # small hollows: the darkest tenth of the speckle, where the surface is not troweled shut
    lightness = lightness - _ramp(-speckle, 0.26, 0.45) * dice.between(0.0, 0.16)
    if kind < 0.25:  # rough: stones and hollows that throw shadows
        bumps = _clouds(dice, side, dice.between(4, 9), stretch=dice.between(1.0, 1.6))
        bumps = bumps + speckle * 0.5
        step = dice.whole(1, 2)
        lit = bumps - _shifted(bumps, step, dice.whole(-step, step))
        lightness = lightness + lit * dice.between(0.15, 0.45)
    elif kind < 0.45:  # trowelled or brushed: long ridges
        long, tilt = dice.between(4, 9), dice.between(-5, 5)
        ridges = _clouds(dice, side, dice.between(3, 6), stretch=long, tilt=tilt)
        lit = ridges - _shifted(ridges, 1, 1)
        lightness = lightness + ridges * 0.05 + lit * dice.between(0.05, 0.20)
    grain = _grain(dice, side, 1)
    return lightness + grain * dice.between(0.04, 0.18)


def _tinted(dice: _Dice, lightness: Plane) -> Colours:
    """Grey to beige, from dark to nearly white."""
    level = 122.0 + (dice.unit() + dice.unit()) * 49.0
    warmth = dice.unit()
    blue = warmth * dice.between(6, 17) + dice.between(-1, 4)
    red = warmth * dice.between(2, 11) + dice.between(-1, 3)
    # beige does not come evenly: it drifts a little over the surface
    drift = _clouds(dice, lightness.shape[0], 60) * dice.between(0, 8)
    return np.stack(
        (
            lightness * (level - blue) - drift,
            lightness * level,
            lightness * (level + red) + drift * 0.5,
        )
    )


def _stained(dice: _Dice, colours: Colours) -> Colours:
    """A patch of damp or soot, with soft borders, or one of whitewash, with torn ones."""
    side = colours.shape[1]
    shape = _clouds(dice, side, dice.between(45, 90)) + _clouds(dice, side, 19) * 0.5
    shape = shape + _clouds(dice, side, 7) * 0.35 + _clouds(dice, side, 3) * 0.12
    low = dice.between(0.18, 0.42)
    patchy = 1.0 + _clouds(dice, side, 5) * 0.9
    if dice.chance(0.6):
        share = _ramp(shape, low, low + dice.between(0.15, 0.5)) * dice.between(0.08, 0.38)
        return colours * (1.0 - share * patchy)
    share = _ramp(shape, low, low + dice.between(0.06, 0.3)) * dice.between(0.12, 0.55)
    return colours + (228.0 - colours) * (share * patchy)


def _line(dice: _Dice, side: int) -> Plane:
    """Each pixel's distance from one straight line across the middle, signed, in pixels."""
    slope = dice.between(-0.6, 0.6)
    length = float(np.sqrt(1.0 + slope * slope))
    down = np.arange(side)[:, None] - dice.between(0.2, 0.8) * side
    across = np.arange(side)[None, :] - side / 2.0
    distance = (down - across * slope) / length
    return distance if dice.chance(0.5) else np.ascontiguousarray(distance.T)


def _jointed(dice: _Dice, colours: Colours) -> Colours:
    """The seam of two formwork boards: straight, soft, lit on one side; or two shades that meet."""
    distance = _line(dice, colours.shape[1])
    width = dice.between(2.0, 6.0)
    seam = 1.0 - _ramp(np.abs(distance), 0.0, width)
    lit = (1.0 - _ramp(np.abs(distance - width), 0.0, width)) * dice.between(0.02, 0.10)
    board = _ramp(distance, -1.5, 1.5) * dice.between(-0.08, 0.08)
    return colours * (1.0 + board + lit - seam * dice.between(0.03, 0.14))


def _scratched(dice: _Dice, colours: Colours) -> Colours:
    """A straight pale scratch that begins and ends."""
    side = colours.shape[1]
    width = dice.between(0.8, 2.2)
    line = 1.0 - _ramp(np.abs(_line(dice, side)), width * 0.3, width)
    ends = _ramp(_clouds(dice, side, side / 3.0), -0.05, 0.10)
    share = line * ends * dice.between(0.15, 0.45)
    return colours + (235.0 - colours) * share


def _pitted(dice: _Dice, colours: Colours) -> Colours:
    """Pores with a lit lower rim, a few bug holes, and pale specks."""
    side = colours.shape[1]
    area = side * side / float(SIDE * SIDE)
    many = int(dice.whole(0, 30) * dice.unit() * area) + dice.whole(0, 3)
    few = dice.whole(1, 3) if dice.chance(0.3) else 0
    pores = _scattered(dice, side, many, 0.6, 1.9)
    holes = _scattered(dice, side, few, 2.5, 5.5)
    dark = np.maximum(_stamped(pores, side, 1.4), _stamped(holes, side, 2.2))
    dark = _warped(dark, dice, 2.4, 3.5) * dice.between(0.45, 0.95)
    rim = np.clip(_shifted(dark, 2, 1) - dark, 0.0, 1.0) * dice.between(0.1, 0.5)
    colours = colours * (1.0 - dark * 0.75)
    colours = colours + (240.0 - colours) * rim
    specks = _scattered(dice, side, int(dice.whole(0, 14) * dice.unit() * area), 0.5, 2.2)
    if not specks.y.size:
        return colours
    pale = _warped(_stamped(specks, side, 1.5), dice, 1.6, 3.0) * dice.between(0.3, 0.8)
    return colours + (238.0 - colours) * pale


def _scattered(dice: _Dice, side: int, count: int, low: float, high: float) -> _Dots:
    values = dice.units(4, count)
    radius = low + values[2] * values[2] * (high - low)
    return _Dots(values[0] * side, values[1] * side, radius, 0.5 + values[3] * 0.5)


# ----------------------------------------------------------------------------------- cracks


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


def _cracked(dice: _Dice, colours: Colours) -> Colours:
    side = colours.shape[1]
    faint = dice.chance(0.12)
    radius = dice.pick((0.9, 1.2, 1.6, 2.1, 2.7, 3.5, 4.5, 5.7, 7.2)) * dice.between(0.85, 1.2)
    radius = min(radius, 1.2) if faint else radius
    strength = dice.between(0.40, 0.60) if faint else dice.between(0.78, 1.0)
    paths = _paths(dice, side, radius)
    softness = dice.between(1.0, 2.2)
    dots = _Dots(*(np.array(column) for column in zip(*paths, strict=True)))
    cover = _stamped(dots, side, softness)
    cover = _warped(cover, dice, min(3.0, 0.8 + radius * 0.4), 3.5 + radius)
    # one flank catches the light, the other lies in the shade of a chipped edge
    down, right = dice.pick((-2, -1, 1, 2)), dice.whole(-2, 2)
    rim = np.clip(_shifted(cover, int(down), right) - cover, 0.0, 1.0)
    broken = _ramp(_clouds(dice, side, 14), -0.1, 0.25)
    rim = rim * broken * dice.between(0.0, 0.9)
    colours = colours + (236.0 - colours) * rim
    # dirt and the crack's own wall make the inside uneven; it is seldom black
    inside = dice.between(16, 46) * (1.0 + _clouds(dice, side, 6) * 0.9)
    tint = (dice.between(0.85, 1.05), 1.0, dice.between(1.0, 1.15))
    inside = np.stack([inside * each for each in tint])
    share = cover * strength * (1.0 - _ramp(_clouds(dice, side, 11), 0.12, 0.5) * 0.45)
    return colours + (inside - colours) * share


Point = tuple[float, float, float, float]  # y, x, radius, strength


def _paths(dice: _Dice, side: int, radius: float) -> list[Point]:
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
    dice: _Dice,
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


# ------------------------------------------------------------------------------------ brick


def _brick(dice: _Dice, side: int) -> Colours:
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
    edge = edge + _clouds(dice, side, 5) * 3.0
    shades = dice.units(int(course.max()) + 1, int(stone.max()) + 1)
    shade = shades[course.astype(np.intp)[:, None], stone.astype(np.intp)] * 0.3 + 0.85
    texture = 1.0 + _clouds(dice, side, 4) * 0.12 + _grain(dice, side, 1) * 0.4
    bricks = np.stack([shade * texture * each for each in (62.0, 82.0, 148.0)])
    grey = texture * dice.between(150, 190)
    joints = np.stack([grey * each for each in (0.95, 0.98, 1.0)])
    share = _ramp(edge, mortar / 2.0, mortar / 2.0 + 2.0)
    return joints + (bricks - joints) * share


# ------------------------------------------------------------------------------- the camera


def _softened(colours: Colours, share: float) -> Colours:
    """Each pixel mixed with its left and right neighbours, 1 : 2 : 1 where ``share`` is 1."""
    soft = colours.copy(order="K")
    neighbours = colours[:, :, :-2] + colours[:, :, 2:]
    soft[:, :, 1:-1] += (neighbours * 0.5 - colours[:, :, 1:-1]) * (share * 0.5)
    return soft


def _photographed(dice: _Dice, colours: Colours) -> Picture:
    """The lens's softness, uneven light, now and then a shadow, noise; rounded to bytes."""
    side = colours.shape[1]
    colours = _softened(colours, dice.between(0.4, 1.0))
    colours = _softened(colours.swapaxes(1, 2), dice.between(0.4, 1.0)).swapaxes(1, 2)
    down = (np.arange(side) / side - 0.5)[:, None] * dice.between(-0.10, 0.10)
    across = (np.arange(side) / side - 0.5)[None, :] * dice.between(-0.10, 0.10)
    light = 1.0 + down + across
    if dice.chance(0.08):
        shadow = _ramp(_line(dice, side), -dice.between(6, 30), dice.between(6, 30))
        light = light * (1.0 - shadow * dice.between(0.08, 0.30))
    noise = _grain(dice, side, 1) * dice.between(3, 11)
    exposed = colours * light + noise
    exposed[0] += _grain(dice, side, 2) * 10.0  # colour noise is coarser, blue the noisiest
    exposed[2] += _grain(dice, side, 2) * 7.0
    rounded = np.floor(np.clip(exposed, 0.0, 255.0) + 0.5).astype(np.uint8)
    return np.ascontiguousarray(rounded.transpose(1, 2, 0))
