"""How a photograph's tiles stand in the books: its row, and the fact read from it again.

Rows are read for inspections that are known already, by their number. Most stations have none: who
asks for many begins with ``any_there``, which costs a look at one page.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, select

from crackwatch.domain import Box, Photograph
from crackwatch.store.engine import explained, open_reader
from crackwatch.store.schema import inspections, photographs

_CHUNK = 400  # values of an IN list; SQLite's default limit is far above


def photograph_row(inspection_id: int, photograph: Photograph) -> dict[str, Any]:
    """The row of ``photographs`` that belongs to an inspection."""
    return {
        "inspection_id": inspection_id,
        "width": photograph.width,
        "height": photograph.height,
        "scale": photograph.scale,
        "overlap": photograph.overlap,
        "tiles": photograph.tiles,
        "tiles_over": photograph.tiles_over,
        "min_tiles": photograph.min_tiles,
        "largest_cluster": photograph.largest_cluster,
        "boxes": json.dumps(
            [[each.x, each.y, each.w, each.h, each.score] for each in photograph.boxes],
            separators=(",", ":"),
        ),
        "score_map": photograph.score_map,
        "length_mm": photograph.length_mm,
        "second_look_from": photograph.second_look_from,
    }


def photograph_of(row: Any) -> Photograph:
    """The fact of a row of ``photographs``, by its columns' names."""
    return Photograph(
        width=row.width,
        height=row.height,
        scale=row.scale,
        overlap=row.overlap,
        tiles=row.tiles,
        tiles_over=row.tiles_over,
        min_tiles=row.min_tiles,
        largest_cluster=row.largest_cluster,
        boxes=tuple(Box(*each) for each in json.loads(row.boxes)),
        score_map=row.score_map,
        length_mm=row.length_mm,
        second_look_from=row.second_look_from,
    )


class PhotographBooks:
    """Reads one photograph at a time, beside the station that writes; for any number of threads."""

    def __init__(self, file: Path) -> None:
        """Raises StoreError where the database cannot be read."""
        self._file = file
        self._engine = open_reader(file)

    def photograph(self, id: int) -> tuple[Photograph, float] | None:
        """What an inspection's tiles came to, and its score; None: it was judged as one picture.

        Raises StoreError, SystemFault.
        """
        query = (
            select(photographs, inspections.c.score)
            .join(inspections, inspections.c.id == photographs.c.inspection_id)
            .where(photographs.c.inspection_id == id)
        )
        with explained(self._file), self._engine.connect() as connection:
            row = connection.execute(query).first()
        return None if row is None else (photograph_of(row), row.score)


def any_there(connection: Connection) -> bool:
    """Whether the books have a photograph at all."""
    return connection.execute(select(photographs.c.inspection_id).limit(1)).first() is not None


def of_inspections(connection: Connection, ids: Sequence[int]) -> dict[int, Photograph]:
    """The photographs among these inspections, by their number; of the others there is none."""
    found: dict[int, Photograph] = {}
    if not any_there(connection):
        return found
    for start in range(0, len(ids), _CHUNK):
        chunk = ids[start : start + _CHUNK]
        query = select(photographs).where(photographs.c.inspection_id.in_(chunk))
        for row in connection.execute(query):
            found[row.inspection_id] = photograph_of(row)
    return found
