"""Labelled pictures: import, checks, grouping of copies, splits, streaming; knows no model.

``folders`` are as they lie on disk, ``pictures`` decoded, ``copies`` says which are one picture,
``overlaps`` which show the same concrete, ``origins`` which were cut from one photograph, ``kinship`` brings them
together; ``splits`` and ``folds`` divide them, ``importing`` takes new ones in, ``cutting`` cuts them
from photographs first.
"""

from crackwatch.dataset.copies import (
    TEXTURE_BYTES,
    fold,
    near_duplicates,
    orientations,
    pixel_hash,
    texture,
    texture_bits,
)
from crackwatch.dataset.cutting import CutOut, Marks, import_photographs, read_boxes
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
from crackwatch.dataset.kinship import Kinship, Leaks, groups, kinship, labelled_both_ways, leaks
from crackwatch.dataset.origins import name_of, photograph_of
from crackwatch.dataset.overlaps import Landmarks, overlaps
from crackwatch.dataset.pictures import Pictures, PixelCache, load, require_enough
from crackwatch.dataset.splits import Split, split

__all__ = [
    "MINIMUM_PER_CLASS",
    "TEXTURE_BYTES",
    "CutOut",
    "Decode",
    "Imported",
    "Kinship",
    "LabelledFile",
    "Landmarks",
    "Layout",
    "Leaks",
    "Marks",
    "Pictures",
    "PixelCache",
    "Problem",
    "Progress",
    "Split",
    "find_layout",
    "fold",
    "folds",
    "groups",
    "import_folder",
    "import_photographs",
    "kinship",
    "labelled_both_ways",
    "leaks",
    "list_files",
    "load",
    "name_of",
    "near_duplicates",
    "no_progress",
    "orientations",
    "overlaps",
    "photograph_of",
    "pixel_hash",
    "read_and_decode",
    "read_boxes",
    "read_file",
    "require_enough",
    "split",
    "texture",
    "texture_bits",
    "too_few",
]
