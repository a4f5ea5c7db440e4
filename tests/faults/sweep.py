"""Every boundary: a station killed at each step, and again at each step of the recovery from it.

``python -m tests.faults.sweep --all`` goes through every case and remembers in ``--done FILE`` what
it has done, so that it can be ended and taken up at any time; ``--seconds N --seed S`` takes as many
as time allows, in an order drawn from the seed, and names what it did not cover. A case is written
``keep:renameat2#2`` or, with a second kill in the recovery, ``keep:renameat2#2/fdatasync#1``, and
``--case`` plays just that one again. Exits with 1 if anything was lost, doubled or misplaced, with 2
if nothing could be played.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from tests.faults import actor, stage, tracing
from tests.faults.stage import BATCH, EARLIER, SCENARIOS, Line, Scenario, Scene, Stage
from tests.faults.tracing import Boundary, Call

_MEMORY = Path("/dev/shm")

CaseT = TypeVar("CaseT")


@dataclass(frozen=True, slots=True)
class Case:
    """A scenario and where it is killed: in the first run, and perhaps in the recovery."""

    scenario: str
    kills: tuple[Boundary, ...]

    def __str__(self) -> str:
        return f"{self.scenario}:" + "/".join(map(str, self.kills))

    @classmethod
    def parse(cls, text: str) -> Case:
        scenario, _, kills = text.partition(":")
        return cls(scenario, tuple(map(Boundary.parse, kills.split("/"))))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a case. ``state`` is a hash of what the last kill left, None if none came."""

    case: Case
    wrong: tuple[str, ...]
    state: str | None


class NeverCameError(Exception):
    """The step at which something was to happen was never taken: the case proves nothing."""


class Theatre:
    """Plays cases: a scene for each scenario is prepared once, then copied.

    With ``real`` each start is `crackwatch run --once` as anybody types it, model and threads and
    all; ``plant`` is then not possible.
    """

    def __init__(self, set_up: Stage, plant: str = "", *, real: bool = False) -> None:
        self._stage = set_up
        self._real = real
        self.plant = plant
        self._prepared: dict[str, Scene] = {}
        self._finals: dict[str, list[Line]] = {}

    @property
    def stage(self) -> Stage:
        return self._stage

    def prepared(self, scenario: Scenario) -> Scene:
        """A scene whose batch waits in the inbox, and which had a life before; never run."""
        if scenario.name not in self._prepared:
            scene = self._stage.new(scenario)
            stage.fill(scene, EARLIER, age=0)
            ended = tracing.run(self._sound(scene), said=scene.said)
            found = stage.wrong(scene, stage.count(EARLIER))
            if ended.status or found:
                raise RuntimeError(f"{scenario.name} cannot be prepared: {found} {ended.said}")
            stage.fill(scene, BATCH, age=1)
            self._prepared[scenario.name] = scene
        return self._prepared[scenario.name]

    def final(self, scenario: Scenario) -> list[Line]:
        """The books of a station that nobody disturbs: where every case has to end."""
        if scenario.name not in self._finals:
            scene = self._stage.copy(self.prepared(scenario))
            ended = tracing.run(self._sound(scene), said=scene.said)
            found = stage.wrong(scene, stage.count(EARLIER, BATCH))
            if ended.status or found:
                raise RuntimeError(f"{scenario.name} goes wrong undisturbed: {found} {ended.said}")
            self._finals[scenario.name] = stage.final(scene)
            scene.remove()
        return self._finals[scenario.name]

    def boundaries(
        self, scenario: Scenario, after: tuple[Boundary, ...] = (), *, opens: bool = False
    ) -> list[Boundary]:
        """Every step of a run that is left alone, or of the recovery after these kills."""
        return [call.boundary for call in self.calls(scenario, after, opens=opens)]

    def calls(
        self, scenario: Scenario, after: tuple[Boundary, ...] = (), *, opens: bool = False
    ) -> list[Call]:
        """The same, with what each call was given; nothing but the station's own folders."""
        scene = self._stage.copy(self.prepared(scenario))
        log = scene.other / "trace.log"
        try:
            for kill in after:
                self._run(scene, kill)
            trace = (*tracing.CHANGES, *(tracing.OPENS if opens else ()))
            tracing.run(self._work(scene), log=log, trace=trace, said=scene.said)
            roots = (scene.root, scene.other)
            return [
                call
                for call in tracing.calls(log, threads=self._real)
                if call.touches(roots) and str(scene.said) not in call.rest
            ]
        finally:
            scene.remove()

    def play(self, case: Case) -> Outcome:
        """Kills where the case says, lets the station recover, and looks at what became of it.

        Raises NeverCameError where the station ended before it came to a step of the case.
        """
        scenario = SCENARIOS[case.scenario]
        final = self.final(scenario)
        scene = self._stage.copy(self.prepared(scenario))
        state = None
        try:
            for kill in case.kills:
                if not self._run(scene, kill):
                    raise NeverCameError(f"{case}: it never came to {kill}")
                state = stage.state_hash(scene)
            ended = tracing.run(self._work(scene), said=scene.said)
            found = stage.wrong(scene, stage.count(EARLIER, BATCH))
            if ended.status:
                found.append(f"the recovery ended with {ended.status}: {ended.said[-2000:]}")
            if not found and stage.final(scene) != final:
                found.append(f"another final state: {_difference(final, stage.final(scene))}")
        except TimeoutError as exc:
            found = [str(exc)]
        finally:
            scene.remove()
        return Outcome(case, tuple(found), state)

    def _run(self, scene: Scene, kill: Boundary) -> bool:
        ended = tracing.run(
            self._work(scene), inject=[kill.inject()], trace=tracing.CHANGES, said=scene.said
        )
        return ended.status == -signal.SIGKILL

    def _work(self, scene: Scene) -> actor.Work:
        return actor.once(scene.config, plant=self.plant) if self.plant else self._sound(scene)

    def _sound(self, scene: Scene) -> actor.Work:
        if not self._real:
            return actor.once(scene.config)
        command = [sys.executable, "-m", "crackwatch", "run", "--once"]
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
        return actor.command([*command, "--config", str(scene.config)], environment)


@dataclass
class Tally:
    """How far a sweep has come; kept in a file, so that it can be taken up again."""

    file: Path | None
    done: dict[str, list[str]] = field(default_factory=dict)  # case: what was wrong
    states: dict[str, str] = field(
        default_factory=dict
    )  # scenario:hash: the case that left it first
    never_came: int = 0  # cases whose step the station did not come to, this time

    @classmethod
    def load(cls, file: Path | None) -> Tally:
        if file is None or not file.exists():
            return cls(file)
        document = json.loads(file.read_text("utf-8"))
        return cls(file, document["done"], document["states"])

    def save(self) -> None:
        if self.file is not None:
            partial = self.file.with_name(self.file.name + ".part")
            partial.write_text(json.dumps({"done": self.done, "states": self.states}, indent=0))
            partial.replace(self.file)


def sweep(
    theatre: Theatre,
    scenarios: list[Scenario],
    tally: Tally,
    *,
    seconds: float | None,
    chance: random.Random,
    recoveries: bool = True,
    stop_at_first: bool = False,
) -> list[str]:
    """Plays what has not been played; the cases that time did not allow, by name.

    A recovery is gone through once for each distinct state that a first kill leaves.
    """
    deadline = None if seconds is None else time.monotonic() + seconds
    waiting: list[tuple[Scenario, Case]] = []
    for scenario in scenarios:
        cases = [Case(scenario.name, (each,)) for each in theatre.boundaries(scenario)]
        waiting += [(scenario, case) for case in cases]
    chance.shuffle(waiting)
    opened: list[tuple[Scenario, tuple[Boundary, ...]]] = []  # states whose recovery is to be swept
    for name in tally.states.values():
        case = Case.parse(name)
        opened.append((SCENARIOS[case.scenario], case.kills))
    while waiting or (recoveries and opened):
        if deadline is not None and time.monotonic() > deadline:
            break
        if opened and recoveries and (not waiting or chance.random() < 0.5):
            scenario, kills = opened.pop(chance.randrange(len(opened)))
            second = theatre.boundaries(scenario, kills)
            more = [(scenario, Case(scenario.name, (*kills, each))) for each in second]
            chance.shuffle(more)
            waiting += more
            continue
        scenario, case = waiting.pop(chance.randrange(len(waiting)) if seconds else 0)
        if str(case) in tally.done:
            continue
        try:
            outcome = theatre.play(case)
        except NeverCameError:
            tally.never_came += 1
            continue
        tally.done[str(case)] = list(outcome.wrong)
        for each in outcome.wrong:
            print(f"WRONG {case}: {each}", flush=True)
        if outcome.wrong and stop_at_first:
            break
        key = f"{scenario.name}:{outcome.state}"
        if len(case.kills) == 1 and outcome.state is not None and key not in tally.states:
            tally.states[key] = str(case)
            opened.append((scenario, case.kills))
        tally.save()
    left = [str(case) for _, case in waiting if str(case) not in tally.done]
    if recoveries:
        left += [f"every recovery after {Case(s.name, kills)}" for s, kills in opened]
    return left


@contextmanager
def theatre(folder: Path | None = None, *, real: bool = False) -> Iterator[Theatre]:
    """A theatre in a temporary folder; its second file system is in memory where there is one."""
    with tempfile.TemporaryDirectory(prefix="crackwatch-faults-", dir=folder) as root:
        second = _MEMORY if os.access(_MEMORY, os.W_OK) else Path(root)
        if second.stat().st_dev == Path(root).stat().st_dev:
            second = Path(tempfile.gettempdir())
        with tempfile.TemporaryDirectory(prefix="crackwatch-faults-", dir=second) as other:
            models = _starter(Path(root) / "starter") if real else None
            yield Theatre(Stage(Path(root), Path(other), models), real=real)


def _starter(station: Path) -> Path:
    """A models folder as `init` makes it: in a process of its own, as it starts threads."""
    subprocess.run(
        [sys.executable, "-m", "crackwatch", "init", str(station)], check=True, capture_output=True
    )
    return station / "models"


def _difference(wanted: list[Line], found: list[Line]) -> str:
    lost = [line for line in wanted if line not in found]
    new = [line for line in found if line not in wanted]
    return f"{lost} became {new}"


def parser_of(name: str, about: str | None) -> argparse.ArgumentParser:
    """The options that every campaign has which plays cases."""
    parser = argparse.ArgumentParser(f"python -m tests.faults.{name}", description=about)
    parser.add_argument("--seed", type=int, default=20_261_123)
    parser.add_argument("--case", help="play one case again")
    parser.add_argument("--scenario", choices=SCENARIOS, action="append")
    parser.add_argument(
        "--folder", type=Path, help="where stations are made; a disk in memory is quick"
    )
    return parser


def parser_of_many(name: str, about: str | None) -> argparse.ArgumentParser:
    """The same, and those of a campaign of more cases than one has time for."""
    parser = parser_of(name, about)
    parser.add_argument("--all", action="store_true", help="every case, however long it takes")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--done", type=Path, help="a file that remembers what was done")
    return parser


def again(text: str, parse: Callable[[str], CaseT], play: Callable[[CaseT], list[str]]) -> int:
    """Plays one case that was printed once; the exit status."""
    try:
        case = parse(text)
        wrong = play(case)
    except NeverCameError as exc:
        print(f"{exc}, so nothing is proved: the numbers of steps change with the code")
        return 2
    except (ValueError, KeyError, StopIteration):
        print(f"{text!r} is no case: they are written as docs/reliability.md has them")
        return 2
    print(f"{case}: {'; '.join(wrong) or 'as it must be'}")
    return bool(wrong)


def in_ranges(cases: Sequence[str]) -> list[str]:
    """Cases by name, those that differ in the number of their last step in one line."""
    numbers: dict[str, list[int]] = {}
    for each in cases:
        call, _, number = each.rpartition("#")
        numbers.setdefault(call, []).append(int(number))
    lines = []
    for call, found in sorted(numbers.items()):
        spans: list[list[int]] = []
        for number in sorted(found):
            if spans and number == spans[-1][1] + 1:
                spans[-1][1] = number
            else:
                spans.append([number, number])
        words = [f"{a}" if a == b else f"{a}-{b}" for a, b in spans]
        lines.append(f"{call}#{' '.join(words)}")
    return lines


def main(arguments: list[str] | None = None) -> int:
    parser = parser_of_many("sweep", __doc__)
    parser.add_argument(
        "--real", action="store_true", help="the whole program with its model; kills in any thread"
    )
    parser.add_argument("--no-recoveries", action="store_true", help="only kills in the first run")
    options = parser.parse_args(arguments)
    why_not = tracing.missing()
    if why_not:
        print(why_not, file=sys.stderr)
        return 2
    with theatre(options.folder, real=options.real) as played:
        if options.case:
            return again(options.case, Case.parse, lambda case: list(played.play(case).wrong))
        tally = Tally.load(options.done)
        before = len(tally.done)
        began = time.monotonic()
        left = sweep(
            played,
            [SCENARIOS[name] for name in options.scenario or SCENARIOS],
            tally,
            seconds=None if options.all else options.seconds,
            chance=random.Random(options.seed),
            recoveries=not options.no_recoveries,
        )
    bad = [case for case, wrong in tally.done.items() if wrong]
    if left and len(tally.done) == before:
        print("no case was played: give it more time", file=sys.stderr)
        return 2
    for line in in_ranges(left):
        print(f"not covered: {line}")
    print(
        f"seed {options.seed}: {len(tally.done) - before} cases in {time.monotonic() - began:.0f} s, "
        f"{len(tally.done)} in all, {len(tally.states)} distinct states, {len(bad)} wrong, "
        f"{len(left)} not covered, {tally.never_came} never came to their step"
    )
    return bool(bad)


if __name__ == "__main__":
    raise SystemExit(main())
