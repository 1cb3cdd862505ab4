"""Servers and doors as fixtures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.host.chroma_servers import CURRENT, LAST_PYTHON, ChromaServer
from tests.host.door import Door
from tests.host.recorder import Recorder


@pytest.fixture(scope="session")
def chroma_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, ChromaServer]]:
    """One real server of each generation."""
    servers: dict[str, ChromaServer] = {}
    try:
        for version in (CURRENT, LAST_PYTHON):
            servers[version] = ChromaServer(version, tmp_path_factory.mktemp(f"chroma-{version}"))
        yield servers
    finally:
        for server in servers.values():
            server.stop()


@pytest.fixture(scope="session")
def chroma(chroma_servers: dict[str, ChromaServer]) -> ChromaServer:
    """The current Chroma."""
    return chroma_servers[CURRENT]


@pytest.fixture(scope="module")
def recorder() -> Iterator[Recorder]:
    recorder = Recorder()
    yield recorder
    recorder.close()


@pytest.fixture(scope="module")
def make_door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Door]]:
    """A function like `Door` whose doors are closed at the end of the module."""
    doors: list[Door] = []

    def make(chroma: str, **options: str) -> Door:
        folder: Path = tmp_path_factory.mktemp("door")
        doors.append(Door(folder, chroma, **options))  # type: ignore[arg-type]
        return doors[-1]

    yield make
    for door in doors:
        door.stop()
