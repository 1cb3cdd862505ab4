"""What each user may: the access table is complete and right, on the real servers of both generations."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.host.access import (
    DATABASE,
    MAY,
    METHODS,
    OTHER_DATABASE,
    OTHER_TENANT,
    TENANT,
    USERS,
    House,
    houses,
    key,
    needs,
    table,
)
from tests.host.chroma_servers import CURRENT, VERSIONS
from tests.host.haproxys import AMAZON_LINUX, haproxy
from tests.host.proxy import VERIFY

PAGES = ["/", "/docs", "/redoc", "/openapi.json"]
"""What is served and not in the document."""
RECORDS = {
    "ids": ["new", "r1"],
    "embeddings": [[9.0, 9.0, 9.0], [8.0, 8.0, 8.0]],
    "documents": ["new", "changed"],
    "metadatas": [{"number": 1000}, {"number": 1001}],
    "uris": None,
}
BODIES: dict[str, Any] = {
    "add": RECORDS,
    "update": RECORDS,
    "upsert": RECORDS,
    "delete": {"ids": ["r2"], "where": None, "where_document": None},
    "get": {"ids": ["r3"], "include": ["documents"]},
    "query": {"query_embeddings": [[1.0, 1.0, 2.0]], "n_results": 2, "include": ["documents"]},
    "search": {"searches": [{"limit": {"limit": 2}}]},
    "fork": {"new_name": "forked"},
    "attach": {
        "name": "counts",
        "function_id": "record_counter",
        "output_collection": "counts",
        "params": {},
    },
    "detach": {"delete_output": True},
    "tenants": {"name": "new-tenant"},
    "databases": {"name": "new-database"},
    "collections": {"name": "new-collection"},
}
"""By the end of the path, such that the request would be carried out."""
OTHER_BODY = {"new_name": "renamed", "new_metadata": {"a": 1}, "resource_name": "renamed"}


@pytest.fixture(scope="module", params=VERSIONS)
def house(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("house")
    yield from houses(request.param, folder, program=haproxy(AMAZON_LINUX))


def documented(house: House) -> list[tuple[str, str]]:
    """Each route of the server's OpenAPI document with its methods, in capitals."""
    paths = house.direct.get("/openapi.json").json()["paths"]
    assert len(paths) > 15
    return [(path, method.upper()) for path, methods in paths.items() for method in methods]


def filled(house: House, path: str) -> list[str]:
    """The route with names and ids that are there: collections by name and by id, of two tenants."""
    found = []
    for tenant, database in ((TENANT, DATABASE), (OTHER_TENANT, OTHER_DATABASE)):
        for collection in ("letters", house.ids[tenant, "letters"]):
            it = re.sub(r"/tenants/\{[^}]+}", f"/tenants/{tenant}", path)
            it = re.sub(r"/databases/\{[^}]+}", f"/databases/{database}", it)
            it = it.replace("{crn}", f"{tenant}:{database}:letters")
            it = re.sub(r"\{collection_(id|name)}", collection, it)
            it = re.sub(r"functions/\{[^}]+}", "functions/counts", it)
            if it.startswith("/api/v1/"):
                it += f"?tenant={tenant}&database={database}"
            assert "{" not in it
            found.append(it)
    return sorted(set(found))


def every_request(house: House) -> list[tuple[str, str, Any]]:
    """Every route with every method, and a body that goes with it."""
    routes = sorted({path for path, _ in documented(house)} | set(PAGES))
    return [
        (method, path, BODIES.get(route.rsplit("/", 1)[-1], OTHER_BODY))
        for route in routes
        for path in filled(house, route)
        for method in METHODS
    ]


def send(
    house: House, headers: dict[str, str], method: str, path: str, body: Any
) -> httpx.Response:
    content = {} if method in ("GET", "HEAD") else {"json": body}
    return house.client.request(method, path, headers=headers, **content)


def refused(answer: httpx.Response) -> bool:
    """Whether the proxy refused it for want of access; a HEAD is answered with nothing but the status."""
    return answer.status_code == 403 and (
        answer.request.method == "HEAD" or "Forbidden: the user" in answer.text
    )


def what_happened(house: House, user: str) -> list[str]:
    """Sends every request, and says where the answer is another one than that of the table."""
    wrong = []
    for method, path, body in every_request(house):
        asked = needs(method, path.partition("?")[0])
        try:
            passed = not refused(send(house, house.proxy.headers_of(user), method, path, body))
        except httpx.RemoteProtocolError:
            # Chroma 1.5.9 answers the look-up by a collection's resource name by ending the connection.
            passed = "/api/v2/collections/" in path
        if passed != (asked in MAY[USERS[user]]):
            wrong.append(f"{method} {path}, which needs {asked}, {passed=}")
    return wrong


def test_the_table_has_every_route_of_the_document_with_its_methods(house: House) -> None:
    missing = {key(method, path) for path, method in documented(house)} - table().keys()
    assert missing == set()


def test_the_table_knows_no_other_needs() -> None:
    assert set(table().values()) == MAY["admin"]


def test_without_a_credential_only_heartbeat_and_version_are_served(house: House) -> None:
    before = house.content()
    for method, path, body in every_request(house):
        answer = send(house, {}, method, path, body)
        is_open = needs(method, path.partition("?")[0]) == "open"
        assert (answer.status_code != 401) == is_open, (method, path)
    assert house.content() == before


def test_a_reader_may_what_the_table_says_and_changes_nothing(house: House) -> None:
    before, commits = house.content(), house.commits()
    assert what_happened(house, "reader") == []
    assert house.content() == before
    assert house.commits() == commits


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("name", ["letters", "no-such-collection"])
def test_a_readers_get_or_create_looks_the_collection_up(
    house: House, version: str, name: str
) -> None:
    before = house.content()
    path = house.collections() if version == "v2" else "/api/v1/collections"
    body = {"name": name, "get_or_create": True, "metadata": {"changed": True}}
    answer = send(house, house.proxy.headers_of("reader"), "POST", path, body)
    expected = house.direct.get(f"{path}/{name}")
    assert (answer.status_code, answer.json()) == (expected.status_code, expected.json())
    if version == "v2":
        assert (answer.status_code == 200) == (name == "letters")
    assert house.content() == before


def test_what_chroma_does_with_a_look_up_that_has_a_body_is_nothing(house: House) -> None:
    """The next request on the connection is understood as before."""
    reader = house.proxy.headers_of("reader")
    body = b'{"name": "letters", "get_or_create": true, "x": "%s"}'
    for size in (0, 100, 10_000, 15_000, 40_000, 1_000_000):
        whole = body % (b"x" * size)
        for content in (whole, iter([whole[:20], whole[20:]])):
            found = house.client.post(house.collections(), headers=reader, content=content)
            assert (found.status_code, found.json()["name"]) == (200, "letters"), size
            count = house.client.get(
                f"{house.collections()}/{found.json()['id']}/count", headers=reader
            )
            assert (count.status_code, count.json()) == (200, 20)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "a b", "letters\n", "letters\0", "letters?x", "ä", "x" * 513]
)
def test_a_reader_looks_up_no_name_that_could_mean_another_path(house: House, name: str) -> None:
    body = {"name": name, "get_or_create": True}
    for content in (json.dumps(body), json.dumps(body, ensure_ascii=False)):
        answer = house.client.post(
            house.collections(), headers=house.proxy.headers_of("reader"), content=content
        )
        assert refused(answer), answer.text


def test_a_reader_creates_nothing(house: House) -> None:
    before = house.content()
    for body in (
        {"name": "letters"},
        {"name": "letters", "get_or_create": False},
        {"name": "letters", "get_or_create": "true"},
        {"name": "letters", "get_or_create": None},
        {"name": ["letters"], "get_or_create": True},
        {"get_or_create": True},
        [{"name": "letters", "get_or_create": True}],
        {"collection": {"name": "letters", "get_or_create": True}},
    ):
        answer = send(house, house.proxy.headers_of("reader"), "POST", house.collections(), body)
        assert refused(answer), body
    assert house.content() == before


def test_the_refusal_says_who_asked_for_what_and_what_it_needs(house: House) -> None:
    path = f"{house.collections()}/letters"
    for user, method, asked, sentence in (
        ("reader", "DELETE", path, f"the user reader may read; DELETE {path} needs admin."),
        ("writer", "DELETE", path, f"the user writer may read and write; DELETE {path} needs admin."),
        ("reader", "PUT", path, f"the user reader may read; PUT {path} needs write."),
        ("reader", "POST", house.collections(), f"the user reader may read; POST {house.collections()} needs write."),
        ("reader", "POST", "/no/'such\"path", "the user reader may read; POST /no/'such\"path needs admin."),
    ):  # fmt: skip
        answer = send_raw(house, user, method, asked)
        assert answer.status_code == 403
        assert answer.headers["content-type"] == "application/json"
        assert answer.json() == {"error": "AuthorizationError", "message": f"Forbidden: {sentence}"}


def send_raw(house: House, user: str, method: str, path: str) -> httpx.Response:
    """With the path as it stands."""
    request = house.client.build_request(method, "/", headers=house.proxy.headers_of(user), json={})
    request.extensions["target"] = path.encode()
    return house.client.send(request)


TWO_WAYS = [
    *(
        "a%2fcount",
        "a%2Fcount",
        "a%5ccount",
        "a\\count",
        "a%2e",
        "%2E%2e",
        "a%00",
        "a%25",
        "a%2525",
    ),
    *(
        "a;b",
        "a;/count",
        "a%3bb",
        "./a",
        "../collections",
        ".",
        "..",
        "/a",
        "a//count",
        "a/./count",
    ),
]


@pytest.mark.parametrize("name", TWO_WAYS)
def test_a_path_that_one_release_reads_otherwise_than_another_needs_admin(
    house: House, name: str
) -> None:
    path = f"{house.collections()}/{name}"
    for user in ("reader", "writer"):
        assert send_raw(house, user, "GET", path).status_code == 403
    assert not refused(send_raw(house, "boss", "GET", path))


@pytest.mark.parametrize(
    "name", ["a%20b", "%C3%A4", "a:b", "~a", "a,b", "a+b", "a@b", "a.b", "..a"]
)
def test_a_reader_may_ask_for_names_of_all_kinds(house: House, name: str) -> None:
    path = f"/api/v2/tenants/{name}/databases/{name}/collections/{name}"
    assert send_raw(house, "reader", "GET", path).status_code in (200, 400, 404)


@pytest.mark.parametrize("target", ["http://chroma{}", "HTTPS://chroma{}", "{}#", "{}?x#y", "*"])
def test_only_paths_are_taken_as_what_is_asked_for(house: House, target: str) -> None:
    path = target.format(house.collections())
    answers = {send_raw(house, user, "GET", path).status_code for user in ("reader", "boss")}
    assert answers <= {400, 403}


def test_the_next_request_on_the_connection_of_a_refused_one_is_served(house: House) -> None:
    reader = house.proxy.headers_of("reader")
    with httpx.Client(base_url=house.proxy.url, verify=VERIFY, headers=reader) as client:
        for size in (0, 10_000):
            refusal = client.post(
                f"{house.collections()}/{house.ids[TENANT, 'letters']}/add", content=b"x" * size
            )
            assert refused(refusal)
            assert client.get(house.collections()).status_code == 200


@pytest.mark.parametrize("house", [CURRENT], indirect=True)
def test_tenants_are_no_walls(house: House) -> None:
    """Chroma answers for a collection by its id under any tenant's path: rights by tenant or database would hold
    nobody back who knows an id. When this fails, docs/security.md and docs/users.md have to change."""
    collection = house.ids[OTHER_TENANT, "letters"]
    for tenant, database in ((TENANT, DATABASE), ("no-such-tenant", "no-such-database")):
        path = f"{house.collections(tenant, database)}/{collection}/get"
        answer = send(house, house.proxy.headers_of("reader"), "POST", path, {"ids": ["r3"]})
        assert answer.json()["documents"] == [f"document 3 of {OTHER_TENANT}"]


def test_a_writer_may_what_the_table_says_and_deletes_no_collection(house: House) -> None:
    before = house.owned()
    assert what_happened(house, "writer") == []
    assert house.lost(before) == []
    assert house.owned()["collections"] > before["collections"]


def test_an_admin_may_everything(house: House) -> None:
    assert what_happened(house, "boss") == []
    # Among it a reset.
    assert OTHER_TENANT not in {name for (name,) in house.owned()["tenants"]}
