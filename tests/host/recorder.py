"""A stand-in for Chroma that notes every byte it receives and every request it makes of them."""

from __future__ import annotations

import socketserver
import threading

import h11


class Recorder:
    """Answers every request with 200. `raw` is all that arrived, `requests` as it was understood."""

    def __init__(self) -> None:
        self.raw = bytearray()
        self.requests: list[h11.Request] = []
        self.broken: list[str] = []
        """What was no HTTP."""
        recorder = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                try:
                    recorder._serve(self.request)
                except h11.RemoteProtocolError as error:
                    recorder.broken.append(str(error))
                except OSError:
                    pass  # the proxy closed the connection

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = True
            daemon_threads = True
            request_queue_size = 512

        self._server = Server(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def _serve(self, connection) -> None:  # type: ignore[no-untyped-def]
        http = h11.Connection(h11.SERVER)
        while True:
            event = http.next_event()
            if event is h11.NEED_DATA:
                data = connection.recv(65536)
                self.raw += data
                http.receive_data(data)
            elif isinstance(event, h11.Request):
                self.requests.append(event)
                body = b"" if event.method == b"HEAD" else b'{"name": "default_tenant"}'
            elif isinstance(event, h11.EndOfMessage):
                fields = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
                connection.sendall(
                    http.send(h11.Response(status_code=200, headers=fields))
                    + http.send(h11.Data(data=body))
                    + http.send(h11.EndOfMessage())
                )
                if http.our_state is h11.MUST_CLOSE:
                    return
                http.start_next_cycle()
            elif isinstance(event, h11.ConnectionClosed):
                return

    def forget(self) -> None:
        self.raw.clear()
        self.requests.clear()
        self.broken.clear()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
