"""Carries out the moves that committed rows demand; safe to repeat after a crash at any point.

No name that a producer can write is ever unlinked. A file whose size and mtime are the row's is
renamed without replacing: to its destination, or, to be given up, to a name of ours beside it. Only
there is it compared with the row by its hash: another file may have taken its name at the last
moment. One that differs is renamed back.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import stat
from collections.abc import Callable
from typing import Protocol

from crackwatch import inbox as inbox_module
from crackwatch import syncing
from crackwatch.domain import Filed, Fingerprint, MoveResult, Place, QuarantineReason
from crackwatch.errors import SystemFault
from crackwatch.escaping import path_text
from crackwatch.filing import contents, durable, sidecars
from crackwatch.filing.contents import COARSEST_MTIME_NS, NOT_THERE
from crackwatch.filing.names import NAME_MAX_BYTES, fit


class Demand(Protocol):
    """What a row says of a file that must go somewhere."""

    @property
    def id(self) -> int: ...
    @property
    def source(self) -> bytes: ...
    @property
    def fingerprint(self) -> Fingerprint: ...
    @property
    def sha256(self) -> bytes | None: ...
    @property
    def place(self) -> Place: ...
    @property
    def destination(self) -> bytes | None: ...
    @property
    def reason(self) -> QuarantineReason | None: ...
    @property
    def detail(self) -> str | None: ...


class Mover:
    """Moves files out of one inbox, and remembers which folders are to be synced.

    ``folders`` maps each place to its absolute folder. ``check`` raises SystemFault where the folder
    at the inbox's path is not the inbox: what is not there is then not gone. ``standing`` raises it
    where that of a place is not the station's: a picture moved there would lie below a mount point.
    It is asked once between two calls of ``sync``, and before any folder is made.
    """

    def __init__(
        self,
        inbox: bytes,
        folders: dict[Place, bytes],
        check: Callable[[], None] = lambda: None,
        standing: Callable[[Place], None] = lambda _: None,
    ) -> None:
        self._inbox = inbox
        self._check = check
        self._standing = standing
        self._sure: set[Place] = set()  # asked for since the last ``sync``
        self._folders = folders
        self._dirty: set[bytes] = set()

    def file(self, demand: Demand) -> Filed:
        """Does what the row says, or finds that it was done before. Raises SystemFault."""
        try:
            if demand.place not in self._sure:
                self._standing(demand.place)
                self._sure.add(demand.place)
            if demand.place is Place.DELETED:
                return self._give_up(demand)
            return self._move(demand)
        except SystemFault:
            self._sure.clear()
            raise
        except OSError as exc:
            if exc.errno in inbox_module.SYSTEM_ERRNOS:
                self._sure.clear()
                raise _fault(exc, self._folders.get(demand.place, self._inbox)) from exc
            # rights, names too long or impossible there: this file's trouble, not the station's
            return Filed(MoveResult.REFUSED, self._why_refused(demand, exc))

    def sync(self) -> None:
        """Makes every rename since the last call durable, once a folder. Raises SystemFault."""
        self._sure.clear()
        try:
            # a destination's name must be safe before the source's absence is
            self._sync_destinations()
            for folder in sorted(self._dirty):
                try:
                    syncing.fsync_folder(folder)
                except PermissionError:  # a producer took this folder's rights away
                    durable.syncfs(self._inbox)
        except OSError as exc:
            raise _fault(exc, self._inbox) from exc
        self._dirty.clear()

    def sync_inbox(self) -> None:
        """Makes durable what the producers wrote, before a row vouches for it."""
        try:
            durable.syncfs(self._inbox)
        except OSError as exc:
            raise _fault(exc, self._inbox) from exc

    def _why_refused(self, demand: Demand, exc: OSError) -> str:
        """What the kernel said and of what: for rights it may be either end of the move."""
        said = exc.strerror or str(exc)
        about = exc.filename
        if exc.errno in (errno.EACCES, errno.EPERM):
            ends = [self._source(demand)]
            if demand.destination is not None:
                ends.append(self._destination(demand))
            for folder in map(_nearest_folder, ends):
                if not os.access(folder, os.W_OK | os.X_OK, effective_ids=True):
                    about = folder
                    break
        return f"{path_text(os.fsencode(about))}: {said}" if about else said

    # ------------------------------------------------------------------------------ one rename

    def _move(self, demand: Demand) -> Filed:
        source, destination = self._source(demand), self._destination(demand)
        gone = self._gone_name(demand)
        if self._exists(gone):
            # an earlier process died while it gave the source of a copy up
            if self._is_the_rows(gone, demand):
                source = gone
            else:
                self._put_back(gone, demand)
        if not self._has_identity(source, demand):
            return self._without_source(demand, destination)
        if not self._make_way(demand, destination):
            return Filed(MoveResult.TAKEN)
        try:
            durable.rename_noreplace(source, destination)
        except FileExistsError:
            return self._met_something(demand, destination)
        except OSError as exc:
            if exc.errno == errno.EXDEV:
                return self._move_across(demand, source, destination)
            if exc.errno in NOT_THERE:
                return self._without_source(demand, destination)
            raise
        self._touched(source, destination)
        if not self._has_content(destination, demand):
            self._put_back(destination, demand)
            return Filed(MoveResult.REPLACED)
        self._write_sidecar(demand, destination)
        return Filed(MoveResult.DONE)

    def _without_source(self, demand: Demand, destination: bytes) -> Filed:
        """The row's file does not stand under its name: was it moved before, or taken away?

        Or is it hidden, because the inbox is not mounted? A copy at the destination proves nothing
        then: its source comes back with the inbox, and has to be given up first.
        """
        source = self._source(demand)
        self._require_inbox()
        # what a copy left that was killed, if its source was taken away before it could be redone
        _remove(self._partial(demand, destination))
        if self._has_content(destination, demand):
            self._touched(source)
            return self._finish_copy(demand, destination)
        self._standing(demand.place)
        return self._missing(source, MoveResult.GONE)

    def _missing(self, source: bytes, otherwise: MoveResult) -> Filed:
        """What to make of a file that is not where it was. Raises SystemFault without an inbox."""
        self._require_inbox()
        return Filed(MoveResult.REPLACED if self._exists(source) else otherwise)

    def _require_inbox(self) -> None:
        """Raises SystemFault unless the inbox is there and the station's."""
        try:
            os.stat(self._inbox)
        except OSError as exc:
            raise inbox_module.inbox_fault(self._inbox, exc) from exc
        self._check()

    def _met_something(self, demand: Demand, destination: bytes) -> Filed:
        """Both names exist. Our own leftovers are cleared; anything else keeps its name."""
        if durable.is_reservation(os.lstat(destination)) and demand.fingerprint.size_bytes:
            os.unlink(destination)
            return self._move(demand)
        if self._has_content(destination, demand):
            # a copy, a hard link: the destination has what the row promises
            return self._finish_copy(demand, destination)
        return Filed(MoveResult.TAKEN)

    # --------------------------------------------------------------------- across file systems

    def _move_across(self, demand: Demand, source: bytes, destination: bytes) -> Filed:
        if self._exists(destination):
            return self._met_something(demand, destination)
        partial = self._partial(demand, destination)
        _remove(partial)
        try:
            copied = self._copy(demand, source, partial)
            if copied:
                durable.rename_noreplace(partial, destination)
        except FileExistsError:
            return Filed(MoveResult.TAKEN)
        finally:
            _remove(partial)
        if not copied:
            if source != self._source(demand):
                self._put_back(source, demand)
            return self._without_source(demand, destination)
        return self._finish_copy(demand, destination)

    def _partial(self, demand: Demand, destination: bytes) -> bytes:
        """The name of an unfinished copy: in a folder of ours, under a name of ours."""
        return os.path.join(
            os.path.dirname(destination), inbox_module.OWN_PREFIX + b"%d.part" % demand.id
        )

    def _copy(self, demand: Demand, source: bytes, partial: bytes) -> bool:
        """Copies and syncs; False where what was read is not what the row says."""
        folder = inbox_module.open_folder(self._inbox)
        try:
            reading = inbox_module.open_beneath(folder, os.path.relpath(source, self._inbox))
        except OSError as exc:
            if exc.errno in NOT_THERE:
                return False
            raise
        finally:
            os.close(folder)
        try:
            before = os.fstat(reading)
            if not stat.S_ISREG(before.st_mode):
                return False
            with contents.copied(reading, partial) as copy:
                if demand.sha256 is None:  # too big to have been read: what stat says must do
                    found = Fingerprint.of(os.fstat(reading))
                    return (
                        found == Fingerprint.of(before)
                        and found.same_identity(demand.fingerprint)
                        and os.fstat(copy).st_size == found.size_bytes
                    )
                return inbox_module.sha256_of(copy) == demand.sha256
        finally:
            os.close(reading)

    def _finish_copy(self, demand: Demand, destination: bytes) -> Filed:
        """The destination holds the picture: durable first, then the source is given up."""
        self._write_sidecar(demand, destination)
        self._touched(destination)
        self._sync_destinations()
        given_up = self._give_up(demand)
        # whatever else stands under the source's name by now stays there, as an arrival of its
        # own; this row's picture is where it belongs
        return Filed(MoveResult.DONE) if given_up.result is not MoveResult.REFUSED else given_up

    def _sync_destinations(self) -> None:
        """Makes durable every new name outside the inbox, those of new folders included."""
        outside = {folder for folder in self._dirty if not self._is_in_inbox(folder)}
        for folder in sorted(outside):
            syncing.fsync_folder(folder)
        self._dirty -= outside

    # --------------------------------------------------------------------------- giving up

    def _give_up(self, demand: Demand) -> Filed:
        """Removes the row's file from the inbox, and only that file."""
        source, gone = self._source(demand), self._gone_name(demand)
        if not self._exists(gone):
            if not self._has_identity(source, demand):
                return self._missing(source, MoveResult.DONE)
            try:
                durable.rename_noreplace(source, gone)
            except (FileNotFoundError, NotADirectoryError):
                return self._missing(source, MoveResult.DONE)
            self._touched(source)
        if not self._is_the_rows(gone, demand):
            self._put_back(gone, demand)
            return Filed(MoveResult.REPLACED)
        os.unlink(gone)
        self._touched(source)
        return Filed(MoveResult.DONE)

    def _gone_name(self, demand: Demand) -> bytes:
        folder = os.path.dirname(self._source(demand))
        return os.path.join(folder, inbox_module.OWN_PREFIX + b"%d.gone" % demand.id)

    def _put_back(self, where: bytes, demand: Demand) -> None:
        """Gives foreign content its name back, or one beside it if that has been taken again."""
        folder, name = os.path.split(self._source(demand))
        for attempt in itertools.count():
            extra = b" (%d-%d)" % (demand.id, attempt) if attempt else b""
            target = os.path.join(folder, fit(name, extra, NAME_MAX_BYTES))
            try:
                durable.rename_noreplace(where, target)
                break
            except FileExistsError:
                continue
            except (FileNotFoundError, NotADirectoryError):
                if not self._exists(where):
                    return  # somebody took it even from here: it was theirs
                if folder == self._inbox:
                    raise
                folder = self._inbox  # the producer removed the folder meanwhile
        self._touched(target, where)

    # ------------------------------------------------------------------------------- comparing

    def _has_identity(self, path: bytes, demand: Demand) -> bool:
        """Whether a regular file of the row's size and mtime stands there."""
        try:
            status = os.lstat(path)
        except OSError as exc:
            if exc.errno in NOT_THERE:
                return False
            raise
        return stat.S_ISREG(status.st_mode) and Fingerprint.of(status).same_identity(
            demand.fingerprint
        )

    def _has_content(self, path: bytes, demand: Demand) -> bool:
        """Whether the file at ``path`` has the bytes that the row inspected."""
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as exc:
            if exc.errno in NOT_THERE or exc.errno == errno.ENXIO:
                return False
            raise
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                return False
            found = Fingerprint.of(status)
            if found.size_bytes != demand.fingerprint.size_bytes:
                return False
            if demand.sha256 is None:
                return abs(found.mtime_ns - demand.fingerprint.mtime_ns) < COARSEST_MTIME_NS
            return inbox_module.sha256_of(descriptor) == demand.sha256
        finally:
            os.close(descriptor)

    def _is_the_rows(self, path: bytes, demand: Demand) -> bool:
        """Whether it is the very file: the same bytes sent again are an arrival of their own."""
        return self._has_identity(path, demand) and self._has_content(path, demand)

    def _exists(self, path: bytes) -> bool:
        return os.path.lexists(path)

    # --------------------------------------------------------------------------------- folders

    def _source(self, demand: Demand) -> bytes:
        return os.path.join(self._inbox, demand.source)

    def _destination(self, demand: Demand) -> bytes:
        if demand.destination is None:
            raise ValueError(f"row {demand.id} has no destination")
        return os.path.join(self._folders[demand.place], demand.destination)

    def _touched(self, *paths: bytes) -> None:
        """The names of ``paths`` have changed: their folders are to be synced."""
        self._dirty |= {os.path.dirname(path) for path in paths}

    def _is_in_inbox(self, folder: bytes) -> bool:
        return folder == self._inbox or folder.startswith(os.path.join(self._inbox, b""))

    def _make_way(self, demand: Demand, destination: bytes) -> bool:
        """Makes the destination's folders; False where a file stands in the place of one, or in
        that of the sidecar. Beside a destination that is there, it is that which decides: it may be
        the row's own copy, and its sidecar one that cannot be read just now."""
        folder = os.path.dirname(destination)
        if not os.path.isdir(folder):
            self._standing(demand.place)  # its disk may have gone since the batch began
        try:
            self._make_folder(folder)
        except (FileExistsError, NotADirectoryError):
            if os.path.isdir(self._folders[demand.place]):
                return False
            raise
        sidecar = sidecars.beside(destination)
        return (
            demand.place is not Place.QUARANTINED
            or not self._exists(sidecar)
            or self._exists(destination)
            or sidecars.is_the_rows(sidecar, demand.id, demand.source)
        )

    def _make_folder(self, folder: bytes) -> None:
        """Makes a folder and its parents; each new name is synced in its parent later."""
        if os.path.isdir(folder):
            return
        try:
            os.mkdir(folder)
        except FileNotFoundError:
            self._make_folder(os.path.dirname(folder))
            os.mkdir(folder)
        except FileExistsError:
            if not os.path.isdir(folder):
                raise
        self._touched(folder)

    def _write_sidecar(self, demand: Demand, destination: bytes) -> None:
        """Puts the reason beside a quarantined picture; rewritten from the row each time."""
        if demand.place is not Place.QUARANTINED or demand.reason is None:
            return
        sidecars.write(
            destination,
            demand.id,
            demand.source,
            demand.reason,
            demand.detail,
            demand.sha256,
        )
        self._touched(destination)


def _remove(path: bytes) -> None:
    """Unlinks a file of ours that may be there. Raises OSError."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        os.unlink(path)


def _nearest_folder(path: bytes) -> bytes:
    """The folder of ``path``, or of those above it the first that is there."""
    folder = os.path.dirname(path)
    while not os.path.isdir(folder) and folder != os.path.dirname(folder):
        folder = os.path.dirname(folder)
    return folder


def _fault(exc: OSError, otherwise: bytes) -> SystemFault:
    """``otherwise``: the folder to name where the error names none, as for a failed write."""
    name = path_text(os.fsencode(exc.filename2 or exc.filename or otherwise))
    if exc.errno in (errno.ENOSPC, errno.EDQUOT):
        return SystemFault("disk_full", f"{name}: {exc.strerror}", "Make room on that disk.")
    return SystemFault(
        "filing_failed",
        f"{name}: cannot be moved: {exc.strerror}",
        "Check that folder and its disk; the move is tried again by itself.",
    )
