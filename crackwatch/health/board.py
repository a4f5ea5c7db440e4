"""The problems that a station has right now; each clears by itself when its cause goes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

Severity = Literal["warning", "error"]


@dataclass(frozen=True, slots=True)
class Problem:
    """``code`` is stable, for scripts; ``message`` and ``remedy`` are for a person."""

    code: str
    severity: Severity
    message: str
    remedy: str
    since: datetime


class Board:
    """Problems by code, for any number of threads. ``on_change`` hears each that comes or goes."""

    def __init__(self, on_change: Callable[[Problem, bool], None] = lambda *_: None) -> None:
        self._lock = threading.Lock()
        self._problems: dict[str, Problem] = {}
        self._on_change = on_change

    def report(self, code: str, severity: Severity, message: str, remedy: str = "") -> None:
        """Puts a problem up, or renews its text; ``since`` stays that of its first report."""
        with self._lock:
            known = self._problems.get(code)
            since = known.since if known else datetime.now(UTC)
            problem = Problem(code, severity, message, remedy, since)
            self._problems[code] = problem
        if known is None:
            self._on_change(problem, True)

    def clear(self, code: str) -> None:
        """Takes a problem down; one that is not up is no matter."""
        with self._lock:
            problem = self._problems.pop(code, None)
        if problem is not None:
            self._on_change(problem, False)

    def clear_all(self, *codes: str) -> None:
        for code in codes:
            self.clear(code)

    def problems(self) -> tuple[Problem, ...]:
        """Errors before warnings, the oldest first."""
        with self._lock:
            found = list(self._problems.values())
        return tuple(sorted(found, key=lambda each: (each.severity != "error", each.since)))
