"""A model knows the scale that it learned at as far as anybody said it; far apart is told."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crackwatch.cli import execute
from crackwatch.scales import FAR, complaint, factor
from crackwatch.training.planning import Request, Scale, scale_of
from tests.model_folders import card

LENGTHS = st.floats(0.001, 100)


@given(own=LENGTHS, models=LENGTHS)
def test_a_photograph_is_brought_to_the_models_scale(own: float, models: float) -> None:
    assert factor(own, models) * models == pytest.approx(own)


@given(own=st.none() | LENGTHS)
def test_what_nobody_knows_changes_nothing_and_is_no_trouble(own: float | None) -> None:
    for one, other in ((own, None), (None, own)):
        assert factor(one, other) == 1.0
        assert complaint(one, other, "m") is None


@pytest.mark.parametrize("own", [0.2 / FAR, 0.15, 0.2, 0.3, 0.2 * FAR])
def test_a_factor_of_two_either_way_is_borne_in_silence(own: float) -> None:
    assert complaint(own, 0.2, "m") is None


@pytest.mark.parametrize(
    ("own", "happens", "advice"),
    [(0.6, "enlarged 3 times", "bring the camera closer"), (0.05, "shrunk 4 times", "retrain on")],
)
def test_more_is_told_with_both_scales_what_it_does_and_what_to_do(
    own: float, happens: str, advice: str
) -> None:
    said = complaint(own, 0.2, "the-model")
    assert said is not None
    problem, remedy = said
    for words in (f"{own:g} mm here", "0.2 mm in the pictures that the-model", happens):
        assert words in problem
    assert advice in remedy
    assert f"--mm-per-px {own:g}" in remedy
    assert ("closer" in remedy) == (own > 0.2)


# ------------------------------------------------------------------------ what a new card says


def scale(
    said: float | None = None,
    station: float | None = None,
    parent: float | None = None,
    champion: float | None = None,
    *,
    continues: bool = False,
) -> Scale | None:
    asked = Request(
        Path("dataset"), "station", 1, "auto", mm_per_px=said, station_mm_per_px=station
    )
    weights = card("its-parent", mm_per_px=parent) if continues else None
    return scale_of(asked, weights, card("the-champion", mm_per_px=champion))


def test_what_was_said_of_the_pictures_goes_first() -> None:
    found = scale(0.5, station=0.2, parent=0.3, champion=0.4, continues=True)
    assert found == Scale(0.5, "as was said with --mm-per-px")


def test_weights_that_go_on_keep_their_scale() -> None:
    found = scale(station=0.2, parent=0.3, champion=0.4, continues=True)
    assert found is not None
    assert found.mm_per_px == 0.3
    assert "its-parent" in found.source
    assert scale(parent=0.3, continues=True) == found


def test_crops_of_a_station_have_the_champions_scale_where_both_are_known() -> None:
    found = scale(station=0.2, champion=0.4)
    assert found is not None
    assert found.mm_per_px == 0.4
    assert "the-champion" in found.source


def test_crops_that_were_cut_as_they_were_have_the_stations_scale() -> None:
    found = scale(station=0.2)
    assert found is not None
    assert found.mm_per_px == 0.2
    assert "[images] mm_per_px" in found.source


def test_without_the_stations_nobody_knows() -> None:
    assert scale(champion=0.4) is None
    assert scale_of(Request(Path("d"), "station", 1, "auto"), None, None) is None


@pytest.mark.parametrize("length", ["0", "-0.2", "nan", "inf", "fine"])
def test_a_length_that_is_none_is_refused_before_anything_is_read(
    length: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.toml").touch()
    asked = ["retrain", "--config", str(tmp_path / "config.toml"), "--mm-per-px", length]
    assert execute(asked) == 2
    assert "--mm-per-px" in capsys.readouterr().err
