"""The published template: its parameters, what it refuses, and that it is the same server."""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path
from typing import Any

import pytest
from aws_cdk import aws_ec2 as ec2
from aws_cdk.assertions import Match, Template
from hypothesis import given
from hypothesis import strategies as st

import chroma_stack
from chroma_stack import ChromaVersion, MachineImageId, published_template
from chroma_stack.host import otel
from tests.unit import synthesis
from tests.unit.cloudformation import refusals, resolved

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "template.md"

DOCUMENTED = {
    "KeyName": "",
    "InstanceType": "t3.small",
    "ChromaVersion": str(ChromaVersion.V1_5_9),
    "ChromaServerAuthCredentials": "",
    "ChromaServerAuthProvider": "",
    "ChromaAuthTokenTransportHeader": "",
    "ChromaOtelCollectionEndpoint": "",
    "ChromaOtelServiceName": "",
    "ChromaOtelCollectionHeaders": "{}",
    "ChromaOtelGranularity": "",
}
"""The parameters of Chroma's own template in release 0.6.3, the last with authentication, and
their defaults: ``deployments/aws/chroma.cf.json`` of chroma-core/chroma."""

OURS = {
    "ImageId": "",
    "RootVolumeSize": "",
    "VolumeSize": 24,
    "MaxVolumeSize": "",
    "VolumeIops": "",
    "VolumeThroughput": "",
    "BackupRetentionDays": 7,
    "BackupCopyRegion": "",
    "SnapshotId": "",
    "AllowedCidr": "0.0.0.0/0",
    "SshCidr": "",
    "VpcId": "",
    "SubnetId": "",
    "AvailabilityZone": "",
    "ReaderUser": "",
    "TlsMode": "optional",
    "TlsCertificateSecretArn": "",
    "DomainName": "",
    "HostedZoneId": "",
    "Monitoring": "true",
    "LogRetentionDays": "30",
    "MaintenanceWindow": "",
    "UnattendedSecurityUpdates": "false",
    "StopSchedule": "",
    "StartSchedule": "",
    "ScheduleTimeZone": "Etc/UTC",
    "AlarmEmail": "",
}

TOKEN = "chromadb.auth.token_authn.TokenAuthenticationServerProvider"
OLD_TOKEN = "chromadb.auth.token.TokenAuthServerProvider"
BASIC = "chromadb.auth.basic_authn.BasicAuthenticationServerProvider"
OLD_BASIC = "chromadb.auth.basic.BasicAuthServerProvider"
NETWORK = {
    "VpcId": "vpc-0123456789abcdef0",
    "SubnetId": "subnet-0123456789abcdef0",
    "AvailabilityZone": "us-east-1b",
}

ZONE = "Z0123456789ABCDEFGHIJ"
NAME = {"DomainName": "chroma.example.com", "HostedZoneId": ZONE}
CERTIFICATE = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:certificate-AbCdEf"

SAME: dict[str, tuple[dict[str, str], dict[str, str]]] = {
    "as it is": ({}, {"auth": "none"}),
    "an AMI of the user's own": (
        {"ImageId": "ami-0123456789abcdef0", "RootVolumeSize": "20"},
        {"imageId": "ami-0123456789abcdef0", "rootVolumeSize": "20", "auth": "none"},
    ),
    "a volume that grows": ({"MaxVolumeSize": "200"}, {"maxVolumeSize": "200", "auth": "none"}),
    "backups that are kept longer": (
        {"BackupRetentionDays": "30"},
        {"backupRetentionDays": "30", "auth": "none"},
    ),
    "backups that are copied": (
        {"BackupRetentionDays": "14", "BackupCopyRegion": "eu-west-1"},
        {"backupRetentionDays": "14", "backupCopyRegion": "eu-west-1", "auth": "none"},
    ),
    "token": (
        {"ChromaServerAuthProvider": TOKEN, "ChromaServerAuthCredentials": "secret"},
        {"auth": "token"},
    ),
    "token in its own header": (
        {
            "ChromaServerAuthProvider": OLD_TOKEN,
            "ChromaServerAuthCredentials": "secret",
            "ChromaAuthTokenTransportHeader": "X_CHROMA_TOKEN",
        },
        {"auth": "token", "authTokenHeader": "X-Chroma-Token"},
    ),
    "basic": (
        {"ChromaServerAuthProvider": BASIC, "ChromaServerAuthCredentials": "user:secret"},
        {"auth": "basic"},
    ),
    "a token and a reader": (
        {
            "ChromaServerAuthProvider": TOKEN,
            "ChromaServerAuthCredentials": "secret",
            "ChromaAuthTokenTransportHeader": "AUTHORIZATION",
            "ReaderUser": "search",
        },
        {"authTokenHeader": "Authorization", "users": "search:read"},
    ),
    "traces": (
        {"ChromaOtelCollectionEndpoint": "api.honeycomb.com"},
        {"auth": "none", "otelCollectionEndpoint": "api.honeycomb.com"},
    ),
    "ssh": (
        {"KeyName": "ops", "SshCidr": "203.0.113.7/32"},
        {"auth": "none", "keyName": "ops", "sshCidr": "203.0.113.7/32"},
    ),
    "no monitoring": ({"Monitoring": "false"}, {"auth": "none", "monitoring": "false"}),
    "alarms": (
        {"AlarmEmail": "operations@example.com"},
        {"auth": "none", "alarmEmail": "operations@example.com"},
    ),
    "alarms without TLS": (
        {"AlarmEmail": "operations@example.com", "TlsMode": "off"},
        {"auth": "none", "alarmEmail": "operations@example.com", "tls": "off"},
    ),
    "a log for a year": (
        {"LogRetentionDays": "365"},
        {"auth": "none", "logRetentionDays": "365"},
    ),
    "TLS only": ({"TlsMode": "required"}, {"auth": "none", "tls": "required"}),
    "no TLS": (
        {"TlsMode": "off", **NAME},
        {"auth": "none", "tls": "off", "domainName": NAME["DomainName"], "hostedZoneId": ZONE},
    ),
    "a name": (
        {"DomainName": "chroma.example.com"},
        {"auth": "none", "domainName": "chroma.example.com"},
    ),
    "a name in a zone": (
        {"TlsMode": "required", **NAME},
        {
            "auth": "none",
            "tls": "required",
            "domainName": NAME["DomainName"],
            "hostedZoneId": ZONE,
        },
    ),
    "a certificate of the user's own": (
        {"TlsCertificateSecretArn": CERTIFICATE, **NAME},
        {
            "auth": "none",
            "tlsCertificateSecretArn": CERTIFICATE,
            "domainName": NAME["DomainName"],
            "hostedZoneId": ZONE,
        },
    ),
    "looked after": (
        {
            "MaintenanceWindow": "first-sun:04:00",
            "UnattendedSecurityUpdates": "true",
            "StopSchedule": "0 20 * * 1-5",
            "StartSchedule": "0 7 * * 1-5",
            "ScheduleTimeZone": "Europe/Berlin",
        },
        {
            "auth": "none",
            "maintenanceWindow": "first-sun:04:00",
            "unattendedSecurityUpdates": "true",
            "stopSchedule": "0 20 * * 1-5",
            "startSchedule": "0 7 * * 1-5",
            "scheduleTimeZone": "Europe/Berlin",
        },
    ),
    "everything": (
        {
            "InstanceType": "m7g.large",
            "ChromaVersion": "0.6.3",
            "KeyName": "ops",
            "VolumeSize": "100",
            "MaxVolumeSize": "1000",
            "VolumeIops": "8000",
            "VolumeThroughput": "500",
            "SnapshotId": "snap-0123456789abcdef0",
            "AllowedCidr": "198.51.100.0/24",
            "ChromaServerAuthProvider": OLD_BASIC,
            "ChromaServerAuthCredentials": "user:secret",
            "ChromaOtelCollectionEndpoint": "http://collector.internal:4317",
            "ChromaOtelServiceName": "search",
            "ChromaOtelCollectionHeaders": "{'x-honeycomb-team': 'abc'}",
            "ChromaOtelGranularity": "operation",
        },
        {
            "instanceType": "m7g.large",
            "chromaVersion": "0.6.3",
            "keyName": "ops",
            "volumeSize": "100",
            "maxVolumeSize": "1000",
            "volumeIops": "8000",
            "volumeThroughput": "500",
            "snapshotId": "snap-0123456789abcdef0",
            "allowedCidr": "198.51.100.0/24",
            "auth": "basic",
            "otelCollectionEndpoint": "http://collector.internal:4317",
            "otelServiceName": "search",
            "otelCollectionHeaders": "{'x-honeycomb-team': 'abc'}",
            "otelGranularity": "operation",
        },
    ),
}
"""Parameters of the template, and the settings of ``cdk deploy`` that mean the same."""


@functools.cache
def _text() -> str:
    return published_template.text()


@pytest.fixture(scope="session")
def text() -> str:
    """The template's file."""
    return _text()


@pytest.fixture(scope="session")
def published(text: str) -> dict[str, Any]:
    """What is in it."""
    return dict(json.loads(text))


def with_plain_names(body: dict[str, Any]) -> Template:
    """The template with names that do not tell which of the two ways it came."""
    [volume] = [name for name, it in body["Resources"].items() if it["Type"] == "AWS::EC2::Volume"]
    text = json.dumps(body).replace(volume, "Volume")
    text = re.sub("/(ChromaStack|PublishedTemplate)Chroma[0-9A-F]{8}", "/Server", text)
    return Template.from_json(json.loads(re.sub("/c8[0-9a-f]{40}", "/Backup", text)))


@pytest.fixture(scope="module", params=SAME)
def both_ways(request: pytest.FixtureRequest, published: dict[str, Any]) -> tuple[Template, ...]:
    """The template with parameters, and that of the CDK way with the same settings."""
    parameters, settings = SAME[request.param]
    assert refusals(published, **parameters) == []
    by_cdk = Template.from_stack(synthesis.stack(**settings)).to_json()
    return with_plain_names(resolved(published, **parameters)), with_plain_names(by_cdk)


def test_the_instance_gets_the_same_settings_and_files(both_ways: tuple[Template, ...]) -> None:
    ours, by_cdk = both_ways
    settings, expected = map(synthesis.host_settings, both_ways)
    if settings["OTEL_ENDPOINT"]:
        # What host/otel.py makes of a name or a granularity that is empty.
        defaults = {"OTEL_SERVICE_NAME": "chromadb", "OTEL_GRANULARITY": "all"}
        settings |= {name: settings[name] or default for name, default in defaults.items()}
    else:
        # Without an endpoint it reads nothing else.
        settings = {name: it for name, it in settings.items() if not name.startswith("OTEL_")}
    assert {name: it for name, it in settings.items() if it} == dict(expected)
    end = "\nEND_OF_SETTINGS\n"
    assert synthesis.user_data(ours).split(end)[1] == synthesis.user_data(by_cdk).split(end)[1]


@pytest.mark.parametrize(
    "resource_type",
    [
        "AWS::EC2::Volume",
        "AWS::EC2::SecurityGroup",
        "AWS::EC2::EIP",
        "AWS::DLM::LifecyclePolicy",
        "AWS::IAM::InstanceProfile",
    ],
)
def test_a_resource_is_the_same_both_ways(
    both_ways: tuple[Template, ...], resource_type: str
) -> None:
    ours, by_cdk = (synthesis.resource(it, resource_type) for it in both_ways)
    # CloudFormation takes a number as text, too.
    ours, by_cdk = (json.loads(json.dumps(it), parse_int=str) for it in (ours, by_cdk))
    assert ours == by_cdk


@pytest.mark.parametrize(
    "resource_type",
    [
        "AWS::Logs::LogGroup",
        "AWS::Logs::MetricFilter",
        "AWS::CloudWatch::Alarm",
        "AWS::SNS::Topic",
        "AWS::SNS::TopicPolicy",
        "AWS::SNS::Subscription",
    ],
)
def test_monitoring_and_alarms_are_the_same_both_ways(
    both_ways: tuple[Template, ...], resource_type: str
) -> None:
    # CloudFormation takes a number as text, too.
    ours, by_cdk = (
        json.loads(json.dumps(it.find_resources(resource_type)), parse_int=str) for it in both_ways
    )
    assert ours == by_cdk


def test_the_instance_is_launched_in_the_same_way(both_ways: tuple[Template, ...]) -> None:
    ours, by_cdk = (synthesis.launch(it) for it in both_ways)
    # CloudFormation takes a number as text, too.
    ours, by_cdk = (json.loads(json.dumps(it), parse_int=str) for it in (ours, by_cdk))
    assert ours | {"UserData": ""} == by_cdk | {"UserData": ""}


def test_the_group_is_the_same(both_ways: tuple[Template, ...]) -> None:
    ours, by_cdk = (
        synthesis.resource(it, "AWS::AutoScaling::AutoScalingGroup") for it in both_ways
    )
    for group in (ours, by_cdk):
        del group["DependsOn"]  # in the template, references that a condition can leave out
    assert ours == by_cdk


def test_the_instance_may_do_the_same(both_ways: tuple[Template, ...]) -> None:
    ours, by_cdk = map(permissions, both_ways)
    # Nothing on the instance describes a secret; aws-cdk-lib allows it with the reading.
    assert {it.replace(', "secretsmanager:DescribeSecret"', "") for it in by_cdk} == ours


def test_a_user_is_told_to_the_instance_in_the_same_way(both_ways: tuple[Template, ...]) -> None:
    ours, by_cdk = map(users_told, both_ways)
    assert ours == by_cdk


def users_told(of: Template) -> list[Any]:
    """The parameters of users."""
    found = of.find_resources("AWS::SSM::Parameter", {"Properties": {"Name": Match.any_value()}})
    return [re.sub(r'"Chroma\w+"', '"…"', json.dumps(it)) for it in found.values()]


def permissions(of: Template) -> set[str]:
    """Each statement of the instance's policies."""
    return {
        re.sub(r'"Action": "([^"]*)"', r'"Action": ["\1"]', json.dumps(statement, sort_keys=True))
        for policy in of.find_resources("AWS::IAM::Policy").values()
        for statement in policy["Properties"]["PolicyDocument"]["Statement"]
    }


def secret(published: dict[str, Any], **parameters: str) -> list[Any]:
    """What the secrets hold, each with the permissions to read it."""
    left = Template.from_json(resolved(published, **parameters))
    return [
        (
            it["Properties"]["SecretString"],
            any(json.dumps({"Ref": name}) in statement for statement in permissions(left)),
        )
        for name, it in left.find_resources("AWS::SecretsManager::Secret").items()
    ]


def test_credential_and_headers_go_into_secrets_that_the_instance_may_read(
    published: dict[str, Any],
) -> None:
    assert secret(published) == []
    auth = {"ChromaServerAuthProvider": TOKEN, "ChromaServerAuthCredentials": "s3cret"}
    assert secret(published, **auth) == [("s3cret", True)]
    traces = {
        "ChromaOtelCollectionEndpoint": "api.honeycomb.com",
        "ChromaOtelCollectionHeaders": "x-honeycomb-team=abc",
    }
    assert secret(published, **traces) == [("x-honeycomb-team=abc", True)]
    reader = Template.from_json(resolved(published, **auth, ReaderUser="search"))
    generated = [
        it["Properties"].get("GenerateSecretString", {}).get("PasswordLength")
        for it in reader.find_resources("AWS::SecretsManager::Secret").values()
    ]
    assert sorted(generated, key=str) == [40, None]
    assert sorted(secret(published, **auth, **traces)) == [
        ("s3cret", True),
        ("x-honeycomb-team=abc", True),
    ]


def test_credential_and_headers_are_nowhere_else(published: dict[str, Any]) -> None:
    hidden = {
        name: f"hidden-{name}"
        for name, parameter in published["Parameters"].items()
        if parameter.get("NoEcho")
    }
    assert hidden.keys() == {"ChromaServerAuthCredentials", "ChromaOtelCollectionHeaders"}
    left = resolved(published, ChromaServerAuthProvider=TOKEN, **hidden)
    for name, value in hidden.items():
        assert json.dumps(left).count(value) == 1, name


def test_the_documented_parameters_have_their_names_and_defaults(
    published: dict[str, Any],
) -> None:
    defaults = {name: it["Default"] for name, it in published["Parameters"].items()}
    assert defaults == DOCUMENTED | OURS


def test_every_parameter_is_explained_in_a_labelled_group(published: dict[str, Any]) -> None:
    groups = published["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
    assert all(group["Label"]["default"] for group in groups)
    grouped = [name for group in groups for name in group["Parameters"]]
    assert sorted(grouped) == sorted(published["Parameters"])
    for name, parameter in published["Parameters"].items():
        assert parameter["Description"], name
        assert "ConstraintDescription" in parameter or "AllowedValues" in parameter, name


def test_the_defaults_are_accepted(published: dict[str, Any]) -> None:
    assert refusals(published, **{name: str(it) for name, it in (DOCUMENTED | OURS).items()}) == []


@pytest.mark.parametrize(
    "parameters",
    [
        {"KeyName": "mykey", "InstanceType": "m5.4xlarge"},
        {"ChromaServerAuthCredentials": "test-token", "ChromaServerAuthProvider": TOKEN},
        {
            "ChromaServerAuthCredentials": "test-token",
            "ChromaServerAuthProvider": OLD_TOKEN,
            "ChromaAuthTokenTransportHeader": "X-Chroma-Token",
        },
        {"ChromaServerAuthCredentials": "user:pass", "ChromaServerAuthProvider": BASIC},
        {
            "ChromaServerAuthCredentials": "user:pass",
            "ChromaServerAuthProvider": BASIC,
            "ReaderUser": "search-1",
        },
        {
            "ChromaOtelCollectionEndpoint": "api.honeycomb.com",
            "ChromaOtelServiceName": "chromadb",
            "ChromaOtelCollectionHeaders": "{'x-honeycomb-team': 'abc'}",
            "ChromaOtelGranularity": "all",
        },
        {"ChromaOtelCollectionEndpoint": "http://10.0.0.5:65535"},
        {"ChromaVersion": "0.5.0"},
        {"ChromaVersion": "1.6.0-rc1"},
        {"InstanceType": "c6g.medium"},
        {"InstanceType": "u7i-12tb.224xlarge"},
        {"VolumeSize": "65536"},
        {"MaxVolumeSize": "65536", "VolumeIops": "80000", "VolumeThroughput": "2000"},
        {"BackupRetentionDays": "1"},
        {"BackupRetentionDays": "1000", "BackupCopyRegion": "us-gov-west-1"},
        {"AllowedCidr": "203.0.113.7/32"},
        NETWORK,
        {"TlsMode": "required"},
        {"DomainName": "chroma.example.com"},
        {"TlsCertificateSecretArn": CERTIFICATE},
        NAME,
        {"TlsMode": "off", **NAME},
    ],
)
def test_what_is_documented_is_accepted(
    published: dict[str, Any], parameters: dict[str, str]
) -> None:
    assert refusals(published, **parameters) == []


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"InstanceType": "t3.micro"}, "at least 2 GiB of memory"),
        ({"InstanceType": "t4g.nano"}, "at least 2 GiB of memory"),
        ({"InstanceType": "t1.micro"}, "at least 2 GiB of memory"),
        ({"InstanceType": "mac2.metal"}, "x86-64 or Graviton"),
        ({"InstanceType": "small"}, "such as t3.small"),
        ({"ChromaVersion": "latest"}, "such as 1.5.9"),
        ({"ChromaVersion": "0.4.24"}, "0.5.0 or later"),
        ({"ChromaVersion": "1.5.9\nAUTH=none"}, "a release number"),
        ({"KeyName": "ops", "SshCidr": "203.0.113.7"}, "an IPv4 network"),
        ({"KeyName": "two\nlines"}, "EC2 key pair"),
        ({"ImageId": "al2023"}, "such as ami-"),
        ({"RootVolumeSize": "0"}, "from 1 to 16384"),
        ({"RootVolumeSize": "16385"}, "from 1 to 16384"),
        ({"RootVolumeSize": "20GB"}, "from 1 to 16384"),
        ({"VolumeSize": "0"}, "GiB"),
        ({"VolumeSize": "65537"}, "GiB"),
        ({"MaxVolumeSize": "0"}, "from 1 to 65536"),
        ({"MaxVolumeSize": "65537"}, "from 1 to 65536"),
        ({"VolumeIops": "2999"}, "from 3000 to 80000"),
        ({"VolumeIops": "80001"}, "from 3000 to 80000"),
        ({"VolumeThroughput": "124"}, "from 125 to 2000"),
        ({"VolumeThroughput": "2001"}, "from 125 to 2000"),
        ({"BackupRetentionDays": "0"}, "from 1 to 1000"),
        ({"BackupRetentionDays": "1001"}, "from 1 to 1000"),
        ({"BackupCopyRegion": "eu-west-1a"}, "a region such as"),
        ({"BackupCopyRegion": "Ireland"}, "a region such as"),
        ({"SnapshotId": "vol-0123456789abcdef0"}, "such as snap-"),
        ({"AllowedCidr": "203.0.113.7"}, "such as 203.0.113.0/24"),
        ({"AllowedCidr": "203.0.113.256/24"}, "such as 203.0.113.0/24"),
        ({"AllowedCidr": "203.0.113.0/33"}, "such as 203.0.113.0/24"),
        ({**NETWORK, "VpcId": "default"}, "such as vpc-"),
        ({**NETWORK, "SubnetId": "public"}, "such as subnet-"),
        ({**NETWORK, "AvailabilityZone": "us-east-1"}, "such as us-east-1a"),
        ({"VpcId": NETWORK["VpcId"]}, "SubnetId is needed too"),
        ({"VpcId": NETWORK["VpcId"]}, "AvailabilityZone is needed too"),
        ({"SubnetId": NETWORK["SubnetId"]}, "VpcId is needed too"),
        ({"AvailabilityZone": "us-east-1b"}, "VpcId is needed too"),
        ({"ChromaServerAuthProvider": TOKEN}, "ChromaServerAuthCredentials is needed too"),
        ({"ChromaServerAuthCredentials": "secret"}, "ChromaServerAuthProvider is needed too"),
        ({"ChromaServerAuthProvider": "token"}, "ChromaServerAuthProvider is not allowed"),
        ({"ChromaServerAuthCredentials": "two words"}, "no spaces"),
        ({"ChromaServerAuthCredentials": "caf\u00e9"}, "ASCII"),
        ({"ChromaAuthTokenTransportHeader": "X-Chroma-Token"}, f"as {TOKEN}"),
        (
            {
                "ChromaAuthTokenTransportHeader": "X-Chroma-Token",
                "ChromaServerAuthProvider": BASIC,
                "ChromaServerAuthCredentials": "user:pass",
            },
            f"as {TOKEN}",
        ),
        ({"ChromaAuthTokenTransportHeader": "X-Token"}, "is not allowed"),
        ({"ReaderUser": "search"}, "ChromaServerAuthProvider is needed too"),
        ({"ReaderUser": "Search"}, "lower-case letters, digits and hyphens"),
        ({"ReaderUser": "admin"}, "not admin or chroma"),
        ({"ReaderUser": "chroma"}, "not admin or chroma"),
        ({"ChromaOtelCollectionEndpoint": "ftp://collector"}, "such as api.honeycomb.io"),
        ({"ChromaOtelCollectionEndpoint": "https://10.0.0.5"}, "not its address"),
        ({"ChromaOtelCollectionEndpoint": "collector:65536"}, "such as api.honeycomb.io"),
        ({"ChromaOtelServiceName": "two words"}, "letters, digits"),
        ({"ChromaOtelCollectionHeaders": "abc"}, "headers such as"),
        ({"ChromaOtelCollectionHeaders": "{'a': 'b'"}, "headers such as"),
        ({"ChromaOtelCollectionHeaders": "x#y=b"}, "headers such as"),
        ({"ChromaOtelCollectionHeaders": "a=b"}, "ChromaOtelCollectionEndpoint is needed too"),
        ({"ChromaOtelGranularity": "some"}, "is not allowed"),
        ({"TlsMode": "on"}, "TlsMode is not allowed"),
        ({"TlsMode": ""}, "TlsMode is not allowed"),
        ({"HostedZoneId": ZONE}, "DomainName is needed too"),
        ({**NAME, "HostedZoneId": "example.com"}, "such as Z0123456789ABCDEFGHIJ"),
        ({"DomainName": "*.example.com"}, "no wildcard"),
        ({"DomainName": "Chroma.example.com"}, "small letters"),
        ({"DomainName": "chroma"}, "chroma.example.com"),
        ({"TlsCertificateSecretArn": "certificate"}, "the whole ARN of a secret"),
        (
            {"TlsMode": "off", "TlsCertificateSecretArn": CERTIFICATE},
            "TlsMode is needed too, as optional or required",
        ),
    ],
)
def test_wrong_input_is_refused_with_a_sentence(
    published: dict[str, Any], parameters: dict[str, str], said: str
) -> None:
    assert any(said in sentence for sentence in refusals(published, **parameters))


@given(st.from_regex(r"(https?://)?[A-Za-z0-9.-]{1,12}(:[0-9]{1,5})?/?", fullmatch=True))
def test_an_endpoint_that_the_template_accepts_is_one_for_the_instance(endpoint: str) -> None:
    if refusals(json.loads(_text()), ChromaOtelCollectionEndpoint=endpoint) == []:
        otel.parse_endpoint(endpoint)


def test_one_template_serves_both_architectures(published: dict[str, Any]) -> None:
    architectures = {
        name: ec2.InstanceType(name).architecture
        for name in ["t3.small", "m5.4xlarge", "r7iz.large", "g5g.xlarge", "t4g.small", "m9g.large"]
    }
    for name, architecture in architectures.items():
        launched = synthesis.launch(Template.from_json(resolved(published, InstanceType=name)))
        assert launched["ImageId"] == str(MachineImageId.amazon_linux(architecture)), name
    assert len(set(architectures.values())) == 2


@pytest.mark.parametrize(
    ("parameters", "network"),
    [
        ({}, []),
        ({"KeyName": "ops", "AllowedCidr": "198.51.100.0/24"}, ["198.51.100.0/24"]),
        ({"KeyName": "ops", "SshCidr": "203.0.113.7/32"}, ["203.0.113.7/32"]),
    ],
)
def test_ssh_works_with_a_key_alone_as_chromas_documentation_has_it(
    published: dict[str, Any], parameters: dict[str, str], network: list[str]
) -> None:
    left = Template.from_json(resolved(published, **parameters))
    rules = synthesis.properties(left, "AWS::EC2::SecurityGroup")["SecurityGroupIngress"]
    assert [rule["CidrIp"] for rule in rules if rule["FromPort"] == 22] == network


def test_an_image_of_ones_own_is_used(published: dict[str, Any]) -> None:
    image = "ami-0123456789abcdef0"
    assert (
        synthesis.launch(Template.from_json(resolved(published, ImageId=image)))["ImageId"] == image
    )


def test_a_given_network_is_used_and_none_is_made(published: dict[str, Any]) -> None:
    left = Template.from_json(resolved(published, **NETWORK))
    kinds = {it["Type"] for it in left.to_json()["Resources"].values()}
    made = {"VPC", "Subnet", "RouteTable", "Route", "InternetGateway", "VPCGatewayAttachment"}
    assert kinds.isdisjoint(f"AWS::EC2::{kind}" for kind in made)
    assert synthesis.properties(left, "AWS::EC2::SecurityGroup")["VpcId"] == NETWORK["VpcId"]
    assert synthesis.properties(left, "AWS::EC2::Volume")["AvailabilityZone"] == "us-east-1b"
    group = synthesis.properties(left, "AWS::AutoScaling::AutoScalingGroup")
    assert group["VPCZoneIdentifier"] == [NETWORK["SubnetId"]]


@pytest.mark.parametrize("parameters", [{}, *(given for given, _ in SAME.values()), NETWORK])
def test_nothing_refers_to_what_is_not_made(
    published: dict[str, Any], parameters: dict[str, str]
) -> None:
    left = resolved(published, **parameters)
    text = json.dumps(left)
    named = set(re.findall(r'"Ref": "(\w+)"|"Fn::GetAtt": \["(\w+)"', text))
    missing = {ref or get for ref, get in named} - left["Resources"].keys()
    assert missing == set()


def test_the_template_needs_nothing_but_cloudformation(
    text: str, published: dict[str, Any]
) -> None:
    types = {resource["Type"] for resource in published["Resources"].values()}
    assert all(name.startswith("AWS::") for name in types)
    assert types.isdisjoint({"AWS::CDK::Metadata", "AWS::CloudFormation::CustomResource"})
    assert not {name for name in types if name.startswith("AWS::Lambda")}
    assert published.keys() == {
        "Description",
        "Metadata",
        "Parameters",
        "Conditions",
        "Rules",
        "Resources",
        "Outputs",
    }
    for trace in ("BootstrapVersion", "cdk-hnb659fds", "aws:cdk:path", "aws:asset"):
        assert trace not in text


def test_the_template_can_be_deployed_under_any_name(published: dict[str, Any]) -> None:
    for text in texts(published["Resources"]):
        if isinstance(text, str):
            assert "PublishedTemplate" not in text, text
        else:
            # What has to be told apart from other stacks begins with the stack's name.
            parts = json.dumps(text).replace("${AWS::StackName}/PublishedTemplate", "")
            parts = parts.replace('{"Ref": "AWS::StackName"}, "/PublishedTemplate', "")
            assert "PublishedTemplate" not in parts, text


def texts(part: Any) -> list[Any]:
    """Every text of a template; one that is put together, as what it is put together from."""
    if isinstance(part, dict):
        if "Fn::Join" in part or "Fn::Sub" in part:
            return [part]
        return [text for value in part.values() for text in texts(value)]
    if isinstance(part, list):
        return [text for value in part for text in texts(value)]
    return [part] if isinstance(part, str) else []


def test_the_outputs_say_where_the_server_is_and_who_gets_in(published: dict[str, Any]) -> None:
    def outputs(**parameters: str) -> dict[str, Any]:
        left = resolved(published, **parameters)["Outputs"]
        return {name: output["Value"] for name, output in left.items()}

    always = {"ServerIp", "ServerUrl", "Authentication", "HeartbeatCommand", "SessionCommand"}
    always |= {"GroupName", "VolumeId", "SnapshotsCommand", "CaCertificateCommand"}
    always |= {"StatusCommand"}
    open_to_all = outputs()
    assert open_to_all.keys() == always
    assert open_to_all["Authentication"].startswith("nothing: whoever reaches port 8000")
    auth = {"ChromaServerAuthProvider": TOKEN, "ChromaServerAuthCredentials": "secret"}
    assert outputs(**auth).keys() == always | {"CredentialCommand"}
    reader = outputs(**auth, ReaderUser="search")
    assert reader.keys() == always | {"CredentialCommand", "UserCredentialCommand"}
    assert outputs(**auth)["Authentication"].startswith("Authorization: Bearer TOKEN, or X-Chroma")
    bearer = {"ChromaAuthTokenTransportHeader": "Authorization"}
    assert outputs(**auth, **bearer)["Authentication"] == "Authorization: Bearer TOKEN"
    header = {"ChromaAuthTokenTransportHeader": "X-Chroma-Token"}
    assert outputs(**auth, **header)["Authentication"] == "X-Chroma-Token: TOKEN"
    assert (
        "user and password"
        in outputs(**auth | {"ChromaServerAuthProvider": BASIC})["Authentication"]
    )


def test_the_documentation_names_no_other_parameter(published: dict[str, Any]) -> None:
    named = re.findall(r"ParameterKey=(\w+)|overrides (\w+)=", PAGE.read_text())
    assert {key or override for key, override in named} <= published["Parameters"].keys()
    assert len(named) > 8


def test_the_package_has_one_version() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    assert 'version = { attr = "chroma_stack.__version__" }' in project
    assert not re.search("(?m)^version *= *[\"']", project)
    assert re.fullmatch(r"[0-9]+(\.[0-9]+){2}([a-z]+[0-9]+)?", chroma_stack.__version__)
