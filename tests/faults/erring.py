"""Errors of the system: each write, fsync, rename and open refused in turn, once and for a while.

``python -m tests.faults.erring --seconds N --seed S``. A case is written ``keep:renameat2#2:EIO:1``:
that call of the station fails with that error, it and as many as the last number says. The station
goes on by itself, or ends and is started again as a service manager would; nothing is quarantined,
lost, or done twice, and no thread dies of it.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.faults import actor, stage, tracing
from tests.faults.campaign import Campaign
from tests.faults.stage import BATCH, EARLIER, SCENARIOS
from tests.faults.sweep import NeverCameError, Theatre
from tests.faults.tracing import Boundary

ERRORS = ("ENOSPC", "EIO", "EAGAIN", "EACCES")
_TIMES = (1, 3)
_STARTS = 5  # a service manager would go on for ever
_INTERNAL = 70


@dataclass(frozen=True, slots=True)
class Case:
    """Which call fails, with what, and how many of its kind in a row."""

    scenario: str
    at: Boundary
    error: str
    times: int

    def __str__(self) -> str:
        return f"{self.scenario}:{self.at}:{self.error}:{self.times}"

    @classmethod
    def parse(cls, text: str) -> Case:
        scenario, at, error, times = text.split(":")
        return cls(scenario, Boundary.parse(at), error, int(times))


def play(played: Theatre, case: Case) -> list[str]:
    """What is wrong in the end; nothing, if all is well."""
    scenario = SCENARIOS[case.scenario]
    final = played.final(scenario)
    scene = played.stage.copy(played.prepared(scenario))
    last = f"..{case.at.number + case.times - 1}" if case.times > 1 else ""
    refusing = f"inject={case.at.call}:error={case.error}:when={case.at.number}{last}"
    found: list[str] = []
    try:
        work = actor.once(scene.config)
        trace = (*tracing.CHANGES, *tracing.OPENS)
        log = scene.other / "trace.log"
        ended = tracing.run(work, inject=[refusing], trace=trace, log=log, said=scene.said)
        if "(INJECTED)" not in log.read_text("utf-8", "replace"):
            raise NeverCameError(f"{case}: it never came to {case.at}")
        log.unlink()
        if ended.status == _INTERNAL or ended.status < 0 or "thread_died" in ended.said:
            found.append(f"it was not foreseen: {ended.said[-3000:]}")
        for _ in range(_STARTS):
            ended = tracing.run(work, said=scene.said)
            if ended.status == 0:
                break
        if ended.status:
            found.append(f"it does not start again: {ended.said[-2000:]}")
        found += stage.wrong(scene, stage.count(EARLIER, BATCH))
        if not found and stage.final(scene) != final:
            found.append(f"another final state: {set(stage.final(scene)) ^ set(final)}")
    except TimeoutError as exc:
        found.append(str(exc))
    finally:
        scene.remove()
    return found


def cases(played: Theatre, scenarios: list[str]) -> list[Case]:
    """Every call of every scenario with every error, alone and with those that follow it."""
    return [
        Case(scenario, at, error, times)
        for scenario in scenarios
        for at in played.boundaries(SCENARIOS[scenario], opens=True)
        for error in ERRORS
        for times in _TIMES
    ]


CAMPAIGN = Campaign("erring", __doc__, Case.parse, cases, play)


def main(arguments: list[str] | None = None) -> int:
    """The campaign's command."""
    return CAMPAIGN.main(arguments)


if __name__ == "__main__":
    raise SystemExit(main())
