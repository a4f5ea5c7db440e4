"""Kept files are remembered in a few bytes each, and told from whatever takes their name."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import pytest

from crackwatch.arrivals.known import _MERGE_AT, Known, name_digest, whole_digest
from crackwatch.domain import Fingerprint


def stat(number: int) -> Fingerprint:
    at = 1_763_000_000_000_000_000 + number
    return Fingerprint(6000 + number % 100, at, at + 1, 64768, number)


def name(number: int) -> bytes:
    return b"2026/line-%d/picture-%08d.jpg" % (number % 5, number)


@pytest.mark.parametrize("count", [0, 1, 1000, _MERGE_AT - 1, _MERGE_AT, 3 * _MERGE_AT + 17])
def test_what_was_added_is_known_and_nothing_else_is(count: int) -> None:
    known = Known()
    known.update((name(number), stat(number)) for number in range(count))
    assert len(known) == count
    step = max(1, count // 5000)
    assert all(known.holds(name(number), stat(number)) for number in range(0, count, step))
    assert not any(known.holds(name(number), stat(number)) for number in range(count, count + 5000))


@pytest.mark.parametrize("field", ["size_bytes", "mtime_ns", "ctime_ns", "inode"])
def test_a_file_that_changed_in_any_way_is_not_the_known_one(field: str) -> None:
    known = Known()
    known.add(b"a.jpg", stat(7))
    changed = replace(stat(7), **{field: getattr(stat(7), field) + 1})
    assert known.holds(b"a.jpg", stat(7))
    assert not known.holds(b"a.jpg", changed)
    assert not known.holds(b"b.jpg", stat(7))


def test_a_device_number_may_change_at_a_reboot() -> None:
    known = Known()
    known.add(b"a.jpg", stat(7))
    assert known.holds(b"a.jpg", replace(stat(7), device=1))


def test_many_are_asked_for_at_once_by_name_or_by_all_that_is_known_of_them() -> None:
    known = Known()
    known.update((name(number), stat(number)) for number in range(5000))
    for number in range(5000, 5010):
        known.add(name(number), stat(number))
    asked = [*range(4990, 5020)]
    wanted = [number < 5010 for number in asked]
    by_name = [name_digest(name(number), stat(number).inode) for number in asked]
    assert known.name(by_name) == wanted
    assert known.name(by_name[:3]) == wanted[:3]
    whole = [
        whole_digest(name(n), s.size_bytes, s.mtime_ns, s.ctime_ns, s.inode)
        for n in asked
        for s in [stat(n)]
    ]
    assert known.hold(whole) == wanted
    touched = [whole_digest(name(n), 1, 2, 3, stat(n).inode) for n in asked]
    assert not any(known.hold(touched))


def test_a_number_that_the_database_holds_as_a_negative_one_is_the_same() -> None:
    folded = replace(stat(7), inode=-5)
    known = Known()
    known.add(b"a.jpg", folded)
    assert known.name([name_digest(b"a.jpg", 2**64 - 5)] * 10) == [True] * 10


def test_the_same_file_twice_is_one() -> None:
    known = Known()
    for _ in range(3):
        known.update((name(number), stat(number)) for number in range(_MERGE_AT))
    assert len(known) == _MERGE_AT


@pytest.mark.parametrize("at_once", [0, 1, 2, 5000])
@pytest.mark.parametrize("one_by_one", [0, 3])
def test_it_is_one_set_whether_files_were_added_at_once_or_one_by_one(
    at_once: int, one_by_one: int
) -> None:
    known, count = Known(), at_once + one_by_one
    known.update((name(number), stat(number)) for number in range(at_once))
    for number in range(at_once, count):
        known.add(name(number), stat(number))
    assert len(known) == count
    asked = [*range(count), *range(10_000, 10_040)]
    wanted = [number < count for number in asked]
    assert [known.holds(name(number), stat(number)) for number in asked] == wanted
    for few in (asked, asked[:1], asked[-1:], []):
        by_name = [name_digest(name(number), stat(number).inode) for number in few]
        assert known.name(by_name) == [number < count for number in few]


def test_what_was_added_before_is_known_beside_what_was_added_since() -> None:
    known = Known()
    for first in (0, 50, 25):  # the last time half of them again
        known.update((name(number), stat(number)) for number in range(first, first + 50))
    assert len(known) == 100
    assert all(known.holds(name(number), stat(number)) for number in range(100))


def test_the_same_name_with_another_inode_number_is_not_known_by_its_name() -> None:
    known = Known()
    known.add(b"a.jpg", stat(7))
    inodes = [7, 6, 8, 7 + 64, 7 + 2**32, 7 + 2**63]
    assert known.name([name_digest(b"a.jpg", inode) for inode in inodes]) == [True] + [False] * 5


def test_many_that_are_added_one_by_one_are_all_known_and_cost_as_little() -> None:
    count = _MERGE_AT + 100
    tracemalloc.start()
    try:
        known = Known()
        before, _ = tracemalloc.get_traced_memory()
        for number in range(count):
            known.add(name(number), stat(number))
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(known) == count
    assert all(known.holds(name(number), stat(number)) for number in range(count))
    assert not known.holds(name(count), stat(count))
    assert (after - before) / count <= 64


def test_a_kept_file_costs_tens_of_bytes() -> None:
    count = 200_000
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        known = Known()
        known.update((name(number), stat(number)) for number in range(count))
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(known) == count
    assert (after - before) / count <= 64
    assert (peak - before) / count <= 64
