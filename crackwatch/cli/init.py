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
def command(folder: Path) -> None:
    """Make a station in DIR: folders, config.toml, database, starter model.

    Run again it makes what is missing and changes nothing that is there, except that it adopts an
    inbox that is not marked as this station's: mount it first.
    """
    from crackwatch import config_file, packaged
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
    _adopt(settings)
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


def _say(text: str) -> None:
    with contextlib.suppress(BrokenPipeError):  # a reader that has gone leaves no half-made station
        click.echo(text)
