"""Boots that must fail: at once, with a sentence, and with the data left as it is.

The machines boot beside each other: most of them only wait.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.cloud.cdk import Cdk
from tests.cloud.moto_server import MotoServer
from tests.host.programs import wait_until

from .rig import Machine, Rig, Volume
from .server import Server

STACK = "Failures"


@dataclass
class Case:
    """A machine that cannot become a server."""

    reason: str
    """What the stack's events show: the unique id of the signal."""

    settings: dict[str, str] = field(default_factory=dict)
    """Lines of the settings that differ."""

    disk: Callable[[Path], None] = lambda disk: None
    """What is on the volume before."""

    before: bytes = b""

    machine: Machine = field(init=False)
    volume: Volume = field(init=False)


def formatted(*options: str) -> Callable[[Path], None]:
    def make(disk: Path) -> None:
        subprocess.run(["mke2fs", "-q", "-F", *options, str(disk)], check=True)

    return make


def of_chroma_1(disk: Path) -> None:
    """The volume of a server that ran 1.5.9."""
    formatted("-t", "ext4", "-L", "chroma-data")(disk)
    with disk.with_suffix(".version").open("w") as version:
        version.write("1.5.9\n")
    write = ["debugfs", "-w", "-R", f"write {version.name} version", str(disk)]
    subprocess.run(write, check=True, capture_output=True)


def noise(disk: Path) -> None:
    """No signature that anybody knows, but no blank disk either."""
    with disk.open("r+b") as file:
        file.seek(4096)
        file.write(b"somebody's own format")


CASES = {
    "foreign": Case("volume VOLUME holds other data, left as it is", disk=formatted("-t", "ext3")),
    "noise": Case("volume VOLUME holds other data, left as it is", disk=noise),
    "back": Case(
        "data of Chroma 1.5.9, which 0.6.3 cannot read",
        {"VERSION": "0.6.3"},
        disk=of_chroma_1,
    ),
    "image": Case("image not found: chroma:9.9.9", {"IMAGE": "ghcr.io/chroma-core/chroma:9.9.9"}),
    "secret": Case("no usable credential", {"AUTH_SECRET": "SPACED"}),
    "forgotten": Case("empty volume, but the data is on vol-0123456789abcdef0"),
}


@pytest.fixture(scope="module")
def server(rig: Rig, account: MotoServer, cdk: Cdk) -> Server:
    cdk.deploy({"stackName": STACK})
    return Server(rig, account, STACK)


@pytest.fixture(scope="module")
def booted(rig: Rig, account: MotoServer, server: Server) -> Iterator[dict[str, Case]]:
    """All of them, two at a time."""
    ec2 = account.client("ec2")
    spaced = account.client("secretsmanager").create_secret(Name="spaced", SecretString="two words")
    had_data = ec2.allocate_address(Domain="vpc")["AllocationId"]
    tag = {"Key": "chroma-data", "Value": "vol-0123456789abcdef0"}
    ec2.create_tags(Resources=[had_data], Tags=[tag])
    CASES["secret"].settings["AUTH_SECRET"] = spaced["ARN"]
    CASES["forgotten"].settings["ADDRESS"] = had_data
    running: list[Case] = []
    for case in CASES.values():
        case.volume = rig.volume(gib=1)
        case.disk(case.volume.file)
        case.reason = case.reason.replace("VOLUME", case.volume.volume_id)
        case.before = first_mib(case.volume)
        settings = {**server.settings, "VOLUME": case.volume.volume_id, **case.settings}
        user_data = server.user_data
        for name, value in settings.items():
            user_data = user_data.replace(
                f"\n{name}={server.settings[name]}\n", f"\n{name}={value}\n"
            )
        case.machine = rig.launch(user_data)
        running.append(case)
        if len(running) == 2:
            running.pop(0).machine.wait_for_signal(600)
    for case in running:
        case.machine.wait_for_signal(600)
    yield CASES
    for case in CASES.values():
        case.machine.terminate()


def first_mib(volume: Volume) -> bytes:
    with volume.file.open("rb") as disk:
        return disk.read(1 << 20)


@pytest.mark.parametrize("name", CASES)
def test_a_boot_that_fails_says_why_in_the_events_of_the_stack(
    rig: Rig, booted: dict[str, Case], name: str
) -> None:
    case = booted[name]
    signals = [
        (signal.status, signal.unique_id)
        for signal in rig.aws.signals
        if signal.access_key == case.machine.access_key
    ]
    assert signals == [("FAILURE", case.reason), ("FAILURE", case.machine.instance_id)]
    assert len(case.reason) <= 64


@pytest.mark.parametrize("name", CASES)
def test_a_machine_that_failed_takes_no_address_and_asks_to_be_replaced(
    rig: Rig, booted: dict[str, Case], name: str
) -> None:
    machine = booted[name].machine

    def calls() -> set[str]:
        return {call.action for call in rig.aws.calls if call.access_key == machine.access_key}

    wait_until(lambda: "SetInstanceHealth" in calls(), "it asks", 90)
    assert "AssociateAddress" not in calls()


@pytest.mark.parametrize("name", ["foreign", "noise", "forgotten"])
def test_a_disk_that_is_refused_is_left_as_it_is(booted: dict[str, Case], name: str) -> None:
    case = booted[name]
    assert first_mib(case.volume) == case.before


def test_a_broken_secret_fails_closed(booted: dict[str, Case]) -> None:
    machine = booted["secret"].machine
    assert "letters, digits and punctuation, no spaces" in machine.console
    assert "two words" not in machine.console
    assert machine.run("systemctl is-active chroma-door.service").stdout.strip() == "inactive"


def test_without_a_package_repository_it_retries_and_then_says_so(rig: Rig, server: Server) -> None:
    machine = rig.launch(server.user_data)
    machine.metadata.repository_reachable = False
    try:
        machine.wait_for_signal(700)
        reasons = [
            signal.unique_id
            for signal in rig.aws.signals
            if signal.access_key == machine.access_key
        ]
        assert reasons[0] == "packages not installed: no package repository reachable"
        assert "waiting, because: Error: Failed to download metadata" in machine.console
    finally:
        machine.terminate()
