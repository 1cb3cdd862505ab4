"""Collections and records, as they are between a source and a target, and how two are compared."""

from __future__ import annotations

import array
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from chroma_stack.copy.errors import CopyError

BATCH = 1000
"""Most records in a request, unless ``--batch`` says otherwise."""

FLOAT_TOLERANCE = 1e-15
"""How far, relatively, two floats in metadata may differ and be the same.

Chroma 1.x reads a number by a parser that may be one unit in the last place off: of 2,500 random
floats, 404 came back changed from 1.0.0 and from 1.5.9, and none from 0.6.3.
"""

COSINE_TOLERANCE = 1e-6
"""How far, relatively, two numbers of a vector may differ in a collection of the space ``cosine``.

Every release from 0.5.0 to 1.5.9 normalizes such a vector for its index and scales it back when it
is read, so that of 2,500 random vectors 2,089 came back with another last digit.
"""


@dataclass(frozen=True, slots=True)
class Collection:
    """A collection without its records.

    :param id: the server's own id; text.
    :param configuration: as the server says it; releases have different forms, 0.5.0 has none.
    :param schema: as Chroma from 1.3 on says it.
    :param dimension: of its vectors; ``None`` without records, and in 0.5.0.
    """

    tenant: str
    database: str
    name: str
    id: str = ""
    metadata: Mapping[str, Any] | None = None
    configuration: Mapping[str, Any] | None = None
    schema: Mapping[str, Any] | None = None
    dimension: int | None = None

    @property
    def path(self) -> str:
        """Its name in messages."""
        return f"{self.tenant}/{self.database}/{self.name}"


@dataclass(frozen=True, slots=True)
class Record:
    """A record; ``vector`` is the bytes of float32 numbers, little-endian."""

    id: str
    vector: bytes
    document: str | None = None
    metadata: Mapping[str, Any] | None = None
    uri: str | None = None


Records = dict[str, Record]
"""Records by their ids."""


class Page(NamedTuple):
    """Ids of records, and what reads those of them that are asked for."""

    ids: Sequence[str]
    read: Callable[[Sequence[str]], Records]


class Source(Protocol):
    """Where collections are read from."""

    batch: int
    """Most records that it gives at once."""

    places: Sequence[str]
    """The databases that were looked at, as ``TENANT/DATABASE``; of a folder or stream none."""

    def collections(self) -> list[Collection]:
        """Those that were chosen."""

    def count(self, collection: Collection) -> int | None:
        """How many records it has, where that is known."""

    def pages(self, collection: Collection, size: int) -> Iterator[Page]:
        """All records, at most ``size`` at once."""

    def finish(self) -> None:
        """Look at what comes behind all records.

        :raises CopyError: when something is missing.
        """


class Lookup(Protocol):
    """Where records are looked up by their ids."""

    def present(self, collection: Collection, ids: Sequence[str]) -> set[str]:
        """Those of the ids that it has."""

    def records(self, collection: Collection, ids: Sequence[str]) -> Records:
        """The records of those ids, as far as it has them."""


class Target(Lookup, Protocol):
    """Where collections are written to."""

    batch: int

    def check(self, collection: Collection) -> None:
        """Refuse a collection that it cannot take; nothing is written.

        :raises CopyError: with a sentence that names the collection.
        """

    def prepare(self, collection: Collection) -> tuple[Collection, int]:
        """Create the collection unless it is there.

        :returns: the collection in the target, and how many records it has already.
        :raises CopyError: when it is there with other metadata or another configuration.
        """

    def write(self, collection: Collection, records: Iterable[Record]) -> None:
        """Write records, those that are there anew. Threads may call it at once."""

    def complete(self) -> None:
        """Everything was written."""

    def close(self) -> None:
        """Nothing more is written, whether everything was or not."""


class Readable(Source, Lookup, Protocol):
    """What can be compared with a source."""

    def find(self, collection: Collection) -> Collection | None:
        """The collection of the same tenant, database and name."""


def to_bytes(numbers: Iterable[float]) -> bytes:
    """A vector as float32, little-endian."""
    vector = array.array("f", numbers)
    if sys.byteorder == "big":
        vector.byteswap()
    return vector.tobytes()


def to_numbers(vector: bytes) -> list[float]:
    """The numbers of a vector of :func:`to_bytes`."""
    numbers = array.array("f", vector)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tolist()


# What an index can be set to, and how 0.x and 1.0 are told by the collection's metadata.
_KEYS = {
    "space": "hnsw:space",
    "ef_construction": "hnsw:construction_ef",
    "ef_search": "hnsw:search_ef",
    "max_neighbors": "hnsw:M",
    "resize_factor": "hnsw:resize_factor",
    "sync_threshold": "hnsw:sync_threshold",
}
# What is the default by the kind of index: HNSW of one machine, and SPANN of Chroma Cloud, of
# https://github.com/chroma-core/chroma/blob/main/rust/types/src/spann_configuration.rs. That of
# ef_search was 10 until 0.5.23.
_DEFAULTS: Mapping[str, Mapping[str, tuple[Any, ...]]] = {
    "hnsw": {
        "space": ("l2",),
        "ef_construction": (100,),
        "ef_search": (10, 100),
        "max_neighbors": (16,),
        "resize_factor": (1.2,),
        "sync_threshold": (1000,),
    },
    "spann": {
        "space": ("l2",),
        "ef_construction": (200,),
        "ef_search": (200,),
        "max_neighbors": (64,),
    },
}


def _has_configuration(collection: Collection) -> bool:
    """Whether the configuration is of the form that counts; in 0.x and 1.0.0 the metadata does."""
    return bool(collection.configuration) and "hnsw_configuration" not in (
        collection.configuration or {}
    )


def _index_kind(collection: Collection) -> str:
    """``hnsw`` or ``spann``."""
    configuration = collection.configuration or {}
    return "spann" if configuration.get("spann") and not configuration.get("hnsw") else "hnsw"


def index_settings(collection: Collection) -> dict[str, Any]:
    """What the index is set to, as far as it is not the default."""
    metadata, kind = collection.metadata or {}, _index_kind(collection)
    if _has_configuration(collection):
        index = (collection.configuration or {}).get(kind) or {}
    else:
        index = {name: metadata[key] for name, key in _KEYS.items() if key in metadata}
    return {
        name: index[name]
        for name, defaults in _DEFAULTS[kind].items()
        if index.get(name) is not None and index[name] not in defaults
    }


def _settings_of_any_kind(collection: Collection) -> dict[str, Any]:
    """Those of the settings that an index of another kind can have as well."""
    return {name: value for name, value in index_settings(collection).items() if name == "space"}


def embedding_function(collection: Collection) -> Any:
    """The entry of the configuration, where the release has one."""
    return (collection.configuration or {}).get("embedding_function")


_ENABLED = {
    "fts_index": False,
    "vector_index": False,
    "sparse_vector_index": False,
    "string_inverted_index": True,
    "int_inverted_index": True,
    "float_inverted_index": True,
    "bool_inverted_index": True,
}
_ENABLED_OF_KEY = {
    ("#document", "fts_index"): True,
    ("#document", "string_inverted_index"): False,
    ("#embedding", "vector_index"): True,
}


def custom_schema(collection: Collection) -> dict[str, Any]:
    """What somebody chose in the schema: indexes that are on or off by key, and sparse vectors.

    A server adds each key of a record's metadata to the schema by itself; these are not here.
    """
    schema = collection.schema or {}
    chosen: dict[str, Any] = {}
    for key, types in {"": schema.get("defaults") or {}, **(schema.get("keys") or {})}.items():
        for indexes in types.values():
            for name, index in indexes.items():
                usual = _ENABLED_OF_KEY.get((key, name), _ENABLED.get(name))
                if index.get("enabled") != usual:
                    chosen[f"{name} of {key or 'all keys'}"] = index.get("enabled")
    return chosen


def creation(collection: Collection, configures: bool, takes_schema: bool) -> dict[str, Any]:
    """What a server is asked to create for a collection.

    :param configures: whether the server heeds a configuration; else metadata says it.
    :param takes_schema: whether it takes a schema.
    """
    metadata = dict(collection.metadata or {})
    body: dict[str, Any] = {"name": collection.name, "get_or_create": False}
    configuration = collection.configuration or {}
    if takes_schema and custom_schema(collection):
        body["schema"] = collection.schema
    elif _has_configuration(collection) and configures:
        body["configuration"] = {
            kind: {k: v for k, v in configuration[kind].items() if kind != "hnsw" or k in _KEYS}
            for kind in ("hnsw", "spann", "embedding_function")
            if configuration.get(kind)
        }
        if "hnsw" in body["configuration"]:
            body["configuration"]["hnsw"] |= _batch_size(collection)
    elif _has_configuration(collection):
        # Beside a configuration they have no effect.
        metadata = {it: value for it, value in metadata.items() if it not in _KEYS.values()}
        if _index_kind(collection) == "spann":
            settings = _settings_of_any_kind(collection)
        else:
            # Said even if it is the default, which is another one in 0.5.
            ef_search = (configuration.get("hnsw") or {}).get("ef_search")
            settings = {"ef_search": ef_search, **index_settings(collection)}
        metadata |= {_KEYS[it]: value for it, value in settings.items() if value is not None}
        metadata |= {f"hnsw:{it}": value for it, value in _batch_size(collection).items()}
    body["metadata"] = metadata or None
    return body


def _batch_size(collection: Collection) -> dict[str, int]:
    """The size of the batches in which records go to the index, unless it is the default, 100. Only
    the schema says it."""
    schema: Any = collection.schema or {}
    for key in ("keys", "#embedding", "float_list", "vector_index", "config", "hnsw"):
        schema = schema.get(key) or {}
    size = schema.get("batch_size", 100)
    return {} if size == 100 else {"batch_size": size}


def describe_difference(source: Collection, target: Collection) -> str:
    """What differs between two collections beside their records, or nothing.

    What only one of two releases can have, such as the entry of an embedding function, is no
    difference; between an index of one machine and one of Chroma Cloud, only the space is.
    """
    theirs = [_own_metadata(it) for it in (source, target)]
    if theirs[0] != theirs[1]:
        return f"metadata {_brief(theirs[0])} and {_brief(theirs[1])}"
    same_kind = _index_kind(source) == _index_kind(target)
    settings_of = index_settings if same_kind else _settings_of_any_kind
    settings = [settings_of(it) for it in (source, target)]
    if settings[0] != settings[1]:
        return f"configuration {_brief(settings[0])} and {_brief(settings[1])}"
    if _has_configuration(source) and _has_configuration(target):
        functions = [embedding_function(it) for it in (source, target)]
        if functions[0] != functions[1]:
            return f"embedding function {_brief(functions[0])} and {_brief(functions[1])}"
    if source.schema and target.schema:
        schemas = [custom_schema(it) for it in (source, target)]
        if schemas[0] != schemas[1]:
            return f"schema {_brief(schemas[0])} and {_brief(schemas[1])}"
    return ""


def _own_metadata(collection: Collection) -> dict[str, Any]:
    """Without what sets the index, and with floats that compare as :data:`FLOAT_TOLERANCE` says."""
    return {
        key: round(value, 14) if isinstance(value, float) else value
        for key, value in (collection.metadata or {}).items()
        if key not in (*_KEYS.values(), "hnsw:batch_size")
    }


def record_difference(one: Record, other: Record, cosine: bool) -> str:
    """Which part of two records with the same id differs, or nothing.

    :param cosine: whether the collection's space is ``cosine``; see :data:`COSINE_TOLERANCE`.
    """
    if one.vector != other.vector and not (cosine and _same_direction(one.vector, other.vector)):
        return "vector"
    if one.document != other.document:
        return "document"
    if not same_metadata(one.metadata, other.metadata):
        return "metadata"
    return "" if one.uri == other.uri else "uri"


def same_metadata(one: Mapping[str, Any] | None, other: Mapping[str, Any] | None) -> bool:
    """Whether two records have the same metadata; none and empty metadata are the same."""
    one, other = one or {}, other or {}
    return one.keys() == other.keys() and all(
        _same_value(value, other[key]) for key, value in one.items()
    )


def _same_value(one: Any, other: Any) -> bool:
    if type(one) is not type(other):
        return False
    if isinstance(one, float):
        return math.isclose(one, other, rel_tol=FLOAT_TOLERANCE)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(_same_value, one, other))
    if isinstance(one, dict):
        return same_metadata(one, other)
    return bool(one == other)


def _same_direction(one: bytes, other: bytes) -> bool:
    return len(one) == len(other) and all(
        math.isclose(a, b, rel_tol=COSINE_TOLERANCE, abs_tol=1e-30)
        for a, b in zip(to_numbers(one), to_numbers(other), strict=True)
    )


def is_cosine(collection: Collection) -> bool:
    """Whether the space of its vectors is ``cosine``."""
    return index_settings(collection).get("space") == "cosine"


def only(chosen: Sequence[str], names: Sequence[str], what: str, where: str = "") -> list[str]:
    """Those of the names that were chosen; all, when nothing was.

    :param what: the option that chooses, without its hyphens.
    :param where: in which tenants or databases the names are, for the message.
    :raises CopyError: when one that was chosen is not there.
    """
    for name in chosen:
        if name not in names:
            within = f" in {where}" if where else ""
            has = ", ".join(sorted(set(names))[:10]) or "nothing"
            raise CopyError(
                f"--{what} {name}: the source has none of that name{within}, which has {has}."
            )
    return [name for name in names if not chosen or name in chosen]


def _brief(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 300 else f"{text[:300]}…"
