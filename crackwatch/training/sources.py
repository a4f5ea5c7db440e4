"""Which labelled files a retraining begins with, and whether they can be enough; reads names only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from crackwatch import dataset
from crackwatch.dataset import LabelledFile, Layout
from crackwatch.domain import Label
from crackwatch.errors import DatasetError

REVIEWED = "reviewed"  # the folder of pictures that people judged, beside the base data
MINIMUM_REVIEWED = 20  # of a class, to continue a champion on reviewed pictures alone


@dataclass(frozen=True, slots=True)
class Sources:
    """Labelled files, and the folders that a refusal names.

    ``continues`` says that there is nothing but reviewed pictures, and a champion whose weights
    they may improve.
    """

    files: tuple[LabelledFile, ...]
    reviewed: frozenset[bytes]  # those of the files that people judged at the station
    places: dict[Label, Path]
    continues: bool

    @property
    def minimum(self) -> int:
        """How many different pictures of each class it takes.

        With reviewed pictures alone and a champion to continue, 20: the weights hold what was
        learned before. In every other case 50.
        """
        return MINIMUM_REVIEWED if self.continues else dataset.MINIMUM_PER_CLASS


def find(
    data: Path,
    recipe: Literal["notebook", "station"],
    has_champion: bool,
    reviewed_at_station: Path | None = None,
) -> Sources:
    """The labelled files of ``data`` and of its ``reviewed/``, and what the station's people judged.

    ``reviewed_at_station`` may be the same ``reviewed/`` or another. Raises DatasetError where
    ``data`` has no labelled folders, or there are fewer files of a class than it takes pictures.
    """
    reviewed = _layout(data / REVIEWED)
    reviewed_files = dataset.list_files(reviewed) if data.is_dir() else []
    elsewhere = reviewed_at_station
    if elsewhere is None or elsewhere.resolve() == (data / REVIEWED).resolve():
        station_files = []
    else:
        station_files = dataset.list_files(_layout(elsewhere))
    try:
        base = dataset.find_layout(data)
    except DatasetError as exc:
        if not reviewed_files:
            raise DatasetError(
                exc.problem,
                f"At least {dataset.MINIMUM_PER_CLASS} pictures of each class are needed: take "
                "them in with 'crackwatch dataset import FOLDER', where FOLDER holds anomaly/ and "
                "normal/, or name such a folder with --data.",
            ) from exc
        base = _layout(data)
    base_files = dataset.list_files(base)
    only_reviewed = bool(reviewed_files) and not base_files
    shown = reviewed if only_reviewed else base
    reviewed_files += station_files
    sources = Sources(
        files=(*base_files, *reviewed_files),
        reviewed=frozenset(file.path for file in reviewed_files),
        places={label: shown.of(label) for label in Label},
        continues=only_reviewed and has_champion and recipe == "station",
    )
    for label, place in sources.places.items():
        found = sum(file.label is label for file in sources.files)
        if found < sources.minimum:
            raise dataset.too_few(place, label, f"found {found}", sources.minimum)
    return sources


def _layout(folder: Path) -> Layout:
    return Layout(folder / Label.ANOMALY, folder / Label.NORMAL)
