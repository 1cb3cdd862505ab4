"""Programs that the tests run: where they are, and what happens when one is missing."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

HOST = Path(__file__).parents[2] / "chroma_stack" / "host"


def program(name: str) -> str:
    """The path of a program. Without it the test is skipped, with the reason; in CI it fails."""
    path = shutil.which(os.environ.get(name.upper(), name))
    if path is None:
        packages = (Path(__file__).parent / "apt-packages.txt").read_text().split()
        reason = f"no {name}: sudo apt-get install {' '.join(packages)}"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)
    return path


def _ports() -> Iterator[int]:
    """Of those that the kernel gives nobody by itself, another part for each process of the tests."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    first, count = 20_000 + worker % 4 * 3_000, 3_000
    start = random.randrange(count)
    while True:
        yield first + start % count
        start += 1


PORTS = _ports()


def free_port() -> int:
    """One that nobody listens on, and that no test was given lately."""
    while True:
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind(("127.0.0.1", next(PORTS)))
            return int(listener.getsockname()[1])


def wait_until(
    true: Callable[[], object], what: str, seconds: float = 30, every: float = 0.02
) -> float:
    """Returns for how long it waited as soon as `true()` is, or fails with what was waited for."""
    start = time.monotonic()
    while not true():
        assert time.monotonic() - start < seconds, f"after {seconds} s still not: {what}"
        time.sleep(every)
    return time.monotonic() - start


def processes_of(folder: Path) -> list[str]:
    """The command lines of the processes that work in a folder, or were given a file there."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            inside = (process / "cwd").readlink().is_relative_to(folder)
        except OSError:  # ended, or the kernel's
            continue
        if inside or str(folder) in command:
            found.append(command)
    return found
