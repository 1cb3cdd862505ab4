"""The data of the old generation of Chroma, taken up by the new one.

0.6.3 with a user and a password, then 1.5.9 without authentication, in order.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cloud.cdk import Cdk
from tests.cloud.moto_server import MotoServer
from tests.host.chroma_servers import LAST_PYTHON
from tests.host.programs import wait_until

from .rig import Rig
from .server import PATIENCE, Server

STACK = {"stackName": "Old"}


@pytest.fixture(scope="module")
def server(rig: Rig, account: MotoServer, cdk: Cdk) -> Iterator[Server]:
    rig.registry.offer(LAST_PYTHON)
    cdk.deploy({**STACK, "chromaVersion": LAST_PYTHON, "auth": "basic"})
    server = Server(rig, account, "Old", gib=3, sync_threshold=100)
    server.boot()
    yield server
    server.machine.terminate()


def test_the_old_generation_asks_for_user_and_password(server: Server) -> None:
    signal = server.machine.wait_for_signal()
    assert signal.status == "SUCCESS", server.machine.console[-6000:]
    assert server.status() == 401
    way = {"provider": "basic_authn.BasicAuthClientProvider", "credential": server.credential}
    server.use(batches=6, client=LAST_PYTHON, **way)


def test_the_new_generation_takes_its_data_up_in_place(server: Server, cdk: Cdk) -> None:
    assert server.acknowledged
    server.machine.terminate()  # at once, by a power cut
    cdk.deploy({**STACK, "auth": "none"})
    server.take_user_data()
    signal = server.boot().wait_for_signal()
    assert signal.status == "SUCCESS", server.machine.console[-6000:]
    version = "cat /var/lib/chroma/version"
    wait_until(lambda: server.machine.run(version).stdout == "1.5.9\n", "it is recorded", PATIENCE)
    server.use(batches=6)


def test_without_authentication_nobody_is_asked(server: Server) -> None:
    assert server.status() == 200


def test_a_power_cut_after_that_costs_no_record(server: Server) -> None:
    server.machine.power_cut()
    server.machine.start()
    server.wait_for_answer()
    server.use()
