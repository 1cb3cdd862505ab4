"""When a patched instance takes over, and what keeps the one that runs patched until then."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_scheduler as scheduler
from constructs import Construct

from chroma_stack.acknowledge import acknowledge
from chroma_stack.instance import InstanceRole, SingletonGroup, arn
from chroma_stack.settings import Setting, flag, matching

DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")

_WINDOW = f"(first-)?({'|'.join(DAYS)}):([01][0-9]|2[0-3]):[0-5][0-9]"
_ALLOWED = "such as sun:04:00, or first-sun:04:00 for the first Sunday of each month, by UTC"

LAST_BOOT = "chroma-last-boot"
"""The tag of the group that says how the last boot ended, ``done`` or ``failed``."""

_WARMUP = cdk.Duration.minutes(10)
"""For how long the refresh counts as unfinished once EC2 runs the new instance. It cannot see
when the server answers; nothing waits for it."""

_RETRIES = 3
_LATEST_RETRY = cdk.Duration.minutes(15)
"""A window that was missed for so long is skipped. By default EventBridge Scheduler would try for
a day: https://docs.aws.amazon.com/scheduler/latest/APIReference/API_RetryPolicy.html"""


class MaintenanceWindow(Construct):
    """Has Amazon EventBridge Scheduler start an instance refresh of the group, so that the
    instance is replaced by one with the current AMI and packages.

    Not while the last boot failed: the instance records that in a tag of its group, and the
    schedule's role may refresh no group whose tag says ``failed``.

    https://docs.aws.amazon.com/scheduler/latest/UserGuide/managing-targets-universal.html
    https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_StartInstanceRefresh.html
    """

    def __init__(
        self, scope: Construct, *, window: str, group: SingletonGroup, role: InstanceRole
    ) -> None:
        """
        :param window: such as ``sun:04:00``; may be a token.
        :param group: what is refreshed.
        :param role: of the instance.
        :raises SettingError: when the window is none.
        """
        matching("maintenance_window", window, _WINDOW, _ALLOWED)
        super().__init__(scope, "Maintenance")
        name = group.auto_scaling_group_name
        # A refresh of a launch template that names its AMI by a parameter takes neither
        # SkipMatching nor a DesiredConfiguration:
        # https://docs.aws.amazon.com/autoscaling/ec2/userguide/using-systems-manager-parameters.html
        request = {
            "AutoScalingGroupName": name,
            "Preferences": {
                # The previous instance ends before the new one starts.
                "MinHealthyPercentage": 0,
                "MaxHealthyPercentage": 100,
                "InstanceWarmup": _WARMUP.to_seconds(),
            },
        }
        scheduler.CfnSchedule(
            self,
            "Schedule",
            description="Replaces the Chroma server's instance by a patched one",
            schedule_expression=_cron(self, window),
            schedule_expression_timezone="UTC",
            flexible_time_window=scheduler.CfnSchedule.FlexibleTimeWindowProperty(mode="OFF"),
            target=scheduler.CfnSchedule.TargetProperty(
                arn=f"arn:{cdk.Aws.PARTITION}:scheduler:::aws-sdk:autoscaling:startInstanceRefresh",
                role_arn=self._role(name).role_arn,
                input=cdk.Stack.of(self).to_json_string(request),
                retry_policy=scheduler.CfnSchedule.RetryPolicyProperty(
                    maximum_retry_attempts=_RETRIES,
                    maximum_event_age_in_seconds=_LATEST_RETRY.to_seconds(),
                ),
            ),
        )
        self._let_record(role)

    def _role(self, group_name: str) -> iam.Role:
        role = iam.Role(
            self,
            "Role",
            assumed_by=iam.ServicePrincipal(
                "scheduler.amazonaws.com",
                conditions={"StringEquals": {"aws:SourceAccount": cdk.Aws.ACCOUNT_ID}},
            ),
            description="Starts the maintenance of the Chroma server",
        )
        groups = arn("autoscaling", f"autoScalingGroup:*:autoScalingGroupName/{group_name}")
        role.add_to_policy(
            iam.PolicyStatement(
                actions=["autoscaling:StartInstanceRefresh"],
                resources=[groups],
                conditions={"StringEqualsIfExists": {f"aws:ResourceTag/{LAST_BOOT}": "done"}},
            )
        )
        name = cdk.Stack.of(self).resolve(group_name)["Ref"]
        acknowledge(
            role,
            "AwsSolutions-IAM5[Resource::arn:<AWS::Partition>:autoscaling:<AWS::Region>:"
            f"<AWS::AccountId>:autoScalingGroup:*:autoScalingGroupName/<{name}>]",
            "The part of the ARN before the group's name is an id that CloudFormation does not "
            "know; the name is the group's own.",
        )
        return role

    def _let_record(self, role: InstanceRole) -> None:
        """Let the instance set that one tag of its group."""
        resource = "autoScalingGroup:*:autoScalingGroupName/*"
        policy = iam.Policy(
            self,
            "InstancePolicy",
            roles=[role],
            statements=[
                iam.PolicyStatement(
                    actions=["autoscaling:CreateOrUpdateTags"],
                    resources=[arn("autoscaling", resource)],
                    conditions={
                        "StringEquals": role.is_own,
                        "ForAllValues:StringEquals": {"aws:TagKeys": [LAST_BOOT]},
                    },
                )
            ],
        )
        acknowledge(
            policy,
            "AwsSolutions-IAM5[Resource::arn:<AWS::Partition>:autoscaling:<AWS::Region>:"
            f"<AWS::AccountId>:{resource}]",
            "The name is not known when the policy is made; conditions limit the permission to "
            "one tag of this server's group.",
        )


def host_settings(window: str, updates: bool | cdk.IResolvable) -> dict[str, str]:
    """What ``host/common`` and ``host/boot`` read."""
    on = "true" if updates is True else ""
    return {
        "MAINTENANCE_WINDOW": window,
        "SECURITY_UPDATES": on if isinstance(updates, bool) else cdk.Token.as_string(updates),
    }


def _cron(scope: Construct, window: str) -> str:
    """The schedule by the rules of EventBridge Scheduler, in which Sunday is 1, and ``1#1`` the
    first Sunday of a month.

    https://docs.aws.amazon.com/scheduler/latest/UserGuide/schedule-types.html#cron-based
    """
    if not cdk.Token.is_unresolved(window):
        day, hour, minute = window.removeprefix("first-").split(":")
        monthly = "#1" if window.startswith("first-") else ""
        return f"cron({minute} {hour} ? * {DAYS.index(day) + 1}{monthly} *)"
    # What a parameter holds, CloudFormation has to take apart. It looks nothing up by a text that
    # it takes from another one, so each day is a condition.
    weekly = cdk.Fn.join("", cdk.Fn.split("first-", window))
    day, hour, minute = (cdk.Fn.select(part, cdk.Fn.split(":", weekly)) for part in range(3))
    number = str(len(DAYS))
    for position, name in enumerate(DAYS[:-1], start=1):
        is_day = cdk.CfnCondition(
            scope, f"Is{name.title()}", expression=cdk.Fn.condition_equals(day, name)
        )
        number = cdk.Fn.condition_if(is_day.logical_id, str(position), number).to_string()
    is_weekly = cdk.CfnCondition(
        scope, "IsWeekly", expression=cdk.Fn.condition_equals(weekly, window)
    )
    monthly = cdk.Fn.condition_if(is_weekly.logical_id, "", "#1").to_string()
    return cdk.Fn.join("", ["cron(", minute, " ", hour, " ? * ", number, monthly, " *)"])


SETTINGS = (
    Setting(
        key="maintenanceWindow",
        parameter="MaintenanceWindow",
        option="maintenance_window",
        meaning="When a patched instance takes over, by UTC: `sun:04:00` for every Sunday, "
        "`first-sun:04:00` for the first one of each month.",
        without="never by itself",
        pattern=_WINDOW,
        allowed=_ALLOWED,
        longest=len("first-sun:04:00"),
    ),
    Setting(
        key="unattendedSecurityUpdates",
        parameter="UnattendedSecurityUpdates",
        option="unattended_security_updates",
        meaning="`true` has the instance install security updates of Amazon Linux once a day; some "
        "of them restart Chroma.",
        default="false",
        values=("true", "false"),
        parse=flag,
    ),
)
