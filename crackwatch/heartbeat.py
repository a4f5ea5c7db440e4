"""Whether the model in force still scores its golden pictures as it did when it was published.

Owns when a beat is due, what it says and what is told of it; knows nothing of batches and threads,
nor of how a row is written.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Protocol

from structlog.typing import FilteringBoundLogger

from crackwatch.agreement import GoldenSet, golden_set
from crackwatch.domain import Beat, Outcome
from crackwatch.errors import ModelError
from crackwatch.health.board import Board
from crackwatch.pipeline import Judging
from crackwatch.registry import Registry

PROBLEM = "golden_failed"

# After a bad beat: a passing fault is over soon, a lasting one need not fill the books.
_AGAIN_S = (10.0, 60.0, 300.0)
_LISTED = 50  # inspections in doubt that the log names; the command lists them all

_REMEDY = (
    "Nothing is judged meanwhile, and the pictures wait in the inbox. 'crackwatch containment' lists "
    "what is in doubt. Go back with 'crackwatch models rollback', or restore the model's folder: the "
    "station tries again by itself. If it stays, check the machine's memory."
)


class IncidentLike(Protocol):
    @property
    def doubted(self) -> int: ...
    @property
    def last_good_at(self) -> datetime | None: ...


class DoubtedLike(Protocol):
    @property
    def id(self) -> int: ...
    @property
    def source(self) -> bytes: ...
    @property
    def score(self) -> float | None: ...
    @property
    def outcome(self) -> Outcome: ...


class BeatBooks(Protocol):
    """Where beats are written: see ``store.heartbeats.Heartbeats``."""

    def record(self, beat: Beat) -> int: ...
    def containment(
        self, beat_id: int, limit: int
    ) -> tuple[IncidentLike, Iterable[DoubtedLike]]: ...


class Heart:
    """Beats when it is asked to; one thread calls it, between two batches.

    ``golden`` are the pictures of the model in force as they were when it was loaded. ``every_s`` is
    the time between two beats that are good.
    """

    def __init__(
        self,
        *,
        golden: GoldenSet,
        registry: Registry,
        books: BeatBooks,
        board: Board,
        log: FilteringBoundLogger,
        every_s: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._golden = golden
        self._registry = registry
        self._books = books
        self._board = board
        self._log = log
        self._every_s = every_s
        self._monotonic = monotonic
        self.last: Beat | None = None
        self._complaint = ""
        self._unrecorded: Beat | None = None
        self._untold: tuple[Beat, int] | None = None  # recorded, with its row's number
        self._next_s = 0.0  # at once
        self._bad_beats = 0  # in a row

    @property
    def failing(self) -> bool:
        """Whether the last beat was bad: nothing may be judged."""
        return self.last is not None and not self.last.good

    @property
    def due(self) -> bool:
        return self.last is None or self._monotonic() >= self._next_s

    @property
    def complaint(self) -> tuple[str, str]:
        """Problem and remedy while ``failing``."""
        return self._complaint, _REMEDY

    def take(self, golden: GoldenSet) -> None:
        """Another model is in force, or the same one loaded anew; its first beat is due at once."""
        self._golden = golden
        self._next_s = 0.0

    def beat(self, judging: Judging) -> None:
        """Scores the golden pictures and records what came of it.

        Raises SystemFault where the row cannot be written: ``last`` is true all the same, and
        ``settle`` writes it later.
        """
        scored = self._as_published(judging).score(judging.classifier, judging.rule.threshold)
        largest = scored.largest_difference
        beat = Beat(
            model_pk=judging.model_pk,
            runtime=judging.runtime,
            precision=judging.precision,
            at=datetime.now(UTC),
            good=scored.agrees,
            largest_difference=largest if math.isfinite(largest) else None,
            flipped=scored.flipped,
            detail=None if scored.agrees else str(scored),
        )
        self.last = self._unrecorded = beat
        if beat.good:
            self._bad_beats = 0
            self._next_s = self._monotonic() + self._every_s
        else:
            wait_s = _AGAIN_S[min(self._bad_beats, len(_AGAIN_S) - 1)]
            self._bad_beats += 1
            self._next_s = self._monotonic() + min(wait_s, self._every_s)
            if self._bad_beats == 1:
                # told before anything is written: the disk may be what is failing
                self._complaint = (
                    f"model {judging.classifier.model_id} ({judging.runtime}, {judging.precision}) "
                    f"does not score its golden pictures as it did when it was published: {scored}"
                )
                self._board.report(PROBLEM, "error", self._complaint, _REMEDY)
        self.settle()

    def settle(self) -> None:
        """Writes the row of a beat that could not be written before, and tells of one that could not
        be told of; else does nothing. Raises SystemFault.
        """
        if self._unrecorded is not None:
            beat = self._unrecorded
            self._untold = beat, self._books.record(beat)
            self._unrecorded = None
        if self._untold is None:
            return
        beat, beat_id = self._untold
        if not beat.good and self._bad_beats == 1:
            self._tell(beat, beat_id)
        self._untold = None
        if beat.good:
            self._board.clear(PROBLEM)
            self._log.debug("golden_passed", beat=beat_id, largest=beat.largest_difference)
        elif self._bad_beats > 1:
            self._log.warning("golden_failed_again", beat=beat_id, detail=beat.detail)

    def _tell(self, beat: Beat, beat_id: int) -> None:
        """The containment list, into the log; how long it is, into the status."""
        incident, doubted = self._books.containment(beat_id, _LISTED)
        since = incident.last_good_at
        self._complaint += f"; inspections in doubt: {incident.doubted:,}, " + (
            f"since {since:%Y-%m-%d %H:%M:%S} UTC" if since else "every one of this model's"
        )
        self._board.report(PROBLEM, "error", self._complaint, _REMEDY)
        self._log.error(
            PROBLEM,
            beat=beat_id,
            detail=beat.detail,
            in_doubt=incident.doubted,
            last_good_at=since.isoformat() if since else None,
            remedy=_REMEDY,
        )
        for each in doubted:
            self._log.error(
                "verdict_in_doubt",
                id=each.id,
                source=each.source,
                score=each.score,
                verdict=each.outcome.value,
            )

    def _as_published(self, judging: Judging) -> GoldenSet:
        """The golden pictures and scores as they lie on the disk; if not intact, those in memory.

        What is loaded goes on judging by what it was: files that were changed are a warning.
        """
        model_id = judging.classifier.model_id
        try:
            card = self._registry.verify(model_id)
            folder = self._registry.folder_of(model_id)
            golden = golden_set(folder, card, judging.runtime)
        except ModelError as exc:
            self._board.report(
                "model_files_changed",
                "warning",
                f"the files of the model in force are not what was loaded: {exc.problem}",
                f"It could not be loaded again. {exc.remedy}",
            )
            return self._golden
        self._board.clear("model_files_changed")
        self._golden = golden
        return golden
