"""The server's log group, and the metrics that are made of its lines and of the instance's agent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_logs as logs
from constructs import Construct

from chroma_stack.errors import SettingError
from chroma_stack.instance import InstanceRole, arn
from chroma_stack.settings import Setting, flag

NAMESPACE = "Chroma"
"""The namespace of the metrics in CloudWatch."""

REFUSALS = (401, 403, 429, 507)
"""How the proxy refuses a request: no credential, not allowed, too many, no room left."""

REFUSALS_BY_USER = (401, 403)
"""How it refuses a user that it knows: a credential that is accepted no more, more than its access."""

DEFAULT_LOG_RETENTION = logs.RetentionDays.ONE_MONTH

_RETENTIONS: Mapping[int, logs.RetentionDays] = {
    1: logs.RetentionDays.ONE_DAY,
    3: logs.RetentionDays.THREE_DAYS,
    5: logs.RetentionDays.FIVE_DAYS,
    7: logs.RetentionDays.ONE_WEEK,
    14: logs.RetentionDays.TWO_WEEKS,
    30: logs.RetentionDays.ONE_MONTH,
    60: logs.RetentionDays.TWO_MONTHS,
    90: logs.RetentionDays.THREE_MONTHS,
    120: logs.RetentionDays.FOUR_MONTHS,
    150: logs.RetentionDays.FIVE_MONTHS,
    180: logs.RetentionDays.SIX_MONTHS,
    365: logs.RetentionDays.ONE_YEAR,
    400: logs.RetentionDays.THIRTEEN_MONTHS,
    545: logs.RetentionDays.EIGHTEEN_MONTHS,
    731: logs.RetentionDays.TWO_YEARS,
    1096: logs.RetentionDays.THREE_YEARS,
    1827: logs.RetentionDays.FIVE_YEARS,
    2192: logs.RetentionDays.SIX_YEARS,
    2557: logs.RetentionDays.SEVEN_YEARS,
    2922: logs.RetentionDays.EIGHT_YEARS,
    3288: logs.RetentionDays.NINE_YEARS,
    3653: logs.RetentionDays.TEN_YEARS,
}
"""The numbers of days that CloudWatch Logs knows:
https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutRetentionPolicy.html"""

_RETENTION_ALLOWED = f"one of {', '.join(map(str, _RETENTIONS))} days"


class Metric(NamedTuple):
    """A metric of a server."""

    name: str
    """What CloudWatch calls it."""

    statistic: str
    """What is asked for by default."""

    conditions: str = ""
    """Of the lines that it is made of; empty when the agent measures it."""

    value: str = "1"
    """What each of these lines counts."""

    unit: cloudwatch.Unit = cloudwatch.Unit.COUNT
    """In what its values are."""

    dimensions: Mapping[str, str] = {}
    """Beside ``Server``: of a line, the field that the value is read from; of the agent, the
    value."""

    @property
    def pattern(self) -> str:
        """The filter of the lines. It names the fields of the dimensions too, since a line
        without one of them is not counted:
        https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/FilterAndPatternSyntaxForMetricFilters.html
        """
        return f"{{ $.server = * && {self.conditions} }}"


_PROXY = '$.unit = "chroma-proxy"'
_REQUEST = f"{_PROXY} && $.status > 0"
_STATUS = '$.event = "status"'


def _one_of(statuses: Sequence[int]) -> str:
    return " || ".join(f"$.status = {status}" for status in statuses)


METRICS: Mapping[str, Metric] = {
    it.name: it
    for it in (
        Metric("Requests", "Sum", _REQUEST),
        Metric("Errors", "Sum", f"{_PROXY} && $.status >= 500 && $.status != 507"),
        Metric(
            "Refusals",
            "Sum",
            f"{_PROXY} && ({_one_of(REFUSALS)})",
            dimensions={"Status": "$.status"},
        ),
        Metric(
            "RefusalsByUser",
            "Sum",
            f'{_PROXY} && ({_one_of(REFUSALS_BY_USER)}) && $.user = * && $.user != "-"',
            dimensions={"User": "$.user", "Status": "$.status"},
        ),
        Metric(
            "Latency",
            "p99",
            f"{_REQUEST} && $.total_ms >= 0",
            "$.total_ms",
            cloudwatch.Unit.MILLISECONDS,
        ),
        Metric("Heartbeat", "Minimum", f"{_STATUS} && $.answers = *", "$.answers"),
        Metric(
            "MemoryUtilization",
            "Maximum",
            f"{_STATUS} && $.memory_percent = *",
            "$.memory_percent",
            cloudwatch.Unit.PERCENT,
        ),
        Metric(
            "BackupAge",
            "Maximum",
            f"{_STATUS} && $.backup_hours = *",
            "$.backup_hours",
            cloudwatch.Unit.NONE,
        ),
        Metric(
            "CertificateDays",
            "Minimum",
            f"{_STATUS} && $.certificate_days = *",
            "$.certificate_days",
            cloudwatch.Unit.NONE,
        ),
        Metric(
            "IndexRepairs",
            "Sum",
            '($.event = "index_repaired" || $.event = "index_not_repaired")',
        ),
        Metric("BootFailures", "Sum", '$.event = "boot_failed"'),
        Metric("mem_used_percent", "Maximum", unit=cloudwatch.Unit.PERCENT),
        Metric("swap_used_percent", "Maximum", unit=cloudwatch.Unit.PERCENT),
        Metric(
            "disk_used_percent",
            "Maximum",
            unit=cloudwatch.Unit.PERCENT,
            dimensions={"path": "/var/lib/chroma", "fstype": "ext4"},
        ),
    )
}
"""All metrics of a server that is monitored, by their names."""


class MonitoringBinding(NamedTuple):
    """The monitoring of one server."""

    log_group: logs.ILogGroup
    host_settings: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class ChromaMonitoring:
    """Has the instance send its log to CloudWatch Logs, and memory, disk and swap to CloudWatch.

    An agent on the instance does it (``amazon-cloudwatch-agent``). The server works without it:
    one that cannot be installed, or fails, fails no boot and no request.
    """

    log_retention: logs.RetentionDays = DEFAULT_LOG_RETENTION
    """How long CloudWatch Logs keeps a line. Default: 30 days."""

    removal_policy: cdk.RemovalPolicy = cdk.RemovalPolicy.DESTROY
    """What happens to the log group when the server is removed, or its monitoring turned off.
    Default: DESTROY, the lines are deleted."""

    encryption_key: kms.IKey | None = None
    """The KMS key of the log group. One that was made elsewhere must let CloudWatch Logs use it
    (https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/encrypt-log-data-kms.html). Default:
    a key of CloudWatch Logs."""

    def _bind(self, scope: Construct, role: InstanceRole) -> MonitoringBinding:
        """Make the log group and the metrics of its lines, and let the role write to it.

        :param scope: the server.
        :param role: the role of its instance.
        """
        log_group = self._log_group(scope)
        add_metric_filters(log_group)
        acknowledge_wildcard(role)
        for statement in statements(log_group):
            role.allow(**statement)
        return MonitoringBinding(log_group, host_settings(log_group.log_group_name))

    def _log_group(self, scope: Construct) -> logs.LogGroup:
        if self.encryption_key is not None:
            _allow_use(self.encryption_key, scope)
        return logs.LogGroup(
            scope,
            "LogGroup",
            retention=self.log_retention,
            removal_policy=self.removal_policy,
            encryption_key=self.encryption_key,
        )


def _allow_use(key: kms.IKey, scope: Construct) -> None:
    """Let CloudWatch Logs use a key of the app's for the log groups of the account.

    https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/encrypt-log-data-kms.html
    """
    region = cdk.Stack.of(scope).region
    key.add_to_resource_policy(
        iam.PolicyStatement(
            principals=[iam.ServicePrincipal(f"logs.{region}.amazonaws.com")],
            actions=[
                f"kms:{action}*"
                for action in ("Encrypt", "Decrypt", "ReEncrypt", "GenerateDataKey", "Describe")
            ],
            resources=["*"],
            # Not the one log group: it needs the key first.
            conditions={
                "ArnLike": {"kms:EncryptionContext:aws:logs:arn": arn("logs", "log-group:*")}
            },
        )
    )


def add_metric_filters(log_group: logs.LogGroup) -> None:
    """Have CloudWatch Logs make metrics of the lines of a log group."""
    for metric in METRICS.values():
        if metric.conditions:
            logs.MetricFilter(
                log_group,
                metric.name,
                log_group=log_group,
                filter_pattern=logs.FilterPattern.literal(metric.pattern),
                metric_namespace=NAMESPACE,
                metric_name=metric.name,
                metric_value=metric.value,
                unit=metric.unit,
                dimensions={"Server": "$.server", **metric.dimensions},
            )


def statements(log_group: logs.ILogGroup) -> list[dict[str, Any]]:
    """What the instance needs to do: write to the log group, send metrics of this namespace, and
    read when the last snapshot of its volume was taken.

    ``ec2:DescribeSnapshots`` and ``cloudwatch:PutMetricData`` know no resources:
    https://docs.aws.amazon.com/service-authorization/latest/reference/reference_policies_actions-resources-contextkeys.html

    :param log_group: the server's.
    """
    return [
        {
            "actions": ["logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"],
            "resources": [log_group.log_group_arn],
        },
        {
            "actions": ["cloudwatch:PutMetricData"],
            "resources": ["*"],
            "conditions": {"StringEquals": {"cloudwatch:namespace": NAMESPACE}},
        },
        {"actions": ["ec2:DescribeSnapshots"], "resources": ["*"]},
    ]


def acknowledge_wildcard(role: InstanceRole) -> None:
    """Acknowledge cdk-nag's finding on the permissions that know no resources."""
    role.acknowledge_wildcard(
        "*",
        "Metrics and the list of snapshots are no resources of IAM; a condition limits the first "
        "to the namespace Chroma, and the second only reads.",
    )


def host_settings(log_group_name: str) -> dict[str, str]:
    """What the instance has to know; where there is no monitoring, an empty name."""
    return {"LOG_GROUP": log_group_name}


def metric(server_name: str, name: str, props: Mapping[str, Any]) -> cloudwatch.Metric:
    """One of :data:`METRICS`.

    :param server_name: the value of the dimension ``Server``.
    :param name: what CloudWatch calls the metric.
    :param props: those of ``cloudwatch.Metric``; its ``dimensions_map`` is added to ours.
    """
    row = METRICS[name]
    further = {} if row.conditions else row.dimensions
    given = dict(props)
    dimensions = {"Server": server_name, **further, **given.pop("dimensions_map", {})}
    return cloudwatch.Metric(
        namespace=NAMESPACE,
        metric_name=name,
        dimensions_map=dimensions,
        **{"statistic": row.statistic, **given},
    )


def from_settings(
    enabled: bool = True, log_retention: logs.RetentionDays | None = None
) -> ChromaMonitoring | None:
    """The monitoring that settings describe.

    :param enabled: whether there is any. Default: yes.
    :param log_retention: how long lines are kept. Default: 30 days.
    :raises SettingError: when there is a retention and no monitoring.
    """
    if enabled:
        return ChromaMonitoring(log_retention=log_retention or DEFAULT_LOG_RETENTION)
    if log_retention is not None:
        raise SettingError("log_retention", _days(log_retention), "only with monitoring=true")
    return None


def _days(retention: logs.RetentionDays) -> int:
    return next(days for days, it in _RETENTIONS.items() if it is retention)


def _parse_retention(text: str) -> logs.RetentionDays:
    if not text.isascii() or not text.isdigit() or int(text) not in _RETENTIONS:
        raise SettingError("log_retention", text, _RETENTION_ALLOWED)
    return _RETENTIONS[int(text)]


SETTINGS = (
    Setting(
        key="monitoring",
        parameter="Monitoring",
        option="monitoring",
        field="enabled",
        meaning="`true` sends the instance's log, memory, disk and swap to CloudWatch.",
        default="true",
        values=("true", "false"),
        parse=flag,
    ),
    Setting(
        key="logRetentionDays",
        parameter="LogRetentionDays",
        option="monitoring",
        field="log_retention",
        meaning="Days for which CloudWatch Logs keeps a line of the log.",
        default=str(_days(DEFAULT_LOG_RETENTION)),
        values=tuple(map(str, _RETENTIONS)),
        allowed=_RETENTION_ALLOWED,
        parse=_parse_retention,
    ),
)
