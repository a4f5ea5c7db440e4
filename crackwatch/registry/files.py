"""Files of a models folder: read, hashed, listed and replaced for good; knows no models."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from pathlib import Path

from crackwatch.errors import ModelError, ModelTampered
from crackwatch.syncing import fsync_path


def read_small(file: Path, most_bytes: int) -> str | None:
    """The text of a file, stripped, no more than ``most_bytes`` of it; None where there is none."""
    try:
        with file.open("rb") as stream:
            return stream.read(most_bytes).decode("utf-8", "replace").strip()
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise cannot("read", file, exc) from exc


def replace(target: Path, text: str, fresh: Path) -> None:
    """Gives ``target`` another content, whole and for good; ``fresh`` is what it is written as first."""
    try:
        with fresh.open("x", encoding="utf-8") as stream:
            _as_before(stream.fileno(), target)
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        fresh.replace(target)
        fsync_path(target.parent)
    except OSError as exc:
        fresh.unlink(missing_ok=True)
        raise cannot("write", target, exc) from exc


def sha256_of(file: Path) -> str:
    """Of a file's content, hex. Raises ModelTampered if it is missing, ModelError if unreadable."""
    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except FileNotFoundError as exc:
        raise ModelTampered(
            f"{file}: is missing", "Restore the model's folder from a copy."
        ) from exc
    except OSError as exc:
        raise cannot("read", file, exc) from exc


def files_below(folder: Path) -> set[str]:
    """Every file below ``folder``, relative to it; raises ModelTampered for anything else."""
    found: set[str] = set()
    try:
        for parent, folders, names in os.walk(folder, onerror=_raise):
            for name in folders + names:
                path = Path(parent, name)
                mode = path.lstat().st_mode
                if stat.S_ISREG(mode):
                    found.add(path.relative_to(folder).as_posix())
                elif not stat.S_ISDIR(mode):
                    raise ModelTampered(
                        f"{path}: is neither a file nor a folder",
                        "Remove it; a model's folder holds plain files only.",
                    )
    except OSError as exc:
        raise cannot("read", folder, exc) from exc
    return found


def _raise(error: OSError) -> None:
    raise error


def _as_before(descriptor: int, target: Path) -> None:
    """Mode and owner of the file that is replaced: what root changes, the service must read."""
    try:
        old = target.stat()
    except FileNotFoundError:
        return
    os.fchmod(descriptor, stat.S_IMODE(old.st_mode))
    with contextlib.suppress(PermissionError):  # only root may give a file away
        os.fchown(descriptor, old.st_uid, old.st_gid)


def sync_tree(folder: Path) -> None:
    """Files before the folders that name them."""
    for parent, _, names in os.walk(folder, topdown=False, onerror=_raise):
        for name in names:
            fsync_path(Path(parent, name))
        fsync_path(Path(parent))


def cannot(verb: str, path: Path, error: OSError) -> ModelError:
    """The error to raise where a path of a models folder cannot be read or written."""
    return ModelError(
        f"{path}: cannot {verb}: {error.strerror}",
        "Check the permissions of the models folder and the space on its disk.",
    )
