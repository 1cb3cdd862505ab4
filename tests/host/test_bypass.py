"""Attempts to reach Chroma without the credential, listed and generated.

Two things stand behind the proxy: the real servers of both generations, which must not give
away what they hold, and a recorder, which must receive nothing but health checks.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.host.chroma_servers import VERSIONS, ChromaServer
from tests.host.haproxys import AMAZON_LINUX, haproxy
from tests.host.programs import program
from tests.host.proxy import TOKEN, VERIFY, Proxy
from tests.host.raw import exchange, statuses
from tests.host.recorder import Recorder

TRANSPORTS = ["plain", "tls", "installed"]

OPEN = {
    b"/api/v1/heartbeat",
    b"/api/v1/version",
    b"/api/v2/heartbeat",
    b"/api/v2/version",
}
COLLECTIONS = "/api/v2/tenants/default_tenant/databases/default_database/collections"
TREASURE = "treasure-of-the-house"
BEARER = b"Authorization: Bearer guess\r\n"


@pytest.fixture(scope="module", params=VERSIONS)
def real_proxy(
    request: pytest.FixtureRequest,
    chroma_servers: dict[str, ChromaServer],
    make_proxy: Callable[..., Proxy],
) -> Proxy:
    """A proxy to a real Chroma that holds a treasure."""
    server = chroma_servers[request.param]
    direct = f"http://{server.address}{COLLECTIONS}"
    httpx.post(direct, json={"name": TREASURE, "get_or_create": True}).raise_for_status()
    assert TREASURE in httpx.get(direct).text
    return make_proxy(server.address).start()


@pytest.fixture(scope="module")
def proxy(recorder: Recorder, make_proxy: Callable[..., Proxy]) -> Proxy:
    """A proxy to the recorder."""
    return make_proxy(recorder.address).start()


def get(
    target: str | bytes, *headers: str, method: str = "GET", version: str = "HTTP/1.1"
) -> bytes:
    target = target.encode() if isinstance(target, str) else target
    lines = [b"Host: chroma", b"Connection: close", *(line.encode() for line in headers)]
    start = b"%s %s %s" % (method.encode(), target, version.encode())
    return b"\r\n".join([start, *lines, b"", b""])


def smuggled(*headers: str, body: bytes = b"", method: str = "POST") -> bytes:
    """A request to an open path whose body is said to be longer or shorter than it is; behind it another."""
    lines = "".join(f"{line}\r\n" for line in headers)
    first = f"{method} /api/v2/heartbeat HTTP/1.1\r\nHost: chroma\r\n{lines}\r\n".encode()
    return first + body + get(COLLECTIONS)


ENCODED = quote(COLLECTIONS, safe="")
PATHS = [
    f"/api/v2/heartbeat/..{COLLECTIONS[7:]}",
    f"/api/v2/heartbeat/../..{COLLECTIONS[4:]}",
    f"/api/v2/heartbeat/%2e%2e{COLLECTIONS[7:]}",
    f"/api/v2/heartbeat/%252e%252e{COLLECTIONS[7:]}",
    f"/api/v2/heartbeat%2f..{COLLECTIONS[7:]}",
    f"/api/v2/heartbeat%252f..{COLLECTIONS[7:]}",
    f"/api/v2/heartbeat/..;{COLLECTIONS[7:]}",
    f"/api/v2/heartbeat;/..{COLLECTIONS[7:]}",
    f"/api/v2/heartbeat\\..\\{COLLECTIONS[8:]}",
    f"/api/v2/heartbeat/%5c..{COLLECTIONS[7:]}",
    f"/api/v2/heartbeat%00{COLLECTIONS[7:]}",
    f"/api/v2/heartbeat%0d%0a{COLLECTIONS[7:]}",
    f"/api/v2/heartbeat#/..{COLLECTIONS[7:]}",
    f"/api/v2/heartbeat/.{COLLECTIONS[7:]}",
    f"/./api/v2/heartbeat/..{COLLECTIONS[7:]}",
    f"/{COLLECTIONS}",
    f"//chroma{COLLECTIONS}",
    COLLECTIONS.replace("/", "//"),
    COLLECTIONS.upper(),
    COLLECTIONS.replace("api", "%61pi"),
    COLLECTIONS + "?/api/v2/heartbeat",
    COLLECTIONS + "#/api/v2/heartbeat",
    COLLECTIONS + ";/api/v2/heartbeat",
    COLLECTIONS + "/../../../../../../../../api/v2/heartbeat",
    COLLECTIONS + "%3f/api/v2/heartbeat",
    f"/{ENCODED}",
    f"http://chroma{COLLECTIONS}",
    f"http://chroma/api/v2/heartbeat/..{COLLECTIONS[7:]}",
    f"http://chroma/api/v2/heartbeat@chroma{COLLECTIONS}",
    f"http:{COLLECTIONS}",
    f"file://{COLLECTIONS}",
    f"chroma{COLLECTIONS}",
    f"@chroma{COLLECTIONS}",
    f"?{COLLECTIONS}",
    "*",
    "api/v2/heartbeat",
    f"/api/v2/heartbeat HTTP/1.1\r\nHost: x\r\n\r\nGET {COLLECTIONS}",
    f"/api/v2/heartbeat\tHTTP/1.1\r\nHost: x\r\n\r\nGET {COLLECTIONS}",
    f"{COLLECTIONS}\x00/api/v2/heartbeat",
    f"{COLLECTIONS}\xa0",
]
METHODS = ["HEAD", "POST", "OPTIONS", "TRACE", "CONNECT", "PRI", "get", "GET/", "GE", "FOO", "G\0T"]
HEADERS = [
    ["Authorization: "],
    ["Authorization: Bearer"],
    ["Authorization: Bearer "],
    ["Authorization: Bearer null", "Authorization: Bearer undefined"],
    ["Authorization: Bearer guess\r\n folded"],
    ["Authorization:\r\n Bearer guess"],
    ["Authorization : Bearer guess"],
    [" Authorization: Bearer guess"],
    ["Authorization: Bearer guess\x00"],
    ["Authorization: Bearer " + "A" * 12000],
    ["Authorization: Bearer " + "A" * 100000],
    *[[f"X-{n}: {'A' * 100}" for n in range(count)] for count in (99, 120, 1000)],
    ["X-Forwarded-For: 127.0.0.1", "X-Real-IP: 127.0.0.1", "Forwarded: for=127.0.0.1"],
    ["X-Original-URL: /api/v2/heartbeat", "X-Rewrite-URL: /api/v2/heartbeat"],
    ["X-HTTP-Method-Override: GET", "X-Forwarded-Prefix: /api/v2/heartbeat"],
    ["Connection: close, Authorization", "Authorization: Bearer guess"],
    ["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQ"],
    ["Expect: 100-continue"],
    ["Content-Length: 0"],
    [": empty"],
    ["no colon"],
    ["Host: other"],
    ["Proxy-Authorization: Basic eDp5", "Cookie: token=guess"],
]
H2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
H2_SETTINGS = b"\0\0\0\4\0\0\0\0\0"
H2_UPGRADE = ["Upgrade: h2c", "Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: AAMAAABkAAQ"]
CHUNKED = "Transfer-Encoding: chunked"
INSIDE = get(COLLECTIONS)
LENGTHS = {
    "a body on an open path": smuggled("Content-Length: 5", body=b"12345", method="GET"),
    "a body that is a request": smuggled(f"Content-Length: {len(INSIDE)}", method="GET"),
    "no length": smuggled(),
    "length and chunks": smuggled("Content-Length: 5", CHUNKED, body=b"0\r\n\r\n"),
    "chunks and length": smuggled(CHUNKED, "Content-Length: 6", body=b"0\r\n\r\nG", method="GET"),
    "two lengths": smuggled("Content-Length: 5", "Content-Length: 6", body=b"12345"),
    "two lengths in one": smuggled("Content-Length: 0, 5", method="GET"),
    "the same length twice": smuggled("Content-Length: 0", "Content-Length: 0", method="GET"),
    "a signed length": smuggled("Content-Length: +0", method="GET"),
    "a negative length": smuggled("Content-Length: -1", method="GET"),
    "a huge length": smuggled("Content-Length: 18446744073709551616", method="GET"),
    "an empty length": smuggled("Content-Length: ", method="GET"),
    "a hexadecimal length": smuggled("Content-Length: 0x0", method="GET"),
    "a length behind a space": smuggled("Content-Length : 5", body=b"12345", method="GET"),
    "chunks behind a space": smuggled("Transfer-Encoding : chunked", body=b"0\r\n\r\n"),
    "chunks behind a tab": smuggled("Transfer-Encoding:\tchunked", body=b"0\r\n\r\n", method="GET"),
    "chunks on a folded line": smuggled("Transfer-Encoding:\r\n chunked", body=b"0\r\n\r\n"),
    "chunks, hardly": smuggled("Transfer-Encoding: xchunked", body=b"0\r\n\r\n", method="GET"),
    "chunks in quotes": smuggled('Transfer-Encoding: "chunked"', body=b"0\r\n\r\n", method="GET"),
    "chunks twice": smuggled(CHUNKED, CHUNKED, body=b"0\r\n\r\n", method="GET"),
    "chunks, then identity": smuggled(CHUNKED, "Transfer-Encoding: identity", body=b"0\r\n\r\n"),
    "identity": smuggled("Transfer-Encoding: identity", "Content-Length: 5", body=b"12345"),
    "chunks in an old version": smuggled(CHUNKED, body=b"0\r\n\r\n").replace(b"1.1", b"1.0", 1),
    "chunks with a bad size": smuggled(CHUNKED, body=b"0x0\r\n\r\n", method="GET"),
    "chunks with an extension": smuggled(CHUNKED, body=b"0;\n\r\n\r\n", method="GET"),
    "chunks with bare newlines": smuggled(CHUNKED, body=b"0\n\n", method="GET"),
    "chunks with a trailer": smuggled(CHUNKED, body=b"0\r\nAuthorization: x\r\n\r\n"),
    "a chunk larger than said": smuggled(CHUNKED, body=b"1\r\n12345\r\n0\r\n\r\n"),
    "bare newlines": smuggled("Content-Length: 0").replace(b"\r\n", b"\n"),
    "bare returns": smuggled("Content-Length: 0").replace(b"\r\n", b"\r"),
    "one behind the other": get("/api/v2/heartbeat").replace(b"close", b"keep-alive") + INSIDE,
    "an old keep-alive": smuggled("Connection: keep-alive").replace(b"1.1", b"1.0", 1),
    "no version": b"GET %s\r\n\r\n" % COLLECTIONS.encode(),
    "version 0.9": get(COLLECTIONS, version="HTTP/0.9"),
    "version 1.0 without a host": b"GET %s HTTP/1.0\r\n\r\n" % COLLECTIONS.encode(),
    "version 2.0": get(COLLECTIONS, version="HTTP/2.0"),
    "version 1.10": get(COLLECTIONS, version="HTTP/1.10"),
    "a line before": b"\r\n\r\n" + INSIDE,
    "http2 with prior knowledge": H2_PREFACE + H2_SETTINGS + H2_SETTINGS + INSIDE,
    "http2 by upgrade": get("/api/v2/heartbeat", *H2_UPGRADE) + H2_PREFACE + H2_SETTINGS + INSIDE,
    "websocket by upgrade": smuggled("Upgrade: websocket", "Connection: Upgrade", method="GET"),
    "a proxy's preface": b"PROXY TCP4 127.0.0.1 127.0.0.1 1 8000\r\n" + INSIDE,
    "a tunnel": get("chroma:8000", method="CONNECT") + INSIDE,
    "nothing of the kind": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 500,
}
ATTEMPTS = {
    **{f"path {path[:60]!a}": get(path) for path in PATHS},
    **{f"method {method!a}": get(COLLECTIONS, method=method) for method in METHODS},
    **{f"headers {lines[0][:40]!a}": get(COLLECTIONS, *lines) for lines in HEADERS},
    **LENGTHS,
}


@pytest.mark.parametrize("attempt", ATTEMPTS.values(), ids=ATTEMPTS)
def test_no_attempt_reaches_the_treasure(real_proxy: Proxy, attempt: bytes) -> None:
    answer = exchange(real_proxy, attempt)
    assert TREASURE.encode() not in answer
    assert real_proxy.get(COLLECTIONS, real_proxy.right).status_code == 200


@pytest.mark.parametrize("attempt", ATTEMPTS.values(), ids=ATTEMPTS)
def test_nothing_but_health_checks_reaches_chroma(
    proxy: Proxy, recorder: Recorder, attempt: bytes
) -> None:
    recorder.forget()
    answer = exchange(proxy, attempt)
    only_health_checks(recorder)
    assert b"default_database" not in recorder.raw
    assert len(recorder.requests) == statuses(answer).count(200)
    assert proxy.get(COLLECTIONS, proxy.right).status_code == 200


def only_health_checks(recorder: Recorder) -> None:
    assert recorder.broken == []
    for request in recorder.requests:
        assert request.method in (b"GET", b"HEAD")
        assert request.target.split(b"?")[0] in OPEN
        assert not {b"transfer-encoding", b"upgrade"} & dict(request.headers).keys()


PIECES = st.sampled_from(
    [
        *(
            "/",
            "//",
            ".",
            "..",
            "...",
            "%2e",
            "%2E",
            "%252e",
            "%2f",
            "%5c",
            "\\",
            ";",
            "?",
            "#",
            "&",
        ),
        *("=", "@", ":", "*", "%00", "%0a", "~", "heartbeat", "HEARTBEAT", "version", "api", "v1"),
        *("/api/v2/heartbeat", "/api/v1/version", "/api/v2/", "tenants", "collections"),
    ]
)
TARGETS = st.lists(PIECES, min_size=1, max_size=8).map("".join)
NEAR_OPEN = st.builds(
    "{}{}{}".format,
    st.sampled_from(["", "/", "/.", "//", "http://chroma", "/%2e"]),
    st.sampled_from(sorted(path.decode() for path in OPEN)),
    TARGETS,
)
HEADER_LINES = st.lists(
    st.builds(
        lambda name, colon, value: name + colon + value,
        st.sampled_from(
            [
                *("Authorization", "authorization", "X-Chroma-Token", "Content-Length", "Host"),
                *("Transfer-Encoding", "Connection", "Upgrade", "Expect", "TE", "Trailer", " "),
            ]
        ),
        st.sampled_from([": ", ":", " : ", ":\t", ":\r\n "]),
        st.sampled_from(
            [
                *("", "Bearer", "Bearer x", "Basic eDp5", "0", "5", "-1", "chunked", "identity"),
                *("chunked, identity", "h2c", "close", "keep-alive", "100-continue", "x" * 9000),
            ]
        ),
    ),
    max_size=4,
)
RARELY_SLOW = settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def attempt(proxy: Proxy, recorder: Recorder, request: bytes) -> None:
    recorder.forget()
    answer = exchange(proxy, request)
    only_health_checks(recorder)
    assert len(recorder.requests) == statuses(answer).count(200)


@RARELY_SLOW
@given(target=st.one_of(TARGETS, NEAR_OPEN))
@example(target="/api/v2/heartbeat?x=/../tenants")
def test_no_generated_path_reaches_chroma(proxy: Proxy, recorder: Recorder, target: str) -> None:
    attempt(proxy, recorder, get(target))


@RARELY_SLOW
@given(
    method=st.sampled_from(["GET", "HEAD", "POST", "OPTIONS", "get", "GET ", "\tGET"]),
    target=st.sampled_from(["/api/v2/heartbeat", "/api/v2/version?x", "/api/v2/tenants/x"]),
    lines=HEADER_LINES,
    body=st.sampled_from([b"", b"0\r\n\r\n", b"12345", b"5\r\n12345\r\n0\r\n\r\n"]),
)
def test_no_generated_headers_let_a_second_request_through(
    proxy: Proxy, recorder: Recorder, method: str, target: str, lines: list[str], body: bytes
) -> None:
    second = get("/api/v2/tenants/behind")
    attempt(proxy, recorder, get(target, *lines, method=method) + body + second)
    assert b"behind" not in recorder.raw


@RARELY_SLOW
@given(noise=st.binary(max_size=200), at=st.integers(0, 200))
def test_no_noise_in_a_request_lets_it_through(
    proxy: Proxy, recorder: Recorder, noise: bytes, at: int
) -> None:
    request = get("/api/v2/tenants/default_tenant", "X: y")
    attempt(proxy, recorder, request[:at] + noise + request[at:])


@RARELY_SLOW
@given(credential=st.text(st.characters(min_codepoint=33, max_codepoint=255), max_size=300))
@example(credential="")
@example(credential="*")
@example(credential="%s%n")
def test_no_generated_credential_is_accepted(
    proxy: Proxy, recorder: Recorder, credential: str
) -> None:
    line = b"Authorization: Bearer " + credential.encode("latin-1") + b"\r\n"
    request = get("/api/v2/tenants/default_tenant").replace(b"Host: ", line + b"Host: ")
    attempt(proxy, recorder, request)
    assert recorder.raw == b""


def hello(server_name: str = "localhost") -> bytes:
    """The first bytes of a client that speaks TLS."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = VERIFY.wrap_bio(incoming, outgoing, server_hostname=server_name)
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


RECORD = b"\x16\x03\x01"
SWITCHING = {
    "a hello, then plain": hello() + INSIDE,
    "a hello in plain": get("/api/v2/heartbeat", "Connection: keep-alive") + hello(),
    "plain, then a hello": INSIDE + hello(),
    "the first byte, then plain": RECORD[:1] + INSIDE,
    "a record around plain": RECORD + len(INSIDE).to_bytes(2, "big") + INSIDE,
    "a hello that says it is longer": hello()[:40] + INSIDE,
    "a hello of an old release": b"\x80\x2e\x01\x03\x01" + INSIDE,
    "an empty record, then plain": RECORD + b"\0\0" + INSIDE,
    "an alert": b"\x15\x03\x01\x00\x02\x01\x00" + INSIDE,
    "a proxy's preface, version 2": b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"
    + b"\x7f\0\0\1" * 3
    + INSIDE,
    "a hello behind a proxy's preface": b"PROXY TCP4 127.0.0.9 127.0.0.1 1 8000\r\n" + hello(),
    "two hellos": hello() * 2 + INSIDE,
}


@pytest.mark.parametrize("attempt", SWITCHING.values(), ids=SWITCHING)
def test_nothing_slips_through_between_plain_and_tls(
    proxy: Proxy, recorder: Recorder, attempt: bytes
) -> None:
    test_nothing_but_health_checks_reaches_chroma(proxy, recorder, attempt)


@RARELY_SLOW
@given(noise=st.binary(max_size=300), at=st.integers(0, 300), behind=st.booleans())
def test_no_noise_in_a_hello_lets_anything_through(
    proxy: Proxy, recorder: Recorder, noise: bytes, at: int, behind: bool
) -> None:
    first = hello()
    attempt(proxy, recorder, first[:at] + noise + first[at:] + (INSIDE if behind else b""))


@pytest.fixture(scope="module")
def required(recorder: Recorder, make_proxy: Callable[..., Proxy]) -> Proxy:
    """A proxy that takes TLS only, and is asked in plain."""
    proxy = make_proxy(recorder.address, tls="required", over_tls=False).start()
    # Of an address that is not known yet the proxy takes fewer connections.
    known = httpx.get(proxy.https_url + COLLECTIONS, headers=proxy.right, verify=VERIFY)
    assert known.status_code == 200
    return proxy


PLAIN = {
    **ATTEMPTS,
    **SWITCHING,
    "the right credential": INSIDE.replace(
        b"Host", b"Authorization: Bearer %b\r\nHost" % TOKEN.encode(), 1
    ),
    "a health check": get("/api/v2/heartbeat"),
    "a browser's question": get(
        COLLECTIONS, "Origin: x", "Access-Control-Request-Method: POST", method="OPTIONS"
    ),
}


@pytest.mark.parametrize("attempt", PLAIN.values(), ids=PLAIN)
def test_where_tls_is_required_nothing_passes_in_plain(
    required: Proxy, recorder: Recorder, attempt: bytes
) -> None:
    recorder.forget()
    answer = exchange(required, attempt)
    assert recorder.raw == b""
    assert set(statuses(answer)) <= {400, 408, 426}


def test_a_refusal_of_plain_says_what_to_do(required: Proxy, recorder: Recorder) -> None:
    for headers in ({}, required.right, required.wrong):
        answer = required.get(COLLECTIONS, headers)
        assert answer.status_code == 426
        assert answer.json()["error"] == "InvalidArgumentError"
        assert "https" in answer.json()["message"]
        assert answer.headers["upgrade"] == "TLS/1.2, HTTP/1.1"
    secure = httpx.get(required.https_url + COLLECTIONS, headers=required.right, verify=VERIFY)
    assert secure.status_code == 200


def test_wrong_credentials_in_plain_are_no_guesses_where_tls_is_required(required: Proxy) -> None:
    for _ in range(30):
        assert required.get(COLLECTIONS, required.wrong).status_code == 426
    secure = httpx.get(required.https_url + COLLECTIONS, headers=required.wrong, verify=VERIFY)
    assert secure.status_code == 401


@pytest.mark.parametrize("name", ["", "chroma.example.org", "x" * 250, "127.0.0.1", "a..b", "*"])
def test_whatever_name_a_client_asks_for_the_credential_is_needed(
    proxy: Proxy, recorder: Recorder, name: str
) -> None:
    recorder.forget()
    command = [program("openssl"), "s_client", "-quiet", "-connect", proxy.address]
    command += ["-servername", name] if name else ["-noservername"]
    answer = subprocess.run(command, input=INSIDE, capture_output=True, timeout=60).stdout
    assert set(statuses(answer)) <= {401}
    assert recorder.raw == b""


def test_no_early_data_is_taken(proxy: Proxy, recorder: Recorder, tmp_path: Path) -> None:
    """0-RTT could be played back."""
    session, data = tmp_path / "session", tmp_path / "data"
    data.write_bytes(INSIDE)
    command = [program("openssl"), "s_client", "-quiet", "-connect", proxy.address, "-tls1_3"]
    kept = subprocess.run(
        [*command, "-sess_out", session],
        input=get("/api/v2/heartbeat"),
        capture_output=True,
        timeout=60,
    )
    assert statuses(kept.stdout) == [200]
    recorder.forget()
    early = [*command[:2], *command[3:], "-sess_in", str(session), "-early_data", str(data)]
    answer = subprocess.run(early, input=b"", capture_output=True, timeout=60)
    assert b"Early data was accepted" not in answer.stdout
    assert recorder.raw == b""


def test_a_hello_that_never_ends_is_cut_off(
    recorder: Recorder, make_proxy: Callable[..., Proxy]
) -> None:
    proxy = make_proxy(recorder.address)
    if proxy.program != haproxy(AMAZON_LINUX):
        pytest.skip("HAProxy before 2.9 has no timeout for the handshake alone")
    # Not by the timeout of a client that is silent.
    proxy.environment["PROXY_CLIENT_TIMEOUT"] = "1h"
    proxy.start()
    recorder.forget()
    with socket.create_connection(("127.0.0.1", proxy.port), 10) as connection:
        connection.sendall(hello()[:-1])
        connection.settimeout(300)
        assert connection.recv(1) == b""
    assert recorder.raw == b""
