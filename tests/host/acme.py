"""A certificate authority of the tests: the real pebble, the distribution's certbot, ACM's API.

certbot --(TXT record)--> Route 53 of a moto server
   |                                |
   +--(order)--> pebble --(TXT?)--> Route53NameServer
"""

from __future__ import annotations

import http.client
import http.server
import json
import os
import re
import ssl
import subprocess
import threading
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import trustme

from tests.host.chroma_servers import HERE, python_with
from tests.host.programs import free_port, program, wait_until

NAME = "chroma.example.com"
KID, HMAC_KEY = "kid-1", "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"
"""What pebble is told of an account binding."""
_PATHS = {"directory": "/dir", "newAccount": "/sign-me-up", "newOrder": "/order-plz"}
"""Where pebble has its resources."""
BINDING_ARN = (
    "arn:aws:acm:eu-west-1:123456789012:acme-endpoint/ep-1/acme-external-account-binding/eab-1"
)


def certbot() -> Path:
    """The folder of the distribution's certbot and of a `python3` that has what its has."""
    return python_with("certbot-2.6.0").parent


class Pebble:
    """An ACME server on loopback, which forgets everything when it stops.

    It asks the name server at `resolver` for challenges; without one, it takes every answer to a
    challenge for right. `approves` is a folder with a certbot's accounts: as at ACM's endpoint, the
    order of such an account needs no challenge any more.
    """

    def __init__(
        self,
        folder: Path,
        resolver: str = "",
        *,
        external_account_binding: bool = False,
        approves: Path | None = None,
        validity_seconds: int = 90 * 86400,
    ) -> None:
        self._folder = folder
        self._resolver = resolver
        own_port, self._management_port = free_port(), free_port()
        self._pebble: subprocess.Popen[bytes] | None = None
        self.log = folder / "pebble.log"
        authority = trustme.CA()
        server = authority.issue_cert("localhost", "127.0.0.1")
        self.api_authority = folder / "api-authority.pem"
        """A file with the certificate that clients of the API have to trust."""
        authority.cert_pem.write_to_path(str(self.api_authority))
        server.private_key_pem.write_to_path(str(folder / "key.pem"))
        server.cert_chain_pems[0].write_to_path(str(folder / "cert.pem"))
        self._own_url = f"https://localhost:{own_port}/dir"
        self._context = ssl.create_default_context(cafile=str(self.api_authority))
        self._approving: _ApprovingProxy | None = None
        if approves:
            self._approving = _ApprovingProxy(own_port, self._context, server, self._approve)
        self._approves = approves
        self.directory_url = self._approving.directory_url if self._approving else self._own_url
        config: dict[str, object] = {
            "listenAddress": f"127.0.0.1:{own_port}",
            "managementListenAddress": f"127.0.0.1:{self._management_port}",
            "certificate": str(folder / "cert.pem"),
            "privateKey": str(folder / "key.pem"),
            "httpPort": free_port(),
            "tlsPort": free_port(),
            "certificateValidityPeriod": validity_seconds,
        }
        if external_account_binding:
            config["externalAccountBindingRequired"] = True
            config["externalAccountMACKeys"] = {KID: HMAC_KEY}
        (folder / "pebble.json").write_text(json.dumps({"pebble": config}))
        self.start()

    def __enter__(self) -> Pebble:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.stop()
        if self._approving:
            self._approving.close()

    def start(self) -> None:
        environment = {
            "PATH": os.environ["PATH"],
            "PEBBLE_VA_NOSLEEP": "1",
            "PEBBLE_WFE_NONCEREJECT": "0",
            # Those that `approves` stands for are used again; others have to be validated anew.
            "PEBBLE_AUTHZREUSE": "100" if self._approving else "0",
            "PEBBLE_VA_ALWAYS_VALID": "" if self._resolver else "1",
        }
        command = [program("pebble"), "-config", str(self._folder / "pebble.json")]
        if self._resolver:
            command += ["-dnsserver", self._resolver]
        with self.log.open("ab") as log:
            self._pebble = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        wait_until(self._answers, "pebble answers")

    def stop(self) -> None:
        if self._pebble is not None:
            self._pebble.terminate()
            self._pebble.wait(30)
            self._pebble = None

    def root_certificate(self) -> str:
        """The root of the certificates that it issues. Another one each time that it starts."""
        return self._management("roots/0")

    def requests(self, resource: str) -> int:
        """How many requests it got so far for a resource, such as `newOrder` or `newAccount`."""
        path = re.escape(_PATHS[resource])
        return len(re.findall(rf"(?:POST|GET|HEAD) {path} -> calling", self.log.read_text()))

    def _answers(self) -> bool:
        assert self._pebble is not None
        assert self._pebble.poll() is None, self.log.read_text()
        try:
            self._get(self._own_url)
            self.root_certificate()
        except OSError:
            return False
        return True

    def _management(self, path: str) -> str:
        return self._get(f"https://localhost:{self._management_port}/{path}")

    def _get(self, url: str) -> str:
        with urllib.request.urlopen(url, context=self._context, timeout=10) as answer:
            return str(answer.read().decode())

    def _approve(self) -> None:
        # Isolated, or it would import this file as the package `acme`, which is certbot's.
        script = [str(certbot() / "python3"), "-I", str(HERE / "approve_account.py")]
        arguments = [self._own_url, str(self.api_authority), str(self._approves), NAME]
        subprocess.run([*script, *arguments], check=True)


class _ApprovingProxy:
    """Hands everything on to pebble, and has the client's account approved before an order."""

    def __init__(
        self,
        port: int,
        trusting: ssl.SSLContext,
        certificate: trustme.LeafCert,
        approve: Callable[[], None],
    ) -> None:
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _hand_on(self) -> None:
                if self.path == _PATHS["newOrder"]:
                    approve()
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                pebble = http.client.HTTPSConnection("localhost", port, context=trusting)
                # With the client's Host, of which pebble makes the addresses that it answers with.
                pebble.request(self.command, self.path, body, dict(self.headers))
                answer = pebble.getresponse()
                content = answer.read()
                self.send_response_only(answer.status)
                for name, value in answer.getheaders():
                    if name.lower() not in ("content-length", "transfer-encoding"):
                        self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)
                pebble.close()

            do_GET = do_POST = do_HEAD = _hand_on

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", free_port()), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(context)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.directory_url = f"https://localhost:{self._server.server_port}/dir"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class AcmApi:
    """Stands in for ACM's API: answers GetAcmeExternalAccountBindingCredentials."""

    def __init__(self) -> None:
        self.requests: list[tuple[dict[str, str], dict[str, Any]]] = []
        """The headers, in lower case, and the body of each request so far."""
        self.refuses = ""
        """An error, such as `AccessDeniedException`, to answer with instead."""
        requests, api = self.requests, self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                requests.append(({k.lower(): v for k, v in self.headers.items()}, body))
                if api.refuses:
                    status, answer = 400, {"__type": api.refuses, "message": "It was refused."}
                else:
                    status, answer = 200, {"KeyId": KID, "MacKey": HMAC_KEY}
                content = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/x-amz-json-1.1")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def __enter__(self) -> AcmApi:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
