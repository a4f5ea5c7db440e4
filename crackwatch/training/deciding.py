"""Champion or challenger: lets the gate speak, and puts the decision into words and figures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crackwatch import evaluation
from crackwatch.domain import Label, path_text
from crackwatch.evaluation import Measures
from crackwatch.registry import Decision
from crackwatch.training import gate
from crackwatch.training.gate import Comparison, LabelAudit
from crackwatch.training.honest import Champion
from crackwatch.training.planning import Plan, Promotion, Request
from crackwatch.training.replaying import Replay

_LISTED = 100  # suspects and flips that a card keeps


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


def judge(
    request: Request,
    plan: Plan,
    scores: NDArray[np.float64],
    threshold: float,
    champion: Champion | str,
) -> Judged:
    labels = plan.pictures.labels
    mine = np.isfinite(scores)
    if isinstance(champion, str):
        promoted = request.promote != "never"
        text = _sentence(promoted, request.promote, champion)
        return Judged(promoted, text, None, None, np.flatnonzero(mine))
    both = np.flatnonzero(mine & np.isfinite(champion.scores))
    duel = Duel(
        champion.id, evaluation.measure(champion.scores[both], labels[both], champion.threshold)
    )
    if not labels[both].any():
        promoted = request.promote == "always"
        text = "no crack was scored by both, so nothing can be compared"
        if not plan.recipe.folds:
            text = f"the recipe {plan.recipe.name} held back no anomaly, so nothing can be compared"
        text = _sentence(promoted, request.promote, text)
        return Judged(promoted, text, duel, None, both)
    comparison = gate.compare(
        labels[both],
        champion.scores[both] >= champion.threshold,
        scores[both] >= threshold,
        plan.groups[both],
        request.seed,
    )
    objections = comparison.objections()
    suspicion = gate.audit_labels(scores, labels, plan.reviewed & mine).objection()
    if suspicion:
        objections.append(suspicion)
    promoted = {"always": True, "never": False, "auto": not objections}[request.promote]
    text = "; ".join(objections) if objections else _no_worse(comparison)
    return Judged(
        promoted,
        _sentence(promoted, request.promote, f"{text}; {champion.note}"),
        duel,
        comparison,
        both,
    )


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
