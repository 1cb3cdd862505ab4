"""How long the instance takes from its start to its first answer, and for what.

    python -m tests.bench.boot

In an emulated instance all takes many times what it takes on EC2: the ratio to the same
instance's boot to the end of an empty user data script, and the parts, are what counts.
"""

from __future__ import annotations

import re
import tempfile
import time
from pathlib import Path

import httpx

from chroma_stack.emulator.moto_server import MotoServer
from chroma_stack.emulator.rig import Rig
from tests.cloud.project import ProjectCdk
from tests.machine.server import Server

EMPTY = "#!/bin/bash\necho the empty script has ended\n"


def main() -> None:
    """Measure and print."""
    with MotoServer() as account, tempfile.TemporaryDirectory() as name:
        rig = Rig(Path(name), account)
        try:
            rig.registry.offer("1.5.9")
            ProjectCdk(Path(name) / "cdk", account.environment).deploy()
            instance = rig.launch(EMPTY)
            while "the empty script has ended" not in instance.console:
                time.sleep(0.2)
            empty = time.monotonic() - instance.started_at
            instance.terminate()
            server = Server(rig, account, "ChromaStack")
            instance = server.boot()
            while not _answers(instance.url):
                time.sleep(0.5)
            full = time.monotonic() - instance.started_at
            instance.wait_for_signal()
            print(f"start to the end of an empty script: {empty:.0f} s")
            print(f"start to the first answer: {full:.0f} s, {full / empty:.1f} of that")
            marks = re.findall(r"chroma: +(\d+) s: ([\w-]+): ", instance.console)
            starts: dict[str, int] = {}
            for seconds, part in marks:
                starts.setdefault(part, int(seconds))
            ends = [*list(starts.values())[1:], int(marks[-1][0])]
            for (part, start), end in zip(starts.items(), ends, strict=True):
                print(f"  {part}: {end - start} s")
        finally:
            rig.close()


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/api/v2/heartbeat", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


if __name__ == "__main__":
    main()
