"""The host's `certificate` below a folder, with a real proxy beside it and moto where AWS would be."""

from __future__ import annotations

import os
import ssl
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from chroma_stack.emulator.moto_server import MotoServer
from tests.host.programs import HOST, program
from tests.host.proxy import Proxy

PARAMETER = "ca-certificate"


class Certificates:
    """The certificates of an instance, and what its proxy serves of them."""

    def __init__(self, proxy: Proxy, aws: MotoServer, *, python: Sequence[str] = (sys.executable,)):
        self.proxy = proxy
        self.aws = aws
        self.folder = proxy.tls_folder
        self._python = list(python)
        proxy.certificate.unlink()
        proxy.settings |= {"REGION": aws.region, "CA_PARAMETER": PARAMETER}
        tools = Path(sys.executable).parent
        proxy.environment |= aws.environment | {"PATH": f"{tools}:{os.environ['PATH']}"}

    @property
    def authority(self) -> Path:
        return self.folder / "authority.pem"

    def update(self, at: str = "") -> subprocess.CompletedProcess[str]:
        """Runs `certificate`, now or at another time, such as `+1 year`."""
        self._write_settings()
        clock = [program("faketime"), "-f", at] if at else []
        return self._run([*clock, *self._python, str(HOST / "certificate")])

    def _write_settings(self) -> None:
        text = "".join(f"{name}={value}\n" for name, value in self.proxy.settings.items())
        Path(self.proxy.environment["SETTINGS"]).write_text(text)

    def _run(self, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        environment = self.proxy.environment
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)

    def served(self) -> x509.Certificate:
        """What a client gets from the running proxy, verified or not."""
        pem = ssl.get_server_certificate(("127.0.0.1", self.proxy.port), timeout=10)
        return x509.load_pem_x509_certificate(pem.encode())

    def published(self) -> str:
        """What clients find in the parameter."""
        [parameter] = self.aws.client("ssm").get_parameters(Names=[PARAMETER])["Parameters"]
        return str(parameter["Value"])

    def problem(self) -> str:
        return (self.folder / "problem").read_text() if (self.folder / "problem").exists() else ""


def names_of(certificate: x509.Certificate) -> set[str]:
    found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    addresses = map(str, found.get_values_for_type(x509.IPAddress))
    return {*found.get_values_for_type(x509.DNSName), *addresses}


def public_key(certificate: x509.Certificate) -> bytes:
    return certificate.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def secret(aws: MotoServer, text: str, arn: str = "") -> str:
    """A secret with this text; its ARN."""
    client: Any = aws.client("secretsmanager")
    if arn:
        client.put_secret_value(SecretId=arn, SecretString=text)
        return arn
    name = f"certificate-{os.urandom(4).hex()}"
    return str(client.create_secret(Name=name, SecretString=text)["ARN"])
