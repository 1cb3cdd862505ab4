"""Bytes to a proxy and back, for what no HTTP library would send."""

from __future__ import annotations

import contextlib
import socket

from tests.host.proxy import VERIFY, Proxy


def connect(proxy: Proxy, source: str = "127.0.0.1") -> socket.socket:
    """A connection as the test's way says: plain, or TLS."""
    connection = socket.create_connection(("127.0.0.1", proxy.port), 10, (source, 0))
    return (
        VERIFY.wrap_socket(connection, server_hostname="localhost")
        if proxy.over_tls
        else connection
    )


def end_sending(connection: socket.socket) -> None:
    # An SSLSocket's own method would end its reading, too.
    socket.socket.shutdown(connection, socket.SHUT_WR)


def exchange(proxy: Proxy, *parts: bytes, half_close: bool = True, timeout: float = 10) -> bytes:
    """Sends these bytes, and reads until the proxy closes or is silent for so many seconds.

    With the sending half closed, the proxy knows that nothing is to follow, and ends soon.
    """
    answer = b""
    with connect(proxy) as connection, contextlib.suppress(OSError):
        for part in parts:
            connection.sendall(part)
        if half_close:
            end_sending(connection)
        connection.settimeout(timeout)
        while data := connection.recv(65536):
            answer += data
    return answer


def statuses(answer: bytes) -> list[int]:
    """The status of each response in these bytes."""
    lines = [line for line in answer.split(b"\n") if line.startswith(b"HTTP/1.")]
    return [int(line.split()[1]) for line in lines]
