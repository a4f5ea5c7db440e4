"""The file beside a quarantined picture that says why it is there; never replaces anybody else's."""

from __future__ import annotations

import contextlib
import json
import os
import stat
from typing import Any

from crackwatch import inbox as inbox_module
from crackwatch import syncing
from crackwatch.domain import QuarantineReason
from crackwatch.escaping import path_text
from crackwatch.filing import durable
from crackwatch.filing.names import SIDECAR_SUFFIX

KEYS = ["id", "source", "reason", "detail", "sha256"]
_MAX_BYTES = 1 << 20


def beside(picture: bytes) -> bytes:
    """The sidecar's name."""
    return picture + SIDECAR_SUFFIX


def read(sidecar: bytes) -> dict[str, Any] | None:
    """What stands there, if it can be a sidecar of ours. Raises OSError for a fault of the disk."""
    try:
        descriptor = os.open(sidecar, os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or status.st_size > _MAX_BYTES:
                return None
            document = json.loads(file.read())
    except OSError as exc:
        if exc.errno in inbox_module.SYSTEM_ERRNOS:
            raise
        return None
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def is_the_rows(sidecar: bytes, id: int, source: bytes) -> bool:
    """Whether the sidecar of this row stands there, or what an interrupted rename left of it."""
    try:
        if durable.is_reservation(os.lstat(sidecar)):
            return True
    except FileNotFoundError:
        return False
    document = read(sidecar)
    return document is not None and (document.get("id"), document.get("source")) == (
        id,
        path_text(source),
    )


def write(
    picture: bytes,
    id: int,
    source: bytes,
    reason: QuarantineReason,
    detail: str | None,
    sha256: bytes | None,
) -> None:
    """Puts the reason beside the picture, over what an earlier try left; on the disk when it has
    its name. A file that is not ours stays: the row has the reason too. Raises OSError.
    """
    document = {
        "id": id,
        "source": path_text(source),
        "reason": reason.value,
        "detail": detail,
        "sha256": sha256.hex() if sha256 else None,
    }
    sidecar = beside(picture)
    partial = os.path.join(os.path.dirname(picture), inbox_module.OWN_PREFIX + b"%d.json.part" % id)
    text = json.dumps(document, ensure_ascii=False, indent=2) + "\n"
    try:
        with open(partial, "wb") as file:
            file.write(text.encode())
        syncing.fsync_path(partial)
        if is_the_rows(sidecar, id, source):
            os.rename(partial, sidecar)
        else:
            durable.rename_noreplace(partial, sidecar)
    except FileExistsError:
        pass  # a person's file since a moment ago
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(partial)
