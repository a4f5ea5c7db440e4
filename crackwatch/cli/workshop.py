"""Wires picture decoder and runtime into what training and evaluation ask for."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from crackwatch.dataset import Decode
from crackwatch.settings import Settings

if TYPE_CHECKING:
    from crackwatch.registry import Card
    from crackwatch.runtime import Classifier
    from crackwatch.training.making import Exporting
    from crackwatch.training.replaying import Lately
    from crackwatch.training.retraining import Tools


def decoder(settings: Settings) -> Decode:
    """The station's own decoder of crops, with its limits: what is learned is what will be seen.

    A photograph that the station would judge in tiles is refused, with the way to crops of it.
    """
    from crackwatch import images

    limits = images.Limits(max_pixels=settings.files.max_pixels, larger=settings.images.larger)
    return lambda content: images.decode(content, limits)


def tools(settings: Settings) -> Tools:
    """What ``retrain`` needs of the outside world. Keras is imported by ``exporting`` alone."""
    from crackwatch import dataset
    from crackwatch.dataset import Landmarks
    from crackwatch.images import keypoints
    from crackwatch.images.light import measure_all
    from crackwatch.registry import MODEL_FILE
    from crackwatch.runtime import GRAPH_FILE, load, load_quick
    from crackwatch.training.retraining import Tools

    def open_classifier(folder: Path, card: Card) -> Classifier:
        return load(folder, card, "openvino", "f32")

    def exporting() -> Exporting:
        from crackwatch.runtime.openvino import build
        from crackwatch.runtime.reference import KerasClassifier
        from crackwatch.training.making import Exporting
        from crackwatch.training.quiet import start_tensorflow

        start_tensorflow()
        return Exporting(
            lambda folder: build(folder / MODEL_FILE, folder / GRAPH_FILE),
            open_classifier,
            lambda file: KerasClassifier("challenger", file),
            load_quick,
        )

    return Tools(
        decode=decoder(settings),
        exporting=exporting,
        open_classifier=open_classifier,
        relate=lambda pictures, progress: dataset.kinship(
            pictures, Landmarks(keypoints.landmarks, keypoints.searcher), progress
        ),
        light=measure_all,
        recent=lambda days: recent_of(settings, days),
    )


def recent_of(settings: Settings, days: int) -> Lately:
    """What the station inspected in the last days, newest first; nothing where it has no books."""
    from crackwatch.domain import Outcome, Place
    from crackwatch.reporting.summary import Whereabouts
    from crackwatch.store.recent import recent
    from crackwatch.training.replaying import AT_MOST, Lately, Recent

    if not days or not settings.database_file.exists():
        return Lately((), 0)
    folders = settings.folders
    whereabouts = Whereabouts(
        os.fsencode(folders.inbox),
        {Place.FLAGGED: os.fsencode(folders.flagged), Place.ARCHIVED: os.fsencode(folders.archive)},
    )
    since = datetime.now(UTC) - timedelta(days=days)
    found = recent(settings.database_file, settings.station.name, since, AT_MOST)
    return Lately(
        tuple(
            Recent(
                row.id,
                whereabouts(row),
                row.score,
                row.outcome is Outcome.ANOMALY,
                row.model,
                row.sha256,
            )
            for row in found.rows
        ),
        found.gone,
        found.photographs,
        found.older,
    )
