"""The program of `examples/fargate_service`, as its container runs it, at the real proxy."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.host.chroma_servers import ChromaServer
from tests.host.programs import free_port
from tests.host.proxy import Proxy

PROGRAM = (Path(__file__).parents[2] / "examples" / "fargate_service" / "service.py").read_text()
CREDENTIAL = "a-token"


@contextmanager
def running(port: int, credential: str = CREDENTIAL) -> Iterator[subprocess.Popen[str]]:
    """The program, asking without long pauses."""
    variables = {
        "PATH": os.environ["PATH"],
        "CHROMA_HOST": "127.0.0.1",
        "CHROMA_PORT": str(port),
        "CHROMA_CREDENTIAL": credential,
        "PAUSE": "0.05",
    }
    command = [sys.executable, "-c", PROGRAM]
    with subprocess.Popen(
        command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def lines(process: subprocess.Popen[str], count: int) -> list[str]:
    """The next lines of its log."""
    assert process.stdout is not None
    return [process.stdout.readline() for _ in range(count)]


@pytest.fixture
def proxy(chroma: ChromaServer, make_proxy: Callable[..., Proxy]) -> Proxy:
    return make_proxy(chroma.address, credential=CREDENTIAL).start()


def test_it_says_again_and_again_how_many_collections_there_are(proxy: Proxy) -> None:
    path = "/api/v2/tenants/default_tenant/databases/default_database/collections_count"
    count = proxy.get(path, proxy.right).json()
    with running(proxy.port) as process:
        assert lines(process, 2) == [f"{count} collections\n"] * 2


def test_a_refused_credential_ends_it(proxy: Proxy) -> None:
    with running(proxy.port, credential="old-token") as process:
        out, error = process.communicate(timeout=30)
    assert (process.returncode, out, error) == (1, "", "the credential is refused\n")


def test_a_server_that_is_away_does_not_end_it() -> None:
    with running(free_port()) as process:
        first, second = lines(process, 2)
        assert first.startswith("the server does not answer: ")
        assert first == second
        assert process.poll() is None
