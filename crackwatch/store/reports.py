"""Reading the books for a report: counts and lines of a window; never writes, knows no folder."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    func,
    literal_column,
    select,
    type_coerce,
)

from crackwatch.days import Window
from crackwatch.domain import Outcome, Photograph
from crackwatch.reported import ReviewTally
from crackwatch.store import photographs as tiled
from crackwatch.store import reviews
from crackwatch.store.drift import DriftRows
from crackwatch.store.engine import explained, open_reader
from crackwatch.store.inspected import Inspected, every_inspection, inspected
from crackwatch.store.schema import (
    UtcMicroseconds,
    from_microseconds,
    inspections,
    models,
    photographs,
)

# Every hour of every zone in use begins with one: zones differ by whole quarters of an hour.
QUARTER = timedelta(minutes=15)
_QUARTER_US = QUARTER // timedelta(microseconds=1)

_ROWS_AT_ONCE = 2_000


@dataclass(frozen=True, slots=True)
class Tally:
    """How many inspections of one kind fell into a quarter of an hour; superseded ones left out."""

    quarter: datetime  # its beginning, UTC
    outcome: Outcome
    model: str | None
    threshold: float | None
    count: int


@dataclass(frozen=True, slots=True)
class TiledTally:
    """How many photographs of a window one model judged by one rule; superseded ones left out.

    They are among the pictures of the tallies, too.
    """

    model: str | None
    threshold: float | None
    min_tiles: int
    outcome: Outcome
    count: int


@dataclass(frozen=True, slots=True)
class Counts:
    """The tallies of a window in order of time, and how many of its rows were superseded."""

    tallies: tuple[Tally, ...]
    superseded: int
    tiled: tuple[TiledTally, ...] = ()


class Present(Protocol):
    """A file that is in the inbox: see ``inbox.Entry``."""

    @property
    def source(self) -> bytes: ...
    @property
    def fingerprint(self) -> Any: ...


class ReportRows:
    """The books as they stood at one moment: one read transaction; see ``reading``."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @property
    def drift(self) -> DriftRows:
        """The pictures' light and scores, as of the same moment."""
        return DriftRows(self._connection)

    def reviews(self, window: Window) -> ReviewTally:
        """What people said of the pictures inspected in a window, as of the same moment."""
        return reviews.tally(self._connection, window)

    def counts(self, window: Window) -> Counts:
        """Everything that is counted in a window, from the window's covering index.

        That index does not know which rows were superseded. They are few: they are counted by
        themselves and taken off.
        """
        tallies = self._tallies(_within(window))
        superseded = self._tallies(_within(window) & inspections.c.superseded_at.is_not(None))
        known = self._connection.execute(select(models.c.pk, models.c.id))
        names = {row.pk: row.id for row in known}
        tallies.subtract(superseded)
        return Counts(
            tuple(
                Tally(
                    from_microseconds(quarter * _QUARTER_US),
                    Outcome(outcome),
                    names.get(model_pk) if model_pk is not None else None,
                    threshold,
                    count,
                )
                for (quarter, outcome, model_pk, threshold), count in tallies.items()
                if count
            ),
            superseded.total(),
            tuple(
                TiledTally(names.get(model_pk), threshold, min_tiles, Outcome(outcome), count)
                for model_pk, threshold, min_tiles, outcome, count in self._tiled(window)
            ),
        )

    def _tiled(self, window: Window) -> Sequence[Any]:
        """Photographs by model, threshold, ``min_tiles`` and outcome.

        From the photographs to their inspections: a window of crops is never joined with anything.
        """
        if not tiled.any_there(self._connection):
            return ()
        row = inspections.c
        first, last = self._connection.execute(
            select(func.min(row.id), func.max(row.id)).where(_within(window))
        ).one()
        # Numbers rise with time but where a clock was set back, so that the window decides. The
        # photographs lead to their rows: materialized, and no index for a column behind a plus.
        kept = (
            select(photographs.c.inspection_id, photographs.c.min_tiles)
            .where(photographs.c.inspection_id.between(first, last))
            .cte("kept")
            .prefix_with("MATERIALIZED")
        )
        at = literal_column("+inspections.inspected_at", UtcMicroseconds)
        key = (row.model_pk, row.threshold, kept.c.min_tiles, row.outcome)
        query = (
            select(*key, func.count())
            .select_from(kept.join(inspections, row.id == kept.c.inspection_id))
            .where(at >= window.since, at < window.until, row.superseded_at.is_(None))
            .group_by(*key)
        )
        return self._connection.execute(query).all()

    def photographs(self, ids: Sequence[int]) -> dict[int, Photograph]:
        """What is kept of those of these inspections that judged a photograph in tiles."""
        return tiled.of_inspections(self._connection, ids)

    def with_photographs(
        self, lines: Iterator[Inspected]
    ) -> Iterator[tuple[Inspected, Photograph | None]]:
        """Each line with its photograph, in the same order; a few thousand are held at a time."""
        if not tiled.any_there(self._connection):
            yield from ((line, None) for line in lines)
            return
        while chunk := list(islice(lines, _ROWS_AT_ONCE)):
            found = self.photographs([line.id for line in chunk])
            yield from ((line, found.get(line.id)) for line in chunk)

    def _tallies(
        self, condition: ColumnElement[bool]
    ) -> Counter[tuple[int, str, int | None, float | None]]:
        row = inspections.c
        # integers divide downwards only from zero on; nothing was inspected before 1970
        quarter = type_coerce(row.inspected_at, BigInteger).op("/")(_QUARTER_US)
        kind = (quarter, row.outcome, row.model_pk, row.threshold)
        query = select(*kind, func.count()).where(condition).group_by(*kind).order_by(quarter)
        return Counter({tuple(key): count for *key, count in self._connection.execute(query)})

    def lines(
        self,
        window: Window,
        outcome: Outcome | None = None,
        *,
        limit: int | None = None,
        superseded: bool = False,
        newest_first: bool = True,
    ) -> Iterator[Inspected]:
        """The inspections of a window, streamed; of one outcome, or of all.

        Superseded ones are left out unless asked for.
        """
        row = inspections.c
        query = every_inspection().where(_within(window)).limit(limit)
        if newest_first:
            query = query.order_by(row.inspected_at.desc(), row.id.desc())
        else:
            query = query.order_by(row.inspected_at, row.id)
        if outcome is not None:
            query = query.where(row.outcome == outcome.value)
        if not superseded:
            query = query.where(row.superseded_at.is_(None))
        found = self._connection.execution_options(yield_per=_ROWS_AT_ONCE).execute(query)
        return map(inspected, found)

    def recorded(self, station: str) -> Callable[[Present], bool]:
        """Tells whether a file of the inbox has its row, by name, size and mtime alone.

        A report does not read pictures; the audit does, where something else about a file has
        changed. Holds 64 bits a file that stays in the inbox: with a million of them, one new file
        in ten million million would be taken for a known one.
        """
        digests: set[int] | None = None

        def holds(file: Present) -> bool:
            nonlocal digests
            if digests is None:  # an empty inbox asks for none of this
                digests = self._present_digests(station)
            stat = file.fingerprint
            return hash((file.source, stat.size_bytes, stat.mtime_ns)) in digests

        return holds

    def _present_digests(self, station: str) -> set[int]:
        row = inspections.c
        query = select(row.source, row.size_bytes, row.mtime_ns).where(
            row.released_at.is_(None), row.station == station
        )
        found = self._connection.execution_options(yield_per=_ROWS_AT_ONCE).execute(query)
        return {hash(tuple(each)) for each in found}


@contextlib.contextmanager
def reading(file: Path) -> Iterator[ReportRows]:
    """The books as they stand now, whatever is recorded meanwhile; opened for reading only.

    Raises StoreError, or StoreVersionError where the database is not migrated or is too new.
    """
    engine = open_reader(file)
    try:
        with explained(file), engine.begin() as connection:
            yield ReportRows(connection)
    finally:
        engine.dispose()


def _within(window: Window) -> ColumnElement[bool]:
    at = inspections.c.inspected_at
    return (at >= window.since) & (at < window.until)
