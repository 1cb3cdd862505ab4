"""Chroma stops, starts and fails behind the proxy."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.host.chroma_servers import VERSIONS, ChromaServer
from tests.host.proxy import Proxy

GUARDED = "/api/v2/tenants/default_tenant"
COLLECTIONS = f"{GUARDED}/databases/default_database/collections"


@pytest.fixture(params=VERSIONS)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ChromaServer]:
    server = ChromaServer(request.param, tmp_path)
    yield server
    server.stop()


def test_while_chroma_is_down_the_proxy_says_so_in_json(make_proxy: Callable[..., Proxy]) -> None:
    with socket.socket() as nobody:  # has its port, so that the proxy itself does not get it
        nobody.bind(("127.0.0.1", 0))
        proxy = make_proxy(f"127.0.0.1:{nobody.getsockname()[1]}").start()
        answer = proxy.get(GUARDED, proxy.right)
    assert answer.status_code == 503
    assert answer.headers["Content-Type"] == "application/json"
    assert "Chroma is not running" in answer.json()["message"]
    assert answer.headers["Retry-After"] == "5"
    assert proxy.get(GUARDED).status_code == 401


def test_a_request_is_served_as_soon_as_chroma_listens(make_proxy: Callable[..., Proxy]) -> None:
    """Not a whole second later; the quickest of some counts, so that a busy computer proves nothing."""
    quickest = 60.0
    for _ in range(5):
        with socket.socket() as chroma:
            chroma.bind(("127.0.0.1", 0))
            proxy = make_proxy(f"127.0.0.1:{chroma.getsockname()[1]}").start()
            opening = threading.Timer(0.3, chroma.listen)
            opening.start()
            client = threading.Thread(target=proxy.get, args=(GUARDED, proxy.right))
            started = time.monotonic()
            client.start()
            opening.join()
            connection, _ = chroma.accept()
            quickest = min(quickest, time.monotonic() - started)
            with connection:
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                client.join()
            proxy.stop()
    assert quickest < 0.9


def test_a_request_during_a_restart_is_served_after_it(
    server: ChromaServer, make_proxy: Callable[..., Proxy]
) -> None:
    proxy = make_proxy(server.address).start()
    with httpx.Client(headers=proxy.right, timeout=60, base_url=proxy.url) as client:
        made = client.post(COLLECTIONS, json={"name": "restarted"})
        collection = f"{COLLECTIONS}/{made.json()['id']}"
        server.stop()
        answers: list[httpx.Response] = []

        def add() -> None:
            record = {"ids": ["a"], "embeddings": [[1.0, 2.0]], "documents": ["one"]}
            with httpx.Client(headers=proxy.right, timeout=60) as writer:
                answers.append(writer.post(f"{proxy.url}{collection}/add", json=record))

        adding = threading.Thread(target=add)
        adding.start()
        time.sleep(0.5)
        server.start()
        adding.join(60)
        assert [answer.status_code for answer in answers] == [201], answers[0].text
        assert client.get(f"{collection}/count").json() == 1


def test_a_request_that_was_sent_is_never_sent_again(make_proxy: Callable[..., Proxy]) -> None:
    received: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as broken:
        proxy = make_proxy(f"127.0.0.1:{broken.getsockname()[1]}").start()

        def take_and_close() -> None:
            while True:
                try:
                    connection, _ = broken.accept()
                except OSError:
                    return
                with connection:
                    received.append(connection.recv(65536))

        threading.Thread(target=take_and_close, daemon=True).start()
        for method in ("POST", "GET"):
            received.clear()
            answer = httpx.request(method, proxy.url + GUARDED, headers=proxy.right, timeout=30)
            assert answer.status_code == 502
            assert "ended the connection" in answer.json()["message"]
            time.sleep(1.5)
            assert len(received) == 1
        broken.shutdown(socket.SHUT_RDWR)
