"""How a photograph's tiles stand in the books: its row, and the fact read from it again."""

from __future__ import annotations

import json
from typing import Any

from crackwatch.domain import Box, Photograph


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
    )
