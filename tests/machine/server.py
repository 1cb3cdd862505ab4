"""A deployed server: its stack in an account of moto's, its machines on the rig."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from tests.cloud.moto_server import MotoServer
from tests.host.chroma_servers import CURRENT, python_with_chroma

from .rig import Machine, Rig, Volume

RECORDS = Path(__file__).parent / "records.py"
TENANT = "/tenants/default_tenant"


class Server:
    """What a stack's launch template says, booted on one machine after the other."""

    def __init__(self, rig: Rig, account: MotoServer, stack_name: str, gib: int = 2) -> None:
        self.rig, self.account, self.stack_name = rig, account, stack_name
        self.user_data = account.launched_user_data(stack_name)
        self.settings = dict(
            line.split("=", 1)
            for line in self.user_data.split("END_OF_SETTINGS'\n")[1]
            .split("\nEND_OF_SETTINGS\n")[0]
            .splitlines()
        )
        self.volume: Volume = rig.adopt(self.settings["VOLUME"], gib)
        self.records = 0
        self._first_instance: str | None = account.group_instance(stack_name)["InstanceId"]

    def boot(
        self, user_data: str | None = None, reachable: Mapping[int, int] | None = None
    ) -> Machine:
        """Start a machine: the group's own first, afterwards as the group would replace it."""
        self.machine = self.rig.launch(user_data or self.user_data, self._first_instance, reachable)
        self._first_instance = None
        return self.machine

    @property
    def credential(self) -> str:
        """What the stack's secret holds now."""
        secrets = self.account.client("secretsmanager")
        answer = secrets.get_secret_value(SecretId=self.settings["AUTH_SECRET"])
        return str(answer["SecretString"])

    def status(self, headers: dict[str, str] | None = None, path: str = TENANT) -> int:
        """What the door answers to a request."""
        answer = httpx.get(f"{self.machine.door}/api/v2{path}", headers=headers, timeout=30)
        return answer.status_code

    def use(self, add: int = 0, client: str = CURRENT, **way: str) -> None:
        """Compare all records so far with a real client, and add some more.

        ``way``: provider, credential and header, as the client's settings name them.
        """
        where = urlsplit(self.machine.door)
        job: dict[str, Any] = {"host": where.hostname, "port": where.port, **way}
        job |= {"expect": self.records, "add": add}
        subprocess.run(
            [python_with_chroma(client), RECORDS],
            input=json.dumps(job),
            text=True,
            check=True,
            timeout=300,
        )
        self.records += add

    def use_with_token(self, add: int = 0) -> None:
        """The same as the documentation teaches it."""
        self.use(
            add,
            provider="token_authn.TokenAuthClientProvider",
            credential=self.credential,
            header=self.settings["AUTH_TOKEN_HEADER"],
        )
