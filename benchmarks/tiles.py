"""How fast a station judges the tiles of photographs, beside the same tiles as single crops.

Photographs of 4000 x 3000 pixels, and each of their tiles saved as a JPEG of its own, go through
``crackwatch run --once`` in turns, whole processes with rows, hashes, syncs and moves; a third kind of
turn has an empty inbox, for what it takes to start. What is measured comes from the kernel, as in
``benchmarks/run.py``.

``python -m benchmarks.tiles --help``, from the top of a checkout.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import cv2
import numpy as np

from benchmarks.run import HERE, Bench, Cost, console, machine
from crackwatch import images
from crackwatch.images.photographs import Tiling, open_photograph
from tests.walls import wall

WIDTH, HEIGHT, OVERLAP, QUALITY = 4000, 3000, 64, 92
LIMITS = images.Limits(120_000_000, "tile")

PHOTOGRAPHS, CROPS, EMPTY = "photographs", "the same tiles as crops", "an empty inbox"


def draw(folder: Path, count: int) -> list[Path]:
    """Walls of drawn concrete, each turned and lit otherwise."""
    drawn = wall(WIDTH, HEIGHT)
    files = []
    for number in range(count):
        picture = drawn[:: 1 - number % 2 * 2, :: 1 - number // 2 % 2 * 2].astype(np.float32)
        lit = np.clip(picture * (0.9 + 0.02 * (number % 10)), 0, 255).astype(np.uint8)
        files.append(folder / f"{number:03}.jpg")
        files[-1].write_bytes(images.encode_jpeg(lit, QUALITY))
    return files


def cut(photographs: list[Path], folder: Path) -> list[Path]:
    """Each tile of each photograph as a file."""
    files = []
    for file in photographs:
        for numbers, tiles in open_photograph(file.read_bytes(), LIMITS, Tiling(OVERLAP)).tiles():
            for number, tile in zip(numbers.tolist(), tiles, strict=True):
                files.append(folder / f"{file.stem}-{number:03}.jpg")
                cv2.imwrite(str(files[-1]), tile, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    return files


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", type=int, default=12, help="photographs [default: 12]")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each kind [default: 3]")
    parser.add_argument(
        "--photographs", type=Path, help="a folder of JPEGs to take them from [default: drawn ones]"
    )
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix=".bench-", dir=HERE.parent) as scratch:
        root = Path(scratch)
        for name in ("photographs", "crops"):
            (root / name).mkdir()
        # elsewhere: a process that held pictures would leave its peak to those that it starts
        with ProcessPoolExecutor(1) as worker:
            if asked.photographs is None:
                photographs = worker.submit(draw, root / "photographs", asked.count).result()
            else:
                photographs = sorted(asked.photographs.glob("*.jpg"))[: asked.count]
            crops = worker.submit(cut, photographs, root / "crops").result()
        bench = Bench(root)
        bench.prepare()
        kinds = {PHOTOGRAPHS: photographs, CROPS: crops, EMPTY: []}
        costs: dict[str, list[Cost]] = {name: [] for name in kinds}
        for turn in range(asked.rounds):
            for name, pictures in kinds.items():
                console.print(f"turn {turn + 1}/{asked.rounds}: {name}", highlight=False)
                costs[name].append(bench.station(pictures))
    show(costs, len(photographs), len(crops))
    return 0


def show(costs: dict[str, list[Cost]], photographs: int, tiles: int) -> None:
    wall_s = {name: statistics.median(cost.wall_s for cost in each) for name, each in costs.items()}
    rate = {
        name: tiles / (wall_s[name] - wall_s[EMPTY]) for name in (PHOTOGRAPHS, CROPS)
    }  # of work, without the start
    known = machine()
    print(f"{known['processor']}, {known['cores']} cores; medians of {len(costs[EMPTY])} turns")
    for name, each in costs.items():
        walls = [cost.wall_s for cost in each]
        peak = max(cost.peak_rss_mib for cost in each)
        line = f"{name:<24}  {wall_s[name]:6.2f} s ({min(walls):.2f} to {max(walls):.2f})"
        if name in rate:
            line += f"  {rate[name]:6.0f} tiles/s"
        print(f"{line}  peak {peak:.0f} MiB")
    ratio = rate[PHOTOGRAPHS] / rate[CROPS]
    print(
        f"{photographs} photographs of {tiles // photographs} tiles: {ratio:.2f} times as many tiles "
        "a second as crops, the start left out of both"
    )


if __name__ == "__main__":
    sys.exit(main())
