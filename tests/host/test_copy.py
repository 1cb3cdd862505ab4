"""Copies between real servers, by the command as people run it."""

from __future__ import annotations

import base64
import contextlib
import gzip
import json
import os
import random
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from chroma_stack.copy import __main__ as copy_command
from chroma_stack.copy import server
from chroma_stack.copy.files import FolderTarget
from chroma_stack.copy.model import Collection, Record
from chroma_stack.copy.server import Names, Server
from tests.host.chroma_servers import CURRENT, LAST_PYTHON, OLDEST_RUST, ChromaServer
from tests.host.programs import wait_until
from tests.host.proxy import BASIC, Proxy, proxy_authority, token_of

ROOT = Path(__file__).parents[2]
TENANT, DATABASE = "default_tenant", "default_database"
COUNT = 1_200
"""Records of the larger collection: several pages, and enough for its index to be written."""


def run(
    *arguments: str, environment: dict[str, str] | None = None, **options: Any
) -> subprocess.CompletedProcess[Any]:
    """The command, as a person runs it."""
    command = [sys.executable, "-m", "chroma_stack.copy", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})}
    options = {"text": True, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    return subprocess.run(command, env=environment, timeout=300, check=False, **options)


def result_of(*arguments: str, **options: Any) -> dict[str, Any]:
    """What a copy that works says."""
    done = run(*arguments, "--json", **options)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


class Api:
    """A server's API, for what the tests put in and look at."""

    def __init__(self, running: ChromaServer) -> None:
        self.url = f"http://{running.address}"

    def __call__(self, method: str, path: str, body: object = None) -> Any:
        answer = httpx.request(method, f"{self.url}/api/v2{path}", json=body, timeout=60)
        assert answer.is_success, answer.text
        return answer.json()

    def collections(self, database: str = DATABASE) -> str:
        return f"/tenants/{TENANT}/databases/{database}/collections"

    def make_database(self, name: str) -> None:
        self("POST", f"/tenants/{TENANT}/databases", {"name": name})

    def make(self, database: str = DATABASE, **collection: object) -> str:
        """A new collection's path."""
        made = self("POST", self.collections(database), collection)
        return f"{self.collections(database)}/{made['id']}"

    def path(self, name: str, database: str = DATABASE) -> str:
        collection = self("GET", f"{self.collections(database)}/{name}")
        return f"{self.collections(database)}/{collection['id']}"

    def upsert(self, path: str, **records: object) -> None:
        self("POST", f"{path}/upsert", records)

    def remove(self, name: str, database: str = DATABASE) -> None:
        """Remove a collection, its records first: those of 1.5.9 leave lists of metadata behind,
        which the next records get.
        """
        path = self.path(name, database)
        if ids := self("POST", f"{path}/get", {"include": []})["ids"]:
            self("POST", f"{path}/delete", {"ids": ids})
        self("DELETE", f"{self.collections(database)}/{name}")

    def content(self, database: str = DATABASE) -> dict[str, Any]:
        """All that a database has, by the names of its collections and the ids of the records."""
        content = {}
        for each in self("GET", self.collections(database)):
            what = {"include": ["embeddings", "documents", "metadatas", "uris"]}
            rows = self("POST", f"{self.collections(database)}/{each['id']}/get", what)
            fields = ("embeddings", "documents", "metadatas", "uris")
            described = {key: each[key] for key in ("metadata", "configuration_json", "dimension")}
            parts = [rows[field] for field in fields]
            content[each["name"]] = {
                **described,
                "records": dict(zip(rows["ids"], zip(*parts, strict=True), strict=True)),
            }
        return content


def fill(api: Api) -> None:
    """Collections of each kind."""
    api.make_database("second")
    dice = random.Random(17)
    path = api.make(name="many", metadata={"owner": "ingest", "level": 3, "exact": 0.5})
    for start in range(0, COUNT, 500):
        numbers = range(start, min(start + 500, COUNT))
        api.upsert(
            path,
            ids=[f"record {n}" for n in numbers],
            # Not those that have a short text.
            embeddings=[
                [struct.unpack("<f", dice.randbytes(3) + b"\x3e")[0] for _ in range(8)]
                for _ in numbers
            ],
            documents=[f"document {n} Ünïcode\n\u2028" for n in numbers],
            metadatas=[{"n": n, "even": n % 2 == 0, "half": n / 2} for n in numbers],
        )
    function = {"type": "known", "name": "openai", "config": {"model_name": "m"}}
    hnsw = {"space": "ip", "max_neighbors": 24, "ef_construction": 150}
    path = api.make(name="set", configuration={"hnsw": hnsw, "embedding_function": function})
    api.upsert(path, ids=["a", "b"], embeddings=[[1, 2, 3], [3, 2, 1]])
    path = api.make(name="values")
    api.upsert(
        path,
        ids=["lists", "numbers", "nothing", "an id / with: ?# all"],
        embeddings=[[1e-40, 3.4028234e38], [0.1, -0.1], [0, 0], [1, 1]],
        metadatas=[
            {"words": ["a", "b"], "numbers": [1, 2], "floats": [1.0, 2.5], "flags": [True, False]},
            {"large": 2**53 + 1, "least": -(2**63), "whole": 1.0, "empty": ""},
            None,
            None,
        ],
        documents=["", None, None, "text"],
        uris=[None, "s3://bucket/key", None, None],
    )
    api.make(name="empty", metadata={"kept": True})
    path = api.make("second", name="many")
    api.upsert(path, ids=["1"], embeddings=[[1.5]])


@contextlib.contextmanager
def a_server(folder: Path, version: str = CURRENT) -> Iterator[ChromaServer]:
    running = ChromaServer(version, folder)
    try:
        yield running
    finally:
        running.stop()


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with a_server(tmp_path_factory.mktemp("source")) as running:
        api = Api(running)
        fill(api)
        yield api


@pytest.fixture(scope="module")
def target_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChromaServer]:
    with a_server(tmp_path_factory.mktemp("target")) as running:
        yield running


@pytest.fixture
def target(target_server: ChromaServer) -> Iterator[Api]:
    """Empty; databases that a test makes stay, in a tenant that is made anew."""
    api = Api(target_server)
    yield api
    for database in api("GET", f"/tenants/{TENANT}/databases"):
        name = database["name"]
        for collection in api("GET", api.collections(name)):
            api.remove(collection["name"], name)
        if name != DATABASE:
            api("DELETE", f"/tenants/{TENANT}/databases/{name}")


def all_of(api: Api) -> dict[str, Any]:
    return {name: api.content(name) for name in (DATABASE, "second")}


ALL = COUNT + 2 + 4 + 0 + 1


def test_a_server_is_copied_with_all_it_has(source: Api, target: Api) -> None:
    result = result_of(source.url, target.url, "--verify")
    assert (result["records"], result["copied"], result["differences"]) == (ALL, ALL, 0)
    assert all_of(target) == all_of(source)


def test_a_second_copy_finds_everything_there(source: Api, target: Api) -> None:
    before = result_of(source.url, target.url)
    for options in ([], ["--resume"]):
        result = result_of(source.url, target.url, *options)
        assert (result["records"], result["copied"]) == (before["records"], 0)


def test_a_folder_brings_a_server_back(source: Api, target: Api, tmp_path: Path) -> None:
    folder = f"file:{tmp_path}/copy"
    assert result_of(source.url, folder, "--verify")["differences"] == 0
    result = result_of(folder, target.url, "--verify")
    assert (result["copied"], result["differences"]) == (ALL, 0)
    assert all_of(target) == all_of(source)


def test_a_stream_brings_a_server_back(source: Api, target: Api, tmp_path: Path) -> None:
    stream = tmp_path / "stream.gz"
    with stream.open("wb") as output:
        assert run(source.url, "file:-", stdout=output).returncode == 0
    for option in ([], ["--verify-only"]):
        with stream.open("rb") as content:
            assert run("file:-", target.url, *option, stdin=content).returncode == 0
    assert all_of(target) == all_of(source)


def test_a_stream_that_was_cut_off_is_told(source: Api, target: Api, tmp_path: Path) -> None:
    stream = run(source.url, "file:-", text=False).stdout
    done = run("file:-", target.url, input=stream[:-100], text=False)
    assert done.returncode == 1
    assert b"Error: file:- is cut off" in done.stderr


@pytest.mark.parametrize("option", ["--tenant", "--database", "--collection"])
@pytest.mark.parametrize("options", [[], ["--verify-only"]])
def test_a_name_that_the_source_does_not_have_is_refused(
    source: Api, target: Api, option: str, options: list[str]
) -> None:
    done = run(source.url, target.url, option, "ghost", *options)
    assert done.returncode == 1
    assert f"Error: {option} ghost: the source has none of that name" in done.stderr


def test_an_empty_server_is_copied_with_a_line(source: Api, target: Api) -> None:
    done = run(target.url, source.url)
    assert done.returncode == 0
    assert f"The source has no collections in {TENANT}/{DATABASE}" in done.stderr


def test_other_names_are_given_to_tenant_and_database(source: Api, target: Api) -> None:
    chosen = ["--database", DATABASE, "--collection", "set", "--target-database", "third"]
    result = result_of(source.url, target.url, *chosen, "--verify")
    assert [it["database"] for it in result["collections"]] == ["third"]
    assert target.content("third") == {"set": source.content()["set"]}
    assert target.content() == {}


def test_databases_are_not_thrown_together(source: Api, target: Api) -> None:
    done = run(source.url, target.url, "--target-database", "third")
    assert done.returncode == 2
    assert "needs a single one in the source, which has default_database, second" in done.stderr
    assert target.content() == {}


def test_a_database_of_the_same_server_is_a_target(source: Api) -> None:
    chosen = ["--database", DATABASE, "--collection", "values"]
    done = run(source.url, source.url, *chosen, "--target-database", DATABASE)
    assert done.returncode == 2
    assert "the same collections of the same server" in done.stderr
    try:
        result_of(source.url, source.url, *chosen, "--target-database", "third", "--verify")
        assert source.content("third") == {"values": source.content()["values"]}
    finally:
        source.remove("values", "third")
        source("DELETE", f"/tenants/{TENANT}/databases/third")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"embeddings": [[9.0] * 8]}, "has another vector in the target"),
        ({"documents": ["other"]}, "has another document in the target"),
        ({"metadatas": [{"n": 8}]}, "has another metadata in the target"),
    ],
)
def test_a_changed_record_is_found(
    source: Api, target: Api, change: dict[str, Any], said: str
) -> None:
    result_of(source.url, target.url, "--collection", "many", "--database", DATABASE)
    target("POST", f"{target.path('many')}/update", {"ids": ["record 7"], **change})
    chosen = ["--collection", "many", "--database", DATABASE]
    done = run(source.url, target.url, *chosen, "--verify-only")
    assert done.returncode == 1
    assert f"{TENANT}/{DATABASE}/many: the record 'record 7' {said}" in done.stderr
    assert "1 difference," in done.stderr

    again = run(source.url, target.url, *chosen)
    assert again.returncode == 1
    assert "a record 'record 7' whose" in again.stderr
    assert "With --resume, what the target has stays" in again.stderr


def test_missing_and_surplus_records_are_found(source: Api, target: Api) -> None:
    chosen = ["--collection", "many", "--database", DATABASE]
    result_of(source.url, target.url, *chosen)
    target("POST", f"{target.path('many')}/delete", {"ids": ["record 7"]})
    target.upsert(target.path("many"), ids=["new"], embeddings=[[1.0] * 8])
    done = run(source.url, target.url, *chosen, "--verify-only")
    assert done.returncode == 1
    assert "the record 'record 7' is not in the target" in done.stderr
    assert "the record 'new' is only in the target" in done.stderr


@pytest.mark.parametrize(
    ("collection", "said"),
    [
        ({"metadata": {"owner": "search"}}, "metadata"),
        ({"configuration": {"hnsw": {"space": "cosine"}}}, "metadata"),
    ],
)
def test_a_collection_that_is_something_else_is_refused_before_anything_is_written(
    source: Api, target: Api, collection: dict[str, Any], said: str
) -> None:
    target.make(name="many", **collection)
    before = target.content()
    done = run(source.url, target.url, "--database", DATABASE)
    assert done.returncode == 1
    assert f"{TENANT}/{DATABASE}/many is in the target with something else: {said}" in done.stderr
    assert target.content() == before


def test_only_what_is_missing_is_sent_after_an_interruption(source: Api, target: Api) -> None:
    chosen = ["--collection", "many", "--database", DATABASE]
    result_of(source.url, target.url, *chosen)
    some = [f"record {n}" for n in range(0, COUNT, 3)]
    target("POST", f"{target.path('many')}/delete", {"ids": some})
    result = result_of(source.url, target.url, *chosen, "--resume", "--verify")
    assert (result["copied"], result["differences"]) == (len(some), 0)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)]
)
def test_a_copy_that_was_interrupted_goes_on(
    source: Api, target: Api, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    chosen = ["--collection", "many", "--database", DATABASE, "--batch", "10", "--jobs", "1"]
    for to in (target.url, f"file:{tmp_path}/copy"):
        command = [sys.executable, "-m", "chroma_stack.copy", source.url, to, *chosen]
        log = tmp_path / "log"
        with log.open("w") as errors:
            process = subprocess.Popen(command, cwd=ROOT, stderr=errors)
        began = f"{TENANT}/{DATABASE}/many: 0 of {COUNT:,} records copied"
        wait_until(lambda log=log, began=began: began in log.read_text(), "the copy began")
        process.send_signal(number)
        assert process.wait(60) == code
        if code != -9:
            assert "Interrupted. What was copied stays" in log.read_text()
            assert "Traceback" not in log.read_text()
        result = result_of(source.url, to, *chosen[:4], "--resume", "--verify")
        assert (result["records"], result["differences"]) == (COUNT, 0)
        assert result["copied"] > 0


def test_no_record_is_missed_when_others_are_deleted_meanwhile(
    target: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "WINDOW", 100)
    path = target.make(name="shrinking")
    ids = [f"{n}" for n in range(1_000)]
    target.upsert(path, ids=ids, embeddings=[[1, 2]] * len(ids))
    source = Server(target.url, "source", names=Names(collections=["shrinking"]))
    [collection] = source.collections()
    read: list[str] = []
    deleted: set[str] = set()
    # Fewer than two windows share, more than that, and all that were read.
    counts = iter([3, 50, 150])
    for page in source.pages(collection, 1_000):
        read += page.ids
        some = [it for it in read if it not in deleted][: next(counts, 1)]
        target("POST", f"{path}/delete", {"ids": some})
        deleted.update(some)
    assert set(ids) - deleted <= set(read)
    assert len(deleted) > 100


def test_large_records_are_cut_into_requests_that_the_server_takes(
    source: Api, target: Api
) -> None:
    path = source.make(name="large")
    try:
        for n in range(10):
            uris = [f"{n}{'x' * 4 * 2**20}"]
            source.upsert(path, ids=[f"{n}"], embeddings=[[n]], uris=uris)
        chosen = ["--database", DATABASE, "--collection", "large"]
        result = result_of(source.url, target.url, *chosen, "--verify")
        assert (result["copied"], result["differences"]) == (10, 0)
    finally:
        source.remove("large")


def test_the_index_of_chroma_cloud_becomes_one_of_a_server(target: Api, tmp_path: Path) -> None:
    spann = {"space": "cosine", "ef_construction": 200, "ef_search": 200, "max_neighbors": 64}
    folder = FolderTarget(tmp_path / "copy", "1.0.0", resume=False)
    collection = Collection(TENANT, DATABASE, "of-the-cloud", configuration={"spann": spann})
    folder.prepare(collection)
    folder.write(collection, [Record("1", struct.pack("<2f", 1, 2))])
    folder.complete()
    for copied in (1, 0):
        result = result_of(f"file:{tmp_path}/copy", target.url, "--verify")
        assert (result["copied"], result["differences"]) == (copied, 0)
    assert target.content()["of-the-cloud"]["configuration_json"]["hnsw"]["space"] == "cosine"


def test_a_collection_that_does_not_become_what_was_asked_is_deleted_again(
    source: Api,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """1.0.0 does not heed a configuration, which is known by a document that a proxy may keep."""
    send = Server._send

    def without_openapi(self: Server, method: str, path: str, *rest: Any, **more: Any) -> Any:
        return send(self, method, path.replace("openapi", "nothing"), *rest, **more)

    monkeypatch.setattr(Server, "_send", without_openapi)
    path = source.make(name="near", configuration={"hnsw": {"space": "cosine"}})
    source.upsert(path, ids=["1"], embeddings=[[1, 2]])
    try:
        with a_server(tmp_path, OLDEST_RUST) as running:
            old = Api(running)
            chosen = ["--database", DATABASE, "--collection", "near"]
            assert copy_command.main([source.url, old.url, *chosen]) == 1
            assert old("GET", old.collections()) == []
        errors = capsys.readouterr().err
        assert "configuration {'space': 'cosine'} and {}" in errors
        assert "It was empty, and was deleted again." in errors
    finally:
        source.remove("near")


HIDDEN = {"string": {"string_inverted_index": {"enabled": False, "config": {}}}}


def test_a_schema_is_kept(source: Api, target: Api) -> None:
    schema = source("GET", f"{source.collections()}/empty")["schema"]
    schema["keys"]["title"] = HIDDEN
    source.make(name="chosen", schema=schema)
    try:
        chosen = ["--database", DATABASE, "--collection", "chosen"]
        result_of(source.url, target.url, *chosen, "--verify")
        copied = target("GET", f"{target.collections()}/chosen")["schema"]
        assert copied["keys"]["title"] == HIDDEN
    finally:
        source.remove("chosen")


@pytest.mark.parametrize(
    ("name", "keys", "said"),
    [
        ("a" * 64, {}, "the target's release takes names of up to 63 characters"),
        ("chosen", {"title": HIDDEN}, "has no schema, and this collection's says more"),
    ],
)
def test_what_an_old_release_cannot_take_is_refused_before_anything_is_written(
    source: Api,
    chroma_servers: dict[str, ChromaServer],
    name: str,
    keys: dict[str, Any],
    said: str,
) -> None:
    old = Api(chroma_servers[LAST_PYTHON])
    before = old.content()
    schema = source("GET", f"{source.collections()}/empty")["schema"]
    source.make(name=name, schema={**schema, "keys": {**schema["keys"], **keys}})
    try:
        done = run(source.url, old.url, "--database", DATABASE)
        assert done.returncode == 1
        assert f"Error: {TENANT}/{DATABASE}/{name}: " in done.stderr
        assert said in done.stderr
        assert old.content() == before
    finally:
        source.remove(name)


# Through the proxy.


@pytest.fixture(scope="module")
def proxy_of_source(source: Api, make_proxy: Callable[..., Proxy]) -> Proxy:
    return make_proxy(source.url.removeprefix("http://"), users={"reader": "read"}).start()


SENT = {
    "token": (token_of("writer"), "token"),
    "x-chroma-token": (token_of("writer"), "x-chroma-token"),
    "basic": (f"writer:{token_of('writer')}", "basic"),
}


@pytest.mark.parametrize("way", SENT)
def test_a_reader_copies_out_and_a_writer_in(
    source: Api,
    target: Api,
    proxy_of_source: Proxy,
    make_proxy: Callable[..., Proxy],
    tmp_path: Path,
    way: str,
) -> None:
    into = make_proxy(target.url.removeprefix("http://"), users={"writer": "write"}).start()
    credential, auth = SENT[way]
    (tmp_path / "credential").write_text(f"{credential}\n")
    chosen = ["--database", DATABASE, "--verify"]
    given = ["--target-credential-file", f"{tmp_path}/credential", "--target-auth", auth]
    environment = {"CHROMA_SOURCE_CREDENTIAL": token_of("reader")}
    result = result_of(proxy_of_source.url, into.url, *given, *chosen, environment=environment)
    assert (result["copied"], result["differences"]) == (ALL - 1, 0)
    assert target.content() == source.content()


def test_the_main_credential_of_basic_copies_and_makes_databases(
    source: Api, target: Api, make_proxy: Callable[..., Proxy]
) -> None:
    into = make_proxy(target.url.removeprefix("http://"), auth="basic").start()
    environment = {"CHROMA_TARGET_CREDENTIAL": BASIC}
    given = ["--target-auth", "basic"]
    result_of(source.url, into.url, *given, "--verify", environment=environment)
    assert all_of(target) == all_of(source)


def test_a_writer_is_told_that_it_makes_no_databases(
    source: Api, target: Api, make_proxy: Callable[..., Proxy]
) -> None:
    into = make_proxy(target.url.removeprefix("http://"), users={"writer": "write"}).start()
    environment = {"CHROMA_TARGET_CREDENTIAL": token_of("writer")}
    done = run(source.url, into.url, "--database", "second", environment=environment)
    assert done.returncode == 1
    assert f"The database {TENANT}/second is not in the target" in done.stderr
    assert "the user writer may read and write" in done.stderr


@pytest.mark.parametrize("given", [{}, {"CHROMA_SOURCE_CREDENTIAL": "wrong-secret"}])
def test_a_refused_credential_is_a_sentence_without_it(
    proxy_of_source: Proxy, tmp_path: Path, given: dict[str, str]
) -> None:
    done = run(proxy_of_source.url, f"file:{tmp_path}/copy", environment=given)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: The source refuses the credential (--source-credential-")
    assert done.stderr.count("\n") == 1
    assert "wrong-secret" not in done.stderr


def test_a_user_who_may_only_read_writes_nothing(
    source: Api, target: Api, make_proxy: Callable[..., Proxy]
) -> None:
    into = make_proxy(target.url.removeprefix("http://"), users={"reader": "read"}).start()
    environment = {"CHROMA_TARGET_CREDENTIAL": token_of("reader")}
    done = run(source.url, into.url, "--database", DATABASE, environment=environment)
    assert done.returncode == 1
    assert "cannot be created" in done.stderr
    assert "the user reader may read" in done.stderr


def test_a_full_disk_is_a_sentence(
    source: Api, target: Api, make_proxy: Callable[..., Proxy]
) -> None:
    into = make_proxy(target.url.removeprefix("http://")).start()
    with socket.socket(socket.AF_UNIX) as runtime:
        runtime.connect(str(into.admin_socket))
        runtime.sendall(b"disable server disk/disk\n")
        runtime.recv(1000)
    environment = {"CHROMA_TARGET_CREDENTIAL": into.credential}
    done = run(source.url, into.url, "--database", DATABASE, environment=environment)
    assert done.returncode == 1
    [error] = [it for it in done.stderr.splitlines() if it.startswith("Error: ")]
    assert "refuses records with 507: The data volume is almost full." in error


def test_a_server_with_an_authority_of_its_own_is_copied_over_tls(
    source: Api, proxy_of_source: Proxy, tmp_path: Path
) -> None:
    proxy_authority().cert_pem.write_to_path(f"{tmp_path}/ca.pem")
    environment = {"CHROMA_SOURCE_CREDENTIAL": token_of("reader")}
    arguments = [proxy_of_source.https_url, f"file:{tmp_path}/copy"]
    done = run(*arguments, environment=environment)
    assert done.returncode == 1
    assert "certificate verify failed" in done.stderr
    given = ["--source-ca", f"{tmp_path}/ca.pem", "--verify"]
    assert result_of(*arguments, *given, environment=environment)["differences"] == 0


def test_chroma_cloud_is_spoken_to_as_its_pages_say(
    source: Api,
    target: Api,
    make_proxy: Callable[..., Proxy],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It cannot be reached from here: a proxy that takes its header takes its place."""
    cloud = make_proxy(target.url.removeprefix("http://"), token_header="X-Chroma-Token").start()
    monkeypatch.setattr(copy_command, "CLOUD", cloud.url)
    monkeypatch.setenv("CHROMA_TARGET_CREDENTIAL", cloud.credential)
    monkeypatch.setenv("CHROMA_SOURCE_CREDENTIAL", cloud.credential)
    names = ["--tenant", TENANT, "--database", DATABASE]
    assert copy_command.main([source.url, "cloud:", *names, "--verify"]) == 0
    assert target.content() == source.content()
    before = len(cloud.log_lines())
    given = ["cloud:", source.url, *names, "--target-database", "third", "--json"]
    try:
        assert copy_command.main(given) == 0
        assert json.loads(capsys.readouterr().out)["copied"] == ALL - 1
        assert source.content("third") == source.content()
    finally:
        for collection in source("GET", source.collections("third")):
            source.remove(collection["name"], "third")
        source("DELETE", f"/tenants/{TENANT}/databases/third")
    pages = [it for it in cloud.log_lines()[before:] if it["path"].endswith("/get")]
    assert len(pages) >= 2 * COUNT / 300


def test_no_credential_is_in_a_copy(proxy_of_source: Proxy, tmp_path: Path) -> None:
    environment = {"CHROMA_SOURCE_CREDENTIAL": token_of("reader")}
    result_of(proxy_of_source.url, f"file:{tmp_path}/copy", environment=environment)
    sent = token_of("reader").encode()
    for file in (tmp_path / "copy").iterdir():
        content = file.read_bytes()
        content = gzip.decompress(content) if file.suffix == ".gz" else content
        assert sent not in content
        assert base64.b64encode(sent) not in content


def test_a_copy_waits_for_a_server_that_starts_again(
    source: Api, target_server: ChromaServer, target: Api, tmp_path: Path
) -> None:
    chosen = ["--collection", "many", "--database", DATABASE, "--batch", "10", "--jobs", "1"]
    command = [sys.executable, "-m", "chroma_stack.copy", source.url, target.url, *chosen]
    log = tmp_path / "log"
    with log.open("w") as errors:
        process = subprocess.Popen(command, cwd=ROOT, stderr=errors)
    began = f"{TENANT}/{DATABASE}/many: 0 of"
    wait_until(lambda: began in log.read_text(), "the copy began")
    target_server.stop()
    target_server.start()
    assert process.wait(120) == 0, log.read_text()
    result = result_of(source.url, target.url, *chosen[:4], "--verify-only")
    assert result["differences"] == 0
