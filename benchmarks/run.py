"""Compares two ways of judging the same pictures, side by side: the notebook's, and a station's.

Both are whole processes, from start to end, with the model that the package ships. They take turns,
so that a machine that is busy or warms up is so for both. What is measured comes from the kernel
(``wait4``): wall time, processor time of all threads and children, largest resident memory. The
station records, hashes, syncs and moves on top; its folders are made, and the pictures copied into
its inbox and synced, before the clock starts. Pictures are in the page cache for both.

``make bench``, or ``python benchmarks/run.py --help``.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import platform
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import metadata
from itertools import repeat
from pathlib import Path

import cv2
import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from crackwatch import packaged, synthetic

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results.json"
PYTHON = sys.executable

CRACK_EVERY = 30  # drawn pictures: about as rare as in the notebook's own data
SIDE = 227  # the notebook's array holds pictures of this size and no other
LIBRARIES = ("keras", "numpy", "opencv-python-headless", "openvino", "tensorflow")

NOTEBOOK, STATION = "notebook's way", "crackwatch run --once"

console = Console(stderr=True)


@dataclass(frozen=True, slots=True)
class Cost:
    """What one process took, children included."""

    wall_s: float
    cpu_s: float
    peak_rss_mib: float


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--count", type=int, default=2_000, help="pictures [default: 2000]")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each way [default: 3]")
    parser.add_argument(
        "--pictures", type=Path, help="a folder of photographs, 227 x 227 [default: drawn ones]"
    )
    parser.add_argument(
        "--output", type=Path, default=RESULTS, help="where to write every run, as JSON"
    )
    arguments = parser.parse_args()
    if arguments.count < 1 or arguments.rounds < 1:
        parser.error("--count and --rounds are at least 1")

    # beside the checkout's own disk, not in a /tmp that may be memory
    with tempfile.TemporaryDirectory(prefix=".bench-", dir=HERE.parent) as folder:
        bench = Bench(Path(folder))
        try:
            pictures = bench.take(arguments.pictures, arguments.count)
        except ValueError as exc:
            parser.error(str(exc))
        bench.prepare()
        costs: dict[str, list[Cost]] = {NOTEBOOK: [], STATION: []}
        ways = [(NOTEBOOK, bench.notebook), (STATION, bench.station)]
        for turn in range(arguments.rounds):
            for name, way in ways if turn % 2 == 0 else reversed(ways):
                console.print(f"turn {turn + 1}/{arguments.rounds}: {name}", highlight=False)
                costs[name].append(way(pictures))
        agreement = bench.compare(pictures)

    show(costs, len(pictures), agreement)
    document = {
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "pictures": {"count": len(pictures), "drawn": arguments.pictures is None},
        "agreement": agreement,
        "runs": {name: [asdict(cost) for cost in each] for name, each in costs.items()},
    }
    arguments.output.write_text(json.dumps(document, indent=2) + "\n", "utf-8")
    print(f"\nEvery run: {os.path.relpath(arguments.output)}")
    return 0 if agreement["flipped"] == 0 else 1


class Bench:
    """The folders of one comparison, below ``root``."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._template = root / "template"
        self._scores = root / "scores.npy"
        self._judged: dict[str, float] = {}
        # settings of another station in this shell must not leak into this one
        self._environment = {
            key: value for key, value in os.environ.items() if not key.startswith("CRACKWATCH_")
        }

    # ---------------------------------------------------------------------------- pictures

    def take(self, folder: Path | None, count: int) -> list[Path]:
        """``count`` pictures, each under a name of its own, in a folder of ours."""
        taken = self._root / "pictures"
        taken.mkdir()
        if folder is None:
            seeds = range(count)
            with ProcessPoolExecutor() as workers:
                drawn = workers.map(draw, seeds, repeat(taken), chunksize=16)
                return list(track(drawn, "drawing", total=count, console=console, transient=True))
        found = sorted(each for each in folder.rglob("*") if each.suffix.lower() == ".jpg")
        if len(found) < count:
            raise ValueError(f"{folder} holds {len(found):,} .jpg files, not {count:,}")
        chosen = random.Random(1).sample(found, count)
        if cv2.imread(str(chosen[0])).shape != (SIDE, SIDE, 3):
            raise ValueError(f"{chosen[0]}: the notebook's way needs pictures of {SIDE} x {SIDE}")
        copies = []
        for number, source in enumerate(chosen):
            copies.append(taken / f"{number:06}-{source.name}")
            shutil.copyfile(source, copies[-1])
        return copies

    # ------------------------------------------------------------------------- the two ways

    def prepare(self) -> None:
        self._crackwatch("init", str(self._template))

    def notebook(self, pictures: Sequence[Path]) -> Cost:
        files = self._root / "files.txt"
        files.write_text("".join(f"{each}\n" for each in pictures), "utf-8")
        model = packaged.starter() / "lenet.keras"
        return self._measure(PYTHON, HERE / "notebook_way.py", model, files, self._scores)

    def station(self, pictures: Sequence[Path]) -> Cost:
        with self._station(pictures) as config:
            cost = self._measure(PYTHON, "-m", "crackwatch", "run", "--once", "--config", config)
            report = self._crackwatch("report", "--format", "csv", "--config", config)
            self._judged = {
                row["source"]: float(row["score"]) for row in csv.DictReader(io.StringIO(report))
            }
            audit = json.loads(self._crackwatch("audit", "--format", "json", "--config", config))
            if len(self._judged) != len(pictures) or not audit["ok"]:
                raise RuntimeError("the station did not judge every picture: no figures from this")
            return cost

    @contextmanager
    def _station(self, pictures: Sequence[Path]) -> Iterator[str]:
        """A station of its own with the pictures in its inbox; yields its config.toml."""
        station = self._root / "station"
        shutil.copytree(self._template, station)
        for picture in pictures:
            shutil.copyfile(picture, station / "inbox" / picture.name)
        os.sync()  # writing them to disk was the camera's work
        try:
            yield str(station / "config.toml")
        finally:
            shutil.rmtree(station)

    # ----------------------------------------------------------------------------- the rest

    def compare(self, pictures: Sequence[Path]) -> dict[str, float | int]:
        """How far the two ways' scores are apart, and how many verdicts differ."""
        card = json.loads((packaged.starter() / "card.json").read_text("utf-8"))
        threshold = card["threshold"]["value"]
        ours = np.array([self._judged[each.name] for each in pictures])
        theirs = np.load(self._scores).astype(np.float64)
        return {
            "anomalies": int(np.count_nonzero(ours >= threshold)),
            "largest_difference": float(np.max(np.abs(ours - theirs))),
            "flipped": int(np.count_nonzero((ours >= threshold) != (theirs >= threshold))),
        }

    def _crackwatch(self, *arguments: str) -> str:
        return subprocess.run(
            [PYTHON, "-m", "crackwatch", *arguments],
            env=self._environment,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        ).stdout

    def _measure(self, *command: str | Path) -> Cost:
        log = self._root / "log.txt"
        with log.open("wb") as output:
            began = time.perf_counter()
            process = subprocess.Popen(
                command, env=self._environment, stdout=output, stderr=subprocess.STDOUT
            )
            _, status, usage = os.wait4(process.pid, 0)
            wall_s = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)  # it has been waited for
        if process.returncode != 0:
            told = log.read_text("utf-8", "replace")[-4000:]
            raise RuntimeError(f"{command[1:3]} ended with status {process.returncode}:\n{told}")
        return Cost(wall_s, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def draw(seed: int, folder: Path) -> Path:
    """One drawn picture as a JPEG."""
    file = folder / f"{seed:06}.jpg"
    picture = synthetic.draw(seed, crack=seed % CRACK_EVERY == 0)
    cv2.imwrite(str(file), picture, [cv2.IMWRITE_JPEG_QUALITY, 92])
    return file


def machine() -> dict[str, object]:
    """What a reader has to know to compare figures."""
    processor = platform.processor()
    for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
        if line.startswith("model name"):
            processor = line.partition(":")[2].strip()
            break
    return {
        "processor": processor,
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "libraries": {name: metadata.version(name) for name in LIBRARIES},
    }


def show(costs: dict[str, list[Cost]], count: int, agreement: dict[str, float | int]) -> None:
    """Medians, the spread of the wall time, and how many times less the station takes."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(f"{count:,} pictures, median of {len(costs[STATION])}")
    for column in ("wall s", "(min to max)", "images/s", "CPU s", "CPU ms/image", "peak MiB"):
        table.add_column(column, justify="right")
    medians = {}
    for name, each in costs.items():
        walls = [cost.wall_s for cost in each]
        median = Cost(
            statistics.median(walls),
            statistics.median(cost.cpu_s for cost in each),
            statistics.median(cost.peak_rss_mib for cost in each),
        )
        medians[name] = median
        table.add_row(
            name,
            f"{median.wall_s:.1f}",
            f"({min(walls):.1f} to {max(walls):.1f})",
            f"{count / median.wall_s:,.0f}",
            f"{median.cpu_s:.1f}",
            f"{median.cpu_s / count * 1e3:.2f}",
            f"{median.peak_rss_mib:,.0f}",
        )
    theirs, ours = medians[NOTEBOOK], medians[STATION]
    table.add_row(
        "times less",
        f"{theirs.wall_s / ours.wall_s:.1f}",
        "",
        "",
        f"{theirs.cpu_s / ours.cpu_s:.1f}",
        f"{theirs.cpu_s / ours.cpu_s:.1f}",
        f"{theirs.peak_rss_mib / ours.peak_rss_mib:.1f}",
    )
    Console(width=max(110, Console().width)).print(table)
    print(
        f"\nBoth judged the same pictures with the same model: {agreement['anomalies']} anomalies, "
        f"{agreement['flipped']} verdicts differ, scores by at most "
        f"{agreement['largest_difference']:.1g}."
    )


if __name__ == "__main__":
    sys.exit(main())
