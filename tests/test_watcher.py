"""Events arrive as hints, and a watcher that died is noticed and built again."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from crackwatch.arrivals.sentinel import Sentinel
from crackwatch.arrivals.watcher import Watcher
from crackwatch.health.board import Board
from tests.faults.deaths import DEATHS
from tests.test_intake import wait_until


class Listener:
    """Stands where the intake stands; ``poison`` makes the handler raise once."""

    def __init__(self) -> None:
        self.hints: list[tuple[bytes, bool]] = []
        self.rescans = 0
        self.poison = False
        self.told = False
        self.needed = True

    def hints_needed(self) -> bool:
        return self.needed

    def hint(self, source: bytes, finished: bool) -> None:
        if self.poison:
            self.poison = False
            raise RuntimeError("planted in the handler")
        self.hints.append((source, finished))

    def rescan(self) -> None:
        self.rescans += 1

    def events_tell(self, whether: bool) -> None:
        self.told = whether

    def looked_since(self, moment_s: float) -> bool:
        return True

    def finished(self) -> set[bytes]:
        return {source for source, finished in self.hints if finished}


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    folder = tmp_path / "inbox"
    folder.mkdir()
    return folder


@pytest.fixture
def listener() -> Listener:
    return Listener()


@pytest.fixture
def watcher(inbox: Path, listener: Listener) -> Iterator[Watcher]:
    watcher = Watcher(os.fsencode(inbox), "inotify", listener.hint, listener.rescan, recursive=True)
    watcher.start()
    yield watcher
    watcher.stop()


def test_a_written_file_is_hinted_as_finished(
    inbox: Path, listener: Listener, watcher: Watcher
) -> None:
    (inbox / "a.jpg").write_bytes(b"x")
    wait_until(lambda: b"a.jpg" in listener.finished())
    assert watcher.trouble() is None


def test_renames_into_and_within_the_inbox_are_hinted_under_the_new_name(
    tmp_path: Path, inbox: Path, listener: Listener, watcher: Watcher
) -> None:
    (tmp_path / "outside.jpg").write_bytes(b"x")
    (tmp_path / "outside.jpg").rename(inbox / "in.jpg")
    (inbox / "b.jpg.part").write_bytes(b"x")
    (inbox / "b.jpg.part").rename(inbox / "b.jpg")
    wait_until(lambda: {b"in.jpg", b"b.jpg"} <= listener.finished())


# watchdog warns where it comes upon a new folder twice, by its event and by its own walk
@pytest.mark.filterwarnings("ignore:Callback with id:RuntimeWarning")
def test_files_of_a_new_folder_are_hinted_with_their_path(
    inbox: Path, listener: Listener, watcher: Watcher
) -> None:
    (inbox / "day" / "one").mkdir(parents=True)
    (inbox / "day" / "one" / "a.jpg").write_bytes(b"x")
    wait_until(lambda: b"day/one/a.jpg" in {source for source, _ in listener.hints})


def test_names_that_are_no_text_arrive_as_their_bytes(
    inbox: Path, listener: Listener, watcher: Watcher
) -> None:
    name = b"bad-\xff\n.jpg"
    with open(os.path.join(os.fsencode(inbox), name), "wb") as file:
        file.write(b"x")
    wait_until(lambda: name in listener.finished())


def test_while_hints_are_of_no_use_only_folders_are_told_of(
    inbox: Path, listener: Listener
) -> None:
    watcher = Watcher(
        *(os.fsencode(inbox), "inotify", listener.hint, listener.rescan),
        recursive=True,
        needed=listener.hints_needed,
    )
    watcher.start()
    try:
        listener.needed = False
        (inbox / "a.jpg").write_bytes(b"x")
        (inbox / "day").mkdir()
        time.sleep(1.0)
        assert listener.hints == []
        listener.needed = True
        (inbox / "day" / "b.jpg").write_bytes(b"x")
        wait_until(lambda: listener.finished() == {b"day/b.jpg"})
    finally:
        watcher.stop()


def test_polling_hints_too(inbox: Path, listener: Listener) -> None:
    watcher = Watcher(os.fsencode(inbox), "polling", listener.hint, listener.rescan, recursive=True)
    watcher.start()
    try:
        time.sleep(0.2)
        (inbox / "a.jpg").write_bytes(b"x")
        wait_until(lambda: (b"a.jpg", False) in listener.hints)
    finally:
        watcher.stop()


class Tended:
    """A sentinel that is tended by a thread of its own, as the daemon does."""

    def __init__(self, inbox: Path, listener: Listener) -> None:
        self.board = Board()
        self.sentinel = Sentinel(
            os.fsencode(inbox),
            "auto",
            listener,  # type: ignore[arg-type]  # it has what a sentinel asks of an intake
            self.board,
            recursive=True,
        )
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._stop.wait(0.1):
            self.sentinel.tend()

    def __enter__(self) -> Tended:
        self.sentinel.tend()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self.sentinel.stop()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_handler_that_raises_costs_the_watcher_and_a_new_one_is_built(
    inbox: Path, listener: Listener
) -> None:
    with Tended(inbox, listener):
        assert listener.rescans == 1
        listener.poison = True
        (inbox / "poison.jpg").write_bytes(b"x")
        wait_until(lambda: listener.rescans == 2, timeout_s=10)
        (inbox / "after.jpg").write_bytes(b"x")
        wait_until(lambda: b"after.jpg" in listener.finished())


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("death", [each for each in DEATHS if each != "a handler raises"])
def test_a_watcher_that_died_in_any_other_way_is_built_again(
    inbox: Path, listener: Listener, death: str
) -> None:
    """The same deaths as of `tests.faults.load --case blinded`, which makes them in a daemon."""
    with Tended(inbox, listener) as tended:
        assert listener.rescans == 1
        assert tended.sentinel._watcher is not None
        DEATHS[death](tended.sentinel._watcher)
        wait_until(lambda: listener.rescans == 2, timeout_s=10)
        wait_until(lambda: listener.told)
        (inbox / "after.jpg").write_bytes(b"x")
        wait_until(lambda: b"after.jpg" in listener.finished())


def test_events_are_believed_to_tell_of_everything_only_while_inotify_listens(
    inbox: Path, listener: Listener
) -> None:
    with Tended(inbox, listener):
        assert listener.told
        inbox.rmdir()
        wait_until(lambda: not listener.told, timeout_s=10)
        inbox.mkdir()
        wait_until(lambda: listener.told, timeout_s=10)


def test_an_inbox_that_is_renamed_and_made_anew_is_watched_again(
    inbox: Path, listener: Listener
) -> None:
    with Tended(inbox, listener) as tended:
        inbox.rename(inbox.with_name("old"))
        wait_until(lambda: bool(tended.board.problems()), timeout_s=10)
        inbox.mkdir()
        wait_until(lambda: not tended.board.problems(), timeout_s=10)
        (inbox / "after.jpg").write_bytes(b"x")
        wait_until(lambda: b"after.jpg" in listener.finished())


def test_an_inbox_that_is_deleted_is_a_problem_until_it_is_back(
    inbox: Path, listener: Listener
) -> None:
    with Tended(inbox, listener) as tended:
        inbox.rmdir()
        wait_until(lambda: [each.code for each in tended.board.problems()] == ["watcher_lost"], 10)
        inbox.mkdir()
        wait_until(lambda: not tended.board.problems() and tended.sentinel.kind is not None, 10)


def test_where_no_thread_can_be_started_it_is_tried_again_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    board = Board()
    sentinel = Sentinel(os.fsencode(tmp_path), "auto", Listener(), board, recursive=True)  # type: ignore[arg-type]
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refused)
        sentinel.tend()
    assert sentinel.kind is None
    assert "can't start new thread" in next(
        each.message for each in board.problems() if each.code == "watcher_lost"
    )
    sentinel._next_try_s = 0.0
    sentinel.tend()
    assert sentinel.kind == "inotify"
    assert not board.problems()
    sentinel.stop()
