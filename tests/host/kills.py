"""What Chroma itself promises: kills a bare server under writers, and compares afterwards.

    python -m tests.host.kills --rounds 20 --sync-threshold 1000

It stops at the first loss, since a collection with a broken index stays broken.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.host.chroma_servers import CURRENT, RECORDS, VERSIONS, ChromaServer, python_with_chroma

WRITERS = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--version", choices=VERSIONS, default=CURRENT)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--signal", choices=("KILL", "TERM"), default="KILL")
    parser.add_argument("--sync-threshold", type=int, default=1000, help="Chroma's default: 1000")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        server = ChromaServer(options.version, Path(folder))
        try:
            lost = rounds(server, options)
        finally:
            server.stop()
    print("nothing acknowledged was lost" if not lost else f"lost: {lost}")


def rounds(server: ChromaServer, options: argparse.Namespace) -> str:
    """What was lost, or nothing."""
    command = [python_with_chroma(options.version), RECORDS]
    acknowledged: list[int] = []

    def job(writers: int) -> str:
        host, port = server.address.split(":")
        what: dict[str, Any] = {"host": host, "port": int(port), "writers": writers, "add": 0}
        what |= {"acknowledged": acknowledged, "sync_threshold": options.sync_threshold}
        what["first"] = max(acknowledged, default=-WRITERS - 1) + WRITERS + 1
        return json.dumps(what)

    for number in range(1, options.rounds + 1):
        with subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as writers:
            assert writers.stdin
            assert writers.stdout
            writers.stdin.write(job(WRITERS))
            writers.stdin.close()
            first = writers.stdout.readline()
            time.sleep(random.uniform(1, 6))
            server.process.send_signal(getattr(signal, f"SIG{options.signal}"))
            acknowledged += map(int, [first, *writers.stdout])
        server.process.wait(60)
        server.start()
        compared = subprocess.run(command, input=job(0), text=True, capture_output=True)
        print(f"{number}: {len(acknowledged) * 25} records acknowledged", flush=True)
        if compared.returncode:
            return compared.stderr.strip().splitlines()[-1]
    return ""


if __name__ == "__main__":
    main()
