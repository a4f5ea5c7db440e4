"""Judges pictures as the notebook does: all of them read into one array, then ``predict``.

``python notebook_way.py MODEL LIST SCORES``: the .keras file, a text file with a path a line, and
where to save the scores, (N,) float32, as .npy. Nothing is recorded and nothing is moved: that is
in the notebook's favour. The list of pictures and the array of float32 stand in memory together, as
they do there.
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import keras
import numpy as np


def main() -> None:
    model_file, list_file, scores_file = sys.argv[1:]
    files = Path(list_file).read_text("utf-8").splitlines()
    model = keras.models.load_model(model_file)
    pictures = [cv2.imread(file) for file in files]
    array = np.array(pictures, dtype=np.float32)  # (N, 227, 227, 3), 0..255, BGR
    np.save(scores_file, model.predict(array)[:, 1])  # column 1: anomaly


if __name__ == "__main__":
    main()
