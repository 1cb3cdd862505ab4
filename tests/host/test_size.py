"""``python -m chroma_stack.size`` beside real servers: what they hold, and what memory that takes."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from chroma_stack.size import command, model, server
from tests.bench.size import MOST, Run, measured, predicted
from tests.host.chroma_servers import CURRENT, LAST_PYTHON, OLDEST, VERSIONS, ChromaServer
from tests.host.proxy import Proxy, token_of

DATABASE = "/api/v2/tenants/{}/databases/{}"
DOCUMENT = "Ünïcode takes more bytes than letters."


class Held(NamedTuple):
    """A server that holds something, behind a proxy."""

    chroma: ChromaServer
    proxy: Proxy


@pytest.fixture(scope="module", params=VERSIONS)
def held(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    make_proxy: Callable[..., Proxy],
) -> Iterator[Held]:
    """Two databases with 3 and 4 vectors, another tenant with one, and an empty collection."""
    yield from _held(request.param, tmp_path_factory, make_proxy)


@pytest.fixture
def oldest(
    tmp_path_factory: pytest.TempPathFactory, make_proxy: Callable[..., Proxy]
) -> Iterator[Held]:
    """The same in a release that cannot list databases."""
    yield from _held(OLDEST, tmp_path_factory, make_proxy)


def _held(
    version: str, tmp_path_factory: pytest.TempPathFactory, make_proxy: Callable[..., Proxy]
) -> Iterator[Held]:
    chroma = ChromaServer(version, tmp_path_factory.mktemp("chroma"))
    try:
        with httpx.Client(base_url=f"http://{chroma.address}", timeout=60) as client:
            _fill(client, version)
        proxy = make_proxy(chroma.address, users={"reader": "read", "writer": "write"})
        yield Held(chroma, proxy.start())
    finally:
        chroma.stop()


def _fill(client: httpx.Client, version: str) -> None:
    def post(path: str, body: object) -> Any:
        return client.post(path, json=body).raise_for_status().json()

    post("/api/v2/tenants", {"name": "other tenant"})
    post("/api/v2/tenants/other%20tenant/databases", {"name": "default_database"})
    post("/api/v2/tenants/default_tenant/databases", {"name": "second"})
    for tenant, database, name, dimensions, count in (
        ("default_tenant", "default_database", "letters", 8, 3),
        ("default_tenant", "default_database", "empty", 0, 0),
        ("default_tenant", "second", "numbers", 16, 4),
        ("other%20tenant", "default_database", "letters", 8, 1),
    ):
        collections = f"{DATABASE.format(tenant, database)}/collections"
        hnsw: dict[str, Any] = {"metadata": {"hnsw:sync_threshold": 5000, "hnsw:batch_size": 100}}
        if version == CURRENT:
            hnsw = {"configuration": {"hnsw": {"sync_threshold": 5000}}}
        made = post(collections, {"name": name, **(hnsw if name == "numbers" else {})})
        if count:
            post(
                f"{collections}/{made['id']}/add",
                {
                    "ids": [f"id-{number}" for number in range(count)],
                    "embeddings": [[float(number)] * dimensions for number in range(count)],
                    "documents": [DOCUMENT] * count,
                    "metadatas": [{"page": 1}] * count,
                },
            )


class Said(NamedTuple):
    """How the command ended."""

    code: int | str | None
    out: str

    @property
    def answer(self) -> dict[str, Any]:
        assert self.code == 0, self.code
        return dict(json.loads(self.out))


def size(*arguments: str) -> Said:
    """The command's end; ``code`` is the sentence when it is an error."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), pytest.raises(SystemExit) as ended:
        command.main([*arguments, "--json"])
    return Said(ended.value.code, printed.getvalue())


def token_file(folder: Path, token: str) -> list[str]:
    file = folder / "token"
    file.write_text(f"{token}\n")
    return ["--credential-file", str(file)]


def test_a_reader_is_told_what_all_databases_of_the_tenant_hold(held: Held, tmp_path: Path) -> None:
    said = size("--server", held.proxy.url, *token_file(tmp_path, token_of("reader"))).answer
    assert (said["vectors"], said["collections"], said["dimensions"]) == (7, 2, [8, 16])
    assert said["document_bytes"] == len(DOCUMENT.encode())
    assert said["metadata_bytes"] == len('{"page": 1}')
    assert said["sync_threshold"] == 5000
    assert said["instances"]


def test_tenants_are_counted_that_are_named(held: Held, tmp_path: Path) -> None:
    tenants = ["--tenant", "default_tenant", "--tenant", "other tenant"]
    said = size(
        "--server", held.proxy.url, *tenants, *token_file(tmp_path, held.proxy.credential)
    ).answer
    assert (said["vectors"], said["collections"]) == (8, 3)


def test_of_a_release_that_cannot_list_databases_those_are_counted_that_are_named(
    oldest: Held, tmp_path: Path
) -> None:
    asked = ["--server", oldest.proxy.url, *token_file(tmp_path, token_of("reader"))]
    assert size(*asked).answer["vectors"] == 3
    databases = ["--database", "default_database", "--database", "second"]
    said = size(*asked, *databases).answer
    assert (said["vectors"], said["collections"], said["dimensions"]) == (7, 2, [8, 16])


def test_the_credential_may_come_from_the_environment_and_by_the_other_header(
    held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(command.CREDENTIAL, held.proxy.credential)
    for auth in ("token", "x-chroma-token"):
        assert size("--server", held.proxy.url, "--auth", auth).answer["vectors"] == 7


def test_a_server_without_a_proxy_needs_no_credential(held: Held) -> None:
    assert size("--server", f"http://{held.chroma.address}/").answer["vectors"] == 7


def test_what_is_given_goes_before_what_the_server_says(held: Held) -> None:
    given = ["--document-bytes", "9k", "--sync-threshold", "2000"]
    said = size("--server", f"http://{held.chroma.address}", *given).answer
    assert (said["document_bytes"], said["sync_threshold"]) == (9000, 2000)


def test_collections_are_counted_beyond_the_first_page(
    held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "PAGE", 1)
    assert size("--server", f"http://{held.chroma.address}").answer["collections"] == 2


def test_a_user_and_password_open_the_proxy(
    held: Held, make_proxy: Callable[..., Proxy], tmp_path: Path
) -> None:
    proxy = make_proxy(held.chroma.address, auth="basic").start()
    credential = token_file(tmp_path, proxy.credential)
    assert size("--server", proxy.url, "--auth", "basic", *credential).answer["vectors"] == 7


def test_tls_needs_the_authoritys_certificate(held: Held, tmp_path: Path) -> None:
    url, credential = held.proxy.https_url, token_file(tmp_path, held.proxy.credential)
    assert "certificate verify failed" in str(size("--server", url, *credential).code)
    said = size("--server", url, "--ca", str(held.proxy.ca), *credential)
    assert said.answer["vectors"] == 7


@pytest.mark.parametrize("token", ["", "wrong"])
def test_a_server_that_refuses_is_named_with_its_reason(
    held: Held, tmp_path: Path, token: str
) -> None:
    credential = token_file(tmp_path, token) if token else []
    said = size("--server", held.proxy.url, *credential)
    assert str(said.code).startswith(f"Error: {held.proxy.url} answers 401 to /api/v2/")
    assert "\n" not in str(said.code)


def test_a_tenant_that_is_not_there_holds_nothing(held: Held) -> None:
    said = size("--server", f"http://{held.chroma.address}", "--tenant", "nobody")
    assert str(said.code).startswith("Error: ")


OFTEN = {"hnsw:sync_threshold": 10, "hnsw:batch_size": 10}
LINKED: dict[str, tuple[str, dict[str, Any]]] = {
    "by default": (CURRENT, {"metadata": OFTEN}),
    "by metadata": (CURRENT, {"metadata": {**OFTEN, "hnsw:M": 48}}),
    "by configuration": (
        CURRENT,
        {"configuration": {"hnsw": {"max_neighbors": 48, "sync_threshold": 10}}},
    ),
    "of an old release": (LAST_PYTHON, {"metadata": {**OFTEN, "hnsw:M": 48}}),
}


@pytest.mark.parametrize(("version", "settings"), LINKED.values(), ids=LINKED)
def test_vectors_have_as_many_links_as_the_index_is_set_to(
    version: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    chroma = ChromaServer(version, tmp_path)
    try:
        with httpx.Client(base_url=f"http://{chroma.address}", timeout=60) as client:
            collections = f"{DATABASE.format('default_tenant', 'default_database')}/collections"
            made = client.post(collections, json={"name": "linked", **settings}).json()
            vectors = [[float(number)] * 8 for number in range(100)]
            body = {"ids": [f"id-{number}" for number in range(100)], "embeddings": vectors}
            client.post(f"{collections}/{made['id']}/add", json=body).raise_for_status()
        held = server.Server(f"http://{chroma.address}").holding(["default_tenant"])
        [index] = tmp_path.rglob("data_level0.bin")
        # The Python releases write the places that are free too, 1,000 at least.
        places = 1000 if version == LAST_PYTHON else 100
        assert index.stat().st_size == places * held.collections[0].element()
    finally:
        chroma.stop()


def test_the_release_whose_memory_is_predicted_is_the_current_one() -> None:
    assert model.RELEASE == CURRENT


def test_memory_of_10000_vectors_is_as_predicted(tmp_path: Path) -> None:
    run = Run(384, 10_000)
    memory = measured(run, tmp_path)
    writing, settled = predicted(run)
    assert writing == pytest.approx(memory.writing, rel=MOST)
    assert settled == pytest.approx(memory.settled, rel=MOST)
