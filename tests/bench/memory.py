"""How much memory a record takes in Chroma.

    python -m tests.bench.memory

Anonymous memory, which is what counts towards the container's limit: after records were added, after a
restart and a query, which loads the index, and after the collection was deleted.
"""

from __future__ import annotations

import random
import tempfile
import time
from pathlib import Path

import httpx

from tests.host.chroma_servers import CURRENT, ChromaServer

COLLECTIONS = "/api/v2/tenants/default_tenant/databases/default_database/collections"
# Dimensions, records, and every how many operations the index is written.
RUNS = (
    (128, 40_000, 1000),
    (384, 30_000, 1000),
    (384, 30_000, 10_000),
    (1536, 20_000, 1000),
)
BATCH, MIB = 1000, 1 << 20


def main() -> None:
    """Measure and print."""
    for dimensions, records, threshold in RUNS:
        with tempfile.TemporaryDirectory() as folder:
            server = ChromaServer(CURRENT, Path(folder))
            try:
                _measure(server, dimensions, records, threshold)
            finally:
                server.stop()


def _measure(server: ChromaServer, dimensions: int, records: int, threshold: int) -> None:
    url = f"http://{server.address}{COLLECTIONS}"
    new = {"name": "bench", "configuration": {"hnsw": {"sync_threshold": threshold}}}
    made = httpx.post(url, json=new).raise_for_status().json()
    draw = random.Random(dimensions)
    empty, most, half = _anonymous(server), 0, 0
    for start in range(0, records, BATCH):
        vectors = [[round(draw.random(), 6) for _ in range(dimensions)] for _ in range(BATCH)]
        body = {"ids": [str(start + it) for it in range(BATCH)], "embeddings": vectors}
        httpx.post(f"{url}/{made['id']}/add", json=body, timeout=600).raise_for_status()
        most = max(most, _anonymous(server))
        if start + BATCH == records // 2:
            half = _settled(server)
    full = _settled(server)
    server.stop()
    server.start()
    query = {"query_embeddings": vectors[:1], "n_results": 10}
    httpx.post(f"{url}/{made['id']}/query", json=query, timeout=600).raise_for_status()
    again = _settled(server)
    httpx.delete(f"{url}/bench", timeout=600).raise_for_status()
    deleted = _settled(server)
    server.stop()
    server.start()
    last = _settled(server)

    def each(used: int) -> str:
        return f"{(used - empty) / MIB:,.0f} MiB ({(used - empty) / records:,.0f} bytes a record)"

    print(
        f"{dimensions} dimensions, {records:,} records, threshold {threshold:,}; empty {empty / MIB:,.0f} MiB"
    )
    for what, used in (
        ("at most, while they were added", most),
        ("after half of them", half),
        ("after they were added", full),
        ("after a restart and a query", again),
        ("after deleting the collection", deleted),
        ("after that and a restart", last),
    ):
        print(f"  {what}: {each(used)}", flush=True)


def _anonymous(server: ChromaServer) -> int:
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    [line] = [line for line in status.splitlines() if line.startswith("RssAnon")]
    return int(line.split()[1]) * 1024


def _settled(server: ChromaServer) -> int:
    time.sleep(5)
    return _anonymous(server)


if __name__ == "__main__":
    main()
