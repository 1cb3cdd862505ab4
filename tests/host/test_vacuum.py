"""What is left of deleted documents in the files of Chroma, which each snapshot of the volume holds."""

from __future__ import annotations

import subprocess
from pathlib import Path

import httpx
import pytest

from tests.host.chroma_servers import CURRENT, ChromaServer, python_with_chroma
from tests.host.programs import HOST

TEXT = "a-deleted-document"


def collection(server: ChromaServer, threshold: int) -> str:
    """The URL of a new collection whose index is written every so many operations."""
    api = f"http://{server.address}/api/v2/tenants/default_tenant/databases/default_database"
    configuration = {"hnsw": {"sync_threshold": threshold}}
    made = httpx.post(
        f"{api}/collections", json={"name": "documents", "configuration": configuration}, timeout=60
    )
    return f"{api}/collections/{made.raise_for_status().json()['id']}"


def post(url: str, body: dict[str, object]) -> None:
    httpx.post(url, json=body, timeout=60).raise_for_status()


def add(url: str, ids: list[str], text: str) -> None:
    embeddings = [[1.0, float(number)] for number in range(len(ids))]
    post(f"{url}/add", {"ids": ids, "embeddings": embeddings, "documents": [text] * len(ids)})


def is_in_database(folder: Path) -> bool:
    return TEXT.encode() in (folder / "data" / "chroma.sqlite3").read_bytes()


def vacuum(folder: Path) -> None:
    """As `docs/operations.md` shows it, of a server that is stopped."""
    chroma = python_with_chroma(CURRENT).with_name("chroma")
    command = [chroma, "vacuum", "--path", folder / "data", "--force"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=120)


@pytest.mark.parametrize(
    ("threshold", "stays"), [(1_000, False), (100_000, True)], ids=["the default", "100,000"]
)
def test_vacuum_clears_deleted_documents_once_they_are_in_the_index(
    tmp_path: Path, threshold: int, stays: bool
) -> None:
    server = ChromaServer(CURRENT, tmp_path)
    try:
        url = collection(server, threshold)
        ids = [str(number) for number in range(1_000)]
        add(url, ids, TEXT)
        post(f"{url}/delete", {"ids": ids})
    finally:
        server.stop()
    assert is_in_database(tmp_path)
    vacuum(tmp_path)
    assert is_in_database(tmp_path) == stays


def test_with_a_high_threshold_it_does_so_after_a_lower_one_a_restart_and_a_write(
    tmp_path: Path,
) -> None:
    server = ChromaServer(CURRENT, tmp_path)
    try:
        url = collection(server, 100_000)
        ids = [str(number) for number in range(1_000)]
        add(url, ids, TEXT)
        post(f"{url}/delete", {"ids": ids})
        lower = {"new_configuration": {"hnsw": {"sync_threshold": 100}}}
        httpx.put(url, json=lower, timeout=60).raise_for_status()
        server.stop()
        server.start()
        add(url, ["one"], "another")
    finally:
        server.stop()
    vacuum(tmp_path)
    assert not is_in_database(tmp_path)


def indexes(command: str, folder: Path) -> str:
    """What the host's program says of the data."""
    done = subprocess.run(
        [HOST / "indexes", command, folder / "data"], capture_output=True, text=True
    )
    assert done.returncode == 0, done
    return done.stdout


def test_vacuum_clears_what_the_instance_keeps_of_the_log_and_no_checkpoint_from_before_is_used(
    tmp_path: Path,
) -> None:
    """It has Chroma purge its log again, which the next start of the instance undoes."""
    server = ChromaServer(CURRENT, tmp_path)
    try:
        indexes("checkpoint", tmp_path)
        url = collection(server, 100)
        ids = [str(number) for number in range(1_000)]
        add(url, ["first", *ids[:500]], "another")
        indexes("checkpoint", tmp_path)
        add(url, ids[500:], TEXT)
        post(f"{url}/delete", {"ids": ids})
    finally:
        server.stop()
    assert is_in_database(tmp_path)
    assert "checkpoint up to 501\twhole" in indexes("check", tmp_path)
    vacuum(tmp_path)
    assert not is_in_database(tmp_path)
    indexes("repair", tmp_path)
    assert "checkpoint up to 2001\twhole" in indexes("check", tmp_path)
