"""OpenVINO judges as Keras does, to 1e-5, from the weights alone; neither opens what was changed."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import textwrap
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
from numpy.typing import NDArray

from crackwatch import lenet, synthetic
from crackwatch.errors import ModelDisagrees, ModelError, ModelTampered
from crackwatch.registry import Registry
from crackwatch.runtime import load
from crackwatch.runtime.openvino import OpenvinoClassifier, build
from crackwatch.runtime.reference import KerasClassifier
from tests.model_folders import card

# Keras's own reading of its variables, with NumPy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

Pictures = NDArray[np.uint8]


@pytest.fixture(scope="module")
def exported(lenet_keras: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with lenet.keras and what was built from it."""
    folder = tmp_path_factory.mktemp("exported")
    (folder / "lenet.keras").write_bytes(lenet_keras.read_bytes())
    build(folder / "lenet.keras", folder / "lenet.xml")
    return folder


@pytest.fixture(scope="module")
def by_openvino(exported: Path) -> OpenvinoClassifier:
    return opened(exported)


@pytest.fixture(scope="module")
def by_keras(lenet_keras: Path) -> KerasClassifier:
    return KerasClassifier("test", lenet_keras)


def opened(folder: Path, **options: Any) -> OpenvinoClassifier:
    graph, weights = ((folder / name).read_bytes() for name in ("lenet.xml", "lenet.bin"))
    return OpenvinoClassifier("test", graph, weights, **options)


def noise(count: int, seed: int = 3) -> Pictures:
    return np.random.default_rng(seed).integers(0, 256, (count, 227, 227, 3), dtype=np.uint8)


def drawn(count: int) -> Pictures:
    return np.stack([synthetic.draw(seed, crack=seed % 2 == 0) for seed in range(count)])


# ---------------------------------------------------------------------------------- agreement


@pytest.mark.parametrize("count", [1, 2, 31, 64])
def test_openvino_scores_noise_as_keras_does(
    by_openvino: OpenvinoClassifier, by_keras: KerasClassifier, count: int
) -> None:
    pictures = noise(count, seed=count)
    scores = by_openvino.scores(pictures)
    assert scores.dtype == np.float32
    assert scores.shape == (count,)
    np.testing.assert_allclose(scores, by_keras.scores(pictures), rtol=0, atol=1e-5)


def test_openvino_scores_drawn_concrete_as_keras_does(
    by_openvino: OpenvinoClassifier, by_keras: KerasClassifier
) -> None:
    pictures = drawn(12)
    expected = by_keras.scores(pictures)
    assert np.ptp(expected) > 0.01, "the pictures would all score alike, and nothing be compared"
    np.testing.assert_allclose(by_openvino.scores(pictures), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("value", [0, 255])
def test_the_ends_of_the_scale_agree(
    by_openvino: OpenvinoClassifier, by_keras: KerasClassifier, value: int
) -> None:
    picture = np.full((1, 227, 227, 3), value, np.uint8)
    np.testing.assert_allclose(
        by_openvino.scores(picture), by_keras.scores(picture), rtol=0, atol=1e-5
    )


def test_a_score_depends_on_its_picture_alone(by_openvino: OpenvinoClassifier) -> None:
    pictures = drawn(40)
    together = by_openvino.scores(pictures)
    alone = [by_openvino.scores(picture[np.newaxis])[0] for picture in pictures]
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-6)


def test_scores_stay_when_the_next_are_asked_for(by_openvino: OpenvinoClassifier) -> None:
    first = by_openvino.scores(drawn(3))
    kept = first.copy()
    by_openvino.scores(noise(3))
    np.testing.assert_array_equal(first, kept)


def test_pictures_need_not_lie_together(by_openvino: OpenvinoClassifier) -> None:
    pictures = drawn(6)
    np.testing.assert_array_equal(
        by_openvino.scores(pictures[::2]), by_openvino.scores(pictures[::2].copy())
    )


def test_one_thread_gives_what_all_give(by_openvino: OpenvinoClassifier, exported: Path) -> None:
    pictures = drawn(5)
    np.testing.assert_allclose(
        opened(exported, threads=1).scores(pictures),
        by_openvino.scores(pictures),
        rtol=0,
        atol=1e-6,
    )


@pytest.mark.parametrize(
    "pictures",
    [
        np.zeros((2, 227, 227, 3), np.float32),
        np.zeros((2, 3, 227, 227), np.uint8),
        np.zeros((227, 227, 3), np.uint8),
        np.zeros((0, 227, 227, 3), np.uint8),
    ],
    ids=["float", "channels first", "a single picture", "none"],
)
def test_what_is_no_batch_of_pictures_is_refused(
    by_openvino: OpenvinoClassifier, by_keras: KerasClassifier, pictures: NDArray[Any]
) -> None:
    for classifier in (by_openvino, by_keras):
        with pytest.raises(ValueError, match=r"pictures are uint8 \(N, 227, 227, 3\)"):
            classifier.scores(pictures)


# ----------------------------------------------------------------------------------- building


def test_the_same_weights_give_the_same_files(exported: Path, tmp_path: Path) -> None:
    build(exported / "lenet.keras", tmp_path / "lenet.xml")
    for name in ("lenet.xml", "lenet.bin"):
        assert (tmp_path / name).read_bytes() == (exported / name).read_bytes()


def test_weights_are_kept_whole(exported: Path) -> None:
    assert (exported / "lenet.bin").stat().st_size >= 4 * lenet.PARAMETERS


def small(*layers: Any) -> keras.Model:
    """The given layers between the picture and two columns, small enough to build in no time."""
    return keras.Sequential(
        [
            keras.Input((227, 227, 3)),
            *layers,
            keras.layers.AveragePooling2D(32),
            keras.layers.Flatten(),
            keras.layers.Dense(2, activation="softmax"),
        ]
    )


def adapted() -> keras.layers.Normalization:
    layer = keras.layers.Normalization()
    layer.adapt(drawn(4).astype(np.float32))
    return layer


UNDERSTOOD: dict[str, Callable[[], keras.Model]] = {
    "the notebook's raw input": lambda: lenet.build(lenet.RAW),
    "dropout": lambda: lenet.build(lenet.Normalisation(1 / 255, -0.5), dropout=0.5),
    "normalisation, given": lambda: small(
        keras.layers.Normalization(mean=[90, 110, 130], variance=[900, 1600, 0])
    ),
    "normalisation, learnt": lambda: small(adapted()),
    "rescaling by channel": lambda: small(
        keras.layers.Rescaling([0.01, 0.02, 0.03], [-1.0, 0.0, 1.0])
    ),
    "strides, dilation, no bias": lambda: small(
        keras.layers.Rescaling(1 / 255),
        keras.layers.Conv2D(5, (3, 2), strides=2, use_bias=False),
        keras.layers.Conv2D(4, 3, dilation_rate=2, activation="relu"),
    ),
    "activations by themselves": lambda: keras.Sequential(
        [
            keras.Input((227, 227, 3)),
            keras.layers.Rescaling(1 / 255, -0.5),
            keras.layers.Conv2D(4, 5, strides=3),
            keras.layers.Activation("relu"),
            keras.layers.AveragePooling2D(3, strides=2),
            keras.layers.Flatten(),
            keras.layers.Dense(7),
            keras.layers.ReLU(),
            keras.layers.Dense(2),
            keras.layers.Softmax(),
        ]
    ),
}


@pytest.mark.parametrize("name", UNDERSTOOD)
def test_layers_that_are_understood_are_reproduced(name: str, tmp_path: Path) -> None:
    keras.utils.set_random_seed(11)
    model = UNDERSTOOD[name]()
    for layer in model.layers:
        # biases begin as zeros, and a bias that is left out would go unnoticed
        if getattr(layer, "bias", None) is not None:
            layer.bias.assign(np.linspace(-0.1, 0.1, layer.bias.shape[0]))
    model.save(tmp_path / "lenet.keras")
    build(tmp_path / "lenet.keras", tmp_path / "lenet.xml")
    pictures = np.concatenate([drawn(3), noise(2)])
    expected = KerasClassifier("test", tmp_path / "lenet.keras").scores(pictures)
    np.testing.assert_allclose(opened(tmp_path).scores(pictures), expected, rtol=0, atol=1e-5)


def functional() -> keras.Model:
    pictures = keras.Input((227, 227, 3))
    flat = keras.layers.Flatten()(keras.layers.AveragePooling2D(64)(pictures))
    return keras.Model(pictures, keras.layers.Dense(2, activation="softmax")(flat))


REFUSED: dict[str, tuple[Callable[[], keras.Model], str]] = {
    "another layer": (
        lambda: small(keras.layers.MaxPooling2D(name="largest")),
        "layer 'largest' is a MaxPooling2D",
    ),
    "padding": (
        lambda: small(keras.layers.Conv2D(2, 3, padding="same", name="padded")),
        "layer 'padded' has padding = 'same', not 'valid'",
    ),
    "groups": (
        lambda: small(keras.layers.Conv2D(3, 3, groups=3, name="apart")),
        "layer 'apart' has groups = 3",
    ),
    "another activation": (
        lambda: small(keras.layers.Conv2D(2, 3, activation="gelu", name="bent")),
        "layer 'bent' has the activation 'gelu'",
    ),
    "a leak": (
        lambda: small(keras.layers.ReLU(negative_slope=0.1, name="leaky")),
        "layer 'leaky' is not a plain relu",
    ),
    "another precision": (
        lambda: small(keras.layers.Conv2D(2, 3, dtype="mixed_bfloat16", name="rough")),
        "layer 'rough' computes in mixed_bfloat16",
    ),
    "a Dense too early": (
        lambda: small(keras.layers.Dense(4, name="early")),
        "layer 'early' is a Dense before the Flatten",
    ),
    "three columns": (
        lambda: keras.Sequential(
            [
                keras.Input((227, 227, 3)),
                keras.layers.AveragePooling2D(64),
                keras.layers.Flatten(),
                keras.layers.Dense(3, activation="softmax", name="three"),
            ]
        ),
        "layer 'three' is the last and not a softmax over two columns",
    ),
    "no probabilities": (
        lambda: keras.Sequential(
            [
                keras.Input((227, 227, 3)),
                keras.layers.AveragePooling2D(64),
                keras.layers.Flatten(),
                keras.layers.Dense(2, name="logits"),
            ]
        ),
        "layer 'logits' is the last and not a softmax",
    ),
    "another size": (
        lambda: keras.Sequential(
            [
                keras.Input((64, 64, 3), name="tiny"),
                keras.layers.Flatten(),
                keras.layers.Dense(2, activation="softmax"),
            ]
        ),
        "layer 'tiny' is not an input of pictures 227 x 227 x 3",
    ),
    "a graph of its own": (functional, "it is a Functional, not a Sequential model"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_could_not_be_reproduced_exactly_is_refused(name: str, tmp_path: Path) -> None:
    make, message = REFUSED[name]
    make().save(tmp_path / "lenet.keras")
    with pytest.raises(ModelError, match=r"lenet\.keras: cannot be built") as refused:
        build(tmp_path / "lenet.keras", tmp_path / "lenet.xml")
    assert message in str(refused.value)
    assert not (tmp_path / "lenet.xml").exists()


def rewritten(source: Path, target: Path, change: Callable[[h5py.File], None]) -> Path:
    """A copy of a .keras file whose weights file was changed."""
    with zipfile.ZipFile(source) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    content = io.BytesIO(members["model.weights.h5"])
    with h5py.File(content, "r+") as weights:
        change(weights)
    members["model.weights.h5"] = content.getvalue()
    with zipfile.ZipFile(target, "w") as archive:
        for name, member in members.items():
            archive.writestr(name, member)
    return target


def test_weights_are_found_without_their_layers_names(exported: Path, tmp_path: Path) -> None:
    def forget_names(weights: h5py.File) -> None:
        for group in weights["layers"].values():
            del group["vars"].attrs["name"]

    file = rewritten(exported / "lenet.keras", tmp_path / "lenet.keras", forget_names)
    build(file, tmp_path / "lenet.xml")
    assert (tmp_path / "lenet.bin").read_bytes() == (exported / "lenet.bin").read_bytes()


def swap_the_convolutions(weights: h5py.File) -> None:
    first, second = (weights[f"layers/{name}/vars"] for name in ("conv2d", "conv2d_1"))
    first.attrs["name"], second.attrs["name"] = second.attrs["name"], first.attrs["name"]


def drop_a_bias(weights: h5py.File) -> None:
    del weights["layers/dense/vars/1"]


def drop_a_layer(weights: h5py.File) -> None:
    del weights["layers/dense_1"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (swap_the_convolutions, "has weights of shape"),
        (drop_a_bias, "layer 'dense_1' has 1 arrays of weights instead of 2"),
        (drop_a_layer, "its weights cannot be read"),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    change: Callable[[h5py.File], None], message: str, exported: Path, tmp_path: Path
) -> None:
    file = rewritten(exported / "lenet.keras", tmp_path / "lenet.keras", change)
    with pytest.raises(ModelError, match=message):
        build(file, tmp_path / "lenet.xml")


@pytest.mark.parametrize("content", [None, b"", b"not a model", "an empty archive"])
def test_what_is_no_keras_file_is_refused(content: bytes | str | None, tmp_path: Path) -> None:
    file = tmp_path / "lenet.keras"
    if isinstance(content, str):
        zipfile.ZipFile(file, "w").close()
    elif content is not None:
        file.write_bytes(content)
    with pytest.raises(ModelError, match=r"lenet\.keras: (is not a model|there is no such file)"):
        build(file, tmp_path / "lenet.xml")


# ------------------------------------------------------------------------------------ loading


@pytest.fixture
def published(exported: Path, tmp_path: Path) -> Path:
    registry = Registry(tmp_path / "models")
    with registry.staging() as staged:
        for name in ("lenet.keras", "lenet.xml", "lenet.bin"):
            (staged / name).write_bytes((exported / name).read_bytes())
        registry.publish(staged, card("one"))
    return registry.folder_of("one")


@pytest.mark.parametrize("runtime", ["openvino", "keras"])
def test_load_gives_a_classifier_that_knows_its_model(published: Path, runtime: str) -> None:
    known = Registry(published.parent).card("one")
    classifier = load(published, known, runtime)
    assert classifier.model_id == "one"
    assert classifier.scores(drawn(2)).shape == (2,)


@pytest.mark.parametrize(
    ("runtime", "name"),
    [("openvino", "lenet.xml"), ("openvino", "lenet.bin"), ("keras", "lenet.keras")],
)
def test_a_changed_file_is_never_opened(published: Path, runtime: str, name: str) -> None:
    known = Registry(published.parent).card("one")
    file = published / name
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ModelTampered, match=f"{name}: is not the file that was published"):
        load(published, known, runtime)
    file.unlink()
    with pytest.raises(ModelTampered, match=f"{name}: is missing"):
        load(published, known, runtime)
    files = {other: sha for other, sha in known.files.items() if other != name}
    with pytest.raises(ModelTampered, match=f"card lists no {name}"):
        load(published, known.model_copy(update={"files": files}), runtime)


def test_what_this_version_does_not_have_is_refused(published: Path) -> None:
    known = Registry(published.parent).card("one")
    with pytest.raises(ModelError, match="does not say how far"):
        load(published, known, "openvino", "fast")
    with pytest.raises(ModelError, match="no runtime 'onnx'"):
        load(published, known, "onnx")


def test_a_graph_that_openvino_cannot_read_is_a_model_error() -> None:
    with pytest.raises(ModelError, match="OpenVINO cannot load it"):
        OpenvinoClassifier("test", b"<net>", b"")


def test_keras_refuses_a_model_that_carries_code(tmp_path: Path) -> None:
    carrier = keras.Sequential(
        [keras.Input((227, 227, 3)), keras.layers.Lambda(lambda x: x), keras.layers.Flatten()]
    )
    carrier.save(tmp_path / "lenet.keras")
    with pytest.raises(ModelError, match=r"lenet\.keras: Keras cannot load it"):
        KerasClassifier("test", tmp_path / "lenet.keras")


# ------------------------------------------------------------------------- what is not imported

SILENT = """
    import json, sys
    calls = []
    sys.addaudithook(
        lambda event, arguments: calls.append(event) if event.startswith("socket.") else None
    )
    import numpy as np
    from pathlib import Path
    from crackwatch.runtime.openvino import OpenvinoClassifier, build
    folder = Path(sys.argv[2])
    build(Path(sys.argv[1]), folder / "lenet.xml")
    OpenvinoClassifier(
        "x", (folder / "lenet.xml").read_bytes(), (folder / "lenet.bin").read_bytes()
    ).scores(np.zeros((1, 227, 227, 3), np.uint8))
    print(json.dumps({"sockets": calls, "modules": sorted(m for m in sys.modules if sys.modules[m])}))
"""


def test_openvino_needs_no_tensorflow_and_tells_nobody(exported: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            textwrap.dedent(SILENT),
            str(exported / "lenet.keras"),
            str(tmp_path),
        ],
        env={"HOME": str(home)},
        capture_output=True,
        text=True,
        check=True,
    )
    told = json.loads(done.stdout)
    assert told["sockets"] == []
    assert list(home.iterdir()) == []
    roots = {name.partition(".")[0] for name in told["modules"]}
    assert not roots & {"tensorflow", "keras", "cv2", "openvino_telemetry"}
    assert done.stderr == ""


def test_a_card_that_expects_other_scores_stops_the_model(
    by_openvino: OpenvinoClassifier,
) -> None:
    from crackwatch.agreement import check_golden

    pictures = drawn(4)
    scores = by_openvino.scores(pictures).tolist()
    assert check_golden(by_openvino, pictures, scores, 1e-4, 0.5) <= 1e-6
    scores[2] += 2e-4
    with pytest.raises(ModelDisagrees, match="does not score its golden pictures"):
        check_golden(by_openvino, pictures, scores, 1e-4, 0.5)
