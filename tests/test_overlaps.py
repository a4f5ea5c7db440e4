"""Pictures that show the same concrete in part, and what a split that divides them would leak."""

from __future__ import annotations

import csv
import os
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from crackwatch import dataset, images, synthetic
from crackwatch.dataset import Kinship, LabelledFile, Landmarks
from crackwatch.domain import Label
from crackwatch.images import keypoints

LANDMARKS = Landmarks(keypoints.landmarks, keypoints.searcher)
LIMITS = images.Limits(10**6, "quarantine")


def decode(content: bytes) -> NDArray[np.uint8]:
    return images.decode(content, LIMITS)


def related(folder: Path, crops: list[NDArray[np.uint8]]) -> Kinship:
    """Kinship of crops, each encoded as a JPEG of its own."""
    (folder / "normal").mkdir()
    for number, crop in enumerate(crops):
        file = str(folder / f"normal/{number:02}.jpg")
        cv2.imwrite(file, np.ascontiguousarray(crop), [cv2.IMWRITE_JPEG_QUALITY, 80])
    files = dataset.list_files(dataset.find_layout(folder))
    with dataset.load(files, decode, folder) as pictures:
        return dataset.kinship(pictures, LANDMARKS)


def photograph(seed: int) -> NDArray[np.uint8]:
    return synthetic.draw(seed, crack=True, side=600)


def crop(wall: NDArray[np.uint8], x: int, y: int) -> NDArray[np.uint8]:
    return wall[y : y + 227, x : x + 227]


@pytest.mark.parametrize(("right", "down"), [(10, 0), (0, 110), (63, 41), (101, 87), (171, 3)])
def test_shifted_crops_of_one_photograph_are_together(
    right: int, down: int, tmp_path: Path
) -> None:
    wall, other = photograph(1), photograph(2)
    crops = [crop(wall, 50, 60), crop(wall, 50 + right, 60 + down), crop(other, 50, 60)]
    assert related(tmp_path, crops).group_of.tolist() == [0, 0, 2]


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("mirrored", [False, True])
def test_a_shifted_crop_is_known_turned_and_mirrored(
    turns: int, mirrored: bool, tmp_path: Path
) -> None:
    wall = photograph(3)
    second = crop(wall, 90, 75)
    second = np.rot90(second[:, ::-1] if mirrored else second, turns)
    kin = related(tmp_path, [crop(wall, 50, 60), crop(photograph(4), 0, 0), second])
    assert kin.group_of.tolist() == [0, 1, 0]
    assert kin.overlaps.tolist() == [[0, 2]]


def test_crops_side_by_side_are_apart_and_a_third_over_both_joins_them(tmp_path: Path) -> None:
    wall = photograph(5)
    beside = [crop(wall, 0, 0), crop(wall, 227, 0), crop(wall, 0, 227)]
    (tmp_path / "two").mkdir()
    assert related(tmp_path / "two", beside).group_of.tolist() == [0, 1, 2]
    (tmp_path / "three").mkdir()
    across = related(tmp_path / "three", [*beside, crop(wall, 115, 0)])
    assert across.group_of.tolist() == [0, 0, 2, 0]
    assert across.overlaps.tolist() == [[0, 3], [1, 3]]


def test_pictures_of_nothing_are_apart(tmp_path: Path) -> None:
    blank = [np.full((227, 227, 3), grey, np.uint8) for grey in (90, 120, 121)]
    assert related(tmp_path, blank).group_of.tolist() == [0, 1, 2]


def test_different_surfaces_are_apart_and_the_answer_is_always_the_same(tmp_path: Path) -> None:
    drawn = [synthetic.draw(seed, crack=seed % 2 == 0) for seed in range(60)]
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    first = related(tmp_path / "one", drawn)
    assert first.group_of.tolist() == list(range(60))
    wall = photograph(6)
    crops = [crop(wall, x, y) for x in range(0, 360, 90) for y in range(0, 360, 90)]
    second = related(tmp_path / "two", crops)
    (tmp_path / "again").mkdir()
    assert (related(tmp_path / "again", crops).overlaps == second.overlaps).all()


# ----------------------------------------------------------------------------------------- leaks


def kin_of(equal_to: list[int], copy_of: list[int], overlaps: list[list[int]]) -> Kinship:
    return Kinship(
        np.array(equal_to, dtype=np.intp),
        np.array(copy_of, dtype=np.intp),
        np.array(overlaps, dtype=np.intp).reshape(-1, 2),
        np.zeros(len(equal_to), dtype=np.intp),
    )


def test_one_picture_under_both_labels_is_told_once_for_each_that_there_is() -> None:
    labels = np.array([1, 0, 0, 1, 1, 0, 0, 1], dtype=np.int8)
    copy_of = [0, 1, 0, 3, 4, 3, 3, 7]  # 0 and 2; 3, 5 and 6
    kin = kin_of(list(range(8)), copy_of, [[1, 7]])
    assert dataset.labelled_both_ways(kin, labels) == [(0, 2), (3, 5)]
    assert dataset.labelled_both_ways(kin, np.zeros(8, np.int8)) == []


def test_leaks_are_what_random_splits_divide_on_average() -> None:
    """Held against 4,000 splits that were really drawn."""
    random = np.random.default_rng(1)
    labels = np.array([1] * 20 + [0] * 80, dtype=np.int8)
    equal = list(range(100))
    equal[21:30] = [21] * 9
    copies = list(equal)
    copies[30:40] = [30] * 10
    overlapping = [[one, one + 40] for one in range(40, 60)] + [[2, 90], [3, 4]]
    kin = kin_of(equal, copies, overlapping)
    part_of = np.arange(100) % 4
    divided = np.zeros(3)
    kinds: list[list[tuple[int, int]]] = [
        [(a, b) for a in range(21, 30) for b in range(21, a)],
        [(a, b) for a in range(30, 40) for b in range(30, a)],
        [(a, b) for a, b in overlapping],
    ]
    for _ in range(4000):
        drawn = part_of.copy()
        for label in (0, 1):
            drawn[labels == label] = random.permutation(drawn[labels == label])
        for kind, pairs in enumerate(kinds):
            divided[kind] += sum(drawn[a] != drawn[b] for a, b in pairs)
    found = dataset.leaks(kin, labels, part_of)
    assert np.abs(divided / 4000 - (found.equal, found.near, found.overlapping)).max() < 1
    assert found.total == found.equal + found.near + found.overlapping


def test_nothing_leaks_where_nothing_is_related() -> None:
    alone = list(range(10))
    labels = np.array([1] * 5 + [0] * 5, dtype=np.int8)
    assert dataset.leaks(kin_of(alone, alone, []), labels, np.arange(10) % 2).total == 0


# --------------------------------------------------------------------------------- texture bits


def bits(*drawn: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return dataset.texture_bits(np.stack([dataset.fold(dataset.texture(each)) for each in drawn]))


def test_bits_know_a_picture_encoded_exposed_or_turned_anew_and_no_other() -> None:
    drawn = [synthetic.draw(seed, crack=False) for seed in range(40)]
    encoded = cv2.imencode(".jpg", drawn[3], [cv2.IMWRITE_JPEG_QUALITY, 60])[1]
    changed = [
        decode(encoded.tobytes()),
        (drawn[4] * 0.8).astype(np.uint8),
        np.rot90(drawn[5][:, ::-1], 3),
        synthetic.draw(99, crack=False),
    ]
    found = dataset.near_duplicates(bits(*changed), bits(*drawn))
    assert found.tolist() == [[0, 3], [1, 4], [2, 5]]
    assert bits(*drawn).shape == (40, 35)


def test_bits_of_a_flat_picture_match_nothing() -> None:
    flat = bits(np.full((227, 227, 3), 90, np.uint8), np.full((227, 227, 3), 90, np.uint8))
    assert not flat.any()
    assert len(dataset.near_duplicates(flat, flat)) == 0


# --------------------------------------------------------------------------------- photographs


@pytest.mark.slow
@pytest.mark.real_pictures
def test_photographs_are_grouped_as_in_the_list_that_came_with_them(
    metu: Path, tmp_path: Path
) -> None:
    """All cracks and 1,500 normals: whole groups of the list, which is deliberately suspicious."""
    with (metu / "train_overlap_groups.csv").open(newline="") as stream:
        listed = {row["file"]: int(row["group"]) for row in csv.DictReader(stream)}
    members = Counter(listed.values())
    normals = [name for name in sorted(listed) if name.startswith("normal/")]
    grouped = sorted({listed[name] for name in normals if members[listed[name]] > 1})
    chosen: set[int] = set()
    for group in np.random.default_rng(3).permutation(grouped).tolist():
        if sum(members[each] for each in chosen) < 1000:
            chosen.add(group)
    alone = [name for name in normals if members[listed[name]] == 1][:500]
    names = [name for name in normals if listed[name] in chosen] + alone
    names += [name for name in listed if name.startswith("anomaly/")]
    files = [
        LabelledFile(
            os.fsencode(metu / "train" / name),
            Label.ANOMALY if name.startswith("anomaly/") else Label.NORMAL,
        )
        for name in names
    ]
    with dataset.load(files, decode, tmp_path) as pictures:
        kin = dataset.kinship(pictures, LANDMARKS)
        listed_of = np.array([listed[name] for name in names])
        fold_of = dataset.folds(pictures, kin.group_of, 5, seed=1)
        labels = pictures.labels
    apart = sum(listed_of[one] != listed_of[other] for one, other in kin.overlaps.tolist())
    assert apart <= 0.03 * len(kin.overlaps)
    assert len(kin.overlaps) >= 300
    sizes = np.bincount(kin.group_of)
    assert sizes.max() <= 20
    cracks = kin.group_of[labels == 1]
    assert len(set(cracks.tolist())) == len(cracks) == 455
    for label, share in ((1, 91), (0, (labels == 0).sum() / 5)):
        assert np.abs(np.bincount(fold_of[labels == label]) - share).max() <= 0.02 * share + 1
    assert dataset.leaks(kin, labels, fold_of).total >= 200
