"""Folds: groups whole, classes even, and as few pictures as possible moved when the data grow."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from crackwatch import dataset
from crackwatch.dataset import Pictures, PixelCache
from crackwatch.errors import DatasetError


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PixelCache]:
    cache = PixelCache(0, tmp_path_factory.mktemp("cache"))
    yield cache
    cache.close()


def known(cache: PixelCache, labels: list[int], first: int = 0) -> Pictures:
    """Pictures of which nothing is known but labels and hashes: all that folds look at."""
    count = len(labels)
    hashes = tuple(number.to_bytes(16, "big") for number in range(first, first + count))
    return Pictures(
        cache=cache,
        slots=np.arange(count, dtype=np.intp),
        paths=tuple(b"%d.png" % number for number in range(count)),
        labels=np.array(labels, dtype=np.int8),
        sha256=hashes,
        pixel_hashes=hashes,
        folded=np.zeros((count, 276), np.float32),
        problems=(),
        contradictions=(),
    )


def shares(pictures: Pictures, fold_of: NDArray[np.int8], count: int) -> NDArray[np.intp]:
    """Pictures by class and fold, (2, count)."""
    return np.stack(
        [np.bincount(fold_of[pictures.labels == label], minlength=count) for label in (0, 1)]
    )


def test_every_fold_gets_its_share_of_each_class(cache: PixelCache) -> None:
    pictures = known(cache, [1] * 455 + [0] * 2000)
    alone = np.arange(2455, dtype=np.intp)
    found = shares(pictures, dataset.folds(pictures, alone, 5, seed=1), 5)
    assert found.tolist() == [[400] * 5, [91] * 5]


def test_small_groups_stay_whole_and_shares_even(cache: PixelCache) -> None:
    pictures = known(cache, [1] * 400 + [0] * 3000)
    group_of = np.arange(3400, dtype=np.intp) // 7 * 7  # one of them holds both classes
    fold_of = dataset.folds(pictures, group_of, 5, seed=4)
    assert (fold_of == fold_of[group_of]).all()
    normal, anomaly = shares(pictures, fold_of, 5)
    assert np.abs(normal - 600).max() <= 7
    assert np.abs(anomaly - 80).max() <= 7


@given(
    sizes=st.lists(st.integers(1, 60), min_size=10, max_size=40),
    count=st.integers(2, 5),
    seed=st.integers(0, 9),
)
def test_whatever_the_groups_none_is_divided_and_no_fold_lacks_a_class(
    cache: PixelCache, sizes: list[int], count: int, seed: int
) -> None:
    group_of = np.repeat(np.arange(len(sizes)), sizes)
    pictures = known(cache, (group_of % 2).tolist())
    fold_of = dataset.folds(pictures, group_of, count, seed)
    for group in range(len(sizes)):
        assert len(set(fold_of[group_of == group].tolist())) == 1
    assert shares(pictures, fold_of, count).min() >= 1


def test_the_seed_decides_and_the_order_does_not(cache: PixelCache) -> None:
    pictures = known(cache, [1] * 50 + [0] * 200)
    alone = np.arange(250, dtype=np.intp)
    first = dataset.folds(pictures, alone, 5, seed=1)
    assert (dataset.folds(pictures, alone, 5, seed=1) == first).all()
    assert (dataset.folds(pictures, alone, 5, seed=2) != first).any()
    renumbered = alone[::-1].copy()
    assert (dataset.folds(pictures, renumbered, 5, seed=1) == first).all()


def test_growing_data_keep_their_folds_but_for_a_few_at_the_cuts(cache: PixelCache) -> None:
    before, after = known(cache, [1] * 50 + [0] * 1000), known(cache, [1] * 50 + [0] * 1100)
    was = dataset.folds(before, np.arange(1050, dtype=np.intp), 5, seed=1)
    now = dataset.folds(after, np.arange(1150, dtype=np.intp), 5, seed=1)[:1050]
    assert (was != now).mean() < 0.05


def test_a_class_with_fewer_groups_than_folds_is_refused(cache: PixelCache) -> None:
    pictures = known(cache, [1] * 12 + [0] * 50)
    group_of = np.array([number // 3 for number in range(12)] + list(range(100, 150)))
    with pytest.raises(DatasetError, match="5 folds need anomaly pictures of 5 places"):
        dataset.folds(pictures, group_of, 5, seed=1)


def test_normals_that_lie_with_anomalies_count_as_theirs(cache: PixelCache) -> None:
    """Two groups of both classes: every normal is dealt already, and that is enough."""
    pictures = known(cache, [1, 0, 1, 0])
    fold_of = dataset.folds(pictures, np.array([0, 0, 2, 2]), 2, seed=1)
    assert sorted(fold_of.tolist()) == [0, 0, 1, 1]
