"""Certificates from an ACME authority: the real pebble, the distribution's certbot, moto's Route 53."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cloud.moto_server import MotoServer
from tests.host.acme import HMAC_KEY, KID, NAME, Pebble, certbot
from tests.host.name_server import Route53NameServer


@pytest.fixture
def aws() -> Iterator[MotoServer]:
    """An account with the zone of the server's name."""
    with MotoServer() as server:
        zone = {"Name": "example.com", "CallerReference": "tests"}
        server.client("route53").create_hosted_zone(**zone)
        yield server


@pytest.fixture
def name_server(aws: MotoServer) -> Iterator[Route53NameServer]:
    server = Route53NameServer(aws.client("route53"))
    yield server
    server.close()


def ask(pebble: Pebble, folder: Path, *arguments: str, aws: dict[str, str]) -> str:
    """The certificate that certbot gets, with its chain."""
    command = [
        *(
            str(certbot() / "certbot"),
            "certonly",
            "--dns-route53",
            "--non-interactive",
            "--agree-tos",
        ),
        *("--register-unsafely-without-email", "--no-random-sleep-on-renew"),
        *("--server", pebble.directory_url, "--domain", NAME, *arguments),
        *("--config-dir", str(folder)),
        *("--work-dir", str(folder / "work"), "--logs-dir", str(folder / "logs")),
    ]
    environment = {"PATH": os.environ["PATH"], "REQUESTS_CA_BUNDLE": str(pebble.api_authority)}
    done = subprocess.run(command, env=environment | aws, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return (folder / "live" / NAME / "fullchain.pem").read_text()


def test_an_order_is_validated_by_the_record_in_route_53(
    tmp_path: Path, aws: MotoServer, name_server: Route53NameServer
) -> None:
    with Pebble(tmp_path, name_server.address) as pebble:
        ask(pebble, tmp_path / "certbot", aws=aws.environment)


def test_an_authority_with_binding(tmp_path: Path) -> None:
    config = tmp_path / "certbot"
    with Pebble(tmp_path, external_account_binding=True, approves=config / "accounts") as pebble:
        ask(pebble, config, "--eab-kid", KID, "--eab-hmac-key", HMAC_KEY, aws={})
