"""``crackwatch evaluate``: scores a labelled folder and prints how good the scores are."""

from __future__ import annotations

import os
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING

import click

from crackwatch.cli.options import config_option, echo_json, format_option, load_settings
from crackwatch.cli.progress import progress_bar
from crackwatch.domain import Label
from crackwatch.errors import EXIT_DONE, DatasetError
from crackwatch.escaping import path_text

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from crackwatch.dataset import Decode
    from crackwatch.evaluation import Measures, Scored
    from crackwatch.evaluation.familiar import Familiar

_SHOWN = 10
_NAMED = 3  # files in a sentence


@click.command(
    epilog="Example: crackwatch evaluate --data /data/concrete/valid --plots plots",
)
@config_option
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    required=True,
    metavar="DIR",
    help="Folder with anomaly and normal, or train with these two inside.",
)
@click.option("--model", "model_id", metavar="ID", help="Which model [default: the champion].")
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1),
    metavar="T",
    help="Anomaly if score >= T [default: the one that the station uses].",
)
@click.option(
    "--plots",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Write an overview, six plots and sheets of the worst errors into DIR, as PNG.",
)
@click.option(
    "--allow-training-pictures",
    is_flag=True,
    help="Go on where pictures are among those that the model learned from.",
)
@format_option("table", "json")
def command(
    config: str | None,
    data: Path,
    model_id: str | None,
    threshold: float | None,
    plots: Path | None,
    allow_training_pictures: bool,
    output_format: str,
) -> int:
    """Score a labelled folder, with exact 95 % intervals.

    Pictures are read and judged as the daemon does it. Files that cannot be read are listed and
    left out of the figures. Pictures that the model learned from, turned or mirrored or not, are
    refused; those that show the same as one of these, encoded or exposed anew, are listed, and the
    figures are given without them, too. Exit status: 0 done; 2 no labelled pictures, or pictures
    that the model learned from; 4 no usable model.
    """
    if threshold is not None and isnan(threshold):  # it is in every range of click's
        raise click.UsageError("--threshold nan: give a number from 0 to 1")
    settings = load_settings(config)

    import numpy as np

    from crackwatch import dataset
    from crackwatch.registry import MODEL_FILE, Registry

    layout = dataset.find_layout(data)
    files = dataset.list_files(layout)
    for label in Label:
        if not any(file.label is label for file in files):
            raise DatasetError(
                f"{layout.of(label)}: no {label} pictures to evaluate with",
                "Both anomaly/ and normal/ must hold some.",
            )
    registry = Registry(settings.folders.models)
    from crackwatch import evaluation, learned
    from crackwatch.champion import open_chosen
    from crackwatch.cli.workshop import decoder

    classifier, rule = open_chosen(registry, model_id, settings.model, threshold)
    threshold = rule.threshold
    from crackwatch.evaluation.familiar import familiar

    source = learned.read(registry.folder_of(classifier.model_id))
    refused: frozenset[bytes] = frozenset()
    if source is not None and not allow_training_pictures:
        refused = frozenset(digest.tobytes() for digest in source.pixel_hashes)
    with progress_bar("scoring") as progress:
        scored = evaluation.score_files(files, decoder(settings), classifier, progress, refused)
    if not scored.paths:
        first = scored.problems[0]
        raise DatasetError(
            f"{data}: none of its {len(scored.problems):,} files could be scored; "
            f"{first.path}: {first.reason}",
            "Single pictures are evaluated; of whole photographs 'crackwatch tune --photographs DIR' "
            "tells how well they are judged.",
        )
    known = None
    without = None
    if source is not None:
        known = familiar(scored.pixel_hashes, scored.textures, source.pixel_hashes, source.textures)
        if len(known.training) and not allow_training_pictures:
            raise _refusal(classifier.model_id, _texts(scored, known.training), len(scored.paths))
        kept = np.delete(np.arange(len(scored.paths)), known.any_of_them)
        without = evaluation.measure(scored.scores[kept], scored.labels[kept], threshold)
    measures = evaluation.measure(scored.scores, scored.labels, threshold)
    drawn: list[Path] = []
    if plots is not None:
        title = f"{data.resolve().name}: {classifier.model_id}"
        keras_file = registry.folder_of(classifier.model_id) / MODEL_FILE
        drawn = _draw(plots, scored, measures, title, keras_file, decoder(settings))
    if output_format == "json":
        problems = [{"path": problem.path, "reason": problem.reason} for problem in scored.problems]
        echo_json(
            {
                "model": classifier.model_id,
                **measures.as_json(),
                "training_pictures": None if known is None else _texts(scored, known.training),
                "near_duplicates": None if known is None else _texts(scored, known.near),
                "leaked_pairs": None if known is None else known.pairs,
                "without_near_duplicates": None if without is None else without.as_json(),
                "problems": problems,
                "plots": [path_text(os.fsencode(file)) for file in drawn],
            }
        )
        return EXIT_DONE
    for problem in scored.problems[:_SHOWN]:
        click.echo(f"left out: {problem.path}: {problem.reason}", err=True)
    if len(scored.problems) > _SHOWN:
        click.echo(f"left out: {len(scored.problems) - _SHOWN} more", err=True)
    _print(classifier.model_id, data, measures, len(scored.problems))
    _print_familiar(scored, known, measures, without)
    if plots is not None:
        click.echo(f"{len(drawn)} pictures in {plots}: begin with overview.png and errors.png")
    return EXIT_DONE


def _texts(scored: Scored, positions: NDArray[np.intp]) -> list[str]:
    return [path_text(scored.paths[position]) for position in positions]


def _some(paths: list[str]) -> str:
    more = len(paths) - _NAMED
    return ", ".join(paths[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _refusal(model: str, paths: list[str], total: int) -> DatasetError:
    return DatasetError(
        f"{len(paths)} of {total} pictures are among those that model {model} learned from, "
        f"as they are or turned or mirrored: {_some(paths)}",
        "Evaluate with other pictures, or add --allow-training-pictures: the figures will then "
        "flatter the model.",
    )


def _print_familiar(
    scored: Scored, known: Familiar | None, measures: Measures, without: Measures | None
) -> None:
    if known is None or without is None:
        click.echo(
            "Whether the model learned from any of these pictures cannot be checked: it was "
            "published without a list of its training pictures."
        )
        return
    if not known.pairs:
        click.echo("The model learned from none of these pictures, nor from a copy of one.")
        return
    for what, positions in (
        ("learned from by the model", known.training),
        ("near duplicates of pictures that the model learned from", known.near),
    ):
        if len(positions):
            click.echo(f"{len(positions)} {what}: {_some(_texts(scored, positions))}")
    click.echo(f"{known.pairs} pairs with the training pictures. Without these pictures:")
    for name, value, other in (
        ("pictures", measures.n, without.n),
        ("escapes (FN)", measures.fn, without.fn),
        ("false alarms (FP)", measures.fp, without.fp),
        ("precision", measures.precision, without.precision),
        ("recall", measures.recall, without.recall),
        ("F1", measures.f1, without.f1),
    ):
        click.echo(f"  {name:<17}  {_number(other)}  (with them {_number(value)})")


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.4f}"


def _draw(
    folder: Path, scored: Scored, measures: Measures, title: str, keras_file: Path, decode: Decode
) -> list[Path]:
    """Every plot and contact sheet; without heat maps for a model that they cannot be drawn for."""
    from crackwatch.errors import ModelError
    from crackwatch.evaluation.contact_sheet import write_contact_sheets
    from crackwatch.evaluation.plots import write_plots
    from crackwatch.heatmaps import Explainer, overlay

    try:
        explainer = Explainer(keras_file)
    except ModelError as exc:
        click.echo(f"no heat maps: {exc.problem}", err=True)
        explain = None
    else:

        def explain(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
            return overlay(picture, explainer.heatmap(picture))

    with progress_bar("plots") as progress:
        progress(0, 1)
        drawn = write_plots(folder, scored.scores, scored.labels, measures, title)
        progress(1, 1)
    with progress_bar("contact sheets") as progress:
        return drawn + write_contact_sheets(
            folder, scored, measures.threshold, title, decode, explain, progress
        )


def _print(model: str, data: Path, found: Measures, left_out: int) -> None:
    def shown(value: float | None, interval: tuple[float, float] | None = None) -> str:
        if value is None:
            return "-"
        text = f"{value:.4f}"
        return f"{text}  ({interval[0]:.4f} to {interval[1]:.4f})" if interval else text

    rows = [
        ("model", model),
        ("data", str(data)),
        ("pictures", f"{found.n}" + (f", {left_out} more could not be used" if left_out else "")),
        ("threshold", f"{found.threshold:.6g}"),
        ("found (TP)", str(found.tp)),
        ("escapes (FN)", str(found.fn)),
        ("false alarms (FP)", str(found.fp)),
        ("left alone (TN)", str(found.tn)),
        ("accuracy", shown(found.accuracy)),
        ("precision", shown(found.precision, found.precision_interval)),
        ("recall", shown(found.recall, found.recall_interval)),
        ("F1", shown(found.f1)),
        ("PR area", shown(found.pr_auc)),
        ("ROC area", shown(found.roc_auc)),
        ("Brier score", shown(found.brier)),
        ("calibration error", shown(found.ece)),
    ]
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        click.echo(f"{name:<{width}}  {value}")
    click.echo("In brackets: exact 95 % intervals. Precision depends on how rare anomalies are.")
