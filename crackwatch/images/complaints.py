"""Hears what image libraries say on C's standard error; knows no image library and no format.

libjpeg tells of damaged picture data in one way only: it writes a line on C's ``stderr``, makes up
the missing pixels and reports success, and OpenCV passes the picture on. So while a decoder runs,
C's ``stderr`` stands for a file in memory, which is read afterwards. This keeps such lines out of
the journal as well. Python's own ``sys.stderr`` writes to descriptor 2 and is not touched; lines
that no image library has written are handed on to descriptor 2. (What an assertion says that fails
inside a decoder is lost with the process; the picture is found all the same, by its journal.)

It needs glibc, where ``stderr`` is a variable that may be assigned. Elsewhere nothing is heard.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass

_UNBUFFERED = 2  # _IONBF of stdio.h

# Lines by which libjpeg says that picture data are missing or wrong. "Extraneous bytes before
# marker" is not among them up to a few bytes: cheap cameras pad so, and lose nothing by it. A scan
# that was damaged in the middle leaves many.
_DAMAGE = re.compile(
    rb"premature end of data segment|Premature end of JPEG|bad (?:Huffman|arithmetic) code"
    rb"|found marker \S+ instead of RST|\d{3,} extraneous bytes"
)

# Every other line that a decoder may say: of no interest to the journal.
_OF_A_DECODER = re.compile(
    rb"Corrupt JPEG data|Premature end of JPEG|Warning: |Invalid SOS|Inconsistent progression"
    rb"|Unknown Adobe|Application transferred|libpng |lib(?:tiff|webp)"
)


@dataclass(slots=True)
class Heard:
    """What was said during one listening.

    ``alone`` is true if nobody else listened at any moment of it: only then is ``text`` known to be
    about this one picture.
    """

    text: bytes = b""
    alone: bool = False

    @property
    def damage(self) -> str:
        """The first line that tells of damaged picture data; empty if there is none."""
        for line in self.text.splitlines():
            if _DAMAGE.search(line):
                return line.decode("ascii", "replace").strip()
        return ""


class Complaints:
    """Listens for several threads at once; one of these is made per process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._listeners = 0
        self._entries = 0  # listenings begun so far
        self._pointer: ctypes.c_void_p | None = None
        self._open()

    def _open(self) -> None:
        try:
            libc = ctypes.CDLL(None)
            pointer = ctypes.c_void_p.in_dll(libc, "stderr")
            self._descriptor = os.memfd_create("decoder-complaints", os.MFD_CLOEXEC)
        except (OSError, ValueError, AttributeError):
            return  # no glibc, or no Linux: deaf, and decoding goes on
        libc.fdopen.restype = ctypes.c_void_p
        libc.fdopen.argtypes = (ctypes.c_int, ctypes.c_char_p)
        libc.setvbuf.argtypes = (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_size_t)
        stream = libc.fdopen(self._descriptor, b"a")
        if stream:
            libc.setvbuf(stream, None, _UNBUFFERED, 0)
            self._stream = stream
            self._original = pointer.value
            self._pointer = pointer

    @contextlib.contextmanager
    def listening(self) -> Iterator[Heard]:
        """``Heard`` is filled in when the block ends."""
        heard = Heard()
        if self._pointer is None:
            yield heard
            return
        with self._lock:
            if self._listeners == 0:
                self._original = self._pointer.value
                self._pointer.value = self._stream
            self._listeners += 1
            self._entries += 1
            entry, others = self._entries, self._listeners - 1
            before = os.fstat(self._descriptor).st_size
        try:
            yield heard
        finally:
            with self._lock:
                self._listeners -= 1
                heard.alone = others == 0 and entry == self._entries
                after = os.fstat(self._descriptor).st_size
                heard.text = os.pread(self._descriptor, after - before, before)
                if self._listeners == 0:
                    self._pointer.value = self._original
                    self._forget(after)

    def _forget(self, size_bytes: int) -> None:
        """Empties the file; what others wrote to it goes where it was meant to go."""
        if not size_bytes:
            return
        said = os.pread(self._descriptor, size_bytes, 0)
        os.ftruncate(self._descriptor, 0)
        for line in said.splitlines(keepends=True):
            if not _OF_A_DECODER.match(line) and line.strip():
                os.write(2, line)
