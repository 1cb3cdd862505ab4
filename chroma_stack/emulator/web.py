"""The servers of the rig: plain HTTP servers on this computer's loopback, one thread each."""

import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    """Request handler that keeps connections open and quiet."""

    protocol_version = "HTTP/1.1"

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


class Server:
    """An HTTP or HTTPS server in the background, on a free port of 127.0.0.1."""

    def __init__(self, handler: type[Handler], tls: ssl.SSLContext | None = None) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
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
