"""What people said of pictures: rows that are added and never changed; knows no folder.

A picture is its bytes (sha256). Of its labels the latest counts, by the time it was given. A
cut-out of a photograph is a picture of its own, which knows where it comes from.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Connection, Engine, Select, and_, func, insert, select, true

from crackwatch.days import Window
from crackwatch.domain import Cutout, Label, Outcome, Photograph, Place
from crackwatch.reported import ReviewTally
from crackwatch.store import photographs
from crackwatch.store.engine import faults, open_reader, open_writer, writing
from crackwatch.store.inspected import Inspected, every_inspection, inspected
from crackwatch.store.schema import inspections, reviews

T = TypeVar("T")

_CHUNK = 400  # values of an IN list; SQLite's default limit is far above
_TICK = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Review:
    """One label that one person gave to one picture.

    A photograph as a whole has no copy: ``picture`` is empty, ``pixels`` the first half of
    ``sha256``. What is learned from are cut-outs of it; these have the photograph's inspection.
    """

    sha256: bytes  # 32 bytes
    inspection_id: int | None  # None: nobody knew of an inspection of these bytes
    label: Label
    by: str
    at: datetime  # UTC
    note: str | None
    picture: bytes  # the copy under this label, relative to dataset/reviewed
    pixels: bytes  # 16 bytes, equal for equal pixels in any orientation
    id: int | None = None  # None: not recorded yet
    cutout: Cutout | None = None  # None: the picture as a whole


class ReviewBooks:
    """The reviews of one database, and the inspections that they are about."""

    def __init__(self, engine: Engine, station: str) -> None:
        self._engine = engine
        self._station = station

    # -------------------------------------------------------------------------- inspections

    def inspection(self, id: int) -> Inspected | None:
        """One inspection of this station. Raises SystemFault, StoreError."""
        return self._first(every_inspection().where(inspections.c.id == id))

    def at_destination(self, place: Place, destination: bytes) -> Inspected | None:
        """The inspection whose file belongs at a place, if there is one."""
        row = inspections.c
        return self._first(
            every_inspection().where(row.place == place.value, row.destination == destination)
        )

    def of_bytes(self, sha256: bytes) -> Inspected | None:
        """The newest inspection of these bytes that still stands."""
        return self._first(
            every_inspection()
            .where(inspections.c.sha256 == sha256, inspections.c.superseded_at.is_(None))
            .order_by(inspections.c.id.desc())
        )

    def of_source(self, source: bytes) -> list[Inspected]:
        """Every inspection of a path in the inbox that still stands, newest first; a full scan."""
        query = (
            every_inspection()
            .where(inspections.c.source == source, inspections.c.superseded_at.is_(None))
            .order_by(inspections.c.id.desc())
        )
        with self._reading() as connection:
            return list(map(inspected, connection.execute(self._mine(query))))

    def inspections(self, ids: Iterable[int]) -> dict[int, Inspected]:
        """Inspections by id, of whatever station shares the database."""
        found: dict[int, Inspected] = {}
        with self._reading() as connection:
            for chunk in _chunks(sorted(set(ids))):
                query = every_inspection().where(inspections.c.id.in_(chunk))
                for each in map(inspected, connection.execute(query)):
                    found[each.id] = each
        return found

    def waiting(self, since: datetime | None = None) -> list[Inspected]:
        """Inspections in the review band whose bytes nobody labelled, nearest to the threshold
        first; each picture once, and only where its file is still there to be looked at.
        """
        row = inspections.c
        query = (
            every_inspection()
            .with_hint(inspections, _BAND_INDEX, "sqlite")
            .where(_waits(since, None))
            .order_by(func.abs(row.score - row.threshold), row.id.desc())
        )
        distinct: dict[bytes | None, Inspected] = {}
        with self._reading() as connection:
            for each in map(inspected, connection.execute(self._mine(query))):
                distinct.setdefault(each.sha256, each)
        return list(distinct.values())

    def waiting_count(self) -> int:
        """How many pictures ``waiting`` would list."""
        with self._reading() as connection:
            return _count_waiting(connection, None, self._station)

    def photograph(self, inspection_id: int) -> Photograph | None:
        """What is kept of the inspection if it judged a photograph in tiles."""
        with self._reading() as connection:
            return photographs.of_inspections(connection, [inspection_id]).get(inspection_id)

    # ------------------------------------------------------------------------------ reviews

    def cutouts(self, sha256: bytes) -> list[Review]:
        """The label that counts of each cut-out of a photograph that was ever labelled."""
        query = (
            select(reviews)
            .where(reviews.c.photograph == sha256)
            .order_by(reviews.c.reviewed_at, reviews.c.id)
        )
        with self._reading() as connection:
            found = [_review_of(row) for row in connection.execute(query)]
        return list({each.sha256: each for each in found}.values())

    def history(self, sha256: bytes) -> list[Review]:
        """Every label of these bytes, the one that counts last."""
        with self._reading() as connection:
            return _history(connection, sha256)

    def all(self) -> list[Review]:
        """Every label that was ever given, by time."""
        query = select(reviews).order_by(reviews.c.reviewed_at, reviews.c.id)
        with self._reading() as connection:
            return [_review_of(row) for row in connection.execute(query)]

    def add(self, review: Review, *, counts: bool) -> Review:
        """Records a label in a transaction of its own; as it now stands in the books.

        With ``counts`` it is given now and shall count: its time is put after that of every other
        label of these bytes, should the clock have been turned back. Raises SystemFault, StoreError.
        """
        with writing(self._engine) as connection:
            if counts:
                last = connection.scalar(
                    select(reviews.c.reviewed_at)
                    .where(reviews.c.sha256 == review.sha256)
                    .order_by(reviews.c.reviewed_at.desc())
                    .limit(1)
                )
                if last is not None and last >= review.at:
                    review = replace(review, at=last + _TICK)
            id: int = connection.execute(
                insert(reviews)
                .values(
                    sha256=review.sha256,
                    inspection_id=review.inspection_id,
                    label=review.label.value,
                    reviewed_by=review.by,
                    reviewed_at=review.at,
                    note=review.note,
                    picture=review.picture,
                    pixels=review.pixels,
                    **({} if review.cutout is None else asdict(review.cutout)),
                )
                .returning(reviews.c.id)
            ).scalar_one()
        return replace(review, id=id)

    # ------------------------------------------------------------------------------- inside

    @contextlib.contextmanager
    def _reading(self) -> Iterator[Connection]:
        with faults(), self._engine.connect() as connection:
            yield connection

    def _first(self, query: Select[Any]) -> Inspected | None:
        with self._reading() as connection:
            row = connection.execute(self._mine(query).limit(1)).first()
        return None if row is None else inspected(row)

    def _mine(self, query: Select[Any]) -> Select[Any]:
        return query.where(inspections.c.station == self._station)


@contextlib.contextmanager
def opened(file: Path, station: str, *, writable: bool) -> Iterator[ReviewBooks]:
    """The books of reviews, open while the block runs. Raises StoreError, StoreVersionError."""
    engine = open_writer(file) if writable else open_reader(file)
    try:
        yield ReviewBooks(engine, station)
    finally:
        engine.dispose()


def tally(connection: Connection, window: Window) -> ReviewTally:
    """What people said of the pictures inspected in a window.

    Goes from the reviews, which are few, to their inspections by hash: the window's own index knows
    no hashes.
    """
    latest: dict[bytes, tuple[Label, bytes]] = {}
    labels: dict[bytes, set[Label]] = {}
    query = select(reviews.c.sha256, reviews.c.label, reviews.c.pixels).order_by(
        reviews.c.reviewed_at, reviews.c.id
    )
    for sha256, label, pixels in connection.execute(query):
        latest[sha256] = (Label(label), pixels)
        labels.setdefault(pixels, set()).add(Label(label))
    verdicts: dict[bytes, set[str]] = {}
    row = inspections.c
    for chunk in _chunks(list(latest)):
        of_bytes = select(row.sha256, row.outcome, row.inspected_at).where(
            row.sha256.in_(chunk), row.superseded_at.is_(None)
        )
        for sha256, outcome, at in connection.execute(of_bytes):
            if window.since <= at < window.until:
                verdicts.setdefault(sha256, set()).add(outcome)
    cracks = {sha256 for sha256 in verdicts if latest[sha256][0] is Label.ANOMALY}
    fine = set(verdicts) - cracks
    return ReviewTally(
        crack=len(cracks),
        ok=len(fine),
        contradictions=sum(len(labels[latest[sha256][1]]) > 1 for sha256 in verdicts),
        escapes=sum(Outcome.NORMAL.value in verdicts[sha256] for sha256 in cracks),
        false_alarms=sum(Outcome.ANOMALY.value in verdicts[sha256] for sha256 in fine),
        waiting=_count_waiting(connection, window, None),
    )


# The planner cannot know how few rows have in_review_band = 1; the index holds them alone.
_BAND_INDEX = "INDEXED BY ix_inspections_review_band"


def _count_waiting(connection: Connection, window: Window | None, station: str | None) -> int:
    waits = _waits(window.since, window.until) if window else _waits(None, None)
    query = (
        select(func.count(inspections.c.sha256.distinct()))
        .select_from(inspections)
        .with_hint(inspections, _BAND_INDEX, "sqlite")
        .where(waits)
    )
    if station is not None:
        query = query.where(inspections.c.station == station)
    return int(connection.scalar(query) or 0)


def _waits(since: datetime | None, until: datetime | None) -> ColumnElement[bool]:
    """In the band, the file still there, and no review of its bytes."""
    row = inspections.c
    conditions: list[ColumnElement[bool]] = [
        row.in_review_band == true(),
        row.superseded_at.is_(None),
        row.expired_at.is_(None),
        row.vanished_at.is_(None),
        row.place != Place.DELETED.value,
        ~select(reviews.c.id).where(reviews.c.sha256 == row.sha256).exists(),
    ]
    if since is not None:
        conditions.append(row.inspected_at >= since)
    if until is not None:
        conditions.append(row.inspected_at < until)
    return and_(*conditions)


def _history(connection: Connection, sha256: bytes) -> list[Review]:
    query = (
        select(reviews)
        .where(reviews.c.sha256 == sha256)
        .order_by(reviews.c.reviewed_at, reviews.c.id)
    )
    return [_review_of(row) for row in connection.execute(query)]


def _review_of(row: Any) -> Review:
    return Review(
        sha256=row.sha256,
        inspection_id=row.inspection_id,
        label=Label(row.label),
        by=row.reviewed_by,
        at=row.reviewed_at,
        note=row.note,
        picture=row.picture,
        pixels=row.pixels,
        id=row.id,
        cutout=Cutout(row.photograph, row.x, row.y, row.w, row.h) if row.photograph else None,
    )


def _chunks(values: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(values), _CHUNK):
        yield values[start : start + _CHUNK]
