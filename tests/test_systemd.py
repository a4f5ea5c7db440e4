"""Claims about the service unit: systemd itself finds nothing to complain of, and it fits the code.

That the daemon works behind these fences, OpenVINO's machine code included, was tried in a booted
Debian 12; docs/install.md has the commands.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from crackwatch import inspector, packaged
from tests.commands import parse

UNIT = packaged.units() / "crackwatch.service"
ALLOWED_EXPOSURE = 1.0

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="no systemd-analyze on this machine"
)


def settings() -> dict[str, list[str]]:
    """Every assignment of the unit; a key that stands there twice has two values."""
    found: dict[str, list[str]] = {}
    for line in UNIT.read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


def verify(unit: Path, text: str) -> list[str]:
    """What systemd has to say about a unit, line by line."""
    unit.write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--recursive-errors=no", str(unit)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "SYSTEMD_LOG_LEVEL": "warning"},
    )
    # other units of this machine are not ours to judge
    told = [line for line in (done.stdout + done.stderr).splitlines() if "crackwatch" in line]
    if done.returncode != 0 and not told:
        pytest.skip(f"systemd-analyze cannot work here: {done.stderr.strip()}")
    return told


@pytest.fixture
def text() -> str:
    """The unit, its program where this environment has it installed."""
    program = Path(sys.executable).with_name("crackwatch")
    assert program.exists(), "the project is not installed in this environment"
    return UNIT.read_text().replace("/opt/crackwatch/bin/crackwatch", str(program))


@needs_systemd
def test_systemd_has_no_warning(tmp_path: Path, text: str) -> None:
    assert verify(tmp_path / "crackwatch.service", text) == []


@needs_systemd
@pytest.mark.parametrize(
    ("right", "wrong"),
    [("ProtectHome=yes", "ProtektHome=yes"), ("Type=notify", "Type=notfy"), ("ExecStart=", "#")],
)
def test_a_mistake_in_the_unit_would_be_seen(
    tmp_path: Path, text: str, right: str, wrong: str
) -> None:
    assert right in text
    assert verify(tmp_path / "crackwatch.service", text.replace(right, wrong)) != []


@needs_systemd
def test_the_service_is_hardly_exposed() -> None:
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", str(UNIT)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    exposure = re.search(r"Overall exposure level for crackwatch.service: ([\d.]+)", done.stdout)
    assert exposure is not None, done.stdout
    assert float(exposure[1]) <= ALLOWED_EXPOSURE, done.stdout


def test_it_starts_a_command_that_exists() -> None:
    (start,) = settings()["ExecStart"]
    program, _, arguments = start.partition(" ")
    assert parse(f"{Path(program).name} {arguments}") == ("run",)


def test_every_failure_is_tried_again_for_ever() -> None:
    """Also status 2: an inbox that is mounted late is missing at boot, and nobody is there then."""
    unit = settings()
    assert unit["Restart"] == ["on-failure"]
    assert "RestartPreventExitStatus" not in unit
    assert unit["StartLimitIntervalSec"] == ["0"]


def test_it_waits_longer_for_the_end_than_the_daemon_may_take() -> None:
    (timeout,) = settings()["TimeoutStopSec"]
    assert int(timeout) > 10


def test_openvino_may_write_machine_code() -> None:
    """Under MemoryDenyWriteExecute compiling a model fails: it must not slip back in."""
    assert "MemoryDenyWriteExecute" not in settings()


def test_the_watchdog_has_more_patience_than_a_pause_takes_between_two_tests_of_its_cause() -> None:
    """A thread may be silent for half of the watchdog's time: health/pulse.py."""
    (wanted,) = settings()["WatchdogSec"]
    assert wanted.endswith("min")
    assert int(wanted.removesuffix("min")) * 60 / 2 > 2 * inspector._PAUSE_MAX_S
