"""The emulator's deployments: from whatever folder, and nothing is left of one that was interrupted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from chroma_stack.emulator.cdk import Cdk
from chroma_stack.emulator.moto_server import MotoServer
from tests.host.programs import wait_until

ROOT = Path(__file__).parents[2]
PATIENCE = 300


def test_the_app_is_found_in_a_folder_that_is_not_the_packages(
    cdk_program: None, aws: MotoServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTHONPATH", raising=False)
    template = Cdk(tmp_path, aws.environment).synth({"auth": "basic"})
    assert template["Resources"]


def processes_in(folder: Path) -> list[str]:
    """The command lines of the processes that work in a folder or below."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").readlink().is_relative_to(folder):
                found.append((process / "cmdline").read_text().replace("\0", " "))
        except OSError:  # ended, or the kernel's
            continue
    return found


def test_nothing_is_left_of_an_emulator_that_is_interrupted_while_it_deploys(
    cdk_program: None, tmp_path: Path
) -> None:
    """The programs of a machine need not be there: they are stood in for by one that does nothing."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("mmdebstrap", "qemu-img", "qemu-system-x86_64", "socat", "unshare", "zstd"):
        (programs / name).symlink_to("/bin/true")
    data = tmp_path / "data"
    process = subprocess.Popen(
        [sys.executable, "-m", "chroma_stack.emulator", "--data", str(data), "--json"],
        cwd=ROOT,
        env=os.environ | {"PATH": f"{os.environ['PATH']}:{programs}"},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    while json.loads(process.stdout.readline())["stage"] != "deploy":
        pass
    app = "-m chroma_stack.emulator.app"
    wait_until(lambda: any(app in it for it in processes_in(data)), "the app runs", PATIENCE)
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE) == 130
    assert processes_in(data) == []
    assert not (data / "run").exists()
