"""The published template: the same server, with CloudFormation parameters as its settings.

``python -m chroma_stack.published_template FILE`` writes it. The names and meanings of Chroma's own
template, which its documentation teaches, are kept; ours are added.
"""

from __future__ import annotations

import argparse
import inspect
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import aws_cdk as cdk
from aws_cdk import aws_autoscaling as autoscaling
from aws_cdk import aws_dlm as dlm
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs
from aws_cdk import aws_route53 as route53
from aws_cdk import aws_secretsmanager as secretsmanager
from constructs import Construct, IConstruct

from chroma_stack import address as addresses
from chroma_stack import auth, instance, monitoring, network, storage, tls, tracing
from chroma_stack.alarms import AlarmTopic
from chroma_stack.auth import AuthBinding, AuthMode, ChromaAuth, TokenHeader
from chroma_stack.backups import DEFAULT_BACKUP_SCHEDULE, Backup
from chroma_stack.context import SECTIONS
from chroma_stack.instance import InstanceRole, MachineImageId, arn
from chroma_stack.monitoring import ChromaMonitoring, MonitoringBinding
from chroma_stack.outputs import of as outputs_of
from chroma_stack.server import ChromaServer, ChromaServerOptions
from chroma_stack.settings import Setting
from chroma_stack.tls import ChromaTls, TlsBinding, TlsMode
from chroma_stack.users import ChromaAccess, ChromaUser
from chroma_stack.version import ChromaVersion

if TYPE_CHECKING:
    from typing_extensions import Unpack

NAME = "chroma.cf.json"
"""What the file is called where it is published."""

_NO_HEADERS = ("", "{}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the template to a file.

    :param arguments: those of the command. Default: the process's own.
    """
    parser = argparse.ArgumentParser(
        prog="python -m chroma_stack.published_template",
        description="Writes the CloudFormation template for people without the CDK.",
    )
    parser.add_argument("file", type=Path, help=f"where to write it, such as dist/{NAME}")
    path: Path = parser.parse_args(arguments).file
    if path.suffix != ".json":
        parser.error(f"{str(path)!r} is refused: a file's name that ends with .json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text())


def text() -> str:
    """The template, as it is published."""
    # aws-cdk-lib's own check, which older releases do not have, mistakes the empty defaults of
    # parameters for values; cfn-lint does not.
    own_check = "builtin_cloud_formation_validation"
    known = inspect.signature(cdk.App.__init__).parameters
    options: dict[str, Any] = {own_check: False} if own_check in known else {}
    app = cdk.App(analytics_reporting=False, tree_metadata=False, **options)
    stack = PublishedTemplate(app)
    template = app.synth().get_stack_by_name(stack.stack_name).template
    return json.dumps(template, indent=2) + "\n"


def _parameter(scope: Construct, setting: Setting) -> cdk.CfnParameter:
    """The row of a setting as a parameter. Without a default it may be empty."""
    may_be_empty = not setting.default
    pattern = f"|{setting.pattern}" if may_be_empty else setting.pattern
    words = ", or empty" if may_be_empty else ""
    without = f" Empty: {setting.without}." if may_be_empty else ""
    return cdk.CfnParameter(
        scope,
        setting.parameter,
        type="Number" if setting.largest else "String",
        default=int(setting.default) if setting.largest else setting.default,
        description=f"{setting.meaning}{without}".replace("`", ""),
        allowed_pattern=f"^({pattern})$" if setting.pattern else None,
        constraint_description=f"must be {setting.allowed}{words}" if setting.allowed else None,
        allowed_values=[*([""] if may_be_empty else []), *setting.values] or None
        if setting.values
        else None,
        no_echo=True if setting.hidden else None,
        min_value=1 if setting.largest else None,
        max_value=setting.largest or None,
        max_length=setting.longest or None,
    )


class PublishedTemplate(cdk.Stack):
    """A stack whose template is deployed under any name, by people who know no CDK."""

    def __init__(self, scope: Construct) -> None:
        super().__init__(
            scope,
            "PublishedTemplate",
            description="A Chroma vector database on one EC2 instance",
            synthesizer=cdk.LegacyStackSynthesizer(),
        )
        self._parameters = {
            setting.parameter: _parameter(self, setting)
            for settings in SECTIONS.values()
            for setting in settings
            if setting.parameter
        }
        self._add_conditions()
        self._add_rules()
        self._add_server()
        self._add_outputs()
        self.template_options.metadata = {
            "AWS::CloudFormation::Interface": {
                "ParameterGroups": [
                    {"Label": {"default": label}, "Parameters": names}
                    for label, settings in SECTIONS.items()
                    if (names := [it.parameter for it in settings if it.parameter])
                ]
            }
        }

    def _condition(self, name: str, expression: cdk.ICfnConditionExpression) -> cdk.CfnCondition:
        return cdk.CfnCondition(self, name, expression=expression)

    def _given(self, name: str, parameter: str, empty: Iterable[str] = ("",)) -> cdk.CfnCondition:
        return self._condition(name, cdk.Fn.condition_not(self._is_one_of(parameter, empty)))

    def _is_one_of(self, parameter: str, values: Iterable[str]) -> cdk.ICfnConditionExpression:
        value = self._parameters[parameter].value_as_string
        return _any(cdk.Fn.condition_equals(value, one) for one in values)

    def _add_conditions(self) -> None:
        self.has_key_name = self._given("HasKeyName", "KeyName")
        self.has_ssh_cidr = self._given("HasSshCidr", "SshCidr")
        self.has_image_id = self._given("HasImageId", "ImageId")
        self.has_root_volume_size = self._given("HasRootVolumeSize", "RootVolumeSize")
        self.has_max_volume_size = self._given("HasMaxVolumeSize", "MaxVolumeSize")
        self.has_volume_iops = self._given("HasVolumeIops", "VolumeIops")
        self.has_volume_throughput = self._given("HasVolumeThroughput", "VolumeThroughput")
        self.has_copy_region = self._given("HasBackupCopyRegion", "BackupCopyRegion")
        self.has_snapshot = self._given("HasSnapshot", "SnapshotId")
        self.has_no_snapshot = self._condition("HasNoSnapshot", self._is_one_of("SnapshotId", [""]))
        self.has_vpc = self._given("HasVpc", "VpcId")
        self.has_no_vpc = self._condition("HasNoVpc", self._is_one_of("VpcId", [""]))
        self.has_auth = self._given("HasAuth", "ChromaServerAuthProvider")
        self.is_basic = self._condition(
            "IsBasic", self._is_one_of("ChromaServerAuthProvider", auth.BASIC_CLASSES)
        )
        self.is_authorization = self._condition(
            "IsAuthorization",
            self._is_one_of("ChromaAuthTokenTransportHeader", TokenHeader.AUTHORIZATION.names),
        )
        self.is_x_chroma_token = self._condition(
            "IsXChromaToken",
            self._is_one_of("ChromaAuthTokenTransportHeader", TokenHeader.X_CHROMA_TOKEN.names),
        )
        self.has_reader = self._given("HasReaderUser", "ReaderUser")
        self.has_headers = self._given(
            "HasTraceHeaders", "ChromaOtelCollectionHeaders", _NO_HEADERS
        )
        self.has_monitoring = self._given("HasMonitoring", "Monitoring", ["false"])
        self.has_maintenance = self._given("HasMaintenanceWindow", "MaintenanceWindow")
        self.has_updates = self._condition(
            "HasSecurityUpdates", self._is_one_of("UnattendedSecurityUpdates", ["true"])
        )
        self.has_schedule = self._given("HasSchedule", "StopSchedule")
        self.has_alarm_email = self._given("HasAlarmEmail", "AlarmEmail")
        self._add_tls_conditions()
        self.has_alarm_of_tls = self._condition(
            "HasAlarmOfTls",
            cdk.Fn.condition_and(
                cdk.Fn.condition_not(self._is_one_of("AlarmEmail", [""])),
                cdk.Fn.condition_not(self._is_one_of("TlsMode", [TlsMode.OFF.value])),
            ),
        )
        instance_type = self._text("InstanceType")
        self.is_arm = self._condition(
            "IsArm",
            _any(
                cdk.Fn.condition_not(
                    # Without the mark it would be another text, where it is in it.
                    cdk.Fn.condition_equals(
                        cdk.Fn.join("", cdk.Fn.split(mark, instance_type)), instance_type
                    )
                )
                for mark in instance.GRAVITON_MARKS
            ),
        )

    def _add_tls_conditions(self) -> None:
        no_tls = self._is_one_of("TlsMode", [TlsMode.OFF.value])
        required = self._is_one_of("TlsMode", [TlsMode.REQUIRED.value])
        no_certificate = self._is_one_of("TlsCertificateSecretArn", [""])
        no_zone = self._is_one_of("HostedZoneId", [""])
        own_authority = cdk.Fn.condition_and(cdk.Fn.condition_not(no_tls), no_certificate, no_zone)
        acme = cdk.Fn.condition_and(
            cdk.Fn.condition_not(no_tls), no_certificate, cdk.Fn.condition_not(no_zone)
        )
        self.has_tls = self._given("HasTls", "TlsMode", [TlsMode.OFF.value])
        self.has_certificate = self._given("HasTlsCertificate", "TlsCertificateSecretArn")
        self.has_domain_name = self._given("HasDomainName", "DomainName")
        self.has_hosted_zone = self._given("HasHostedZone", "HostedZoneId")
        self.uses_acme = self._condition("UsesAcme", acme)
        self.has_own_authority = self._condition("HasOwnAuthority", own_authority)
        self.is_https = self._condition(
            "IsHttps",
            cdk.Fn.condition_or(required, cdk.Fn.condition_not(no_certificate), acme),
        )
        self.needs_ca_certificate = self._condition(
            "NeedsCaCertificate", cdk.Fn.condition_and(required, own_authority)
        )

    def _text(self, parameter: str) -> str:
        return self._parameters[parameter].value_as_string

    def _if_given(self, condition: cdk.CfnCondition, parameter: str, otherwise: str) -> str:
        return _either(condition, self._text(parameter), otherwise)

    def _rule(
        self,
        name: str,
        given: str,
        *needed: str,
        empty: Iterable[str] = ("",),
        values: Iterable[str] = (),
    ) -> None:
        """A parameter needs others: any value of theirs, or one of these."""
        wanted, meant = list(values), "needed too"
        if wanted:
            meant = f"needed too, as {' or '.join(wanted)}"
        cdk.CfnRule(
            self,
            name,
            rule_condition=cdk.Fn.condition_not(self._is_one_of(given, empty)),
            assertions=[
                cdk.CfnRuleAssertion(
                    assert_=(
                        cdk.Fn.condition_contains(wanted, self._text(other))
                        if wanted
                        else cdk.Fn.condition_not(self._is_one_of(other, [""]))
                    ),
                    assert_description=f"{given} is given: {other} is {meant}",
                )
                for other in needed
            ],
        )

    def _add_rules(self) -> None:
        provider, credentials = "ChromaServerAuthProvider", "ChromaServerAuthCredentials"
        self._rule("AProviderNeedsCredentials", provider, credentials)
        self._rule("CredentialsNeedAProvider", credentials, provider)
        self._rule(
            "ATokenHeaderNeedsAToken",
            "ChromaAuthTokenTransportHeader",
            provider,
            values=auth.TOKEN_CLASSES,
        )
        self._rule("AReaderNeedsAProvider", "ReaderUser", provider)
        self._rule(
            "TraceHeadersNeedACollector",
            "ChromaOtelCollectionHeaders",
            "ChromaOtelCollectionEndpoint",
            empty=_NO_HEADERS,
        )
        self._rule("AHostedZoneNeedsADomainName", "HostedZoneId", "DomainName")
        self._rule(
            "ACertificateNeedsTls",
            "TlsCertificateSecretArn",
            "TlsMode",
            values=[mode.value for mode in TlsMode if mode is not TlsMode.OFF],
        )
        self._rule("AlarmsNeedMonitoring", "AlarmEmail", "Monitoring", values=["true"])
        place = ("VpcId", "SubnetId", "AvailabilityZone")
        self._rule("AVpcNeedsItsSubnet", *place)
        self._rule("AStopNeedsAStart", "StopSchedule", "StartSchedule")
        self._rule("AStartNeedsAStop", "StartSchedule", "StopSchedule")
        self._rule("ASubnetNeedsItsVpc", "SubnetId", "VpcId", "AvailabilityZone")
        self._rule("AZoneNeedsItsVpc", "AvailabilityZone", "VpcId", "SubnetId")

    def _add_server(self) -> None:
        vpc, zone = self._network()
        empty, restored = self._volumes(zone)
        self.server = _ParameterServer(
            self,
            "Chroma",
            growth=(self.has_max_volume_size, self._text("MaxVolumeSize")),
            vpc=vpc,
            instance_type=ec2.InstanceType(self._text("InstanceType")),
            machine_image=self._machine_image(),
            root_volume_size=self._root_volume_size(),
            key_pair=ec2.KeyPair.from_key_pair_name(
                self,
                "KeyPair",
                self._if_given(self.has_key_name, "KeyName", cdk.Aws.NO_VALUE),
            ),
            version=ChromaVersion.of(self._text("ChromaVersion")),
            volume=ec2.Volume.from_volume_attributes(
                self,
                "Volume",
                volume_id=_either(self.has_snapshot, restored.volume_id, empty.volume_id),
                availability_zone=zone,
            ),
            auth=_ParameterAuth(
                AuthMode.TOKEN,
                provider_given=self.has_auth,
                is_basic=self.is_basic,
                is_authorization=self.is_authorization,
                is_x_chroma_token=self.is_x_chroma_token,
                credentials=self._parameters["ChromaServerAuthCredentials"],
            ),
            tls=_ParameterTls(
                has_tls=self.has_tls,
                has_certificate=self.has_certificate,
                has_domain_name=self.has_domain_name,
                has_hosted_zone=self.has_hosted_zone,
                uses_acme=self.uses_acme,
                is_https=self.is_https,
                needs_ca_certificate=self.needs_ca_certificate,
                mode_text=self._text("TlsMode"),
                certificate=self._text("TlsCertificateSecretArn"),
                name=self._text("DomainName"),
                zone=self._text("HostedZoneId"),
            ),
            monitoring=_ParameterMonitoring(
                has_monitoring=self.has_monitoring, days=self._text("LogRetentionDays")
            ),
            tracing=_ParameterTracing(
                endpoint=self._text("ChromaOtelCollectionEndpoint"),
                service_name=self._text("ChromaOtelServiceName"),
                granularity=self._text("ChromaOtelGranularity"),
                headers_given=self.has_headers,
                header_text=self._parameters["ChromaOtelCollectionHeaders"],
            ),
            maintenance_window=self._text("MaintenanceWindow"),
            unattended_security_updates=cdk.Fn.condition_if(
                self.has_updates.logical_id, "true", ""
            ),
            stop_schedule=autoscaling.Schedule.expression(self._text("StopSchedule")),
            start_schedule=autoscaling.Schedule.expression(self._text("StartSchedule")),
            schedule_time_zone=cdk.TimeZone.of(self._text("ScheduleTimeZone")),
        )
        _under(self.has_maintenance, self.server.node.find_child("Maintenance"))
        _under(self.has_schedule, self.server.node.find_child("Schedule"))
        _under(self.has_reader, self.server.add_reader(self._text("ReaderUser")))
        self._add_backup([empty, restored])
        self._add_alarms()
        self.server.connections.allow_default_port_from(
            ec2.Peer.ipv4(self._text("AllowedCidr")), "Clients"
        )
        self._open_ssh()

    def _add_backup(self, volumes: Sequence[storage.DataVolume]) -> None:
        """Snapshots once a day, as many as days are given; and their copies, where there is a
        region for them."""
        policy = Backup(self.server, volumes=volumes).node.find_child("Policy")
        assert isinstance(policy, dlm.CfnLifecyclePolicy)
        days = self._parameters["BackupRetentionDays"].value_as_number
        copy = {
            "CopyTags": True,
            "Encrypted": True,
            "RetainRule": {"Interval": days, "IntervalUnit": "DAYS"},
            "Target": self._text("BackupCopyRegion"),
        }
        schedule = "PolicyDetails.Schedules.0"
        policy.add_property_override(f"{schedule}.RetainRule.Count", days)
        policy.add_property_override(
            f"{schedule}.CrossRegionCopyRules",
            cdk.Fn.condition_if(self.has_copy_region.logical_id, [copy], {"Ref": "AWS::NoValue"}),
        )

    def _add_alarms(self) -> None:
        topic = AlarmTopic(self, "AlarmTopic", email=self._text("AlarmEmail"))
        alarms = self.server.add_alarms(topic)
        for construct in (topic, alarms):
            _under(self.has_alarm_email, construct)
        _under(self.has_alarm_of_tls, alarms.alarms["CertificateExpiring"])

    def _open_ssh(self) -> None:
        """The rule for SSH, where there is a key; aws-cdk-lib knows no conditional rules."""
        [group] = self.server.connections.security_groups
        resource = group.node.default_child
        assert isinstance(resource, ec2.CfnSecurityGroup)
        rule = {
            "CidrIp": self._if_given(self.has_ssh_cidr, "SshCidr", self._text("AllowedCidr")),
            "Description": "SSH",
            "FromPort": 22,
            "IpProtocol": "tcp",
            "ToPort": 22,
        }
        resource.add_property_override(
            "SecurityGroupIngress.1",
            cdk.Fn.condition_if(self.has_key_name.logical_id, rule, {"Ref": "AWS::NoValue"}),
        )

    def _network(self) -> tuple[ec2.IVpc, str]:
        """The VPC that is given, or one of the stack's own; and the zone of the subnet."""
        own = network.DefaultVpc(self, "Vpc")
        cdk.Tags.of(own).add("Name", cdk.Fn.sub("${AWS::StackName}/Vpc"), priority=150)
        _under(self.has_no_vpc, own)
        [subnet] = own.public_subnets
        zone = self._if_given(self.has_vpc, "AvailabilityZone", subnet.availability_zone)
        # The group has to come after the route and to go before the gateway; it cannot depend
        # on a conditional resource but by a reference, which this selection is.
        route = subnet.node.find_child("DefaultRoute")
        assert isinstance(route, ec2.CfnRoute)
        subnet_id = cdk.Fn.select(0, [subnet.subnet_id, route.ref])
        vpc = ec2.Vpc.from_vpc_attributes(
            self,
            "Network",
            vpc_id=self._if_given(self.has_vpc, "VpcId", own.vpc_id),
            availability_zones=[zone],
            public_subnet_ids=[self._if_given(self.has_vpc, "SubnetId", subnet_id)],
        )
        return vpc, zone

    def _machine_image(self) -> MachineImageId:
        current = _either(
            self.is_arm,
            str(MachineImageId.amazon_linux(ec2.InstanceArchitecture.ARM_64)),
            str(MachineImageId.amazon_linux(ec2.InstanceArchitecture.X86_64)),
        )
        return MachineImageId(self._if_given(self.has_image_id, "ImageId", current))

    def _root_volume_size(self) -> cdk.Size:
        return cdk.Size.gibibytes(self._number(self.has_root_volume_size, "RootVolumeSize"))

    def _number(self, given: cdk.CfnCondition, parameter: str) -> int:
        """The value of a parameter, and nothing when it is empty."""
        value = cdk.Fn.condition_if(given.logical_id, self._text(parameter), cdk.Aws.NO_VALUE)
        return cast("int", cdk.Token.as_number(value))

    def _volumes(self, zone: str) -> tuple[storage.DataVolume, storage.DataVolume]:
        """Two volumes, of which the parameters choose one: CloudFormation cannot change a
        volume's snapshot, and the old data must not go before the new volume is in use."""
        volumes = {}
        for name, condition, snapshot_id in (
            ("Empty", self.has_no_snapshot, None),
            ("Restored", self.has_snapshot, self._text("SnapshotId")),
        ):
            scope = Construct(self, name)
            volumes[name] = storage.DataVolume(
                scope,
                construct_id="Volume",
                availability_zone=zone,
                size=cdk.Size.gibibytes(self._parameters["VolumeSize"].value_as_number),
                snapshot_id=snapshot_id,
                encryption_key=None,
                removal_policy=cdk.RemovalPolicy.SNAPSHOT,
                iops=self._number(self.has_volume_iops, "VolumeIops"),
                throughput=self._number(self.has_volume_throughput, "VolumeThroughput"),
            )
            cdk.Tags.of(scope).add("Name", cdk.Fn.sub("${AWS::StackName}/Chroma"), priority=150)
            _under(condition, volumes[name])
        return volumes["Empty"], volumes["Restored"]

    def _add_outputs(self) -> None:
        conditions = {
            "CredentialCommand": self.has_auth,
            "UserCredentialCommand": self.has_reader,
            "CaCertificateCommand": self.has_own_authority,
        }
        for name, output in outputs_of(self.server).items():
            cdk.CfnOutput(
                self,
                name,
                description=output.description,
                value=output.value,
                condition=conditions.get(name),
            )


class _ParameterServer(ChromaServer):
    """A server whose volume is chosen, and grows, by the template's parameters."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        growth: tuple[cdk.CfnCondition, str],
        vpc: ec2.IVpc,
        **options: Unpack[ChromaServerOptions],
    ) -> None:
        self._growth = growth
        super().__init__(scope, construct_id, vpc=vpc, **options)

    def add_reader(self, name: str) -> ChromaUser:
        """A user that may only read, whose name is a parameter."""
        access = ChromaAccess.READ
        user = ChromaUser(self, "ReaderUser", role=self._role, user_name=name, access=access)
        return self._keep(user)

    def _bind_volume(
        self, role: InstanceRole, subnet: ec2.ISubnet, options: ChromaServerOptions
    ) -> storage.VolumeBinding:
        volume, (given, max_size) = options["volume"], self._growth
        storage.grant_attach(volume, role)
        statements = storage.growth_statements(volume)
        max_size = _permitted(self, "Growth", given, max_size, role, statements)
        hours = DEFAULT_BACKUP_SCHEDULE.hours
        settings = storage.host_settings(volume, max_size=max_size, backup_hours=hours)
        return storage.VolumeBinding(volume=volume, backup_hours=hours, host_settings=settings)


@dataclass(frozen=True, kw_only=True)
class _ParameterAuth(ChromaAuth):
    """Authentication that the template's parameters decide."""

    provider_given: cdk.CfnCondition
    is_basic: cdk.CfnCondition
    is_authorization: cdk.CfnCondition
    is_x_chroma_token: cdk.CfnCondition
    credentials: cdk.CfnParameter

    def _bind(self, scope: Construct, role: InstanceRole) -> AuthBinding:
        secret, arn = _conditional_secret(
            scope,
            "Credential",
            "Credential of the Chroma server",
            self.provider_given,
            self.credentials,
            role,
        )
        basic_or_token = _either(self.is_basic, "basic", "token")
        any_way_or_bearer = _either(self.is_authorization, TokenHeader.AUTHORIZATION.value, "")
        path, statements = auth.users_path(role), auth.users_statements(role)
        settings = auth.host_settings(
            mode=_either(self.provider_given, basic_or_token, "none"),
            token_header=_either(
                self.is_x_chroma_token,
                TokenHeader.X_CHROMA_TOKEN.value,
                any_way_or_bearer,
            ),
            secret_arn=arn,
            users_path=_permitted(scope, "Users", self.provider_given, path, role, statements),
        )
        return AuthBinding(secret, settings)

    @property
    def description(self) -> str:
        any_way, bearer, other = (
            ChromaAuth.token(token_header=it).description
            for it in (None, TokenHeader.AUTHORIZATION, TokenHeader.X_CHROMA_TOKEN)
        )
        token = _either(
            self.is_x_chroma_token, other, _either(self.is_authorization, bearer, any_way)
        )
        basic_or_token = _either(self.is_basic, ChromaAuth.basic().description, token)
        return _either(self.provider_given, basic_or_token, ChromaAuth.none().description)


@dataclass(frozen=True, kw_only=True)
class _ParameterTls(ChromaTls):
    """TLS that the template's parameters decide."""

    has_tls: cdk.CfnCondition
    has_certificate: cdk.CfnCondition
    has_domain_name: cdk.CfnCondition
    has_hosted_zone: cdk.CfnCondition
    uses_acme: cdk.CfnCondition
    is_https: cdk.CfnCondition
    needs_ca_certificate: cdk.CfnCondition
    mode_text: str
    certificate: str
    name: str
    zone: str

    @property
    def scheme(self) -> str:
        return _either(self.is_https, "https", "http")

    @property
    def _curl_options(self) -> str:
        return _either(self.needs_ca_certificate, f"--cacert {tls.CA_FILE} ", "")

    def _public_address(
        self,
        scope: Construct,
        *,
        domain_name: str | None,
        hosted_zone: route53.IHostedZone | None,
    ) -> addresses.Address:
        address = addresses.elastic_ip(scope)
        record = addresses.cname(
            scope,
            name=self.name,
            hosted_zone=route53.HostedZone.from_hosted_zone_id(scope, "HostedZone", self.zone),
            public_name=address.hostname,
        )
        _under(self.has_hosted_zone, record)
        first = _either(self.has_domain_name, f"{self.name} ", "")
        return replace(
            address,
            hostname=_either(self.has_domain_name, self.name, address.hostname),
            names=[f"{first}{address.hostname}", address.ip_address],
        )

    def _bind(
        self, scope: Construct, role: InstanceRole, *, address: addresses.Address
    ) -> TlsBinding:
        parameter = tls.ca_certificate_parameter(scope, role)
        _under(self.has_tls, parameter)
        name = parameter.parameter_name
        write = [{"actions": ["ssm:PutParameter"], "resources": [arn("ssm", f"parameter/{name}")]}]
        read = [{"actions": ["secretsmanager:GetSecretValue"], "resources": [self.certificate]}]
        challenge = tls.challenge_statements(self.name, self.zone)
        given = {
            "ca_parameter": _permitted(scope, "CaCertificate", self.has_tls, name, role, write),
            "secret": _permitted(
                scope, "TlsCertificate", self.has_certificate, self.certificate, role, read
            ),
            "directory": _permitted(
                scope, "Challenge", self.uses_acme, tls.LETS_ENCRYPT, role, challenge
            ),
        }
        names = _either(self.has_tls, " ".join(address.names), "")
        return TlsBinding(name, tls.host_settings(mode=self.mode_text, names=[names], **given))


@dataclass(frozen=True, kw_only=True)
class _ParameterMonitoring(ChromaMonitoring):
    """Monitoring that the template's parameters decide."""

    has_monitoring: cdk.CfnCondition
    days: str

    def _bind(self, scope: Construct, role: InstanceRole) -> MonitoringBinding:
        log_group = self._log_group(scope)
        resource = log_group.node.default_child
        assert isinstance(resource, logs.CfnLogGroup)
        resource.add_property_override("RetentionInDays", self.days)
        monitoring.add_metric_filters(log_group)
        _under(self.has_monitoring, log_group)
        name = _permitted(
            scope,
            "Monitoring",
            self.has_monitoring,
            log_group.log_group_name,
            role,
            monitoring.statements(log_group),
        )
        return MonitoringBinding(log_group, monitoring.host_settings(name))


class _ParameterTracing(tracing.ChromaTracing):
    """Tracing that the template's parameters decide."""

    def __init__(
        self,
        *,
        endpoint: str,
        service_name: str,
        granularity: str,
        headers_given: cdk.CfnCondition,
        header_text: cdk.CfnParameter,
    ) -> None:
        super().__init__(endpoint=endpoint, service_name=service_name, granularity=granularity)
        self._headers_given = headers_given
        self._header_text = header_text

    def _bind(self, scope: Construct, role: iam.Role) -> dict[str, str]:
        _, secret_arn = _conditional_secret(
            scope,
            "TraceHeaders",
            "Headers that the Chroma server's traces are sent with",
            self._headers_given,
            self._header_text,
            role,
        )
        return tracing.host_settings(
            endpoint=self.endpoint,
            service_name=self.service_name,
            headers_secret=secret_arn,
            granularity=self.granularity,
        )


def _conditional_secret(
    scope: Construct,
    name: str,
    description: str,
    given: cdk.CfnCondition,
    value: cdk.CfnParameter,
    role: iam.Role,
) -> tuple[secretsmanager.Secret, str]:
    """A parameter's value as a secret that the role may read, where the value is given; and
    its ARN, empty where it is not, for the instance."""
    secret = secretsmanager.Secret(
        scope,
        name,
        description=description,
        secret_string_value=cdk.SecretValue.cfn_parameter(value),
    )
    _under(given, secret)
    read = {"actions": ["secretsmanager:GetSecretValue"], "resources": [secret.secret_arn]}
    return secret, _permitted(scope, name, given, secret.secret_arn, role, [read])


def _permitted(
    scope: Construct,
    name: str,
    condition: cdk.CfnCondition,
    value: str,
    role: iam.Role,
    statements: Iterable[dict[str, Any]],
) -> str:
    """A value for the instance, which the role has permissions for; empty, and without the
    permissions, where the condition does not hold."""
    policy = iam.Policy(
        scope,
        f"{name}Policy",
        roles=[role],
        statements=[iam.PolicyStatement(**statement) for statement in statements],
    )
    _under(condition, policy)
    # Selected beside the policy, so that no instance starts before it has the permissions.
    policy_resource = policy.node.default_child
    assert isinstance(policy_resource, iam.CfnPolicy)
    return _either(condition, cdk.Fn.select(0, [value, policy_resource.ref]), "")


def _under(condition: cdk.CfnCondition, construct: IConstruct) -> None:
    """Make everything in a construct only when the condition holds."""
    for part in construct.node.find_all():
        if isinstance(part, cdk.CfnResource):
            part.cfn_options.condition = condition


def _either(condition: cdk.CfnCondition, if_true: str, if_false: str) -> str:
    return cdk.Fn.condition_if(condition.logical_id, if_true, if_false).to_string()


def _any(expressions: Iterable[cdk.ICfnConditionExpression]) -> cdk.ICfnConditionExpression:
    """One of any number of expressions; CloudFormation's own ``Or`` takes 2 to 10."""
    found = list(expressions)
    while len(found) > 1:
        found = [
            cdk.Fn.condition_or(*part) if len(part) > 1 else part[0]
            for part in (found[start : start + 10] for start in range(0, len(found), 10))
        ]
    return found[0]


if __name__ == "__main__":
    main()
