"""From scores and a threshold to a verdict, and to the place where the file belongs: pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crackwatch import score_map, tiling
from crackwatch.domain import Box, Label, Photograph, Place, Prediction, Verdict

_NORMAL_PLACES = {"keep": Place.KEPT, "archive": Place.ARCHIVED, "delete": Place.DELETED}


def judge(prediction: Prediction, threshold: float) -> Verdict:
    """Anomaly if the score reaches the threshold.

    Raises ValueError for a score that is no probability: a broken model must not pass cracks.
    """
    score = prediction.score
    if not (math.isfinite(score) and 0.0 <= score <= 1.0):
        raise ValueError(f"the score {score!r} is not a probability")
    return Label.ANOMALY if score >= threshold else Label.NORMAL


def require_probabilities(scores: NDArray[np.floating]) -> None:
    """Raises ValueError where one of ``scores``, of any shape, is none."""
    broken = ~((scores >= 0) & (scores <= 1))  # nan as well
    if broken.any():
        raise ValueError(f"the score {float(scores[broken][0])!r} is not a probability")


@dataclass(frozen=True, slots=True)
class JudgedTiles:
    """What the tiles of one photograph came to. ``clusters`` are of those over the threshold."""

    verdict: Verdict
    prediction: Prediction  # the highest tile's
    min_tiles: int  # the rule that was applied
    over: NDArray[np.bool_]  # (rows, columns)
    clusters: tuple[NDArray[np.intp], ...]  # tile numbers, the largest cluster first

    @property
    def largest_cluster(self) -> int:
        return len(self.clusters[0]) if self.clusters else 0


def judge_tiles(scores: NDArray[np.floating], threshold: float, min_tiles: int) -> JudgedTiles:
    """Anomaly if at least ``min_tiles`` connected tiles reach the threshold.

    ``scores`` is (rows, columns). A photograph of fewer tiles than ``min_tiles`` is an anomaly if
    all of them do: a rule against stray tiles must not make it blind to small pictures. Raises
    ValueError where a score is no probability, as ``judge`` does, and for ``min_tiles`` below 1.
    """
    if min_tiles < 1:
        raise ValueError(f"a rule of {min_tiles} tiles")
    exact = scores.astype(np.float64)  # else NumPy rounds the threshold to the scores' type
    require_probabilities(exact)
    rule = min(min_tiles, exact.size)
    over = exact >= threshold
    found = tuple(tiling.clusters(over))
    flagged = bool(found) and len(found[0]) >= rule
    return JudgedTiles(
        verdict=Label.ANOMALY if flagged else Label.NORMAL,
        prediction=Prediction(float(exact.max())),
        min_tiles=rule,
        over=over,
        clusters=found,
    )


def flagged_up_to(scores: NDArray[np.floating], min_tiles: int) -> float:
    """The highest threshold at which ``judge_tiles`` calls these tiles an anomaly; 0..1.

    With ``min_tiles`` 1 the highest score. By bisection: what is flagged at one threshold is flagged
    at every lower one. Raises ValueError as ``judge_tiles`` does.
    """
    known = np.unique(scores.astype(np.float64))  # rising; the lowest flags by every rule
    low, high = 0, len(known)
    while high - low > 1:
        middle = (low + high) // 2
        if judge_tiles(scores, float(known[middle]), min_tiles).verdict is Label.ANOMALY:
            low = middle
        else:
            high = middle
    if low == 0:
        judge_tiles(scores, float(known[0]), min_tiles)  # what is no probability is refused
    return float(known[low])


def photograph(
    judged: JudgedTiles,
    scores: NDArray[np.floating],
    threshold: float,
    layout: tiling.Layout,
    size: tuple[int, int],
    overlap: int,
    mm_per_px: float | None,
    second_look_from: float | None = None,
    corners: NDArray[np.intp] | None = None,
) -> Photograph:
    """What is kept of a photograph whose ``scores`` (rows, columns) were ``judged`` in tiles.

    ``size`` is its own width and height, upright; ``layout`` that of the tiles, with ``overlap``,
    at the model's scale. ``mm_per_px`` is of its own pixels. Tiles that scored ``second_look_from``
    were looked at again, None: none was; ``corners`` (N, 2) are then of what has the scores.
    """
    width, height = size
    chosen = np.flatnonzero(judged.over)
    chosen = chosen[np.argsort(-scores.ravel()[chosen], kind="stable")]
    frames = layout.origins if corners is None else corners
    places = tiling.boxes_at(layout, frames[chosen], width, height).tolist()
    length_mm = None
    if mm_per_px is not None and judged.verdict is Label.ANOMALY:
        chains = [each for each in judged.clusters if len(each) >= judged.min_tiles]
        longest_px = max(tiling.chain_length_px(layout, each, overlap) for each in chains)
        length_mm = longest_px * width / layout.width * mm_per_px
    return Photograph(
        width=width,
        height=height,
        scale=layout.width / width,
        overlap=overlap,
        tiles=len(layout),
        tiles_over=len(chosen),
        min_tiles=judged.min_tiles,
        second_look_from=second_look_from,
        largest_cluster=judged.largest_cluster,
        boxes=tuple(
            Box(x, y, w, h, float(score))
            for (x, y, w, h), score in zip(places, scores.ravel()[chosen], strict=True)
        ),
        score_map=score_map.encode(scores, threshold),
        length_mm=length_mm,
    )


def place_of(verdict: Verdict, normal: str) -> Place:
    """Where a picture with this verdict belongs; ``normal`` is the setting files.normal."""
    return Place.FLAGGED if verdict is Label.ANOMALY else _NORMAL_PLACES[normal]
