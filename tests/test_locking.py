"""One process at a time, known by its pid, free again however that process ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from crackwatch.errors import EXIT_LOCKED, LockedError, UsageError
from crackwatch.locking import held, holder
from tests.disks import as_an_ordinary_user

HOLD = """
import sys, time
from pathlib import Path
from crackwatch.locking import held
with held(Path(sys.argv[1]), "the station"):
    print("held", flush=True)
    time.sleep(60)
"""


def holding(file: Path) -> subprocess.Popen[str]:
    child = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(file)], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "held\n"
    return child


def end(child: subprocess.Popen[str], number: int = signal.SIGKILL) -> None:
    child.send_signal(number)
    child.wait()
    assert child.stdout is not None
    child.stdout.close()


def test_a_second_process_is_refused_and_told_who_the_first_is(tmp_path: Path) -> None:
    child = holding(tmp_path / "lock")
    try:
        with (
            pytest.raises(LockedError, match=f"process {child.pid}") as caught,
            held(tmp_path / "lock", "the station"),
        ):
            pass
        assert caught.value.exit_status == EXIT_LOCKED
    finally:
        end(child)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_lock_goes_with_its_process_however_it_ends(tmp_path: Path, number: int) -> None:
    end(holding(tmp_path / "lock"), number)
    with held(tmp_path / "lock", "the station"):
        pass


def test_asking_who_holds_it_takes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "lock"
    assert holder(file) is None
    child = holding(file)
    try:
        assert [holder(file) for _ in range(20)] == [child.pid] * 20
    finally:
        end(child)
    assert holder(file) is None
    again = holding(file)
    end(again)


def test_the_remedy_says_how_to_end_the_holder(tmp_path: Path) -> None:
    child = holding(tmp_path / "lock")
    try:
        with pytest.raises(LockedError) as caught, held(tmp_path / "lock", "the station"):
            pass
    finally:
        end(child)
    assert "the station" in caught.value.problem and str(tmp_path / "lock") in caught.value.problem
    assert f"kill -TERM {child.pid}" in caught.value.remedy


def test_being_refused_takes_nothing_from_the_holder(tmp_path: Path) -> None:
    child = holding(tmp_path / "lock")
    try:
        for _ in range(3):
            with pytest.raises(LockedError), held(tmp_path / "lock", "the station"):
                pass
        assert holder(tmp_path / "lock") == child.pid
    finally:
        end(child)


def test_a_child_of_the_holder_neither_has_the_lock_nor_drops_it(tmp_path: Path) -> None:
    with held(tmp_path / "lock", "the station"):
        program = "import sys; from pathlib import Path; from crackwatch.locking import holder; "
        program += "print(holder(Path(sys.argv[1])))"
        for _ in range(2):
            asked = subprocess.run(
                [sys.executable, "-c", program, str(tmp_path / "lock")],
                capture_output=True,
                text=True,
                check=True,
            )
            assert int(asked.stdout) == os.getpid()


def test_the_block_s_end_gives_the_lock_back_also_by_an_exception(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), held(tmp_path / "lock", "the station"):
        raise ZeroDivisionError
    end(holding(tmp_path / "lock"))


@pytest.mark.parametrize("ask", [lambda file: held(file, "it").__enter__(), holder])
def test_a_lock_that_may_not_be_used_is_told_in_a_sentence(ask: Callable[[Path], object]) -> None:
    with as_an_ordinary_user() as folder:
        (folder / "closed").mkdir()
        (folder / "closed").chmod(0)
        with pytest.raises(UsageError, match=r"closed/lock.*Permission denied") as caught:
            ask(folder / "closed/lock")
        (folder / "closed").chmod(0o700)
    assert caught.value.remedy
