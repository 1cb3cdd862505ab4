"""Copies between releases of Chroma, compared by their own clients."""

from __future__ import annotations

import contextlib
import copy
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import httpx
import pytest

from tests.host.chroma_servers import CURRENT, LAST_PYTHON, OLDEST, OLDEST_RUST, ChromaServer
from tests.host.copied import DATABASES, TENANTS, contents, differences, fill
from tests.host.programs import wait_until
from tests.host.proxy import Proxy, token_of

RELEASES = (OLDEST, LAST_PYTHON, OLDEST_RUST, CURRENT)
RECORDS = 1200  # of the largest collection: its index is written once in between
COMMAND = (sys.executable, "-m", "chroma_stack.copy")
RESETTABLE = {"ALLOW_RESET": "TRUE", "CHROMA_ALLOW_RESET": "true"}


class Source(NamedTuple):
    """A server with a bit of everything, which no test changes."""

    server: ChromaServer
    contents: dict[str, Any]

    @property
    def url(self) -> str:
        return f"http://{self.server.address}"


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Source]]:
    """The source of a release, made when it is first asked for."""
    with contextlib.ExitStack() as stack:
        made: dict[str, Source] = {}

        def source(version: str) -> Source:
            if version not in made:
                server = ChromaServer(version, tmp_path_factory.mktemp(f"source-{version}"))
                stack.callback(server.stop)
                fill(version, server.address, RECORDS)
                made[version] = Source(server, contents(version, server.address))
            return made[version]

        yield source


@pytest.fixture(scope="module")
def all_targets(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[[str], ChromaServer]]:
    """The target of a release, started when it is first asked for."""
    with contextlib.ExitStack() as stack:
        made: dict[str, ChromaServer] = {}

        def target(version: str) -> ChromaServer:
            if version not in made:
                folder = tmp_path_factory.mktemp(f"target-{version}")
                made[version] = ChromaServer(version, folder, RESETTABLE)
                stack.callback(made[version].stop)
            return made[version]

        yield target


@pytest.fixture
def empty_target(all_targets: Callable[[str], ChromaServer]) -> Callable[[str], ChromaServer]:
    """The target of a release, without what the test before left."""

    def target(version: str) -> ChromaServer:
        server = all_targets(version)
        httpx.post(f"http://{server.address}/api/v2/reset", timeout=60).raise_for_status()
        return server

    return target


def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """What the copy does, which is never a traceback."""
    done = subprocess.run(
        [*COMMAND, *arguments],
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


def everything(source: Source | None = None) -> list[str]:
    """The options that name all that is to be compared."""
    chosen = [option for tenant in TENANTS for option in ("--tenant", tenant)]
    if source and source.server.version == OLDEST:  # cannot list its databases
        chosen += [option for database in DATABASES for option in ("--database", database)]
    return chosen


def assert_copied(source: Source, target: ChromaServer) -> None:
    """The target has what the source had, which is something."""
    assert len(source.contents[TENANTS[0]][DATABASES[0]]["articles"]["records"]) == RECORDS
    assert not differences(source.contents, contents(target.version, target.address))


@pytest.mark.parametrize("to", RELEASES)
@pytest.mark.parametrize("from_", RELEASES)
def test_a_release_is_copied_to_another(
    sources: Callable[[str], Source],
    empty_target: Callable[[str], ChromaServer],
    from_: str,
    to: str,
) -> None:
    source, target = sources(from_), empty_target(to)
    done = run(source.url, f"http://{target.address}", *everything(source), "--verify")
    assert done.returncode == 0, done.stderr
    assert_copied(source, target)


@pytest.mark.parametrize(("from_", "to"), [(OLDEST, CURRENT), (CURRENT, LAST_PYTHON)])
def test_a_folder_keeps_everything(
    sources: Callable[[str], Source],
    empty_target: Callable[[str], ChromaServer],
    tmp_path: Path,
    from_: str,
    to: str,
) -> None:
    source, target, folder = sources(from_), empty_target(to), f"file:{tmp_path}/copy"
    out = run(source.url, folder, *everything(source))
    assert out.returncode == 0, out.stderr
    back = run(folder, f"http://{target.address}")
    assert back.returncode == 0, back.stderr
    assert_copied(source, target)


def test_a_copy_goes_through_proxys_with_their_credentials(
    sources: Callable[[str], Source],
    empty_target: Callable[[str], ChromaServer],
    make_proxy: Callable[..., Proxy],
    tmp_path: Path,
) -> None:
    source, target = sources(LAST_PYTHON), empty_target(CURRENT)
    first = make_proxy(source.server.address, tls="required").start()
    second = make_proxy(target.address, auth="basic").start()
    credential = tmp_path / "credential"
    credential.write_text(second.credential)
    command = [first.https_url, second.url, *everything(), "--source-ca", str(first.ca)]
    to_second = ["--target-auth", "basic", "--target-credential-file", str(credential)]
    refused = run(*command, *to_second, CHROMA_SOURCE_CREDENTIAL="wrong-Token")
    assert refused.returncode == 1
    assert "wrong-Token" not in refused.stderr
    done = run(*command, *to_second, CHROMA_SOURCE_CREDENTIAL=first.credential)
    assert done.returncode == 0, done.stderr
    assert_copied(source, target)
    assert first.log_lines()
    assert second.log_lines()


def test_a_user_who_reads_copies_out_and_one_who_writes_copies_in(
    sources: Callable[[str], Source],
    empty_target: Callable[[str], ChromaServer],
    make_proxy: Callable[..., Proxy],
) -> None:
    source, target = sources(LAST_PYTHON), empty_target(CURRENT)
    first = make_proxy(source.server.address, users={"reader": "read"}).start()
    second = make_proxy(target.address, users={"writer": "write"}).start()
    command = [first.url, second.url, "--database", DATABASES[0], "--verify"]
    tokens = {
        "CHROMA_SOURCE_CREDENTIAL": token_of("reader"),
        "CHROMA_TARGET_CREDENTIAL": token_of("writer"),
    }
    done = run(*command, **tokens)
    assert done.returncode == 0, done.stderr
    assert count(target) == RECORDS


def test_a_second_run_changes_nothing(
    sources: Callable[[str], Source], empty_target: Callable[[str], ChromaServer]
) -> None:
    source, target = sources(LAST_PYTHON), empty_target(CURRENT)
    for _ in range(2):
        done = run(source.url, f"http://{target.address}", *everything(), "--verify", "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["differences"] == 0
        assert_copied(source, target)


def count(target: ChromaServer) -> int:
    """How many records the largest collection has in the target by now."""
    tenant, database = TENANTS[0], DATABASES[0]
    path = f"/api/v2/tenants/{tenant}/databases/{database}/collections/articles"
    with contextlib.suppress(httpx.HTTPError):
        found = httpx.get(f"http://{target.address}{path}", timeout=60)
        if found.is_success:
            path = f"{path.removesuffix('articles')}{quote(found.json()['id'])}/count"
            return int(httpx.get(f"http://{target.address}{path}", timeout=60).text)
    return 0


def killed_until_it_is_done(command: list[str], progress: Callable[[], int], step: int) -> int:
    """Runs the copy again and again, kills it at random moments, and returns how often."""
    dice = random.Random()
    for kills in range(1000):
        process = subprocess.Popen([*COMMAND, *command], stderr=subprocess.PIPE, text=True)
        assert process.stderr
        goal = progress() + dice.randrange(step)
        ends = time.monotonic() + dice.uniform(0, 3) if kills % 3 == 2 else float("inf")
        while process.poll() is None and progress() < goal and time.monotonic() < ends:
            time.sleep(0.01)
        if process.poll() is None:
            process.kill()
        errors = process.communicate()[1]
        if process.returncode != -signal.SIGKILL:
            assert process.returncode == 0, errors
            return kills
    raise AssertionError("the copy makes no progress")


def test_a_copy_that_is_killed_at_random_moments_goes_on(
    sources: Callable[[str], Source], empty_target: Callable[[str], ChromaServer]
) -> None:
    source, target = sources(CURRENT), empty_target(CURRENT)
    command = [source.url, f"http://{target.address}", *everything(), "--batch", "10", "--resume"]
    kills = killed_until_it_is_done(command, lambda: count(target), RECORDS // 3)
    assert kills >= 2
    assert_copied(source, target)


def test_a_folder_whose_copy_is_killed_at_random_moments_goes_on(
    sources: Callable[[str], Source],
    empty_target: Callable[[str], ChromaServer],
    tmp_path: Path,
) -> None:
    source, target, folder = sources(CURRENT), empty_target(CURRENT), tmp_path / "copy"

    def size() -> int:
        return sum(it.stat().st_size for it in folder.rglob("*") if it.is_file())

    command = [source.url, f"file:{folder}", *everything(), "--batch", "10", "--resume"]
    killed_until_it_is_done(command, size, 60_000)
    done = run(f"file:{folder}", f"http://{target.address}")
    assert done.returncode == 0, done.stderr
    assert_copied(source, target)


def test_a_folder_that_is_not_complete_is_refused(
    sources: Callable[[str], Source],
    empty_target: Callable[[str], ChromaServer],
    tmp_path: Path,
) -> None:
    source, target = sources(CURRENT), empty_target(CURRENT)
    out = run(source.url, f"file:{tmp_path}/copy", *everything())
    assert out.returncode == 0, out.stderr
    manifest = tmp_path / "copy" / "manifest.json"
    manifest.rename(manifest.with_suffix(".unfinished"))
    refused = run(f"file:{tmp_path}/copy", f"http://{target.address}")
    assert refused.returncode == 1
    assert "manifest.json" in refused.stderr
    assert count(target) == 0


def test_a_target_that_is_killed_meanwhile_has_everything_in_the_end(
    sources: Callable[[str], Source], tmp_path: Path
) -> None:
    source, target = sources(CURRENT), ChromaServer(CURRENT, tmp_path)
    try:
        slowly = ["--batch", "10", "--jobs", "1"]
        command = [source.url, f"http://{target.address}", *everything(), *slowly]
        process = subprocess.Popen([*COMMAND, *command], stderr=subprocess.PIPE, text=True)
        # Before 1,000, when its index is written: a kill at that moment may damage it.
        wait_until(lambda: count(target) > 50, "the copy writes", every=0.005)
        target.process.kill()
        target.process.wait()
        time.sleep(1)
        target.start()
        errors = process.communicate(timeout=200)[1]
        assert "Traceback" not in errors
        assert process.returncode == 0, errors
        assert_copied(source, target)
    finally:
        target.stop()


def test_what_an_older_release_cannot_hold_is_refused(
    sources: Callable[[str], Source], empty_target: Callable[[str], ChromaServer]
) -> None:
    source, target = sources(CURRENT), empty_target(LAST_PYTHON)
    refused = run(source.url, f"http://{target.address}", "--tenant", "new")
    assert refused.returncode == 1
    assert "new/new_database/lists" in refused.stderr


def test_a_name_that_a_newer_release_refuses_is_changed_by_an_option(
    sources: Callable[[str], Source], empty_target: Callable[[str], ChromaServer]
) -> None:
    source, target = sources(LAST_PYTHON), empty_target(CURRENT)
    command = [source.url, f"http://{target.address}", "--tenant", "old"]
    refused = run(*command)
    assert refused.returncode == 1
    assert "données 100%" in refused.stderr
    done = run(*command, "--target-database", "data")
    assert done.returncode == 0, done.stderr
    before = contents(LAST_PYTHON, source.server.address, ["old"])["old"]["données 100%"]
    after = contents(CURRENT, target.address, ["old"])["old"]["data"]
    assert before["articles"]["records"] == after["articles"]["records"] != {}


def changed(everything: dict[str, Any], how: str) -> dict[str, Any]:
    """Contents in which one thing is otherwise."""
    everything = copy.deepcopy(everything)
    tenant = everything[TENANTS[0]]
    database = tenant[DATABASES[0]]
    articles, odd = database["articles"], database["odd"]
    record = odd["records"]["日本語"]
    match how:
        case "tenant":
            del everything[TENANTS[1]]
        case "database":
            tenant["another"] = {}
        case "collection":
            del database["nothing"]
        case "metadata of a collection":
            articles["metadata"]["n"] = "1.0"
        case "space":
            odd["index"]["space"] = "cosine"
        case "embedding function":
            odd["embedding function"] = '{"type": "known"}'
        case "record":
            del articles["records"]["article 7"]
        case "additional record":
            odd["records"]["é"] = record
        case "last bit of a vector":
            record[0] = f"{int(record[0][0], 16) ^ 1:x}{record[0][1:]}"
        case "document" | "metadata" | "uri":
            record[("vector", "document", "metadata", "uri").index(how)] = '"another"'
        case "distances":
            odd["nearest"] = {
                key: {it: distance + 1 for it, distance in found.items()}
                for key, found in odd["nearest"].items()
            }
    return everything


@pytest.mark.parametrize(
    "how",
    [
        *("tenant", "database", "collection", "metadata of a collection", "space"),
        *("embedding function", "record", "additional record", "last bit of a vector"),
        *("document", "metadata", "uri", "distances"),
    ],
)
def test_the_comparison_finds_a_change(sources: Callable[[str], Source], how: str) -> None:
    before = sources(CURRENT).contents
    after = changed(before, how)
    assert differences(before, after)
    assert differences(after, before)
    assert not differences(before, before)
