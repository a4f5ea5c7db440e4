"""Divides pictures into folds: groups whole, every class evenly, no picture moved without need."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crackwatch.dataset.pictures import Pictures
from crackwatch.domain import Label
from crackwatch.errors import DatasetError


@dataclass(frozen=True, slots=True)
class _Group:
    """Pictures that stay together, how many of the class at hand, and the group's place in line."""

    rank: bytes
    members: list[int]
    weight: int


def folds(
    pictures: Pictures, group_of: NDArray[np.intp], count: int, seed: int
) -> NDArray[np.int8]:
    """The fold of each picture, 0 to ``count`` - 1, int8 (N,); no group is divided.

    Every fold gets its share of each class, to within the size of a group. Groups stand in line by
    a keyed hash of their pixels, and the line is cut into ``count`` stretches: neither names nor
    order matter, and when the folder grows only groups near a cut change their fold. Groups of
    more than half a fold are dealt out first, the largest first. Raises DatasetError where a class
    has too few groups for every fold to get one.
    """
    if not 2 <= count <= 127:
        raise ValueError(f"count is {count}; it must be from 2 to 127")
    members: dict[int, list[int]] = defaultdict(list)
    for position, group in enumerate(group_of.tolist()):
        members[group].append(position)
    key = seed.to_bytes(8, "little")
    lines: dict[Label, list[_Group]] = {Label.ANOMALY: [], Label.NORMAL: []}
    for positions in members.values():
        name = min(pictures.pixel_hashes[position] for position in positions)
        rank = hashlib.blake2b(name, key=key, digest_size=16).digest()
        anomalies = int(pictures.labels[positions].sum())
        label = Label.ANOMALY if anomalies else Label.NORMAL
        lines[label].append(_Group(rank, positions, anomalies or len(positions)))
    fold_of = np.full(len(pictures), -1, dtype=np.int8)
    for label in (Label.ANOMALY, Label.NORMAL):  # a group of both goes with its anomalies
        dealt = fold_of[(fold_of >= 0) & (pictures.labels == int(label is Label.ANOMALY))]
        there = np.bincount(dealt, minlength=count)
        if len(lines[label]) < int((there == 0).sum()):
            raise DatasetError(
                f"{count} folds need {label} pictures of {count} places at least: all that there "
                f"are show {len(lines[label])}",
                "Take in more different pictures with 'crackwatch dataset import FOLDER'.",
            )
        for group, fold in _dealt(lines[label], there):
            fold_of[group.members] = fold
    return fold_of


def _dealt(line: Sequence[_Group], there: NDArray[np.intp]) -> list[tuple[_Group, int]]:
    """Each group and its fold. ``there``, (folds,), counts the class's pictures already dealt."""
    filled = there.astype(np.float64)
    dealt: list[tuple[_Group, int]] = []
    by_size = sorted(line, key=lambda group: (-group.weight, group.rank))
    left = sum(group.weight for group in line)
    large = 0
    for group in by_size:
        if group.weight <= _level(filled, left) / 2:
            break
        fold = int(filled.argmin())
        filled[fold] += group.weight
        left -= group.weight
        dealt.append((group, fold))
        large += 1
    # Every group left is at most half of what an empty fold has room for, so that the stretch of
    # such a fold holds the middle of one group at least: no fold stays empty.
    room = np.maximum(_level(filled, left) - filled, 0)
    cuts = np.cumsum(room)[:-1]
    passed = 0
    for group in sorted(by_size[large:], key=lambda group: group.rank):
        fold = int(np.searchsorted(cuts, passed + group.weight / 2, side="right"))
        passed += group.weight
        dealt.append((group, fold))
    return dealt


def _level(filled: NDArray[np.float64], left: int) -> float:
    """How high ``left`` more pictures fill the folds up, the emptiest first: as water does."""
    ordered = np.sort(filled)
    for used in range(len(ordered), 0, -1):
        level = (left + float(ordered[:used].sum())) / used
        if level >= ordered[used - 1]:
            break
    return level
