"""``crackwatch classify``: scores pictures without recording or moving them."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import click

from crackwatch.cli.options import config_option, format_option, load_settings
from crackwatch.domain import Verdict, path_bytes, path_text
from crackwatch.errors import EXIT_DONE, UsageError

if TYPE_CHECKING:
    from crackwatch.scoring import Refused, Scored


@click.command(epilog="Example: crackwatch classify flagged/ suspect.jpg --format json")
@config_option
@click.option("--model", "model_id", metavar="ID", help="Which model [default: the champion].")
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1),
    metavar="T",
    help="Anomaly if score >= T [default: the one that the station uses].",
)
@format_option("table", "json")
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=click.UNPROCESSED)
def command(
    config: str | None,
    model_id: str | None,
    threshold: float | None,
    output_format: str,
    paths: tuple[str, ...],
) -> int:
    r"""Score files, or all pictures in folders and below, as the daemon would.

    Nothing is recorded and nothing is moved. In folders, files.patterns says what is a picture.
    PATH may be written as reports print it (\xNN for a byte that is not text). Exit status: 0
    whatever is found; 2 if a PATH does not exist; 4 no usable model.
    """
    settings = load_settings(config)
    named = [_existing(path) for path in paths]

    from crackwatch.champion import open_chosen
    from crackwatch.cli.progress import progress_bar
    from crackwatch.cli.workshop import decoder
    from crackwatch.inbox import NamePolicy
    from crackwatch.registry import Registry
    from crackwatch.scoring import pictures_in, score

    registry = Registry(settings.folders.models)
    classifier, rule = open_chosen(registry, model_id, settings.model, threshold)

    policy = NamePolicy(settings.files.patterns, recursive=True)
    results = score(
        pictures_in(named, policy),
        decoder(settings),
        classifier,
        rule,
        settings.files.max_bytes,
    )
    if sys.stderr.isatty() and not sys.stdout.isatty():
        total = sum(1 for _ in pictures_in(named, policy))
        with progress_bar("scoring") as progress:
            counts = _print(_told(results, progress, total), classifier.model_id, output_format)
    else:
        counts = _print(results, classifier.model_id, output_format)
    summary = ", ".join(f"{count} {what}" for what, count in counts.items())
    click.echo(f"{summary} (model {classifier.model_id}, threshold {rule.threshold:.6g})", err=True)
    return EXIT_DONE


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


def _print(results: Iterable[Scored | Refused], model: str, output_format: str) -> dict[str, int]:
    """Prints each result when it is known; returns how many there were of each kind."""
    from crackwatch.scoring import Scored

    counts = {Verdict.ANOMALY.value: 0, Verdict.NORMAL.value: 0, "unreadable": 0}
    separator = "["
    for result in results:
        path = path_text(result.path)
        entry: dict[str, object]
        if isinstance(result, Scored):
            counts[result.verdict.value] += 1
            entry = {
                "path": path,
                "score": result.score,
                "verdict": result.verdict.value,
                "model": model,
            }
            line = f"{result.score:.6f}  {result.verdict.value:<10}  {path}"
        else:
            counts["unreadable"] += 1
            entry = {"path": path, "error": result.error}
            line = f"{'-':<8}  {'unreadable':<10}  {path}: {result.error}"
        if output_format == "json":
            click.echo(f"{separator}\n  {json.dumps(entry, ensure_ascii=False)}", nl=False)
            separator = ","
        else:
            click.echo(line)
    if output_format == "json":
        click.echo("[]" if separator == "[" else "\n]")
    return counts
