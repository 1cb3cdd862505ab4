"""The program of the instance in the stack's parameters, through deployments by the real command line."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from typing import Any

import pytest
from moto.autoscaling.models import FakeAutoScalingGroup

from chroma_stack import program
from chroma_stack.emulator.cdk import STACK, Cdk
from chroma_stack.emulator.moto_server import MotoServer
from tests.cloud.project import PROJECT


@dataclass(frozen=True)
class Deployed:
    """What there is of the program after a deployment."""

    instance: str
    settings: dict[str, str]
    """What the instance is told."""

    parameters: dict[str, str]
    """What the stack's parameters hold, by their names."""

    @classmethod
    def record(cls, aws: MotoServer) -> Deployed:
        text = aws.launched_user_data(STACK).split("<<'END_OF_SETTINGS'\n")[1]
        lines = text.split("\nEND_OF_SETTINGS\n")[0].splitlines()
        return cls(
            instance=aws.group_instance(STACK)["InstanceId"],
            settings=dict(line.split("=", 1) for line in lines),
            parameters=aws.parameters(STACK),
        )

    @property
    def names(self) -> list[str]:
        """Those that the instance fetches."""
        return self.settings["PROGRAM"].split()


@pytest.fixture(scope="module")
def first(aws: MotoServer, cdk: Cdk) -> Deployed:
    """A server as it is deployed first."""
    cdk.deploy()
    return Deployed.record(aws)


@pytest.fixture(scope="module")
def again(aws: MotoServer, cdk: Cdk, first: Deployed) -> Deployed:
    """The same again."""
    cdk.deploy()
    return Deployed.record(aws)


@pytest.fixture(scope="module")
def there_while_it_rolled() -> set[str]:
    """The names of all parameters in the account when the group ended its instance."""
    return set()


@pytest.fixture(scope="module")
def updated(
    aws: MotoServer, cdk: Cdk, again: Deployed, there_while_it_rolled: set[str]
) -> Deployed:
    """Another release of the package, in which one host file differs."""
    for name, copy in (("app.py", shutil.copy), ("chroma_stack", shutil.copytree)):
        (cdk.directory / name).unlink()  # a link to the project's
        copy(PROJECT / name, cdk.directory / name)
    with (cdk.directory / "chroma_stack" / "host" / "boot").open("a") as boot:
        boot.write("true\n")
    set_desired_capacity = FakeAutoScalingGroup.set_desired_capacity

    def recorded(group: FakeAutoScalingGroup, capacity: int | None) -> None:
        if capacity == 0:
            pages = aws.client("ssm").get_paginator("describe_parameters").paginate()
            there_while_it_rolled.update(it["Name"] for page in pages for it in page["Parameters"])
        set_desired_capacity(group, capacity)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FakeAutoScalingGroup, "set_desired_capacity", recorded)
        cdk.deploy()
    return Deployed.record(aws)


def joined(deployed: Deployed) -> str:
    """What the instance fetches; it has the SHA-256 that user data names."""
    text = "".join(deployed.parameters[name] for name in deployed.names)
    assert hashlib.sha256(text.encode()).hexdigest() == deployed.settings["PROGRAM_SHA256"]
    return text


def test_user_data_names_the_parameters_that_hold_the_program(first: Deployed) -> None:
    assert joined(first) == program.encoded()


def test_the_instance_may_read_the_parameters_of_its_own_server(
    aws: MotoServer, first: Deployed
) -> None:
    iam, ssm = aws.client("iam"), aws.client("ssm")
    statements: list[dict[str, Any]] = [
        statement
        for role in aws.physical_ids(STACK, "AWS::IAM::Role")
        for policy in iam.list_role_policies(RoleName=role)["PolicyNames"]
        for statement in iam.get_role_policy(RoleName=role, PolicyName=policy)["PolicyDocument"][
            "Statement"
        ]
    ]
    tagged = [it for it in statements if "aws:ResourceTag" in str(it)]
    [allowed] = [it for it in tagged if "ssm:GetParameters" in it["Action"]]
    assert f"arn:aws:ssm:{aws.region}:123456789012:parameter/*" in allowed["Resource"]
    [(condition, value)] = allowed["Condition"]["StringEquals"].items()
    for name in first.names:
        found = ssm.list_tags_for_resource(ResourceType="Parameter", ResourceId=name)["TagList"]
        tags = {f"aws:ResourceTag/{it['Key']}": it["Value"] for it in found}
        assert tags[condition] == value


def test_a_deployment_without_changes_replaces_nothing(first: Deployed, again: Deployed) -> None:
    assert again == first


def test_another_program_replaces_the_instance_and_the_parameters(
    first: Deployed, updated: Deployed
) -> None:
    assert updated.instance != first.instance
    assert set(updated.names).isdisjoint(first.names)
    assert updated.settings["PROGRAM_SHA256"] != first.settings["PROGRAM_SHA256"]
    assert joined(updated) != joined(first)
    assert set(first.names).isdisjoint(updated.parameters)


def test_no_parameter_is_written_twice(aws: MotoServer, updated: Deployed) -> None:
    found = aws.parameters_named(list(updated.parameters))
    assert {it["Version"] for it in found} == {1}


def test_both_programs_are_there_while_the_instance_is_replaced(
    first: Deployed, updated: Deployed, there_while_it_rolled: set[str]
) -> None:
    assert there_while_it_rolled >= {*first.names, *updated.names}


def test_the_stack_leaves_no_parameter_behind(aws: MotoServer, cdk: Cdk, updated: Deployed) -> None:
    cdk.destroy()
    assert aws.parameters_named(list(updated.parameters)) == []
