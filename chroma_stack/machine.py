"""The machine: its type, its image, and the group of one that keeps it alive."""

from __future__ import annotations

import re

import aws_cdk as cdk
import jsii
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

INTERFACE_TIMEOUT = cdk.Duration.minutes(15)
"""By how much longer a boot may last that ends with taking a network interface, for which,
unlike for an Elastic IP, it has to wait until the machine before lets go."""

TYPE_PATTERN = (
    r"(?!mac|(t1\.micro|m1\.small|c1\.medium)$)[a-z][a-z0-9-]*\.(?!nano$|micro$)[a-z0-9-]+"
)
"""Instance types that the server runs on. Chroma needs 2 GiB of memory; Macs run no Linux."""

TYPE_ALLOWED = (
    "an x86-64 or Graviton type with at least 2 GiB of memory (no nano, no micro), "
    "such as t3.small or m7g.large"
)

_ROOT_DEVICE = "/dev/xvda"


def check_instance_type(instance_type: ec2.InstanceType) -> ec2.InstanceType:
    """The type as given.

    :raises SettingError: when it has less than the 2 GiB of memory that Chroma needs, or
        when no Amazon Linux 2023 image is known to run on it.
    """
    name = instance_type.to_string()
    if not cdk.Token.is_unresolved(name) and not (
        re.fullmatch(TYPE_PATTERN, name) and _architecture(instance_type)
    ):
        raise SettingError("instance_type", name, TYPE_ALLOWED)
    return instance_type


def graviton_families() -> list[str]:
    """The families of instance types, of those that aws-cdk-lib knows, that are ARM."""
    names = {member.name.lower() for member in ec2.InstanceClass}
    return sorted(
        family
        for family in names
        # The enum holds each family by its name and in words ("BURSTABLE4_GRAVITON").
        if re.fullmatch("(hpc|[a-z]{1,2})[0-9]+[a-z]*", family)
        and _architecture(ec2.InstanceType(f"{family}.large")) is ec2.InstanceArchitecture.ARM_64
    )


def _architecture(instance_type: ec2.InstanceType) -> ec2.InstanceArchitecture | None:
    try:
        return instance_type.architecture
    except RuntimeError:  # what jsii makes of aws-cdk-lib's MalformedInstanceTypeIdentifier
        return None


def image_parameter(architecture: ec2.InstanceArchitecture) -> str:
    """The image id of a launch template that has EC2 look up the current Amazon Linux 2023
    each time a machine is launched: a deploy without changes replaces nothing, and every
    new machine is a patched one."""
    suffix = "arm64" if architecture is ec2.InstanceArchitecture.ARM_64 else "x86_64"
    parameter = f"/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-{suffix}"
    return f"resolve:ssm:{parameter}"


@jsii.implements(ec2.IMachineImage)
class LinuxImage:
    """An image by what stands for its id in a launch template."""

    def __init__(self, image_id: str) -> None:
        self._image_id = image_id

    def get_image(self, scope: Construct) -> ec2.MachineImageConfig:
        """What aws-cdk-lib wants to know of an image."""
        return ec2.MachineImageConfig(
            image_id=self._image_id,
            os_type=ec2.OperatingSystemType.LINUX,
            user_data=ec2.UserData.for_linux(),
        )


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
        public: bool,
    ) -> None:
        check_instance_type(instance_type)
        super().__init__(
            scope,
            "LaunchTemplate",
            instance_type=instance_type,
            machine_image=machine_image or LinuxImage(image_parameter(instance_type.architecture)),
            key_pair=key_pair,
            role=role,
            security_group=security_group,
            user_data=user_data,
            # The Elastic IP comes last; until then the machine needs another way out.
            associate_public_ip_address=public,
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
        boot_timeout: cdk.Duration,
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
            signals=autoscaling.Signals.wait_for_count(1, timeout=boot_timeout),
            update_policy=autoscaling.UpdatePolicy.rolling_update(
                min_instances_in_service=0, max_batch_size=1, pause_time=boot_timeout
            ),
        )
