"""Adds records to a Chroma server and compares them; run by the interpreter of a real client.

Reads from standard input where the server is, how to come in and what to do. Prints how many
records the server acknowledged before this ended.
"""

import json
import sys

import chromadb
from chromadb.config import Settings

BATCH = 25
DIMENSIONS = 16


def vector(number):
    return [float((number * (place + 3)) % 101) for place in range(DIMENSIONS)]


def document(number):
    return f"document {number}"


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


def add(collection, first, last):
    for start in range(first, last, BATCH):
        numbers = range(start, min(start + BATCH, last))
        collection.add(
            ids=[str(number) for number in numbers],
            embeddings=[vector(number) for number in numbers],
            documents=[document(number) for number in numbers],
            metadatas=[{"number": number} for number in numbers],
        )
        print(numbers[-1] + 1, flush=True)


def compare(collection, count):
    """Every record is there as it was added, and queries find it."""
    found = collection.get(include=["embeddings", "documents", "metadatas"])
    rows = zip(
        found["ids"], found["embeddings"], found["documents"], found["metadatas"], strict=True
    )
    records = {key: (list(map(float, it)), text, meta) for key, it, text, meta in rows}
    for number in range(count):
        expected = (vector(number), document(number), {"number": number})
        assert records.get(str(number)) == expected, (number, records.get(str(number)))
    for number in range(0, count, max(1, count // 10)):
        nearest = collection.query(query_embeddings=[vector(number)], n_results=1)
        assert nearest["distances"] == [[0.0]], nearest


job = json.load(sys.stdin)
collection = connect(job).get_or_create_collection("kept", embedding_function=None)
compare(collection, job["expect"])
add(collection, job["expect"], job["expect"] + job["add"])
compare(collection, job["expect"] + job["add"])
