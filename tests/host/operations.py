"""Adds, updates, upserts and deletes on a Chroma server, and compares; run by the interpreter of a
real client.

The first line of standard input says where the server is, and how many operations pass between two
writes of an index. Each later line is a command: `write`, until the server is gone, which prints
each operation as soon as it is acknowledged; or `compare`. Either ends with a line of JSON.
"""

import contextlib
import json
import random
import sys
import threading
from collections import namedtuple

import chromadb
import httpx
import numpy
from chromadb.config import Settings

Collection = namedtuple("Collection", "tenant database name dimensions threshold")
Operation = namedtuple("Operation", "kind ids revision fields")
COLLECTIONS = (
    Collection("default_tenant", "default_database", "small", 8, "seldom"),
    Collection("default_tenant", "default_database", "large", 384, "often"),
    Collection("tenant", "database", "small", 64, "often"),
    Collection("tenant", "another", "medium", 64, "seldom"),
)
FIELDS = ("embeddings", "documents", "metadatas")
WRITERS = 3
MOST = 600  # records of a writer in a collection, about which deletions balance additions
PAGE = 2_000


def contents(collection, key, revisions):
    """What a record holds, by the revision of each field. Whole numbers survive every conversion."""
    vector, document, metadata = revisions
    seed = [COLLECTIONS.index(collection), *map(int, key.split("-")), vector]
    numbers = numpy.random.default_rng(seed).integers(0, 1000, collection.dimensions)
    return (
        list(map(float, numbers)),
        f"document {key}, revision {document}",
        {"key": key, "revision": metadata},
    )


def after(records, operation):
    """The revisions as the operation leaves them."""
    records = dict(records)
    for key in operation.ids:
        if operation.kind == "delete":
            del records[key]
        else:
            records[key] = tuple(
                operation.revision if field in operation.fields else before
                for field, before in zip(FIELDS, records.get(key, (0, 0, 0)), strict=True)
            )
    return records


class Writer:
    """Works alone on the records of its own, in one collection after another."""

    def __init__(self, number):
        self.number = number
        self.count = 0
        self.dice = random.Random(number)
        self.records = {collection: {} for collection in COLLECTIONS}
        self.in_flight = None
        self.refused = None

    def next_operation(self, records):
        self.count += 1
        some = self.dice.sample(list(records), min(len(records), self.dice.randrange(1, 40)))
        new = [f"{self.number}-{self.count}-{n}" for n in range(self.dice.randrange(1, 40))]
        weights = (3, 2, 2, 5 * len(records) / MOST)
        [kind] = self.dice.choices(("add", "update", "upsert", "delete"), weights)
        fields = FIELDS
        if kind == "add" or not some:
            return Operation("add", new, self.count, fields)
        if kind == "update":  # the client would embed a document by itself
            fields = self.dice.choice((FIELDS, FIELDS[:1], FIELDS[2:]))
        return Operation(kind, some + new if kind == "upsert" else some, self.count, fields)

    def write(self, connections):
        """Until the server is gone."""
        while True:
            collection = self.dice.choice(COLLECTIONS)
            operation = self.next_operation(self.records[collection])
            self.in_flight = collection, operation
            try:
                send(connections[collection], collection, operation)
            except httpx.TransportError:
                return
            except Exception as error:
                self.refused = f"{collection}: {operation.kind}: {error!r:.1000}"
                return
            self.records[collection] = after(self.records[collection], operation)
            self.in_flight = None
            # In one piece: `print` writes the end of the line on its own.
            sys.stdout.write(f"{self.number} {collection.name} {operation.kind}\n")
            sys.stdout.flush()

    def settle(self, collection, found):
        """The operation in flight when the server ended was done or not, as a whole."""
        if self.in_flight and self.in_flight[0] == collection:
            done = after(self.records[collection], self.in_flight[1])
            if all(
                found.get(key) == (contents(collection, key, done[key]) if key in done else None)
                for key in self.in_flight[1].ids
            ):
                self.records[collection] = done
            self.in_flight = None


def send(target, collection, operation):
    what = {"ids": operation.ids}
    if operation.kind != "delete":
        revisions = [operation.revision] * len(FIELDS)
        records = [contents(collection, key, revisions) for key in operation.ids]
        what |= dict(zip(FIELDS, map(list, zip(*records, strict=True)), strict=True))
        what = {name: what[name] for name in ("ids", *operation.fields)}
    getattr(target, operation.kind)(**what)


def connect(job):
    """To each collection, which is made when it is not there."""
    where = {"chroma_server_host": job["host"], "chroma_server_http_port": job["port"]}
    api = "chromadb.api.fastapi.FastAPI"
    settings = Settings(anonymized_telemetry=False, chroma_api_impl=api, **where)
    admin = chromadb.AdminClient(settings)
    connections = {}
    for collection in COLLECTIONS:
        names = {"tenant": collection.tenant, "database": collection.database}
        with contextlib.suppress(Exception):  # it is there
            admin.create_tenant(collection.tenant)
        with contextlib.suppress(Exception):
            admin.create_database(collection.database, collection.tenant)
        client = chromadb.HttpClient(job["host"], job["port"], settings=settings, **names)
        threshold = job[collection.threshold]
        metadata = {"hnsw:sync_threshold": threshold, "hnsw:batch_size": min(threshold, 50)}
        connections[collection] = client.get_or_create_collection(
            collection.name,
            metadata={**metadata, "hnsw:search_ef": 500},
            embedding_function=None,
        )
    return connections


def compare(connections, writers):
    """Every acknowledged operation is there and nothing else, and searches find it; how many records
    that are."""
    total = 0
    for collection, target in connections.items():
        found = fetched(target)
        for writer in writers:
            writer.settle(collection, found)
        expected = {
            key: contents(collection, key, revisions)
            for writer in writers
            for key, revisions in writer.records[collection].items()
        }
        missing = sorted(expected.keys() - found.keys())
        assert not missing, f"{collection}: {len(missing)} records are lost: {missing[:50]}"
        extra = sorted(found.keys() - expected.keys())
        assert not extra, f"{collection}: {len(extra)} deleted or half added: {extra[:50]}"
        changed = [
            (key, [now == then for now, then in zip(found[key], expected[key], strict=True)])
            for key in found
            if found[key] != expected[key]
        ]
        assert not changed, f"{collection}: {len(changed)} are not as they were: {changed[:50]}"
        if some := list(found)[:: max(1, len(found) // 100)]:
            # 1.0.0 begins with the farthest where fewer than 100 records are left of more.
            most = min(len(found), 100)
            vectors = [found[key][0] for key in some]
            nearest = target.query(query_embeddings=vectors, n_results=most, include=["distances"])
            results = zip(some, nearest["ids"], nearest["distances"], strict=True)
            missed = [
                key
                for key, ids, distances in results
                if (key, 0.0) not in zip(ids, distances, strict=True)
            ]
            # HNSW is approximate: about one of 500 that were updated cannot be reached any more.
            assert len(missed) <= 4, f"{collection}: queries do not find {missed}"
        total += len(found)
    return total


def fetched(target):
    found = {}
    for offset in range(0, target.count(), PAGE):
        page = target.get(limit=PAGE, offset=offset, include=list(FIELDS))
        for key, vector, *rest in zip(page["ids"], *map(page.get, FIELDS), strict=True):
            found[key] = (list(map(float, vector)), *rest)
    return found


def say(**what):
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def main():
    job = json.loads(sys.stdin.readline())
    writers = [Writer(number) for number in range(WRITERS)]
    for command in sys.stdin:
        connections = connect(job)
        if command == "write\n":
            threads = [threading.Thread(target=it.write, args=[connections]) for it in writers]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            say(refused=[writer.refused for writer in writers if writer.refused])
        else:
            say(records=compare(connections, writers))


main()
