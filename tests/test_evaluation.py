"""Counts, rates and exact intervals, against figures worked out by hand or published."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from crackwatch import evaluation
from crackwatch.dataset import LabelledFile
from crackwatch.domain import Label, QuarantineReason
from crackwatch.errors import Unreadable


def made(tp: int, fn: int, fp: int, tn: int) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
    """Scores and labels that give these counts at 0.5."""
    scores = np.repeat(np.array([0.9, 0.2, 0.8, 0.1], np.float32), [tp, fn, fp, tn])
    return scores, np.repeat(np.array([1, 1, 0, 0], np.int8), [tp, fn, fp, tn])


class TestMeasures:
    def test_the_notebooks_balanced_test_gives_its_figures(self) -> None:
        found = evaluation.measure(*made(952, 48, 6, 994), 0.5)
        assert (found.n, found.tp, found.fn, found.fp, found.tn) == (2000, 952, 48, 6, 994)
        assert found.accuracy == pytest.approx(0.973)
        assert found.precision == pytest.approx(0.9937, abs=5e-5)
        assert found.recall == pytest.approx(0.952)
        assert found.f1 == pytest.approx(0.9724, abs=5e-5)

    def test_28_of_30_is_anything_from_078_to_099(self) -> None:
        found = evaluation.measure(*made(28, 2, 6, 964), 0.5)
        assert found.f1 == pytest.approx(0.875)
        assert found.recall_interval == pytest.approx((0.7793, 0.9918), abs=5e-5)

    def test_no_success_has_the_interval_of_the_rule_of_three(self) -> None:
        interval = evaluation.exact_interval(0, 100)
        assert interval is not None
        assert interval[0] == 0
        assert interval[1] == pytest.approx(1 - 0.025 ** (1 / 100))

    def test_a_score_at_the_threshold_is_an_anomaly(self) -> None:
        found = evaluation.measure(np.array([0.5, 0.49]), np.array([1, 0], np.int8), 0.5)
        assert (found.tp, found.tn) == (1, 1)

    def test_a_perfect_order_has_areas_of_one(self) -> None:
        scores = np.array([0.1, 0.2, 0.3, 0.9])
        found = evaluation.measure(scores, np.array([0, 0, 1, 1], np.int8), 0.95)
        assert (found.pr_auc, found.roc_auc) == (1.0, 1.0)
        assert (found.tp, found.precision, found.f1) == (0, None, 0.0)

    def test_areas_of_an_order_with_one_swap(self) -> None:
        scores = np.array([0.9, 0.8, 0.7, 0.1])
        found = evaluation.measure(scores, np.array([1, 0, 1, 0], np.int8), 0.5)
        assert found.pr_auc == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
        assert found.roc_auc == pytest.approx(3 / 4)

    def test_calibration_by_hand(self) -> None:
        scores = np.array([0.05, 0.05, 0.95, 0.95])
        found = evaluation.measure(scores, np.array([0, 0, 1, 0], np.int8), 0.5)
        # bin 0: says 0.05, is 0, half of the pictures; bin 9: says 0.95, is 0.5
        assert found.ece == pytest.approx(0.5 * 0.05 + 0.5 * 0.45)
        assert found.brier == pytest.approx((3 * 0.05**2 + 0.95**2) / 4)

    def test_a_score_of_one_is_in_the_last_bin(self) -> None:
        found = evaluation.measure(np.array([1.0, 0.0]), np.array([1, 0], np.int8), 0.5)
        assert found.ece == 0

    @pytest.mark.parametrize("counts", [(0, 0, 0, 0), (0, 0, 0, 4), (3, 0, 0, 0)])
    def test_rates_of_nothing_are_none(self, counts: tuple[int, int, int, int]) -> None:
        document = evaluation.measure(*made(*counts), 0.5).as_json()
        assert document["pr_auc"] is None
        assert document["roc_auc"] is None
        assert (document["recall"] is None) == (counts[0] + counts[1] == 0)
        assert (document["recall_interval"] is None) == (counts[0] + counts[1] == 0)

    def test_the_document_has_the_promised_keys(self) -> None:
        promised = (
            "threshold n tp fn fp tn accuracy precision recall f1 pr_auc roc_auc brier ece "
            "recall_interval precision_interval"
        )
        document = evaluation.measure(*made(5, 1, 1, 5), 0.5).as_json()
        assert set(promised.split()) == set(document)
        assert len(document["recall_interval"]) == len(document["precision_interval"]) == 2


class _Brightness:
    """A classifier whose score is the mean pixel."""

    model_id = "brightness"

    def __init__(self) -> None:
        self.batches: list[int] = []

    def scores(self, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.batches.append(len(pictures))
        return (pictures.mean(axis=(1, 2, 3)) / 255).astype(np.float32)


def decode(content: bytes) -> NDArray[np.uint8]:
    if not content.isdigit():
        raise Unreadable(QuarantineReason.NOT_AN_IMAGE, "not a number")
    return np.full((227, 227, 3), int(content), np.uint8)


def test_every_file_is_scored_once_or_listed(tmp_path: Path) -> None:
    files = []
    for number in range(200):
        file = tmp_path / f"{number:03}"
        file.write_bytes(b"broken" if number % 50 == 7 else str(number).encode())
        label = Label.ANOMALY if number % 2 else Label.NORMAL
        files.append(LabelledFile(bytes(file), label))
    classifier, told = _Brightness(), []
    scored = evaluation.score_files(
        files, decode, classifier, lambda done, total: told.append((done, total))
    )
    names = [int(path[-3:]) for path in scored.paths]
    assert names == [number for number in range(200) if number % 50 != 7]
    np.testing.assert_allclose(scored.scores, np.array(names) / 255, atol=1e-6)
    np.testing.assert_array_equal(scored.labels, np.array(names) % 2)
    assert [Path(problem.path).name for problem in scored.problems] == ["007", "057", "107", "157"]
    assert max(classifier.batches) <= 64
    assert told[-1] == (200, 200)
