"""Which pictures' time is over, by age, by bytes and by free disk; and lets them go, oldest first.

Sees the books as a Protocol and the disk as a number. Only what a committed row names can be chosen,
only if its move is finished, and nothing is unlinked before ``expired`` is committed for it:
``departures``. What people labelled, and what waits for their label, stays unless the station says
otherwise.

A wrong clock must cost time and no evidence. A picture's age counts only where the rows agree: one
that was recorded after a young one is no older, whatever its row says, for numbers only grow. And
while nothing was recorded half a day to two days ago, nothing goes by age: a station that was off, or
a clock that was set ahead, waits until the clock has been right for half a day.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal, Protocol

from crackwatch.departures import AT_ONCE, Departed
from crackwatch.domain import Departure, DepartureKind, DepartureResult, Place
from crackwatch.errors import SystemFault
from crackwatch.requeue import Picture, departure_of

# the least missed first: where they share a disk, flagged pictures are the last to go
ORDER = (Place.ARCHIVED, Place.KEPT, Place.QUARANTINED, Place.FLAGGED)
BY = "retention"
# by this clock, between so long ago and so long ago something must have been recorded
EVIDENCE = (timedelta(hours=48), timedelta(hours=12))
_ROUND_BYTES = 1 << 26  # every byte of a round is read and hashed before anything is removed

Rule = Literal["age", "bytes", "free"]


@dataclass(frozen=True, slots=True)
class Limits:
    """What one place is allowed; None: as much as it likes."""

    max_days: float | None = None
    max_bytes: int | None = None
    min_free_bytes: int | None = None

    @property
    def any(self) -> bool:
        return (self.max_days, self.max_bytes, self.min_free_bytes) != (None, None, None)


@dataclass(frozen=True, slots=True)
class Policy:
    """A station's retention."""

    limits: Mapping[Place, Limits]
    keep_reviewed: bool = True
    keep_awaiting_review: bool = True

    @property
    def any(self) -> bool:
        return any(each.any for each in self.limits.values())

    def keeps(self, held: str | None) -> bool:
        """Whether a picture stays for what people say or are to say of it."""
        return (
            (held == "reviewed" and self.keep_reviewed)
            or (held == "awaiting_review" and self.keep_awaiting_review)
            or held == "departing"
        )


class Stored(Picture, Protocol):
    """A filed picture: see ``store.departures.Filed``."""

    @property
    def inspected_at(self) -> datetime: ...
    @property
    def held(self) -> str | None: ...


class Rows(Protocol):
    def total(self, place: Place) -> tuple[int, int]: ...
    def oldest(self, place: Place, before: datetime | None = None) -> Iterator[Stored]: ...
    def first_between(self, since: datetime, until: datetime) -> int | None: ...
    def anything_between(self, since: datetime, until: datetime) -> bool: ...


class Lets(Protocol):
    """See ``departures.Departing``."""

    def for_good(self, asked: Sequence[Departure], by: str) -> list[Departed]: ...


@dataclass(frozen=True, slots=True)
class Over:
    """A picture whose time is over, and by which rule."""

    picture: Stored
    rule: Rule


@dataclass(slots=True)
class PlaceOutcome:
    """What retention did in one place, or would do. Sizes in bytes."""

    place: Place
    pictures: int  # before
    size_bytes: int
    free_bytes: int | None  # of its disk, before; None: nobody asked
    removed: list[Over] = field(default_factory=list)
    left: list[tuple[Over, Departed]] = field(default_factory=list)
    held: int = 0  # were their turn, and stay for people's labels
    short_bytes: int = 0  # that nothing is left to make up for
    in_vain: bool = False  # all that is there would not make so much room: nothing went for it
    clock_unsure: bool = False  # nothing went by age

    removed_bytes: int = 0

    def remove(self, over: Over) -> None:
        self.removed.append(over)
        self.removed_bytes += over.picture.size_bytes


class Retention:
    """One look at all places. ``free`` gives the disk of a place's folder and its free bytes.

    With ``lets`` None it only says what would go. ``trust_clock``: a person vouches for the clock.
    ``go_on`` is asked between two rounds: False ends the look, and the next one begins anew.
    """

    def __init__(
        self,
        rows: Rows,
        policy: Policy,
        free: Callable[[Place], tuple[int, int]],
        lets: Lets | None,
        *,
        now: datetime,
        trust_clock: bool = False,
        go_on: Callable[[], bool] = lambda: True,
    ) -> None:
        self._rows = rows
        self._policy = policy
        self._free = free
        self._lets = lets
        self._now = now
        self._trust_clock = trust_clock
        self._go_on = go_on
        self._promised_bytes: dict[int, int] = {}  # of each disk, by a dry run

    def run(self) -> list[PlaceOutcome]:
        """Raises SystemFault; what was begun by then is finished by the next ``resume``."""
        return [
            self._tend(place, self._policy.limits[place])
            for place in ORDER
            if place in self._policy.limits and self._policy.limits[place].any and self._go_on()
        ]

    def _tend(self, place: Place, limits: Limits) -> PlaceOutcome:
        count, size_bytes = self._rows.total(place)
        free = self._free(place)[1] if limits.min_free_bytes is not None else None
        outcome = PlaceOutcome(place, count, size_bytes, free)
        outcome.in_vain = self._in_vain(place, limits)
        outcome.clock_unsure = limits.max_days is not None and not self._clock_is_sure()
        for some in self._rounds(limits, outcome):
            self._let_go(some, outcome)
            if not self._go_on():
                return outcome
        outcome.short_bytes = max(0, self._excess(limits, outcome), self._deficit(limits, outcome))
        return outcome

    def _rounds(self, limits: Limits, outcome: PlaceOutcome) -> Iterator[list[Over]]:
        """Oldest first. What a round could not remove does not count: the next one makes up for it."""
        ends, first_young = None, None
        if limits.max_days is not None and not outcome.clock_unsure:
            ends = self._now - timedelta(days=limits.max_days)
            first_young = self._rows.first_between(ends, self._now)
        by_age_alone = limits.max_bytes is None and limits.min_free_bytes is None
        some: list[Over] = []
        some_bytes = 0
        for picture in self._rows.oldest(outcome.place, ends if by_age_alone else None):
            if len(some) == AT_ONCE or some_bytes > _ROUND_BYTES:
                yield some
                some, some_bytes = [], 0
            rule: Rule
            if (
                ends is not None
                and picture.inspected_at < ends
                and (first_young is None or picture.id < first_young)
            ):
                rule = "age"
            elif self._excess(limits, outcome) > some_bytes:
                rule = "bytes"
            elif not outcome.in_vain and self._deficit(limits, outcome) > some_bytes:
                rule = "free"
            elif ends is not None and picture.inspected_at < ends:
                continue  # its clock was wrong
            else:
                break
            if self._policy.keeps(picture.held):
                outcome.held += 1
                continue
            some.append(Over(picture, rule))
            some_bytes += picture.size_bytes
        if some:
            yield some

    def _in_vain(self, place: Place, limits: Limits) -> bool:
        """Whether so much room cannot be made by all that may still go from this disk."""
        if limits.min_free_bytes is None:
            return False
        disk, free_bytes = self._free(place)
        wanted = limits.min_free_bytes - free_bytes - self._promised_bytes.get(disk, 0)
        if wanted <= 0:
            return False
        there = 0
        for other in ORDER[ORDER.index(place) :]:
            theirs = self._policy.limits.get(other)
            if theirs is not None and theirs.min_free_bytes is not None:
                with contextlib.suppress(SystemFault):
                    there += self._rows.total(other)[1] if self._free(other)[0] == disk else 0
        return wanted > there

    def _clock_is_sure(self) -> bool:
        far, near = EVIDENCE
        return self._trust_clock or self._rows.anything_between(self._now - far, self._now - near)

    def _excess(self, limits: Limits, outcome: PlaceOutcome) -> int:
        if limits.max_bytes is None:
            return 0
        return outcome.size_bytes - outcome.removed_bytes - limits.max_bytes

    def _deficit(self, limits: Limits, outcome: PlaceOutcome) -> int:
        if limits.min_free_bytes is None:
            return 0
        disk, free_bytes = self._free(outcome.place)
        return limits.min_free_bytes - free_bytes - self._promised_bytes.get(disk, 0)

    def _let_go(self, some: Sequence[Over], outcome: PlaceOutcome) -> None:
        if self._lets is None:
            disk = self._free(outcome.place)[0]
            for each in some:
                outcome.remove(each)
                promised = self._promised_bytes.get(disk, 0) + each.picture.size_bytes
                self._promised_bytes[disk] = promised
            return
        by_row = {each.picture.id: each for each in some}
        asked = [departure_of(each.picture, DepartureKind.EXPIRY) for each in some]
        for departed in self._lets.for_good(asked, BY):
            over = by_row[departed.departure.inspection_id or 0]
            if departed.result is DepartureResult.DONE:
                outcome.remove(over)
            else:
                outcome.left.append((over, departed))


class Slices:
    """When the running station looks, and for how long at a time.

    ``due`` at a quiet moment once ``every_s`` have gone by; ``overdue`` when as much again has, so
    that a station without a quiet moment looks all the same.
    """

    def __init__(
        self, every_s: float, slice_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._every_s = every_s
        self._slice_s = slice_s
        self._clock = clock
        self._next_s = clock()  # at the first quiet moment after the start
        self._until_s = 0.0

    @property
    def due(self) -> bool:
        return self._clock() >= self._next_s

    @property
    def overdue(self) -> bool:
        return self._clock() >= self._next_s + self._every_s

    def begin(self) -> None:
        self._until_s = self._clock() + self._slice_s

    def go_on(self) -> bool:
        return self._clock() < self._until_s

    def delay(self, again_s: float) -> None:
        """Not before so many seconds, unless ``end`` says otherwise."""
        self._next_s = self._clock() + again_s

    def end(self) -> None:
        """The look is done; one that ran out of its slice goes on at the next quiet moment."""
        self._next_s = self._clock() + (self._every_s if self.go_on() else 0.0)
