"""The labelled scores that a threshold is chosen by, and how common cracks are; chooses none."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from crackwatch.cli.progress import progress_bar
from crackwatch.errors import DatasetError, ModelError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from crackwatch.dataset import Pictures
    from crackwatch.labelled_scores import Examples
    from crackwatch.learned import Learned
    from crackwatch.registry import Registry
    from crackwatch.settings import Settings

STORE_DAYS = 30  # of inspections that tell how common cracks are
ENOUGH_FLAGGED = 10  # fewer say next to nothing of a share
_CHUNK = 64  # pictures scored at once
_LISTED = 5


@dataclass(frozen=True, slots=True)
class Evidence:
    """Scores with labels, and where they come from, for a person."""

    examples: Examples
    source: str  # "out_of_fold" | "data"
    words: str
    sure: NDArray[np.bool_] | None = None  # (N,) labelled by a person at the station
    names: tuple[str, ...] | None = None  # of the files; None: only their scores were kept


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
        left_out = pictures.problems + pictures.contradictions
        for problem in left_out[:_LISTED]:
            click.echo(f"left out: {problem.path}: {problem.reason}", err=True)
        if len(left_out) > _LISTED:
            click.echo(f"left out: {len(left_out) - _LISTED} more", err=True)
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
    return Evidence(examples, "data", f"by the model itself, of {data}", names=names)


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
        more = f" and {len(seen) - _LISTED} more" if len(seen) > _LISTED else ""
        raise DatasetError(
            f"{data}: model {model_id} learned from {len(seen)} of these pictures: "
            f"{', '.join(seen[:_LISTED])}{more}",
            "Their scores promise nothing: take them out, or leave --data away.",
        )
    for position in found.near[:_LISTED].tolist():
        click.echo(
            f"left out: {path_text(pictures.paths[position])}: a near duplicate of a picture that "
            f"model {model_id} learned from: its score promises nothing",
            err=True,
        )
    if len(found.near) > _LISTED:
        click.echo(f"left out: {len(found.near) - _LISTED} more near duplicates", err=True)
    return pictures.at(np.setdiff1d(np.arange(len(pictures)), found.near))


def prevalence_of(settings: Settings, given: float | None, examples: Examples) -> tuple[float, str]:
    """The share of pictures with a crack, and how it is known. Raises StoreError."""
    if given is not None:
        return given, "as given"
    if settings.database_file.exists():
        from datetime import UTC, datetime, timedelta

        from crackwatch.days import Window
        from crackwatch.domain import Outcome
        from crackwatch.store.reports import reading

        until = datetime.now(UTC)
        with reading(settings.database_file) as rows:
            tallies = rows.counts(Window(until - timedelta(days=STORE_DAYS), until)).tallies
        flagged = sum(each.count for each in tallies if each.outcome is Outcome.ANOMALY)
        inspected = flagged + sum(each.count for each in tallies if each.outcome is Outcome.NORMAL)
        if flagged >= ENOUGH_FLAGGED:
            return flagged / inspected, (
                f"what the station flagged in the last {STORE_DAYS} days, {flagged:,} of "
                f"{inspected:,}"
            )
    cracks, scored = int((examples.labels == 1).sum()), len(examples.labels)
    share = cracks / scored if scored else 0.0
    return share, f"the share among the scored pictures, {cracks:,} of {scored:,}"
