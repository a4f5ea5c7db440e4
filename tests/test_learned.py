"""What a model learned from travels with it unchanged, or is refused."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from crackwatch import learned
from crackwatch.errors import ModelTampered
from crackwatch.learned import LEARNED_FILE, Learned


def some(rows: int = 5) -> Learned:
    random = np.random.default_rng(7)
    return Learned(
        pixel_hashes=random.integers(0, 256, (rows, 16), dtype=np.uint8),
        textures=random.integers(0, 256, (rows, 35), dtype=np.uint8),
        labels=np.array([1, 0, 0, 1, 0], np.int8)[:rows],
        groups=np.arange(rows, dtype=np.int32),
        folds=np.array([0, 1, 2, 3, -1], np.int8)[:rows],
        logits=np.array([3.5, -9.25, -4, 0.5, np.nan], np.float32)[:rows],
        reviewed=np.zeros(rows, bool),
    )


def test_what_is_written_is_read_back_bit_for_bit(tmp_path: Path) -> None:
    learned.write(tmp_path, some())
    found = learned.read(tmp_path)
    assert found is not None
    for field in fields(Learned):
        expected, got = getattr(some(), field.name), getattr(found, field.name)
        assert got.dtype == expected.dtype
        np.testing.assert_array_equal(got, expected)
    assert found.out_of_fold.tolist() == [0, 1, 2, 3]


def test_a_model_without_the_file_simply_has_none(tmp_path: Path) -> None:
    assert learned.read(tmp_path) is None


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 cut short"])
def test_a_damaged_file_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    (tmp_path / LEARNED_FILE).write_bytes(content)
    with pytest.raises(ModelTampered, match=r"learned\.npz"):
        learned.read(tmp_path)


def test_rows_that_do_not_match_are_refused() -> None:
    good = some()
    with pytest.raises(ValueError, match="logits has 2 rows, not 5"):
        Learned(
            good.pixel_hashes, good.textures, good.labels, good.groups, good.folds,
            good.logits[:2], good.reviewed,
        )  # fmt: skip
