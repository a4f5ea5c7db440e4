"""The status file: what a running station says of itself, and what can be said of one from outside.

The daemon replaces ``state/status.json`` every second or so. A reader believes it only while the
lock's holder is the process that wrote it: a file that outlived its process says nothing.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from crackwatch import locking
from crackwatch.escaping import path_text
from crackwatch.health import drift
from crackwatch.health.board import Problem
from crackwatch.inbox import LeftAlone
from crackwatch.reported import DayDrift

STATUS_FILE = "status.json"
LOCK_FILE = "lock"
_END_FILE = "ended.json"  # why the last process ended, if it was not told to
SILENT_AFTER_S = 30.0  # a living process that has not written for this long hangs
_LATE_AFTER_S = 5.0  # one that wants to write every second has been kept from it

State = Literal["starting", "running", "paused", "unhealthy", "stopped"]


@dataclass(frozen=True, slots=True)
class LastGolden:
    """When the model last scored its golden pictures, and whether as it did at publication."""

    at: datetime
    good: bool
    largest_difference: float | None  # of a probability; None: a score was not a number


@dataclass(frozen=True, slots=True)
class ForReview:
    """How many doubtful pictures nobody has looked at yet; counted once a minute."""

    waiting: int


@dataclass(frozen=True, slots=True)
class Status:
    """What ``crackwatch status`` shows; the names are its JSON keys. Times are UTC."""

    state: State
    pid: int | None = None
    model: str | None = None
    inbox_pending: int | None = None
    oldest_pending_s: float | None = None
    last_batch_at: datetime | None = None
    inspected_today: int | None = None
    left_alone: tuple[LeftAlone, ...] = ()
    problems: tuple[Problem, ...] = ()
    # beyond the contract
    as_of: datetime | None = None
    started_at: datetime | None = None
    flagged_today: int | None = None
    pending_as_of: datetime | None = None
    observer: str | None = None
    threshold: float | None = None
    station: str | None = field(default=None)
    drift: tuple[DayDrift, ...] = ()  # of the working day's pictures, when last looked at
    last_golden: LastGolden | None = None
    review_band: ForReview | None = None  # None: the station has no band, or nothing was counted


def to_document(status: Status) -> dict[str, Any]:
    """The status as JSON: times ISO 8601, names as ``path_text`` shows them."""
    document = asdict(status)
    document["left_alone"] = [
        {"path": path_text(each.source), "reason": each.reason} for each in status.left_alone
    ]
    document["problems"] = [
        {
            "code": each.code,
            "severity": each.severity,
            "message": each.message,
            "remedy": each.remedy,
            "since": each.since.isoformat(timespec="seconds"),
        }
        for each in status.problems
    ]
    if status.last_golden is not None:
        document["last_golden"]["at"] = status.last_golden.at.isoformat(timespec="milliseconds")
    document["drift"] = [drift.document(each) for each in status.drift]
    for key, value in document.items():
        if isinstance(value, datetime):
            document[key] = value.isoformat(timespec="milliseconds")
    return document


def write(state_folder: Path, status: Status) -> None:
    """Replaces the status file in one step; not synced, for it means nothing after a power cut.

    On a full disk it is written over in place: it takes up room already, and this is when it
    matters. Raises OSError.
    """
    file, partial = state_folder / STATUS_FILE, state_folder / f".{STATUS_FILE}.part"
    text = json.dumps(to_document(status), ensure_ascii=False) + "\n"
    # a problem may name a folder whose name is no text; JSON has the same escapes as this handler
    document = text.encode("utf-8", "backslashreplace")
    try:
        partial.write_bytes(document)
        partial.replace(file)
    except OSError as exc:
        if exc.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        with contextlib.suppress(FileNotFoundError):
            partial.unlink()  # it is empty, or cut short
        with file.open("r+b") as standing:
            # in one piece, with blanks for what was longer: a reader sees the one or the other
            size = os.fstat(standing.fileno()).st_size
            standing.write(document.rstrip().ljust(size - 1) + b"\n")


def read(state_folder: Path) -> dict[str, Any]:
    """The station's status document, looked at from another process; changes nothing.

    ``state`` is "stopped" where no process holds the station's lock, "paused" where one does that is
    kept from saying anything because its folder is read-only, and "unhealthy" where one has been
    silent for half a minute.
    """
    pid = locking.holder(state_folder / LOCK_FILE)
    if pid is None:
        return {
            **to_document(Status("stopped", as_of=datetime.now(UTC))),
            "problems": _end(state_folder),
        }
    document: dict[str, Any] = {}
    with contextlib.suppress(OSError, ValueError):
        document = json.loads((state_folder / STATUS_FILE).read_text("utf-8"))
    if not isinstance(document, dict) or document.get("pid") != pid:
        return to_document(Status("starting", pid=pid, as_of=datetime.now(UTC)))
    silent_s = (datetime.now(UTC) - datetime.fromisoformat(document["as_of"])).total_seconds()
    if silent_s > _LATE_AFTER_S and _is_readonly(state_folder):
        document["state"] = "paused"
        document["problems"].append(_readonly(state_folder, document["as_of"]))
    elif silent_s > SILENT_AFTER_S:
        document["state"] = "unhealthy"
        document["problems"].append(
            {
                "code": "silent",
                "severity": "error",
                "message": f"process {pid} is alive but has said nothing for {silent_s:.0f} s",
                "remedy": "Look at its log (journalctl -u crackwatch) and at the room on the state "
                "folder's disk; restart it if it hangs.",
                "since": document["as_of"],
            }
        )
    return document


def _is_readonly(folder: Path) -> bool:
    try:
        return bool(os.statvfs(folder).f_flag & os.ST_RDONLY)
    except OSError:
        return False


def _readonly(state_folder: Path, since: str) -> dict[str, Any]:
    """What a station cannot say itself: that it may not write where it says things."""
    holds_books = (state_folder / "crackwatch.db").exists()
    return {
        "code": "database_readonly" if holds_books else "state_readonly",
        "severity": "error",
        "message": f"{path_text(os.fsencode(state_folder))}: is read-only, so "
        + ("nothing can be recorded, and " if holds_books else "")
        + f"the station cannot say how it is; this is as of {since}",
        "remedy": "Mount its disk for writing (a disk that fails is turned read-only: dmesg); "
        "inspection goes on by itself then.",
        "since": since,
    }


def tell_end(state_folder: Path, problem: str, remedy: str) -> None:
    """Leaves word of why the process ends, for ``read``; nothing where that cannot be written."""
    document = {"message": problem, "remedy": remedy, "since": datetime.now(UTC).isoformat()}
    with contextlib.suppress(OSError):
        text = json.dumps(document, ensure_ascii=False) + "\n"
        (state_folder / _END_FILE).write_bytes(text.encode("utf-8", "backslashreplace"))


def forget_end(state_folder: Path) -> None:
    """It has started since: whatever ended the process before it is over."""
    with contextlib.suppress(OSError):
        os.unlink(state_folder / _END_FILE)


def _end(state_folder: Path) -> list[dict[str, Any]]:
    """The problem that ended the last process, if one did and it could say so."""
    try:
        document = json.loads((state_folder / _END_FILE).read_text("utf-8"))
        told = {key: str(document[key]) for key in ("message", "remedy", "since")}
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return [{"code": "ended", "severity": "error", **told}]


def clear(state_folder: Path) -> None:
    """Removes the status file at a clean end; without its process nobody believes it anyway."""
    with contextlib.suppress(OSError):
        os.unlink(state_folder / STATUS_FILE)
