"""Divides pictures in two so that no group stands on both sides; seeded."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crackwatch.dataset.pictures import Pictures
from crackwatch.domain import Label
from crackwatch.errors import DatasetError


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
