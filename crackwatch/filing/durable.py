"""The system calls that filing needs and the standard library lacks; decides nothing.

``renameat2`` with RENAME_NOREPLACE is the one move that can neither overwrite nor leave two names;
``syncfs`` makes a whole batch's pictures durable at once: for 64 freshly written pictures it took
1.7 ms where ``fdatasync`` on each took 10 (docs/architecture.md).
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat

_AT_FDCWD = -100
_RENAME_NOREPLACE = 1
_RESERVED_MODE = 0o600

_libc = ctypes.CDLL(None, use_errno=True)
_libc.renameat2.argtypes = (
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.c_uint,
)
_libc.syncfs.argtypes = (ctypes.c_int,)


def rename_noreplace(source: bytes, destination: bytes) -> None:
    """Renames, or raises FileExistsError and leaves both names as they are.

    Where the file system cannot do that in one step (some network and FUSE ones), the destination
    is first reserved with an empty file of our own, which the rename then replaces; a crash between
    the two leaves the empty file, which ``is_reservation`` recognises. Raises OSError.
    """
    if _libc.renameat2(_AT_FDCWD, source, _AT_FDCWD, destination, _RENAME_NOREPLACE) == 0:
        return
    code = ctypes.get_errno()
    if code not in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
        raise OSError(code, os.strerror(code), source, None, destination)
    os.lstat(source)  # ENOENT now rather than a reservation for nothing
    os.close(os.open(destination, os.O_CREAT | os.O_EXCL | os.O_WRONLY, _RESERVED_MODE))
    try:
        os.rename(source, destination)
    except OSError:
        os.unlink(destination)
        raise


def is_reservation(status: os.stat_result) -> bool:
    """Whether a file can be what an interrupted ``rename_noreplace`` left behind."""
    return status.st_size == 0 and status.st_mode == stat.S_IFREG | _RESERVED_MODE


def syncfs(folder: bytes) -> None:
    """Makes durable everything written to the file system of ``folder``. Raises OSError."""
    descriptor = os.open(folder, os.O_DIRECTORY)
    try:
        if _libc.syncfs(descriptor) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), folder)
    finally:
        os.close(descriptor)
