"""What the auth proxy costs: queries and heartbeats through it, beside going direct and two other servers.

    python -m tests.bench.proxy [--rounds 5] [--seconds 3] [--users]

All stand in front of one Chroma with 20,000 vectors of 384 dimensions, make the same check
and write an access log; the proxy and nginx in plain and over TLS, with the same certificate, where
the proxy has one port for both and nginx two. A round measures all of them, in an order drawn anew,
on connections that are kept and on new ones; a ratio is to the direct measurement of the same
round. Printed are the medians of the rounds.

Then what users cost: the proxy with one user beside one with 200, and beside a second one with one user,
which shows by how much a measurement moves by itself. Each answers for the last of its users, in front of
the same Chroma, and of a server that answers at once. `--users` measures only this.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from tests.host.chroma_servers import CURRENT, ChromaServer
from tests.host.container_network import ContainerNetwork
from tests.host.haproxys import AMAZON_LINUX, haproxy
from tests.host.programs import free_port, wait_until
from tests.host.proxy import VERIFY, Proxy

VECTORS, DIMENSIONS, BATCH = 20_000, 384, 2_000
CLIENTS = (1, 8, 32)
HEARTBEAT_CLIENTS = 16
AIMS = {"haproxy": 1.10, "haproxy tls": 1.15}
TOKEN = "bench-token"
AUTHORIZATION = f"Bearer {TOKEN}"
USERS = (1, 1, 200)
COLLECTIONS = "/api/v2/tenants/default_tenant/databases/default_database/collections"
PACKAGES = (Path(__file__).parent / "apt-packages.txt").read_text().split()

NGINX = """
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/nginx.err;
worker_processes auto;
events {{ worker_connections 4000; }}
http {{
    access_log {folder}/nginx.log;
    client_body_temp_path {folder};
    proxy_temp_path {folder};
    client_max_body_size 0;
    map $http_authorization $known {{ default 0; "{authorization}" 1; }}
    map $uri $open {{ default 0; /api/v2/heartbeat 1; /api/v2/version 1; }}
    map $known$open $refused {{ default 0; 00 1; }}
    upstream chroma {{ server {chroma}; keepalive 64; }}
    server {{
        listen 127.0.0.1:{port};
        listen 127.0.0.1:{tls_port} ssl;
        ssl_certificate {certificate};
        ssl_certificate_key {certificate};
        ssl_protocols TLSv1.2 TLSv1.3;
        ssl_session_cache shared:chroma:10m;
        location / {{
            if ($refused) {{ return 401; }}
            proxy_pass http://chroma;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Authorization "";
        }}
    }}
}}
"""

AT_ONCE = """
defaults
    mode http
    timeout client 1m
    timeout connect 1s
    timeout server 1m
frontend at_once
    bind {address}
    http-request return status 200 content-type application/json string []
"""

CADDY = """
{{
    admin off
    auto_https off
}}
http://127.0.0.1:{port} {{
    log {{
        output file {folder}/caddy.log
    }}
    @refused {{
        not header Authorization "{authorization}"
        not path /api/v2/heartbeat /api/v2/version
    }}
    respond @refused 401
    reverse_proxy {chroma} {{
        header_up -Authorization
    }}
}}
"""


@dataclass
class Way:
    """One way to Chroma."""

    name: str
    url: str
    process: subprocess.Popen[bytes] | None = None
    authorization: str = AUTHORIZATION
    p50: dict[int, list[float]] = field(default_factory=dict)
    p99: dict[int, list[float]] = field(default_factory=dict)
    new: dict[int, list[float]] = field(default_factory=dict)
    """The median with a new connection for each request."""
    heartbeats: list[float] = field(default_factory=list)
    at_once: list[float] = field(default_factory=list)
    """The median in front of a server that answers at once, with one client."""
    processor: list[float] = field(default_factory=list)
    """Microseconds of the processor for each of these requests."""

    def _pids(self) -> list[int]:
        assert self.process is not None
        pids = [self.process.pid]
        for pid in pids:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text()
            pids += [int(child) for child in children.split()]
        return pids

    def memory(self) -> float:
        """Resident MiB of the process and its children, shared pages counted once."""
        rollups = [Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in self._pids()]
        return sum(int(rollup.split("\nPss:")[1].split()[0]) for rollup in rollups) / 1024

    def processor_seconds(self) -> float:
        """What the process and its children have used so far."""
        stats = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2] for pid in self._pids()]
        ticks = sum(int(it) for stat in stats for it in stat.split()[11:13])
        return ticks / os.sysconf("SC_CLK_TCK")


def other_proxy(
    name: str, config: str, command: list[str], chroma: str, folder: Path, certificate: Path
) -> list[Way]:
    """nginx or Caddy with the proxy's check, when it is installed."""
    if shutil.which(command[0]) is None:
        print(f"skipped: no {name}; sudo apt-get install {' '.join(PACKAGES)}")
        return []
    port, tls_port = free_port(), free_port()
    file = folder / f"{name}.conf"
    values = {"folder": folder, "port": port, "tls_port": tls_port, "certificate": certificate}
    file.write_text(config.format(chroma=chroma, authorization=AUTHORIZATION, **values))
    with (folder / f"{name}.out").open("wb") as out:
        environment = os.environ | {"HOME": str(folder), "XDG_DATA_HOME": str(folder)}
        process = subprocess.Popen(
            [*command, str(file)], cwd=folder, env=environment, stdout=out, stderr=out
        )
    ways = [Way(name, f"http://127.0.0.1:{port}", process)]
    if "tls_port" in config:
        ways.append(Way(f"{name} tls", f"https://127.0.0.1:{tls_port}", process))
    return ways


def answers(way: Way) -> bool:
    try:
        return httpx.get(f"{way.url}/api/v2/heartbeat", verify=VERIFY).is_success
    except httpx.HTTPError:
        return False


def check(way: Way) -> None:
    """The way serves the credential and, unless it is the direct one, nothing else."""
    wait_until(lambda: answers(way), f"{way.name} answers")
    right = {"Authorization": way.authorization}
    url = way.url + COLLECTIONS
    assert httpx.get(url, headers=right, verify=VERIFY).status_code == 200, way.name
    if way.process is not None:
        assert httpx.get(url, verify=VERIFY).status_code == 401, way.name


def vector() -> list[float]:
    return [value / 1000 for value in random.choices(range(-1000, 1000), k=DIMENSIONS)]


def fill(chroma: ChromaServer, folder: Path) -> tuple[str, Path]:
    """Adds the vectors. Returns the path to query at, and a file of queries."""
    url = f"http://{chroma.address}{COLLECTIONS}"
    with httpx.Client(timeout=120) as client:
        created = client.post(url, json={"name": "bench"}).raise_for_status().json()["id"]
        for start in range(0, VECTORS, BATCH):
            ids = [str(number) for number in range(start, start + BATCH)]
            records = {"ids": ids, "embeddings": [vector() for _ in ids]}
            client.post(f"{url}/{created}/add", json=records).raise_for_status()
        queries = folder / "queries"
        with queries.open("w") as lines:
            for _ in range(200):
                query = {"query_embeddings": [vector()], "n_results": 10, "include": ["distances"]}
                lines.write(json.dumps(query) + "\n")
        for query in queries.read_text().splitlines():  # the index is built and warm
            client.post(f"{url}/{created}/query", content=query).raise_for_status()
    return f"{COLLECTIONS}/{created}/query", queries


def load(
    way: Way,
    path: str,
    clients: int,
    seconds: float,
    bodies: Path | None = None,
    *,
    new: bool = False,
) -> tuple[float, ...]:
    """Median and 99th percentile in microseconds, and requests a second."""
    script = str(Path(__file__).with_name("load.lua"))
    url = way.url + path
    environment = os.environ | {"AUTHORIZATION": way.authorization}
    if bodies is not None:
        environment["BODIES"] = str(bodies)
    if new:
        environment["CONNECTION"] = "close"
    done = subprocess.run(
        ["wrk", "-t1", f"-c{clients}", f"-d{seconds}s", "--timeout=30s", "-s", script, url],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    [result] = [line for line in done.stdout.splitlines() if line.startswith("RESULT")]
    p50, p99, failed, rate = map(float, result.split()[1:])
    assert failed == 0, done.stdout
    return p50, p99, rate


def measure(ways: list[Way], path: str, queries: Path, rounds: int, seconds: float) -> None:
    for number in range(rounds):
        for clients in CLIENTS:
            for way in random.sample(ways, len(ways)):
                p50, p99, _ = load(way, path, clients, seconds, queries)
                way.p50.setdefault(clients, []).append(p50)
                way.p99.setdefault(clients, []).append(p99)
                p50, _, _ = load(way, path, clients, seconds, queries, new=True)
                way.new.setdefault(clients, []).append(p50)
        for way in random.sample(ways, len(ways)):
            rate = load(way, "/api/v2/heartbeat", HEARTBEAT_CLIENTS, seconds)[2]
            way.heartbeats.append(rate)
        print(f"round {number + 1} of {rounds} done", file=sys.stderr)


def ratio(to: list[float], of: list[float]) -> float:
    return statistics.median(mine / direct for mine, direct in zip(of, to, strict=True))


def report(direct: Way, others: list[Way]) -> None:
    median = statistics.median
    columns = [f"{what} {clients}" for clients in CLIENTS for what in ("p50", "p99", "new")]
    print(f"\n{'clients':12}" + "".join(f"{name:>9}" for name in [*columns, "beats/s", "MiB"]))
    cells = [
        f"{median(values) / 1000:.2f} ms"
        for clients in CLIENTS
        for values in (direct.p50[clients], direct.p99[clients], direct.new[clients])
    ]
    cells += [f"{median(direct.heartbeats):.0f}", ""]
    print(f"{direct.name:12}" + "".join(f"{cell:>9}" for cell in cells))
    for way in others:
        cells = [
            f"{ratio(base[clients], mine[clients]):.2f}"
            for clients in CLIENTS
            for base, mine in (
                (direct.p50, way.p50),
                (direct.p99, way.p99),
                (direct.new, way.new),
            )
        ]
        cells += [f"{ratio(direct.heartbeats, way.heartbeats):.2f}", f"{way.memory():.1f}"]
        print(f"{way.name:12}" + "".join(f"{cell:>9}" for cell in cells))
    print()
    by_name = {way.name: way for way in others}
    for name, aim in AIMS.items():
        worst = max(ratio(direct.p50[it], by_name[name].p50[it]) for it in CLIENTS)
        print(f"{name} at worst: p50 {worst:.2f} of direct (aim {aim})", end="")
        if nginx := by_name.get(name.replace("haproxy", "nginx")):
            to_nginx = [ratio(nginx.p50[it], by_name[name].p50[it]) for it in CLIENTS]
            print(", of nginx " + ", ".join(f"{it:.2f}" for it in to_nginx), end="")
        print()


def measure_others(
    chroma: ChromaServer,
    folder: Path,
    program: str,
    load_of_queries: tuple[str, Path],
    options: argparse.Namespace,
    stop: list[Callable[[], object]],
) -> None:
    proxy = Proxy(folder, chroma.address, credential=TOKEN, program=program).start()
    stop.append(proxy.stop)
    others = [
        Way("haproxy", proxy.url, proxy.haproxy),
        Way("haproxy tls", f"https://{proxy.address}", proxy.haproxy),
    ]
    nginx = ["nginx", "-e", str(folder / "nginx.err"), "-c"]
    caddy = ["caddy", "run", "--adapter", "caddyfile", "--config"]
    for name, config, command in (("nginx", NGINX, nginx), ("caddy", CADDY, caddy)):
        ways = other_proxy(name, config, command, chroma.address, folder, proxy.certificate)
        for way in ways[:1]:
            assert way.process is not None
            stop += [way.process.wait, way.process.terminate]
        others += ways
    direct = Way("direct", f"http://{chroma.address}")
    for way in (direct, *others):
        check(way)
    measure([direct, *others], *load_of_queries, options.rounds, options.seconds)
    report(direct, others)


def with_users(
    chroma: str, folder: Path, program: str, stop: list[Callable[[], object]]
) -> list[Way]:
    """Proxys with so many users, each for the last of them."""
    ways = []
    for number, count in enumerate(USERS):
        own = folder / f"users-{number}"
        own.mkdir(parents=True)
        users = {f"user-{it}": "read" for it in range(count)}
        proxy = Proxy(own, chroma, credential=TOKEN, users=users, program=program).start()
        stop.append(proxy.stop)
        [authorization] = proxy.headers_of(list(users)[-1]).values()
        name = f"{count} user{'s' * (count > 1)}{', again' * (count in USERS[:number])}"
        ways.append(Way(name, proxy.url, proxy.haproxy, authorization))
        check(ways[-1])
    return ways


def at_once(folder: Path, program: str, stop: list[Callable[[], object]]) -> str:
    """The address of a server that answers at once."""
    address = f"127.0.0.1:{free_port()}"
    config = folder / "at-once.cfg"
    config.write_text(AT_ONCE.format(address=address))
    process = subprocess.Popen([program, "-f", str(config)])
    stop += [process.wait, process.terminate]
    return address


def measure_users(
    chroma: ChromaServer,
    folder: Path,
    program: str,
    load_of_queries: tuple[str, Path],
    options: argparse.Namespace,
    stop: list[Callable[[], object]],
) -> None:
    ways = with_users(chroma.address, folder / "chroma", program, stop)
    quick = with_users(at_once(folder, program, stop), folder / "at-once", program, stop)
    measure(ways, *load_of_queries, options.rounds, options.seconds)
    for _ in range(6 * options.rounds):
        for way in random.sample(quick, len(quick)):
            before = way.processor_seconds()
            p50, _, rate = load(way, COLLECTIONS, 1, 1)
            used = (way.processor_seconds() - before) / rate
            ways[quick.index(way)].at_once.append(p50)
            ways[quick.index(way)].processor.append(used * 1e6)
    report_users(ways)


def report_users(ways: list[Way]) -> None:
    """Ratios to the first way in the same round: the median, and the least and the largest. Then the least
    figures of all rounds, which other programs on the computer change the least."""
    base, *others = ways
    columns = [f"{what} {clients}" for clients in CLIENTS for what in ("p50", "p99", "new")]
    columns += ["beats/s", "at once", "processor"]

    def values(way: Way) -> list[list[float]]:
        by_clients = [(way.p50[it], way.p99[it], way.new[it]) for it in CLIENTS]
        rest = (way.heartbeats, way.at_once, way.processor)
        return [*(it for them in by_clients for it in them), *rest]

    rows = {way.name: [f"{way.memory():.1f}"] for way in ways}
    for column in range(len(columns)):
        mine = statistics.median(values(base)[column])
        in_ms = columns[column].startswith(("p50", "p99", "new"))
        rows[base.name].append(f"{mine / 1000:.2f} ms" if in_ms else f"{mine:.0f}")
        for way in others:
            pairs = zip(values(base)[column], values(way)[column], strict=True)
            ratios = sorted(other / one for one, other in pairs)
            middle = statistics.median(ratios)
            rows[way.name].append(f"{middle:.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})")
    for way in ways:
        rows[way.name] += [f"{min(way.at_once):.0f} us", f"{min(way.processor):.0f} us"]
    names = ["MiB", *columns, "at once, least", "processor, least"]
    print()
    for name, cells in zip(names, zip(*rows.values(), strict=True), strict=True):
        print(f"{name:18}" + "".join(f"{cell:>24}" for cell in cells))
    print(f"{'':18}" + "".join(f"{name:>24}" for name in rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--users", action="store_true", help="only what users cost")
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        sys.exit(f"no wrk: sudo apt-get install {' '.join(PACKAGES)}")
    random.seed(1)
    stop: list[Callable[[], object]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            if network := ContainerNetwork.if_possible():
                stop.append(network.close)
            chroma = ChromaServer(CURRENT, folder, network=network)
            stop.append(chroma.stop)
            path, queries = fill(chroma, folder)
            program = haproxy(AMAZON_LINUX)
            if not options.users:
                measure_others(chroma, folder, program, (path, queries), options, stop)
            measure_users(chroma, folder, program, (path, queries), options, stop)
        finally:
            for end in reversed(stop):
                end()


if __name__ == "__main__":
    main()
