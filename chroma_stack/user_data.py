"""Host files and settings become the machine's user data.

The user data is a short script. First it writes the settings, as plain text in a quoted
heredoc, so that no shell ever evaluates a value. Then it unpacks the files of
``chroma_stack/host`` and runs ``boot`` among them, between the commands of the server's owner.

The host files travel compressed and without their comments: together they are larger than
the 16,384 bytes that EC2 allows
(https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/user-data.html). By bzip2, because its
output has been the same in every release since 2019: the same files give the same user data
on every computer, so that a deploy from another one replaces nothing.
"""

from __future__ import annotations

import base64
import bz2
import re
from collections.abc import Mapping, Sequence
from importlib import resources

from aws_cdk import aws_ec2 as ec2

from chroma_stack.errors import SettingError

USER_DATA_LIMIT = 16384
"""Bytes of user data that EC2 takes."""

_COMMENT_LINE = re.compile(rb"(?m)^[ ]*#(?!!).*\n")
_NAME = re.compile(r"[A-Z][A-Z0-9_]*")
_END_OF_SETTINGS = "END_OF_SETTINGS"
_END_OF_FILES = "END_OF_FILES"
_END_OF_BEFORE = "END_OF_BEFORE"

_SCRIPT = """\
set -euo pipefail
mkdir -p /etc/chroma /opt/chroma
cat >/etc/chroma/settings <<'{end_of_settings}'
{settings}
{end_of_settings}
python3 -c '
import base64, bz2, os, sys
parts = iter(bz2.decompress(base64.b85decode(sys.stdin.read().strip())).split(bytes(1)))
for name, text in zip(parts, parts):
    with open(b"/opt/chroma/" + name, "wb") as file:
        file.write(text)
        os.fchmod(file.fileno(), 0o755 if text[:2] == b"#!" else 0o644)
' <<'{end_of_files}'
{files}
{end_of_files}
{before}/opt/chroma/boot
{after}"""

# `boot` runs the file, so that a command that fails is reported as any failed boot.
_BEFORE = """\
cat >/opt/chroma/before <<'{end_of_before}'
{commands}
{end_of_before}
"""


def render(
    settings: Mapping[str, str],
    before: ec2.UserData | Sequence[str] = (),
    after: ec2.UserData | Sequence[str] = (),
) -> str:
    """The commands of the user data, after its ``#!`` line.

    :param settings: what the host files read from ``/etc/chroma/settings``. Values may be
        tokens.
    :param before: shell commands that ``boot`` begins with.
    :param after: shell commands to run when ``boot`` has succeeded.
    :raises SettingError: when a name is no identifier in capitals, a value is not one
        line of printable characters, or all together is more than EC2 takes.
    """
    first = _commands("user_data_before", before)
    if _END_OF_BEFORE in first.splitlines():
        raise SettingError("user_data_before", _END_OF_BEFORE, "any other line")
    script = _SCRIPT.format(
        settings="\n".join(_line(name, value) for name, value in settings.items()),
        files=base64.b85encode(_archive()).decode(),
        end_of_settings=_END_OF_SETTINGS,
        end_of_files=_END_OF_FILES,
        before=first and _BEFORE.format(commands=first, end_of_before=_END_OF_BEFORE),
        after=_commands("user_data_after", after),
    )
    size = len(script.encode())
    if size > USER_DATA_LIMIT:
        raise SettingError(
            "user_data",
            f"{size} bytes",
            f"up to {USER_DATA_LIMIT} bytes; let user_data_before and user_data_after fetch what "
            "is long from elsewhere, and leave out what config and host_settings can do without",
        )
    return script


def _commands(name: str, given: ec2.UserData | Sequence[str]) -> str:
    """One command a line, without a ``#!`` line."""
    if isinstance(given, str):
        raise SettingError(name, given, "a list of commands, or a UserData")
    lines = given.render().splitlines() if isinstance(given, ec2.UserData) else list(given)
    if lines and lines[0].startswith("#!"):
        if "sh" not in lines[0]:
            raise SettingError(name, lines[0], "commands of a shell")
        lines = lines[1:]
    return "\n".join(lines)


def _line(name: str, value: str) -> str:
    if not _NAME.fullmatch(name):
        raise SettingError(name, value, "names of settings are capitals, digits and _")
    if not value.isprintable():
        raise SettingError(name, value, "one line of printable text")
    return f"{name}={value}"


def _archive() -> bytes:
    """The host files, compressed: name and content of each with a NUL between, which takes
    less room than a tar. The same bytes for the same files."""
    files = sorted((resources.files("chroma_stack") / "host").iterdir(), key=lambda it: it.name)
    parts: list[bytes] = []
    for file in files:
        if file.is_file():  # not what Python keeps beside a module it has imported
            parts += [file.name.encode(), _COMMENT_LINE.sub(b"", file.read_bytes())]
    return bz2.compress(b"\0".join(parts))
