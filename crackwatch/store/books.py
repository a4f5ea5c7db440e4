"""Writing the books: one transaction a batch records what was seen and where it will go.

Knows rows; nothing of folders but what the caller's ``Destinations`` says of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    Connection,
    Engine,
    bindparam,
    false,
    func,
    insert,
    select,
    text,
    tuple_,
    update,
)

from crackwatch.domain import (
    Arrival,
    BatchFacts,
    Closing,
    Destinations,
    Draft,
    Filing,
    Fingerprint,
    Outcome,
    Place,
    QuarantineReason,
    Recorded,
)
from crackwatch.errors import ModelTampered
from crackwatch.store.engine import faults, writing
from crackwatch.store.photographs import photograph_row
from crackwatch.store.schema import batches, inspections, models, photographs

_CHUNK = 400  # rows of an IN list; SQLite's default limit is far above


class Books:
    """The rows of one station. One instance, one writing thread."""

    def __init__(self, engine: Engine, station: str) -> None:
        self._engine = engine
        self._station = station

    def model_pk(self, id: str, sha256: str, card: str) -> int:
        """The row of a model, made at its first use; the books outlive the model's folder.

        Raises ModelTampered where other weights judged under that name before.
        """
        with writing(self._engine) as connection:
            found = connection.execute(
                select(models.c.pk, models.c.sha256).where(models.c.id == id)
            ).first()
            if found is not None:
                if found.sha256 != sha256:
                    raise ModelTampered(
                        f"model {id}: its weights are not those that judged under this name before",
                        "Train or import it under a name of its own, and promote that one.",
                    )
                return int(found.pk)
            made: int = connection.execute(
                insert(models)
                .values(id=id, sha256=sha256, card=card, first_used_at=datetime.now(UTC))
                .returning(models.c.pk)
            ).scalar_one()
            return made

    def record(
        self,
        facts: BatchFacts,
        drafts: Sequence[Draft],
        destinations: Destinations,
        closings: Sequence[Closing] = (),
    ) -> Recorded:
        """One transaction: closes earlier filings, then records the batch. The commit is the fact.

        A draft whose file has a row already is not recorded again; if only its hints differ, the
        hash decides whether it is the same arrival (hints are updated) or new content under the
        old identity (the old row becomes superseded). Raises SystemFault, StoreError.
        """
        now = datetime.now(UTC)
        with writing(self._engine) as connection:
            self._close(connection, closings, now)
            present = self._present_rows(connection, [d.arrival.source for d in drafts])
            fresh: list[Draft] = []
            known: list[Arrival] = []
            superseded: set[int] = set()
            mine: set[tuple[bytes, int, int]] = set()  # identities of this very batch
            for draft in drafts:
                arrival = draft.arrival
                stat = arrival.fingerprint
                identity = (arrival.source, stat.size_bytes, stat.mtime_ns)
                replaced = self._compare(connection, draft, present.get(arrival.source, []))
                if replaced is None or identity in mine:
                    known.append(arrival)
                else:
                    mine.add(identity)
                    superseded |= replaced
                    fresh.append(draft)
            self._supersede(connection, sorted(superseded), now)
            batch_id = connection.execute(
                insert(batches)
                .values(
                    model_pk=facts.model_pk,
                    runtime=facts.runtime,
                    precision=facts.precision,
                    closed_by=facts.closed_by,
                    size=len(fresh),
                    recorded_at=now,
                    read_us=facts.read_us,
                    classify_us=facts.classify_us,
                    exact_from=facts.exact_from,
                )
                .returning(batches.c.id)
            ).scalar_one()
            rows = self._rows(connection, fresh, facts, batch_id, destinations, now)
            if rows:
                connection.execute(insert(inspections), rows)
            tiled = [
                photograph_row(row["id"], draft.photograph)
                for row, draft in zip(rows, fresh, strict=True)
                if draft.photograph is not None
            ]
            if tiled:
                connection.execute(insert(photographs), tiled)
        filings = tuple(_filing_of(row) for row in rows if Place(row["place"]) is not Place.KEPT)
        return Recorded(
            batch_id,
            filings,
            tuple(draft.arrival for draft in fresh if draft.place is Place.KEPT),
            tuple(known),
            inspected=sum(draft.outcome is not Outcome.QUARANTINED for draft in fresh),
            anomalies=sum(draft.outcome is Outcome.ANOMALY for draft in fresh),
            quarantined=sum(draft.outcome is Outcome.QUARANTINED for draft in fresh),
            duplicates=sum(row["duplicate_of"] is not None for row in rows),
            superseded=len(superseded),
            in_review_band=sum(bool(draft.in_review_band) for draft in fresh),
        )

    def close(self, closings: Sequence[Closing]) -> None:
        """Marks filings as done, in a transaction of their own. Raises SystemFault."""
        if closings:
            with writing(self._engine) as connection:
                self._close(connection, closings, datetime.now(UTC))

    def reassign(self, id: int, place: Place, source: bytes, destinations: Destinations) -> bytes:
        """Commits another destination for a row whose first one turned out to be taken."""
        with writing(self._engine) as connection:
            chosen = _choose(connection, place, source, id, destinations, set())
            if chosen is None:
                raise ValueError(f"row {id} is not one to be moved")
            connection.execute(
                update(inspections).where(inspections.c.id == id).values(destination=chosen)
            )
        return chosen

    def unfiled(self) -> list[Filing]:
        """Every move that was recorded and not finished, oldest first. Raises SystemFault."""
        query = (
            select(inspections)
            .where(inspections.c.filed_at.is_(None), inspections.c.superseded_at.is_(None))
            .where(inspections.c.station == self._station)
            .order_by(inspections.c.id)
        )
        with faults(), self._engine.connect() as connection:
            return [_filing_of(row) for row in connection.execute(query).mappings()]

    def present(self) -> Iterator[tuple[bytes, Fingerprint]]:
        """Every file that a row says is in the inbox. Raises SystemFault."""
        query = select(
            inspections.c.source,
            inspections.c.size_bytes,
            inspections.c.mtime_ns,
            inspections.c.ctime_ns,
            inspections.c.device,
            inspections.c.inode,
        ).where(inspections.c.released_at.is_(None), inspections.c.station == self._station)
        with faults(), self._engine.connect() as connection:
            rows = connection.execution_options(yield_per=10_000).execute(query)
            for source, *stat in rows:
                yield source, Fingerprint(*stat)

    def inspected_since(self, since: datetime) -> tuple[int, int]:
        """(inspected, anomalies) from ``since`` on, superseded rows left out."""
        query = (
            select(inspections.c.outcome, func.count())
            .where(inspections.c.inspected_at >= since, inspections.c.superseded_at.is_(None))
            .group_by(inspections.c.outcome)
        )
        with faults(), self._engine.connect() as connection:
            counts = {outcome: int(count) for outcome, count in connection.execute(query)}
        anomalies = counts.get(Outcome.ANOMALY, 0)
        return anomalies + counts.get(Outcome.NORMAL, 0), anomalies

    def probe(self) -> None:
        """Takes and gives back the write lock: proves that recording is possible again.

        The change that changes nothing is refused where the file is read-only; the lock is not.
        """
        with writing(self._engine) as connection:
            connection.execute(update(inspections).where(false()).values(id=None))

    # ------------------------------------------------------------------------------- inside one

    def _present_rows(
        self, connection: Connection, sources: Sequence[bytes]
    ) -> dict[bytes, list[Any]]:
        table = inspections.c
        found: dict[bytes, list[Any]] = {}
        query = select(
            table.id,
            table.source,
            table.size_bytes,
            table.mtime_ns,
            table.ctime_ns,
            table.device,
            table.inode,
            table.sha256,
        ).where(
            table.released_at.is_(None),
            table.station == self._station,
            table.source.in_(bindparam("sources", expanding=True)),
        )
        for start in range(0, len(sources), _CHUNK):
            chunk = list(sources[start : start + _CHUNK])
            for row in connection.execute(query, {"sources": chunk}):
                found.setdefault(row.source, []).append(row)
        return found

    def _compare(
        self, connection: Connection, draft: Draft, rows: Sequence[Any]
    ) -> set[int] | None:
        """None if the file has its row already; else the rows that its content replaces."""
        replaced: set[int] = set()
        mine = draft.arrival.fingerprint
        for row in rows:
            theirs = Fingerprint(row.size_bytes, row.mtime_ns, row.ctime_ns, row.device, row.inode)
            if mine == theirs:
                return None
            if mine.same_identity(theirs) and row.sha256 == draft.sha256:
                connection.execute(
                    update(inspections)
                    .where(inspections.c.id == row.id)
                    .values(ctime_ns=mine.ctime_ns, device=mine.device, inode=mine.inode)
                )
                return None
            replaced.add(row.id)
        return replaced

    def _supersede(self, connection: Connection, ids: Sequence[int], now: datetime) -> None:
        if ids:
            connection.execute(
                update(inspections)
                .where(inspections.c.id.in_(ids))
                .values(superseded_at=now, released_at=now)
            )

    def _close(self, connection: Connection, closings: Sequence[Closing], now: datetime) -> None:
        done = [closing.id for closing in closings if not closing.superseded]
        for start in range(0, len(done), _CHUNK):
            connection.execute(
                update(inspections)
                .where(inspections.c.id.in_(done[start : start + _CHUNK]))
                .values(filed_at=now, released_at=now)
            )
        self._supersede(connection, [c.id for c in closings if c.superseded], now)

    def _rows(
        self,
        connection: Connection,
        drafts: Sequence[Draft],
        facts: BatchFacts,
        batch_id: int,
        destinations: Destinations,
        now: datetime,
    ) -> list[dict[str, Any]]:
        """Rows with their ids and destinations; ids come from AUTOINCREMENT's own counter."""
        last = connection.scalar(text("SELECT seq FROM sqlite_sequence WHERE name = 'inspections'"))
        next_id = int(last or 0) + 1
        earlier = self._earlier_ids(connection, [d.sha256 for d in drafts if d.sha256])
        chosen: set[tuple[Place, bytes]] = set()
        rows: list[dict[str, Any]] = []
        for id, draft in enumerate(drafts, start=next_id):
            arrival, stat = draft.arrival, draft.arrival.fingerprint
            destination = _choose(connection, draft.place, arrival.source, id, destinations, chosen)
            rows.append(
                {
                    "id": id,
                    "station": self._station,
                    "source": arrival.source,
                    "size_bytes": stat.size_bytes,
                    "mtime_ns": stat.mtime_ns,
                    "ctime_ns": stat.ctime_ns,
                    "device": stat.device,
                    "inode": stat.inode,
                    "sha256": draft.sha256,
                    "outcome": draft.outcome.value,
                    "score": draft.score,
                    "threshold": draft.threshold,
                    "model_pk": facts.model_pk if draft.score is not None else None,
                    "batch_id": batch_id,
                    "reason": draft.reason.value if draft.reason else None,
                    "detail": draft.detail,
                    "duplicate_of": earlier.get(draft.sha256) if draft.sha256 else None,
                    "settled_at": arrival.settled_at,
                    "settled_by": arrival.settled_by.value,
                    "inspected_at": now,
                    "place": draft.place.value,
                    "destination": destination,
                    "brightness": draft.brightness,
                    "sharpness": draft.sharpness,
                    "in_review_band": draft.in_review_band,
                    "filed_at": now if draft.place is Place.KEPT else None,
                }
            )
            if draft.sha256:
                earlier.setdefault(draft.sha256, id)
        return rows

    def _earlier_ids(self, connection: Connection, hashes: Sequence[bytes]) -> dict[bytes, int]:
        """For each hash the first inspection of the same bytes, if there was one."""
        query = (
            select(inspections.c.sha256, func.min(inspections.c.id))
            .where(inspections.c.sha256.in_(bindparam("hashes", expanding=True)))
            .group_by(inspections.c.sha256)
        )
        found: dict[bytes, int] = {}
        for start in range(0, len(hashes), _CHUNK):
            chunk = list(hashes[start : start + _CHUNK])
            for sha256, first in connection.execute(query, {"hashes": chunk}):
                found[sha256] = int(first)
        return found


def _choose(
    connection: Connection,
    place: Place,
    source: bytes,
    id: int,
    destinations: Destinations,
    chosen: set[tuple[Place, bytes]],
) -> bytes | None:
    """The first proposed name that neither a file, nor a row, nor this batch has taken."""
    attempt = 0
    while True:
        proposed = destinations.propose(place, source, id, attempt)
        if proposed is None:
            return None
        attempt += 1
        if (place, proposed) in chosen or destinations.taken(place, proposed):
            continue
        held = connection.scalar(
            select(inspections.c.id).where(
                tuple_(inspections.c.place, inspections.c.destination) == (place.value, proposed)
            )
        )
        if held is None:
            chosen.add((place, proposed))
            return proposed


def _filing_of(row: Any) -> Filing:
    return Filing(
        id=row["id"],
        source=row["source"],
        fingerprint=Fingerprint(
            row["size_bytes"], row["mtime_ns"], row["ctime_ns"], row["device"], row["inode"]
        ),
        sha256=row["sha256"],
        place=Place(row["place"]),
        destination=row["destination"],
        reason=QuarantineReason(row["reason"]) if row["reason"] else None,
        detail=row["detail"],
        inspected_at=row["inspected_at"],
    )
