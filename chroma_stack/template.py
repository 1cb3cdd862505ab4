"""The published template: the same server, with CloudFormation parameters as its settings.

``python -m chroma_stack.template FILE`` writes it. The names and meanings of Chroma's own
template, which its documentation teaches, are kept; ours are added.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import aws_cdk as cdk
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from aws_cdk import aws_secretsmanager as secretsmanager
from constructs import Construct, IConstruct

from chroma_stack import machine, network, outputs, storage, tracing, version
from chroma_stack.auth import (
    AuthMode,
    BoundAuth,
    ChromaAuth,
    TokenHeader,
    auth_settings,
    documented_names,
)
from chroma_stack.host import otel
from chroma_stack.server import ChromaServer

NAME = "chroma.cf.json"
"""What the file is called where it is published."""

_BYTE = "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_ADDRESS = r"[0-9]+(\.[0-9]+){3}"
_NO_HEADERS = ("", "{}")
_PORT = "([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"


def main(file: str) -> None:
    """Write the template to a file."""
    path = Path(file)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text())


def text() -> str:
    """The template, as it is published."""
    app = cdk.App(
        analytics_reporting=False,
        tree_metadata=False,
        # aws-cdk-lib's own check mistakes the empty defaults of parameters for values;
        # cfn-lint does not.
        builtin_cloud_formation_validation=False,
    )
    stack = PublishedTemplate(app)
    return _lines(app.synth().get_stack_by_name(stack.stack_name).template)


def _lines(template: dict[str, object]) -> str:
    """JSON with a line for each parameter, resource and so on: fit to be compared, and a
    good deal smaller than indented."""
    sections = [
        f"{json.dumps(name)}: "
        + (
            "{\n  " + ",\n  ".join(map(_member, section.items())) + "\n }"
            if isinstance(section, dict)
            else json.dumps(section)
        )
        for name, section in template.items()
    ]
    return "{\n " + ",\n ".join(sections) + "\n}\n"


def _member(item: tuple[str, object]) -> str:
    name, value = item
    return f"{json.dumps(name)}: {json.dumps(value, separators=(',', ':'))}"


class PublishedTemplate(cdk.Stack):
    """A stack whose template is deployed under any name, by people who know no CDK."""

    def __init__(self, scope: Construct) -> None:
        super().__init__(
            scope,
            "PublishedTemplate",
            description="A Chroma vector database on one machine that heals itself",
            synthesizer=cdk.LegacyStackSynthesizer(),
        )
        self._groups: dict[str, list[str]] = {}
        self._labels: dict[str, str] = {}
        self._add_parameters()
        self._add_conditions()
        self._add_rules()
        self._add_server()
        self._add_outputs()
        self.template_options.metadata = {
            "AWS::CloudFormation::Interface": {
                "ParameterGroups": [
                    {"Label": {"default": label}, "Parameters": names}
                    for label, names in self._groups.items()
                ]
            }
        }

    def _parameter(
        self,
        group: str,
        name: str,
        default: object,
        description: str,
        pattern: str | None = None,
        allowed: str | None = None,
        *,
        values: Iterable[str] | None = None,
        type: str = "String",
        hidden: bool = False,
        largest: int | None = None,
    ) -> cdk.CfnParameter:
        self._groups.setdefault(group, []).append(name)
        return cdk.CfnParameter(
            self,
            name,
            type=type,
            default=default,
            description=description,
            allowed_pattern=None if pattern is None else f"^({pattern})$",
            constraint_description=None if allowed is None else f"must be {allowed}",
            allowed_values=None if values is None else list(values),
            no_echo=True if hidden else None,
            min_value=None if largest is None else 1,
            max_value=largest,
        )

    def _add_parameters(self) -> None:
        group = "Machine"
        self.instance_type = self._parameter(
            group,
            "InstanceType",
            machine.DEFAULT_INSTANCE_TYPE.to_string(),
            "EC2 instance type, x86-64 or Graviton, with at least 2 GiB of memory",
            machine.TYPE_PATTERN,
            machine.TYPE_ALLOWED,
        )
        self.chroma_version = self._parameter(
            group,
            "ChromaVersion",
            "1.5.9",
            "Release of Chroma, 0.5.0 or later",
            version.RELEASE,
            version.ALLOWED,
        )
        self.key_name = self._parameter(
            group,
            "KeyName",
            "",
            "Name of an EC2 key pair for SSH; no port is opened for it. Empty: none, Session "
            "Manager works without",
            "[ -~]{0,255}",
            "the name of an EC2 key pair, or empty",
        )
        self.image_id = self._parameter(
            group,
            "ImageId",
            "",
            "Id of an Amazon Linux 2023 image. Empty: the current one",
            "|ami-([0-9a-f]{8}|[0-9a-f]{17})",
            "an id such as ami-0123456789abcdef0, or empty",
        )
        group = "Data"
        self.volume_size = self._parameter(
            group,
            "VolumeSize",
            storage.DEFAULT_VOLUME_SIZE.to_gibibytes(),
            "Size of the data volume in GiB; it may grow later, never shrink",
            type="Number",
            allowed="a whole number of GiB",
            largest=storage.LARGEST_VOLUME_GIB,
        )
        self.snapshot_id = self._parameter(
            group,
            "SnapshotId",
            "",
            "Snapshot of a data volume to start from. Empty: start with an empty volume",
            "|snap-([0-9a-f]{8}|[0-9a-f]{17})",
            "an id such as snap-0123456789abcdef0, or empty",
        )
        group = "Network"
        self.allowed_cidr = self._parameter(
            group,
            "AllowedCidr",
            "0.0.0.0/0",
            "IPv4 network that may reach port 8000. The default is the whole internet",
            rf"{_BYTE}(\.{_BYTE}){{3}}/([0-9]|[12][0-9]|3[0-2])",
            "an IPv4 network such as 203.0.113.0/24",
        )
        self.vpc_id = self._parameter(
            group,
            "VpcId",
            "",
            "VPC to live in, with SubnetId and AvailabilityZone. Empty: a small one of its own",
            "|vpc-([0-9a-f]{8}|[0-9a-f]{17})",
            "an id such as vpc-0123456789abcdef0, or empty",
        )
        self.subnet_id = self._parameter(
            group,
            "SubnetId",
            "",
            "Public subnet of that VPC",
            "|subnet-([0-9a-f]{8}|[0-9a-f]{17})",
            "an id such as subnet-0123456789abcdef0, or empty",
        )
        self.availability_zone = self._parameter(
            group,
            "AvailabilityZone",
            "",
            "Availability zone of that subnet, e.g. us-east-1a",
            "|[a-z]{2}(-[a-z]+)+-[0-9]+[a-z]",
            "a zone such as us-east-1a, or empty",
        )
        group = "Authentication"
        self.auth_provider = self._parameter(
            group,
            "ChromaServerAuthProvider",
            "",
            "How clients prove who they are. Empty: they need not, and anyone who reaches the "
            "port reads and writes everything",
            values=["", *documented_names(AuthMode.TOKEN), *documented_names(AuthMode.BASIC)],
        )
        self.auth_credentials = self._parameter(
            group,
            "ChromaServerAuthCredentials",
            "",
            "The token, or user:password (in plain, no hash), that clients must send",
            "[!-~]*",
            "ASCII letters, digits and punctuation, no spaces",
            hidden=True,
        )
        self.token_header = self._parameter(
            group,
            "ChromaAuthTokenTransportHeader",
            "",
            "Header of the token. Empty: Authorization, as a bearer token",
            values=["", *(name for header in TokenHeader for name in header.names)],
        )
        group = "Traces"
        self.otel_endpoint = self._parameter(
            group,
            "ChromaOtelCollectionEndpoint",
            "",
            "Collector for traces (OTLP over gRPC): host[:port] or https://host[:port] with TLS, "
            "http://host[:port] without. Empty: no tracing",
            rf"|(http://|(https://)?(?!{_ADDRESS}(:|/|$)))"
            rf"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:{_PORT})?/?",
            "an endpoint such as api.honeycomb.io (with TLS by its name, not its address), or empty",
        )
        self.otel_service_name = self._parameter(
            group,
            "ChromaOtelServiceName",
            "",
            f"Name that the traces carry. Empty: {tracing.DEFAULT_SERVICE_NAME}",
            r"[A-Za-z0-9_./-]{0,255}",
            "letters, digits and . _ - /",
        )
        self.otel_headers = self._parameter(
            group,
            "ChromaOtelCollectionHeaders",
            "{}",
            'Headers for the collector: {"name": "value"}, or name=value,name2=value2',
            r"(?=[ -~]*$)(|\{.*\}|[^=,]+=[^,]*(,[^=,]+=[^,]*)*)",
            'headers such as {"x-honeycomb-team": "abc"} or x-honeycomb-team=abc',
            hidden=True,
        )
        self.otel_granularity = self._parameter(
            group,
            "ChromaOtelGranularity",
            "",
            f"How much is traced. Empty: {tracing.DEFAULT_GRANULARITY}",
            values=["", *otel.GRANULARITIES],
        )

    def _condition(self, name: str, expression: cdk.ICfnConditionExpression) -> cdk.CfnCondition:
        return cdk.CfnCondition(self, name, expression=expression)

    def _given(
        self, name: str, parameter: cdk.CfnParameter, empty: Iterable[str] = ("",)
    ) -> cdk.CfnCondition:
        is_empty = _any(_equals(parameter, text) for text in empty)
        return self._condition(name, cdk.Fn.condition_not(is_empty))

    def _add_conditions(self) -> None:
        self.has_key_name = self._given("HasKeyName", self.key_name)
        self.has_image_id = self._given("HasImageId", self.image_id)
        self.has_snapshot = self._given("HasSnapshot", self.snapshot_id)
        self.has_no_snapshot = self._condition("HasNoSnapshot", _equals(self.snapshot_id, ""))
        self.has_vpc = self._given("HasVpc", self.vpc_id)
        self.has_no_vpc = self._condition("HasNoVpc", _equals(self.vpc_id, ""))
        self.has_auth = self._given("HasAuth", self.auth_provider)
        self.is_basic = self._condition(
            "IsBasic",
            _any(_equals(self.auth_provider, name) for name in documented_names(AuthMode.BASIC)),
        )
        self.is_x_chroma_token = self._condition(
            "IsXChromaToken",
            _any(_equals(self.token_header, name) for name in TokenHeader.X_CHROMA_TOKEN.names),
        )
        self.has_headers = self._given("HasTraceHeaders", self.otel_headers, _NO_HEADERS)
        family = cdk.Fn.select(0, cdk.Fn.split(".", self.instance_type.value_as_string))
        self.is_arm = self._condition(
            "IsArm",
            _any(cdk.Fn.condition_equals(family, name) for name in machine.graviton_families()),
        )

    def _rule(
        self,
        name: str,
        given: cdk.CfnParameter,
        *needed: cdk.CfnParameter,
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
            rule_condition=cdk.Fn.condition_not(_any(_equals(given, text) for text in empty)),
            assertions=[
                cdk.CfnRuleAssertion(
                    assert_=(
                        cdk.Fn.condition_contains(wanted, other.value_as_string)
                        if wanted
                        else cdk.Fn.condition_not(_equals(other, ""))
                    ),
                    assert_description=f"{given.logical_id} is given: {other.logical_id} is "
                    f"{meant}",
                )
                for other in needed
            ],
        )

    def _add_rules(self) -> None:
        self._rule("AProviderNeedsCredentials", self.auth_provider, self.auth_credentials)
        self._rule("CredentialsNeedAProvider", self.auth_credentials, self.auth_provider)
        self._rule(
            "ATokenHeaderNeedsAToken",
            self.token_header,
            self.auth_provider,
            values=documented_names(AuthMode.TOKEN),
        )
        self._rule(
            "TraceHeadersNeedACollector", self.otel_headers, self.otel_endpoint, empty=_NO_HEADERS
        )
        self._rule("AVpcNeedsItsSubnet", self.vpc_id, self.subnet_id, self.availability_zone)
        self._rule("ASubnetNeedsItsVpc", self.subnet_id, self.vpc_id, self.availability_zone)
        self._rule("AZoneNeedsItsVpc", self.availability_zone, self.vpc_id, self.subnet_id)

    def _add_server(self) -> None:
        vpc = network.PublicNetwork(self, "Vpc")
        cdk.Tags.of(vpc).add("Name", f"{cdk.Aws.STACK_NAME}/Vpc", priority=150)
        _under(self.has_no_vpc, vpc)
        [own_subnet] = vpc.public_subnets
        zone = _either(self.has_vpc, self.availability_zone, own_subnet.availability_zone)
        # The group has to come after the route and to go before the gateway; it cannot depend
        # on a conditional resource but by a reference, which this selection is.
        route = own_subnet.node.find_child("DefaultRoute")
        assert isinstance(route, ec2.CfnRoute)
        own_subnet_id = cdk.Fn.select(0, [own_subnet.subnet_id, route.ref])
        empty, restored = self._volumes(zone)
        self.server = ChromaServer(
            self,
            "Chroma",
            vpc=ec2.Vpc.from_vpc_attributes(
                self,
                "Network",
                vpc_id=_either(self.has_vpc, self.vpc_id, vpc.vpc_id),
                availability_zones=[zone],
                public_subnet_ids=[_either(self.has_vpc, self.subnet_id, own_subnet_id)],
            ),
            instance_type=ec2.InstanceType(self.instance_type.value_as_string),
            machine_image=machine.LinuxImage(
                _either(
                    self.has_image_id,
                    self.image_id,
                    _either(
                        self.is_arm,
                        machine.image_parameter(ec2.InstanceArchitecture.ARM_64),
                        machine.image_parameter(ec2.InstanceArchitecture.X86_64),
                    ),
                )
            ),
            key_pair=ec2.KeyPair.from_key_pair_name(
                self, "KeyPair", _either(self.has_key_name, self.key_name, cdk.Aws.NO_VALUE)
            ),
            version=version.ChromaVersion.of(self.chroma_version.value_as_string),
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
                is_x_chroma_token=self.is_x_chroma_token,
                credentials=self.auth_credentials,
            ),
            tracing=_ParameterTracing(
                endpoint=self.otel_endpoint.value_as_string,
                service_name=self.otel_service_name.value_as_string,
                granularity=self.otel_granularity.value_as_string,
                headers_given=self.has_headers,
                header_text=self.otel_headers,
            ),
        )
        storage.DailyBackup(
            self.server, volumes=[empty, restored], retention=storage.DEFAULT_BACKUP_RETENTION
        )
        self.server.connections.allow_default_port_from(
            ec2.Peer.ipv4(self.allowed_cidr.value_as_string), "Clients of Chroma"
        )

    def _volumes(self, zone: str) -> tuple[storage.DataVolume, storage.DataVolume]:
        """Two volumes, of which the parameters choose one: CloudFormation cannot change a
        volume's snapshot, and the old data must not go before the new volume is in use."""
        volumes = {}
        for name, condition, snapshot_id in (
            ("Empty", self.has_no_snapshot, None),
            ("Restored", self.has_snapshot, self.snapshot_id.value_as_string),
        ):
            scope = Construct(self, name)
            volumes[name] = storage.DataVolume(
                scope,
                construct_id="Volume",
                availability_zone=zone,
                size=cdk.Size.gibibytes(self.volume_size.value_as_number),
                snapshot_id=snapshot_id,
                encryption_key=None,
                removal_policy=cdk.RemovalPolicy.SNAPSHOT,
            )
            cdk.Tags.of(scope).add("Name", f"{cdk.Aws.STACK_NAME}/Chroma", priority=150)
            _under(condition, volumes[name])
        return volumes["Empty"], volumes["Restored"]

    def _add_outputs(self) -> None:
        for name, output in outputs.of(self.server).items():
            cdk.CfnOutput(
                self,
                name,
                description=output.description,
                value=output.value,
                condition=self.has_auth if name == "CredentialCommand" else None,
            )


@dataclass(frozen=True, kw_only=True)
class _ParameterAuth(ChromaAuth):
    """Authentication that the template's parameters decide."""

    provider_given: cdk.CfnCondition
    is_basic: cdk.CfnCondition
    is_x_chroma_token: cdk.CfnCondition
    credentials: cdk.CfnParameter

    def bind(self, scope: Construct, role: iam.IRole) -> BoundAuth:
        secret, arn = _conditional_secret(
            scope,
            "Credential",
            "Credential of the Chroma server",
            self.provider_given,
            self.credentials,
            role,
        )
        basic_or_token = _either(self.is_basic, "basic", "token")
        settings = auth_settings(
            mode=_either(self.provider_given, basic_or_token, "none"),
            token_header=_either(
                self.is_x_chroma_token,
                TokenHeader.X_CHROMA_TOKEN.value,
                TokenHeader.AUTHORIZATION.value,
            ),
            secret_arn=arn,
        )
        return BoundAuth(secret, settings)

    @property
    def description(self) -> str:
        bearer = ChromaAuth.token().description
        other = ChromaAuth.token(token_header=TokenHeader.X_CHROMA_TOKEN).description
        token = _either(self.is_x_chroma_token, other, bearer)
        basic_or_token = _either(self.is_basic, ChromaAuth.basic().description, token)
        return _either(self.provider_given, basic_or_token, ChromaAuth.none().description)


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

    def bind(self, scope: Construct, role: iam.IRole) -> dict[str, str]:
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
    role: iam.IRole,
) -> tuple[secretsmanager.Secret, str]:
    """A parameter's value as a secret that the role may read, where the value is given; and
    its ARN, empty where it is not, for the machine."""
    secret = secretsmanager.Secret(
        scope,
        name,
        description=description,
        secret_string_value=cdk.SecretValue.cfn_parameter(value),
    )
    policy = iam.Policy(
        scope,
        f"{name}Policy",
        roles=[role],
        statements=[
            iam.PolicyStatement(
                actions=["secretsmanager:GetSecretValue"], resources=[secret.secret_arn]
            )
        ],
    )
    _under(given, secret)
    _under(given, policy)
    # Selected beside the policy, so that no machine starts before it may read the secret.
    policy_resource = policy.node.default_child
    assert isinstance(policy_resource, iam.CfnPolicy)
    arn = cdk.Fn.select(0, [secret.secret_arn, policy_resource.ref])
    return secret, _either(given, arn, "")


def _under(condition: cdk.CfnCondition, construct: IConstruct) -> None:
    """Make everything in a construct only when the condition holds."""
    for part in construct.node.find_all():
        if isinstance(part, cdk.CfnResource):
            part.cfn_options.condition = condition


def _either(condition: cdk.CfnCondition, if_true: cdk.CfnParameter | str, if_false: str) -> str:
    value = if_true.value_as_string if isinstance(if_true, cdk.CfnParameter) else if_true
    return cdk.Fn.condition_if(condition.logical_id, value, if_false).to_string()


def _equals(parameter: cdk.CfnParameter, value: str) -> cdk.ICfnConditionExpression:
    return cdk.Fn.condition_equals(parameter.value_as_string, value)


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
    main(*sys.argv[1:])
