"""What a user writes after ``-c``, and what is refused with which sentence."""

from __future__ import annotations

from typing import Any

import pytest
from aws_cdk.assertions import Template

from chroma_stack import SettingError
from chroma_stack.context import SETTINGS
from chroma_stack.settings import Setting
from tests.unit.synthesis import host_settings, launch, properties, stack, template

SECRET = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:chroma-AbCdEf"
BY_KEY = [setting for setting in SETTINGS if setting.key]
ARM_IMAGE = "resolve:ssm:/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-arm64"
X86_IMAGE = "resolve:ssm:/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64"


def test_without_settings_a_t3_small_runs_the_current_release() -> None:
    assert launch(template())["InstanceType"] == "t3.small"
    assert host_settings(template())["IMAGE"] == "ghcr.io/chroma-core/chroma:1.5.9"
    assert properties(template(), "AWS::EC2::Volume")["Size"] == 24


@pytest.mark.parametrize(
    ("instance_type", "image"),
    [
        ("t3.medium", X86_IMAGE),
        ("m5.4xlarge", X86_IMAGE),
        ("c7i-flex.large", X86_IMAGE),
        ("g4dn.xlarge", X86_IMAGE),
        ("t2.small", X86_IMAGE),
        ("t4g.small", ARM_IMAGE),
        ("a1.medium", ARM_IMAGE),
        ("im4gn.large", ARM_IMAGE),
        ("r8gd.large", ARM_IMAGE),
    ],
)
def test_each_type_gets_the_image_of_its_architecture(instance_type: str, image: str) -> None:
    launched = launch(template(instanceType=instance_type))
    assert launched["InstanceType"] == instance_type
    assert launched["ImageId"] == image


@pytest.mark.parametrize("version", ["0.5.0", "0.6.3", "1.0.0", "1.4.1", "1.5.9", "2.0.0-beta.1"])
def test_a_version_is_the_tag_of_the_official_image(version: str) -> None:
    settings = host_settings(template(chromaVersion=version))
    assert settings["IMAGE"] == f"ghcr.io/chroma-core/chroma:{version}"


def test_another_volume_size_is_taken() -> None:
    assert properties(template(volumeSize="100"), "AWS::EC2::Volume")["Size"] == 100


def test_cdk_json_may_hold_numbers_and_lists() -> None:
    made = stack(volumeSize=100, allowedCidr=["10.0.0.0/8", "192.0.2.0/24"])
    assert made.server.volume is not None


def test_several_networks_may_reach_the_port_and_nobody_else() -> None:
    group = properties(
        template(allowedCidr="203.0.113.0/24, 198.51.100.7/32,203.0.113.0/24"),
        "AWS::EC2::SecurityGroup",
    )
    assert [(rule["CidrIp"], rule["FromPort"]) for rule in group["SecurityGroupIngress"]] == [
        ("203.0.113.0/24", 8000),
        ("198.51.100.7/32", 8000),
    ]


def test_port_22_opens_with_a_key_and_only_to_the_networks_given_for_it() -> None:
    group = properties(template(keyName="ops", sshCidr="203.0.113.7/32"), "AWS::EC2::SecurityGroup")
    ssh = [rule for rule in group["SecurityGroupIngress"] if rule["FromPort"] == 22]
    assert [rule["CidrIp"] for rule in ssh] == ["203.0.113.7/32"]
    assert launch(template(keyName="ops", sshCidr="203.0.113.7/32"))["KeyName"] == "ops"


def test_with_a_key_port_22_is_as_open_as_port_8000_unless_told_otherwise() -> None:
    made = template(keyName="ops", allowedCidr="203.0.113.0/24,198.51.100.7/32")
    group = properties(made, "AWS::EC2::SecurityGroup")
    ssh = [rule for rule in group["SecurityGroupIngress"] if rule["FromPort"] == 22]
    assert [rule["CidrIp"] for rule in ssh] == ["203.0.113.0/24", "198.51.100.7/32"]


def test_without_a_key_port_22_stays_closed() -> None:
    group = properties(template(), "AWS::EC2::SecurityGroup")
    assert {rule["FromPort"] for rule in group["SecurityGroupIngress"]} == {8000}


def test_a_setting_that_exists_in_one_way_only_says_why() -> None:
    for setting in SETTINGS:
        assert setting.key or setting.parameter
        if setting.key and setting.parameter:
            assert setting.only == "", setting.key
        else:
            assert setting.only.endswith("."), setting.key or setting.parameter


def test_every_setting_has_a_sentence_and_a_default_for_the_documentation() -> None:
    for setting in SETTINGS:
        assert setting.meaning.endswith(".")
        assert setting.default or setting.without
        assert (setting.default == "") != (setting.without == "")


REFUSED = [
    # Chroma needs 2 GiB.
    ("instanceType", "t3.nano", "2 GiB"),
    ("instanceType", "t4g.micro", "2 GiB"),
    ("instanceType", "t1.micro", "2 GiB"),
    ("instanceType", "m1.small", "2 GiB"),
    # No Amazon Linux runs on it, or it is no type at all.
    ("instanceType", "mac2.metal", "x86-64 or Graviton"),
    ("instanceType", "t3small", "x86-64 or Graviton"),
    ("instanceType", "T3.small", "x86-64 or Graviton"),
    ("instanceType", "t3.small; reboot", "x86-64 or Graviton"),
    ("instanceType", "", "x86-64 or Graviton"),
    ("imageId", "al2023", "ami-0123456789abcdef0"),
    ("imageId", "ami-0123456789ABCDEF0", "ami-0123456789abcdef0"),
    ("rootVolumeSize", "0", "from 1 to 16384"),
    ("rootVolumeSize", "16385", "from 1 to 16384"),
    ("rootVolumeSize", "8 GiB", "from 1 to 16384"),
    ("chromaVersion", "0.4.24", "0.5.0 or later"),
    ("chromaVersion", "latest", "release number"),
    ("chromaVersion", "1.5", "release number"),
    ("chromaVersion", "1.5.9 --privileged", "release number"),
    ("chromaVersion", "1.5.9$(reboot)", "release number"),
    ("image", "Not An Image", "image name"),
    ("image", "ghcr.io/chroma-core/chroma:1.5.9 sh", "image name"),
    ("image", "ghcr.io/chroma@sha256:short", "image name"),
    ("volumeSize", "0", "whole number"),
    ("volumeSize", "-24", "whole number"),
    ("volumeSize", "24.5", "whole number"),
    ("volumeSize", "24GB", "whole number"),
    ("volumeSize", "١٢", "whole number"),
    ("volumeSize", "65537", "65536"),
    ("snapshotId", "snap-xyz", "snap-0123456789abcdef0"),
    ("snapshotId", "vol-0123456789abcdef0", "snap-0123456789abcdef0"),
    ("startEmpty", "yes", "true or false"),
    ("backupRetentionDays", "-1", "0 to 1000"),
    ("backupRetentionDays", "a week", "0 to 1000"),
    ("backupRetentionDays", "1001", "0 to 1000"),
    ("volumeId", "snap-0123456789abcdef0", "vol-0123456789abcdef0"),
    ("vpcId", "vpc-main", "vpc-0123456789abcdef0"),
    ("allowedCidr", "everyone", "an IPv4 network"),
    ("allowedCidr", "10.0.0.0", "an IPv4 network"),
    ("allowedCidr", "10.0.0.0/33", "an IPv4 network"),
    ("allowedCidr", "10.0.0.1/8", "perhaps 10.0.0.0/8"),
    ("allowedCidr", "10.0.0.0/8,", "an IPv4 network"),
    ("allowedCidr", "2001:db8::/32", "an IPv4 network"),
    ("sshCidr", "0.0.0.0/0", "keyName"),
    ("stackName", "my_stack", "a letter first, then up to 127 letters"),
    ("keyName", "", "key pair"),
    ("auth", "password", "token, basic, none"),
    ("auth", "", "token, basic, none"),
    ("authTokenHeader", "Cookie", "X-Chroma-Token"),
    ("authSecretArn", "my-secret", "ARN"),
    ("users", "search", "NAME:read, NAME:write or NAME:admin"),
    ("users", "search:", "NAME:read, NAME:write or NAME:admin"),
    ("users", "search:read,", "NAME:read, NAME:write or NAME:admin"),
    ("users", "search:READ", "NAME:read, NAME:write or NAME:admin"),
    ("users", "search=read", "NAME:read, NAME:write or NAME:admin"),
    ("users", "Search:read", "a lower-case letter"),
    ("users", ":read", "a lower-case letter"),
    ("users", "1st:read", "a lower-case letter"),
    ("users", "a/b:read", "a lower-case letter"),
    ("users", f"{'a' * 32}:read", "up to 30 lower-case letters, digits and hyphens"),
    ("users", "admin:admin", "not admin or chroma"),
    ("users", "chroma:write", "not admin or chroma"),
    ("tls", "on", "optional or required or off"),
    ("tls", "", "optional or required or off"),
    ("tlsCertificateSecretArn", "my-certificate", "ARN"),
    ("domainName", "chroma", "chroma.example.com"),
    ("domainName", "*.example.com", "no wildcard"),
    ("domainName", "Chroma.example.com", "small letters"),
    ("hostedZoneId", "example.com", "Z0123456789ABCDEFGHIJ"),
    ("hostedZoneId", "Z0123456789ABCDEFGHIJ", "domainName"),
    ("acmeDirectory", "http://ca.example.com/acme", "https://"),
    ("acmeDirectory", "https://ca.example.com/acme", "domainName and hostedZoneId"),
    ("acmeEmail", "operations", "operations@example.com"),
    ("acmeEmail", "ops@example.com", "domainName and hostedZoneId"),
    ("acmeBindingSecretArn", "my-binding", "ARN"),
    ("monitoring", "yes", "true or false"),
    ("logRetentionDays", "31", "1, 3, 5, 7, 14, 30"),
    ("logRetentionDays", "a month", "1, 3, 5, 7, 14, 30"),
    ("alarmEmail", "operations", "operations@example.com"),
    ("alarmEmail", "", "operations@example.com"),
    ("corsAllowOrigins", "app.example.com", "https://app.example.com"),
    ("corsAllowOrigins", "https://a.example/path", "https://app.example.com"),
]


def refused_part(users: str) -> str:
    """What is wrong in it: the name, where there is an access."""
    name, _, access = users.split(",")[-1].partition(":")
    return name if access in {"read", "write", "admin"} else users.split(",")[-1]


@pytest.mark.parametrize(("key", "value", "allowed"), REFUSED)
def test_a_wrong_value_is_refused_by_key_value_and_what_is_allowed(
    key: str, value: str, allowed: str
) -> None:
    with pytest.raises(SettingError) as refusal:
        stack(**{key: value})
    assert str(refusal.value).startswith(f"{key}=")
    said = value.split(",")[-1] if key != "users" else refused_part(value)
    assert repr(said)[1:-1] in str(refusal.value)
    assert allowed in str(refusal.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("otelCollectionEndpoint", True),
        ("keyName", False),
        ("auth", ["token"]),
        ("volumeSize", [100]),
        ("instanceType", {"type": "t3.small"}),
        ("sshCidr", [True]),
        ("users", True),
    ],
)
def test_a_value_of_another_kind_in_cdk_json_is_no_text_by_chance(key: str, value: Any) -> None:
    with pytest.raises(SettingError, match=rf"^{key}=.* is refused: one text"):
        stack(**{key: value})


def test_true_in_cdk_json_is_what_it_is_on_the_command_line() -> None:
    assert host_settings(Template.from_stack(stack(startEmpty=True)))["START_EMPTY"] == "true"


def test_a_long_value_is_not_printed_whole() -> None:
    with pytest.raises(SettingError) as refusal:
        stack(stackName="x" * 100_000)
    assert len(str(refusal.value)) < 300


@pytest.mark.parametrize(
    "key", ["otelServiceName", "otelGranularity", "otelHeadersSecretArn", "otelCollectionHeaders"]
)
def test_a_setting_for_a_collector_that_is_not_given_is_refused_under_its_own_key(key: str) -> None:
    given = {"otelHeadersSecretArn": SECRET, "otelGranularity": "none"}.get(key, "a=b")
    given = "chroma" if key == "otelServiceName" else given
    with pytest.raises(SettingError, match=rf"^{key}=.*otelCollectionEndpoint"):
        stack(**{key: given})


@pytest.mark.parametrize("setting", BY_KEY, ids=lambda setting: setting.key)
@pytest.mark.parametrize("ending", ["\n", "\r", "\x00", "\x1b", "\u2028"])
def test_a_value_with_a_line_break_or_a_control_character_is_refused(
    setting: Setting, ending: str
) -> None:
    key = setting.key
    with pytest.raises(SettingError, match=f"^{key}="):
        stack(**{key: f"a{ending}b"})


@pytest.mark.parametrize(
    ("misspelt", "meant"),
    [
        ("instancetype", "instanceType"),
        ("instance-type", "instanceType"),
        ("InstanceType", "instanceType"),
        ("instanceTyp", "instanceType"),
        ("chroma_version", "chromaVersion"),
        ("allowedCidrs", "allowedCidr"),
        ("volumesize", "volumeSize"),
        ("snapshotID", "snapshotId"),
        ("cidr", "allowedCidr"),
        ("allowedIps", "allowedCidr"),
        ("vpc", "vpcId"),
        ("type", "instanceType"),
        ("version", "chromaVersion"),
        ("size", "volumeSize"),
        ("authMode", "auth"),
        ("otelEndpoint", "otelCollectionEndpoint"),
        ("keyPair", "keyName"),
        ("tags", "docs/settings.md"),
        ("TLS", "tls"),
        ("ssl", "tls"),
        ("certificate", "tlsCertificateSecretArn"),
        ("hostedZone", "hostedZoneId"),
        ("", "docs/settings.md"),
    ],
)
def test_a_key_that_nothing_would_read_is_refused_with_the_nearest_of_ours(
    misspelt: str, meant: str
) -> None:
    with pytest.raises(SettingError, match=rf"^{misspelt}=.* there is no such key; .*\b{meant}\b"):
        stack(**{misspelt: "hidden"})


@pytest.mark.parametrize("setting", [it for it in SETTINGS if it.parameter and it.key])
def test_a_parameter_of_the_published_template_is_told_its_key(setting: Setting) -> None:
    with pytest.raises(SettingError, match=f"perhaps {setting.key} is meant"):
        stack(**{setting.parameter: "hidden"})


def test_a_credential_under_an_unknown_key_is_not_printed() -> None:
    with pytest.raises(SettingError, match="authSecretArn") as refusal:
        stack(ChromaServerAuthCredentials="my-secret-token")
    assert "my-secret-token" not in str(refusal.value)


@pytest.mark.parametrize(
    "key",
    [
        "@aws-cdk/core:anything",
        "aws:cdk:bundling-stacks",
        "vpc-provider:account=123456789012:region=eu-central-1",
        "hosted-zone:account=123456789012:domainName=example.com",
        "availability-zones:account=123456789012:region=eu-central-1",
    ],
)
def test_the_keys_of_the_cdk_itself_are_none_of_our_business(key: str) -> None:
    stack(**{key: []})


@pytest.mark.parametrize(
    "setting",
    [setting for setting in BY_KEY if setting.default],
    ids=lambda setting: setting.key,
)
def test_the_documented_default_is_what_leaving_it_out_means(setting: Setting) -> None:
    headers = {"otelCollectionEndpoint": "collector.example"} if "Headers" in setting.key else {}
    given = template(**headers, **{setting.key: setting.default})
    assert given.to_json() == template(**headers).to_json()
