"""Faults that the campaign has to find: each is planted in a child process, under a name of its own.

A control for the campaign itself: a check that none of these turns red would prove nothing. Knows
the station's inside, and only here may that be.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from crackwatch import inbox as inbox_module
from crackwatch import syncing
from crackwatch.domain import Filed, Place
from crackwatch.escaping import path_text
from crackwatch.filing import durable
from crackwatch.filing.mover import Mover
from crackwatch.filing.names import DayDestinations
from crackwatch.store.books import Books


def move_before_commit() -> None:
    """Pictures are moved to where their rows will say, and only then the rows are committed."""
    record = Books.record
    # as such a station would: what stands there already is this very picture
    DayDestinations.taken = lambda *_: False

    def moving_first(self: Books, facts: Any, drafts: Any, destinations: Any, *rest: Any) -> Any:
        for draft in drafts:
            place, source = draft.place, draft.arrival.source
            chosen = destinations.propose(place, source, 0, 0)
            if chosen is not None and place is not Place.DELETED:
                path = destinations.path(place, chosen)
                os.makedirs(os.path.dirname(path), exist_ok=True)
                if not os.path.lexists(path):
                    shutil.move(os.path.join(_inbox(destinations), source), path)
        return record(self, facts, drafts, destinations, *rest)

    Books.record = moving_first


def no_fsync_of_folders() -> None:
    """Renames are left to the kernel to write down when it likes."""
    syncing.fsync_folder = lambda _: None


def no_sync_of_pictures() -> None:
    """A row is committed while the bytes it vouches for may still be in memory only."""
    Mover.sync_inbox = lambda _: None


def replacing_rename() -> None:
    """A file that appears under the destination's name at the last moment is overwritten."""
    durable.rename_noreplace = os.rename


def seen_at_listing() -> None:
    """A name is remembered as done when it is listed, not when it is recorded."""
    look_through = inbox_module.look_through

    def marking(inbox: bytes, *rest: Any, **named: Any) -> Iterator[Any]:
        remembered = Path(os.fsdecode(inbox)).parent / "state" / "seen"
        remembered.touch()
        before = set(remembered.read_text("ascii").splitlines())
        for entry in look_through(inbox, *rest, **named):
            if entry is None:
                yield None
                continue
            key = f"{path_text(entry.source)!a} {entry.fingerprint.mtime_ns}"
            if key in before and not _in_this_process(key):
                continue
            if key not in before:
                _listed.add(key)
                with remembered.open("a", encoding="ascii") as file:
                    file.write(key + "\n")
            yield entry

    inbox_module.look_through = marking


def unlink_by_name() -> None:
    """What is to leave the inbox is compared and then unlinked under the producer's own name."""

    def give_up(self: Mover, demand: Any) -> Filed:
        from crackwatch.domain import MoveResult

        source = self._source(demand)
        if not self._exists(source):
            return self._missing(source, MoveResult.DONE)
        if not self._is_the_rows(source, demand):
            return Filed(MoveResult.REPLACED)
        self._touched(source)
        # a moment passes in which a producer may write: here it is told by a call that changes nothing
        os.fsync(os.open(os.path.dirname(source), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        os.unlink(source)
        return Filed(MoveResult.DONE)

    Mover._give_up = give_up


FAULTS: dict[str, Callable[[], None]] = {
    each.__name__.replace("_", "-"): each
    for each in (
        move_before_commit,
        no_fsync_of_folders,
        no_sync_of_pictures,
        replacing_rename,
        seen_at_listing,
        unlink_by_name,
    )
}

_listed: set[str] = set()


def _in_this_process(key: str) -> bool:
    return key in _listed


def _inbox(destinations: Any) -> bytes:
    flagged: bytes = destinations._folders[Place.FLAGGED]
    return os.path.join(os.path.dirname(flagged), b"inbox")


def tell_commits(file: Path) -> None:
    """Writes the batch's number to ``file`` as soon as its transaction has come back."""
    told = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    record = Books.record

    def telling(self: Books, facts: Any, drafts: Sequence[Any], *rest: Any) -> Any:
        recorded = record(self, facts, drafts, *rest)
        os.write(told, b"committed %d\n" % recorded.batch_id)
        return recorded

    Books.record = telling
