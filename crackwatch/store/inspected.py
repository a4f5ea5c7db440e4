"""An inspection as the books tell it, with its model and its standing; asks for none by itself.

Who reads inspections begins with one of the two selects here, adds conditions and an order, and
makes the facts of the rows. What was quarantined has no model and no score: ``every_inspection``
brings it along, ``judgements`` leaves it out.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Select, select

from crackwatch.domain import Outcome, Place
from crackwatch.store.schema import inspections, models
from crackwatch.store.standing import Standing, standing


@dataclass(frozen=True, slots=True)
class Inspected:
    """One inspection. Times are UTC; paths are relative to the folder of their place."""

    id: int
    inspected_at: datetime
    outcome: Outcome
    score: float | None  # 0..1; None, as threshold and model are: it was quarantined
    threshold: float | None
    model: str | None
    standing: Standing
    source: bytes  # relative to the inbox
    place: Place
    destination: bytes | None
    reason: str | None
    detail: str | None
    sha256: bytes | None  # 32 bytes; None: it was never read
    duplicate_of: int | None
    in_review_band: bool | None  # None: the station had no band then


@dataclass(frozen=True, slots=True)
class Judged(Inspected):
    """An inspection with a verdict."""

    score: float
    threshold: float
    model: str


def every_inspection() -> Select[Any]:
    """Every row, whatever became of it; ``inspected`` makes the facts."""
    return _columns().select_from(
        inspections.outerjoin(models, models.c.pk == inspections.c.model_pk)
    )


def judgements() -> Select[Any]:
    """The rows that have a model, and with it a score and a threshold; ``judged`` makes the facts."""
    return _columns().select_from(inspections.join(models, models.c.pk == inspections.c.model_pk))


def _columns() -> Select[Any]:
    row = inspections.c
    return select(  # the fact's fields, in their order
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
        row.reason,
        row.detail,
        row.sha256,
        row.duplicate_of,
        row.in_review_band,
    )


def inspected(row: Any) -> Inspected:
    """The fact of a row of ``every_inspection``."""
    return Inspected(*_fields(row))


def judged(row: Any) -> Judged:
    """The fact of a row of ``judgements``."""
    return Judged(*_fields(row))


def _fields(row: Any) -> tuple[Any, ...]:
    # by position, which is faster: a report may list a million
    id, at, outcome, score, threshold, model, state, source, place, *rest = row
    return (
        id,
        at,
        Outcome(outcome),
        score,
        threshold,
        model,
        Standing(state),
        source,
        Place(place),
        *rest,
    )
