"""Which watcher listens, what is told of it and when it is tried again, by a clock that is set by hand.

The watchers are real ones. Where the kernel is to refuse one, what makes them refuses it.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from crackwatch.arrivals.sentinel import Sentinel
from crackwatch.arrivals.watcher import Watcher
from tests.faults.deaths import DEATHS
from tests.test_intake import wait_until
from tests.test_watcher import Listener


class Tended:
    """A sentinel and all that it says, a clock, and which kinds the kernel refuses."""

    def __init__(self, inbox: Path) -> None:
        self.inbox = inbox
        self.now_s = 1000.0
        self.refused: set[str] = set()
        self.tried: list[str] = []
        self.problems: dict[str, str] = {}
        self.ever: list[str] = []
        self.listener = Listener()
        self.looked_since_s = -1.0
        self.sentinels: list[Sentinel] = []

    def sentinel(self, observer: str = "auto") -> Sentinel:
        made = Sentinel(
            os.fsencode(self.inbox),
            observer,
            self,  # type: ignore[arg-type]  # it has what a sentinel asks of an intake
            self,
            recursive=True,
            monotonic=lambda: self.now_s,
            listening=self._listening,
        )
        self.sentinels.append(made)
        return made

    def _listening(self, inbox: bytes, kind: str, *args: Any, **kwargs: Any) -> Watcher:
        self.tried.append(kind)
        if kind in self.refused:
            raise OSError(errno.ENOSPC, "the watches are used up")
        return Watcher(inbox, kind, *args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.listener, name)

    def looked_since(self, moment_s: float) -> bool:
        return self.looked_since_s > moment_s

    def report(self, code: str, severity: str, message: str, remedy: str = "") -> None:
        assert severity == "warning" and remedy
        self.problems[code] = message
        self.ever.append(message)

    def clear(self, code: str) -> None:
        self.problems.pop(code, None)


@pytest.fixture
def tended(tmp_path: Path) -> Iterator[Tended]:
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    before = set(threading.enumerate())
    made = Tended(inbox)
    yield made
    for sentinel in made.sentinels:
        sentinel.stop()
    assert set(threading.enumerate()) <= before  # whatever was built has been taken down


def threads_of(sentinel: Sentinel) -> list[threading.Thread]:
    watcher = sentinel._watcher
    assert watcher is not None
    reader = [watcher._descriptor] if watcher._descriptor is not None else []
    return [watcher._observer, *watcher._observer.emitters, *reader]


# ------------------------------------------------------------------------------ the kind it has


@pytest.mark.parametrize(
    ("observer", "kind"), [("auto", "inotify"), ("inotify", "inotify"), ("polling", "polling")]
)
def test_the_watcher_is_of_the_kind_that_the_settings_name(
    tended: Tended, observer: str, kind: str
) -> None:
    sentinel = tended.sentinel(observer)
    assert sentinel.kind is None
    sentinel.tend()
    assert sentinel.kind == kind and tended.tried == [kind]
    assert tended.listener.told is (kind == "inotify")
    assert tended.listener.rescans == 1  # for what arrived while nobody listened
    assert tended.ever == []
    for _ in range(3):
        tended.now_s += 100.0
        sentinel.tend()
    assert tended.tried == [kind] and tended.listener.rescans == 1
    sentinel.stop()
    assert sentinel.kind is None


def test_polling_stands_in_for_an_inotify_that_refuses_until_it_does_no_longer(
    tended: Tended,
) -> None:
    tended.refused = {"inotify"}
    sentinel = tended.sentinel()
    sentinel.tend()
    assert sentinel.kind == "polling" and not tended.listener.told
    assert tended.problems == {
        "watch_limit": "inotify refuses (the watches are used up); the inbox is polled instead"
    }
    for _ in range(2):  # each ten seconds it is tried anew
        tended.tried.clear()
        tended.now_s += 9.999
        sentinel.tend()
        assert tended.tried == []
        tended.now_s += 0.001
        sentinel.tend()
        assert tended.tried == ["inotify"] and sentinel.kind == "polling"
    assert list(tended.problems) == ["watch_limit"] and tended.listener.rescans == 1
    stand_in = threads_of(sentinel)
    tended.refused = set()
    tended.now_s += 10.0
    sentinel.tend()
    assert sentinel.kind == "inotify" and tended.listener.told
    assert tended.problems == {} and tended.listener.rescans == 2
    assert not any(thread.is_alive() for thread in stand_in)
    tended.tried.clear()
    tended.now_s += 10.0
    sentinel.tend()
    assert tended.tried == []


def test_a_stand_in_that_is_lost_makes_room_for_an_inotify_that_listens_again(
    tended: Tended,
) -> None:
    tended.refused = {"inotify"}
    sentinel = tended.sentinel()
    sentinel.tend()
    tended.refused = set()
    threads_of(sentinel)[0].stop()  # type: ignore[attr-defined]
    threads_of(sentinel)[0].join(5)
    sentinel.tend()
    assert sentinel.kind == "inotify" and tended.problems == {}
    tended.tried.clear()
    tended.now_s += 10.0
    sentinel.tend()
    assert tended.tried == []


# --------------------------------------------------------------------------- where none listens


@pytest.mark.parametrize("observer", ["inotify", "polling"])
def test_a_kind_that_was_named_and_is_refused_is_replaced_by_no_other(
    tended: Tended, observer: str
) -> None:
    tended.refused = {observer}
    sentinel = tended.sentinel(observer)
    sentinel.tend()
    assert sentinel.kind is None and tended.tried == [observer]
    assert tended.ever == ["the inbox cannot be watched: the watches are used up"]
    assert list(tended.problems) == ["watcher_lost"]
    assert tended.listener.rescans == 0  # the inbox is there: scans go on as they are due
    tended.now_s += 4.999
    sentinel.tend()
    assert tended.tried == [observer]
    tended.now_s += 0.001
    sentinel.tend()
    assert tended.tried == [observer] * 2
    tended.refused = set()
    tended.now_s += 5.0
    sentinel.tend()
    assert sentinel.kind == observer
    assert tended.problems == {} and tended.listener.rescans == 1


def test_an_inbox_that_is_not_there_is_not_polled_but_looked_for_at_once(tended: Tended) -> None:
    tended.inbox.rmdir()
    sentinel = tended.sentinel()
    sentinel.tend()
    assert sentinel.kind is None and "polling" not in tended.tried
    assert list(tended.problems) == ["watcher_lost"]
    assert tended.listener.rescans == 1
    tended.inbox.mkdir()
    tended.now_s += 5.0
    sentinel.tend()
    assert sentinel.kind == "inotify" and tended.problems == {}


@pytest.mark.parametrize("death", [each for each in DEATHS if each != "a handler raises"])
def test_a_watcher_that_is_lost_is_told_of_and_replaced_in_one_go(
    tended: Tended, death: str
) -> None:
    sentinel = tended.sentinel()
    sentinel.tend()
    lost, watcher = threads_of(sentinel), sentinel._watcher
    assert watcher is not None
    DEATHS[death](watcher)
    wait_until(lambda: watcher.trouble() is not None)
    sentinel.tend()
    assert sentinel.kind == "inotify" and sentinel._watcher is not watcher
    assert [each.split(":")[0] for each in tended.ever] == ["the watcher was lost"]
    assert tended.problems == {} and tended.listener.rescans == 2
    assert not any(thread.is_alive() for thread in lost)
    (tended.inbox / "after.jpg").write_bytes(b"x")
    wait_until(lambda: b"after.jpg" in tended.listener.finished())


def test_while_a_lost_watcher_cannot_be_replaced_events_are_not_believed(tended: Tended) -> None:
    sentinel = tended.sentinel("inotify")
    sentinel.tend()
    tended.refused = {"inotify"}
    threads_of(sentinel)[0].stop()  # type: ignore[attr-defined]
    threads_of(sentinel)[0].join(5)
    sentinel.tend()
    assert not tended.listener.told and sentinel.kind is None
    assert list(tended.problems) == ["watcher_lost"]


def test_a_sentinel_that_never_listened_can_be_stopped_and_one_that_did_twice(
    tended: Tended,
) -> None:
    tended.sentinel().stop()
    sentinel = tended.sentinel()
    sentinel.tend()
    for _ in range(2):
        sentinel.stop()


# ------------------------------------------------------------------------------- lost events


def test_lost_events_are_shown_for_ten_seconds_and_until_the_inbox_was_looked_through(
    tended: Tended,
) -> None:
    sentinel = tended.sentinel()
    sentinel.tend()
    # as watchdog says it: see test_degradation for a queue that really overflows
    logging.getLogger("watchdog.observers.inotify_c").warning("Inotify queue overflowed; lost")
    assert list(tended.problems) == ["events_lost"] and tended.listener.rescans == 2
    tended.looked_since_s = 1000.1
    tended.now_s += 9.999
    sentinel.tend()
    assert list(tended.problems) == ["events_lost"]
    tended.now_s += 0.001
    tended.looked_since_s = 1000.0  # that look had begun before
    sentinel.tend()
    assert list(tended.problems) == ["events_lost"]
    tended.looked_since_s = 1000.1
    sentinel.tend()
    assert tended.problems == {}
    assert sentinel.kind == "inotify" and tended.tried == ["inotify"]


def test_whatever_else_watchdog_warns_of_is_no_lost_event(tended: Tended) -> None:
    tended.sentinel().tend()
    logging.getLogger("watchdog").warning("something else")
    logging.getLogger("watchdog").info("an overflow, at least in the words of somebody")
    assert tended.ever == [] and tended.listener.rescans == 1


# ------------------------------------------------------------------------ one watcher by itself


def inotify_descriptors() -> int:
    found = 0
    for each in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the one that listed them
            found += os.readlink(f"/proc/self/fd/{each}") == "anon_inode:inotify"
    return found


def watcher_of(inbox: Path, listener: Listener, kind: str = "inotify", **kwargs: Any) -> Watcher:
    options = {"recursive": True, **kwargs}
    return Watcher(os.fsencode(inbox), kind, listener.hint, listener.rescan, **options)


@pytest.mark.parametrize("kind", ["inotify", "polling"])
def test_a_watcher_that_was_stopped_leaves_nothing_behind(tended: Tended, kind: str) -> None:
    handlers = list(logging.getLogger("watchdog").handlers)
    threads, descriptors = set(threading.enumerate()), inotify_descriptors()
    watcher = watcher_of(tended.inbox, tended.listener, kind)
    watcher.start()
    assert watcher.trouble() is None and set(threading.enumerate()) > threads
    watcher.stop()
    assert watcher.trouble() == "the observer's thread has ended"
    assert set(threading.enumerate()) == threads and inotify_descriptors() == descriptors
    logging.getLogger("watchdog").warning("an overflow of somebody else's")
    assert tended.listener.rescans == 0
    assert logging.getLogger("watchdog").handlers == handlers


def test_a_watcher_that_cannot_begin_says_why_and_leaves_nothing_behind(tended: Tended) -> None:
    handlers = list(logging.getLogger("watchdog").handlers)
    threads, descriptors = set(threading.enumerate()), inotify_descriptors()
    watcher = watcher_of(tended.inbox / "never was", tended.listener)
    with pytest.raises(OSError, match=os.strerror(errno.ENOENT)):
        watcher.start()
    assert logging.getLogger("watchdog").handlers == handlers
    watcher.stop()
    assert set(threading.enumerate()) == threads and inotify_descriptors() == descriptors


def test_a_watcher_whose_descriptor_was_closed_leaves_whoever_has_its_number_alone(
    tended: Tended,
) -> None:
    watcher = watcher_of(tended.inbox, tended.listener)
    watcher.start()
    assert watcher._descriptor is not None
    number = watcher._descriptor._inotify_fd
    with (tended.inbox.parent / "somebody's").open("wb") as file:
        os.dup2(file.fileno(), number)  # closed, and the number given to another, in one step
        watcher.stop()
        assert os.path.sameopenfile(file.fileno(), number)
        os.close(number)


@pytest.mark.parametrize(
    ("death", "words"),
    [
        ("the dispatcher's thread ends", "the observer's thread has ended"),
        ("the emitter's thread ends", "an emitter's thread has ended"),
        ("the emitter is gone", "the observer has lost its emitter"),
        ("the reader's thread ends", "the thread that reads inotify has ended"),
        ("the descriptor is closed", "the inotify descriptor has been closed"),
    ],
)
def test_a_watcher_says_what_it_died_of(tended: Tended, death: str, words: str) -> None:
    watcher = watcher_of(tended.inbox, tended.listener)
    watcher.start()
    try:
        DEATHS[death](watcher)
        wait_until(lambda: watcher.trouble() == words)
    finally:
        watcher.stop()


@pytest.mark.parametrize("kind", ["inotify", "polling"])
def test_a_watcher_listens_to_the_folder_that_it_began_with_and_no_other(
    tended: Tended, kind: str
) -> None:
    watcher = watcher_of(tended.inbox, tended.listener, kind)
    watcher.start()
    try:
        aside = tended.inbox.with_name("aside")
        tended.inbox.rename(aside)
        assert watcher.trouble() == "the inbox is another folder than the one that is watched"
        tended.inbox.mkdir()
        assert watcher.trouble() == "the inbox is another folder than the one that is watched"
        tended.inbox.rmdir()
        aside.rename(tended.inbox)
        assert watcher.trouble() is None
    finally:
        watcher.stop()


def test_what_was_moved_away_is_not_hinted_and_a_lower_folder_only_if_it_is_wanted(
    tended: Tended,
) -> None:
    (tended.inbox / "day").mkdir()
    (tended.inbox / "away.jpg").write_bytes(b"x")
    watcher = watcher_of(tended.inbox, tended.listener, recursive=False)
    watcher.start()
    try:
        (tended.inbox / "away.jpg").rename(tended.inbox.parent / "away.jpg")
        (tended.inbox / "day" / "low.jpg").write_bytes(b"x")
        (tended.inbox / "new day").mkdir()
        (tended.inbox / "last.jpg").write_bytes(b"x")
        wait_until(lambda: b"last.jpg" in tended.listener.finished(), 10)
        time.sleep(0.6)  # watchdog waits half a second for where a file was moved to
        assert {source for source, _ in tended.listener.hints} == {b"last.jpg"}
    finally:
        watcher.stop()


# watchdog warns where it comes upon a new folder twice, by its event and by its own walk
@pytest.mark.filterwarnings("ignore:Callback with id:RuntimeWarning")
def test_files_of_a_folder_that_was_moved_in_are_named_and_not_called_finished(
    tended: Tended,
) -> None:
    """Somebody may be writing them still."""
    day = tended.inbox.parent / "day"
    (day / "one").mkdir(parents=True)
    (day / "one" / "a.jpg").write_bytes(b"x")
    (day / "b.jpg").write_bytes(b"x")
    watcher = watcher_of(tended.inbox, tended.listener)
    watcher.start()
    try:
        day.rename(tended.inbox / "day")
        wait_until(
            lambda: {(b"day/one/a.jpg", False), (b"day/b.jpg", False)} <= set(tended.listener.hints)
        )
        assert tended.listener.finished() == set()
    finally:
        watcher.stop()
