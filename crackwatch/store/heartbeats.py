"""The beats of the golden pictures: writing them, and what a bad one throws into doubt; no folder."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, func, insert, select

from crackwatch.domain import Beat
from crackwatch.store.engine import explained, open_reader, writing
from crackwatch.store.inspected import Judged, judged, judgements
from crackwatch.store.schema import batches, heartbeats, inspections, models

_ROWS_AT_ONCE = 2_000


@dataclass(frozen=True, slots=True)
class Incident:
    """Bad beats of one model, runtime and precision with no good beat of the station between them.

    ``first`` and ``last`` are ids of beats. In doubt is what that model judged after its last good
    beat and before the first bad one: ``doubted`` inspections, whose ids are above ``after`` and at
    most ``until``.
    """

    first: int
    last: int
    bad_beats: int
    model: str
    runtime: str
    precision: str
    last_good_at: datetime | None  # None: it never had a good beat
    began_at: datetime
    ended_at: datetime | None  # the next good beat, of whichever model; None: it is open
    largest_difference: float | None
    detail: str | None
    model_pk: int
    after: int
    until: int
    doubted: int


class Heartbeats:
    """The beats of one station, written by the thread that judges."""

    def __init__(self, engine: Engine, station: str) -> None:
        self._engine = engine
        self._station = station

    def record(self, beat: Beat) -> int:
        """Adds a row and returns its id. Raises SystemFault, StoreError."""
        with writing(self._engine) as connection:
            newest = connection.scalar(select(func.max(inspections.c.id)))
            made: int = connection.execute(
                insert(heartbeats)
                .values(
                    station=self._station,
                    model_pk=beat.model_pk,
                    runtime=beat.runtime,
                    precision=beat.precision,
                    beat_at=beat.at,
                    good=beat.good,
                    largest_difference=beat.largest_difference,
                    flipped=beat.flipped,
                    detail=beat.detail,
                    newest_inspection=newest or 0,
                )
                .returning(heartbeats.c.id)
            ).scalar_one()
        return made

    def containment(self, beat_id: int, limit: int) -> tuple[Incident, list[Judged]]:
        """What a bad beat throws into doubt: its incident, and the first inspections of the list.

        Raises SystemFault, StoreError.
        """
        with writing(self._engine) as connection:
            rows = IncidentRows(connection, self._station)
            incident = rows.with_beat(beat_id)
            if incident is None:
                raise ValueError(f"beat {beat_id} is not a bad one")
            return incident, list(rows.doubted(incident, limit))


class IncidentRows:
    """The incidents of a station as they stood at one moment; see ``reading``."""

    def __init__(self, connection: Connection, station: str) -> None:
        self._connection = connection
        self._station = station

    def incidents(self) -> list[Incident]:
        """Every incident, oldest first."""
        beat = heartbeats.c
        bad = self._connection.execute(
            select(heartbeats, models.c.id.label("model"))
            .join(models, models.c.pk == beat.model_pk)
            .where(beat.station == self._station, beat.good.is_(False))
            .order_by(beat.id)
        ).all()
        groups: dict[tuple[int | None, int, str, str], list[Any]] = {}
        end: Any = None
        for row in bad:
            if end is None or end.id < row.id:
                end = self._next_good(row.id)
            key = (end.id if end else None, row.model_pk, row.runtime, row.precision)
            groups.setdefault(key, []).append(row)
        ends = sorted({end_id for end_id, *_ in groups if end_id is not None})
        goods = self._connection.execute(select(beat.id, beat.beat_at).where(beat.id.in_(ends)))
        ended = {each.id: each.beat_at for each in goods}
        return [self._incident(rows, ended.get(key[0] or 0)) for key, rows in groups.items()]

    def with_beat(self, beat_id: int) -> Incident | None:
        """The incident that a bad beat belongs to; None where there is no such bad beat."""
        row = heartbeats.c
        found = self._connection.execute(
            select(row.model_pk, row.runtime, row.precision).where(
                row.id == beat_id, row.good.is_(False), row.station == self._station
            )
        ).first()
        if found is None:
            return None
        mine = (
            incident
            for incident in self.incidents()
            if incident.first <= beat_id <= incident.last
            and (incident.model_pk, incident.runtime, incident.precision) == tuple(found)
        )
        return next(mine)

    def open(self) -> bool:
        """Whether the last beat of the station was a bad one."""
        beat = heartbeats.c
        last = self._connection.scalar(
            select(beat.good).where(beat.station == self._station).order_by(beat.id.desc()).limit(1)
        )
        return last is False

    def doubted(self, incident: Incident, limit: int | None = None) -> Iterator[Judged]:
        """The containment list of an incident, oldest first, streamed."""
        row = inspections.c
        query = (
            judgements()
            .join(batches, batches.c.id == row.batch_id)
            .where(
                self._in_doubt(
                    incident.model_pk,
                    incident.runtime,
                    incident.precision,
                    incident.after,
                    incident.until,
                )
            )
            .order_by(row.id)
            .limit(limit)
        )
        found = self._connection.execution_options(yield_per=_ROWS_AT_ONCE).execute(query)
        return map(judged, found)

    def _in_doubt(
        self, model_pk: int, runtime: str, precision: str, after: int, until: int
    ) -> ColumnElement[bool]:
        row = inspections.c
        return (
            (row.id > after)
            & (row.id <= until)
            & (row.station == self._station)
            & (row.model_pk == model_pk)
            & (batches.c.runtime == runtime)
            & (batches.c.precision == precision)
        )

    def _next_good(self, beat_id: int) -> Any:
        beat = heartbeats.c
        return self._connection.execute(
            select(beat.id, beat.beat_at)
            .where(beat.id > beat_id, beat.good.is_(True), beat.station == self._station)
            .order_by(beat.id)
            .limit(1)
        ).first()

    def _incident(self, rows: list[Any], ended_at: datetime | None) -> Incident:
        first = rows[0]
        beat = heartbeats.c
        good = self._connection.execute(
            select(beat.beat_at, beat.newest_inspection)
            .where(beat.id < first.id, beat.good.is_(True), beat.station == self._station)
            .where(beat.model_pk == first.model_pk)
            .where(beat.runtime == first.runtime, beat.precision == first.precision)
            .order_by(beat.id.desc())
            .limit(1)
        ).first()
        after, until = good.newest_inspection if good else 0, first.newest_inspection
        doubted = self._connection.scalar(
            select(func.count())
            .select_from(inspections.join(batches, batches.c.id == inspections.c.batch_id))
            .where(self._in_doubt(first.model_pk, first.runtime, first.precision, after, until))
        )
        return Incident(
            first=first.id,
            last=rows[-1].id,
            bad_beats=len(rows),
            model=first.model,
            runtime=first.runtime,
            precision=first.precision,
            last_good_at=good.beat_at if good else None,
            began_at=first.beat_at,
            ended_at=ended_at,
            largest_difference=first.largest_difference,
            detail=first.detail,
            model_pk=first.model_pk,
            after=after,
            until=until,
            doubted=int(doubted or 0),
        )


@contextlib.contextmanager
def reading(file: Path, station: str) -> Iterator[IncidentRows]:
    """The incidents as they stand now; opened for reading only.

    Raises StoreError, or StoreVersionError where the database is not migrated or is too new.
    """
    engine = open_reader(file)
    try:
        with explained(file), engine.begin() as connection:
            yield IncidentRows(connection, station)
    finally:
        engine.dispose()
