"""Whether a classifier gives the scores that it should; knows no library that gives them.

Two occasions: an export held against Keras before a model is published, and a loaded model held
against its golden pictures, before it may judge and for as long as it does.
"""

from __future__ import annotations

import hashlib
import tokenize
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crackwatch.errors import ModelDisagrees, ModelTampered
from crackwatch.registry import Card, Export, runtime_key
from crackwatch.runtime import SIDE, Classifier
from crackwatch.runtime.fast import FastClassifier, exact_of, measured

GOLDEN_FILE = "golden/pictures.npy"
# Of a probability. Before a model is published its OpenVINO files are held against Keras by the
# first; from then on each runtime against what itself gave at publication, by the second.
EXPORT_TOLERANCE = 1e-4
GOLDEN_TOLERANCE = 1e-3

# A verdict is no verdict on the runtime where the expected score is nearer to the threshold than
# rounding reaches: a share of the tolerance. A station's threshold may be any number.
_ROUNDING_SHARE = 0.1

# All that NumPy raises for an array that is damaged or made up, its size beyond all memory included.
_UNREADABLE = (
    OSError,
    ValueError,
    EOFError,
    TypeError,
    OverflowError,
    MemoryError,
    SyntaxError,
    tokenize.TokenError,
)

_REMEDY = (
    "Do not trust its verdicts on this machine. Go back with 'crackwatch models rollback', "
    "or set [model] runtime to the other one."
)


@dataclass(frozen=True, slots=True)
class GoldenScored:
    """What became of scoring the golden pictures once.

    ``largest_difference`` is of a probability, NaN where a score was not a number; ``flipped`` the
    verdicts that were not the expected ones.
    """

    pictures: int
    largest_difference: float
    flipped: int
    tolerance: float
    strayed: float = 0.0  # the quick scores of precision "fast": the largest difference of a logit
    margin: float = 0.0  # what is counted on

    @property
    def agrees(self) -> bool:
        exact = self.largest_difference <= self.tolerance and not self.flipped
        return exact and self.strayed <= self.margin

    def __str__(self) -> str:
        text = (
            f"the largest difference is {self.largest_difference:.2g} "
            f"(allowed: {self.tolerance:g}), "
            f"and {self.flipped} of {self.pictures} verdicts are flipped"
        )
        if self.margin:
            text += (
                f"; the quick scores are {self.strayed:.2g} of a logit away at most "
                f"(allowed: {self.margin:.2g})"
            )
        return text


@dataclass(frozen=True, slots=True)
class GoldenSet:
    """Golden pictures, (N, 227, 227, 3) uint8 BGR, and the (N,) scores that a runtime owes them."""

    pictures: NDArray[np.uint8]
    expected: tuple[float, ...]
    tolerance: float

    def score(self, classifier: Classifier, threshold: float) -> GoldenScored:
        """Lets ``classifier`` score them; a flip counts where rounding alone cannot have made it.

        Of a ``FastClassifier`` both halves score each of them.
        """
        expected = np.asarray(self.expected, np.float64)
        scores = exact_of(classifier).scores(self.pictures)
        clear = np.abs(expected - threshold) > self.tolerance * _ROUNDING_SHARE
        largest, _ = _difference(expected, scores, threshold)
        flipped = (expected >= threshold) != (scores >= threshold)
        scored = GoldenScored(
            len(self.pictures), largest, int(np.count_nonzero(clear & flipped)), self.tolerance
        )
        if isinstance(classifier, FastClassifier):
            quick = classifier.quick.scores(self.pictures)
            strayed = measured(quick, expected.astype(np.float32)).largest
            return replace(scored, strayed=strayed, margin=classifier.margin)
        return scored

    def prove(self, classifier: Classifier, threshold: float) -> None:
        """Raises ModelDisagrees unless ``classifier`` scores them as it did at publication."""
        scored = self.score(classifier, threshold)
        if not scored.agrees:
            raise ModelDisagrees(
                f"model {classifier.model_id} does not score its golden pictures as it did when it "
                f"was published: {scored}",
                _REMEDY,
            )


def golden_set(folder: Path, card: Card, runtime: str) -> GoldenSet:
    """The golden pictures of a model with what this runtime must give.

    Raises ModelTampered if they are missing or not those of the card.
    """
    # what precision "fast" relies on is f32's; its quick half is held against the card's margin
    return GoldenSet(
        read_golden(folder, card), card.golden.expects(runtime, "f32"), GOLDEN_TOLERANCE
    )


def expected_scores(
    pictures: NDArray[np.uint8], classifiers: Mapping[tuple[str, str], Classifier]
) -> dict[str, tuple[float, ...]]:
    """For ``card.golden.expected``: what each classifier gives ``pictures``, at publication.

    ``classifiers`` by (runtime, precision), such as ("openvino", "f32"). Raises ModelDisagrees
    where a score is no probability.
    """
    expected: dict[str, tuple[float, ...]] = {}
    for (runtime, precision), classifier in classifiers.items():
        scores = tuple(classifier.scores(pictures).tolist())
        if not all(0.0 <= score <= 1.0 for score in scores):
            raise ModelDisagrees(
                f"model {classifier.model_id}: {runtime} gives a golden picture a score that is no "
                "probability",
                "The model was not published. Retrain with another --seed, as the same one gives the same "
                "weights; if it stays, please report it.",
            )
        expected[runtime_key(runtime, precision)] = scores
    return expected


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
            "The model was not published. Retrain with another --seed, as the same one gives the same "
            "weights; if it stays, please report it.",
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
        with file.open("rb") as stream:
            # not np.load, which would open an archive as well, and whatever it holds
            pictures: NDArray[np.uint8] = _checked(np.lib.format.read_array(stream))
    except _UNREADABLE as exc:
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
    """Before publication: scores the golden pictures; returns the largest difference.

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
            _REMEDY,
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
