"""Carries out the moves that committed rows demand; safe to repeat after a crash at any point.

No name that a producer can write is ever unlinked. A file is first renamed without replacing: to
its destination, or, to be given up, to a name of ours beside it. Only there is it compared with its
row: another file may have taken its name after it was read. One that differs is renamed back.
"""

from __future__ import annotations

import contextlib
import enum
import errno
import json
import os
from dataclasses import dataclass
from typing import Protocol

from crackwatch import inbox as inbox_module
from crackwatch.domain import Fingerprint, Place, QuarantineReason, path_text
from crackwatch.errors import SystemFault
from crackwatch.filing import durable
from crackwatch.filing.names import SIDECAR_SUFFIX, fit

_COPY_CHUNK_BYTES = 1 << 20


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


class Result(enum.Enum):
    """How a move ended."""

    DONE = "done"
    GONE = "gone"  # a producer took the file away after it was inspected
    REPLACED = "replaced"  # other content had its name; that content is back in the inbox
    TAKEN = "taken"  # a file stands at the destination: choose another, commit it, try again
    REFUSED = "refused"  # this user may not move it: try again later


@dataclass(frozen=True, slots=True)
class Filed:
    result: Result
    detail: str = ""


class Mover:
    """Moves files out of one inbox, and remembers which folders are to be synced.

    ``folders`` maps each place to its absolute folder.
    """

    def __init__(self, inbox: bytes, folders: dict[Place, bytes]) -> None:
        self._inbox = inbox
        self._folders = folders
        self._dirty: set[bytes] = set()

    def file(self, demand: Demand) -> Filed:
        """Does what the row says, or finds that it was done before. Raises SystemFault."""
        try:
            if demand.place is Place.DELETED:
                return self._give_up(demand)
            return self._move(demand)
        except OSError as exc:
            if exc.errno in (errno.EACCES, errno.EPERM):
                return Filed(Result.REFUSED, f"{exc.strerror}")
            raise _fault(exc) from exc

    def sync(self) -> None:
        """Makes every rename since the last call durable, once a folder. Raises SystemFault."""
        try:
            # a destination's name must be safe before the source's absence is
            for folder in sorted(self._dirty, key=lambda f: f.startswith(self._inbox)):
                durable.fsync_folder(folder)
        except OSError as exc:
            raise _fault(exc) from exc
        self._dirty.clear()

    def sync_inbox(self) -> None:
        """Makes durable what the producers wrote, before a row vouches for it."""
        try:
            durable.syncfs(self._inbox)
        except OSError as exc:
            raise _fault(exc) from exc

    # ------------------------------------------------------------------------------ one rename

    def _move(self, demand: Demand) -> Filed:
        source = os.path.join(self._inbox, demand.source)
        destination = self._destination(demand)
        self._make_folder(os.path.dirname(destination))
        try:
            durable.rename_noreplace(source, destination)
        except FileNotFoundError:
            return self._moved_before(demand, destination)
        except FileExistsError:
            return self._met_something(demand, source, destination)
        except OSError as exc:
            if exc.errno == errno.EXDEV:
                return self._move_across(demand, source, destination)
            raise
        self._dirty |= {os.path.dirname(source), os.path.dirname(destination)}
        if not self._is_the_one(destination, demand):
            self._put_back(destination, source, demand.id)
            return Filed(Result.REPLACED)
        self._write_sidecar(demand, destination)
        return Filed(Result.DONE)

    def _moved_before(self, demand: Demand, destination: bytes) -> Filed:
        """The source is gone: either an earlier attempt moved it, or a producer took it away."""
        if self._is_the_one(destination, demand):
            self._dirty |= {
                os.path.dirname(os.path.join(self._inbox, demand.source)),
                os.path.dirname(destination),
            }
            self._write_sidecar(demand, destination)
            return Filed(Result.DONE)
        if self._exists(self._gone_name(demand)):
            # a copy's source that was being given up when the station died
            return self._give_up(demand)
        return Filed(Result.GONE)

    def _met_something(self, demand: Demand, source: bytes, destination: bytes) -> Filed:
        """Both names exist. Our own leftovers are cleared; anything else keeps its name."""
        status = os.lstat(destination)
        if durable.is_reservation(status) and demand.fingerprint.size_bytes:
            os.unlink(destination)
            return self._move(demand)
        if self._is_the_one(destination, demand) and self._is_the_one(source, demand):
            # a hard link, or a copy made by hand: the destination has what the row promises
            return self._finish_copy(demand, destination)
        return Filed(Result.TAKEN)

    # --------------------------------------------------------------------- across file systems

    def _move_across(self, demand: Demand, source: bytes, destination: bytes) -> Filed:
        if self._exists(destination):
            if self._has_hash(destination, demand):
                return self._finish_copy(demand, destination)
            return Filed(Result.TAKEN)
        partial = os.path.join(
            os.path.dirname(destination), inbox_module.OWN_PREFIX + b"%d.part" % demand.id
        )
        with contextlib.suppress(FileNotFoundError):
            os.unlink(partial)  # in a folder of ours, under a name of ours
        try:
            if not self._copy(demand, partial):
                os.unlink(partial)
                return Filed(Result.REPLACED)
        except FileNotFoundError:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(partial)
            return self._moved_before(demand, destination)
        try:
            durable.rename_noreplace(partial, destination)
        except FileExistsError:
            os.unlink(partial)
            return Filed(Result.TAKEN)
        return self._finish_copy(demand, destination)

    def _copy(self, demand: Demand, partial: bytes) -> bool:
        """Copies and syncs; False where what was read is not what the row says."""
        folder = inbox_module.open_folder(self._inbox)
        try:
            reading = inbox_module.open_beneath(folder, demand.source)
        finally:
            os.close(folder)
        try:
            status = os.fstat(reading)
            writing = os.open(
                partial, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
            )
            try:
                while chunk := os.read(reading, _COPY_CHUNK_BYTES):
                    view = memoryview(chunk)
                    while view:
                        view = view[os.write(writing, view) :]
                os.utime(writing, ns=(status.st_atime_ns, status.st_mtime_ns))
                os.fchmod(writing, status.st_mode & 0o777)
                os.fsync(writing)
                if demand.sha256 is None:  # too big to have been read: size and mtime must do
                    return demand.fingerprint.same_identity(Fingerprint.of(os.fstat(writing)))
                return inbox_module.sha256_of(writing) == demand.sha256
            finally:
                os.close(writing)
        finally:
            os.close(reading)

    def _finish_copy(self, demand: Demand, destination: bytes) -> Filed:
        """The destination holds the picture: durable first, then the source is given up."""
        self._write_sidecar(demand, destination)
        durable.fsync_folder(os.path.dirname(destination))
        given_up = self._give_up(demand)
        # whatever stood under the source's name by then is back there, as an arrival of its own;
        # this row's picture is where it belongs
        return Filed(Result.DONE) if given_up.result is not Result.REFUSED else given_up

    # --------------------------------------------------------------------------- giving up

    def _give_up(self, demand: Demand) -> Filed:
        """Removes the row's file from the inbox, and only that file."""
        source = os.path.join(self._inbox, demand.source)
        gone = self._gone_name(demand)
        if not self._exists(gone):
            try:
                durable.rename_noreplace(source, gone)
            except FileNotFoundError:
                return Filed(Result.DONE if demand.place is Place.DELETED else Result.GONE)
            self._dirty.add(os.path.dirname(source))
        if not self._is_the_one(gone, demand):
            self._put_back(gone, source, demand.id)
            return Filed(Result.REPLACED)
        os.unlink(gone)
        self._dirty.add(os.path.dirname(source))
        return Filed(Result.DONE)

    def _gone_name(self, demand: Demand) -> bytes:
        folder = os.path.dirname(os.path.join(self._inbox, demand.source))
        return os.path.join(folder, inbox_module.OWN_PREFIX + b"%d.gone" % demand.id)

    def _put_back(self, where: bytes, source: bytes, id: int) -> None:
        """Gives foreign content its name back, or one beside it if that has been taken again."""
        folder, name = os.path.split(source)
        attempt = 0
        target = source
        while True:
            try:
                durable.rename_noreplace(where, target)
                break
            except FileExistsError:
                attempt += 1
                again = fit(name, b" (%d-%d)" % (id, attempt), 255)
                target = os.path.join(folder, again)
            except FileNotFoundError:
                if not self._exists(where):
                    raise
                os.makedirs(folder, exist_ok=True)  # the producer removed the folder meanwhile
        self._dirty |= {folder, os.path.dirname(where)}

    # ------------------------------------------------------------------------------- comparing

    def _is_the_one(self, path: bytes, demand: Demand) -> bool:
        """Whether the file at ``path`` is what the row inspected: by stat, else by its hash."""
        try:
            status = os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        found = Fingerprint.of(status)
        if found.same_identity(demand.fingerprint) and found.inode == demand.fingerprint.inode:
            return True
        return self._has_hash(path, demand)

    def _has_hash(self, path: bytes, demand: Demand) -> bool:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as exc:
            if exc.errno in (errno.ENOENT, errno.ELOOP, errno.ENXIO, errno.ENOTDIR):
                return False
            raise
        try:
            found = Fingerprint.of(os.fstat(descriptor))
            if found.size_bytes != demand.fingerprint.size_bytes:
                return False
            if demand.sha256 is None:
                return found.mtime_ns == demand.fingerprint.mtime_ns
            return inbox_module.sha256_of(descriptor) == demand.sha256
        finally:
            os.close(descriptor)

    def _exists(self, path: bytes) -> bool:
        return os.path.lexists(path)

    # --------------------------------------------------------------------------------- folders

    def _destination(self, demand: Demand) -> bytes:
        if demand.destination is None:
            raise ValueError(f"row {demand.id} has no destination")
        return os.path.join(self._folders[demand.place], demand.destination)

    def _make_folder(self, folder: bytes) -> None:
        """Makes a folder and its parents; each new name is synced in its parent later."""
        try:
            os.mkdir(folder)
        except FileExistsError:
            return
        except FileNotFoundError:
            self._make_folder(os.path.dirname(folder))
            with contextlib.suppress(FileExistsError):
                os.mkdir(folder)
        self._dirty.add(os.path.dirname(folder))

    def _write_sidecar(self, demand: Demand, destination: bytes) -> None:
        """Puts the reason beside a quarantined picture; rewritten from the row each time."""
        if demand.place is not Place.QUARANTINED or demand.reason is None:
            return
        document = {
            "id": demand.id,
            "source": path_text(demand.source),
            "reason": demand.reason.value,
            "detail": demand.detail,
            "sha256": demand.sha256.hex() if demand.sha256 else None,
        }
        folder = os.path.dirname(destination)
        partial = os.path.join(folder, inbox_module.OWN_PREFIX + b"%d.json.part" % demand.id)
        text = json.dumps(document, ensure_ascii=False, indent=2) + "\n"
        with open(partial, "wb") as file:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
        os.rename(partial, destination + SIDECAR_SUFFIX)
        self._dirty.add(folder)


def _fault(exc: OSError) -> SystemFault:
    where = exc.filename2 or exc.filename
    name = path_text(os.fsencode(where)) if where else "the station's folders"
    if exc.errno in (errno.ENOSPC, errno.EDQUOT):
        return SystemFault("disk_full", f"{name}: {exc.strerror}", "Make room on that disk.")
    return SystemFault(
        "filing_failed",
        f"{name}: cannot be moved: {exc.strerror}",
        "Check that folder and its disk; the move is tried again by itself.",
    )
