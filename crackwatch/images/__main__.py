"""Decodes files in a process of its own, which may die of it; the station watches it from outside.

``python -m crackwatch.images --try MAX_PIXELS LARGER FILE...`` prints one JSON document a file and
exits 0, whether a picture could be decoded or not: only a decoder that crashes or hangs ends it
otherwise. Limits on time and memory are the parent's to set.
"""

from __future__ import annotations

import json
import os
import stat
import sys

from crackwatch import images
from crackwatch.errors import EXIT_DONE, EXIT_USAGE, Unreadable
from crackwatch.escaping import path_text
from crackwatch.images import photographs


def _attempt(path: bytes, limits: images.Limits) -> dict[str, str | None]:
    """What came of one file; a decoder that kills this process prevents it from being told."""
    said: dict[str, str | None] = {"path": path_text(path), "reason": None, "detail": None}
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return {**said, "detail": "not a regular file; left alone"}
            data = file.read()
    except OSError as exc:
        return {**said, "detail": f"not read: {exc.strerror}"}
    try:
        _decode(data, limits)
    except Unreadable as exc:
        return {**said, "reason": exc.reason.value, "detail": exc.detail}
    return said


def _decode(data: bytes, limits: images.Limits) -> None:
    """As the station does it. How tiles are cut makes no difference to what is decoded."""
    found = photographs.look(data, limits, photographs.Tiling())
    if isinstance(found, photographs.Photograph):
        for _ in found.tiles():
            pass


def main(arguments: list[str]) -> int:
    """Runs the command line above; returns the exit status."""
    if len(arguments) < 3 or arguments[0] != "--try" or not arguments[1].isdecimal():
        sys.stderr.write("usage: python -m crackwatch.images --try MAX_PIXELS LARGER FILE...\n")
        return EXIT_USAGE
    limits = images.Limits(int(arguments[1]), arguments[2])
    for file in arguments[3:]:
        sys.stdout.write(json.dumps(_attempt(os.fsencode(file), limits)) + "\n")
        sys.stdout.flush()
    return EXIT_DONE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
