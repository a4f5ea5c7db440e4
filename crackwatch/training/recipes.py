"""What a training does, as facts, and which pictures it sees when; knows no Keras and no files."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from crackwatch.dataset import Split

# A picture, turned by degrees and scaled, in its old size: see ``images.warping``.
Warp = Callable[[NDArray[np.uint8], float, float], NDArray[np.uint8]]


@dataclass(frozen=True, slots=True)
class Recipe:
    """One way to teach the LeNet.

    ``anomaly_share`` is the part of each batch that shows anomalies, drawn anew each epoch; None
    leaves the pictures in the proportion in which they are. ``normals_per_epoch`` is the part of
    the normals that an epoch goes through, another one each time. ``shift`` is how far a picture is
    moved at most, ``tilt`` by how much it is turned besides, ``zoom`` the largest change of its
    scale, as a factor less 1, ``jitter`` the largest change of brightness and of contrast, as a fraction.
    ``focal`` is the gamma of the focal loss (Lin et al. 2017), 0 the plain cross-entropy.
    ``averaged_from`` is the part of the steps after which weights are averaged (Izmailov et al.
    2018), 1 for the last ones as they are. The number of epochs is fixed: no pictures are held back
    to choose one, so that every score out of fold is honest. ``folds`` 0: none are made.
    """

    name: str
    epochs: int
    batch_size: int
    optimizer: Literal["adam", "adamw"]
    learning_rate: float
    schedule: Literal["constant", "cosine"]
    warm_up: float  # part of the steps in which the rate rises from 0
    weight_decay: float
    dropout: float
    normalised: bool
    anomaly_share: float | None
    normals_per_epoch: float
    turns: bool
    shift: int  # pixels
    tilt: float  # degrees
    zoom: float
    jitter: float
    focal: float
    averaged_from: float
    calibrated: bool
    folds: int


# The notebook's procedure, flaws included: see ``notebook_split``.
NOTEBOOK = Recipe(
    name="notebook",
    epochs=10,
    batch_size=32,
    optimizer="adam",
    learning_rate=1e-3,
    schedule="constant",
    warm_up=0.0,
    weight_decay=0.0,
    dropout=0.0,
    normalised=False,
    anomaly_share=None,
    normals_per_epoch=1.0,
    turns=False,
    shift=0,
    tilt=0.0,
    zoom=0.0,
    jitter=0.0,
    focal=0.0,
    averaged_from=1.0,
    calibrated=False,
    folds=0,
)

# Measured in docs/model.md. A quarter of each batch shows anomalies: at the 3 % at which they come,
# most batches would hold none. Cracks run at any angle and at any distance from the camera, but the
# few hundred examples do not. Weights averaged over the second half, at a rate that stays, stand for
# the many models passed on the way, each wrong about other pictures.
STATION = Recipe(
    name="station",
    epochs=15,
    batch_size=32,
    optimizer="adamw",
    learning_rate=1e-3,
    schedule="constant",
    warm_up=0.0,
    weight_decay=1e-2,
    dropout=0.5,
    normalised=True,
    anomaly_share=0.25,
    normals_per_epoch=1.0,
    turns=True,
    shift=20,
    tilt=20.0,
    zoom=0.25,
    jitter=0.2,
    focal=0.0,
    averaged_from=0.5,
    calibrated=True,
    folds=5,
)

# ``--quick``: a first answer within ten minutes on 15,000 pictures; docs/model.md has its price.
QUICK = replace(STATION, name="station-quick", epochs=4, normals_per_epoch=0.4, folds=3)

# From a champion's weights, on reviewed pictures alone: few of them, so small steps.
CONTINUED = replace(
    STATION, name="station-continued", epochs=6, learning_rate=5e-5, anomaly_share=0.5, folds=3
)

# Of the pictures that notebook_split takes, those at the end are held back.
NOTEBOOK_HELD_BACK = 0.25


def notebook_split(labels: NDArray[np.int8], seed: int) -> Split:
    """The notebook's choice: all anomalies, three times as many normals, drawn with replacement.

    ``labels`` is (N,), 1 for an anomaly. The anomalies stand first, and the *last* quarter is held
    back, as Keras does with an unshuffled array: normals only, some of them also learned from.
    """
    anomalies = np.flatnonzero(labels == 1)
    normals = np.flatnonzero(labels == 0)
    drawn = np.random.default_rng(seed).choice(normals, size=3 * len(anomalies), replace=True)
    order = np.concatenate([anomalies, drawn])
    kept = int(len(order) * (1 - NOTEBOOK_HELD_BACK))
    return Split(train=order[:kept], validation=order[kept:])


def steps_per_epoch(recipe: Recipe, labels: NDArray[np.int8], train: NDArray[np.intp]) -> int:
    """How many batches an epoch has: each normal (or, without a share, each picture) comes once.

    Of the normals, that part which the recipe takes an epoch.
    """
    if recipe.anomaly_share is None:
        return -(-len(train) // recipe.batch_size)
    normals = math.ceil(recipe.normals_per_epoch * int((labels[train] == 0).sum()))
    return -(-normals // (recipe.batch_size - _anomalies_per_batch(recipe)))


def epoch_batches(
    recipe: Recipe, labels: NDArray[np.int8], train: NDArray[np.intp], seed: int, epoch: int
) -> Iterator[NDArray[np.intp]]:
    """The positions of each batch of an epoch; the same for the same arguments.

    With a share, normals are gone through once in a random order and anomalies as often as it
    takes, each as often as any other but for one.
    """
    random = np.random.default_rng((seed, 1, epoch))
    if recipe.anomaly_share is None:
        order = random.permutation(train)
        for start in range(0, len(order), recipe.batch_size):
            yield order[start : start + recipe.batch_size]
        return
    anomalies, normals = train[labels[train] == 1], random.permutation(train[labels[train] == 0])
    share = _anomalies_per_batch(recipe)
    steps = steps_per_epoch(recipe, labels, train)
    rounds = -(-steps * share // len(anomalies))
    repeated = np.concatenate([random.permutation(anomalies) for _ in range(rounds)])
    width = recipe.batch_size - share
    normals = normals[: math.ceil(recipe.normals_per_epoch * len(normals))]
    for step in range(steps):
        yield np.concatenate(
            [
                repeated[step * share : (step + 1) * share],
                normals[step * width : (step + 1) * width],
            ]
        )


def _anomalies_per_batch(recipe: Recipe) -> int:
    assert recipe.anomaly_share is not None
    return max(1, round(recipe.batch_size * recipe.anomaly_share))


def augment(
    recipe: Recipe, pictures: NDArray[np.uint8], random: np.random.Generator, warp: Warp
) -> NDArray[np.float32]:
    """Pictures as the model gets them: (N, 227, 227, 3), float32, 0..255, BGR.

    As far as the recipe says so, each is turned and mirrored into one of eight orientations, moved
    (what comes into view is a reflection: the dense layers know places, so a crack must be seen in
    many), and its brightness and contrast, around its own mean, are changed.
    """
    ready = np.empty(pictures.shape, dtype=np.float32)
    for target, picture in zip(ready, pictures, strict=True):
        turned = picture
        if recipe.turns:
            # three bytes at a time: a pixel is moved as a whole
            pixels = picture.view("V3")[..., 0]
            pixels = pixels[:, ::-1] if random.integers(2) else pixels
            pixels = np.ascontiguousarray(np.rot90(pixels, int(random.integers(4))))
            turned = pixels[..., None].view(np.uint8)
        if recipe.shift:
            down, right = random.integers(-recipe.shift, recipe.shift + 1, 2).tolist()
            turned = _moved(turned, down, right)
        if recipe.tilt or recipe.zoom:
            degrees, log_scale = random.uniform(-1, 1, 2)
            scale = math.exp(log_scale * math.log1p(recipe.zoom))
            turned = warp(turned, degrees * recipe.tilt, scale)
        if recipe.jitter:
            contrast, brightness = random.uniform(1 - recipe.jitter, 1 + recipe.jitter, 2)
            mean = turned.sum(dtype=np.uint32) / turned.size
            np.multiply(turned, np.float32(contrast), out=target)
            target += np.float32(mean * (brightness - contrast))
            np.clip(target, 0, 255, out=target)
        else:
            target[...] = turned
    return ready


def _moved(picture: NDArray[np.uint8], down: int, right: int) -> NDArray[np.uint8]:
    """What is seen ``down`` and ``right`` pixels further on, mirrored where the picture ends."""
    rows = picture[_reflected(len(picture), down)]
    moved = np.empty_like(rows)
    width, seam = rows.shape[1], abs(right)
    if right >= 0:
        moved[:, : width - seam] = rows[:, seam:]
        moved[:, width - seam :] = rows[:, width - 1 - seam : width - 1][:, ::-1]
    else:
        moved[:, seam:] = rows[:, : width - seam]
        moved[:, :seam] = rows[:, 1 : seam + 1][:, ::-1]
    return moved


def _reflected(size: int, shift: int) -> NDArray[np.intp]:
    """Indices 0..size-1, ``shift`` further, turned back at both ends; (size,)."""
    moved = np.abs(np.arange(size) + shift)
    return np.where(moved < size, moved, 2 * (size - 1) - moved)
