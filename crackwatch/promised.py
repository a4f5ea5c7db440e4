"""A promise as a model's card keeps it, and what it was promised for, read from there again."""

from __future__ import annotations

from crackwatch.promise import Goal, LeastCost, MaxFalseAlarms, MinRecall, Promise
from crackwatch.registry import Guarantee, Threshold, TiledThreshold

_MIN_RECALL, _MAX_FALSE_ALARMS = "min_recall", "max_false_alarms_per_1000"
_LEAST_COST = "least_cost"


def threshold_of(found: Promise, asked: str, examples: str) -> Threshold:
    """``asked`` is by whom and for what it was chosen, ``examples`` on which scores: both words."""
    return Threshold(
        value=found.threshold,
        chosen_by=_chosen_by(found, asked, examples),
        promise=_guarantee(found, examples),
    )


def tiled_threshold_of(
    found: Promise,
    min_tiles: int,
    second_look_from: float | None,
    tiles: int,
    asked: str,
    examples: str,
) -> TiledThreshold:
    """The same for photographs, each of about ``tiles`` tiles, that were scored as wholes."""
    return TiledThreshold(
        value=found.threshold,
        min_tiles=min_tiles,
        second_look_from=second_look_from,
        tiles=tiles,
        on="photographs",
        chosen_by=_chosen_by(found, asked, examples),
        promise=_guarantee(found, examples),
    )


def _chosen_by(found: Promise, asked: str, examples: str) -> str:
    words = "flattering a little" if isinstance(found.goal, LeastCost) else "exact"
    return f"{asked}, on scores {examples} (bounds: {words})"


def _guarantee(found: Promise, examples: str) -> Guarantee:
    name, target = _kept(found.goal)
    there = found.independent
    return Guarantee(
        goal=name,
        target=target,
        confidence=found.confidence,
        recall_bound=found.recall_bound,
        false_alarms_per_1000_bound=found.false_alarms_per_1000_bound,
        anomalies=there.tp + there.fn,
        normals=there.fp + there.tn,
        examples=examples,
    )


def goal_of(kept: Guarantee) -> Goal | None:
    """What to ask of another model; None where its card does not say: costs."""
    if kept.target is None:
        return None
    if kept.goal == _MIN_RECALL:
        return MinRecall(kept.target)
    if kept.goal == _MAX_FALSE_ALARMS:
        return MaxFalseAlarms(kept.target)
    return None


def as_much(one: Guarantee | None, other: Guarantee) -> bool:
    """Whether ``one`` promises what ``other`` does."""
    if one is None or other.target is None:
        return False
    return (one.goal, one.target, one.confidence) == (other.goal, other.target, other.confidence)


def _kept(goal: Goal) -> tuple[str, float | None]:
    if isinstance(goal, MinRecall):
        return _MIN_RECALL, goal.recall
    if isinstance(goal, MaxFalseAlarms):
        return _MAX_FALSE_ALARMS, goal.per_1000
    return _LEAST_COST, None
