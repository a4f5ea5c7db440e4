"""``crackwatch requeue``: quarantined pictures back into the inbox, as new arrivals."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from crackwatch.cli.options import config_option, echo_json, format_option, load_settings, who
from crackwatch.cli.progress import progress_bar
from crackwatch.domain import QuarantineReason

if TYPE_CHECKING:
    from datetime import datetime

    from crackwatch.cli.departing import Doorway
    from crackwatch.departures import Departed
    from crackwatch.settings import Settings
    from crackwatch.store.departures import Filed

_SHOWN = 50  # in a table


@click.command(
    epilog="Example: crackwatch requeue --reason decoder_timeout --since yesterday --dry-run"
)
@click.argument("path", nargs=-1)
@config_option
@click.option(
    "--reason",
    "reasons",
    multiple=True,
    type=click.Choice([each.value for each in QuarantineReason]),
    help="Only pictures that were quarantined for it; may be given several times.",
)
@click.option(
    "--since",
    metavar="WHEN",
    help="Only pictures quarantined since WHEN: yesterday, monday, 2026-11-01, '2 days ago' (from "
    "the start of that day); '3 hours ago', 14:30, 2026-11-01T14:30 (from that moment).",
)
@click.option("--until", metavar="WHEN", help="Only before WHEN, exclusive.")
@click.option("--all", "everything", is_flag=True, help="All that are in the quarantine.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@click.option("--by", metavar="NAME", help="Who asks for it [default: the user].")
@format_option("table", "json")
def command(
    path: tuple[str, ...],
    config: str | None,
    reasons: tuple[str, ...],
    since: str | None,
    until: str | None,
    everything: bool,
    dry_run: bool,
    by: str | None,
    output_format: str,
) -> int:
    """Send quarantined pictures back into the inbox, where they are inspected as new arrivals.

    PATH is a file in the quarantine, the path that it had in the inbox, or the number of its
    inspection. Conditions add up: what is named must also have one of the reasons, and the time.

    A picture gets its old path in the inbox, or a free name beside it; the reason that lay beside
    it in the quarantine is removed, and its inspection becomes superseded. The station may run
    meanwhile. Killed, it leaves each picture either in quarantine or in the inbox; the next call, or
    the station's next start, finishes what was begun.

    Exit status 1 if a picture that was meant could not be sent back.

    JSON: dry_run requeued[{id source reason from to}] left[{id source reason from why}] resumed
    """
    settings = load_settings(config)
    from crackwatch.cli.departing import doorway
    from crackwatch.domain import Place
    from crackwatch.errors import EXIT_DONE, EXIT_FOUND, UsageError
    from crackwatch.inbox import NamePolicy
    from crackwatch.requeue import named

    if not (path or reasons or since or until or everything):
        raise UsageError(
            "nothing says which pictures are meant",
            "Name them by --reason, --since, --until or PATH, or take --all; --dry-run shows them.",
        )
    if everything and path:
        raise UsageError("--all and PATH exclude each other", "Give one of them.")
    begin, end = _span(settings, since, until)
    user = who(by)
    with doorway(settings, dry_run=dry_run, places=[Place.QUARANTINED]) as door:
        folders = settings.folders
        ids = None
        if path:
            quarantine, inbox = os.fsencode(folders.quarantine), os.fsencode(folders.inbox)
            ids = sorted(named(door.rows, path, quarantine, inbox))
        pictures = door.rows.quarantined(reasons=reasons, since=begin, until=end, ids=ids)
        policy = NamePolicy(settings.files.patterns, recursive=settings.files.recursive)
        # where nobody would look at them they would be lost, whatever their rows say
        unseen = {each.id for each in pictures if not policy.accepts(each.source)}
        free = [each for each in pictures if each.held != "departing" and each.id not in unseen]
        done = _aimed(door, free) if dry_run else _sent(door, free, user)
        shown = _document(door, pictures, done, unseen, dry_run=dry_run)
    if output_format == "json":
        echo_json(shown)
    else:
        click.echo(_table(shown, os.fspath(folders.inbox), Place.QUARANTINED.value), nl=False)
    return EXIT_FOUND if shown["left"] else EXIT_DONE


def _span(
    settings: Settings, since: str | None, until: str | None
) -> tuple[datetime | None, datetime | None]:
    from datetime import UTC, datetime

    from crackwatch.reporting.when import instant, window

    now = datetime.now(UTC)
    zone, day_start = settings.station.tz, settings.report.day_start
    if since is not None:
        span = window(since, until, now=now, zone=zone, day_start=day_start)
        return span.since, span.until if until is not None else None
    if until is not None:
        return None, instant(until, now=now, zone=zone, day_start=day_start, option="--until")
    return None, None


def _aimed(door: Doorway, pictures: list[Filed]) -> list[Departed]:
    """What would become of them; asks the folders, changes nothing."""
    from dataclasses import replace

    from crackwatch.departures import Departed
    from crackwatch.domain import DepartureKind, DepartureResult
    from crackwatch.requeue import departure_of

    chosen: set[bytes] = set()

    def taken(name: bytes) -> bool:
        return name in chosen or bool(door.rows.held([name]))

    aimed: list[Departed] = []
    with progress_bar("Looking") as show:
        for number, each in enumerate(pictures):
            show(number, len(pictures))
            target = door.leaver.free_target(each.source, each.id, taken)
            chosen.add(target)
            departure = replace(departure_of(each, DepartureKind.RETURN), target=target)
            result = DepartureResult.DONE
            if not os.path.lexists(door.leaver.path(departure)):
                result = DepartureResult.GONE
            elif not door.leaver.is_what_departs(departure):
                result = DepartureResult.CHANGED
            aimed.append(Departed(departure, result))
    return aimed


def _sent(door: Doorway, pictures: list[Filed], by: str) -> list[Departed]:
    from crackwatch.domain import DepartureKind
    from crackwatch.requeue import departure_of

    asked = [(departure_of(each, DepartureKind.RETURN), each.source) for each in pictures]
    done: list[Departed] = []
    with progress_bar("Moving") as show:
        for some in door.departing.back_to_inbox(asked, by):
            done += some
            show(len(done), len(asked))
    return done


def _document(
    door: Doorway, pictures: list[Filed], done: list[Departed], unseen: set[int], *, dry_run: bool
) -> dict[str, Any]:
    from crackwatch.cli.departing import why
    from crackwatch.domain import DepartureKind, DepartureResult
    from crackwatch.escaping import path_text
    from crackwatch.requeue import departure_of

    ended = {each.departure.inspection_id: each for each in done}
    requeued: list[dict[str, Any]] = []
    left: list[dict[str, Any]] = []
    for picture in pictures:
        departed = ended.get(picture.id)
        said = {
            "id": picture.id,
            "source": path_text(picture.source),
            "reason": picture.reason.value if picture.reason else None,
            "from": path_text(door.leaver.path(departure_of(picture, DepartureKind.RETURN))),
        }
        if departed is not None and departed.result is DepartureResult.DONE:
            requeued.append({**said, "to": path_text(door.leaver.target(departed.departure))})
        else:
            reason = why(departed) if departed else "it was moved by somebody else meanwhile"
            if picture.id in unseen:
                reason = "the station would not look at it there: [files] patterns, recursive"
            left.append({**said, "why": reason})
    return {
        "dry_run": dry_run,
        "requeued": requeued,
        "left": left,
        "resumed": len(door.resumed),
    }


def _table(shown: dict[str, Any], inbox: str, place: str) -> str:
    from crackwatch.cli.departing import WHY

    requeued, left = shown["requeued"], shown["left"]
    if not requeued and not left:
        return f"No {place} picture is meant.\n"
    verb = "would go back" if shown["dry_run"] else "went back"
    lines = [f"{len(requeued):,} {verb} into {inbox}"]
    wide = max((len(each["reason"] or "") for each in requeued[:_SHOWN]), default=0)
    lines += [
        f"  {each['id']:>8}  {each['reason'] or '':<{wide}}  {each['to']}"
        for each in requeued[:_SHOWN]
    ]
    if len(requeued) > _SHOWN:
        lines.append(f"  and {len(requeued) - _SHOWN:,} more: --format json")
    if left:
        lines.append(f"{len(left):,} not sent back")
        lines += [f"  {each['id']:>8}  {each['from']}: {each['why']}" for each in left[:_SHOWN]]
        if len(left) > _SHOWN:
            lines.append(f"  and {len(left) - _SHOWN:,} more: --format json")
        if any(each["why"].startswith(WHY["changed"]) for each in left):
            lines.append(
                "Changed files go in as they are by crackwatch audit --repair --take-in-changed"
            )
    if shown["resumed"]:
        lines.append(f"{shown['resumed']:,} of an earlier call were finished first")
    return "\n".join(lines) + "\n"
