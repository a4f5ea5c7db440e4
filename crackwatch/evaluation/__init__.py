"""How good scores are: counts and rates with exact intervals; knows no model and no registry.

``plots`` draws them, ``familiar`` says which pictures the model knows from its training.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest
from sklearn.metrics import average_precision_score, roc_auc_score

from crackwatch.dataset import (
    TEXTURE_BYTES,
    Decode,
    LabelledFile,
    Problem,
    Progress,
    fold,
    no_progress,
    pixel_hash,
    read_and_decode,
    texture,
    texture_bits,
)
from crackwatch.domain import Label
from crackwatch.runtime import Classifier

CONFIDENCE = 0.95
ECE_BINS = 10  # of equal width over 0..1

_CHUNK = 64  # pictures scored at once
_THREADS = 2


# --------------------------------------------------------------------------------------- scoring


@dataclass(frozen=True, slots=True)
class Scored:
    """Scores of a labelled folder. ``problems`` are the files that could not be scored."""

    labels: NDArray[np.int8]  # (N,), 1 for an anomaly
    scores: NDArray[np.float32]  # (N,), 0..1; NaN: see ``score_files``
    paths: tuple[bytes, ...]
    pixel_hashes: tuple[bytes, ...]  # dataset.pixel_hash of each
    textures: NDArray[np.uint8]  # (N, 35): dataset.texture_bits
    problems: tuple[Problem, ...]


def score_files(
    files: Sequence[LabelledFile],
    decode: Decode,
    classifier: Classifier,
    progress: Progress = no_progress,
    unless: Container[bytes] = frozenset(),
) -> Scored:
    """Scores every file, a chunk at a time, so that memory does not grow with their number.

    ``decode`` is called from two threads. A file that cannot be used is listed, never dropped.
    Once a picture turns up whose pixel hash is in ``unless``, its chunk and all that follow are
    looked at only, which is quicker: their scores are NaN.
    """
    chunks = [files[start : start + _CHUNK] for start in range(0, len(files), _CHUNK)]
    labels: list[int] = []
    paths: list[bytes] = []
    scores = [np.empty(0, np.float32)]
    hashes: list[bytes] = []
    textures = [np.empty((0, TEXTURE_BYTES), np.uint8)]
    problems: list[Problem] = []
    scoring = True
    done = 0
    with ThreadPoolExecutor(_THREADS, "decode") as pool:
        ahead = [pool.submit(_decode_chunk, chunk, decode) for chunk in chunks[:_THREADS]]
        for number, chunk in enumerate(chunks):
            part = ahead.pop(0).result()
            if number + _THREADS < len(chunks):
                ahead.append(pool.submit(_decode_chunk, chunks[number + _THREADS], decode))
            scoring = scoring and not any(digest in unless for digest in part.pixel_hashes)
            if part.usable:
                scores.append(
                    classifier.scores(np.stack(part.pictures))
                    if scoring
                    else np.full(len(part.usable), np.nan, np.float32)
                )
                textures.append(texture_bits(np.stack(part.folded)))
            labels.extend(int(file.label is Label.ANOMALY) for file in part.usable)
            paths.extend(file.path for file in part.usable)
            hashes.extend(part.pixel_hashes)
            problems.extend(part.problems)
            done += len(chunk)
            progress(done, len(files))
    return Scored(
        labels=np.array(labels, dtype=np.int8),
        scores=np.concatenate(scores),
        paths=tuple(paths),
        pixel_hashes=tuple(hashes),
        textures=np.concatenate(textures),
        problems=tuple(problems),
    )


@dataclass(slots=True)
class _Decoded:
    """What one task found out about its chunk of files."""

    usable: list[LabelledFile] = field(default_factory=list)
    pictures: list[NDArray[np.uint8]] = field(default_factory=list)
    pixel_hashes: list[bytes] = field(default_factory=list)
    folded: list[NDArray[np.float32]] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def _decode_chunk(files: Sequence[LabelledFile], decode: Decode) -> _Decoded:
    decoded = _Decoded()
    for file in files:
        got = read_and_decode(file.path, decode)
        if isinstance(got, Problem):
            decoded.problems.append(got)
            continue
        picture = got[1]
        decoded.usable.append(file)
        decoded.pictures.append(picture)
        decoded.pixel_hashes.append(pixel_hash(picture))
        decoded.folded.append(fold(texture(picture)))
    return decoded


# ------------------------------------------------------------------------------------- measuring


@dataclass(frozen=True, slots=True)
class Measures:
    """How scores fare against labels at a threshold; all rates are of the anomaly class, 0..1.

    None where a rate does not exist, for want of pictures that it could be of. Intervals are exact
    95 % ones (Clopper and Pearson 1934): they hold for pictures drawn like these, one independent
    of the other, and say nothing of another surface or camera.
    """

    threshold: float
    n: int
    tp: int
    fn: int
    fp: int
    tn: int
    accuracy: float | None
    precision: float | None
    recall: float | None
    f1: float | None
    pr_auc: float | None  # average precision: the area as a step function
    roc_auc: float | None
    brier: float | None
    ece: float | None  # expected calibration error, 10 bins of equal width
    recall_interval: tuple[float, float] | None
    precision_interval: tuple[float, float] | None

    def as_json(self) -> dict[str, Any]:
        """The measures under the keys of ``evaluate --format json``."""
        document = asdict(self)
        for key in ("recall_interval", "precision_interval"):
            document[key] = list(document[key]) if document[key] else None
        return document


def measure(scores: NDArray[np.floating], labels: NDArray[np.int8], threshold: float) -> Measures:
    """Holds ``scores`` (N,), 0..1, against ``labels`` (N,), 1 for an anomaly; N may be 0."""
    exact = scores.astype(np.float64)  # a score is compared as the station compares it
    is_anomaly, flagged = labels == 1, exact >= threshold
    tp, fn = int((is_anomaly & flagged).sum()), int((is_anomaly & ~flagged).sum())
    fp, tn = int((~is_anomaly & flagged).sum()), int((~is_anomaly & ~flagged).sum())
    ranked = bool(is_anomaly.any() and not is_anomaly.all())
    return Measures(
        threshold=threshold,
        n=len(scores),
        tp=tp,
        fn=fn,
        fp=fp,
        tn=tn,
        accuracy=_rate(tp + tn, len(scores)),
        precision=_rate(tp, tp + fp),
        recall=_rate(tp, tp + fn),
        f1=_rate(2 * tp, 2 * tp + fp + fn),
        pr_auc=float(average_precision_score(is_anomaly, exact)) if ranked else None,
        roc_auc=float(roc_auc_score(is_anomaly, exact)) if ranked else None,
        brier=float(((exact - is_anomaly) ** 2).mean()) if len(scores) else None,
        ece=_calibration_error(exact, is_anomaly) if len(scores) else None,
        recall_interval=exact_interval(tp, tp + fn),
        precision_interval=exact_interval(tp, tp + fp),
    )


def _rate(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def exact_interval(successes: int, trials: int) -> tuple[float, float] | None:
    """The exact 95 % interval of a rate (Clopper and Pearson); None without trials."""
    if trials == 0:
        return None
    interval = binomtest(successes, trials).proportion_ci(CONFIDENCE, method="exact")
    return float(interval.low), float(interval.high)


def _calibration_error(scores: NDArray[np.float64], is_anomaly: NDArray[np.bool_]) -> float:
    """Mean distance of score and frequency over bins of equal width, weighted by their pictures."""
    bins = np.minimum((scores * ECE_BINS).astype(np.intp), ECE_BINS - 1)
    expected = np.bincount(bins, weights=scores, minlength=ECE_BINS)
    observed = np.bincount(bins, weights=is_anomaly, minlength=ECE_BINS)
    return float(np.abs(expected - observed).sum() / len(scores))
