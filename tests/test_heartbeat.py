"""Claims about beats: a model that no longer scores as published judges nothing, and says since when."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from structlog.testing import capture_logs

from crackwatch import champion, logs, packaged
from crackwatch.errors import ModelDisagrees, SystemFault
from crackwatch.health.board import Board
from crackwatch.heartbeat import Heart
from crackwatch.pipeline import Judging
from crackwatch.registry import Registry
from crackwatch.runtime import GRAPH_FILE, WEIGHTS_FILE
from crackwatch.settings import ModelSettings
from crackwatch.starters import install_starter
from crackwatch.store import heartbeats as store
from crackwatch.views import Rule
from tests.model_folders import publish_golden
from tests.station import ByBrightness, Station, jpeg
from tests.test_inspector import Bench


class Drifting(ByBrightness):
    """Scores are off by ``off`` once it has been asked ``after`` times."""

    def __init__(self, off: float = 0.0, after: int = 0) -> None:
        super().__init__()
        self.off = off
        self.after = after
        self.calls = 0

    def scores(self, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.calls += 1
        found = super().scores(pictures)
        return found + np.float32(self.off) if self.calls > self.after else found


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class Beating:
    """A heart on a real station, its model and its clock."""

    def __init__(self, root: Path) -> None:
        self.station = Station(root, classifier=Drifting())
        self.model: Drifting = self.station.classifier
        self.registry = Registry(root / "models")
        self.clock = Clock()
        self.board = Board()
        self.heart = Heart(
            golden=publish_golden(self.registry, ByBrightness()),
            registry=self.registry,
            books=self.station.heartbeats,
            board=self.board,
            log=logs.get(),
            every_s=3600.0,
            monotonic=self.clock,
        )

    def beat(self, *, off: float = 0.0, threshold: float = 0.5) -> bool:
        self.model.off = off
        self.heart.beat(self.station.judging(threshold))
        return not self.heart.failing

    def told(self) -> dict[str, str]:
        return {each.code: each.severity for each in self.board.problems()}


@pytest.fixture
def beating(tmp_path: Path) -> Beating:
    return Beating(tmp_path)


def beats(station: Station) -> list[dict[str, Any]]:
    with closing(sqlite3.connect(station.database)) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute("SELECT * FROM heartbeats ORDER BY id")]


def incidents(station: Station) -> list[tuple[store.Incident, list[bytes]]]:
    with store.reading(station.database, "station") as rows:
        return [(each, [it.source for it in rows.doubted(each)]) for each in rows.incidents()]


# ---------------------------------------------------------------------------------- what is good


@pytest.mark.parametrize(("off", "good"), [(0.0, True), (9e-4, True), (1.1e-3, False)])
def test_a_score_a_thousandth_away_is_a_failure(beating: Beating, off: float, good: bool) -> None:
    assert beating.beat(off=off) is good
    (row,) = beats(beating.station)
    assert (bool(row["good"]), row["flipped"]) == (good, 0)
    assert row["largest_difference"] == pytest.approx(off, abs=1e-7)
    assert beating.told() == ({} if good else {"golden_failed": "error"})


def test_a_score_that_is_no_number_is_a_failure(beating: Beating) -> None:
    assert not beating.beat(off=float("nan"))
    assert beats(beating.station)[0]["largest_difference"] is None


def test_a_flipped_verdict_is_a_failure_however_small_the_difference(beating: Beating) -> None:
    assert not beating.beat(off=-5e-4, threshold=0.8998)
    (row,) = beats(beating.station)
    assert row["flipped"] == 3
    assert "3 of 6 verdicts are flipped" in row["detail"]


def test_a_flip_that_rounding_alone_could_make_is_none(beating: Beating) -> None:
    assert beating.beat(off=-5e-5, threshold=float(np.float32(0.9)))


# ------------------------------------------------------------------------------------------ when


def test_it_beats_at_once_then_every_hour_and_sooner_after_a_bad_one(beating: Beating) -> None:
    waits: list[float] = []
    for off in (0.0, 0.1, 0.1, 0.1, 0.1, 0.0):
        assert beating.heart.due
        beating.beat(off=off)
        assert not beating.heart.due
        began_s = beating.clock.now_s
        while not beating.heart.due:
            beating.clock.now_s += 10.0
        waits.append(beating.clock.now_s - began_s)
    assert waits == [3600, 10, 60, 300, 300, 3600]


# ---------------------------------------------------------------------------- what a bad one does


def test_bad_beats_in_a_row_are_one_incident_with_what_was_judged_since_the_last_good_one(
    beating: Beating,
) -> None:
    station = beating.station
    for name in ("a", "b", "c", "d"):
        station.put(f"{name}.jpg", jpeg(dark=name == "c", seed=ord(name)))
    station.put("broken.jpg", b"no picture")
    station.inspect("a.jpg")
    assert beating.beat()
    station.inspect("b.jpg", "c.jpg", "broken.jpg")
    assert not beating.beat(off=0.1)
    assert not beating.beat(off=0.1)
    assert beating.beat()
    station.inspect("d.jpg")
    assert not beating.beat(off=-0.1)
    (first, old), (second, new) = incidents(station)
    assert old == [b"b.jpg", b"c.jpg"]  # broken.jpg: no model judged it
    assert (first.bad_beats, first.doubted, first.ended_at is None) == (2, 2, False)
    assert new == [b"d.jpg"]
    assert (second.bad_beats, second.doubted, second.ended_at) == (1, 1, None)
    (problem,) = beating.board.problems()
    assert "inspections in doubt: 1, since 20" in problem.message


def test_what_another_runtime_judged_is_not_in_doubt(beating: Beating) -> None:
    station = beating.station
    for name in ("a.jpg", "b.jpg"):
        station.put(name, jpeg(dark=False, seed=ord(name[0])))
    judging = station.judging()
    by_keras = Judging(judging.classifier, judging.model_pk, judging.rule, "keras", "f32")
    with station.pipeline() as pipeline:
        pipeline.inspect(station.batch("a.jpg"), by_keras)
        pipeline.inspect(station.batch("b.jpg"), judging)
    assert not beating.beat(off=0.1)
    ((incident, doubted),) = incidents(station)
    assert doubted == [b"b.jpg"]
    assert incident.last_good_at is None


def test_a_bad_beat_that_cannot_be_written_is_told_and_written_later(
    beating: Beating, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crackwatch.store.engine.BUSY_TIMEOUT_S", 0.05)
    with closing(sqlite3.connect(beating.station.database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        judging = Judging(Drifting(0.1), 1, Rule(0.5, 0.5), "openvino", "f32")
        with pytest.raises(SystemFault, match="locked"):
            beating.heart.beat(judging)
        with pytest.raises(SystemFault, match="locked"):
            beating.heart.settle()
        assert beating.heart.failing
        assert beating.told() == {"golden_failed": "error"}
        other.execute("ROLLBACK")
    assert beats(beating.station) == []
    beating.station.judging()  # the model's row
    beating.heart.settle()
    beating.heart.settle()
    assert [row["good"] for row in beats(beating.station)] == [0]


def test_a_bad_beat_whose_list_cannot_be_read_is_one_row_and_told_later(
    beating: Beating, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row is written; then another program takes the database before the list is read."""
    read = beating.station.heartbeats.containment

    def locked(beat_id: int, limit: int) -> Any:
        raise SystemFault("database_locked", "the database: is locked", "Wait.")

    monkeypatch.setattr(beating.station.heartbeats, "containment", locked)
    with pytest.raises(SystemFault):
        beating.beat(off=0.1)
    monkeypatch.setattr(beating.station.heartbeats, "containment", read)
    with capture_logs() as log:
        beating.heart.settle()
        beating.heart.settle()
    assert [row["good"] for row in beats(beating.station)] == [0]
    assert [each["event"] for each in log] == ["golden_failed"]
    assert "inspections in doubt: 0" in beating.board.problems()[0].message


def test_files_that_were_changed_are_a_warning_and_the_loaded_model_goes_on(
    beating: Beating,
) -> None:
    folder = beating.registry.folder_of("by-brightness")
    for name in ("lenet.keras", "golden/pictures.npy", "card.json"):
        intact = (folder / name).read_bytes()
        (folder / name).write_bytes(intact[:-4] + b"\0\0\0\0")
        assert beating.beat(), name
        assert beating.told() == {"model_files_changed": "warning"}, name
        assert name in beating.board.problems()[0].message
        assert not beating.beat(off=0.1), name  # by what it held in memory
        (folder / name).write_bytes(intact)
        assert beating.beat()
        assert beating.told() == {}


# ------------------------------------------------------------------------------- in the inspector


def test_once_records_nothing_where_the_golden_pictures_fail(tmp_path: Path) -> None:
    station = Station(tmp_path, classifier=Drifting())
    golden = publish_golden(Registry(tmp_path / "models"), station.classifier)
    station.classifier.off = 2e-3
    station.put("a.jpg", jpeg(dark=True))
    with station.pipeline() as pipeline, pytest.raises(ModelDisagrees, match="golden pictures"):
        Bench(station, pipeline, golden=golden).turn("a.jpg")
    assert station.rows() == []
    assert station.files() == {"inbox/a.jpg"}
    assert [row["good"] for row in beats(station)] == [0]


def test_a_model_that_goes_wrong_while_it_judges_is_caught_before_it_is_let_go(
    tmp_path: Path,
) -> None:
    station = Station(tmp_path, classifier=Drifting(off=2e-3, after=3))
    station.put("a.jpg", jpeg(dark=False))
    with station.pipeline() as pipeline:
        bench = Bench(station, pipeline)  # its publication is the first call
        with pytest.raises(ModelDisagrees, match="inspections in doubt: 1, since"):
            bench.turn("a.jpg")  # the beat, the picture, the last beat
    assert [row["good"] for row in beats(station)] == [1, 0]
    ((_, doubted),) = incidents(station)
    assert doubted == [b"a.jpg"]


def test_a_model_that_judged_nothing_has_no_last_beat(tmp_path: Path) -> None:
    station = Station(tmp_path)
    with station.pipeline() as pipeline:
        Bench(station, pipeline).turn()
    assert len(beats(station)) == 1


@contextmanager
def working(bench: Bench) -> Iterator[None]:
    """The inspector in a thread of its own, as the daemon has it."""
    thread = threading.Thread(target=bench.inspector.run, args=(threading.Event(),))
    thread.start()
    try:
        yield
    finally:
        bench.stop.set()
        bench.queue.drain()
        thread.join(30)


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_pictures_wait_while_the_model_fails_and_are_judged_when_it_is_well_again(
    tmp_path: Path,
) -> None:
    station = Station(tmp_path, classifier=Drifting())
    clock = Clock()
    for name in ("a.jpg", "b.jpg"):
        station.put(name, jpeg(dark=True, seed=ord(name[0])))
    with station.pipeline() as pipeline:
        bench = Bench(station, pipeline, once=False, monotonic=clock)
        with working(bench):
            bench.queue.put(station.arrival("a.jpg"))
            wait_until(lambda: len(station.rows()) == 1)
            station.classifier.off = 2e-3
            clock.now_s += 3600
            wait_until(lambda: bench.heart.failing)
            bench.queue.put(station.arrival("b.jpg"))
            time.sleep(0.5)
            assert len(bench.queue) == 1
            station.classifier.off = 0.0
            clock.now_s += 10
            wait_until(lambda: len(station.rows()) == 2)
            assert not bench.heart.failing
            assert bench.told == []
    assert [row["good"] for row in beats(station)] == [1, 0, 1, 1]
    ((incident, doubted),) = incidents(station)
    assert doubted == [b"a.jpg"]
    assert incident.ended_at is not None


def test_a_stop_is_obeyed_while_the_model_fails(tmp_path: Path) -> None:
    station = Station(tmp_path, classifier=Drifting())
    golden = publish_golden(Registry(tmp_path / "models"), station.classifier)
    station.classifier.off = 0.1
    station.put("a.jpg", jpeg(dark=True))
    with station.pipeline() as pipeline:
        bench = Bench(station, pipeline, golden=golden, once=False)
        with working(bench):
            bench.queue.put(station.arrival("a.jpg"))
            wait_until(lambda: bench.heart.failing)
            began = time.monotonic()
        assert time.monotonic() - began < 5
    assert station.rows() == []


# ------------------------------------------------------------------------------- on a real runtime

needs_starter = pytest.mark.skipif(
    not (packaged.starter() / "lenet.keras").is_file(), reason="the starter model is not here"
)


@needs_starter
def test_a_model_that_goes_is_asked_once_more_and_the_next_one_does_not_answer_for_it(
    tmp_path: Path,
) -> None:
    station = Station(tmp_path, classifier=Drifting())
    registry = Registry(tmp_path / "models")
    for name in ("a.jpg", "b.jpg"):
        station.put(name, jpeg(dark=False, seed=ord(name[0])))
    with station.pipeline() as pipeline:
        bench = Bench(station, pipeline, once=False)
        with working(bench):
            bench.queue.put(station.arrival("a.jpg"))
            wait_until(lambda: len(station.rows()) == 1)
            station.classifier.off = 2e-3
            starter = install_starter(registry, packaged.starter())
            assert starter is not None
            registry.promote(starter)
            bench.queue.put(station.arrival("b.jpg"))
            wait_until(lambda: len(station.rows()) == 2)
    first, second = {row["source"]: row["model_pk"] for row in station.rows()}.values()
    assert first != second
    assert [(row["model_pk"], row["good"]) for row in beats(station)] == [
        (first, 1),
        (first, 0),
        (second, 1),
        (second, 1),
    ]
    ((incident, doubted),) = incidents(station)
    assert (doubted, incident.ended_at is None) == ([b"a.jpg"], False)
    assert bench.told == []


@needs_starter
def test_one_flipped_bit_in_memory_stops_the_judging_until_the_model_is_loaded_anew(
    tmp_path: Path,
) -> None:
    from crackwatch.runtime.openvino import OpenvinoClassifier

    station = Station(tmp_path)
    registry = Registry(tmp_path / "models")
    install_starter(registry, packaged.starter())
    opened = champion.open_champion(registry, ModelSettings(), station.books)
    opened.prove()
    model_id = opened.judging.classifier.model_id
    folder = registry.folder_of(model_id)
    weights = bytearray((folder / WEIGHTS_FILE).read_bytes())
    weights[99] ^= 0x40  # the highest bit of the exponent of a weight of the first convolution
    flipped = OpenvinoClassifier(model_id, (folder / GRAPH_FILE).read_bytes(), bytes(weights))
    judging = opened.judging
    broken = Judging(flipped, judging.model_pk, judging.rule, "openvino", "f32")
    station.put("a.jpg", jpeg(dark=False))
    clock = Clock()
    with station.pipeline() as pipeline:
        bench = Bench(
            station, pipeline, judging=broken, golden=opened.golden, once=False, monotonic=clock
        )
        with working(bench):
            bench.queue.put(station.arrival("a.jpg"))
            wait_until(lambda: bench.heart.failing)
            assert station.rows() == []
            clock.now_s += 10
            wait_until(lambda: len(station.rows()) == 1)
    assert [row["good"] for row in beats(station)] == [0, 1, 1]
    assert bench.inspector.judging.classifier is not flipped
    assert bench.told == []
