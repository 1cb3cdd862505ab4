"""Commands and settings of the owner's own on the machine."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from aws_cdk import aws_ec2 as ec2

from chroma_stack import SettingError, user_data
from tests.unit.construct import server_template
from tests.unit.synthesis import host_settings
from tests.unit.synthesis import user_data as user_data_of


def run(root: Path, boot: str, **commands: Any) -> subprocess.CompletedProcess[str]:
    """The user data below a folder, with something else in place of the boot."""
    script = user_data.render({}, **commands)
    for folder in ("/etc/chroma", "/opt/chroma"):
        script = script.replace(folder, f"{root}{folder}")
    script = script.replace(f"\n{root}/opt/chroma/boot\n", f"\n{boot}\n")
    return subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=30)


def test_commands_before_are_left_to_the_boot_as_they_stand(tmp_path: Path) -> None:
    hostile = "echo \"$HOME\" 'a' `b` \\ $(c)"
    done = run(tmp_path, f"cat {tmp_path}/opt/chroma/before", before=[hostile, "second"])
    assert done.stdout == f"{hostile}\nsecond\n"


def test_commands_after_run_when_the_boot_has_succeeded(tmp_path: Path) -> None:
    done = run(tmp_path, "echo boot", after=["echo after"])
    assert done.stdout == "boot\nafter\n"
    failed = run(tmp_path, "(exit 1)", after=["echo after"])
    assert (failed.stdout, failed.returncode) == ("", 1)


def test_without_commands_there_is_nothing_but_the_boot(tmp_path: Path) -> None:
    done = run(tmp_path, "echo boot")
    assert done.stdout == "boot\n"
    assert not (tmp_path / "opt/chroma/before").exists()


def test_a_user_data_object_gives_its_commands() -> None:
    commands = ec2.UserData.for_linux()
    commands.add_commands("echo one", "echo two")
    made = server_template(lambda _: {"user_data_before": commands, "user_data_after": commands})
    before, after = user_data_of(made).split("\n/opt/chroma/boot\n")
    assert before.endswith("'END_OF_BEFORE'\necho one\necho two\nEND_OF_BEFORE")
    assert after == "echo one\necho two"


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("user_data_before", "echo one", "a list of commands"),
        ("user_data_after", "echo one", "a list of commands"),
        ("user_data_before", ["#!/usr/bin/python3", "print()"], "commands of a shell"),
        ("user_data_before", ["a", "END_OF_BEFORE"], "any other line"),
        ("user_data_before", ["a\nEND_OF_BEFORE\nb"], "any other line"),
    ],
)
def test_what_cannot_be_run_is_refused(name: str, value: Any, sentence: str) -> None:
    with pytest.raises(SettingError, match=f"^{name}=.*{sentence}"):
        server_template(lambda _: {name: value})


def test_more_than_ec2_takes_is_refused_at_synth() -> None:
    with pytest.raises(SettingError, match=r"^user_data=.*16384 bytes.*fetch"):
        server_template(lambda _: {"user_data_after": ["#" * 4000]})


def test_further_settings_stand_beside_the_servers_own() -> None:
    settings = host_settings(server_template(lambda _: {"host_settings": {"MINE": "a b"}}))
    assert settings["MINE"] == "a b"
    assert settings["VERSION"] == "1.5.9"


@pytest.mark.parametrize("name", host_settings(server_template()))
def test_a_setting_of_the_servers_own_is_refused(name: str) -> None:
    with pytest.raises(SettingError, match=r"^host_settings=.*not the server's own"):
        server_template(lambda _: {"host_settings": {name: "x"}})


@pytest.mark.parametrize("given", [{"mine": "x"}, {"MINE": "a\nVERSION=0.6.3"}])
def test_a_setting_that_is_no_line_is_refused(given: dict[str, str]) -> None:
    with pytest.raises(SettingError):
        server_template(lambda _: {"host_settings": given})
