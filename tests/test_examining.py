"""Claims about taking pictures through a classifier: order, full batches, bounds, and ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from crackwatch.examining import Emit, examine
from crackwatch.runtime import SIDE


class Brightness:
    """Scores a picture by its first byte, and remembers what came together."""

    model_id = "brightness"

    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    def scores(self, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.batches.append(pictures[:, 0, 0, 0].tolist())
        return pictures[:, 0, 0, 0].astype(np.float32)


@pytest.fixture(scope="module")
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(3) as executor:
        yield executor


def _pictures(first: int, count: int) -> NDArray[np.uint8]:
    pictures = np.zeros((count, SIDE, SIDE, 3), np.uint8)
    pictures[:, 0, 0, 0] = np.arange(first, first + count) % 251
    return pictures


@settings(deadline=None, max_examples=25)
@given(
    counts=st.lists(st.integers(0, 9), max_size=12),
    chunk=st.integers(1, 4),
    batch=st.integers(1, 6),
    pieces=st.integers(1, 4),
)
def test_each_item_gets_the_scores_of_its_own_pictures_in_order_and_batches_are_full(
    pool: ThreadPoolExecutor, counts: list[int], chunk: int, batch: int, pieces: int
) -> None:
    starts = np.cumsum([0, *counts]).tolist()

    def produce(item: int, emit: Emit) -> int:
        for at in range(0, counts[item], pieces):
            emit(_pictures(starts[item] + at, min(pieces, counts[item] - at)))
        return item

    classifier = Brightness()
    found = list(
        examine(
            range(len(counts)), produce, classifier, pool=pool, threads=2, chunk=chunk, batch=batch
        )
    )
    assert [item for item, _ in found] == list(range(len(counts)))
    for item, scores in found:
        assert scores.dtype == np.float32
        assert scores.tolist() == [n % 251 for n in range(starts[item], starts[item + 1])]
    assert [len(each) for each in classifier.batches[:-1]] == [batch] * (
        len(classifier.batches) - 1
    )
    together = [value for each in classifier.batches for value in each]
    assert together == [n % 251 for n in range(sum(counts))]


def test_one_picture_may_be_emitted_without_a_leading_axis(pool: ThreadPoolExecutor) -> None:
    def produce(item: int, emit: Emit) -> str:
        emit(_pictures(item, 1)[0])
        return "seen"

    found = examine([7], produce, Brightness(), pool=pool, threads=1, chunk=1, batch=4)
    assert [(result, scores.tolist()) for result, scores in found] == [("seen", [7.0])]


def test_producers_wait_for_a_slow_classifier(pool: ThreadPoolExecutor) -> None:
    emitted = 0
    lock = threading.Lock()
    scored = 0
    most_ahead = 0

    class Slow(Brightness):
        def scores(self, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
            nonlocal scored, most_ahead
            time.sleep(0.005)
            with lock:
                most_ahead = max(most_ahead, emitted - scored)
            scored += len(pictures)
            return super().scores(pictures)

    def produce(item: int, emit: Emit) -> int:
        nonlocal emitted
        for number in range(40):
            emit(_pictures(number, 1))
            with lock:
                emitted += 1
        return item

    list(examine(range(6), produce, Slow(), pool=pool, threads=2, chunk=2, batch=8))
    # two chunks of 8 waiting, what the caller took of one of them, and a batch
    assert emitted == 240
    assert most_ahead <= 2 * 8 + 8 + 8 + 2


def test_what_a_producer_raises_ends_it_and_no_thread_stays(pool: ThreadPoolExecutor) -> None:
    running = threading.Semaphore(0)

    def produce(item: int, emit: Emit) -> int:
        try:
            if item == 1:
                raise MemoryError("no more")
            for _ in range(1000):
                emit(_pictures(item, 1))
            return item
        finally:
            running.release()

    def never_ending() -> Iterator[int]:
        yield from (1, 2, 3)

    with pytest.raises(MemoryError, match="no more"):
        list(examine(never_ending(), produce, Brightness(), pool=pool, threads=3, chunk=1, batch=2))
    for _ in range(3):  # all three have ended by now
        assert running.acquire(blocking=False)


def test_what_the_classifier_raises_ends_it_and_no_thread_stays(pool: ThreadPoolExecutor) -> None:
    ended = threading.Event()

    class Broken(Brightness):
        def scores(self, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
            raise RuntimeError("broken")

    def produce(item: int, emit: Emit) -> int:
        try:
            for _ in range(1000):
                emit(_pictures(item, 1))
            return item
        finally:
            ended.set()

    with pytest.raises(RuntimeError, match="broken"):
        list(examine([1], produce, Broken(), pool=pool, threads=1, chunk=1, batch=2))
    assert ended.is_set()


def test_a_caller_that_leaves_early_leaves_no_thread_behind(pool: ThreadPoolExecutor) -> None:
    ended = threading.Semaphore(0)

    def produce(item: int, emit: Emit) -> int:
        try:
            for number in range(500 if item else 1):
                emit(_pictures(number, 1))
            return item
        finally:
            ended.release()

    found = examine(range(3), produce, Brightness(), pool=pool, threads=2, chunk=1, batch=1)
    assert next(found)[0] == 0
    found.close()  # type: ignore[attr-defined]  # a generator, typed as the iterator that callers see
    for _ in range(2):  # the first and the one that was under way beside it
        assert ended.acquire(timeout=5)
