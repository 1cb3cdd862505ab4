"""The protocol: what the port speaks of TLS, and what it does not."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.host.programs import program
from tests.host.proxy import Proxy
from tests.host.recorder import Recorder

REQUEST = b"GET /api/v2/heartbeat HTTP/1.1\r\nHost: chroma\r\n\r\n"
OLD = ["-cipher", "ALL:@SECLEVEL=0"]
"""For what a current openssl does not do by itself."""


@pytest.fixture(scope="module")
def proxy(recorder: Recorder, make_proxy: Callable[..., Proxy]) -> Proxy:
    return make_proxy(recorder.address).start()


def s_client(
    proxy: Proxy, *options: str, sent: bytes = REQUEST
) -> subprocess.CompletedProcess[bytes]:
    """What `openssl s_client` has to say, and what it got."""
    connect = ["-connect", proxy.address, "-servername", "localhost", "-CAfile", str(proxy.ca)]
    command = [program("openssl"), "s_client", *connect, "-ign_eof", *options]
    # The proxy ends a connection on which nothing follows.
    request = sent.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    return subprocess.run(command, input=request, capture_output=True, timeout=60)


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_current_versions_are_spoken(proxy: Proxy, version: str) -> None:
    answer = s_client(proxy, version)
    assert b"Verification: OK" in answer.stdout
    assert b"HTTP/1.1 200" in answer.stdout


@pytest.mark.parametrize("version", ["-tls1", "-tls1_1"])
def test_old_versions_are_not(proxy: Proxy, version: str) -> None:
    answer = s_client(proxy, version, *OLD)
    assert b"HTTP/1.1" not in answer.stdout
    assert b"Cipher is (NONE)" in answer.stdout


@pytest.mark.parametrize("ciphers", ["AES128-SHA", "AES256-GCM-SHA384", "ECDHE-ECDSA-AES256-SHA"])
def test_ciphers_without_forward_secrecy_or_authentication_of_the_data_are_not(
    proxy: Proxy, ciphers: str
) -> None:
    answer = s_client(proxy, "-tls1_2", "-cipher", f"{ciphers}:@SECLEVEL=0")
    assert b"Cipher is (NONE)" in answer.stdout


def test_nobody_can_ask_for_another_handshake(proxy: Proxy) -> None:
    """It would cost the server more than the client."""
    # A line that begins with R has openssl ask for one.
    asked = subprocess.run(
        [program("openssl"), "s_client", "-connect", proxy.address, "-tls1_2"],
        input=b"R\n",
        capture_output=True,
        timeout=60,
    )
    assert b"RENEGOTIATING" in asked.stdout + asked.stderr
    assert b"no renegotiation" in asked.stderr


def test_only_http_1_is_spoken_inside(proxy: Proxy) -> None:
    answer = s_client(proxy, "-alpn", "h2,http/1.1")
    assert b"ALPN protocol: http/1.1" in answer.stdout


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_a_session_is_resumed_until_the_proxy_restarts(
    recorder: Recorder, make_proxy: Callable[..., Proxy], tmp_path: Path, version: str
) -> None:
    """From the proxy's memory: there is no key of tickets, which would read earlier sessions."""
    proxy = make_proxy(recorder.address).start()
    session = str(tmp_path / "session")
    first = s_client(proxy, version, "-sess_out", session)
    assert b"New, TLSv1" in first.stdout
    assert b"Reused, TLSv1" in s_client(proxy, version, "-sess_in", session).stdout
    proxy.stop()
    proxy.start()
    assert b"New, TLSv1" in s_client(proxy, version, "-sess_in", session).stdout


def test_without_tls_a_hello_gets_no_handshake(
    recorder: Recorder, make_proxy: Callable[..., Proxy]
) -> None:
    proxy = make_proxy(recorder.address, tls="off").start()
    assert b"Cipher is (NONE)" in s_client(proxy).stdout
    assert proxy.get("/api/v2/heartbeat").status_code == 200
