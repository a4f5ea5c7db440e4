"""What the station asks of anything that can judge pictures; knows no library that does it.

``openvino.py`` is the default, ``reference.py`` the Keras one that it is checked against.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from crackwatch.errors import ModelError, ModelTampered

SIDE = 227  # pixels; the LeNet's input is SIDE x SIDE x 3, blue first


class Classifier(Protocol):
    """A model, loaded and ready."""

    model_id: str

    def scores(self, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The calibrated probability of an anomaly for each picture.

        ``pictures`` is (N, 227, 227, 3), uint8, BGR, 0..255, N >= 1; the result is (N,), float32,
        0..1. Safe to call from one thread at a time.
        """
        ...


def check_pictures(pictures: NDArray[np.uint8]) -> None:
    """Raises ValueError unless it is uint8 (N, 227, 227, 3) with N >= 1.

    A runtime would convert another dtype silently, and wrap round what does not fit.
    """
    if pictures.dtype != np.uint8 or pictures.shape[1:] != (SIDE, SIDE, 3) or not len(pictures):
        raise ValueError(
            f"pictures are uint8 (N, {SIDE}, {SIDE}, 3) with N >= 1, "
            f"not {pictures.dtype} {pictures.shape}"
        )


class Described(Protocol):
    """What a card says of a model's files: its id, and the sha256 of each, hex."""

    @property
    def id(self) -> str: ...

    @property
    def files(self) -> Mapping[str, str]: ...

    @property
    def fast_margin(self) -> float | None: ...  # logits; None: nobody measured it


GRAPH_FILE = "lenet.xml"
WEIGHTS_FILE = "lenet.bin"
KERAS_FILE = "lenet.keras"


def load(
    folder: Path,
    card: Described,
    runtime: str = "openvino",
    precision: str = "f32",
    threads: int | None = None,
) -> Classifier:
    """The model in ``folder``, ready to judge; ``runtime`` is "openvino" or "keras".

    Each file is held against its sha256 in the card before any library opens it. ``precision`` is
    "f32", or "fast": a ``FastClassifier``, which is exact until it is aimed (OpenVINO only, where the
    processor has bfloat16 and the card says how far that strays). ``threads`` is how many cores a
    call may use, None: all (OpenVINO only). Raises ModelTampered if a file is missing or not the
    card's, ModelError if it cannot be loaded, or not with that precision.
    """
    if runtime == "openvino":
        # These very bytes are checked and then used: nothing can change in between.
        graph, weights = (_checked(folder, card, name) for name in (GRAPH_FILE, WEIGHTS_FILE))
        from crackwatch.runtime.openvino import OpenvinoClassifier, has_bfloat16

        exact = OpenvinoClassifier(card.id, graph, weights, threads)
        if precision == "f32":
            return exact
        from crackwatch.runtime.fast import FastClassifier

        margin = card.fast_margin
        if margin is None:
            raise _not_fast(
                card, "its card does not say how far its quick scores are from the exact ones"
            )
        if not has_bfloat16():
            raise _not_fast(card, "this processor has no bfloat16, with which it would be fast")
        quick = OpenvinoClassifier(card.id, graph, weights, threads, precision="bf16")
        return FastClassifier(quick, exact, margin)
    if precision != "f32":
        raise _not_fast(card, f"runtime {runtime!r} has no such precision")
    if runtime == "keras":
        _checked(folder, card, KERAS_FILE)
        from crackwatch.runtime.reference import KerasClassifier

        return KerasClassifier(card.id, folder / KERAS_FILE)
    raise ModelError(
        f"there is no runtime {runtime!r}", 'Set [model] runtime to "openvino" or "keras".'
    )


def load_quick(
    folder: Path, card: Described, threads: int | None = None
) -> tuple[Classifier, str] | None:
    """The quick half of precision "fast", and what the processor is called on which it was opened.

    None where the processor has no bfloat16. Raises as ``load`` does.
    """
    graph, weights = (_checked(folder, card, name) for name in (GRAPH_FILE, WEIGHTS_FILE))
    from crackwatch.runtime.openvino import OpenvinoClassifier, has_bfloat16, processor

    if not has_bfloat16():
        return None
    return OpenvinoClassifier(card.id, graph, weights, threads, precision="bf16"), processor()


def _not_fast(card: Described, why: str) -> ModelError:
    return ModelError(
        f'model {card.id} cannot judge with precision "fast": {why}',
        'Set [model] precision = "f32". Models that are made where the processor has bfloat16 '
        "say how far it strays.",
    )


def _checked(folder: Path, card: Described, name: str) -> bytes:
    """The content of a file that is what the card says."""
    file = folder / name
    remedy = f"Restore {folder} from a copy, or go back with 'crackwatch models rollback'."
    if name not in card.files:
        raise ModelTampered(f"{folder}: the model's card lists no {name}", remedy)
    try:
        content = file.read_bytes()
    except FileNotFoundError as exc:
        raise ModelTampered(f"{file}: is missing, though the card lists it", remedy) from exc
    except OSError as exc:
        raise ModelError(
            f"{file}: cannot be read: {exc.strerror}", "Check its permissions."
        ) from exc
    if hashlib.sha256(content).hexdigest() != card.files[name]:
        raise ModelTampered(
            f"{file}: is not the file that was published (its sha256 differs from the card's)",
            remedy,
        )
    return content
