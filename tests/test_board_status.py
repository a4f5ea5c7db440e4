"""What is wrong stays up until its cause goes; a status is believed only while its writer lives."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from crackwatch.errors import UsageError
from crackwatch.health import status
from crackwatch.health.board import Board, Problem
from crackwatch.health.status import Status
from crackwatch.inbox import LeftAlone
from tests.disks import as_an_ordinary_user

KEYS = {
    "state",
    "pid",
    "model",
    "inbox_pending",
    "oldest_pending_s",
    "last_batch_at",
    "inspected_today",
    "left_alone",
    "problems",
}

# -------------------------------------------------------------------------------------- the board


class Heard:
    def __init__(self) -> None:
        self.changes: list[tuple[str, bool]] = []

    def __call__(self, problem: Problem, appeared: bool) -> None:
        self.changes.append((problem.code, appeared))


def test_a_problem_is_heard_of_when_it_comes_and_when_it_goes_and_not_in_between() -> None:
    heard = Heard()
    board = Board(heard)
    for _ in range(3):
        board.report("disk_full", "error", "no room", "Make room.")
    board.clear("disk_full")
    board.clear("disk_full")
    assert heard.changes == [("disk_full", True), ("disk_full", False)]
    assert board.problems() == ()


def test_a_problem_told_again_has_the_new_text_and_the_old_time() -> None:
    board = Board()
    board.report("disk_full", "error", "no room", "Make room.")
    (first,) = board.problems()
    board.report("disk_full", "warning", "little room", "Make some.")
    (second,) = board.problems()
    assert (second.message, second.remedy, second.severity) == (
        "little room",
        "Make some.",
        "warning",
    )
    assert second.since == first.since and first.since.tzinfo is UTC


def test_errors_stand_before_warnings_and_the_oldest_first() -> None:
    board = Board()
    for code, severity in (("w1", "warning"), ("e1", "error"), ("w2", "warning"), ("e2", "error")):
        board.report(code, severity, code)  # type: ignore[arg-type]  # one of the two literals
    assert [each.code for each in board.problems()] == ["e1", "e2", "w1", "w2"]
    board.clear_all("e1", "e2", "never reported")
    assert [each.code for each in board.problems()] == ["w1", "w2"]


def test_the_one_who_hears_may_ask_the_board() -> None:
    """The daemon logs each change, and logs what else is up."""
    board: Board | None = None
    seen: list[int] = []

    def hear(problem: Problem, appeared: bool) -> None:
        assert board is not None
        seen.append(len(board.problems()))

    board = Board(hear)
    board.report("a", "error", "a")
    board.clear("a")
    assert seen == [1, 0]


def test_threads_that_report_and_clear_hear_as_many_comings_as_goings() -> None:
    heard = Heard()
    board = Board(heard)

    def work(code: str) -> None:
        for _ in range(200):
            board.report(code, "error", code)
            board.problems()
            board.clear(code)

    threads = [threading.Thread(target=work, args=(code,)) for code in "aabb"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert board.problems() == ()
    for code in "ab":
        came = [appeared for name, appeared in heard.changes if name == code]
        assert came.count(True) == came.count(False) > 0


# ------------------------------------------------------------------------------- the status file

HOLD = """
import sys, time
from pathlib import Path
from datetime import UTC, datetime, timedelta
from crackwatch.health import status
from crackwatch.locking import held
import os
state, said_s_ago = Path(sys.argv[1]), sys.argv[2]
with held(state / status.LOCK_FILE, "the station"):
    if said_s_ago != "never":
        at = datetime.now(UTC) - timedelta(seconds=float(said_s_ago))
        status.write(state, status.Status("running", pid=os.getpid(), as_of=at, model="m1"))
    print(flush=True)
    sys.stdin.read()
"""


@contextmanager
def station(state: Path, said_s_ago: str = "0") -> Iterator[int]:
    """A process that holds the station's lock and has written its status so long ago; its pid."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(state), said_s_ago],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        process.stdout.readline()
        yield process.pid
    finally:
        process.stdin.close()
        process.wait(10)
        process.stdout.close()


def test_a_living_station_is_believed(tmp_path: Path) -> None:
    with station(tmp_path) as pid:
        document = status.read(tmp_path)
    assert (document["state"], document["pid"], document["model"]) == ("running", pid, "m1")


def test_asking_changes_nothing_and_takes_no_lock(tmp_path: Path) -> None:
    with station(tmp_path) as pid:
        before = sorted(os.listdir(tmp_path))
        for _ in range(3):
            assert status.read(tmp_path)["pid"] == pid
        assert sorted(os.listdir(tmp_path)) == before
    assert status.read(tmp_path / "no such folder")["state"] == "stopped"
    assert not (tmp_path / "no such folder").exists()


def test_a_status_that_outlived_its_process_says_nothing(tmp_path: Path) -> None:
    with station(tmp_path):
        pass
    assert (tmp_path / status.STATUS_FILE).exists()
    document = status.read(tmp_path)
    assert (document["state"], document["pid"], document["model"]) == ("stopped", None, None)


def test_a_station_that_has_said_nothing_of_its_own_yet_is_starting(tmp_path: Path) -> None:
    with station(tmp_path):
        pass  # a dead one's status lies about
    with station(tmp_path, "never") as pid:
        document = status.read(tmp_path)
    assert (document["state"], document["pid"], document["model"]) == ("starting", pid, None)


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"\xff"])
def test_a_status_that_cannot_be_read_is_none(tmp_path: Path, text: bytes) -> None:
    with station(tmp_path):
        (tmp_path / status.STATUS_FILE).write_bytes(text)
        assert status.read(tmp_path)["state"] == "starting"


def test_a_station_that_lives_and_is_silent_is_unhealthy(tmp_path: Path) -> None:
    with station(tmp_path, str(status.SILENT_AFTER_S - 10)):
        assert status.read(tmp_path)["state"] == "running"
    with station(tmp_path, str(status.SILENT_AFTER_S + 10)) as pid:
        document = status.read(tmp_path)
    assert document["state"] == "unhealthy"
    (problem,) = document["problems"]
    assert (problem["code"], problem["severity"]) == ("silent", "error")
    assert str(pid) in problem["message"] and problem["remedy"]


def test_a_folder_that_may_not_be_looked_into_is_told_in_a_sentence() -> None:
    with as_an_ordinary_user() as folder:
        (folder / "state").mkdir()
        (folder / "state").chmod(0)
        with pytest.raises(UsageError, match="Permission denied"):
            status.read(folder / "state")
        (folder / "state").chmod(0o700)


# ----------------------------------------------------------------------------------- the document


def full() -> Status:
    at = datetime(2026, 11, 23, 6, 30, 0, 123456, tzinfo=UTC)
    return Status(
        "paused",
        pid=7,
        model="m1",
        inbox_pending=3,
        oldest_pending_s=1.5,
        last_batch_at=at,
        inspected_today=12,
        left_alone=(LeftAlone(b"a\n\xff.jpg", "a symbolic link"),),
        problems=(Problem("disk_full", "error", "no room", "Make room.", at),),
        as_of=at + timedelta(seconds=1),
        threshold=0.5,
    )


@pytest.mark.parametrize("given", [Status("stopped"), full()])
def test_every_key_of_the_contract_is_there_whatever_is_known(given: Status) -> None:
    document = status.to_document(given)
    assert set(document) >= KEYS
    json.dumps(document)


def test_a_document_holds_times_with_an_offset_and_names_that_can_be_shown() -> None:
    document: dict[str, Any] = status.to_document(full())
    assert document["last_batch_at"] == "2026-11-23T06:30:00.123+00:00"
    assert document["left_alone"] == [{"path": r"a\x0a\xff.jpg", "reason": "a symbolic link"}]
    assert document["problems"] == [
        {
            "code": "disk_full",
            "severity": "error",
            "message": "no room",
            "remedy": "Make room.",
            "since": "2026-11-23T06:30:00+00:00",
        }
    ]


def test_the_file_is_replaced_in_one_step_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    status.write(tmp_path, full())
    first = (tmp_path / status.STATUS_FILE).stat().st_ino
    reader = (tmp_path / status.STATUS_FILE).open("rb")
    status.write(tmp_path, Status("running", pid=8))
    with reader:
        assert json.loads(reader.read())["pid"] == 7  # whole, whoever reads it just now
    assert (tmp_path / status.STATUS_FILE).stat().st_ino != first
    assert os.listdir(tmp_path) == [status.STATUS_FILE]


def test_a_folder_whose_name_is_no_text_cannot_end_the_station(tmp_path: Path) -> None:
    problem = Problem("x", "error", os.fsdecode(b"/srv/\xff is gone"), "", datetime.now(UTC))
    status.write(tmp_path, Status("paused", problems=(problem,)))
    document = json.loads((tmp_path / status.STATUS_FILE).read_bytes())
    assert document["problems"][0]["message"] == "/srv/\udcff is gone"


def test_what_cannot_be_written_is_an_os_error_and_the_last_status_stays(tmp_path: Path) -> None:
    status.write(tmp_path, full())
    with pytest.raises(OSError, match="No such file"):
        status.write(tmp_path / "gone", full())
    assert json.loads((tmp_path / status.STATUS_FILE).read_bytes())["pid"] == 7


def test_a_clean_end_leaves_no_status(tmp_path: Path) -> None:
    status.write(tmp_path, full())
    status.clear(tmp_path)
    status.clear(tmp_path)
    assert os.listdir(tmp_path) == []


def test_a_full_disk_does_not_keep_the_station_from_saying_that_it_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    status.write(tmp_path, Status("running", pid=1, model="a model", inbox_pending=12345))

    def full(path: Path, data: bytes) -> int:
        path.touch()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

    monkeypatch.setattr(Path, "write_bytes", full)
    problem = Problem("disk_full", "error", "no room", "Make room.", datetime.now(UTC))
    for problems in ((problem,) * 3, (problem,), (problem,) * 2):
        said = Status("paused", pid=1, problems=problems)
        status.write(tmp_path, said)
        document = json.loads((tmp_path / status.STATUS_FILE).read_text())
        assert document == json.loads(json.dumps(status.to_document(said)))
    assert [each.name for each in tmp_path.iterdir()] == [status.STATUS_FILE]
