"""A second file system, where the machine has one, and a user whom rights bind."""

from __future__ import annotations

import os
import shutil
import subprocess
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


def bound_by_rights(command: list[str]) -> list[str]:
    """``command`` as rights bind it, whoever runs the tests: for root, without what root may do.

    Skips the test where root cannot give that up.
    """
    if os.geteuid() != 0:
        return command
    if shutil.which("setpriv") is None:
        pytest.skip("to run something as root whom rights bind needs setpriv")
    return ["setpriv", "--bounding-set=-all", "--inh-caps=-all", *command]


@contextmanager
def out_of_reach(folder: Path) -> Iterator[None]:
    """``folder``, and all below it, as whoever is bound by rights finds it: not to be looked into."""
    before = folder.stat()
    if os.geteuid() == 0:
        os.chown(folder, _NOBODY, _NOBODY)
    folder.chmod(0o700 if os.geteuid() == 0 else 0)
    try:
        yield
    finally:
        folder.chmod(before.st_mode & 0o777)
        if os.geteuid() == 0:
            os.chown(folder, before.st_uid, before.st_gid)


@contextmanager
def mounted(*what: str | Path, skip: str) -> Iterator[None]:
    """``mount`` with these arguments, the last of which is where; undone at the end.

    Skips the test, saying ``skip``, where this user may not mount.
    """
    done = subprocess.run(
        ["mount", *map(str, what)], capture_output=True, text=True, timeout=30, check=False
    )
    if done.returncode:
        pytest.skip(f"{skip}: {done.stderr.strip()}")
    try:
        yield
    finally:
        unmount(Path(what[-1]))


def unmount(where: Path) -> None:
    """Takes the upmost mount at ``where`` away, whoever uses it still; none there is no matter."""
    subprocess.run(["umount", "--lazy", str(where)], capture_output=True, timeout=30, check=False)


@contextmanager
def small_disk(where: Path, size_bytes: int) -> Iterator[None]:
    """A file system of its own and of that size, in memory, on the folder ``where``."""
    with mounted(
        *("-t", "tmpfs", "-o", f"size={size_bytes}", "crackwatch-test", where),
        skip="a small disk needs the right to mount",
    ):
        yield


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """``folder`` as the kernel leaves it after an error on its disk: there, and not to be written."""
    with mounted(*("--bind", folder, folder), skip="a disk turns read-only only for who may mount"):
        remount = ["mount", "-o", "remount,bind,ro", str(folder)]
        subprocess.run(remount, capture_output=True, timeout=30, check=True)
        yield
