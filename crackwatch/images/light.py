"""Brightness and sharpness of a decoded picture: two figures that tell light and lens from concrete.

They are compared, day by day, with those of the pictures that the model learned from.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from crackwatch.domain import Light


def measure(picture: NDArray[np.uint8]) -> Light:
    """Of one picture, uint8 (height, width, 3) BGR, 0..255; changes nothing.

    Brightness is the mean grey level, 0..255. Sharpness is the variance of the Laplacian (kernel
    0 1 0, 1 -4 1, 0 1 0; the border mirrored) of the middle half of the grey picture's rows, in
    grey levels squared, as in Pech-Pacheco, Cristóbal, Chamorro-Martínez, Fernández-Valdivia,
    "Diatom autofocusing in brightfield microscopy: a comparative study", ICPR 2000: a lens out of
    focus or smeared lowers it; another texture, noise or a harder light changes it as well.
    """
    grey = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
    quarter = grey.shape[0] // 4  # half the rows tell as much of a lens for half the time
    # whole numbers of at most 4 * 255: 16 bits hold them exactly
    curvature = cv2.Laplacian(grey[quarter : grey.shape[0] - quarter], cv2.CV_16S)
    mean_square = cv2.norm(curvature, cv2.NORM_L2SQR) / curvature.size
    mean = cv2.mean(curvature)[0]
    # the difference of two roundings must not become a negative variance
    return Light(float(cv2.mean(grey)[0]), max(0.0, float(mean_square - mean * mean)))


def measure_all(
    pictures: NDArray[np.uint8],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Brightness (N,) and sharpness (N,) of uint8 (N, height, width, 3) BGR, as ``measure``."""
    each = [measure(picture) for picture in pictures]
    return (
        np.array([light.brightness for light in each], np.float64),
        np.array([light.sharpness for light in each], np.float64),
    )
