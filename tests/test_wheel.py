"""Claims about the wheel: all that a station needs travels in it, and nothing else does.

It is built and installed for real. Only its dependencies are borrowed: a path file shows the new
environment those of this one, for installing TensorFlow again would take minutes and prove nothing.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest

from crackwatch import synthetic
from tests.test_systemd import UNIT, needs_systemd, verify

CHECKOUT = Path(__file__).resolve().parents[1]

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, CHECKOUT],
        check=True,
        capture_output=True,
        timeout=250,
    )
    (built,) = folder.glob("*.whl")
    return built


@dataclass(frozen=True)
class Installed:
    """An environment outside the checkout with the wheel in it; commands run in its own folder."""

    folder: Path

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    def crackwatch(self, *arguments: str, status: int = 0) -> str:
        return self._run(str(self.folder / "bin" / "crackwatch"), *arguments, status=status)

    def ask(self, code: str) -> str:
        return self._run(str(self.python), "-c", code)

    def _run(self, *command: str, status: int = 0) -> str:
        ours = ("PYTHON", "CRACKWATCH_", "COV_", "COVERAGE_")
        done = subprocess.run(
            command,
            cwd=self.folder,
            env={key: value for key, value in os.environ.items() if not key.startswith(ours)},
            capture_output=True,
            text=True,
            timeout=250,
            check=False,
        )
        assert done.returncode == status, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    environment = Installed(tmp_path_factory.mktemp("installed"))
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment.folder], check=True)
    (packages,) = environment.folder.glob("lib/python*/site-packages")
    borrowed = Path(np.__file__).resolve().parents[1]
    (packages / "borrowed.pth").write_text(f"{borrowed}\n")
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", environment.python, "install", "--quiet",
         "--no-deps", "--no-index", wheel],
        check=True,
        timeout=250,
    )  # fmt: skip
    return environment


def test_it_holds_what_a_station_needs_and_no_more(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    tops = {name.partition("/")[0] for name in names}
    version = wheel.name.split("-")[1]
    assert tops == {"crackwatch", f"crackwatch-{version}.dist-info"}
    for folder in ("migrations", "systemd"):
        for file in (CHECKOUT / folder).rglob("*"):
            if file.is_file() and "__pycache__" not in file.parts:
                assert f"crackwatch/packaged_files/{file.relative_to(CHECKOUT)}" in names
    assert "crackwatch/packaged_files/config.toml" in names
    assert {"crackwatch/starter/lenet.keras", "crackwatch/starter/card.json"} <= names
    assert not [name for name in names if "__pycache__" in name or name.endswith(".pyc")]


def test_the_installed_program_is_the_wheels_own(installed: Installed) -> None:
    where = installed.ask(
        "from crackwatch import packaged\n"
        "print(packaged.migrations(), packaged.default_config(), packaged.units(),"
        " packaged.starter(), sep='\\n')"
    )
    for line in where.splitlines():
        assert Path(line).is_relative_to(installed.folder)
        assert Path(line).exists()


def test_init_run_and_report_work_from_the_wheel_alone(installed: Installed) -> None:
    made = installed.crackwatch("init", "station")
    assert "migrated" in made
    assert "installed model" in made
    config = ("--config", "station/config.toml")
    inbox = installed.folder / "station" / "inbox"
    for seed in range(6):
        picture = synthetic.draw(seed, crack=seed % 2 == 0)
        assert cv2.imwrite(str(inbox / f"{seed}.png"), picture)

    installed.crackwatch("run", "--once", *config)

    report = json.loads(installed.crackwatch("report", "--format", "json", *config))
    assert report["inspected"] == 6
    assert report["pending"] == report["quarantined"] == 0
    flagged = list((installed.folder / "station" / "flagged").rglob("*.png"))
    assert len(flagged) == report["anomaly"] == len(report["anomalies"])
    assert len(list(inbox.glob("*.png"))) == report["normal"]
    assert json.loads(installed.crackwatch("audit", "--full", "--format", "json", *config))["ok"]
    installed.crackwatch("models", "verify", *config)
    again = installed.crackwatch("init", "station")
    assert not [word for word in ("made ", "migrated ", "installed ") if word in again]


@needs_systemd
def test_the_unit_fits_where_the_wheel_is_installed(installed: Installed, tmp_path: Path) -> None:
    text = UNIT.read_text().replace("/opt/crackwatch", str(installed.folder))
    assert verify(tmp_path / "crackwatch.service", text) == []
