"""config.toml and the environment, turned into validated settings; reads nothing else.

Relative folders resolve against the file that names them. Every key can be overridden:
``CRACKWATCH_FILES__NORMAL=archive``.
"""

from __future__ import annotations

import os
import tomllib
import typing
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from crackwatch.errors import SettingsError
from crackwatch.settings import FolderSettings, Settings

ENVIRONMENT_PREFIX = "CRACKWATCH_"
CONFIG_VARIABLE = "CRACKWATCH_CONFIG"
DEFAULT_CONFIGS = (Path("config.toml"), Path("/etc/crackwatch/config.toml"))


def find_config(given: str | None, environment: Mapping[str, str]) -> Path:
    """Which config.toml is meant: the one given, else $CRACKWATCH_CONFIG, else the usual places.

    Raises SettingsError if it does not exist.
    """
    named = given or environment.get(CONFIG_VARIABLE)
    if named:
        path = Path(named)
        if _seen(path, Path.is_dir):
            path = path / "config.toml"
        if _seen(path, Path.is_file):
            return path.resolve()
        raise SettingsError(
            f"{path}: no such configuration file",
            f"Give another with --config FILE, or make a station with "
            f"'crackwatch init {path.parent}'.",
        )
    for path in DEFAULT_CONFIGS:
        if _seen(path, Path.is_file):
            return path.resolve()
    raise SettingsError(
        "no config.toml here, none in /etc/crackwatch, and $CRACKWATCH_CONFIG is not set",
        "Make a station with 'crackwatch init DIR', then name it: --config DIR/config.toml.",
    )


def _seen(path: Path, test: Callable[[Path], bool]) -> bool:
    """Whether ``path`` passes ``test``; raises SettingsError where this user may not look."""
    try:
        return test(path)
    except OSError as exc:
        if isinstance(exc, PermissionError) and not path.is_absolute():
            return False  # root's own folder, say, which the station's user cannot see into
        raise SettingsError(
            f"{path}: {exc.strerror}",
            "Check the name; run this as the user that the station runs as, or as a member of its "
            "group.",
        ) from exc


def load(file: Path, environment: Mapping[str, str]) -> Settings:
    """Reads and checks ``file``, with overrides from ``environment``; changes nothing.

    Raises SettingsError naming the file, the key and the remedy. Folders come back absolute.
    """
    try:
        with file.open("rb") as stream:
            tables: dict[str, Any] = tomllib.load(stream)
    except OSError as exc:
        raise SettingsError(
            f"{file}: cannot be read: {exc.strerror}", "Check its name and permissions."
        ) from exc
    except ValueError as exc:  # TOMLDecodeError, what is not UTF-8, a number of 5,000 digits
        raise SettingsError(
            f"{file}: is not valid TOML: {exc}",
            "Mend that line: strings need quotes, and a key stands once.",
        ) from exc
    except RecursionError as exc:
        raise SettingsError(
            f"{file}: is not valid TOML: brackets in brackets without end", "Mend that line."
        ) from exc
    origin: dict[str, str] = {}  # of what was not read from the file
    for section, key, value, variable in _overrides(environment):
        if section not in tables:
            origin[section] = f"environment variable {variable}"
        table = tables.setdefault(section, {})
        if isinstance(table, dict):
            table[key] = value
            origin[f"{section}.{key}"] = f"environment variable {variable}"
    if "file" in tables:  # the model's own field, which no station may set
        where = origin.get("file", str(file))
        raise SettingsError(f"{where}: file: unknown section or key", _known_keys(Settings, ""))
    _anchor_folders(tables, file.absolute().parent)
    try:
        return Settings.model_validate({**tables, "file": file.absolute()})
    except ValidationError as exc:
        raise _explain(exc, file, origin) from exc


def require_inbox(settings: Settings) -> None:
    """Raises SettingsError where the inbox is missing, is not a folder, or leads into another.

    Links are looked through here and not in ``load``: ``status`` must not hang where an inbox on
    a network does.
    """
    inbox = settings.folders.inbox
    if not _seen(inbox, Path.is_dir):
        what = "is not a folder" if inbox.exists() else "does not exist"
        raise SettingsError(
            f"{settings.file}: folders.inbox: {inbox} {what}",
            "Make the folder or mount it, or name another under [folders] inbox; "
            f"'crackwatch init {settings.file.parent}' makes what is missing.",
        )
    for name, path in settings.folders:
        if name != "inbox" and Path(os.path.realpath(path)).is_relative_to(inbox.resolve()):
            raise SettingsError(
                f"{settings.file}: folders.{name}: {path} is a link that leads into the inbox, "
                f"{inbox}",
                f"Its files would be inspected again; move folders.{name} out of the inbox.",
            )


def _anchor_folders(tables: dict[str, Any], base: Path) -> None:
    """Makes every folder absolute, those that are not mentioned included."""
    folders = tables.setdefault("folders", {})
    if not isinstance(folders, dict):
        return
    for name in FolderSettings.model_fields:
        value = folders.get(name, name)
        if isinstance(value, str) and value:
            folders[name] = os.path.normpath(base / value)


def _overrides(environment: Mapping[str, str]) -> Iterator[tuple[str, str, Any, str]]:
    for variable, raw in sorted(environment.items()):
        section, separator, key = variable.removeprefix(ENVIRONMENT_PREFIX).partition("__")
        if not variable.startswith(ENVIRONMENT_PREFIX) or not separator:
            continue
        section, key = section.lower(), key.lower()
        yield section, key, _typed(section, key, raw), variable


def _typed(section: str, key: str, raw: str) -> Any:
    """The text of a variable as the value that its key wants: text stays text."""
    section_field = Settings.model_fields.get(section)
    fields = getattr(section_field.annotation, "model_fields", {}) if section_field else {}
    if key not in fields:
        return raw  # reported as an unknown key
    annotation = fields[key].annotation
    choices = typing.get_args(annotation)
    if annotation in (str, Path) or (choices and all(isinstance(each, str) for each in choices)):
        return raw
    try:
        return tomllib.loads(f"value = {raw}")["value"]
    except (ValueError, RecursionError):  # as when a file is read
        return raw


def _known_keys(model: type[BaseModel], section: str) -> str:
    known = ", ".join(name for name in model.model_fields if name != "file")
    return f"Known keys of [{section}]: {known}." if section else f"Known sections: {known}."


def _explain(error: ValidationError, file: Path, origin: Mapping[str, str]) -> SettingsError:
    """One sentence for the first thing that is wrong, and how many more there are."""
    details = error.errors()
    first = details[0]
    parts = [str(part) for part in first["loc"][:2]]
    key = ".".join(parts)
    where = origin.get(key, str(file))
    problem, remedy = _sentence(first, parts)
    if not remedy:
        remedy = f"Mend {key} in {where}." if key else f"Mend it in {where}."
    more = len({tuple(detail["loc"][:2]) for detail in details}) - 1
    if more > 0:
        remedy += f" ({more} more after this one.)"
    return SettingsError(f"{where}: {key}: {problem}" if key else f"{where}: {problem}", remedy)


def _sentence(detail: ErrorDetails, parts: list[str]) -> tuple[str, str]:
    kind = detail["type"]
    if kind == "extra_forbidden":
        if len(parts) == 1:
            return "unknown section or key", _known_keys(Settings, "")
        section: Any = Settings.model_fields[parts[0]].annotation
        return "unknown key", _known_keys(section, parts[0])
    message = detail["msg"].removeprefix("Value error, ").removeprefix("Input ")
    if kind == "value_error":
        return message, ""
    if kind in ("model_type", "dict_type"):
        return f"is a section: write [{parts[0]}] on a line of its own, its keys below", ""
    given = detail["input"]
    if parts == ["model", "threshold"]:
        return f'{given!r} is neither "model" nor a number from 0.0 to 1.0', ""
    return f"{message[0].lower()}{message[1:]}, but it is {given!r}", ""
