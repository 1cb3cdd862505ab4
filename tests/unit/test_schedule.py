"""The server is stopped and started by a schedule."""

from __future__ import annotations

from typing import Any

import aws_cdk as cdk
import pytest
from aws_cdk import aws_autoscaling as autoscaling
from aws_cdk.assertions import Template

from chroma_stack import SettingError
from tests.unit.cloudformation import refusals, resolved
from tests.unit.construct import server_template
from tests.unit.synthesis import published, resource, template

ACTION = "AWS::AutoScaling::ScheduledAction"
GROUP = "AWS::AutoScaling::AutoScalingGroup"
NIGHTS = {"stopSchedule": "0 20 * * 1-5", "startSchedule": "30 6 * * 1-5"}


def actions(of: Template) -> dict[str, dict[str, Any]]:
    """The scheduled actions by when they happen."""
    found = [it["Properties"] for it in of.find_resources(ACTION).values()]
    return {it["Recurrence"]: it for it in found}


def test_by_default_the_server_never_stops() -> None:
    assert template().find_resources(ACTION) == {}


def test_the_group_goes_to_zero_and_back_to_one() -> None:
    made = actions(template(**NIGHTS))
    sizes = {when: (it["MinSize"], it["DesiredCapacity"]) for when, it in made.items()}
    assert sizes == {"0 20 * * 1-5": (0, 0), "30 6 * * 1-5": (1, 1)}
    assert not any("MaxSize" in it for it in made.values())
    group = {"Ref": "ChromaGroupASGA2D829B4"}
    assert [it["AutoScalingGroupName"] for it in made.values()] == [group, group]


def test_the_time_zone_is_utc_unless_told_otherwise() -> None:
    assert {it["TimeZone"] for it in actions(template(**NIGHTS)).values()} == {"Etc/UTC"}
    elsewhere = template(**NIGHTS, scheduleTimeZone="America/New_York")
    assert {it["TimeZone"] for it in actions(elsewhere).values()} == {"America/New_York"}


def test_the_construct_takes_the_types_of_the_library() -> None:
    made = server_template(
        lambda _: {
            "stop_schedule": autoscaling.Schedule.cron(minute="0", hour="20"),
            "start_schedule": autoscaling.Schedule.expression("0 7 * * MON-FRI"),
            "schedule_time_zone": cdk.TimeZone.EUROPE_BERLIN,
        }
    )
    assert actions(made).keys() == {"0 20 * * *", "0 7 * * MON-FRI"}
    assert {it["TimeZone"] for it in actions(made).values()} == {"Europe/Berlin"}


def test_volume_address_and_group_are_those_of_a_server_that_never_stops() -> None:
    scheduled, always = (it.to_json()["Resources"] for it in (template(**NIGHTS), template()))
    assert {name: it for name, it in scheduled.items() if it["Type"] != ACTION} == always


def test_a_deployment_leaves_the_group_at_the_size_that_the_schedule_gave_it() -> None:
    policy = resource(template(**NIGHTS), GROUP)["UpdatePolicy"]
    assert policy["AutoScalingScheduledAction"] == {"IgnoreUnmodifiedGroupSizeProperties": True}


def test_nothing_stops_the_instance_that_a_deployment_waits_for() -> None:
    policy = resource(template(**NIGHTS), GROUP)["UpdatePolicy"]
    assert "ScheduledActions" in policy["AutoScalingRollingUpdate"]["SuspendProcesses"]


@pytest.mark.parametrize("given", NIGHTS)
def test_one_without_the_other_is_refused(given: str) -> None:
    [missing] = NIGHTS.keys() - {given}
    with pytest.raises(SettingError, match=f"{given}.*only together with {missing}"):
        template(**{given: NIGHTS[given]})
    parameter, other = (name[0].upper() + name[1:] for name in (given, missing))
    said = refusals(published(), **{parameter: NIGHTS[given]})
    assert said == [f"{parameter} is given: {other} is needed too"]


@pytest.mark.parametrize(
    "schedule",
    [
        "20:00",
        "0 24 * * *",
        "60 20 * * *",
        "* 20 * * *",
        "0 20 * *",
        "cron(0 20 * * ? *)",
        "0  20 * * *",
    ],
)
def test_what_is_no_schedule_is_refused(schedule: str) -> None:
    with pytest.raises(SettingError, match=r"stopSchedule.*such as 0 20"):
        template(**NIGHTS | {"stopSchedule": schedule})
    given = {"StopSchedule": schedule, "StartSchedule": NIGHTS["startSchedule"]}
    [said] = refusals(published(), **given)
    assert said.startswith("StopSchedule must be minute, hour")


def test_the_construct_refuses_a_schedule_that_auto_scaling_would_refuse() -> None:
    with pytest.raises(SettingError, match="start_schedule"):
        server_template(
            lambda _: {
                "stop_schedule": autoscaling.Schedule.expression("0 20 * * *"),
                "start_schedule": autoscaling.Schedule.expression("rate(1 day)"),
            }
        )


@pytest.mark.parametrize("zone", ["CEST+1 h", "Europe/Atlantis", "+01:00"])
def test_what_is_no_time_zone_is_refused(zone: str) -> None:
    with pytest.raises(SettingError, match=r"scheduleTimeZone.*Europe/Berlin"):
        template(**NIGHTS, scheduleTimeZone=zone)


def test_the_published_template_makes_the_same_actions() -> None:
    given = {"StopSchedule": NIGHTS["stopSchedule"], "StartSchedule": NIGHTS["startSchedule"]}
    body = published()
    ours = Template.from_json(resolved(body, **given, ScheduleTimeZone="Asia/Tokyo"))
    expected = template(**NIGHTS, scheduleTimeZone="Asia/Tokyo")
    assert actions(ours) == actions(expected)
    assert actions(Template.from_json(resolved(body))) == {}
