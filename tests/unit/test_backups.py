"""Snapshots of the data: when, for how long, and where copies of them are."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import aws_cdk as cdk
import pytest
from aws_cdk import aws_kms as kms
from aws_cdk.assertions import Template
from hypothesis import given
from hypothesis import strategies as st

from chroma_stack import BackupSchedule, ChromaStack, SettingError
from tests.unit.construct import server_template
from tests.unit.synthesis import host_settings, launch, properties, stack, template

POLICY = "AWS::DLM::LifecyclePolicy"
KEY = "arn:aws:kms:eu-west-1:123456789012:key/01234567-89ab-cdef-0123-456789abcdef"


def schedule(of: Template) -> dict[str, Any]:
    """The one schedule of the policy."""
    [schedule] = properties(of, POLICY)["PolicyDetails"]["Schedules"]
    return dict(schedule)


def test_the_data_is_snapshotted_every_day_and_a_week_of_snapshots_is_kept() -> None:
    made = schedule(template())
    assert made["CreateRule"] == {"Interval": 24, "IntervalUnit": "HOURS", "Times": ["03:00"]}
    assert made["RetainRule"] == {"Count": 7}
    assert "CrossRegionCopyRules" not in made


def test_the_backup_finds_this_volume_and_no_other() -> None:
    [target] = properties(template(), POLICY)["PolicyDetails"]["TargetTags"]
    assert target in properties(template(), "AWS::EC2::Volume")["Tags"]
    assert target["Key"] not in json.dumps(launch(template())["TagSpecifications"])
    other = template(stackName="Other")
    tags = properties(other, "AWS::EC2::Volume")["Tags"]
    [tag] = [it for it in tags if it["Key"] == target["Key"]]
    assert tag["Value"]["Fn::Sub"].startswith("${AWS::StackName}/")


def test_backups_are_kept_longer_or_not_made_on_request() -> None:
    assert schedule(template(backupRetentionDays="30"))["RetainRule"] == {"Count": 30}
    assert template(backupRetentionDays="0").find_resources(POLICY) == {}


@pytest.mark.parametrize(
    "retention", [cdk.Duration.days(2000), cdk.Duration.hours(12)], ids=["2000 days", "12 hours"]
)
def test_snapshots_are_kept_for_whole_days_and_as_long_as_aws_keeps_them(
    retention: cdk.Duration,
) -> None:
    with pytest.raises(SettingError, match=r"^backup_retention=.*whole number of days"):
        server_template(lambda _: {"backup_retention": retention})


@pytest.mark.parametrize(
    ("text", "hours"), [("hourly", 1), ("every-2-hours", 2), ("every-12-hours", 12)]
)
def test_more_frequent_snapshots_are_kept_for_as_many_days(text: str, hours: int) -> None:
    made = schedule(template(backupSchedule=text, backupRetentionDays="30"))
    assert made["CreateRule"] == {"Interval": hours, "IntervalUnit": "HOURS", "Times": ["03:00"]}
    assert made["RetainRule"] == {"Count": 30 * 24 // hours}


@pytest.mark.parametrize(
    ("text", "days", "count"),
    [
        ("cron(30 6,18 ? * MON-FRI *)", "7", 10),
        ("cron(30 6,18 ? * MON-FRI *)", "1", 2),
        ("cron(0 3 ? * SUN *)", "7", 1),
        ("cron(0 3 ? * SUN *)", "30", 5),
        ("cron(0 3 1 * ? *)", "7", 1),
        ("cron(0 * * * ? *)", "2", 48),
    ],
)
def test_those_of_a_cron_expression_are_too(text: str, days: str, count: int) -> None:
    made = schedule(template(backupSchedule=text, backupRetentionDays=days))
    assert made["RetainRule"] == {"Count": count}


@pytest.mark.parametrize("text", ["hourly", "cron(0 * * * ? *)"])
def test_no_more_snapshots_are_asked_for_than_are_kept(text: str) -> None:
    assert stack(backupSchedule=text, backupRetentionDays="41")
    with pytest.raises(SettingError, match=r"^backupRetentionDays=.*at most 1000.* makes 1008 in"):
        stack(backupSchedule=text, backupRetentionDays="42")


def test_another_schedule_goes_on_with_the_snapshots_that_are_there() -> None:
    other = schedule(template(backupSchedule="hourly"))
    assert other["Name"] == schedule(template())["Name"] == "Daily"
    assert other["RetainRule"].keys() == schedule(template())["RetainRule"].keys()


def test_a_schedule_changes_the_policy_and_replaces_none() -> None:
    hourly = template(backupSchedule="hourly").find_resources(POLICY)
    assert hourly.keys() == template().find_resources(POLICY).keys()


def test_a_cron_expression_is_a_schedule() -> None:
    text = "cron(30 6,18 ? * MON-FRI *)"
    assert schedule(template(backupSchedule=text))["CreateRule"] == {"CronExpression": text}


@pytest.mark.parametrize(
    ("text", "hours"),
    [
        ("hourly", 1),
        ("every-8-hours", 8),
        ("daily", 24),
        ("cron(0 * * * ? *)", 1),
        ("cron(15 0/6 * * ? *)", 6),
        ("cron(0 3 * * ? *)", 24),
        ("cron(30 6,18 * * ? *)", 12),
        ("cron(0 8-18/2 * * ? *)", 14),
        ("cron(30 6,18 ? * MON-FRI *)", 60),
        ("cron(0 3 ? * 1 *)", 168),
        ("cron(0 3 1 * ? *)", 744),
        ("cron(0 0 1 JAN ? *)", 366 * 24),
        ("cron(0,59 3 * * ? *)", None),
        ("cron(0/30 * * * ? *)", None),
        ("cron(30 23 * * ? *)", 24),
        ("cron(0 0 29 2 ? *)", None),
        ("cron(0 0 31 2 ? *)", None),
        ("cron(0 3 * * * *)", None),
        ("cron(0 3 ? * ? *)", None),
        ("cron(0 3 L * ? *)", None),
        ("cron(0 3 ? * 2#1 *)", None),
        ("cron(0 3 * * ? 2027)", None),
        ("cron(0 24 * * ? *)", None),
        ("cron(0 3 * * ?)", None),
        ("cron(0 5-3 * * ? *)", None),
        ("cron(0 */0 * * ? *)", None),
        ("0 3 * * ? *", None),
        ("rate(1 hour)", None),
        ("every-5-hours", None),
        ("weekly", None),
        ("", None),
    ],
)
def test_the_hours_between_two_snapshots_are_known_or_the_schedule_is_refused(
    text: str, hours: int | None
) -> None:
    if hours is None:
        with pytest.raises(SettingError, match=r"^backup_schedule=.*hourly, every-2-hours"):
            BackupSchedule.of(text)
    else:
        assert BackupSchedule.of(text).hours == hours


@given(st.text("0123456789*?,-/ LW#ACEFJMNOSUV", max_size=30).map("cron({})".format))
def test_no_text_is_anything_but_a_schedule_or_refused(text: str) -> None:
    with contextlib.suppress(SettingError):
        assert 1 <= BackupSchedule.of(text).hours <= 366 * 24


def test_the_construct_takes_a_duration() -> None:
    six = BackupSchedule.every(cdk.Duration.hours(6))
    made = server_template(lambda _: {"backup_schedule": six})
    assert schedule(made)["CreateRule"]["Interval"] == 6
    for hours in (5, 48):
        with pytest.raises(SettingError, match=rf"^backup_schedule='{hours} hours'"):
            BackupSchedule.every(cdk.Duration.hours(hours))
    assert BackupSchedule.every(cdk.Duration.days(1)).hours == 24


def test_the_instance_knows_how_old_a_backup_may_be() -> None:
    assert host_settings(template())["BACKUP_HOURS"] == "24"
    assert host_settings(template(backupSchedule="hourly"))["BACKUP_HOURS"] == "1"
    assert host_settings(template(backupRetentionDays="0"))["BACKUP_HOURS"] == ""
    assert host_settings(template(volumeId="vol-0123456789abcdef0"))["BACKUP_HOURS"] == ""


def test_each_snapshot_is_copied_encrypted_and_kept_as_long() -> None:
    made = template(backupCopyRegion="eu-west-1", backupRetentionDays="14")
    [copy] = schedule(made)["CrossRegionCopyRules"]
    assert copy == {
        "Target": "eu-west-1",
        "Encrypted": True,
        "CopyTags": True,
        "RetainRule": {"Interval": 14, "IntervalUnit": "DAYS"},
    }
    assert schedule(made)["RetainRule"] == {"Count": 14}


def test_copies_can_have_a_key_of_the_users_own() -> None:
    made = template(backupCopyRegion="eu-west-1", backupCopyKeyArn=KEY)
    [copy] = schedule(made)["CrossRegionCopyRules"]
    assert copy["CmkArn"] == KEY
    assert grants(made) == [[KEY], [KEY]]


def test_what_takes_the_snapshots_may_use_the_volumes_key_only_for_copies() -> None:
    def with_key(stack: cdk.Stack) -> dict[str, Any]:
        return {"storage_encryption_key": kms.Key(stack, "Key")}

    assert grants(server_template(with_key)) == []
    copied = server_template(lambda stack: with_key(stack) | {"backup_copy_region": "eu-west-1"})
    [use, grant] = grants(copied)
    assert use == grant
    assert use[0]["Fn::GetAtt"][0].startswith("Key")


def grants(of: Template) -> list[list[Any]]:
    """The keys that each statement of the policy's role is about."""
    found = []
    for name, policy in of.find_resources("AWS::IAM::Policy").items():
        for statement in policy["Properties"]["PolicyDocument"]["Statement"]:
            if "DailyBackup" in name:
                resources = statement["Resource"]
                found.append(resources if isinstance(resources, list) else [resources])
    return found


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"backupCopyRegion": "eu-central-1a"}, "backupCopyRegion=.*a region such as"),
        ({"backupCopyRegion": "Frankfurt"}, "backupCopyRegion=.*a region such as"),
        ({"backupCopyKeyArn": KEY}, "backupCopyKeyArn=.*only together with backupCopyRegion"),
        (
            {"backupCopyKeyArn": KEY, "backupCopyRegion": "eu-west-2"},
            "backupCopyKeyArn=.*a KMS key in backupCopyRegion",
        ),
        (
            {"backupCopyKeyArn": "alias/mine", "backupCopyRegion": "eu-west-1"},
            "backupCopyKeyArn=.*the ARN of a KMS key",
        ),
        (
            {"backupCopyRegion": "eu-west-1", "backupRetentionDays": "0"},
            "backupCopyRegion=.*not together with backupRetentionDays=0",
        ),
        (
            {"backupSchedule": "hourly", "backupRetentionDays": "0"},
            "backupSchedule=.*not together with backupRetentionDays=0",
        ),
        (
            {"backupSchedule": "hourly", "volumeId": "vol-0123456789abcdef0"},
            "backupSchedule=.*a volume that is given is not backed up",
        ),
    ],
    ids=str,
)
def test_what_would_copy_nothing_or_to_nowhere_is_refused(
    settings: dict[str, str], said: str
) -> None:
    with pytest.raises(SettingError, match=f"^{said}"):
        stack(**settings)


def test_copies_go_to_another_region_than_the_stacks_own() -> None:
    environment = cdk.Environment(account="123456789012", region="eu-west-1")
    with pytest.raises(SettingError, match=r"^backup_copy_region='eu-west-1'.*another one"):
        ChromaStack(cdk.App(), env=environment, backup_copy_region="eu-west-1")
    ChromaStack(cdk.App(), env=environment, backup_copy_region="eu-west-2")
