"""Trainings side by side: the same bits however they are run, nothing lost, nobody left behind."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from crackwatch.dataset import PixelCache
from crackwatch.errors import TrainingFailed
from crackwatch.training import crew
from crackwatch.training.crew import Job
from crackwatch.training.recipes import STATION
from tests.labelled import Silent

RECIPE = replace(STATION, epochs=3, averaged_from=0.5)
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


class Interrupting(Silent):
    def epoch(self, job: str, epoch: object) -> None:
        self.epochs.append((job, 0))
        if len(self.epochs) == 2:
            raise KeyboardInterrupt


def test_jobs_give_the_same_bits_alone_side_by_side_one_after_another_and_interrupted(
    pixels: PixelCache, tmp_path: Path
) -> None:
    together = crew.run(
        [job("one"), job("other"), job("seed", 6)], tmp_path / "a", pixels.descriptor, 2, Silent()
    )
    reference = together["one"].logits
    np.testing.assert_array_equal(reference, together["other"].logits)
    assert not np.array_equal(reference, together["seed"].logits)
    assert reference[LABELS[36:] == 1].mean() > reference[LABELS[36:] == 0].mean()

    with pytest.raises(KeyboardInterrupt):
        crew.run([job("one")], tmp_path / "b", pixels.descriptor, 1, Interrupting())
    assert (tmp_path / "b/one" / crew.CHECKPOINT).exists()
    watcher = Silent()
    resumed = crew.run([job("one")], tmp_path / "b", pixels.descriptor, 1, watcher)
    assert watcher.epochs == [("one", 3)]
    np.testing.assert_array_equal(resumed["one"].logits, reference)
    assert [epoch["number"] for epoch in resumed["one"].epochs] == [1, 2, 3]
    assert not (tmp_path / "b/one" / crew.CHECKPOINT).exists()

    again = Silent()
    crew.run([job("one")], tmp_path / "b", pixels.descriptor, 1, again)
    assert (again.epochs, again.done) == ([], ["one"])


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


def test_a_worker_ends_when_its_parent_is_gone() -> None:
    read_end, write_end = os.pipe()
    worker = subprocess.Popen(
        [sys.executable, "-m", "crackwatch.training.worker", str(read_end)],
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
