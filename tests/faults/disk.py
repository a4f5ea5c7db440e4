"""A disk that forgets: replays a trace of system calls, and drops what was not synced when it ends.

Knows names, contents and what makes them durable; nothing of stations. The rules are those that a
program may rely on, and no more: ``fsync`` and ``fdatasync`` of a file keep its contents, of a folder
the names in it; ``syncfs`` keeps all of a file system; a rename happens whole or not at all; anything
else may be there after a power cut or not, each piece for itself.
"""

from __future__ import annotations

import os
import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_LINE = re.compile(r"^(\d+) +(.*)$")
_UNFINISHED = re.compile(r"^(\w+)\((.*) <unfinished \.\.\.>$")
_RESUMED = re.compile(r"^<\.\.\. (\w+) resumed>(.*)$")
_CALL = re.compile(r"^(\w+)\((.*)\) += (-?\d+)")
_TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_OF_DESCRIPTOR = re.compile(r"^-?\w+<((?:\\x[0-9a-f]{2})*)>")
_MTIME = re.compile(r"\{tv_sec=(\d+), tv_nsec=(\d+)\}[^{]*\{tv_sec=(\d+), tv_nsec=(\d+)\}")


@dataclass(frozen=True, slots=True)
class Done:
    """One call that succeeded: what it was given as paths, as data, and as the rest of its text."""

    call: str
    paths: tuple[str, ...]
    data: bytes
    text: str


@dataclass(slots=True)
class Content:
    data: bytearray = field(default_factory=bytearray)
    mtime_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """Something that happened and is not durable yet.

    ``kind`` is link, unlink, rename, mkdir or rmdir for names (``path``, ``to``), write, truncate or
    utime for the content ``of``.
    """

    kind: str
    path: str = ""
    to: str = ""
    of: int = 0
    at: int = 0
    data: bytes = b""

    @property
    def folders(self) -> set[str]:
        return {os.path.dirname(each) for each in (self.path, self.to) if each}


def read(log: Path) -> Iterator[Done]:
    """The successful calls of a trace that strace wrote whole (-xx, -y), in order of their end."""
    begun: dict[str, str] = {}
    with log.open(encoding="utf-8") as lines:
        for line in lines:
            match = _LINE.match(line.rstrip("\n"))
            if match is None:
                continue
            pid, text = match.groups()
            unfinished = _UNFINISHED.match(text)
            if unfinished:
                begun[pid] = f"{unfinished[1]}({unfinished[2]}"
                continue
            resumed = _RESUMED.match(text)
            if resumed:
                text = begun.pop(pid, "") + resumed[2]
            call = _CALL.match(text)
            if call is not None and int(call[3]) >= 0:
                done = _done(call[1], call[2])
                if done is not None:
                    yield done


def _done(call: str, arguments: str) -> Done | None:
    texts = [_bytes(each) for each in _TEXT.findall(arguments)]
    descriptor = _OF_DESCRIPTOR.match(arguments)
    own = os.fsdecode(_bytes(descriptor[1])) if descriptor else ""
    plain = _TEXT.sub("", arguments)
    if call in ("write", "pwrite64"):
        return Done(call, (own,), texts[0] if texts else b"", plain)
    if call in ("fsync", "fdatasync", "syncfs", "ftruncate", "fchmod") or (
        call == "utimensat" and not texts
    ):
        return Done(call, (own,), b"", plain)
    if call in ("open", "openat", "creat") and "O_CREAT" not in arguments and call != "creat":
        return None
    # relative ones are relative to the descriptor that is named before them
    paths = [os.path.join(own, os.fsdecode(each)) for each in texts]
    return Done(call, tuple(paths), b"", plain)


def _bytes(escaped: str) -> bytes:
    return bytes.fromhex(escaped.replace("\\x", ""))


class Disk:
    """What is on disk, what is only in memory, and what a power cut would leave.

    ``roots`` are folders that lie on one file system each; what is outside is not looked at, nor are
    names that end like one of ``forgotten``.
    """

    def __init__(self, roots: Sequence[Path], forgotten: Sequence[str] = ("-shm",)) -> None:
        self._roots = [str(root) for root in roots]
        self._forgotten = tuple(forgotten)
        self._kept = Tree()  # durable
        self._live = Tree()  # as the processes see it
        self._waiting: list[Change] = []
        self._inodes = 0

    def load(self, durable: bool, path: str, data: bytes | None, mtime_ns: int) -> None:
        """Takes in a file, or a folder (no data); with ``durable`` it survives everything."""
        if not self._mine(path):
            return
        changes = [Change("mkdir", path)]
        if data is not None:
            of = self._new()
            changes = [
                Change("link", path, of=of),
                Change("write", of=of, data=data),
                Change("utime", of=of, at=mtime_ns),
            ]
        for change in changes:
            self._live.apply(change)
            if durable:
                self._kept.apply(change)
            else:
                self._waiting.append(change)

    def do(self, done: Done) -> None:
        """Lets one call happen."""
        if not all(map(self._mine, done.paths)) or not done.paths:
            return
        path = done.paths[0]
        if done.call in ("fsync", "fdatasync"):
            of = self._live.names.get(path)
            if of:  # contents only: a file's name is its folder's
                self._sync(lambda each: each.of == of and not each.path)
            else:
                self._sync(lambda each: path in each.folders)
        elif done.call == "syncfs":
            root = self._root(path)
            names = {of for name, of in self._live.names.items() if self._root(name) == root}
            self._sync(
                lambda each: each.of in names or any(self._root(f) == root for f in each.folders)
            )
        else:
            for change in self._changes(done, path):
                self._live.apply(change)
                self._waiting.append(change)

    def cut(self, chance: random.Random) -> Tree:
        """What a power cut leaves: all that was synced, and of the rest what chance keeps.

        Half the time as a journal would have it, the oldest first; else each piece for itself.
        """
        left = self._kept.copy()
        if chance.random() < 0.5:
            kept = self._waiting[: chance.randint(0, len(self._waiting))]
        else:
            share = chance.random()
            kept = [each for each in self._waiting if chance.random() < share]
        for change in kept:
            left.apply(change)
        return left

    def _changes(self, done: Done, path: str) -> list[Change]:
        numbers = [part.strip() for part in done.text.split(",")]
        of = self._live.names.get(path, 0)
        match done.call:
            case "open" | "openat" | "creat":
                if of:
                    truncated = "O_TRUNC" in done.text or done.call == "creat"
                    return [Change("truncate", of=of, at=0)] if truncated else []
                return [Change("link", path, of=self._new())]
            case "write":
                return [Change("write", of=of, at=-1, data=done.data)] if of else []
            case "pwrite64":
                return [Change("write", of=of, at=int(numbers[-1]), data=done.data)] if of else []
            case "ftruncate":
                return [Change("truncate", of=of, at=int(numbers[-1]))] if of else []
            case "utimensat":
                times = _MTIME.search(done.text)
                if not (of and times):
                    return []
                return [Change("utime", of=of, at=int(times[3]) * 10**9 + int(times[4]))]
            case "rename" | "renameat" | "renameat2":
                return [Change("rename", path, done.paths[1])]
            case "unlink" | "unlinkat":
                return [Change("unlink", path)]
            case "mkdir" | "mkdirat":
                return [Change("mkdir", path)]
            case "rmdir":
                return [Change("rmdir", path)]
            case "fchmod":
                return []
        raise NotImplementedError(f"{done.call} changes the disk, and is not understood here")

    def _sync(self, concerned: Callable[[Change], bool]) -> None:
        left = []
        for change in self._waiting:
            if concerned(change):
                self._kept.apply(change)
            else:
                left.append(change)
        self._waiting = left

    def _new(self) -> int:
        self._inodes += 1
        return self._inodes

    def _mine(self, path: str) -> bool:
        return self._root(path) is not None and not path.endswith(self._forgotten)

    def _root(self, path: str) -> str | None:
        return next((root for root in self._roots if (path + "/").startswith(root + "/")), None)


class Tree:
    """Names, and the contents that they lead to."""

    def __init__(self) -> None:
        self.names: dict[str, int] = {}
        self.contents: dict[int, Content] = {}
        self.folders: set[str] = set()

    def copy(self) -> Tree:
        other = Tree()
        other.names = dict(self.names)
        other.folders = set(self.folders)
        other.contents = {
            of: Content(bytearray(each.data), each.mtime_ns) for of, each in self.contents.items()
        }
        return other

    def apply(self, change: Change) -> None:
        """Does what can be done: a name without its folder, or whose file is not there, is lost."""
        match change.kind:
            case "mkdir":
                self.folders.add(change.path)
            case "rmdir":
                self.folders.discard(change.path)
            case "link":
                self.names[change.path] = change.of
            case "unlink":
                self.names.pop(change.path, None)
            case "rename":
                if change.path in self.names:
                    self.names[change.to] = self.names.pop(change.path)
            case "write":
                held = self.contents.setdefault(change.of, Content()).data
                at = len(held) if change.at < 0 else change.at
                if len(held) < at:
                    held.extend(bytes(at - len(held)))
                held[at : at + len(change.data)] = change.data
            case "truncate":
                held = self.contents.setdefault(change.of, Content()).data
                del held[change.at :]
                held.extend(bytes(max(0, change.at - len(held))))
            case "utime":
                self.contents.setdefault(change.of, Content()).mtime_ns = change.at

    def write(self, moved: dict[str, str]) -> None:
        """Makes it real; ``moved`` maps each root to the folder that it is written to."""
        for folder in sorted(self.folders):
            place = _moved(folder, moved)
            if os.path.isdir(os.path.dirname(place)):  # else its parent's name was lost
                os.makedirs(place, exist_ok=True)
        for name, of in self.names.items():
            place = _moved(name, moved)
            if not os.path.isdir(os.path.dirname(place)):
                continue
            content = self.contents.get(of, Content())
            with open(place, "wb") as file:
                file.write(content.data)
            if content.mtime_ns is not None:
                os.utime(place, ns=(content.mtime_ns, content.mtime_ns))


def _moved(path: str, moved: dict[str, str]) -> str:
    root = next(root for root in moved if (path + "/").startswith(root + "/"))
    return moved[root] + path[len(root) :]
