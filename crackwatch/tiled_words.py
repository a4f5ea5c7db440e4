"""How a threshold for photographs is worded, the same in cards, reports and commands; chooses none."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from crackwatch.tiled_promise import TiledPromise, Wish


def rule_text(min_tiles: int, second_look_from: float | None = None) -> str:
    """The rule in force, as the card and the report say it."""
    text = (
        "flagged by any one tile" if min_tiles == 1 else f"flagged by {min_tiles} tiles that touch"
    )
    if second_look_from is None:
        return text
    return f"{text}, after a second look at tiles that score {second_look_from:g} or more"


def goal_text(wish: Wish) -> str:
    """What was asked for, in one line; for a card's ``chosen_by`` and ``reason`` as well."""
    return (
        f"at most {wish.per_1000:g} false alarms per 1,000 photographs of {wish.tiles:,} tiles, "
        f"{rule_text(wish.min_tiles)}"
    )


def basis_text(found: TiledPromise) -> str:
    """What the threshold rests on."""
    return {
        "proved": f"proof, at a confidence of {found.confidence:g}",
        "estimated": "an ESTIMATE: the normals' scores continued to where none was seen",
        "given": "nothing: it is the model's own for single pictures",
    }[found.basis.value]


def rate_text(found: TiledPromise) -> str:
    """What of 1,000 photographs is proved and estimated to be flagged wrongly, for a card."""
    # a bound is rounded to the side on which it still holds
    bound = ceil(found.bound * 10) / 10
    text = f"proved: at most {bound:.1f} at a confidence of {found.confidence:g}"
    if found.estimate is not None:
        each = found.estimate
        text += f"; estimated: {each.expected:.1f} ({each.low:.1f} to {each.high:.1f})"
    if found.believed is not None:
        text += f", or {found.believed.expected:.1f} if every label is right"
    if found.left_out:
        text += f"; {left_out_text(found.left_out)}"
    return text


def left_out_text(count: int) -> str:
    """What was not believed; for a card's ``chosen_by`` as well."""
    from crackwatch.tiled_promise import DOUBTED_FROM

    what = "One normal that scores" if count == 1 else f"{count} normals that score"
    return (
        f"{what} {DOUBTED_FROM:g} or more had no part in the estimate: so few may well be cracks "
        "that were labelled wrongly. Look at them."
    )
