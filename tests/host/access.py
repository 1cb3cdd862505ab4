"""What the access table says, and a real server with something to lose behind the proxy that goes by it."""

from __future__ import annotations

import contextlib
import hashlib
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import httpx

from tests.host.chroma_servers import LAST_PYTHON, ChromaServer
from tests.host.programs import HOST
from tests.host.proxy import VERIFY, Proxy

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
USERS = {"reader": "read", "writer": "write", "boss": "admin"}
MAY = {
    "read": {"open", "read"},
    "write": {"open", "read", "create", "write"},
    "admin": {"open", "read", "create", "write", "admin"},
}
"""What each access is enough for, where no get_or_create is asked for."""
TENANT, OTHER_TENANT = "default_tenant", "other-tenant"
DATABASE, OTHER_DATABASE = "default_database", "other-database"


def table() -> dict[str, str]:
    """What each method and route needs."""
    lines = (HOST / "access.map").read_text().splitlines()
    rows = [line.split() for line in lines if line and not line.startswith("#")]
    assert len({key for key, _ in rows}) == len(rows)
    return dict(rows)


def key(method: str, path: str) -> str:
    """How the table names a route of a document."""
    for pattern, name in (
        ("/tenants/[^/]+", "/tenants/{tenant}"),
        ("/databases/[^/]+", "/databases/{database}"),
        ("/collections/by-id/", "/collections/"),
        ("/collections/[^/]+", "/collections/{collection}"),
        ("functions/[^/]+", "functions/{function}"),
    ):
        path = re.sub(pattern, name, path, count=1)
    return f"{'GET' if method == 'HEAD' else method}:{path}"


def needs(method: str, path: str) -> str:
    return table().get(key(method, path), "admin")


class House:
    """A server with two tenants, collections and records, behind a proxy with users."""

    def __init__(self, version: str, folder: Path, **options: object) -> None:
        self.version = version
        self.data = folder / "chroma" / "data"
        self.data.parent.mkdir()
        (folder / "proxy").mkdir()
        # So that a reset, too, would be carried out.
        reset = {"ALLOW_RESET": "true", "CHROMA_ALLOW_RESET": "true"}
        with contextlib.ExitStack() as undo:
            self.server = ChromaServer(version, folder / "chroma", reset)
            undo.callback(self.server.stop)
            self.direct = httpx.Client(base_url=f"http://{self.server.address}", timeout=60)
            undo.callback(self.direct.close)
            self._furnish()
            self.proxy = Proxy(folder / "proxy", self.server.address, users=USERS, **options)  # type: ignore[arg-type]
            undo.callback(self.proxy.stop)
            self.proxy.start()
            self.client = httpx.Client(base_url=self.proxy.url, verify=VERIFY, timeout=60)
            undo.callback(self.client.close)
            # Of an address that is not known yet the proxy takes fewer connections.
            known = self.client.get("/api/v2/tenants/default_tenant", headers=self.proxy.right)
            assert known.status_code == 200
            self._database = sqlite3.connect(self._file, uri=True, check_same_thread=False)
            undo.callback(self._database.close)
            self._undo = undo.pop_all()

    def close(self) -> None:
        self._undo.close()

    @property
    def _file(self) -> str:
        return f"file:{self.data / 'chroma.sqlite3'}?mode=ro"

    def collections(self, tenant: str = TENANT, database: str = DATABASE) -> str:
        """The path of a database's collections."""
        return f"/api/v2/tenants/{tenant}/databases/{database}/collections"

    def _furnish(self) -> None:
        def post(path: str, content: object) -> httpx.Response:
            return self.direct.post(path, json=content).raise_for_status()

        post("/api/v2/tenants", {"name": OTHER_TENANT})
        post(f"/api/v2/tenants/{OTHER_TENANT}/databases", {"name": OTHER_DATABASE})
        self.ids = {}
        for tenant, database in ((TENANT, DATABASE), (OTHER_TENANT, OTHER_DATABASE)):
            for name in ("letters", "numbers"):
                # Its index is written soon.
                hnsw = {"hnsw:sync_threshold": 5, "hnsw:batch_size": 5}
                collection: dict[str, object] = {"name": name, "metadata": hnsw}
                if self.version != LAST_PYTHON:
                    collection = {"name": name, "configuration": {"hnsw": {"sync_threshold": 5}}}
                path = self.collections(tenant, database)
                made = post(path, collection).json()["id"]
                self.ids[tenant, name] = made
                records = {
                    "ids": [f"r{number}" for number in range(20)],
                    "embeddings": [[number, 1.0, 2.0] for number in range(20)],
                    "documents": [f"document {number} of {tenant}" for number in range(20)],
                    "metadatas": [{"number": number} for number in range(20)],
                }
                post(f"{path}/{made}/add", records)
                # The first query has Chroma write what it has indexed.
                post(f"{path}/{made}/query", {"query_embeddings": [[1, 1, 2]], "n_results": 3})

    def content(self) -> str:
        """All of what the server has in its files."""
        dump = hashlib.sha256()
        with contextlib.closing(sqlite3.connect(":memory:")) as copy:
            with contextlib.closing(sqlite3.connect(self._file, uri=True)) as database:
                database.backup(copy)
            for line in copy.iterdump():
                dump.update(line.encode())
        for file in sorted(self.data.rglob("*")):
            if file.is_file() and not file.name.startswith("chroma.sqlite3"):
                dump.update(str(file).encode() + file.read_bytes())
        return dump.hexdigest()

    def commits(self) -> int:
        """A number that changes as soon as Chroma has written anything to its database."""
        [[version]] = self._database.execute("PRAGMA data_version")
        return int(version)

    def owned(self) -> dict[str, set[tuple[object, ...]]]:
        """What only an administrator may take away or add: tenants, databases, and which collections they have."""
        queries = {
            "tenants": "SELECT id FROM tenants",
            "databases": "SELECT id, name, tenant_id FROM databases",
            "collections": "SELECT id, database_id FROM collections",
        }
        return {it: set(self._database.execute(query)) for it, query in queries.items()}

    def lost(self, before: dict[str, set[tuple[object, ...]]]) -> object:
        """What a user who may write has changed of it without being allowed to."""
        now = self.owned()
        lost = [
            before["tenants"] ^ now["tenants"],
            before["databases"] ^ now["databases"],
            before["collections"] - now["collections"],
        ]
        return [it for it in lost if it]


def houses(version: str, folder: Path, **options: object) -> Iterator[House]:
    """As a fixture has it."""
    house = House(version, folder, **options)
    yield house
    house.close()
