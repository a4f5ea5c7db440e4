"""``crackwatch audit``: proves that everything that arrived is accounted for."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from crackwatch.cli.options import config_option, echo_json, format_option, load_settings, who
from crackwatch.cli.progress import progress_bar

if TYPE_CHECKING:
    from crackwatch.audited import Audit, Finding, Kind
    from crackwatch.cli.departing import Doorway
    from crackwatch.repair import Step
    from crackwatch.settings import Settings

_KINDS: tuple[Kind, ...] = ("missing", "unexplained", "changed")
_SHOWN = 50  # of each kind, in a table

_MEANING: dict[Kind, str] = {
    "missing": "a row's file is not where it should be",
    "unexplained": "a file that no row explains",
    "changed": "a file that is not the picture that was inspected",
}


@click.command(epilog="Example: crackwatch audit --repair --dry-run")
@config_option
@click.option("--full", is_flag=True, help="Read and hash every file, not only what looks touched.")
@click.option(
    "--repair",
    is_flag=True,
    help="Mend what was broken by hand: files that are gone are accepted as vanished, files that no "
    "row explains go into the inbox as new arrivals.",
)
@click.option(
    "--accept",
    "accepted",
    multiple=True,
    metavar="WHAT",
    help="Accept as vanished only this: a row's number, a path, or a folder for all that is missing "
    "below it; may be given several times.",
)
@click.option(
    "--take-in-changed",
    is_flag=True,
    help="With --repair: files that are not what was inspected go into the inbox as well.",
)
@click.option("--dry-run", is_flag=True, help="With --repair or --accept: say what would be done.")
@click.option("--by", metavar="NAME", help="Who accepts it [default: the user].")
@format_option("table", "json")
def command(
    config: str | None,
    full: bool,
    repair: bool,
    accepted: tuple[str, ...],
    take_in_changed: bool,
    dry_run: bool,
    by: str | None,
    output_format: str,
) -> int:
    """Prove that everything that arrived is accounted for; changes nothing unless it is told to.

    Exit status 1 if something is missing, unexplained or changed, or if the sum does not balance:
    after the repair, where one was asked for. Pictures that are still pending are no fault.

    --repair never accepts what is missing from a folder that is empty or not there, which may not
    be mounted; --accept FOLDER does. JSON has a key more then: repair{dry_run by accepted[{path id}]
    taken_in[{path id to}] removed[{path}] left[{kind path id why}]}.
    """
    settings = load_settings(config)
    from crackwatch.belonging import OwnInbox
    from crackwatch.config_file import require_inbox
    from crackwatch.errors import EXIT_DONE, EXIT_FOUND, UsageError
    from crackwatch.naming import require_same
    from crackwatch.own_places import OwnPlaces
    from crackwatch.store.engine import open_reader
    from crackwatch.store.newest import in_file
    from crackwatch.store.renaming import recorded_as

    if (take_in_changed and not repair) or ((dry_run or by) and not (repair or accepted)):
        raise UsageError("there is nothing to repair", "Give --repair, or --accept WHAT, as well.")
    require_inbox(settings)
    file = settings.database_file
    require_same(settings, lambda name: recorded_as(open_reader(file), name))
    # an inbox that is not mounted would look as if all that it holds were gone
    folders = settings.folders
    OwnInbox(os.fsencode(folders.inbox), folders.state, settings.file.parent).check()
    # and so would one of the folders that they are moved to
    OwnPlaces(settings, in_file(file, settings.station.name)).check_all()
    mended: dict[str, Any] | None = None
    if repair or accepted:
        outcome, mended = _repaired(
            settings,
            accepted,
            who(by),
            full=full,
            repair=repair,
            changed=take_in_changed,
            dry_run=dry_run,
        )
    else:
        outcome = _audited(settings, full=full)
    if output_format == "json":
        echo_json(document(outcome) | ({"repair": mended} if mended is not None else {}))
    else:
        click.echo(table(outcome, settings.station.name), nl=False)
        if mended is not None:
            click.echo(_told(mended), nl=False)
    return EXIT_DONE if outcome.ok else EXIT_FOUND


def _audited(settings: Settings, *, full: bool) -> Audit:
    from crackwatch.audit import Auditor
    from crackwatch.domain import Place
    from crackwatch.inbox import NamePolicy
    from crackwatch.store.audits import AuditBooks

    folders = settings.folders
    books = AuditBooks(settings.database_file, settings.station.name)
    total = books.total()
    with progress_bar("Checking rows") as show:
        return Auditor(
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


def _repaired(
    settings: Settings,
    accepted: tuple[str, ...],
    by: str,
    *,
    full: bool,
    repair: bool,
    changed: bool,
    dry_run: bool,
) -> tuple[Audit, dict[str, Any]]:
    """The outcome after the repair, and what was done; with ``dry_run``: before, and what would be."""
    from crackwatch import logs
    from crackwatch.cli.departing import doorway
    from crackwatch.housekeeping import folders_of
    from crackwatch.inbox import NamePolicy
    from crackwatch.repair import chooser, plan
    from crackwatch.store.audits import AuditBooks

    with doorway(settings, dry_run=dry_run, places=folders_of(settings)) as door:
        outcome = _audited(settings, full=full)
        rows = door.rows.of_rows([each.id for each in outcome.findings if each.id is not None])
        steps = plan(
            outcome.findings,
            folders_of(settings),
            NamePolicy(settings.files.patterns, recursive=settings.files.recursive),
            {id: each.source for id, each in rows.items()},
            disks=AuditBooks(settings.database_file, settings.station.name),
            accepts=chooser(accepted, outcome.findings) if accepted else None,
            accept_only=not repair,
            changed=changed,
        )
        mended = _carried_out(door, steps, by, dry_run=dry_run)
    if not dry_run:
        log = logs.get(station=settings.station.name)
        for each in mended["accepted"]:
            log.info("accepted_as_vanished", by=by, **each)
        for each in mended["removed"]:
            log.info("leaving_removed", **each)
        for each in mended["left"]:
            log.warning("not_repaired", **each)
        if mended["accepted"] or mended["taken_in"] or mended["removed"]:
            outcome = _audited(settings, full=full)
    return outcome, {"dry_run": dry_run, "by": by, **mended}


def _carried_out(
    door: Doorway, steps: list[Step], by: str, *, dry_run: bool
) -> dict[str, list[dict[str, Any]]]:
    from crackwatch.cli.departing import why
    from crackwatch.domain import DepartureResult
    from crackwatch.escaping import path_text

    done: dict[str, list[dict[str, Any]]] = {
        "accepted": [], "taken_in": [], "removed": [], "left": [],
    }  # fmt: skip

    def leave(step: Step, reason: str) -> None:
        done["left"].append({"kind": step.finding.kind, **_named(step.finding), "why": reason})

    gone = [step for step in steps if step.action == "accept"]
    ids = [step.finding.id for step in gone if step.finding.id is not None]
    vanished = set(ids) if dry_run or not ids else door.rows.vanish(ids, by)
    for step in gone:
        if step.finding.id in vanished:
            done["accepted"].append(_named(step.finding))
        else:
            leave(step, "its row has changed meanwhile")
    strays = {step.finding.path: step for step in steps if step.action == "take_in"}
    if dry_run:
        for step in strays.values():
            done["taken_in"].append({**_named(step.finding), "to": path_text(step.wanted)})
    else:
        asked = [
            (step.departure, step.wanted) for step in strays.values() if step.departure is not None
        ]
        for some in door.departing.back_to_inbox(asked, by):
            for each in some:
                step = strays.pop(door.leaver.path(each.departure))
                if each.result is DepartureResult.DONE:
                    to = path_text(door.leaver.target(each.departure))
                    done["taken_in"].append({**_named(step.finding), "to": to})
                else:
                    leave(step, why(each))
        for step in strays.values():
            leave(step, "its row has changed meanwhile")
    for step in steps:
        if step.action == "leave":
            leave(step, step.why)
        elif step.action == "remove":
            try:
                if not dry_run:
                    os.unlink(step.finding.path)
            except OSError as exc:
                leave(step, exc.strerror or str(exc))
            else:
                done["removed"].append({"path": path_text(step.finding.path)})
    return done


def _named(each: Finding) -> dict[str, Any]:
    from crackwatch.escaping import path_text

    return {"path": path_text(each.path), "id": each.id}


def _told(mended: dict[str, Any]) -> str:
    would = mended["dry_run"]
    titles = {
        "accepted": "Would be accepted as vanished" if would else "Accepted as vanished",
        "taken_in": "Would go into the inbox" if would else "Went into the inbox",
        "removed": "Leavings of our own that would go" if would else "Leavings of our own removed",
        "left": "Left as it is",
    }
    lines = []
    for key, title in titles.items():
        found = mended[key]
        if not found:
            continue
        lines += ["", f"{title}: {len(found):,}"]
        for each in found[:_SHOWN]:
            extra = f" -> {each['to']}" if "to" in each else ""
            extra += f": {each['why']}" if "why" in each else ""
            lines.append(f"  {each['path']}{extra}")
        if len(found) > _SHOWN:
            lines.append(f"  and {len(found) - _SHOWN:,} more: --format json")
    return "\n".join(lines or ["", "There was nothing to repair."]) + "\n"


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
    from crackwatch.escaping import path_text

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
        lines.append(
            "Not everything is accounted for. What could be done: crackwatch audit --repair --dry-run"
        )
    else:
        lines.append(f"The sum does not balance: {outcome.arrived:,} arrived, {total:,} found.")
    return "\n".join(lines) + "\n"


def _finding(each: Finding) -> dict[str, Any]:
    from crackwatch.escaping import path_text

    return {"path": path_text(each.path), "id": each.id, "reason": each.reason}
