"""Tells the service's watchdog that the station gets on; knows nothing of what its threads do.

systemd restarts a service with WatchdogSec= that has not said WATCHDOG=1 for so long,
sd_watchdog_enabled(3). Here that is said only while each thread that has to get on has done
something lately: inspected, looked, or tested again whether the cause of a pause is gone.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

from crackwatch.health.notify import notify


def watchdog_interval_s(environment: Mapping[str, str], pid: int) -> float | None:
    """How often at least the service manager wants to hear of process ``pid``; None: never."""
    try:
        wanted_us = int(environment.get("WATCHDOG_USEC", ""))
        whom = int(environment.get("WATCHDOG_PID", str(pid)))
    except ValueError:
        return None
    return wanted_us / 1e6 if wanted_us > 0 and whom == pid else None


class Pulse:
    """``beat`` by any thread; ``tell`` by one, often. A part counts from its first beat on."""

    def __init__(
        self,
        interval_s: float | None,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        say: Callable[[str], None] = notify,
    ) -> None:
        self._interval_s = interval_s
        self._monotonic = monotonic
        self._say = say
        self._lock = threading.Lock()
        self._beats: dict[str, float] = {}
        self._next_s = 0.0

    def beat(self, part: str) -> None:
        """``part`` has done something, or tried to."""
        with self._lock:
            self._beats[part] = self._monotonic()

    def ended(self, part: str) -> None:
        """``part`` has nothing more to do, and need not be heard of."""
        with self._lock:
            self._beats.pop(part, None)

    def silent(self) -> tuple[str, ...]:
        """The parts that have done nothing for half of the interval."""
        if self._interval_s is None:
            return ()
        with self._lock:
            before_s = self._monotonic() - self._interval_s / 2
            return tuple(sorted(part for part, at_s in self._beats.items() if at_s < before_s))

    def tell(self) -> None:
        """Says WATCHDOG=1, a few times an interval, unless a part is silent."""
        now = self._monotonic()
        if self._interval_s is None or now < self._next_s or self.silent():
            return
        self._next_s = now + self._interval_s / 8
        self._say("WATCHDOG=1")
