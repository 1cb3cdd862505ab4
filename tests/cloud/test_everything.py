"""A stack with everything turned on that has a server seen and looked after, by the real command line.

The fixtures are the history of one account, in order, as in `test_deploy.py`: deployed, deployed again, kept from being
deleted, changed while it is stopped and its volume has grown, started, deleted.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest

from chroma_stack import monitoring
from chroma_stack.emulator.cdk import STACK, Cdk, CdkError, Context
from chroma_stack.emulator.moto_handlers import LifecyclePolicy
from chroma_stack.emulator.moto_server import MotoServer
from tests.cloud.project import PROJECT
from tests.cloud.test_deploy import inventory

COPY_KEY = "arn:aws:kms:eu-west-1:123456789012:key/01234567-89ab-cdef-0123-456789abcdef"
EVERYTHING: Context = {
    "instanceType": "t4g.small",
    "logRetentionDays": 14,
    "alarmEmail": "ops@example.com",
    "users": "search:read,ingest:write",
    "dashboard": "true",
    "maintenanceWindow": "first-sun:04:00",
    "unattendedSecurityUpdates": "true",
    "stopSchedule": "0 20 * * 1-5",
    "startSchedule": "0 7 * * 1-5",
    "scheduleTimeZone": "Europe/Vienna",
    "deletionProtection": "true",
    "volumeSize": 100,
    "volumeIops": 4000,
    "volumeThroughput": 250,
    "maxVolumeSize": 500,
    "backupSchedule": "every-6-hours",
    "backupRetentionDays": 30,
    "backupCopyRegion": "eu-west-1",
    "backupCopyKeyArn": COPY_KEY,
}
CHANGED: Context = {**EVERYTHING, "deletionProtection": "false", "chromaVersion": "1.5.8"}
GROWN = 120
"""GiB to which the volume has grown by itself."""

ALARMS = {
    "NoHeartbeat",
    "MemoryHigh",
    "DiskFull",
    "ErrorsHigh",
    "BootFailed",
    "IndexRepaired",
    "CertificateExpiring",
    "BackupMissing",
}


@dataclass(frozen=True)
class Seen:
    """What boto3 says of the stack."""

    outputs: dict[str, str]
    stack: Any
    group: Any
    instance: str | None
    launch_template_version: int
    settings: dict[str, str]
    """What the instance is told."""

    volume: Any
    log_group: Any
    filters: list[Any]
    alarms: dict[str, Any]
    """By the name that they have in the template."""

    dashboard: str
    """Its body."""

    schedule: Any
    scheduled_actions: list[Any]
    backups: Any

    @classmethod
    def record(cls, aws: MotoServer, outputs: dict[str, str]) -> Seen:
        [stack] = [
            it
            for it in aws.client("cloudformation").describe_stacks()["Stacks"]
            if it["StackName"] == STACK
        ]
        group = aws._group(STACK)
        instances = [it["InstanceId"] for it in group["Instances"]]
        user_data = aws.launched_user_data(STACK)
        lines = user_data.split("<<'END_OF_SETTINGS'\n")[1].split("\nEND_OF_SETTINGS\n")[0]
        logs = aws.client("logs")
        [log_group] = logs.describe_log_groups()["logGroups"]
        alarms = aws.client("cloudwatch").describe_alarms()["MetricAlarms"]
        schedule = aws.client("scheduler").get_schedule(
            Name=aws.physical_id(STACK, "AWS::Scheduler::Schedule")
        )
        schedule.pop("ResponseMetadata")
        actions = aws.client("autoscaling").describe_scheduled_actions()
        return cls(
            outputs=outputs,
            stack={name: stack[name] for name in ("StackStatus", "EnableTerminationProtection")},
            group=group,
            instance=instances[0] if instances else None,
            launch_template_version=aws.launch_template_version(STACK)["VersionNumber"],
            settings=dict(line.split("=", 1) for line in lines.split("\n")),
            volume=aws.volume(outputs["VolumeId"]),
            log_group=log_group,
            filters=logs.describe_metric_filters(logGroupName=log_group["logGroupName"])[
                "metricFilters"
            ],
            alarms={name: it for it in alarms for name in ALARMS if name in it["AlarmName"]},
            dashboard=aws.client("cloudwatch").get_dashboard(
                DashboardName=aws.physical_id(STACK, "AWS::CloudWatch::Dashboard")
            )["DashboardBody"],
            schedule=schedule,
            scheduled_actions=actions["ScheduledUpdateGroupActions"],
            backups=LifecyclePolicy.made[aws.physical_id(STACK, "AWS::DLM::LifecyclePolicy")],
        )


@pytest.fixture(scope="module")
def untouched(aws: MotoServer, cdk: Cdk) -> dict[str, set[str]]:
    """What is in an account that was bootstrapped, before anyone deployed to it."""
    cdk.bootstrap()
    return inventory(aws)


@pytest.fixture(scope="module")
def first(aws: MotoServer, cdk: Cdk, untouched: object) -> Seen:
    """Everything turned on."""
    return Seen.record(aws, cdk.deploy(EVERYTHING))


@pytest.fixture(scope="module")
def again(aws: MotoServer, cdk: Cdk, first: Seen) -> Seen:
    """The same, word for word."""
    return Seen.record(aws, cdk.deploy(EVERYTHING))


@pytest.fixture(scope="module")
def refused(aws: MotoServer, cdk: Cdk, again: Seen) -> str:
    """What the command line says when the protected stack is to be deleted."""
    with pytest.raises(CdkError) as refused:
        cdk.destroy(EVERYTHING)
    return str(refused.value)


@pytest.fixture(scope="module")
def changed(aws: MotoServer, cdk: Cdk, refused: str, first: Seen) -> Seen:
    """Another release, without protection, while the server is stopped and its volume has grown by itself."""
    aws.client("ec2").modify_volume(VolumeId=first.volume["VolumeId"], Size=GROWN)
    resize(aws, first, 0)
    return Seen.record(aws, cdk.deploy(CHANGED))


@pytest.fixture(scope="module")
def started(aws: MotoServer, changed: Seen) -> Seen:
    """What the start schedule makes of it."""
    resize(aws, changed, 1)
    return Seen.record(aws, changed.outputs)


@pytest.fixture(scope="module")
def destroyed(aws: MotoServer, cdk: Cdk, started: Seen) -> None:
    cdk.destroy(CHANGED)


def resize(aws: MotoServer, seen: Seen, size: int) -> None:
    """Does what a scheduled action does when its time has come; moto does nothing."""
    aws.client("autoscaling").update_auto_scaling_group(
        AutoScalingGroupName=seen.group["AutoScalingGroupName"],
        MinSize=size,
        DesiredCapacity=size,
    )


def allowed(aws: MotoServer, role: str) -> dict[str, list[Any]]:
    """The statements of a role's own policies, by the actions that they allow."""
    iam = aws.client("iam")
    found: dict[str, list[Any]] = {}
    for name in iam.list_role_policies(RoleName=role)["PolicyNames"]:
        document = iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"]
        for statement in document["Statement"]:
            actions = statement["Action"]
            for action in [actions] if isinstance(actions, str) else actions:
                found.setdefault(action, []).append(statement)
    return found


def instance_role(aws: MotoServer) -> str:
    profile = aws.physical_id(STACK, "AWS::IAM::InstanceProfile")
    found = aws.client("iam").get_instance_profile(InstanceProfileName=profile)
    return str(found["InstanceProfile"]["Roles"][0]["RoleName"])


# --- to be seen ------------------------------------------------------------------------------------------------------


def test_the_instance_sends_its_log_to_a_group_that_is_kept_for_as_long_as_was_asked(
    aws: MotoServer, first: Seen
) -> None:
    name = first.log_group["logGroupName"]
    assert first.log_group["retentionInDays"] == 14
    assert first.settings["LOG_GROUP"] == name
    permissions = allowed(aws, instance_role(aws))
    for action in ("logs:CreateLogStream", "logs:PutLogEvents"):
        assert [it["Resource"] for it in permissions[action]] == [first.log_group["arn"]]
    [metrics] = permissions["cloudwatch:PutMetricData"]
    assert metrics["Condition"] == {"StringEquals": {"cloudwatch:namespace": "Chroma"}}


def test_every_metric_of_the_log_has_its_filter(first: Seen) -> None:
    made = {it["metricTransformations"][0]["metricName"]: it for it in first.filters}
    assert made.keys() == {it.name for it in monitoring.METRICS.values() if it.conditions}
    for it in made.values():
        [transformation] = it["metricTransformations"]
        assert transformation["metricNamespace"] == "Chroma"
        assert transformation["dimensions"]["Server"] == "$.server"


def test_every_alarm_is_told_to_the_address_with_what_to_do(aws: MotoServer, first: Seen) -> None:
    assert first.alarms.keys() == ALARMS
    assert len(first.alarms) == len(aws.client("cloudwatch").describe_alarms()["MetricAlarms"])
    sns = aws.client("sns")
    [topic] = [it["TopicArn"] for it in sns.list_topics()["Topics"]]
    [subscription] = sns.list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]
    assert (subscription["Protocol"], subscription["Endpoint"]) == ("email", "ops@example.com")
    headings = (PROJECT / "docs" / "operations.md").read_text().splitlines()
    for name, alarm in first.alarms.items():
        assert alarm["AlarmActions"] == [topic], name
        assert alarm["OKActions"] in ([topic], []), name
        heading = alarm["AlarmDescription"].split('"')[-2]
        assert f"### {heading}" in headings, name


def test_cloudwatch_may_publish_to_the_topic(aws: MotoServer, first: Seen) -> None:
    sns = aws.client("sns")
    [topic] = [it["TopicArn"] for it in sns.list_topics()["Topics"]]
    policy = json.loads(sns.get_topic_attributes(TopicArn=topic)["Attributes"]["Policy"])
    publishers = [
        it["Principal"]
        for it in policy["Statement"]
        if it["Action"] == "sns:Publish" and it["Effect"] == "Allow"
    ]
    assert publishers == [{"Service": "cloudwatch.amazonaws.com"}]


def test_the_alarms_are_about_what_the_instance_calls_itself_in_its_metrics(first: Seen) -> None:
    server = first.settings["SERVER"]
    assert server.startswith(f"{STACK}/")
    for name, alarm in first.alarms.items():
        asked = (
            [alarm]
            if "MetricName" in alarm
            else [it["MetricStat"]["Metric"] for it in alarm["Metrics"] if "MetricStat" in it]
        )
        for metric in asked:
            dimensions = {it["Name"]: it["Value"] for it in metric["Dimensions"]}
            assert metric["Namespace"] == "Chroma", name
            assert metric["MetricName"] in monitoring.METRICS, name
            assert dimensions["Server"] == server, name


def test_the_dashboard_shows_what_the_instance_sends(first: Seen) -> None:
    widgets = json.loads(first.dashboard)["widgets"]
    graphs = [it["properties"] for it in widgets if "metrics" in it["properties"]]
    assert len(graphs) > 4
    assert "Heartbeat" in json.dumps(graphs)
    assert first.settings["SERVER"] in json.dumps(graphs)


def test_the_instance_finds_the_users_and_may_read_their_credentials(
    aws: MotoServer, first: Seen
) -> None:
    path = first.settings["USERS"]
    assert path == f"/chroma/{first.settings['SERVER']}/users"
    found = aws.client("ssm").get_parameters_by_path(Path=path)["Parameters"]
    told = {it["Name"].rpartition("/")[2]: it["Value"].split(" ") for it in found}
    assert {name: access for name, (access, _) in told.items()} == {
        "search": "read",
        "ingest": "write",
    }
    permissions = allowed(aws, instance_role(aws))
    [listing] = permissions["ssm:GetParametersByPath"]
    assert [it.partition(":parameter")[2] for it in listing["Resource"]] == [path, f"{path}/*"]
    [tagged] = [it for it in permissions["secretsmanager:GetSecretValue"] if "Condition" in it]
    [(condition, server)] = tagged["Condition"]["StringEquals"].items()
    for _, secret in told.values():
        tags = aws.client("secretsmanager").describe_secret(SecretId=secret)["Tags"]
        assert {"Key": condition.removeprefix("aws:ResourceTag/"), "Value": server} in tags


# --- looked after ----------------------------------------------------------------------------------------------------


def test_the_maintenance_window_starts_a_refresh_of_this_group_and_of_no_other(
    aws: MotoServer, first: Seen
) -> None:
    group, schedule = first.group["AutoScalingGroupName"], first.schedule
    assert schedule["ScheduleExpression"] == "cron(00 04 ? * 1#1 *)"
    assert schedule["State"] == "ENABLED"
    target = schedule["Target"]
    assert target["Arn"] == "arn:aws:scheduler:::aws-sdk:autoscaling:startInstanceRefresh"
    request = json.loads(target["Input"])
    assert request["AutoScalingGroupName"] == group
    assert request["Preferences"]["MinHealthyPercentage"] == 0
    role = target["RoleArn"].rpartition("/")[2]
    trusted = aws.client("iam").get_role(RoleName=role)["Role"]["AssumeRolePolicyDocument"]
    assert [it["Principal"] for it in trusted["Statement"]] == [
        {"Service": "scheduler.amazonaws.com"}
    ]
    permissions = allowed(aws, role)
    assert permissions.keys() == {"autoscaling:StartInstanceRefresh"}
    [statement] = permissions["autoscaling:StartInstanceRefresh"]
    assert str(statement["Resource"]).endswith(f":autoScalingGroupName/{group}")


def test_the_server_is_stopped_and_started_by_the_schedule(first: Seen) -> None:
    actions = {
        (it["Recurrence"], it["TimeZone"], it["MinSize"], it["DesiredCapacity"])
        for it in first.scheduled_actions
    }
    assert actions == {
        ("0 20 * * 1-5", "Europe/Vienna", 0, 0),
        ("0 7 * * 1-5", "Europe/Vienna", 1, 1),
    }
    group = first.group["AutoScalingGroupName"]
    assert {it["AutoScalingGroupName"] for it in first.scheduled_actions} == {group}


def test_snapshots_are_taken_by_the_schedule_and_copied_encrypted(first: Seen) -> None:
    [schedule] = first.backups["PolicyDetails"]["Schedules"]
    assert schedule["CreateRule"]["Interval"] == 6
    [copy] = schedule["CrossRegionCopyRules"]
    assert (copy["Target"], copy["Encrypted"]) == ("eu-west-1", True)
    assert copy["CmkArn"] == COPY_KEY
    assert schedule["RetainRule"] == {"Count": 4 * 30}
    assert copy["RetainRule"] == {"Interval": 30, "IntervalUnit": "DAYS"}
    [target] = first.backups["PolicyDetails"]["TargetTags"]
    assert target in first.volume["Tags"]
    assert first.settings["BACKUP_HOURS"] == "6"


def test_the_volume_has_the_speed_that_was_asked_for_and_may_grow(
    aws: MotoServer, first: Seen
) -> None:
    volume = first.volume
    assert (volume["Size"], volume["Iops"], volume["Throughput"]) == (100, 4000, 250)
    assert first.settings["MAX_VOLUME_SIZE"] == "500"
    [statement] = allowed(aws, instance_role(aws))["ec2:ModifyVolume"]
    assert str(statement["Resource"]).endswith(f":volume/{volume['VolumeId']}")


def test_the_instance_is_told_to_install_security_updates(first: Seen) -> None:
    assert first.settings["SECURITY_UPDATES"] == "true"


# --- what happens to it ----------------------------------------------------------------------------------------------


def test_a_deploy_without_changes_changes_nothing(first: Seen, again: Seen) -> None:
    assert again.stack["StackStatus"] in ("CREATE_COMPLETE", "UPDATE_COMPLETE")
    assert Seen(**{**vars(again), "stack": first.stack}) == first


def test_a_protected_stack_is_not_deleted(
    aws: MotoServer, first: Seen, refused: str, changed: Seen
) -> None:
    assert first.stack["EnableTerminationProtection"]
    assert first.group["DeletionProtection"] == "prevent-all-deletion"
    assert "TerminationProtection is enabled" in refused
    assert changed.volume["VolumeId"] == first.volume["VolumeId"]
    assert not changed.stack["EnableTerminationProtection"]
    assert changed.group["DeletionProtection"] == "none"


def test_a_stopped_server_is_changed_without_being_started(first: Seen, changed: Seen) -> None:
    assert changed.stack["StackStatus"] == "UPDATE_COMPLETE"
    assert changed.launch_template_version == first.launch_template_version + 1
    assert changed.instance is None
    sizes = ("MinSize", "DesiredCapacity", "MaxSize")
    assert [changed.group[name] for name in sizes] == [0, 0, 1]


def test_the_next_start_is_of_what_was_deployed_meanwhile(
    aws: MotoServer, first: Seen, started: Seen
) -> None:
    assert started.instance not in (None, first.instance)
    assert started.settings["VERSION"] == "1.5.8"
    assert started.outputs["ServerIp"] == first.outputs["ServerIp"]


def test_a_volume_that_grew_stays_as_large_when_the_old_size_is_deployed(
    first: Seen, changed: Seen
) -> None:
    assert changed.volume["VolumeId"] == first.volume["VolumeId"]
    assert changed.volume["Size"] == GROWN


def test_destroy_leaves_a_last_snapshot_of_the_grown_volume_and_nothing_else(
    aws: MotoServer, started: Seen, destroyed: None, untouched: dict[str, set[str]]
) -> None:
    assert aws.stacks().keys() == {"CDKToolkit"}
    assert inventory(aws) == untouched
    [last] = aws.snapshots(started.volume["VolumeId"])
    assert last["VolumeSize"] == GROWN
