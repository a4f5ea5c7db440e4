"""Figures of a running process, and figures held against what was promised.

Reads /proc; knows nothing of stations. Memory is what only this process holds (RssAnon): pages of
files that it mapped are the kernel's to take back.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from types import TracebackType

_SAMPLE_S = 0.05
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Figure:
    """Something measured; ``most`` is the highest value that is good, None where nothing is asked."""

    what: str
    found: float
    most: float | None = None
    unit: str = ""

    @property
    def good(self) -> bool:
        return self.most is None or self.found <= self.most


def none_of(what: str, wrong: list[str]) -> list[Figure]:
    """A figure for things that must not be; the first few are told."""
    for each in wrong[:10]:
        print(f"WRONG: {each}", flush=True)
    return [Figure(what, len(wrong), 0)]


def show(case: str, figures: Iterable[Figure]) -> bool:
    """Prints a table and one line of JSON; whether all are good."""
    figures = list(figures)
    for each in figures:
        asked = "" if each.most is None else f"at most {each.most:,.6g}"
        mark = "     " if each.most is None else "good " if each.good else "MISS "
        print(f"{mark} {each.what:<58} {each.found:>14,.6g} {each.unit:<8} {asked}")
    good = all(each.good for each in figures)
    found = {each.what: round(each.found, 4) for each in figures}
    print(
        json.dumps({"case": case, "good": good, "load": os.getloadavg()[0], "figures": found}),
        flush=True,
    )
    return good


def anonymous_bytes(pid: int) -> int:
    """What the process holds for itself. Raises OSError where it is gone."""
    with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as lines:
        for line in lines:
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
    return 0


def processor_s(pid: int) -> float:
    """Processor time that it has used, its children's left out. Raises OSError where it is gone."""
    with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


@dataclass
class Watched:
    """Samples a process's memory while a block runs: ``samples`` are (monotonic s, bytes)."""

    pid: int
    samples: list[tuple[float, int]] = field(default_factory=list)

    def __enter__(self) -> Watched:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, at: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(_SAMPLE_S):
            try:
                self.samples.append((time.monotonic(), anonymous_bytes(self.pid)))
            except OSError:
                return

    @property
    def most_bytes(self) -> int:
        return max((size for _, size in self.samples), default=0)

    def quarter_bytes(self, number: int) -> float:
        """The middle of the samples of the first, second, third or fourth quarter of the time."""
        began, ended = self.samples[0][0], self.samples[-1][0]
        length = (ended - began) / 4
        sizes = sorted(
            size
            for at, size in self.samples
            if began + (number - 1) * length <= at <= began + number * length
        )
        return sizes[len(sizes) // 2] if sizes else 0.0
