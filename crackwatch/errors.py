"""The error tree, whole; each adapter turns its library's exceptions into one of these at its edge.

::

    CrackwatchError                 an operator reads its text: operation, path, next step
    ├── UsageError                  exit 2: what was asked for cannot be done as asked
    │   ├── SettingsError           exit 2: config.toml or the environment
    │   ├── WhenError               exit 2: --since or --until not understood
    │   ├── DatasetError            exit 2: labelled folders: too few, missing, unreadable
    │   └── PromiseError            exit 2: the examples cannot support what was asked of a threshold
    ├── LockedError                 exit 3: another instance holds the station or the model folder
    ├── ModelError                  exit 4: no usable model
    │   ├── ModelMissing            exit 4: no champion, or no such id
    │   ├── ModelTampered           exit 4: files do not match the card
    │   ├── ModelDisagrees          exit 4: export or golden pictures differ from what they should be
    │   └── TrainingFailed          exit 4: a training process ended without a result
    ├── StoreError                  exit 5: the database cannot be used
    │   └── StoreVersionError       exit 5: not migrated, or newer than this program
    └── SystemFault                 exit 5 or 2: intake pauses, says why, tries again: never the picture's fault
        ├── Untried                 exit 2: a machine too slow to tell whether a picture hangs the decoder
        ├── ReadFault               exit 2: one file of the inbox cannot be read: its place on the disk, or all of it
        └── PartlyUnreadable        exit 2: a walk came to its end, but had to pass over parts of the inbox

    Unreadable                      a picture's own fault: it is quarantined with this reason
    Unsettled                       the file changed while it was read: it goes back to wait
"""

from __future__ import annotations

from crackwatch.domain import QuarantineReason

EXIT_DONE = 0
EXIT_FOUND = 1
EXIT_USAGE = 2
EXIT_LOCKED = 3
EXIT_NO_MODEL = 4
EXIT_NO_DATABASE = 5


class CrackwatchError(Exception):
    """Base of everything a person at the station may be shown.

    ``problem`` says what was wrong and names the file; ``remedy`` says what to do about it.
    """

    exit_status: int = EXIT_USAGE

    def __init__(self, problem: str, remedy: str = "") -> None:
        super().__init__(problem, remedy)
        self.problem = problem
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.problem}\n{self.remedy}" if self.remedy else self.problem


class UsageError(CrackwatchError):
    """What was asked for cannot be done as it was asked."""


class SettingsError(UsageError):
    """config.toml, or an override in the environment, cannot be used."""


class WhenError(UsageError):
    """A point in time was not understood."""


class DatasetError(UsageError):
    """A folder of labelled pictures cannot be used."""


class PromiseError(UsageError):
    """The examples cannot support what was asked of a threshold.

    ``needed`` is how many independent examples would do at best; None where no number would.
    """

    def __init__(self, problem: str, remedy: str = "", *, have: int, needed: int | None) -> None:
        super().__init__(problem, remedy)
        self.have = have
        self.needed = needed


class LockedError(CrackwatchError):
    """Another process holds the station or the model folder."""

    exit_status = EXIT_LOCKED


class ModelError(CrackwatchError):
    """There is no model that could judge."""

    exit_status = EXIT_NO_MODEL


class ModelMissing(ModelError):
    """No champion, or no model of that id."""


class ModelTampered(ModelError):
    """A model's files do not match its card."""


class ModelDisagrees(ModelError):
    """An export, or the golden pictures, give other scores than they should."""


class TrainingFailed(ModelError):
    """A training process ended without a result."""


class StoreError(CrackwatchError):
    """The database cannot be used."""

    exit_status = EXIT_NO_DATABASE


class StoreVersionError(StoreError):
    """The database's schema is not the one this program was written for."""


class SystemFault(CrackwatchError):
    """Disk full, database locked, I/O error: the station's fault, never a picture's.

    ``code`` is the stable name under which ``status`` lists it. A command that cannot wait for it
    to end exits with 5 where the database is what cannot be used, else with 2.
    """

    def __init__(self, code: str, problem: str, remedy: str = "") -> None:
        super().__init__(problem, remedy)
        self.code = code
        if code.startswith("database"):
            self.exit_status = EXIT_NO_DATABASE


class Untried(SystemFault):
    """Whether pictures kill or hang the decoder could not be found out, except of ``guilty``."""

    def __init__(
        self, code: str, problem: str, remedy: str, *, guilty: dict[bytes, QuarantineReason]
    ) -> None:
        super().__init__(code, problem, remedy)
        self.guilty = guilty


class ReadFault(SystemFault):
    """One file of the inbox could not be read. ``why`` is what the system said."""

    def __init__(self, code: str, problem: str, remedy: str, *, why: str) -> None:
        super().__init__(code, problem, remedy)
        self.why = why


class PartlyUnreadable(SystemFault):
    """All of the inbox was looked at, except ``sources``, some of what had to be passed over.

    What lies below those is not known: it may be there or not.
    """

    def __init__(self, code: str, problem: str, remedy: str, *, sources: tuple[bytes, ...]) -> None:
        super().__init__(code, problem, remedy)
        self.sources = sources


class Unreadable(Exception):
    """A picture cannot be inspected; ``detail`` is for a person, ``reason`` for scripts."""

    def __init__(self, reason: QuarantineReason, detail: str) -> None:
        super().__init__(f"{reason.value}: {detail}")
        self.reason = reason
        self.detail = detail


class Unsettled(Exception):
    """The file changed, or went away, between being listed and being read."""
