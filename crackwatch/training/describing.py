"""What a model's card and its ``learned.npz`` say of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from crackwatch import dataset, evaluation, learned, likeness, tiled_promise, tiled_words
from crackwatch.errors import PromiseError
from crackwatch.labelled_scores import Examples
from crackwatch.learned import Learned
from crackwatch.registry import Card, DataOrigin, Golden, Registry, Threshold, TiledThreshold
from crackwatch.training.calibration import Calibration
from crackwatch.training.crew import Outcome
from crackwatch.training.planning import Plan, Request, counts

if TYPE_CHECKING:
    from crackwatch.lenet import Normalisation

Light = Callable[[NDArray[np.uint8]], tuple[NDArray[np.float64], NDArray[np.float64]]]


@dataclass(frozen=True, slots=True)
class Trained:
    """What the trainings came to. ``logits``, (N,), are calibrated, NaN where none is honest.

    ``tiled`` is the threshold of photographs, or says why there is none.
    """

    logits: NDArray[np.float64]
    calibration: Calibration
    threshold: Threshold
    tiled: TiledThreshold | str
    whole: Outcome


def card_of(
    request: Request,
    plan: Plan,
    trained: Trained,
    model_id: str,
    now: datetime,
    normalisation: Normalisation,
    golden: Golden,
    libraries: dict[str, str],
) -> Card:
    pictures = plan.pictures
    sizes = {"train": counts(pictures, plan.train)}
    if plan.recipe.folds:
        reviewed = np.flatnonzero(plan.reviewed)
        sizes["reviewed"] = counts(pictures, reviewed)
    else:
        sizes["validation"] = counts(pictures, plan.held)
    return Card(
        id=model_id,
        created_at=now,
        architecture="lenet-227",
        parameters=1,  # counted when it is made
        recipe=plan.recipe.name,
        recipe_settings=asdict(plan.recipe)
        | {"normalisation": asdict(normalisation), "history": list(trained.whole.epochs)},
        seed=request.seed,
        libraries=libraries,
        data=DataOrigin(name=request.data.resolve().name, sha256=pictures.data_hash, counts=sizes),
        threshold=trained.threshold,
        tiled=None if isinstance(trained.tiled, str) else trained.tiled,
        temperature=trained.calibration.temperature,
        shift=trained.calibration.shift,
        mm_per_px=None if plan.scale is None else plan.scale.mm_per_px,
        scores={},
        parent=plan.parent,
        golden=golden,
        notes=_notes(plan, trained),
    )


def tiled_in(
    plan: Plan,
    logits: NDArray[np.float64],
    own: float,
    parent: Card | None,
    champion: Card | None = None,
) -> TiledThreshold | str:
    """The threshold of photographs that a card gets by itself, or why it gets none.

    ``logits`` (N,) are calibrated, NaN where none is honest; ``own`` is the threshold of single
    pictures. The ``champion``'s is kept if photographs told it: calibrated scores mean the same of
    both models, and an estimate from crops knows less. With too few scores it is the ``parent``'s,
    whose weights went on.
    """
    if not plan.recipe.folds:
        return "no picture was scored by a model that had not learned from it"
    if champion is not None and champion.tiled is not None and champion.tiled.on == "photographs":
        return _kept(
            champion,
            own,
            "photographs told it. Prove it of this model with 'crackwatch tune --photographs DIR'",
        )
    scored = np.isfinite(logits)
    examples = Examples.of_logits(logits[scored], plan.pictures.labels[scored], plan.groups[scored])
    try:
        return tiled_by_default(examples, own, plan.reviewed[scored])
    except PromiseError as exc:
        if parent is None or parent.tiled is None:
            return exc.problem
        return _kept(parent, own, exc.problem)


def _kept(other: Card, own: float, why: str) -> TiledThreshold:
    """Another model's rule for photographs, never below ``own``; what was proved of it is not kept."""
    assert other.tiled is not None
    return other.tiled.model_copy(
        update={
            "value": max(other.tiled.value, own),
            "chosen_by": f"kept from {other.id}: {why}",
            "promise": None,
        }
    )


def tiled_by_default(examples: Examples, own: float, reviewed: NDArray[np.bool_]) -> TiledThreshold:
    """As a card has it where nobody asked: see ``tiled_promise.for_card``. Raises PromiseError.

    ``own`` is the threshold of single pictures, ``reviewed`` (N,) says which labels are a person's
    at the station.
    """
    found = tiled_promise.for_card(examples, own, reviewed)
    wish = found.wish
    return TiledThreshold(
        value=found.threshold,
        min_tiles=wish.min_tiles,
        tiles=wish.tiles,
        chosen_by=(
            f"by default for {tiled_words.goal_text(wish)}, on scores out of fold; rests on "
            f"{tiled_words.basis_text(found)}; {tiled_words.rate_text(found)}"
        ),
    )


def _notes(plan: Plan, trained: Trained) -> tuple[str, ...]:
    notes = []
    if isinstance(trained.tiled, str):
        notes.append(
            "Photographs are judged by the threshold of single pictures, tile by tile, and raise "
            f"more false alarms than those: {trained.tiled}. 'crackwatch tune --tiles N --data DIR' "
            "chooses a threshold of their own."
        )
    if plan.recipe.folds:
        notes.append(
            "scores.out_of_fold: each picture scored by a model that had learned neither from it "
            "nor from any that shows the same concrete. What was chosen by these scores is the "
            "calibration, two numbers; the published model learned from all pictures."
        )
    else:
        notes.append("The pictures held back are the notebook's: normals only. They say nothing.")
    if plan.parent is not None:
        notes.append(
            f"Continued from the weights of {plan.parent} at a low rate, on reviewed pictures "
            "alone: there was no base data."
        )
        if plan.taught is not None and plan.taught.any():
            notes.append(
                f"{int(plan.taught.sum())} pictures have no honest score: {plan.parent} had learned "
                "from them, or from pictures that show the same."
            )
    if plan.scale is not None:
        notes.append(
            f"A pixel of its pictures shows {plan.scale.mm_per_px:g} mm, {plan.scale.source}; nothing "
            "in the pictures proves it."
        )
    left_out = len(plan.pictures.problems) + len(plan.pictures.contradictions)
    if left_out:
        notes.append(f"{left_out} files were left out: unreadable, or labelled both ways.")
    return tuple(notes)


def scores_in(
    plan: Plan, scores: NDArray[np.float64], threshold: float
) -> dict[str, dict[str, Any]]:
    labels = plan.pictures.labels
    if not plan.recipe.folds:
        held = evaluation.measure(scores[plan.held], labels[plan.held], threshold)
        return {"validation": held.as_json()}
    scored = np.isfinite(scores)
    found = {"out_of_fold": evaluation.measure(scores[scored], labels[scored], threshold).as_json()}
    single = scored & unrelated(plan)
    if labels[single].any() and single.sum() < scored.sum():
        alone_ones = evaluation.measure(scores[single], labels[single], threshold)
        found["out_of_fold_without_overlaps"] = alone_ones.as_json()
    return found


def unrelated(plan: Plan) -> NDArray[np.bool_]:
    """(N,) which pictures are no copy and no overlapping crop of any other.

    A split by chance is flattered by the others alone.
    """
    _, member, sizes = np.unique(plan.groups, return_inverse=True, return_counts=True)
    return np.asarray(sizes[member] == 1)


def learned_of(registry: Registry, plan: Plan, trained: Trained) -> Learned:
    """What travels with the model; with a parent, what that one learned from as well.

    The parent's rows lose their scores: these weights are others.
    """
    pictures, chosen = plan.pictures, np.unique(plan.train)
    mine = Learned(
        pixel_hashes=np.frombuffer(
            b"".join(pictures.pixel_hashes[position] for position in chosen), np.uint8
        ).reshape(-1, learned.HASH_BYTES),
        textures=dataset.texture_bits(pictures.folded[chosen]),
        labels=pictures.labels[chosen],
        groups=plan.groups[chosen].astype(np.int32),
        folds=plan.folds[chosen],
        logits=trained.logits[chosen].astype(np.float32),
        reviewed=plan.reviewed[chosen],
    )
    if plan.parent is None:
        return mine
    before = learned.read(registry.folder_of(plan.parent))
    return mine if before is None else learned.after(before, mine)


WITHOUT_REFERENCE = (
    f"Fewer than {likeness.MIN_PICTURES} of its pictures have an honest score below its threshold, so "
    "that nothing says what its pictures look like: drift cannot be told with it."
)


def reference_in(
    plan: Plan, scores: NDArray[np.float64], threshold: float, light: Light
) -> dict[str, Any] | None:
    """What the pictures look like, for drift; None where too few have an honest score."""
    honest_ones = np.flatnonzero(np.isfinite(scores))
    if int((scores[honest_ones] < threshold).sum()) < likeness.MIN_PICTURES:
        return None
    bright: list[float] = []
    sharp: list[float] = []
    for start in range(0, len(honest_ones), 64):
        pixels = plan.pictures.get(honest_ones[start : start + 64])
        for values, found in zip((bright, sharp), light(pixels), strict=True):
            values.extend(found.tolist())
    return likeness.reference_of(scores[honest_ones].tolist(), bright, sharp, threshold).document()
