"""Turns a published model into the starter that the package ships; changes no registry.

Run where the METU photographs are::

    crackwatch retrain --config STATION/config.toml --data METU --recipe station
    python -m crackwatch.training.ship STATION/models ID METU

Written are ``lenet.keras``, ``learned.npz`` (hashes and scores, no picture) and the card. The golden
set is drawn anew by the generator, so that photographs need not travel; the card gains the scores on
both validation folders, by which nothing that judges single pictures was chosen. The threshold of
photographs is to be told by photographs first (docs/photographs-verdict.md)::

    python -m benchmarks.photographs --metu METU --seeds 0:100 --keep QUILTED
    python -m benchmarks.photographs --metu METU --seeds 100:300 --kinds normal --keep QUILTED
    crackwatch tune --config STATION/config.toml --photographs QUILTED --max-false-alarms-per-1000 30 --apply
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from crackwatch import dataset, evaluation, images, learned, packaged
from crackwatch.agreement import pixels_sha256
from crackwatch.errors import PromiseError
from crackwatch.labelled_scores import Examples
from crackwatch.learned import LEARNED_FILE
from crackwatch.registry import (
    MODEL_FILE,
    Card,
    DataOrigin,
    Drawn,
    Fast,
    Golden,
    Registry,
    TiledThreshold,
)
from crackwatch.runtime import Classifier, load, load_quick
from crackwatch.runtime.fast import measured
from crackwatch.starters import draw_golden, install_starter
from crackwatch.training.describing import tiled_by_default

TRAINING = "train"
VALIDATIONS = ("valid_balanced", "valid_unbalanced")

_NAME = "METU crack crops: 15,000 of the 40,000 of Concrete Crack Images for Classification"
_LICENCE = "CC BY 4.0, https://creativecommons.org/licenses/by/4.0/"
_CITATION = (
    "Özgenel, Ç. F. (2019). Concrete Crack Images for Classification. Mendeley Data, version 2. "
    "doi 10.17632/5y9wdsg2zt.2. — Özgenel, Ç. F., Gönenç Sorguç, A. (2018). Performance Comparison "
    "of Pretrained Convolutional Neural Networks on Crack Detection in Buildings. ISARC 2018, "
    "Berlin. doi 10.22260/ISARC2018/0094."
)
_NOTES = (
    "Photographs of concrete on one campus: on another building, camera or surface it is weaker, "
    "and it calls much brickwork a crack. Teach it your own pictures before you rely on it.",
    "scores.out_of_fold: each of the 15,000 scored by a model that had learned neither from it nor "
    "from any that shows the same concrete; calibrated on these scores, by two numbers. "
    "scores.valid_balanced and scores.valid_unbalanced: pictures by which nothing that judges them was "
    "chosen. The threshold of photographs alone was, by photographs quilted from half of them.",
)

_TRAVELS = (MODEL_FILE, LEARNED_FILE)

_GOLDEN_SEEDS = range(16)
_GOLDEN_MARGIN = 0.01  # a score this close to the threshold could change sides by rounding alone


def ship(models: Path, model_id: str, data: Path, destination: Path) -> Card:
    """Writes what travels of a published model into ``destination``.

    ``data`` holds ``valid_balanced`` and ``valid_unbalanced``. The result is installed once into a
    temporary folder, as ``init`` does it, before it is kept. Raises ModelError or DatasetError.
    """
    registry = Registry(models)
    card = registry.verify(model_id)
    folder = registry.folder_of(model_id)
    classifier = load(folder, card)
    scores = dict(card.scores)
    for name in VALIDATIONS:
        scores[name] = _measured(classifier, data / name, card.threshold.value).as_json()
    shipped = card.model_copy(
        update={
            "data": DataOrigin(
                name=_NAME,
                sha256=card.data.sha256,
                counts=card.data.counts,
                licence=_LICENCE,
                citation=_CITATION,
            ),
            "golden": _golden(load(folder, card, "keras"), card.threshold.value),
            "scores": scores,
            "tiled": card.tiled or _tiled(folder, card),
            "fast": card.fast or measured_fast(folder, card, data),
            "files": {name: card.files[name] for name in _TRAVELS},
            "notes": _NOTES,
            "decisions": (),
        }
    )
    with tempfile.TemporaryDirectory() as scratch:
        staged = Path(scratch) / "starter"
        staged.mkdir()
        for name in _TRAVELS:
            shutil.copyfile(folder / name, staged / name)
        (staged / "card.json").write_text(shipped.to_json(), encoding="utf-8")
        install_starter(Registry(Path(scratch) / "models"), staged)
        shutil.copytree(staged, destination, dirs_exist_ok=True)
    return shipped


def _tiled(folder: Path, card: Card) -> TiledThreshold | None:
    """For a model that was made before cards had a threshold of photographs."""
    known = learned.read(folder)
    if known is None or not len(known.out_of_fold):
        return None
    rows = known.out_of_fold
    examples = Examples.of_logits(known.logits[rows], known.labels[rows], known.groups[rows])
    try:
        return tiled_by_default(examples, card.threshold.value, known.reviewed[rows])
    except PromiseError:
        return None  # too few normals: its card says nothing of photographs


def measured_fast(folder: Path, card: Card, data: Path) -> Fast | None:
    """How far quick scores are from exact ones, over every photograph below ``data``: training and
    validation pictures alike, for what is compared is two ways to compute the same.
    """
    quick = load_quick(folder, card)
    if quick is None:
        return None
    classifier, processor = quick
    exact = load(folder, card)
    found = [
        (_scores(classifier, data / name), _scores(exact, data / name))
        for name in (TRAINING, *VALIDATIONS)
    ]
    strayed = measured(*(np.concatenate(each) for each in zip(*found, strict=True)))
    return Fast(
        largest_difference=strayed.largest,
        compared=strayed.compared,
        margin=strayed.margin,
        processor=processor,
    )


def _scores(classifier: Classifier, folder: Path) -> NDArray[np.float32]:
    return _scored(classifier, folder).scores


def _measured(classifier: Classifier, folder: Path, threshold: float) -> evaluation.Measures:
    scored = _scored(classifier, folder)
    return evaluation.measure(scored.scores, scored.labels, threshold)


def _scored(classifier: Classifier, folder: Path) -> evaluation.Scored:
    limits = images.Limits(max_pixels=images.RESIZE_UP_TO**2, larger="quarantine")
    files = dataset.list_files(dataset.find_layout(folder))
    return evaluation.score_files(files, lambda content: images.decode(content, limits), classifier)


def _golden(by_keras: Classifier, threshold: float) -> Golden:
    drawn = [Drawn(seed=seed, crack=crack) for seed in _GOLDEN_SEEDS for crack in (False, True)]
    scores = by_keras.scores(draw_golden(drawn))
    clear = np.flatnonzero(np.abs(scores - threshold) > _GOLDEN_MARGIN)
    kept = tuple(drawn[position] for position in clear)
    return Golden(
        pixels_sha256=pixels_sha256(draw_golden(kept)),
        scores=tuple(scores[clear].tolist()),
        drawn=kept,
    )


@click.command()
@click.argument("models", type=click.Path(path_type=Path))
@click.argument("model_id")
@click.argument("data", type=click.Path(path_type=Path))
@click.option("--into", type=click.Path(path_type=Path), default=packaged.starter())
def main(models: Path, model_id: str, data: Path, into: Path) -> None:
    """Make the model MODEL_ID of the folder MODELS the starter; DATA holds valid_balanced."""
    card = ship(models, model_id, data, into)
    for name in VALIDATIONS:
        found = card.scores[name]
        click.echo(
            f"{name}: TP {found['tp']} FN {found['fn']} FP {found['fp']} TN {found['tn']} "
            f"F1 {found['f1']}"
        )
    click.echo(f"wrote {into}")


if __name__ == "__main__":
    main()
