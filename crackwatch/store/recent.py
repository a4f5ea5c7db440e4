"""Reading the books for a replay: what was inspected lately, and where its file is; never writes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy import ColumnElement, and_, func, not_, select

from crackwatch.domain import Outcome, Place
from crackwatch.store.engine import explained, open_reader
from crackwatch.store.inspected import Judged, judged, judgements
from crackwatch.store.schema import inspections, photographs


@dataclass(frozen=True, slots=True)
class Lately:
    """``rows`` are of pictures that should still be there; ``gone`` counts those that are not.

    ``older`` counts those that should be there and are more than was asked for. All without
    photographs that were judged in tiles: of these there were ``photographs``.
    """

    rows: list[Judged]
    gone: int
    photographs: int
    older: int


def _gone() -> ColumnElement[bool]:
    """Deleted as ``files.normal`` says, removed by retention, or taken away by a person.

    A kept file whose row is released has left the inbox: what has its name now is another picture.
    """
    row = inspections.c
    return (
        (row.place == Place.DELETED.value)
        | row.expired_at.is_not(None)
        | row.vanished_at.is_not(None)
        | ((row.place == Place.KEPT.value) & row.released_at.is_not(None))
    )


def recent(file: Path, station: str, since: datetime, most: int) -> Lately:
    """The newest ``most`` verdicts since then, newest first. Raises StoreError, SystemFault."""
    row = inspections.c
    wanted = and_(
        row.station == station,
        row.inspected_at >= since,
        row.outcome.in_([Outcome.NORMAL.value, Outcome.ANOMALY.value]),
        row.superseded_at.is_(None),
    )
    in_tiles = row.id.in_(select(photographs.c.inspection_id))
    query = (
        judgements()
        .where(wanted, not_(in_tiles), not_(_gone()))
        .order_by(row.inspected_at.desc(), row.id.desc())
        .limit(most)
    )
    engine = open_reader(file)
    try:
        with explained(file), engine.connect() as connection:
            counted = select(func.count()).select_from(inspections).where(wanted)
            gone = connection.execute(counted.where(not_(in_tiles), _gone())).scalar_one()
            there = connection.execute(counted.where(not_(in_tiles), not_(_gone()))).scalar_one()
            tiled = connection.execute(counted.where(in_tiles)).scalar_one()
            rows = list(map(judged, connection.execute(query)))
    finally:
        engine.dispose()
    return Lately(rows, gone, tiled, max(0, there - len(rows)))  # one may have arrived between
