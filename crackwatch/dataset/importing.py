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
from crackwatch.domain import Label
from crackwatch.errors import DatasetError
from crackwatch.escaping import path_text


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

    Into those of ``destination/train`` where they are there, as these are read instead.

    A file is taken in if it decodes and no file with the same bytes is there; its name gets a
    suffix if it is taken. Nothing is overwritten, moved or deleted; a copy appears whole or not at
    all. Run again, it takes in nothing twice. Files that cannot be used, and those that are there
    already with the *other* label, are in ``problems``. Raises DatasetError where ``source`` is no
    labelled folder, lies in ``destination`` or the other way round, or nothing can be written.
    """
    layout = find_layout(source)
    intake = Intake(source, destination)
    files = list_files(layout)
    for done, file in enumerate(files, start=1):
        got = read_and_decode(file.path, decode)
        if isinstance(got, Problem):
            intake.problems.append(got)
        else:
            intake.take(got[0], file.label, os.path.basename(file.path), file.path)
        progress(done, len(files))
    return Imported(
        intake.imported,
        intake.duplicates,
        intake.present[Label.ANOMALY],
        intake.present[Label.NORMAL],
        tuple(intake.problems),
    )


def _read_layout(dataset: Path) -> Layout:
    """The two folders that ``retrain`` will read: pictures in any others would never be learned from."""
    try:
        return find_layout(dataset)
    except DatasetError:  # there is nothing yet
        return Layout(dataset / Label.ANOMALY, dataset / Label.NORMAL)


class Intake:
    """Takes files into a dataset, none of them twice, and counts."""

    def __init__(self, source: Path, destination: Path) -> None:
        """Reads what is in the dataset. Raises DatasetError where one lies in the other."""
        real_source, real_target = source.resolve(), destination.resolve()
        if real_source.is_relative_to(real_target) or real_target.is_relative_to(real_source):
            raise DatasetError(
                f"{source} and the station's dataset {destination} lie in one another",
                "Name a folder outside of the dataset; what is inside it is used by 'crackwatch "
                "retrain' as it is.",
            )
        self._target = _read_layout(destination)
        self._known: dict[bytes, Label] = {}
        self.present: Counter[Label] = Counter()
        self.imported = 0
        self.duplicates = 0
        self.problems: list[Problem] = []
        for file in list_files(self._target):
            self.present[file.label] += 1
            try:
                self._known[hashlib.sha256(read_file(file.path)).digest()] = file.label
            except (OSError, ValueError):
                continue  # it cannot equal anything that is taken in; retrain reports it

    def take(self, content: bytes, label: Label, name: bytes, comes_from: bytes) -> None:
        """Takes in a picture under ``name``, if its bytes are not there. Raises DatasetError.

        ``comes_from`` is the path that a person is told where it is there with the other label.
        """
        digest = hashlib.sha256(content).digest()
        there = self._known.get(digest)
        if there is None:
            _copy_in(content, digest, self._target.of(label), name)
            self._known[digest] = label
            self.imported += 1
            self.present[label] += 1
        elif there is label:
            self.duplicates += 1
        else:
            self.problems.append(
                Problem(
                    path_text(comes_from),
                    f"labelled {label}, but the same file is in the dataset as {there}; "
                    "remove the wrong one",
                )
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
