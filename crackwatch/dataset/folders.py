"""Labelled folders as they lie on disk: layouts, listing, reading, refusals; knows no pixels.

A labelled folder holds ``anomaly/`` and ``normal/``, or ``train/`` with these two inside.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crackwatch.domain import Label
from crackwatch.errors import DatasetError, Unreadable
from crackwatch.escaping import path_text

MINIMUM_PER_CLASS = 50  # fewer cannot be split into something to learn and something to check
MAX_FILE_BYTES = 64 * 1024 * 1024  # a labelled picture is read whole


Decode = Callable[
    [bytes], NDArray[np.uint8]
]  # file bytes to uint8 (227, 227, 3) BGR, or Unreadable
Progress = Callable[[int, int], None]  # done, total


def no_progress(done: int, total: int) -> None:
    """Tells nobody."""


@dataclass(frozen=True, slots=True)
class LabelledFile:
    """A file and the class whose folder it lies in."""

    path: bytes
    label: Label


@dataclass(frozen=True, slots=True)
class Problem:
    """A file that could not be used, and why; ``path_text`` has been applied to the path."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the two classes of a labelled folder lie."""

    anomaly: Path
    normal: Path

    def of(self, label: Label) -> Path:
        return self.anomaly if label is Label.ANOMALY else self.normal


def find_layout(folder: Path) -> Layout:
    """``train/anomaly`` and ``train/normal`` under ``folder``, else ``anomaly`` and ``normal``.

    One of the two may be missing. Reads names only. Raises DatasetError if neither pair is there.
    """
    for base in (folder / "train", folder):
        layout = Layout(base / Label.ANOMALY, base / Label.NORMAL)
        if layout.anomaly.is_dir() or layout.normal.is_dir():
            return layout
    if not folder.is_dir():
        found = "is not a folder" if folder.exists() else "does not exist"
    else:
        names = sorted(path_text(name) for name in os.listdir(os.fsencode(folder)))
        found = f"holds {', '.join(names[:6])}{', ...' if len(names) > 6 else ''}" if names else ""
        found = found or "is empty"
    raise DatasetError(
        f"{folder}: no labelled pictures: it {found}",
        "Put pictures with a crack into its folder anomaly/ and those without into normal/ "
        "(or into train/anomaly/ and train/normal/).",
    )


def list_files(layout: Layout) -> list[LabelledFile]:
    """Every file under the two folders, hidden ones left out, in order of label and path.

    Reads names only. Raises DatasetError where a folder cannot be listed.
    """
    return [
        LabelledFile(path, label)
        for label in (Label.ANOMALY, Label.NORMAL)
        for path in sorted(_walk(os.fsencode(layout.of(label))))
    ]


def _walk(folder: bytes) -> Iterator[bytes]:
    try:
        entries = list(os.scandir(folder))
    except FileNotFoundError:
        return
    except OSError as exc:
        raise DatasetError(
            f"{path_text(folder)}: cannot be listed: {exc.strerror}", "Check its permissions."
        ) from exc
    for entry in entries:
        if entry.name.startswith(b"."):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(entry.path)
        else:
            yield entry.path


def read_file(path: bytes) -> bytes:
    """The bytes of a regular file; a FIFO is refused rather than waited for.

    Raises OSError, or ValueError where the file is not one to read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("not a regular file")
        if status.st_size > MAX_FILE_BYTES:
            raise ValueError(f"{status.st_size} bytes; at most {MAX_FILE_BYTES} are read")
        return file.read()


def read_and_decode(path: bytes, decode: Decode) -> tuple[bytes, NDArray[np.uint8]] | Problem:
    """A file's bytes and its picture, uint8 (227, 227, 3) BGR; or why it cannot be used."""
    try:
        content = read_file(path)
        return content, decode(content)
    except OSError as exc:
        return Problem(path_text(path), f"cannot be read: {exc.strerror}")
    except (ValueError, Unreadable) as exc:
        return Problem(path_text(path), str(exc))


def too_few(place: Path, label: Label, found: str, minimum: int) -> DatasetError:
    """The refusal that names folder, what was found there, what is needed and how to get it."""
    return DatasetError(
        f"{place}: too few {label} pictures: {found}; at least {minimum} are needed",
        "Take in labelled pictures with 'crackwatch dataset import FOLDER', where FOLDER holds "
        "anomaly/ and normal/, or name another folder with --data.",
    )
