"""A new model's card says by which rule photographs are judged, or why it does not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crackwatch.registry import Guarantee, Registry, TiledThreshold
from crackwatch.training.describing import tiled_in
from crackwatch.training.planning import Plan
from crackwatch.training.recipes import NOTEBOOK
from tests.model_folders import card
from tests.test_deciding import plan_of

CRACKS, NORMALS = 200, 3_000


def scored(
    folder: Path, normals: int = NORMALS, doubtful: int = 0
) -> tuple[Plan, NDArray[np.float64]]:
    """A plan and its pictures' calibrated logits; ``doubtful`` normals score as cracks do."""
    random = np.random.default_rng(3)
    logits = np.concatenate([random.normal(6, 3, CRACKS), random.normal(-9, 2.5, normals)])
    logits[CRACKS : CRACKS + doubtful] = np.linspace(3, 4, doubtful)
    labels = np.repeat([1, 0], [CRACKS, normals]).astype(np.int8)
    return plan_of(folder, labels, np.zeros(len(labels), bool)), logits


def test_a_model_with_out_of_fold_scores_gets_a_threshold_for_photographs(tmp_path: Path) -> None:
    plan, logits = scored(tmp_path)
    found = tiled_in(plan, logits, 0.1, None)
    assert isinstance(found, TiledThreshold)
    assert found.value > 0.1
    assert (found.min_tiles, found.tiles) == (1, 475)
    assert "by default for at most 30 false alarms per 1,000 photographs" in found.chosen_by
    assert "an ESTIMATE" in found.chosen_by
    assert "proved: at most" in found.chosen_by


def test_pictures_without_an_honest_score_have_no_part_in_it(tmp_path: Path) -> None:
    plan, logits = scored(tmp_path)
    known = tiled_in(plan, logits, 0.1, None)
    more = plan_of(
        tmp_path, np.append(plan.pictures.labels, np.int8(0)), np.append(plan.reviewed, False)
    )
    assert tiled_in(more, np.append(logits, np.nan), 0.1, None) == known


def test_a_handful_of_wrong_labels_does_not_decide_it_and_the_card_says_so(tmp_path: Path) -> None:
    plan, logits = scored(tmp_path, doubtful=3)
    noisy = tiled_in(plan, logits, 0.1, None)
    assert isinstance(noisy, TiledThreshold)
    assert "3 normals that score 0.95 or more had no part in the estimate" in noisy.chosen_by
    assert "if every label is right" in noisy.chosen_by
    sure = tiled_in(replace(plan, reviewed=np.ones(len(logits), bool)), logits, 0.1, None)
    assert isinstance(sure, TiledThreshold)
    assert sure.value > noisy.value


def test_a_model_without_folds_says_that_it_has_none(tmp_path: Path) -> None:
    plan, logits = scored(tmp_path)
    found = tiled_in(replace(plan, recipe=NOTEBOOK), logits, 0.5, None)
    assert isinstance(found, str)


def test_with_few_normals_the_parents_is_kept_and_never_below_the_own(tmp_path: Path) -> None:
    plan, logits = scored(tmp_path, normals=300)
    without = tiled_in(plan, logits, 0.1, card("parent"))
    assert isinstance(without, str)
    assert "takes at least 400" in without
    theirs = TiledThreshold(value=0.9, min_tiles=2, tiles=336, chosen_by="by hand")
    parent = card("parent", tiled=theirs)
    for own, kept in ((0.1, 0.9), (0.95, 0.95)):
        found = tiled_in(plan, logits, own, parent)
        assert isinstance(found, TiledThreshold)
        assert (found.value, found.min_tiles) == (kept, 2)
        assert found.chosen_by.startswith("kept from parent: ")


def test_what_photographs_told_of_the_champion_is_kept_but_not_what_was_proved(
    tmp_path: Path,
) -> None:
    plan, logits = scored(tmp_path)
    proved = Guarantee(
        goal="max_false_alarms_per_1000", target=30, confidence=0.95, recall_bound=0.9,
        false_alarms_per_1000_bound=29, anomalies=100, normals=300, examples="photographs",
    )  # fmt: skip
    theirs = TiledThreshold(
        value=0.4, min_tiles=2, tiles=475, chosen_by="by photographs", on="photographs",
        promise=proved,
    )  # fmt: skip
    champion = card("first", tiled=theirs)
    for own, kept in ((0.1, 0.4), (0.5, 0.5)):
        found = tiled_in(plan, logits, own, None, champion)
        assert isinstance(found, TiledThreshold)
        assert (found.value, found.min_tiles, found.on) == (kept, 2, "photographs")
        assert found.promise is None
        assert found.chosen_by.startswith("kept from first: photographs told it")
    crops = card("first", tiled=theirs.model_copy(update={"on": "crops"}))
    assert tiled_in(plan, logits, 0.1, None, crops) == tiled_in(plan, logits, 0.1, None)


def test_a_published_model_gets_another_and_remembers_the_first(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    with registry.staging() as staged:
        (staged / "lenet.keras").write_bytes(b"weights")
        registry.publish(staged, card("one"))
    first = TiledThreshold(value=0.9, tiles=336, chosen_by="by hand")
    second = TiledThreshold(value=0.8, min_tiles=2, tiles=100, chosen_by="otherwise")
    for each in (first, second):
        changed = registry.set_tiled("one", each, decided_by="anna", reason="a goal")
    assert registry.verify("one") == changed
    assert changed.tiled == second
    assert changed.threshold == card("one").threshold
    assert [(each.old_tiled, each.new_tiled) for each in changed.decisions] == [
        (None, first), (first, second),
    ]  # fmt: skip
