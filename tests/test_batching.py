"""A batch closes by size, by age or by drain; a full queue says no and loses nothing."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime

import pytest

from crackwatch.batching import BatchQueue
from crackwatch.domain import Arrival, Fingerprint, SettledBy


def arrival(number: int, size_bytes: int = 10) -> Arrival:
    stat = Fingerprint(size_bytes, number, number, 1, number)
    return Arrival(b"%d.jpg" % number, stat, datetime.now(UTC), SettledBy.LEASE)


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def queue(clock: Clock | None = None, **options: object) -> BatchQueue:
    settings = {"max_size": 4, "max_wait_s": 0.2, "capacity": 10, "max_bytes": 1000, **options}
    if clock is not None:
        settings["monotonic"] = clock
    return BatchQueue(**settings)  # type: ignore[arg-type]


def sources(batch: object) -> list[bytes]:
    assert batch is not None
    return [each.source for each in batch.arrivals]  # type: ignore[attr-defined]


def test_a_full_batch_closes_at_once_and_in_order() -> None:
    waiting = queue(Clock())
    for number in range(5):
        assert waiting.put(arrival(number))
    batch = waiting.take(0)
    assert batch is not None
    assert (sources(batch), batch.closed_by) == ([b"0.jpg", b"1.jpg", b"2.jpg", b"3.jpg"], "size")
    assert len(waiting) == 1


def test_a_batch_closes_when_its_oldest_picture_has_waited_long_enough() -> None:
    clock = Clock()
    waiting = queue(clock)
    waiting.put(arrival(0))
    clock.now_s += 0.15
    waiting.put(arrival(1))
    assert waiting.take(0) is None
    clock.now_s += 0.06
    batch = waiting.take(0)
    assert batch is not None
    assert (sources(batch), batch.closed_by) == ([b"0.jpg", b"1.jpg"], "age")


def test_draining_closes_what_is_there_and_then_says_at_once_that_there_is_no_more() -> None:
    waiting = queue()
    for number in range(5):
        waiting.put(arrival(number))
    waiting.drain()
    began = time.monotonic()
    closed = [waiting.take(10), waiting.take(10), waiting.take(10)]
    assert time.monotonic() - began < 1
    assert [each.closed_by for each in closed if each] == ["size", "drain"]
    assert closed[2] is None


@pytest.mark.parametrize(
    ("options", "accepted"),
    [({"capacity": 3}, 3), ({"max_bytes": 25}, 2), ({"max_bytes": 1}, 1)],
    ids=["count", "bytes", "one is always taken"],
)
def test_a_full_queue_says_no(options: dict[str, int], accepted: int) -> None:
    waiting = queue(Clock(), **options)
    assert [waiting.put(arrival(number)) for number in range(5)].count(True) == accepted
    assert len(waiting) == accepted


def test_a_queue_that_can_take_no_more_does_not_wait_for_company() -> None:
    waiting = queue(Clock(), capacity=2)
    for number in range(2):
        waiting.put(arrival(number))
    batch = waiting.take(0)
    assert batch is not None
    assert batch.closed_by == "size"


def test_room_that_was_taken_is_given_back() -> None:
    waiting = queue(Clock(), max_bytes=40)
    for _ in range(3):
        assert [waiting.put(arrival(number)) for number in range(5)] == [True] * 4 + [False]
        assert len(sources(waiting.take(0))) == 4


def test_a_producer_that_has_to_wait_goes_on_when_there_is_room() -> None:
    waiting = queue(capacity=4)
    done: list[bool] = []

    def produce() -> None:
        done.extend(waiting.put(arrival(number), timeout_s=10) for number in range(40))

    producer = threading.Thread(target=produce)
    producer.start()
    seen: list[bytes] = []
    while len(seen) < 40:
        seen += sources(waiting.take(5))
    producer.join()
    assert all(done)
    assert seen == [b"%d.jpg" % number for number in range(40)]


def test_several_producers_and_consumers_lose_and_double_nothing() -> None:
    waiting = queue(capacity=16)
    seen: list[bytes] = []
    lock = threading.Lock()

    def produce(first: int) -> None:
        for number in range(first, first + 250):
            assert waiting.put(arrival(number), timeout_s=10)

    def consume() -> None:
        while (batch := waiting.take(0.5)) is not None:
            with lock:
                seen.extend(sources(batch))

    workers = [threading.Thread(target=produce, args=(first,)) for first in (0, 250, 500, 750)]
    workers += [threading.Thread(target=consume) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted(seen) == sorted(b"%d.jpg" % number for number in range(1000))


def test_a_taker_is_woken_by_what_arrives() -> None:
    waiting = queue(max_wait_s=0.0)
    timer = threading.Timer(0.1, waiting.put, args=(arrival(1),))
    timer.start()
    began = time.monotonic()
    assert sources(waiting.take(5)) == [b"1.jpg"]
    assert time.monotonic() - began < 1
