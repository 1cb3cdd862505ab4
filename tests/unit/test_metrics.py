"""The metrics that AWS keeps of the instance and its volume without an agent."""

from __future__ import annotations

from typing import Any

import aws_cdk as cdk
import pytest
from aws_cdk.assertions import Template

from tests.unit.construct import server_in
from tests.unit.synthesis import properties


def alarm(name: str, **props: Any) -> dict[str, Any]:
    """What an alarm on the metric says."""
    stack = cdk.Stack(cdk.App(), "Theirs", env=cdk.Environment(region="eu-central-1"))
    metric = getattr(server_in(stack), f"metric_{name}")(**props)
    metric.create_alarm(stack, "Alarm", threshold=1, evaluation_periods=1)
    return properties(Template.from_stack(stack), "AWS::CloudWatch::Alarm")


@pytest.mark.parametrize(
    ("name", "metric", "statistic"),
    [
        ("cpu_utilization", "CPUUtilization", "Average"),
        ("status_check_failed", "StatusCheckFailed", "Maximum"),
    ],
)
def test_the_instances_metrics_are_those_of_its_group(
    name: str, metric: str, statistic: str
) -> None:
    made = alarm(name)
    assert (made["Namespace"], made["MetricName"]) == ("AWS/EC2", metric)
    [dimension] = made["Dimensions"]
    assert dimension == {"Name": "AutoScalingGroupName", "Value": {"Ref": "ChromaGroupASGA2D829B4"}}
    assert made["Statistic"] == statistic


@pytest.mark.parametrize(
    ("name", "metric", "statistic"),
    [
        ("volume_read_ops", "VolumeReadOps", "Sum"),
        ("volume_write_ops", "VolumeWriteOps", "Sum"),
        ("volume_queue_length", "VolumeQueueLength", "Average"),
    ],
)
def test_the_volumes_metrics_are_those_of_the_data_volume(
    name: str, metric: str, statistic: str
) -> None:
    made = alarm(name)
    assert (made["Namespace"], made["MetricName"]) == ("AWS/EBS", metric)
    assert made["Dimensions"] == [{"Name": "VolumeId", "Value": {"Ref": "ChromaVolume8FB4DF55"}}]
    assert made["Statistic"] == statistic


def test_any_metric_of_the_instance_is_had_by_its_name() -> None:
    stack = cdk.Stack(cdk.App(), "Theirs", env=cdk.Environment(region="eu-central-1"))
    metric = server_in(stack).metric("NetworkOut", statistic="Sum")
    metric.create_alarm(stack, "Alarm", threshold=1, evaluation_periods=1)
    made = properties(Template.from_stack(stack), "AWS::CloudWatch::Alarm")
    assert (made["Namespace"], made["MetricName"]) == ("AWS/EC2", "NetworkOut")
    assert made["Statistic"] == "Sum"


def test_a_metric_takes_what_cloudwatch_takes() -> None:
    made = alarm("cpu_utilization", statistic="Maximum", period=cdk.Duration.minutes(1))
    assert (made["Statistic"], made["Period"]) == ("Maximum", 60)
