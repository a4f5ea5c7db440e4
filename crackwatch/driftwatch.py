"""When a day's pictures are compared with the training data, and who is told: status and reports.

The arithmetic is ``health.drift``'s, the rows are the books'; knows no picture and no model but by
its card.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from datetime import time as time_of_day
from typing import Final, Protocol

from crackwatch.days import Window, day_begins, working_day
from crackwatch.domain import DriftFinding
from crackwatch.errors import StoreError
from crackwatch.health.board import Board
from crackwatch.health.drift import REMEDY, SeenLike, assess, in_words
from crackwatch.likeness import MIN_PICTURES, Reference
from crackwatch.reported import DayDrift

PROBLEM: Final = "drift"
# More looks are more chances to err, and ``health.drift.LOOKS`` knows of these; with as many pictures
# as are ever compared chance decides no more, and there may be any number.
LOOK_EVERY_S: Final = 3600.0
_LOOK_AT_MANY_EVERY_S: Final = 600.0

# Of a day. With as many, the least distance that chance cannot explain is below the floor that a
# distance must reach to be told: more would decide nothing else, and take longer.
MOST_PICTURES: Final = 900
# Of a report: beyond thirty days each day gives fewer, so that nobody waits for a year's.
_MOST_OF_A_REPORT = 27_000
_LEAST_OF_A_DAY = 60

_TICK = timedelta(microseconds=1)


class RowsLike(Protocol):
    """The books: see ``store.drift.DriftRows``."""

    def ends(self, window: Window) -> tuple[datetime, datetime] | None: ...
    def samples(
        self, windows: Sequence[Window], most: int
    ) -> Sequence[Mapping[int, Sequence[SeenLike]]]: ...
    def card(self, model_pk: int) -> tuple[str, str]: ...


# -------------------------------------------------------------------------------------- a report


def of_window(rows: RowsLike, window: Window, day_start: time_of_day) -> tuple[DayDrift, ...]:
    """Every working day of a window by itself, oldest first, each model's pictures by themselves.

    A day that the window cuts is judged by what is inside. Days without a picture are left out.
    """
    ends = rows.ends(window)
    if ends is None:
        return ()
    # a report "since 1970" is of the days since the station's first picture, and only so many tests
    zone = window.since.tzinfo
    days = list(_days(Window(ends[0].astimezone(zone), ends[1] + _TICK), day_start))
    most = max(_LEAST_OF_A_DAY, min(MOST_PICTURES, _MOST_OF_A_REPORT // len(days)))
    references: dict[int, tuple[str, Reference | None]] = {}
    found: list[DayDrift] = []
    samples = rows.samples([span for _, span in days], most)
    for (day, _), by_model in zip(days, samples, strict=True):
        for model_pk, pictures in sorted(by_model.items()):
            if model_pk not in references:
                id, card = rows.card(model_pk)
                references[model_pk] = (id, _reference(card))
            id, reference = references[model_pk]
            found += assess(day, id, pictures, reference, days=len(days))
    return tuple(found)


def _days(window: Window, day_start: time_of_day) -> Iterator[tuple[date, Window]]:
    zone = window.since.tzinfo
    assert zone is not None  # a window's ends are aware
    since: datetime = window.since
    while since < window.until:
        day = working_day(since, zone, day_start)
        end = min(window.until, day_begins(day + timedelta(days=1), zone, day_start))
        yield day, Window(since, end)
        since = end


# -------------------------------------------------------------------------------------- the daemon


class DriftWatch:
    """Compares today with the training data whenever today has doubled, and every hour; every ten
    minutes where there are ``MOST_PICTURES``.

    ``sample`` gives the pictures that a model judged since the working day began, about
    ``MOST_PICTURES`` of them, and the model's card, given the model's row number and the day.
    """

    def __init__(
        self,
        sample: Callable[[int, date], tuple[Sequence[SeenLike], str]],
        board: Board,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sample = sample
        self._board = board
        self._clock = clock
        self._looked: tuple[int, date, int] | None = None  # model, day, how many were inspected
        self._next_s = 0.0
        self.found: tuple[DayDrift, ...] = ()

    def tend(
        self, model_pk: int, model: str, day: date, inspected: int, *, due: bool = False
    ) -> None:
        """Looks if it is time to, or ``due``; ``inspected``: how many pictures there are today."""
        now = self._clock()
        if self._looked is not None:
            model_then, day_then, inspected_then = self._looked
            if (
                not due
                and (model_then, day_then) == (model_pk, day)
                and now < self._next_s
                and inspected < max(MIN_PICTURES, 2 * inspected_then)
            ):
                return
            if model_then != model_pk:
                self._board.clear(PROBLEM)  # it learned from something else
        self._looked = (model_pk, day, inspected)
        self._next_s = now + _LOOK_AT_MANY_EVERY_S
        try:
            pictures, card = self._sample(model_pk, day)
        except StoreError:
            return  # whoever writes to the books tells of it
        if inspected < MOST_PICTURES:
            self._next_s = now + LOOK_EVERY_S
        self.found = assess(day, model, pictures, _reference(card))
        self._tell()

    def _tell(self) -> None:
        raised = [each for each in self.found if each.raised]
        if raised:
            what = "; ".join(in_words(each) for each in raised)
            self._board.report(PROBLEM, "warning", f"{raised[0].day}: {what}", REMEDY)
        elif any(each.finding is not DriftFinding.TOO_FEW for each in self.found):
            self._board.clear(PROBLEM)
        # too few to say: what was known of the day before stands until there is more


def _reference(card: str) -> Reference | None:
    try:
        document = json.loads(card)
    except ValueError:
        return None
    return Reference.of_card(document) if isinstance(document, dict) else None
