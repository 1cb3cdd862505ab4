"""The log group, the metrics that are made of its lines, and what the instance may do for them."""

from __future__ import annotations

from typing import Any

import aws_cdk as cdk
import pytest
from aws_cdk import aws_kms as kms
from aws_cdk import aws_logs as logs
from aws_cdk.assertions import Template

from chroma_stack import ChromaMonitoring, ChromaStack, SettingError
from chroma_stack.emulator.filter_patterns import Datum, MetricFilter
from tests.unit.construct import server_in, server_template
from tests.unit.synthesis import host_settings, properties, resource, stack, statements, template

SERVER = "ChromaStack/ChromaStackChromaF179FDA8"
LINE = (
    f'{{"time": "2026-11-29T05:00:00Z", "server": "{SERVER}", "instance": "i-0123456789abcdef0", '
)
REQUEST = LINE + '"unit": "chroma-proxy", "status": 200, "total_ms": 12, '
STATUS = LINE + '"unit": "chroma-status", "event": "status", '


def monitored(**given: Any) -> Template:
    """The template of a server with such monitoring in somebody else's app."""
    return server_template(lambda _: {"monitoring": ChromaMonitoring(**given)})


def data(line: str) -> dict[str, Datum]:
    """What the metric filters of the stack make of a line, by the names of the metrics."""
    filters = template().find_resources("AWS::Logs::MetricFilter").values()
    found = [MetricFilter(it["Properties"]).datum(line) for it in filters]
    return {it.name: it for it in found if it is not None}


def test_the_stack_is_monitored_unless_told_otherwise() -> None:
    log_group = resource(template(), "AWS::Logs::LogGroup")
    [name] = template().find_resources("AWS::Logs::LogGroup")
    assert log_group["Properties"]["RetentionInDays"] == 30
    assert log_group["DeletionPolicy"] == "Delete"
    assert host_settings(template())["LOG_GROUP"] == f"<{name}>"
    assert "LOG_GROUP" not in host_settings(template(monitoring="false"))
    assert template(monitoring="false").find_resources("AWS::Logs::LogGroup") == {}


def test_none_turns_the_monitoring_of_the_stack_off() -> None:
    made = ChromaStack(cdk.App(), "Vectors", monitoring=None)
    assert made.server.log_group is None
    assert Template.from_stack(made).find_resources("AWS::Logs::MetricFilter") == {}


def test_the_construct_is_not_monitored_unless_told() -> None:
    assert server_template().find_resources("AWS::Logs::LogGroup") == {}
    assert monitored().find_resources("AWS::Logs::LogGroup") != {}


def test_without_monitoring_the_instance_may_do_nothing_for_it() -> None:
    actions = str([it["Action"] for it in statements(template(monitoring="false"))])
    for action in ("logs:", "cloudwatch:", "DescribeSnapshots"):
        assert action not in actions


def test_the_instance_may_write_to_its_own_log_group_and_send_metrics_of_one_namespace() -> None:
    of_logs = [it for it in statements(template()) if "logs:PutLogEvents" in it["Action"]]
    [name] = template().find_resources("AWS::Logs::LogGroup")
    assert [it["Resource"] for it in of_logs] == [{"Fn::GetAtt": [name, "Arn"]}]
    of_metrics = [it for it in statements(template()) if it["Action"] == "cloudwatch:PutMetricData"]
    assert [it["Condition"] for it in of_metrics] == [
        {"StringEquals": {"cloudwatch:namespace": "Chroma"}}
    ]


def test_lines_are_kept_for_as_long_as_it_says() -> None:
    made = monitored(
        log_retention=logs.RetentionDays.ONE_YEAR, removal_policy=cdk.RemovalPolicy.RETAIN
    )
    log_group = resource(made, "AWS::Logs::LogGroup")
    assert log_group["Properties"]["RetentionInDays"] == 365
    assert log_group["DeletionPolicy"] == "Retain"
    assert properties(template(logRetentionDays="7"), "AWS::Logs::LogGroup")["RetentionInDays"] == 7


def test_a_key_of_the_app_may_be_used_by_cloudwatch_logs_for_log_groups_of_the_account() -> None:
    made = server_template(
        lambda stack: {"monitoring": ChromaMonitoring(encryption_key=kms.Key(stack, "Key"))}
    )
    assert "KmsKeyId" in properties(made, "AWS::Logs::LogGroup")
    policy = properties(made, "AWS::KMS::Key")["KeyPolicy"]["Statement"]
    [allowed] = [it for it in policy if "Service" in it["Principal"]]
    assert "logs." in str(allowed["Principal"])
    assert "log-group:*" in str(allowed["Condition"]["ArnLike"])


def test_a_retention_without_monitoring_is_refused() -> None:
    with pytest.raises(SettingError, match=r"^logRetentionDays=7 is refused: only with monitoring"):
        stack(monitoring="false", logRetentionDays="7")


def test_a_metric_of_a_server_without_monitoring_is_refused_by_the_property_that_is_missing() -> (
    None
):
    server = server_in(cdk.Stack(cdk.App(), "Theirs"))
    for name in ("requests", "refusals", "heartbeat", "disk_utilization", "backup_age"):
        with pytest.raises(SettingError, match=r"^monitoring=None .*ChromaMonitoring"):
            getattr(server, f"metric_{name}")()
    server.metric_cpu_utilization()


def test_every_filter_is_one_that_cloudwatch_takes() -> None:
    filters = template().find_resources("AWS::Logs::MetricFilter").values()
    assert len(filters) == 11
    for it in filters:
        MetricFilter(it["Properties"])


def test_a_request_is_counted_with_its_time() -> None:
    made = data(REQUEST + '"route": "/api/v2/heartbeat"}')
    assert made.keys() == {"Requests", "Latency"}
    assert made["Requests"].value == 1
    assert (made["Latency"].value, made["Latency"].unit) == (12, "Milliseconds")
    assert made["Requests"].namespace == "Chroma"
    assert made["Requests"].dimensions == (("Server", SERVER),)


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_an_error_of_the_server_is_one(status: int) -> None:
    line = LINE + f'"unit": "chroma-proxy", "status": {status}, "total_ms": 3}}'
    assert data(line).keys() == {"Requests", "Latency", "Errors"}


@pytest.mark.parametrize("status", [401, 403, 429, 507])
def test_a_refusal_is_counted_by_its_status_and_is_no_error(status: int) -> None:
    made = data(LINE + f'"unit": "chroma-proxy", "status": {status}, "total_ms": 0}}')
    assert made.keys() == {"Requests", "Latency", "Refusals"}
    assert made["Refusals"].dimensions == (("Server", SERVER), ("Status", str(status)))


def test_a_request_that_a_client_gave_up_is_neither_counted_nor_timed() -> None:
    assert data(LINE + '"unit": "chroma-proxy", "status": -1, "total_ms": 5}') == {}


def test_a_line_of_the_status_makes_a_metric_of_each_value_that_it_has() -> None:
    values = '"answers": 1, "memory_percent": 41.5, "backup_hours": 3.2, "certificate_days": 60}'
    made = {name: it.value for name, it in data(STATUS + values).items()}
    assert made == {
        "Heartbeat": 1,
        "MemoryUtilization": 41.5,
        "BackupAge": 3.2,
        "CertificateDays": 60,
    }
    assert data(STATUS + '"answers": 0}').keys() == {"Heartbeat"}


@pytest.mark.parametrize(
    ("event", "name"),
    [
        ("boot_failed", "BootFailures"),
        ("index_repaired", "IndexRepairs"),
        ("index_not_repaired", "IndexRepairs"),
    ],
)
def test_an_event_that_an_alarm_is_about_is_counted(event: str, name: str) -> None:
    assert data(LINE + f'"unit": "boot", "event": "{event}", "message": "…"}}').keys() == {name}


@pytest.mark.parametrize(
    "line",
    [
        LINE + '"unit": "chroma", "message": "status 500"}',
        LINE + '"unit": "boot", "event": "boot_done", "message": "The server serves."}',
        "no JSON",
    ],
)
def test_no_other_line_is_counted(line: str) -> None:
    assert data(line) == {}
