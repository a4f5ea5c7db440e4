"""Power cuts: the disk as it may be after one, at every moment of a station's run, and its restart.

``python -m tests.faults.power --cuts N --seed S`` traces one undisturbed run of each scenario with
all data, replays it up to a moment drawn from the seed, drops what was not synced by then (pictures,
renames, the database's own writes) and starts the station on what is left. A case is written
``keep:431:7``: after so many calls, and the seed of what is dropped.
"""

from __future__ import annotations

import os
import random
import re
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.faults import actor, disk, stage, tracing
from tests.faults.stage import BATCH, SCENARIOS, Scene
from tests.faults.sweep import NeverCameError, Theatre, again, parser_of, theatre
from tests.station import rows

_COMMITTED = re.compile(rb"committed (\d+)\n")


@dataclass(frozen=True, slots=True)
class Case:
    scenario: str
    calls: int
    seed: int

    def __str__(self) -> str:
        return f"{self.scenario}:{self.calls}:{self.seed}"

    @classmethod
    def parse(cls, text: str) -> Case:
        scenario, calls, seed = text.split(":")
        return cls(scenario, int(calls), int(seed))


class Run:
    """One undisturbed run, every call of it known; ``length`` is how many there were."""

    def __init__(self, played: Theatre, scenario: str) -> None:
        self._played = played
        self._before = played.prepared(SCENARIOS[scenario])
        self._scene = played.stage.copy(self._before)
        log, shown = self._scene.other / "trace.log", self._scene.other / "shown"
        # before anything is written: what the producer left unsynced is known by its name
        self._start = self._taken_in()
        ended = tracing.run(
            actor.once(self._scene.config, plant=played.plant, shown=shown),
            trace=(*tracing.CHANGES, *tracing.OPENS),
            log=log,
            whole=True,
            said=self._scene.said,
        )
        if ended.status:
            raise RuntimeError(f"{scenario} goes wrong undisturbed: {ended.said}")
        self.calls = list(disk.read(log))
        self._shown = str(shown)
        self._rows = rows(self._scene.database)

    @property
    def length(self) -> int:
        return len(self.calls)

    def cut(self, case: Case, chance: random.Random | None = None) -> list[str]:
        """What is wrong after the power came back; nothing, if all is well.

        ``chance`` decides what is dropped; by default the case's own seed.
        """
        if case.calls > self.length:
            raise NeverCameError(f"{case}: the run has {self.length} calls")
        forgetful = self._loaded_again()
        committed = 0
        for done in self.calls[: case.calls]:
            if done.paths and done.paths[0] == self._shown:
                for match in _COMMITTED.finditer(done.data):
                    committed = int(match[1])
            forgetful.do(done)
        left = forgetful.cut(chance or random.Random(case.seed))
        scene = self._played.stage.empty(self._scene.scenario)
        try:
            left.write({str(a): str(b) for a, b in zip(self._roots(), _roots(scene), strict=True)})
            scene.write_config()
            return self._after(scene, committed)
        finally:
            scene.remove()

    def _after(self, scene: Scene, committed: int) -> list[str]:
        try:
            ended = tracing.run(actor.once(scene.config, plant=self._played.plant), said=scene.said)
        except TimeoutError as exc:
            return [str(exc)]
        if ended.status:
            return [f"the station ended with {ended.status}: {ended.said[-2000:]}"]
        every = rows(scene.database)
        found = {row["id"]: _told(row) for row in every}
        problems = [
            f"forgotten: row {row['id']} had been shown"
            for row in self._rows
            if (row["batch_id"] or 0) <= committed and found.get(row["id"]) != _told(row)
        ]
        arrived = Counter({stage.key_of_row(row): 1 for row in every})
        return problems + stage.wrong(scene, arrived)

    def _taken_in(self) -> list[tuple[bool, Path, bytes | None, int]]:
        """Durable or not, path, data of a file, its time."""
        # `changed.jpg` was synced by who replaced it: of what it was nothing is left to fall back to
        fresh = {str(self._scene.inbox / name) for name in BATCH if name != "changed.jpg"}
        fresh.add(str(self._scene.inbox / "sub"))
        return [
            (
                str(path) not in fresh,
                path,
                path.read_bytes() if path.is_file() else None,
                path.stat().st_mtime_ns,
            )
            for root in self._roots()
            for path in _everything(root)
        ]

    def _loaded_again(self) -> disk.Disk:
        made = disk.Disk(self._roots())
        for durable, path, data, mtime_ns in self._start:
            made.load(durable, str(path), data, mtime_ns)
        return made

    def _roots(self) -> tuple[Path, Path]:
        return _roots(self._scene)


def _roots(scene: Scene) -> tuple[Path, Path]:
    return scene.root, scene.other


def _everything(root: Path) -> list[Path]:
    found = [root]
    for at, folders, names in os.walk(root):
        found += [Path(at) / name for name in (*sorted(folders), *names)]
    return found


def _told(row: dict[str, Any]) -> tuple[object, ...]:
    """What a report has said of a row, which may never be said otherwise."""
    return tuple(row[key] for key in ("source", "sha256", "outcome", "score", "reason", "place"))


def main(arguments: list[str] | None = None) -> int:
    parser = parser_of("power", __doc__)
    parser.add_argument("--cuts", type=int, default=200)
    options = parser.parse_args(arguments)
    why_not = tracing.missing()
    if why_not:
        print(why_not, file=sys.stderr)
        return 2
    chance = random.Random(options.seed)
    with theatre(folder=options.folder) as played:
        if options.case:
            return again(
                options.case, Case.parse, lambda case: Run(played, case.scenario).cut(case)
            )
        runs = {name: Run(played, name) for name in options.scenario or SCENARIOS}
        cases = [
            Case(name, chance.randint(0, runs[name].length), chance.randrange(10**9))
            for name in (chance.choice(sorted(runs)) for _ in range(options.cuts))
        ]
        bad = 0
        for case in cases:
            wrong = runs[case.scenario].cut(case)
            bad += bool(wrong)
            for each in wrong:
                print(f"WRONG {case}: {each}", flush=True)
    print(f"seed {options.seed}: {len(cases)} power cuts, {bad} wrong")
    return bool(bad)


if __name__ == "__main__":
    raise SystemExit(main())
