"""``crackwatch tune --tiles``: chooses, prints and applies the threshold of photographs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from crackwatch.cli import tiled
from crackwatch.cli.options import echo_json
from crackwatch.errors import PromiseError
from crackwatch.tiled_words import basis_text, goal_text, rate_text, rule_text

if TYPE_CHECKING:
    from crackwatch.cli.evidence import Evidence
    from crackwatch.registry import Card, Registry, TiledThreshold
    from crackwatch.settings import Settings
    from crackwatch.tiled_promise import TiledPromise


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked for; ``per_1000`` photographs of ``tiles`` tiles."""

    per_1000: float
    tiles: int
    min_tiles: int
    estimated: bool
    leave_out_doubted: bool
    confidence: float


def tune(
    settings: Settings,
    registry: Registry,
    card: Card,
    evidence: Evidence,
    asked: Asked,
    *,
    decided_by: str | None,
    output_format: str,
) -> None:
    """Chooses, applies if somebody ``decided_by`` it, prints. Raises PromiseError, with a remedy."""
    found = _chosen(evidence, asked)
    goal = goal_text(found.wish)
    figures = tiled.figures(found)
    if decided_by is not None:
        registry.set_tiled(
            card.id,
            as_threshold(found, evidence.words),
            decided_by=decided_by,
            reason=f"{goal}; rests on {basis_text(found)}",
            figures=figures,
        )
    overridden = overridden_in(settings)
    if output_format == "json":
        echo_json(
            {
                "model": card.id,
                "source": evidence.source,
                "goal": {"max_false_alarms_per_1000": asked.per_1000},
                **figures,
                "highest": _highest(found, evidence),
                "before": card.tiled.model_dump(mode="json") if card.tiled else None,
                "applied": decided_by is not None,
                "overridden_by": overridden or None,
            }
        )
        return
    click.echo("\n".join(_lines(found, card, evidence)))
    click.echo()
    if card.tiled is not None and card.tiled.on == "photographs":
        goes = "its second look goes" if card.tiled.second_look_from is not None else "it goes"
        click.echo(
            f"The model's present threshold was told by photographs. Single crops cannot tell what a "
            f"second look does: with\nthis one {goes}, and fewer cracks may be found. "
            "'crackwatch tune --photographs DIR' asks photographs again."
        )
    tell_outcome(
        registry,
        card,
        before_text(card),
        "photographs",
        applied=decided_by is not None,
        but=overridden_text(settings, overridden),
    )


def tell_outcome(
    registry: Registry,
    card: Card,
    before: str,
    things: str,
    *,
    applied: bool,
    but: str | None,
    note: str | None = None,
) -> None:
    """What became of a threshold for ``things``, the last lines of what a person sees.

    ``but`` says what of the station's settings stands above it, ``note`` what is to be known once it
    is applied.
    """
    if applied:
        click.echo(f"Applied to {card.id}; its card remembers {before}.")
        if registry.champion() != card.id:
            click.echo("It is not the champion: 'crackwatch models promote ID' makes it judge.")
        elif but is None:
            click.echo("A running station takes it between two batches.")
        if note is not None:
            click.echo(note)
    else:
        click.echo(f"Nothing was changed: --apply makes it the model's own, for {things}.")
    if but is not None:
        click.echo(but)


def as_threshold(found: TiledPromise, examples: str) -> TiledThreshold:
    """As the card keeps it; ``examples`` says where the scores come from."""
    from crackwatch.registry import TiledThreshold

    return TiledThreshold(
        value=found.threshold,
        min_tiles=found.wish.min_tiles,
        tiles=found.wish.tiles,
        chosen_by=(
            f"crackwatch tune for {goal_text(found.wish)}, on scores {examples}; rests on "
            f"{basis_text(found)}; {rate_text(found)}"
        ),
    )


def _chosen(evidence: Evidence, asked: Asked) -> TiledPromise:
    from crackwatch import tiled_promise
    from crackwatch.tiled_promise import Basis, Wish

    wish = Wish(asked.per_1000, asked.tiles, asked.min_tiles)
    basis = Basis.ESTIMATED if asked.estimated else Basis.PROVED
    left_out = None
    if asked.leave_out_doubted:
        left_out = tiled_promise.doubted(evidence.examples, evidence.sure)
    try:
        return tiled_promise.choose(
            evidence.examples, wish, basis, asked.confidence, left_out=left_out
        )
    except PromiseError as exc:
        normals = int((evidence.examples.labels == 0).sum())
        instead = "" if asked.estimated else "--estimated gives an estimate, and calls it one. "
        raise PromiseError(
            f"{exc.problem} ({normals:,} normals were scored {evidence.words}; pictures of the same "
            "concrete count once)",
            f"{exc.remedy + ' ' if exc.remedy else ''}{instead}{evidence.more}",
            have=exc.have,
            needed=exc.needed,
        ) from exc


def _lines(found: TiledPromise, card: Card, evidence: Evidence) -> list[str]:
    from crackwatch.reporting.render_promise import aligned, how_many

    seen, there = found.pictures, found.independent
    rows = [
        ("model", card.id),
        ("scores", evidence.words),
        ("cracks", how_many(seen.tp + seen.fn, there.tp + there.fn)),
        ("normals", how_many(seen.fp + seen.tn, there.fp + there.tn)),
        ("threshold", f"{found.threshold!r}  (now {before_text(card)})"),
        *tiled.lines(found),
    ]
    lines = [*aligned(rows), "", *tiled.remarks(found)]
    if evidence.names is not None and found.what_if:
        lines += ["", "The normals that score highest:"]
        lines += [
            f"  {evidence.examples.scores[at]:.6f}  {evidence.names[at]}" for at in found.highest
        ]
    return lines


def _highest(found: TiledPromise, evidence: Evidence) -> list[dict[str, object]]:
    return [
        {
            "score": float(evidence.examples.scores[at]),
            "path": evidence.names[at] if evidence.names is not None else None,
        }
        for at in found.highest
    ]


def before_text(card: Card) -> str:
    """The rule for photographs that is in force, for a person."""
    if card.tiled is None:
        return f"{card.threshold.value:.6g}, that of single pictures"
    return f"{card.tiled.value!r}, {rule_text(card.tiled.min_tiles, card.tiled.second_look_from)}"


def overridden_in(settings: Settings) -> dict[str, float]:
    """What of the station's own settings stands above the card: see ``champion.rule_of``."""
    model = settings.model
    above: dict[str, float] = {}
    if model.tiled_threshold != "model":
        above["tiled_threshold"] = model.tiled_threshold
    elif model.threshold != "model":
        above["threshold"] = model.threshold
    if model.min_tiles != "model":
        above["min_tiles"] = model.min_tiles
    return above


def overridden_text(settings: Settings, overridden: dict[str, float]) -> str | None:
    """The same for a person; None where nothing does."""
    lines = [
        f"But {settings.file} (or the environment) says [model] {name} = {value:g}, and that "
        'stands above the\nmodel\'s own until it says "model" and the station is restarted.'
        for name, value in overridden.items()
    ]
    return "\n".join(lines) or None
