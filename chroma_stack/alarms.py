"""The alarms of a server, and the topic that sends them to an address."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_iam as iam
from aws_cdk import aws_sns as sns
from constructs import Construct

from chroma_stack.settings import EMAIL, EMAIL_ALLOWED, Setting
from chroma_stack.tls import TlsMode

if TYPE_CHECKING:
    from chroma_stack.server import ChromaServer

MEMORY_PERCENT = 85
DISK_PERCENT = 80
ERROR_PERCENT = 1
FEWEST_ERRORS = 5
CERTIFICATE_DAYS = 10
"""The thresholds, of which the dashboard draws some."""

_PAGE = 'docs/operations.md, "When an alarm goes off"'


def longest_backup_age(hours: int) -> int:
    """After how many hours without a snapshot one is missing: what the schedule takes, and for its
    delay and the snapshot itself a quarter of that, but three hours at least. Data Lifecycle
    Manager begins within an hour of the time that is set.

    https://docs.aws.amazon.com/ebs/latest/userguide/snapshot-ami-policy.html

    :param hours: from one snapshot to the next by the schedule.
    """
    return hours + max(3, hours // 4)


class ChromaAlarms(Construct):
    """Alarms for what an owner has to know of a server, each with what to do in its description.

    Made by :meth:`chroma_stack.ChromaServer.add_alarms`.
    """

    def __init__(
        self, scope: Construct, construct_id: str, *, server: ChromaServer, topic: sns.ITopic
    ) -> None:
        """
        :param server: the server, which has ``monitoring``.
        :param topic: that the alarms are sent to. One that is encrypted needs a key of yours that
            CloudWatch may use: https://docs.aws.amazon.com/sns/latest/dg/sns-key-management.html
        :raises SettingError: when the server has no ``monitoring``.
        """
        super().__init__(scope, construct_id)
        self._action = actions.SnsAction(topic)
        self._alarms: dict[str, cloudwatch.Alarm] = {}
        minute, hour = cdk.Duration.minutes(1), cdk.Duration.hours(1)
        over, under = (
            cloudwatch.ComparisonOperator.GREATER_THAN_THRESHOLD,
            cloudwatch.ComparisonOperator.LESS_THAN_THRESHOLD,
        )
        # A level that is not measured is as it was: NoHeartbeat tells that nothing is measured.
        unchanged = cloudwatch.TreatMissingData.IGNORE
        # What is only counted when it happens did not happen.
        none = cloudwatch.TreatMissingData.NOT_BREACHING

        self._add(
            "NoHeartbeat",
            "The server does not answer",
            "Chroma has not answered for 5 minutes, or the instance is stopped.",
            # One answer in a minute is enough.
            server.metric_heartbeat(statistic="Maximum", period=minute),
            threshold=1,
            comparison=under,
            periods=5,
            # A server that sends nothing does not answer either.
            missing=cloudwatch.TreatMissingData.BREACHING,
        )
        # Before the first boot has ended, nothing answers.
        self._alarms["NoHeartbeat"].node.add_dependency(server.auto_scaling_group)
        self._add(
            "MemoryHigh",
            "Memory is high",
            f"Chroma uses more than {MEMORY_PERCENT} % of its memory.",
            server.metric_memory_utilization(),
            threshold=MEMORY_PERCENT,
            comparison=over,
            periods=2,
            missing=unchanged,
        )
        self._add(
            "DiskFull",
            "The volume is nearly full",
            f"More than {DISK_PERCENT} % of the data volume is in use.",
            server.metric_disk_utilization(),
            threshold=DISK_PERCENT,
            comparison=over,
            periods=2,
            missing=unchanged,
        )
        self._add(
            "ErrorsHigh",
            "Requests fail",
            f"More than {ERROR_PERCENT} % of the requests, and at least {FEWEST_ERRORS} in 5 "
            "minutes, failed.",
            # No value where there are no errors.
            cloudwatch.MathExpression(
                expression=f"IF(errors >= {FEWEST_ERRORS}, 100 * errors / requests, 0)",
                using_metrics={
                    "errors": server.metric_errors(),
                    "requests": server.metric_requests(),
                },
                label="Errors in percent of requests",
            ),
            threshold=ERROR_PERCENT,
            comparison=over,
            periods=3,
            of_them=2,
            missing=none,
        )
        self._add(
            "BootFailed",
            "An instance failed to boot",
            "An instance could not become the server.",
            # An hour, so that a series of failures is one message.
            server.metric_boot_failures(period=hour),
            threshold=0,
            comparison=over,
            missing=none,
            tells_the_end=False,
        )
        self._add(
            "IndexRepaired",
            "An index was repaired",
            "Chroma ended while it wrote an index, which was repaired before it started, or could not "
            "be.",
            server.metric_index_repairs(period=hour),
            threshold=0,
            comparison=over,
            missing=none,
            tells_the_end=False,
        )
        if server.tls.mode is not TlsMode.OFF:
            self._add(
                "CertificateExpiring",
                "The certificate expires",
                f"The certificate is valid for less than {CERTIFICATE_DAYS} more days.",
                server.metric_certificate_days(period=hour),
                threshold=CERTIFICATE_DAYS,
                comparison=under,
                missing=unchanged,
            )
        if server._backup_hours is not None:
            longest = longest_backup_age(server._backup_hours)
            self._add(
                "BackupMissing",
                "A backup is missing",
                f"The data volume has had no complete snapshot for {longest} hours.",
                server.metric_backup_age(period=hour),
                threshold=longest,
                comparison=over,
                missing=unchanged,
            )

    @property
    def alarms(self) -> Mapping[str, cloudwatch.Alarm]:
        """The alarms by their names: ``NoHeartbeat``, ``MemoryHigh``, ``DiskFull``, ``ErrorsHigh``,
        ``BootFailed``, ``IndexRepaired``, with TLS ``CertificateExpiring``, with backups
        ``BackupMissing``."""
        return self._alarms

    def _add(
        self,
        name: str,
        heading: str,
        says: str,
        metric: cloudwatch.IMetric,
        *,
        threshold: float,
        comparison: cloudwatch.ComparisonOperator,
        missing: cloudwatch.TreatMissingData,
        periods: int = 1,
        of_them: int | None = None,
        tells_the_end: bool = True,
    ) -> None:
        """Add an alarm.

        :param heading: of the section that says what to do.
        :param says: what it means.
        :param threshold: that the metric is compared with.
        :param missing: what a period without a value counts as.
        :param periods: of the metric that are looked at. Default: one.
        :param of_them: how many have to be beyond the threshold. Default: all.
        :param tells_the_end: whether a message is sent when it ends, which for an event only means
            that time has passed. Default: yes.
        """
        alarm = cloudwatch.Alarm(
            self,
            name,
            alarm_description=f'{says} What to do: {_PAGE}, "{heading}".',
            metric=metric,
            threshold=threshold,
            comparison_operator=comparison,
            evaluation_periods=periods,
            datapoints_to_alarm=of_them,
            treat_missing_data=missing,
        )
        alarm.add_alarm_action(self._action)
        if tells_the_end:
            alarm.add_ok_action(self._action)
        self._alarms[name] = alarm


class AlarmTopic(sns.Topic):
    """A topic that sends alarms to an address.

    It is not encrypted by KMS: CloudWatch cannot publish by the key that AWS manages for SNS, and a
    key of the stack's own costs a dollar a month. What is sent are names and numbers.

    https://docs.aws.amazon.com/sns/latest/dg/sns-key-management.html
    """

    def __init__(self, scope: Construct, construct_id: str, *, email: str) -> None:
        super().__init__(scope, construct_id, enforce_ssl=True)
        # A topic with a policy has no default one any more, by which CloudWatch may publish.
        self.add_to_resource_policy(
            iam.PolicyStatement(
                principals=[iam.ServicePrincipal("cloudwatch.amazonaws.com")],
                actions=["sns:Publish"],
                resources=[self.topic_arn],
                conditions={"StringEquals": {"aws:SourceAccount": cdk.Aws.ACCOUNT_ID}},
            )
        )
        sns.Subscription(
            self, "Email", topic=self, protocol=sns.SubscriptionProtocol.EMAIL, endpoint=email
        )


SETTINGS = (
    Setting(
        key="alarmEmail",
        parameter="AlarmEmail",
        option="alarm_email",
        meaning="Address that alarms are sent to, once it has confirmed a first message of AWS.",
        without="no alarms",
        pattern=EMAIL,
        allowed=EMAIL_ALLOWED,
    ),
)
