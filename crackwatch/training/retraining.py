"""The whole of a retraining: data, folds, calibration, proof, comparison, promotion, replay.

It sees decoder, runtimes and the station's books as functions, and publishes through the registry
alone: until the last step nothing of a run is visible. Keras works in processes of their own, and
here only once there is something to publish.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from crackwatch import dataset, evaluation, learned, locking
from crackwatch.dataset import Decode, Leaks, Problem
from crackwatch.errors import LockedError, ModelError
from crackwatch.escaping import path_text
from crackwatch.evaluation import Measures
from crackwatch.registry import Card, Registry, new_id
from crackwatch.runtime import Classifier
from crackwatch.training import crew, honest, replaying, sources
from crackwatch.training.deciding import (
    Duel,
    Judged,
    Suspect,
    audit,
    decision_of,
    in_force,
    judge,
    suspects_of,
)
from crackwatch.training.describing import (
    WITHOUT_REFERENCE,
    Light,
    Trained,
    card_of,
    learned_of,
    reference_in,
    scores_in,
    tiled_in,
    unrelated,
)
from crackwatch.training.gate import Comparison
from crackwatch.training.operating import champion_in, operating_point
from crackwatch.training.planning import (
    WHOLE,
    WORK_FOLDER,
    Plan,
    Relate,
    Request,
    Scale,
    counts,
    describe,
    jobs_of,
    make_plan,
    recipe_of,
    scale_of,
    work_folder,
)
from crackwatch.training.recipes import steps_per_epoch
from crackwatch.training.replaying import Lately, Replay

if TYPE_CHECKING:
    from crackwatch.training.making import Exporting


_LOCK = ".training.lock"
_MADE = "made"  # of the work folder: the model's files until they are published
_LOCK_WAIT_S = 60.0  # for whoever promotes or tunes a model just then: it takes a second or two
_LOCK_ASK_EVERY_S = 0.5


class Watcher(crew.CrewWatcher, Protocol):
    """Is told how far a run is."""

    def stage(self, text: str) -> None: ...
    def loading(self, done: int, total: int) -> None: ...
    def comparing(self, done: int, total: int) -> None: ...
    def training(
        self, steps: Mapping[str, int]
    ) -> None: ...  # steps of each job that is to be done


@dataclass(frozen=True, slots=True)
class Tools:
    """What the procedure needs of the outside world."""

    decode: Decode
    exporting: Callable[[], Exporting]  # the runtimes, Keras among them
    open_classifier: Callable[[Path, Card], Classifier]  # of a folder and its card, without Keras
    relate: Relate
    light: Light
    recent: Callable[[int], Lately]  # what was inspected in so many last days


@dataclass(frozen=True, slots=True)
class Result:
    """What came of it. ``validation`` counts the pictures that the two were compared on."""

    model: str
    promoted: bool
    reason: str
    seconds: float
    train: dict[str, int]
    validation: dict[str, int]
    champion: Duel | None
    challenger: Duel
    comparison: Comparison | None
    leaks: Leaks | None  # pairs that a split by chance would have divided; None without folds
    unrelated: Measures | None  # the challenger's where no picture is part of any pair; as leaks
    suspects: tuple[Suspect, ...]
    replay: Replay
    problems: tuple[Problem, ...]
    both_ways: tuple[tuple[str, str], ...]  # one picture, encoded anew: as anomaly, as normal
    tells_drift: bool  # whether the card says what its pictures look like

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
            "comparison": asdict(self.comparison) if self.comparison else None,
            "leaks": asdict(self.leaks) if self.leaks else None,
            "challenger_without_overlaps": self.unrelated.as_json() if self.unrelated else None,
            "suspects": [asdict(suspect) for suspect in self.suspects],
            "replay": self.replay.as_json(),
            "problems": [asdict(problem) for problem in self.problems],
            "tells_drift": self.tells_drift,
            "labelled_both_ways": [
                {"anomaly": anomaly, "normal": normal} for anomaly, normal in self.both_ways
            ],
        }


@dataclass(frozen=True, slots=True)
class Challenger:
    """A model that is made and not published yet: its files, its card, and what was found out.

    ``scores`` are (N,), NaN where none is honest.
    """

    folder: Path
    card: Card
    scores: NDArray[np.float64]
    suspects: tuple[Suspect, ...]
    replay: Replay


@contextmanager
def alone(registry: Registry) -> Iterator[None]:
    """Holds off other trainings, not promotions or rollbacks. Raises LockedError naming the holder."""
    file = registry.folder / _LOCK
    try:
        registry.folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise ModelError(
            f"{registry.folder}: cannot be made: {exc.strerror}", "Check its permissions."
        ) from exc
    with locking.held(file, f"the training of {registry.folder}"):
        yield


def retrain(registry: Registry, request: Request, tools: Tools, watcher: Watcher) -> Result:
    """Trains a challenger, publishes it if its export agrees, and promotes it if it is no worse.

    Other trainings are held off; the models' lock is taken only to decide, publish and promote, so
    that a rollback never waits for a training. What was finished of an interrupted run is taken up
    by the next one with the same data and seed. Raises LockedError, DatasetError, TrainingFailed,
    ModelError, or ModelDisagrees where the export does not agree.
    """
    started = time.monotonic()
    with alone(registry):
        champion_id = registry.champion()
        found = sources.find(
            request.data, request.recipe, champion_id is not None, request.reviewed
        )
        parent = champion_id if found.continues else None
        recipe_of(request, parent)  # a wish that cannot be met is told before minutes of reading
        watcher.stage(f"reading {len(found.files)} pictures")
        with dataset.load(
            found.files, tools.decode, registry.folder, watcher.loading, found.reviewed
        ) as pictures:
            plan = make_plan(request, found, parent, pictures, tools.relate, watcher)
            if plan.parent is not None:
                start, known = honest.starting_point(registry, plan.parent, pictures, plan.groups)
                plan = replace(plan, parent=start, taught=known)
            plan = replace(plan, scale=_scale(registry, request, plan.parent, champion_id))
            if plan.scale is not None:
                watcher.stage(f"{plan.scale.mm_per_px:g} mm a pixel, {plan.scale.source}")
            work = work_folder(registry, plan, request.seed)
            trained = _train(registry, request, plan, work, watcher)
            watcher.stage("calibrating, exporting, comparing")
            result = _publish(registry, request, plan, trained, work, tools, started)
        shutil.rmtree(registry.folder / WORK_FOLDER, ignore_errors=True)
    return result


# -------------------------------------------------------------------------------------- training


def _train(
    registry: Registry, request: Request, plan: Plan, work: Path, watcher: Watcher
) -> Trained:
    jobs = jobs_of(registry, plan, request.seed)
    watcher.stage(describe(plan))
    watcher.training(
        {
            job.name: job.recipe.epochs * steps_per_epoch(job.recipe, job.labels, job.train)
            for job in jobs
        }
    )
    outcomes = crew.run(
        jobs,
        work,
        plan.pictures.cache.descriptor,
        request.workers or crew.workers_for(len(jobs)),
        watcher,
    )
    logits = np.full(len(plan.pictures), np.nan)
    for fold in range(plan.recipe.folds):
        logits[plan.folds == fold] = outcomes[f"fold-{fold + 1}"].logits
    if plan.taught is not None:
        logits[plan.taught] = np.nan
    found, threshold = operating_point(registry, request, plan, logits)
    # as they will be read again when this model is the champion: to the last bit the same verdicts
    kept = found(logits).astype(np.float32).astype(np.float64)
    parent = registry.card(plan.parent) if plan.parent is not None else None
    tiled = tiled_in(plan, kept, threshold.value, parent, champion_in(registry))
    return Trained(kept, found, threshold, tiled, outcomes[WHOLE])


def _scale(
    registry: Registry, request: Request, parent: str | None, champion: str | None
) -> Scale | None:
    cards: list[Card | None] = []
    for model_id in (parent, champion):
        try:
            cards.append(None if model_id is None else registry.card(model_id))
        except ModelError:  # the comparison tells what is wrong with it
            cards.append(None)
    return scale_of(request, *cards)


# ------------------------------------------------------------------------------------ publishing


def _publish(
    registry: Registry,
    request: Request,
    plan: Plan,
    trained: Trained,
    work: Path,
    tools: Tools,
    started: float,
) -> Result:
    """Makes, compares, decides, publishes, promotes, in this order."""
    from crackwatch.training.quiet import start_tensorflow

    start_tensorflow()  # before anything imports Keras, for its lines help nobody
    from crackwatch.training import making

    pictures, threshold = plan.pictures, trained.threshold.value
    with _new_folder(work / _MADE) as made:
        learned.write(made, learned_of(registry, plan, trained))
        card, classifier = making.make(
            made,
            trained.whole.model,
            trained.calibration,
            lambda sha256, now, normalisation, golden: card_of(
                request,
                plan,
                trained,
                new_id(plan.recipe.name, now, sha256),
                now,
                normalisation,
                golden,
                making.libraries(),
            ),
            pictures,
            threshold,
            tools.exporting(),
        )
    scores = expit(trained.logits)
    if not plan.recipe.folds:
        scores[plan.held] = honest.scores_of(classifier, pictures, plan.held)
    replay = replaying.replay(
        classifier,
        in_force(request, threshold),
        tools.recent(request.replay_days),
        tools.decode,
    )
    suspects = suspects_of(plan, scores, audit(plan, scores, np.ones(len(pictures), bool)))
    reference = reference_in(plan, scores, threshold, tools.light)
    described = card.model_copy(
        update={
            "scores": scores_in(plan, scores, threshold),
            "reference": reference,
            "notes": card.notes if reference else (*card.notes, WITHOUT_REFERENCE),
        }
    )

    def rival() -> honest.Champion | str:
        return honest.champion_scores(registry, tools.open_classifier, pictures, plan.groups)

    challenger = Challenger(made, described, scores, suspects, replay)
    model, verdict = enter(registry, request, plan, challenger, rival)
    compared = verdict.positions

    def measured(positions: NDArray[np.intp]) -> Measures:
        labels = pictures.labels[positions]
        return evaluation.measure(scores[positions], labels, in_force(request, threshold))

    return Result(
        model=model,
        promoted=verdict.promoted,
        reason=verdict.reason,
        seconds=time.monotonic() - started,
        train=counts(pictures, plan.train),
        validation=counts(pictures, compared),
        champion=verdict.champion,
        challenger=Duel(model, measured(compared)),
        comparison=verdict.comparison,
        leaks=plan.leaks,
        unrelated=measured(compared[unrelated(plan)[compared]]) if plan.recipe.folds else None,
        suspects=suspects,
        replay=replay,
        problems=pictures.problems + pictures.contradictions,
        both_ways=tuple(
            (path_text(pictures.paths[anomaly]), path_text(pictures.paths[normal]))
            for anomaly, normal in plan.both_ways
        ),
        tells_drift=reference is not None,
    )


def enter(
    registry: Registry,
    request: Request,
    plan: Plan,
    challenger: Challenger,
    rival: Callable[[], honest.Champion | str],
) -> tuple[str, Judged]:
    """Decides, publishes, and promotes if that was decided; the model's id, and the decision.

    ``rival`` gives the champion, or says why there is none. Wherever this is killed, no card tells
    of a promotion that did not happen.
    """
    scores, own = challenger.scores, challenger.card.threshold
    champion = rival()
    with _patiently(registry), registry.staging() as staged:
        # From here on nobody promotes or tunes. Who did so since has another champion to beat.
        if not honest.still(registry, champion):
            champion = rival()
        verdict = judge(request, plan, scores, own, champion)
        for entry in challenger.folder.iterdir():
            entry.rename(staged / entry.name)
        decision = decision_of(request, verdict, challenger.suspects, challenger.replay)
        # That it was promoted enters its card by the promotion itself: were it published with it,
        # and this process killed before the next line, the card would tell what never happened.
        known = () if verdict.promoted else (decision,)
        card = challenger.card.model_copy(update={"decisions": known})
        model = registry.publish(staged, card)
        if verdict.promoted:
            registry.promote(model, decision)
    return model, verdict


@contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    """An empty folder to write a model's files into. Raises ModelError where the disk will not."""
    try:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        yield folder
    except OSError as exc:
        raise ModelError(
            f"{exc.filename or folder}: cannot be written: {exc.strerror or exc}",
            "Check the space on the disk of the models folder and its permissions, and start the "
            "training again: what is finished is kept.",
        ) from exc


@contextmanager
def _patiently(registry: Registry) -> Iterator[None]:
    """Holds the models' lock; waits a while for whoever has it. Raises LockedError after that."""
    deadline = time.monotonic() + _LOCK_WAIT_S
    with ExitStack() as held:
        while True:
            try:
                held.enter_context(registry.lock())
                break
            except LockedError:
                if time.monotonic() >= deadline:
                    raise
                time.sleep(_LOCK_ASK_EVERY_S)
        yield


def problem_lines(problems: Sequence[Problem], limit: int = 10) -> list[str]:
    """Lines for a person: the first few files that were left out, and how many more there are."""
    lines = [f"left out: {problem.path}: {problem.reason}" for problem in problems[:limit]]
    if len(problems) > limit:
        lines.append(f"left out: {len(problems) - limit} more")
    return lines
