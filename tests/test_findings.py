"""Claims about a campaign's tables: which job counts where, and what the figures are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crackwatch.training import findings
from crackwatch.training.findings import Scored


def _scored(anomalies: list[float], normals: list[float]) -> Scored:
    return (
        np.array([*anomalies, *normals], np.float64),
        np.array([1] * len(anomalies) + [0] * len(normals), np.int8),
    )


def _save(file: Path, jobs: dict[str, Scored]) -> None:
    kept: dict[str, Any] = {}
    for name, (logits, labels) in jobs.items():
        kept[f"{name}/logits"], kept[f"{name}/labels"] = logits, labels
    np.savez(file, allow_pickle=False, **kept)


GOOD = _scored([3.0, 4.0, 0.5], [-3.0, -2.0, -4.0, 1.0, -1.0, -2.5])
BAD = _scored([-3.0, 4.0, 0.5], [3.0, -2.0, -4.0, 1.0, -1.0, -2.5])


def test_the_folds_of_a_seed_are_pooled_and_names_may_have_hyphens() -> None:
    found = findings.screening(
        {"warp-plain-7-0": GOOD, "warp-plain-7-1": BAD, "warp-plain-8-0": GOOD, "station-7-0": BAD}
    )
    assert set(found) == {"warp-plain", "station"}
    assert found["warp-plain"]["missed"]["each"] == [
        findings.missed(*findings.pooled([GOOD, BAD])),
        findings.missed(*GOOD),
    ]
    assert len(found["station"]["pr_auc"]["each"]) == 1


def test_folds_with_a_seed_each_stand_alone() -> None:
    found = findings.screening({"warp-plain-0": GOOD, "warp-plain-1": BAD}, seeds=False)
    assert found["warp-plain"]["missed"]["each"] == [
        findings.missed(*GOOD),
        findings.missed(*BAD),
    ]


def test_misses_are_counted_at_the_allowed_rate_of_false_alarms() -> None:
    normals = np.linspace(-5, 1, 2000)  # 3 of them are allowed above the threshold
    threshold = float(np.sort(normals)[::-1][3])
    anomalies = [threshold - 0.001, threshold, threshold + 0.001, 9.0]
    logits, labels = _scored(anomalies, normals.tolist())
    assert findings.missed(logits, labels) == 2


def test_tables_are_written_from_whatever_is_finished(tmp_path: Path) -> None:
    findings.write_tables(tmp_path)
    assert json.loads((tmp_path / "figures.json").read_text("utf-8")) == {}
    sizes = findings.VALIDATION_SIZES
    total = sum(sizes.values())
    labels = np.arange(total) % 2
    logits = np.where(labels == 1, 2.0, -2.0) + np.linspace(-0.5, 0.5, total)
    _save(tmp_path / "notebook.npz", {"notebook-0": (logits, labels.astype(np.int8))})
    _save(tmp_path / "screen.npz", {"station-7-0": GOOD, "warp-7-0": BAD})
    findings.write_tables(tmp_path)
    figures = json.loads((tmp_path / "figures.json").read_text("utf-8"))
    assert set(figures) == {"screen", "notebook"}
    for folder, size in sizes.items():
        row = figures["notebook"][folder]["notebook-0"]
        assert (row["tp"], row["fn"], row["fp"], row["tn"]) == (size / 2, 0, 0, size / 2)
        assert figures["notebook"][folder]["median"]["f1"] == pytest.approx(1.0)
    text = (tmp_path / "tables.md").read_text("utf-8")
    assert "| warp | " in text
    assert "## notebook: valid_unbalanced" in text


def test_seeds_are_judged_by_the_calibration_and_threshold_of_the_folds(tmp_path: Path) -> None:
    random = np.random.default_rng(5)
    labels = (random.random(4000) < 0.2).astype(np.int8)
    logits = np.where(labels == 1, 6.0, -6.0) + random.normal(0, 4, 4000)
    _save(tmp_path / "folds.npz", {"station-0": (logits, labels)})
    total = sum(findings.VALIDATION_SIZES.values())
    _save(tmp_path / "seeds.npz", {"seed-0": (logits[:total], labels[:total])})
    findings.write_tables(tmp_path)
    figures = json.loads((tmp_path / "figures.json").read_text("utf-8"))
    temperature, shift = figures["folds"]["temperature"], figures["folds"]["shift"]
    cut = np.log(1 / findings.MISS_COSTS) * temperature + shift
    balanced = figures["seeds"]["valid_balanced"]["seed-0"]
    first = slice(0, findings.VALIDATION_SIZES["valid_balanced"])
    flagged, truth = logits[first] >= cut, labels[first] == 1
    assert balanced["fn"] == int((truth & ~flagged).sum())
    assert balanced["fp"] == int((~truth & flagged).sum())
