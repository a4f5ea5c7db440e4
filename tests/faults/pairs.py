"""Two daemons on one station, in either order: one works, the other says why it does not."""

from __future__ import annotations

import random
import subprocess
import time

from crackwatch.errors import LockedError
from tests.faults import arriving, gauge
from tests.faults.arriving import Works
from tests.faults.gauge import Figure
from tests.test_daemon import COMMAND

_APART_S = 4.0  # the second begins while the first does, or when it is at work
_EACH = 10


def pairs(works: Works, times: int) -> list[Figure]:
    """So many pairs on one station, with pictures before, between and after their starts."""
    chance = random.Random(works.seed)
    station = works.station()
    producer = works.producer(station)
    found: list[str] = []
    won = [0, 0]
    for number in range(times):
        producer.drop(_EACH)
        apart_s = 0.0 if number % 4 == 0 else chance.uniform(0.0, _APART_S)
        with station.log.open("ab") as log:
            both: list[subprocess.Popen[bytes]] = []
            for index in range(2):
                if index:
                    time.sleep(apart_s)
                both.append(
                    subprocess.Popen(
                        [*COMMAND, "run", "--config", str(station.config)],
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=log,
                    )
                )
        try:
            producer.drop(_EACH)
            deadline = time.monotonic() + 120 * works.patience
            while all(each.poll() is None for each in both):
                if time.monotonic() > deadline:
                    found.append(f"pair {number}: both run")
                    break
                time.sleep(0.05)
            loser = next((index for index, each in enumerate(both) if each.poll() is not None), 1)
            winner = 1 - loser
            won[winner] += 1
            if both[loser].poll() != LockedError.exit_status:
                found.append(f"pair {number}: the other ended with {both[loser].poll()}")
            station.child = both[winner]
            producer.drop(_EACH)
            station.wait_until(lambda: station.count() >= len(producer.arrived), 120)
            ended, _ = station.stop()
            if ended:
                found.append(f"pair {number}: the one that ran ended with {ended}")
        finally:
            for each in both:
                if each.poll() is None:
                    each.kill()
                each.wait()
    return [
        Figure("pairs", times),
        Figure("of these the first ran", won[0]),
        Figure("of these the second ran", won[1]),
        *gauge.none_of("wrong ends", found),
        *gauge.none_of("missed, doubled or wrong", arriving.wrong(station, producer.arrived)),
    ]
