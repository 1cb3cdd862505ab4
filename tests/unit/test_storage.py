"""The volume with the data, and what becomes of it."""

from __future__ import annotations

import json
from typing import Any

import aws_cdk as cdk
import pytest
from aws_cdk import aws_ec2 as ec2

from chroma_stack import SettingError
from tests.unit.construct import server_template
from tests.unit.synthesis import (
    host_settings,
    launch,
    properties,
    resource,
    stack,
    template,
    warnings,
)

VOLUME = "AWS::EC2::Volume"
SNAPSHOT = "snap-0123456789abcdef0"


def test_the_data_is_on_an_encrypted_volume_of_its_own() -> None:
    volume = properties(template(), VOLUME)
    assert volume["VolumeType"] == "gp3"
    assert volume["Encrypted"] is True


def test_a_last_snapshot_stays_when_the_volume_is_deleted_or_replaced() -> None:
    volume = resource(template(), VOLUME)
    assert volume["DeletionPolicy"] == "Snapshot"
    assert volume["UpdateReplacePolicy"] == "Snapshot"


def test_without_a_snapshot_the_property_is_absent() -> None:
    assert "SnapshotId" not in properties(template(), VOLUME)


def test_another_snapshot_is_another_volume() -> None:
    restored = template(snapshotId=SNAPSHOT)
    assert properties(restored, VOLUME)["SnapshotId"] == SNAPSHOT
    assert restored.find_resources(VOLUME).keys() != template().find_resources(VOLUME).keys()


def test_a_larger_size_is_the_same_volume() -> None:
    larger = template(volumeSize="100").find_resources(VOLUME)
    assert larger.keys() == template().find_resources(VOLUME).keys()


def test_a_volume_of_an_earlier_server_is_taken_and_none_is_made() -> None:
    made = template(volumeId="vol-0123456789abcdef0")
    assert made.find_resources(VOLUME) == {}
    assert host_settings(made)["VOLUME"] == "vol-0123456789abcdef0"


def test_a_volume_is_used_in_its_own_zone() -> None:
    settings = {"volumeId": "vol-0123456789abcdef0", "allowedCidr": "203.0.113.0/24"}
    [warning] = warnings(stack(**settings))
    assert "Set availabilityZone" in warning
    assert warnings(stack(**settings, availabilityZone="us-east-1c")) == []
    made = template(**settings, availabilityZone="us-east-1c")
    assert properties(made, "AWS::EC2::Subnet")["AvailabilityZone"] == "us-east-1c"


@pytest.mark.parametrize("other", [{"snapshotId": SNAPSHOT}, {"volumeSize": "100"}])
def test_a_volume_and_what_would_make_another_do_not_go_together(other: dict[str, str]) -> None:
    with pytest.raises(SettingError, match=r"^volumeId=.*without a size, snapshot or key"):
        stack(volumeId="vol-0123456789abcdef0", **other)


@pytest.mark.parametrize(
    "other", [{"snapshot_id": SNAPSHOT}, {"volume_size": cdk.Size.gibibytes(100)}]
)
def test_what_makes_a_new_volume_is_not_ignored_beside_a_given_one(other: dict[str, Any]) -> None:
    def with_volume(stack: cdk.Stack) -> dict[str, Any]:
        volume = ec2.Volume.from_volume_attributes(
            stack, "Volume", volume_id="vol-0123456789abcdef0", availability_zone="eu-central-1a"
        )
        return {"volume": volume, **other}

    with pytest.raises(SettingError, match=r"^volume=.*without a size, snapshot or key"):
        server_template(with_volume)


@pytest.mark.parametrize(
    "retention", [cdk.Duration.days(2000), cdk.Duration.hours(12)], ids=["2000 days", "12 hours"]
)
def test_snapshots_are_kept_for_whole_days_and_as_long_as_aws_keeps_them(
    retention: cdk.Duration,
) -> None:
    with pytest.raises(SettingError, match=r"^backup_retention=.*whole number of days"):
        server_template(lambda _: {"backup_retention": retention})


def test_the_data_is_snapshotted_every_day_and_a_week_of_snapshots_is_kept() -> None:
    details = properties(template(), "AWS::DLM::LifecyclePolicy")["PolicyDetails"]
    [schedule] = details["Schedules"]
    assert schedule["CreateRule"]["Interval"] == 24
    assert schedule["RetainRule"]["Count"] == 7


def test_the_backup_finds_this_volume_and_no_other() -> None:
    [target] = properties(template(), "AWS::DLM::LifecyclePolicy")["PolicyDetails"]["TargetTags"]
    assert target in properties(template(), VOLUME)["Tags"]
    assert target["Key"] not in json.dumps(launch(template())["TagSpecifications"])
    other = template(stackName="Other")
    [tag] = [it for it in properties(other, VOLUME)["Tags"] if it["Key"] == target["Key"]]
    assert tag["Value"]["Fn::Sub"].startswith("${AWS::StackName}/")


def test_backups_are_kept_longer_or_not_made_on_request() -> None:
    longer = properties(template(backupRetentionDays="30"), "AWS::DLM::LifecyclePolicy")
    assert longer["PolicyDetails"]["Schedules"][0]["RetainRule"]["Count"] == 30
    assert template(backupRetentionDays="0").find_resources("AWS::DLM::LifecyclePolicy") == {}


def test_a_server_does_not_begin_anew_unless_told_to() -> None:
    assert host_settings(template())["START_EMPTY"] == "false"
    assert host_settings(template(startEmpty="true"))["START_EMPTY"] == "true"
