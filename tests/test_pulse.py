"""The service's watchdog hears of a station that gets on, pauses that test their cause included."""

from __future__ import annotations

import pytest

from crackwatch.health.pulse import Pulse, watchdog_interval_s


class Clock:
    def __init__(self) -> None:
        self.now_s = 1_000.0
        self.said: list[float] = []
        self.pulse = Pulse(
            80.0, monotonic=lambda: self.now_s, say=lambda _: self.said.append(self.now_s)
        )

    def later(self, seconds: float) -> int:
        """Lets so much time go by, telling twice a second; how often the watchdog heard of it."""
        before = len(self.said)
        for _ in range(int(seconds * 2)):
            self.now_s += 0.5
            self.pulse.tell()
        return len(self.said) - before


def test_a_station_that_gets_on_is_heard_of_more_than_twice_an_interval() -> None:
    clock = Clock()
    for _ in range(8):
        clock.pulse.beat("intake")
        clock.pulse.beat("inspector")
        assert clock.later(20) >= 2
    gaps = [later - before for before, later in zip(clock.said, clock.said[1:], strict=False)]
    assert max(gaps) <= 40


def test_a_thread_that_hangs_is_not_covered_by_the_others() -> None:
    clock = Clock()
    clock.pulse.beat("inspector")
    for _ in range(4):
        clock.pulse.beat("intake")
        clock.later(20)
    assert clock.pulse.silent() == ("inspector",)
    assert clock.now_s - clock.said[-1] >= 39
    clock.pulse.beat("inspector")
    assert clock.later(1) == 1


def test_a_pause_that_tests_its_cause_every_half_minute_is_no_hang() -> None:
    clock = Clock()
    for _ in range(10):
        clock.pulse.beat("inspector")
        assert clock.later(30) >= 2


def test_a_part_that_has_ended_need_not_be_heard_of() -> None:
    clock = Clock()
    clock.pulse.beat("intake")
    clock.later(60)
    clock.pulse.ended("intake")
    clock.pulse.ended("never begun")
    assert clock.later(20) >= 2


def test_nothing_is_said_where_nobody_waits_for_it() -> None:
    said: list[str] = []
    pulse = Pulse(None, say=said.append)
    pulse.beat("intake")
    pulse.tell()
    assert said == [] and pulse.silent() == ()


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({"WATCHDOG_USEC": "600000000"}, 600.0),
        ({"WATCHDOG_USEC": "600000000", "WATCHDOG_PID": "7"}, 600.0),
        ({"WATCHDOG_USEC": "600000000", "WATCHDOG_PID": "8"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_the_interval_is_the_service_managers(
    environment: dict[str, str], seconds: float | None
) -> None:
    assert watchdog_interval_s(environment, 7) == seconds
