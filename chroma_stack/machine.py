"""The machine: its type, its image, and the group of one that keeps it alive."""

from __future__ import annotations

import re

import aws_cdk as cdk
from aws_cdk import aws_autoscaling as autoscaling
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from constructs import Construct

from chroma_stack.errors import SettingError

DEFAULT_INSTANCE_TYPE = ec2.InstanceType("t3.small")

BOOT_TIMEOUT = cdk.Duration.minutes(40)
"""How long CloudFormation waits for the machine's signal: the sum of the bounded waits
of ``host/boot``. A machine that can reach CloudFormation reports a failure at once; only
a silent one takes this long."""

_TYPE = re.compile(r"(?P<family>[a-z][a-z0-9-]*)\.(?P<size>[a-z0-9-]+)")
_BELOW_2_GIB = {"t1.micro", "m1.small", "c1.medium"}
_ROOT_DEVICE = "/dev/xvda"
_IMAGE_PARAMETER = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-"


def check_instance_type(instance_type: ec2.InstanceType) -> ec2.InstanceType:
    """The type as given.

    :raises SettingError: when it has less than the 2 GiB of memory that Chroma needs, or
        when no Amazon Linux 2023 image is known to run on it.
    """
    name = instance_type.to_string()
    if cdk.Token.is_unresolved(name):
        return instance_type
    match = _TYPE.fullmatch(name)
    if match is not None and (match["size"] in {"nano", "micro"} or name in _BELOW_2_GIB):
        raise SettingError(
            "instance_type",
            name,
            "Chroma needs 2 GiB of memory; the smallest types are t3.small and t4g.small",
        )
    if match is None or match["family"].startswith("mac") or _architecture(instance_type) is None:
        raise SettingError(
            "instance_type",
            name,
            "an x86-64 or Graviton type of at least 2 GiB such as t3.small or m7g.large",
        )
    return instance_type


def _architecture(instance_type: ec2.InstanceType) -> ec2.InstanceArchitecture | None:
    try:
        return instance_type.architecture
    except RuntimeError:  # what jsii makes of aws-cdk-lib's MalformedInstanceTypeIdentifier
        return None


def amazon_linux_2023(instance_type: ec2.InstanceType) -> ec2.IMachineImage:
    """The current Amazon Linux 2023 for the type's architecture, looked up by EC2 each
    time a machine is launched: a deploy without changes replaces nothing, and every new
    machine is a patched one."""
    architecture = _architecture(instance_type)
    suffix = "arm64" if architecture is ec2.InstanceArchitecture.ARM_64 else "x86_64"
    return ec2.MachineImage.resolve_ssm_parameter_at_launch(_IMAGE_PARAMETER + suffix)


class MachineTemplate(ec2.LaunchTemplate):
    """What a machine is launched from."""

    def __init__(
        self,
        scope: Construct,
        *,
        instance_type: ec2.InstanceType,
        machine_image: ec2.IMachineImage | None,
        key_pair: ec2.IKeyPair | None,
        role: iam.IRole,
        security_group: ec2.ISecurityGroup,
        user_data: ec2.UserData,
    ) -> None:
        check_instance_type(instance_type)
        super().__init__(
            scope,
            "LaunchTemplate",
            instance_type=instance_type,
            machine_image=machine_image or amazon_linux_2023(instance_type),
            key_pair=key_pair,
            role=role,
            security_group=security_group,
            user_data=user_data,
            # The Elastic IP comes last; until then the machine needs another way out.
            associate_public_ip_address=True,
            require_imdsv2=True,
            # One hop: the answer does not reach into a container.
            http_put_response_hop_limit=1,
            block_devices=[
                ec2.BlockDevice(
                    device_name=_ROOT_DEVICE,
                    volume=ec2.BlockDeviceVolume.ebs(
                        8, encrypted=True, volume_type=ec2.EbsDeviceVolumeType.GP3
                    ),
                )
            ],
        )


class GroupOfOne(autoscaling.AutoScalingGroup):
    """One machine, replaced when it dies and at every change of its template.

    The old machine ends before the new one starts, since the volume can only be with
    one of them, and the stack waits until the new one signals that it serves.
    """

    def __init__(
        self,
        scope: Construct,
        *,
        vpc: ec2.IVpc,
        subnet: ec2.ISubnet,
        launch_template: ec2.ILaunchTemplate,
    ) -> None:
        super().__init__(
            scope,
            "Group",
            vpc=vpc,
            vpc_subnets=ec2.SubnetSelection(subnets=[subnet]),
            launch_template=launch_template,
            min_capacity=1,
            max_capacity=1,
            # Whatever the account's default is: never the new machine before the old is gone.
            min_healthy_percentage=0,
            max_healthy_percentage=100,
            signals=autoscaling.Signals.wait_for_count(1, timeout=BOOT_TIMEOUT),
            update_policy=autoscaling.UpdatePolicy.rolling_update(
                min_instances_in_service=0, max_batch_size=1, pause_time=BOOT_TIMEOUT
            ),
        )
