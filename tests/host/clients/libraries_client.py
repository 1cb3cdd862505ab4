"""Uses a Chroma server as a user by the stores of LangChain and LlamaIndex; run by the interpreter that has them.

Reads from standard input where the server is, and the users: the headers of each, and the name of a collection
that is not there. Prints for each what came of the operations of each library.
"""

import json
import sys

import chromadb
from chromadb.api.client import SharedSystemClient
from langchain_chroma import Chroma
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from llama_index.core.schema import TextNode
from llama_index.core.vector_stores import VectorStoreQuery
from llama_index.vector_stores.chroma import ChromaVectorStore

SHARED = "shared"
NODE = TextNode(id_="node", text="three", embedding=[1.0, 1.0])


def langchain(headers, missing, **where):
    def store(name, **more):
        embeddings = DeterministicFakeEmbedding(size=2)
        return Chroma(name, embeddings, headers=headers, **where, **more)

    shared = None

    def start():
        nonlocal shared
        shared = store(SHARED, collection_metadata={"changed": "yes"})

    return {
        "start": start,
        "start without creating": lambda: store(SHARED, create_collection_if_not_exists=False),
        "similarity_search": lambda: shared.similarity_search("one", k=1),
        "max_marginal_relevance_search": lambda: shared.max_marginal_relevance_search("one", k=1),
        "get": lambda: shared.get(),
        "get_by_ids": lambda: shared.get_by_ids(["a"]),
        "add_texts": lambda: shared.add_texts(["three"], metadatas=[{"kind": "new"}], ids=["new"]),
        "update_document": lambda: shared.update_document(
            "new", Document("four", metadata={"kind": "new"})
        ),
        "delete": lambda: shared.delete(["new"]),
        "start with a missing collection": lambda: store(missing),
        "from_texts": lambda: Chroma.from_texts(
            ["three"], DeterministicFakeEmbedding(size=2), client=shared._client, ids=["new"]
        ),
        "delete_collection": lambda: shared.delete_collection(),
        "reset_collection": lambda: shared.reset_collection(),
    }


def llamaindex(headers, missing, **where):
    def store(name):
        return ChromaVectorStore(collection_name=name, headers=headers, **where)

    shared = None

    def start():
        nonlocal shared
        shared = store(SHARED)

    def start_with_a_collection():
        client = chromadb.HttpClient(headers=headers, **where)
        return ChromaVectorStore(chroma_collection=client.get_or_create_collection(SHARED))

    query = VectorStoreQuery(query_embedding=[0.0, 2.0], similarity_top_k=1)
    return {
        "start": start,
        "start with a collection": start_with_a_collection,
        "query": lambda: shared.query(query),
        "get_nodes": lambda: shared.get_nodes(None),
        "add": lambda: shared.add([NODE]),
        "delete": lambda: shared.delete("document"),
        "delete_nodes": lambda: shared.delete_nodes(["node"]),
        "start with a missing collection": lambda: store(missing),
        "clear": lambda: shared.clear(),
    }


def results(operations):
    found = {}
    for operation, call in operations.items():
        # As in a program of its own: clients that are made alike share one.
        if operation.startswith("start"):
            SharedSystemClient.clear_system_cache()
        try:
            call()
            found[operation] = "done"
        except Exception as error:
            found[operation] = f"{type(error).__name__}: {error}"
    return found


job = json.load(sys.stdin)
where = {"host": job["host"], "port": job["port"]}
found = []
for user in job["ways"]:
    found.append(
        {
            library.__name__: results(library(user["headers"], user["name"], **where))
            for library in (langchain, llamaindex)
        }
    )
json.dump(found, sys.stdout)
