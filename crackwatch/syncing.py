"""Makes a file's content, or a folder's names, outlast a power cut; moves and writes nothing.

Below all that writes for good: the models folder, the database's copies, the moves of pictures. What
syncs a whole file system at once is ``filing.durable``'s.
"""

from __future__ import annotations

import os


def fsync_path(path: str | bytes | os.PathLike[str]) -> None:
    """Makes durable what a file, or a folder's list of names, holds. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fsync_folder(folder: bytes) -> None:
    """Makes durable the names in ``folder``; a folder that is gone has none. Raises OSError."""
    try:
        descriptor = os.open(folder, os.O_DIRECTORY)
    except (FileNotFoundError, NotADirectoryError):
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
