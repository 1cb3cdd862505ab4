"""How other terminals speak to a running emulator: by a socket in its folder, in lines of JSON.

A request is ``{"do": "replace"}``, ``{"do": "power-cut"}``, ``{"do": "run", "script": …}`` or ``{"do": "shell", "rows": …,
"columns": …, "term": …}``. The answer is events, of which ``done`` is the last, with the status to end with; after the
``ready`` of a shell follow its own bytes, in both directions.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import shutil
import socket
import sys
import termios
import threading
import tty
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from .channel import ChannelError
from .errors import EmulatorError
from .events import write

SOCKET = "control"
LONGEST_SCRIPT = 131_071
"""Bytes that one argument of a program may have (MAX_ARG_STRLEN,
https://man7.org/linux/man-pages/man2/execve.2.html): commands are given to the machine's shell as one."""

Request = Mapping[str, Any]


class Connection:
    """One terminal's end of the socket."""

    def __init__(self, own: socket.socket) -> None:
        self.socket = own
        self._reader = own.makefile("rb", buffering=0)

    def send(self, event: Mapping[str, Any]) -> None:
        """Send a line; one who has hung up is told nothing."""
        with suppress(OSError):
            self.socket.sendall(json.dumps(event).encode() + b"\n")

    def receive(self) -> dict[str, Any] | None:
        """Return the next line, or None at the end."""
        # Unbuffered, so that what follows a line stays in the socket.
        line = self._reader.readline()
        return dict(json.loads(line)) if line.endswith(b"\n") else None

    def close(self) -> None:
        """Hang up."""
        self._reader.close()
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()


class Listener:
    """Answers other terminals, each in a thread.

    :param folder: where the socket is made, for its owner alone.
    :param answer: what to do with a request.
    """

    def __init__(self, folder: Path, answer: Callable[[Request, Connection], None]) -> None:
        self._answer = answer
        self._file = folder / SOCKET
        self._file.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX)
        with _address(self._file) as address:
            self._socket.bind(address)
        self._file.chmod(0o600)
        self._socket.listen()
        threading.Thread(target=self._listen, daemon=True).start()

    def close(self) -> None:
        """Answer no more."""
        self._file.unlink(missing_ok=True)
        self._socket.close()

    def _listen(self) -> None:
        with suppress(OSError):  # closed
            while True:
                connection = Connection(self._socket.accept()[0])
                threading.Thread(target=self._serve, args=[connection], daemon=True).start()

    def _serve(self, connection: Connection) -> None:
        try:
            request = connection.receive()
            if request is not None:
                self._answer(request, connection)
        except EmulatorError as error:
            connection.send({"event": "done", "code": error.code, "text": str(error)})
        except (OSError, ValueError, ChannelError) as error:
            connection.send({"event": "done", "code": 1, "text": f"it failed: {error}"})
        finally:
            connection.close()


def ask(folder: Path, request: Request, as_json: bool) -> int:
    """Send a request to the emulator that runs with this folder, and show what it answers.

    :param folder: that of ``--data``.
    :param request: what to do.
    :param as_json: whether events are shown as JSON.
    :return: the status to end with.
    :raises EmulatorError: when none runs there, or it fails.
    """
    connection = _connect(folder)
    connection.send(request)
    try:
        while (event := connection.receive()) is not None:
            if event["event"] == "ready":
                _join_terminal(connection.socket)
                return 0
            if event["event"] == "output":
                sys.stdout.write(event["out"])
                sys.stderr.write(event["err"])
                return int(event["code"])
            if event["event"] == "done":
                if event["code"]:
                    raise EmulatorError(event["text"], event["code"])
                return 0
            write(event, as_json)
        raise EmulatorError("the emulator has ended")
    except ConnectionError:
        raise EmulatorError("the emulator has ended") from None
    finally:
        connection.close()


def shell_request() -> Request:
    """What asks for a shell, as large as this terminal; where standard input is none, for its commands to be run.

    :raises EmulatorError: when these are too long.
    """
    if not sys.stdin.isatty():
        script = sys.stdin.buffer.read().decode(errors="replace")
        length = len(script.encode())
        if length > LONGEST_SCRIPT:
            raise EmulatorError(
                f"the commands of standard input are refused: they have {length} bytes, and {LONGEST_SCRIPT} are allowed",
                2,
            )
        return {"do": "run", "script": script}
    size = shutil.get_terminal_size()
    term = os.environ.get("TERM", "dumb")
    return {"do": "shell", "rows": size.lines, "columns": size.columns, "term": term}


def bridge(one: socket.socket, other: socket.socket) -> None:
    """Pass bytes between two sockets until one of them ends."""
    ends = {one: other, other: one}
    while True:
        for ready in select.select(list(ends), [], [])[0]:
            received = ready.recv(65536)
            if not received:
                return
            ends[ready].sendall(received)


def _connect(folder: Path) -> Connection:
    client = socket.socket(socket.AF_UNIX)
    try:
        with _address(folder / SOCKET) as address:
            client.connect(address)
    except OSError:
        client.close()
        raise EmulatorError(
            f"no emulator runs with --data {folder}; start one without this option first"
        ) from None
    return Connection(client)


@contextmanager
def _address(file: Path) -> Iterator[str]:
    """A short name of a socket: its own may have 107 characters."""
    folder = os.open(file.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{file.name}"
    finally:
        os.close(folder)


def _join_terminal(shell: socket.socket) -> None:
    """Connect this terminal to a shell until that ends."""
    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)
    flags = fcntl.fcntl(terminal, fcntl.F_GETFL)
    tty.setraw(terminal)
    try:
        while True:
            for ready in select.select([terminal, shell], [], [])[0]:
                if ready is shell:
                    received = shell.recv(65536)
                    if not received:
                        return
                    os.write(sys.stdout.fileno(), received)
                else:
                    shell.sendall(os.read(terminal, 65536))
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)
        fcntl.fcntl(terminal, fcntl.F_SETFL, flags)
