"""What it costs to keep Chroma's log until there is a checkpoint: adding records, disk, a start with a
repair.

    python -m tests.bench.indexes --records 50000
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from tests.host.chroma_servers import CURRENT, ChromaServer, python_with_chroma
from tests.host.kills import Checkpoints, indexes

DIMENSIONS, BATCH = 384, 200
ADD = f"""
import sys, chromadb, numpy
host, port, records = sys.argv[1:]
client = chromadb.HttpClient(host, int(port))
collection = client.get_or_create_collection("bench", embedding_function=None)
dice = numpy.random.default_rng(1)
for first in range(0, int(records), {BATCH}):
    vectors = dice.random(({BATCH}, {DIMENSIONS}), dtype=numpy.float32)
    ids = [str(number) for number in range(first, first + {BATCH})]
    collection.add(ids=ids, embeddings=vectors, documents=ids)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=50_000)
    records = parser.parse_args().records
    times, sizes = [], []
    for kept in (False, True):
        with tempfile.TemporaryDirectory() as name, ExitStack() as undo:
            folder = Path(name)
            server = ChromaServer(CURRENT, folder)
            undo.callback(server.stop)
            data = folder / "data"
            if kept:
                indexes("checkpoint", data).check_returncode()
                checkpoints = Checkpoints(data, every=60)
            begun = time.monotonic()
            add(server, records)
            times.append(time.monotonic() - begun)
            if kept:
                checkpoints.stop()
                indexes("checkpoint", data).check_returncode()
            sizes.append(disk(data))
            if kept:
                print(f"checkpoints: {disk(data / 'checkpoints'):.0f} MiB")
                repaired(server, data)
    print(f"adding {records:,} records: {times[0]:.0f} s without, ratio {times[1] / times[0]:.2f}")
    print(f"disk: {sizes[0]:.0f} MiB without, ratio {sizes[1] / sizes[0]:.2f}")


def add(server: ChromaServer, records: int) -> None:
    python = python_with_chroma(server.version)
    subprocess.run([python, "-c", ADD, *server.address.split(":"), str(records)], check=True)


def disk(folder: Path) -> float:
    """In MiB."""
    return sum(path.lstat().st_blocks * 512 for path in folder.rglob("*")) / (1 << 20)


def repaired(server: ChromaServer, data: Path) -> None:
    """The time of a start with nothing to repair, and with an index to put back."""
    for damaged in (False, True):
        server.stop()
        if damaged:
            for index in data.glob("*/length.bin"):
                index.touch()
        begun = time.monotonic()
        done = indexes("repair", data)
        done.check_returncode()
        assert ("put back" in done.stdout) == damaged, done
        took = time.monotonic() - begun
        server.start()
        print(
            f"repair, {'one put back' if damaged else 'nothing to do'}: {took:.2f} s,"
            f" then Chroma's start: {time.monotonic() - begun - took:.2f} s"
        )


if __name__ == "__main__":
    main()
