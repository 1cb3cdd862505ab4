"""The program of the instance on its way: an update, its rollback, and a fetch that fails.

CloudFormation makes a new program's parameters before it replaces the instance, and deletes the
previous ones after that.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from chroma_stack import program
from chroma_stack.emulator.cdk import Cdk
from chroma_stack.emulator.machine import Machine
from chroma_stack.emulator.moto_server import MotoServer
from chroma_stack.emulator.rig import Rig
from tests.cloud.project import PROJECT
from tests.host.programs import wait_until

from .server import PATIENCE, Server

STACK = {"stackName": "Program"}
MARK = "/run/another-program"


def signals(rig: Rig, machine: Machine) -> list[tuple[str, str]]:
    return [
        (signal.status, signal.unique_id)
        for signal in rig.aws.signals
        if signal.access_key == machine.access_key
    ]


@pytest.fixture(scope="module")
def server(rig: Rig, account: MotoServer, cdk: Cdk) -> Iterator[Server]:
    """After an update of the program, before an instance has started with it."""
    cdk.deploy(STACK)
    old = account.launched_user_data("Program")
    for name, copy in (("app.py", shutil.copy), ("chroma_stack", shutil.copytree)):
        (cdk.directory / name).unlink()  # a link to the project's
        copy(PROJECT / name, cdk.directory / name)
    with (cdk.directory / "chroma_stack" / "host" / "self-test").open("a") as script:
        script.write(f"touch {MARK}\n")
    cdk.deploy(STACK)
    server = Server(rig, account, "Program")
    assert server.settings["PROGRAM"] not in old
    yield server
    server.machine.terminate()


def test_after_a_failed_update_the_program_before_it_is_found_and_runs(
    rig: Rig,
    account: MotoServer,
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The next update fails on its instance. Its parameters are beside the present ones then."""
    host = Path(shutil.copytree(PROJECT / "chroma_stack" / "host", tmp_path / "host"))
    boot = (host / "boot").read_text()
    broken_boot = boot.replace("    start_docker\n", "    fail 'a broken release' 'See above.'\n")
    assert boot != broken_boot
    (host / "boot").write_text(broken_boot)
    monkeypatch.setattr(program, "_folder", lambda: host)
    text, names = program.encoded(), []
    for number, start in enumerate(range(0, len(text), 4096)):
        names.append(f"CFN-Broken{number}-0123456789AB")
        account.client("ssm").put_parameter(
            Name=names[-1], Value=text[start : start + 4096], Type="String"
        )
    user_data = server.user_data.replace(server.settings["PROGRAM"], " ".join(names))
    user_data = user_data.replace(
        server.settings["PROGRAM_SHA256"], hashlib.sha256(text.encode()).hexdigest()
    )
    broken = server.boot(user_data)
    broken.wait_for_signal()
    reported = [("FAILURE", "a broken release"), ("FAILURE", broken.instance_id)]
    wait_until(lambda: signals(rig, broken) == reported, "both signals", PATIENCE, every=0.5)
    assert rig.aws.calls_of("AssociateAddress", broken.access_key) == []
    # Counted by the alarm for it, although CloudFormation may end the instance now.
    wait_until(
        lambda: "BootFailures" in {datum.name for datum in server.data()},
        "its log arrives",
        PATIENCE,
        every=2,
    )
    assert [line for line in server.log_lines() if "a broken release" in line]
    broken.terminate()
    machine = server.boot()
    assert machine.wait_for_signal().status == "SUCCESS", machine.console[-6000:]
    assert machine.run(f"test -e {MARK}").returncode == 0
    server.use_with_token(batches=2)
    machine.terminate()
    for name in names:
        account.client("ssm").delete_parameter(Name=name)


def test_a_fetch_that_fails_is_in_the_events_of_the_stack_and_on_the_address(
    rig: Rig, account: MotoServer, server: Server
) -> None:
    with rig.aws.refusing("GetParameters", "AccessDeniedException", "not authorized"):
        machine = rig.launch(server.user_data)
        try:
            machine.wait_for_signal()
            key = machine.access_key
            wait_until(lambda: rig.aws.calls_of("SetInstanceHealth", key), "it asks", PATIENCE)
        finally:
            machine.terminate()
    assert len(rig.aws.calls_of("GetParameters", key)) > 1
    assert signals(rig, machine) == [
        ("FAILURE", "program not fetched from Parameter Store"),
        ("FAILURE", machine.instance_id),
    ]
    assert rig.aws.calls_of("AttachVolume", key) == []
    assert "(AccessDeniedException) when calling the GetParameters operation" in machine.console
    [count] = account.client("ec2").describe_tags(
        Filters=[
            {"Name": "resource-id", "Values": [server.settings["ADDRESS"]]},
            {"Name": "key", "Values": ["chroma-boot-failures"]},
        ]
    )["Tags"]
    assert re.fullmatch(
        r"1 in a row at 20\S+Z: program not fetched from Parameter Store", count["Value"]
    )
