"""Servers and proxys as fixtures."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.host.chroma_servers import CURRENT, LAST_PYTHON, ChromaServer
from tests.host.container_network import ContainerNetwork
from tests.host.haproxys import AMAZON_LINUX, INSTALLED, haproxy
from tests.host.proxy import Proxy
from tests.host.recorder import Recorder


@pytest.fixture(scope="session")
def chroma_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, ChromaServer]]:
    """One real server of each generation, behind the proxy as the instance has it."""
    with contextlib.ExitStack() as stack:
        servers: dict[str, ChromaServer] = {}
        for version in (CURRENT, LAST_PYTHON):
            if network := ContainerNetwork.if_possible():
                stack.callback(network.close)
            folder = tmp_path_factory.mktemp(f"chroma-{version}")
            servers[version] = ChromaServer(version, folder, network=network)
            stack.callback(servers[version].stop)
        yield servers


@pytest.fixture(scope="session")
def chroma(chroma_servers: dict[str, ChromaServer]) -> ChromaServer:
    """The current Chroma."""
    return chroma_servers[CURRENT]


@pytest.fixture(scope="module")
def recorder() -> Iterator[Recorder]:
    recorder = Recorder()
    yield recorder
    recorder.close()


TRANSPORTS = {
    "plain": (AMAZON_LINUX, False),
    "tls": (AMAZON_LINUX, True),
    "installed": (INSTALLED, False),
}
"""How clients reach the proxy: the release of HAProxy, and whether over TLS."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A module whose tests are to run in more ways than in plain names them in `TRANSPORTS`."""
    if "transport" in metafunc.fixturenames:
        metafunc.parametrize(
            "transport", getattr(metafunc.module, "TRANSPORTS", ["plain"]), scope="session"
        )


@pytest.fixture(scope="session", params=[INSTALLED, AMAZON_LINUX])
def haproxy_program(request: pytest.FixtureRequest) -> str:
    """The path of each release of HAProxy in turn."""
    return haproxy(request.param)


@pytest.fixture(scope="module")
def make_proxy(
    tmp_path_factory: pytest.TempPathFactory, transport: str
) -> Iterator[Callable[..., Proxy]]:
    """A function like `Proxy` whose proxys are closed at the end of the module."""
    proxys: list[Proxy] = []
    release, over_tls = TRANSPORTS[transport]

    def make(chroma: str, **options: object) -> Proxy:
        folder: Path = tmp_path_factory.mktemp("proxy")
        options = {"program": haproxy(release), "over_tls": over_tls, **options}
        proxys.append(Proxy(folder, chroma, **options))  # type: ignore[arg-type]
        return proxys[-1]

    yield make
    for proxy in proxys:
        proxy.stop()
