"""``crackwatch classify``: scores pictures without recording or moving them."""

from __future__ import annotations

import functools
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from math import isnan
from typing import TYPE_CHECKING

import click

from crackwatch.cli.options import config_option, format_option, load_settings
from crackwatch.domain import Photograph, Verdict
from crackwatch.errors import EXIT_DONE, Unreadable, UsageError
from crackwatch.escaping import path_bytes, path_text

if TYPE_CHECKING:
    from crackwatch.decoding import Decoder
    from crackwatch.scoring import Refused, Scored
    from crackwatch.views import Rule

Mark = Callable[["Scored"], dict[str, object]]  # what to add to a picture's entry


@click.command(epilog="Example: crackwatch classify flagged/ suspect.jpg --format json")
@config_option
@click.option("--model", "model_id", metavar="ID", help="Which model [default: the champion].")
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1),
    metavar="T",
    help="Anomaly if score >= T [default: the one that the station uses].",
)
@click.option(
    "--overlay",
    type=click.Path(file_okay=False),
    metavar="DIR",
    help="Write a copy of each photograph there, with its boxes and score map drawn.",
)
@format_option("table", "json")
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=click.UNPROCESSED)
def command(
    config: str | None,
    model_id: str | None,
    threshold: float | None,
    overlay: str | None,
    output_format: str,
    paths: tuple[str, ...],
) -> int:
    r"""Score files, or all pictures in folders and below, as the daemon would.

    Nothing is recorded and nothing is moved. In folders, files.patterns says what is a picture.
    PATH may be written as reports print it (\xNN for a byte that is not text). --overlay marks
    whatever was judged in tiles, normals as well: their score map shows how near they were. Exit
    status: 0 whatever is found; 2 if a PATH does not exist or DIR cannot be made; 4 no usable model.
    """
    if threshold is not None and isnan(threshold):  # it is in every range of click's
        raise click.UsageError("--threshold nan: give a number from 0 to 1")
    settings = load_settings(config)
    named = [_existing(path) for path in paths]
    folder = _made(overlay) if overlay is not None else None

    from crackwatch import scales
    from crackwatch.champion import open_chosen
    from crackwatch.cli.progress import progress_bar
    from crackwatch.decoding import Decoder
    from crackwatch.inbox import NamePolicy
    from crackwatch.registry import Registry
    from crackwatch.scoring import pictures_in, score

    registry = Registry(settings.folders.models)
    classifier, rule = open_chosen(registry, model_id, settings.model, threshold)
    decoder, model_mm_per_px = Decoder(settings), registry.card(classifier.model_id).mm_per_px
    max_bytes = settings.files.max_bytes

    def mark(scored: Scored) -> dict[str, object]:
        if folder is None or scored.photograph is None:
            return {}
        return _marked(scored, scored.photograph, folder, decoder, max_bytes)

    policy = NamePolicy(settings.files.patterns, recursive=True)
    results = score(
        pictures_in(named, policy),
        lambda data: decoder(data, model_mm_per_px),
        classifier,
        rule,
        max_bytes,
        settings.images.mm_per_px,
    )
    show = functools.partial(_print, model=classifier.model_id, form=output_format, mark=mark)
    if sys.stderr.isatty() and not sys.stdout.isatty():
        total = sum(1 for _ in pictures_in(named, policy))
        with progress_bar("scoring") as progress:
            counts, tiled = show(_told(results, progress, total))
    else:
        counts, tiled = show(results)
    summary = ", ".join(f"{count} {what}" for what, count in counts.items())
    scored = counts[Verdict.ANOMALY.value] + counts[Verdict.NORMAL.value]
    in_force = _in_force(rule, tiled, scored - tiled)
    click.echo(f"{summary} (model {classifier.model_id}, {in_force})", err=True)
    own = settings.images.mm_per_px
    far = scales.complaint(own, model_mm_per_px, classifier.model_id) if tiled else None
    if far is not None:
        click.echo("warning: {}\n{}".format(*far), err=True)
    return EXIT_DONE


def _in_force(rule: Rule, photographs: int, others: int) -> str:
    """The thresholds that pictures were held against."""
    from crackwatch.tiled_words import rule_text

    said = [f"threshold {rule.threshold:.6g}"] if others or not photographs else []
    if photographs:
        said.append(
            f"threshold {rule.tiled_threshold:.6g} of photographs, {rule_text(rule.min_tiles, rule.second_look_from)}"
        )
    return ", ".join(said)


def _made(overlay: str) -> bytes:
    folder = os.fsencode(overlay)
    remedy = "Name a folder that you may write to; nothing was scored."
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as exc:
        raise UsageError(f"{path_text(folder)}: cannot be made: {exc.strerror}", remedy) from exc
    if not os.access(folder, os.W_OK | os.X_OK, effective_ids=True):
        raise UsageError(f"{path_text(folder)}: you may not write there", remedy)
    return folder


def _marked(
    scored: Scored, photograph: Photograph, folder: bytes, decoder: Decoder, max_bytes: int
) -> dict[str, object]:
    """Writes the marked copy: its path, or why there is none."""
    from crackwatch import marked
    from crackwatch.scoring import read

    name = os.path.basename(scored.path)
    try:
        data = read(scored.path, max_bytes)
        copy = marked.draw(data, decoder.limits, photograph, name, scored.score)
        return {"overlay": path_text(marked.save(folder, name, copy))}
    except Unreadable as exc:  # it was scored a moment ago: another file has its name by now
        return {"overlay": None, "overlay_error": f"it has changed: {exc}"}
    except OSError as exc:
        where = path_text(os.fsencode(exc.filename)) if exc.filename else path_text(folder)
        return {"overlay": None, "overlay_error": f"{where}: {exc.strerror}"}


def _existing(text: str) -> bytes:
    """The path that was typed: as it stands if there is such a file, else as reports print it."""
    for path in (os.fsencode(text), path_bytes(text)):
        try:
            os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as exc:
            raise UsageError(
                f"{path_text(path)}: cannot be read: {exc.strerror}", "Check its permissions."
            ) from exc
        except ValueError:  # a NUL byte: no file has such a name
            continue
        return path
    raise UsageError(
        f"{path_text(os.fsencode(text))}: there is no such file or folder",
        "Check the name; nothing was scored.",
    )


def _told(
    results: Iterable[Scored | Refused], progress: Callable[[int, int], None], total: int
) -> Iterator[Scored | Refused]:
    for done, result in enumerate(results, 1):
        progress(done, total)
        yield result


def _print(
    results: Iterable[Scored | Refused], *, model: str, form: str, mark: Mark
) -> tuple[dict[str, int], int]:
    """Prints each result when it is known.

    Returns how many there were of each kind, and how many were judged in tiles.
    """
    from crackwatch.scoring import Scored

    counts = {Verdict.ANOMALY.value: 0, Verdict.NORMAL.value: 0, "unreadable": 0}
    tiled = 0
    separator = "["
    for result in results:
        if isinstance(result, Scored):
            counts[result.verdict.value] += 1
            tiled += result.photograph is not None
            added = mark(result)
            entry, line = {**_entry(result, model), **added}, _line(result, added)
        else:
            counts["unreadable"] += 1
            path = path_text(result.path)
            entry = {"path": path, "error": result.error}
            line = f"{'-':<8}  {'unreadable':<10}  {path}: {result.error}"
        if form == "json":
            click.echo(f"{separator}\n  {json.dumps(entry, ensure_ascii=False)}", nl=False)
            separator = ","
        else:
            click.echo(line)
    if form == "json":
        click.echo("[]" if separator == "[" else "\n]")
    return counts, tiled


def _entry(scored: Scored, model: str) -> dict[str, object]:
    from crackwatch.reporting import tiles

    entry: dict[str, object] = {
        "path": path_text(scored.path),
        "score": scored.score,
        "verdict": scored.verdict.value,
        "model": model,
        "threshold": scored.threshold,
    }
    return entry if scored.photograph is None else {**entry, **tiles.document(scored.photograph)}


def _line(scored: Scored, added: dict[str, object]) -> str:
    from crackwatch.reporting import tiles

    line = f"{scored.score:.6f}  {scored.verdict.value:<10}  {path_text(scored.path)}"
    if scored.photograph is not None:
        line += f"  ({tiles.found_text(scored.photograph)})"
    if "overlay_error" in added:
        line += f"  no marked copy: {added['overlay_error']}"
    return line
