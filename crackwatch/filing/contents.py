"""The bytes of a picture that goes to another file system; decides nothing and knows no row."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from typing import Final

COARSEST_MTIME_NS: Final = 2_000_000_000  # FAT keeps every other second

# The name leads nowhere any more: something else has taken its place or that of a folder above it.
NOT_THERE: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})

_CHUNK_BYTES = 1 << 20


@contextlib.contextmanager
def copied(reading: int, partial: bytes) -> Iterator[int]:
    """Makes ``partial``, a name that nothing has, a copy of the open file with its times and rights.

    Gives the copy, open for reading and on the disk for good, until the block ends: whoever reads it
    again proves what the disk has. Raises OSError, and then leaves ``partial`` as far as it came.
    """
    before = os.fstat(reading)
    writing = os.open(partial, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
    try:
        while chunk := os.read(reading, _CHUNK_BYTES):
            view = memoryview(chunk)
            while view:
                view = view[os.write(writing, view) :]
        os.utime(writing, ns=(before.st_atime_ns, before.st_mtime_ns))
        with contextlib.suppress(PermissionError):  # FAT knows no modes
            os.fchmod(writing, before.st_mode & 0o777)
        os.fsync(writing)
        yield writing
    finally:
        os.close(writing)
