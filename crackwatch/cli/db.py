"""``crackwatch db``: migrate, inspect and back up the database."""

from __future__ import annotations

from pathlib import Path

import click

from crackwatch.cli.options import config_option, echo_json, format_option, load_settings


@click.group(epilog="Example: crackwatch db backup /backups/station-1.db")
def command() -> None:
    """Migrate, inspect and back up the station's database."""


@command.command(epilog="Example: crackwatch db upgrade --config station/config.toml")
@config_option
def upgrade(config: str | None) -> None:
    """Bring the database to this version's schema; run again, it changes nothing."""
    settings = load_settings(config)
    from crackwatch.store import migrate

    before, after = migrate.upgrade(settings.database_file)
    if before == after:
        click.echo(f"{settings.database_file}: already at schema {after}")
    else:
        click.echo(f"{settings.database_file}: schema {before or 'none'} -> {after}")


@command.command(epilog="Example: crackwatch db current --format json")
@config_option
@format_option("table", "json")
def current(config: str | None, output_format: str) -> None:
    """Which schema the database has, and which this version needs."""
    settings = load_settings(config)
    from crackwatch.store import engine, schema

    file = settings.database_file
    found = engine.version(engine.open_unchecked(file), file)
    if output_format == "json":
        echo_json({"database": str(file), "schema": found, "needed": schema.HEAD})
    else:
        click.echo(f"{file}: schema {found or 'none'}, this version needs {schema.HEAD}")


@command.command(epilog="Example: crackwatch db backup /backups/station-1.db")
@config_option
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def backup(config: str | None, file: Path) -> None:
    """Write a consistent copy to FILE while the daemon runs; never replaces a file."""
    settings = load_settings(config)
    from crackwatch.store import migrate

    size_bytes = migrate.backup(settings.database_file, file.absolute())
    click.echo(f"{file}: {size_bytes:,} bytes, integrity ok")


@command.command(epilog="Example: crackwatch db rename --config station/config.toml")
@config_option
@click.option(
    "--from",
    "old",
    metavar="NAME",
    help="The name that the rows bear [default: the one that the station ran under last].",
)
def rename(config: str | None, old: str | None) -> None:
    """Give this station's rows the name that config.toml has now; the station must be stopped.

    To rename a station: stop it, change [station] name in config.toml, run this, start it again.
    All rows are renamed or none is. Refused where rows bear the new name already.
    """
    settings = load_settings(config)
    from crackwatch import locking, naming
    from crackwatch.errors import UsageError
    from crackwatch.health.status import LOCK_FILE
    from crackwatch.store import renaming
    from crackwatch.store.engine import open_writer

    state, new = settings.folders.state, settings.station.name
    with locking.held(state / LOCK_FILE, f"the station in {state.parent}"):
        old = old or naming.last_name(settings)
        if old is None:
            raise UsageError(
                f"{settings.file}: nobody wrote down under which name this station ran last",
                "Say it: --from NAME. 'crackwatch status' and reports show the name.",
            )
        if old == new:
            raise UsageError(
                f"{settings.file}: station.name is {new!r}, as in the rows",
                "Write the new name under [station] in config.toml first.",
            )
        renamed = renaming.rename(open_writer(settings.database_file), old, new)
        naming.remember(settings)
    click.echo(f"{settings.database_file}: {renamed:,} inspections of {old!r} are {new!r} now")
