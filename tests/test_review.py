"""What a person says of a picture is kept, the latest label counts, and the copy follows it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from crackwatch import images
from crackwatch.domain import Label, Outcome, Place, ReviewBand
from crackwatch.errors import DatasetError, LockedError, SystemFault, UsageError
from crackwatch.reporting.summary import Whereabouts
from crackwatch.review import copies as copies_module
from crackwatch.review.copies import REVIEWED, STAGED, Copies
from crackwatch.review.listing import MOST_ALIKE, listing
from crackwatch.review.locating import Locator
from crackwatch.review.marking import Marked, Marker, mend
from crackwatch.store.engine import open_reader, open_writer
from crackwatch.store.reviews import Review, ReviewBooks
from crackwatch.training import sources
from tests.disks import as_an_ordinary_user
from tests.station import Station, jpeg

CRACK, OK = Label.ANOMALY, Label.NORMAL
LIMITS = images.Limits(120_000_000, "quarantine")


class Clock:
    """Each look is a minute later."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 23, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        self.now += timedelta(minutes=1)
        return self.now


class Desk:
    """A station and everything that a reviewer needs."""

    def __init__(self, root: Path, **station: Any) -> None:
        self.station = Station(root, **station)
        self.folder = root / "dataset" / REVIEWED
        self.books = ReviewBooks(open_writer(self.station.database), "station")
        self.copies = Copies(self.folder)
        self.clock = Clock()
        places = self.station.places
        inbox = os.fsencode(self.station.inbox)
        self.locator = Locator(
            self.books, inbox, places, os.fsencode(root), Whereabouts(inbox, places)
        )
        self.marker = self.marker_with()

    def marker_with(self, **replaced: Any) -> Marker:
        parts: dict[str, Any] = {
            "books": self.books,
            "copies": self.copies,
            "decode": lambda data: images.decode(data, LIMITS),
            "now": self.clock,
        }
        return Marker(**{**parts, **replaced})

    def mark(
        self, what: str | Path, label: Label, by: str = "anna", note: str | None = None, **at: Any
    ) -> Marked:
        picture = self.marker.read(self.locator(str(what)))
        return self.marker.mark(picture, label, by, note, **at)

    def filed(self) -> list[str]:
        """Every visible file of the folder, relative to it."""
        return sorted(
            str(path.relative_to(self.folder))
            for path in self.folder.rglob("*")
            if path.is_file() and not path.relative_to(self.folder).parts[0].startswith(".")
        )

    def staged(self) -> list[str]:
        return sorted(os.listdir(self.folder / os.fsdecode(STAGED)))


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """A station with a flagged crack (inspection 1) and a wall in the inbox (inspection 2)."""
    desk = Desk(tmp_path)
    desk.station.put("crack.jpg", jpeg(dark=True))
    desk.station.put("wall.jpg", jpeg(dark=False))
    desk.station.inspect("crack.jpg", "wall.jpg")
    return desk


# ------------------------------------------------------------------------------------- marking


def test_a_mark_stores_who_when_what_and_copies_the_picture(desk: Desk) -> None:
    marked = desk.mark("1", OK, "anna", "a joint")
    (review,) = desk.books.all()
    assert review == marked.review
    assert (review.inspection_id, review.label, review.by, review.note) == (
        1,
        OK,
        "anna",
        "a joint",
    )
    assert review.at == datetime(2026, 11, 23, 12, 1, tzinfo=UTC)
    (copy,) = desk.filed()
    assert copy == f"normal/crack-{review.sha256.hex()[:12]}.jpg" == review.picture.decode()
    assert (desk.folder / copy).read_bytes() == jpeg(dark=True)
    assert desk.staged() == []
    flagged = desk.station.root / "flagged/2026-11-23/crack.jpg"
    assert flagged.read_bytes() == jpeg(dark=True)  # the picture itself stays where it is


def test_the_latest_label_counts_and_the_copy_lies_in_one_folder(desk: Desk) -> None:
    for label, by in ((OK, "anna"), (CRACK, "ben"), (OK, "anna"), (CRACK, "anna")):
        desk.mark("1", label, by)
        (copy,) = desk.filed()
        assert copy.startswith(f"{label.value}/crack-")
    assert [each.label for each in desk.books.all()] == [OK, CRACK, OK, CRACK]


def test_saying_the_same_again_changes_nothing(desk: Desk) -> None:
    first = desk.mark("1", OK, "anna", "a joint")
    again = desk.mark("1", OK, "anna", "a joint")
    assert (first.changed, again.changed) == (True, False)
    assert again.review == first.review
    assert len(desk.books.all()) == len(desk.filed()) == 1
    assert desk.mark("1", OK, "ben", "a joint").changed  # a second opinion is information
    assert desk.mark("1", OK, "ben", "really").changed  # and so is another note


def test_a_label_given_now_counts_though_the_clock_was_turned_back(desk: Desk) -> None:
    desk.mark("1", OK)
    desk.clock.now -= timedelta(days=1)
    desk.mark("1", CRACK)
    assert desk.books.all()[-1].label is CRACK
    assert desk.filed()[0].startswith("anomaly/")


def test_a_label_given_earlier_does_not_outdo_a_later_one(desk: Desk) -> None:
    desk.mark("1", CRACK)
    early = datetime(2026, 11, 1, tzinfo=UTC)
    assert desk.mark("1", OK, "ben", at=early).changed
    assert [each.label for each in desk.books.all()] == [OK, CRACK]
    assert desk.filed()[0].startswith("anomaly/")
    assert not desk.mark("1", OK, "ben", at=early).changed  # it is known


def test_the_same_bytes_under_two_names_are_one_picture(desk: Desk, tmp_path: Path) -> None:
    other = tmp_path / "elsewhere.jpg"
    other.write_bytes(jpeg(dark=True))
    desk.mark("1", CRACK)
    marked = desk.mark(other, OK)
    assert marked.inspection is not None and marked.inspection.id == 1
    (copy,) = desk.filed()
    assert copy.startswith("normal/crack-")  # under the name that it has


def test_a_picture_from_outside_is_reviewed_without_an_inspection(
    desk: Desk, tmp_path: Path
) -> None:
    outside = tmp_path / "bridge.jpeg"
    outside.write_bytes(jpeg(dark=True, seed=7))
    marked = desk.mark(outside, CRACK)
    assert (marked.inspection, marked.review.inspection_id) == (None, None)
    assert desk.filed() == [f"anomaly/bridge-{marked.review.sha256.hex()[:12]}.jpeg"]
    desk.station.put("late.jpg", jpeg(dark=True, seed=7))  # and it arrives afterwards
    desk.station.inspect("late.jpg")
    (reviewed,) = listing(desk.books)
    assert reviewed.inspection is not None and reviewed.inspection.source == b"late.jpg"
    assert reviewed.agrees


@pytest.mark.parametrize(
    ("name", "copy"),
    [
        (b"b\xff\n.jpg", b"b\xff\n-%s.jpg"),
        (b".hidden.jpg", b"hidden-%s.jpg"),  # retrain reads no hidden names
        (b"...", b"picture-%s"),
        (b"-rf.jpg", b"-rf-%s.jpg"),
        (b"x" * 251 + b".jpg", b"x" * 238 + b"-%s.jpg"),
    ],
)
def test_a_copy_keeps_as_much_of_a_name_as_it_can(
    desk: Desk, tmp_path: Path, name: bytes, copy: bytes
) -> None:
    path = os.path.join(os.fsencode(tmp_path), name)
    with open(path, "wb") as file:
        file.write(jpeg(dark=True, seed=3))
    marked = desk.mark(os.fsdecode(path), CRACK)
    digits = marked.review.sha256.hex()[:12].encode()
    assert marked.review.picture == b"anomaly/" + copy.replace(b"%s", digits)
    assert os.listdir(os.fsencode(desk.folder / "anomaly")) == [copy.replace(b"%s", digits)]


def test_nothing_in_the_folder_is_overwritten(desk: Desk) -> None:
    digits = jpeg_hash(desk)
    (desk.folder / "normal").mkdir(parents=True)
    stranger = desk.folder / "normal" / f"crack-{digits[:12]}.jpg"
    stranger.write_bytes(b"somebody else's")
    desk.mark("1", CRACK)
    assert desk.filed() == [f"anomaly/crack-{digits}.jpg", f"normal/{stranger.name}"]
    assert stranger.read_bytes() == b"somebody else's"


def jpeg_hash(desk: Desk) -> str:
    seen = desk.books.inspection(1)
    assert seen is not None and seen.sha256 is not None
    return seen.sha256.hex()


def test_what_root_marks_stays_the_stations_to_go_on_with() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can leave behind what others may not touch")
    with as_an_ordinary_user() as root:
        desk = Desk(root)
        wall = root / "wall.jpg"
        wall.write_bytes(jpeg(dark=False))
        dataset = root / "dataset"
        dataset.mkdir()
        desk.station.put("crack.jpg", jpeg(dark=True))
        user = os.geteuid()
        os.seteuid(0)
        try:
            desk.mark(wall, OK, "root")
        finally:
            os.seteuid(user)
        owners = {path.lstat().st_uid for path in dataset.rglob("*")}
        assert owners == {user}
        desk.mark(wall, CRACK, "anna")
        assert [name.partition("/")[0] for name in desk.filed()] == ["anomaly"]


def test_a_link_in_the_place_of_a_half_written_copy_is_not_written_through(
    desk: Desk, tmp_path: Path
) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    located = desk.locator("wall.jpg")
    picture = desk.marker.read(located)
    staged = desk.folder / os.fsdecode(STAGED)
    staged.mkdir(parents=True)
    (staged / f"{picture.sha256.hex()}.part").symlink_to(victim)
    desk.marker.mark(picture, OK, "anna", None)
    assert victim.read_bytes() == b"precious"
    assert len(desk.filed()) == 1


def test_what_stands_where_the_copy_must_go_is_named(desk: Desk) -> None:
    desk.mark("1", CRACK)
    stranger = desk.folder / "normal" / Path(desk.filed()[0]).name
    stranger.write_bytes(b"somebody else's")
    with pytest.raises(DatasetError, match="has other content than the picture"):
        desk.mark("1", OK)
    stranger.unlink()
    assert mend(desk.books, desk.copies) == ()
    assert desk.filed()[0].startswith("normal/")


# ------------------------------------------------------------------------------------ refusals


def test_a_picture_that_changed_since_its_inspection_is_refused(desk: Desk) -> None:
    flagged = desk.station.root / "flagged/2026-11-23/crack.jpg"
    flagged.write_bytes(jpeg(dark=True, seed=9))
    for what in ("1", str(flagged), "crack.jpg"):
        with pytest.raises(UsageError, match="is not the picture that inspection 1 saw"):
            desk.mark(what, OK)
    assert desk.books.all() == []


def test_new_content_under_a_kept_name_is_a_picture_of_its_own(desk: Desk) -> None:
    path = desk.station.put("wall.jpg", jpeg(dark=False, seed=9))
    with pytest.raises(UsageError, match="is not the picture that inspection 2 saw"):
        desk.mark("2", CRACK)
    assert desk.mark(path, CRACK).inspection is None


def test_a_deleted_picture_cannot_be_reviewed_and_it_is_said_why(tmp_path: Path) -> None:
    desk = Desk(tmp_path, normal="delete")
    desk.station.put("wall.jpg", jpeg(dark=False))
    desk.station.inspect("wall.jpg")
    for what in ("1", "wall.jpg", str(desk.station.inbox / "wall.jpg")):
        with pytest.raises(UsageError, match=r"deleted after its inspection \(files.normal"):
            desk.mark(what, OK)


def test_what_does_not_decode_is_refused_with_its_reason(desk: Desk, tmp_path: Path) -> None:
    text = tmp_path / "notes.jpg"
    text.write_text("no picture")
    with pytest.raises(UsageError, match=r"notes\.jpg: cannot be used as a picture: not_an"):
        desk.mark(text, OK)
    with pytest.raises(UsageError, match="Is a directory"):
        desk.mark(tmp_path, OK)
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(UsageError, match="not a regular file"):
        desk.mark(tmp_path / "pipe.jpg", OK)
    assert desk.books.all() == []


@pytest.mark.parametrize("what", ["99", "nothing.jpg", "", "/nowhere/at/all.jpg", "9" * 30])
def test_what_is_not_there_is_said_to_be_not_there(desk: Desk, what: str) -> None:
    with pytest.raises(UsageError, match=r"none of that number|no such picture|is not a path"):
        desk.mark(what, OK)


# ------------------------------------------------------------------------------------- finding


@pytest.mark.parametrize(
    "what",
    [
        "{root}/flagged/2026-11-23/crack.jpg",  # as a report prints it
        "flagged/2026-11-23/crack.jpg",  # below the station
        "2026-11-23/crack.jpg",  # below one of its folders
        "crack.jpg",  # its source
        "{root}/inbox/crack.jpg",  # where it was
        "1",
    ],
)
def test_a_picture_is_found_however_a_report_names_it(
    desk: Desk, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/")
    marked = desk.mark(what.format(root=desk.station.root), OK)
    assert marked.inspection is not None and marked.inspection.id == 1


def test_a_path_is_found_from_where_one_stands(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(desk.station.inbox)
    assert desk.locator("./wall.jpg").path == os.fsencode(desk.station.inbox / "wall.jpg")


def test_a_name_that_is_no_text_is_found_as_typed_and_as_shown(desk: Desk) -> None:
    name = b"\xe4\\x41.jpg"  # not UTF-8, and with what looks like an escape
    desk.station.put(name, jpeg(dark=True, seed=4))
    desk.station.inspect(name)
    for what in (r"\xe4\\x41.jpg", os.fsdecode(name)):
        marked = desk.mark(what, OK)
        assert marked.inspection is not None and marked.inspection.source == name


def test_a_source_that_two_pictures_had_is_refused_with_both_ids(desk: Desk) -> None:
    desk.station.put("crack.jpg", jpeg(dark=True, seed=5))
    desk.station.inspect("crack.jpg")
    with pytest.raises(
        UsageError, match=r"(?s)may be one of 2 pictures.*inspection 3.*inspection 1"
    ):
        desk.mark("crack.jpg", OK)


# ------------------------------------------------------------------- crashes, and who is quicker


class Failing:
    """Passes calls on, and fails instead of, or right after, one method's."""

    def __init__(self, part: Any, method: str, *, after: bool = False) -> None:
        self._part, self._method, self._after = part, method, after

    def __getattr__(self, name: str) -> Any:
        real: Callable[..., Any] = getattr(self._part, name)
        if name != self._method:
            return real

        def fails(*args: Any, **kwargs: Any) -> None:
            if self._after:
                real(*args, **kwargs)
            raise SystemFault("disk_full", "the power went")

        return fails


@pytest.mark.parametrize("earlier", [None, CRACK], ids=["first", "relabelled"])
@pytest.mark.parametrize(
    ("part", "method", "after", "counted"),
    [
        ("copies", "stage", False, False),
        ("copies", "stage", True, False),
        ("books", "add", False, False),
        ("books", "add", True, True),
        ("copies", "settle", False, True),
        ("copies", "settle", True, True),
    ],
)
def test_a_crash_between_any_two_steps_is_mended(
    desk: Desk, earlier: Label | None, part: str, method: str, after: bool, counted: bool
) -> None:
    if earlier:
        desk.mark("1", earlier)
    broken = desk.marker_with(**{part: Failing(getattr(desk, part), method, after=after)})
    with pytest.raises(SystemFault):
        broken.mark(broken.read(desk.locator("1")), OK, "anna", None)
    before_mending = desk.filed()
    assert mend(desk.books, desk.copies) == ()
    counting = OK if counted else earlier
    assert [name.split("/")[0] for name in desk.filed()] == ([counting.value] if counting else [])
    if earlier is None and not counted:
        assert before_mending == []  # retrain never sees a picture without a row
    assert desk.staged() == []
    desk.mark("1", OK)  # the person says it again
    assert [name.split("/")[0] for name in desk.filed()] == ["normal"]
    assert [each.label for each in desk.books.all()] == ([earlier] if earlier else []) + [OK]


def test_a_copy_that_a_person_moved_comes_back_to_its_label(desk: Desk) -> None:
    desk.mark("1", OK)
    desk.mark("1", CRACK)
    name = Path(desk.filed()[0]).name
    (desk.folder / "anomaly" / name).rename(desk.folder / "normal" / name)
    assert mend(desk.books, desk.copies) == ()
    assert desk.filed() == [f"anomaly/{name}"]


def test_a_lost_copy_is_told_and_made_anew_by_the_next_mark(desk: Desk) -> None:
    review = desk.mark("1", OK).review
    (desk.folder / desk.filed()[0]).unlink()
    assert mend(desk.books, desk.copies) == (review,)
    assert not desk.mark("1", OK).changed
    assert len(desk.filed()) == 1
    assert mend(desk.books, desk.copies) == ()


def test_with_the_rows_lost_a_copy_that_is_marked_again_is_not_doubled(desk: Desk) -> None:
    desk.mark("1", OK)
    (copy,) = desk.filed()
    with desk.books._engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM reviews")
    desk.mark(desk.folder / copy, CRACK)
    assert desk.filed() == [copy.replace("normal/", "anomaly/")]


def test_mending_leaves_alone_what_is_not_its_own(desk: Desk) -> None:
    desk.mark("1", OK)
    by_hand = desk.folder / "anomaly" / "by-hand.jpg"
    by_hand.write_bytes(jpeg(dark=True, seed=8))
    mend(desk.books, desk.copies)
    assert by_hand.exists()


def test_another_reviewer_is_waited_for_but_not_for_ever(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copies_module, "_LOCK_PATIENCE_S", 0.05)
    with desk.copies.locked(), pytest.raises(LockedError, match="another review"):
        desk.mark("1", OK)
    assert desk.mark("1", OK).changed


# ------------------------------------------------------------------------------ what retrain sees


def test_retrain_finds_the_reviewed_pictures_and_no_others(desk: Desk) -> None:
    for seed in range(100, 100 + 2 * sources.MINIMUM_REVIEWED):
        name = f"{seed}.jpg"
        desk.station.put(name, jpeg(dark=True, seed=seed))
        desk.mark(desk.station.inbox / name, CRACK if seed % 2 else OK)
    desk.mark(desk.station.inbox / "101.jpg", OK)  # another opinion
    desk.mark(desk.station.inbox / "102.jpg", CRACK)
    (desk.folder / os.fsdecode(STAGED) / "leftover").write_bytes(b"of a crash")
    assert sources.REVIEWED == REVIEWED
    found = sources.find(desk.station.root / "dataset", "station", True).files
    labels = {os.path.basename(file.path).split(b"-")[0]: file.label for file in found}
    expected = {b"%d" % seed: CRACK if seed % 2 else OK for seed in range(100, 140)}
    assert labels == expected | {b"101": OK, b"102": CRACK}
    assert len(found) == len(labels)


# ----------------------------------------------------------------------------------- what is said


def test_the_listing_holds_labels_against_verdicts(desk: Desk) -> None:
    desk.mark("1", OK)
    desk.mark("2", OK)
    wall, crack = listing(desk.books)
    assert (wall.agrees, crack.agrees) == (True, False)
    assert crack.inspection is not None
    assert crack.inspection.outcome is Outcome.ANOMALY
    assert crack.inspection.score == pytest.approx(0.9)
    assert listing(desk.books, since=wall.latest.at) == [wall]


def test_a_stuck_cameras_thousand_files_do_not_list_one_another(desk: Desk, tmp_path: Path) -> None:
    """Equal pixels in files whose bytes differ, as with a time in each of them."""
    for number in range(2 * MOST_ALIKE + 5):
        file = tmp_path / f"{number}.jpg"
        file.write_bytes(jpeg(dark=False, seed=9) + b"%d" % number)
        desk.mark(file, OK if number else CRACK)
    found = listing(desk.books)
    assert [each.contradictory for each in found] == [True] * len(found)
    assert all(each.labels[-1] == each.latest for each in found)
    assert max(len(each.labels) for each in found) == MOST_ALIKE + 2
    newest, before = found[:2]
    assert newest.labels[-2] == before.latest
    assert newest.labels[0].label is CRACK


def test_two_people_who_contradict_one_another_are_shown_with_all_they_said(desk: Desk) -> None:
    desk.mark("1", CRACK, "anna")
    desk.mark("1", OK, "ben")
    desk.mark("2", OK, "anna")
    (disputed,) = listing(desk.books, contradictions=True)
    assert [(each.by, each.label) for each in disputed.labels] == [("anna", CRACK), ("ben", OK)]
    assert disputed.latest.by == "ben"
    assert not disputed.in_conflict  # one picture, and its latest label counts


def test_equal_pixels_in_another_file_are_a_contradiction_too(desk: Desk, tmp_path: Path) -> None:
    picture = images.decode(jpeg(dark=True), LIMITS)
    turned = tmp_path / "turned.png"
    turned.write_bytes(images.encode_png(picture[::-1].copy()))
    desk.mark("1", CRACK, "anna")
    desk.mark(turned, OK, "ben")
    found = listing(desk.books, contradictions=True)
    assert [each.latest.by for each in found] == ["ben", "anna"]
    assert [[one.by for one in each.labels] for each in found] == [["anna", "ben"], ["ben", "anna"]]
    assert all(each.in_conflict for each in found)
    desk.mark(turned, CRACK, "ben")
    found = listing(desk.books, contradictions=True)
    assert [each.contradictory for each in found] == [True, True]
    assert not any(each.in_conflict for each in found)


# --------------------------------------------------------------------------------- the review band


@pytest.fixture
def banded(tmp_path: Path) -> Desk:
    """A station whose band holds both scores, 0.9 and 0.1, at a threshold of 0.8."""
    desk = Desk(tmp_path)
    for seed in range(2):
        desk.station.put(f"crack{seed}.jpg", jpeg(dark=True, seed=seed))
        desk.station.put(f"wall{seed}.jpg", jpeg(dark=False, seed=seed))
    names = ("wall0.jpg", "crack0.jpg", "wall1.jpg", "crack1.jpg")
    with desk.station.pipeline(review_band=ReviewBand(0.1 - 1e-6, 0.95)) as pipeline:
        pipeline.inspect(desk.station.batch(*names), desk.station.judging(0.8))
        pipeline.file()
        pipeline.close()
    return desk


def test_what_waits_is_what_nobody_reviewed_the_most_doubtful_first(banded: Desk) -> None:
    assert [each.id for each in banded.books.waiting()] == [4, 2, 3, 1]
    assert banded.books.waiting_count() == 4
    banded.mark("2", CRACK)
    banded.mark("3", OK)
    assert [each.id for each in banded.books.waiting()] == [4, 1]
    assert banded.books.waiting_count() == 2
    assert banded.books.waiting(since=datetime.now(UTC)) == []


def test_the_same_bytes_wait_once(banded: Desk) -> None:
    shutil.copy(banded.station.inbox / "wall0.jpg", banded.station.inbox / "again.jpg")
    with banded.station.pipeline(review_band=ReviewBand(0, 1)) as pipeline:
        pipeline.inspect(banded.station.batch("again.jpg"), banded.station.judging(0.8))
    assert banded.books.waiting_count() == len(banded.books.waiting()) == 4
    banded.mark("again.jpg", OK)
    assert banded.books.waiting_count() == len(banded.books.waiting()) == 3


def test_what_is_deleted_does_not_wait(tmp_path: Path) -> None:
    desk = Desk(tmp_path, normal="delete")
    desk.station.put("wall.jpg", jpeg(dark=False))
    with desk.station.pipeline(review_band=ReviewBand(0, 1)) as pipeline:
        pipeline.inspect(desk.station.batch("wall.jpg"), desk.station.judging())
        pipeline.file()
        pipeline.close()
    assert desk.station.rows()[0]["in_review_band"] == 1
    assert desk.books.waiting() == []
    assert desk.books.waiting_count() == 0


# ---------------------------------------------------------------------------------- reading them


def test_the_books_of_reviews_can_be_read_while_a_batch_is_recorded(desk: Desk) -> None:
    desk.mark("1", OK)
    reader = ReviewBooks(open_reader(desk.station.database), "station")
    with open_writer(desk.station.database).begin():  # somebody writes
        assert len(reader.all()) == 1
        assert reader.waiting_count() == 0


def test_a_row_of_another_station_is_not_marked_by_its_number(desk: Desk) -> None:
    other = ReviewBooks(open_reader(desk.station.database), "elsewhere")
    assert other.inspection(1) is None
    assert other.at_destination(Place.FLAGGED, b"2026-11-23/crack.jpg") is None


def test_reviews_are_given_by_time_the_one_that_counts_last(desk: Desk) -> None:
    first = desk.mark("1", OK).review
    desk.mark("1", CRACK, "ben", at=first.at - timedelta(hours=1))
    history: list[Review] = desk.books.history(first.sha256)
    assert [each.by for each in history] == ["ben", "anna"]
