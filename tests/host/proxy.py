"""The real HAProxy with the real configuration, and the real credential scripts, on loopback."""

from __future__ import annotations

import base64
import functools
import grp
import hashlib
import json
import os
import ssl
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import trustme

from tests.host import programs
from tests.host.programs import HOST, free_port, wait_until

TOKEN = "a-Token_with$(punctuation)`'\"\\;,:|&<>{}[]?*~^%!@#+=./"
"""As Chroma's own check allowed it: every kind of punctuation."""
BASIC = "a-user:p@ss:word'\"\\$(x)"


def header(auth: str, credential: str, name: str = "Authorization") -> dict[str, str]:
    """What a client sends for its credential."""
    if auth == "basic":
        return {name: "Basic " + base64.b64encode(credential.encode()).decode()}
    return {name: f"Bearer {credential}" if name == "Authorization" else credential}


def as_password(user: str, token: str) -> dict[str, str]:
    """What a tool that knows only user and password sends for a token."""
    return header("basic", f"{user}:{token}")


def token_of(user: str) -> str:
    """The token of one of a test's users."""
    return f"token-of-{user}"


def digest(value: str) -> str:
    """What the file of credentials has for this value of Authorization."""
    return hashlib.sha256(value.encode()).hexdigest().upper()


@functools.cache
def proxy_authority() -> trustme.CA:
    """Issues what the proxys serve, where a test does not look at certificates themselves."""
    return trustme.CA()


@functools.cache
def certificate() -> bytes:
    issued = proxy_authority().issue_cert("localhost", "127.0.0.1")
    return issued.private_key_and_cert_chain_pem.bytes()


VERIFY = ssl.create_default_context()
"""Trusts what the proxys serve; made once, since it takes longer than a request."""
proxy_authority().configure_trust(VERIFY)


class Proxy:
    """An auth proxy of its own for a test.

    The credential scripts find an `aws` that prints what `secret()` says; see `run`. Beside the main
    credential there are `users`, by their names with their access, each with the token `token_of`.
    Without `token_header` a token is taken in any way.
    """

    def __init__(
        self,
        folder: Path,
        chroma: str,
        *,
        auth: str = "token",
        token_header: str = "",
        credential: str | None = None,
        users: Mapping[str, str] | None = None,
        cors: str = "",
        tls: str = "optional",
        over_tls: bool = False,
        program: str = "",
    ) -> None:
        self.folder = folder
        self.program = program or programs.program("haproxy")
        self.auth, self.token_header = auth, token_header
        self.credential = credential or (BASIC if auth == "basic" else TOKEN)
        self.users = dict(users or {})
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.over_tls = over_tls
        self.url = f"{'https' if over_tls else 'http'}://{self.address}"
        self.https_url = f"https://localhost:{self.port}"
        self.tls = tls
        self.ca = folder / "ca.pem"
        self.tls_folder = folder / "tls"
        self.certificate = self.tls_folder / "server.pem"
        self.tls_folder.mkdir()
        self.certificate.write_bytes(certificate())
        proxy_authority().cert_pem.write_to_path(str(self.ca))
        self.credentials = folder / "credentials"
        self.admin_socket = folder / "admin.sock"
        self.too_large = folder / "too-large"
        self.too_large.touch()
        self.settings = {
            "AUTH": auth,
            **({"AUTH_TOKEN_HEADER": token_header} if token_header else {}),
            "AUTH_SECRET": "arn:aws:secretsmanager:eu-west-1:123456789012:secret:chroma-AbCdEf",
            "REGION": "eu-west-1",
            "CORS_ALLOW_ORIGINS": cors,
            "TLS": tls,
            "TLS_NAMES": "localhost",
        }
        self.environment = {
            "PATH": os.environ["PATH"],
            "SETTINGS": str(folder / "settings"),
            "PROXY_BIND": self.address,
            "PROXY_ADDRESS": self.address,
            "PROXY_TLS_SOCKET": str(folder / "tls.sock"),
            "PROXY_CERTIFICATE": str(self.certificate),
            "TLS_FOLDER": str(self.tls_folder),
            "CA_PUBLISHED": str(folder / "ca-published"),
            "HAPROXY": self.program,
            "PROXY_CREDENTIALS": str(self.credentials),
            "PROXY_ADMIN_SOCKET": str(self.admin_socket),
            "PROXY_TOO_LARGE": str(self.too_large),
            "PROXY_ACCESS": str(HOST / "access.map"),
            "CREDENTIAL_MADE": str(folder / "credential-made"),
            "CREDENTIAL_PROBLEM": str(folder / "credential-problem"),
            "PROXY_GROUP": grp.getgrgid(os.getgid()).gr_name,
            **dict(zip(("CONTAINER_ADDRESS", "CONTAINER_PORT"), chroma.split(":"), strict=True)),
        }
        self.haproxy: subprocess.Popen[bytes] | None = None
        self.log = folder / "proxy.log"

    def accept(self, *accepted: tuple[str, str, str]) -> None:
        """Writes the file of credentials as the credential script does, for tests of the proxy alone.

        Of each the value of Authorization, the user's name and the access.
        """
        lines = [f"{digest(value)} {name}:{access}\n" for value, name, access in accepted]
        self.credentials.write_text("".join(lines))

    @property
    def main_user(self) -> str:
        """The name of the main credential."""
        return self.credential.split(":")[0] if self.auth == "basic" else "admin"

    @property
    def everyone(self) -> list[tuple[str, str, str]]:
        """What `accept` takes for the main credential and all users."""
        [main] = header(self.auth, self.credential).values()
        tokens = [(f"Bearer {token_of(name)}", name, it) for name, it in self.users.items()]
        return [(main, self.main_user, "admin"), *tokens]

    def headers_of(self, user: str) -> dict[str, str]:
        """What one of the users sends."""
        return header("token", token_of(user), self.token_header or "Authorization")

    @property
    def right(self) -> dict[str, str]:
        """What a client with the main credential sends."""
        return header(self.auth, self.credential, self.token_header or "Authorization")

    @property
    def wrong(self) -> dict[str, str]:
        return header(self.auth, "nobody:wrong", self.token_header or "Authorization")

    def start(self) -> Proxy:
        if not self.credentials.exists():
            self.accept(*self.everyone)
        command = [self.program, "-Ws", "-f", str(HOST / "proxy.cfg")]
        with self.log.open("ab") as log:
            before = log.tell()
            self.haproxy = subprocess.Popen(
                command, env=self.environment | self.settings, stdout=log, stderr=log
            )
        wait_until(lambda: self._listens(before), "the proxy listens")
        return self

    def _listens(self, before: int) -> bool:
        assert self.haproxy is not None
        log = self.log.read_bytes()[before:].decode()
        assert self.haproxy.poll() is None, log
        return "Loading success" in log

    def stop(self) -> None:
        if self.haproxy is not None:
            self.haproxy.terminate()
            self.haproxy.wait(30)
            self.haproxy = None

    def get(self, path: str, headers: dict[str, str] | None = None) -> httpx.Response:
        return httpx.get(self.url + path, headers=headers, timeout=30, verify=VERIFY)

    def log_lines(self) -> list[dict[str, Any]]:
        """The access log so far."""
        lines = self.log.read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def last_log_line(self, count: int) -> dict[str, Any]:
        """The access log's line number `count`, once it is written."""
        wait_until(lambda: len(self.log_lines()) >= count, f"{count} lines in the log")
        return self.log_lines()[count - 1]
