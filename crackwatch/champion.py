"""The model in force: opened only after its hashes have been checked, and proved by its golden pictures.

Brings registry, runtime and books together, so that none of them needs to know another.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

from crackwatch.agreement import GoldenSet, golden_set
from crackwatch.errors import ModelMissing
from crackwatch.pipeline import Judging
from crackwatch.registry import MODEL_FILE, Card, Registry
from crackwatch.runtime import Classifier, load
from crackwatch.runtime.fast import FastClassifier
from crackwatch.settings import ModelSettings
from crackwatch.views import Rule


class ModelRows(Protocol):
    def model_pk(self, id: str, sha256: str, card: str) -> int: ...


@dataclass(frozen=True, slots=True)
class Opened:
    """A model that could judge, once ``prove`` has raised nothing, and its golden pictures."""

    judging: Judging
    golden: GoldenSet

    def prove(self) -> None:
        """Raises ModelDisagrees if it does not score its golden pictures as it did when published."""
        self.golden.prove(self.judging.classifier, self.judging.rule.threshold)


def open_classifier(
    registry: Registry, model_id: str, settings: ModelSettings
) -> tuple[Card, Classifier]:
    """A model that is what its card says, and scores its golden pictures as it did when published.

    Raises ModelMissing, ModelTampered or ModelDisagrees.
    """
    card, classifier, golden = _open(registry, model_id, settings)
    golden.prove(classifier, threshold_of(card, settings))
    return card, classifier


def threshold_of(card: Card, settings: ModelSettings) -> float:
    """By which score this station calls an anomaly: the model's own, unless it is told another."""
    return card.threshold.value if settings.threshold == "model" else settings.threshold


def rule_of(card: Card, settings: ModelSettings) -> Rule:
    """The same, and by which rule it calls a photograph one."""
    threshold, tiled = threshold_of(card, settings), card.tiled
    of_tiles = settings.tiled_threshold
    if of_tiles == "model":
        # a number in [model] threshold overrules what the model brings for either kind of picture
        of_model = tiled.value if tiled and settings.threshold == "model" else threshold
    else:
        of_model = of_tiles
    fewest = settings.min_tiles
    return Rule(
        threshold,
        of_model,
        (tiled.min_tiles if tiled else 1) if fewest == "model" else fewest,
        tiled.second_look_from if tiled else None,
    )


def open_chosen(
    registry: Registry, model_id: str | None, settings: ModelSettings, threshold: float | None
) -> tuple[Classifier, Rule]:
    """The model and the threshold that a person asked for; the champion's, the station's for None.

    A threshold that was asked for is that of photographs as well.
    Raises ModelMissing, ModelTampered or ModelDisagrees.
    """
    chosen = model_id or registry.champion()
    if chosen is None:
        raise ModelMissing(
            f"{registry.folder}: there is no champion",
            "Run 'crackwatch init', 'crackwatch retrain', or name one with --model ID.",
        )
    card, classifier = open_classifier(registry, chosen, settings)
    rule = rule_of(card, settings)
    if threshold is not None:
        rule = replace(rule, threshold=threshold, tiled_threshold=threshold)
    return classifier, rule


def open_champion(registry: Registry, settings: ModelSettings, rows: ModelRows) -> Opened:
    """The champion, with its row in the books; not proved yet. Raises ModelError, SystemFault."""
    model_id = registry.champion()
    if model_id is None:
        raise ModelMissing(
            "this station has no champion model",
            "Run 'crackwatch init' for the starter model, or 'crackwatch models promote ID'.",
        )
    return open_model(registry, model_id, settings, rows)


def open_model(
    registry: Registry, model_id: str, settings: ModelSettings, rows: ModelRows
) -> Opened:
    """The same for the model of that id."""
    card, classifier, golden = _open(registry, model_id, settings)
    rule = rule_of(card, settings)
    judging = Judging(
        classifier=_aimed(classifier, rule, settings),
        model_pk=rows.model_pk(model_id, card.files[MODEL_FILE], card.to_json()),
        rule=rule,
        runtime=settings.runtime,
        precision=settings.precision,
        mm_per_px=card.mm_per_px,
    )
    return Opened(judging, golden)


def under(judging: Judging, rule: Rule, settings: ModelSettings) -> Judging:
    """The same model by another rule."""
    return replace(judging, rule=rule, classifier=_aimed(judging.classifier, rule, settings))


def _aimed(classifier: Classifier, rule: Rule, settings: ModelSettings) -> Classifier:
    """With precision "fast": exact for each picture whose score could decide anything."""
    if not isinstance(classifier, FastClassifier):
        return classifier
    lines = [rule.threshold, rule.tiled_threshold]
    if rule.second_look_from is not None:
        lines.append(rule.second_look_from)
    if settings.review_band is not None:
        lines.append(settings.review_band.low)
    return classifier.aimed(lines)


def _open(
    registry: Registry, model_id: str, settings: ModelSettings
) -> tuple[Card, Classifier, GoldenSet]:
    card = registry.verify(model_id)
    folder = registry.folder_of(model_id)
    classifier = load(folder, card, settings.runtime, settings.precision)
    return card, classifier, golden_set(folder, card, settings.runtime)
