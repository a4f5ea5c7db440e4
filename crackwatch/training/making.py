"""Turns a trained network into a model's files and card, and proves that the export agrees.

The Keras side of a publication; imported only when there is something to publish.
"""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import keras
import numpy as np
from numpy.typing import NDArray

from crackwatch import lenet
from crackwatch.agreement import compare_export, expected_scores, write_golden
from crackwatch.dataset import Pictures
from crackwatch.errors import ModelError
from crackwatch.registry import MODEL_FILE, Card, Fast, Golden, sha256_of
from crackwatch.runtime import Classifier
from crackwatch.runtime.fast import measured
from crackwatch.training.calibration import Calibration
from crackwatch.training.honest import scores_of

GOLDEN_PER_CLASS = 16
# A golden picture this close to the threshold could change sides by rounding alone.
GOLDEN_MARGIN = 0.01
_LIBRARIES = ("crackwatch", "tensorflow", "keras", "numpy", "opencv-python-headless", "openvino")


@dataclass(frozen=True, slots=True)
class Exporting:
    """The runtimes, as functions."""

    export: Callable[[Path], None]  # makes the OpenVINO files beside a folder's lenet.keras
    open_classifier: Callable[[Path, Card], Classifier]  # of a folder and its card
    open_reference: Callable[[Path], Classifier]  # Keras, of a lenet.keras
    # the quick half of precision "fast" and its processor; None: this one has none
    open_quick: Callable[[Path, Card], tuple[Classifier, str] | None]


def load(file: Path) -> keras.Model:
    """A saved LeNet, by Keras alone in safe mode. Raises ModelError if it cannot be loaded."""
    try:
        return keras.models.load_model(file, compile=False, safe_mode=True)
    except (OSError, ValueError, TypeError, KeyError) as exc:
        raise ModelError(
            f"{file}: Keras cannot load it: {exc}", "Use another model, or train again."
        ) from exc


def make(
    staged: Path,
    trained: Path,
    calibration: Calibration,
    draft: Callable[[str, datetime, lenet.Normalisation, Golden], Card],
    pictures: Pictures,
    threshold: float,
    exporting: Exporting,
) -> tuple[Card, Classifier]:
    """Writes ``lenet.keras``, the OpenVINO files and the golden pictures into ``staged``.

    ``draft`` makes the card of an id, the time, the normalisation and the golden set. Every one of
    ``pictures`` is scored by Keras and by the export: raises ModelDisagrees where they differ by
    more than 1e-4 or a verdict is flipped. Returns the card, and the model opened by OpenVINO.
    """
    model = load(trained)
    lenet.fold_calibration(model, calibration.temperature, calibration.shift)
    model.save(staged / MODEL_FILE)
    by_keras = exporting.open_reference(staged / MODEL_FILE)
    everything = np.arange(len(pictures))
    reference = scores_of(by_keras, pictures, everything)
    chosen = choose_golden(pictures.labels, reference, threshold)
    golden = Golden(
        pixels_sha256=write_golden(staged, pictures.get(chosen)),
        scores=tuple(scores_of(by_keras, pictures, chosen).tolist()),
    )
    created_at = datetime.now(UTC).replace(microsecond=0)
    card = draft(sha256_of(staged / MODEL_FILE), created_at, lenet.normalisation_in(model), golden)
    exporting.export(staged)
    made = {file.name: sha256_of(file) for file in staged.iterdir() if file.is_file()}
    known = card.model_copy(update={"files": made})
    classifier = exporting.open_classifier(staged, known)
    exported = scores_of(classifier, pictures, everything)
    expected = expected_scores(
        pictures.get(chosen), {("keras", "f32"): by_keras, ("openvino", "f32"): classifier}
    )
    finished = card.model_copy(
        update={
            "parameters": model.count_params(),
            "export": compare_export(reference, exported, threshold),
            "fast": fast_of(exporting.open_quick(staged, known), exported, pictures),
            "golden": golden.model_copy(update={"expected": expected}),
        }
    )
    return finished, classifier


def fast_of(
    quick: tuple[Classifier, str] | None, exact: NDArray[np.float32], pictures: Pictures
) -> Fast | None:
    """How far the quick scores of ``pictures`` are from ``exact``, (N,); None: there are none."""
    if quick is None:
        return None
    classifier, processor = quick
    found = measured(scores_of(classifier, pictures, np.arange(len(pictures))), exact)
    return Fast(
        largest_difference=found.largest,
        compared=found.compared,
        margin=found.margin,
        processor=processor,
    )


def libraries() -> dict[str, str]:
    """What it was made with."""
    return {name: importlib.metadata.version(name) for name in _LIBRARIES} | {
        "python": platform.python_version()
    }


def choose_golden(
    labels: NDArray[np.int8], scores: NDArray[np.float32], threshold: float
) -> NDArray[np.intp]:
    """Positions of pictures of both classes, over the whole range of scores; (N,) each.

    They check a runtime, not the model: that it has learned from them does not matter.
    """
    clear = np.abs(scores - threshold) > GOLDEN_MARGIN
    chosen: list[int] = []
    for value in (1, 0):
        mine = np.flatnonzero((labels == value) & clear)
        if not len(mine):
            mine = np.flatnonzero(labels == value)
        ranked = mine[np.argsort(scores[mine], kind="stable")]
        spread = np.unique(np.linspace(0, len(ranked) - 1, GOLDEN_PER_CLASS).round().astype(int))
        chosen.extend(ranked[spread].tolist())
    return np.array(chosen, dtype=np.intp)
