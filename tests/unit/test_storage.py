"""The volume with the data: its size, growth and speed, and what becomes of it."""

from __future__ import annotations

from typing import Any

import aws_cdk as cdk
import pytest
from aws_cdk import aws_ec2 as ec2

from chroma_stack import SettingError
from tests.unit.construct import server_template
from tests.unit.synthesis import (
    host_settings,
    properties,
    resource,
    stack,
    statements,
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


@pytest.mark.parametrize(
    "other",
    [
        {"snapshotId": SNAPSHOT},
        {"volumeSize": "100"},
        {"volumeIops": "4000"},
        {"volumeThroughput": "250"},
    ],
    ids=str,
)
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


def test_a_server_does_not_begin_anew_unless_told_to() -> None:
    assert host_settings(template())["START_EMPTY"] == "false"
    assert host_settings(template(startEmpty="true"))["START_EMPTY"] == "true"


def test_a_volume_does_not_grow_by_itself_unless_told_to() -> None:
    assert host_settings(template())["MAX_VOLUME_SIZE"] == ""
    assert "ec2:ModifyVolume" not in str(statements(template()))


def test_a_volume_that_grows_is_the_only_one_that_the_instance_may_change() -> None:
    made = template(maxVolumeSize="200")
    assert host_settings(made)["MAX_VOLUME_SIZE"] == "200"
    [volume] = made.find_resources(VOLUME)
    [allowed] = [it for it in statements(made) if it["Action"] == "ec2:ModifyVolume"]
    assert allowed["Resource"]["Fn::Join"][1][-2:] == [":volume/", {"Ref": volume}]
    assert made.find_resources(VOLUME).keys() == template().find_resources(VOLUME).keys()


def test_a_volume_of_an_earlier_server_grows_too() -> None:
    made = template(volumeId="vol-0123456789abcdef0", maxVolumeSize="1")
    assert host_settings(made)["MAX_VOLUME_SIZE"] == "1"
    [allowed] = [it for it in statements(made) if it["Action"] == "ec2:ModifyVolume"]
    assert allowed["Resource"]["Fn::Sub"].endswith(":volume/vol-0123456789abcdef0")


@pytest.mark.parametrize(
    "settings",
    [
        {"maxVolumeSize": "23"},
        {"maxVolumeSize": "99", "volumeSize": "100"},
        {"maxVolumeSize": "0"},
        {"maxVolumeSize": "65537"},
        {"maxVolumeSize": "100.5"},
    ],
    ids=str,
)
def test_a_volume_grows_to_no_less_than_it_has_and_no_more_than_ebs_makes(
    settings: dict[str, str],
) -> None:
    with pytest.raises(
        SettingError, match=r"^maxVolumeSize=.*from 1 to 65536, at least volumeSize"
    ):
        stack(**settings)


def test_iops_and_throughput_are_those_of_the_volume() -> None:
    made = properties(template(volumeIops="8000", volumeThroughput="2000"), VOLUME)
    assert (made["Iops"], made["Throughput"]) == (8000, 2000)
    assert not {"Iops", "Throughput"} & properties(template(), VOLUME).keys()


@pytest.mark.parametrize(
    "settings",
    [
        {"volumeSize": "1", "volumeIops": "3000"},
        {"volumeSize": "160", "volumeIops": "80000", "volumeThroughput": "2000"},
        {"volumeThroughput": "750"},
        {"volumeSize": "8", "volumeIops": "4000", "volumeThroughput": "1000"},
    ],
    ids=str,
)
def test_what_gp3_can_do_is_taken(settings: dict[str, str]) -> None:
    made = properties(template(**settings), VOLUME)
    assert str(made.get("Iops", "")) == settings.get("volumeIops", "")
    assert str(made.get("Throughput", "")) == settings.get("volumeThroughput", "")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"volumeIops": "2999"}, "volumeIops=.*from 3000 to 80000"),
        ({"volumeIops": "80001", "volumeSize": "1000"}, "volumeIops=.*from 3000 to 80000"),
        ({"volumeIops": "12001"}, "volumeIops=.*at most 500 for each GiB"),
        ({"volumeIops": "3001", "volumeSize": "1"}, "volumeIops=.*at most 500 for each GiB"),
        ({"volumeThroughput": "124"}, "volumeThroughput=.*from 125 to 2000"),
        (
            {"volumeThroughput": "2001", "volumeIops": "12000"},
            "volumeThroughput=.*from 125 to 2000",
        ),
        ({"volumeThroughput": "751"}, "volumeThroughput=.*at most a quarter of volumeIops"),
        ({"volumeThroughput": "1001", "volumeIops": "4000"}, "volumeThroughput=.*a quarter"),
    ],
    ids=str,
)
def test_what_gp3_cannot_do_is_refused(settings: dict[str, str], said: str) -> None:
    with pytest.raises(SettingError, match=f"^{said}"):
        stack(**settings)
