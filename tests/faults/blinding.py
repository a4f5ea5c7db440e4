"""A watcher that dies, in each way that it can: noticed, rebuilt, and nothing missed.

As a program (``python -m tests.faults.blinding run --config FILE``) it is the real daemon with one
thing more: a signal kills its watcher in the way that $CRACKWATCH_TEST_BLIND names. The inbox is
looked through once an hour, so that only a watcher that was built again finds what arrives.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from crackwatch.arrivals.watcher import Watcher
from tests.faults import arriving, gauge
from tests.faults.arriving import Producer, Works
from tests.faults.deaths import DEATHS
from tests.faults.gauge import Figure
from tests.test_daemon import Process

_NOTICED_S = 10.0


def blinded(works: Works, times: int) -> list[Figure]:
    """Every death ``times`` over, and the folder renamed and made anew as often."""
    longest: dict[str, float] = {}
    found: list[str] = []
    for death in DEATHS:
        station, producer = _station(works, death)
        for _ in range(times):
            _lives(station, producer)
            assert station.child is not None
            station.child.send_signal(signal.SIGUSR1)
            if death == "a handler raises":
                producer.drop(1)  # the event that it raises at
            took_s = _seen_again(station, producer)
            longest[death] = max(longest.get(death, 0.0), took_s)
        found += _ended(station, producer)
    death = "the folder is renamed and made anew"
    station, producer = _station(works, "the dispatcher's thread ends")
    for index in range(times):
        _lives(station, producer)
        station.wait_until(lambda: not any(station.inbox.glob("*.jpg")))
        station.inbox.rename(station.root / f"away-{index}")
        station.inbox.mkdir()
        arriving.ask_init(station)
        longest[death] = max(longest.get(death, 0.0), _seen_again(station, producer))
    found += _ended(station, producer)
    return [
        *(Figure(f"{death}: until judged again", s, _NOTICED_S, "s") for death, s in longest.items()),
        *gauge.none_of("missed, doubled or wrong", found),
    ]  # fmt: skip


def _station(works: Works, death: str) -> tuple[Process, Producer]:
    station = works.station(watch__rescan_s=3600.0, files__normal="archive")
    station.command = [sys.executable, "-m", "tests.faults.blinding"]
    root = Path(__file__).resolve().parents[2]
    path = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH", "")]))
    station.start(CRACKWATCH_TEST_BLIND=death, PYTHONPATH=path)
    return station, works.producer(station)


def _lives(station: Process, producer: Producer) -> None:
    """It is sound, and by an event: no scan is due."""
    station.wait_until(lambda: station.status()["observer"] == "inotify")
    producer.drop(3)
    station.wait_until(lambda: station.count() >= len(producer.arrived))


def _seen_again(station: Process, producer: Producer) -> float:
    """Seconds until pictures that came to a blind station, and after that others, had their rows."""
    began = time.monotonic()
    producer.drop(3)
    station.wait_until(lambda: station.count() >= len(producer.arrived), 60)
    took_s = time.monotonic() - began
    producer.drop(3)
    station.wait_until(lambda: station.count() >= len(producer.arrived), 60)
    return took_s


def _ended(station: Process, producer: Producer) -> list[str]:
    found = []
    if not arriving.named(station, "watcher_lost"):
        found.append("no word of a lost watcher in the log")
    ended, _ = station.stop()
    if ended:
        found.append(f"the daemon ended with {ended}")
    return found + arriving.wrong(station, producer.arrived)


def main() -> None:
    """The daemon's own command line, and SIGUSR1."""
    from crackwatch.cli import main as crackwatch

    listening: list[Watcher] = []
    begin = Watcher.start

    def start(self: Watcher) -> None:
        begin(self)
        listening.append(self)

    def kill(_number: int, _frame: object) -> None:
        DEATHS[os.environ["CRACKWATCH_TEST_BLIND"]](listening[-1])

    Watcher.start = start  # type: ignore[method-assign]
    signal.signal(signal.SIGUSR1, kill)
    crackwatch()


if __name__ == "__main__":
    main()
