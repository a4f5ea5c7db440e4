"""What the shipped model must hold, on the photographs themselves; minutes long: ``make acceptance``.

Each test prints what it saw, so that a figure can be quoted with the command that gave it.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from crackwatch import dataset, images, learned
from crackwatch.agreement import compare_export
from crackwatch.evaluation import measure
from crackwatch.packaged import starter
from crackwatch.registry import Card, Registry
from crackwatch.runtime import load
from crackwatch.runtime.fast import FastClassifier
from crackwatch.starters import install_starter
from crackwatch.training.findings import missed

pytestmark = [
    pytest.mark.slow,
    pytest.mark.real_pictures,
    pytest.mark.timeout(900),
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]

_BATCH = 64


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Card]:
    registry = Registry(tmp_path_factory.mktemp("station") / "models")
    model_id = install_starter(registry, starter())
    assert model_id is not None
    return registry.folder_of(model_id), registry.verify(model_id)


def scored(
    installed: tuple[Path, Card], folder: Path, *runtimes: str
) -> tuple[list[NDArray[np.float32]], NDArray[np.int8]]:
    """Scores of every photograph below ``folder`` by each runtime, and their labels."""
    classifiers = [load(*installed, runtime) for runtime in runtimes]
    files = dataset.list_files(dataset.find_layout(folder))
    limits = images.Limits(max_pixels=images.RESIZE_UP_TO**2, larger="quarantine")
    found: list[list[NDArray[np.float32]]] = [[] for _ in runtimes]
    for start in range(0, len(files), _BATCH):
        batch = files[start : start + _BATCH]
        pictures = np.stack(
            [images.decode(Path(os.fsdecode(file.path)).read_bytes(), limits) for file in batch]
        )
        for scores, classifier in zip(found, classifiers, strict=True):
            scores.append(classifier.scores(pictures))
    labels = np.array([file.label == "anomaly" for file in files], np.int8)
    return [np.concatenate(scores) for scores in found], labels


def test_openvino_agrees_with_keras_on_all_18_000(metu: Path, installed: tuple[Path, Card]) -> None:
    threshold = installed[1].threshold.value
    compared, largest = 0, 0.0
    for folder in (metu, metu / "valid_balanced", metu / "valid_unbalanced"):
        (by_keras, by_openvino), _ = scored(installed, folder, "keras", "openvino")
        export = compare_export(by_keras, by_openvino, threshold)  # raises where they disagree
        compared += export.compared
        largest = max(largest, export.largest_difference)
    print(f"\n{compared:,} photographs: largest difference {largest:.1e}, no verdict flipped")
    assert compared == 18_000


def test_out_of_fold_it_finds_98_of_100_cracks_at_3_false_alarms_in_2_000(
    installed: tuple[Path, Card],
) -> None:
    known = learned.read(installed[0])
    assert known is not None
    found = missed(known.logits.astype(np.float64), known.labels)
    ece = installed[1].scores["out_of_fold"]["ece"]
    print(f"\n{found} of {int(known.labels.sum())} missed; calibration error {ece}")
    assert np.bincount(known.labels).tolist() == [14_545, 455]
    assert found <= 0.02 * 455
    assert isinstance(ece, float)
    assert ece <= 0.01


def test_the_starter_on_the_validation_folders(metu: Path, installed: tuple[Path, Card]) -> None:
    threshold = installed[1].threshold.value
    for folder in ("valid_balanced", "valid_unbalanced"):
        (scores,), labels = scored(installed, metu / folder, "openvino")
        found = measure(scores, labels, threshold)
        print(
            f"\n{folder} at {threshold:.4f}: TP {found.tp} FN {found.fn} FP {found.fp} "
            f"TN {found.tn}, F1 {found.f1:.4f}, PR area {found.pr_auc:.5f}"
        )
        card = installed[1].scores[folder]
        assert (found.tp, found.fn, found.fp, found.tn) == tuple(
            card[key] for key in ("tp", "fn", "fp", "tn")
        )
        assert found.pr_auc is not None
        if folder == "valid_balanced":
            assert found.recall is not None
            assert found.recall >= 0.99
            assert found.precision is not None
            assert found.precision >= 0.995
            assert found.pr_auc >= 0.999  # docs/model.md has the median of five seeds
        else:
            assert found.fn <= 1
            assert found.fp <= 6


def test_precision_fast_changes_no_verdict(installed: tuple[Path, Card], metu: Path) -> None:
    """Over all 18,000, by the lines of the starter's own card."""
    folder, card = installed
    exact = load(folder, card)
    quick = load(folder, card, precision="fast")
    assert isinstance(quick, FastClassifier) and card.tiled is not None
    lines = [card.threshold.value, card.tiled.value, card.tiled.second_look_from or 1.0]
    aimed = quick.aimed(lines)
    limits = images.Limits(max_pixels=images.RESIZE_UP_TO**2, larger="quarantine")
    total = flipped = flipped_alone = 0
    for split in ("train", "valid_balanced", "valid_unbalanced"):
        files = dataset.list_files(dataset.find_layout(metu / split))
        for start in range(0, len(files), _BATCH):
            pictures = np.stack(
                [
                    images.decode(Path(os.fsdecode(file.path)).read_bytes(), limits)
                    for file in files[start : start + _BATCH]
                ]
            )
            wanted, found, alone = (each.scores(pictures) for each in (exact, aimed, quick.quick))
            total += len(pictures)
            for line in lines:
                flipped += int(((found >= line) != (wanted >= line)).sum())
                flipped_alone += int(((alone >= line) != (wanted >= line)).sum())
            high = wanted >= min(lines)
            np.testing.assert_allclose(found[high], wanted[high], atol=1e-6)  # another batch
    print(
        f"{total} pictures, three lines: {flipped} verdicts differ, {flipped_alone} would by "
        f"bfloat16 alone; {aimed.again} were scored again"
    )
    assert (total, flipped) == (18_000, 0)
    assert flipped_alone > 0  # else nothing is proved
