"""TensorFlow's start, without its lines on the terminal; knows nothing of what is trained."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator


def start_tensorflow() -> None:
    """Imports TensorFlow and lets it look for devices; prints what it said only if that fails.

    Its lines about processors and missing graphics cards come from C++ and obey no level.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with _standard_error_held():
        import tensorflow as tf

        tf.config.list_physical_devices()


@contextlib.contextmanager
def _standard_error_held() -> Iterator[None]:
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            os.dup2(kept, 2)
            held.seek(0)
            os.write(2, held.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
