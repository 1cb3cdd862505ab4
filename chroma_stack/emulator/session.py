"""One running emulator: the account, the deployed stack, the machine, and who asks for what."""

from __future__ import annotations

import contextlib
import http.client
import queue
import re
import secrets
import shutil
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from .cdk import STACK, Cdk
from .control import Connection, Listener, Request, bridge
from .errors import EmulatorError
from .events import Events
from .folder import DataFolder
from .machine import free_port
from .moto_server import MotoServer
from .rig import Rig
from .server import DeployedServer

SERVING_TIMEOUT = 1200
"""Seconds after which a server that was started again has failed; an emulated one takes a minute or two."""

SHUTDOWN_TIMEOUT = 300
"""Seconds after which a machine that was told to shut down is switched off."""

PORT = 8000
"""The port on loopback, if it is free at the first start."""

SHELL_PORT = 7000
"""The port of 169.254.169.254 that shells on the machine connect to."""


class Session:
    """A server from its deployment until it is ended.

    Everything is done by the thread that makes it, with which the machine ends; see :meth:`serve`.

    :param folder: what it goes on with, and keeps its data in.
    :param settings: context values by their keys.
    :param events: who is told of the stages.
    """

    def __init__(self, folder: DataFolder, settings: Mapping[str, str], events: Events) -> None:
        self._folder, self._settings, self._events = folder, settings, events
        self._jobs: queue.Queue[Callable[[], None]] = queue.Queue()
        self._ends = contextlib.ExitStack()
        self._ready = False
        self._server: DeployedServer
        self._shells: _Shells

    def start(self) -> None:
        """Deploy, boot, and say where the server is.

        :raises EmulatorError: when it does not come up.
        """
        scratch = self._folder.path / "run"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        self._ends.callback(shutil.rmtree, scratch, ignore_errors=True)
        self._events.stage("account", "an empty AWS account, on this computer")
        account = self._ends.enter_context(MotoServer(guarded=True))
        self._events.stage("deploy", "cdk bootstrap, cdk deploy")
        cdk = Cdk(scratch / "cdk", account.environment, context=self._settings)
        self._outputs = cdk.deploy()
        stack = self._settings.get("stackName", STACK)
        self._account, self._stack = account, stack
        self._restore_secrets()
        rig = Rig(scratch, account)
        self._ends.callback(rig.close)
        self._server = DeployedServer(rig, account, stack, disk=self._folder.disk)
        rig.registry.offer(self._server.settings["VERSION"])
        self._shells = _Shells()
        self._ends.callback(self._shells.close)
        self._port = self._choose_port()
        self._folder.keep(port=self._port)
        self._boot()
        self._folder.keep(served=True, secrets=self._secrets())
        self._ready = True
        listener = Listener(self._folder.path, self._answer)
        self._ends.callback(listener.close)
        self._events.emit("outputs", **self._description())

    def serve(self) -> None:
        """Do what other terminals ask for, until the process is interrupted."""
        while True:
            with contextlib.suppress(queue.Empty):
                self._jobs.get(timeout=1)()
            self._folder.keep(secrets=self._secrets())
            machine = self._server.machine
            if self._server.rig.aws.calls_of("SetInstanceHealth", machine.access_key):
                self._events.stage("group", f"{machine.instance_id} is unhealthy")
                self._replace()
            elif not machine.running:
                self._events.stage("machine", "it has ended, and is started again")
                self._power_cut()

    def close(self) -> None:
        """Shut the machine down, and end everything."""
        try:
            if self._ready and self._server.machine.running:
                with contextlib.suppress(Exception):  # nobody may be there to be told
                    self._events.stage("machine", "shutting down")
                with contextlib.suppress(Exception):  # what does not shut down is switched off
                    self._server.machine.shut_down(SHUTDOWN_TIMEOUT)
            if self._ready:
                self._folder.keep(secrets=self._secrets())
        finally:
            self._ends.close()

    # Stages

    def _boot(self) -> None:
        machine = self._server.boot(reachable={SHELL_PORT: self._shells.port}, port=self._port)
        self._events.stage("machine", f"{machine.instance_id} boots")
        with self._events.of_console(machine.console_file):
            try:
                signal = machine.wait_for_signal()
            except (RuntimeError, TimeoutError) as error:
                raise EmulatorError(str(error).splitlines()[0]) from None
        if signal.status != "SUCCESS":
            reasons = re.findall(r"chroma: +\d+ s: FAILED: (.*)", machine.console)
            raise EmulatorError(
                f"the boot failed: {(reasons or ['see its lines above'])[-1].strip()}"
            )
        self._events.stage("ready", "the instance has signalled success")

    def _replace(self) -> None:
        self._events.stage("group", "the instance is terminated, the group starts another one")
        self._server.replace()
        self._boot()

    def _power_cut(self) -> None:
        machine = self._server.machine
        self._events.stage("machine", "its power is cut")
        machine.power_cut()
        machine.start()
        self._events.stage("machine", "switched on again")
        since = time.monotonic()
        while not self._serves():
            if not machine.running or time.monotonic() - since > SERVING_TIMEOUT:
                raise EmulatorError("the server does not answer after it was started again")
            time.sleep(0.5)
        self._events.stage("ready", "it answers")

    def _serves(self) -> bool:
        """Whether the proxy lets the heartbeat through and Chroma answers it."""
        port = urlsplit(self._server.machine.url).port
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        if self._secure:
            # What it answers with is not looked at.
            context = ssl._create_unverified_context()
            connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=60, context=context)
        try:
            connection.request("GET", "/api/v2/heartbeat")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    # What is kept

    def _secrets(self) -> dict[str, str]:
        client = self._account.client("secretsmanager")
        return {
            name: client.get_secret_value(SecretId=arn)["SecretString"]
            for name, arn in self._secret_ids().items()
        }

    def _restore_secrets(self) -> None:
        kept, client = self._folder.secrets, self._account.client("secretsmanager")
        for name, arn in self._secret_ids().items():
            if name in kept:
                client.put_secret_value(SecretId=arn, SecretString=kept[name])

    def _secret_ids(self) -> dict[str, str]:
        """The ARNs of the stack's secrets by the way of authentication, which decides what one holds, and logical id."""
        found = self._account.client("cloudformation").describe_stack_resources(
            StackName=self._stack
        )
        mode = self._settings.get("auth", "token")
        return {
            f"{mode}/{it['LogicalResourceId']}": it["PhysicalResourceId"]
            for it in found["StackResources"]
            if it["ResourceType"] == "AWS::SecretsManager::Secret"
        }

    def _choose_port(self) -> int:
        for port in (self._folder.port, PORT):
            with socket.socket() as probe, contextlib.suppress(OSError):
                # As qemu does: connections of the last start may still be waiting for their end.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if port:
                    probe.bind(("127.0.0.1", port))
                    return port
        return free_port()

    # What is said

    @property
    def _secure(self) -> bool:
        return self._server.settings.get("TLS") == "required"

    def _description(self) -> dict[str, Any]:
        url = self._server.machine.url
        if self._secure:
            url = url.replace("http:", "https:")
        outputs = {
            name: self._local(value, url)
            for name, value in self._outputs.items()
            # There is no Systems Manager on the machine.
            if name not in ("SessionCommand", "StatusCommand")
        }
        outputs |= {"ServerUrl": url, "ServerIp": "127.0.0.1"}
        call = f"{sys.executable} -m chroma_stack.emulator --data {self._folder.path}"
        does = {
            "--replace": "ends the machine for good; the group starts another one",
            "--power-cut": "cuts its power, and starts it again",
            "--machine-shell": "opens a root shell on it",
        }
        return {
            "url": url,
            "outputs": outputs,
            "python": client_lines(self._server.settings, url),
            "command": call,
            "options": [{"option": option, "does": text} for option, text in does.items()],
            "data": str(self._folder.path),
        }

    def _local(self, command: str, url: str) -> str:
        """A command of the outputs as it works on this computer."""
        command = command.replace(self._outputs["ServerUrl"], url)
        program = Path(sys.prefix) / "bin" / "aws"
        aws = str(program) if program.exists() else "aws"
        endpoint = self._account.endpoint.replace("localhost", "127.0.0.1")
        return re.sub(
            r"\baws (?=[a-z0-9]+ [a-z-]+ --)",
            f"AWS_ACCESS_KEY_ID={self._account.access_key} AWS_SECRET_ACCESS_KEY=testing "
            "AWS_SESSION_TOKEN= NO_PROXY=127.0.0.1 no_proxy=127.0.0.1 "
            f"{aws} --endpoint-url {endpoint} ",
            command,
        )

    # Other terminals

    def _answer(self, request: Request, connection: Connection) -> None:
        if request["do"] == "run":
            done = self._server.machine.run(request["script"])
            output = {"out": done.stdout, "err": done.stderr, "code": done.returncode}
            connection.send({"event": "output", **output})
        elif request["do"] == "shell":
            self._shells.open(self._server, request, connection)
        else:
            self._do(self._replace if request["do"] == "replace" else self._power_cut, connection)

    def _do(self, action: Callable[[], None], connection: Connection) -> None:
        """Have the session's own thread do it, and tell the other terminal how it goes."""
        ended: queue.Queue[BaseException | None] = queue.Queue()

        def job() -> None:
            failure: BaseException | None = EmulatorError("the emulator was ended meanwhile")
            try:
                with self._events.heard_by(connection.send):
                    action()
                failure = None
            except EmulatorError as error:
                failure = error
                raise
            finally:
                ended.put(failure)

        self._jobs.put(job)
        failure = ended.get()
        code = getattr(failure, "code", 0)
        connection.send({"event": "done", "code": code, "text": str(failure or "")})


class _Shells:
    """Where shells of the machine connect to: each says first which it is, and is joined to the terminal that waits."""

    def __init__(self) -> None:
        self._waiting: dict[str, queue.Queue[socket.socket]] = {}
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        threading.Thread(target=self._listen, daemon=True).start()

    def close(self) -> None:
        self._socket.close()

    def open(self, server: DeployedServer, request: Request, connection: Connection) -> None:
        """Start a shell on the machine, and stay until it ends."""
        token = secrets.token_hex(16)
        arrived = self._waiting[token] = queue.Queue()
        script = (
            f"echo {token}\n"
            f"stty rows {int(request['rows'])} columns {int(request['columns'])}\n"
            f"export HOME=/root TERM={re.sub('[^A-Za-z0-9.+-]', '', request['term'])}\n"
            'rm "$0"\ncd\nexec bash -i\n'
        )
        command = (
            "f=$(mktemp); cat >$f <<'END_OF_SHELL'\n"
            f"{script}END_OF_SHELL\n"
            f'setsid socat EXEC:"bash $f",pty,setsid,ctty,stderr,sane TCP:169.254.169.254:{SHELL_PORT} '
            "</dev/null >/dev/null 2>&1 &\n"
        )
        server.machine.run(command)
        try:
            shell = arrived.get(timeout=60)
        except queue.Empty:
            raise EmulatorError("the machine has opened no shell in 60 seconds") from None
        finally:
            del self._waiting[token]
        connection.send({"event": "ready"})
        with shell:
            bridge(shell, connection.socket)

    def _listen(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                shell, _ = self._socket.accept()
                threading.Thread(target=self._take, args=[shell], daemon=True).start()

    def _take(self, shell: socket.socket) -> None:
        line = b""
        with contextlib.suppress(OSError):
            shell.settimeout(10)
            while len(line) < 64 and not line.endswith(b"\n"):
                line += shell.recv(1)
            shell.settimeout(None)
        waiting = self._waiting.get(line.decode(errors="replace").strip())
        if waiting is None:
            shell.close()
        else:
            waiting.put(shell)


def client_lines(settings: Mapping[str, str], url: str) -> str:
    """The lines of a client in Python, as docs/clients.md teaches them; TOKEN stands for the credential.

    :param settings: those of the user data.
    :param url: of the server.
    """
    where = urlsplit(url)
    options = []
    if settings["AUTH"] != "none":
        basic = settings["AUTH"] == "basic"
        provider = (
            "basic_authn.BasicAuthClientProvider"
            if basic
            else "token_authn.TokenAuthClientProvider"
        )
        options += [
            f'chroma_client_auth_provider="chromadb.auth.{provider}"',
            'chroma_client_auth_credentials="TOKEN"',
        ]
        if settings.get("AUTH_TOKEN_HEADER"):
            options.append(f'chroma_auth_token_transport_header="{settings["AUTH_TOKEN_HEADER"]}"')
    if where.scheme == "https":
        options.append('chroma_server_ssl_verify="chroma-ca.pem"')
    arguments = [f'host="{where.hostname}"', f"port={where.port}"]
    if where.scheme == "https":
        arguments.append("ssl=True")
    if options:
        arguments.append("settings=Settings(\n        " + ",\n        ".join(options) + ",\n    )")
    return (
        "import chromadb\nfrom chromadb.config import Settings\n\n"
        "client = chromadb.HttpClient(\n    " + ",\n    ".join(arguments) + ",\n)"
    )
