"""Finds what travels with the program: migrations, the default config.toml, units, starter model.

In a checkout they stand at the top level; a wheel carries them in ``packaged_files``. Nobody else
needs to know which of the two this is.
"""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def _find(name: str) -> Path:
    installed = _PACKAGE / "packaged_files" / name
    return installed if installed.exists() else _PACKAGE.parent / name


def migrations() -> Path:
    """The folder of alembic's environment and revisions."""
    return _find("migrations")


def default_config() -> Path:
    """The commented config.toml that ``init`` copies."""
    return _find("config.toml")


def units() -> Path:
    """The folder of systemd units."""
    return _find("systemd")


def starter() -> Path:
    """The folder of the starter model: ``lenet.keras`` and ``card.json``."""
    return _PACKAGE / "starter"
