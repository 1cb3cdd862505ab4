"""One Chroma server on one machine that heals itself and keeps its data and address."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_route53 as route53
from aws_cdk import aws_secretsmanager as secretsmanager
from constructs import Construct

from chroma_stack import address as addresses
from chroma_stack import config as chroma_config
from chroma_stack import nag, user_data
from chroma_stack.auth import AuthMode, ChromaAuth, check_origin
from chroma_stack.endpoint import PORT, Endpoint, IChromaServer, ImportedServer
from chroma_stack.errors import SettingError
from chroma_stack.image import ChromaImage
from chroma_stack.machine import DEFAULT_INSTANCE_TYPE, GroupOfOne, MachineTemplate
from chroma_stack.storage import (
    DEFAULT_BACKUP_RETENTION,
    DEFAULT_VOLUME_SIZE,
    DailyBackup,
    DataVolume,
)
from chroma_stack.tracing import ChromaTracing
from chroma_stack.tracing import host_settings as tracing_settings
from chroma_stack.version import ChromaVersion

_INSTANCE_TAG = "chroma-server"
_LONGEST_ID = 127
"""A tag's value may have 256 characters, and the name of a stack, which stands before, 128:
https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/Using_Tags.html#tag-restrictions"""


class ChromaServer(IChromaServer):
    """A Chroma server in a VPC of yours.

    One machine in an Auto Scaling group of one, its data on a volume and its address on an
    Elastic IP, or in a private subnet on a network interface, of their own: both stay when
    the machine is replaced. Nothing may reach its port until it is allowed, e.g. by
    ``server.connections.allow_default_port_from(service)``.
    """

    @staticmethod
    def from_chroma_server_attributes(
        scope: Construct,
        construct_id: str,
        *,
        hostname: str,
        port: int = PORT,
        security_group: ec2.ISecurityGroup,
        secret: secretsmanager.ISecret | None = None,
    ) -> IChromaServer:
        """A server that was made elsewhere, e.g. in another app, to be reached from here.

        :param hostname: its name or address.
        :param port: its port. Default: 8000.
        :param security_group: what its ``connections`` open.
        :param secret: holds its credential. Default: none is known, and
            ``grant_read_credential`` raises.
        """
        return ImportedServer(
            scope,
            construct_id,
            endpoint=Endpoint(hostname, port),
            security_group=security_group,
            secret=secret,
        )

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        vpc: ec2.IVpc,
        vpc_subnets: ec2.SubnetSelection | None = None,
        hosted_zone: route53.IHostedZone | None = None,
        domain_name: str | None = None,
        security_groups: Sequence[ec2.ISecurityGroup] | None = None,
        instance_type: ec2.InstanceType = DEFAULT_INSTANCE_TYPE,
        machine_image: ec2.IMachineImage | None = None,
        key_pair: ec2.IKeyPair | None = None,
        version: ChromaVersion = ChromaVersion.V1_5_9,
        image: ChromaImage | None = None,
        auth: ChromaAuth | None = None,
        cors_allow_origins: Sequence[str] = (),
        config: Mapping[str, Any] | None = None,
        tracing: ChromaTracing | None = None,
        volume: ec2.IVolume | None = None,
        volume_size: cdk.Size = DEFAULT_VOLUME_SIZE,
        snapshot_id: str | None = None,
        start_empty: bool = False,
        backup_retention: cdk.Duration = DEFAULT_BACKUP_RETENTION,
        storage_encryption_key: kms.IKey | None = None,
        removal_policy: cdk.RemovalPolicy = cdk.RemovalPolicy.SNAPSHOT,
        user_data_before: ec2.UserData | Sequence[str] = (),
        user_data_after: ec2.UserData | Sequence[str] = (),
        host_settings: Mapping[str, str] | None = None,
    ) -> None:
        """
        :param vpc: the network that the server is placed in.
        :param vpc_subnets: where in it; the machine and its volume live in the first
            subnet of the selection. In a public one the server has an Elastic IP, in any
            other a private address and a name for it. A subnet that the VPC does not know
            is taken for a public one. Default: the private subnets with a way to the
            internet, else the isolated ones, else the public ones. Isolated ones need VPC
            endpoints, and an image in Amazon ECR: ``docs/private-networks.md``.
        :param hosted_zone: the zone for the name of a server that is not in a public subnet.
            Default: a private one of the server's own, for this VPC.
        :param domain_name: the name itself. Default: the name of the server's own zone; in a
            zone that is given, the construct's id in small letters, within it.
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
        :param config: Chroma's own configuration, by the keys of its file
            (https://docs.trychroma.com/guides/deploy/single-node), for what has no property
            here, e.g. ``{"max_payload_size_bytes": 100_000_000}``. Only for releases from
            1.0 on. Chroma ignores keys that it does not know. Default: what the image holds.
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
        :param user_data_before: shell commands for the machine, as root, before anything
            else that it does, under ``set -euo pipefail``: one that fails is a failed boot,
            and the stack's events say so. Their time counts for the boot's. Default: none.
        :param user_data_after: shell commands for after the boot, likewise. The server is in
            use by then: one that fails ends them, and only the machine's log says so.
            Default: none.
        :param host_settings: further lines for ``/etc/chroma/settings``, for commands of
            one's own; names in capitals. They are also in the environment of the door.
            Default: none.
        :raises SettingError: when a value is none that the server could run with; the
            message names the property, the value and what is allowed.
        """
        super().__init__(scope, construct_id)
        stack = cdk.Stack.of(self)
        self.version: ChromaVersion = version
        """The release of Chroma."""
        self.auth: ChromaAuth = auth or ChromaAuth.token()
        """What clients must send."""
        subnet = _subnet(vpc, vpc_subnets)
        self._add_name()

        self._role = iam.Role(
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
        """The volume that holds the data."""
        address = self._address(vpc, subnet, groups, hosted_zone, domain_name)
        self._endpoint = Endpoint(address.hostname, PORT)
        bound_auth = self.auth.bind(self, self.role)
        self._secret = bound_auth.secret

        commands = ec2.UserData.for_linux()
        template = MachineTemplate(
            self,
            instance_type=instance_type,
            machine_image=machine_image,
            key_pair=key_pair,
            role=self.role,
            security_group=groups[0],
            user_data=commands,
            public=address.is_public,
        )
        for group in groups[1:]:
            template.add_security_group(group)
        self.auto_scaling_group: GroupOfOne = GroupOfOne(
            self,
            vpc=vpc,
            subnet=subnet,
            launch_template=template,
            boot_timeout=address.boot_timeout,
        )
        """The group of one that keeps the machine alive."""
        self.auto_scaling_group.node.add_dependency(subnet.internet_connectivity_established)

        self._allow_to_take(address, template, storage_encryption_key)
        self._allow_to_remember(address)
        self._allow_to_ask_for_replacement(self.auto_scaling_group)
        trace_settings = tracing_settings() if tracing is None else tracing.bind(self, self.role)
        image_reference = (image or ChromaImage.official()).bind(self, version, self.role)
        # A machine that boots before its permissions are there would fail.
        self.auto_scaling_group.node.add_dependency(self.role)

        group_resource = self.auto_scaling_group.node.default_child
        assert isinstance(group_resource, cdk.CfnElement)
        settings = {
            "STACK": cdk.Aws.STACK_NAME,
            "REGION": stack.region,
            "GROUP": stack.get_logical_id(group_resource),
            "VOLUME": self.volume.volume_id,
            **address.host_settings,
            "START_EMPTY": "true" if start_empty else "false",
            "VERSION": str(version),
            "IMAGE": image_reference,
            **bound_auth.host_settings,
            "CORS_ALLOW_ORIGINS": " ".join(map(check_origin, cors_allow_origins)),
            "CHROMA_CONFIG": chroma_config.host_setting(config, version),
            **trace_settings,
        }
        for name, value in (host_settings or {}).items():
            if name in settings:
                raise SettingError("host_settings", name, "names that are not the server's own")
            settings[name] = value
        commands.add_commands(user_data.render(settings, user_data_before, user_data_after))
        if self.auth.mode is AuthMode.NONE:
            cdk.Annotations.of(self).add_warning_v2(
                "chroma-stack:auth-none",
                "auth is none: whoever reaches the server's port reads and writes "
                "everything in it.",
            )
        nag.explain(self)

    # jsii finds a property of an interface only when the class has it.
    @property
    def connections(self) -> ec2.Connections:
        """Who may reach the server: nobody, until allowed. The default port is 8000."""
        return self._connections

    @property
    def endpoint(self) -> Endpoint:
        """Where clients reach the server: its Elastic IP, or its name."""
        return self._endpoint

    @property
    def secret(self) -> secretsmanager.ISecret | None:
        """Its plain string is the credential: the token, or ``user:password``. ``None`` when
        the server asks nobody."""
        return self._secret

    @property
    def role(self) -> iam.Role:
        """The role of the machine. What commands of your own need beyond what the server
        does, give it by ``server.role.add_to_principal_policy(statement)``, or by the
        ``grant_…`` methods of what they use."""
        return self._role

    def metric_cpu_utilization(self, **props: Any) -> cloudwatch.Metric:
        """How busy the machine's processors are, in percent; the average over 5 minutes.

        https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/viewing_metrics_with_cloudwatch.html

        :param props: those of ``cloudwatch.Metric``, such as ``statistic`` and ``period``.
        """
        return self._group_metric("CPUUtilization", "Average", props)

    def metric_status_check_failed(self, **props: Any) -> cloudwatch.Metric:
        """Whether EC2 finds the machine, or what it runs on, impaired: 1 when so, else 0; the
        maximum over 5 minutes. The group replaces such a machine by itself.

        https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/viewing_metrics_with_cloudwatch.html

        :param props: those of ``cloudwatch.Metric``, such as ``statistic`` and ``period``.
        """
        return self._group_metric("StatusCheckFailed", "Maximum", props)

    def metric_volume_read_ops(self, **props: Any) -> cloudwatch.Metric:
        """How many reads of the data volume there were; a count, summed over 5 minutes. Many
        mean that the machine's memory does not hold what is asked for.

        https://docs.aws.amazon.com/ebs/latest/userguide/using_cloudwatch_ebs.html

        :param props: those of ``cloudwatch.Metric``, such as ``statistic`` and ``period``.
        """
        return self._volume_metric("VolumeReadOps", "Sum", props)

    def metric_volume_write_ops(self, **props: Any) -> cloudwatch.Metric:
        """How many writes to the data volume there were; a count, summed over 5 minutes.

        https://docs.aws.amazon.com/ebs/latest/userguide/using_cloudwatch_ebs.html

        :param props: those of ``cloudwatch.Metric``, such as ``statistic`` and ``period``.
        """
        return self._volume_metric("VolumeWriteOps", "Sum", props)

    def metric_volume_queue_length(self, **props: Any) -> cloudwatch.Metric:
        """How many reads and writes wait for the data volume; a count, the average over
        5 minutes. One that stays high says that the volume is what clients wait for.

        https://docs.aws.amazon.com/ebs/latest/userguide/using_cloudwatch_ebs.html

        :param props: those of ``cloudwatch.Metric``, such as ``statistic`` and ``period``.
        """
        return self._volume_metric("VolumeQueueLength", "Average", props)

    def _group_metric(
        self, name: str, statistic: str, props: Mapping[str, Any]
    ) -> cloudwatch.Metric:
        group = self.auto_scaling_group.auto_scaling_group_name
        return self._metric("AWS/EC2", name, {"AutoScalingGroupName": group}, statistic, props)

    def _volume_metric(
        self, name: str, statistic: str, props: Mapping[str, Any]
    ) -> cloudwatch.Metric:
        return self._metric("AWS/EBS", name, {"VolumeId": self.volume.volume_id}, statistic, props)

    def _metric(
        self,
        namespace: str,
        name: str,
        dimensions: Mapping[str, str],
        statistic: str,
        props: Mapping[str, Any],
    ) -> cloudwatch.Metric:
        given = {"statistic": statistic, **props}
        metric = cloudwatch.Metric(
            namespace=namespace, metric_name=name, dimensions_map=dimensions, **given
        )
        return metric.attach_to(self)

    def _add_name(self) -> None:
        """Name everything in the console after the stack as it is deployed, which for the
        published template is not known at synth."""
        cdk.Tags.of(self).add(
            "Name",
            f"{cdk.Aws.STACK_NAME}/{self.node.id[:_LONGEST_ID]}",
            priority=150,  # above the names that aws-cdk-lib's constructs give themselves
        )

    def _address(
        self,
        vpc: ec2.IVpc,
        subnet: ec2.ISubnet,
        security_groups: Sequence[ec2.ISecurityGroup],
        hosted_zone: route53.IHostedZone | None,
        domain_name: str | None,
    ) -> addresses.Address:
        if not addresses.is_public(vpc, subnet):
            return addresses.private_name(
                self,
                vpc=vpc,
                subnet=subnet,
                security_groups=security_groups,
                hosted_zone=hosted_zone,
                domain_name=domain_name,
            )
        for name, value in (("hosted_zone", hosted_zone), ("domain_name", domain_name)):
            if value is not None:
                raise SettingError(
                    name,
                    value if isinstance(value, str) else value.node.path,
                    "left out in a public subnet, where the server has an Elastic IP; give that "
                    "a name by a route53.ARecord of yours on endpoint.hostname",
                )
        return addresses.elastic_ip(self)

    def _security_group(self, vpc: ec2.IVpc) -> ec2.SecurityGroup:
        return ec2.SecurityGroup(
            self,
            "SecurityGroup",
            vpc=vpc,
            description="Who may reach the Chroma server",
        )

    def _allow_to_take(
        self,
        address: addresses.Address,
        template: ec2.LaunchTemplate,
        storage_encryption_key: kms.IKey | None,
    ) -> None:
        """The machine takes its volume and its address itself, and only these, and only to
        machines of this server."""
        stack = cdk.Stack.of(self)
        unique_id = cdk.Names.unique_id(self)
        if len(unique_id) > _LONGEST_ID:
            unique_id = self.node.addr
        server_name = f"{cdk.Aws.STACK_NAME}/{unique_id}"
        cdk.Tags.of(template).add(_INSTANCE_TAG, server_name)

        def arn(resource: str, name: str) -> str:
            return stack.format_arn(service="ec2", resource=resource, resource_name=name)

        own = [
            arn("volume", self.volume.volume_id),
            arn(address.resource_type, address.resource_id),
        ]
        if address.is_public:
            # What it is associated with is the machine's first interface, which nobody knows yet.
            own.append(arn("network-interface", "*"))
        actions = ["ec2:AttachVolume", address.action]
        self.role.add_to_principal_policy(iam.PolicyStatement(actions=actions, resources=own))
        self.role.add_to_principal_policy(
            iam.PolicyStatement(
                actions=actions,
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

    def _allow_to_remember(self, address: addresses.Address) -> None:
        """The machine notes on its address which volume holds the data."""
        self.role.add_to_principal_policy(
            iam.PolicyStatement(
                actions=["ec2:CreateTags"],
                resources=[
                    cdk.Stack.of(self).format_arn(
                        service="ec2",
                        resource=address.resource_type,
                        resource_name=address.resource_id,
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


def _subnet(vpc: ec2.IVpc, chosen: ec2.SubnetSelection | None) -> ec2.ISubnet:
    """The one that the server lives in."""
    chosen = chosen or ec2.SubnetSelection()
    return vpc.select_subnets(
        availability_zones=chosen.availability_zones,
        one_per_az=chosen.one_per_az,
        subnet_filters=chosen.subnet_filters,
        subnet_group_name=chosen.subnet_group_name,
        subnets=chosen.subnets,
        subnet_type=chosen.subnet_type,
    ).subnets[0]
