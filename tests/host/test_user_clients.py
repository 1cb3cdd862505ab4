"""The clients that people use, as released, as users who may only read, or write, but not everything."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.host.chroma_servers import (
    CURRENT,
    VERSIONS,
    ChromaServer,
    javascript_client,
    python_with_chroma,
    python_with_libraries,
)
from tests.host.programs import program, wait_until
from tests.host.proxy import Proxy, as_password, header, token_of

HERE = Path(__file__).parent
PAGE = (HERE.parents[1] / "docs" / "users.md").read_text()
COLLECTIONS = "/api/v2/tenants/default_tenant/databases/default_database/collections"
READER, WRITER = "search", "ingest"
USERS = {READER: "read", WRITER: "write"}
TOKEN_PROVIDER = "chromadb.auth.token_authn.TokenAuthClientProvider"
BASIC_PROVIDER = "chromadb.auth.basic_authn.BasicAuthClientProvider"


def python_ways(user: str) -> dict[str, dict[str, Any]]:
    """How the Python client can send a user's token."""
    token = token_of(user)
    by_token = {"provider": TOKEN_PROVIDER, "credential": token}
    return {
        "Bearer in headers": {"headers": header("token", token)},
        "X-Chroma-Token in headers": {"headers": header("token", token, "X-Chroma-Token")},
        "Basic in headers": {"headers": as_password(user, token)},
        "Bearer by the provider": {**by_token, "header": "Authorization"},
        "X-Chroma-Token by the provider": {**by_token, "header": "X-Chroma-Token"},
        "Basic by the provider": {"provider": BASIC_PROVIDER, "credential": f"{user}:{token}"},
        "asynchronous": {"headers": header("token", token), "async": True},
    }


WAYS = list(python_ways(READER))
HEADERS = [way for way in WAYS if way.endswith("in headers")]
JAVASCRIPT_SAYS = (
    "ChromaForbiddenError: You do not have permission to access the requested resource."
)

READS = {
    "heartbeat",
    "version",
    "list_collections",
    "count_collections",
    "get_collection",
    "get_or_create_collection",
    "count",
    "peek",
    "get",
    "query",
}
MISSING = {"get_missing_collection", "get_or_create_missing_collection"}
CHANGES = {"add", "update", "upsert", "delete", "modify", "create_collection"}
REMOVALS = {"delete_collection", "reset"}


@dataclass
class Seen:
    """What came of a client that asked for everything as a user."""

    results: dict[str, Any]
    """By the way it came in; of each operation."""
    before: Any
    after: Any
    """All that the server had."""
    log: list[dict[str, Any]]


class Server:
    """A real server behind a proxy with users."""

    def __init__(self, version: str, address: str, proxy: Proxy) -> None:
        self.version, self.proxy = version, proxy
        self.url = f"http://{address}{COLLECTIONS}"
        self._seen: dict[tuple[str, str], Seen] = {}

    def fill(self, name: str = "shared", dimensions: int = 2) -> None:
        """One collection with two records, and nothing else."""
        for collection in httpx.get(self.url).raise_for_status().json():
            httpx.delete(f"{self.url}/{collection['name']}").raise_for_status()
        made = httpx.post(self.url, json={"name": name, "metadata": {"changed": "no"}})
        records = {
            "ids": ["a", "b"],
            "embeddings": [[1] + [0] * (dimensions - 1), [0] * (dimensions - 1) + [1]],
            "documents": ["one", "two"],
            "metadatas": [{"kind": "old"}, {"kind": "old"}],
        }
        add = f"{self.url}/{made.raise_for_status().json()['id']}/add"
        httpx.post(add, json=records).raise_for_status()

    def content(self) -> Any:
        """All that is in it."""
        collections = httpx.get(self.url).raise_for_status().json()
        everything = {"include": ["documents", "embeddings", "metadatas"]}
        return [
            (it, httpx.post(f"{self.url}/{it['id']}/get", json=everything).json())
            for it in collections
        ]

    def seen(self, client: str, user: str) -> Seen:
        """What comes of all that one of the `CLIENTS` asks for as a user; each is run once."""
        if (client, user) not in self._seen:
            command, folder, ways = CLIENTS[client](self, user)
            named = [{"name": f"new-{number}", **way} for number, way in enumerate(ways.values())]
            job = {"host": "127.0.0.1", "port": self.proxy.port, "ways": named}
            self.fill()
            before, lines = self.content(), len(self.proxy.log_lines())
            done = run(command, folder, json.dumps(job))
            assert done.returncode == 0, done.stderr
            results = dict(zip(ways, json.loads(done.stdout), strict=True))
            log = self.proxy.log_lines()[lines:]
            self._seen[client, user] = Seen(results, before, self.content(), log)
        return self._seen[client, user]


def run(command: list[str], folder: Path, given: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=folder, input=given, capture_output=True, text=True, timeout=120
    )


Client = tuple[list[str], Path, dict[str, dict[str, Any]]]


def python_client(server: Server, user: str) -> Client:
    command = [str(python_with_chroma(server.version)), str(HERE / "clients" / "user_client.py")]
    return command, server.proxy.folder, python_ways(user)


def node_client(_: Server, user: str) -> Client:
    command = [program("node"), str(HERE / "js" / "user_client.mjs")]
    return command, javascript_client(), {it: python_ways(user)[it] for it in HEADERS}


def libraries_client(server: Server, user: str) -> Client:
    command = [str(python_with_libraries()), str(HERE / "clients" / "libraries_client.py")]
    return command, server.proxy.folder, {"": {"headers": header("token", token_of(user))}}


CLIENTS = {"python": python_client, "javascript": node_client, "libraries": libraries_client}


@pytest.fixture(scope="module")
def servers(
    chroma_servers: dict[str, ChromaServer], make_proxy: Callable[..., Proxy]
) -> dict[str, Server]:
    """One of each generation."""
    return {
        version: Server(version, server.address, make_proxy(server.address, users=USERS).start())
        for version, server in chroma_servers.items()
    }


def forbidden(user: str, needs: str) -> str:
    """The sentence of a refusal, as a pattern."""
    may = {"read": "read", "write": "read and write"}[USERS[user]]
    return rf"Forbidden: the user {user} may {may}; [A-Z]+ /api/v2/\S+ needs {needs}\."


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("version", VERSIONS)
def test_a_python_program_that_may_read_reads(
    servers: dict[str, Server], version: str, way: str
) -> None:
    results = servers[version].seen("python", READER).results[way]
    assert {it for it, result in results.items() if result == "done"} == READS


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("version", VERSIONS)
def test_a_python_program_that_may_read_is_told_so_when_it_wants_to_change_something(
    servers: dict[str, Server], version: str, way: str
) -> None:
    results = servers[version].seen("python", READER).results[way]
    for needs, operations in (("write", CHANGES), ("admin", REMOVALS)):
        for operation in operations:
            told = f"AuthorizationError: {forbidden(READER, needs)}"
            assert re.fullmatch(told, results[operation]), results[operation]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("version", VERSIONS)
def test_a_python_program_that_may_read_gets_a_collection_that_is_there_and_creates_none(
    servers: dict[str, Server], version: str, way: str
) -> None:
    results = servers[version].seen("python", READER).results[way]
    assert results["get_or_create_collection"] == "done"
    assert "does not exist" in results["get_or_create_missing_collection"]
    assert (
        results["get_or_create_missing_collection"].partition(":")[0]
        == results["get_missing_collection"].partition(":")[0]
    )


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("version", VERSIONS)
def test_a_python_program_that_may_write_does_all_but_remove_collections_and_reset(
    servers: dict[str, Server], version: str, way: str
) -> None:
    results = servers[version].seen("python", WRITER).results[way]
    refused = {it: results.pop(it) for it in REMOVALS}
    assert "does not exist" in results.pop("get_missing_collection")
    assert set(results.values()) == {"done"}
    for told in refused.values():
        assert re.fullmatch(f"AuthorizationError: {forbidden(WRITER, 'admin')}", told), told


@pytest.mark.parametrize("way", HEADERS)
@pytest.mark.parametrize("version", VERSIONS)
def test_a_javascript_program_that_may_read_reads_and_is_told_that_it_may_not_change_anything(
    servers: dict[str, Server], version: str, way: str
) -> None:
    results = servers[version].seen("javascript", READER).results[way]
    assert {it for it, result in results.items() if result == "done"} == READS
    for operation in CHANGES | REMOVALS:
        assert results[operation] == JAVASCRIPT_SAYS
    # Chroma 0.6.3 says so with another status than 404.
    missing = results["get_or_create_missing_collection"]
    assert missing.startswith("ChromaNotFoundError: ") or "does not exist" in missing


@pytest.mark.parametrize("way", HEADERS)
@pytest.mark.parametrize("version", VERSIONS)
def test_a_javascript_program_that_may_write_does_all_but_remove_collections_and_reset(
    servers: dict[str, Server], version: str, way: str
) -> None:
    results = servers[version].seen("javascript", WRITER).results[way]
    refused = {it: results.pop(it) for it in REMOVALS}
    del results["get_missing_collection"]
    assert set(results.values()) == {"done"}
    assert set(refused.values()) == {JAVASCRIPT_SAYS}


LANGCHAIN = {
    "start",
    "start without creating",
    "similarity_search",
    "max_marginal_relevance_search",
    "get",
    "get_by_ids",
}
LLAMAINDEX = {"start", "start with a collection", "query", "get_nodes"}


@pytest.mark.parametrize(
    ("library", "reads"), [("langchain", LANGCHAIN), ("llamaindex", LLAMAINDEX)]
)
def test_a_librarys_store_that_may_read_starts_and_searches_and_says_what_it_may_not(
    servers: dict[str, Server], library: str, reads: set[str]
) -> None:
    results = servers[CURRENT].seen("libraries", READER).results[""][library]
    assert {it for it, result in results.items() if result == "done"} == reads
    missing = {"start with a missing collection", "from_texts"}
    for operation in results.keys() - reads:
        if operation in missing:
            assert re.fullmatch(
                r"NotFoundError: Collection \[.*\] does not exist", results[operation]
            )
        else:
            needs = "admin" if "collection" in operation else "write"
            assert re.fullmatch(
                f"AuthorizationError: {forbidden(READER, needs)}", results[operation]
            )


@pytest.mark.parametrize("library", ["langchain", "llamaindex"])
def test_a_librarys_store_that_may_write_does_all_but_remove_its_collection(
    servers: dict[str, Server], library: str
) -> None:
    results = servers[CURRENT].seen("libraries", WRITER).results[""][library]
    removals = {"delete_collection", "reset_collection"}
    for operation, result in results.items():
        if operation in removals:
            assert re.fullmatch(f"AuthorizationError: {forbidden(WRITER, 'admin')}", result)
        else:
            assert result == "done", operation


@pytest.mark.parametrize(
    ("version", "client"),
    # LlamaIndex's store cannot use Chroma 0.6.3, users or not.
    [(CURRENT, "libraries"), *itertools.product(VERSIONS, ("python", "javascript"))],
)
def test_after_all_that_a_reader_tried_everything_is_as_it_was(
    servers: dict[str, Server], version: str, client: str
) -> None:
    seen = servers[version].seen(client, READER)
    assert seen.before == seen.after


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("client", CLIENTS)
def test_the_log_names_the_user_and_each_refusal(
    servers: dict[str, Server], client: str, user: str
) -> None:
    log = servers[CURRENT].seen(client, user).log
    assert {(line["user"], line["auth"]) for line in log} == {(user, "ok"), (user, "forbidden")}
    for line in log:
        assert (line["status"] == 403) == (line["auth"] == "forbidden")


@pytest.mark.parametrize(("size", "status"), [(10_000, 200), (20_000, 403)])
def test_a_readers_get_or_create_has_to_be_in_the_part_of_the_request_that_the_proxy_sees(
    servers: dict[str, Server], size: int, status: int
) -> None:
    server = servers[CURRENT]
    server.fill()
    # In the order of the Python client.
    asked = {"name": "shared", "metadata": {"changed": "x" * size}, "get_or_create": True}
    url = server.proxy.url + COLLECTIONS
    answer = httpx.post(url, json=asked, headers=server.proxy.headers_of(READER))
    assert answer.status_code == status
    if status == 200:
        assert answer.json()["metadata"] == {"changed": "no"}


def snippet(heading: str, language: str) -> str:
    """The block of code of the page after its heading."""
    section = PAGE.partition(f"\n{heading}\n")[2].partition("\n#")[0]
    [code] = re.findall(rf"(?ms)^```{language}\n(.*?)^```$", section)
    return str(code)


def here(code: str, server: Server) -> str:
    """The page's code, for this server and its reader."""
    code = code.replace("HOST", "127.0.0.1").replace("TOKEN", token_of(READER))
    return code.replace("8000", str(server.proxy.port))


def route(line: dict[str, Any]) -> str:
    """As the page writes it."""
    return f"`{line['method']} {line['route'].removeprefix('/api/v2')}`"


def calls_at_start(client: str) -> list[str]:
    """What the page says."""
    [row] = re.findall(rf"(?m)^\| {re.escape(client)} \| (.*) \|$", PAGE)
    return re.findall("`[A-Z]+ [^`]+`", row)


def command_of(heading: str, server: Server, folder: Path) -> list[str]:
    """What runs the page's code."""
    if heading == "curl":
        return ["bash", "-euc", here(snippet("### curl", ""), server)]
    if heading == "JavaScript":
        (folder / "app.mjs").write_text(here(snippet("### JavaScript", "js"), server))
        (folder / "node_modules").symlink_to(javascript_client() / "node_modules")
        return [program("node"), "app.mjs"]
    python = python_with_chroma(CURRENT) if heading == "Python" else python_with_libraries()
    return [str(python), "-c", here(snippet(f"### {heading}", "python"), server)]


@pytest.mark.parametrize("heading", ["Python", "JavaScript", "LangChain", "LlamaIndex", "curl"])
def test_the_pages_code_reads_as_a_user_after_the_calls_that_the_page_says(
    servers: dict[str, Server], tmp_path: Path, heading: str
) -> None:
    server = servers[CURRENT]
    server.fill("documents", dimensions=8)
    lines = len(server.proxy.log_lines())
    done = run(command_of(heading, server, tmp_path), tmp_path)
    wait_until(lambda: len(server.proxy.log_lines()) > lines, "the log has a request")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    log = server.proxy.log_lines()[lines:]
    assert {(line["user"], line["auth"]) for line in log} == {(READER, "ok")}
    starts = calls_at_start(heading)
    assert starts == [route(line) for line in log][: len(starts)]
