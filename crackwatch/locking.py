"""One process at a time on a folder, and who that is; knows nothing of what the folder is for.

A POSIX record lock: the kernel drops it when its process dies, however it dies, and tells a third
party its holder's pid without taking anything, so that ``status`` can never get in a daemon's way.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from pathlib import Path

from crackwatch.errors import LockedError, UsageError

_FLOCK = "hhqqi"  # struct flock: type, whence, start, length, pid


@contextlib.contextmanager
def held(file: Path, what: str) -> Iterator[None]:
    """Holds the lock on ``file`` while the block runs.

    Raises LockedError, with the holder's pid, if another process has it; UsageError if this user
    may not lock there. The file must not be opened a second time by the holder: closing any
    descriptor of it would drop the lock.
    """
    try:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as exc:
        raise _unusable(file, exc) from exc
    try:
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            if exc.errno not in (errno.EACCES, errno.EAGAIN):
                raise _unusable(file, exc) from exc
            pid = _holder(descriptor)
            who = f"process {pid}" if pid else "another process"
            raise LockedError(
                f"{what} is in use by {who} (lock {file})",
                f"Stop it first (kill -TERM {pid}), or use it as it is."
                if pid
                else "Stop it first.",
            ) from exc
        yield
    finally:
        os.close(descriptor)


def holder(file: Path) -> int | None:
    """The pid of the process that holds the lock on ``file``, or None; takes nothing.

    0 where the process cannot be named: it is in another container. Raises UsageError if this user
    may not look. Never to be called by the holder itself: its own lock would be dropped.
    """
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as exc:
        raise _unusable(file, exc) from exc
    try:
        return _holder(descriptor)
    finally:
        os.close(descriptor)


def _holder(descriptor: int) -> int | None:
    asked = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    answer = fcntl.fcntl(descriptor, fcntl.F_GETLK, asked)
    kind, _, _, _, pid = struct.unpack(_FLOCK, answer)
    return None if kind == fcntl.F_UNLCK else int(pid)


def _unusable(file: Path, exc: OSError) -> UsageError:
    return UsageError(
        f"{file}: the lock cannot be used: {exc.strerror}",
        "Do it as the user whose station this is; check the folder's rights and its disk.",
    )
