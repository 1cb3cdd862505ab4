"""The simulated account makes logs, metrics, alarms, notifications and schedules as they are asked for, and refuses what AWS
documents that it refuses."""

from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

from chroma_stack.emulator.moto_server import MotoServer
from tests.cloud.test_moto_handlers import (
    ADDRESS,
    account,
    create,
    group_that_starts,
    update,
    with_properties,
)

__all__ = ["account"]  # the fixture

IMAGE = "resolve:ssm:/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64"
ROLE = "arn:aws:iam::123456789012:role/starts-it"
TOPIC = "arn:aws:sns:us-east-1:123456789012:alarms"
GROUP = {"Type": "AWS::Logs::LogGroup", "Properties": {"RetentionInDays": "30"}}
FILTER = {
    "Type": "AWS::Logs::MetricFilter",
    "Properties": {
        "LogGroupName": {"Ref": "Logs"},
        "FilterPattern": "{ $.server = * && $.ms >= 0 }",
        "MetricTransformations": [
            {
                "MetricNamespace": "N",
                "MetricName": "Latency",
                "MetricValue": "$.ms",
                "Unit": "Milliseconds",
                "Dimensions": [{"Key": "Server", "Value": "$.server"}],
            }
        ],
    },
}
ALARM = {
    "Type": "AWS::CloudWatch::Alarm",
    "Properties": {
        "AlarmDescription": "what to do",
        "ComparisonOperator": "LessThanThreshold",
        "Threshold": 1,
        "EvaluationPeriods": 5,
        "Namespace": "N",
        "MetricName": "Heartbeat",
        "Dimensions": [{"Name": "Server", "Value": "s"}],
        "Period": 60,
        "Statistic": "Minimum",
        "TreatMissingData": "breaching",
        "AlarmActions": [TOPIC],
        "OKActions": [TOPIC],
    },
}
OF_TWO = {
    "Type": "AWS::CloudWatch::Alarm",
    "Properties": {
        "ComparisonOperator": "GreaterThanThreshold",
        "Threshold": 1,
        "EvaluationPeriods": 1,
        "Metrics": [
            {"Id": "share", "Expression": "IF(errors > 9, 100 * errors / requests, 0)"},
            *(
                {
                    "Id": name,
                    "ReturnData": False,
                    "MetricStat": {
                        "Metric": {"Namespace": "N", "MetricName": name},
                        "Period": 300,
                        "Stat": "Sum",
                    },
                }
                for name in ("errors", "requests")
            ),
        ],
    },
}
SCHEDULE = {
    "Type": "AWS::Scheduler::Schedule",
    "Properties": {
        "ScheduleExpression": "cron(0 4 ? * SUN#1 *)",
        "ScheduleExpressionTimezone": "Europe/Vienna",
        "FlexibleTimeWindow": {"Mode": "OFF"},
        "Target": {
            "Arn": "arn:aws:scheduler:::aws-sdk:autoscaling:startInstanceRefresh",
            "RoleArn": ROLE,
            "Input": json.dumps({"AutoScalingGroupName": "g"}),
        },
    },
}
ACTION = {
    "Type": "AWS::AutoScaling::ScheduledAction",
    "Properties": {
        "AutoScalingGroupName": {"Ref": "Group"},
        "MinSize": "0",
        "MaxSize": "0",
        "DesiredCapacity": "0",
        "Recurrence": "0 20 * * MON-FRI",
        "TimeZone": "Europe/Vienna",
    },
}


def filter_with(pattern: str = FILTER["Properties"]["FilterPattern"], **metric: Any) -> Any:
    [transformation] = FILTER["Properties"]["MetricTransformations"]
    return with_properties(
        FILTER, FilterPattern=pattern, MetricTransformations=[transformation | metric]
    )


def schedule_with(**target: Any) -> Any:
    return with_properties(SCHEDULE, Target=SCHEDULE["Properties"]["Target"] | target)


# --- what is made ----------------------------------------------------------------------------------------------------


def test_a_log_group_and_its_filters_are_made_changed_and_removed(account: MotoServer) -> None:
    logs = account.client("logs")
    arn = {"Type": "String", "Value": {"Fn::GetAtt": ["Logs", "Arn"]}}
    written = {"Type": "AWS::SSM::Parameter", "Properties": arn}
    create(account, Logs=GROUP, Filter=FILTER, Address=ADDRESS, Arn=written)
    [group] = logs.describe_log_groups()["logGroups"]
    assert group["retentionInDays"] == 30
    assert list(account.parameters("Small").values()) == [f"{group['logGroupArn']}:*"]
    [made] = logs.describe_metric_filters(logGroupName=group["logGroupName"])["metricFilters"]
    assert made["filterPattern"] == FILTER["Properties"]["FilterPattern"]
    assert made["metricTransformations"] == [
        {
            "metricName": "Latency",
            "metricNamespace": "N",
            "metricValue": "$.ms",
            "unit": "Milliseconds",
            "dimensions": {"Server": "$.server"},
        }
    ]
    update(
        account,
        Logs=with_properties(GROUP, RetentionInDays=7),
        Filter=filter_with(MetricName="Slow"),
        Address=ADDRESS,
    )
    [group] = logs.describe_log_groups()["logGroups"]
    assert group["retentionInDays"] == 7
    [made] = logs.describe_metric_filters(logGroupName=group["logGroupName"])["metricFilters"]
    assert made["metricTransformations"][0]["metricName"] == "Slow"
    update(account, Address=ADDRESS)
    assert logs.describe_log_groups()["logGroups"] == []


def test_alarms_of_a_metric_and_of_an_expression_are_made_changed_and_removed(
    account: MotoServer,
) -> None:
    cloudwatch = account.client("cloudwatch")
    create(account, Beat=ALARM, Share=OF_TWO, Address=ADDRESS)
    beat, share = sorted(
        cloudwatch.describe_alarms()["MetricAlarms"], key=lambda it: str(it["AlarmName"])
    )
    asked = {name: beat[name] for name in ALARM["Properties"]}
    assert asked == ALARM["Properties"]
    assert [it["Id"] for it in share["Metrics"]] == ["share", "errors", "requests"]
    update(account, Beat=with_properties(ALARM, Threshold=2), Share=OF_TWO, Address=ADDRESS)
    found = cloudwatch.describe_alarms(AlarmNames=[beat["AlarmName"]])["MetricAlarms"]
    assert [it["Threshold"] for it in found] == [2]
    update(account, Address=ADDRESS)
    assert cloudwatch.describe_alarms()["MetricAlarms"] == []


def test_a_dashboard_stays_itself_through_an_update(account: MotoServer) -> None:
    cloudwatch = account.client("cloudwatch")
    before, after = ('{"widgets": []}', '{"widgets": [{"type": "text", "width": 24}]}')
    dashboard = {"Type": "AWS::CloudWatch::Dashboard", "Properties": {"DashboardBody": before}}
    create(account, Board=dashboard, Address=ADDRESS)
    update(account, Board=with_properties(dashboard, DashboardBody=after), Address=ADDRESS)
    [entry] = cloudwatch.list_dashboards()["DashboardEntries"]
    body = cloudwatch.get_dashboard(DashboardName=entry["DashboardName"])["DashboardBody"]
    assert body == after
    update(account, Address=ADDRESS)
    assert cloudwatch.list_dashboards()["DashboardEntries"] == []


def test_a_topic_has_its_policy_and_the_subscription_of_the_last_address(
    account: MotoServer,
) -> None:
    sns = account.client("sns")
    topic = {"Type": "AWS::SNS::Topic", "Properties": {"DisplayName": "Alarms"}}
    statement = {
        "Effect": "Allow",
        "Principal": {"Service": "cloudwatch.amazonaws.com"},
        "Action": "sns:Publish",
        "Resource": {"Ref": "Topic"},
    }
    policy = {
        "Type": "AWS::SNS::TopicPolicy",
        "Properties": {
            "Topics": [{"Ref": "Topic"}],
            "PolicyDocument": {"Version": "2012-10-17", "Statement": [statement]},
        },
    }
    mail = {
        "Type": "AWS::SNS::Subscription",
        "Properties": {
            "TopicArn": {"Ref": "Topic"},
            "Protocol": "email",
            "Endpoint": "ops@example.com",
        },
    }
    create(account, Topic=topic, Policy=policy, Mail=mail, Address=ADDRESS)
    [arn] = [it["TopicArn"] for it in sns.list_topics()["Topics"]]
    written = json.loads(sns.get_topic_attributes(TopicArn=arn)["Attributes"]["Policy"])
    assert written["Statement"] == [statement | {"Resource": arn}]
    other = with_properties(mail, Endpoint="dba@example.com")
    update(account, Topic=topic, Policy=policy, Mail=other, Address=ADDRESS)
    found = sns.list_subscriptions_by_topic(TopicArn=arn)["Subscriptions"]
    assert [it["Endpoint"] for it in found] == ["dba@example.com"]
    update(account, Address=ADDRESS)
    assert sns.list_topics()["Topics"] == sns.list_subscriptions()["Subscriptions"] == []


def test_a_schedule_is_made_changed_and_removed(account: MotoServer) -> None:
    scheduler = account.client("scheduler")
    create(account, Window=SCHEDULE, Address=ADDRESS)
    update(
        account,
        Window=with_properties(SCHEDULE, ScheduleExpression="cron(0 5 ? * SUN *)"),
        Address=ADDRESS,
    )
    [name] = [it["Name"] for it in scheduler.list_schedules()["Schedules"]]
    made = scheduler.get_schedule(Name=name)
    assert made["ScheduleExpression"] == "cron(0 5 ? * SUN *)"
    assert made["ScheduleExpressionTimezone"] == "Europe/Vienna"
    assert json.loads(made["Target"]["Input"]) == {"AutoScalingGroupName": "g"}
    update(account, Address=ADDRESS)
    assert scheduler.list_schedules()["Schedules"] == []


def test_a_scheduled_action_is_made_changed_and_removed(account: MotoServer) -> None:
    autoscaling, group = account.client("autoscaling"), group_that_starts(IMAGE)
    create(account, Stop=ACTION, **group)
    update(account, Stop=with_properties(ACTION, Recurrence="0 22 * * *"), **group)
    [made] = autoscaling.describe_scheduled_actions()["ScheduledUpdateGroupActions"]
    assert (made["MinSize"], made["MaxSize"], made["DesiredCapacity"]) == (0, 0, 0)
    assert (made["Recurrence"], made["TimeZone"]) == ("0 22 * * *", "Europe/Vienna")
    update(account, **group)
    assert autoscaling.describe_scheduled_actions()["ScheduledUpdateGroupActions"] == []


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("resource", "reason"),
    [
        (with_properties(GROUP, RetentionInDays=31), "cannot be kept for 31 days"),
        (with_properties(GROUP, Retention=30), "not imitated: .'Retention'"),
        (with_properties(FILTER, LogGroupName="nowhere"), "no log group nowhere"),
        (with_properties(ALARM, EvaluationPeriods=1441), "1441 periods of 60 s are too long"),
        (with_properties(ALARM, Period=45), "45 s is no period"),
        (with_properties(ALARM, DatapointsToAlarm=6), "more data points"),
        (with_properties(ALARM, TreatMissingData="notbreaching"), "missing data is none of"),
        (with_properties(ALARM, AlarmActions=["ops@example.com"]), "an action is no ARN"),
        (with_properties(ALARM, Metrics=OF_TWO["Properties"]["Metrics"]), "with Metrics there is"),
        (with_properties(OF_TWO, Metrics=OF_TWO["Properties"]["Metrics"][:2]), "no metric: .'requ"),
        (with_properties(OF_TWO, Metrics=OF_TWO["Properties"]["Metrics"][1:]), "watches 0"),
        (with_properties(ALARM, Treshold=1), "Unknown parameter"),
        (with_properties(SCHEDULE, ScheduleExpression="cron(0 4 * * SUN *)"), "is a \\?"),
        (with_properties(SCHEDULE, ScheduleExpression="cron(0 4 ? * SUN)"), "not the six fields"),
        (with_properties(SCHEDULE, ScheduleExpressionTimezone="Vienna"), "no time zone: Vienna"),
        (with_properties(SCHEDULE, FlexibleTimeWindow={"Mode": "FLEXIBLE"}), "has a length"),
        (schedule_with(Arn="arn:aws:scheduler:::aws-sdk:autoscaling:refresh"), "has no Refresh"),
        (schedule_with(Input='{"autoScalingGroupName": "g"}'), "its input is no StartInstance"),
        (schedule_with(RoleArn="role"), "no role"),
        (with_properties(ACTION, AutoScalingGroupName="gone"), "no group gone"),
    ],
)
def test_what_aws_refuses_is_refused(
    account: MotoServer, resource: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ClientError, match=reason):
        create(account, It=resource)


@pytest.mark.parametrize(
    ("resource", "reason"),
    [
        (filter_with(DefaultValue=0), "dimensions has no default value"),
        (filter_with("{ $.ms >= 0 }"), r"does not name \$.server"),
        (filter_with("ERROR"), "is missing"),
        (filter_with(MetricValue="$.seconds"), r"does not name \$.seconds"),
    ],
)
def test_a_metric_filter_that_aws_refuses_is_refused(
    account: MotoServer, resource: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ClientError, match=reason):
        create(account, Logs=GROUP, It=resource)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"Recurrence": "cron(0 20 * * ? *)"}, "not the five fields"),
        ({"MinSize": 1}, "not in order"),
        ({"TimeZone": "CET/Vienna"}, "no time zone"),
    ],
)
def test_a_scheduled_action_that_aws_refuses_is_refused(
    account: MotoServer, change: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ClientError, match=reason):
        create(account, Stop=with_properties(ACTION, **change), **group_that_starts(IMAGE))


# --- groups and stacks -----------------------------------------------------------------------------------------------


def group_with(**parts: Any) -> dict[str, Any]:
    made = group_that_starts(IMAGE)
    return {**made, "Group": made["Group"] | parts}


def size(aws: MotoServer) -> tuple[int, int, int]:
    [group] = aws.client("autoscaling").describe_auto_scaling_groups()["AutoScalingGroups"]
    return group["MinSize"], group["DesiredCapacity"], len(group["Instances"])


@pytest.mark.parametrize(("keeps", "sizes"), [(True, (0, 0, 0)), (False, (1, 1, 1))])
def test_an_update_starts_a_stopped_group_unless_its_policy_keeps_the_sizes(
    account: MotoServer, keeps: bool, sizes: tuple[int, int, int]
) -> None:
    policy = {"AutoScalingScheduledAction": {"IgnoreUnmodifiedGroupSizeProperties": keeps}}
    create(account, **group_with(UpdatePolicy=policy))
    assert size(account) == (1, 1, 1)
    name = account.physical_id("Small", "AWS::AutoScaling::AutoScalingGroup")
    account.client("autoscaling").update_auto_scaling_group(
        AutoScalingGroupName=name, MinSize=0, MaxSize=0, DesiredCapacity=0
    )
    update(account, Address=ADDRESS, **group_with(UpdatePolicy=policy))
    assert size(account) == sizes


def test_a_protected_group_keeps_its_stack_from_being_deleted(account: MotoServer) -> None:
    cloudformation = account.client("cloudformation")
    made = group_that_starts(IMAGE)
    made["Group"] = with_properties(made["Group"], DeletionProtection="prevent-all-deletion")
    create(account, Address=ADDRESS, **made)
    [group] = account.client("autoscaling").describe_auto_scaling_groups()["AutoScalingGroups"]
    assert group["DeletionProtection"] == "prevent-all-deletion"
    cloudformation.delete_stack(StackName="Small")
    assert account.stacks() == {"Small": "DELETE_FAILED"}
    assert size(account) == (1, 1, 1)


def test_a_protected_stack_is_deleted_once_it_is_not_protected_any_more(
    account: MotoServer,
) -> None:
    create(account, Address=ADDRESS)
    cloudformation = account.client("cloudformation")
    protect = cloudformation.update_termination_protection
    protect(StackName="Small", EnableTerminationProtection=True)
    [stack] = cloudformation.describe_stacks()["Stacks"]
    assert stack["EnableTerminationProtection"]
    with pytest.raises(ClientError, match="TerminationProtection is enabled"):
        cloudformation.delete_stack(StackName="Small")
    protect(StackName="Small", EnableTerminationProtection=False)
    cloudformation.delete_stack(StackName="Small")
    assert account.stacks() == {}
