"""``crackwatch review``: a person says what pictures really show."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from crackwatch.cli.options import config_option, echo_json, format_option, load_settings, who
from crackwatch.cli.progress import progress_bar
from crackwatch.errors import EXIT_DONE, EXIT_FOUND

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from crackwatch.review.copies import Copies
    from crackwatch.review.exchange import Imported, Table
    from crackwatch.review.listing import Reviewed
    from crackwatch.review.locating import Locator
    from crackwatch.review.marking import Marker
    from crackwatch.review.photographs import PhotographMarker
    from crackwatch.review.rendering import Documents
    from crackwatch.settings import Settings
    from crackwatch.store.inspected import Inspected
    from crackwatch.store.reviews import ReviewBooks

_ROWS_ON_A_SCREEN = 20
_LABELS = ("crack", "ok")


@click.group(epilog="Example: crackwatch review mark 4711 ok --note 'a joint, not a crack'")
def command() -> None:
    """What people say of pictures: kept with who and when, and learned from by retrain.

    The latest label of a picture counts. Its copy lies in the station's dataset, in
    reviewed/anomaly or reviewed/normal.
    """


# ---------------------------------------------------------------------------------------- mark


@command.command(
    "mark", epilog="Example: crackwatch review mark flagged/2026-11-23/wall-17.jpg ok --by anna"
)
@click.argument("picture", metavar="PATH|ID")
@click.argument("label", metavar="crack|ok", type=click.Choice(_LABELS))
@click.option(
    "--box",
    "boxes",
    metavar="X,Y,W,H|N",
    multiple=True,
    help="Of a photograph: what is said is said of this part of it, in pixels from the upper left "
    "corner of the upright photograph; or the number of a box that 'report --format json' lists, "
    "the first being 1. May be repeated.",
)
@click.option("--note", metavar="TEXT", help="Why, for whoever reads it later.")
@click.option("--by", metavar="NAME", help="Who says so [default: the user logged in].")
@config_option
@format_option("table", "json")
def mark_command(
    picture: str,
    label: str,
    boxes: tuple[str, ...],
    note: str | None,
    by: str | None,
    config: str | None,
    output_format: str,
) -> None:
    """Say what one picture shows, or parts of a photograph.

    ID is the number of an inspection. PATH is a file, as it is or as reports print it; a path below
    the inbox or another of the station's folders; or the source of an inspection. A picture that was
    never inspected can be marked as well. The picture must be the one that was inspected, and must
    decode. Saying the same again changes nothing.

    A photograph is judged in tiles, and learned from in tiles: each --box is cut out at the model's
    scale, and its copy is what retrain learns from. A crack in a box is one of the photograph. ok
    without a box says that no tile shows a crack: those that reached the threshold are cut out as
    normal. crack without a box is recorded, and teaches nothing.

    JSON: label by at note changed inspection inspected_at source path picture sha256 box photograph
    score threshold verdict agrees earlier[{label by at note}]; of a photograph as well: recorded
    (whether the label is that of the whole) boxes[{x y w h photograph changed picture sha256}] advice.
    """
    settings = load_settings(config)
    spoken_by = who(by)
    from crackwatch.domain import LABEL_WORDS
    from crackwatch.errors import UsageError
    from crackwatch.people import checked_note
    from crackwatch.review import rendering

    written = checked_note(note)
    with _station(settings, writable=True) as station:
        located, marker = station.locator(picture), station.marker()
        try:
            seen = marker.read(located)
        except UsageError:
            moved = station.locator(picture)
            if moved == located:
                raise
            seen = marker.read(moved)  # the running station has just filed it
        if boxes and not seen.photograph:
            raise UsageError(
                f"{rendering.plain(picture)}: is a single picture, and has no boxes",
                "Say what the whole of it shows, without --box.",
            )
        if seen.photograph:
            parts = station.photographs(marker).mark(
                seen, LABEL_WORDS[label], spoken_by, written, boxes=boxes
            )
            shown = station.documents.photograph(parts, seen.path)
            lines = rendering.photograph_lines(shown)
        else:
            shown = station.documents.marked(
                marker.mark(seen, LABEL_WORDS[label], spoken_by, written), seen.path
            )
            lines = rendering.marked_lines(shown)
    if output_format == "json":
        echo_json(shown)
        return
    click.echo("\n".join(lines))


# ---------------------------------------------------------------------------------------- list


@command.command("list", epilog="Example: crackwatch review list --band --limit 10")
@click.option(
    "--since",
    metavar="WHEN",
    help="Reviewed since WHEN, such as yesterday; with --band: inspected since WHEN.",
)
@click.option("--contradictions", is_flag=True, help="Only pictures that were given both labels.")
@click.option(
    "--band",
    is_flag=True,
    help="What to look at next: inspections in the review band that nobody reviewed, those nearest "
    "to the threshold first.",
)
@click.option(
    "--limit",
    type=click.IntRange(min=0),
    metavar="N",
    help=f"List N pictures at most [default: {_ROWS_ON_A_SCREEN} in a table, else all].",
)
@config_option
@format_option("table", "json", "csv")
def list_command(
    since: str | None,
    contradictions: bool,
    band: bool,
    limit: int | None,
    config: str | None,
    output_format: str,
) -> None:
    """List reviewed pictures, the latest review first, and whether label and verdict agree.

    Copies that a crash left in the wrong folder are put right.

    JSON: crack ok disagreeing contradictions shown reviews[{label by at note inspection inspected_at
    source path picture sha256 box photograph score threshold verdict agrees contradictory
    in_conflict copy_lost
    labels[{label by at note sha256}]}]; of other files with equal pixels, labels has the latest ten
    of each kind. in_conflict: another file with equal pixels has the other label, so that
    retrain leaves both out. With --band: waiting shown band[{inspection inspected_at score threshold
    verdict model source path sha256}].
    """
    from crackwatch.errors import UsageError

    if band and contradictions:
        raise UsageError(
            "--band and --contradictions: the one lists what nobody reviewed, the other what was",
            "Give one of the two.",
        )
    settings = load_settings(config)
    moment = _moment(settings, since)
    if limit is None and output_format == "table":
        limit = _ROWS_ON_A_SCREEN
    with _station(settings, writable=False) as station:
        if band:
            waiting = station.books.waiting(moment)
            _show_band(station, waiting, limit, output_format)
            return
        lost = station.mend()
        from crackwatch.review.listing import listing

        found = listing(station.books, moment, contradictions=contradictions)
        _show_reviews(station, found, lost, limit, output_format)


def _show_band(
    station: _Station, waiting: Sequence[Inspected], limit: int | None, output_format: str
) -> None:
    from crackwatch.review import rendering

    documents = [station.documents.waiting(each) for each in waiting[:limit]]
    if output_format == "json":
        echo_json({"waiting": len(waiting), "shown": len(documents), "band": documents})
    elif output_format == "csv":
        rendering.write_csv(sys.stdout, documents, rendering.BAND_COLUMNS)
    else:
        if station.settings.model.review_band is None:
            click.echo(
                "This station has no review band: set model.review_low and model.review_high.",
                err=True,
            )
        click.echo("\n".join(rendering.band_lines(documents, len(waiting))))


def _show_reviews(
    station: _Station,
    found: Sequence[Reviewed],
    lost: frozenset[bytes],
    limit: int | None,
    output_format: str,
) -> None:
    from crackwatch.review import rendering

    documents = [station.documents.reviewed(each, lost) for each in found]
    counts = {
        "crack": sum(each["label"] == "crack" for each in documents),
        "ok": sum(each["label"] == "ok" for each in documents),
        "disagreeing": sum(each["agrees"] is False for each in documents),
        "contradictions": sum(each["contradictory"] for each in documents),
    }
    shown = documents[:limit]
    if output_format == "json":
        echo_json({**counts, "shown": len(shown), "reviews": shown})
        return
    if output_format == "csv":
        rendering.write_csv(sys.stdout, shown, rendering.REVIEW_COLUMNS)
        return
    click.echo("\n".join(rendering.review_lines(shown, counts, len(documents))))


# ----------------------------------------------------------------------------- import and export


@command.command(
    "import", epilog="Example: crackwatch review import reviewed-by-anna.csv --by anna"
)
@click.argument("table", type=click.Path(path_type=Path))
@click.option("--by", metavar="NAME", help="Who, where a row names nobody [default: the user].")
@config_option
@format_option("table", "json")
def import_command(table: Path, by: str | None, config: str | None, output_format: str) -> int:
    """Mark the pictures of a CSV file.

    Its first line names the columns: label (crack or ok; anomaly and normal mean the same), and path
    or id (where both are given, id is meant); by, note, at (ISO 8601: the label was given then, and
    counts only if no later one was) and sha256 (the picture must have it) may be there, other
    columns are left alone; box is X,Y,W,H or the number of a box of the photograph at path. Rows
    without a label are passed over, so that a column label added to
    'report --format csv' is enough. The file is checked whole before anything is marked.

    Exit status: 0 done; 1 some rows were refused; 2 the table is wrong, or all were.

    JSON: marked unchanged without_label ignored_columns[] refused[{line what reason}]
    contradictory (pictures of the table that people have called both by now).
    """
    settings = load_settings(config)
    spoken_by = who(by)
    from crackwatch.errors import UsageError
    from crackwatch.review import exchange, rendering

    name = rendering.plain(os.fsdecode(os.fsencode(table)))
    try:
        content = table.read_bytes()
    except OSError as exc:
        raise UsageError(f"{name}: cannot be read: {exc.strerror}", "Name a CSV file.") from exc
    parsed = exchange.parse(content, name, settings.station.tz)
    with _station(settings, writable=True) as station, progress_bar("checking, marking") as show:
        marker = station.marker()
        importer = exchange.Importer(
            *(station.books, station.copies, station.locator, marker, spoken_by),
            station.photographs(marker),
        )
        result = importer(parsed.rows, show)
    _show_import(name, parsed, result, output_format)
    if result.refused and not result.marked and not result.unchanged:
        raise UsageError(
            f"{name}: not one of its {len(result.refused)} pictures could be marked",
            "See the reasons above; --format json lists all of them.",
        )
    return EXIT_FOUND if result.refused else EXIT_DONE


def _show_import(name: str, parsed: Table, result: Imported, output_format: str) -> None:
    from crackwatch.review.rendering import plain

    if output_format == "json":
        echo_json(
            {
                "marked": result.marked,
                "unchanged": result.unchanged,
                "contradictory": result.contradictory,
                "without_label": parsed.without_label,
                "ignored_columns": list(parsed.ignored_columns),
                "refused": [
                    {"line": each.line, "what": plain(each.what), "reason": each.reason}
                    for each in result.refused
                ],
            }
        )
        return
    for each in result.refused[:_ROWS_ON_A_SCREEN]:
        click.echo(f"refused: {name}: line {each.line}: {each.reason}", err=True)
    if len(result.refused) > _ROWS_ON_A_SCREEN:
        click.echo(f"refused: {len(result.refused) - _ROWS_ON_A_SCREEN} more", err=True)
    click.echo(
        f"marked {result.marked}, {result.unchanged} were marked so already, "
        f"{len(result.refused)} refused, {parsed.without_label} rows without a label"
    )
    if result.contradictory:
        click.echo(
            f"of these pictures people have called both: {result.contradictory}; the latest label "
            "counts: crackwatch review list --contradictions"
        )


@command.command("export", epilog="Example: crackwatch review export reviews.csv")
@click.argument("table", type=click.Path(path_type=Path), required=False, metavar="[FILE]")
@config_option
def export_command(table: Path | None, config: str | None) -> None:
    """Write every label that was ever given as CSV, oldest first, to FILE or standard output.

    'review import' takes it back: after it the same labels are there, none of them twice. Columns:
    id (of the inspection), path (of the copy), label, by, at, note, sha256, box and photograph (of a
    cut-out: where in which photograph, by the sha256 of its bytes). A cell that a
    spreadsheet would take for a formula begins with an apostrophe, which the import takes off.
    """
    settings = load_settings(config)
    from crackwatch.errors import UsageError
    from crackwatch.review import exchange

    with _station(settings, writable=False) as station:
        reviews = station.books.all()
        if table is None:
            exchange.write(sys.stdout, reviews, station.copies, settings.station.tz)
            return
        partial = table.with_name(f".{table.name}.part")
        try:
            with partial.open("w", encoding="utf-8", newline="") as stream:
                exchange.write(stream, reviews, station.copies, settings.station.tz)
            partial.replace(table)
        except OSError as exc:
            with contextlib.suppress(OSError):
                partial.unlink()
            raise UsageError(
                f"{table}: cannot be written: {exc.strerror}",
                "Name a file in a folder that exists.",
            ) from exc
    click.echo(f"{len(reviews):,} labels written to {table}", err=True)


# --------------------------------------------------------------------------------------- wiring


@dataclass(frozen=True, slots=True)
class _Station:
    """What the commands need of one station."""

    settings: Settings
    books: ReviewBooks
    copies: Copies
    locator: Locator
    documents: Documents

    def marker(self) -> Marker:
        from crackwatch import images  # the decoder is for those who mark alone
        from crackwatch.cli.cutting import limits_of
        from crackwatch.cli.workshop import decoder
        from crackwatch.review.marking import Marker

        limits = limits_of(self.settings)
        return Marker(
            self.books,
            self.copies,
            decoder(self.settings),
            is_photograph=lambda content: images.is_photograph(content, limits),
        )

    def photographs(self, marker: Marker) -> PhotographMarker:
        from crackwatch.cli.cutting import scissors
        from crackwatch.review.photographs import PhotographMarker

        return PhotographMarker(marker, self.books, scissors(self.settings))

    def mend(self) -> frozenset[bytes]:
        """Files what a crash left; the hashes of the pictures whose copy is lost."""
        from crackwatch.errors import CrackwatchError
        from crackwatch.review.marking import by_picture, mend

        reviews = self.books.all()
        if not reviews:
            return frozenset()  # nothing to mend, and no folder to make for it
        try:
            return frozenset(each.sha256 for each in mend(self.books, self.copies))
        except CrackwatchError as exc:  # the list is what was asked for
            click.echo(f"crackwatch: copies were not looked after: {exc}", err=True)
        latest = [each[-1] for each in by_picture(reviews).values()]
        return frozenset(each.sha256 for each in latest if not self.copies.there(each.picture))


@contextlib.contextmanager
def _station(settings: Settings, *, writable: bool) -> Iterator[_Station]:
    from crackwatch.domain import Place
    from crackwatch.reporting.summary import Whereabouts
    from crackwatch.review.copies import REVIEWED, Copies
    from crackwatch.review.locating import Locator
    from crackwatch.review.rendering import Documents
    from crackwatch.store.reviews import opened

    folders = settings.folders
    places = {
        Place.FLAGGED: os.fsencode(folders.flagged),
        Place.ARCHIVED: os.fsencode(folders.archive),
        Place.QUARANTINED: os.fsencode(folders.quarantine),
    }
    inbox = os.fsencode(folders.inbox)
    whereabouts = Whereabouts(inbox, places)
    copies = Copies(folders.dataset / REVIEWED)
    with opened(settings.database_file, settings.station.name, writable=writable) as books:
        yield _Station(
            settings,
            books,
            copies,
            Locator(books, inbox, places, os.fsencode(settings.file.parent), whereabouts),
            Documents(copies, whereabouts, settings.station.tz),
        )


def _moment(settings: Settings, since: str | None) -> datetime | None:
    if since is None:
        return None
    from datetime import UTC, datetime

    from crackwatch.reporting.when import instant

    return instant(
        since,
        now=datetime.now(UTC),
        zone=settings.station.tz,
        day_start=settings.report.day_start,
    )
