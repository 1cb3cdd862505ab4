"""Fills a Chroma server with a bit of everything, or prints all that it has; run by the interpreter
of a real client, of the server's own release.

Reads from standard input where the server is and what to do. What it prints is JSON, in which two
values are equal only if they have the same type: `1`, `1.0` and `true` are three.
"""

import contextlib
import json
import random
import sys

import chromadb
import numpy
from chromadb.config import Settings

PAGE = 500
RELEASE = tuple(map(int, chromadb.__version__.split(".")[:2]))
HOME = ("default_tenant", "default_database")
ELSEWHERE = ("default_tenant", "second.database-2")
TENANT = ("a tenänt, 2", "second.database-2")
NEW = ("new", "new_database")  # holds what only the newest releases can
OLD = ("old", "données 100%")  # has a name that the newest releases refuse
IDS = (
    *(
        "1",
        "01",
        "1.0",
        "-1",
        "true",
        "null",
        "None",
        "id with spaces",
        " ",
        "a/b",
        "../..",
        "?a=b&c#d",
    ),
    *(
        "quote'd",
        'double "quoted"',
        "back\\slash",
        "%00 %s {}",
        "tab\tand\nline",
        "ümläut",
        "u\u0308",
    ),
    *("日本語", "עברית", "👩🏽‍🚀", "\u200b", "A", "a", "x" * 1000),
)
DOCUMENTS = (
    "",
    " ",
    "a\r\nb\tc",
    "日本語 and 👩🏽‍🚀",
    "\u2028\u2029",
    '{"json": [1, "2"]}',
    "long " * 5000,
    None,
)
METADATAS = (
    None,
    {"text": "", "more": "日本語 \n 👩🏽‍🚀", "number like": "1"},
    {"whole": 0, "large": 2**53 + 1, "least": -(2**63), "most": 2**63 - 1},
    {"float": 0.1, "whole": 1.0, "huge": 1.7976931348623157e308, "tiny": 5e-324, "negative": -2.5},
    {"yes": True, "no": False},
    {"a.key/with 'odd' characters é": 1, "chroma": "x", "mixed": 1.5, "y": "z", "z": False},
)
LEGACY = {"ef_construction": "construction_ef", "ef_search": "search_ef", "max_neighbors": "M"}
NUMBERS = (0.0, -0.0, 1e-45, -1.1754942e-38, 3.4028235e38, 0.1, 1 / 3, 16777217.0, -1e-7, 1.0)


def vectors(count, dimensions, seed):
    return (
        numpy.random.default_rng(seed)
        .normal(size=(count, dimensions))
        .astype(numpy.float32)
        .tolist()
    )


def settings(job):
    where = {"chroma_server_host": job["host"], "chroma_server_http_port": job["port"]}
    api = "chromadb.api.fastapi.FastAPI"
    return Settings(anonymized_telemetry=False, chroma_api_impl=api, **where)


class Server:
    def __init__(self, job):
        self._job = job
        self._admin = chromadb.AdminClient(settings(job))

    def database(self, tenant, name):
        """A client of this database, which is made when it is not there."""
        for there, create, arguments in (
            (self._admin.get_tenant, self._admin.create_tenant, [tenant]),
            (self._admin.get_database, self._admin.create_database, [name, tenant]),
        ):
            try:
                there(*arguments)
            except Exception:
                create(*arguments)
        return self.client(tenant, name)

    def client(self, tenant, name):
        where = self._job["host"], self._job["port"]
        return chromadb.HttpClient(
            *where, settings=settings(self._job), tenant=tenant, database=name
        )

    def databases(self):
        """The databases of the job's tenants. Chroma 0.5 cannot list them: then the job's, if they are
        there."""
        for tenant in self._job["tenants"]:
            if hasattr(self._admin, "list_databases"):
                for database in self._admin.list_databases(limit=1000, tenant=tenant):
                    yield tenant, database["name"]
            else:
                for name in self._job["databases"]:
                    with contextlib.suppress(Exception):
                        self._admin.get_database(name, tenant)
                        yield tenant, name


def make(client, name, space="l2", metadata=None, **hnsw):
    """A collection with these settings, in the way of its release. 1.0.0 ignores a configuration."""
    if RELEASE <= (1, 0):
        keys = {
            "ef_construction": "construction_ef",
            "ef_search": "search_ef",
            "max_neighbors": "M",
        }
        legacy = {
            f"hnsw:{keys.get(it, it)}": value for it, value in {"space": space, **hnsw}.items()
        }
        metadata = {**legacy, **(metadata or {})}
        return client.create_collection(name, metadata=metadata, embedding_function=None)
    options = {"configuration": {"hnsw": {"space": space, **hnsw}}, "embedding_function": None}
    return client.create_collection(name, metadata=metadata, **options)


def fill(server, records):
    home = server.database(*HOME)
    articles = make(home, "articles", "cosine", {"about": "ünïcode", "n": 1, "x": 1.0, "b": True})
    for first in range(0, records, PAGE):
        numbers = range(first, min(first + PAGE, records))
        articles.add(
            ids=[f"article {number}" for number in numbers],
            embeddings=vectors(len(numbers), 16, first),
            documents=[f"The article with the number {number}" for number in numbers],
            metadatas=[{"number": number, "even": number % 2 == 0} for number in numbers],
        )
    odd = make(home, "odd", "ip", ef_construction=77, ef_search=33, max_neighbors=9)
    for number, key in enumerate(IDS):
        odd.add(
            ids=[key],
            embeddings=vectors(1, 3, number),
            documents=[DOCUMENTS[number % len(DOCUMENTS)]] if number % len(DOCUMENTS) < 7 else None,
            metadatas=[METADATAS[number % 6]] if number % 6 else None,
            uris=[f"s3://bucket/ü {number}"] if number % 5 == 0 else None,
        )
    extremes = make(home, "extremes")
    pairs = [[first, second] for first in NUMBERS for second in NUMBERS]
    extremes.add(ids=[str(number) for number in range(len(pairs))], embeddings=pairs)
    make(home, "nothing", "cosine", {"why": "empty"}, sync_threshold=200, batch_size=20)
    emptied = make(home, "emptied")
    emptied.add(ids=["1", "2"], embeddings=vectors(2, 5, 0))
    emptied.delete(ids=["1", "2"])
    home.create_collection("a.legacy_one-2", metadata={"hnsw:space": "ip", "hnsw:M": 12})
    for where, dimensions in ((ELSEWHERE, 40), (TENANT, 2)):
        same = make(server.database(*where), "articles", "l2", {"where": "/".join(where)})
        same.add(ids=["a", "article 1"], embeddings=vectors(2, dimensions, 1), documents=["1", "2"])
    if RELEASE < (1, 5):
        make(server.database(*OLD), "articles").add(ids=["1"], embeddings=[[1.0, 2.0]])
    else:
        # The metadata has no effect beside a configuration.
        misleading = {"hnsw:space": "l2", "hnsw:search_ef": 5, "hnsw:M": 7, "other": 1}
        make(home, "misleading", "cosine", misleading, ef_search=44).add(
            ids=["a", "b"], embeddings=vectors(2, 4, 2)
        )
        lists = make(server.database(*NEW), "lists")
        metadatas = [{"words": ["a", "ü"], "whole": [1, 2], "float": [1.0, 0.5], "bools": [True]}]
        lists.add(ids=["1"], embeddings=[[1.0, 2.0]], metadatas=metadatas)


def plain(value):
    return json.dumps(value, sort_keys=True)


def records(collection):
    """Of each record, by its id, what it holds; the vector as the hexadecimal of its float32s."""
    found, fields = {}, ["embeddings", "documents", "metadatas", "uris"]
    for offset in range(0, collection.count(), PAGE):
        page = collection.get(limit=PAGE, offset=offset, include=fields)
        for key, vector, *rest in zip(page["ids"], *map(page.get, fields), strict=True):
            packed = numpy.asarray(vector, numpy.float32).tobytes().hex()
            assert key not in found, f"{key} is on two pages"
            document, metadata, uri = rest
            # No metadata is null in one release and empty in another.
            found[key] = [packed, plain(document), plain(metadata or None), plain(uri)]
    return found


def nearest(collection, found):
    """What a search of some of its vectors finds: by the id, that of each found and its distance."""
    some = random.Random(1).sample(sorted(found), min(len(found), 5))
    if not some:
        return {}
    queries = [
        numpy.frombuffer(bytes.fromhex(found[key][0]), numpy.float32).tolist() for key in some
    ]
    result = collection.query(
        query_embeddings=queries, n_results=min(len(found), 5), include=["distances"]
    )
    pairs = zip(result["ids"], result["distances"], strict=True)
    return {key: dict(zip(*pair, strict=True)) for key, pair in zip(some, pairs, strict=True)}


def index_settings(collection):
    """Those that were given, as 1.x names them, and those that hold otherwise. Up to 1.0.0 they are in
    the metadata (chromadb/segment/impl/vector/hnsw_params.py)."""
    if given := (getattr(collection, "configuration_json", None) or {}).get("hnsw"):
        return given, {}
    otherwise = {
        "space": "l2",
        "ef_construction": 100,
        "ef_search": 10 if RELEASE < (0, 6) else 100,
        "max_neighbors": 16,
        "resize_factor": 1.2,
        "batch_size": 100,
        "sync_threshold": 1000,
    }
    metadata = collection.metadata or {}
    given = {it: metadata.get(f"hnsw:{LEGACY.get(it, it)}") for it in otherwise}
    return {it: value for it, value in given.items() if value is not None}, otherwise


def embedding_function(collection):
    """None where the release keeps none."""
    configuration = getattr(collection, "configuration_json", None) or {}
    if not configuration.get("hnsw"):
        return None
    function = configuration.get("embedding_function")
    return plain(None if function == {"type": "legacy"} else function)


def contents(collection):
    found, (given, otherwise) = records(collection), index_settings(collection)
    schema = collection.schema if RELEASE >= (1, 3) else None
    metadata = (collection.metadata or {}).items()
    return {
        "metadata": {it: plain(value) for it, value in metadata if not it.startswith("hnsw:")},
        "index": given,
        "index otherwise": otherwise,
        "embedding function": embedding_function(collection),
        "schema": schema and plain(schema.serialize_to_json()),
        "records": found,
        "nearest": nearest(collection, found),
    }


def read(server):
    everything = {}
    for tenant, database in server.databases():
        client = server.client(tenant, database)
        # 0.6 gives only names, as objects that refuse to have anything else.
        names = [str(it) if RELEASE == (0, 6) else it.name for it in client.list_collections()]
        everything.setdefault(tenant, {})[database] = {
            name: contents(client.get_collection(name, embedding_function=None)) for name in names
        }
    return everything


job = json.load(sys.stdin)
if job["do"] == "fill":
    fill(Server(job), job["records"])
else:
    json.dump(read(Server(job)), sys.stdout)
