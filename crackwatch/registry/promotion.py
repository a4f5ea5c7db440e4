"""A promotion that has begun, as it is written down; and what a decision makes of a card."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from crackwatch.registry.card import SCALE, TILED_THRESHOLD, Card, Decision, is_id

_NOBODY = "-"  # in .promotion, where there was no champion; no id can be that


@dataclass(frozen=True, slots=True)
class Promotion:
    """One that has begun: done as soon as ``new`` is the champion, never done if it is not.

    As a file: "old new" in a line, below it the decision as JSON, if there is one.
    """

    old: str | None
    new: str
    decision: Decision | None

    def to_text(self) -> str:
        pointers = f"{self.old or _NOBODY} {self.new}"
        return (
            pointers if self.decision is None else f"{pointers}\n{self.decision.model_dump_json()}"
        )

    @classmethod
    def of_text(cls, text: str) -> Promotion | None:
        """None where the file holds nonsense."""
        pointers, _, rest = text.partition("\n")
        old, _, new = pointers.partition(" ")
        if not is_id(new) or not (is_id(old) or old == _NOBODY):
            return None
        decision = None
        with contextlib.suppress(ValueError):  # there is none
            decision = Decision.model_validate_json(rest)
        return cls(None if old == _NOBODY else old, new, decision)


def decided(card: Card, decision: Decision) -> Card:
    """The card with the decision as its last, and with the thresholds or the scale that it gives."""
    return card.model_copy(
        update={
            "threshold": decision.new or card.threshold,
            "tiled": decision.new_tiled if decision.what == TILED_THRESHOLD else card.tiled,
            "mm_per_px": decision.mm_per_px if decision.what == SCALE else card.mm_per_px,
            "decisions": (*card.decisions, decision),
        }
    )
