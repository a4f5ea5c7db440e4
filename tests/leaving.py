"""Departures on the real station of ``tests.station``, and a child process that dies on the way."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

from crackwatch import syncing
from crackwatch.audit import Auditor
from crackwatch.audited import Audit
from crackwatch.departures import Departed, Departing
from crackwatch.domain import Place
from crackwatch.filing import durable
from crackwatch.filing.leaving import Leaver
from crackwatch.inbox import NamePolicy
from crackwatch.store.audits import AuditBooks
from crackwatch.store.departures import Departures
from crackwatch.store.engine import open_writer
from tests.station import Station

# what touches the disk or the books between two departures' beginning and end
_CALLS: tuple[tuple[Any, str], ...] = (
    (durable, "rename_noreplace"),
    (syncing, "fsync_folder"),
    (os, "unlink"),
    (Departures, "begin"),
    (Departures, "retarget"),
    (Departures, "expire"),
    (Departures, "end"),
)


def rows_of(station: Station) -> Departures:
    return Departures(open_writer(station.database), "station")


def folders_of(station: Station) -> dict[Place, bytes]:
    return {Place.KEPT: os.fsencode(station.inbox), **station.places}


def departing(station: Station, told: Callable[[Departed], None] = lambda _: None) -> Departing:
    leaver = Leaver(folders_of(station), lambda: None)
    return Departing(rows_of(station), leaver, told)


def audited(station: Station, *, full: bool = True) -> Audit:
    return Auditor(
        AuditBooks(station.database, "station"),
        os.fsencode(station.inbox),
        station.places,
        NamePolicy(["*.jpg"], recursive=True),
        full=full,
        pause=lambda: None,
    ).audit()


def killed_at(work: Callable[[], object], boundary: int) -> str | None:
    """Runs ``work`` in a child that a SIGKILL ends at its ``boundary``-th call: before the 0th, after
    it, before the 1st, and so on. The name of that call; None if there were not so many."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        passed = [0]

        def dying(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
            def instead(*arguments: Any, **named: Any) -> Any:
                for after in (False, True):
                    if after:
                        found = call(*arguments, **named)
                    if passed[0] == boundary:
                        os.write(writing, f"{'after' if after else 'before'} {name}".encode())
                        os.kill(os.getpid(), signal.SIGKILL)
                    passed[0] += 1
                return found

            return instead

        status = 70
        try:
            for owner, name in _CALLS:
                setattr(owner, name, dying(name, getattr(owner, name)))
            work()
            status = 0
        finally:
            os._exit(status)
    os.close(writing)
    with open(reading, "rb") as told:
        name = told.read().decode()
    _, ended = os.waitpid(child, 0)
    if os.WIFSIGNALED(ended):
        assert os.WTERMSIG(ended) == signal.SIGKILL
        return name
    assert os.waitstatus_to_exitcode(ended) == 0
    return None
