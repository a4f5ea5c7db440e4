"""``crackwatch init``: from an empty folder to a station that works."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from crackwatch.settings import Settings


@click.command(epilog="Example: crackwatch init /srv/station-1")
@click.argument("folder", metavar="[DIR]", default=".", type=click.Path(path_type=Path))
@click.option(
    "--take-over",
    is_flag=True,
    help="Adopt flagged, archive and quarantine also where they are another station's, which is no "
    "more and whose place this one takes.",
)
def command(folder: Path, take_over: bool) -> None:
    """Make a station in DIR: folders, config.toml, database, starter model.

    Run again it makes what is missing and changes nothing that is there, except that it adopts an
    inbox, and folders for flagged, archived and quarantined pictures, that are not marked as this
    station's: mount their disks first.
    """
    from crackwatch import config_file, own_places, packaged
    from crackwatch.errors import UsageError

    folder = folder.absolute()
    config = folder / "config.toml"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not config.exists():
            shutil.copyfile(packaged.default_config(), config)
            _say(f"made      {config}")
        settings = config_file.load(config, os.environ)
        for _, path in settings.folders:
            if not path.is_dir():
                path.mkdir(parents=True)
                _say(f"made      {path}{os.sep}")
    except OSError as exc:
        raise UsageError(
            f"{exc.filename or folder}: cannot be made: {exc.strerror}",
            "Name a folder that this user may write to.",
        ) from exc
    from crackwatch.store import migrate

    before, after = migrate.upgrade(settings.database_file)
    if before != after:
        _say(f"migrated  {settings.database_file} (schema {after})")
    from crackwatch.registry import Registry
    from crackwatch.starters import install_starter

    registry = Registry(settings.folders.models)
    installed = install_starter(registry, packaged.starter())
    if installed:
        _say(f"installed model {installed}")
    if not take_over:
        own_places.require_free(settings)
    _adopt(settings)
    _adopt_places(settings)
    program = "crackwatch"
    if not shutil.which(program) and Path(sys.argv[0]).name == program:
        program = sys.argv[0]  # as `make run` calls it: not on the PATH
    _say(
        f"\nThe station is ready. Put photographs into {settings.folders.inbox}{os.sep}\n"
        f"  start it:  {program} run --config {config}\n"
        f"  ask it:    {program} report --since today --config {config}"
    )


def _adopt(settings: Settings) -> None:
    """Marks the inbox as this station's, and says so where it was not already."""
    from crackwatch import belonging

    inbox = settings.folders.inbox
    adoption = belonging.adopt(inbox, settings.folders.state, settings.station.name)
    if adoption is None:
        return
    before = adoption.before
    _say(f"marked    {inbox}{os.sep} as this station's inbox")
    if before is not None:
        _say(
            f"          it was that of {before.name!r}, since {before.adopted_at}: a station that "
            "still uses it waits from now on"
        )


def _adopt_places(settings: Settings) -> None:
    """The same of the folders that pictures are moved to."""
    from crackwatch import own_places
    from crackwatch.escaping import path_text
    from crackwatch.store.newest import in_file

    newest = in_file(settings.database_file, settings.station.name)
    for place, folder in own_places.folders_of(settings).items():
        adoption = own_places.adopt(place, folder, settings.folders.state, settings.station.name)
        if adoption is None:
            continue
        key, where = own_places.KEYS[place], path_text(folder)
        _say(f"marked    {where}{os.sep} as this station's {key} folder")
        if adoption.before is not None:
            _say(
                f"          it was that of {adoption.before.name!r}, since {adoption.before.adopted_at}"
            )
        if not own_places.seen_there(folder, newest(place)):
            _say(
                "          none of the pictures that were filed there last is in it: if its disk is "
                "not mounted, mount it and run init again"
            )


def _say(text: str) -> None:
    with contextlib.suppress(BrokenPipeError):  # a reader that has gone leaves no half-made station
        click.echo(text)
