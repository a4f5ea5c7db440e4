"""Listens to the inbox with watchdog and passes on names as hints; decides nothing about them.

Events are only hints, so one that is lost costs time and never a picture. What matters is that a
watcher that has stopped listening is noticed: ``alive`` looks at every thread and at the watched
folder itself, because ``Observer.is_alive()`` stays true when an emitter or the dispatcher died.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable

from watchdog.events import (
    DirCreatedEvent,
    DirMovedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers.api import BaseObserver, EventEmitter
from watchdog.observers.inotify import InotifyFullEmitter
from watchdog.observers.inotify_c import InotifyEvent, InotifyFD
from watchdog.observers.polling import PollingEmitter

_POLL_S = 1.0
_INOTIFY = "anon_inode:inotify"  # as the kernel names such a descriptor

Hint = Callable[[bytes, bool], None]  # (path relative to the inbox, was it closed or moved in)


class OverflowListener(logging.Handler):
    """watchdog tells of a lost event by a log warning only; this hears it."""

    def __init__(self, on_overflow: Callable[[], None]) -> None:
        super().__init__(logging.WARNING)
        self._on_overflow = on_overflow

    def emit(self, record: logging.LogRecord) -> None:
        if "overflow" in record.getMessage().lower():
            self._on_overflow()


class _Reader(InotifyFD):
    """watchdog's reader of inotify, which keeps to itself what a scan will find anyway.

    Behind it are queues without bound: 200,000 files at once would fill the memory with their events.
    Folders are always told of, as new ones have to be watched.
    """

    def __init__(self, needed: Callable[[], bool]) -> None:
        super().__init__()
        self._needed = needed

    def handle_event(self, event: InotifyEvent) -> None:
        if event.name and not event.is_directory and not self._needed():
            return
        super().handle_event(event)


class _Handler(FileSystemEventHandler):
    def __init__(self, inbox: bytes, hint: Hint) -> None:
        self._prefix = os.path.join(inbox, b"")
        self._hint = hint

    def on_any_event(self, event: FileSystemEvent) -> None:
        if isinstance(event, FileMovedEvent | DirMovedEvent) and not event.dest_path:
            return  # moved away
        # a rename's new name is the picture's; everything else happened to the only one
        path = os.fsencode(event.dest_path or event.src_path)
        if not path.startswith(self._prefix):
            return
        if event.is_directory:
            self._look_into(path)
        else:
            finished = isinstance(event, FileClosedEvent | FileMovedEvent)
            self._hint(path[len(self._prefix) :], finished)

    def _look_into(self, folder: bytes) -> None:
        """A new folder may have been filled before it was watched; from now on events will tell."""
        for path, _, names in os.walk(folder):
            for name in names:
                self._hint(os.path.join(path, name)[len(self._prefix) :], False)


class Watcher:
    """One observer of one inbox. ``kind`` is "inotify" or "polling".

    ``needed`` says whether hints are of use: not while a scan is to come that finds the same.
    """

    def __init__(
        self,
        inbox: bytes,
        kind: str,
        hint: Hint,
        on_overflow: Callable[[], None],
        *,
        recursive: bool,
        needed: Callable[[], bool] = lambda: True,
    ) -> None:
        self.kind = kind
        self._inbox = inbox
        self._overflow = OverflowListener(on_overflow)
        self._descriptor: InotifyFD | None = None
        if kind == "polling":
            self._observer = BaseObserver(PollingEmitter, timeout=_POLL_S)
            # polling sees no close; a change is a reason to look again
            events: list[type[FileSystemEvent]] = [
                FileCreatedEvent,
                FileModifiedEvent,
                FileMovedEvent,
            ]
        else:
            # our own descriptor thread, so that its death is seen; the full emitter, because it
            # tells a rename-in from a file that is only being created
            self._descriptor = _Reader(needed)
            self._observer = BaseObserver(InotifyFullEmitter, inotify_fd=self._descriptor)
            events = [FileClosedEvent, FileMovedEvent, FileCreatedEvent]
            if recursive:
                events += [DirCreatedEvent, DirMovedEvent]
        self._identity = _identity(inbox)
        self._observer.schedule(
            _Handler(inbox, hint),
            os.fsdecode(inbox),
            recursive=recursive,
            event_filter=events,
        )

    def start(self) -> None:
        """Begins to listen. Raises OSError (watch limit reached, inbox missing, no more threads)."""
        logging.getLogger("watchdog").addHandler(self._overflow)
        try:
            if self._descriptor is not None:
                self._descriptor.start()
            self._observer.start()
        except BaseException as exc:
            logging.getLogger("watchdog").removeHandler(self._overflow)
            if isinstance(exc, RuntimeError):  # "can't start new thread"
                raise OSError(errno.EAGAIN, str(exc)) from exc
            raise

    def stop(self) -> None:
        """Ends the observer's threads; waits for at most five seconds."""
        logging.getLogger("watchdog").removeHandler(self._overflow)
        if self._descriptor is not None and _kind_of(self._descriptor._inotify_fd) != _INOTIFY:
            # watchdog would ask, and close, whatever has that number by now
            self._descriptor._inotify_fd = os.open(os.devnull, os.O_RDONLY)
        threads = [self._observer, *self._observer.emitters]
        if self._descriptor is not None:
            threads.append(self._descriptor)
        for thread in threads:
            thread.stop()
        for thread in threads:
            if thread.is_alive():
                thread.join(timeout=5.0)

    def trouble(self) -> str | None:
        """Why this watcher has to be rebuilt, or None while it listens."""
        if not self._observer.is_alive():
            return "the observer's thread has ended"
        if self._descriptor is not None:
            if not self._descriptor.is_alive():
                return "the thread that reads inotify has ended"
            # watchdog's thread goes on without a word where its descriptor was closed
            if _kind_of(self._descriptor._inotify_fd) != _INOTIFY:
                return "the inotify descriptor has been closed"
        emitters: list[EventEmitter] = list(self._observer.emitters)
        if not emitters:
            return "the observer has lost its emitter"
        if not all(emitter.is_alive() for emitter in emitters):
            return "an emitter's thread has ended"
        if _identity(self._inbox) != self._identity:
            return "the inbox is another folder than the one that is watched"
        return None


def _kind_of(descriptor: int) -> str | None:
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    except OSError:
        return None


def _identity(inbox: bytes) -> tuple[int, int] | None:
    try:
        status = os.stat(inbox)
    except OSError:
        return None
    return status.st_dev, status.st_ino
