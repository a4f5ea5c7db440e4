"""A model's card: what it is, what it learnt from, how far to trust it; never opens a model.

A card travels as ``card.json`` beside the model. Fields that this version does not know are kept as
they are, so that a card survives an older program; a card whose ``schema_version`` is newer is
refused, for its fields may mean something else.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    ValidationError,
    model_validator,
)

from crackwatch.errors import ModelError, ModelMissing, ModelTampered
from crackwatch.likeness import Reference

SCHEMA_VERSION = 1

CARD_FILE = "card.json"
MODEL_FILE = "lenet.keras"

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_RESERVED = frozenset({"champion", "previous"})
_MAX_CARD_BYTES = 16 * 1024 * 1024  # a card is read whole; this one would be no card


def is_id(text: str) -> bool:
    """Whether ``text`` can name a model: a plain file name, no separator and no leading dot."""
    return _ID.fullmatch(text) is not None and text not in _RESERVED


def checked_id(text: str) -> str:
    """``text`` itself. Raises ModelMissing if no model could have that name."""
    if not is_id(text):
        raise ModelMissing(
            f"{text!r} is not the id of a model", "'crackwatch models list' shows the ids."
        )
    return text


def new_id(recipe: str, created_at: datetime, sha256: str) -> str:
    """A readable id that sorts by time: ``2026-11-23T101500Z-station-ab12cd34``.

    ``created_at`` is timezone-aware; ``sha256`` is that of ``lenet.keras``, hex, so that two models
    made in the same second do not collide.
    """
    return f"{created_at.astimezone(UTC):%Y-%m-%dT%H%M%SZ}-{recipe}-{sha256[:8]}"


def runtime_key(runtime: str, precision: str) -> str:
    """How a card names what scored: ``openvino/f32``."""
    return f"{runtime}/{precision}"


def _must_be_id(text: str) -> str:
    if not is_id(text):
        raise ValueError("must be a plain file name of letters, digits, '.', '_' and '-'")
    return text


def _must_stay_inside(name: str) -> str:
    parts = name.split("/")
    if any(part in ("", ".", "..") for part in parts) or "\0" in name:
        raise ValueError("must be a path inside the model's folder")
    return name


def _must_be_a_reference(document: dict[str, JsonValue]) -> dict[str, JsonValue]:
    Reference.of_document(document)
    return document


ModelId = Annotated[str, AfterValidator(_must_be_id)]
FileName = Annotated[str, AfterValidator(_must_stay_inside)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Probability = Annotated[float, Field(ge=0, le=1)]
Figures = dict[str, JsonValue]
# a document of ``likeness.Reference``, with whatever a newer program added to it
Likeness = Annotated[Figures, AfterValidator(_must_be_a_reference)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)


class DataOrigin(_Part):
    """What a model learnt from. ``counts``: pictures by split and label.

    ``sha256`` is over the pictures' own hashes, as ``dataset`` defines it.
    """

    name: str
    sha256: Sha256
    counts: dict[str, dict[str, int]]
    licence: str | None = None
    citation: str | None = None


class Guarantee(_Part):
    """What a threshold was chosen to keep, and how far that is proved: see ``promise``.

    ``goal`` is min_recall, max_false_alarms_per_1000 or least_cost, ``target`` its number; both
    bounds are one-sided at ``confidence``. ``anomalies`` and ``normals`` are the independent
    examples that they rest on, ``examples`` says where these come from.
    """

    goal: str
    target: float | None
    confidence: float = Field(gt=0, lt=1)
    recall_bound: Probability
    false_alarms_per_1000_bound: float = Field(ge=0, le=1000)
    anomalies: int = Field(ge=0)
    normals: int = Field(ge=0)
    examples: str


class Threshold(_Part):
    """An anomaly is a score >= ``value``; ``chosen_by`` says how it was found, for a person."""

    value: Probability
    chosen_by: str
    promise: Guarantee | None = None


class TiledThreshold(_Part):
    """A photograph is an anomaly if ``min_tiles`` connected tiles score ``value`` or more.

    Chosen for photographs of ``tiles`` tiles; ``chosen_by`` says how, for a person. ``on`` is what
    it was chosen by: single crops, or photographs that were scored as wholes, by this model or by
    one whose threshold it keeps. ``promise`` is there where this model scored them. Tiles that score
    ``second_look_from`` or more are looked at again; None: none is.
    """

    value: Probability
    min_tiles: int = Field(default=1, ge=1)
    second_look_from: Probability | None = None
    tiles: int = Field(ge=1)
    chosen_by: str
    on: Literal["crops", "photographs"] = "crops"
    promise: Guarantee | None = None


# What a decision can be about, beside promotions, rejections and rollbacks.
THRESHOLD = "threshold"
TILED_THRESHOLD = "tiled_threshold"
SCALE = "scale"  # what one pixel of the pictures that were learned from shows


class Decision(_Part):
    """What was decided of a published model, when, by whom, and on which figures.

    ``what`` is a word such as threshold; ``old`` and ``new`` are there where it was that,
    ``old_tiled`` and ``new_tiled`` where it was the threshold of photographs, ``mm_per_px`` where
    it was ``SCALE``: None, that nobody knows it after all.
    """

    what: str
    decided_at: AwareDatetime
    decided_by: str
    reason: str
    old: Threshold | None = None
    new: Threshold | None = None
    old_tiled: TiledThreshold | None = None
    new_tiled: TiledThreshold | None = None
    mm_per_px: float | None = Field(default=None, gt=0)
    figures: Figures = {}


class Drawn(_Part):
    """One picture of crackwatch's own generator: ``synthetic.draw(seed, crack=crack)``."""

    seed: int
    crack: bool


class Golden(_Part):
    """Pictures that a model must always score alike.

    ``pixels_sha256`` is over the pictures' bytes, (N, 227, 227, 3) uint8 BGR in C order;
    ``scores`` are Keras's, in the same order; ``tolerance`` is how far another runtime's may be from
    them when the model is published. ``expected`` holds the scores that each runtime and precision
    gave then, by ``runtime_key``: what that runtime must go on giving. ``drawn`` tells how to draw
    the pictures again; None: they are held-out photographs and travel with the model as they are.
    """

    pixels_sha256: Sha256
    scores: tuple[Probability, ...] = Field(min_length=1)
    tolerance: float = Field(default=1e-4, gt=0, lt=1)
    expected: dict[str, tuple[Probability, ...]] = {}
    drawn: tuple[Drawn, ...] | None = None

    @model_validator(mode="after")
    def _as_many_each(self) -> Golden:
        for key, scores in self.expected.items():
            if len(scores) != len(self.scores):
                raise ValueError(f"expected.{key}: {len(scores)} scores, but {len(self.scores)}")
        return self

    def expects(self, runtime: str, precision: str) -> tuple[float, ...]:
        """The scores that this runtime gave at publication; Keras's where nobody asked it then."""
        return self.expected.get(runtime_key(runtime, precision), self.scores)


class Export(_Part):
    """How the OpenVINO files compared with Keras before the model was published."""

    largest_difference: float = Field(ge=0)  # of a probability
    compared: int = Field(ge=0)  # pictures
    flipped: int = Field(ge=0)  # verdicts that differed


class Fast(_Part):
    """How far the quick scores of precision "fast" were from the exact ones before publication.

    ``largest_difference`` is of a logit, over ``compared`` pictures, on ``processor``; ``margin``,
    some times as much, is what is counted on: see ``runtime.fast``.
    """

    largest_difference: float = Field(ge=0)
    compared: int = Field(gt=0)
    margin: float = Field(gt=0)
    processor: str


class Card(_Part):
    """All that is known of one model.

    ``scores`` holds, for each split that was evaluated, its metrics with their intervals;
    ``files`` the sha256 of every file of the folder except the card, and is filled in by
    ``Registry.publish``. ``parent`` is the model whose weights training began with;
    ``reference`` what the pictures that it learned from look like, for drift; ``mm_per_px`` their
    scale, millimetres that a pixel shows, None where nobody knows.
    ``decisions``, oldest first, and what they decide (the two thresholds, the scale) are all that
    changes once it is published.
    """

    schema_version: int = SCHEMA_VERSION
    id: ModelId
    created_at: AwareDatetime
    architecture: str
    parameters: int = Field(gt=0)
    recipe: str
    recipe_settings: dict[str, JsonValue] = {}
    seed: int
    libraries: dict[str, str]
    data: DataOrigin
    threshold: Threshold
    tiled: TiledThreshold | None = None
    temperature: float = Field(gt=0)
    shift: float = 0.0  # of a logit, taken off before it is divided by the temperature
    mm_per_px: float | None = Field(default=None, gt=0)
    scores: dict[str, dict[str, JsonValue]]
    parent: ModelId | None = None
    golden: Golden
    export: Export | None = None
    fast: Fast | None = None  # None: it was made where the processor has no bfloat16
    reference: Likeness | None = None
    files: dict[FileName, Sha256] = {}
    notes: tuple[str, ...] = ()
    decisions: tuple[Decision, ...] = ()

    @property
    def fast_margin(self) -> float | None:
        """In logits, for precision "fast"; None: nobody measured it."""
        return self.fast.margin if self.fast else None

    def to_json(self) -> str:
        """The text of ``card.json``."""
        return self.model_dump_json(indent=2) + "\n"


def read_card(folder: Path) -> Card:
    """The card in ``folder``; changes nothing.

    Raises ModelMissing if there is none, ModelTampered if it is no card, ModelError if it was
    written by a newer crackwatch or cannot be read.
    """
    file = folder / CARD_FILE
    try:
        with file.open("rb") as stream:
            text = stream.read(_MAX_CARD_BYTES)
    except (FileNotFoundError, NotADirectoryError) as exc:
        raise ModelMissing(
            f"{folder}: there is no model here ({CARD_FILE} is missing)",
            "'crackwatch models list' shows what there is.",
        ) from exc
    except OSError as exc:
        raise ModelError(
            f"{file}: cannot be read: {exc.strerror}", "Check the permissions of the folder."
        ) from exc
    try:
        card = Card.model_validate_json(text)
    except ValidationError as exc:
        first = exc.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ModelTampered(
            f"{file}: is not a model's card: {where + ': ' if where else ''}{first['msg']}",
            "Restore the model's folder from a copy, or use another model.",
        ) from exc
    if card.schema_version > SCHEMA_VERSION:
        raise ModelError(
            f"{file}: was written by a newer crackwatch (card version {card.schema_version}, "
            f"this one knows {SCHEMA_VERSION})",
            "Upgrade crackwatch, or use another model.",
        )
    return card
