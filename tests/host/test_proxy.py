"""What the proxy answers, in front of the real Chroma of both generations."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

import httpx
import pytest

from tests.host.chroma_servers import VERSIONS, ChromaServer
from tests.host.proxy import VERIFY, Proxy, as_password, header, token_of
from tests.host.raw import connect, statuses
from tests.host.recorder import Recorder

TRANSPORTS = ["plain", "tls"]

GUARDED = "/api/v2/tenants/default_tenant"
OPEN = ["/api/v1/heartbeat", "/api/v1/version", "/api/v2/heartbeat", "/api/v2/version"]
WAYS = [("token", ""), ("token", "Authorization"), ("token", "X-Chroma-Token"), ("basic", "")]


@pytest.fixture(scope="module", params=VERSIONS)
def server(request: pytest.FixtureRequest, chroma_servers: dict[str, ChromaServer]) -> ChromaServer:
    return chroma_servers[request.param]


@pytest.fixture(scope="module", params=WAYS, ids="".join)
def proxy(
    request: pytest.FixtureRequest, server: ChromaServer, make_proxy: Callable[..., Proxy]
) -> Proxy:
    auth, token_header = request.param
    return make_proxy(server.address, auth=auth, token_header=token_header).start()


def test_a_request_with_the_credential_is_served(proxy: Proxy) -> None:
    answer = proxy.get(GUARDED, proxy.right)
    assert answer.status_code == 200
    assert answer.json()["name"] == "default_tenant"


def test_a_request_without_the_credential_is_refused(proxy: Proxy) -> None:
    answer = proxy.get(GUARDED)
    assert answer.status_code == 401
    assert answer.json()["error"] == "AuthorizationError"
    scheme = {"token": "Bearer", "basic": "Basic"}[proxy.auth]
    if proxy.token_header == "X-Chroma-Token":
        scheme = "X-Chroma-Token"
    assert answer.headers["WWW-Authenticate"] == f'{scheme} realm="chroma"'


@pytest.mark.parametrize(
    "change",
    [
        str.swapcase,
        lambda value: value[:-1],
        lambda value: value + "x",
        lambda value: value + ", " + value,
        lambda value: "Token " + value.split(" ")[-1],
        lambda value: " ".join(["bearer", *value.split(" ")[1:]]),
        lambda value: "Bearer Bearer " + value,
        lambda value: "",
    ],
)
def test_a_request_with_nearly_the_credential_is_refused(
    proxy: Proxy, change: Callable[[str], str]
) -> None:
    [(name, value)] = proxy.right.items()
    assert proxy.get(GUARDED, {name: change(value)}).status_code in (401, 429)


def ways(user: str, token: str) -> dict[str, dict[str, str]]:
    """How a client may send the token of a user, by what `authTokenHeader` calls it."""
    return {
        "Authorization": header("token", token),
        "X-Chroma-Token": header("token", token, "X-Chroma-Token"),
        "password": as_password(user, token),
    }


def test_the_right_token_is_right_in_any_way_that_is_not_ruled_out(proxy: Proxy) -> None:
    for way, headers in ways(proxy.main_user, proxy.credential).items():
        if proxy.auth == "token" and proxy.token_header in ("", way):
            assert proxy.get(GUARDED, headers).status_code == 200, way
        elif proxy.auth == "token" or way != "password":
            assert proxy.get(GUARDED, headers).status_code in (401, 429), way


def test_the_same_token_in_both_headers_is_served(proxy: Proxy) -> None:
    """As n8n sends it."""
    if proxy.auth == "token":
        own = {"X-Chroma-Token": proxy.credential}
        sent = ways(proxy.main_user, proxy.credential)
        assert proxy.get(GUARDED, sent["Authorization"] | own).status_code == 200
        both = proxy.get(GUARDED, sent["password"] | own).status_code
        assert both == (401 if proxy.token_header == "Authorization" else 200)


@pytest.mark.parametrize("other", ["another", "", "Bearer another"])
def test_two_different_credentials_are_refused(proxy: Proxy, other: str) -> None:
    if proxy.auth == "token":
        right = header("token", proxy.credential)
        for headers in (
            right | {"X-Chroma-Token": other},
            right | {"X-Chroma-Token": f"Bearer {proxy.credential}"},
            {"Authorization": other, "X-Chroma-Token": proxy.credential},
            {"Authorization": proxy.credential, "X-Chroma-Token": proxy.credential},
            as_password(proxy.main_user, other) | {"X-Chroma-Token": proxy.credential},
            as_password(proxy.main_user, proxy.credential) | {"X-Chroma-Token": other},
        ):
            assert proxy.get(GUARDED, headers).status_code in (401, 429), headers


def test_the_credential_in_another_form_is_refused(proxy: Proxy) -> None:
    forms = [("basic", "X-Chroma-Token"), ("basic", "Cookie"), ("token", "Cookie")]
    forms += [("basic" if proxy.auth == "token" else "token", "Authorization")]
    forms += [("basic", "Proxy-Authorization"), ("token", "X-Token")]
    for auth, name in forms:
        headers = header(auth, proxy.credential, name)
        assert proxy.get(GUARDED, headers).status_code in (401, 429), headers


def test_the_credential_twice_is_refused(proxy: Proxy) -> None:
    [(name, value)] = proxy.right.items()
    answer = httpx.get(proxy.url + GUARDED, headers=[(name, value), (name, value)], verify=VERIFY)
    assert answer.status_code in (401, 429)


USERS = {"search": "read", "ingest": "write", "root": "admin", "late": "retired"}


@pytest.fixture(scope="module", params=["token", "basic"])
def proxy_with_users(
    request: pytest.FixtureRequest, recorder: Recorder, make_proxy: Callable[..., Proxy]
) -> Proxy:
    proxy = make_proxy(recorder.address, auth=request.param, users=USERS).start()
    assert proxy.get(GUARDED, proxy.right).status_code == 200
    return proxy


@pytest.mark.parametrize("user", ["search", "ingest", "root"])
def test_each_users_token_is_right_in_each_way(proxy_with_users: Proxy, user: str) -> None:
    for way, headers in ways(user, token_of(user)).items():
        assert proxy_with_users.get(GUARDED, headers).status_code == 200, way


def test_a_token_is_the_password_of_its_own_user_only(
    recorder: Recorder, make_proxy: Callable[..., Proxy]
) -> None:
    proxy = make_proxy(recorder.address, users=USERS).start()
    pairs = [("ingest", "search"), ("admin", "search"), ("", "search"), ("Search", "search")]
    pairs += [("search", "ingest"), ("search:search", "search"), ("late", "late")]
    for name, user in pairs:
        answer = proxy.get(GUARDED, as_password(name, token_of(user)))
        assert answer.status_code == 401, name
    for name in ("search", "Admin", "", "a-user"):
        assert proxy.get(GUARDED, as_password(name, proxy.credential)).status_code == 401, name


def test_the_credentials_of_two_users_in_one_request_are_refused(
    recorder: Recorder, make_proxy: Callable[..., Proxy]
) -> None:
    for auth in ("token", "basic"):
        proxy = make_proxy(recorder.address, auth=auth, users=USERS).start()
        recorder.forget()
        own = header("token", token_of("root"), "X-Chroma-Token")
        others = [proxy.right, header("token", token_of("search"))]
        others += [as_password("ingest", token_of("ingest")), {"Authorization": "Bearer guess"}]
        for other in [*others, {"Authorization": "Basic eDp5"}, {"Authorization": ""}]:
            assert proxy.get(GUARDED, other | own).status_code == 401, other
        assert recorder.raw == b""


def test_a_retired_credential_is_a_wrong_one(proxy_with_users: Proxy) -> None:
    answer = proxy_with_users.get(GUARDED, proxy_with_users.headers_of("late"))
    assert answer.status_code == 401


@pytest.mark.parametrize("path", OPEN)
def test_heartbeat_and_version_are_open(proxy: Proxy, server: ChromaServer, path: str) -> None:
    direct = httpx.get(f"http://{server.address}{path}")
    assert proxy.get(path).status_code == direct.status_code
    if "version" in path:
        assert proxy.get(path).text == direct.text
    assert (
        httpx.head(proxy.url + path, verify=VERIFY).status_code
        == httpx.head(str(direct.url)).status_code
    )


@pytest.mark.parametrize("path", OPEN)
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
def test_open_paths_are_open_for_get_and_head_only(proxy: Proxy, path: str, method: str) -> None:
    assert httpx.request(method, proxy.url + path, verify=VERIFY).status_code == 401


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize(
    "path", ["", "/", "/auth/identity", "/pre-flight-checks", "/healthcheck", "/collections"]
)
def test_everything_else_needs_the_credential(proxy: Proxy, version: str, path: str) -> None:
    assert proxy.get(f"/api/{version}{path}").status_code == 401


@pytest.mark.parametrize("path", ["/", "/docs", "/openapi.json", "/metrics", "/favicon.ico"])
def test_what_is_no_api_needs_the_credential(proxy: Proxy, path: str) -> None:
    assert proxy.get(path).status_code == 401


def test_without_authentication_everyone_is_served(
    chroma: ChromaServer, make_proxy: Callable[..., Proxy]
) -> None:
    proxy = make_proxy(chroma.address, auth="none").start()
    assert proxy.get(GUARDED).status_code == 200
    assert proxy.get(GUARDED, header("token", "whatever")).status_code == 200


def test_without_authentication_everyone_may_everything(
    recorder: Recorder, make_proxy: Callable[..., Proxy]
) -> None:
    proxy = make_proxy(recorder.address, auth="none").start()
    recorder.forget()
    for path in ("/api/v2/reset", "/no/such/path", "/api/v2/%2e%2e"):
        assert httpx.post(proxy.url + path, json={}, verify=VERIFY).status_code == 200
    assert len(recorder.requests) == 3


@pytest.mark.parametrize("user", [None, "ingest", "root"])
def test_the_get_or_create_of_a_user_who_may_create_reaches_chroma_as_it_is(
    proxy_with_users: Proxy, recorder: Recorder, user: str | None
) -> None:
    headers = proxy_with_users.headers_of(user) if user else proxy_with_users.right
    recorder.forget()
    httpx.post(
        f"{proxy_with_users.url}/api/v1/collections",
        headers=headers,
        json={"name": "documents", "get_or_create": True},
        verify=VERIFY,
    )
    [request] = recorder.requests
    assert (request.method, request.target) == (b"POST", b"/api/v1/collections")


def test_the_get_or_create_of_a_reader_keeps_its_query_string(
    proxy_with_users: Proxy, recorder: Recorder
) -> None:
    """With which Chroma before 1.0 is told the tenant and the database."""
    recorder.forget()
    httpx.post(
        f"{proxy_with_users.url}/api/v1/collections?tenant=acme&database=a%20b",
        headers=proxy_with_users.headers_of("search") | {"Expect": "100-continue"},
        json={"name": "documents-1", "get_or_create": True},
        verify=VERIFY,
    )
    [request] = recorder.requests
    expected = b"/api/v1/collections/documents-1?tenant=acme&database=a%20b"
    assert (request.method, request.target) == (b"GET", expected)
    assert b"expect" not in dict(request.headers)


@pytest.mark.parametrize("name", ["add", "upsert", "collections"])
def test_a_look_up_is_no_write_whatever_the_collections_name(
    recorder: Recorder, make_proxy: Callable[..., Proxy], name: str
) -> None:
    """Which would be refused while the disk or the memory is almost full."""
    proxy = make_proxy(recorder.address, users=USERS).start()
    for switch in ("disk/disk", "memory/memory"):
        with socket.socket(socket.AF_UNIX) as runtime:
            runtime.connect(str(proxy.admin_socket))
            runtime.sendall(f"disable server {switch}\n".encode())
            runtime.recv(1000)
    sent = {
        "json": {"name": name, "get_or_create": True},
        "verify": VERIFY,
        "timeout": 30,
    }
    url = f"{proxy.url}/api/v1/collections"
    search = httpx.post(url, headers=proxy.headers_of("search"), **sent)  # type: ignore[arg-type]
    assert search.status_code == 200
    write = httpx.post(f"{url}/x/add", headers=proxy.headers_of("ingest"), **sent)  # type: ignore[arg-type]
    assert write.status_code == 507


@pytest.fixture(scope="module")
def recorded_proxy(recorder: Recorder, make_proxy: Callable[..., Proxy]) -> Proxy:
    return make_proxy(recorder.address).start()


def received(recorder: Recorder, proxy: Proxy, headers: dict[str, str]) -> dict[str, str]:
    """The headers that Chroma gets of a request that a client sends with these."""
    recorder.forget()
    assert proxy.get(GUARDED, proxy.right | headers).status_code == 200
    [request] = recorder.requests
    return {name.decode(): value.decode() for name, value in request.headers}


def test_chroma_receives_no_credential(recorded_proxy: Proxy, recorder: Recorder) -> None:
    both = {"X-Chroma-Token": recorded_proxy.credential}
    headers = received(recorder, recorded_proxy, both)
    assert {"authorization", "x-chroma-token"}.isdisjoint(headers)
    assert recorded_proxy.credential.encode() not in recorder.raw


def test_chroma_receives_the_true_address_of_the_client(
    recorded_proxy: Proxy, recorder: Recorder
) -> None:
    headers = received(recorder, recorded_proxy, {"X-Forwarded-For": "192.0.2.1"})
    assert headers["x-forwarded-for"] == "127.0.0.1"


@pytest.mark.parametrize("protocol", ["h2c", "websocket", "TLS/1.0, h2c"])
def test_chroma_receives_no_wish_for_another_protocol(
    recorded_proxy: Proxy, recorder: Recorder, protocol: str
) -> None:
    details = {"HTTP2-Settings": "AAMAAABkAAQ", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
    wish = {"Upgrade": protocol, "Connection": "Upgrade"} | details
    headers = received(recorder, recorded_proxy, wish)
    assert "upgrade" not in headers
    assert "pgrade" not in headers.get("connection", "")


def test_a_request_reaches_chroma_together_with_its_body(
    recorded_proxy: Proxy, recorder: Recorder
) -> None:
    """Chroma 1.5.9 answers some requests before their body is there, and then ends the connection, on which the next
    request may be already."""
    recorder.forget()
    [(name, value)] = recorded_proxy.right.items()
    body = b'{"ids": ["a"]}'
    head = f"POST {GUARDED} HTTP/1.1\r\nHost: chroma\r\n{name}: {value}\r\n"
    with connect(recorded_proxy) as connection:
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode())
        time.sleep(0.5)
        assert recorder.raw == b""
        connection.sendall(body)
        assert statuses(connection.recv(65536)) == [200]
    assert recorder.raw.endswith(body)


HOME = "https://app.example"


def preflight(proxy: Proxy, origin: str) -> httpx.Response:
    """What a browser asks before it sends a page's request."""
    headers = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type",
    }
    return httpx.options(proxy.url + GUARDED, headers=headers, verify=VERIFY)


def test_without_allowed_origins_no_browser_request_passes(
    chroma: ChromaServer, make_proxy: Callable[..., Proxy]
) -> None:
    proxy = make_proxy(chroma.address).start()
    answer = preflight(proxy, HOME)
    assert answer.status_code == 403
    assert not [name for name in answer.headers if name.startswith("access-control")]
    refused = proxy.get(GUARDED, proxy.right | {"Origin": HOME})
    assert refused.status_code == 403
    assert "corsAllowOrigins" in refused.json()["message"]
    assert "Access-Control-Allow-Origin" not in refused.headers


@pytest.mark.parametrize("cors", ["*", f"{HOME} http://localhost:3000", HOME])
def test_an_allowed_origin_may_ask_and_read(
    chroma: ChromaServer, make_proxy: Callable[..., Proxy], cors: str
) -> None:
    proxy = make_proxy(chroma.address, cors=cors).start()
    allowed = "*" if cors == "*" else HOME
    answer = preflight(proxy, HOME)
    assert answer.status_code == 204
    assert answer.headers["Access-Control-Allow-Origin"] == allowed
    assert answer.headers["Access-Control-Allow-Headers"] == "authorization,content-type"
    assert "POST" in answer.headers["Access-Control-Allow-Methods"]
    for credential, status in ((proxy.right, 200), (proxy.wrong, 401)):
        answer = proxy.get(GUARDED, credential | {"Origin": HOME})
        assert answer.status_code == status
        assert answer.headers["Access-Control-Allow-Origin"] == allowed


@pytest.mark.parametrize(
    "origin",
    ["https://app.example.evil", "https://APP.example", "http://app.example", "null", "*", ""],
)
def test_another_origin_may_not(
    chroma: ChromaServer, make_proxy: Callable[..., Proxy], origin: str
) -> None:
    proxy = make_proxy(chroma.address, cors=f"{HOME} http://localhost:3000").start()
    answer = preflight(proxy, origin)
    assert answer.status_code == 403
    assert "Access-Control-Allow-Origin" not in answer.headers


def test_a_preflight_never_reaches_chroma(
    recorder: Recorder, make_proxy: Callable[..., Proxy]
) -> None:
    proxy = make_proxy(recorder.address, cors="*").start()
    recorder.forget()
    assert preflight(proxy, HOME).status_code == 204
    assert (
        httpx.options(proxy.url + GUARDED, headers={"Origin": "x"}, verify=VERIFY).status_code
        == 401
    )
    assert recorder.raw == b""


@pytest.mark.parametrize("auth", ["token", "basic", "none"])
@pytest.mark.parametrize("cors", ["", "https://other.example"])
def test_a_page_of_another_site_sends_nothing_to_chroma(
    recorder: Recorder, make_proxy: Callable[..., Proxy], auth: str, cors: str
) -> None:
    """Browsers send a POST without a content type at once, with the password that they remember."""
    proxy = make_proxy(recorder.address, auth=auth, cors=cors).start()
    recorder.forget()
    for origin in (HOME, "null", "", proxy.url + ".evil.example", "http://127.0.0.1"):
        headers = proxy.right | {"Origin": origin}
        answer = httpx.post(proxy.url + GUARDED, headers=headers, content=b"{}", verify=VERIFY)
        assert (answer.status_code, answer.json()["error"]) == (403, "AuthorizationError"), origin
    twice = [*proxy.right.items(), ("Origin", HOME), ("Origin", "null")]
    assert httpx.post(proxy.url + GUARDED, headers=twice, verify=VERIFY).status_code == 403
    assert recorder.raw == b""


@pytest.mark.parametrize("auth", ["token", "basic", "none"])
def test_a_page_of_the_server_itself_is_served(
    recorder: Recorder, make_proxy: Callable[..., Proxy], auth: str
) -> None:
    """Such as Chroma's own, under /docs."""
    proxy = make_proxy(recorder.address, auth=auth).start()
    for origin in (proxy.url, proxy.url.replace("http:", "https:"), proxy.url.upper()):
        assert proxy.get(GUARDED, proxy.right | {"Origin": origin}).status_code == 200
