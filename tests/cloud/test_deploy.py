"""`cdk deploy` and `cdk destroy` by the real command line: what they make, keep, replace and leave behind.

The fixtures are the history of one account, each deployment following from the one before it. They are shared, since each
command takes seconds; a test only compares what they recorded.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from chroma_stack.emulator.cdk import STACK, Cdk, CdkError, Context
from chroma_stack.emulator.moto_handlers import LifecyclePolicy
from chroma_stack.emulator.moto_server import MotoServer
from chroma_stack.user_data import USER_DATA_LIMIT
from tests.cloud.project import PROJECT

SECOND = "Second"


@dataclass(frozen=True)
class Deployed:
    """What there is of a stack after a deployment."""

    outputs: dict[str, str]
    instance: Any
    launch_template: Any
    user_data: list[str]
    volume: Any
    addresses: list[str]
    security_group: str
    open_ports: set[tuple[int, str]]
    credential: str
    backups: list[Any]
    """The properties of the policies that take snapshots."""

    written: str
    """The whole template, as CloudFormation keeps it for whoever may read the stack."""

    @classmethod
    def record(cls, aws: MotoServer, outputs: dict[str, str], stack_name: str = STACK) -> Deployed:
        secret_id = aws.physical_id(stack_name, "AWS::SecretsManager::Secret")
        return cls(
            outputs=outputs,
            instance=aws.group_instance(stack_name),
            launch_template=aws.launch_template_version(stack_name),
            user_data=aws.launched_user_data(stack_name).splitlines(),
            volume=aws.volume(outputs["VolumeId"]),
            addresses=aws.physical_ids(stack_name, "AWS::EC2::EIP"),
            security_group=aws.physical_id(stack_name, "AWS::EC2::SecurityGroup"),
            open_ports=aws.open_ports(stack_name),
            credential=aws.client("secretsmanager").get_secret_value(SecretId=secret_id)[
                "SecretString"
            ],
            backups=[
                LifecyclePolicy.made[policy]
                for policy in aws.physical_ids(stack_name, "AWS::DLM::LifecyclePolicy")
            ],
            written=aws.template_body(stack_name),
        )


def inventory(aws: MotoServer) -> dict[str, set[str]]:
    """All that is in the account and of the kind that our stacks make, snapshots aside."""
    ec2, iam = aws.client("ec2"), aws.client("iam")
    alive = {"Name": "instance-state-name", "Values": ["pending", "running", "stopping", "stopped"]}
    reservations = ec2.describe_instances(Filters=[alive])["Reservations"]
    groups = aws.client("autoscaling").describe_auto_scaling_groups()["AutoScalingGroups"]
    return {
        "vpcs": {it["VpcId"] for it in ec2.describe_vpcs()["Vpcs"]},
        "subnets": {it["SubnetId"] for it in ec2.describe_subnets()["Subnets"]},
        "gateways": {
            it["InternetGatewayId"] for it in ec2.describe_internet_gateways()["InternetGateways"]
        },
        "route tables": {it["RouteTableId"] for it in ec2.describe_route_tables()["RouteTables"]},
        "security groups": {
            it["GroupId"] for it in ec2.describe_security_groups()["SecurityGroups"]
        },
        "interfaces": {
            it["NetworkInterfaceId"]
            for it in ec2.describe_network_interfaces()["NetworkInterfaces"]
        },
        "addresses": {it["PublicIp"] for it in ec2.describe_addresses()["Addresses"]},
        "volumes": {it["VolumeId"] for it in ec2.describe_volumes()["Volumes"]},
        "launch templates": {
            it["LaunchTemplateId"] for it in ec2.describe_launch_templates()["LaunchTemplates"]
        },
        "instances": {it["InstanceId"] for one in reservations for it in one["Instances"]},
        "groups": {it["AutoScalingGroupName"] for it in groups},
        "secrets": {it["ARN"] for it in aws.client("secretsmanager").list_secrets()["SecretList"]},
        "roles": {it["RoleName"] for it in iam.list_roles()["Roles"]},
        "profiles": {
            it["InstanceProfileName"] for it in iam.list_instance_profiles()["InstanceProfiles"]
        },
        "log groups": {
            it["logGroupName"] for it in aws.client("logs").describe_log_groups()["logGroups"]
        },
        "alarms": {
            it["AlarmName"] for it in aws.client("cloudwatch").describe_alarms()["MetricAlarms"]
        },
        "dashboards": {
            it["DashboardName"]
            for it in aws.client("cloudwatch").list_dashboards()["DashboardEntries"]
        },
        "topics": {it["TopicArn"] for it in aws.client("sns").list_topics()["Topics"]},
        "subscriptions": {
            it["SubscriptionArn"] for it in aws.client("sns").list_subscriptions()["Subscriptions"]
        },
        "schedules": {it["Name"] for it in aws.client("scheduler").list_schedules()["Schedules"]},
        "scheduled actions": {
            it["ScheduledActionName"]
            for it in aws.client("autoscaling").describe_scheduled_actions()[
                "ScheduledUpdateGroupActions"
            ]
        },
        "buckets": {it["Name"] for it in aws.client("s3").list_buckets()["Buckets"]},
        # Those of AWS itself aside, which moto only lists once one was asked for.
        "parameters": {
            it["Name"]
            for page in aws.client("ssm").get_paginator("describe_parameters").paginate()
            for it in page["Parameters"]
            if not it["Name"].startswith("/aws/")
        },
    }


FIRST: Context = {"instanceType": "t3.medium"}
CHANGED: Context = {
    "instanceType": "t4g.small",
    "chromaVersion": "1.5.8",
    "volumeSize": 40,
    "allowedCidr": "198.51.100.0/24",
}


@pytest.fixture(scope="module")
def untouched(aws: MotoServer, cdk: Cdk) -> dict[str, set[str]]:
    """What is in an account that was bootstrapped, before anyone deployed to it."""
    cdk.bootstrap()
    return inventory(aws)


@pytest.fixture(scope="module")
def first(aws: MotoServer, cdk: Cdk, untouched: object) -> Deployed:
    """The first deployment, with an instance type."""
    return Deployed.record(aws, cdk.deploy(FIRST))


@pytest.fixture(scope="module")
def old_volume(aws: MotoServer, untouched: object) -> str:
    """The volume of a server that is gone."""
    made = aws.client("ec2").create_volume(Size=30, AvailabilityZone="us-east-1a", Encrypted=True)
    return str(made["VolumeId"])


@pytest.fixture(scope="module")
def second(aws: MotoServer, cdk: Cdk, first: Deployed, old_volume: str) -> Deployed:
    """Another server beside it, in the default VPC, on that volume, with a port open for SSH."""
    context = {
        "stackName": SECOND,
        "vpcId": "default",
        "volumeId": old_volume,
        "keyName": "ops",
        "sshCidr": "203.0.113.7/32",
        "otelCollectionEndpoint": "api.honeycomb.com",
    }
    return Deployed.record(aws, cdk.deploy(context), SECOND)


@pytest.fixture(scope="module")
def again(aws: MotoServer, cdk: Cdk, second: Deployed) -> Deployed:
    """The first deployment, repeated word for word."""
    return Deployed.record(aws, cdk.deploy(FIRST))


@pytest.fixture(scope="module")
def changed(aws: MotoServer, cdk: Cdk, again: Deployed) -> Deployed:
    """Another type, another release, a larger volume, fewer clients."""
    return Deployed.record(aws, cdk.deploy(CHANGED))


@pytest.fixture(scope="module")
def snapshot(aws: MotoServer, changed: Deployed) -> str:
    """A snapshot of the data, as a backup makes it."""
    made = aws.client("ec2").create_snapshot(
        VolumeId=changed.volume["VolumeId"], Description="a backup"
    )
    return str(made["SnapshotId"])


@pytest.fixture(scope="module")
def restored(aws: MotoServer, cdk: Cdk, snapshot: str) -> Deployed:
    """The server put back to that snapshot."""
    return Deployed.record(aws, cdk.deploy({**CHANGED, "snapshotId": snapshot}))


@pytest.fixture(scope="module")
def destroyed(aws: MotoServer, cdk: Cdk, restored: Deployed, snapshot: str) -> None:
    """Both servers gone."""
    cdk.destroy({**CHANGED, "snapshotId": snapshot})
    cdk.destroy({"stackName": SECOND, "vpcId": "default"})


def test_a_deploy_with_an_instance_type_gives_a_server_address(first: Deployed) -> None:
    assert first.instance["InstanceType"] == "t3.medium"
    assert first.addresses == [first.outputs["ServerIp"]]
    host = f"ec2-{first.outputs['ServerIp'].replace('.', '-')}.compute-1.amazonaws.com"
    assert first.outputs["ServerUrl"] == f"http://{host}:8000"


def test_the_data_is_on_an_encrypted_volume_of_its_own(first: Deployed) -> None:
    volume = first.volume
    assert volume["VolumeId"] == first.outputs["VolumeId"]
    assert (volume["VolumeType"], volume["Encrypted"], volume["Size"]) == ("gp3", True, 24)
    assert volume["AvailabilityZone"] == first.instance["Placement"]["AvailabilityZone"]


def test_the_instance_is_told_its_volume_its_address_and_its_secret(
    aws: MotoServer, first: Deployed
) -> None:
    [address] = aws.client("ec2").describe_addresses(PublicIps=first.addresses)["Addresses"]
    assert f"VOLUME={first.volume['VolumeId']}" in first.user_data
    assert f"ADDRESS={address['AllocationId']}" in first.user_data
    assert f"AUTH_SECRET={aws.physical_id(STACK, 'AWS::SecretsManager::Secret')}" in first.user_data


def test_the_user_data_is_no_larger_than_ec2_takes(first: Deployed, second: Deployed) -> None:
    for deployed in (first, second):
        assert len("\n".join(deployed.user_data).encode()) <= USER_DATA_LIMIT


def test_the_credential_is_in_secrets_manager_alone(first: Deployed) -> None:
    assert len(first.credential) >= 32
    for place in (first.written, "\n".join(first.user_data), json.dumps(first.outputs)):
        assert first.credential not in place


def test_the_commands_among_the_outputs_run_as_they_stand(
    aws: MotoServer, first: Deployed, changed: Deployed
) -> None:
    assert run(aws, first.outputs["CredentialCommand"]) == first.credential
    # No session without an instance: only who would be called.
    instance = aws.group_instance(STACK)["InstanceId"]
    session = first.outputs["SessionCommand"]
    assert session.startswith("aws ssm start-session ")
    assert instance in run(aws, session.replace("aws ssm start-session", "echo", 1)).split()


def test_the_commands_of_operation_find_the_instance_and_remove_every_snapshot(
    aws: MotoServer, first: Deployed
) -> None:
    page = (PROJECT / "docs" / "operations.md").read_text()
    [find] = re.findall(r"(?m)^(aws autoscaling describe-auto-scaling-groups.*\n .*)$", page)
    instance = aws.group_instance(STACK)["InstanceId"]
    assert run(aws, find.replace("GROUP", first.outputs["GroupName"])) == instance
    ec2 = aws.client("ec2")
    volume = ec2.create_volume(AvailabilityZone="us-east-1a", Size=1)["VolumeId"]
    [take] = re.findall(r"(?m)^aws ec2 create-snapshot.*$", page)
    taken = run(aws, take.replace("VOLUME_ID", volume))
    [wait] = re.findall(r"(?m)^aws ec2 wait .*$", page)
    run(aws, re.sub(r"snap-\w+", taken, wait))
    [remove] = re.findall(r"(?m)^(for id in .*\n .*)$", page)
    run(aws, remove.replace("VOLUME_ID", volume))
    left = ec2.describe_snapshots(Filters=[{"Name": "volume-id", "Values": [volume]}])
    assert left["Snapshots"] == []
    ec2.delete_volume(VolumeId=volume)


def test_the_snapshots_command_lists_the_snapshots_of_the_data(
    aws: MotoServer, changed: Deployed, snapshot: str
) -> None:
    listed = json.loads(run(aws, changed.outputs["SnapshotsCommand"]))["Snapshots"]
    assert [it["SnapshotId"] for it in listed if it["Description"] == "a backup"] == [snapshot]


def test_a_snapshot_of_this_volume_alone_is_taken_each_day_and_seven_are_kept(
    first: Deployed, second: Deployed
) -> None:
    [policy] = first.backups
    assert policy["State"] == "ENABLED"
    details = policy["PolicyDetails"]
    assert details["ResourceTypes"] == ["VOLUME"]
    [schedule] = details["Schedules"]
    assert schedule["CreateRule"] == {"Interval": 24, "IntervalUnit": "HOURS", "Times": ["03:00"]}
    assert schedule["RetainRule"] == {"Count": 7}
    # It finds the volume by a tag, which no other one has.
    [target] = details["TargetTags"]
    tags = {(tag["Key"], tag["Value"]) for tag in first.volume["Tags"]}
    others = {(tag["Key"], tag["Value"]) for tag in second.volume.get("Tags", [])}
    assert (target["Key"], target["Value"]) in tags - others
    assert second.backups == []


def test_only_the_volume_outlives_its_stack_and_that_as_a_snapshot(first: Deployed) -> None:
    kept = {
        (it["Type"], policy, it[policy])
        for it in yaml.safe_load(first.written)["Resources"].values()
        for policy in ("DeletionPolicy", "UpdateReplacePolicy")
        if it.get(policy, "Delete") != "Delete"
    }
    assert kept == {
        ("AWS::EC2::Volume", "DeletionPolicy", "Snapshot"),
        ("AWS::EC2::Volume", "UpdateReplacePolicy", "Snapshot"),
    }


def test_two_servers_in_one_account(
    aws: MotoServer, first: Deployed, second: Deployed, again: Deployed
) -> None:
    for key in ("ServerIp", "VolumeId", "CredentialCommand"):
        assert first.outputs[key] != second.outputs[key]
    assert first.credential != second.credential
    assert f"STACK={STACK}" in first.user_data
    assert f"STACK={SECOND}" in second.user_data
    assert again.instance["InstanceId"] == first.instance["InstanceId"]


def test_the_accounts_default_vpc_is_used_on_request(
    aws: MotoServer, first: Deployed, second: Deployed
) -> None:
    is_default = {"Name": "is-default", "Values": ["true"]}
    [default] = aws.client("ec2").describe_vpcs(Filters=[is_default])["Vpcs"]
    assert second.instance["VpcId"] == default["VpcId"]
    assert aws.physical_ids(SECOND, "AWS::EC2::VPC") == []
    assert first.instance["VpcId"] == aws.physical_id(STACK, "AWS::EC2::VPC") != default["VpcId"]


def test_ssh_is_open_only_where_it_was_asked_for(first: Deployed, second: Deployed) -> None:
    assert first.open_ports == {(8000, "0.0.0.0/0")}
    assert "KeyName" not in first.launch_template["LaunchTemplateData"]
    assert second.open_ports == {(8000, "0.0.0.0/0"), (22, "203.0.113.7/32")}
    assert second.launch_template["LaunchTemplateData"]["KeyName"] == "ops"


def test_a_deploy_without_changes_changes_nothing(first: Deployed, again: Deployed) -> None:
    assert again == first


def test_another_type_or_version_is_a_new_launch_template_version_on_the_same_volume_and_address(
    first: Deployed, changed: Deployed
) -> None:
    before, after = first.launch_template, changed.launch_template
    assert after["LaunchTemplateId"] == before["LaunchTemplateId"]
    assert after["VersionNumber"] == before["VersionNumber"] + 1
    assert changed.instance["InstanceId"] != first.instance["InstanceId"]
    assert changed.instance["InstanceType"] == "t4g.small"
    assert changed.instance["Architecture"] == "arm64" != first.instance["Architecture"]
    assert changed.volume["VolumeId"] == first.volume["VolumeId"]
    assert changed.addresses == first.addresses
    assert changed.credential == first.credential


def test_another_version_changes_version_and_image_in_the_user_data_and_nothing_else(
    first: Deployed, changed: Deployed
) -> None:
    lines = zip(first.user_data, changed.user_data, strict=True)
    assert [pair for pair in lines if pair[0] != pair[1]] == [
        ("VERSION=1.5.9", "VERSION=1.5.8"),
        ("IMAGE=ghcr.io/chroma-core/chroma:1.5.9", "IMAGE=ghcr.io/chroma-core/chroma:1.5.8"),
    ]


def test_a_volume_grows_in_place(first: Deployed, changed: Deployed) -> None:
    assert changed.volume["VolumeId"] == first.volume["VolumeId"]
    assert (first.volume["Size"], changed.volume["Size"]) == (24, 40)


def test_only_the_allowed_clients_reach_the_port(first: Deployed, changed: Deployed) -> None:
    assert changed.open_ports == {(8000, "198.51.100.0/24")}
    assert changed.security_group == first.security_group


def test_a_snapshot_replaces_the_volume_and_the_replaced_one_leaves_a_last_snapshot(
    aws: MotoServer, changed: Deployed, restored: Deployed, snapshot: str
) -> None:
    assert restored.volume["SnapshotId"] == snapshot
    assert restored.volume["Encrypted"]
    assert restored.volume["Size"] == 40
    replaced = changed.volume["VolumeId"]
    assert f"VOLUME={replaced}" not in restored.user_data
    assert f"VOLUME={restored.volume['VolumeId']}" in restored.user_data
    assert restored.addresses == changed.addresses
    assert replaced not in inventory(aws)["volumes"]
    last = [it for it in aws.snapshots(replaced) if it["SnapshotId"] != snapshot]
    assert len(last) == 1


def test_destroy_leaves_a_last_snapshot_of_the_data(
    aws: MotoServer, restored: Deployed, destroyed: None
) -> None:
    [last] = aws.snapshots(restored.volume["VolumeId"])
    assert last["VolumeSize"] == restored.volume["Size"]


def test_a_volume_that_was_given_is_used_and_stays(
    aws: MotoServer, second: Deployed, destroyed: None, old_volume: str
) -> None:
    assert second.outputs["VolumeId"] == old_volume
    assert f"VOLUME={old_volume}" in second.user_data
    assert aws.volume(old_volume)["Size"] == 30


def test_destroy_leaves_nothing_else(
    aws: MotoServer, destroyed: None, untouched: dict[str, set[str]], old_volume: str
) -> None:
    assert aws.stacks().keys() == {"CDKToolkit"}
    assert inventory(aws) == {**untouched, "volumes": {old_volume}}


KEEPING_APP = """\
import aws_cdk as cdk
from aws_cdk import aws_ec2 as ec2
from chroma_stack import ChromaServer

app = cdk.App()
stack = cdk.Stack(app, "Keeping", synthesizer=cdk.LegacyStackSynthesizer())
vpc = ec2.Vpc(stack, "Vpc", max_azs=1, nat_gateways=0)
public = ec2.SubnetSelection(subnet_type=ec2.SubnetType.PUBLIC)
server = ChromaServer(
    stack, "Chroma", vpc=vpc, vpc_subnets=public, removal_policy=cdk.RemovalPolicy.RETAIN
)
cdk.CfnOutput(stack, "VolumeId", value=server.volume.volume_id)
app.synth()
"""


def test_a_volume_that_is_to_be_kept_stays_and_another_server_goes_on_with_it(
    aws: MotoServer, cdk: Cdk, destroyed: None
) -> None:
    (cdk.directory / "keeping.py").write_text(KEEPING_APP)
    app = ".venv/bin/python keeping.py"
    volume = cdk.deploy(app=app)["VolumeId"]
    cdk.destroy(app=app)
    assert volume in inventory(aws)["volumes"]
    assert aws.snapshots(volume) == []
    successor = {"stackName": "Successor", "volumeId": volume}
    assert cdk.deploy(successor)["VolumeId"] == volume
    cdk.destroy(successor)
    assert volume in inventory(aws)["volumes"]


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("instanceType", "t3.micro", "t3.small"),
        ("chromaVersion", "latest", "1.5.9"),
        ("instancetype", "…", "instanceType"),
    ],
)
def test_a_wrong_setting_is_refused_before_anything_is_made(
    aws: MotoServer, cdk: Cdk, key: str, value: str, allowed: str
) -> None:
    before = aws.stacks()
    with pytest.raises(CdkError) as refused:
        cdk.deploy({"stackName": "Refused", key: value})
    said = str(refused.value)
    assert f"{key}={value!r}" in said
    assert allowed in said
    assert "Traceback" not in said
    assert aws.stacks() == before


def run(aws: MotoServer, command: str) -> str:
    """What a shell command writes that a user copied from the outputs."""
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        command,
        shell=True,
        env=os.environ | aws.environment | {"PATH": programs},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
