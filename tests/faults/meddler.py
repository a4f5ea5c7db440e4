"""A producer at the worst moment: the station is stopped at each step while its inbox is changed.

``python -m tests.faults.meddler --seconds N --seed S`` stops a station (SIGSTOP) right after a step
drawn from the seed, does to its files what a producer or a person may do, lets it go on, and looks
at what became of them. A case is written ``keep:renameat2#2:replace:c.jpg``; ``--case`` plays it
again. No content that came to rest may be lost, doubled or overwritten, whatever its name.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.faults import actor, stage, tracing
from tests.faults.campaign import Campaign
from tests.faults.stage import BATCH, EARLIER, SCENARIOS, Scene
from tests.faults.sweep import NeverCameError, Theatre
from tests.faults.tracing import Boundary
from tests.station import jpeg

_NEW = jpeg(dark=True, seed=201)
_PERSONS = b"a person's file, in a folder that crackwatch fills"

# What a producer does to NAME of the inbox; `plant` is a person's file in the flagged folder.
DEEDS = ("replace", "rewrite", "delete", "plant")


@dataclass(frozen=True, slots=True)
class Case:
    """At which step, and what is done then to the picture of that name."""

    scenario: str
    at: Boundary
    deed: str
    name: str

    def __str__(self) -> str:
        return f"{self.scenario}:{self.at}:{self.deed}:{self.name}"

    @classmethod
    def parse(cls, text: str) -> Case:
        scenario, at, deed, name = text.split(":", 3)
        return cls(scenario, Boundary.parse(at), deed, name)


def play(played: Theatre, case: Case) -> list[str]:
    """What is wrong in the end; nothing, if all is well."""
    scene = played.stage.copy(played.prepared(SCENARIOS[case.scenario]))
    arrived = stage.count(EARLIER, BATCH)
    old = stage.key_of(case.name, BATCH[case.name])
    disturbed = frozenset({old}) if case.deed != "plant" else frozenset()
    persons: list[Path] = []
    met: list[bool] = []

    def meddle() -> None:
        met.append(True)
        if case.deed == "plant":
            persons.append(_plant(scene, case.name))
            return
        path = scene.inbox / case.name
        if case.deed == "delete":
            path.unlink(missing_ok=True)
            return
        arrived[stage.key_of(case.name, _NEW)] += 1
        path.parent.mkdir(exist_ok=True)
        if case.deed == "rewrite":
            path.write_bytes(_NEW)
        else:
            partial = path.with_name("." + path.name)
            partial.write_bytes(_NEW)
            partial.rename(path)

    try:
        stop = case.at.inject("signal=SIGSTOP")
        work = actor.once(scene.config, plant=played.plant)
        tracing.run(work, inject=[stop], paused=meddle, said=scene.said)
        if not met:
            raise NeverCameError(f"{case}: it never came to {case.at}")
        ended = tracing.run(actor.once(scene.config, plant=played.plant), said=scene.said)
        found = stage.wrong(scene, arrived, disturbed=disturbed, foreign=frozenset(persons))
        found += [f"overwritten: {path}" for path in persons if path.read_bytes() != _PERSONS]
        if ended.status:
            found.append(f"the next run ended with {ended.status}: {ended.said[-2000:]}")
    except TimeoutError as exc:
        found = [str(exc)]
    finally:
        scene.remove()
    return found


def _plant(scene: Scene, name: str) -> Path:
    """Puts a person's file where the station would next move that picture, or just beside it."""
    flagged = scene.folder("flagged")
    day = next(path for path in sorted(flagged.iterdir()) if path.is_dir())
    path = day / name
    path.parent.mkdir(exist_ok=True)
    while True:
        try:
            with path.open("xb") as file:
                file.write(_PERSONS)
        except FileExistsError:
            path = path.with_name(f"{path.stem} of a person{path.suffix}")
        else:
            return path


def cases(played: Theatre, scenarios: list[str]) -> list[Case]:
    """Every step of every scenario with every deed on every picture."""
    names = [name for name in BATCH if name not in ("again.jpg", "changed.jpg")]
    return [
        Case(scenario, at, deed, name)
        for scenario in scenarios
        for at in played.boundaries(SCENARIOS[scenario])
        for deed in DEEDS
        for name in names
    ]


CAMPAIGN = Campaign("meddler", __doc__, Case.parse, cases, play)


def main(arguments: list[str] | None = None) -> int:
    """The campaign's command."""
    return CAMPAIGN.main(arguments)


if __name__ == "__main__":
    raise SystemExit(main())
