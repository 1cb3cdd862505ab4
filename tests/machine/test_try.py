"""`make try` by its command line: a server on this computer, a client's records, and what they survive.

One server from its deployment until Ctrl-C, and another start with the same folder; the tests follow it, in order.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chroma_stack.emulator import requirements
from chroma_stack.emulator.cdk import missing_programs
from chroma_stack.emulator.folder import DISK, KEPT, LOCK
from tests.host.chroma_servers import CURRENT, RECORDS, python_with_chroma
from tests.host.programs import processes_of, wait_until

from .server import PATIENCE

COMMAND = [sys.executable, "-m", "chroma_stack.emulator"]
ROOT = Path(__file__).parents[2]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT)}
"""The command runs in other folders than that of the package."""

SETTINGS = ["-c", "auth=basic", "-c", "volumeSize=2", "-c", "monitoring=false"]


class Try:
    """The command at work in a folder, and a client of its server."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.acknowledged: list[int] = []
        self.start()

    def start(self) -> None:
        """Start it, and wait for its outputs."""
        self._process = subprocess.Popen(
            [*COMMAND, *SETTINGS, "--json"],
            cwd=self.folder,
            env=ENVIRONMENT,
            stdout=subprocess.PIPE,
            text=True,
        )
        events: queue.Queue[dict[str, Any] | None] = queue.Queue()
        threading.Thread(target=self._read, args=[events], daemon=True).start()
        self.stages: list[str] = []
        while (event := events.get(timeout=3 * PATIENCE)) is not None:
            print(event)
            if event["event"] == "outputs":
                self.outputs = event
                return
            self.stages.append(event["stage"])
        raise AssertionError(f"it ended with {self._process.wait()}")

    def _read(self, events: queue.Queue[dict[str, Any] | None]) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            events.put(json.loads(line))
        events.put(None)

    def interrupt(self) -> int:
        """Ctrl-C, and how it ends."""
        self._process.send_signal(signal.SIGINT)
        return self._process.wait(PATIENCE)

    def end(self) -> None:
        """End it, if it has not."""
        if self._process.poll() is None:
            self.interrupt()

    def ask(self, *options: str, script: str = "") -> subprocess.CompletedProcess[str]:
        """What another terminal does with it."""
        return subprocess.run(
            [*COMMAND, *options],
            cwd=self.folder,
            env=ENVIRONMENT,
            input=script,
            capture_output=True,
            text=True,
            timeout=3 * PATIENCE,
            check=False,
        )

    @property
    def credential(self) -> str:
        """What the command of the outputs prints."""
        command = self.outputs["outputs"]["CredentialCommand"]
        done = subprocess.run(
            command, shell=True, capture_output=True, text=True, check=True, timeout=PATIENCE
        )
        return done.stdout.strip()

    def readme(self) -> str:
        """What the client of README.md prints."""
        page = (ROOT / "README.md").read_text().partition("## Try it without AWS")[2]
        lines = page.partition("```python\n")[2].partition("```")[0]
        port = self.outputs["url"].rpartition(":")[2]
        done = subprocess.run(
            [python_with_chroma(CURRENT), "-c", lines.replace("port=8000", f"port={port}")],
            env=os.environ | {"CREDENTIAL": self.credential},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=True,
        )
        return done.stdout

    def use(self, batches: int) -> None:
        """Compare with a real client what was acknowledged so far, and add some batches of 25."""
        job = {
            "host": "127.0.0.1",
            "port": int(self.outputs["url"].rpartition(":")[2]),
            "provider": "basic_authn.BasicAuthClientProvider",
            "credential": self.credential,
            "acknowledged": self.acknowledged,
            "first": max(self.acknowledged, default=-1) + 1,
            "add": batches,
            "writers": 0,
            "sync_threshold": 1000,
        }
        done = subprocess.run(
            [python_with_chroma(CURRENT), RECORDS],
            input=json.dumps(job),
            text=True,
            stdout=subprocess.PIPE,
            timeout=PATIENCE,
            check=True,
        )
        self.acknowledged += map(int, done.stdout.split())


@pytest.fixture(scope="module")
def programs() -> None:
    """Skips what needs a program that is not installed."""
    if missing := requirements.missing() or missing_programs():
        (pytest.fail if os.environ.get("CI") else pytest.skip)(missing)


@pytest.fixture(scope="module")
def trial(programs: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Try]:
    trial = Try(tmp_path_factory.mktemp("try"))
    yield trial
    trial.end()


def test_ctrl_c_before_it_is_ready_ends_with_130_and_leaves_nothing(
    programs: None, tmp_path: Path
) -> None:
    process = subprocess.Popen(
        [*COMMAND, "--json"], cwd=tmp_path, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    while json.loads(process.stdout.readline())["stage"] != "deploy":
        pass
    app = "chroma_stack.emulator.app"
    wait_until(lambda: any(app in it for it in processes_of(tmp_path)), "the app runs", PATIENCE)
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE) == 130
    assert [it.name for it in (tmp_path / ".chroma-emulator").iterdir()] == [LOCK]
    wait_until(lambda: not processes_of(tmp_path), "nothing runs any more", PATIENCE)


def test_the_stages_of_the_boot_are_shown_until_the_server_is_ready(trial: Try) -> None:
    of_boot = ["packages", "volume", "services", "self-test", "address", "ready"]
    assert [it for it in dict.fromkeys(trial.stages) if it in of_boot] == of_boot


def test_a_real_client_comes_in_by_what_the_outputs_say(trial: Try) -> None:
    trial.use(batches=2)
    lines = trial.outputs["python"].replace("TOKEN", trial.credential)
    client = f"{lines}\nprint(client.count_collections())"
    done = subprocess.run(
        [python_with_chroma(CURRENT), "-c", client], capture_output=True, text=True, check=True
    )
    assert done.stdout == "1\n"
    assert trial.readme() == "[]\n"


def test_only_its_owner_speaks_to_it(trial: Try) -> None:
    folder = trial.folder / ".chroma-emulator"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / "control").stat().st_mode & 0o777 == 0o600


def test_the_shell_of_the_machine_is_roots_and_ends_with_the_status_of_its_commands(
    trial: Try,
) -> None:
    done = trial.ask("--machine-shell", script="id --user --name\necho no >&2\nexit 3\n")
    assert (done.returncode, done.stdout, done.stderr) == (3, "root\n", "no\n")


def test_a_second_one_is_refused_the_folder(trial: Try) -> None:
    done = trial.ask()
    assert done.returncode == 1
    assert "an emulator runs with --data .chroma-emulator already" in done.stderr


def test_the_records_survive_a_power_cut(trial: Try) -> None:
    before = trial.ask("--machine-shell", script="cat /proc/sys/kernel/random/boot_id").stdout
    done = trial.ask("--power-cut")
    assert done.returncode == 0, done.stderr
    assert "its power is cut" in done.stdout
    after = trial.ask("--machine-shell", script="cat /proc/sys/kernel/random/boot_id").stdout
    assert before != after
    trial.use(batches=1)
    assert trial.readme() == "['an apple']\n"


def test_the_records_survive_the_instance_whose_place_another_one_takes(trial: Try) -> None:
    instance = "cat /var/lib/cloud/data/instance-id"
    before, credential = trial.ask("--machine-shell", script=instance).stdout, trial.credential
    done = trial.ask("--replace", "--json")
    assert done.returncode == 0, done.stderr
    stages = {json.loads(line)["stage"] for line in done.stdout.splitlines()}
    assert {"group", "packages", "volume", "ready"} <= stages
    assert trial.ask("--machine-shell", script=instance).stdout != before
    assert trial.credential == credential
    trial.use(batches=1)
    assert trial.readme() == "['an apple']\n"


def test_ctrl_c_is_its_end_and_leaves_nothing_running(trial: Try) -> None:
    assert trial.interrupt() == 0
    wait_until(lambda: not processes_of(trial.folder), "nothing runs any more", PATIENCE)
    folder = trial.folder / ".chroma-emulator"
    assert {it.name for it in folder.iterdir()} == {KEPT, LOCK, DISK}


def test_another_start_goes_on_with_the_same_records_and_credential(trial: Try) -> None:
    secrets = json.loads((trial.folder / ".chroma-emulator" / "kept.json").read_text())["secrets"]
    url = trial.outputs["url"]
    trial.start()
    assert trial.credential in secrets.values()
    assert trial.outputs["url"] == url
    trial.use(batches=1)
