"""Claims about any order of events: what producers do, kills at any step, restarts, against a model.

The model knows which content came to rest under which name, and what its producer took away again.
$CRACKWATCH_FAULT_EXAMPLES says how many stories are tried; a failure prints how to tell it again.
"""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from tests.faults import actor, stage, tracing
from tests.faults.stage import SCENARIOS, Key, Scene
from tests.faults.sweep import Theatre, theatre
from tests.faults.tracing import Boundary
from tests.station import jpeg, rows

pytestmark = [
    pytest.mark.skipif(tracing.missing() is not None, reason=str(tracing.missing())),
    pytest.mark.xdist_group("faults"),
    pytest.mark.timeout(900),
]

_NAMES = st.sampled_from(["a.jpg", "b.jpg", "sub/a.jpg", "latin-\udcff.jpg", " (1).jpg"])
_CONTENTS = st.one_of(
    st.builds(jpeg, dark=st.booleans(), seed=st.integers(0, 5)),
    st.sampled_from([b"\xff\xd8 no picture \xff\xd9", b"text"]),
)
# where the steps of such a run lie; a number that is not reached lets it come to its end
_STEPS = st.one_of(
    st.builds(Boundary, st.just("pwrite64"), st.integers(1, 160)),
    st.builds(Boundary, st.just("fdatasync"), st.integers(1, 20)),
    st.builds(Boundary, st.just("renameat2"), st.integers(1, 6)),
    st.builds(Boundary, st.just("fsync"), st.integers(1, 12)),
    st.builds(Boundary, st.just("unlink"), st.integers(1, 20)),
    st.builds(Boundary, st.just("ftruncate"), st.integers(1, 16)),
    st.builds(Boundary, st.just("mkdir"), st.integers(3, 8)),
)


class Story(RuleBasedStateMachine):
    """One station's life; at its end everything has to be accounted for."""

    played: Theatre

    @initialize(scenario=st.sampled_from(sorted(SCENARIOS)))
    def begin(self, scenario: str) -> None:
        self.scene: Scene = self.played.stage.new(SCENARIOS[scenario])
        self.arrived: Counter[Key] = Counter()
        self.disturbed: set[Key] = set()
        self.standing: dict[str, bytes] = {}
        self.told: set[tuple[object, ...]] = set()

    @rule(name=_NAMES, data=_CONTENTS, moved_in=st.booleans())
    def put(self, name: str, data: bytes, moved_in: bool) -> None:
        self._take_from(name)
        path = self.scene.inbox / name
        path.parent.mkdir(exist_ok=True)
        if moved_in:
            partial = path.with_name("." + path.name)
            partial.write_bytes(data)
            partial.rename(path)
        else:
            path.write_bytes(data)
        self.arrived[stage.key_of(name, data)] += 1
        self.standing[name] = data

    @rule(name=_NAMES)
    def delete(self, name: str) -> None:
        self._take_from(name)
        with contextlib.suppress(FileNotFoundError):
            (self.scene.inbox / name).unlink()

    @rule(step=_STEPS)
    def killed(self, step: Boundary) -> None:
        tracing.run(actor.once(self.scene.config), inject=[step.inject()], said=self.scene.said)

    @rule(step=_STEPS, name=_NAMES, data=_CONTENTS)
    def meddled_with(self, step: Boundary, name: str, data: bytes) -> None:
        stopped = step.inject("signal=SIGSTOP")
        tracing.run(
            actor.once(self.scene.config),
            inject=[stopped],
            paused=lambda: self.put(name, data, moved_in=True),
            said=self.scene.said,
        )

    @rule()
    def runs_to_its_end(self) -> None:
        ended = tracing.run(actor.once(self.scene.config), said=self.scene.said)
        assert ended.status == 0, ended.said
        every = {
            (row["id"], row["source"], row["sha256"], row["outcome"], row["score"], row["reason"])
            for row in rows(self.scene.database)
        }
        assert self.told <= every, "a row that could be reported has changed or gone"
        self.told = every

    def teardown(self) -> None:
        if not hasattr(self, "scene"):
            return
        try:
            self.runs_to_its_end()
            found = stage.wrong(self.scene, self.arrived, disturbed=frozenset(self.disturbed))
            assert found == []
        finally:
            self.scene.remove()

    def _take_from(self, name: str) -> None:
        """What stands under a name, if it still does, is the producer's to change its mind about."""
        data = self.standing.pop(name, None)
        if data is not None and os.path.lexists(self.scene.inbox / name):
            self.disturbed.add(stage.key_of(name, data))


def test_whatever_happens_in_whatever_order_everything_is_accounted_for() -> None:
    memory = Path("/dev/shm")
    with theatre(folder=memory if memory.is_dir() else None) as played:
        Story.played = played
        case = Story.TestCase
        case.settings = settings(
            max_examples=int(os.environ.get("CRACKWATCH_FAULT_EXAMPLES", "3")),
            stateful_step_count=8,
            deadline=None,
            print_blob=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        case("runTest").runTest()
