"""The gate: exact tests on pairs, intervals over groups, and labels that nobody should believe."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from crackwatch.training import gate
from crackwatch.training.gate import Comparison

LABELS = np.repeat(np.array([1, 0], np.int8), [100, 900])
ALONE = np.arange(1000)


def flags(escapes: range, false_alarms: range) -> NDArray[np.bool_]:
    """What a model flags that misses these cracks and flags these normals, counted from 0."""
    found = np.array(LABELS == 1, dtype=bool)
    found[list(escapes)] = False
    found[[100 + number for number in false_alarms]] = True
    return found


def compared(champion: NDArray[np.bool_], challenger: NDArray[np.bool_]) -> Comparison:
    return gate.compare(LABELS, champion, challenger, ALONE, seed=1)


def test_a_challenger_that_judges_alike_meets_no_objection() -> None:
    found = compared(flags(range(2), range(3)), flags(range(2), range(3)))
    assert found.objections() == []
    assert (found.only_champion, found.only_challenger, found.mcnemar_p) == (0, 0, 1.0)
    assert (found.f1_difference, found.f1_interval) == (0.0, (0.0, 0.0))


def test_one_more_known_crack_missed_is_one_too_many() -> None:
    found = compared(flags(range(2), range(20)), flags(range(3), range(0)))
    assert found.f1_difference > 0  # for all its fewer false alarms
    assert found.objections() == ["it misses 3 of 100 known cracks, the champion 2"]


def test_mcnemar_is_the_exact_binomial_over_the_pictures_that_only_one_judges_rightly() -> None:
    found = compared(flags(range(0), range(1)), flags(range(0), range(1, 9)))
    assert (found.only_champion, found.only_challenger) == (8, 1)
    # 2 * P(X <= 1), X binomial with 9 trials and probability 1/2
    assert found.mcnemar_p == pytest.approx(2 * (1 + 9) / 2**9)
    assert any("McNemar's exact test" in text for text in found.objections())


def test_as_many_mistakes_elsewhere_are_not_worse() -> None:
    found = compared(flags(range(0), range(8)), flags(range(0), range(8, 16)))
    assert found.mcnemar_p == 1.0
    assert found.f1_difference == 0
    low, high = found.f1_interval
    assert low < 0 < high
    assert found.objections() == []


def test_the_interval_of_the_f1_difference_is_that_of_an_ordinary_bootstrap() -> None:
    champion, challenger = flags(range(4), range(3)), flags(range(2, 4), range(10))
    found = compared(champion, challenger)
    random = np.random.default_rng(5)

    def f1(picks: NDArray[np.intp], flagged: NDArray[np.bool_]) -> float:
        anomaly, mine = LABELS[picks] == 1, flagged[picks]
        hits = int((anomaly & mine).sum())
        return 2 * hits / (2 * hits + int((anomaly ^ mine).sum()))

    drawn = [
        f1(picks, challenger) - f1(picks, champion)
        for picks in (random.integers(0, 1000, 1000) for _ in range(2000))
    ]
    np.testing.assert_allclose(found.f1_interval, np.quantile(drawn, [0.025, 0.975]), atol=0.004)


def test_pictures_of_one_wall_count_as_one_in_the_interval() -> None:
    champion, challenger = flags(range(0), range(0)), flags(range(0), range(12))
    wall = ALONE.copy()
    wall[100:112] = 100  # all twelve false alarms show the same concrete
    alone = gate.compare(LABELS, champion, challenger, ALONE, seed=1)
    together = gate.compare(LABELS, champion, challenger, wall, seed=1)
    assert alone.f1_interval[1] < 0
    assert together.f1_interval[1] == 0  # in a third of the resamples the wall is not there
    assert together.f1_difference == alone.f1_difference


def test_pictures_of_one_wall_are_one_witness_for_mcnemar() -> None:
    champion, challenger = flags(range(0), range(0)), flags(range(0), range(12))
    wall = ALONE.copy()
    wall[100:112] = 100
    alone = gate.compare(LABELS, champion, challenger, ALONE, seed=1)
    together = gate.compare(LABELS, champion, challenger, wall, seed=1)
    assert alone.mcnemar_p == pytest.approx(2 / 2**12)
    assert (together.only_champion, together.places_champion) == (12, 1)
    assert together.mcnemar_p == 1.0
    assert together.objections() == []
    # where each judges some pictures of a wall better, it speaks for the one with more of them
    wall[112:117] = 100
    champion[112:117] = True
    both = gate.compare(LABELS, champion, challenger, wall, seed=1)
    assert (both.only_champion, both.only_challenger) == (12, 5)
    assert (both.places_champion, both.places_challenger) == (1, 0)


@pytest.mark.parametrize(
    ("contradicted", "of", "refused"),
    [(0, 0, False), (2, 20, False), (20, 200, True), (9, 200, False)],
)
def test_reviews_are_refused_where_surely_more_than_one_in_twenty_contradicts(
    contradicted: int, of: int, refused: bool
) -> None:
    labels = np.ones(max(of, 1), np.int8)
    probabilities = np.repeat([0.01, 0.99], [contradicted, len(labels) - contradicted])
    audit = gate.audit_labels(probabilities, labels, np.arange(len(labels)) < of)
    assert len(audit.suspects) == contradicted
    objection = audit.objection()
    assert (objection is not None) is refused
    if objection:
        assert f"{contradicted} of {of} reviewed labels contradict" in objection


def test_the_most_doubtful_label_comes_first_and_both_classes_can_be_doubted() -> None:
    probabilities = np.array([0.97, 0.5, 0.02, 0.001, 0.999, 0.96])
    labels = np.array([0, 0, 1, 1, 1, 1], np.int8)
    audit = gate.audit_labels(probabilities, labels, np.ones(6, bool))
    assert audit.suspects.tolist() == [3, 2, 0]
    elsewhere = gate.audit_labels(probabilities, labels, np.array([0, 0, 0, 0, 1, 1], bool))
    assert elsewhere.suspects.tolist() == []
    assert elsewhere.of == 2


def test_every_combination_of_few_pictures_agrees_with_counting() -> None:
    labels = np.array([1, 1, 0, 0], np.int8)
    for bits in itertools.product([False, True], repeat=8):
        champion, challenger = np.array(bits[:4]), np.array(bits[4:])
        found = gate.compare(labels, champion, challenger, np.arange(4), seed=2)
        assert found.champion_escapes == (not bits[0]) + (not bits[1])
        assert found.challenger_false_alarms == bits[6] + bits[7]
        right = [
            (c == (n < 2), d == (n < 2))
            for n, (c, d) in enumerate(zip(bits[:4], bits[4:], strict=True))
        ]
        assert found.only_champion == sum(mine and not other for mine, other in right)
        assert found.only_challenger == sum(other and not mine for mine, other in right)
        assert -1 <= found.f1_interval[0] <= found.f1_interval[1] <= 1
