"""The instance of the published template boots what that of a stack of the CDK with the same settings boots.

So what `tests/machine` boots, by the CDK, stands for both.
"""

from __future__ import annotations

import re

import pytest

from chroma_stack import published_template
from chroma_stack.emulator.cdk import Cdk
from chroma_stack.emulator.moto_server import MotoServer

PARAMETERS = {
    "Open": {"KeyName": "mykey"},
    "Token": {
        "ChromaServerAuthCredentials": "test-token",
        "ChromaServerAuthProvider": "chromadb.auth.token_authn.TokenAuthenticationServerProvider",
        "ChromaAuthTokenTransportHeader": "X-Chroma-Token",
        "ReaderUser": "search",
    },
    "Traces": {
        "ChromaOtelCollectionEndpoint": "api.honeycomb.com",
        "ChromaOtelServiceName": "chromadb",
        "ChromaOtelCollectionHeaders": "x-honeycomb-team=abc",
        "ChromaOtelGranularity": "all",
    },
}
"""Those of Chroma's documentation, by the stacks that are made with them."""

SETTINGS: dict[str, dict[str, str | int]] = {
    "Open": {"keyName": "mykey", "auth": "none"},
    "Token": {"authTokenHeader": "X-Chroma-Token", "users": "search:read,ingest:write"},
    "Traces": {
        "auth": "none",
        "otelCollectionEndpoint": "api.honeycomb.com",
        "otelCollectionHeaders": "x-honeycomb-team=abc",
    },
}

IDS = {
    "ADDRESS": r"eipalloc-\w+",
    "AUTH_SECRET": r"arn:aws:secretsmanager:\S+",
    "CA_PARAMETER": r"\S+",
    "GROUP": r"\w+",
    "LOG_GROUP": r"\S+",
    "OTEL_HEADERS_SECRET": r"arn:aws:secretsmanager:\S+",
    "PROGRAM": r"(\S+ ?)+",
    "SERVER": r"\S+/\S+",
    "STACK": r"\S+",
    "TLS_NAMES": r"ec2-\S+ [0-9.]+",
    "USERS": r"/chroma/\S+/users",
    "VOLUME": r"vol-\w+",
}
"""The settings that name what each stack has of its own."""


def without_ids(user_data: str) -> list[str]:
    """The lines, with no name or id of a resource, and no setting that is empty."""
    lines = []
    for line in user_data.splitlines():
        name, _, value = line.partition("=")
        if name in IDS and re.fullmatch(IDS[name], value):
            line = f"{name}=…"
        if value or not re.fullmatch("[A-Z_]+=", line):
            lines.append(line)
    return lines


@pytest.mark.parametrize("name", PARAMETERS)
def test_the_instance_of_the_published_template_boots_what_that_of_the_cdk_boots(
    name: str, aws: MotoServer, cdk: Cdk
) -> None:
    s3 = aws.client("s3")
    s3.create_bucket(Bucket="templates")
    s3.put_object(Bucket="templates", Key=published_template.NAME, Body=published_template.text())
    aws.client("cloudformation").create_stack(
        StackName=f"Published{name}",
        TemplateURL=f"{aws.endpoint}/templates/{published_template.NAME}",
        Capabilities=["CAPABILITY_IAM"],
        Parameters=[
            {"ParameterKey": key, "ParameterValue": value}
            for key, value in PARAMETERS[name].items()
        ],
    )
    cdk.deploy({"stackName": f"Cdk{name}", **SETTINGS[name]})
    published, made = (
        without_ids(aws.launched_user_data(stack)) for stack in (f"Published{name}", f"Cdk{name}")
    )
    assert published == made
