"""Scores pictures that a person names, as they come; records nothing, moves nothing.

Knows no decoder and no model: both are given. Memory is bounded by a few batches, however many
files there are.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from crackwatch.domain import Prediction, QuarantineReason, Verdict
from crackwatch.errors import ModelDisagrees, Unreadable
from crackwatch.inbox import NamePolicy
from crackwatch.runtime import Classifier
from crackwatch.verdict import judge

_BATCH = 64  # pictures
_DECODERS = 2  # threads, each with a batch of its own; the model scores a third meanwhile

Decode = Callable[[bytes], NDArray[np.uint8]]  # raises Unreadable


@dataclass(frozen=True, slots=True)
class Scored:
    """One picture's score (0..1) and what it means at the threshold."""

    path: bytes
    score: float
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Refused:
    """One file, or folder, that could not be scored, and why."""

    path: bytes
    error: str


def pictures_in(paths: Iterable[bytes], policy: NamePolicy) -> Iterator[bytes | Refused]:
    """The files among ``paths``, and the pictures in the folders among them, in order of name.

    In folders ``policy`` chooses; a file that is named by itself is taken as it is. Links to
    folders are not followed. A folder that cannot be listed is Refused.
    """
    for path in paths:
        if not os.path.isdir(path):
            yield path
            continue
        failed: list[OSError] = []
        for parent, folders, names in os.walk(path, onerror=failed.append):
            folders[:] = sorted(name for name in folders if not policy.silent(name))
            yield from (os.path.join(parent, name) for name in sorted(names) if not policy(name))
        for error in failed:
            where = error.filename if isinstance(error.filename, bytes) else path
            yield Refused(where, f"cannot be listed: {error.strerror}")


def score(
    files: Iterable[bytes | Refused],
    decode: Decode,
    classifier: Classifier,
    threshold: float,
    max_bytes: int,
) -> Iterator[Scored | Refused]:
    """One result for each file, in the same order; what is Refused already is passed on.

    ``decode`` is called from several threads; files above ``max_bytes`` are refused unread. Raises
    ModelDisagrees if the model gives something that is no probability.
    """
    source = iter(files)
    with ThreadPoolExecutor(_DECODERS, "decode") as pool:

        def submitted() -> Iterator[Future[list[_Decoded]]]:
            while batch := list(islice(source, _BATCH)):
                yield pool.submit(_decode_all, batch, decode, max_bytes)

        batches = submitted()
        ahead = deque(islice(batches, _DECODERS))
        while ahead:
            decoded = ahead.popleft().result()
            ahead.extend(islice(batches, 1))
            yield from _judged(decoded, classifier, threshold)


_Decoded = tuple[bytes, NDArray[np.uint8]] | Refused


def _judged(
    decoded: list[_Decoded], classifier: Classifier, threshold: float
) -> Iterator[Scored | Refused]:
    pictures = [each[1] for each in decoded if not isinstance(each, Refused)]
    scores = iter(classifier.scores(np.stack(pictures)).tolist() if pictures else ())
    for each in decoded:
        if isinstance(each, Refused):
            yield each
            continue
        value = next(scores)
        try:
            verdict = judge(Prediction(value), threshold)
        except ValueError as exc:
            raise ModelDisagrees(
                f"model {classifier.model_id} is broken: {exc}",
                "Go back with 'crackwatch models rollback'.",
            ) from exc
        yield Scored(each[0], value, verdict)


def _decode_all(batch: list[bytes | Refused], decode: Decode, max_bytes: int) -> list[_Decoded]:
    decoded: list[_Decoded] = []
    for path in batch:
        if isinstance(path, Refused):
            decoded.append(path)
            continue
        try:
            decoded.append((path, decode(_read(path, max_bytes))))
        except Unreadable as exc:
            decoded.append(Refused(path, str(exc)))
        except OSError as exc:
            decoded.append(Refused(path, f"cannot be read: {exc.strerror}"))
    return decoded


def _read(path: bytes, max_bytes: int) -> bytes:
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
