"""The stack: a network, a server in it, and who may reach the server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import aws_cdk as cdk
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_kms as kms
from constructs import Construct

from chroma_stack import backups, outputs, storage
from chroma_stack.alarms import AlarmTopic
from chroma_stack.auth import AuthMode
from chroma_stack.dashboard import ChromaDashboard
from chroma_stack.errors import SettingError
from chroma_stack.monitoring import ChromaMonitoring
from chroma_stack.network import EVERYWHERE, DefaultVpc, describe, in_zone
from chroma_stack.server import ChromaServer, ChromaServerOptions, refuse_unknown
from chroma_stack.settings import EMAIL, EMAIL_ALLOWED, Setting, matching
from chroma_stack.tls import TlsMode
from chroma_stack.users import ChromaAccess

if TYPE_CHECKING:
    from typing_extensions import Unpack

DEFAULT_STACK_NAME = "ChromaStack"

SETTINGS = (
    Setting(
        key="stackName",
        only="With CloudFormation the name is that of `create-stack`.",
        option="stack_name",
        meaning="Name of the stack; several servers in one account need several names.",
        default=DEFAULT_STACK_NAME,
        pattern="[A-Za-z][A-Za-z0-9-]{0,127}",
        allowed="a letter first, then up to 127 letters, digits and hyphens",
    ),
)


class _StackProps(ChromaServerOptions, total=False):
    """Those of ``aws_cdk.StackProps``; ``aws_cdk.Stack`` documents them."""

    analytics_reporting: bool
    cross_region_references: bool
    description: str
    env: cdk.Environment
    notification_arns: Sequence[str]
    permissions_boundary: cdk.PermissionsBoundary
    property_injectors: Sequence[cdk.IPropertyInjector]
    stack_name: str
    suppress_template_indentation: bool
    synthesizer: cdk.IStackSynthesizer
    tags: Mapping[str, str]
    termination_protection: bool


class ChromaStackOptions(_StackProps, total=False):
    """The properties of a :class:`ChromaStack`: these, those of ``aws_cdk.StackProps``
    (``env``, ``tags``, ``termination_protection``, …), and those of
    :class:`ChromaServerOptions`; all can be left out."""

    vpc_id: str
    """``default``, or the id of a VPC; the server is placed in its first public subnet, unless
    ``vpc_subnets`` says otherwise. It is looked up by the CDK command line, which needs credentials, and the stack an ``env``.
    Default: a small VPC of the stack's own with one public subnet."""

    availability_zone: str
    """The zone to place the server in, such as that of ``volume_id``. Default: the first one of
    the VPC."""

    allowed_cidrs: Sequence[str]
    """IPv4 networks that may reach the server's port. Default: all."""

    users: Mapping[str, ChromaAccess]
    """Users by their names, each with a credential of its own: ``{"search":
    ChromaAccess.READ}``. Default: none beside the main credential."""

    volume_id: str
    """The data volume of an earlier server to go on with. Default: a new volume."""

    backup_copy_key_arn: str
    """The KMS key of the copies in ``backup_copy_region``, in that region. Default: the account's
    key for EBS there."""

    alarm_email: str
    """An address that alarms are sent to. AWS first sends it a message with a link to confirm.
    Default: no alarms."""

    dashboard: bool
    """Whether there is a :class:`ChromaDashboard` of the server. Default: no."""

    key_name: str
    """An EC2 key pair for SSH. Default: none, and port 22 stays closed."""

    ssh_cidrs: Sequence[str]
    """IPv4 networks that may reach port 22 when there is a key pair. Default: those of
    ``allowed_cidrs``."""


class ChromaStack(cdk.Stack):
    """A Chroma server with all that it needs, as ``cdk deploy`` makes it.

    Its template has no asset and no custom resource, so that it deploys with plain CloudFormation
    too. ``cdk deploy`` needs an account that was bootstrapped, as for any template that is too
    large for a request: it goes through the bucket that ``cdk bootstrap`` makes.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str = DEFAULT_STACK_NAME,
        **options: Unpack[ChromaStackOptions],
    ) -> None:
        """
        :param options: the properties: :class:`ChromaStackOptions`.
        :raises SettingError: when settings are wrong, or do not go together.
        """
        refuse_unknown(options, ChromaStackOptions)
        of_server = ChromaServerOptions.__optional_keys__
        of_stack = _StackProps.__optional_keys__ - of_server
        props = {k: v for k, v in options.items() if k in of_stack}
        if options.get("deletion_protection"):
            props.setdefault("termination_protection", True)
        props.setdefault("description", "A Chroma vector database on one EC2 instance")
        # Neither a bootstrap parameter nor a rule nor roles: of what cdk bootstrap makes, a
        # template without assets needs the bucket only.
        props.setdefault("synthesizer", cdk.LegacyStackSynthesizer())
        super().__init__(scope, construct_id, **cast("Any", props))
        server = {k: v for k, v in options.items() if k in of_server}
        server.setdefault("monitoring", ChromaMonitoring())
        server.setdefault("vpc_subnets", ec2.SubnetSelection(subnet_type=ec2.SubnetType.PUBLIC))
        self._check_subnets(cast("ec2.SubnetSelection", server["vpc_subnets"]), options)
        vpc = self._vpc(options.get("vpc_id"), options.get("availability_zone"))
        if "availability_zone" in options:
            server["vpc_subnets"] = in_zone(
                vpc,
                cast("ec2.SubnetSelection", server["vpc_subnets"]),
                options["availability_zone"],
            )
        if "volume_id" in options:
            server["volume"] = self._volume(options)
        if "backup_copy_key_arn" in options:
            backups.check_key_arn(options["backup_copy_key_arn"], options.get("backup_copy_region"))
            server["backup_copy_key"] = kms.Key.from_key_arn(
                self, "BackupCopyKey", options["backup_copy_key_arn"]
            )
        if "key_name" in options:
            server["key_pair"] = ec2.KeyPair.from_key_pair_name(
                self, "KeyPair", options["key_name"]
            )
        self.server: ChromaServer = ChromaServer(
            self,
            "Chroma",
            vpc=vpc,
            **cast("ChromaServerOptions", server),
        )
        """The server."""
        for name, access in options.get("users", {}).items():
            self.server.add_user(name, access=access)
        self._open(options)
        if "alarm_email" in options:
            self._send_alarms(options["alarm_email"])
        if options.get("dashboard"):
            self._add_dashboard()
        for name, output in outputs.of(self.server).items():
            cdk.CfnOutput(self, name, description=output.description, value=output.value)

    def _vpc(self, vpc_id: str | None, availability_zone: str | None) -> ec2.IVpc:
        if vpc_id is None:
            return DefaultVpc(self, "Vpc", availability_zone)
        if cdk.Token.is_unresolved(self.account) or cdk.Token.is_unresolved(self.region):
            raise SettingError(
                "vpc_id", vpc_id, "only with AWS credentials and a region, to look the VPC up"
            )
        if vpc_id == "default":
            return ec2.Vpc.from_lookup(self, "Vpc", is_default=True)
        return ec2.Vpc.from_lookup(self, "Vpc", vpc_id=vpc_id)

    @staticmethod
    def _check_subnets(subnets: ec2.SubnetSelection, options: ChromaStackOptions) -> None:
        """Refuse what could not be deployed, or could not boot."""
        public, isolated = ec2.SubnetType.PUBLIC, ec2.SubnetType.PRIVATE_ISOLATED
        if "vpc_id" not in options and subnets.subnet_type not in {None, public}:
            needed = "only together with vpcId: the stack's own VPC has a public subnet only"
            raise SettingError("vpc_subnets", describe(subnets), needed)
        if subnets.subnet_type is isolated and "image" not in options:
            needed = "only together with image, in Amazon ECR: ghcr.io is on the internet"
            raise SettingError("vpc_subnets", describe(subnets), needed)

    def _volume(self, options: ChromaStackOptions) -> ec2.IVolume:
        volume_id = options["volume_id"]
        storage.refuse_new_volume("volume_id", volume_id, options)
        # Without a look-up nobody knows its zone.
        if "availability_zone" not in options:
            cdk.Annotations.of(self).add_warning_v2(
                "chroma-stack:zone-of-the-volume",
                f"volumeId={volume_id} must be in the zone of the server, which is the first one of "
                "the VPC. Set availabilityZone to that of the volume.",
            )
        zone = options.get("availability_zone", self.availability_zones[0])
        return ec2.Volume.from_volume_attributes(
            self, "VolumeGiven", volume_id=volume_id, availability_zone=zone
        )

    def _send_alarms(self, email: str) -> None:
        matching("alarm_email", email, EMAIL, EMAIL_ALLOWED)
        if self.server.log_group is None:
            raise SettingError("alarm_email", email, "only with monitoring=true")
        self.server.add_alarms(AlarmTopic(self, "AlarmTopic", email=email))

    def _add_dashboard(self) -> None:
        if self.server.log_group is None:
            raise SettingError("dashboard", "true", "only with monitoring=true")
        ChromaDashboard(self, "Dashboard", servers=[self.server])

    def _open(self, options: ChromaStackOptions) -> None:
        allowed_cidrs = options.get("allowed_cidrs", (EVERYWHERE,))
        has_key = not options.keys().isdisjoint({"key_name", "key_pair"})
        ssh_cidrs = options.get("ssh_cidrs", allowed_cidrs if has_key else ())
        connections = self.server.connections
        for cidr in allowed_cidrs:
            connections.allow_default_port_from(ec2.Peer.ipv4(cidr), "Clients")
        if ssh_cidrs and not has_key:
            raise SettingError("ssh_cidrs", ",".join(ssh_cidrs), "only together with keyName")
        for cidr in ssh_cidrs:
            connections.allow_from(ec2.Peer.ipv4(cidr), ec2.Port.SSH, "SSH")
        if EVERYWHERE in ssh_cidrs:
            cdk.Annotations.of(self).add_warning_v2(
                "chroma-stack:ssh-open-to-the-world",
                "keyName is given, and port 22 is open to 0.0.0.0/0. Set sshCidr.",
            )
        if EVERYWHERE not in allowed_cidrs:
            return
        if self.server.auth.mode is AuthMode.NONE:
            cdk.Annotations.of(self).add_warning_v2(
                "chroma-stack:open-to-the-world",
                "auth=none and allowedCidr=0.0.0.0/0: ANYONE ON THE INTERNET CAN READ, CHANGE "
                "AND DELETE EVERYTHING in this server. Set allowedCidr, or leave out auth.",
            )
        elif self.server.tls.mode is not TlsMode.REQUIRED:
            off = self.server.tls.mode is TlsMode.OFF
            cdk.Annotations.of(self).add_warning_v2(
                "chroma-stack:plain-to-the-world",
                "allowedCidr=0.0.0.0/0: the whole internet reaches port 8000, and "
                f"{'there is no TLS' if off else 'it takes plain HTTP'}: clients "
                f"{'' if off else 'that use http:// '}send the credential unencrypted. Set "
                "tls=required, which refuses plain requests, or allowedCidr to your own networks.",
            )
