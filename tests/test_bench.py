"""The benchmark is a program like any other: it runs, and it holds both ways to the same scores."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.timeout(300)
def test_both_ways_judge_alike_and_every_run_is_written_down(tmp_path: Path) -> None:
    output = tmp_path / "results.json"
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "run.py", "--count", "4", "--rounds", "1",
         "--output", output],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads(output.read_text())
    assert results["agreement"]["flipped"] == 0
    assert results["agreement"]["largest_difference"] <= 1e-4
    assert results["pictures"] == {"count": 4, "drawn": True}
    runs = results["runs"]
    assert set(runs) == {"notebook's way", "crackwatch run --once"}
    for (run,) in runs.values():
        assert run["wall_s"] > 0.2
        assert run["cpu_s"] > 0.2
        assert run["peak_rss_mib"] > 50


def test_too_few_pictures_are_refused(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "run.py", "--pictures", tmp_path],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 2
    assert "0 .jpg files, not 2,000" in done.stderr


@pytest.mark.timeout(300)
def test_tiles_and_crops_are_measured_side_by_side() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.tiles", "--count", "1", "--rounds", "1"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rates = [float(rate) for rate in re.findall(r"([\d.]+) tiles/s", done.stdout)]
    ratio = float(re.findall(r"([\d.]+) times as many", done.stdout)[0])
    assert len(rates) == 2 and min(rates) > 1
    assert ratio == pytest.approx(rates[0] / rates[1], abs=0.02)
    assert "1 photographs of 475 tiles" in done.stdout
