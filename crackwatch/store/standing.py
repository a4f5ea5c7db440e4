"""What became of an inspected file, as one word computed from its row; knows no folder.

The words are those that ``audit`` counts under, and this is the one place that defines them.
"""

from __future__ import annotations

import enum

from sqlalchemy import ColumnElement, Text, case, literal

from crackwatch.domain import Place
from crackwatch.store.schema import inspections

_MOVED = (Place.FLAGGED, Place.ARCHIVED, Place.DELETED, Place.QUARANTINED)


class Standing(enum.StrEnum):
    """Where a row's file is, or how it ended; each row has exactly one."""

    KEPT = "kept"
    FLAGGED = "flagged"
    ARCHIVED = "archived"
    DELETED = "deleted"
    QUARANTINED = "quarantined"
    SUPERSEDED = "superseded"  # its name got other content before it was filed, or it was requeued
    EXPIRED = "expired"  # retention removed it
    VANISHED = "vanished"  # a person accepted that it is gone
    PENDING = "pending"  # its move is recorded and unfinished


def standing() -> ColumnElement[str]:
    """The standing as an SQL expression; an unknown place comes out as it is in the row."""
    row = inspections.c
    return case(
        # before superseded: what was requeued and then lost is both
        (row.vanished_at.is_not(None), literal(Standing.VANISHED.value, Text)),
        (row.superseded_at.is_not(None), Standing.SUPERSEDED.value),
        (row.expired_at.is_not(None), Standing.EXPIRED.value),
        (
            row.filed_at.is_(None) & row.place.in_([place.value for place in _MOVED]),
            Standing.PENDING.value,
        ),
        else_=row.place,
    )
