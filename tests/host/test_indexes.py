"""The host's care for Chroma's indexes, when it is interrupted itself, and on every kind of damage."""

from __future__ import annotations

import contextlib
import hashlib
import os
import pickle
import re
import shutil
import sqlite3
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from tests.host.chroma_servers import CURRENT, LAST_PYTHON, ChromaServer
from tests.host.kills import Operations, indexes
from tests.host.programs import HOST, program, wait_until

FILES = ("header.bin", "data_level0.bin", "length.bin", "link_lists.bin", "index_metadata.pickle")
WRITES = "write pwrite64 pwritev rename renameat renameat2 unlink unlinkat rmdir mkdir mkdirat fsync"
WRITES += " fdatasync ftruncate utimensat copy_file_range sendfile"
NEED_ROOM = {"write", "pwrite64", "mkdir", "mkdirat", "rename", "renameat", "ftruncate", "fsync"}
MOST_FAULTS = 12


class Served:
    """A Chroma that is stopped, what it held, and a comparer."""

    def __init__(self, folder: Path, undo: ExitStack) -> None:
        self.data = folder / "data"
        self.kept = folder / "kept"
        self._server = ChromaServer(CURRENT, folder)
        undo.callback(self._server.stop)
        self._operations = Operations(self._server, often=50, seldom=400)
        undo.callback(self._operations.close)
        assert not indexes("checkpoint", self.data).returncode
        # Half of the indexes get a checkpoint, the others need the whole log.
        self._write_until(lambda: self._check().count("not written yet") == 2)
        assert indexes("checkpoint", self.data).stdout.count(": copied") == 2
        self._server.start()
        self._write_until(self._is_much)
        shutil.copytree(self.data, self.kept)

    def _check(self) -> str:
        return indexes("check", self.data).stdout

    def _is_much(self) -> bool:
        """All indexes are written, and a new checkpoint of each is due."""
        said = self._check()
        [kept] = re.findall(r"\tlarge\t.*log: (\d+) kept", said)
        return "not written yet" not in said and int(kept) > 600

    def _write_until(self, true: Callable[[], object]) -> None:
        def moment() -> None:
            wait_until(true, "enough is written", 120)
            self._server.stop()

        self._operations.write_until_killed(self._server, moment)
        self._server.start()
        self._operations.compare()
        self._server.stop()

    def serves(self, data: Path) -> None:
        """Chroma finds every record in the data."""
        shutil.rmtree(self.data)
        shutil.copytree(data, self.data)
        self._server.start()
        try:
            self._operations.compare()
        finally:
            self._server.stop()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with ExitStack() as undo:
        yield Served(tmp_path_factory.mktemp("served"), undo)


@pytest.fixture
def data(served: Served, tmp_path: Path) -> Path:
    """A copy of what the stopped server left."""
    return Path(shutil.copytree(served.kept, tmp_path / "data"))


class Database:
    """What Chroma's tables and folders hold, read apart from the program."""

    def __init__(self, data: Path) -> None:
        self.data = data
        with contextlib.closing(sqlite3.connect(data / "chroma.sqlite3")) as database:
            self.segments = {
                segment: (collection, name, seq)
                for segment, collection, name, seq in database.execute(
                    "SELECT s.id, c.id, c.name || d.name, m.seq_id FROM segments s"
                    " JOIN collections c ON c.id = s.collection JOIN databases d"
                    " ON d.id = c.database_id LEFT JOIN max_seq_id m ON m.segment_id = s.id"
                    " WHERE s.scope = 'VECTOR'"
                )
            }
            self.log = {
                collection: [
                    seq
                    for (seq,) in database.execute(
                        "SELECT seq_id FROM embeddings_queue WHERE topic LIKE ? ORDER BY 1",
                        [f"%/{collection}"],
                    )
                ]
                for collection, _, _ in self.segments.values()
            }
            [[self.integrity]] = database.execute("PRAGMA integrity_check")

    def folder(self, name: str) -> Path:
        """Of the only index of this name and database."""
        [segment] = [it for it, (_, found, _) in self.segments.items() if found == name]
        return self.data / segment

    def indexes(self) -> dict[str, tuple[str, int | None]]:
        """Of each segment the files of its index, and up to where it needs no log."""
        return {segment: (digest(self.data / segment), row[2]) for segment, row in self.segments.items()}

    def checkpoints(self) -> dict[str, tuple[str, int | None]]:
        found = {}
        for folder in self.data.glob("checkpoints/*/*"):
            if folder.name.isdigit():
                found[folder.parent.name] = (digest(folder), int(folder.name))
        return found


def digest(folder: Path) -> str:
    """Of the files of an index, or nothing when it has none."""
    files = [folder / name for name in FILES if (folder / name).exists()]
    whole = b"".join(file.name.encode() + file.read_bytes() for file in files)
    return hashlib.sha256(whole).hexdigest() if files else ""


def assert_nothing_is_lost(data: Path, before: Database) -> str:
    """After a repair each index is one of those that there were, or none, with all of the log that it
    needs. Returns which, so that Chroma has to be asked only once for each outcome."""
    assert indexes("check", data).returncode == 0, indexes("check", data)
    now = Database(data)
    assert now.integrity == "ok"
    assert now.segments.keys() == before.segments.keys()
    outcome = []
    for segment, (files, seq) in now.indexes().items():
        collection = now.segments[segment][0]
        known = [before.indexes()[segment], before.checkpoints().get(segment), ("", None)]
        assert (files, seq) in known, f"{segment} is none of {known}: {files}, {seq}"
        needed = {it for it in before.log[collection] if it > (seq or 0)}
        assert needed <= set(now.log[collection]), f"{segment} lacks log"
        if seq is None:
            assert now.log[collection] == before.log[collection]
        outcome.append((segment, known.index((files, seq)), len(now.log[collection])))
    return str(sorted(outcome))


def strace(data: Path, command: str, *options: str) -> subprocess.CompletedProcess[str]:
    follow = [program("strace"), "-f", "-qq"]
    return subprocess.run(
        [*follow, *options, HOST / "indexes", command, data], capture_output=True, text=True
    )


def calls(data: Path, command: str) -> list[str]:
    """The system calls by which the program writes, in their order."""
    out = data.with_name("calls")
    names = ",".join(f"?{name}" for name in WRITES.split())
    done = strace(data, command, "-o", str(out), "-e", f"trace={names}")
    assert done.returncode == 0, done
    return re.findall(r"^\d+ +(\w+)\(", out.read_text(), re.MULTILINE)


def killed_at(made: list[str], number: int) -> list[str]:
    """Just before a call."""
    name, nth = made[number], made[: number + 1].count(made[number])
    return ["-e", f"trace={name}", "-e", f"inject={name}:signal=SIGKILL:when={nth}"]


def without_room_from(made: list[str], number: int) -> list[str]:
    before = Counter(made[:number])
    options = [
        f"inject={name}:error=ENOSPC:when={before[name] + 1}+"
        for name in sorted(NEED_ROOM.intersection(made))
    ]
    names = ",".join(NEED_ROOM.intersection(made))
    return ["-e", f"trace={names}", *(word for option in options for word in ("-e", option))]


def spread(count: int) -> list[int]:
    """All numbers below, or so many of them, with the first and the last."""
    most = min(count, MOST_FAULTS)
    return sorted({round(number * (count - 1) / (most - 1)) for number in range(most)})


def tear(folder: Path) -> None:
    """As a Chroma that is killed while it writes an index: some files are new, the pickle is not."""
    time.sleep(0.001)
    with (folder / FILES[1]).open("r+b") as file:
        file.write(os.urandom(5000))


def tear_all(data: Path) -> None:
    for segment in Database(data).segments:
        tear(data / segment)


FAULTS = {"killed": killed_at, "without room": without_room_from}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("command", ["checkpoint", "repair"])
def test_a_fault_at_any_write_of_the_program_costs_nothing(
    served: Served, data: Path, command: str, fault: str
) -> None:
    """Not even when all indexes are torn after a checkpoint with a fault."""
    if command == "repair":
        tear_all(data)
    before = Database(served.kept)
    trial = data.with_name("trial")
    shutil.copytree(data, trial)
    made = calls(trial, command)
    outcomes: dict[str, Path] = {}
    for number in spread(len(made)):
        shutil.rmtree(trial)
        shutil.copytree(data, trial)
        done = strace(trial, command, "-o", "/dev/null", *FAULTS[fault](made, number))
        if fault == "killed":
            assert done.returncode in (-9, 137), (number, done)
        if command == "checkpoint":
            assert Database(trial).indexes() == before.indexes()
            tear_all(trial)
        repair = indexes("repair", trial)
        assert repair.returncode == 0, (number, made[number], repair, done)
        outcome = assert_nothing_is_lost(trial, before)
        if outcome not in outcomes:
            outcomes[outcome] = data.with_name(f"outcome-{len(outcomes)}")
            shutil.copytree(trial, outcomes[outcome])
    print(len(made), made, len(outcomes))
    for outcome in outcomes.values():
        served.serves(outcome)
