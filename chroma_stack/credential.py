"""The credential for a Chroma server: where a command reads it, and the header that it is sent in.

Nothing but the standard library is needed here.
"""

from __future__ import annotations

import base64
import getpass
import os
import sys
from pathlib import Path

AUTH = ("token", "x-chroma-token", "basic")
"""How a credential is sent: as ``Authorization: Bearer``, as ``X-Chroma-Token``, or, as
``USER:PASSWORD``, as ``Authorization: Basic``."""


class WrongUse(Exception):
    """An option, or what it leads to, is refused; the message is one sentence without a secret."""


def read(option: str, file: str | None, variable: str, *, ask: bool = False) -> str:
    """The credential, without the white space around it; empty when none is given.

    :param option: how its options begin: ``--`` for ``--credential-file``, for example.
    :param file: the value of ``--credential-file``; ``-`` for a line of standard input.
    :param variable: the environment variable that counts without a file.
    :param ask: whether to ask for it on the terminal instead.
    :raises WrongUse: when it cannot be read, or when a file or an answer is empty.
    """
    if ask:
        credential, given = _asked(option).strip(), f"{option}ask"
    elif file is not None:
        credential, given = _kept(option, file).strip(), f"{option}credential-file {file}"
    else:
        return os.environ.get(variable, "").strip()
    if not credential:
        raise WrongUse(f"{given} is refused: the credential is empty.")
    return credential


def _asked(option: str) -> str:
    try:
        # Standard input may be something else, and getpass would turn to it without a terminal.
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        raise WrongUse(f"{option}ask needs a terminal.") from None
    try:
        return getpass.getpass(f"Credential of the {option.strip('-') or 'server'}: ")
    except EOFError:
        return ""
    except UnicodeDecodeError:
        raise WrongUse(f"{option}ask is refused: the credential is no text.") from None


def _kept(option: str, file: str) -> str:
    try:
        if file != "-":
            return Path(file).read_text(encoding="utf-8")
        return sys.stdin.readline() if sys.stdin else ""
    except OSError as error:
        reason = error.strerror or "it cannot be read"
    except UnicodeDecodeError:
        reason = "it is no text"
    raise WrongUse(f"{option}credential-file {file} cannot be read: {reason}.")


def headers(option: str, auth: str, credential: str) -> dict[str, str]:
    """What is sent with each request.

    :param option: how its options begin: ``--`` for ``--auth``, for example.
    :param auth: one of :data:`AUTH`.
    :param credential: of :func:`read`; without one nothing is sent.
    :raises WrongUse: when it cannot be sent that way.
    """
    if not credential:
        return {}
    if auth == "basic":
        if ":" not in credential:
            raise WrongUse(f"{option}auth basic needs a credential like USER:PASSWORD.")
        # Python reads bytes that are no UTF-8 from the environment as what does not print.
        if not credential.isprintable():
            raise WrongUse(f"{option}auth basic needs a credential of one line of text.")
        return {"Authorization": f"Basic {base64.b64encode(credential.encode()).decode()}"}
    if not (credential.isascii() and credential.isprintable()):
        raise WrongUse(f"{option}auth {auth} needs a credential of one line of ASCII.")
    if auth == "x-chroma-token":
        return {"X-Chroma-Token": credential}
    return {"Authorization": f"Bearer {credential}"}
