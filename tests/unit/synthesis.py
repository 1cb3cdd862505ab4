"""Templates to make statements about."""

from __future__ import annotations

import functools
import json
from typing import Any

import aws_cdk as cdk
from aws_cdk.assertions import Annotations, Match, Template

from chroma_stack import ChromaStack, context


def stack(**settings: Any) -> ChromaStack:
    """The stack that ``cdk deploy -c key=value …`` makes."""
    app = cdk.App(context=settings)
    return ChromaStack(app, **context.read(app.node))


def template(**settings: str) -> Template:
    """The template of that stack."""
    return _template(tuple(sorted(settings.items())))


@functools.cache
def _template(settings: tuple[tuple[str, str], ...]) -> Template:
    return Template.from_stack(stack(**dict(settings)))


def resource(of: Template, resource_type: str) -> dict[str, Any]:
    """The one resource of a type, with its policies."""
    [found] = of.find_resources(resource_type).values()
    return dict(found)


def properties(of: Template, resource_type: str) -> dict[str, Any]:
    """The properties of the one resource of a type."""
    return dict(resource(of, resource_type)["Properties"])


def launch(of: Template) -> dict[str, Any]:
    """What the launch template says of a machine."""
    return dict(properties(of, "AWS::EC2::LaunchTemplate")["LaunchTemplateData"])


def user_data(of: Template) -> str:
    """The user data as text, each reference written as ``<Name>``."""
    value = launch(of)["UserData"]["Fn::Base64"]
    return value if isinstance(value, str) else "".join(map(_flat, value["Fn::Join"][1]))


def host_settings(of: Template) -> dict[str, str]:
    """What the machine will read from ``/etc/chroma/settings``."""
    lines = user_data(of).split("<<'END_OF_SETTINGS'\n")[1].split("\nEND_OF_SETTINGS\n")[0]
    return dict(line.split("=", 1) for line in lines.splitlines())


def _flat(part: Any) -> str:
    if isinstance(part, str):
        return part
    if "Ref" in part:
        return f"<{part['Ref']}>"
    if "Fn::GetAtt" in part:
        return f"<{'.'.join(part['Fn::GetAtt'])}>"
    return f"<{json.dumps(part)}>"


def statements(of: Template) -> list[dict[str, Any]]:
    """What the machine's role allows beside its managed policies."""
    return list(properties(of, "AWS::IAM::Policy")["PolicyDocument"]["Statement"])


def warnings(of: ChromaStack) -> list[str]:
    """The warnings that ``cdk`` prints for the stack."""
    found = Annotations.from_stack(of).find_warning("*", Match.any_value())
    return [str(message.entry.data) for message in found]
