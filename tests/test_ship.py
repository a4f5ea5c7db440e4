"""Shipping: what a published model leaves behind can be installed, asked and tuned anywhere."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from crackwatch import dataset, learned, packaged
from crackwatch.dataset import Pictures
from crackwatch.errors import ModelTampered
from crackwatch.images import Limits, decode
from crackwatch.registry import Card, Registry, read_card
from crackwatch.starters import install_starter
from crackwatch.training.ship import ship
from tests.labelled import draw

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def read(folder: Path) -> Pictures:
    files = dataset.list_files(dataset.find_layout(folder))
    return dataset.load(files, lambda data: decode(data, Limits(10**6, "quarantine")), folder)


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Card, str]:
    """A folder with what was shipped, its card and the id of the model that it came from.

    The model has the package's weights and says that it learned from 40 drawn pictures.
    """
    root = tmp_path_factory.mktemp("ship")
    registry = Registry(root / "models")
    starter = install_starter(registry, packaged.starter())
    assert starter is not None
    draw(root / "learned", 20, 20)
    with read(root / "learned") as pictures, registry.staging() as staged:
        for source in registry.folder_of(starter).iterdir():
            if source.is_file() and source.name not in ("card.json", learned.LEARNED_FILE):
                (staged / source.name).write_bytes(source.read_bytes())
        known = learned.Learned(
            pixel_hashes=np.array([list(each) for each in pictures.pixel_hashes], np.uint8),
            textures=dataset.texture_bits(pictures.folded),
            labels=pictures.labels,
            groups=np.arange(len(pictures), dtype=np.int32),
            folds=np.zeros(len(pictures), np.int8),
            logits=np.where(pictures.labels == 1, 3.0, -3.0).astype(np.float32),
            reviewed=np.zeros(len(pictures), bool),
        )
        learned.write(staged, known)
        (staged / "golden").mkdir()
        (staged / "golden/photographs.npy").write_bytes(b"which must not travel")
        made = registry.card(starter).model_copy(
            update={"id": "made-here", "scores": {"out_of_fold": {"f1": 0.9}}, "decisions": ()}
        )
        registry.publish(staged, made)
    for name in ("valid_balanced", "valid_unbalanced"):
        draw(root / name, 6, 8, seed=5)
    card = ship(registry.folder, "made-here", root, root / "starter")
    return root, card, "made-here"


def test_weights_list_and_card_travel_and_no_picture(shipped: tuple[Path, Card, str]) -> None:
    root, card, model = shipped
    names = {path.name for path in (root / "starter").rglob("*")}
    assert names == {"lenet.keras", "learned.npz", "card.json"}
    assert read_card(root / "starter") == card
    assert set(card.files) == {"lenet.keras", "learned.npz"}
    assert card.id == model
    assert card.golden.drawn
    assert len(card.golden.drawn) == len(card.golden.scores)
    assert card.data.licence and card.data.citation


def test_the_card_keeps_its_scores_and_gains_those_of_both_validation_folders(
    shipped: tuple[Path, Card, str],
) -> None:
    _, card, _ = shipped
    assert card.scores["out_of_fold"] == {"f1": 0.9}
    for name in ("valid_balanced", "valid_unbalanced"):
        assert card.scores[name]["n"] == 14
        assert card.scores[name]["threshold"] == card.threshold.value


def test_a_station_installs_it_and_tune_and_evaluate_can_ask_what_it_learned_from(
    shipped: tuple[Path, Card, str], tmp_path: Path
) -> None:
    root, card, model = shipped
    registry = Registry(tmp_path / "models")
    assert install_starter(registry, root / "starter") == model
    assert registry.champion() == model
    (tmp_path / "config.toml").touch()

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        base = [sys.executable, "-m", "crackwatch", arguments[0], "--config"]
        command = [*base, tmp_path / "config.toml", *arguments[1:]]
        return subprocess.run(list(map(str, command)), capture_output=True, text=True)

    tuned = run("tune", "--min-recall", 0.8, "--format", "json")
    assert tuned.returncode == 0, tuned.stderr
    assert json.loads(tuned.stdout)["source"] == "out_of_fold"
    assert run("evaluate", "--data", root / "learned").returncode == 2
    fresh = run("evaluate", "--data", root / "valid_balanced", "--format", "json")
    assert fresh.returncode == 0, fresh.stderr
    document = json.loads(fresh.stdout)
    for key in ("tp", "fn", "fp", "tn", "n"):
        assert document[key] == card.scores["valid_balanced"][key]


def test_a_damaged_model_is_not_shipped(shipped: tuple[Path, Card, str], tmp_path: Path) -> None:
    root, _, model = shipped
    file = root / "models" / model / "learned.npz"
    whole = file.read_bytes()
    file.write_bytes(b"damaged")
    try:
        with pytest.raises(ModelTampered, match=r"learned\.npz"):
            ship(root / "models", model, root, tmp_path / "starter")
    finally:
        file.write_bytes(whole)
    assert not (tmp_path / "starter").exists()
