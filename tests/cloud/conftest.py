"""Fixtures: an empty account on a moto server, and the CDK command line that deploys to it.

Each test module has an account of its own, so the tests of a module share what they deploy.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from chroma_stack.emulator.cdk import Cdk, missing_programs
from chroma_stack.emulator.moto_server import MotoServer
from tests.cloud.project import ProjectCdk


@pytest.fixture(scope="module")
def aws() -> Iterator[MotoServer]:
    """An account in which nothing was ever made."""
    with MotoServer() as server:
        yield server


@pytest.fixture(scope="session")
def cdk_program() -> None:
    """Skips what needs the CDK command line where it is not installed."""
    if missing := missing_programs():
        # A pipeline that lost a program must not look as if it had passed.
        (pytest.fail if os.environ.get("CI") else pytest.skip)(missing)


@pytest.fixture(scope="module")
def cdk(cdk_program: None, aws: MotoServer, tmp_path_factory: pytest.TempPathFactory) -> Cdk:
    """The CDK command line on that account."""
    return ProjectCdk(tmp_path_factory.mktemp("cdk"), aws.environment)
