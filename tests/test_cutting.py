"""Labelled crops are cut from photographs so that each shows what its label says, and none twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from crackwatch import dataset, images
from crackwatch.cli import execute
from crackwatch.cli.cutting import tools
from crackwatch.config_file import load
from crackwatch.dataset import CutOut, Marks, import_photographs, read_boxes
from crackwatch.dataset.cutting import CRACK_PX
from crackwatch.domain import Label
from crackwatch.errors import DatasetError

# with an overlap of 32: 4 x 3 tiles at x 0, 195, 390, 473 and y 0, 195, 273
WIDTH, HEIGHT = 700, 500
LIMITS = images.Limits(120_000_000, "tile")


def wall(seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(90, 180, (HEIGHT, WIDTH, 3)).astype(np.uint8)


class Bridge:
    """A station, a folder of photographs, and what may be said of them."""

    def __init__(self, root: Path) -> None:
        self.photographs, self.masks = root / "bridge", root / "masks"
        self.station = root / "station"
        for folder in (self.photographs, self.masks, self.station):
            folder.mkdir()
        self.config = self.station / "config.toml"
        self.config.write_text("[images]\ntile_overlap = 32\n")

    def photograph(self, name: str = "a", seed: int = 0) -> None:
        (self.photographs / f"{name}.png").write_bytes(images.encode_png(wall(seed)))

    def mask(self, *lines: tuple[int, int, int, int], name: str = "a", value: int = 255) -> None:
        """Lines x, y, w, h of crack."""
        drawn = np.zeros((HEIGHT, WIDTH), np.uint8)
        for x, y, w, h in lines:
            drawn[y : y + h, x : x + w] = value
        (self.masks / f"{name}.png").write_bytes(images.encode_png(drawn))

    def cut(self, **how: Any) -> CutOut:
        made = tools(load(self.config, {}))
        if "boxes" not in how:
            how["masks"] = self.masks
        return import_photographs(self.photographs, self.station / "dataset", made, **how)

    def crops(self, label: Label) -> dict[tuple[int, int], NDArray[np.uint8]]:
        """What the dataset has of a label, by the corner that the name tells."""
        found = {}
        for file in (self.station / "dataset" / label).iterdir():
            x, y = (int(each[1:]) for each in file.stem.split("-")[-2:])
            found[x, y] = images.decode(file.read_bytes(), LIMITS)
        return found


@pytest.fixture
def bridge(tmp_path: Path) -> Bridge:
    return Bridge(tmp_path)


# ---------------------------------------------------------------------------------------- masks


def test_by_its_mask_each_tile_is_an_anomaly_normal_or_neither(bridge: Bridge) -> None:
    bridge.photograph()
    bridge.mask((10, 20, 2, CRACK_PX), (600, 20, CRACK_PX - 1, 1))
    found = bridge.cut(normals=100)
    anomalies, normals = bridge.crops(Label.ANOMALY), bridge.crops(Label.NORMAL)
    assert list(anomalies) == [(0, 0)]
    # 600 to 674 lies in the columns from 473 on, and 600 to 616 in those from 390 on
    assert set(normals) == {(195, 0)} | {(x, y) for x in (0, 195, 390, 473) for y in (195, 273)}
    assert (found.between, found.spared, found.photographs) == (2, 0, 1)
    assert (found.imported, found.anomaly, found.normal) == (10, 1, 9)
    for (x, y), crop in (anomalies | normals).items():
        assert (crop == wall()[y : y + 227, x : x + 227]).all()


def test_a_crack_is_measured_by_its_length_not_by_its_width(bridge: Bridge) -> None:
    bridge.photograph()
    bridge.mask((0, 100, CRACK_PX, 1), (620, 320, 60, 60))
    bridge.cut(normals=0)
    assert list(bridge.crops(Label.ANOMALY)) == [(0, 0)]


def test_any_value_but_zero_is_a_crack(bridge: Bridge) -> None:
    bridge.photograph()
    bridge.mask((10, 20, 2, 100), value=1)
    bridge.cut(normals=0)
    assert list(bridge.crops(Label.ANOMALY)) == [(0, 0)]


def test_no_more_normals_than_asked_for_evenly_over_the_photograph(bridge: Bridge) -> None:
    bridge.photograph()
    bridge.mask()
    found = bridge.cut(normals=3)

    assert {(0, 0), (473, 273)} < set(bridge.crops(Label.NORMAL))
    assert (found.imported, found.spared, found.between) == (3, 9, 0)


def test_what_was_cut_is_not_taken_in_again(bridge: Bridge) -> None:
    bridge.photograph()
    bridge.mask((10, 20, 2, 100))
    first = bridge.cut()
    again = bridge.cut()
    assert (again.imported, again.duplicates) == (0, first.imported)
    assert (again.anomaly, again.normal) == (first.anomaly, first.normal)


def test_a_photograph_that_cannot_be_used_is_named_and_the_others_are_cut(bridge: Bridge) -> None:
    for seed, name in enumerate("abcdefg"):
        bridge.photograph(name, seed)
    bridge.mask(name="a")
    # b has none
    (bridge.masks / "c.png").write_bytes(images.encode_png(np.zeros((500, 701), np.uint8)))
    (bridge.masks / "d.jpg").write_bytes(images.encode_jpeg(wall()))
    bridge.mask(name="e")
    (bridge.masks / "e.bmp").write_bytes(b"another")
    (bridge.masks / "f.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (bridge.photographs / "g.png").write_bytes(images.encode_png(wall()[:227, :227]))
    bridge.mask(name="g")
    found = bridge.cut()
    assert found.photographs == 1
    reasons = {Path(each.path).stem: each.reason for each in found.problems}
    assert "there are 0 masks named b" in reasons["b"]
    assert "700 x 500 pixels, upright, and its mask 701 x 500" in reasons["c"]
    assert "save masks as PNG, BMP or TIFF" in reasons["d"]
    assert "there are 2 masks named e" in reasons["e"]
    assert reasons["f"].startswith("its mask: ")
    assert "227 x 227 is a single crop" in reasons["g"]


def test_masks_beside_the_photographs_are_no_photographs(bridge: Bridge) -> None:
    bridge.photograph()
    bridge.masks = bridge.photographs / "masks"
    bridge.masks.mkdir()
    bridge.mask((10, 20, 2, 100))
    found = bridge.cut()
    assert (found.photographs, found.problems) == (1, ())


# ---------------------------------------------------------------------------------------- boxes


def test_by_boxes_the_square_around_one_is_an_anomaly_and_what_touches_it_is_left_out(
    bridge: Bridge,
) -> None:
    bridge.photograph()
    found = bridge.cut(boxes={b"a.png": Marks(cracks=((300, 200, 40, 20),))}, normals=100)
    assert list(bridge.crops(Label.ANOMALY)) == [(207, 97)]
    assert (bridge.crops(Label.ANOMALY)[207, 97] == wall()[97:324, 207:434]).all()
    # the box lies in columns 195 and in rows 0 and 195 (to 227, 422)
    assert set(bridge.crops(Label.NORMAL)) == {
        (x, y) for x in (0, 195, 390, 473) for y in (0, 195, 273)
    } - {(195, 0), (195, 195)}
    assert found.between == 2


def test_where_boxes_say_ok_nothing_else_is_normal(bridge: Bridge) -> None:
    bridge.photograph()
    marks = Marks(cracks=((10, 10, 20, 20),), fine=((390, 190, 310, 310),))
    bridge.cut(boxes={b"a.png": marks})
    assert set(bridge.crops(Label.NORMAL)) == {(390, 195), (390, 273), (473, 195), (473, 273)}


def test_boxes_that_say_nothing_are_refused_with_their_photograph(bridge: Bridge) -> None:
    for seed, name in enumerate("abc"):
        bridge.photograph(name, seed)
    found = bridge.cut(
        boxes={
            b"a.png": Marks(cracks=((0, 0, 300, 20),)),
            b"b.png": Marks(cracks=((690, 0, 20, 20),)),
            b"gone.png": Marks(),
        }
    )
    reasons = {Path(each.path).stem: each.reason for each in found.problems}
    assert "larger than the 227 x 227 pixels that a crop shows" in reasons["a"]
    assert "690,0,20,20 is not inside its 700 x 500" in reasons["b"]
    assert "nobody knows what it shows" in reasons["c"]
    assert "it is not in" in reasons["gone"]
    assert found.imported == 0


def test_a_table_of_boxes_is_read_as_it_stands(tmp_path: Path) -> None:
    table = tmp_path / "boxes.csv"
    table.write_text(
        "label;file;x;y;w;h;by\ncrack;span 1/a.png;1;2;3;4;anna\nOK;span 1/a.png;5;6;7;8;\n"
        "ok;./b.png;;;;;\n\n"
    )
    assert read_boxes(table) == {
        b"span 1/a.png": Marks(((1, 2, 3, 4),), ((5, 6, 7, 8),)),
        b"b.png": Marks(),
    }


def test_what_is_wrong_in_a_table_of_boxes_is_named_by_its_line(tmp_path: Path) -> None:
    table = tmp_path / "boxes.csv"
    table.write_text(
        "file,x,y,w,h,label\na.png,1,2,3,4,maybe\na.png,,,,,crack\n,1,2,3,4,ok\na.png,1,2,x,4,ok\n"
    )
    with pytest.raises(DatasetError) as refused:
        read_boxes(table)
    lines = refused.value.problem.splitlines()
    assert [line.split(": ")[1] for line in lines] == ["line 2", "line 3", "line 4", "line 5"]
    assert all(line.startswith(str(table)) for line in lines)
    table.write_text("file,x,y\n")
    with pytest.raises(DatasetError, match="the columns are file, x, y"):
        read_boxes(table)
    with pytest.raises(DatasetError, match="cannot be read"):
        read_boxes(tmp_path / "none.csv")


# ------------------------------------------------------------------------------------- relatives


def test_crops_of_one_photograph_are_one_group_though_they_share_no_pixel(bridge: Bridge) -> None:
    for seed, name in enumerate("ab"):
        bridge.photograph(name, seed)
        bridge.mask((10, 20, 2, 100), name=name)
    bridge.cut(normals=2)
    (bridge.station / "dataset/normal/other.png").write_bytes(
        images.encode_png(wall(9)[:227, :227])
    )
    files = dataset.list_files(dataset.find_layout(bridge.station / "dataset"))

    def decode(content: bytes) -> NDArray[np.uint8]:
        return images.decode(content, LIMITS)

    with dataset.load(files, decode, bridge.station) as pictures:
        groups = dataset.groups(pictures)
    members: dict[int, set[str]] = {}
    for path, group in zip(pictures.paths, groups.tolist(), strict=True):
        members.setdefault(group, set()).add(path.rpartition(b"/")[2][:1].decode())
    assert sorted(map(sorted, members.values())) == [["a"], ["b"], ["o"]]


@pytest.mark.parametrize(
    ("name", "same"),
    [
        (b"normal/a-of-0123456789abcdef-x0-y195.bmp", True),
        (b"reviewed/a-of-0123456789abcdef-x12-y3-90ab90ab90ab.bmp", True),
        (b"a-of-0123456789abcde-x0-y195.bmp", False),
        (b"a-of-0123456789abcdef-x0-y195/other.bmp", False),
        (b"made-of-steel.png", False),
    ],
)
def test_a_crops_name_tells_its_photograph(name: bytes, same: bool) -> None:
    assert dataset.photograph_of(name) == (b"0123456789abcdef" if same else None)


def test_a_long_name_keeps_what_tells_the_photograph() -> None:
    name = dataset.name_of(b"/x/" + b"w" * 250 + b".jpg", bytes(32), 5, 7, b".bmp")
    assert len(name) < 210
    assert dataset.photograph_of(name) == b"0" * 16


# ------------------------------------------------------------------------------------ the command


def test_the_command_cuts_and_counts(bridge: Bridge, capsys: pytest.CaptureFixture[str]) -> None:
    bridge.photograph()
    bridge.mask((10, 20, 2, 100))
    words = ["dataset", "import", "--tiles", str(bridge.photographs)]
    config = ["--config", str(bridge.config)]
    capsys.readouterr()
    assert execute([*words, "--masks", str(bridge.masks), *config, "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["photographs"], found["anomaly"], found["problems"]) == (1, 1, [])
    assert found["imported"] == found["anomaly"] + found["normal"]
    table = bridge.station / "boxes.csv"
    table.write_text("file,x,y,w,h,label\na.png,300,300,20,20,crack\n")
    assert execute([*words, "--boxes", str(table), *config]) == 0
    assert "photographs cut: 1;" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--tiles"], "takes labels from --masks DIR or from --boxes"),
        (["--normals", "3"], "go with --tiles"),
        (["--tiles", "--masks", ".", "--boxes", "/dev/null"], "takes labels from"),
        (["--tiles", "--masks", "no-such-folder"], "no-such-folder: does not exist"),
        (["--tiles", "--boxes", "no-such-table.csv"], "no-such-table.csv: cannot be read"),
    ],
)
def test_photographs_need_labels_and_labels_photographs(
    bridge: Bridge, capsys: pytest.CaptureFixture[str], options: list[str], complaint: str
) -> None:
    words = ["dataset", "import", str(bridge.photographs), "--config", str(bridge.config)]
    assert execute([*words, *options]) == 2
    assert complaint in capsys.readouterr().err
