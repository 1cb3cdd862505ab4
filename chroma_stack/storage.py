"""The volume that holds the data, and outlives every machine."""

from __future__ import annotations

import re
from collections.abc import Sequence

import aws_cdk as cdk
from aws_cdk import aws_dlm as dlm
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from constructs import Construct

from chroma_stack.errors import SettingError

DEFAULT_VOLUME_SIZE = cdk.Size.gibibytes(24)
"""What Chroma's own template gives its machine."""

DEFAULT_BACKUP_RETENTION = cdk.Duration.days(7)

LARGEST_VOLUME_GIB = 65536
"""The largest gp3 volume: https://docs.aws.amazon.com/ebs/latest/userguide/general-purpose.html"""

_SNAPSHOT_ID = re.compile(r"snap-(?:[0-9a-f]{8}|[0-9a-f]{17})")


def check_snapshot_id(snapshot_id: str) -> str:
    """The snapshot's id as given.

    :raises SettingError: when it is none.
    """
    if not cdk.Token.is_unresolved(snapshot_id) and not _SNAPSHOT_ID.fullmatch(snapshot_id):
        raise SettingError("snapshot_id", snapshot_id, "an id such as snap-0123456789abcdef0")
    return snapshot_id


def check_volume_size(size: cdk.Size) -> cdk.Size:
    """The size as given.

    :raises SettingError: when it is not between 1 and 65,536 GiB.
    """
    if not size.is_unresolved() and not 1 <= size.to_gibibytes() <= LARGEST_VOLUME_GIB:
        raise SettingError(
            "volume_size",
            size.to_gibibytes(),
            f"a whole number of GiB from 1 to {LARGEST_VOLUME_GIB}",
        )
    return size


class DataVolume(ec2.Volume):
    """A gp3 volume, encrypted, in the zone of the machine's subnet."""

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
        # CloudFormation cannot change a volume's snapshot, and the old data must not
        # go before the new volume is in use: another snapshot is another resource.
        super().__init__(
            scope,
            construct_id or ("Volume" if snapshot_id is None else f"Volume-{snapshot_id}"),
            availability_zone=availability_zone,
            # aws-cdk-lib measures the size, and cannot measure a parameter.
            size=cdk.Size.gibibytes(1) if size.is_unresolved() else check_volume_size(size),
            snapshot_id=None if snapshot_id is None else check_snapshot_id(snapshot_id),
            volume_type=ec2.EbsDeviceVolumeType.GP3,
            encrypted=True,
            encryption_key=encryption_key,
            removal_policy=removal_policy,
        )
        if size.is_unresolved():
            resource = self.node.default_child
            assert isinstance(resource, ec2.CfnVolume)
            resource.size = size.to_gibibytes()


class DailyBackup(Construct):
    """A snapshot of some volumes every night, by Amazon Data Lifecycle Manager."""

    def __init__(
        self, scope: Construct, *, volumes: Sequence[ec2.Volume], retention: cdk.Duration
    ) -> None:
        super().__init__(scope, "DailyBackup")
        # It finds volumes by a tag: these volumes, and no other in the account.
        tag = cdk.CfnTag(key="chroma-backup", value=f"{cdk.Aws.STACK_NAME}/{self.node.addr}")
        for volume in volumes:
            cdk.Tags.of(volume).add(tag.key, tag.value)
        role = iam.Role(
            self,
            "Role",
            assumed_by=iam.ServicePrincipal("dlm.amazonaws.com"),
            description="Takes the snapshots of the Chroma server's data",
            managed_policies=[
                iam.ManagedPolicy.from_aws_managed_policy_name(
                    "service-role/AWSDataLifecycleManagerServiceRole"
                )
            ],
        )
        dlm.CfnLifecyclePolicy(
            self,
            "Policy",
            description="Daily snapshots of the data of a Chroma server",
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
                            count=retention.to_days()
                        ),
                        copy_tags=True,
                    )
                ],
            ),
        )
