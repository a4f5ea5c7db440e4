"""Scores that a model could not have learned by heart, for every picture that has one; no pixels.

Out of fold where the model learned from the picture, its own score where it learned neither from it
nor from one that shows the same concrete, and else none.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from crackwatch import dataset, learned
from crackwatch.dataset import Pictures
from crackwatch.errors import ModelError
from crackwatch.learned import Learned
from crackwatch.registry import Card, Guarantee, Registry
from crackwatch.runtime import Classifier

_SCORING_BATCH = 64

Open = Callable[[Path, Card], Classifier]  # of a model's folder and its card


def scores_of(
    classifier: Classifier, pictures: Pictures, positions: NDArray[np.intp]
) -> NDArray[np.float32]:
    """What the model says itself, (len(positions),)."""
    found = [np.empty(0, np.float32)]
    for start in range(0, len(positions), _SCORING_BATCH):
        found.append(classifier.scores(pictures.get(positions[start : start + _SCORING_BATCH])))
    return np.concatenate(found)


@dataclass(frozen=True, slots=True)
class Champion:
    """The champion, as a challenger meets it. ``scores`` are (N,), NaN where none is honest.

    ``promise`` is what its threshold was chosen to keep, None where it promises nothing.
    """

    id: str
    threshold: float
    scores: NDArray[np.float64]
    note: str  # how honest they are, for a person
    promise: Guarantee | None = None


def taught(known: Learned, pictures: Pictures, groups: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Which pictures a model has learned from, or from one that shows the same concrete; (N,).

    ``groups`` (N,) tells which show the same. Of what is no longer among ``pictures``, copies are
    found by their texture bits; crops that overlap it are not.
    """
    hashes = {bytes(digest) for digest in np.ascontiguousarray(known.pixel_hashes)}
    seen = np.array([digest in hashes for digest in pictures.pixel_hashes], dtype=bool)
    near = dataset.near_duplicates(dataset.texture_bits(pictures.folded), known.textures)
    seen[near[:, 0]] = True
    return np.isin(groups, groups[seen])


def starting_point(
    registry: Registry, champion_id: str, pictures: Pictures, groups: NDArray[np.intp]
) -> tuple[str, NDArray[np.bool_]]:
    """The model to continue from, and which of ``pictures`` it has been taught; (N,).

    The champion, unless it was itself continued from a model that knows fewer of these pictures:
    whatever goes on from weights that know a picture has no honest score of it. Models that are
    gone or damaged, or do not tell what they learned from, are passed by.
    """
    best, of_best = champion_id, np.zeros(len(pictures), dtype=bool)
    model_id: str | None = champion_id
    while model_id is not None:
        try:
            card = registry.verify(model_id)
            known = learned.read(registry.folder_of(model_id))
        except ModelError:
            break
        if known is None:
            break
        of_it = taught(known, pictures, groups)
        if model_id == champion_id or of_it.sum() < of_best.sum():
            best, of_best = model_id, of_it
        model_id = card.parent if of_best.any() else None
    return best, of_best


def champion_scores(
    registry: Registry, open_model: Open, pictures: Pictures, groups: NDArray[np.intp]
) -> Champion | str:
    """The champion's scores of ``pictures``; why there are none, for a person, if it has none.

    ``groups`` (N,) tells which pictures show the same concrete.
    """
    try:
        model_id = registry.champion()
        if model_id is None:
            return "there was no champion"
        card = registry.verify(model_id)
        folder = registry.folder_of(model_id)
        known = learned.read(folder)
        classifier = open_model(folder, card)
    except ModelError as exc:
        return f"the champion cannot be used: {exc.problem}"
    scores = np.full(len(pictures), np.nan)
    if known is None:
        own = np.arange(len(pictures))
        note = (
            "the champion's card does not tell what it learned from: it may have learned from "
            "these pictures, which favours it"
        )
    else:
        rows = _rows_of(known, pictures)
        seen = rows >= 0
        scores[seen] = expit(known.logits[rows[seen]].astype(np.float64))
        related = taught(known, pictures, groups)
        own = np.flatnonzero(~related)
        judged = int(np.isfinite(scores).sum())
        note = (
            f"the champion judged {judged} of these pictures out of fold and {len(own)} that it "
            "had never seen"
        )
        if left_out := len(pictures) - judged - len(own):
            note += (
                f"; {left_out} are not compared: it learned from them or from pictures that show "
                "the same, and no fold held them back"
            )
    scores[own] = scores_of(classifier, pictures, own)
    return Champion(model_id, card.threshold.value, scores, note, card.threshold.promise)


def still(registry: Registry, met: Champion | str) -> bool:
    """Whether what ``champion_scores`` gave still tells of the champion; take the lock to be sure."""
    try:
        model_id = registry.champion()
        if isinstance(met, str) or model_id != met.id:
            return False
        return registry.card(model_id).threshold.value == met.threshold
    except ModelError:
        return False


def _rows_of(known: Learned, pictures: Pictures) -> NDArray[np.intp]:
    """The row of each picture that was learned from, -1 for the others; (N,).

    Equal pixels, turned or mirrored, have one hash and several rows, each with a score of its own:
    they are dealt out in order.
    """
    rows_of: dict[bytes, list[int]] = defaultdict(list)
    for row, digest in enumerate(np.ascontiguousarray(known.pixel_hashes)):
        rows_of[bytes(digest)].append(row)
    rows = np.full(len(pictures), -1, dtype=np.intp)
    for position, digest in enumerate(pictures.pixel_hashes):
        if found := rows_of.get(digest):
            rows[position] = found.pop(0) if len(found) > 1 else found[0]
    return rows
