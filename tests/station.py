"""A real station in a temporary folder: real database, real folders; only the model may be a stub."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crackwatch import images, inbox
from crackwatch.domain import Arrival, Batch, Fingerprint, Place, QuarantineReason, SettledBy
from crackwatch.filing.mover import Mover
from crackwatch.filing.names import DayDestinations
from crackwatch.images import light
from crackwatch.pipeline import Judging, Pipeline
from crackwatch.store import migrate
from crackwatch.store.books import Books
from crackwatch.store.engine import open_writer
from crackwatch.store.heartbeats import Heartbeats
from crackwatch.views import Rule

DAY = date(2026, 11, 23)


class ByBrightness:
    """A classifier to whom dark pictures are anomalies; counts what it was asked."""

    model_id = "by-brightness"

    def __init__(self) -> None:
        self.scored = 0

    def scores(self, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.scored += len(pictures)
        return np.where(pictures.mean(axis=(1, 2, 3)) < 128, 0.9, 0.1).astype(np.float32)


class Silent:
    """A journal for tests that need none."""

    def begin(self, sources: Any) -> None: ...
    def end(self) -> None: ...


@cache
def jpeg(*, dark: bool, seed: int = 0) -> bytes:
    """A 227 x 227 JPEG; each seed gives other bytes."""
    import cv2

    noise = np.random.default_rng(seed).integers(0, 40, (227, 227, 3))
    picture = (noise + (30 if dark else 180)).astype(np.uint8)
    return bytes(cv2.imencode(".jpg", picture)[1])


@cache
def _migrated() -> bytes:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "crackwatch.db"
        migrate.upgrade(file)
        with closing(sqlite3.connect(file)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return file.read_bytes()


@dataclass
class Station:
    """The folders and the books of a station, and a pipeline on them."""

    root: Path
    normal: str = "keep"
    classifier: Any = field(default_factory=ByBrightness)
    condemned: dict[bytes, tuple[Fingerprint, QuarantineReason]] = field(default_factory=dict)
    max_bytes: int = 1 << 26

    def __post_init__(self) -> None:
        for name in ("inbox", "flagged", "archive", "quarantine", "state"):
            (self.root / name).mkdir(parents=True, exist_ok=True)
        if not self.database.exists():
            self.database.write_bytes(_migrated())
        self.places = {
            Place.FLAGGED: os.fsencode(self.root / "flagged"),
            Place.ARCHIVED: os.fsencode(self.root / "archive"),
            Place.QUARANTINED: os.fsencode(self.root / "quarantine"),
        }
        engine = open_writer(self.database)
        self.books = Books(engine, "station")
        self.heartbeats = Heartbeats(engine, "station")
        self.mover = Mover(os.fsencode(self.inbox), self.places)
        self.destinations = DayDestinations(self.places, lambda: DAY)

    @property
    def inbox(self) -> Path:
        return self.root / "inbox"

    @property
    def database(self) -> Path:
        return self.root / "state" / "crackwatch.db"

    def judging(self, threshold: float = 0.5) -> Judging:
        pk = self.books.model_pk(self.classifier.model_id, "0" * 64, "{}")
        return Judging(self.classifier, pk, Rule(threshold, threshold), "openvino", "f32")

    @contextmanager
    def pipeline(self, **replaced: Any) -> Iterator[Pipeline]:
        """A pipeline as the daemon builds it; ``replaced`` swaps single parts for others."""
        limits = images.Limits(120_000_000, "quarantine")
        with ThreadPoolExecutor(2) as workers:
            parts: dict[str, Any] = {
                "read": self.read,
                "decode": lambda data, _: images.decode(data, limits),
                "measure": light.measure,
                "books": self.books,
                "mover": self.mover,
                "destinations": self.destinations,
                "journal": Silent(),
                "workers": workers,
                "workers_count": 2,
                "views_at_once": 64,
                "normal": self.normal,
                "condemned": self.condemned,
            }
            yield Pipeline(**{**parts, **replaced})

    def read(self, source: bytes, expected: Fingerprint) -> inbox.Content:
        folder = inbox.open_folder(os.fsencode(self.inbox))
        try:
            return inbox.read(folder, source, expected, self.max_bytes)
        finally:
            os.close(folder)

    def put(self, name: str | bytes, data: bytes) -> Path:
        path = Path(os.fsdecode(os.path.join(os.fsencode(self.inbox), os.fsencode(name))))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path

    def arrival(self, name: str | bytes, *, waited: bool = False) -> Arrival:
        source = os.fsencode(name)
        stat = os.lstat(os.path.join(os.fsencode(self.inbox), source))
        return Arrival(source, Fingerprint.of(stat), datetime.now(UTC), SettledBy.LEASE, waited)

    def batch(self, *names: str | bytes, waited: bool = False) -> Batch:
        return Batch(tuple(self.arrival(name, waited=waited) for name in names), "size")

    def inspect(self, *names: str | bytes, waited: bool = False) -> Any:
        """One batch through a pipeline of its own, moves and closing included."""
        with self.pipeline() as pipeline:
            done = pipeline.inspect(self.batch(*names, waited=waited), self.judging())
            pipeline.file()
            pipeline.close()
        return done

    def rows(self) -> list[dict[str, Any]]:
        return rows(self.database)

    def files(self) -> set[str]:
        """Every file below the folders that hold pictures, relative to the station."""
        return {
            str(path.relative_to(self.root))
            for name in ("inbox", "flagged", "archive", "quarantine")
            for path in (self.root / name).rglob("*")
            if not path.is_dir()
        }


def rows(database: Path) -> list[dict[str, Any]]:
    """Every inspection, oldest first."""
    with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as connection:
        connection.row_factory = sqlite3.Row
        found = connection.execute("SELECT * FROM inspections ORDER BY id").fetchall()
    return [dict(row) for row in found]


def copy_pictures(source: Path, destination: Path, count: int | None = None) -> int:
    """Copies the first ``count`` pictures of a folder under their own names; how many."""
    names = sorted(each.name for each in source.iterdir() if each.suffix == ".jpg")[:count]
    for name in names:
        shutil.copyfile(source / name, destination / name)
    return len(names)
