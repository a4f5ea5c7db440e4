"""The Keras side of a training: feeds batches, keeps the best epoch; writes nothing to disk."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from crackwatch import lenet
from crackwatch.dataset import Pictures, Split
from crackwatch.training import calibration
from crackwatch.training.recipes import Recipe, augment, epoch_batches, steps_per_epoch

_SCORING_BATCH = 64
_PREPARED_AHEAD = 3  # batches; one is 20 MB
_NORMALISED_FROM = 1024  # pictures whose pixels give mean and deviation

# Areas that differ by less are equal: the lower loss decides.
_AREA_RESOLUTION = 4  # digits


@dataclass(frozen=True, slots=True)
class Epoch:
    """What an epoch came to; areas and losses are of the pictures held back."""

    number: int
    of: int
    seconds: float
    train_loss: float
    held_back_loss: float
    held_back_pr_auc: float  # nan where no anomaly was held back
    best: bool  # always False where the recipe keeps the last epoch


@dataclass(frozen=True, slots=True)
class Fitted:
    """A model as trained, not calibrated yet, and the logits of the pictures held back."""

    model: keras.Model
    epochs: tuple[Epoch, ...]
    best_epoch: int
    logits: NDArray[np.float64]  # (len(split.validation),)


StepProgress = Callable[[int, int, int], None]  # epoch, step, steps
EpochProgress = Callable[[Epoch], None]


def make_deterministic(seed: int) -> None:
    """Seeds Python, NumPy and Keras, and asks TensorFlow for operations that repeat.

    Split, order, augmentation and first weights are then the same, bit for bit. Later weights
    nearly are: sums over threads are still rounded in an order of their own, and thousands of
    steps widen that.
    """
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()


def normalisation_of(pictures: Pictures, train: NDArray[np.intp]) -> lenet.Normalisation:
    """Scale and offset that give the training pixels mean 0 and deviation 1."""
    step = max(1, len(train) // _NORMALISED_FROM)
    total = squares = 0.0
    count = 0
    chosen = train[::step]
    for start in range(0, len(chosen), _SCORING_BATCH):
        pixels = pictures.get(chosen[start : start + _SCORING_BATCH]).astype(np.float64)
        total += float(pixels.sum())
        squares += float((pixels**2).sum())
        count += pixels.size
    mean = total / count
    deviation = math.sqrt(max(squares / count - mean**2, 1.0))
    return lenet.Normalisation(scale=1 / deviation, offset=-mean / deviation)


def feature_model(model: keras.Model) -> keras.Model:
    """The layers before the last one, sharing ``model``'s weights: pictures to (N, 84)."""
    return keras.Model(model.inputs, model.get_layer(lenet.DENSE_2).output)


def logits(
    model: keras.Model, features: keras.Model, pictures: Pictures, positions: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Anomaly less normal before the softmax, (len(positions),): no score is lost to rounding.

    ``features`` is ``feature_model(model)``, made once because Keras traces it at its first use.
    """
    weights = model.get_layer(lenet.SCORES).get_weights()
    kernel, bias = (np.asarray(part, np.float64) for part in weights)
    found = [np.empty(0)]
    for start in range(0, len(positions), _SCORING_BATCH):
        batch = pictures.get(positions[start : start + _SCORING_BATCH]).astype(np.float32)
        seen = np.asarray(features.predict_on_batch(batch), np.float64)  # (n, 84)
        found.append(seen @ (kernel[:, 1] - kernel[:, 0]) + (bias[1] - bias[0]))
    return np.concatenate(found)


def fit(
    recipe: Recipe,
    pictures: Pictures,
    split: Split,
    seed: int,
    start_from: keras.Model | None,
    on_step: StepProgress,
    on_epoch: EpochProgress,
) -> Fitted:
    """Trains a LeNet; from ``start_from``'s weights and normalisation where it is given.

    Call ``make_deterministic`` first. ``start_from`` is not changed.
    """
    if start_from is not None:
        model = lenet.build(lenet.normalisation_in(start_from), recipe.dropout)
        model.set_weights(start_from.get_weights())
    else:
        normalisation = normalisation_of(pictures, split.train) if recipe.normalised else lenet.RAW
        model = lenet.build(normalisation, recipe.dropout)
    steps = steps_per_epoch(recipe, pictures.labels, split.train)
    model.compile(optimizer=_optimizer(recipe, steps), loss="binary_crossentropy")

    features = feature_model(model)
    held_back_labels = pictures.labels[split.validation]
    epochs: list[Epoch] = []
    best_weights = model.get_weights()
    best_key = (-math.inf, -math.inf)
    best_epoch = 0
    for number in range(1, recipe.epochs + 1):
        started = time.monotonic()
        losses = []
        batches = _batches(recipe, pictures, split.train, seed, number)
        for step, (batch, one_hot) in enumerate(batches, start=1):
            losses.append(float(model.train_on_batch(batch, one_hot)))
            on_step(number, step, steps)
        held_back = logits(model, features, pictures, split.validation)
        area = calibration.average_precision(held_back, held_back_labels)
        loss = calibration.log_loss(held_back, held_back_labels)
        key = (-math.inf if math.isnan(area) else round(area, _AREA_RESOLUTION), -loss)
        best = key > best_key or not recipe.keep_best
        if best:
            best_weights, best_key, best_epoch = model.get_weights(), key, number
        seconds = time.monotonic() - started
        epochs.append(
            Epoch(
                number,
                recipe.epochs,
                seconds,
                float(np.mean(losses)),
                loss,
                area,
                best and recipe.keep_best,
            )
        )
        on_epoch(epochs[-1])
        if recipe.keep_best and number - best_epoch >= recipe.patience:
            break
    model.set_weights(best_weights)
    return Fitted(
        model, tuple(epochs), best_epoch, logits(model, features, pictures, split.validation)
    )


def _optimizer(recipe: Recipe, steps: int) -> keras.optimizers.Optimizer:
    if recipe.optimizer == "adam":
        return keras.optimizers.Adam(recipe.learning_rate)
    schedule = keras.optimizers.schedules.CosineDecay(recipe.learning_rate, steps * recipe.epochs)
    return keras.optimizers.AdamW(schedule, weight_decay=recipe.weight_decay)


def _batches(
    recipe: Recipe, pictures: Pictures, train: NDArray[np.intp], seed: int, epoch: int
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Batches of an epoch, prepared a few ahead in another thread while Keras is busy."""

    def prepare(
        number: int, positions: NDArray[np.intp]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        random = np.random.default_rng((seed, 2, epoch, number))
        one_hot = np.eye(2, dtype=np.float32)[pictures.labels[positions]]  # (n, 2)
        return augment(recipe, pictures.get(positions), random), one_hot

    with ThreadPoolExecutor(1, "prepare") as pool:
        ahead: list[Future[tuple[NDArray[np.float32], NDArray[np.float32]]]] = []
        for number, positions in enumerate(
            epoch_batches(recipe, pictures.labels, train, seed, epoch)
        ):
            ahead.append(pool.submit(prepare, number, positions))
            if len(ahead) > _PREPARED_AHEAD:
                yield ahead.pop(0).result()
        while ahead:
            yield ahead.pop(0).result()
