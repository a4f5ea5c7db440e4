"""What a campaign found, as tables and figures; needs its logits alone, neither pictures nor models."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from crackwatch import evaluation
from crackwatch.training import calibration

ALLOWED_FALSE_ALARMS = 0.0015  # of the normals: the rate at which misses are counted
MISS_COSTS = 10.0  # as ``retrain.miss_costs`` has it by default

# Where the rows of ``seeds`` and ``notebook`` come from, in this order, and how many they are.
VALIDATION_SIZES = {"valid_balanced": 2000, "valid_unbalanced": 1000}

Scored = tuple[NDArray[np.float64], NDArray[np.int8]]  # logits and labels, (N,) each


def read(file: Path) -> dict[str, Scored]:
    """Logits and labels of each job of a stage, by the job's name; empty if it is not finished."""
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as kept:
            names = [name.removesuffix("/logits") for name in kept.files if "/logits" in name]
            return {name: (kept[f"{name}/logits"], kept[f"{name}/labels"]) for name in names}
    except FileNotFoundError:
        return {}


def pooled(parts: Iterable[Scored]) -> Scored:
    """Several folds as one."""
    logits, labels = zip(*parts, strict=True)
    return np.concatenate(logits), np.concatenate(labels)


def missed(logits: NDArray[np.float64], labels: NDArray[np.int8]) -> int:
    """Anomalies below the threshold that flags ALLOWED_FALSE_ALARMS of the normals."""
    normals = np.sort(logits[labels == 0])[::-1]
    allowed = int(ALLOWED_FALSE_ALARMS * len(normals))
    return int((logits[labels == 1] <= normals[allowed]).sum())


def ranked(scored: Scored) -> dict[str, float]:
    """How well logits part the classes, whatever the threshold, and how true they are."""
    logits, labels = scored
    found = calibration.calibrate(logits, labels)
    return {
        "pr_auc": calibration.average_precision(logits, labels),
        "missed": missed(logits, labels),
        "log_loss": calibration.log_loss(found(logits), labels),
    }


def write_tables(results: Path) -> None:
    """Writes tables.md and figures.json from the stages that are finished."""
    figures: dict[str, Any] = {}
    parts: list[str] = []
    screen = read(results / "screen.npz")
    if screen:
        figures["screen"] = screening(screen)
        parts.append(_compared("Screening", figures["screen"]))
    folds = read(results / "folds.npz")
    if folds:
        figures["folds"] = out_of_fold(pooled(folds.values()))
        parts.append(_measured("Out of fold", {"station": figures["folds"]}))
    confirm = read(results / "confirm.npz")
    if confirm:
        figures["confirm"] = screening(confirm, seeds=False)
        parts.append(_compared("Confirmation", figures["confirm"]))
    for stage in ("seeds", "notebook"):
        scored = read(results / f"{stage}.npz")
        if scored and (folds or stage == "notebook"):
            found = calibration.NONE
            threshold = 0.5
            if stage == "seeds":
                found = calibration.calibrate(*pooled(folds.values()))
                threshold = calibration.threshold(MISS_COSTS)
            figures[stage] = validated(scored, found, threshold)
            parts += [
                _measured(f"{stage}: {folder}", rows) for folder, rows in figures[stage].items()
            ]
    (results / "tables.md").write_text("\n".join(parts), "utf-8")
    (results / "figures.json").write_text(json.dumps(figures, indent=2) + "\n", "utf-8")


def screening(jobs: Mapping[str, Scored], *, seeds: bool = True) -> dict[str, Any]:
    """Each variant by its name: means over seeds (or folds), and all of their values.

    Jobs are named VARIANT-SEED-FOLD; the folds of a seed are pooled. Without ``seeds`` they are
    named VARIANT-FOLD, each fold with a seed of its own, and stand alone.
    """
    rows: dict[str, dict[str, list[Scored]]] = {}
    for name, scored in jobs.items():
        variant, *rest = name.rsplit("-", 2 if seeds else 1)
        rows.setdefault(variant, {}).setdefault(rest[0], []).append(scored)
    found: dict[str, Any] = {}
    for variant, by_seed in rows.items():
        each = [ranked(pooled(parts)) for parts in by_seed.values()]
        found[variant] = {
            key: {"mean": mean(one[key] for one in each), "each": [one[key] for one in each]}
            for key in each[0]
        }
    return found


def out_of_fold(scored: Scored) -> dict[str, Any]:
    """At the threshold that ``retrain`` would take, on calibrated scores."""
    logits, labels = scored
    found = calibration.calibrate(logits, labels)
    measures = evaluation.measure(expit(found(logits)), labels, calibration.threshold(MISS_COSTS))
    return measures.as_json() | {
        "missed_at_allowed_rate": missed(logits, labels),
        "temperature": found.temperature,
        "shift": found.shift,
    }


def validated(
    jobs: Mapping[str, Scored], found: calibration.Calibration, threshold: float
) -> dict[str, dict[str, dict[str, Any]]]:
    """By folder and job: the measures at one threshold; ``median`` is of each figure by itself."""
    rows: dict[str, dict[str, dict[str, Any]]] = {}
    start = 0
    for folder, size in VALIDATION_SIZES.items():
        mine: dict[str, dict[str, Any]] = {}
        for name, (logits, labels) in jobs.items():
            part = slice(start, start + size)
            scores = expit(found(logits[part]))
            mine[name] = evaluation.measure(scores, labels[part], threshold).as_json()
        mine["median"] = {
            key: median(each[key] for each in mine.values())
            for key in ("tp", "fn", "fp", "tn", "precision", "recall", "f1", "pr_auc")
        }
        rows[folder] = mine
        start += size
    return rows


def _compared(title: str, rows: Mapping[str, Any]) -> str:
    base = rows["station"]
    lines = [
        f"## {title}\n",
        "| | PR area | missed at 0.15 % false alarms | log loss |",
        "|---|---|---|---|",
    ]
    for name, row in rows.items():
        lines.append(
            f"| {name} | {row['pr_auc']['mean']:.5f} "
            f"({row['pr_auc']['mean'] - base['pr_auc']['mean']:+.5f}) | "
            f"{row['missed']['mean']:.1f} ({', '.join(f'{one:g}' for one in row['missed']['each'])})"
            f" | {row['log_loss']['mean']:.5f} |"
        )
    return "\n".join(lines) + "\n"


def _measured(title: str, rows: Mapping[str, Mapping[str, Any]]) -> str:
    lines = [
        f"## {title}\n",
        "| | TP / FN / FP / TN | Precision | Recall | F1 | PR area |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        lines.append(
            f"| {name} | {row['tp']:g} / {row['fn']:g} / {row['fp']:g} / {row['tn']:g} | "
            f"{row['precision']:.4f} | {row['recall']:.4f} | {row['f1']:.4f} | {row['pr_auc']:.5f} |"
        )
    return "\n".join(lines) + "\n"
