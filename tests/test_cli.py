"""Claims about the command line: what its help says is so, and its exit statuses mean what they say."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from crackwatch import errors
from crackwatch.cli import COMMANDS, execute
from crackwatch.errors import CrackwatchError
from tests.commands import all_commands, parse

_COMMANDS = {" ".join(words) or "crackwatch": command for words, command in all_commands()}


def _examples(command: click.Command) -> list[str]:
    epilog = command.epilog or ""
    assert epilog.startswith("Example: ")
    found = re.findall(r"crackwatch (?!is\b).*?(?= && |, or, |$)", epilog.removeprefix("Example: "))
    return [each.strip() for each in found]


@pytest.mark.parametrize("name", list(_COMMANDS))
def test_help_has_an_example_that_can_be_typed(name: str) -> None:
    examples = _examples(_COMMANDS[name])
    assert examples
    for example in examples:
        words = parse(example)
        if name != "crackwatch":
            assert " ".join(words).startswith(name), "the example is of another command"


@pytest.mark.parametrize("name", list(_COMMANDS))
def test_every_command_and_option_says_what_it_does(name: str) -> None:
    command = _COMMANDS[name]
    assert command.help, "the docstring is the help"
    with click.Context(command) as context:
        for parameter in command.get_params(context):
            if isinstance(parameter, click.Option):
                assert parameter.help, parameter.name


@pytest.mark.parametrize("name", [name for name in _COMMANDS if name != "crackwatch"])
def test_every_command_on_a_station_takes_config(name: str) -> None:
    command = _COMMANDS[name]
    if isinstance(command, click.Group) or name == "init":
        return
    assert "config" in {parameter.name for parameter in command.params}


def test_the_first_help_lists_every_command_with_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["--help"]) == 0
    shown = capsys.readouterr().out
    for name, (_, line) in COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(line)}$", shown, re.MULTILINE)


def test_help_names_the_places_where_settings_are_looked_for(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert execute(["status", "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "$CRACKWATCH_CONFIG, ./config.toml, /etc/crackwatch/config.toml" in shown


# ----------------------------------------------------------------------------------- exit statuses


@pytest.mark.parametrize(
    "arguments",
    [["bogus"], ["report", "--bogus"], ["evaluate"], ["report", "--format", "xml"], []],
    ids=" ".join,
)
def test_what_cannot_be_understood_exits_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert execute(arguments) == 2
    assert capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [["evaluate", "--data", "."], ["classify", "."]], ids=lambda found: found[0]
)
def test_a_threshold_that_is_no_number_is_refused(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """No score reaches it, and JSON has no word for it."""
    assert execute([*arguments, "--threshold", "nan"]) == 2
    assert "--threshold nan: give a number from 0 to 1" in capsys.readouterr().err


def test_without_settings_it_exits_2_and_says_how_to_get_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CRACKWATCH_CONFIG", raising=False)
    if Path("/etc/crackwatch/config.toml").exists():
        pytest.skip("this machine has a station of its own in /etc/crackwatch")
    assert execute(["status"]) == 2
    assert "crackwatch init" in capsys.readouterr().err


_AS_NOBODY = """
import os, sys
from crackwatch import cli, errors
import crackwatch.cli.status
os.chdir(sys.argv[1])
os.chmod(".", 0)
if os.geteuid() == 0:
    os.seteuid(65534)  # root may look everywhere
try:
    cli.main(["status", *sys.argv[2:]])
finally:
    print(os.getcwd())
"""


@pytest.mark.parametrize("named", [False, True])
def test_a_folder_that_this_user_cannot_see_into_is_told_and_no_traceback(
    tmp_path: Path, named: bool
) -> None:
    """``runuser -u crackwatch -- crackwatch status``, typed in /root."""
    if not named and Path("/etc/crackwatch/config.toml").exists():
        pytest.skip("this machine has a station of its own in /etc/crackwatch")
    closed = tmp_path / "closed"
    closed.mkdir()
    (closed / "config.toml").write_text("")
    arguments = ["--config", str(closed / "config.toml")] if named else []
    try:
        done = subprocess.run(
            [sys.executable, "-c", _AS_NOBODY, closed, *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env={key: value for key, value in os.environ.items() if key != "CRACKWATCH_CONFIG"},
        )
    finally:
        closed.chmod(0o700)
    assert done.returncode == 2, done.stderr
    assert ("Permission denied" if named else "crackwatch init") in done.stderr
    assert done.stdout == "/\n", "OpenVINO aborts in a folder that it may not look around in"


def test_a_wrong_key_exits_2_and_names_file_key_and_remedy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "config.toml"
    config.write_text("[model]\ntreshold = 0.5\n")
    assert execute(["status", "--config", str(config)]) == 2
    told = capsys.readouterr().err
    assert str(config) in told
    assert "model.treshold" in told
    assert "threshold" in told.splitlines()[1], "the known keys"


def test_without_a_database_it_exits_5_and_names_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "config.toml"
    config.write_text("")
    assert execute(["report", "--config", str(config)]) == 5
    told = capsys.readouterr()
    assert "crackwatch init" in told.err
    assert told.out == ""


def test_every_error_has_the_exit_status_that_the_tree_is_drawn_with() -> None:
    drawn = dict(re.findall(r"── (\w+) +exit (\d)", errors.__doc__ or ""))
    raised = {cls.__name__: cls for cls in _below(CrackwatchError)}
    assert set(drawn) == set(raised)
    for name, status in drawn.items():
        if name != "SystemFault":  # its status is that of the thing at fault
            assert raised[name].exit_status == int(status), name
    assert errors.SystemFault("database_locked", "").exit_status == 5
    assert errors.SystemFault("disk_full", "").exit_status == 2


def _below(cls: type[CrackwatchError]) -> Iterator[type[CrackwatchError]]:
    for below in cls.__subclasses__():
        if below.__module__ == errors.__name__:
            yield below
            yield from _below(below)


def test_a_reader_that_leaves_early_is_no_failure() -> None:
    """``crackwatch audit | head -1`` under pipefail must not look like a finding (status 1)."""
    readable, writable = os.pipe()
    os.close(readable)
    done = subprocess.run(
        [sys.executable, "-m", "crackwatch", "report", "--help"],
        stdout=writable,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    os.close(writable)
    assert (done.returncode, done.stderr) == (0, "")


def test_init_makes_a_whole_station_even_if_nobody_reads_what_it_says(tmp_path: Path) -> None:
    readable, writable = os.pipe()
    os.close(readable)
    done = subprocess.run(
        [sys.executable, "-m", "crackwatch", "init", tmp_path / "station"],
        stdout=writable,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    os.close(writable)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "station" / "state" / "crackwatch.db").is_file()
    assert (tmp_path / "station" / "models" / "champion").is_file()


def test_an_output_on_a_full_disk_is_told_and_is_no_finding() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "crackwatch", "report", "--help"],
        stdout=os.open("/dev/full", os.O_WRONLY),
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("crackwatch: standard output cannot be written: No space left")


def test_with_its_output_closed_a_command_does_its_work_all_the_same(tmp_path: Path) -> None:
    """And what it prints does not go into the file that would get the output's number."""
    done = subprocess.run(
        f"exec {sys.executable} -m crackwatch db --help >&-",
        shell=True,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_no_command_module_takes_the_name_of_a_function_of_the_package() -> None:
    """``import crackwatch.cli.x`` sets ``crackwatch.cli.x``, whatever stood there before."""
    from crackwatch import cli

    for name, module in COMMANDS.values():
        assert not callable(getattr(cli, name, None)), module
