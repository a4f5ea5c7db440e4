"""Opens the database and holds it to its terms: WAL, full synchrony, one writer at a time.

A transaction that writes begins with ``BEGIN IMMEDIATE``: a deferred one that turns from reading to
writing fails at once when another writer was quicker, however long the busy timeout is.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.exc import DatabaseError
from sqlalchemy.pool import NullPool

from crackwatch.errors import StoreError, StoreVersionError, SystemFault
from crackwatch.store.schema import HEAD

BUSY_TIMEOUT_S = 10.0

# What SQLite says when the station is at fault, and the code under which status lists it.
_FAULTS = {
    "SQLITE_BUSY": ("database_locked", "Another program holds the database; find and end it."),
    "SQLITE_LOCKED": ("database_locked", "Another program holds the database; find and end it."),
    "SQLITE_FULL": ("disk_full", "Make room on the disk that holds the state folder."),
    # a full disk among them: SQLite says no more where it cannot make its shared memory
    "SQLITE_IOERR": (
        "database_io",
        "Look at the room on the disk of the state folder (df), and at its health (dmesg).",
    ),
    "SQLITE_READONLY": ("database_readonly", "Make the state folder writable for this user."),
    "SQLITE_CANTOPEN": (
        "database_unopenable",
        "Check that the state folder exists and its rights.",
    ),
    "SQLITE_PERM": ("database_readonly", "Make the state folder writable for this user."),
    "SQLITE_NOMEM": ("out_of_memory", "Give the machine more memory, or lower batch.queue_size."),
}


def open_reader(file: Path) -> Engine:
    """The database for reading only: it cannot be changed through this engine.

    Raises StoreError, or StoreVersionError where it is not migrated or is newer than this program.
    """
    engine = open_unchecked(file)
    check_version(engine, file)
    return engine


def open_unchecked(file: Path) -> Engine:
    """The database for reading only, whatever its version is. Raises StoreError."""
    _require(file)
    return _engine(file, "mode=ro", "BEGIN")


def open_writer(file: Path) -> Engine:
    """The database for reading and writing; every transaction is ``BEGIN IMMEDIATE``.

    Raises StoreError, or StoreVersionError where it is not migrated or is newer than this program.
    """
    _require(file)
    engine = _engine(file, "mode=rw", "BEGIN IMMEDIATE")
    check_version(engine, file)
    return engine


def open_for_migration(file: Path) -> Engine:
    """The database whatever its version is, made if it is missing. Raises StoreError."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise StoreError(
            f"{file.parent}: cannot be made: {exc.strerror}", "Check its place and permissions."
        ) from exc
    return _engine(file, "mode=rwc", "BEGIN IMMEDIATE")


def check_version(engine: Engine, file: Path) -> None:
    """Raises StoreVersionError unless the schema is the one this program was written for."""
    found = version(engine, file)
    if found is None:
        raise StoreVersionError(
            f"{file}: has not been migrated", "Run 'crackwatch db upgrade', then try again."
        )
    if found != HEAD:
        older = found.isdigit() and int(found) < int(HEAD)
        raise StoreVersionError(
            f"{file}: has schema {found}, this crackwatch needs {HEAD}",
            "Run 'crackwatch db upgrade', then try again."
            if older
            else "A newer crackwatch wrote it: install that version again; nothing was changed.",
        )


def version(engine: Engine, file: Path) -> str | None:
    """The schema's revision, or None where there is none yet. Raises StoreError."""
    with explained(file), engine.connect() as connection:
        return version_in(connection)


def version_in(connection: Connection) -> str | None:
    """The same, as one transaction sees it."""
    has_table = connection.execute(
        text("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'alembic_version'")
    ).first()
    if has_table is None:
        return None
    found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return None if found is None else str(found)


def is_empty(connection: Connection) -> bool:
    """Whether nobody, crackwatch or another program, has made a table yet."""
    tables = set(inspect(connection).get_table_names())
    return not tables - {"alembic_version"}


@contextlib.contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """One immediate transaction: committed at the end, rolled back on an exception.

    Raises SystemFault where the station is at fault (locked, full, I/O): try again later.
    """
    with faults(), engine.begin() as connection:
        yield connection


@contextlib.contextmanager
def faults() -> Iterator[None]:
    """Turns what SQLite reports of locks, disks and memory into a SystemFault."""
    try:
        yield
    except DatabaseError as exc:
        name = _sqlite_name(exc)
        for prefix, (code, remedy) in _FAULTS.items():
            if name.startswith(prefix):
                raise SystemFault(code, f"the database: {exc.orig}", remedy) from exc
        raise StoreError(
            f"the database: {exc.orig}", "See 'Recover' in the README; restore a backup if need be."
        ) from exc


@contextlib.contextmanager
def explained(file: Path) -> Iterator[None]:
    """Turns SQLAlchemy's exceptions into a StoreError that names the file."""
    try:
        yield
    except DatabaseError as exc:
        remedy = "Check that it is crackwatch's database; restore a backup if it is damaged."
        for prefix, (_, known_remedy) in _FAULTS.items():
            if _sqlite_name(exc).startswith(prefix):
                remedy = known_remedy
        raise StoreError(f"{file}: {exc.orig}", remedy) from exc


def _sqlite_name(exc: DatabaseError) -> str:
    return str(getattr(exc.orig, "sqlite_errorname", ""))


def _require(file: Path) -> None:
    try:
        there = file.is_file()
    except OSError as exc:
        remedy = "Look at the disk or the share that holds it, then try again."
        if isinstance(exc, PermissionError):
            remedy = "Run this as the user that the station runs as."
        raise StoreError(f"{file}: {exc.strerror}", remedy) from exc
    if not there:
        raise StoreError(
            f"{file}: there is no database here",
            "Name another station with --config, run 'crackwatch init' for a new one, or restore a "
            "backup to this place.",
        )


def _engine(file: Path, mode: str, begin: str) -> Engine:
    location = f"file:{quote(os.fsencode(file))}?{mode}"

    def connect() -> sqlite3.Connection:
        # isolation_level None: the driver begins nothing by itself, the event below does
        return sqlite3.connect(
            location,
            uri=True,
            timeout=BUSY_TIMEOUT_S,
            isolation_level=None,
            check_same_thread=False,
        )

    # NullPool: a connection lives as long as its user says, and closing it checkpoints the WAL
    engine = create_engine("sqlite://", creator=connect, poolclass=NullPool)

    @event.listens_for(engine, "connect")
    def _pragmas(connection: Any, _record: Any) -> None:
        connection.execute("PRAGMA foreign_keys = ON")
        if mode != "mode=ro":
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine
