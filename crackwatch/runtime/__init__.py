"""What the station asks of anything that can judge pictures; knows no library that does it.

``openvino.py`` is the default, ``reference.py`` the Keras one that it is checked against.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

SIDE = 227  # pixels; the LeNet's input is SIDE x SIDE x 3, blue first


class Classifier(Protocol):
    """A model, loaded and ready."""

    model_id: str

    def scores(self, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The calibrated probability of an anomaly for each picture.

        ``pictures`` is (N, 227, 227, 3), uint8, BGR, 0..255, N >= 1; the result is (N,), float32,
        0..1. Safe to call from one thread at a time.
        """
        ...
