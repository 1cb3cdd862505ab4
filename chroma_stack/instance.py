"""The EC2 instance: its type and AMI, what it may do, and the group that keeps it alive."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import aws_cdk as cdk
import jsii
from aws_cdk import aws_autoscaling as autoscaling
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from constructs import Construct

from chroma_stack.acknowledge import acknowledge
from chroma_stack.errors import SettingError
from chroma_stack.settings import Setting, matching, resource_id

DEFAULT_INSTANCE_TYPE = ec2.InstanceType("t3.small")

BOOT_TIMEOUT = cdk.Duration.minutes(60)
"""How long CloudFormation waits for the instance's signal: the longest that an update may wait,
and as much as the long timeouts of user data and ``host/boot`` together, which are 2 minutes for
the program, 8 for packages, 16 for the volume, 9 for the image, 2 for the certificate, 20 for
Chroma's start and 3 for the address. An instance that can reach CloudFormation reports a failure at once; only a silent
one takes this long.

https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-attribute-updatepolicy.html
"""

_TAG = "chroma-server"
"""Marks the instances, the group and the parameters of one server, for its permissions."""

_LONGEST_ID = 127
"""A tag's value may have 256 characters, and the name of a stack, which precedes it, 128:
https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/Using_Tags.html#tag-restrictions"""

_SSM_POLICY = "AmazonSSMManagedEC2InstanceDefaultPolicy"

_TYPE = r"(?!mac|(t1\.micro|m1\.small|c1\.medium)$)[a-z][a-z0-9-]*\.(?!nano$|micro$)[a-z0-9-]+"
"""Chroma needs 2 GiB of memory; Mac instances run no Linux."""

_TYPE_ALLOWED = (
    "an x86-64 or Graviton type with at least 2 GiB of memory (no nano, no micro), "
    "such as t3.small or m7g.large"
)

_ROOT_DEVICE = "/dev/xvda"
_ROOT_SIZE = "[1-9][0-9]{0,3}|1[0-5][0-9]{3}|16[0-2][0-9]{2}|163[0-7][0-9]|1638[0-4]"
_ROOT_ALLOWED = "a whole number of GiB from 1 to 16384"
"""What EC2 launches an instance with:
https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/volume_limits.html"""


@jsii.implements(ec2.IMachineImage)
class MachineImageId:
    """An AMI by its id, or by what stands for the id in a launch template."""

    def __init__(self, image_id: str) -> None:
        """Use :meth:`of` instead.

        :param image_id: the id, which is not checked here.
        """
        self._image_id = image_id

    @staticmethod
    def of(image_id: str) -> MachineImageId:
        """The AMI with that id.

        :param image_id: the id, such as ``ami-0123456789abcdef0``.
        :raises SettingError: when it is no id.
        """
        return MachineImageId(
            matching("machine_image", image_id, resource_id("ami"), _IMAGE_ALLOWED)
        )

    @staticmethod
    def amazon_linux(architecture: ec2.InstanceArchitecture) -> MachineImageId:
        """The current Amazon Linux 2023. EC2 looks it up each time it launches an instance: a
        deployment without changes replaces nothing, and every new instance is patched.

        https://docs.aws.amazon.com/autoscaling/ec2/userguide/using-systems-manager-parameters.html

        :param architecture: of the instance type.
        """
        suffix = "arm64" if architecture is ec2.InstanceArchitecture.ARM_64 else "x86_64"
        return MachineImageId(
            f"resolve:ssm:/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-{suffix}"
        )

    def __str__(self) -> str:
        return self._image_id

    def get_image(self, scope: Construct) -> ec2.MachineImageConfig:
        """What aws-cdk-lib wants to know of an AMI."""
        return ec2.MachineImageConfig(
            image_id=self._image_id,
            os_type=ec2.OperatingSystemType.LINUX,
            user_data=ec2.UserData.for_linux(),
        )


_IMAGE_ALLOWED = "an id such as ami-0123456789abcdef0"


def _root_gibibytes(text: str) -> int:
    return int(matching("root_volume_size", text, _ROOT_SIZE, _ROOT_ALLOWED))


SETTINGS = (
    Setting(
        key="instanceType",
        parameter="InstanceType",
        option="instance_type",
        meaning="EC2 instance type, x86-64 or Graviton, with at least 2 GiB of memory.",
        default=DEFAULT_INSTANCE_TYPE.to_string(),
        pattern=_TYPE,
        allowed=_TYPE_ALLOWED,
        parse=ec2.InstanceType,
    ),
    Setting(
        key="keyName",
        parameter="KeyName",
        option="key_name",
        meaning="Name of an EC2 key pair for SSH; it opens port 22.",
        without="none; Session Manager works without a key",
        pattern=r"[!-~]([ -~]{0,253}[!-~])?",
        allowed="the name of an EC2 key pair, without spaces around it",
    ),
    Setting(
        key="imageId",
        parameter="ImageId",
        option="machine_image",
        meaning="Id of an Amazon Linux 2023 AMI.",
        without="the current Amazon Linux 2023, looked up at each launch",
        pattern=resource_id("ami"),
        allowed=_IMAGE_ALLOWED,
        parse=MachineImageId.of,
    ),
    Setting(
        key="rootVolumeSize",
        parameter="RootVolumeSize",
        option="root_volume_size",
        meaning="Size of the root volume in GiB, at least that of the AMI.",
        without="that of the AMI",
        pattern=_ROOT_SIZE,
        allowed=_ROOT_ALLOWED,
        parse=lambda text: cdk.Size.gibibytes(_root_gibibytes(text)),
    ),
)


def arn(service: str, resource: str) -> str:
    """The ARN of a resource in the stack's account and region. By pseudo parameters in every
    stack, so that cdk-nag calls it the same everywhere."""
    if not cdk.Token.is_unresolved(resource):  # shorter than the list of its parts
        where = "${AWS::Region}:${AWS::AccountId}"
        return cdk.Fn.sub(f"arn:${{AWS::Partition}}:{service}:{where}:{resource}")
    where = f"{cdk.Aws.REGION}:{cdk.Aws.ACCOUNT_ID}"
    return f"arn:{cdk.Aws.PARTITION}:{service}:{where}:{resource}"


def architecture(instance_type: ec2.InstanceType) -> ec2.InstanceArchitecture | None:
    """The architecture of a type, if aws-cdk-lib can tell."""
    try:
        return instance_type.architecture
    except RuntimeError:  # what jsii makes of aws-cdk-lib's MalformedInstanceTypeIdentifier
        return None


GRAVITON_MARKS = ("a1.", *(f"{generation}g" for generation in range(1, 10)))
"""One of these is in the name of each Graviton type, and in no other: the first family's
name, or a generation followed by a "g"."""


class InstanceRole(iam.Role):
    """What the instance may do.

    Its permissions are added where their resources are made, to a policy of the server's
    own. What an app allows the role beside them stays in the role's default policy, so that
    no acknowledgement for ours covers it.
    """

    def __init__(self, scope: Construct) -> None:
        super().__init__(
            scope,
            "Role",
            assumed_by=iam.ServicePrincipal("ec2.amazonaws.com"),
            description="What a Chroma server's instance may do",
            managed_policies=[
                # AmazonSSMManagedInstanceCore without reading every parameter of the account:
                # https://docs.aws.amazon.com/aws-managed-policy/latest/reference/AmazonSSMManagedEC2InstanceDefaultPolicy.html
                iam.ManagedPolicy.from_aws_managed_policy_name(_SSM_POLICY)
            ],
        )
        acknowledge(
            self,
            f"AwsSolutions-IAM4[Policy::arn:<AWS::Partition>:iam::aws:policy/{_SSM_POLICY}]",
            "AWS maintains this policy for instances that Systems Manager manages, which is the "
            "way to reach this one without SSH.",
        )
        unique_id = cdk.Names.unique_id(scope)
        if len(unique_id) > _LONGEST_ID:
            unique_id = scope.node.addr
        self._server_name = cdk.Fn.sub(f"${{AWS::StackName}}/{unique_id}")
        self._id_in_stack = unique_id
        self._policy = iam.Policy(self, "ServerPolicy", roles=[self])
        self._for_own = iam.PolicyStatement(conditions={"StringEquals": self.is_own})
        self._policy.add_statements(self._for_own)
        self._kinds_of_own: set[str] = set()
        self.allow_for_own(
            "autoscaling:SetInstanceHealth",
            "autoscaling",
            "autoScalingGroup:*:autoScalingGroupName/*",
        )

    @property
    def server_name(self) -> str:
        """The server's name among all servers of the account and region: of its stack and within
        it. The value of the tag, and of the dimension of its metrics, which are used in other
        stacks too: there it is a reference to this stack's name."""
        return cdk.Fn.join("", [cdk.ScopedAws(self).stack_name, "/", self._id_in_stack])

    @property
    def id_in_stack(self) -> str:
        """The server's name within its stack."""
        return self._id_in_stack

    @property
    def is_own(self) -> dict[str, str]:
        """What a policy compares to find whether a resource carries this server's tag."""
        return {f"aws:ResourceTag/{_TAG}": self._server_name}

    def allow(
        self, actions: Sequence[str], resources: Sequence[str], conditions: Any = None
    ) -> None:
        """Add a permission.

        :param actions: such as ``ec2:AttachVolume``.
        :param resources: ARNs.
        :param conditions: what else has to hold. Default: nothing.
        """
        self._policy.add_statements(
            iam.PolicyStatement(
                actions=list(actions), resources=list(resources), conditions=conditions
            )
        )

    def allow_for_own(self, action: str, service: str, resource: str) -> None:
        """Allow an action on those resources of a kind that carry this server's tag.

        Each of these services knows the condition for these resources:
        https://docs.aws.amazon.com/service-authorization/latest/reference/reference_policies_actions-resources-contextkeys.html

        :param action: such as ``ec2:AttachVolume``.
        :param service: of the resources' ARNs, such as ``ec2``.
        :param resource: of their ARNs, such as ``instance/*``.
        """
        self._for_own.add_actions(action)
        if resource not in self._kinds_of_own:
            self._kinds_of_own.add(resource)
            self._for_own.add_resources(arn(service, resource))
        self.acknowledge_wildcard(
            f"arn:<AWS::Partition>:{service}:<AWS::Region>:<AWS::AccountId>:{resource}",
            "The names are not known when the policy is made; a condition on the tag limits the "
            "permission to this server's.",
        )

    def acknowledge_wildcard(self, resource: str, reason: str) -> None:
        """Acknowledge cdk-nag's finding on a resource of the server's own policy.

        :param resource: as cdk-nag prints it.
        :param reason: why it has to be so wide.
        """
        acknowledge(self._policy, f"AwsSolutions-IAM5[Resource::{resource}]", reason)

    def mark_as_own(self, construct: Construct) -> None:
        """Give what is in a construct this server's tag."""
        cdk.Tags.of(construct).add(_TAG, self._server_name)

    def mark_interface_as_own(self, launch_template: ec2.LaunchTemplate) -> None:
        """Have EC2 give the tag to the interface that an instance is launched with, too.
        aws-cdk-lib has it tag instances and volumes only.

        :param launch_template: that the instance is launched from.
        """
        template = launch_template.node.default_child
        assert isinstance(template, ec2.CfnLaunchTemplate)
        template.add_property_override(
            "LaunchTemplateData.TagSpecifications.2",
            {
                "ResourceType": "network-interface",
                "Tags": [{"Key": _TAG, "Value": self._server_name}],
            },
        )


class InstanceTemplate(ec2.LaunchTemplate):
    """What an instance is launched from."""

    def __init__(
        self,
        scope: Construct,
        *,
        instance_type: ec2.InstanceType,
        machine_image: ec2.IMachineImage | None,
        key_pair: ec2.IKeyPair | None,
        role: InstanceRole,
        security_groups: Sequence[ec2.ISecurityGroup],
        root_volume_size: cdk.Size | None,
        user_data: ec2.UserData,
        public: bool,
    ) -> None:
        name = matching("instance_type", instance_type.to_string(), _TYPE, _TYPE_ALLOWED)
        if machine_image is None:
            of_type = architecture(instance_type)
            if of_type is None:
                raise SettingError("instance_type", name, _TYPE_ALLOWED)
            machine_image = MachineImageId.amazon_linux(of_type)
        super().__init__(
            scope,
            "LaunchTemplate",
            instance_type=instance_type,
            machine_image=machine_image,
            key_pair=key_pair,
            role=role,
            security_group=security_groups[0],
            user_data=user_data,
            # The Elastic IP comes last; until then the instance needs another way out.
            associate_public_ip_address=public,
            require_imdsv2=True,
            # One hop: the answer does not reach into a container.
            http_put_response_hop_limit=1,
            block_devices=[
                ec2.BlockDevice(
                    device_name=_ROOT_DEVICE,
                    volume=ec2.BlockDeviceVolume.ebs(
                        1, encrypted=True, volume_type=ec2.EbsDeviceVolumeType.GP3
                    ),
                )
            ],
        )
        self._set_root_volume_size(root_volume_size)
        for group in security_groups[1:]:
            self.add_security_group(group)
        role.mark_as_own(self)
        if public:
            role.mark_interface_as_own(self)

    def _set_root_volume_size(self, size: cdk.Size | None) -> None:
        """aws-cdk-lib wants a number; without one EC2 takes the size of the AMI's volume."""
        template = self.node.default_child
        assert isinstance(template, ec2.CfnLaunchTemplate)
        path = "LaunchTemplateData.BlockDeviceMappings.0.Ebs.VolumeSize"
        if size is None:
            template.add_property_deletion_override(path)
        elif size.is_unresolved():
            template.add_property_override(path, size.to_gibibytes())
        else:
            gibibytes = _root_gibibytes(str(int(size.to_gibibytes())))
            template.add_property_override(path, gibibytes)


class SingletonGroup(autoscaling.AutoScalingGroup):
    """One instance, replaced when it fails and at every change of its template.

    The previous instance ends before the new one starts, since the volume can only be
    attached to one of them, and the stack waits until the new one signals that it serves.
    """

    def __init__(
        self,
        scope: Construct,
        *,
        vpc: ec2.IVpc,
        subnet: ec2.ISubnet,
        launch_template: ec2.ILaunchTemplate,
        role: InstanceRole,
    ) -> None:
        super().__init__(
            scope,
            "Group",
            vpc=vpc,
            vpc_subnets=ec2.SubnetSelection(subnets=[subnet]),
            launch_template=launch_template,
            min_capacity=1,
            max_capacity=1,
            # Whatever the account's default is: never the new instance before the old one ended.
            min_healthy_percentage=0,
            max_healthy_percentage=100,
            signals=autoscaling.Signals.wait_for_count(1, timeout=BOOT_TIMEOUT),
            update_policy=autoscaling.UpdatePolicy.rolling_update(
                min_instances_in_service=0, max_batch_size=1, pause_time=BOOT_TIMEOUT
            ),
        )
        role.mark_as_own(self)
        # An instance that boots before it has its permissions, or a way out, would fail.
        self.node.add_dependency(role, subnet.internet_connectivity_established)
        acknowledge(
            self,
            "AwsSolutions-AS3",
            "The group has one instance and records its events itself; the app decides whom to "
            "notify of them.",
        )

    @property
    def logical_id(self) -> str:
        """The group's name in the template, which signals are sent to."""
        resource = self.node.default_child
        assert isinstance(resource, cdk.CfnElement)
        return str(cdk.Stack.of(self).resolve(resource.logical_id))
