"""Calls a Chroma server over TLS as an application does; run by the interpreter of the client under test.

Reads lines from standard input: where the server is, and the ways to call it. Prints for each line what
came of each way.
"""

import asyncio
import json
import os
import sys

import chromadb
from chromadb.api.async_fastapi import AsyncFastAPI
from chromadb.api.client import SharedSystemClient
from chromadb.config import Settings

PROVIDER = "chromadb.auth.token_authn.TokenAuthClientProvider"


def options(job, way):
    """The arguments of the client: the settings of a `way` by their names in the client."""
    settings = {"anonymized_telemetry": False}
    if "verify" in way:
        settings["chroma_server_ssl_verify"] = way["verify"]
    headers = {"Authorization": f"Bearer {job['token']}"}
    if way.get("provider"):
        settings["chroma_client_auth_provider"] = PROVIDER
        settings["chroma_client_auth_credentials"] = job["token"]
        headers = None
    return {
        "host": way.get("host", job["host"]),
        "port": way.get("port", job["port"]),
        "ssl": way.get("ssl", True),
        "headers": headers,
        "settings": Settings(**settings),
    }


def use(job, way):
    SharedSystemClient.clear_system_cache()
    client = chromadb.HttpClient(**options(job, way))
    client.get_or_create_collection("tls", embedding_function=None).count()


async def use_async(job, way):
    SharedSystemClient.clear_system_cache()
    client = await chromadb.AsyncHttpClient(**options(job, way))
    collection = await client.get_or_create_collection("tls", embedding_function=None)
    await collection.count()


async def use_one_after_the_other(job, ways):
    """Several clients in one event loop."""
    return [await result_async(job, way) for way in ways]


def described(error):
    """The error as a user sees it, and what the traceback says was its first cause."""
    shown = f"{type(error).__name__}: {error}"
    while error.__context__ is not None and not error.__suppress_context__:
        error = error.__context__
    return {"shown": shown, "cause": f"{type(error).__name__}: {error}"}


async def result_async(job, way):
    try:
        await use_async(job, way)
        return {"shown": "served"}
    except Exception as error:
        return described(error)


def result(job, way):
    # By the event loop, whose hash the next one may have again.
    AsyncFastAPI._clients.clear()
    os.environ.update(way.get("environment", {}))
    try:
        return result_here(job, way)
    finally:
        for name in way.get("environment", {}):
            del os.environ[name]


def result_here(job, way):
    if way.get("one_loop"):
        return asyncio.run(use_one_after_the_other(job, way["one_loop"]))
    if way.get("async"):
        return asyncio.run(result_async(job, way))
    try:
        use(job, way)
        return {"shown": "served"}
    except Exception as error:
        return described(error)


for line in sys.stdin:
    job = json.loads(line)
    print(json.dumps([result(job, way) for way in job["ways"]]), flush=True)
