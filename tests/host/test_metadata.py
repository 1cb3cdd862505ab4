"""The instance's role, whose credentials the metadata service has."""

import json
import os
import re
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from chroma_stack.emulator.moto_server import MotoServer
from tests.host.programs import HOST

ROLE = {
    "Code": "Success",
    "Type": "AWS-HMAC",
    "AccessKeyId": "ASIAOFTHEROLE",
    "SecretAccessKey": "secret",
    "Token": "token",
    "LastUpdated": "2020-01-01T00:00:00Z",
    "Expiration": "2100-01-01T00:00:00Z",
}


@pytest.fixture(scope="module")
def slow_service() -> Iterator[str]:
    """The URL of a metadata service that takes two seconds for each answer."""

    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            self.answer("a-token")

        def do_GET(self) -> None:
            self.answer("a-role" if self.path.endswith("/") else json.dumps(ROLE))

        def answer(self, body: str) -> None:
            time.sleep(2)
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    "caller", ["common", "chroma-certificate.service", "chroma-relay-headers.service"]
)
def test_a_busy_instance_still_gets_the_credentials_of_its_role(
    slow_service: str, caller: str
) -> None:
    set_up = f". {HOST}/common"
    if caller != "common":
        [variables] = re.findall("^Environment=(AWS_.*)$", (HOST / caller).read_text(), re.M)
        set_up = f"export AWS_DEFAULT_REGION=us-east-1 {variables}"
    with MotoServer() as account:
        done = subprocess.run(
            ["bash", "-c", f"{set_up}; aws sts get-caller-identity"],
            env={
                "PATH": os.environ["PATH"],
                "HOME": "/nonexistent",
                "SETTINGS": "/dev/stdin",
                "AWS_ENDPOINT_URL": account.endpoint,
                "AWS_EC2_METADATA_SERVICE_ENDPOINT": slow_service,
            },
            input="REGION=us-east-1\n",
            capture_output=True,
            text=True,
            timeout=120,
        )
    assert done.returncode == 0, done.stderr
