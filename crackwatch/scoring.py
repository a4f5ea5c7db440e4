"""Scores pictures that a person names, as they come; records nothing, moves nothing.

Knows no decoder and no model: both are given. Memory is bounded by a few batches, however many
files there are.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from crackwatch.domain import OVERLAY_SUFFIX, Photograph, QuarantineReason, Verdict
from crackwatch.errors import ModelDisagrees, Unreadable
from crackwatch.examining import Emit, examine
from crackwatch.inbox import NamePolicy
from crackwatch.runtime import Classifier
from crackwatch.views import Decode, Rule, Seen, judged, see

_BATCH = 64  # pictures, or tiles
_DECODERS = 2  # threads, each with a batch of its own; the model scores a third meanwhile


@dataclass(frozen=True, slots=True)
class Scored:
    """One picture's score (0..1), and what it means at the threshold for pictures of its kind."""

    path: bytes
    score: float
    verdict: Verdict
    threshold: float
    photograph: Photograph | None = None  # of a picture that was judged in tiles


@dataclass(frozen=True, slots=True)
class Refused:
    """One file, or folder, that could not be scored, and why."""

    path: bytes
    error: str


def pictures_in(paths: Iterable[bytes], policy: NamePolicy) -> Iterator[bytes | Refused]:
    """The files among ``paths``, and the pictures in the folders among them, in order of name.

    In folders ``policy`` chooses, and the marked copy beside a picture is no picture; a file that is
    named by itself is taken as it is. Links to folders are not followed. A folder that cannot be
    listed is Refused.
    """
    for path in paths:
        if not os.path.isdir(path):
            yield path
            continue
        failed: list[OSError] = []
        for parent, folders, names in os.walk(path, onerror=failed.append):
            folders[:] = sorted(name for name in folders if not policy.silent(name))
            copies = {name + OVERLAY_SUFFIX for name in names}
            wanted = (name for name in names if name not in copies and not policy(name))
            yield from (os.path.join(parent, name) for name in sorted(wanted))
        for error in failed:
            where = error.filename if isinstance(error.filename, bytes) else path
            yield Refused(where, f"cannot be listed: {error.strerror}")


def score(
    files: Iterable[bytes | Refused],
    decode: Decode,
    classifier: Classifier,
    rule: Rule,
    max_bytes: int,
    mm_per_px: float | None = None,
) -> Iterator[Scored | Refused]:
    """One result for each file, in the same order; what is Refused already is passed on.

    ``decode`` is called from several threads; files above ``max_bytes`` are refused unread.
    ``mm_per_px`` is of photographs, None where nobody knows. Raises ModelDisagrees if the model
    gives something that is no probability.
    """

    def look_at(file: bytes | Refused, emit: Emit) -> tuple[bytes, Seen] | Refused:
        if isinstance(file, Refused):
            return file
        try:
            return file, see(decode(read(file, max_bytes)), emit)
        except Unreadable as exc:
            return Refused(file, str(exc))
        except OSError as exc:
            return Refused(file, f"cannot be read: {exc.strerror}")

    with ThreadPoolExecutor(_DECODERS, "decode") as pool:
        for found, scores in examine(
            files, look_at, classifier, pool=pool, threads=_DECODERS, chunk=_BATCH, batch=_BATCH
        ):
            if isinstance(found, Refused):
                yield found
                continue
            path, seen = found
            try:
                judgement = judged(seen, scores, rule, classifier, mm_per_px)
            except Unreadable as exc:  # what was decoded once is not when it is looked at again
                yield Refused(path, str(exc))
                continue
            except ValueError as exc:
                raise ModelDisagrees(
                    f"model {classifier.model_id} is broken: {exc}",
                    "Go back with 'crackwatch models rollback'.",
                ) from exc
            yield Scored(
                path,
                judgement.score,
                judgement.verdict,
                judgement.threshold,
                judgement.photograph,
            )


def read(path: bytes, max_bytes: int) -> bytes:
    """A file's bytes. Raises OSError, and Unreadable (OVERSIZE) above ``max_bytes``."""
    # O_NONBLOCK: a named pipe would wait for its other end
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as stream:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file")
        content = stream.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise Unreadable(
            QuarantineReason.OVERSIZE,
            f"more than {max_bytes:,} bytes, which is what files.max_bytes allows",
        )
    return content
