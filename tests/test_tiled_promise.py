"""A threshold for photographs keeps what is proved of it, whatever its tiles have to do with each other."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import logit
from scipy.stats import beta, binom, expon, genpareto, logistic, norm

from crackwatch import bounds, tails, tiled_promise, tiling
from crackwatch.domain import Label
from crackwatch.errors import PromiseError
from crackwatch.labelled_scores import Examples
from crackwatch.settings import ImageSettings
from crackwatch.tiled_promise import Basis, Wish, choose
from crackwatch.training import gate
from crackwatch.verdict import judge_tiles

TWELVE = tiled_promise.TWELVE_MEGAPIXELS
Draw = Callable[[np.random.Generator], NDArray[np.float64]]


def drawn(
    normals: NDArray[np.float64],
    anomalies: NDArray[np.float64] | None = None,
    groups: NDArray[np.intp] | None = None,
) -> Examples:
    """Examples of logits by class; by default 300 cracks around 6."""
    if anomalies is None:
        anomalies = np.random.default_rng(5).normal(6, 3, 300)
    logits = np.concatenate([anomalies, normals])
    labels = np.repeat([1, 0], [len(anomalies), len(normals)])
    return Examples.of_logits(logits, labels, groups)


def usual(count: int, seed: int = 3) -> Examples:
    """Normals whose logits are a normal distribution's."""
    return drawn(np.random.default_rng(seed).normal(-9, 2.5, count))


# ---------------------------------------------------------------------- whatever hangs together

RATE, SIDE_TILES = 0.01, 6
GRID = SIDE_TILES, SIDE_TILES


def _independent(random: np.random.Generator) -> NDArray[np.float64]:
    return random.random(GRID)


def _all_alike(random: np.random.Generator) -> NDArray[np.float64]:
    return np.full(GRID, random.random())


def _in_blocks(random: np.random.Generator) -> NDArray[np.float64]:
    """Blocks of 2 x 2, the worst for a rule of so many tiles."""
    blocks = random.random((SIDE_TILES // 2, SIDE_TILES // 2))
    return blocks.repeat(2, axis=0).repeat(2, axis=1)


def _in_pairs_that_take_turns(random: np.random.Generator) -> NDArray[np.float64]:
    """At most one pair of neighbours is over: false alarms avoid one another."""
    start = random.random()
    places = np.arange(SIDE_TILES**2) // 2 * 2 / SIDE_TILES**2
    return ((start + places) % 1.0).reshape(GRID)


@pytest.mark.parametrize("draw", [_independent, _all_alike, _in_blocks, _in_pairs_that_take_turns])
@pytest.mark.parametrize("min_tiles", [1, 2, 3, 4])
def test_no_dependence_between_tiles_makes_more_false_alarms_than_the_bound(
    draw: Draw, min_tiles: int
) -> None:
    random = np.random.default_rng(11)
    wish = Wish(1.0, SIDE_TILES**2, min_tiles)
    photographs = 1_500
    flagged = sum(
        judge_tiles(draw(random), 1 - RATE, min_tiles).verdict is Label.ANOMALY
        for _ in range(photographs)
    )
    allowed = wish.per_1000_at(RATE) / 1000
    assert flagged / photographs <= allowed + 3 * math.sqrt(allowed * (1 - allowed) / photographs)


def test_false_alarms_that_avoid_one_another_reach_the_bound() -> None:
    """So it could not be lower without knowing more."""
    random = np.random.default_rng(12)
    flagged = [
        judge_tiles(_in_pairs_that_take_turns(random), 1 - RATE, 2).verdict is Label.ANOMALY
        for _ in range(2_000)
    ]
    assert np.mean(flagged) == pytest.approx(Wish(1.0, 36, 2).per_1000_at(RATE) / 1000, rel=0.15)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
def test_the_shapes_of_tiles_that_touch_are_counted_right(size: int) -> None:
    shapes = {frozenset([(0, 0)])}
    moves = [each for each in itertools.product((-1, 0, 1), repeat=2) if each != (0, 0)]
    for _ in range(size - 1):
        shapes = {
            shape | {(row + down, column + right)}
            for shape in shapes
            for row, column in shape
            for down, right in moves
            if (row + down, column + right) not in shape
        }
    standing = {
        frozenset(
            (row - min(r for r, _ in shape), column - min(c for _, c in shape))
            for row, column in shape
        )
        for shape in shapes
    }
    assert len(standing) == tiled_promise._CONNECTED[size - 1]


@pytest.mark.parametrize("min_tiles", [1, 2, 3])
def test_tiles_that_do_not_know_of_one_another_make_no_more_than_the_floor_says(
    min_tiles: int,
) -> None:
    random = np.random.default_rng(13)
    rate = 0.03
    flagged = [
        judge_tiles(_independent(random), 1 - rate, min_tiles).verdict is Label.ANOMALY
        for _ in range(3_000)
    ]
    floor = tiled_promise.independent_tiles(Wish(1.0, 36, min_tiles), rate)
    assert np.mean(flagged) <= floor + 3 * math.sqrt(floor / 3_000)
    assert floor <= min(1.0, 36 * rate / min_tiles)


# -------------------------------------------------------------------------------- what is proved


def test_the_bound_holds_at_every_threshold_at_once() -> None:
    """The one that looks best is among them."""
    random = np.random.default_rng(17)
    normals, sets = 150, 3_000
    bounds = np.array([tiled_promise.bound_wherever(x, normals, 0.9) for x in range(normals)])
    broken = 0
    for _ in range(sets):
        falling = np.sort(random.random(normals))[::-1]
        # with x of them flagged the threshold is above the next one, whose rate is 1 less itself
        broken += bool((1 - falling > bounds).any())
    assert broken / sets <= 0.1
    assert broken > 0


def test_the_doubt_is_shared_out_and_no_more_than_that() -> None:
    for flagged in (0, 1, 5, 400):
        bound = tiled_promise.bound_wherever(flagged, 1_000, 0.95)
        share = 0.05 / ((flagged + 1) * (flagged + 2))
        assert beta.sf(bound, flagged + 1, 1_000 - flagged) == pytest.approx(share)
        assert bound > bounds.upper_bound(flagged, 1_000, 0.95)
    assert tiled_promise.bound_wherever(1_000, 1_000, 0.95) == 1


@pytest.mark.parametrize(
    ("wish", "normals", "photographs"),
    [
        (Wish(30, 336), 33_551, 99),
        (Wish(30, 336, 2), 16_775, 99),
        (Wish(10, 336), 100_656, 299),
        (Wish(30, 475), 47_431, 99),
        (Wish(30, 2852), 284_793, 99),
    ],
)
def test_what_a_proof_takes(wish: Wish, normals: int, photographs: int) -> None:
    assert tiled_promise.normals_needed(wish, 0.95) == normals
    assert tiled_promise.photographs_needed(wish, 0.95) == photographs
    assert (1 - wish.tile_rate) ** normals <= 0.05 < (1 - wish.tile_rate) ** (normals - 1)


def test_the_table_of_the_documentation_is_true() -> None:
    text = (Path(__file__).parents[1] / "docs/photographs-verdict.md").read_text()
    rows = re.findall(r"^\| (\d+) \| ([\d,]+) \| ([\d,]+) \| (\d+) \|$", text, re.MULTILINE)
    assert len(rows) == 3
    for per_1000, *told in rows:
        one, two = (Wish(float(per_1000), TWELVE, min_tiles) for min_tiles in (1, 2))
        assert [int(number.replace(",", "")) for number in told] == [
            tiled_promise.normals_needed(one, 0.95),
            tiled_promise.normals_needed(two, 0.95),
            tiled_promise.photographs_needed(one, 0.95),
        ]


def test_as_many_normals_as_are_needed_prove_it_and_one_fewer_does_not() -> None:
    wish = Wish(200, 40)
    needed = tiled_promise.normals_needed(wish, 0.95)
    found = choose(usual(needed), wish, Basis.PROVED)
    assert found.bound <= 200
    assert found.independent.fp == 0
    with pytest.raises(PromiseError) as refused:
        choose(usual(needed - 1), wish, Basis.PROVED)
    assert (refused.value.have, refused.value.needed) == (needed - 1, needed)
    for number in (f"{needed:,} independent", f"there are {needed - 1:,}", "14 photographs"):
        assert number in str(refused.value)


def test_what_is_refused_is_told_what_would_be_granted() -> None:
    with pytest.raises(PromiseError, match=r"prove 1000\.0 at best"):
        choose(usual(500), Wish(30, TWELVE), Basis.PROVED)
    with pytest.raises(PromiseError, match=r"prove 355\.7 at best"):
        choose(usual(4_000), Wish(30, TWELVE), Basis.PROVED)
    granted = choose(usual(4_000), Wish(355.8, TWELVE), Basis.PROVED)
    assert granted.bound <= 355.8


def test_the_promise_is_kept_as_often_as_it_says() -> None:
    """400 sets of as many normals as it takes."""
    random = np.random.default_rng(19)
    wish = Wish(150, 20)
    broken = 0
    cracks = np.full(5, 9.0)
    for _ in range(400):
        found = choose(drawn(random.logistic(-8, 1, 399), cracks), wish, Basis.PROVED)
        rate = float(logistic.sf(logit(found.threshold), -8, 1))
        broken += rate * 20 > 0.15
    assert broken <= binom.isf(1e-4, 400, 0.05)


def test_pictures_of_the_same_concrete_count_once() -> None:
    logits = np.random.default_rng(23).normal(-9, 2.5, 2_000)
    cracks = np.full(10, 6.0)
    groups = np.concatenate([np.arange(10), 10 + np.repeat(np.arange(1_000), 2)])
    found = choose(drawn(logits, cracks, groups), Wish(500, 20), Basis.PROVED)
    assert found.independent.fp + found.independent.tn == 1_000
    assert found.pictures.fp + found.pictures.tn == 2_000


# ----------------------------------------------------------------------------- what is estimated


@given(
    scale=st.floats(0.2, 4),
    shape=st.floats(-0.4, 0.6),
    rate=st.floats(1e-6, 0.3),
    seed=st.integers(0, 9),
)
@settings(max_examples=60, deadline=None)
def test_a_rates_logit_has_that_rate(scale: float, shape: float, rate: float, seed: int) -> None:
    random = np.random.default_rng(seed)
    normals = -8 + genpareto.rvs(shape, scale=scale, size=600, random_state=random)
    tail = tails.fit(normals)
    at = tail.logit_of(rate)
    if rate < tail.share:
        assert tail.rate(at) == pytest.approx(rate, rel=1e-6)
    else:
        assert tail.rate(at) <= rate * (1 + 1e-9) <= tail.rate(at) + 2 / 600


@pytest.mark.parametrize("shape", [-0.3, 0.0, 0.2])
def test_the_fit_finds_the_tail_that_was_drawn(shape: float) -> None:
    random = np.random.default_rng(29)
    normals = genpareto.rvs(shape, scale=1.5, size=1_000_000, random_state=random)
    tail = tails.fit(normals)
    assert tail.shape == pytest.approx(shape, abs=0.07)
    assert tail.scale == pytest.approx(1.5 + shape * tail.start, rel=0.07)  # as of any start


@pytest.mark.parametrize("of", [norm(-9, 2.5), logistic(-9, 1.2), expon(-12, 1.5)])
def test_the_estimate_is_right_on_average_where_no_normal_was_seen(of: norm) -> None:
    """Thresholds for one false alarm in 10,000 tiles, from 5,000 normals each."""
    random = np.random.default_rng(31)
    wish = Wish(30, 300)
    true, inside = [], 0
    for seed in range(30):
        normals = of.rvs(size=5_000, random_state=random)
        found = choose(drawn(normals), wish, Basis.ESTIMATED, seed=seed)
        rate = wish.per_1000_at(float(of.sf(logit(found.threshold))))
        assert found.estimate is not None
        assert found.estimate.expected == pytest.approx(30, rel=1e-3)
        true.append(rate)
        inside += found.estimate.low <= rate <= found.estimate.high
    assert 15 < np.median(true) < 60
    assert np.quantile(true, 0.9) < 150
    assert inside >= 0.75 * 30  # not 0.95: an extrapolation's interval is an estimate itself


def test_the_proved_bound_holds_beside_an_estimate() -> None:
    """It says less, and is right at a threshold that the same normals chose."""
    random = np.random.default_rng(37)
    broken = 0
    for _ in range(300):
        normals = random.normal(-9, 2.5, 1_000)
        at = tails.fit(normals).logit_of(0.001)
        bound = tiled_promise.bound_wherever(int((normals >= at).sum()), 1_000, 0.95)
        broken += float(norm.sf(at, -9, 2.5)) > bound
    assert broken <= 15


def test_a_few_cracks_among_the_normals_set_the_threshold_and_it_is_said() -> None:
    clean = usual(14_500)
    honest = choose(clean, Wish(30, TWELVE), Basis.ESTIMATED)
    logits = logit(clean.of_class(0))
    logits[:5] = [5.0, 6.0, 6.5, 7.0, 8.0]
    noisy = choose(drawn(logits), Wish(30, TWELVE), Basis.ESTIMATED)
    assert logit(noisy.threshold) > logit(honest.threshold) + 1
    assert noisy.recall < honest.recall
    without = {each.left_out: each for each in noisy.what_if}
    assert logit(without[5].threshold) == pytest.approx(logit(honest.threshold), abs=0.2)
    assert without[5].recall > noisy.recall
    assert set(noisy.highest[:5]) == set(range(300, 305))  # by their places in the examples


def test_few_normals_are_no_tail() -> None:
    with pytest.raises(PromiseError) as refused:
        choose(usual(tails.FEWEST_NORMALS - 1), Wish(30, 40), Basis.ESTIMATED)
    assert refused.value.needed == tails.FEWEST_NORMALS
    given_to_few = tiled_promise.at(usual(100), Wish(30, 40), 0.9)
    assert given_to_few.estimate is None
    assert given_to_few.bound == 1000


def test_a_threshold_that_scores_cannot_reach_is_refused() -> None:
    normals = np.random.default_rng(41).normal(4, 4, 2_000)
    with pytest.raises(PromiseError, match="every score is 1") as refused:
        choose(drawn(normals), Wish(30, TWELVE), Basis.ESTIMATED)
    assert refused.value.needed is None
    normals[:20] = 30.0  # scores of exactly 1
    with pytest.raises(PromiseError, match="as high as scores go"):
        choose(drawn(normals), Wish(900, 300), Basis.PROVED)


def test_more_tiles_a_stricter_wish_and_a_looser_rule_raise_the_threshold() -> None:
    known = usual(5_000)

    def threshold(wish: Wish) -> float:
        return choose(known, wish, Basis.ESTIMATED).threshold

    middle = threshold(Wish(30, 300, 2))
    assert threshold(Wish(30, 3_000, 2)) > middle
    assert threshold(Wish(3, 300, 2)) > middle
    assert threshold(Wish(30, 300, 1)) > middle
    assert threshold(Wish(60, 600, 2)) == middle  # only the rate of one tile counts


@pytest.mark.parametrize(
    ("per_1000", "tiles", "min_tiles"),
    [(0, 10, 1), (1000, 10, 1), (30, 10, 11), (30, 10, 0), (math.nan, 10, 1)],
)
def test_what_nobody_could_wish_for_is_an_error(
    per_1000: float, tiles: int, min_tiles: int
) -> None:
    with pytest.raises(ValueError, match="no wish"):
        Wish(per_1000, tiles, min_tiles)


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_alone_supports_nothing(label: int) -> None:
    known = Examples.of_scores(np.linspace(0, 1, 500), np.full(500, label))
    for basis in (Basis.PROVED, Basis.ESTIMATED):
        with pytest.raises(PromiseError, match="no scores of"):
            choose(known, Wish(30, 10), basis)


# ------------------------------------------------------------------------------------ the default


def test_a_photograph_of_twelve_megapixels_has_as_many_tiles_as_is_said() -> None:
    assert len(tiling.lay_out(4000, 3000, ImageSettings().tile_overlap)) == TWELVE


def test_a_card_asks_for_three_false_alarms_in_a_hundred_photographs() -> None:
    found = tiled_promise.for_card(usual(5_000), own=0.1)
    assert (found.basis, found.wish) == (Basis.ESTIMATED, Wish(30, TWELVE, 1))
    assert found.threshold > 0.1
    assert found.estimate is not None
    assert found.estimate.expected == pytest.approx(30, rel=1e-3)


def test_a_card_never_asks_less_of_a_tile_than_of_a_picture() -> None:
    found = tiled_promise.for_card(usual(5_000), own=0.9999)
    assert (found.basis, found.threshold) == (Basis.GIVEN, 0.9999)
    assert found.estimate is not None
    assert found.estimate.expected < 30


# --------------------------------------------------------------------- labels that are not believed


def doubtful(count: int, normals: int = 14_500) -> Examples:
    """Normals as usual, so many of them scoring as cracks do."""
    logits = logit(usual(normals).of_class(0))
    logits[:count] = np.linspace(3, 5, count)
    return drawn(logits)


def test_a_card_is_robust_to_a_handful_of_cracks_among_its_normals() -> None:
    honest = tiled_promise.for_card(doubtful(0), own=0.1)
    noisy = tiled_promise.for_card(doubtful(5), own=0.1)
    believing = choose(doubtful(5), noisy.wish, Basis.ESTIMATED)
    assert noisy.left_out == 5
    assert logit(noisy.threshold) == pytest.approx(logit(honest.threshold), abs=1)
    assert logit(believing.threshold) > logit(honest.threshold) + 2
    assert noisy.recall == pytest.approx(honest.recall, abs=0.03)


@pytest.mark.parametrize("count", [1, 3, 14])
def test_doubts_that_are_wrong_cost_no_more_than_is_said(count: int) -> None:
    found = tiled_promise.for_card(doubtful(count), own=0.1)
    assert found.basis is Basis.ESTIMATED
    assert found.left_out == count
    assert found.estimate is not None
    assert found.believed is not None
    assert found.estimate.expected <= 30 * (1 + 1e-3)
    assert found.believed.expected <= tiled_promise.DOUBT_MAY_COST_PER_1000 * (1 + 1e-3)


def test_what_was_left_out_still_counts_in_whatever_is_proved() -> None:
    found = tiled_promise.for_card(doubtful(5), own=0.1)
    everything = tiled_promise.at(doubtful(5), found.wish, found.threshold)
    assert (found.bound, found.independent, found.pictures) == (
        everything.bound, everything.independent, everything.pictures,
    )  # fmt: skip
    assert found.estimate is not None
    assert found.believed is not None
    assert found.believed == everything.estimate
    assert found.estimate.expected < found.believed.expected


def test_normals_that_score_high_by_the_dozen_are_the_models_errors_and_are_believed() -> None:
    """Else a model that calls every joint a crack would promise that it does not."""
    bad = doubtful(20)
    assert not tiled_promise.doubted(bad).any()
    found = tiled_promise.for_card(bad, own=0.1)
    assert (found.left_out, found.believed) == (0, None)
    assert found.threshold == choose(bad, found.wish, Basis.ESTIMATED).threshold


def test_what_a_person_at_the_station_said_is_believed() -> None:
    known = doubtful(3)
    high = tiled_promise.doubted(known)
    assert high.sum() == 3
    assert (known.labels[high] == 0).all()
    sure = np.zeros(len(known.labels), bool)
    sure[np.flatnonzero(high)[:2]] = True
    assert (tiled_promise.doubted(known, sure) == (high & ~sure)).all()
    assert tiled_promise.for_card(known, 0.1, sure).left_out == 1


def test_one_doubtful_label_may_be_left_out_however_few_normals_there_are() -> None:
    assert tiled_promise.doubted(doubtful(1, normals=500)).sum() == 1
    assert tiled_promise.doubted(doubtful(2, normals=500)).sum() == 0


def test_labels_are_doubted_from_the_score_on_from_which_the_audit_doubts_them() -> None:
    assert tiled_promise.DOUBTED_FROM == gate.CONTRADICTED_FROM


def test_the_doubted_ones_alone_can_be_left_out_of_an_estimate_and_of_no_proof() -> None:
    known = doubtful(3)
    high = tiled_promise.doubted(known)
    wish = Wish(400, TWELVE)
    assert choose(known, wish, Basis.PROVED, left_out=high) == choose(known, wish, Basis.PROVED)


# ------------------------------------------------------------------------------------------ cracks


@pytest.mark.parametrize("recall", [0.0, 0.3, 0.9, 1.0])
@pytest.mark.parametrize("min_tiles", [1, 2, 3])
@pytest.mark.parametrize("tiles", [1, 2, 3, 5, 8])
def test_a_run_among_independent_tiles_is_as_likely_as_counting_says(
    tiles: int, min_tiles: int, recall: float
) -> None:
    counted = 0.0
    for seen in itertools.product((False, True), repeat=tiles):
        longest = max(
            (len(list(run)) for found, run in itertools.groupby(seen) if found), default=0
        )
        if longest >= min_tiles:
            counted += math.prod(recall if each else 1 - recall for each in seen)
    assert tiled_promise.run_recall(tiles, min_tiles, recall) == pytest.approx(counted)


@given(
    tiles=st.integers(1, 6),
    min_tiles=st.integers(1, 4),
    weights=st.lists(st.floats(0, 1), min_size=64, max_size=64).filter(lambda each: sum(each) > 0),
)
def test_no_dependence_between_misses_finds_fewer_cracks_than_the_bound(
    tiles: int, min_tiles: int, weights: list[float]
) -> None:
    """Any distribution over what is found in which tile, with the recall of its worst tile."""
    seen = list(itertools.product((0, 1), repeat=tiles))
    chance = np.array(weights[: len(seen)]) + 1e-12
    chance /= chance.sum()
    recall = float((chance[:, None] * np.array(seen)).sum(axis=0).min())
    flagged = sum(
        float(share)
        for share, each in zip(chance, seen, strict=True)
        if judge_tiles(np.array([each]), 0.5, min_tiles).verdict is Label.ANOMALY
        and sum(each) >= min_tiles
    )
    assert flagged >= tiled_promise.chain_recall(tiles, min_tiles, recall) - 1e-9


def test_the_recall_of_one_tile_is_that_of_single_pictures() -> None:
    known = usual(5_000)
    found = tiled_promise.at(known, Wish(30, TWELVE), 0.9)
    cracks = known.of_class(1)
    assert found.recall == (cracks >= 0.9).mean()
    assert found.chains[0].at_least == found.recall
    assert found.chains[0].bound == found.recall_bound
    assert [each.tiles for each in found.chains] == [1, 2, 3, 5]


def test_a_rule_of_two_tiles_never_finds_a_crack_in_one() -> None:
    found = tiled_promise.at(usual(5_000), Wish(30, TWELVE, 2), 0.5)
    assert (found.chains[0].at_least, found.chains[0].if_independent) == (0, 0)
    assert found.chains[1].at_least == pytest.approx(1 - 2 * (1 - found.recall))
