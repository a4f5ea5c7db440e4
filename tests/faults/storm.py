"""SIGKILL at random moments, while a producer goes on writing, renaming in, overwriting, deleting.

``python -m tests.faults.storm --kills N --pictures M --seed S`` runs the whole daemon, its threads
and watchers among it, over pictures each of which has content of its own; so that a picture that is
lost, or has two rows, can be told by its hash. What the producer overwrote or deleted itself may have
one row or none. The moments depend on the machine: the seed replays the producer and the pauses, not
the last microsecond.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import signal
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from crackwatch import images
from tests.faults import actor, stage, tracing
from tests.faults.stage import SCENARIOS, Key, Scene
from tests.faults.sweep import theatre
from tests.station import rows

_SETTLES_S = 120.0


@dataclass
class Producer:
    """Puts pictures into an inbox in every way there is, and remembers what came to rest."""

    scene: Scene
    chance: random.Random
    arrived: Counter[Key] = field(default_factory=Counter)
    disturbed: set[Key] = field(default_factory=set)
    standing: list[tuple[str, bytes]] = field(default_factory=list)  # put there, not touched since
    made: int = 0

    def act(self) -> None:
        """One deed: mostly a new picture, now and then something done to an earlier one."""
        what = self.chance.random()
        if what < 0.88 or not self.standing:
            self._new(f"{self.chance.choice(('', 'a/', 'b/'))}{self.made:06}.jpg")
            return
        name, old = self.standing.pop(self.chance.randrange(len(self.standing)))
        self.disturbed.add(stage.key_of(name, old))
        if what < 0.94:
            self._new(name)
        else:
            with contextlib.suppress(FileNotFoundError):
                (self.scene.inbox / name).unlink()

    def _new(self, name: str) -> None:
        data = self._picture()
        path = self.scene.inbox / name
        path.parent.mkdir(exist_ok=True)
        if self.chance.random() < 0.5:  # written in two pieces under its own name
            with path.open("wb") as file:
                file.write(data[: len(data) // 2])
                file.flush()
                file.write(data[len(data) // 2 :])
        else:
            partial = path.with_name(f".{path.name}.part")
            partial.write_bytes(data)
            partial.rename(path)
        self.arrived[stage.key_of(name, data)] += 1
        self.standing.append((name, data))

    def _picture(self) -> bytes:
        """Never the same twice; every fifth dark, every fortieth no picture at all."""
        self.made += 1
        if self.made % 40 == 0:
            return b"\xff\xd8 no picture %d \xff\xd9" % self.made
        level = 40 if self.made % 5 == 0 else 200
        flat = np.full((227, 227, 3), level, np.uint8)
        flat[:8, :64] = np.frombuffer(self.made.to_bytes(8, "big") * 192, np.uint8).reshape(
            8, 64, 3
        )
        return images.encode_jpeg(flat, 90) + b"%d\xff\xd9" % self.made


@dataclass(frozen=True, slots=True)
class Aftermath:
    """``kills`` met a living station; ``rows_before`` had been recorded before the last start."""

    wrong: list[str]
    kills: int
    rows_before: int
    rows: int


def storm(
    scene: Scene, *, kills: int, pictures: int, seed: int, longest_life_s: float = 2.0
) -> Aftermath:
    """Kills a station so many times, starts it once more, and looks at what became of everything."""
    chance = random.Random(seed)
    producer = Producer(scene, random.Random(seed + 1))
    each_life = max(1, pictures // kills)
    landed = 0
    for _ in range(kills):
        lives_s = chance.uniform(0.0, longest_life_s)
        ended = tracing.run(
            actor.forever(scene.config),
            beside=lambda lives_s=lives_s: _life(producer, each_life, lives_s),  # type: ignore[misc]  # bound at once
            said=scene.said,
        )
        landed += ended.status == -signal.SIGKILL
    before = len(rows(scene.database))
    ended = tracing.run(actor.once(scene.config), said=scene.said, timeout_s=_SETTLES_S)
    found = stage.wrong(scene, producer.arrived, disturbed=frozenset(producer.disturbed))
    if ended.status:
        found.append(f"the last start ended with {ended.status}: {ended.said[-2000:]}")
    return Aftermath(found, landed, before, len(rows(scene.database)))


def _life(producer: Producer, deeds: int, lives_s: float) -> None:
    """What the producer does in one life of the station, and how long that lasts."""
    until = time.monotonic() + lives_s
    for left in range(deeds, 0, -1):
        producer.act()
        time.sleep(max(0.0, min(0.05, (until - time.monotonic()) / left)))
    time.sleep(max(0.0, until - time.monotonic()))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m tests.faults.storm", description=__doc__)
    parser.add_argument("--kills", type=int, default=25)
    parser.add_argument("--pictures", type=int, default=500)
    parser.add_argument("--seed", type=int, default=20_261_123)
    parser.add_argument("--scenario", choices=SCENARIOS, default="archive")
    parser.add_argument("--longest-life-s", type=float, default=2.0)
    parser.add_argument("--folder", type=Path, help="where the station is made")
    options = parser.parse_args(arguments)
    with theatre(folder=options.folder) as played:
        scene = played.stage.new(SCENARIOS[options.scenario])
        left = storm(
            scene,
            kills=options.kills,
            pictures=options.pictures,
            seed=options.seed,
            longest_life_s=options.longest_life_s,
        )
    for each in left.wrong:
        print(f"WRONG: {each}")
    print(
        f"seed {options.seed}: {left.kills} kills, {left.rows} rows, {left.rows_before} of them "
        f"before the last start, {len(left.wrong)} wrong"
    )
    return bool(left.wrong)


if __name__ == "__main__":
    raise SystemExit(main())
