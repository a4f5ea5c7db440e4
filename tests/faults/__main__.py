"""``make faults``: every campaign, one after another, short or long; the seed of each is printed.

``--minutes N`` is the time of all together. ``--long`` goes through every case of sweep, meddler and
erring, makes 1,000 kills over 20,000 pictures and 200 power cuts, and takes load and time to the
numbers that were promised; ``--done FOLDER`` remembers which of the cases were played.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from tests.faults import erring, load, meddler, power, storm, sweep

_UNPLAYED = 2  # as a campaign ends that had no time, or cannot trace here


def main() -> int:
    parser = argparse.ArgumentParser("python -m tests.faults", description=__doc__)
    parser.add_argument("--long", action="store_true")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=20_261_123)
    parser.add_argument("--done", type=Path, help="a folder; with it a sweep can be taken up again")
    parser.add_argument("--folder", type=Path, help="where stations are made")
    options = parser.parse_args()
    common = ["--seed", str(options.seed)]
    if options.folder:
        common += ["--folder", str(options.folder)]
    second = 60.0 * options.minutes

    def taken(name: str, share: float) -> list[str]:
        """How much of a campaign that knows its cases."""
        remembered = ["--done", str(options.done / f"{name}.json")] if options.done else []
        return [*remembered, *(["--all"] if options.long else ["--seconds", str(share * second)])]

    parts = [
        ("every boundary", sweep.main, taken("sweep", 0.25)),
        ("a sample with the real model", sweep.main, ["--real", *_sample(options.long, second)]),
        ("a producer at the worst moment", meddler.main, taken("meddler", 0.1)),
        ("errors", erring.main, taken("erring", 0.1)),
        ("power cuts", power.main, ["--cuts", "200" if options.long else "25"]),
        (
            "random kills",
            storm.main,
            ["--kills", "1000", "--pictures", "20000"] if options.long else [],
        ),
        *(
            (f"random kills, {name}", storm.main, ["--scenario", name, *_few(options.long)])
            for name in ("keep", "delete")
        ),
        (
            "load and time",
            load.main,
            ["--long"] if options.long else ["--minutes", str(0.25 * options.minutes)],
        ),
    ]
    if options.done:
        options.done.mkdir(parents=True, exist_ok=True)
    ended: dict[int, list[str]] = {}
    for name, part, arguments in parts:
        print(f"--- {name}", flush=True)
        ended.setdefault(part([*arguments, *common]), []).append(name)
    if _UNPLAYED in ended:
        print(f"not played: {', '.join(ended[_UNPLAYED])}")
    bad = [name for status in ended for name in ended[status] if status not in (0, _UNPLAYED)]
    print(f"red: {', '.join(bad)}" if bad else "green, what was played")
    return bool(bad)


def _few(long: bool) -> list[str]:
    return (
        ["--kills", "200", "--pictures", "4000"] if long else ["--kills", "5", "--pictures", "100"]
    )


def _sample(long: bool, second: float) -> list[str]:
    return ["--seconds", str(1800.0 if long else 0.1 * second), "--no-recoveries"]


if __name__ == "__main__":
    raise SystemExit(main())
