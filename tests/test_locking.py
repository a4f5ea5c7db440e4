"""One process at a time, known by its pid, free again however that process ends."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from crackwatch.errors import EXIT_LOCKED, LockedError
from crackwatch.locking import held, holder

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
