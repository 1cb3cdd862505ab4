"""Power cuts at random moments, while clients write.

As many as CUTS says (`make soak CUTS=20`), with an index that Chroma brings to the disk after
SYNC_THRESHOLD records.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator

import pytest

from tests.cloud.cdk import Cdk
from tests.cloud.moto_server import MotoServer

from .rig import Rig
from .server import NEVER, Server, answers, until

CUTS = int(os.environ.get("CUTS", "3"))
SYNC_THRESHOLD = int(os.environ.get("SYNC_THRESHOLD", str(NEVER)))


@pytest.fixture(scope="module")
def server(rig: Rig, account: MotoServer, cdk: Cdk) -> Iterator[Server]:
    cdk.deploy({"stackName": "Cuts"})
    server = Server(rig, account, "Cuts", sync_threshold=SYNC_THRESHOLD)
    machine = server.boot()
    signal = machine.wait_for_signal()
    assert signal.status == "SUCCESS", machine.console[-6000:]
    yield server
    machine.terminate()


@pytest.mark.parametrize("cut", range(1, CUTS + 1))
def test_a_power_cut_at_a_random_moment_costs_no_acknowledged_record(
    server: Server, cut: int
) -> None:
    with server.writing(random.uniform(1, 15)):
        server.machine.power_cut()
    server.machine.start()
    waited = until(lambda: answers(server), 240)
    print(f"cut {cut}: {len(server.acknowledged) * 25} records, back after {waited:.0f} s")
    server.use_with_token()
