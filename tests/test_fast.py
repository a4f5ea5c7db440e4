"""Precision "fast": no verdict is another than f32's, and every score that matters is f32's own."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from crackwatch import champion, packaged, synthetic
from crackwatch.agreement import GOLDEN_TOLERANCE, GoldenSet
from crackwatch.errors import ModelError
from crackwatch.registry import Card, Fast, Registry
from crackwatch.runtime import load
from crackwatch.runtime import openvino as openvino_module
from crackwatch.runtime.fast import LEAST_MARGIN, SAFETY, FastClassifier, exact_of, logits, measured
from crackwatch.runtime.openvino import has_bfloat16
from crackwatch.settings import ModelSettings
from crackwatch.starters import install_starter
from crackwatch.views import Rule
from tests.test_daemon import Process, drawn, overridden, station

__all__ = ["station"]  # fixtures

needs_bfloat16 = pytest.mark.skipif(
    not has_bfloat16(), reason="this processor has no bfloat16: precision 'fast' is not to be had"
)
needs_starter = pytest.mark.skipif(
    not (packaged.starter() / "lenet.keras").is_file(), reason="the starter model is not here"
)


class Told:
    """Gives the scores that it was told, by the number in a picture's first two bytes."""

    def __init__(self, scores: list[float]) -> None:
        self.model_id = "told"
        self._scores = np.array(scores, np.float32)
        self.asked = 0

    def scores(self, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.asked += len(pictures)
        return self._scores[pictures[:, 0, 0, 0].astype(int) * 256 + pictures[:, 0, 0, 1]]


def numbered(count: int) -> NDArray[np.uint8]:
    pictures = np.zeros((count, 227, 227, 3), np.uint8)
    pictures[:, 0, 0, 0], pictures[:, 0, 0, 1] = np.divmod(np.arange(count), 256)
    return pictures


def probability(logit: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1 / (1 + np.exp(-logit))


@settings(deadline=None)
@given(
    exact=st.lists(st.floats(1e-5, 1 - 1e-5), min_size=1, max_size=12),
    errors=st.lists(st.floats(-1, 1), min_size=12, max_size=12),
    lines=st.lists(st.floats(1e-4, 1 - 1e-4), min_size=1, max_size=4),
    margin=st.floats(0.01, 3),
)
def test_no_verdict_differs_while_the_quick_one_errs_by_no_more_than_the_margin(
    exact: list[float], errors: list[float], lines: list[float], margin: float
) -> None:
    strayed = logits(np.array(exact)) + 0.999 * margin * np.array(errors[: len(exact)])
    quick = probability(strayed)
    classifier = FastClassifier(Told(quick.tolist()), Told(exact), margin).aimed(lines)
    found = classifier.scores(numbered(len(exact)))
    wanted = np.array(exact, np.float32)
    for line in lines:
        assert ((found >= line) == (wanted >= line)).all()
    assert (found[wanted >= min(lines)] == wanted[wanted >= min(lines)]).all()
    assert classifier.again >= int((wanted >= min(lines)).sum())


def test_only_what_could_decide_something_is_scored_again() -> None:
    exact = Told([0.001, 0.03, 0.5, 0.9])
    quick = Told([0.002, 0.06, 0.4, 0.8])
    classifier = FastClassifier(quick, exact, margin=1.0).aimed([0.09, 0.5])
    assert classifier.exact_from == pytest.approx(0.035, abs=0.001)
    assert classifier.scores(numbered(4)).tolist() == pytest.approx([0.002, 0.03, 0.5, 0.9])
    assert (exact.asked, quick.asked, classifier.again) == (3, 4, 3)


def test_until_it_is_aimed_every_score_is_the_exact_one() -> None:
    exact, quick = Told([0.001, 0.9]), Told([0.5, 0.5])
    classifier = FastClassifier(quick, exact, margin=1.0)
    assert classifier.scores(numbered(2)).tolist() == pytest.approx([0.001, 0.9])
    assert quick.asked == 0
    assert exact_of(classifier) is exact and exact_of(exact) is exact


def test_a_quick_score_that_is_no_number_is_asked_of_the_exact_one() -> None:
    exact = Told([0.001, float("nan")])
    classifier = FastClassifier(Told([float("nan")] * 2), exact, margin=1.0).aimed([0.5])
    found = classifier.scores(numbered(2))
    assert found[0] == np.float32(0.001) and np.isnan(found[1])  # which stops the station


def test_what_is_counted_on_is_three_times_the_largest_error_that_was_seen() -> None:
    exact = np.array([0.1, 0.5, 1.0], np.float32)
    quick = np.array([0.1, probability(logits(np.array([0.5])) + 0.2)[0], 0.9999999], np.float32)
    found = measured(quick, exact)
    assert found.largest == pytest.approx(0.2, rel=1e-3) and found.compared == 3
    assert found.margin == pytest.approx(SAFETY * 0.2, rel=1e-3)
    assert measured(exact, exact).margin == LEAST_MARGIN  # a model that is sure of each shows none


def test_the_golden_pictures_hold_both_halves_to_what_they_promise() -> None:
    golden = GoldenSet(numbered(2), (0.001, 0.9), GOLDEN_TOLERANCE)
    good = FastClassifier(Told([0.0012, 0.91]), Told([0.001, 0.9]), margin=0.3).aimed([0.5])
    assert golden.score(good, 0.5).agrees
    far = FastClassifier(Told([0.0012, 0.5]), Told([0.001, 0.9]), margin=0.3).aimed([0.5])
    scored = golden.score(far, 0.5)
    assert not scored.agrees and "quick scores" in str(scored)
    wrong = FastClassifier(Told([0.001, 0.9]), Told([0.001, 0.95]), margin=0.3).aimed([0.5])
    assert not golden.score(wrong, 0.5).agrees


# ------------------------------------------------------------------------------ the shipped model


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Card]:
    registry = Registry(tmp_path_factory.mktemp("station") / "models")
    model_id = install_starter(registry, packaged.starter())
    assert model_id is not None
    return registry.folder_of(model_id), registry.verify(model_id)


@needs_starter
@needs_bfloat16
def test_the_shipped_model_is_fast_within_its_margin_and_exact_where_it_matters(
    installed: tuple[Path, Card],
) -> None:
    folder, card = installed
    pictures = np.stack([synthetic.draw(seed, crack=seed % 3 == 0) for seed in range(60)])
    exact = load(folder, card).scores(pictures)
    fast = load(folder, card, precision="fast")
    assert isinstance(fast, FastClassifier)
    np.testing.assert_allclose(fast.scores(pictures), exact, atol=1e-6)
    quick = fast.quick.scores(pictures)
    assert measured(quick, exact).largest < fast.margin
    assert (quick != exact).any()
    line = card.threshold.value
    found = fast.aimed([line]).scores(pictures)
    np.testing.assert_allclose(found[exact >= line], exact[exact >= line], atol=1e-6)
    assert (found >= line).tolist() == (exact >= line).tolist()


@needs_starter
def test_it_is_refused_where_nobody_measured_it_or_the_processor_cannot(
    installed: tuple[Path, Card], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, card = installed
    with pytest.raises(ModelError, match="does not say how far"):
        load(folder, card.model_copy(update={"fast": None}), precision="fast")
    with pytest.raises(ModelError, match="'keras' has no such precision"):
        load(folder, card, "keras", "fast")
    monkeypatch.setattr(openvino_module, "has_bfloat16", lambda: False)
    measured_here = Fast(largest_difference=0.1, compared=9, margin=0.3, processor="another")
    with pytest.raises(ModelError, match="no bfloat16") as caught:
        load(folder, card.model_copy(update={"fast": measured_here}), precision="fast")
    assert 'precision = "f32"' in caught.value.remedy


@needs_starter
@needs_bfloat16
def test_each_line_that_decides_is_aimed_at(installed: tuple[Path, Card]) -> None:
    folder, card = installed
    fast = load(folder, card, precision="fast")
    assert isinstance(fast, FastClassifier)
    plain = Rule(0.4, 0.3, 1, None)
    for rule, lowest, extra in (
        (plain, 0.3, {}),
        (Rule(0.4, 0.5, 1, 0.2), 0.2, {}),
        (plain, 0.1, {"review_low": 0.1, "review_high": 0.6}),
    ):
        aimed = champion._aimed(fast, rule, ModelSettings(precision="fast", **extra))  # type: ignore[arg-type]  # a float each
        assert isinstance(aimed, FastClassifier)
        assert aimed.exact_from == fast.aimed([lowest]).exact_from


@needs_starter
@needs_bfloat16
def test_a_fast_station_records_how_it_judged_and_judges_as_an_exact_one(
    station: Process,
) -> None:
    pictures = drawn(24)
    found: dict[str, dict[bytes, tuple[str, float]]] = {}
    for precision in ("f32", "fast"):
        with overridden(station, 'precision = "f32"', f'precision = "{precision}"'):
            for index, data in enumerate(pictures):
                (station.inbox / f"{precision}-{index}.jpg").write_bytes(data)
            station.start()
            station.wait_until(lambda: station.count() == len(pictures) * (1 + len(found)))
            assert station.stop()[0] == 0
        with closing(sqlite3.connect(station.database)) as books:
            rows = books.execute(
                "SELECT replace(source, :p, ''), outcome, score FROM inspections JOIN batches ON "
                "batches.id = batch_id WHERE precision = :precision AND (exact_from IS NULL) = :all",
                {"p": f"{precision}-", "precision": precision, "all": precision == "f32"},
            ).fetchall()
        found[precision] = {name: (outcome, score) for name, outcome, score in rows}
    assert len(found["fast"]) == len(found["f32"]) == len(pictures)
    flagged = 0
    for name, (outcome, score) in found["f32"].items():
        again, fast_score = found["fast"][name]
        assert again == outcome
        if outcome == "anomaly":
            flagged += 1
            assert fast_score == pytest.approx(score, abs=1e-6)
    assert 0 < flagged < len(pictures)
