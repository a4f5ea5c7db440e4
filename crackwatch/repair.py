"""What to do about each thing that an audit found wrong; decides, and changes nothing.

A row whose file is gone is accepted as *vanished*, by a person; a file that no row explains is taken
in: it goes into the inbox, as a new arrival. Nothing is deleted but what crackwatch itself wrote in
folders of its own: partial copies, whose sources were never given up, and the reasons of quarantined
pictures that no row knows any more.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from crackwatch.audited import Finding
from crackwatch.domain import OVERLAY_SUFFIX, Departure, DepartureKind, Fingerprint, Place
from crackwatch.errors import UsageError
from crackwatch.escaping import path_bytes, path_text
from crackwatch.filing import sidecars
from crackwatch.inbox import OWN_PREFIX, NamePolicy

Action = Literal["accept", "take_in", "remove", "leave"]

_DAY = re.compile(rb"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_PARTIAL = re.compile(re.escape(OWN_PREFIX) + rb"[0-9]{1,18}\.(?:part|json\.part|overlay\.part)")
_REASON_MAX_BYTES = 1 << 20
_GONE = re.compile(re.escape(OWN_PREFIX) + rb"[0-9]{1,18}\.gone")


@dataclass(frozen=True, slots=True)
class Step:
    """One finding and what is to be done about it; ``why`` says it of what is left."""

    action: Action
    finding: Finding
    why: str = ""
    departure: Departure | None = None  # of what is taken in
    wanted: bytes = b""  # the name that it would have in the inbox


class Disks(Protocol):
    """What the books know of the disks that arrivals were on: see ``store.audits``."""

    def devices(self, ids: Sequence[int]) -> Mapping[int, int]: ...
    def kept_on(self, device: int) -> Sequence[bytes]: ...


def chooser(texts: Sequence[str], findings: Sequence[Finding]) -> Callable[[Finding], bool]:
    """Whether a missing file is one of those that a person named: by number, path, or folder.

    Raises UsageError for a text that names nothing that is missing.
    """
    missing = [each for each in findings if each.kind == "missing" and each.id is not None]
    chosen: set[int | None] = set()
    for text in texts:
        paths = {
            os.path.normpath(os.path.join(os.getcwdb(), spelling))
            for spelling in (os.fsencode(text), path_bytes(text))
        }
        mine = {
            each.id
            for each in missing
            if str(each.id) == text
            or any(each.path == path or each.path.startswith(path + b"/") for path in paths)
        }
        if not mine:
            raise UsageError(
                f"{text}: nothing of that name or number is missing",
                "'crackwatch audit' lists what is missing, with its path and its row; a folder "
                "means everything that is missing below it.",
            )
        chosen |= mine
    return lambda finding: finding.id in chosen


def plan(
    findings: Sequence[Finding],
    folders: Mapping[Place, bytes],
    policy: NamePolicy,
    sources: Mapping[int, bytes],
    *,
    disks: Disks | None = None,
    accepts: Callable[[Finding], bool] | None = None,
    accept_only: bool = False,
    changed: bool = False,
) -> list[Step]:
    """A step for each finding. ``folders`` has the inbox under KEPT; ``sources`` are rows' by id.

    ``accepts`` limits what is accepted to what a person named, and vouches for that; without it, the
    files of a folder that is empty, not there, or on another disk than its pictures were on are
    left: it may not be mounted. ``disks`` is asked for the last. With
    ``accept_only`` nothing else is done. ``changed``: files that are not what was inspected are
    taken in as well.
    """
    looks = _Looks(folders, disks, [each.id for each in findings if each.kind == "missing"])
    steps: list[Step] = []
    for each in findings:
        place = next(
            (one for one, path in folders.items() if each.path.startswith(path + b"/")), None
        )
        if place is None:
            steps.append(Step("leave", each, "it lies in no folder of this station"))
        elif each.kind == "missing":
            steps.append(_missing(each, accepts, looks.away(each, place)))
        elif accept_only:
            steps.append(Step("leave", each, "only what --accept names was asked for"))
        elif each.kind == "changed" and not changed:
            steps.append(Step("leave", each, "look at it; --take-in-changed sends it to the inbox"))
        else:
            steps.append(_stray(each, place, folders[place], policy, sources))
    return steps


def _missing(each: Finding, accepts: Callable[[Finding], bool] | None, away: bytes | None) -> Step:
    if accepts is not None:
        if accepts(each):
            return Step("accept", each)
        return Step("leave", each, "it is not among what --accept names")
    if away is not None:
        return Step(
            "leave",
            each,
            f"{path_text(away)} is empty, not there, or not the disk that it was on: is something "
            "not mounted? If all that is really gone: --accept FOLDER",
        )
    if each.id is None or os.path.lexists(each.path):
        return Step("leave", each, "something else stands under its name: move that away first")
    return Step("accept", each)


def _stray(
    each: Finding,
    place: Place,
    folder: bytes,
    policy: NamePolicy,
    sources: Mapping[int, bytes],
) -> Step:
    name = os.path.relpath(each.path, folder)
    base = os.path.basename(name)
    try:
        status = os.lstat(each.path)
    except OSError as exc:
        return Step("leave", each, f"it cannot be looked at: {exc.strerror}")
    if not stat.S_ISREG(status.st_mode):
        return Step("leave", each, "it is no regular file")
    if _GONE.fullmatch(base):
        source = sources.get(each.id) if each.id is not None else None
        if source is None:
            return Step("leave", each, "no row says what it was called: give it a picture's name")
        wanted = source
    elif place is Place.KEPT:
        return Step("leave", each, "it lies in the inbox already: the station looks at it there")
    elif _PARTIAL.fullmatch(base) or (place is Place.QUARANTINED and _is_reason(each.path)):
        return Step("remove", each)
    elif place is Place.FLAGGED and base.endswith(OVERLAY_SUFFIX):
        return Step("leave", each, "a marked copy, by its name, and no picture: delete it by hand")
    else:
        day, _, rest = name.partition(b"/")
        wanted = rest if rest and _DAY.fullmatch(day) else name
    if not policy.accepts(wanted):
        return Step(
            "leave",
            each,
            "its name is none of a picture ([files] patterns, recursive): move or delete it yourself",
        )
    departure = Departure(
        0,
        DepartureKind.RETURN,
        each.id if each.kind == "changed" else None,
        place,
        name,
        status.st_size,
        status.st_mtime_ns,
        None,
        None,
        0,
    )
    return Step("take_in", each, departure=departure, wanted=wanted)


def _is_reason(path: bytes) -> bool:
    """Whether it is a reason that crackwatch wrote beside a picture, to the last key."""
    if not path.endswith(b".json"):
        return False
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            document = json.loads(file.read(_REASON_MAX_BYTES))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(document, dict) and list(document) == sidecars.KEYS


class _Looks:
    """Whether folders look as they do when a disk is away; each is asked once."""

    def __init__(
        self, folders: Mapping[Place, bytes], disks: Disks | None, ids: Sequence[int | None]
    ) -> None:
        self._folders = folders
        self._disks = disks
        self._recorded = disks.devices([id for id in ids if id is not None]) if disks else {}
        self._lost: dict[bytes, bool] = {}
        self._now: dict[int, int] = {}  # what a recorded device is numbered today

    def away(self, each: Finding, place: Place) -> bytes | None:
        """The folder of a missing file that may not be mounted; None where nothing says so."""
        root = self._folders[place]
        folder = os.path.dirname(each.path)
        while folder != root and not os.path.isdir(folder):
            folder = os.path.dirname(folder)
        if folder not in self._lost:
            self._lost[folder] = _is_lost(folder)
        if self._lost[folder]:
            return folder
        # only of a file of the inbox do the books know the disk: that of its arrival
        recorded = self._recorded.get(each.id or 0) if place is Place.KEPT else None
        if recorded is not None and self._today(recorded) != _device(folder):
            return folder
        return None

    def _today(self, recorded: int) -> int:
        """Devices may be numbered anew at a reboot: other files of the same one tell."""
        if recorded not in self._now:
            sources = self._disks.kept_on(recorded) if self._disks else []
            inbox = self._folders[Place.KEPT]
            found = (_device(os.path.join(inbox, source)) for source in sources)
            self._now[recorded] = next((each for each in found if each is not None), recorded)
        return self._now[recorded]


def _device(path: bytes) -> int | None:
    try:
        return Fingerprint.of(os.lstat(path)).device
    except OSError:
        return None


def _is_lost(folder: bytes) -> bool:
    """Whether a folder looks as a mount point does when nothing is mounted there."""
    try:
        with os.scandir(folder) as entries:
            return next(entries, None) is None
    except OSError:
        return True
