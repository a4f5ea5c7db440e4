"""The shipped model becomes a station's own, proved on the machine that will run it."""

from __future__ import annotations

import resource
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from crackwatch.agreement import pixels_sha256
from crackwatch.champion import open_classifier
from crackwatch.errors import ModelDisagrees, ModelMissing, ModelTampered
from crackwatch.registry import Card, Drawn, Golden, Registry, new_id, sha256_of
from crackwatch.settings import ModelSettings
from crackwatch.starters import draw_golden, install_starter
from tests.model_folders import card, publish

# Keras's own reading of its variables, with NumPy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

DRAWN = tuple(Drawn(seed=seed, crack=seed % 2 == 0) for seed in range(6))


@pytest.fixture(scope="module")
def shipped(lenet_keras: Path) -> Card:
    """A card as the package carries it, with the scores that Keras gives."""
    from crackwatch.runtime.reference import KerasClassifier

    pictures = draw_golden(DRAWN)
    sha256 = sha256_of(lenet_keras)
    return card(
        new_id("station", datetime(2026, 11, 1, tzinfo=UTC), sha256),
        files={"lenet.keras": sha256},
        golden=Golden(
            pixels_sha256=pixels_sha256(pictures),
            scores=tuple(KerasClassifier("shipped", lenet_keras).scores(pictures).tolist()),
            drawn=DRAWN,
        ),
    )


def starter(folder: Path, lenet_keras: Path, shipped: Card) -> Path:
    folder.mkdir()
    (folder / "lenet.keras").symlink_to(lenet_keras)
    (folder / "card.json").write_text(shipped.to_json())
    return folder


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "models")


def test_a_fresh_station_gets_a_champion_that_proves_itself(
    registry: Registry, lenet_keras: Path, shipped: Card, tmp_path: Path
) -> None:
    installed = install_starter(registry, starter(tmp_path / "starter", lenet_keras, shipped))
    assert installed == shipped.id == registry.champion()
    assert registry.verify(shipped.id).files.keys() == {
        "lenet.keras",
        "lenet.xml",
        "lenet.bin",
        "golden/pictures.npy",
    }
    known, classifier = open_classifier(registry, shipped.id, ModelSettings())
    expected = known.golden.expected.pop("openvino/f32")
    assert expected == pytest.approx(shipped.golden.scores, abs=1e-4)
    assert known.golden == shipped.golden
    assert classifier.model_id == shipped.id


def test_installed_again_it_changes_nothing(
    registry: Registry, lenet_keras: Path, shipped: Card, tmp_path: Path
) -> None:
    folder = starter(tmp_path / "starter", lenet_keras, shipped)
    install_starter(registry, folder)
    before = {file: file.stat().st_mtime_ns for file in registry.folder.rglob("*")}
    assert install_starter(registry, folder) is None
    assert {file: file.stat().st_mtime_ns for file in registry.folder.rglob("*")} == before


def test_a_champion_that_is_there_stays(
    registry: Registry, lenet_keras: Path, shipped: Card, tmp_path: Path
) -> None:
    publish(registry, "own")
    registry.promote("own")
    install_starter(registry, starter(tmp_path / "starter", lenet_keras, shipped))
    assert registry.champion() == "own"
    assert shipped.id in registry.ids()


def test_a_starter_that_was_installed_but_never_promoted_is_promoted(
    registry: Registry, lenet_keras: Path, shipped: Card, tmp_path: Path
) -> None:
    folder = starter(tmp_path / "starter", lenet_keras, shipped)
    install_starter(registry, folder)
    (registry.folder / "champion").unlink()
    assert install_starter(registry, folder) == shipped.id
    assert registry.champion() == shipped.id


def test_a_starter_whose_weights_were_changed_is_refused(
    registry: Registry, lenet_keras: Path, shipped: Card, tmp_path: Path
) -> None:
    folder = starter(tmp_path / "starter", lenet_keras, shipped)
    (folder / "lenet.keras").unlink()
    (folder / "lenet.keras").write_bytes(lenet_keras.read_bytes() + b"\0")
    with pytest.raises(ModelTampered, match=r"lenet\.keras: is not the one of its card"):
        install_starter(registry, folder)
    assert registry.ids() == []


def test_other_scores_than_kerass_stop_the_installation(
    registry: Registry, lenet_keras: Path, shipped: Card, tmp_path: Path
) -> None:
    scores = list(shipped.golden.scores)
    scores[3] = abs(scores[3] - 2e-4)
    doubtful = shipped.model_copy(
        update={"golden": shipped.golden.model_copy(update={"scores": tuple(scores)})}
    )
    with pytest.raises(ModelDisagrees, match="does not score its golden pictures"):
        install_starter(registry, starter(tmp_path / "starter", lenet_keras, doubtful))
    assert registry.ids() == []
    assert registry.champion() is None


def test_other_golden_pictures_stop_the_installation(
    registry: Registry, lenet_keras: Path, shipped: Card, tmp_path: Path
) -> None:
    with pytest.raises(ModelDisagrees, match="draws other golden pictures"):
        install_starter(
            registry,
            starter(tmp_path / "starter", lenet_keras, shipped),
            draw=lambda drawn: np.zeros((len(drawn), 227, 227, 3), np.uint8),
        )
    assert registry.ids() == []


def test_a_package_without_its_model_says_so(registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(ModelMissing, match="there is no model here"):
        install_starter(registry, tmp_path)


INSTALL = """
import sys
from pathlib import Path
from crackwatch.registry import Registry
from crackwatch.starters import install_starter
install_starter(Registry(Path(sys.argv[1])), Path(sys.argv[2]))
print(*sorted({"tensorflow", "keras", "matplotlib", "sklearn"} & sys.modules.keys()))
"""


def test_it_takes_under_three_seconds_and_no_tensorflow(
    registry: Registry, lenet_keras: Path, shipped: Card, tmp_path: Path
) -> None:
    folder = starter(tmp_path / "starter", lenet_keras, shipped)
    before_s = children_s()
    done = subprocess.run(
        [sys.executable, "-c", INSTALL, str(registry.folder), str(folder)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == ""
    assert registry.champion() == shipped.id
    # processor time: what else runs on this machine does not count
    assert children_s() - before_s < 3.0


def children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
