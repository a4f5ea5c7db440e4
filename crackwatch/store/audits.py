"""Reading the books for an audit: rows in pages, rows by name; never writes, knows no folder.

An audit may take an hour, and a read transaction that lasts keeps the write-ahead log from being
taken in. So each page is a transaction of its own; only the counts and the look at the inbox, which
must agree, share one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, bindparam, func, select

from crackwatch.domain import Departure, Fingerprint, Place
from crackwatch.store.departures import Departures
from crackwatch.store.engine import explained, open_reader
from crackwatch.store.schema import inspections
from crackwatch.store.standing import standing

_PAGE_ROWS = 5_000
_NAMES_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Entry:
    """One row as an audit sees it. ``standing`` is a ``Standing``'s word, or what the row has."""

    id: int
    standing: str
    place: str
    source: bytes
    destination: bytes | None
    fingerprint: Fingerprint
    sha256: bytes | None


class Snapshot:
    """The books as they stood at one moment; see ``AuditBooks.snapshot``."""

    def __init__(self, connection: Connection, station: str) -> None:
        self._connection = connection
        self._station = station

    def counts(self) -> dict[str, int]:
        """How many rows there are of each standing."""
        word = standing().label("word")
        query = select(word, func.count()).group_by(word)
        return {word: int(count) for word, count in self._connection.execute(query)}

    def total(self) -> int:
        """How many rows there are, counted without regard to what they say."""
        return int(self._connection.scalar(select(func.count()).select_from(inspections)) or 0)

    def present(self, sources: Sequence[bytes]) -> dict[bytes, list[Entry]]:
        """The rows that vouch for files of the inbox, by the file's name."""
        row = inspections.c
        found: dict[bytes, list[Entry]] = {}
        for entry in _by_names(
            self._connection,
            row.source,
            sources,
            row.released_at.is_(None) & (row.station == self._station),
        ):
            found.setdefault(entry.source, []).append(entry)
        return found


class AuditBooks:
    """The books of a station, opened for reading only. Every method raises StoreError."""

    def __init__(self, file: Path, station: str) -> None:
        self._file = file
        self._station = station
        self._engine: Engine = open_reader(file)

    def total(self) -> int:
        """How many rows there are now."""
        with self.snapshot() as snapshot:
            return snapshot.total()

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        """The books as they stand now, whatever is recorded meanwhile."""
        with self._reading() as connection:
            yield Snapshot(connection, self._station)

    def pages(self) -> Iterator[list[Entry]]:
        """Every row, oldest first, a page at a time."""
        last = 0
        while True:
            query = _entries().where(inspections.c.id > last).order_by(inspections.c.id)
            with self._reading() as connection:
                page = [_entry(row) for row in connection.execute(query.limit(_PAGE_ROWS))]
            if not page:
                return
            yield page
            last = page[-1].id

    def by_ids(self, ids: Sequence[int]) -> dict[int, Entry]:
        """The rows of these ids, as they are now."""
        with self._reading() as connection:
            found = _by_names(connection, inspections.c.id, ids, inspections.c.id.is_not(None))
            return {entry.id: entry for entry in found}

    def holding(self, place: Place, destinations: Sequence[bytes]) -> dict[bytes, Entry]:
        """The rows that hold these names below the place's folder, by name."""
        with self._reading() as connection:
            found = _by_names(
                connection,
                inspections.c.destination,
                destinations,
                inspections.c.place == place.value,
            )
            return {entry.destination: entry for entry in found if entry.destination is not None}

    def devices(self, ids: Sequence[int]) -> dict[int, int]:
        """The file system that each of these arrivals was on, by its number then."""
        return {id: entry.fingerprint.device for id, entry in self.by_ids(ids).items()}

    def kept_on(self, device: int) -> list[bytes]:
        """The newest kept files that were on this file system when they arrived: their names."""
        row = inspections.c
        query = (
            select(row.source)
            .where(
                row.released_at.is_(None),
                row.station == self._station,
                row.place == Place.KEPT.value,
                row.device == device,
            )
            .order_by(row.id.desc())
            .limit(_NAMES_AT_ONCE)
        )
        with self._reading() as connection:
            return list(connection.scalars(query))

    def departing(self) -> list[Departure]:
        """Files that are leaving their places, or were when a process died. Raises SystemFault."""
        return Departures(self._engine, self._station).open()

    def inspected_since(self, each: Departure) -> bool:
        """Whether what went back into the inbox has been taken in again. Raises SystemFault."""
        return Departures(self._engine, self._station).inspected_since(each)

    def returned(self) -> list[Departure]:
        """What went back into the inbox and was not inspected since. Raises SystemFault."""
        return Departures(self._engine, self._station).returned()

    @contextlib.contextmanager
    def _reading(self) -> Iterator[Connection]:
        with explained(self._file), self._engine.begin() as connection:
            yield connection


def _entries() -> Any:
    row = inspections.c
    return select(
        row.id,
        standing(),
        row.place,
        row.source,
        row.destination,
        row.sha256,
        row.size_bytes,
        row.mtime_ns,
        row.ctime_ns,
        row.device,
        row.inode,
    )


def _entry(row: Any) -> Entry:
    id, word, place, source, destination, sha256, *stat = row
    return Entry(id, word, place, source, destination, Fingerprint(*stat), sha256)


def _by_names(
    connection: Connection,
    column: ColumnElement[Any],
    names: Sequence[Any],
    condition: ColumnElement[bool],
) -> Iterator[Entry]:
    query = _entries().where(condition, column.in_(bindparam("names", expanding=True)))
    for start in range(0, len(names), _NAMES_AT_ONCE):
        chunk = list(names[start : start + _NAMES_AT_ONCE])
        for row in connection.execute(query, {"names": chunk}):
            yield _entry(row)
