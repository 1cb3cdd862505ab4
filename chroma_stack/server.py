"""One Chroma server on one instance that heals itself and keeps its data and address."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypedDict

import aws_cdk as cdk
from aws_cdk import aws_autoscaling as autoscaling
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_logs as logs
from aws_cdk import aws_route53 as route53
from aws_cdk import aws_secretsmanager as secretsmanager
from aws_cdk import aws_sns as sns
from constructs import Construct

from chroma_stack import address as addresses
from chroma_stack import (
    backups,
    chroma_config,
    container_network,
    maintenance,
    monitoring,
    protection,
    storage,
    user_data,
    users,
)
from chroma_stack.alarms import ChromaAlarms
from chroma_stack.auth import AuthMode, ChromaAuth, parse_origin
from chroma_stack.backups import DEFAULT_BACKUP_RETENTION, DEFAULT_BACKUP_SCHEDULE, BackupSchedule
from chroma_stack.endpoint import PORT, Endpoint, IChromaServer, ImportedServer
from chroma_stack.errors import SettingError
from chroma_stack.image import ChromaImage
from chroma_stack.instance import (
    DEFAULT_INSTANCE_TYPE,
    InstanceRole,
    InstanceTemplate,
    SingletonGroup,
)
from chroma_stack.monitoring import ChromaMonitoring
from chroma_stack.network import select_subnet
from chroma_stack.program import Program
from chroma_stack.schedule import DEFAULT_TIME_ZONE, StopAndStart
from chroma_stack.secrets import SecretArn
from chroma_stack.tls import ChromaTls, TlsMode
from chroma_stack.tracing import ChromaTracing
from chroma_stack.users import ChromaAccess, ChromaUser
from chroma_stack.version import DEFAULT_VERSION, ChromaVersion

if TYPE_CHECKING:
    from typing_extensions import Unpack

_LONGEST_NAME = 127
"""A tag's value may have 256 characters, and the name of a stack, which precedes it, 128:
https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/Using_Tags.html#tag-restrictions"""


class ChromaServerOptions(TypedDict, total=False):
    """The properties of a :class:`ChromaServer` beside its VPC; all can be left out."""

    vpc_subnets: ec2.SubnetSelection
    """Where in the VPC; the instance and its volume are placed in the first subnet of the
    selection. In a public one the server has an Elastic IP, in any other a private address and
    a name for it. A subnet that the VPC does not know counts as a public one. Default: the
    private subnets with a way to the internet, else the isolated ones, else the public ones.
    Isolated ones need VPC endpoints, and an image in Amazon ECR: ``docs/private-networks.md``."""

    hosted_zone: route53.IHostedZone
    """The zone for the record that leads to the server. Default: that of ``tls``; without one,
    in a public subnet none, in any other a private one of the server's own, for this VPC."""

    domain_name: str
    """The name that clients use. Default: that of ``tls``; without one, in a zone that is given
    the construct's id in small letters, within it, else in a public subnet the public DNS name of
    the Elastic IP, in any other the name of the server's own zone. In a public subnet without a zone
    the record is yours to make."""

    security_groups: Sequence[ec2.ISecurityGroup]
    """The security groups of the instance. Default: a new one that lets nobody in."""

    instance_type: ec2.InstanceType
    """The type of the instance, x86-64 or Graviton, with at least 2 GiB of memory. Default:
    ``t3.small``."""

    machine_image: ec2.IMachineImage
    """An AMI that behaves like Amazon Linux 2023, with the root device ``/dev/xvda``. Default:
    the current Amazon Linux 2023, looked up each time an instance is launched."""

    root_volume_size: cdk.Size
    """Size of the instance's root volume, at least that of the AMI. It is encrypted. Default:
    that of the AMI."""

    key_pair: ec2.IKeyPair
    """An EC2 key pair for SSH. A ``ChromaServer`` opens no port for it. Default: none;
    Session Manager works without."""

    version: ChromaVersion
    """The release of Chroma. Default: 1.5.9."""

    image: ChromaImage
    """Where the container image comes from. Default: the official one."""

    container_cidr: str
    """The range of the network between the proxy and Chroma inside the instance, with a prefix
    from /16 to /29. Change it when clients, the collector or what your own commands call are in
    it. Default: ``198.18.0.0/29``, of a range that no network routes."""

    auth: ChromaAuth
    """What clients must send. Default: a generated token."""

    tls: ChromaTls
    """TLS on the server's port, and where its certificate comes from. Default: both plain HTTP
    and TLS, with a certificate of an authority of the server's own."""

    cors_allow_origins: Sequence[str]
    """Origins (``https://app.example.com``, or ``*``) whose pages may call the server from a
    browser. Default: none."""

    config: Mapping[str, Any]
    """Chroma's own configuration, by the keys of its file
    (https://docs.trychroma.com/guides/deploy/single-node), for what has no property here, e.g.
    ``{"max_payload_size_bytes": 100_000_000}``. Only for releases from 1.0 on. Chroma ignores
    keys that it does not know. Default: what the image holds."""

    tracing: ChromaTracing
    """Where traces go. Default: nowhere."""

    monitoring: ChromaMonitoring | None
    """Has the instance send its log, and memory, disk and swap, to CloudWatch. Default: none in a
    ``ChromaServer``; in a ``ChromaStack`` ``ChromaMonitoring()``, which ``None`` turns off."""

    volume: ec2.IVolume
    """The data volume of an earlier server, in the zone of the subnet, to go on with. It stays
    when this server is removed, and ``backup_retention`` does not include it. What is about a new
    volume (``volume_size``, ``volume_iops``, ``volume_throughput``, ``snapshot_id``,
    ``storage_encryption_key``, ``backup_schedule``, ``backup_copy_region``) is refused beside it.
    Default: a new volume, which belongs to this server."""

    volume_size: cdk.Size
    """Size of the data volume. It may grow later, never shrink. Default: 24 GiB."""

    max_volume_size: cdk.Size
    """Size up to which the instance has the data volume grow when it has had a tenth or less
    free for five minutes, also a ``volume`` that is given. Default: it does not grow by itself."""

    volume_iops: int
    """Reads and writes a second of the data volume, 3,000 to 80,000; above 3,000 at most 500 for
    each GiB of its size. Default: 3,000."""

    volume_throughput: int
    """MiB a second of the data volume, 125 to 2,000, at most a quarter of its IOPS. Default:
    125."""

    snapshot_id: str
    """The snapshot of a data volume to start from. Another value later replaces the volume.
    Default: an empty volume."""

    start_empty: bool
    """Whether the server may start on an empty volume although it had data on another one.
    Default: no, so that a forgotten ``snapshot_id`` does not bring up an empty server."""

    backup_schedule: BackupSchedule
    """When snapshots of the data volume are taken. Default: every night at 03:00 UTC."""

    backup_retention: cdk.Duration
    """For how many days these snapshots, and their copies, are kept; zero for none.
    Default: 7 days."""

    backup_copy_region: str
    """Another region that each of these snapshots is copied to, encrypted. Default: none."""

    backup_copy_key: kms.IKey
    """The KMS key of the copies, in that region: ``kms.Key.from_key_arn``. Default: the account's
    key for EBS there."""

    storage_encryption_key: kms.IKey
    """The KMS key of the data volume. Default: the account's key for EBS."""

    removal_policy: cdk.RemovalPolicy
    """What happens to the data volume when the server is removed or its volume replaced.
    Default: SNAPSHOT, a last snapshot of it is kept. Those of ``backup_schedule`` stay too, and
    nothing deletes them any more."""

    deletion_protection: bool
    """Whether Auto Scaling refuses to delete the group, and a deletion that comes about all the
    same leaves the data volume itself, unless there is a ``removal_policy``. In a
    :class:`ChromaStack` the stack is protected too. Turn it on when the server has been
    deployed: what is protected cannot be rolled back either. To turn it off, give ``False``.
    Default: no."""

    maintenance_window: str
    """When the instance is replaced by a patched one, by UTC: ``sun:04:00`` for every Sunday,
    ``first-sun:04:00`` for the first one of each month. It means a few minutes of downtime.
    Skipped while the last boot failed. Default: never by itself."""

    unattended_security_updates: bool | cdk.IResolvable
    """Whether the instance installs security updates of Amazon Linux once a day. Some of them
    restart Chroma. Default: no."""

    stop_schedule: autoscaling.Schedule
    """When the server stops, with ``start_schedule`` only. Volume and address stay. Default:
    never."""

    start_schedule: autoscaling.Schedule
    """When it starts again, with ``stop_schedule`` only; it answers some minutes later. Default:
    never."""

    schedule_time_zone: cdk.TimeZone
    """The time zone of both schedules. Default: UTC."""

    user_data_before: ec2.UserData | Sequence[str]
    """Shell commands for the instance, as root, before anything else that it does, under ``set
    -euo pipefail``: one that fails is a failed boot, and the stack's events say so. Their time
    counts for the boot's. Default: none."""

    user_data_after: ec2.UserData | Sequence[str]
    """Shell commands for after the boot, likewise. The server is in use by then: one that fails
    ends them, and only the instance's log says so. Default: none."""

    user_data_environment: Mapping[str, str]
    """Environment variables for these commands; names in capitals, values of one line, which may
    be tokens. Default: none."""


class ChromaServer(IChromaServer):
    """A Chroma server in a VPC of yours.

    One instance in an Auto Scaling group of its own, the data on a volume and the address on an
    Elastic IP, or in a private subnet on a network interface: both stay when the instance is
    replaced. Nothing may reach its port until it is allowed, e.g. by
    ``server.grant_connect(function)``.
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
        tls: bool = False,
        ca_certificate_parameter_name: str | None = None,
    ) -> IChromaServer:
        """A server that was made elsewhere, e.g. in another app, to be reached from here.

        :param hostname: its name or address.
        :param port: its port. Default: 8000.
        :param security_group: what its ``connections`` open.
        :param secret: holds its credential, or that of a user of it. Default: none is known, and
            ``grant_read_credential`` raises.
        :param tls: whether its URL begins with ``https``. Default: no.
        :param ca_certificate_parameter_name: the parameter of Systems Manager that holds the
            certificate of its own authority. Default: none is known, and
            ``grant_read_ca_certificate`` raises.
        """
        return ImportedServer(
            scope,
            construct_id,
            endpoint=Endpoint(hostname, port, "https" if tls else "http"),
            security_group=security_group,
            secret=secret,
            ca_certificate_parameter_name=ca_certificate_parameter_name,
        )

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        vpc: ec2.IVpc,
        **options: Unpack[ChromaServerOptions],
    ) -> None:
        """
        :param vpc: the VPC that the server is placed in.
        :param options: the further properties: :class:`ChromaServerOptions`.
        :raises SettingError: when a value is none that the server could run with; the
            message names the property, the value and what is allowed.
        """
        refuse_unknown(options, ChromaServerOptions)
        super().__init__(scope, construct_id)
        self.version: ChromaVersion = options.get("version", DEFAULT_VERSION)
        """The release of Chroma."""
        self.auth: ChromaAuth = options.get("auth", ChromaAuth.token())
        """What clients must send."""
        self.tls: ChromaTls = options.get("tls", ChromaTls.own_authority())
        """TLS on the port, and where its certificate comes from."""
        self._name_everything()
        subnet = select_subnet(vpc, options.get("vpc_subnets") or ec2.SubnetSelection())
        groups = list(options.get("security_groups", ())) or [self._security_group(vpc)]
        self._connections = ec2.Connections(security_groups=groups, default_port=ec2.Port.tcp(PORT))
        self._role = InstanceRole(self)

        volume = self._bind_volume(self._role, subnet, options)
        self.volume: ec2.IVolume = volume.volume
        """The volume that holds the data."""
        # The longest time between two snapshots; None when there are none.
        self._backup_hours = volume.backup_hours

        self._address = self._take_address(vpc, subnet, groups, options)
        self._address.grant_take(self._role)

        auth = self.auth._bind(self, self._role)
        self._secret = auth.secret
        self._users: dict[str, ChromaUser] = {}
        if self.auth.mode is AuthMode.NONE:
            cdk.Annotations.of(self).add_warning_v2(
                "chroma-stack:auth-none",
                "auth is none: whoever reaches the server's port reads and writes "
                "everything in it.",
            )

        tls = self.tls._bind(self, self._role, address=self._address)
        self._ca_certificate_parameter_name = tls.ca_certificate_parameter_name
        if self.tls.mode is TlsMode.OFF:
            cdk.Annotations.of(self).add_warning_v2(
                "chroma-stack:tls-off",
                "tls is off: clients send the credential and the data unencrypted. Set tls to "
                "required, or to optional.",
            )

        self._log_group, log_settings = self._monitor(options.get("monitoring"))
        program = Program(self, self._role)
        commands = ec2.UserData.for_linux()
        self.auto_scaling_group: SingletonGroup = self._group(
            vpc, subnet, groups, commands, options
        )
        """The group that keeps the one instance alive."""
        self.auto_scaling_group.node.add_dependency(*tls.needed)
        self._look_after(options)
        commands.add_commands(
            user_data.render(
                self,
                {
                    "STACK": cdk.Aws.STACK_NAME,
                    "SERVER": self._role.server_name,
                    "REGION": cdk.Stack.of(self).region,
                    "GROUP": self.auto_scaling_group.logical_id,
                    **program.host_settings,
                    **volume.host_settings,
                    "START_EMPTY": "true" if options.get("start_empty") else "false",
                    **self._address.host_settings,
                    **self._chroma_settings(options),
                    **auth.host_settings,
                    **tls.host_settings,
                    **log_settings,
                    **maintenance.host_settings(
                        options.get("maintenance_window", ""),
                        options.get("unattended_security_updates", False),
                    ),
                },
                before=options.get("user_data_before", ()),
                after=options.get("user_data_after", ()),
                environment=options.get("user_data_environment"),
            )
        )

    # jsii finds a property of an interface only when the class has it.
    @property
    def connections(self) -> ec2.Connections:
        """Who may reach the server: nobody, until allowed. The default port is 8000."""
        return self._connections

    @property
    def endpoint(self) -> Endpoint:
        """Where clients reach the server: its ``domain_name``, else the public DNS name of its
        Elastic IP, which inside the VPC resolves to the private address, or its private name.
        The URL begins with ``https`` when plain HTTP is refused, or when clients trust the
        certificate by themselves."""
        return Endpoint(self._address.hostname, PORT, self.tls.scheme)

    @property
    def ip_address(self) -> str:
        """The Elastic IP, or the private address in another subnet than a public one."""
        return self._address.ip_address

    @property
    def secret(self) -> secretsmanager.ISecret | None:
        """Its plain string is the credential: the token, or ``user:password``. ``None`` when
        there is no authentication."""
        return self._secret

    @property
    def users(self) -> Mapping[str, ChromaUser]:
        """The users that were added, by their names."""
        return self._users

    def add_user(
        self,
        name: str,
        *,
        access: ChromaAccess,
        secret: secretsmanager.ISecret | SecretArn | None = None,
    ) -> ChromaUser:
        """Add a user with a credential of its own. The server takes it up within a minute of the
        deployment, and refuses it within a minute of its removal; no instance is replaced.

        :param name: a lower-case letter, followed by up to 30 lower-case letters, digits and
            hyphens; not ``admin`` or ``chroma``, which the main credential has.
        :param access: what the user may do.
        :param secret: holds the user's token as its plain string: ASCII letters, digits and
            punctuation, no spaces. Default: a new secret with a generated token.
        :raises SettingError: when there can be no such user, or the server has no
            authentication.
        """
        if self.auth.mode is AuthMode.NONE:
            raise SettingError("users", name, "only with auth=token or auth=basic")
        if name in self._users:
            raise SettingError("users", name, users.ONCE)
        user = ChromaUser(
            self,
            f"User-{name}",
            role=self._role,
            user_name=name,
            access=access,
            secret=secret,
        )
        taken = [it for it in (self._secret, *(it.secret for it in self._users.values())) if it]
        if user.secret.secret_arn in [it.secret_arn for it in taken]:
            raise SettingError(
                "secret", secret, "another one than that of the main credential and of other users"
            )
        return self._keep(user)

    def _keep(self, user: ChromaUser) -> ChromaUser:
        self._users[user.user_name] = user
        return user

    def _check_user(self, user: ChromaUser | None) -> None:
        if user is not None and user not in self._users.values():
            raise SettingError("user", user.user_name, "one that add_user of this server returned")

    @property
    def ca_certificate_parameter_name(self) -> str | None:
        """The parameter of Systems Manager that the server writes the certificate of its own
        authority to. ``None`` without TLS. With a certificate from elsewhere it is of use only
        until that one is there."""
        return self._ca_certificate_parameter_name

    @property
    def _needs_ca_certificate(self) -> bool:
        return self.endpoint.scheme == "https" and self.tls._trusted_by_file

    @property
    def role(self) -> iam.Role:
        """The role of the instance. What commands of your own need beyond what the server
        does, give it by ``server.role.add_to_principal_policy(statement)``, or by the
        ``grant_…`` methods of what they use."""
        return self._role

    @property
    def log_group(self) -> logs.ILogGroup | None:
        """What the instance sends its log to. ``None`` without ``monitoring``."""
        return self._log_group

    def metric(self, metric_name: str, **props: Any) -> cloudwatch.Metric:
        """A metric of the server's own (``docs/monitoring.md``), or else one that EC2 has of the
        instance (the average over 5 minutes), by its name.

        https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/viewing_metrics_with_cloudwatch.html

        :param metric_name: such as ``Requests``, or ``NetworkOut``.
        :param props: those of ``cloudwatch.Metric``, such as ``statistic`` and ``period``.
        :raises SettingError: when the metric is the server's own, and it has no ``monitoring``.
        """
        if metric_name in monitoring.METRICS:
            if self._log_group is None:
                raise SettingError(
                    "monitoring", None, f"a ChromaMonitoring, which makes the metric {metric_name}"
                )
            server = self._role.server_name
            return monitoring.metric(server, metric_name, props).attach_to(self)
        group = self.auto_scaling_group.auto_scaling_group_name
        return self._metric("AWS/EC2", metric_name, {"AutoScalingGroupName": group}, props)

    def metric_cpu_utilization(self, **props: Any) -> cloudwatch.Metric:
        """How busy the instance's processors are, in percent; the average over 5 minutes.

        https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/viewing_metrics_with_cloudwatch.html

        :param props: those of ``cloudwatch.Metric``, such as ``statistic`` and ``period``.
        """
        return self.metric("CPUUtilization", **props)

    def metric_status_check_failed(self, **props: Any) -> cloudwatch.Metric:
        """Whether EC2 finds the instance, or what it runs on, impaired: 1 when so, else 0; the
        maximum over 5 minutes. The group replaces such an instance by itself.

        https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/viewing_metrics_with_cloudwatch.html

        :param props: those of ``cloudwatch.Metric``, such as ``statistic`` and ``period``.
        """
        return self.metric("StatusCheckFailed", **{"statistic": "Maximum", **props})

    def metric_requests(self, **props: Any) -> cloudwatch.Metric:
        """How many requests the proxy answered or refused; a count, summed over 5 minutes. No value
        means no request.

        :param props: those of ``cloudwatch.Metric``, such as ``statistic`` and ``period``.
        :raises SettingError: when the server has no ``monitoring``.
        """
        return self.metric("Requests", **props)

    def metric_errors(self, **props: Any) -> cloudwatch.Metric:
        """How many requests ended with a status of 500 or above, except 507, with which the proxy
        refuses writes before memory or disk are full; a count, summed over 5 minutes. No value means no
        error.

        :param props: those of ``cloudwatch.Metric``, such as ``statistic`` and ``period``.
        :raises SettingError: when the server has no ``monitoring``.
        """
        return self.metric("Errors", **props)

    def metric_refusals(
        self, status: int | None = None, *, user: str | None = None, **props: Any
    ) -> cloudwatch.IMetric:
        """How many requests the proxy refused; a count, summed over 5 minutes. No value means no
        refusal.

        :param status: 401 (no credential, or a wrong one), 403 (not allowed), 429 (too many) or 507
            (no room left); of a user 401 (a credential that is accepted no more) or 403 (more than
            its access). Default: the sum of all.
        :param user: of the user with this name, such as ``search``; the main credential's is
            ``admin``, or the name in it. Default: of all requests.
        :param props: those of ``cloudwatch.Metric``, such as ``statistic`` and ``period``.
        :raises SettingError: when the server has no ``monitoring``, or the status is another.
        """
        statuses = monitoring.REFUSALS if user is None else monitoring.REFUSALS_BY_USER
        if status is None:
            each = {f"status{it}": self.metric_refusals(it, user=user, **props) for it in statuses}
            period = {key: value for key, value in props.items() if key == "period"}
            # Filled, since there are no values for what did not happen.
            filled = ", ".join(f"FILL({name}, 0)" for name in each)
            return cloudwatch.MathExpression(
                expression=f"SUM([{filled}])", using_metrics=each, label="Refusals", **period
            )
        if status not in statuses:
            raise SettingError("status", status, ", ".join(map(str, statuses)))
        dimensions = {"Status": str(status)}
        if user is None:
            return self.metric("Refusals", **{"dimensions_map": dimensions, **props})
        dimensions["User"] = user
        return self.metric("RefusalsByUser", **{"dimensions_map": dimensions, **props})

    def metric_latency(self, **props: Any) -> cloudwatch.Metric:
        """How long requests took in all, from the first byte to the last, in milliseconds; the 99th
        percentile over 5 minutes; ``statistic="p50"`` is the median. No value means no request.

        :param props: those of ``cloudwatch.Metric``, such as ``statistic`` and ``period``.
        :raises SettingError: when the server has no ``monitoring``.
        """
        return self.metric("Latency", **props)

    def metric_heartbeat(self, **props: Any) -> cloudwatch.Metric:
        """Whether Chroma answers: 1 or 0, once a minute; the minimum over 5 minutes. No value means
        that the instance is stopped, boots, or does not reach CloudWatch.

        :param props: those of ``cloudwatch.Metric``, such as ``statistic`` and ``period``.
        :raises SettingError: when the server has no ``monitoring``.
        """
        return self.metric("Heartbeat", **props)

    def metric_memory_utilization(self, **props: Any) -> cloudwatch.Metric:
        """How much of its limit Chroma's memory takes that cannot be reclaimed, in percent; the
        maximum over 5 minutes. At 100 the kernel ends it. No value: as in ``metric_heartbeat``.

        :param props: those of ``cloudwatch.Metric``, such as ``statistic`` and ``period``.
        :raises SettingError: when the server has no ``monitoring``.
        """
        return self.metric("MemoryUtilization", **props)

    def metric_host_memory_utilization(self, **props: Any) -> cloudwatch.Metric:
        """How much of the instance's memory is in use, in percent; the maximum over 5 minutes. No
        value means that the agent does not run, or as in ``metric_heartbeat``.

        :param props: those of ``cloudwatch.Metric``, such as ``statistic`` and ``period``.
        :raises SettingError: when the server has no ``monitoring``.
        """
        return self.metric("mem_used_percent", **props)

    def metric_disk_utilization(self, **props: Any) -> cloudwatch.Metric:
        """How full the data volume's file system is, in percent; the maximum over 5 minutes. No
        value: as in ``metric_host_memory_utilization``.

        :param props: those of ``cloudwatch.Metric``, such as ``statistic`` and ``period``.
        :raises SettingError: when the server has no ``monitoring``.
        """
        return self.metric("disk_used_percent", **props)

    def metric_swap_utilization(self, **props: Any) -> cloudwatch.Metric:
        """How much of the instance's swap is in use, in percent; the maximum over 5 minutes; 0
        where there is none. No value: as in ``metric_host_memory_utilization``.

        :param props: those of ``cloudwatch.Metric``, such as ``statistic`` and ``period``.
        :raises SettingError: when the server has no ``monitoring``.
        """
        return self.metric("swap_used_percent", **props)

    def metric_index_repairs(self, **props: Any) -> cloudwatch.Metric:
        """How many damaged indexes of collections were found before a start of Chroma, and
        repaired, or could not be; a count, summed over 5 minutes. No value means none.

        :param props: those of ``cloudwatch.Metric``, such as ``statistic`` and ``period``.
        :raises SettingError: when the server has no ``monitoring``.
        """
        return self.metric("IndexRepairs", **props)

    def metric_boot_failures(self, **props: Any) -> cloudwatch.Metric:
        """How many boots failed; a count, summed over 5 minutes. No value means none, or that the
        instance could not send its log.

        :param props: those of ``cloudwatch.Metric``, such as ``statistic`` and ``period``.
        :raises SettingError: when the server has no ``monitoring``.
        """
        return self.metric("BootFailures", **props)

    def metric_backup_age(self, **props: Any) -> cloudwatch.Metric:
        """How long ago the last complete snapshot of the data volume by the schedule was begun, in
        hours; the maximum over 5 minutes. While there is none it is how long the server has had
        the volume. No value means that there are no backups, or as in ``metric_heartbeat``.

        :param props: those of ``cloudwatch.Metric``, such as ``statistic`` and ``period``.
        :raises SettingError: when the server has no ``monitoring``.
        """
        return self.metric("BackupAge", **props)

    def metric_certificate_days(self, **props: Any) -> cloudwatch.Metric:
        """For how many more days the certificate that the server shows is valid; the minimum over
        5 minutes. No value means that there is no TLS, or as in ``metric_heartbeat``.

        :param props: those of ``cloudwatch.Metric``, such as ``statistic`` and ``period``.
        :raises SettingError: when the server has no ``monitoring``.
        """
        return self.metric("CertificateDays", **props)

    def metric_volume_read_ops(self, **props: Any) -> cloudwatch.Metric:
        """How many reads of the data volume there were; a count, summed over 5 minutes. Many
        mean that the instance's memory does not hold what is asked for.

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

    def add_alarms(self, topic: sns.ITopic) -> ChromaAlarms:
        """Alarms for a server that does not answer, memory, disk, errors, failed boots, repaired
        indexes, the certificate, and a missing backup.

        :param topic: that they are sent to.
        :raises SettingError: when the server has no ``monitoring``.
        """
        return ChromaAlarms(self, "Alarms", server=self, topic=topic)

    def _volume_metric(
        self, metric_name: str, statistic: str, props: Mapping[str, Any]
    ) -> cloudwatch.Metric:
        return self._metric(
            "AWS/EBS",
            metric_name,
            {"VolumeId": self.volume.volume_id},
            {"statistic": statistic, **props},
        )

    def _metric(
        self,
        namespace: str,
        metric_name: str,
        dimensions: Mapping[str, str],
        props: Mapping[str, Any],
    ) -> cloudwatch.Metric:
        return cloudwatch.Metric(
            namespace=namespace, metric_name=metric_name, dimensions_map=dimensions, **props
        ).attach_to(self)

    def _monitor(
        self, given: ChromaMonitoring | None
    ) -> tuple[logs.ILogGroup | None, dict[str, str]]:
        if given is None:
            return None, {}
        return given._bind(self, self._role)

    def _name_everything(self) -> None:
        """Name everything in the console after the stack as it is deployed, which for the
        published template is not known at synth."""
        cdk.Tags.of(self).add(
            "Name",
            cdk.Fn.sub("${AWS::StackName}/" + self.node.id[:_LONGEST_NAME].replace("${", "${!")),
            priority=150,  # above the names that aws-cdk-lib's constructs give themselves
            exclude_resource_types=["AWS::SSM::Parameter"],  # which have names of their own
        )

    def _security_group(self, vpc: ec2.IVpc) -> ec2.SecurityGroup:
        return ec2.SecurityGroup(
            self,
            "SecurityGroup",
            vpc=vpc,
            description="Who may reach the Chroma server",
        )

    def _bind_volume(
        self, role: InstanceRole, subnet: ec2.ISubnet, options: ChromaServerOptions
    ) -> storage.VolumeBinding:
        """The volume that is given, or one of the server's own, with its snapshots."""
        max_size = options.get("max_volume_size")
        if "volume" in options:
            volume = options["volume"]
            storage.refuse_new_volume("volume", volume.volume_id, options)
            return storage.bind(role, volume, size=None, max_size=max_size, backup_hours=None)
        size = options.get("volume_size", storage.DEFAULT_VOLUME_SIZE)
        own = storage.DataVolume(
            self,
            availability_zone=subnet.availability_zone,
            size=size,
            snapshot_id=options.get("snapshot_id"),
            encryption_key=options.get("storage_encryption_key"),
            removal_policy=options.get("removal_policy", cdk.RemovalPolicy.SNAPSHOT),
            iops=options.get("volume_iops"),
            throughput=options.get("volume_throughput"),
        )
        if options.get("deletion_protection") and "removal_policy" not in options:
            protection.keep_volume(own)
        hours = self._back_up(own, options)
        return storage.bind(role, own, size=size, max_size=max_size, backup_hours=hours)

    def _back_up(self, volume: storage.DataVolume, options: ChromaServerOptions) -> int | None:
        """Snapshots by the schedule; returns the hours between them, if there are any."""
        retention = options.get("backup_retention", DEFAULT_BACKUP_RETENTION)
        if backups.retained_days(retention) == 0:
            backups.refuse_without_backups("backupRetentionDays=0", options, "there are none")
            return None
        schedule = options.get("backup_schedule", DEFAULT_BACKUP_SCHEDULE)
        backups.Backup(
            self,
            volumes=[volume],
            retention=retention,
            schedule=schedule,
            copy_region=options.get("backup_copy_region"),
            copy_key=options.get("backup_copy_key"),
        )
        return schedule.hours

    def _take_address(
        self,
        vpc: ec2.IVpc,
        subnet: ec2.ISubnet,
        security_groups: Sequence[ec2.ISecurityGroup],
        options: ChromaServerOptions,
    ) -> addresses.Address:
        hosted_zone = options.get("hosted_zone") or self.tls._imported_zone(self)
        domain_name = self.tls._name(options.get("domain_name"))
        if not addresses.is_public(vpc, subnet):
            return addresses.private_name(
                self,
                vpc=vpc,
                subnet=subnet,
                security_groups=security_groups,
                hosted_zone=hosted_zone,
                domain_name=domain_name,
            )
        return self.tls._public_address(self, domain_name=domain_name, hosted_zone=hosted_zone)

    def _group(
        self,
        vpc: ec2.IVpc,
        subnet: ec2.ISubnet,
        security_groups: Sequence[ec2.ISecurityGroup],
        commands: ec2.UserData,
        options: ChromaServerOptions,
    ) -> SingletonGroup:
        template = InstanceTemplate(
            self,
            instance_type=options.get("instance_type", DEFAULT_INSTANCE_TYPE),
            machine_image=options.get("machine_image"),
            root_volume_size=options.get("root_volume_size"),
            key_pair=options.get("key_pair"),
            role=self._role,
            security_groups=security_groups,
            user_data=commands,
            public=self._address.is_public,
        )
        return SingletonGroup(
            self,
            vpc=vpc,
            subnet=subnet,
            launch_template=template,
            role=self._role,
        )

    def _look_after(self, options: ChromaServerOptions) -> None:
        group = self.auto_scaling_group
        if "deletion_protection" in options:
            protection.protect_group(group, options["deletion_protection"])
        if "maintenance_window" in options:
            maintenance.MaintenanceWindow(
                self, window=options["maintenance_window"], group=group, role=self._role
            )
        if options.keys() & {"stop_schedule", "start_schedule"}:
            StopAndStart(
                self,
                group=group,
                stop=options.get("stop_schedule"),
                start=options.get("start_schedule"),
                time_zone=options.get("schedule_time_zone", DEFAULT_TIME_ZONE),
            )

    def _chroma_settings(self, options: ChromaServerOptions) -> dict[str, str]:
        """What the instance has to know of Chroma itself and its surroundings."""
        tracing = options.get("tracing")
        image = options.get("image", ChromaImage.official())
        network = container_network.parse(
            options.get("container_cidr", container_network.DEFAULT_CONTAINER_CIDR)
        )
        origins = map(parse_origin, options.get("cors_allow_origins", ()))
        return {
            "VERSION": str(self.version),
            "IMAGE": image._bind(self, self.version, self._role),
            "CHROMA_CONFIG": chroma_config.host_setting(options.get("config"), self.version),
            **container_network.host_settings(network),
            "CORS_ALLOW_ORIGINS": " ".join(origins),
            **({} if tracing is None else tracing._bind(self, self._role)),
        }


def refuse_unknown(options: Mapping[str, Any], known: Any) -> None:
    """Raise what Python raises for an unknown keyword, which it does not do for those that a
    ``TypedDict`` names."""
    for name in options.keys() - known.__optional_keys__:
        raise TypeError(f"unexpected property {name!r}")
