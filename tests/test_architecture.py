"""Claims about who knows whom: the tables here are the architecture, and the code keeps to them.

Imports are read from the source, those inside functions included, so that nothing hides in a
branch that no test runs.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from crackwatch.cli import COMMANDS, execute

PACKAGE = Path(__file__).resolve().parents[1] / "crackwatch"

# Who may import which other part of crackwatch; those in EVERYBODYS are everybody's. A module
# with a row of its own is not bound by its package's. cli and demo stand above the table: they wire.
MAY_IMPORT: dict[str, set[str]] = {
    # facts, and what is as plain as they are
    "days": set(),
    "domain": set(),
    "errors": set(),
    "escaping": set(),
    "packaged": set(),
    "reported": set(),
    "syncing": set(),
    "settings": set(),
    "config_file": {"settings"},
    "logs": set(),
    "locking": set(),
    "people": set(),
    "tiling": {"runtime"},  # the side of the model's input
    "scales": set(),
    "score_map": set(),
    "verdict": {"score_map", "tiling"},
    "second_look": {"runtime", "tiling", "verdict"},
    "views": {"examining", "runtime", "second_look", "verdict"},
    "batching": set(),
    "unread": set(),
    "likeness": set(),
    "inbox": set(),
    # what can be asked of any model, and of its card
    "runtime": set(),
    "runtime.weights": set(),
    "examining": {"runtime"},
    "registry": {"likeness", "locking", "syncing"},
    # one outside world each
    "arrivals": {"inbox"},
    "images": {"runtime", "score_map", "tiling"},  # the model's side; where tiles lie, their scores
    "runtime.openvino": {"runtime", "runtime.weights"},
    "runtime.reference": {"runtime"},
    "store": {"packaged", "syncing"},
    "filing": {"inbox", "syncing"},
    "health": {"health.drift", "inbox", "locking"},
    "health.drift": {"likeness"},  # arithmetic, for the publisher and the reports as well
    "reporting": {"__version__", "health.drift", "tiled_words"},
    "reporting.render_promise": {"bounds", "promise"},
    # the parts brought together, each in one place
    "agreement": {"registry", "runtime"},
    # its adapters are Protocols
    "pipeline": {"examining", "inbox", "runtime", "unread", "verdict", "views"},
    "heartbeat": {"agreement", "health", "pipeline", "registry"},
    "champion": {"agreement", "pipeline", "registry", "runtime", "settings", "views"},
    "audited": set(),
    "on_disk": {"inbox"},
    "audit": {"audited", "inbox", "on_disk"},
    "scoring": {"examining", "inbox", "runtime", "views"},
    "suspects": set(),
    "departures": {"filing", "locking"},
    "requeue": set(),
    "repair": {"audited", "filing", "inbox"},
    "retention": {"departures", "requeue"},
    "housekeeping": {
        "departures", "filing", "health", "retention", "settings", "store",
    },
    "driftwatch": {"health", "health.drift", "likeness"},
    "inspector": {
        "arrivals", "batching", "champion", "health", "heartbeat", "housekeeping", "pipeline",
        "registry", "settings",
    },
    "decoding": {"images", "inbox", "runtime", "scales", "settings", "views"},
    "marked": {"filing", "images", "inbox", "score_map"},
    "belonging": {"inbox"},
    "naming": {"belonging", "settings"},
    "own_places": {"belonging", "health", "inbox", "settings"},
    "conditions": {"health", "settings"},
    "daemon": {
        "arrivals", "batching", "belonging", "champion", "conditions", "decoding", "filing",
        "health", "heartbeat", "housekeeping", "images", "inbox", "inspector", "locking", "logs",
        "marked", "naming", "own_places", "pipeline", "registry", "settings", "store", "suspects", "telling",
    },
    "telling": {
        "arrivals", "driftwatch", "health", "heartbeat", "inspector", "scales", "settings", "store",
    },
    "synthetic": {"runtime"},
    "learned": set(),
    "bounds": set(),
    "labelled_scores": set(),
    "promise": {"bounds", "labelled_scores"},
    "promised": {"promise", "registry"},
    "tails": {"bounds"},
    "tiled_promise": {"bounds", "labelled_scores", "promise", "tails"},
    "tiled_words": {"tiled_promise"},  # its types; and from which score on a label is doubted
    "heatmaps": {"runtime", "runtime.weights"},
    "starters": {"agreement", "registry", "runtime", "runtime.openvino", "synthetic"},
    "review": {"dataset", "filing", "people", "store", "syncing"},
    # the workshop
    "dataset": {"runtime"},
    "evaluation": {"dataset", "runtime"},
    "evaluation.photographs": {
        "dataset", "examining", "runtime", "second_look", "verdict", "views",
    },
    "lenet": {"runtime"},
    "training": {
        "agreement", "dataset", "evaluation", "labelled_scores", "learned", "lenet", "likeness", "locking",
        "promise", "promised", "registry", "runtime", "syncing", "tiled_promise", "tiled_words",
    },
    "training.worker": {"dataset", "images", "lenet", "training"},
    "training.campaign": {"dataset", "images", "training"},
    "training.ship": {
        "agreement", "dataset", "evaluation", "images", "labelled_scores", "learned", "packaged",
        "registry", "runtime", "starters", "training",
    },
}  # fmt: skip
EVERYBODYS = {"days", "domain", "errors", "escaping", "reported"}
WIRING = {"cli", "demo", "__main__"}

# Each knows one library or one corner of the kernel, and none of them knows another.
ADAPTERS = {
    "arrivals", "images", "runtime.openvino", "runtime.reference", "store", "filing", "registry",
    "reporting", "health",
}  # fmt: skip

# The modules through which alone a library is reached.
DOORS: dict[str, set[str]] = {
    "watchdog": {"arrivals.watcher"},
    "cv2": {"images", "images.conversion", "images.keypoints", "images.light",
            "images.overlay", "images.photographs", "images.strips", "images.warping", "images.whole"},
    "pyvips": {"images.strips"},
    "openvino": {"runtime.openvino"},
    "h5py": {"runtime.weights"},
    "keras": {"lenet", "runtime.reference", "training.fitting", "training.making",
              "training.worker"},
    "tensorflow": {"training.fitting", "training.quiet"},
    "sqlalchemy": {"store.audits", "store.books", "store.departures", "store.drift", "store.engine", "store.heartbeats",
                   "store.inspected", "store.newest", "store.photographs", "store.quarantined", "store.recent", "store.renaming", "store.reports", "store.reviews", "store.schema", "store.standing"},
    "alembic": {"store.migrate"},
    "pydantic": {"config_file", "settings", "registry.card"},
    "pydantic_core": {"config_file"},
    "structlog": {"logs", "heartbeat", "housekeeping", "inspector"},  # the three: the type of the logger handed in
    "dateparser": {"reporting.when"},
    "jinja2": {"reporting.render_html"},
    "rich": {"reporting.render_table", "cli.progress", "cli.retrain", "demo"},
    "sklearn": {"evaluation", "evaluation.curves"},
    "scipy": {
        "bounds", "evaluation", "labelled_scores", "promise", "tails", "tiled_promise",
        "training.calibration", "training.deciding",
        "training.findings", "training.gate", "training.honest",
        "training.retraining",
    },
    "matplotlib": {
        "evaluation.contact_sheet", "evaluation.operating", "evaluation.plot_tradeoffs",
        "evaluation.plot_verdicts", "evaluation.plots", "evaluation.shown", "evaluation.style",
    },
}  # fmt: skip
CLICKS = {"cli", "training.campaign", "training.ship"}  # everything below cli may use click

HEAVY = ("tensorflow", "keras", "cv2", "pyvips", "openvino", "sklearn", "scipy", "matplotlib")


@cache
def modules() -> dict[str, ast.Module]:
    """Every module of the package by its name below ``crackwatch``; the package itself is ""."""
    found = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        parts = file.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = ast.parse(file.read_text("utf-8"), str(file))
    return found


def imported(tree: ast.Module) -> set[str]:
    """Dotted names that a module imports anywhere in it, ``from a import b`` as ``a.b``."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import in line {node.lineno}"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def libraries(tree: ast.Module) -> set[str]:
    """Top names of what a module imports from outside the standard library and crackwatch."""
    tops = {name.partition(".")[0] for name in imported(tree)}
    return tops - set(sys.stdlib_module_names) - {"crackwatch"}


def row_of(module: str, rows: set[str]) -> str:
    """The row that binds a module: its own, else that of the nearest package above it."""
    name = module
    while name not in rows:
        name, dot, _ = name.rpartition(".")
        assert dot, f"crackwatch.{module} has no row in the table: say what it may import"
    return name


def parts_used(module: str, tree: ast.Module) -> set[str]:
    """The rows of the other parts that a module imports.

    A package's own modules are no other part to its root, which may choose between them.
    """
    rows = set(MAY_IMPORT) | WIRING | {"__version__"}
    mine = row_of(module, rows)
    used = set()
    for name in imported(tree):
        if name.startswith("crackwatch."):
            used.add(row_of(name.removeprefix("crackwatch."), rows))
    return {row for row in used - {mine} if not row.startswith(f"{module}.")}


def below_cli() -> list[str]:
    return [name for name in modules() if name and name.partition(".")[0] not in WIRING]


@pytest.mark.parametrize("module", below_cli())
def test_a_module_imports_only_the_parts_that_its_row_names(module: str) -> None:
    allowed = MAY_IMPORT[row_of(module, set(MAY_IMPORT))] | EVERYBODYS
    assert parts_used(module, modules()[module]) <= allowed


def test_no_row_allows_what_nobody_uses() -> None:
    used: dict[str, set[str]] = {row: set() for row in MAY_IMPORT}
    for module in below_cli():
        used[row_of(module, set(MAY_IMPORT))] |= parts_used(module, modules()[module])
    unused = {row: allowed - used[row] for row, allowed in MAY_IMPORT.items()}
    assert {row: names for row, names in unused.items() if names} == {}


def test_adapters_never_import_one_another() -> None:
    for module, tree in modules().items():
        if not module or module.partition(".")[0] in WIRING:
            continue
        mine = row_of(module, set(MAY_IMPORT))
        if mine in ADAPTERS:
            assert parts_used(module, tree) & ADAPTERS == set(), module


def test_the_rows_make_no_circle() -> None:
    seen: set[str] = set()

    def visit(row: str, path: tuple[str, ...]) -> None:
        assert row not in path, " -> ".join((*path, row))
        if row not in seen:
            for other in sorted(MAY_IMPORT.get(row, set())):
                visit(other, (*path, row))
            seen.add(row)

    for row in MAY_IMPORT:
        visit(row, ())


def test_a_library_is_reached_through_its_doors_alone() -> None:
    found: dict[str, set[str]] = {}
    for module, tree in modules().items():
        for library in libraries(tree) - {"numpy", "click"}:
            found.setdefault(library, set()).add(module)
    assert found == DOORS


def test_click_stays_with_the_command_line() -> None:
    users = {module for module, tree in modules().items() if "click" in libraries(tree)}
    assert {user for user in users if row_of(user, CLICKS | set(MAY_IMPORT)) not in CLICKS} == set()


def test_a_command_imports_nothing_heavy_before_it_is_called() -> None:
    """``crackwatch COMMAND --help`` imports the command's module: what stands at its top counts."""
    for module, tree in modules().items():
        if module.startswith("cli"):
            top = ast.Module([node for node in tree.body if _runs_on_import(node)], [])
            assert libraries(top) <= {"click"}, module


def _runs_on_import(node: ast.stmt) -> bool:
    return isinstance(node, ast.Import | ast.ImportFrom)


@pytest.mark.parametrize("module", list(modules()))
def test_a_module_says_what_it_owns(module: str) -> None:
    docstring = ast.get_docstring(modules()[module])
    assert docstring, "no docstring"
    assert docstring.split("\n\n")[0].rstrip().endswith((".", ":")), docstring


def test_no_module_is_a_drawer_for_odds_and_ends() -> None:
    words = {part for module in modules() for part in module.split(".")}
    assert words & {"utils", "helpers", "manager", "common", "data"} == set()


# ------------------------------------------------------------------------- what is really loaded

_ASK = """
import contextlib, io, json, sys
from crackwatch.cli import execute
told = []
for arguments in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        status = execute(arguments)
    loaded = [name for name in json.loads(sys.argv[2]) if sys.modules.get(name) is not None]
    told.append([arguments, status, loaded])
print(json.dumps(told))
"""


def ask(*commands: list[str]) -> list[tuple[list[str], int, list[str]]]:
    """Runs commands in one fresh process; after each: its status, the heavy libraries loaded."""
    done = subprocess.run(
        [sys.executable, "-c", _ASK, json.dumps(commands), json.dumps(HEAVY)],
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    return [(arguments, status, heavy) for arguments, status, heavy in json.loads(done.stdout)]


@pytest.fixture(scope="module")
def empty_station(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The config.toml of a station with a database and no model: enough to ask it things."""
    folder = tmp_path_factory.mktemp("station")
    config = folder / "config.toml"
    config.write_text("")
    for name in ("inbox", "flagged", "archive", "quarantine", "models", "dataset", "state"):
        (folder / name).mkdir()
    assert execute(["db", "upgrade", "--config", str(config)]) == 0
    return config


def test_help_loads_no_heavy_library() -> None:
    helps = [["--help"], *([name, "--help"] for name in COMMANDS)]
    assert ask(*helps) == [(arguments, 0, []) for arguments in helps]


def test_asking_a_station_loads_no_heavy_library(empty_station: Path) -> None:
    config = ["--config", str(empty_station)]
    wanted = [
        (["status", *config], 1, []),  # it is stopped
        (["report", "--since", "yesterday", *config], 0, []),
        (["report", "--since", "yesterday", "--format", "html", *config], 0, []),
        (["audit", "--full", *config], 0, []),
        (["containment", *config], 0, []),
        (["db", "current", *config], 0, []),
        (["models", "list", *config], 0, []),
        (["retrain", *config], 2, []),  # too few pictures: told before TensorFlow's slow start
    ]
    assert ask(*(arguments for arguments, _, _ in wanted)) == wanted
