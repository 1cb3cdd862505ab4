"""``python -m chroma_stack.copy SOURCE TARGET``: the command line."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn
from urllib.parse import urlsplit

from chroma_stack import credential
from chroma_stack.copy.errors import CopyError, UsageError
from chroma_stack.copy.model import BATCH, Readable, Source, Target

try:
    from chroma_stack.copy.files import FolderSource, FolderTarget, StreamSource, StreamTarget
    from chroma_stack.copy.progress import Progress
    from chroma_stack.copy.server import CLOUD, Names, Server
    from chroma_stack.copy.verify import verify
    from chroma_stack.copy.work import Options, Report, copy
except ModuleNotFoundError as missing:
    if missing.name not in ("httpx", "tqdm"):
        raise
    sys.exit(f"Error: copying needs {missing.name}, which the package's extra 'copy' installs")

GRACE = 5.0
"""Seconds that requests on their way get to end, after a failure or an interruption."""

DESCRIPTION = """\
Copies tenants, databases, collections with configuration and metadata, and records with vectors,
documents, metadata and URIs.

SOURCE and TARGET are each one of
  http://HOST[:PORT], https://…   a Chroma server, 0.5.0 or later
  cloud:                          Chroma Cloud, with --tenant and --database
  file:FOLDER                     a folder with compressed JSON lines
  file:-                          the same as one stream, on standard input or output
"""

EPILOG = """\
A credential is read from a file, from standard input (the file -), from a terminal, or from the
environment (CHROMA_SOURCE_CREDENTIAL, CHROMA_TARGET_CREDENTIAL), and is never an argument. Behind
this project's proxy, copying out needs a user with access read, copying in one with access write;
to create the target's tenant or database takes access admin.

Chroma cannot list its tenants: only default_tenant is copied unless --tenant says more. Servers
until 0.5.23 cannot list their databases either: name them by --database.

What is written to the source meanwhile may be missing in the target; run the command again with
--resume. Exit codes: 0 done; 1 it failed, or the comparison found a difference; 2 wrong use;
130 interrupted, 143 by SIGTERM.
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m chroma_stack.copy",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("source", metavar="SOURCE")
    parser.add_argument("target", metavar="TARGET")
    for role in ("source", "target"):
        group = parser.add_argument_group(f"the {role}, when it is a server")
        group.add_argument(
            f"--{role}-credential-file",
            metavar="FILE",
            help="holds the token, or USER:PASSWORD; - is standard input",
        )
        group.add_argument(
            f"--{role}-ask", action="store_true", help="ask for the credential on the terminal"
        )
        group.add_argument(
            f"--{role}-auth",
            choices=credential.AUTH,
            help="how to send it. Default: token (Authorization: Bearer); cloud: x-chroma-token",
        )
        group.add_argument(
            f"--{role}-ca",
            metavar="FILE",
            type=Path,
            help="the certificate of its authority (PEM). Default: those that Python trusts",
        )
    group = parser.add_argument_group("what")
    group.add_argument(
        "--tenant", metavar="T", action="append", default=[], help="only this one; may be repeated"
    )
    group.add_argument(
        "--database", metavar="D", action="append", default=[], help="only this one; repeatable"
    )
    group.add_argument(
        "--collection", metavar="NAME", action="append", default=[], help="only this; repeatable"
    )
    group.add_argument("--target-tenant", metavar="T", default="", help="put everything there")
    group.add_argument("--target-database", metavar="D", default="", help="put everything there")
    group = parser.add_argument_group("how")
    group.add_argument(
        "--batch",
        metavar="N",
        type=_positive,
        help="records in a request. Default: the most that both servers take, at most 1000",
    )
    group.add_argument(
        "--jobs", metavar="N", type=_positive, default=4, help="batches in flight. Default: 4"
    )
    group.add_argument(
        "--resume",
        action="store_true",
        help="go on after an interruption: what the target has is not sent again",
    )
    group.add_argument("--verify", action="store_true", help="afterwards compare record by record")
    group.add_argument("--verify-only", action="store_true", help="compare, and copy nothing")
    group.add_argument(
        "--json", action="store_true", help="print the result as JSON on standard output"
    )
    return parser


def _positive(text: str) -> int:
    number = int(text) if text.isdecimal() else 0
    if not 1 <= number <= 100_000:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 to 100000")
    return number


def _url(argument: str, role: str) -> str:
    """The address of a server, or nothing when the argument is none."""
    if argument == "cloud:":
        return CLOUD
    if argument.startswith("file:"):
        if argument == "file:":
            raise UsageError(f"The {role} file: names no folder.")
        return ""
    try:
        parts = urlsplit(argument)
        valid = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        valid = False
    if not valid or parts.query or parts.fragment or not argument.isprintable():
        raise UsageError(
            f"The {role} {argument!r} is refused: http://HOST:PORT, https://HOST:PORT, cloud:, "
            "file:FOLDER or file:-."
        )
    if parts.username is not None:
        raise UsageError(
            f"The {role} has a credential in its URL, where others can see it: use "
            f"--{role}-credential-file."
        )
    return argument


class Run:
    """One run of the command.

    :param arguments: those of the command line.
    :raises UsageError: when they cannot be used together.
    """

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._arguments = arguments
        self.stop = threading.Event()
        self._progress = Progress()
        self._target: Target | None = None
        given = arguments
        for option in ("tenant", "database", "collection", "target_tenant", "target_database"):
            for name in [chosen] if isinstance(chosen := getattr(given, option), str) else chosen:
                # Python reads bytes that are no UTF-8 as half of a character.
                if any("\ud800" <= it <= "\udfff" for it in name):
                    raise UsageError(f"--{option.replace('_', '-')} {name!r} is no UTF-8.")
        urls = [_url(given.source, "source"), _url(given.target, "target")]
        streams = [given.source == "file:-", given.target == "file:-"]
        if streams[1] and (given.verify or given.verify_only or given.resume or given.json):
            raise UsageError("--verify, --resume and --json are refused with the target file:-.")
        if streams[0] and given.verify:
            raise UsageError(
                "--verify is refused with the source file:-, which can be read once: use "
                "--verify-only with the stream once more."
            )
        if streams[0] and "-" in (given.source_credential_file, given.target_credential_file):
            raise UsageError("Standard input is the source: read the credential from a file.")
        if given.verify_only and given.resume:
            raise UsageError("--verify-only copies nothing: leave out --resume.")
        for option, several in (
            ("--target-tenant", given.target_tenant and len(given.tenant) > 1),
            ("--target-database", given.target_database and len(given.database) > 1),
        ):
            if several:
                raise UsageError(f"{option} needs a single one in the source.")
        for role, argument in (("source", given.source), ("target", given.target)):
            names = (given.target_tenant or given.tenant, given.target_database or given.database)
            if argument == "cloud:" and not all(
                (given.tenant, given.database) if role == "source" else names
            ):
                raise UsageError(f"With the {role} cloud:, name tenant and database.")
        same = all(urls) and urls[0].rstrip("/").lower() == urls[1].rstrip("/").lower()
        if not all(urls) and given.source == given.target and not any(streams):
            raise UsageError("SOURCE and TARGET are the same folder.")
        if same and not (given.target_tenant or given.target_database):
            raise UsageError(
                "SOURCE and TARGET are the same server: choose another --target-database."
            )
        self._urls, self._same = urls, same

    def __call__(self) -> int:
        """Copy, compare, and print what came of it.

        :returns: the exit code.
        """
        start = time.monotonic()
        given = self._arguments
        source = self._source()
        options = self._options(source)
        self._refuse_itself(source, options)
        reports: list[Report] = []
        try:
            if not given.verify_only:
                self._target = target = self._open_target(source)
                options = dataclasses.replace(
                    options, batch=given.batch or min(BATCH, source.batch, target.batch)
                )
                with self._progress.shown("copied"):
                    reports = copy(source, target, options, self._progress, self.stop)
            if given.verify or given.verify_only:
                with self._progress.shown("compared"):
                    compared = verify(
                        source,
                        self._compared(options),
                        options,
                        self._progress,
                        self._progress.write,
                        self.stop,
                    )
                reports = _together(reports, compared)
        finally:
            if self._target is not None:
                self._target.close()
        self._print(reports, time.monotonic() - start)
        return 1 if any(it.differences for it in reports) else 0

    def _server(self, role: str, names: Names) -> Server:
        argument = getattr(self._arguments, role)
        cloud = argument == "cloud:"
        auth = getattr(self._arguments, f"{role}_auth") or ("x-chroma-token" if cloud else "token")
        return Server(
            self._urls[role == "target"],
            role,
            headers=self._headers(role, auth),
            ca=getattr(self._arguments, f"{role}_ca"),
            names=names,
            cloud=cloud,
            stop=self.stop,
            say=self._progress.write,
        )

    def _headers(self, role: str, auth: str) -> dict[str, str]:
        file: str | None = getattr(self._arguments, f"{role}_credential_file")
        ask: bool = getattr(self._arguments, f"{role}_ask")
        read = credential.read(f"--{role}-", file, f"CHROMA_{role.upper()}_CREDENTIAL", ask=ask)
        return credential.headers(f"--{role}-", auth, read)

    def _source(self) -> Readable | StreamSource:
        given = self._arguments
        names = Names(given.tenant, given.database, given.collection)
        if self._urls[0]:
            return self._server("source", names)
        if given.source == "file:-":
            return StreamSource(sys.stdin.buffer, names)
        return FolderSource(Path(given.source.removeprefix("file:")), names)

    def _options(self, source: Source) -> Options:
        given = self._arguments
        return Options(
            batch=given.batch or min(BATCH, source.batch),
            jobs=given.jobs,
            resume=given.resume,
            tenant=given.target_tenant,
            database=given.target_database,
        )

    def _refuse_itself(self, source: Source, options: Options) -> None:
        collections = source.collections()
        if not collections:
            places = f" in {', '.join(source.places)}" if source.places else ""
            self._progress.write(f"The source has no collections{places}.")
        for option, value, found in (
            ("--target-tenant", options.tenant, {it.tenant for it in collections}),
            ("--target-database", options.database, {it.database for it in collections}),
        ):
            if value and len(found) > 1:
                names = ", ".join(sorted(found))
                raise UsageError(f"{option} needs a single one in the source, which has {names}.")
        if self._same and any(options.destination(it) == it for it in collections):
            raise UsageError(
                "SOURCE and TARGET are the same collections of the same server: choose another "
                "--target-database."
            )

    def _open_target(self, source: Source) -> Target:
        given = self._arguments
        if self._urls[1]:
            return self._server("target", Names())
        release = str(getattr(source, "release", ""))
        if given.target == "file:-":
            if sys.stdout.isatty():
                raise UsageError("The target file:- writes to standard output: redirect it.")
            return StreamTarget(sys.stdout.buffer, release)
        return FolderTarget(Path(given.target.removeprefix("file:")), release, given.resume)

    def _compared(self, options: Options) -> Readable:
        if isinstance(self._target, Server):
            return self._target
        if self._urls[1]:
            return self._server("target", Names())
        return FolderSource(Path(self._arguments.target.removeprefix("file:")))

    def _print(self, reports: Sequence[Report], seconds: float) -> None:
        differences = None
        if self._arguments.verify or self._arguments.verify_only:
            differences = sum(it.differences or 0 for it in reports)
        records, copied = sum(it.records for it in reports), sum(it.copied for it in reports)
        if self._arguments.json:
            result = {
                "collections": [dataclasses.asdict(it) for it in reports],
                "records": records,
                "copied": copied,
                "differences": differences,
                "seconds": round(seconds, 3),
            }
            print(json.dumps(result))
        words = [_number(len(reports), "collection"), _number(records, "record")]
        if not self._arguments.verify_only:
            words.append(f"{copied:,} written")
        if differences is not None:
            words.append(_number(differences, "difference"))
        print(f"{', '.join(words)}, in {seconds:.1f} s.", file=sys.stderr)


def _number(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _together(copied: Sequence[Report], compared: Sequence[Report]) -> list[Report]:
    """What was copied, with the differences that were found."""
    before = {(it.tenant, it.database, it.name): it.copied for it in copied}
    return [
        dataclasses.replace(it, copied=before.get((it.tenant, it.database, it.name), 0))
        for it in compared
    ]


class _Terminated(KeyboardInterrupt):
    """By SIGTERM."""


@contextlib.contextmanager
def _termination() -> Iterator[None]:
    def terminate(number: int, frame: FrameType | None) -> NoReturn:
        raise _Terminated

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    :param arguments: those of the command. Default: the process's own.
    :returns: the exit code.
    """
    given = _parser().parse_args(arguments)
    run: Run | None = None
    try:
        with _termination():
            run = Run(given)
            return run()
    except (CopyError, credential.WrongUse) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2 if isinstance(error, (UsageError, credential.WrongUse)) else 1
    except BrokenPipeError:
        # Nobody reads standard output any more; Python would say so once again at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        print("Error: standard output was closed.", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as interruption:
        rest = " What was copied stays; go on with the same command and --resume."
        if given.verify_only or given.target == "file:-":
            rest = ""
        print(f"Interrupted.{rest}", file=sys.stderr)
        return 143 if isinstance(interruption, _Terminated) else 130


def _end(code: int) -> NoReturn:
    """End the process, without waiting long for requests that a server does not answer."""
    deadline = time.monotonic() + GRACE
    for thread in threading.enumerate():
        # One that an interruption kept from starting is listed too.
        if thread is not threading.current_thread() and not thread.daemon and thread.is_alive():
            thread.join(max(0, deadline - time.monotonic()))
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    _end(main())
