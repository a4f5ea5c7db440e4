"""Claims about the mutants: each is one change to working code, and a test that fails kills it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.faults import mutants
from tests.faults.mutants import Mutant, drawn, survives

TEXT = """\
@dataclass(frozen=True)
class Fact:
    'Nor this.'

def both(a: int | None, b: int) -> bool | None:
    'Not a word of this is changed.'
    log.append(a)
    if a < b and not done:
        return a + 1 == b
    return False
"""


def test_each_mutant_is_one_change_that_still_is_python() -> None:
    found = list(mutants.mutants("m.py", TEXT))
    plain = ast.unparse(ast.parse(TEXT)) + "\n"
    assert [each.what for each in found if each.source == plain] == []
    for each in found:
        changed = [
            (old, new)
            for old, new in zip(plain.splitlines(), each.source.splitlines(), strict=True)
            if old != new
        ]
        assert len(changed) == 1, each
    said = " | ".join(sorted(each.what for each in found))
    for word in ("Lt to LtE", "Eq to NotEq", "to Or", "not removed", "1 to 2", "False to True"):
        assert word in said
    assert "left out" in said and "negated" in said
    assert "BitOr" not in said and "True to False" not in said  # nobody could tell


def test_what_is_only_said_of_a_type_is_not_changed() -> None:
    text = "def f(a: int | None, *b: 1 | 2) -> int | None:\n    c: int | None\n    return a | 4\n"
    assert [each.what for each in mutants.mutants("m.py", text)] == [
        "a | 4: BitOr to BitAnd",
        "4 to 5",
    ]


def test_every_module_postpones_its_annotations() -> None:
    for file in mutants.TESTS:
        assert "from __future__ import annotations\n" in (mutants._ROOT / file).read_text("utf-8")


def test_a_seed_draws_the_same_mutants_again_from_every_module() -> None:
    every = drawn(10_000, 1)
    assert {each.file for each in every} == set(mutants.TESTS)
    assert drawn(20, 7) == drawn(20, 7) != drawn(20, 8)


@pytest.mark.parametrize(("test", "lives"), [("assert f(2) == 3", False), ("assert f(0)", True)])
def test_a_mutant_lives_if_no_test_minds_and_the_copy_is_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, test: str, lives: bool
) -> None:
    module = tmp_path / "m.py"
    module.write_text("def f(a):\n    return a + 1\n")
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_m.py").write_text(f"from m import f\n\ndef test_f():\n    {test}\n")
    monkeypatch.setitem(mutants.TESTS, "m.py", ("test_m",))
    mutant = Mutant("m.py", 2, "1 to 2", lambda: "def f(a):\n    return a + 2\n")
    assert survives(mutant, tmp_path, 60.0) is lives
    assert module.read_text() == "def f(a):\n    return a + 1\n"
