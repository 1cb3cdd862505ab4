"""The values of the dashboard's picture: a benchmark of a few minutes, seen as CloudWatch would.

A real Chroma and the real proxy are used by readers and a writer; in between someone guesses the
credential, Chroma is killed, and writes are refused. Each line of the proxy's log goes through
`host/logs` and the metric filters of the template. The clock is compressed: a second stands for a
minute. What needs AWS, a virtual machine or days is computed; `ABOUT` says which.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from typing import Any

import httpx

from chroma_stack.emulator.filter_patterns import MetricFilter
from tests.bench import dashboard
from tests.host.chroma_servers import CURRENT, ChromaServer
from tests.host.container_network import ContainerNetwork
from tests.host.haproxys import AMAZON_LINUX, haproxy
from tests.host.programs import HOST
from tests.host.proxy import Proxy
from tests.unit import synthesis

PERIODS, SECONDS = 72, 5
"""Six hours, of which each five minutes take five seconds."""
GUESSING, KILL, START, FULL = range(14, 18), 34, 36, range(54, 58)
"""When what happens, in periods."""

READERS, VECTORS, DIMENSIONS, BATCH = 6, 4_000, 384, 100
MEMORY_LIMIT = 400 << 20
VOLUME = 500 << 20
BACKUP_AGE, CERTIFICATE_DAYS = 21.0, 62.0

ABOUT = (
    "Recorded from Chroma 1.5.9 behind the proxy on a computer with two processors, with six readers "
    "and a writer; a second of the recording is a minute of the picture. Someone guesses the credential, "
    "Chroma is killed and starts again after ten seconds, and writes are refused as if the volume were "
    "full. Requests, errors, refusals and latency were made of the proxy's log by the template's metric "
    "filters; processors are those that Chroma and the proxy used; memory and the volume are what Chroma "
    "took, of 400 and 500 MiB; memory and swap of the instance are the computer's. The age of the backup "
    "and the days of the certificate are computed."
)

COLLECTIONS = "/api/v2/tenants/default_tenant/databases/default_database/collections"


class Load:
    """Clients of the server, until they are told to stop."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self._dice = random.Random(1)
        self._ended = threading.Event()
        self._threads: list[threading.Thread] = []
        self._count = 0
        with httpx.Client(base_url=proxy.url, headers=proxy.right, timeout=60) as client:
            made = client.post(COLLECTIONS, json={"name": "bench"}).raise_for_status().json()
            self._path = f"{COLLECTIONS}/{made['id']}"
            while self._count < VECTORS:
                self._add(client).raise_for_status()

    def _vectors(self, count: int) -> list[list[float]]:
        return [
            [value / 1000 for value in self._dice.choices(range(-1000, 1000), k=DIMENSIONS)]
            for _ in range(count)
        ]

    def _add(self, client: httpx.Client) -> httpx.Response:
        ids = [str(self._count + number) for number in range(BATCH)]
        self._count += BATCH
        records = {"ids": ids, "embeddings": self._vectors(BATCH)}
        return client.post(f"{self._path}/add", json=records)

    def _query(self, client: httpx.Client) -> httpx.Response:
        return client.post(f"{self._path}/query", content=self._dice.choice(self._queries))

    def start(self) -> None:
        queries = [{"query_embeddings": self._vectors(1), "n_results": 10} for _ in range(50)]
        self._queries = [json.dumps(it) for it in queries]
        for number in range(READERS):
            self._run(self._query, 0.1 + 0.05 * number)
        self._run(self._add, 0.5)

    def _run(self, request: Callable[[httpx.Client], httpx.Response], pause: float) -> None:
        def work() -> None:
            with httpx.Client(
                base_url=self._proxy.url, headers=self._proxy.right, timeout=60
            ) as client:
                while not self._ended.wait(pause * self._dice.uniform(0.5, 1.5)):
                    with contextlib.suppress(httpx.HTTPError):
                        request(client)

        self._threads.append(threading.Thread(target=work))
        self._threads[-1].start()

    def stop(self) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()


class CloudWatch:
    """What the template's metric filters make of lines."""

    def __init__(self, filters: list[MetricFilter]) -> None:
        self._filters = filters
        self._values: dict[str, list[float]] = defaultdict(list)

    def take(self, line: str) -> None:
        for it in self._filters:
            if (datum := it.datum(line)) is not None:
                further = [f"{key}={value}" for key, value in datum.dimensions if key != "Server"]
                self.measured(" ".join([datum.namespace, datum.name, *further]), datum.value)

    def measured(self, metric: str, value: float) -> None:
        self._values[metric].append(value)

    def statistic(self, key: str) -> float | None:
        """Of the period that ends."""
        metric, _, statistic = key.rpartition(" ")
        values = self._values.get(metric, [])
        if not values:
            return None
        if statistic.startswith("p"):
            cuts = statistics.quantiles([*values, values[-1]], n=100, method="inclusive")
            return cuts[int(statistic[1:]) - 1]
        of = {"Sum": sum, "Average": statistics.fmean, "Minimum": min, "Maximum": max}
        return of[statistic](values)

    def next_period(self) -> None:
        self._values.clear()


def host_logs() -> Any:
    """The program of the instance, as a module."""
    loader = SourceFileLoader("logs", str(HOST / "logs"))
    spec = spec_from_loader("logs", loader)
    assert spec is not None
    module = module_from_spec(spec)
    loader.exec_module(module)
    return module


class Journal:
    """Lines as the agent would send them."""

    def __init__(self, cloudwatch: CloudWatch, log: Path) -> None:
        self._logs, self._cloudwatch = host_logs(), cloudwatch
        self._file = log.open()

    def requests(self) -> None:
        """What the proxy has logged since the last time."""
        for line in self._file:
            self._take("chroma-proxy.service", "haproxy", line)

    def status(self, **fields: Any) -> None:
        self._take(
            "chroma-status.service", "chroma-status", json.dumps({"event": "status", **fields})
        )

    def _take(self, unit: str, program: str, message: str) -> None:
        entry = {
            "_SYSTEMD_UNIT": unit,
            "SYSLOG_IDENTIFIER": program,
            "MESSAGE": message,
            "PRIORITY": "6",
            "__REALTIME_TIMESTAMP": str(time.time_ns() // 1000),
        }
        line = self._logs.line_of(entry, "Servers/Chroma", "i-0123456789abcdef0")
        self._cloudwatch.take(line.decode())


def record(file: Path) -> None:
    """Run it, and write what the dashboard shows."""
    made = dashboard.template()
    filters = [
        MetricFilter(it["Properties"])
        for it in made.find_resources("AWS::Logs::MetricFilter").values()
    ]
    metrics = [
        it
        for widget in synthesis.dashboard(made)["widgets"]
        for it in widget["properties"].get("metrics", [])
    ]
    keys = sorted({dashboard.key(it) for it in metrics if len(it) > 1})
    series: dict[str, list[float | None]] = {key: [] for key in keys}
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as running:
        folder, cloudwatch = Path(name), CloudWatch(filters)
        network = ContainerNetwork.if_possible()
        if network:
            running.callback(network.close)
        chroma = ChromaServer(CURRENT, folder, network=network)
        running.callback(chroma.stop)
        proxy = Proxy(folder, chroma.address, program=haproxy(AMAZON_LINUX)).start()
        running.callback(proxy.stop)
        load = Load(proxy)
        running.callback(load.stop)
        load.start()
        journal = Journal(cloudwatch, proxy.log)
        journal.requests()
        cloudwatch.next_period()
        begin = time.monotonic()
        before, waited = cpu_seconds(chroma, proxy), queued()
        for period in range(PERIODS):
            happen(period, chroma, proxy)
            for _ in range(SECONDS):
                measure(cloudwatch, journal, chroma, folder, time.monotonic() - begin)
                time.sleep(max(0, 1 - (time.monotonic() - begin) % 1))
            journal.requests()
            after = cpu_seconds(chroma, proxy)
            busy = max(0.0, after - before) / SECONDS / (os.cpu_count() or 1)
            cloudwatch.measured("AWS/EC2 CPUUtilization", 100 * busy)
            cloudwatch.measured("AWS/EBS VolumeQueueLength", (queued() - waited) / SECONDS)
            before, waited = after, queued()
            for key in keys:
                value = cloudwatch.statistic(key)
                series[key].append(None if value is None else round(value, 2))
            cloudwatch.next_period()
            print(f"period {period + 1} of {PERIODS}", file=sys.stderr)
    kept = {
        "about": ABOUT,
        "start": "2026-11-29T00:00:00Z",
        "period": 300,
        "series": series,
    }
    file.write_text(readable(kept))


def readable(kept: dict[str, Any]) -> str:
    """A series a line."""
    series = ",\n".join(
        f"    {json.dumps(key)}: {json.dumps(values)}" for key, values in kept["series"].items()
    )
    rest = {key: value for key, value in kept.items() if key != "series"}
    return f'{json.dumps(rest, indent=2)[:-2]},\n  "series": {{\n{series}\n  }}\n}}\n'


def happen(period: int, chroma: ChromaServer, proxy: Proxy) -> None:
    """What makes the picture worth looking at."""
    if period == KILL:
        chroma.process.kill()
        chroma.process.wait(30)
    if period == START:
        threading.Thread(target=chroma.start).start()
    if period in (FULL.start, FULL.stop):
        state = "maint" if period == FULL.start else "ready"
        with socket.socket(socket.AF_UNIX) as admin:
            admin.connect(str(proxy.admin_socket))
            admin.sendall(f"set server disk/disk state {state}\n".encode())
            admin.recv(4096)
    if period in GUESSING:
        # From another address than the clients.
        with httpx.Client(transport=httpx.HTTPTransport(local_address="127.0.0.2")) as outsider:
            for number in range(12):
                path = f"{proxy.url}{COLLECTIONS}"
                outsider.get(path, headers={"Authorization": f"Bearer guess-{number}"})
            for _ in range(3):
                outsider.get(path, headers={"Origin": "https://other.example"})


def measure(
    cloudwatch: CloudWatch, journal: Journal, chroma: ChromaServer, folder: Path, elapsed: float
) -> None:
    """Once a second, which stands for a minute."""
    hours = elapsed / 60
    fields: dict[str, Any] = {
        "answers": int(answers(chroma)),
        "backup_hours": round((BACKUP_AGE + hours) % 24, 2),
        "certificate_days": round(CERTIFICATE_DAYS - hours / 24, 1),
    }
    if chroma.process.poll() is None:
        fields["memory_percent"] = round(100 * anonymous(chroma.process.pid) / MEMORY_LIMIT, 1)
    journal.status(**fields)
    used = sum(it.stat().st_blocks * 512 for it in files(folder / "data"))
    memory = meminfo()
    free, total = memory["MemAvailable"], memory["MemTotal"]
    swap = memory["SwapTotal"] - memory["SwapFree"]
    where = "fstype=ext4 path=/var/lib/chroma"
    cloudwatch.measured(f"Chroma disk_used_percent {where}", 100 * used / VOLUME)
    cloudwatch.measured("Chroma mem_used_percent", 100 * (total - free) / total)
    cloudwatch.measured("Chroma swap_used_percent", 100 * swap / (memory["SwapTotal"] or 1))


def answers(chroma: ChromaServer) -> bool:
    try:
        return httpx.get(f"http://{chroma.address}/api/v2/heartbeat", timeout=0.8).is_success
    except httpx.HTTPError:
        return False


def anonymous(pid: int) -> int:
    """Bytes of a process that cannot be reclaimed."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    [found] = [it.split()[1] for it in lines if it.startswith("Anonymous:")]
    return int(found) << 10


def cpu_seconds(chroma: ChromaServer, proxy: Proxy) -> float:
    """Of processors, that the server has used."""
    assert proxy.haproxy is not None
    workers = Path(f"/proc/{proxy.haproxy.pid}/task/{proxy.haproxy.pid}/children").read_text()
    ticks = 0
    for pid in (chroma.process.pid, *map(int, workers.split())):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def files(folder: Path) -> Iterator[Path]:
    for parent, _, names in os.walk(folder):
        yield from (Path(parent, name) for name in names if Path(parent, name).exists())


def meminfo() -> dict[str, int]:
    """Of the computer, in KiB."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return {it.partition(":")[0]: int(it.split()[1]) for it in lines}


def queued() -> float:
    """Seconds that reads and writes of the computer's disks took, each counted:
    https://docs.kernel.org/admin-guide/iostats.html"""
    lines = Path("/proc/diskstats").read_text().splitlines()
    return sum(int(it.split()[13]) for it in lines) / 1000
