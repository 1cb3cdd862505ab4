"""Attempts of users to do what they may not, generated, on the real servers of both generations.

There are as many attempts in all as ATTEMPTS says (`make soak ATTEMPTS=10000`).
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.host.access import (
    OTHER_DATABASE,
    OTHER_TENANT,
    TENANT,
    USERS,
    House,
    houses,
)
from tests.host.chroma_servers import VERSIONS
from tests.host.haproxys import AMAZON_LINUX, haproxy
from tests.host.proxy import as_password, token_of
from tests.host.raw import exchange, statuses

TESTS = 22
"""Each of them makes its part of the attempts."""
ATTEMPTS = int(os.environ.get("ATTEMPTS", "480"))
SOME = settings(
    max_examples=-(-ATTEMPTS // TESTS),
    deadline=None,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
    ],
)


@pytest.fixture(scope="module", params=VERSIONS)
def house(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("house")
    yield from houses(request.param, folder, program=haproxy(AMAZON_LINUX))


@dataclass
class Thief:
    """A user who tries to get more than what was given."""

    house: House
    user: str

    def __post_init__(self) -> None:
        self.content = self.house.content()
        self.commits = self.house.commits()
        self.owned = self.house.owned()

    @property
    def credential(self) -> str:
        return f"Authorization: Bearer {token_of(self.user)}"

    def attempt(self, *parts: bytes) -> bytes:
        """Sends it, and sees that nothing has changed that this user may not change."""
        answer = exchange(self.house.proxy, *parts)
        if self.user == "reader":
            assert self.house.commits() == self.commits, answer
        else:
            assert self.house.lost(self.owned) == [], answer
        return answer

    def end(self) -> None:
        """Compares all, and sees that the user is served as before."""
        if self.user == "reader":
            assert self.house.content() == self.content
        assert self.house.lost(self.owned) == []
        headers = self.house.proxy.headers_of(self.user)
        listed = self.house.client.get(self.house.collections(), headers=headers)
        assert {"letters", "numbers"} <= {it["name"] for it in listed.json()}

    def wishes(self) -> list[tuple[str, str, object]]:
        """Requests that this user may not make, and that Chroma would carry out."""
        mine, other = self.house.collections(), self.house.collections(OTHER_TENANT, OTHER_DATABASE)
        found: list[tuple[str, str, object]] = []
        for version in ("/api/v2", "/api/v1"):
            found += [
                ("POST", f"{version}/reset", {}),
                ("POST", f"{version}/tenants", {"name": "new-tenant"}),
            ]
        found += [
            ("DELETE", f"{mine}/letters", None),
            ("DELETE", f"{other}/numbers", None),
            ("DELETE", "/api/v1/collections/letters", None),
            ("DELETE", mine.removesuffix("/collections"), None),
            ("POST", f"/api/v2/tenants/{TENANT}/databases", {"name": "new-database"}),
            ("POST", "/api/v1/databases", {"name": "new-database"}),
            ("PATCH", f"/api/v2/tenants/{TENANT}", {"resource_name": "renamed"}),
        ]
        if self.user == "reader":
            records = {"ids": ["new"], "embeddings": [[1, 2, 3]], "documents": ["new"]}
            for path in (
                f"{mine}/{self.house.ids[TENANT, 'letters']}",
                f"{other}/{self.house.ids[OTHER_TENANT, 'letters']}",
                f"/api/v1/collections/{self.house.ids[TENANT, 'letters']}",
            ):
                found += [
                    ("POST", f"{path}/add", records),
                    ("POST", f"{path}/upsert", records),
                    ("POST", f"{path}/update", records | {"ids": ["r1"]}),
                    ("POST", f"{path}/delete", {"ids": ["r1"]}),
                    ("PUT", path, {"new_name": "renamed"}),
                    ("POST", f"{path}/fork", {"new_name": "forked"}),
                ]
            found += [("POST", it, {"name": "new"}) for it in (mine, other, "/api/v1/collections")]
        return found


@pytest.fixture(params=["reader", "writer"])
def thief(house: House, request: pytest.FixtureRequest) -> Iterator[Thief]:
    thief = Thief(house, request.param)
    yield thief
    thief.end()


def request(method: str, target: str, *lines: str, body: bytes = b"") -> bytes:
    """The bytes of a request, with the length of its body unless the lines say something about it."""
    head = [f"{method} {target} HTTP/1.1", "Host: chroma", *lines]
    said = {line.split(":")[0].strip().lower() for line in lines}
    if body:
        head.append("Content-Type: application/json")
    if body and not said & {"content-length", "transfer-encoding"}:
        head.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*head, "", ""]).encode("utf-8", "surrogateescape") + body


def encoded(content: object) -> bytes:
    return b"" if content is None else json.dumps(content).encode()


WISH = st.integers(0, 999)
"""Which of a user's wishes; there are fewer than this."""


def pick(thief: Thief, number: int) -> tuple[str, str, bytes]:
    wishes = thief.wishes()
    method, path, content = wishes[number % len(wishes)]
    return method, path, encoded(content)


def percent(character: str, upper: bool = False) -> str:
    code = f"%{ord(character):02x}"
    return code.upper() if upper else code


def at(path: str, position: int, change: Callable[[str], str]) -> str:
    """The path with one of its characters changed."""
    position %= len(path)
    return path[:position] + change(path[position]) + path[position + 1 :]


def slash(path: str, number: int, put: str) -> str:
    """The path with something in place of one of its slashes."""
    parts = path.split("/")
    number = 1 + number % (len(parts) - 1)
    return "/".join(parts[:number]) + put + "/".join(parts[number:])


IN_PLACE_OF_A_SLASH = [
    *("//", "///", "/./", "/x/../", "/../", "%2f", "%2F", "/%2e/", "/%2e%2e/", "/%2E%2E%2f"),
    *("\\", "%5c", "/;/", ";/", "/;x/", "/%00/", "%00/", "/%0a", "%0d%0a/", "%252f", "/%20/"),
    *("/%09", "/ /", "\t/", "?/", "#/", "%3f/", "%23/", "/by-id/", "/%c0%af", "%ef%bc%8f"),
]
ENDS = [
    *("/", "//", "/.", "/..", "/%2e", "?", "?x=/get", "#", "#/get", ";", ";/get", "%00", "%00/get"),
    *("%0a", "%20", "%09", "/../get", "/%2e%2e/get", "?_method=GET", "?method=DELETE", ".json"),
    *(
        "%3f",
        "%3fx=/get",
        "%23/get",
        "/get",
        "/count",
        "%2fget",
        "/../../../heartbeat",
        "\\",
        "\x00",
    ),
]
STARTS = [
    *("http://chroma", "https://chroma", "HTTP://CHROMA", "//chroma", "/.", "/", "/x/..", "/%2e"),
    *("http://chroma/api/v2/heartbeat/../../..", "/api/v2/heartbeat/../../..", "/api/v2/heartbeat"),
    *(
        "/docs/..",
        "/static/..",
        "chroma:8000",
        "@",
        "*",
        "?",
        "/;",
        "\\",
        "/%5c",
        "/%2f",
        "file://",
    ),
]
CHANGES = st.lists(
    st.one_of(
        st.tuples(st.just("encode"), st.integers(0, 200), st.booleans()),
        st.tuples(st.just("upper"), st.integers(0, 200), st.booleans()),
        st.tuples(st.just("twice"), st.integers(0, 200), st.booleans()),
        st.tuples(st.just("slash"), st.integers(0, 20), st.sampled_from(IN_PLACE_OF_A_SLASH)),
        st.tuples(st.just("end"), st.just(0), st.sampled_from(ENDS)),
        st.tuples(st.just("start"), st.just(0), st.sampled_from(STARTS)),
        st.tuples(st.just("all"), st.just(0), st.booleans()),
    ),
    min_size=1,
    max_size=3,
)


def changed(path: str, changes: list[tuple[str, int, object]]) -> str:
    for kind, number, how in changes:
        match kind:
            case "encode":
                path = at(path, number, lambda it: percent(it, bool(how)))  # noqa: B023
            case "upper":
                path = at(path, number, str.swapcase)
            case "twice":
                path = at(path, number, lambda it: "%25" + percent(it)[1:])
            case "all":
                path = "".join(it if it == "/" else percent(it) for it in path)
            case "slash":
                path = slash(path, number, str(how)) if "/" in path else path
            case "end":
                path += str(how)
            case "start":
                path = str(how) + path
    return path


@SOME
@given(number=WISH, changes=CHANGES)
@example(number=0, changes=[])
def test_no_way_to_write_a_path_gives_more(
    thief: Thief, number: int, changes: list[tuple[str, int, object]]
) -> None:
    method, path, body = pick(thief, number)
    thief.attempt(request(method, changed(path, changes), thief.credential, body=body))


OVERRIDES = [
    *("X-HTTP-Method-Override: {}", "X-HTTP-Method: {}", "X-Method-Override: {}"),
    *("X-Original-URL: {1}", "X-Rewrite-URL: {1}", "X-Forwarded-Uri: {1}", "X-Forwarded-Path: {1}"),
    *("X-Forwarded-Prefix: {1}", "X-Forwarded-Method: {}", "Referer: http://chroma{1}"),
    *("Content-Location: {1}", "Destination: {1}", "X-Original-Method: {}", "Max-Forwards: 0"),
    *("X-Forwarded-For: 127.0.0.1", "Forwarded: for=127.0.0.1", "X-Real-IP: 127.0.0.1"),
    *("Connection: Authorization", "Connection: close, X-Chroma-Token", "Host: 127.0.0.1"),
    *("X-User: admin", "X-Chroma-User: admin", "X-Forwarded-User: admin", "Cookie: user=admin"),
]


SENT_METHODS = [
    *("GET", "HEAD", "POST", "PUT", "PATCH", "OPTIONS", "TRACE", "get", "post", "delete", "Delete"),
    *("PROPFIND", "SEARCH", "QUERY", "POST\t", "GET\x0b", "CONNECT", ""),
]


@SOME
@given(
    number=WISH,
    method=st.sampled_from(SENT_METHODS),
    overrides=st.lists(st.sampled_from(OVERRIDES), max_size=3),
    to_itself=st.booleans(),
)
def test_no_method_and_no_header_that_names_another_gives_more(
    thief: Thief, number: int, method: str, overrides: list[str], to_itself: bool
) -> None:
    wanted, path, body = pick(thief, number)
    lines = [line.format(wanted, path) for line in overrides]
    target = path if to_itself else f"{thief.house.collections()}?_method={wanted}"
    # Of what the table has with this method the request is none that is refused.
    if (method, to_itself) in {("POST", True), ("PUT", True), ("PATCH", True)}:
        method = wanted
    thief.attempt(request(method, target, thief.credential, *lines, body=body))


LENGTHS = [
    *("Content-Length: {}", "Content-Length: 0", "Content-Length: 1", "Content-Length: {}, {}"),
    *("Content-Length: +{}", "Content-Length: -1", "Content-Length: 0x10", "Content-Length : 0"),
    *("Transfer-Encoding: chunked", "Transfer-Encoding: identity", "Transfer-Encoding: xchunked"),
    *(
        "Transfer-Encoding:\tchunked",
        "Transfer-Encoding: chunked, identity",
        "Expect: 100-continue",
    ),
    *("Transfer-Encoding: gzip, chunked", "Transfer-Encoding : chunked", "Connection: keep-alive"),
    *(
        "Connection: Content-Length",
        "Connection: Transfer-Encoding",
        "Upgrade: h2c",
        "TE: trailers",
    ),
    *("Content-Encoding: gzip", "Trailer: Authorization", "Content-Length: 18446744073709551616"),
]
FRAMES: dict[str, Callable[[bytes], bytes]] = {
    "as it is": lambda inner: inner,
    "in a chunk": lambda inner: b"%x\r\n%b\r\n0\r\n\r\n" % (len(inner), inner),
    "behind the last chunk": lambda inner: b"0\r\n\r\n" + inner,
    "behind a chunk with an extension": lambda inner: b"1;x=\r\n{\r\n0;\n\r\n\r\n" + inner,
    "behind a body": lambda inner: b'{"ids": ["r1"]}' + inner,
    "behind newlines": lambda inner: b"\r\n\r\n" + inner,
    "in a trailer": lambda inner: b"0\r\nX: y\r\n" + inner,
}


@SOME
@given(
    number=WISH,
    outer=st.sampled_from(["GET list", "HEAD list", "GET heartbeat", "POST get", "POST look-up"]),
    lines=st.lists(st.sampled_from(LENGTHS), max_size=3),
    frame=st.sampled_from(sorted(FRAMES)),
    credential=st.booleans(),
)
def test_nothing_inside_or_behind_an_allowed_request_gives_more(
    thief: Thief, number: int, outer: str, lines: list[str], frame: str, credential: bool
) -> None:
    """Neither with the same credential nor as if the first request's were good for the second."""
    method, path, body = pick(thief, number)
    inner = request(method, path, *([thief.credential] if credential else []), body=body)
    mine = thief.house.collections()
    collection = f"{mine}/{thief.house.ids[TENANT, 'letters']}"
    outer_method, target, content = {
        "GET list": ("GET", mine, b""),
        "HEAD list": ("HEAD", mine, b""),
        "GET heartbeat": ("GET", "/api/v2/heartbeat", b""),
        "POST get": ("POST", f"{collection}/get", b'{"ids": ["r1"]}'),
        "POST look-up": ("POST", mine, b'{"name": "letters", "get_or_create": true}'),
    }[outer]
    framed = content + FRAMES[frame](inner)
    said = [line.format(len(framed), len(framed)) for line in lines]
    if not any("content-length" in line.lower() for line in lines):
        said.append(f"Content-Length: {len(content)}")
    thief.attempt(request(outer_method, target, thief.credential, *said) + framed)


WAYS = [
    "Authorization: Bearer {token}",
    "Authorization: bearer {token}",
    "Authorization: Basic {pair}",
    "Authorization: Basic {token}",
    "Authorization: {token}",
    "Authorization:",
    "X-Chroma-Token: {token}",
    "X-Chroma-Token: Bearer {token}",
    "X-Chroma-Token: {pair}",
    "x-chroma-token:\t{token}",
    "X-Chroma-Token:",
    "X_Chroma_Token: {token}",
    "Proxy-Authorization: Bearer {token}",
    "Cookie: token={token}",
]
NAMES = [*USERS, "admin", "chroma", "", "ADMIN", "reader:admin", "admin\0", "*"]
OTHERS = st.one_of(
    st.sampled_from(
        ["guess", "", "null", token_of("nobody"), "Bearer", "token-of-boss2", "*", "%s"]
    ),
    st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=50),
)


@SOME
@given(
    number=WISH,
    ways=st.lists(
        st.tuples(st.sampled_from(WAYS), st.sampled_from(NAMES), st.one_of(st.just("own"), OTHERS)),
        max_size=4,
    ),
    writers_too=st.booleans(),
)
def test_no_two_credentials_give_more_than_either(
    thief: Thief, number: int, ways: list[tuple[str, str, str]], writers_too: bool
) -> None:
    method, path, body = pick(thief, number)
    lines = []
    for way, name, token in ways:
        token = token_of(thief.user) if token == "own" else token
        pair = base64.b64encode(f"{name}:{token}".encode()).decode()
        lines.append(way.format(token=token, pair=pair))
    if writers_too and lines:
        # Those of two users, one of whom may.
        other = "writer" if thief.user == "reader" else "reader"
        lines = [thief.credential, f"X-Chroma-Token: {token_of(other)}"]
    answer = thief.attempt(request(method, path, *lines, body=body))
    assert set(statuses(answer)) <= {400, 401, 403, 429}


@SOME
@given(
    number=WISH,
    first=st.sampled_from(["own", "guess"]),
    noise=st.text(st.characters(max_codepoint=255, exclude_characters="\r\n\0"), max_size=30),
    as_header=st.sampled_from(["X-Chroma-Token", "Authorization", "X-Chroma-User"]),
)
def test_no_password_of_a_name_gives_more(
    thief: Thief, number: int, first: str, noise: str, as_header: str
) -> None:
    """A user's token with the name of one who may more, among other things."""
    method, path, body = pick(thief, number)
    token = token_of(thief.user) if first == "own" else noise
    pairs = [as_password(name, token) for name in ("admin", "boss", thief.user, noise)]
    pairs.append({"Authorization": "Basic " + noise})
    for pair in pairs:
        lines = [f"{name}: {value}" for name, value in pair.items()]
        if as_header != "Authorization":
            lines.append(f"{as_header}: {noise}")
        thief.attempt(request(method, path, *lines, body=body))


VALUES = st.sampled_from(
    [
        "true",
        "1",
        '"true"',
        "[true]",
        '{"get_or_create": true}',
        "false",
        "null",
        "TRUE",
        "true true",
    ]
)
KEYS = st.sampled_from(
    [
        '"get_or_create"',
        '"get\\u005for_create"',
        '"\\u0067et_or_create"',
        '"Get_Or_Create"',
        '"get_or_create "',
        "get_or_create",
        '"$.get_or_create"',
        '"a.get_or_create"',
    ]
)
NAME_VALUES = st.one_of(
    st.sampled_from(
        [
            *(
                '"letters"',
                '"new"',
                '"\\u006eew"',
                '"new/../letters"',
                '"letters/add"',
                '".."',
                '"."',
            ),
            *(
                '"letters\\n"',
                '"letters\\r\\nX: y"',
                '"letters HTTP/1.1\\r\\n\\r\\n"',
                '"letters\\u0000"',
            ),
            *(
                '"letters?get_or_create=false"',
                '"letters#"',
                '"%2e%2e"',
                '"letters%2fadd"',
                '"\\\\"',
            ),
            *('["new"]', '{"name": "new"}', "null", "1", '"new', '""', '"by-id"', '"../databases"'),
        ]
    ),
    st.text(max_size=20).map(json.dumps),
    st.text(max_size=20).map(lambda text: json.dumps(text, ensure_ascii=False)),
)
MEMBERS = st.one_of(
    st.tuples(KEYS, VALUES),
    st.tuples(st.sampled_from(['"name"', '"n\\u0061me"', '"NAME"']), NAME_VALUES),
    st.tuples(st.sampled_from(['"metadata"', '"configuration"', '"x"', '""']), VALUES),
    st.tuples(
        st.just('"x"'), st.sampled_from([8_000, 20_000, 300_000]).map(lambda n: f'"{"x" * n}"')
    ),
    st.tuples(st.just('"x"'), st.sampled_from([9, 500]).map(lambda n: '{"a":' * n + "1" + "}" * n)),
)


CREATION_PATHS = [
    *("mine", "mine?get_or_create=true", "mine?name=new", "mine?", "mine?/x", "mine/", "other"),
    *("v1", "v1?tenant=x&tenant=y", "v1?database=../x"),
]


@pytest.mark.parametrize("thief", ["reader"], indirect=True)
@SOME
@given(
    members=st.lists(MEMBERS, min_size=1, max_size=5),
    wrap=st.sampled_from(
        ["{}", "[{}]", '{{"collection": {}}}', " {}", "\ufeff{}", "{}{}", "{} x", "//\n{}"]
    ),
    path=st.sampled_from(CREATION_PATHS),
    chunks=st.sampled_from([0, 1, 7, 1000]),
    lines=st.lists(
        st.sampled_from(
            [
                *("Content-Type: text/plain", "Content-Encoding: gzip", "Expect: 100-continue"),
                *("Content-Type: application/json; charset=utf-16", "Connection: keep-alive"),
            ]
        ),
        max_size=2,
    ),
)
@example([('"name"', '"new"'), ('"get_or_create"', "true")], "{}", "mine", 0, [])
@example([('"name"', '"letters"'), ('"get_or_create"', "true")], "{}", "mine", 7, [])
def test_no_get_or_create_of_a_reader_creates_anything(
    thief: Thief,
    members: list[tuple[str, str]],
    wrap: str,
    path: str,
    chunks: int,
    lines: list[str],
) -> None:
    text = "{" + ", ".join(f"{key}: {value}" for key, value in members) + "}"
    body = wrap.format(*[text] * 2).encode("utf-8", "surrogatepass")
    target = path.replace("mine", thief.house.collections())
    target = target.replace("other", thief.house.collections(OTHER_TENANT, OTHER_DATABASE))
    target = target.replace("v1", "/api/v1/collections")
    if chunks:
        size = max(chunks, len(body) // 200)
        parts = [body[start : start + size] for start in range(0, len(body), size)]
        body = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
        lines = [*lines, "Transfer-Encoding: chunked"]
    thief.attempt(request("POST", target, thief.credential, *lines, body=body))
