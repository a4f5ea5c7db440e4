"""A station with every kind of arrival in its inbox, and what must be true of it in the end.

Knows pictures, rows and folders; nothing of how the station is run or disturbed. A scene is made
once and copied for each case.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from crackwatch import belonging, own_places
from crackwatch.audit import Auditor
from crackwatch.config_file import load
from crackwatch.domain import Place
from crackwatch.inbox import FOLDER_MARKER, MARKER, OWN_PREFIX, NamePolicy
from crackwatch.registry import Registry
from crackwatch.store import migrate
from crackwatch.store.audits import AuditBooks
from tests.model_folders import publish_golden
from tests.station import ByBrightness, jpeg, rows

PLACES = ("inbox", "flagged", "archive", "quarantine")
Key = tuple[str, str]  # a name in the inbox, the sha256 of a content

_OWN_ID = re.compile(r" \(\d+(-\d+)?\)(?=\.[^./]*$|$)")

# Long ago, so that nothing here is as young as what the campaign itself writes.
_MTIME_NS = 1_700_000_000_000_000_000


@dataclass(frozen=True, slots=True)
class Scenario:
    """One kind of station; ``across`` names the folders that lie on another file system."""

    name: str
    normal: str
    across: frozenset[str] = frozenset()


SCENARIOS = {
    each.name: each
    for each in (
        Scenario("keep", "keep"),
        Scenario("archive", "archive", frozenset({"archive", "quarantine"})),
        Scenario("delete", "delete", frozenset({"flagged"})),
    )
}

# A campaign of hours compares folders of days: midnight must not come between two of its runs.
_DAY_STARTS_AT = f"{datetime.now(UTC) + timedelta(hours=12):%H:%M}"

# What stood in the inbox when the station was first run; `changed` and `taken` come again.
EARLIER: Mapping[str, bytes] = {
    "taken.jpg": jpeg(dark=True, seed=101),
    "changed.jpg": jpeg(dark=False, seed=102),
    "stays.jpg": jpeg(dark=False, seed=103),
}
# The mixed batch: good ones, anomalies, one that cannot be read, one whose name is taken in the
# flagged folder, the same bytes again, other content under a name that was inspected.
BATCH: Mapping[str, bytes] = {
    "a.jpg": jpeg(dark=False, seed=1),
    "sub/b.jpg": jpeg(dark=False, seed=2),
    "again.jpg": jpeg(dark=False, seed=1),
    "c.jpg": jpeg(dark=True, seed=3),
    "sub/d.jpg": jpeg(dark=True, seed=4),
    "taken.jpg": jpeg(dark=True, seed=5),
    "changed.jpg": jpeg(dark=False, seed=6),
    "text.jpg": b"\xff\xd8 this is no picture \xff\xd9",
}


@dataclass(frozen=True)
class Scene:
    """A station in a folder: ``root`` holds it, ``other`` what lies on another file system."""

    root: Path
    other: Path
    scenario: Scenario
    models: Path

    @property
    def config(self) -> Path:
        return self.root / "config.toml"

    @property
    def inbox(self) -> Path:
        return self.root / "inbox"

    @property
    def database(self) -> Path:
        return self.root / "state" / "crackwatch.db"

    @property
    def said(self) -> Path:
        return self.other / "said.log"

    def folder(self, name: str) -> Path:
        return (self.other if name in self.scenario.across else self.root) / name

    def folders(self) -> dict[Place, bytes]:
        names = {
            Place.FLAGGED: "flagged",
            Place.ARCHIVED: "archive",
            Place.QUARANTINED: "quarantine",
        }
        return {place: os.fsencode(self.folder(name)) for place, name in names.items()}

    def put(self, name: str, data: bytes, mtime_ns: int | None = None) -> None:
        path = self.inbox / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        if mtime_ns is not None:
            os.utime(path, ns=(mtime_ns, mtime_ns))

    def remove(self) -> None:
        shutil.rmtree(self.root, ignore_errors=True)
        shutil.rmtree(self.other, ignore_errors=True)

    def write_config(self) -> None:
        lines = [
            "[station]", 'name = "faults"', 'timezone = "UTC"',
            "[folders]", *(f'{name} = "{self.folder(name)}"' for name in PLACES),
            f'models = "{self.models}"', f'state = "{self.root / "state"}"',
            "[files]", f'normal = "{self.scenario.normal}"',
            "[report]", f'day_starts_at = "{_DAY_STARTS_AT}"',
            "[watch]", "settle_s = 0.2", "incomplete_s = 0.2", "rescan_s = 0.5",
            # full at once, so that the same pictures make a batch in each run
            "[batch]", f"max_size = {len(BATCH)}", "max_wait_ms = 300", "queue_bytes = 1073741824",
        ]  # fmt: skip
        self.config.write_text("\n".join(lines) + "\n")


class Stage:
    """Makes scenes below two folders, which lie on different file systems where there are two.

    ``models`` holds a champion; without it there is one that is a stub.
    """

    def __init__(self, root: Path, other: Path, models: Path | None = None) -> None:
        self._root, self._other = root, other
        self._made = 0
        self.models = models or root / "models"
        if models is not None:
            return
        registry = Registry(self.models)
        publish_golden(registry, ByBrightness())
        registry.promote(ByBrightness.model_id)

    def new(self, scenario: Scenario) -> Scene:
        """A station that has inspected nothing yet."""
        scene = self._scene(scenario)
        for name in (*PLACES, "state"):
            scene.folder(name).mkdir(parents=True)
        migrate.upgrade(scene.database)
        belonging.adopt(scene.inbox, scene.root / "state", "faults")
        for place, folder in scene.folders().items():
            own_places.adopt(place, folder, scene.root / "state", "faults")
        return scene

    def empty(self, scenario: Scenario) -> Scene:
        """The folders of a scene that somebody else fills."""
        return self._scene(scenario)

    def copy(self, of: Scene) -> Scene:
        """The same again: names, contents and times; other inodes."""
        scene = self._scene(of.scenario)
        shutil.copytree(of.root, scene.root, dirs_exist_ok=True, symlinks=True)
        shutil.copytree(of.other, scene.other, dirs_exist_ok=True, symlinks=True)
        scene.write_config()
        return scene

    def _scene(self, scenario: Scenario) -> Scene:
        self._made += 1
        name = f"{scenario.name}-{self._made}"
        scene = Scene(self._root / name, self._other / name, scenario, self.models)
        scene.root.mkdir(parents=True)
        scene.other.mkdir(parents=True)
        scene.write_config()
        return scene


def fill(scene: Scene, pictures: Mapping[str, bytes], *, age: int) -> None:
    """Puts pictures into the inbox, each with a time of its own; ``age`` tells fillings apart."""
    for index, (name, data) in enumerate(pictures.items()):
        scene.put(name, data, _MTIME_NS + (100 * age + index) * 1_000_000_000)


# ------------------------------------------------------------------------------- what must be true


@dataclass(frozen=True, slots=True, order=True)
class Line:
    """A row as any two runs of one scene must have it: without ids, times and inodes."""

    source: str
    sha256: str
    outcome: str
    standing: str
    destination: str
    reason: str


def final(scene: Scene) -> list[Line]:
    """The books in the end."""
    return sorted(map(_line, rows(scene.database)))


def wrong(
    scene: Scene,
    arrived: Counter[Key],
    *,
    disturbed: frozenset[Key] = frozenset(),
    foreign: frozenset[Path] = frozenset(),
) -> list[str]:
    """What is not as it must be once everything has been inspected; nothing, if all is well.

    ``arrived`` counts every content that came to rest in the inbox. Those in ``disturbed`` were
    deleted or replaced by their producer while the station worked: each may have its row or none,
    and its file may be missing. ``foreign`` are files that people put where no row explains them.
    """
    problems: list[str] = []
    with closing(sqlite3.connect(f"{scene.database.as_uri()}?mode=ro", uri=True)) as books:
        found = books.execute("PRAGMA integrity_check").fetchone()[0]
        if found != "ok":
            return [f"integrity_check: {found}"]
    every = rows(scene.database)
    recorded = Counter(map(key_of_row, every))
    for key in sorted(recorded.keys() | arrived.keys()):
        name, sha = key
        least = 0 if key in disturbed else arrived[key]
        if recorded[key] < least:
            problems.append(f"lost: {name} ({sha[:8]}) has {recorded[key]} rows of {least}")
        if recorded[key] > arrived[key]:
            problems.append(f"twice: {name} ({sha[:8]}) has {recorded[key]} rows of {arrived[key]}")
    standing = {line.standing for line in map(_line, every)}
    if "pending" in standing:
        problems.append("unfinished: a move is recorded and was never made")
    problems += _misplaced(scene, every, disturbed)
    problems += _audited(scene, disturbed, foreign)
    leftovers = [
        name
        for name in files(scene)
        if os.path.basename(name).startswith(os.fsdecode(OWN_PREFIX))
        and os.fsencode(os.path.basename(name)) not in (MARKER, FOLDER_MARKER)
    ]
    problems += [f"left over: {name}" for name in leftovers]
    return problems


def _misplaced(scene: Scene, every: list[dict[str, Any]], disturbed: frozenset[Key]) -> list[str]:
    problems: list[str] = []
    places = {"kept": "inbox", "flagged": "flagged", "archived": "archive"}
    places["quarantined"] = "quarantine"
    for row in every:
        line = _line(row)
        source = os.fsdecode(row["source"])
        may_be_gone = key_of_row(row) in disturbed
        place = line.standing
        if place == "quarantined" and row["reason"] is None:
            problems.append(f"no reason: {source} is quarantined")
        if place == "deleted" or place not in places:
            continue
        name = source if place == "kept" else os.fsdecode(row["destination"])
        path = scene.folder(places[place]) / name
        if not path.is_file():
            if not may_be_gone:
                problems.append(f"missing: {source} is not at {places[place]}/{name}")
        elif (
            row["sha256"] is not None
            and _sha(path.read_bytes()) != row["sha256"].hex()
            and not (may_be_gone and place == "kept")
        ):
            problems.append(f"changed: {places[place]}/{name} is not {source}")
        if place == "quarantined" and path.is_file():
            beside = path.with_name(path.name + ".json")
            if not beside.is_file() or json.loads(beside.read_text())["id"] != row["id"]:
                problems.append(f"no sidecar: {places[place]}/{name}")
    return problems


def _audited(scene: Scene, disturbed: frozenset[Key], foreign: frozenset[Path]) -> list[str]:
    settings = load(scene.config, {})
    books = AuditBooks(scene.database, settings.station.name)
    audit = Auditor(
        books,
        os.fsencode(scene.inbox),
        scene.folders(),
        NamePolicy(settings.files.patterns, recursive=settings.files.recursive),
        full=True,
        pause=lambda: None,
    ).audit()
    by_id = {row["id"]: key_of_row(row) for row in rows(scene.database)}
    problems = [
        f"audit: {each.kind}: {os.fsdecode(each.path)}: {each.reason}"
        for each in audit.findings
        if not (each.kind == "missing" and by_id.get(each.id or 0) in disturbed)
        and Path(os.fsdecode(each.path)) not in foreign
    ]
    if not audit.balances:
        problems.append("audit: the sum does not balance")
    if audit.counts["pending"]:
        problems.append(f"lost: {audit.counts['pending']} wait in the inbox, never inspected")
    return problems


def files(scene: Scene) -> dict[str, tuple[int, str]]:
    """Every file of the station: size and hash; without the database's and what only status reads."""
    found: dict[str, tuple[int, str]] = {}
    for name in (*PLACES, "state"):
        base = scene.folder(name)
        for path in _below(base):
            relative = f"{name}/{path.relative_to(base)}"
            if name == "state" and path.name != "in-flight.json":
                continue
            data = path.read_bytes()
            found[relative] = (len(data), _sha(data))
    return found


def state_hash(scene: Scene) -> str:
    """Of the folders and the logical rows: two cases with the same need one recovery only."""
    with tempfile.TemporaryDirectory() as folder:
        # a copy: opening it would take the write-ahead log in
        for path in scene.database.parent.glob("crackwatch.db*"):
            if not path.name.endswith("-shm"):
                shutil.copyfile(path, Path(folder) / path.name)
        every = rows(Path(folder) / "crackwatch.db")
    logical = [
        (*_astuple(_line(row)), row["filed_at"] is None, row["released_at"] is None)
        for row in every
    ]
    document = json.dumps([sorted(files(scene).items()), logical])
    return hashlib.sha256(document.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _astuple(line: Line) -> tuple[str, ...]:
    return (line.source, line.sha256, line.outcome, line.standing, line.destination, line.reason)


def _line(row: Mapping[str, Any]) -> Line:
    standing = row["place"]
    if row["superseded_at"] is not None:
        standing = "superseded"
    elif row["filed_at"] is None and row["place"] != "kept":
        standing = "pending"
    destination = os.fsdecode(row["destination"]) if row["destination"] else ""
    return Line(
        os.fsdecode(row["source"]),
        row["sha256"].hex()[:16] if row["sha256"] else "",
        row["outcome"],
        standing,
        _OWN_ID.sub(" (id)", destination.partition("/")[2]),
        row["reason"] or "",
    )


def _below(folder: Path) -> Iterator[Path]:
    for at, _, names in os.walk(folder):
        for name in names:
            yield Path(at) / name


def _sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def key_of(name: str, data: bytes) -> Key:
    """What tells one content under one name from all others."""
    return name, _sha(data)


def count(*fillings: Mapping[str, bytes]) -> Counter[Key]:
    """How often each content comes under each name in these fillings."""
    return Counter(key_of(*item) for each in fillings for item in each.items())


def key_of_row(row: Mapping[str, Any]) -> Key:
    """The same of a row."""
    return os.fsdecode(row["source"]), row["sha256"].hex() if row["sha256"] else ""
