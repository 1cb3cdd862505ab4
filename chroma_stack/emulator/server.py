"""A deployed server: its stack in an account of moto's, its machines in the emulator."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from .machine import Machine
from .moto_server import MotoServer
from .rig import Rig


class DeployedServer:
    """What a stack's launch template says, booted on one machine after the other.

    :param rig: where its machines run.
    :param account: where the stack is deployed, and its group has started an instance.
    :param stack_name: the stack.
    :param gib: the size of the volume's disk. Default: that of the deployed volume.
    :param disk: the file that is the volume's disk, which may have data. Default: a blank one.
    """

    def __init__(
        self,
        rig: Rig,
        account: MotoServer,
        stack_name: str,
        gib: int | None = None,
        disk: Path | None = None,
    ) -> None:
        self.rig, self.account, self.stack_name = rig, account, stack_name
        self.take_user_data()
        volume_id = self.settings["VOLUME"]
        self.volume = rig.adopt(volume_id, gib or account.volume(volume_id)["Size"], disk)
        self.machine: Machine
        self._started: str | None = account.group_instance(stack_name)["InstanceId"]

    def take_user_data(self) -> None:
        """From now on boot what the deployed launch template holds."""
        self.user_data = self.account.launched_user_data(self.stack_name)
        text = self.user_data.split("END_OF_SETTINGS'\n")[1].split("\nEND_OF_SETTINGS\n")[0]
        self.settings = dict(line.split("=", 1) for line in text.splitlines())

    def boot(
        self,
        user_data: str | None = None,
        reachable: Mapping[int, int] | None = None,
        port: int | None = None,
    ) -> Machine:
        """Start a machine: the instance that the group has started, else one beside the group.

        :param user_data: what it boots. Default: that of the launch template.
        :param reachable: see :class:`Machine`.
        :param port: see :class:`Machine`.
        """
        self.machine = self.rig.launch(
            user_data or self.user_data, self._started, reachable, port=port
        )
        self._started = None
        return self.machine

    def take_started(self) -> None:
        """Have the next boot be of the instance that the group has now."""
        self._started = self.account.group_instance(self.stack_name)["InstanceId"]

    def replace(self) -> None:
        """End the machine for good, and have the group start another instance: the next boot's."""
        self.account.client("autoscaling").terminate_instance_in_auto_scaling_group(
            InstanceId=self.machine.instance_id, ShouldDecrementDesiredCapacity=False
        )
        self.machine.terminate()
        self.take_started()

    @property
    def credential(self) -> str:
        """What the stack's secret holds now."""
        secrets = self.account.client("secretsmanager")
        answer = secrets.get_secret_value(SecretId=self.settings["AUTH_SECRET"])
        return str(answer["SecretString"])

    def published_authority(self) -> str:
        """What clients find in the parameter of the server's own authority."""
        name = self.settings["CA_PARAMETER"]
        [parameter] = self.account.client("ssm").get_parameters(Names=[name])["Parameters"]
        return str(parameter["Value"])
