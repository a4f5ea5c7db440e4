"""The labelled scores that a threshold is chosen by, and how common cracks are; chooses none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from crackwatch.cli.progress import progress_bar
from crackwatch.domain import OVERLAY_SUFFIX, Label
from crackwatch.errors import DatasetError, ModelError, PromiseError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from crackwatch.dataset import Pictures, Problem
    from crackwatch.labelled_scores import Examples
    from crackwatch.learned import Learned
    from crackwatch.registry import Registry
    from crackwatch.settings import Settings

STORE_DAYS = 30  # of inspections that tell how common cracks are
ENOUGH_FLAGGED = 10  # fewer say next to nothing of a share
_CHUNK = 64  # pictures scored at once
_LISTED = 5


_TRAIN_MORE = (
    "Label more of what this station sees with 'crackwatch review mark PATH crack|ok', or take in "
    "labelled folders with 'crackwatch dataset import FOLDER', and run 'crackwatch retrain'."
)


_MORE_PHOTOGRAPHS = "Add labelled photographs of other concrete to that folder."

Enough = Callable[[int, int], None]  # cracks and normals; see of_photographs


@dataclass(frozen=True, slots=True)
class Wholes:
    """How photographs were scored as wholes."""

    min_tiles: int
    second_look_from: float | None
    tiles: int  # of a typical one: the median


@dataclass(frozen=True, slots=True)
class Evidence:
    """Scores with labels, and where they come from and how to get more, for a person."""

    examples: Examples
    source: str  # "out_of_fold" | "data" | "photographs"
    words: str
    more: str
    sure: NDArray[np.bool_] | None = None  # (N,) labelled by a person at the station
    names: tuple[str, ...] | None = None  # of the files; None: only their scores were kept
    wholes: Wholes | None = None  # None: the scores are single pictures'


def out_of_fold(registry: Registry, model_id: str) -> Evidence:
    from crackwatch import learned
    from crackwatch.labelled_scores import Examples

    known = learned.read(registry.folder_of(model_id))
    if known is None or not len(known.out_of_fold):
        raise ModelError(
            f"model {model_id} has no out-of-fold scores to choose a threshold from",
            "Give labelled pictures that it has not learned from with --data DIR, or make a model "
            "that has them with 'crackwatch retrain --recipe station'.",
        )
    rows = known.out_of_fold
    examples = Examples.of_logits(known.logits[rows], known.labels[rows], known.groups[rows])
    return Evidence(
        examples,
        "out_of_fold",
        "out of fold: by models of the same recipe that had not seen the picture",
        _TRAIN_MORE,
        sure=known.reviewed[rows],
    )


def of_data(settings: Settings, registry: Registry, model_id: str, data: Path) -> Evidence:
    import numpy as np

    from crackwatch import dataset, learned
    from crackwatch.champion import open_chosen
    from crackwatch.cli.workshop import decoder
    from crackwatch.escaping import path_text
    from crackwatch.images import keypoints
    from crackwatch.labelled_scores import Examples

    files = dataset.list_files(dataset.find_layout(data))
    known = learned.read(registry.folder_of(model_id))
    classifier, _ = open_chosen(registry, model_id, settings.model, None)
    with (
        progress_bar("reading") as progress,
        dataset.load(files, decoder(settings), registry.folder, progress) as pictures,
    ):
        _tell_left_out(pictures.problems + pictures.contradictions)
        if known is None:
            click.echo(
                f"model {model_id} does not say what it learned from: see to it yourself that it "
                f"was none of {data}",
                err=True,
            )
        else:
            pictures = _unfamiliar(known, pictures, model_id, data)
        with progress_bar("looking for overlaps") as looked:
            landmarks = dataset.Landmarks(keypoints.landmarks, keypoints.searcher)
            groups = dataset.groups(pictures, landmarks, looked)
        scores = [np.empty(0, np.float32)]
        with progress_bar("scoring") as scored:
            for start in range(0, len(pictures), _CHUNK):
                chunk = np.arange(start, min(start + _CHUNK, len(pictures)))
                scores.append(classifier.scores(pictures.get(chunk)))
                scored(int(chunk[-1]) + 1, len(pictures))
        examples = Examples.of_scores(np.concatenate(scores), pictures.labels, groups)
        names = tuple(map(path_text, pictures.paths))
    return Evidence(
        examples,
        "data",
        f"by the model itself, of {data}",
        "Add labelled pictures of other concrete to that folder.",
        names=names,
    )


def of_photographs(
    settings: Settings,
    registry: Registry,
    model_id: str,
    folder: Path,
    min_tiles: int,
    second_look_from: float | None,
    enough: Enough,
) -> Evidence:
    """Labelled photographs, each as the station judges it: in tiles, by such a rule.

    ``enough`` is told how many there are of each label before any is scored, and raises PromiseError
    where no scores of so many could do.
    """
    from statistics import median

    from crackwatch import dataset, learned
    from crackwatch.champion import open_chosen
    from crackwatch.cli.workshop import decoder as crop_decoder
    from crackwatch.decoding import Decoder
    from crackwatch.escaping import path_text
    from crackwatch.evaluation.photographs import learned_from, score_photographs
    from crackwatch.labelled_scores import Examples

    listed = dataset.list_files(dataset.find_layout(folder))
    paths = {file.path for file in listed}
    # the station's own marked copy, beside what it shows, is no photograph more
    copies = paths & {path + OVERLAY_SUFFIX for path in paths}
    files = [file for file in listed if file.path not in copies]
    cracks = sum(file.label is Label.ANOMALY for file in files)
    try:
        enough(cracks, len(files) - cracks)
    except PromiseError as exc:
        raise PromiseError(
            f"{folder}: {exc.problem}", _MORE_PHOTOGRAPHS, have=exc.have, needed=exc.needed
        ) from exc
    known = learned.read(registry.folder_of(model_id))
    if known is None:
        click.echo(
            f"model {model_id} does not say what it learned from: see to it yourself that none of it "
            f"was cut from photographs in {folder}",
            err=True,
        )
    else:
        crops = settings.folders.dataset
        seen = learned_from(files, crops, known.pixel_hashes, crop_decoder(settings))
        if seen:
            raise _learned(
                list(map(path_text, seen)),
                folder,
                f"crops of {len(seen)} of these photographs",
                model_id,
            )
    classifier, _ = open_chosen(registry, model_id, settings.model, None)
    decoder, model_mm_per_px = Decoder(settings), registry.card(model_id).mm_per_px
    with progress_bar("scoring") as progress:
        scored = score_photographs(
            files,
            lambda data: decoder(data, model_mm_per_px),
            classifier,
            min_tiles,
            second_look_from,
            progress,
        )
    passed_over = [
        dataset.Problem(path_text(path), "is a marked copy of the photograph beside it")
        for path in sorted(copies)
    ]
    _tell_left_out([*passed_over, *scored.problems])
    if not len(scored.labels):
        raise DatasetError(
            f"{folder}: none of its {len(files)} files is a photograph that is judged in tiles",
            "Single crops are for --data DIR."
            if settings.images.larger == "tile"
            else f'[images] larger is "{settings.images.larger}": this station judges none in tiles.',
        )
    tiles = round(median(scored.tiles.tolist()))
    return Evidence(
        Examples.of_scores(scored.scores, scored.labels, scored.groups),
        "photographs",
        f"by the model itself, of the photographs in {folder}, {tiles:,} tiles each",
        _MORE_PHOTOGRAPHS,
        wholes=Wholes(min_tiles, second_look_from, tiles),
    )


def _tell_left_out(left_out: Sequence[Problem]) -> None:
    for problem in left_out[:_LISTED]:
        click.echo(f"left out: {problem.path}: {problem.reason}", err=True)
    if len(left_out) > _LISTED:
        click.echo(f"left out: {len(left_out) - _LISTED} more", err=True)


def _unfamiliar(known: Learned, pictures: Pictures, model_id: str, data: Path) -> Pictures:
    """Those that are no pictures of the model's training, encoded or exposed anew; names the others.

    Raises DatasetError where a picture was learned from: its score promises nothing.
    """
    import numpy as np

    from crackwatch import dataset
    from crackwatch.escaping import path_text
    from crackwatch.evaluation.familiar import familiar

    textures = dataset.texture_bits(pictures.folded)
    found = familiar(pictures.pixel_hashes, textures, known.pixel_hashes, known.textures)
    seen = [path_text(pictures.paths[position]) for position in found.training]
    if seen:
        raise _learned(seen, data, f"{len(seen)} of these pictures", model_id)
    for position in found.near[:_LISTED].tolist():
        click.echo(
            f"left out: {path_text(pictures.paths[position])}: a near duplicate of a picture that "
            f"model {model_id} learned from: its score promises nothing",
            err=True,
        )
    if len(found.near) > _LISTED:
        click.echo(f"left out: {len(found.near) - _LISTED} more near duplicates", err=True)
    return pictures.at(np.setdiff1d(np.arange(len(pictures)), found.near))


def _learned(seen: list[str], data: Path, what: str, model_id: str) -> DatasetError:
    more = f" and {len(seen) - _LISTED} more" if len(seen) > _LISTED else ""
    return DatasetError(
        f"{data}: model {model_id} learned from {what}: {', '.join(seen[:_LISTED])}{more}",
        "Their scores promise nothing: take them out.",
    )


def prevalence_of(settings: Settings, given: float | None, evidence: Evidence) -> tuple[float, str]:
    """The share with a crack, and how it is known: of photographs, or of single pictures.

    A photograph shows some hundred times as much of a wall. Raises StoreError.
    """
    if given is not None:
        return given, "as given"
    if settings.database_file.exists():
        from datetime import UTC, datetime, timedelta

        from crackwatch.days import Window
        from crackwatch.domain import Outcome
        from crackwatch.store.reports import reading

        until = datetime.now(UTC)
        with reading(settings.database_file) as rows:
            counts = rows.counts(Window(until - timedelta(days=STORE_DAYS), until))

        def of(outcome: Outcome) -> int:
            photographs = sum(each.count for each in counts.tiled if each.outcome is outcome)
            every = sum(each.count for each in counts.tallies if each.outcome is outcome)
            return photographs if evidence.wholes is not None else every - photographs

        flagged = of(Outcome.ANOMALY)
        inspected = flagged + of(Outcome.NORMAL)
        if flagged >= ENOUGH_FLAGGED:
            things = "single pictures" if evidence.wholes is None else "photographs"
            return flagged / inspected, (
                f"what the station flagged in the last {STORE_DAYS} days, {flagged:,} of "
                f"{inspected:,} {things}"
            )
    examples = evidence.examples
    cracks, scored = int((examples.labels == 1).sum()), len(examples.labels)
    share = cracks / scored if scored else 0.0
    return share, f"the share among the scored pictures, {cracks:,} of {scored:,}"
