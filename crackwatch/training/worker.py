"""One training in a process of its own: what ``crew`` starts; no command for people.

``python -m crackwatch.training.worker DESCRIPTOR FOLDER``: DESCRIPTOR is the open file of decoded
pictures, FOLDER that of a job as ``crew`` wrote it. Progress goes to standard output, a JSON document
a line. The end of standard input ends the process, whatever it is doing: the parent has no more use
for it, or is gone.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from crackwatch.training.quiet import start_tensorflow

if TYPE_CHECKING:
    from crackwatch.dataset import PixelCache

_SAY_EVERY_S = 0.5


def main(descriptor: int, folder: Path) -> None:
    told = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)  # whatever a library prints goes to the log, not between the documents
    threading.Thread(target=_end_with_input, daemon=True).start()
    start_tensorflow()
    from crackwatch.dataset import PixelCache
    from crackwatch.training import fitting

    fitting.use_one_thread()
    _work(folder, PixelCache.shared(descriptor), told)


def _work(folder: Path, pixels: PixelCache, told: TextIO) -> None:
    import keras

    from crackwatch import lenet
    from crackwatch.images.warping import warp
    from crackwatch.training import crew, fitting

    job = crew.read_job(folder)
    fitting.make_deterministic(job.seed)
    start_from = None
    if job.start is not None:
        start_from = keras.models.load_model(job.start, compile=False, safe_mode=True)
    said_at = 0.0

    def say(**document: Any) -> None:
        told.write(json.dumps(document) + "\n")
        told.flush()

    def on_step(epoch: int, step: int, steps: int) -> None:
        nonlocal said_at
        if step == steps or time.monotonic() - said_at >= _SAY_EVERY_S:
            said_at = time.monotonic()
            say(step=[epoch, step, steps])

    model, epochs = fitting.fit(
        fitting.Lesson(job.recipe, job.seed, pixels, job.labels, job.train, warp),
        start_from,
        folder / crew.CHECKPOINT,
        on_step,
        lambda epoch: say(epoch=asdict(epoch)),
    )
    logits = fitting.logits(model, pixels, job.held)
    # Rebuilt without dropout and never compiled: no optimiser state, and fewer layers to export.
    plain = lenet.build(lenet.normalisation_in(model))
    plain.set_weights(model.get_weights())
    plain.save(folder / crew.MODEL)
    crew.write_result(folder, logits, epochs)
    say(done=True)


def _end_with_input() -> None:
    try:
        while os.read(0, 4096):
            pass
    finally:
        os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
