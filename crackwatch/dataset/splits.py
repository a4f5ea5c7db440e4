"""Groups copies, and divides pictures so that no group stands on both sides; seeded."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crackwatch.dataset.copies import SAME_TEXTURE, texture
from crackwatch.dataset.pictures import Pictures
from crackwatch.domain import Label
from crackwatch.errors import DatasetError


def groups(pictures: Pictures) -> NDArray[np.intp]:
    """A group number for each picture, (N,): copies of one another are in one group.

    Copies are pictures with equal pixels, turned or mirrored or not, and those whose fine texture
    correlates (the same picture encoded or exposed anew). Crops that merely overlap are not found.
    The comparison takes time with the square of N: about 2 s for 15,000.
    """
    parent = np.arange(len(pictures), dtype=np.intp)

    def root(position: int) -> int:
        while parent[position] != position:
            parent[position] = parent[parent[position]]
            position = int(parent[position])
        return position

    def join(one: int, other: int) -> None:
        first, second = sorted((root(one), root(other)))
        parent[second] = first

    first_with: dict[bytes, int] = {}
    for position, digest in enumerate(pictures.pixel_hashes):
        join(first_with.setdefault(digest, position), position)
    for one, other in _similar_pairs(pictures.folded):
        if root(one) != root(other) and _same_texture(pictures, one, other):
            join(one, other)
    return np.array([root(position) for position in range(len(pictures))], dtype=np.intp)


def _similar_pairs(folded: NDArray[np.float32]) -> Iterator[tuple[int, int]]:
    """Pairs whose orientation-free textures correlate; the matrix is walked in strips."""
    strip = 512
    for start in range(0, len(folded), strip):
        likeness = folded[start : start + strip] @ folded[start:].T  # (strip, N - start)
        rows, columns = np.nonzero(likeness >= SAME_TEXTURE)
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
            if column > row:
                yield start + row, start + column


def _same_texture(pictures: Pictures, one: int, other: int) -> bool:
    first, second = (texture(picture) for picture in pictures.get([one, other]))
    flat = first.ravel()
    return any(
        float(flat @ np.rot90(flipped, turns).ravel()) >= SAME_TEXTURE
        for flipped in (second, second[:, ::-1])
        for turns in range(4)
    )


@dataclass(frozen=True, slots=True)
class Split:
    """Positions to learn from and positions held back; no group is in both."""

    train: NDArray[np.intp]
    validation: NDArray[np.intp]


def split(pictures: Pictures, group_of: NDArray[np.intp], fraction: float, seed: int) -> Split:
    """Holds back ``fraction`` (0..1) of each class, whole groups at a time.

    Which groups is decided by a keyed hash of their pixels, not by file names or order: with the
    same seed a picture stays held back when the folder grows, but for a few at the edge. Raises
    DatasetError where a class does not have two groups to divide.
    """
    members: dict[int, list[int]] = defaultdict(list)
    for position, group in enumerate(group_of.tolist()):
        members[group].append(position)
    key = seed.to_bytes(8, "little")
    by_class: dict[bool, list[tuple[bytes, list[int]]]] = {True: [], False: []}
    for positions in members.values():
        name = min(pictures.pixel_hashes[position] for position in positions)
        rank = hashlib.blake2b(name, key=key, digest_size=16).digest()
        has_anomaly = bool(pictures.labels[positions].any())
        by_class[has_anomaly].append((rank, positions))
    held: list[int] = []
    for has_anomaly, ranked in by_class.items():
        label = Label.ANOMALY if has_anomaly else Label.NORMAL
        if len(ranked) < 2:
            raise DatasetError(
                f"all {label} pictures are copies of {len(ranked)} picture: nothing can be held "
                "back to check the model with",
                "Take in more different pictures with 'crackwatch dataset import FOLDER'.",
            )
        wanted = max(1, round(fraction * sum(len(positions) for _, positions in ranked)))
        taken = 0
        for index, (_, positions) in enumerate(sorted(ranked)):
            if taken >= wanted or index == len(ranked) - 1:  # one group at least is learned from
                break
            held.extend(positions)
            taken += len(positions)
    is_held = np.zeros(len(pictures), dtype=bool)
    is_held[held] = True
    return Split(train=np.flatnonzero(~is_held), validation=np.flatnonzero(is_held))
