"""The CDK command line on this project's own ``app.py`` and ``cdk.json``."""

from __future__ import annotations

import sys
from pathlib import Path

from chroma_stack.emulator.cdk import Cdk

PROJECT = Path(__file__).resolve().parents[2]


class ProjectCdk(Cdk):
    """The command line in a directory with links to the project's files."""

    def __post_init__(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        for name in ("app.py", "cdk.json", "chroma_stack"):
            (self.directory / name).symlink_to(PROJECT / name)
        # cdk.json runs the app with the Python of .venv: here it is the one that runs the tests.
        (self.directory / ".venv").symlink_to(sys.prefix)
