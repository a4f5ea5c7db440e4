"""``crackwatch evaluate``: scores a labelled folder and prints how good the scores are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from crackwatch.cli.options import config_option, echo_json, format_option, load_settings
from crackwatch.cli.progress import progress_bar
from crackwatch.errors import EXIT_DONE

if TYPE_CHECKING:
    from crackwatch.evaluation import Measures

_SHOWN = 10


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
    help="Write confusion matrix, precision-recall and scores as PNG into DIR.",
)
@format_option("table", "json")
def command(
    config: str | None,
    data: Path,
    model_id: str | None,
    threshold: float | None,
    plots: Path | None,
    output_format: str,
) -> int:
    """Score a labelled folder, with exact 95 % intervals.

    Pictures are read and judged as the daemon does it. Files that cannot be read are listed and
    left out of the figures. Exit status: 0 done; 2 no labelled pictures; 4 no usable model.
    """
    settings = load_settings(config)

    from crackwatch import dataset
    from crackwatch.domain import Label
    from crackwatch.errors import DatasetError
    from crackwatch.registry import Registry

    layout = dataset.find_layout(data)
    files = dataset.list_files(layout)
    for label in Label:
        if not any(file.label is label for file in files):
            raise DatasetError(
                f"{layout.of(label)}: no {label} pictures to evaluate with",
                "Both anomaly/ and normal/ must hold some.",
            )
    registry = Registry(settings.folders.models)
    from crackwatch import evaluation
    from crackwatch.champion import open_chosen
    from crackwatch.cli.workshop import decoder

    classifier, threshold = open_chosen(registry, model_id, settings.model, threshold)
    with progress_bar("scoring") as progress:
        scored = evaluation.score_files(files, decoder(settings), classifier, progress)
    measures = evaluation.measure(scored.scores, scored.labels, threshold)
    if plots is not None:
        from crackwatch.evaluation.plots import write_plots

        write_plots(
            plots,
            scored.scores,
            scored.labels,
            measures,
            f"{data.resolve().name}: {classifier.model_id}",
        )
    if output_format == "json":
        problems = [{"path": problem.path, "reason": problem.reason} for problem in scored.problems]
        echo_json({"model": classifier.model_id, **measures.as_json(), "problems": problems})
        return EXIT_DONE
    for problem in scored.problems[:_SHOWN]:
        click.echo(f"left out: {problem.path}: {problem.reason}", err=True)
    if len(scored.problems) > _SHOWN:
        click.echo(f"left out: {len(scored.problems) - _SHOWN} more", err=True)
    _print(classifier.model_id, data, measures, len(scored.problems))
    if plots is not None:
        click.echo(f"plots in {plots}")
    return EXIT_DONE


def _print(model: str, data: Path, found: Measures, left_out: int) -> None:
    def shown(value: float | None, interval: tuple[float, float] | None = None) -> str:
        if value is None:
            return "-"
        text = f"{value:.4f}"
        return f"{text}  ({interval[0]:.4f} to {interval[1]:.4f})" if interval else text

    rows = [
        ("model", model),
        ("data", str(data)),
        ("pictures", f"{found.n}" + (f", {left_out} more could not be read" if left_out else "")),
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
