"""What the machines share, put together."""

from collections.abc import Mapping
from pathlib import Path

from .aws import REGION, Aws
from .guest import guest
from .machine import Machine, Volume
from .moto_server import MotoServer
from .registry import Registry
from .tls import Authority


class Rig:
    """Makes machines and volumes of an account; ends all of them when it is closed.

    :param folder: where their files are.
    :param account: whose instances and volumes they are.
    """

    def __init__(self, folder: Path, account: MotoServer) -> None:
        self.authority = Authority()
        self._guest = guest(self.authority)
        self.aws = Aws(account)
        self.registry = Registry(self.authority, folder)
        self._folder = folder
        self._machines: list[Machine] = []
        self._volumes: dict[str, Volume] = {}

    def launch(
        self,
        user_data: str,
        instance_id: str | None = None,
        reachable: Mapping[int, int] | None = None,
        port: int | None = None,
    ) -> Machine:
        """Start a machine: an instance that moto has already, else a new one.

        See Machine for ``reachable`` and ``port``.
        """
        instance_id = instance_id or self._new_instance()
        folder = self._folder / instance_id
        folder.mkdir()
        shared = {443: self.registry.port, 8080: self.aws.port}
        machine = Machine(
            instance_id,
            user_data,
            folder,
            self._guest,
            self.aws,
            self._volumes,
            {**shared, **(reachable or {})},
            port,
        )
        self._machines.append(machine)
        machine.start()
        return machine

    def volume(self, gib: int = 4) -> Volume:
        """Make a new, blank volume."""
        answer = self.aws.client("ec2").create_volume(
            Size=gib, AvailabilityZone=f"{REGION}a", VolumeType="gp3", Encrypted=True
        )
        return self.adopt(answer["VolumeId"], gib)

    def adopt(self, volume_id: str, gib: int, disk: Path | None = None) -> Volume:
        """Give a volume that moto has already a disk, which is blank or the file given; its size may be another."""
        self._volumes[volume_id] = Volume(volume_id, disk or self._folder / volume_id, gib)
        return self._volumes[volume_id]

    def _new_instance(self) -> str:
        answer = self.aws.client("ec2").run_instances(
            ImageId="ami-12c6146b", MinCount=1, MaxCount=1
        )
        instance_id: str = answer["Instances"][0]["InstanceId"]
        return instance_id

    def close(self) -> None:
        """End everything."""
        for machine in self._machines:
            machine.close()
        self.registry.close()
        self.aws.close()
