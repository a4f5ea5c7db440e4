"""Claims about kills, errors, power cuts and meddling: a handful of cases of each campaign.

The seed is $CRACKWATCH_SEED; `make faults` plays more, and names what it did not cover.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults import disk, erring, meddler, power, tracing
from tests.faults.campaign import Campaign
from tests.faults.stage import SCENARIOS
from tests.faults.storm import storm
from tests.faults.sweep import Case, Tally, Theatre, in_ranges, sweep, theatre
from tests.faults.sweep import main as sweep_main
from tests.faults.tracing import Boundary

pytestmark = [
    pytest.mark.skipif(tracing.missing() is not None, reason=str(tracing.missing())),
    pytest.mark.xdist_group("faults"),
    pytest.mark.timeout(600),
]

SEED = int(os.environ.get("CRACKWATCH_SEED", "20261123"))


@pytest.fixture(scope="module")
def played() -> Iterator[Theatre]:
    memory = Path("/dev/shm")
    with theatre(folder=memory if memory.is_dir() else None) as made:
        yield made


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_station_killed_at_any_step_ends_where_an_undisturbed_one_does(
    played: Theatre, scenario: str
) -> None:
    """The steps that matter most: each rename of a picture, and one before and after a commit."""
    calls = [each.boundary for each in played.calls(SCENARIOS[scenario])]
    renames = [each for each in calls if each.call == "renameat2"]
    commits = [each for each in calls if each.call == "fdatasync"]
    chance = random.Random(SEED)
    for kill in (renames[0], renames[-1], chance.choice(commits), chance.choice(calls)):
        outcome = played.play(Case(scenario, (kill,)))
        assert outcome.wrong == (), f"seed {SEED}, case {outcome.case}"


def test_a_sweep_is_taken_up_where_it_was_and_names_what_it_left_out(
    played: Theatre, tmp_path: Path
) -> None:
    file = tmp_path / "done.json"
    scenarios = [SCENARIOS["keep"]]
    for seconds in (0.0, 3.0):
        tally = Tally.load(file)
        before = set(tally.done)
        left = sweep(played, scenarios, tally, seconds=seconds, chance=random.Random(SEED))
        assert before <= set(tally.done)
        assert not set(left) & set(tally.done)
        tally.save()
    assert all(wrong == [] for wrong in tally.done.values()), tally.done
    assert len(left) + len(tally.done) >= len(played.boundaries(scenarios[0]))
    assert Tally.load(file).done == tally.done


def test_a_kill_in_the_recovery_is_survived_as_well(played: Theatre) -> None:
    first = next(b for b in played.boundaries(SCENARIOS["archive"]) if b.call == "renameat2")
    second = played.boundaries(SCENARIOS["archive"], (first,))
    kill = next(each for each in second if each.call == "renameat2")
    outcome = played.play(Case("archive", (first, kill)))
    assert outcome.state is not None, "the second kill came too late to prove anything"
    assert outcome.wrong == (), outcome.case


@pytest.mark.parametrize("error", erring.ERRORS)
def test_an_error_of_the_system_resumes_by_itself_and_quarantines_nothing(
    played: Theatre, error: str
) -> None:
    for call in ("renameat2", "fdatasync"):
        case = erring.Case("keep", Boundary(call, 2), error, 1)
        assert erring.play(played, case) == [], case


def test_names_held_by_a_move_that_failed_thrice_are_let_go(played: Theatre) -> None:
    """The station went on for ever: what was filed before the fault was never told of."""
    calls = played.calls(SCENARIOS["archive"])
    at = next(
        each.boundary
        for each in calls
        if each.boundary.call == "fsync" and each.rest.split(">")[0].endswith("/quarantine")
    )
    assert erring.play(played, erring.Case("archive", at, "EIO", 3)) == []


@pytest.mark.parametrize("deed", meddler.DEEDS)
def test_what_a_producer_does_between_two_steps_loses_nothing(played: Theatre, deed: str) -> None:
    at = random.Random(f"{SEED} {deed}").choice(played.boundaries(SCENARIOS["keep"]))
    case = meddler.Case("keep", at, deed, "c.jpg")
    assert meddler.play(played, case) == [], f"seed {SEED}, case {case}"


def test_after_a_power_cut_nothing_that_was_shown_is_gone(played: Theatre) -> None:
    run = power.Run(played, "archive")
    chance = random.Random(SEED)
    for _ in range(4):
        case = power.Case("archive", chance.randint(0, run.length), chance.randrange(10**9))
        assert run.cut(case) == [], f"seed {SEED}, case {case}"


def test_kills_at_random_moments_beside_a_busy_producer_lose_and_double_nothing(
    played: Theatre,
) -> None:
    scene = played.stage.new(SCENARIOS["archive"])
    left = storm(scene, kills=5, pictures=60, seed=SEED, longest_life_s=1.5)
    assert left.wrong == [], f"seed {SEED}"
    assert left.kills == 5
    assert left.rows > 30
    assert left.rows_before > 0, "every kill came before anything was recorded"
    scene.remove()


# -------------------------------------------------------------------------- the disk that forgets


class _Drop(random.Random):
    """Keeps nothing that need not be kept."""

    def random(self) -> float:
        return 0.0

    def randint(self, a: int, b: int) -> int:
        return a


def _left(*calls: disk.Done) -> dict[str, bytes]:
    made = disk.Disk([Path("/d")])
    made.load(True, "/d", None, 0)
    made.load(True, "/d/old", b"old", 1)
    for each in calls:
        made.do(each)
    left = made.cut(_Drop())
    return {name: bytes(left.contents[of].data) for name, of in left.names.items() if of}


def _call(call: str, *paths: str, data: bytes = b"", text: str = "") -> disk.Done:
    return disk.Done(call, paths, data, text)


def test_contents_are_kept_by_a_sync_of_the_file_and_names_by_one_of_the_folder() -> None:
    new = _call("openat", "/d/new", text="O_CREAT")
    write = _call("write", "/d/new", data=b"new")
    file, folder = _call("fsync", "/d/new"), _call("fsync", "/d")
    assert _left(new, write) == {"/d/old": b"old"}
    assert _left(new, write, file) == {"/d/old": b"old"}
    assert _left(new, write, file, folder) == {"/d/old": b"old", "/d/new": b"new"}
    assert _left(new, write, _call("syncfs", "/d")) == {"/d/old": b"old", "/d/new": b"new"}


def test_a_rename_happens_whole_or_not_at_all() -> None:
    move = _call("renameat2", "/d/old", "/d/moved")
    assert _left(move) == {"/d/old": b"old"}
    assert _left(move, _call("fsync", "/d")) == {"/d/moved": b"old"}


def test_what_is_written_over_is_the_old_until_it_is_synced() -> None:
    write = _call("pwrite64", "/d/old", data=b"X", text=", 1, 1")
    assert _left(write) == {"/d/old": b"old"}
    assert _left(write, _call("fdatasync", "/d/old")) == {"/d/old": b"oXd"}
    cut = _call("ftruncate", "/d/old", text=", 1")
    assert _left(cut, _call("fdatasync", "/d/old")) == {"/d/old": b"o"}


def test_a_campaign_is_taken_up_where_it_was_and_stays_red(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    played: list[str] = []

    def play(_: Theatre, case: str) -> list[str]:
        played.append(case)
        if len(played) == 4:
            raise KeyboardInterrupt  # somebody ends it
        return ["it was lost"] if case == "c" else []

    campaign = Campaign("some", None, str, lambda _, __: list("abcdef"), play)
    options = ["--all", "--seed", "1", "--done", str(tmp_path / "done.json")]
    with pytest.raises(KeyboardInterrupt):
        campaign.main(options)
    assert campaign.main(options) == 1
    assert sorted(played[:3] + played[4:]) == list("abcdef")
    said = capsys.readouterr().out
    assert said.count("WRONG c: it was lost") == 1
    assert said.endswith("seed 1: 3 cases, 6 of 6 in all, 1 wrong, 0 never came to their step\n")
    assert campaign.main(options) == 1
    assert len(played) == 7
    assert campaign.main(["--case", "c"]) == 1
    assert campaign.main(["--case", "b"]) == 0


@pytest.mark.parametrize(
    ("main", "case"),
    [
        (sweep_main, "keep:renameat2#999"),
        (meddler.main, "keep:renameat2#999:replace:a.jpg"),
        (erring.main, "keep:fsync#999:EIO:1"),
        (power.main, "keep:43100:1"),
        (sweep_main, "nonsense"),
    ],
)
def test_a_case_whose_step_never_comes_is_not_green(
    capsys: pytest.CaptureFixture[str], main: Callable[[list[str]], int], case: str
) -> None:
    assert main(["--case", case]) == 2
    assert "as it must be" not in capsys.readouterr().out


def test_what_was_not_covered_is_named_in_few_lines() -> None:
    cases = [f"keep:pwrite64#{number}" for number in (1, 2, 3, 5, 9, 8)]
    cases += ["keep:renameat2#2/fdatasync#1", "every recovery after keep:unlink#4"]
    assert in_ranges(cases) == [
        "every recovery after keep:unlink#4",
        "keep:pwrite64#1-3 5 8-9",
        "keep:renameat2#2/fdatasync#1",
    ]
