"""The rows of files that leave their places again, and which files may; knows no folder.

A departure is committed before a file is touched and ended after the folders are synced: what a kill
leaves open is taken up by whoever comes next.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    and_,
    delete,
    exists,
    func,
    insert,
    literal,
    or_,
    select,
    update,
)

from crackwatch.domain import (
    Departure,
    DepartureKind,
    DepartureResult,
    Outcome,
    Place,
    QuarantineReason,
)
from crackwatch.store.engine import faults, writing
from crackwatch.store.schema import departures, heartbeats, inspections, photographs, reviews
from crackwatch.store.standing import Standing, standing

_CHUNK = 400  # values of an IN list; SQLite's default limit is far above
_PAGE_ROWS = 1_000
_CAN_BE_LOST = (
    Standing.KEPT,
    Standing.FLAGGED,
    Standing.ARCHIVED,
    Standing.QUARANTINED,
    Standing.PENDING,
)
_COARSEST_MTIME_NS = 2_000_000_000  # FAT keeps every other second


@dataclass(frozen=True, slots=True)
class Filed:
    """A recorded picture whose file stands in one of the station's places."""

    id: int
    place: Place
    name: bytes  # relative to the place's folder; of a kept picture, to the inbox
    source: bytes
    size_bytes: int
    mtime_ns: int
    sha256: bytes | None
    inspected_at: datetime
    reason: QuarantineReason | None
    held: str | None  # why retention leaves it alone: "reviewed", "awaiting_review", "departing"


class Departures:
    """The departures of one station. Every method raises SystemFault or StoreError.

    What people labelled never expires unless ``spare_reviewed`` is False, and what waits for a label
    not unless ``spare_awaiting`` is: also where that came about after the departure began.
    """

    def __init__(
        self,
        engine: Engine,
        station: str,
        *,
        spare_reviewed: bool = True,
        spare_awaiting: bool = True,
    ) -> None:
        self._engine = engine
        self._station = station
        self._spare_reviewed = spare_reviewed
        self._spare_awaiting = spare_awaiting

    # ---------------------------------------------------------------------------- what is open

    def open(self) -> list[Departure]:
        """Every departure that has begun and not ended, oldest first."""
        with faults(), self._engine.connect() as connection:
            return self._open(connection)

    def begin(
        self,
        asked: Sequence[Departure],
        by: str,
        taken: Sequence[bytes] = (),
    ) -> list[Departure]:
        """Commits departures before anything moves; comes back with their ids.

        What is not as it was asked for any more is left out: a row that has changed its standing or
        is departing already. ``taken`` names of the inbox are departures' targets that must not be
        held by a row.
        """
        now = datetime.now(UTC)
        begun: list[Departure] = []
        with writing(self._engine) as connection:
            newest = int(connection.scalar(select(func.max(inspections.c.id))) or 0)
            allowed = self._still_stands(connection, asked)
            held = self._held(connection, taken)
            for each in asked:
                if each.inspection_id is not None and each.inspection_id not in allowed:
                    continue
                if each.target is not None and each.target in held:
                    continue
                id = connection.execute(
                    insert(departures)
                    .values(
                        station=self._station,
                        kind=each.kind.value,
                        inspection_id=each.inspection_id,
                        place=each.place.value,
                        name=each.name,
                        size_bytes=each.size_bytes,
                        mtime_ns=each.mtime_ns,
                        sha256=each.sha256,
                        target=each.target,
                        newest_inspection=newest,
                        asked_by=by,
                        asked_at=now,
                    )
                    .returning(departures.c.id)
                ).scalar_one()
                tiled = each.inspection_id in allowed and allowed[each.inspection_id]
                begun.append(replace(each, id=id, newest_inspection=newest, tiled=tiled))
        return begun

    def retarget(self, id: int, target: bytes) -> None:
        """Commits another name in the inbox, before it is tried."""
        with writing(self._engine) as connection:
            connection.execute(
                update(departures).where(departures.c.id == id).values(target=target)
            )

    def expire(self, ids: Sequence[int]) -> set[int]:
        """Commits that these inspections' files are gone for good; those for which it holds.

        Not for one that has been superseded, accepted as vanished or labelled meanwhile.
        """
        now = datetime.now(UTC)
        row = inspections.c
        spared: list[ColumnElement[bool]] = []
        if self._spare_reviewed:
            spared.append(~_REVIEWED_ROW)
        if self._spare_awaiting:
            waits = and_(row.in_review_band.is_(True), ~_REVIEWED_ROW)
            spared.append(or_(row.in_review_band.is_(None), ~waits))
        done: set[int] = set()
        with writing(self._engine) as connection:
            for start in range(0, len(ids), _CHUNK):
                changed = connection.execute(
                    update(inspections)
                    .where(
                        row.id.in_(ids[start : start + _CHUNK]),
                        row.superseded_at.is_(None),
                        row.vanished_at.is_(None),
                        *spared,
                    )
                    .values(
                        expired_at=func.coalesce(row.expired_at, _bound(now)),
                        released_at=func.coalesce(row.released_at, _bound(now)),
                    )
                    .returning(row.id)
                )
                done |= {int(id) for (id,) in changed}
        return done

    def end(self, ended: Sequence[tuple[Departure, DepartureResult]]) -> None:
        """Commits how departures ended; the rows of what is back in the inbox are superseded."""
        now = datetime.now(UTC)
        with writing(self._engine) as connection:
            for each, result in ended:
                this = departures.c.id == each.id
                if each.kind is DepartureKind.EXPIRY:
                    connection.execute(delete(departures).where(this))
                    continue
                connection.execute(
                    update(departures).where(this).values(ended_at=now, outcome=result.value)
                )
                if result is DepartureResult.DONE and each.inspection_id is not None:
                    row = inspections.c
                    connection.execute(
                        update(inspections)
                        .where(row.id == each.inspection_id, row.superseded_at.is_(None))
                        .values(
                            superseded_at=now,
                            released_at=func.coalesce(row.released_at, _bound(now)),
                        )
                    )

    def inspected_since(self, each: Departure) -> bool:
        """Whether a file of this very kind was inspected under its target since it was asked for."""
        row = inspections.c
        query = select(row.id).where(
            row.id > each.newest_inspection,
            row.station == self._station,
            row.source == each.target,
            row.size_bytes == each.size_bytes,
            row.mtime_ns.between(
                each.mtime_ns - _COARSEST_MTIME_NS, each.mtime_ns + _COARSEST_MTIME_NS
            ),
        )
        if each.sha256 is None:
            queries = [query]
        else:  # one after the other: the first has an index, the second is rarely asked
            queries = [
                query.where(row.sha256 == each.sha256),
                query.where(row.sha256.is_(None)),
            ]
        with faults(), self._engine.connect() as connection:
            return any(connection.scalar(one.limit(1)) is not None for one in queries)

    def returned(self) -> list[Departure]:
        """Recorded pictures that went back into the inbox, and were neither inspected there since nor
        accepted as gone.
        """
        query = (
            self._all()
            .where(
                inspections.c.vanished_at.is_(None),
                departures.c.kind == DepartureKind.RETURN.value,
                departures.c.outcome == DepartureResult.DONE.value,
                inspections.c.superseded_at.is_not(None),
            )
            .order_by(departures.c.id)
        )
        with faults(), self._engine.connect() as connection:
            back = [_departure(row) for row in connection.execute(query)]
        return [each for each in back if not self.inspected_since(each)]

    def held(self, targets: Sequence[bytes]) -> set[bytes]:
        """Names of the inbox that a row or an open departure holds, whether a file is there or not."""
        with faults(), self._engine.connect() as connection:
            return self._held(connection, targets)

    def vanish(self, ids: Sequence[int], by: str) -> set[int]:
        """Commits that a person accepts that these files are gone; those for which it was new.

        Among these may be pictures that were sent back into the inbox and are gone from there.
        """
        now = datetime.now(UTC)
        row = inspections.c
        done: set[int] = set()
        with writing(self._engine) as connection:
            for start in range(0, len(ids), _CHUNK):
                changed = connection.execute(
                    update(inspections)
                    .where(
                        row.id.in_(ids[start : start + _CHUNK]),
                        or_(
                            standing().in_([each.value for each in _CAN_BE_LOST]),
                            and_(
                                row.superseded_at.is_not(None),
                                row.vanished_at.is_(None),
                                _WENT_BACK,
                            ),
                        ),
                        row.station == self._station,
                    )
                    .values(
                        vanished_at=now,
                        vanished_by=by,
                        filed_at=func.coalesce(row.filed_at, _bound(now)),
                        released_at=func.coalesce(row.released_at, _bound(now)),
                    )
                    .returning(row.id)
                )
                done |= {int(id) for (id,) in changed}
        return done

    # ---------------------------------------------------------------------- what may depart

    def quarantined(
        self,
        *,
        reasons: Sequence[str] = (),
        since: datetime | None = None,
        until: datetime | None = None,
        ids: Sequence[int] | None = None,
    ) -> list[Filed]:
        """Quarantined pictures, oldest first; of every condition given each must hold."""
        row = inspections.c
        where = [row.outcome == Outcome.QUARANTINED.value]
        if reasons:
            where.append(row.reason.in_(reasons))
        if since is not None:
            where.append(row.inspected_at >= since)
        if until is not None:
            where.append(row.inspected_at < until)
        if ids is not None:
            where.append(row.id.in_(list(ids)))
        query = self._standing_in(Place.QUARANTINED).where(*where).order_by(row.id)
        with faults(), self._engine.connect() as connection:
            return [_filed(each) for each in connection.execute(query)]

    def by_name(self, place: Place, names: Sequence[bytes]) -> list[Filed]:
        """The pictures that stand under these names in their place, or came under them."""
        row = inspections.c
        found: dict[int, Filed] = {}
        with faults(), self._engine.connect() as connection:
            for start in range(0, len(names), _CHUNK):
                some = list(names[start : start + _CHUNK])
                query = self._standing_in(place).where(
                    or_(row.destination.in_(some), row.source.in_(some))
                )
                for each in map(_filed, connection.execute(query)):
                    found[each.id] = each
        return list(found.values())

    def of_rows(self, ids: Sequence[int]) -> dict[int, Filed]:
        """Rows by id, whatever their standing; those without a name in a place are left out."""
        found: dict[int, Filed] = {}
        with faults(), self._engine.connect() as connection:
            for start in range(0, len(ids), _CHUNK):
                query = self._rows().where(inspections.c.id.in_(ids[start : start + _CHUNK]))
                for each in map(_filed, connection.execute(query)):
                    found[each.id] = each
        return found

    def oldest(self, place: Place, before: datetime | None = None) -> Iterator[Filed]:
        """The pictures of a place, oldest inspection first; a page is a transaction of its own."""
        row = inspections.c
        last: tuple[datetime, int] | None = None
        while True:
            query = self._standing_in(place).order_by(row.inspected_at, row.id).limit(_PAGE_ROWS)
            if before is not None:
                query = query.where(row.inspected_at < before)
            if last is not None:
                query = query.where(
                    row.inspected_at >= last[0],
                    or_(row.inspected_at > last[0], row.id > last[1]),
                )
            with faults(), self._engine.connect() as connection:
                page = [_filed(each) for each in connection.execute(query)]
            if not page:
                return
            yield from page
            last = (page[-1].inspected_at, page[-1].id)

    def total(self, place: Place) -> tuple[int, int]:
        """(pictures, bytes) that stand in a place."""
        query = select(func.count(), func.coalesce(func.sum(inspections.c.size_bytes), 0)).where(
            self._stands(place)
        )
        with faults(), self._engine.connect() as connection:
            count, size_bytes = connection.execute(query).one()
            return int(count), int(size_bytes)

    def first_between(self, since: datetime, until: datetime) -> int | None:
        """The least number of an inspection of that time, both ends included; None: there is none."""
        row = inspections.c
        query = select(func.min(row.id)).where(row.inspected_at >= since, row.inspected_at <= until)
        with faults(), self._engine.connect() as connection:
            found = connection.scalar(query)
            return None if found is None else int(found)

    def anything_between(self, since: datetime, until: datetime) -> bool:
        """Whether a picture was inspected then, or the model proved by its golden pictures."""
        queries = [
            select(column).where(column >= since, column <= until).limit(1)
            for column in (inspections.c.inspected_at, heartbeats.c.beat_at)
        ]
        with faults(), self._engine.connect() as connection:
            return any(connection.scalar(query) is not None for query in queries)

    # ------------------------------------------------------------------------------- inside one

    def _open(self, connection: Connection) -> list[Departure]:
        query = self._all().where(departures.c.ended_at.is_(None)).order_by(departures.c.id)
        return [_departure(row) for row in connection.execute(query)]

    def _all(self) -> Any:
        return (
            select(departures, inspections.c.expired_at, _TILED)
            .join(inspections, inspections.c.id == departures.c.inspection_id, isouter=True)
            .where(departures.c.station == self._station)
        )

    def _still_stands(self, connection: Connection, asked: Sequence[Departure]) -> dict[int, bool]:
        """Of the rows asked for, those that stand where it was asked; with whether it was tiled."""
        ids = {each.inspection_id: each for each in asked if each.inspection_id is not None}
        row = inspections.c
        found: dict[int, bool] = {}
        numbers = sorted(ids)
        for start in range(0, len(numbers), _CHUNK):
            query = select(
                row.id, row.place, row.destination, row.source, standing(), _TILED
            ).where(row.id.in_(numbers[start : start + _CHUNK]), ~_DEPARTING)
            for id, place, destination, source, word, tiled in connection.execute(query):
                each = ids[id]
                name = source if place == Place.KEPT.value else destination
                if name == each.name and word == each.place.value:
                    found[id] = bool(tiled)
        return found

    def _held(self, connection: Connection, targets: Sequence[bytes]) -> set[bytes]:
        row, leaving = inspections.c, departures.c
        held: set[bytes] = set()
        for start in range(0, len(targets), _CHUNK):
            some = list(targets[start : start + _CHUNK])
            queries = (
                select(row.source).where(
                    row.released_at.is_(None), row.station == self._station, row.source.in_(some)
                ),
                select(leaving.target).where(leaving.ended_at.is_(None), leaving.target.in_(some)),
            )
            for query in queries:
                held |= set(connection.scalars(query))
        return held

    def _stands(self, place: Place) -> ColumnElement[bool]:
        row = inspections.c
        return and_(
            row.place == place.value,
            row.station == self._station,
            standing() == place.value,
        )

    def _rows(self) -> Any:
        row = inspections.c
        return select(
            row.id,
            row.place,
            row.destination,
            row.source,
            row.size_bytes,
            row.mtime_ns,
            row.sha256,
            row.inspected_at,
            row.reason,
            row.in_review_band,
            _REVIEWED,
            _DEPARTING.label("departing"),
        ).where(row.station == self._station)

    def _standing_in(self, place: Place) -> Any:
        return self._rows().where(self._stands(place))


_TILED = exists(
    select(photographs.c.inspection_id).where(photographs.c.inspection_id == inspections.c.id)
).label("tiled")
_REVIEWED_ROW = exists(
    select(reviews.c.id).where(
        or_(
            reviews.c.inspection_id == inspections.c.id,
            reviews.c.sha256 == inspections.c.sha256,
            reviews.c.photograph == inspections.c.sha256,
        )
    )
)
_REVIEWED = _REVIEWED_ROW.label("reviewed")
_DEPARTING = exists(
    select(departures.c.id).where(
        departures.c.ended_at.is_(None), departures.c.inspection_id == inspections.c.id
    )
)


_WENT_BACK = exists(
    select(departures.c.id).where(
        departures.c.inspection_id == inspections.c.id,
        departures.c.kind == DepartureKind.RETURN.value,
        departures.c.outcome == DepartureResult.DONE.value,
    )
)


def _departure(row: Any) -> Departure:
    return Departure(
        row.id,
        DepartureKind(row.kind),
        row.inspection_id,
        Place(row.place),
        row.name,
        row.size_bytes,
        row.mtime_ns,
        row.sha256,
        row.target,
        row.newest_inspection,
        row.expired_at is not None,
        bool(row.tiled),
    )


def _bound(moment: datetime) -> Any:
    """A time as the column keeps it, within an expression."""
    return literal(moment, inspections.c.expired_at.type)


def _filed(row: Any) -> Filed:
    place = Place(row.place)
    held = None
    if row.departing:
        held = "departing"
    elif row.reviewed:
        held = "reviewed"
    elif row.in_review_band:
        held = "awaiting_review"
    name = row.source if place is Place.KEPT else (row.destination or b"")
    return Filed(
        row.id,
        place,
        name,
        row.source,
        row.size_bytes,
        row.mtime_ns,
        row.sha256,
        row.inspected_at,
        QuarantineReason(row.reason) if row.reason else None,
        held,
    )
