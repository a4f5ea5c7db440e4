"""The ways in which a watcher can die, or go on living and hear nothing; each kills one from inside.

They reach into the parts of ``Watcher`` and of watchdog that fail, as nothing from outside can.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from crackwatch.arrivals import watcher as watcher_module
from crackwatch.arrivals.watcher import Watcher


def _dispatcher(watcher: Watcher) -> None:
    watcher._observer.stop()


def _emitter(watcher: Watcher) -> None:
    for emitter in watcher._observer.emitters:
        emitter.stop()


def _emitter_lost(watcher: Watcher) -> None:
    watcher._observer.unschedule_all()


def _reader(watcher: Watcher) -> None:
    assert watcher._descriptor is not None
    watcher._descriptor.stop()


def _descriptor(watcher: Watcher) -> None:
    assert watcher._descriptor is not None
    os.close(watcher._descriptor._inotify_fd)


def _handler(watcher: Watcher) -> None:
    """The next event meets a handler that raises: the end of the thread that calls it."""

    def raising(*_: Any) -> None:
        watcher_module._Handler.on_any_event = sound  # type: ignore[method-assign]
        raise RuntimeError("planted in the handler")

    sound = watcher_module._Handler.on_any_event
    watcher_module._Handler.on_any_event = raising  # type: ignore[method-assign]


DEATHS: dict[str, Callable[[Watcher], None]] = {
    "the dispatcher's thread ends": _dispatcher,
    "the emitter's thread ends": _emitter,
    "the emitter is gone": _emitter_lost,
    "the reader's thread ends": _reader,
    "the descriptor is closed": _descriptor,
    "a handler raises": _handler,
}
