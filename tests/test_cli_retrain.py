"""``crackwatch retrain`` from the command line: documents, refusals, signals."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import numpy as np
import pytest

from crackwatch.cli import retrain
from crackwatch.dataset import Leaks
from crackwatch.evaluation import measure
from crackwatch.registry import Registry
from crackwatch.training.deciding import Duel
from crackwatch.training.replaying import Replay
from crackwatch.training.retraining import Result, alone
from tests.labelled import contents, draw

# Each starts processes that load TensorFlow and step back behind all others: one after another, and
# with the time that this takes on a busy machine.
pytestmark = [pytest.mark.timeout(300), pytest.mark.xdist_group("training")]


@pytest.fixture(scope="module")
def station(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("station")
    (folder / "config.toml").touch()
    draw(folder / "dataset", 52, 60)
    for number in range(3):  # copies, which no split may divide
        for label in ("anomaly", "normal"):
            picture = folder / "dataset" / label / f"{number:03}.png"
            shutil.copy(picture, picture.with_stem(f"copy-{number}"))
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
    assert document["train"]["anomaly"] == document["validation"]["anomaly"] == 55
    assert document["leaks"]["equal"] == 4  # two in three of the six pairs, by chance
    without = document["challenger_without_overlaps"]
    assert 0 < without["tp"] + without["fn"] <= 52 - 3  # some of those drawn look alike, too
    assert 52 < without["n"] <= 52 + 60 - 6
    assert document["replay"] == {
        "replayed": 0,
        "missing": 0,
        "photographs": 0,
        "older": 0,
        "flipped": 0,
        "flips": [],
    }
    registry = Registry(station / "models")
    assert registry.champion() == document["model"]
    card = registry.verify(document["model"])
    assert card.seed == 5
    assert card.scores["out_of_fold_without_overlaps"] == without
    assert "fold-1: epoch 1/1" in done.stderr
    assert "whole: done, " in done.stderr
    decision = json.loads(done.stderr.splitlines()[-1])
    assert decision["event"] == "challenger_promoted"
    assert decision["reason"] == document["reason"]
    assert "learning from" in done.stderr
    assert "oneDNN" not in done.stderr  # TensorFlow's start-up lines help nobody

    draw(station / "valid", 4, 6, seed=9)
    evaluate = ("evaluate", "--config", station / "config.toml", "--data", station / "valid")
    judged = subprocess.run(
        list(map(str, (sys.executable, "-m", "crackwatch", *evaluate, "--format", "json"))),
        capture_output=True,
        text=True,
    )
    assert judged.returncode == 0, judged.stderr
    figures = json.loads(judged.stdout)
    assert (figures["model"], figures["n"]) == (document["model"], 10)
    assert figures["near_duplicates"] is not None  # it tells what it learned from


@pytest.mark.parametrize("related", [4, 0])
def test_the_table_has_the_figures_without_related_pictures_where_there_are_any(
    related: int, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = np.repeat(np.array([1, 0], np.int8), 10)
    scores = np.where(labels == 1, 0.9, 0.1)
    scores[:2] = 0.1
    apart = slice(related // 2, 20 - related // 2)
    result = Result(
        model="new",
        promoted=True,
        reason="promoted: there was no champion",
        seconds=1.0,
        train={"anomaly": 10, "normal": 10},
        validation={"anomaly": 10, "normal": 10},
        champion=None,
        challenger=Duel("new", measure(scores, labels, 0.5)),
        comparison=None,
        leaks=Leaks(1, 0, related),
        unrelated=measure(scores[apart], labels[apart], 0.5),
        suspects=(),
        replay=Replay(3, 0, (), older=2),
        problems=(),
        both_ways=(("anomaly/a.jpg", "normal/a.png"),),
        tells_drift=not related,
    )
    retrain._print(result)
    told = capsys.readouterr().out
    assert f"0 near duplicates, {related} overlapping crops" in told
    rows = [line.split() for line in told.splitlines()]
    assert ["challenger", "0.5000", "8", "2", "0"] in [row[:5] for row in rows]
    assert (["without*", "0.5000", "8", "0", "0"] in [row[:5] for row in rows]) == bool(related)
    assert ("without the 4 pictures that have a copy or an overlapping crop" in told) == bool(
        related
    )
    assert ("8 anomalies and 8 normals are left" in told) == bool(related)
    assert "1 picture is there twice" in told
    assert "  anomaly: anomaly/a.jpg\n   normal: normal/a.png\n" in told
    assert ("with this model drift cannot be told" in told) == bool(related)
    assert "0 would be judged otherwise; 2 older pictures were not judged again\n" in told


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
    ("number", "status", "workers"),
    [
        (signal.SIGTERM, 128 + signal.SIGTERM, 1),  # two of them end in order by Ctrl-C below
        # tests/test_crew.py kills trainings every time
        pytest.param(signal.SIGKILL, -signal.SIGKILL, 2, marks=pytest.mark.slow),
    ],
)
def test_an_interrupted_training_leaves_the_models_as_they_were(
    station: Path, number: signal.Signals, status: int, workers: int
) -> None:
    registry = Registry(station / "models")
    with registry.lock():
        before = contents(registry.folder)
    with subprocess.Popen(
        command(station, "--quick", "--epochs", 1000, "--workers", workers),
        stderr=subprocess.PIPE,
        text=True,
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
    assert len(logs) == workers  # what they were about can go on
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
    assert "the training whole ended with status 1: OSError: " in done.stderr
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
