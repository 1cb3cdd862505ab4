"""The host's care for Chroma's indexes, when it is interrupted itself, and on every kind of damage."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
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
WRITES = (
    "write pwrite64 pwritev rename renameat renameat2 unlink unlinkat rmdir mkdir mkdirat fsync"
)
WRITES += " fdatasync ftruncate utimensat copy_file_range sendfile"
NEED_ROOM = {"write", "pwrite64", "mkdir", "mkdirat", "rename", "renameat", "ftruncate", "fsync"}
MOST_FAULTS = int(os.environ.get("FAULTS", "20"))


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
        return {
            segment: (digest(self.data / segment), row[2]) for segment, row in self.segments.items()
        }

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


def places(made: list[str]) -> list[int]:
    """The first and the last of each row of equal calls: or so many of them."""
    found = [
        number
        for number, name in enumerate(made)
        if name != (made[number - 1] if number else "") or made[number + 1 : number + 2] != [name]
    ]
    most = min(len(found), MOST_FAULTS)
    return sorted({found[round(it * (len(found) - 1) / (most - 1))] for it in range(most)})


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
    for number in places(made):
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
    for outcome in outcomes.values():
        served.serves(outcome)


def cut(name: str, part: float) -> Callable[[Path], None]:
    """A file ends early: after a part of it, or one byte before its end."""

    def damage(folder: Path) -> None:
        size = (folder / name).stat().st_size
        left = int(size * part) if part < 1 else max(size - 1, 0)
        os.truncate(folder / name, left)

    return damage


def unnoticed(damage: Callable[[Path], None]) -> Callable[[Path], None]:
    """Damage that the times of the files do not show, as by a disk or a copy that ended early."""

    def damage_and_keep_times(folder: Path) -> None:
        before = {path: path.stat() for path in folder.iterdir()}
        damage(folder)
        for path, status in before.items():
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))

    return damage_and_keep_times


def older_pickle(folder: Path) -> None:
    status = (folder / FILES[0]).stat()
    earlier = status.st_mtime_ns - 1_000_000_000
    os.utime(folder / FILES[-1], ns=(status.st_atime_ns, earlier))


def missing(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


DAMAGES = {
    "torn": tear,
    "the pickle is older": older_pickle,
    **{f"{name} is missing": missing(name) for name in FILES},
    "the folder is missing": shutil.rmtree,
    **{
        f"{name} ends {where}{note}": how(cut(name, part))
        for name in FILES
        for where, part in (("at its beginning", 0), ("in the middle", 0.5), ("a byte early", 1))
        for note, how in (("", lambda damage: damage), (", unnoticed", unnoticed))
    },
}


@pytest.mark.parametrize("name", ["largedefault_database", "mediumanother"])
def test_every_kind_of_damage_is_found_and_repaired(served: Served, data: Path, name: str) -> None:
    """From a checkpoint, and from the log. Chroma is asked once for each outcome."""
    before = Database(data)
    outcomes: dict[str, Path] = {}
    for number, (what, damage) in enumerate(DAMAGES.items()):
        trial = data.with_name(f"trial-{number}")
        shutil.copytree(data, trial)
        damage(Database(trial).folder(name))
        assert indexes("check", trial).returncode == 1, what
        assert indexes("repair", trial).returncode == 0, what
        outcomes[assert_nothing_is_lost(trial, before)] = trial
    for folder in outcomes.values():
        served.serves(folder)


def contents(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """All that is in a folder, with the times."""
    return {
        str(path.relative_to(folder)): (
            path.lstat().st_mtime_ns,
            path.lstat().st_mode,
            path.read_bytes() if path.is_file() else b"",
        )
        for path in [folder, *folder.rglob("*")]
    }


def test_check_names_the_state_of_each_collection_and_writes_nothing(data: Path) -> None:
    for damaged in (False, True):
        if damaged:
            tear(Database(data).folder("largedefault_database"))
        before = contents(data)
        checked = indexes("check", data)
        assert contents(data) == before
        assert checked.returncode == damaged
        lines = [line.split("\t") for line in checked.stdout.splitlines()]
        assert [line[:3] for line in lines] == [
            ["default_tenant", "default_database", "large"],
            ["default_tenant", "default_database", "small"],
            ["tenant", "another", "medium"],
            ["tenant", "database", "small"],
        ]
        states = [line[-1] for line in lines]
        assert states[1:] == ["whole"] * 3
        assert states[0] == ("damaged: it was not written to its end" if damaged else "whole")


def test_data_that_came_without_its_checkpoints_gets_new_ones(served: Served, data: Path) -> None:
    shutil.rmtree(data / "checkpoints")
    assert indexes("repair", data).returncode == 0
    before = Database(data)
    assert before.checkpoints() == before.indexes()
    tear_all(data)
    assert indexes("repair", data).returncode == 0
    served.serves(data)


def purge(data: Path) -> None:
    """As Chroma itself does after it has written an index, and what it then leaves."""
    with contextlib.closing(sqlite3.connect(data / "chroma.sqlite3")) as database, database:
        database.execute(
            "UPDATE embeddings_queue_config SET config_json_str ="
            " json_set(config_json_str, '$.automatically_purge', json('true'))"
        )
        database.execute(
            "DELETE FROM embeddings_queue WHERE seq_id < (SELECT m.seq_id FROM max_seq_id m"
            " JOIN segments s ON s.id = m.segment_id AND s.scope = 'VECTOR'"
            " WHERE embeddings_queue.topic LIKE '%/' || s.collection)"
        )


def test_data_whose_log_was_purged_is_taken_over(served: Served, data: Path) -> None:
    shutil.rmtree(data / "checkpoints")
    purge(data)
    assert indexes("checkpoint", data).returncode == 0
    tear_all(data)
    assert indexes("repair", data).returncode == 0
    served.serves(data)


def test_what_cannot_be_repaired_is_left_as_it_is_and_named(data: Path) -> None:
    """Without a checkpoint, and without the log that the index was made from."""
    shutil.rmtree(data / "checkpoints")
    purge(data)
    folder = Database(data).folder("largedefault_database")
    tear(folder)
    before = contents(folder)
    for _ in range(2):
        repair = indexes("repair", data)
        assert repair.returncode == 1
        assert re.match(r"large \(.*\): .*: left as it is: no checkpoint", repair.stdout)
        named = [line for line in repair.stdout.splitlines() if "left as it is" in line]
        assert [line[0] for line in named] == ["l", "{"], "once for people, once as an event"
        assert json.loads(named[1])["event"] == "index_not_repaired"
        assert contents(folder) == before
    assert indexes("check", data).stdout.count("damaged") == 1


def test_what_was_damaged_is_kept_for_a_week(data: Path) -> None:
    folder = Database(data).folder("largedefault_database")
    tear(folder)
    damaged = digest(folder)
    assert indexes("repair", data).returncode == 0
    [kept] = (data / "damaged").iterdir()
    assert digest(kept) == damaged
    for days, there in ((6, True), (8, False)):
        os.utime(kept, (time.time() - days * 86400,) * 2)
        assert indexes("repair", data).returncode == 0
        assert kept.exists() == there


def test_the_checkpoint_of_a_deleted_collection_goes(tmp_path: Path) -> None:
    server = ChromaServer(CURRENT, tmp_path)
    try:
        data = tmp_path / "data"
        assert indexes("checkpoint", data).returncode == 0
        api = f"http://{server.address}/api/v2/tenants/default_tenant/databases/default_database"
        configuration = {"hnsw": {"sync_threshold": 50}}
        body = {"name": "one", "configuration": configuration}
        made = httpx.post(f"{api}/collections", json=body, timeout=60).json()
        ids = [str(number) for number in range(200)]
        records = {"ids": ids, "embeddings": [[float(it), 1.0] for it in range(200)]}
        httpx.post(f"{api}/collections/{made['id']}/add", json=records, timeout=60)
        assert indexes("checkpoint", data).stdout.count(": copied") == 1
        assert len(Database(data).checkpoints()) == 1
        httpx.delete(f"{api}/collections/one", timeout=60).raise_for_status()
        assert indexes("checkpoint", data).returncode == 0
        assert Database(data).checkpoints() == {}
        assert list((data / "checkpoints").glob("*/")) == []
    finally:
        server.stop()


@pytest.mark.parametrize("command", ["checkpoint", "repair"])
def test_an_empty_folder_is_left_alone(tmp_path: Path, command: str) -> None:
    done = indexes(command, tmp_path)
    assert (done.returncode, done.stdout) == (0, "")
    assert list(tmp_path.iterdir()) == []
    assert indexes("check", tmp_path).returncode == 2


def test_the_data_of_a_release_before_1_0_is_left_alone(tmp_path: Path) -> None:
    server = ChromaServer(LAST_PYTHON, tmp_path)
    server.stop()
    data = tmp_path / "data"
    before = contents(data)
    for command, code in (("checkpoint", 0), ("repair", 0), ("check", 2)):
        assert indexes(command, data).returncode == code
        assert contents(data) == before


def test_repair_refuses_data_that_is_in_use(tmp_path: Path) -> None:
    server = ChromaServer(CURRENT, tmp_path)
    try:
        refused = indexes("repair", tmp_path / "data")
        assert refused.returncode == 2
        assert "stop Chroma first" in refused.stderr
    finally:
        server.stop()
