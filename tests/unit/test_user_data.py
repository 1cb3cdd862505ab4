"""How settings and host files travel to the machine."""

from __future__ import annotations

import string
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chroma_stack import SettingError, user_data

HOST = Path(user_data.__file__).parent / "host"


def unpacked(script: str, root: Path) -> Path:
    """Runs the user data below a folder, all but its last line, which starts the boot."""
    local = script.replace("/etc/chroma", f"{root}/etc").replace("/opt/chroma", f"{root}/opt")
    commands = local.rstrip().rpartition("\n")[0]
    subprocess.run(["bash", "-c", commands], check=True, timeout=30)
    return root


def without_comments(text: str) -> list[str]:
    first, *rest = text.splitlines()
    return [first] * first.startswith("#!") + [
        line
        for line in ([] if first.startswith("#!") else [first]) + rest
        if not line.lstrip().startswith("#")
    ]


def test_the_machine_gets_every_host_file_but_for_its_comments(tmp_path: Path) -> None:
    unpacked(user_data.render({}), tmp_path)
    got = {file.name: file.read_text().splitlines() for file in (tmp_path / "opt").iterdir()}
    assert got == {
        file.name: without_comments(file.read_text()) for file in HOST.iterdir() if file.is_file()
    }


def test_scripts_are_executable_and_nothing_else_is(tmp_path: Path) -> None:
    unpacked(user_data.render({}), tmp_path)
    for file in (tmp_path / "opt").iterdir():
        is_script = file.read_bytes().startswith(b"#!")
        assert file.stat().st_mode & 0o777 == (0o755 if is_script else 0o644)


def test_the_same_files_give_the_same_user_data(monkeypatch: pytest.MonkeyPatch) -> None:
    first = user_data.render({"A": "1"})
    monkeypatch.setattr("time.time", lambda: 0)
    assert user_data.render({"A": "1"}) == first


def test_a_value_travels_as_it_is(tmp_path: Path) -> None:
    hostile = "$(touch x) `touch x` 'a' \"b\" \\ ${HOME} ; & | < > # END_OF_SETTINGS %s {0} é ="
    unpacked(user_data.render({"HOSTILE": hostile}), tmp_path)
    assert (tmp_path / "etc" / "settings").read_text() == f"HOSTILE={hostile}\n"
    script = f". {HOST}/common; SETTINGS={tmp_path}/etc/settings; setting HOSTILE"
    read = subprocess.run(["bash", "-c", script], check=True, capture_output=True, timeout=30)
    assert read.stdout.decode() == hostile


@given(st.text(st.characters(codec="utf-8"), max_size=60))
def test_no_value_makes_a_second_setting(value: str) -> None:
    try:
        script = user_data.render({"GIVEN": value, "NEXT": "untouched"})
    except SettingError:
        assert not value.isprintable()
        return
    lines = script.split("<<'END_OF_SETTINGS'\n")[1].split("\nEND_OF_SETTINGS\n")[0].split("\n")
    assert lines == [f"GIVEN={value}", "NEXT=untouched"]


@given(st.text(string.printable, min_size=1, max_size=20))
def test_only_capitals_name_a_setting(name: str) -> None:
    if set(name) <= set(string.ascii_uppercase + string.digits + "_") and name[0].isupper():
        assert f"\n{name}=x\n" in user_data.render({name: "x"})
    else:
        with pytest.raises(SettingError):
            user_data.render({name: "x"})
