"""The model in force: opened only after its hashes and its golden pictures have been checked.

Brings registry, runtime and books together, so that none of them needs to know another.
"""

from __future__ import annotations

from typing import Protocol

from crackwatch.agreement import check_golden, read_golden
from crackwatch.errors import ModelMissing
from crackwatch.pipeline import Judging
from crackwatch.registry import MODEL_FILE, Card, Registry
from crackwatch.runtime import Classifier, load
from crackwatch.settings import ModelSettings


class ModelRows(Protocol):
    def model_pk(self, id: str, sha256: str, card: str) -> int: ...


def open_classifier(
    registry: Registry, model_id: str, settings: ModelSettings
) -> tuple[Card, Classifier]:
    """A model that is what its card says, and scores its golden pictures as it did when published.

    Raises ModelMissing, ModelTampered or ModelDisagrees.
    """
    card = registry.verify(model_id)
    folder = registry.folder_of(model_id)
    classifier = load(folder, card, settings.runtime, settings.precision)
    check_golden(
        classifier,
        read_golden(folder, card),
        card.golden.scores,
        card.golden.tolerance,
        card.threshold.value,
    )
    return card, classifier


def open_champion(registry: Registry, settings: ModelSettings, rows: ModelRows) -> Judging:
    """The champion, ready to judge, with its row in the books. Raises ModelError, SystemFault."""
    model_id = registry.champion()
    if model_id is None:
        raise ModelMissing(
            "this station has no champion model",
            "Run 'crackwatch init' for the starter model, or 'crackwatch models promote ID'.",
        )
    card, classifier = open_classifier(registry, model_id, settings)
    threshold = card.threshold.value if settings.threshold == "model" else settings.threshold
    return Judging(
        classifier=classifier,
        model_pk=rows.model_pk(model_id, card.files[MODEL_FILE], card.to_json()),
        threshold=threshold,
        runtime=settings.runtime,
        precision=settings.precision,
    )
