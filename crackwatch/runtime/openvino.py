"""The LeNet as an OpenVINO graph: built from the saved weights, and run; never imports Keras.

The graph is written by hand because the exporter's loses a quarter of its time to layout changes.
Pictures enter as they are, uint8 (N, 227, 227, 3); one transpose, and everything behind it is in
OpenVINO's own order, channels first. Keras flattens in the order height, width, channel, so the
kernel of the first dense layer is permuted once, here, instead of every picture's activations.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

# Importing openvino imports its model converter, and that reports the import to a server. The
# converter is not used here; without it nothing is sent, and the import takes half the time.
for _name in ("openvino.tools.ovc", "openvino_telemetry"):
    sys.modules[_name] = None  # type: ignore[assignment]  # Python's own way to bar an import

# ruff: noqa: E402 (the bar above must stand before openvino is imported)
import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset13 as op

from crackwatch.errors import ModelError
from crackwatch.runtime import SIDE, check_pictures
from crackwatch.runtime.weights import Weights, read_keras

# Pictures run through the graph together: more is no faster, and each takes 2 MB on the way.
_AT_ONCE = 32

_NHWC_TO_NCHW = np.array([0, 3, 1, 2], np.int64)
_NORMALIZATION_EPSILON = 1e-7  # Keras's own guard against a variance of zero

# ----------------------------------------------------------------------------------- running


@functools.cache
def _core() -> Any:
    """The one core of this process; never let go.

    OpenVINO's CPU plugin gives the thread that makes it an alternate signal stack and frees it with
    the last core, on whichever thread that is. Dropped by another thread (a new champion's), it
    would leave the main thread with a stack that is gone, and the next SIGTERM with a segfault.
    """
    return ov.Core()


def has_bfloat16() -> bool:
    """Whether this processor computes in bfloat16 itself; it is simulated, and slow, elsewhere."""
    return "BF16" in _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def processor() -> str:
    """What this machine's processor is called."""
    return str(_core().get_property("CPU", "FULL_DEVICE_NAME"))


class OpenvinoClassifier:
    """A built graph, compiled for this processor; see ``runtime.Classifier``.

    ``graph`` and ``weights`` are the contents of the .xml and .bin that ``build`` wrote.
    ``threads`` is how many cores one call may use; None: all of them. ``precision`` is "f32" or
    "bf16". Raises ModelError if OpenVINO cannot use them.
    """

    def __init__(
        self,
        model_id: str,
        graph: bytes,
        weights: bytes,
        threads: int | None = None,
        *,
        precision: str = "f32",
    ) -> None:
        self.model_id = model_id
        options: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            # Left alone it is bf16 where the processor has it: 0.011 away from Keras.
            "INFERENCE_PRECISION_HINT": precision,
            # A retraining beside the daemon would fight for the very cores it is pinned to.
            "ENABLE_CPU_PINNING": False,
        }
        if threads is not None:
            options["INFERENCE_NUM_THREADS"] = threads
        try:
            core = _core()
            compiled = core.compile_model(core.read_model(graph, weights), "CPU", options)
            self._request = compiled.create_infer_request()
        except RuntimeError as exc:
            raise ModelError(
                f"model {model_id}: OpenVINO cannot load it: {_first_line(exc)}",
                "Go back with 'crackwatch models rollback', or set [model] runtime = \"keras\".",
            ) from exc

    def scores(self, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        """See ``runtime.Classifier.scores``."""
        check_pictures(pictures)
        scores = np.empty(len(pictures), np.float32)
        for start in range(0, len(pictures), _AT_ONCE):
            part = np.ascontiguousarray(pictures[start : start + _AT_ONCE])
            self._request.infer({0: part}, share_inputs=True)  # read where they lie, not copied
            scores[start : start + _AT_ONCE] = self._request.get_output_tensor(0).data
        return scores


# ---------------------------------------------------------------------------------- building


def build(keras_file: Path, destination: Path) -> None:
    """Writes the graph of a saved Keras model to ``destination`` (.xml) and, beside it, its .bin.

    Knows Rescaling, Normalization, Conv2D, AveragePooling2D, Flatten, Dense, Dropout and the
    activations relu and softmax, one after another. The graph takes uint8 (N, 227, 227, 3) BGR and
    gives float32 (N,), the softmax's second column. Raises ModelError for a file that cannot be
    read and for any layer that it could not reproduce exactly.
    """
    saved = read_keras(keras_file)
    model = _Graph(keras_file, saved.weights).build(saved.layers)
    try:
        ov.save_model(model, destination, compress_to_fp16=False)
    except (RuntimeError, OSError) as exc:
        raise ModelError(
            f"{destination}: OpenVINO cannot write it: {_first_line(exc)}",
            "Check the permissions of the models folder and the space on its disk.",
        ) from exc


class _Graph:
    """Walks the layers, from the first to the last, and keeps what the next one has to know."""

    def __init__(self, file: Path, weights: Weights) -> None:
        self._file = file
        self._weights = weights
        self._node: Any = None
        self._shape: tuple[int, ...] = ()  # of one picture, in Keras's order: (h, w, c) or (n,)
        self._flattened: tuple[int, int, int] | None = None  # (h, w, c), until a Dense took it up
        self._is_softmax = False

    def build(self, layers: Sequence[dict[str, Any]]) -> Any:
        makers: dict[str, Callable[[str, dict[str, Any]], None]] = {
            "Rescaling": self._rescaling,
            "Normalization": self._normalization,
            "Conv2D": self._convolution,
            "AveragePooling2D": self._pooling,
            "Flatten": self._flatten,
            "Dropout": self._nothing,
            "Dense": self._dense,
            "Activation": self._activation_layer,
            "ReLU": self._relu_layer,
            "Softmax": self._softmax_layer,
        }
        first, *rest = layers
        parameter = self._input(first)
        for layer in rest:
            kind, config = layer["class_name"], layer["config"]
            maker = makers.get(kind)
            if maker is None:
                raise self._refuse(config.get("name", kind), f"is a {kind}")
            self._require_float32(config)
            maker(config["name"], config)
        if self._shape != (2,) or not self._is_softmax:
            raise self._refuse(
                layers[-1]["config"]["name"], "is the last and not a softmax over two columns"
            )
        # (N, 2) -> (N,): column 1, anomaly
        score = op.gather(self._node, np.int64(1), np.int64(1), name="score")
        model = ov.Model([op.result(score)], [parameter], "lenet")
        model.output(0).get_tensor().set_names({"score"})
        for number, node in enumerate(model.get_ordered_ops()):
            if node.get_type_name() in ("Constant", "Result"):
                # OpenVINO numbers them through the whole process; two builds would differ
                node.set_friendly_name(f"{node.get_type_name()}/{number}")
        return model

    def _input(self, layer: dict[str, Any]) -> Any:
        shape = layer["config"].get("batch_shape")
        if layer["class_name"] != "InputLayer" or shape != [None, SIDE, SIDE, 3]:
            raise self._refuse(
                layer["config"].get("name", "the first layer"),
                f"is not an input of pictures {SIDE} x {SIDE} x 3",
            )
        parameter = op.parameter(ov.PartialShape([-1, SIDE, SIDE, 3]), ov.Type.u8, name="pictures")
        planes = op.transpose(parameter, _NHWC_TO_NCHW, name="planes")  # (N, 3, 227, 227)
        self._node = op.convert(planes, "f32", name="pixels")
        self._shape = (SIDE, SIDE, 3)
        return parameter

    # -------------------------------------------------------------------------------- layers

    def _rescaling(self, name: str, config: dict[str, Any]) -> None:
        scale, offset = config["scale"], config["offset"]
        self._affine(name, np.asarray(scale, np.float64), np.asarray(offset, np.float64))

    def _normalization(self, name: str, config: dict[str, Any]) -> None:
        if config.get("invert") or config.get("axis") not in (-1, 3, [-1], [3]):
            raise self._refuse(name, "does not normalise each channel by itself")
        if config.get("mean") is not None:
            mean, variance = config["mean"], config["variance"]
        else:
            mean, variance = self._take(name, 3)[:2]  # the third counts what it adapted to
        mean, variance = np.asarray(mean, np.float64), np.asarray(variance, np.float64)
        scale = 1 / np.maximum(np.sqrt(variance), _NORMALIZATION_EPSILON)
        self._affine(name, scale, -mean * scale)

    def _affine(self, name: str, scale: NDArray[np.float64], offset: NDArray[np.float64]) -> None:
        """``x * scale + offset``, each a single number or one for each channel."""
        self._require_planes(name)
        channels = self._shape[-1]
        planes = []
        for values in (scale, offset):
            if values.size not in (1, channels):
                raise self._refuse(name, f"has {values.size} numbers for {channels} channels")
            spread = np.broadcast_to(values.reshape(-1), (channels,))
            planes.append(spread.astype(np.float32).reshape(1, channels, 1, 1))
        if (planes[0] != 1).any():
            self._node = op.multiply(self._node, planes[0], name=f"{name}/scale")
        if planes[1].any():
            self._node = op.add(self._node, planes[1], name=f"{name}/offset")

    def _convolution(self, name: str, config: dict[str, Any]) -> None:
        self._require_planes(name)
        self._require(name, config, padding="valid", groups=1, data_format="channels_last")
        height, width, channels = self._shape
        filters, (rows, columns) = config["filters"], config["kernel_size"]
        strides, dilation = config["strides"], config["dilation_rate"]
        kernel, *bias = self._take(name, 2 if config["use_bias"] else 1)
        self._require_shape(name, kernel, (rows, columns, channels, filters))
        self._node = op.convolution(
            self._node,
            op.constant(kernel.transpose(3, 2, 0, 1)),  # (out, in, rows, columns)
            strides,
            [0, 0],
            [0, 0],
            dilation,
            name=name,
        )
        if bias:
            self._require_shape(name, bias[0], (filters,))
            planes = op.constant(bias[0].reshape(1, -1, 1, 1))
            self._node = op.add(self._node, planes, name=f"{name}/bias")
        self._shape = (
            (height - dilation[0] * (rows - 1) - 1) // strides[0] + 1,
            (width - dilation[1] * (columns - 1) - 1) // strides[1] + 1,
            filters,
        )
        self._activate(name, config["activation"])

    def _pooling(self, name: str, config: dict[str, Any]) -> None:
        self._require_planes(name)
        self._require(name, config, padding="valid", data_format="channels_last")
        size, strides = config["pool_size"], config["strides"]
        self._node = op.avg_pool(
            self._node, strides, [0, 0], [0, 0], size, exclude_pad=True, name=name
        )
        height, width, channels = self._shape
        self._shape = (
            (height - size[0]) // strides[0] + 1,
            (width - size[1]) // strides[1] + 1,
            channels,
        )

    def _flatten(self, name: str, config: dict[str, Any]) -> None:
        self._require_planes(name)
        self._require(name, config, data_format="channels_last")
        height, width, channels = self._shape
        size = height * width * channels
        # (N, c, h, w) -> (N, c*h*w): not Keras's order; the next Dense makes up for it
        self._node = op.reshape(self._node, np.array([-1, size], np.int64), False, name=name)
        self._flattened = (height, width, channels)
        self._shape = (size,)

    def _nothing(self, name: str, config: dict[str, Any]) -> None:
        """Dropout does something only while training."""

    def _dense(self, name: str, config: dict[str, Any]) -> None:
        if len(self._shape) != 1:
            raise self._refuse(name, "is a Dense before the Flatten")
        if config.get("quantization_config") is not None:
            raise self._refuse(name, "is quantised")
        units, inputs = config["units"], self._shape[0]
        kernel, *bias = self._take(name, 2 if config["use_bias"] else 1)
        self._require_shape(name, kernel, (inputs, units))
        # (units, inputs) is the order that OpenVINO keeps
        if self._flattened is None:
            transposed = kernel.T
        else:  # columns from (h, w, c) to (c, h, w)
            cube = kernel.reshape(*self._flattened, units)
            transposed = cube.transpose(3, 2, 0, 1).reshape(units, inputs)
            self._flattened = None
        # as a constant already: an array would take its way through a list of Python floats
        self._node = op.matmul(self._node, op.constant(transposed), False, True, name=name)
        if bias:
            self._require_shape(name, bias[0], (units,))
            row = op.constant(bias[0].reshape(1, -1))
            self._node = op.add(self._node, row, name=f"{name}/bias")
        self._shape = (units,)
        self._activate(name, config["activation"])

    def _activation_layer(self, name: str, config: dict[str, Any]) -> None:
        self._activate(name, config["activation"])

    def _relu_layer(self, name: str, config: dict[str, Any]) -> None:
        if config.get("max_value") is not None or config.get("negative_slope"):
            raise self._refuse(name, "is not a plain relu")
        if config.get("threshold"):
            raise self._refuse(name, "is not a plain relu")
        self._activate(name, "relu")

    def _softmax_layer(self, name: str, config: dict[str, Any]) -> None:
        self._require(name, config, axis=-1)
        self._activate(name, "softmax")

    def _activate(self, name: str, activation: object) -> None:
        self._is_softmax = False
        if activation == "relu":
            self._node = op.relu(self._node, name=f"{name}/relu")
        elif activation == "softmax":
            if len(self._shape) != 1 or self._flattened is not None:
                raise self._refuse(name, "is a softmax that no Dense stands before")
            self._node = op.softmax(self._node, 1, name=f"{name}/softmax")
            self._is_softmax = True
        elif activation not in ("linear", None):
            raise self._refuse(name, f"has the activation {activation!r}")

    # ------------------------------------------------------------------------------ refusals

    def _take(self, name: str, count: int) -> list[NDArray[np.float32]]:
        found = self._weights.get(name, [])
        if len(found) != count:
            raise self._refuse(name, f"has {len(found)} arrays of weights instead of {count}")
        return found

    def _require_planes(self, name: str) -> None:
        if len(self._shape) != 3:
            raise self._refuse(name, "wants a picture, but it comes after the Flatten")

    def _require_float32(self, config: dict[str, Any]) -> None:
        dtype = config.get("dtype")
        policy = dtype.get("config", {}).get("name") if isinstance(dtype, dict) else dtype
        if policy != "float32":
            raise self._refuse(config["name"], f"computes in {policy}, not in float32")

    def _require(self, name: str, config: dict[str, Any], **wanted: object) -> None:
        for key, value in wanted.items():
            if config.get(key, value) != value:
                raise self._refuse(name, f"has {key} = {config[key]!r}, not {value!r}")

    def _require_shape(
        self, name: str, values: NDArray[np.float32], shape: tuple[int, ...]
    ) -> None:
        if values.shape != shape:
            raise self._refuse(name, f"has weights of shape {values.shape}, not {shape}")

    def _refuse(self, name: str, what: str) -> ModelError:
        return ModelError(
            f"{self._file}: cannot be built for OpenVINO: layer {name!r} {what}",
            "Train the model with 'crackwatch retrain', or set [model] runtime = \"keras\".",
        )


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
