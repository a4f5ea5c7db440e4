"""Labelled folders: what is found, taken in, refused, kept together and divided."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from crackwatch import dataset
from crackwatch.dataset import Pictures
from crackwatch.domain import Label, QuarantineReason
from crackwatch.errors import DatasetError, Unreadable


def decode(content: bytes) -> NDArray[np.uint8]:
    """A stand-in for ``images.decode`` that knows 227 x 227 pictures only."""
    picture = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR) if content else None
    if picture is None:
        raise Unreadable(QuarantineReason.NOT_AN_IMAGE, "no decoder knows it")
    return picture


def textured(seed: int) -> NDArray[np.uint8]:
    """Concrete, roughly: coarse noise on grey, (227, 227, 3)."""
    random = np.random.default_rng(seed)
    coarse = random.normal(150, 25, (46, 46)).clip(0, 255).astype(np.uint8)
    grey = cv2.resize(coarse, (227, 227), interpolation=cv2.INTER_LINEAR)
    return np.repeat(grey[:, :, None], 3, axis=2)


def write(folder: Path, name: str, picture: NDArray[np.uint8], quality: int = 95) -> bytes:
    folder.mkdir(parents=True, exist_ok=True)
    suffix, options = (
        (".png", []) if name.endswith(".png") else (".jpg", [cv2.IMWRITE_JPEG_QUALITY, quality])
    )
    content = cv2.imencode(suffix, picture, options)[1].tobytes()
    (folder / name).write_bytes(content)
    return content


def fill(folder: Path, anomalies: int, normals: int, first_seed: int = 0) -> None:
    for number in range(anomalies):
        write(folder / "anomaly", f"a{number:03}.png", textured(first_seed + number))
    for number in range(normals):
        write(folder / "normal", f"n{number:03}.png", textured(first_seed + 1000 + number))


def loaded(folder: Path, tmp_path: Path) -> Pictures:
    return dataset.load(dataset.list_files(dataset.find_layout(folder)), decode, tmp_path)


class TestLayout:
    def test_train_goes_before_the_folder_itself(self, tmp_path: Path) -> None:
        for name in ("train/anomaly", "train/normal", "anomaly", "normal"):
            (tmp_path / name).mkdir(parents=True)
        assert dataset.find_layout(tmp_path).anomaly == tmp_path / "train" / "anomaly"

    def test_one_class_alone_is_a_labelled_folder(self, tmp_path: Path) -> None:
        (tmp_path / "anomaly").mkdir()
        assert dataset.find_layout(tmp_path).normal == tmp_path / "normal"

    @pytest.mark.parametrize(
        ("names", "told"),
        [((), "it is empty"), (("cats", "dogs"), "it holds cats, dogs"), (None, "does not exist")],
    )
    def test_another_folder_is_refused_with_what_it_holds(
        self, tmp_path: Path, names: tuple[str, ...] | None, told: str
    ) -> None:
        folder = tmp_path / "given"
        for name in names or ():
            (folder / name).mkdir(parents=True)
        if names == ():
            folder.mkdir()
        with pytest.raises(DatasetError) as caught:
            dataset.find_layout(folder)
        assert str(folder) in caught.value.problem
        assert told in caught.value.problem
        assert "anomaly/" in caught.value.remedy

    def test_files_are_found_in_folders_within_and_hidden_ones_are_not(
        self, tmp_path: Path
    ) -> None:
        for name in ("anomaly/b", "anomaly/sub/a", "anomaly/.hidden", "normal/c"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        found = dataset.list_files(dataset.find_layout(tmp_path))
        relative = [os.path.relpath(file.path, os.fsencode(tmp_path)) for file in found]
        assert relative == [b"anomaly/b", b"anomaly/sub/a", b"normal/c"]
        assert [file.label for file in found] == [Label.ANOMALY, Label.ANOMALY, Label.NORMAL]


class TestLoading:
    def test_pixels_come_back_as_they_were_decoded(self, tmp_path: Path) -> None:
        fill(tmp_path / "data", 3, 4)
        with loaded(tmp_path / "data", tmp_path) as pictures:
            assert pictures.count(Label.ANOMALY) == 3
            got = pictures.get([6, 0])
            assert np.array_equal(got[0], textured(1003))
            assert np.array_equal(got[1], textured(0))

    def test_nothing_is_left_on_disk(self, tmp_path: Path) -> None:
        fill(tmp_path / "data", 1, 1)
        work = tmp_path / "work"
        work.mkdir()
        with loaded(tmp_path / "data", work):
            assert list(work.iterdir()) == []  # nameless while in use: even SIGKILL leaves nothing

    def test_what_cannot_be_read_is_listed_and_the_rest_is_used(self, tmp_path: Path) -> None:
        fill(tmp_path / "data", 1, 1)
        (tmp_path / "data/normal/notes.txt").write_text("not a picture")
        os.mkfifo(tmp_path / "data/normal/pipe")
        (tmp_path / os.fsdecode(b"data/anomaly/\xff\n.jpg")).write_bytes(b"")
        with loaded(tmp_path / "data", tmp_path) as pictures:
            assert len(pictures) == 2
            reasons = {Path(problem.path).name: problem.reason for problem in pictures.problems}
        assert reasons == {
            "notes.txt": "not_an_image: no decoder knows it",
            "pipe": "not a regular file",
            "\\xff\\x0a.jpg": "not_an_image: no decoder knows it",
        }

    def test_equal_pixels_under_both_labels_are_left_out_and_told(self, tmp_path: Path) -> None:
        fill(tmp_path / "data", 2, 2)
        write(tmp_path / "data/normal", "turned.png", np.rot90(textured(0)).copy())
        with loaded(tmp_path / "data", tmp_path) as pictures:
            assert len(pictures) == 3
            told = sorted(Path(problem.path).name for problem in pictures.contradictions)
        assert told == ["a000.png", "turned.png"]

    def test_what_a_person_said_of_equal_pixels_counts(self, tmp_path: Path) -> None:
        fill(tmp_path / "data", 2, 2)
        write(tmp_path / "data/normal", "turned.png", np.rot90(textured(0)).copy())
        reviewed = frozenset([os.fsencode(tmp_path / "data/normal/turned.png")])
        files = dataset.list_files(dataset.find_layout(tmp_path / "data"))
        with dataset.load(files, decode, tmp_path, overruling=reviewed) as found:
            assert {Path(os.fsdecode(path)).name for path in found.paths} == {
                "a001.png", "n000.png", "n001.png", "turned.png",
            }  # fmt: skip
            (told,) = found.contradictions
        assert Path(told.path).name == "a000.png"
        assert "a person labelled the same pixels otherwise" in told.reason

    def test_the_data_hash_follows_content_and_label_not_names_or_order(
        self, tmp_path: Path
    ) -> None:
        fill(tmp_path / "one", 2, 2)
        fill(tmp_path / "renamed", 2, 2)
        (tmp_path / "renamed/normal/n000.png").rename(tmp_path / "renamed/normal/z.png")
        fill(tmp_path / "relabelled", 2, 2)
        moved = tmp_path / "relabelled/normal/n000.png"
        moved.rename(tmp_path / "relabelled/anomaly/n000.png")
        hashes = {}
        for name in ("one", "renamed", "relabelled"):
            with loaded(tmp_path / name, tmp_path) as pictures:
                hashes[name] = pictures.data_hash
        assert hashes["one"] == hashes["renamed"] != hashes["relabelled"]

    def test_a_full_disk_is_told_before_anything_is_written(self, tmp_path: Path) -> None:
        with pytest.raises(DatasetError, match="MiB of disk"):
            dataset.PixelCache(10**9, tmp_path)


class TestEnough:
    def refusal(self, folder: Path, tmp_path: Path) -> DatasetError:
        layout = dataset.find_layout(folder)
        places = {label: layout.of(label) for label in Label}
        with loaded(folder, tmp_path) as pictures, pytest.raises(DatasetError) as caught:
            dataset.require_enough(pictures, places, 50)
        return caught.value

    def test_49_of_a_class_are_too_few(self, tmp_path: Path) -> None:
        fill(tmp_path / "data", 49, 50)
        error = self.refusal(tmp_path / "data", tmp_path)
        assert error.problem == (
            f"{tmp_path / 'data/anomaly'}: too few anomaly pictures: found 49; "
            "at least 50 are needed"
        )
        assert "crackwatch dataset import FOLDER" in error.remedy
        assert error.exit_status == 2

    def test_copies_do_not_count(self, tmp_path: Path) -> None:
        fill(tmp_path / "data", 50, 49)
        write(tmp_path / "data/normal", "copy.png", textured(1000)[:, ::-1].copy())
        assert "found 50 of which 49 differ" in self.refusal(tmp_path / "data", tmp_path).problem

    def test_50_are_enough(self, tmp_path: Path) -> None:
        fill(tmp_path / "data", 50, 50)
        with loaded(tmp_path / "data", tmp_path) as pictures:
            dataset.require_enough(pictures, dict.fromkeys(Label, tmp_path), 50)


class TestGroups:
    @pytest.mark.parametrize("turns", range(4))
    @pytest.mark.parametrize("mirrored", [False, True])
    def test_the_pixel_hash_ignores_turns_and_mirrors(self, turns: int, mirrored: bool) -> None:
        picture = textured(5)
        turned = np.rot90(picture[:, ::-1] if mirrored else picture, turns)
        assert dataset.pixel_hash(turned) == dataset.pixel_hash(picture)

    def test_the_pixel_hash_holds_where_all_corners_tie(self) -> None:
        picture = np.full((227, 227, 3), 90, np.uint8)
        picture[113, 20] = 0  # on the axis between two corners
        assert dataset.pixel_hash(np.rot90(picture)) == dataset.pixel_hash(picture)

    def test_the_pixel_hash_sees_one_changed_value(self) -> None:
        changed = textured(5)
        changed[100, 100, 1] ^= 1
        assert dataset.pixel_hash(changed) != dataset.pixel_hash(textured(5))

    def test_copies_are_together_and_others_apart(self, tmp_path: Path) -> None:
        normal = tmp_path / "data/normal"
        original = textured(1)
        write(normal, "0-original.png", original)
        write(normal, "1-turned.png", np.rot90(original).copy())
        write(normal, "2-encoded-anew.jpg", original[::-1].copy(), quality=50)
        darker = (original * 0.8).astype(np.uint8)
        write(normal, "3-darker.png", darker)
        write(normal, "4-another.png", textured(2))
        write(normal, "5-blank.png", np.full((227, 227, 3), 120, np.uint8))
        write(normal, "6-blank-too.png", np.full((227, 227, 3), 121, np.uint8))
        with loaded(tmp_path / "data", tmp_path) as pictures:
            assert dataset.groups(pictures).tolist() == [0, 0, 0, 0, 4, 5, 6]

    @pytest.mark.real_pictures
    def test_photographed_cracks_are_groups_of_their_own(self, metu: Path, tmp_path: Path) -> None:
        with loaded(metu / "valid_unbalanced", tmp_path) as pictures:
            group_of = dataset.groups(pictures)
            cracks = group_of[pictures.labels == 1]
            assert len(set(cracks.tolist())) == len(cracks) == 30


class TestSplit:
    def divided(
        self, folder: Path, tmp_path: Path, seed: int, fraction: float = 0.2
    ) -> tuple[set[str], set[str]]:
        """Names learned from, names held back."""
        with loaded(folder, tmp_path) as pictures:
            parts = dataset.split(pictures, dataset.groups(pictures), fraction, seed)
            names = [os.path.basename(path).decode() for path in pictures.paths]
        assert len(parts.train) + len(parts.validation) == len(names)
        return {names[i] for i in parts.train}, {names[i] for i in parts.validation}

    def test_each_class_gives_its_share(self, tmp_path: Path) -> None:
        fill(tmp_path / "data", 20, 60)
        _, held = self.divided(tmp_path / "data", tmp_path, seed=1)
        assert sum(name.startswith("a") for name in held) == 4
        assert sum(name.startswith("n") for name in held) == 12

    def test_the_seed_decides_and_nothing_else(self, tmp_path: Path) -> None:
        fill(tmp_path / "data", 10, 30)
        first = self.divided(tmp_path / "data", tmp_path, seed=1)
        assert self.divided(tmp_path / "data", tmp_path, seed=1) == first
        assert self.divided(tmp_path / "data", tmp_path, seed=2) != first

    def test_what_was_held_back_stays_so_when_the_data_grow(self, tmp_path: Path) -> None:
        fill(tmp_path / "data", 10, 40)
        learned, _ = self.divided(tmp_path / "data", tmp_path, seed=1)
        write(tmp_path / "data/normal", "new.png", textured(9999))
        _, held_later = self.divided(tmp_path / "data", tmp_path, seed=1)
        assert len(learned & held_later) <= 1

    @pytest.mark.parametrize("seed", range(8))
    def test_no_copies_are_divided(self, tmp_path: Path, seed: int) -> None:
        fill(tmp_path / "data", 6, 6)
        for number in range(6):
            for turns in (1, 2):
                turned = np.rot90(textured(1000 + number), turns).copy()
                write(tmp_path / "data/normal", f"n{number:03}-{turns}.png", turned)
        learned, held = self.divided(tmp_path / "data", tmp_path, seed, fraction=0.4)
        assert not {name[:4] for name in learned} & {name[:4] for name in held}

    def test_a_class_of_copies_cannot_be_divided(self, tmp_path: Path) -> None:
        fill(tmp_path / "data", 0, 5)
        for turns in range(3):
            write(tmp_path / "data/anomaly", f"{turns}.png", np.rot90(textured(0), turns).copy())
        with pytest.raises(DatasetError, match="all anomaly pictures are copies"):
            self.divided(tmp_path / "data", tmp_path, seed=1)


class TestImport:
    def taken_in(self, source: Path, station: Path) -> dataset.Imported:
        return dataset.import_folder(source, station, decode)

    def test_counts_and_bytes(self, tmp_path: Path) -> None:
        fill(tmp_path / "source/train", 2, 3)
        result = self.taken_in(tmp_path / "source", tmp_path / "station")
        assert (result.imported, result.duplicates, result.anomaly, result.normal) == (5, 0, 2, 3)
        for name in ("anomaly/a001.png", "normal/n002.png"):
            there = (tmp_path / "station" / name).read_bytes()
            assert there == (tmp_path / "source/train" / name).read_bytes()

    def test_they_are_where_they_will_be_read(self, tmp_path: Path) -> None:
        fill(tmp_path / "source", 2, 3)
        fill(tmp_path / "station/train", 1, 1)
        result = self.taken_in(tmp_path / "source", tmp_path / "station")
        read = dataset.list_files(dataset.find_layout(tmp_path / "station"))
        assert result.anomaly + result.normal == len(read) >= 5

    def test_again_changes_nothing(self, tmp_path: Path) -> None:
        fill(tmp_path / "source", 2, 3)
        self.taken_in(tmp_path / "source", tmp_path / "station")
        before = sorted((tmp_path / "station").rglob("*"))
        result = self.taken_in(tmp_path / "source", tmp_path / "station")
        assert (result.imported, result.duplicates, result.anomaly, result.normal) == (0, 5, 2, 3)
        assert sorted((tmp_path / "station").rglob("*")) == before

    def test_a_name_that_is_taken_gets_a_suffix(self, tmp_path: Path) -> None:
        first = write(tmp_path / "station/normal", "x.png", textured(1))
        second = write(tmp_path / "source/normal", "x.png", textured(2))
        assert self.taken_in(tmp_path / "source", tmp_path / "station").imported == 1
        assert (tmp_path / "station/normal/x.png").read_bytes() == first
        mark = hashlib.sha256(second).hexdigest()[:12]
        assert (tmp_path / f"station/normal/x-{mark}.png").read_bytes() == second

    def test_a_file_with_the_other_label_is_told_and_left_out(self, tmp_path: Path) -> None:
        write(tmp_path / "station/normal", "x.png", textured(1))
        write(tmp_path / "source/anomaly", "y.png", textured(1))
        result = self.taken_in(tmp_path / "source", tmp_path / "station")
        assert (result.imported, result.anomaly, result.normal) == (0, 0, 1)
        assert [problem.reason for problem in result.problems] == [
            "labelled anomaly, but the same file is in the dataset as normal; remove the wrong one"
        ]

    def test_what_is_no_picture_is_told_and_the_rest_taken_in(self, tmp_path: Path) -> None:
        fill(tmp_path / "source", 1, 1)
        (tmp_path / "source/normal/readme.txt").write_text("hello")
        result = self.taken_in(tmp_path / "source", tmp_path / "station")
        assert result.imported == 2
        assert [Path(problem.path).name for problem in result.problems] == ["readme.txt"]

    def test_a_long_name_is_cut_to_fit(self, tmp_path: Path) -> None:
        name = "n" * 250 + ".png"
        write(tmp_path / "station/normal", name, textured(1))
        write(tmp_path / "source/normal", name, textured(2))
        assert self.taken_in(tmp_path / "source", tmp_path / "station").normal == 2

    def test_the_dataset_itself_is_no_source(self, tmp_path: Path) -> None:
        fill(tmp_path / "station", 1, 1)
        with pytest.raises(DatasetError, match="in one another"):
            self.taken_in(tmp_path / "station", tmp_path / "station")
