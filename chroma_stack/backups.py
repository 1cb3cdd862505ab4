"""Snapshots of the data volume by a schedule, and their copies in another region."""

from __future__ import annotations

import bisect
import datetime
import functools
import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_dlm as dlm
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from constructs import Construct

from chroma_stack.acknowledge import acknowledge
from chroma_stack.errors import SettingError
from chroma_stack.settings import Setting, matching, whole_number

DEFAULT_BACKUP_RETENTION = cdk.Duration.days(7)

_LONGEST_RETENTION = 1000
"""Snapshots that Data Lifecycle Manager keeps of a volume, and so days of daily ones:
https://docs.aws.amazon.com/dlm/latest/APIReference/API_RetainRule.html"""

_RETENTION_ALLOWED = f"a whole number of days from 0 to {_LONGEST_RETENTION}"

_INTERVALS = (1, 2, 3, 4, 6, 8, 12, 24)
"""Hours from one snapshot to the next:
https://docs.aws.amazon.com/dlm/latest/APIReference/API_CreateRule.html"""

_SCHEDULE_ALLOWED = (
    "hourly, every-2-hours (or 3, 4, 6, 8, 12), daily, or a cron expression of EventBridge in UTC "
    "such as cron(30 6,18 ? * MON-FRI *), without L, W and #, for every year, with at least an "
    "hour and at most a year from one snapshot to the next"
)

_REGION = "([a-z]{2,}-){2,3}[0-9]"
_REGION_ALLOWED = "a region such as eu-central-1, another one than the stack's own"
_KEY_ARN = f"arn:aws(-[a-z]{{1,3}}){{0,2}}:kms:({_REGION}):[0-9]{{12}}:key/[A-Za-z0-9-]{{1,128}}"
_KEY_ALLOWED = (
    "the ARN of a KMS key in backupCopyRegion, which ends with "
    ":kms:eu-central-1:123456789012:key/01234567-89ab-cdef-0123-456789abcdef"
)

_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_DAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
_DAY = 1440  # minutes
_CRON_DAYS = [datetime.date(2027, 1, 1) + datetime.timedelta(days=day) for day in range(5 * 366)]
"""Long enough to see the longest pause of a schedule, with one leap year."""


@dataclass(frozen=True)
class BackupSchedule:
    """When snapshots of the data volume are taken, in UTC."""

    text: str
    """As the context key ``backupSchedule`` has it."""

    hours: int
    """The longest time from one snapshot to the next, in hours, rounded up."""

    @staticmethod
    def hourly() -> BackupSchedule:
        """A snapshot every hour."""
        return BackupSchedule("hourly", 1)

    @staticmethod
    def every(interval: cdk.Duration) -> BackupSchedule:
        """A snapshot every few hours, beginning at 03:00.

        :param interval: 1, 2, 3, 4, 6, 8, 12 or 24 hours.
        :raises SettingError: when it is another time.
        """
        hours = interval.to_hours(integral=False)
        if hours not in _INTERVALS:
            raise SettingError("backup_schedule", f"{hours:g} hours", _SCHEDULE_ALLOWED)
        return BackupSchedule(f"every-{hours:g}-hours", int(hours))

    @staticmethod
    def daily() -> BackupSchedule:
        """A snapshot every night at 03:00, by default."""
        return BackupSchedule("daily", 24)

    @staticmethod
    def cron(expression: str) -> BackupSchedule:
        """Snapshots at the times of a cron expression, whose syntax is EventBridge's
        (https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-scheduled-rule-pattern.html).

        :param expression: such as ``cron(30 6,18 ? * MON-FRI *)``; without ``L``, ``W`` and
            ``#``, and with every year.
        :raises SettingError: when it is none, or its snapshots are less than an hour or more
            than a year apart.
        """
        return BackupSchedule(expression, _longest_pause(expression))

    @staticmethod
    def of(text: str) -> BackupSchedule:
        """The schedule in words.

        :param text: ``hourly``, ``every-6-hours``, ``daily``, or a cron expression.
        :raises SettingError: when it is none of these.
        """
        if text == "hourly":
            return BackupSchedule.hourly()
        if text == "daily":
            return BackupSchedule.daily()
        if match := re.fullmatch("every-(2|3|4|6|8|12)-hours", text):
            return BackupSchedule.every(cdk.Duration.hours(int(match[1])))
        return BackupSchedule.cron(text)

    @property
    def _rule(self) -> dlm.CfnLifecyclePolicy.CreateRuleProperty:
        if self.text.startswith("cron"):
            return dlm.CfnLifecyclePolicy.CreateRuleProperty(cron_expression=self.text)
        return dlm.CfnLifecyclePolicy.CreateRuleProperty(
            interval=self.hours, interval_unit="HOURS", times=["03:00"]
        )

    def _count(self, days: int) -> int:
        """How many snapshots are made in so many days, at most; one at least.

        :raises SettingError: when they are more than are kept.
        """
        if self.text.startswith("cron"):
            times = _times(self.text)
            # For each time, those of the days before it, and itself.
            count = max(
                number - bisect.bisect_right(times, time - days * _DAY) + 1
                for number, time in enumerate(times)
            )
        else:
            count = days * 24 // self.hours
        if count > _LONGEST_RETENTION:
            raise SettingError(
                "backup_retention",
                f"{days} days",
                f"at most {_LONGEST_RETENTION} snapshots are kept, and {self.text} makes {count} "
                "in that time",
            )
        return count


DEFAULT_BACKUP_SCHEDULE = BackupSchedule.daily()


def _longest_pause(expression: str) -> int:
    """The longest time between two times of a cron expression, in hours, rounded up."""
    pauses = [after - before for before, after in itertools.pairwise(_times(expression))]
    if not pauses or min(pauses) < 60 or max(pauses) > 366 * _DAY:
        raise SettingError("backup_schedule", expression, _SCHEDULE_ALLOWED)
    return math.ceil(max(pauses) / 60)


@functools.cache
def _times(expression: str) -> list[int]:
    """The times of a cron expression in some years, in minutes."""
    refused = SettingError("backup_schedule", expression, _SCHEDULE_ALLOWED)
    match = re.fullmatch(r"cron\(([0-9A-Z*?,/ -]{11,100})\)", expression, re.ASCII)
    fields = match[1].split(" ") if match else []
    if len(fields) != 6 or fields[5] != "*" or (fields[2] == "?") == (fields[4] == "?"):
        raise refused
    try:
        minutes, hours = _numbers(fields[0], 0, 59), _numbers(fields[1], 0, 23)
        dates, weekdays = _numbers(fields[2], 1, 31), _numbers(fields[4], 1, 7, _DAYS)
        months = _numbers(fields[3], 1, 12, _MONTHS)
    except ValueError:
        raise refused from None
    days = [
        it
        for it in _CRON_DAYS
        # EventBridge counts from Sunday, which is 1.
        if it.month in months and it.day in dates and it.isoweekday() % 7 + 1 in weekdays
    ]
    if len(minutes) > 1:  # less than an hour apart
        raise refused
    return [
        day.toordinal() * _DAY + hour * 60 + minute
        for day in days
        for hour in sorted(hours)
        for minute in minutes
    ]


def _numbers(field: str, first: int, last: int, names: Sequence[str] = ()) -> set[int]:
    """What a field of a cron expression means.

    :raises ValueError: when it means nothing.
    """

    def number(text: str) -> int:
        found = names.index(text) + first if text in names else int(text)
        if not first <= found <= last:
            raise ValueError(text)
        return found

    meant: set[int] = set()
    for part in field.split(","):
        span, slash, step = part.partition("/")
        begin, dash, end = span.partition("-")
        if begin in {"*", "?"} and not dash:
            low, high = first, last
        else:
            low = number(begin)
            high = number(end) if dash else last if slash else low
        if low > high:
            raise ValueError(part)
        meant.update(range(low, high + 1, int(step) if slash else 1))
    return meant


def retained_days(retention: cdk.Duration) -> int:
    """For how many days snapshots are kept.

    :raises SettingError: when it is no number of days that there may be.
    """
    days = retention.to_days(integral=False)
    if not (float(days).is_integer() and 0 <= days <= _LONGEST_RETENTION):
        raise SettingError("backup_retention", f"{days:g} days", _RETENTION_ALLOWED)
    return int(days)


class Backup(Construct):
    """Snapshots of some volumes by a schedule, by Amazon Data Lifecycle Manager."""

    def __init__(
        self,
        scope: Construct,
        *,
        volumes: Sequence[ec2.Volume],
        retention: cdk.Duration = DEFAULT_BACKUP_RETENTION,
        schedule: BackupSchedule = DEFAULT_BACKUP_SCHEDULE,
        copy_region: str | None = None,
        copy_key: kms.IKey | None = None,
    ) -> None:
        super().__init__(scope, "DailyBackup")  # stacks that exist know it by this name
        self._check_copies(copy_region, copy_key)
        # It finds volumes by a tag: these volumes, and no other in the account.
        tag = cdk.CfnTag(
            key="chroma-backup", value=cdk.Fn.sub(f"${{AWS::StackName}}/{self.node.addr}")
        )
        for volume in volumes:
            cdk.Tags.of(volume).add(tag.key, tag.value)
        role = iam.Role(
            self,
            "Role",
            assumed_by=iam.ServicePrincipal("dlm.amazonaws.com"),
            description="Takes snapshots of the Chroma server's data",
            managed_policies=[
                iam.ManagedPolicy.from_aws_managed_policy_name(
                    "service-role/AWSDataLifecycleManagerServiceRole"
                )
            ],
        )
        acknowledge(
            role,
            "AwsSolutions-IAM4[Policy::arn:<AWS::Partition>:iam::aws:policy/service-role/"
            "AWSDataLifecycleManagerServiceRole]",
            "AWS maintains this policy for the snapshots that Data Lifecycle Manager takes, and "
            "only that service can assume the role.",
        )
        days = retained_days(retention)
        is_default = schedule == DEFAULT_BACKUP_SCHEDULE
        copies = None
        if copy_region is not None:
            _allow_copies(role, [it.encryption_key for it in volumes], copy_key)
            copies = [
                dlm.CfnLifecyclePolicy.CrossRegionCopyRuleProperty(
                    target=copy_region,
                    encrypted=True,
                    cmk_arn=None if copy_key is None else copy_key.key_arn,
                    copy_tags=True,
                    retain_rule=dlm.CfnLifecyclePolicy.CrossRegionCopyRetainRuleProperty(
                        interval=days, interval_unit="DAYS"
                    ),
                )
            ]
        dlm.CfnLifecyclePolicy(
            self,
            "Policy",
            description=f"{'Daily s' if is_default else 'S'}napshots of the data of Chroma",
            state="ENABLED",
            execution_role_arn=role.role_arn,
            policy_details=dlm.CfnLifecyclePolicy.PolicyDetailsProperty(
                resource_types=["VOLUME"],
                target_tags=[tag],
                schedules=[
                    dlm.CfnLifecyclePolicy.ScheduleProperty(
                        # Snapshots of a schedule that is renamed are never deleted, and one that
                        # keeps them by their number cannot go over to their age:
                        # https://docs.aws.amazon.com/ebs/latest/userguide/modify.html
                        name="Daily",
                        create_rule=schedule._rule,
                        retain_rule=dlm.CfnLifecyclePolicy.RetainRuleProperty(
                            count=schedule._count(days)
                        ),
                        copy_tags=True,
                        cross_region_copy_rules=copies,
                    )
                ],
            ),
        )

    def _check_copies(self, region: str | None, key: kms.IKey | None) -> None:
        if key is not None:
            check_key_arn(key.key_arn, region)
        if region is not None:
            matching("backup_copy_region", region, _REGION, _REGION_ALLOWED)
        if region is not None and region == cdk.Stack.of(self).region:
            raise SettingError("backup_copy_region", region, _REGION_ALLOWED)


def check_key_arn(key_arn: str, region: str | None) -> None:
    """Refuse a key that snapshots cannot be copied with.

    :param key_arn: of the key.
    :param region: that the snapshots are copied to, if they are.
    :raises SettingError: when it is none, or in another region.
    """
    if region is None:
        raise SettingError("backup_copy_key_arn", key_arn, "only together with backupCopyRegion")
    if not cdk.Token.is_unresolved(key_arn):
        match = re.fullmatch(_KEY_ARN, key_arn, re.ASCII)
        if match is None or match[2] != region:
            raise SettingError("backup_copy_key_arn", key_arn, _KEY_ALLOWED)


def _allow_copies(
    role: iam.Role, keys: Sequence[kms.IKey | None], copy_key: kms.IKey | None
) -> None:
    """Let Data Lifecycle Manager decrypt with the volumes' keys and encrypt with that of the
    copies, as far as they are not AWS's own, which everybody in the account may use by EC2:
    https://docs.aws.amazon.com/ebs/latest/userguide/dlm-prerequisites.html"""
    arns = [key.key_arn for key in (*keys, copy_key) if key is not None]
    if not arns:
        return
    role.add_to_policy(
        iam.PolicyStatement(
            actions=[
                "kms:Decrypt",
                "kms:DescribeKey",
                "kms:Encrypt",
                "kms:GenerateDataKey",
                "kms:GenerateDataKeyWithoutPlaintext",
                "kms:ReEncryptFrom",
                "kms:ReEncryptTo",
            ],
            resources=arns,
        )
    )
    role.add_to_policy(
        iam.PolicyStatement(
            actions=["kms:CreateGrant", "kms:ListGrants", "kms:RevokeGrant"],
            resources=arns,
            conditions={"Bool": {"kms:GrantIsForAWSResource": "true"}},
        )
    )


def refuse_without_backups(name: str, options: Mapping[str, Any], why: str) -> None:
    """Refuse what is about snapshots that are not taken.

    :param name: the option because of which none are taken.
    :param options: those of the server.
    :param why: what that option is.
    :raises SettingError: when there is such an option.
    """
    for option in ("backup_schedule", "backup_copy_region", "backup_copy_key"):
        if option in options:
            value = options[option]
            value = value.text if isinstance(value, BackupSchedule) else str(value)
            raise SettingError(option, value, f"not together with {name}: {why}")


SETTINGS = (
    Setting(
        key="backupSchedule",
        only="CloudFormation cannot compute how many snapshots a schedule makes in so many days.",
        option="backup_schedule",
        meaning="When snapshots of the data are taken, in UTC: `hourly`, `every-2-hours` (or 3, 4, "
        "6, 8, 12), `daily` at 03:00, or a cron expression such as `cron(30 6,18 ? * MON-FRI *)`.",
        default=DEFAULT_BACKUP_SCHEDULE.text,
        allowed=_SCHEDULE_ALLOWED,
        parse=BackupSchedule.of,
    ),
    Setting(
        key="backupRetentionDays",
        parameter="BackupRetentionDays",
        option="backup_retention",
        meaning="Days for which the scheduled snapshots, and their copies, are kept, up to 1000.",
        note="With 0 none are taken.",
        default=str(DEFAULT_BACKUP_RETENTION.to_days()),
        allowed=f"a whole number of days from 1 to {_LONGEST_RETENTION}",
        largest=_LONGEST_RETENTION,
        parse=lambda text: cdk.Duration.days(
            whole_number(text, 0, _LONGEST_RETENTION, _RETENTION_ALLOWED)
        ),
    ),
    Setting(
        key="backupCopyRegion",
        parameter="BackupCopyRegion",
        option="backup_copy_region",
        meaning="Another region that each scheduled snapshot is copied to, encrypted.",
        without="no copies",
        pattern=_REGION,
        allowed=_REGION_ALLOWED,
    ),
    Setting(
        key="backupCopyKeyArn",
        only="CloudFormation cannot check that a key is in the region of the copies.",
        option="backup_copy_key_arn",
        meaning="KMS key of the copies, in their region.",
        without="the account's key for EBS there",
        pattern=_KEY_ARN,
        allowed=_KEY_ALLOWED,
    ),
)
