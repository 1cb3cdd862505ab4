"""Templates to make statements about."""

from __future__ import annotations

import functools
import json
from collections import defaultdict
from typing import Any

import aws_cdk as cdk
from aws_cdk.assertions import Annotations, Match, Template

from chroma_stack import ChromaStack, context, published_template

TEMPLATE_LIMIT = 1_000_000
"""Bytes of a template that CloudFormation takes from a bucket:
https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/cloudformation-limits.html"""


def stack(**settings: Any) -> ChromaStack:
    """The stack that ``cdk deploy -c key=value …`` makes."""
    return context.chroma_stack(cdk.App(context=settings))


def template(**settings: str) -> Template:
    """The template of that stack, which CloudFormation takes."""
    return _template(tuple(sorted(settings.items())))


@functools.cache
def _template(settings: tuple[tuple[str, str], ...]) -> Template:
    made = Template.from_stack(stack(**dict(settings)))
    assert size(made) <= TEMPLATE_LIMIT
    return made


@functools.cache
def published() -> dict[str, Any]:
    """The published template; not to be changed."""
    return dict(json.loads(published_template.text()))


def size(made: Template) -> int:
    """Bytes of the template as the CDK command line uploads it."""
    return len(json.dumps(made.to_json(), indent=1).encode())


def resource(of: Template, resource_type: str) -> dict[str, Any]:
    """The one resource of a type, with its policies."""
    [found] = of.find_resources(resource_type).values()
    return dict(found)


def properties(of: Template, resource_type: str) -> dict[str, Any]:
    """The properties of the one resource of a type."""
    return dict(resource(of, resource_type)["Properties"])


def launch(of: Template) -> dict[str, Any]:
    """What the launch template says of an instance."""
    return dict(properties(of, "AWS::EC2::LaunchTemplate")["LaunchTemplateData"])


def user_data(of: Template) -> str:
    """The user data as text, each reference written as ``<Name>``."""
    value = launch(of)["UserData"]["Fn::Base64"]
    return value if isinstance(value, str) else "".join(map(_flat, value["Fn::Join"][1]))


def host_settings(of: Template) -> defaultdict[str, str]:
    """What the instance will read from ``/etc/chroma/settings``; empty where it finds nothing."""
    lines = user_data(of).split("<<'END_OF_SETTINGS'\n")[1].split("\nEND_OF_SETTINGS\n")[0]
    return defaultdict(str, dict(line.split("=", 1) for line in lines.splitlines()))


def _flat(part: Any) -> str:
    if isinstance(part, str):
        return part
    if "Ref" in part:
        return f"<{part['Ref']}>"
    if "Fn::GetAtt" in part:
        return f"<{'.'.join(part['Fn::GetAtt'])}>"
    return f"<{json.dumps(part)}>"


def statements(of: Template) -> list[dict[str, Any]]:
    """What the instance's role allows beside its managed policies."""
    policies = of.find_resources("AWS::IAM::Policy").values()
    return [it for policy in policies for it in policy["Properties"]["PolicyDocument"]["Statement"]]


def dashboard(of: Template) -> dict[str, Any]:
    """The body of the one dashboard, each reference written as ``<Name>``."""
    text = properties(of, "AWS::CloudWatch::Dashboard")["DashboardBody"]
    parts = (
        it if isinstance(it, str) else _flat(it).replace('"', "'") for it in text["Fn::Join"][1]
    )
    return dict(json.loads("".join(parts)))


def warnings(of: ChromaStack) -> list[str]:
    """The warnings that ``cdk`` prints for the stack."""
    found = Annotations.from_stack(of).find_warning("*", Match.any_value())
    return [str(message.entry.data) for message in found]
