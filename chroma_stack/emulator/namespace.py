"""How commands that have to be root's are run by an ordinary user: in a user namespace.

There the user is root, and owns more users and groups, those of /etc/subuid and /etc/subgid: enough for a tree of Debian
with all its owners. Files that root makes in it belong to the user outside.
"""

import os
import subprocess
from pathlib import Path

from .errors import EmulatorError


def as_root(*command: str | Path) -> list[str | Path]:
    """Return what runs a command as root: the command itself for root, else by way of a namespace.

    :param command: the program and its arguments.
    """
    if os.geteuid() == 0:
        return list(command)
    options = ("--map-root-user", "--map-auto", "--mount", "--pid", "--fork", "--kill-child")
    return ["unshare", *options, "--", *command]


def check() -> None:
    """Make sure that `as_root` works.

    :raises EmulatorError: when it does not.
    """
    done = subprocess.run(as_root("true"), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise EmulatorError(
            "an ordinary user builds the machine's disk in a user namespace, and there is none "
            f"({' '.join(done.stderr.split()) or 'unshare failed'}): install uidmap, give the user a line in /etc/subuid "
            "and /etc/subgid, and allow unprivileged user namespaces; or run this as root"
        )
