"""The command that copies collections, without a server."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import math
import socket
import sqlite3
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chroma_stack.copy import files, model, server
from chroma_stack.copy.__main__ import main
from chroma_stack.copy.errors import CopyError
from chroma_stack.copy.files import FolderSource, FolderTarget, StreamSource, StreamTarget
from chroma_stack.copy.model import Collection, Record
from chroma_stack.copy.server import Names, Server
from chroma_stack.copy.work import Options, copy

DOCUMENTS = Collection(
    "default_tenant",
    "default_database",
    "documents",
    "8fd4ae73-9b19-4b0c-ae4c-c2c0e2a1d3f5",
    {"owner": "search", "hnsw:space": "cosine"},
    {"hnsw": {"space": "cosine"}, "spann": None, "embedding_function": None},
    None,
    3,
)
EMPTY = Collection("default_tenant", "default_database", "empty")

floats = st.floats(allow_nan=False, allow_infinity=False)
vectors = st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), max_size=8)
scalars = st.booleans() | st.integers(-(2**63), 2**63 - 1) | floats | st.text()
values = scalars | st.lists(st.text(), min_size=1, max_size=3) | st.lists(floats, max_size=3)
records = st.builds(
    Record,
    st.text(min_size=1),
    vectors.map(model.to_bytes),
    st.none() | st.text(),
    st.none() | st.dictionaries(st.text(), values, min_size=1, max_size=4),
    st.none() | st.text(),
)


def some(count: int) -> list[Record]:
    return [
        Record(f"id {n}", struct.pack("<3f", n, 0.1, -n), f"document {n}", {"n": n})
        for n in range(count)
    ]


def fill(target: FolderTarget | StreamTarget, count: int = 5) -> None:
    for collection in (DOCUMENTS, EMPTY):
        target.check(collection)
    target.prepare(DOCUMENTS)
    target.write(DOCUMENTS, some(count))
    target.prepare(EMPTY)


def folder_with(path: Path, count: int = 5) -> Path:
    target = FolderTarget(path, "1.0.0", resume=False)
    fill(target, count)
    target.complete()
    return path


def stream_with(count: int = 5) -> bytes:
    output = io.BytesIO()
    target = StreamTarget(output, "1.0.0")
    fill(target, count)
    target.complete()
    return output.getvalue()


def all_records(source: FolderSource | StreamSource, collection: Collection) -> list[Record]:
    return [it for page in source.pages(collection, 2) for it in page.read(page.ids).values()]


def lines_of(stream: bytes) -> list[bytes]:
    return gzip.decompress(stream).splitlines(keepends=True)


# The format.


@given(records)
def test_a_record_comes_back_from_its_line(record: Record) -> None:
    line = files.to_line(record)
    again = files.to_record(line)
    assert line.count(b"\n") == 1
    assert again == record
    assert model.record_difference(record, again, cosine=False) == ""


@given(vectors)
def test_a_vector_is_float32_little_endian(numbers: list[float]) -> None:
    vector = model.to_bytes(numbers)
    assert vector == struct.pack(f"<{len(numbers)}f", *numbers)
    assert model.to_bytes(model.to_numbers(vector)) == vector


def test_a_folder_gives_what_was_written_to_it(tmp_path: Path) -> None:
    source = FolderSource(folder_with(tmp_path / "copy"))
    assert source.collections() == [DOCUMENTS, EMPTY]
    assert all_records(source, DOCUMENTS) == some(5)
    assert all_records(source, EMPTY) == []
    assert (source.count(DOCUMENTS), source.count(EMPTY)) == (5, 0)


def test_a_folder_finds_records_by_their_ids(tmp_path: Path) -> None:
    source = FolderSource(folder_with(tmp_path / "copy"))
    assert source.records(DOCUMENTS, ["id 3", "nowhere"]) == {"id 3": some(4)[3]}
    assert source.present(DOCUMENTS, ["id 3", "nowhere"]) == {"id 3"}


def test_a_full_disk_under_the_index_of_a_folder_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = sqlite3.connect

    def small(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection = connect(*arguments, **options)
        connection.execute("PRAGMA max_page_count = 3")
        return connection

    monkeypatch.setattr(sqlite3, "connect", small)
    source = FolderSource(folder_with(tmp_path / "copy", 1_000))
    with pytest.raises(CopyError, match=r"disk is full. Name a folder .* by SQLITE_TMPDIR"):
        source.records(DOCUMENTS, ["id 3"])


def test_a_stream_gives_what_was_written_to_it() -> None:
    source = StreamSource(io.BytesIO(stream_with()))
    assert source.collections() == [DOCUMENTS, EMPTY]
    assert all_records(source, DOCUMENTS) == some(5)
    assert all_records(source, EMPTY) == []
    source.finish()


def test_a_stream_gives_only_the_collections_that_were_chosen() -> None:
    source = StreamSource(io.BytesIO(stream_with()), Names(collections=["empty"]))
    assert source.collections() == [EMPTY]
    assert all_records(source, EMPTY) == []
    source.finish()


def test_files_of_a_folder_are_of_bounded_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "PART_RECORDS", 2)
    target = FolderTarget(tmp_path / "copy", "1.0.0", resume=False)
    target.prepare(DOCUMENTS)
    for record in some(5):
        target.write(DOCUMENTS, [record])
    target.complete()
    manifest = json.loads((tmp_path / "copy" / "manifest.json").read_text())
    [collection] = manifest["collections"]
    assert [it["records"] for it in collection["files"]] == [2, 2, 1]
    assert all_records(FolderSource(tmp_path / "copy"), DOCUMENTS) == some(5)


def test_a_copy_from_a_folder_to_a_stream_keeps_everything(tmp_path: Path) -> None:
    output = io.BytesIO()
    source = FolderSource(folder_with(tmp_path / "copy", 2_345))
    reports = copy(source, StreamTarget(output, ""), Options(100), *_quiet())
    assert [(it.name, it.records, it.copied) for it in reports] == [
        ("documents", 2_345, 2_345),
        ("empty", 0, 0),
    ]
    read = all_records(StreamSource(io.BytesIO(output.getvalue())), DOCUMENTS)
    assert sorted(read, key=lambda it: it.metadata["n"]) == some(2_345)  # type: ignore[index]


def _quiet() -> tuple[Any, Any]:
    return (lambda collection, records, expected: None), threading.Event()


# What was interrupted, cut off or changed.


def test_an_unfinished_folder_is_no_source(tmp_path: Path) -> None:
    target = FolderTarget(tmp_path / "copy", "1.0.0", resume=False)
    fill(target)
    target.close()
    assert not (tmp_path / "copy" / "manifest.json").exists()
    with pytest.raises(CopyError, match=r"holds an unfinished copy.*--resume"):
        FolderSource(tmp_path / "copy")


def test_an_unfinished_folder_goes_on_with_what_it_has(tmp_path: Path) -> None:
    first = FolderTarget(tmp_path / "copy", "1.0.0", resume=False)
    fill(first, 3)
    first.close()
    (tmp_path / "copy" / "000001-000002.jsonl.gz.new").write_text("was being written")

    source = FolderSource(folder_with(tmp_path / "source"))
    target = FolderTarget(tmp_path / "copy", "1.0.0", resume=True)
    reports = copy(source, target, Options(2, resume=True), *_quiet())
    assert [(it.records, it.copied) for it in reports] == [(5, 2), (0, 0)]
    assert all_records(FolderSource(tmp_path / "copy"), DOCUMENTS) == some(5)
    assert sorted(it.name for it in (tmp_path / "copy").iterdir()) == [
        "000001-000001.jsonl.gz",
        "000001-000002.jsonl.gz",
        "manifest.json",
    ]


@pytest.mark.parametrize("resume", [False, True])
def test_a_folder_whose_copy_was_killed_at_its_first_write_is_as_an_empty_one(
    tmp_path: Path, resume: bool
) -> None:
    (tmp_path / "manifest.unfinished.json.new").write_text('{"form')
    target = FolderTarget(tmp_path, "1.0.0", resume)
    fill(target)
    target.complete()
    assert all_records(FolderSource(tmp_path), DOCUMENTS) == some(5)
    names = sorted(it.name for it in tmp_path.iterdir())
    assert names == ["000001-000001.jsonl.gz", "manifest.json"]


def test_a_folder_in_which_a_copy_goes_on_is_no_source(tmp_path: Path) -> None:
    target = FolderTarget(folder_with(tmp_path / "copy"), "1.0.0", resume=True)
    target.prepare(DOCUMENTS)
    target.write(DOCUMENTS, some(7)[5:])
    target.close()
    with pytest.raises(CopyError, match=r"holds an unfinished copy.*--resume"):
        FolderSource(tmp_path / "copy")
    FolderTarget(tmp_path / "copy", "1.0.0", resume=True).complete()
    assert all_records(FolderSource(tmp_path / "copy"), DOCUMENTS) == some(7)


@pytest.mark.parametrize("resume", [False, True])
def test_a_folder_with_other_files_is_no_target(tmp_path: Path, resume: bool) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(CopyError, match=r"holds other files already. Choose an empty folder"):
        FolderTarget(tmp_path, "1.0.0", resume)
    assert [it.name for it in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_folder_with_a_copy_is_a_target_only_to_go_on(tmp_path: Path) -> None:
    with pytest.raises(CopyError, match="holds a copy already"):
        FolderTarget(folder_with(tmp_path / "copy"), "1.0.0", resume=False)


def change_a_byte(folder: Path) -> None:
    file = folder / "000001-000001.jsonl.gz"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def remove_a_file(folder: Path) -> None:
    (folder / "000001-000001.jsonl.gz").unlink()


def make_a_link(folder: Path) -> None:
    file = folder / "000001-000001.jsonl.gz"
    file.rename(folder / "elsewhere")
    file.symlink_to("elsewhere")


@pytest.mark.parametrize("damage", [change_a_byte, remove_a_file, make_a_link])
def test_a_damaged_folder_is_refused_before_anything_is_copied(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    damage(folder_with(tmp_path / "copy"))
    with pytest.raises(CopyError, match=r"000001-000001.jsonl.gz (was changed|is missing)"):
        FolderSource(tmp_path / "copy").collections()


@pytest.mark.parametrize(
    "name", ["../000001-000001.jsonl.gz", "/etc/passwd", "a/000001-000001.jsonl.gz", "x", 1]
)
def test_a_file_that_is_none_of_a_copy_is_not_opened(tmp_path: Path, name: object) -> None:
    folder = folder_with(tmp_path / "copy")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["collections"][0]["files"][0]["name"] = name
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(CopyError, match=r"which is no file of a copy|is damaged"):
        FolderSource(folder)


def without_files(manifest: dict[str, Any]) -> None:
    manifest["collections"][0]["files"] = []


def with_more_records(manifest: dict[str, Any]) -> None:
    manifest["collections"][0]["records"] = 3_000


def with_records_that_are_no_number(manifest: dict[str, Any]) -> None:
    manifest["collections"][1]["records"] = False


def without_a_number_of_records(manifest: dict[str, Any]) -> None:
    del manifest["collections"][1]["records"]


def with_fewer_than_no_records(manifest: dict[str, Any]) -> None:
    [part] = manifest["collections"][0]["files"]
    manifest["collections"][0]["records"] = part["records"] = -5


def with_a_collection_twice(manifest: dict[str, Any]) -> None:
    manifest["collections"].append(manifest["collections"][1])


def with_a_file_twice(manifest: dict[str, Any]) -> None:
    manifest["collections"][0]["files"] *= 2
    manifest["collections"][0]["records"] *= 2


def with_the_file_of_another_collection(manifest: dict[str, Any]) -> None:
    manifest["collections"].reverse()


def with_a_gap_between_files(manifest: dict[str, Any]) -> None:
    manifest["collections"][0]["files"][0]["name"] = "000001-000002.jsonl.gz"


def with_a_name_that_cannot_be_sent(manifest: dict[str, Any]) -> None:
    manifest["collections"][1]["tenant"] = "\udcff"


@pytest.mark.parametrize(
    "change",
    [
        without_files,
        with_more_records,
        with_records_that_are_no_number,
        without_a_number_of_records,
        with_fewer_than_no_records,
        with_a_collection_twice,
        with_a_file_twice,
        with_the_file_of_another_collection,
        with_a_gap_between_files,
        with_a_name_that_cannot_be_sent,
    ],
)
def test_a_manifest_that_does_not_agree_with_itself_is_refused(
    tmp_path: Path, change: Callable[[dict[str, Any]], None]
) -> None:
    folder = folder_with(tmp_path / "copy")
    manifest = json.loads((folder / "manifest.json").read_text())
    change(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(CopyError, match=r"is damaged: .|names .* not in its place"):
        FolderSource(folder)


@pytest.mark.parametrize(
    "change",
    [
        {"collections": 1},
        {"collections": {}},
        {"collections": [{}]},
        {"collections": [[]]},
        {"collections": [{"files": 1}]},
    ],
)
def test_a_damaged_manifest_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    folder = folder_with(tmp_path / "copy")
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, **change}))
    with pytest.raises(CopyError, match="is damaged"):
        FolderSource(folder)


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    folder = folder_with(tmp_path / "copy")
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "version": 2}))
    with pytest.raises(CopyError, match=r"of version 2 .* install a newer chroma-stack"):
        FolderSource(folder)


NO_HEADS = [
    b"",
    b"{}",
    b"[]",
    b"\xff",
    b"[" * 100_000,
    b'{"format": "other"}',
    b'{"format": "chroma-stack copy", "version": 1e400}',
    b'{"format": "chroma-stack copy", "version": "1"}',
    b'{"format": "chroma-stack copy", "version": 1, "releases": "x"}',
]


@pytest.mark.parametrize("content", NO_HEADS)
def test_another_file_is_no_manifest(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(CopyError, match="is no copy that this program made"):
        FolderSource(tmp_path)


def read_stream(content: bytes) -> list[Record]:
    source = StreamSource(io.BytesIO(content))
    found = [it for each in source.collections() for it in all_records(source, each)]
    source.finish()
    return found


def test_a_stream_that_is_cut_off_anywhere_is_refused() -> None:
    stream = stream_with()
    for length in range(len(stream)):
        with pytest.raises(CopyError, match=r"file:- is"):
            read_stream(stream[:length])


def test_a_stream_without_one_of_its_lines_is_refused() -> None:
    lines = lines_of(stream_with())
    assert read_stream(gzip.compress(b"".join(lines))) == some(5)
    for left_out in range(len(lines)):
        rest = lines[:left_out] + lines[left_out + 1 :]
        with pytest.raises(CopyError, match=r"file:- is"):
            read_stream(gzip.compress(b"".join(rest)))


def test_a_stream_with_a_changed_record_is_refused() -> None:
    changed = gzip.decompress(stream_with()).replace(b"document 3", b"document 4")
    with pytest.raises(CopyError, match="the checksum, is wrong"):
        read_stream(gzip.compress(changed))


def without_the_last_collection(lines: list[bytes]) -> list[bytes]:
    return [it for it in lines if it != b'{"collection":1}\n']


def with_another_collection(lines: list[bytes]) -> list[bytes]:
    return [*lines[:-1], b'{"collection":2}\n', lines[-1]]


def with_a_collection_named_twice(lines: list[bytes]) -> list[bytes]:
    head = json.loads(lines[0])
    head["collections"][1] = head["collections"][0]
    return [json.dumps(head).encode() + b"\n", *lines[1:]]


def with_a_deep_line(lines: list[bytes]) -> list[bytes]:
    return [*lines[:2], b"[" * 100_000 + b"\n", *lines[2:]]


def with_a_deep_record(lines: list[bytes]) -> list[bytes]:
    return [*lines[:2], b'{"id":' + b"[" * 100_000 + b"\n", *lines[2:]]


@pytest.mark.parametrize(
    "change",
    [
        without_the_last_collection,
        with_another_collection,
        with_a_collection_named_twice,
        with_a_deep_line,
        with_a_deep_record,
    ],
)
def test_a_stream_that_does_not_agree_with_itself_is_refused(
    change: Callable[[list[bytes]], list[bytes]],
) -> None:
    *lines, _ = change(lines_of(stream_with()))
    begun, read = (sum(it.startswith(start) for it in lines) for start in (b'{"coll', b'{"id"'))
    last = {
        "records": [read] + [0] * (begun - 1),
        "sha256": hashlib.sha256(b"".join(lines)).hexdigest(),
    }
    lines.append(json.dumps({"end": last}).encode() + b"\n")
    with pytest.raises(CopyError, match=r"file:- (is damaged|has a line that cannot be used)"):
        read_stream(gzip.compress(b"".join(lines)))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"text",
        gzip.compress(b"", mtime=0),
        *(gzip.compress(it + b"\n", mtime=0) for it in NO_HEADS),
    ],
)
def test_another_stream_is_refused(content: bytes) -> None:
    with pytest.raises(CopyError, match=r"file:- is"):
        read_stream(content)


@pytest.mark.parametrize(
    "line",
    [
        b"[]",
        b"1",
        b'{"id":1,"vector":""}',
        b'{"id":"a"}',
        b'{"id":"a","vector":"AAA="}',
        b'{"id":"a","vector":"!"}',
        b'{"id":"a","vector":"","document":1}',
        b'{"id":"a","vector":"","metadata":[]}',
        b'{"id":"a","vector":"","more":1}',
    ],
)
def test_a_line_that_is_no_record_is_refused(line: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        files.to_record(line)


# What is compared.


@pytest.mark.parametrize(
    ("changed", "part"),
    [
        (Record("a", struct.pack("<2f", 1, 2.0000002), "d", {"k": 1}, "u"), "vector"),
        (Record("a", struct.pack("<f", 1), "d", {"k": 1}, "u"), "vector"),
        (Record("a", struct.pack("<2f", 1, 2), "e", {"k": 1}, "u"), "document"),
        (Record("a", struct.pack("<2f", 1, 2), None, {"k": 1}, "u"), "document"),
        (Record("a", struct.pack("<2f", 1, 2), "d", {"k": 1.0}, "u"), "metadata"),
        (Record("a", struct.pack("<2f", 1, 2), "d", {"k": True}, "u"), "metadata"),
        (Record("a", struct.pack("<2f", 1, 2), "d", {"l": 1}, "u"), "metadata"),
        (Record("a", struct.pack("<2f", 1, 2), "d", None, "u"), "metadata"),
        (Record("a", struct.pack("<2f", 1, 2), "d", {"k": 1}, "v"), "uri"),
    ],
)
def test_each_part_of_a_record_is_compared(changed: Record, part: str) -> None:
    record = Record("a", struct.pack("<2f", 1, 2), "d", {"k": 1}, "u")
    assert model.record_difference(record, changed, cosine=False) == part


def test_vectors_that_the_server_normalizes_may_differ_in_the_last_digit() -> None:
    one = Record("a", struct.pack("<2f", 1, 2))
    near = Record("a", struct.pack("<2f", 1, 2.0000002))
    other = Record("a", struct.pack("<2f", 1, 2.00001))
    assert model.record_difference(one, near, cosine=True) == ""
    assert model.record_difference(one, other, cosine=True) == "vector"


def test_floats_in_metadata_may_differ_by_what_chroma_loses() -> None:
    value = 0.1 + 0.2
    assert model.same_metadata({"f": value}, {"f": math.nextafter(value, 1)})
    assert not model.same_metadata({"f": value}, {"f": 0.3000000000001})
    assert model.same_metadata(None, {})


def collection(
    metadata: dict[str, Any] | None = None, configuration: dict[str, Any] | None = None
) -> Collection:
    return Collection("t", "d", "c", "", metadata, configuration)


SPANN = {
    "spann": {
        "space": "cosine",
        "ef_construction": 200,
        "ef_search": 200,
        "max_neighbors": 64,
        "search_nprobe": 64,
    }
}
OF_063 = {"hnsw_configuration": {"space": "l2", "M": 16}, "_type": "…"}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (
            collection({"hnsw:space": "cosine"}, OF_063),
            collection(None, {"hnsw": {"space": "cosine"}}),
        ),
        (
            collection({"a": 1, "hnsw:M": 32}),
            collection({"a": 1, "hnsw:M": 32}, {"hnsw": {"max_neighbors": 32}}),
        ),
        (
            collection(None, {"hnsw": {"ef_search": 100}, "embedding_function": {"name": "x"}}),
            collection(None, OF_063),
        ),
        (collection(None, SPANN), collection(None, {"spann": {"space": "cosine"}})),
        (collection(None, SPANN), collection(None, {"hnsw": {"space": "cosine"}, "spann": None})),
        (
            collection(None, {**SPANN, "hnsw": None}),
            collection(None, {"hnsw": {"space": "cosine", "max_neighbors": 32}}),
        ),
        (collection(None, SPANN), collection({"hnsw:space": "cosine"}, OF_063)),
    ],
)
def test_settings_of_the_index_are_the_same_in_each_form(
    one: Collection, other: Collection
) -> None:
    assert model.describe_difference(one, other) == ""
    assert model.describe_difference(other, one) == ""


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        (collection({"a": 1}), collection({"a": 2}), "metadata {'a': 1} and {'a': 2}"),
        (
            collection({"hnsw:space": "ip"}, OF_063),
            collection(None, {"hnsw": {"space": "l2"}}),
            "configuration {'space': 'ip'} and {}",
        ),
        (
            collection(None, SPANN),
            collection(None, {"hnsw": {"space": "l2"}}),
            "configuration {'space': 'cosine'} and {}",
        ),
        (
            collection(None, {"hnsw": {"space": "ip"}}),
            collection(None, SPANN),
            "configuration {'space': 'ip'} and {'space': 'cosine'}",
        ),
        (
            collection(None, {"spann": {"max_neighbors": 16}}),
            collection(None, {"spann": {"max_neighbors": 64}}),
            "configuration {'max_neighbors': 16} and {}",
        ),
        (
            collection(None, {"hnsw": {}, "embedding_function": {"name": "x"}}),
            collection(None, {"hnsw": {}, "embedding_function": None}),
            "embedding function {'name': 'x'} and None",
        ),
    ],
)
def test_other_settings_are_a_difference(one: Collection, other: Collection, said: str) -> None:
    assert model.describe_difference(one, other) == said


def test_an_old_release_is_told_settings_by_metadata() -> None:
    without_effect = {"hnsw:space": "l2", "hnsw:construction_ef": 7}
    new = collection(
        {"a": 1, **without_effect},
        {"hnsw": {"space": "cosine", "max_neighbors": 32, "ef_search": 100}},
    )
    body = model.creation(new, configures=False, takes_schema=False)
    settings = {"hnsw:space": "cosine", "hnsw:M": 32, "hnsw:search_ef": 100}
    assert body["metadata"] == {"a": 1, **settings}
    assert "configuration" not in body


def test_an_old_release_is_told_of_the_clouds_index_only_what_it_can_have() -> None:
    body = model.creation(collection({"a": 1}, SPANN), configures=False, takes_schema=False)
    assert body["metadata"] == {"a": 1, "hnsw:space": "cosine"}


def test_a_new_release_is_told_metadata_of_an_old_one() -> None:
    body = model.creation(collection({"hnsw:M": 32}, OF_063), configures=True, takes_schema=True)
    assert body["metadata"] == {"hnsw:M": 32}
    assert not body.keys() & {"configuration", "schema"}


# The command line.


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["ftp://a", "file:b"], "http://HOST:PORT"),
        (["localhost:8000", "file:b"], "http://HOST:PORT"),
        (["http://", "file:b"], "http://HOST:PORT"),
        (["http://a?token=x", "file:b"], "http://HOST:PORT"),
        (["http://user:secret-word@a", "file:b"], "use --source-credential-file"),
        (["file:", "http://a"], "names no folder"),
        (["http://a:8000", "http://A:8000/"], "another --target-database"),
        (["file:a", "file:a"], "the same folder"),
        (["http://a", "file:-", "--verify"], "refused with the target file:-"),
        (["http://a", "file:-", "--json"], "refused with the target file:-"),
        (["file:-", "http://a", "--verify"], "use --verify-only"),
        (["file:-", "http://a", "--target-credential-file", "-"], "Standard input is the source"),
        (["file:a", "http://b", "--verify-only", "--resume"], "leave out --resume"),
        (["file:a", "cloud:"], "name tenant and database"),
        (["cloud:", "file:a", "--tenant", "t"], "name tenant and database"),
        (
            ["http://a", "file:b", "--tenant", "t", "--tenant", "u", "--target-tenant", "v"],
            "--target-tenant needs a single one",
        ),
        (["http://a", "file:b", "--source-credential-file", "nowhere"], "nowhere cannot be read"),
        *(
            (["http://a", "file:b", option, "\udcff"], f"{option} '\\udcff' is no UTF-8")
            for option in (
                *("--tenant", "--database", "--collection"),
                *("--target-tenant", "--target-database"),
            )
        ),
        (["http://\udcff", "file:b"], "http://HOST:PORT"),
        (["http://a", "file:b", "--source-ca", "nowhere"], "--source-ca nowhere cannot be used"),
        (["https://a", "file:b", "--source-ca", __file__], "it has no certificate in PEM"),
    ],
)
def test_arguments_that_cannot_be_used_are_refused_with_a_sentence(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    output, errors = capsys.readouterr()
    assert output == ""
    assert errors.startswith("Error: ")
    assert errors.count("\n") == 1
    assert said in errors
    assert "secret-word" not in errors


@pytest.mark.parametrize("value", ["0", "-1", "many", "1000000"])
@pytest.mark.parametrize("option", ["--batch", "--jobs"])
def test_a_number_that_cannot_be_used_is_refused(
    option: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(["http://a", "file:b", option, value])
    assert end.value.code == 2
    assert f"argument {option}: {value!r} is no whole number" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("auth", "credential", "said"),
    [
        ("basic", "no colon", "needs a credential like USER:PASSWORD"),
        ("token", "a\nb", "needs a credential of one line"),
        ("x-chroma-token", "käse", "needs a credential of one line"),
        ("token", " ", "is refused: the credential is empty"),
    ],
)
def test_a_credential_that_cannot_be_sent_is_refused_and_not_shown(
    auth: str,
    credential: str,
    said: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "credential").write_text(credential)
    given = ["--source-credential-file", f"{tmp_path}/credential", "--source-auth", auth]
    assert main(["http://127.0.0.1:1", f"file:{tmp_path}/copy", *given]) == 2
    errors = capsys.readouterr().err
    assert said in errors
    assert credential == " " or credential not in errors


def test_an_error_of_the_protocol_is_a_sentence_without_headers() -> None:
    """Its own text has the header, with the credential, which httpx itself does not check."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        with pytest.raises(CopyError) as error:
            Server(url, "source", headers={"Authorization": "Bearer sEcReT "})
    assert str(error.value) == (
        f"The source, {url}, does not answer: the connection broke off, or it does not speak HTTP."
    )


def test_a_server_that_is_not_there_is_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["http://127.0.0.1:1", f"file:{tmp_path}/copy"]) == 1
    errors = capsys.readouterr().err
    assert errors.startswith("Error: The source, http://127.0.0.1:1, does not answer: ")
    assert not (tmp_path / "copy").exists()


def test_a_folder_is_copied_and_compared_by_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder_with(tmp_path / "one")
    arguments = [f"file:{tmp_path}/one", f"file:{tmp_path}/two", "--verify", "--json"]
    assert main(arguments) == 0
    result = json.loads(capsys.readouterr().out)
    assert result.pop("seconds") >= 0
    names = {"tenant": "default_tenant", "database": "default_database"}
    assert result == {
        "collections": [
            {**names, "name": "documents", "records": 5, "copied": 5, "differences": 0},
            {**names, "name": "empty", "records": 0, "copied": 0, "differences": 0},
        ],
        "records": 5,
        "copied": 5,
        "differences": 0,
    }


def test_differences_are_shown_and_end_with_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder_with(tmp_path / "one", 5)
    folder_with(tmp_path / "two", 7)
    given = [f"file:{tmp_path}/one", f"file:{tmp_path}/two", "--verify-only"]
    assert main(given) == 1
    errors = capsys.readouterr().err
    assert "default_tenant/default_database/documents: the record 'id 5' is only in the" in errors
    assert "2 collections, 5 records, 2 differences" in errors
    assert main([given[1], given[0], "--verify-only"]) == 1
    assert "the record 'id 5' is not in the target" in capsys.readouterr().err


def test_a_collection_that_is_not_there_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder_with(tmp_path / "one")
    given = [f"file:{tmp_path}/one", f"file:{tmp_path}/two", "--collection", "nothing"]
    assert main(given) == 1
    said = "--collection nothing: the source has none of that name, which has documents, empty."
    assert said in capsys.readouterr().err
    assert not (tmp_path / "two").exists()


@pytest.mark.parametrize(
    "names",
    [
        ["--tenant", "other", "--database", "default_database"],
        ["--tenant", "default_tenant", "--collection", "elsewhere"],
        ["--database", "another", "--collection", "documents"],
    ],
)
@pytest.mark.parametrize("options", [[], ["--verify-only"]])
def test_names_that_are_not_in_the_same_place_are_refused(
    names: list[str], options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = FolderTarget(tmp_path / "one", "1.0.0", resume=False)
    target.prepare(DOCUMENTS)
    target.prepare(Collection("other", "another", "elsewhere"))
    target.complete()
    given = [f"file:{tmp_path}/one", f"file:{tmp_path}/two"]
    assert main([*given, *names, *options]) == 1
    assert "the source has none of that name" in capsys.readouterr().err


def test_a_source_without_collections_is_copied_and_said_to_be_empty(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    FolderTarget(tmp_path / "one", "1.0.0", resume=False).complete()
    assert main([f"file:{tmp_path}/one", f"file:{tmp_path}/two"]) == 0
    assert "The source has no collections." in capsys.readouterr().err
    assert FolderSource(tmp_path / "two").collections() == []


# What does not answer as Chroma does.


@contextlib.contextmanager
def answering(answers: dict[str, object]) -> Iterator[str]:
    """A server that answers JSON by the last part of a path, and the others never."""
    ended = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.partition("?")[0].rpartition("/")[2]
            if name not in answers:
                ended.wait()
                return
            content = json.dumps(answers[name]).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        ended.set()
        server.shutdown()
        server.server_close()


ONE: dict[str, object] = {"id": "1", "name": "one", "dimension": 1}
CHROMA: dict[str, object] = {
    "heartbeat": {"nanosecond heartbeat": 1},
    "pre-flight-checks": {"max_batch_size": 100},
    "version": "1.0.0",
    "openapi.json": {},
    "databases": [ONE],
    "collections": [ONE],
    "count": 1,
    "get": {"ids": ["1"], "embeddings": [[1.0]]},
}


def test_a_server_of_which_the_tests_know_the_answers_is_copied(tmp_path: Path) -> None:
    with answering(CHROMA) as url:
        assert main([url, f"file:{tmp_path}/copy"]) == 0
    [collection] = FolderSource(tmp_path / "copy").collections()
    assert all_records(FolderSource(tmp_path / "copy"), collection) == [
        Record("1", struct.pack("<f", 1))
    ]


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("pre-flight-checks", []),
        ("pre-flight-checks", "x"),
        ("version", {}),
        ("databases", {"name": "one"}),
        ("databases", ["one"]),
        ("collections", None),
        ("collections", [{"id": "1"}]),
        ("count", "many"),
        ("get", []),
        ("get", {}),
        ("get", {"ids": 1}),
        ("get", {"ids": ["1"], "embeddings": []}),
    ],
)
def test_an_answer_that_is_not_as_chromas_is_a_sentence(
    name: str, answer: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with answering({**CHROMA, name: answer}) as url:
        assert main([url, f"file:{tmp_path}/copy"]) == 1
    [error] = [it for it in capsys.readouterr().err.splitlines() if it.startswith("Error: ")]
    assert error.startswith(f"Error: The source, {url}, does not answer ")
    assert f"/{name} as Chroma does" in error


def test_records_without_vectors_are_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with answering({**CHROMA, "get": {"ids": ["1"]}}) as url:
        assert main([url, f"file:{tmp_path}/copy"]) == 1
    assert "the source gives no vector for the record '1'" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["heartbeat", "pre-flight-checks", "version", "count", "get"])
def test_a_server_that_says_nothing_is_waited_for_with_a_line_and_not_for_ever(
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(server, "SILENCE", 0.05)
    monkeypatch.setattr(server, "SHORT_ANSWER_SECONDS", 0.5)
    monkeypatch.setattr(server, "ANSWER_SECONDS", 0.5)
    monkeypatch.setattr(server, "PATIENCE", 0.1)
    with answering({key: it for key, it in CHROMA.items() if key != name}) as url:
        assert main([url, f"file:{tmp_path}/copy"]) == 1
    errors = capsys.readouterr().err
    assert f"Waiting for the source, {url}: nothing came so far." in errors
    assert f"Error: The source, {url}, does not answer: timed out." in errors


def test_an_interruption_while_a_thread_starts_ends_as_any_other() -> None:
    code = (
        "import threading; from chroma_stack.copy.__main__ import _end; "
        "thread = threading.Thread(); threading._limbo[thread] = thread; _end(130)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2])
    assert done.returncode == 130


def test_the_command_needs_neither_the_cdk_nor_node(tmp_path: Path) -> None:
    folder_with(tmp_path / "one")
    code = (
        "import sys; from chroma_stack.copy.__main__ import main; "
        f"code = main(['file:{tmp_path}/one', 'file:{tmp_path}/two']); "
        "sys.exit(code or any(it.split('.')[0] in ('aws_cdk', 'jsii') for it in sys.modules))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
