"""A batch closes by size, by age or to be done with it; a full queue says no and holds nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from crackwatch.batching import BatchQueue
from crackwatch.domain import Arrival, Batch, Fingerprint, SettledBy


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


def queue(clock: Any = time.monotonic, **changed: Any) -> BatchQueue:
    options: dict[str, Any] = {
        "max_size": 4,
        "max_wait_s": 0.2,
        "capacity": 10,
        "max_bytes": 1000,
        "monotonic": clock,
    }
    return BatchQueue(**{**options, **changed})


def arrival(number: int, size_bytes: int = 1) -> Arrival:
    stat = Fingerprint(size_bytes, number, number, 1, number)
    return Arrival(b"%d.jpg" % number, stat, datetime.now(UTC), SettledBy.LEASE)


def numbers(batch: Batch | None) -> list[int]:
    assert batch is not None
    return [each.fingerprint.mtime_ns for each in batch.arrivals]


# ------------------------------------------------------------------------------- when it closes


def test_a_full_batch_closes_at_once_and_in_order(clock: Clock) -> None:
    waiting = queue(clock)
    for number in range(6):
        assert waiting.put(arrival(number))
    batch = waiting.take(0)
    assert numbers(batch) == [0, 1, 2, 3] and batch is not None and batch.closed_by == "size"
    assert waiting.take(0) is None
    assert len(waiting) == 2


def test_the_oldest_picture_waits_no_longer_than_it_must(clock: Clock) -> None:
    waiting = queue(clock)
    waiting.put(arrival(0))
    clock.now_s += 0.15
    waiting.put(arrival(1))
    assert waiting.take(0) is None
    clock.now_s += 0.051
    batch = waiting.take(0)
    assert numbers(batch) == [0, 1] and batch is not None and batch.closed_by == "age"


def test_the_age_of_what_is_left_behind_is_its_own(clock: Clock) -> None:
    waiting = queue(clock, max_size=2)
    waiting.put(arrival(0))
    clock.now_s += 0.1
    for number in (1, 2):
        waiting.put(arrival(number))
    assert numbers(waiting.take(0)) == [0, 1]
    clock.now_s += 0.15
    assert waiting.take(0) is None
    clock.now_s += 0.051
    assert numbers(waiting.take(0)) == [2]


def test_a_picture_that_comes_alone_does_not_wait_for_company(clock: Clock) -> None:
    waiting = queue(clock, quiet_s=0.01)
    waiting.put(arrival(0))
    assert waiting.take(0) is None
    clock.now_s += 0.011
    batch = waiting.take(0)
    assert numbers(batch) == [0] and batch is not None and batch.closed_by == "quiet"


def test_pictures_that_pour_in_fill_a_batch_and_the_first_waits_no_longer_than_it_must(
    clock: Clock,
) -> None:
    waiting = queue(clock, quiet_s=0.01, max_size=64, capacity=64, max_wait_s=0.2)
    for number in range(40):  # one each 6 ms: none of the pauses is long enough
        waiting.put(arrival(number))
        batch = waiting.take(0)
        if batch is not None:
            break
        clock.now_s += 0.006
    assert batch is not None and batch.closed_by == "age"
    assert len(batch.arrivals) == 35  # 0.2 s of them


def test_whoever_waits_for_a_batch_is_given_it_as_soon_as_no_more_come() -> None:
    waiting = queue(quiet_s=0.02, max_wait_s=30.0)
    waiting.put(arrival(0))
    began = time.monotonic()
    batch = waiting.take(30)
    assert batch is not None and batch.closed_by == "quiet"
    assert 0.015 < time.monotonic() - began < 5


@pytest.mark.parametrize(("max_wait_s", "quiet_s"), [(0.25, None), (0.25, 30.0), (30.0, 0.25)])
def test_whoever_waits_for_a_batch_sleeps_until_it_closes(
    max_wait_s: float, quiet_s: float | None
) -> None:
    looks = 0

    def monotonic() -> float:
        nonlocal looks
        looks += 1
        return time.monotonic()

    waiting = queue(monotonic, max_wait_s=max_wait_s, quiet_s=quiet_s)
    for number in range(2):
        waiting.put(arrival(number))
    assert numbers(waiting.take(30)) == [0, 1]
    assert looks < 50  # a wait that came to nothing would be repeated thousands of times


def test_draining_closes_whatever_is_there_and_then_ends(clock: Clock) -> None:
    waiting = queue(clock)
    for number in range(5):
        waiting.put(arrival(number))
    waiting.drain()
    first, second = waiting.take(60), waiting.take(60)
    assert first is not None and second is not None
    assert (first.closed_by, second.closed_by) == ("size", "drain")
    assert numbers(first) + numbers(second) == [0, 1, 2, 3, 4]
    began = time.monotonic()
    assert waiting.take(60) is None
    assert time.monotonic() - began < 1


def test_no_company_is_waited_for_where_none_is_wanted(clock: Clock) -> None:
    waiting = queue(clock, max_wait_s=0.0)
    waiting.put(arrival(0))
    assert numbers(waiting.take(0)) == [0]


@pytest.mark.parametrize(
    ("bounds", "held"),
    [({"capacity": 3}, 3), ({"max_bytes": 250}, 2), ({"max_bytes": 200}, 2)],
)
def test_a_queue_that_can_take_no_more_does_not_wait_for_company(
    clock: Clock, bounds: dict[str, int], held: int
) -> None:
    """With max_wait_ms = 60000 the station would otherwise inspect two pictures a minute."""
    waiting = queue(clock, max_size=64, max_wait_s=60.0, **bounds)
    for number in range(held):
        assert waiting.put(arrival(number, 100))
    assert not waiting.put(arrival(9, 100))
    batch = waiting.take(0)
    assert numbers(batch) == list(range(held)) and batch is not None
    assert batch.closed_by == "size"
    waiting.put(arrival(10, 100))
    assert waiting.take(0) is None  # there is room again: company is waited for again


@pytest.mark.parametrize("bounds", [{"capacity": 3}, {"max_bytes": 300}])
def test_a_queue_that_is_just_full_does_not_wait_until_somebody_is_turned_away(
    clock: Clock, bounds: dict[str, int]
) -> None:
    waiting = queue(clock, max_size=64, max_wait_s=60.0, **bounds)
    for number in range(3):
        assert waiting.take(0) is None
        assert waiting.put(arrival(number, 100))
    batch = waiting.take(0)
    assert numbers(batch) == [0, 1, 2] and batch is not None and batch.closed_by == "size"


def test_a_batch_closes_at_the_very_moment_that_was_promised(clock: Clock) -> None:
    """Whoever waits for it sleeps until then, and would have to sleep once more."""
    waiting = queue(clock, max_wait_s=0.5, quiet_s=0.25)
    for closed_by, pauses_s in (("quiet", [0.25]), ("age", [0.1875, 0.1875, 0.125])):
        for number, pause_s in enumerate(pauses_s):
            waiting.put(arrival(number))
            assert waiting.take(0) is None
            clock.now_s += pause_s
        batch = waiting.take(0)
        assert batch is not None and batch.closed_by == closed_by


# ---------------------------------------------------------------------------- what it holds


def test_a_full_queue_says_no_by_count(clock: Clock) -> None:
    waiting = queue(clock, capacity=2)
    assert [waiting.put(arrival(number)) for number in range(3)] == [True, True, False]
    assert len(waiting) == 2


def test_a_full_queue_says_no_by_bytes_and_takes_them_back_into_account(clock: Clock) -> None:
    waiting = queue(clock, max_bytes=1000)
    assert waiting.put(arrival(0, 600)) and not waiting.put(arrival(1, 600))
    assert waiting.put(arrival(2, 400)) and not waiting.put(arrival(3, 1))
    assert numbers(waiting.take(0)) == [0, 2]
    assert waiting.put(arrival(1, 1000))


def test_one_picture_is_always_taken_however_big(clock: Clock) -> None:
    waiting = queue(clock)
    assert waiting.put(arrival(0, 10**12))
    assert not waiting.put(arrival(1, 1))
    assert numbers(waiting.take(0)) == [0]


def test_the_cost_may_be_another_than_the_files_size(clock: Clock) -> None:
    waiting = queue(clock, cost_bytes=lambda _: 500)
    assert [waiting.put(arrival(number, 1)) for number in range(3)] == [True, True, False]


# ------------------------------------------------------------------------------ between threads


@pytest.fixture
def threads() -> Iterator[list[threading.Thread]]:
    started: list[threading.Thread] = []
    yield started
    for thread in started:
        thread.join(10)
        assert not thread.is_alive()


def start(threads: list[threading.Thread], work: Any) -> None:
    threads.append(threading.Thread(target=work))
    threads[-1].start()


def test_a_taker_is_woken_by_the_picture_that_fills_the_batch(
    threads: list[threading.Thread],
) -> None:
    waiting = queue(max_wait_s=30.0)
    taken: list[Batch | None] = []
    start(threads, lambda: taken.append(waiting.take(30)))
    began = time.monotonic()
    for number in range(4):
        waiting.put(arrival(number))
    threads[0].join(10)
    assert numbers(taken[0]) == [0, 1, 2, 3]
    assert time.monotonic() - began < 5


def test_a_lone_picture_is_taken_when_it_has_waited(threads: list[threading.Thread]) -> None:
    waiting = queue(max_wait_s=0.15)
    began = time.monotonic()
    waiting.put(arrival(0))
    assert numbers(waiting.take(10)) == [0]
    assert 0.15 <= time.monotonic() - began < 5


def test_a_taker_that_finds_nothing_comes_back_in_time() -> None:
    began = time.monotonic()
    assert queue().take(0.1) is None
    assert 0.1 <= time.monotonic() - began < 5


def test_a_put_waits_for_room_and_gets_it(threads: list[threading.Thread]) -> None:
    waiting = queue(capacity=1)
    waiting.put(arrival(0))
    answers: list[bool] = []
    start(threads, lambda: answers.append(waiting.put(arrival(1), 20)))
    assert numbers(waiting.take(10)) == [0]
    threads[0].join(10)
    assert answers == [True]
    began = time.monotonic()
    assert not waiting.put(arrival(2), 0.1)
    assert time.monotonic() - began >= 0.1


def test_a_drain_wakes_a_taker(threads: list[threading.Thread]) -> None:
    waiting = queue()
    taken: list[Batch | None] = []
    start(threads, lambda: taken.append(waiting.take(60)))
    time.sleep(0.05)
    waiting.drain()
    threads[0].join(10)
    assert taken == [None]


def test_under_pressure_from_many_threads_each_arrival_comes_out_once_and_in_order(
    threads: list[threading.Thread],
) -> None:
    waiting = queue(max_size=7, capacity=16, max_wait_s=0.01, max_bytes=200)
    producers, each = 4, 300
    most = 0
    taken: list[int] = []

    def produce(first: int) -> None:
        for number in range(first, first + each):
            while not waiting.put(arrival(number, 20), 0.5):
                pass

    def consume() -> None:
        nonlocal most
        while len(taken) < producers * each:
            most = max(most, len(waiting))
            batch = waiting.take(0.5)
            taken.extend(numbers(batch) if batch else [])

    start(threads, consume)
    for producer in range(producers):
        start(threads, lambda first=producer * each: produce(first))
    for thread in threads:
        thread.join(30)
    assert sorted(taken) == list(range(producers * each))
    for producer in range(producers):
        mine = [number for number in taken if number // each == producer]
        assert mine == sorted(mine)
    assert most <= 10  # 200 bytes hold ten
    assert len(waiting) == 0


def test_several_takers_lose_and_double_nothing(threads: list[threading.Thread]) -> None:
    waiting = queue(capacity=16)
    taken: list[int] = []
    lock = threading.Lock()

    def produce(first: int) -> None:
        for number in range(first, first + 250):
            assert waiting.put(arrival(number), timeout_s=20)

    def consume() -> None:
        while (batch := waiting.take(0.5)) is not None:
            with lock:
                taken.extend(numbers(batch))

    for first in (0, 250, 500, 750):
        start(threads, lambda first=first: produce(first))
    for _ in range(3):
        start(threads, consume)
    for thread in threads:
        thread.join(30)
    assert sorted(taken) == list(range(1000))
