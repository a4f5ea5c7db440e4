"""How many pictures were quarantined lately, and why; reads only."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from sqlalchemy import func, select

from crackwatch.domain import Outcome
from crackwatch.store.engine import explained, open_reader
from crackwatch.store.schema import inspections


def quarantined_since(file: Path, station: str, since: datetime) -> dict[str, int]:
    """By reason, how many of ``station`` were quarantined from ``since`` on.

    Raises StoreError.
    """
    query = (
        select(inspections.c.reason, func.count())
        .where(
            inspections.c.inspected_at >= since,
            inspections.c.outcome == Outcome.QUARANTINED,
            inspections.c.station == station,
        )
        .group_by(inspections.c.reason)
    )
    engine = open_reader(file)
    with explained(file), engine.connect() as connection:
        return {str(reason): int(count) for reason, count in connection.execute(query)}
