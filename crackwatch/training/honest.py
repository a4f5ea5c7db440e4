"""Scores that a model could not have learned by heart, for every picture that has one; no pixels.

Out of fold where the model learned from the picture, its own score where it did not, none where it
learned from it and no fold held it back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from crackwatch import learned
from crackwatch.dataset import Pictures
from crackwatch.errors import ModelError, ModelMissing
from crackwatch.registry import Card, Registry
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
    """The champion, as a challenger meets it. ``scores`` are (N,), NaN where none is honest."""

    id: str
    threshold: float
    scores: NDArray[np.float64]
    note: str  # how honest they are, for a person


def champion_scores(registry: Registry, open_model: Open, pictures: Pictures) -> Champion | str:
    """The champion's scores of ``pictures``; why there are none, for a person, if it has none."""
    try:
        model_id = registry.champion()
        if model_id is None:
            return "there was no champion"
        card = registry.verify(model_id)
        folder = registry.folder_of(model_id)
        known = learned.read(folder)
        classifier = open_model(folder, card)
    except ModelMissing:
        return "there was no champion"
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
        row_of = {
            bytes(digest): row
            for row, digest in enumerate(np.ascontiguousarray(known.pixel_hashes))
        }
        rows = np.array([row_of.get(digest, -1) for digest in pictures.pixel_hashes], np.intp)
        seen = rows >= 0
        scores[seen] = expit(known.logits[rows[seen]].astype(np.float64))
        own = np.flatnonzero(~seen)
        judged = int(np.isfinite(scores[seen]).sum())
        note = (
            f"the champion judged {judged} of these pictures out of fold and {len(own)} that it "
            "had never seen"
        )
    scores[own] = scores_of(classifier, pictures, own)
    return Champion(model_id, card.threshold.value, scores, note)
