"""What has a row is remembered in a few bytes, and nothing else is taken for it."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

from crackwatch.arrivals.known import Known
from crackwatch.domain import Fingerprint

STAT = Fingerprint(size_bytes=6000, mtime_ns=10**18, ctime_ns=10**18 + 5, device=1, inode=42)


def test_a_file_is_known_once_it_was_added_and_only_as_it_was() -> None:
    known = Known()
    known.add(b"a.jpg", STAT)
    assert known.holds(b"a.jpg", STAT)
    assert not known.holds(b"b.jpg", STAT)
    for change in ({"size_bytes": 1}, {"mtime_ns": 1}, {"ctime_ns": 1}, {"inode": 1}):
        assert not known.holds(b"a.jpg", replace(STAT, **change))


def test_a_device_number_that_changed_at_a_reboot_makes_no_difference() -> None:
    known = Known()
    known.add(b"a.jpg", STAT)
    assert known.holds(b"a.jpg", replace(STAT, device=7))


def test_two_hundred_thousand_files_are_all_known_and_cost_at_most_64_bytes_each() -> None:
    count = 200_000
    tracemalloc.start()
    try:
        known = Known()
        known.update((b"%d.jpg" % number, replace(STAT, inode=number)) for number in range(count))
        held_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(known) == count
    assert held_bytes / count < 64
    assert all(known.holds(b"%d.jpg" % n, replace(STAT, inode=n)) for n in range(0, count, 97))
    assert not any(known.holds(b"%d.png" % n, replace(STAT, inode=n)) for n in range(0, count, 97))
