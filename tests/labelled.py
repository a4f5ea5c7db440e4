"""Tiny labelled folders and the requests that learn from them; shared by several test modules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from crackwatch.domain import Label
from crackwatch.training.planning import Request


def draw(folder: Path, anomalies: int, normals: int, seed: int = 0) -> None:
    """Grey noise; an anomaly has a broad dark bar across it."""
    for label, count in ((Label.ANOMALY, anomalies), (Label.NORMAL, normals)):
        (folder / label).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            random = np.random.default_rng((seed, number, label is Label.ANOMALY))
            coarse = random.normal(150, 15, (46, 46, 1)).clip(0, 255).astype(np.uint8)
            picture = np.repeat(cv2.resize(coarse, (227, 227))[:, :, None], 3, axis=2)
            if label is Label.ANOMALY:
                start, end = random.integers(20, 207, 2).tolist()
                cv2.line(picture, (0, start), (226, end), (20, 20, 20), 25)
            cv2.imwrite(str(folder / label / f"{number:03}.png"), picture)


class Silent:
    """A watcher that keeps what it is told."""

    def __init__(self) -> None:
        self.stages: list[str] = []
        self.epochs: list[tuple[str, int]] = []  # job, number
        self.done: list[str] = []

    def stage(self, text: str) -> None:
        self.stages.append(text)

    def loading(self, done: int, total: int) -> None:
        pass

    def comparing(self, done: int, total: int) -> None:
        pass

    def training(self, steps: Mapping[str, int]) -> None:
        pass

    def step(self, job: str, epoch: int, step: int, steps: int) -> None:
        pass

    def epoch(self, job: str, epoch: Mapping[str, Any]) -> None:
        self.epochs.append((job, epoch["number"]))

    def finished(self, job: str, done: int, total: int) -> None:
        self.done.append(job)


def asked(data: Path, **changes: object) -> Request:
    request = Request(
        data=data, recipe="station", seed=3, promote="auto", quick=True, epochs=8, workers=2
    )
    return replace(request, **changes)  # type: ignore[arg-type]  # names are the fields'


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
        and path.name not in (".lock", ".training.lock")
        and ".training" not in path.parts
    }
