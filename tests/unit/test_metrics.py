"""The metrics of a server: those that AWS keeps of instance and volume, and those of ``ChromaMonitoring``."""

from __future__ import annotations

from typing import Any

import aws_cdk as cdk
import pytest
from aws_cdk.assertions import Template

from chroma_stack import ChromaMonitoring, SettingError
from tests.unit.construct import server_in
from tests.unit.synthesis import properties


def monitored(_: cdk.Stack) -> dict[str, Any]:
    """A server whose own metrics there are."""
    return {"monitoring": ChromaMonitoring()}


def alarm(name: str, **props: Any) -> dict[str, Any]:
    """What an alarm on the metric says."""
    stack = cdk.Stack(cdk.App(), "Theirs", env=cdk.Environment(region="eu-central-1"))
    server = server_in(stack, monitored)
    metric = getattr(server, f"metric_{name}")(**props)
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


@pytest.mark.parametrize(
    ("name", "metric", "statistic"),
    [
        ("requests", "Requests", "Sum"),
        ("errors", "Errors", "Sum"),
        ("heartbeat", "Heartbeat", "Minimum"),
        ("memory_utilization", "MemoryUtilization", "Maximum"),
        ("host_memory_utilization", "mem_used_percent", "Maximum"),
        ("swap_utilization", "swap_used_percent", "Maximum"),
        ("index_repairs", "IndexRepairs", "Sum"),
        ("boot_failures", "BootFailures", "Sum"),
        ("backup_age", "BackupAge", "Maximum"),
        ("certificate_days", "CertificateDays", "Minimum"),
    ],
)
def test_the_servers_own_metrics_are_told_apart_by_its_name(
    name: str, metric: str, statistic: str
) -> None:
    made = alarm(name)
    assert (made["Namespace"], made["MetricName"]) == ("Chroma", metric)
    assert made["Dimensions"] == [SERVER]
    assert (made["Statistic"], made["Period"]) == (statistic, 300)


SERVER = {
    "Name": "Server",
    "Value": {"Fn::Join": ["", [{"Ref": "AWS::StackName"}, "/TheirsChromaF5E2274B"]]},
}


def test_in_another_stack_a_metric_is_still_of_its_server() -> None:
    """The name of a stack that a template refers to is its own, wherever the server is."""
    app = cdk.App()
    theirs, other = cdk.Stack(app, "Theirs"), cdk.Stack(app, "Other")
    metric = server_in(theirs, monitored).metric_requests()
    metric.create_alarm(other, "Alarm", threshold=1, evaluation_periods=1)
    [dimension] = properties(Template.from_stack(other), "AWS::CloudWatch::Alarm")["Dimensions"]
    name, in_stack = dimension["Value"]["Fn::Join"][1]
    assert in_stack == "/TheirsChromaF5E2274B"
    Template.from_stack(theirs).has_output(
        "*", {"Value": {"Ref": "AWS::StackName"}, "Export": {"Name": name["Fn::ImportValue"]}}
    )


def test_the_disk_is_that_of_the_data_volume() -> None:
    made = alarm("disk_utilization")
    assert made["MetricName"] == "disk_used_percent"
    assert made["Dimensions"] == [
        SERVER,
        {"Name": "fstype", "Value": "ext4"},
        {"Name": "path", "Value": "/var/lib/chroma"},
    ]


def test_latency_is_had_in_any_percentile() -> None:
    assert alarm("latency")["ExtendedStatistic"] == "p99"
    assert alarm("latency", statistic="p50")["ExtendedStatistic"] == "p50"


def test_refusals_are_had_by_their_status_and_all_together() -> None:
    made = alarm("refusals", status=401)
    assert made["Dimensions"] == [SERVER, {"Name": "Status", "Value": "401"}]
    every = alarm("refusals")["Metrics"]
    [expression] = [it["Expression"] for it in every if "Expression" in it]
    assert expression == (
        "SUM([FILL(status401, 0), FILL(status403, 0), FILL(status429, 0), FILL(status507, 0)])"
    )


def test_refusals_of_one_user_are_had_by_their_status_and_all_together() -> None:
    made = alarm("refusals", status=403, user="search")
    assert made["MetricName"] == "RefusalsByUser"
    status, user = {"Name": "Status", "Value": "403"}, {"Name": "User", "Value": "search"}
    assert made["Dimensions"] == [SERVER, status, user]
    every = alarm("refusals", user="search")["Metrics"]
    [expression] = [it["Expression"] for it in every if "Expression" in it]
    assert expression == "SUM([FILL(status401, 0), FILL(status403, 0)])"
    with pytest.raises(SettingError, match=r"^status=507 is refused: 401, 403"):
        alarm("refusals", status=507, user="search")


@pytest.mark.parametrize("status", [200, 404, 500])
def test_what_is_no_refusal_is_refused(status: int) -> None:
    with pytest.raises(SettingError, match=f"^status={status} is refused: 401, 403, 429, 507"):
        alarm("refusals", status=status)
