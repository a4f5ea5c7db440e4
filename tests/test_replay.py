"""The replay: the newest pictures that are still there, judged again, each against its own row."""

from __future__ import annotations

import os
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from crackwatch import images
from crackwatch.cli.workshop import recent_of
from crackwatch.config_file import load
from crackwatch.images.photographs import Tiling, look
from crackwatch.settings import Settings
from crackwatch.store.recent import recent
from crackwatch.training import replaying
from crackwatch.training.replaying import Replay
from tests.station import Station, jpeg
from tests.walls import wall_jpeg


class Always:
    """A challenger with one opinion."""

    model_id = "always"

    def __init__(self, score: float) -> None:
        self.score = score

    def scores(self, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.full(len(pictures), self.score, np.float32)


def settings_of(root: Path) -> Settings:
    (root / "config.toml").write_text('[station]\nname = "station"\n')
    return load(root / "config.toml", {})


def replayed(settings: Settings, score: float, days: int = 7, threshold: float = 0.5) -> Replay:
    limits = images.Limits(120_000_000, "quarantine")
    return replaying.replay(
        Always(score),
        threshold,
        recent_of(settings, days),
        lambda content: images.decode(content, limits),
    )


@pytest.mark.parametrize("normal", ["keep", "archive", "delete"])
def test_pictures_are_found_wherever_they_were_filed_and_deleted_ones_are_counted_as_gone(
    normal: str, tmp_path: Path
) -> None:
    station = Station(tmp_path, normal=normal)
    for name, dark in (("wall/a.jpg", True), ("b.jpg", False), ("c.jpg", False)):
        station.put(name, jpeg(dark=dark))
    station.put("broken.jpg", b"\xff\xd8 no picture \xff\xd9")
    station.inspect("wall/a.jpg", "b.jpg", "c.jpg", "broken.jpg")
    settings = settings_of(tmp_path)
    found = replayed(settings, 0.95)
    gone = 2 if normal == "delete" else 0
    assert (found.replayed, found.missing) == (3 - gone, gone)  # what is quarantined has no verdict
    assert {Path(flip.path).name for flip in found.flips} == (set() if gone else {"b.jpg", "c.jpg"})
    (flip,) = replayed(settings, 0.05).flips
    assert (flip.was, flip.now, Path(flip.path).name) == ("anomaly", "normal", "a.jpg")
    assert flip.model == "by-brightness"


def test_renamed_and_removed_files_are_missing_and_a_new_picture_of_the_old_name_is_not_taken(
    tmp_path: Path,
) -> None:
    station = Station(tmp_path)
    for number in range(4):
        station.put(f"{number}.jpg", jpeg(dark=False, seed=number))
    station.inspect(*(f"{number}.jpg" for number in range(4)))
    os.rename(station.inbox / "0.jpg", station.inbox / "renamed.jpg")
    (station.inbox / "1.jpg").unlink()
    (station.inbox / "2.jpg").write_bytes(jpeg(dark=True))
    found = replayed(settings_of(tmp_path), 0.95)
    assert (found.replayed, found.missing) == (1, 3)
    assert [Path(flip.path).name for flip in found.flips] == ["3.jpg"]


def test_each_row_is_compared_with_the_verdict_that_it_got_whatever_the_threshold_then(
    tmp_path: Path,
) -> None:
    station = Station(tmp_path)
    station.put("low.jpg", jpeg(dark=False))
    with station.pipeline() as pipeline:
        # a score of 0.1 at a threshold of 0.05: flagged
        pipeline.inspect(station.batch("low.jpg"), station.judging(0.05))
        pipeline.file()
        pipeline.close()
    settings = settings_of(tmp_path)
    assert replayed(settings, 0.1, threshold=0.05).flips == ()
    (flip,) = replayed(settings, 0.1, threshold=0.5).flips
    assert (flip.was, flip.now) == ("anomaly", "normal")


def test_only_so_many_days_and_pictures_are_replayed_the_newest_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    station = Station(tmp_path)
    for number in range(5):
        station.put(f"{number}.jpg", jpeg(dark=False, seed=number))
        station.inspect(f"{number}.jpg")
    settings = settings_of(tmp_path)
    assert (replayed(settings, 0.9, days=0)) == Replay(0, 0, ())
    assert replayed(settings, 0.9, days=1).replayed == 5
    week_ago = datetime.now(UTC) - timedelta(days=7)
    found = recent(settings.database_file, "station", week_ago, 3)
    assert [row.source for row in found.rows] == [b"4.jpg", b"3.jpg", b"2.jpg"]
    assert found.older == 2
    assert recent(settings.database_file, "another", week_ago, 3).rows == []
    # what is left out for want of time is no part of "every verdict that would flip": it is told
    monkeypatch.setattr(replaying, "AT_MOST", 3)
    newest = replayed(settings, 0.9)
    assert (newest.replayed, newest.missing, newest.older) == (3, 0, 2)
    assert newest.as_json()["older"] == 2


def test_photographs_are_counted_and_not_judged_again(tmp_path: Path) -> None:
    """Neither as gone, which they are not, nor squeezed into one square."""
    station = Station(tmp_path)
    station.put("wall.jpg", wall_jpeg(600, 500))
    station.put("gone.jpg", wall_jpeg(600, 501))
    station.put("crop.jpg", jpeg(dark=False))
    limits = images.Limits(120_000_000, "tile")
    with station.pipeline(decode=lambda data, _: look(data, limits, Tiling())) as pipeline:
        batch = station.batch("wall.jpg", "gone.jpg", "crop.jpg")
        pipeline.inspect(batch, station.judging())
    (station.inbox / "gone.jpg").unlink()
    found = replayed(settings_of(tmp_path), 0.95)
    assert (found.replayed, found.missing, found.photographs) == (1, 0, 2)
    assert [Path(flip.path).name for flip in found.flips] == ["crop.jpg"]
    assert found.as_json()["photographs"] == 2


def test_a_station_without_books_or_without_its_flagged_folder_replays_nothing(
    tmp_path: Path,
) -> None:
    assert recent_of(settings_of(tmp_path), 7) == replaying.Lately((), 0)
    station = Station(tmp_path)
    station.put("a.jpg", jpeg(dark=True))
    station.inspect("a.jpg")
    shutil.rmtree(tmp_path / "flagged")
    assert replayed(settings_of(tmp_path), 0.1) == Replay(0, 1, ())
