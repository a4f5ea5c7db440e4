"""Draws the pictures of docs/evaluation.md anew, from the champion of a station.

    python docs/pictures/draw.py CONFIG LABELLED

CONFIG is the station's config.toml, LABELLED a folder with anomaly/ and normal/ (the METU
photographs' valid_balanced). Only plots are made of these; the contact sheet shows pictures that
crackwatch draws itself, so that no photograph is published.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image  # comes with matplotlib

from crackwatch import images, synthetic

HERE = Path(__file__).resolve().parent

CRACKED = range(100, 122)
SOUND = range(100, 160)
BRICK = range(100, 103)  # much brickwork is called a crack


def evaluate(config: str, data: Path, plots: Path) -> None:
    command = ("evaluate", "--config", config, "--data", data, "--plots", plots)
    subprocess.run([sys.executable, "-m", "crackwatch", *map(str, command)], check=True)


def draw_labelled(folder: Path) -> None:
    for label, name, seeds, surface in (
        ("anomaly", "drawn", CRACKED, "concrete"),
        ("normal", "drawn", SOUND, "concrete"),
        ("normal", "brick", BRICK, "brick"),
    ):
        (folder / label).mkdir(parents=True, exist_ok=True)
        for seed in seeds:
            picture = synthetic.draw(seed, crack=label == "anomaly", surface=surface)
            (folder / label / f"{name}-{seed}.png").write_bytes(images.encode_png(picture))


def publish(source: Path, target: Path, scale: float, colours: int) -> None:
    """Fewer pixels and colours: what is in a repository stays there for ever."""
    picture = Image.open(source).convert("RGB")
    size = (round(picture.width * scale), round(picture.height * scale))
    small = picture.resize(size, Image.Resampling.LANCZOS) if scale != 1 else picture
    small.quantize(colours, dither=Image.Dither.NONE).save(target, optimize=True)
    sys.stdout.write(
        f"{target}: {target.stat().st_size >> 10} KiB, {small.width} x {small.height}\n"
    )


def main() -> None:
    config, labelled = sys.argv[1:]
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        evaluate(config, Path(labelled), work / "plots")
        publish(work / "plots/overview.png", HERE / "evaluation.png", 1, 256)
        draw_labelled(work / "drawn")
        evaluate(config, work / "drawn", work / "sheet")
        publish(work / "sheet/errors.png", HERE / "errors-drawn.png", 0.7, 256)


if __name__ == "__main__":
    main()
