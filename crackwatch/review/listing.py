"""What people said, picture by picture, held against what the station had said; changes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from itertools import islice

from crackwatch.domain import Label, Outcome
from crackwatch.review.marking import by_picture
from crackwatch.store.inspected import Inspected
from crackwatch.store.reviews import Review, ReviewBooks

# A camera that is stuck gives thousands of files with equal pixels. Each lists this many labels of the
# others; were it all of them, the list would grow with their square.
MOST_ALIKE = 10


@dataclass(frozen=True, slots=True)
class Reviewed:
    """One reviewed picture. ``labels`` are all that were given, the one that counts last.

    Labels of other files with equal pixels, turned or mirrored as they may be, are among them: the
    latest ``MOST_ALIKE`` of each kind.
    ``in_conflict``: such a file has the other label as the one that counts, so that ``retrain``
    leaves both out until a person marks one of them anew.
    """

    latest: Review
    labels: tuple[Review, ...]
    inspection: Inspected | None
    in_conflict: bool

    @property
    def contradictory(self) -> bool:
        """Whether both labels were given, by whomever and whenever."""
        return len({each.label for each in self.labels}) > 1

    @property
    def agrees(self) -> bool | None:
        """Whether the label is the verdict; None where there was none, and of a cut-out: the
        verdict was the photograph's.
        """
        if self.latest.cutout is not None:
            return None
        if self.inspection is None or self.inspection.outcome is Outcome.QUARANTINED:
            return None
        return self.latest.label.value == self.inspection.outcome.value


def listing(
    books: ReviewBooks, since: datetime | None = None, *, contradictions: bool = False
) -> list[Reviewed]:
    """Every reviewed picture, the latest review first; only those reviewed since a moment, or only
    those with contradictory labels, if asked for. Raises SystemFault, StoreError.
    """
    everything = books.all()
    pictures = by_picture(everything)
    alike: dict[bytes, dict[Label, list[Review]]] = {}
    for review in everything:
        alike.setdefault(review.pixels, {}).setdefault(review.label, []).append(review)
    in_force: dict[bytes, set[Label]] = {}
    for history in pictures.values():
        in_force.setdefault(history[-1].pixels, set()).add(history[-1].label)
    wanted = [
        history
        for history in pictures.values()
        if since is None or history[-1].at >= since
        if not contradictions or len(alike[history[-1].pixels]) > 1
    ]
    named = books.inspections(
        each.inspection_id for history in wanted for each in history if each.inspection_id
    )
    found = [
        Reviewed(
            latest=history[-1],
            # of other files first, so that the one that counts for this file is last
            labels=(*_of_others(alike[history[-1].pixels], history[-1].sha256), *history),
            inspection=_inspection(books, named, history),
            in_conflict=len(in_force[history[-1].pixels]) > 1,
        )
        for history in wanted
    ]
    return sorted(found, key=lambda each: (each.latest.at, each.latest.id or 0), reverse=True)


def _of_others(alike: dict[Label, list[Review]], sha256: bytes) -> list[Review]:
    """The latest labels of other files, oldest first."""
    found: list[Review] = []
    for of_label in alike.values():
        others = (each for each in reversed(of_label) if each.sha256 != sha256)
        found += islice(others, MOST_ALIKE)
    return sorted(found, key=lambda each: (each.at, each.id or 0))


def _inspection(
    books: ReviewBooks, named: dict[int, Inspected], history: list[Review]
) -> Inspected | None:
    """The inspection that a reviewer saw last, else one that came after the review."""
    for review in reversed(history):
        if review.inspection_id in named:
            return named[review.inspection_id]
    return books.of_bytes(history[-1].sha256)
