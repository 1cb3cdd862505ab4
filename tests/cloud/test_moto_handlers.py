"""The simulated account refuses what CloudFormation refuses, and what it has no handler for."""

from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

from chroma_stack.emulator.moto_server import MotoServer

VOLUME = {
    "Type": "AWS::EC2::Volume",
    "DeletionPolicy": "Snapshot",
    "Properties": {
        "AvailabilityZone": "us-east-1a",
        "Size": "24",
        "Encrypted": True,
        "VolumeType": "gp3",
    },
}
ADDRESS = {"Type": "AWS::EC2::EIP", "Properties": {"Domain": "vpc"}}
PARAMETER = {
    "Type": "AWS::SSM::Parameter",
    "Properties": {"Type": "String", "Value": "text", "Tags": {"owner": "us"}},
}


@pytest.fixture
def account(aws: MotoServer) -> MotoServer:
    """The account of the module, emptied."""
    aws.reset()
    return aws


def create(aws: MotoServer, **resources: Any) -> None:
    aws.client("cloudformation").create_stack(
        StackName="Small", TemplateBody=json.dumps({"Resources": resources})
    )


def update(aws: MotoServer, **resources: Any) -> None:
    aws.client("cloudformation").update_stack(
        StackName="Small", TemplateBody=json.dumps({"Resources": resources})
    )


def with_properties(resource: dict[str, Any], **properties: Any) -> dict[str, Any]:
    return resource | {"Properties": resource["Properties"] | properties}


def group_that_starts(image: str) -> dict[str, Any]:
    """A group with one instance, and what belongs to it."""
    return {
        "Template": {
            "Type": "AWS::EC2::LaunchTemplate",
            "Properties": {
                "LaunchTemplateData": {"ImageId": image, "InstanceType": "t3.small", "UserData": ""}
            },
        },
        "Group": {
            "Type": "AWS::AutoScaling::AutoScalingGroup",
            "Properties": {
                "MinSize": "1",
                "MaxSize": "1",
                "AvailabilityZones": ["us-east-1a"],
                "LaunchTemplate": {
                    "LaunchTemplateId": {"Ref": "Template"},
                    "Version": {"Fn::GetAtt": ["Template", "LatestVersionNumber"]},
                },
            },
        },
    }


def test_a_secret_that_refers_to_another_one_holds_its_value(account: MotoServer) -> None:
    password = {
        "Type": "AWS::SecretsManager::Secret",
        "Properties": {"GenerateSecretString": {"ExcludePunctuation": True}},
    }
    reference = ["chroma:{{resolve:secretsmanager:", {"Ref": "Password"}, ":SecretString:::}}"]
    whole = {
        "Type": "AWS::SecretsManager::Secret",
        "Properties": {"SecretString": {"Fn::Join": ["", reference]}},
    }
    create(account, Password=password, Whole=whole)
    client = account.client("secretsmanager")
    values = {
        client.get_secret_value(SecretId=arn)["SecretString"]
        for arn in account.physical_ids("Small", "AWS::SecretsManager::Secret")
    }
    [generated] = {it for it in values if not it.startswith("chroma:")}
    assert values == {generated, f"chroma:{generated}"}


def test_a_resource_type_without_a_handler_is_an_error(account: MotoServer) -> None:
    with pytest.raises(ClientError, match="makes AWS::Unknown::Thing"):
        create(account, Thing={"Type": "AWS::Unknown::Thing"})


def test_a_change_without_a_handler_is_an_error(account: MotoServer) -> None:
    create(account, Address=ADDRESS)
    with pytest.raises(ClientError, match="changes AWS::EC2::EIP"):
        update(account, Address=with_properties(ADDRESS, PublicIpv4Pool="amazon"))


def test_an_image_parameter_that_aws_does_not_publish_is_an_error(account: MotoServer) -> None:
    with pytest.raises(ClientError, match="/aws/service/no-such-image"):
        create(account, **group_that_starts("resolve:ssm:/aws/service/no-such-image"))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"Size": 20}, "cannot shrink"),
        ({"Encrypted": False}, "updates of Encrypted"),
        ({"AvailabilityZone": "us-east-1b"}, "updates of AvailabilityZone"),
        ({"SnapshotId": "snap-0123456789abcdef0"}, "updates of SnapshotId"),
    ],
)
def test_a_volume_refuses_the_changes_that_cloudformation_refuses(
    account: MotoServer, change: dict[str, Any], reason: str
) -> None:
    create(account, Data=VOLUME)
    with pytest.raises(ClientError, match=reason):
        update(account, Data=with_properties(VOLUME, **change))


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        ({"Iops": 12_001}, "24 GiB has no 12001 IOPS"),
        ({"Iops": 2_000}, "no 2000 IOPS"),
        ({"Throughput": "751"}, "3000 IOPS has no 751 MiB/s"),
        ({"Throughput": 2_001, "Iops": 12_000}, "no 2001 MiB/s"),
    ],
)
def test_a_volume_that_ebs_does_not_have_is_refused(
    account: MotoServer, wanted: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ClientError, match=reason):
        create(account, Data=with_properties(VOLUME, **wanted))


@pytest.mark.parametrize(
    ("schedule", "reason"),
    [
        ({"CreateRule": {"Interval": 5, "IntervalUnit": "HOURS", "Times": ["03:00"]}}, "taken"),
        ({"CreateRule": {"CronExpression": "0 3 * * *"}}, "not when snapshots are taken"),
        ({"RetainRule": {"Count": 1001}}, "not how long to keep"),
        ({"RetainRule": {"Count": 7, "Interval": 7, "IntervalUnit": "DAYS"}}, "how long to keep"),
        ({"CrossRegionCopyRules": [{"Target": "us-east-1"}]}, "no other region"),
        ({"CrossRegionCopyRules": [{"TargetRegion": "eu-west-1"}]}, "is for policies of AMIs"),
        (
            {
                "CrossRegionCopyRules": [
                    {
                        "Target": "eu-west-1",
                        "Encrypted": True,
                        "CmkArn": "arn:aws:kms:us-east-1:123456789012:key/k",
                    }
                ]
            },
            "no key in eu-west-1",
        ),
    ],
)
def test_a_policy_that_data_lifecycle_manager_refuses_is_refused(
    account: MotoServer, schedule: dict[str, Any], reason: str
) -> None:
    daily = {
        "CreateRule": {"Interval": 24, "IntervalUnit": "HOURS", "Times": ["03:00"]},
        "RetainRule": {"Count": 7},
    }
    policy = {
        "Type": "AWS::DLM::LifecyclePolicy",
        "Properties": {"PolicyDetails": {"Schedules": [daily | schedule]}},
    }
    with pytest.raises(ClientError, match=reason):
        create(account, Backup=policy)


@pytest.mark.parametrize(
    ("policy", "volumes", "snapshots"), [("Snapshot", 0, 1), ("Retain", 1, 0), ("Delete", 0, 0)]
)
def test_a_volume_that_is_no_longer_wanted_goes_by_its_policy(
    account: MotoServer, policy: str, volumes: int, snapshots: int
) -> None:
    create(account, Data=VOLUME | {"DeletionPolicy": policy}, Address=ADDRESS)
    volume = account.physical_id("Small", "AWS::EC2::Volume")
    update(account, Address=ADDRESS)
    assert len(account.client("ec2").describe_volumes()["Volumes"]) == volumes
    assert len(account.snapshots(volume)) == snapshots


def test_a_parameter_has_a_name_of_its_logical_id_its_tags_and_goes_with_its_stack(
    account: MotoServer,
) -> None:
    create(account, Text=PARAMETER, Address=ADDRESS)
    ssm, name = account.client("ssm"), account.physical_id("Small", "AWS::SSM::Parameter")
    assert name.startswith("CFN-Text-")
    assert account.parameters("Small") == {name: "text"}
    tags = ssm.list_tags_for_resource(ResourceType="Parameter", ResourceId=name)["TagList"]
    assert tags == [{"Key": "owner", "Value": "us"}]
    update(account, Address=ADDRESS)
    assert ssm.get_parameters(Names=[name])["Parameters"] == []


@pytest.mark.parametrize("value", ["a" * 4097, "a {{ b"])
def test_a_value_that_no_standard_parameter_holds_is_an_error(
    account: MotoServer, value: str
) -> None:
    with pytest.raises(ClientError, match="not a value of a standard parameter"):
        create(account, Text=with_properties(PARAMETER, Value=value))


def test_a_parameter_with_a_generated_name_is_never_overwritten(account: MotoServer) -> None:
    create(account, Text=PARAMETER)
    with pytest.raises(ClientError, match="never overwrite it"):
        update(account, Text=with_properties(PARAMETER, Value="another text"))


def test_a_parameter_whose_name_is_given_takes_another_value(account: MotoServer) -> None:
    named = with_properties(PARAMETER, Name="/users/search")
    create(account, Text=named)
    update(account, Text=with_properties(named, Value="another text"))
    assert account.parameters("Small") == {"/users/search": "another text"}


def test_without_an_update_policy_a_new_launch_template_version_leaves_the_instance_alone(
    account: MotoServer,
) -> None:
    image = "resolve:ssm:/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-"
    create(account, **group_that_starts(image + "x86_64"))
    before = account.group_instance("Small")["InstanceId"]
    update(account, **group_that_starts(image + "arm64"))
    assert account.launch_template_version("Small")["VersionNumber"] == 2
    assert account.group_instance("Small")["InstanceId"] == before


def test_a_terminated_instance_releases_volume_and_address(account: MotoServer) -> None:
    image = "resolve:ssm:/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64"
    create(account, Data=VOLUME, Address=ADDRESS, **group_that_starts(image))
    ec2 = account.client("ec2")
    instance = account.group_instance("Small")["InstanceId"]
    volume = account.physical_id("Small", "AWS::EC2::Volume")
    address = account.physical_id("Small", "AWS::EC2::EIP")
    ec2.attach_volume(InstanceId=instance, VolumeId=volume, Device="/dev/sdf")
    ec2.associate_address(InstanceId=instance, PublicIp=address)
    ec2.terminate_instances(InstanceIds=[instance])
    assert account.volume(volume)["State"] == "available"
    assert not ec2.describe_addresses(PublicIps=[address])["Addresses"][0].get("InstanceId")


def test_a_template_that_is_too_large_for_a_request_is_taken_by_its_url(
    account: MotoServer,
) -> None:
    large = {"Resources": {"Address": ADDRESS}, "Description": "x" * 51_200}
    cloudformation = account.client("cloudformation")
    with pytest.raises(ClientError, match="less than or equal to 51200"):
        cloudformation.create_stack(StackName="Large", TemplateBody=json.dumps(large))
    account.client("s3").create_bucket(Bucket="templates")
    account.client("s3").put_object(Bucket="templates", Key="large.json", Body=json.dumps(large))
    url = f"{account.endpoint}/templates/large.json"
    cloudformation.create_stack(StackName="Large", TemplateURL=url)
    assert account.stacks() == {"Large": "CREATE_COMPLETE"}
