"""Claims about the photographs that large pictures are accepted by, and that acceptance itself."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import pytest

from crackwatch import cli, images, synthetic
from crackwatch.errors import EXIT_DONE
from crackwatch.runtime import SIDE
from tests import scenes

WIDE, HIGH = 700, 480

PHOTOGRAPHS = 100
# Those below were used to choose things by (benchmarks/photographs.py), and on other crops.
FIRST_SEED = 1_000
AT_ONCE = 20  # photographs on disk
QUALITY = 92  # of the JPEG; cameras write 90 to 98


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like METU's, of drawn concrete."""
    folder = tmp_path_factory.mktemp("drawn")
    for seed in range(48):
        for part, label in product(("valid_balanced", "valid_unbalanced"), ("normal", "anomaly")):
            (folder / part / label).mkdir(parents=True, exist_ok=True)
            mine = ("valid_balanced", "valid_unbalanced")[seed % 2]
            if part == mine and (label == "normal" or seed < 10):
                picture = synthetic.draw(seed, crack=label == "anomaly")
                cv2.imwrite(str(folder / part / label / f"{seed:05}.png"), picture)
    return folder


@pytest.fixture(scope="module")
def pool(drawn: Path) -> scenes.Pool:
    return scenes.pool(drawn, "development")


def scene(pool: scenes.Pool, seed: int, insert: str | None) -> scenes.Scene:
    assert insert in ("crack", "normal", None)
    return scenes.scene(pool, seed, insert, width=WIDE, height=HIGH)


def test_a_seed_is_a_photograph(pool: scenes.Pool) -> None:
    one, again, other = (scene(pool, seed, "crack") for seed in (1, 1, 2))
    assert one.picture.shape == (HIGH, WIDE, 3) and one.picture.dtype == np.uint8
    assert np.array_equal(one.picture, again.picture) and one.laid == again.laid
    assert not np.array_equal(one.picture, other.picture)


def test_a_crop_is_in_one_half_only(drawn: Path, pool: scenes.Pool) -> None:
    proof = scenes.pool(drawn, "acceptance")
    halves = [{crop.path for crop in (*half.normals, *half.anomalies)} for half in (pool, proof)]
    assert not halves[0] & halves[1]
    assert halves[0] | halves[1] == set(drawn.rglob("*.png"))
    assert min(map(len, halves)) > 15


def test_a_wall_is_made_of_its_own_half(pool: scenes.Pool) -> None:
    allowed = {crop.path for crop in pool.normals}
    for insert in ("crack", "normal"):
        assert {laid.file for laid in scene(pool, 3, insert).laid} <= allowed


@pytest.mark.parametrize("seed", range(6))
def test_the_crack_is_where_the_truth_says(pool: scenes.Pool, seed: int) -> None:
    shown = scene(pool, seed, "crack")
    truth = shown.inserted
    assert truth is not None and truth.file.parent.name == "anomaly"
    x, y, w, h = truth.box
    assert truth.x <= x < x + w <= truth.x + SIDE <= WIDE
    assert truth.y <= y < y + h <= truth.y + SIDE <= HIGH
    crop = shown.picture[truth.y : truth.y + SIDE, truth.x : truth.x + SIDE].mean(axis=2)
    assert crop[truth.crack].mean() < 0.85 * crop[~truth.crack].mean()
    assert truth.share_in(x, y, w, h) == 1
    assert truth.share_in(x + w, y, SIDE, SIDE) == 0
    left, right = (truth.share_in(*box) for box in ((x, y, w // 2, h), (x + w // 2, y, w, h)))
    assert left + right == pytest.approx(1)


def test_a_normal_is_blended_into_the_same_wall_and_changes_nothing_outside(
    pool: scenes.Pool,
) -> None:
    with_it, without = scene(pool, 4, "normal"), scene(pool, 4, None)
    guest = with_it.inserted
    assert guest is not None and without.inserted is None
    assert guest.file.parent.name == "normal" and not guest.crack.any()
    with pytest.raises(ValueError, match="shows no crack"):
        _ = guest.box
    change = np.abs(with_it.picture.astype(int) - without.picture).max(axis=2)
    inside = np.zeros(change.shape, bool)
    inside[guest.y : guest.y + SIDE, guest.x : guest.x + SIDE] = True
    assert change[~inside].max() == 0
    assert change[inside].max() > 5
    assert change[guest.y, guest.x : guest.x + SIDE].max() <= 1  # the rim is the wall's


def test_the_blended_rim_is_as_rough_as_the_wall(pool: scenes.Pool) -> None:
    """A smooth frame, which averaging two textures would leave, would give the crop away."""

    def roughness(picture: np.ndarray, where: np.ndarray) -> float:
        grey = picture.astype(np.float32).mean(axis=2)
        return float((grey - cv2.GaussianBlur(grey, (0, 0), 2))[where].std())

    found = []
    for seed in range(4):
        shown = scene(pool, seed, "normal")
        assert shown.inserted is not None
        x, y = shown.inserted.x, shown.inserted.y
        frame = np.zeros((HIGH, WIDE), bool)
        frame[y : y + SIDE, x : x + SIDE] = True
        frame[y + 24 : y + SIDE - 24, x + 24 : x + SIDE - 24] = False
        found.append(roughness(shown.picture, frame) / roughness(shown.picture, ~frame))
    assert np.mean(found) == pytest.approx(1, abs=0.15)


def test_a_seam_is_no_edge(pool: scenes.Pool) -> None:
    """Where crops meet, grey values change by no more than elsewhere: no line, no step of light."""
    shown = scene(pool, 5, None)
    picture = shown.picture.astype(np.float32).mean(axis=2)
    steps = np.abs(np.diff(cv2.GaussianBlur(picture, (0, 0), 1.5), axis=0))
    lines = sorted({laid.y for laid in shown.laid})[1:]
    seams = np.concatenate([steps[y : y + 48] for y in lines if y + 48 < HIGH])
    assert seams.mean() < 1.1 * steps.mean()
    assert np.abs(seams.mean(axis=1)).max() < 1.5 * steps.mean()


def test_a_paraboloid_of_light_is_found_under_a_crack() -> None:
    at = np.linspace(-1, 1, SIDE)
    true = 150 + 20 * at[None, :] - 10 * at[:, None] - 15 * at[None, :] ** 2
    picture = np.repeat(true[:, :, None], 3, axis=2)
    picture[100:112] = 30
    light = scenes.light(picture.round().astype(np.uint8))
    assert np.abs(light - true[:, :, None]).max() < 3


def test_a_seam_takes_the_cheapest_way() -> None:
    costs = np.random.default_rng(0).random((3, 5, 4)).astype(np.float32)
    found = scenes._cheapest_paths(costs)
    for each, path in zip(costs, found, strict=True):
        ways = [
            way
            for way in product(range(4), repeat=5)
            if all(abs(a - b) <= 1 for a, b in pairwise(way))
        ]
        assert tuple(path) == min(ways, key=lambda way: sum(each[n, c] for n, c in enumerate(way)))


def test_what_is_no_crop_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "large.png"
    cv2.imwrite(str(file), np.zeros((300, 300, 3), np.uint8))
    with pytest.raises(ValueError, match=r"large\.png: no picture of 227 x 227"):
        scenes.read(file)


# ------------------------------------------------------------------------------------ acceptance


@dataclass(frozen=True, slots=True)
class Shown:
    """A photograph's truth, what ``classify`` says of it, and of the same shrunk to 227."""

    seed: int
    truth: scenes.Inserted
    verdict: str
    score: float
    boxes: tuple[tuple[int, int, int, int], ...]
    shrunk_verdict: str
    shrunk_score: float

    @property
    def flagged(self) -> bool:
        return self.verdict == "anomaly"

    @property
    def over_the_crack(self) -> bool:
        """Whether a box holds a fair share of the crack."""
        return any(self.truth.share_in(*box) >= 0.25 for box in self.boxes)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A station as ``init`` makes it."""
    folder = tmp_path_factory.mktemp("station")
    assert cli.execute(["init", str(folder)]) == EXIT_DONE
    return folder / "config.toml"


@pytest.fixture(scope="module")
def proof(metu: Path) -> scenes.Pool:
    """The half of the validation folders that nothing was chosen on."""
    return scenes.pool(metu, "acceptance")


def judged(
    pool: scenes.Pool,
    insert: Literal["crack", "normal"],
    config: Path,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Shown]:
    """Photographs as a camera would write them, and what the station says of each."""
    seeds = range(FIRST_SEED, FIRST_SEED + PHOTOGRAPHS)
    for start in range(0, PHOTOGRAPHS, AT_ONCE):
        truths = {}
        for seed in seeds[start : start + AT_ONCE]:
            made = scenes.scene(pool, seed, insert)
            assert made.inserted is not None
            truths[seed] = made.inserted
            small = cv2.resize(made.picture, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
            (folder / f"{seed}.jpg").write_bytes(images.encode_jpeg(made.picture, QUALITY))
            (folder / f"{seed}-shrunk.png").write_bytes(images.encode_png(np.asarray(small)))
        capsys.readouterr()
        arguments = ["classify", "--config", str(config), str(folder), "--format", "json"]
        assert cli.execute(arguments) == EXIT_DONE
        said = {Path(each["path"]).stem: each for each in json.loads(capsys.readouterr().out)}
        for seed, truth in truths.items():
            whole, shrunk = said[f"{seed}"], said[f"{seed}-shrunk"]
            assert whole["tiles"] > 200  # else the photograph was not judged in tiles
            yield Shown(
                seed,
                truth,
                whole["verdict"],
                whole["score"],
                tuple((box["x"], box["y"], box["w"], box["h"]) for box in whole["boxes"]),
                shrunk["verdict"],
                shrunk["score"],
            )
        for file in folder.iterdir():
            file.unlink()


def told(shown: Sequence[Shown], wrong: Sequence[Shown]) -> str:
    """What a person wants to see of the photographs, and each that was judged wrongly."""
    flagged = sum(one.flagged for one in shown)
    shrunk = sum(one.shrunk_verdict == "anomaly" for one in shown)
    lines = [
        f"\n{len(shown)} photographs: {flagged} flagged; shrunk to 227: {shrunk} flagged, "
        f"highest score {max(one.shrunk_score for one in shown):.4f}"
    ]
    lines += [
        f"  seed {one.seed}: {'/'.join(one.truth.file.parts[-3:])} at {one.truth.x}, "
        f"{one.truth.y}; highest tile {one.score:.5f}, boxes {one.boxes[:3]}"
        for one in wrong
    ]
    return "\n".join(lines)


@pytest.mark.slow
@pytest.mark.real_pictures
@pytest.mark.timeout(3_600)
def test_a_crack_in_a_photograph_is_found_and_shown(
    proof: scenes.Pool, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = list(judged(proof, "crack", config, tmp_path, capsys))
    missed = [one for one in shown if not (one.flagged and one.over_the_crack)]
    print(told(shown, missed))
    assert len(missed) <= 5


@pytest.mark.slow
@pytest.mark.real_pictures
@pytest.mark.timeout(3_600)
def test_a_photograph_without_a_crack_is_left_alone(
    proof: scenes.Pool, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A normal crop is blended into each, as the crack was: blending must not be what is found."""
    shown = list(judged(proof, "normal", config, tmp_path, capsys))
    alarms = [one for one in shown if one.flagged]
    print(told(shown, alarms))
    assert len(alarms) <= 3
