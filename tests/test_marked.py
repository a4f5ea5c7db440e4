"""Claims about marked copies: drawn from what was recorded, once, and never over anything."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from crackwatch import images, marked
from crackwatch.domain import Photograph
from crackwatch.errors import Unreadable
from crackwatch.images import Limits
from crackwatch.images.photographs import Tiling, look
from crackwatch.marked import Marker
from crackwatch.pipeline import Pipeline
from crackwatch.store.photographs import PhotographBooks
from tests.station import Station
from tests.walls import wall

LIMITS = Limits(120_000_000, "tile")
DAY = "flagged/2026-11-23"


class ByMiddle:
    """A classifier to whom tiles that are dark in the middle are anomalies."""

    model_id = "by-middle"

    def scores(self, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        middles = pictures[:, 100:127, 100:127].mean(axis=(1, 2, 3))
        return np.where(middles < 60, 0.9, 0.1).astype(np.float32)


def stained(width: int = 600, height: int = 500) -> bytes:
    """A wall with a black stain in its upper left corner."""
    picture = wall(width, height).copy()
    picture[:200, :200] = 0
    return images.encode_png(picture)


@pytest.fixture
def station(tmp_path: Path) -> Station:
    return Station(tmp_path, classifier=ByMiddle())


@pytest.fixture
def workers() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


class Run:
    """A station's pipeline with its marker, and what the marker complained of."""

    def __init__(self, station: Station, workers: ThreadPoolExecutor) -> None:
        self.station = station
        self.workers = workers
        self.complaints: list[tuple[str, str]] = []

    def marker(self, *, wanted: bool = True) -> Marker:
        flagged = os.fsencode(self.station.root / "flagged")
        return Marker(
            PhotographBooks(self.station.database),
            flagged,
            LIMITS,
            self.workers,
            self.complain,
            wanted=wanted,
        )

    def complain(self, path: bytes, why: BaseException) -> None:
        self.complaints.append((Path(os.fsdecode(path)).name, str(why)))

    def pipeline(self, **parts: Any) -> Any:
        return self.station.pipeline(
            decode=lambda data, _: look(data, LIMITS, Tiling()), **{"mark": self.marker(), **parts}
        )

    def inspect(self, *names: str, **parts: Any) -> None:
        with self.pipeline(**parts) as pipeline:
            pipeline.inspect(self.station.batch(*names), self.station.judging())
            self.finish(pipeline)

    def finish(self, pipeline: Pipeline) -> None:
        pipeline.file()
        pipeline.close()


@pytest.fixture
def run(station: Station, workers: ThreadPoolExecutor) -> Run:
    return Run(station, workers)


def beside(station: Station) -> dict[str, bytes]:
    folder = station.root / DAY
    return {each.name: each.read_bytes() for each in folder.iterdir()}


def test_a_flagged_photograph_gets_a_copy_with_its_boxes_and_a_crop_gets_none(
    station: Station, run: Run
) -> None:
    station.put("wall.png", stained())
    station.put("crop.png", images.encode_png(np.zeros((227, 227, 3), np.uint8)))
    run.inspect("wall.png", "crop.png")
    found = beside(station)
    assert sorted(found) == ["crop.png", "wall.png", "wall.png.overlay.jpg"]
    assert found["wall.png"] == stained()
    copy = cv2.imdecode(np.frombuffer(found["wall.png.overlay.jpg"], np.uint8), cv2.IMREAD_COLOR)
    assert copy is not None
    blue, red = copy[..., 0].astype(int), copy[..., 2].astype(int)
    assert (red - blue > 100).any()  # the frame
    assert run.complaints == []


def test_after_a_kill_before_the_copy_the_next_process_makes_it(station: Station, run: Run) -> None:
    station.put("wall.png", stained())
    with run.pipeline(mark=lambda _: None) as dying:
        dying.inspect(station.batch("wall.png"), station.judging())
        dying.file()
    assert list(beside(station)) == ["wall.png"]
    # what is left of a copy that was being written
    (station.root / DAY / ".crackwatch-1.overlay.part").write_bytes(b"half")
    with run.pipeline() as heir:
        assert heir.recover() == 1
        run.finish(heir)
    assert sorted(beside(station)) == ["wall.png", "wall.png.overlay.jpg"]
    assert station.rows()[0]["filed_at"]


def test_after_a_kill_behind_the_copy_it_stays_as_it_is(station: Station, run: Run) -> None:
    station.put("wall.png", stained())
    with run.pipeline() as dying:
        dying.inspect(station.batch("wall.png"), station.judging())
        dying.file()
    copy = station.root / DAY / "wall.png.overlay.jpg"
    before = copy.stat()
    with run.pipeline() as heir:
        heir.recover()
        run.finish(heir)
    assert copy.stat() == before and run.complaints == []


def test_without_the_setting_only_the_rest_of_an_unfinished_copy_is_cleared_away(
    station: Station, run: Run
) -> None:
    station.put("wall.png", stained())
    with run.pipeline(mark=lambda _: None) as dying:
        dying.inspect(station.batch("wall.png"), station.judging())
        dying.file()
    (station.root / DAY / ".crackwatch-1.overlay.part").write_bytes(b"half")
    with run.pipeline(mark=run.marker(wanted=False)) as heir:
        heir.recover()
        run.finish(heir)
    assert list(beside(station)) == ["wall.png"]


def test_a_persons_file_of_the_copys_name_is_never_overwritten(station: Station, run: Run) -> None:
    station.put("early.png", stained())
    theirs = station.root / DAY / "early.png.overlay.jpg"
    theirs.parent.mkdir(parents=True)
    theirs.write_bytes(b"notes")
    run.inspect("early.png")  # it gets another name, under which its copy is its own
    station.put("late.png", stained(650))
    with run.pipeline() as pipeline:
        pipeline.inspect(station.batch("late.png"), station.judging())
        theirs.with_name("late.png.overlay.jpg").write_bytes(b"more notes")
        run.finish(pipeline)
    found = beside(station)
    assert sorted(found) == [
        "early (1).png",
        "early (1).png.overlay.jpg",
        "early.png.overlay.jpg",
        "late.png",
        "late.png.overlay.jpg",
    ]
    assert found["early.png.overlay.jpg"] == b"notes"
    assert found["late.png.overlay.jpg"] == b"more notes"
    assert len(found["early (1).png.overlay.jpg"]) > 1000


def test_the_copy_goes_with_a_name_that_had_to_be_chosen_anew(station: Station, run: Run) -> None:
    station.put("wall.png", stained())
    with run.pipeline() as pipeline:
        pipeline.inspect(station.batch("wall.png"), station.judging())
        taken = station.root / DAY / "wall.png"
        taken.parent.mkdir(parents=True)
        taken.write_bytes(b"somebody's")
        run.finish(pipeline)
    assert sorted(beside(station)) == ["wall (1).png", "wall (1).png.overlay.jpg", "wall.png"]


def test_what_fails_is_told_and_everything_else_goes_on(station: Station, run: Run) -> None:
    """Another picture stands there by now; a score map that no longer opens; a disk that is full."""
    for name, width in (("a.png", 600), ("b.png", 610), ("c.png", 620)):
        station.put(name, stained(width))
    with run.pipeline(mark=lambda _: None) as dying:
        dying.inspect(station.batch("a.png", "b.png", "c.png"), station.judging())
        dying.file()
    filings = station.books.unfiled()
    (station.root / DAY / "a.png").write_bytes(stained(630))

    class Damaged:
        def photograph(self, id: int) -> tuple[Photograph, float] | None:
            recorded = PhotographBooks(station.database).photograph(id)
            assert recorded is not None
            if id == filings[1].id:
                raise ValueError("a damaged score map")
            return recorded

    flagged = os.fsencode(station.root / "flagged")
    Marker(Damaged(), flagged, LIMITS, run.workers, run.complain, wanted=True)(filings)
    assert run.complaints == [
        ("a.png", "it is not what was inspected any more"),
        ("b.png", "a damaged score map"),
    ]
    assert "c.png.overlay.jpg" in beside(station)


# ------------------------------------------------------------------------------- one at a time


def recorded(station: Station, run: Run) -> tuple[Photograph, float]:
    station.put("wall.png", stained())
    run.inspect("wall.png", mark=lambda _: None)
    found = PhotographBooks(station.database).photograph(1)
    assert found is not None
    return found


def test_what_is_drawn_is_what_was_judged_or_nothing(station: Station, run: Run) -> None:
    photograph, score = recorded(station, run)
    assert score == pytest.approx(0.9)
    assert marked.draw(stained(), LIMITS, photograph, b"wall.png", score).startswith(b"\xff\xd8")
    with pytest.raises(Unreadable, match="610 x 500; what was judged is 600 x 500"):
        marked.draw(stained(610), LIMITS, photograph, b"wall.png", score)


def test_any_name_can_stand_above_a_copy(station: Station, run: Run) -> None:
    photograph, score = recorded(station, run)
    for name in (b"latin-\xff.png", "Brücke №1.png".encode(), b"line\nbreak.png"):
        assert marked.draw(stained(), LIMITS, photograph, name, score)


def test_copies_of_one_name_stand_side_by_side(tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path)
    long = b"n" * 255
    paths = [
        marked.save(folder, name, b"%d" % n) for n, name in enumerate([b"a.jpg"] * 3 + [long] * 2)
    ]
    assert [os.path.basename(path) for path in paths[:3]] == [
        b"a.jpg.overlay.jpg",
        b"a (2).jpg.overlay.jpg",
        b"a (3).jpg.overlay.jpg",
    ]
    assert len({*paths}) == 5 and all(len(os.path.basename(path)) <= 255 for path in paths)
    assert [Path(os.fsdecode(path)).read_bytes() for path in paths] == [
        b"0",
        b"1",
        b"2",
        b"3",
        b"4",
    ]
