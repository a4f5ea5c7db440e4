"""The name of a station in the rows: how many have one, and giving them another; knows no folder."""

from __future__ import annotations

from sqlalchemy import Engine, func, select, update

from crackwatch.errors import UsageError
from crackwatch.store.engine import faults, writing
from crackwatch.store.schema import inspections, metadata

_NAMED = tuple(table for table in metadata.sorted_tables if "station" in table.c)


def recorded_as(engine: Engine, name: str) -> int:
    """How many inspections bear a name. Raises SystemFault, StoreError."""
    query = select(func.count()).where(inspections.c.station == name)
    with faults(), engine.connect() as connection:
        return int(connection.scalar(query) or 0)


def rename(engine: Engine, old: str, new: str) -> int:
    """Gives every row of ``old`` the name ``new``, in one transaction; how many inspections.

    Raises UsageError where rows bear the new name already: they are another station's, or this
    one's counted twice, and nobody could part them again. Raises SystemFault, StoreError.
    """
    with writing(engine) as connection:
        for table in _NAMED:
            taken = connection.scalar(
                select(func.count()).select_from(table).where(table.c.station == new)
            )
            if taken:
                raise UsageError(
                    f"{taken:,} rows of {table.name} have the name {new!r} already",
                    "They are of another station, or of this one since it was renamed: choose a name "
                    "that no row has, under [station] name in config.toml.",
                )
        renamed = 0
        for table in _NAMED:
            done = connection.execute(
                update(table).where(table.c.station == old).values(station=new)
            )
            if table is inspections:
                renamed = done.rowcount
    return renamed
