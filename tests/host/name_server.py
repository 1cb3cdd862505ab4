"""A name server that knows one name, with the addresses of a collector that has both kinds."""

from __future__ import annotations

import ipaddress
import secrets
import socket
import struct
import threading
from pathlib import Path

_TYPES = {4: 1, 6: 28}  # A, AAAA


class NameServer:
    """Answers each question with those of its addresses that have the type asked for."""

    def __init__(self, *addresses: str) -> None:
        self.asked: list[int] = []
        """The types of the questions so far."""
        self.host = f"127.53.{secrets.randbelow(256)}.{1 + secrets.randbelow(254)}"
        self._addresses = [ipaddress.ip_address(address) for address in addresses]
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((self.host, 53))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def resolv_conf(self, folder: Path) -> Path:
        """A file that names it."""
        file = folder / "resolv.conf"
        file.write_text(f"nameserver {self.host}\n")
        return file

    def close(self) -> None:
        """Answer no more."""
        self._socket.sendto(b"", (self.host, 53))
        self._thread.join(10)
        self._socket.close()

    def _serve(self) -> None:
        while True:
            question, client = self._socket.recvfrom(4096)
            if not question:
                return
            end = question.index(b"\0", 12) + 5
            [kind] = struct.unpack("!H", question[end - 4 : end - 2])
            records = [
                struct.pack("!HHHIH", 0xC00C, kind, 1, 60, len(address.packed)) + address.packed
                for address in self._addresses
                if _TYPES[address.version] == kind
            ]
            header = question[:2] + struct.pack("!HHHHH", 0x8180, 1, len(records), 0, 0)
            self._socket.sendto(header + question[12:end] + b"".join(records), client)
            self.asked.append(kind)
