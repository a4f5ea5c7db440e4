"""``crackwatch dataset``: takes labelled pictures into the station's dataset folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from crackwatch.cli.options import config_option, echo_json, format_option, load_settings
from crackwatch.cli.progress import progress_bar
from crackwatch.errors import EXIT_DONE

if TYPE_CHECKING:
    from crackwatch.dataset import CutOut, Imported
    from crackwatch.settings import Settings

_SHOWN = 10


@click.group(epilog="Example: crackwatch dataset import /data/concrete")
def command() -> None:
    """Labelled pictures to learn from."""


@command.command(
    "import",
    epilog="Example: crackwatch dataset import /data/concrete --format json, or, from photographs: "
    "crackwatch dataset import --tiles /data/bridges --masks /data/bridge-masks",
)
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--tiles",
    is_flag=True,
    help="FOLDER holds photographs: cut labelled crops from them, by --masks or --boxes.",
)
@click.option(
    "--masks",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="With --tiles: a picture of the same name (but for its suffix) and size for each "
    "photograph, 0 where there is no crack; PNG, BMP or TIFF.",
)
@click.option(
    "--boxes",
    type=click.Path(path_type=Path),
    metavar="FILE.csv",
    help="With --tiles: columns file,x,y,w,h,label; label is crack or ok, file relative to FOLDER. "
    "All cracks of a photograph must be named; without numbers it is ok as a whole.",
)
@click.option(
    "--normals",
    type=click.IntRange(min=0),
    metavar="N",
    help="With --tiles: take at most N crops without a crack from each photograph [default: 40].",
)
@config_option
@format_option("table", "json")
def import_command(
    folder: Path,
    tiles: bool,
    masks: Path | None,
    boxes: Path | None,
    normals: int | None,
    config: str | None,
    output_format: str,
) -> int:
    """Copy labelled pictures into the station's dataset, or cut them from photographs.

    FOLDER holds anomaly/ and normal/, or train/ with these two inside. Each picture is checked;
    the same file is taken in once; nothing is overwritten. Files that cannot be used are listed,
    and stay where they are. Exit status: 0 done; 2 no labelled folder, or nothing in it was usable.

    With --tiles FOLDER holds photographs of more than 454 pixels on a side. By a mask a tile is an
    anomaly if a crack goes through 75 of its 227 rows or columns, normal if none is in it, and left
    out in between. By boxes the square around each is an anomaly; tiles that touch none are normal,
    or, where boxes say ok, those inside of these. Crops of one photograph stay together in every
    split.

    JSON: imported duplicates anomaly normal problems[{path reason}]; with --tiles also photographs
    between spared.
    """
    if not tiles and (masks or boxes or normals is not None):
        raise click.UsageError("--masks, --boxes and --normals go with --tiles")
    if tiles and (masks is None) == (boxes is None):
        raise click.UsageError("--tiles takes labels from --masks DIR or from --boxes FILE.csv")
    settings = load_settings(config)
    if tiles:
        return _import_tiles(settings, folder, masks, boxes, normals, output_format)

    from crackwatch import dataset
    from crackwatch.cli.workshop import decoder

    with progress_bar("checking") as progress:
        result = dataset.import_folder(
            folder, settings.folders.dataset, decoder(settings), progress
        )
    _show(settings, folder, result, {}, output_format)
    return EXIT_DONE


def _import_tiles(
    settings: Settings,
    folder: Path,
    masks: Path | None,
    boxes: Path | None,
    normals: int | None,
    output_format: str,
) -> int:
    from crackwatch.cli import cutting
    from crackwatch.dataset import import_photographs, read_boxes
    from crackwatch.dataset.cutting import NORMALS_PER_PHOTOGRAPH

    marks = read_boxes(boxes) if boxes is not None else None
    with progress_bar("cutting") as progress:
        result = import_photographs(
            folder,
            settings.folders.dataset,
            cutting.tools(settings),
            masks=masks,
            boxes=marks,
            normals=NORMALS_PER_PHOTOGRAPH if normals is None else normals,
            progress=progress,
        )
    if output_format != "json":
        click.echo(
            f"photographs cut: {result.photographs}; not taken: {result.between} tiles that may "
            f"show a little of a crack, {result.spared} more without one"
        )
    more = {"photographs": result.photographs, "between": result.between, "spared": result.spared}
    _show(settings, folder, result, more, output_format)
    return EXIT_DONE


def _show(
    settings: Settings,
    folder: Path,
    result: Imported | CutOut,
    more: dict[str, int],
    output_format: str,
) -> None:
    """Prints what was done. Raises DatasetError where nothing was usable."""
    from crackwatch.errors import DatasetError

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
                **more,
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
