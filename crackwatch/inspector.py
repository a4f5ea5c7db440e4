"""The thread that takes batches through the pipeline, and what it does when the station is at fault.

Owns the model in force and the order of a batch's steps; knows nothing of watching, nor of how a
picture is decoded or a row written. Nothing is judged by a model that fails its golden pictures.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import TypeVar

from structlog.typing import FilteringBoundLogger

from crackwatch import champion
from crackwatch.arrivals.intake import Intake
from crackwatch.batching import BatchQueue
from crackwatch.domain import Batch
from crackwatch.errors import ModelDisagrees, ModelError, StoreError, SystemFault, UsageError
from crackwatch.health.board import Board
from crackwatch.heartbeat import Heart
from crackwatch.housekeeping import FAILED as HOUSE_PROBLEM
from crackwatch.housekeeping import Housekeeping
from crackwatch.pipeline import Inspected, Judging, Pipeline
from crackwatch.registry import Registry
from crackwatch.settings import ModelSettings

_IDLE_CLOSE_S = 1.0  # after this long without a batch, what was moved is marked as filed
_PAUSE_FIRST_S, _PAUSE_MAX_S = 1.0, 30.0
_LOOK_UP_S = 0.5
_ONCE_GIVES_UP_S = 60.0  # --once does not wait for ever for a disk to become free
_REFUSED_AGAIN_S = 30.0
_CHAMPION_AGAIN_S = 60.0
_UNREAD_AGAIN_S = 600.0  # a sector that fails costs a disk many seconds each time
_READ_FAILED = "read_failed"

T = TypeVar("T")


class Inspector:
    """``run`` works until ``stop`` is set, or, with ``once``, until the intake has ended.

    ``require_room`` raises SystemFault where nothing more should be recorded. ``progress`` is called
    whenever something was done, or the cause of a pause was tested again.
    """

    def __init__(
        self,
        *,
        pipeline: Pipeline,
        queue: BatchQueue,
        intake: Intake,
        board: Board,
        log: FilteringBoundLogger,
        registry: Registry,
        model_settings: ModelSettings,
        rows: champion.ModelRows,
        judging: Judging,
        heart: Heart,
        stop: threading.Event,
        working_day: Callable[[], date],
        once: bool,
        require_room: Callable[[], None] = lambda: None,
        progress: Callable[[], None] = lambda: None,
        housekeeping: Housekeeping | None = None,
    ) -> None:
        self._pipeline = pipeline
        self._queue = queue
        self._intake = intake
        self._board = board
        self._log = log
        self._registry = registry
        self._model_settings = model_settings
        self._rows = rows
        self._heart = heart
        self._stop = stop
        self._working_day = working_day
        self._once = once
        self._require_room = require_room
        self._progress = progress
        self._housekeeping = housekeeping
        self.judging = judging
        self.last_batch_at: datetime | None = None
        self._today: tuple[date, int, int] | None = None  # day, inspected, anomalies
        self._refused_champion: tuple[str, float] | None = None  # id, when to try again
        # of the card whose threshold is in force; None: the one that was loaded may have changed
        self._card_stamp: tuple[int, int, int] | None = None
        self._next_refused_s = 0.0
        self._awake = threading.Event()  # the cause of a pause may be gone
        self._unvouched = False  # something was judged since the last beat
        self._unread_fault: SystemFault | None = None  # nothing could be read since

    def recover(self) -> int:
        """Finishes every move that an earlier process recorded; how many there were."""
        return self.guarded(self._recover) or 0

    def run(self, intake_ended: threading.Event) -> None:
        while self._trusted():
            batch = self._queue.take(_IDLE_CLOSE_S)
            if batch is None:
                self.guarded(self._idle)
                self._keep_house(quiet=True)
                if self._once and intake_ended.wait(0.02) and not len(self._queue):
                    break
            elif not self._stop.is_set():  # else its files stay where the next start finds them
                self._take(batch)
                self._keep_house(quiet=False)
        # the moves are done and durable: their rows say so before the process ends
        with contextlib.suppress(SystemFault):
            self._pipeline.file()
            self._pipeline.close()
        # the next start loads the model anew: what this one judged can be vouched for only now
        with contextlib.suppress(SystemFault):
            self._vouch()
        if self._once and self._heart.failing:
            raise ModelDisagrees(*self._heart.complaint)
        if self._once and self._unread_fault is not None:
            raise self._unread_fault

    def wake(self) -> None:
        """A cause of a pause seems to be gone: it is tested again at once. For any thread."""
        self._awake.set()

    def today(self) -> tuple[int, int]:
        """(inspected, anomalies) of the working day."""
        today = self._today
        return (0, 0) if today is None or today[0] != self._working_day() else today[1:]

    def count_from(self, inspected: int, anomalies: int) -> None:
        """Sets what has been inspected today: by earlier processes, or by now."""
        self._today = (self._working_day(), inspected, anomalies)

    # --------------------------------------------------------------------------------- a batch

    def _take(self, batch: Batch) -> None:
        if not self._trusted():  # a new champion, or a beat that came due while it was awaited
            return
        # two steps, each repeated by itself: a batch that has been committed is not read again
        self.guarded(lambda: self._inspect(batch))
        self.guarded(self._file)

    def _inspect(self, batch: Batch) -> None:
        self._require_room()
        self._unvouched = True
        done = self._pipeline.inspect(batch, self.judging)
        recorded = done.recorded
        for arrival in (*recorded.kept, *recorded.known):
            self._intake.kept(arrival)
        for arrival, incomplete in done.unsettled:
            self._intake.unsettled(arrival, incomplete=incomplete)
        for arrival, why in done.refused:
            self._log.warning("left_alone", source=arrival.source, why=why)
            self._intake.finished(arrival.source)
        self._put_aside(done)
        self.last_batch_at = datetime.now(UTC)
        self._count(done)
        self._log.info(
            "batch_inspected",
            batch=recorded.batch_id,
            size=len(batch.arrivals),
            closed_by=batch.closed_by,
            anomalies=recorded.anomalies,
            quarantined=recorded.quarantined,
            duplicates=recorded.duplicates,
            superseded=recorded.superseded,
            in_review_band=recorded.in_review_band,
            read_ms=round(done.read_s * 1e3, 1),
            classify_ms=round(done.classify_s * 1e3, 1),
            record_ms=round(done.record_s * 1e3, 1),
        )

    def _put_aside(self, done: Inspected) -> None:
        """What the disk does not give waits by itself, so that nothing has to wait for it."""
        was_dead, fault = self._unread_fault is not None, self._pipeline.reads.fault
        self._unread_fault = fault
        for arrival, why in done.unread:
            self._log.warning("not_read", source=arrival.source, why=why)
            most_s = _UNREAD_AGAIN_S if fault is None else _PAUSE_MAX_S
            self._intake.unread(arrival, why, most_s)
        if fault is not None:
            self._board.report(fault.code, "error", fault.problem, fault.remedy)
        elif was_dead:
            self._board.clear(_READ_FAILED)
            self._intake.read_again()

    def _file(self) -> None:
        """Carries out the moves that are owed; those that were refused now and then again."""
        if time.monotonic() >= self._next_refused_s:
            self._pipeline.retry_refused()
        report = self._pipeline.file()
        for source in report.released:
            self._intake.finished(source)
        for source in report.vanished:
            self._log.warning("vanished_before_filing", source=source)
        for source, why in report.refused:
            self._log.error("move_refused", source=source, why=why)
            self._intake.finished(source)
        if report.refused:
            self._board.report(
                "move_refused",
                "error",
                f"inspected pictures that cannot be moved out of the inbox: {report.waiting}; "
                f"{report.refused[0][1]}",
                "Give this user write permission on the folders concerned; "
                "the moves are tried again by themselves.",
            )
            self._next_refused_s = time.monotonic() + _REFUSED_AGAIN_S
        elif not report.waiting:
            self._board.clear("move_refused")

    def _idle(self) -> None:
        self._file()
        if self._pipeline.owes:
            self._pipeline.close()
        if self._unread_fault is not None and not self._intake.holds_unread():
            self._pipeline.reads.forget()  # what could not be read is gone
            self._unread_fault = None
            self._board.clear(_READ_FAILED)

    def _keep_house(self, *, quiet: bool) -> None:
        """Whatever keeps pictures from being deleted must not keep others from being inspected."""
        if self._housekeeping is None:
            return
        try:
            if self._housekeeping.tend(quiet=quiet):
                self._board.clear(HOUSE_PROBLEM)
        except (SystemFault, StoreError, UsageError) as fault:
            self._board.report(HOUSE_PROBLEM, "warning", fault.problem, fault.remedy)

    def _recover(self) -> int:
        if self._housekeeping is not None:
            try:
                self._housekeeping.resume()
            except SystemFault as fault:  # it is tried again whenever it is quiet
                self._board.report(HOUSE_PROBLEM, "warning", fault.problem, fault.remedy)
        moves = self._pipeline.recover()
        self._file()
        self._pipeline.close()
        return moves

    # -------------------------------------------------------------------- the model in force

    def _trusted(self) -> bool:
        """Waits until the model in force scores its golden pictures well; False if it must stop.

        Moves that are owed go on meanwhile: their verdicts are recorded. Raises ModelDisagrees with
        ``--once``, which does not wait.
        """
        while not self._stop.is_set():
            self.guarded(self._prove)
            if self._stop.is_set():
                break
            if not self._heart.failing:
                return True
            if self._once:
                raise ModelDisagrees(*self._heart.complaint)
            self.guarded(self._idle)
            self._stop.wait(_IDLE_CLOSE_S)
        return False

    def _prove(self) -> None:
        self._heart.settle()
        self._follow_champion()
        if not self._heart.due:
            return
        if self._heart.failing:
            self._load_again()
        self._beat()

    def _beat(self) -> None:
        was_failing = self._heart.failing
        self._unvouched = False
        self._heart.beat(self.judging)
        if was_failing and not self._heart.failing:
            self._log.info("golden_passed_again", model=self.judging.classifier.model_id)

    def _vouch(self) -> None:
        """A last beat of a model that judged since the one before and is about to go."""
        if self._unvouched:
            self._beat()

    def _load_again(self) -> None:
        """What went wrong in memory is mended by the files, if they are what they were."""
        model_id = self.judging.classifier.model_id
        try:
            opened = champion.open_model(self._registry, model_id, self._model_settings, self._rows)
        except ModelError:
            return  # the beat tells what is wrong with the files
        self.judging = opened.judging
        self._heart.take(opened.golden)

    def _follow_champion(self) -> None:
        """Takes a new champion between two batches; keeps the old one if the new one fails."""
        wanted = None
        try:
            wanted = self._registry.champion()
            if wanted is None:
                self._tell_missing_champion()
                return
            if wanted == self.judging.classifier.model_id:
                self._board.clear_all("champion_refused", "champion_missing")
                self._follow_threshold(wanted)
                return
            refused = self._refused_champion
            if refused and refused[0] == wanted and time.monotonic() < refused[1]:
                return
            opened = champion.open_champion(self._registry, self._model_settings, self._rows)
            opened.prove()
        except ModelError as exc:
            self._refused_champion = (wanted or "", time.monotonic() + _CHAMPION_AGAIN_S)
            self._board.clear("champion_missing")
            self._board.report(
                "champion_refused",
                "warning",
                f"the new champion cannot be used, {self.judging.classifier.model_id} goes on: "
                f"{exc.problem}",
                exc.remedy,
            )
            return
        self._board.clear_all("champion_refused", "champion_missing")
        self._vouch()
        self.judging = opened.judging
        self._heart.take(opened.golden)
        self._log.info(
            "champion_taken",
            model=self.judging.classifier.model_id,
            threshold=self.judging.rule.threshold,
        )

    def _tell_missing_champion(self) -> None:
        """The pointer was removed: nothing is wrong with the model in force, but none would start."""
        model_id = self.judging.classifier.model_id
        self._board.clear("champion_refused")
        self._board.report(
            "champion_missing",
            "warning",
            f"{self._registry.folder} names no champion any more, {model_id} goes on; the next "
            "start would find no model",
            f"Name it again with 'crackwatch models promote {model_id}'.",
        )

    def _follow_threshold(self, model_id: str) -> None:
        """Takes what ``crackwatch tune --apply`` gave the model in force; its weights are the same."""
        try:
            stamp = self._registry.card_stamp(model_id)
            if stamp == self._card_stamp:
                return
            card = self._registry.card(model_id)
        except ModelError as exc:
            self._card_stamp = None
            self._board.report(
                "card_refused",
                "warning",
                f"the card of the model in force cannot be read, its threshold stays "
                f"{self.judging.rule.threshold:g}: {exc.problem}",
                exc.remedy,
            )
            return
        self._card_stamp = stamp
        self._board.clear("card_refused")
        old, new = self.judging.rule, champion.rule_of(card, self._model_settings)
        if new != old:
            self.judging = champion.under(self.judging, new, self._model_settings)
            self._log.info(
                "threshold_taken",
                model=model_id,
                threshold=new.threshold,
                before=old.threshold,
                tiled_threshold=new.tiled_threshold,
                min_tiles=new.min_tiles,
                second_look_from=new.second_look_from,
            )

    # ------------------------------------------------------------------- faults and their end

    def guarded(self, work: Callable[[], T]) -> T | None:
        """Does the work, and does it again until the station's faults are gone or it must stop."""
        pause_s = _PAUSE_FIRST_S
        began = time.monotonic()
        faults: set[str] = set()
        while True:
            self._progress()
            try:
                done = work()
            except SystemFault as fault:
                faults.add(fault.code)
                self._board.report(fault.code, "error", fault.problem, fault.remedy)
                if self._once and time.monotonic() - began > _ONCE_GIVES_UP_S:
                    raise
                if self._paused(pause_s):
                    return None
                pause_s = min(pause_s * 2, _PAUSE_MAX_S)
            else:
                standing = {self._unread_fault.code} if self._unread_fault else set()
                self._board.clear_all(*(faults - standing))
                return done

    def _paused(self, for_s: float) -> bool:
        """Waits for so long, until it is woken, or until it must stop: true then."""
        until_s = time.monotonic() + for_s
        while not self._stop.is_set():
            left_s = until_s - time.monotonic()
            # two things are waited for: the one that must not wait is looked at twice a second
            if left_s <= 0 or self._awake.wait(min(left_s, _LOOK_UP_S)):
                self._awake.clear()
                return self._stop.is_set()
        return True

    def _count(self, done: Inspected) -> None:
        inspected, anomalies = self.today()
        recorded = done.recorded
        self.count_from(inspected + recorded.inspected, anomalies + recorded.anomalies)
