"""What a person says of a photograph's parts is learned from; what is said of the whole is recorded."""

from __future__ import annotations

import io
import os
import re
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from crackwatch import dataset, images
from crackwatch.cli.cutting import scissors
from crackwatch.config_file import load
from crackwatch.days import Window
from crackwatch.domain import Label
from crackwatch.errors import EXIT_FOUND, EXIT_USAGE
from crackwatch.images.photographs import Tiling, look, open_photograph
from crackwatch.reported import ReviewTally
from crackwatch.store.reports import reading
from tests.station import jpeg
from tests.test_cli_review import Shell

LIMITS = images.Limits(120_000_000, "tile")
WIDTH, HEIGHT = 700, 500  # 4 x 3 tiles that overlap by 32 at least
DARK = (0, 0)  # the tile that is an anomaly to the stub


def scene(seed: int = 0) -> NDArray[np.uint8]:
    """A bright wall with a dark corner, one tile wide."""
    picture = np.random.default_rng(seed).integers(150, 200, (HEIGHT, WIDTH, 3))
    picture[:227, :227] -= 130
    return picture.astype(np.uint8)


class Photographs(Shell):
    """A station with a photograph (inspection 1) and a crop (inspection 2)."""

    def __init__(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        super().__init__(root, capsys)
        self.station.put("wall.png", images.encode_png(scene()))
        self.station.put("crop.jpg", jpeg(dark=False))
        self.inspect("wall.png", "crop.jpg")

    def inspect(self, *names: str) -> None:
        def decode(data: bytes, _: float | None) -> Any:
            return look(data, LIMITS, Tiling())

        with self.station.pipeline(decode=decode) as pipeline:
            pipeline.inspect(self.station.batch(*names), self.station.judging())
            pipeline.file()
            pipeline.close()

    @property
    def learned(self) -> dict[str, NDArray[np.uint8]]:
        """What retrain would find: pixels by folder and name, hashes cut off."""
        folder = self.root / "dataset/reviewed"
        return {
            f"{file.parent.name}/{_short(file.stem)}": images.decode(file.read_bytes(), LIMITS)
            for file in sorted(folder.glob("*/*"))
            if not file.parent.name.startswith(".")
        }


def _short(stem: str) -> str:
    """Without the hashes of the photograph and of the copy."""
    return re.sub("-of-[0-9a-f]{16}", "", stem).rpartition("-")[0]


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Photographs:
    return Photographs(tmp_path, capsys)


def boxes(document: Any) -> list[tuple[int, int, int, int]]:
    return [(each["x"], each["y"], each["w"], each["h"]) for each in document["boxes"]]


# ---------------------------------------------------------------------------------------- boxes


def test_a_box_by_number_is_the_very_tile_that_was_judged(shell: Photographs) -> None:
    said = shell.json("mark", "1", "crack", "--box", "1", "--by", "anna")
    assert boxes(said) == [(0, 0, 227, 227)]
    assert said["boxes"][0]["changed"]
    assert (said["label"], said["recorded"], said["picture"], said["advice"]) == (
        "crack", True, None, None,
    )  # fmt: skip
    (name,) = shell.learned
    assert name == "anomaly/wall-x0-y0"
    assert (shell.learned[name] == scene()[:227, :227]).all()


def test_a_box_around_something_becomes_the_square_that_has_it_in_its_middle(
    shell: Photographs,
) -> None:
    said = shell.json("mark", "1", "crack", "--box", "300,200,40,20", "--box", "680,480,20,20")
    assert boxes(said) == [(207, 97, 227, 227), (473, 273, 227, 227)]  # the second at the edge
    assert (shell.learned["anomaly/wall-x207-y97"] == scene()[97:324, 207:434]).all()
    assert (shell.learned["anomaly/wall-x473-y273"] == scene()[273:500, 473:700]).all()


def test_saying_it_again_changes_nothing_and_saying_otherwise_moves_the_copy(
    shell: Photographs,
) -> None:
    shell("mark", "1", "crack", "--box", "1", "--by", "anna")
    assert not shell.json("mark", "1", "crack", "--box", "1", "--by", "anna")["changed"]
    assert len(shell.labels()) == 2  # the whole and its part
    said = shell.json("mark", "1", "ok", "--box", "1", "--by", "ben")
    assert (said["changed"], said["recorded"]) == (True, False)
    assert list(shell.learned) == ["normal/wall-x0-y0"]


def test_a_part_that_is_ok_says_nothing_of_the_whole(shell: Photographs) -> None:
    said = shell("mark", "1", "ok", "--box", "1", "--by", "anna")
    assert said.startswith(f"parts of {shell.root}/flagged/2026-11-23/wall.png:\n")
    assert "marked ok: 227 x 227 at 0,0; to learn from: " in said
    assert tally(shell).ok == 0


def tally(shell: Photographs) -> ReviewTally:
    """What people said of what was inspected since yesterday."""
    now = datetime.now(UTC)
    with reading(shell.station.database) as rows:
        return rows.reviews(Window(now - timedelta(days=1), now + timedelta(days=1)))


@pytest.mark.parametrize(
    ("box", "complaint"),
    [
        ("2", "has boxes 1 to 1, not 2"),
        ("0", "has boxes 1 to 1, not 0"),
        ("here", "'here' is not a box"),
        ("1,2,3", "is not a box"),
        ("-1,0,20,20", "is not a box"),
        ("690,0,20,20", "is not inside its 700 x 500 pixels"),
        ("0,0,0,20", "is not inside"),
        ("0,0,300,20", "larger than what the model sees at once, 227 x 227"),
    ],
)
def test_what_is_no_box_is_refused_before_anything_is_recorded(
    shell: Photographs, box: str, complaint: str
) -> None:
    shell("mark", "1", "crack", "--box", "1", f"--box={box}", status=EXIT_USAGE)
    assert complaint in shell.error
    assert "wall.png" in shell.error
    assert shell.labels() == []
    assert shell.learned == {}


def test_a_single_picture_has_no_boxes(shell: Photographs) -> None:
    shell("mark", "2", "crack", "--box", "1", status=EXIT_USAGE)
    assert "is a single picture" in shell.error


def test_a_part_is_cut_at_the_scale_at_which_the_photograph_was_judged(shell: Photographs) -> None:
    """Half a millimetre a pixel, and the model's a quarter: a tile shows 114 pixels."""
    settings = load(shell.config, {})
    content = images.encode_png(scene(3))
    photograph = scissors(settings).open(content, 2.0)
    assert photograph.side_px == 114
    (tile,) = photograph.cut(np.array([[100, 50, 114, 114]]))
    assert tile.shape == (227, 227, 3)


# ---------------------------------------------------------------------------------------- wholes


def test_a_whole_photograph_that_is_ok_gives_its_false_alarms_back(shell: Photographs) -> None:
    shell("mark", "1", "crack", "--box", "400,300,50,50", "--by", "anna")
    said = shell.json("mark", "1", "ok", "--by", "ben")
    assert said["recorded"]
    assert set(boxes(said)) == {(0, 0, 227, 227), (312, 212, 227, 227)}
    assert {name.partition("/")[0] for name in shell.learned} == {"normal"}
    found = tally(shell)
    assert (found.ok, found.crack, found.false_alarms) == (1, 0, 1)


def test_a_whole_photograph_with_a_crack_teaches_nothing_and_says_so(shell: Photographs) -> None:
    said = shell("mark", "1", "crack", "--by", "anna")
    assert "inspection 1 agrees: anomaly" in said
    assert "Nothing is learned from a whole photograph" in said
    assert "--box" in said
    assert shell.learned == {}
    assert len(shell.labels()) == 1


def test_one_that_was_never_judged_has_no_numbers_and_no_false_alarms(shell: Photographs) -> None:
    other = shell.root / "other.png"
    other.write_bytes(images.encode_png(scene(5)))
    assert "nobody knows what would be a false alarm" in " ".join(
        shell("mark", other, "ok").split()
    )
    shell("mark", other, "crack", "--box", "1", status=EXIT_USAGE)
    assert "its boxes have no numbers" in shell.error
    assert boxes(shell.json("mark", other, "crack", "--box", "0,0,227,227")) == [(0, 0, 227, 227)]


def test_retrain_finds_the_parts_among_its_reviewed_pictures(shell: Photographs) -> None:
    shell("mark", "1", "crack", "--box", "1")
    shell("mark", "1", "ok", "--box", "400,300,50,50")
    found = dataset.list_files(dataset.find_layout(shell.root / "dataset/reviewed"))
    assert [each.label for each in found] == [Label.ANOMALY, Label.NORMAL]


# ------------------------------------------------------------------------- lists, tables, repairs


def test_the_list_tells_parts_from_wholes(shell: Photographs) -> None:
    shell("mark", "1", "crack", "--box", "1", "--by", "anna")
    found = shell.json("list")["reviews"]
    part, whole = sorted(found, key=lambda each: each["box"] is None)
    digest = bytes(shell.station.rows()[0]["sha256"]).hex()
    assert (part["box"], part["photograph"], part["agrees"]) == ("0,0,227,227", digest, None)
    assert (whole["box"], whole["photograph"], whole["agrees"]) == (None, None, True)
    assert (whole["sha256"], whole["picture"], whole["copy_lost"]) == (digest, None, False)
    said = shell("list")
    assert f"(0,0,227,227 of {shell.root}/flagged/2026-11-23/wall.png)" in said


def test_a_copy_of_a_part_that_is_lost_is_told_and_made_anew(shell: Photographs) -> None:
    picture = shell.json("mark", "1", "crack", "--box", "1")["boxes"][0]["picture"]
    os.unlink(picture)
    lost = [each["copy_lost"] for each in shell.json("list")["reviews"]]
    assert sorted(lost) == [False, True]
    shell("mark", "1", "crack", "--box", "1")
    assert Path(picture).exists()


def test_what_is_exported_is_taken_back_into_new_books(shell: Photographs) -> None:
    shell("mark", "1", "crack", "--box", "1", "--by", "anna")
    shell("mark", "2", "ok", "--by", "ben")
    table = shell.table(shell("export"))
    before = _reviews(shell)
    assert shell.json("import", table)["unchanged"] == 3
    assert _reviews(shell) == before
    with closing(sqlite3.connect(shell.station.database)) as connection, connection:
        connection.execute("DELETE FROM reviews")
    told = shell.json("import", table)
    assert (told["marked"], told["refused"]) == (3, [])
    assert _reviews(shell) == before


def test_a_whole_that_was_ok_is_taken_back_without_labelling_its_parts_anew(
    shell: Photographs,
) -> None:
    """Its parts have rows of their own, given a moment later; and one that was called a crack since
    was never called ok.
    """
    shell("mark", "1", "ok", "--by", "anna")
    shell("mark", "1", "crack", "--box", "400,300,50,50", "--by", "ben")
    table = shell.table(shell("export"))
    before = _reviews(shell)
    assert len(before) == 4
    told = shell.json("import", table)
    assert (told["marked"], told["unchanged"], told["refused"]) == (0, 4, [])
    assert _reviews(shell) == before
    with closing(sqlite3.connect(shell.station.database)) as connection, connection:
        connection.execute("DELETE FROM reviews")
    told = shell.json("import", table)
    assert (told["marked"], told["refused"]) == (4, [])
    assert _reviews(shell) == before


def test_a_photograph_that_nobody_can_find_again_is_refused_by_itself(shell: Photographs) -> None:
    other = shell.root / "other.png"
    other.write_bytes(images.encode_png(scene(5)))
    shell("mark", other, "crack", "--by", "anna")
    shell("mark", "2", "ok", "--by", "ben")
    table = shell.table(shell("export"))
    with closing(sqlite3.connect(shell.station.database)) as connection, connection:
        connection.execute("DELETE FROM reviews")
    told = shell.json("import", table, status=EXIT_FOUND)
    assert told["marked"] == 1
    (refused,) = told["refused"]
    assert "nothing says where the picture is" in refused["reason"]


def test_a_persons_table_may_name_boxes(shell: Photographs) -> None:
    table = shell.table('id,label,box\n1,crack,1\n1,ok,"400,300,50,50"\n1,crack,7\n2,ok,1\n2,ok,\n')
    told = shell.json("import", table, "--by", "anna", status=EXIT_FOUND)
    assert told["marked"] == 3
    reasons = [each["reason"] for each in told["refused"]]
    assert ["has boxes 1 to 1" in reasons[0], "is a single picture" in reasons[1]] == [True, True]
    assert {"anomaly/wall-x0-y0", "normal/wall-x312-y212"} < set(shell.learned)


def _reviews(shell: Photographs) -> Sequence[Any]:
    with closing(sqlite3.connect(shell.station.database)) as connection:
        return connection.execute(
            "SELECT hex(sha256), label, reviewed_by, inspection_id, picture, hex(photograph), "
            "x, y, w, h FROM reviews ORDER BY sha256, label"
        ).fetchall()


# --------------------------------------------------------------------------------------- cutting


@pytest.mark.parametrize("orientation", range(1, 9))
def test_any_part_of_a_turned_photograph_is_cut_upright(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x112] = orientation
    stored = io.BytesIO()
    Image.fromarray(scene(2)[..., ::-1]).save(stored, "PNG", exif=exif)
    content = stored.getvalue()
    photograph = open_photograph(content, LIMITS, Tiling())
    upright = np.zeros((photograph.height, photograph.width, 3), np.uint8)
    for (x, y), tile in _all_tiles(photograph):
        upright[y : y + 227, x : x + 227] = tile
    places = [(5, 200), (250, 3), (100, 100)]
    found = photograph.cut(np.array([(x, y, 227, 227) for x, y in places]))
    for (x, y), tile in zip(places, found, strict=True):
        assert (tile == upright[y : y + 227, x : x + 227]).all()


def _all_tiles(photograph: Any) -> list[Any]:
    return [
        (tuple(photograph.boxes[number][:2].tolist()), tile)
        for numbers, tiles in photograph.tiles()
        for number, tile in zip(numbers.tolist(), tiles, strict=True)
    ]


def test_rows_between_two_parts_are_passed_over() -> None:
    tall = np.random.default_rng(7).integers(0, 256, (3_000, 500, 3)).astype(np.uint8)
    photograph = open_photograph(images.encode_png(tall), LIMITS, Tiling())
    found = photograph.cut(np.array([[0, 2_700, 227, 227], [9, 4, 227, 227], [0, 9, 100, 50]]))
    assert (found[0] == tall[2_700:2_927, :227]).all()
    assert (found[1] == tall[4:231, 9:236]).all()
    assert found[2].shape == (227, 227, 3)
    assert photograph.cut(np.empty((0, 4), np.intp)) == []
    with pytest.raises(ValueError, match="not inside"):
        photograph.cut(np.array([[400, 0, 227, 227]]))
