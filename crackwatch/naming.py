"""Whether a station still goes by the name that its rows bear.

Rows carry the station's name, and a station sees its own only: renamed in config.toml alone, it would
count every kept picture again and leave unfinished what it had begun. So ``state/station.json`` keeps
the name under which rows were last recorded. The database could not tell: it may have the rows of
several stations.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from crackwatch import belonging
from crackwatch.errors import UsageError
from crackwatch.settings import Settings

# How many inspections bear a name. Raises SystemFault, StoreError.
RecordedAs = Callable[[str], int]


def require_same(settings: Settings, recorded_as: RecordedAs) -> None:
    """Raises UsageError where rows were recorded under another name than config.toml has now."""
    old, new = last_name(settings), settings.station.name
    if old is None or old == new:
        return
    count = recorded_as(old)
    if count:
        raise UsageError(
            f"{settings.file}: station.name is {new!r}, but the {count:,} pictures that this "
            f"station has inspected are recorded under {old!r}: they would be counted again",
            f"Write name = {old!r} under [station] again; or stop the station and give them the "
            f"new name: crackwatch db rename --config {settings.file}.",
        )


def last_name(settings: Settings) -> str | None:
    """The name under which rows were last recorded; None where nobody wrote it down.

    Raises SystemFault where it cannot be read.
    """
    mine = belonging.identity(settings.folders.state)
    return mine.name if mine is not None else None


def remember(settings: Settings) -> None:
    """Writes down that rows are recorded under this name from now on. Raises UsageError."""
    state = settings.folders.state
    mine = belonging.identity(state)
    if mine is None or mine.name == settings.station.name:
        return
    try:
        belonging.remember(state, replace(mine, name=settings.station.name))
    except OSError as exc:
        raise belonging.unwritten(state, exc) from exc
