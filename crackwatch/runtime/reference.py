"""The LeNet run by Keras itself: the reference that every other runtime is held against.

The only part of ``runtime`` that imports Keras and TensorFlow; it takes some five seconds to load.
"""

from __future__ import annotations

import os
from pathlib import Path

# Read once, when TensorFlow's library is loaded; some of its start-up lines come all the same.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from numpy.typing import NDArray

from crackwatch.errors import ModelError
from crackwatch.runtime import check_pictures


class KerasClassifier:
    """A saved Keras model; see ``runtime.Classifier``.

    Loaded in safe mode: a file that carries code is refused. Raises ModelError if Keras cannot
    load ``file``.
    """

    def __init__(self, model_id: str, file: Path) -> None:
        self.model_id = model_id
        try:
            self._model = keras.models.load_model(file, compile=False, safe_mode=True)
        except (OSError, ValueError, TypeError, KeyError) as exc:
            raise ModelError(
                f"{file}: Keras cannot load it: {str(exc).strip().splitlines()[0]}",
                "Go back with 'crackwatch models rollback'.",
            ) from exc

    def scores(self, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        """See ``runtime.Classifier.scores``."""
        check_pictures(pictures)
        # (N, 2) -> (N,): column 1, anomaly. predict() would carry 60 ms a call.
        return np.array(self._model.predict_on_batch(pictures)[:, 1], np.float32)
