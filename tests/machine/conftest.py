"""The rig as pytest fixtures."""

import contextlib
import os
from collections.abc import Callable, Generator, Iterator

import pytest

from chroma_stack.emulator import requirements
from chroma_stack.emulator.cdk import Cdk, missing_programs
from chroma_stack.emulator.machine import Machine
from chroma_stack.emulator.moto_server import MotoServer
from chroma_stack.emulator.rig import Rig
from tests.cloud.project import ProjectCdk

from .server import Server


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With a failure, show what the server's instance said last."""
    report = yield
    server = getattr(item, "funcargs", {}).get("server")
    if report.failed and isinstance(server, Server) and server.machine.running:
        with contextlib.suppress(Exception):  # the test has failed already
            said = server.machine.run("journalctl --boot --unit 'chroma*' --lines 150", timeout=120)
            report.sections.append(("journal of the instance", said.stdout))
    return report


@pytest.fixture(scope="session")
def account() -> Iterator[MotoServer]:
    """The account that stacks are deployed to, and that machines find themselves in."""
    with MotoServer() as account:
        yield account


@pytest.fixture(scope="module")
def cdk(account: MotoServer, tmp_path_factory: pytest.TempPathFactory) -> Cdk:
    """The CDK command line on that account."""
    if missing := missing_programs():
        (pytest.fail if os.environ.get("CI") else pytest.skip)(missing)
    return ProjectCdk(tmp_path_factory.mktemp("cdk"), account.environment)


@pytest.fixture(scope="session")
def rig(account: MotoServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """The rig, with the current Chroma ready to be pulled."""
    if missing := requirements.missing():
        (pytest.fail if os.environ.get("CI") else pytest.skip)(missing)
    rig = Rig(tmp_path_factory.mktemp("rig"), account)
    rig.registry.offer("1.5.9")
    yield rig
    rig.close()


@pytest.fixture
def launch(rig: Rig) -> Iterator[Callable[..., Machine]]:
    """A function like `Rig.launch` whose machines end with the test."""
    machines: list[Machine] = []

    def launch(user_data: str, **options: object) -> Machine:
        machines.append(rig.launch(user_data, **options))  # type: ignore[arg-type]
        return machines[-1]

    yield launch
    for machine in machines:
        print(f"--- console of {machine.instance_id}\n{machine.console}")  # shown if a test fails
        machine.close()
