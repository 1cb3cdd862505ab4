"""What ``docs/private-networks.md`` shows is what works."""

from __future__ import annotations

import re
from pathlib import Path

import aws_cdk as cdk
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_lambda as lambda_
from aws_cdk.assertions import Template

from chroma_stack import ChromaServer
from examples.private_network.app import IsolatedStack
from tests.unit.synthesis import host_settings, properties, resource

PAGE = (Path(__file__).parents[2] / "docs" / "private-networks.md").read_text()
USE = "".join(re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL))
ENDPOINT = "AWS::EC2::VPCEndpoint"


def isolated() -> Template:
    return Template.from_stack(IsolatedStack(cdk.App(), "Isolated"))


def services(made: Template) -> set[str]:
    """Short names of the endpoints in a template."""
    found = made.find_resources(ENDPOINT).values()
    names = [str(it["Properties"]["ServiceName"]) for it in found]
    return {re.sub(r".*'AWS::Region'\}, '\.|.*amazonaws\.[a-z0-9-]+\.|'.*", "", it) for it in names}


def test_the_example_has_every_endpoint_of_the_table_and_no_other() -> None:
    rows = re.findall(r"^\| (S3|`.*?)(?: \(gateway\))? \|", PAGE, re.MULTILINE)
    listed = {name.strip("`").lower() for row in rows for name in row.split(", ")}
    assert services(isolated()) == listed
    assert {"s3", "ec2", "ecr.api", "ecr.dkr", "cloudformation"} <= listed


def test_the_instance_of_the_example_boots_when_its_endpoints_are_there_and_open() -> None:
    made = isolated()
    waits_for = resource(made, "AWS::AutoScaling::AutoScalingGroup")["DependsOn"]
    for kind in (ENDPOINT, "AWS::EC2::SecurityGroupIngress"):
        needed = {it for it in made.find_resources(kind) if it.startswith("Vpc")}
        assert len(needed) == 11
        assert needed <= set(waits_for)


def test_the_example_needs_no_internet() -> None:
    made = isolated()
    for kind in ("InternetGateway", "NatGateway", "EIP"):
        assert made.find_resources(f"AWS::EC2::{kind}") == {}
    assert ".dkr.ecr." in host_settings(made)["IMAGE"]


def test_every_host_file_calls_only_what_the_table_lists() -> None:
    host = Path(__file__).parents[2] / "chroma_stack" / "host"
    text = "\n".join(it.read_text() for it in host.iterdir() if it.is_file())
    called = set(re.findall(r"\baws(?: --\S+ \S+)* ([a-z0-9]+) [a-z]+-[a-z-]+", text))
    called |= set(re.findall(r'"(secretsmanager|ssm)", "get-', text))
    assert called == {"cloudformation", "ec2", "ecr", "autoscaling", "secretsmanager", "ssm"}


def test_a_client_uses_the_server_as_the_page_shows() -> None:
    stack = cdk.Stack(cdk.App(), "Theirs")
    vpc = ec2.Vpc(stack, "Vpc", restrict_default_security_group=False)
    function = lambda_.Function(
        stack,
        "Client",
        vpc=vpc,
        runtime=lambda_.Runtime.PYTHON_3_13,
        handler="index.handler",
        code=lambda_.Code.from_inline("def handler(event, context): pass"),
    )
    exec(USE, {"self": stack, "vpc": vpc, "function": function, "ChromaServer": ChromaServer})
    made = Template.from_stack(stack)
    variables = properties(made, "AWS::Lambda::Function")["Environment"]["Variables"]
    zone = properties(made, "AWS::Route53::HostedZone")["Name"]
    assert f"{variables['CHROMA_HOST']}." == zone
    assert properties(made, "AWS::EC2::SecurityGroupIngress")["FromPort"] == 8000
