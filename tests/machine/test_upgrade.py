"""The data of the old generation of Chroma, taken up by the new one."""

from __future__ import annotations

from tests.cloud.cdk import Cdk
from tests.cloud.moto_server import MotoServer
from tests.host.chroma_servers import LAST_PYTHON
from tests.host.programs import wait_until

from .rig import Rig
from .server import Server, answers


def test_the_old_generation_hands_its_data_to_the_new_one_in_place(
    rig: Rig, account: MotoServer, cdk: Cdk
) -> None:
    """0.6.3 with a user and a password, then 1.5.9 without authentication."""
    rig.registry.offer(LAST_PYTHON)
    context = {"stackName": "Old", "chromaVersion": LAST_PYTHON, "auth": "basic"}
    cdk.deploy(context)
    server = Server(rig, account, "Old", gib=3, sync_threshold=100)
    machine = server.boot()
    signal = machine.wait_for_signal(900)
    assert signal.status == "SUCCESS", machine.console[-6000:]
    assert server.status() == 401
    way = {"provider": "basic_authn.BasicAuthClientProvider", "credential": server.credential}
    server.use(batches=6, client=LAST_PYTHON, **way)
    machine.terminate()  # at once, by a power cut

    cdk.deploy({"stackName": "Old", "auth": "none"})
    server.user_data = account.launched_user_data("Old")
    machine = server.boot()
    try:
        signal = machine.wait_for_signal()
        assert signal.status == "SUCCESS", machine.console[-6000:]
        assert server.status() == 200
        assert machine.run("cat /var/lib/chroma/version").stdout == "1.5.9\n"
        server.use(batches=6)
        machine.power_cut()
        machine.start()
        wait_until(lambda: answers(server), "the server is back", 300)
        server.use()
    finally:
        machine.terminate()
