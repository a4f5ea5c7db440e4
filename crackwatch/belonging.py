"""Whether the folder at the inbox's path is this station's inbox; knows nothing of what is in it.

A share that is not mounted leaves an empty folder behind. So ``crackwatch init`` puts a marker into
the inbox, ``.crackwatch-inbox.json``, with two words that ``state/station.json`` holds as well: who
the station is, and which adoption this was. A folder without the marker, or with another one, is not
looked into. Each adoption has a word of its own: a marker that was put into the empty folder below a
mount by mistake does not stand beside a valid one for ever.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from crackwatch.errors import SystemFault, UsageError
from crackwatch.escaping import path_text
from crackwatch.inbox import FOLDER_MARKER, MARKER, SYSTEM_ERRNOS, inbox_fault, open_folder

IDENTITY_FILE = "station.json"  # in the state folder

MISSING, UNMARKED, FOREIGN = "inbox_missing", "inbox_unmarked", "inbox_foreign"
UNREADABLE = "inbox_unreadable"
UNGUARDED = "inbox_unguarded"  # a warning: a station from before there were markers

_WORD_KEYS = {MARKER: "inbox", FOLDER_MARKER: "folder"}  # of the adoption's word, in a marker

Stamp = tuple[int, int, int, int]

_MAX_BYTES = 4_096
_FOREIGN_REMEDY = (
    "Mount the right folder, or name it under [folders] inbox; inspection goes on by itself. "
)


@dataclass(frozen=True, slots=True)
class Identity:
    """``station`` stays for life; ``inbox`` is new with each adoption of a folder.

    ``folders`` has such a word for each folder that pictures are moved to (``own_places``), by its
    key in [folders]; ``name`` is the one under which rows were last recorded (``naming``). Both are
    empty for a station that was made before they were kept.
    """

    station: str
    inbox: str
    folders: Mapping[str, str] = field(default_factory=dict)
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Marker:
    """What stands in a folder: whose it is, and by which adoption.

    ``state`` is where that station keeps its identity; None in an inbox.
    """

    station: str
    word: str
    name: str
    adopted_at: str
    state: str | None = None


@dataclass(frozen=True, slots=True)
class Adoption:
    """A folder was marked; ``before`` is the marker that it had, if any could be read."""

    before: Marker | None


class OwnInbox:
    """Answers whether a folder is the inbox of the station in ``state``; any thread may ask.

    A question costs one ``stat`` as long as the marker stands there untouched. ``home`` is what
    ``crackwatch init`` is to be called with.
    """

    def __init__(self, inbox: bytes, state: Path, home: Path) -> None:
        self._inbox = inbox
        self._state = state
        self._adopt = (
            "If this folder really is to be the inbox from now on, adopt it: crackwatch init "
            f"{home}."
        )
        self._good: Stamp | None = None  # the marker's stamp when last believed
        self.guarded = True  # False: the station has no identity yet, any folder would do

    def check(self) -> None:
        """Raises SystemFault unless the inbox is there, can be opened and is this station's."""
        try:
            folder = open_folder(self._inbox)
        except OSError as exc:
            raise inbox_fault(self._inbox, exc) from exc
        try:
            self.verify(folder)
        finally:
            os.close(folder)

    def verify(self, folder_fd: int) -> None:
        """The same of an inbox that is open already, which cannot be unmounted meanwhile."""
        stamp = stamp_in(folder_fd, MARKER)
        if stamp is not None and stamp == self._good:
            return
        mine = identity(self._state)
        marker = self._marker(folder_fd)
        if mine is None and marker is None:
            self.guarded = False  # made before there were markers: it goes on as it did
            return
        if marker is None:
            raise SystemFault(
                UNMARKED,
                f"{path_text(self._inbox)}: has no {os.fsdecode(MARKER)}, so it is not known to be "
                "this station's inbox; is it not mounted?",
                f"Mount it; inspection goes on by itself. {self._adopt}",
            )
        if mine is None or (marker.station, marker.word) != (mine.station, mine.inbox):
            raise SystemFault(FOREIGN, self._whose(marker, mine), _FOREIGN_REMEDY + self._adopt)
        self._good = stamp
        self.guarded = True

    def _whose(self, marker: Marker, mine: Identity | None) -> str:
        where = path_text(self._inbox)
        if mine is not None and marker.station == mine.station:
            return (
                f"{where}: was this station's inbox once, and another folder was adopted after "
                f"{marker.adopted_at}"
            )
        return f"{where}: is marked as the inbox of another station, {marker.name!r}"

    def _marker(self, folder_fd: int) -> Marker | None:
        try:
            return marker_in(folder_fd, MARKER)
        except OSError as exc:
            code = "inbox_io" if exc.errno in SYSTEM_ERRNOS else UNREADABLE
            raise SystemFault(
                code,
                f"{path_text(os.path.join(self._inbox, MARKER))}: cannot be read: {exc.strerror}",
                "Let this user read it, or look at that disk; inspection goes on by itself then.",
            ) from exc


def identity(state: Path) -> Identity | None:
    """What the station in ``state`` is, or None where nobody has told it yet.

    Raises SystemFault where it cannot be read.
    """
    file = state / IDENTITY_FILE
    try:
        text = file.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as exc:
        raise SystemFault(
            UNREADABLE,
            f"{file}: cannot be read: {exc.strerror}",
            "Let this user read it; it says which inbox is this station's.",
        ) from exc
    found = _object(text)
    folders = found.get("folders", {}) if found is not None else {}
    if (
        found is None
        or not _words(found, "station", "inbox")
        or not isinstance(folders, dict)
        or not _words(folders, *folders)
    ):
        raise SystemFault(
            UNREADABLE,
            f"{file}: is damaged, so that no inbox can be known to be this station's",
            "Adopt the inbox anew: run crackwatch init on the station's folder.",
        )
    name = found.get("name")
    return Identity(
        found["station"], found["inbox"], folders, name if isinstance(name, str) else None
    )


def remember(state: Path, mine: Identity) -> None:
    """Writes down what the station in ``state`` is. Raises OSError."""
    document: dict[str, Any] = {"station": mine.station, "inbox": mine.inbox}
    if mine.folders:
        document["folders"] = dict(mine.folders)
    if mine.name is not None:
        document["name"] = mine.name
    state_fd = open_folder(os.fsencode(state))
    try:
        put_document(state_fd, os.fsencode(IDENTITY_FILE), document)
    finally:
        os.close(state_fd)


def stamp_in(folder_fd: int, name: bytes) -> Stamp | None:
    """By what a marker is known again without being read; None where it cannot be looked at."""
    try:
        found = os.stat(name, dir_fd=folder_fd, follow_symlinks=False)
    except OSError:
        return None  # reading it says what is wrong
    return stamp_of(found)


def stamp_of(found: os.stat_result) -> Stamp:
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns


def marker_in(folder_fd: int, name: bytes) -> Marker | None:
    """The marker of an open folder; None where there is none, or none that says anything.

    ``name`` is MARKER, or FOLDER_MARKER. Raises OSError.
    """
    try:
        descriptor = os.open(
            name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder_fd
        )
    except OSError as exc:
        if exc.errno in (errno.ENOENT, errno.ELOOP, errno.ENXIO):
            return None
        raise
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        found = _object(os.read(descriptor, _MAX_BYTES))
    finally:
        os.close(descriptor)
    key = _WORD_KEYS[name]
    if found is None or not _words(found, "station", key, "name", "adopted_at"):
        return None
    state = found.get("state")
    return Marker(
        found["station"],
        found[key],
        found["name"],
        found["adopted_at"],
        state if isinstance(state, str) else None,
    )


def adopt(inbox: Path, state: Path, name: str) -> Adoption | None:
    """Makes ``inbox`` the inbox of the station in ``state``; None where it is so already.

    The marker is written before the station knows of it: interrupted in between, the station waits,
    and the next call finishes. Raises UsageError where either cannot be written.
    """
    try:
        mine = identity(state)
    except SystemFault:
        mine = None  # damaged: it becomes another station's, and all is said anew
    try:
        folder = open_folder(os.fsencode(inbox))
    except OSError as exc:
        raise UsageError(
            f"{inbox}: cannot be opened: {exc.strerror}", "Check its place and its rights."
        ) from exc
    try:
        before = marker_in(folder, MARKER)
        if (
            mine is not None
            and before is not None
            and (before.station, before.word) == (mine.station, mine.inbox)
        ):
            return None
        word = new_word()
        adopted = replace(mine, inbox=word) if mine else Identity(secrets.token_hex(16), word)
        marker = {
            "what": "This folder is the inbox of a crackwatch station. Without this file the "
            "station takes the folder for one that is not mounted, and waits.",
            "station": adopted.station,
            "inbox": adopted.inbox,
            "name": name,
            "adopted_at": now(),
        }
        put_document(folder, MARKER, marker)
    except OSError as exc:
        raise UsageError(
            f"{inbox / os.fsdecode(MARKER)}: cannot be written: {exc.strerror}",
            "Run init as a user who may write there. All else is ready: a station that never had a "
            "marker works without, but cannot tell an inbox that is not mounted from an empty one.",
        ) from exc
    finally:
        os.close(folder)
    try:
        remember(state, adopted)
    except OSError as exc:
        raise unwritten(state, exc) from exc
    return Adoption(before)


def unwritten(state: Path, exc: OSError) -> UsageError:
    """The station's own note of what it is could not be made."""
    return UsageError(
        f"{state / IDENTITY_FILE}: cannot be written: {exc.strerror}",
        "Do it as the user that the station runs as.",
    )


def new_word() -> str:
    return secrets.token_hex(8)


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def put_document(folder_fd: int, name: bytes, document: dict[str, Any]) -> None:
    """Puts a document under a name in one step, durably; readable for every user. Raises OSError."""
    partial = name + b".part"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(partial, dir_fd=folder_fd)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(partial, flags, 0o644, dir_fd=folder_fd)
    try:
        text = json.dumps(document, ensure_ascii=False, indent=2) + "\n"
        os.write(descriptor, text.encode("utf-8", "backslashreplace"))
        with contextlib.suppress(PermissionError):  # FAT knows no modes
            os.fchmod(descriptor, 0o644)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.rename(partial, name, src_dir_fd=folder_fd, dst_dir_fd=folder_fd)
    os.fsync(folder_fd)


def _object(text: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _words(found: dict[str, Any], *keys: str) -> bool:
    return all(isinstance(found.get(key), str) for key in keys)
