"""Closes a batch by its size, by the age of its oldest picture, because no more are coming just now,
or because the rest is wanted at once.

Bounded by count and by bytes: when it is full it says no, and the files wait in the folder. Knows
arrivals and a clock that is handed in; no files, no model.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

from crackwatch.domain import Arrival, Batch


class BatchQueue:
    """Arrivals in, batches out, in the order in which they settled; for any number of threads.

    ``max_wait_s`` is how long the oldest arrival waits for company at most. It waits less where none
    comes: a batch closes ``quiet_s`` after its youngest arrival, so that pictures that trickle in are
    judged at once and those that pour in fill their batches; None: it waits for its full time.
    ``max_bytes`` bounds what ``cost_bytes`` says of the arrivals held. One arrival is always accepted,
    however big.
    """

    def __init__(
        self,
        *,
        max_size: int,
        max_wait_s: float,
        capacity: int,
        max_bytes: int,
        quiet_s: float | None = None,
        cost_bytes: Callable[[Arrival], int] = lambda arrival: arrival.fingerprint.size_bytes,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_size = max_size
        self._max_wait_s = max_wait_s
        self._capacity = max(capacity, 1)
        self._max_bytes = max_bytes
        self._quiet_s = max_wait_s if quiet_s is None else quiet_s
        self._cost_bytes = cost_bytes
        self._monotonic = monotonic
        self._changed = threading.Condition()
        self._waiting: deque[tuple[Arrival, float, int]] = deque()  # arrival, since, cost
        self._bytes = 0
        self._pressed = False  # an arrival had to be turned away since the last batch
        self._draining = False

    def __len__(self) -> int:
        with self._changed:
            return len(self._waiting)

    def put(self, arrival: Arrival, timeout_s: float = 0.0) -> bool:
        """Takes the arrival, or says no after ``timeout_s`` without room for it."""
        cost = self._cost_bytes(arrival)
        with self._changed:
            if not self._has_room(cost):
                self._pressed = True
                self._changed.notify_all()
            if not self._changed.wait_for(lambda: self._has_room(cost), timeout_s):
                return False
            self._waiting.append((arrival, self._monotonic(), cost))
            self._bytes += cost
            self._changed.notify_all()
            return True

    def take(self, timeout_s: float) -> Batch | None:
        """The next batch; None if none closed within ``timeout_s``.

        While draining, whatever is there closes at once, and an empty queue gives None at once.
        """
        deadline = self._monotonic() + timeout_s
        with self._changed:
            while True:
                why = self._closed_by()
                if why is not None:
                    return self._close(why)
                now = self._monotonic()
                if self._draining or now >= deadline:
                    return None
                until = deadline
                if self._waiting:
                    aged_s = self._waiting[0][1] + self._max_wait_s
                    until = min(until, aged_s, self._waiting[-1][1] + self._quiet_s)
                self._changed.wait(max(until - now, 0.0))

    def drain(self) -> None:
        """From now on nothing waits for company: for a stop, or the end of ``--once``."""
        with self._changed:
            self._draining = True
            self._changed.notify_all()

    def _has_room(self, cost: int) -> bool:
        if not self._waiting:
            return True
        return len(self._waiting) < self._capacity and self._bytes + cost <= self._max_bytes

    def _closed_by(self) -> str | None:
        if not self._waiting:
            return None
        if len(self._waiting) >= self._max_size:
            return "size"
        if self._draining:
            return "drain"
        now = self._monotonic()
        if now - self._waiting[0][1] >= self._max_wait_s:
            return "age"
        if now - self._waiting[-1][1] >= self._quiet_s:
            return "quiet"
        # nothing more will come while there is no room: waiting for company would be in vain
        full = self._bytes >= self._max_bytes or len(self._waiting) >= self._capacity
        return "size" if full or self._pressed else None

    def _close(self, why: str) -> Batch:
        taken = [self._waiting.popleft() for _ in range(min(self._max_size, len(self._waiting)))]
        self._bytes -= sum(cost for _, _, cost in taken)
        self._pressed = False
        self._changed.notify_all()
        return Batch(tuple(arrival for arrival, _, _ in taken), why)
