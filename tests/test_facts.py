"""Facts cannot be changed once they are made, nor be given what they have no word for."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "crackwatch"

# What is filled in as it goes, and is nobody's fact until then.
GATHERED = {
    "arrivals/gate.py: Candidate",
    "dataset/pictures.py: _Decoded",
    "evaluation/__init__.py: _Decoded",
    "images/complaints.py: Heard",
    "inbox.py: _Listing",
    "inbox.py: _PassedOver",
    "pipeline.py: _Done",
    "pipeline.py: _Untold",
    "retention.py: PlaceOutcome",
}


def dataclasses() -> Iterator[tuple[str, dict[str, object]]]:
    """Each dataclass of the package, and what it is told to be."""
    for file in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            for each in getattr(node, "decorator_list", []):
                said = each.func if isinstance(each, ast.Call) else each
                if isinstance(node, ast.ClassDef) and ast.unparse(said).endswith("dataclass"):
                    options = {
                        word.arg or "**": ast.literal_eval(word.value)
                        for word in (each.keywords if isinstance(each, ast.Call) else ())
                    }
                    yield f"{file.relative_to(PACKAGE)}: {node.name}", options


def test_a_fact_cannot_be_changed_and_what_is_still_gathered_has_a_row_here() -> None:
    assert {name for name, options in dataclasses() if not options.get("frozen")} == GATHERED


def test_nothing_can_be_hung_on_a_fact() -> None:
    assert [name for name, options in dataclasses() if not options.get("slots")] == []


def test_a_fact_is_told_nothing_else() -> None:
    words = {word for _, options in dataclasses() for word in options}
    assert words <= {"frozen", "slots"}
