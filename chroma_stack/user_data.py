"""The instance's user data: its settings, the owner's commands, and what fetches the program.

User data is a short script. It writes the settings and the commands, as plain text in quoted
heredocs, so that no shell ever evaluates a value, unpacks ``host/fetch-program`` with what that
needs, and runs it. These files are packed, because the template has each line of user data indented.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_ec2 as ec2
from constructs import IConstruct

from chroma_stack import program
from chroma_stack.errors import SettingError

USER_DATA_LIMIT = 16384
"""Bytes of user data that EC2 takes:
https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/user-data.html"""

_NAME = re.compile(r"[A-Z][A-Z0-9_]*")

_FIRST_LINE = "#!/bin/bash\n"

_FILE = """\
cat >{path} <<'{end}'
{content}
{end}
"""

_UNPACK = f"""\
python3 /opt/chroma/{program.UNPACKER} <<'END_OF_FETCHER'
{{archive}}
END_OF_FETCHER
"""

_LONGEST_ARN = 2048
_LONGEST_PSEUDO_PARAMETER = {
    "AWS::AccountId": 12,
    "AWS::NoValue": 0,
    "AWS::Partition": 12,
    "AWS::Region": 16,
    "AWS::StackName": 128,
    "AWS::URLSuffix": 24,
}
"""Characters of what CloudFormation fills in, at most. The name of a stack:
https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_CreateStack.html"""

_LONGEST_ID = {
    "AWS::CertificateManager::AcmeEndpoint": len(
        "https://acm-acme-enroll.ap-southeast-1.api.aws/01234567-89ab-cdef-0123-456789abcdef/directory"
    ),
    "AWS::CertificateManager::AcmeExternalAccountBinding": len(
        "arn:aws-us-gov:acm:ap-southeast-1:123456789012:acme-endpoint/"
        "01234567-89ab-cdef-0123-456789abcdef/acme-external-account-binding/"
        "01234567-89ab-cdef-0123-456789abcdef"
    ),
    "AWS::EC2::EIP": len("eipalloc-0123456789abcdef0"),
    "AWS::EC2::NetworkInterface": len("eni-0123456789abcdef0"),
    "AWS::EC2::Volume": len("vol-0123456789abcdef0"),
}
"""https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/resource-ids.html and
https://docs.aws.amazon.com/acm/latest/userguide/acm-acme-endpoints.html"""

_LONGEST_PUBLIC_NAME = (
    len("ec2-255-255-255-255.ap-southeast-1.compute.") + _LONGEST_PSEUDO_PARAMETER["AWS::URLSuffix"]
)
"""What a parameter of the stack holds of which another property than its name is read."""

_AROUND_LOGICAL_ID = {
    "AWS::Logs::LogGroup": _LONGEST_PSEUDO_PARAMETER["AWS::StackName"] + len("--0123456789ABC"),
    "AWS::SSM::Parameter": len("CFN--0123456789abcdef"),
    "AWS::SecretsManager::Secret": len(
        "arn:aws-us-gov:secretsmanager:ap-southeast-1:123456789012:secret:-0123456789abcdef-AbCdEf"
    ),
}
"""Characters around the logical id in a name or ARN that CloudFormation generates, at most:
https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/aws-properties-name.html"""


def render(
    scope: IConstruct,
    settings: Mapping[str, str],
    *,
    before: ec2.UserData | Sequence[str] = (),
    after: ec2.UserData | Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> str:
    """The user data, after its ``#!`` line.

    :param scope: the server; its stack knows how long references can become.
    :param settings: what the host files read from ``/etc/chroma/settings``. Values may be
        tokens; those that are empty are left out.
    :param before: shell commands that the user data begins with.
    :param after: shell commands that ``boot`` ends with.
    :param environment: variables for these commands.
    :raises SettingError: when a name is no identifier in capitals, a value is not one
        line of printable characters, or all together is more than EC2 takes.
    """
    files = {
        "/etc/chroma/settings": _lines("settings", {k: v for k, v in settings.items() if v}),
        "/etc/chroma/environment": _lines("user_data_environment", environment or {}),
        "/opt/chroma/before": _commands("user_data_before", before),
        "/opt/chroma/after": _commands("user_data_after", after),
        f"/opt/chroma/{program.UNPACKER}": program.text(program.UNPACKER).rstrip("\n"),
    }
    script = "".join(
        ["set -euo pipefail\nmkdir -p /etc/chroma /opt/chroma\n"]
        + [_file(path, content) for path, content in files.items() if content]
        + [_UNPACK.format(archive=program.encoded(program.FETCHER))]
        + ["exec /opt/chroma/fetch-program"]
    )
    stack = cdk.Stack.of(scope)
    size = len(_FIRST_LINE.encode()) + _Lengths(stack).of(stack.resolve(script))
    if size > USER_DATA_LIMIT:
        raise SettingError(
            "user_data",
            f"up to {size} bytes",
            f"up to {USER_DATA_LIMIT} bytes; let user_data_before and user_data_after fetch what "
            "is long from elsewhere, and leave out what config can do without",
        )
    return script


def _file(path: str, content: str) -> str:
    end = f"END_OF_{PurePosixPath(path).stem.upper()}"
    return _FILE.format(path=path, content=content, end=end)


def _commands(name: str, given: ec2.UserData | Sequence[str]) -> str:
    """One command a line, without a ``#!`` line."""
    if isinstance(given, str):
        raise SettingError(name, given, "a list of commands, or a UserData")
    lines = given.render().splitlines() if isinstance(given, ec2.UserData) else list(given)
    if lines and lines[0].startswith("#!"):
        if "sh" not in lines[0]:
            raise SettingError(name, lines[0], "commands of a shell")
        lines = lines[1:]
    commands = "\n".join(lines)
    end = f"END_OF_{name.removeprefix('user_data_').upper()}"
    if end in commands.splitlines():
        raise SettingError(name, end, "any other line")
    return commands


def _lines(name: str, values: Mapping[str, str]) -> str:
    for key, value in values.items():
        if not _NAME.fullmatch(key):
            raise SettingError(name, key, "names in capitals, digits and _")
        if not value.isprintable():
            raise SettingError(name, f"{key}={value}", "one line of printable text")
    return "\n".join(f"{key}={value}" for key, value in values.items())


class _Lengths:
    """How long the values of a stack become at most, once CloudFormation has filled them in."""

    def __init__(self, stack: cdk.Stack) -> None:
        self._stack = stack

    def of(self, value: Any) -> int:
        """Bytes of a resolved value. A reference that nothing is known of counts as the
        longest ARN: https://docs.aws.amazon.com/IAM/latest/APIReference/API_AttachRolePolicy.html
        """
        match value:
            case str() | int():
                return len(str(value).encode())
            case {"Fn::Join": [separator, {"Fn::Split": [delimiter, text]}]} if len(
                separator
            ) <= len(delimiter):
                return self.of(text)
            case {"Fn::GetAtt": [name, "Value"]} if self._is_parameter(name):
                return _LONGEST_PUBLIC_NAME
            case {"Fn::Join": [separator, list() as parts]}:
                return sum(self.of(part) + len(separator) for part in parts)
            case {"Fn::Sub": str(text)}:
                texts = re.split(r"\$\{([^!}]+)\}", text)
                return self.of("".join(texts[::2])) + sum(
                    self.of({"Ref": name}) for name in texts[1::2]
                )
            case {"Fn::If": [_, if_true, if_false]}:
                return max(self.of(if_true), self.of(if_false))
            case {"Fn::Select": [index, list() as parts]}:
                return self.of(parts[int(index)])
            case {"Ref": name} | {"Fn::GetAtt": [name, _]}:
                if name in _LONGEST_PSEUDO_PARAMETER:
                    return _LONGEST_PSEUDO_PARAMETER[name]
                return self._of_element(name)
        return _LONGEST_ARN

    def _is_parameter(self, logical_id: str) -> bool:
        element = self._elements.get(logical_id)
        return (
            isinstance(element, cdk.CfnResource)
            and element.cfn_resource_type == "AWS::SSM::Parameter"
        )

    def _of_element(self, logical_id: str) -> int:
        element = self._elements.get(logical_id)
        if isinstance(element, cdk.CfnParameter):
            return int(element.max_length or 0) or _LONGEST_ARN
        if not isinstance(element, cdk.CfnResource):
            return _LONGEST_ARN
        kind = element.cfn_resource_type
        if kind in _AROUND_LOGICAL_ID and not self._is_named(element):
            return len(logical_id) + _AROUND_LOGICAL_ID[kind]
        return _LONGEST_ID.get(kind, _LONGEST_ARN)

    def _is_named(self, element: cdk.CfnResource) -> bool:
        return self._stack.resolve(getattr(element, "name", None)) is not None

    @functools.cached_property
    def _elements(self) -> dict[str, cdk.CfnElement]:
        elements = [it for it in self._stack.node.find_all() if isinstance(it, cdk.CfnElement)]
        # All in one call: each goes to another process.
        names = self._stack.resolve([it.logical_id for it in elements])
        return dict(zip(names, elements, strict=True))
