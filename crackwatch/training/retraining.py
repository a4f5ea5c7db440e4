"""The whole of a retraining: data, fit, calibration, proof, comparison, promotion.

It sees the picture decoder and the runtime as functions, and publishes through the registry alone:
until the last step nothing of a run is visible.
"""

from __future__ import annotations

import importlib.metadata
import math
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Protocol

import keras
import numpy as np
from numpy.typing import NDArray

from crackwatch import dataset, evaluation, lenet
from crackwatch.agreement import compare_export, write_golden
from crackwatch.dataset import Decode, Pictures, Problem, Split
from crackwatch.errors import ModelError, ModelMissing, UsageError
from crackwatch.evaluation import Measures
from crackwatch.registry import (
    MODEL_FILE,
    Card,
    DataOrigin,
    Export,
    Golden,
    Registry,
    Threshold,
    new_id,
    sha256_of,
)
from crackwatch.runtime import Classifier
from crackwatch.training import calibration, fitting, sources
from crackwatch.training.fitting import Epoch, Fitted
from crackwatch.training.recipes import CONTINUED, NOTEBOOK, STATION, Recipe, notebook_split
from crackwatch.training.sources import Sources

# Below this many anomalies held back, a threshold would be theirs and not the model's.
_ENOUGH_FOR_THRESHOLD = 30
_GOLDEN_PER_CLASS = 16
# A golden picture this close to the threshold could change sides by rounding alone.
_GOLDEN_MARGIN = 0.01
_SCORING_BATCH = 64
_LIBRARIES = ("crackwatch", "tensorflow", "keras", "numpy", "opencv-python-headless", "openvino")

Promotion = Literal["auto", "always", "never"]


class Watcher(Protocol):
    """Is told how far a run is."""

    def stage(self, text: str) -> None: ...
    def loading(self, done: int, total: int) -> None: ...
    def step(self, epoch: int, step: int, steps: int) -> None: ...
    def epoch(self, epoch: Epoch) -> None: ...


@dataclass(frozen=True, slots=True)
class Tools:
    """What the procedure needs of the outside world."""

    decode: Decode
    export: Callable[[Path], None]  # makes the OpenVINO files beside a folder's lenet.keras
    open_classifier: Callable[[Path, Card], Classifier]  # of a folder and its card
    open_reference: Callable[[Path], Classifier]  # Keras, of a lenet.keras


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked for. ``data`` holds the labelled folders, and ``reviewed/`` if there is one."""

    data: Path
    recipe: Literal["notebook", "station"]
    seed: int
    promote: Promotion
    epochs: int | None = None  # None: the recipe's own


@dataclass(frozen=True, slots=True)
class Duel:
    """Champion and challenger on the same pictures, each at its own threshold."""

    model: str
    measures: Measures

    def as_json(self) -> dict[str, Any]:
        return {"id": self.model, **self.measures.as_json()}


@dataclass(frozen=True, slots=True)
class Result:
    """What came of it. ``validation`` are the pictures of the duel."""

    model: str
    promoted: bool
    reason: str
    seconds: float
    train: dict[str, int]
    validation: dict[str, int]
    champion: Duel | None
    challenger: Duel
    problems: tuple[Problem, ...]
    epochs: tuple[Epoch, ...]

    def as_json(self) -> dict[str, Any]:
        """The document of ``retrain --format json``."""
        return {
            "model": self.model,
            "promoted": self.promoted,
            "reason": self.reason,
            "seconds": round(self.seconds, 1),
            "train": self.train,
            "validation": self.validation,
            "champion": self.champion.as_json() if self.champion else None,
            "challenger": self.challenger.as_json(),
            "problems": [asdict(problem) for problem in self.problems],
        }


@dataclass(frozen=True, slots=True)
class _Data:
    """Everything there is to learn from, and which of it is learned from."""

    pictures: Pictures
    split: Split
    recipe: Recipe
    parent: str | None  # the model whose weights are the start


def retrain(registry: Registry, request: Request, tools: Tools, watcher: Watcher) -> Result:
    """Trains a challenger, publishes it if its export agrees, and promotes it if it is no worse.

    Holds the lock on the models folder throughout; an interrupted run leaves no trace that the next
    one does not clear. Raises LockedError, DatasetError, or ModelError where the export disagrees.
    """
    started = time.monotonic()
    with registry.lock(), registry.staging() as staged:
        champion_id = registry.champion()
        found = sources.find(request.data, request.recipe, champion_id is not None)
        watcher.stage(f"reading {len(found.files)} pictures")
        with dataset.load(found.files, tools.decode, registry.folder, watcher.loading) as pictures:
            parent = champion_id if found.continues else None
            data = _prepare(request, found, parent, pictures)
            fitting.make_deterministic(request.seed)
            watcher.stage(_describe(data))
            fitted = fitting.fit(
                data.recipe,
                data.pictures,
                data.split,
                request.seed,
                _weights_of(registry, data.parent),
                watcher.step,
                watcher.epoch,
            )
            watcher.stage("calibrating and exporting")
            card, challenger = _make(staged, registry, request, data, fitted, tools)
            champion, note = _champion_duel(registry, request, data, tools)
            model = registry.publish(staged, card)
        promoted, reason = judge(request, data.recipe, champion, challenger, note)
        if promoted:
            registry.promote(model)
    problems = data.pictures.problems + data.pictures.contradictions
    return Result(
        model=model,
        promoted=promoted,
        reason=reason,
        seconds=time.monotonic() - started,
        train=_counts(data, data.split.train),
        validation=_counts(data, data.split.validation),
        champion=champion,
        challenger=challenger,
        problems=problems,
        epochs=fitted.epochs,
    )


# ------------------------------------------------------------------------------------------ data


def _prepare(request: Request, found: Sources, parent: str | None, pictures: Pictures) -> _Data:
    """Refuses too little, and divides the rest."""
    if parent is not None:
        recipe = CONTINUED
    else:
        recipe = STATION if request.recipe == "station" else NOTEBOOK
    dataset.require_enough(pictures, found.places, found.minimum)
    if request.epochs is not None:
        if request.epochs < 1:
            raise UsageError(f"{request.epochs} epochs teach nothing", "Give --epochs at least 1.")
        recipe = replace(recipe, epochs=request.epochs)
    if recipe.name == NOTEBOOK.name:
        split = notebook_split(pictures.labels, request.seed)
    else:
        group_of = dataset.groups(pictures)
        split = dataset.split(pictures, group_of, recipe.held_back, request.seed)
    return _Data(pictures, split, recipe, parent)


def _counts(data: _Data, positions: NDArray[np.intp]) -> dict[str, int]:
    anomalies = int(data.pictures.labels[positions].sum())
    return {"anomaly": anomalies, "normal": len(positions) - anomalies}


def _describe(data: _Data) -> str:
    train, held = _counts(data, data.split.train), _counts(data, data.split.validation)
    text = (
        f"learning from {train['anomaly']} anomalies and {train['normal']} normals, "
        f"holding back {held['anomaly']} and {held['normal']}"
    )
    return f"{text}, continuing from {data.parent}" if data.parent else text


# ----------------------------------------------------------------------------------------- model


def _load(file: Path) -> keras.Model:
    """A saved LeNet, by Keras alone in safe mode. Raises ModelError if it cannot be loaded."""
    try:
        return keras.models.load_model(file, compile=False, safe_mode=True)
    except (OSError, ValueError, TypeError, KeyError) as exc:
        raise ModelError(
            f"{file}: Keras cannot load it: {exc}", "Use another model, or train again."
        ) from exc


def _weights_of(registry: Registry, parent: str | None) -> keras.Model | None:
    if parent is None:
        return None
    registry.verify(parent)
    return _load(registry.folder_of(parent) / MODEL_FILE)


def _make(
    staged: Path,
    registry: Registry,
    request: Request,
    data: _Data,
    fitted: Fitted,
    tools: Tools,
) -> tuple[Card, Duel]:
    """Writes the model's files into ``staged`` and proves that the export agrees with Keras."""
    temperature, threshold = _calibrate(registry, data, fitted)
    # Rebuilt without dropout and never compiled: no optimiser state, and fewer layers to export.
    model = lenet.build(lenet.normalisation_in(fitted.model))
    model.set_weights(fitted.model.get_weights())
    lenet.fold_temperature(model, temperature)
    model.save(staged / MODEL_FILE)
    by_keras = tools.open_reference(staged / MODEL_FILE)

    held = np.unique(data.split.validation)
    pictures = data.pictures
    reference = _classifier_scores(by_keras, pictures, held)
    golden = _choose_golden(data, held, reference, threshold.value)
    created_at = datetime.now(UTC).replace(microsecond=0)
    card = Card(
        id=new_id(request.recipe, created_at, sha256_of(staged / MODEL_FILE)),
        created_at=created_at,
        architecture=lenet.ARCHITECTURE,
        parameters=model.count_params(),
        recipe=data.recipe.name,
        recipe_settings=_settings(data, fitted),
        seed=request.seed,
        libraries={name: importlib.metadata.version(name) for name in _LIBRARIES}
        | {"python": platform.python_version()},
        data=DataOrigin(
            name=request.data.resolve().name,
            sha256=pictures.data_hash,
            counts={
                "train": _counts(data, data.split.train),
                "validation": _counts(data, data.split.validation),
            },
        ),
        threshold=threshold,
        temperature=temperature,
        scores={},
        parent=data.parent,
        golden=Golden(
            pixels_sha256=write_golden(staged, pictures.get(golden)),
            scores=tuple(_classifier_scores(by_keras, pictures, golden).tolist()),
        ),
        notes=_notes(data),
    )
    tools.export(staged)
    made = {file.name: sha256_of(file) for file in staged.iterdir() if file.is_file()}
    classifier = tools.open_classifier(staged, card.model_copy(update={"files": made}))
    exported = _classifier_scores(classifier, pictures, held)
    export: Export = compare_export(reference, exported, threshold.value)
    at = np.searchsorted(held, data.split.validation)
    labels = pictures.labels[data.split.validation]
    measures = evaluation.measure(exported[at], labels, threshold.value)
    finished = card.model_copy(
        update={"export": export, "scores": {"validation": measures.as_json()}}
    )
    return finished, Duel(card.id, measures)


def _calibrate(registry: Registry, data: _Data, fitted: Fitted) -> tuple[float, Threshold]:
    labels = data.pictures.labels[data.split.validation]
    anomalies = int(labels.sum())
    if not data.recipe.calibrated:
        return 1.0, Threshold(value=0.5, chosen_by="argmax, as the notebook does: not calibrated")
    if anomalies < _ENOUGH_FOR_THRESHOLD and data.parent is not None:
        parent = registry.card(data.parent)
        return 1.0, Threshold(
            value=parent.threshold.value,
            chosen_by=f"kept from {parent.id}: only {anomalies} anomalies were held back",
        )
    temperature = calibration.temperature(fitted.logits, labels)
    value = calibration.threshold(fitted.logits / temperature, labels)
    return temperature, Threshold(
        value=value,
        chosen_by=(
            f"largest smoothed F1 (each score blurred by {calibration.BANDWIDTH_LOGITS:g} logit) "
            f"on {anomalies} anomalies and {len(labels) - anomalies} normals held back"
        ),
    )


def _choose_golden(
    data: _Data, held: NDArray[np.intp], scores: NDArray[np.float32], threshold: float
) -> NDArray[np.intp]:
    """Pictures of both classes over the whole range of scores; from those held back if it can be.

    They check a runtime, not the model: where no anomaly is held back, learned ones do as well.
    """
    clear = np.abs(scores - threshold) > _GOLDEN_MARGIN
    chosen: list[int] = []
    for value in (1, 0):
        mine = np.flatnonzero(clear & (data.pictures.labels[held] == value))
        if not len(mine):
            learned = data.split.train[data.pictures.labels[data.split.train] == value]
            chosen.extend(learned[:_GOLDEN_PER_CLASS].tolist())
            continue
        ranked = mine[np.argsort(scores[mine], kind="stable")]
        spread = np.unique(np.linspace(0, len(ranked) - 1, _GOLDEN_PER_CLASS).round().astype(int))
        chosen.extend(held[ranked[spread]].tolist())
    return np.array(chosen, dtype=np.intp)


def _settings(data: _Data, fitted: Fitted) -> dict[str, Any]:
    normalisation = lenet.normalisation_in(fitted.model)
    return asdict(data.recipe) | {
        "normalisation": asdict(normalisation),
        "best_epoch": fitted.best_epoch,
        "history": [
            {
                key: None if isinstance(value, float) and math.isnan(value) else value
                for key, value in asdict(epoch).items()
                if key not in ("of", "seconds")
            }
            for epoch in fitted.epochs
        ],
    }


def _notes(data: _Data) -> tuple[str, ...]:
    notes = []
    if data.recipe.calibrated:
        notes.append(
            "Epoch, temperature and threshold were chosen on the pictures of scores.validation: "
            "those figures flatter a little."
        )
    else:
        notes.append("The pictures held back are the notebook's: normals only. They say nothing.")
    if data.parent is not None:
        notes.append(
            f"Continued from the weights of {data.parent} at a low rate, on reviewed pictures "
            "alone: there was no base data."
        )
    left_out = len(data.pictures.problems) + len(data.pictures.contradictions)
    if left_out:
        notes.append(f"{left_out} files were left out: unreadable, or labelled both ways.")
    return tuple(notes)


# ------------------------------------------------------------------------------------------ duel


def _classifier_scores(
    classifier: Classifier, pictures: Pictures, positions: NDArray[np.intp]
) -> NDArray[np.float32]:
    scores = [
        classifier.scores(pictures.get(positions[start : start + _SCORING_BATCH]))
        for start in range(0, len(positions), _SCORING_BATCH)
    ]
    return np.concatenate(scores)


def _champion_duel(
    registry: Registry, request: Request, data: _Data, tools: Tools
) -> tuple[Duel | None, str]:
    """How the champion fares on the pictures held back, and what is to be said of that."""
    try:
        model_id = registry.champion()
        if model_id is None:
            return None, "there was no champion"
        card = registry.verify(model_id)
        classifier = tools.open_classifier(registry.folder_of(model_id), card)
    except ModelMissing:
        return None, "there was no champion"
    except ModelError as exc:
        return None, f"the champion cannot be used: {exc.problem}"
    positions = data.split.validation
    scores = _classifier_scores(classifier, data.pictures, positions)
    labels = data.pictures.labels[positions]
    measures = evaluation.measure(scores, labels, card.threshold.value)
    return Duel(model_id, measures), _familiarity(card, request, data)


def _familiarity(champion: Card, request: Request, data: _Data) -> str:
    """What the champion may have seen of the pictures held back: its card tells seed and data.

    ``dataset.split`` goes by seed and pixels, so that growing data keep what was held back.
    """
    same_split = (
        champion.recipe == data.recipe.name == STATION.name and champion.seed == request.seed
    )
    same_data = champion.data.sha256 == data.pictures.data_hash
    if same_split and same_data:
        return "neither model learned from these pictures"
    if same_split:
        return (
            "the champion learned from few of these pictures, if any: the same seed held them back"
        )
    if same_data:
        return "the champion learned from most of these pictures, which favours it"
    return "whether the champion learned from some of these pictures is not known"


def judge(
    request: Request, recipe: Recipe, champion: Duel | None, challenger: Duel, note: str
) -> tuple[bool, str]:
    """Whether to promote, and why, for a person to read.

    ``auto``: if there is no champion, or if the challenger's F1 on the pictures held back, each
    model at its own threshold, is no smaller than the champion's.
    """
    if champion is None:
        promoted = request.promote != "never"
        return promoted, _sentence(promoted, note, request.promote)
    if challenger.measures.tp + challenger.measures.fn == 0:
        promoted = request.promote == "always"
        text = f"the recipe {recipe.name} held back no anomaly, so nothing can be compared"
        return promoted, _sentence(promoted, text, request.promote)
    mine, theirs = challenger.measures.f1 or 0.0, champion.measures.f1 or 0.0
    held = challenger.measures
    text = (
        f"F1 {mine:.4f} against the champion's {theirs:.4f} on {held.tp + held.fn} anomalies and "
        f"{held.fp + held.tn} normals held back ({held.fn} against {champion.measures.fn} escapes, "
        f"{held.fp} against {champion.measures.fp} false alarms); {note}"
    )
    promoted = {"always": True, "never": False, "auto": mine >= theirs}[request.promote]
    return promoted, _sentence(promoted, text, request.promote)


def _sentence(promoted: bool, text: str, promote: Promotion) -> str:
    asked = "" if promote == "auto" else f" (--promote {promote})"
    return f"{'promoted' if promoted else 'not promoted'}{asked}: {text}"


def problem_lines(problems: Sequence[Problem], limit: int = 10) -> list[str]:
    """Lines for a person: the first few files that were left out, and how many more there are."""
    lines = [f"left out: {problem.path}: {problem.reason}" for problem in problems[:limit]]
    if len(problems) > limit:
        lines.append(f"left out: {len(problems) - limit} more")
    return lines
