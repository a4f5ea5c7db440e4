"""``crackwatch audit``: proves that everything that arrived is accounted for."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from crackwatch.cli.options import config_option, echo_json, format_option, load_settings
from crackwatch.cli.progress import progress_bar

if TYPE_CHECKING:
    from crackwatch.audit import Audit, Finding, Kind

_KINDS: tuple[Kind, ...] = ("missing", "unexplained", "changed")
_SHOWN = 50  # of each kind, in a table

_MEANING: dict[Kind, str] = {
    "missing": "a row's file is not where it should be",
    "unexplained": "a file that no row explains",
    "changed": "a file that is not the picture that was inspected",
}


@click.command(epilog="Example: crackwatch audit --full --format json")
@config_option
@click.option("--full", is_flag=True, help="Read and hash every file, not only what looks touched.")
@format_option("table", "json")
def command(config: str | None, full: bool, output_format: str) -> int:
    """Prove that everything that arrived is accounted for; changes nothing.

    Exit status 1 if something is missing, unexplained or changed, or if the sum does not balance.
    Pictures that are still pending are no fault.
    """
    settings = load_settings(config)
    from crackwatch.audit import Auditor
    from crackwatch.belonging import OwnInbox
    from crackwatch.domain import Place
    from crackwatch.errors import EXIT_DONE, EXIT_FOUND
    from crackwatch.inbox import NamePolicy
    from crackwatch.settings import require_inbox
    from crackwatch.store.audits import AuditBooks

    require_inbox(settings)
    folders = settings.folders
    # an inbox that is not mounted would look as if all that it holds were gone
    OwnInbox(os.fsencode(folders.inbox), folders.state, settings.file.parent).check()
    books = AuditBooks(settings.database_file, settings.station.name)
    total = books.total()
    with progress_bar("Checking rows") as show:
        outcome = Auditor(
            books,
            os.fsencode(folders.inbox),
            {
                Place.FLAGGED: os.fsencode(folders.flagged),
                Place.ARCHIVED: os.fsencode(folders.archive),
                Place.QUARANTINED: os.fsencode(folders.quarantine),
            },
            NamePolicy(settings.files.patterns, recursive=settings.files.recursive),
            full=full,
            progress=lambda done: show(done, total),
        ).audit()
    if output_format == "json":
        echo_json(document(outcome))
    else:
        click.echo(table(outcome, settings.station.name), nl=False)
    return EXIT_DONE if outcome.ok else EXIT_FOUND


def document(outcome: Audit) -> dict[str, Any]:
    """The outcome under the keys that others may rely on."""
    return {
        "ok": outcome.ok,
        "arrived": outcome.arrived,
        **outcome.counts,
        **{kind: [_finding(each) for each in outcome.of(kind)] for kind in _KINDS},
    }


def table(outcome: Audit, station: str) -> str:
    """The outcome for a person."""
    from crackwatch.domain import path_text

    lines = [f"{station}: {outcome.arrived:,} arrived", ""]
    lines += [f"  {word:<12}{count:>12,}" for word, count in outcome.counts.items()]
    total = sum(outcome.counts.values())
    lines.append(f"  {'together':<12}{total:>12,}")
    for kind in _KINDS:
        found = outcome.of(kind)
        if not found:
            continue
        lines += ["", f"{kind.capitalize()}: {len(found):,}, {_MEANING[kind]}"]
        for each in found[:_SHOWN]:
            row = "" if each.id is None else f" (row {each.id})"
            lines.append(f"  {path_text(each.path)}: {each.reason}{row}")
        if len(found) > _SHOWN:
            lines.append(f"  and {len(found) - _SHOWN:,} more: --format json")
    lines.append("")
    if outcome.ok:
        lines.append("Everything that arrived is accounted for.")
    elif outcome.balances:
        lines.append("Not everything is accounted for.")
    else:
        lines.append(f"The sum does not balance: {outcome.arrived:,} arrived, {total:,} found.")
    return "\n".join(lines) + "\n"


def _finding(each: Finding) -> dict[str, Any]:
    from crackwatch.domain import path_text

    return {"path": path_text(each.path), "id": each.id, "reason": each.reason}
