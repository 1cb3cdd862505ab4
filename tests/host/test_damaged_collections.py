"""A collection that Chroma refuses although its index looks whole: noticed by the proxy, repaired once."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.host.chroma_servers import CURRENT, ChromaServer
from tests.host.programs import HOST
from tests.host.proxy import Proxy

COLLECTIONS = "/api/v2/tenants/default_tenant/databases/default_database/collections"
QUERY = {"query_embeddings": [[1.0, 0.0]], "n_results": 1}
IDS = [str(number) for number in range(200)]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ChromaServer]:
    """As on the instance, it keeps its log from the beginning."""
    server = ChromaServer(CURRENT, tmp_path)
    subprocess.run([HOST / "indexes", "checkpoint", tmp_path / "data"], check=True)
    yield server
    server.stop()


@pytest.fixture
def proxy(server: ChromaServer, make_proxy: Callable[..., Proxy]) -> Proxy:
    return make_proxy(server.address).start()


def post(proxy: Proxy, path: str, body: object) -> httpx.Response:
    return httpx.post(f"{proxy.url}{COLLECTIONS}{path}", headers=proxy.right, json=body, timeout=60)


def collection(proxy: Proxy, name: str) -> str:
    """The id of a collection whose index is on the disk."""
    configuration = {"hnsw": {"sync_threshold": 100}}
    made = post(proxy, "", {"name": name, "configuration": configuration}).raise_for_status()
    records = {"ids": IDS, "embeddings": [[1.0, float(it)] for it in IDS], "documents": IDS}
    post(proxy, f"/{made.json()['id']}/add", records).raise_for_status()
    return str(made.json()["id"])


def health_check(proxy: Proxy, server: ChromaServer, hours_later: int = 0) -> str:
    """What it does about collections."""
    script = f"""
    . {HOST}/health-check
    systemctl() {{ echo "systemctl $*"; }}
    unset EPOCHSECONDS
    EPOCHSECONDS=$(($(date +%s) + {hours_later} * 3600))
    repair_collections
    """
    return subprocess.run(
        ["bash", "-c", script],
        env={
            "PATH": os.environ["PATH"],
            "SETTINGS": "/dev/null",
            "PROXY_ADMIN_SOCKET": str(proxy.admin_socket),
            "SUSPECTS": str(proxy.folder / "suspects"),
            "REPAIRS": str(proxy.folder / "repairs"),
        },
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=60,
    ).stdout


def damage(server: ChromaServer, name: str) -> None:
    """Overwrites the middle of a file of every index, and leaves size and times as they were."""
    for file in server.log.parent.glob(f"data/*-*/{name}"):
        before = file.stat()
        content = bytearray(file.read_bytes())
        middle = len(content) // 2
        content[middle : middle + 64] = b"\xff" * len(content[middle : middle + 64])
        file.write_bytes(content)
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def repair(server: ChromaServer, *suspects: str) -> str:
    command = [HOST / "indexes", "repair", server.log.parent / "data", *suspects]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


def test_a_collection_that_chroma_refuses_is_repaired_by_a_restart_and_not_again_within_the_hour(
    server: ChromaServer, proxy: Proxy
) -> None:
    broken = collection(proxy, "broken")
    server.stop()
    damage(server, "index_metadata.pickle")
    server.start()
    refused = post(proxy, f"/{broken}/query", QUERY)
    assert refused.status_code == 500, refused.text
    print(refused.text)
    said = health_check(proxy, server)
    assert f"Chroma cannot use the collection {broken}" in said
    assert "systemctl restart --no-block chroma.service" in said
    suspects = (proxy.folder / "suspects").read_text().split()
    assert suspects == [broken]
    assert health_check(proxy, server) == ""

    post(proxy, f"/{broken}/query", QUERY)
    assert "has not helped" in health_check(proxy, server)
    for hours, expected in ((2, True), (4, True), (6, False), (30, True)):
        post(proxy, f"/{broken}/query", QUERY)
        assert ("systemctl restart" in health_check(proxy, server, hours)) == expected, hours

    server.stop()
    print(repair(server, *suspects))
    server.start()
    answer = post(proxy, f"/{broken}/query", {**QUERY, "query_embeddings": [[1.0, 7.0]]})
    assert answer.status_code == 200
    assert answer.json()["ids"] == [["7"]]
    assert len(post(proxy, f"/{broken}/get", {}).json()["ids"]) == len(IDS)


def test_a_collection_that_is_named_is_repaired_although_it_looks_whole(
    server: ChromaServer, proxy: Proxy
) -> None:
    named, other = collection(proxy, "named"), collection(proxy, "other")
    server.stop()
    assert repair(server) == ""
    said = repair(server, named)
    assert f"({named}): Chroma could not use it: removed; Chroma makes it again" in said
    assert other not in said
    server.start()
    for it in (named, other):
        assert post(proxy, f"/{it}/query", QUERY).json()["ids"] == [["0"]]


@pytest.mark.parametrize(
    "body", [{"query_embeddings": [[1.0, 0.0, 0.0]], "n_results": 1}, {"n_results": 1}, {"x": 1}]
)
def test_a_wrong_request_makes_no_collection_suspect(
    server: ChromaServer, proxy: Proxy, body: dict[str, object]
) -> None:
    known = collection(proxy, "known")
    assert post(proxy, f"/{known}/query", body).status_code >= 400
    assert post(proxy, f"/{re.sub('[0-9]', '0', known)}/query", QUERY).status_code >= 400
    assert health_check(proxy, server) == ""
