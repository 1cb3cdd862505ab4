"""The window in which the instance is replaced by a patched one, and updates between windows."""

from __future__ import annotations

import json
from typing import Any

import pytest
from aws_cdk.assertions import Template

from chroma_stack import SettingError
from chroma_stack.maintenance import DAYS
from tests.unit.cloudformation import refusals, resolved
from tests.unit.construct import server_template
from tests.unit.synthesis import (
    host_settings,
    properties,
    published,
    resource,
    statements,
    template,
)

SCHEDULE = "AWS::Scheduler::Schedule"
GROUP = {"Ref": "ChromaGroupASGA2D829B4"}


def request(of: Template) -> dict[str, Any]:
    """What is asked of Auto Scaling, with the group as <Group>."""
    parts = properties(of, SCHEDULE)["Target"]["Input"]["Fn::Join"][1]
    text = "".join("<Group>" if part == GROUP else part for part in parts)
    return dict(json.loads(text))


def allowed(action: str, of: Template) -> dict[str, Any]:
    """The one statement that allows an action."""
    [statement] = [it for it in statements(of) if action in it["Action"]]
    return statement


def test_by_default_nothing_replaces_the_instance_and_nothing_updates_it() -> None:
    assert template().find_resources(SCHEDULE) == {}
    settings = host_settings(template())
    assert (settings["MAINTENANCE_WINDOW"], settings["SECURITY_UPDATES"]) == ("", "")


@pytest.mark.parametrize(
    ("window", "expression"),
    [
        ("sun:04:00", "cron(00 04 ? * 1 *)"),
        ("sat:23:59", "cron(59 23 ? * 7 *)"),
        ("first-sun:04:00", "cron(00 04 ? * 1#1 *)"),
        ("first-wed:00:30", "cron(30 00 ? * 4#1 *)"),
    ],
)
def test_a_window_is_weekly_or_the_first_of_a_month_by_utc(window: str, expression: str) -> None:
    schedule = properties(template(maintenanceWindow=window), SCHEDULE)
    assert schedule["ScheduleExpression"] == expression
    assert schedule["ScheduleExpressionTimezone"] == "UTC"
    assert schedule["FlexibleTimeWindow"] == {"Mode": "OFF"}


@pytest.mark.parametrize("first", ["", "first-"])
@pytest.mark.parametrize("day", DAYS)
def test_the_published_template_makes_the_same_of_each_day(day: str, first: str) -> None:
    window = f"{first}{day}:04:05"
    body = published()
    assert refusals(body, MaintenanceWindow=window) == []
    ours = Template.from_json(resolved(body, MaintenanceWindow=window))
    expected = properties(template(maintenanceWindow=window), SCHEDULE)
    assert properties(ours, SCHEDULE) == expected


@pytest.mark.parametrize(
    "window",
    ["sunday:04:00", "SUN:04:00", "sun:4:00", "sun:24:00", "sun:04:60", "second-sun:04:00", "sun"],
)
def test_what_is_no_window_is_refused_with_what_is(window: str) -> None:
    with pytest.raises(SettingError, match=r"maintenanceWindow.*such as sun:04:00, or first-sun"):
        template(maintenanceWindow=window)
    body = published()
    [said] = refusals(body, MaintenanceWindow=window)
    assert "such as sun:04:00" in said


def test_the_construct_refuses_it_too() -> None:
    with pytest.raises(SettingError, match=r"maintenance_window.*such as sun:04:00"):
        server_template(lambda _: {"maintenance_window": "weekly"})


def test_the_previous_instance_ends_before_the_new_one_starts() -> None:
    preferences = request(template(maintenanceWindow="sun:04:00"))["Preferences"]
    assert preferences["MinHealthyPercentage"] == 0
    assert preferences["MaxHealthyPercentage"] == 100


def test_the_request_has_nothing_that_a_launch_template_with_a_parameter_as_ami_refuses() -> None:
    asked = request(template(maintenanceWindow="sun:04:00"))
    assert asked.keys() == {"AutoScalingGroupName", "Preferences"}
    assert asked["AutoScalingGroupName"] == "<Group>"
    assert {"SkipMatching", "AutoRollback"}.isdisjoint(asked["Preferences"])


def test_a_window_that_was_missed_is_not_made_up_for_hours_later() -> None:
    policy = properties(template(maintenanceWindow="sun:04:00"), SCHEDULE)["Target"]["RetryPolicy"]
    assert policy["MaximumRetryAttempts"] <= 5
    assert policy["MaximumEventAgeInSeconds"] <= 1800


def test_the_schedule_may_refresh_this_group_only_and_only_after_a_boot_that_succeeded() -> None:
    made = template(maintenanceWindow="sun:04:00")
    statement = allowed("autoscaling:StartInstanceRefresh", made)
    assert statement["Resource"]["Fn::Join"][1][-2:] == [
        ":autoScalingGroup:*:autoScalingGroupName/",
        GROUP,
    ]
    # A group whose server never was asked to record a boot has no such tag.
    condition = {"StringEqualsIfExists": {"aws:ResourceTag/chroma-last-boot": "done"}}
    assert statement["Condition"] == condition
    role = made.find_resources("AWS::IAM::Role")["ChromaMaintenanceRoleFF4482EC"]["Properties"]
    [trust] = role["AssumeRolePolicyDocument"]["Statement"]
    assert trust["Principal"] == {"Service": "scheduler.amazonaws.com"}
    assert trust["Condition"] == {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}}


def test_the_instance_may_set_that_one_tag_of_its_own_group() -> None:
    statement = allowed("autoscaling:CreateOrUpdateTags", template(maintenanceWindow="sun:04:00"))
    assert statement["Action"] == "autoscaling:CreateOrUpdateTags"
    own = statement["Condition"]["StringEquals"]["aws:ResourceTag/chroma-server"]
    assert own == {"Fn::Sub": "${AWS::StackName}/ChromaStackChromaF179FDA8"}
    tags = statement["Condition"]["ForAllValues:StringEquals"]
    assert tags == {"aws:TagKeys": ["chroma-last-boot"]}


def test_the_instance_knows_that_there_is_a_window() -> None:
    assert host_settings(template(maintenanceWindow="sun:04:00"))["MAINTENANCE_WINDOW"] == (
        "sun:04:00"
    )


def test_a_window_changes_nothing_in_the_group() -> None:
    group = "AWS::AutoScaling::AutoScalingGroup"
    assert resource(template(maintenanceWindow="sun:04:00"), group) == resource(template(), group)


def test_a_deployment_holds_a_refresh_back_while_it_replaces_the_instance() -> None:
    update = resource(template(), "AWS::AutoScaling::AutoScalingGroup")["UpdatePolicy"]
    assert "InstanceRefresh" in update["AutoScalingRollingUpdate"]["SuspendProcesses"]


def test_security_updates_are_the_instances_own_affair() -> None:
    made = template(unattendedSecurityUpdates="true")
    assert host_settings(made)["SECURITY_UPDATES"] == "true"
    assert made.to_json()["Resources"].keys() == template().to_json()["Resources"].keys()
    body = published()
    for value, expected in {"true": "true", "false": ""}.items():
        left = Template.from_json(resolved(body, UnattendedSecurityUpdates=value))
        assert host_settings(left)["SECURITY_UPDATES"] == expected
