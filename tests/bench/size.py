"""How much memory Chroma takes, beside what `chroma_stack.size` predicts.

    python -m tests.bench.size

Anonymous memory, which is what counts towards the container's limit, looked at every 20 ms: at most
while records are added and 5 seconds later; after a restart and a query of each collection, which loads the indexes; after
the collections were deleted; and after a restart then. Fails when a prediction for the first two is
more than 15 % off. Of vectors as numbers, whose memory differs from run to run, the prediction is
the most: it may be higher.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import math
import random
import sys
import tempfile
import threading
import time
import uuid
from array import array
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from chroma_stack.size import model
from chroma_stack.size.model import MIB, divided
from tests.host.chroma_servers import CURRENT, ChromaServer

COLLECTIONS = "/api/v2/tenants/default_tenant/databases/default_database/collections"
BATCH = model.BATCH
MOST = 0.15
"""How far off a prediction may be."""

OFTEN = 0.02
"""Seconds between two looks at the memory."""

WORDS = (Path(__file__).parents[2] / "README.md").read_text().split()
"""What documents are made of."""


class Run(NamedTuple):
    """What is added."""

    dimensions: int
    vectors: int
    collections: int = 1
    threshold: int = model.SYNC_THRESHOLD
    numbers: bool = False
    """Whether vectors are sent as numbers with all digits of a float32, each request on a new
    connection, and not in base64."""
    document_bytes: int = 0
    neighbours: int = model.NEIGHBOURS


RUNS = (
    Run(128, 10_000),
    Run(128, 40_000),
    Run(384, 10_000),
    Run(384, 30_000),
    Run(384, 30_000, threshold=10_000),
    Run(384, 20_000, collections=20),
    Run(768, 20_000),
    Run(1536, 10_000),
    Run(1536, 20_000),
    Run(384, 20_000, numbers=True),
    Run(384, 40_000, numbers=True),
    Run(1536, 5_000, numbers=True),
    Run(1536, 10_000, numbers=True),
    Run(1536, 20_000, numbers=True),
    Run(384, 10_000, document_bytes=2000),
    Run(384, 10_000, numbers=True, document_bytes=2000),
    Run(128, 20_000, neighbours=64),
    Run(3072, 10_000),
)


class Memory(NamedTuple):
    """Bytes of anonymous memory."""

    writing: int
    settled: int
    deleted: int
    restarted: int
    """After a restart of the server whose collections were deleted."""


def predicted(run: Run) -> tuple[int, int]:
    """Bytes while records are added, and after a restart and a query of all."""
    held = [
        replace(it, neighbours=run.neighbours)
        for it in divided(run.vectors, run.dimensions, run.collections)
    ]
    writing = model.writing(
        held,
        document_bytes=run.document_bytes,
        threshold=run.threshold,
        base64=not run.numbers,
    )
    return writing, model.settled(held)


def measured(run: Run, folder: Path) -> Memory:
    """What a server of its own takes, which keeps its data in the folder."""
    server = ChromaServer(CURRENT, folder)
    try:
        headers = {"Connection": "close"} if run.numbers else {}
        with httpx.Client(timeout=600, headers=headers) as client:
            return _measured(run, server, client)
    finally:
        server.stop()


def _measured(run: Run, server: ChromaServer, client: httpx.Client) -> Memory:
    url = f"http://{server.address}{COLLECTIONS}"
    draw = random.Random(run.dimensions)
    hnsw = {"hnsw": {"sync_threshold": run.threshold, "max_neighbors": run.neighbours}}
    ids = []
    for number in range(run.collections):
        new = {"name": f"bench-{number}", "configuration": hnsw}
        ids.append(client.post(url, json=new).raise_for_status().json()["id"])
    each = run.vectors // run.collections
    with _peak(server) as writing:
        for start in range(0, each, BATCH):
            for collection in ids:
                body = _records(draw, run, min(BATCH, each - start))
                client.post(f"{url}/{collection}/add", json=body).raise_for_status()
        time.sleep(5)
    server.stop()
    server.start()
    query = {"query_embeddings": [[0.5] * run.dimensions], "n_results": 10}
    for collection in ids:
        client.post(f"{url}/{collection}/query", json=query).raise_for_status()
    settled = _after_a_while(server)
    for number in range(run.collections):
        client.delete(f"{url}/bench-{number}").raise_for_status()
    deleted = _after_a_while(server)
    server.stop()
    server.start()
    return Memory(max(writing), settled, deleted, _after_a_while(server))


def _records(draw: random.Random, run: Run, count: int) -> dict[str, list[Any]]:
    body: dict[str, list[Any]] = {
        "ids": [str(uuid.UUID(int=draw.getrandbits(128))) for _ in range(count)],
        "embeddings": [_vector(draw, run) for _ in range(count)],
    }
    if run.document_bytes:
        body["documents"] = [_document(draw, run.document_bytes) for _ in range(count)]
    return body


def _vector(draw: random.Random, run: Run) -> str | list[float]:
    # As long as models make them, about 1.
    vector = array("f", [draw.gauss(0, run.dimensions**-0.5) for _ in range(run.dimensions)])
    return vector.tolist() if run.numbers else base64.b64encode(vector).decode()


def _document(draw: random.Random, length: int) -> str:
    words = draw.choices(WORDS, k=length)
    return " ".join(words).encode()[:length].decode(errors="ignore")


@contextlib.contextmanager
def _peak(server: ChromaServer) -> Iterator[list[int]]:
    """Collects what the server takes, until the end."""
    seen = [_anonymous(server)]
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(OFTEN):
            seen.append(_anonymous(server))

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield seen
    finally:
        ended.set()
        looking.join()


def _anonymous(server: ChromaServer) -> int:
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    [line] = [line for line in status.splitlines() if line.startswith("RssAnon")]
    return int(line.split()[1]) * 1024


def _after_a_while(server: ChromaServer) -> int:
    time.sleep(5)
    return _anonymous(server)


def main() -> None:
    """Measure, print as a table in Markdown, and exit with 1 when a prediction is too far off."""
    argparse.ArgumentParser(prog="python -m tests.bench.size", description=__doc__).parse_args()
    print("MiB, predicted and measured. Off: by how much the prediction is.\n")
    print("| dimensions | vectors | adding: predicted | measured | off ", end="")
    print("| after a restart and a query: predicted | measured | off ", end="")
    print("| collections deleted | and restarted |")
    print(f"|{' --- |' * 10}")
    missed = []
    for run in RUNS:
        with tempfile.TemporaryDirectory() as folder:
            memory = measured(run, Path(folder))
        cells = [f"{run.dimensions:,}", f"{run.vectors:,}{_more(run)}"]
        highest = (math.inf if run.numbers else MOST, MOST)
        for said, was, most in zip(predicted(run), memory[:2], highest, strict=True):
            off = said / was - 1
            cells += [f"{said / MIB:,.0f}", f"{was / MIB:,.0f}", f"{round(100 * off):+}%"]
            if not -MOST <= off <= most:
                missed.append(f"{off:+.0%}")
        cells += [f"{memory.deleted / MIB:,.0f}", f"{memory.restarted / MIB:,.0f}"]
        print(f"| {' | '.join(cells)} |", flush=True)
    if missed:
        sys.exit(f"more than {MOST:.0%} off: {', '.join(missed)}")


def _more(run: Run) -> str:
    more = [f"{run.collections} collections"] * (run.collections > 1)
    more += [f"threshold {run.threshold:,}"] * (run.threshold != model.SYNC_THRESHOLD)
    more += [f"{run.neighbours} neighbours"] * (run.neighbours != model.NEIGHBOURS)
    more += ["as numbers"] * run.numbers
    more += [f"documents of {run.document_bytes:,} bytes"] * bool(run.document_bytes)
    return f", {', '.join(more)}" if more else ""


if __name__ == "__main__":
    main()
