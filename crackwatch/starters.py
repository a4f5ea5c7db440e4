"""Installs the model that the package ships; needs neither TensorFlow nor Keras.

The package carries only ``lenet.keras`` and its card. The OpenVINO files are built here, on the
machine that will run them, and its golden pictures are drawn; the scores in the card, which Keras
gave when the model was trained, then prove all of it.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crackwatch.agreement import check_golden, expected_scores, pixels_sha256, write_golden
from crackwatch.errors import ModelDisagrees, ModelError, ModelTampered
from crackwatch.registry import MODEL_FILE, Card, Drawn, Registry, read_card, sha256_of
from crackwatch.runtime import GRAPH_FILE, WEIGHTS_FILE

Draw = Callable[[Sequence[Drawn]], NDArray[np.uint8]]  # to (N, 227, 227, 3) BGR

_REINSTALL = "The installation is damaged: install crackwatch again."


def draw_golden(drawn: Sequence[Drawn]) -> NDArray[np.uint8]:
    """The generator's pictures, (N, 227, 227, 3) uint8 BGR; the same for ever."""
    from crackwatch import synthetic

    return np.stack([synthetic.draw(picture.seed, crack=picture.crack) for picture in drawn])


def install_starter(registry: Registry, starter: Path, draw: Draw = draw_golden) -> str | None:
    """Makes the model in ``starter`` one of ``registry``'s, and its champion if there is none.

    Returns the id, or None where there was nothing to do. Raises ModelMissing or ModelTampered if
    ``starter`` is not what was shipped, ModelDisagrees if this machine gives other golden scores
    than the card (the registry is then as it was), LockedError if somebody else changes it.
    """
    card = read_card(starter)
    if card.id in registry.ids() and registry.champion() is not None:
        return None
    with registry.lock():
        if card.id not in registry.ids():
            with registry.staging() as staged:
                registry.publish(staged, _make(staged, starter, card, draw))
        if registry.champion() is None:
            registry.promote(card.id)
    return card.id


def _make(staged: Path, starter: Path, card: Card, draw: Draw) -> Card:
    """Makes and proves the model's files; the card, with what OpenVINO gives the golden pictures."""
    from crackwatch.runtime import openvino

    for name in {MODEL_FILE, *card.files}:
        _copy(starter / name, staged / name, card)
    openvino.build(staged / MODEL_FILE, staged / GRAPH_FILE)
    pictures = _golden_pictures(card, draw)
    write_golden(staged, pictures)
    classifier = openvino.OpenvinoClassifier(
        card.id, (staged / GRAPH_FILE).read_bytes(), (staged / WEIGHTS_FILE).read_bytes()
    )
    golden = card.golden
    check_golden(classifier, pictures, golden.scores, golden.tolerance, card.threshold.value)
    expected = expected_scores(pictures, {("openvino", "f32"): classifier})
    return card.model_copy(
        update={"golden": golden.model_copy(update={"expected": golden.expected | expected})}
    )


def _copy(source: Path, target: Path, card: Card) -> None:
    try:
        shutil.copyfile(source, target)
    except OSError as exc:
        raise ModelError(
            f"{source}: cannot be copied to {target}: {exc.strerror}",
            "Check the permissions of the models folder and the space on its disk.",
        ) from exc
    if sha256_of(target) != card.files.get(source.name):
        raise ModelTampered(f"{source}: is not the one of its card", _REINSTALL)


def _golden_pictures(card: Card, draw: Draw) -> NDArray[np.uint8]:
    if card.golden.drawn is None:
        raise ModelTampered(
            f"the starter model {card.id} does not say how its golden pictures are drawn",
            _REINSTALL,
        )
    pictures = draw(card.golden.drawn)
    if pixels_sha256(pictures) != card.golden.pixels_sha256:
        raise ModelDisagrees(
            f"the generator draws other golden pictures here than those that {card.id} was proved "
            "with",
            "Install crackwatch with the library versions of its lock file; if it stays, please "
            "report it.",
        )
    return pictures
