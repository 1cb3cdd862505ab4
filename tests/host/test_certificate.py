"""The certificate that clients get: from the server's own authority, or one of the owner's own."""

from __future__ import annotations

import base64
import datetime
import json
import os
import re
import shlex
import ssl
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from chroma_stack.emulator.moto_server import MotoServer
from tests.host.certificates import PARAMETER, Certificates, names_of, public_key, secret
from tests.host.programs import HOST, program
from tests.host.proxy import Proxy, proxy_authority
from tests.host.recorder import Recorder
from tests.host.test_credential import Secret, run
from tests.host.test_rotation import Load

HEARTBEAT = "/api/v2/heartbeat"
PUBLIC_NAME = "ec2-203-0-113-5.eu-west-1.compute.amazonaws.com"
NAMES = f"{PUBLIC_NAME} 203.0.113.5"


@pytest.fixture(scope="module")
def aws() -> Iterator[MotoServer]:
    with MotoServer() as server:
        server.client("ssm").put_parameter(Name=PARAMETER, Value="not yet", Type="String")
        yield server


@pytest.fixture
def proxy(recorder: Recorder, make_proxy: Callable[..., Proxy]) -> Proxy:
    return make_proxy(recorder.address)


@pytest.fixture
def certificates(proxy: Proxy, aws: MotoServer) -> Certificates:
    certificates = Certificates(proxy, aws)
    proxy.settings["TLS_NAMES"] = NAMES
    return certificates


def done(updated: subprocess.CompletedProcess[str]) -> None:
    assert (updated.returncode, updated.stderr) == (0, "")


def get(certificates: Certificates, path: str = HEARTBEAT) -> httpx.Response:
    """As a client does that trusts the server's authority."""
    context = ssl.create_default_context(cafile=str(certificates.authority))
    return httpx.get(certificates.proxy.https_url + path, verify=context, timeout=30)


def test_a_first_boot_serves_a_certificate_of_the_servers_own_authority(
    certificates: Certificates,
) -> None:
    done(certificates.update())
    certificates.proxy.start()
    assert get(certificates).status_code == 200
    served = certificates.served()
    assert names_of(served) == {*NAMES.split(), "localhost", "127.0.0.1"}
    lifetime = served.not_valid_after_utc - served.not_valid_before_utc
    assert lifetime < datetime.timedelta(days=91)


def test_the_authority_is_published_for_clients(certificates: Certificates) -> None:
    done(certificates.update())
    assert certificates.published() == certificates.authority.read_text()
    assert "PRIVATE KEY" not in certificates.published()


def test_openssl_verifies_the_name_the_purpose_and_the_chain(certificates: Certificates) -> None:
    done(certificates.update())
    certificates.proxy.start()
    address = certificates.proxy.address
    for name in (PUBLIC_NAME, "localhost"):
        command = [program("openssl"), "s_client", "-connect", address, "-verify_hostname", name]
        command += ["-CAfile", str(certificates.authority), "-purpose", "sslserver", "-x509_strict"]
        command += ["-verify_return_error", "-brief"]
        answer = subprocess.run(command, input="", capture_output=True, text=True, timeout=60)
        assert answer.returncode == 0, answer.stderr
        assert "Verification: OK" in answer.stderr


def test_the_key_is_readable_by_root_and_the_proxy_alone(certificates: Certificates) -> None:
    done(certificates.update())
    modes = {it.name: stat.S_IMODE(it.stat().st_mode) for it in certificates.folder.iterdir()}
    assert modes.pop("authority.pem") == 0o644
    assert modes.pop("server.pem") == 0o640
    assert modes.pop("lock") & 0o022 == 0
    assert set(modes.values()) == {0o600}
    assert stat.S_IMODE(certificates.folder.stat().st_mode) == 0o750
    key = certificates.proxy.certificate.read_text().partition("-----BEGIN PRIVATE KEY-----")[2]
    assert key.splitlines()[1] not in certificates.published()


def test_nothing_changes_without_a_reason(certificates: Certificates) -> None:
    done(certificates.update())
    before = {it.name: it.read_bytes() for it in certificates.folder.iterdir()}
    again = certificates.update()
    done(again)
    assert again.stdout == ""
    assert {it.name: it.read_bytes() for it in certificates.folder.iterdir()} == before


def test_the_next_instance_goes_on_with_the_authority_for_its_names(
    certificates: Certificates,
) -> None:
    done(certificates.update())
    authority = certificates.authority.read_text()
    certificates.proxy.settings["TLS_NAMES"] = "chroma.example.com ec2-x.amazonaws.com 203.0.113.6"
    done(certificates.update())
    certificates.proxy.start()
    assert certificates.authority.read_text() == authority
    assert {"chroma.example.com", "203.0.113.6"} < names_of(certificates.served())
    assert get(certificates).status_code == 200


def test_the_certificate_is_renewed_when_a_third_of_its_time_is_left(
    certificates: Certificates,
) -> None:
    done(certificates.update())
    certificates.proxy.start()
    first = certificates.served()
    done(certificates.update(at="+59d"))
    assert certificates.served() == first
    done(certificates.update(at="+61d"))
    assert certificates.served() != first
    assert certificates.served().issuer == first.issuer


def test_a_clock_that_was_a_year_ahead_leaves_no_certificate_from_the_future(
    certificates: Certificates,
) -> None:
    done(certificates.update(at="+365d"))
    certificates.proxy.start()
    done(certificates.update())
    assert get(certificates).status_code == 200


def test_an_authority_from_a_clock_that_was_wrong_is_made_again(
    certificates: Certificates,
) -> None:
    done(certificates.update(at="+365d"))
    from_the_future = certificates.authority.read_text()
    updated = certificates.update()
    assert "making another one" in updated.stdout
    assert certificates.authority.read_text() != from_the_future
    assert certificates.published() == certificates.authority.read_text()


@pytest.mark.parametrize(
    "damage",
    [b"", b"-----BEGIN", os.urandom(4096), b"\0" * 900],
    ids=["cut", "pem", "noise", "NUL"],
)
def test_a_damaged_file_is_made_again(certificates: Certificates, damage: bytes) -> None:
    done(certificates.update())
    authority = certificates.authority.read_text()
    (certificates.folder / "own.pem").write_bytes(damage)
    (certificates.folder / "server.pem").write_bytes(damage)
    certificates.authority.unlink()
    done(certificates.update())
    assert certificates.authority.read_text() == authority
    certificates.proxy.start()
    assert get(certificates).status_code == 200
    (certificates.folder / "authority.key").write_bytes(damage)
    assert "making another one" in certificates.update().stdout
    assert get(certificates).status_code == 200


def test_the_authority_is_published_again_after_it_could_not_be(
    certificates: Certificates,
) -> None:
    certificates.proxy.settings["CA_PARAMETER"] = "ssm-is-reserved"
    failed = certificates.update()
    assert failed.returncode == 1
    assert "Parameter name" in failed.stderr
    certificates.proxy.settings["CA_PARAMETER"] = PARAMETER
    done(certificates.update())
    assert certificates.published() == certificates.authority.read_text()


def test_the_authority_is_published_again_after_cloudformation_wrote_its_placeholder(
    certificates: Certificates, aws: MotoServer
) -> None:
    done(certificates.update())
    placeholder = {"Name": PARAMETER, "Value": "not yet", "Type": "String", "Overwrite": True}
    aws.client("ssm").put_parameter(**placeholder)
    done(certificates.update(at="+11m"))
    assert certificates.published() == certificates.authority.read_text()


@pytest.mark.parametrize(
    ("line", "minutes", "looks"),
    [
        ("TLS_SECRET=arn:aws:x", 1, True),
        ("ACME_DIRECTORY=https://x", 1, True),
        ("TLS_SECRET=", 1, False),
        ("TLS=optional", 1, False),
        ("TLS=optional", 11, True),
        ("TLS=optional", None, True),
    ],
)
def test_without_another_source_it_looks_every_ten_minutes_and_after_a_start(
    tmp_path: Path, line: str, minutes: int | None, looks: bool
) -> None:
    [condition] = re.findall(
        "ExecCondition=(.*)", (HOST / "chroma-certificate.service").read_text()
    )
    settings, published = tmp_path / "settings", tmp_path / "published"
    settings.write_text(f"AUTH=token\n{line}\n")
    if minutes is not None:
        published.touch()
        then = published.stat().st_mtime - 60 * minutes
        os.utime(published, (then, then))
    command = condition.replace("$$", "$").replace("/etc/chroma/settings", str(settings))
    command = command.replace("/run/chroma-ca-published", str(published))
    assert (subprocess.run(shlex.split(command)).returncode == 0) is looks


def test_without_tls_there_is_no_certificate(certificates: Certificates) -> None:
    certificates.proxy.settings["TLS"] = "off"
    done(certificates.update())
    assert list(certificates.folder.iterdir()) == []


def test_the_self_test_verifies_what_is_served(certificates: Certificates) -> None:
    done(certificates.update())
    Secret(certificates.proxy).put(certificates.proxy.credential)
    certificates.proxy.start()
    tested = run(certificates.proxy, "self-test")
    assert (tested.returncode, tested.stderr) == (0, "")
    # The proxy goes on with the one that it has, which is of another authority.
    (certificates.folder / "own.pem").unlink()
    (certificates.folder / "authority.key").unlink()
    certificates.proxy.environment["PROXY_ADMIN_SOCKET"] += "-none"
    certificates.update()
    tested = run(certificates.proxy, "self-test")
    assert tested.returncode == 1
    assert "the heartbeat is not served" in tested.stderr


def test_the_self_test_fails_where_plain_http_is_not_refused(
    certificates: Certificates,
) -> None:
    done(certificates.update())
    Secret(certificates.proxy).put(certificates.proxy.credential)
    certificates.proxy.start()
    certificates.proxy.settings["TLS"] = "required"
    tested = run(certificates.proxy, "self-test")
    assert tested.returncode == 1
    assert "plain HTTP is not refused: it was answered with 200" in tested.stderr


def pem(issued: trustme.LeafCert) -> str:
    return issued.private_key_and_cert_chain_pem.bytes().decode()


def parts(issued: trustme.LeafCert) -> tuple[str, str]:
    """The certificates and the key."""
    certificates = "".join(it.bytes().decode() for it in issued.cert_chain_pems)
    return certificates, issued.private_key_pem.bytes().decode()


def encrypted(issued: trustme.LeafCert, passphrase: str) -> str:
    key = serialization.load_pem_private_key(issued.private_key_pem.bytes(), None)
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(passphrase.encode()),
    ).decode()


def acm_export(issued: trustme.LeafCert) -> str:
    leaf, chain = issued.cert_chain_pems[0], issued.cert_chain_pems[1:]
    return json.dumps(
        {
            "Certificate": leaf.bytes().decode(),
            "CertificateChain": "".join(it.bytes().decode() for it in chain),
            "PrivateKey": encrypted(issued, "a passphrase"),
            "Passphrase": "a passphrase",
        }
    )


def kubernetes_secret(issued: trustme.LeafCert) -> str:
    certificates, key = (base64.b64encode(it.encode()).decode() for it in parts(issued))
    data = {"tls.crt": certificates, "tls.key": key, "ca.crt": ""}
    return json.dumps({"kind": "Secret", "type": "kubernetes.io/tls", "data": data})


def cert_manager(issued: trustme.LeafCert) -> str:
    certificates, key = parts(issued)
    return json.dumps({"tls.crt": certificates, "tls.key": key})


def out_of_order(issued: trustme.LeafCert) -> str:
    certificates, key = parts(issued)
    blocks = certificates.split("-----END CERTIFICATE-----\n")[:-1]
    return "".join(f"{it}-----END CERTIFICATE-----\n" for it in reversed(blocks)) + key


def with_notes(issued: trustme.LeafCert) -> str:
    certificates, key = parts(issued)
    return f"Bag Attributes\r\n\r\n{key}\n\n\nsubject=CN = x\n{certificates}\n\n".replace(
        "\n", "\r\n"
    )


INTERMEDIATE = proxy_authority().create_child_ca()
FORMS = [pem, acm_export, kubernetes_secret, cert_manager, out_of_order, with_notes]


@pytest.mark.parametrize("form", FORMS)
def test_a_certificate_of_ones_own_is_taken_in_every_usual_form(
    certificates: Certificates, aws: MotoServer, form: Callable[[trustme.LeafCert], str]
) -> None:
    issued = INTERMEDIATE.issue_cert("localhost", "chroma.example.com")
    certificates.proxy.settings["TLS_SECRET"] = secret(aws, form(issued))
    done(certificates.update())
    certificates.proxy.start()
    context = ssl.create_default_context(cafile=str(certificates.proxy.ca))
    answer = httpx.get(certificates.proxy.https_url + HEARTBEAT, verify=context)
    assert answer.status_code == 200
    assert names_of(certificates.served()) == {"localhost", "chroma.example.com"}


@pytest.fixture
def given(certificates: Certificates, aws: MotoServer) -> Certificates:
    """An instance that serves a certificate of its owner's own."""
    issued = proxy_authority().issue_cert("localhost")
    certificates.proxy.settings["TLS_SECRET"] = secret(aws, pem(issued))
    done(certificates.update())
    certificates.proxy.start()
    return certificates


def put(given: Certificates, text: str) -> None:
    secret(given.aws, text, given.proxy.settings["TLS_SECRET"])


def test_a_new_certificate_in_the_secret_is_taken_up_without_a_restart(
    given: Certificates,
) -> None:
    put(given, pem(proxy_authority().issue_cert("localhost", "new.example.com")))
    updated = given.update()
    done(updated)
    assert "new.example.com" in updated.stdout
    assert "new.example.com" in names_of(given.served())


def other_key() -> str:
    certificates, _ = parts(proxy_authority().issue_cert("localhost"))
    return certificates + parts(proxy_authority().issue_cert("localhost"))[1]


def expired() -> str:
    yesterday = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(days=1)
    return pem(proxy_authority().issue_cert("localhost", not_after=yesterday))


def weak() -> str:
    make = ["openssl", "req", "-x509", "-newkey", "rsa:1024", "-nodes", "-subj", "/CN=localhost"]
    made = subprocess.run([*make, "-keyout", "-"], capture_output=True, text=True, check=True)
    return made.stdout


def two_keys() -> str:
    issued = proxy_authority().issue_cert("localhost")
    return pem(issued) + parts(issued)[1]


def without_a_passphrase() -> str:
    issued = proxy_authority().issue_cert("localhost")
    return parts(issued)[0] + encrypted(issued, "a passphrase")


def too_long() -> str:
    authority = proxy_authority()
    for _ in range(9):
        authority = authority.create_child_ca(key_type=trustme.KeyType.RSA)
    return pem(authority.issue_cert("localhost", key_type=trustme.KeyType.RSA))


REFUSED = {
    "no pem": (lambda: "chroma", "0 certificates and 0 keys"),
    "no key": (lambda: parts(proxy_authority().issue_cert("localhost"))[0], "and 0 keys"),
    "no certificate": (lambda: parts(proxy_authority().issue_cert("x"))[1], "0 certificates"),
    "a needless passphrase": (
        lambda: json.dumps({"Passphrase": 1, "x": pem(proxy_authority().issue_cert("x"))}),
        "its passphrase is for nothing",
    ),
    "two keys": (two_keys, "2 keys"),
    "another key": (other_key, "does not fit its key"),
    "expired": (expired, "it is valid from"),
    "broken json": (lambda: '{"tls.crt": ', "begins as JSON does, and is none"),
    "a weak key": (weak, "the proxy does not take it"),
    "an encrypted key": (without_a_passphrase, "its key is encrypted"),
    "a very long chain": (too_long, "more than 12000"),
    "a cut certificate": (lambda: pem(proxy_authority().issue_cert("x"))[:-900], "is needed"),
}


@pytest.mark.parametrize(("make", "sentence"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_use_is_refused_with_a_sentence_and_the_last_one_stays(
    given: Certificates, make: Callable[[], str], sentence: str
) -> None:
    before = given.served()
    put(given, make())
    refused = given.update()
    assert refused.returncode == 0
    assert sentence in refused.stderr
    assert "the last good one is kept" in refused.stderr
    assert given.served() == before
    assert sentence in given.problem()
    again = given.update()
    assert again.stderr == ""
    # Also at the proxy's next start.
    given.proxy.stop()
    assert public_key(Certificates.served(_started(given))) == public_key(before)


def _started(certificates: Certificates) -> Certificates:
    certificates.proxy.start()
    return certificates


def test_a_secret_that_cannot_be_read_leaves_the_last_certificate(given: Certificates) -> None:
    before = given.served()
    given.proxy.settings["TLS_SECRET"] = given.proxy.settings["TLS_SECRET"][:-1] + "x"
    assert "cannot be read" in given.update().stderr
    assert given.served() == before


def test_a_first_boot_fails_when_the_secret_holds_nothing_of_use(
    certificates: Certificates, aws: MotoServer
) -> None:
    certificates.proxy.settings["TLS_SECRET"] = secret(aws, other_key())
    # Each of the attempts of a boot says why, and so do those of the next instance.
    for _ in range(2):
        refused = certificates.update()
        assert refused.returncode == 1
        assert "does not fit its key" in refused.stderr


def test_a_certificate_that_has_expired_meanwhile_is_said(given: Certificates) -> None:
    tomorrow = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=1)
    put(given, pem(proxy_authority().issue_cert("localhost", not_after=tomorrow)))
    done(given.update())
    assert "has expired" in given.update(at="+2d").stderr
    assert given.update().stderr == "certificate: all is well again\n"


def test_a_running_proxy_that_missed_a_certificate_gets_it_with_the_next_run(
    given: Certificates,
) -> None:
    put(given, pem(proxy_authority().issue_cert("localhost", "new.example.com")))
    socket = given.proxy.environment["PROXY_ADMIN_SOCKET"]
    given.proxy.environment["PROXY_ADMIN_SOCKET"] += "-none"
    done(given.update())
    assert "new.example.com" not in names_of(given.served())
    given.proxy.environment["PROXY_ADMIN_SOCKET"] = socket
    done(given.update())
    assert "new.example.com" in names_of(given.served())


def test_no_request_fails_while_certificates_are_swapped(given: Certificates) -> None:
    """Of 10,000, on kept-alive connections and on new ones."""
    keys = set()
    with Load.on(given.proxy, tls=True) as load:
        while load.served < 10_000 or len(keys) < 5:
            put(given, pem(proxy_authority().issue_cert("localhost", f"n{len(keys)}.example.com")))
            done(given.update())
            keys.add(public_key(given.served()))
    assert load.failures == []
    assert load.served >= 10_000


def test_no_key_is_in_the_log_or_an_argument(given: Certificates) -> None:
    key = parts(proxy_authority().issue_cert("localhost"))[1]
    put(given, key)
    refused = given.update()
    line = key.splitlines()[1]
    assert line not in refused.stdout + refused.stderr + given.problem()
    assert line not in given.proxy.log.read_text()
