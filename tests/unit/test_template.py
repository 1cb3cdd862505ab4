"""The whole template, and what it must not need."""

from __future__ import annotations

import json

import pytest
from aws_cdk.assertions import Template

from tests.unit.synthesis import TEMPLATE_LIMIT, size, stack, template, warnings

EVERYTHING = {
    "instanceType": "m7g.4xlarge",
    "image": "123456789012.dkr.ecr.eu-central-1.amazonaws.com/mirror/of/chroma",
    "auth": "basic",
    "corsAllowOrigins": "https://app.example.com,https://admin.example.com",
    "volumeSize": "16000",
    "maxVolumeSize": "65536",
    "volumeIops": "80000",
    "volumeThroughput": "2000",
    "backupSchedule": "hourly",
    "backupRetentionDays": "30",
    "backupCopyRegion": "eu-west-1",
    "backupCopyKeyArn": "arn:aws:kms:eu-west-1:123456789012:key/01234567-89ab-cdef-0123-456789abcdef",
    "snapshotId": "snap-0123456789abcdef0",
    "allowedCidr": ",".join(f"10.{number}.0.0/16" for number in range(50)),
    "keyName": "operations",
    "sshCidr": "203.0.113.0/24",
    "tls": "required",
    "domainName": "chroma.example.com",
    "hostedZoneId": "Z0123456789ABCDEFGHIJ",
    "acmeEmail": "operations@example.com",
    "maintenanceWindow": "first-sun:04:00",
    "unattendedSecurityUpdates": "true",
    "stopSchedule": "0 20 * * 1-5",
    "startSchedule": "0 7 * * 1-5",
    "scheduleTimeZone": "Europe/Vienna",
    "deletionProtection": "true",
    "alarmEmail": "operations@example.com",
    "dashboard": "true",
}


@pytest.mark.parametrize("settings", [{}, EVERYTHING], ids=["defaults", "everything"])
def test_a_stack_is_never_larger_than_cloudformation_takes(settings: dict[str, str]) -> None:
    assert size(template(**settings)) <= TEMPLATE_LIMIT


@pytest.mark.parametrize("settings", [{}, EVERYTHING], ids=["defaults", "everything"])
def test_there_is_no_asset_no_custom_resource_and_no_reference_to_a_bootstrap(
    settings: dict[str, str],
) -> None:
    made = Template.from_stack(stack(**settings)).to_json()
    assert "Parameters" not in made
    assert "Rules" not in made
    types = {resource["Type"] for resource in made["Resources"].values()}
    assert not {name for name in types if name.startswith(("Custom::", "AWS::Lambda"))}
    assert "AWS::CloudFormation::CustomResource" not in types
    assert "cdk-hnb659fds-assets" not in json.dumps(made)


def test_the_outputs_give_the_address_and_the_commands_needed_next() -> None:
    outputs = template().to_json()["Outputs"]
    assert outputs.keys() == {
        "ServerIp",
        "ServerUrl",
        "Authentication",
        "HeartbeatCommand",
        "CaCertificateCommand",
        "CredentialCommand",
        "SessionCommand",
        "GroupName",
        "VolumeId",
        "SnapshotsCommand",
        "StatusCommand",
    }
    assert all(output["Description"] for output in outputs.values())


def test_a_port_that_the_world_reaches_in_plain_is_warned_of_at_synth() -> None:
    [warning] = warnings(stack())
    assert "the whole internet reaches port 8000" in warning
    assert "Set tls=required" in warning
    assert "allowedCidr to your own networks" in warning


def test_a_server_for_some_networks_brings_no_warning() -> None:
    assert warnings(stack(allowedCidr="203.0.113.0/24")) == []


def test_a_key_that_opens_port_22_to_the_world_is_warned_of() -> None:
    said = " ".join(warnings(stack(keyName="ops")))
    assert "port 22 is open to 0.0.0.0/0" in said
    narrow = " ".join(warnings(stack(keyName="ops", sshCidr="203.0.113.7/32")))
    assert "port 22" not in narrow


def test_a_vpc_that_must_be_looked_up_needs_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CDK_DEFAULT_ACCOUNT", raising=False)
    with pytest.raises(ValueError, match=r"vpcId=.*credentials"):
        stack(vpcId="vpc-0123456789abcdef0")


def test_a_given_vpc_is_used_instead_of_one_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CDK_DEFAULT_ACCOUNT", "123456789012")
    monkeypatch.setenv("CDK_DEFAULT_REGION", "eu-central-1")
    made = stack(vpcId="vpc-0123456789abcdef0")
    assert made.account == "123456789012"
    assert made.server.connections is not None
