"""Load and time: real daemons, real folders, real signals; figures held against what was promised.

``python -m tests.faults.load --case burst --pictures 2000 --seed 1`` plays one case, and without
``--case`` each of them. ``--long`` takes the numbers of the promises: hours. ``--minutes N`` begins
no case after so many, in an order that the seed draws. Prints a table and a line of JSON for each
case; the exit status is 1 where a figure was missed.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults import blinding, bursts, days, gauge, kept, outages, pairs
from tests.faults.arriving import Works, works
from tests.faults.gauge import Figure


class Length:
    """How far each case goes; an option that was given wins over the form's own number."""

    def __init__(self, given: argparse.Namespace) -> None:
        self._given = given

    def __call__(self, option: str, short: float, long: float) -> float:
        value = getattr(self._given, option)
        return float(value if value is not None else long if self._given.long else short)


CASES: dict[str, Callable[[Works, Length], list[Figure]]] = {
    "burst": lambda works, of: bursts.burst(works, int(of("pictures", 2_000, 200_000))),
    "slow-file": lambda works, of: bursts.slow_file(works, of("seconds", 40, 3600)),
    "kept": lambda works, of: kept.kept(
        works, int(of("kept", 20_000, 1_000_000)), of("seconds", 60, 60)
    ),
    "unmounted": lambda works, of: outages.unmounted(works, int(of("times", 2, 20))),
    "deleted": lambda works, of: outages.deleted(works, int(of("times", 2, 20))),
    "clock": lambda works, of: outages.clock(works, int(of("times", 1, 10))),
    "locked": lambda works, of: outages.locked(works, of("seconds", 15, 60)),
    "blinded": lambda works, of: blinding.blinded(works, int(of("times", 1, 20))),
    "pairs": lambda works, of: pairs.pairs(works, int(of("times", 4, 50))),
    "day": lambda works, of: days.day(
        works, int(of("pictures", 1_500, 100_000)), retrain=of("retrain", 0, 1) > 0
    ),
}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m tests.faults.load", description=__doc__)
    parser.add_argument("--case", choices=CASES, action="append", help="default: each of them")
    parser.add_argument("--long", action="store_true", help="the numbers of the promises")
    parser.add_argument("--pictures", type=int, help="of burst and day")
    parser.add_argument("--kept", type=int, help="files of kept")
    parser.add_argument("--seconds", type=float, help="of slow-file, locked; at rest in kept")
    parser.add_argument("--times", type=int, help="of the others")
    parser.add_argument("--retrain", type=int, choices=(0, 1), help="whether day trains a model")
    parser.add_argument(
        "--minutes", type=float, help="begin no case after so many; in a drawn order"
    )
    parser.add_argument("--seed", type=int, default=20_261_123)
    parser.add_argument(
        "--patience", type=float, default=1.0, help="on a busy machine: wait longer"
    )
    parser.add_argument("--folder", type=Path, help="where stations are made")
    options = parser.parse_args(arguments)
    wanted = options.case or list(CASES)
    if options.minutes is not None:
        random.Random(options.seed).shuffle(wanted)
    began, missed, left_out = time.monotonic(), [], []
    with works(options.folder, options.seed, options.patience) as made:
        for name in wanted:
            spent = (time.monotonic() - began) / 60
            if options.minutes is not None and spent > options.minutes:
                left_out.append(name)
                continue
            print(f"--- {name}, seed {options.seed}", flush=True)
            try:
                figures = CASES[name](made, Length(options))
            except pytest.skip.Exception as why:
                print(f"left out: {why}")
                left_out.append(name)
                continue
            except AssertionError as exc:  # something was waited for in vain: the log is in it
                print(f"WRONG: {name}: {exc}")
                missed.append(name)
                continue
            finally:
                made.clear()
            if not gauge.show(name, figures):
                missed.append(name)
    if left_out:
        print(f"left out: {', '.join(left_out)}")
    print(f"missed: {', '.join(missed)}" if missed else "every figure that was taken is good")
    return bool(missed)


if __name__ == "__main__":
    raise SystemExit(main())
