"""Champion or challenger: lets the gate speak, and puts the decision into words and figures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from crackwatch import evaluation, promised
from crackwatch.domain import Label
from crackwatch.escaping import path_text
from crackwatch.evaluation import Measures
from crackwatch.registry import Decision, Guarantee, Threshold
from crackwatch.training import calibration, gate
from crackwatch.training.gate import Comparison, LabelAudit
from crackwatch.training.honest import Champion
from crackwatch.training.planning import Plan, Promotion, Request
from crackwatch.training.replaying import Replay

_LISTED = 100  # suspects and flips that a card keeps

# With fewer base pictures of a class, reviews help to calibrate the scores that they are audited by.
_ENOUGH_TO_CALIBRATE = 30
_LEAST_SCORE = 1e-12  # as far from 0 and 1 as a logit is told apart


@dataclass(frozen=True, slots=True)
class Duel:
    """One of the two on the pictures that both were compared on, at its own threshold."""

    model: str
    measures: Measures

    def as_json(self) -> dict[str, Any]:
        return {"id": self.model, **self.measures.as_json()}


@dataclass(frozen=True, slots=True)
class Suspect:
    """A label that the score, out of fold, speaks against."""

    path: str
    label: str
    score: float
    reviewed: bool


@dataclass(frozen=True, slots=True)
class Judged:
    """The decision, and what it rests on."""

    promoted: bool
    reason: str
    champion: Duel | None
    comparison: Comparison | None
    positions: NDArray[np.intp]  # the pictures that both were compared on


def in_force(request: Request, own: float) -> float:
    """By which threshold the station would judge with a model whose own is ``own``."""
    return own if request.threshold is None else request.threshold


def judge(
    request: Request,
    plan: Plan,
    scores: NDArray[np.float64],
    own: Threshold,
    champion: Champion | str,
) -> Judged:
    """``scores`` (N,) are the challenger's, NaN where none is honest; ``own`` its own threshold.

    Both models are compared as the station would use them: each at its own threshold, or both at
    the one that the station is told, whichever model it has.
    """
    labels = plan.pictures.labels
    mine = np.isfinite(scores)
    suspicion = audit(plan, scores, plan.reviewed).objection()
    if isinstance(champion, str):
        # nothing to be worse than; wrong labels are wrong all the same
        promoted = {"always": True, "never": False, "auto": suspicion is None}[request.promote]
        text = champion if suspicion is None else f"{suspicion}; {champion}"
        text = _sentence(promoted, request.promote, text)
        return Judged(promoted, text, None, None, np.flatnonzero(mine))
    both = np.flatnonzero(mine & np.isfinite(champion.scores))
    theirs_from = in_force(request, champion.threshold)
    duel = Duel(champion.id, evaluation.measure(champion.scores[both], labels[both], theirs_from))
    if not labels[both].any():
        promoted = request.promote == "always"
        text = (
            "no crack has an honest score of both, so nothing can be compared (--promote always "
            "would take it unseen)"
        )
        if not plan.recipe.folds:
            text = f"the recipe {plan.recipe.name} held back no anomaly, so nothing can be compared"
        text = _sentence(promoted, request.promote, text)
        return Judged(promoted, text, duel, None, both)
    comparison = gate.compare(
        labels[both],
        champion.scores[both] >= theirs_from,
        scores[both] >= in_force(request, own.value),
        plan.groups[both],
        request.seed,
    )
    objections = comparison.objections()
    if suspicion:
        objections.append(suspicion)
    promoted = {"always": True, "never": False, "auto": not objections}[request.promote]
    text = "; ".join(objections) if objections else _no_worse(comparison)
    if request.threshold is not None:
        text += f"; both judged from {request.threshold:g} on, as [model] threshold has it"
    elif promoted and champion.promise is not None:
        text += "; " + _promise_kept(own.promise, champion.promise)
    return Judged(
        promoted,
        _sentence(promoted, request.promote, f"{text}; {champion.note}"),
        duel,
        comparison,
        both,
    )


def _promise_kept(mine: Guarantee | None, theirs: Guarantee) -> str:
    what = f"{theirs.goal}{'' if theirs.target is None else f' {theirs.target:g}'}"
    if promised.as_much(mine, theirs):
        return f"its threshold promises {what}, as the champion's does"
    return (
        f"the champion's threshold was tuned for {what}, which nobody has promised of this one's: "
        "run 'crackwatch tune' again"
    )


def audit(plan: Plan, scores: NDArray[np.float64], looked_at: NDArray[np.bool_]) -> LabelAudit:
    """Which of the labels ``looked_at`` (N,) honest ``scores`` (N,) speak against.

    The scores are calibrated anew on the base data alone, where there are enough: wrong labels
    among the reviewed ones would else teach them to doubt less.
    """
    labels, honest = plan.pictures.labels, np.isfinite(scores)
    probabilities = scores
    base = honest & ~plan.reviewed
    fewest = min(int((labels[base] == value).sum()) for value in (0, 1))
    if plan.reviewed.any() and fewest >= _ENOUGH_TO_CALIBRATE:
        logits = logit(np.clip(scores, _LEAST_SCORE, 1 - _LEAST_SCORE))
        found = calibration.calibrate(logits[base], labels[base])
        probabilities = expit(found(logits))
    return gate.audit_labels(probabilities, labels, looked_at & honest)


def _no_worse(found: Comparison) -> str:
    low, high = found.f1_interval
    return (
        f"{found.challenger_escapes} escapes against the champion's {found.champion_escapes} in "
        f"{found.anomalies} known cracks, {found.challenger_false_alarms} false alarms against "
        f"{found.champion_false_alarms} in {found.normals} normals; F1 {found.f1_difference:+.4f} "
        f"({low:+.4f} to {high:+.4f}), McNemar's exact p = {found.mcnemar_p:.2g}"
    )


def _sentence(promoted: bool, promote: Promotion, text: str) -> str:
    asked = "" if promote == "auto" else f" (--promote {promote})"
    return f"{'promoted' if promoted else 'not promoted'}{asked}: {text}"


def suspects_of(plan: Plan, scores: NDArray[np.float64], audit: LabelAudit) -> tuple[Suspect, ...]:
    return tuple(
        Suspect(
            path_text(plan.pictures.paths[position]),
            Label.ANOMALY.value if plan.pictures.labels[position] else Label.NORMAL.value,
            float(scores[position]),
            bool(plan.reviewed[position]),
        )
        for position in audit.suspects.tolist()
    )


def decision_of(
    request: Request, verdict: Judged, suspects: Sequence[Suspect], replay: Replay
) -> Decision:
    return Decision(
        what="promotion" if verdict.promoted else "rejection",
        decided_at=datetime.now(UTC).replace(microsecond=0),
        decided_by=request.asked_by,
        reason=verdict.reason,
        figures=json.loads(
            json.dumps(
                {
                    "champion": verdict.champion.as_json() if verdict.champion else None,
                    "comparison": asdict(verdict.comparison) if verdict.comparison else None,
                    "suspects": [asdict(each) for each in suspects[:_LISTED]],
                    "replay": replay.as_json(_LISTED),
                }
            )
        ),
    )
