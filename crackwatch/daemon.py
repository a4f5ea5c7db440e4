"""Builds the station from its parts and keeps it going: threads, signals, recovery, an orderly end.

Three threads share the work. The intake finds what has settled; the inspector takes batches through
the pipeline; the main thread answers signals, watches the watchers and has the station's state told.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Final

from crackwatch import belonging, champion, inbox, locking, logs, naming, own_places, suspects
from crackwatch.arrivals import gate as gate_module
from crackwatch.arrivals.intake import Intake
from crackwatch.arrivals.known import Known
from crackwatch.arrivals.sentinel import Sentinel
from crackwatch.batching import BatchQueue
from crackwatch.conditions import Conditions
from crackwatch.days import day_begins, working_day
from crackwatch.decoding import Cost, Decoder
from crackwatch.domain import Fingerprint, Place, QuarantineReason
from crackwatch.errors import CrackwatchError, SystemFault, Untried, UsageError
from crackwatch.escaping import path_text
from crackwatch.filing.mover import Mover
from crackwatch.filing.names import DayDestinations
from crackwatch.health import status as status_module
from crackwatch.health.board import Board, Problem
from crackwatch.health.notify import notify
from crackwatch.health.pulse import Pulse, watchdog_interval_s
from crackwatch.heartbeat import Heart
from crackwatch.housekeeping import Housekeeping, spared
from crackwatch.images import light
from crackwatch.inbox import NamePolicy
from crackwatch.inspector import Inspector
from crackwatch.marked import Marker
from crackwatch.pipeline import Pipeline
from crackwatch.registry import Registry
from crackwatch.settings import Settings
from crackwatch.store import newest, quarantined, renaming
from crackwatch.store.books import Books
from crackwatch.store.departures import Departures
from crackwatch.store.engine import open_writer
from crackwatch.store.heartbeats import Heartbeats
from crackwatch.store.photographs import PhotographBooks
from crackwatch.telling import Teller, tell_starting

EXIT_INTERNAL: Final = 70  # a fault in crackwatch itself (sysexits.h): the service manager restarts

_CRASHED = "crackwatch itself is at fault: one of its threads died"
_REPORT_IT = "Its log says where; please report it."
_TURN_S = 0.5  # between two looks at signals, watchers and status
_STATUS_S = 1.0
# Between two tries of suspicious pictures that the machine was too slow for; each may take a minute.
# After the last the station goes on without: the others must not wait for ever.
_TRY_AGAIN_S = (5.0, 15.0, 30.0, 60.0)
# Threads that have not ended so long after they were told to are left behind by a process that ends
# for a fault: every step of theirs may be cut off, as by a power cut. Within TimeoutStopSec.
_END_WITHIN_S = 15.0
# A batch that nothing joins for so long closes: several times what a camera's burst leaves between
# two files, and little of what a person notices.
_QUIET_S = 0.01

# of the inbox as a whole: there is one at a time
_INBOX_FAULTS = (
    belonging.MISSING,
    belonging.UNMARKED,
    belonging.FOREIGN,
    belonging.UNREADABLE,
    "inbox_io",
    inbox.PARTLY_UNREADABLE,
)


class Daemon:
    """One station. ``run`` returns the exit status."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._log = logs.get(station=settings.station.name)
        self.board = Board(self._tell)
        self._stop = threading.Event()
        self._intake_ended = threading.Event()
        self._inspector_ended = threading.Event()
        self._failure: BaseException | None = None
        self._started_at = datetime.now(UTC)
        self._signal = 0
        self._pulse = Pulse(watchdog_interval_s(os.environ, os.getpid()))

    # ----------------------------------------------------------------------------------- whole

    def run(self, *, once: bool = False) -> int:
        """Inspects until it is told to stop, or, with ``once``, until nothing is left to do.

        Raises LockedError, ModelError, StoreError or SettingsError where it cannot begin.
        """
        state = self._settings.folders.state
        _make(state)
        with (
            locking.held(state / status_module.LOCK_FILE, f"the station in {state.parent}"),
            self._signals() as wake,
        ):
            try:
                self._build(once=once)
                status = self._work(wake, once=once)
                if status:
                    status_module.tell_end(state, _CRASHED, _REPORT_IT)
                return status
            except CrackwatchError as exc:
                status_module.tell_end(state, exc.problem, exc.remedy)
                raise
            finally:
                status_module.clear(state)

    def _build(self, *, once: bool) -> None:
        settings, folders = self._settings, self._settings.folders
        gate_module.ignore_lease_signal()
        engine = open_writer(settings.database_file)
        self._books = Books(engine, settings.station.name)
        self._settle_name(lambda name: renaming.recorded_as(engine, name))
        self._own_places(lambda place: newest.newest_in(engine, settings.station.name, place))
        tell_starting(folders.state, self._started_at)
        registry = Registry(folders.models)
        opened = champion.open_champion(registry, settings.model, self._books)
        heart = Heart(
            golden=opened.golden,
            registry=registry,
            books=Heartbeats(engine, settings.station.name),
            board=self.board,
            log=self._log,
            every_s=settings.model.golden_every_s,
        )
        self._policy = NamePolicy(settings.files.patterns, recursive=settings.files.recursive)
        self._inbox = os.fsencode(folders.inbox)
        self._own = belonging.OwnInbox(self._inbox, folders.state, settings.file.parent)
        self._journal = suspects.InFlightJournal(folders.state / "in-flight.json")
        places = {
            Place.FLAGGED: os.fsencode(folders.flagged),
            Place.ARCHIVED: os.fsencode(folders.archive),
            Place.QUARANTINED: os.fsencode(folders.quarantine),
        }
        cores = len(os.sched_getaffinity(0))
        self._workers = ThreadPoolExecutor(cores, "decode")
        decoder = Decoder(settings)
        self._pipeline = Pipeline(
            read=self._read,
            decode=decoder,
            measure=light.measure,
            books=self._books,
            mover=Mover(self._inbox, places, self._own.check, self._places.check),
            destinations=DayDestinations(places, self._working_day),
            journal=self._journal,
            workers=self._workers,
            workers_count=cores,
            views_at_once=settings.batch.max_size,
            normal=settings.files.normal,
            mm_per_px=settings.images.mm_per_px,
            review_band=settings.model.review_band,
            mark=Marker(
                PhotographBooks(settings.database_file),
                places[Place.FLAGGED],
                decoder.limits,
                self._workers,
                self._tell_unmarked,
                wanted=settings.images.overlay,
            ),
            progress=self._inspector_gets_on,
        )
        batch = settings.batch
        self._queue = BatchQueue(
            max_size=batch.max_size,
            max_wait_s=batch.max_wait_ms / 1e3,
            capacity=batch.queue_size,
            max_bytes=batch.queue_bytes,
            quiet_s=None if once else _QUIET_S,  # nobody waits for the first of a backlog
            cost_bytes=Cost(
                decoder,
                self._inbox,
                settings.files.max_bytes,
                lambda: self._inspector.judging.mm_per_px,
            ),
        )
        self._known = Known()
        gate = gate_module.Gate(
            settle_s=settings.watch.settle_s,
            incomplete_s=settings.watch.incomplete_s,
            network=gate_module.is_network(gate_module.file_system_of(self._inbox)),
        )
        self._conditions = Conditions(
            settings,
            self.board,
            leaseless=lambda: gate.leaseless,
            cleared=lambda: self._inspector.wake(),
            quarantined_since=lambda since: quarantined.quarantined_since(
                settings.database_file, settings.station.name, since
            ),
            unread=lambda: self._intake.unread_files(),
        )
        self._intake = Intake(
            self._inbox,
            self._policy,
            gate,
            self._known,
            self._queue.put,
            capacity=batch.queue_size,
            rescan_s=settings.watch.rescan_s,
            on_fault=self._intake_fault,
            verify=self._own.verify,
            progress=lambda: self._pulse.beat("intake"),
        )
        self._sentinel = Sentinel(
            self._inbox,
            settings.watch.observer,
            self._intake,
            self.board,
            recursive=settings.files.recursive,
        )

        self._inspector = Inspector(
            pipeline=self._pipeline,
            queue=self._queue,
            intake=self._intake,
            board=self.board,
            log=self._log,
            registry=registry,
            model_settings=settings.model,
            rows=self._books,
            judging=opened.judging,
            heart=heart,
            stop=self._stop,
            working_day=self._working_day,
            once=once,
            require_room=self._require_room,
            progress=self._inspector_gets_on,
            housekeeping=Housekeeping(
                settings,
                Departures(engine, settings.station.name, **spared(settings)),
                self._own.check,
                self.board,
                self._log,
                self._places.check,
            ),
        )
        self._teller = Teller(
            settings,
            self.board,
            self._started_at,
            inspector=self._inspector,
            intake=self._intake,
            sentinel=self._sentinel,
            heart=heart,
            working_day=self._working_day,
        )

    def _settle_name(self, recorded_as: naming.RecordedAs) -> None:
        """Raises UsageError where the station bore another name when it recorded its rows."""
        try:
            naming.require_same(self._settings, recorded_as)
            naming.remember(self._settings)
        except SystemFault as fault:
            if fault.code != belonging.UNREADABLE:
                raise
            # who the station is cannot be read: the intake waits for that, and says so

    def _own_places(self, filed_last: own_places.Newest) -> None:
        """The folders that pictures are moved to: made where the station never had one.

        Raises UsageError, and SystemFault where one is another station's.
        """
        folders = own_places.folders_of(self._settings)
        self._places = own_places.OwnPlaces(
            self._settings,
            filed_last,
            adopts=True,
            told=lambda folder: self._log.info("folder_marked", folder=folder),
        )
        for place, folder in folders.items():
            if not self._places.known(place):
                _make(Path(os.fsdecode(folder)))
        self._in_use = own_places.InUse(
            self._places,
            self._settings,
            self.board,
            cleared=lambda: self._inspector.wake(),
        )
        self._in_use.refuse_foreign()

    def _require_room(self) -> None:
        """Before a batch: what it finds must have where to go."""
        self._conditions.require_room()
        self._in_use.require()

    def _condemned(self, wake: int) -> dict[bytes, tuple[Fingerprint, QuarantineReason]]:
        """The pictures that killed the decoder of an earlier process, as they are now.

        Raises SystemFault where no process can be started to try them in.
        """
        seen: dict[bytes, Fingerprint] = {}
        files = self._settings.files
        for source in self._journal.left_over():
            with contextlib.suppress(OSError):
                found = Fingerprint.of(os.lstat(os.path.join(self._inbox, source)))
                if found.size_bytes <= files.max_bytes:  # no decoder ever saw what is bigger
                    seen[source] = found
        guilty: dict[bytes, QuarantineReason] = {}
        for pause_s in (*_TRY_AGAIN_S, None):
            try:
                guilty = suspects.condemn(
                    self._settings.folders.inbox,
                    list(seen),
                    files.max_pixels,
                    self._settings.images.larger,
                )
                break
            except Untried as fault:
                guilty = fault.guilty
                self.board.report(fault.code, "error", fault.problem, fault.remedy)
            self._pulse.tell()
            self._teller.tell_status()
            if pause_s is None:
                self._log.warning("suspects_not_tried", count=len(seen) - len(guilty))
                break
            self._wait_for_signal(wake, pause_s)
            if self._signal:
                break
        self.board.clear(suspects.UNTRIED)
        return {source: (seen[source], reason) for source, reason in guilty.items()}

    def _work(self, wake: int, *, once: bool) -> int:
        self._log.info(
            "started",
            pid=os.getpid(),
            inbox=self._inbox,
            model=self._inspector.judging.classifier.model_id,
            threshold=self._inspector.judging.rule.threshold,
            once=once,
        )
        threads = [
            threading.Thread(target=self._intake_thread, args=(once,), name="intake"),
            threading.Thread(target=self._inspector_thread, name="inspector"),
        ]
        # whatever is raised here must end those as well: without it the process would live on with
        # nobody who hears a signal or tells a status, and its lock would be another's to take
        with self._watched("main"):
            self._tend(threads, wake, once=once)
        return self._end(threads)

    def _tend(self, threads: list[threading.Thread], wake: int, *, once: bool) -> None:
        """The main thread's work, from recovery until the inspector has ended."""
        # ready to work, and told so before the recovery: a full disk may hold that up for hours, and
        # a service manager that gives up waiting would only begin it again
        notify("READY=1")
        status_module.forget_end(self._settings.folders.state)
        self._teller.tend_scale()  # a run with --once may be over before the next look
        self._pipeline.condemn(self._condemned(wake))
        if self._signal:  # nothing may be decoded any more that had to be tried first
            self._begin_stop(signal.Signals(self._signal).name)
        # before anything new is looked at: a name that is still owed a move is not free
        moves = self._inspector.recover()
        self._inspector.guarded(self._load_books)
        if moves:
            self._log.info("recovered", moves=moves)
        if not once:
            self._sentinel.tend()
        for thread in threads:
            thread.start()
        next_status_s = 0.0
        while not self._inspector_ended.is_set():
            self._wait_for_signal(wake, _TURN_S)
            if self._signal and not self._stop.is_set():
                self._begin_stop(signal.Signals(self._signal).name)
            if not once and not self._stop.is_set():
                self._sentinel.tend()
            self._pulse.tell()
            if time.monotonic() >= next_status_s:
                self._conditions.tend()
                self._in_use.tend()
                self._teller.tend_drift()
                self._teller.tend_scale()
                self._teller.tell_status()
                next_status_s = time.monotonic() + _STATUS_S

    def _begin_stop(self, why: str) -> None:
        self._log.info("stopping", why=why)
        notify("STOPPING=1")
        # the intake first, so that nothing new is offered; the inspector finishes what it has in
        # hand; what is queued has no row yet and is found in the folder at the next start
        self._stop.set()
        self._intake.stop()
        self._queue.drain()

    def _end(self, threads: list[threading.Thread]) -> int:
        """Waits for the threads, then tidies up: the lock is not given back before they have ended."""
        self._intake.stop()
        self._queue.drain()
        begun = [thread for thread in threads if thread.ident is not None]
        if self._failure is None:
            for thread in begun:
                thread.join()
        else:
            self._wait_for_the_end_of(begun)
        with self._watched("main"):
            self._sentinel.stop()
            self._workers.shutdown()
            self._journal.close()
            if self._failure is None:
                # a run with --once has no other moment to tell of its pictures
                self._conditions.tell_unread()
                self._teller.tend_drift(due=True)
        if isinstance(self._failure, CrackwatchError):
            raise self._failure
        if self._failure is not None:
            return EXIT_INTERNAL
        self._log.info("stopped")
        return 0

    def _wait_for_the_end_of(self, threads: list[threading.Thread]) -> None:
        """After a fault: those that do not end in time end with the process, here and now."""
        until_s = time.monotonic() + _END_WITHIN_S
        for thread in threads:
            thread.join(max(0.0, until_s - time.monotonic()))
        hanging = [thread.name for thread in threads if thread.is_alive()]
        if hanging:
            self._log.error("threads_left_behind", threads=hanging, waited_s=_END_WITHIN_S)
            state = self._settings.folders.state
            status_module.tell_end(state, _CRASHED, _REPORT_IT)
            status_module.clear(state)
            os._exit(EXIT_INTERNAL)

    # ------------------------------------------------------------------------------- intake

    def _intake_thread(self, once: bool) -> None:
        with self._watched("intake"):
            if once:
                watch = self._settings.watch
                self._intake.run_once(patience_s=watch.settle_s + watch.incomplete_s)
                self._pulse.ended("intake")
                self._intake_ended.set()
                self._queue.drain()
            else:
                self._intake.run()

    def _intake_fault(self, fault: SystemFault | None) -> None:
        self.board.clear_all(*(code for code in _INBOX_FAULTS if not fault or code != fault.code))
        if fault is not None:
            self.board.report(fault.code, "error", fault.problem, fault.remedy)
        elif self._own.guarded:
            self.board.clear(belonging.UNGUARDED)
        else:
            self.board.report(
                belonging.UNGUARDED,
                "warning",
                f"{path_text(self._inbox)}: has no marker, as in stations made by earlier versions: "
                "an inbox that is not mounted cannot be told from an empty one",
                f"With the inbox mounted, run once: crackwatch init {self._settings.file.parent}.",
            )

    def _read(self, source: bytes, expected: Fingerprint) -> inbox.Content:
        try:
            folder = inbox.open_folder(self._inbox)
        except OSError as exc:
            raise inbox.inbox_fault(self._inbox, exc) from exc
        try:
            self._own.verify(folder)
            return inbox.read(folder, source, expected, self._settings.files.max_bytes)
        finally:
            os.close(folder)

    def _inspector_thread(self) -> None:
        try:
            with self._watched("inspector"):
                self._inspector.run(self._intake_ended)
        finally:
            self._inspector_ended.set()

    def _inspector_gets_on(self) -> None:
        self._pulse.beat("inspector")
        if threading.current_thread() is threading.main_thread():
            self._pulse.tell()  # recovery, which may be paused for hours, is done before all else

    def _load_books(self) -> None:
        self._known.update(self._books.present())
        day_start = day_begins(
            self._working_day(), self._settings.station.tz, self._settings.report.day_start
        )
        self._inspector.count_from(*self._books.inspected_since(day_start))

    @contextlib.contextmanager
    def _watched(self, name: str) -> Iterator[None]:
        """The top of a thread: what nobody caught ends the station, so that it is restarted."""
        try:
            yield
        except BaseException as exc:  # noqa: BLE001 (the top of a thread: logged, then the end)
            self._failure = self._failure or exc  # the first: others may follow from it
            if not isinstance(exc, CrackwatchError):
                self._log.exception("thread_died", thread=name)
            self._stop.set()
            self._intake.stop()
            self._inspector_ended.set()

    def _tell_unmarked(self, path: bytes, why: BaseException) -> None:
        self._log.warning("overlay_failed", path=path, why=str(why) or repr(why))

    def _tell(self, problem: Problem, appeared: bool) -> None:
        say = self._log.info
        if appeared:
            say = self._log.error if problem.severity == "error" else self._log.warning
        say(
            "problem" if appeared else "problem_cleared",
            code=problem.code,
            severity=problem.severity,
            message=problem.message,
            remedy=problem.remedy if appeared else None,
        )

    # ------------------------------------------------------------------------------- signals

    @contextlib.contextmanager
    def _signals(self) -> Iterator[int]:
        """SIGTERM and SIGINT are remembered, and wake the main thread through a pipe.

        Nothing else happens in the handler: a lock taken there could be held already.
        """
        readable, writable = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        earlier_fd = signal.set_wakeup_fd(writable, warn_on_full_buffer=False)

        def remember(number: int, _frame: object) -> None:
            self._signal = number

        earlier = {each: signal.signal(each, remember) for each in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield readable
        finally:
            for each, handler in earlier.items():
                signal.signal(each, handler)
            signal.set_wakeup_fd(earlier_fd)
            os.close(readable)
            os.close(writable)

    def _wait_for_signal(self, wake: int, timeout_s: float) -> None:
        if select.select([wake], [], [], timeout_s)[0]:
            with contextlib.suppress(BlockingIOError):
                os.read(wake, 64)

    def _working_day(self) -> date:
        settings = self._settings
        return working_day(datetime.now(UTC), settings.station.tz, settings.report.day_start)


def _make(folder: Path) -> None:
    """Makes a folder of the station where there is none. Raises UsageError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise UsageError(
            f"{path_text(os.fsencode(folder))}: this folder cannot be made: {exc.strerror}",
            "Make it and give it to this user, or name another in config.toml; is its disk mounted?",
        ) from exc
