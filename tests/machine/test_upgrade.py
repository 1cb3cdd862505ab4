"""The data of the old generation of Chroma, taken up by the new one.

A real 0.6.3 writes it on this computer; `tests/host` has that release behind the proxy, with a user and a
password. The volume is as an instance that ran it leaves it, and 1.5.9 boots with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from chroma_stack.emulator.cdk import Cdk
from chroma_stack.emulator.moto_server import MotoServer
from chroma_stack.emulator.rig import Rig
from tests.host.chroma_servers import LAST_PYTHON, ChromaServer
from tests.host.programs import wait_until

from .server import PATIENCE, Server

STACK = {"stackName": "Old", "auth": "none", "monitoring": "false"}


@pytest.fixture(scope="module")
def server(rig: Rig, account: MotoServer, cdk: Cdk) -> Iterator[Server]:
    cdk.deploy(STACK)
    server = Server(rig, account, "Old", sync_threshold=100)
    yield server
    server.machine.terminate()


def test_the_new_generation_takes_its_data_up_in_place(server: Server, tmp_path: Path) -> None:
    old = ChromaServer(LAST_PYTHON, tmp_path)
    server.use(batches=6, client=LAST_PYTHON, at=f"http://{old.address}")
    old.stop()
    server.volume.fill({"data": tmp_path / "data"}, {"version": f"{LAST_PYTHON}\n"})
    signal = server.boot().wait_for_signal()
    assert signal.status == "SUCCESS", server.machine.console[-6000:]
    version = "cat /var/lib/chroma/version"
    wait_until(lambda: server.machine.run(version).stdout == "1.5.9\n", "it is recorded", PATIENCE)
    server.use(batches=6)


def test_without_authentication_nobody_is_asked(server: Server) -> None:
    assert server.status() == 200
