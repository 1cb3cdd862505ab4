"""Chroma servers: API v1 until 0.5.15, and v2 from 0.5.16 on."""

from __future__ import annotations

import base64
import contextlib
import json
import math
import random
import re
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from chroma_stack.copy.errors import CopyError, UsageError
from chroma_stack.copy.model import (
    BATCH,
    Collection,
    Page,
    Record,
    Records,
    creation,
    custom_schema,
    describe_difference,
    only,
    to_bytes,
    to_numbers,
)

CLOUD = "https://api.trychroma.com"
CLOUD_BATCH = 300
"""What Chroma Cloud gives and takes at once, https://docs.trychroma.com/cloud/quotas-limits."""

WINDOW = 20_000
"""Ids that are listed in one request: listing takes longer the further it is from the start, and
reading records by their ids does not."""

ANSWER_BYTES = 8 * 2**20
"""About how long an answer with records may be; pages become smaller until they are."""

REQUEST_BYTES = 16 * 2**20
"""How long a request may be before it is cut in two. Chroma 1.x takes 40 MiB."""

PATIENCE = 120.0
"""Seconds for which a server may be unavailable, as after a restart, before the copy ends."""

ANSWER_SECONDS, SHORT_ANSWER_SECONDS = 15 * 60.0, 30.0
"""Seconds for which an answer may be on its way: of a large collection in its index, and of what a
server knows without a look at its data."""

SILENCE = 10.0
"""Seconds without an answer after which it is said that the copy waits."""

FULL = ("embeddings", "documents", "metadatas", "uris")


@dataclass(frozen=True)
class Names:
    """Which of a server's collections are meant.

    :param tenants: empty for ``default_tenant``: Chroma cannot list its tenants.
    :param databases: empty for all; ``default_database`` where a server cannot list them.
    :param collections: empty for all.
    """

    tenants: Sequence[str] = ()
    databases: Sequence[str] = ()
    collections: Sequence[str] = ()


class _TooLong(Exception):
    """An answer is longer than was asked for."""


class Server:
    """A Chroma server, as source and as target.

    :param url: where it is.
    :param role: ``source`` or ``target``, for messages.
    :param headers: the credential.
    :param ca: a file with the certificate of its authority. Default: those that Python trusts.
    :param names: what to read from it.
    :param cloud: whether it is Chroma Cloud.
    :param stop: set when nobody waits for an answer any more.
    :param say: called with a sentence when the server lets wait.
    :raises CopyError: when it does not answer as a Chroma server, or refuses the credential.
    """

    def __init__(
        self,
        url: str,
        role: str,
        *,
        headers: Mapping[str, str] | None = None,
        ca: Path | None = None,
        names: Names | None = None,
        cloud: bool = False,
        stop: threading.Event | None = None,
        say: Callable[[str], None] | None = None,
    ) -> None:
        self.url = url.rstrip("/")
        self.role = role
        self.names = names or Names()
        self._cloud = cloud
        self._stop = stop or threading.Event()
        self._say = say or (lambda sentence: None)
        self._said = -math.inf
        self.places: Sequence[str] = ()
        self._bytes_per_record = ANSWER_BYTES / 32
        verify: ssl.SSLContext | bool = True
        if ca is not None:
            try:
                verify = ssl.create_default_context(cafile=ca)
            except OSError as error:
                no_pem = isinstance(error, ssl.SSLError)
                reason = "it has no certificate in PEM" if no_pem else error.strerror
                raise UsageError(f"--{role}-ca {ca} cannot be used: {reason}.") from None
        self._http = httpx.Client(
            headers={"Content-Type": "application/json", **(headers or {})},
            verify=verify,
            timeout=httpx.Timeout(SHORT_ANSWER_SECONDS),
        )
        self._api = self._find_api()
        limits = self._call("GET", f"{self._api}/pre-flight-checks", of=dict)
        most = limits.get("max_batch_size")
        self.batch = max(1, most) if isinstance(most, int) else BATCH
        if cloud:
            self.batch = min(CLOUD_BATCH, self.batch)
        self._base64 = bool(limits.get("supports_base64_encoding"))
        self.release = self._call("GET", f"{self._api}/version", of=str)
        self._find_features()
        self._http.timeout = httpx.Timeout(SHORT_ANSWER_SECONDS, read=ANSWER_SECONDS)

    def _find_api(self) -> str:
        for api in ("/api/v2", "/api/v1"):
            answer = self._send("GET", f"{api}/heartbeat", patience=0)
            if answer.status_code == 200 and "heartbeat" in answer.text:
                return api
        raise CopyError(
            f"{self.url} does not answer as a Chroma server: {answer.status_code} {_reason(answer)}"
        )

    def _find_features(self) -> None:
        """By its OpenAPI document: the version of 1.x is always 1.0.0."""
        answer = self._send("GET", "/openapi.json")
        schemas: Mapping[str, Any] = {}
        with contextlib.suppress(ValueError, AttributeError, RecursionError):
            schemas = answer.json().get("components", {}).get("schemas", {})
        # A proxy may keep the document from us: then it is taken for the newest.
        newest = not schemas and not self.release.startswith("0.")
        properties = {name: it.get("properties", {}) for name, it in schemas.items()}
        self._configures = newest or "configuration_json" in properties.get("Collection", {})
        values = schemas.get("HashMap", {}).get("additionalProperties", {}).get("oneOf", [])
        self._takes_lists = newest or any(it.get("type") == "array" for it in values)
        self._takes_schema = newest or "schema" in properties.get("CreateCollectionPayload", {})

    # What is asked of it.

    def _send(
        self,
        method: str,
        path: str,
        content: bytes | None = None,
        *,
        patience: float | None = None,
        most: float = math.inf,
    ) -> httpx.Response:
        """An answer, whatever it says. Every request may be sent again.

        :param patience: for how many seconds to try again while no answer comes. Default, and
            always while the server says that it is unavailable: :data:`PATIENCE`.
        :param most: how long an answer may be, in bytes.
        :raises CopyError: when there is none.
        :raises _TooLong: when it would be longer than that; it is not read.
        """
        begun, pause = time.monotonic(), 0.5
        while True:
            try:
                with self._said_if_silent():
                    answer = self._answer(method, path, content, most)
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                problem, wait = _plain(error), pause
                limit = PATIENCE if patience is None else patience
            else:
                if answer.status_code not in (429, 502, 503, 504):
                    return answer
                problem, limit = f"{answer.status_code} {_reason(answer)}", PATIENCE
                asked = answer.headers.get("Retry-After", "")
                wait = min(60.0, float(asked)) if asked.isdecimal() else pause
            if time.monotonic() - begun + wait > limit or self._stop.is_set():
                raise CopyError(f"The {self.role}, {self.url}, does not answer: {problem}")
            self._say_waiting(problem)
            # Not all at the same moment.
            self._stop.wait(wait * random.uniform(0.8, 1.2))
            pause = min(pause * 2, 15)

    @contextlib.contextmanager
    def _said_if_silent(self) -> Iterator[None]:
        """While an answer is waited for."""
        timer = threading.Timer(SILENCE, self._say_waiting, ["nothing came so far."])
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _say_waiting(self, problem: str) -> None:
        """Once a minute for all requests that wait at the same time."""
        now = time.monotonic()
        if now - self._said > 60:
            self._said = now
            self._say(f"Waiting for the {self.role}, {self.url}: {problem}")

    def _answer(self, method: str, path: str, content: bytes | None, most: float) -> httpx.Response:
        request = self._http.build_request(method, self.url + path, content=content)
        answer = self._http.send(request, stream=True)
        try:
            if int(answer.headers.get("Content-Length", "0")) > most:
                raise _TooLong
            answer.read()
        finally:
            answer.close()
        return answer

    def _call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        of: type = object,
    ) -> Any:
        """What it answers.

        :param of: the type that it has when Chroma answers.
        :raises CopyError: when it is something else, or no success.
        """
        content = None if body is None else json.dumps(body, separators=(",", ":")).encode()
        what = f"{method} {path.split('?')[0]}"
        return self._result(self._send(method, path, content), what, of)

    def _unlike_chroma(self, what: str) -> CopyError:
        return CopyError(f"The {self.role}, {self.url}, does not answer {what} as Chroma does.")

    def _result(self, answer: httpx.Response, what: str, of: type = object) -> Any:
        if answer.is_success:
            try:
                result = answer.json()
            except (ValueError, RecursionError):
                raise self._unlike_chroma(what) from None
            if not isinstance(result, of):
                raise self._unlike_chroma(what)
            return result
        reason = _reason(answer)
        if answer.status_code == 401:
            option = f"--{self.role}-credential-file, --{self.role}-auth"
            raise CopyError(f"The {self.role} refuses the credential ({option}): {reason}")
        raise CopyError(f"The {self.role} refuses {what} with {answer.status_code}: {reason}")

    def _is_there(self, path: str) -> bool:
        answer = self._send("GET", path)
        # 0.5.0 answers 500 with the name of its exception.
        if answer.status_code in (400, 404, 500) and re.search(
            r"not ?found|does not exist", answer.text, re.IGNORECASE
        ):
            return False
        self._result(answer, f"GET {path}")
        return True

    def _collections_path(self, tenant: str, database: str) -> str:
        if self._api == "/api/v1":
            return f"{self._api}/collections?tenant={quote(tenant)}&database={quote(database)}&"
        return f"{self._api}/tenants/{_segment(tenant)}/databases/{_segment(database)}/collections?"

    def _path(self, collection: Collection, operation: str) -> str:
        folder = self._collections_path(collection.tenant, collection.database).partition("?")[0]
        return f"{folder}/{collection.id}/{operation}"

    # What it has.

    def _databases(self, tenant: str) -> list[str]:
        """All of a tenant; where a server cannot list them, those of the chosen that are there.

        :raises CopyError: when there is no such tenant.
        """
        path = f"{self._api}/tenants/{_segment(tenant)}"
        listed: list[str] | None = None
        if self._api == "/api/v2" and self._send("GET", f"{path}/databases").status_code != 405:
            listed = [it["name"] for it in self._all(f"{path}/databases?")]
        if not listed and not self._is_there(path):
            raise CopyError(f"--tenant {tenant}: the source has none of that name.")
        if listed is not None:
            return listed
        chosen = self.names.databases or ["default_database"]
        paths = {it: self._database_path(Collection(tenant, it, "")) for it in chosen}
        return [it for it in chosen if self._is_there(paths[it])]

    def collections(self) -> list[Collection]:
        """Those that were chosen."""
        pairs = [
            (tenant, database)
            for tenant in self.names.tenants or ["default_tenant"]
            for database in self._databases(tenant)
        ]
        tenants = ", ".join(self.names.tenants or ["default_tenant"])
        databases = only(self.names.databases, [it for _, it in pairs], "database", tenants)
        pairs = [it for it in pairs if it[1] in databases]
        self.places = [f"{tenant}/{database}" for tenant, database in pairs]
        found: list[Collection] = []
        for tenant, database in pairs:
            found += self._all_collections(tenant, database)
        places = ", ".join(self.places)
        names = only(self.names.collections, [it.name for it in found], "collection", places)
        return [it for it in found if it.name in names]

    def _all_collections(self, tenant: str, database: str) -> list[Collection]:
        answers = self._all(self._collections_path(tenant, database))
        return [_collection(tenant, database, it) for it in answers]

    def _all(self, path: str) -> list[Mapping[str, Any]]:
        """Everything that a path lists, a hundred at once."""
        found: dict[str, Mapping[str, Any]] = {}
        while True:
            before = len(found)
            answer = self._call("GET", f"{path}limit=100&offset={before}", of=list)
            if not all(isinstance(it, dict) and {"id", "name"} <= it.keys() for it in answer):
                raise self._unlike_chroma(f"GET {path[:-1]}")
            found |= {it["id"]: it for it in answer}
            if len(found) == before:
                return list(found.values())

    def count(self, collection: Collection) -> int:
        """How many records it has."""
        count: int = self._call("GET", self._path(collection, "count"), of=int)
        return count

    def pages(self, collection: Collection, size: int) -> Iterator[Page]:
        """All records, with those that come meanwhile, as far as they come behind the others.

        Each window of ids begins within the one before, since those behind a record that is
        deleted meanwhile move up.
        """
        window = min(WINDOW, self.batch) if self._cloud else WINDOW
        overlap = window // 20
        offset, before = 0, set[str]()
        while True:
            ids = self._get(collection, {"limit": window, "offset": offset}, ())["ids"]
            if before and offset and before.isdisjoint(ids):
                offset = max(0, offset - window)
                before = before if offset else set()
                continue
            new = [it for it in ids if it not in before]
            while new:
                most = max(1, min(size, int(ANSWER_BYTES / self._bytes_per_record)))
                page, new = new[:most], new[most:]
                yield Page(page, lambda ids: self.records(collection, ids))
            if len(ids) < window:
                return
            offset, before = offset + window - overlap, set(ids)

    def present(self, collection: Collection, ids: Sequence[str]) -> set[str]:
        """Those of the ids that it has."""
        found: set[str] = set()
        for part in _parts(ids, self.batch):
            found.update(self._get(collection, {"ids": part, "limit": len(part)}, ())["ids"])
        return found

    def records(self, collection: Collection, ids: Sequence[str]) -> Records:
        """The records of those ids, as far as it has them."""
        found: Records = {}
        for part in _parts(ids, self.batch):
            body = {"ids": part, "limit": len(part)}
            half = len(part) // 2
            try:
                rows = self._get(collection, body, FULL, 4 * ANSWER_BYTES if half else math.inf)
            except _TooLong:
                found |= self.records(collection, part[:half])
                found |= self.records(collection, part[half:])
                continue
            records = {id: _record(collection, rows, row) for row, id in enumerate(rows["ids"])}
            found |= {id: records[id] for id in part if id in records}
        return found

    def _get(
        self,
        collection: Collection,
        body: Mapping[str, Any],
        include: Sequence[str],
        most: float = math.inf,
    ) -> Mapping[str, Any]:
        content = json.dumps({**body, "include": include}).encode()
        path = self._path(collection, "get")
        answer = self._send("POST", path, content, most=most)
        rows: Mapping[str, Any] = self._result(answer, f"POST {path}", dict)
        ids = rows.get("ids")
        columns = [rows.get(name) for name in include]
        if not isinstance(ids, list) or any(
            it is not None and not (isinstance(it, list) and len(it) == len(ids)) for it in columns
        ):
            raise self._unlike_chroma(f"POST {path}")
        if include and rows["ids"]:
            self._bytes_per_record = max(1.0, len(answer.content) / len(rows["ids"]))
        return rows

    # What it is given.

    def check(self, collection: Collection) -> None:
        """Refuse a collection that this release cannot take.

        :raises CopyError: with a sentence that names it.
        """
        if len(collection.name) > 63 and not self._configures:
            raise CopyError(
                f"{collection.path}: the target's release takes names of up to 63 characters. "
                "Rename the collection in the source, or leave it out by --collection."
            )
        if custom_schema(collection) and not self._takes_schema:
            chosen = ", ".join(custom_schema(collection))
            raise CopyError(
                f"{collection.path}: the target's release has no schema, and this collection's "
                f"says more than the usual ({chosen}). Leave it out by --collection."
            )
        if existing := self.find(collection):
            self._compare(collection, existing)

    def find(self, collection: Collection) -> Collection | None:
        """The collection of the same tenant, database and name."""
        if not self._is_there(self._database_path(collection)):
            return None
        if self._api == "/api/v1":
            # 0.5.0 has an error of the same kind for all; a list is none.
            theirs = self._all_collections(collection.tenant, collection.database)
            return next((it for it in theirs if it.name == collection.name), None)
        path = self._collections_path(collection.tenant, collection.database).rstrip("?")
        path = f"{path}/{_segment(collection.name)}"
        if not self._is_there(path):
            return None
        answer = self._call("GET", path, of=dict)
        if not {"id", "name"} <= answer.keys():
            raise self._unlike_chroma(f"GET {path}")
        return _collection(collection.tenant, collection.database, answer)

    def _database_path(self, collection: Collection) -> str:
        if self._api == "/api/v1":
            tenant, database = quote(collection.tenant), _segment(collection.database)
            return f"{self._api}/databases/{database}?tenant={tenant}"
        tenant, database = _segment(collection.tenant), _segment(collection.database)
        return f"{self._api}/tenants/{tenant}/databases/{database}"

    def _compare(self, collection: Collection, existing: Collection) -> None:
        if difference := describe_difference(collection, existing):
            raise CopyError(
                f"{collection.path} is in the target with something else: {difference}. Delete "
                "it there, or choose another --target-database."
            )

    def prepare(self, collection: Collection) -> tuple[Collection, int]:
        """Create the collection unless it is there, and its tenant and database."""
        if existing := self.find(collection):
            self._compare(collection, existing)
            return existing, self.count(existing)
        self._make_database(collection)
        path = self._collections_path(collection.tenant, collection.database)
        body = creation(collection, self._configures, self._takes_schema)
        try:
            self._call("POST", path.rstrip("?&"), body)
        except CopyError as error:
            raise CopyError(f"{collection.path} cannot be created. {error}") from None
        made = self.find(collection)
        if made is None:
            raise CopyError(f"{collection.path} was created in the target, and is not there.")
        if difference := describe_difference(collection, made):
            raise CopyError(
                f"{collection.path} cannot be created as it is: the target makes something else "
                f"of it: {difference}. {self._remove(made)} A proxy in front of an older release "
                "has to let /openapi.json through, which says what that release takes."
            )
        return made, 0

    def _remove(self, made: Collection) -> str:
        """Delete a collection that was made for nothing.

        :returns: a sentence that says so.
        """
        folder, mark, query = self._collections_path(made.tenant, made.database).partition("?")
        path = f"{folder}/{_segment(made.name)}{mark}{query}".rstrip("?&")
        try:
            if self.count(made) == 0:
                self._call("DELETE", path)
                return "It was empty, and was deleted again."
        except CopyError:
            pass
        return "It is still there: delete it."

    def _make_database(self, collection: Collection) -> None:
        if self._is_there(self._database_path(collection)):
            return
        tenant, database = collection.tenant, collection.database
        try:
            if not self._is_there(f"{self._api}/tenants/{_segment(tenant)}"):
                self._call("POST", f"{self._api}/tenants", {"name": tenant})
            path = f"{self._api}/tenants/{_segment(tenant)}/databases"
            if self._api == "/api/v1":
                path = f"{self._api}/databases?tenant={quote(tenant)}"
            self._call("POST", path, {"name": database})
        except CopyError as error:
            raise CopyError(
                f"The database {tenant}/{database} is not in the target, and cannot be created "
                f"(behind this project's proxy that takes access admin). {error}"
            ) from None

    def write(self, collection: Collection, records: Iterable[Record]) -> None:
        """Write records, those that are there anew."""
        for part in _parts(list(records), self.batch):
            self._upsert(collection, part)

    def _upsert(self, collection: Collection, records: Sequence[Record]) -> None:
        if not self._takes_lists:
            for record in records:
                _refuse_lists(collection, record)
        content = upsert_body(records, self._base64)
        path = self._path(collection, "upsert")
        half = len(records) // 2
        if len(content) <= REQUEST_BYTES or not half:
            answer = self._send("POST", path, content)
            if answer.status_code != 413 or not half:
                try:
                    self._result(answer, "records")
                except CopyError as error:
                    raise CopyError(f"{collection.path}: {error}") from None
                return
        self._upsert(collection, records[:half])
        self._upsert(collection, records[half:])

    def finish(self) -> None:
        """Nothing comes behind the records."""

    def complete(self) -> None:
        """Nothing: what was written is there."""

    def close(self) -> None:
        """Nothing: what was written is there."""


def upsert_body(records: Sequence[Record], in_base64: bool) -> bytes:
    """The request that writes records.

    :param in_base64: whether the server takes vectors so.
    """
    body: dict[str, Any] = {
        "ids": [it.id for it in records],
        "embeddings": [
            base64.b64encode(it.vector).decode() if in_base64 else to_numbers(it.vector)
            for it in records
        ],
        "documents": [it.document for it in records],
        "metadatas": [dict(it.metadata) if it.metadata else None for it in records],
        "uris": [it.uri for it in records],
    }
    for name in ("documents", "metadatas", "uris"):
        if not any(it is not None for it in body[name]):
            del body[name]
    return json.dumps(body, separators=(",", ":")).encode()


def _collection(tenant: str, database: str, answer: Mapping[str, Any]) -> Collection:
    return Collection(
        tenant,
        database,
        answer["name"],
        answer["id"],
        answer.get("metadata") or None,
        answer.get("configuration_json"),
        answer.get("schema"),
        answer.get("dimension"),
    )


def _record(collection: Collection, rows: Mapping[str, Any], row: int) -> Record:
    vector = (rows.get("embeddings") or {row: None})[row]
    if vector is None or None in vector:
        raise CopyError(
            f"{collection.path}: the source gives no vector for the record {rows['ids'][row]!r}, "
            "or one with a number that is none."
        )
    return Record(
        rows["ids"][row],
        to_bytes(vector),
        (rows.get("documents") or {row: None})[row],
        (rows.get("metadatas") or {row: None})[row] or None,
        (rows.get("uris") or {row: None})[row],
    )


def _refuse_lists(collection: Collection, record: Record) -> None:
    """0.x would answer that all is well, and keep nothing of them."""
    for key, value in (record.metadata or {}).items():
        if isinstance(value, list | dict):
            raise CopyError(
                f"{collection.path}: the record {record.id!r} has "
                f"{'a list' if isinstance(value, list) else 'a sparse vector'} in its metadata "
                f"({key!r}), which the target's release does not keep."
            )


def _parts(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _segment(name: str) -> str:
    """A name within a path."""
    return quote(name, safe="")


def _reason(answer: httpx.Response) -> str:
    """What an answer that is no success says, in a line."""
    text = answer.text
    try:
        body = answer.json()
        text = str(body.get("message") or body.get("error") or body.get("detail") or text)
    except (ValueError, AttributeError):
        pass
    text = " ".join(text.split())
    return text if len(text) <= 500 else f"{text[:500]}…"


def _plain(error: Exception) -> str:
    # Those of the protocol quote headers, in which the credential is.
    if isinstance(error, httpx.ProtocolError):
        return "the connection broke off, or it does not speak HTTP."
    return f"{error or type(error).__name__}."
