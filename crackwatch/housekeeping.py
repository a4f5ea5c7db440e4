"""The running station's quiet moments: finishes departures that a kill left open, tends retention.

Builds what that takes from the settings; who may depart, ``retention`` says, and how, ``departures``.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from datetime import UTC, datetime

from structlog.typing import FilteringBoundLogger

from crackwatch.departures import Departed, Departing, alone
from crackwatch.domain import DepartureKind, DepartureResult, Place
from crackwatch.errors import LockedError, SystemFault
from crackwatch.filing.leaving import Leaver
from crackwatch.health.board import Board
from crackwatch.retention import Limits, PlaceOutcome, Policy, Retention, Slices
from crackwatch.settings import Settings
from crackwatch.store.departures import Departures

PROBLEM = "retention_short"
FAILED = "retention_failed"
CLOCK = "retention_clock"

_SHORT_AGAIN_S = 60.0
_AGAIN_S = 10.0  # after somebody or something was in the way
_SLICE_S = 1.0  # how long arrivals may have to wait for it


class Housekeeping:
    """``tend`` is called by the thread that files pictures, between two batches."""

    def __init__(
        self,
        settings: Settings,
        rows: Departures,
        check: Callable[[], None],
        board: Board,
        log: FilteringBoundLogger,
        standing: Callable[[Place], None] = lambda _: None,
    ) -> None:
        self._state = settings.folders.state
        self._rows = rows
        self._leaver = Leaver(folders_of(settings), check, standing)
        self._departing = Departing(self._rows, self._leaver, self._tell)
        self._policy = policy_of(settings)
        self._free = free_of(settings)
        self._every_s = settings.retention.every_s
        self._slices = Slices(self._every_s, _SLICE_S)
        self._short = False
        self._board = board
        self._log = log

    def resume(self) -> None:
        """Finishes what an earlier process began. Raises SystemFault.

        What a living one has in hand is left to it.
        """
        if self._rows.open():
            with contextlib.suppress(LockedError), alone(self._state, patience_s=0):
                self._departing.resume()

    def tend(self, *, quiet: bool) -> bool:
        """A slice of the work that is due; nothing if somebody else moves files just now.

        Returns whether it could be done. Raises SystemFault.
        """
        if not (self._slices.due if quiet else self._slices.overdue):
            return False
        self._slices.begin()
        self._slices.delay(_AGAIN_S)  # should anything stand in the way
        try:
            with alone(self._state, patience_s=0):
                self._departing.resume()
                if self._policy.any:
                    self._look()
        except LockedError:
            return False  # requeue or retention by a person
        self._slices.end()
        if self._short:  # its cause may go at any time
            self._slices.delay(min(_SHORT_AGAIN_S, self._every_s))
        return True

    def _look(self) -> None:
        outcomes = Retention(
            self._rows,
            self._policy,
            self._free,
            self._departing,
            now=datetime.now(UTC),
            go_on=self._slices.go_on,
        ).run()
        for each in outcomes:
            if each.removed:
                self._log.info(
                    "retention",
                    place=each.place.value,
                    removed=len(each.removed),
                    removed_bytes=each.removed_bytes,
                    held=each.held,
                )
        if self._slices.go_on():
            self._judge(outcomes)

    def _judge(self, outcomes: list[PlaceOutcome]) -> None:
        if any(each.clock_unsure for each in outcomes):
            self._board.report(
                CLOCK,
                "warning",
                "nothing is deleted by age: by this machine's clock nothing was recorded half a day "
                "to two days ago, so that the clock may be wrong",
                "See that date and time are right. It clears by itself half a day after they are; "
                "crackwatch retention --trust-clock does not wait.",
            )
        else:
            self._board.clear(CLOCK)
        short = [each for each in outcomes if each.short_bytes]
        self._short = bool(short)
        if not short:
            self._board.clear(PROBLEM)
            return
        said = ", ".join(
            f"{each.place.value} by {each.short_bytes:,} bytes"
            + (
                " (all that is there would not be enough: nothing goes for it)"
                if each.in_vain
                else ""
            )
            for each in short
        )
        self._board.report(
            PROBLEM,
            "warning",
            f"limits of [retention] are missed although nothing more may be deleted: {said}",
            "See 'crackwatch retention --dry-run'; label what waits for a label, or raise the limit.",
        )

    def _tell(self, each: Departed) -> None:
        tell(self._log, self._leaver, each)


def tell(log: FilteringBoundLogger, leaver: Leaver, each: Departed) -> None:
    """One line of the log for each file that was moved, or was not."""
    departure = each.departure
    id, path = departure.inspection_id, leaver.path(departure)
    if each.result is not DepartureResult.DONE:
        log.warning("departure_failed", id=id, path=path, result=each.result.value, why=each.detail)
    elif departure.kind is DepartureKind.EXPIRY:
        log.info("expired", id=id, path=path, size_bytes=departure.size_bytes)
    else:
        log.info("returned_to_inbox", id=id, path=path, to=leaver.target(departure))


def folders_of(settings: Settings) -> dict[Place, bytes]:
    """The folder of each place, the inbox under KEPT."""
    folders = settings.folders
    return {
        Place.KEPT: os.fsencode(folders.inbox),
        Place.FLAGGED: os.fsencode(folders.flagged),
        Place.ARCHIVED: os.fsencode(folders.archive),
        Place.QUARANTINED: os.fsencode(folders.quarantine),
    }


def spared(settings: Settings) -> dict[str, bool]:
    """What config.toml says of labels, for ``store.departures.Departures``."""
    return {
        "spare_reviewed": settings.retention.keep_reviewed,
        "spare_awaiting": settings.retention.keep_awaiting_review,
    }


def policy_of(settings: Settings) -> Policy:
    """What config.toml says of retention."""
    told = settings.retention
    return Policy(
        {
            Place.ARCHIVED: Limits(
                told.archive_max_days, told.archive_max_bytes, told.archive_min_free_bytes
            ),
            Place.KEPT: Limits(told.kept_max_days, told.kept_max_bytes, told.kept_min_free_bytes),
            Place.QUARANTINED: Limits(
                told.quarantine_max_days, told.quarantine_max_bytes, told.quarantine_min_free_bytes
            ),
            Place.FLAGGED: Limits(
                told.flagged_max_days, told.flagged_max_bytes, told.flagged_min_free_bytes
            ),
        },
        told.keep_reviewed,
        told.keep_awaiting_review,
    )


def free_of(settings: Settings) -> Callable[[Place], tuple[int, int]]:
    """Gives the disk (its device number) that a place's folder is on, and its free bytes."""
    folders = folders_of(settings)

    def free(place: Place) -> tuple[int, int]:
        try:
            found = os.statvfs(folders[place])
            return os.stat(folders[place]).st_dev, found.f_bavail * found.f_frsize
        except OSError as exc:
            raise SystemFault(
                "filing_failed",
                f"{os.fsdecode(folders[place])}: cannot be looked at: {exc.strerror}",
                "Mount it or make it again; retention goes on by itself.",
            ) from exc

    return free
