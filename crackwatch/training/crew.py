"""Runs trainings side by side, each in a process and on a core of its own; knows no Keras.

Two processes of one thread each teach a quarter more pictures a second than one of two threads, and
each gives the same weights to the last bit. TensorFlow does not give back all the memory that a
training took, some 35 MiB of it each time: so a process ends with its job, and the next job has a
fresh one. A job's folder remembers how far it came: run again with the same jobs, finished ones are
not repeated and the others go on behind their last epoch.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from crackwatch.errors import TrainingFailed
from crackwatch.syncing import fsync_path
from crackwatch.training.recipes import Recipe

if TYPE_CHECKING:
    from crackwatch.training.fitting import Epoch

CHECKPOINT = "checkpoint.npz"
MODEL = "trained.keras"  # not calibrated yet
_LESSON = "lesson.json"
_ARRAYS = "lesson.npz"
_RESULT = "result.npz"

WORKER_BYTES = 1280 * 1024 * 1024  # of memory that one training takes at most


@dataclass(frozen=True, slots=True)
class Job:
    """One training. Positions are those of the pixel cache; so is the index of ``labels``."""

    name: str  # a plain file name
    recipe: Recipe
    seed: int
    labels: NDArray[np.int8]
    train: NDArray[np.intp]
    held: NDArray[np.intp]  # scored by the trained model; may be empty
    start: Path | None = None  # a lenet.keras to continue from


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a job came to. ``logits`` are those of ``held``, not calibrated."""

    logits: NDArray[np.float64]
    epochs: tuple[dict[str, Any], ...]  # fitting.Epoch, as documents
    model: Path


class CrewWatcher(Protocol):
    """Is told how far each job is."""

    def step(self, job: str, epoch: int, step: int, steps: int) -> None: ...
    def epoch(self, job: str, epoch: Mapping[str, Any]) -> None: ...
    def finished(self, job: str, done: int, total: int) -> None: ...


def workers_for(jobs: int) -> int:
    """How many trainings fit at once: one a core, as far as memory goes."""
    return max(1, min(jobs, len(os.sched_getaffinity(0)), free_bytes() // WORKER_BYTES))


def free_bytes(proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> int:
    """Memory that is left to this process: the machine's, or what a container or a unit allows it.

    Of the control groups, version 2, the narrowest counts. File cache that can be given up is free:
    the decoded pictures fill more of it than anything else.
    """
    text = (proc / "meminfo").read_text("ascii")
    kib = next(line.split()[1] for line in text.splitlines() if line.startswith("MemAvailable"))
    left = int(kib) * 1024
    with contextlib.suppress(OSError):
        lines = (proc / "self/cgroup").read_text("utf-8", "surrogateescape").splitlines()
        mine = next((line[3:].lstrip("/") for line in lines if line.startswith("0::")), "")
        for folder in ((cgroups / mine), *(cgroups / mine).parents):
            if not folder.is_relative_to(cgroups):
                break
            with contextlib.suppress(OSError, ValueError):  # no limit: "max", or no such file
                most = int((folder / "memory.max").read_text("ascii"))
                taken = int((folder / "memory.current").read_text("ascii"))
                stat = (folder / "memory.stat").read_text("ascii").split()
                given_up = int(stat[stat.index("inactive_file") + 1])
                left = min(left, most - taken + given_up)
    return max(0, left)


def run(
    jobs: Sequence[Job],
    folder: Path,
    descriptor: int,
    workers: int,
    watcher: CrewWatcher,
) -> dict[str, Outcome]:
    """Runs every job that ``folder`` has no result of; outcomes by name.

    ``descriptor`` is the open file of the pixel cache. Raises TrainingFailed where a process ends
    without a result, or ``folder`` cannot be written; what the others have finished is kept.
    Whatever ends this call ends its processes.
    """
    waiting = []
    done = 0
    for job in jobs:
        if _read_result(_prepare(folder, job)) is None:
            waiting.append(job.name)
        else:
            done += 1
            watcher.finished(job.name, done, len(jobs))
    told: queue.SimpleQueue[tuple[_Worker, bytes | None]] = queue.SimpleQueue()
    at_work: list[_Worker] = []
    try:
        for number in range(min(workers, len(waiting))):
            # one by one: should the next one fail to start, this one is ended all the same
            log = folder / f"worker-{number}.log"
            at_work.append(_Worker(folder / waiting.pop(0), log, descriptor, told))
        while at_work:
            worker, line = told.get()
            if line is None:
                if worker in at_work:
                    raise worker.failure()
                continue  # its last word was that it is done
            document = json.loads(line)
            if "step" in document:
                watcher.step(worker.job, *document["step"])
            elif "epoch" in document:
                watcher.epoch(worker.job, document["epoch"])
            else:
                (folder / worker.job / CHECKPOINT).unlink(missing_ok=True)
                done += 1
                worker.end()  # before the next one starts: there is memory for so many at once
                at_work.remove(worker)
                if waiting:
                    at_work.append(_Worker(folder / waiting.pop(0), worker.log, descriptor, told))
                watcher.finished(worker.job, done, len(jobs))
    finally:
        for worker in at_work:
            worker.end()
    outcomes = {}
    for job in jobs:
        found = _read_result(folder / job.name)
        assert found is not None
        outcomes[job.name] = Outcome(found[0], tuple(found[1]), folder / job.name / MODEL)
    return outcomes


class _Worker:
    """One process of ``worker``, for the one job whose folder is ``place``."""

    def __init__(
        self,
        place: Path,
        log: Path,
        descriptor: int,
        told: queue.SimpleQueue[tuple[_Worker, bytes | None]],
    ) -> None:
        self.job = place.name
        self.log = log
        with _written(log), log.open("wb") as stream:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "crackwatch.training.worker", str(descriptor), str(place)],
                stdin=subprocess.PIPE,  # its end ends the process
                stdout=subprocess.PIPE,
                stderr=stream,
                pass_fds=(descriptor,),
                # Ctrl-C is the parent's to answer: it ends its children in order
                process_group=0,
            )
        self._listener = threading.Thread(target=self._listen, args=(told,), daemon=True)
        self._listener.start()

    def _listen(self, told: queue.SimpleQueue[tuple[_Worker, bytes | None]]) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            told.put((self, line))
        told.put((self, None))

    def end(self) -> None:
        """Ends the process, whatever it is doing; again, does nothing."""
        self._process.terminate()
        self._process.wait()
        self._listener.join()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()

    def failure(self) -> TrainingFailed:
        return _failure(self.job, self.log, self._process.wait())


def _failure(name: str, log: Path, status: int) -> TrainingFailed:
    lines = log.read_text("utf-8", "replace").strip().splitlines()
    last = lines[-1] if lines else "it said nothing"
    if status == -signal.SIGKILL:
        last = "it was killed, as happens where memory runs out"
    return TrainingFailed(
        f"the training {name} ended with status {status}: {last}",
        f"{log} has all it said. Start it again: what is finished is kept "
        "(--workers 1 needs half the memory).",
    )


# ----------------------------------------------------------------------------------------- files


def _prepare(folder: Path, job: Job) -> Path:
    """The job's folder; emptied first if it holds another job of that name."""
    place = folder / job.name
    lesson = _lesson_text(job)
    try:
        same = (place / _LESSON).read_text("utf-8") == lesson
    except OSError:
        same = False
    if not same:
        shutil.rmtree(place, ignore_errors=True)
        with _written(place):
            place.mkdir(parents=True)
            np.savez(place / _ARRAYS, labels=job.labels, train=job.train, held=job.held)
            (place / _LESSON).write_text(lesson, "utf-8")  # last: without it, nothing here counts
    return place


@contextlib.contextmanager
def _written(path: Path) -> Iterator[None]:
    """Turns what a disk refuses into TrainingFailed."""
    try:
        yield
    except OSError as exc:
        raise TrainingFailed(
            f"{exc.filename or path}: cannot be written: {exc.strerror or exc}",
            "Check the space on the disk of the models folder and its permissions, and start it "
            "again: what is finished is kept.",
        ) from exc


def _lesson_text(job: Job) -> str:
    digest = hashlib.sha256()
    for array in (job.labels, job.train, job.held):
        digest.update(np.ascontiguousarray(array).data)
        digest.update(b"|")
    document = {
        "recipe": asdict(job.recipe),
        "seed": job.seed,
        "arrays": digest.hexdigest(),
        "start": None if job.start is None else str(job.start),
    }
    return json.dumps(document, indent=2) + "\n"


def read_job(place: Path) -> Job:
    """A job as ``run`` wrote it."""
    document = json.loads((place / _LESSON).read_text("utf-8"))
    with np.load(place / _ARRAYS, allow_pickle=False) as arrays:
        return Job(
            place.name,
            Recipe(**document["recipe"]),
            document["seed"],
            arrays["labels"],
            arrays["train"],
            arrays["held"],
            None if document["start"] is None else Path(document["start"]),
        )


def write_result(place: Path, logits: NDArray[np.float64], epochs: Sequence[Epoch]) -> None:
    """Says that a job is done, in one step; its model must be there already.

    Both are synced, in this order: after a power cut a result stands for a whole model.
    """
    fsync_path(place / MODEL)
    partial = place / f".{_RESULT}"
    with partial.open("wb") as stream:
        np.savez(stream, logits=logits, epochs=json.dumps([asdict(each) for each in epochs]))
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(partial, place / _RESULT)


def _read_result(place: Path) -> tuple[NDArray[np.float64], list[dict[str, Any]]] | None:
    try:
        with (place / _RESULT).open("rb") as stream, np.load(stream) as found:
            return found["logits"], json.loads(str(found["epochs"]))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
