"""How often an inbox is looked through, and how closely: a table of cases."""

from __future__ import annotations

import pytest

from crackwatch.arrivals.pace import FEW_KEPT, Pace, full_pause_s, quick_pause_s

MANY = FEW_KEPT + 1


def scan(
    pace: Pace, now_s: float, spent_s: float, *, wanted: bool, kept: int = MANY, told: bool = True
) -> bool:
    """Whether it was a quick one."""
    pace.begin(now_s, wanted=wanted, kept=kept, told=told)
    pace.end(now_s, spent_s, told=told)
    return pace.quick


def test_among_few_files_each_scan_is_full_and_comes_as_often_as_it_was_set() -> None:
    pace = Pace(60.0)
    for now_s in (0.0, 60.0, 120.0):
        assert not scan(pace, now_s, 0.05, wanted=now_s == 0.0, kept=FEW_KEPT)
        assert pace.next_s == now_s + 60.0


def test_among_many_a_quick_scan_goes_before_each_full_one_that_is_wanted() -> None:
    pace = Pace(60.0)
    assert [scan(pace, 0.0, 5.0, wanted=True) for _ in range(4)] == [True, False, True, False]


def test_between_full_ones_quick_ones_are_enough_while_events_tell_of_the_rest() -> None:
    pace = Pace(60.0)
    assert scan(pace, 0.0, 1.0, wanted=True)
    assert not scan(pace, 1.0, 5.0, wanted=True)
    assert pace.next_s == 1.0 + 1000.0  # as the quick one took a second
    assert scan(pace, pace.next_s, 1.0, wanted=False)
    assert not scan(pace, 1.0 + 5.0 / 0.0015, 5.0, wanted=False)  # due
    assert not scan(pace, 4000.0, 5.0, wanted=False, told=False)
    assert pace.next_s == 4000.0 + 5.0 / 0.0015  # nobody tells: the next is a full one as well


@pytest.mark.parametrize(
    ("spent_s", "full_s", "quick_s"),
    [(0.0, 60.0, 60.0), (0.05, 60.0, 60.0), (1.0, 1 / 0.0015, 1000.0), (10.0, 3600.0, 10_000.0)],
)
def test_the_longer_a_scan_takes_the_longer_is_the_pause(
    spent_s: float, full_s: float, quick_s: float
) -> None:
    assert full_pause_s(spent_s, 60.0) == pytest.approx(full_s)
    assert quick_pause_s(spent_s, 60.0) == pytest.approx(quick_s)


def test_a_fault_is_tried_again_soon_and_no_later_than_a_scan_is_due() -> None:
    pace = Pace(60.0)
    pace.fail(100.0, 5.0)
    assert pace.next_s == 105.0
    pace = Pace(1.0)
    pace.fail(100.0, 5.0)
    assert pace.next_s == 101.0
