"""A batch is recorded once and filed once, whatever happens in between."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest

from crackwatch import images
from crackwatch.domain import Filed, Filing, MoveResult, QuarantineReason, ReviewBand
from crackwatch.errors import ModelDisagrees, SystemFault, Unreadable
from crackwatch.images.photographs import Photograph, Tiling, look
from tests.station import Station, jpeg
from tests.walls import wall_jpeg


@pytest.fixture
def station(tmp_path: Path) -> Station:
    return Station(tmp_path)


def test_an_anomaly_is_flagged_and_a_normal_stays(station: Station) -> None:
    station.put("crack.jpg", jpeg(dark=True))
    station.put("wall.jpg", jpeg(dark=False))
    done = station.inspect("crack.jpg", "wall.jpg")
    assert station.files() == {"flagged/2026-11-23/crack.jpg", "inbox/wall.jpg"}
    crack, wall = station.rows()
    assert (crack["outcome"], crack["place"], wall["outcome"], wall["place"]) == (
        "anomaly",
        "flagged",
        "normal",
        "kept",
    )
    assert crack["score"] == pytest.approx(0.9)
    assert crack["threshold"] == 0.5
    assert crack["filed_at"] and crack["released_at"]
    assert wall["filed_at"] and wall["released_at"] is None
    assert (done.recorded.inspected, done.recorded.anomalies) == (2, 1)


@pytest.mark.parametrize(
    ("normal", "files"), [("archive", {"archive/2026-11-23/wall.jpg"}), ("delete", set())]
)
def test_normals_go_where_the_setting_says(tmp_path: Path, normal: str, files: set[str]) -> None:
    station = Station(tmp_path, normal=normal)
    station.put("wall.jpg", jpeg(dark=False))
    station.inspect("wall.jpg")
    assert station.files() == files
    (row,) = station.rows()
    assert row["filed_at"] and row["released_at"]


def test_what_cannot_be_inspected_is_quarantined_with_its_reason_beside_it(
    station: Station,
) -> None:
    station.put("text.jpg", b"not a picture")
    station.inspect("text.jpg")
    sidecar = station.root / "quarantine/2026-11-23/text.jpg.json"
    assert json.loads(sidecar.read_text())["reason"] == "not_an_image"
    (row,) = station.rows()
    assert (row["outcome"], row["reason"], row["score"]) == ("quarantined", "not_an_image", None)


def test_a_truncated_picture_is_given_time_before_it_is_quarantined(station: Station) -> None:
    station.put("slow.jpg", jpeg(dark=True)[:2000])
    done = station.inspect("slow.jpg")
    assert [incomplete for _, incomplete in done.unsettled] == [True]
    assert station.rows() == []
    station.inspect("slow.jpg", waited=True)
    assert station.rows()[0]["reason"] == "truncated"


def test_a_file_too_big_is_quarantined_unread(tmp_path: Path) -> None:
    station = Station(tmp_path, max_bytes=1000)
    station.put("big.jpg", jpeg(dark=True))
    station.inspect("big.jpg")
    (row,) = station.rows()
    assert (row["reason"], row["sha256"]) == ("oversize", None)
    assert "quarantine/2026-11-23/big.jpg" in station.files()


def test_a_picture_that_changed_after_it_settled_is_not_judged_by_its_old_self(
    station: Station,
) -> None:
    station.put("a.jpg", jpeg(dark=True))
    batch = station.batch("a.jpg")
    station.put("a.jpg", jpeg(dark=False, seed=1))
    with station.pipeline() as pipeline:
        done = pipeline.inspect(batch, station.judging())
    assert [incomplete for _, incomplete in done.unsettled] == [False]
    assert station.rows() == []


def test_names_that_collide_get_a_suffix_and_nothing_is_overwritten(station: Station) -> None:
    for seed in range(3):
        station.put("a.jpg", jpeg(dark=True, seed=seed))
        station.inspect("a.jpg")
    flagged = station.root / "flagged/2026-11-23"
    assert {each.read_bytes() for each in flagged.iterdir()} == {
        jpeg(dark=True, seed=seed) for seed in range(3)
    }
    assert sorted(each.name for each in flagged.iterdir()) == ["a (2).jpg", "a (3).jpg", "a.jpg"]


def test_a_file_that_takes_the_destination_after_the_commit_is_not_overwritten(
    station: Station,
) -> None:
    station.put("a.jpg", jpeg(dark=True))
    with station.pipeline() as pipeline:
        pipeline.inspect(station.batch("a.jpg"), station.judging())
        taken = station.root / "flagged/2026-11-23/a.jpg"
        taken.parent.mkdir(parents=True)
        taken.write_bytes(b"somebody's")
        pipeline.file()
        pipeline.close()
    assert taken.read_bytes() == b"somebody's"
    (row,) = station.rows()
    assert row["destination"] == b"2026-11-23/a (1).jpg"
    assert (station.root / "flagged/2026-11-23/a (1).jpg").read_bytes() == jpeg(dark=True)


def test_the_same_bytes_twice_are_two_inspections_and_the_second_says_so(
    station: Station,
) -> None:
    station.put("a.jpg", jpeg(dark=True))
    station.put("b.jpg", jpeg(dark=True))
    station.inspect("a.jpg", "b.jpg")
    station.put("c.jpg", jpeg(dark=True))
    station.inspect("c.jpg")
    assert [row["duplicate_of"] for row in station.rows()] == [None, 1, 1]


def test_an_empty_process_after_the_commit_is_finished_by_the_next_one(station: Station) -> None:
    for name, dark in (("crack.jpg", True), ("wall.jpg", False)):
        station.put(name, jpeg(dark=dark))
    station.put("text.jpg", b"no picture")
    with station.pipeline() as dying:
        dying.inspect(station.batch("crack.jpg", "wall.jpg", "text.jpg"), station.judging())
    with station.pipeline() as heir:
        assert heir.recover() == 2
        heir.file()
        heir.close()
    assert station.files() == {
        "flagged/2026-11-23/crack.jpg",
        "inbox/wall.jpg",
        "quarantine/2026-11-23/text.jpg",
        "quarantine/2026-11-23/text.jpg.json",
    }
    assert all(row["filed_at"] for row in station.rows())
    assert len(station.rows()) == 3


def test_moves_that_were_done_but_not_closed_are_closed_by_the_next_process(
    station: Station,
) -> None:
    station.put("crack.jpg", jpeg(dark=True))
    with station.pipeline() as dying:
        dying.inspect(station.batch("crack.jpg"), station.judging())
        dying.file()
    assert station.rows()[0]["filed_at"] is None
    with station.pipeline() as heir:
        heir.recover()
        heir.file()
        heir.close()
    (row,) = station.rows()
    assert row["filed_at"]
    assert station.files() == {"flagged/2026-11-23/crack.jpg"}


def test_a_batch_that_is_offered_again_after_its_commit_is_not_recorded_twice(
    station: Station,
) -> None:
    station.put("crack.jpg", jpeg(dark=True))
    station.put("wall.jpg", jpeg(dark=False))
    batch = station.batch("crack.jpg", "wall.jpg")
    with station.pipeline() as pipeline:
        pipeline.inspect(batch, station.judging())
        again = pipeline.inspect(batch, station.judging())
        pipeline.file()
        pipeline.close()
    assert len(station.rows()) == 2
    assert len(again.recorded.known) == 2


def test_content_that_replaces_a_kept_picture_is_a_new_arrival(station: Station) -> None:
    station.put("wall.jpg", jpeg(dark=False))
    station.inspect("wall.jpg")
    station.put("wall.jpg", jpeg(dark=True, seed=5))
    station.inspect("wall.jpg")
    old, new = station.rows()
    assert old["superseded_at"] and old["released_at"]
    assert new["outcome"] == "anomaly" and new["superseded_at"] is None
    assert station.files() == {"flagged/2026-11-23/wall.jpg"}


def test_content_that_slips_in_between_commit_and_move_is_kept_and_inspected(
    station: Station,
) -> None:
    station.put("a.jpg", jpeg(dark=True))
    newcomer = jpeg(dark=False, seed=9)
    with station.pipeline() as pipeline:
        pipeline.inspect(station.batch("a.jpg"), station.judging())
        os.unlink(station.inbox / "a.jpg")
        station.put("a.jpg", newcomer)
        report = pipeline.file()
        pipeline.close()
        assert report.replaced == 1
        assert (station.inbox / "a.jpg").read_bytes() == newcomer
        pipeline.inspect(station.batch("a.jpg"), station.judging())
    old, new = station.rows()
    assert old["superseded_at"]
    assert new["outcome"] == "normal"


def test_a_condemned_picture_is_quarantined_without_being_decoded(station: Station) -> None:
    station.put("killer.jpg", jpeg(dark=True))
    station.put("good.jpg", jpeg(dark=False))
    killer = station.arrival("killer.jpg").fingerprint
    station.condemned = {b"killer.jpg": (killer, QuarantineReason.DECODER_CRASH)}
    station.inspect("killer.jpg", "good.jpg")
    assert {row["source"]: row["reason"] for row in station.rows()} == {
        b"killer.jpg": "decoder_crash",
        b"good.jpg": None,
    }


def test_other_content_under_a_condemned_name_is_judged_like_any_other(station: Station) -> None:
    station.put("killer.jpg", jpeg(dark=True))
    killer = station.arrival("killer.jpg").fingerprint
    station.condemned = {b"killer.jpg": (killer, QuarantineReason.DECODER_CRASH)}
    station.put("killer.jpg", jpeg(dark=False, seed=3))
    station.inspect("killer.jpg")
    assert station.rows()[0]["outcome"] == "normal"


def test_a_photograph_that_cannot_be_looked_at_again_is_quarantined_and_the_others_are_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = images.Limits(120_000_000, "tile")
    damage = Unreadable(QuarantineReason.UNREADABLE, "its data are damaged")

    def decode(data: bytes, _: float | None) -> Any:
        found = look(data, limits, Tiling())
        if isinstance(found, Photograph):
            monkeypatch.setattr(found, "squares", Mock(side_effect=damage))
        return found

    station = Station(tmp_path)
    station.put("wall.jpg", wall_jpeg(700, 500))
    station.put("good.jpg", jpeg(dark=False))
    judging = station.judging()
    judging = replace(judging, rule=replace(judging.rule, second_look_from=0.0))
    with station.pipeline(decode=decode) as pipeline:
        pipeline.inspect(station.batch("wall.jpg", "good.jpg"), judging)
    found = {row["source"]: (row["outcome"], row["reason"]) for row in station.rows()}
    assert found == {b"wall.jpg": ("quarantined", "unreadable"), b"good.jpg": ("normal", None)}


def test_a_model_that_gives_no_probability_records_nothing(tmp_path: Path) -> None:
    class Broken:
        model_id = "broken"

        def scores(self, pictures: Any) -> Any:
            return np.full(len(pictures), np.nan, np.float32)

    station = Station(tmp_path, classifier=Broken())
    station.put("a.jpg", jpeg(dark=True))
    with pytest.raises(ModelDisagrees, match="not a probability"):
        station.inspect("a.jpg")
    assert station.rows() == []
    assert station.files() == {"inbox/a.jpg"}


class Noted:
    """Passes everything on to a real part, and notes the names of the methods that were called."""

    def __init__(self, part: Any, notes: list[str]) -> None:
        self._part, self._notes = part, notes

    def __getattr__(self, name: str) -> Any:
        def noted(*args: Any, **kwargs: Any) -> Any:
            self._notes.append(name)
            return getattr(self._part, name)(*args, **kwargs)

        return noted


class Refuses:
    """A mover that may not move what has this name, until it may."""

    def __init__(self, mover: Any, name: bytes) -> None:
        self._mover, self.name = mover, name

    def __getattr__(self, name: str) -> Any:
        return getattr(self._mover, name)

    def file(self, demand: Filing) -> Filed:
        if demand.source == self.name:
            return Filed(MoveResult.REFUSED, "no right to")
        found: Filed = self._mover.file(demand)
        return found


class FailsOnce:
    """Passes everything on to a real part, but one method's n-th call first meets a full disk."""

    def __init__(self, part: Any, method: str, call: int, *, after: bool) -> None:
        self._part, self._method, self._left, self._after = part, method, call, after

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._part, name)
        if name != self._method:
            return real

        def failing(*args: Any, **kwargs: Any) -> Any:
            self._left -= 1
            if self._left:
                return real(*args, **kwargs)
            if self._after:
                real(*args, **kwargs)
            raise SystemFault("disk_full", "no room")

        return failing


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(
    ("part", "method", "call"),
    [
        ("mover", "sync_inbox", 1),
        ("books", "record", 1),
        ("mover", "file", 1),
        ("mover", "file", 2),
        ("mover", "sync", 1),
        ("books", "close", 1),
    ],
)
def test_after_a_fault_of_the_system_the_same_steps_lead_to_the_same_end(
    station: Station, part: str, method: str, call: int, after: bool
) -> None:
    """A fault may strike before a step happened, or after it had; both are repeated."""
    names = ["crack1.jpg", "wall.jpg", "crack2.jpg", "text.jpg"]
    for seed, name in enumerate(names):
        station.put(name, jpeg(dark="crack" in name, seed=seed) if "text" not in name else b"no")
    real = station.books if part == "books" else station.mover
    faulty = FailsOnce(real, method, call, after=after)
    faults = 0
    with station.pipeline(**{part: faulty}) as pipeline:
        batch, judging = station.batch(*names), station.judging()
        steps = [lambda: pipeline.inspect(batch, judging), pipeline.file, pipeline.close]
        for step in steps:
            while True:
                try:
                    step()
                    break
                except SystemFault:
                    faults += 1
    assert faults == 1
    assert station.files() == {
        "flagged/2026-11-23/crack1.jpg",
        "flagged/2026-11-23/crack2.jpg",
        "inbox/wall.jpg",
        "quarantine/2026-11-23/text.jpg",
        "quarantine/2026-11-23/text.jpg.json",
    }
    assert len(station.rows()) == 4
    assert all(row["filed_at"] for row in station.rows())


@pytest.mark.parametrize(("method", "call"), [("file", 2), ("file", 3), ("sync", 1)])
def test_a_name_that_was_filed_before_a_fault_is_told_of_after_it(
    station: Station, method: str, call: int
) -> None:
    """Else the intake would hold it as in flight, and pass over the next file of that name."""
    names = ["crack1.jpg", "crack2.jpg", "text.jpg"]
    for seed, name in enumerate(names):
        station.put(name, jpeg(dark=True, seed=seed) if "text" not in name else b"no")
    with station.pipeline(mover=FailsOnce(station.mover, method, call, after=False)) as pipeline:
        pipeline.inspect(station.batch(*names), station.judging())
        with pytest.raises(SystemFault):
            pipeline.file()
        assert sorted(pipeline.file().released) == sorted(map(os.fsencode, names))
        assert pipeline.file().released == ()


@pytest.mark.parametrize(
    ("band", "marked"),
    [
        (None, [None, None]),
        (ReviewBand(0.0, 0.05), [0, 0]),
        (ReviewBand(0.5, 0.95), [1, 0]),
        (ReviewBand(0.05, 0.5), [0, 1]),
        (ReviewBand(0.0, 1.0), [1, 1]),
    ],
)
def test_the_review_band_marks_scores_and_changes_neither_verdict_nor_place(
    station: Station, band: ReviewBand | None, marked: list[int | None]
) -> None:
    station.put("crack.jpg", jpeg(dark=True))
    station.put("wall.jpg", jpeg(dark=False))
    station.put("spoiled.jpg", b"no picture at all")
    with station.pipeline(review_band=band) as pipeline:
        done = pipeline.inspect(
            station.batch("crack.jpg", "wall.jpg", "spoiled.jpg"), station.judging()
        )
        pipeline.file()
    crack, wall, spoiled = station.rows()
    assert [crack["in_review_band"], wall["in_review_band"]] == marked
    assert spoiled["in_review_band"] is None  # it has no score
    assert done.recorded.in_review_band == sum(each or 0 for each in marked)
    assert (crack["outcome"], crack["place"]) == ("anomaly", "flagged")
    assert (wall["outcome"], wall["place"]) == ("normal", "kept")


def test_both_ends_belong_to_the_review_band(station: Station) -> None:
    score = float(station.classifier.scores(np.zeros((1, 227, 227, 3), np.uint8))[0])
    station.put("crack.jpg", jpeg(dark=True))
    with station.pipeline(review_band=ReviewBand(score, score)) as pipeline:
        pipeline.inspect(station.batch("crack.jpg"), station.judging())
    assert station.rows()[0]["in_review_band"] == 1


def test_rows_stand_in_the_order_in_which_the_pictures_settled(station: Station) -> None:
    names = [f"{index:02}.jpg" for index in range(9)]
    for index, name in enumerate(names):
        station.put(name, jpeg(dark=index % 2 == 0, seed=index))
    station.inspect(*names)
    assert [row["source"] for row in station.rows()] == [name.encode() for name in names]


def test_a_name_that_is_no_text_is_filed_under_that_very_name(station: Station) -> None:
    for name in (b"line\nbreak.jpg", b"latin-\xff.jpg", "sub/ü\u202e.jpg".encode()):
        station.put(name, jpeg(dark=True, seed=len(name)))
        station.inspect(name)
        assert os.path.exists(os.path.join(os.fsencode(station.root / "flagged/2026-11-23"), name))


# ---------------------------------------------------------------------------- what is told of it


def test_what_is_being_decoded_is_named_until_all_of_it_has_been(station: Station) -> None:
    notes: list[str] = []

    class Journal:
        def begin(self, sources: Sequence[bytes]) -> None:
            notes.append(f"begin {sorted(sources)}")

        def end(self) -> None:
            notes.append("end")

    def decode(data: bytes, _: float | None) -> Any:
        notes.append("decode")
        return images.decode(data, images.Limits(120_000_000, "quarantine"))

    for seed, name in enumerate(("a.jpg", "b.jpg")):
        station.put(name, jpeg(dark=False, seed=seed))
    books = Noted(station.books, notes)
    with station.pipeline(journal=Journal(), decode=decode, books=books) as pipeline:
        pipeline.inspect(station.batch("b.jpg", "a.jpg"), station.judging())
    assert notes == ["begin [b'a.jpg', b'b.jpg']", "decode", "decode", "end", "record"]


def test_each_picture_each_scored_batch_and_each_move_is_progress(station: Station) -> None:
    beats: list[None] = []
    for seed in range(3):
        station.put(f"{seed}.jpg", jpeg(dark=seed > 0, seed=seed))
    with station.pipeline(progress=lambda: beats.append(None)) as pipeline:
        pipeline.inspect(station.batch("0.jpg", "1.jpg", "2.jpg"), station.judging())
        assert len(beats) == 3 + 1
        pipeline.file()
        assert len(beats) == 3 + 1 + 2


def test_the_time_of_a_batch_is_told_by_what_it_was_spent_on(station: Station) -> None:
    """By a clock that stands still but while reading, scoring and recording."""
    now_s = 1000.0

    def spend(spent_s: float, work: Callable[..., Any]) -> Callable[..., Any]:
        def spending(*args: Any) -> Any:
            nonlocal now_s
            now_s += spent_s
            return work(*args)

        return spending

    station.put("a.jpg", jpeg(dark=False))
    judging = station.judging()
    scored = Mock(model_id="m", scores=spend(0.5, station.classifier.scores))
    books = Mock(wraps=station.books, record=spend(0.25, station.books.record))
    read = spend(2.0, station.read)
    with station.pipeline(clock=lambda: now_s, read=read, books=books) as pipeline:
        done = pipeline.inspect(station.batch("a.jpg"), replace(judging, classifier=scored))
    assert (done.read_s, done.classify_s, done.record_s) == (2.0, 0.5, 0.25)
    with closing(sqlite3.connect(station.database)) as connection:
        (told,) = connection.execute("SELECT read_us, classify_us FROM batches").fetchall()
    assert told == (2_000_000, 500_000)


def test_where_nothing_could_be_judged_yet_nothing_is_recorded_or_counted(
    station: Station,
) -> None:
    station.put("slow.jpg", jpeg(dark=True)[:2000])
    notes: list[str] = []
    books, mover = Noted(station.books, notes), Noted(station.mover, notes)
    with station.pipeline(books=books, mover=mover) as pipeline:
        done = pipeline.inspect(station.batch("slow.jpg"), station.judging())
        assert not any(asdict(done.recorded).values())
        assert not pipeline.owes
    assert notes == []


def test_a_condemned_picture_that_was_recorded_is_forgotten_and_its_name_free(
    station: Station,
) -> None:
    station.put("killer.jpg", jpeg(dark=True))
    batch = station.batch("killer.jpg")
    condemned = {b"killer.jpg": (batch.arrivals[0].fingerprint, QuarantineReason.DECODER_CRASH)}
    with station.pipeline(condemned=condemned) as pipeline:
        pipeline.inspect(batch, station.judging())
        again = pipeline.inspect(batch, station.judging())
    assert len(again.recorded.known) == 1
    assert condemned != {}  # the caller's own is not touched


# ------------------------------------------------------------------------- what is owed, to whom


def test_a_move_is_owed_until_its_row_is_closed(station: Station) -> None:
    station.put("crack.jpg", jpeg(dark=True))
    with station.pipeline() as pipeline:
        assert not pipeline.owes
        pipeline.inspect(station.batch("crack.jpg"), station.judging())
        assert pipeline.owes
        pipeline.file()
        assert pipeline.owes and station.rows()[0]["filed_at"] is None
        pipeline.close()
        assert not pipeline.owes and station.rows()[0]["filed_at"]


def test_rows_are_closed_once_be_it_with_the_next_batch(station: Station) -> None:
    notes: list[str] = []
    station.put("crack.jpg", jpeg(dark=True))
    station.put("wall.jpg", jpeg(dark=False))
    with station.pipeline(books=Noted(station.books, notes)) as pipeline:
        pipeline.inspect(station.batch("crack.jpg"), station.judging())
        pipeline.file()
        pipeline.inspect(station.batch("wall.jpg"), station.judging())
        assert not pipeline.owes
    crack, wall = station.rows()
    assert crack["filed_at"] == wall["inspected_at"]


def test_recovery_takes_up_nothing_that_this_process_knows_of(station: Station) -> None:
    for seed, name in enumerate(("crack.jpg", "stuck.jpg")):
        station.put(name, jpeg(dark=True, seed=seed))
    mover = Refuses(FailsOnce(station.mover, "sync", 1, after=False), b"stuck.jpg")
    with station.pipeline(mover=mover) as pipeline:
        pipeline.inspect(station.batch("crack.jpg", "stuck.jpg"), station.judging())
        assert pipeline.recover() == 0  # owed
        with pytest.raises(SystemFault):
            pipeline.file()
        assert pipeline.recover() == 0  # moved and not synced, and refused
        assert pipeline.file().released == (b"crack.jpg",)
        assert pipeline.recover() == 0  # synced and not closed
        pipeline.close()
        assert pipeline.recover() == 0


def test_what_an_earlier_process_left_is_moved_once_it_has_been_taken_up(
    station: Station,
) -> None:
    station.put("crack.jpg", jpeg(dark=True))
    with station.pipeline() as dying:
        dying.inspect(station.batch("crack.jpg"), station.judging())
    with station.pipeline() as heir:
        assert heir.file().released == ()
        assert station.files() == {"inbox/crack.jpg"}
        assert heir.recover() == 1
        assert heir.file().released == (b"crack.jpg",)


def test_a_move_that_was_refused_waits_until_it_is_asked_for_again(station: Station) -> None:
    for seed, name in enumerate(("crack.jpg", "stuck.jpg")):
        station.put(name, jpeg(dark=True, seed=seed))
    mover = Refuses(station.mover, b"stuck.jpg")
    with station.pipeline(mover=mover) as pipeline:
        pipeline.inspect(station.batch("crack.jpg", "stuck.jpg"), station.judging())
        report = pipeline.file()
        assert report.released == (b"crack.jpg",)
        assert (report.refused, report.waiting) == (((b"stuck.jpg", "no right to"),), 1)
        report = pipeline.file()
        assert (report.released, report.refused, report.waiting) == ((), (), 1)
        pipeline.close()
        pipeline.retry_refused()
        assert pipeline.owes
        assert pipeline.file().waiting == 1
        mover.name = b""
        pipeline.retry_refused()
        report = pipeline.file()
        assert (report.released, report.waiting) == ((b"stuck.jpg",), 0)
        pipeline.retry_refused()
        assert pipeline.file().released == ()
        pipeline.close()
    assert all(row["filed_at"] for row in station.rows())


def test_what_was_taken_away_before_its_move_is_told_of_and_nothing_else_is(
    station: Station,
) -> None:
    for seed, name in enumerate(("crack.jpg", "taken.jpg")):
        station.put(name, jpeg(dark=True, seed=seed))
    marked: list[Filing] = []
    with station.pipeline(mark=marked.extend) as pipeline:
        pipeline.inspect(station.batch("crack.jpg", "taken.jpg"), station.judging())
        (station.inbox / "taken.jpg").unlink()
        report = pipeline.file()
    assert report.vanished == (b"taken.jpg",) and report.replaced == 0
    assert sorted(report.released) == [b"crack.jpg", b"taken.jpg"]
    assert [each.source for each in marked] == [b"crack.jpg"]


def test_a_flagged_picture_is_marked_once_where_it_came_to_lie_and_before_its_row_is_closed(
    station: Station,
) -> None:
    marked: list[tuple[bytes, bytes | None]] = []

    def mark(filings: Sequence[Filing]) -> None:
        assert all(row["filed_at"] is None for row in station.rows())
        for each in filings:
            assert each.destination is not None
            path = os.path.join(os.fsencode(station.root / "flagged"), each.destination)
            assert os.path.exists(path)
            marked.append((each.source, each.destination))

    station.put("crack.jpg", jpeg(dark=True))
    station.put("text.jpg", b"no picture")
    with station.pipeline(mark=mark) as pipeline:
        pipeline.inspect(station.batch("crack.jpg", "text.jpg"), station.judging())
        taken = station.root / "flagged/2026-11-23/crack.jpg"
        taken.parent.mkdir(parents=True)
        taken.write_bytes(b"somebody's")
        pipeline.file()
        pipeline.close()
        pipeline.file()
    assert marked == [(b"crack.jpg", b"2026-11-23/crack (1).jpg")]


def test_after_a_commit_that_may_have_been_made_the_books_are_asked_once(station: Station) -> None:
    notes: list[str] = []
    station.put("crack.jpg", jpeg(dark=True))
    books = Noted(FailsOnce(station.books, "record", 1, after=True), notes)
    with station.pipeline(books=books) as pipeline:
        batch, judging = station.batch("crack.jpg"), station.judging()
        with pytest.raises(SystemFault):
            pipeline.inspect(batch, judging)
        assert len(pipeline.inspect(batch, judging).recorded.known) == 1
        assert pipeline.file().released == (b"crack.jpg",)
        assert pipeline.file().released == ()
    assert notes.count("unfiled") == 1
