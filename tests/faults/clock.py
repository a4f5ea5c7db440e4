"""A wall clock that can be set for one process: what `date -s` does to a machine, done to a station.

A library of a few lines, loaded before the C library, adds the seconds that stand in a shared file to
every answer about the wall clock; monotonic clocks stay as they are. The kernel's own times of files
are not moved: to the station they look like those of files from before the clock was set, which is
the harder case. Needs a C compiler.
"""

from __future__ import annotations

import mmap
import os
import shutil
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

_SOURCE = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile const long *ahead_s;

__attribute__((constructor)) static void begin(void)
{
    const char *file = getenv("CRACKWATCH_TEST_CLOCK");
    int at = file ? open(file, O_RDONLY | O_CLOEXEC) : -1;
    void *page = at < 0 ? MAP_FAILED : mmap(0, sizeof(long), PROT_READ, MAP_SHARED, at, 0);
    if (at >= 0)
        close(at);
    if (page != MAP_FAILED)
        ahead_s = page;
}

int clock_gettime(clockid_t id, struct timespec *now)
{
    long failed = syscall(SYS_clock_gettime, id, now);
    if (!failed && ahead_s && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE))
        now->tv_sec += *ahead_s;
    return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    (void)zone;
    struct timespec exact;
    int failed = clock_gettime(CLOCK_REALTIME, &exact);
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return failed;
}

time_t time(time_t *where)
{
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    if (where)
        *where = exact.tv_sec;
    return exact.tv_sec;
}
"""


class Clock:
    """The wall clock of every process that is started with ``environment``."""

    def __init__(self, folder: Path) -> None:
        compiler = shutil.which("cc") or shutil.which("gcc")
        if compiler is None:
            pytest.skip("a clock of its own needs a C compiler")
        library, source = folder / "clock.so", folder / "clock.c"
        source.write_text(_SOURCE)
        command = [compiler, "-O1", "-shared", "-fPIC", "-o", str(library), str(source)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode:
            pytest.skip(f"a clock of its own cannot be built: {done.stderr[-500:]}")
        file = folder / "ahead"
        file.write_bytes(struct.pack("@l", 0))
        with file.open("r+b") as opened:
            self._page = mmap.mmap(opened.fileno(), 0)
        self.environment = {"LD_PRELOAD": str(library), "CRACKWATCH_TEST_CLOCK": str(file)}

    def set_ahead(self, seconds: int) -> None:
        """Sets the clock, as seconds ahead of the machine's; at once, in the running process."""
        self._page[:] = struct.pack("@l", seconds)

    def tells(self) -> int:
        """Seconds ahead of the machine's, as a new process sees it: proves that it works."""
        done = subprocess.run(
            [sys.executable, "-c", "import time; print(time.time())"],
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        return round(float(done.stdout) - time.time())
