"""The command line of the emulator, without a machine."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from chroma_stack.context import SETTINGS
from chroma_stack.emulator import limits, machine, namespace, processes
from chroma_stack.emulator.__main__ import _sentence
from chroma_stack.emulator.control import Connection, Listener, Request
from chroma_stack.emulator.errors import EmulatorError
from chroma_stack.emulator.events import Events
from chroma_stack.emulator.folder import DISK, KEPT, DataFolder
from chroma_stack.emulator.guest import Guest
from chroma_stack.emulator.requirements import PROGRAMS
from chroma_stack.emulator.session import Session, client_lines

ROOT = Path(__file__).parents[2]


def emulator(
    folder: Path,
    *arguments: str,
    script: str | None = None,
    without: str = "",
    another: str = "",
    programs: Path | None = None,
) -> subprocess.CompletedProcess[str]:
    """The command in a folder; ``without`` names a package that is not installed, ``another`` a module of another release,
    which has nothing that is looked for."""
    run = (
        f"import runpy, sys; sys.path.insert(0, {str(ROOT)!r}); "
        f"{f'sys.modules[{without!r}] = None; ' if without else ''}"
        f"{f'sys.modules[{another!r}] = type(sys)({another!r}); ' if another else ''}"
        "runpy.run_module('chroma_stack.emulator', run_name='__main__', alter_sys=True)"
    )
    return subprocess.run(
        [sys.executable, "-c", run, *arguments],
        cwd=folder,
        env=os.environ | {"PATH": f"{os.environ['PATH']}:{programs or folder}"},
        input=script or "",
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("auth", "-c auth is refused: a setting is key=value"),
        ("instanceType=t4g.small", "an x86-64 type here: there is no Graviton"),
        ("chromaVersion=0.6.3", "1.0.0 or later here"),
        ("acmeEmail=you@example.com", "not here: there is no DNS"),
        ("maxVolumeSize=100", "not here: the machine's disk does not grow"),
        ("snapshotId=snap-0123456789abcdef0", "there are no snapshots"),
    ],
)
def test_a_setting_that_it_does_not_imitate_is_refused_before_anything_is_made(
    tmp_path: Path, setting: str, sentence: str
) -> None:
    done = emulator(tmp_path, "-c", setting)
    assert done.returncode == 2
    assert done.stderr.startswith("Error: ")
    assert sentence in done.stderr
    assert setting.partition("=")[0] in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_so_is_one_that_is_kept_in_the_folder(tmp_path: Path) -> None:
    (tmp_path / "cdk.json").write_text('{"context": {"vpcId": "vpc-0123456789abcdef0"}}')
    done = emulator(tmp_path)
    assert done.returncode == 2
    assert "vpcId='vpc-0123456789abcdef0' is refused" in done.stderr


def test_every_setting_is_imitated_or_refused_or_named() -> None:
    keys = sorted(setting.key for setting in SETTINGS if setting.key)
    known = [*limits.IMITATED, *limits._REFUSED, *limits._NAMED, "instanceType"]
    assert sorted(known) == keys


def test_a_secret_setting_that_has_no_effect_is_not_shown() -> None:
    assert list(limits.named({"otelCollectionHeaders": "x-key=abc"})) == [
        "otelCollectionHeaders=…: no traces are collected"
    ]


def test_what_of_the_settings_has_no_effect_is_said() -> None:
    sentences = list(limits.named({"alarmEmail": "you@example.com", "auth": "basic"}))
    assert sentences == ["alarmEmail=you@example.com: no alarm is evaluated, and no message sent"]


@pytest.mark.parametrize("option", ["--replace", "--power-cut", "--machine-shell"])
def test_without_a_running_one_there_is_nothing_to_speak_to(tmp_path: Path, option: str) -> None:
    done = emulator(tmp_path, option)
    assert done.returncode == 1
    assert done.stderr == (
        "Error: no emulator runs with --data .chroma-emulator; start one without this option first\n"
    )


@pytest.mark.parametrize(
    "arguments", [["--replace", "--power-cut"], ["--replace", "-c", "auth=basic"], ["--size"]]
)
def test_wrong_use_is_refused(tmp_path: Path, arguments: list[str]) -> None:
    done = emulator(tmp_path, *arguments)
    assert done.returncode == 2
    assert "usage: python -m chroma_stack.emulator" in done.stderr


@pytest.mark.parametrize("package", ["boto3", "moto", "cryptography"])
def test_without_its_extra_it_says_which_one_to_install(tmp_path: Path, package: str) -> None:
    done = emulator(tmp_path, without=package)
    assert done.returncode == 1
    assert done.stderr == (
        f"Error: the emulator needs {package}, which the package's extra 'emulator' installs\n"
    )


def test_with_another_release_of_what_it_needs_it_says_so(tmp_path: Path) -> None:
    done = emulator(tmp_path, another="moto.autoscaling.exceptions")
    assert done.returncode == 1
    assert re.fullmatch(r"Error: a package that the emulator needs is too old.*\n", done.stderr)


def test_the_package_itself_needs_nothing_of_it() -> None:
    run = "import chroma_stack, sys; chroma_stack.ChromaStack; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", run], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    assert "chroma_stack.server" in loaded
    assert not [it for it in loaded if it.startswith(("moto", "chroma_stack.emulator"))]


# The folder


def test_a_folder_is_for_one_at_a_time_and_for_its_owner(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path / "data")
    assert folder.path.stat().st_mode & 0o777 == 0o700
    with pytest.raises(EmulatorError, match="an emulator runs with --data"):
        DataFolder(tmp_path / "data")
    folder.close()
    DataFolder(tmp_path / "data").close()


def test_a_folder_with_something_else_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "letter").touch()
    tmp_path.chmod(0o755)
    with pytest.raises(EmulatorError, match="the folder holds something else") as refused:
        DataFolder(tmp_path)
    assert refused.value.code == 2
    assert [it.name for it in tmp_path.iterdir()] == ["letter"]
    assert tmp_path.stat().st_mode & 0o777 == 0o755


def test_a_lock_of_something_else_is_none_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "lock").mkdir()
    with pytest.raises(EmulatorError, match="the folder holds something else"):
        DataFolder(tmp_path)


def test_a_folder_that_others_can_open_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    with pytest.raises(EmulatorError, match="other users can open the folder"):
        DataFolder(tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert tmp_path.stat().st_mode & 0o777 == 0o755


def test_what_is_kept_is_there_at_the_next_start_and_secret(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path)
    folder.disk.touch()
    folder.keep(served=True, port=8000, secrets={"token/Credential": "value"})
    folder.close()
    assert (tmp_path / KEPT).stat().st_mode & 0o777 == 0o600
    again = DataFolder(tmp_path)
    assert (again.port, again.secrets) == (8000, {"token/Credential": "value"})
    assert again.disk.exists()
    again.close()


def test_a_volume_whose_first_boot_was_ended_is_made_again(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path)
    (tmp_path / DISK).touch()
    folder.keep(port=8000, secrets={"token/Credential": "value"})
    folder.close()
    again = DataFolder(tmp_path)
    assert not again.disk.exists()
    assert again.secrets == {}
    again.close()


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"secrets": 1}'])
def test_what_was_kept_and_is_damaged_is_said_and_left_as_it_is(tmp_path: Path, text: str) -> None:
    DataFolder(tmp_path).close()
    (tmp_path / DISK).touch()
    (tmp_path / KEPT).write_text(text)
    for _ in range(2):  # the folder is not in use afterwards
        with pytest.raises(EmulatorError, match=r"kept\.json is damaged"):
            DataFolder(tmp_path)
    assert (tmp_path / KEPT).read_text() == text
    assert (tmp_path / DISK).exists()


# How it ends


class Machine:
    """A machine that can be shut down."""

    running = True

    def shut_down(self, timeout: float) -> None:
        self.running = False


def test_its_machine_is_shut_down_though_nobody_hears_and_nothing_can_be_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = Events(as_json=True)
    session = Session(DataFolder(tmp_path), {}, events)
    one = Machine()
    session._ready = True
    session._server = SimpleNamespace(machine=one)  # type: ignore[assignment]

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(events, "stage", fail)
    monkeypatch.setattr(session, "_secrets", fail)
    with pytest.raises(OSError, match="No space left"):
        session.close()
    assert not one.running


def test_a_terminal_that_was_closed_ends_nothing() -> None:
    near, far = os.openpty()
    write = "from chroma_stack.emulator.events import write; event = {'event': 'stage'}; "
    process = subprocess.Popen(
        [sys.executable, "-c", f"{write}input(); write(event, True); write(event, True)"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=far,
        stderr=subprocess.PIPE,
    )
    os.close(far)
    os.close(near)
    assert process.communicate(b"\n")[1] == b""
    assert process.returncode == 0


def test_a_terminal_that_is_closed_interrupts_once() -> None:
    script = """
import os, signal
from chroma_stack.emulator.__main__ import _interrupt
for name in (signal.SIGTERM, signal.SIGHUP):
    signal.signal(name, _interrupt)
try:
    os.kill(os.getpid(), signal.SIGHUP)
except KeyboardInterrupt:
    os.kill(os.getpid(), signal.SIGHUP)
    print("shut down")
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "shut down\n", "")


def test_a_machine_that_does_not_start_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "qemu-img").symlink_to(str(shutil.which("true")))
    (programs / "qemu-system-x86_64").symlink_to(str(shutil.which("false")))
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    aws: Any = SimpleNamespace(new_access_key=lambda: "ASIATESTING", machines={})
    one = machine.Machine("i-1", "", tmp_path, Guest(tmp_path, tmp_path), aws, {}, {})
    try:
        with pytest.raises(EmulatorError, match="qemu does not start the machine: it ended with"):
            one.start()
    finally:
        one.close()


def test_a_failure_of_the_system_is_a_sentence(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path / "data")
    folder.close()
    (folder.path / "run").touch()
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in PROGRAMS:
        (programs / name).symlink_to("/bin/true")
    done = emulator(tmp_path, "--data", "data", programs=programs)
    assert done.returncode == 1
    assert done.stderr == f"Error: it failed: File exists ({folder.path / 'run'})\n"


# What it says


class Answering:
    """The other end of the command: answers each request with the same events."""

    def __init__(self, folder: Path) -> None:
        self.asked: list[Request] = []
        self.events: list[dict[str, Any]] = []
        self._listener = Listener(folder, self._answer)

    def _answer(self, request: Request, connection: Connection) -> None:
        self.asked.append(request)
        for event in self.events:
            connection.send(event)

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Answering]:
    # A name that is longer than a socket's may be.
    folder = tmp_path / ("a" * 120)
    folder.mkdir()
    running = Answering(folder)
    yield running
    running.close()


STAGE = {"event": "stage", "seconds": 1.5, "stage": "volume", "text": "attaching vol-1"}
DONE = {"event": "done", "code": 0, "text": ""}
FAILED = {"event": "done", "code": 1, "text": "the boot failed"}


def test_stages_are_lines_and_with_json_objects(tmp_path: Path, running: Answering) -> None:
    running.events = [STAGE, DONE]
    data = ["--data", str(tmp_path / ("a" * 120))]
    plain = emulator(tmp_path, *data, "--replace")
    assert (plain.returncode, plain.stdout) == (0, "    2 s  volume: attaching vol-1\n")
    objects = emulator(tmp_path, *data, "--power-cut", "--json")
    assert [json.loads(line) for line in objects.stdout.splitlines()] == [STAGE]
    assert [request["do"] for request in running.asked] == ["replace", "power-cut"]


def test_what_failed_there_fails_here(tmp_path: Path, running: Answering) -> None:
    running.events = [STAGE, FAILED]
    done = emulator(tmp_path, "--data", str(tmp_path / ("a" * 120)), "--replace")
    assert (done.returncode, done.stderr) == (1, "Error: the boot failed\n")
    running.events = [STAGE]  # and it hangs up
    done = emulator(tmp_path, "--data", str(tmp_path / ("a" * 120)), "--replace")
    assert (done.returncode, done.stderr) == (1, "Error: the emulator has ended\n")


def test_without_a_terminal_the_shell_runs_what_it_reads(
    tmp_path: Path, running: Answering
) -> None:
    running.events = [{"event": "output", "out": "root\n", "err": "no\n", "code": 3}]
    data = ["--data", str(tmp_path / ("a" * 120))]
    done = emulator(tmp_path, *data, "--machine-shell", script="whoami\nexit 3\n")
    assert (done.returncode, done.stdout, done.stderr) == (3, "root\n", "no\n")
    assert running.asked == [{"do": "run", "script": "whoami\nexit 3\n"}]


def test_more_commands_than_the_machine_takes_at_once_are_refused(tmp_path: Path) -> None:
    done = emulator(tmp_path, "--machine-shell", script="#" * 131_072)
    assert done.returncode == 2
    assert done.stderr == (
        "Error: the commands of standard input are refused: they have 131072 bytes, and 131071 are allowed\n"
    )


def test_the_stages_of_a_boot_are_read_from_the_console(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    console = tmp_path / "console.log"
    events = Events(as_json=True)
    heard: list[Any] = []
    with events.heard_by(heard.append), events.of_console(console):
        console.write_text(
            "[    0.1] Linux version 6.12\n"
            "[   12.3] cloud-init[306]: chroma:    3 s: packages: installing docker and haproxy\r\n"
            "[   14.0] cloud-init[306]: chroma:    5 s: FAILED: no way to it. See above.\n"
        )
    assert [(event["stage"], event["text"]) for event in heard] == [
        ("packages", "installing docker and haproxy"),
        ("FAILED", "no way to it. See above."),
    ]
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == heard


@pytest.mark.parametrize(
    ("settings", "scheme", "expected"),
    [
        ({"AUTH": "none"}, "http", []),
        ({"AUTH": "token"}, "http", ["TokenAuthClientProvider", "TOKEN"]),
        (
            {"AUTH": "basic"},
            "https",
            ["BasicAuthClientProvider", "TOKEN", "chroma-ca.pem", "ssl=True"],
        ),
        (
            {"AUTH": "token", "AUTH_TOKEN_HEADER": "X-Chroma-Token"},
            "http",
            ["TokenAuthClientProvider", "TOKEN", 'transport_header="X-Chroma-Token"'],
        ),
    ],
)
def test_the_lines_of_a_client_are_for_the_way_of_authentication(
    settings: dict[str, str], scheme: str, expected: list[str]
) -> None:
    lines = client_lines(settings, f"{scheme}://127.0.0.1:8000")
    compile(lines, "client", "exec")
    parts = ["TokenAuth", "BasicAuth", "TOKEN", "chroma-ca.pem", "ssl=True", "transport_header"]
    assert all(it in lines for it in expected)
    assert not [it for it in parts if it in lines and not any(it in that for that in expected)]


def test_a_command_that_takes_too_long_ends_with_all_that_it_started(tmp_path: Path) -> None:
    file = tmp_path / "written"
    started = tmp_path / "started"
    script = f"(touch {started}; while :; do echo >>{file}; sleep 0.01; done) & wait"
    with pytest.raises(subprocess.TimeoutExpired):
        processes.run(["bash", "-c", f"trap '' TERM; {script}"], timeout=2)
    assert started.exists()
    written = file.stat().st_size
    time.sleep(0.5)
    assert file.stat().st_size == written


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ("cdk deploy has not ended in 120 seconds", "cdk deploy has not ended in 120 seconds"),
        (
            "cdk synth ended with 1:\nTraceback:\n  File a\nModuleNotFoundError: No module\n\n",
            "cdk synth ended with 1: ModuleNotFoundError: No module",
        ),
        (
            "cdk synth ended with 1:\nError: auth='x' is refused: no\nleft",
            "auth='x' is refused: no",
        ),
    ],
)
def test_of_a_command_that_failed_its_error_or_its_last_line_is_shown(
    said: str, sentence: str
) -> None:
    assert _sentence(said) == sentence


def test_an_ordinary_user_without_a_user_namespace_is_told_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unshare = tmp_path / "unshare"
    unshare.write_text("#!/bin/sh\necho 'unshare: Operation not permitted' >&2\nexit 1\n")
    unshare.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(
        EmulatorError, match=r"Operation not permitted.*uidmap.*or run this as root"
    ):
        namespace.check()


def test_what_root_needs_not_is_not_done_for_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert namespace.as_root("mke2fs", "disk") == ["mke2fs", "disk"]
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert namespace.as_root("mke2fs", "disk")[0] == "unshare"
