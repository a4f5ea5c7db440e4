"""Options that several commands share, and the settings that they lead to."""

from __future__ import annotations

import getpass
import json
import os
from collections.abc import Callable
from typing import Any, TypeVar

import click

from crackwatch import config_file
from crackwatch.settings import Settings

F = TypeVar("F", bound=Callable[..., Any])


def config_option(function: F) -> F:
    """``--config FILE``; pass its value to ``load_settings``."""
    return click.option(
        "--config",
        "config",
        metavar="FILE",
        help="Settings [default: $CRACKWATCH_CONFIG, ./config.toml, /etc/crackwatch/config.toml].",
    )(function)


def format_option(*choices: str) -> Callable[[F], F]:
    """``--format``, the first choice being the default."""
    return click.option(
        "--format",
        "output_format",
        type=click.Choice(choices),
        default=choices[0],
        show_default=True,
        help="How to print; json prints one document and nothing else.",
    )


def load_settings(config: str | None) -> Settings:
    """The station's settings; raises SettingsError."""
    return config_file.load(config_file.find_config(config, os.environ), os.environ)


def who(by: str | None) -> str:
    """Who decides: as told, else who called sudo, else whose process this is. Raises UsageError."""
    from crackwatch.errors import UsageError
    from crackwatch.people import checked_name

    if by is None:
        try:
            by = os.environ.get("SUDO_USER") or getpass.getuser()
        except (KeyError, OSError) as exc:  # a user without a name, in a container say
            raise UsageError("nobody knows who you are", "Say it with --by NAME.") from exc
    return checked_name(by)


def echo_json(document: object) -> None:
    """One JSON document on standard output. Times in it are ISO 8601 text already."""
    click.echo(json.dumps(document, ensure_ascii=False, indent=2))
