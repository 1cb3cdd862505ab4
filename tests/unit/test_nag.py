"""What cdk-nag says of a server, and that each reason not to heed it is needed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import aws_cdk as cdk
import cdk_nag
import pytest
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from aws_cdk.assertions import Template

from chroma_stack import nag, template
from tests.unit.construct import server_in
from tests.unit.synthesis import stack
from tests.unit.test_template import EVERYTHING

PAGE = Path(__file__).parents[2] / "docs" / "security.md"

ALL = EVERYTHING | {
    "allowedCidr": "0.0.0.0/0",
    "otelCollectionEndpoint": "api.honeycomb.io",
    "otelCollectionHeaders": "x-honeycomb-team=abc",
}


def findings(pack: type[cdk_nag.NagPack], scope: cdk.Stack) -> set[tuple[str, str]]:
    """The rules that a stack does not keep, each with what does not keep it."""
    report = pack().validate_scope(scope)
    return {
        (violation.rule_name, resource.construct_path)
        for violation in report.violations
        for resource in violation.violating_resources
    }


def app_with_a_server(
    subnet_type: ec2.SubnetType, environment: cdk.Environment | None = None
) -> cdk.Stack:
    """A stack of somebody else's, with a server in its network."""
    theirs = cdk.Stack(cdk.App(), "Theirs", env=environment)
    server_in(theirs, lambda _: {"vpc_subnets": ec2.SubnetSelection(subnet_type=subnet_type)})
    return theirs


STACKS: dict[str, Callable[[], cdk.Stack]] = {
    "a public server": lambda: app_with_a_server(ec2.SubnetType.PUBLIC),
    "a private server": lambda: app_with_a_server(ec2.SubnetType.PRIVATE_WITH_EGRESS),
    "a server in a region": lambda: app_with_a_server(
        ec2.SubnetType.PUBLIC, cdk.Environment(account="123456789012", region="eu-central-1")
    ),
    "the stack": stack,
    "the stack with everything": lambda: stack(**ALL),
}


def ours(found: set[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """What was found on resources that this package makes."""
    return ((rule, path) for rule, path in found if not path.startswith("Theirs/Vpc/"))


@pytest.fixture
def unexplained(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is acknowledged."""
    monkeypatch.setattr(nag, "explain", lambda *_: None)


@pytest.mark.parametrize("make", STACKS.values(), ids=STACKS.keys())
def test_nothing_is_found_that_is_not_explained(make: Callable[[], cdk.Stack]) -> None:
    assert set(ours(findings(cdk_nag.AwsSolutionsChecks, make()))) == set()


@pytest.mark.usefixtures("unexplained")
def test_every_reason_explains_something_that_is_found() -> None:
    found = {
        rule
        for make in STACKS.values()
        for rule, _ in ours(findings(cdk_nag.AwsSolutionsChecks, make()))
    }
    reasons = nag.SERVER | nag.NETWORK | nag.OPEN_DOOR
    needed = {
        known
        for known in reasons
        if any(re.fullmatch(re.escape(known).replace("…", ".+"), rule) for rule in found)
    }
    assert needed == reasons.keys()
    assert all(re.fullmatch(r"[A-Z][^.]+\.", reason) for reason in reasons.values())


def test_an_app_that_is_checked_is_synthesised() -> None:
    made = stack()
    app = made.node.root
    cdk.Validations.of(app).add_plugins(cdk_nag.AwsSolutionsChecks(app))
    app.synth()


@pytest.mark.parametrize(
    "settings",
    [{"auth": "none"}, {"keyName": "ops", "sshCidr": "0.0.0.0/0"}],
    ids=["without a credential", "for SSH"],
)
def test_a_door_open_to_the_world_is_still_found(settings: dict[str, str]) -> None:
    found = findings(cdk_nag.AwsSolutionsChecks, stack(**settings))
    assert found == {("AwsSolutions-EC23", "ChromaStack/Chroma/SecurityGroup/Resource")}


def test_a_permission_given_by_the_app_is_still_found() -> None:
    theirs = cdk.Stack(cdk.App(), "Theirs")
    server_in(theirs).role.add_to_principal_policy(
        iam.PolicyStatement(actions=["s3:*"], resources=["arn:aws:s3:::theirs/*"])
    )
    assert {rule for rule, _ in ours(findings(cdk_nag.AwsSolutionsChecks, theirs))} == {
        "AwsSolutions-IAM5[Action::s3:*]",
        "AwsSolutions-IAM5[Resource::arn:aws:s3:::theirs/*]",
    }


def test_no_template_carries_a_word_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def bodies() -> list[str]:
        made = [app_with_a_server(ec2.SubnetType.PUBLIC), stack(**ALL)]
        return [template.text(), *(json.dumps(Template.from_stack(it).to_json()) for it in made)]

    explained = bodies()
    monkeypatch.setattr(nag, "explain", lambda *_: None)
    assert explained == bodies()


def test_the_documentation_says_what_remains_of_nist_800_53() -> None:
    found = {
        rule
        for make in STACKS.values()
        for rule, _ in ours(findings(cdk_nag.NIST80053R5Checks, make()))
    }
    rows = re.findall(r"(?m)^\| `(\w+)` \| .+ \|$", PAGE.read_text())
    assert {f"NIST.800.53.R5-{rule}" for rule in rows} == found
