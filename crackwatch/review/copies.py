"""The folder dataset/reviewed: one copy of each reviewed picture, under the label that counts.

The rows of the books are the truth, and a copy follows them. It is made in three steps, so that a
crash between any two can be mended: the picture is written under a hidden name and synced, then the
row is committed, then the picture gets its name. Nothing is overwritten, and nothing is unlinked
but what has just been read and holds the very bytes of the picture.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from crackwatch.dataset import read_file
from crackwatch.domain import Label
from crackwatch.errors import DatasetError, LockedError
from crackwatch.escaping import path_text
from crackwatch.filing.durable import rename_noreplace
from crackwatch.filing.names import NAME_MAX_BYTES, fit
from crackwatch.store.reviews import Review
from crackwatch.syncing import fsync_folder

REVIEWED = "reviewed"  # in the station's dataset; retrain looks there
STAGED = b".staged"
_LOCK = b".lock"
_LOCK_PATIENCE_S = 30.0
_SHORT = 12  # hex digits of the hash that make a name unlike any other


class Copies:
    """The copies below one folder; every method but ``there`` is to be called within ``locked``."""

    def __init__(self, folder: Path) -> None:
        self._folder = os.fsencode(folder)

    def path(self, picture: bytes) -> bytes:
        """The absolute path of a copy whose name is relative to the folder."""
        return os.path.join(self._folder, picture)

    def there(self, picture: bytes) -> bool:
        """Whether something stands under a copy's name; nothing is read.

        A photograph as a whole has no copy and no name, and misses none.
        """
        return not picture or os.path.lexists(self.path(picture))

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """One process at a time changes the folder; the kernel gives it back after a crash.

        Raises LockedError after half a minute, DatasetError where the folder cannot be written.
        """
        with _explained(self._folder, "cannot be written"):
            for name in (STAGED, *(label.encode() for label in Label)):
                _make_folder(os.path.join(self._folder, name))
            descriptor = self._open_lock()
        try:
            self._wait_for(descriptor)
            yield
        finally:
            os.close(descriptor)

    def _open_lock(self) -> int:
        file, flags = self.path(_LOCK), os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            descriptor = os.open(file, flags | os.O_CREAT | os.O_EXCL, 0o664)
        except FileExistsError:
            return os.open(file, flags)
        _hand_over(descriptor, self._folder)
        return descriptor

    def _wait_for(self, descriptor: int) -> None:
        deadline_s = time.monotonic() + _LOCK_PATIENCE_S
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as exc:
                if time.monotonic() < deadline_s:
                    time.sleep(0.02)
                    continue
                raise LockedError(
                    f"{path_text(self._folder)}: another review is being written since "
                    f"{_LOCK_PATIENCE_S:.0f} s",
                    "Wait for it to end, then try again.",
                ) from exc
            return

    # ------------------------------------------------------------------------------ the steps

    def name_for(
        self, label: Label, name: bytes, sha256: bytes, earlier: Sequence[Review]
    ) -> bytes:
        """Which name the copy of a picture has under ``label``, relative to the folder.

        The name that it has had before, else ``<stem>-<12 hex digits of its hash><suffix>``.
        Raises DatasetError where other files have taken every name.
        """
        names = [each.picture for each in earlier if each.picture]
        if names:
            return os.path.join(label.encode(), os.path.basename(names[-1]))
        visible = name.lstrip(b".") or b"picture"  # hidden names are not read by retrain
        for digits in (_SHORT, len(sha256) * 2):
            mark = b"-" + sha256.hex()[:digits].encode()
            # a copy that is marked itself, its row being lost, keeps its name
            has_it = os.path.splitext(visible)[0].endswith(mark)
            candidate = visible if has_it else fit(visible, mark, NAME_MAX_BYTES)
            places = [self.path(os.path.join(each.encode(), candidate)) for each in Label]
            with _explained(self._folder, "a file in the copy's place cannot be read"):
                if all(not os.path.lexists(each) or _holds(each, sha256) for each in places):
                    return os.path.join(label.encode(), candidate)
        raise DatasetError(
            f"{path_text(self._folder)}: both names for {path_text(name)} are taken by other files",
            "Move those files out of the folder and mark the picture again.",
        )

    def stage(self, content: bytes, sha256: bytes) -> None:
        """Writes the picture under its hidden name, durably. Raises DatasetError."""
        partial = self._staged(sha256) + b".part"
        with _explained(self._folder, "the picture cannot be copied there"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(partial)  # what a crash has left
            with open(partial, "xb") as file:
                file.write(content)
                file.flush()
                os.fchmod(file.fileno(), 0o644)
                _hand_over(file.fileno(), os.path.dirname(partial))
                os.fsync(file.fileno())
            os.replace(partial, self._staged(sha256))
            fsync_folder(os.path.join(self._folder, STAGED))

    def settle(self, history: Sequence[Review]) -> bool:
        """Brings the copy of one picture to where its latest label says; whether it is there then.

        ``history`` are the labels of these bytes, the one that counts last. Does nothing that is
        done already. Raises DatasetError.
        """
        latest = history[-1]
        if not latest.picture:  # a photograph as a whole
            return True
        wanted = self.path(latest.picture)
        staged = self._staged(latest.sha256)
        names = {os.path.basename(each.picture) for each in history if each.picture}
        elsewhere = {
            self.path(os.path.join(label.encode(), name)) for label in Label for name in names
        } - {wanted}
        with _explained(wanted, "cannot be given its copy"):
            if not os.path.lexists(wanted):
                for source in (staged, *sorted(elsewhere)):
                    if _holds(source, latest.sha256):
                        rename_noreplace(source, wanted)
                        fsync_folder(os.path.dirname(wanted))
                        break
                else:
                    return False
            leftovers = [each for each in (staged, *elsewhere) if os.path.lexists(each)]
            if leftovers and not _holds(wanted, latest.sha256):
                raise DatasetError(
                    f"{path_text(wanted)}: has other content than the picture that was reviewed",
                    "Move that file out of the folder, then run 'crackwatch review list'.",
                )
            for each in leftovers:
                if each == staged or _holds(each, latest.sha256):
                    os.unlink(each)
                    fsync_folder(os.path.dirname(each))
        return True

    def discard_staged(self, recorded: set[bytes]) -> None:
        """Removes what crashed before its row was committed; ``recorded`` hashes have one."""
        folder = os.path.join(self._folder, STAGED)
        with _explained(folder, "cannot be tidied"):
            for name in os.listdir(folder):
                digest = name.removesuffix(b".part")
                if name.endswith(b".part") or _unhex(digest) not in recorded:
                    os.unlink(os.path.join(folder, name))

    def _staged(self, sha256: bytes) -> bytes:
        return os.path.join(self._folder, STAGED, sha256.hex().encode())


def _make_folder(path: bytes) -> None:
    """Makes a folder and those above it that are missing. Raises OSError."""
    try:
        os.mkdir(path)
    except FileExistsError:
        return
    except FileNotFoundError:
        _make_folder(os.path.dirname(path))
        _make_folder(path)
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        _hand_over(descriptor, os.path.dirname(path))
    finally:
        os.close(descriptor)


def _hand_over(descriptor: int, folder: bytes) -> None:
    """What root made belongs to whom its folder belongs: the station's own user must go on there."""
    if os.geteuid() != 0:
        return
    above = os.stat(folder)
    with contextlib.suppress(PermissionError):  # a server that does not believe in root
        os.fchown(descriptor, above.st_uid, above.st_gid)


def _unhex(name: bytes) -> bytes | None:
    try:
        return bytes.fromhex(name.decode("ascii"))
    except ValueError:
        return None


def _holds(path: bytes, sha256: bytes) -> bool:
    """Whether a regular file has these very bytes; a link that leads to one has not."""
    if os.path.islink(path):
        return False
    try:
        return hashlib.sha256(read_file(path)).digest() == sha256
    except (FileNotFoundError, ValueError):
        return False


@contextlib.contextmanager
def _explained(path: bytes, what: str) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise DatasetError(
            f"{path_text(path)}: {what}: {exc.strerror}",
            "Check free space and permissions; run it as the user that the station runs as.",
        ) from exc
