"""Pictures unlike those that the model learned from are told of; another day like them is not."""

from __future__ import annotations

import json
import math
import random
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from sqlalchemy import Engine, event

from crackwatch import cli, driftwatch, images, packaged, synthetic
from crackwatch.config_file import load
from crackwatch.daemon import Daemon
from crackwatch.days import Window
from crackwatch.domain import (
    Arrival,
    BatchFacts,
    Draft,
    DriftFinding,
    Fingerprint,
    Outcome,
    Place,
    SettledBy,
)
from crackwatch.driftwatch import DriftWatch
from crackwatch.errors import ModelTampered, StoreError
from crackwatch.health import status
from crackwatch.health.board import Board
from crackwatch.health.drift import (
    FLOOR,
    assess,
    distance,
    in_words,
    p_value,
)
from crackwatch.images import light
from crackwatch.likeness import MIN_PICTURES, Reference, Seen, reference_of, spread_of
from crackwatch.registry import Registry, read_card
from crackwatch.reported import DayDrift
from crackwatch.runtime import load as load_classifier
from crackwatch.store.drift import sample_of
from crackwatch.store.reports import reading
from crackwatch.store.schema import to_microseconds
from tests.model_folders import card
from tests.station import Station, jpeg
from tests.test_board_status import station as running

DAY = date(2026, 11, 23)
BERLIN = ZoneInfo("Europe/Berlin")
NOON = datetime(2026, 11, 23, 12, tzinfo=BERLIN)

needs_starter = pytest.mark.skipif(
    not (packaged.starter() / "lenet.keras").is_file(), reason="the starter model is not here"
)


def wall(
    count: int,
    seed: int,
    *,
    cracks: float = 0.03,
    brightness: float = 180.0,
    sharpness: float = 25.0,
    doubt: float = 0.0,
) -> list[Seen]:
    """Made-up pictures: cracks are darker, sharper and scored high; ``doubt``: least normal score."""
    dice = random.Random(seed)
    return [
        Seen(0.99, dice.gauss(brightness - 40, 15), sharpness * 4 * dice.lognormvariate(0, 0.5))
        if dice.random() < cracks
        else Seen(
            max(doubt, 10 ** -dice.uniform(2.5, 8)),
            dice.gauss(brightness, 15),
            sharpness * dice.lognormvariate(0, 0.5),
        )
        for _ in range(count)
    ]


def reference(pictures: Sequence[Seen], threshold: float = 0.5) -> Reference:
    return reference_of(
        [each.score for each in pictures],
        [each.brightness for each in pictures],
        [each.sharpness for each in pictures],
        threshold,
    )


WALLS = wall(5_000, 0)
LEARNED = reference(WALLS)


def findings(
    pictures: Sequence[Seen], learned: Reference | None = LEARNED, **more: Any
) -> dict[str, DayDrift]:
    return {each.measure: each for each in assess(DAY, "m", pictures, learned, **more)}


def raised(pictures: Sequence[Seen], learned: Reference = LEARNED) -> set[str]:
    return {measure for measure, found in findings(pictures, learned).items() if found.raised}


# --------------------------------------------------------------------------------- the statistics


def test_quantiles_are_numpys() -> None:
    values = np.random.default_rng(1).lognormal(size=777)
    spread = spread_of(values.tolist())
    np.testing.assert_allclose(spread.quantiles, np.quantile(values, np.linspace(0, 1, 201)))
    assert spread.n == 777


@pytest.mark.parametrize("rounded", [False, True], ids=["continuous", "with ties"])
@pytest.mark.parametrize("shift", [0.0, 0.3, -2.0, 9.0])
def test_the_distance_is_scipys_to_the_resolution_of_the_quantiles(
    rounded: bool, shift: float
) -> None:
    dice = np.random.default_rng(2)
    learned, today = dice.normal(size=4_000), dice.normal(shift, size=300)
    if rounded:
        learned, today = np.round(learned), np.round(today)
    found = distance(today.tolist(), spread_of(learned.tolist()))
    scipys = stats.ks_2samp(today, learned)
    assert abs(found) == pytest.approx(scipys.statistic, abs=0.006)
    if shift:
        assert (found > 0) == (shift > 0)


@pytest.mark.parametrize("independent", [8, 30, 100, 1_000])
def test_the_p_value_is_scipys_and_errs_towards_chance_where_it_is_tiny(independent: int) -> None:
    for apart in np.linspace(0.02, 0.7, 35):
        exact = float(stats.kstwo.sf(apart, independent))
        found = p_value(float(apart), independent)
        if exact > 1e-3:
            assert found == pytest.approx(exact, rel=0.06 if independent >= 30 else 0.33), apart
        elif exact > 1e-12:
            assert exact * 0.9 < found < max(exact * 200, 1e-4), apart


def test_nothing_and_what_is_no_number_have_no_distribution() -> None:
    with pytest.raises(ValueError, match="no values"):
        spread_of([])
    with pytest.raises(ValueError, match="finite"):
        spread_of([1.0, float("nan")])
    with pytest.raises(ValueError, match="no values"):
        distance([], spread_of([1.0]))


# --------------------------------------------------------------------------------------- a day


def test_days_like_the_training_data_raise_nothing() -> None:
    assert [raised(wall(count, seed)) for seed in range(20) for count in (30, 60, 500)] == [
        set()
    ] * 60


@pytest.mark.parametrize(
    ("changes", "measure", "words"),
    [
        ({"brightness": 215.0}, "brightness", "pictures are brighter than"),
        ({"brightness": 140.0}, "brightness", "pictures are darker than"),
        ({"sharpness": 80.0}, "sharpness", "pictures are sharper, or rougher than"),
        ({"sharpness": 8.0}, "sharpness", "pictures are more blurred, or smoother than"),
        ({"doubt": 0.2}, "score", "the model is less sure of normal pictures"),
    ],
)
def test_a_change_is_raised_for_its_own_measure_in_plain_words(
    changes: dict[str, float], measure: str, words: str
) -> None:
    day = wall(100, 1, **changes)
    assert raised(day) == {measure}
    found = findings(day)[measure]
    assert in_words(found).startswith(words)
    if measure == "brightness":
        assert found.median is not None
        assert found.expected_median == pytest.approx(180, abs=3)
        assert f"(median grey level {found.median:.0f} against " in in_words(found)


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.9])
def test_another_share_of_cracks_alone_raises_nothing(share: float) -> None:
    assert raised(wall(500, 3, cracks=share)) == set()


def test_without_what_cracks_look_like_their_share_would_be_taken_for_drift() -> None:
    """The claim above rests on the second distribution, not on a blunt test."""
    assert raised(wall(500, 3, cracks=0.9), replace(LEARNED, anomaly=None)) == {
        "brightness",
        "sharpness",
    }


def test_how_near_to_nought_a_sure_score_is_means_nothing() -> None:
    day = [replace(each, score=each.score / 1000) for each in wall(500, 4)]
    assert raised(day) == set()


def test_thousands_of_pictures_do_not_make_a_small_change_drift() -> None:
    found = findings(wall(20_000, 5, brightness=185.0))["brightness"]
    assert found.p is not None and found.p < 1e-12
    assert found.distance is not None and 0.1 < found.distance < FLOOR
    assert found.finding is DriftFinding.ALIKE


def test_more_tests_ask_for_more_proof() -> None:
    day = wall(60, 6, brightness=207.0)
    assert findings(day)["brightness"].raised
    assert findings(day, days=365)["brightness"].raised  # status and reports say the same
    assert not findings(day, days=1_000_000)["brightness"].raised


def test_few_pictures_say_nothing() -> None:
    few = wall(MIN_PICTURES - 1, 7, brightness=20.0)
    assert {each.finding for each in findings(few).values()} == {DriftFinding.TOO_FEW}
    assert in_words(findings(few)["brightness"]) == (
        f"too few to say: {MIN_PICTURES - 1} pictures, {MIN_PICTURES} are needed"
    )
    assert raised(wall(MIN_PICTURES, 7, brightness=20.0)) == {"brightness"}
    nothing = findings([])["score"]
    assert (nothing.finding, nothing.n) == (DriftFinding.TOO_FEW, 0)


def test_a_day_of_anomalies_alone_has_no_normal_scores_to_compare() -> None:
    found = findings(wall(60, 8, cracks=1.0))
    assert (found["score"].finding, found["score"].n) == (DriftFinding.TOO_FEW, 0)
    assert found["brightness"].finding is DriftFinding.ALIKE


def test_a_model_that_does_not_say_what_it_learned_from_is_no_drift() -> None:
    found = findings(wall(60, 9), None)
    assert {each.finding for each in found.values()} == {DriftFinding.NO_REFERENCE}
    assert "retrain" in in_words(found["brightness"])


# ------------------------------------------------------------------------------------- the card


def test_a_reference_survives_the_card() -> None:
    written = card("m", reference=LEARNED.document()).to_json()
    assert len(written) < 60_000
    again = Reference.of_card(json.loads(written))
    assert again is not None
    assert again.threshold == LEARNED.threshold
    assert again.normal.brightness.n == LEARNED.normal.brightness.n
    np.testing.assert_allclose(
        again.normal.sharpness.quantiles, LEARNED.normal.sharpness.quantiles, rtol=1e-6
    )
    assert raised(wall(100, 1, brightness=215.0), again) == {"brightness"}


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"reference": None},
        {"reference": {"threshold": 0.5}},
        {"reference": "another program's"},
        {"reference": {**LEARNED.document(), "score": {"n": 3, "quantiles": [2, 1]}}},
        {"reference": {**LEARNED.document(), "score": {"n": math.inf, "quantiles": [1, 2]}}},
        {"reference": {**LEARNED.document(), "score": {"n": 3, "quantiles": [math.nan] * 2}}},
    ],
)
def test_a_card_without_a_usable_reference_gives_none(document: dict[str, Any]) -> None:
    assert Reference.of_card(document) is None


@pytest.mark.parametrize(
    ("strange", "why"),
    [
        ({"threshold": 0.5}, "score is missing"),
        ({**LEARNED.document(), "threshold": 1.5}, "a threshold from 0 to 1"),
        ({**LEARNED.document(), "normal": [1, 2]}, "is no reference"),
        ({**LEARNED.document(), "score": {"n": 3, "quantiles": [2, 1]}}, "ascending"),
    ],
)
def test_a_model_with_a_strange_reference_is_refused(
    tmp_path: Path, strange: dict[str, Any], why: str
) -> None:
    document = json.loads(card("m").to_json()) | {"reference": strange}
    (tmp_path / "card.json").write_text(json.dumps(document))
    with pytest.raises(ModelTampered, match=f"reference: .*{why}"):
        read_card(tmp_path)


def test_what_a_newer_program_adds_to_a_reference_stays_in_the_card(tmp_path: Path) -> None:
    more = {**LEARNED.document(), "colour": {"n": 3, "quantiles": [1.0, 2.0]}}
    document = json.loads(card("m").to_json()) | {"reference": more}
    (tmp_path / "card.json").write_text(json.dumps(document))
    kept = json.loads(read_card(tmp_path).to_json())
    assert kept["reference"] == more
    assert Reference.of_card(kept) == Reference.of_card({"reference": LEARNED.document()})


def test_a_reference_needs_normal_pictures_and_few_anomalies_make_no_distribution() -> None:
    with pytest.raises(ValueError, match="12 pictures score below"):
        reference(wall(12, 0, cracks=0.0))
    with pytest.raises(ValueError, match=r"zip\(\)"):
        reference_of([0.1] * 40, [1.0] * 40, [1.0] * 39, 0.5)
    assert reference(wall(100, 0, cracks=0.0)).anomaly is None


# ------------------------------------------------------------------------------------- pictures


def test_light_is_what_the_definition_says() -> None:
    picture = synthetic.draw(3, crack=True)
    grey = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY).astype(np.int64)
    rows = grey[56:171]
    padded = np.pad(rows, 1, mode="reflect")
    curvature = (
        padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:] - 4 * rows
    )
    found = light.measure(picture)
    assert found.brightness == pytest.approx(grey.mean())
    assert found.sharpness == pytest.approx(curvature.var())


def test_light_of_flat_blurred_and_brighter_pictures() -> None:
    flat = np.full((227, 227, 3), 90, np.uint8)
    assert (light.measure(flat).brightness, light.measure(flat).sharpness) == (90.0, 0.0)
    picture = synthetic.draw(4, crack=False)
    sharp, blurred = light.measure(picture), light.measure(soft(picture))
    assert blurred.sharpness < sharp.sharpness / 4
    assert blurred.brightness == pytest.approx(sharp.brightness, abs=1)
    brightness, sharpness = light.measure_all(np.stack([flat, picture]))
    assert brightness.tolist() == [90.0, sharp.brightness]
    assert sharpness.tolist() == [0.0, sharp.sharpness]


def seen(
    pictures: Sequence[NDArray[np.uint8]], scores: Sequence[float] | NDArray[np.float32]
) -> list[Seen]:
    measured = [light.measure(picture) for picture in pictures]
    return [
        Seen(float(score), each.brightness, each.sharpness)
        for score, each in zip(scores, measured, strict=True)
    ]


def soft(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Out of focus."""
    return cv2.GaussianBlur(picture, (0, 0), 1.5).astype(np.uint8)


def brighter(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """+40 %, as a camera that is over-exposed: what is too bright is white."""
    white: NDArray[np.uint8] = np.minimum(np.rint(picture * 1.4), 255).astype(np.uint8)
    return white


@pytest.fixture(scope="module")
def drawn_concrete() -> list[NDArray[np.uint8]]:
    return [synthetic.draw(k, crack=False) for k in range(100)]


def test_drawn_brick_and_drawn_glare_are_raised_and_more_drawn_concrete_is_not(
    drawn_concrete: list[NDArray[np.uint8]],
) -> None:
    sure = [1e-4] * 100
    learned = reference(seen(drawn_concrete, sure))
    concrete = [synthetic.draw(1_000 + k, crack=False) for k in range(60)]
    brick = [synthetic.draw(1_000 + k, crack=False, surface="brick") for k in range(60)]
    assert raised(seen(concrete, sure[:60]), learned) == set()
    assert "brightness" in raised(seen(brick, sure[:60]), learned)
    assert "brightness" in raised(seen([brighter(each) for each in concrete], sure[:60]), learned)


# ------------------------------------------------------------------------------- real photographs


@pytest.fixture(scope="module")
def classify(
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[Sequence[NDArray[np.uint8]]], NDArray[np.float32]]:
    """The starter model, by OpenVINO."""
    from crackwatch.starters import install_starter

    registry = Registry(tmp_path_factory.mktemp("starter") / "models")
    install_starter(registry, packaged.starter())
    (id,) = registry.ids()
    classifier = load_classifier(registry.folder_of(id), registry.card(id), "openvino", "f32")

    def scores(pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        return np.concatenate(
            [
                classifier.scores(np.stack(pictures[at : at + 64]))
                for at in range(0, len(pictures), 64)
            ]
        )

    return scores


def photographs(folder: Path, step: int = 1) -> list[NDArray[np.uint8]]:
    limits = images.Limits(1 << 20, "quarantine")
    files = sorted([*(folder / "anomaly").iterdir(), *(folder / "normal").iterdir()])
    return [images.decode(file.read_bytes(), limits) for file in files[::step]]


@needs_starter
def test_real_photographs(metu: Path, classify: Any) -> None:
    """Every tenth training picture is the reference: 1,500, with 3 % cracks."""
    threshold = 0.5
    training = photographs(metu / "train", step=10)
    learned = reference(seen(training, classify(training)), threshold)

    held_back = photographs(metu / "valid_unbalanced")
    today = seen(held_back, classify(held_back))
    assert len(today) == 1_000
    dice = random.Random(20_261_123)
    assert [raised(dice.sample(today, 500), learned) for _ in range(20)] == [set()] * 20

    glare = [brighter(each) for each in dice.sample(held_back, 60)]
    assert "brightness" in raised(seen(glare, classify(glare)), learned)
    brick = [synthetic.draw(k, crack=k % 33 == 0, surface="brick") for k in range(60)]
    assert "brightness" in raised(seen(brick, classify(brick)), learned)
    blurred = [soft(each) for each in dice.sample(held_back, 60)]
    assert raised(seen(blurred, classify(blurred)), learned) == {"sharpness"}

    half_cracks = photographs(metu / "valid_balanced", step=8)
    assert raised(seen(half_cracks, classify(half_cracks)), learned) == set()


# -------------------------------------------------------------------------------------- the books


class Stays:
    """Destinations of files that stay where they are."""

    def propose(self, place: Place, source: bytes, id: int, attempt: int) -> None: ...
    def taken(self, place: Place, destination: bytes) -> bool:
        raise AssertionError


def record(station: Station, pictures: Sequence[Seen], at: datetime, model: str = "m") -> None:
    """Rows as the daemon writes them, but inspected at ``at``."""
    learned = json.dumps({"reference": LEARNED.document()})
    pk = station.books.model_pk(model, "0" * 64, learned if model == "m" else "{}")
    first = len(station.rows())
    drafts = [
        Draft(
            Arrival(
                b"%07d.jpg" % (first + number),
                Fingerprint(1, 1, 1, 1, 1),
                at,
                SettledBy.TIME,
            ),
            (first + number).to_bytes(32, "big"),
            Outcome.ANOMALY if each.score >= 0.5 else Outcome.NORMAL,
            Place.KEPT,
            each.score,
            0.5,
            brightness=each.brightness,
            sharpness=each.sharpness,
        )
        for number, each in enumerate(pictures)
    ]
    facts = BatchFacts(pk, "openvino", "f32", "size", 0, 0)
    station.books.record(facts, drafts, Stays())
    change(station, f"inspected_at = {to_microseconds(at)}", f"id > {first}")


def change(station: Station, what: str, where: str) -> None:
    with closing(sqlite3.connect(station.database)) as books, books:
        books.execute(f"UPDATE inspections SET {what} WHERE {where}")


@pytest.fixture
def station(tmp_path: Path) -> Station:
    return Station(tmp_path)


def window(days: int = 1) -> Window:
    return Window(NOON.replace(hour=0), NOON.replace(hour=0) + timedelta(days=days))


def test_a_row_holds_the_light_of_its_picture_and_none_of_one_that_has_no_pixels(
    station: Station,
) -> None:
    station.put("wall.jpg", jpeg(dark=False))
    station.put("dark.jpg", jpeg(dark=True))
    station.put("text.jpg", b"not a picture")
    station.inspect("wall.jpg", "dark.jpg", "text.jpg")
    rows = {row["source"]: (row["brightness"], row["sharpness"]) for row in station.rows()}
    limits = images.Limits(1 << 20, "quarantine")
    for name, dark in ((b"wall.jpg", False), (b"dark.jpg", True)):
        expected = light.measure(images.decode(jpeg(dark=dark), limits))
        assert rows[name] == (expected.brightness, expected.sharpness)
    assert rows[b"text.jpg"] == (None, None)


def test_the_sample_of_a_day_is_whole_or_about_as_many_as_asked_for_and_always_the_same(
    station: Station,
) -> None:
    record(station, wall(3_000, 1), NOON)
    record(station, wall(40, 2), NOON, model="other")
    record(station, wall(10, 2), NOON + timedelta(days=1))
    with reading(station.database) as rows:
        (whole,) = rows.drift.samples([window()], 10_000)
        assert sorted(len(each) for each in whole.values()) == [40, 3_000]
        (some,) = rows.drift.samples([window()], 500)
        assert sorted(len(each) for each in some.values())[1] == pytest.approx(500, abs=5)
        assert [some] == rows.drift.samples([window()], 500)


def test_a_model_taken_late_in_a_busy_day_has_a_sample_of_its_own(station: Station) -> None:
    """What the model before it judged must not leave it with too few to say anything."""
    record(station, wall(10_000, 1), NOON)
    record(station, wall(60, 2, brightness=240.0), NOON, model="m2")
    m2 = station.books.model_pk("m2", "0" * 64, "")
    found, _ = sample_of(station.database, window(), m2, 750)
    assert len(found) == 60


def test_the_sample_takes_every_camera_of_a_line_alike(station: Station) -> None:
    """Four cameras in turn, the fourth of them broken."""
    good, broken = wall(2_250, 1), wall(750, 2, brightness=20.0)
    turns = [broken[at // 4] if at % 4 == 3 else good[at - at // 4] for at in range(3_000)]
    record(station, turns, NOON)
    with reading(station.database) as rows:
        (by_model,) = rows.drift.samples([window()], 750)
    (found,) = by_model.values()
    assert sum(each.brightness < 100 for each in found) / len(found) == pytest.approx(
        0.25, abs=0.02
    )


def test_the_sample_leaves_out_what_does_not_stand_or_was_never_measured(station: Station) -> None:
    record(station, wall(50, 1), NOON)
    change(station, "superseded_at = 1", "id <= 5")
    change(station, "brightness = NULL, sharpness = NULL", "id BETWEEN 6 AND 10")
    change(station, "outcome = 'quarantined'", "id BETWEEN 11 AND 15")
    with reading(station.database) as rows:
        (by_model,) = rows.drift.samples([window()], 750)
    (found,) = by_model.values()
    assert len(found) == 35


def test_a_photographs_highest_tile_is_not_taken_for_the_score_of_a_picture(
    station: Station,
) -> None:
    """Of walls like those that were learned from the worst of 475 tiles is seldom "surely normal".

    And one tile with a crack makes a photograph no darker: its light stays that of normal walls.
    """
    dice = np.random.default_rng(3)
    tiles = np.where(dice.random((200, 475)) < 0.005, 0.2, 1e-5)  # as one in 200 pictures learned
    learned = reference(
        [replace(each, score=0.2) if at % 200 == 0 else each for at, each in enumerate(WALLS)]
    )
    seen = wall(200, 5, cracks=0.0)
    photographed = [
        replace(each, score=0.99 if at < 60 else float(of_it.max()))
        for at, (each, of_it) in enumerate(zip(seen, tiles, strict=True))
    ]
    assert raised(photographed, learned)  # what taking them for pictures would tell
    record(station, photographed, NOON)
    with closing(sqlite3.connect(station.database)) as books, books:
        books.execute(
            "INSERT INTO photographs SELECT id, 4000, 3000, 1.0, 64, 475, 0, 1, 0, '[]', x'', "
            "NULL, NULL FROM inspections"
        )
    with reading(station.database) as rows:
        (by_model,) = rows.drift.samples([window()], 750)
    (sampled,) = by_model.values()
    found = {each.measure: each for each in assess(DAY, "m", sampled, learned)}
    assert {measure: each.finding for measure, each in found.items()} == {
        "brightness": DriftFinding.ALIKE,
        "sharpness": DriftFinding.ALIKE,
        "score": DriftFinding.TOO_FEW,
    }
    assert found["brightness"].n == 200


def test_the_daemons_sample_is_of_one_model_with_its_card(station: Station) -> None:
    record(station, wall(50, 1), NOON)
    record(station, wall(40, 2), NOON, model="other")
    pk = station.books.model_pk("m", "0" * 64, "")
    found, text = sample_of(station.database, window(), pk, 750)
    assert len(found) == 50
    assert Reference.of_card(json.loads(text)) is not None
    others, text = sample_of(station.database, window(), pk + 1, 750)
    assert (len(others), text) == (40, "{}")


# ---------------------------------------------------------------------------------------- reports


def drift_of(station: Station, over: Window, day_start: time = time(0)) -> tuple[DayDrift, ...]:
    with reading(station.database) as rows:
        return driftwatch.of_window(rows.drift, over, day_start)


def test_each_day_of_a_report_is_judged_by_itself(station: Station) -> None:
    record(station, wall(200, 1), NOON)
    record(station, wall(200, 2, brightness=215.0), NOON + timedelta(days=1))
    record(station, wall(12, 3), NOON + timedelta(days=3))
    found = drift_of(station, window(5))
    assert [(each.day.day, each.measure) for each in found if each.raised] == [(24, "brightness")]
    assert {each.day.day for each in found} == {23, 24, 26}
    assert {each.finding for each in found if each.day.day == 26} == {DriftFinding.TOO_FEW}


def test_a_year_costs_as_many_queries_as_a_day_and_each_day_gives_fewer(station: Station) -> None:
    record(station, wall(100, 1), NOON)
    with closing(sqlite3.connect(station.database)) as books, books:
        copied = [row[1] for row in books.execute("PRAGMA table_info(inspections)")]
        changed = {
            "id": "NULL",
            "mtime_ns": "-day",
            "inspected_at": "inspected_at + day * 86400000000",
        }
        books.execute(
            "WITH RECURSIVE days(day) AS (SELECT 1 UNION ALL SELECT day + 1 FROM days WHERE day < 399) "
            f"INSERT INTO inspections ({', '.join(copied)}) "
            f"SELECT {', '.join(changed.get(each, each) for each in copied)} FROM days, inspections"
        )
    asked: list[str] = []

    @event.listens_for(Engine, "before_cursor_execute")
    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if "inspections" in statement:
            asked.append(statement)

    try:
        found = drift_of(station, window(400))
    finally:
        event.remove(Engine, "before_cursor_execute", note)
    assert len(asked) == 4  # the first picture and the last, how many a day, and which
    assert len({each.day for each in found}) == 400
    by_light = [each.n for each in found if each.measure == "brightness"]
    assert all(each.finding is DriftFinding.ALIKE for each in found)
    assert sum(by_light) == pytest.approx(27_000, rel=0.02)
    assert min(by_light) >= 50


def test_a_report_since_long_ago_tests_only_the_days_that_have_pictures(station: Station) -> None:
    """Or a question about all time would ask for more proof than one about last week."""
    record(station, wall(60, 1, brightness=205.0), NOON)
    record(station, wall(60, 2), NOON + timedelta(days=1))
    found = drift_of(station, window(2))
    assert [each.day.day for each in found if each.raised] == [23]
    ever = Window(datetime(1900, 1, 1, tzinfo=BERLIN), NOON + timedelta(days=9))
    assert drift_of(station, ever) == found


def test_a_night_shift_belongs_to_the_day_on_which_it_began(station: Station) -> None:
    record(station, wall(40, 1), NOON.replace(hour=3))
    found = drift_of(station, window(), time(6))
    assert {(each.day, each.n) for each in found if each.measure == "brightness"} == {
        (date(2026, 11, 22), 40)
    }


def test_each_models_pictures_are_held_against_its_own_training_data(station: Station) -> None:
    record(station, wall(60, 1, brightness=215.0), NOON)
    record(station, wall(60, 2, brightness=215.0), NOON, model="other")
    found = {
        each.model: each.finding
        for each in drift_of(station, window())
        if each.measure == "brightness"
    }
    assert found == {"m": DriftFinding.DRIFT, "other": DriftFinding.NO_REFERENCE}


@pytest.fixture
def config(station: Station) -> Path:
    file = station.root / "config.toml"
    file.write_text('[station]\nname = "station"\ntimezone = "Europe/Berlin"\n')
    return file


def run(*arguments: str) -> int:
    return cli.execute(list(arguments))


def test_a_report_tells_of_drift_in_every_form(
    station: Station, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record(station, wall(200, 1, brightness=215.0), NOON)
    ask = ["report", "--since", "2026-11-23", "--until", "2026-11-24", "--config", str(config)]
    assert run(*ask, "--format", "json") == 0
    entries = json.loads(capsys.readouterr().out)["drift"]
    assert [entry["measure"] for entry in entries] == ["brightness", "sharpness", "score"]
    bright, sharp, _ = entries
    assert (bright["day"], bright["model"], bright["n"]) == ("2026-11-23", "m", 200)
    assert (bright["raised"], bright["finding"]) == (True, "drift")
    assert bright["distance"] > 0.5 and bright["p"] < 1e-5
    assert (sharp["raised"], sharp["finding"]) == (False, "alike")
    for form in ("table", "html"):
        assert run(*ask, "--format", form) == 0
        text = capsys.readouterr().out
        assert "Drift" in text and "2026-11-23" in text
        assert "pictures are brighter than what the model learned from (median grey level" in text
        assert "crackwatch review mark" in text


def test_a_report_without_drift_does_not_speak_of_it(
    station: Station, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record(station, wall(200, 1), NOON)
    ask = ["report", "--since", "2026-11-23", "--until", "2026-11-24", "--config", str(config)]
    assert run(*ask) == 0
    assert "Drift" not in capsys.readouterr().out


def test_a_report_says_of_which_model_drift_cannot_be_told(
    station: Station, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record(station, wall(60, 1), NOON)
    record(station, wall(60, 2, brightness=215.0), NOON, model="other")
    ask = ["report", "--since", "2026-11-23", "--until", "2026-11-24", "--config", str(config)]
    assert run(*ask) == 0
    told = capsys.readouterr().out
    assert told.count("does not say what it learned from") == 1
    assert "Drift: cannot be told" in told
    assert "model other does not say" in told


# ------------------------------------------------------------------------------------- the daemon


class Watched:
    """A drift watch on a clock of its own; ``pictures`` are today's."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.pictures: list[Seen] = []
        self.card = json.dumps({"reference": LEARNED.document()})
        self.looks = 0
        self.board = Board()
        self.watch = DriftWatch(self._sample, self.board, lambda: self.now_s)

    def _sample(self, model_pk: int, day: date) -> tuple[list[Seen], str]:
        self.looks += 1
        return self.pictures, self.card

    def tend(self, inspected: int, *, model_pk: int = 1, day: date = DAY, due: bool = False) -> int:
        """How many looks there have been by now."""
        self.watch.tend(model_pk, "m", day, inspected, due=due)
        return self.looks

    def problems(self) -> list[tuple[str, str]]:
        return [(each.code, each.severity) for each in self.board.problems()]


def test_today_is_looked_at_every_hour_and_whenever_it_has_doubled_and_oftener_where_there_are_many() -> (
    None
):
    watched = Watched()
    assert watched.tend(0) == 1
    assert watched.tend(29) == 1  # doubled, but too few to say anything
    assert watched.tend(30) == 2
    assert watched.tend(59) == 2
    assert watched.tend(60) == 3
    watched.now_s = 3599
    assert watched.tend(61) == 3
    watched.now_s = 3600
    assert watched.tend(61) == 4
    assert watched.tend(61, due=True) == 5
    assert watched.tend(61, model_pk=2) == 6
    assert watched.tend(61, model_pk=2, day=DAY + timedelta(days=1)) == 7
    assert watched.tend(900, model_pk=2, day=DAY + timedelta(days=1)) == 8
    watched.now_s += 599
    assert watched.tend(901, model_pk=2, day=DAY + timedelta(days=1)) == 8
    watched.now_s += 1
    assert watched.tend(901, model_pk=2, day=DAY + timedelta(days=1)) == 9


def test_drift_is_a_warning_that_names_measure_and_medians_and_goes_with_its_cause() -> None:
    watched = Watched()
    watched.pictures = wall(100, 1, brightness=215.0)
    watched.tend(100)
    (problem,) = watched.board.problems()
    assert (problem.code, problem.severity) == ("drift", "warning")
    assert problem.message.startswith("2026-11-23: pictures are brighter than what the model")
    assert "against 1" in problem.message
    assert "retrain" in problem.remedy
    watched.pictures = wall(500, 2)
    watched.tend(500)
    assert watched.problems() == []


def test_the_first_pictures_of_a_day_do_not_unsay_what_the_day_before_said() -> None:
    watched = Watched()
    watched.pictures = wall(100, 1, brightness=215.0)
    watched.tend(100)
    watched.pictures = wall(3, 2)
    watched.tend(3, day=DAY + timedelta(days=1))
    assert watched.problems() == [("drift", "warning")]


def test_another_model_learned_from_something_else() -> None:
    watched = Watched()
    watched.pictures = wall(100, 1, brightness=215.0)
    watched.tend(100)
    watched.pictures = []
    watched.tend(100, model_pk=2)
    assert watched.problems() == []


@pytest.mark.parametrize("text", ["{}", "no JSON", "[]"])
def test_a_model_without_a_reference_raises_no_problem(text: str) -> None:
    watched = Watched()
    watched.card, watched.pictures = text, wall(100, 1)
    watched.tend(100)
    assert watched.problems() == []
    assert {each.finding for each in watched.watch.found} == {DriftFinding.NO_REFERENCE}


def test_books_that_cannot_be_read_now_are_asked_again_in_ten_minutes() -> None:
    now_s, asked = [0.0], []

    def sample(model_pk: int, day: date) -> tuple[list[Seen], str]:
        asked.append(now_s[0])
        raise StoreError("the database cannot be read", "Wait.")

    board = Board()
    watch = DriftWatch(sample, board, lambda: now_s[0])
    for now_s[0] in (0.0, 1.0, 601.0):
        watch.tend(1, "m", DAY, 10)
    assert asked == [0.0, 601.0]
    assert board.problems() == ()


@needs_starter
def test_a_run_over_brickwork_ends_with_the_warning(
    tmp_path: Path, drawn_concrete: list[NDArray[np.uint8]]
) -> None:
    root = tmp_path / "station"
    assert run("init", str(root)) == 0
    (file,) = (root / "models").glob("*/card.json")
    document = json.loads(file.read_text())
    concrete = seen(drawn_concrete, [1e-4] * 100)
    document["reference"] = reference(concrete, document["threshold"]["value"]).document()
    file.write_text(json.dumps(document))
    for number in range(60):
        picture = synthetic.draw(number, crack=False, surface="brick")
        (root / "inbox" / f"{number}.jpg").write_bytes(images.encode_jpeg(picture))
    daemon = Daemon(load(root / "config.toml", {}))
    assert daemon.run(once=True) == 0
    (problem,) = daemon.board.problems()
    assert problem.code == "drift"
    assert "pictures are darker than what the model learned from" in problem.message


def test_status_says_what_drift_is_known(
    station: Station, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = station.root / "state"
    lines = {
        "none: pictures are like": (wall(100, 1), LEARNED),
        "2026-11-23: brightness unlike": (wall(100, 1, brightness=215.0), LEARNED),
        "too few to say when last looked: 3 pictures": (wall(3, 1), LEARNED),
        "unknown: the model does not say": (wall(100, 1), None),
    }
    with running(state) as pid:
        for line, (pictures, learned) in lines.items():
            found = assess(DAY, "m", pictures, learned)
            status.write(
                state, status.Status("running", pid=pid, as_of=datetime.now(UTC), drift=found)
            )
            assert run("status", "--config", str(config)) == 0
            assert f"  drift        {line}" in capsys.readouterr().out
            assert run("status", "--config", str(config), "--format", "json") == 0
            (bright, *_) = json.loads(capsys.readouterr().out)["drift"]
            assert (bright["measure"], bright["n"]) == ("brightness", len(pictures))
