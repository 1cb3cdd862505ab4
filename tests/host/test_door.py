"""What the door answers, in front of the real Chroma of both generations."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

from tests.host.chroma_servers import VERSIONS, ChromaServer
from tests.host.door import Door, header
from tests.host.recorder import Recorder

GUARDED = "/api/v2/tenants/default_tenant"
OPEN = ["/api/v1/heartbeat", "/api/v1/version", "/api/v2/heartbeat", "/api/v2/version"]
WAYS = [("token", "Authorization"), ("token", "X-Chroma-Token"), ("basic", "Authorization")]


@pytest.fixture(scope="module", params=VERSIONS)
def server(request: pytest.FixtureRequest, chroma_servers: dict[str, ChromaServer]) -> ChromaServer:
    return chroma_servers[request.param]


@pytest.fixture(scope="module", params=WAYS, ids="-".join)
def door(
    request: pytest.FixtureRequest, server: ChromaServer, make_door: Callable[..., Door]
) -> Door:
    auth, token_header = request.param
    return make_door(server.address, auth=auth, token_header=token_header).start()


def test_a_request_with_the_credential_is_served(door: Door) -> None:
    answer = door.get(GUARDED, door.right)
    assert answer.status_code == 200
    assert answer.json()["name"] == "default_tenant"


def test_a_request_without_the_credential_is_refused(door: Door) -> None:
    answer = door.get(GUARDED)
    assert answer.status_code == 401
    assert answer.json()["error"] == "AuthorizationError"
    scheme = {"token": "Bearer", "basic": "Basic"}[door.auth]
    if door.token_header == "X-Chroma-Token":
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
    door: Door, change: Callable[[str], str]
) -> None:
    [(name, value)] = door.right.items()
    assert door.get(GUARDED, {name: change(value)}).status_code in (401, 429)


def test_the_credential_in_another_header_is_refused(door: Door) -> None:
    for auth, name in {*WAYS, ("basic", "X-Chroma-Token"), ("basic", "Cookie")}:
        if header(auth, door.credential, name) != door.right:
            headers = header(auth, door.credential, name)
            assert door.get(GUARDED, headers).status_code in (401, 429), headers


def test_the_credential_twice_is_refused(door: Door) -> None:
    [(name, value)] = door.right.items()
    answer = httpx.get(door.url + GUARDED, headers=[(name, value), (name, value)])
    assert answer.status_code in (401, 429)


@pytest.mark.parametrize("path", OPEN)
def test_heartbeat_and_version_are_open(door: Door, server: ChromaServer, path: str) -> None:
    direct = httpx.get(f"http://{server.address}{path}")
    assert door.get(path).status_code == direct.status_code
    if "version" in path:
        assert door.get(path).text == direct.text
    assert httpx.head(door.url + path).status_code == httpx.head(str(direct.url)).status_code


@pytest.mark.parametrize("path", OPEN)
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
def test_open_paths_are_open_for_get_and_head_only(door: Door, path: str, method: str) -> None:
    assert httpx.request(method, door.url + path).status_code == 401


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize(
    "path", ["", "/", "/auth/identity", "/pre-flight-checks", "/healthcheck", "/collections"]
)
def test_everything_else_needs_the_credential(door: Door, version: str, path: str) -> None:
    assert door.get(f"/api/{version}{path}").status_code == 401


@pytest.mark.parametrize("path", ["/", "/docs", "/openapi.json", "/metrics", "/favicon.ico"])
def test_what_is_no_api_needs_the_credential(door: Door, path: str) -> None:
    assert door.get(path).status_code == 401


def test_without_authentication_everyone_is_served(
    chroma: ChromaServer, make_door: Callable[..., Door]
) -> None:
    door = make_door(chroma.address, auth="none").start()
    assert door.get(GUARDED).status_code == 200
    assert door.get(GUARDED, header("token", "whatever")).status_code == 200


@pytest.fixture(scope="module")
def recorded_door(recorder: Recorder, make_door: Callable[..., Door]) -> Door:
    return make_door(recorder.address).start()


def received(recorder: Recorder, door: Door, headers: dict[str, str]) -> dict[str, str]:
    """The headers that Chroma gets of a request that a client sends with these."""
    recorder.forget()
    assert door.get(GUARDED, door.right | headers).status_code == 200
    [request] = recorder.requests
    return {name.decode(): value.decode() for name, value in request.headers}


def test_chroma_receives_no_credential(recorded_door: Door, recorder: Recorder) -> None:
    headers = received(recorder, recorded_door, {"X-Chroma-Token": "another-one"})
    assert {"authorization", "x-chroma-token"}.isdisjoint(headers)
    assert recorded_door.credential.encode() not in recorder.raw


def test_chroma_receives_the_true_address_of_the_client(
    recorded_door: Door, recorder: Recorder
) -> None:
    headers = received(recorder, recorded_door, {"X-Forwarded-For": "192.0.2.1"})
    assert headers["x-forwarded-for"] == "127.0.0.1"


@pytest.mark.parametrize("protocol", ["h2c", "websocket", "TLS/1.0, h2c"])
def test_chroma_receives_no_wish_for_another_protocol(
    recorded_door: Door, recorder: Recorder, protocol: str
) -> None:
    details = {"HTTP2-Settings": "AAMAAABkAAQ", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
    wish = {"Upgrade": protocol, "Connection": "Upgrade"} | details
    headers = received(recorder, recorded_door, wish)
    assert "upgrade" not in headers
    assert "pgrade" not in headers.get("connection", "")


HOME = "https://app.example"


def preflight(door: Door, origin: str) -> httpx.Response:
    """What a browser asks before it sends a page's request."""
    headers = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type",
    }
    return httpx.options(door.url + GUARDED, headers=headers)


def test_without_allowed_origins_no_browser_request_passes(
    chroma: ChromaServer, make_door: Callable[..., Door]
) -> None:
    door = make_door(chroma.address).start()
    answer = preflight(door, HOME)
    assert answer.status_code == 401
    assert not [name for name in answer.headers if name.startswith("access-control")]
    served = door.get(GUARDED, door.right | {"Origin": HOME})
    assert "Access-Control-Allow-Origin" not in served.headers


@pytest.mark.parametrize("cors", ["*", f"{HOME} http://localhost:3000", HOME])
def test_an_allowed_origin_may_ask_and_read(
    chroma: ChromaServer, make_door: Callable[..., Door], cors: str
) -> None:
    door = make_door(chroma.address, cors=cors).start()
    allowed = "*" if cors == "*" else HOME
    answer = preflight(door, HOME)
    assert answer.status_code == 204
    assert answer.headers["Access-Control-Allow-Origin"] == allowed
    assert answer.headers["Access-Control-Allow-Headers"] == "authorization,content-type"
    assert "POST" in answer.headers["Access-Control-Allow-Methods"]
    for credential, status in ((door.right, 200), (door.wrong, 401)):
        answer = door.get(GUARDED, credential | {"Origin": HOME})
        assert answer.status_code == status
        assert answer.headers["Access-Control-Allow-Origin"] == allowed


@pytest.mark.parametrize(
    "origin",
    ["https://app.example.evil", "https://APP.example", "http://app.example", "null", "*", ""],
)
def test_another_origin_may_not(
    chroma: ChromaServer, make_door: Callable[..., Door], origin: str
) -> None:
    door = make_door(chroma.address, cors=f"{HOME} http://localhost:3000").start()
    answer = preflight(door, origin)
    assert answer.status_code == 401
    assert "Access-Control-Allow-Origin" not in answer.headers


def test_a_preflight_never_reaches_chroma(
    recorder: Recorder, make_door: Callable[..., Door]
) -> None:
    door = make_door(recorder.address, cors="*").start()
    recorder.forget()
    assert preflight(door, HOME).status_code == 204
    assert httpx.options(door.url + GUARDED, headers={"Origin": "x"}).status_code == 401
    assert recorder.raw == b""
