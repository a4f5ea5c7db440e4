"""``crackwatch tune``: chooses a threshold that is a promise, and says what it will cost."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import ceil, floor, isnan, log10
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from crackwatch.cli.options import config_option, echo_json, format_option, load_settings, who
from crackwatch.cli.progress import progress_bar
from crackwatch.errors import (
    EXIT_DONE,
    DatasetError,
    ModelError,
    ModelMissing,
    PromiseError,
    UsageError,
)

if TYPE_CHECKING:
    from crackwatch.learned import Learned
    from crackwatch.promise import Examples, Goal, Promise, Span
    from crackwatch.registry import Card, Registry
    from crackwatch.settings import Settings

_STORE_DAYS = 30  # of inspections that tell how common cracks are
_ENOUGH_FLAGGED = 10  # fewer say next to nothing of a share
_CHUNK = 64  # pictures scored at once
_LISTED = 5

_GET_MORE = (
    "Label more of what this station sees with 'crackwatch review mark PATH crack|ok', or take in "
    "labelled folders with 'crackwatch dataset import FOLDER', and run 'crackwatch retrain'."
)
_ADD_MORE = "Add labelled pictures of other concrete to that folder."


@dataclass(frozen=True, slots=True)
class _Evidence:
    """Scores with labels, and where they come from, for a person."""

    examples: Examples
    source: str  # "out_of_fold" | "data"
    words: str


@click.command(
    epilog="Example: crackwatch tune --min-recall 0.98 --confidence 0.95 --apply",
)
@config_option
@click.option(
    "--min-recall",
    type=click.FloatRange(1e-6, 1 - 1e-9),
    metavar="R",
    help="Of all cracks at least this share is found.",
)
@click.option(
    "--max-false-alarms-per-1000",
    type=click.FloatRange(1e-6, 999.999),
    metavar="N",
    help="Of 1,000 pictures without a crack at most N are flagged.",
)
@click.option(
    "--cost-miss",
    type=click.FloatRange(1e-12, 1e12),
    metavar="A",
    help="What one missed crack costs; with --cost-false-alarm.",
)
@click.option(
    "--cost-false-alarm",
    type=click.FloatRange(1e-12, 1e12),
    metavar="B",
    help="What one false alarm costs, in the same unit.",
)
@click.option(
    "--confidence",
    type=click.FloatRange(0.5, 1 - 1e-9),
    default=0.95,
    show_default=True,
    metavar="C",
    help="How often a promise made like this one holds.",
)
@click.option("--model", "model_id", metavar="ID", help="Which model [default: the champion].")
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Go by the model's own scores of this labelled folder, from which it has not learned "
    "[default: the out-of-fold scores of its training].",
)
@click.option(
    "--prevalence",
    type=click.FloatRange(0, 1),
    metavar="P",
    help="The share of the station's pictures that show a crack [default: what it flagged in the "
    f"last {_STORE_DAYS} days; if fewer than {_ENOUGH_FLAGGED}, the share among the scored "
    "pictures].",
)
@click.option(
    "--apply/--no-apply",
    default=False,
    help="Make it the model's own threshold [default: only print it].",
)
@click.option("--by", metavar="NAME", help="Who applies it [default: the user logged in].")
@click.option(
    "--plot",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE.png",
    help="Draw recall and false alarms over the threshold.",
)
@format_option("table", "json")
def command(
    config: str | None,
    min_recall: float | None,
    max_false_alarms_per_1000: float | None,
    cost_miss: float | None,
    cost_false_alarm: float | None,
    confidence: float,
    model_id: str | None,
    data: Path | None,
    prevalence: float | None,
    apply: bool,
    by: str | None,
    plot: Path | None,
    output_format: str,
) -> int:
    """Choose a threshold that keeps a promise, and say what it will cost at this station.

    Give one goal: --min-recall, --max-false-alarms-per-1000, or both costs. The bounds are exact
    and hold for pictures like those that were scored; pictures of the same concrete count once.
    Exit status: 0 done; 2 the examples cannot support the promise (it says how many would); 4 no
    usable model, or one without out-of-fold scores.

    JSON: model source goal confidence threshold recall recall_bound tp fn fp tn
    false_alarms_per_1000 false_alarms_per_1000_bound independent{tp fn fp tn} station{prevalence
    prevalence_from flagged_per_1000 false_alarms_per_1000 missed_per_1000: each {expected low
    high}} cost{...} before applied overridden_by.
    """
    asked = _one_goal(min_recall, max_false_alarms_per_1000, cost_miss, cost_false_alarm)
    if any(isnan(value) for value in (*asked.values(), confidence, prevalence or 0.0)):
        raise click.UsageError("nan is not a number to go by")  # it is in every range of click's
    if plot is not None and plot.suffix.lower() != ".png":
        raise click.UsageError(f"--plot {plot}: name a file that ends in .png")
    settings = load_settings(config)
    decided_by = who(by) if apply else ""

    from crackwatch import promise
    from crackwatch.registry import Registry

    goal: Goal
    if "min_recall" in asked:
        goal = promise.MinRecall(asked["min_recall"])
    elif "max_false_alarms_per_1000" in asked:
        goal = promise.MaxFalseAlarms(asked["max_false_alarms_per_1000"])
    else:
        goal = promise.LeastCost(asked["cost_miss"], asked["cost_false_alarm"])
    registry = Registry(settings.folders.models)
    chosen = model_id or registry.champion()
    if chosen is None:
        raise ModelMissing(
            f"{registry.folder}: there is no champion",
            "Run 'crackwatch init', 'crackwatch retrain', or name one with --model ID.",
        )
    card = registry.verify(chosen)
    if data is None:
        evidence = _out_of_fold(registry, chosen)
    else:
        evidence = _of_data(settings, registry, chosen, data)
    share, share_from = _prevalence(settings, prevalence, evidence.examples)
    try:
        found = promise.choose(evidence.examples, goal, share, confidence)
    except PromiseError as exc:
        raise _with_remedy(exc, goal, evidence, confidence) from exc
    if plot is not None:
        _plot(plot, evidence, found, chosen)
    if apply:
        registry.set_threshold(
            chosen,
            _as_threshold(found, evidence),
            decided_by=decided_by,
            reason=_goal_text(goal, confidence),
            figures=_figures(found, share_from),
        )
    overridden = None if settings.model.threshold == "model" else settings.model.threshold
    if output_format == "json":
        echo_json(
            {
                "model": chosen,
                "source": evidence.source,
                "goal": asked,
                "confidence": confidence,
                "threshold": found.threshold,
                **_figures(found, share_from),
                "before": card.threshold.value,
                "applied": apply,
                "overridden_by": overridden,
            }
        )
        return EXIT_DONE
    _print(found, evidence, card, share_from)
    champion = registry.champion()
    if apply:
        click.echo(f"\nApplied to {chosen}; its card remembers {card.threshold.value:.6g}.")
        if champion != chosen:
            click.echo("It is not the champion: 'crackwatch models promote ID' makes it judge.")
        elif overridden is None:
            click.echo("A running station takes it between two batches.")
    else:
        click.echo("\nNothing was changed: --apply makes it the model's own threshold.")
    if overridden is not None:
        click.echo(
            f"But {settings.file} (or the environment) says [model] threshold = {overridden:g}, "
            "and that stands above the\nmodel's own: this station goes on judging by "
            f'{overridden:g} until it says threshold = "model" and is restarted.'
        )
    return EXIT_DONE


# --------------------------------------------------------------------------------- what was asked


def _one_goal(
    min_recall: float | None,
    max_false_alarms_per_1000: float | None,
    cost_miss: float | None,
    cost_false_alarm: float | None,
) -> dict[str, float]:
    """The one goal that was given, by its options' names. Raises click.UsageError."""
    given = {
        "min_recall": min_recall,
        "max_false_alarms_per_1000": max_false_alarms_per_1000,
        "cost_miss": cost_miss,
        "cost_false_alarm": cost_false_alarm,
    }
    asked = {name: value for name, value in given.items() if value is not None}
    costs = asked.keys() & {"cost_miss", "cost_false_alarm"}
    if len(costs) == 1:
        missing = ({"cost_miss", "cost_false_alarm"} - costs).pop().replace("_", "-")
        raise click.UsageError(f"a cost weighs against the other: give --{missing} as well")
    if len(asked) - (len(costs) == 2) != 1:
        raise click.UsageError(
            "give one goal: --min-recall R, --max-false-alarms-per-1000 N, or "
            "--cost-miss A with --cost-false-alarm B"
        )
    return asked


def _goal_text(goal: Goal, confidence: float) -> str:
    from crackwatch.promise import MaxFalseAlarms, MinRecall

    sure = f"at a confidence of {confidence:g}"
    if isinstance(goal, MinRecall):
        return f"a recall of at least {goal.recall:g} {sure}"
    if isinstance(goal, MaxFalseAlarms):
        return f"at most {goal.per_1000:g} false alarms per 1,000 normals {sure}"
    return (
        f"the least cost: {goal.miss:g} for a missed crack, {goal.false_alarm:g} for a false alarm"
    )


# ------------------------------------------------------------------------------------- the scores


def _out_of_fold(registry: Registry, model_id: str) -> _Evidence:
    from crackwatch import learned
    from crackwatch.promise import Examples

    known = learned.read(registry.folder_of(model_id))
    if known is None or not len(known.out_of_fold):
        raise ModelError(
            f"model {model_id} has no out-of-fold scores to choose a threshold from",
            "Give labelled pictures that it has not learned from with --data DIR, or make a model "
            "that has them with 'crackwatch retrain --recipe station'.",
        )
    rows = known.out_of_fold
    examples = Examples.of_logits(known.logits[rows], known.labels[rows], known.groups[rows])
    return _Evidence(
        examples,
        "out_of_fold",
        "out of fold: by models of the same recipe that had not seen the picture",
    )


def _of_data(settings: Settings, registry: Registry, model_id: str, data: Path) -> _Evidence:
    import numpy as np

    from crackwatch import dataset, learned
    from crackwatch.champion import open_chosen
    from crackwatch.cli.workshop import decoder
    from crackwatch.images import keypoints
    from crackwatch.promise import Examples

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
        _refuse_learned(known, pictures.pixel_hashes, pictures.paths, model_id, data)
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
    return _Evidence(examples, "data", f"by the model itself, of {data}")


def _refuse_learned(
    known: Learned | None,
    pixel_hashes: tuple[bytes, ...],
    paths: tuple[bytes, ...],
    model_id: str,
    data: Path,
) -> None:
    """Raises DatasetError where a picture was learned from: its score promises nothing."""
    if known is None:
        click.echo(
            f"model {model_id} does not say what it learned from: see to it yourself that it was "
            f"none of {data}",
            err=True,
        )
        return
    from crackwatch.domain import path_text

    taught = {bytes(row) for row in known.pixel_hashes}
    seen = [
        path_text(path)
        for path, digest in zip(paths, pixel_hashes, strict=True)
        if digest in taught
    ]
    if seen:
        more = f" and {len(seen) - _LISTED} more" if len(seen) > _LISTED else ""
        raise DatasetError(
            f"{data}: model {model_id} learned from {len(seen)} of these pictures: "
            f"{', '.join(seen[:_LISTED])}{more}",
            "Their scores promise nothing: take them out, or leave --data away.",
        )


def _prevalence(settings: Settings, given: float | None, examples: Examples) -> tuple[float, str]:
    """The share of pictures with a crack, and how it is known. Raises StoreError."""
    if given is not None:
        return given, "as given"
    if settings.database_file.exists():
        from datetime import UTC, datetime, timedelta

        from crackwatch.domain import Outcome, Window
        from crackwatch.store.reports import reading

        until = datetime.now(UTC)
        with reading(settings.database_file) as rows:
            tallies = rows.counts(Window(until - timedelta(days=_STORE_DAYS), until)).tallies
        flagged = sum(each.count for each in tallies if each.outcome is Outcome.ANOMALY)
        inspected = flagged + sum(each.count for each in tallies if each.outcome is Outcome.NORMAL)
        if flagged >= _ENOUGH_FLAGGED:
            return flagged / inspected, (
                f"what the station flagged in the last {_STORE_DAYS} days, {flagged:,} of "
                f"{inspected:,}"
            )
    cracks, scored = int((examples.labels == 1).sum()), len(examples.labels)
    share = cracks / scored if scored else 0.0
    return share, f"the share among the scored pictures, {cracks:,} of {scored:,}"


def _with_remedy(
    exc: PromiseError, goal: Goal, evidence: _Evidence, confidence: float
) -> PromiseError:
    """The same refusal, with what these examples do support and how to get more."""
    from crackwatch.promise import MaxFalseAlarms, MinRecall, lower_bound, upper_bound

    supported = ""
    if exc.have and exc.needed and isinstance(goal, MinRecall):
        most = lower_bound(exc.have, exc.have, confidence)
        supported = f"What there is supports --min-recall {_floor(most)} at most. "
    elif exc.have and exc.needed and isinstance(goal, MaxFalseAlarms):
        least = -_floor(-1000 * upper_bound(0, exc.have, confidence))
        if least < 1000:
            supported = f"What there is supports --max-false-alarms-per-1000 {least} at best. "
    pictures = len(evidence.examples.labels)
    cracks = int((evidence.examples.labels == 1).sum())
    problem = (
        f"{exc.problem} ({cracks:,} cracks and {pictures - cracks:,} normals were scored "
        f"{evidence.words}; pictures of the same concrete count once)"
    )
    more = _GET_MORE if evidence.source == "out_of_fold" else _ADD_MORE
    return PromiseError(problem, supported + more, have=exc.have, needed=exc.needed)


def _floor(value: float) -> float:
    """To three significant digits downwards, so that what is named is really supported."""
    digits = 2 - floor(log10(abs(value)))
    scale: float = 10.0**digits
    return round(floor(value * scale) / scale, max(digits, 0))


# ---------------------------------------------------------------------------------- what is shown


def _as_threshold(found: Promise, evidence: _Evidence) -> Any:
    from crackwatch.promise import LeastCost, MaxFalseAlarms, MinRecall
    from crackwatch.registry import Guarantee, Threshold

    goal = found.goal
    name, target = "least_cost", None
    if isinstance(goal, MinRecall):
        name, target = "min_recall", goal.recall
    elif isinstance(goal, MaxFalseAlarms):
        name, target = "max_false_alarms_per_1000", goal.per_1000
    words = "flattering a little" if isinstance(goal, LeastCost) else "exact"
    there = found.independent
    return Threshold(
        value=found.threshold,
        chosen_by=(
            f"crackwatch tune for {_goal_text(goal, found.confidence)}, on scores {evidence.words} "
            f"(bounds: {words})"
        ),
        promise=Guarantee(
            goal=name,
            target=target,
            confidence=found.confidence,
            recall_bound=found.recall_bound,
            false_alarms_per_1000_bound=found.false_alarms_per_1000_bound,
            anomalies=there.tp + there.fn,
            normals=there.fp + there.tn,
            examples=evidence.words,
        ),
    )


def _figures(found: Promise, share_from: str) -> dict[str, Any]:
    """What ``--format json`` and the card have alike."""
    forecast = found.forecast
    cost = None
    if found.cost is not None:
        cost = {
            **asdict(found.cost.span),
            "optimism": found.cost.optimism,
            "thresholds": list(found.cost.thresholds),
            "handful": found.cost.handful,
        }
    return {
        "recall": found.recall,
        "recall_bound": found.recall_bound,
        **asdict(found.pictures),
        "false_alarms_per_1000": found.false_alarms_per_1000,
        "false_alarms_per_1000_bound": found.false_alarms_per_1000_bound,
        "independent": asdict(found.independent),
        "station": {
            "prevalence": forecast.prevalence,
            "prevalence_from": share_from,
            "flagged_per_1000": asdict(forecast.flagged),
            "false_alarms_per_1000": asdict(forecast.false_alarms),
            "missed_per_1000": asdict(forecast.missed),
        },
        "cost": cost,
    }


def _print(found: Promise, evidence: _Evidence, card: Card, share_from: str) -> None:
    seen, there = found.pictures, found.independent
    sure = f"at a confidence of {found.confidence:g}"
    rows = [
        ("model", card.id),
        ("scores", evidence.words),
        ("cracks", _how_many(seen.tp + seen.fn, there.tp + there.fn)),
        ("normals", _how_many(seen.fp + seen.tn, there.fp + there.tn)),
        ("goal", _goal_text(found.goal, found.confidence)),
        # every digit: it lies a hair below the score of a crack, which it would miss rounded up
        ("threshold", f"{found.threshold!r}  (now {card.threshold.value!r})"),
        # a bound is rounded to the side on which it still holds
        ("recall", f"{found.recall:.4f}  at least {_down(found.recall_bound, 4)} {sure}"),
        (
            "false alarms per 1,000",
            f"{found.false_alarms_per_1000:.2f}  at most "
            f"{_up(found.false_alarms_per_1000_bound, 2)} {sure}",
        ),
        ("found (TP)", str(seen.tp)),
        ("escapes (FN)", str(seen.fn)),
        ("false alarms (FP)", str(seen.fp)),
        ("left alone (TN)", str(seen.tn)),
    ]
    if found.cost is not None:
        rows.append(("cost a picture", f"{_span(found.cost.span, 4)}, bootstrap"))
        if found.cost.optimism:
            rows.append(("", f"chosen on these pictures: add about {found.cost.optimism:.2g}"))
    _table(rows)
    forecast = found.forecast
    click.echo(
        f"\nOf 1,000 pictures at the station, {round(1000 * forecast.prevalence, 1):,g} of them with a "
        f"crack\n({share_from}):"
    )
    _table(
        [
            ("flagged", _span(forecast.flagged, 1)),
            ("of these false", _span(forecast.false_alarms, 1)),
            ("cracks missed", _span(forecast.missed, 2)),
        ]
    )
    click.echo("All of this holds for pictures like those that were scored, and for no others.")
    if found.cost is None:
        return
    click.echo("\nThe threshold was chosen by both kinds of errors: the bounds flatter a little.")
    if found.cost.handful:
        least, most = found.cost.thresholds
        click.echo(
            f"A handful of pictures decided it (independent misses: {there.fn}, false alarms: "
            f"{there.fp}).\nIn resamples the best threshold lay between {least:.3g} and {most:.3g}."
        )


def _how_many(pictures: int, independent: int) -> str:
    return f"{pictures:,} pictures" + (
        "" if pictures == independent else f", {independent:,} of them independent"
    )


def _down(value: float, digits: int) -> str:
    return f"{floor(value * 10**digits) / 10**digits:.{digits}f}"


def _up(value: float, digits: int) -> str:
    return f"{ceil(value * 10**digits) / 10**digits:.{digits}f}"


def _span(span: Span, digits: int) -> str:
    return f"{span.expected:.{digits}f}  ({span.low:.{digits}f} to {span.high:.{digits}f})"


def _table(rows: list[tuple[str, str]]) -> None:
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        click.echo(f"{name:<{width}}  {value}")


def _plot(file: Path, evidence: _Evidence, found: Promise, model_id: str) -> None:
    from crackwatch import promise
    from crackwatch.evaluation.operating import Chosen, write_operating_plot

    drawn = promise.curve(evidence.examples)
    try:
        write_operating_plot(
            file,
            drawn.thresholds,
            drawn.recall,
            drawn.false_alarms_per_1000,
            Chosen(
                threshold=found.threshold,
                recall=found.recall,
                recall_bound=found.recall_bound,
                false_alarms_per_1000=found.false_alarms_per_1000,
                false_alarms_per_1000_bound=found.false_alarms_per_1000_bound,
                confidence=found.confidence,
            ),
            f"Threshold {found.threshold:.4g} for {_goal_text(found.goal, found.confidence)}",
            model_id,
        )
    except OSError as exc:
        raise UsageError(
            f"{file}: cannot be written: {exc.strerror}", "Name another file: --plot FILE.png."
        ) from exc
