"""``crackwatch report``: what was inspected and found in a span of time."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import click

from crackwatch.cli.options import config_option, format_option, load_settings

if TYPE_CHECKING:
    from crackwatch.reporting.summary import Pending
    from crackwatch.settings import Settings
    from crackwatch.store.reports import ReportRows

_ROWS_ON_A_SCREEN = 20
_ROWS_ON_PAPER = 1_000
_STATUS_IS_FRESH_S = 5.0


@click.command(
    epilog="Example: crackwatch report --since yesterday --until today --format html "
    "--output report.html"
)
@config_option
@click.option(
    "--since",
    metavar="WHEN",
    default="today",
    show_default=True,
    help="The first instant of WHEN: yesterday, monday, 2026-11-01, '2 days ago' (from the start "
    "of that day); '3 hours ago', 14:30, 2026-11-01T14:30 (from that moment).",
)
@click.option("--until", metavar="WHEN", help="The end, exclusive [default: now].")
@format_option("table", "json", "csv", "html")
@click.option(
    "--limit",
    type=click.IntRange(min=0),
    metavar="N",
    help="List N anomalies and N quarantined pictures at most "
    f"[default: {_ROWS_ON_A_SCREEN} in a table, {_ROWS_ON_PAPER:,} in html, all in json].",
)
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write FILE, replacing it whole, instead of standard output.",
)
def command(
    config: str | None,
    since: str,
    until: str | None,
    output_format: str,
    limit: int | None,
    output: Path | None,
) -> None:
    """What was inspected and found in a span of time.

    Days begin by report.day_starts_at in the station's time zone. json, table and html count
    superseded inspections by themselves; csv has a line for every inspection.

    Columns of csv: id, inspected_at, outcome (normal, anomaly, quarantined), standing (kept,
    flagged, archived, deleted, quarantined, pending, superseded, expired, vanished), score,
    threshold, model, source (path in the inbox), path (where the file is now), reason, detail,
    sha256, duplicate_of (id of the first inspection of the same bytes); of a photograph that was
    judged in tiles: tiles, tiles_over (that reach the threshold), min_tiles (so many that touch make
    it an anomaly), length_mm (indicative).

    An anomaly that was judged in tiles has in json, too: tiles tiles_over min_tiles width height
    length_mm boxes[{x y w h score}], in its own upright pixels. A model is listed once for each of
    its rules: min_tiles is null where its threshold was for single pictures.
    """
    settings = load_settings(config)
    from dataclasses import replace
    from datetime import UTC, datetime

    from crackwatch.reporting.when import window

    now = datetime.now(UTC)
    span = window(
        since, until, now=now, zone=settings.station.tz, day_start=settings.report.day_start
    )

    from crackwatch import driftwatch
    from crackwatch.domain import Place
    from crackwatch.reporting.summary import Whereabouts, summarize
    from crackwatch.store.reports import reading

    folders = settings.folders
    whereabouts = Whereabouts(
        os.fsencode(folders.inbox),
        {
            Place.FLAGGED: os.fsencode(folders.flagged),
            Place.ARCHIVED: os.fsencode(folders.archive),
            Place.QUARANTINED: os.fsencode(folders.quarantine),
        },
    )
    with reading(settings.database_file) as rows:
        if output_format == "csv":
            from crackwatch.reporting import render_csv

            lines = rows.with_photographs(rows.lines(span, superseded=True, newest_first=False))
            with _stream(output) as stream:
                render_csv.write(stream, lines, whereabouts, span.since.tzinfo)
            return
        if limit is None:
            limit = {"table": _ROWS_ON_A_SCREEN, "html": _ROWS_ON_PAPER}.get(output_format)
        summary = summarize(rows, span, whereabouts, lambda: _pending(settings, rows), limit=limit)
        drift = driftwatch.of_window(rows.drift, span, settings.report.day_start)
        summary = replace(summary, drift=drift, reviews=rows.reviews(span))
    name = settings.station.name
    with _stream(output) as stream:
        if output_format == "json":
            import json

            from crackwatch.reporting import render_json

            # in one piece: written bit by bit to an unbuffered output it takes three times as long
            text = json.dumps(render_json.document(summary), ensure_ascii=False, indent=2)
            stream.write(text + "\n")
        elif output_format == "html":
            from crackwatch.reporting import render_html

            stream.write(render_html.html(summary, name, now))
        elif output is None and stream.isatty():
            from crackwatch.reporting import render_table

            render_table.on_terminal(summary, name, stream)
        else:
            from crackwatch.reporting import render_table

            stream.write(render_table.plain(summary, name))


def _pending(settings: Settings, rows: ReportRows) -> Pending | None:
    """From the running daemon where it has counted just now, else by a look at the inbox.

    None where the inbox cannot be looked at: a report of what was found must not fail for that.
    """
    from datetime import UTC, datetime

    from crackwatch.errors import SystemFault
    from crackwatch.health import status
    from crackwatch.inbox import NamePolicy, count_unrecorded
    from crackwatch.reporting.summary import Pending

    now = datetime.now(UTC)
    try:
        said = status.read(settings.folders.state)
    except PermissionError:  # another user's station: its books may still be readable
        said = {}
    counted, as_of = said.get("inbox_pending"), said.get("pending_as_of")
    if counted is not None and as_of is not None:
        moment = datetime.fromisoformat(as_of)
        if (now - moment).total_seconds() <= _STATUS_IS_FRESH_S:
            return Pending(counted, moment)
    policy = NamePolicy(settings.files.patterns, recursive=settings.files.recursive)
    try:
        recorded = rows.recorded(settings.station.name)
        count = count_unrecorded(
            os.fsencode(settings.folders.inbox),
            policy,
            lambda entries: sum(not recorded(entry) for entry in entries),
        )
    except SystemFault:
        return None
    return Pending(count, now)


@contextlib.contextmanager
def _stream(output: Path | None) -> Iterator[TextIO]:
    """Standard output, or a file that appears whole or not at all."""
    if output is None:
        yield sys.stdout
        return
    from crackwatch.errors import UsageError

    partial = output.with_name(f".{output.name}.part")
    try:
        with partial.open("w", encoding="utf-8", newline="") as stream:
            yield stream
        partial.replace(output)
    except OSError as exc:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise UsageError(
            f"{output}: cannot be written: {exc.strerror}", "Name a file in a folder that exists."
        ) from exc
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
