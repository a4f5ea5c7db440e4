"""Takes labelled pictures into a station's dataset; nothing is overwritten, moved or deleted."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from crackwatch.dataset.folders import (
    Decode,
    Layout,
    Problem,
    Progress,
    find_layout,
    list_files,
    no_progress,
    read_and_decode,
    read_file,
)
from crackwatch.domain import Label, path_text
from crackwatch.errors import DatasetError


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import did. ``anomaly`` and ``normal`` count what the dataset holds afterwards."""

    imported: int
    duplicates: int
    anomaly: int
    normal: int
    problems: tuple[Problem, ...]


def import_folder(
    source: Path, destination: Path, decode: Decode, progress: Progress = no_progress
) -> Imported:
    """Copies labelled pictures into ``destination``'s ``anomaly/`` and ``normal/``.

    A file is taken in if it decodes and no file with the same bytes is there; its name gets a
    suffix if it is taken. Nothing is overwritten, moved or deleted; a copy appears whole or not at
    all. Run again, it takes in nothing twice. Files that cannot be used, and those that are there
    already with the *other* label, are in ``problems``. Raises DatasetError where ``source`` is no
    labelled folder, lies in ``destination`` or the other way round, or nothing can be written.
    """
    layout = find_layout(source)
    target = Layout(destination / Label.ANOMALY, destination / Label.NORMAL)
    real_source, real_target = source.resolve(), destination.resolve()
    if real_source.is_relative_to(real_target) or real_target.is_relative_to(real_source):
        raise DatasetError(
            f"{source} and the station's dataset {destination} lie in one another",
            "Name a folder outside of the dataset; what is inside it is used by 'crackwatch "
            "retrain' as it is.",
        )
    files = list_files(layout)
    known: dict[bytes, Label] = {}
    present: Counter[Label] = Counter()
    for file in list_files(target):
        present[file.label] += 1
        try:
            known[hashlib.sha256(read_file(file.path)).digest()] = file.label
        except (OSError, ValueError):
            continue  # it cannot equal anything that is taken in; retrain reports it
    imported = duplicates = 0
    problems: list[Problem] = []
    for done, file in enumerate(files, start=1):
        got = read_and_decode(file.path, decode)
        if isinstance(got, Problem):
            problems.append(got)
        else:
            content = got[0]
            digest = hashlib.sha256(content).digest()
            there = known.get(digest)
            if there is None:
                _copy_in(content, digest, target.of(file.label), os.path.basename(file.path))
                known[digest] = file.label
                imported += 1
                present[file.label] += 1
            elif there is file.label:
                duplicates += 1
            else:
                problems.append(
                    Problem(
                        path_text(file.path),
                        f"labelled {file.label}, but the same file is in the dataset as {there}; "
                        "remove the wrong one",
                    )
                )
        progress(done, len(files))
    return Imported(
        imported, duplicates, present[Label.ANOMALY], present[Label.NORMAL], tuple(problems)
    )


def _copy_in(content: bytes, digest: bytes, folder: Path, name: bytes) -> None:
    """Writes a new file, whole or not at all, under a name that is free."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".import-") as temporary:
            temporary.write(content)
            temporary.flush()
            os.fchmod(temporary.fileno(), 0o644)
            os.fsync(temporary.fileno())
            base = os.fsencode(folder)
            stem, suffix = os.path.splitext(name)
            mark = b"-" + digest.hex()[:12].encode()
            for candidate in (name, stem[: 250 - len(mark) - len(suffix)] + mark + suffix):
                try:
                    os.link(os.fsencode(temporary.name), os.path.join(base, candidate))
                except FileExistsError:
                    continue
                break
            else:
                raise DatasetError(
                    f"{folder}: both names for {path_text(name)} are taken by other files",
                    "Rename the file and import it again.",
                )
    except OSError as exc:
        raise DatasetError(
            f"{folder}: {path_text(name)} cannot be copied there: {exc.strerror}",
            "Check free space and permissions; what was imported so far stays.",
        ) from exc
