"""Decodes labelled files into a nameless file on disk, and holds what is known of each picture.

Memory does not grow with their number, and nothing is left behind however the process ends.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from crackwatch.dataset.copies import FOLDED, fold, pixel_hash, texture
from crackwatch.dataset.folders import (
    Decode,
    LabelledFile,
    Problem,
    Progress,
    no_progress,
    read_and_decode,
    too_few,
)
from crackwatch.domain import Label
from crackwatch.errors import DatasetError
from crackwatch.escaping import path_text
from crackwatch.runtime import SIDE

PICTURE_BYTES = SIDE * SIDE * 3
SPARE_BYTES = 256 * 1024 * 1024  # of disk that a cache leaves to others

_THREADS = 2
_CHUNK = 64  # files a task: one future per picture costs more than decoding it


class PixelCache:
    """Decoded pictures in a nameless file on disk; read by position, never mapped into memory."""

    def __init__(self, capacity: int, folder: Path) -> None:
        """Raises DatasetError where ``folder`` has no room for ``capacity`` pictures."""
        needed = capacity * PICTURE_BYTES
        try:
            free = shutil.disk_usage(folder).free
            if free < needed + SPARE_BYTES:
                raise DatasetError(
                    f"{folder}: {capacity} decoded pictures need {needed >> 20} MiB of disk, "
                    f"{max(0, free - SPARE_BYTES) >> 20} MiB are free",
                    "Free some space there.",
                )
            self._file: BinaryIO | io.FileIO = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 (closed by close)
        except OSError as exc:
            raise DatasetError(
                f"{folder}: cannot hold decoded pictures: {exc.strerror}", "Check the folder."
            ) from exc

    @classmethod
    def shared(cls, descriptor: int) -> PixelCache:
        """The cache of another process, which handed on its ``descriptor``."""
        cache = cls.__new__(cls)
        cache._file = open(descriptor, "r+b", buffering=0)  # noqa: SIM115 (closed by close)
        return cache

    @property
    def descriptor(self) -> int:
        """The open file, to be handed to a child process."""
        return self._file.fileno()

    def put(self, position: int, picture: NDArray[np.uint8]) -> None:
        """Stores one picture. Safe from several threads. Raises DatasetError if the disk is full."""
        content = np.ascontiguousarray(picture).data.cast("B")
        offset = position * PICTURE_BYTES
        try:
            while content:
                written = os.pwrite(self._file.fileno(), content, offset)
                content, offset = content[written:], offset + written
        except OSError as exc:
            raise DatasetError(
                f"decoded pictures cannot be written: {exc.strerror}", "Free some disk space."
            ) from exc

    def get(self, positions: Sequence[int] | NDArray[np.intp]) -> NDArray[np.uint8]:
        """Pictures as uint8 (N, 227, 227, 3) BGR, in the order asked for. Safe from threads."""
        pictures = np.empty((len(positions), SIDE, SIDE, 3), dtype=np.uint8)
        for slot, position in zip(pictures, positions, strict=True):
            size = os.preadv(self._file.fileno(), [slot.data], int(position) * PICTURE_BYTES)
            if size != PICTURE_BYTES:
                raise DatasetError(
                    "decoded pictures cannot be read back", "Check the disk for errors."
                )
        return pictures

    def close(self) -> None:
        self._file.close()


@dataclass(frozen=True, slots=True)
class Pictures:
    """Labelled pictures, decoded. Position i is the same picture in every field.

    ``labels`` is int8 (N,), 1 for an anomaly. ``problems`` are the files that were left out because
    they cannot be used; ``contradictions`` those left out because equal pixels have both labels.
    """

    cache: PixelCache
    slots: NDArray[np.intp]  # (N,) positions in the cache
    paths: tuple[bytes, ...]
    labels: NDArray[np.int8]
    sha256: tuple[bytes, ...]
    pixel_hashes: tuple[bytes, ...]
    folded: NDArray[np.float32]  # (N, 276)
    problems: tuple[Problem, ...]
    contradictions: tuple[Problem, ...]

    def __len__(self) -> int:
        return len(self.paths)

    def __enter__(self) -> Pictures:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.cache.close()

    def get(self, positions: Sequence[int] | NDArray[np.intp]) -> NDArray[np.uint8]:
        """Pixels, uint8 (N, 227, 227, 3) BGR."""
        return self.cache.get(self.slots[np.asarray(positions, dtype=np.intp)])

    def at(self, positions: NDArray[np.intp]) -> Pictures:
        """These pictures alone; the cache is shared and stays this one's to close."""
        return replace(
            self,
            slots=self.slots[positions],
            paths=tuple(self.paths[position] for position in positions),
            labels=self.labels[positions],
            sha256=tuple(self.sha256[position] for position in positions),
            pixel_hashes=tuple(self.pixel_hashes[position] for position in positions),
            folded=self.folded[positions],
        )

    def where(self, label: Label) -> NDArray[np.intp]:
        """Positions of one class."""
        return np.flatnonzero(self.labels == int(label is Label.ANOMALY))

    def count(self, label: Label) -> int:
        return len(self.where(label))

    def distinct(self, label: Label) -> int:
        """How many pictures of a class differ in more than their orientation."""
        return len({self.pixel_hashes[position] for position in self.where(label)})

    @property
    def data_hash(self) -> str:
        """Hex sha256 over every file's sha256 and label: the same data, in whatever order."""
        digest = hashlib.sha256()
        for item in sorted(
            sha + bytes([label])
            for sha, label in zip(self.sha256, self.labels.tolist(), strict=True)
        ):
            digest.update(item)
        return digest.hexdigest()


@dataclass(slots=True)
class _Decoded:
    """What one task found out about its chunk of files."""

    slots: list[int] = field(default_factory=list)
    sha256: list[bytes] = field(default_factory=list)
    pixel_hashes: list[bytes] = field(default_factory=list)
    folded: list[NDArray[np.float32]] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def load(
    files: Sequence[LabelledFile],
    decode: Decode,
    work_folder: Path,
    progress: Progress = no_progress,
    overruling: frozenset[bytes] = frozenset(),
) -> Pictures:
    """Decodes every file once into a cache in ``work_folder``; close it, or use ``with``.

    ``decode`` is called from two threads. A file that cannot be used is in ``problems``, with its
    reason. Of files with equal pixels and both labels those of ``overruling`` are right, if they
    are of one mind; else all are left out. Raises DatasetError where the disk cannot hold the
    cache.
    """
    cache = PixelCache(len(files), work_folder)

    def task(start: int) -> _Decoded:
        found = _Decoded()
        for slot in range(start, min(start + _CHUNK, len(files))):
            got = read_and_decode(files[slot].path, decode)
            if isinstance(got, Problem):
                found.problems.append(got)
                continue
            content, picture = got
            cache.put(slot, picture)
            found.slots.append(slot)
            found.sha256.append(hashlib.sha256(content).digest())
            found.pixel_hashes.append(pixel_hash(picture))
            found.folded.append(fold(texture(picture)))
        return found

    try:
        parts: list[_Decoded] = []
        with ThreadPoolExecutor(_THREADS, "decode") as pool:
            for part in pool.map(task, range(0, len(files), _CHUNK)):
                parts.append(part)
                progress(min(len(parts) * _CHUNK, len(files)), len(files))
        return _assemble(files, cache, parts, overruling)
    except BaseException:
        cache.close()
        raise


def _assemble(
    files: Sequence[LabelledFile],
    cache: PixelCache,
    parts: Sequence[_Decoded],
    overruling: frozenset[bytes],
) -> Pictures:
    slots = [slot for part in parts for slot in part.slots]
    sha256 = [digest for part in parts for digest in part.sha256]
    hashes = [digest for part in parts for digest in part.pixel_hashes]
    folded = [vector for part in parts for vector in part.folded]
    labels_of: dict[bytes, set[Label]] = defaultdict(set)
    last_word: dict[bytes, set[Label]] = defaultdict(set)
    for slot, digest in zip(slots, hashes, strict=True):
        labels_of[digest].add(files[slot].label)
        if files[slot].path in overruling:
            last_word[digest].add(files[slot].label)
    kept: list[int] = []
    contradictions: list[Problem] = []
    for index, (slot, digest) in enumerate(zip(slots, hashes, strict=True)):
        label, said = files[slot].label, last_word.get(digest, labels_of[digest])
        if said == {label}:
            kept.append(index)
            continue
        why = "a person labelled the same pixels otherwise, and that counts"
        if len(said) > 1:
            why = "the same pixels are there with the other label"
        contradictions.append(Problem(path_text(files[slot].path), f"labelled {label}, but {why}"))
    return Pictures(
        cache=cache,
        slots=np.array([slots[index] for index in kept], dtype=np.intp),
        paths=tuple(files[slots[index]].path for index in kept),
        labels=np.array(
            [files[slots[index]].label is Label.ANOMALY for index in kept], dtype=np.int8
        ),
        sha256=tuple(sha256[index] for index in kept),
        pixel_hashes=tuple(hashes[index] for index in kept),
        folded=np.array([folded[index] for index in kept], dtype=np.float32).reshape(-1, FOLDED),
        problems=tuple(problem for part in parts for problem in part.problems),
        contradictions=tuple(contradictions),
    )


def require_enough(pictures: Pictures, places: Mapping[Label, Path], minimum: int) -> None:
    """Raises DatasetError where a class has fewer than ``minimum`` different pictures."""
    for label, place in places.items():
        distinct = pictures.distinct(label)
        if distinct >= minimum:
            continue
        unusable = len(pictures.problems) + len(pictures.contradictions)
        found = f"found {pictures.count(label)}"
        if distinct < pictures.count(label):
            found += f" of which {distinct} differ"
        if unusable:
            found += f", and {unusable} files of this data cannot be used"
        raise too_few(place, label, found, minimum)
