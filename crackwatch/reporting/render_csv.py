"""The inspections of a window as CSV, a line each, oldest first; holds one line at a time."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable
from datetime import datetime, tzinfo
from typing import Protocol, TextIO

from crackwatch.domain import Outcome, Photograph
from crackwatch.escaping import path_text
from crackwatch.reporting.summary import LineLike

# column: what it holds; ``report --help`` lists them.
COLUMNS = {
    "id": "number of the inspection; never used twice",
    "inspected_at": "ISO 8601 with offset, the station's time",
    "outcome": "normal, anomaly or quarantined",
    "standing": "where the file is or how it ended: kept, flagged, archived, deleted, quarantined, "
    "pending (not moved yet), superseded (not counted by the other formats), expired, vanished",
    "score": "probability of an anomaly, 0 to 1; empty if quarantined",
    "threshold": "anomaly if score >= threshold",
    "model": "the model that judged",
    "source": "path in the inbox",
    "path": "where the file is now; empty where there is none any more",
    "reason": "why it was quarantined",
    "detail": "the reason in words",
    "sha256": "of the picture's bytes; empty if it was too big to be read",
    "duplicate_of": "id of the first inspection of the very same bytes",
    "tiles": "of a photograph: how many it was cut into; empty for a single picture, as the next",
    "tiles_over": "how many of them reach the threshold",
    "min_tiles": "how many that touch make it an anomaly",
    "length_mm": "of their longest chain: indicative; empty where it is not known",
}

NO_FILE = frozenset({"deleted", "superseded", "expired", "vanished"})
# A spreadsheet takes a cell that begins with one of these for a formula, and runs it.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_SINGLE = (None,) * 4  # cells of a picture that was judged as one


class FullLine(LineLike, Protocol):
    """One inspection with everything that a line of CSV tells."""

    @property
    def outcome(self) -> Outcome: ...
    @property
    def detail(self) -> str | None: ...
    @property
    def sha256(self) -> bytes | None: ...
    @property
    def duplicate_of(self) -> int | None: ...


def write(
    stream: TextIO,
    lines: Iterable[tuple[FullLine, Photograph | None]],
    whereabouts: Callable[[LineLike], bytes],
    zone: tzinfo | None,
) -> None:
    """Writes a header and a line for each inspection, with what is kept of a photograph.

    Raises OSError.
    """
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    for line, photograph in lines:
        path = b"" if line.standing in NO_FILE else whereabouts(line)
        writer.writerow(
            [
                line.id,
                _iso(line.inspected_at, zone),
                line.outcome.value,
                str(line.standing),
                line.score,
                line.threshold,
                line.model,
                safe(path_text(line.source)),
                safe(path_text(path)),
                line.reason,
                safe(line.detail or ""),
                line.sha256.hex() if line.sha256 else "",
                line.duplicate_of,
                *(_of_tiles(photograph) if photograph else _SINGLE),
            ]
        )


def _of_tiles(photograph: Photograph) -> tuple[int | float | None, ...]:
    return photograph.tiles, photograph.tiles_over, photograph.min_tiles, photograph.length_mm


def safe(cell: str) -> str:
    """The cell with an apostrophe before it if a spreadsheet would take it for a formula."""
    return "'" + cell if cell.startswith(_FORMULA) else cell


def _iso(moment: datetime, zone: tzinfo | None) -> str:
    return moment.astimezone(zone).isoformat()
