"""How a marked copy says that it is crackwatch's own, so that nobody else's file is taken for one.

The copy is a JPEG, and says so in a comment right behind its first marker: whose it is, whatever it
is called. Knows bytes and names; draws nothing.
"""

from __future__ import annotations

import os
import stat

_START, _COMMENT = b"\xff\xd8", b"\xff\xfe"


def signed(jpeg: bytes, id: int) -> bytes:
    """A JPEG file with the comment that it is the marked copy of this inspection's picture."""
    return _head(id) + jpeg.removeprefix(_START)


def is_ours(path: bytes, id: int) -> bool:
    """Whether the file at ``path`` is the marked copy of this inspection. Raises OSError for a fault
    of the disk.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, PermissionError):
        return False
    except OSError:
        if os.path.islink(path):
            return False
        raise
    try:
        head = _head(id)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return False
        return os.read(descriptor, len(head)) == head
    finally:
        os.close(descriptor)


def _head(id: int) -> bytes:
    words = b"crackwatch: marked copy of inspection %d" % id
    return _START + _COMMENT + (len(words) + 2).to_bytes(2, "big") + words
