"""Small name servers: one that knows the addresses of a collector, one that answers from Route 53."""

from __future__ import annotations

import ipaddress
import secrets
import socket
import struct
import threading
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

A, TXT, AAAA = 1, 16, 28


class _Server(ABC):
    """Answers each question over UDP with the records that `_data` finds for it."""

    def __init__(self, host: str, port: int) -> None:
        self.asked: list[int] = []
        """The types of the questions so far."""
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((host, port))
        self.host, self.port = self._socket.getsockname()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @abstractmethod
    def _data(self, name: str, kind: int) -> list[bytes]: ...

    def close(self) -> None:
        """Answer no more."""
        self._socket.sendto(b"", (self.host, self.port))
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
                struct.pack("!HHHIH", 0xC00C, kind, 1, 60, len(data)) + data
                for data in self._data(_name(question[12 : end - 4]), kind)
            ]
            header = question[:2] + struct.pack("!HHHHH", 0x8180, 1, len(records), 0, 0)
            self._socket.sendto(header + question[12:end] + b"".join(records), client)
            self.asked.append(kind)


class NameServer(_Server):
    """Knows one name: answers with those of its addresses that have the type asked for."""

    def __init__(self, *addresses: str) -> None:
        self._addresses = [ipaddress.ip_address(address) for address in addresses]
        super().__init__(f"127.53.{secrets.randbelow(256)}.{1 + secrets.randbelow(254)}", 53)

    def resolv_conf(self, folder: Path) -> Path:
        """A file that names it."""
        file = folder / "resolv.conf"
        file.write_text(f"nameserver {self.host}\n")
        return file

    def _data(self, name: str, kind: int) -> list[bytes]:
        types = {4: A, 6: AAAA}
        return [it.packed for it in self._addresses if types[it.version] == kind]


class Route53NameServer(_Server):
    """Has the TXT records of all zones of an account, as they are when it is asked."""

    def __init__(self, route53: Any) -> None:
        self._route53 = route53
        super().__init__("127.0.0.1", 0)

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    def _data(self, name: str, kind: int) -> list[bytes]:
        if kind != TXT:
            return []
        texts = txt_records(self._route53).get(name.lower(), [])
        return [bytes([len(text)]) + text.encode() for text in texts]


def txt_records(route53: Any) -> dict[str, list[str]]:
    """The texts in the zones of an account, by the names that they are of."""
    zones = [zone["Id"] for zone in route53.list_hosted_zones()["HostedZones"]]
    sets = [
        it
        for zone in zones
        for it in route53.list_resource_record_sets(HostedZoneId=zone)["ResourceRecordSets"]
    ]
    return {
        it["Name"].lower(): [record["Value"].strip('"') for record in it["ResourceRecords"]]
        for it in sets
        if it["Type"] == "TXT"
    }


def _name(labels: bytes) -> str:
    """`example.com.` of the labels of a question."""
    name = ""
    while labels and labels[0]:
        name += labels[1 : 1 + labels[0]].decode() + "."
        labels = labels[1 + labels[0] :]
    return name
