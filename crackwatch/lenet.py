"""The notebook's LeNet as a Keras model, preprocessing inside; knows nothing of files or training.

Only Keras's own layers are used, so that ``keras.models.load_model`` opens a saved model in safe
mode without importing crackwatch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import keras
import numpy as np

from crackwatch.runtime import SIDE

PARAMETERS = 5_819_502  # the notebook's own count; a test holds the layers to it
ARCHITECTURE = "lenet-227"  # the name that a card gives it

# Names of layers: the exporter finds weights by them.
RESCALING = "rescaling"
CONV_1 = "conv_1"
CONV_2 = "conv_2"
DENSE_1 = "dense_1"
DENSE_2 = "dense_2"
SCORES = "scores"


@dataclass(frozen=True, slots=True)
class Normalisation:
    """What happens to a pixel 0..255 before the first convolution: ``value * scale + offset``."""

    scale: float
    offset: float


RAW = Normalisation(scale=1.0, offset=0.0)


def build(normalisation: Normalisation = RAW, dropout: float = 0.0) -> keras.Model:
    """A fresh LeNet with 5,819,502 parameters.

    Input: float32 (N, 227, 227, 3), BGR, 0..255 (uint8 is cast). Output: float32 (N, 2), softmax,
    columns normal and anomaly. ``dropout`` (0..1) stands before the first dense layer, has no
    parameters and does nothing outside training; 0 leaves it out. Weights are drawn from Keras's
    global generator: seed it with ``keras.utils.set_random_seed``.
    """
    layers = keras.layers
    model = keras.Sequential(name="lenet")
    model.add(keras.Input((SIDE, SIDE, 3), dtype="float32", name="pictures"))
    # The identity is kept as a layer as well: every model has the same shape for the exporter.
    model.add(layers.Rescaling(normalisation.scale, normalisation.offset, name=RESCALING))
    model.add(layers.Conv2D(6, 3, activation="relu", name=CONV_1))  # (N, 225, 225, 6)
    model.add(layers.AveragePooling2D(2, name="pool_1"))  # (N, 112, 112, 6)
    model.add(layers.Conv2D(16, 3, activation="relu", name=CONV_2))  # (N, 110, 110, 16)
    model.add(layers.AveragePooling2D(2, name="pool_2"))  # (N, 55, 55, 16)
    model.add(layers.Flatten(name="flatten"))  # (N, 48400)
    if dropout > 0:
        model.add(layers.Dropout(dropout, name="dropout"))
    model.add(layers.Dense(120, activation="relu", name=DENSE_1))
    model.add(layers.Dense(84, activation="relu", name=DENSE_2))
    model.add(layers.Dense(2, activation="softmax", name=SCORES))  # normal, anomaly
    return model


def fold_calibration(model: keras.Model, temperature: float, shift: float = 0.0) -> None:
    """Folds a calibration into the last layer, so that every runtime gives calibrated scores.

    The logit (anomaly less normal) z becomes (z - shift) / temperature: half of the shift leaves
    one column, half enters the other, and all is divided. Changes ``model``. Raises ValueError
    unless ``temperature`` is finite and positive and ``shift`` finite. Methods: Guo et al. (2017),
    On Calibration of Modern Neural Networks; Platt (1999).
    """
    if not (math.isfinite(temperature) and temperature > 0 and math.isfinite(shift)):
        raise ValueError(f"no calibration: temperature {temperature!r}, shift {shift!r}")
    last = model.get_layer(SCORES)
    kernel, bias = last.get_weights()
    moved = np.array([shift / 2, -shift / 2], dtype=bias.dtype)  # normal, anomaly
    last.set_weights([kernel / temperature, (bias + moved) / temperature])


def normalisation_in(model: keras.Model) -> Normalisation:
    """The normalisation that a model built here was given."""
    layer = model.get_layer(RESCALING)
    return Normalisation(scale=float(layer.scale), offset=float(layer.offset))
