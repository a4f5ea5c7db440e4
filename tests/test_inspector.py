"""Claims about the inspector's thread: what it tells of moves that cannot be made, and for how long."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from crackwatch import inspector as inspector_module
from crackwatch import logs
from crackwatch.agreement import GoldenSet
from crackwatch.arrivals.gate import Gate
from crackwatch.arrivals.intake import Intake
from crackwatch.arrivals.known import Known
from crackwatch.batching import BatchQueue
from crackwatch.health.board import Board
from crackwatch.heartbeat import Heart
from crackwatch.inbox import NamePolicy
from crackwatch.inspector import Inspector
from crackwatch.pipeline import Judging, Pipeline
from crackwatch.registry import Registry, Threshold, TiledThreshold
from crackwatch.settings import ModelSettings
from crackwatch.views import Rule
from tests.disks import as_an_ordinary_user
from tests.model_folders import publish_golden
from tests.station import DAY, Station, jpeg


class Bench:
    """An inspector on a real station; ``turn`` hands it pictures and waits until it is idle.

    Without ``judging`` and ``golden`` the station's own classifier is in force.
    """

    def __init__(
        self,
        station: Station,
        pipeline: Pipeline,
        *,
        judging: Judging | None = None,
        golden: GoldenSet | None = None,
        settings: ModelSettings | None = None,
        once: bool = True,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.station = station
        self.board = Board()
        self.queue = BatchQueue(
            max_size=64, max_wait_s=0.01, capacity=64, max_bytes=1 << 30, cost_bytes=lambda _: 1
        )
        inbox = bytes(station.inbox)
        gate = Gate(settle_s=1.0, incomplete_s=1.0, network=False)
        policy = NamePolicy(["*.jpg"], recursive=True)
        registry = Registry(station.root / "models")
        golden = golden or publish_golden(registry, station.classifier)
        if registry.champion() is None:
            registry.promote(station.classifier.model_id)
        self.stop = threading.Event()
        self.heart = Heart(
            golden=golden,
            registry=registry,
            books=station.heartbeats,
            board=self.board,
            log=logs.get(),
            every_s=3600.0,
            monotonic=monotonic,
        )
        self.inspector = Inspector(
            pipeline=pipeline,
            queue=self.queue,
            intake=Intake(inbox, policy, gate, Known(), self.queue.put, capacity=64, rescan_s=60.0),
            board=self.board,
            log=logs.get(),
            registry=registry,
            model_settings=settings or ModelSettings(),
            rows=station.books,
            judging=judging or station.judging(),
            heart=self.heart,
            stop=self.stop,
            working_day=lambda: DAY,
            once=once,
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


# ---------------------------------------------------------------- another threshold, same model


def _tuned(registry: Registry, model_id: str, value: float) -> None:
    threshold = Threshold(value=value, chosen_by="a test")
    registry.set_threshold(model_id, threshold, decided_by="anna", reason="a goal")


def test_a_threshold_that_was_tuned_is_taken_between_two_batches(tmp_path: Path) -> None:
    station = Station(tmp_path)
    model_id = station.classifier.model_id
    with station.pipeline() as pipeline, capture_logs() as logged:
        bench = Bench(station, pipeline)
        registry = Registry(tmp_path / "models")
        registry.promote(model_id)
        for number, value in enumerate((None, 0.95, 0.85)):  # dark pictures score 0.9
            if value is not None:
                _tuned(registry, model_id, value)
            station.put(f"{number}.jpg", jpeg(dark=True, seed=number))
            bench.turn(f"{number}.jpg")
        assert bench.told == []
    rows = station.rows()
    assert [row["threshold"] for row in rows] == [0.5, 0.95, 0.85]
    assert [row["outcome"] for row in rows] == ["anomaly", "normal", "anomaly"]
    assert [
        (entry["before"], entry["threshold"])
        for entry in logged
        if entry["event"] == "threshold_taken"
    ] == [(0.5, 0.95), (0.95, 0.85)]


def test_a_threshold_tuned_between_loading_and_the_first_batch_is_not_missed(
    tmp_path: Path,
) -> None:
    station = Station(tmp_path)
    with station.pipeline() as pipeline:
        loaded = station.judging()
        publish_golden(Registry(tmp_path / "models"), station.classifier)
        _tuned(Registry(tmp_path / "models"), loaded.classifier.model_id, 0.95)
        Registry(tmp_path / "models").promote(loaded.classifier.model_id)
        bench = Bench(station, pipeline, judging=loaded)
        station.put("a.jpg", jpeg(dark=True))
        bench.turn("a.jpg")
    assert [row["threshold"] for row in station.rows()] == [0.95]


def test_a_threshold_of_photographs_that_was_tuned_is_taken_as_well(tmp_path: Path) -> None:
    station = Station(tmp_path)
    with station.pipeline() as pipeline:
        bench = Bench(station, pipeline)
        registry = Registry(tmp_path / "models")
        registry.promote(station.classifier.model_id)
        tiled = TiledThreshold(value=0.97, min_tiles=2, tiles=336, chosen_by="a test")
        registry.set_tiled(station.classifier.model_id, tiled, decided_by="anna", reason="a goal")
        station.put("a.jpg", jpeg(dark=True))
        bench.turn("a.jpg")
        assert bench.inspector.judging.rule == Rule(0.5, 0.97, 2)


def test_a_number_in_the_settings_stands_above_the_card(tmp_path: Path) -> None:
    station = Station(tmp_path)
    with station.pipeline() as pipeline:
        bench = Bench(
            station, pipeline, judging=station.judging(0.7), settings=ModelSettings(threshold=0.7)
        )
        registry = Registry(tmp_path / "models")
        registry.promote(station.classifier.model_id)
        _tuned(registry, station.classifier.model_id, 0.95)
        station.put("a.jpg", jpeg(dark=True))
        bench.turn("a.jpg")
    assert [row["threshold"] for row in station.rows()] == [0.7]


def test_a_card_that_cannot_be_read_changes_nothing_and_is_told_of(tmp_path: Path) -> None:
    station = Station(tmp_path)
    with station.pipeline() as pipeline:
        bench = Bench(station, pipeline)
        registry = Registry(tmp_path / "models")
        registry.promote(station.classifier.model_id)
        card = registry.folder_of(station.classifier.model_id) / "card.json"
        whole = card.read_text()
        bench.turn()
        card.write_text(whole[:100])
        station.put("a.jpg", jpeg(dark=True))
        bench.turn("a.jpg")
        assert any("its threshold stays 0.5" in told for told in bench.told)
        card.write_text(whole)
        bench.turn()
        assert not any("its threshold stays" in told for told in bench.told)
    assert [row["threshold"] for row in station.rows()] == [0.5]


def _never(_: Inspector) -> None:
    return None


def _flagged(station: Station) -> set[str]:
    day: Path = station.root / "flagged" / str(DAY)
    return {str(path.relative_to(day)) for path in day.rglob("*.jpg")}


@pytest.mark.parametrize("pointer", [b"../../elsewhere\n", b"\xff\x00", b"", b"no-such-model\n"])
def test_a_pointer_to_no_model_leaves_the_one_in_force_at_work(
    tmp_path: Path, pointer: bytes
) -> None:
    station = Station(tmp_path)
    with station.pipeline() as pipeline:
        bench = Bench(station, pipeline)
        champion = tmp_path / "models" / "champion"
        champion.write_bytes(pointer)
        station.put("a.jpg", jpeg(dark=True))
        bench.turn("a.jpg")
        assert [row["outcome"] for row in station.rows()] == ["anomaly"]
        assert [each.code for each in bench.board.problems()] == ["champion_refused"]
        champion.write_text(f"{station.classifier.model_id}\n")
        bench.turn()
        assert bench.told == []


def test_a_pointer_that_is_deleted_is_told_of_until_it_is_back(tmp_path: Path) -> None:
    station = Station(tmp_path)
    with station.pipeline() as pipeline:
        bench = Bench(station, pipeline)
        model_id = station.classifier.model_id
        (tmp_path / "models" / "champion").unlink()
        station.put("a.jpg", jpeg(dark=True))
        bench.turn("a.jpg")
        assert [row["outcome"] for row in station.rows()] == ["anomaly"]
        (problem,) = bench.board.problems()
        assert (problem.code, problem.severity) == ("champion_missing", "warning")
        assert f"{tmp_path / 'models'} names no champion any more, {model_id} goes on" in (
            problem.message
        )
        assert f"crackwatch models promote {model_id}" in problem.remedy
        Registry(tmp_path / "models").promote(model_id)
        bench.turn()
        assert bench.told == []


def test_a_pointer_that_is_deleted_and_then_holds_nonsense_is_one_problem(tmp_path: Path) -> None:
    station = Station(tmp_path)
    with station.pipeline() as pipeline:
        bench = Bench(station, pipeline)
        pointer = tmp_path / "models" / "champion"
        for content, code in ((None, "missing"), (b"?", "refused"), (None, "missing")):
            if content is None:
                pointer.unlink()
            else:
                pointer.write_bytes(content)
            bench.turn()
            assert [each.code for each in bench.board.problems()] == [f"champion_{code}"]
