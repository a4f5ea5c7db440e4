"""The measurements behind the recipe: which ingredient helps, how far seeds differ, out of fold.

Run where the METU photographs are; it can be interrupted and run again at any time, and goes on
where it was::

    python -m crackwatch.training.campaign METU RESULTS screen
    python -m crackwatch.training.campaign METU RESULTS folds
    python -m crackwatch.training.campaign METU RESULTS confirm
    python -m crackwatch.training.campaign METU RESULTS seeds
    python -m crackwatch.training.campaign METU RESULTS notebook
    python -m crackwatch.training.campaign METU RESULTS tables

Only ``seeds`` and ``notebook`` score the validation folders, and nothing is chosen by them. ``tables``
writes RESULTS/tables.md and RESULTS/figures.json from whatever is finished: see ``findings``.
"""

from __future__ import annotations

import csv
import os
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from crackwatch import dataset, images
from crackwatch.dataset import Landmarks, Pictures
from crackwatch.images import keypoints
from crackwatch.training import crew, findings
from crackwatch.training.crew import Job, Outcome
from crackwatch.training.recipes import NOTEBOOK, STATION, Recipe, notebook_split

GROUPS_FILE = "train_overlap_groups.csv"
SEEDS = (20_261_101, 20_261_102, 20_261_103, 20_261_104, 20_261_105)
VALIDATIONS = ("valid_balanced", "valid_unbalanced")

# The screening: all anomalies, so many normals, two folds, three seeds. Its epochs are a fifth as
# long as those of the full data: with fewer of them whatever makes pictures differ looks harmful.
SCREEN_NORMALS = 3000
SCREEN_EPOCHS = 20
SCREEN_FOLDS = 2
SCREEN_SEEDS = SEEDS[:3]

# The recipe that the screening began with; ``warp-averaging`` is what came of it.
SCREENED = replace(
    STATION, epochs=SCREEN_EPOCHS, tilt=0.0, zoom=0.0, schedule="cosine", averaged_from=1.0
)

_WARP = {"tilt": 20.0, "zoom": 0.25}
_PLAIN = {"dropout": 0.0, "weight_decay": 0.0}
_AVERAGING = {"schedule": "constant", "averaged_from": 0.5}

# What is left out of that recipe, or put into it.
INGREDIENTS: dict[str, tuple[str, dict[str, Any]]] = {
    "share": ("anomalies as rare as they are", {"anomaly_share": None}),
    "turns": ("no turning and mirroring", {"turns": False}),
    "shift": ("no moving", {"shift": 0}),
    "regularisation": ("no dropout, no weight decay", _PLAIN),
    "averaging": ("one rate, with the weights of the second half averaged", _AVERAGING),
    "warp": ("with any turn up to 20 degrees, any scale up to a fourth", _WARP),
    # with another one that helped the first seed
    "warp-plain": ("any turn, any scale, no dropout, no weight decay", _WARP | _PLAIN),
    "warp-averaging": ("any turn, any scale, one rate, weights averaged", _WARP | _AVERAGING),
}

# The most useful ones of the screening, by its first seed and by all three, each left out of the
# recipe that is kept; all with two thirds of its epochs, as each is trained three times on the full
# data.
CONFIRM_EPOCHS = 10
CONFIRM_FOLDS = 3
CONFIRMED: dict[str, tuple[str, dict[str, Any]]] = {
    "warp": ("no turn but by right angles, no other scale", {"tilt": 0.0, "zoom": 0.0}),
    "turns": INGREDIENTS["turns"],
    "shift": INGREDIENTS["shift"],
    "averaging": (
        "the last weights of a rate that falls to 0",
        {"schedule": "cosine", "averaged_from": 1.0},
    ),
}


class _Lines:
    """A line for each thing that happens; percentages where a terminal is looked at."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()

    def step(self, job: str, epoch: int, step: int, steps: int) -> None:
        if self._terminal:
            click.echo(f"\r{job}: epoch {epoch}, {100 * step // steps} %   ", nl=False, err=True)

    def epoch(self, job: str, epoch: Mapping[str, Any]) -> None:
        click.echo(
            f"{time.strftime('%H:%M:%S')} {job}: epoch {epoch['number']}/{epoch['of']} "
            f"{epoch['seconds']:.0f} s, loss {epoch['train_loss']:.4f}",
            err=True,
        )

    def finished(self, job: str, done: int, total: int) -> None:
        click.echo(f"{time.strftime('%H:%M:%S')} {job} done: {done} of {total}", err=True)


# ------------------------------------------------------------------------------------------ jobs


def _fold_jobs(
    name: str,
    recipe: Recipe,
    seed: int,
    labels: NDArray[np.int8],
    chosen: NDArray[np.intp],
    fold_of: NDArray[np.int8],
    folds: Iterable[int],
) -> list[Job]:
    """One job a fold; ``chosen`` are positions, ``fold_of`` their folds."""
    return [
        Job(
            f"{name}-{fold}",
            recipe,
            seed + fold,
            labels,
            train=chosen[fold_of != fold],
            held=chosen[fold_of == fold],
        )
        for fold in folds
    ]


def groups_of(pictures: Pictures) -> NDArray[np.intp]:
    """The groups of overlapping pictures that come with the photographs; (N,), -1 for no group."""
    named: dict[bytes, int] = {}
    for path in pictures.paths:
        folder = Path(os.fsdecode(path)).parents[2]
        table = folder / GROUPS_FILE
        if not named and table.is_file():
            with table.open(newline="", encoding="utf-8") as rows:
                for row in csv.DictReader(rows):
                    named[os.fsencode(folder / "train" / row["file"])] = int(row["group"])
    return np.array([named.get(path, -1) for path in pictures.paths], dtype=np.intp)


def related(pictures: Pictures, results: Path) -> NDArray[np.intp]:
    """The groups that ``retrain`` finds by itself, (N,); kept in ``results``, as it takes minutes."""
    kept = results / "related.npz"
    hashes = np.frombuffer(b"".join(pictures.pixel_hashes), np.uint8)
    try:
        with kept.open("rb") as stream, np.load(stream, allow_pickle=False) as found:
            if np.array_equal(found["pixel_hashes"], hashes):
                groups: NDArray[np.intp] = found["groups"].astype(np.intp)
                return groups
    except FileNotFoundError:
        pass
    groups = dataset.kinship(pictures, Landmarks(keypoints.landmarks, keypoints.searcher)).group_of
    with kept.open("wb") as written:
        np.savez(written, allow_pickle=False, pixel_hashes=hashes, groups=groups)
    return groups


def screened(labels: NDArray[np.int8], learned: NDArray[np.intp]) -> NDArray[np.intp]:
    """Positions of the screening's pictures: all anomalies, 3,000 normals; the same every time."""
    normals = learned[labels[learned] == 0]
    drawn = np.random.default_rng(SEEDS[0]).choice(
        normals, min(SCREEN_NORMALS, len(normals)), replace=False
    )
    return np.sort(np.concatenate([learned[labels[learned] == 1], drawn]))


def variants(recipe: Recipe, ingredients: Mapping[str, tuple[str, Any]]) -> dict[str, Recipe]:
    """``recipe`` with one ingredient changed, by the ingredient's name."""
    return {
        name: replace(recipe, name=f"station/{name}", **change)
        for name, (_, change) in ingredients.items()
    }


def jobs_of(
    stage: str,
    pictures: Pictures,
    learned: NDArray[np.intp],
    validation: NDArray[np.intp],
    results: Path,
) -> list[Job]:
    """Every job of a stage; ``learned`` and ``validation`` are positions of ``pictures``."""
    labels = pictures.labels
    if stage == "notebook":
        jobs = []
        for number, seed in enumerate(SEEDS):
            split = notebook_split(labels[learned], seed)
            jobs.append(
                Job(f"notebook-{number}", NOTEBOOK, seed, labels, learned[split.train], validation)
            )
        return jobs
    if stage == "seeds":
        return [
            Job(f"seed-{number}", STATION, seed, labels, learned, validation)
            for number, seed in enumerate(SEEDS)
        ]
    if stage == "screen":
        group_of = groups_of(pictures)
        chosen = screened(labels, learned)
        jobs = []
        for seed in SCREEN_SEEDS:
            fold_of = _folds(pictures, group_of, chosen, SCREEN_FOLDS, seed)
            tried = {"station": SCREENED, **variants(SCREENED, INGREDIENTS)}
            for name, recipe in tried.items():
                jobs += _fold_jobs(
                    f"{name}-{seed}", recipe, seed, labels, chosen, fold_of, range(SCREEN_FOLDS)
                )
        return jobs
    # as ``retrain`` divides them, with the seed that it has by default
    group_of = related(pictures.at(learned), results)
    fold_of = _folds(pictures, group_of, learned, STATION.folds, SEEDS[0])
    if stage == "folds":
        return _fold_jobs(
            "station", STATION, SEEDS[0], labels, learned, fold_of, range(STATION.folds)
        )
    # each fold with another seed
    kept = replace(STATION, epochs=CONFIRM_EPOCHS)
    return [
        job
        for name, recipe in {"station": kept, **variants(kept, CONFIRMED)}.items()
        for job in _fold_jobs(
            name, recipe, SEEDS[0], labels, learned, fold_of, range(CONFIRM_FOLDS)
        )
    ]


def _folds(
    pictures: Pictures,
    group_of: NDArray[np.intp],
    chosen: NDArray[np.intp],
    count: int,
    seed: int,
) -> NDArray[np.int8]:
    """Folds of the chosen pictures alone, (len(chosen),)."""
    return dataset.folds(pictures.at(chosen), group_of[chosen], count, seed)


def _decode(content: bytes) -> NDArray[np.uint8]:
    limits = images.Limits(max_pixels=images.RESIZE_UP_TO**2, larger="quarantine")
    return images.decode(content, limits)


@click.command()
@click.argument("data", type=click.Path(path_type=Path))
@click.argument("results", type=click.Path(path_type=Path))
@click.argument(
    "stages",
    nargs=-1,
    required=True,
    type=click.Choice(["screen", "folds", "confirm", "seeds", "notebook", "tables"]),
)
@click.option("--workers", type=click.IntRange(1), help="Trainings at once [default: one a core].")
def main(data: Path, results: Path, stages: tuple[str, ...], workers: int | None) -> None:
    """Measure the recipe on the photographs in DATA; RESULTS keeps what is finished."""
    results.mkdir(parents=True, exist_ok=True)
    wanted = [stage for stage in stages if stage != "tables"]
    if wanted:
        files = dataset.list_files(dataset.find_layout(data))
        learned_files = len(files)
        if {"seeds", "notebook"} & set(wanted):
            for name in VALIDATIONS:
                files += dataset.list_files(dataset.find_layout(data / name))
        with dataset.load(files, _decode, results) as pictures:
            if len(pictures) != len(files):
                raise click.ClickException("some files cannot be used; this needs all of them")
            learned = np.arange(learned_files)
            validation = np.arange(learned_files, len(files))
            for stage in wanted:
                jobs = jobs_of(stage, pictures, learned, validation, results)
                outcomes = crew.run(
                    jobs,
                    results / stage,
                    pictures.cache.descriptor,
                    workers or crew.workers_for(len(jobs)),
                    _Lines(),
                )
                _remember(results, stage, jobs, outcomes)
    findings.write_tables(results)


def _remember(
    results: Path, stage: str, jobs: Iterable[Job], outcomes: Mapping[str, Outcome]
) -> None:
    """Labels beside logits, so that tables need no photographs."""
    kept: dict[str, NDArray[Any]] = {}
    for job in jobs:
        kept[f"{job.name}/logits"] = outcomes[job.name].logits
        kept[f"{job.name}/labels"] = job.labels[job.held]
    with (results / f"{stage}.npz").open("wb") as stream:
        np.savez(stream, allow_pickle=False, **kept)


if __name__ == "__main__":
    main()
