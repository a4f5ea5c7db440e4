"""``crackwatch models``: list, show, promote, roll back, verify, and say at which scale."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from math import isfinite
from typing import Any

import click

from crackwatch.cli.options import config_option, echo_json, format_option, load_settings, who
from crackwatch.errors import EXIT_DONE, EXIT_NO_MODEL, ModelError, ModelMissing, ModelTampered
from crackwatch.people import checked_note
from crackwatch.registry import MODEL_FILE, SCALE, Card, Decision, Registry
from crackwatch.tiled_words import rule_text

_HEADLINE = ("f1", "recall", "precision")  # of the figures in a card, those that a list shows


def _registry(config: str | None) -> Registry:
    return Registry(load_settings(config).folders.models)


@click.group(epilog="Example: crackwatch models rollback --config station/config.toml")
def command() -> None:
    """List, show, promote, roll back and verify models, and say at which scale they learned.

    The daemon takes a new champion between two batches; it need not be restarted.
    """


@command.command("list", epilog="Example: crackwatch models list --format json")
@config_option
@format_option("table", "json")
def list_models(config: str | None, output_format: str) -> None:
    """Every model, oldest first; * is the champion, < the one that rollback goes back to."""
    registry = _registry(config)
    champion, previous = registry.champion(), registry.previous()
    entries = [_entry(registry, model_id, champion, previous) for model_id in registry.ids()]
    if output_format == "json":
        echo_json(entries)
        return
    if not entries:
        click.echo(f"{registry.folder}: no models; 'crackwatch init' installs one", err=True)
        return
    header = ("", "id", "created", "sha256", *_HEADLINE, "measured on")
    rows = [header, *(_row(entry) for entry in entries)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo("  ".join(cells).rstrip())
    for entry in entries:
        if entry["problem"]:
            click.echo(f"{entry['id']}: {entry['problem']}", err=True)
    if champion is None:
        click.echo("no champion: 'crackwatch models promote ID' makes one", err=True)


@command.command(epilog="Example: crackwatch models show")
@config_option
@format_option("table", "json")
@click.argument("model_id", metavar="[ID]", required=False)
def show(config: str | None, output_format: str, model_id: str | None) -> None:
    """A model's card: what it learnt from, how it scored, its threshold [default: the champion]."""
    registry = _registry(config)
    card = registry.card(model_id or _champion(registry))
    document = json.loads(card.to_json())
    if output_format == "json":
        echo_json(document)
        return
    golden = document.pop("golden")
    document["golden"] = {
        "pictures": len(golden["scores"]),
        "tolerance": golden["tolerance"],
        "expected": ", ".join(golden["expected"]) or "Keras's scores",
    }
    if card.tiled is None:
        document["tiled"] = "none: photographs are judged by the threshold of single pictures"
    else:
        document["tiled"]["rule"] = (
            f"of photographs, {rule_text(card.tiled.min_tiles, card.tiled.second_look_from)}"
        )
    if card.mm_per_px is None:
        document["mm_per_px"] = "not known: photographs are judged at their own scale"
    document["decisions"] = [_decided(each) for each in card.decisions] or None
    for key, value in document.items():
        _print_value(key, value, 0)


def _decision_options(function: Callable[..., None]) -> Callable[..., None]:
    for option in (
        click.option("--by", metavar="NAME", help="Who decides it [default: the user logged in]."),
        click.option("--reason", metavar="TEXT", help="Why; kept in the model's card."),
    ):
        function = option(function)
    return function


@command.command(
    epilog="Example: crackwatch models promote 2026-11-23T101500Z-station-ab12cd34 --reason trial"
)
@config_option
@_decision_options
@click.argument("model_id", metavar="ID")
def promote(config: str | None, by: str | None, reason: str | None, model_id: str) -> None:
    """Make a model the champion, once its files were verified. Its card says who did, and when."""
    registry = _registry(config)
    decision = _by_hand("promotion", by, reason, registry)
    already = decision.figures["in_place_of"] == model_id
    registry.promote(model_id, None if already else decision)
    _tell_pointers(registry)
    _tell_rejection(registry)


@command.command(epilog="Example: crackwatch models rollback --reason 'flags every shadow'")
@config_option
@_decision_options
def rollback(config: str | None, by: str | None, reason: str | None) -> None:
    """Go back to the previous champion; a second time, forward again. Its card says who did."""
    registry = _registry(config)
    registry.rollback(_by_hand("rollback", by, reason, registry))
    _tell_pointers(registry)
    _tell_rejection(registry)


@command.command(
    epilog="Example: crackwatch models scale --mm-per-px 0.2 --reason 'ruler in DSC_0417'"
)
@config_option
@click.option(
    "--mm-per-px",
    type=click.FloatRange(min=0, min_open=True),
    metavar="MM",
    help="What a pixel of the pictures that it learned from shows of the wall.",
)
@click.option("--unknown", is_flag=True, help="Nobody knows it after all.")
@_decision_options
@click.argument("model_id", metavar="[ID]", required=False)
def scale(
    config: str | None,
    mm_per_px: float | None,
    unknown: bool,
    by: str | None,
    reason: str | None,
    model_id: str | None,
) -> None:
    """Write into a model's card at which scale its pictures were [default: the champion's].

    Photographs of a station that knows its own ([images] mm_per_px) are then brought to it before
    they are cut into tiles; a running station does so from its next batch on.
    """
    if (mm_per_px is None) is not unknown:
        raise click.UsageError("give either --mm-per-px or --unknown")
    if mm_per_px is not None and not isfinite(mm_per_px):  # click's ranges hold nan and inf
        raise click.UsageError(
            f"--mm-per-px {mm_per_px}: give a length in millimetres, such as 0.2"
        )
    registry = _registry(config)
    chosen = model_id or _champion(registry)
    card = registry.set_scale(
        chosen, mm_per_px, decided_by=who(by), reason=checked_note(reason) or "by hand"
    )
    known = "not known" if card.mm_per_px is None else f"{card.mm_per_px:g} mm a pixel"
    before = card.decisions[-1].figures["before"]
    click.echo(f"{chosen}: {known} (before: {'not known' if before is None else f'{before:g}'})")
    if card.tiled is not None:
        click.echo(
            "Its threshold of photographs was chosen before: see whether it holds, with "
            "'crackwatch tune --tiles'."
        )


@command.command(epilog="Example: crackwatch models verify")
@config_option
@format_option("table", "json")
@click.argument("model_id", metavar="[ID]", required=False)
def verify(config: str | None, output_format: str, model_id: str | None) -> int:
    """Hold every file against its card [default: of all models]. Exit status 4 if one differs."""
    registry = _registry(config)
    results: list[dict[str, Any]] = []
    for each in [model_id] if model_id else registry.ids():
        problem = None
        try:
            registry.verify(each)
        except ModelMissing:
            if model_id:
                raise
            problem = "it has no card"
        except ModelError as exc:
            problem = str(exc)
        results.append({"id": each, "ok": problem is None, "problem": problem})
    if output_format == "json":
        echo_json(results)
    else:
        for result in results:
            click.echo(f"{'ok' if result['ok'] else 'NOT OK':<6}  {result['id']}")
            if result["problem"]:
                click.echo(f"        {result['problem']}", err=True)
    return EXIT_DONE if all(result["ok"] for result in results) else EXIT_NO_MODEL


def _champion(registry: Registry) -> str:
    champion = registry.champion()
    if champion is None:
        raise ModelMissing(
            f"{registry.folder}: there is no champion",
            "Name a model; 'crackwatch models list' shows the ids.",
        )
    return champion


def _entry(
    registry: Registry, model_id: str, champion: str | None, previous: str | None
) -> dict[str, Any]:
    """One model as JSON; a card that cannot be read is a problem of that model alone."""
    card: Card | None = None
    problem = None
    try:
        card = registry.card(model_id)
    except ModelError as exc:
        problem = exc.problem
    return {
        "id": model_id,
        "champion": model_id == champion,
        "previous": model_id == previous,
        "created_at": card.created_at.isoformat() if card else None,
        "recipe": card.recipe if card else None,
        "sha256": card.files.get(MODEL_FILE) if card else None,
        "metrics": card.scores if card else {},
        "problem": problem,
    }


def _row(entry: dict[str, Any]) -> tuple[str, ...]:
    mark = "*" if entry["champion"] else "<" if entry["previous"] else ""
    splits: dict[str, dict[str, object]] = entry["metrics"]
    on = "validation" if splits.get("validation") else next(iter(splits), "-")
    figures: dict[str, object] = splits.get(on, {})
    shown = (figures.get(key) for key in _HEADLINE)
    return (
        mark,
        entry["id"],
        (entry["created_at"] or "-")[:16],
        (entry["sha256"] or "-")[:12],
        *(f"{value:.4f}" if isinstance(value, float | int) else "-" for value in shown),
        f"{on}, {figures['n']:,}" if isinstance(figures.get("n"), int) else on,
    )


def _decided(decision: Decision) -> str:
    """One line; json has the figures."""
    change = ""
    if decision.old and decision.new:
        change = f" {decision.old.value:.6g} to {decision.new.value:.6g}"
    elif decision.new_tiled:
        before = f"{decision.old_tiled.value:.6g}" if decision.old_tiled else "none"
        rule = rule_text(decision.new_tiled.min_tiles, decision.new_tiled.second_look_from)
        change = f" {before} to {decision.new_tiled.value:.6g}, {rule}"
    elif decision.what == SCALE:
        known = decision.mm_per_px
        change = " not known" if known is None else f" {known:g} mm a pixel"
    when = f"{decision.decided_at:%Y-%m-%d %H:%M:%SZ}"
    return f"{when} {decision.what}{change}, by {decision.decided_by}: {decision.reason}"


def _by_hand(what: str, by: str | None, reason: str | None, registry: Registry) -> Decision:
    """What the card of the model will tell that takes the champion's place."""
    try:
        champion = registry.champion()
    except ModelTampered:
        champion = None  # its pointer holds nonsense: it is about to be replaced
    return Decision(
        what=what,
        decided_at=datetime.now(UTC).replace(microsecond=0),
        decided_by=who(by),
        reason=checked_note(reason) or "by hand",
        figures={"in_place_of": champion},
    )


def _tell_pointers(registry: Registry) -> None:
    click.echo(f"champion  {registry.champion()}")
    click.echo(f"previous  {registry.previous() or '-'}")


def _tell_rejection(registry: Registry) -> None:
    """A model that lost against the champion of its time should not come back unnoticed."""
    champion = _champion(registry)
    for each in registry.card(champion).decisions:
        if each.what == "rejection":
            click.echo(f"note: when {champion} was trained it was {each.reason}", err=True)


def _print_value(key: str, value: object, depth: int) -> None:
    label = f"{'  ' * depth}{key}"
    if isinstance(value, dict):
        click.echo(label)
        for name, inner in value.items():
            _print_value(name, inner, depth + 1)
    elif isinstance(value, list) and not all(isinstance(each, float | int) for each in value):
        click.echo(label)
        for each in value:
            click.echo(f"{'  ' * (depth + 1)}{_on_one_line(each)}")
    elif value is not None:
        click.echo(f"{label:<28}  {_on_one_line(value)}")


def _on_one_line(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_on_one_line(inner)}" for name, inner in value.items())
    if isinstance(value, list):
        return ", ".join(map(_on_one_line, value))
    return f"{value:.6g}" if isinstance(value, float) else str(value)
