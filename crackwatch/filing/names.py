"""Chooses the name that a file will have below its place's folder; looks, but moves nothing."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import date

from crackwatch.domain import OVERLAY_SUFFIX, Place

NAME_MAX_BYTES = 255
PATH_MAX_BYTES = 4095
SIDECAR_SUFFIX = b".json"  # beside a quarantined picture: its reason
_BESIDE = {Place.QUARANTINED: SIDECAR_SUFFIX, Place.FLAGGED: OVERLAY_SUFFIX}


class DayDestinations:
    """``<day>/<path relative to the inbox>``; if that is taken, `` (id)`` before the suffix.

    The folders in between are left out where the path would grow too long for the kernel, and get
    a suffix of their own where a file stands under their name.
    """

    def __init__(self, folders: dict[Place, bytes], today: Callable[[], date]) -> None:
        self._folders = folders
        self._today = today

    def propose(self, place: Place, source: bytes, id: int, attempt: int) -> bytes | None:
        """The ``attempt``-th name, relative to the place's folder; None: it is not moved there."""
        if place in (Place.KEPT, Place.DELETED):
            return None
        *folders, name = source.split(b"/")
        # room for the suffix, so that what belongs beside a picture always fits there
        limit = NAME_MAX_BYTES - len(_BESIDE.get(place, b""))
        name = fit(name, _suffix(id, attempt), limit)
        day = self._today().isoformat().encode()
        beneath = self._beneath(place, [day, *folders], id, attempt)
        if len(self.path(place, beneath)) + 1 + NAME_MAX_BYTES > PATH_MAX_BYTES:
            beneath = self._beneath(place, [day], id, attempt)
        return beneath + b"/" + name

    def taken(self, place: Place, destination: bytes) -> bool:
        """Whether a file, what would stand beside it, or a file in a folder's place is there."""
        path = self.path(place, destination)
        if os.path.lexists(path):
            return True
        if place in _BESIDE:
            suffix = _BESIDE[place]
            if os.path.lexists(path + suffix):
                return True
            # the other way round: what stands beside a picture is cleared away with it
            if path.endswith(suffix) and os.path.lexists(path.removesuffix(suffix)):
                return True
        at = self._folders[place]
        for folder in destination.split(b"/")[:-1]:
            at = os.path.join(at, folder)
            if _is_no_folder(at):
                return True
        return False

    def path(self, place: Place, destination: bytes) -> bytes:
        """The absolute path of a destination."""
        return os.path.join(self._folders[place], destination)

    def _beneath(self, place: Place, folders: list[bytes], id: int, attempt: int) -> bytes:
        """The folders of a destination, none of which is the name of a file."""
        found = b""
        for folder in folders:
            at = os.path.join(found, folder)
            if _is_no_folder(self.path(place, at)):
                at = os.path.join(found, fit(folder, _suffix(id, max(attempt, 1)), NAME_MAX_BYTES))
            found = at
        return found


def _suffix(id: int, attempt: int) -> bytes:
    return {0: b"", 1: b" (%d)" % id}.get(attempt, b" (%d-%d)" % (id, attempt))


def _is_no_folder(path: bytes) -> bool:
    return os.path.lexists(path) and not os.path.isdir(path)


def fit(name: bytes, extra: bytes, limit_bytes: int) -> bytes:
    """``name`` with ``extra`` before its suffix, the stem cut so that all fits the limit.

    A UTF-8 name stays one: the cut never halves a character.
    """
    stem, suffix = os.path.splitext(name)
    room = limit_bytes - len(extra) - len(suffix)
    if room < 1:  # a suffix as long as a name: it has to give way
        stem, suffix, room = name, b"", limit_bytes - len(extra)
    cut = stem[:room]
    try:
        stem.decode()
    except UnicodeDecodeError:
        pass
    else:
        cut = cut.decode("utf-8", "ignore").encode()
    return cut + extra + suffix
