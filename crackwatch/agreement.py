"""Whether a classifier gives the scores that it should; knows no library that gives them.

Two occasions: an export held against Keras before a model is published, and a loaded model held
against its golden pictures before it may judge.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crackwatch.errors import ModelDisagrees, ModelTampered
from crackwatch.registry import Card, Export
from crackwatch.runtime import SIDE, Classifier

GOLDEN_FILE = "golden/pictures.npy"
EXPORT_TOLERANCE = 1e-4  # of a probability


def compare_export(
    reference: NDArray[np.float32], exported: NDArray[np.float32], threshold: float
) -> Export:
    """How far an export's scores are from Keras's; both (N,), of the same pictures in one order.

    A verdict is flipped where only one of the two reaches ``threshold``. Raises ModelDisagrees if
    a score differs by more than 1e-4, is not a number, or if a verdict is flipped: such a model
    must not be published.
    """
    largest, flipped = _difference(reference, exported, threshold)
    if not largest <= EXPORT_TOLERANCE or flipped:
        raise ModelDisagrees(
            f"the OpenVINO files do not judge as Keras does: over {len(reference)} pictures the "
            f"largest difference of a score is {largest:.2g} (allowed: {EXPORT_TOLERANCE:g}), "
            f"and {flipped} verdicts are flipped",
            "The model was not published. Train it again; if it stays, please report it.",
        )
    return Export(largest_difference=largest, compared=len(reference), flipped=flipped)


def write_golden(folder: Path, pictures: NDArray[np.uint8]) -> str:
    """Stores a model's golden pictures, (N, 227, 227, 3) uint8 BGR, and returns their sha256.

    As pixels, not as an image format: no decoder's next version can change them.
    """
    file = folder / GOLDEN_FILE
    file.parent.mkdir(exist_ok=True)
    np.save(file, _checked(pictures), allow_pickle=False)
    return pixels_sha256(pictures)


def read_golden(folder: Path, card: Card) -> NDArray[np.uint8]:
    """The golden pictures of a model, (N, 227, 227, 3) uint8 BGR, one for each score of the card.

    Raises ModelTampered if they are missing or not those of the card.
    """
    file = folder / GOLDEN_FILE
    remedy = f"Restore {folder} from a copy, or go back with 'crackwatch models rollback'."
    try:
        pictures: NDArray[np.uint8] = _checked(np.load(file, allow_pickle=False))
    except (OSError, ValueError, EOFError) as exc:
        raise ModelTampered(f"{file}: cannot be read: {exc}", remedy) from exc
    if pixels_sha256(pictures) != card.golden.pixels_sha256:
        raise ModelTampered(f"{file}: these are not the golden pictures of the card", remedy)
    if len(pictures) != len(card.golden.scores):
        raise ModelTampered(
            f"{file}: {len(pictures)} pictures, but the card has {len(card.golden.scores)} scores",
            remedy,
        )
    return pictures


def check_golden(
    classifier: Classifier,
    pictures: NDArray[np.uint8],
    expected: Sequence[float],
    tolerance: float,
    threshold: float,
) -> float:
    """Scores the golden pictures; returns the largest difference from what is expected.

    Raises ModelDisagrees if a score is further than ``tolerance`` away, is not a number, or falls
    on the other side of ``threshold``.
    """
    scores = classifier.scores(pictures)
    largest, flipped = _difference(np.asarray(expected, np.float64), scores, threshold)
    if not largest <= tolerance or flipped:
        raise ModelDisagrees(
            f"model {classifier.model_id} does not score its golden pictures as it did when it was "
            f"published: the largest difference is {largest:.2g} (allowed: {tolerance:g}), "
            f"and {flipped} of {len(pictures)} verdicts are flipped",
            "Do not trust its verdicts on this machine. Go back with 'crackwatch models rollback', "
            "or set [model] runtime to the other one.",
        )
    return largest


def pixels_sha256(pictures: NDArray[np.uint8]) -> str:
    """Over the bytes of (N, 227, 227, 3) uint8 in C order, hex."""
    return hashlib.sha256(np.ascontiguousarray(_checked(pictures)).data).hexdigest()


def _checked(pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if pictures.dtype != np.uint8 or pictures.ndim != 4 or pictures.shape[1:] != (SIDE, SIDE, 3):
        raise ValueError(
            f"golden pictures are uint8 (N, {SIDE}, {SIDE}, 3), "
            f"not {pictures.dtype} {pictures.shape}"
        )
    return pictures


def _difference(
    reference: NDArray[np.floating], other: NDArray[np.floating], threshold: float
) -> tuple[float, int]:
    """The largest absolute difference (NaN if any is), and the verdicts that differ."""
    if reference.shape != other.shape or reference.ndim != 1 or not reference.size:
        raise ValueError(f"scores of shapes {reference.shape} and {other.shape} do not compare")
    largest = float(np.max(np.abs(reference.astype(np.float64) - other)))
    flipped = int(np.count_nonzero((reference >= threshold) != (other >= threshold)))
    return largest, flipped
