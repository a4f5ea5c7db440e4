"""Runs something in a forked child below strace: where it may be killed, stopped or refused a call.

Knows system calls and their numbers; nothing of stations. A boundary is a call and how many of its
name the child's first thread had made, such as ``renameat2#3``: the same in every run of the same
scene, as everything that changes the world happens in that thread.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

# All that changes names or contents, or makes a change durable. Not each is there on each machine.
CHANGES = (
    "rename", "renameat", "renameat2", "link", "linkat", "symlink", "symlinkat", "unlink",
    "unlinkat", "mkdir", "mkdirat", "rmdir", "fsync", "fdatasync", "syncfs", "sync_file_range",
    "pwrite64", "pwritev", "write", "writev", "ftruncate", "truncate", "copy_file_range",
    "sendfile", "fallocate", "utimensat", "fchmod",
)  # fmt: skip
OPENS = ("open", "openat", "creat")

_CALL = re.compile(r"^(\d+) +(\w+)\((.*)$")
_PR_SET_PTRACER, _PR_SET_PTRACER_ANY = 0x59616D61, -1


@dataclass(frozen=True, slots=True, order=True)
class Boundary:
    """Just before the ``number``-th ``call`` of the child's first thread."""

    call: str
    number: int

    def __str__(self) -> str:
        return f"{self.call}#{self.number}"

    @classmethod
    def parse(cls, text: str) -> Boundary:
        call, number = text.split("#")
        return cls(call, int(number))

    def inject(self, what: str = "signal=SIGKILL") -> str:
        """The same as strace's own option has it."""
        return f"inject={self.call}:{what}:when={self.number}"


@dataclass(frozen=True, slots=True)
class Call:
    """A line of the trace that the first thread made; ``rest`` is arguments and result."""

    boundary: Boundary
    rest: str

    def touches(self, roots: Sequence[Path]) -> bool:
        return any(str(root) in self.rest for root in roots)


@dataclass(frozen=True, slots=True)
class Ended:
    """How the child ended: its exit status, or the signal's number below zero; what it said."""

    status: int
    said: str


def missing() -> str | None:
    """Why nothing can be traced here; None where it can."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    done = subprocess.run(
        ["strace", "-o", os.devnull, "-e", "trace=none", "true"], capture_output=True, check=False
    )
    return None if done.returncode == 0 else f"strace may not trace here: {done.stderr.decode()}"


def run(
    work: Callable[[], int],
    *,
    inject: Sequence[str] = (),
    trace: Sequence[str] = CHANGES,
    log: Path | None = None,
    whole: bool = False,
    paused: Callable[[], None] | None = None,
    beside: Callable[[], None] | None = None,
    said: Path,
    timeout_s: float = 60.0,
) -> Ended:
    """Forks, lets the child do ``work`` and returns how it ended.

    ``inject`` are options of strace; with ``log`` its trace is written there, all data included if
    ``whole``. ``paused`` is called when the child has been stopped by an injected SIGSTOP; it then
    goes on. ``beside`` is done while the child runs, which is then killed. ``said`` takes its standard output and error. Raises TimeoutError, the child killed.
    """
    child = _fork(work, said)
    tracer: subprocess.Popen[bytes] | None = None
    try:
        os.waitpid(child, os.WUNTRACED)  # it waits for its tracer
        if inject or log:
            tracer = _attach(child, inject, trace, log, whole=whole)
        os.kill(child, signal.SIGCONT)
        if beside is not None:
            beside()
            os.kill(child, signal.SIGKILL)
        status = _wait(child, paused, time.monotonic() + timeout_s)
    except BaseException:
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        raise
    finally:
        if tracer is not None:
            tracer.wait(10)
            if tracer.stderr is not None:
                tracer.stderr.close()
    return Ended(status, said.read_text("utf-8", "replace"))


def calls(log: Path, *, threads: bool = False) -> list[Call]:
    """What the first thread did, in order; with ``threads`` what each did, each counted for itself.

    Several of these may then be called by one name: strace counts by threads as well, and the first
    that comes to the number is the one that is met.
    """
    found: list[Call] = []
    counted: Counter[tuple[str, str]] = Counter()
    first = None
    with log.open(encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            match = _CALL.match(line)
            if match is None:
                first = first or line.split()[0]
                continue
            pid, call, rest = match.groups()
            first = first or pid
            if pid != first and not threads:
                continue
            counted[pid, call] += 1
            found.append(Call(Boundary(call, counted[pid, call]), rest))
    return found


def _fork(work: Callable[[], int], said: Path) -> int:
    sys.stdout.flush()
    sys.stderr.flush()
    with warnings.catch_warnings():
        # other threads of a test process only watch the clock: they hold no lock that is needed
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child:
        return child
    status = 70
    try:
        words = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        for each in (1, 2):
            os.dup2(words, each)
        ctypes.CDLL(None).prctl(_PR_SET_PTRACER, _PR_SET_PTRACER_ANY, 0, 0, 0)
        os.kill(os.getpid(), signal.SIGSTOP)
        status = work()
    except BaseException:  # noqa: BLE001 (the top of a process: told, then the end)
        os.write(2, traceback.format_exc().encode("utf-8", "backslashreplace"))
    finally:
        os._exit(status)


def _attach(
    child: int, inject: Sequence[str], trace: Sequence[str], log: Path | None, *, whole: bool
) -> subprocess.Popen[bytes]:
    options = ["-f", "-y", "-p", str(child), "-o", str(log or os.devnull)]
    options += ["-e", "trace=" + ",".join(f"?{each}" for each in trace)]
    options += ["-xx", "-s", "100000000"] if whole else ["-s", "8"]
    for each in inject:
        options += ["-e", each]
    tracer = subprocess.Popen(
        ["strace", *options], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    assert tracer.stderr is not None
    deadline = time.monotonic() + 20
    while True:
        with open(f"/proc/{child}/status", encoding="utf-8") as lines:
            if any(line.startswith("TracerPid:") and line.split()[1] != "0" for line in lines):
                return tracer
        if tracer.poll() is not None or time.monotonic() > deadline:
            tracer.kill()
            raise RuntimeError(f"strace did not attach: {tracer.stderr.read().decode()}")
        time.sleep(0.001)


def _wait(child: int, paused: Callable[[], None] | None, deadline: float) -> int:
    while True:
        pid, status = os.waitpid(child, os.WNOHANG | os.WUNTRACED)
        if pid and os.WIFSTOPPED(status):
            if paused is not None:
                paused()
            os.kill(child, signal.SIGCONT)
        elif pid:
            return os.waitstatus_to_exitcode(status)
        elif time.monotonic() > deadline:
            raise TimeoutError("the station did not come to an end")
        else:
            time.sleep(0.002)
