"""Does as a user of a Chroma server all that an application can; run by the interpreter of the client under test.

Reads from standard input where the server is, and the ways to come in: what each sends for its credential, and
the name of the collection that it tries to create. Prints what came of each operation.
"""

import asyncio
import inspect
import json
import sys

import chromadb
from chromadb.api.client import SharedSystemClient
from chromadb.config import Settings

SHARED = "shared"
NEW = {"ids": ["new"], "embeddings": [[1, 1]], "documents": ["three"]}


def operations(client, shared, name):
    """What an application asks for, each in one call, in an order in which all of it can succeed."""
    return {
        "heartbeat": lambda: client.heartbeat(),
        "version": lambda: client.get_version(),
        "list_collections": lambda: client.list_collections(),
        "count_collections": lambda: client.count_collections(),
        "get_collection": lambda: client.get_collection(SHARED, embedding_function=None),
        "get_or_create_collection": lambda: client.get_or_create_collection(
            SHARED, embedding_function=None, metadata={"changed": "yes"}
        ),
        "get_missing_collection": lambda: client.get_collection(name, embedding_function=None),
        "count": lambda: shared.count(),
        "peek": lambda: shared.peek(),
        "get": lambda: shared.get(ids=["a"]),
        "query": lambda: shared.query(query_embeddings=[[0, 2]], n_results=1),
        "add": lambda: shared.add(**NEW),
        "update": lambda: shared.update(**NEW),
        "upsert": lambda: shared.upsert(**NEW),
        "delete": lambda: shared.delete(ids=["new"]),
        "modify": lambda: shared.modify(metadata={"changed": "yes"}),
        "get_or_create_missing_collection": lambda: client.get_or_create_collection(
            name, embedding_function=None
        ),
        "create_collection": lambda: client.create_collection(f"{name}-2", embedding_function=None),
        "delete_collection": lambda: client.delete_collection(SHARED),
        "reset": lambda: client.reset(),
    }


def options(way):
    """The arguments of the client that have it send the credential."""
    if "headers" in way:
        return {"headers": way["headers"]}
    settings = {
        "chroma_client_auth_provider": way["provider"],
        "chroma_client_auth_credentials": way["credential"],
    }
    if "header" in way:
        settings["chroma_auth_token_transport_header"] = way["header"]
    return {"settings": Settings(anonymized_telemetry=False, **settings)}


async def done(result):
    return await result if inspect.isawaitable(result) else result


def told(error):
    return f"{type(error).__name__}: {error}"


async def use(host, port, way):
    SharedSystemClient.clear_system_cache()
    make = chromadb.AsyncHttpClient if way.get("async") else chromadb.HttpClient
    client = await done(make(host=host, port=port, **options(way)))
    shared = await done(client.get_collection(SHARED, embedding_function=None))
    results = {}
    for operation, call in operations(client, shared, way["name"]).items():
        try:
            await done(call())
            results[operation] = "done"
        except Exception as error:
            results[operation] = told(error)
    return results


async def use_all(job):
    results = []
    for way in job["ways"]:
        try:
            results.append(await use(job["host"], job["port"], way))
        except Exception as error:
            results.append({"start": told(error)})
    return results


json.dump(asyncio.run(use_all(json.load(sys.stdin))), sys.stdout)
