"""The CDK's code and the settings of docs/tls.md."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import aws_cdk as cdk
import pytest
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_route53 as route53
from aws_cdk.assertions import Template

from chroma_stack import ChromaServer, ChromaTls, TlsMode, configure

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "tls.md").read_text()
OF_THE_CDK = [
    code for code in re.findall(r"(?ms)^```python\n(.*?)^```$", PAGE) if "ChromaServer(" in code
]
SETTINGS = re.findall(r'(?m)^make set ARGS="([^"]*)"', PAGE)


@pytest.mark.parametrize("code", OF_THE_CDK)
def test_the_pages_code_for_the_cdk_makes_a_server(code: str) -> None:
    stack = cdk.Stack(cdk.App(), "Search")
    vpc = ec2.Vpc(stack, "Vpc")
    zone = route53.PublicHostedZone(stack, "Zone", zone_name="example.com")
    function = lambda_.Function(
        stack,
        "Function",
        code=lambda_.Code.from_inline("def handler(event, context): pass"),
        handler="index.handler",
        runtime=lambda_.Runtime.PYTHON_3_13,
        vpc=vpc,
    )
    names = {"self": stack, "vpc": vpc, "zone": zone, "function": function}
    exec(code, {"ChromaServer": ChromaServer, "ChromaTls": ChromaTls, "TlsMode": TlsMode} | names)
    Template.from_stack(stack).resource_count_is("AWS::AutoScaling::AutoScalingGroup", 1)


def test_there_is_such_code_for_each_way() -> None:
    for way in ("own_authority", "acme", "acm"):
        assert any(f"ChromaTls.{way}(" in code for code in OF_THE_CDK), way


@pytest.mark.parametrize("arguments", SETTINGS)
def test_the_pages_settings_are_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: str
) -> None:
    shutil.copy(ROOT / "cdk.json", tmp_path)
    monkeypatch.chdir(tmp_path)
    secret = "arn:aws:secretsmanager:us-east-1:123456789012:secret:chroma-a1b2c3"
    if "acmeDirectory" in arguments:
        # It refers to the name of an earlier command.
        configure.main(["domainName=chroma.example.com", "hostedZoneId=Z0123456789ABCDEFGHIJ"])
    configure.main(arguments.replace("=ARN", f"={secret}").split())
    for key in re.findall(r"(\w+)=", arguments):
        assert key in configure.kept()
