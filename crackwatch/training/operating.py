"""Where a new model stands: its calibration and its threshold, from scores out of fold."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from crackwatch import promise, promised
from crackwatch.errors import ModelError, PromiseError
from crackwatch.labelled_scores import Examples
from crackwatch.registry import Card, Threshold
from crackwatch.training import calibration
from crackwatch.training.calibration import Calibration
from crackwatch.training.planning import Plan, Request

# With fewer pictures of a class scored out of fold, a calibration would be theirs, not the model's.
_ENOUGH_TO_CALIBRATE = 30


class Cards(Protocol):
    """The models there are: see ``registry.Registry``."""

    def champion(self) -> str | None: ...
    def card(self, model_id: str) -> Card: ...


def operating_point(
    registry: Cards, request: Request, plan: Plan, logits: NDArray[np.float64]
) -> tuple[Calibration, Threshold]:
    """``logits`` (N,): anomaly less normal, as trained, NaN where none is honest.

    What the champion's threshold was tuned to promise, the new one promises as well, where its own
    scores can prove it; else it is that of what a miss costs, and says what could not be proved.
    Raises ModelError where the parent's card cannot be read.
    """
    scored = np.isfinite(logits)
    logits, labels = logits[scored], plan.pictures.labels[scored]
    anomalies = int(labels.sum())
    normals = len(labels) - anomalies
    if not plan.recipe.calibrated:
        return calibration.NONE, Threshold(
            value=0.5, chosen_by="argmax, as the notebook does: not calibrated"
        )
    if min(anomalies, normals) < _ENOUGH_TO_CALIBRATE and plan.parent is not None:
        parent = registry.card(plan.parent)
        return calibration.NONE, Threshold(
            value=parent.threshold.value,
            chosen_by=(
                f"kept from {parent.id}: only {anomalies} reviewed anomalies and {normals} normals "
                "that it had not learned from"
            ),
        )
    found = calibration.calibrate(logits, labels)
    examples = Examples.of_logits(found(logits), labels, plan.groups[scored])
    carried, unproved = _carried(champion_in(registry), examples)
    if carried is not None:
        return found, carried
    return found, Threshold(
        value=calibration.threshold(request.miss_costs),
        chosen_by=(
            f"flagged where it is cheaper on average, a missed crack taken to cost as much as "
            f"{request.miss_costs:g} false alarms; scores calibrated on {anomalies} anomalies and "
            f"{normals} normals, each scored by a model that had not learned from "
            f"it ({plan.recipe.folds} folds){unproved}"
        ),
    )


def champion_in(registry: Cards) -> Card | None:
    """The champion's card, None where there is none that can be read."""
    try:
        champion = registry.champion()
        return None if champion is None else registry.card(champion)
    except ModelError:  # the comparison tells what is wrong with it
        return None


def _carried(champion: Card | None, examples: Examples) -> tuple[Threshold | None, str]:
    """The champion's promise, kept by the new model; or None, and why not, as the end of a sentence."""
    kept = None if champion is None else champion.threshold.promise
    goal = None if kept is None else promised.goal_of(kept)
    if champion is None or kept is None or goal is None:
        return None, ""
    wish = promise.goal_text(goal, kept.confidence)
    share = float(examples.labels.mean())
    try:
        found = promise.choose(examples, goal, share, kept.confidence)
    except PromiseError as exc:
        return None, f"; not for {wish}, as {champion.id} promises: {exc.problem}"
    asked = f"for {wish}, as {champion.id} promises it"
    return promised.threshold_of(found, asked, "out of fold"), ""
