"""Chroma's memory has an end: writes stop before it, and what does not fit ends nothing else."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import socket
import sqlite3
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.host.chroma_servers import (
    CURRENT,
    ChromaServer,
    javascript_client,
    python_with_chroma,
)
from tests.host.programs import HOST, program, wait_until
from tests.host.proxy import Proxy

MIB = 1 << 20
DATABASE = "/api/v2/tenants/default_tenant/databases/default_database"
COLLECTIONS = f"{DATABASE}/collections"


class Guard:
    """The guard beside a proxy, with the files of a control group that the test writes."""

    def __init__(self, proxy: Proxy, limit: int) -> None:
        self.folder = proxy.folder
        self.use(0)
        (self.folder / "memory.max").write_text(f"{limit * MIB}\n")
        self.log = self.folder / "guard.log"
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [HOST / "memory", "guard"],
                env=proxy.environment | {"CHROMA_CGROUP": str(self.folder)},
                stdout=log,
                stderr=log,
            )

    def use(self, mib: int, reclaimable: int = 0) -> None:
        """So many MiB are in use, beside some that can be reclaimed."""
        new = self.folder / "memory.stat.new"
        new.write_text(f"anon {mib * MIB}\nfile {reclaimable * MIB}\nslab_unreclaimable 4096\n")
        new.replace(self.folder / "memory.stat")

    def wait_until_said(self, text: str) -> None:
        wait_until(lambda: text in self.log.read_text(), f"{text!r} is said")

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(30)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ChromaServer]:
    server = ChromaServer(CURRENT, tmp_path)
    yield server
    server.stop()


@pytest.fixture
def proxy(server: ChromaServer, make_proxy: Callable[..., Proxy]) -> Proxy:
    return make_proxy(server.address).start()


@pytest.fixture
def guard(proxy: Proxy) -> Iterator[Guard]:
    guard = Guard(proxy, limit=1024)
    yield guard
    guard.stop()


def post(proxy: Proxy, path: str, body: object) -> httpx.Response:
    return httpx.post(proxy.url + path, headers=proxy.right, json=body, timeout=120)


def collection(proxy: Proxy, name: str = "documents") -> str:
    """The path of a collection with one record."""
    made = post(proxy, COLLECTIONS, {"name": name, "get_or_create": True}).raise_for_status()
    path = f"{COLLECTIONS}/{made.json()['id']}"
    post(proxy, f"{path}/upsert", RECORD).raise_for_status()
    return path


RECORD = {"ids": ["a"], "embeddings": [[1.0, 0.0]], "documents": ["text"]}
QUERY = {"query_embeddings": [[1.0, 0.0]], "n_results": 1}


def refuses_writes(proxy: Proxy, path: str) -> bool:
    return post(proxy, f"{path}/upsert", RECORD).status_code == 507


def test_what_needs_more_memory_is_refused_before_the_limit_and_the_rest_is_served(
    proxy: Proxy, guard: Guard
) -> None:
    path = collection(proxy)
    guard.use(767, reclaimable=200)
    assert not refuses_writes(proxy, path)
    guard.use(800)
    guard.wait_until_said("800 of 1024 MiB in use: writes are refused")
    for operation in ("add", "upsert", "update"):
        answer = post(proxy, f"{path}/{operation}", RECORD)
        assert answer.status_code == 507
        assert answer.json()["error"] == "InternalError"
        assert answer.json()["message"].startswith("Chroma uses 78 % of the memory")
    assert post(proxy, COLLECTIONS, {"name": "another"}).status_code == 507
    existing = post(proxy, COLLECTIONS, {"name": "documents", "get_or_create": True})
    assert existing.status_code == 200
    for operation, body in (("query", QUERY), ("get", {}), ("delete", {"ids": ["a"]})):
        assert post(proxy, f"{path}/{operation}", body).status_code == 200
    deleted = httpx.delete(proxy.url + f"{COLLECTIONS}/documents", headers=proxy.right, timeout=60)
    assert deleted.status_code == 200


def weight(proxy: Proxy) -> int:
    """How much of the memory is in use, in percent, as the proxy was told."""
    with socket.socket(socket.AF_UNIX) as admin:
        admin.connect(str(proxy.admin_socket))
        admin.sendall(b"get weight memory/memory\n")
        return int(admin.recv(100).split()[0])


def test_writes_are_let_in_again_only_some_way_below(proxy: Proxy, guard: Guard) -> None:
    path = collection(proxy)
    guard.use(800)
    guard.wait_until_said("refused")
    guard.use(750)
    wait_until(lambda: weight(proxy) == 100 * 750 // 1024, "it has looked")
    assert refuses_writes(proxy, path)
    guard.use(700)
    guard.wait_until_said("700 of 1024 MiB in use: writes are let in again")
    assert not refuses_writes(proxy, path)


def test_a_proxy_that_was_restarted_is_told_again(proxy: Proxy, guard: Guard) -> None:
    path = collection(proxy)
    guard.use(800)
    guard.wait_until_said("refused")
    proxy.stop()
    proxy.start()
    wait_until(lambda: refuses_writes(proxy, path), "writes are refused")


def test_a_chroma_that_was_started_again_is_written_to(proxy: Proxy, guard: Guard) -> None:
    path = collection(proxy)
    guard.use(800)
    guard.wait_until_said("refused")
    (guard.folder / "memory.stat").unlink()
    wait_until(lambda: not refuses_writes(proxy, path), "writes are let in")


def test_the_python_client_says_why_it_is_refused(proxy: Proxy, guard: Guard) -> None:
    collection(proxy)
    guard.use(800)
    guard.wait_until_said("refused")
    code = (
        "import chromadb, sys; host, port, name, value = sys.argv[1:];"
        "client = chromadb.HttpClient(host, int(port), headers={name: value});"
        "client.get_or_create_collection('documents').add(ids=['b'], embeddings=[[1.0, 0.0]])"
    )
    host, port = proxy.address.split(":")
    [(name, value)] = proxy.right.items()
    done = subprocess.run(
        [python_with_chroma(CURRENT), "-c", code, host, port, name, value],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1
    assert "Chroma uses 78 % of the memory that it may have" in done.stderr.splitlines()[-1]


def test_the_javascript_client_says_why_it_is_refused(proxy: Proxy, guard: Guard) -> None:
    guard.use(800)
    guard.wait_until_said("refused")
    host, port = proxy.address.split(":")
    done = subprocess.run(
        [program("node"), Path(__file__).parent / "js" / "client.mjs"],
        cwd=javascript_client(),
        input=json.dumps({"host": host, "port": int(port), "ways": [proxy.right]}),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=120,
    )
    [said] = json.loads(done.stdout)
    assert said.startswith("ChromaServerError: Chroma uses 78 % of the memory that it may have")


def test_while_there_is_no_container_docker_is_asked_once_a_second(proxy: Proxy) -> None:
    docker = proxy.folder / "docker"
    docker.write_text('#!/bin/sh\ndate +%s.%N >>"$0.calls"\nexit 1\n')
    docker.chmod(0o755)
    log = proxy.folder / "docker.calls"
    log.touch()
    guard = subprocess.Popen(
        [HOST / "memory", "guard"],
        env=proxy.environment | {"PATH": f"{proxy.folder}:{os.environ['PATH']}"},
    )
    try:
        wait_until(lambda: log.read_text().count("\n") >= 3, "it has asked three times")
    finally:
        guard.terminate()
        guard.wait(30)
    calls = [float(it) for it in log.read_text().split()]
    assert all(later - earlier > 0.9 for earlier, later in itertools.pairwise(calls))


def anonymous_memory(server: ChromaServer) -> int:
    """MiB."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    [line] = [line for line in status.splitlines() if line.startswith("RssAnon")]
    return int(line.split()[1]) // 1024


@pytest.mark.parametrize(("writers", "records", "room"), [(16, 1300, 640), (96, 33, 384)])
def test_the_fastest_writers_do_not_reach_the_limit_and_queries_go_on(
    server: ChromaServer, proxy: Proxy, writers: int, records: int, room: int
) -> None:
    """With requests of almost 40 MiB, the largest that Chroma takes, or more with almost 1 MiB."""
    path = collection(proxy, "queried")
    made = post(proxy, COLLECTIONS, {"name": "written"})
    written = f"{COLLECTIONS}/{made.json()['id']}"
    vector = ",".join("0.1234567890123456" for _ in range(1535))
    limit = anonymous_memory(server) + room
    guard = Guard(proxy, limit)
    most, over = 0, threading.Event()

    def watch() -> None:
        nonlocal most
        while not over.wait(0.005):
            used = anonymous_memory(server)
            most = max(most, used)
            guard.use(used)

    def write(writer: int) -> int:
        for number in range(100):
            ids = ",".join(f'"{writer}-{number}-{it}"' for it in range(records))
            vectors = ",".join(f"[{it},{vector}]" for it in range(records))
            answer = httpx.post(
                f"{proxy.url}{written}/add",
                content=f'{{"ids":[{ids}],"embeddings":[{vectors}]}}',
                headers=proxy.right | {"Content-Type": "application/json"},
                timeout=300,
            )
            if answer.status_code != 201:
                return answer.status_code
        return 0

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        with ThreadPoolExecutor(writers) as pool:
            ends = [pool.submit(write, number) for number in range(writers)]
            queried = 0
            while not all(end.done() for end in ends):
                assert post(proxy, f"{path}/query", QUERY).status_code == 200
                queried += 1
    finally:
        over.set()
        watcher.join()
        guard.stop()
    print(f"at most {most} of {limit} MiB, {queried} queries")
    assert {end.result() for end in ends} == {507}
    assert most < limit
    assert queried


def ended(proxy: Proxy, server_folder: Path, exit_status: str, kernel: str) -> str:
    """What is said after Chroma ended."""
    programs = proxy.folder / "bin"
    programs.mkdir(exist_ok=True)
    journalctl = programs / "journalctl"
    journalctl.write_text(f"#!/bin/sh\necho '{kernel}'\n")
    journalctl.chmod(0o755)
    done = subprocess.run(
        [HOST / "memory", "ended"],
        env=proxy.environment
        | {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "EXIT_STATUS": exit_status,
            "CHROMA_DATA": str(server_folder / "data"),
            "CHROMA_KILLED": str(proxy.folder / "killed"),
            "CHROMA_CRASHED": str(proxy.folder / "crashed"),
            "CHROMA_REPAIRED": str(proxy.folder / "repaired"),
            "SUSPECTS": str(proxy.folder / "suspects"),
        },
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout


KILLED = "Memory cgroup out of memory: Killed process 4242 (chroma)"


def test_after_three_kills_for_memory_the_largest_collection_is_refused_and_the_others_are_served(
    server: ChromaServer, proxy: Proxy, tmp_path: Path
) -> None:
    small, large = collection(proxy, "small"), collection(proxy, "large")
    many = {"ids": [str(it) for it in range(1500)], "embeddings": [[1.0, it] for it in range(1500)]}
    post(proxy, f"{large}/add", many).raise_for_status()
    assert "(1 times" in ended(proxy, tmp_path, "137", KILLED)
    assert "(2 times" in ended(proxy, tmp_path, "137", KILLED)
    assert post(proxy, f"{large}/query", QUERY).status_code == 200
    said = ended(proxy, tmp_path, "137", KILLED)
    assert large.rpartition("/")[2] in said
    assert "use a larger instance type" in said
    for _ in range(2):
        answer = post(proxy, f"{large}/query", QUERY)
        assert answer.status_code == 507
        assert "does not fit into the memory" in answer.json()["message"]
        assert post(proxy, f"{small}/query", QUERY).status_code == 200
        proxy.stop()  # the next one knows it too
        proxy.start()
    deleted = httpx.delete(f"{proxy.url}{COLLECTIONS}/large", headers=proxy.right, timeout=60)
    assert deleted.status_code == 200


@pytest.mark.parametrize(
    ("exit_status", "kernel"), [("137", "nothing of that"), ("0", KILLED), ("1", KILLED)]
)
def test_another_end_is_no_kill_for_memory(
    server: ChromaServer, proxy: Proxy, tmp_path: Path, exit_status: str, kernel: str
) -> None:
    for _ in range(4):
        assert ended(proxy, tmp_path, exit_status, kernel) == ""
    assert proxy.too_large.read_text() == ""
    assert not (proxy.folder / "suspects").exists()


def test_a_chroma_that_crashes_twice_has_all_its_indexes_repaired_once_a_day(
    server: ChromaServer, proxy: Proxy, tmp_path: Path
) -> None:
    ids = {collection(proxy, name).rpartition("/")[2] for name in ("first", "second")}
    suspects = proxy.folder / "suspects"
    assert ended(proxy, tmp_path, "139", "") == ""
    assert not suspects.exists()
    assert "repairing all its indexes" in ended(proxy, tmp_path, "134", "")
    assert set(suspects.read_text().split()) == ids
    suspects.unlink()
    for _ in range(4):
        assert ended(proxy, tmp_path, "139", "") == ""
    assert not suspects.exists()


@pytest.mark.parametrize(("settings", "monitoring"), [("AUTH=token\n", 0), ("LOG_GROUP=x\n", 192)])
def test_chroma_gets_the_instances_memory_less_a_reserve(
    tmp_path: Path, settings: str, monitoring: int
) -> None:
    (tmp_path / "settings").write_text(settings)
    said = subprocess.run(
        [HOST / "memory", "limit"],
        env=os.environ | {"SETTINGS": str(tmp_path / "settings")},
        capture_output=True,
        text=True,
        check=True,
    )
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    reserve = max(512 * MIB, total // 16) + monitoring * MIB
    assert said.stdout == f"MEMORY={(total - reserve) // MIB}m\n"


def test_what_monitoring_takes_is_what_is_kept_for_it() -> None:
    """The limits of the agent and of what writes its file, in their units."""
    said = "".join(
        (HOST / it).read_text() for it in ("cloudwatch-agent.conf", "chroma-logs.service")
    )
    limits = [int(it) for it in re.findall(r"(?m)^MemoryMax=(\d+)M$", said)]
    assert len(limits) == 2
    assert f"MONITORING = ({' + '.join(map(str, limits))}) * MIB" in (HOST / "memory").read_text()


def test_what_chroma_uses_is_printed_with_its_limit(tmp_path: Path) -> None:
    (tmp_path / "memory.stat").write_text(f"anon {3 * MIB}\nfile {5 * MIB}\n")
    (tmp_path / "memory.max").write_text(f"{9 * MIB}\n")
    said = subprocess.run(
        [HOST / "memory", "usage"],
        env=os.environ | {"CHROMA_CGROUP": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout == f"{3 * MIB} {9 * MIB}\n"


def test_docker_on_a_busy_instance_is_waited_for(tmp_path: Path) -> None:
    """`chroma-status` said that Chroma's memory was not known: Docker had answered after ten seconds."""
    docker = tmp_path / "docker"
    docker.write_text("#!/bin/bash\nsleep 11\ntouch asked; echo $PPID\n")
    docker.chmod(0o755)
    said = subprocess.run(
        [HOST / "memory", "usage"],
        env=os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert (tmp_path / "asked").exists()
    assert "no container" not in said.stderr


def test_what_the_data_says_reaches_no_other_program_and_is_not_changed(
    server: ChromaServer, proxy: Proxy, tmp_path: Path
) -> None:
    """A Chroma that somebody broke into may write its data as it likes; this program runs as root."""
    collection(proxy)
    server.stop()
    database = tmp_path / "data" / "chroma.sqlite3"
    with contextlib.closing(sqlite3.connect(database)) as data, data:
        data.execute("UPDATE segments SET collection = ?", ("x; add acl credentials y\n",))
    before = database.read_bytes()
    with contextlib.closing(sqlite3.connect(database)) as data:
        data.execute("PRAGMA cache_size = 1")
        data.execute(
            "INSERT INTO embeddings_queue (operation, topic, id, vector)"
            " VALUES (0, 'topic', 'id', zeroblob(1000000))"
        )
        journal = database.with_name("chroma.sqlite3-journal")
        left = {it: it.read_bytes() for it in (database, journal)}
    assert left[database] != before
    for file, content in left.items():
        file.write_bytes(content)
    for _ in range(3):
        ended(proxy, tmp_path, "137", KILLED)
        ended(proxy, tmp_path, "139", "")
    assert {it: it.read_bytes() for it in left} == left
    assert proxy.too_large.read_text() == ""
    assert (proxy.folder / "suspects").read_text() == ""
