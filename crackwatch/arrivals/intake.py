"""The thread that brings hints and scans through the gate and offers what has settled.

The inbox is the truth and events are hints: whatever is in the folder and has no row is work to do.
The folder is also the queue: at most ``capacity`` files are held here, the others wait where they
are until a scan comes to them.
"""

from __future__ import annotations

import errno
import math
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from crackwatch import inbox as inbox_module
from crackwatch.arrivals.aside import Aside
from crackwatch.arrivals.gate import LOOK_AGAIN_S, Candidate, Gate, file_system_of, is_network
from crackwatch.arrivals.known import Known, name_digest, whole_digest
from crackwatch.arrivals.pace import Pace
from crackwatch.domain import Arrival, Fingerprint
from crackwatch.errors import PartlyUnreadable, SystemFault
from crackwatch.inbox import Entry, LeftAlone, NamePolicy

_SLICE = 256  # entries of a scan between two looks at hints and candidates
_CREATED_GRACE_S = 0.1  # a file that was only just created is given this long before a look
_IDLE_WAIT_S = 1.0
_FAULT_AGAIN_S = 1.0  # an inbox that is not there costs one look at its name
_WALK_AGAIN_S = 5.0  # a disk that fails in the middle is not to be worn out
_PROBE_AGAIN_S, _PROBE_AGAIN_MAX_S = 5.0, 300.0  # of a folder that had to be passed over
_OPEN_AGAIN_MAX_S = 60.0  # of a file that cannot even be opened
_GONE_AGAIN_S = 5.0  # whether what could not be read is still there
_LEFT_ALONE_MAX = 200  # what status lists; a folder full of links must not fill the memory


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits in the inbox, as of the last look at all of it."""

    pending: int
    oldest_ns: int | None  # the earliest ctime among them, nanoseconds since 1970
    as_of: datetime


class Intake:
    """Offers settled arrivals. ``offer`` takes one or says no; then it is offered again later.

    ``verify`` is given the opened inbox before it is looked into, and raises SystemFault where it is
    not the station's. ``progress`` is called whenever something was done or tried.
    """

    def __init__(
        self,
        inbox: bytes,
        policy: NamePolicy,
        gate: Gate,
        known: Known,
        offer: Callable[[Arrival, float], bool],
        *,
        capacity: int,
        rescan_s: float,
        on_fault: Callable[[SystemFault | None], None] = lambda _: None,
        verify: Callable[[int], None] = lambda _: None,
        progress: Callable[[], None] = lambda: None,
        monotonic: Callable[[], float] = time.monotonic,
        spent: Callable[[], float] = time.thread_time,
    ) -> None:
        self._inbox = inbox
        self._policy = policy
        self._gate = gate
        self._known = known
        self._offer = offer
        self._capacity = capacity
        self._on_fault = on_fault
        self._verify = verify
        self._progress = progress
        self._monotonic = monotonic
        self._spent = spent
        self._changed = threading.Condition()
        # everything below is guarded by the condition's lock
        self._hints: dict[bytes, bool] = {}
        self._candidates: dict[bytes, Candidate] = {}
        self._aside = Aside()
        self._in_flight: dict[bytes, Fingerprint] = {}
        self._left_alone: dict[bytes, str] = {}
        self._stopping = False
        self._rescan_wanted = True
        self._scan_wanted = False  # the scan under way was asked for, and was not only due again
        self._flooded = False
        self._events_tell = False
        # used by the intake's thread alone
        self._scan: Iterator[Entry | None] | None = None
        self._scan_spent_s = 0.0  # of processor time, for files that are known
        self._pace = Pace(rescan_s)
        self._scan_left_alone: dict[bytes, str] = {}
        self._scans_done = 0
        self._scan_began_s = 0.0
        self._device = _device(inbox)
        self._last_progress_s = monotonic()
        # read by others, written by the intake's thread alone
        self._whole_since_s = -math.inf  # when the last full scan that came to its end began
        self._fault: SystemFault | None = None
        self._fault_since_s = 0.0
        self._fault_in_walk = False
        self._passed_over: tuple[bytes, ...] = ()  # by the last scan; the rest was looked at
        self._next_probe_s, self._probe_pause_s = 0.0, _PROBE_AGAIN_S
        self._next_gone_s = 0.0

    # --------------------------------------------------------------- called from other threads

    def hint(self, source: bytes, finished: bool) -> None:
        """An event named a file; ``finished``: it was closed or moved in."""
        if not self._policy.accepts(source):
            return
        with self._changed:
            if source in self._hints or len(self._hints) < self._capacity:
                self._hints[source] = finished or self._hints.get(source, False)
                self._changed.notify()
            else:
                self._rescan_wanted = self._flooded = True  # a scan will find it

    def hints_needed(self) -> bool:
        """False from a hint that there was no room for until the full scan that makes it good."""
        return not self._flooded

    def rescan(self) -> None:
        """Asks for a look at the whole inbox as soon as possible."""
        with self._changed:
            self._rescan_wanted = True
            self._changed.notify()

    def events_tell(self, whether: bool) -> None:
        """Whether events tell of each file that is written over: quick scans are enough then."""
        with self._changed:
            self._events_tell = whether

    def kept(self, arrival: Arrival) -> None:
        """The arrival has its row and stays in the inbox."""
        with self._changed:
            self._known.add(arrival.source, arrival.fingerprint)
            self._aside.over(arrival.source)
            self._release(arrival.source)

    def finished(self, source: bytes) -> None:
        """The file has left the inbox, or its name is free for other content."""
        with self._changed:
            self._aside.over(source)
            self._release(source)

    def unsettled(self, arrival: Arrival, *, incomplete: bool) -> None:
        """The arrival turned out to be changing, or to lack its end: back to the gate with it."""
        with self._changed:
            self._aside.over(arrival.source)
            self._release(arrival.source)
            self._candidates[arrival.source] = Candidate(
                arrival.source,
                arrival.fingerprint,
                unchanged_since_s=self._monotonic(),
                incomplete_as=arrival.fingerprint if incomplete else None,
                next_look_s=self._monotonic() + _CREATED_GRACE_S,
            )

    def unread(self, arrival: Arrival, why: str, most_s: float) -> None:
        """The disk did not give the arrival: it is tried again, each time later, after ``most_s`` at most."""
        now = self._monotonic()
        candidate = Candidate(arrival.source, arrival.fingerprint, unchanged_since_s=now)
        with self._changed:
            self._release(arrival.source)
            self._put_aside(candidate, why, most_s)

    def read_again(self) -> None:
        """Reading works again: what could not be read is tried at once."""
        with self._changed:
            self._aside.hurry(self._monotonic())
            self._changed.notify()

    def unread_files(self) -> list[tuple[bytes, str]]:
        """What could not be read again and again, and why."""
        with self._changed:
            return self._aside.told()

    def holds_unread(self) -> bool:
        """Whether there is anything that could not be read, however often it was tried."""
        with self._changed:
            return not self._aside.empty

    def left_alone(self) -> list[LeftAlone]:
        """What is in the inbox and will not be touched, as of the last scan."""
        with self._changed:
            return [LeftAlone(source, why) for source, why in sorted(self._left_alone.items())]

    def stop(self) -> None:
        with self._changed:
            self._stopping = True
            self._changed.notify()

    def held(self) -> int:
        """How many files are in memory: in the gate, queued or being inspected."""
        with self._changed:
            return self._held + len(self._aside)

    def backlog(self) -> Backlog | None:
        """What waits, from memory; None while more may wait than memory holds.

        That is until the first scan, or one that was asked for, has come to the end of the inbox;
        while any scan is held up because no more can be held; and while there is no inbox, since
        what waits in it is not nothing. A scan that is only due again is trusted to find no more
        than it holds already: counting beside it would cost an idle station the same once more.
        """
        with self._changed:
            if self._rescan_wanted or self._scan_wanted or self._fault:
                return None
            pending = self._held
            if self._scan is not None and pending >= self._capacity:
                return None
            waiting = [*self._candidates.values(), *self._aside]
            stats = [each.fingerprint for each in waiting]
            ctimes = [stat.ctime_ns for stat in (*stats, *self._in_flight.values()) if stat]
            pending += len(self._aside)
        return Backlog(pending, min(ctimes, default=None), datetime.now(UTC))

    def count_backlog(self) -> Backlog:
        """Counts what has no row yet by a quick look of its own. Raises SystemFault."""
        os.close(self._open())
        pending, oldest_ns = 0, None
        for entry in inbox_module.look_through(
            self._inbox, self._policy, familiar=self._familiar_by_name
        ):
            if entry is not None:
                pending += 1
                ctime_ns = entry.fingerprint.ctime_ns
                oldest_ns = ctime_ns if oldest_ns is None else min(oldest_ns, ctime_ns)
        return Backlog(pending, oldest_ns, datetime.now(UTC))

    def looked_since(self, moment_s: float) -> bool:
        """Whether a look at the whole inbox has begun after ``moment_s``, monotonic, and ended."""
        return self._whole_since_s > moment_s

    # --------------------------------------------------------------------- the intake's thread

    def run(self) -> None:
        """Works until ``stop``."""
        while not self._stopping:
            self._turn()
            self._sleep()

    def run_once(self, patience_s: float) -> None:
        """Works until nothing is left to do, or nothing has moved for ``patience_s``.

        Files that somebody is still writing then stay in the inbox, and those that could not be read
        after some tries. Raises SystemFault where the inbox could not be looked into for so long, or,
        when all else is done, a part of it.
        """
        self._last_progress_s = self._monotonic()
        scans_before = self._scans_done
        while not self._stopping:
            self._turn()
            fault = self._fault
            lasts = fault is not None and self._monotonic() - self._fault_since_s > patience_s
            if fault is not None and lasts and not self._passed_over:
                raise fault
            with self._changed:
                quiet = not (self._hints or self._in_flight or self._scan)
                waiting = bool(self._candidates) or self._aside.undecided
            if quiet and self._passed_over:
                stuck = self._monotonic() - self._last_progress_s > patience_s
                if fault is not None and lasts and (stuck or not waiting):
                    raise fault
            elif quiet and not waiting:
                # a scan that began after the last file was settled has found nothing more
                if self._scans_done >= scans_before + 2:
                    return
                self.rescan()
            elif quiet and self._monotonic() - self._last_progress_s > patience_s:
                return
            self._sleep()

    def _turn(self) -> None:
        self._progress()
        self._take_hints()
        self._forget_gone()
        self._look_at_due()
        self._advance_scan()

    def _sleep(self) -> None:
        with self._changed:
            if not self._stopping:
                self._changed.wait(self._wait_s())

    @property
    def _held(self) -> int:
        return len(self._candidates) + len(self._in_flight)

    def _wait_s(self) -> float:
        """Until there is something to do; what a lack of room holds up, a release wakes."""
        due = [each.next_look_s for each in (*self._candidates.values(), *self._aside)]
        scanning = self._scan is not None or self._rescan_wanted
        blocked = self._fault is not None and not self._passed_over
        if blocked or not scanning:
            due.append(self._pace.next_s)
        if self._held < self._capacity and (self._hints or (scanning and not blocked)):
            return 0.0
        return max(0.0, min(_IDLE_WAIT_S, min(due, default=math.inf) - self._monotonic()))

    def _take_hints(self) -> None:
        now = self._monotonic()
        with self._changed:
            room = max(self._capacity - self._held, 0)
            for source in list(self._hints)[:room]:
                finished = self._hints.pop(source)
                if source in self._in_flight:
                    continue  # judged by what it was; a change is seen when it is read
                candidate = self._aside.get(source)
                if candidate is None:
                    candidate = self._candidates.setdefault(source, Candidate(source))
                candidate.announced |= finished
                candidate.pause_s = LOOK_AGAIN_S
                candidate.next_look_s = now if finished else now + _CREATED_GRACE_S

    def _look_at_due(self) -> None:
        now = self._monotonic()
        with self._changed:
            waiting = (*self._candidates.values(), *self._aside)
            due = [each for each in waiting if each.next_look_s <= now]
        if not due:
            return
        try:
            folder = self._open()
        except SystemFault as fault:
            self._suffer(fault, _FAULT_AGAIN_S)
            for candidate in due:
                candidate.next_look_s = now + _FAULT_AGAIN_S
            return
        try:
            for candidate in due:
                if self._stopping:
                    break
                self._look(folder, candidate)
        finally:
            os.close(folder)

    def _look(self, folder: int, candidate: Candidate) -> None:
        """One look at one file, which may leave the gate by it."""
        source = candidate.source
        try:
            descriptor = inbox_module.open_beneath(folder, source)
        except OSError as exc:
            if exc.errno in inbox_module.MACHINE_WIDE:
                candidate.next_look_s = self._monotonic() + _IDLE_WAIT_S
                return
            if exc.errno in inbox_module.SYSTEM_ERRNOS:
                with self._changed:
                    self._candidates.pop(source, None)
                    self._put_aside(candidate, exc.strerror or str(exc), _OPEN_AGAIN_MAX_S)
                return
            self._drop(source)
            if exc.errno == errno.ELOOP:
                self._leave_alone(LeftAlone(source, inbox_module.SYMLINK))
            elif isinstance(exc, PermissionError):
                self._leave_alone(LeftAlone(source, f"cannot be opened: {exc.strerror}"))
            return
        try:
            status = os.fstat(descriptor)
            found = Fingerprint.of(status)
            kind = inbox_module.kind_refused(status.st_mode)
            if kind is not None:
                self._leave_alone(LeftAlone(source, kind))
            if not stat.S_ISREG(status.st_mode) or self._holds(source, found):
                self._drop(source)
                return
            settled = self._gate.look(candidate, descriptor, found)
        finally:
            os.close(descriptor)
        if settled is None:
            return
        arrival = Arrival(source, found, datetime.now(UTC), settled.by, settled.waited)
        with self._changed:
            self._candidates.pop(source, None)
            self._aside.take(source)
            self._in_flight[source] = found
        while not self._offer(arrival, _IDLE_WAIT_S):
            self._progress()
            if self._stopping:
                self.finished(source)
                return
        self._last_progress_s = self._monotonic()

    def _advance_scan(self) -> None:
        now = self._monotonic()
        if self._scan is None:
            self._probe(now)
            # after a fault not at once, however much a look is wanted
            wanted = self._rescan_wanted and (self._fault is None or bool(self._passed_over))
            if not wanted and now < self._pace.next_s:
                return
            try:
                os.close(self._open())
            except SystemFault as fault:
                self._suffer(fault, _FAULT_AGAIN_S)
                return
            if self._fault is not None and not self._fault_in_walk:
                self._recover()  # at once: the look itself may take hours
            self._begin_scan(now, wanted=wanted)
        assert self._scan is not None
        seen, began_spent_s = 0, self._spent()
        try:
            while seen < _SLICE:
                with self._changed:
                    if self._held >= self._capacity and not self._forget_busy():
                        return
                try:
                    entry = next(self._scan)
                except StopIteration:
                    self._end_scan()
                    return
                if entry is None:  # a stretch of the folder
                    if not seen:  # what is not known is work, not the price of looking
                        self._scan_spent_s += self._spent() - began_spent_s
                    return
                seen += 1
                self._consider(entry, now)
        except PartlyUnreadable as fault:
            self._end_scan(fault)
        except SystemFault as fault:
            self._scan = None
            self._suffer(fault, _WALK_AGAIN_S)
            self._fault_in_walk = True

    def _begin_scan(self, now: float, *, wanted: bool) -> None:
        with self._changed:
            kept = len(self._known)
            self._scan_wanted = wanted
        self._pace.begin(now, wanted=wanted, kept=kept, told=self._told)
        if not self._pace.quick:
            # before the folder is opened: what no hint was needed of until now, this scan finds
            self._rescan_wanted = self._flooded = False
        self._scan_left_alone = {}
        self._scan_began_s = now
        self._scan_spent_s = 0.0
        self._scan = inbox_module.look_through(
            self._inbox,
            self._policy,
            self._leave_alone,
            self._familiar_by_name if self._pace.quick else self._familiar,
        )

    @property
    def _told(self) -> bool:
        return self._events_tell and not self._gate.network

    def _familiar_by_name(
        self, prefix: bytes, entries: Sequence[os.DirEntry[bytes]]
    ) -> Sequence[bool]:
        digests = [name_digest(prefix + entry.name, entry.inode()) for entry in entries]
        with self._changed:
            return self._known.name(digests)

    def _familiar(self, prefix: bytes, entries: Sequence[os.DirEntry[bytes]]) -> Sequence[bool]:
        digests = [_digest(prefix + entry.name, entry) for entry in entries]
        with self._changed:
            return self._known.hold(digests)

    def _open(self) -> int:
        """A descriptor of the inbox, which is the station's. Raises SystemFault."""
        try:
            folder = inbox_module.open_folder(self._inbox)
        except OSError as exc:
            raise inbox_module.inbox_fault(self._inbox, exc) from exc
        try:
            self._verify(folder)
            device = os.fstat(folder).st_dev
            if device != self._device:
                # another file system than when the gate was told what it may believe there
                self._gate.network = is_network(file_system_of(self._inbox))
                self._device = device
        except SystemFault:
            os.close(folder)
            raise
        except OSError as exc:
            os.close(folder)
            raise inbox_module.inbox_fault(self._inbox, exc) from exc
        return folder

    def _suffer(self, fault: SystemFault, again_s: float) -> None:
        now = self._monotonic()
        if self._fault is None:
            self._fault_since_s = now
        self._fault_in_walk = False
        self._passed_over = ()
        self._pace.fail(now, again_s)
        with self._changed:
            self._fault = fault
            self._rescan_wanted = True
        self._on_fault(fault)

    def _recover(self) -> None:
        """The inbox could be looked at: whatever was wrong with it is over."""
        with self._changed:
            if self._fault is not None:
                self._aside.hurry(self._monotonic())
            self._fault = None
        self._passed_over = ()
        self._probe_pause_s = _PROBE_AGAIN_S
        self._on_fault(None)

    def _pass_over(self, fault: PartlyUnreadable) -> None:
        """The scan found all but what lies in some places: those are tried by themselves from now on."""
        now = self._monotonic()
        if self._fault is None:
            self._fault_since_s = now
        if self._passed_over:  # again: a look at the whole inbox has its price
            self._probe_pause_s = min(2 * self._probe_pause_s, _PROBE_AGAIN_MAX_S)
        self._next_probe_s = now + self._probe_pause_s
        self._passed_over = fault.sources
        self._fault_in_walk = True
        with self._changed:
            self._fault = fault
        self._on_fault(fault)

    def _probe(self, now: float) -> None:
        """Whether something that was passed over can be looked at again: then all is looked through."""
        if not self._passed_over or now < self._next_probe_s:
            return
        self._next_probe_s = now + self._probe_pause_s
        if any(_answers(os.path.join(self._inbox, source)) for source in self._passed_over):
            self._rescan_wanted = True

    def _consider(self, entry: Entry, now: float) -> None:
        with self._changed:
            source = entry.source
            if source in self._in_flight or source in self._candidates:
                return
            aside = self._aside.get(source)
            if aside is not None:
                if aside.fingerprint != entry.fingerprint:
                    aside.next_look_s = now
                return
            if self._known.holds(source, entry.fingerprint):
                return
            self._candidates[source] = Candidate(source, next_look_s=now)

    def _end_scan(self, fault: PartlyUnreadable | None = None) -> None:
        self._scan = None
        self._pace.end(self._monotonic(), self._scan_spent_s, told=self._told)
        if not self._pace.quick and fault is None:
            self._scans_done += 1
            self._whole_since_s = self._scan_began_s
        with self._changed:
            self._left_alone = self._scan_left_alone
            self._scan_wanted = False
        if fault is None:
            self._recover()
        else:
            self._pass_over(fault)

    def _forget_busy(self) -> bool:
        """Makes room, if it can: files that are being written come back by an event or a scan."""
        busy = [source for source, candidate in self._candidates.items() if candidate.busy]
        for source in busy[::2]:
            del self._candidates[source]
        return bool(busy)

    def _holds(self, source: bytes, found: Fingerprint) -> bool:
        with self._changed:
            return self._known.holds(source, found)

    def _drop(self, source: bytes) -> None:
        with self._changed:
            self._candidates.pop(source, None)
            self._aside.over(source)

    def _put_aside(self, candidate: Candidate, why: str, most_s: float) -> None:
        if not self._aside.put(candidate, why, self._monotonic(), most_s):
            self._candidates[candidate.source] = candidate

    def _forget_gone(self) -> None:
        """What could not be read and is gone need not be told of until its next look is due."""
        now = self._monotonic()
        if not len(self._aside) or now < self._next_gone_s:
            return
        self._next_gone_s = now + _GONE_AGAIN_S
        with self._changed:
            sources = [candidate.source for candidate in self._aside]
        for source in sources:
            try:
                os.lstat(os.path.join(self._inbox, source))
            except (FileNotFoundError, NotADirectoryError):
                self._drop(source)  # if only the inbox is away, a scan finds it again
            except OSError:
                continue

    def _release(self, source: bytes) -> None:
        self._in_flight.pop(source, None)
        self._last_progress_s = self._monotonic()
        self._changed.notify()

    def _leave_alone(self, what: LeftAlone) -> None:
        """Told of at the end of the scan that is under way, or at once where none is."""
        with self._changed:
            if len(self._scan_left_alone) < _LEFT_ALONE_MAX:
                self._scan_left_alone[what.source] = what.reason


def _digest(source: bytes, entry: os.DirEntry[bytes]) -> int:
    """The digest of a file that may be known; of one that cannot be asked for, nobody's."""
    try:
        status = entry.stat(follow_symlinks=False)
    except OSError:
        return name_digest(source, entry.inode())  # a closer look says what is wrong
    return whole_digest(
        source, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino
    )


def _answers(path: bytes) -> bool:
    """Whether the disk gives what is there again; what is gone is no riddle either."""
    try:
        with os.scandir(path) as entries:
            next(entries, None)
    except NotADirectoryError:
        return True  # a file that can be looked at
    except OSError as exc:
        return exc.errno not in inbox_module.SYSTEM_ERRNOS
    return True


def _device(inbox: bytes) -> int | None:
    try:
        return os.stat(inbox).st_dev
    except OSError:
        return None
