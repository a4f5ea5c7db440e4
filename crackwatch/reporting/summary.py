"""Rows to a Summary: adds up, finds where each file is now; renders nothing.

``normal``, ``anomaly`` and ``quarantined`` count what still stands. A superseded inspection, one
whose file had been replaced before it was filed, counts under ``superseded`` alone: the content
that replaced it has an inspection of its own.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from crackwatch.domain import (
    FoundAnomaly,
    HourCount,
    ModelUse,
    Outcome,
    Place,
    QuarantinedPicture,
    Summary,
    Window,
)


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


class CountsLike(Protocol):
    @property
    def tallies(self) -> Iterable[TallyLike]: ...
    @property
    def superseded(self) -> int: ...


class LineLike(Protocol):
    """One inspection; ``standing`` is the word that the audit counts it under."""

    @property
    def inspected_at(self) -> datetime: ...
    @property
    def score(self) -> float | None: ...
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
    by_model: dict[tuple[str, float], list[int]] = {}
    for tally in counts.tallies:
        by_outcome[tally.outcome] += tally.count
        if tally.model is not None and tally.threshold is not None:
            used = by_model.setdefault((tally.model, tally.threshold), [0, 0])
            used[tally.outcome is Outcome.ANOMALY] += tally.count
    waiting = pending()
    return Summary(
        window=window,
        normal=by_outcome[Outcome.NORMAL],
        anomaly=by_outcome[Outcome.ANOMALY],
        quarantined=by_outcome[Outcome.QUARANTINED],
        superseded=counts.superseded,
        pending=waiting.count if waiting else None,
        pending_as_of=waiting.as_of if waiting else None,
        models=tuple(
            ModelUse(id, normal + anomaly, anomaly, threshold)
            for (id, threshold), (normal, anomaly) in by_model.items()
        ),
        anomalies=tuple(
            FoundAnomaly(
                line.source,
                whereabouts(line),
                line.score,
                line.inspected_at,
                line.model or "",
                line.in_review_band,
            )
            for line in rows.lines(window, Outcome.ANOMALY, limit=limit)
            if line.score is not None  # an anomaly without a score cannot be recorded
        ),
        quarantine=tuple(
            QuarantinedPicture(line.source, whereabouts(line), line.reason or "")
            for line in rows.lines(window, Outcome.QUARANTINED, limit=limit)
        ),
        hourly=by_hour(window, counts.tallies),
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
