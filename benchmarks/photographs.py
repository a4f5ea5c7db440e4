"""How well a model judges photographs of 4000 x 3000, at the level of the photograph.

Photographs are quilted from real crops (tests/scenes.py): with a crack blended in, and with a
normal crop blended in just so, as a control. Each is written as a camera's JPEG, read again, cut
into tiles and scored as the station does it; beside it the same photograph shrunk to 227 x 227. The
acceptance half of the crops and seeds is for the acceptance test: look for a threshold on the
development half. A folder that they are kept in is one for ``crackwatch tune --photographs``.

``python -m benchmarks.photographs --metu DIR --help``, from the top of a checkout.
"""

from __future__ import annotations

import argparse
import json
import pickle
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.special import logit

from crackwatch import images
from crackwatch.domain import SECOND_LOOK_FROM
from crackwatch.images.photographs import Photograph, Tiling, open_photograph
from crackwatch.packaged import starter
from crackwatch.registry import Registry
from crackwatch.runtime import SIDE, Classifier, load
from crackwatch.second_look import looked_again
from crackwatch.starters import install_starter
from crackwatch.tiling import Layout
from crackwatch.views import see
from tests import scenes

QUALITY = 92  # of the JPEG; cameras write 90 to 98
LIMITS = images.Limits(120_000_000, "tile")
OVER_THE_CRACK = 0.25  # of the crack's pixels must lie in a box that is said to be over it
THRESHOLDS = (0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 0.95, 0.99, 0.995)
FLAGGED_TARGET, FALSE_TARGET = 0.95, 0.03  # of photographs with a crack, and without

KINDS = {"crack": "crack", "normal": "normal", "plain": None}
FOLDERS = {"crack": "anomaly", "normal": "normal", "plain": ".plain"}  # as labels name them


@dataclass(frozen=True, slots=True)
class Measured:
    """One photograph and the scores of its tiles."""

    seed: int
    kind: str
    truth: scenes.Inserted | None
    laid: tuple[scenes.Laid, ...]
    layout: Layout
    scores: NDArray[np.float32]  # (number of tiles,), of one look
    again: NDArray[np.float32]  # the same after a second look
    shrunk: float

    @property
    def highest(self) -> float:
        return float(self.scores.max())

    @property
    def highest_pair(self) -> float:
        """The highest threshold at which two neighbours, corners included, reach it."""
        grid = self.scores.reshape(self.layout.shape)
        pairs = (
            np.minimum(grid[:, 1:], grid[:, :-1]),
            np.minimum(grid[1:], grid[:-1]),
            np.minimum(grid[1:, 1:], grid[:-1, :-1]),
            np.minimum(grid[1:, :-1], grid[:-1, 1:]),
        )
        return max(float(pair.max()) for pair in pairs)

    @property
    def highest_again(self) -> float:
        return float(self.again.max())

    def highest_over_crack(self, scores: NDArray[np.float32]) -> float:
        """Of the tiles that show a fair share of the crack."""
        assert self.truth is not None
        over = [
            self.truth.share_in(int(x), int(y), SIDE, SIDE) >= OVER_THE_CRACK
            for x, y in self.layout.origins
        ]
        return float(scores[over].max()) if any(over) else 0.0


def tile_scores(
    classifier: Classifier, photograph: Photograph
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The score of each tile, by one look and with a second one."""
    scores: list[NDArray[np.float32]] = []
    tiled = see(photograph, lambda tiles: scores.append(classifier.scores(tiles))).tiled
    assert tiled is not None
    grid = tiled.grid(np.concatenate(scores))
    again = looked_again(photograph, grid, SECOND_LOOK_FROM, classifier)
    return grid.ravel(), again.scores.ravel()


# ---------------------------------------------------------------------------------- photographs


def photographs(
    pool: scenes.Pool, seeds: Sequence[int], kinds: Sequence[str], keep: Path
) -> Iterator[tuple[int, str, scenes.Scene, bytes]]:
    """Each photograph as it comes out of its JPEG; drawn anew where ``keep`` does not have it."""
    for seed in seeds:
        for kind in kinds:
            file = keep / FOLDERS[kind] / f"{kind}-{seed:04}.jpg"
            truth = keep / ".truth" / f"{kind}-{seed:04}.pickle"
            for each in (file, truth):
                each.parent.mkdir(parents=True, exist_ok=True)
            if not truth.exists():
                drawn = scenes.scene(pool, seed, KINDS[kind])
                file.write_bytes(images.encode_jpeg(drawn.picture, QUALITY))
                truth.write_bytes(pickle.dumps((drawn.inserted, drawn.laid)))
            inserted, laid = pickle.loads(truth.read_bytes())
            picture = cv2.imread(str(file), cv2.IMREAD_COLOR)
            assert picture is not None, file
            shown = scenes.Scene(np.asarray(picture, np.uint8), inserted, laid)
            yield seed, kind, shown, file.read_bytes()


def classifier_of(models: Path | None, model_id: str | None, scratch: Path) -> Classifier:
    """The model asked for; by default the champion of ``models``, or else the starter."""
    registry = Registry(models or scratch / "models")
    if models is None:
        install_starter(registry, starter())
    chosen = model_id or registry.champion()
    if chosen is None:
        sys.exit(f"{models}: there is no champion; name a model with --model")
    return load(registry.folder_of(chosen), registry.verify(chosen))


# --------------------------------------------------------------------------------------- report


def summary(measured: Sequence[Measured]) -> dict[str, object]:
    """What holds at which threshold, for photographs that were all laid out alike.

    Empty where there are none of one kind.
    """
    cracked = [one for one in measured if one.kind == "crack"]
    sound = [one for one in measured if one.kind == "normal"]
    if not (cracked and sound):
        return {}
    rules = {
        "one tile": ([o.highest for o in cracked], [o.highest for o in sound]),
        "a second look": ([o.highest_again for o in cracked], [o.highest_again for o in sound]),
        "two neighbours": ([o.highest_pair for o in cracked], [o.highest_pair for o in sound]),
        "shrunk to 227": ([o.shrunk for o in cracked], [o.shrunk for o in sound]),
    }
    found: dict[str, object] = {
        "tiles": len(measured[0].scores),
        "cracked": len(cracked),
        "sound": len(sound),
        "false_alarms_per_1000_tiles": {
            str(t): round(1000 * float(np.mean([o.scores >= t for o in sound])), 3)
            for t in THRESHOLDS
        },
    }
    over = np.array([o.highest_over_crack(o.scores) for o in cracked])
    over_again = np.array([o.highest_over_crack(o.again) for o in cracked])
    for rule, (with_crack, without) in rules.items():
        hit, alarm = np.array(with_crack), np.array(without)
        # with two neighbours the box over the crack must be one of the two, or touch them: both
        # rules therefore ask for the photograph's flag and for a tile over the crack
        shown = over_again if rule == "a second look" else over
        right = hit if rule == "shrunk to 227" else np.minimum(hit, shown)
        allowed = int(FALSE_TARGET * len(alarm))
        wanted = int(np.ceil(FLAGGED_TARGET * len(right)))
        above = float(np.sort(alarm)[::-1][allowed])
        upto = float(np.sort(right)[::-1][wanted - 1])
        found[rule] = {
            "roc_auc": round(float((right[:, None] > alarm[None, :]).mean()), 4),
            "at": {
                str(t): {
                    "flagged": int((hit >= t).sum()),
                    "box_over_crack": int((right >= t).sum()),
                    "false": int((alarm >= t).sum()),
                }
                for t in THRESHOLDS
            },
            "threshold_above": above,
            "threshold_up_to": upto,
            "margin_in_logits": round(_logit(upto) - _logit(above), 2),
            "highest_of_the_sound": np.sort(alarm)[::-1][:8].tolist(),
            "lowest_of_the_cracked": np.sort(right)[:8].tolist(),
        }
    return found


def blending(measured: Sequence[Measured]) -> dict[str, object]:
    """What a blended normal does to the scores of the tiles that it touches, wall by wall."""
    plain = {one.seed: one for one in measured if one.kind == "plain"}
    changes, before, after = [], [], []
    for one in measured:
        if one.kind != "normal" or one.seed not in plain or one.truth is None:
            continue
        x, y = one.layout.origins.T
        touched = (abs(x - one.truth.x) < SIDE) & (abs(y - one.truth.y) < SIDE)
        was, became = plain[one.seed].scores[touched], one.scores[touched]
        changes.append(_logit(became.max()) - _logit(was.max()))
        before.append(float(was.max()))
        after.append(float(became.max()))
    if not changes:
        return {}
    return {
        "walls": len(changes),
        "median_change_in_logits": round(float(np.median(changes)), 3),
        "raised": int((np.array(changes) > 0).sum()),
        "highest_before": np.sort(before)[::-1][:5].tolist(),
        "highest_after": np.sort(after)[::-1][:5].tolist(),
    }


def alarms(
    measured: Sequence[Measured], classifier: Classifier, at_least: float
) -> list[dict[str, object]]:
    """Sound tiles that score ``at_least``, and what lies under each: the highest first."""
    listed = []
    for one in measured:
        if one.kind == "crack":
            continue
        guest = [scenes.Laid(one.truth.file, one.truth.x, one.truth.y)] if one.truth else []
        for n in np.flatnonzero(one.scores >= at_least):
            x, y = (int(v) for v in one.layout.origins[n])
            shares = {}
            for crop in (*guest, *one.laid):
                width = max(0, min(x, crop.x) + SIDE - max(x, crop.x))
                height = max(0, min(y, crop.y) + SIDE - max(y, crop.y))
                share = width * height / SIDE**2
                shares[crop.file] = max(share, shares.get(crop.file, 0.0))
            nearest = sorted(shares, key=lambda file: -shares[file])[:4]
            own = classifier.scores(np.stack([scenes.read(file) for file in nearest]))
            listed.append(
                {
                    "score": float(one.scores[n]),
                    "photograph": f"{one.kind}-{one.seed:04}",
                    "x": x,
                    "y": y,
                    "crops": [
                        {
                            "file": "/".join(file.parts[-3:]),
                            "share": round(shares[file], 2),
                            "own_score": round(float(score), 4),
                            "blended": bool(guest) and file == guest[0].file,
                        }
                        for file, score in zip(nearest, own, strict=True)
                    ],
                }
            )
    return sorted(listed, key=lambda alarm: -float(str(alarm["score"])))


def _logit(score: float) -> float:
    return float(logit(np.clip(np.float64(score), 1e-12, 1 - 6e-8)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--metu", type=Path, required=True, help="folder of the METU pictures")
    parser.add_argument("--half", choices=("development", "acceptance"), default="development")
    parser.add_argument("--seeds", default="0:100", help="first:end; the end is left out")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=["crack", "normal"])
    parser.add_argument("--overlap", nargs="+", type=int, default=[64], help="pixels")
    parser.add_argument("--models", type=Path, help="a registry's folder; else the starter")
    parser.add_argument("--model", help="the model's id; else the champion")
    parser.add_argument("--keep", type=Path, help="folder for the photographs, used again")
    parser.add_argument("--alarms", type=float, default=0.5, help="list sound tiles from here")
    parser.add_argument("--scores", type=Path, help="write every tile's score here (pickle)")
    asked = parser.parse_args()
    first, _, end = asked.seeds.partition(":")
    with tempfile.TemporaryDirectory() as scratch:
        keep = asked.keep or Path(scratch)
        keep.mkdir(parents=True, exist_ok=True)
        classifier = classifier_of(asked.models, asked.model, Path(scratch))
        pool = scenes.pool(asked.metu, asked.half)
        measured: dict[int, list[Measured]] = {overlap: [] for overlap in asked.overlap}
        started = time.monotonic()
        seeds = range(int(first), int(end))
        for seed, kind, photo, data in photographs(pool, seeds, asked.kinds, keep):
            small = cv2.resize(photo.picture, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
            shrunk = float(classifier.scores(np.asarray(small, np.uint8)[None])[0])
            for overlap in asked.overlap:
                opened = open_photograph(data, LIMITS, Tiling(overlap))
                scores, again = tile_scores(classifier, opened)
                one = Measured(
                    seed, kind, photo.inserted, photo.laid, opened.layout, scores, again, shrunk
                )
                measured[overlap].append(one)
                print(
                    f"{time.monotonic() - started:6.0f} s  {kind}-{seed:04}  overlap {overlap}: "
                    f"highest {one.highest:.5f}, after a second look {one.highest_again:.5f}, "
                    f"two neighbours {one.highest_pair:.5f}, "
                    f"shrunk {shrunk:.5f}",
                    file=sys.stderr,
                    flush=True,
                )
        if asked.scores:
            asked.scores.write_bytes(pickle.dumps(measured))
        report = {
            "model": classifier.model_id,
            "half": asked.half,
            "seeds": asked.seeds,
            "overlaps": {str(overlap): summary(found) for overlap, found in measured.items()},
            "blending": blending(measured[asked.overlap[0]]),
            "alarms": alarms(measured[asked.overlap[0]], classifier, asked.alarms),
        }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
