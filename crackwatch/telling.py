"""What a running station tells of itself: its state, its status file, drift and scale.

Asks the parts that work; knows no thread and no signal, and decides nothing about the work.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from pathlib import Path

from crackwatch import scales
from crackwatch.arrivals.intake import Backlog, Intake
from crackwatch.arrivals.sentinel import Sentinel
from crackwatch.days import Window, day_begins
from crackwatch.driftwatch import MOST_PICTURES, DriftWatch
from crackwatch.errors import StoreError, SystemFault
from crackwatch.health import status as status_module
from crackwatch.health.board import Board, Problem
from crackwatch.health.notify import notify
from crackwatch.health.status import ForReview, LastGolden, State, Status
from crackwatch.heartbeat import PROBLEM as GOLDEN_FAILED
from crackwatch.heartbeat import Heart
from crackwatch.inspector import Inspector
from crackwatch.settings import Settings
from crackwatch.store import drift as drift_rows
from crackwatch.store import reviews

_COUNT_EVERY_S = 10.0
_REVIEW_EVERY_S = 60.0

# errors that a person must mend while everything else is inspected and filed
_WORK_GOES_ON = frozenset({"move_refused", "unreadable_file", "inbox_partly_unreadable"})


def state_of(problems: Sequence[Problem]) -> State:
    """Paused while nothing can be inspected; unhealthy while that goes on, but not all is well.

    Unhealthy as well while the model fails its golden pictures: the station is able to inspect,
    but would not be believed.
    """
    errors = {each.code for each in problems if each.severity == "error"}
    if not errors:
        return "running"
    if GOLDEN_FAILED in errors or errors <= _WORK_GOES_ON:
        return "unhealthy"
    return "paused"


def tell_starting(state_folder: Path, started_at: datetime) -> None:
    """The status of a station that is being built, of which nothing else can be asked yet."""
    _write(
        state_folder,
        Status("starting", pid=os.getpid(), as_of=datetime.now(UTC), started_at=started_at),
    )


class Teller:
    """Asks the station's parts how they are, for the status file and the board; for one thread."""

    def __init__(
        self,
        settings: Settings,
        board: Board,
        started_at: datetime,
        *,
        inspector: Inspector,
        intake: Intake,
        sentinel: Sentinel,
        heart: Heart,
        working_day: Callable[[], date],
    ) -> None:
        self._settings = settings
        self._board = board
        self._started_at = started_at
        self._inspector = inspector
        self._intake = intake
        self._sentinel = sentinel
        self._heart = heart
        self._working_day = working_day
        self._drift = DriftWatch(self._sample_of_day, board)
        self._counted: tuple[Backlog, float] | None = None  # and when to count again
        self._reviewable: ForReview | None = None
        self._review_due_s = 0.0

    # ---------------------------------------------------------------------------- the status

    def tell_status(self) -> None:
        """Writes the status file, and a line for the service manager."""
        state = state_of(self._board.problems())
        backlog = self._backlog()
        oldest_s = None
        if backlog is not None and backlog.oldest_ns is not None:
            oldest_s = max(0.0, round(time.time() - backlog.oldest_ns / 1e9, 1))
        inspected, flagged = self._inspector.today()
        status = Status(
            state,
            pid=os.getpid(),
            model=self._inspector.judging.classifier.model_id,
            inbox_pending=backlog.pending if backlog else None,
            oldest_pending_s=oldest_s,
            last_batch_at=self._inspector.last_batch_at,
            inspected_today=inspected,
            left_alone=tuple(self._intake.left_alone()),
            problems=self._board.problems(),
            as_of=datetime.now(UTC),
            started_at=self._started_at,
            flagged_today=flagged,
            pending_as_of=backlog.as_of if backlog else None,
            observer=self._sentinel.kind,
            threshold=self._inspector.judging.rule.threshold,
            station=self._settings.station.name,
            last_golden=self._last_golden(),
            drift=self._drift.found,
            review_band=self._for_review(),
        )
        notify(f"STATUS={inspected:,} today, {flagged:,} flagged, {state}")
        _write(self._settings.folders.state, status)

    def _last_golden(self) -> LastGolden | None:
        beat = self._heart.last
        return LastGolden(beat.at, beat.good, beat.largest_difference) if beat else None

    def _for_review(self) -> ForReview | None:
        """Counted now and then; what was counted last where the books cannot be read."""
        if self._settings.model.review_band is not None and time.monotonic() >= self._review_due_s:
            self._review_due_s = time.monotonic() + _REVIEW_EVERY_S
            settings = self._settings
            with (
                contextlib.suppress(StoreError, SystemFault),
                reviews.opened(
                    settings.database_file, settings.station.name, writable=False
                ) as books,
            ):
                self._reviewable = ForReview(books.waiting_count())
        return self._reviewable

    def _backlog(self) -> Backlog | None:
        """From memory where that is all there is; else counted, now and then."""
        backlog = self._intake.backlog()
        if backlog is not None:
            return backlog
        now = time.monotonic()
        if self._counted is None or now >= self._counted[1]:
            try:
                counted = self._intake.count_backlog()
            except SystemFault:
                return None
            took_s = time.monotonic() - now
            self._counted = (counted, time.monotonic() + max(_COUNT_EVERY_S, 50 * took_s))
        return self._counted[0]

    # --------------------------------------------------------------------- drift and scale

    def tend_drift(self, *, due: bool = False) -> None:
        """Looks at the day's pictures when it is time to, or, with ``due``, now."""
        judging = self._inspector.judging
        inspected, _ = self._inspector.today()
        self._drift.tend(
            judging.model_pk,
            judging.classifier.model_id,
            self._working_day(),
            inspected,
            due=due,
        )

    def tend_scale(self) -> None:
        """Says so while photographs and the model in force are of scales far apart."""
        judging, images = self._inspector.judging, self._settings.images
        found = None
        if images.larger == "tile":  # else nothing is brought to the model's scale
            found = scales.complaint(
                images.mm_per_px, judging.mm_per_px, judging.classifier.model_id
            )
        if found is None:
            self._board.clear("scale_far")
        else:
            self._board.report("scale_far", "warning", *found)

    def _sample_of_day(self, model_pk: int, day: date) -> tuple[list[drift_rows.Sampled], str]:
        settings = self._settings
        since = day_begins(day, settings.station.tz, settings.report.day_start)
        window = Window(since, datetime.now(UTC))
        return drift_rows.sample_of(settings.database_file, window, model_pk, MOST_PICTURES)


def _write(state_folder: Path, status: Status) -> None:
    with contextlib.suppress(OSError):  # a full disk must not end the station for its status
        status_module.write(state_folder, status)
