"""``crackwatch tune`` for a goal: chooses, prints and applies, for single pictures or photographs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import floor, log10
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import click

from crackwatch.cli.evidence import Evidence, Wholes, prevalence_of
from crackwatch.cli.options import echo_json
from crackwatch.cli.tune_tiles import before_text, overridden_in, overridden_text, tell_outcome
from crackwatch.errors import PromiseError, UsageError

if TYPE_CHECKING:
    from crackwatch.promise import Goal, Promise
    from crackwatch.registry import Card, Registry
    from crackwatch.settings import Settings


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked for; ``options`` are the goal's, by name."""

    goal: Goal
    options: dict[str, float]
    confidence: float
    prevalence: float | None
    plot: Path | None


class _Put(Protocol):
    """Makes a threshold the model's own."""

    def __call__(
        self, found: Promise, wish: str, decided_by: str, figures: dict[str, Any]
    ) -> object: ...


@dataclass(frozen=True, slots=True)
class Target:
    """Which of a model's two thresholds is chosen.

    ``before`` and ``overridden_by``, what of the station's settings stands above it, are as the JSON
    document has them, beside texts for a person: ``but`` is one where something does. ``rule`` is
    what the document has of photographs alone, ``note`` what is to be known once it is applied.
    """

    things: str
    put: _Put
    before: object
    before_text: str
    overridden_by: object
    but: str | None
    rule: dict[str, Any]
    note: str | None


def single_pictures(
    settings: Settings, registry: Registry, card: Card, evidence: Evidence
) -> Target:
    """The threshold of single pictures."""
    from crackwatch import promised
    from crackwatch.reporting.render_promise import PICTURES

    def put(found: Promise, wish: str, decided_by: str, figures: dict[str, Any]) -> None:
        registry.set_threshold(
            card.id,
            promised.threshold_of(found, f"crackwatch tune for {wish}", evidence.words),
            decided_by=decided_by,
            reason=wish,
            figures=figures,
        )

    overridden = None if settings.model.threshold == "model" else settings.model.threshold
    but = None
    if overridden is not None:
        but = (
            f"But {settings.file} (or the environment) says [model] threshold = {overridden:g}, "
            "and that stands above the\nmodel's own: this station goes on judging by "
            f'{overridden:g} until it says threshold = "model" and is restarted.'
        )
    note = None
    if card.tiled is not None:
        note = (
            f"Photographs go on being judged from {card.tiled.value:.6g} on: 'crackwatch tune "
            "--tiles N' or '--photographs DIR' chooses that."
        )
    before = card.threshold.value
    return Target(PICTURES, put, before, repr(before), overridden, but, {}, note)


def of_photographs(
    settings: Settings, registry: Registry, card: Card, evidence: Evidence, wholes: Wholes
) -> Target:
    """The threshold of photographs, chosen by labelled ones."""
    from crackwatch import promised
    from crackwatch.reporting.render_promise import PHOTOGRAPHS
    from crackwatch.tiled_words import rule_text

    rule = rule_text(wholes.min_tiles, wholes.second_look_from)

    def put(found: Promise, wish: str, decided_by: str, figures: dict[str, Any]) -> None:
        asked = f"crackwatch tune --photographs for {wish}, {rule}"
        registry.set_tiled(
            card.id,
            promised.tiled_threshold_of(
                found,
                wholes.min_tiles,
                wholes.second_look_from,
                wholes.tiles,
                asked,
                evidence.words,
            ),
            decided_by=decided_by,
            reason=f"{wish}, {rule}",
            figures=figures,
        )

    overridden = overridden_in(settings)
    return Target(
        PHOTOGRAPHS,
        put,
        card.tiled.model_dump(mode="json") if card.tiled else None,
        before_text(card),
        overridden or None,
        overridden_text(settings, overridden),
        asdict(wholes),
        None,
    )


def tune(
    settings: Settings,
    registry: Registry,
    card: Card,
    evidence: Evidence,
    asked: Asked,
    target: Target,
    *,
    decided_by: str | None,
    output_format: str,
) -> None:
    """Chooses, applies if somebody ``decided_by`` it, prints. Raises PromiseError, with a remedy."""
    from crackwatch import promise
    from crackwatch.reporting import render_promise

    share, share_from = prevalence_of(settings, asked.prevalence, evidence)
    try:
        found = promise.choose(evidence.examples, asked.goal, share, asked.confidence)
    except PromiseError as exc:
        raise _with_remedy(exc, asked.goal, evidence, asked.confidence, target.things) from exc
    normals = render_promise.normals_of(target.things)
    wish = promise.goal_text(asked.goal, asked.confidence, normals)
    figures = render_promise.document(found, share_from)
    if asked.plot is not None:
        _plot(asked.plot, evidence, found, wish, card.id)
    if decided_by is not None:
        target.put(found, wish, decided_by, target.rule | figures)
    if output_format == "json":
        echo_json(
            {
                "model": card.id,
                "source": evidence.source,
                "goal": asked.options,
                **target.rule,
                "confidence": asked.confidence,
                "threshold": found.threshold,
                **figures,
                "before": target.before,
                "applied": decided_by is not None,
                "overridden_by": target.overridden_by,
            }
        )
        return
    click.echo(
        render_promise.text(
            found, card.id, target.before_text, evidence.words, share_from, target.things
        )
    )
    click.echo()
    tell_outcome(
        registry,
        card,
        target.before_text,
        "single pictures" if evidence.wholes is None else target.things,
        applied=decided_by is not None,
        but=target.but,
        note=target.note,
    )


def _with_remedy(
    exc: PromiseError, goal: Goal, evidence: Evidence, confidence: float, things: str
) -> PromiseError:
    """The same refusal, with what these examples do support and how to get more."""
    from crackwatch.bounds import lower_bound, upper_bound
    from crackwatch.promise import MaxFalseAlarms, MinRecall

    supported = ""
    if exc.have and exc.needed and isinstance(goal, MinRecall):
        most = lower_bound(exc.have, exc.have, confidence)
        supported = f"What there is supports --min-recall {_floor(most)} at most. "
    elif exc.have and exc.needed and isinstance(goal, MaxFalseAlarms):
        least = -_floor(-1000 * upper_bound(0, exc.have, confidence))
        if least < 1000:
            supported = f"What there is supports --max-false-alarms-per-1000 {least} at best. "
    scored = len(evidence.examples.labels)
    cracks = int((evidence.examples.labels == 1).sum())
    problem = (
        f"{exc.problem} ({cracks:,} cracks and {scored - cracks:,} normals were scored "
        f"{evidence.words}; {things} of the same concrete count once)"
    )
    return PromiseError(problem, supported + evidence.more, have=exc.have, needed=exc.needed)


def _floor(value: float) -> float:
    """To three significant digits downwards, so that what is named is really supported."""
    digits = 2 - floor(log10(abs(value)))
    scale: float = 10.0**digits
    return round(floor(value * scale) / scale, max(digits, 0))


def _plot(file: Path, evidence: Evidence, found: Promise, wish: str, model_id: str) -> None:
    from crackwatch import promise
    from crackwatch.evaluation.operating import Chosen, write_operating_plot

    drawn = promise.curve(evidence.examples)
    try:
        write_operating_plot(
            file,
            drawn.thresholds,
            drawn.recall,
            drawn.false_alarms_per_1000,
            Chosen(
                threshold=found.threshold,
                recall=found.recall,
                recall_bound=found.recall_bound,
                false_alarms_per_1000=found.false_alarms_per_1000,
                false_alarms_per_1000_bound=found.false_alarms_per_1000_bound,
                confidence=found.confidence,
            ),
            f"Threshold {found.threshold:.4g} for {wish}",
            model_id,
        )
    except OSError as exc:
        raise UsageError(
            f"{file}: cannot be written: {exc.strerror}", "Name another file: --plot FILE.png."
        ) from exc
