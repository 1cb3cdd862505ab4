"""Real Chroma servers and clients of both generations, each in an environment of its own.

The environments are made from the pins in `clients/` and kept under the user's cache folder.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.host.container_network import ContainerNetwork
from tests.host.programs import free_port, program, wait_until

HERE = Path(__file__).parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "chroma-stack"
CURRENT, LAST_PYTHON, OLDEST = "1.5.9", "0.6.3", "0.5.23"
VERSIONS = (CURRENT, LAST_PYTHON)
OLDEST_RUST, MIDDLE_RUST = "1.0.0", "1.3.7"
RECORDS = HERE / "records.py"
OPERATIONS = HERE / "operations.py"


@contextlib.contextmanager
def made_once(name: str, *pins: Path) -> Iterator[tuple[Path, bool]]:
    """A cached folder for these pins, and whether it still has to be filled."""
    key = hashlib.sha256(b"".join(pin.read_bytes() for pin in pins)).hexdigest()[:12]
    folder = CACHE / f"{name}-{key}"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        complete = folder / "complete"
        yield folder, not complete.exists()
        complete.touch()


def python_with_chroma(version: str) -> Path:
    """The interpreter of an environment with that release of `chromadb`."""
    return python_with(f"chroma-{version}")


def python_with_libraries() -> Path:
    """The interpreter of an environment with libraries that are built on `chromadb`."""
    return python_with("libraries")


def python_with(name: str) -> Path:
    """The interpreter of an environment with the pins of that name in `clients`."""
    pins = HERE / "clients" / f"{name}.txt"
    python = f"python{sys.version_info.major}.{sys.version_info.minor}"
    with made_once(f"{name}-{python}", pins) as (folder, empty):
        environment = folder / "venv"
        if empty:
            uv = [sys.executable, "-m", "uv"]
            create = ["venv", "--quiet", "--clear", "--python", sys.executable]
            subprocess.run([*uv, *create, str(environment)], check=True)
            install = ["pip", "install", "--quiet", "--python", f"{environment}/bin/python"]
            subprocess.run([*uv, *install, "--requirement", str(pins)], check=True)
    return environment / "bin" / "python"


def javascript_client() -> Path:
    """A folder whose `node_modules` hold the JavaScript client."""
    program("node")
    pins = (HERE / "js" / "package.json", HERE / "js" / "package-lock.json")
    with made_once("chroma-js", *pins) as (folder, empty):
        if empty:
            for pin in pins:
                shutil.copy(pin, folder)
            quiet = ["--no-audit", "--no-fund", "--loglevel=error"]
            install = [program("npm"), "ci", "--omit-lockfile-registry-resolved", *quiet]
            subprocess.run(install, cwd=folder, check=True)
    return folder


class ChromaServer:
    """A real server, its data in `folder`. Stopped by `stop`, started again by `start`.

    On loopback, or inside a network as the instance has it.
    """

    def __init__(
        self,
        version: str,
        folder: Path,
        variables: Mapping[str, str] | None = None,
        config: str = "",
        network: ContainerNetwork | None = None,
    ) -> None:
        self.version = version
        self.port = free_port() if network is None else 8000
        self._host = "127.0.0.1" if network is None else network.address
        self._inside = [] if network is None else network.command
        self.address = f"{self._host}:{self.port}"
        self._folder = folder
        self._variables = variables or {}
        self._config = config
        self.start()

    def start(self) -> None:
        python = python_with_chroma(self.version)
        where = ["--host", self._host, "--port", str(self.port)]
        if self.version.startswith("0."):
            command = [str(python), "-m", "uvicorn", "chromadb.app:app", *where]
        else:
            # As the official image does; only with a configuration are variables heeded.
            config = self._folder / "config.yaml"
            lines = ["persist_path: data", f"listen_address: {self._host}", f"port: {self.port}"]
            config.write_text(self._config or "\n".join(lines))
            command = [str(python.with_name("chroma")), "run", str(config)]
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self._folder),
            "ANONYMIZED_TELEMETRY": "FALSE",
            "IS_PERSISTENT": "TRUE",
            "PERSIST_DIRECTORY": "data",
            "CHROMA_LISTEN_ADDRESS": self._host,
            "CHROMA_PORT": str(self.port),
            **self._variables,
        }
        self.log = self._folder / "chroma.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*self._inside, *command], cwd=self._folder, env=environment, stdout=log, stderr=log
            )
        wait_until(self._answers, f"Chroma {self.version} answers", 180)

    def _answers(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            with urllib.request.urlopen(f"http://{self.address}/api/v2/heartbeat", timeout=5):
                return True
        except OSError:
            return False

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(30)
