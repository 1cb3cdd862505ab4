"""qemu's two control lines: its own (QMP) and the one to the guest agent. Both speak JSON."""

import json
import socket
import threading
from typing import Any


class ChannelError(Exception):
    """The other side refused a command."""


class Channel:
    """One end of a line; the other, ``far_end``, is inherited by qemu."""

    def __init__(self) -> None:
        self._near, self.far_end = socket.socketpair()
        self._received = b""
        self._lock = threading.Lock()
        self._count = 0

    def call(
        self, command: str, arguments: dict[str, Any] | None = None, timeout: float = 600
    ) -> Any:
        """Send a command and return its answer; TimeoutError when there is none in time."""
        with self._lock:
            self._count += 1
            request = {"execute": command, "id": self._count, "arguments": arguments or {}}
            self._near.settimeout(timeout)
            self._near.sendall(json.dumps(request).encode() + b"\n")
            while True:
                answer = json.loads(self._line())
                if answer.get("id") != self._count:
                    continue  # greeting, event, or the answer to a call that was given up
                if "error" in answer:
                    raise ChannelError(f"{command}: {answer['error']['desc']}")
                return answer["return"]

    def close(self) -> None:
        """Give the line up."""
        self._near.close()

    def _line(self) -> bytes:
        while b"\n" not in self._received:
            received = self._near.recv(65536)
            if not received:
                raise ConnectionError("qemu has ended")
            self._received += received
        line, _, self._received = self._received.partition(b"\n")
        return line
