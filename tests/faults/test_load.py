"""Claims about the campaign of load and time: its instruments, and a small form of each case."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from crackwatch import images, packaged
from tests.faults import arriving, gauge, kept, load
from tests.faults.gauge import Figure, Watched
from tests.test_daemon import Process

pytestmark = [
    pytest.mark.skipif(
        not (packaged.starter() / "lenet.keras").is_file(), reason="the starter model is not here"
    ),
    pytest.mark.xdist_group("load"),
]


def test_no_two_pictures_have_the_same_bytes_and_each_can_be_decoded() -> None:
    pictures = [arriving.picture(number) for number in range(50)]
    assert len(set(pictures)) == 50
    limits = images.Limits(120_000_000, "quarantine")
    first, alike = (images.decode(pictures[number], limits) for number in (3, 23))
    assert np.array_equal(np.asarray(first), np.asarray(alike))


def test_a_figure_that_was_missed_is_said_and_counts(capsys: pytest.CaptureFixture[str]) -> None:
    assert gauge.show("case", [Figure("free", 7.0), Figure("good", 1.0, 1.0)])
    assert not gauge.show("case", [Figure("good", 1.0, 1.0), Figure("missed", 1.1, 1.0)])
    assert not gauge.show("case", gauge.none_of("lost", ["a.jpg"]))
    said = capsys.readouterr().out
    assert "WRONG: a.jpg" in said
    lines = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    assert [line["good"] for line in lines] == [True, False, False]


def test_memory_is_told_by_quarters() -> None:
    with Watched(os.getpid()) as memory:
        pass
    assert gauge.anonymous_bytes(os.getpid()) > 1_000_000
    memory.samples = [(float(at), 100 + (at >= 75)) for at in range(101)]
    assert [memory.quarter_bytes(number) for number in (1, 2, 3, 4)] == [100, 100, 100, 101]
    assert memory.most_bytes == 101


def test_the_books_of_kept_files_are_those_that_a_station_would_have(
    made_station: Path, tmp_path: Path
) -> None:
    station = Process(tmp_path / "station")
    shutil.copytree(made_station, station.root)
    arrived = kept.fill(station, 500)
    assert arriving.wrong(station, arrived) == []
    quick_s, full_s, slice_s = kept.scans(station)  # none of them is offered as new
    assert quick_s >= 0 and full_s >= 0 and slice_s > 0
    (station.inbox / "kept-000000007.jpg").unlink()
    assert len(arriving.wrong(station, arrived)) == 1


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("case", load.CASES)
def test_a_small_form_of_each_case_misses_nothing(case: str, tmp_path: Path) -> None:
    sizes = {"--pictures": 300, "--kept": 12_000, "--seconds": 20, "--times": 1, "--seed": 1}
    given = [str(each) for item in sizes.items() for each in item]
    assert load.main(["--case", case, "--folder", str(tmp_path), *given]) == 0
