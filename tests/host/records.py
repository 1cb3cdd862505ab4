"""Adds records to a Chroma server and compares them; run by the interpreter of a real client.

Reads from standard input where the server is, how to come in and what to do. Prints the number of
each batch that the server acknowledged, as soon as it did.
"""

import itertools
import json
import random
import sys
import threading

import chromadb
from chromadb.config import Settings

BATCH = 25
PAGE = 10_000  # one answer of 1.5.9 cannot hold more than 32,766 records
DIMENSIONS = 16


def record(number):
    """The vector, the document and the metadata of a record; whole numbers survive every conversion."""
    dice = random.Random(number)
    vector = [float(dice.randrange(1000)) for _ in range(DIMENSIONS)]
    return vector, f"document {number}", {"number": number}


def numbers_of(batch):
    return range(batch * BATCH, (batch + 1) * BATCH)


def connect(job):
    options = {"anonymized_telemetry": False}
    if job.get("provider"):
        options |= {
            "chroma_client_auth_provider": f"chromadb.auth.{job['provider']}",
            "chroma_client_auth_credentials": job["credential"],
        }
        if job.get("header"):
            options["chroma_auth_token_transport_header"] = job["header"]
    return chromadb.HttpClient(job["host"], job["port"], settings=Settings(**options))


def add(collection, batches):
    for batch in batches:
        vectors, documents, metadatas = zip(*map(record, numbers_of(batch)), strict=True)
        collection.add(
            ids=[str(number) for number in numbers_of(batch)],
            embeddings=list(map(list, vectors)),
            documents=list(documents),
            metadatas=list(metadatas),
        )
        # In one piece: `print` writes the end of the line on its own.
        sys.stdout.write(f"{batch}\n")
        sys.stdout.flush()


def compare(collection, acknowledged):
    """Every acknowledged record is there, and all that is there is as it was sent.

    A batch in flight when the server ended may be there without having been acknowledged.
    """
    fields = ["embeddings", "documents", "metadatas"]
    records = {}
    for offset in range(0, collection.count(), PAGE):
        page = collection.get(limit=PAGE, offset=offset, include=fields)
        for key, vector, *rest in zip(page["ids"], *map(page.get, fields), strict=True):
            records[int(key)] = (list(map(float, vector)), *rest)
    missing = [
        number for batch in acknowledged for number in numbers_of(batch) if number not in records
    ]
    assert not missing, f"{len(missing)} acknowledged records are lost: {missing[:100]}"
    changed = [number for number in records if records[number] != record(number)]
    assert not changed, f"records are not as they were sent: {changed[:100]}"
    for number in sorted(records)[:: max(1, len(records) // 10)]:
        nearest = collection.query(query_embeddings=[record(number)[0]], n_results=1)
        assert nearest["ids"] == [[str(number)]], (number, nearest)
        assert nearest["distances"] == [[0.0]], (number, nearest)


def write_until_the_server_is_gone(collection, first, writers):
    """Several threads, none of which reads: what was acknowledged last is what a crash would take."""

    def write(place):
        try:
            add(collection, itertools.count(first + place, writers))
        except Exception as error:
            print(f"writer {place} ended: {error!r:.200}", file=sys.stderr)

    threads = [threading.Thread(target=write, args=[place]) for place in range(writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


job = json.load(sys.stdin)
# The vector index goes to the disk after so many records; left alone, after 1,000.
often = {"hnsw:batch_size": 50, "hnsw:sync_threshold": job["sync_threshold"]}
collection = connect(job).get_or_create_collection("kept", metadata=often, embedding_function=None)
compare(collection, job["acknowledged"])
if job["writers"]:
    write_until_the_server_is_gone(collection, job["first"], job["writers"])
else:
    added = range(job["first"], job["first"] + job["add"])
    add(collection, added)
    compare(collection, [*job["acknowledged"], *added])
