"""What a running emulator says: stages, the outputs, the end; as lines for people or as JSON."""

from __future__ import annotations

import json
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

_STAGE = re.compile(r"chroma: +\d+ s: (?:([\w -]{1,20}): )?(.+)")
"""A line of `log` in chroma_stack/host/common, which the machine's console has."""


def write(event: Mapping[str, Any], as_json: bool) -> None:
    """Write an event to standard output.

    :param event: what happened, under ``event``, and more about it.
    :param as_json: whether as one JSON object, rather than as text.
    """
    try:
        print(json.dumps(event) if as_json else _text(event), flush=True)
    except OSError:
        # Nobody reads any more, or the terminal is closed: there is nobody to tell, at the end of the process either.
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class Events:
    """Hands each event on to whoever listens.

    :param as_json: whether standard output gets JSON.
    """

    def __init__(self, as_json: bool) -> None:
        self._start = time.monotonic()
        self._lock = threading.Lock()
        self._listeners: list[Callable[[Mapping[str, Any]], None]] = [
            lambda event: write(event, as_json)
        ]

    def emit(self, event: str, **more: Any) -> None:
        """Say what happened."""
        with self._lock:
            for listener in self._listeners:
                listener({"event": event, **more})

    def stage(self, stage: str, text: str) -> None:
        """Say that a stage has begun, with the seconds since the command was started."""
        seconds = round(time.monotonic() - self._start, 1)
        self.emit("stage", seconds=seconds, stage=stage, text=text)

    @contextmanager
    def heard_by(self, listener: Callable[[Mapping[str, Any]], None]) -> Iterator[None]:
        """Tell another one too, for the length of a `with` block."""
        with self._lock:
            self._listeners.append(listener)
        try:
            yield
        finally:
            with self._lock:
                self._listeners.remove(listener)

    @contextmanager
    def of_console(self, console: Path) -> Iterator[None]:
        """Turn what the boot says on the machine's console into stages, for the length of a `with` block.

        :param console: the file, which need not exist yet.
        """
        ended = threading.Event()

        def follow() -> None:
            read, rest = 0, ""
            while True:
                last = ended.wait(0.2)
                if console.exists():
                    with console.open("rb") as file:
                        file.seek(read)
                        new = file.read()
                    read += len(new)
                    *lines, rest = (rest + new.decode(errors="replace")).split("\n")
                    for line in lines:
                        if found := _STAGE.search(line.rstrip("\r")):
                            self.stage(found[1] or "boot", found[2])
                if last:
                    return

        follower = threading.Thread(target=follow, daemon=True)
        follower.start()
        try:
            yield
        finally:
            ended.set()
            follower.join()


def _text(event: Mapping[str, Any]) -> str:
    match event["event"]:
        case "stage":
            return f"{event['seconds']:5.0f} s  {event['stage']}: {event['text']}"
        case "outputs":
            return _outputs(event)
        case _:
            return str(event.get("text", ""))


def _outputs(event: Mapping[str, Any]) -> str:
    names = {
        "CredentialCommand": "The credential, in another terminal",
        "UserCredentialCommand": "The credential of the user whose name replaces NAME",
        "CaCertificateCommand": "The certificate of the server's own authority",
        "HeartbeatCommand": "Whether it answers",
    }
    parts = [f"The server answers at {event['url']}"]
    parts += [
        f"{title}:\n\n  {event['outputs'][name]}"
        for name, title in names.items()
        if name in event["outputs"]
    ]
    client = "\n".join(f"  {line}".rstrip() for line in event["python"].splitlines())
    parts.append(f"A client in Python:\n\n{client}")
    options = "\n".join(f"    {it['option']:<16} {it['does']}" for it in event["options"])
    parts.append(f"In another terminal:\n\n  {event['command']}\n\n{options}")
    parts.append(f"Ctrl-C ends it; the data stays in {event['data']}.")
    return "\n" + "\n\n".join(parts) + "\n"
