"""Keeps a watcher listening: chooses its kind, notices its death, builds it again.

Whatever happens to the watcher costs time only: a rescan follows each change.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Literal, Protocol

from crackwatch.arrivals.gate import file_system_of, is_network
from crackwatch.arrivals.intake import Intake
from crackwatch.arrivals.watcher import Watcher

_TRY_AGAIN_S = 5.0
_INOTIFY_AGAIN_S = 10.0  # while polling stands in for it
_OVERFLOW_SHOWN_S = 10.0  # at least: what is mended within a second would be seen by nobody


class Problems(Protocol):
    """Where troubles are told: see ``health.board``."""

    def report(
        self, code: str, severity: Literal["warning", "error"], message: str, remedy: str = ""
    ) -> None: ...
    def clear(self, code: str) -> None: ...


class Sentinel:
    """Tends one watcher; ``tend`` is called every half second by one thread.

    ``listening`` makes one, which may raise OSError as the kernel does.
    """

    def __init__(
        self,
        inbox: bytes,
        observer: str,
        intake: Intake,
        problems: Problems,
        *,
        recursive: bool,
        monotonic: Callable[[], float] = time.monotonic,
        listening: Callable[..., Watcher] = Watcher,
    ) -> None:
        self._inbox = inbox
        self._observer = observer
        self._intake = intake
        self._problems = problems
        self._recursive = recursive
        self._monotonic = monotonic
        self._listening = listening
        self._watcher: Watcher | None = None
        self._next_try_s = -math.inf  # monotonic, as all that follow
        self._inotify_again_s: float | None = None  # while polling stands in for it
        self._overflowed_s: float | None = None

    @property
    def kind(self) -> str | None:
        """ "inotify" or "polling"; None while nothing listens."""
        return self._watcher.kind if self._watcher else None

    def tend(self) -> None:
        """Looks whether the watcher still listens, and builds one where none does."""
        self._clear_overflow()
        if self._watcher is not None:
            trouble = self._watcher.trouble()
            if trouble is None:
                again_s = self._inotify_again_s
                if again_s is not None and self._monotonic() >= again_s:
                    self._back_to_inotify(self._watcher)
                return
            self._problems.report(
                "watcher_lost", "warning", f"the watcher was lost: {trouble}", "It is rebuilt."
            )
            self._intake.events_tell(False)
            self._watcher.stop()
            self._watcher = None
        if self._monotonic() >= self._next_try_s:
            self._build()

    def stop(self) -> None:
        if self._watcher is not None:
            self._watcher.stop()
            self._watcher = None

    def _build(self) -> None:
        try:
            self._watcher = self._started(self._kind())
        except OSError as exc:
            self._next_try_s = self._monotonic() + _TRY_AGAIN_S
            self._problems.report(
                "watcher_lost",
                "warning",
                f"the inbox cannot be watched: {exc.strerror or exc}",
                "Check that it exists; it is tried again by itself, and the inbox looked through "
                "now and then until then.",
            )
            if not self._watchable():
                self._intake.rescan()  # which finds out at once what is wrong with it, and says so
            return
        self._problems.clear("watcher_lost")
        self._intake.events_tell(self._watcher.kind == "inotify")
        self._intake.rescan()  # what arrived while nobody listened

    def _kind(self) -> str:
        if self._observer != "auto":
            return self._observer
        return "polling" if is_network(file_system_of(self._inbox)) else "inotify"

    def _started(self, kind: str) -> Watcher:
        """A listening watcher of this kind; polling where the kernel's watches are used up."""
        self._inotify_again_s = None
        try:
            watcher = self._new(kind)
        except OSError as exc:
            if kind == "polling" or self._observer == "inotify" or not self._watchable():
                raise
            self._problems.report(
                "watch_limit",
                "warning",
                f"inotify refuses ({exc.strerror or exc}); the inbox is polled instead",
                "Raise fs.inotify.max_user_watches or max_user_instances with sysctl; inotify is "
                "tried again by itself.",
            )
            self._inotify_again_s = self._monotonic() + _INOTIFY_AGAIN_S
            return self._new("polling")
        self._problems.clear("watch_limit")
        return watcher

    def _back_to_inotify(self, stand_in: Watcher) -> None:
        """Polling goes on until the other listens; what comes meanwhile is told by both."""
        try:
            watcher = self._new("inotify")
        except OSError:
            self._inotify_again_s = self._monotonic() + _INOTIFY_AGAIN_S
            return
        stand_in.stop()
        self._watcher = watcher
        self._inotify_again_s = None
        self._problems.clear("watch_limit")
        self._intake.events_tell(True)
        self._intake.rescan()

    def _new(self, kind: str) -> Watcher:
        watcher = self._listening(
            self._inbox,
            kind,
            self._intake.hint,
            self._overflowed,
            recursive=self._recursive,
            needed=self._intake.hints_needed,
        )
        try:
            watcher.start()
        except OSError:
            watcher.stop()
            raise
        return watcher

    def _watchable(self) -> bool:
        try:
            file_system_of(self._inbox)
        except OSError:
            return False
        return True

    def _overflowed(self) -> None:
        self._overflowed_s = self._monotonic()
        self._problems.report(
            "events_lost",
            "warning",
            "the kernel dropped file events: too many files at once",
            "Nothing to do: the inbox is looked through, and no picture is lost. If it happens "
            "often, raise fs.inotify.max_queued_events with sysctl.",
        )
        self._intake.rescan()

    def _clear_overflow(self) -> None:
        overflowed_s = self._overflowed_s
        if (
            overflowed_s is not None
            and self._monotonic() - overflowed_s >= _OVERFLOW_SHOWN_S
            and self._intake.looked_since(overflowed_s)
        ):
            self._overflowed_s = None
            self._problems.clear("events_lost")
