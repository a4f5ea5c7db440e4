"""Fixtures that several test modules share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_BESIDE_THE_CHECKOUT = Path(__file__).resolve().parents[2] / "shared" / "data" / "metu"


@pytest.fixture(scope="session")
def metu() -> Path:
    """The folder of real pictures: train/, valid_balanced/, valid_unbalanced/; never written to."""
    folder = Path(os.environ.get("CRACKWATCH_METU") or _BESIDE_THE_CHECKOUT)
    if not (folder / "valid_unbalanced").is_dir():
        pytest.skip(f"no METU photographs in {folder}; name their folder in $CRACKWATCH_METU")
    return folder
