"""Reading the books for drift: days' pictures, or a fair sample of them, by model; never writes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy import Connection, func, select, text

from crackwatch.days import Window
from crackwatch.store.engine import explained, open_reader
from crackwatch.store.schema import inspections, models, to_microseconds

# Multiplied by this, modulo 2**32, numbers in a row spread evenly and in no period that cameras
# or a production line could share (Knuth, The Art of Computer Programming 3, section 6.4): a
# picture is in the sample by its id alone, and the same in every sample of that day.
_SPREAD = 2_654_435_761
_MODULUS = 1 << 32


# Two queries however many days there are: asked day by day, a year takes longer to ask than to answer.
# CROSS JOIN keeps the order of the loops, so that each day is one range of the window's index.
_COUNTS = text(
    """
    WITH day AS MATERIALIZED (
        SELECT key AS day, json_extract(value, '$[0]') AS since, json_extract(value, '$[1]') AS until
        FROM json_each(:days)
    )
    SELECT day, model_pk, count(*) FROM day CROSS JOIN inspections
    WHERE inspected_at >= since AND inspected_at < until AND outcome IN ('normal', 'anomaly')
    GROUP BY day, model_pk
    """
)
_PICTURES = text(
    f"""
    WITH part AS MATERIALIZED (
        SELECT
            key AS part, json_extract(value, '$[0]') AS since, json_extract(value, '$[1]') AS until,
            json_extract(value, '$[2]') AS judge, json_extract(value, '$[3]') AS below
        FROM json_each(:parts)
    )
    SELECT
        part,
        CASE WHEN EXISTS (SELECT 1 FROM photographs WHERE inspection_id = inspections.id)
            THEN NULL ELSE score END,
        brightness, sharpness
    FROM part CROSS JOIN inspections
    WHERE inspected_at >= since AND inspected_at < until AND outcome IN ('normal', 'anomaly')
        AND model_pk = judge AND id * {_SPREAD} % {_MODULUS} < below AND superseded_at IS NULL
        AND score IS NOT NULL AND brightness IS NOT NULL AND sharpness IS NOT NULL
    """
)


@dataclass(frozen=True, slots=True)
class Sampled:
    """One inspected picture; rows from before light was measured are not among them.

    A photograph has no ``score``: what it is known by is the highest of its tiles', and that of
    hundreds is no score of a picture.
    """

    score: float | None
    brightness: float
    sharpness: float


class DriftRows:
    """The books as they stood at one moment: one read transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._cards: dict[int, tuple[str, str]] = {}

    def ends(self, window: Window) -> tuple[datetime, datetime] | None:
        """When the first and the last picture of a window were inspected, UTC; None: there are none."""
        at = inspections.c.inspected_at
        inside = (at >= window.since) & (at < window.until)
        # one at a time: each is one step into the index, both at once are a walk along it
        first = self._connection.scalar(select(func.min(at)).where(inside))
        last = self._connection.scalar(select(func.max(at)).where(inside))
        return None if first is None or last is None else (first, last)

    def samples(self, windows: Sequence[Window], most: int) -> list[dict[int, list[Sampled]]]:
        """For each window, by the model's row number: every picture it judged, or about ``most``.

        Superseded and quarantined ones are left out. A window's index finds the rows; only those of
        the sample are fetched.
        """
        spans = [(to_microseconds(each.since), to_microseconds(each.until)) for each in windows]
        counts = self._connection.execute(_COUNTS, {"days": json.dumps(spans)}).all()
        parts = [
            (*spans[day], model_pk, _MODULUS if count <= most else _MODULUS * most // count)
            for day, model_pk, count in counts
        ]
        rows = self._connection.execute(_PICTURES, {"parts": json.dumps(parts)}).all()
        found: list[dict[int, list[Sampled]]] = [{} for _ in windows]
        for part, score, brightness, sharpness in rows:
            day, model_pk, _ = counts[part]
            found[day].setdefault(model_pk, []).append(Sampled(score, brightness, sharpness))
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
            (found,) = rows.samples([window], most)
            return found.get(model_pk, []), rows.card(model_pk)[1]
    finally:
        engine.dispose()
