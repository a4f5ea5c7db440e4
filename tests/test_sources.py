"""What a retraining begins with: base data, and whatever people reviewed, wherever each lies."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from crackwatch.errors import DatasetError
from crackwatch.training import sources


def fill(folder: Path, anomalies: int, normals: int) -> Path:
    """Files of these names and no content: only names are read."""
    for label, count in (("anomaly", anomalies), ("normal", normals)):
        (folder / label).mkdir(parents=True)
        for number in range(count):
            (folder / label / f"{number}.jpg").touch()
    return folder


def test_what_was_reviewed_at_the_station_is_added_to_data_that_lie_elsewhere(
    tmp_path: Path,
) -> None:
    data = fill(tmp_path / "elsewhere", 50, 60)
    reviewed = fill(tmp_path / "dataset/reviewed", 3, 4)
    found = sources.find(data, "station", True, reviewed)
    assert len(found.files) == 117
    assert len(found.reviewed) == 7
    assert all(os.fsdecode(path).startswith(str(reviewed)) for path in found.reviewed)
    assert not found.continues
    assert len(sources.find(data, "station", True, tmp_path / "nothing/reviewed").files) == 110


def test_the_stations_own_folder_is_not_counted_twice(tmp_path: Path) -> None:
    data = fill(tmp_path / "dataset", 50, 50)
    fill(data / "reviewed", 2, 2)
    (tmp_path / "link").symlink_to(data)
    for named in (data, tmp_path / "link"):
        found = sources.find(named, "station", True, data / "reviewed")
        assert (len(found.files), len(found.reviewed)) == (104, 4)


def test_data_that_are_not_there_are_not_replaced_by_reviews(tmp_path: Path) -> None:
    reviewed = fill(tmp_path / "dataset/reviewed", 40, 40)
    with pytest.raises(DatasetError, match="does not exist"):
        sources.find(tmp_path / "typo", "station", True, reviewed)
    assert sources.find(tmp_path / "dataset", "station", True, reviewed).continues
