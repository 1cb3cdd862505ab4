"""The emulator's servers: plain HTTP servers on this computer's loopback, one thread each, for their user alone."""

import os
import socket
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class Handler(BaseHTTPRequestHandler):
    """Request handler that keeps connections open and quiet."""

    protocol_version = "HTTP/1.1"

    def parse_request(self) -> bool:
        """Read a request; one of a page in a browser is refused."""
        if not super().parse_request():
            return False
        if "Origin" in self.headers:
            self.close_connection = True
            self.answer(403)
            return False
        return True

    def answer(
        self, status: int, body: bytes | str = b"", content_type: str = "text/plain", **headers: str
    ) -> None:
        """Send a whole response; ``_`` in a header's name stands for ``-``."""
        content = body.encode() if isinstance(body, str) else body
        self.send_response(status)
        for name, value in {
            "Content-Type": content_type,
            "Content-Length": str(len(content)),
            **headers,
        }.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def body(self) -> bytes:
        """Return the request's body."""
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the tests' output is for the tests."""


class _OwnServer(ThreadingHTTPServer):
    """Hangs up on other users of this computer: the metadata service tells what the machine's role may use."""

    def verify_request(
        self, request: socket.socket | tuple[bytes, socket.socket], client: Any
    ) -> bool:
        for _ in range(5):
            owner = _owner(client[1], self.server_port)
            if owner is not None:
                return owner in (0, os.geteuid())
            time.sleep(0.01)  # a list that changes while it is read may lack a line
        return False


def _owner(port: int, server_port: int) -> int | None:
    """The user whose end of a connection has that port (https://docs.kernel.org/networking/proc_net_tcp.html)."""
    ends = [f"0100007F:{port:04X}", f"0100007F:{server_port:04X}"]
    for line in Path("/proc/net/tcp").read_text().splitlines():
        columns = line.split()
        if columns[1:3] == ends:
            return int(columns[7])
    return None


class Server:
    """An HTTP or HTTPS server in the background, on a free port of 127.0.0.1."""

    def __init__(self, handler: type[Handler], tls: ssl.SSLContext | None = None) -> None:
        self._server = _OwnServer(("127.0.0.1", 0), handler)
        if tls:
            # The handshake is left to the connection's own thread: a silent client blocks nobody.
            self._server.socket = tls.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stop."""
        self._server.shutdown()
        self._server.server_close()
