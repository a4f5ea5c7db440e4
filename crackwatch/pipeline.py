"""One batch, from arrivals to committed rows, and the moves that the rows then demand.

Sees its adapters as Protocols and gets them by constructor. The order is the promise: the commit
comes before the move, so that a picture is recorded once however often the station dies.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from crackwatch.domain import (
    Arrival,
    Batch,
    BatchFacts,
    Closing,
    Destinations,
    Draft,
    Filed,
    Filing,
    Fingerprint,
    MoveResult,
    Outcome,
    Place,
    QuarantineReason,
    Recorded,
    ReviewBand,
    Verdict,
)
from crackwatch.errors import ModelDisagrees, ReadFault, SystemFault, Unreadable, Unsettled
from crackwatch.examining import Emit, examine
from crackwatch.inbox import Content
from crackwatch.runtime import Classifier
from crackwatch.runtime.fast import FastClassifier, exact_of
from crackwatch.unread import Reads
from crackwatch.verdict import place_of
from crackwatch.views import Decoded, LightMeter, Rule, Seen, judged, see

_MAY_STILL_GROW = frozenset({QuarantineReason.EMPTY, QuarantineReason.TRUNCATED})


# A file's bytes, and the scale of the model in force, None where nobody knows it: see ``decoding``.
DecodeFor = Callable[[bytes, float | None], Decoded]  # raises Unreadable
# Beside moved pictures: what helps a person, and may fail without harm. See ``marked``.
Mark = Callable[[Sequence[Filing]], None]


class Reader(Protocol):
    """Reads one settled picture: see ``inbox.read`` for what it raises."""

    def __call__(self, source: bytes, expected: Fingerprint) -> Content: ...


class BooksLike(Protocol):
    def record(
        self,
        facts: BatchFacts,
        drafts: Sequence[Draft],
        destinations: Destinations,
        closings: Sequence[Closing] = (),
    ) -> Recorded: ...
    def close(self, closings: Sequence[Closing]) -> None: ...
    def reassign(
        self, id: int, place: Place, source: bytes, destinations: Destinations
    ) -> bytes: ...
    def unfiled(self) -> list[Filing]: ...


class MoverLike(Protocol):
    def file(self, demand: Filing) -> Filed: ...
    def sync(self) -> None: ...
    def sync_inbox(self) -> None: ...


class Journal(Protocol):
    """Names what is being decoded, in case the decoder takes the process with it."""

    def begin(self, sources: Sequence[bytes]) -> None: ...
    def end(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Judging:
    """The model in force, and by which rule its scores become verdicts.

    ``mm_per_px`` is what a pixel showed of what it learned from, None where nobody knows.
    """

    classifier: Classifier
    model_pk: int
    rule: Rule
    runtime: str
    precision: str
    mm_per_px: float | None = None

    @property
    def exact_from(self) -> float | None:
        """From which quick score pictures are scored exactly; None: each is."""
        return self.classifier.exact_from if isinstance(self.classifier, FastClassifier) else None


@dataclass(frozen=True, slots=True)
class Inspected:
    """What became of a batch's arrivals."""

    recorded: Recorded
    unsettled: tuple[tuple[Arrival, bool], ...]  # (arrival, its end is missing)
    refused: tuple[tuple[Arrival, str], ...]  # this user may not read it
    unread: tuple[tuple[Arrival, str], ...]  # the disk does not give it, and why
    read_s: float
    classify_s: float
    record_s: float


@dataclass(frozen=True, slots=True)
class FilingReport:
    """What filing did since it was last asked: names that are free again, moves that must wait."""

    released: tuple[bytes, ...]
    replaced: int
    vanished: tuple[bytes, ...]
    refused: tuple[tuple[bytes, str], ...]
    waiting: int  # moves that were refused, now or earlier, and have to be tried again


@dataclass(frozen=True, slots=True)
class _Readable:
    """An arrival whose views are with the model."""

    arrival: Arrival
    sha256: bytes
    seen: Seen


@dataclass(frozen=True, slots=True)
class _Unsettled:
    arrival: Arrival
    incomplete: bool


@dataclass(frozen=True, slots=True)
class _Refused:
    arrival: Arrival
    why: str


@dataclass(frozen=True, slots=True)
class _Unread:
    arrival: Arrival
    why: str


@dataclass(slots=True)
class _Done:
    """What became of the arrivals of a batch, before anything is recorded."""

    drafts: list[Draft] = field(default_factory=list)
    spoiled: list[Draft] = field(default_factory=list)
    unsettled: list[tuple[Arrival, bool]] = field(default_factory=list)
    refused: list[tuple[Arrival, str]] = field(default_factory=list)
    unread: list[tuple[Arrival, str]] = field(default_factory=list)


class Pipeline:
    """Inspects batches one after another; one thread calls it.

    ``condemned`` are pictures that killed a decoder, as they were then: they are quarantined without
    being decoded again; other content under such a name is judged like any other. ``review_band``
    marks scores for a person's eye; verdict and place are the same without it. ``decode`` and
    ``measure`` are called on ``workers``, of which there are ``workers_count``; ``views_at_once``
    pictures or tiles are scored together. ``mm_per_px`` is of the station's photographs. ``mark`` is
    told of pictures that were flagged: once they are where they belong, before their rows are closed,
    so that what a kill left undone is told again after the next start. ``progress`` is called by any
    of the threads before each picture and each move, and after each batch that the model has scored.
    """

    def __init__(
        self,
        *,
        read: Reader,
        decode: DecodeFor,
        measure: LightMeter,
        books: BooksLike,
        mover: MoverLike,
        destinations: Destinations,
        journal: Journal,
        workers: Executor,
        workers_count: int,
        views_at_once: int,
        normal: str,
        mm_per_px: float | None = None,
        review_band: ReviewBand | None = None,
        mark: Mark = lambda _: None,
        condemned: Mapping[bytes, tuple[Fingerprint, QuarantineReason]] | None = None,
        progress: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._read_one = read
        self._decode = decode
        self._measure = measure
        self._books = books
        self._mover = mover
        self._destinations = destinations
        self._journal = journal
        self._workers = workers
        self._workers_count = workers_count
        self._views_at_once = views_at_once
        self._normal = normal
        self._mm_per_px = mm_per_px
        self._review_band = review_band
        self._mark = mark
        self._condemned = dict(condemned or {})
        self._progress = progress
        self._clock = clock
        self.reads = Reads()
        self._owed: deque[Filing] = deque()  # recorded, not yet moved
        self._refused: list[Filing] = []  # tried, and to be tried again later
        self._unsynced: list[Closing] = []  # moved, the folders not yet synced
        self._flagged: list[Filing] = []  # among these
        self._untold = _Untold()  # filed, and a fault came before it could be said
        self._closings: list[Closing] = []  # durable, the rows not yet closed
        self._unsure = False  # a commit failed: it may have been made all the same

    def condemn(self, guilty: Mapping[bytes, tuple[Fingerprint, QuarantineReason]]) -> None:
        """More ``condemned``, found before the first batch."""
        self._condemned.update(guilty)

    # ------------------------------------------------------------------------------- a batch

    def inspect(self, batch: Batch, judging: Judging) -> Inspected:
        """Reads, classifies, judges and records a batch. Nothing is moved yet: see ``file``.

        Raises SystemFault, and may then be called again with the same batch: until the commit
        nothing has happened, and after it the files are known. Files that cannot be read are no such
        fault while others can be: see ``unread``.
        """
        started = self._clock()
        timed = _Timed(judging.classifier, self._clock, self._progress)
        # a second look weighs low scores as well: each of them is to be the exact one
        exact = _Timed(exact_of(judging.classifier), self._clock, self._progress)
        done = self._examined(batch.arrivals, judging, timed, exact)
        drafts = [*done.drafts, *done.spoiled]
        classified = self._clock()
        classify_s = timed.spent_s + exact.spent_s
        read_s = classified - started - classify_s
        facts = BatchFacts(
            model_pk=judging.model_pk,
            runtime=judging.runtime,
            precision=judging.precision,
            closed_by=batch.closed_by,
            read_us=round(read_s * 1e6),
            classify_us=round(classify_s * 1e6),
            exact_from=judging.exact_from,
        )
        if drafts:
            # a row vouches for bytes: they must not be lost in a power cut that the row survives
            self._mover.sync_inbox()
            try:
                recorded = self._books.record(facts, drafts, self._destinations, self._closings)
            except SystemFault:
                self._unsure = True
                raise
            self._closings.clear()
        else:
            recorded = Recorded(0, (), (), (), 0, 0, 0, 0, 0)
        self._owed.extend(recorded.filings)
        for arrival in batch.arrivals:
            self._condemned.pop(arrival.source, None)
        return Inspected(
            recorded,
            tuple(done.unsettled),
            tuple(done.refused),
            tuple(done.unread),
            read_s,
            classify_s,
            self._clock() - classified,
        )

    def _examined(
        self,
        arrivals: Sequence[Arrival],
        judging: Judging,
        classifier: Classifier,
        exact: Classifier,
    ) -> _Done:
        """Reads, decodes and scores: several threads decode while this one waits for the model.

        ``exact`` is asked where tiles are looked at again.
        """
        self._journal.begin([arrival.source for arrival in arrivals])
        self.reads.begin(arrivals)
        whole = _Done()
        # in order: the rows of a batch stand in the order in which its pictures settled
        for outcome, scores in examine(
            arrivals,
            lambda arrival, emit: self._look_at(arrival, emit, judging.mm_per_px),
            classifier,
            pool=self._workers,
            threads=self._workers_count,
            chunk=-(-len(arrivals) // self._workers_count),
            batch=self._views_at_once,
        ):
            match outcome:
                case _Readable():
                    try:
                        whole.drafts.append(self._judged(outcome, scores, judging, exact))
                    except Unreadable as exc:  # decoded once, and not when it is looked at again
                        whole.spoiled.append(_spoiled(outcome.arrival, outcome.sha256, exc))
                case Draft():
                    whole.spoiled.append(outcome)
                case _Unsettled():
                    whole.unsettled.append((outcome.arrival, outcome.incomplete))
                case _Refused():
                    whole.refused.append((outcome.arrival, outcome.why))
                case _Unread():
                    whole.unread.append((outcome.arrival, outcome.why))
        self._journal.end()
        self.reads.judge()
        return whole

    def _look_at(
        self, arrival: Arrival, emit: Emit, model_mm_per_px: float | None
    ) -> _Readable | Draft | _Unsettled | _Refused | _Unread:
        self._progress()
        sha256: bytes | None = None
        try:
            content = self._read_one(arrival.source, arrival.fingerprint)
            self.reads.read(arrival)
            sha256 = content.sha256
            then, reason = self._condemned.get(arrival.source, (None, None))
            if reason is not None and then == arrival.fingerprint:
                raise Unreadable(reason, "twice it ended or hung the decoder's own process")
            decoded = self._decode(content.data, model_mm_per_px)
            return _Readable(arrival, sha256, see(decoded, emit, self._measure))
        except Unsettled:
            return _Unsettled(arrival, incomplete=False)
        except PermissionError as exc:
            return _Refused(arrival, f"cannot be opened: {exc.strerror}")
        except ReadFault as fault:
            self.reads.failed(arrival, fault)
            return _Unread(arrival, fault.why)
        except Unreadable as exc:
            if exc.reason in _MAY_STILL_GROW and not arrival.waited:
                return _Unsettled(arrival, incomplete=True)
            return _spoiled(arrival, sha256, exc)

    def _judged(
        self,
        readable: _Readable,
        scores: NDArray[np.float32],
        judging: Judging,
        classifier: Classifier,
    ) -> Draft:
        try:
            found = judged(readable.seen, scores, judging.rule, classifier, self._mm_per_px)
        except ValueError as exc:
            raise ModelDisagrees(
                f"model {judging.classifier.model_id}: {exc}",
                "Go back to the one before: crackwatch models rollback.",
            ) from exc
        light = readable.seen.light
        return Draft(
            readable.arrival,
            readable.sha256,
            Outcome.ANOMALY if found.verdict is Verdict.ANOMALY else Outcome.NORMAL,
            place_of(found.verdict, self._normal),
            found.score,
            found.threshold,
            in_review_band=found.score in self._review_band if self._review_band else None,
            brightness=light.brightness if light else None,
            sharpness=light.sharpness if light else None,
            photograph=found.photograph,
        )

    # ------------------------------------------------------------------------------- the moves

    def recover(self) -> int:
        """Takes up every move that the books demand and nobody here knows of; how many."""
        mine = {filing.id for filing in (*self._owed, *self._refused)}
        mine |= {closing.id for closing in (*self._unsynced, *self._closings)}
        found = [filing for filing in self._books.unfiled() if filing.id not in mine]
        self._owed.extend(found)
        return len(found)

    def retry_refused(self) -> None:
        """Puts the moves that were refused back in line."""
        self._owed.extend(self._refused)
        self._refused.clear()

    def file(self) -> FilingReport:
        """Carries out every move that is owed, then syncs the folders once.

        Raises SystemFault; what was done by then is remembered and told of by the next call, which
        does the rest.
        """
        if self._unsure:
            self.recover()
            self._unsure = False
        untold = self._untold
        while self._owed:
            self._progress()
            filing = self._owed[0]
            filed, demand = self._file_one(filing)
            self._owed.popleft()
            if filed.result is MoveResult.REFUSED:
                self._refused.append(filing)
                untold.refused.append((filing.source, filed.detail))
                continue
            if filed.result is MoveResult.GONE:
                untold.vanished.append(filing.source)
            if filed.result is MoveResult.REPLACED:
                untold.replaced += 1
            self._unsynced.append(
                Closing(filing.id, superseded=filed.result is MoveResult.REPLACED)
            )
            if filed.result is MoveResult.DONE and filing.place is Place.FLAGGED:
                # by another name than ``filing``'s, where that turned out to be taken
                self._flagged.append(demand)
            untold.released.append(filing.source)
        if self._unsynced:
            self._mover.sync()
            self._mark(self._flagged)
            self._flagged.clear()
            self._closings += self._unsynced
            self._unsynced.clear()
        self._untold = _Untold()
        return FilingReport(
            tuple(untold.released),
            untold.replaced,
            tuple(untold.vanished),
            tuple(untold.refused),
            len(self._refused),
        )

    def _file_one(self, filing: Filing) -> tuple[Filed, Filing]:
        """How the move ended, and the demand that it met in the end."""
        demand = filing
        while True:
            filed = self._mover.file(demand)
            if filed.result is not MoveResult.TAKEN:
                return filed, demand
            # the new name is committed before it is tried: no file stands under a name that no
            # row holds
            chosen = self._books.reassign(
                filing.id, filing.place, filing.source, self._destinations
            )
            demand = replace(filing, destination=chosen)

    @property
    def owes(self) -> bool:
        """Whether moves are waiting to be done, or done ones to be closed."""
        return bool(self._owed or self._unsynced or self._closings)

    def close(self) -> None:
        """Marks what has been moved durably as filed. Raises SystemFault."""
        self._books.close(self._closings)
        self._closings.clear()


@dataclass(slots=True)
class _Untold:
    """What a ``FilingReport`` will say, while it is gathered: over several calls if there are faults.

    A name that nobody was told of would be held as in flight for ever, and its next file passed over.
    """

    released: list[bytes] = field(default_factory=list)
    replaced: int = 0
    vanished: list[bytes] = field(default_factory=list)
    refused: list[tuple[bytes, str]] = field(default_factory=list)


class _Timed:
    """A classifier, and the wall time that was spent in it; each answer of it is progress."""

    def __init__(
        self, classifier: Classifier, clock: Callable[[], float], progress: Callable[[], None]
    ) -> None:
        self.model_id = classifier.model_id
        self.spent_s = 0.0
        self._classifier = classifier
        self._clock = clock
        self._progress = progress

    def scores(self, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        started = self._clock()
        try:
            return self._classifier.scores(pictures)
        finally:
            self.spent_s += self._clock() - started
            self._progress()


def _spoiled(arrival: Arrival, sha256: bytes | None, exc: Unreadable) -> Draft:
    return Draft(
        arrival,
        sha256,
        Outcome.QUARANTINED,
        Place.QUARANTINED,
        reason=exc.reason,
        detail=exc.detail,
    )
