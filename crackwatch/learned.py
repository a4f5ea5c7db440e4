"""What a model learned from, as a file beside the model: fingerprints and honest scores, no picture.

``learned.npz`` answers two questions for as long as the model lives: was this picture learned from,
and how was it scored by a model of the same recipe that had not seen it or anything like it.
"""

from __future__ import annotations

import struct
import tokenize
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crackwatch.errors import ModelTampered

LEARNED_FILE = "learned.npz"
HASH_BYTES = 16

# All that NumPy, and the zip archive below it, raise for a file that is damaged or made up.
UNREADABLE_ARRAYS = (
    OSError,
    ValueError,
    KeyError,
    EOFError,
    TypeError,  # one array instead of an archive of them, a number instead of an array
    RuntimeError,  # said to be encrypted, or packed in a way that zipfile does not know
    OverflowError,  # a size beyond all numbers
    MemoryError,  # a size beyond all memory
    SyntaxError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)

# field: (kinds of its numbers, as NumPy's dtype has them, axes)
_FORMS = {
    "pixel_hashes": ("u", 2),
    "textures": ("u", 2),
    "labels": ("iub", 1),
    "groups": ("iu", 1),
    "folds": ("iu", 1),
    "logits": ("f", 1),
    "reviewed": ("b", 1),
}


@dataclass(frozen=True, slots=True)
class Learned:
    """One row for each picture that was learned from; all arrays have N rows.

    ``logits`` are anomaly less normal before the softmax, temperature divided out as in the
    published model, each from the fold's model that had not learned from that picture or from
    anything in its group: out of fold. NaN where there is none (a recipe without folds).
    """

    pixel_hashes: NDArray[np.uint8]  # (N, 16): dataset.pixel_hash, the same in all orientations
    textures: NDArray[np.uint8]  # (N, B): dataset.texture_bits, for near duplicates
    labels: NDArray[np.int8]  # (N,) 1 for an anomaly
    groups: NDArray[np.int32]  # (N,) pictures that show the same concrete
    folds: NDArray[np.int8]  # (N,) the fold that held it back; -1: none
    logits: NDArray[np.float32]  # (N,)
    reviewed: NDArray[np.bool_]  # (N,) labelled by a person at the station

    def __post_init__(self) -> None:
        rows = len(self.labels)
        for name in self.__slots__:
            if len(getattr(self, name)) != rows:
                raise ValueError(f"{name} has {len(getattr(self, name))} rows, not {rows}")

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def out_of_fold(self) -> NDArray[np.intp]:
        """Positions of the pictures that have an honest score."""
        return np.flatnonzero(np.isfinite(self.logits))


def after(before: Learned, added: Learned) -> Learned:
    """What a model learned from that went on from another's weights: both, the newer row first.

    The older rows lose their scores: those were given by other weights.
    """
    new = {bytes(digest) for digest in np.ascontiguousarray(added.pixel_hashes)}
    kept = np.array(
        [bytes(digest) not in new for digest in np.ascontiguousarray(before.pixel_hashes)],
        dtype=bool,
    )
    above = int(added.groups.max(initial=-1)) + 1

    def both(name: str) -> NDArray[Any]:
        return np.concatenate([getattr(added, name), getattr(before, name)[kept]])

    old = int(kept.sum())
    return Learned(
        pixel_hashes=both("pixel_hashes"),
        textures=both("textures"),
        labels=both("labels"),
        groups=np.concatenate([added.groups, before.groups[kept] + above]).astype(np.int32),
        folds=np.concatenate([added.folds, np.full(old, -1, np.int8)]),
        logits=np.concatenate([added.logits, np.full(old, np.nan, np.float32)]),
        reviewed=both("reviewed"),
    )


def write(folder: Path, learned: Learned) -> None:
    """Writes ``learned.npz`` into a model's folder that is being made."""
    np.savez_compressed(
        folder / LEARNED_FILE, **{name: getattr(learned, name) for name in Learned.__slots__}
    )


def read(folder: Path) -> Learned | None:
    """What the model in ``folder`` learned from; None for a model published without it.

    Raises ModelTampered where the file is there and cannot be read.
    """
    file = folder / LEARNED_FILE
    try:
        # opened here: NumPy leaves its own handle open where the archive is cut short
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            return Learned(**{name: _formed(name, arrays[name]) for name in Learned.__slots__})
    except FileNotFoundError:
        return None
    except UNREADABLE_ARRAYS as exc:
        raise ModelTampered(
            f"{file}: cannot be read: {exc}",
            "Restore the model's folder from a copy, or use another model.",
        ) from exc


def _formed(name: str, array: object) -> NDArray[Any]:
    """The array, if it can be what its name says. Raises ValueError."""
    kinds, axes = _FORMS[name]
    if not isinstance(array, np.ndarray):  # NumPy hands out what is no array as it is
        raise ValueError(f"{name} is no array")
    if array.dtype.kind not in kinds or array.ndim != axes:
        raise ValueError(f"{name} is {array.dtype} with {array.ndim} axes")
    return array
