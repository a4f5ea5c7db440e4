"""Brings the database to this program's schema with alembic, and copies it while it is in use."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

from crackwatch import packaged
from crackwatch.errors import StoreError, StoreVersionError, UsageError
from crackwatch.store import engine as engines
from crackwatch.store.schema import HEAD
from crackwatch.syncing import fsync_path


def configuration() -> Config:
    """alembic's configuration; there is no alembic.ini."""
    config = Config()
    # alembic reads it with configparser, to which a percent sign is special
    config.set_main_option("script_location", str(packaged.migrations()).replace("%", "%%"))
    return config


def upgrade(file: Path) -> tuple[str | None, str]:
    """Migrates the database to this program's schema, making it if need be; idempotent.

    Returns the revisions before and after. Raises StoreVersionError for a database that a newer
    program wrote (it stays as it is), StoreError where it cannot be opened or is not crackwatch's.
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
                before = engines.version_in(connection)  # another process may have been quicker
                if before is None and not engines.is_empty(connection):
                    raise StoreError(
                        f"{file}: is the database of another program",
                        "Name another file under [database] url; nothing was changed.",
                    )
                if before != HEAD:
                    config.attributes["connection"] = connection
                    command.upgrade(config, "head")
        engines.check_version(engine, file)
        return before, HEAD
    finally:
        engine.dispose()


def backup(file: Path, destination: Path) -> int:
    """Writes a consistent copy of the database to ``destination``, beside a running daemon.

    A database of any version is copied: before an upgrade is the time for a backup. The copy is
    checked (``integrity_check``), synced, and appears whole or not at all; an existing file is
    never replaced. Returns its size in bytes. Raises UsageError, StoreError.
    """
    if os.path.lexists(destination):
        raise UsageError(f"{destination}: exists already", "Name a new file; backups are kept.")
    if not destination.parent.is_dir():
        raise UsageError(f"{destination.parent}: no such folder", "Make it first.")
    source = engines.open_unchecked(file)
    if engines.version(source, file) is None:  # says clearly what is wrong with the source
        raise StoreVersionError(f"{file}: holds nothing yet", "Run 'crackwatch db upgrade'.")
    partial = destination.with_name(f".{destination.name}.part")
    try:
        with _alone_in(destination.parent):
            partial.unlink(missing_ok=True)
            try:
                _copy(file, partial)
                fsync_path(partial)
                _appear(partial, destination)
            finally:
                partial.unlink(missing_ok=True)
        fsync_path(destination.parent)
        return destination.stat().st_size
    except sqlite3.Error as exc:
        raise StoreError(
            f"{file}: cannot be copied: {exc}",
            "Look at its disk. If the database is damaged, restore the last good copy: "
            "docs/backup.md.",
        ) from exc
    except OSError as exc:
        raise UsageError(
            f"{destination}: cannot be written: {exc.strerror}", "Check disk and permissions."
        ) from exc


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """One backup at a time goes into a folder: a second one waits, and finds what the first made.

    Two at once would write to the same unfinished copy, and one give the other's its name.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):  # some network file systems cannot lock a folder
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _copy(file: Path, partial: Path) -> None:
    with (
        contextlib.closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as old,
        contextlib.closing(sqlite3.connect(partial)) as copy,
    ):
        # all in one step: between two of them another process's commit would make SQLite begin
        # anew, and a busy station commits faster than a big database is copied
        old.backup(copy, pages=-1)
        copy.execute("PRAGMA journal_mode = DELETE")
        verdict = copy.execute("PRAGMA integrity_check").fetchone()[0]
    if verdict != "ok":
        raise StoreError(f"{file}: the copy is damaged: {verdict}", "Restore an earlier backup.")


def _appear(partial: Path, destination: Path) -> None:
    """Gives the finished copy its name, which must be free."""
    try:
        os.link(partial, destination)  # fails where a rename would replace
    except OSError as exc:
        if exc.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        # FAT, as on most memory sticks, knows no links
        os.close(os.open(destination, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o644))
        partial.replace(destination)
