"""Asks a running Chroma what it holds: any release from 0.5 on, directly or through the auth proxy.

Nothing but reads, which a user with ``read`` may do.
"""

from __future__ import annotations

import json
import re
import ssl
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any

from chroma_stack.credential import WrongUse
from chroma_stack.size.errors import Refused
from chroma_stack.size.model import NEIGHBOURS, SYNC_THRESHOLD, Collection

PAGE = 100
"""Collections in a request; and records that are looked at to learn how long documents are."""

_URL = re.compile(r"https?://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?/?")

TIMEOUT = 60
"""Seconds to wait for an answer: counting a large collection takes a while."""


@dataclass(frozen=True, kw_only=True)
class Holding:
    """What a server holds."""

    collections: list[Collection]
    """Those that have records."""

    document_bytes: int
    """Of a record, the mean of a sample of each collection."""

    metadata_bytes: int
    """Of a record, likewise."""

    threshold: int
    """The largest ``sync_threshold``."""


class Server:
    """A Chroma server by its URL."""

    def __init__(
        self, url: str, *, headers: Mapping[str, str] | None = None, ca: str | None = None
    ) -> None:
        """
        :param url: such as ``https://HOST:8000``.
        :param headers: those of a credential, sent with each request; none by default.
        :param ca: a file with the certificates to trust (PEM); by default those of the system.
        :raises WrongUse: when the URL or the file is of no use.
        """
        if not _URL.fullmatch(url):
            raise WrongUse(f"--server {url} is refused: it is http[s]://HOST[:PORT]")
        self._url = url.rstrip("/")
        self._headers = {"Accept": "application/json", **(headers or {})}
        handlers: list[urllib.request.BaseHandler] = [_NoRedirect()]
        if ca is not None:
            try:
                context = ssl.create_default_context(cafile=ca)
            except OSError as error:
                reason = error.strerror or "it has no certificate in PEM"
                raise WrongUse(f"--ca {ca} is refused: {reason}") from None
            handlers.append(urllib.request.HTTPSHandler(context=context))
        self._opener = urllib.request.build_opener(*handlers)

    def holding(self, tenants: Sequence[str], databases: Sequence[str] = ()) -> Holding:
        """What databases of these tenants hold together.

        :param tenants: their names; Chroma cannot list them.
        :param databases: their names; by default all, of releases before 0.6, which cannot list
            them, ``default_database``.
        :raises Refused: when the server does not answer as Chroma does.
        """
        collections: list[Collection] = []
        documents = metadata = 0.0
        threshold = SYNC_THRESHOLD
        for tenant in tenants:
            for path, found in self._collections(tenant, databases):
                count = int(self._get(f"{path}/count"))
                if not count:
                    continue
                sample = self._ask(f"{path}/get", {}, _SAMPLE)
                lengths = [len(it.encode()) for it in sample["ids"]]
                collections.append(
                    Collection(
                        vectors=count,
                        dimensions=int(found.get("dimension") or self._dimension(path)),
                        id_bytes=round(_mean(lengths)),
                        neighbours=_of_index(found, "max_neighbors", "hnsw:M", NEIGHBOURS),
                    )
                )
                documents += count * _mean([_length(it) for it in sample["documents"] or []])
                metadata += count * _mean([_length(it) for it in sample["metadatas"] or []])
                threshold = max(
                    threshold,
                    _of_index(found, "sync_threshold", "hnsw:sync_threshold", SYNC_THRESHOLD),
                )
        vectors = sum(it.vectors for it in collections) or 1
        return Holding(
            collections=collections,
            document_bytes=round(documents / vectors),
            metadata_bytes=round(metadata / vectors),
            threshold=threshold,
        )

    def _collections(
        self, tenant: str, databases: Sequence[str]
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """The path of each collection of a tenant, and what the server says of it."""
        if self._get("/api/v2/heartbeat", missing=True) is None:
            path = "/api/v1/collections"
            for database in databases or [_DATABASE]:
                query = {"tenant": tenant, "database": database}
                for found in self._paged(path, query):
                    yield f"{path}/{found['id']}", found
            return
        of_tenant = f"/api/v2/tenants/{urllib.parse.quote(tenant, safe='')}/databases"
        if not databases:
            listed = self._get(of_tenant, missing=True)
            databases = [_DATABASE] if listed is None else [it["name"] for it in listed]
        for database in databases:
            path = f"{of_tenant}/{urllib.parse.quote(database, safe='')}/collections"
            for found in self._paged(path, {}):
                yield f"{path}/{found['id']}", found

    def _dimension(self, path: str) -> int:
        """Of a collection's vectors, which 0.5.0 does not say."""
        return len(self._ask(f"{path}/get", {}, _ONE_VECTOR)["embeddings"][0])

    def _paged(self, path: str, query: dict[str, str]) -> Iterator[dict[str, Any]]:
        offset = 0
        while page := self._get(path, {**query, "limit": str(PAGE), "offset": str(offset)}):
            yield from page
            offset += len(page)

    def _get(self, path: str, query: dict[str, str] | None = None, *, missing: bool = False) -> Any:
        """The answer; with ``missing``, ``None`` when there is no such route."""
        return self._ask(path, query or {}, None, missing=missing)

    def _ask(self, path: str, query: dict[str, str], body: Any, *, missing: bool = False) -> Any:
        url = f"{self._url}{path}" + (f"?{urllib.parse.urlencode(query)}" if query else "")
        request = urllib.request.Request(url, headers=self._headers)
        if body is not None:
            request.data = json.dumps(body).encode()
            request.add_header("Content-Type", "application/json")
        try:
            with self._opener.open(request, timeout=TIMEOUT) as response:
                return json.loads(response.read())
        except urllib.error.HTTPError as error:
            if missing and error.code in (404, 405, 410):
                return None
            raise Refused(f"{self._url} answers {error.code} to {path}{_reason(error)}") from None
        except (OSError, HTTPException) as error:
            reason = getattr(error, "reason", error)
            raise Refused(f"{self._url} does not answer: {reason}") from None
        except ValueError:
            raise Refused(f"{self._url} does not answer {path} as Chroma does") from None


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Chroma sends none, and the credential is for one server only."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


_DATABASE = "default_database"
_ONE_VECTOR = {"limit": 1, "include": ["embeddings"]}
_SAMPLE = {"limit": PAGE, "include": ["documents", "metadatas"]}


def _of_index(collection: dict[str, Any], setting: str, key: str, default: int) -> int:
    """A setting of the index: of 1.x in the configuration, of 0.x in the metadata."""
    hnsw = (collection.get("configuration_json") or {}).get("hnsw") or {}
    metadata = collection.get("metadata") or {}
    return int(hnsw.get(setting) or metadata.get(key) or default)


def _length(value: Any) -> int:
    if value is None:
        return 0
    return len((value if isinstance(value, str) else json.dumps(value)).encode())


def _mean(values: Sequence[int]) -> float:
    return sum(values) / len(values) if values else 0


def _reason(error: urllib.error.HTTPError) -> str:
    """What Chroma or the proxy says, if it is a sentence in JSON."""
    try:
        said = json.loads(error.read())
        text = said.get("message") or said.get("error") or ""
    except (ValueError, OSError, AttributeError):
        return ""
    return f": {text}" if text else ""
