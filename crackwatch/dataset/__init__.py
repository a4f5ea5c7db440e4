"""Labelled pictures: import, checks, grouping of copies, splits, streaming; knows no model.

``folders`` are as they lie on disk, ``pictures`` decoded, ``copies`` says which are one,
``splits`` and ``folds`` divide them, ``importing`` takes new ones in.
"""

from crackwatch.dataset.copies import orientations, pixel_hash
from crackwatch.dataset.folders import (
    MINIMUM_PER_CLASS,
    Decode,
    LabelledFile,
    Layout,
    Problem,
    Progress,
    find_layout,
    list_files,
    no_progress,
    read_and_decode,
    read_file,
    too_few,
)
from crackwatch.dataset.folds import folds
from crackwatch.dataset.importing import Imported, import_folder
from crackwatch.dataset.pictures import Pictures, PixelCache, load, require_enough
from crackwatch.dataset.splits import Split, groups, split

__all__ = [
    "MINIMUM_PER_CLASS",
    "Decode",
    "Imported",
    "LabelledFile",
    "Layout",
    "Pictures",
    "PixelCache",
    "Problem",
    "Progress",
    "Split",
    "find_layout",
    "folds",
    "groups",
    "import_folder",
    "list_files",
    "load",
    "no_progress",
    "orientations",
    "pixel_hash",
    "read_and_decode",
    "read_file",
    "require_enough",
    "split",
    "too_few",
]
