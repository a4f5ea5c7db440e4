"""Says where in a picture the model saw its reasons, from its weights alone; judges nothing.

Two methods, both on the logit difference (anomaly less normal) at the last convolution's output
A (110, 110, 16). Its gradient G follows by hand through the pooling and the dense layers, so that
neither TensorFlow nor a second runtime is needed.

- Grad-CAM (Selvaraju et al. 2017): relu(sum over k of mean(G_k) * A_k). It averages the gradient
  over the whole picture, which is exact where a global pooling follows the convolution. Here dense
  layers follow, which weigh every place by itself: the average draws whatever looks like a crack
  anywhere, whether or not it counted there.
- HiResCAM (Draelos and Carin 2020): sum over k of G * A, place by place. What stands behind A is
  piecewise linear, so these numbers and what the biases alone give add up to the logit difference:
  each is the share of its place in the score.

``heatmap`` uses HiResCAM. On 60 photographs with a crack and the first starter, painting over the
hottest twentieth of the pixels took 6.1 from the logit difference with HiResCAM, 3.0 with Grad-CAM,
4.0 with the darkest twentieth; a test repeats it on a few. Read it for what it is: where this model found what speaks for a crack. A hot place is no
proof of one, and a cold one was perhaps outvoted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crackwatch.errors import ModelError
from crackwatch.runtime import SIDE, check_pictures
from crackwatch.runtime.weights import Weights, read_keras

SPREAD_PIXELS = 3.0  # standard deviation by which each place is spread: less is a scatter of dots

# A patch of the spread's size that adds so much to the logit difference is drawn at full heat, if
# none is hotter. Below, a map stays as pale as its reasons are weak.
FULL_HEAT_LOGITS = 0.25

_NORMALIZATION_EPSILON = 1e-7  # Keras's own guard against a variance of zero

# From cold to hot: blue, green, red. Lightness rises all the way, so that it reads without colours.
_RAMP_AT = (0.0, 0.25, 0.5, 0.75, 1.0)
_RAMP = ((60, 10, 20), (120, 25, 95), (75, 55, 200), (20, 140, 245), (120, 245, 255))

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the model made of one picture, before anything is averaged or drawn."""

    logits: Floats  # (2,): normal, anomaly; the temperature is in them
    activation: Floats  # (110, 110, 16), what the last convolution gives, >= 0
    gradient: Floats  # (110, 110, 16), of the logit difference by each activation

    @property
    def difference(self) -> float:
        """The logit of the score: anomaly less normal."""
        return float(self.logits[1] - self.logits[0])

    @property
    def score(self) -> float:
        """0..1, as a runtime gives it."""
        return float(1 / (1 + np.exp(-np.float64(self.difference))))


def grad_cam(evidence: Evidence) -> Floats:
    """Selvaraju's map, (110, 110), >= 0; its scale means nothing."""
    weights = evidence.gradient.mean(axis=(0, 1))  # (16,)
    summed: Floats = np.maximum(evidence.activation @ weights, 0)
    return summed


def hires_cam(evidence: Evidence) -> Floats:
    """The share of each place in the logit difference, (110, 110); below 0 it speaks against."""
    shares: Floats = (evidence.gradient * evidence.activation).sum(axis=2, dtype=np.float32)
    return shares


class Explainer:
    """One model, ready to say where it looked. Safe from several threads; some 20 ms a picture.

    ``keras_file`` is a model's ``lenet.keras``. Raises ModelError if it cannot be read or holds a
    layer that ``lenet.build`` does not make.
    """

    def __init__(self, keras_file: Path) -> None:
        saved = read_keras(keras_file)
        network = _Network(keras_file, saved.weights)
        for layer in saved.layers:
            network.add(layer)
        self._before, self._behind, places = network.divided()
        self._spread = _spreading(*places)  # (227, 110)

    def evidence(self, picture: NDArray[np.uint8]) -> Evidence:
        """``picture`` is uint8 (227, 227, 3) BGR. Raises ValueError for anything else."""
        check_pictures(picture[np.newaxis])
        values: Floats = picture.astype(np.float32)
        for layer in self._before:
            values = layer.forward(values)[0]
        return self.evidence_of(values)

    def evidence_of(self, activation: Floats) -> Evidence:
        """What the layers behind the last convolution make of its output, (110, 110, 16)."""
        values = activation
        ways_back: list[_Back] = []
        for layer in self._behind:
            values, back = layer.forward(values)
            ways_back.append(back)
        gradient = np.array([-1, 1], np.float32)  # of the difference, by the two logits
        for back in reversed(ways_back):
            gradient = back(gradient)
        return Evidence(values, activation, gradient)

    def heatmap(self, picture: NDArray[np.uint8]) -> Floats:
        """How much each place of ``picture`` speaks for a crack: float32 (227, 227), 0..1.

        HiResCAM, spread by ``SPREAD_PIXELS``. 1 is the hottest place of this picture, or what
        ``FULL_HEAT_LOGITS`` make in one spot, whichever is more. What speaks against is 0.
        """
        spread = self._spread @ hires_cam(self.evidence(picture)) @ self._spread.T
        return _scaled(spread, self._full_heat)

    def grad_cam(self, picture: NDArray[np.uint8]) -> Floats:
        """Grad-CAM drawn likewise, (227, 227), 0..1; for comparison. 1 is its hottest place."""
        spread = self._spread @ grad_cam(self.evidence(picture)) @ self._spread.T
        return _scaled(spread, 0.0)

    @property
    def _full_heat(self) -> float:
        """The peak of ``FULL_HEAT_LOGITS`` in one cell, spread out."""
        middle = self._spread.shape[1] // 2
        return FULL_HEAT_LOGITS * float(self._spread[:, middle].max()) ** 2


def overlay(picture: NDArray[np.uint8], heat: Floats) -> NDArray[np.uint8]:
    """``picture`` uint8 (227, 227, 3) BGR, dimmed and grey, with ``heat`` (227, 227) glowing on it.

    Returns an array like ``picture``: ``images.encode_png`` makes a file of it.
    """
    grey = picture.mean(axis=2, keepdims=True, dtype=np.float32) * 0.5
    colours = np.stack(
        [np.interp(heat, _RAMP_AT, [step[channel] for step in _RAMP]) for channel in range(3)],
        axis=2,
    )
    cover = np.minimum(heat * 2, 0.9)[..., np.newaxis]
    glowing: NDArray[np.uint8] = np.rint(grey * (1 - cover) + colours * cover).astype(np.uint8)
    return glowing


def _scaled(values: NDArray[np.floating], least: float) -> Floats:
    peak = max(float(values.max()), least)
    if peak <= 0:
        return np.zeros(values.shape, np.float32)
    scaled: Floats = np.clip(values / peak, 0, 1).astype(np.float32)
    return scaled


def _spreading(cells: int, first: float, step: float) -> Floats:
    """(227, cells): how much each cell, ``first + step * i`` pixels from the edge, gives a pixel.

    Each pixel is a mean of the cells near it, by a bell curve of ``SPREAD_PIXELS``; at the edges,
    which the convolutions cut off, of those that are nearest.
    """
    pixels = np.arange(SIDE)[:, np.newaxis]
    centres = first + step * np.arange(cells)[np.newaxis]
    weights = np.exp(-0.5 * ((pixels - centres) / SPREAD_PIXELS) ** 2)
    spread: Floats = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    return spread


# --------------------------------------------------------------------------------------- layers

_Back = Callable[[Floats], Floats]  # the gradient by a layer's output to that by its input


@dataclass(frozen=True, slots=True)
class _Scaling:
    scale: Floats  # () or (3,)
    offset: Floats

    def forward(self, values: Floats) -> tuple[Floats, _Back]:
        return values * self.scale + self.offset, lambda gradient: gradient * self.scale


@dataclass(frozen=True, slots=True)
class _Convolution:
    """Stride 1, no padding, relu. Nothing is led back through it: the maps end at its output."""

    kernel: Floats  # (rows, columns, in, out)
    bias: Floats  # (out,)

    def forward(self, values: Floats) -> tuple[Floats, _Back]:
        rows, columns = self.kernel.shape[:2]
        height, width = values.shape[0] - rows + 1, values.shape[1] - columns + 1
        total = np.broadcast_to(self.bias, (height, width, len(self.bias))).copy()
        for row in range(rows):
            for column in range(columns):
                part = values[row : row + height, column : column + width]
                total += part @ self.kernel[row, column]  # (h, w, in) @ (in, out)
        return np.maximum(total, 0, out=total), self._no_way_back

    def _no_way_back(self, gradient: Floats) -> Floats:
        raise NotImplementedError("the maps end at the last convolution")


@dataclass(frozen=True, slots=True)
class _Pooling:
    """Means of squares, which do not overlap; what is left over at the far edges is dropped."""

    size: int

    def forward(self, values: Floats) -> tuple[Floats, _Back]:
        height, width, channels = values.shape
        rows, columns = height // self.size, width // self.size
        kept = values[: rows * self.size, : columns * self.size]
        squares = kept.reshape(rows, self.size, columns, self.size, channels)

        def back(gradient: Floats) -> Floats:  # (rows, columns, c) to (height, width, c)
            full = np.zeros((height, width, channels), np.float32)
            shared = (gradient / self.size**2).repeat(self.size, axis=0).repeat(self.size, axis=1)
            full[: rows * self.size, : columns * self.size] = shared
            return full

        return squares.mean(axis=(1, 3)), back


@dataclass(frozen=True, slots=True)
class _Flatten:
    def forward(self, values: Floats) -> tuple[Floats, _Back]:
        return values.reshape(-1), lambda gradient: gradient.reshape(values.shape)


@dataclass(frozen=True, slots=True)
class _Dense:
    kernel: Floats  # (in, out)
    bias: Floats  # (out,)
    relu: bool

    def forward(self, values: Floats) -> tuple[Floats, _Back]:
        total = values @ self.kernel + self.bias
        if not self.relu:
            return total, lambda gradient: self.kernel @ gradient
        open_ = total > 0
        return total * open_, lambda gradient: self.kernel @ (gradient * open_)


_Layer = _Scaling | _Convolution | _Pooling | _Flatten | _Dense


class _Network:
    """Turns Keras's descriptions, one after the other, into layers that run forwards and back."""

    def __init__(self, file: Path, weights: Weights) -> None:
        self._file = file
        self._weights = weights
        self._layers: list[_Layer] = []

    def add(self, layer: dict[str, Any]) -> None:
        kind, config = layer["class_name"], layer["config"]
        name = config.get("name", kind)
        arrays = self._weights.get(name, [])
        match kind:
            case "InputLayer" | "Dropout":
                pass  # a picture comes in; dropout does something only while training
            case "Rescaling":
                self._layers.append(_scaling(config["scale"], config["offset"]))
            case "Normalization" if not config.get("invert"):
                given = config.get("mean") is not None
                mean, variance = (config["mean"], config["variance"]) if given else arrays[:2]
                scale = 1 / np.maximum(np.sqrt(np.float64(variance)), _NORMALIZATION_EPSILON)
                self._layers.append(_scaling(scale, -np.float64(mean) * scale))
            case "Conv2D" if self._is_plain(config) and len(arrays) == 2:
                self._layers.append(_Convolution(*arrays))
            case "AveragePooling2D" if self._is_plain_pooling(config):
                self._layers.append(_Pooling(config["pool_size"][0]))
            case "Flatten":
                self._layers.append(_Flatten())
            case "Dense" if config["activation"] in ("relu", "softmax") and len(arrays) == 2:
                self._layers.append(
                    _Dense(arrays[0], arrays[1], relu=config["activation"] == "relu")
                )
            case _:
                raise self._refuse(f"layer {name!r}, a {kind}, is none that 'retrain' makes")

    def divided(self) -> tuple[list[_Layer], list[_Layer], tuple[int, float, float]]:
        """The layers up to the last convolution, those behind it, and where its cells lie.

        The last: how many there are on a side, the first one's middle and the step between two, in
        pixels of the picture.
        """
        cuts = [at for at, layer in enumerate(self._layers, 1) if isinstance(layer, _Convolution)]
        if not cuts:
            raise self._refuse("it has no convolution")
        before, behind = self._layers[: cuts[-1]], self._layers[cuts[-1] :]
        cells, first, step = SIDE, 0.0, 1.0
        for layer in before:
            if isinstance(layer, _Convolution):
                cells -= layer.kernel.shape[0] - 1
                first += step * (layer.kernel.shape[0] - 1) / 2
            elif isinstance(layer, _Pooling):
                cells //= layer.size
                first += step * (layer.size - 1) / 2
                step *= layer.size
        return before, behind, (cells, first, step)

    def _is_plain(self, config: dict[str, Any]) -> bool:
        rows, columns = config["kernel_size"]
        return bool(
            rows == columns
            and config["padding"] == "valid"
            and config["activation"] == "relu"
            and config.get("groups", 1) == 1
            and set(config["strides"]) == set(config["dilation_rate"]) == {1}
        )

    def _is_plain_pooling(self, config: dict[str, Any]) -> bool:
        sizes = {*config["pool_size"], *config["strides"]}
        return config["padding"] == "valid" and len(sizes) == 1

    def _refuse(self, what: str) -> ModelError:
        return ModelError(
            f"{self._file}: no heat maps can be drawn for this model: {what}",
            "Train the model with 'crackwatch retrain'.",
        )


def _scaling(scale: object, offset: object) -> _Scaling:
    return _Scaling(np.asarray(scale, np.float32), np.asarray(offset, np.float32))
