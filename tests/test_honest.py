"""Honest scores: nothing that a model learned from, nor a relative of it, is scored by heart."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from crackwatch import dataset, learned
from crackwatch.cli import evidence
from crackwatch.dataset import Pictures, PixelCache
from crackwatch.errors import DatasetError
from crackwatch.learned import Learned
from crackwatch.registry import MODEL_FILE, Card, Registry, Threshold
from crackwatch.training import honest
from tests.model_folders import card

LOGITS = np.array([-4.0, -1.0, 2.0, 5.0, np.nan, -3.0], np.float32)


class Half:
    """A model that gives every picture a half."""

    model_id = "half"

    def scores(self, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.full(len(pictures), 0.5, np.float32)


def open_half(_folder: Path, _card: Card) -> Half:
    return Half()


@pytest.fixture
def pictures(tmp_path: Path) -> Iterator[Pictures]:
    """Eight pictures of noise, the second half without a crack; no two alike."""
    with noise(tmp_path, range(8)) as found:
        yield found


def noise(folder: Path, seeds: range) -> Pictures:
    cache = PixelCache(len(seeds), folder)
    drawn = [
        np.random.default_rng(seed).integers(0, 256, (227, 227, 3), dtype=np.uint8)
        for seed in seeds
    ]
    for slot, picture in enumerate(drawn):
        cache.put(slot, picture)
    return Pictures(
        cache=cache,
        slots=np.arange(len(seeds)),
        paths=tuple(b"%d.png" % seed for seed in seeds),
        labels=(np.arange(len(seeds)) < len(seeds) / 2).astype(np.int8),
        sha256=tuple(bytes([seed]) * 32 for seed in seeds),
        pixel_hashes=tuple(dataset.pixel_hash(picture) for picture in drawn),
        folded=np.stack([dataset.fold(dataset.texture(picture)) for picture in drawn]),
        problems=(),
        contradictions=(),
    )


def learned_from(
    pictures: Pictures, positions: list[int], logits: NDArray[np.float32] | None = None
) -> Learned:
    count = len(positions)
    return Learned(
        pixel_hashes=np.array([list(pictures.pixel_hashes[each]) for each in positions], np.uint8),
        textures=dataset.texture_bits(pictures.folded[positions]),
        labels=pictures.labels[positions],
        groups=np.arange(count, dtype=np.int32),
        folds=np.zeros(count, np.int8),
        logits=np.zeros(count, np.float32) if logits is None else logits[:count],
        reviewed=np.zeros(count, bool),
    )


def publish(
    registry: Registry, model_id: str, known: Learned | None, parent: str | None = None
) -> None:
    with registry.staging() as staged:
        (staged / MODEL_FILE).write_bytes(b"weights")
        if known is not None:
            learned.write(staged, known)
        registry.publish(staged, card(model_id, parent=parent))


ALONE = np.arange(8)


def met(registry: Registry, pictures: Pictures, groups: NDArray[np.intp]) -> honest.Champion:
    found = honest.champion_scores(registry, open_half, pictures, groups)
    assert isinstance(found, honest.Champion)
    return found


class TestAChampion:
    def test_out_of_fold_where_it_learned_and_its_own_score_where_it_never_saw(
        self, pictures: Pictures, tmp_path: Path
    ) -> None:
        registry = Registry(tmp_path / "models")
        publish(registry, "one", learned_from(pictures, [0, 1, 2, 3, 4, 5], LOGITS))
        registry.promote("one")
        found = met(registry, pictures, ALONE)
        expected = 1 / (1 + np.exp(-LOGITS.astype(float)))
        np.testing.assert_allclose(found.scores, [*expected, 0.5, 0.5], equal_nan=True)
        assert "5 of these pictures out of fold and 2 that it had never seen" in found.note
        assert "1 are not compared" in found.note

    def test_a_picture_of_concrete_that_it_learned_from_has_no_honest_score(
        self, pictures: Pictures, tmp_path: Path
    ) -> None:
        registry = Registry(tmp_path / "models")
        publish(registry, "one", learned_from(pictures, [0, 1]))
        registry.promote("one")
        overlapping = np.array([0, 1, 2, 1, 4, 5, 6, 7])  # 3 is a crop of the wall of 1
        found = met(registry, pictures, overlapping)
        assert np.flatnonzero(np.isnan(found.scores)).tolist() == [3]
        assert found.scores[1] == 0.5  # its own score, out of fold, stays

    def test_a_copy_of_a_picture_that_has_gone_since_has_none_either(
        self, pictures: Pictures, tmp_path: Path
    ) -> None:
        registry = Registry(tmp_path / "models")
        before = learned_from(pictures, [0])
        other_pixels = np.zeros_like(before.pixel_hashes)  # encoded anew: the hash tells nothing
        publish(registry, "one", replace(before, pixel_hashes=other_pixels))
        registry.promote("one")
        found = met(registry, pictures, ALONE)
        assert np.flatnonzero(np.isnan(found.scores)).tolist() == [0]

    def test_turned_copies_keep_the_scores_that_each_of_them_got(
        self, pictures: Pictures, tmp_path: Path
    ) -> None:
        registry = Registry(tmp_path / "models")
        twice = pictures.at(np.array([0, 0, 1]))
        known = learned_from(twice, [0, 1, 2], np.array([1.0, -2.0, 0.5], np.float32))
        publish(registry, "one", known)
        registry.promote("one")
        found = met(registry, twice, np.array([0, 0, 2]))
        np.testing.assert_allclose(np.log(found.scores / (1 - found.scores)), [1.0, -2.0, 0.5])

    def test_one_whose_folder_is_gone_is_named_and_not_called_missing(
        self, pictures: Pictures, tmp_path: Path
    ) -> None:
        registry = Registry(tmp_path / "models")
        publish(registry, "one", None)
        registry.promote("one")
        (registry.folder / "one" / MODEL_FILE).write_bytes(b"others")
        damaged = honest.champion_scores(registry, open_half, pictures, ALONE)
        assert isinstance(damaged, str)
        assert "cannot be used" in damaged and MODEL_FILE in damaged
        (registry.folder / "one").rename(registry.folder / ".away")
        gone = honest.champion_scores(registry, open_half, pictures, ALONE)
        assert isinstance(gone, str)
        assert "no model one" in gone

    def test_what_was_promoted_or_tuned_meanwhile_is_noticed(
        self, pictures: Pictures, tmp_path: Path
    ) -> None:
        registry = Registry(tmp_path / "models")
        for name in ("one", "two"):
            publish(registry, name, None)
        registry.promote("one")
        found = met(registry, pictures, ALONE)
        assert honest.still(registry, found)
        tuned = Threshold(value=0.25, chosen_by="tune")
        registry.set_threshold("one", tuned, decided_by="me", reason="a test")
        assert not honest.still(registry, found)
        again = met(registry, pictures, ALONE)
        assert again.threshold == 0.25
        registry.promote("two")
        assert not honest.still(registry, again)
        assert not honest.still(registry, "there was no champion")


def test_a_promise_rests_on_no_copy_of_what_was_learned_and_says_which_it_left_out(
    pictures: Pictures, capsys: pytest.CaptureFixture[str]
) -> None:
    """Encoded anew, a picture has other pixels, and the model knows it by heart all the same."""
    known = learned_from(pictures, [5])
    anew = replace(known, pixel_hashes=np.zeros_like(known.pixel_hashes))
    found = evidence._unfamiliar(anew, pictures, "one", Path("labelled"))
    assert found.paths == tuple(path for path in pictures.paths if path != b"5.png")
    told = capsys.readouterr().err
    assert "left out: 5.png: a near duplicate of a picture that model one learned from" in told
    none = replace(anew, textures=np.zeros_like(known.textures))
    assert len(evidence._unfamiliar(none, pictures, "one", Path("labelled"))) == len(pictures)
    assert capsys.readouterr().err == ""
    with pytest.raises(DatasetError, match="labelled: model one learned from 1 of these"):
        evidence._unfamiliar(known, pictures, "one", Path("labelled"))


class TestWhereToContinueFrom:
    def test_the_champion_where_it_knows_none_of_the_pictures(
        self, pictures: Pictures, tmp_path: Path
    ) -> None:
        registry = Registry(tmp_path / "models")
        with noise(tmp_path, range(20, 24)) as other:
            publish(registry, "base", learned_from(other, [0, 1, 2, 3]))
        start, known = honest.starting_point(registry, "base", pictures, ALONE)
        assert (start, bool(known.any())) == ("base", False)

    def test_its_parent_where_only_the_champion_learned_from_them(
        self, pictures: Pictures, tmp_path: Path
    ) -> None:
        registry = Registry(tmp_path / "models")
        with noise(tmp_path, range(20, 24)) as other:
            base = learned_from(other, [0, 1, 2, 3])
        publish(registry, "base", base)
        publish(
            registry, "first", learned.after(base, learned_from(pictures, [0, 4])), parent="base"
        )
        publish(
            registry,
            "second",
            learned.after(base, learned_from(pictures, [0, 1, 4, 5])),
            parent="first",
        )
        start, known = honest.starting_point(registry, "second", pictures, ALONE)
        assert (start, bool(known.any())) == ("base", False)
        (registry.folder / "base" / MODEL_FILE).write_bytes(b"damaged")
        start, known = honest.starting_point(registry, "second", pictures, ALONE)
        assert start == "first"
        assert np.flatnonzero(known).tolist() == [0, 4]

    def test_relatives_of_what_it_learned_count_as_learned(
        self, pictures: Pictures, tmp_path: Path
    ) -> None:
        registry = Registry(tmp_path / "models")
        publish(registry, "base", learned_from(pictures, [0]))
        groups = np.array([0, 1, 2, 3, 4, 5, 0, 7])
        start, known = honest.starting_point(registry, "base", pictures, groups)
        assert start == "base"
        assert np.flatnonzero(known).tolist() == [0, 6]
