"""AWS as the machines see it: a moto server, and before it what moto lacks.

Every call is recorded. `SignalResource` is answered here. `AttachVolume` is refused while another
machine holds the volume, and plugs the disk into the machine when it is accepted;
`AttachNetworkInterface` likewise. `ModifyVolume` makes the disk larger. Tests can have any action refused.
"""

import http.client
import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from typing import Any, Protocol
from urllib.parse import parse_qsl, urlsplit

from .moto_server import MotoServer
from .web import Handler, Server

REGION = "us-east-1"
ATTACHED = {"AttachVolume": "VolumeId", "AttachNetworkInterface": "NetworkInterfaceId"}
INTERFACE_IN_USE = "InvalidNetworkInterface.InUse"


@dataclass(frozen=True)
class Call:
    """A call that a machine made."""

    service: str
    action: str
    parameters: dict[str, Any]
    access_key: str
    at: float = field(default_factory=time.monotonic)


@dataclass(frozen=True)
class Signal:
    """What a machine told CloudFormation."""

    stack: str
    resource: str
    unique_id: str
    status: str
    access_key: str
    at: float = field(default_factory=time.monotonic)


class Pluggable(Protocol):
    """A machine that disks and interfaces can be plugged into while it runs."""

    def plug(self, volume_id: str) -> None:
        """Make the disk appear."""

    def plug_interface(self, address: str) -> None:
        """Make the interface with that private address appear."""

    def grow(self, volume_id: str, gib: int) -> None:
        """Make the disk larger."""


class Aws:
    """The front of an account."""

    def __init__(self, account: MotoServer) -> None:
        self.calls: list[Call] = []
        self.signals: list[Signal] = []
        self.machines: dict[str, Pluggable] = {}
        self._account = account
        self._holders: dict[str, str] = {}  # id of a volume or interface -> instance id
        self._refusals: dict[str, tuple[str, str]] = {}  # action -> code, message
        self._changed = threading.Condition()
        self._server = Server(self._handler())
        self.port = self._server.port

    def client(self, service: str) -> Any:
        """Return a boto3 client of the account: for tests to prepare and to look."""
        return self._account.client(service)

    def new_access_key(self) -> str:
        """Return a key for a machine's role."""
        return self._account.new_access_key()

    def calls_of(self, action: str, access_key: str | None = None) -> list[Call]:
        """Return the calls of an action so far, accepted or not; of one machine by its key."""
        return [
            call
            for call in self.calls
            if call.action == action and access_key in (None, call.access_key)
        ]

    @contextmanager
    def refusing(
        self, action: str, code: str, message: str = "refused by the emulator"
    ) -> Iterator[None]:
        """Answer an action with an error for the length of a `with` block."""
        self._refusals[action] = (code, message)
        try:
            yield
        finally:
            del self._refusals[action]

    def wait_for_signal(self, unique_id: str, timeout: float) -> Signal | None:
        """Return the first signal of a machine, or None when the time is over."""

        def signalled() -> Signal | None:
            return next((s for s in self.signals if s.unique_id == unique_id), None)

        with self._changed:
            return self._changed.wait_for(signalled, timeout)

    def release(self, instance_id: str) -> None:
        """Release the volumes and interfaces of a machine that ended for good."""
        self.machines.pop(instance_id, None)
        ec2 = self.client("ec2")
        [found] = ec2.describe_instances(InstanceIds=[instance_id])["Reservations"]
        # A group that was set to zero has done it.
        if found["Instances"][0]["State"]["Name"] != "terminated":
            ec2.terminate_instances(InstanceIds=[instance_id])  # detaches them, too
        self._holders = {
            it: holder for it, holder in self._holders.items() if holder != instance_id
        }

    def close(self) -> None:
        """Stop serving."""
        self._server.close()

    def _attached(self, call: Call) -> None:
        attached, instance_id = (
            call.parameters[ATTACHED[call.action]],
            call.parameters["InstanceId"],
        )
        self._holders[attached] = instance_id
        machine = self.machines.get(instance_id)
        if machine and call.action == "AttachVolume":
            machine.plug(attached)
        elif machine:
            found = self.client("ec2").describe_network_interfaces(NetworkInterfaceIds=[attached])
            machine.plug_interface(found["NetworkInterfaces"][0]["PrivateIpAddress"])

    def _modified(self, call: Call) -> None:
        volume_id, size = call.parameters["VolumeId"], call.parameters.get("Size")
        machine = self.machines.get(self._holders.get(volume_id, ""))
        if machine and size:
            machine.grow(volume_id, int(size))

    def _record(self, call: Call) -> None:
        with self._changed:
            self.calls.append(call)
            self._changed.notify_all()

    def _signal(self, call: Call) -> None:
        keys = ("StackName", "LogicalResourceId", "UniqueId", "Status")
        stack, resource, unique_id, status = (call.parameters[key] for key in keys)
        with self._changed:
            self.signals.append(Signal(stack, resource, unique_id, status, call.access_key))
            self._changed.notify_all()

    def _error_for(self, call: Call) -> tuple[str, str] | None:
        """Return code and message if the emulator itself refuses a call."""
        if call.action in self._refusals:
            return self._refusals[call.action]
        held = call.parameters.get(ATTACHED.get(call.action, ""))
        if held in self._holders:
            code = "VolumeInUse" if call.action == "AttachVolume" else INTERFACE_IN_USE
            return code, f"{held} is already attached to an instance"
        return None

    def _handler(self) -> type[Handler]:
        aws = self

        class FrontHandler(Handler):
            def do_POST(self) -> None:
                body = self.body()
                authorization = self.headers.get("Authorization", "")
                if not aws._account.lets_in(authorization, self.headers.get("Origin", "")):
                    self.answer(403)
                    return
                call = _call(authorization, self.headers, body)
                aws._record(call)
                error = aws._error_for(call)
                if error:
                    self.answer(400, *_error_body(call.service, *error))
                elif call.action == "SignalResource":
                    aws._signal(call)
                    self.answer(200, "<SignalResourceResponse/>", "text/xml")
                else:
                    status, content_type, answer = aws._pass_on(self.path, self.headers, body)
                    if call.action in ATTACHED and status == 200:
                        aws._attached(call)
                    if call.action == "ModifyVolume" and status == 200:
                        aws._modified(call)
                    self.answer(status, answer, content_type)

        return FrontHandler

    def _pass_on(self, path: str, headers: Message, body: bytes) -> tuple[int, str, bytes]:
        connection = http.client.HTTPConnection(urlsplit(self._account.endpoint).netloc)
        kept = {name: value for name, value in headers.items() if name.lower() != "host"}
        connection.request("POST", path, body, kept)
        response = connection.getresponse()
        answer = response.read()
        connection.close()
        return response.status, response.headers.get("Content-Type", "text/xml"), answer


def _call(authorization: str, headers: Message, body: bytes) -> Call:
    """Read an action from a request in either of the protocols in use: query and JSON."""
    scope = re.search(r"Credential=([^/]+)/\d+/[^/]+/([^/]+)/", authorization)
    access_key, service = scope.groups() if scope else ("", "")
    target = headers.get("X-Amz-Target")
    if target:
        return Call(service, target.rpartition(".")[2], json.loads(body or b"{}"), access_key)
    parameters = dict(parse_qsl(body.decode()))
    return Call(service, parameters.pop("Action", ""), parameters, access_key)


def _error_body(service: str, code: str, message: str) -> tuple[str, str]:
    """Return an error, and its content type, in the way a service words them."""
    if service in ("logs", "secretsmanager", "ssm"):
        return json.dumps({"__type": code, "message": message}), "application/x-amz-json-1.1"
    error = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    if service == "ec2":
        return f"<Response><Errors>{error}</Errors></Response>", "text/xml"
    return f"<ErrorResponse>{error}</ErrorResponse>", "text/xml"
