"""``crackwatch tune``: chooses a threshold that is a promise, and says what it will cost."""

from __future__ import annotations

from functools import partial
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from crackwatch.cli import tune_goal, tune_tiles
from crackwatch.cli.evidence import (
    ENOUGH_FLAGGED,
    STORE_DAYS,
    of_data,
    of_photographs,
    out_of_fold,
)
from crackwatch.cli.options import config_option, echo_json, format_option, load_settings, who
from crackwatch.domain import SECOND_LOOK_FROM
from crackwatch.errors import EXIT_DONE, ModelMissing, UsageError

if TYPE_CHECKING:
    from crackwatch.promise import Goal
    from crackwatch.registry import Registry


@click.command(
    epilog="Example: crackwatch tune --min-recall 0.98 --confidence 0.95 --apply, or, for photographs: "
    "crackwatch tune --photographs labelled/ --max-false-alarms-per-1000 30",
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
@click.option(
    "--tiles",
    type=click.IntRange(1, 1_000_000),
    metavar="N",
    help="For photographs of N tiles (4000 x 3000 pixels: 475), not for single pictures: of 1,000 "
    "photographs without a crack at most so many are flagged.",
)
@click.option(
    "--photographs",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="For photographs, by labelled ones in DIR/anomaly and DIR/normal, each scored as a whole: "
    "nothing is assumed of how tiles hang together.",
)
@click.option(
    "--min-tiles",
    type=click.IntRange(1, 64),
    metavar="K",
    help="With --tiles or --photographs: a photograph is flagged if K tiles that touch reach the threshold "
    "[default: 1]. With more than 1 a crack in one tile is never found.",
)
@click.option(
    "--second-look",
    type=click.FloatRange(0, 1),
    metavar="S",
    help="With --photographs: a tile that scores S or more is looked at again, from the places around "
    f"and turned every way [default: {SECOND_LOOK_FROM}; 1 looks at next to none].",
)
@click.option(
    "--estimated",
    is_flag=True,
    help="With --tiles: go by an estimate from the normals' scores, continued to where none was "
    "seen, where a proof would take more normals than there are.",
)
@click.option(
    "--believe-labels/--leave-out-doubtful",
    "believe_labels",
    default=True,
    help="With --estimated: whether the handful of normals that score as cracks do have a part in "
    "the estimate [default: they have].",
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
    f"last {STORE_DAYS} days; if fewer than {ENOUGH_FLAGGED}, the share among the scored "
    "pictures].",
)
@click.option(
    "--apply/--no-apply",
    default=False,
    help="Make it the model's own threshold [default: only print it].",
)
@click.option(
    "--undo",
    is_flag=True,
    help="Put back the threshold that stood before the last --apply; a second time, forward again.",
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
    tiles: int | None,
    photographs: Path | None,
    min_tiles: int | None,
    second_look: float | None,
    estimated: bool,
    believe_labels: bool,
    model_id: str | None,
    data: Path | None,
    prevalence: float | None,
    apply: bool,
    undo: bool,
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

    With --tiles the threshold is that of photographs, which a station judges in tiles: among
    hundreds of tiles one false alarm is hundreds of times as likely. How the tiles of a photograph
    hang together cannot be had from single pictures; the bound holds whatever they do. JSON then:
    model source goal tiles min_tiles basis (proved or estimated) confidence threshold
    false_alarms_per_1000_bound false_alarms_per_1000_estimate{expected low high} recall (of one
    tile) recall_bound tp fn fp tn independent{tp fn fp tn} chains[{tiles bound at_least
    if_independent}] left_out what_if[{left_out threshold recall}] highest[{score path}]
    normals_needed photographs_needed before applied overridden_by.

    With --photographs labelled photographs are scored as wholes, as the station judges them, and
    the bounds are of photographs: any of the goals can be asked for. Photographs of the same concrete
    are no independent evidence, and only equal files are recognised as such. JSON as for single
    pictures, with tiles (of a typical one) and min_tiles.
    """
    if undo:
        return _undo(config, model_id, by, output_format)
    asked = _one_goal(min_recall, max_false_alarms_per_1000, cost_miss, cost_false_alarm)
    if any(
        isnan(value)
        for value in (*asked.values(), confidence, prevalence or 0.0, second_look or 0.0)
    ):
        raise click.UsageError("nan is not a number to go by")  # it is in every range of click's
    if plot is not None and plot.suffix.lower() != ".png":
        raise click.UsageError(f"--plot {plot}: name a file that ends in .png")
    if photographs is not None:
        if tiles is not None or data is not None or estimated or not believe_labels:
            raise click.UsageError(
                "--photographs goes without --tiles, --data, --estimated and --leave-out-doubtful: "
                "photographs are scored as wholes, and nothing need be estimated"
            )
    elif second_look is not None:
        raise click.UsageError(
            "--second-look goes with --photographs: crops do not tell what a second look would find"
        )
    elif tiles is not None:
        _require_of_tiles(asked, tiles, min_tiles or 1, estimated, believe_labels)
        if plot is not None or prevalence is not None:
            raise click.UsageError("--plot and --prevalence go without --tiles")
    elif min_tiles is not None or estimated or not believe_labels:
        raise click.UsageError(
            "--min-tiles, --estimated and --leave-out-doubtful are about photographs: give --tiles N "
            "as well"
        )
    settings = load_settings(config)
    decided_by = who(by) if apply else None

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
    chosen = _chosen(registry, model_id)
    card = registry.verify(chosen)
    if photographs is not None:
        evidence = of_photographs(
            settings,
            registry,
            chosen,
            photographs,
            min_tiles or 1,
            SECOND_LOOK_FROM if second_look is None else second_look,
            partial(promise.require_enough, goal, confidence),
        )
    elif data is not None:
        evidence = of_data(settings, registry, chosen, data)
    else:
        evidence = out_of_fold(registry, chosen)
    if tiles is not None:
        tune_tiles.tune(
            settings,
            registry,
            card,
            evidence,
            tune_tiles.Asked(
                per_1000=asked["max_false_alarms_per_1000"],
                tiles=tiles,
                min_tiles=min_tiles or 1,
                estimated=estimated,
                leave_out_doubted=not believe_labels,
                confidence=confidence,
            ),
            decided_by=decided_by,
            output_format=output_format,
        )
        return EXIT_DONE
    tune_goal.tune(
        settings,
        registry,
        card,
        evidence,
        tune_goal.Asked(
            goal=goal, options=asked, confidence=confidence, prevalence=prevalence, plot=plot
        ),
        tune_goal.single_pictures(settings, registry, card, evidence)
        if evidence.wholes is None
        else tune_goal.of_photographs(settings, registry, card, evidence, evidence.wholes),
        decided_by=decided_by,
        output_format=output_format,
    )
    return EXIT_DONE


def _chosen(registry: Registry, model_id: str | None) -> str:
    chosen = model_id or registry.champion()
    if chosen is None:
        raise ModelMissing(
            f"{registry.folder}: there is no champion",
            "Run 'crackwatch init', 'crackwatch retrain', or name one with --model ID.",
        )
    return chosen


def _undo(config: str | None, model_id: str | None, by: str | None, output_format: str) -> int:
    """Puts the last threshold back, and says which that is."""
    context = click.get_current_context()
    for name in context.params.keys() - {"config", "undo", "model_id", "by", "output_format"}:
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"--undo goes without --{name.replace('_', '-')}")
    settings = load_settings(config)

    from crackwatch.registry import TILED_THRESHOLD, Registry

    registry = Registry(settings.folders.models)
    chosen = _chosen(registry, model_id)
    done = registry.undo_threshold(chosen, decided_by=who(by))
    if done is None:
        raise UsageError(
            f"model {chosen} has the threshold that it was published with",
            "There is nothing to undo.",
        )
    of_photographs = done.what == TILED_THRESHOLD
    pair = (done.old_tiled, done.new_tiled) if of_photographs else (done.old, done.new)
    before, now = (None if each is None else each.value for each in pair)
    if output_format == "json":
        echo_json({"model": chosen, "what": done.what, "threshold": now, "before": before})
        return EXIT_DONE
    none = "none, but that of single pictures,"
    was, is_now = (none if each is None else f"{each:.6g}" for each in (before, now))
    what = "threshold of photographs" if of_photographs else "threshold"
    click.echo(f"{chosen}: {what} {is_now} again (was {was}); --undo once more takes that back.")
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


def _require_of_tiles(
    asked: dict[str, float], tiles: int, min_tiles: int, estimated: bool, believe_labels: bool
) -> None:
    """Raises click.UsageError where what was asked for cannot be asked of photographs."""
    if "max_false_alarms_per_1000" not in asked:
        raise click.UsageError(
            "--tiles goes with --max-false-alarms-per-1000: single pictures do not tell how often a "
            "crack in a photograph is found"
        )
    if min_tiles > tiles:
        raise click.UsageError(f"--min-tiles {min_tiles}: a photograph of {tiles} tiles has fewer")
    if not (estimated or believe_labels):
        raise click.UsageError(
            "--leave-out-doubtful goes with --estimated: a proof believes every label"
        )
