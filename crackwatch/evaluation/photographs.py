"""Labelled photographs as a station judges them, in tiles: one score each; chooses no threshold."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crackwatch.dataset import Decode as DecodeCrop
from crackwatch.dataset import (
    LabelledFile,
    Problem,
    Progress,
    no_progress,
    photograph_of,
    pixel_hash,
    read_file,
)
from crackwatch.dataset.origins import MARK_DIGITS
from crackwatch.domain import Label
from crackwatch.errors import Unreadable
from crackwatch.escaping import path_text
from crackwatch.examining import Emit, examine
from crackwatch.runtime import Classifier
from crackwatch.second_look import looked_again
from crackwatch.verdict import flagged_up_to
from crackwatch.views import Decode, SeenTiles, see

_BATCH = 64  # tiles
_DECODERS = 2  # threads, each with one photograph


@dataclass(frozen=True, slots=True)
class ScoredPhotographs:
    """``scores`` are the highest thresholds at which each is flagged, float32 numbers as tiles' are.

    ``problems`` are the files that could not be used: unreadable, no photograph, or labelled both
    ways.
    """

    labels: NDArray[np.int8]  # (N,), 1 for an anomaly
    scores: NDArray[np.float64]  # (N,), 0..1
    tiles: NDArray[np.intp]  # (N,), how many each was judged by
    groups: NDArray[np.intp]  # (N,), equal for files with the same content
    paths: tuple[bytes, ...]
    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class _Looked:
    content: bytes  # its hash
    tiled: SeenTiles


def score_photographs(
    files: Sequence[LabelledFile],
    decode: Decode,
    classifier: Classifier,
    min_tiles: int = 1,
    second_look_from: float | None = None,
    progress: Progress = no_progress,
) -> ScoredPhotographs:
    """Scores each photograph under the rule of ``min_tiles`` connected tiles.

    Tiles that score ``second_look_from`` or more are looked at again; None: none is.

    ``decode`` is called from two threads, each of which holds one photograph at a time. A file that
    cannot be used is listed, never dropped. Raises ValueError where the model gives something that
    is no probability.
    """
    usable: list[tuple[LabelledFile, bytes, float, int]] = []
    problems: list[Problem] = []
    with ThreadPoolExecutor(_DECODERS, "decode") as pool:
        found = examine(
            files,
            lambda file, emit: _look(file, decode, emit),
            classifier,
            pool=pool,
            threads=_DECODERS,
            chunk=1,
            batch=_BATCH,
        )
        for done, (file, (looked, scores)) in enumerate(zip(files, found, strict=True), 1):
            if isinstance(looked, Problem):
                problems.append(looked)
            else:
                grid = looked.tiled.grid(scores)
                try:
                    if second_look_from is not None:
                        photograph = looked.tiled.photograph
                        grid = looked_again(photograph, grid, second_look_from, classifier).scores
                    usable.append((file, looked.content, flagged_up_to(grid, min_tiles), grid.size))
                except Unreadable as exc:
                    problems.append(Problem(path_text(file.path), str(exc)))
            progress(done, len(files))
    labels_of: dict[bytes, set[Label]] = defaultdict(set)
    for file, content, _, _ in usable:
        labels_of[content].add(file.label)
    both = {content for content, labels in labels_of.items() if len(labels) > 1}
    problems += [
        Problem(path_text(file.path), "the same photograph is labelled both ways")
        for file, content, _, _ in usable
        if content in both
    ]
    kept = [each for each in usable if each[1] not in both]
    group_of = {content: number for number, content in enumerate(labels_of)}
    return ScoredPhotographs(
        labels=np.array([file.label is Label.ANOMALY for file, *_ in kept], np.int8),
        scores=np.array([score for _, _, score, _ in kept], np.float64),
        tiles=np.array([tiles for *_, tiles in kept], np.intp),
        groups=np.array([group_of[content] for _, content, _, _ in kept], np.intp),
        paths=tuple(file.path for file, *_ in kept),
        problems=tuple(problems),
    )


def learned_from(
    files: Sequence[LabelledFile],
    crops_below: Path,
    pixel_hashes: NDArray[np.uint8],
    decode_crop: DecodeCrop,
) -> list[bytes]:
    """The paths of photographs of which a model has learned crops; their scores promise nothing.

    A crop below the folder names its photograph (``dataset.photograph_of``); ``pixel_hashes``
    (N, 16), of what the model learned, say whether it is one of these. A crop that has gone from
    the folder is not known any more.
    """
    crops: dict[bytes, list[bytes]] = defaultdict(list)
    for folder, _, names in os.walk(os.fsencode(crops_below)):
        for name in names:
            mark = photograph_of(name)
            if mark is not None:
                crops[mark].append(os.path.join(folder, name))
    if not crops:
        return []
    known = {row.tobytes() for row in pixel_hashes}

    def learned(crop: bytes) -> bool:
        try:
            return pixel_hash(decode_crop(read_file(crop))) in known
        except (OSError, ValueError, Unreadable):
            return False  # it could not be learned from either

    found = []
    for file in files:
        with contextlib.suppress(OSError):  # that is told where it is scored
            mark = hashlib.sha256(read_file(file.path)).hexdigest()[:MARK_DIGITS].encode()
            if any(map(learned, crops.get(mark, ()))):
                found.append(file.path)
    return found


def _look(file: LabelledFile, decode: Decode, emit: Emit) -> _Looked | Problem:
    try:
        data = read_file(file.path)
        decoded = decode(data)
        if isinstance(decoded, np.ndarray):
            return Problem(path_text(file.path), "is a single crop, not judged in tiles")
        tiled = see(decoded, emit).tiled
        assert tiled is not None
        return _Looked(hashlib.sha256(data).digest(), tiled)
    except OSError as exc:
        return Problem(path_text(file.path), f"cannot be read: {exc.strerror}")
    except (ValueError, Unreadable) as exc:
        return Problem(path_text(file.path), str(exc))
