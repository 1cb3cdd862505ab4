"""Kills a bare server under writers, with the instance's care for its indexes, and compares afterwards.

    make soak KILLS=500
    python -m tests.host.kills --kills 20 --version 1.0.0

The releases take turns; it ends at the first loss and keeps the data.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from tests.host.chroma_servers import (
    CURRENT,
    MIDDLE_RUST,
    OLDEST_RUST,
    OPERATIONS,
    ChromaServer,
    python_with_chroma,
)
from tests.host.programs import HOST

RELEASES = (CURRENT, OLDEST_RUST, MIDDLE_RUST)
CHECKPOINT_EVERY = 0.5  # seconds, of a server that lives for some
WRITING = 0.004  # seconds that the write of an index takes here


class Operations:
    """Writers and a comparer of a server, which outlive it."""

    def __init__(self, server: ChromaServer, often: int = 50, seldom: int = 1000) -> None:
        self._process = subprocess.Popen(
            [python_with_chroma(server.version), OPERATIONS],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._pool = ThreadPoolExecutor(2)
        self._errors = self._pool.submit(self._process.stderr.read)  # type: ignore[union-attr]
        host, port = server.address.split(":")
        job = {"host": host, "port": int(port), "often": often, "seldom": seldom}
        self._say(json.dumps(job))

    def _say(self, line: str) -> None:
        assert self._process.stdin
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def _until_done(self) -> tuple[int, dict[str, object]]:
        """How many operations were acknowledged, and the last line."""
        assert self._process.stdout
        for count, line in enumerate(self._process.stdout):
            if line.startswith("{"):
                return count, json.loads(line)
        raise AssertionError(self._errors.result())

    def compare(self) -> int:
        """The number of records, all of which are as they were acknowledged."""
        self._say("compare")
        return int(str(self._until_done()[1]["records"]))

    def write_until_killed(self, server: ChromaServer, moment: Moment) -> int:
        """How many operations were acknowledged."""
        self._say("write")
        assert self._process.stdout
        first = self._process.stdout.readline()
        assert first[:1].isdigit(), first or self._errors.result()
        writing = self._pool.submit(self._until_done)
        moment()
        server.process.kill()
        server.process.wait(60)
        count, end = writing.result(60)
        assert end == {"refused": []}
        return count + 1

    def close(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(60)
        self._pool.shutdown()


class Moment:
    """Waits for a moment to kill: any, or most often while an index is written."""

    def __init__(self, data: Path, seconds: float = 3) -> None:
        self._data = data
        self._seconds = seconds

    def __call__(self) -> None:
        time.sleep(random.uniform(0.2, self._seconds))
        if random.random() < 0.8:
            before = self._beginnings()
            end = time.monotonic() + 10
            while self._beginnings() == before and time.monotonic() < end:
                time.sleep(0)
            time.sleep(random.uniform(0, WRITING))

    def _beginnings(self) -> list[int]:
        """When the first file of each index was last written."""
        return [path.stat().st_mtime_ns for path in self._data.glob("*/header.bin")]


def indexes(command: str, data: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([HOST / "indexes", command, data], capture_output=True, text=True)


class Checkpoints:
    """Made again and again, as the instance's timer does, until `stop`."""

    def __init__(self, data: Path, every: float = CHECKPOINT_EVERY) -> None:
        self._data = data
        self._every = every
        self._stopping = threading.Event()
        self._process: subprocess.Popen[str] | None = None
        self._thread = ThreadPoolExecutor(1)
        self._making = self._thread.submit(self._make)

    def _make(self) -> int:
        made = 0
        while not self._stopping.wait(self._every):
            command = [HOST / "indexes", "checkpoint", self._data]
            self._process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
            said = self._process.communicate()[0]
            made += said.count(": copied")
            assert self._process.returncode == 0 or self._stopping.is_set(), said
        return made

    def stop(self) -> int:
        """As before each start, in one of several ways; how many checkpoints were made."""
        self._stopping.set()
        if self._process and random.random() < 0.7:
            random.choice((self._process.terminate, self._process.kill))()
        made = self._making.result(200)
        self._thread.shutdown()
        return made


@dataclass
class Report:
    version: str
    kills: int = 0
    operations: int = 0
    records: int = 0
    checkpoints: int = 0
    damaged: list[str] = field(default_factory=list)
    """What each repair said that had something to repair."""
    seconds: list[float] = field(default_factory=list)
    """The time of such repairs."""

    def __str__(self) -> str:
        longest = f", {max(self.seconds):.1f} s at most" if self.seconds else ""
        return (
            f"{self.version}: {self.kills} kills, {len(self.seconds)} starts with a repair{longest}, "
            f"{self.checkpoints} checkpoints, {self.operations} operations acknowledged, "
            f"{self.records} records compared, nothing lost"
        )


class Killed:
    """A server that is killed again and again."""

    def __init__(self, version: str, folder: Path) -> None:
        self.data = folder / "data"
        self.report = Report(version)
        with ExitStack() as undo:
            self._server = ChromaServer(version, folder)
            undo.callback(self._server.stop)
            self._operations = Operations(self._server)
            undo.callback(self._operations.close)
            self._undo = undo.pop_all()

    def kill(self) -> None:
        """Once, and compare."""
        checkpoints = Checkpoints(self.data)
        try:
            moment = Moment(self.data)
            self.report.operations += self._operations.write_until_killed(self._server, moment)
        finally:
            self.report.checkpoints += checkpoints.stop()
        self.report.kills += 1
        start = time.monotonic()
        repair = indexes("repair", self.data)
        assert repair.returncode == 0, repair
        if repair.stdout:
            self.report.damaged.append(repair.stdout)
            self.report.seconds.append(time.monotonic() - start)
        checked = indexes("check", self.data)
        assert checked.returncode == 0, checked
        self._server.start()
        self.report.records = self._operations.compare()

    def close(self) -> None:
        self._undo.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--version", choices=RELEASES, action="append")
    options = parser.parse_args()
    folder = tempfile.mkdtemp(prefix="chroma-kills-")
    print(f"The data is kept in {folder} when something is lost.", flush=True)
    with ExitStack() as stack:
        servers = []
        for version in options.version or RELEASES:
            place = Path(folder, version)
            place.mkdir()
            servers.append(Killed(version, place))
            stack.callback(servers[-1].close)
        for number in range(options.kills):
            servers[number % len(servers)].kill()
            print(f"{number + 1}: {servers[number % len(servers)].report}", flush=True)
    subprocess.run(["rm", "-rf", folder], check=True)
    for server in servers:
        print(server.report)


if __name__ == "__main__":
    main()
