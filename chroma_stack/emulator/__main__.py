"""Starts the server that a deployment would start, on this computer, without AWS.

It synthesises the stack with the settings given and those kept in cdk.json, deploys it by the CDK command line into an
AWS account that is a moto server on this computer, boots the user data of the deployed launch template on a machine of
qemu's, and stays until Ctrl-C. The next start with the same --data goes on with the same volume and the same credential.

At the first start the machine's disk is built from Debian's packages, and Chroma's image from PyPI: some minutes.
"""

from __future__ import annotations

import argparse
import logging
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .events import Events

NAME = "chroma_stack.emulator"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the status to end with."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {NAME}",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Exit status: 0 done, 1 it failed, 2 wrong use, 130 interrupted before it was ready.",
    )
    parser.add_argument(
        *("-c", "--context"),
        metavar="key=value",
        action="append",
        default=[],
        help="a setting, as of cdk deploy (docs/settings.md); repeatable",
    )
    parser.add_argument(
        "--data",
        type=Path,
        metavar="FOLDER",
        default=Path(".chroma-emulator"),
        help="where the volume is kept from one start to the next (default: %(default)s)",
    )
    parser.add_argument(
        "--json", action="store_true", help="one JSON object a line on standard output"
    )
    others = parser.add_argument_group(
        "another terminal", "speak to the one that runs with the same --data, then end"
    ).add_mutually_exclusive_group()
    others.add_argument(
        "--replace",
        action="store_true",
        help="end the machine for good and have the group start another one; ends when that one serves",
    )
    others.add_argument(
        "--power-cut",
        action="store_true",
        help="cut the machine's power and start it again; ends when it serves",
    )
    others.add_argument(
        "--machine-shell",
        action="store_true",
        help="open a root shell on the machine; without a terminal, run the commands of standard input",
    )
    options = parser.parse_args(arguments)
    asked = options.replace or options.power_cut or options.machine_shell
    if asked and options.context:
        parser.error("-c is for the start, not for --replace, --power-cut or --machine-shell")
    try:
        return _ask(options) if asked else _start(options)
    except KeyboardInterrupt:
        return 130


def _ask(options: argparse.Namespace) -> int:
    from .control import ask, shell_request
    from .errors import EmulatorError

    try:
        if options.machine_shell:
            request = shell_request()
        else:
            request = {"do": "replace" if options.replace else "power-cut"}
        return ask(options.data, request, options.json)
    except EmulatorError as error:
        return _refused(str(error), error.code)
    except OSError as error:
        return _refused(_of_system(error), 1)


def _start(options: argparse.Namespace) -> int:
    try:
        from botocore.exceptions import BotoCoreError, ClientError

        from chroma_stack import configure
        from chroma_stack.context import settings_among
        from chroma_stack.errors import SettingError

        from . import limits
        from .cdk import CdkError
        from .channel import ChannelError
        from .errors import EmulatorError
        from .events import Events
        from .folder import DataFolder
        from .requirements import check
        from .session import Session
    except ModuleNotFoundError as missing:
        return _refused(
            f"the emulator needs {(missing.name or '').partition('.')[0]}, which the package's extra 'emulator' installs",
            1,
        )
    except (ImportError, AttributeError) as error:
        return _refused(
            f"a package that the emulator needs is too old or too new, and its extra 'emulator' installs one that is not: {error}",
            1,
        )
    # Where mke2fs is, which an ordinary user need not have on the path.
    os.environ["PATH"] = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    _reach_loopback()
    for name in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, _interrupt)
    ready = False
    try:
        settings = settings_among(configure.kept()) | _given(options.context)
        limits.refuse(settings)
        check()
        folder = DataFolder(options.data)
        events = Events(options.json)
        session = Session(folder, settings, events)
        try:
            _introduce(events, settings)
            session.start()
            ready = True
            session.serve()
        finally:
            session.close()
            folder.close()
    except KeyboardInterrupt:
        return 0 if ready else 130
    except SettingError as error:
        return _refused(str(error), 2)
    except EmulatorError as error:
        return _refused(str(error), error.code)
    except CdkError as error:
        sentence = _sentence(str(error))
        return _refused(sentence, 2 if " is refused: " in sentence else 1)
    except subprocess.SubprocessError as error:
        return _refused(_failed(error), 1)
    except OSError as error:
        return _refused(_of_system(error), 1)
    except (ChannelError, BotoCoreError, ClientError) as error:
        return _refused(f"it failed: {error}", 1)
    return 0


def _given(words: Sequence[str]) -> dict[str, str]:
    from .errors import EmulatorError

    for word in words:
        if not re.match(r"[^=\s]+=", word):
            raise EmulatorError(f"-c {word} is refused: a setting is key=value", 2)
    return dict(word.split("=", 1) for word in words)


def _introduce(events: Events, settings: Mapping[str, str]) -> None:
    """Say what this start is like, and what of the settings has no effect."""
    from . import limits
    from .machine import has_kvm

    how = (
        "with KVM"
        if has_kvm()
        else "without KVM, so its processor is emulated, and a start takes minutes"
    )
    logger = logging.getLogger(NAME)
    logger.setLevel(logging.INFO)
    logger.addHandler(_Stages(events))
    events.stage("machine", how)
    for sentence in limits.named(settings):
        events.stage("not imitated", sentence)


class _Stages(logging.Handler):
    """Has what is logged shown as stages: what is built, which takes minutes."""

    def __init__(self, events: Events) -> None:
        super().__init__()
        self._events = events

    def emit(self, record: logging.LogRecord) -> None:
        self._events.stage("build", record.getMessage())


def _sentence(said: str) -> str:
    """Why a command of the CDK failed, of all it said: its error, or its last line."""
    first, *more = [line.strip() for line in said.splitlines() if line.strip()]
    errors: list[str] = re.findall(r"(?m)^Error: (.*)$", said)
    refused = [line for line in errors if " is refused: " in line]
    if found := refused or errors:
        return found[0]
    return f"{first.removesuffix(':')}: {more[-1]}" if more else first


def _of_system(error: OSError) -> str:
    """What the system said, such as that the disk is full."""
    where = f" ({error.filename})" if error.filename else ""
    return f"it failed: {error.strerror or error}{where}"


def _failed(error: subprocess.SubprocessError) -> str:
    command = getattr(error, "cmd", None) or ["a program"]
    words = [command] if isinstance(command, str) else [os.fspath(word) for word in command]
    return f"{Path(words[0]).name} failed ({error.__class__.__name__}); see its lines above"


def _reach_loopback() -> None:
    """Have no proxy asked for what is on this computer, whatever the environment says of proxies."""
    kept = os.environ.get("no_proxy") or os.environ.get("NO_PROXY")
    for name in ("NO_PROXY", "no_proxy"):
        os.environ[name] = ",".join([*filter(None, [kept]), "localhost", "127.0.0.1"])


def _interrupt(number: int, frame: FrameType | None) -> None:
    # One is enough: a terminal that is closed may send several, and the next would end the shutting down.
    for name in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, signal.SIG_IGN)
    raise KeyboardInterrupt


def _refused(sentence: str, code: int) -> int:
    print(f"Error: {sentence}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
