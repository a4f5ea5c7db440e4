"""Claims about the campaign itself: a planted fault turns it red, each by the check that is meant to.

Each is played at the one step where it shows, and the same step of the sound station is green.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from tests.faults import meddler, power, tracing
from tests.faults.stage import SCENARIOS
from tests.faults.sweep import Case, Theatre, theatre
from tests.faults.tracing import Boundary

pytestmark = [
    pytest.mark.skipif(tracing.missing() is not None, reason=str(tracing.missing())),
    pytest.mark.xdist_group("faults"),
]


@pytest.fixture(scope="module")
def sound() -> Iterator[Theatre]:
    with theatre(folder=_memory()) as played:
        yield played


def _memory() -> Path | None:
    """Stations in memory are quick, and a kill does not ask what a disk has synced."""
    return Path("/dev/shm") if Path("/dev/shm").is_dir() else None


def _faulty(sound: Theatre, plant: str) -> Theatre:
    """The same stage, and a station with that fault."""
    return Theatre(sound.stage, plant)


def _first(played: Theatre, scenario: str, call: str, word: str, *, after: str = "") -> Boundary:
    """The first such call with that word among its arguments, after one of the kind ``after``."""
    awaited = bool(after)
    for each in played.calls(SCENARIOS[scenario]):
        if awaited and after in f"{each.boundary.call} {each.rest}":
            awaited = False
        elif not awaited and each.boundary.call == call and word in each.rest:
            return each.boundary
    raise AssertionError(f"no {call} of {word}")


def _before(played: Theatre, scenario: str, wanted: Boundary) -> Boundary:
    calls = [each.boundary for each in played.calls(SCENARIOS[scenario])]
    return calls[calls.index(wanted) - 1]


def test_a_move_before_the_commit_is_found_by_a_kill_between_the_two(sound: Theatre) -> None:
    faulty = _faulty(sound, "move-before-commit")
    at = _first(faulty, "keep", "fdatasync", "db-wal", after="c.jpg")
    found = faulty.play(Case("keep", (at,)))
    assert found.state is not None, "the kill came too late to prove anything"
    assert any(each.startswith("lost: c.jpg") for each in found.wrong), found.wrong
    at = _first(sound, "keep", "renameat2", "c.jpg")
    assert sound.play(Case("keep", (at,))).wrong == ()


def test_a_name_marked_as_seen_when_it_is_listed_is_found_by_a_kill_before_its_row(
    sound: Theatre,
) -> None:
    faulty = _faulty(sound, "seen-at-listing")
    case = Case("keep", (_first(sound, "keep", "pwrite64", "in-flight.json"),))
    assert any(each.startswith("lost: a.jpg") for each in faulty.play(case).wrong)
    assert sound.play(case).wrong == ()


def test_a_rename_that_replaces_is_found_by_a_persons_file_at_the_last_moment(
    sound: Theatre,
) -> None:
    move = _first(sound, "keep", "renameat2", "inbox/c.jpg")
    case = meddler.Case("keep", _before(sound, "keep", move), "plant", "c.jpg")
    assert meddler.play(sound, case) == []
    faulty = _faulty(sound, "replacing-rename")
    move = _first(faulty, "keep", "rename", "inbox/c.jpg")
    case = meddler.Case("keep", _before(faulty, "keep", move), "plant", "c.jpg")
    found = meddler.play(faulty, case)
    assert any(each.startswith("overwritten") for each in found), found


def test_an_unlink_of_a_producers_name_is_found_by_a_replacement_at_the_last_moment(
    sound: Theatre,
) -> None:
    faulty = _faulty(sound, "unlink-by-name")
    unlink = _first(faulty, "delete", "unlink", "inbox/a.jpg")
    case = meddler.Case("delete", _before(faulty, "delete", unlink), "replace", "a.jpg")
    found = meddler.play(faulty, case)
    assert any(each.startswith("lost: a.jpg") for each in found), found
    move = _first(sound, "delete", "renameat2", "inbox/a.jpg")
    case = meddler.Case("delete", _before(sound, "delete", move), "replace", "a.jpg")
    assert meddler.play(sound, case) == []


@pytest.mark.parametrize(
    ("plant", "said"),
    [("no-fsync-of-folders", "missing"), ("no-sync-of-pictures", "missing")],
)
def test_what_is_not_synced_before_it_is_vouched_for_is_found_by_a_power_cut(
    sound: Theatre, plant: str, said: str
) -> None:
    """At the end of the run, with everything dropped that may be."""
    faulty, whole = power.Run(_faulty(sound, plant), "keep"), power.Run(sound, "keep")

    class Nothing(Random):
        def random(self) -> float:
            return 0.0

        def randint(self, a: int, b: int) -> int:
            return a

    found = faulty.cut(power.Case("keep", faulty.length, 0), Nothing())
    assert any(each.startswith(said) for each in found), found
    assert whole.cut(power.Case("keep", whole.length, 0), Nothing()) == []
