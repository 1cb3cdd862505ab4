"""The programs that the emulator needs beside its Python packages."""

import importlib.util
import shutil
from pathlib import Path

from . import namespace
from .cdk import missing_programs
from .errors import EmulatorError

PACKAGES = (Path(__file__).parent / "apt-packages.txt").read_text().split()
"""The packages of Debian and Ubuntu that bring them."""

PROGRAMS = (
    "mke2fs",
    "mmdebstrap",
    "qemu-img",
    "qemu-system-x86_64",
    "setpriv",
    "socat",
    "unshare",
    "zstd",
)


def missing() -> str | None:
    """What is missing for a machine, and the command that brings it; None if all is there."""
    absent = [program for program in PROGRAMS if not shutil.which(program)]
    if absent:
        return f"there is no {', '.join(absent)}: sudo apt-get install {' '.join(PACKAGES)}"
    return None


def check() -> None:
    """Make sure that all is there.

    :raises EmulatorError: when something is missing.
    """
    if problem := missing() or missing_programs():
        raise EmulatorError(problem)
    if importlib.util.find_spec("uv") is None:
        raise EmulatorError("the emulator needs uv, which the package's extra 'emulator' installs")
    namespace.check()
