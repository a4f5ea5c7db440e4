"""What ``tune --tiles`` says of photographs: no estimate passes for a proof, no bound is rounded down."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from crackwatch.cli import tiled
from crackwatch.labelled_scores import Examples
from crackwatch.tiled_promise import Basis, TiledPromise, Wish, at, choose


def known(normals: int = 3_000) -> Examples:
    random = np.random.default_rng(2)
    logits = np.concatenate([random.normal(6, 3, 200), random.normal(-9, 2.5, normals)])
    return Examples.of_logits(logits, np.repeat([1, 0], [200, normals]))


def told(found: TiledPromise) -> str:
    return "\n".join(
        [*(f"{name}  {value}" for name, value in tiled.lines(found)), *tiled.remarks(found)]
    )


def test_an_estimate_is_called_one_and_told_with_what_is_proved_and_what_proof_takes() -> None:
    found = choose(known(), Wish(30, 336), Basis.ESTIMATED)
    said = told(found)
    assert "an ESTIMATE" in said
    assert "proof" not in said.split("Proof takes")[0]
    assert "33,551 independent normals" in said
    assert "99 photographs without a crack" in said
    bound = float(re.findall(r"at most ([\d.]+) per 1,000 at", said)[0])
    assert found.bound <= bound <= found.bound + 0.1


def test_what_a_handful_of_wrong_labels_would_do_is_said() -> None:
    found = choose(known(), Wish(30, 336), Basis.ESTIMATED)
    said = told(found)
    assert "one tile in 11,200 may be a false alarm, 0.3 of the 3,000 normals" in said
    for each in found.what_if:
        assert f"threshold {each.threshold:.6g}, recall of one tile {each.recall:.4f}" in said


def test_a_proof_is_called_one_and_asks_for_no_more() -> None:
    said = told(choose(known(), Wish(400, 336), Basis.PROVED))
    assert "rests on  proof, at a confidence of 0.95" in said
    assert "Proof takes" not in said
    assert "ESTIMATE" not in said


def test_a_rule_of_two_tiles_says_what_it_never_finds_and_what_is_only_a_floor() -> None:
    said = told(choose(known(), Wish(30, 336, 2), Basis.ESTIMATED))
    assert "flagged by 2 tiles that touch" in said
    assert "crack in 1 tile  never found" in said
    assert "a floor" in said


def test_the_models_own_threshold_rests_on_nothing_and_few_normals_give_no_estimate() -> None:
    said = told(at(known(100), Wish(30, 336), 0.9))
    assert "rests on  nothing" in said
    assert "too few normals for an estimate" in said


@pytest.mark.parametrize("basis", [Basis.PROVED, Basis.ESTIMATED])
def test_a_script_gets_every_figure(basis: Basis) -> None:
    found = choose(known(), Wish(400, 336), basis)
    figures = json.loads(json.dumps(tiled.figures(found), allow_nan=False))
    assert figures["basis"] == basis.value
    assert (figures["tiles"], figures["min_tiles"]) == (336, 1)
    assert figures["threshold"] == found.threshold
    assert figures["false_alarms_per_1000_bound"] == found.bound
    assert figures["false_alarms_per_1000_estimate"].keys() == {"expected", "low", "high"}
    assert figures["chains"][0].keys() == {"tiles", "bound", "at_least", "if_independent"}
