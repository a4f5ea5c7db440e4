"""Which pictures are learned from in which part of a training; decodes nothing and trains nothing."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from crackwatch import dataset
from crackwatch.dataset import Kinship, Leaks, Pictures
from crackwatch.errors import ModelError, UsageError
from crackwatch.registry import MODEL_FILE, Card, Registry
from crackwatch.training.crew import Job
from crackwatch.training.recipes import CONTINUED, NOTEBOOK, QUICK, STATION, Recipe, notebook_split
from crackwatch.training.sources import Sources

WORK_FOLDER = ".training"
WHOLE = "whole"

Progress = Callable[[int, int], None]
Relate = Callable[[Pictures, Progress], Kinship]
Promotion = Literal["auto", "always", "never"]


class Watcher(Protocol):
    """Is told how far the planning is."""

    def stage(self, text: str) -> None: ...
    def comparing(self, done: int, total: int) -> None: ...


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked for. ``data`` holds the labelled folders, and ``reviewed/`` if there is one.

    ``reviewed`` is where the station keeps what its people judged, should that lie elsewhere.
    ``threshold`` is the station's own, by which it judges whatever the model says, or None.
    ``mm_per_px`` is what somebody says of these pictures, ``station_mm_per_px`` what the settings
    say of the station's photographs; None: nothing.
    """

    data: Path
    recipe: Literal["notebook", "station"]
    seed: int
    promote: Promotion
    quick: bool = False
    epochs: int | None = None  # None: the recipe's own
    workers: int | None = None  # None: one a core, as far as memory goes
    replay_days: int = 7
    miss_costs: float = 10.0  # false alarms that a missed crack is worth
    threshold: float | None = None
    reviewed: Path | None = None
    asked_by: str = "retrain"
    mm_per_px: float | None = None
    station_mm_per_px: float | None = None


@dataclass(frozen=True, slots=True)
class Scale:
    """What a pixel of the pictures shows of the wall; ``source`` says who says so, for a person."""

    mm_per_px: float
    source: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be learned, and in which parts."""

    pictures: Pictures
    recipe: Recipe
    parent: str | None  # the model whose weights are the start
    reviewed: NDArray[np.bool_]  # (N,)
    groups: NDArray[np.intp]  # (N,)
    folds: NDArray[np.int8]  # (N,), -1 where there are none
    train: NDArray[np.intp]  # what the whole model learns from
    held: NDArray[np.intp]  # what a recipe without folds holds back
    leaks: Leaks | None = None  # what a split by chance would have divided; None without folds
    taught: NDArray[np.bool_] | None = None  # (N,) what the parent knows: no fold undoes that
    scale: Scale | None = None  # None: nobody knows
    # positions of an anomaly and a normal that are one picture, encoded anew
    both_ways: tuple[tuple[int, int], ...] = ()


def make_plan(
    request: Request,
    found: Sources,
    parent: str | None,
    pictures: Pictures,
    relate: Relate,
    watcher: Watcher,
) -> Plan:
    """Refuses too little, and divides the rest."""
    dataset.require_enough(pictures, found.places, found.minimum)
    recipe = recipe_of(request, parent)
    reviewed = np.array([path in found.reviewed for path in pictures.paths], dtype=bool)
    everything = np.arange(len(pictures), dtype=np.intp)
    none = np.full(len(pictures), -1, dtype=np.int8)
    if not recipe.folds:
        split = notebook_split(pictures.labels, request.seed)
        return Plan(
            pictures, recipe, parent, reviewed, everything, none, split.train, split.validation
        )
    watcher.stage("looking for pictures that show the same concrete")
    kin = relate(pictures, watcher.comparing)
    fold_of = dataset.folds(pictures, kin.group_of, recipe.folds, request.seed)
    return Plan(
        pictures,
        recipe,
        parent,
        reviewed,
        kin.group_of,
        fold_of,
        train=everything,
        held=np.empty(0, np.intp),
        leaks=dataset.leaks(kin, pictures.labels, fold_of),
        both_ways=tuple(dataset.labelled_both_ways(kin, pictures.labels)),
    )


def scale_of(request: Request, parent: Card | None, champion: Card | None) -> Scale | None:
    """The scale of what a model learns from, as far as anybody knows it.

    What was said of the pictures goes first. Weights that go on keep their scale. Else, what a
    station cuts from its photographs has the champion's scale where that and the station's are
    known, for it is brought to that, and the station's where only this is. Without the station's
    nobody knows.
    """
    if request.mm_per_px is not None:
        return Scale(request.mm_per_px, "as was said with --mm-per-px")
    if parent is not None and parent.mm_per_px is not None:
        return Scale(parent.mm_per_px, f"that of {parent.id}, whose weights went on")
    own = request.station_mm_per_px
    if own is None:
        return None
    if champion is not None and champion.mm_per_px is not None:
        return Scale(
            champion.mm_per_px, f"that of {champion.id}, to which this station's crops are brought"
        )
    return Scale(own, "as [images] mm_per_px says of this station's photographs")


def recipe_of(request: Request, parent: str | None) -> Recipe:
    """What was asked for, as a recipe. Raises UsageError where that is none."""
    if request.recipe == "notebook":
        if request.quick:
            raise UsageError(
                "the notebook's recipe takes a minute or two: it has no quick form",
                "Leave out --quick.",
            )
        recipe = NOTEBOOK
    elif parent is not None:
        recipe = CONTINUED
    else:
        recipe = QUICK if request.quick else STATION
    if request.epochs is not None:
        if request.epochs < 1:
            raise UsageError(f"{request.epochs} epochs teach nothing", "Give --epochs at least 1.")
        recipe = replace(recipe, epochs=request.epochs)
    return recipe


def leaked(leaks: Leaks) -> str:
    """In words: which pairs a split by chance would have divided."""
    return (
        f"{leaks.equal} of equal pixels, {leaks.near} near duplicates, "
        f"{leaks.overlapping} overlapping crops"
    )


def counts(pictures: Pictures, positions: NDArray[np.intp]) -> dict[str, int]:
    anomalies = int(pictures.labels[positions].sum())
    return {"anomaly": anomalies, "normal": len(positions) - anomalies}


def work_folder(registry: Registry, plan: Plan, seed: int) -> Path:
    """Where unfinished trainings of these very pictures are kept; others' are cleared away.

    Of these pixels, too: another decoder, or ``images.larger``, makes others of the same file.
    """
    digest = hashlib.sha256(f"{seed} {plan.parent}".encode())
    pictures = plan.pictures
    for sha256, pixels, label, fold in zip(
        pictures.sha256,
        pictures.pixel_hashes,
        pictures.labels.tolist(),
        plan.folds.tolist(),
        strict=True,
    ):
        digest.update(sha256 + pixels + bytes((label, fold + 1)))
    folder = registry.folder / WORK_FOLDER / digest.hexdigest()[:16]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for other in folder.parent.iterdir():
            if other != folder:
                shutil.rmtree(other)
    except OSError as exc:
        raise ModelError(
            f"{folder}: cannot be made: {exc.strerror}",
            "Check the permissions of the models folder and the space on its disk.",
        ) from exc
    return folder


def jobs_of(registry: Registry, plan: Plan, seed: int) -> list[Job]:
    """One training of everything, and one a fold; positions are those of the pixel cache.

    The longest comes first: side by side with the others, the last of them then end together.
    """
    pictures = plan.pictures
    labels = np.zeros(int(pictures.slots.max()) + 1, np.int8)
    labels[pictures.slots] = pictures.labels
    start = None
    if plan.parent is not None:
        registry.verify(plan.parent)
        start = registry.folder_of(plan.parent) / MODEL_FILE

    def job(name: str, seed: int, train: NDArray[np.intp], held: NDArray[np.intp]) -> Job:
        slots = pictures.slots
        return Job(name, plan.recipe, seed, labels, slots[train], slots[held], start)

    jobs = [
        job(
            f"fold-{fold + 1}",
            seed + fold,
            np.flatnonzero(plan.folds != fold),
            np.flatnonzero(plan.folds == fold),
        )
        for fold in range(plan.recipe.folds)
    ]
    return [job(WHOLE, seed, plan.train, plan.held), *jobs]


def describe(plan: Plan) -> str:
    count = counts(plan.pictures, plan.train)
    text = f"learning from {count['anomaly']} anomalies and {count['normal']} normals"
    if plan.recipe.folds:
        text += f", in {plan.recipe.folds} folds and as a whole"
        if plan.leaks is not None and plan.leaks.total:
            text += f"; {plan.leaks.total} pairs would have leaked in a split by chance: {leaked(plan.leaks)}"
    else:
        held = counts(plan.pictures, plan.held)
        text += f", holding back {held['anomaly']} and {held['normal']}"
    return f"{text}, continuing from {plan.parent}" if plan.parent else text
