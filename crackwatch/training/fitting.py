"""The Keras side of a training: feeds batches, keeps its place after each epoch; knows no model folder.

One process, one thread: sums are then always rounded in the same order, and the same data, recipe
and seed give the same weights to the last bit, interrupted or not. ``crew`` runs several at once.
"""

from __future__ import annotations

import math
import os
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from crackwatch import lenet
from crackwatch.dataset import PixelCache
from crackwatch.training.recipes import Recipe, Warp, augment, epoch_batches, steps_per_epoch

_SCORING_BATCH = 64
_PREPARED_AHEAD = 3  # batches; one is 20 MB
_NORMALISED_FROM = 1024  # pictures whose pixels give mean and deviation
_AVERAGED_EVERY = 20  # times an epoch that weights enter their average


@dataclass(frozen=True, slots=True)
class Epoch:
    """What an epoch came to."""

    number: int
    of: int
    seconds: float
    train_loss: float


@dataclass(frozen=True, slots=True)
class Lesson:
    """What is learned from: positions of ``pixels``, with ``labels`` (N,) int8, 1 for an anomaly."""

    recipe: Recipe
    seed: int
    pixels: PixelCache
    labels: NDArray[np.int8]
    train: NDArray[np.intp]
    warp: Warp


StepProgress = Callable[[int, int, int], None]  # epoch, step, steps
EpochProgress = Callable[[Epoch], None]


def use_one_thread() -> None:
    """Holds TensorFlow to one thread and to graphs as they were written.

    Call it before TensorFlow has computed anything.
    """
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    # What rewrites graphs walks hash tables whose order hangs on addresses: once in some fifty
    # times the same training had its sums in another order, and its weights other last bits.
    # Without it a step is no slower.
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})


def make_deterministic(seed: int) -> None:
    """Forgets earlier models, seeds Python, NumPy and Keras, and asks for repeatable operations."""
    keras.backend.clear_session(free_memory=True)
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()


def normalisation_of(pixels: PixelCache, train: NDArray[np.intp]) -> lenet.Normalisation:
    """Scale and offset that give the training pixels mean 0 and deviation 1."""
    step = max(1, len(train) // _NORMALISED_FROM)
    total = squares = 0.0
    count = 0
    chosen = train[::step]
    for start in range(0, len(chosen), _SCORING_BATCH):
        values = pixels.get(chosen[start : start + _SCORING_BATCH]).astype(np.float64)
        total += float(values.sum())
        squares += float((values**2).sum())
        count += values.size
    mean = total / count
    deviation = math.sqrt(max(squares / count - mean**2, 1.0))
    return lenet.Normalisation(scale=1 / deviation, offset=-mean / deviation)


def logits(
    model: keras.Model, pixels: PixelCache, positions: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Anomaly less normal before the softmax, (len(positions),): no score is lost to rounding."""
    features = keras.Model(model.inputs, model.get_layer(lenet.DENSE_2).output)  # to (N, 84)
    weights = model.get_layer(lenet.SCORES).get_weights()
    kernel, bias = (np.asarray(part, np.float64) for part in weights)
    found = [np.empty(0)]
    for start in range(0, len(positions), _SCORING_BATCH):
        batch = pixels.get(positions[start : start + _SCORING_BATCH]).astype(np.float32)
        seen = np.asarray(features.predict_on_batch(batch), np.float64)  # (n, 84)
        found.append(seen @ (kernel[:, 1] - kernel[:, 0]) + (bias[1] - bias[0]))
    return np.concatenate(found)


def fit(
    lesson: Lesson,
    start_from: keras.Model | None,
    checkpoint: Path,
    on_step: StepProgress,
    on_epoch: EpochProgress,
) -> tuple[keras.Model, list[Epoch]]:
    """Trains a LeNet; from ``start_from``'s weights and normalisation where it is given.

    Call ``use_one_thread`` and ``make_deterministic`` first. ``start_from`` is not changed. Where ``checkpoint`` is a file
    of an interrupted run with the same arguments, it goes on behind the last epoch that was
    finished, and ends with the same weights as if it had not been interrupted. Returns the model
    as trained, and the epochs of this process and those before.
    """
    recipe, train = lesson.recipe, lesson.train
    if start_from is not None:
        model = lenet.build(lenet.normalisation_in(start_from), recipe.dropout)
        model.set_weights(start_from.get_weights())
    else:
        normalisation = normalisation_of(lesson.pixels, train) if recipe.normalised else lenet.RAW
        model = lenet.build(normalisation, recipe.dropout)
    steps = steps_per_epoch(recipe, lesson.labels, train)
    model.compile(optimizer=_optimizer(recipe, steps), loss=_loss(recipe))
    model.optimizer.build(model.trainable_variables)

    average = _Average(model, recipe, steps)
    epochs = _resume(checkpoint, model, average)
    for number in range(len(epochs) + 1, recipe.epochs + 1):
        started = time.monotonic()
        losses = []
        for step, (batch, one_hot) in enumerate(_batches(lesson, number), start=1):
            losses.append(float(model.train_on_batch(batch, one_hot)))
            average.after((number - 1) * steps + step)
            on_step(number, step, steps)
        seconds = time.monotonic() - started
        epochs.append(Epoch(number, recipe.epochs, seconds, float(np.mean(losses))))
        if number < recipe.epochs:
            _keep(checkpoint, model, average, epochs)
        on_epoch(epochs[-1])
    average.apply()
    return model, epochs


class _Average:
    """The mean of the weights over the end of a training; of nothing where the recipe has none."""

    def __init__(self, model: keras.Model, recipe: Recipe, steps: int) -> None:
        self._model = model
        self._first = math.ceil(recipe.averaged_from * steps * recipe.epochs)
        self._every = max(1, steps // _AVERAGED_EVERY)
        self.count = 0
        self.total: list[NDArray[np.float32]] = []

    def after(self, step: int) -> None:
        if step > self._first and step % self._every == 0:
            weights = self._model.get_weights()
            self.count += 1
            if not self.total:
                self.total = [np.zeros_like(each) for each in weights]
            for total, each in zip(self.total, weights, strict=True):
                total += each

    def apply(self) -> None:
        if self.count:
            self._model.set_weights([total / self.count for total in self.total])


def _optimizer(recipe: Recipe, steps: int) -> keras.optimizers.Optimizer:
    rate: float | keras.optimizers.schedules.LearningRateSchedule = recipe.learning_rate
    total = steps * recipe.epochs
    warm = round(recipe.warm_up * total)
    if recipe.schedule == "cosine" and warm:
        rate = keras.optimizers.schedules.CosineDecay(
            0.0, total - warm, warmup_target=recipe.learning_rate, warmup_steps=warm
        )
    elif recipe.schedule == "cosine":
        rate = keras.optimizers.schedules.CosineDecay(recipe.learning_rate, total)
    if recipe.optimizer == "adam":
        return keras.optimizers.Adam(rate)
    return keras.optimizers.AdamW(rate, weight_decay=recipe.weight_decay)


def _loss(recipe: Recipe) -> keras.losses.Loss | str:
    if recipe.focal:
        return keras.losses.BinaryFocalCrossentropy(gamma=recipe.focal)
    return "binary_crossentropy"  # over both columns, as the notebook has it


# -------------------------------------------------------------------------------------- resuming


def _keep(checkpoint: Path, model: keras.Model, average: _Average, epochs: list[Epoch]) -> None:
    """Replaces the checkpoint in one step. Its loss costs an epoch's work at most: never synced."""
    kept: dict[str, NDArray[Any]] = {
        "epochs": np.array([(e.number, e.of, e.seconds, e.train_loss) for e in epochs]),
        "averaged": np.array(average.count),
    }
    # the seeds of dropout are among the variables
    kept |= {f"model_{i}": np.asarray(v) for i, v in enumerate(model.variables)}
    kept |= {f"optimizer_{i}": np.asarray(v) for i, v in enumerate(model.optimizer.variables)}
    kept |= {f"total_{i}": total for i, total in enumerate(average.total)}
    partial = checkpoint.with_suffix(".part")
    with partial.open("wb") as stream:
        np.savez(stream, allow_pickle=False, **kept)
    os.replace(partial, checkpoint)


def _resume(checkpoint: Path, model: keras.Model, average: _Average) -> list[Epoch]:
    """Takes up a checkpoint; a damaged one is as good as none."""
    try:
        with checkpoint.open("rb") as stream, np.load(stream, allow_pickle=False) as kept:
            found = {name: kept[name] for name in kept.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        return []
    for i, variable in enumerate(model.variables):
        variable.assign(found[f"model_{i}"])
    for i, variable in enumerate(model.optimizer.variables):
        variable.assign(found[f"optimizer_{i}"])
    average.count = int(found["averaged"])
    average.total = [found[f"total_{i}"] for i in range(len(model.weights)) if average.count]
    return [Epoch(int(n), int(of), float(s), float(loss)) for n, of, s, loss in found["epochs"]]


# --------------------------------------------------------------------------------------- batches


def _batches(
    lesson: Lesson, epoch: int
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Batches of an epoch, prepared a few ahead in another thread while Keras is busy."""
    recipe, labels, seed = lesson.recipe, lesson.labels, lesson.seed

    def prepare(
        number: int, positions: NDArray[np.intp]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        random = np.random.default_rng((seed, 2, epoch, number))
        one_hot = np.eye(2, dtype=np.float32)[labels[positions]]  # (n, 2)
        return augment(recipe, lesson.pixels.get(positions), random, lesson.warp), one_hot

    with ThreadPoolExecutor(1, "prepare") as pool:
        ahead: list[Future[tuple[NDArray[np.float32], NDArray[np.float32]]]] = []
        for number, positions in enumerate(
            epoch_batches(recipe, labels, lesson.train, seed, epoch)
        ):
            ahead.append(pool.submit(prepare, number, positions))
            if len(ahead) > _PREPARED_AHEAD:
                yield ahead.pop(0).result()
        while ahead:
            yield ahead.pop(0).result()
