"""The station as the campaign runs it: the real daemon, its steps in one thread, a stub for a model.

What differs from ``crackwatch run --once``: the inspector works in the main thread, so that a call's
number names the same moment in each run; dark pictures are the anomalies; pauses are short; suspects
are not tried in a child of their own, as no picture here kills a decoder.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from crackwatch import champion, logs, suspects
from crackwatch import inspector as inspector_module
from crackwatch.arrivals import intake as intake_module
from crackwatch.config_file import load
from crackwatch.daemon import Daemon
from crackwatch.errors import CrackwatchError
from tests.faults import planted
from tests.station import ByBrightness

Work = Callable[[], int]


class OneThread(Daemon):
    """The daemon with ``--once``; everything that changes the world happens in the main thread."""

    def _work(self, wake: int, *, once: bool) -> int:
        self._inspector.recover()
        self._inspector.guarded(self._load_books)
        intake = threading.Thread(target=self._intake_thread, args=(True,), name="intake")
        intake.start()
        with self._watched("inspector"):
            self._inspector.run(self._intake_ended)
        return self._end([intake])


def once(config: Path, *, plant: str = "", shown: Path | None = None) -> Work:
    """The work of one start; ``plant`` names a fault, ``shown`` is told of each commit."""

    def work() -> int:
        prepare(plant, shown)
        return _ended(lambda: OneThread(load(config, {})).run(once=True))

    return work


def forever(config: Path, *, plant: str = "") -> Work:
    """The whole daemon, threads and watchers and all, until it is ended; with the stub."""

    def work() -> int:
        prepare(plant, None)
        return _ended(lambda: Daemon(load(config, {})).run())

    return work


def command(arguments: list[str], environment: Mapping[str, str]) -> Work:
    """A command line in the child's place: nothing of it is a stub."""

    def work() -> int:
        os.execvpe(arguments[0], arguments, dict(environment))

    return work


def prepare(plant: str, shown: Path | None) -> None:
    """Makes this process the campaign's: only ever called in a child."""
    logs.configure("error", "json")
    champion.load = lambda *_: ByBrightness()
    suspects.CHILD = ("true",)
    suspects.condemn.__kwdefaults__["command"] = ("true",)
    inspector_module._IDLE_CLOSE_S = 0.02
    inspector_module._PAUSE_FIRST_S, inspector_module._PAUSE_MAX_S = 0.01, 0.05
    inspector_module._REFUSED_AGAIN_S = 0.05
    intake_module._FAULT_AGAIN_S = 0.02
    intake_module._CREATED_GRACE_S = 0.01
    if plant:
        planted.FAULTS[plant]()
    if shown is not None:
        planted.tell_commits(shown)


def _ended(run: Callable[[], int]) -> int:
    try:
        return run()
    except CrackwatchError as exc:
        os.write(2, f"{type(exc).__name__}: {exc}\n".encode("utf-8", "backslashreplace"))
        return exc.exit_status
