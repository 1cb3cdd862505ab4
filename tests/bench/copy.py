"""How fast `chroma_stack.copy` is beside one writer, and how much memory it takes for a million records.

    python -m tests.bench.copy --records 1000000

The speed is that of a copy between two servers of the current release, beside one program that sends
the very requests that a copy sends, made before and one after the other, to a third one. All of them share this computer.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from chroma_stack.copy.model import Record, to_bytes
from chroma_stack.copy.server import upsert_body
from tests.host.chroma_servers import CURRENT, ChromaServer

COLLECTIONS = "/api/v2/tenants/default_tenant/databases/default_database/collections"
BATCH, ROUNDS = 1000, 3
RECORDS, DIMENSIONS, DOCUMENT = 20_000, 384, 500
SMALL = 8  # dimensions
SPEED, MEMORY = 0.7, 500  # of the writer's, MB
FAST = {"hnsw": {"ef_construction": 10, "max_neighbors": 4, "sync_threshold": 100_000}}
"""An index that is made quickly and written seldom, since not the index is measured."""


def main() -> None:
    """Measure and print; exits with 1 when an aim is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=1_000_000)
    records = parser.parse_args().records
    speed, memory = _speed(), _memory(records)
    if speed < SPEED or memory > MEMORY:
        sys.exit(1)


def _speed() -> float:
    bodies = [_body(first, DIMENSIONS, DOCUMENT) for first in range(0, RECORDS, BATCH)]
    ratios = []
    for _ in range(ROUNDS):
        with _server() as source, _server() as target, _server() as other:
            _send(source, bodies)
            writer = _send(other, bodies)
            copied, _ = _copy(source, target, RECORDS)
        ratios.append(writer / copied)
        print(f"one writer {RECORDS / writer:,.0f} records a second, ratio {writer / copied:.2f}")
    ratio = statistics.median(ratios)
    print(f"{RECORDS:,} records of {DIMENSIONS} dimensions: {ratio:.2f} of one writer, aim {SPEED}")
    return ratio


def _memory(records: int) -> float:
    with _server() as source, _server() as target:
        begun = time.monotonic()
        _fill(source, records)
        print(f"{records:,} records added in {time.monotonic() - begun:.0f} s", flush=True)
        seconds, memory = _copy(source, target, records)
        print(
            f"{records:,} records of {SMALL} dimensions: copied in {seconds:.0f} s,"
            f" {records / seconds:,.0f} a second, with {memory:.0f} MB of memory, aim {MEMORY}"
        )
    return memory


@contextlib.contextmanager
def _server() -> Iterator[ChromaServer]:
    with tempfile.TemporaryDirectory() as folder:
        server = ChromaServer(CURRENT, Path(folder))
        try:
            yield server
        finally:
            server.stop()


def _body(first: int, dimensions: int, document: int, batch: int = BATCH) -> bytes:
    """The request that adds a batch, as a copy sends it."""
    draw, numbers = random.Random(first), range(first, first + batch)
    records = [
        Record(
            f"record {number}",
            to_bytes(round(draw.random(), 7) for _ in range(dimensions)),
            f"document {number} ".ljust(document, "x"),
            {"number": number, "even": number % 2 == 0},
        )
        for number in numbers
    ]
    return upsert_body(records, in_base64=True)


def _create(server: ChromaServer, configuration: dict[str, Any] | None = None) -> str:
    """The path of a new collection."""
    new = {"name": "bench", "configuration": configuration}
    made = httpx.post(f"http://{server.address}{COLLECTIONS}", json=new).raise_for_status().json()
    return f"{COLLECTIONS}/{made['id']}"


def _send(server: ChromaServer, bodies: list[bytes]) -> float:
    """The seconds that one writer takes for these requests."""
    path = _create(server)
    headers = {"Content-Type": "application/json"}
    with httpx.Client(base_url=f"http://{server.address}", timeout=600, headers=headers) as client:
        begun = time.monotonic()
        for body in bodies:
            client.post(f"{path}/upsert", content=body).raise_for_status()
        return time.monotonic() - begun


def _fill(server: ChromaServer, records: int) -> None:
    """Adds small records in the largest batches, while another process makes the next ones."""
    url = f"http://{server.address}"
    largest = int(httpx.get(f"{url}/api/v2/pre-flight-checks").json()["max_batch_size"])
    path, headers = _create(server, FAST), {"Content-Type": "application/json"}
    starts = range(0, records, largest)
    with (
        concurrent.futures.ProcessPoolExecutor(1) as pool,
        httpx.Client(base_url=url, timeout=600, headers=headers) as client,
    ):
        sizes = [min(largest, records - first) for first in starts]
        made = [
            pool.submit(_body, first, SMALL, 20, size)
            for first, size in zip(starts, sizes, strict=True)
        ]
        while made:
            client.post(f"{path}/upsert", content=made.pop(0).result()).raise_for_status()


def _copy(source: ChromaServer, target: ChromaServer, records: int) -> tuple[float, float]:
    """The seconds that a copy takes, and the most memory that it had at once, in MB."""
    urls = [f"http://{it.address}" for it in (source, target)]
    command = [sys.executable, "-m", "chroma_stack.copy", *urls, "--json"]
    begun, most = time.monotonic(), 0
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(command, stdout=output)
        # Not by getrusage, which begins with what this process had when it started the other one.
        while process.poll() is None:
            most = max(most, _most_memory(process.pid))
            time.sleep(0.1)
        seconds = time.monotonic() - begun
        assert process.returncode == 0, process.returncode
        output.seek(0)
        result = json.load(output)
    assert result["copied"] == records, result
    [made] = httpx.get(f"{urls[1]}{COLLECTIONS}").json()
    there = int(httpx.get(f"{urls[1]}{COLLECTIONS}/{made['id']}/count", timeout=600).text)
    assert there == records, there
    return seconds, most / 1e6


def _most_memory(process: int) -> int:
    """The most that was resident at once until now, in bytes; 0 when it has ended."""
    status = Path(f"/proc/{process}/status").read_text()
    return next(
        (int(it.split()[1]) * 1024 for it in status.splitlines() if it.startswith("VmHWM")), 0
    )


if __name__ == "__main__":
    main()
