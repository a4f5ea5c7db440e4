"""Photographs with a known truth, quilted from real crops; knows no model and writes no file.

A wall is made of crops that look alike, each freed of its own shading and laid under one light.
Neighbours are joined along the path on which they differ least (Efros and Freeman 2001: image
quilting), so that no seam is straight and few can be seen. One more crop, with a crack or without,
is then blended in at a random place. Everything follows from the seed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Final, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from crackwatch.runtime import SIDE

cv2.setNumThreads(0)  # thousands of small calls: waking OpenCV's pool costs more than it saves

Half = Literal["development", "acceptance"]
Picture = NDArray[np.uint8]
Floats = NDArray[np.float32]

WIDTH: Final = 4000
HEIGHT: Final = 3000

_OVERLAP: Final = 48  # pixels that neighbours share, for the seam to find its way in
_STEP: Final = SIDE - _OVERLAP
_PATCH: Final = 0.15  # of the largest dark patch's area; what is smaller is no part of the crack
_SEAM: Final = 6  # pixels over which one crop gives way to the next
_FEATHER: Final = 24  # pixels over which the blended crop comes in
_ALIKE: Final = 1.25  # how far from the first crop a wall's others may look
_FEWEST, _MOST = 48, 120  # crops that one wall is made of
_TRIED: Final = 12  # crops and turns tried for each place, of which the best fitting is taken

# What counts as much as one unit of the others: lightness, two colours, fine and coarse roughness.
_LOOK_SCALE: Final = np.array([12.0, 2.0, 2.5, 0.25, 0.3])


# ------------------------------------------------------------------------------------- the crops


@dataclass(frozen=True, slots=True)
class Crop:
    """A labelled picture of 227 x 227; ``look`` (5,) tells how alike two surfaces are."""

    path: Path
    look: NDArray[np.float64]


@dataclass(frozen=True)
class Pool:
    """Crops that photographs are made of."""

    normals: tuple[Crop, ...]
    anomalies: tuple[Crop, ...]

    @cached_property
    def looks(self) -> NDArray[np.float64]:
        """(number of normals, 5)."""
        return np.stack([crop.look for crop in self.normals])

    def alike(self, crop: Crop) -> list[Crop]:
        """The normals that look most like ``crop``, the likest first; never itself."""
        distances = np.sqrt(np.square(self.looks - crop.look).sum(axis=1))
        order = np.argsort(distances, kind="stable")
        count = int(np.clip((distances <= _ALIKE).sum(), _FEWEST, _MOST))
        return [self.normals[n] for n in order if self.normals[n].path != crop.path][:count]


def pool(metu: Path, half: Half) -> Pool:
    """One half of the validation folders' crops; a crop is in one half only, by its file's name.

    What is found out on one half is thus proved on crops that nobody looked at.
    """

    def crops(label: str) -> tuple[Crop, ...]:
        files = [
            file
            for folder in ("valid_balanced", "valid_unbalanced")
            for file in sorted((metu / folder / label).iterdir())
        ]
        return tuple(Crop(file, look(read(file))) for file in files if half_of(file) == half)

    return Pool(crops("normal"), crops("anomaly"))


def half_of(file: Path) -> Half:
    """To which half a crop belongs."""
    key = f"{file.parent.parent.name}/{file.parent.name}/{file.name}"
    even = hashlib.sha256(key.encode()).digest()[0] % 2 == 0
    return "development" if even else "acceptance"


def read(file: Path) -> Picture:
    """A crop as it lies on disk: uint8, (227, 227, 3), BGR."""
    picture = cv2.imread(str(file), cv2.IMREAD_COLOR)
    if picture is None or picture.shape != (SIDE, SIDE, 3):
        raise ValueError(f"{file}: no picture of {SIDE} x {SIDE}")
    return np.asarray(picture, np.uint8)


def look(picture: Picture) -> NDArray[np.float64]:
    """How a surface looks, whatever crosses it: (5,), in units of equal weight.

    Medians throughout, so that a crack is not part of its wall's look.
    """
    shading = light(picture)
    lab = cv2.cvtColor(shading.mean(axis=(0, 1), keepdims=True) / 255, cv2.COLOR_BGR2LAB)[0, 0]
    grey = (picture / shading).mean(axis=2)
    fine = grey - cv2.GaussianBlur(grey, (0, 0), 2)
    coarse = cv2.GaussianBlur(grey, (0, 0), 2) - cv2.GaussianBlur(grey, (0, 0), 8)
    rough = [np.log(np.median(np.abs(band)) + 1e-4) for band in (fine, coarse)]
    return np.array([*lab.tolist(), *rough]) / _LOOK_SCALE


def light(picture: Picture) -> Floats:
    """The light on a crop, (227, 227, 3): a paraboloid through it, of each colour.

    Fitted to what lies near it, so that neither a crack nor a stain bends it.
    """
    small = 32
    samples = cv2.resize(picture, (small, small), interpolation=cv2.INTER_AREA)
    values = samples.reshape(-1, 3).astype(np.float64)
    terms = _paraboloid(small)
    weights = np.ones(len(values))
    for _ in range(4):
        weighted = (terms * weights[:, None]).T
        coefficients = np.linalg.solve(weighted @ terms, weighted @ values)
        off = np.abs((values - terms @ coefficients).mean(axis=1))
        weights = 1 / (1 + np.square(off / (2 * np.median(off) + 0.5)))  # Cauchy's
    surface = (_paraboloid(SIDE) @ coefficients).reshape(SIDE, SIDE, 3)
    return surface.clip(8, 255).astype(np.float32)


@cache
def _paraboloid(side: int) -> NDArray[np.float64]:
    at = (np.arange(side) + 0.5) / side - 0.5
    x, y = (grid.ravel() for grid in np.meshgrid(at, at))
    return np.stack([np.ones(side * side), x, y, x * y, x * x, y * y], axis=1)


# -------------------------------------------------------------------------------- the photograph


@dataclass(frozen=True, slots=True)
class Inserted:
    """The crop that was blended in: ``file``, and where its upper left corner lies."""

    file: Path
    x: int
    y: int
    crack: NDArray[np.bool_]  # (227, 227): the crack's pixels; none in a normal

    @property
    def box(self) -> tuple[int, int, int, int]:
        """x, y, width, height of the crack in the photograph; raises ValueError without one."""
        if not self.crack.any():
            raise ValueError(f"{self.file} shows no crack")
        rows, columns = np.flatnonzero(self.crack.any(1)), np.flatnonzero(self.crack.any(0))
        left, top = int(columns[0]), int(rows[0])
        return (
            self.x + left,
            self.y + top,
            int(columns[-1]) - left + 1,
            int(rows[-1]) - top + 1,
        )

    def share_in(self, x: int, y: int, w: int, h: int) -> float:
        """How much of the crack lies in that box of the photograph, 0..1."""
        left, top = max(x - self.x, 0), max(y - self.y, 0)
        right, bottom = max(x + w - self.x, 0), max(y + h - self.y, 0)
        return float(self.crack[top:bottom, left:right].sum() / self.crack.sum())


@dataclass(frozen=True, slots=True)
class Laid:
    """A crop of the wall: ``file``, and where its upper left corner lies (it may be outside)."""

    file: Path
    x: int
    y: int


@dataclass(frozen=True, slots=True)
class Scene:
    """A photograph, uint8 (height, width, 3) BGR, and what it shows."""

    picture: Picture
    inserted: Inserted | None
    laid: tuple[Laid, ...]


def scene(
    pool: Pool,
    seed: int,
    insert: Literal["crack", "normal"] | None,
    *,
    width: int = WIDTH,
    height: int = HEIGHT,
) -> Scene:
    """A photograph of ``width`` x ``height``, with a crop blended in or as it is without.

    First a crop is drawn, one as likely as another, and then a wall that looks like it. One seed
    gives one wall to "normal" and to None; "crack" draws from other crops and so has other walls.
    """
    choosing, laying, lighting, placing = np.random.default_rng(seed).spawn(4)
    drawn = pool.anomalies if insert == "crack" else pool.normals
    guest = drawn[choosing.integers(len(drawn))]
    relief, laid = _wall(pool.alike(guest), laying, width, height)
    shading = _shading(light(read(guest.path)).mean(axis=(0, 1)), lighting, width, height)
    inserted = None
    if insert is not None:
        patch, crack = _turned(read(guest.path), int(placing.integers(8)), insert == "crack")
        x = int(placing.integers(width - SIDE + 1))
        y = int(placing.integers(height - SIDE + 1))
        window = relief[y : y + SIDE, x : x + SIDE]
        window[:] = _blended(window, patch)
        inserted = Inserted(guest.path, x, y, crack)
    relief *= shading
    np.rint(relief, out=relief)
    return Scene(relief.clip(0, 255).astype(np.uint8), inserted, laid)


def _turned(picture: Picture, turn: int, cracked: bool) -> tuple[Floats, NDArray[np.bool_]]:
    """Relief and crack of a crop in one of its eight orientations."""
    relief = (picture / light(picture)).astype(np.float32)
    crack = crack_of(relief) if cracked else np.zeros((SIDE, SIDE), np.bool_)
    if turn >= 4:
        relief, crack = relief[:, ::-1], crack[:, ::-1]
    return np.rot90(relief, turn % 4).copy(), np.rot90(crack, turn % 4).copy()


def crack_of(relief: Floats) -> NDArray[np.bool_]:
    """Which pixels of a crop with a crack are the crack, roughly: its large dark patches; (227, 227).

    Dark is what is darker than half the darkest. What fades out in the blended rim is left out,
    unless nothing else is there.
    """
    grey = cv2.GaussianBlur(relief.mean(axis=2), (0, 0), 1.5)
    dark = (1 - grey) > 0.5 * np.percentile(1 - grey, 99.5)
    closed = cv2.morphologyEx(dark.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))
    _, patches, sizes, _ = cv2.connectedComponentsWithStats(closed)
    areas = sizes[1:, cv2.CC_STAT_AREA]
    crack = np.isin(patches, 1 + np.flatnonzero(areas >= _PATCH * areas.max()))
    seen = crack & (_share()[:, :, 0] >= 0.5)
    return seen if seen.any() else crack


def _shading(
    colour: NDArray[np.floating], random: np.random.Generator, width: int, height: int
) -> Floats:
    """One light over the whole wall: ``colour`` in the middle, brighter to one side."""
    x = np.linspace(-0.5, 0.5, width, dtype=np.float32)[None, :]
    y = np.linspace(-0.5, 0.5, height, dtype=np.float32)[:, None]
    angle, strength = random.uniform(0, 2 * np.pi), random.uniform(0.02, 0.12)
    falloff = random.uniform(0, 0.12)  # towards the corners, as lenses have it
    gain = 1 + strength * (np.cos(angle) * x + np.sin(angle) * y) - falloff * (x * x + y * y)
    # stains, broader than a tile
    coarse = random.normal(0, 1, (height // 250 + 2, width // 250 + 2)).astype(np.float32)
    gain = gain + random.uniform(0, 0.02) * cv2.resize(
        coarse, (width, height), interpolation=cv2.INTER_CUBIC
    )
    return np.asarray(gain[:, :, None] * colour.astype(np.float32), np.float32)


def _blended(wall: Floats, patch: Floats) -> Floats:
    """``patch`` over ``wall``, both (227, 227, 3) relief around 1; the rim is the wall's.

    Two textures that are averaged grow smooth, and a smooth frame would give the patch away: what
    deviates from 1 is added in quadrature, which keeps the roughness.
    """
    share = _share()
    mixed = share * (patch - 1) + (1 - share) * (wall - 1)
    return np.asarray(1 + mixed / np.sqrt(share**2 + (1 - share) ** 2), np.float32)


def _share() -> Floats:
    """How much of a blended crop shows, (227, 227, 1): 0 at its rim, 1 inside."""
    inwards = np.minimum(np.arange(SIDE), np.arange(SIDE)[::-1]) + 0.5
    ramp = 0.5 - 0.5 * np.cos(np.pi * np.minimum(inwards / _FEATHER, 1))
    return (ramp[:, None] * ramp[None, :])[:, :, None].astype(np.float32)


# -------------------------------------------------------------------------------------- quilting


def _wall(
    crops: Sequence[Crop], random: np.random.Generator, width: int, height: int
) -> tuple[Floats, tuple[Laid, ...]]:
    """A wall's relief around 1, (height, width, 3), and the crops that it was made of."""
    reliefs = [_turned(read(crop.path), 0, False)[0] for crop in crops]
    lines = 1 + -(-(height - SIDE) // _STEP)
    places = 2 + -(-(width - SIDE) // _STEP)  # one more: each line begins somewhere else
    shifts = random.integers(0, _STEP, lines)
    strips = np.empty((lines, SIDE, SIDE + (places - 1) * _STEP, 3), np.float32)
    chosen = np.empty((lines, places), int)
    uses = np.zeros(len(reliefs), int)
    for place in range(places):
        x = place * _STEP
        patches = np.empty((lines, SIDE, SIDE, 3), np.float32)
        for line in range(lines):
            before = strips[line, :, x : x + _OVERLAP] if place else None
            number, patches[line] = _fitting(reliefs, uses, before, random)
            chosen[line, place] = number
            uses[number] += 1
        if place:
            shared = strips[:, :, x : x + _OVERLAP]
            shared[:] = _joined(shared, patches[:, :, :_OVERLAP])
            strips[:, :, x + _OVERLAP : x + SIDE] = patches[:, :, _OVERLAP:]
        else:
            strips[:, :, :SIDE] = patches
    wall = np.empty((SIDE + (lines - 1) * _STEP, width, 3), np.float32)
    cut = [strips[line, :, shift : shift + width] for line, shift in enumerate(shifts)]
    wall[:SIDE] = cut[0]
    above = np.stack([strip[_STEP:] for strip in cut[:-1]]).swapaxes(1, 2)
    below = np.stack([strip[:_OVERLAP] for strip in cut[1:]]).swapaxes(1, 2)
    seams = _joined(above, below).swapaxes(1, 2)
    for line in range(1, lines):
        y = line * _STEP
        wall[y : y + _OVERLAP] = seams[line - 1]
        wall[y + _OVERLAP : y + SIDE] = cut[line][_OVERLAP:]
    laid = tuple(
        Laid(crops[chosen[line, place]].path, int(place * _STEP - shift), line * _STEP)
        for line, shift in enumerate(shifts)
        for place in range(places)
        if -SIDE < place * _STEP - shift < width
    )
    return wall[:height], laid


def _fitting(
    reliefs: Sequence[Floats],
    uses: NDArray[np.int_],
    before: Floats | None,
    random: np.random.Generator,
) -> tuple[int, Floats]:
    """Of a few crops, turned at random, the one that continues ``before`` best; and its number.

    Only those that were used least are tried: else what is plain would fit everywhere.
    """
    least_used = np.flatnonzero(uses <= uses.min() + 1)
    numbers = random.choice(least_used, size=1 if before is None else _TRIED)
    turns = random.integers(8, size=len(numbers))
    best, least = 0, np.inf
    if before is not None:
        wanted = _coarse(before)
        for n, (number, turn) in enumerate(zip(numbers, turns, strict=True)):
            rim = _oriented(reliefs[number], int(turn))[:, :_OVERLAP]
            error = float(np.square(_coarse(rim) - wanted).sum())
            if error < least:
                best, least = n, error
    number = int(numbers[best])
    return number, _oriented(reliefs[number], int(turns[best]))


def _oriented(relief: Floats, turn: int) -> Floats:
    return np.rot90(relief[:, ::-1] if turn >= 4 else relief, turn % 4)


def _coarse(rim: Floats) -> Floats:
    """What of a rim the eye sees first: a third of its size."""
    grey = np.ascontiguousarray(rim[:, :, 1])
    return np.asarray(
        cv2.resize(grey, None, fx=1 / 3, fy=1 / 3, interpolation=cv2.INTER_AREA), np.float32
    )


def _joined(left: Floats, right: Floats) -> Floats:
    """Strips (N, length, overlap, 3), each going from left to right along its best path."""
    difference = np.square(left - right).sum(axis=3)
    across = np.arange(left.shape[2]) + 0.5
    seam = _cheapest_paths(difference)[:, :, None] + 0.5
    share = np.clip((across - seam) / _SEAM + 0.5, 0, 1)[..., None].astype(np.float32)
    return left + share * (right - left)


def _cheapest_paths(costs: Floats) -> NDArray[np.intp]:
    """Through each of (N, length, breadth) costs the cheapest path: its column a row, (N, length).

    From one row to the next it moves by at most one column.
    """
    count, length, breadth = costs.shape
    total = np.full((count, length, breadth + 2), np.inf, np.float32)
    total[:, :, 1:-1] = costs
    for row in range(1, length):
        last = total[:, row - 1]
        total[:, row, 1:-1] += np.minimum(np.minimum(last[:, :-2], last[:, 1:-1]), last[:, 2:])
    paths = np.empty((count, length), np.intp)
    everyone = np.arange(count)
    paths[:, -1] = total[:, -1].argmin(axis=1)
    for row in range(length - 2, -1, -1):
        near = paths[:, row + 1][:, None] + np.arange(-1, 2)
        step = total[everyone[:, None], row, near].argmin(axis=1)
        paths[:, row] = near[everyone, step]
    return paths - 1
