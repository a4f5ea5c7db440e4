"""Only a picture that twice kills or hangs a child of its own is to blame."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest

from crackwatch import suspects
from crackwatch.domain import QuarantineReason
from crackwatch.errors import SystemFault, Untried
from crackwatch.suspects import CHILD, InFlightJournal, condemn
from tests.station import jpeg

CRASH, TIMEOUT = QuarantineReason.DECODER_CRASH, QuarantineReason.DECODER_TIMEOUT

# A child that dies of names, where the real one would die of contents. It writes down what it did.
DECODER = """
import os, signal, sys, time
log = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND)
max_pixels, larger, *files = sys.argv[2:]
os.write(log, (" ".join(os.path.basename(os.fsencode(f)).decode("latin-1") for f in files) + "\\n").encode())
if "always" in larger:
    sys.exit(3)
for file in map(os.path.basename, files):  # a test's name is in its folder's
    if "segfault" in file:
        os.kill(os.getpid(), signal.SIGSEGV)
    if "hang" in file:
        time.sleep(60)
    if "slow once" in file and len(files) == 1:
        time.sleep(60)
    if "spin" in file:
        while True:
            pass
    if "glutton" in file:
        held = bytearray(int(max_pixels) * 20 + (2 << 30))
    if "once" in file and not os.path.exists(sys.argv[1] + ".died"):
        open(sys.argv[1] + ".died", "w")
        os.abort()
"""


class Bench:
    def __init__(self, folder: Path) -> None:
        self.inbox = folder / "inbox"
        self.inbox.mkdir()
        self.log = folder / "log"
        self.log.touch()

    def condemned(
        self, *names: str | bytes, larger: str = "quarantine", patience_s: float = 20.0
    ) -> dict[bytes, QuarantineReason]:
        sources = [os.fsencode(name) for name in names]
        for source in sources:
            with open(os.path.join(os.fsencode(self.inbox), source), "wb"):
                pass
        return condemn(
            self.inbox,
            sources,
            100_000,
            larger,
            command=[sys.executable, "-S", "-c", DECODER, str(self.log)],
            patience_s=patience_s,
        )

    def runs(self) -> list[list[str]]:
        """What each child was given."""
        return [line.split() for line in self.log.read_text().splitlines()]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


# --------------------------------------------------------------------------------- who is to blame


def test_pictures_that_were_in_flight_and_can_be_decoded_are_not_to_blame(bench: Bench) -> None:
    assert bench.condemned("a.jpg", "b.jpg", "c.jpg") == {}
    assert bench.runs() == [["a.jpg", "b.jpg", "c.jpg"]]  # one child did for all


def test_the_one_that_kills_is_found_among_the_others(bench: Bench) -> None:
    assert bench.condemned("a.jpg", "segfault.jpg", "b.jpg") == {b"segfault.jpg": CRASH}
    assert bench.runs() == [
        ["a.jpg", "segfault.jpg", "b.jpg"],
        [],
        ["a.jpg"],
        ["segfault.jpg"],
        ["segfault.jpg"],
        ["b.jpg"],
    ]


def test_one_that_hangs_is_another_reason_and_is_not_waited_for_long(bench: Bench) -> None:
    began = time.monotonic()
    assert bench.condemned("spin.jpg", patience_s=1.5) == {b"spin.jpg": TIMEOUT}
    assert time.monotonic() - began < 40
    assert not [pid for pid in os.listdir("/proc") if _is_child_with(pid, str(bench.log))]


def _is_child_with(pid: str, argument: str) -> bool:
    try:
        return pid.isdecimal() and argument in Path(f"/proc/{pid}/cmdline").read_text("latin-1")
    except OSError:
        return False


def test_one_that_the_machine_keeps_waiting_is_not_to_blame(bench: Bench) -> None:
    """It spends no processor time: a share hangs, or others have the processor."""
    began = time.monotonic()
    with pytest.raises(Untried) as caught:
        bench.condemned("a.jpg", "hang.jpg", patience_s=1.5)
    assert caught.value.code == "suspects_untried" and caught.value.remedy
    assert "a.jpg" in caught.value.problem and caught.value.guilty == {}
    assert time.monotonic() - began < 20
    assert not [pid for pid in os.listdir("/proc") if _is_child_with(pid, str(bench.log))]


def test_who_was_found_before_the_machine_became_slow_stays_found(bench: Bench) -> None:
    names = [f"{n:02}.jpg" for n in range(32)]
    with pytest.raises(Untried) as caught:
        bench.condemned("segfault.jpg", "slow once.jpg", *names, patience_s=1.5)
    assert caught.value.guilty == {b"segfault.jpg": CRASH}


def test_several_culprits_are_all_found(bench: Bench) -> None:
    assert bench.condemned("segfault 1.jpg", "a.jpg", "segfault 2.jpg") == {
        b"segfault 1.jpg": CRASH,
        b"segfault 2.jpg": CRASH,
    }


def test_one_that_kills_only_once_is_not_to_blame(bench: Bench) -> None:
    assert bench.condemned("once.jpg") == {}
    (bench.log.with_name("log.died")).unlink()
    assert bench.condemned("a.jpg", "once.jpg") == {}


def test_where_a_child_dies_of_nothing_no_picture_is_to_blame(bench: Bench) -> None:
    assert bench.condemned("a.jpg", "segfault.jpg", larger="always") == {}
    assert bench.runs() == [["a.jpg", "segfault.jpg"], []]


def test_one_that_wants_more_memory_than_any_picture_needs_is_to_blame(bench: Bench) -> None:
    assert bench.condemned("glutton.jpg") == {b"glutton.jpg": CRASH}


def test_what_is_gone_is_nobodys_suspect(bench: Bench) -> None:
    assert condemn(bench.inbox, [b"gone.jpg"], 1, "resize", command=["/nonexistent"]) == {}
    assert condemn(bench.inbox, [], 1, "resize", command=["/nonexistent"]) == {}


def test_many_suspects_fit_the_command_lines_whatever_their_names(bench: Bench) -> None:
    deep = os.path.join(*["f" * 250] * 15)
    (bench.inbox / deep).mkdir(parents=True)
    names = [os.path.join(deep, f"{n:02}.jpg") for n in range(70)] + ["segfault.jpg"]
    assert bench.condemned(*names) == {b"segfault.jpg": CRASH}
    together = [len(run) for run in bench.runs()]
    assert together[:4] == [32, 32, 7, 0]  # only the last group is gone through one by one
    assert len(together) == 4 + 6 + 2


def test_names_that_are_no_text_reach_the_child_as_they_are(bench: Bench) -> None:
    name = b"segfault \xff\n.jpg"
    assert bench.condemned(name) == {name: CRASH}


def test_where_no_child_can_be_started_the_station_is_at_fault(bench: Bench) -> None:
    (bench.inbox / "a.jpg").touch()
    with pytest.raises(SystemFault) as caught:
        condemn(bench.inbox, [b"a.jpg"], 1, "resize", command=["/nonexistent"])
    assert caught.value.code == "no_child" and caught.value.remedy


def test_a_child_is_limited_as_far_as_the_station_itself_may_go(bench: Bench) -> None:
    """systemd may have set a limit below ours: raising it would be refused."""
    program = "import resource, sys\nprint(*(resource.getrlimit(each) for each in ("
    program += "resource.RLIMIT_AS, resource.RLIMIT_CORE, resource.RLIMIT_CPU)), "
    program += "file=open(sys.argv[1], 'a'))\nsys.stdin.close()\nimport time; time.sleep(0.3)\n"
    program += "print(*(resource.getrlimit(each) for each in ("
    program += "resource.RLIMIT_AS, resource.RLIMIT_CORE, resource.RLIMIT_CPU)), "
    program += "file=open(sys.argv[1], 'a'))"
    (bench.inbox / "a.jpg").touch()
    condemn(
        bench.inbox,
        [b"a.jpg"],
        1_000_000,
        "resize",
        command=[sys.executable, "-S", "-c", program, str(bench.log)],
        patience_s=10,
    )
    memory = (1 << 30) + 20_000_000
    _, allowed = resource.getrlimit(resource.RLIMIT_AS)
    if allowed != resource.RLIM_INFINITY:
        memory = min(memory, allowed)
    last = bench.log.read_text().splitlines()[-1]
    assert last == f"{(memory, memory)} (0, 0) (21, 21)"


# -------------------------------------------------------------------------------- the real child


def test_the_real_child_decodes_what_it_is_given_and_dies_of_nothing(bench: Bench) -> None:
    files = {
        b"good.jpg": jpeg(dark=True),
        b"cut.jpg": jpeg(dark=True)[:2000],
        b"text.jpg": b"no picture",
        b"empty.jpg": b"",
        b"latin-\xff\n.jpg": jpeg(dark=False),
    }
    for name, content in files.items():
        with open(os.path.join(os.fsencode(bench.inbox), name), "wb") as file:
            file.write(content)
    os.mkfifo(bench.inbox / "pipe.jpg")
    (bench.inbox / "link.jpg").symlink_to("good.jpg")
    sources = [*files, b"pipe.jpg", b"link.jpg", b"gone.jpg"]
    assert condemn(bench.inbox, sources, 120_000_000, "quarantine") == {}
    assert how_it_ended(bench.inbox, sources, 120_000_000) is None
    paths = [os.path.join(os.fsencode(bench.inbox), source) for source in sources]
    command = [*CHILD, "120000000", "quarantine", *paths]
    told = subprocess.run(command, capture_output=True, check=True).stdout
    assert len(told.splitlines()) == len(sources)


def how_it_ended(inbox: Path, sources: list[bytes], max_pixels: int) -> QuarantineReason | None:
    """How the real child ends under the limits that it is given by the station."""
    paths = [os.path.join(os.fsencode(inbox), source) for source in sources]
    command = [*CHILD, str(max_pixels), "quarantine", *paths]
    return suspects._end(command, suspects._memory_bytes(max_pixels), 60.0)


@pytest.mark.parametrize("names", [[], [b"a.jpg"]])
def test_the_real_child_lives_within_the_least_memory_that_it_can_be_given(
    bench: Bench, names: list[bytes]
) -> None:
    """Otherwise it would die of decoding nothing, and no culprit would ever be found."""
    (bench.inbox / "a.jpg").write_bytes(jpeg(dark=True))
    assert how_it_ended(bench.inbox, names, 227 * 227) is None


# ------------------------------------------------------------------------------------ the journal


def test_the_journal_names_what_a_dead_process_was_decoding(tmp_path: Path) -> None:
    names = [b"a.jpg", b"sub/b.jpg", b"latin-\xff\n\\.jpg"]
    dead = InFlightJournal(tmp_path / "in-flight.json")
    assert dead.left_over() == []
    dead.begin(names)
    dead.close()
    heir = InFlightJournal(tmp_path / "in-flight.json")
    assert heir.left_over() == names
    heir.begin([b"c.jpg"])
    assert heir.left_over() == [b"c.jpg"]
    heir.end()
    heir.close()
    assert (tmp_path / "in-flight.json").read_bytes() == b""


@pytest.mark.parametrize("text", [b'["a.jpg", "b', b"\xff\xfe", b"5", b'{"a": 1}', b"[5, null]"])
def test_a_journal_that_was_cut_short_accuses_nobody(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "in-flight.json").write_bytes(text)
    journal = InFlightJournal(tmp_path / "in-flight.json")
    assert journal.left_over() == []
    journal.close()


@pytest.mark.parametrize(
    ("code", "name"),
    [(errno.ENOSPC, "disk_full"), (errno.EDQUOT, "disk_full"), (errno.EIO, "journal_failed")],
)
@pytest.mark.parametrize("call", ["pwrite", "ftruncate"])
def test_a_full_disk_pauses_the_station_and_does_not_end_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, code: int, name: str
) -> None:
    journal = InFlightJournal(tmp_path / "in-flight.json")

    def failing(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, call, failing)
    with pytest.raises(SystemFault) as caught:
        journal.begin([b"a.jpg"])
    assert caught.value.code == name and caught.value.remedy
    if call == "ftruncate":
        with pytest.raises(SystemFault):
            journal.end()
    monkeypatch.undo()
    journal.begin([b"a.jpg"])
    journal.close()


@pytest.mark.parametrize(
    ("call", "code", "name"),
    [
        ("open", errno.EACCES, "journal_failed"),
        ("open", errno.ENOSPC, "disk_full"),
        ("pread", errno.EIO, "journal_failed"),
    ],
)
def test_a_journal_that_cannot_be_opened_or_read_says_so_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, code: int, name: str
) -> None:
    def failing(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    file = tmp_path / "in-flight.json"
    file.write_text("[]")
    monkeypatch.setattr(os, call, failing)
    with pytest.raises(SystemFault) as caught:
        InFlightJournal(file).left_over()
    assert caught.value.code == name and "in-flight.json" in str(caught.value)
