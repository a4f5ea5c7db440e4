"""``crackwatch dataset``: takes labelled pictures into the station's dataset folder."""

from __future__ import annotations

from pathlib import Path

import click

from crackwatch.cli.options import config_option, echo_json, format_option, load_settings
from crackwatch.cli.progress import progress_bar
from crackwatch.errors import EXIT_DONE

_SHOWN = 10


@click.group(epilog="Example: crackwatch dataset import /data/concrete")
def command() -> None:
    """Labelled pictures to learn from."""


@command.command("import", epilog="Example: crackwatch dataset import /data/concrete --format json")
@click.argument("folder", type=click.Path(path_type=Path))
@config_option
@format_option("table", "json")
def import_command(folder: Path, config: str | None, output_format: str) -> int:
    """Copy labelled pictures into the station's dataset.

    FOLDER holds anomaly/ and normal/, or train/ with these two inside. Each picture is checked;
    the same file is taken in once; nothing is overwritten. Files that cannot be used are listed,
    and stay where they are. Exit status: 0 done; 2 no labelled folder, or nothing in it was usable.
    """
    settings = load_settings(config)

    from crackwatch import dataset
    from crackwatch.cli.workshop import decoder
    from crackwatch.errors import DatasetError

    with progress_bar("checking") as progress:
        result = dataset.import_folder(
            folder, settings.folders.dataset, decoder(settings), progress
        )
    if output_format == "json":
        echo_json(
            {
                "imported": result.imported,
                "duplicates": result.duplicates,
                "anomaly": result.anomaly,
                "normal": result.normal,
                "problems": [
                    {"path": problem.path, "reason": problem.reason} for problem in result.problems
                ],
            }
        )
    else:
        for problem in result.problems[:_SHOWN]:
            click.echo(f"left out: {problem.path}: {problem.reason}", err=True)
        if len(result.problems) > _SHOWN:
            click.echo(f"left out: {len(result.problems) - _SHOWN} more", err=True)
        click.echo(
            f"imported {result.imported}, {result.duplicates} were there already, "
            f"{len(result.problems)} left out"
        )
        click.echo(
            f"{settings.folders.dataset} now holds {result.anomaly} anomaly and "
            f"{result.normal} normal pictures"
        )
    if result.problems and not result.imported and not result.duplicates:
        raise DatasetError(
            f"{folder}: not one of its {len(result.problems)} files could be taken in",
            "See the reasons above; --format json lists all of them.",
        )
    return EXIT_DONE
