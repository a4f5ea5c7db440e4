"""Models for tests: cards with plausible values, and folders that a registry publishes."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from crackwatch.agreement import GoldenSet, expected_scores, golden_set, write_golden
from crackwatch.registry import Card, DataOrigin, Golden, Registry, Threshold
from crackwatch.runtime import SIDE, Classifier


def card(model_id: str, **changes: Any) -> Card:
    """A card that says nothing remarkable, except for what is changed."""
    fields: dict[str, Any] = {
        "id": model_id,
        "created_at": datetime(2026, 11, 1, 8, 30, tzinfo=UTC),
        "architecture": "lenet-227",
        "parameters": 5_819_502,
        "recipe": "station",
        "seed": 7,
        "libraries": {"keras": "3.15.1"},
        "data": DataOrigin(
            name="a wall", sha256="0" * 64, counts={"train": {"anomaly": 60, "normal": 300}}
        ),
        "threshold": Threshold(value=0.5, chosen_by="a test"),
        "temperature": 1.0,
        "scores": {"validation": {"f1": 0.97, "recall": 0.96, "precision": 0.98}},
        "golden": Golden(pixels_sha256="0" * 64, scores=(0.25, 0.75)),
    }
    return Card(**(fields | changes))


def publish(registry: Registry, model_id: str, content: bytes = b"weights", **changes: Any) -> Path:
    """A model of that id whose files are only bytes; returns its folder."""
    with registry.staging() as staged:
        (staged / "lenet.keras").write_bytes(content)
        (staged / "golden").mkdir()
        (staged / "golden" / "pictures.npy").write_bytes(b"pictures")
        registry.publish(staged, card(model_id, **changes))
    return registry.folder_of(model_id)


def publish_golden(registry: Registry, classifier: Classifier) -> GoldenSet:
    """A model of bytes whose golden pictures are real, with the scores that ``classifier`` gives."""
    grey = np.linspace(0, 255, 6, dtype=np.uint8)[:, None, None, None]
    pictures = np.broadcast_to(grey, (6, SIDE, SIDE, 3)).copy()
    expected = expected_scores(pictures, {("openvino", "f32"): classifier})
    scores = expected["openvino/f32"]
    if classifier.model_id not in registry.ids():
        with registry.staging() as staged:
            (staged / "lenet.keras").write_bytes(b"weights")
            golden = Golden(
                pixels_sha256=write_golden(staged, pictures), scores=scores, expected=expected
            )
            registry.publish(staged, card(classifier.model_id, golden=golden))
    folder = registry.folder_of(classifier.model_id)
    return golden_set(folder, registry.card(classifier.model_id), "openvino")
