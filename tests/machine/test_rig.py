"""What the tests of the machine lean on, tried in one boot."""

import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from .rig import Machine, Rig, Volume

USER_DATA = (Path(__file__).parent / "rig_user_data.sh").read_text()


@pytest.fixture(scope="module")
def volume(rig: Rig) -> Volume:
    return rig.volume(gib=2)


@pytest.fixture(scope="module")
def machine(rig: Rig, volume: Volume) -> Iterator[Machine]:
    machine = rig.launch(USER_DATA.replace("VOLUME_ID", volume.volume_id))
    yield machine
    machine.terminate()


def test_user_data_runs_and_signals(rig: Rig, machine: Machine, volume: Volume) -> None:
    signal = machine.wait_for_signal()
    print(f"signal {signal.at - machine.started_at:.0f} s after qemu's start")

    assert (signal.stack, signal.resource, signal.status) == ("rig", "Group", "SUCCESS")
    assert signal.access_key == machine.access_key
    (attached,) = rig.aws.calls_of("AttachVolume", machine.access_key)
    assert attached.parameters["VolumeId"] == volume.volume_id


def test_the_pulled_image_answers_through_the_proxy(machine: Machine) -> None:
    assert heartbeat(machine).status_code == 200


def test_a_reboot_keeps_the_disks(machine: Machine) -> None:
    machine.run("echo kept > /var/lib/chroma/note && echo kept > /root/note")

    machine.reboot()

    assert machine.run("cat /var/lib/chroma/note /root/note").stdout == "kept\nkept\n"
    assert heartbeat(machine).status_code == 200


def heartbeat(machine: Machine, timeout: float = 180) -> httpx.Response:
    """Return the proxy's answer, waiting for one that long."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            return httpx.get(f"{machine.url}/api/v2/heartbeat", timeout=10)
        except httpx.TransportError:
            if time.monotonic() > deadline:
                raise
            time.sleep(1)
