"""What the commands share that move pictures out of their places: books, folders, log, one at a time."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from crackwatch.departures import Departed, Departing
    from crackwatch.domain import Place
    from crackwatch.filing.leaving import Leaver
    from crackwatch.settings import Settings
    from crackwatch.store.departures import Departures


@dataclass(frozen=True, slots=True)
class Doorway:
    """``resumed`` is what an earlier process had begun; it has been finished by now."""

    rows: Departures
    leaver: Leaver
    departing: Departing
    resumed: list[Departed]


@contextlib.contextmanager
def doorway(settings: Settings, *, dry_run: bool, places: Collection[Place]) -> Iterator[Doorway]:
    """Opens books and folders; with ``dry_run`` for looking only, and nothing is resumed.

    ``places`` are those that pictures are to leave. Raises LockedError while another process moves
    pictures, SystemFault where the inbox or the folder of one of these is not there, or another
    station's; UsageError where rows bear another name; SettingsError, StoreError.
    """
    from crackwatch import belonging, departures, logs, naming, own_places
    from crackwatch.config_file import require_inbox
    from crackwatch.filing.leaving import Leaver
    from crackwatch.housekeeping import folders_of, spared, tell
    from crackwatch.store import newest, renaming
    from crackwatch.store.departures import Departures
    from crackwatch.store.engine import open_reader, open_writer

    require_inbox(settings)
    logs.configure(settings.log.level, settings.log.format)
    log = logs.get(station=settings.station.name)
    folders = folders_of(settings)
    own = belonging.OwnInbox(
        os.fsencode(settings.folders.inbox), settings.folders.state, settings.file.parent
    )
    own.check()
    file = settings.database_file
    naming.require_same(settings, lambda name: renaming.recorded_as(open_reader(file), name))
    standing = own_places.OwnPlaces(settings, newest.in_file(file, settings.station.name)).check
    for place in places:
        standing(place)
    engine = open_reader(file) if dry_run else open_writer(file)
    rows = Departures(engine, settings.station.name, **spared(settings))
    leaver = Leaver(folders, own.check, standing)
    departing = departures.Departing(rows, leaver, lambda each: tell(log, leaver, each))
    if dry_run:
        yield Doorway(rows, leaver, departing, [])
        return
    with departures.alone(settings.folders.state):
        yield Doorway(rows, leaver, departing, departing.resume())


WHY = {
    "gone": "it is not there",
    "changed": "it is not what was inspected",
    "refused": "the folder's rights do not allow it",
}


def why(each: Departed) -> str:
    """Why a file stays where it is, for a person."""
    reason = WHY.get(each.result.value, each.result.value)
    return f"{reason}: {each.detail}" if each.detail else reason
