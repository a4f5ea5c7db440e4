"""One file that the disk does not give holds nobody up; a disk that gives none is paused for."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from crackwatch.domain import Arrival, Fingerprint, SettledBy
from crackwatch.errors import ReadFault
from crackwatch.unread import Reads


def arrival(name: str, version: int = 0) -> Arrival:
    stat = Fingerprint(1, version, version, 1, 1)
    return Arrival(name.encode(), stat, datetime.now(UTC), SettledBy.LEASE, waited=False)


def fault(name: str) -> ReadFault:
    return ReadFault("read_failed", name, "look", why="Input/output error")


def tried(reads: Reads, arrivals: tuple[Arrival, ...], bad: str = "*") -> int:
    """Tries a batch until no pause is asked for any more; how many pauses there were."""
    for pauses in range(100):
        reads.begin(arrivals)
        try:
            for each in arrivals:
                name = each.source.decode()
                if bad == "*" or name in bad:
                    reads.failed(each, fault(name))
                else:
                    reads.read(each)
            reads.judge()
        except ReadFault:
            continue
        return pauses
    raise AssertionError("it never goes on")


def test_beside_others_that_can_be_read_one_that_cannot_is_no_reason_to_pause() -> None:
    reads = Reads()
    assert tried(reads, (arrival("a"), arrival("b"), arrival("c")), "b") == 0
    assert reads.fault is None


def test_where_nothing_can_be_read_the_station_pauses_and_then_lets_others_have_their_turn() -> (
    None
):
    reads = Reads()
    assert tried(reads, (arrival("a"),)) == 2
    assert reads.fault is not None and reads.fault.problem == "a"
    assert tried(reads, (arrival("b"),), "") == 0
    assert reads.fault is None


def test_a_dead_disk_is_tried_less_and_less() -> None:
    reads = Reads()
    pauses = [tried(reads, tuple(arrival(f"{n}/{m}") for m in range(8))) for n in range(6)]
    assert pauses == [2, 4, 6, 8, 8, 8]
    assert reads.fault is not None


def test_of_a_dead_disk_not_every_file_of_a_batch_is_tried_each_time() -> None:
    reads = Reads()
    batch = tuple(arrival(str(n)) for n in range(8))
    reads.begin(batch)
    reads.failed(batch[0], fault("0"))
    reads.failed(batch[1], fault("1"))
    with pytest.raises(ReadFault):
        reads.failed(batch[2], fault("2"))


def test_one_that_failed_before_is_tried_again_without_a_pause_until_it_has_changed() -> None:
    reads = Reads()
    assert tried(reads, (arrival("a"), arrival("b")), "a") == 0
    assert tried(reads, (arrival("a"),)) == 0
    assert reads.fault is None
    assert tried(reads, (arrival("a", version=1),)) == 2


def test_when_all_that_failed_is_gone_nothing_is_wrong_any_more() -> None:
    reads = Reads()
    tried(reads, (arrival("a"),))
    reads.forget()
    assert reads.fault is None
    assert tried(reads, (arrival("a"),)) == 2
