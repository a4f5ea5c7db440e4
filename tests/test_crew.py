"""Trainings side by side: the same bits however they are run, nothing lost, nobody left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crackwatch.dataset import PixelCache
from crackwatch.errors import TrainingFailed
from crackwatch.training import crew
from crackwatch.training.crew import Job, Outcome
from crackwatch.training.recipes import STATION
from tests.labelled import Silent

pytestmark = [pytest.mark.timeout(300), pytest.mark.xdist_group("training")]  # see test_cli_retrain

RECIPE = replace(STATION, epochs=5, averaged_from=0.5)
LABELS = (np.arange(48) % 2).astype(np.int8)


@pytest.fixture(scope="module")
def pixels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PixelCache]:
    """Noise; the odd ones are brighter."""
    cache = PixelCache(48, tmp_path_factory.mktemp("pixels"))
    random = np.random.default_rng(0)
    for slot in range(48):
        noise = random.integers(0, 150 + 80 * int(LABELS[slot]), (227, 227, 3))
        cache.put(slot, noise.astype(np.uint8))
    yield cache
    cache.close()


def job(name: str, seed: int = 5) -> Job:
    return Job(name, RECIPE, seed, LABELS, np.arange(36), np.arange(36, 48))


@dataclass(frozen=True)
class Together:
    """What two trainings came to, side by side, and the folder that they worked in."""

    outcomes: dict[str, Outcome]
    folder: Path


@pytest.fixture(scope="module")
def together(pixels: PixelCache, tmp_path_factory: pytest.TempPathFactory) -> Together:
    folder = tmp_path_factory.mktemp("crew") / "two\nlines"
    jobs = [job("one"), job("seed", 6)]
    return Together(crew.run(jobs, folder, pixels.descriptor, 9, Silent()), folder)


def test_a_folder_may_have_any_name_and_more_workers_than_jobs_do_no_harm(
    together: Together,
) -> None:
    assert all(outcome.model.is_file() for outcome in together.outcomes.values())
    assert len(list(together.folder.glob("worker-*.log"))) == 2


def process_of(log: Path) -> int:
    """The pid of the process whose standard error is ``log``."""
    for link in Path("/proc").glob("[0-9]*/fd/2"):
        with contextlib.suppress(OSError):
            if link.resolve() == log.resolve():
                return int(link.parts[2])
    raise AssertionError(f"nobody writes {log}")


def test_jobs_give_the_same_bits_side_by_side_one_after_another_killed_and_interrupted(
    together: Together, pixels: PixelCache, tmp_path: Path
) -> None:
    reference = together.outcomes["one"].logits
    assert not np.array_equal(reference, together.outcomes["seed"].logits)
    assert reference[LABELS[36:] == 1].mean() > reference[LABELS[36:] == 0].mean()
    jobs = [job("one"), job("other")]

    class Killing(Silent):
        def epoch(self, job: str, epoch: Mapping[str, Any]) -> None:
            os.kill(process_of(tmp_path / "worker-0.log"), signal.SIGKILL)

    with pytest.raises(TrainingFailed, match=r"the training one ended with status -9: .*memory"):
        crew.run(jobs, tmp_path, pixels.descriptor, 1, Killing())
    assert (tmp_path / "one" / crew.CHECKPOINT).exists()

    class Interrupting(Silent):
        def epoch(self, job: str, epoch: Mapping[str, Any]) -> None:
            super().epoch(job, epoch)
            if epoch["number"] >= 3:  # weights are being averaged by then
                raise KeyboardInterrupt

    interrupted = Interrupting()
    with pytest.raises(KeyboardInterrupt):
        crew.run(jobs, tmp_path, pixels.descriptor, 1, interrupted)
    assert interrupted.epochs[0][1] > 1  # not from the beginning
    assert (tmp_path / "one" / crew.CHECKPOINT).exists()

    # A job has a process of its own, which is gone before the next one starts.
    pids: dict[str, int] = {}

    class Looking(Silent):
        def epoch(self, job: str, epoch: Mapping[str, Any]) -> None:
            super().epoch(job, epoch)
            pids[job] = process_of(tmp_path / "worker-0.log")
            for other in pids.keys() - {job}:
                assert not Path(f"/proc/{pids[other]}").exists(), "two hold memory at once"

        def finished(self, job: str, done: int, total: int) -> None:
            super().finished(job, done, total)
            assert not Path(f"/proc/{pids[job]}").exists(), "memory is not given back"

    watcher = Looking()
    resumed = crew.run(jobs, tmp_path, pixels.descriptor, 1, watcher)
    ones = [number for name, number in watcher.epochs if name == "one"]
    assert ones[0] > 3 and ones[-1] == 5
    assert watcher.epochs[len(ones) :] == [("other", number) for number in range(1, 6)]
    assert watcher.done == ["one", "other"]
    assert pids["one"] != pids["other"]
    for name in ("one", "other"):
        np.testing.assert_array_equal(resumed[name].logits, reference)
        assert [epoch["number"] for epoch in resumed[name].epochs] == [1, 2, 3, 4, 5]
        assert not (tmp_path / name / crew.CHECKPOINT).exists()

    again = Silent()
    crew.run(jobs, tmp_path, pixels.descriptor, 1, again)
    assert (again.epochs, again.done) == ([], ["one", "other"])


def test_another_job_of_the_same_name_starts_anew(tmp_path: Path) -> None:
    place = crew._prepare(tmp_path, job("one"))
    (place / "result.npz").write_bytes(b"of the first")
    assert crew._prepare(tmp_path, job("one")) == place
    assert (place / "result.npz").exists()
    crew._prepare(tmp_path, job("one", seed=6))
    assert not (place / "result.npz").exists()
    kept = crew.read_job(place)
    assert (kept.seed, kept.recipe, kept.start) == (6, RECIPE, None)
    np.testing.assert_array_equal(kept.held, np.arange(36, 48))


def test_a_training_that_dies_is_named_with_its_last_words_and_ends_the_others(
    pixels: PixelCache, tmp_path: Path
) -> None:
    bad = replace(job("bad"), start=tmp_path / "missing.keras")
    with pytest.raises(
        TrainingFailed, match=r"the training bad ended with status 1: .*missing"
    ) as caught:
        crew.run([bad], tmp_path / "work", pixels.descriptor, 1, Silent())
    assert "worker-0.log" in caught.value.remedy
    assert "what is finished is kept" in caught.value.remedy


def test_a_folder_that_cannot_be_written_is_named(pixels: PixelCache, tmp_path: Path) -> None:
    (tmp_path / "one").write_text("in the way")
    with pytest.raises(TrainingFailed, match=f"{tmp_path}/one: cannot be written: File exists"):
        crew.run([job("one")], tmp_path, pixels.descriptor, 1, Silent())


GIB = 1 << 30


@pytest.mark.parametrize(
    ("available_gib", "limits", "left_gib"),
    [
        (8, {}, 8),
        (8, {"unit": ("max", 1)}, 8),
        (8, {"unit": (4 * GIB, 1 * GIB)}, 3),
        (2, {"unit": (4 * GIB, 1 * GIB)}, 2),
        (8, {"unit": (6 * GIB, 1 * GIB), "unit/inner": ("max", 0)}, 5),
        (8, {"unit": (1 * GIB, 2 * GIB)}, 0),
    ],
)
def test_memory_is_what_the_machine_or_the_narrowest_limit_leaves(
    available_gib: int,
    limits: dict[str, tuple[int | str, int]],
    left_gib: int,
    tmp_path: Path,
) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/meminfo").write_text(
        f"MemTotal: 1 kB\nMemAvailable: {available_gib << 20} kB\n"
    )
    (tmp_path / "proc/self/cgroup").write_text("0::/unit/inner\n")
    for name, (most, current) in limits.items():
        folder = tmp_path / "cgroup" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "memory.max").write_text(f"{most}\n")
        (folder / "memory.current").write_text(f"{current + GIB}\n")
        (folder / "memory.stat").write_text(f"anon {current}\ninactive_file {GIB}\n")
    assert crew.free_bytes(tmp_path / "proc", tmp_path / "cgroup") == left_gib * GIB


def test_a_worker_ends_when_its_parent_is_gone() -> None:
    read_end, write_end = os.pipe()
    worker = subprocess.Popen(
        [sys.executable, "-m", "crackwatch.training.worker", str(read_end), "unread"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=(read_end,),
    )
    os.close(read_end)
    os.close(write_end)
    time.sleep(0.5)  # it is importing TensorFlow
    assert worker.poll() is None
    assert worker.stdin is not None
    worker.stdin.close()
    assert worker.wait(timeout=30) == 0
