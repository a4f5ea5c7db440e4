"""A campaign whose cases can all be named beforehand: drawn from a seed, as many as time allows.

``--done FILE`` remembers what was played, so that it can be ended and taken up at any time; ``--case``
plays one again. Exits with 1 if anything went wrong, with 2 where nothing can be traced.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import click

from tests.faults import tracing
from tests.faults.stage import SCENARIOS
from tests.faults.sweep import NeverCameError, Tally, Theatre, again, parser_of_many, theatre


class CaseLike(Protocol):
    """Written as one word, by which it can be played again."""

    def __str__(self) -> str: ...


CaseT = TypeVar("CaseT", bound=CaseLike)


@dataclass(frozen=True, slots=True)
class Campaign(Generic[CaseT]):
    """``cases`` names every case of some scenarios; ``play`` says what is wrong after one, and raises
    NeverCameError where the station never came to its step."""

    name: str
    about: str | None
    parse: Callable[[str], CaseT]
    cases: Callable[[Theatre, list[str]], Sequence[CaseT]]
    play: Callable[[Theatre, CaseT], list[str]]

    def main(self, arguments: list[str] | None) -> int:
        """The command of the campaign's module."""
        options = parser_of_many(self.name, self.about).parse_args(arguments)
        why_not = tracing.missing()
        if why_not:
            print(why_not, file=sys.stderr)
            return 2
        with theatre(options.folder) as played:
            if options.case:
                return again(options.case, self.parse, lambda case: self.play(played, case))
            every = list(self.cases(played, options.scenario or list(SCENARIOS)))
            random.Random(options.seed).shuffle(every)
            tally = Tally.load(options.done)
            before = len(tally.done)
            self._play(played, every, tally, None if options.all else options.seconds)
        bad = sum(bool(wrong) for wrong in tally.done.values())
        print(
            f"seed {options.seed}: {len(tally.done) - before} cases, {len(tally.done)} of "
            f"{len(every)} in all, {bad} wrong, {tally.never_came} never came to their step"
        )
        return bool(bad) if tally.done else 2

    def _play(
        self, played: Theatre, every: list[CaseT], tally: Tally, seconds: float | None
    ) -> None:
        """Plays what has not been played until the time is over."""
        deadline = None if seconds is None else time.monotonic() + seconds
        left = [case for case in every if str(case) not in tally.done]
        with click.progressbar(left, label=self.name, file=sys.stderr, show_pos=True) as cases:
            for case in cases:
                if deadline is not None and time.monotonic() > deadline:
                    break
                try:
                    wrong = self.play(played, case)
                except NeverCameError:
                    tally.never_came += 1
                    continue
                tally.done[str(case)] = wrong
                for each in wrong:
                    print(f"WRONG {case}: {each}", flush=True)
                tally.save()
