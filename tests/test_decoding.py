"""Claims about what a station makes of a file's bytes, and what it expects that to hold."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from crackwatch import dataset, images
from crackwatch.cli.workshop import decoder as crops_of
from crackwatch.config_file import load
from crackwatch.decoding import CROP_BYTES, Cost, Decoder
from crackwatch.domain import Arrival, Fingerprint, QuarantineReason, SettledBy
from crackwatch.errors import Unreadable
from crackwatch.images.photographs import Photograph
from crackwatch.settings import Settings
from tests.station import jpeg
from tests.walls import wall, wall_jpeg


def settings_of(root: Path, lines: str = "") -> Settings:
    (root / "config.toml").write_text(f"[images]\n{lines}\n")
    return load(root / "config.toml", {})


def test_a_crop_is_seen_as_ever_and_a_photograph_by_the_stations_overlap(tmp_path: Path) -> None:
    decode = Decoder(settings_of(tmp_path, "tile_overlap = 100"))
    limits = images.Limits(10**6, "quarantine")
    seen = decode(jpeg(dark=True), None)
    assert isinstance(seen, np.ndarray)
    np.testing.assert_array_equal(seen, images.decode(jpeg(dark=True), limits))
    photograph = decode(images.encode_png(wall(600, 500)), None)
    assert isinstance(photograph, Photograph)
    assert (photograph.overlap, photograph.width, photograph.height) == (100, 600, 500)
    assert photograph.layout.shape == (4, 4)


@pytest.mark.parametrize(
    ("own", "models", "width"),
    [("", None, 1000), ("", 0.2, 1000), ("mm_per_px = 0.4", None, 1000), ("mm_per_px = 0.4", 0.2, 2000),
     ("mm_per_px = 0.1", 0.2, 500)],
)  # fmt: skip
def test_a_photograph_is_resampled_only_where_both_scales_are_known(
    own: str, models: float | None, width: int, tmp_path: Path
) -> None:
    photograph = Decoder(settings_of(tmp_path, own))(images.encode_png(wall(1000, 600)), models)
    assert isinstance(photograph, Photograph)
    assert photograph.layout.width == width
    assert photograph.width == 1000


def test_who_learns_or_measures_is_told_where_a_photographs_crops_come_from(tmp_path: Path) -> None:
    """Neither squeezed to one square, nor a crash."""
    decode = crops_of(settings_of(tmp_path))
    assert decode(jpeg(dark=True)).shape == (227, 227, 3)
    with pytest.raises(Unreadable, match="crackwatch dataset import --tiles") as refused:
        decode(wall_jpeg(600, 500))
    assert refused.value.reason is QuarantineReason.TOO_LARGE
    squeezing = crops_of(settings_of(tmp_path, 'larger = "resize"'))
    assert squeezing(wall_jpeg(600, 500)).shape == (227, 227, 3)


def test_a_photograph_among_labelled_pictures_is_listed_and_the_others_are_used(
    tmp_path: Path,
) -> None:
    for label in ("anomaly", "normal"):
        (tmp_path / "taught" / label).mkdir(parents=True)
        (tmp_path / "taught" / label / "wall.jpg").write_bytes(wall_jpeg(600, 500))
        (tmp_path / "taught" / label / "crop.jpg").write_bytes(jpeg(dark=label == "anomaly"))
    files = dataset.list_files(dataset.find_layout(tmp_path / "taught"))
    with dataset.load(files, crops_of(settings_of(tmp_path)), tmp_path) as pictures:
        assert len(pictures) == 2
        assert [Path(each.path).name for each in pictures.problems] == ["wall.jpg", "wall.jpg"]
        assert "dataset import --tiles" in pictures.problems[0].reason


# ---------------------------------------------------------------------------- what it will hold


def arrival(inbox: Path, name: str) -> Arrival:
    found = Fingerprint.of(os.lstat(inbox / name))
    return Arrival(os.fsencode(name), found, datetime.now(UTC), SettledBy.LEASE)


def cost_of(inbox: Path, scale: float | None = None, max_bytes: int = 10**7) -> Cost:
    decode = Decoder(settings_of(inbox.parent, "mm_per_px = 0.2"))
    return Cost(decode, os.fsencode(inbox), max_bytes, lambda: scale)


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    (tmp_path / "inbox").mkdir()
    return tmp_path / "inbox"


def test_a_photograph_costs_what_it_will_hold_and_a_crop_what_it_is(inbox: Path) -> None:
    (inbox / "crop.jpg").write_bytes(jpeg(dark=True))
    (inbox / "wall.jpg").write_bytes(wall_jpeg(1400, 900))
    cost = cost_of(inbox)
    assert cost(arrival(inbox, "crop.jpg")) == CROP_BYTES
    held = cost(arrival(inbox, "wall.jpg"))
    assert 1400 * 900 * 3 < held < 60 << 20
    # at twice the scale there are more tiles to hold, at a fourth of the model's one is all there is
    assert cost_of(inbox, 0.1)(arrival(inbox, "wall.jpg")) > held
    assert cost_of(inbox, 1.0)(arrival(inbox, "wall.jpg")) < held


def test_what_cannot_be_known_costs_no_more_than_a_crop(inbox: Path) -> None:
    data = wall_jpeg(1400, 900)
    for name in ("gone.jpg", "linked.jpg", "piped.jpg", "folder.jpg", "wall.jpg"):
        (inbox / name).write_bytes(data)
    (inbox / "damaged.jpg").write_bytes(data[: len(data) // 2])
    (inbox / "text.jpg").write_text("no picture")
    settled = {each.name: arrival(inbox, each.name) for each in inbox.iterdir()}
    (inbox / "gone.jpg").unlink()
    (inbox / "linked.jpg").unlink()
    (inbox / "linked.jpg").symlink_to("wall.jpg")
    (inbox / "piped.jpg").unlink()
    os.mkfifo(inbox / "piped.jpg")
    (inbox / "folder.jpg").unlink()
    (inbox / "folder.jpg").mkdir()
    cost = cost_of(inbox)
    whole = settled.pop("wall.jpg")
    assert {name: cost(each) for name, each in settled.items()} == dict.fromkeys(
        settled, CROP_BYTES
    )
    assert cost(whole) > CROP_BYTES
    assert cost_of(inbox, max_bytes=1000)(whole) == CROP_BYTES  # refused unread
