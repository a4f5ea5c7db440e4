"""The LeNet is the notebook's, and a saved one needs nothing of ours."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from crackwatch import lenet

# Keras's own reading of its variables, with NumPy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture(scope="module")
def model() -> keras.Model:
    keras.utils.set_random_seed(1)
    return lenet.build(lenet.Normalisation(1 / 40, -4.0))


def pictures(count: int) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (count, 227, 227, 3), dtype=np.uint8)


def test_the_layers_are_the_notebooks(model: keras.Model) -> None:
    kinds = [type(layer).__name__ for layer in model.layers]
    assert kinds == [
        "Rescaling",
        "Conv2D",
        "AveragePooling2D",
        "Conv2D",
        "AveragePooling2D",
        "Flatten",
        "Dense",
        "Dense",
        "Dense",
    ]
    assert model.count_params() == lenet.PARAMETERS == 5_819_502
    assert model.input_shape == (None, 227, 227, 3)
    assert model.output_shape == (None, 2)


def test_dropout_adds_no_parameters_and_stands_before_the_first_dense_layer() -> None:
    names = [layer.name for layer in lenet.build(dropout=0.5).layers]
    assert names.index("dropout") + 1 == names.index(lenet.DENSE_1)
    assert lenet.build(dropout=0.5).count_params() == lenet.PARAMETERS


def test_preprocessing_is_inside(model: keras.Model) -> None:
    raw = lenet.build(lenet.RAW)
    raw.set_weights(model.get_weights())
    seen = pictures(2)
    outside = seen.astype(np.float32) / 40 - 4
    np.testing.assert_allclose(
        model.predict_on_batch(seen.astype(np.float32)), raw.predict_on_batch(outside), atol=1e-5
    )
    assert lenet.normalisation_in(model) == lenet.Normalisation(1 / 40, -4.0)


def test_bytes_and_floats_give_the_same_scores(model: keras.Model) -> None:
    seen = pictures(3)
    scores = model.predict_on_batch(seen)
    assert scores.shape == (3, 2)
    np.testing.assert_allclose(scores.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(scores, model.predict_on_batch(seen.astype(np.float32)))


def test_a_folded_calibration_shifts_and_divides_the_logits(model: keras.Model) -> None:
    calibrated = keras.models.clone_model(model)
    calibrated.set_weights(model.get_weights())
    lenet.fold_calibration(calibrated, 2.5, shift=0.75)
    seen = pictures(4)
    before, after = model.predict_on_batch(seen), calibrated.predict_on_batch(seen)

    def logit(scores: np.ndarray) -> np.ndarray:
        return np.log(scores[:, 1]) - np.log(scores[:, 0])

    np.testing.assert_allclose(logit(after), (logit(before) - 0.75) / 2.5, atol=1e-5)


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan"), float("inf")])
def test_an_impossible_temperature_is_refused(model: keras.Model, temperature: float) -> None:
    with pytest.raises(ValueError, match="no calibration"):
        lenet.fold_calibration(model, temperature)


def test_a_saved_model_opens_with_keras_alone(model: keras.Model, tmp_path: Path) -> None:
    model.save(tmp_path / "lenet.keras")
    np.save(tmp_path / "seen.npy", pictures(1))
    code = (
        "import sys, keras, numpy as np\n"
        "model = keras.models.load_model('lenet.keras', safe_mode=True)\n"
        "assert not any(name.startswith('crackwatch') for name in sys.modules)\n"
        "assert getattr(model, 'optimizer', None) is None\n"
        "print(float(model.predict_on_batch(np.load('seen.npy'))[0, 1]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) == pytest.approx(
        float(model.predict_on_batch(pictures(1))[0, 1]), abs=1e-6
    )
