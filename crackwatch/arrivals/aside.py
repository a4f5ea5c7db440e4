"""Files that the disk does not give: when each is tried again, and what is told of it.

They wait beside the gate, so that however many they are, there is room for others. Knows no disk.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from crackwatch.arrivals.gate import Candidate
from crackwatch.domain import Fingerprint

TELLING_TRIES = 3  # one that fails as often is told of
_FIRST_PAUSE_S = 1.0
_MOST = 1000


@dataclass(frozen=True, slots=True)
class _Failure:
    fingerprint: Fingerprint | None
    times: int
    why: str


class Aside:
    """Used under the intake's lock."""

    def __init__(self) -> None:
        self._failures: dict[bytes, _Failure] = {}  # of files in flight as well
        self._waiting: dict[bytes, Candidate] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> Iterator[Candidate]:
        return iter(self._waiting.values())

    def get(self, source: bytes) -> Candidate | None:
        return self._waiting.get(source)

    def put(self, candidate: Candidate, why: str, now_s: float, most_s: float) -> bool:
        """Sets the candidate's next look: each time twice as late, ``most_s`` from now at most.

        False where there is no room: it has to wait among the others.
        """
        source = candidate.source
        before = self._failures.get(source)
        if before is None and len(self._failures) >= _MOST:
            candidate.next_look_s = now_s + most_s
            return False
        same = before is not None and before.fingerprint == candidate.fingerprint
        times = before.times + 1 if before is not None and same else 1
        self._failures[source] = _Failure(candidate.fingerprint, times, why)
        candidate.next_look_s = now_s + min(_FIRST_PAUSE_S * 2.0 ** min(times - 1, 30), most_s)
        self._waiting[source] = candidate
        return True

    def take(self, source: bytes) -> None:
        """It is being read again."""
        self._waiting.pop(source, None)

    def over(self, source: bytes) -> None:
        """It has been read, or is gone."""
        self._waiting.pop(source, None)
        self._failures.pop(source, None)

    def hurry(self, now_s: float) -> None:
        """Whatever was wrong may be over: all are due."""
        for candidate in self._waiting.values():
            candidate.next_look_s = min(candidate.next_look_s, now_s)

    @property
    def undecided(self) -> bool:
        """Whether some have not failed often enough to be told of."""
        return any(each.times < TELLING_TRIES for each in self._failures.values())

    def told(self) -> list[tuple[bytes, str]]:
        """Those that failed again and again, and why."""
        return [
            (source, each.why)
            for source, each in sorted(self._failures.items())
            if each.times >= TELLING_TRIES
        ]

    @property
    def empty(self) -> bool:
        return not self._failures
