"""What user data holds: the settings, the owner's commands, and what fetches the program."""

from __future__ import annotations

import string
import subprocess
from pathlib import Path
from typing import Any

import aws_cdk as cdk
import pytest
from aws_cdk import aws_ec2 as ec2
from hypothesis import given
from hypothesis import strategies as st

from chroma_stack import ChromaStack, SettingError, program, user_data
from tests.unit.construct import server_template
from tests.unit.synthesis import template
from tests.unit.synthesis import user_data as user_data_of

HOST = Path(user_data.__file__).parent / "host"
SCOPE = cdk.Stack(cdk.App(), "Theirs")


def rendered(settings: dict[str, str] | None = None, **more: Any) -> str:
    return user_data.render(SCOPE, settings or {}, **more)


def written(script: str, root: Path) -> Path:
    """What user data writes before it fetches the program, below a folder."""
    local = script.replace("/etc/chroma", f"{root}/etc").replace("/opt/chroma", f"{root}/opt")
    commands, _ = local.rsplit("\nexec ", 1)
    subprocess.run(["bash", "-c", commands], check=True, timeout=30)
    return root


def test_by_default_user_data_leaves_10_400_bytes_to_the_owner() -> None:
    """However long the stack's name and the ids become."""
    around = "cat >/opt/chroma/after <<'END_OF_AFTER'\n\nEND_OF_AFTER\n"
    commands = ["#" * (10_400 - len(around))]
    ChromaStack(cdk.App(), user_data_after=commands)


def test_it_fetches_the_program_and_hands_over_to_the_boot() -> None:
    assert user_data_of(template()).startswith("#!/bin/bash\nset -euo pipefail\n")
    assert user_data_of(template()).endswith("\nexec /opt/chroma/fetch-program")


def test_what_fetches_the_program_is_written_as_it_is_in_the_package(tmp_path: Path) -> None:
    written(rendered({"A": "1"}), tmp_path)
    for name in program.FETCHER:
        file = tmp_path / "opt" / name
        assert file.read_text() == program.text(name)
        is_script = program.text(name).startswith("#!")
        assert file.stat().st_mode & 0o777 == (0o755 if is_script else 0o644), name


def test_a_value_travels_as_it_is(tmp_path: Path) -> None:
    hostile = "$(touch x) `touch x` 'a' \"b\" \\ ${HOME} ; & | < > # END_OF_SETTINGS %s {0} é ="
    written(rendered({"HOSTILE": hostile}), tmp_path)
    assert (tmp_path / "etc" / "settings").read_text() == f"HOSTILE={hostile}\n"
    script = f". {HOST}/common; setting HOSTILE"
    read = subprocess.run(
        ["bash", "-c", script],
        env={"SETTINGS": f"{tmp_path}/etc/settings", "PATH": "/usr/bin:/bin"},
        check=True,
        capture_output=True,
        timeout=30,
    )
    assert read.stdout.decode() == f"{hostile}\n"


@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=60))
def test_no_value_makes_a_second_setting(value: str) -> None:
    try:
        script = rendered({"GIVEN": value, "NEXT": "untouched"})
    except SettingError:
        assert not value.isprintable()
        return
    lines = script.split("<<'END_OF_SETTINGS'\n")[1].split("\nEND_OF_SETTINGS\n")[0].split("\n")
    assert lines == [f"GIVEN={value}", "NEXT=untouched"]


@given(st.text(string.printable, min_size=1, max_size=20))
def test_only_capitals_name_a_setting(name: str) -> None:
    if set(name) <= set(string.ascii_uppercase + string.digits + "_") and name[0].isupper():
        assert f"\n{name}=x\n" in rendered({name: "x"})
    else:
        with pytest.raises(SettingError):
            rendered({name: "x"})


def test_commands_of_the_owner_are_left_to_the_boot_as_they_stand(tmp_path: Path) -> None:
    hostile = "echo \"$HOME\" 'a' `b` \\ $(c)"
    written(rendered(before=[hostile, "second"], after=["third"]), tmp_path)
    assert (tmp_path / "opt" / "before").read_text() == f"{hostile}\nsecond\n"
    assert (tmp_path / "opt" / "after").read_text() == "third\n"


def test_without_commands_nothing_is_written_for_them(tmp_path: Path) -> None:
    written(rendered({"A": "1"}), tmp_path)
    names = {it.name for it in (tmp_path / "opt").iterdir()}
    assert names == {*program.FETCHER, program.UNPACKER}
    assert [it.name for it in (tmp_path / "etc").iterdir()] == ["settings"]


def test_a_user_data_object_gives_its_commands(tmp_path: Path) -> None:
    commands = ec2.UserData.for_linux()
    commands.add_commands("echo one", "echo two")
    written(rendered(before=commands, after=commands), tmp_path)
    for name in ("before", "after"):
        assert (tmp_path / "opt" / name).read_text() == "echo one\necho two\n"


def test_variables_for_the_commands_travel_apart_from_the_settings(tmp_path: Path) -> None:
    made = server_template(lambda _: {"user_data_environment": {"VERSION": "a 'b' $(c)"}})
    assert "<<'END_OF_ENVIRONMENT'\nVERSION=a 'b' $(c)\nEND_OF_ENVIRONMENT\n" in user_data_of(made)


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("user_data_before", "echo one", "a list of commands"),
        ("user_data_after", "echo one", "a list of commands"),
        ("user_data_before", ["#!/usr/bin/python3", "print()"], "commands of a shell"),
        ("user_data_before", ["a", "END_OF_BEFORE"], "any other line"),
        ("user_data_after", ["a\nEND_OF_AFTER\nb"], "any other line"),
        ("user_data_environment", {"mine": "x"}, "names in capitals"),
        ("user_data_environment", {"MINE": "a\nOTHER=b"}, "one line of printable text"),
    ],
)
def test_what_cannot_be_run_is_refused(name: str, value: Any, sentence: str) -> None:
    with pytest.raises(SettingError, match=f"^{name}=.*{sentence}"):
        server_template(lambda _: {name: value})


def test_what_ec2_takes_is_taken_to_the_last_byte() -> None:
    room = user_data.USER_DATA_LIMIT - len(("#!/bin/bash\n" + rendered(after=["#"])).encode())
    rendered(after=["#" * (room + 1)])
    with pytest.raises(SettingError, match=r"^user_data='up to 16385 bytes'.*16384 bytes.*fetch"):
        rendered(after=["#" * (room + 2)])


def test_a_reference_counts_as_long_as_it_can_become() -> None:
    room = user_data.USER_DATA_LIMIT - len(("#!/bin/bash\n" + rendered({"A": "x"})).encode())
    longest_name = "s" * 128
    for value, longest in (
        (cdk.Aws.STACK_NAME, longest_name),
        (f"{cdk.Aws.STACK_NAME}/{cdk.Aws.STACK_NAME}", f"{longest_name}/{longest_name}"),
        (cdk.Fn.sub("${AWS::StackName}/${!Literal}"), f"{longest_name}/${{!Literal}}"),
    ):
        filler = "#" * (room - len("\ncat >/opt/chroma/after <<'END_OF_AFTER'\nEND_OF_AFTER\n"))
        fits = filler[: len(filler) - len(longest) + 1]
        rendered({"A": value}, after=[fits])
        with pytest.raises(SettingError, match="up to"):
            rendered({"A": value}, after=[fits + "#"])


def test_a_reference_that_nothing_is_known_of_counts_as_the_longest_arn() -> None:
    unknown = cdk.Fn.import_value("TheirExport")
    rendered({"A": unknown, "B": "x" * 10_000})
    with pytest.raises(SettingError, match="up to"):
        rendered({"A": unknown, "B": "x" * 12_000})
