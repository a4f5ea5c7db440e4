"""Carries departures out: commit, rename, sync, commit; and takes up those that a kill left open.

Sees the books as a Protocol. What departs, and why, is for ``requeue``, ``repair`` and ``retention``
to say. The order of the steps is what makes a kill harmless at any of them:

1. the departures are committed (``begin``), each with its new name where it goes back to the inbox;
2. files are renamed: into the inbox without replacing, or aside to ``.crackwatch-<id>.gone`` and
   compared with their rows there;
3. to go for good: ``expired`` is committed, and only what it was committed for is unlinked; back in
   the inbox: the folders are synced, then what stood beside the picture is cleared away;
4. the folders are synced, and the departures ended in one transaction.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from crackwatch import locking
from crackwatch.domain import Departure, DepartureKind, DepartureResult
from crackwatch.errors import LockedError, SystemFault, UsageError
from crackwatch.filing.leaving import Leaver

AT_ONCE = 200  # departures of one round: three short transactions
LOCK_FILE = "departures.lock"  # in the state folder
LOCK_REFUSED = "departures_refused"
PATIENCE_S = 30.0

_ASK_AGAIN_S = 0.1


class Rows(Protocol):
    """The books: see ``store.departures.Departures``."""

    def open(self) -> list[Departure]: ...
    def begin(
        self, asked: Sequence[Departure], by: str, taken: Sequence[bytes] = ()
    ) -> list[Departure]: ...
    def retarget(self, id: int, target: bytes) -> None: ...
    def expire(self, ids: Sequence[int]) -> set[int]: ...
    def end(self, ended: Sequence[tuple[Departure, DepartureResult]]) -> None: ...
    def inspected_since(self, each: Departure) -> bool: ...
    def held(self, targets: Sequence[bytes]) -> set[bytes]: ...


@dataclass(frozen=True, slots=True)
class Departed:
    """How one departure ended; ``detail`` is for a person."""

    departure: Departure
    result: DepartureResult
    detail: str = ""


@contextlib.contextmanager
def alone(state: Path, patience_s: float = PATIENCE_S) -> Iterator[None]:
    """One process at a time moves files out of their places; waits for the other one.

    Raises LockedError where it takes longer than ``patience_s``, SystemFault where this user may not
    lock there.
    """
    deadline = time.monotonic() + patience_s
    with contextlib.ExitStack() as stack:
        while True:
            try:
                stack.enter_context(
                    locking.held(state / LOCK_FILE, "moving pictures out of their places")
                )
                break
            except LockedError:
                if time.monotonic() >= deadline:
                    raise
            except UsageError as exc:
                raise SystemFault(LOCK_REFUSED, exc.problem, exc.remedy) from exc
            time.sleep(_ASK_AGAIN_S)
        yield


class Departing:
    """Carries departures out on one station's books and folders; only within ``alone``."""

    def __init__(
        self, rows: Rows, leaver: Leaver, told: Callable[[Departed], None] = lambda _: None
    ) -> None:
        self._rows = rows
        self._leaver = leaver
        self._told = told

    def resume(self) -> list[Departed]:
        """Finishes what an earlier process began. Raises SystemFault."""
        left = self._rows.open()
        done: list[Departed] = []
        for start in range(0, len(left), AT_ONCE):
            done += self._carry_out(left[start : start + AT_ONCE], resumed=True)
        return done

    def back_to_inbox(
        self, asked: Sequence[tuple[Departure, bytes]], by: str
    ) -> Iterator[list[Departed]]:
        """Sends files back, a round at a time; each with the name it would have in the inbox."""
        for start in range(0, len(asked), AT_ONCE):
            some = asked[start : start + AT_ONCE]
            chosen: set[bytes] = set()
            aimed: list[Departure] = []
            for each, wanted in some:
                target = self._target(wanted, each, chosen)
                chosen.add(target)
                aimed.append(replace(each, target=target))
            yield self._carry_out(self._rows.begin(aimed, by, sorted(chosen)), resumed=False)

    def for_good(self, asked: Sequence[Departure], by: str) -> list[Departed]:
        """Lets one round of files go; at most ``AT_ONCE``."""
        return self._carry_out(self._rows.begin(asked, by), resumed=False)

    # --------------------------------------------------------------------------------- a round

    def _carry_out(self, some: Sequence[Departure], *, resumed: bool) -> list[Departed]:
        returns = [each for each in some if each.kind is DepartureKind.RETURN]
        expiries = [each for each in some if each.kind is DepartureKind.EXPIRY]
        done = [*self._return(returns, resumed=resumed), *self._expire(expiries)]
        if done:
            self._rows.end([(each.departure, each.result) for each in done])
        for each in done:
            self._told(each)
        return done

    def _return(self, some: Sequence[Departure], *, resumed: bool) -> list[Departed]:
        done = [self._return_one(each, resumed=resumed) for each in some]
        self._leaver.sync()
        for each in done:
            if each.result is DepartureResult.DONE:
                self._leaver.clear_after_return(each.departure)
        self._leaver.sync()
        return done

    def _return_one(self, each: Departure, *, resumed: bool) -> Departed:
        if resumed and self._leaver.crosses(each) and self._rows.inspected_since(each):
            # its copy was taken in before the source could be given up
            return Departed(each, DepartureResult.DONE)
        while True:
            result, detail = self._leaver.give_back(each)
            if result is DepartureResult.GONE and self._rows.inspected_since(each):
                return Departed(each, DepartureResult.DONE)
            if result is not DepartureResult.TAKEN:
                return Departed(each, result, detail)
            # committed before it is tried: a kill must leave no file that nobody looks for
            target = self._target(each.target or each.name, each, {each.target or b""})
            self._rows.retarget(each.id, target)
            each = replace(each, target=target)

    def _expire(self, some: Sequence[Departure]) -> list[Departed]:
        done: list[Departed] = []
        aside: list[tuple[Departure, int]] = []
        for each in some:
            result, detail = self._leaver.set_aside(each)
            if result is DepartureResult.DONE and each.inspection_id is not None:
                aside.append((each, each.inspection_id))
            elif result is DepartureResult.GONE and each.expired:
                self._leaver.remove(each)  # the picture was; what stood beside it may not have been
                done.append(Departed(each, DepartureResult.DONE))
            else:
                done.append(Departed(each, result, detail))
        expired = self._rows.expire([id for _, id in aside]) if aside else set()
        for each, id in aside:
            if id in expired:
                self._leaver.remove(each)
                done.append(Departed(each, DepartureResult.DONE))
            else:
                self._leaver.put_back(each)
                done.append(
                    Departed(
                        each,
                        DepartureResult.REFUSED,
                        "its row was superseded, or labelled, meanwhile",
                    )
                )
        self._leaver.sync()
        return done

    def _target(self, wanted: bytes, each: Departure, chosen: set[bytes]) -> bytes:
        def taken(name: bytes) -> bool:
            return name in chosen or bool(self._rows.held([name]))

        return self._leaver.free_target(wanted, each.inspection_id or each.id, taken)
