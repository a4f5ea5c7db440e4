"""``crackwatch classify`` says what the daemon would, and touches nothing."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from crackwatch import cli, images, marked, synthetic
from crackwatch.agreement import write_golden
from crackwatch.domain import Label, Verdict
from crackwatch.errors import EXIT_DONE, EXIT_NO_MODEL, EXIT_USAGE, ModelDisagrees
from crackwatch.escaping import path_bytes
from crackwatch.inbox import NamePolicy
from crackwatch.registry import Golden, Registry
from crackwatch.runtime import SIDE, load
from crackwatch.runtime.openvino import build
from crackwatch.scoring import Refused, Scored, pictures_in, score
from crackwatch.tiling import lay_out
from crackwatch.views import Rule
from tests.model_folders import card
from tests.walls import wall, wall_jpeg

THRESHOLD = 0.5
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def station(lenet_keras: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A station with a champion, by OpenVINO alone."""
    folder = tmp_path_factory.mktemp("station")
    (folder / "config.toml").write_text("[station]\nname = 'wall'\n")
    registry = Registry(folder / "models")
    pictures = np.stack([synthetic.draw(seed, crack=True) for seed in range(3)])
    with registry.staging() as staged:
        (staged / "lenet.keras").write_bytes(lenet_keras.read_bytes())
        build(staged / "lenet.keras", staged / "lenet.xml")
        sha256 = write_golden(staged, pictures)
        draft = card("first", golden=Golden(pixels_sha256=sha256, scores=(0, 0, 0)))
        registry.publish(staged, draft)
    # the same again, with the scores that it gives
    scores = load(registry.folder_of("first"), registry.card("first")).scores(pictures)
    with registry.staging() as staged:
        for name in ("lenet.keras", "lenet.xml", "lenet.bin"):
            (staged / name).write_bytes((registry.folder_of("first") / name).read_bytes())
        write_golden(staged, pictures)
        golden = Golden(pixels_sha256=sha256, scores=tuple(scores.tolist()))
        registry.publish(staged, card("second", golden=golden))
    registry.promote("second")
    return folder


@pytest.fixture
def classify(station: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: str | Path) -> tuple[int, str, str]:
        status = cli.execute(
            ["classify", "--config", str(station / "config.toml"), *map(str, arguments)]
        )
        told = capsys.readouterr()
        return status, told.out, told.err

    return run


def put(folder: Path, *names: str | bytes) -> list[bytes]:
    """Draws a picture of concrete for each name; every second one has a crack."""
    paths = []
    for seed, name in enumerate(names):
        path = os.path.join(os.fsencode(folder), os.fsencode(name))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as stream:
            stream.write(images.encode_png(synthetic.draw(seed, crack=seed % 2 == 0)))
        paths.append(path)
    return paths


def test_scores_are_those_of_the_model(station: Path, classify: Run, tmp_path: Path) -> None:
    paths = put(tmp_path, "b.png", "a.png", "below/c.png")
    status, out, _ = classify(tmp_path, "--format", "json")
    assert status == EXIT_DONE
    found = {entry["path"]: entry for entry in json.loads(out)}
    assert list(found) == [str(tmp_path / name) for name in ("a.png", "b.png", "below/c.png")]
    registry = Registry(station / "models")
    classifier = load(registry.folder_of("second"), registry.card("second"))
    pictures = np.stack([synthetic.draw(seed, crack=seed % 2 == 0) for seed in range(3)])
    for path, expected in zip(paths, classifier.scores(pictures), strict=True):
        entry = found[os.fsdecode(path)]
        assert entry["score"] == pytest.approx(expected, abs=1e-6)
        assert entry["verdict"] == ("anomaly" if entry["score"] >= THRESHOLD else "normal")
        assert entry["model"] == "second"
        assert entry.keys() == {"path", "score", "verdict", "model", "threshold"}


def test_nothing_is_moved_or_recorded(station: Path, classify: Run, tmp_path: Path) -> None:
    put(tmp_path, "a.png")
    before = sorted((file, file.stat().st_mtime_ns) for file in tmp_path.rglob("*"))
    inside = sorted(file for file in station.rglob("*"))
    classify(tmp_path)
    assert sorted((file, file.stat().st_mtime_ns) for file in tmp_path.rglob("*")) == before
    assert sorted(file for file in station.rglob("*")) == inside


def test_the_threshold_may_be_another(classify: Run, tmp_path: Path) -> None:
    put(tmp_path, "a.png")
    for threshold, verdict in (("0", "anomaly"), ("1", "normal")):
        _, out, _ = classify(tmp_path, "--threshold", threshold, "--format", "json")
        assert [entry["verdict"] for entry in json.loads(out)] == [verdict]


def test_the_stations_own_threshold_is_kept_to(
    classify: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, "a.png")
    monkeypatch.setenv("CRACKWATCH_MODEL__THRESHOLD", "0.0")
    _, out, err = classify(tmp_path, "--format", "json")
    assert [entry["verdict"] for entry in json.loads(out)] == ["anomaly"]
    assert "threshold 0)" in err


def test_a_table_for_a_person(classify: Run, tmp_path: Path) -> None:
    put(tmp_path, "a.png")
    (tmp_path / "b.jpg").write_text("no picture")
    status, out, err = classify(tmp_path)
    assert status == EXIT_DONE
    first, second = out.splitlines()
    score_text, verdict, path = first.split()
    assert 0 <= float(score_text) <= 1
    assert verdict in ("anomaly", "normal")
    assert path.endswith("a.png")
    assert second.split()[:2] == ["-", "unreadable"]
    assert "b.jpg: not_an_image" in second
    assert "1 unreadable (model second, threshold 0.5)" in err


def test_what_cannot_be_scored_is_listed_and_the_rest_goes_on(
    classify: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [whole] = put(tmp_path, "whole.png")
    (tmp_path / "empty.png").touch()
    (tmp_path / "half.png").write_bytes(Path(os.fsdecode(whole)).read_bytes()[:500])
    (tmp_path / "large.png").write_bytes(b"x" * 300_000)
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    monkeypatch.setenv("CRACKWATCH_FILES__MAX_BYTES", "200000")
    status, out, _ = classify(tmp_path, "--format", "json")
    assert status == EXIT_DONE
    found = {Path(entry["path"]).name: entry for entry in json.loads(out)}
    assert "score" in found.pop("whole.png")
    expected = {
        "empty.png": "empty",
        "half.png": "truncated",
        "large.png": "oversize",
        "pipe.png": "cannot be read: it is not a regular file",
        "gone.png": "cannot be read: No such file or directory",
    }
    assert found.keys() == expected.keys()
    for name, entry in found.items():
        assert entry.keys() == {"path", "error"}
        assert entry["error"].startswith(expected[name])


def test_in_folders_the_stations_patterns_choose(classify: Run, tmp_path: Path) -> None:
    put(tmp_path, "a.png", ".hidden.png", "b.png.tmp", ".folder/c.png", "notes.txt")
    _, out, _ = classify(tmp_path, "--format", "json")
    assert [Path(entry["path"]).name for entry in json.loads(out)] == ["a.png"]


def test_a_file_that_is_named_is_taken_whatever_its_name(classify: Run, tmp_path: Path) -> None:
    put(tmp_path, "picture.dat")
    _, out, _ = classify(tmp_path / "picture.dat", "--format", "json")
    assert "score" in json.loads(out)[0]


def test_names_that_are_no_text_go_in_and_out_as_reports_print_them(
    classify: Run, tmp_path: Path
) -> None:
    name = b"cr\xe9ack\n1.png"
    [path] = put(tmp_path, name)
    _, out, _ = classify(tmp_path, "--format", "json")
    [entry] = json.loads(out)
    assert entry["path"].endswith(r"cr\xe9ack\x0a1.png")
    assert path_bytes(entry["path"]) == path
    status, again, _ = classify(entry["path"], "--format", "json")
    assert status == EXIT_DONE
    assert json.loads(again) == [entry]


def test_a_name_with_a_backslash_is_found_as_it_is_typed(classify: Run, tmp_path: Path) -> None:
    put(tmp_path, r"a\x41.png")
    status, out, _ = classify(tmp_path / r"a\x41.png", "--format", "json")
    assert status == EXIT_DONE
    assert json.loads(out)[0]["path"].endswith(r"a\\x41.png")


def test_an_empty_folder_gives_an_empty_document(classify: Run, tmp_path: Path) -> None:
    status, out, err = classify(tmp_path, "--format", "json")
    assert (status, json.loads(out)) == (EXIT_DONE, [])
    assert err.startswith("0 anomaly, 0 normal, 0 unreadable")


def test_a_path_that_does_not_exist_is_refused_before_anything_is_scored(
    classify: Run, tmp_path: Path
) -> None:
    put(tmp_path, "a.png")
    status, out, err = classify(tmp_path / "a.png", tmp_path / "b.png", "--format", "json")
    assert (status, out) == (EXIT_USAGE, "")
    assert "b.png: there is no such file or folder" in err


def test_without_a_usable_model_it_exits_4(
    station: Path, classify: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, "a.png")
    assert classify(tmp_path, "--model", "none")[0] == EXIT_NO_MODEL
    status, out, err = classify(tmp_path, "--model", "first")
    assert (status, out) == (EXIT_NO_MODEL, "")
    assert "does not score its golden pictures" in err
    monkeypatch.setenv("CRACKWATCH_FOLDERS__MODELS", str(tmp_path / "no models"))
    status, _, err = classify(tmp_path)
    assert status == EXIT_NO_MODEL
    assert "there is no champion" in err


def test_keras_and_tensorflow_are_not_needed(station: Path, tmp_path: Path) -> None:
    put(tmp_path, "a.png")
    program = (
        "import sys; from crackwatch import cli\n"
        "assert cli.execute(['classify', '--config', *sys.argv[1:]]) == 0\n"
        "print(*{'tensorflow', 'keras', 'sklearn', 'matplotlib'} & sys.modules.keys())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(station / "config.toml"), str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[1:] == [""]


# ------------------------------------------------------------------------------------ photographs


def test_a_photograph_is_judged_in_tiles_and_says_which(
    station: Path, classify: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = wall(700, 500, (1, 1))
    layout = lay_out(700, 500, 64)
    registry = Registry(station / "models")
    classifier = load(registry.folder_of("second"), registry.card("second"))
    tiles = [picture[y : y + SIDE, x : x + SIDE] for x, y in layout.origins]
    scores = classifier.scores(np.stack(tiles))
    threshold = float(np.sort(scores)[-5:-3].mean())  # four tiles are over it
    over = np.flatnonzero(scores >= threshold)
    assert len(over) == 4
    (tmp_path / "wall.png").write_bytes(images.encode_png(picture))
    [crop] = put(tmp_path, "crop.png")
    monkeypatch.setenv("CRACKWATCH_MODEL__TILED_THRESHOLD", repr(threshold))
    monkeypatch.setenv("CRACKWATCH_MODEL__MIN_TILES", "2")
    monkeypatch.setenv("CRACKWATCH_IMAGES__MM_PER_PX", "0.2")
    status, out, err = classify(tmp_path, "--format", "json")
    assert status == EXIT_DONE
    first, photograph = json.loads(out)
    assert (first["path"], first["threshold"], "tiles" in first) == (os.fsdecode(crop), 0.5, False)
    assert photograph["score"] == pytest.approx(float(scores.max()), abs=1e-6)
    assert (photograph["tiles"], photograph["tiles_over"]) == (len(tiles), len(over))
    assert (photograph["min_tiles"], photograph["threshold"]) == (2, threshold)
    assert (photograph["width"], photograph["height"]) == (700, 500)
    boxes = {
        (box["x"], box["y"]): (box["w"], box["h"], box["score"]) for box in photograph["boxes"]
    }
    assert boxes.keys() == {tuple(layout.origins[tile].tolist()) for tile in over}
    assert all(box[:2] == (SIDE, SIDE) and box[2] >= threshold for box in boxes.values())
    flagged = photograph["verdict"] == "anomaly"
    assert (photograph["length_mm"] is not None) == flagged
    assert f"(model second, threshold 0.5, threshold {threshold:.6g} of photographs" in err
    _, out, _ = classify(tmp_path)
    assert "wall.png  (4 of 12 tiles" in out.splitlines()[1]
    assert "tiles" not in out.splitlines()[0]


def test_a_threshold_that_is_asked_for_is_that_of_photographs_as_well(
    classify: Run, tmp_path: Path
) -> None:
    (tmp_path / "wall.jpg").write_bytes(wall_jpeg(600, 500))
    for threshold, over in (("0", 12), ("1", 0)):
        _, out, err = classify(tmp_path, "--threshold", threshold, "--format", "json")
        [entry] = json.loads(out)
        assert (entry["threshold"], entry["tiles_over"]) == (float(threshold), over)
        assert f"(model second, threshold {threshold} of photographs" in err


def test_photographs_of_a_scale_far_from_the_models_are_told(
    station: Path, classify: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "wall.jpg").write_bytes(wall_jpeg(600, 500))
    file = station / "models/second/card.json"
    original = file.read_text()
    monkeypatch.setenv("CRACKWATCH_IMAGES__MM_PER_PX", "0.5")
    try:
        file.write_text(json.dumps({**json.loads(original), "mm_per_px": 0.2}))
        status, out, err = classify(tmp_path, "--format", "json")
    finally:
        file.write_text(original)
    assert status == EXIT_DONE
    assert json.loads(out)[0]["tiles"] == len(lay_out(1500, 1250, 64))
    assert "warning: a pixel shows 0.5 mm here" in err
    assert "photographs are enlarged 2.5 times" in err
    assert "warning" not in classify(tmp_path)[2]  # nobody knows the model's


def test_an_overlay_is_written_of_each_photograph_and_over_nothing(
    classify: Run, tmp_path: Path
) -> None:
    for folder in ("a", "b"):
        put(tmp_path / "in", f"{folder}/crop.png")
        (tmp_path / "in" / folder / "wall.jpg").write_bytes(wall_jpeg(600, 500))
    copies = tmp_path / "made" / "below"
    _, out, _ = classify(
        tmp_path / "in", "--overlay", copies, "--threshold", "1", "--format", "json"
    )
    shown = {entry["path"]: entry.get("overlay") for entry in json.loads(out)}
    assert shown == {  # normals as well: how near they were is what their map tells
        str(tmp_path / "in/a/crop.png"): None,
        str(tmp_path / "in/a/wall.jpg"): str(copies / "wall.jpg.overlay.jpg"),
        str(tmp_path / "in/b/crop.png"): None,
        str(tmp_path / "in/b/wall.jpg"): str(copies / "wall (2).jpg.overlay.jpg"),
    }
    before = {path.name: path.read_bytes() for path in copies.iterdir()}
    assert len(before) == 2
    classify(tmp_path / "in/a", "--overlay", copies)
    after = {path.name: path.read_bytes() for path in copies.iterdir()}
    assert after.keys() - before.keys() == {"wall (3).jpg.overlay.jpg"}
    assert before.items() <= after.items()
    # named together with what they show, they are no pictures; by themselves they are
    assert len(json.loads(classify(copies, "--format", "json")[1])) == 3
    (copies / "wall.jpg").write_bytes(wall_jpeg(600, 500))
    names = [
        Path(each["path"]).name for each in json.loads(classify(copies, "--format", "json")[1])
    ]
    assert "wall.jpg" in names and "wall.jpg.overlay.jpg" not in names


def test_a_folder_for_overlays_that_cannot_be_is_refused_before_anything_is_scored(
    classify: Run, tmp_path: Path
) -> None:
    put(tmp_path, "a.png")
    status, out, err = classify(tmp_path / "a.png", "--overlay", tmp_path / "a.png" / "below")
    assert (status, out) == (EXIT_USAGE, "")
    assert "a.png/below: cannot be made: Not a directory" in err


def test_an_overlay_that_cannot_be_written_is_told_and_the_rest_goes_on(
    classify: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(wall_jpeg(600, 500))

    def full(folder: bytes, name: bytes, content: bytes) -> bytes:
        if name == b"a.jpg":
            raise OSError(errno.ENOSPC, "No space left on device")
        return save(folder, name, content)

    save = marked.save
    monkeypatch.setattr(marked, "save", full)
    status, out, _ = classify(tmp_path, "--overlay", tmp_path / "out", "--format", "json")
    assert status == EXIT_DONE
    first, second = json.loads(out)
    assert first["overlay"] is None
    assert first["overlay_error"] == f"{tmp_path}/out: No space left on device"
    assert second["overlay"] == f"{tmp_path}/out/b.jpg.overlay.jpg"
    _, out, _ = classify(tmp_path / "a.jpg", "--overlay", tmp_path / "out")
    assert out.rstrip().endswith("no marked copy: " + first["overlay_error"])


# ------------------------------------------------------------------------------ many, and few at once


class Counting:
    """A classifier that scores by the first pixel and remembers how much it was given at once."""

    model_id = "counting"

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def scores(self, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.sizes.append(len(pictures))
        return pictures[:, 0, 0, 0].astype(np.float32) / 255


def decode(content: bytes) -> NDArray[np.uint8]:
    return np.full((227, 227, 3), content[0], np.uint8)


def test_results_come_in_order_and_while_files_are_still_being_listed(tmp_path: Path) -> None:
    listed = 0

    def endless() -> Iterator[bytes]:
        nonlocal listed
        file = tmp_path / "picture"
        file.write_bytes(b"\xff")
        while True:
            listed += 1
            yield os.fsencode(file)

    classifier = Counting()
    results = score(endless(), decode, classifier, Rule(0.5, 0.5), 100)
    first = [next(results) for _ in range(200)]
    assert all(isinstance(each, Scored) and each.verdict is Label.ANOMALY for each in first)
    assert listed < 600, "a folder of any size must not be held in memory"
    assert max(classifier.sizes) == 64


def test_each_file_has_its_own_score_and_refusals_keep_their_place(tmp_path: Path) -> None:
    files: list[bytes | Refused] = []
    for value in range(150):
        file = tmp_path / f"{value:03}"
        file.write_bytes(bytes([value]))
        files.append(os.fsencode(file))
    files.insert(70, Refused(b"folder", "cannot be listed"))
    (tmp_path / "100").unlink()
    results = list(score(files, decode, Counting(), Rule(0.5, 0.5), 100))
    assert [each.path for each in results] == [
        each.path if isinstance(each, Refused) else each for each in files
    ]
    scored = [each for each in results if isinstance(each, Scored)]
    assert len(scored) == 149
    for each in scored:
        assert each.score == pytest.approx(int(os.path.basename(each.path)) / 255)
        assert each.verdict is (Verdict.ANOMALY if each.score >= 0.5 else Verdict.NORMAL)


def test_a_model_that_gives_no_probability_is_not_listened_to(tmp_path: Path) -> None:
    class Broken(Counting):
        def scores(self, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
            return np.full(len(pictures), np.nan, np.float32)

    (tmp_path / "a").write_bytes(b"a")
    with pytest.raises(ModelDisagrees, match="model counting is broken"):
        list(score([os.fsencode(tmp_path / "a")], decode, Broken(), Rule(0.5, 0.5), 100))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may list every folder")
def test_a_folder_that_may_not_be_listed_is_told(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0)
    policy = NamePolicy(["*"], recursive=True)
    [refused] = pictures_in([os.fsencode(tmp_path)], policy)
    assert isinstance(refused, Refused)
    assert refused.error == "cannot be listed: Permission denied"
