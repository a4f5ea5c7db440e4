"""Finds pictures that show the same concrete in part: crops of one photograph, whatever the shift.

A landmark that two pictures have in common suggests how one lies on the other; whether they do
overlap there is decided by their pixels alone. Who finds landmarks is given: no library is known.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crackwatch.dataset.folders import Progress, no_progress
from crackwatch.dataset.pictures import Pictures
from crackwatch.runtime import SIDE

# How strongly the fine texture of two pictures correlates where they overlap: above 0.75 where they
# do, below 0.5 where a landmark misled. In 15,000 photographs hardly a pair lies between.
SAME_CONCRETE = 0.7
LEAST_SHARE = 0.07  # of a picture: what overlaps by less is not looked at

_NEIGHBOURS = 5  # landmarks that are tried for each, itself among them
_AXES = 32  # of 128: what principal components keep of a descriptor, 84 % of its variance
_SAMPLE = 100_000  # descriptors from which these are found
_TURN_TOLERANCE = 12.0  # degrees by which two landmarks may be turned beside a multiple of 90
_SIZE_TOLERANCE = 1.2
_AGREE = 4  # pixels within which two landmarks tell of one shift

_PLANE = SIDE // 2  # cells a side, of 2 x 2 pixels
_BLUR = 7  # cells to each side: light and shade that are broader fall out
_LEVEL = 8  # steps a grey level; with one byte a cell, contrasts are cut off at 16 grey levels
_LEAST_CONTRAST = 0.5  # grey levels: below, it is the encoder's noise
_CHUNK = 64
_SEARCH = 8192  # landmarks looked up at once
_THREADS = 2

Points = NDArray[np.float32]  # (K, 4): x, y, diameter in pixels; direction in degrees clockwise
Search = Callable[[NDArray[np.float32], int], NDArray[np.int32]]


@dataclass(frozen=True, slots=True)
class Landmarks:
    """The two things that are asked of whoever knows landmarks; both are called from threads.

    ``find`` gives a (227, 227, 3) picture's points (K, 4) and their SIFT descriptors (K, 128);
    ``searcher`` gives a search among vectors (M, D): queries (Q, D) and a count k to the positions
    (Q, k) of the nearest, -1 where there are fewer. Each must always answer the same.
    """

    find: Callable[[NDArray[np.uint8]], tuple[Points, NDArray[np.uint8]]]
    searcher: Callable[[NDArray[np.float32]], Search]


@dataclass(frozen=True, slots=True)
class _Seen:
    """All landmarks, and every picture's fine texture."""

    picture: NDArray[np.int32]  # (M,) whose landmark it is
    points: Points  # (M, 4)
    descriptors: NDArray[np.uint8]  # (M, 128)
    planes: NDArray[np.int8]  # (N, 113, 113), in eighths of a grey level


def overlaps(
    pictures: Pictures,
    positions: NDArray[np.intp],
    landmarks: Landmarks,
    progress: Progress = no_progress,
) -> NDArray[np.intp]:
    """Pairs among ``positions`` (P,) that show the same concrete in part, (M, 2), in order.

    Crops of the same scale, shifted by any number of pixels; turned by right angles or mirrored
    only where two landmarks tell the same. Copies are pairs, too. Not found: another photograph of
    the same spot from elsewhere, and overlaps of less than 7 %. 15,000 pictures take about 13 KB
    of memory each for textures and 20 KB for landmarks. ``progress`` counts pictures.
    """
    if len(positions) < 2:
        return np.empty((0, 2), np.intp)
    seen = _look(pictures, positions, landmarks, progress)
    if not len(seen.picture):
        return np.empty((0, 2), np.intp)
    straight, turned = _suggestions(seen, landmarks.searcher)
    found = [
        pair
        for one, other, turn, mirrored, right, down in np.concatenate([straight, turned]).tolist()
        for pair in [(one, other)]
        if _likeness(_laid(seen.planes[one], turn, bool(mirrored)), seen.planes[other], right, down)
        >= SAME_CONCRETE
    ]
    if not found:
        return np.empty((0, 2), np.intp)
    pairs = np.sort(positions[np.array(found, dtype=np.intp)], axis=1)
    return np.unique(pairs, axis=0)


# --------------------------------------------------------------------------------------- looking


def _look(
    pictures: Pictures, positions: NDArray[np.intp], landmarks: Landmarks, progress: Progress
) -> _Seen:
    planes = np.empty((len(positions), _PLANE, _PLANE), np.int8)

    def task(start: int) -> list[tuple[int, Points, NDArray[np.uint8]]]:
        told = []
        chunk = pictures.get(positions[start : start + _CHUNK])
        for slot, picture in enumerate(chunk, start):
            planes[slot] = _plane(picture)
            told.append((slot, *landmarks.find(picture)))
        return told

    owners, points, descriptors = [], [], []
    with ThreadPoolExecutor(_THREADS, "landmarks") as pool:
        done = 0
        for part in pool.map(task, range(0, len(positions), _CHUNK)):
            for slot, where, what in part:
                owners.append(np.full(len(where), slot, np.int32))
                points.append(where)
                descriptors.append(what)
            done += len(part)
            progress(done, len(positions))
    return _Seen(
        np.concatenate(owners), np.concatenate(points), np.concatenate(descriptors), planes
    )


def _plane(picture: NDArray[np.uint8]) -> NDArray[np.int8]:
    """Fine texture in cells of 2 x 2 pixels less what surrounds them; see ``_LEVEL``."""
    side = 2 * _PLANE
    rows = picture[:side, :side].reshape(_PLANE, 2, side * 3).sum(axis=1, dtype=np.uint16)
    cells = rows.reshape(_PLANE, _PLANE, 6).sum(axis=2, dtype=np.float32) / 12
    width = 2 * _BLUR + 1
    sums = np.pad(cells, ((_BLUR + 1, _BLUR),) * 2, mode="symmetric").astype(np.float64)
    sums = sums.cumsum(axis=0).cumsum(axis=1)
    around = sums[width:, width:] - sums[:-width, width:] - sums[width:, :-width]
    around += sums[:-width, :-width]
    fine = (cells - around / width**2) * _LEVEL
    plane: NDArray[np.int8] = np.clip(np.rint(fine), -127, 127).astype(np.int8)
    return plane


# ------------------------------------------------------------------------------------ suggesting


def _suggestions(
    seen: _Seen, searcher: Callable[[NDArray[np.float32]], Search]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """How pictures may lie on one another: rows of one, other, turn, mirrored, right, down.

    ``one``, mirrored (or not) and turned clockwise by so many right angles about its middle, then
    moved ``right`` and ``down`` pixels, lies on ``other``. First those that one landmark tells of,
    upright; then the turned and mirrored ones, where two must agree: few overlaps are, and chance
    suggests seven times as many.
    """
    mirror = _mirrored()
    vectors, project = _principal(seen.descriptors)
    search = searcher(vectors)

    def looked_up(mirrored: bool) -> NDArray[np.int32]:
        def task(start: int) -> NDArray[np.int32]:
            if not mirrored:
                return search(vectors[start : start + _SEARCH], _NEIGHBOURS)
            part = seen.descriptors[start : start + _SEARCH, mirror]
            return search(project(part), _NEIGHBOURS)

        with ThreadPoolExecutor(_THREADS, "search") as pool:
            return np.concatenate(list(pool.map(task, range(0, len(vectors), _SEARCH))))

    straight: list[NDArray[np.int64]] = []
    turned: list[NDArray[np.int64]] = []
    for mirrored in (False, True):
        told = _told(seen, looked_up(mirrored), mirrored)
        upright = (told[:, 2] == 0) & (not mirrored)
        straight.append(_once(told[upright]))
        turned.append(_agreed(told[~upright]))
    return np.concatenate(straight), np.concatenate(turned)


def _root(descriptors: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Square roots of shares: their distance compares histograms better (Arandjelovic 2012)."""
    values = descriptors.astype(np.float32)
    shares: NDArray[np.float32] = values / np.maximum(values.sum(axis=1, keepdims=True), 1)
    return np.sqrt(shares)


def _principal(
    descriptors: NDArray[np.uint8],
) -> tuple[NDArray[np.float32], Callable[[NDArray[np.uint8]], NDArray[np.float32]]]:
    """Descriptors (M, 128) as vectors (M, 32), and what makes such vectors of others."""
    sample = _root(descriptors[:: -(-len(descriptors) // _SAMPLE)])
    mean = sample.mean(axis=0)
    centred = (sample - mean).astype(np.float64)
    _, axes = np.linalg.eigh(centred.T @ centred)
    basis = axes[:, -_AXES:].astype(np.float32)  # (128, 32)

    def project(some: NDArray[np.uint8]) -> NDArray[np.float32]:
        vectors: NDArray[np.float32] = (_root(some) - mean) @ basis
        return vectors

    vectors = np.empty((len(descriptors), _AXES), np.float32)
    for start in range(0, len(descriptors), _SEARCH):
        vectors[start : start + _SEARCH] = project(descriptors[start : start + _SEARCH])
    return vectors, project


def _mirrored() -> NDArray[np.intp]:
    """Where each number of a SIFT descriptor comes from if the picture is mirrored.

    A descriptor holds, in a frame turned to the landmark's direction, 4 rows of 4 columns of 8
    directions: a mirror swaps the rows and turns directions round.
    """
    numbers = np.arange(128).reshape(4, 4, 8)
    return numbers[::-1][:, :, -np.arange(8) % 8].ravel()


def _told(seen: _Seen, nearest: NDArray[np.int32], mirrored: bool) -> NDArray[np.int64]:
    """What landmarks and those nearest to them, (M, k), tell: rows as of ``_suggestions``."""
    mine = np.repeat(np.arange(len(nearest)), nearest.shape[1])
    theirs = nearest.ravel()
    usable = (theirs >= 0) & (seen.picture[mine] != seen.picture[theirs])
    mine, theirs = mine[usable], theirs[usable]
    ours, others = seen.points[mine], seen.points[theirs]
    direction = 180 - ours[:, 3] if mirrored else ours[:, 3]
    between = (others[:, 3] - direction) % 360
    turns = np.rint(between / 90)
    size = ours[:, 2] / others[:, 2]
    plausible = (np.abs(between - 90 * turns) <= _TURN_TOLERANCE) & (
        np.maximum(size, 1 / size) <= _SIZE_TOLERANCE
    )
    mine, theirs = mine[plausible], theirs[plausible]
    ours, others = ours[plausible, :2], others[plausible, :2]
    turn = turns[plausible].astype(np.int64) % 4
    middle = (SIDE - 1) / 2
    x, y = ours[:, 0] - middle, ours[:, 1] - middle
    if mirrored:
        x = -x
    right = np.choose(turn, [x, -y, -x, y]) + middle
    down = np.choose(turn, [y, x, -y, -x]) + middle
    rows = np.column_stack(
        [
            seen.picture[mine],
            seen.picture[theirs],
            turn,
            np.full(len(turn), mirrored),
            np.rint(others[:, 0] - right),
            np.rint(others[:, 1] - down),
        ]
    ).astype(np.int64)
    share = (SIDE - np.abs(rows[:, 4])) * (SIDE - np.abs(rows[:, 5])) / SIDE**2
    kept: NDArray[np.int64] = rows[
        (share >= LEAST_SHARE) & (np.abs(rows[:, 4:]) < SIDE).all(axis=1)
    ]
    return kept


def _once(upright: NDArray[np.int64]) -> NDArray[np.int64]:
    """Upright rows with the smaller picture first, and each shift of two pictures once."""
    swapped = upright[:, 0] > upright[:, 1]
    rows = upright.copy()
    rows[swapped, :2] = upright[swapped, 1::-1]
    rows[swapped, 4:] *= -1
    return np.unique(rows, axis=0)


def _agreed(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Of each two pictures in one orientation the shift that most rows tell of, two at least."""
    rows = rows[np.lexsort(rows.T[::-1])]
    if not len(rows):
        return rows
    begins = np.flatnonzero(np.r_[True, (rows[1:, :4] != rows[:-1, :4]).any(axis=1)])
    agreed = []
    for begin, end in zip(begins.tolist(), [*begins.tolist()[1:], len(rows)], strict=True):
        if end - begin < 2:
            continue
        shifts = rows[begin:end, 4:]
        near = (np.abs(shifts[:, None] - shifts[None]) <= _AGREE).all(axis=2)
        best = int(near.sum(axis=1).argmax())
        if near[best].sum() >= 2:
            agreed.append(rows[begin + best])
    return np.array(agreed, dtype=np.int64).reshape(-1, 6)


# --------------------------------------------------------------------------------------- deciding


def _laid(plane: NDArray[np.int8], turn: int, mirrored: bool) -> NDArray[np.int8]:
    return np.rot90(plane[:, ::-1] if mirrored else plane, -turn)


def _likeness(one: NDArray[np.int8], other: NDArray[np.int8], right: int, down: int) -> float:
    """Correlation of two planes where they overlap, -1..1; 0 where there is nothing to compare.

    ``one`` is moved by ``right`` and ``down`` pixels, and by up to a cell more to either side, as
    landmarks are not exact: the best counts.
    """
    first, second = one.astype(np.float32), other.astype(np.float32)
    middle_x, middle_y = round(right / 2), round(down / 2)
    best = 0.0
    for y in range(middle_y - 1, middle_y + 2):
        for x in range(middle_x - 1, middle_x + 2):
            ours = first[max(0, -y) : _PLANE - max(0, y), max(0, -x) : _PLANE - max(0, x)]
            theirs = second[max(0, y) : _PLANE + min(0, y), max(0, x) : _PLANE + min(0, x)]
            a, b = ours.ravel(), theirs.ravel()
            least = (_LEAST_CONTRAST * _LEVEL) ** 2 * a.size
            energy, their_energy = float(a @ a), float(b @ b)
            if a.size and min(energy, their_energy) > least:
                best = max(best, float(a @ b) / (energy * their_energy) ** 0.5)
    return best
