"""Wires picture decoder and runtime into what training and evaluation ask for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from crackwatch.dataset import Decode
from crackwatch.settings import Settings

if TYPE_CHECKING:
    from crackwatch.registry import Card
    from crackwatch.runtime import Classifier
    from crackwatch.training.retraining import Tools


def decoder(settings: Settings) -> Decode:
    """The station's own decoder, with its limits: what is learned is what will be seen."""
    from crackwatch import images

    limits = images.Limits(max_pixels=settings.files.max_pixels, larger=settings.images.larger)
    return lambda content: images.decode(content, limits)


def tools(settings: Settings) -> Tools:
    """What ``retrain`` needs of the outside world."""
    from crackwatch.registry import MODEL_FILE
    from crackwatch.runtime import GRAPH_FILE, load
    from crackwatch.runtime.openvino import build
    from crackwatch.runtime.reference import KerasClassifier
    from crackwatch.training.retraining import Tools

    def open_classifier(folder: Path, card: Card) -> Classifier:
        return load(folder, card, "openvino", "f32")

    def export(folder: Path) -> None:
        build(folder / MODEL_FILE, folder / GRAPH_FILE)

    def open_reference(file: Path) -> Classifier:
        return KerasClassifier("challenger", file)

    return Tools(decoder(settings), export, open_classifier, open_reference)
