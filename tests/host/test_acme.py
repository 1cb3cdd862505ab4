"""Certificates from an ACME authority: the real pebble, the distribution's certbot, moto's Route 53."""

from __future__ import annotations

import json
import re
import socket
import ssl
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from chroma_stack.emulator.moto_server import MotoServer
from tests.host.acme import BINDING_ARN, HMAC_KEY, KID, NAME, AcmApi, Pebble, certbot
from tests.host.certificates import Certificates, names_of, public_key, secret
from tests.host.name_server import TXT, Route53NameServer, txt_records
from tests.host.programs import program
from tests.host.proxy import Proxy

OTHER_NAMES = "ec2-203-0-113-5.eu-west-1.compute.amazonaws.com 203.0.113.5"


class Server(Certificates):
    """An instance with a name, whose certificate is to come from that authority."""

    def __init__(
        self,
        folder: Path,
        aws: MotoServer,
        pebble: Pebble,
        under: tuple[str, ...] = (),
        **settings: str,
    ) -> None:
        python = str(certbot() / "python3")
        super().__init__(Proxy(folder, "127.0.0.1:9"), aws, python=(*under, python))
        self.pebble = pebble
        self.began = datetime.now()
        self.temporary = folder / "tmp"
        self.temporary.mkdir()
        self.proxy.settings |= {
            "CA_PARAMETER": "",
            "TLS_NAMES": f"{NAME} {OTHER_NAMES}",
            "ACME_DIRECTORY": pebble.directory_url,
            **settings,
        }
        self.proxy.environment |= {
            "PATH": f"{certbot()}:{self.proxy.environment['PATH']}",
            "TMPDIR": str(self.temporary),
            "REQUESTS_CA_BUNDLE": str(pebble.api_authority),
        }

    def run(self, after: float = 0) -> str:
        """What `certificate` prints, by a clock that shows so many minutes after the beginning."""
        shown = self.began + timedelta(minutes=after)
        done = self.update(f"@{shown:%Y-%m-%d %H:%M:%S}" if after else "")
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def verified(self, authority: str = "") -> x509.Certificate:
        """What a client gets that trusts only `authority`, by default pebble's."""
        context = ssl.create_default_context(cadata=authority or self.pebble.root_certificate())
        with (
            socket.create_connection(("127.0.0.1", self.proxy.port)) as connection,
            context.wrap_socket(connection, server_hostname=NAME) as tls,
        ):
            der = tls.getpeercert(binary_form=True)
        assert der is not None
        return x509.load_der_x509_certificate(der)

    def assert_own_is_served(self) -> None:
        assert names_of(self.verified(self.authority.read_text())) > {NAME, "localhost"}


@pytest.fixture(scope="module")
def aws() -> Iterator[MotoServer]:
    """An account with the zone of the server's name."""
    with MotoServer() as server:
        zone = {"Name": "example.com", "CallerReference": "tests"}
        server.client("route53").create_hosted_zone(**zone)
        yield server


@pytest.fixture(scope="module")
def name_server(aws: MotoServer) -> Iterator[Route53NameServer]:
    server = Route53NameServer(aws.client("route53"))
    yield server
    server.close()


@pytest.fixture
def acm() -> Iterator[AcmApi]:
    with AcmApi() as api:
        yield api


@pytest.fixture
def make_pebble(tmp_path: Path, name_server: Route53NameServer) -> Iterator[Callable[..., Pebble]]:
    pebbles: list[Pebble] = []

    def make(resolver: str = name_server.address, **options: bool | int | Path) -> Pebble:
        pebbles.append(Pebble(tmp_path, resolver, **options))  # type: ignore[arg-type]
        return pebbles[-1]

    yield make
    for pebble in pebbles:
        pebble.close()


@pytest.fixture
def make_server(tmp_path: Path, aws: MotoServer) -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def make(pebble: Pebble, under: tuple[str, ...] = (), **settings: str) -> Server:
        servers.append(Server(tmp_path, aws, pebble, under, **settings))
        return servers[-1]

    yield make
    for server in servers:
        server.proxy.stop()


def test_a_server_with_a_name_serves_the_certificate_of_the_authority(
    aws: MotoServer,
    name_server: Route53NameServer,
    make_pebble: Callable[..., Pebble],
    make_server: Callable[..., Server],
) -> None:
    server = make_server(make_pebble())
    server.run()
    server.proxy.start()
    assert names_of(server.verified()) == {NAME}

    # The authority looked at the challenge's record, which is gone.
    assert TXT in name_server.asked
    assert txt_records(aws.client("route53")) == {}

    # Another instance with the same volume asks for nothing.
    Path(server.proxy.environment["CA_PUBLISHED"]).unlink(missing_ok=True)
    assert "certificate" not in server.run()
    assert server.pebble.requests("newOrder") == 1

    # HAProxy reads the one file that it serves. All others are root's alone, and nothing is left elsewhere.
    modes = {it.name: it.stat().st_mode & 0o777 for it in server.folder.iterdir()}
    assert modes.pop("server.pem") == 0o640
    assert modes.pop("authority.pem") == 0o644
    assert {name for name, mode in modes.items() if mode & 0o077} <= {"lock"}
    assert {"acme.pem", "acme-account.json", "authority.key"} <= modes.keys()
    assert not list(server.temporary.iterdir())


def test_a_certificate_is_renewed_for_the_running_proxy_when_a_third_of_its_time_is_left(
    make_pebble: Callable[..., Pebble], make_server: Callable[..., Server]
) -> None:
    server = make_server(make_pebble(validity_seconds=3600))
    server.run()
    server.proxy.start()
    first = server.verified()
    server.run(after=39)
    assert server.verified() == first
    assert "the proxy serves" in server.run(after=50)
    second = server.verified()
    assert second != first
    assert public_key(second) != public_key(first)
    # Of the same account.
    assert server.pebble.requests("newOrder") == 2
    assert server.pebble.requests("newAccount") == 1


def test_while_the_authority_is_unreachable_the_own_certificate_is_served_and_it_is_asked_ever_less(
    make_pebble: Callable[..., Pebble], make_server: Callable[..., Server]
) -> None:
    server = make_server(make_pebble())
    server.pebble.stop()

    assert "asked again in 1 minutes" in server.run()
    server.proxy.start()
    server.assert_own_is_served()
    assert NAME in server.problem()
    assert "the server's own authority serves instead" in server.problem()

    assert "asked again" not in server.run(after=0.5)
    assert "asked again in 5 minutes" in server.run(after=3)
    assert "asked again" not in server.run(after=7)
    assert "asked again in 15 minutes" in server.run(after=9)

    server.pebble.start()
    server.run(after=23)
    server.assert_own_is_served()
    assert "all is well again" in server.run(after=25)
    assert names_of(server.verified()) == {NAME}
    assert server.problem() == ""


def test_an_authority_is_asked_for_less_than_it_allows_in_seven_days(
    make_pebble: Callable[..., Pebble], make_server: Callable[..., Server]
) -> None:
    # By this clock, they are due as soon as they are issued.
    server = make_server(make_pebble(validity_seconds=3600))
    said = [server.run(after=50 + minute) for minute in range(6)]
    assert server.pebble.requests("newOrder") == 4
    assert "no more is asked for" in said[4]
    server.run(after=8 * 24 * 60)
    assert server.pebble.requests("newOrder") == 5


def test_an_account_is_bound_to_the_one_in_the_secret(
    tmp_path: Path,
    aws: MotoServer,
    make_pebble: Callable[..., Pebble],
    make_server: Callable[..., Server],
) -> None:
    arn = secret(aws, json.dumps({"kid": KID, "hmacKey": HMAC_KEY}))
    calls = tmp_path / "calls"
    options = ("-f", "--seccomp-bpf", "-v", "-s", "100000", "-e", "trace=execve", "-o", str(calls))
    server = make_server(
        make_pebble(external_account_binding=True),
        under=(program("strace"), *options),
        ACME_BINDING_SECRET=arn,
        ACME_EMAIL="owner@example.com",
    )
    server.run()
    server.proxy.start()
    assert names_of(server.verified()) == {NAME}

    # Neither an argument nor a variable of a process, nor kept.
    assert re.search(r'execve\("[^"]*/certbot"', calls.read_text())
    assert HMAC_KEY not in calls.read_text()
    assert not [it for it in server.folder.rglob("*") if HMAC_KEY in it.read_text()]


def test_a_binding_that_the_authority_does_not_know_leaves_the_own_certificate(
    aws: MotoServer, make_pebble: Callable[..., Pebble], make_server: Callable[..., Server]
) -> None:
    arn = secret(aws, json.dumps({"kid": "another", "hmacKey": HMAC_KEY}))
    server = make_server(make_pebble(external_account_binding=True), ACME_BINDING_SECRET=arn)
    said = server.run()
    assert "asked again" in said
    assert HMAC_KEY not in said
    server.proxy.start()
    server.assert_own_is_served()


def test_acm_s_endpoint_gives_a_certificate_without_a_challenge(
    tmp_path: Path,
    make_pebble: Callable[..., Pebble],
    make_server: Callable[..., Server],
    acm: AcmApi,
) -> None:
    accounts = tmp_path / "tmp"
    pebble = make_pebble(
        "", external_account_binding=True, approves=accounts, validity_seconds=3600
    )
    server = make_server(pebble, ACM_BINDING=BINDING_ARN)
    server.proxy.environment["ACM_ENDPOINT"] = acm.url
    # Whoever wanted to set a record would fail.
    server.proxy.environment["AWS_ENDPOINT_URL_ROUTE_53"] = "http://127.0.0.1:9"
    server.run()
    server.proxy.start()
    first = server.verified()
    server.run(after=50)
    assert server.verified() != first

    # The binding is for the account, which goes on without it.
    [(headers, body)] = acm.requests
    assert body == {"AcmeExternalAccountBindingArn": BINDING_ARN}
    operation = "CertificateManager.GetAcmeExternalAccountBindingCredentials"
    assert headers["x-amz-target"] == operation
    assert headers["content-type"] == "application/x-amz-json-1.1"
    assert "/eu-west-1/acm/aws4_request" in headers["authorization"]
    assert headers["x-amz-security-token"] == "testing"


def test_a_binding_that_acm_does_not_give_leaves_the_own_certificate(
    make_pebble: Callable[..., Pebble], make_server: Callable[..., Server], acm: AcmApi
) -> None:
    acm.refuses = "AccessDeniedException"
    server = make_server(make_pebble(""), ACM_BINDING=BINDING_ARN)
    server.proxy.environment["ACM_ENDPOINT"] = acm.url
    assert "AccessDeniedException" in server.run()
    server.proxy.start()
    server.assert_own_is_served()
    assert server.pebble.requests("newAccount") == 0


def test_an_authority_that_does_not_know_the_account_any_more_gets_another_one(
    make_pebble: Callable[..., Pebble], make_server: Callable[..., Server]
) -> None:
    server = make_server(make_pebble(validity_seconds=3600))
    server.run()
    server.pebble.stop()
    server.pebble.start()
    assert "asked again in 1 minutes" in server.run(after=50)
    server.run(after=55)
    server.proxy.start()
    assert names_of(server.verified()) == {NAME}
