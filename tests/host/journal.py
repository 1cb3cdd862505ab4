"""A stand-in for `journalctl`, with entries as `journalctl --output json` prints them."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

SECONDS = 1_795_921_200  # 2026-11-29T03:00:00Z
JOURNALCTL = """\
#!/usr/bin/env python3
import json, pathlib, sys, time

folder = pathlib.Path(__file__).parent
with (folder / "journal.calls").open("a") as calls:
    calls.write(" ".join(sys.argv[1:]) + "\\n")
after = [it.split("=", 1)[1] for it in sys.argv if it.startswith("--after-cursor=")]
def read():
    # The last line may not be there in whole yet.
    return (folder / "journal").read_text().rpartition("\\n")[0].splitlines()
lines = read()
seen = len(lines)
cursors = [json.loads(line)["__CURSOR"] for line in lines]
if after:
    if after[0] not in cursors:
        sys.exit(1)
    lines = lines[cursors.index(after[0]) + 1:]
for line in reversed(lines) if "--reverse" in sys.argv else lines:
    print(line, flush=True)
if "--follow" in sys.argv:
    while True:
        time.sleep(0.02)
        now = read()
        for line in now[seen:]:
            print(line, flush=True)
        seen = len(now)
"""


class Journal:
    """The journal that programs see which have `programs` on their PATH."""

    def __init__(self, programs: Path) -> None:
        programs.mkdir(exist_ok=True)
        self.file = programs / "journal"
        self.file.touch()
        self._calls = programs / "journal.calls"
        program = programs / "journalctl"
        program.write_text(JOURNALCTL)
        program.chmod(0o755)
        self._number = itertools.count(1)

    def say(
        self, unit: str, message: object, identifier: str | None = None, **fields: object
    ) -> str:
        """Adds an entry and returns its cursor."""
        number = next(self._number)
        entry: dict[str, Any] = {
            "__CURSOR": f"s=6a9c0fb3;i={number:x};b=1c86a0d8;m=2f6{number:x};t=64f{number:x};x=9b",
            "__REALTIME_TIMESTAMP": str((SECONDS + number) * 1_000_000),
            "__MONOTONIC_TIMESTAMP": "12345678",
            "_BOOT_ID": "1c86a0d8",
            "_TRANSPORT": "stdout",
            "PRIORITY": "6",
            "_PID": "4242",
            "_SYSTEMD_UNIT": f"{unit}.service",
            "SYSLOG_IDENTIFIER": identifier or unit,
            "MESSAGE": message,
        }
        with self.file.open("a") as file:
            file.write(json.dumps(entry | fields) + "\n")
        return str(entry["__CURSOR"])

    def say_by_systemd(self, unit: str, message: str, priority: int = 6) -> None:
        """What systemd says of a unit."""
        self.say(
            "init",
            message,
            "systemd",
            _PID="1",
            _SYSTEMD_UNIT="init.scope",
            UNIT=f"{unit}.service",
            PRIORITY=str(priority),
        )

    @property
    def calls(self) -> list[str]:
        return self._calls.read_text().splitlines()
