"""Traces that arrive: from the real Chroma through the real relay at a real collector."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import httpx
import pytest
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2, logs_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from tests.host.chroma_servers import CURRENT, LAST_PYTHON, VERSIONS, ChromaServer
from tests.host.collector import Authority, Collector
from tests.host.name_server import NameServer
from tests.host.programs import wait_until
from tests.host.relay import Relay, http2_status

NAME = "localhost"
HEADERS = '{"x-honeycomb-team": "a%b\\\\c\'d e#f"}'
VALUE = "a%b\\c'd e#f"


@pytest.fixture
def relay_of_each_release(haproxy_program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relays run on each release of HAProxy in turn."""
    monkeypatch.setenv("HAPROXY", haproxy_program)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"), NAME)


@pytest.fixture(scope="module")
def collector(authority: Authority) -> Iterator[Collector]:
    """With TLS."""
    collector = Collector(authority.credentials)
    yield collector
    collector.close()


@pytest.fixture(scope="module")
def plain_collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.close()


@pytest.fixture
def traced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., ChromaServer]]:
    """A Chroma that sends its traces to a relay; both end with the test."""
    running: list[ChromaServer | Relay] = []

    def start(version: str, relay: Relay) -> ChromaServer:
        running.append(relay.start())
        folder = tmp_path_factory.mktemp("traced")
        server = ChromaServer(version, folder, relay.environment)
        running.append(server)
        return server

    yield start
    for one in reversed(running):
        one.stop()


def use(server: ChromaServer) -> None:
    """Requests that reach the segments as well."""
    api = f"http://{server.address}/api/v2/tenants/default_tenant/databases/default_database"
    with httpx.Client(timeout=30) as client:
        made = client.post(f"{api}/collections", json={"name": "traced", "get_or_create": True})
        collection = f"{api}/collections/{made.json()['id']}"
        vectors = {"ids": ["a"], "embeddings": [[1.0, 2.0]], "documents": ["text"]}
        client.post(f"{collection}/upsert", json=vectors).raise_for_status()
        question = {"query_embeddings": [[1.0, 2.0]], "n_results": 1}
        client.post(f"{collection}/query", json=question).raise_for_status()


@pytest.mark.usefixtures("relay_of_each_release")
@pytest.mark.parametrize("version", VERSIONS)
def test_spans_arrive_over_verified_tls_with_name_and_headers(
    version: str,
    tmp_path: Path,
    traced: Callable[..., ChromaServer],
    authority: Authority,
    collector: Collector,
) -> None:
    collector.clear()
    endpoint = f"https://{NAME}:{collector.port}"
    relay = Relay(
        tmp_path, endpoint, headers=HEADERS, authority=authority.file, service_name="search"
    )
    use(traced(version, relay))
    wait_until(collector.names, "spans arrive", 30)
    assert collector.services == {"search"}
    assert {headers["x-honeycomb-team"] for headers in collector.headers} == {VALUE}
    assert VALUE not in relay.log.read_text()


@pytest.mark.usefixtures("relay_of_each_release")
@pytest.mark.parametrize(
    ("endpoint", "headers"),
    [
        ("https://{name}:{tls}", "{{'x-team': 'abc'}}"),
        ("{name}:{tls}", '{{"x-team": "abc"}}'),
        ("http://{name}:{plain}", "x-team=abc,x-other=d"),
        ("http://127.0.0.1:{plain}", "x-team=abc"),
    ],
)
def test_each_form_of_endpoint_and_headers_works(
    endpoint: str,
    headers: str,
    tmp_path: Path,
    traced: Callable[..., ChromaServer],
    authority: Authority,
    collector: Collector,
    plain_collector: Collector,
) -> None:
    values = {"name": NAME, "tls": collector.port, "plain": plain_collector.port}
    receiver = plain_collector if endpoint.startswith("http:") else collector
    receiver.clear()
    relay = Relay(
        tmp_path,
        endpoint.format(**values),
        headers=headers.format(**values),
        authority=None if receiver is plain_collector else authority.file,
    )
    use(traced(CURRENT, relay))
    wait_until(receiver.names, "spans arrive", 30)
    assert {headers["x-team"] for headers in receiver.headers} == {"abc"}


def test_the_metrics_of_1_x_pass_too(
    tmp_path: Path, traced: Callable[..., ChromaServer], plain_collector: Collector
) -> None:
    plain_collector.clear()
    server = traced(CURRENT, Relay(tmp_path, f"http://{NAME}:{plain_collector.port}"))
    use(server)
    # They are exported once a minute.
    wait_until(lambda: plain_collector.metrics, "metrics arrive", 90)


EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"


@pytest.mark.usefixtures("relay_of_each_release")
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("DELETE", "/1/datasets/production"),
        ("GET", EXPORT),
        ("PUT", EXPORT),
        ("POST", "/1/events/production"),
        ("POST", f"{EXPORT}/"),
        ("POST", f"/1{EXPORT}"),
        ("POST", f"{EXPORT}?to=elsewhere"),
        ("POST", f"{EXPORT}/../../1/datasets"),
        ("POST", EXPORT.replace("/Export", "/%45xport")),
    ],
)
def test_the_collectors_key_serves_for_nothing_but_exports(
    method: str, path: str, tmp_path: Path, plain_collector: Collector
) -> None:
    """A container that was taken over asks the relay, which adds the key."""
    plain_collector.clear()
    relay = Relay(tmp_path, f"http://{NAME}:{plain_collector.port}", headers="x-team=abc").start()
    try:
        status = http2_status(relay.port, method, path)
    finally:
        relay.stop()
    assert status == "403"
    assert plain_collector.headers == []


@pytest.mark.usefixtures("relay_of_each_release")
def test_logs_pass_too(tmp_path: Path, plain_collector: Collector) -> None:
    relay = Relay(tmp_path, f"http://{NAME}:{plain_collector.port}").start()
    try:
        with grpc.insecure_channel(f"127.0.0.1:{relay.port}") as channel:
            logs = logs_service_pb2_grpc.LogsServiceStub(channel)
            with pytest.raises(grpc.RpcError) as refusal:
                logs.Export(logs_service_pb2.ExportLogsServiceRequest(), timeout=20)
    finally:
        relay.stop()
    # By the collector of the tests, which has no such service; the relay says PERMISSION_DENIED.
    assert refusal.value.code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.usefixtures("relay_of_each_release")
@pytest.mark.parametrize("kind", ["a name that is not in it", "an authority that is unknown"])
def test_with_the_wrong_certificate_nothing_is_sent(
    kind: str,
    tmp_path: Path,
    traced: Callable[..., ChromaServer],
    authority: Authority,
    collector: Collector,
) -> None:
    collector.clear()
    if kind.startswith("a name"):
        relay = Relay(
            tmp_path, f"ip6-localhost.localhost:{collector.port}", authority=authority.file
        )
    else:
        relay = Relay(tmp_path, f"{NAME}:{collector.port}")
    use(traced(CURRENT, relay))
    wait_until(lambda: "status" in relay.log.read_text(), "the relay tries", 30)
    time.sleep(2)
    assert collector.headers == []


@pytest.mark.parametrize("version", VERSIONS)
def test_each_granularity_lets_more_spans_through(
    version: str,
    tmp_path_factory: pytest.TempPathFactory,
    traced: Callable[..., ChromaServer],
    plain_collector: Collector,
) -> None:
    arrived: dict[str, set[str]] = {}
    for granularity in ("none", "operation", "operation_and_segment", "all"):
        plain_collector.clear()
        relay = Relay(
            tmp_path_factory.mktemp("relay"),
            f"http://{NAME}:{plain_collector.port}",
            granularity=granularity,
        )
        use(traced(version, relay))
        if granularity != "none":
            wait_until(plain_collector.names, "spans arrive", 30)
        time.sleep(7)  # they are exported every 5 seconds
        arrived[granularity] = plain_collector.names()
    assert arrived["none"] == set() if version == CURRENT else arrived["none"] < arrived["all"]
    assert arrived["none"] < arrived["operation"]
    assert arrived["operation"] < arrived["operation_and_segment"] <= arrived["all"]


def test_a_collector_that_is_down_slow_or_refuses_costs_no_request_anything(
    tmp_path: Path, traced: Callable[..., ChromaServer]
) -> None:
    collector = Collector()
    relay = Relay(tmp_path, f"http://{NAME}:{collector.port}")
    server = traced(CURRENT, relay)
    use(server)
    url = f"http://{server.address}/api/v2/tenants/default_tenant"

    def median() -> float:
        with httpx.Client(timeout=30) as client:
            times = []
            for _ in range(200):
                start = time.monotonic()
                assert client.get(url).status_code == 200
                times.append(time.monotonic() - start)
        return sorted(times)[len(times) // 2]

    def memory() -> int:
        """Resident, of Chroma and of the relay's master, in MiB."""
        pages = sum(
            int(Path(f"/proc/{pid}/statm").read_text().split()[1])
            for pid in (server.process.pid, relay.pid)
        )
        return pages * os.sysconf("SC_PAGE_SIZE") >> 20

    well, before = median(), memory()
    collector.delay = 30
    slow = median()
    collector.delay, collector.refuses = 0, True
    refused = median()
    collector.close()
    down, after = median(), memory()
    assert after - before < 32
    print(f"median of a request, over a collector that is well: {slow / well:.2f} slow, ", end="")
    print(f"{refused / well:.2f} refusing, {down / well:.2f} down")
    assert max(slow, refused, down) < 3 * well + 0.01


@pytest.mark.usefixtures("relay_of_each_release")
@pytest.mark.skipif(os.geteuid() != 0, reason="another /etc/resolv.conf takes root")
def test_a_collector_with_an_ipv6_address_too_is_reached_on_a_network_without_ipv6(
    tmp_path: Path, plain_collector: Collector
) -> None:
    names = NameServer("127.0.0.1", "2001:db8::1")
    relay = Relay(tmp_path, f"http://collector.example:{plain_collector.port}")
    try:
        relay.start(names.resolv_conf(tmp_path))
        # libc asks for both kinds at the start, then HAProxy's own resolver asks.
        wait_until(lambda: len(names.asked) > 2, "the relay asks for the collector's address")
        time.sleep(1)
        with grpc.insecure_channel(f"127.0.0.1:{relay.port}") as channel:
            traces = trace_service_pb2_grpc.TraceServiceStub(channel)
            for _ in range(12):
                traces.Export(trace_service_pb2.ExportTraceServiceRequest(), timeout=30)
    finally:
        relay.stop()
        names.close()


def test_the_server_starts_without_its_collector(
    tmp_path: Path, traced: Callable[..., ChromaServer]
) -> None:
    for version in (CURRENT, LAST_PYTHON):
        folder = tmp_path / version
        folder.mkdir()
        use(traced(version, Relay(folder, "http://nowhere.invalid:4317")))


def test_without_an_endpoint_chroma_is_told_nothing(tmp_path: Path) -> None:
    relay = Relay(tmp_path, "")
    assert relay.prepared.returncode == 0
    assert relay.environment == {}
    assert not (tmp_path / "relay.env").exists()


@pytest.mark.parametrize(
    ("endpoint", "headers", "sentence"),
    [
        ("ftp://a.b", None, "an endpoint such as"),
        ("a.b", "no headers", "headers as"),
        ("a.b", "te=x", "belongs to the protocol"),
    ],
)
def test_what_is_malformed_is_refused_on_the_machine_too(
    endpoint: str, headers: str | None, sentence: str, tmp_path: Path
) -> None:
    relay = Relay(tmp_path, endpoint, headers=headers)
    assert relay.prepared.returncode == 1
    assert sentence in relay.prepared.stderr
    assert headers is None or headers not in relay.prepared.stderr


def test_the_headers_are_for_root_alone_who_hands_them_to_the_relay(tmp_path: Path) -> None:
    Relay(tmp_path, "a.b", headers=HEADERS)
    assert (tmp_path / "relay-headers.cfg").stat().st_mode & 0o777 == 0o600


def test_a_full_disk_leaves_the_headers_as_they_were(tmp_path: Path) -> None:
    Relay(tmp_path, "http://127.0.0.1:4317", headers="key=one")
    before = (tmp_path / "relay-headers.cfg").read_text()
    assert "set-header key" in before
    (tmp_path / "relay-headers.cfg.new").symlink_to("/dev/full")
    again = Relay(tmp_path, "http://127.0.0.1:4317", headers="key=two")
    assert again.prepared.returncode != 0
    assert "No space left" in again.prepared.stderr
    assert (tmp_path / "relay-headers.cfg").read_text() == before


def test_the_relay_may_read_the_certificates_that_it_verifies_against(
    tmp_path: Path, authority: Authority
) -> None:
    Relay(tmp_path, "a.b", authority=authority.file)
    assert (tmp_path / "relay-ca.pem").stat().st_mode & 0o777 == 0o644
