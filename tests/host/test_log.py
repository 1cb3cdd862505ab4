"""The access log: one line of JSON for each request, and no credential in any."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable

import httpx
import pytest

from tests.host.programs import wait_until
from tests.host.proxy import VERIFY, Proxy, as_password, header, token_of
from tests.host.raw import exchange
from tests.host.recorder import Recorder

TRANSPORTS = ["plain", "tls"]

GUARDED = "/api/v2/tenants/default_tenant"
DATABASE = "/api/v2/tenants/acme/databases/a%20b"
KNOWN_DATABASE = "/api/v2/tenants/{tenant}/databases/{database}"
ID = "0b5c0b0e-7e39-4c4d-9a8e-6f5b1f0f3c11"


@pytest.fixture
def proxy(recorder: Recorder, make_proxy: Callable[..., Proxy]) -> Proxy:
    return make_proxy(recorder.address).start()


def test_a_request_leaves_these_fields(proxy: Proxy) -> None:
    url = f"{proxy.url}{DATABASE}/collections/{ID}/get"
    httpx.post(url, headers=proxy.right, content=b"12345", verify=VERIFY)
    line = proxy.last_log_line(1)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", line.pop("time"))
    assert line.pop("server_ms") >= 0
    assert line.pop("total_ms") >= 0
    assert line.pop("bytes_in") > 5
    assert line.pop("bytes_out") > 5
    assert line == {
        "client": "127.0.0.1",
        "user": "admin",
        "method": "POST",
        "route": f"{KNOWN_DATABASE}/collections/{{collection}}/get",
        "path": f"{DATABASE}/collections/{ID}/get",
        "status": 200,
        "auth": "ok",
        "tls": "TLSv1.3" if proxy.over_tls else "-",
        "end": "--",
        "unlogged": "0",
    }


@pytest.mark.parametrize(
    ("path", "credential", "status", "auth"),
    [
        (GUARDED, "right", 200, "ok"),
        ("/admin", "right", 200, "ok"),
        (GUARDED, "wrong", 401, "wrong"),
        (GUARDED, None, 401, "missing"),
        ("/api/v2/heartbeat", None, 200, "open"),
        ("/api/v2/heartbeat", "right", 200, "ok"),
    ],
)
def test_the_log_says_how_a_request_came_in(
    proxy: Proxy, path: str, credential: str | None, status: int, auth: str
) -> None:
    proxy.get(path, getattr(proxy, credential) if credential else None)
    line = proxy.last_log_line(1)
    assert (line["status"], line["auth"]) == (status, auth)


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/api/v2/heartbeat", "/api/v2/heartbeat"),
        ("/api/v2/tenants/tenants", "/api/v2/tenants/{tenant}"),
        (DATABASE, KNOWN_DATABASE),
        (f"{DATABASE}/collections?limit=10", f"{KNOWN_DATABASE}/collections"),
        (f"{DATABASE}/collections/documents", f"{KNOWN_DATABASE}/collections/{{collection}}"),
        (f"{DATABASE}/collections/by-id/{ID}", f"{KNOWN_DATABASE}/collections/{{collection}}"),
        (
            f"POST {DATABASE}/collections/{ID}/add",
            f"{KNOWN_DATABASE}/collections/{{collection}}/add",
        ),
        (f"HEAD {DATABASE}/collections", f"{KNOWN_DATABASE}/collections"),
        (
            f"{DATABASE}/collections/{ID}/functions/summary",
            f"{KNOWN_DATABASE}/collections/{{collection}}/functions/{{function}}",
        ),
        (
            f"POST /api/v2/tenants/{'t' * 600}/databases/d/collections/{ID}/query",
            f"{KNOWN_DATABASE}/collections/{{collection}}/query",
        ),
        (f"POST /api/v1/collections/{ID}/get", "/api/v1/collections/{collection}/get"),
        ("/api/v1/collections/documents", "/api/v1/collections/{collection}"),
        ("/", "/"),
        ("/admin", "{other}"),
        (f"PATCH {DATABASE}/collections", "{other}"),
        (f"get {DATABASE}/collections", "{other}"),
        (f"{DATABASE}/collections/{ID}/add", "{other}"),
        (f"{DATABASE}/collections/{ID}/no-such", "{other}"),
        (f"{DATABASE}/", "{other}"),
        ("/api/v2/heartbeat/" + "x" * 5000, "{other}"),
        ('/","status":500,"a":"', "{other}"),
    ],
)
def test_the_route_is_the_path_with_names_and_ids_replaced(
    proxy: Proxy, path: str, route: str
) -> None:
    """And the method, as long as Chroma has that path with that method."""
    method, path = path.split(" ") if " " in path else ("GET", path)
    with httpx.Client(verify=VERIFY) as client:
        request = client.build_request(method, proxy.url, headers=proxy.right)
        request.method = method
        request.extensions["target"] = path.encode()
        client.send(request)
    line = proxy.last_log_line(1)
    assert (line["method"], line["route"]) == (method, route)


def test_the_users_name_is_that_of_the_right_credential_of_basic_authentication(
    recorder: Recorder, make_proxy: Callable[..., Proxy]
) -> None:
    credential = 'a"user\\' + "n" * 500 + ":pass:word"
    proxy = make_proxy(recorder.address, auth="basic", credential=credential).start()
    sent = [proxy.right, header("basic", "mallory:guess"), {}]
    for headers in sent:
        proxy.get(GUARDED, headers)
    httpx.get(proxy.url + GUARDED, headers=list(proxy.right.items()) * 2, verify=VERIFY)
    lines = [proxy.last_log_line(number) for number in (1, 2, 3, 4)]
    assert [line["user"] for line in lines] == [credential[:128], "-", "-", "-"]
    assert "pass:word" not in proxy.log.read_text()


def test_the_user_of_a_token_is_the_one_it_was_made_for(
    recorder: Recorder, make_proxy: Callable[..., Proxy]
) -> None:
    users = {"search": "read", "late": "retired"}
    proxy = make_proxy(recorder.address, users=users).start()
    search, late = header("token", token_of("search")), header("token", token_of("late"))
    expected = [
        (proxy.right, "ok", "admin"),
        (search, "ok", "search"),
        (as_password("search", token_of("search")), "ok", "search"),
        (as_password("late", token_of("search")), "wrong", "-"),
        (search | {"X-Chroma-Token": token_of("late")}, "wrong", "-"),
        (proxy.wrong, "wrong", "-"),
        # So that its owner can tell who still has to be given the new one.
        (late, "wrong", "late"),
        ({}, "missing", "-"),
    ]
    for number, (headers, auth, user) in enumerate(expected, 1):
        proxy.get(GUARDED, headers)
        line = proxy.last_log_line(number)
        assert (line["auth"], line["user"]) == (auth, user), headers


def test_a_refusal_for_want_of_access_is_logged_with_the_user(
    recorder: Recorder, make_proxy: Callable[..., Proxy]
) -> None:
    proxy = make_proxy(recorder.address, users={"search": "read"}).start()
    recorder.forget()
    with httpx.Client(verify=VERIFY, headers=proxy.headers_of("search")) as client:
        client.delete(f"{proxy.url}{DATABASE}/collections/documents")
        client.post(f"{proxy.url}/no/such/path")
        refused = client.patch(f"{proxy.url}{GUARDED}")
    assert f"PATCH {GUARDED} needs admin." in refused.json()["message"]
    lines = [proxy.last_log_line(number) for number in (1, 2, 3)]
    assert [(it["user"], it["auth"], it["status"], it["method"], it["route"]) for it in lines] == [
        ("search", "forbidden", 403, "DELETE", f"{KNOWN_DATABASE}/collections/{{collection}}"),
        ("search", "forbidden", 403, "POST", "{other}"),
        ("search", "forbidden", 403, "PATCH", "/api/v2/tenants/{tenant}"),
    ]
    assert recorder.raw == b""


def test_a_look_up_that_the_proxy_made_of_get_or_create_is_logged_as_it_came(
    recorder: Recorder, make_proxy: Callable[..., Proxy]
) -> None:
    proxy = make_proxy(recorder.address, users={"search": "read"}).start()
    recorder.forget()
    httpx.post(
        f"{proxy.url}{DATABASE}/collections",
        headers=proxy.headers_of("search"),
        json={"name": "documents", "get_or_create": True},
        verify=VERIFY,
    )
    [request] = recorder.requests
    assert (request.method, request.target.decode()) == (
        b"GET",
        f"{DATABASE}/collections/documents",
    )
    line = proxy.last_log_line(1)
    assert (line["user"], line["auth"], line["status"]) == ("search", "ok", 200)
    assert (line["method"], line["route"]) == ("POST", f"{KNOWN_DATABASE}/collections")
    assert line["path"] == f"{DATABASE}/collections"


def test_pages_of_other_sites_write_no_user_into_the_log(
    recorder: Recorder, make_proxy: Callable[..., Proxy]
) -> None:
    proxy = make_proxy(recorder.address, users={"search": "read"}).start()
    proxy.get(GUARDED, proxy.headers_of("search") | {"Origin": "https://evil.example"})
    line = proxy.last_log_line(1)
    assert (line["user"], line["auth"], line["status"]) == ("-", "origin", 403)


def test_refusals_for_want_of_access_are_all_logged(
    recorder: Recorder, make_proxy: Callable[..., Proxy]
) -> None:
    """They are those of somebody who is known, and not held back as strangers' are."""
    proxy = make_proxy(recorder.address, users={"search": "read"}).start()
    headers = proxy.headers_of("search")
    with httpx.Client(verify=VERIFY, headers=headers) as client:
        answers = {client.post(f"{proxy.url}/api/v2/reset").status_code for _ in range(200)}
    assert answers == {403}
    assert proxy.last_log_line(200)["auth"] == "forbidden"


def test_a_limited_request_is_logged_as_such(proxy: Proxy) -> None:
    for _ in range(21):
        proxy.get(GUARDED, proxy.wrong)
    assert proxy.last_log_line(21)["auth"] == "limited"


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        (GUARDED, {}),
        (GUARDED, {"Authorization": "Bearer guess"}),
        (GUARDED, {"Origin": "https://evil.example"}),
        ("/api/v2/heartbeat", {}),
        ("*", {}),
    ],
    ids=["missing", "wrong", "origin", "open", "malformed"],
)
def test_strangers_leave_100_lines_a_minute_and_the_rest_is_counted(
    proxy: Proxy, path: str, headers: dict[str, str]
) -> None:
    assert proxy.get(GUARDED, proxy.right).status_code == 200
    with httpx.Client(verify=VERIFY) as client:
        request = client.build_request("OPTIONS" if path == "*" else "GET", proxy.url)
        request.headers.update(headers)
        request.extensions["target"] = path.encode()
        for _ in range(300):
            client.send(request)
    assert proxy.get(GUARDED, proxy.right).status_code == 200
    wait_until(lambda: proxy.log_lines()[-1]["unlogged"] != "0", "the last line is written")
    lines = proxy.log_lines()
    served = [line for line in lines if line["auth"] == "ok"]
    assert len(served) == 2
    assert 100 <= len(lines) - len(served) < 200
    assert len(lines) + int(lines[-1]["unlogged"]) == 302


def test_what_is_no_http_leaves_a_bounded_number_of_lines(proxy: Proxy) -> None:
    for _ in range(300):
        with contextlib.suppress(OSError):
            exchange(proxy, b"nonsense\r\n\r\n", half_close=False)
    assert len(proxy.log_lines()) <= 200


def test_a_handshake_that_failed_leaves_a_line(proxy: Proxy) -> None:
    """Such as that of a client that does not know the authority."""
    with pytest.raises(httpx.ConnectError):
        httpx.get(proxy.https_url)
    line = proxy.last_log_line(1)
    assert (line["status"], line["auth"], line["client"]) == (0, "-", "127.0.0.1")
    assert line["end"] == "SSL handshake failure"


def test_without_authentication_the_log_says_so(
    recorder: Recorder, make_proxy: Callable[..., Proxy]
) -> None:
    proxy = make_proxy(recorder.address, auth="none").start()
    proxy.get(GUARDED)
    assert proxy.last_log_line(1)["auth"] == "off"


def test_the_query_string_is_not_logged(proxy: Proxy) -> None:
    proxy.get("/api/v2/heartbeat?token=open-sesame")
    assert proxy.last_log_line(1)["path"] == "/api/v2/heartbeat"
    assert "open-sesame" not in proxy.log.read_text()


@pytest.mark.parametrize("path", ['/"},{"auth":"ok', "/%22%0a\\x", "/" + "~\\\"'" * 3000, "/"])
def test_no_path_breaks_the_line(proxy: Proxy, path: str) -> None:
    with httpx.Client(verify=VERIFY) as client:
        request = client.build_request("GET", proxy.url, headers=proxy.wrong)
        request.extensions["target"] = path.encode()
        client.send(request)
    line = proxy.last_log_line(1)
    assert line["auth"] in ("wrong", "-")
    assert len(line["path"]) <= 512


@pytest.mark.parametrize(
    ("auth", "token_header"),
    [("token", ""), ("token", "Authorization"), ("token", "X-Chroma-Token"), ("basic", "")],
)
def test_no_credential_is_logged(
    recorder: Recorder, make_proxy: Callable[..., Proxy], auth: str, token_header: str
) -> None:
    proxy = make_proxy(recorder.address, auth=auth, token_header=token_header).start()
    sent = [proxy.right, proxy.wrong, header("token", "guess"), header("basic", "x:guess")]
    for headers in sent:
        proxy.get(GUARDED, headers)
        proxy.get("/api/v2/heartbeat", headers)
        httpx.get(proxy.url + GUARDED, headers=list(headers.items()) * 2, verify=VERIFY)
    [value] = proxy.right.values()
    malformed = f"GET {GUARDED} HTTP/1.1\r\nAuthorization: {value}\r\nbad header\r\n\r\n"
    httpx.post(proxy.url, headers={"X-Long": value * 1000}, verify=VERIFY)
    proxy.last_log_line(len(sent) * 3 + 1)
    log = proxy.log.read_text()
    for headers in sent:
        for value in headers.values():
            assert value.split(" ")[-1] not in log
    assert malformed.split()[-1] not in log
