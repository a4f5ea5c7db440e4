"""Reading the books for drift: a day's pictures, or a fair sample of them, by model; never writes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, func, select

from crackwatch.domain import Outcome, Window
from crackwatch.store.engine import explained, open_reader
from crackwatch.store.schema import inspections, models

# Multiplied by this, modulo 2**32, numbers in a row spread evenly and in no period that cameras
# or a production line could share (Knuth, The Art of Computer Programming 3, section 6.4): a
# picture is in the sample by its id alone, and the same in every sample of that day.
_SPREAD = 2_654_435_761
_MODULUS = 1 << 32


@dataclass(frozen=True, slots=True)
class Sampled:
    """One inspected picture; rows from before light was measured are not among them."""

    score: float
    brightness: float
    sharpness: float


class DriftRows:
    """The books as they stood at one moment: one read transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._cards: dict[int, tuple[str, str]] = {}

    def sample(self, window: Window, most: int) -> dict[int, list[Sampled]]:
        """By the model's row number: all pictures of a window, or about ``most`` of them.

        Superseded and quarantined ones are left out. A window's index finds the rows; only those of
        the sample are fetched.
        """
        row = inspections.c
        inside = (
            (row.inspected_at >= window.since)
            & (row.inspected_at < window.until)
            & row.outcome.in_([Outcome.NORMAL.value, Outcome.ANOMALY.value])
        )
        count = self._connection.scalar(select(func.count()).where(inside)) or 0
        query = select(row.model_pk, row.score, row.brightness, row.sharpness).where(
            inside,
            row.superseded_at.is_(None),
            row.score.is_not(None),
            row.brightness.is_not(None),
            row.sharpness.is_not(None),
        )
        if count > most:
            query = query.where((row.id * _SPREAD) % _MODULUS < _MODULUS * most // count)
        found: dict[int, list[Sampled]] = {}
        for model_pk, score, brightness, sharpness in self._connection.execute(query):
            found.setdefault(model_pk, []).append(Sampled(score, brightness, sharpness))
        return found

    def card(self, model_pk: int) -> tuple[str, str]:
        """A model's id, and its card's text as it was when the model was first used here."""
        known = self._cards.get(model_pk)
        if known is None:
            id, card = self._connection.execute(
                select(models.c.id, models.c.card).where(models.c.pk == model_pk)
            ).one()
            known = self._cards[model_pk] = (id, card)
        return known


def sample_of(file: Path, window: Window, model_pk: int, most: int) -> tuple[list[Sampled], str]:
    """The same for one model, with its card's text; from a database that others may be writing.

    Raises StoreError.
    """
    engine = open_reader(file)
    try:
        with explained(file), engine.begin() as connection:
            rows = DriftRows(connection)
            return rows.sample(window, most).get(model_pk, []), rows.card(model_pk)[1]
    finally:
        engine.dispose()
