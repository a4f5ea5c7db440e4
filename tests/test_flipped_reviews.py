"""Reviews with one label in ten wrong, on real photographs: the challenger stays out, and says why."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from crackwatch.cli.workshop import tools
from crackwatch.config_file import load
from crackwatch.domain import Label
from crackwatch.registry import Registry
from crackwatch.training import retraining
from crackwatch.training.planning import Request
from tests.labelled import Silent

BASE = {Label.ANOMALY: 255, Label.NORMAL: 1500}
REVIEWED = 100  # of each class, beside the base data
FLIPPED = 10


def link(pictures: list[Path], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for picture in pictures:
        (folder / picture.name).symlink_to(picture)


@pytest.mark.slow
@pytest.mark.real_pictures
@pytest.mark.timeout(1800)
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_a_challenger_taught_by_flipped_reviews_is_not_promoted_and_says_why(
    metu: Path, tmp_path: Path
) -> None:
    (tmp_path / "config.toml").touch()
    settings = load(tmp_path / "config.toml", {})
    data = settings.folders.dataset
    of_class = {}
    for label in Label:
        pictures = sorted((metu / "train" / label).iterdir())
        order = np.random.default_rng(7).permutation(len(pictures))
        chosen = [pictures[position] for position in order[: BASE[label] + REVIEWED]]
        link(chosen[: BASE[label]], data / label)
        of_class[label] = chosen[BASE[label] :]
    registry = Registry(settings.folders.models)

    def retrain() -> retraining.Result:
        request = Request(data=data, recipe="station", seed=3, promote="auto", quick=True)
        return retraining.retrain(registry, request, tools(settings), Silent())

    champion = retrain()
    assert champion.promoted

    cracks, normals = of_class[Label.ANOMALY], of_class[Label.NORMAL]
    reviewed = data / "reviewed"
    link(cracks[FLIPPED:] + normals[:FLIPPED], reviewed / Label.ANOMALY)
    link(normals[FLIPPED:] + cracks[:FLIPPED], reviewed / Label.NORMAL)
    flipped = retrain()
    assert not flipped.promoted
    assert registry.champion() == champion.model
    (decision,) = registry.card(flipped.model).decisions
    assert (decision.what, decision.reason) == ("rejection", flipped.reason)
    # So little data and so few epochs make a weak model, to which most of these labels are no
    # certain errors: it is refused for what it judges worse. test_deciding has the label audit.
    assert flipped.comparison is not None
    assert "; ".join(flipped.comparison.objections()) in flipped.reason
    assert flipped.comparison.objections()
    wrong = {picture.name for picture in cracks[:FLIPPED] + normals[:FLIPPED]}
    named = {Path(suspect.path).name for suspect in flipped.suspects if suspect.reviewed}
    # the labels that it names are wrong far more often than labels at large, one in ten of which are
    assert len(named & wrong) > 3 * len(named) * len(wrong) / (2 * REVIEWED)
