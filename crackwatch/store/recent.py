"""Reading the books for a replay: what was inspected lately, and where its file is; never writes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy import select

from crackwatch.domain import Outcome, Place
from crackwatch.store.engine import explained, open_reader
from crackwatch.store.schema import inspections, models
from crackwatch.store.standing import Standing, standing


@dataclass(frozen=True, slots=True)
class RecentRow:
    """One inspection; paths are relative. The names are those that ``Whereabouts`` asks for."""

    id: int
    inspected_at: datetime
    outcome: Outcome
    score: float
    threshold: float
    model: str
    standing: Standing
    source: bytes
    place: Place
    destination: bytes | None
    in_review_band: bool | None
    reason: str | None = None


def recent(file: Path, station: str, since: datetime, most: int) -> list[RecentRow]:
    """The newest ``most`` verdicts since then, newest first. Raises StoreError, SystemFault."""
    row = inspections.c
    query = (
        select(
            row.id,
            row.inspected_at,
            row.outcome,
            row.score,
            row.threshold,
            models.c.id.label("model"),
            standing().label("standing"),
            row.source,
            row.place,
            row.destination,
            row.in_review_band,
        )
        .select_from(inspections.join(models, models.c.pk == row.model_pk))
        .where(
            row.station == station,
            row.inspected_at >= since,
            row.outcome.in_([Outcome.NORMAL.value, Outcome.ANOMALY.value]),
            row.superseded_at.is_(None),
            row.expired_at.is_(None),
            row.vanished_at.is_(None),
            row.place != Place.DELETED.value,
        )
        .order_by(row.inspected_at.desc())
        .limit(most)
    )
    engine = open_reader(file)
    try:
        with explained(file), engine.connect() as connection:
            return [
                RecentRow(
                    id=found.id,
                    inspected_at=found.inspected_at,
                    outcome=Outcome(found.outcome),
                    score=found.score,
                    threshold=found.threshold,
                    model=found.model,
                    standing=Standing(found.standing),
                    source=found.source,
                    place=Place(found.place),
                    destination=found.destination,
                    in_review_band=found.in_review_band,
                )
                for found in connection.execute(query)
            ]
    finally:
        engine.dispose()
