"""``crackwatch containment``: the inspections that a model's bad beats throw into doubt."""

from __future__ import annotations

import csv
import os
import sys
from typing import TYPE_CHECKING, Any

import click

from crackwatch.cli.options import config_option, echo_json, format_option, load_settings

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime, tzinfo

    from crackwatch.reporting.summary import Whereabouts
    from crackwatch.settings import Settings
    from crackwatch.store.heartbeats import Incident, IncidentRows
    from crackwatch.store.inspected import Judged

_SHOWN = 50  # of each incident, in a table

_COLUMNS = (
    "beat", "id", "inspected_at", "verdict", "score", "threshold", "model", "standing", "source",
    "path",
)  # fmt: skip


@click.command(epilog="Example: crackwatch containment --since yesterday --format csv")
@config_option
@click.option(
    "--since",
    metavar="WHEN",
    help="Only incidents that were open at WHEN or later: yesterday, monday, 2026-11-01 "
    "[default: all].",
)
@click.option(
    "--beat", type=click.IntRange(min=1), metavar="ID", help="Only the incident of this bad beat."
)
@format_option("table", "json", "csv")
def command(config: str | None, since: str | None, beat: int | None, output_format: str) -> int:
    """List the inspections that a model's failed golden pictures throw into doubt.

    Those that the model judged between its last good beat and the first bad one, for each incident:
    bad beats in a row. "path" is where the file is now. Exit status 1 if an incident is open (the
    station's last beat was bad), else 0.
    """
    settings = load_settings(config)
    from crackwatch.errors import EXIT_DONE, EXIT_FOUND, UsageError
    from crackwatch.store.heartbeats import reading

    if since is not None and beat is not None:
        raise UsageError("--since and --beat exclude each other", "Give one of them.")
    moment = _instant(since, settings) if since is not None else None
    whereabouts = _whereabouts(settings)
    with reading(settings.database_file, settings.station.name) as rows:
        is_open = rows.open()
        if beat is not None:
            found = rows.with_beat(beat)
            if found is None:
                raise UsageError(
                    f"beat {beat} is not a bad one of station {settings.station.name}",
                    "'crackwatch containment' lists every incident with its beats.",
                )
            incidents = [found]
        else:
            incidents = [
                each
                for each in rows.incidents()
                if moment is None or each.ended_at is None or each.ended_at >= moment
            ]
        if output_format == "csv":
            _write_csv(rows, incidents, whereabouts, settings.station.tz)
        elif output_format == "json":
            shown = [_document(rows, each, whereabouts, settings.station.tz) for each in incidents]
            echo_json({"open": is_open, "incidents": shown})
        else:
            click.echo(_table(rows, incidents, whereabouts, settings), nl=False)
    return EXIT_FOUND if is_open else EXIT_DONE


def _instant(since: str, settings: Settings) -> datetime:
    from datetime import UTC, datetime

    from crackwatch.reporting.when import window

    zone, day_start = settings.station.tz, settings.report.day_start
    return window(since, None, now=datetime.now(UTC), zone=zone, day_start=day_start).since


def _whereabouts(settings: Settings) -> Whereabouts:
    from crackwatch.domain import Place
    from crackwatch.reporting.summary import Whereabouts

    folders = settings.folders
    return Whereabouts(
        os.fsencode(folders.inbox),
        {
            Place.FLAGGED: os.fsencode(folders.flagged),
            Place.ARCHIVED: os.fsencode(folders.archive),
            Place.QUARANTINED: os.fsencode(folders.quarantine),
        },
    )


def _cells(
    incident: Incident, each: Judged, whereabouts: Whereabouts, zone: tzinfo
) -> dict[str, Any]:
    """One inspection under the names of ``_COLUMNS``; ``path`` is None where there is no file."""
    from crackwatch.escaping import path_text
    from crackwatch.reporting.render_csv import NO_FILE

    gone = each.standing in NO_FILE
    return {
        "beat": incident.first,
        "id": each.id,
        "inspected_at": each.inspected_at.astimezone(zone).isoformat(),
        "verdict": each.outcome.value,
        "score": each.score,
        "threshold": each.threshold,
        "model": each.model,
        "standing": str(each.standing),
        "source": path_text(each.source),
        "path": None if gone else path_text(whereabouts(each)),
    }


def _document(
    rows: IncidentRows, incident: Incident, whereabouts: Whereabouts, zone: tzinfo
) -> dict[str, Any]:
    def iso(moment: datetime | None) -> str | None:
        return moment.astimezone(zone).isoformat() if moment else None

    inspections = []
    for each in rows.doubted(incident):
        cells = _cells(incident, each, whereabouts, zone)
        del cells["beat"]
        inspections.append(cells)
    return {
        "beat": incident.first,
        "last_bad_beat": incident.last,
        "bad_beats": incident.bad_beats,
        "open": incident.ended_at is None,
        "model": incident.model,
        "runtime": incident.runtime,
        "precision": incident.precision,
        "last_good_at": iso(incident.last_good_at),
        "began_at": iso(incident.began_at),
        "ended_at": iso(incident.ended_at),
        "largest_difference": incident.largest_difference,
        "detail": incident.detail,
        "in_doubt": incident.doubted,
        "inspections": inspections,
    }


def _write_csv(
    rows: IncidentRows, incidents: Sequence[Incident], whereabouts: Whereabouts, zone: tzinfo
) -> None:
    from crackwatch.reporting.render_csv import safe

    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for incident in incidents:
        for each in rows.doubted(incident):
            cells = _cells(incident, each, whereabouts, zone)
            cells["source"], cells["path"] = safe(cells["source"]), safe(cells["path"] or "")
            writer.writerow([cells[column] for column in _COLUMNS])


def _table(
    rows: IncidentRows,
    incidents: Sequence[Incident],
    whereabouts: Whereabouts,
    settings: Settings,
) -> str:
    zone = settings.station.tz

    def shown(moment: datetime | None) -> str:
        return moment.astimezone(zone).isoformat(" ", "seconds") if moment else "never"

    lines = [f"{settings.station.name}: incidents: {len(incidents)}"]
    for incident in incidents:
        state = f"ended {shown(incident.ended_at)}" if incident.ended_at else "OPEN"
        lines += [
            "",
            f"beat {incident.first}: {incident.model} ({incident.runtime}, {incident.precision})",
            f"  began      {shown(incident.began_at)}, {state}; bad beats: {incident.bad_beats}",
            f"  last good  {shown(incident.last_good_at)}",
            f"  why        {incident.detail}",
            f"  in doubt   {incident.doubted:,} inspections",
        ]
        if incident.doubted:
            lines.append(f"  {'id':>8}  {'inspected':<25}  {'verdict':<8}  {'score':<6}  file")
        for each in rows.doubted(incident, _SHOWN):
            cells = _cells(incident, each, whereabouts, zone)
            path = cells["path"] or f"{cells['source']} ({cells['standing']})"
            lines.append(
                f"  {each.id:>8}  {shown(each.inspected_at):<25}  {each.outcome.value:<8}  "
                f"{each.score:.4f}  {path}"
            )
        if incident.doubted > _SHOWN:
            lines.append(f"  and {incident.doubted - _SHOWN:,} more: --format csv or json for all")
    return "\n".join(lines) + "\n"
