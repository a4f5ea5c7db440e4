"""Whether the folders that pictures are moved to are this station's: flagged, archive, quarantine.

A disk that is not mounted leaves an empty folder behind, as an inbox's does (``belonging``): what is
moved there is hidden once the disk is back, and what is looked for there seems to be gone. So each of
these folders has a marker of its own, ``.crackwatch-folder.json``. It names its station as well: two
stations that shared a folder would each take the other's pictures for strays.

A station that was made before there were such markers puts them into its folders by itself, where
the pictures that it filed last are to be seen there.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from crackwatch import belonging
from crackwatch.belonging import Adoption, Marker, Stamp
from crackwatch.domain import Place
from crackwatch.errors import SystemFault, UsageError
from crackwatch.escaping import path_text
from crackwatch.health.board import Board
from crackwatch.inbox import FOLDER_MARKER, SYSTEM_ERRNOS, open_folder
from crackwatch.settings import Settings

MISSING, UNMARKED, FOREIGN = "folder_missing", "folder_unmarked", "folder_foreign"
UNREADABLE = "folder_unreadable"
FAULTS: Final = (MISSING, UNMARKED, FOREIGN, UNREADABLE)

KEYS: Final = {  # under [folders]
    Place.FLAGGED: "flagged",
    Place.ARCHIVED: "archive",
    Place.QUARANTINED: "quarantine",
}
_NOT_THERE = (errno.ENOENT, errno.ENOTDIR)

# The pictures that were filed last in a place: name below its folder, size. Raises SystemFault.
Newest = Callable[[Place], Sequence[tuple[bytes, int]]]


def folders_of(settings: Settings) -> dict[Place, bytes]:
    """The folder of each place that pictures are moved to."""
    return {place: os.fsencode(Path(getattr(settings.folders, key))) for place, key in KEYS.items()}


class OwnPlaces:
    """Answers whether a place's folder is this station's own and mounted; any thread may ask.

    A question costs one ``stat`` as long as the marker stands there untouched. With ``adopts`` a
    folder of a station from before there were markers gets its own, and ``told`` hears of it.
    """

    def __init__(
        self,
        settings: Settings,
        newest: Newest,
        *,
        adopts: bool = False,
        told: Callable[[bytes], None] = lambda _: None,
    ) -> None:
        self._folders = folders_of(settings)
        self._state = settings.folders.state
        self._name = settings.station.name
        self._newest = newest
        self._adopts = adopts
        self._told = told
        self._init = f"crackwatch init {settings.file.parent}"
        self._lock = threading.Lock()
        self._good: dict[Place, Stamp] = {}  # each marker's stamp when it was last believed

    def check(self, place: Place) -> None:
        """Raises SystemFault unless the place's folder is there and this station's.

        Every folder will do for a station that does not know who it is: one that was made before
        there were markers. So will the inbox, which ``belonging`` knows.
        """
        if place not in self._folders:
            return
        try:
            found = os.stat(
                os.path.join(self._folders[place], FOLDER_MARKER), follow_symlinks=False
            )
        except OSError:
            pass  # looking closer says what is wrong
        else:
            if self._good.get(place) == belonging.stamp_of(found):
                return
        with self._lock:
            self._verify(place)

    def known(self, place: Place) -> bool:
        """Whether the station has adopted a folder there, so that a missing one is not to be made."""
        try:
            mine = belonging.identity(self._state)
        except SystemFault:
            return True  # damaged: nobody can say
        return mine is not None and KEYS[place] in mine.folders

    def check_all(self) -> None:
        """The same of all of them."""
        for place in self._folders:
            self.check(place)

    def _verify(self, place: Place) -> None:
        mine = belonging.identity(self._state)
        word = mine.folders.get(KEYS[place]) if mine else None
        there, marker, stamp = self._look(place)
        where = path_text(self._folders[place])
        if marker is not None and (mine is None or marker.station != mine.station):
            raise SystemFault(
                FOREIGN,
                f"{where}: is marked as the {KEYS[place]} folder of another station, "
                f"{marker.name!r}",
                f"Mount the right one, or name this station's own under [folders] {KEYS[place]}: "
                "two stations must not share it. Inspection goes on by itself. Only if that station "
                f"is no more and this one takes its place: {self._init} --take-over.",
            )
        if mine is None:
            return
        if word is None:
            self._take_for_its_own(place, there=there)
        elif not there:
            raise SystemFault(
                MISSING,
                f"{where}: there is no such folder, and this station files pictures in it; is its "
                "disk not mounted?",
                "Mount it, and inspection goes on by itself. Only if it is to be a new, empty "
                f"folder from now on: {self._init}.",
            )
        elif marker is None:
            raise SystemFault(
                UNMARKED,
                f"{where}: has no {os.fsdecode(FOLDER_MARKER)}, so it is not known to be this "
                f"station's {KEYS[place]} folder; is its disk not mounted?",
                "Mount it, and inspection goes on by itself. Only if this folder really is to be "
                f"the one from now on: {self._init}.",
            )
        elif marker.word != word:
            raise SystemFault(
                FOREIGN,
                f"{where}: is not the {KEYS[place]} folder that this station adopted last: this "
                f"one was adopted at {marker.adopted_at}",
                f"Mount the right one, or name it under [folders] {KEYS[place]}; inspection goes "
                f"on by itself. If this one is to be it from now on: {self._init}.",
            )
        elif stamp is not None:
            self._good[place] = stamp

    def _take_for_its_own(self, place: Place, *, there: bool) -> None:
        """A folder that was in use before there were markers, or is new."""
        folder = self._folders[place]
        if not seen_there(folder, self._newest(place)):
            raise SystemFault(
                UNMARKED,
                f"{path_text(folder)}: none of the pictures that this station filed there last is "
                "in it; is its disk not mounted?",
                "Mount it, and inspection goes on by itself. If they were all taken away and this "
                f"folder is the right one: {self._init}.",
            )
        if not (self._adopts and there):
            return
        try:
            adopt(place, folder, self._state, self._name)
        except UsageError:
            return  # it goes on as it did; whether pictures can be moved there, moving them tells
        self._told(folder)

    def _look(self, place: Place) -> tuple[bool, Marker | None, Stamp | None]:
        """(whether the folder is there, its marker, the marker's stamp)."""
        folder = self._folders[place]
        try:
            descriptor = open_folder(folder)
            try:
                stamp = belonging.stamp_in(descriptor, FOLDER_MARKER)
                return True, belonging.marker_in(descriptor, FOLDER_MARKER), stamp
            finally:
                os.close(descriptor)
        except OSError as exc:
            if exc.errno in _NOT_THERE:
                return False, None, None
            # not told as missing: who may not look must not be told to make another
            raise SystemFault(
                UNREADABLE,
                f"{path_text(folder)}: cannot be looked at: {exc.strerror}",
                "Look at that disk (dmesg); inspection goes on by itself then."
                if exc.errno in SYSTEM_ERRNOS
                else "Let this user look into it and read its marker, "
                f"{os.fsdecode(FOLDER_MARKER)}; inspection goes on by itself then.",
            ) from exc


class InUse:
    """The folders that this station's inspecting fills: asked before each batch, told while idle.

    ``cleared`` is called when those that were away are back. ``tend`` is for one thread.
    """

    def __init__(
        self, places: OwnPlaces, settings: Settings, board: Board, cleared: Callable[[], None]
    ) -> None:
        self._check = places.check
        self._places = [Place.FLAGGED, Place.QUARANTINED]
        if settings.files.normal == "archive":
            self._places.append(Place.ARCHIVED)
        self._board = board
        self._cleared = cleared
        self._astray = False

    def require(self) -> None:
        """Raises SystemFault where one of them is away or another station's."""
        for place in self._places:
            self._check(place)

    def refuse_foreign(self) -> None:
        """Raises SystemFault where one is another station's: a slip in the settings, that no
        waiting mends. One whose disk is away is waited for."""
        for place in self._places:
            try:
                self._check(place)
            except SystemFault as fault:
                if fault.code == FOREIGN:
                    raise

    def tend(self) -> None:
        """Tells what is wrong or no longer wrong, also while nothing arrives."""
        fault: SystemFault | None = None
        try:
            self.require()
        except SystemFault as exc:
            if exc.code not in FAULTS:
                return  # of the books, say: told by whoever must wait for them
            fault = exc
        self._board.clear_all(*(code for code in FAULTS if not fault or code != fault.code))
        if fault is not None:
            self._board.report(fault.code, "error", fault.problem, fault.remedy)
        elif self._astray:
            self._cleared()
        self._astray = fault is not None


def seen_there(folder: bytes, newest: Sequence[tuple[bytes, int]]) -> bool:
    """Whether one of the pictures that were filed in a folder last is there; true if none was."""
    for name, size_bytes in newest:
        try:
            if os.lstat(os.path.join(folder, name)).st_size == size_bytes:
                return True
        except OSError:
            continue
    return not newest


def require_free(settings: Settings) -> None:
    """Raises UsageError where a folder that pictures are moved to is another station's.

    A station that bore this one's name and is not to be found any more is taken for this one on
    another machine, or from before its ``state/`` was lost.
    """
    mine = _identity(settings.folders.state)
    for place, folder in folders_of(settings).items():
        marker = _marker(folder)
        if marker is None or (mine is not None and marker.station == mine.station):
            continue
        if marker.name == settings.station.name and not _lives(marker, settings.folders.state):
            continue
        raise UsageError(
            f"{path_text(folder)}: is the {KEYS[place]} folder of another station, "
            f"{marker.name!r}, since {marker.adopted_at}",
            "Two stations must not share it: each would take the other's pictures for strays. Name "
            f"this station's own under [folders] {KEYS[place]} in {settings.file}. Only if that "
            f"station is no more and this one takes its place: crackwatch init --take-over "
            f"{settings.file.parent}.",
        )


def adopt(place: Place, folder: bytes, state: Path, name: str) -> Adoption | None:
    """Makes ``folder`` the place's folder of the station in ``state``; None where it is so already.

    The station must know who it is: ``belonging.adopt``. The marker is written before the station
    knows of it: interrupted in between, the next call finishes. Raises UsageError where either
    cannot be written.
    """
    mine = _identity(state)
    if mine is None:
        raise ValueError(f"{state}: the station has no identity yet")
    before = _marker(folder)
    word = mine.folders.get(KEYS[place])
    if before is not None and (before.station, before.word) == (mine.station, word):
        return None
    word = belonging.new_word()
    document = {
        "what": f"This folder is the {KEYS[place]} folder of a crackwatch station. Without this "
        "file the station takes the folder for one that is not mounted, and waits.",
        "station": mine.station,
        "folder": word,
        "name": name,
        "state": os.fspath(state),
        "adopted_at": belonging.now(),
    }
    try:
        descriptor = open_folder(folder)
        try:
            belonging.put_document(descriptor, FOLDER_MARKER, document)
        finally:
            os.close(descriptor)
    except OSError as exc:
        raise UsageError(
            f"{path_text(os.path.join(folder, FOLDER_MARKER))}: cannot be written: {exc.strerror}",
            "Do it as the user that the station runs as, who must be able to write there.",
        ) from exc
    try:
        belonging.remember(state, replace(mine, folders={**mine.folders, KEYS[place]: word}))
    except OSError as exc:
        raise belonging.unwritten(state, exc) from exc
    return Adoption(before)


def _identity(state: Path) -> belonging.Identity | None:
    try:
        return belonging.identity(state)
    except SystemFault:
        return None  # damaged: ``belonging.adopt`` makes it anew


def _marker(folder: bytes) -> Marker | None:
    """Raises UsageError where it cannot be read; a folder that is not there has none."""
    try:
        descriptor = open_folder(folder)
        try:
            return belonging.marker_in(descriptor, FOLDER_MARKER)
        finally:
            os.close(descriptor)
    except OSError as exc:
        if exc.errno in _NOT_THERE:
            return None
        raise UsageError(
            f"{path_text(os.path.join(folder, FOLDER_MARKER))}: cannot be read: {exc.strerror}",
            "Do it as the user that the station runs as, who must be able to read it.",
        ) from exc


def _lives(marker: Marker, own_state: Path) -> bool:
    """Whether the station of a marker is still to be found on this machine."""
    if marker.state is None or Path(marker.state) == own_state:
        return False
    try:
        found = belonging.identity(Path(marker.state))
    except SystemFault:
        return True  # something is there that this user may not read, or that is damaged
    return found is not None and found.station == marker.station
