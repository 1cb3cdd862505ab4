"""Parts of the boot by themselves, with stand-ins for AWS and a clock that jumps."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.host.programs import HOST

INTERFACE = "eni-0123456789abcdef0"
SETTINGS = {
    "VOLUME": "vol-0123456789abcdef0",
    "ADDRESS": INTERFACE,
    "PRIVATE_ADDRESS": "10.0.1.7",
    "IMAGE": "123456789012.dkr.ecr.ap-northeast-1.amazonaws.com/mirror/chroma:1.5.9",
    "VERSION": "1.5.9",
    "REGION": "ap-northeast-1",
}
STAND_INS = """
signal() { echo "signal $1 $2"; }
replace_me() { :; }
sleep() { SECONDS=$((SECONDS + $1)); }
"""


def boot(root: Path, script: str, **settings: str) -> str:
    """What is said when the functions of the boot are used below a folder."""
    functions = (HOST / "boot").read_text().split("\nrun_before\n")[0]
    for folder, instead in (
        ("/opt/chroma/common", str(HOST / "common")),
        ("/opt/chroma", f"{root}"),
        ("/etc/chroma", f"{root}"),
        ("/var/lib/cloud/data/instance-id", f"{root}/instance-id"),
    ):
        functions = functions.replace(folder, instead)
    (root / "instance-id").write_text("i-0123456789abcdef0\n")
    lines = [f"{name}={value}\n" for name, value in {**SETTINGS, **settings}.items()]
    (root / "settings").write_text("".join(lines))
    done = subprocess.run(
        ["bash", "-c", f"{functions}\n{STAND_INS}\n{script}"],
        env={"PATH": "/usr/bin:/bin", "SETTINGS": str(root / "settings")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
    )
    return done.stdout


def failure(said: str) -> str:
    """The reason that the stack's events show."""
    [reason, instance] = re.findall("signal FAILURE (.*)", said)
    assert instance == "i-0123456789abcdef0"
    assert len(reason) <= 64
    return reason


def test_the_interface_is_attached_and_its_address_waited_for(tmp_path: Path) -> None:
    said = boot(
        tmp_path,
        """
        aws() { echo "$*" >"$SETTINGS.call"; attached_at=$SECONDS; }
        ip() { ((SECONDS - ${attached_at:-9999} < 30)) || echo '3: ens6 inet 10.0.1.7/24 brd'; }
        take_address; cat "$SETTINGS.call"; echo taken
        """,
    )
    assert f"attach-network-interface --network-interface-id {INTERFACE} --device-index 1" in said
    assert "--instance-id i-0123456789abcdef0" in said
    assert "force" not in said
    assert said.endswith("taken\n")


def test_an_address_that_only_begins_alike_is_another(tmp_path: Path) -> None:
    said = boot(
        tmp_path,
        "aws() { :; }; ip() { echo '3: ens6 inet 10.0.1.70/24'; echo '4: e inet 110.0.1.7/24'; }\n"
        "take_address",
    )
    assert failure(said) == f"{INTERFACE} attached, but without its address"


def test_an_interface_that_is_here_already_is_not_attached_again(tmp_path: Path) -> None:
    said = boot(
        tmp_path,
        "aws() { echo called; }; ip() { echo '3: ens6 inet 10.0.1.7/24'; }; take_address; echo ok",
    )
    assert "called" not in said
    assert said.endswith("ok\n")


@pytest.mark.parametrize(
    ("complaint", "seconds"),
    [
        ("(InvalidNetworkInterface.InUse): Interface: [eni-…] in use.", 900),
        ("(IncorrectState): instance is not in a valid state", 900),
        ("(UnauthorizedOperation): You are not authorized", 120),
    ],
)
def test_one_that_the_machine_before_holds_is_waited_for_longer(
    tmp_path: Path, complaint: str, seconds: int
) -> None:
    said = boot(
        tmp_path,
        f"aws() {{ echo 'An error occurred {complaint}' >&2; return 254; }}\n"
        "ip() { :; }; take_address",
    )
    assert failure(said) == f"{INTERFACE} not attached"
    assert said.count("waiting, because: An error occurred") == 1
    [end] = re.findall(r"(\d+) s: FAILED", said)
    assert seconds <= int(end) <= seconds + 10


def test_a_public_address_is_taken_as_ever(tmp_path: Path) -> None:
    said = boot(
        tmp_path,
        'aws() { echo "$*" >"$SETTINGS.call"; }; take_address; cat "$SETTINGS.call"',
        ADDRESS="eipalloc-0123456789abcdef0",
        PRIVATE_ADDRESS="",
    )
    assert "associate-address --allocation-id eipalloc-0123456789abcdef0" in said


@pytest.mark.parametrize(
    "verb", ["Could not connect to the", "Connect timeout on", "Read timeout on"]
)
def test_an_endpoint_that_is_missing_is_what_the_stack_is_told(tmp_path: Path, verb: str) -> None:
    said = boot(
        tmp_path,
        f"""
        aws() {{ echo '{verb} endpoint URL: "https://ec2.ap-northeast-1.amazonaws.com/"' >&2; return 255; }}
        find_disk() {{ false; }}
        attach_volume
        """,
    )
    assert failure(said) == "no way to ec2.ap-northeast-1.amazonaws.com"
    assert "So: vol-0123456789abcdef0 not attached." in said
    assert "VPC endpoint" in said


def test_a_registry_that_is_out_of_reach_is_what_the_stack_is_told(tmp_path: Path) -> None:
    said = boot(
        tmp_path,
        "log_in_to_ecr() { :; }; timeout() { echo 'dial tcp: i/o timeout' >&2; return 1; }\n"
        "get_image",
    )
    assert failure(said) == "no way to 123456789012.dkr.ecr.ap-northeast-1.amazonaws.com"


def test_a_failed_command_of_the_owners_fails_the_boot_at_once(tmp_path: Path) -> None:
    (tmp_path / "before").write_text("echo one\ncat nothing | true\necho two\n")
    said = boot(tmp_path, "run_before; echo on")
    assert failure(said) == "a command of user_data_before failed"
    assert "one\n" in said
    assert "two\n" not in said


def test_the_boot_goes_on_after_the_owners_commands_and_without_any(tmp_path: Path) -> None:
    assert boot(tmp_path, "run_before; echo on") == "on\n"
    (tmp_path / "before").write_text("echo one\n")
    assert boot(tmp_path, "run_before; echo on").endswith("one\non\n")


def test_a_configuration_is_written_and_mounted_only_when_there_is_one(tmp_path: Path) -> None:
    boot(tmp_path, "write_config", CHROMA_CONFIG="")
    assert not (tmp_path / "config.env").exists()
    config = '{"persist_path": "/data", "region": "$HOME \\\\ \'"}'
    boot(tmp_path, "write_config", CHROMA_CONFIG=config)
    assert (tmp_path / "config.yaml").read_text() == f"{config}\n"
    assert (tmp_path / "config.yaml").stat().st_mode & 0o444 == 0o444
    mount = (tmp_path / "config.env").read_text()
    assert mount.endswith("dst=/config.yaml,readonly\n")
    assert len(mount.split()) == 1
