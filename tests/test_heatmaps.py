"""Heat maps follow from the weights exactly: the score is the runtime's, the gradient is the true one."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from crackwatch import images, packaged, synthetic
from crackwatch.errors import ModelError
from crackwatch.heatmaps import Evidence, Explainer, grad_cam, hires_cam, overlay
from crackwatch.registry import MODEL_FILE
from crackwatch.runtime.openvino import OpenvinoClassifier, build

STARTER = packaged.starter() / MODEL_FILE


@pytest.fixture(scope="module")
def explainer() -> Explainer:
    return Explainer(STARTER)


def drawn(count: int) -> NDArray[np.uint8]:
    return np.stack([synthetic.draw(seed, crack=seed % 2 == 0) for seed in range(count)])


class TestArithmetic:
    def test_the_score_is_the_runtimes(self, explainer: Explainer, tmp_path: Path) -> None:
        build(STARTER, tmp_path / "lenet.xml")
        graph, weights = ((tmp_path / name).read_bytes() for name in ("lenet.xml", "lenet.bin"))
        random = np.random.default_rng(3)
        noise = random.integers(0, 256, (2, 227, 227, 3), dtype=np.uint8)
        pictures = np.concatenate([drawn(12), noise])
        expected = OpenvinoClassifier("starter", graph, weights).scores(pictures)
        assert expected.min() < 0.1 and expected.max() > 0.9
        found = [explainer.evidence(picture).score for picture in pictures]
        np.testing.assert_allclose(found, expected, rtol=0, atol=5e-5)

    def test_the_gradient_is_what_a_small_change_makes(self, explainer: Explainer) -> None:
        evidence = explainer.evidence(synthetic.draw(2, crack=True))
        random = np.random.default_rng(1)
        # a direction of many places at once: one place alone is lost in the rounding of float32
        for _ in range(4):
            direction = random.normal(size=evidence.activation.shape).astype(np.float32)
            step = np.float32(0.01)
            ahead = explainer.evidence_of(evidence.activation + step * direction)
            behind = explainer.evidence_of(evidence.activation - step * direction)
            slope = (ahead.difference - behind.difference) / (2 * float(step))
            # half the steps may open or close a unit in between: the slope is then that of a kink
            assert slope == pytest.approx(float((evidence.gradient * direction).sum()), rel=0.05)

    def test_the_shares_add_up_to_the_score(self, explainer: Explainer) -> None:
        """Exactly, where no unit opens or closes: on the way to a slightly fainter picture."""
        evidence = explainer.evidence(synthetic.draw(4, crack=True))
        fainter = explainer.evidence_of(evidence.activation * np.float32(0.999))
        lost = evidence.difference - fainter.difference
        assert lost == pytest.approx(0.001 * float(hires_cam(evidence).sum()), rel=0.02, abs=1e-5)

    @pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
    def test_the_gradient_is_tensorflows(self, explainer: Explainer) -> None:
        import keras
        import tensorflow as tf

        model = keras.models.load_model(STARTER)
        picture = synthetic.draw(6, crack=True)
        last = [layer.name for layer in model.layers if isinstance(layer, keras.layers.Conv2D)][-1]
        places = keras.Model(model.inputs[0], model.get_layer(last).output)
        activation = tf.convert_to_tensor(places(picture[np.newaxis].astype(np.float32)))
        with tf.GradientTape() as tape:
            tape.watch(activation)
            values = activation
            behind = model.layers[[layer.name for layer in model.layers].index(last) + 1 :]
            for layer in behind[:-1]:
                values = layer(values)
            logits = tf.matmul(values, behind[-1].kernel) + behind[-1].bias
            difference = logits[0, 1] - logits[0, 0]
        expected = tape.gradient(difference, activation)[0].numpy()
        evidence = explainer.evidence(picture)
        np.testing.assert_allclose(evidence.activation, activation[0].numpy(), atol=1e-4)
        np.testing.assert_allclose(evidence.gradient, expected, rtol=1e-4, atol=1e-7)

    def test_the_two_methods_by_hand(self) -> None:
        activation = np.array([[[1, 2], [3, 0]]], np.float32)  # one row, two places, two channels
        gradient = np.array([[[1, -1], [2, 4]]], np.float32)
        evidence = Evidence(np.zeros(2, np.float32), activation, gradient)
        np.testing.assert_allclose(hires_cam(evidence), [[1 - 2, 6]])
        # means of the gradient: 1.5 and 1.5
        np.testing.assert_allclose(grad_cam(evidence), [[4.5, 4.5]])


class TestMaps:
    def test_a_map_is_as_large_as_the_picture_and_between_0_and_1(
        self, explainer: Explainer
    ) -> None:
        for picture in drawn(4):
            for heat in (explainer.heatmap(picture), explainer.grad_cam(picture)):
                assert heat.shape == (227, 227)
                assert heat.dtype == np.float32
                assert heat.min() >= 0 and heat.max() <= 1

    def test_a_crack_that_is_found_is_hot_where_it_lies(self, explainer: Explainer) -> None:
        """The generator draws the same surface with and without: the difference is the crack."""
        looked_at = 0
        for seed in range(12):
            cracked, sound = (synthetic.draw(seed, crack=crack) for crack in (True, False))
            if explainer.evidence(cracked).score < 0.9:
                continue
            looked_at += 1
            change = np.abs(cracked.astype(int) - sound).max(axis=2) > 25
            near = cv2.dilate(change.astype(np.uint8), np.ones((7, 7), np.uint8)) > 0
            heat = explainer.heatmap(cracked)
            assert heat.max() > 0.5
            hottest = heat >= np.quantile(heat, 0.99)
            assert near[hottest].mean() > 0.9, seed
            assert near.mean() < 0.5, "where everything is crack, nothing would be proved"
        assert looked_at >= 5

    def test_faint_reasons_stay_pale(self, explainer: Explainer) -> None:
        """A surface without anything on it is not blown up to full heat."""
        plain = np.full((227, 227, 3), 150, np.uint8)
        assert explainer.heatmap(plain).max() < 0.5
        assert explainer.grad_cam(plain).max() in (0, 1)

    def test_what_is_no_picture_is_refused(self, explainer: Explainer) -> None:
        with pytest.raises(ValueError, match="pictures are uint8"):
            explainer.heatmap(np.zeros((227, 227, 3), np.float32))  # type: ignore[arg-type]  # on purpose

    def test_heat_glows_on_a_grey_picture(self) -> None:
        picture = synthetic.draw(3, crack=False)
        heat = np.zeros((227, 227), np.float32)
        heat[100:110, 50:60] = 1
        drawn_over = overlay(picture, heat)
        assert drawn_over.dtype == np.uint8 and drawn_over.shape == picture.shape
        cold = drawn_over[heat == 0]
        assert (cold == cold[:, :1]).all(), "cold places have no colour"
        blue, _, red = drawn_over[105, 55].astype(int)
        assert red > 200 and red - blue > 80
        decoded = images.decode(images.encode_png(drawn_over), images.Limits(10**6, "quarantine"))
        np.testing.assert_array_equal(decoded, drawn_over)


@pytest.mark.real_pictures
def test_what_it_calls_hot_counts_for_more_than_what_grad_cam_does(
    explainer: Explainer, metu: Path
) -> None:
    """Painting over the hottest twentieth takes more from the score: the reason for HiResCAM."""
    lost = {"hires": 0.0, "grad": 0.0, "random": 0.0}
    random = np.random.default_rng(2)
    for file in sorted((metu / "valid_balanced/anomaly").iterdir())[::50]:
        picture = images.decode(file.read_bytes(), images.Limits(10**6, "quarantine"))
        before = explainer.evidence(picture).difference
        background = np.median(picture, axis=(0, 1)).astype(np.uint8)
        noise = cv2.GaussianBlur(random.normal(size=(227, 227)), (0, 0), 3)
        maps = {
            "hires": explainer.heatmap(picture),
            "grad": explainer.grad_cam(picture),
            "random": noise,
        }
        for name, heat in maps.items():
            hottest = heat >= np.quantile(heat, 0.95)
            painted = np.where(hottest[..., np.newaxis], background, picture)
            lost[name] += before - explainer.evidence(painted).difference
    assert lost["hires"] > lost["grad"] > lost["random"]
    assert lost["hires"] > 20 * 2, "two logits a picture"


def altered(target: Path, change: Callable[[list[dict[str, Any]]], None]) -> Path:
    """The starter's file with other layers in its description."""
    with zipfile.ZipFile(STARTER) as source, zipfile.ZipFile(target, "w") as copy:
        for name in source.namelist():
            content = source.read(name)
            if name == "config.json":
                document = json.loads(content)
                change(document["config"]["layers"])
                content = json.dumps(document).encode()
            copy.writestr(name, content)
    return target


def padded(layers: list[dict[str, Any]]) -> None:
    next(each for each in layers if each["class_name"] == "Conv2D")["config"]["padding"] = "same"


def without_convolutions(layers: list[dict[str, Any]]) -> None:
    layers[:] = [each for each in layers if each["class_name"] != "Conv2D"]


@pytest.mark.parametrize(
    ("change", "message"),
    [(padded, "a Conv2D, is none that"), (without_convolutions, "it has no convolution")],
)
def test_a_model_of_other_layers_is_refused(
    tmp_path: Path, change: Callable[[list[dict[str, Any]]], None], message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        Explainer(altered(tmp_path / "lenet.keras", change))


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "lenet.keras").write_bytes(b"no archive")
    with pytest.raises(ModelError, match="not a model that Keras saved"):
        Explainer(tmp_path / "lenet.keras")
