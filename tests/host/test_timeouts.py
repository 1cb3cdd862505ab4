"""Slow and many connections: they end, and good clients are served meanwhile."""

from __future__ import annotations

import contextlib
import json
import re
import resource
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator

import httpx
import pytest

from tests.host.programs import program, wait_until
from tests.host.proxy import VERIFY, Proxy
from tests.host.raw import connect, exchange, statuses
from tests.host.recorder import Recorder

TRANSPORTS = ["plain", "tls"]

GUARDED = "/api/v2/tenants/default_tenant"


@pytest.fixture
def proxy(recorder: Recorder, make_proxy: Callable[..., Proxy]) -> Proxy:
    recorder.forget()
    return make_proxy(recorder.address).start()


@pytest.fixture(autouse=True)
def many_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, 8192), hard), hard))


@contextlib.contextmanager
def connections(
    proxy: Proxy, count: int, source: str = "127.0.0.1"
) -> Iterator[list[socket.socket]]:
    opened = [connect(proxy, source) for _ in range(count)]
    try:
        yield opened
    finally:
        for connection in opened:
            connection.close()


def serves_quickly(proxy: Proxy, source: str = "127.0.0.1", count: int = 50) -> bool:
    with httpx.Client(transport=httpx.HTTPTransport(local_address=source, verify=VERIFY)) as client:
        for _ in range(count):
            started = time.monotonic()
            answer = client.get(proxy.url + GUARDED, headers=proxy.right, timeout=2)
            if answer.status_code != 200 or time.monotonic() - started > 1:
                return False
    return True


def test_a_client_that_waits_long_for_its_answer_is_not_forgotten_on_the_way(proxy: Proxy) -> None:
    """NAT gateways and load balancers forget a flow after 350 seconds without a packet:
    https://docs.aws.amazon.com/vpc/latest/userguide/nat-gateway-troubleshooting.html"""
    with contextlib.closing(connect(proxy)) as connection:
        connection.sendall(b"GET /api/v2/heartbeat HTTP/1.1\r\n")
        port = connection.getsockname()[1]
        command = [program("ss"), "-Htno", f"sport = :{proxy.port} and dport = :{port}"]

        def timer() -> re.Match[str] | None:
            listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            return re.search(r"timer:\(keepalive,(?:(\d+)min)?", listed)

        wait_until(timer, "the proxy sends keep-alives on it")
        found = timer()
        assert found is not None
        assert int(found[1] or 0) < 5


def test_slow_headers_are_cut_off_and_hold_nobody_up(proxy: Proxy, recorder: Recorder) -> None:
    assert serves_quickly(proxy, count=1)
    with connections(proxy, 300) as slow:
        started = time.monotonic()
        for connection in slow:
            connection.sendall(b"GET /api/v2/heartbeat HTTP/1.1\r\nHost: chroma\r\nX-Slow: ")
        # For half of the time that they have: to open 300 takes seconds on a busy computer.
        while time.monotonic() - started < 5:
            for connection in slow:
                connection.sendall(b"x")
            assert serves_quickly(proxy, count=5)
            time.sleep(0.5)
        assert not [request for request in recorder.requests if b"x-slow" in dict(request.headers)]
        for connection in slow:
            connection.settimeout(10)
            assert connection.recv(4096).startswith(b"HTTP/1.1 408 ")


def test_a_slow_body_without_the_credential_is_refused_at_once(
    proxy: Proxy, recorder: Recorder
) -> None:
    for path in (GUARDED, "/api/v2/heartbeat"):
        for length in ("Content-Length: 1000000", "Transfer-Encoding: chunked"):
            for method in ("POST", "GET"):
                head = f"{method} {path} HTTP/1.1\r\nHost: chroma\r\n{length}\r\n\r\n"
                answer = exchange(proxy, head.encode(), half_close=False, timeout=0.5)
                assert statuses(answer) == [401]
    assert recorder.raw == b""


def test_many_slow_bodies_hold_nobody_up(proxy: Proxy) -> None:
    [(name, value)] = proxy.right.items()
    head = f"POST {GUARDED} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n{name}: {value}\r\n\r\n"
    assert serves_quickly(proxy, count=1)
    with connections(proxy, 300) as slow:
        for connection in slow:
            connection.sendall(head.encode() + b"x")
        assert serves_quickly(proxy)


@pytest.mark.parametrize("length", ["Content-Length: 1000", "Transfer-Encoding: chunked"])
def test_a_body_that_does_not_arrive_is_answered_with_a_sentence(
    recorder: Recorder, make_proxy: Callable[..., Proxy], length: str
) -> None:
    proxy = make_proxy(recorder.address)
    proxy.environment["PROXY_CLIENT_TIMEOUT"] = "1s"
    proxy.start()
    recorder.forget()
    [(name, value)] = proxy.right.items()
    head = f"POST {GUARDED} HTTP/1.1\r\nHost: x\r\n{length}\r\n{name}: {value}\r\n\r\n"
    answer = exchange(proxy, head.encode(), half_close=False)
    assert statuses(answer) == [408]
    assert b"content-type: application/json" in answer.lower()
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["message"].endswith("in time.")
    assert recorder.raw == b""


def is_open(connection: socket.socket) -> bool:
    connection.settimeout(0.01)
    try:
        return connection.recv(1) != b""
    except TimeoutError:
        return True
    except ConnectionResetError:
        return False


def held_open(proxy: Proxy, count: int, source: str) -> int:
    """How many of so many connections from one address the proxy keeps, while others are served."""
    with contextlib.ExitStack() as stack:
        many = []
        for _ in range(count):
            with contextlib.suppress(ConnectionResetError):
                many.append(stack.enter_context(connect(proxy, source)))
        assert serves_quickly(proxy, "127.0.0.3")
        return sum(map(is_open, many))


def test_an_address_that_never_showed_the_credential_has_50_connections(proxy: Proxy) -> None:
    httpx.get(proxy.url + "/api/v2/heartbeat", verify=VERIFY)
    assert held_open(proxy, 120, "127.0.0.2") == 50


def test_an_address_that_showed_the_credential_has_1000_connections(proxy: Proxy) -> None:
    assert serves_quickly(proxy, "127.0.0.4", count=1)
    assert held_open(proxy, 1200, "127.0.0.4") == 1000


HELD = {
    "a slow body": f"POST {GUARDED} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n",
    "slow headers": f"GET {GUARDED} HTTP/1.1\r\nHost: x\r\nX-Slow: ",
    "large headers": f"GET {GUARDED} HTTP/1.1\r\nHost: x\r\nX-Large: {'x' * 14000}",
    "no second request": "GET /api/v2/heartbeat HTTP/1.1\r\nHost: x\r\n\r\n",
}


@pytest.mark.parametrize("auth", ["token", "none"])
@pytest.mark.parametrize("held", HELD.values(), ids=HELD)
def test_4400_connections_of_five_strangers_hold_nobody_up(
    recorder: Recorder, make_proxy: Callable[..., Proxy], auth: str, held: str
) -> None:
    proxy = make_proxy(recorder.address, auth=auth).start()
    with contextlib.ExitStack() as stack:
        strangers = []
        for n in range(4400):
            with contextlib.suppress(OSError):
                connection = stack.enter_context(connect(proxy, f"127.0.0.{10 + n % 5}"))
                connection.sendall(held.encode())
                connection.setblocking(False)
                strangers.append(connection)
        transport = httpx.HTTPTransport(local_address="127.0.0.3", verify=VERIFY)
        with httpx.Client(headers=proxy.right, transport=transport, timeout=30) as client:
            for _ in range(10):
                if held != HELD["no second request"]:
                    for connection in strangers:
                        with contextlib.suppress(OSError):
                            connection.send(b"x")
                assert client.get(proxy.url + GUARDED).status_code == 200
    proxy.stop()


def test_headers_of_15_kilobytes_pass_and_longer_ones_are_refused(proxy: Proxy) -> None:
    assert proxy.get(GUARDED, proxy.right | {"X-Long": "x" * 14000}).status_code == 200
    assert proxy.get(GUARDED, proxy.right | {"X-Long": "x" * 17000}).status_code == 400


def test_a_large_body_passes(proxy: Proxy, recorder: Recorder) -> None:
    body = b"x" * 41_943_040
    answer = httpx.post(
        proxy.url + GUARDED, headers=proxy.right, content=body, timeout=60, verify=VERIFY
    )
    assert answer.status_code == 200
    assert len(recorder.raw) > len(body)


def test_a_body_that_chroma_would_refuse_always_gets_the_answer_that_says_so(
    proxy: Proxy, recorder: Recorder
) -> None:
    for _ in range(8):
        body = b"x" * 78_000_000
        answer = httpx.post(
            proxy.url + GUARDED, headers=proxy.right, content=body, timeout=60, verify=VERIFY
        )
        assert answer.status_code == 413
        assert "40 MiB" in answer.json()["message"]
    assert recorder.raw == b""


@pytest.mark.parametrize(
    "setting", [{"VERSION": "0.6.3"}, {"CHROMA_CONFIG": '{"max_payload_size_bytes": 100000000}'}]
)
def test_a_server_that_takes_larger_bodies_gets_them(
    recorder: Recorder, make_proxy: Callable[..., Proxy], setting: dict[str, str]
) -> None:
    proxy = make_proxy(recorder.address)
    proxy.settings |= setting
    proxy.start()
    body = b"x" * 41_943_041
    answer = httpx.post(
        proxy.url + GUARDED, headers=proxy.right, content=body, timeout=60, verify=VERIFY
    )
    assert answer.status_code == 200


def test_chroma_may_think_for_longer_than_a_client_may_be_silent(
    make_proxy: Callable[..., Proxy],
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        proxy = make_proxy(f"127.0.0.1:{server.getsockname()[1]}")
        proxy.environment["PROXY_CLIENT_TIMEOUT"] = "2s"
        proxy.start()
        answers: list[httpx.Response] = []

        def ask() -> None:
            url = proxy.url + GUARDED
            answers.append(
                httpx.post(url, headers=proxy.right, content=b"{}", timeout=30, verify=VERIFY)
            )

        asking = threading.Thread(target=ask)
        asking.start()
        connection, _ = server.accept()
        with connection:
            time.sleep(6)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
            asking.join(10)
    assert [answer.status_code for answer in answers] == [200]
