"""A second file system, where the machine has one, and a user whom rights bind."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_MEMORY = Path("/dev/shm")
_NOBODY = 65534


@contextmanager
def another_file_system(than: Path) -> Iterator[Path]:
    """An empty folder on another file system; skips the test where there is none."""
    if not os.access(_MEMORY, os.W_OK | os.X_OK):
        pytest.skip(f"{_MEMORY} cannot be written to: there is no second file system to use")
    if _MEMORY.stat().st_dev == than.stat().st_dev:
        pytest.skip(f"{_MEMORY} and {than} are one file system")
    with tempfile.TemporaryDirectory(dir=_MEMORY, prefix="crackwatch-test-") as folder:
        yield Path(folder)


@contextmanager
def as_an_ordinary_user() -> Iterator[Path]:
    """A folder of a user whom rights bind, and that user's rights while the block runs."""
    with tempfile.TemporaryDirectory(prefix="crackwatch-test-") as folder:
        if os.geteuid() != 0:
            yield Path(folder)
            return
        os.chown(folder, _NOBODY, _NOBODY)
        os.seteuid(_NOBODY)
        try:
            yield Path(folder)
        finally:
            os.seteuid(0)
