"""What an audit reads of the books, and what it finds: its words, its rows, its outcome."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal, Protocol

from crackwatch.domain import Departure, Fingerprint, Place

COUNTED = (
    "kept",
    "flagged",
    "archived",
    "deleted",
    "quarantined",
    "superseded",
    "expired",
    "vanished",
    "pending",
)

Kind = Literal["missing", "unexplained", "changed"]


class EntryLike(Protocol):
    """One row of the books."""

    @property
    def id(self) -> int: ...
    @property
    def standing(self) -> str: ...
    @property
    def place(self) -> str: ...
    @property
    def source(self) -> bytes: ...
    @property
    def destination(self) -> bytes | None: ...
    @property
    def fingerprint(self) -> Fingerprint: ...
    @property
    def sha256(self) -> bytes | None: ...


class SnapshotLike(Protocol):
    def counts(self) -> Mapping[str, int]: ...
    def total(self) -> int: ...
    def present(self, sources: Sequence[bytes]) -> Mapping[bytes, Sequence[EntryLike]]: ...


class BooksLike(Protocol):
    """The books: see ``store.audits.AuditBooks``."""

    def snapshot(self) -> AbstractContextManager[SnapshotLike]: ...
    def pages(self) -> Iterator[Sequence[EntryLike]]: ...
    def by_ids(self, ids: Sequence[int]) -> Mapping[int, EntryLike]: ...
    def holding(self, place: Place, destinations: Sequence[bytes]) -> Mapping[bytes, EntryLike]: ...
    def departing(self) -> Sequence[Departure]: ...
    def inspected_since(self, each: Departure) -> bool: ...
    def returned(self) -> Sequence[Departure]: ...


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as the books have it. ``path`` is absolute; ``id`` that of the row."""

    kind: Kind
    path: bytes
    reason: str
    id: int | None = None


@dataclass(frozen=True, slots=True)
class Audit:
    """The outcome. ``counts`` has every word of ``COUNTED``; ``rows`` is how many rows there are."""

    rows: int
    unrecorded: int  # files of the inbox that have no row yet
    counts: Mapping[str, int]
    findings: tuple[Finding, ...]

    @property
    def arrived(self) -> int:
        return self.rows + self.unrecorded

    @property
    def balances(self) -> bool:
        """Whether each arrival is in exactly one place."""
        return self.arrived == sum(self.counts.values())

    @property
    def ok(self) -> bool:
        return self.balances and not self.findings

    def of(self, kind: Kind) -> tuple[Finding, ...]:
        return tuple(each for each in self.findings if each.kind == kind)
