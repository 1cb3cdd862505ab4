"""The published template: its parameters, what it refuses, and that it is the same server.

``UPDATE_DOCS=1 pytest tests/unit/test_published_template.py`` writes the table of parameters
in ``docs/template.md``.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from aws_cdk import aws_ec2 as ec2
from aws_cdk.assertions import Template
from hypothesis import given
from hypothesis import strategies as st

import chroma_stack
from chroma_stack import ChromaVersion, machine, template
from chroma_stack.host import otel
from tests.unit import synthesis
from tests.unit.cloudformation import refusals, resolved

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "template.md"

TEMPLATE_LIMIT = 51_200
"""Bytes of a template that CloudFormation takes without a bucket:
https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/cloudformation-limits.html"""

DOCUMENTED = {
    "KeyName": "",
    "InstanceType": "t3.small",
    "ChromaVersion": str(ChromaVersion.V1_5_9),
    "ChromaServerAuthCredentials": "",
    "ChromaServerAuthProvider": "",
    "ChromaAuthTokenTransportHeader": "",
    "ChromaOtelCollectionEndpoint": "",
    "ChromaOtelServiceName": "",
    "ChromaOtelCollectionHeaders": "{}",
    "ChromaOtelGranularity": "",
}
"""The parameters of Chroma's own template in release 0.6.3, the last with authentication, and
their defaults: ``deployments/aws/chroma.cf.json`` of chroma-core/chroma."""

OURS = {
    "ImageId": "",
    "VolumeSize": 24,
    "SnapshotId": "",
    "AllowedCidr": "0.0.0.0/0",
    "VpcId": "",
    "SubnetId": "",
    "AvailabilityZone": "",
}

TOKEN = "chromadb.auth.token_authn.TokenAuthenticationServerProvider"
OLD_TOKEN = "chromadb.auth.token.TokenAuthServerProvider"
BASIC = "chromadb.auth.basic_authn.BasicAuthenticationServerProvider"
OLD_BASIC = "chromadb.auth.basic.BasicAuthServerProvider"
NETWORK = {
    "VpcId": "vpc-0123456789abcdef0",
    "SubnetId": "subnet-0123456789abcdef0",
    "AvailabilityZone": "us-east-1b",
}

SAME: dict[str, tuple[dict[str, str], dict[str, str]]] = {
    "as it is": ({}, {"auth": "none"}),
    "token": (
        {"ChromaServerAuthProvider": TOKEN, "ChromaServerAuthCredentials": "secret"},
        {"auth": "token"},
    ),
    "token in its own header": (
        {
            "ChromaServerAuthProvider": OLD_TOKEN,
            "ChromaServerAuthCredentials": "secret",
            "ChromaAuthTokenTransportHeader": "X_CHROMA_TOKEN",
        },
        {"auth": "token", "authTokenHeader": "X-Chroma-Token"},
    ),
    "basic": (
        {"ChromaServerAuthProvider": BASIC, "ChromaServerAuthCredentials": "user:secret"},
        {"auth": "basic"},
    ),
    "traces": (
        {"ChromaOtelCollectionEndpoint": "api.honeycomb.com"},
        {"auth": "none", "otelCollectionEndpoint": "api.honeycomb.com"},
    ),
    "everything": (
        {
            "InstanceType": "m7g.large",
            "ChromaVersion": "0.6.3",
            "KeyName": "ops",
            "VolumeSize": "100",
            "SnapshotId": "snap-0123456789abcdef0",
            "AllowedCidr": "198.51.100.0/24",
            "ChromaServerAuthProvider": OLD_BASIC,
            "ChromaServerAuthCredentials": "user:secret",
            "ChromaOtelCollectionEndpoint": "http://collector.internal:4317",
            "ChromaOtelServiceName": "search",
            "ChromaOtelCollectionHeaders": "{'x-honeycomb-team': 'abc'}",
            "ChromaOtelGranularity": "operation",
        },
        {
            "instanceType": "m7g.large",
            "chromaVersion": "0.6.3",
            "keyName": "ops",
            "volumeSize": "100",
            "snapshotId": "snap-0123456789abcdef0",
            "allowedCidr": "198.51.100.0/24",
            "auth": "basic",
            "otelCollectionEndpoint": "http://collector.internal:4317",
            "otelServiceName": "search",
            "otelCollectionHeaders": "{'x-honeycomb-team': 'abc'}",
            "otelGranularity": "operation",
        },
    ),
}
"""Parameters of the template, and the settings of ``cdk deploy`` that mean the same."""


@pytest.fixture(scope="module")
def text() -> str:
    return template.text()


@pytest.fixture(scope="module")
def published(text: str) -> dict[str, Any]:
    return dict(json.loads(text))


def with_plain_names(body: dict[str, Any]) -> Template:
    """The template with names that do not tell which of the two ways it came."""
    [volume] = [name for name, it in body["Resources"].items() if it["Type"] == "AWS::EC2::Volume"]
    text = json.dumps(body).replace(volume, "Volume")
    text = re.sub("/(ChromaStack|PublishedTemplate)Chroma[0-9A-F]{8}", "/Server", text)
    return Template.from_json(json.loads(re.sub("/c8[0-9a-f]{40}", "/Backup", text)))


@pytest.fixture(scope="module", params=SAME)
def both_ways(request: pytest.FixtureRequest, published: dict[str, Any]) -> tuple[Template, ...]:
    """The template with parameters, and that of the CDK way with the same settings."""
    parameters, settings = SAME[request.param]
    assert refusals(published, **parameters) == []
    by_cdk = synthesis.template(**settings).to_json()
    return with_plain_names(resolved(published, **parameters)), with_plain_names(by_cdk)


def test_the_machine_gets_the_same_settings_and_files(both_ways: tuple[Template, ...]) -> None:
    ours, by_cdk = both_ways
    # What host/otel.py makes of a name or a granularity that is empty.
    defaults = {"OTEL_SERVICE_NAME": "chromadb", "OTEL_GRANULARITY": "all"}
    settings = synthesis.host_settings(ours)
    filled = {name: settings[name] or default for name, default in defaults.items()}
    assert settings | filled == synthesis.host_settings(by_cdk)
    end = "\nEND_OF_SETTINGS\n"
    assert synthesis.user_data(ours).split(end)[1] == synthesis.user_data(by_cdk).split(end)[1]


@pytest.mark.parametrize(
    "resource_type",
    [
        "AWS::EC2::Volume",
        "AWS::EC2::SecurityGroup",
        "AWS::EC2::EIP",
        "AWS::DLM::LifecyclePolicy",
        "AWS::IAM::InstanceProfile",
    ],
)
def test_a_resource_is_the_same_both_ways(
    both_ways: tuple[Template, ...], resource_type: str
) -> None:
    ours, by_cdk = (synthesis.resource(it, resource_type) for it in both_ways)
    if resource_type == "AWS::EC2::SecurityGroup" and "KeyName" in synthesis.launch(both_ways[1]):
        assert ours["Properties"]["SecurityGroupIngress"][0]["FromPort"] == 8000
    assert ours == by_cdk


def test_the_machine_is_launched_in_the_same_way(both_ways: tuple[Template, ...]) -> None:
    ours, by_cdk = (synthesis.launch(it) for it in both_ways)
    assert ours | {"UserData": ""} == by_cdk | {"UserData": ""}


def test_the_group_of_one_is_the_same(both_ways: tuple[Template, ...]) -> None:
    ours, by_cdk = (
        synthesis.resource(it, "AWS::AutoScaling::AutoScalingGroup") for it in both_ways
    )
    for group in (ours, by_cdk):
        del group["DependsOn"]  # in the template, references that a condition can leave out
    assert ours == by_cdk


def test_the_machine_may_do_the_same(both_ways: tuple[Template, ...]) -> None:
    ours, by_cdk = map(permissions, both_ways)
    # Nothing on the machine describes a secret; aws-cdk-lib allows it with the reading.
    assert {it.replace(', "secretsmanager:DescribeSecret"', "") for it in by_cdk} == ours


def permissions(of: Template) -> set[str]:
    """Each statement of the machine's policies."""
    return {
        re.sub(r'"Action": "([^"]*)"', r'"Action": ["\1"]', json.dumps(statement, sort_keys=True))
        for policy in of.find_resources("AWS::IAM::Policy").values()
        for statement in policy["Properties"]["PolicyDocument"]["Statement"]
    }
