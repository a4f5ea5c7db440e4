"""Which pictures must stay on one side of a split, and what a split that ignored it would leak."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crackwatch.dataset.copies import SAME_TEXTURE, texture
from crackwatch.dataset.folders import Progress, no_progress
from crackwatch.dataset.origins import photograph_of
from crackwatch.dataset.overlaps import Landmarks, overlaps
from crackwatch.dataset.pictures import Pictures


@dataclass(frozen=True, slots=True)
class Kinship:
    """How pictures are related. Arrays of N rows name a picture's relative of lowest position."""

    equal_to: NDArray[np.intp]  # (N,) equal pixels, turned or mirrored or not
    copy_of: NDArray[np.intp]  # (N,) and the same picture encoded or exposed anew
    overlaps: NDArray[np.intp]  # (M, 2) pairs that show the same concrete in part; copies are none
    # (N,) all that are related, over however many others, and crops of one photograph
    group_of: NDArray[np.intp]


def kinship(
    pictures: Pictures, landmarks: Landmarks | None = None, progress: Progress = no_progress
) -> Kinship:
    """Copies of one another, and with ``landmarks`` crops that overlap: see ``overlaps``.

    Crops that were cut from one photograph are related as well, wherever in it they lie: see
    ``origins``. Copies are pictures with equal pixels, turned or mirrored or not, and those whose fine texture
    correlates. That comparison takes time with the square of N: about 2 s for 15,000. ``progress``
    counts the pictures that were searched for landmarks.
    """
    relatives = _Relatives(len(pictures))
    first_with: dict[bytes, int] = {}
    for position, digest in enumerate(pictures.pixel_hashes):
        relatives.join(first_with.setdefault(digest, position), position)
    equal_to = relatives.first()
    distinct = np.array(list(first_with.values()), dtype=np.intp)
    for one, other in _similar_pairs(pictures.folded, distinct):
        if not relatives.joined(one, other) and _same_texture(pictures, one, other):
            relatives.join(one, other)
    copy_of = relatives.first()
    first_of: dict[bytes, int] = {}
    for position, path in enumerate(pictures.paths):
        photograph = photograph_of(path)
        if photograph is not None:
            relatives.join(first_of.setdefault(photograph, position), position)
    pairs = np.empty((0, 2), np.intp)
    if landmarks is not None:
        pairs = overlaps(pictures, distinct, landmarks, progress)
        pairs = pairs[copy_of[pairs[:, 0]] != copy_of[pairs[:, 1]]]
    for one, other in pairs.tolist():
        relatives.join(one, other)
    return Kinship(equal_to, copy_of, pairs, relatives.first())


def groups(
    pictures: Pictures, landmarks: Landmarks | None = None, progress: Progress = no_progress
) -> NDArray[np.intp]:
    """A group number for each picture, (N,): what ``kinship`` finds related is in one group."""
    return kinship(pictures, landmarks, progress).group_of


class _Relatives:
    """Sets of positions that grow together; each is known by its lowest position."""

    def __init__(self, count: int) -> None:
        self._parent = list(range(count))

    def _root(self, position: int) -> int:
        parent = self._parent
        while parent[position] != position:
            parent[position] = parent[parent[position]]
            position = parent[position]
        return position

    def join(self, one: int, other: int) -> None:
        first, second = sorted((self._root(one), self._root(other)))
        self._parent[second] = first

    def joined(self, one: int, other: int) -> bool:
        return self._root(one) == self._root(other)

    def first(self) -> NDArray[np.intp]:
        """For each position the lowest one that it has been joined with, (N,)."""
        return np.array([self._root(each) for each in range(len(self._parent))], dtype=np.intp)


def _similar_pairs(
    folded: NDArray[np.float32], positions: NDArray[np.intp]
) -> Iterator[tuple[int, int]]:
    """Pairs whose orientation-free textures correlate; the matrix is walked in strips."""
    strip = 512
    vectors = folded[positions]
    for start in range(0, len(vectors), strip):
        likeness = vectors[start : start + strip] @ vectors[start:].T  # (strip, P - start)
        rows, columns = np.nonzero(likeness >= SAME_TEXTURE)
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
            if column > row:
                yield int(positions[start + row]), int(positions[start + column])


def _same_texture(pictures: Pictures, one: int, other: int) -> bool:
    first, second = (texture(picture) for picture in pictures.get([one, other]))
    flat = first.ravel()
    return any(
        float(flat @ np.rot90(flipped, turns).ravel()) >= SAME_TEXTURE
        for flipped in (second, second[:, ::-1])
        for turns in range(4)
    )


def labelled_both_ways(kin: Kinship, labels: NDArray[np.int8]) -> list[tuple[int, int]]:
    """Of each picture that is there encoded or exposed anew under the other label, one of each.

    Pairs of positions, of an anomaly and a normal. Equal pixels under two labels are no pictures
    but ``Pictures.contradictions``.
    """
    firsts: tuple[dict[int, int], dict[int, int]] = ({}, {})  # by label: first position of a copy
    for position, (copy, label) in enumerate(
        zip(kin.copy_of.tolist(), labels.tolist(), strict=True)
    ):
        firsts[label].setdefault(copy, position)
    normal, anomaly = firsts
    return [(position, normal[copy]) for copy, position in anomaly.items() if copy in normal]


# ----------------------------------------------------------------------------------------- leaks


@dataclass(frozen=True, slots=True)
class Leaks:
    """Pairs of related pictures, one learned from and the other held back, by how they are related.

    Counted in expectation over all plain random splits with the same number of each class on each
    side, rounded: no split is drawn.
    """

    equal: int
    near: int  # the same picture encoded or exposed anew
    overlapping: int

    @property
    def total(self) -> int:
        return self.equal + self.near + self.overlapping


def leaks(kin: Kinship, labels: NDArray[np.int8], part_of: NDArray[np.integer]) -> Leaks:
    """What plain random parts would divide that ``kin`` keeps together.

    ``part_of`` (N,) names each picture's fold, or 0 and 1 for the two sides of a split; only how
    many pictures of each class are in each part matters.
    """
    equal = _pairs_within(kin.equal_to, labels)
    near = _pairs_within(kin.copy_of, labels) - equal
    overlapping = np.bincount(labels[kin.overlaps].sum(axis=1, dtype=np.intp), minlength=3)
    divided = _chances(labels, part_of)
    return Leaks(*(round(float(counts @ divided)) for counts in (equal, near, overlapping)))


def _pairs_within(cluster_of: NDArray[np.intp], labels: NDArray[np.int8]) -> NDArray[np.intp]:
    """Pairs of one cluster by how many of the two are anomalies, (3,)."""
    anomalies = np.bincount(cluster_of, weights=labels == 1).astype(np.intp)
    normals = np.bincount(cluster_of, weights=labels != 1).astype(np.intp)
    return np.array(
        [
            (normals * (normals - 1) // 2).sum(),
            (normals * anomalies).sum(),
            (anomalies * (anomalies - 1) // 2).sum(),
        ]
    )


def _chances(labels: NDArray[np.int8], part_of: NDArray[np.integer]) -> NDArray[np.float64]:
    """How probably chance divides a pair of which 0, 1 or 2 are anomalies, (3,)."""
    _, part = np.unique(part_of, return_inverse=True)
    parts = int(part.max(initial=-1)) + 1
    normals = np.bincount(part[labels != 1], minlength=parts).astype(np.float64)
    anomalies = np.bincount(part[labels == 1], minlength=parts).astype(np.float64)

    def together(ways: float, all_ways: float) -> float:
        return ways / all_ways if all_ways else 1.0

    return 1 - np.array(
        [
            together((normals * (normals - 1)).sum(), normals.sum() * (normals.sum() - 1)),
            together(float(normals @ anomalies), normals.sum() * anomalies.sum()),
            together((anomalies * (anomalies - 1)).sum(), anomalies.sum() * (anomalies.sum() - 1)),
        ]
    )
