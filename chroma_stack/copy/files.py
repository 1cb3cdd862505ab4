"""Folders and streams: compressed JSON lines; docs/moving.md has the format."""

from __future__ import annotations

import base64
import dataclasses
import gzip
import hashlib
import json
import os
import re
import sqlite3
import threading
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import chroma_stack
from chroma_stack.copy.errors import CopyError
from chroma_stack.copy.model import (
    BATCH,
    Collection,
    Page,
    Record,
    Records,
    describe_difference,
    only,
)
from chroma_stack.copy.server import Names

FORMAT, VERSION = "chroma-stack copy", 1

MANIFEST, UNFINISHED = "manifest.json", "manifest.unfinished.json"

PART_RECORDS, PART_BYTES = 50_000, 64 * 2**20
"""A file of records ends at whichever comes first; bytes before compression."""

LINE_BYTES = 2**28
"""The longest line that is read, a quarter of a GiB."""

_PART_NAME = re.compile(r"[0-9]{6}-[0-9]{6}\.jsonl\.gz")
_OWN_NEW = re.compile(rf"({_PART_NAME.pattern}|{MANIFEST}|{UNFINISHED})\.new")
_DESCRIPTION = tuple(it.name for it in dataclasses.fields(Collection))


def to_line(record: Record) -> bytes:
    """A record as a line."""
    entry: dict[str, Any] = {
        "id": record.id,
        "vector": base64.b64encode(record.vector).decode(),
        "document": record.document,
        "metadata": record.metadata or None,
        "uri": record.uri,
    }
    entry = {name: value for name, value in entry.items() if value is not None}
    return json.dumps(entry, separators=(",", ":")).encode() + b"\n"


def to_record(line: bytes) -> Record:
    """The record of a line.

    :raises ValueError: when it is none.
    """
    entry = json.loads(line)
    if not isinstance(entry, dict) or entry.keys() - {
        "id",
        "vector",
        "document",
        "metadata",
        "uri",
    }:
        raise ValueError("it is no record")
    for name, kinds in (
        ("id", str),
        ("vector", str),
        ("document", str | None),
        ("metadata", dict | None),
        ("uri", str | None),
    ):
        if not isinstance(entry.get(name), kinds):
            raise ValueError(f"its {name} is of the wrong type")
    vector = base64.b64decode(entry["vector"], validate=True)
    if len(vector) % 4:
        raise ValueError("its vector is not of float32 numbers")
    return Record(
        entry["id"], vector, entry.get("document"), entry.get("metadata"), entry.get("uri")
    )


def to_description(collection: Collection) -> dict[str, Any]:
    """A collection as a manifest has it."""
    return {name: getattr(collection, name) for name in _DESCRIPTION}


def to_collection(description: Mapping[str, Any]) -> Collection:
    """The collection of a manifest.

    :raises ValueError: when it is none.
    """
    if not isinstance(description, dict):
        raise ValueError("a collection is no object")
    for name, kinds in (
        ("tenant", str),
        ("database", str),
        ("name", str),
        ("id", str),
        ("metadata", dict | None),
        ("configuration", dict | None),
        ("schema", dict | None),
        ("dimension", int | None),
    ):
        if not isinstance(description.get(name), kinds):
            raise ValueError(f"the {name} of a collection is of the wrong type")
        if kinds is str:
            description[name].encode()  # JSON can hold more than a server can be sent
    return Collection(**{name: description.get(name) for name in _DESCRIPTION})  # type: ignore[arg-type]


def _head(release: str) -> dict[str, Any]:
    releases = {"source": release, "chroma-stack": chroma_stack.__version__}
    return {"format": FORMAT, "version": VERSION, "releases": releases}


def _source_release(head: Mapping[str, Any]) -> str:
    return str(head.get("releases", {}).get("source", ""))


def _checked_head(text: bytes, where: str) -> dict[str, Any]:
    """The manifest, or the first line of a stream."""
    try:
        head = json.loads(text)
        is_ours = head["format"] == FORMAT and isinstance(head.get("releases", {}), dict)
        version = head["version"]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        is_ours, version = False, 0
    if not is_ours or not isinstance(version, int):
        raise CopyError(f"{where} is no copy that this program made.")
    if version > VERSION:
        raise CopyError(
            f"{where} is of version {version} of the format, and this program reads up to "
            f"{VERSION}: install a newer chroma-stack."
        )
    return dict(head)


def _chosen(collections: Sequence[Collection], names: Names) -> list[Collection]:
    for chosen, part in (
        (names.tenants, "tenant"),
        (names.databases, "database"),
        (names.collections, "name"),
    ):
        option = "collection" if part == "name" else part
        there = only(chosen, [getattr(it, part) for it in collections], option)
        collections = [it for it in collections if getattr(it, part) in there]
    return list(collections)


def _key(collection: Collection) -> tuple[str, str, str]:
    return collection.tenant, collection.database, collection.name


@dataclasses.dataclass
class _Kept:
    """A collection in a folder, with its files."""

    collection: Collection
    files: list[dict[str, Any]]

    @property
    def records(self) -> int:
        return sum(int(it["records"]) for it in self.files)

    def entry(self) -> dict[str, Any]:
        return {**to_description(self.collection), "records": self.records, "files": self.files}


def _read_manifest(file: Path) -> tuple[dict[str, Any], list[_Kept]]:
    try:
        head = _checked_head(file.read_bytes(), str(file))
    except OSError as error:
        raise CopyError(f"{file} cannot be read: {error.strerror}.") from None
    kept = []
    try:
        for number, entry in enumerate(_listed(head), 1):
            for count, part in enumerate(entry["files"], 1):
                # A name is all that leads to a file: none of another folder.
                if part["name"] != _part_name(number, count):
                    raise CopyError(
                        f"{file} names {part['name']!r}, which is no file of a copy, or not in "
                        "its place."
                    )
                if not (_is_count(part["records"]) and isinstance(part["sha256"], str)):
                    raise ValueError("a file has no number of records, or no checksum")
            kept.append(_Kept(to_collection(entry), entry["files"]))
            if not _is_count(entry["records"]) or entry["records"] != kept[-1].records:
                raise ValueError(
                    f"{kept[-1].collection.path} has {entry['records']!r} records, and its files "
                    f"have {kept[-1].records}"
                )
        _refuse_twice([it.collection for it in kept])
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise CopyError(f"{file} is damaged: {_what(error)}.") from None
    return head, kept


def _listed(head: Mapping[str, Any]) -> list[Any]:
    if not isinstance(head["collections"], list):
        raise ValueError("its collections are no list")
    return head["collections"]


def _part_name(collection: int, part: int) -> str:
    """The file of a collection, both counted from 1."""
    return f"{collection:06}-{part:06}.jsonl.gz"


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _refuse_twice(collections: Sequence[Collection]) -> None:
    seen = set[tuple[str, str, str]]()
    for collection in collections:
        if _key(collection) in seen:
            raise ValueError(f"{collection.path} is listed twice")
        seen.add(_key(collection))


def _what(error: Exception) -> str:
    return f"{error} is missing" if isinstance(error, KeyError) else str(error)


def _lines(file: BinaryIO | gzip.GzipFile, where: str) -> Iterator[bytes]:
    """Whole lines of something compressed."""
    try:
        while line := file.readline(LINE_BYTES):
            if not line.endswith(b"\n"):
                raise CopyError(f"{where} is cut off, or has a line of more than {LINE_BYTES} B.")
            yield line
    except (EOFError, OSError, zlib.error) as error:
        raise CopyError(f"{where} is cut off, or damaged: {error}") from None


def _to_record(line: bytes, where: str) -> Record:
    try:
        return to_record(line)
    except (ValueError, RecursionError) as error:
        raise CopyError(f"{where} has a line that cannot be used: {error}.") from None


class _Parts:
    """The files of a folder, and what reads them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._indexes: dict[tuple[str, str, str], sqlite3.Connection] = {}
        self._lock = threading.Lock()

    def check(self, kept: _Kept) -> None:
        """Refuse files that are not as they were written."""
        for part in kept.files:
            file = self.folder / part["name"]
            if file.is_symlink() or not file.is_file():
                raise CopyError(f"{file} is missing, or no plain file.")
            digest = hashlib.sha256()
            with file.open("rb") as content:
                while block := content.read(2**20):
                    digest.update(block)
            if digest.hexdigest() != part["sha256"]:
                raise CopyError(f"{file} was changed or damaged: its checksum does not match.")

    def lines(self, kept: _Kept) -> Iterator[bytes]:
        for part in kept.files:
            file = self.folder / part["name"]
            count = 0
            with gzip.open(file) as content:
                for line in _lines(content, str(file)):
                    count += 1
                    yield line
            if count != part["records"]:
                raise CopyError(f"{file} has {count} records, not {part['records']}.")

    def look_up(self, kept: _Kept, ids: Sequence[str]) -> Records:
        """Records by their ids, from an index in a temporary file that is made at the first call."""
        with self._lock:
            try:
                index = self._indexes.get(_key(kept.collection))
                if index is None:
                    index = self._indexes[_key(kept.collection)] = self._index(kept)
                found = {}
                for id in ids:
                    query = "SELECT line FROM records WHERE id = ?"
                    if row := index.execute(query, (_blob(id),)).fetchone():
                        found[id] = _to_record(zlib.decompress(row[0]), str(self.folder))
            except sqlite3.Error as error:
                raise CopyError(
                    f"The temporary file for the index of {kept.collection.path} cannot be used: "
                    f"{error}. Name a folder with as much room as its files by SQLITE_TMPDIR."
                ) from None
            return found

    def _index(self, kept: _Kept) -> sqlite3.Connection:
        # Without a name SQLite makes a file that is gone when it is closed, in the folder of
        # SQLITE_TMPDIR, of TMPDIR, or /var/tmp: https://www.sqlite.org/tempfiles.html.
        index = sqlite3.connect("", check_same_thread=False, isolation_level=None)
        index.execute("PRAGMA journal_mode = OFF")
        index.execute("CREATE TABLE records (id BLOB PRIMARY KEY, line BLOB) WITHOUT ROWID")
        rows = (
            (_blob(_to_record(line, str(self.folder)).id), zlib.compress(line, 1))
            for line in self.lines(kept)
        )
        index.execute("BEGIN")
        index.executemany("INSERT OR REPLACE INTO records VALUES (?, ?)", rows)
        index.execute("COMMIT")
        return index


def _blob(id: str) -> bytes:
    # Any string that JSON can hold.
    return id.encode(errors="surrogatepass")


class FolderSource:
    """A folder that a copy was made to.

    :param folder: where it is.
    :param names: which of its collections are meant.
    :raises CopyError: when it holds no complete copy, or one of a newer format.
    """

    batch = BATCH
    places: Sequence[str] = ()

    def __init__(self, folder: Path, names: Names | None = None) -> None:
        self._names = names or Names()
        if (folder / UNFINISHED).exists():
            raise CopyError(
                f"{folder} holds an unfinished copy: there is a {UNFINISHED}. Run the copy to it "
                "again with --resume."
            )
        if not (folder / MANIFEST).exists():
            raise CopyError(f"{folder} holds no copy: there is no {MANIFEST}.")
        head, kept = _read_manifest(folder / MANIFEST)
        self.release = _source_release(head)
        self._kept = {_key(it.collection): it for it in kept}
        self._parts = _Parts(folder)
        self._checked = set[tuple[str, str, str]]()

    def collections(self) -> list[Collection]:
        """Those that were chosen, after a look at the checksums of all their files."""
        chosen = _chosen([it.collection for it in self._kept.values()], self._names)
        for collection in chosen:
            self._check(_key(collection))
        return chosen

    def _check(self, key: tuple[str, str, str]) -> None:
        if key not in self._checked:
            self._parts.check(self._kept[key])
            self._checked.add(key)

    def find(self, collection: Collection) -> Collection | None:
        """The collection of the same tenant, database and name."""
        key = _key(collection)
        if key not in self._kept:
            return None
        self._check(key)
        return self._kept[key].collection

    def count(self, collection: Collection) -> int:
        """How many records it has."""
        return self._kept[_key(collection)].records

    def pages(self, collection: Collection, size: int) -> Iterator[Page]:
        """All records, in the order in which they were written."""
        lines = self._parts.lines(self._kept[_key(collection)])
        yield from _pages((_to_record(it, str(self._parts.folder)) for it in lines), size)

    def present(self, collection: Collection, ids: Sequence[str]) -> set[str]:
        """Those of the ids that it has."""
        return set(self.records(collection, ids))

    def records(self, collection: Collection, ids: Sequence[str]) -> Records:
        """The records of those ids, as far as it has them."""
        return self._parts.look_up(self._kept[_key(collection)], ids)

    def finish(self) -> None:
        """Nothing: all was checked."""


def _pages(records: Iterator[Record], size: int) -> Iterator[Page]:
    """Pages that hold their records, none of them much longer than a request may be."""
    page: Records = {}
    length = 0
    for record in records:
        page[record.id] = record
        length += len(record.vector) * 2 + len(record.document or "") + 200
        if len(page) >= size or length > 8 * 2**20:
            yield Page(list(page), _reader(page))
            page, length = {}, 0
    if page:
        yield Page(list(page), _reader(page))


def _reader(page: Records) -> Any:
    return lambda ids: {id: page[id] for id in ids}


class FolderTarget:
    """A folder that a copy is made to; it is complete when it has its manifest.

    :param folder: made unless it is there.
    :param release: of the source, for the manifest.
    :param resume: go on with what is there.
    :raises CopyError: when it holds something already.
    """

    batch = BATCH

    def __init__(self, folder: Path, release: str, resume: bool) -> None:
        self.folder = folder
        self._release = release
        self._kept: dict[tuple[str, str, str], _Kept] = {}
        self._before: dict[tuple[str, str, str], _Kept] = {}
        self._parts = _Parts(folder)
        self._lock = threading.Lock()
        self._closed = False
        self._part: _PartWriter | None = None
        try:
            folder.mkdir(parents=True, exist_ok=True)
            content = sorted(it.name for it in folder.iterdir())
        except OSError as error:
            raise CopyError(f"file:{folder} cannot be used: {error.strerror}.") from None
        found = [it for it in (UNFINISHED, MANIFEST) if it in content]
        # What was being written when an earlier copy was killed.
        leftovers = [it for it in content if _OWN_NEW.fullmatch(it)]
        if content != leftovers and not (found and resume):
            kind = {UNFINISHED: "an unfinished copy", MANIFEST: "a copy"}
            holds = kind[found[0]] if found else "other files"
            raise CopyError(
                f"file:{folder} holds {holds} already. Choose an empty folder"
                + (", or go on with --resume." if found else ".")
            )
        if found:
            kept = _read_manifest(folder / found[0])[1]
            self._before = {_key(it.collection): it for it in kept}
            self._kept = {
                key: _Kept(it.collection, list(it.files)) for key, it in self._before.items()
            }
            for it in kept:
                self._parts.check(it)
            listed = {part["name"] for it in kept for part in it.files}
            leftovers += [it for it in content if _PART_NAME.fullmatch(it) and it not in listed]
        for name in leftovers:
            (folder / name).unlink()
        if not found:
            self._write_manifest(UNFINISHED)

    def check(self, collection: Collection) -> None:
        """Refuse one that is there with something else."""
        before = self._before.get(_key(collection))
        if before and (difference := describe_difference(collection, before.collection)):
            raise CopyError(
                f"{collection.path} is in file:{self.folder} with something else: {difference}. "
                "Choose another folder."
            )

    def prepare(self, collection: Collection) -> tuple[Collection, int]:
        """Begin with a collection, or go on with it."""
        with self._lock:
            self._finish_part()
            self._kept.setdefault(_key(collection), _Kept(collection, []))
        before = self._before.get(_key(collection))
        return collection, before.records if before else 0

    def present(self, collection: Collection, ids: Sequence[str]) -> set[str]:
        """Those of the ids that were in the folder before."""
        return set(self.records(collection, ids))

    def records(self, collection: Collection, ids: Sequence[str]) -> Records:
        """Records that were in the folder before."""
        return self._parts.look_up(self._before[_key(collection)], ids)

    def write(self, collection: Collection, records: Iterable[Record]) -> None:
        """Append records to the current file of the collection."""
        lines = [to_line(it) for it in records]
        with self._lock:
            if self._closed:
                return
            kept = self._kept[_key(collection)]
            if self._part is None:
                number = list(self._kept).index(_key(collection)) + 1
                name = _part_name(number, len(kept.files) + 1)
                self._part = _PartWriter(self.folder / name, kept)
            self._part.write(lines)
            if self._part.is_full:
                self._finish_part()

    def _finish_part(self) -> None:
        if self._part is not None:
            self._part.finish()
            self._part = None
            self._write_manifest(UNFINISHED)

    def _write_manifest(self, name: str) -> None:
        manifest = {
            **_head(self._release),
            "collections": [it.entry() for it in self._kept.values()],
        }
        _write(self.folder / name, json.dumps(manifest, indent=1).encode() + b"\n")

    def close(self) -> None:
        """Keep what was written so far for ``--resume``."""
        with self._lock:
            if not self._closed:
                self._finish_part()
                self._closed = True

    def complete(self) -> None:
        """Write the manifest: from now on the folder is a copy."""
        self.close()
        self._write_manifest(MANIFEST)
        (self.folder / UNFINISHED).unlink(missing_ok=True)
        _sync(self.folder)


class _PartWriter:
    """A file of records, beside its name until it is whole."""

    def __init__(self, file: Path, kept: _Kept) -> None:
        self._file, self._kept = file, kept
        self._records = self._bytes = 0
        self._raw = file.with_name(f"{file.name}.new").open("wb")
        # Base64 of floats hardly shrinks further with more work.
        self._gzip = gzip.GzipFile("", "wb", 1, self._raw, mtime=0)

    @property
    def is_full(self) -> bool:
        return self._records >= PART_RECORDS or self._bytes >= PART_BYTES

    def write(self, lines: Sequence[bytes]) -> None:
        for line in lines:
            self._gzip.write(line)
            self._records += 1
            self._bytes += len(line)

    def finish(self) -> None:
        self._gzip.close()
        self._raw.flush()
        os.fsync(self._raw.fileno())
        self._raw.close()
        beside = Path(self._raw.name)
        with beside.open("rb") as content:
            digest = hashlib.sha256()
            while block := content.read(2**20):
                digest.update(block)
        beside.replace(self._file)
        _sync(self._file.parent)
        self._kept.files.append(
            {"name": self._file.name, "records": self._records, "sha256": digest.hexdigest()}
        )


def _write(file: Path, content: bytes) -> None:
    """All of it, or what was there before."""
    beside = file.with_name(f"{file.name}.new")
    with beside.open("wb") as output:
        output.write(content)
        output.flush()
        os.fsync(output.fileno())
    beside.replace(file)
    _sync(file.parent)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class StreamTarget:
    """One stream, such as standard output."""

    batch = BATCH

    def __init__(self, output: BinaryIO, release: str) -> None:
        self._release = release
        self._gzip = gzip.GzipFile("", "wb", 1, output, mtime=0)
        self._output = output
        self._digest = hashlib.sha256()
        self._collections: list[Collection] = []
        self._counts: list[int] = []
        self._lock = threading.Lock()

    def check(self, collection: Collection) -> None:
        """Note it for the first line, which names all."""
        self._collections.append(collection)

    def prepare(self, collection: Collection) -> tuple[Collection, int]:
        """Begin with the next collection."""
        self._begin()
        self._line({"collection": len(self._counts)})
        self._counts.append(0)
        return collection, 0

    def _begin(self) -> None:
        if not self._counts:
            descriptions = [to_description(it) for it in self._collections]
            self._line({**_head(self._release), "collections": descriptions})

    def _line(self, entry: Mapping[str, Any]) -> None:
        self._write(json.dumps(entry, separators=(",", ":")).encode() + b"\n")

    def _write(self, line: bytes) -> None:
        self._digest.update(line)
        self._gzip.write(line)

    def present(self, collection: Collection, ids: Sequence[str]) -> set[str]:
        """None: a stream begins empty."""
        return set()

    def records(self, collection: Collection, ids: Sequence[str]) -> Records:
        """None: a stream begins empty."""
        return {}

    def write(self, collection: Collection, records: Iterable[Record]) -> None:
        """Append records."""
        lines = [to_line(it) for it in records]
        with self._lock:
            for line in lines:
                self._write(line)
            self._counts[-1] += len(lines)

    def complete(self) -> None:
        """Write the last line, without which the stream is cut off."""
        self._begin()
        end = {"records": self._counts, "sha256": self._digest.hexdigest()}
        self._line({"end": end})
        self._gzip.close()
        self._output.flush()

    def close(self) -> None:
        """Nothing: without its last line the stream is cut off."""


class StreamSource:
    """One stream, such as standard input; it can be read once.

    :raises CopyError: when it does not begin as one does.
    """

    batch = BATCH
    places: Sequence[str] = ()
    where = "file:-"

    def __init__(self, content: BinaryIO, names: Names | None = None) -> None:
        self._names = names or Names()
        self._digest = hashlib.sha256()
        self._file = gzip.GzipFile(fileobj=content)
        self._source = _lines(self._file, self.where)
        first = next(self._source, b"")
        self._digest.update(first)
        head = _checked_head(first, self.where)
        self.release = _source_release(head)
        try:
            self._collections = [to_collection(it) for it in _listed(head)]
            _refuse_twice(self._collections)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise CopyError(f"{self.where} is damaged: {_what(error)}.") from None
        self._counts: list[int] = []
        self._entries = self._read()

    def collections(self) -> list[Collection]:
        """Those that were chosen."""
        return _chosen(self._collections, self._names)

    def count(self, collection: Collection) -> None:
        """Known at the end only."""

    def _read(self) -> Iterator[Record | None]:
        """Records, and nothing where a collection begins; checks the end."""
        for line in self._source:
            if line.startswith(b'{"id":'):
                self._digest.update(line)
                if not self._counts:
                    break
                self._counts[-1] += 1
                yield _to_record(line, self.where)
                continue
            try:
                entry = json.loads(line)
            except (ValueError, RecursionError):
                break
            if entry == {"collection": len(self._counts)}:
                self._digest.update(line)
                self._counts.append(0)
                yield None
                continue
            end = {"records": self._counts, "sha256": self._digest.hexdigest()}
            all_began = len(self._counts) == len(self._collections)
            if all_began and entry == {"end": end} and next(self._source, None) is None:
                return
            break
        else:
            raise CopyError(f"{self.where} is cut off: its last line is missing.")
        raise CopyError(f"{self.where} is damaged: a line, or the checksum, is wrong.")

    def pages(self, collection: Collection, size: int) -> Iterator[Page]:
        """All records of the next collection that was chosen."""
        number = self._collections.index(collection)
        while len(self._counts) <= number:
            next(self._entries)

        def records() -> Iterator[Record]:
            for entry in self._entries:
                if entry is None:
                    return
                yield entry

        yield from _pages(records(), size)

    def finish(self) -> None:
        """Read to the end.

        :raises CopyError: when the stream was cut off or changed.
        """
        for _ in self._entries:
            pass
