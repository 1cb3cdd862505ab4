"""Host files and settings become the machine's user data.

The user data is a short script. First it writes the settings, as plain text in a quoted
heredoc, so that no shell ever evaluates a value. Then it unpacks the files of
``chroma_stack/host`` and runs ``boot`` among them.

The host files travel compressed and without their comments: together they are larger than
the 16,384 bytes that EC2 allows
(https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/user-data.html). By bzip2, because its
output has been the same in every release since 2019: the same files give the same user data
on every computer, so that a deploy from another one replaces nothing.
"""

from __future__ import annotations

import base64
import bz2
import io
import re
import tarfile
from collections.abc import Mapping
from importlib import resources

from chroma_stack.errors import SettingError

USER_DATA_LIMIT = 16384
"""Bytes of user data that EC2 takes."""

_COMMENT_LINE = re.compile(rb"(?m)^[ ]*#(?!!).*\n")
_NAME = re.compile(r"[A-Z][A-Z0-9_]*")
_END_OF_SETTINGS = "END_OF_SETTINGS"
_END_OF_FILES = "END_OF_FILES"

_SCRIPT = """\
set -euo pipefail
mkdir -p /etc/chroma /opt/chroma
cat >/etc/chroma/settings <<'{end_of_settings}'
{settings}
{end_of_settings}
python3 -c '
import base64, io, sys, tarfile
files = io.BytesIO(base64.b85decode(sys.stdin.read().strip()))
tarfile.open(fileobj=files, mode="r:bz2").extractall("/opt/chroma")
' <<'{end_of_files}'
{files}
{end_of_files}
exec /opt/chroma/boot
"""


def render(settings: Mapping[str, str]) -> str:
    """The commands of the user data, after its ``#!`` line.

    :param settings: what the host files read from ``/etc/chroma/settings``. Values may be
        tokens.
    :raises SettingError: when a name is no identifier in capitals, or a value is not one
        line of printable characters.
    """
    return _SCRIPT.format(
        settings="\n".join(_line(name, value) for name, value in settings.items()),
        files=base64.b85encode(_archive()).decode(),
        end_of_settings=_END_OF_SETTINGS,
        end_of_files=_END_OF_FILES,
    )


def _line(name: str, value: str) -> str:
    if not _NAME.fullmatch(name):
        raise SettingError(name, value, "names of settings are capitals, digits and _")
    if not value.isprintable():
        raise SettingError(name, value, "one line of printable text")
    return f"{name}={value}"


def _archive() -> bytes:
    """The host files as a compressed archive, the same bytes for the same files."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        files = resources.files("chroma_stack") / "host"
        for file in sorted(files.iterdir(), key=lambda file: file.name):
            if not file.is_file():  # what Python keeps beside a module it has imported
                continue
            content = _COMMENT_LINE.sub(b"", file.read_bytes())
            entry = tarfile.TarInfo(file.name)
            entry.size = len(content)
            entry.mode = 0o755 if content.startswith(b"#!") else 0o644
            tar.addfile(entry, io.BytesIO(content))
    return bz2.compress(archive.getvalue())
