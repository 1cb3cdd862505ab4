"""Where a credential is read, and how it is sent."""

from __future__ import annotations

import base64
import contextlib
import io
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from chroma_stack import credential
from chroma_stack.credential import AUTH, WrongUse

ROOT = Path(__file__).parents[2]
VARIABLE = "CHROMA_TEST_CREDENTIAL"
SPACES = ["{}", "{} ", "{}\t", " {}", "{}\r\n", "\n{} \n\n", "{}\u00a0"]


@pytest.mark.parametrize("around", SPACES)
@pytest.mark.parametrize("place", ["file", "standard input", "environment"])
def test_white_space_around_a_credential_is_no_part_of_it(
    place: str, around: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = around.format("sEcReT")
    file = None
    if place == "file":
        file = str(tmp_path / "credential")
        Path(file).write_text(text, encoding="utf-8")
    elif place == "standard input":
        file = "-"
        monkeypatch.setattr(sys, "stdin", io.StringIO(text.lstrip("\n")))
    else:
        monkeypatch.setenv(VARIABLE, text)
    assert credential.read("--", file, VARIABLE) == "sEcReT"


def test_two_credentials_are_two_lines_of_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("one\ntwo\n"))
    assert credential.read("--source-", "-", VARIABLE) == "one"
    assert credential.read("--target-", "-", VARIABLE) == "two"


def test_without_an_option_or_a_variable_there_is_no_credential() -> None:
    assert credential.read("--", None, VARIABLE) == ""
    assert credential.headers("--", "token", "") == {}


@pytest.mark.parametrize("content", [b"", b"\n", b" \n", b"\xff\xfe", None])
def test_a_file_without_a_credential_is_refused(content: bytes | None, tmp_path: Path) -> None:
    file = tmp_path / "credential"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(WrongUse, match=r"^--target-credential-file .*(empty|no text|No such)"):
        credential.read("--target-", str(file), VARIABLE)


@pytest.mark.parametrize("stdin", [None, io.StringIO()])
def test_standard_input_without_a_credential_is_refused(
    stdin: io.StringIO | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", stdin)
    with pytest.raises(WrongUse, match="--credential-file - is refused: the credential is empty"):
        credential.read("--", "-", VARIABLE)


def test_each_way_has_its_header() -> None:
    encoded = base64.b64encode("me:käse".encode()).decode()
    assert credential.headers("--", "token", "abc") == {"Authorization": "Bearer abc"}
    assert credential.headers("--", "x-chroma-token", "abc") == {"X-Chroma-Token": "abc"}
    assert credential.headers("--", "basic", "me:käse") == {"Authorization": f"Basic {encoded}"}


@pytest.mark.parametrize("text", ["a\nb:c", "a\0b:c", "a\udcffb:c", "a\x7fb:c"])
@pytest.mark.parametrize("auth", AUTH)
def test_a_credential_that_cannot_be_sent_is_not_in_the_refusal(auth: str, text: str) -> None:
    with pytest.raises(WrongUse) as refused:
        credential.headers("--source-", auth, text)
    assert str(refused.value).startswith(f"--source-auth {auth} needs a credential of one line")
    assert text not in str(refused.value)


ASK = f"from chroma_stack import credential; print(credential.read('--target-', None, '{VARIABLE}', ask=True))"


def test_nobody_is_asked_without_a_terminal() -> None:
    done = subprocess.run(
        [sys.executable, "-c", ASK],
        cwd=ROOT,
        start_new_session=True,
        capture_output=True,
        text=True,
    )
    assert "WrongUse: --target-ask needs a terminal." in done.stderr


@pytest.mark.parametrize(
    ("typed", "output", "error"),
    [
        (b"sEcReT \n", "sEcReT\n", ""),
        (b"\n", "", "WrongUse: --target-ask is refused: the credential is empty."),
        (b"\x04", "", "WrongUse: --target-ask is refused: the credential is empty."),
    ],
)
def test_the_terminal_is_asked_while_standard_input_is_something_else(
    typed: bytes, output: str, error: str
) -> None:
    mine, theirs = pty.openpty()
    inner = 'exec "$0" -c "$1" 3<&0 </dev/null'  # 3 keeps the terminal open
    process = subprocess.Popen(
        ["setsid", "--ctty", "sh", "-c", inner, sys.executable, ASK],
        cwd=ROOT,
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(theirs)
    shown = b""
    try:
        while b"target: " not in shown:
            shown += os.read(mine, 1000)
        os.write(mine, typed)
        said = process.communicate()
        with contextlib.suppress(OSError):  # as a terminal says that nobody holds it any more
            while more := os.read(mine, 1000):
                shown += more
    finally:
        os.close(mine)
    assert said[0] == output
    assert error in said[1]
    assert b"sEcReT" not in shown
