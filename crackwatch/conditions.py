"""What a station looks at beside its work: room on its disks, whether its books may be written, how
fast the quarantine grows, whether leases are to be had. Each is told while it lasts.

Knows paths and figures; not how a picture is inspected. A disk that is nearly full pauses intake
before it is full: the rows and moves that are owed still find room then.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from crackwatch.errors import StoreError, SystemFault
from crackwatch.escaping import path_text
from crackwatch.health.board import Board
from crackwatch.settings import Settings

DISK_LOW: Final = "disk_low"  # intake pauses
DISK_SCARCE: Final = "disk_scarce"  # a warning: nothing of the station's own grows there
READONLY: Final = "database_readonly"
UNOPENABLE: Final = "database_unopenable"
UNREACHABLE: Final = "folder_unreachable"
GROWING: Final = "quarantine_growing"
LEASES: Final = "lease_refused"
UNREADABLE: Final = "unreadable_file"

_EVERY_S = 5.0
_QUARANTINE_EVERY_S = 10.0
_AGAIN = 1.1  # times the limit that must be free again: one picture more or less is no change
_HOUR = timedelta(hours=1)
_NAMED = 3  # of the files that cannot be read
_MAKE_ROOM = (
    "Make room there, or lower [limits] min_free_bytes. It clears by itself when there is a tenth "
    "more than the limit."
)

# By reason, how many were quarantined since then. Raises StoreError.
QuarantinedSince = Callable[[datetime], Mapping[str, int]]


@dataclass(frozen=True, slots=True)
class Disk:
    """A file system that the station uses: by which folders, and whether intake pauses for it."""

    folders: tuple[Path, ...]
    free_bytes: int
    pauses: bool


class Conditions:
    """``tend`` by one thread, often; ``require_room`` by the one that inspects.

    ``cleared`` is called when something that pauses inspection is over. ``unread`` gives the files of
    the inbox that cannot be read, and why.
    """

    def __init__(
        self,
        settings: Settings,
        board: Board,
        *,
        leaseless: Callable[[], bool],
        cleared: Callable[[], None] = lambda: None,
        quarantined_since: QuarantinedSince,
        unread: Callable[[], Sequence[tuple[bytes, str]]] = tuple,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._board = board
        self._leaseless = leaseless
        self._cleared = cleared
        self._quarantined_since = quarantined_since
        self._unread = unread
        self._monotonic = monotonic
        self._low = self._scarce = False
        self._books_closed: str | None = None  # the problem that was told of them
        self._paused = False
        self._next_s = self._next_quarantine_s = 0.0

    def tend(self) -> None:
        """Looks at everything whose time it is, and tells what is wrong or no longer wrong."""
        now = self._monotonic()
        if now >= self._next_s:
            self._next_s = now + _EVERY_S
            self._tend_folders()
            self._tend_disks()
            self._tend_books()
            self._tend_leases()
            self.tell_unread()
        if now >= self._next_quarantine_s:
            self._next_quarantine_s = now + _QUARANTINE_EVERY_S
            self._tend_quarantine()

    # ------------------------------------------------------------------------------------- disks

    def require_room(self) -> None:
        """Raises SystemFault while a disk that inspecting fills is nearly full."""
        short = self._short(pausing=True, again=self._low)
        self._low = bool(short)
        if short:
            raise SystemFault(DISK_LOW, self._in_words(short), "Intake pauses. " + _MAKE_ROOM)

    def _tend_folders(self) -> None:
        """A folder that is there, but cannot even be asked how it is, is of no use to anybody."""
        refused = [
            f"{path_text(os.fsencode(folder))} ({exc.strerror})"
            for folder in self._folders()
            if (exc := _refusal(folder)) is not None
        ]
        if not refused:
            self._board.clear(UNREACHABLE)
            return
        self._board.report(
            UNREACHABLE,
            "warning",
            f"folders of the station that cannot be reached: {', '.join(refused)}",
            "Look at their disk or share (dmesg), and at this user's rights on the folders above "
            "them. It clears by itself.",
        )

    def _tend_disks(self) -> None:
        try:
            self.require_room()
        except SystemFault as fault:
            self._board.report(fault.code, "error", fault.problem, fault.remedy)
            self._paused = True
        else:
            if self._paused:
                self._cleared()
            self._board.clear(DISK_LOW)
            self._paused = False
        scarce = self._short(pausing=False, again=self._scarce)
        self._scarce = bool(scarce)
        if scarce:
            self._board.report(DISK_SCARCE, "warning", self._in_words(scarce), _MAKE_ROOM)
        else:
            self._board.clear(DISK_SCARCE)

    def _short(self, *, pausing: bool, again: bool) -> list[Disk]:
        """Those with too little room; ``again``: it was so before, and a little more has to be free."""
        limit_bytes = self._settings.limits.min_free_bytes * (_AGAIN if again else 1)
        return [
            disk
            for disk in self.disks()
            if disk.pauses is pausing and disk.free_bytes < limit_bytes
        ]

    def disks(self) -> list[Disk]:
        """Each file system that the station uses, once; those that cannot be asked are left out."""
        used: dict[int, list[Path]] = {}
        for folder in self._folders():
            try:
                used.setdefault(folder.stat().st_dev, []).append(folder)
            except OSError:
                continue  # missing, which is told elsewhere, or out of reach
        found = []
        for folders in used.values():
            try:
                figures = os.statvfs(folders[0])
            except OSError:
                continue
            free_bytes = figures.f_bavail * figures.f_frsize
            found.append(Disk(tuple(folders), free_bytes, self._grows(folders)))
        return found

    def _folders(self) -> Iterator[Path]:
        yield self._settings.database_file.parent
        for _, folder in self._settings.folders:
            if folder != self._settings.database_file.parent:
                yield folder

    def _grows(self, folders: list[Path]) -> bool:
        """Whether inspecting makes the room there less.

        Not where it makes more: normals that are deleted give back more than their rows take, so
        that to pause would only keep such a disk full.
        """
        named = self._settings.folders
        if self._settings.files.normal == "delete" and named.inbox in folders:
            return False
        fills = {self._settings.database_file.parent, named.state, named.flagged, named.quarantine}
        if self._settings.files.normal == "archive":
            fills.add(named.archive)
        return not fills.isdisjoint(folders)

    def _in_words(self, disks: list[Disk]) -> str:
        parts = [
            f"{disk.free_bytes / 1e6:,.1f} MB free on the disk of "
            f"{', '.join(path_text(os.fsencode(folder)) for folder in disk.folders)}"
            for disk in disks
        ]
        limit_bytes = self._settings.limits.min_free_bytes
        return f"{'; '.join(parts)}; the limit is {limit_bytes / 1e6:,.1f} MB"

    # ------------------------------------------------------------------------------------- books

    def _tend_books(self) -> None:
        """Before the next picture finds it out: a station may be idle all night."""
        found = self._closed_books()
        code = found[0] if found else None
        if self._books_closed is not None and code != self._books_closed:
            self._board.clear(self._books_closed)
            if code is None:
                self._cleared()
        self._books_closed = code
        if found is not None:
            code, message, remedy = found
            self._board.report(code, "error", message, remedy)

    def _closed_books(self) -> tuple[str, str, str] | None:
        """Why nothing can be recorded: code, message and remedy. None if nothing is known against it."""
        file = self._settings.database_file
        for path in (file.parent, file):
            name = path_text(os.fsencode(path))
            refusal = _refusal(path)
            if refusal is not None:
                return (
                    UNOPENABLE,
                    f"{name}: cannot be looked at ({refusal.strerror}), so nothing can be recorded",
                    "Look at its disk or share (dmesg), and at this user's rights on the folders "
                    "above it; inspection goes on by itself then.",
                )
            if os.access(path, os.F_OK) and not os.access(path, os.W_OK, effective_ids=True):
                return (
                    READONLY,
                    f"{name}: cannot be written to, so nothing can be recorded",
                    "Mount its disk for writing (a disk that fails is turned read-only: dmesg), or "
                    "give this user its rights; inspection goes on by itself then.",
                )
        return None

    # ------------------------------------------------------------------- quarantine and leases

    def _tend_quarantine(self) -> None:
        limit = self._settings.limits.quarantined_per_hour
        if limit == 0:
            return
        try:
            reasons = self._quarantined_since(datetime.now(UTC) - _HOUR)
        except StoreError:
            return  # told where rows are written; what was told of the quarantine stays
        count = sum(reasons.values())
        if count <= limit:
            self._board.clear(GROWING)
            return
        most = sorted(reasons, key=lambda reason: (-reasons[reason], reason))[:3]
        self._board.report(
            GROWING,
            "warning",
            f"{count:,} pictures were quarantined within the last hour, the limit is {limit:,}: "
            + ", ".join(f"{reasons[reason]:,} {reason}" for reason in most),
            "Look at some of them in the quarantine folder, and at the camera and its way to the "
            "inbox. It clears by itself when fewer come.",
        )

    def _tend_leases(self) -> None:
        if not self._leaseless():
            self._board.clear(LEASES)
            return
        self._board.report(
            LEASES,
            "warning",
            "the kernel refuses read leases on files of the inbox, so a file counts as complete "
            "when its writer is said to have closed it, or after "
            f"{self._settings.watch.settle_s:g} s without change",
            "Let the station own the files, or give it CAP_LEASE, as systemd/crackwatch.service "
            "does. Where the file system has no leases, raise [watch] settle_s above the longest "
            "pause of a writer.",
        )

    def tell_unread(self) -> None:
        """Says now which files of the inbox cannot be read, or that there are none any more."""
        found = self._unread()
        if not found:
            self._board.clear(UNREADABLE)
            return
        inbox = os.fsencode(self._settings.folders.inbox)
        named = ", ".join(
            f"{path_text(os.path.join(inbox, source))} ({why})" for source, why in found[:_NAMED]
        )
        more = f" and {len(found) - _NAMED:,} more" if len(found) > _NAMED else ""
        self._board.report(
            UNREADABLE,
            "error",
            f"files of the inbox that the disk does not give, {len(found):,}: {named}{more}",
            "Look at the disk or share (dmesg); or take them out of the inbox and have them written "
            "again. Each is tried again every ten minutes at least; the others are inspected.",
        )


def _refusal(path: Path) -> OSError | None:
    """Why it cannot be told whether the path is there; None where it can be."""
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as exc:
        return exc
    return None
