"""Mutants: small faults written into a copy of the code, each of which some test has to notice.

``python -m tests.faults.mutants --count 100 --seed S`` (``make mutants``) draws places from the seed
in the modules that carry a picture through the station, changes one operator, number, condition or
statement at a time, and runs the tests of that module on the copy until one fails. The checkout is
not touched. ``--only N`` makes the N-th mutant of the seed again; ``--done FILE`` remembers what was
tried, so that it can be taken up again. Exits with 1 if fewer than 90 % were killed.
"""

from __future__ import annotations

import argparse
import ast
import copy
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]
_ENOUGH = 0.9
_TEST_S = 60  # a test that a mutant makes wait for ever need not be waited for as long as usual

# The modules, and the tests that are about them: those that take no model first. Modules in which
# nothing can be changed, such as ``syncing``, have no row.
TESTS: dict[str, tuple[str, ...]] = {
    "crackwatch/pipeline.py": (
        "test_facts",
        "test_pipeline",
        "test_inspector",
        "test_station_photographs",
    ),
    "crackwatch/batching.py": ("test_batching",),
    "crackwatch/filing/mover.py": ("test_mover", "faults/test_sweep"),
    "crackwatch/filing/contents.py": (
        "test_sidecars",
        "test_mover",
        "test_requeue",
        "faults/test_sweep",
    ),
    "crackwatch/filing/sidecars.py": (
        "test_sidecars",
        "test_mover",
        "test_requeue",
        "faults/test_sweep",
    ),
    "crackwatch/filing/names.py": ("test_names", "test_pipeline"),
    "crackwatch/filing/durable.py": ("test_durable", "test_mover", "faults/test_controls"),
    "crackwatch/arrivals/gate.py": ("test_settling", "test_facts", "test_intake", "test_watcher"),
    "crackwatch/arrivals/intake.py": ("test_facts", "test_intake", "test_watcher"),
    "crackwatch/arrivals/known.py": ("test_known", "test_intake"),
    "crackwatch/arrivals/watcher.py": ("test_sentinel", "test_watcher"),
    "crackwatch/arrivals/sentinel.py": ("test_sentinel", "test_watcher"),
    "crackwatch/store/books.py": ("test_books", "test_store", "test_pipeline"),
    "crackwatch/store/engine.py": ("test_store",),
    "crackwatch/store/standing.py": ("test_audit", "test_report"),
}

_COMPARED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE,
    ast.GtE: ast.Gt, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
_COUNTED: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change: where, what it was and what it became."""

    file: str
    line: int
    what: str
    make: Callable[[], str] = field(compare=False)

    @property
    def source(self) -> str:
        """The whole module with the change in it."""
        return self.make()

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.what}"


def mutants(file: str, text: str) -> Iterator[Mutant]:
    """Every mutant of a module, in the order of its text."""
    tree = ast.parse(text)
    unread = _unread(tree)
    for index, node in enumerate(ast.walk(tree)):
        if node in unread:
            continue
        for what, change in _changes(node):
            yield Mutant(
                file, getattr(node, "lineno", 0), what, partial(_changed, tree, index, change)
            )


def _unread(tree: ast.Module) -> set[ast.AST]:
    """What no program that works can tell: annotations, and whether a dataclass is frozen."""
    roots: list[ast.expr | None] = []
    for node in ast.walk(tree):
        match node:
            case ast.arg(annotation=found) | ast.AnnAssign(annotation=found):
                roots.append(found)
            case ast.FunctionDef(returns=found) | ast.AsyncFunctionDef(returns=found):
                roots.append(found)
            case ast.ClassDef(decorator_list=found):
                roots += found
    return {inner for root in roots if root is not None for inner in ast.walk(root)}


def _changed(tree: ast.Module, index: int, change: Callable[[ast.AST], None]) -> str:
    other = copy.deepcopy(tree)
    change(next(node for at, node in enumerate(ast.walk(other)) if at == index))
    return ast.unparse(ast.fix_missing_locations(other)) + "\n"


def _changes(node: ast.AST) -> Iterator[tuple[str, Callable[[ast.AST], None]]]:
    """What can be done to a node: words for it, and the deed."""
    match node:
        case ast.Compare(ops=[op]) if type(op) in _COMPARED:
            other = _COMPARED[type(op)]
            yield f"{_said(node)}: {_name(op)} to {other.__name__}", _set("ops", lambda: [other()])
        case ast.BinOp(op=op) if type(op) in _COUNTED:
            new = _COUNTED[type(op)]
            yield f"{_said(node)}: {_name(op)} to {new.__name__}", _set("op", lambda: new())
        case ast.BoolOp(op=op):
            flipped = ast.Or if isinstance(op, ast.And) else ast.And
            yield f"{_said(node)}: to {flipped.__name__}", _set("op", lambda: flipped())
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            twice = ast.UnaryOp(ast.Not(), operand)
            yield f"{_said(node)}: not removed", _set("operand", lambda: copy.deepcopy(twice))
        case ast.Constant(value=bool() as value):
            yield f"{value} to {not value}", _set("value", lambda: not value)
        case ast.Constant(value=int() as number) if not isinstance(number, bool):
            yield f"{number} to {number + 1}", _set("value", lambda: number + 1)
        case ast.If() | ast.While() if not _is_type_checking(node.test):
            negated = ast.UnaryOp(ast.Not(), node.test)
            yield f"if {_said(node.test)}: negated", _set("test", lambda: copy.deepcopy(negated))
        case ast.FunctionDef(body=body) | ast.If(body=body) | ast.With(body=body):
            for at, statement in enumerate(body):
                if isinstance(statement, (ast.Expr, ast.AugAssign)) and not _is_text(statement):
                    yield f"{_said(statement)}: left out", _drop(at)
        case _:
            return


def _set(name: str, make: Callable[[], object]) -> Callable[[ast.AST], None]:
    return lambda node: setattr(node, name, make())


def _drop(at: int) -> Callable[[ast.AST], None]:
    def drop(node: ast.AST) -> None:
        assert isinstance(node, (ast.FunctionDef, ast.If, ast.With))
        node.body[at] = ast.Pass()

    return drop


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _is_type_checking(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id == "TYPE_CHECKING"


def _name(op: ast.AST) -> str:
    return type(op).__name__


def _said(node: ast.AST) -> str:
    text = " ".join(ast.unparse(node).split())
    return text if len(text) <= 60 else text[:57] + "..."


def drawn(count: int, seed: int) -> list[Mutant]:
    """So many mutants, each module in proportion to what can be changed in it."""
    every: list[Mutant] = []
    for file in TESTS:
        every += mutants(file, (_ROOT / file).read_text("utf-8"))
    return random.Random(seed).sample(every, min(count, len(every)))


def survives(mutant: Mutant, checkout: Path, patience_s: float) -> bool:
    """Whether every test of that module passes on the copy; one that hangs has noticed it."""
    target = checkout / mutant.file
    original = target.read_text("utf-8")
    try:
        target.write_text(mutant.source, "utf-8")
        return _pass(checkout, _tests(mutant.file), patience_s)
    finally:
        target.write_text(original, "utf-8")


def _tests(file: str) -> list[str]:
    return [f"tests/{each}.py" for each in TESTS[file]]


def _pass(
    checkout: Path, tests: Sequence[str], patience_s: float, said: Path = Path(os.devnull)
) -> bool:
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-n0", "-p", "no:cacheprovider"]
    command += ["-o", f"timeout={_TEST_S}", *tests]
    environment = {**os.environ, "PYTHONPATH": str(checkout), "PYTHONDONTWRITEBYTECODE": "1"}
    with (
        said.open("wb") as output,
        subprocess.Popen(
            command,
            cwd=checkout,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        ) as child,
    ):
        try:
            return child.wait(patience_s) == 0
        except subprocess.TimeoutExpired:
            child.kill()
            return False


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m tests.faults.mutants", description=__doc__)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=20_261_123)
    parser.add_argument("--only", type=int, help="the mutant of this number, counted from 1")
    parser.add_argument("--show", action="store_true", help="list them, and try none")
    parser.add_argument("--done", type=Path, help="a file that remembers what was tried")
    parser.add_argument("--patience-s", type=float, default=300.0, help="for the tests of one")
    options = parser.parse_args(arguments)
    numbered = list(enumerate(drawn(options.count, options.seed), 1))
    if options.only:
        numbered = [numbered[options.only - 1]]
    if options.show:
        for number, mutant in numbered:
            print(f"{number:4} {mutant}")
        return 0
    tried: dict[str, bool] = {}
    if options.done and options.done.exists():
        tried = json.loads(options.done.read_text("utf-8"))
    with tempfile.TemporaryDirectory(prefix="crackwatch-mutants-") as folder:
        os.chmod(folder, 0o755)  # some tests are an ordinary user's
        checkout = Path(folder) / "checkout"
        left_out = shutil.ignore_patterns(".git", ".venv", "__pycache__", ".*_cache", "dist")
        shutil.copytree(_ROOT, checkout, ignore=left_out)
        waiting = {mutant.file for _, mutant in numbered if str(mutant) not in tried}
        for file in sorted(waiting):
            # else each of its mutants would count as killed, by a test that fails anyway
            said = Path(folder) / "said"
            if not _pass(checkout, _tests(file), options.patience_s, said):
                last = "\n".join(said.read_text("utf-8", "replace").splitlines()[-20:])
                print(f"{file}: its tests fail without any mutant:\n{last}", file=sys.stderr)
                return 2
        for number, mutant in numbered:
            if str(mutant) not in tried:
                tried[str(mutant)] = survives(mutant, checkout, options.patience_s)
                if options.done:
                    options.done.write_text(json.dumps(tried, indent=0), "utf-8")
            word = "SURVIVED" if tried[str(mutant)] else "killed"
            print(f"{number:4} {word:8} {mutant}", flush=True)
    survived = sum(tried[str(mutant)] for _, mutant in numbered)
    killed = len(numbered) - survived
    print(f"seed {options.seed}: {killed} of {len(numbered)} mutants killed")
    return int(killed < _ENOUGH * len(numbered))


if __name__ == "__main__":
    raise SystemExit(main())
