"""What cdk-nag finds on a server, and that each acknowledgement is of something it finds."""

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

from chroma_stack import ChromaMonitoring, ChromaTls, acknowledge, published_template
from chroma_stack.alarms import AlarmTopic
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


def app_with_acm() -> cdk.Stack:
    """A stack of somebody else's, with a server that ACM issues a certificate to."""
    theirs = cdk.Stack(cdk.App(), "Theirs")
    certificate = ChromaTls.acm(domain_name="chroma.example.com", hosted_zone="Z123")
    server_in(theirs, lambda _: {"tls": certificate})
    return theirs


def app_with_alarms() -> cdk.Stack:
    """A stack of somebody else's, with a server that is monitored, and its alarms."""
    theirs = cdk.Stack(cdk.App(), "Theirs")
    server = server_in(theirs, lambda _: {"monitoring": ChromaMonitoring()})
    server.add_alarms(AlarmTopic(theirs, "Topic", email="operations@example.com"))
    return theirs


PUBLIC = ec2.SubnetType.PUBLIC
KEPT = "kept-acknowledgement"
OPEN = "AwsSolutions-EC23"
OPEN_TO_THE_WORLD = {"the stack", "the stack with everything"}

STACKS: dict[str, Callable[[], cdk.Stack]] = {
    "a public server": lambda: app_with_a_server(ec2.SubnetType.PUBLIC),
    "a private server": lambda: app_with_a_server(ec2.SubnetType.PRIVATE_WITH_EGRESS),
    "a server in a region": lambda: app_with_a_server(
        ec2.SubnetType.PUBLIC, cdk.Environment(account="123456789012", region="eu-central-1")
    ),
    "a server with a certificate from ACM": app_with_acm,
    "a server that is monitored": app_with_alarms,
    "the stack": stack,
    "the stack with everything": lambda: stack(**ALL),
}


def ours(found: set[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """What was found on resources that this package makes."""
    return ((rule, path) for rule, path in found if not path.startswith("Theirs/Vpc/"))


@pytest.fixture
def not_acknowledged(monkeypatch: pytest.MonkeyPatch) -> None:
    """The acknowledgements are kept where cdk-nag does not look."""
    monkeypatch.setattr(acknowledge, "_METADATA", KEPT)


def acknowledged(stack: cdk.Stack) -> dict[str, dict[str, str]]:
    """The findings that are acknowledged in a stack, with their reasons: by path."""
    return {
        construct.node.path: {rule: reason for it in entries for rule, reason in it.items()}
        for construct in stack.node.find_all()
        if (entries := [it.data for it in construct.node.metadata if it.type == KEPT])
    }


@pytest.mark.parametrize("name", STACKS)
def test_every_finding_on_what_the_server_makes_is_acknowledged(name: str) -> None:
    found = ours(findings(cdk_nag.AwsSolutionsChecks, STACKS[name]()))
    # Whether the port may be open to the world, only its owner can say.
    assert {rule for rule, _ in found} == ({OPEN} if name in OPEN_TO_THE_WORLD else set())


@pytest.mark.usefixtures("not_acknowledged")
def test_every_acknowledgement_is_of_something_that_is_found() -> None:
    for name, make in STACKS.items():
        stack = make()
        found = findings(cdk_nag.AwsSolutionsChecks, stack)
        for path, reasons in acknowledged(stack).items():
            for rule, reason in reasons.items():
                assert any(
                    rule == other and f"{where}/".startswith(f"{path}/") for other, where in found
                ), f"{name}: {rule} on {path}"
                assert re.fullmatch(r"(?s).+\.", reason)


def test_an_app_that_is_checked_is_synthesised() -> None:
    made = stack(allowedCidr="203.0.113.0/24")
    app = made.node.root
    cdk.Validations.of(app).add_plugins(cdk_nag.AwsSolutionsChecks(app))
    app.synth()


def test_a_port_that_is_open_to_a_network_only_is_no_finding() -> None:
    assert findings(cdk_nag.AwsSolutionsChecks, stack(allowedCidr="203.0.113.0/24")) == set()


@pytest.mark.parametrize(
    "settings", [{}, {"auth": "none"}, {"keyName": "ops", "sshCidr": "0.0.0.0/0"}], ids=str
)
def test_a_port_that_is_open_to_the_world_is_found(settings: dict[str, str]) -> None:
    found = findings(cdk_nag.AwsSolutionsChecks, stack(**settings))
    assert found == {(OPEN, "ChromaStack/Chroma/SecurityGroup/Resource")}


def test_a_permission_given_by_the_app_is_still_found() -> None:
    theirs = cdk.Stack(cdk.App(), "Theirs")
    server_in(theirs).role.add_to_principal_policy(
        iam.PolicyStatement(actions=["s3:*"], resources=["arn:aws:s3:::theirs/*"])
    )
    assert {rule for rule, _ in ours(findings(cdk_nag.AwsSolutionsChecks, theirs))} == {
        "AwsSolutions-IAM5[Action::s3:*]",
        "AwsSolutions-IAM5[Resource::arn:aws:s3:::theirs/*]",
    }


def test_no_template_carries_a_word_of_it() -> None:
    bodies = [published_template.text(), json.dumps(Template.from_stack(stack(**ALL)).to_json())]
    bodies.append(json.dumps(Template.from_stack(app_with_a_server(PUBLIC)).to_json()))
    for body in bodies:
        assert "AwsSolutions" not in body


def test_the_documentation_says_what_remains_of_nist_800_53() -> None:
    found = {
        rule
        for make in STACKS.values()
        for rule, _ in ours(findings(cdk_nag.NIST80053R5Checks, make()))
    }
    rows = re.findall(r"(?m)^\| `(\w+)` \| .+ \|$", PAGE.read_text())
    assert {f"NIST.800.53.R5-{rule}" for rule in rows} == found
