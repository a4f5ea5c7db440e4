"""Takes pictures of many sizes through one classifier, in full batches and in bounded memory.

One item may give one picture or hundreds (the tiles of a photograph); those of several items share
batches. Threads make the pictures while the caller's scores them. Results keep the order of the
items, and which pictures share a batch follows from that order alone, so that a run repeats to the
last bit. Knows neither files nor decoders nor what a score means.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future
from itertools import islice
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from crackwatch.runtime import SIDE, Classifier

T = TypeVar("T")
R = TypeVar("R")

Emit = Callable[[NDArray[np.uint8]], None]
Produce = Callable[[T, Emit], R]


def examine(
    items: Iterable[T],
    produce: Produce[T, R],
    classifier: Classifier,
    *,
    pool: Executor,
    threads: int,
    chunk: int,
    batch: int,
) -> Iterator[tuple[R, NDArray[np.float32]]]:
    """For each item, in order, what ``produce`` returned and the scores of what it emitted.

    ``produce(item, emit)`` runs on ``pool``; it hands over pictures, (227, 227, 3) or (n, 227, 227,
    3) uint8 BGR, by ``emit``, which copies nothing and may wait: they must not be changed after.
    The scores are float32 (number of pictures emitted,), in the order of emission. ``threads``
    chunks of ``chunk`` items each are under way at once; each is ahead of the classifier by at most
    ``batch`` pictures and what one ``emit`` holds. ``batch`` pictures are scored at a time, only the
    last ones may be fewer. Whatever ``produce`` or the classifier raises ends the iteration, and no
    thread is left at work.
    """
    source = iter(items)
    under_way: deque[tuple[_Channel[R], Future[None]]] = deque()

    def begin() -> None:
        these = list(islice(source, chunk))
        if these:
            channel: _Channel[R] = _Channel(batch)
            under_way.append((channel, pool.submit(_produce_all, these, produce, channel)))

    scorer = _Scorer[R](classifier, batch)
    try:
        for _ in range(threads):
            begin()
        while under_way:
            channel, future = under_way[0]
            for event in channel:
                if isinstance(event, _Done):
                    scorer.finish(event.result)
                else:
                    scorer.take(event)
                yield from scorer.ready()
            future.result()
            under_way.popleft()
            begin()
        scorer.flush()
        yield from scorer.ready()
    finally:
        for channel, _ in under_way:
            channel.abandon()
        for _, future in under_way:
            future.exception()  # waits for its end; the first failure has been raised already


class _Done(Generic[R]):
    """The end of an item."""

    __slots__ = ("result",)

    def __init__(self, result: R) -> None:
        self.result = result


class _AbandonedError(Exception):
    """Nobody listens to a chunk any more."""


class _Channel(Generic[R]):
    """Pictures and ends of items, from the thread that makes them to the one that scores them."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._changed = threading.Condition()
        self._events: list[NDArray[np.uint8] | _Done[R]] = []
        self._held = 0  # pictures
        self._closed = False
        self._abandoned = False

    def emit(self, pictures: NDArray[np.uint8]) -> None:
        if pictures.ndim == 3:
            pictures = pictures[None]
        with self._changed:
            self._changed.wait_for(lambda: self._abandoned or self._held < self._room)
            if self._abandoned:
                raise _AbandonedError
            self._events.append(pictures)
            self._held += len(pictures)
            self._changed.notify()

    def end_item(self, result: R) -> None:
        with self._changed:
            self._events.append(_Done(result))
            self._changed.notify()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify()

    def abandon(self) -> None:
        with self._changed:
            self._abandoned = True
            self._changed.notify()

    def __iter__(self) -> Iterator[NDArray[np.uint8] | _Done[R]]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._events or self._closed)
                events, self._events = self._events, []
                if not events:
                    return
                self._held = 0
                self._changed.notify()
            yield from events


def _produce_all(items: Sequence[T], produce: Produce[T, R], channel: _Channel[R]) -> None:
    try:
        for item in items:
            channel.end_item(produce(item, channel.emit))
    except _AbandonedError:
        pass
    finally:
        channel.close()


class _Scorer(Generic[R]):
    """Fills batches, and gives each item its scores back."""

    def __init__(self, classifier: Classifier, batch: int) -> None:
        self._classifier = classifier
        self._batch = np.empty((batch, SIDE, SIDE, 3), np.uint8)  # filled again and again
        self._filled = 0
        self._scores = np.empty(0, np.float32)  # known, of items that are not ready
        self._unscored_items: deque[tuple[R, int]] = deque()  # and how many pictures each gave
        self._emitted = 0  # by the item that is under way

    def take(self, pictures: NDArray[np.uint8]) -> None:
        self._emitted += len(pictures)
        while len(pictures):
            end = min(len(self._batch), self._filled + len(pictures))
            taken = end - self._filled
            self._batch[self._filled : end] = pictures[:taken]
            pictures = pictures[taken:]
            self._filled = end
            if end == len(self._batch):
                self.flush()

    def finish(self, result: R) -> None:
        self._unscored_items.append((result, self._emitted))
        self._emitted = 0

    def flush(self) -> None:
        if self._filled:
            scores = self._classifier.scores(self._batch[: self._filled])
            self._scores = np.concatenate([self._scores, scores])
            self._filled = 0

    def ready(self) -> Iterator[tuple[R, NDArray[np.float32]]]:
        while self._unscored_items and self._unscored_items[0][1] <= len(self._scores):
            result, count = self._unscored_items.popleft()
            own, self._scores = self._scores[:count], self._scores[count:]
            yield result, own
