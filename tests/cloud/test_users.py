"""Users by the real command line: a deployment adds, changes and removes them, and leaves the server as it was.

The fixtures are the history of one account, in order, as in `test_deploy.py`: without users, with two, one of which is then
changed and the other removed, and without again.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from chroma_stack.emulator.cdk import STACK, Cdk
from chroma_stack.emulator.moto_server import MotoServer


@dataclass(frozen=True)
class Seen:
    """What there is of the stack after a deployment."""

    outputs: dict[str, str]
    instance: str
    launch_template_version: int
    users_path: str
    """What the instance is told."""

    users: dict[str, tuple[str, str]]
    """What it finds there: the accesses and the secrets, by the names."""

    credentials: dict[str, str]
    """What it reads in these secrets, with the permissions that it has."""

    secrets: set[str]
    """All secrets of the account."""

    @classmethod
    def record(cls, aws: MotoServer, outputs: dict[str, str]) -> Seen:
        user_data = aws.launched_user_data(STACK)
        [path] = [
            line.removeprefix("USERS=")
            for line in user_data.splitlines()
            if line.startswith("USERS=")
        ]
        listed = run(aws, f"aws ssm get-parameters-by-path --path {path} --query Parameters")
        users = {}
        for parameter in json.loads(listed):
            access, _, secret = parameter["Value"].partition(" ")
            users[parameter["Name"].removeprefix(f"{path}/")] = (access, secret)
        store = aws.client("secretsmanager")
        return cls(
            outputs=outputs,
            instance=aws.group_instance(STACK)["InstanceId"],
            launch_template_version=aws.launch_template_version(STACK)["VersionNumber"],
            users_path=path,
            users=users,
            credentials={
                name: store.get_secret_value(SecretId=secret)["SecretString"]
                for name, (_, secret) in users.items()
            },
            secrets={it["ARN"] for it in store.list_secrets()["SecretList"]},
        )


def run(aws: MotoServer, command: str, shell: str = "bash") -> str:
    """What a command writes that a user copied."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [shell, "-c", command],
        env=kept | aws.environment | {"PATH": path},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if done.returncode != 0:
        raise AssertionError(f"{command}\n{done.stdout}{done.stderr}")
    return done.stdout


@pytest.fixture(scope="module")
def before(aws: MotoServer, cdk: Cdk) -> Seen:
    """A server without users."""
    return Seen.record(aws, cdk.deploy())


@pytest.fixture(scope="module")
def added(aws: MotoServer, cdk: Cdk, before: Seen) -> Seen:
    """Two users more."""
    return Seen.record(aws, cdk.deploy({"users": "search:read,ingest:write"}))


@pytest.fixture(scope="module")
def printed(aws: MotoServer, added: Seen) -> dict[str, str]:
    """What the command of the outputs prints for each user, in each shell."""
    command = added.outputs["UserCredentialCommand"]
    return {
        f"{name} in {shell}": run(aws, command.replace("NAME", name), shell).strip()
        for name in added.users
        for shell in ("bash", "zsh")
        if shutil.which(shell)
    }


@pytest.fixture(scope="module")
def changed(aws: MotoServer, cdk: Cdk, added: Seen, printed: object) -> Seen:
    """One of them may do more, the other one is gone."""
    return Seen.record(aws, cdk.deploy({"users": "search:write"}))


@pytest.fixture(scope="module")
def removed(aws: MotoServer, cdk: Cdk, changed: Seen) -> Seen:
    """Without users again."""
    return Seen.record(aws, cdk.deploy())


def test_the_instance_finds_each_user_with_access_and_credential(added: Seen) -> None:
    assert {name: access for name, (access, _) in added.users.items()} == {
        "search": "read",
        "ingest": "write",
    }
    assert all(len(it) == 40 and it.isalnum() for it in added.credentials.values())
    assert len(set(added.credentials.values())) == 2


def test_no_deployment_of_users_replaces_the_instance(
    before: Seen, added: Seen, changed: Seen, removed: Seen
) -> None:
    for seen in (added, changed, removed):
        assert seen.instance == before.instance
        assert seen.launch_template_version == before.launch_template_version
        assert seen.users_path == before.users_path


def test_the_command_of_the_outputs_prints_the_credential_of_the_user_that_is_named(
    added: Seen, printed: dict[str, str]
) -> None:
    assert {"search in bash", "ingest in bash"} <= printed.keys()
    for who, credential in printed.items():
        assert credential == added.credentials[who.partition(" ")[0]], who


def test_the_command_says_so_when_there_is_no_such_user(aws: MotoServer, added: Seen) -> None:
    with pytest.raises(AssertionError, match="ParameterNotFound"):
        run(aws, added.outputs["UserCredentialCommand"])


def test_another_access_keeps_the_credential(added: Seen, changed: Seen) -> None:
    _, secret = added.users["search"]
    assert changed.users == {"search": ("write", secret)}
    assert changed.credentials["search"] == added.credentials["search"]


def test_what_belonged_to_a_user_goes_with_it(
    before: Seen, added: Seen, changed: Seen, removed: Seen
) -> None:
    assert added.users["ingest"][1] not in changed.secrets
    assert removed.users == before.users == {}
    assert removed.secrets == before.secrets
    assert "UserCredentialCommand" not in removed.outputs
