"""How ``tune --tiles`` words a threshold for photographs: lines for a person, figures for a script."""

from __future__ import annotations

from dataclasses import asdict
from math import ceil, floor
from typing import TYPE_CHECKING, Any

from crackwatch.tiled_words import basis_text, goal_text, left_out_text

if TYPE_CHECKING:
    from crackwatch.tiled_promise import Chain, TiledPromise, Wish


def lines(found: TiledPromise) -> list[tuple[str, str]]:
    """Names and values of the table that a person sees, the threshold's own line left out."""
    sure = f"at a confidence of {found.confidence:g}"
    rows = [
        ("goal", goal_text(found.wish)),
        ("rests on", basis_text(found)),
        # a bound is rounded to the side on which it still holds
        ("false alarms, proved", f"at most {_up(found.bound, 1)} per 1,000 {sure}"),
    ]
    if found.estimate is None:
        rows.append(("false alarms, estimated", "too few normals for an estimate"))
    else:
        expected, low, high = found.estimate.expected, found.estimate.low, found.estimate.high
        rows.append(
            ("false alarms, estimated", f"{expected:.1f} per 1,000  ({low:.1f} to {high:.1f})")
        )
    if found.believed is not None:
        expected, low, high = found.believed.expected, found.believed.low, found.believed.high
        rows.append(
            ("", f"{expected:.1f} per 1,000  ({low:.1f} to {high:.1f}) if every label is right")
        )
    if found.if_independent is not None:
        rows.append(
            ("", f"{found.if_independent:.2g} if tiles did not know of one another: a floor")
        )
    rows.append(("recall of one tile", f"{found.recall:.4f}  at least {_down(found.recall_bound)}"))
    rows += [(_through(chain), _found(chain, found.wish)) for chain in found.chains]
    return rows


def _through(chain: Chain) -> str:
    return f"crack in {chain.tiles} tile{'s' if chain.tiles > 1 else ''}"


def _found(chain: Chain, wish: Wish) -> str:
    if chain.tiles < wish.min_tiles:
        return "never found: the rule asks for more tiles"
    text = f"{chain.at_least:.4f}  at least {_down(chain.bound)}"
    if chain.tiles == 1:
        return text
    return f"{text}; {chain.if_independent:.4f} if tiles did not know of one another"


def remarks(found: TiledPromise) -> list[str]:
    """What a person has to know of these figures, a line each."""
    from crackwatch.tiled_promise import normals_needed, photographs_needed

    wish = found.wish
    said = [
        "All of this holds for photographs whose tiles are, on average, like the single pictures "
        "that were scored.",
        "How the tiles of one photograph hang together cannot be had from single pictures: the "
        "figures hold whatever they do, but for those that say 'if'.",
    ]
    if found.bound > wish.per_1000:
        normals, photographs = (
            needed(wish, found.confidence) for needed in (normals_needed, photographs_needed)
        )
        said.append(
            f"Proof takes {normals:,} independent normals, none of them flagged, or "
            f"{photographs:,} photographs without a crack, none of them flagged."
        )
    if found.left_out:
        said.append(left_out_text(found.left_out))
    if found.what_if:
        scored = found.independent.fp + found.independent.tn
        said.append(
            f"At this goal one tile in {floor(1 / wish.tile_rate):,} may be a false alarm, "
            f"{wish.tile_rate * scored:.1f} of the {scored:,} normals that were scored: a few wrong "
            "labels among them decide the threshold. See whether the highest show cracks."
        )
        said += [
            f"Had the {'highest' if each.left_out == 1 else f'{each.left_out} highest'}"
            f"{' of the others' if found.left_out else ''} shown cracks: threshold "
            f"{each.threshold:.6g}, recall of one tile {each.recall:.4f}."
            for each in found.what_if
        ]
    return said


def figures(found: TiledPromise) -> dict[str, Any]:
    """What ``--format json`` and the card's ``decisions`` have of it; false alarms per 1,000."""
    from crackwatch.tiled_promise import normals_needed, photographs_needed

    wish = found.wish
    return {
        "basis": found.basis.value,
        "tiles": wish.tiles,
        "min_tiles": wish.min_tiles,
        "max_false_alarms_per_1000": wish.per_1000,
        "confidence": found.confidence,
        "threshold": found.threshold,
        "false_alarms_per_1000_bound": found.bound,
        "false_alarms_per_1000_estimate": (
            None if found.estimate is None else asdict(found.estimate)
        ),
        "false_alarms_per_1000_if_independent": found.if_independent,
        "recall": found.recall,
        "recall_bound": found.recall_bound,
        **asdict(found.pictures),
        "independent": asdict(found.independent),
        "chains": [asdict(each) for each in found.chains],
        "what_if": [asdict(each) for each in found.what_if],
        "left_out": found.left_out,
        "false_alarms_per_1000_if_every_label_is_right": (
            None if found.believed is None else asdict(found.believed)
        ),
        "normals_needed": normals_needed(wish, found.confidence),
        "photographs_needed": photographs_needed(wish, found.confidence),
    }


def _down(share: float) -> str:
    return f"{floor(share * 10**4) / 10**4:.4f}"


def _up(value: float, digits: int) -> str:
    return f"{ceil(value * 10**digits) / 10**digits:.{digits}f}"
