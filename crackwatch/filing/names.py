"""Chooses the name that a file will have below its place's folder; looks, but moves nothing."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import date

from crackwatch.domain import Place

NAME_MAX_BYTES = 255
SIDECAR_SUFFIX = b".json"


class DayDestinations:
    """``<day>/<path relative to the inbox>``; if that is taken, `` (id)`` before the suffix."""

    def __init__(self, folders: dict[Place, bytes], today: Callable[[], date]) -> None:
        self._folders = folders
        self._today = today

    def propose(self, place: Place, source: bytes, id: int, attempt: int) -> bytes | None:
        """The ``attempt``-th name, relative to the place's folder; None: it is not moved there."""
        if place in (Place.KEPT, Place.DELETED):
            return None
        *folders, name = source.split(b"/")
        # room for the sidecar's suffix, so that a quarantined picture's reason always fits beside
        limit = NAME_MAX_BYTES - (len(SIDECAR_SUFFIX) if place is Place.QUARANTINED else 0)
        extra = {0: b"", 1: b" (%d)" % id}.get(attempt, b" (%d-%d)" % (id, attempt))
        name = fit(name, extra, limit)
        return b"/".join([self._today().isoformat().encode(), *folders, name])

    def taken(self, place: Place, destination: bytes) -> bool:
        """Whether a file, or a quarantined picture's sidecar, stands there."""
        path = self.path(place, destination)
        return os.path.lexists(path) or (
            place is Place.QUARANTINED and os.path.lexists(path + SIDECAR_SUFFIX)
        )

    def path(self, place: Place, destination: bytes) -> bytes:
        """The absolute path of a destination."""
        return os.path.join(self._folders[place], destination)


def fit(name: bytes, extra: bytes, limit_bytes: int) -> bytes:
    """``name`` with ``extra`` before its suffix, the stem cut so that all fits the limit.

    A UTF-8 name stays one: the cut never halves a character.
    """
    stem, suffix = os.path.splitext(name)
    room = limit_bytes - len(extra) - len(suffix)
    if room < 1:  # a suffix as long as a name: it has to give way
        stem, suffix, room = name, b"", limit_bytes - len(extra)
    cut = stem[:room]
    if len(cut) < len(stem):
        try:
            stem.decode()
        except UnicodeDecodeError:
            pass
        else:
            cut = cut.decode("utf-8", "ignore").encode()
    return cut + extra + suffix
