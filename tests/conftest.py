"""Fixtures that several test modules share."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
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


@pytest.fixture(scope="session")
def made_station(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A station as ``init`` makes it; never written to: tests copy it."""
    root = tmp_path_factory.mktemp("made") / "station"
    subprocess.run([sys.executable, "-m", "crackwatch", "init", str(root)], check=True, timeout=100)
    return root


@pytest.fixture(scope="session")
def lenet_keras(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LeNet that has learnt nothing, saved by Keras; never written to.

    Its scores spread over 0..1, and its biases are not the zeros that Keras begins with: what went
    wrong in an export would show.
    """
    import keras
    import numpy as np

    from crackwatch import lenet

    keras.utils.set_random_seed(20_261_101)
    model = lenet.build(lenet.Normalisation(1 / 40, -4.0))
    for layer in model.layers:
        if getattr(layer, "bias", None) is not None:
            layer.bias.assign(np.linspace(-0.2, 0.2, layer.bias.shape[0]))
    file = tmp_path_factory.mktemp("keras") / "lenet.keras"
    with warnings.catch_warnings():
        # Keras's own reading of its variables, with NumPy 2
        warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)
        model.save(file)
    return file
