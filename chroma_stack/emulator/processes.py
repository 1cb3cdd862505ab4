"""Runs a command that starts others, of which none is left when it is given up."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

GRACE = 10.0
"""Seconds after which killed processes are waited for no longer."""


def run(
    command: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdout: int | None = None,
    stderr: int | None = None,
    text: bool = False,
    timeout: float | None = None,
    check: bool = True,
) -> subprocess.CompletedProcess[Any]:
    """Runs a command in a process group of its own, with nothing to read.

    When it takes too long, or the waiting is interrupted, the whole group is killed, and gone before the exception goes
    on. Ctrl-C reaches the caller only. The parameters are those of ``subprocess.run``; the output is text or bytes.

    :raises subprocess.TimeoutExpired: when it takes longer than that.
    :raises subprocess.CalledProcessError: when it fails, unless ``check`` says otherwise.
    """
    process = subprocess.Popen(
        command,
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        text=text,
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=timeout)
    except BaseException:
        _end(process)
        raise
    if check and process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command, out, err)
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def _end(process: subprocess.Popen[Any]) -> None:
    """Kill the group, and wait until none of it runs."""
    deadline = time.monotonic() + GRACE
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    finally:
        process.wait()
    while _runs(process.pid) and time.monotonic() < deadline:
        time.sleep(0.02)


def _runs(group: int) -> bool:
    """Whether a process of the group runs; one that has ended may wait for its parent for long."""
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The name of the program, in parentheses, may hold anything.
            state, _parent, of_group = status.read_text().rpartition(")")[2].split()[:3]
        except OSError:  # ended
            continue
        if int(of_group) == group and state not in "ZX":
            return True
    return False
