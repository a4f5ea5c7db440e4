"""An export that judges differently is never published; a model that drifted never judges."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from crackwatch.agreement import (
    check_golden,
    compare_export,
    expected_scores,
    golden_set,
    pixels_sha256,
    read_golden,
    write_golden,
)
from crackwatch.errors import ModelDisagrees, ModelTampered
from crackwatch.registry import Golden
from tests.model_folders import card


class Recorded:
    """A classifier that gives the scores it was told."""

    model_id = "recorded"

    def __init__(self, *scores: float) -> None:
        self._scores = np.array(scores, np.float32)

    def scores(self, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        return self._scores[: len(pictures)]


def floats(*values: float) -> NDArray[np.float32]:
    return np.array(values, np.float32)


def pictures(count: int) -> NDArray[np.uint8]:
    return np.random.default_rng(5).integers(0, 256, (count, 227, 227, 3), dtype=np.uint8)


def test_an_export_within_the_tolerance_is_described() -> None:
    export = compare_export(floats(0.1, 0.9, 0.4), floats(0.1, 0.90005, 0.4), threshold=0.5)
    assert export.largest_difference == pytest.approx(5e-5, rel=0.01)
    assert (export.compared, export.flipped) == (3, 0)


@pytest.mark.parametrize(
    ("exported", "why"),
    [
        ((0.1, 0.9002, 0.4), "a score too far away"),
        ((0.1, 0.9, 0.49999), "a flipped verdict, however small the difference"),
        ((0.1, float("nan"), 0.5), "not a number"),
    ],
)
def test_an_export_that_differs_is_refused(exported: tuple[float, ...], why: str) -> None:
    with pytest.raises(ModelDisagrees, match="do not judge as Keras does"):
        compare_export(floats(0.1, 0.9, 0.5), floats(*exported), threshold=0.5)


def test_a_score_at_the_threshold_is_an_anomaly_on_both_sides() -> None:
    assert compare_export(floats(0.5), floats(0.50001), threshold=0.5).flipped == 0


@pytest.mark.parametrize("other", [floats(0.1), floats(), np.zeros((2, 1), np.float32)])
def test_scores_of_other_pictures_are_not_compared(other: NDArray[np.float32]) -> None:
    with pytest.raises(ValueError, match="do not compare"):
        compare_export(floats(0.1, 0.2), other, threshold=0.5)


def test_golden_pictures_come_back_bit_for_bit(tmp_path: Path) -> None:
    written = pictures(3)
    sha256 = write_golden(tmp_path, written)
    known = card("one", golden=Golden(pixels_sha256=sha256, scores=(0.1, 0.2, 0.3)))
    np.testing.assert_array_equal(read_golden(tmp_path, known), written)


def test_the_hash_is_over_pixels_however_they_lie() -> None:
    every_other = pictures(4)[::2]
    assert pixels_sha256(every_other) == pixels_sha256(every_other.copy())
    assert pixels_sha256(every_other) != pixels_sha256(every_other[::-1])


def test_golden_pictures_that_are_not_the_cards_are_refused(tmp_path: Path) -> None:
    sha256 = write_golden(tmp_path, pictures(2))
    with pytest.raises(ModelTampered, match="not the golden pictures of the card"):
        read_golden(tmp_path, card("one"))
    fewer = Golden(pixels_sha256=sha256, scores=(0.1,))
    with pytest.raises(ModelTampered, match="2 pictures, but the card has 1 scores"):
        read_golden(tmp_path, card("one", golden=fewer))
    (tmp_path / "golden" / "pictures.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(ModelTampered, match="cannot be read"):
        read_golden(tmp_path, card("one"))
    (tmp_path / "golden" / "pictures.npy").unlink()
    with pytest.raises(ModelTampered, match="cannot be read"):
        read_golden(tmp_path, card("one"))


def test_golden_pictures_that_hold_code_are_not_opened(tmp_path: Path) -> None:
    (tmp_path / "golden").mkdir()
    np.save(tmp_path / "golden" / "pictures.npy", np.array([object()]), allow_pickle=True)
    with pytest.raises(ModelTampered, match="cannot be read"):
        read_golden(tmp_path, card("one"))


def test_golden_scores_hold_the_classifier_to_its_card() -> None:
    shown = pictures(3)
    assert check_golden(
        Recorded(0.1, 0.20005, 0.9), shown, (0.1, 0.2, 0.9), 1e-4, 0.5
    ) == pytest.approx(5e-5, rel=0.01)
    for scores in [(0.1, 0.2002, 0.9), (0.1, 0.2, float("nan"))]:
        with pytest.raises(ModelDisagrees, match="recorded does not score its golden pictures"):
            check_golden(Recorded(*scores), shown, (0.1, 0.2, 0.9), 1e-4, 0.5)
    with pytest.raises(ModelDisagrees, match="1 of 3 verdicts are flipped"):
        check_golden(Recorded(0.1, 0.2, 0.89999), shown, (0.1, 0.2, 0.9), 1e-4, 0.9)


def test_at_publication_each_runtime_says_what_it_gives() -> None:
    shown = pictures(2)
    asked = {("openvino", "f32"): Recorded(0.1, 0.9), ("keras", "f32"): Recorded(0.1, 0.8)}
    expected = expected_scores(shown, asked)
    golden = Golden(pixels_sha256="0" * 64, scores=(0.1, 0.8), expected=expected)
    assert golden.expects("openvino", "f32") == pytest.approx((0.1, 0.9))
    assert golden.expects("keras", "f32") == pytest.approx((0.1, 0.8))
    assert golden.expects("another", "f32") == (0.1, 0.8), "Keras's where nobody asked"
    with pytest.raises(ModelDisagrees, match="no probability"):
        expected_scores(shown, {("openvino", "f32"): Recorded(0.1, float("nan"))})


def test_a_runtime_is_held_against_its_own_scores(tmp_path: Path) -> None:
    sha256 = write_golden(tmp_path, pictures(2))
    known = card(
        "one",
        golden=Golden(
            pixels_sha256=sha256, scores=(0.2, 0.9), expected={"openvino/f32": (0.201, 0.9)}
        ),
    )
    golden = golden_set(tmp_path, known, "openvino")
    golden.prove(Recorded(0.2019, 0.9), 0.5)
    with pytest.raises(ModelDisagrees, match=r"is 0\.0019 \(allowed: 0\.001\), and 0 of 2"):
        golden.prove(Recorded(0.1991, 0.9), 0.5)


def test_a_card_with_scores_missing_for_a_runtime_is_no_card() -> None:
    with pytest.raises(ValidationError, match=r"openvino/f32: 1 scores, but 2"):
        Golden(pixels_sha256="0" * 64, scores=(0.1, 0.8), expected={"openvino/f32": (0.1,)})
