"""What stands under a name on a disk, for whoever holds it against the books; reads only.

Says clearly what this user may not look at: what an audit cannot see it cannot prove.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator

from crackwatch import inbox as inbox_module
from crackwatch.errors import UsageError
from crackwatch.escaping import path_text

_FORBIDDEN = (errno.EACCES, errno.EPERM)


def lstat(path: bytes) -> os.stat_result | None:
    """None if there is nothing. Raises UsageError where this user may not look."""
    try:
        return os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as exc:
        raise _unseen(path, exc) from exc


def names_below(folder: bytes, *, passing_over: bool = False) -> Iterator[bytes]:
    """Every name below a folder that is not a folder itself, relative to it, folder by folder.

    ``passing_over`` what this user may not list; else that raises UsageError.
    """
    waiting = [b""]
    while waiting:
        below = waiting.pop()
        try:
            with os.scandir(os.path.join(folder, below) if below else folder) as entries:
                for entry in entries:
                    name = os.path.join(below, entry.name)
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(name)
                    else:
                        yield name
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as exc:
            if not (passing_over and exc.errno in _FORBIDDEN):
                raise _unseen(os.path.join(folder, below), exc) from exc


def hash_of(path: bytes) -> bytes | str | None:
    """The SHA-256 of a file's content; None if it is gone, a text if it cannot be read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return "it is no regular file any more"
            return inbox_module.sha256_of(descriptor)
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        return None
    except PermissionError as exc:
        raise _unseen(path, exc) from exc
    except OSError as exc:
        return exc.strerror or str(exc)


def refused(status: os.stat_result) -> str | None:
    """What stands in a file's place, if it is no regular file."""
    if stat.S_ISREG(status.st_mode):
        return None
    if stat.S_ISDIR(status.st_mode):
        return "a folder"
    return inbox_module.kind_refused(status.st_mode) or "no regular file"


def device_of(folder: bytes) -> int | None:
    """The file system's number; None if there is no such folder. Raises UsageError."""
    status = lstat(os.path.realpath(folder))
    return None if status is None else status.st_dev


def _unseen(path: bytes, exc: OSError) -> UsageError:
    problem = f"{path_text(path)}: cannot be looked at: {exc.strerror}"
    if exc.errno in _FORBIDDEN:
        return UsageError(
            problem,
            "Run the audit as the user that the station runs as; what it cannot see it cannot "
            "prove.",
        )
    return UsageError(problem, "Look at that disk (dmesg, smartctl), then audit again.")
