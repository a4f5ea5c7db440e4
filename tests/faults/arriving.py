"""A real station under load: its pictures, its daemon, its books, and what must be true of them.

Everything is real: `crackwatch init` made the station, `crackwatch run` is its daemon, the model is
the starter. Pictures are a few drawn ones, each with a comment of its own: no two have the same bytes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from crackwatch import images, synthetic
from tests.test_daemon import COMMAND, Process

_BASES = 20
_QUALITY = 60  # a few kilobytes each: the load is in their number


@cache
def _base(number: int) -> bytes:
    return images.encode_jpeg(synthetic.draw(number, crack=number % 10 == 0), _QUALITY)


def picture(number: int) -> bytes:
    """A JPEG like no other: a tenth of them show cracks."""
    comment = b"picture %d" % number
    segment = b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment
    base = _base(number % _BASES)
    return base[:2] + segment + base[2:]


@dataclass
class Producer:
    """Drops pictures into a folder and remembers which: ``arrived`` has the hash of each name."""

    folder: Path
    seed: int
    arrived: dict[str, bytes] = field(default_factory=dict)

    def drop(self, count: int, prefix: str = "p") -> None:
        """``count`` more, as quickly as they can be written."""
        for _ in range(count):
            number = len(self.arrived)
            self.one(f"{prefix}{number:07}.jpg", picture(self.seed * 10_000_000 + number))

    def one(self, name: str, data: bytes) -> None:
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        self.came(name, data)

    def came(self, name: str, data: bytes) -> None:
        self.arrived[name] = hashlib.sha256(data).digest()


def ask(
    station: Process, *arguments: str | Path, timeout_s: float = 3600.0, **environment: str
) -> subprocess.CompletedProcess[str]:
    """A crackwatch command about a station."""
    return subprocess.run(
        [*COMMAND, *map(str, arguments), "--config", str(station.config)],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        env={**os.environ, **environment},
        check=False,
    )


def wrong(station: Process, arrived: dict[str, bytes]) -> list[str]:
    """Arrivals without a row, or with two, or with another content; what the audit finds."""
    problems = []
    with closing(sqlite3.connect(f"{station.database.as_uri()}?mode=ro", uri=True)) as books:
        rows = books.execute("SELECT source, sha256, outcome, filed_at FROM inspections").fetchall()
    seen: dict[str, bytes] = {}
    for source, sha256, outcome, filed_at in rows:
        name = os.fsdecode(source)
        if name in seen:
            problems.append(f"twice: {name}")
        seen[name] = sha256
        if outcome == "quarantined":
            problems.append(f"quarantined: {name}")
        if filed_at is None:
            problems.append(f"never filed: {name}")
    for name, sha256 in arrived.items():
        if name not in seen:
            problems.append(f"missed: {name}")
        elif seen[name] != sha256:
            problems.append(f"other content: {name}")
    problems += [f"nobody put it there: {name}" for name in seen.keys() - arrived.keys()]
    audit = ask(station, "audit", "--full", "--format", "json")
    document: dict[str, Any] = json.loads(audit.stdout or "{}")
    if audit.returncode or document.get("pending"):
        problems.append(f"audit exits {audit.returncode}: {audit.stderr[-300:]} {document}"[:900])
    return problems


def logged(station: Process) -> list[dict[str, Any]]:
    """What the daemon said."""
    lines = station.log.read_text("utf-8", "replace").splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


def named(station: Process, code: str) -> bool:
    """Whether its log has told of this problem."""
    return any(each.get("code") == code and each["event"] == "problem" for each in logged(station))


def problems(station: Process) -> set[str]:
    """The codes that status lists now."""
    return {each["code"] for each in station.status()["problems"]}


class Works:
    """Makes stations in a temporary folder; one `init` serves for all."""

    def __init__(self, root: Path, seed: int, patience: float) -> None:
        self._root = root
        self.seed = seed
        self.patience = patience
        self._made = 0
        self._first: Path | None = None
        self._running: list[Process] = []

    def station(self, **settings: object) -> Process:
        """A new one; ``settings`` as ``watch__settle_s=0.5`` go into its config.toml."""
        if self._first is None:
            self._first = self._root / "first"
            command = [sys.executable, "-m", "crackwatch", "init", str(self._first)]
            subprocess.run(command, check=True, capture_output=True, timeout=600)
        self._made += 1
        root = self._root / f"station-{self._made}"
        shutil.copytree(self._first, root)
        station = Process(root)
        station.patience = self.patience
        text = station.config.read_text()
        for key, value in settings.items():
            section, _, name = key.partition("__")
            written = json.dumps(value)
            lines = text.splitlines()
            at = lines.index(next(each for each in lines if each.startswith(f"[{section}]")))
            for index in range(at + 1, len(lines)):
                if lines[index].startswith(f"{name} "):
                    lines[index] = f"{name} = {written}"
                    break
            else:
                raise KeyError(key)
            text = "\n".join(lines) + "\n"
        station.config.write_text(text)
        self._running.append(station)
        return station

    def producer(self, station: Process) -> Producer:
        return Producer(station.inbox, self.seed)

    def remove(self, station: Process) -> None:
        """Ends it if it runs, and makes room."""
        _end(station)
        shutil.rmtree(station.root, ignore_errors=True)

    def clear(self) -> None:
        """Ends what still runs, and removes all stations but the first."""
        while self._running:
            self.remove(self._running.pop())


def _end(station: Process) -> None:
    if station.child is not None and station.child.poll() is None:
        station.child.kill()
        station.child.wait()


@contextlib.contextmanager
def works(folder: Path | None, seed: int, patience: float = 1.0) -> Iterator[Works]:
    """``patience``: how many times longer than usual is waited for what must come true."""
    with tempfile.TemporaryDirectory(prefix="crackwatch-load-", dir=folder) as root:
        made = Works(Path(root), seed, patience)
        try:
            yield made
        finally:
            made.clear()


def ask_init(station: Process) -> None:
    """Adopts the station's inbox as a person would. Raises AssertionError where it refuses."""
    done = subprocess.run(
        [*COMMAND, "init", str(station.root)], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
