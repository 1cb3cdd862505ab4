"""The real relay: HAProxy with the configuration of the host files, prepared by `otel.py`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.host.programs import HOST, free_port, program, wait_until

# In another region than the instance.
HEADERS_SECRET = "arn:aws:secretsmanager:us-east-1:123456789012:secret:headers-AbCdEf"

AWS = """#!/bin/sh
case "$*" in
*get-secret-value*'--region us-east-1 '*) cat {folder}/headers ;;
*get-parameter*) cat {folder}/authority ;;
esac
"""


class Relay:
    """A relay of its own for a test; ``environment`` is what Chroma is told."""

    def __init__(
        self,
        folder: Path,
        endpoint: str,
        *,
        headers: str | None = None,
        authority: Path | None = None,
        service_name: str = "chromadb",
        granularity: str = "all",
    ) -> None:
        self.folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        (folder / "headers").write_text(headers or "")
        (folder / "authority").write_text(authority.read_text() if authority else "")
        aws = folder / "aws"
        aws.write_text(AWS.format(folder=folder))
        aws.chmod(0o755)
        settings = {
            "REGION": "eu-west-1",
            "OTEL_ENDPOINT": endpoint,
            "OTEL_SERVICE_NAME": service_name,
            "OTEL_HEADERS_SECRET": "" if headers is None else HEADERS_SECRET,
            "OTEL_GRANULARITY": granularity,
            "OTEL_AUTHORITY": "authority" if authority else "",
        }
        (folder / "settings").write_text("".join(f"{k}={v}\n" for k, v in settings.items()))
        self.prepared = subprocess.run(
            [sys.executable, HOST / "otel.py", folder],
            env={"PATH": f"{folder}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            timeout=30,
        )
        self.port = free_port()

    @property
    def environment(self) -> dict[str, str]:
        """The variables that Chroma gets, with the relay where this one listens."""
        variables = _variables(self.folder / "tracing.env")
        return {
            name: value.replace("otlp-relay:4317", f"127.0.0.1:{self.port}")
            for name, value in variables.items()
        }

    def start(self, resolv_conf: Path | None = None) -> Relay:
        """:param resolv_conf: what it finds instead of this computer's own; takes root."""
        assert self.prepared.returncode == 0, self.prepared.stderr
        command = [program("haproxy"), "-Ws", "-f", f"{self.folder}/relay-headers.cfg"]
        if resolv_conf is not None:
            mount = f'mount --bind {resolv_conf} /etc/resolv.conf; exec "$@"'
            command = ["unshare", "--mount", "sh", "-ec", mount, "sh", *command]
        environment = _variables(self.folder / "relay.env")
        environment |= {
            "CONTAINER_GATEWAY": "127.0.0.1",
            "RELAY_PORT": str(self.port),
            "PATH": os.environ["PATH"],
        }
        self.log = self.folder / "relay.log"
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [*command, "-f", str(HOST / "relay.cfg")], env=environment, stdout=log, stderr=log
            )
        wait_until(lambda: b"Loading success" in self.log.read_bytes(), "the relay listens")
        return self

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(30)


def http2_status(port: int, method: str, path: str) -> str:
    """What the relay answers to a request that is sent as it stands."""
    command = [program("curl"), "--silent", "--http2-prior-knowledge", "--path-as-is"]
    command += ["--request", method, "--max-time", "20"]
    command += ["--output", os.devnull, "--write-out", "%{http_code}"]
    asked = subprocess.run(
        [*command, f"http://127.0.0.1:{port}{path}"], capture_output=True, text=True
    )
    return asked.stdout


def _variables(file: Path) -> dict[str, str]:
    return dict(line.split("=", 1) for line in file.read_text().splitlines())
