"""A day's arrivals as quickly as the station takes them, and everything that people do beside it."""

from __future__ import annotations

import json
import random
import sqlite3
import subprocess
import threading
import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field

from tests.faults import arriving, gauge
from tests.faults.arriving import Works
from tests.faults.gauge import Figure, Watched
from tests.labelled import draw
from tests.test_daemon import COMMAND, Process

_AHEAD = 400  # pictures that wait in the inbox at most: a day has no bursts
_STALLED_S = 300.0
_ENOUGH = 10_000  # from which on a process's memory has settled before the second quarter
_GROWS_AT_MOST = 1.03
_LOCKED = ("locked", "SQLITE_BUSY")


@dataclass
class People:
    """Ask and label, one command after another, while the station works."""

    station: Process
    seed: int
    done: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    lock_errors: int = 0

    def __enter__(self) -> People:
        self._stop = threading.Event()
        self._chance = random.Random(self.seed)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        deeds = (self._status, self._report, self._review, self._review, self._backup)
        number = 0
        while not self._stop.wait(0.5):
            deeds[number % len(deeds)]()
            number += 1

    def _status(self) -> None:
        self.heard("status", arriving.ask(self.station, "status", "--format", "json"))

    def _report(self) -> None:
        asked = ("report", "--since", "yesterday", "--format", "json")
        self.heard("report", arriving.ask(self.station, *asked))

    def _review(self) -> None:
        with closing(
            sqlite3.connect(f"{self.station.database.as_uri()}?mode=ro", uri=True)
        ) as books:
            row = books.execute(
                "SELECT id FROM inspections WHERE filed_at IS NOT NULL "
                "ORDER BY id DESC LIMIT 1 OFFSET ?",
                (self._chance.randrange(200),),
            ).fetchone()
        if row is not None:
            label = self._chance.choice(("ok", "crack"))
            asked = ("review", "mark", str(row[0]), label, "--by", "anna")
            self.heard("review", arriving.ask(self.station, *asked))

    def _backup(self) -> None:
        file = self.station.root / f"backup-{self.done['db backup']}.db"
        self.heard("db backup", arriving.ask(self.station, "db", "backup", file))
        file.unlink(missing_ok=True)

    def heard(
        self, what: str, done: subprocess.CompletedProcess[str], good: tuple[int, ...] = (0,)
    ) -> None:
        self.done[what] += 1
        said = done.stderr + done.stdout
        if done.returncode not in good:
            self.wrong.append(f"{what} exits {done.returncode}: {said[-500:]}")
            self.lock_errors += any(word in said for word in _LOCKED)


def day(works: Works, pictures: int, *, retrain: bool) -> list[Figure]:
    """So many arrivals with reviews, reports, status and backups beside; ``retrain``: once a model."""
    station = works.station()
    labelled = station.root / "labelled"
    if retrain:
        draw(labelled, 60, 80)
    station.start()
    assert station.child is not None
    producer = works.producer(station)
    training: subprocess.Popen[str] | None = None
    began = last_s = time.monotonic()
    with Watched(station.child.pid) as memory, People(station, works.seed) as people:
        recorded = 0
        while recorded < pictures:
            now = station.count()
            if now > recorded:
                recorded, last_s = now, time.monotonic()
            assert time.monotonic() - last_s < _STALLED_S * works.patience, "nothing is recorded"
            producer.drop(min(recorded + _AHEAD, pictures) - len(producer.arrived))
            if retrain and training is None and recorded >= pictures // 3:
                training = _begin_training(station, str(labelled))
            time.sleep(0.1)
        arrivals_s = time.monotonic() - began
        if training is not None:
            out, err = training.communicate(timeout=3600)
            done = subprocess.CompletedProcess(training.args, training.returncode, out, err)
            people.heard("retrain", done, good=(0, 1))  # 1: the champion stays
    ended, _ = station.stop()
    people.lock_errors += sum(
        "locked" in str(each.get("code")) and each["event"] == "problem"
        for each in arriving.logged(station)
    )
    found = arriving.wrong(station, producer.arrived)
    found += [f"the daemon ended with {ended}"] if ended else []
    second, last = memory.quarter_bytes(2), memory.quarter_bytes(4)
    print(json.dumps({"beside": dict(people.done)}))
    return [
        Figure("arrivals", pictures),
        Figure("arrivals a second", pictures / arrivals_s),
        Figure("commands beside", sum(people.done.values())),
        Figure("lock errors", people.lock_errors, 0),
        *gauge.none_of("commands that failed", people.wrong),
        Figure("memory in the second quarter", second / 1e6, unit="MB"),
        Figure(
            "memory in the last quarter, times that",
            last / second,
            _GROWS_AT_MOST if pictures >= _ENOUGH else None,
        ),
        *gauge.none_of("missed, doubled or wrong", found),
    ]


def _begin_training(station: Process, labelled: str) -> subprocess.Popen[str]:
    command = [*COMMAND, "retrain", "--config", str(station.config), "--data", labelled]
    return subprocess.Popen(
        [*command, "--quick", "--epochs", "1", "--format", "json"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
