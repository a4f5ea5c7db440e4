"""What was filed last in each place, by which its folder is known again; reads only."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sqlalchemy import Engine, select

from crackwatch.domain import Place
from crackwatch.store.engine import faults, open_reader
from crackwatch.store.schema import inspections
from crackwatch.store.standing import standing

_ENOUGH = 50  # a person may have taken some of them away


def newest_in(engine: Engine, station: str, place: Place) -> list[tuple[bytes, int]]:
    """(name below the place's folder, size in bytes) of the newest that stand there.

    Raises SystemFault, StoreError.
    """
    row = inspections.c
    query = (
        select(row.destination, row.size_bytes)
        .where(
            row.station == station,
            row.place == place.value,
            row.destination.is_not(None),
            standing() == place.value,
        )
        .order_by(row.id.desc())
        .limit(_ENOUGH)
    )
    with faults(), engine.connect() as connection:
        return [(bytes(name), int(size_bytes)) for name, size_bytes in connection.execute(query)]


def in_file(file: Path, station: str) -> Callable[[Place], list[tuple[bytes, int]]]:
    """The same of a database that is opened, for reading, only when it is asked."""
    return lambda place: newest_in(open_reader(file), station, place)
