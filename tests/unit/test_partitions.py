"""China, GovCloud and the other partitions: their names, ARNs and domains are others."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import aws_cdk as cdk
import pytest
from aws_cdk.assertions import Template

import chroma_stack
from chroma_stack import ChromaAuth, ChromaImage, ChromaStack, ChromaTracing, published_template
from tests.unit.construct import server_template
from tests.unit.synthesis import template

HOST = Path(chroma_stack.__file__).parent / "host"

PRINCIPAL = r'"Service": "[a-z0-9]+\.amazonaws\.com"'
"""The same in every partition: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_principal.html"""

EVERYTHING: dict[str, Any] = {
    "auth": ChromaAuth.basic(),
    "key_name": "ops",
    "tracing": ChromaTracing(endpoint="collector.example", headers={"a": "b"}),
}


def body_in(region: str) -> dict[str, Any]:
    env = cdk.Environment(account="123456789012", region=region)
    return dict(Template.from_stack(ChromaStack(cdk.App(), "S", env=env, **EVERYTHING)).to_json())


BODIES = {
    "the app's": lambda: template().to_json(),
    "the published": lambda: json.loads(published_template.text()),
    "a private server's": lambda: server_template().to_json(),
    "in China": lambda: body_in("cn-north-1"),
    "in GovCloud": lambda: body_in("us-gov-west-1"),
}


@pytest.mark.parametrize("name", BODIES)
def test_no_template_names_the_partition_or_domain_of_the_standard_regions(name: str) -> None:
    text = re.sub(PRINCIPAL, "", json.dumps(BODIES[name]()))
    assert re.findall(r".{40}(?:arn:aws:|amazonaws\.com(?!\.cn)).{40}", text) == []


def test_in_china_the_name_of_the_server_is_in_the_domain_of_china() -> None:
    url = body_in("cn-north-1")["Outputs"]["ServerUrl"]["Value"]
    assert ".cn-north-1.compute." in str(url)
    assert "AWS::URLSuffix" in str(url)


@pytest.mark.parametrize(
    ("region", "domain"),
    [
        ("eu-central-1", "amazonaws.com"),
        ("us-gov-west-1", "amazonaws.com"),
        ("cn-north-1", "amazonaws.com.cn"),
        ("eusc-de-east-1", "amazonaws.eu"),
        ("us-iso-east-1", "c2s.ic.gov"),
    ],
)
def test_an_image_in_ecr_may_be_pulled_in_every_partition(region: str, domain: str) -> None:
    name = f"123456789012.dkr.ecr.{region}.{domain}/chroma"
    body = server_template(lambda _: {"image": ChromaImage.from_registry(name)}).to_json()
    assert "ecr:GetAuthorizationToken" in str(body)
    assert f":ecr:{region}:123456789012:repository/chroma" in str(body)
    [host_pattern] = re.findall(r"=~ (\^\S*ecr\S*) ", (HOST / "boot").read_text())
    assert re.match(host_pattern, name)


def test_no_code_names_a_domain_of_aws() -> None:
    """The emulator aside, which has one of its own."""
    emulator = HOST.parent / "emulator"
    files = [
        it
        for it in HOST.parent.rglob("*")
        if it.is_file() and it.suffix != ".pyc" and emulator not in it.parents
    ]
    found = [
        f"{file.name}: {line.strip()}"
        for file in files
        for line in re.sub(
            r"ServicePrincipal\(\s+", "ServicePrincipal(", file.read_text()
        ).splitlines()
        if re.search(r"amazonaws|arn:aws:", line) and "ServicePrincipal(" not in line
    ]
    assert found == []
