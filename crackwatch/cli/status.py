"""``crackwatch status``: is it alive, what waits, what is wrong."""

from __future__ import annotations

import os
from typing import Any

import click

from crackwatch.cli.options import config_option, echo_json, format_option, load_settings
from crackwatch.errors import EXIT_DONE, EXIT_FOUND
from crackwatch.escaping import path_text
from crackwatch.settings import Settings

_COLOURS = {
    "running": "green",
    "starting": "yellow",
    "paused": "yellow",
    "unhealthy": "red",
    "stopped": "red",
}


@click.command(epilog="Example: crackwatch status --format json")
@config_option
@format_option("table", "json")
def command(config: str | None, output_format: str) -> int:
    """Say whether the station is alive, what waits in its inbox and what is wrong.

    Exit status 0 if it is starting or running, 1 if it is paused, unhealthy or stopped.
    """
    settings = load_settings(config)
    from crackwatch.health import status

    document = status.read(settings.folders.state)
    if output_format == "json":
        echo_json(document)
    else:
        _show(document)
        if document["state"] == "stopped":
            click.echo(_how_to_start(settings))
    return EXIT_DONE if document["state"] in ("starting", "running") else EXIT_FOUND


def _show(document: dict[str, Any]) -> None:
    state = document["state"]
    click.echo(click.style(state, fg=_COLOURS[state], bold=True), nl=False)
    click.echo(f"  (process {document['pid']})" if document["pid"] else "")
    rows = [
        ("station", document["station"]),
        ("model", _with(document["model"], "threshold", document["threshold"])),
        ("today", _today(document)),
        ("waiting", _waiting(document)),
        ("last batch", document["last_batch_at"]),
        ("golden set", _golden(document.get("last_golden"))),
        ("watching by", document["observer"]),
        ("for review", _for_review(document.get("review_band"))),
        ("drift", _drift(document.get("drift") or [])),
    ]
    for name, value in rows:
        if value is not None:
            click.echo(f"  {name:<12} {value}")
    for problem in document["problems"]:
        colour = "red" if problem["severity"] == "error" else "yellow"
        click.echo(click.style(f"\n{problem['severity']}: {problem['code']}", fg=colour))
        click.echo(f"  {problem['message']} (since {problem['since']})")
        if problem["remedy"]:
            click.echo(f"  {problem['remedy']}")
    if document["left_alone"]:
        click.echo(f"\nleft alone in the inbox: {len(document['left_alone'])}")
        for each in document["left_alone"][:10]:
            click.echo(f"  {each['path']}: {each['reason']}")


def _for_review(band: dict[str, Any] | None) -> str | None:
    if band is None:
        return None
    return (
        f"{band['waiting']:,} doubtful: crackwatch review list --band" if band["waiting"] else "0"
    )


def _drift(found: list[dict[str, Any]]) -> str | None:
    """One line for all measures; a drift that was raised is among the problems, with its figures."""
    if not found:
        return None
    raised = [each["measure"] for each in found if each["raised"]]
    if raised:
        return f"{found[0]['day']}: {', '.join(raised)} unlike what the model learned from"
    from crackwatch.domain import DriftFinding
    from crackwatch.likeness import MIN_PICTURES

    findings = {each["finding"] for each in found}
    if DriftFinding.ALIKE in findings:
        return "none: pictures are like those that the model learned from"
    if DriftFinding.NO_REFERENCE in findings:
        return "unknown: the model does not say what it learned from; retrain, or take a newer one"
    most = max(each["n"] for each in found)
    return f"too few to say when last looked: {most} pictures of this model, {MIN_PICTURES} needed"


def _how_to_start(settings: Settings) -> str:
    """What to do about a station that is stopped, or is none."""
    file = path_text(os.fsencode(settings.file))
    if os.path.exists(settings.database_file):
        return (
            f"  no process runs the station of {file}\n  Start it: crackwatch run --config {file}"
        )
    return (
        f"  the station of {file} has no database\n"
        "  Name another with --config, or make one: crackwatch init"
    )


def _with(value: Any, name: str, more: Any) -> str | None:
    if value is None:
        return None
    return f"{value} ({name} {more:.3f})" if more is not None else str(value)


def _today(document: dict[str, Any]) -> str | None:
    if document["inspected_today"] is None:
        return None
    return f"{document['inspected_today']:,} inspected, {document['flagged_today']:,} flagged"


def _golden(last: dict[str, Any] | None) -> str | None:
    if last is None:
        return None
    largest = last["largest_difference"]
    verdict = "scored as published" if last["good"] else "NOT scored as published"
    return f"{verdict} at {last['at']}" + (f" (within {largest:.1g})" if largest else "")


def _waiting(document: dict[str, Any]) -> str | None:
    if document["inbox_pending"] is None:
        return "being counted" if document["state"] == "running" else None
    oldest_s = document["oldest_pending_s"]
    return f"{document['inbox_pending']:,}" + (
        f", the oldest for {oldest_s:.1f} s" if oldest_s else ""
    )
