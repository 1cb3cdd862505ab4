"""The real Chroma reads the configuration as it is written for it."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from chroma_stack import ChromaVersion
from chroma_stack.chroma_config import host_setting
from tests.host.chroma_servers import CURRENT, ChromaServer

COLLECTIONS = "/api/v2/tenants/default_tenant/databases/default_database/collections"


@pytest.mark.parametrize(("limit", "answer"), [(None, 200), (1000, 413)])
def test_chroma_obeys_a_key_of_the_configuration(
    tmp_path: Path, limit: int | None, answer: int
) -> None:
    given = None if limit is None else {"max_payload_size_bytes": limit}
    setting = host_setting(given, ChromaVersion.of(CURRENT))
    server = ChromaServer(
        CURRENT,
        tmp_path,
        # What chroma.env says in the container.
        {"CHROMA_PERSIST_PATH": str(tmp_path / "data")},
        config=setting,
    )
    try:
        collection = {"name": "large", "metadata": {"text": "x" * 2000}}
        made = httpx.post(f"http://{server.address}{COLLECTIONS}", json=collection, timeout=30)
    finally:
        server.stop()
    assert made.status_code == answer, made.text
    if setting:
        assert json.loads((tmp_path / "config.yaml").read_text())["persist_path"] == "/data"
    assert (tmp_path / "data" / "chroma.sqlite3").exists()
