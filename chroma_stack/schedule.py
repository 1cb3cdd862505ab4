"""When the server is stopped and started again, such as for the nights."""

from __future__ import annotations

import zoneinfo

import aws_cdk as cdk
from aws_cdk import aws_autoscaling as autoscaling
from constructs import Construct

from chroma_stack.errors import SettingError
from chroma_stack.instance import SingletonGroup
from chroma_stack.settings import Setting, matching

DEFAULT_TIME_ZONE = cdk.TimeZone.ETC_UTC

_FIELD = "[0-9A-Za-z*][0-9A-Za-z*,/-]*"
_CRON = f"[0-5]?[0-9] ([01]?[0-9]|2[0-3]) {_FIELD} {_FIELD} {_FIELD}"
_CRON_ALLOWED = (
    "minute, hour, day of the month, month and day of the week, such as 0 20 * * 1-5; minute and "
    "hour are numbers"
)
_ZONE = "[A-Za-z]+(/[A-Za-z0-9_+-]+)*"
_ZONE_ALLOWED = "a name of the IANA time zone database, such as Europe/Berlin"


def parse(text: str) -> autoscaling.Schedule:
    """A schedule as Auto Scaling takes it.

    https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-scheduled-scaling.html

    :param text: such as ``0 20 * * 1-5``.
    :raises SettingError: when it is no schedule.
    """
    return autoscaling.Schedule.expression(matching("", text, _CRON, _CRON_ALLOWED))


def parse_time_zone(text: str) -> cdk.TimeZone:
    """A time zone.

    :param text: such as ``Europe/Berlin``.
    :raises SettingError: when there is no such zone.
    """
    matching("", text, _ZONE, _ZONE_ALLOWED)
    # Some computers have no such database.
    known = zoneinfo.available_timezones()
    if known and text not in known:
        raise SettingError("", text, _ZONE_ALLOWED)
    return cdk.TimeZone.of(text)


class StopAndStart(Construct):
    """Scheduled actions that take the group to zero instances, and back to one. Volume and
    address stay.

    An update of the stack leaves the group's size as it is, since CloudFormation ignores sizes
    that the template has not changed (``IgnoreUnmodifiedGroupSizeProperties``), and suspends
    scheduled actions while it replaces the instance, so that none ends the one that it waits for.
    aws-cdk-lib asks for both.

    https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-attribute-updatepolicy.html
    """

    def __init__(
        self,
        scope: Construct,
        *,
        group: SingletonGroup,
        stop: autoscaling.Schedule | None,
        start: autoscaling.Schedule | None,
        time_zone: cdk.TimeZone,
    ) -> None:
        """
        :raises SettingError: when there is one schedule without the other, or one that Auto
            Scaling would refuse.
        """
        if start is None or stop is None:
            given, missing = ("start", "stop") if stop is None else ("stop", "start")
            text = _expression(start or stop)
            raise SettingError(f"{given}_schedule", text, f"only together with {missing}Schedule")
        super().__init__(scope, "Schedule")
        for name, when, capacity in (("Stop", stop, 0), ("Start", start, 1)):
            matching(f"{name.lower()}_schedule", _expression(when), _CRON, _CRON_ALLOWED)
            # The largest size stays: a rolling update needs one above its MinInstancesInService.
            autoscaling.ScheduledAction(
                self,
                name,
                auto_scaling_group=group,
                schedule=when,
                time_zone=time_zone.timezone_name,
                min_capacity=capacity,
                desired_capacity=capacity,
            )


def _expression(schedule: autoscaling.Schedule | None) -> str:
    return "" if schedule is None else schedule.expression_string


SETTINGS = (
    Setting(
        key="stopSchedule",
        parameter="StopSchedule",
        option="stop_schedule",
        meaning="When the server stops, as cron: `0 20 * * 1-5` is 20:00 from Monday to Friday.",
        without="never",
        pattern=_CRON,
        allowed=_CRON_ALLOWED,
        parse=parse,
    ),
    Setting(
        key="startSchedule",
        parameter="StartSchedule",
        option="start_schedule",
        meaning="When it starts again, as cron; it answers some minutes later.",
        without="never",
        pattern=_CRON,
        allowed=_CRON_ALLOWED,
        parse=parse,
    ),
    Setting(
        key="scheduleTimeZone",
        parameter="ScheduleTimeZone",
        option="schedule_time_zone",
        meaning="Time zone of both schedules, such as `Europe/Berlin`.",
        default=DEFAULT_TIME_ZONE.timezone_name,
        pattern=_ZONE,
        allowed=_ZONE_ALLOWED,
        parse=parse_time_zone,
    ),
)
