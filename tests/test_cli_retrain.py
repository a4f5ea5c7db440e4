"""``crackwatch retrain`` from the command line: documents, refusals, signals."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from crackwatch.registry import Registry
from crackwatch.training.retraining import alone
from tests.labelled import contents, draw


@pytest.fixture(scope="module")
def station(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("station")
    (folder / "config.toml").touch()
    draw(folder / "dataset", 52, 60)
    return folder


def command(station: Path, *arguments: object) -> list[str]:
    base = [sys.executable, "-m", "crackwatch", "retrain", "--config", station / "config.toml"]
    return [str(each) for each in (*base, *arguments)]


def test_a_training_ends_in_one_document_on_standard_output(station: Path) -> None:
    done = subprocess.run(
        command(station, "--quick", "--epochs", 1, "--seed", 5, "--format", "json"),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert {
        "model",
        "promoted",
        "reason",
        "seconds",
        "train",
        "validation",
        "champion",
        "challenger",
    } <= set(document)
    assert document["promoted"] is True
    assert document["champion"] is None
    assert document["challenger"]["id"] == document["model"]
    assert document["train"]["anomaly"] == document["validation"]["anomaly"] == 52
    assert document["leaks"]["equal"] == 0
    assert document["replay"] == {"replayed": 0, "missing": 0, "flipped": 0, "flips": []}
    registry = Registry(station / "models")
    assert registry.champion() == document["model"]
    assert registry.verify(document["model"]).seed == 5
    assert "fold-1: epoch 1/1" in done.stderr
    assert "whole: done, " in done.stderr
    decision = json.loads(done.stderr.splitlines()[-1])
    assert decision["event"] == "challenger_promoted"
    assert decision["reason"] == document["reason"]
    assert "learning from" in done.stderr
    assert "oneDNN" not in done.stderr  # TensorFlow's start-up lines help nobody


def test_too_little_data_names_folder_count_need_and_remedy(tmp_path: Path) -> None:
    (tmp_path / "config.toml").touch()
    draw(tmp_path / "dataset", 2, 60)
    done = subprocess.run(command(tmp_path), capture_output=True, text=True)
    assert done.returncode == 2
    assert str(tmp_path / "dataset/anomaly") in done.stderr
    assert "found 2; at least 50 are needed" in done.stderr
    assert "crackwatch dataset import" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_station_without_a_dataset_is_told_how_to_get_one(tmp_path: Path) -> None:
    (tmp_path / "config.toml").touch()
    done = subprocess.run(command(tmp_path), capture_output=True, text=True)
    assert done.returncode == 2
    assert f"{tmp_path / 'dataset'}: no labelled pictures: it does not exist" in done.stderr
    assert "At least 50 pictures of each class" in done.stderr
    assert "crackwatch dataset import FOLDER" in done.stderr


def test_a_second_training_is_told_of_the_first(station: Path) -> None:
    with alone(Registry(station / "models")):
        done = subprocess.run(command(station), capture_output=True, text=True)
    assert done.returncode == 3
    assert f"process {os.getpid()}" in done.stderr
    assert "reading" not in done.stderr


@pytest.mark.parametrize(
    ("number", "status"),
    [
        (signal.SIGTERM, 128 + signal.SIGTERM),
        (signal.SIGKILL, -signal.SIGKILL),
    ],
)
def test_an_interrupted_training_leaves_the_models_as_they_were(
    station: Path, number: signal.Signals, status: int
) -> None:
    registry = Registry(station / "models")
    with registry.lock():
        before = contents(registry.folder)
    with subprocess.Popen(
        command(station, "--quick", "--epochs", 1000), stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "epoch 1/1000" in line:
                break
        assert os.getpriority(os.PRIO_PROCESS, process.pid) >= 10  # beside a daemon: steps back
        process.send_signal(number)
        process.stderr.read()
        assert process.wait(timeout=30) == status
    with registry.lock():  # as the next run does: what SIGKILL left behind is cleared away
        assert contents(registry.folder) == before
    logs = list((station / "models/.training").rglob("worker-*.log"))
    assert len(logs) == 2  # what they were about can go on
    assert_nobody_holds(logs)


def test_a_full_disk_ends_a_training_with_its_reason_and_changes_nothing(station: Path) -> None:
    registry = Registry(station / "models")
    with registry.lock():
        before = contents(registry.folder)
    limited = 'ulimit -f 40000 && exec "$@"'  # what keeps a training's place, 70 MB, is more
    training = command(station, "--quick", "--epochs", 2, "--workers", 1)
    done = subprocess.run(
        ["bash", "-c", limited, "bash", *training], capture_output=True, text=True
    )
    assert done.returncode == 4, done.stderr
    assert "the training fold-1 ended with status 1: OSError: " in done.stderr
    assert "what is finished is kept" in done.stderr
    assert "Traceback" not in done.stderr
    with registry.lock():
        assert contents(registry.folder) == before


def test_ctrl_c_on_a_terminal_ends_everything_without_a_traceback(station: Path) -> None:
    parent, child = os.openpty()
    with subprocess.Popen(
        command(station, "--quick", "--epochs", 1000),
        stdin=child,
        stdout=child,
        stderr=child,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    ) as process:
        os.close(child)
        said = b""
        while b"epoch 2" not in said:
            said += os.read(parent, 65536)
        os.write(parent, b"\x03")
        with contextlib.suppress(OSError):  # EIO: nobody has the terminal open any more
            while more := os.read(parent, 65536):
                said += more
        os.close(parent)
        assert process.wait(timeout=30) == 130
    text = said.decode()
    assert "crackwatch: interrupted" in text
    assert "Traceback" not in text
    assert "all of it" in text
    assert_nobody_holds(list((station / "models/.training").rglob("worker-*.log")))


def assert_nobody_holds(files: list[Path]) -> None:
    """Waits for the trainings to end with their parent."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        held = set()
        for link in Path("/proc").glob("[0-9]*/fd/2"):
            with contextlib.suppress(OSError):
                held.add(link.resolve())
        if not held & {file.resolve() for file in files}:
            return
        time.sleep(0.2)
    raise AssertionError("a training outlived the command that started it")
