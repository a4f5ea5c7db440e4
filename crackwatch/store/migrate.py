"""Brings the database to this program's schema with alembic, and copies it while it is in use."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

from crackwatch import packaged
from crackwatch.errors import StoreError, StoreVersionError, UsageError
from crackwatch.store import engine as engines
from crackwatch.store.schema import HEAD


def configuration() -> Config:
    """alembic's configuration; there is no alembic.ini."""
    config = Config()
    config.set_main_option("script_location", str(packaged.migrations()))
    return config


def upgrade(file: Path) -> tuple[str | None, str]:
    """Migrates the database to this program's schema, making it if need be; idempotent.

    Returns the revisions before and after. Raises StoreVersionError for a database that a newer
    program wrote (it stays as it is), StoreError where it cannot be opened.
    """
    config = configuration()
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    engine = engines.open_for_migration(file)
    try:
        before = engines.version(engine, file)
        if before is not None and before not in known:
            engines.check_version(engine, file)  # says what is wrong
            raise StoreVersionError(f"{file}: unknown schema {before}")
        if before != HEAD:
            with engines.explained(file), engine.begin() as connection:
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
        engines.check_version(engine, file)
        return before, HEAD
    finally:
        engine.dispose()


def backup(file: Path, destination: Path) -> int:
    """Writes a consistent copy of the database to ``destination``, beside a running daemon.

    The copy is checked (``integrity_check``), synced, and appears whole or not at all; an existing
    file is never replaced. Returns its size in bytes. Raises UsageError, StoreError.
    """
    if destination.exists():
        raise UsageError(f"{destination}: exists already", "Name a new file; backups are kept.")
    if not destination.parent.is_dir():
        raise UsageError(f"{destination.parent}: no such folder", "Make it first.")
    engines.open_reader(file).dispose()  # says clearly what is wrong with the source
    partial = destination.with_name(f".{destination.name}.part")
    try:
        partial.unlink(missing_ok=True)
        with (
            contextlib.closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as source,
            contextlib.closing(sqlite3.connect(partial)) as copy,
        ):
            source.backup(copy, pages=4096, sleep=0.01)
            copy.execute("PRAGMA journal_mode = DELETE")
            verdict = copy.execute("PRAGMA integrity_check").fetchone()[0]
        if verdict != "ok":
            raise StoreError(
                f"{file}: the copy is damaged: {verdict}", "Restore an earlier backup."
            )
        _sync(partial)
        os.link(partial, destination)  # fails where a rename would replace
        partial.unlink()
        _sync(destination.parent)
    except sqlite3.Error as exc:
        partial.unlink(missing_ok=True)
        raise StoreError(f"{file}: cannot be copied: {exc}", "Check disk and permissions.") from exc
    except OSError as exc:
        raise UsageError(
            f"{destination}: cannot be written: {exc.strerror}", "Check disk and permissions."
        ) from exc
    return destination.stat().st_size


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
