"""Uses a Chroma server as an application does; run by the interpreter of the client under test.

Reads from standard input where the server is and the ways to come in; prints what came of each.
"""

import json
import sys
import uuid

import chromadb
from chromadb.api.client import SharedSystemClient
from chromadb.config import Settings


def options(way):
    if way is None:
        return {}
    if way["provider"] == "headers":
        return {"headers": way["headers"]}
    return {
        "settings": Settings(
            anonymized_telemetry=False,
            chroma_client_auth_provider=way["provider"],
            chroma_client_auth_credentials=way["credential"],
            chroma_auth_token_transport_header=way["header"],
        )
    }


def use(host, port, way):
    SharedSystemClient.clear_system_cache()
    client = chromadb.HttpClient(host=host, port=port, **options(way))
    name = f"c-{uuid.uuid4()}"
    collection = client.create_collection(name, embedding_function=None)
    collection.add(ids=["a", "b"], embeddings=[[1, 0], [0, 1]], documents=["one", "two"])
    found = collection.query(query_embeddings=[[0, 2]], n_results=1)
    assert found["documents"] == [["two"]], found
    client.delete_collection(name)


job = json.load(sys.stdin)
results = []
for way in job["ways"]:
    try:
        use(job["host"], job["port"], way)
        results.append("served")
    except Exception as error:
        results.append(f"{type(error).__name__}: {error}")
json.dump(results, sys.stdout)
