"""The volume that holds the data and outlives every instance, and its snapshots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_dlm as dlm
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from constructs import Construct

from chroma_stack.acknowledge import acknowledge
from chroma_stack.errors import SettingError
from chroma_stack.instance import InstanceRole
from chroma_stack.settings import Setting, flag, matching, resource_id, whole_number

DEFAULT_VOLUME_SIZE = cdk.Size.gibibytes(24)
"""What Chroma's own template gives its instance."""

DEFAULT_BACKUP_RETENTION = cdk.Duration.days(7)

LARGEST_VOLUME_GIB = 65536
"""The largest gp3 volume: https://docs.aws.amazon.com/ebs/latest/userguide/general-purpose.html"""

_LONGEST_RETENTION = 1000
"""Snapshots that Data Lifecycle Manager keeps:
https://docs.aws.amazon.com/dlm/latest/APIReference/API_RetainRule.html"""

_RETENTION_ALLOWED = f"a whole number of days from 0 to {_LONGEST_RETENTION}"
_SIZE_ALLOWED = f"a whole number of GiB from 1 to {LARGEST_VOLUME_GIB}"
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
    ) -> None:
        if snapshot_id is not None:
            matching("snapshot_id", snapshot_id, _SNAPSHOT_ID, _SNAPSHOT_ALLOWED)
        if not size.is_unresolved() and not 1 <= size.to_gibibytes() <= LARGEST_VOLUME_GIB:
            raise SettingError("volume_size", size.to_gibibytes(), _SIZE_ALLOWED)
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
        if size.is_unresolved():
            resource = self.node.default_child
            assert isinstance(resource, ec2.CfnVolume)
            resource.size = size.to_gibibytes()


def refuse_new_volume(name: str, volume_id: str, options: Mapping[str, Any]) -> None:
    """Refuse what would make another volume than the one that is given.

    :param name: the option that gives it.
    :raises SettingError: when there is such an option.
    """
    if options.keys() & {"snapshot_id", "volume_size", "storage_encryption_key"}:
        raise SettingError(name, volume_id, "without a size, snapshot or key: it has its own")


def grant_attach(volume: ec2.IVolume, role: InstanceRole) -> None:
    """Let the instance attach the volume, and no other, to instances of this server only."""
    # With no instance this is the volume's own statement and, when it has a customer-managed
    # key, the one that lets EC2 use the key.
    volume.grant_attach_volume(role, [])
    role.allow_for_own("ec2:AttachVolume", "ec2", "instance/*")


def retained_days(retention: cdk.Duration) -> int:
    """For how many days snapshots are kept.

    :raises SettingError: when it is no number of days that there may be.
    """
    days = retention.to_days(integral=False)
    if not (float(days).is_integer() and 0 <= days <= _LONGEST_RETENTION):
        raise SettingError("backup_retention", f"{days:g} days", _RETENTION_ALLOWED)
    return int(days)


class DailyBackup(Construct):
    """A snapshot of some volumes every night, by Amazon Data Lifecycle Manager."""

    def __init__(
        self, scope: Construct, *, volumes: Sequence[ec2.Volume], retention: cdk.Duration
    ) -> None:
        super().__init__(scope, "DailyBackup")
        # It finds volumes by a tag: these volumes, and no other in the account.
        tag = cdk.CfnTag(
            key="chroma-backup", value=cdk.Fn.sub(f"${{AWS::StackName}}/{self.node.addr}")
        )
        for volume in volumes:
            cdk.Tags.of(volume).add(tag.key, tag.value)
        role = iam.Role(
            self,
            "Role",
            assumed_by=iam.ServicePrincipal("dlm.amazonaws.com"),
            description="Takes snapshots of the Chroma server's data",
            managed_policies=[
                iam.ManagedPolicy.from_aws_managed_policy_name(
                    "service-role/AWSDataLifecycleManagerServiceRole"
                )
            ],
        )
        acknowledge(
            role,
            "AwsSolutions-IAM4[Policy::arn:<AWS::Partition>:iam::aws:policy/service-role/"
            "AWSDataLifecycleManagerServiceRole]",
            "AWS maintains this policy for the snapshots that Data Lifecycle Manager takes, and "
            "only that service can assume the role.",
        )
        dlm.CfnLifecyclePolicy(
            self,
            "Policy",
            description="Daily snapshots of the data of Chroma",
            state="ENABLED",
            execution_role_arn=role.role_arn,
            policy_details=dlm.CfnLifecyclePolicy.PolicyDetailsProperty(
                resource_types=["VOLUME"],
                target_tags=[tag],
                schedules=[
                    dlm.CfnLifecyclePolicy.ScheduleProperty(
                        name="Daily",
                        create_rule=dlm.CfnLifecyclePolicy.CreateRuleProperty(
                            interval=24, interval_unit="HOURS", times=["03:00"]
                        ),
                        retain_rule=dlm.CfnLifecyclePolicy.RetainRuleProperty(
                            count=retained_days(retention)
                        ),
                        copy_tags=True,
                    )
                ],
            ),
        )


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
        key="backupRetentionDays",
        only="In the published template each number of days would be another condition.",
        option="backup_retention",
        meaning="Days for which the daily snapshots of the data are kept, up to 1000; 0 for none.",
        default=str(DEFAULT_BACKUP_RETENTION.to_days()),
        parse=lambda text: cdk.Duration.days(
            whole_number(text, 0, _LONGEST_RETENTION, _RETENTION_ALLOWED)
        ),
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
