"""Labelled folders: import, checks, grouping of duplicates, splits, streaming; knows no model.

A labelled folder holds ``anomaly/`` and ``normal/``, or ``train/`` with these two inside. Pictures
are decoded by the caller's function, one after the other, into a nameless file on disk: memory does
not grow with their number, and nothing is left behind however the process ends.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from crackwatch.domain import Label, path_text
from crackwatch.errors import DatasetError, Unreadable
from crackwatch.runtime import SIDE

MINIMUM_PER_CLASS = 50  # fewer cannot be split into something to learn and something to check
PICTURE_BYTES = SIDE * SIDE * 3
MAX_FILE_BYTES = 64 * 1024 * 1024  # a labelled picture is read whole
SPARE_BYTES = 256 * 1024 * 1024  # of disk that a cache leaves to others

# Two pictures are one, encoded or exposed anew, if their fine textures correlate as strongly as this
# in one of eight orientations. Among the 15,000 of the starter's data nothing lies between 0.7 (two
# cracks of like shape) and 0.9 (copies): docs/model.md.
SAME_TEXTURE = 0.8

_CELLS = 45  # 227 pixels less one on each side, in 45 x 45 cells of 5 pixels: keeps every symmetry
_THREADS = 2
_CHUNK = 64  # files a task: one future per picture costs more than decoding it

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


# --------------------------------------------------------------------------------------- layout


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


# ------------------------------------------------------------------------------ the eight turns


def orientations(picture: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    """The eight ways to turn and mirror (S, S, ...), as views; the first is ``picture`` itself."""
    for flipped in (picture, picture[:, ::-1]):
        for turns in range(4):
            yield np.rot90(flipped, turns)


def pixel_hash(picture: NDArray[np.uint8]) -> bytes:
    """16 bytes that are equal for pictures with equal pixels, however turned or mirrored.

    One orientation is chosen by the sums of the four corners, so that one hash is enough; where
    corners tie, the smallest hash of the candidates is taken.
    """
    half = SIDE // 2
    sums = np.array(
        [
            [picture[:half, :half].sum(), picture[:half, -half:].sum()],
            [picture[-half:, :half].sum(), picture[-half:, -half:].sum()],
        ],
        dtype=np.int64,
    )
    keys = [tuple(turned.ravel().tolist()) for turned in orientations(sums)]  # type: ignore[arg-type]  # sums turn as pixels do
    smallest = min(keys)
    return min(
        hashlib.blake2b(np.ascontiguousarray(turned).data, digest_size=16).digest()
        for key, turned in zip(keys, orientations(picture), strict=True)
        if key == smallest
    )


def _texture(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Fine texture: means of 5-pixel cells less those of their 15-pixel blocks, of unit length.

    (227, 227, 3) to (45, 45); zeros where there is no texture. Light and exposure fall out.
    """
    inner = picture[1:-1, 1:-1].reshape(_CELLS, 5, _CELLS * 5 * 3)  # (45, 5, 675)
    rows = inner.sum(axis=1, dtype=np.uint16)  # at most 5 * 255
    cells = rows.reshape(_CELLS, _CELLS, 15).sum(axis=2, dtype=np.float32)  # (45, 45)
    blocks = cells.reshape(_CELLS // 3, 3, _CELLS // 3, 3)
    fine = blocks - blocks.mean(axis=(1, 3), keepdims=True)
    texture = fine.reshape(_CELLS, _CELLS)
    length = float(np.linalg.norm(texture))
    # below half a grey level a cell it is the encoder's noise
    return texture / length if length > 0.5 * 75 * _CELLS else np.zeros_like(texture)


def _folded(texture: NDArray[np.float32]) -> NDArray[np.float32]:
    """What of a texture no turn and no mirror changes: (45, 45) to (276,), of unit length."""
    total = np.zeros_like(texture)
    for flipped in (texture, texture[:, ::-1]):
        for turns in range(4):
            total += np.rot90(flipped, turns)
    middle = _CELLS // 2 + 1
    wedge = total[:middle, :middle][np.triu_indices(middle)]
    length = float(np.linalg.norm(wedge))
    return wedge / length if length > 1e-3 else np.zeros_like(wedge)


# --------------------------------------------------------------------------------------- loading


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
            self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 (closed by close)
        except OSError as exc:
            raise DatasetError(
                f"{folder}: cannot hold decoded pictures: {exc.strerror}", "Check the folder."
            ) from exc

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
) -> Pictures:
    """Decodes every file once into a cache in ``work_folder``; close it, or use ``with``.

    ``decode`` is called from two threads. A file that cannot be used is in ``problems``, with its
    reason. Raises DatasetError where the disk cannot hold the cache.
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
            found.folded.append(_folded(_texture(picture)))
        return found

    try:
        parts: list[_Decoded] = []
        with ThreadPoolExecutor(_THREADS, "decode") as pool:
            for part in pool.map(task, range(0, len(files), _CHUNK)):
                parts.append(part)
                progress(min(len(parts) * _CHUNK, len(files)), len(files))
        return _assemble(files, cache, parts)
    except BaseException:
        cache.close()
        raise


def _assemble(
    files: Sequence[LabelledFile], cache: PixelCache, parts: Sequence[_Decoded]
) -> Pictures:
    slots = [slot for part in parts for slot in part.slots]
    sha256 = [digest for part in parts for digest in part.sha256]
    hashes = [digest for part in parts for digest in part.pixel_hashes]
    folded = [vector for part in parts for vector in part.folded]
    labels_of: dict[bytes, set[Label]] = defaultdict(set)
    for slot, digest in zip(slots, hashes, strict=True):
        labels_of[digest].add(files[slot].label)
    kept = [index for index, digest in enumerate(hashes) if len(labels_of[digest]) == 1]
    contradictions = tuple(
        Problem(
            path_text(files[slot].path),
            f"labelled {files[slot].label}, but the same pixels are there with the other label",
        )
        for slot, digest in zip(slots, hashes, strict=True)
        if len(labels_of[digest]) > 1
    )
    width = (_CELLS // 2 + 1) * (_CELLS // 2 + 2) // 2
    return Pictures(
        cache=cache,
        slots=np.array([slots[index] for index in kept], dtype=np.intp),
        paths=tuple(files[slots[index]].path for index in kept),
        labels=np.array(
            [files[slots[index]].label is Label.ANOMALY for index in kept], dtype=np.int8
        ),
        sha256=tuple(sha256[index] for index in kept),
        pixel_hashes=tuple(hashes[index] for index in kept),
        folded=np.array([folded[index] for index in kept], dtype=np.float32).reshape(-1, width),
        problems=tuple(problem for part in parts for problem in part.problems),
        contradictions=contradictions,
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


def too_few(place: Path, label: Label, found: str, minimum: int) -> DatasetError:
    """The refusal that names folder, what was found there, what is needed and how to get it."""
    return DatasetError(
        f"{place}: too few {label} pictures: {found}; at least {minimum} are needed",
        "Take in labelled pictures with 'crackwatch dataset import FOLDER', where FOLDER holds "
        "anomaly/ and normal/, or name another folder with --data.",
    )


# ---------------------------------------------------------------------------- groups and splits


def groups(pictures: Pictures) -> NDArray[np.intp]:
    """A group number for each picture, (N,): copies of one another are in one group.

    Copies are pictures with equal pixels, turned or mirrored or not, and those whose fine texture
    correlates (the same picture encoded or exposed anew). Crops that merely overlap are not found.
    The comparison takes time with the square of N: about 2 s for 15,000.
    """
    parent = np.arange(len(pictures), dtype=np.intp)

    def root(position: int) -> int:
        while parent[position] != position:
            parent[position] = parent[parent[position]]
            position = int(parent[position])
        return position

    def join(one: int, other: int) -> None:
        first, second = sorted((root(one), root(other)))
        parent[second] = first

    first_with: dict[bytes, int] = {}
    for position, digest in enumerate(pictures.pixel_hashes):
        join(first_with.setdefault(digest, position), position)
    for one, other in _similar_pairs(pictures.folded):
        if root(one) != root(other) and _same_texture(pictures, one, other):
            join(one, other)
    return np.array([root(position) for position in range(len(pictures))], dtype=np.intp)


def _similar_pairs(folded: NDArray[np.float32]) -> Iterator[tuple[int, int]]:
    """Pairs whose orientation-free textures correlate; the matrix is walked in strips."""
    strip = 512
    for start in range(0, len(folded), strip):
        likeness = folded[start : start + strip] @ folded[start:].T  # (strip, N - start)
        rows, columns = np.nonzero(likeness >= SAME_TEXTURE)
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
            if column > row:
                yield start + row, start + column


def _same_texture(pictures: Pictures, one: int, other: int) -> bool:
    first, second = (_texture(picture) for picture in pictures.get([one, other]))
    flat = first.ravel()
    return any(
        float(flat @ np.rot90(flipped, turns).ravel()) >= SAME_TEXTURE
        for flipped in (second, second[:, ::-1])
        for turns in range(4)
    )


@dataclass(frozen=True, slots=True)
class Split:
    """Positions to learn from and positions held back; no group is in both."""

    train: NDArray[np.intp]
    validation: NDArray[np.intp]


def split(pictures: Pictures, group_of: NDArray[np.intp], fraction: float, seed: int) -> Split:
    """Holds back ``fraction`` (0..1) of each class, whole groups at a time.

    Which groups is decided by a keyed hash of their pixels, not by file names or order: with the
    same seed a picture stays held back when the folder grows, but for a few at the edge. Raises
    DatasetError where a class does not have two groups to divide.
    """
    members: dict[int, list[int]] = defaultdict(list)
    for position, group in enumerate(group_of.tolist()):
        members[group].append(position)
    key = seed.to_bytes(8, "little")
    by_class: dict[bool, list[tuple[bytes, list[int]]]] = {True: [], False: []}
    for positions in members.values():
        name = min(pictures.pixel_hashes[position] for position in positions)
        rank = hashlib.blake2b(name, key=key, digest_size=16).digest()
        has_anomaly = bool(pictures.labels[positions].any())
        by_class[has_anomaly].append((rank, positions))
    held: list[int] = []
    for has_anomaly, ranked in by_class.items():
        label = Label.ANOMALY if has_anomaly else Label.NORMAL
        if len(ranked) < 2:
            raise DatasetError(
                f"all {label} pictures are copies of {len(ranked)} picture: nothing can be held "
                "back to check the model with",
                "Take in more different pictures with 'crackwatch dataset import FOLDER'.",
            )
        wanted = max(1, round(fraction * sum(len(positions) for _, positions in ranked)))
        taken = 0
        for index, (_, positions) in enumerate(sorted(ranked)):
            if taken >= wanted or index == len(ranked) - 1:  # one group at least is learned from
                break
            held.extend(positions)
            taken += len(positions)
    is_held = np.zeros(len(pictures), dtype=bool)
    is_held[held] = True
    return Split(train=np.flatnonzero(~is_held), validation=np.flatnonzero(is_held))


# ---------------------------------------------------------------------------------------- import


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import did. ``anomaly`` and ``normal`` count what the dataset holds afterwards."""

    imported: int
    duplicates: int
    anomaly: int
    normal: int
    problems: tuple[Problem, ...]


def import_folder(
    source: Path, destination: Path, decode: Decode, progress: Progress = no_progress
) -> Imported:
    """Copies labelled pictures into ``destination``'s ``anomaly/`` and ``normal/``.

    A file is taken in if it decodes and no file with the same bytes is there; its name gets a
    suffix if it is taken. Nothing is overwritten, moved or deleted; a copy appears whole or not at
    all. Run again, it takes in nothing twice. Files that cannot be used, and those that are there
    already with the *other* label, are in ``problems``. Raises DatasetError where ``source`` is no
    labelled folder, lies in ``destination`` or the other way round, or nothing can be written.
    """
    layout = find_layout(source)
    target = Layout(destination / Label.ANOMALY, destination / Label.NORMAL)
    real_source, real_target = source.resolve(), destination.resolve()
    if real_source.is_relative_to(real_target) or real_target.is_relative_to(real_source):
        raise DatasetError(
            f"{source} and the station's dataset {destination} lie in one another",
            "Name a folder outside of the dataset; what is inside it is used by 'crackwatch "
            "retrain' as it is.",
        )
    files = list_files(layout)
    known: dict[bytes, Label] = {}
    present: Counter[Label] = Counter()
    for file in list_files(target):
        present[file.label] += 1
        try:
            known[hashlib.sha256(read_file(file.path)).digest()] = file.label
        except (OSError, ValueError):
            continue  # it cannot equal anything that is taken in; retrain reports it
    imported = duplicates = 0
    problems: list[Problem] = []
    for done, file in enumerate(files, start=1):
        got = read_and_decode(file.path, decode)
        if isinstance(got, Problem):
            problems.append(got)
        else:
            content = got[0]
            digest = hashlib.sha256(content).digest()
            there = known.get(digest)
            if there is None:
                _copy_in(content, digest, target.of(file.label), os.path.basename(file.path))
                known[digest] = file.label
                imported += 1
                present[file.label] += 1
            elif there is file.label:
                duplicates += 1
            else:
                problems.append(
                    Problem(
                        path_text(file.path),
                        f"labelled {file.label}, but the same file is in the dataset as {there}; "
                        "remove the wrong one",
                    )
                )
        progress(done, len(files))
    return Imported(
        imported, duplicates, present[Label.ANOMALY], present[Label.NORMAL], tuple(problems)
    )


def _copy_in(content: bytes, digest: bytes, folder: Path, name: bytes) -> None:
    """Writes a new file, whole or not at all, under a name that is free."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".import-") as temporary:
            temporary.write(content)
            temporary.flush()
            os.fchmod(temporary.fileno(), 0o644)
            os.fsync(temporary.fileno())
            base = os.fsencode(folder)
            stem, suffix = os.path.splitext(name)
            mark = b"-" + digest.hex()[:12].encode()
            for candidate in (name, stem[: 250 - len(mark) - len(suffix)] + mark + suffix):
                try:
                    os.link(os.fsencode(temporary.name), os.path.join(base, candidate))
                except FileExistsError:
                    continue
                break
            else:
                raise DatasetError(
                    f"{folder}: both names for {path_text(name)} are taken by other files",
                    "Rename the file and import it again.",
                )
    except OSError as exc:
        raise DatasetError(
            f"{folder}: {path_text(name)} cannot be copied there: {exc.strerror}",
            "Check free space and permissions; what was imported so far stays.",
        ) from exc
