"""The program on its way to the instance: complete, unchanged, and each in parameters of its own."""

from __future__ import annotations

import ast
import base64
import bz2
import hashlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from chroma_stack import SettingError, program
from tests.unit.construct import server_template
from tests.unit.synthesis import host_settings, template

HOST = Path(program.__file__).parent / "host"
PARAMETER = "AWS::SSM::Parameter"


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the host files that may be changed."""
    copy = Path(shutil.copytree(HOST, tmp_path / "host"))
    monkeypatch.setattr(program, "_folder", lambda: copy)
    return copy


def parameters() -> dict[str, str]:
    """The program's parameters in the template: what each holds, in their order."""
    names = re.findall("<(ChromaProgram[^>]+)>", host_settings(template())["PROGRAM"])
    found = template().find_resources(PARAMETER)
    return {name: found[name]["Properties"]["Value"] for name in names}


def python_code(source: str) -> tuple[str, set[str]]:
    """What a source means without its docstrings, and those."""
    tree, docstrings = ast.parse(source), set()
    for node in ast.walk(tree):
        match node:
            case ast.Expr(value=ast.Constant(value=str() as docstring) as constant):
                docstrings.add(docstring)
                constant.value = ""
    return ast.dump(tree), docstrings


def test_the_list_names_every_host_file_and_no_other() -> None:
    files = {file.name for file in HOST.iterdir() if file.is_file()}
    assert files == {*program.FILES, *program.FETCHER, program.UNPACKER}
    assert list(program.FILES) == sorted(program.FILES)


def test_the_parameters_together_hold_every_file_without_its_comments_and_docstrings() -> None:
    text = "".join(parameters().values())
    sha256 = hashlib.sha256(text.encode()).hexdigest()
    assert sha256 == host_settings(template())["PROGRAM_SHA256"]
    parts = (
        bz2.decompress(base64.a85decode(text.translate(str.maketrans("vw", '"\\'))))
        .decode()
        .split("\0")
    )
    got = dict(zip(parts[::2], parts[1::2], strict=True))
    assert got.keys() == set(program.FILES)
    for name, content in got.items():
        if "python" in content.split("\n")[0]:
            packed, docstrings = python_code(content)
            assert packed == python_code((HOST / name).read_text())[0], name
            assert docstrings == {""}
            continue
        lines = (HOST / name).read_text().splitlines()
        code = [
            line
            for number, line in enumerate(lines)
            if line.strip() and (number == 0 or not line.lstrip().startswith("#"))
        ]
        assert content.splitlines() == [it for it in code if not re.match(r"#(?!!)", it)], name


def test_each_parameter_is_of_the_free_kind_and_holds_what_it_may() -> None:
    assert parameters()
    for name, value in parameters().items():
        properties = template().find_resources(PARAMETER)[name]["Properties"]
        assert "Tier" not in properties
        assert "Name" not in properties
        assert len(value.encode()) <= 4096
        assert "{{" not in value
        assert value.isprintable()


def test_the_same_files_give_the_same_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    first = program.archive()
    monkeypatch.setattr("time.time", lambda: 0)
    assert program.archive() == first


def test_another_program_is_another_set_of_parameters(host: Path) -> None:
    def names() -> set[str]:
        return {it for it in server_template().find_resources(PARAMETER) if "Program" in it}

    before = names()
    with (host / "boot").open("a") as boot:
        boot.write("true\n")
    assert names().isdisjoint(before)


def test_a_changed_comment_changes_nothing(host: Path) -> None:
    before = program.archive()
    with (host / "boot").open("a") as boot:
        boot.write("# Nothing but a comment.\n\n")
    assert program.archive() == before


def test_line_ends_of_windows_are_refused(host: Path) -> None:
    script = host / "boot"
    script.write_bytes(script.read_bytes().replace(b"\n", b"\r\n"))
    with pytest.raises(
        SettingError, match=r"^chroma_stack/host/boot='a carriage return'.*autocrlf"
    ):
        server_template()


def test_a_nul_is_refused(host: Path) -> None:
    with (host / "common").open("ab") as script:
        script.write(b"\0")
    with pytest.raises(SettingError, match=r"^chroma_stack/host/common='a NUL'"):
        program.encoded(program.FETCHER)
    with pytest.raises(SettingError, match=r"^chroma_stack/host/common='a NUL'"):
        server_template()


@pytest.mark.parametrize("stray", [".DS_Store", "boot~", "notes.txt", "boot.orig"])
def test_a_file_that_does_not_belong_is_refused(host: Path, stray: str) -> None:
    (host / stray).write_text("")
    with pytest.raises(SettingError, match=rf"^chroma_stack/host='{stray}'.*remove it"):
        server_template()


def test_what_python_keeps_beside_a_module_is_no_stray(host: Path) -> None:
    (host / "__pycache__").mkdir(exist_ok=True)
    program.archive()


def test_a_program_of_any_size_is_in_as_many_parameters_as_it_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    large, packed = b"\1" * 40_000, program.archive
    monkeypatch.setattr(
        program, "archive", lambda names: large if names == program.FILES else packed(names)
    )
    made = server_template()
    parts = host_settings(made)["PROGRAM"].split()
    values = {
        f"<{name}>": it["Properties"]["Value"]
        for name, it in made.find_resources(PARAMETER).items()
        if "Program" in name
    }
    assert "".join(values[part] for part in parts) == program.encoded()
    assert len(parts) == 13


def test_git_keeps_the_line_ends_of_the_host_files() -> None:
    attributes = (HOST.parents[1] / ".gitattributes").read_text().split()
    assert attributes == ["*", "text=auto", "eol=lf"]
