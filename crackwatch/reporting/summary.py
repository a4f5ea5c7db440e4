"""Rows to a Summary: adds up, finds where each file is now; renders nothing.

``normal``, ``anomaly`` and ``quarantined`` count what still stands. A superseded inspection, one
whose file had been replaced before it was filed, counts under ``superseded`` alone: the content
that replaced it has an inspection of its own.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from crackwatch.days import Window
from crackwatch.domain import Outcome, Photograph, Place
from crackwatch.reported import FoundAnomaly, HourCount, ModelUse, QuarantinedPicture, Summary


class TallyLike(Protocol):
    """How many inspections of one kind fell into the quarter of an hour from ``quarter`` on."""

    @property
    def quarter(self) -> datetime: ...
    @property
    def outcome(self) -> Outcome: ...
    @property
    def model(self) -> str | None: ...
    @property
    def threshold(self) -> float | None: ...
    @property
    def count(self) -> int: ...


class TiledTallyLike(Protocol):
    """How many photographs one model judged by one rule; the tallies count them as well."""

    @property
    def model(self) -> str | None: ...
    @property
    def threshold(self) -> float | None: ...
    @property
    def min_tiles(self) -> int: ...
    @property
    def outcome(self) -> Outcome: ...
    @property
    def count(self) -> int: ...


class CountsLike(Protocol):
    @property
    def tallies(self) -> Iterable[TallyLike]: ...
    @property
    def tiled(self) -> Iterable[TiledTallyLike]: ...
    @property
    def superseded(self) -> int: ...


class LineLike(Protocol):
    """One inspection; ``standing`` is the word that the audit counts it under."""

    @property
    def id(self) -> int: ...
    @property
    def inspected_at(self) -> datetime: ...
    @property
    def score(self) -> float | None: ...
    @property
    def threshold(self) -> float | None: ...
    @property
    def model(self) -> str | None: ...
    @property
    def standing(self) -> str: ...
    @property
    def source(self) -> bytes: ...
    @property
    def place(self) -> Place: ...
    @property
    def destination(self) -> bytes | None: ...
    @property
    def reason(self) -> str | None: ...
    @property
    def in_review_band(self) -> bool | None: ...


class RowsLike(Protocol):
    """The books: see ``store.reports.ReportRows``."""

    def counts(self, window: Window) -> CountsLike: ...
    def lines(
        self, window: Window, outcome: Outcome, *, limit: int | None
    ) -> Iterable[LineLike]: ...
    def photographs(self, ids: Sequence[int]) -> Mapping[int, Photograph]: ...


@dataclass(frozen=True, slots=True)
class Pending:
    """How many files wait in the inbox, and since when that is known."""

    count: int
    as_of: datetime


class Whereabouts:
    """Where the file of an inspection is now: a callable that gives its absolute path.

    For a file that is no longer there (deleted, expired, vanished), where it was last.
    """

    def __init__(self, inbox: bytes, folders: Mapping[Place, bytes]) -> None:
        self._inbox = inbox
        self._folders = folders

    def __call__(self, line: LineLike) -> bytes:
        in_the_inbox = os.path.join(self._inbox, line.source)
        if line.destination is None:
            return in_the_inbox
        destination = os.path.join(self._folders[line.place], line.destination)
        if line.standing == "pending" and not os.path.lexists(destination):
            return in_the_inbox
        return destination


def summarize(
    rows: RowsLike,
    window: Window,
    whereabouts: Callable[[LineLike], bytes],
    pending: Callable[[], Pending | None],
    *,
    limit: int | None = None,
) -> Summary:
    """Adds up a window. At most ``limit`` anomalies and quarantined pictures are listed, newest
    first; None lists them all. The counts are always whole.
    """
    counts = rows.counts(window)
    by_outcome = dict.fromkeys(Outcome, 0)
    for tally in counts.tallies:
        by_outcome[tally.outcome] += tally.count
    waiting = pending()
    found = list(rows.lines(window, Outcome.ANOMALY, limit=limit))
    photographs = rows.photographs([line.id for line in found])
    return Summary(
        window=window,
        normal=by_outcome[Outcome.NORMAL],
        anomaly=by_outcome[Outcome.ANOMALY],
        quarantined=by_outcome[Outcome.QUARANTINED],
        superseded=counts.superseded,
        pending=waiting.count if waiting else None,
        pending_as_of=waiting.as_of if waiting else None,
        models=by_model(counts),
        anomalies=tuple(
            FoundAnomaly(
                line.source,
                whereabouts(line),
                line.score,
                line.inspected_at,
                line.model or "",
                line.in_review_band,
                line.threshold,
                photographs.get(line.id),
            )
            for line in found
            if line.score is not None  # an anomaly without a score cannot be recorded
        ),
        quarantine=tuple(
            QuarantinedPicture(line.source, whereabouts(line), line.reason or "")
            for line in rows.lines(window, Outcome.QUARANTINED, limit=limit)
        ),
        hourly=by_hour(window, counts.tallies),
    )


def by_model(counts: CountsLike) -> tuple[ModelUse, ...]:
    """What each model did by each of its rules; photographs apart from single pictures."""
    used: dict[tuple[str, float, int | None], list[int]] = {}

    def count(tally: TallyLike | TiledTallyLike, min_tiles: int | None, number: int) -> None:
        if tally.model is not None and tally.threshold is not None:
            of = used.setdefault((tally.model, tally.threshold, min_tiles), [0, 0])
            of[tally.outcome is Outcome.ANOMALY] += number

    for tally in counts.tallies:
        count(tally, None, tally.count)
    for tiled in counts.tiled:
        count(tiled, None, -tiled.count)
        count(tiled, tiled.min_tiles, tiled.count)
    return tuple(
        ModelUse(id, normal + anomaly, anomaly, threshold, min_tiles)
        for (id, threshold, min_tiles), (normal, anomaly) in used.items()
        if normal + anomaly
    )


def by_hour(window: Window, tallies: Iterable[TallyLike]) -> tuple[HourCount, ...]:
    """Counts by hour of the station's clock, in order; hours without an inspection are left out.

    An hour that the clock shows twice is two hours, told apart by their offset from UTC.
    """
    zone = window.since.tzinfo
    hours: dict[tuple[datetime, timedelta | None], tuple[datetime, dict[Outcome, int]]] = {}
    for tally in tallies:
        hour = tally.quarter.astimezone(zone).replace(minute=0, second=0, microsecond=0)
        # datetimes of one zone are equal if they show the same, whichever of the two hours it is
        key = (hour.replace(tzinfo=None, fold=0), hour.utcoffset())
        _, counts = hours.setdefault(key, (hour, dict.fromkeys(Outcome, 0)))
        counts[tally.outcome] += tally.count
    return tuple(
        HourCount(
            hour,
            counts[Outcome.NORMAL],
            counts[Outcome.ANOMALY],
            counts[Outcome.QUARANTINED],
        )
        for hour, counts in hours.values()
    )
