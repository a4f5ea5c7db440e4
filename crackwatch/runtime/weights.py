"""Reads layers and weights from the file that Keras saved, without Keras; knows no arithmetic."""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crackwatch.errors import ModelError

# The layers that have weights, and what Keras calls their groups in model.weights.h5.
_GROUPS = {"Conv2D": "conv2d", "Dense": "dense", "Normalization": "normalization"}

_MOST_BYTES = 1 << 30  # of what is packed in the file: its LeNet has 23 MB of weights

Weights = dict[str, list[NDArray[np.float32]]]


@dataclass(frozen=True, slots=True)
class Saved:
    """A saved Sequential model.

    ``layers`` are Keras's own descriptions in order, each with ``class_name`` and ``config``;
    ``weights`` are the arrays of each layer by its name, in Keras's order (kernel, bias).
    """

    layers: tuple[dict[str, Any], ...]
    weights: Weights


def read_keras(file: Path) -> Saved:
    """What ``file`` (.keras) holds. Reads only.

    Raises ModelError if it cannot be read or is not a Sequential model.
    """
    import h5py  # needed to build and to explain, never to judge: the daemon starts without it

    try:
        with zipfile.ZipFile(file) as archive:
            document = json.loads(_member(archive, "config.json"))
            stored = _member(archive, "model.weights.h5")
    except FileNotFoundError as exc:
        raise ModelError(f"{file}: there is no such file", "Train the model again.") from exc
    except (OSError, zipfile.BadZipFile, zlib.error, KeyError, ValueError, RuntimeError) as exc:
        raise ModelError(
            f"{file}: is not a model that Keras saved: {exc}", "Train the model again."
        ) from exc
    if not isinstance(document, dict):
        raise ModelError(
            f"{file}: is not a model that Keras saved: it describes none", "Train the model again."
        )
    if document.get("class_name") != "Sequential":
        raise ModelError(
            f"{file}: cannot be built from its layers: it is a "
            f"{document.get('class_name')}, not a Sequential model",
            "Train the model with 'crackwatch retrain', or set [model] runtime = \"keras\".",
        )
    try:
        layers: list[dict[str, Any]] = document["config"]["layers"]
        with h5py.File(io.BytesIO(stored), "r") as weights_file:
            groups = _within(weights_file, "layers")
            return Saved(tuple(layers), _read_weights(layers, groups))
    except (OSError, KeyError, TypeError, ValueError, AttributeError, RuntimeError) as exc:
        raise ModelError(
            f"{file}: its weights cannot be read: {exc}", "Train the model again."
        ) from exc


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    if archive.getinfo(name).file_size > _MOST_BYTES:
        raise ValueError(f"{name} is larger than {_MOST_BYTES} bytes")
    return archive.read(name)


def _within(group: Any, name: str) -> Any:
    """What ``group`` holds itself under ``name``: a file may also lead into others of the disk."""
    import h5py

    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
        raise ValueError(f"{name} is not in the file")
    found = group[name]
    if getattr(found, "external", None):
        raise ValueError(f"the numbers of {name} are not in the file")
    return found


def _read_weights(layers: list[dict[str, Any]], groups: Any) -> Weights:
    """Keras 3 stores a layer's weights in ``layers/<group>/vars/0``, ``1`` and so on.

    Newer versions write the layer's own name beside them, and by that they are found. Otherwise
    the group is called after the layer's class and its number among those of the class.
    """
    named = {_within(_within(groups, each), "vars").attrs.get("name"): each for each in groups}
    seen: dict[str, int] = {}
    weights: Weights = {}
    for layer in layers:
        kind, name = layer["class_name"], layer["config"]["name"]
        if kind not in _GROUPS:
            continue  # has no weights, or is refused later
        number = seen.get(kind, 0)
        seen[kind] = number + 1
        group = named.get(name) or _GROUPS[kind] + (f"_{number}" if number else "")
        stored = _within(_within(groups, group), "vars")
        weights[name] = [_within(stored, key)[...] for key in sorted(stored, key=int)]
    return weights
