"""Claims about the inspector's thread: what it tells of moves that cannot be made, and for how long."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from crackwatch import inspector as inspector_module
from crackwatch import logs
from crackwatch.arrivals.gate import Gate
from crackwatch.arrivals.intake import Intake
from crackwatch.arrivals.known import Known
from crackwatch.batching import BatchQueue
from crackwatch.health.board import Board
from crackwatch.heartbeat import Heart
from crackwatch.inbox import NamePolicy
from crackwatch.inspector import Inspector
from crackwatch.pipeline import Pipeline
from crackwatch.registry import Registry
from crackwatch.settings import ModelSettings
from tests.disks import as_an_ordinary_user
from tests.model_folders import publish_golden
from tests.station import DAY, Station, jpeg


class Bench:
    """An inspector on a real station; ``turn`` hands it pictures and waits until it is idle."""

    def __init__(self, station: Station, pipeline: Pipeline) -> None:
        self.station = station
        self.board = Board()
        self.queue = BatchQueue(
            max_size=64, max_wait_s=0.01, capacity=64, max_bytes=1 << 30, cost_bytes=lambda _: 1
        )
        inbox = bytes(station.inbox)
        gate = Gate(settle_s=1.0, incomplete_s=1.0, network=False)
        policy = NamePolicy(["*.jpg"], recursive=True)
        registry = Registry(station.root / "models")
        golden = publish_golden(registry, station.classifier)
        self.inspector = Inspector(
            pipeline=pipeline,
            queue=self.queue,
            intake=Intake(inbox, policy, gate, Known(), self.queue.put, capacity=64, rescan_s=60.0),
            board=self.board,
            log=logs.get(),
            registry=registry,
            model_settings=ModelSettings(),
            rows=station.books,
            judging=station.judging(),
            heart=Heart(
                golden=golden,
                registry=registry,
                books=station.heartbeats,
                board=self.board,
                log=logs.get(),
                every_s=3600.0,
            ),
            stop=threading.Event(),
            working_day=lambda: DAY,
            once=True,
        )

    def turn(self, *names: str) -> None:
        for name in names:
            assert self.queue.put(self.station.arrival(name), 0.0)
        ended = threading.Event()
        ended.set()
        self.inspector.run(ended)

    @property
    def told(self) -> list[str]:
        return [problem.message for problem in self.board.problems()]


def test_a_move_that_was_refused_is_told_until_it_is_made_whatever_else_is_moved(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with as_an_ordinary_user() as folder:
        station = Station(folder)
        station.put("locked/a.jpg", jpeg(dark=True, seed=1))
        station.put("b.jpg", jpeg(dark=True, seed=2))
        station.put("c.jpg", jpeg(dark=True, seed=3))
        (station.inbox / "locked").chmod(0o500)
        with station.pipeline() as pipeline:
            bench = Bench(station, pipeline)
            bench.turn("locked/a.jpg")
            (told,) = bench.told
            assert str(station.inbox / "locked") in told and "Permission denied" in told
            bench.turn("b.jpg")
            assert bench.told == [told]
            (station.inbox / "locked").chmod(0o700)
            monkeypatch.setattr(inspector_module.time, "monotonic", lambda: 1e9)
            bench.turn("c.jpg")
            assert bench.told == []
        assert station.files() == {
            f"flagged/{DAY}/{name}" for name in ("locked/a.jpg", "b.jpg", "c.jpg")
        }


def test_recovery_tells_of_the_moves_that_it_could_not_make() -> None:
    with as_an_ordinary_user() as folder:
        station = Station(folder)
        station.put("locked/a.jpg", jpeg(dark=True, seed=1))
        with station.pipeline() as dying:
            dying.inspect(station.batch("locked/a.jpg"), station.judging())
        (station.inbox / "locked").chmod(0o500)
        with station.pipeline() as pipeline:
            bench = Bench(station, pipeline)
            assert bench.inspector.recover() == 1
            assert len(bench.told) == 1
        (station.inbox / "locked").chmod(0o700)  # so that the folder can be removed


def test_a_picture_is_moved_later_even_where_the_station_is_never_idle(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with as_an_ordinary_user() as folder:
        station = Station(folder)
        station.put("locked/a.jpg", jpeg(dark=True, seed=1))
        station.put("b.jpg", jpeg(dark=True, seed=2))
        (station.inbox / "locked").chmod(0o500)
        monkeypatch.setattr(inspector_module, "_REFUSED_AGAIN_S", 0.0)
        with station.pipeline() as pipeline:
            bench = Bench(station, pipeline)
            bench.turn("locked/a.jpg")
            (station.inbox / "locked").chmod(0o700)
            # stopped as soon as its batch is done: it has no idle moment
            monkeypatch.setattr(Inspector, "_idle", _never)
            bench.turn("b.jpg")
        assert _flagged(station) == {"locked/a.jpg", "b.jpg"}


def _never(_: Inspector) -> None:
    return None


def _flagged(station: Station) -> set[str]:
    day: Path = station.root / "flagged" / str(DAY)
    return {str(path.relative_to(day)) for path in day.rglob("*.jpg")}
