"""A deployed server on the rig, as tests look at it and use it."""

from __future__ import annotations

import contextlib
import json
import ssl
import subprocess
import time
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import httpx

from chroma_stack.emulator.filter_patterns import Datum, MetricFilter
from chroma_stack.emulator.moto_server import MotoServer
from chroma_stack.emulator.rig import Rig
from chroma_stack.emulator.server import DeployedServer
from tests.host.chroma_servers import CURRENT, RECORDS, python_with_chroma
from tests.host.programs import wait_until

TENANT = "/tenants/default_tenant"
WRITERS = 2
CHROMA_PROCESS = "docker inspect --format '{{.State.Pid}}' chroma"
PATIENCE = 1200
"""Seconds to wait for anything: what takes two on an instance takes a minute on an emulated one that
is not alone on its computer. A timer or a limit of ours is tested by what the journal says of it."""


class Server(DeployedServer):
    """A deployed server as the tests look at it."""

    def __init__(
        self,
        rig: Rig,
        account: MotoServer,
        stack_name: str,
        gib: int = 2,
        sync_threshold: int = 1000,
    ) -> None:
        super().__init__(rig, account, stack_name, gib)
        self.sync_threshold = sync_threshold
        self.acknowledged: list[int] = []

    @property
    def main_header(self) -> dict[str, str]:
        """What a client sends with that."""
        return {"Authorization": f"Bearer {self.credential}"}

    def user_header(self, name: str) -> dict[str, str]:
        """What a client sends as a user, whose secret a parameter names."""
        path = f"{self.settings['USERS']}/{name}"
        parameter = self.account.client("ssm").get_parameter(Name=path)["Parameter"]
        secrets = self.account.client("secretsmanager")
        answer = secrets.get_secret_value(SecretId=parameter["Value"].split()[1])
        return {"Authorization": f"Bearer {answer['SecretString']}"}

    def status(
        self, headers: dict[str, str] | None = None, path: str = TENANT, method: str = "GET"
    ) -> int:
        """What the proxy answers to a request."""
        url = f"{self.machine.url}/api/v2{path}"
        return httpx.request(method, url, headers=headers, timeout=120).status_code

    def log_lines(self) -> list[str]:
        """What this machine's agent has sent to the log group so far."""
        logs = self.rig.aws.client("logs")
        stream = {
            "logGroupName": self.settings["LOG_GROUP"],
            "logStreamNames": [self.machine.instance_id],
        }
        try:
            pages = list(logs.get_paginator("filter_log_events").paginate(**stream))
        except logs.exceptions.ResourceNotFoundException:
            return []  # no agent yet
        return [event["message"] for page in pages for event in page["events"]]

    def data(self) -> list[Datum]:
        """What the deployed metric filters make of these lines."""
        template = json.loads(self.account.template_body(self.stack_name))
        filters = [
            MetricFilter(resource["Properties"])
            for resource in template["Resources"].values()
            if resource["Type"] == "AWS::Logs::MetricFilter"
        ]
        found = [it.datum(line) for line in self.log_lines() for it in filters]
        return [datum for datum in found if datum is not None]

    def health(self) -> tuple[int, dict[str, Any]]:
        """How `chroma-status` ends, and what it says; with time for an emulated processor."""
        done = self.machine.run("STATUS_DEADLINE=300 chroma-status --json")
        return done.returncode, json.loads(done.stdout)

    def set_for(self, unit: str, variable: str) -> None:
        """Other limits of a program, by its unit's environment; until the next restart."""
        folder = f"/run/systemd/system/{unit}.service.d"
        self.machine.run(
            f"mkdir -p {folder} && printf '[Service]\\nEnvironment={variable}\\n' >{folder}/test.conf"
            " && systemctl daemon-reload"
        )

    def size_group(self, size: int) -> None:
        """What the schedule does: the group at zero instances, or back at one."""
        name = self.account.physical_id(self.stack_name, "AWS::AutoScaling::AutoScalingGroup")
        self.account.client("autoscaling").update_auto_scaling_group(
            AutoScalingGroupName=name, MinSize=size, DesiredCapacity=size
        )
        if size:
            self.take_started()

    def secure_status(self, authority: str, path: str = "/heartbeat") -> int:
        """What the proxy answers over TLS to a client that trusts this authority."""
        url = self.machine.url.replace("http:", "https:")
        context = ssl.create_default_context(cadata=authority)
        return httpx.get(f"{url}/api/v2{path}", verify=context, timeout=120).status_code

    def wait_for_answer(self, seconds: float = PATIENCE) -> float:
        """Returns for how long it waited until the proxy let through, and Chroma answered."""
        return wait_until(self._answers, "the server answers", seconds, every=0.5)

    def _answers(self) -> bool:
        try:
            return self.status(path="/heartbeat") == 200
        except httpx.TransportError:
            return False

    def use(
        self, batches: int = 0, client: str = CURRENT, at: str | None = None, **way: str
    ) -> None:
        """Compare with a real client what was acknowledged so far, and add some batches of 25.

        ``at``: another server's URL than the machine's, whose data the machine is to have later.
        ``way``: provider, credential and header, as the client's settings name them.
        """
        job = self._job(way, add=batches, at=at)
        done = subprocess.run(
            [python_with_chroma(client), RECORDS],
            input=json.dumps(job),
            text=True,
            stdout=subprocess.PIPE,
            timeout=900,
        )
        self._note(done.stdout)
        assert done.returncode == 0

    def use_with_token(self, batches: int = 0) -> None:
        """The same as the documentation teaches it."""
        self.use(batches, **self._token())

    @contextlib.contextmanager
    def writing(self, seconds: float) -> Iterator[None]:
        """Have writers add batches for some seconds; what follows is to end the server.

        They go on until then. Each batch that was acknowledged counts from there on.
        """
        writers = self._start_writers()
        try:
            assert writers.stdout
            first = writers.stdout.readline()
            assert first, "nothing was acknowledged"
            time.sleep(seconds)
            yield
        finally:
            writers.kill()
            rest, _ = writers.communicate(timeout=300)
        # A last line that was cut off has no end.
        self._note((first + rest).rpartition("\n")[0])

    def write_until_refused(self) -> str:
        """Have writers add batches until each of them gets an error, and return what they got."""
        writers = self._start_writers()
        try:
            output, errors = writers.communicate(timeout=900)
        finally:
            writers.kill()
        self._note(output)
        return errors

    def fill_memory(self, batches: int = 400) -> int:
        """Add large vectors until that is refused, and return with which status."""
        collections = f"{self.machine.url}/api/v2{TENANT}/databases/default_database/collections"
        with httpx.Client(headers=self.main_header, timeout=900) as client:
            # An index that costs memory, but hardly any emulated computing.
            index = {"hnsw:construction_ef": 2, "hnsw:M": 2}
            made = client.post(
                collections, json={"name": "large", "get_or_create": True, "metadata": index}
            )
            for batch in range(batches):
                records = {
                    "ids": [f"{batch}-{number}" for number in range(25)],
                    "embeddings": [[float(number), *[0.5] * 4095] for number in range(25)],
                }
                answer = client.post(f"{collections}/{made.json()['id']}/add", json=records)
                if answer.status_code not in (201, 503):  # 503 is to be repeated
                    return answer.status_code
        return 0

    def _start_writers(self) -> subprocess.Popen[str]:
        writers = subprocess.Popen(
            [python_with_chroma(CURRENT), RECORDS],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert writers.stdin
        writers.stdin.write(json.dumps(self._job(self._token(), writers=WRITERS)))
        writers.stdin.close()
        writers.stdin = None  # so that `communicate` leaves it alone
        return writers

    def _token(self) -> dict[str, str]:
        return {
            "provider": "token_authn.TokenAuthClientProvider",
            "credential": self.credential,
            "header": "Authorization",
        }

    def _job(
        self, way: Mapping[str, str], add: int = 0, writers: int = 0, at: str | None = None
    ) -> dict[str, Any]:
        where = urlsplit(at or self.machine.url)
        return {
            "host": where.hostname,
            "port": where.port,
            **way,
            "acknowledged": self.acknowledged,
            # Beyond what may have been in flight when a server ended.
            "first": max(self.acknowledged, default=-WRITERS - 1) + WRITERS + 1,
            "add": add,
            "writers": writers,
            "sync_threshold": self.sync_threshold,
        }

    def _note(self, output: str) -> None:
        self.acknowledged += map(int, output.split())
