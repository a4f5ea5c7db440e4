"""Whether reads that fail are one file's affair or the whole disk's; counts only, touches no disk.

While other files can be read, one that cannot be must not keep them waiting. Where nothing can be
read, the disk is at fault: the station pauses, and does not wear it out by trying file after file.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

from crackwatch.domain import Arrival, Fingerprint
from crackwatch.errors import ReadFault

_TRIES = 3  # of a batch of which nothing can be read, with a pause after each but the last
_MORE_TRIES, _MOST_TRIES = 2, 9  # more for each such batch in a row: two minutes in the end
_ENOUGH = 3  # files that fail before any was read: the rest need not be tried this time
_REMEMBERED_MAX = 10_000


class Reads:
    """Of batch after batch: ``begin``, then ``read`` or ``failed`` by any thread, then ``judge``.

    ``fault`` is set from the first batch of which nothing could be read until something was.
    """

    def __init__(self) -> None:
        self.fault: ReadFault | None = None
        self._lock = threading.Lock()
        self._arrivals: Sequence[Arrival] = ()
        self._tried = 0
        self._dead_batches = 0  # in a row
        self._failed_before: dict[bytes, Fingerprint] = {}
        self._count_read = 0
        self._failures: list[tuple[Arrival, ReadFault]] = []

    def begin(self, arrivals: Sequence[Arrival]) -> None:
        """The same arrivals as before: they are tried again."""
        with self._lock:
            if arrivals is not self._arrivals:
                self._arrivals, self._tried = arrivals, 0
            self._count_read = 0
            self._failures = []

    def read(self, arrival: Arrival) -> None:
        with self._lock:
            self._count_read += 1
            self._failed_before.pop(arrival.source, None)

    def failed(self, arrival: Arrival, fault: ReadFault) -> None:
        """Raises ``fault`` where that is enough for this time."""
        with self._lock:
            self._failures.append((arrival, fault))
            if len(self._failures) >= _ENOUGH:
                self._pause_if_dead()

    def judge(self) -> None:
        """All have been tried. Raises ReadFault where the station has to pause, and try them again.

        Else those that failed are to wait, each by itself, and the others go on.
        """
        with self._lock:
            if self._count_read:
                self.fault, self._dead_batches = None, 0
            if not self._failures:
                return
            self._pause_if_dead()
            if not self._count_read and self._any_fresh():
                self._dead_batches += 1
            if len(self._failed_before) > _REMEMBERED_MAX:
                self._failed_before.clear()
            for arrival, _ in self._failures:
                self._failed_before[arrival.source] = arrival.fingerprint

    def forget(self) -> None:
        """Nothing that failed is there any more."""
        with self._lock:
            self.fault, self._dead_batches = None, 0
            self._failed_before.clear()

    def _pause_if_dead(self) -> None:
        # files that failed before prove nothing new: they have had their pauses
        if self._count_read or not self._any_fresh():
            return
        self.fault = self._failures[0][1]
        if self._tried + 1 < min(_TRIES + _MORE_TRIES * self._dead_batches, _MOST_TRIES):
            self._tried += 1
            raise self.fault

    def _any_fresh(self) -> bool:
        return any(
            self._failed_before.get(arrival.source) != arrival.fingerprint
            for arrival, _ in self._failures
        )
