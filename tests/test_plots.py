"""What the plots show is what was measured; every case has its pictures, and none opens a window."""

from __future__ import annotations

import gc
import os
import struct
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from numpy.typing import NDArray

from crackwatch import evaluation, images, synthetic
from crackwatch.errors import DatasetError
from crackwatch.evaluation import Scored, curves, style
from crackwatch.evaluation.contact_sheet import (
    CLOSEST,
    MOST_PAGES,
    PER_PAGE,
    Kind,
    choose_tiles,
    heading,
    score_text,
    tile_name,
    write_contact_sheets,
)
from crackwatch.evaluation.plots import write_plots

NAMES = ["overview", "confusion", "precision_recall", "roc", "scores", "reliability", "cost"]


def made(tp: int, fn: int, fp: int, tn: int) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
    """Scores and labels that give these counts at 0.5."""
    scores = np.repeat(np.array([0.9, 0.2, 0.8, 0.1], np.float32), [tp, fn, fp, tn])
    return scores, np.repeat(np.array([1, 1, 0, 0], np.int8), [tp, fn, fp, tn])


def size(file: Path) -> tuple[int, int]:
    """Width and height of a PNG, in pixels."""
    head = file.read_bytes()[:24]
    assert head.startswith(b"\x89PNG")
    width, height = struct.unpack(">II", head[16:24])
    return width, height


def pixels(file: Path) -> NDArray[np.uint8]:
    """A PNG as RGB."""
    from matplotlib.image import imread

    return np.rint(imread(file)[..., :3] * 255).astype(np.uint8)


class TestCurves:
    def test_roc_by_hand(self) -> None:
        found = curves.roc(np.array([0.9, 0.8, 0.7, 0.1]), np.array([1, 0, 1, 0], np.int8))
        assert found is not None
        corners = set(zip(found.x.tolist(), found.y.tolist(), strict=True))
        assert {(0, 0), (0, 0.5), (0.5, 0.5), (0.5, 1), (1, 1)} == corners

    def test_precision_recall_by_hand(self) -> None:
        found = curves.precision_recall(
            np.array([0.9, 0.8, 0.7, 0.1]), np.array([1, 0, 1, 0], np.int8)
        )
        assert found is not None
        points = list(zip(found.x.tolist(), found.y.tolist(), strict=True))
        assert points == [(0, 1), (0.5, 1), (0.5, 0.5), (1, pytest.approx(2 / 3)), (1, 0.5)]

    def test_the_operating_point_lies_on_both_curves(self) -> None:
        scores, labels = made(28, 2, 6, 964)
        found = evaluation.measure(scores, labels, 0.5)
        roc, ranked = curves.roc(scores, labels), curves.precision_recall(scores, labels)
        assert roc is not None and ranked is not None
        at = np.flatnonzero(np.isclose(roc.x, 6 / 970))
        assert np.isclose(roc.y[at], 28 / 30).any()
        at = np.flatnonzero(np.isclose(ranked.x, 28 / 30))
        assert found.precision is not None
        assert np.isclose(ranked.y[at], found.precision).any()

    @pytest.mark.parametrize("counts", [(0, 0, 0, 0), (0, 0, 2, 3), (2, 3, 0, 0)])
    def test_one_class_has_no_curve(self, counts: tuple[int, int, int, int]) -> None:
        scores, labels = made(*counts)
        assert curves.roc(scores, labels) is None
        assert curves.precision_recall(scores, labels) is None
        assert curves.costs(scores, labels, evaluation.measure(scores, labels, 0.5)) is None

    def test_lines_of_equal_f1_have_that_f1(self) -> None:
        recall = np.linspace(0, 1, 50)
        precision = curves.iso_f1(0.8, recall)
        there = ~np.isnan(precision)
        assert there.sum() > 10
        f1 = 2 * precision[there] * recall[there] / (precision[there] + recall[there])
        np.testing.assert_allclose(f1, 0.8)

    def test_logits_are_finite_and_the_scores_own(self) -> None:
        found = curves.logits(np.array([0, 0.5, 0.9, 1], np.float32))
        assert found[0] == -curves.FURTHEST_LOGIT and found[3] == curves.FURTHEST_LOGIT
        assert found[1] == 0
        assert found[2] == pytest.approx(np.log(9), abs=1e-5)


class TestReliability:
    def test_bins_by_hand(self) -> None:
        scores = np.array([0.05, 0.05, 0.1, 0.95, 1.0])
        bins = curves.reliability(scores, np.array([0, 1, 1, 1, 0], np.int8))
        assert len(bins) == 10
        assert [bin_.count for bin_ in bins] == [2, 1, 0, 0, 0, 0, 0, 0, 0, 2]
        assert (bins[0].mean_score, bins[0].rate) == (pytest.approx(0.05), 0.5)
        assert (bins[9].mean_score, bins[9].rate) == (pytest.approx(0.975), 0.5)
        assert bins[9].interval == evaluation.exact_interval(1, 2)
        assert bins[5].mean_score is bins[5].rate is bins[5].interval is None

    @given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60))
    @settings(max_examples=40, deadline=None)
    def test_its_gaps_are_the_calibration_error(self, drawn: list[tuple[float, bool]]) -> None:
        scores = np.array([score for score, _ in drawn])
        labels = np.array([label for _, label in drawn], np.int8)
        bins = curves.reliability(scores, labels)
        gaps = sum(
            bin_.count * abs(bin_.rate - bin_.mean_score)
            for bin_ in bins
            if bin_.rate is not None and bin_.mean_score is not None
        )
        expected = evaluation.measure(scores, labels, 0.5).ece
        assert gaps / len(drawn) == pytest.approx(expected, abs=1e-9)


class TestCosts:
    def costs(self, tp: int, fn: int, fp: int, tn: int) -> curves.Costs:
        scores, labels = made(tp, fn, fp, tn)
        found = curves.costs(scores, labels, evaluation.measure(scores, labels, 0.5))
        assert found is not None
        return found

    def test_by_hand(self) -> None:
        found = self.costs(90, 10, 5, 95)
        even = int(np.argmin(np.abs(np.log(found.weight))))
        assert found.weight[even] == pytest.approx(1)
        assert found.at_threshold[even] == pytest.approx(0.5 * 0.1 + 0.5 * 0.05)
        assert found.flag_nothing[even] == found.flag_everything[even] == pytest.approx(0.5)
        # at its far ends nothing but misses, and nothing but false alarms, is paid for
        assert found.at_threshold[-1] == pytest.approx(0.1, abs=1e-4)
        assert found.at_threshold[0] == pytest.approx(0.05, abs=1e-4)

    def test_the_ends_of_what_is_worthwhile_are_where_the_lines_cross(self) -> None:
        found = self.costs(90, 10, 5, 95)
        (_, missed), (_, alarmed) = curves.error_intervals(
            evaluation.measure(*made(90, 10, 5, 95), 0.5)
        )
        assert found.worthwhile == (
            pytest.approx(alarmed / (1 - missed)),
            pytest.approx((1 - alarmed) / missed),
        )
        better = found.high < np.minimum(found.flag_nothing, found.flag_everything)
        low, high = found.worthwhile
        np.testing.assert_array_equal(better, (found.weight > low) & (found.weight < high))

    def test_what_is_no_better_than_chance_is_worth_nothing(self) -> None:
        assert self.costs(50, 50, 50, 50).worthwhile is None

    def test_no_errors_among_ten_do_not_prove_it_worth_any_price(self) -> None:
        least, most = self.costs(10, 0, 0, 10).worthwhile or (0.0, np.inf)
        assert 0.3 < least < 1 < most < 3  # each rate may be as high as 0.308

    def test_the_best_threshold_is_never_dearer_and_the_band_holds_the_line(self) -> None:
        found = self.costs(28, 2, 6, 964)
        assert (found.best <= found.at_threshold + 1e-12).all()
        assert (found.best <= found.flag_nothing).all()
        assert (found.low <= found.at_threshold).all() and (found.at_threshold <= found.high).all()


class TestHistogram:
    def test_every_picture_is_in_one_bin_on_its_side_of_the_threshold(self) -> None:
        random = np.random.default_rng(4)
        scores = np.concatenate([random.beta(0.1, 0.1, 300), [0, 1, 0.903, 0.903]])
        labels = (random.random(304) < 0.4).astype(np.int8)
        found = curves.histogram(scores.astype(np.float32), labels, 0.903)
        assert found.normal.sum() == (labels == 0).sum()
        assert found.anomaly.sum() == (labels == 1).sum()
        line = float(curves.logits(np.array([0.903]))[0])
        right = found.edges[:-1] >= line - 1e-9
        flagged = scores.astype(np.float32).astype(np.float64) >= 0.903
        assert found.anomaly[right].sum() == (flagged & (labels == 1)).sum()
        assert found.normal[right].sum() == (flagged & (labels == 0)).sum()

    @pytest.mark.parametrize("threshold", [0.0, 1.0])
    def test_thresholds_at_the_ends(self, threshold: float) -> None:
        scores, labels = made(3, 2, 1, 4)
        found = curves.histogram(scores, labels, threshold)
        assert found.normal.sum() + found.anomaly.sum() == 10
        assert (np.diff(found.edges) > 0).all()


class TestPlots:
    @pytest.mark.parametrize(
        ("counts", "threshold"),
        [
            ((30, 2, 5, 400), 0.5),
            ((10, 0, 0, 10), 0.5),
            ((10, 0, 0, 10), 1.0),
            ((0, 0, 3, 20), 0.5),
            ((5, 5, 5, 5), 0.5),
            ((0, 0, 0, 0), 0.5),
        ],
    )
    def test_every_plot_is_written_whatever_was_found(
        self, tmp_path: Path, counts: tuple[int, int, int, int], threshold: float
    ) -> None:
        scores, labels = made(*counts)
        found = evaluation.measure(scores, labels, threshold)
        title = "橋 $x_{ \udc80 50 %"  # a folder's name may hold anything
        written = write_plots(tmp_path / "new/plots", scores, labels, found, title)
        assert [file.name for file in written] == [f"{name}.png" for name in NAMES]
        assert size(written[0]) == (1900, 1140)
        assert {size(file) for file in written[1:]} == {(888, 672)}

    def test_a_folder_that_cannot_be_made_is_told(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        scores, labels = made(1, 1, 1, 1)
        found = evaluation.measure(scores, labels, 0.5)
        with pytest.raises(DatasetError, match="plots cannot be written"):
            write_plots(tmp_path / "file/plots", scores, labels, found, "a title")

    def test_figures_are_let_go(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        alive: list[weakref.ref[Figure]] = []

        def counted(*arguments: Any, **options: Any) -> Figure:
            figure = Figure(*arguments, **options)
            alive.append(weakref.ref(figure))
            return figure

        monkeypatch.setattr(style, "Figure", counted)
        figure = style.new_figure(2, 2)
        assert len(alive) == 1
        monkeypatch.undo()
        style.rendered(figure)
        del figure
        gc.collect()
        assert alive[0]() is None

    def test_no_window_and_no_pyplot(self, tmp_path: Path) -> None:
        """A user's own matplotlib settings and a display that is not there change nothing."""
        (tmp_path / "matplotlibrc").write_text("backend: TkAgg\nfont.size: 40\ntext.usetex: True\n")
        code = (
            "import sys\n"
            "from pathlib import Path\n"
            "import numpy as np\n"
            "from crackwatch import evaluation\n"
            "from crackwatch.evaluation.plots import write_plots\n"
            "scores, labels = np.array([0.1, 0.9]), np.array([0, 1], np.int8)\n"
            "found = evaluation.measure(scores, labels, 0.5)\n"
            "write_plots(Path('out'), scores, labels, found, 'title')\n"
            "assert not {'matplotlib.pyplot', 'tkinter'} & set(sys.modules)\n"
        )
        environment = {key: value for key, value in os.environ.items() if key != "DISPLAY"}
        subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, env=environment)
        scores, labels = np.array([0.1, 0.9]), np.array([0, 1], np.int8)
        found = evaluation.measure(scores, labels, 0.5)
        write_plots(tmp_path / "here", scores, labels, found, "title")
        for name in NAMES:
            there, here = (tmp_path / folder / f"{name}.png" for folder in ("out", "here"))
            np.testing.assert_array_equal(pixels(there), pixels(here))


# --------------------------------------------------------------------------------- contact sheets


def decode(content: bytes) -> NDArray[np.uint8]:
    return images.decode(content, images.Limits(10**6, "quarantine"))


def negative(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return 255 - picture


@pytest.fixture(scope="module")
def drawings(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Files of six drawn pictures."""
    folder = tmp_path_factory.mktemp("drawn")
    files = []
    for seed in range(6):
        file = folder / f"{seed}.png"
        file.write_bytes(images.encode_png(synthetic.draw(seed, crack=seed % 2 == 0)))
        files.append(os.fsencode(file))
    return files


def scored(scores: list[float], labels: list[int], files: list[bytes]) -> Scored:
    paths = tuple(files[at % len(files)] for at in range(len(scores)))
    return Scored(
        np.array(labels, np.int8),
        np.array(scores, np.float32),
        paths,
        (),
        np.empty((0, 35), np.uint8),
        (),
    )


class TestTiles:
    def test_escapes_come_first_and_the_worst_of_each_kind_before_the_others(self) -> None:
        scores = np.array([0.4, 0.1, 0.99, 0.9, 0.6, 0.2, 0.3])
        labels = np.array([1, 1, 1, 0, 0, 0, 1], np.int8)
        tiles = choose_tiles(scores, labels, 0.5)
        assert [(tile.kind, tile.position) for tile in tiles] == [
            (Kind.ESCAPE, 1),
            (Kind.ESCAPE, 6),
            (Kind.ESCAPE, 0),
            (Kind.FALSE_ALARM, 3),
            (Kind.FALSE_ALARM, 4),
        ]

    def test_with_few_errors_the_closest_calls_follow(self) -> None:
        scores = np.array([0.4, 0.97, 0.6, 0.001, 0.55])
        tiles = choose_tiles(scores, np.array([1, 1, 1, 0, 1], np.int8), 0.5)
        assert [(tile.kind, tile.position) for tile in tiles] == [
            (Kind.ESCAPE, 0),
            (Kind.CLOSE_CALL, 4),
            (Kind.CLOSE_CALL, 2),
            (Kind.CLOSE_CALL, 1),
            (Kind.CLOSE_CALL, 3),
        ]
        many = choose_tiles(np.linspace(0.6, 0.9, 100), np.ones(100, np.int8), 0.5)
        assert [tile.position for tile in many] == list(range(CLOSEST))

    @pytest.mark.parametrize(
        ("escapes", "alarms", "shown"), [(500, 500, (72, 24)), (500, 3, (93, 3)), (5, 500, (5, 91))]
    )
    def test_room_is_shared(self, escapes: int, alarms: int, shown: tuple[int, int]) -> None:
        scores, labels = made(1, escapes, alarms, 1)
        tiles = choose_tiles(scores, labels, 0.5)
        assert len(tiles) == PER_PAGE * MOST_PAGES
        kinds = [tile.kind for tile in tiles]
        assert (kinds.count(Kind.ESCAPE), kinds.count(Kind.FALSE_ALARM)) == shown


class TestHeadings:
    def test_no_errors_are_said(self) -> None:
        found = scored([0.9, 0.1], [1, 0], [b"x"])
        tiles = choose_tiles(found.scores, found.labels, 0.5)
        expected = "No errors among 2 pictures at threshold 0.5; the closest calls"
        assert heading(found, 0.5, tiles) == expected
        assert (
            heading(scored([], [], [b"x"]), 0.5, [])
            == "No errors among 0 pictures at threshold 0.5"
        )

    def test_errors_are_counted(self) -> None:
        found = scored([0.2, 0.7, 0.1, 0.9], [1, 0, 1, 1], [b"x"])
        tiles = choose_tiles(found.scores, found.labels, 0.5)
        assert heading(found, 0.5, tiles) == (
            "2 escapes and 1 false alarm among 4 pictures at threshold 0.5; "
            "the closest calls as well"
        )

    def test_what_is_left_out_is_said(self) -> None:
        found = scored([0.2] * 200, [1] * 200, [b"x"])
        tiles = choose_tiles(found.scores, found.labels, 0.5)
        assert heading(found, 0.5, tiles) == (
            "200 escapes (the worst 96 shown) and 0 false alarms among 200 pictures "
            "at threshold 0.5"
        )


class TestSheets:
    def test_the_picture_stands_beside_what_is_made_of_it(
        self, tmp_path: Path, drawings: list[bytes]
    ) -> None:
        found = scored([0.2, 0.9] * 5, [1, 0] * 5, drawings)
        told: list[tuple[int, int]] = []
        (sheet,) = write_contact_sheets(
            *(tmp_path, found, 0.5, "a title", decode, negative),
            lambda done, total: told.append((done, total)),
        )
        assert sheet.name == "errors.png"
        page = pixels(sheet)
        first = decode(Path(os.fsdecode(found.paths[0])).read_bytes())[..., ::-1]
        top, left = 116 + 5, 30
        shown = page[top : top + 227, left : left + 454]
        np.testing.assert_array_equal(shown[:, :227], first)
        np.testing.assert_array_equal(shown[:, 227:], 255 - first)
        # the stripe above has the colour of its kind: escapes, and behind them false alarms
        assert page[117, 100].tolist() == [0xD5, 0x5E, 0x00]
        second_row = 116 + 5 + 227 + 54 + 22
        assert page[second_row + 1, 30 + 2 * 476 + 5].tolist() == [0x00, 0x72, 0xB2]
        assert told[-1] == (10, 10)

    def test_no_errors_are_told_and_the_closest_calls_shown(
        self, tmp_path: Path, drawings: list[bytes]
    ) -> None:
        found = scored([0.9, 0.1, 0.8], [1, 0, 1], drawings)
        (sheet,) = write_contact_sheets(tmp_path, found, 0.5, "a title", decode, negative)
        page = pixels(sheet)
        assert page[117, 100].tolist() == [0x5F, 0x5F, 0x5F]  # grey: a close call

    def test_nothing_at_all_is_a_sheet_as_well(self, tmp_path: Path) -> None:
        (sheet,) = write_contact_sheets(tmp_path, scored([], [], [b"x"]), 0.5, "a title", decode)
        width, height = size(sheet)
        assert width > 1000 and height < 250

    def test_many_errors_fill_several_pages_and_stale_ones_go(
        self, tmp_path: Path, drawings: list[bytes]
    ) -> None:
        (tmp_path / "errors-12.png").touch()
        (tmp_path / "errors-mine.png").touch()
        found = scored([0.2] * 30, [1] * 30, drawings)
        written = write_contact_sheets(tmp_path, found, 0.5, "a title", decode)
        assert [file.name for file in written] == ["errors.png", "errors-2.png"]
        there = sorted(file.name for file in tmp_path.iterdir())
        assert there == ["errors-2.png", "errors-mine.png", "errors.png"]
        (full, rest) = (size(file) for file in written)
        assert full[0] == rest[0] and full[1] > 2 * rest[1]

    def test_unreadable_files_and_names_have_their_tile(
        self, tmp_path: Path, drawings: list[bytes]
    ) -> None:
        folder = os.fsencode(tmp_path)
        broken = os.path.join(folder, b"caf\xe9 $x$ \xe6\xa9\x8b\n.png")
        with open(broken, "wb") as file:
            file.write(b"no picture")
        files = [broken, os.path.join(folder, b"gone" * 40)]
        found = scored([0.2, 0.3], [1, 1], files)
        (sheet,) = write_contact_sheets(tmp_path / "out", found, 0.5, "a title", decode, negative)
        page = pixels(sheet)
        for left in (30, 30 + 476):
            assert (page[116 + 5 + 150 : 116 + 5 + 220, left + 4 : left + 450] == 0xEE).all()

    def test_a_folder_that_cannot_be_listed_is_told(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(DatasetError, match="cannot be removed"):
            write_contact_sheets(tmp_path / "file", scored([], [], [b"x"]), 0.5, "t", decode)


class TestWords:
    def test_names_are_short_and_printable(self) -> None:
        assert tile_name(b"/data/anomaly/a.jpg") == "anomaly/a.jpg"
        assert tile_name(b"/data/anomaly/\xff\n.jpg") == "anomaly/\\xff\\x0a.jpg"
        assert tile_name("/data/anomaly/橋.jpg".encode()) == "anomaly/\\u6a4b.jpg"
        long = tile_name(b"/data/anomaly/" + b"x" * 80 + b"-0815.jpg", 40)
        assert len(long) == 40
        assert long.startswith("anomaly/") and "…" in long and long.endswith("-0815.jpg")

    @pytest.mark.parametrize(
        ("score", "text"),
        [
            (0.0, "0.0000"),
            (3.26e-5, "3.3e-05"),
            (0.0154, "0.0154"),
            (0.903, "0.9030"),
            (0.99952, "0.99952"),
            (0.99999994, "0.999999+"),
            (1.0, "1.0000"),
        ],
    )
    def test_scores_near_the_ends_are_not_rounded_to_them(self, score: float, text: str) -> None:
        assert score_text(score) == text
