"""The generator draws the same bytes everywhere, and what it draws is what it says."""

from __future__ import annotations

import ast
import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from crackwatch import synthetic
from crackwatch.synthetic import draw

# Golden sets refer to these pictures by seed. If a change alters one hash, it alters them all.
PINNED = [
    (0, False, "concrete", 227, "2bc5c107f50fe75f62c1a4f7ac3a0552"),
    (0, True, "concrete", 227, "d7b581e7d3ea8a41aec0a79b0fcdd0ef"),
    (1, False, "concrete", 227, "c92abea73ed8865fcd56e5adb2eb24fa"),
    (1, True, "concrete", 227, "ed9651c390f2fd08fbe954b15e5d8683"),
    (20261101, False, "concrete", 227, "8e9292dda9935f61fc09e9a5a20d07b1"),
    (20261101, True, "concrete", 227, "52d5444143c6b0cf61e2a31d3af71d02"),
    (1099511627783, True, "concrete", 227, "4c89df5ef9d1b64c63b60468154b4e81"),
    (3, False, "brick", 227, "c9f7b2a92b7fb3b65cc268cde5ce13aa"),
    (3, True, "brick", 227, "226a29d88b206309734d4e2ea6ae6b97"),
    (5, True, "concrete", 454, "fd2cee1797003b41375f56b9c023c8d3"),
]


@pytest.mark.parametrize(("seed", "crack", "surface", "side", "sha256"), PINNED)
def test_pictures_are_pinned(seed: int, crack: bool, surface: str, side: int, sha256: str) -> None:
    picture = draw(seed, crack=crack, side=side, surface=surface)
    assert hashlib.sha256(picture.tobytes()).hexdigest()[:32] == sha256


def test_a_processor_without_vector_instructions_draws_the_same() -> None:
    script = (
        "import hashlib; from crackwatch.synthetic import draw\n"
        "h = hashlib.sha256()\n"
        "for seed in range(12): h.update(draw(seed, crack=seed % 2 == 1).tobytes())\n"
        "print(h.hexdigest())"
    )
    # the groups of instructions that this numpy chooses among at run time
    from numpy._core import _multiarray_umath  # private, but nothing public names them

    plain = {**os.environ, "NPY_DISABLE_CPU_FEATURES": " ".join(_multiarray_umath.__cpu_dispatch__)}
    hashes = {
        subprocess.run(
            [sys.executable, "-c", script],
            env=environment,
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
        ).stdout
        for environment in (dict(os.environ), plain)
    }
    assert len(hashes) == 1


def test_only_operations_that_are_exact_by_definition_make_pixels() -> None:
    """``sin``, ``exp``, ``power`` or a sum of floats may differ in the last bit elsewhere."""
    exact = {
        "abs",
        "arange",
        "array",
        "asarray",
        "ascontiguousarray",
        "clip",
        "cumsum",
        "floor",
        "float64",
        "int32",
        "intp",
        "maximum",
        "minimum",
        "prod",
        "random",
        "sqrt",
        "stack",
        "uint64",
        "uint8",
        "zeros",
    }
    modules = sorted(Path(synthetic.__file__).parent.glob("*.py"))
    assert len(modules) > 1
    tree = ast.Module([node for each in modules for node in ast.parse(each.read_text()).body], [])
    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "np"
    }
    assert used <= exact
    powers = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Pow, ast.MatMult))
    ]
    assert {ast.unparse(node) for node in powers} == {"2.0 ** (-53)"}  # a constant
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute):
            assert call.func.attr not in ("sum", "mean", "std", "dot", "normal", "standard_normal")
            if call.func.attr == "cumsum":
                assert any(ast.unparse(keyword) == "dtype=np.int32" for keyword in call.keywords)


@pytest.mark.parametrize("surface", synthetic.SURFACES)
@pytest.mark.parametrize("side", [32, 227, 300])
def test_shape_depth_and_range(surface: str, side: int) -> None:
    picture = draw(4, crack=True, side=side, surface=surface)
    assert picture.shape == (side, side, 3)
    assert picture.dtype == np.uint8
    assert picture.flags.c_contiguous


def test_every_seed_gives_another_picture() -> None:
    seen = {draw(seed, crack=crack).tobytes() for seed in range(40) for crack in (False, True)}
    assert len(seen) == 80


def test_a_crack_is_a_dark_line_through_the_middle_of_the_same_surface() -> None:
    for seed in range(60):
        whole = draw(seed, crack=False).astype(int).sum(axis=2)
        cracked = draw(seed, crack=True).astype(int).sum(axis=2)
        darker = whole - cracked > 60
        assert 0.002 < darker.mean() < 0.25, seed  # a line, not a patch
        assert darker[40:187, 40:187].any(), seed
        touched = [darker[:6], darker[-6:], darker[:, :6], darker[:, -6:]]
        assert sum(bool(edge.any()) for edge in touched) >= 2, seed  # it enters and leaves
        assert (whole == cracked).mean() > 0.3, seed  # and elsewhere nothing has changed


def test_pictures_without_a_crack_are_not_all_alike() -> None:
    """A generator of one grey would make every golden score the same."""
    means = np.array([draw(seed, crack=False).mean(axis=(0, 1)) for seed in range(60)])
    spreads = [draw(seed, crack=False).std() for seed in range(60)]
    assert means.mean(axis=1).std() > 12
    assert (means[:, 2] - means[:, 0]).std() > 3  # grey to beige
    assert max(spreads) > 2 * min(spreads)


def test_brick_is_nothing_like_concrete() -> None:
    def redness(surface: str) -> float:
        means = [draw(seed, crack=False, surface=surface).mean(axis=(0, 1)) for seed in range(10)]
        return float(np.mean([mean[2] - mean[0] for mean in means]))

    assert redness("brick") > redness("concrete") + 25


@pytest.mark.parametrize(
    "arguments",
    [{"seed": -1}, {"seed": 1, "side": 31}, {"seed": 1, "surface": "marble"}],
)
def test_senseless_arguments_are_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="must be"):
        draw(**{"crack": False, **arguments})  # type: ignore[arg-type] # that is the point


def test_it_is_quick() -> None:
    began = time.process_time()
    for seed in range(20):
        draw(seed, crack=True)
    assert (time.process_time() - began) / 20 < 0.1  # about 0.01 on an idle core
