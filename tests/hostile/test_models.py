"""A model's folder that was damaged or made up is refused in a sentence, and nothing in it is run."""

from __future__ import annotations

import ast
import io
import json
import os
import random
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import crackwatch
from crackwatch import learned
from crackwatch.agreement import GOLDEN_FILE, read_golden
from crackwatch.errors import ModelError, ModelTampered
from crackwatch.registry import Registry, read_card
from crackwatch.runtime import load
from crackwatch.runtime.weights import read_keras
from tests.hostile.fuzzing import TIMES, examples
from tests.model_folders import card, publish

# ------------------------------------------------------------------------------ what is never run


def calls() -> Iterator[tuple[str, ast.Call]]:
    """Every call in crackwatch's own code: the file and the call."""
    for path in sorted(Path(crackwatch.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                yield path.name, node


def name_of(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def test_safe_mode_stays_on_wherever_keras_opens_a_file() -> None:
    opened = [(file, call) for file, call in calls() if name_of(call) == "load_model"]
    assert len(opened) >= 3  # or this test looks for something that is not called so any more
    for file, call in opened:
        given_ = {each.arg: ast.unparse(each.value) for each in call.keywords}
        assert given_.get("safe_mode") == "True", file
    assert not [file for file, call in calls() if "unsafe" in name_of(call)]


def test_nothing_that_runs_what_it_reads_is_ever_asked_to_read() -> None:
    for file, call in calls():
        allowed = [each.value for each in call.keywords if each.arg == "allow_pickle"]
        assert all(ast.unparse(each) == "False" for each in allowed), file
        assert name_of(call) not in ("eval", "exec"), file
    for path in Path(crackwatch.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [each.name for each in node.names]
                module = getattr(node, "module", "") or ""
                imported = {module.split(".")[0], *(each.split(".")[0] for each in names)}
                assert not imported & {"pickle", "marshal", "joblib", "dill", "shelve"}, path.name


def keras_file(config: object, weights: bytes = b"") -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        archive.writestr("metadata.json", '{"keras_version": "3.15.1", "date_saved": ""}')
        archive.writestr("config.json", json.dumps(config))
        archive.writestr("model.weights.h5", weights)
    return held.getvalue()


def layer(kind: str, **config: Any) -> dict[str, Any]:
    return {"module": "keras.layers", "class_name": kind, "config": config, "registered_name": None}


def sequential(*layers: dict[str, Any]) -> dict[str, Any]:
    entrance = layer("InputLayer", batch_shape=[None, 227, 227, 3], dtype="float32", name="in")
    return {
        "module": "keras",
        "class_name": "Sequential",
        "config": {
            "name": "s",
            "trainable": True,
            "dtype": "float32",
            "layers": [entrance, *layers],
        },
        "registered_name": None,
        "build_config": {"input_shape": [None, 227, 227, 3]},
    }


def touching(path: Path) -> list[dict[str, Any]]:
    """Models that would make ``path`` if what they hold were run."""
    code: Any = compile(f"lambda x: open({str(path)!r}, 'w') and x", "x", "eval").co_consts[0]
    import base64
    import marshal

    packed = base64.b64encode(marshal.dumps(code)).decode()
    function = {
        "class_name": "__lambda__",
        "config": {"code": packed, "defaults": None, "closure": None},
    }
    by_name = {
        "module": "os",
        "class_name": "function",
        "config": "mkdir",
        "registered_name": "mkdir",
    }
    called = {
        "module": "pathlib",
        "class_name": "Path",
        "config": {"args": [str(path)]},
        "registered_name": None,
    }
    return [
        sequential(layer("Lambda", name="l", function=function, arguments={})),
        sequential(layer("Lambda", name="l", function=by_name, arguments={"path": str(path)})),
        sequential(layer("Activation", name="a", activation=function)),
        sequential(layer("Activation", name="a", activation=by_name)),
        sequential(called),
        {"module": "subprocess", "class_name": "Popen", "config": {"args": ["touch", str(path)]},
         "registered_name": None},
        {"module": "keras.config", "class_name": "enable_unsafe_deserialization", "config": {},
         "registered_name": None},
    ]  # fmt: skip


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "models")


@pytest.mark.timeout(300)  # Keras is loaded, by a busy machine in a minute
def test_a_model_that_carries_code_is_refused_though_its_hash_is_right(
    registry: Registry, tmp_path: Path
) -> None:
    victim = tmp_path / "victim"
    for number, config in enumerate(touching(victim)):
        content = keras_file(config)
        folder = publish(registry, f"model-{number}", content)
        hostile = registry.verify(f"model-{number}")  # its card tells the truth of its files
        with pytest.raises(ModelError, match="Keras cannot load it"):
            load(folder, hostile, "keras")
        with pytest.raises(ModelError):
            read_keras(folder / "lenet.keras").weights["l"]
        assert not victim.exists()


def test_a_model_of_another_hash_is_not_even_opened(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = publish(registry, "model")
    true = registry.verify("model")
    (folder / "lenet.keras").write_bytes(keras_file(touching(tmp_path / "victim")[0]))
    monkeypatch.setattr(zipfile, "ZipFile", lambda *_: pytest.fail("it was opened"))
    for refuse in (
        lambda: registry.verify("model"),
        lambda: registry.promote("model"),
        lambda: load(folder, true, "keras"),
    ):
        with pytest.raises(ModelTampered, match="is not the file that was published"):
            refuse()


# ---------------------------------------------------------------------------------- lenet.keras


def weights_file(place: Path, make: Any) -> bytes:
    file = place / "w.h5"
    with h5py.File(file, "w") as opened:
        make(opened)
    return file.read_bytes()


CONVOLUTION = layer("Conv2D", name="c", filters=1, kernel_size=[1, 1])


def honest(opened: Any) -> None:
    opened["layers/conv2d/vars/0"] = np.ones((1, 1, 3, 1), np.float32)


def linked(opened: Any) -> None:
    opened["layers/conv2d/vars/0"] = h5py.ExternalLink("secret.h5", "/a")


def linked_whole(opened: Any) -> None:
    opened["layers"] = h5py.ExternalLink("secret.h5", "/")


def stored_elsewhere(opened: Any) -> None:
    group = opened.create_group("layers/conv2d/vars")
    group.create_dataset("0", (3,), np.uint8, external=[("/etc/passwd", 0, 3)])


@pytest.mark.parametrize("make", [linked, linked_whole, stored_elsewhere])
def test_weights_that_lead_into_other_files_are_refused(tmp_path: Path, make: Any) -> None:
    (tmp_path / "secret.h5").write_bytes(weights_file(tmp_path, lambda it: it.update({"a": [1.0]})))
    file = tmp_path / "lenet.keras"
    file.write_bytes(keras_file(sequential(CONVOLUTION), weights_file(tmp_path, honest)))
    assert read_keras(file).weights["c"][0].shape == (1, 1, 3, 1)
    file.write_bytes(keras_file(sequential(CONVOLUTION), weights_file(tmp_path, make)))
    with pytest.raises(ModelError, match="weights cannot be read"):
        read_keras(file)


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=6)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=6,
)


def changed(document: Any, way: list[int], value: Any) -> Any:
    """``document`` with ``value`` where the numbers of ``way`` lead."""
    keys = list(document) if isinstance(document, dict) else list(range(len(document)))
    key = keys[way[0] % len(keys)]
    copy = document.copy()
    deeper = len(way) > 1 and isinstance(copy[key], dict | list) and copy[key]
    copy[key] = changed(copy[key], way[1:], value) if deeper else value
    return copy


ways = st.lists(st.integers(0, 40), min_size=1, max_size=6)


@examples(60)
@given(ways, json_values)
def test_whatever_a_model_is_described_as_it_is_read_or_refused(
    tmp_path: Path, way: list[int], value: Any
) -> None:
    file = tmp_path / "lenet.keras"
    stored = weights_file(tmp_path, honest)
    file.write_bytes(keras_file(changed(sequential(CONVOLUTION), way, value), stored))
    try:
        read_keras(file)
    except ModelError as exc:
        assert str(file) in exc.problem and exc.remedy  # noqa: PT017 - both are claims


def flipped(content: bytes, seed: int) -> bytes:
    chance = random.Random(seed)
    damaged = bytearray(content)
    for _ in range(chance.choice((1, 2, 6))):
        damaged[chance.randrange(len(damaged))] = chance.randrange(256)
    return bytes(
        damaged[: chance.choice((len(damaged), len(damaged), chance.randrange(len(damaged))))]
    )


def test_a_damaged_model_file_is_read_or_refused(tmp_path: Path) -> None:
    content = keras_file(sequential(CONVOLUTION), weights_file(tmp_path, honest))
    file = tmp_path / "lenet.keras"
    refused = 0
    for seed in range(150 * TIMES):
        file.write_bytes(flipped(content, seed))
        try:
            read_keras(file)
        except ModelError:
            refused += 1
    assert refused > 50


# ------------------------------------------------------------------------------ learned.npz, golden


def some_learned(rows: int = 4) -> learned.Learned:
    return learned.Learned(
        np.zeros((rows, 16), np.uint8), np.zeros((rows, 8), np.uint8), np.zeros(rows, np.int8),
        np.zeros(rows, np.int32), np.zeros(rows, np.int8), np.zeros(rows, np.float32),
        np.zeros(rows, bool),
    )  # fmt: skip


def test_a_damaged_learned_npz_is_read_or_refused(tmp_path: Path) -> None:
    learned.write(tmp_path, some_learned())
    file = tmp_path / learned.LEARNED_FILE
    content = file.read_bytes()
    refused = 0
    for seed in range(400 * TIMES):
        file.write_bytes(flipped(content, seed))
        try:
            assert learned.read(tmp_path) is not None
        except ModelTampered:
            refused += 1
    assert refused > 100


def array_of(header: bytes, body: bytes = b"") -> bytes:
    return b"\x93NUMPY\x01\0" + struct.pack("<H", len(header)) + header + body


def shaped(shape: str) -> bytes:
    return array_of(f"{{'descr': '|i1', 'fortran_order': False, 'shape': {shape}, }}\n".encode())


MADE_UP = {
    "text": b"hello",
    "a pickle": b"\x80\x04.",
    "an object that unpickling would run": array_of(
        b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }\n", b"cos\nsystem\n(S'x'\ntR."
    ),
    "larger than all memory": shaped("(1099511627776000,)"),
    "larger than all numbers": shaped("(99999999999999999999999,)"),
    "of less than no rows": shaped("(-4,)"),
    "a header without end": array_of(b"(" * 9_000),
    "a header that calls": array_of(b"__import__('os').system('x')\n"),
    "a number": array_of(b"{'descr': '<f4', 'fortran_order': False, 'shape': (), }\n", bytes(4)),
    "words": array_of(b"{'descr': '<U1', 'fortran_order': False, 'shape': (4,), }\n", bytes(16)),
}


@pytest.mark.parametrize("name", MADE_UP)
def test_arrays_that_are_made_up_are_refused(tmp_path: Path, name: str) -> None:
    learned.write(tmp_path, some_learned())
    file = tmp_path / learned.LEARNED_FILE
    with zipfile.ZipFile(file) as archive:
        members = {each: archive.read(each) for each in archive.namelist()}
    with zipfile.ZipFile(file, "w") as archive:
        for each, content in members.items():
            archive.writestr(each, MADE_UP[name] if each == "labels.npy" else content)
    with pytest.raises(ModelTampered, match=r"learned\.npz: cannot be read"):
        learned.read(tmp_path)
    golden = tmp_path / GOLDEN_FILE
    golden.parent.mkdir()
    for content in (MADE_UP[name], file.read_bytes()):  # an archive is no array
        golden.write_bytes(content)
        with pytest.raises(ModelTampered, match=r"pictures\.npy: cannot be read"):
            read_golden(tmp_path, card("model"))
    file.write_bytes(members["labels.npy"])  # an array is no archive
    with pytest.raises(ModelTampered):
        learned.read(tmp_path)


# -------------------------------------------------------------------------------- card and pointers


@examples(150)
@given(st.one_of(st.tuples(ways, json_values), st.binary(max_size=60)))
def test_whatever_card_json_holds_it_is_a_card_or_refused(tmp_path: Path, change: Any) -> None:
    if isinstance(change, bytes):
        content = change
    else:
        document = changed(json.loads(card("model").to_json()), *change)
        content = json.dumps(document).encode("utf-8", "replace")
    (tmp_path / "card.json").write_bytes(content)
    try:
        read = read_card(tmp_path)
    except ModelError as exc:
        assert "card.json" in exc.problem and exc.remedy  # noqa: PT017 - both are claims
        return
    assert not any(os.path.isabs(name) or ".." in name.split("/") for name in read.files)


pointers = st.one_of(
    st.binary(max_size=300),
    st.sampled_from([b"../../etc", b"/etc", b"model\0", b".", b"champion", b"model/../x", b"-"]),
    st.tuples(st.sampled_from([b"- ", b"model ", b""]), st.binary(max_size=40)).map(b"".join),
)


@examples(100)
@given(st.sampled_from(["champion", "previous", ".promotion"]), pointers)
def test_no_pointer_leads_out_of_the_folder(
    tmp_path_factory: pytest.TempPathFactory, which: str, content: bytes
) -> None:
    registry = Registry(tmp_path_factory.getbasetemp() / "pointed")
    if not registry.ids():
        publish(registry, "model")
    for name in ("champion", "previous", ".promotion"):
        (registry.folder / name).unlink(missing_ok=True)
    (registry.folder / which).write_bytes(content)
    for ask in (registry.champion, registry.previous):
        try:
            model_id = ask()
        except ModelTampered:
            continue
        if model_id is not None:
            assert os.path.dirname(os.path.normpath(registry.folder / model_id)) == str(
                registry.folder
            )
    registry.promote("model")  # whatever they held, one promotion puts them right
    assert registry.champion() == "model"
