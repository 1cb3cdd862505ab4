"""The program that runs on the instance, on its way there.

The files of ``chroma_stack/host`` are larger than the 16,384 bytes of user data that EC2 takes,
so they travel in parameters of Systems Manager. The parameters' logical ids carry a hash of the
content: another program is another set of parameters. CloudFormation makes them before the
group replaces its instance and deletes the previous set after that, and a rollback finds the
previous set still there, so no instance ever gets a program that is not its own.
"""

from __future__ import annotations

import ast
import base64
import bz2
import functools
import hashlib
import re
from collections.abc import Sequence
from importlib import resources
from typing import TYPE_CHECKING

from aws_cdk import aws_ssm as ssm
from constructs import Construct

from chroma_stack.errors import SettingError
from chroma_stack.instance import InstanceRole

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

FILES = (
    "access.map",
    "agent",
    "boot",
    "certificate",
    "chroma-agent.service",
    "chroma-certificate.service",
    "chroma-certificate.timer",
    "chroma-checkpoint.service",
    "chroma-checkpoint.timer",
    "chroma-credential.service",
    "chroma-credential.timer",
    "chroma-grow.service",
    "chroma-grow.timer",
    "chroma-health-check.service",
    "chroma-health-check.timer",
    "chroma-logs.service",
    "chroma-memory.service",
    "chroma-proxy.service",
    "chroma-relay-headers.service",
    "chroma-relay-headers.timer",
    "chroma-relay.service",
    "chroma-status.service",
    "chroma-status.timer",
    "chroma-updates.service",
    "chroma-updates.timer",
    "chroma.env",
    "chroma.service",
    "cloudwatch-agent.conf",
    "cloudwatch-agent.json",
    "container-network",
    "credential",
    "grow",
    "health-check",
    "indexes",
    "logs",
    "maintenance",
    "memory",
    "otel.py",
    "proxy.cfg",
    "relay.cfg",
    "self-test",
    "status",
    "updates",
)
"""What is unpacked into ``/opt/chroma``."""

FETCHER = ("common", "fetch-program", "run-commands")
"""What fetches these, and is there before them: user data holds it, packed in the same way."""

UNPACKER = "unpack.py"
"""What unpacks both: user data holds it as text."""

_PARAMETER_SIZE = 4096
"""What a standard parameter, which is free, may hold:
https://docs.aws.amazon.com/systems-manager/latest/userguide/parameter-store-advanced-parameters.html"""

_NO_CODE = re.compile(r"(?m)^[ ]*(#(?!!).*)?\n")
"""Comments and empty lines."""

_FOLDER = "chroma_stack/host"


class Program(Construct):
    """The host files in parameters of Systems Manager, which the instance may read."""

    def __init__(self, scope: Construct, role: InstanceRole) -> None:
        """
        :param role: the role of the instance.
        :raises SettingError: when a file is not as the instance needs it.
        """
        text = encoded()
        self._sha256 = hashlib.sha256(text.encode()).hexdigest()
        super().__init__(scope, f"Program-{self._sha256[:8]}")
        parts = [
            text[start : start + _PARAMETER_SIZE] for start in range(0, len(text), _PARAMETER_SIZE)
        ]
        self._parameters = [
            ssm.StringParameter(
                self,
                f"Part{number}",
                string_value=part,
            )
            for number, part in enumerate(parts)
        ]
        role.mark_as_own(self)
        # By tag, not by name: while the group is rolled, an instance of the previous launch
        # template may start, and needs the previous program.
        role.allow_for_own("ssm:GetParameters", "ssm", "parameter/*")

    @property
    def host_settings(self) -> dict[str, str]:
        """What ``host/fetch-program`` reads: the parameters' names in their order, and the
        SHA-256 of what they hold."""
        return {
            "PROGRAM": " ".join(parameter.parameter_name for parameter in self._parameters),
            "PROGRAM_SHA256": self._sha256,
        }


def encoded(names: Sequence[str] = FILES) -> str:
    """The archive as the template holds it: in ASCII85, because a parameter must not hold two
    braces in a row, which other encodings of this density use; with other letters for the two
    characters that a template would have to escape.

    https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_PutParameter.html

    :raises SettingError: when a file is not as the instance needs it.
    """
    return base64.a85encode(archive(names)).decode().translate(str.maketrans('"\\', "vw"))


def archive(names: Sequence[str] = FILES) -> bytes:
    """The host files, compressed: name and content of each with a NUL between, which takes
    less room than a tar. By bzip2, because its output has been the same in every release
    since 2019: the same files give the same parameters on every computer, so that a
    deployment from another one replaces nothing.

    :raises SettingError: when a file is not as the instance needs it.
    """
    _refuse_strays()
    parts = [part for name in names for part in (name, text(name))]
    return bz2.compress("\0".join(parts).encode())


def text(name: str) -> str:
    """A host file without its comments, docstrings and empty lines.

    :raises SettingError: when its line ends are not those of Linux, or it is no text.
    """
    content = (_folder() / name).read_bytes()
    if b"\r" in content:
        raise SettingError(
            f"{_FOLDER}/{name}",
            "a carriage return",
            "line ends of Linux; check the files out again with git config core.autocrlf false",
        )
    if b"\0" in content:
        raise SettingError(f"{_FOLDER}/{name}", "a NUL", "text")
    code = content.decode()
    if "python" in code.partition("\n")[0]:
        code = _without_docstrings(code)
    return _NO_CODE.sub("", code)


@functools.cache
def _without_docstrings(code: str) -> str:
    """An empty string is left of each, since a block may hold nothing else."""
    lines = code.splitlines(keepends=True)
    for node in ast.walk(ast.parse(code)):
        match node:
            case ast.Expr(value=ast.Constant(value=str()), lineno=first, end_lineno=int(last)):
                empty = f'{" " * node.col_offset}""\n'
                lines[first - 1 : last] = [empty, *["\n"] * (last - first)]
    return "".join(lines)


def _refuse_strays() -> None:
    known = {*FILES, *FETCHER, UNPACKER, "__pycache__"}
    for file in _folder().iterdir():
        if file.name not in known:
            raise SettingError(
                _FOLDER, file.name, "only the files that chroma_stack/program.py names; remove it"
            )


def _folder() -> Traversable:
    return resources.files("chroma_stack") / "host"
