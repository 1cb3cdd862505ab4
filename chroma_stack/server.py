"""One Chroma server on one machine that heals itself and keeps its data and address."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import aws_cdk as cdk
import jsii
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_secretsmanager as secretsmanager
from constructs import Construct

from chroma_stack import user_data
from chroma_stack.auth import AuthMode, ChromaAuth, check_origin
from chroma_stack.errors import SettingError
from chroma_stack.image import ChromaImage
from chroma_stack.machine import DEFAULT_INSTANCE_TYPE, GroupOfOne, MachineTemplate
from chroma_stack.storage import (
    DEFAULT_BACKUP_RETENTION,
    DEFAULT_VOLUME_SIZE,
    DailyBackup,
    DataVolume,
)
from chroma_stack.tracing import ChromaTracing, host_settings
from chroma_stack.version import ChromaVersion

PORT = 8000
"""The port of Chroma's own server, which its clients use by default."""

_INSTANCE_TAG = "chroma-server"


@dataclass(frozen=True)
class Endpoint:
    """Where clients reach the server."""

    hostname: str
    """A host name or an IP address."""

    port: int
    """The TCP port."""

    @property
    def socket_address(self) -> str:
        """``hostname:port``"""
        return f"{self.hostname}:{self.port}"

    @property
    def url(self) -> str:
        """``http://hostname:port``"""
        return f"http://{self.socket_address}"


@jsii.implements(ec2.IConnectable)
class ChromaServer(Construct):
    """A Chroma server in a VPC of yours.

    One machine in an Auto Scaling group of one, its data on a volume and its address on
    an Elastic IP of their own: both stay when the machine is replaced. Nothing may reach
    its port until it is allowed, e.g. by
    ``server.connections.allow_default_port_from(service)``.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        vpc: ec2.IVpc,
        vpc_subnets: ec2.SubnetSelection | None = None,
        security_groups: Sequence[ec2.ISecurityGroup] | None = None,
        instance_type: ec2.InstanceType = DEFAULT_INSTANCE_TYPE,
        machine_image: ec2.IMachineImage | None = None,
        key_pair: ec2.IKeyPair | None = None,
        version: ChromaVersion = ChromaVersion.V1_5_9,
        image: ChromaImage | None = None,
        auth: ChromaAuth | None = None,
        cors_allow_origins: Sequence[str] = (),
        tracing: ChromaTracing | None = None,
        volume: ec2.IVolume | None = None,
        volume_size: cdk.Size = DEFAULT_VOLUME_SIZE,
        snapshot_id: str | None = None,
        start_empty: bool = False,
        backup_retention: cdk.Duration = DEFAULT_BACKUP_RETENTION,
        storage_encryption_key: kms.IKey | None = None,
        removal_policy: cdk.RemovalPolicy = cdk.RemovalPolicy.SNAPSHOT,
    ) -> None:
        """
        :param vpc: the network that the server is placed in.
        :param vpc_subnets: where in it; the machine and its volume live in the first
            subnet of the selection, which must be a public one. Default: the public
            subnets.
        :param security_groups: the security groups of the machine. Default: a new one
            that lets nobody in.
        :param instance_type: the type of the machine, x86-64 or Graviton, with at least
            2 GiB of memory. Default: ``t3.small``.
        :param machine_image: an image that behaves like Amazon Linux 2023, with the root
            device ``/dev/xvda``. Default: the current Amazon Linux 2023, looked up each
            time a machine is launched.
        :param key_pair: an EC2 key pair for SSH. No port is opened for it. Default: none;
            Session Manager works without.
        :param version: the release of Chroma. Default: 1.5.9.
        :param image: where the container image comes from. Default: the official one.
        :param auth: what clients must send. Default: a generated token.
        :param cors_allow_origins: origins (``https://app.example.com``, or ``*``) whose
            pages may call the server from a browser. Default: none.
        :param tracing: where traces go. Default: nowhere.
        :param volume: the data volume of an earlier server, in the zone of the subnet, to go
            on with. It stays when this server is removed; the properties of a new volume
            say nothing about it, nor does ``backup_retention``. Default: a new volume, which
            belongs to this server.
        :param volume_size: size of the data volume. It may grow later, never shrink.
            Default: 24 GiB.
        :param snapshot_id: the snapshot of a data volume to start from. Another value
            later replaces the volume. Default: an empty volume.
        :param start_empty: let the server begin anew on an empty volume although it had data
            on another one. Default: it refuses to start then, so that a forgotten
            ``snapshot_id`` does not bring up an empty server.
        :param backup_retention: for how many days the daily snapshots of the data volume are
            kept; zero for none. Default: 7 days.
        :param storage_encryption_key: the KMS key of the data volume. Default: the
            account's key for EBS.
        :param removal_policy: what happens to the data volume when the server is removed
            or its volume replaced. Default: a last snapshot of it is kept.
        :raises SettingError: when a value is none that the server could run with; the
            message names the property, the value and what is allowed.
        """
        super().__init__(scope, construct_id)
        stack = cdk.Stack.of(self)
        self.version: ChromaVersion = version
        self.auth: ChromaAuth = auth or ChromaAuth.token()
        subnet = self._public_subnet(vpc, vpc_subnets)
        self._add_name()

        self.role: iam.Role = iam.Role(
            self,
            "Role",
            assumed_by=iam.ServicePrincipal("ec2.amazonaws.com"),
            description="What the Chroma server's machine may do",
            managed_policies=[
                iam.ManagedPolicy.from_aws_managed_policy_name("AmazonSSMManagedInstanceCore")
            ],
        )
        groups = list(security_groups or [self._security_group(vpc)])
        self._connections = ec2.Connections(security_groups=groups, default_port=ec2.Port.tcp(PORT))
        if volume is None:
            volume = DataVolume(
                self,
                availability_zone=subnet.availability_zone,
                size=volume_size,
                snapshot_id=snapshot_id,
                encryption_key=storage_encryption_key,
                removal_policy=removal_policy,
            )
            if backup_retention.to_days() > 0:
                DailyBackup(self, volumes=[volume], retention=backup_retention)
        self.volume: ec2.IVolume = volume
        address = ec2.CfnEIP(self, "Address", domain="vpc")
        self.endpoint: Endpoint = Endpoint(address.ref, PORT)
        bound_auth = self.auth.bind(self, self.role)
        self.secret: secretsmanager.ISecret | None = bound_auth.secret

        commands = ec2.UserData.for_linux()
        template = MachineTemplate(
            self,
            instance_type=instance_type,
            machine_image=machine_image,
            key_pair=key_pair,
            role=self.role,
            security_group=groups[0],
            user_data=commands,
        )
        for group in groups[1:]:
            template.add_security_group(group)
        self.auto_scaling_group: GroupOfOne = GroupOfOne(
            self, vpc=vpc, subnet=subnet, launch_template=template
        )
        self.auto_scaling_group.node.add_dependency(subnet.internet_connectivity_established)

        self._allow_to_take(address, template, storage_encryption_key)
        self._allow_to_remember(address)
        self._allow_to_ask_for_replacement(self.auto_scaling_group)
        trace_settings = host_settings() if tracing is None else tracing.bind(self, self.role)
        image_reference = (image or ChromaImage.official()).bind(self, version, self.role)
        # A machine that boots before its permissions are there would fail.
        self.auto_scaling_group.node.add_dependency(self.role)

        group_resource = self.auto_scaling_group.node.default_child
        assert isinstance(group_resource, cdk.CfnElement)
        commands.add_commands(
            user_data.render(
                {
                    "STACK": cdk.Aws.STACK_NAME,
                    "REGION": stack.region,
                    "GROUP": stack.get_logical_id(group_resource),
                    "VOLUME": self.volume.volume_id,
                    "ADDRESS": address.attr_allocation_id,
                    "START_EMPTY": "true" if start_empty else "false",
                    "VERSION": str(version),
                    "IMAGE": image_reference,
                    **bound_auth.host_settings,
                    "CORS_ALLOW_ORIGINS": " ".join(map(check_origin, cors_allow_origins)),
                    **trace_settings,
                }
            )
        )
        if self.auth.mode is AuthMode.NONE:
            cdk.Annotations.of(self).add_warning_v2(
                "chroma-stack:auth-none",
                "auth is none: whoever reaches the server's port reads and writes "
                "everything in it.",
            )

    # jsii finds a property of an interface only when the class has it.
    @property
    def connections(self) -> ec2.Connections:
        """Who may reach the server: nobody, until allowed. The default port is 8000."""
        return self._connections

    def _add_name(self) -> None:
        """Name everything in the console after the stack as it is deployed, which for the
        published template is not known at synth."""
        cdk.Tags.of(self).add(
            "Name",
            f"{cdk.Aws.STACK_NAME}/{self.node.id}",
            priority=150,  # above the names that aws-cdk-lib's constructs give themselves
        )

    def _public_subnet(self, vpc: ec2.IVpc, vpc_subnets: ec2.SubnetSelection | None) -> ec2.ISubnet:
        chosen = vpc_subnets or ec2.SubnetSelection(subnet_type=ec2.SubnetType.PUBLIC)
        subnet = vpc.select_subnets(
            availability_zones=chosen.availability_zones,
            one_per_az=chosen.one_per_az,
            subnet_filters=chosen.subnet_filters,
            subnet_group_name=chosen.subnet_group_name,
            subnets=chosen.subnets,
            subnet_type=chosen.subnet_type,
        ).subnets[0]
        if subnet.node.path in {
            other.node.path for other in [*vpc.private_subnets, *vpc.isolated_subnets]
        }:
            raise SettingError(
                "vpc_subnets",
                subnet.node.path,
                "public subnets, since the address is public",
            )
        return subnet

    def _security_group(self, vpc: ec2.IVpc) -> ec2.SecurityGroup:
        return ec2.SecurityGroup(
            self,
            "SecurityGroup",
            vpc=vpc,
            description="Who may reach the Chroma server",
        )

    def _allow_to_take(
        self,
        address: ec2.CfnEIP,
        template: ec2.LaunchTemplate,
        storage_encryption_key: kms.IKey | None,
    ) -> None:
        """The machine takes its volume and its address itself, and only these, and only to
        machines of this server."""
        stack = cdk.Stack.of(self)
        server_name = f"{cdk.Aws.STACK_NAME}/{cdk.Names.unique_id(self)}"
        cdk.Tags.of(template).add(_INSTANCE_TAG, server_name)

        def arn(resource: str, name: str) -> str:
            return stack.format_arn(service="ec2", resource=resource, resource_name=name)

        self.role.add_to_principal_policy(
            iam.PolicyStatement(
                actions=["ec2:AttachVolume", "ec2:AssociateAddress"],
                resources=[
                    arn("volume", self.volume.volume_id),
                    arn("elastic-ip", address.attr_allocation_id),
                    arn("network-interface", "*"),
                ],
            )
        )
        self.role.add_to_principal_policy(
            iam.PolicyStatement(
                actions=["ec2:AttachVolume", "ec2:AssociateAddress"],
                resources=[arn("instance", "*")],
                conditions={"StringEquals": {f"aws:ResourceTag/{_INSTANCE_TAG}": server_name}},
            )
        )
        if storage_encryption_key is not None:
            # Who attaches an encrypted volume lets EC2 use its key:
            # https://docs.aws.amazon.com/ebs/latest/userguide/ebs-encryption-requirements.html
            grant = storage_encryption_key.grant(self.role, "kms:CreateGrant")
            for statement in grant.principal_statements:
                statement.add_condition("Bool", {"kms:GrantIsForAWSResource": "true"})

    def _allow_to_remember(self, address: ec2.CfnEIP) -> None:
        """The machine notes on its address which volume holds the data."""
        self.role.add_to_principal_policy(
            iam.PolicyStatement(
                actions=["ec2:CreateTags"],
                resources=[
                    cdk.Stack.of(self).format_arn(
                        service="ec2",
                        resource="elastic-ip",
                        resource_name=address.attr_allocation_id,
                    )
                ],
                conditions={"ForAllValues:StringEquals": {"aws:TagKeys": ["chroma-data"]}},
            )
        )
        # The action knows no resources:
        # https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonec2.html
        self.role.add_to_principal_policy(
            iam.PolicyStatement(actions=["ec2:DescribeTags"], resources=["*"])
        )

    def _allow_to_ask_for_replacement(self, group: GroupOfOne) -> None:
        """The machine may report itself unhealthy. The group's name, which CloudFormation
        makes from those of stack and resource, is not known to a policy that it depends on."""
        stack = cdk.Stack.of(self)
        resource = group.node.default_child
        assert isinstance(resource, cdk.CfnElement)
        self.role.add_to_principal_policy(
            iam.PolicyStatement(
                actions=["autoscaling:SetInstanceHealth"],
                resources=[
                    stack.format_arn(
                        service="autoscaling",
                        resource="autoScalingGroup:*:autoScalingGroupName",
                        resource_name=f"{cdk.Aws.STACK_NAME}-{stack.get_logical_id(resource)}-*",
                    )
                ],
            )
        )
