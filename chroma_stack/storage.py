"""The volume that holds the data and outlives every instance: its size, growth and speed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_kms as kms
from constructs import Construct

from chroma_stack import backups
from chroma_stack.errors import SettingError
from chroma_stack.instance import InstanceRole, arn
from chroma_stack.settings import Setting, flag, matching, resource_id, whole_number

DEFAULT_VOLUME_SIZE = cdk.Size.gibibytes(24)
"""What Chroma's own template gives its instance."""

LARGEST_VOLUME_GIB = 65536
"""The largest gp3 volume: https://docs.aws.amazon.com/ebs/latest/userguide/general-purpose.html"""

_MOST_IOPS, _IOPS_PER_GIB = 80_000, 500
_MOST_THROUGHPUT, _IOPS_PER_MIB = 2_000, 4
DEFAULT_IOPS, DEFAULT_THROUGHPUT = 3_000, 125
"""What a gp3 volume has of any size, and what it may have: up to 80,000 IOPS, 500 for each GiB, and
up to 2,000 MiB a second, one for each four IOPS.

https://docs.aws.amazon.com/ebs/latest/userguide/general-purpose.html#gp3-performance"""

_SIZE_ALLOWED = f"a whole number of GiB from 1 to {LARGEST_VOLUME_GIB}"
_MAX_SIZE = "[1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-6]"
_MAX_SIZE_ALLOWED = f"{_SIZE_ALLOWED}, at least volumeSize"
_IOPS = "[3-9][0-9]{3}|[1-7][0-9]{4}|80000"
_IOPS_ALLOWED = (
    f"a whole number from {DEFAULT_IOPS} to {_MOST_IOPS}, above {DEFAULT_IOPS} at most "
    f"{_IOPS_PER_GIB} for each GiB of volumeSize"
)
_THROUGHPUT = "12[5-9]|1[3-9][0-9]|[2-9][0-9]{2}|1[0-9]{3}|2000"
_THROUGHPUT_ALLOWED = (
    f"a whole number of MiB a second from {DEFAULT_THROUGHPUT} to {_MOST_THROUGHPUT}, at most a "
    "quarter of volumeIops"
)
_SNAPSHOT_ID = resource_id("snap")
_SNAPSHOT_ALLOWED = "an id such as snap-0123456789abcdef0"


class DataVolume(ec2.Volume):
    """A gp3 volume, encrypted, in the zone of the instance's subnet."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str | None = None,
        *,
        availability_zone: str,
        size: cdk.Size,
        snapshot_id: str | None,
        encryption_key: kms.IKey | None,
        removal_policy: cdk.RemovalPolicy,
        iops: int | None = None,
        throughput: int | None = None,
    ) -> None:
        if snapshot_id is not None:
            matching("snapshot_id", snapshot_id, _SNAPSHOT_ID, _SNAPSHOT_ALLOWED)
        if not size.is_unresolved() and not 1 <= size.to_gibibytes() <= LARGEST_VOLUME_GIB:
            raise SettingError("volume_size", size.to_gibibytes(), _SIZE_ALLOWED)
        _check_performance(size, iops, throughput)
        # CloudFormation cannot change a volume's snapshot, and the old data must not
        # go before the new volume is in use: another snapshot is another resource.
        super().__init__(
            scope,
            construct_id or ("Volume" if snapshot_id is None else f"Volume-{snapshot_id}"),
            availability_zone=availability_zone,
            # aws-cdk-lib measures the size, and cannot measure a parameter.
            size=cdk.Size.gibibytes(1) if size.is_unresolved() else size,
            snapshot_id=snapshot_id,
            volume_type=ec2.EbsDeviceVolumeType.GP3,
            encrypted=True,
            encryption_key=encryption_key,
            removal_policy=removal_policy,
        )
        resource = self.node.default_child
        assert isinstance(resource, ec2.CfnVolume)
        if size.is_unresolved():
            resource.size = size.to_gibibytes()
        # aws-cdk-lib knows what gp3 could do some years ago.
        resource.iops, resource.throughput = iops, throughput


def _check_performance(size: cdk.Size, iops: int | None, throughput: int | None) -> None:
    """Refuse what EC2 would refuse when it makes the volume, where it is known."""
    if iops is not None and not cdk.Token.is_unresolved(iops):
        most = _MOST_IOPS
        if not size.is_unresolved():
            most = min(most, max(DEFAULT_IOPS, int(size.to_gibibytes()) * _IOPS_PER_GIB))
        if not DEFAULT_IOPS <= iops <= most:
            raise SettingError("volume_iops", iops, _IOPS_ALLOWED)
    if throughput is not None and not cdk.Token.is_unresolved(throughput):
        most = _MOST_THROUGHPUT
        if not cdk.Token.is_unresolved(iops):
            most = min(most, (iops or DEFAULT_IOPS) // _IOPS_PER_MIB)
        if not DEFAULT_THROUGHPUT <= throughput <= most:
            raise SettingError("volume_throughput", throughput, _THROUGHPUT_ALLOWED)


@dataclass(frozen=True, kw_only=True)
class VolumeBinding:
    """A volume, and what the instance has to know of it."""

    volume: ec2.IVolume
    backup_hours: int | None
    host_settings: Mapping[str, str]


def bind(
    role: InstanceRole,
    volume: ec2.IVolume,
    *,
    size: cdk.Size | None,
    max_size: cdk.Size | None,
    backup_hours: int | None,
) -> VolumeBinding:
    """Let the instance attach the volume and, up to a size, have it grow.

    :param role: that of the instance.
    :param volume: the data volume.
    :param size: its size; ``None`` when it is not known.
    :param max_size: up to which it grows by itself; ``None`` for no growth.
    :param backup_hours: the longest time between two snapshots; ``None`` when there are none.
    :raises SettingError: when it is larger already.
    """
    grant_attach(volume, role)
    if max_size is not None:
        limit = max_size.to_gibibytes()
        smallest = 1 if size is None else size.to_gibibytes()
        if not smallest <= limit <= LARGEST_VOLUME_GIB:
            raise SettingError("max_volume_size", limit, _MAX_SIZE_ALLOWED)
        for statement in growth_statements(volume):
            role.allow(**statement)
        role.acknowledge_wildcard(
            "*", "EC2 knows no narrower permission to see how far the change of a volume is."
        )
    return VolumeBinding(
        volume=volume,
        backup_hours=backup_hours,
        host_settings=host_settings(
            volume,
            max_size="" if max_size is None else f"{max_size.to_gibibytes():g}",
            backup_hours=backup_hours,
        ),
    )


def host_settings(
    volume: ec2.IVolume, *, max_size: str, backup_hours: int | None
) -> dict[str, str]:
    """What the instance has to know of its volume; empty for what there is not.

    :param max_size: the GiB up to which ``host/grow`` has it grow.
    :param backup_hours: the longest time between two snapshots.
    """
    return {
        "VOLUME": volume.volume_id,
        "MAX_VOLUME_SIZE": max_size,
        "BACKUP_HOURS": "" if backup_hours is None else str(backup_hours),
    }


def growth_statements(volume: ec2.IVolume) -> list[dict[str, list[str]]]:
    """What ``host/grow`` needs to have this volume grow, and no other."""
    return [
        {"actions": ["ec2:ModifyVolume"], "resources": [arn("ec2", f"volume/{volume.volume_id}")]},
        {"actions": ["ec2:DescribeVolumesModifications"], "resources": ["*"]},
    ]


_OF_NEW_VOLUMES = {
    "snapshot_id",
    "volume_size",
    "storage_encryption_key",
    "volume_iops",
    "volume_throughput",
}


def refuse_new_volume(name: str, volume_id: str, options: Mapping[str, Any]) -> None:
    """Refuse what is about a new volume beside one that is given.

    :param name: the option that gives it.
    :raises SettingError: when there is such an option.
    """
    if options.keys() & _OF_NEW_VOLUMES:
        needed = "without a size, snapshot or key, IOPS or throughput: it has its own"
        raise SettingError(name, volume_id, needed)
    backups.refuse_without_backups(name, options, "a volume that is given is not backed up")


def grant_attach(volume: ec2.IVolume, role: InstanceRole) -> None:
    """Let the instance attach the volume, and no other, to instances of this server only."""
    # With no instance this is the volume's own statement and, when it has a customer-managed
    # key, the one that lets EC2 use the key.
    volume.grant_attach_volume(role, [])
    role.allow_for_own("ec2:AttachVolume", "ec2", "instance/*")


SETTINGS = (
    Setting(
        key="volumeSize",
        parameter="VolumeSize",
        option="volume_size",
        meaning="Size of the data volume in GiB; it may grow later, never shrink.",
        default=str(DEFAULT_VOLUME_SIZE.to_gibibytes()),
        largest=LARGEST_VOLUME_GIB,
        allowed=_SIZE_ALLOWED,
        parse=lambda text: cdk.Size.gibibytes(
            whole_number(text, 1, LARGEST_VOLUME_GIB, _SIZE_ALLOWED)
        ),
    ),
    Setting(
        key="maxVolumeSize",
        parameter="MaxVolumeSize",
        option="max_volume_size",
        meaning="Size in GiB up to which the data volume grows by itself before it is full.",
        without="it does not grow by itself",
        pattern=_MAX_SIZE,
        longest=5,
        allowed=_MAX_SIZE_ALLOWED,
        parse=lambda text: cdk.Size.gibibytes(
            int(matching("max_volume_size", text, _MAX_SIZE, _MAX_SIZE_ALLOWED))
        ),
    ),
    Setting(
        key="volumeIops",
        parameter="VolumeIops",
        option="volume_iops",
        meaning="Reads and writes a second of the data volume; more than 3000 cost extra.",
        without="3000",
        pattern=_IOPS,
        allowed=_IOPS_ALLOWED,
        parse=lambda text: int(matching("volume_iops", text, _IOPS, _IOPS_ALLOWED)),
    ),
    Setting(
        key="volumeThroughput",
        parameter="VolumeThroughput",
        option="volume_throughput",
        meaning="MiB a second of the data volume; more than 125 cost extra.",
        without="125",
        pattern=_THROUGHPUT,
        allowed=_THROUGHPUT_ALLOWED,
        parse=lambda text: int(
            matching("volume_throughput", text, _THROUGHPUT, _THROUGHPUT_ALLOWED)
        ),
    ),
    Setting(
        key="snapshotId",
        parameter="SnapshotId",
        option="snapshot_id",
        meaning="Snapshot of a data volume to start from.",
        without="an empty volume",
        pattern=_SNAPSHOT_ID,
        allowed=_SNAPSHOT_ALLOWED,
        parse=str,
    ),
    Setting(
        key="startEmpty",
        only="With the published template, a new stack starts empty.",
        option="start_empty",
        meaning="`true` lets the server start on an empty volume although it had data on another.",
        default="false",
        parse=flag,
    ),
    Setting(
        key="volumeId",
        only="The published template makes its volume.",
        option="volume_id",
        meaning="Data volume of an earlier server to go on with; it stays when the stack is "
        "deleted. Set `availabilityZone` to its zone.",
        without="a new volume",
        pattern=resource_id("vol"),
        allowed="an id such as vol-0123456789abcdef0",
    ),
)
