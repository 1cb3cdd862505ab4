"""What tracing costs a request, by how the collector fares, over the server without tracing.

    python -m tests.bench.tracing

All servers run side by side and are asked in turn, so that a busy computer slows them alike.
"""

from __future__ import annotations

import contextlib
import statistics
import tempfile
import time
from pathlib import Path

import httpx

from tests.host.chroma_servers import CURRENT, ChromaServer
from tests.host.collector import Collector
from tests.host.programs import free_port
from tests.host.relay import Relay

ROUNDS = 1500
WARM_UP = 300
PATH = "/api/v2/tenants/default_tenant"


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as running:
        well, slow, refusing = Collector(), Collector(), Collector()
        slow.delay, refusing.refuses = 30, True
        for collector in (well, slow, refusing):
            running.callback(collector.close)
        ports = {
            "well": well.port,
            "slow": slow.port,
            "refusing": refusing.port,
            "down": free_port(),
        }
        clients = {"without tracing": _client(running, Path(name) / "without")}
        for state, port in ports.items():
            folder = Path(name) / state
            relay = _relay(running, folder, port)
            clients[state] = _client(running, folder, relay)
        times: dict[str, list[float]] = {state: [] for state in clients}
        for number in range(WARM_UP + ROUNDS):
            for state, client in clients.items():
                start = time.perf_counter()
                client.get(PATH).raise_for_status()
                if number >= WARM_UP:
                    times[state].append(time.perf_counter() - start)
    base = times.pop("without tracing")
    print(f"a request without tracing: {statistics.median(base) * 1000:.2f} ms")
    for state, measured in times.items():
        median = statistics.median(measured) / statistics.median(base)
        slowest = statistics.quantiles(measured, n=100)[98] / statistics.quantiles(base, n=100)[98]
        print(f"collector {state}: {median:.2f} of that, p99 {slowest:.2f}")


def _relay(running: contextlib.ExitStack, folder: Path, port: int) -> Relay:
    folder.mkdir()
    relay = Relay(folder, f"http://localhost:{port}").start()
    running.callback(relay.stop)
    return relay


def _client(
    running: contextlib.ExitStack, folder: Path, relay: Relay | None = None
) -> httpx.Client:
    folder.mkdir(exist_ok=True)
    server = ChromaServer(CURRENT, folder, relay.environment if relay else None)
    running.callback(server.stop)
    return running.enter_context(httpx.Client(base_url=f"http://{server.address}", timeout=30))


if __name__ == "__main__":
    main()
