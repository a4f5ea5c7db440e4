"""Takes files out of the station's places again: back into the inbox, or for good; knows no books.

Every step may be repeated after a crash at any point. A file is never replaced and never unlinked
under a name that somebody else could have given to another file meanwhile: what goes for good is
renamed to a name of ours first, ``.crackwatch-<id>.gone``, and compared there.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import stat
from collections.abc import Callable, Mapping

from crackwatch import inbox as inbox_module
from crackwatch import syncing
from crackwatch.domain import OVERLAY_SUFFIX, Departure, DepartureResult, Place
from crackwatch.errors import SystemFault
from crackwatch.escaping import path_text
from crackwatch.filing import contents, copies, durable, sidecars
from crackwatch.filing.contents import COARSEST_MTIME_NS, NOT_THERE
from crackwatch.filing.names import NAME_MAX_BYTES, fit


class Leaver:
    """Carries out departures from the places in ``folders``, each an absolute folder.

    ``folders`` has the inbox under KEPT. ``check`` raises SystemFault unless that inbox is the
    station's own and mounted, ``standing`` unless the folder of that place is. Every method raises
    SystemFault for a fault of the station.
    """

    def __init__(
        self,
        folders: Mapping[Place, bytes],
        check: Callable[[], None],
        standing: Callable[[Place], None] = lambda _: None,
    ) -> None:
        self._folders = dict(folders)
        self._inbox = self._folders[Place.KEPT]
        self._check = check
        self._standing = standing
        self._dirty: set[bytes] = set()

    def path(self, each: Departure) -> bytes:
        """Where the file stands, absolute."""
        return os.path.join(self._folders[each.place], each.name)

    def target(self, each: Departure) -> bytes:
        """Where in the inbox it is to go, absolute."""
        if each.target is None:
            raise ValueError(f"departure {each.id} leads nowhere")
        return os.path.join(self._inbox, each.target)

    def free_target(self, wanted: bytes, id: int, taken: Callable[[bytes], bool]) -> bytes:
        """A name in the inbox that nothing has: ``wanted`` itself, else with `` (id)`` in it.

        Relative to the inbox. Where a file stands in the place of one of its folders, the folders
        are left out.
        """
        folder, name = os.path.split(wanted)
        if folder and not self._can_be_folder(folder):
            folder = b""
        for attempt in itertools.count():
            extra = {0: b"", 1: b" (%d)" % id}.get(attempt, b" (%d-%d)" % (id, attempt))
            found = os.path.join(folder, fit(name, extra, NAME_MAX_BYTES))
            if not taken(found) and not os.path.lexists(os.path.join(self._inbox, found)):
                return found
        raise AssertionError("a name is free at some time")

    # ------------------------------------------------------------------------ back to the inbox

    def give_back(self, each: Departure) -> tuple[DepartureResult, str]:
        """Renames the file into the inbox; on another file system: copies, syncs, compares first.

        DONE also where that was done before. GONE: it is at neither end; whether it has been taken
        in since, the books know.
        """
        return self._refusing(each, lambda: self._give_back(each))

    def _give_back(self, each: Departure) -> DepartureResult:
        source, target = self.path(each), self.target(each)
        self._check()
        self._standing(each.place)
        if not os.path.lexists(source):
            if not self._is_copy(target, each):
                return DepartureResult.GONE
            self._touched(source, target)
            return DepartureResult.DONE
        if not self._matches(source, each):
            return DepartureResult.CHANGED
        if self.crosses(each) and self._is_copy(target, each):
            self._touched(target)  # copied by a process that died before it gave the source up
            return DepartureResult.DONE
        try:
            self._make_folder(os.path.dirname(target))
            durable.rename_noreplace(source, target)
        except (FileExistsError, NotADirectoryError):
            return DepartureResult.TAKEN
        except OSError as exc:
            if exc.errno == errno.EXDEV:
                return self._copy_back(each, source, target)
            raise
        self._touched(source, target)
        return DepartureResult.DONE

    def is_what_departs(self, each: Departure) -> bool:
        """Whether the recorded bytes stand in their place; changes nothing. Raises SystemFault."""
        try:
            return self._matches(self.path(each), each)
        except OSError as exc:
            raise _fault(exc, self._folders[each.place]) from exc

    def crosses(self, each: Departure) -> bool:
        """Whether the file still stands in its place and the inbox is another file system."""
        try:
            return os.lstat(self.path(each)).st_dev != os.stat(self._inbox).st_dev
        except OSError as exc:
            if exc.errno in NOT_THERE:
                return False
            raise _fault(exc, self._inbox) from exc

    def clear_after_return(self, each: Departure) -> None:
        """Once the inbox's names are durable: gives up what was copied, and the reason beside it."""
        source = self.path(each)
        try:
            if self.crosses(each) and self._matches(source, each):
                # in a folder of ours; its copy in the inbox has been synced and compared
                os.unlink(source)
            self._clear_beside(each)
        except OSError as exc:
            raise _fault(exc, self._folders[each.place]) from exc
        self._touched(source)

    def _copy_back(self, each: Departure, source: bytes, target: bytes) -> DepartureResult:
        partial = os.path.join(
            os.path.dirname(target), inbox_module.OWN_PREFIX + b"%d.back.part" % each.id
        )
        with contextlib.suppress(FileNotFoundError):
            os.unlink(partial)  # a name of ours, left by a process that died
        try:
            if not self._copied(each, source, partial):
                return DepartureResult.CHANGED
            durable.rename_noreplace(partial, target)
        except FileExistsError:
            return DepartureResult.TAKEN
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(partial)
        self._touched(target)
        return DepartureResult.DONE

    def _copied(self, each: Departure, source: bytes, partial: bytes) -> bool:
        reading = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            size = os.fstat(reading).st_size
            with contents.copied(reading, partial) as copy:
                if os.fstat(copy).st_size != size:
                    return False
                return inbox_module.sha256_of(copy) == (
                    each.sha256 or inbox_module.sha256_of(reading)
                )
        finally:
            os.close(reading)

    # -------------------------------------------------------------------------------- for good

    def set_aside(self, each: Departure) -> tuple[DepartureResult, str]:
        """Renames the file to ``.crackwatch-<id>.gone`` beside it and compares it there.

        DONE: it is the row's, and is there now. CHANGED: it has its name back.
        """
        return self._refusing(each, lambda: self._set_aside(each))

    def _set_aside(self, each: Departure) -> DepartureResult:
        path, gone = self.path(each), self._gone(each)
        if each.place is Place.KEPT:
            self._check()
        self._standing(each.place)
        if not os.path.lexists(gone):
            if not self._has_size(path, each):
                there = os.path.lexists(path)
                return DepartureResult.CHANGED if there else DepartureResult.GONE
            try:
                durable.rename_noreplace(path, gone)
            except OSError as exc:
                if exc.errno in NOT_THERE:
                    return DepartureResult.GONE
                raise
            self._touched(path)
        if self._matches(gone, each):
            return DepartureResult.DONE
        self.put_back(each)
        return DepartureResult.CHANGED

    def put_back(self, each: Departure) -> None:
        """Gives what was set aside its name back, or one beside it if that has been taken."""
        path, gone = self.path(each), self._gone(each)
        folder, name = os.path.split(path)
        for attempt in itertools.count():
            extra = b" (%d-%d)" % (each.inspection_id or 0, attempt) if attempt else b""
            try:
                durable.rename_noreplace(
                    gone, os.path.join(folder, fit(name, extra, NAME_MAX_BYTES))
                )
            except FileExistsError:
                continue
            except FileNotFoundError:
                return
            self._touched(path)
            return

    def remove(self, each: Departure) -> None:
        """Unlinks what was set aside and what stood beside it. Its row has to say so already."""
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._gone(each))
            self._touched(self.path(each))
            self._clear_beside(each)
        except OSError as exc:
            raise _fault(exc, self._folders[each.place]) from exc

    def _gone(self, each: Departure) -> bytes:
        if each.inspection_id is None:
            raise ValueError(f"departure {each.id}: no row names this file")
        folder = os.path.dirname(self.path(each))
        return os.path.join(folder, inbox_module.OWN_PREFIX + b"%d.gone" % each.inspection_id)

    # ------------------------------------------------------------------------------------ both

    def sync(self) -> None:
        """Makes every rename since the last call durable: new names in the inbox first."""
        try:
            for folder in sorted(self._dirty, key=lambda each: not self._is_in_inbox(each)):
                syncing.fsync_folder(folder)
        except OSError as exc:
            raise _fault(exc, self._inbox) from exc
        self._dirty.clear()

    def _clear_beside(self, each: Departure) -> None:
        """Removes what crackwatch itself put beside the picture, and nothing of anybody else."""
        path = self.path(each)
        sidecar = sidecars.beside(path)
        if each.place is Place.QUARANTINED and self._is_our_sidecar(sidecar, each):
            os.unlink(sidecar)
        if each.place is Place.FLAGGED and each.tiled:
            copy = path + OVERLAY_SUFFIX
            if each.inspection_id is not None and copies.is_ours(copy, each.inspection_id):
                os.unlink(copy)

    def _is_our_sidecar(self, sidecar: bytes, each: Departure) -> bool:
        document = sidecars.read(sidecar)
        return (
            document is not None
            and each.inspection_id is not None
            and document.get("id") == each.inspection_id
            and list(document) == sidecars.KEYS
        )

    def _refusing(
        self, each: Departure, work: Callable[[], DepartureResult]
    ) -> tuple[DepartureResult, str]:
        """What the kernel will not have of this file is its trouble, not the station's."""
        try:
            return work(), ""
        except OSError as exc:
            if exc.errno in inbox_module.SYSTEM_ERRNOS:
                raise _fault(exc, self._folders[each.place]) from exc
            return DepartureResult.REFUSED, exc.strerror or str(exc)

    def _has_size(self, path: bytes, each: Departure) -> bool:
        """Whether a regular file of the right size, and for a kept one time, stands there."""
        try:
            status = os.lstat(path)
        except OSError as exc:
            if exc.errno in NOT_THERE:
                return False
            raise
        if not stat.S_ISREG(status.st_mode) or status.st_size != each.size_bytes:
            return False
        # in the inbox the same bytes sent again are an arrival of their own
        return each.place is not Place.KEPT or status.st_mtime_ns == each.mtime_ns

    def _matches(self, path: bytes, each: Departure) -> bool:
        """Whether the file at ``path`` has the bytes that were recorded."""
        if not self._has_size(path, each):
            return False
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            status = os.fstat(descriptor)
            if each.sha256 is None:  # too big to have been read: what stat says must do
                return abs(status.st_mtime_ns - each.mtime_ns) < COARSEST_MTIME_NS
            return inbox_module.sha256_of(descriptor) == each.sha256
        finally:
            os.close(descriptor)

    def _is_copy(self, target: bytes, each: Departure) -> bool:
        """Whether the departing file, or a copy with its times, stands in the inbox."""
        try:
            status = os.lstat(target)
        except OSError as exc:
            if exc.errno in NOT_THERE:
                return False
            raise
        return (
            stat.S_ISREG(status.st_mode)
            and abs(status.st_mtime_ns - each.mtime_ns) < COARSEST_MTIME_NS
            and self._matches(target, each)
        )

    def _can_be_folder(self, folder: bytes) -> bool:
        at = self._inbox
        for part in folder.split(b"/"):
            at = os.path.join(at, part)
            if os.path.lexists(at) and (os.path.islink(at) or not os.path.isdir(at)):
                return False
        return True

    def _make_folder(self, folder: bytes) -> None:
        """Makes a folder below the inbox, never the inbox itself."""
        if folder == self._inbox or os.path.isdir(folder):
            return
        self._make_folder(os.path.dirname(folder))
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder)
        if not os.path.isdir(folder):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), folder)
        self._touched(folder)

    def _touched(self, *paths: bytes) -> None:
        self._dirty |= {os.path.dirname(path) for path in paths}

    def _is_in_inbox(self, folder: bytes) -> bool:
        return folder == self._inbox or folder.startswith(os.path.join(self._inbox, b""))


def _fault(exc: OSError, otherwise: bytes) -> SystemFault:
    """``otherwise``: the folder to name where the error names none, as for a failed write."""
    name = path_text(os.fsencode(exc.filename2 or exc.filename or otherwise))
    if exc.errno in (errno.ENOSPC, errno.EDQUOT):
        return SystemFault("disk_full", f"{name}: {exc.strerror}", "Make room on that disk.")
    return SystemFault(
        "filing_failed",
        f"{name}: cannot be moved: {exc.strerror}",
        "Check that folder and its disk, then do the same again: what was begun is finished.",
    )
