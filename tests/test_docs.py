"""Claims about the documentation: its commands can be typed, its links lead somewhere, its tables are true."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import cv2
import pytest

from crackwatch import __version__, daemon, errors, synthetic
from crackwatch.cli import group
from crackwatch.domain import QuarantineReason
from crackwatch.settings import Settings
from crackwatch.store.engine import _FAULTS
from tests.commands import all_commands, parse

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
DOCUMENTS = [README, ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]

each_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda file: file.name)


def blocks(text: str, *languages: str) -> Iterator[str]:
    """The fenced blocks of these languages."""
    for language, block in re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        if language in languages:
            yield block


def inline(text: str) -> list[str]:
    """What stands between single backticks, outside fenced blocks."""
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"`([^`\n]+)`", prose)


def commands(text: str) -> list[str]:
    """Every ``crackwatch ...`` of the fenced blocks, whatever runs it (runuser, sh -c, make)."""
    found = []
    for block in blocks(text, "sh", "console", "text"):
        for line in block.splitlines():
            shell = line.removeprefix("$ ").partition(" # ")[0]
            if shell.startswith("#"):
                continue
            for quoted in re.findall(r"sh -c '([^']*)'", shell) or [shell]:
                for part in re.split(r"&&|;|\|", quoted):
                    command = re.match(r"(?:runuser -u \w+ -- )?(crackwatch .*)", part.strip())
                    if command:
                        found.append(command[1])
    return found


def section(text: str, title: str) -> str:
    """What stands below a heading, up to the next one of its rank."""
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, f"no heading {title!r}"
    return found[1]


def rows(text: str) -> list[list[str]]:
    """The cells of the lines of a table, its head left out."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


# ------------------------------------------------------------------------------------- commands


@each_document
def test_every_command_can_be_typed(document: Path) -> None:
    for command in commands(document.read_text()):
        parse(command)


@each_document
def test_every_command_named_in_a_sentence_exists(document: Path) -> None:
    known = dict(all_commands())
    for text in inline(document.read_text()):
        if not text.startswith("crackwatch "):
            continue
        words: tuple[str, ...] = ()
        options: list[str] = []
        for word in shlex.split(text)[1:]:
            if (*words, word) in known and not options:
                words = (*words, word)
            elif word.startswith("-"):
                options.append(word)
        command = known[words]
        assert words or options, text
        with click.Context(command) as context:
            there = {name for each in command.get_params(context) for name in each.opts}
        assert set(options) <= there, text


@each_document
def test_every_make_target_exists(document: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    text = document.read_text()
    lines = [line for block in blocks(text, "sh") for line in block.splitlines()]
    named = [line.split()[1] for line in [*inline(text), *lines] if line.startswith("make ")]
    assert set(named) <= targets


def test_the_readme_shows_every_command_but_the_two_that_make_does() -> None:
    shown = " ".join([*commands(README.read_text()), *inline(README.read_text())])
    for name in group.list_commands(click.Context(group)):
        if name not in ("init", "run"):
            assert f"crackwatch {name}" in shown, name


@pytest.fixture(scope="module")
def station(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the README's commands suppose it: a station, labelled/, pictures/, backups/."""
    folder = tmp_path_factory.mktemp("readme")
    _type("crackwatch init .", folder)
    for kind in ("anomaly", "normal"):
        (folder / "labelled" / kind).mkdir(parents=True)
    (folder / "pictures").mkdir()
    (folder / "backups").mkdir()
    for seed in range(100):
        crack = seed % 2 == 0
        picture = synthetic.draw(seed, crack=crack)
        label = "anomaly" if crack else "normal"
        assert cv2.imwrite(str(folder / "labelled" / label / f"{seed}.png"), picture)
        if seed < 6:
            assert cv2.imwrite(str(folder / "pictures" / f"{seed}.png"), picture)
            assert cv2.imwrite(str(folder / "inbox" / f"{seed}.png"), picture)
    _type("crackwatch run --once", folder)
    return folder


def _type(command: str, folder: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if "CRACKWATCH_" not in key}
    # so that there is a champion before it to go back to, however little 100 pictures teach
    environment["CRACKWATCH_RETRAIN__PROMOTE"] = "always"
    done = subprocess.run(
        [sys.executable, "-m", *shlex.split(command)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    wanted = 1 if command == "crackwatch status" else 0  # status: it is stopped
    assert done.returncode == wanted, f"{command}\n{done.stdout}\n{done.stderr}"


@pytest.mark.timeout(300)
def test_the_readmes_commands_do_what_they_say_one_after_the_other(station: Path) -> None:
    typed = commands(section(README.read_text(), "How to"))
    assert len(typed) > 10
    for command in typed:
        if command == "crackwatch retrain":
            command += " --quick --epochs 1"  # 6 trainings of 10 epochs would take minutes
        _type(command.replace("/backups/", f"{station}/backups/"), station)
    for file in ("shift.csv", "week.html", "backups/station.db", "plots/confusion.png"):
        assert (station / file).stat().st_size > 0, file


# --------------------------------------------------------------------------- links, files, tables


@each_document
def test_every_link_to_a_file_leads_to_it(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", document.read_text()):
        if not target.startswith(("http://", "https://")):
            assert (document.parent / target).exists(), target


def test_the_architecture_names_files_that_exist() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    named = {each for each in inline(text) if re.fullmatch(r"[\w/*.]+(\.(py|toml|md)|/)", each)}
    named -= {"golden/"}  # in a model's folder
    assert len(named) > 25
    bases = (ROOT, ROOT / "crackwatch", ROOT / "crackwatch" / "arrivals")
    assert {each for each in named if not any(list(base.glob(each)) for base in bases)} == set()


def test_the_architecture_has_a_place_for_every_part() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    parts = {
        f"{each.name}/" if each.is_dir() else each.name
        for each in (ROOT / "crackwatch").iterdir()
        if not each.name.startswith("__") and (each.suffix == ".py" or list(each.glob("*.py")))
    }
    assert {part for part in parts if part not in text} == set()


def test_every_dependency_has_its_reason_in_the_readme() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = [*project["project"]["dependencies"], *project["dependency-groups"]["dev"]]
    names = {re.match(r"[\w-]+", each)[0] for each in wanted}  # type: ignore[index]
    table = rows(section(README.read_text(), "What it is made of"))
    reasons = {name.strip("` "): reason for cell, reason in table for name in cell.split(",")}
    assert set(reasons) == names
    assert all(reasons.values())


def test_the_readme_has_every_exit_status() -> None:
    table = rows(section(README.read_text(), "What the exit statuses mean"))
    constants = {value for name, value in vars(errors).items() if name.startswith("EXIT_")}
    assert {int(status) for status, _ in table} == constants | {daemon.EXIT_INTERNAL}


@each_document
def test_settings_that_are_mentioned_exist(document: Path) -> None:
    text = document.read_text()
    for part, key in re.findall(r"\[(\w+)\]`? (?:`)?(\w+)`?(?= =|`)", text):
        if part in Settings.model_fields:
            assert key in Settings.model_fields[part].annotation.model_fields, f"[{part}] {key}"


@each_document
def test_quarantine_reasons_that_are_mentioned_exist(document: Path) -> None:
    for reason in re.findall(r"quarantined as `(\w+)`", document.read_text()):
        assert reason in {each.value for each in QuarantineReason}


def test_the_changelog_begins_with_this_version() -> None:
    first = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert first is not None
    assert first[1] == __version__


def test_every_problem_that_a_station_can_have_is_explained() -> None:
    told = r'(?:SystemFault|\.report)\(\s*"([a-z_]+)"|^(?:[A-Z_, ]+)(?:: Final)? = ((?:"[a-z_]+"(?:, )?)+)'
    modules = ("belonging", "own_places", "conditions", "heartbeat", "driftwatch")
    codes = {code for code, _ in _FAULTS.values()}
    for file in (ROOT / "crackwatch").rglob("*.py"):
        for code, constants in re.findall(told, file.read_text(), re.MULTILINE):
            if code:
                codes.add(code)
            elif file.stem in modules:
                codes |= set(re.findall(r"[a-z_]+", constants))
    explained = inline((ROOT / "docs" / "states.md").read_text())
    assert codes > {"disk_low", "inbox_unmarked", "database_readonly", "drift", "golden_failed"}
    assert codes - set(explained) == set()
