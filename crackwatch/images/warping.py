"""Turns a picture by any angle and scales it, about its middle: for training; never for judging."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray


def warp(picture: NDArray[np.uint8], degrees: float, scale: float) -> NDArray[np.uint8]:
    """The picture (S, S, 3) uint8 turned counter-clockwise and scaled, in its old size.

    Bilinear; what comes into view from outside is a reflection. Changes nothing.
    """
    side = picture.shape[0]
    middle = (side - 1) / 2
    matrix = cv2.getRotationMatrix2D((middle, middle), degrees, scale)
    warped = cv2.warpAffine(
        picture, matrix, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    )
    return warped.astype(np.uint8, copy=False)
