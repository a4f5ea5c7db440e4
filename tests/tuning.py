"""``crackwatch tune`` as the tests ask it, and models with out-of-fold scores for it to go by."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crackwatch import learned
from crackwatch.cli import execute
from crackwatch.learned import Learned
from crackwatch.registry import Registry
from tests.model_folders import card


def some(anomalies: int = 400, normals: int = 4_000, a_group: int = 1) -> Learned:
    """What a model might have learned from; ``a_group`` pictures show the same concrete."""
    random = np.random.default_rng(7)
    rows = anomalies + normals
    logits = np.concatenate([random.normal(6, 2.5, anomalies), random.normal(-9, 2.5, normals)])
    return Learned(
        pixel_hashes=random.integers(0, 256, (rows, 16), dtype=np.uint8),
        textures=random.integers(0, 256, (rows, 35), dtype=np.uint8),
        labels=np.repeat([1, 0], [anomalies, normals]).astype(np.int8),
        groups=(np.arange(rows) // a_group).astype(np.int32),
        folds=(np.arange(rows) % 5).astype(np.int8),
        logits=logits.astype(np.float32),
        reviewed=np.zeros(rows, bool),
    )


def publish(station: Path, model_id: str, taught: Learned | None) -> None:
    registry = Registry(station / "models")
    with registry.staging() as staged:
        (staged / "lenet.keras").write_bytes(b"weights")
        if taught is not None:
            learned.write(staged, taught)
        registry.publish(staged, card(model_id))


def station_in(folder: Path) -> Path:
    """A station with a champion that has out-of-fold scores, and no database."""
    (folder / "config.toml").touch()
    publish(folder, "one", some())
    Registry(folder / "models").promote("one")
    return folder


Said = tuple[int, str, str]


class Tune:
    """``crackwatch tune`` of a station: exit status, standard output, standard error."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, station: Path, *arguments: object) -> Said:
        self._capsys.readouterr()
        config = ("--config", str(station / "config.toml"))
        status = execute(["tune", *map(str, arguments), *config])
        said = self._capsys.readouterr()
        return status, said.out, said.err

    def document(self, station: Path, *arguments: object) -> Any:
        status, out, err = self(station, *arguments, "--format", "json")
        assert status == 0, err
        return json.loads(out)


def everything(folder: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file() and file.name != ".lock"
    }
