"""The alarms: when they go off, whom they tell, and what they say is to be done."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import aws_cdk as cdk
import pytest
from aws_cdk import aws_sns as sns
from aws_cdk.assertions import Template

from chroma_stack import ChromaMonitoring, ChromaTls, SettingError
from chroma_stack.alarms import longest_backup_age
from tests.unit.construct import server_in
from tests.unit.synthesis import properties, stack, template

PAGE = Path(__file__).parents[2] / "docs" / "operations.md"
EMAIL = "operations@example.com"
ALWAYS = {"NoHeartbeat", "MemoryHigh", "DiskFull", "ErrorsHigh", "BootFailed", "IndexRepaired"}


def alarms_of(made: Template) -> dict[str, dict[str, Any]]:
    """The alarms of a template by their names."""
    found = made.find_resources("AWS::CloudWatch::Alarm").items()
    return {
        re.findall("Alarms([A-Za-z]+?)[0-9A-F]{8}$", name)[0]: it["Properties"]
        for name, it in found
    }


def alarms(**settings: str) -> dict[str, dict[str, Any]]:
    return alarms_of(template(alarmEmail=EMAIL, **settings))


def of_a_server(**options: Any) -> dict[str, dict[str, Any]]:
    """The alarms of a server in somebody else's app."""
    theirs = cdk.Stack(cdk.App(), "Theirs")
    server = server_in(theirs, lambda _: {"monitoring": ChromaMonitoring(), **options})
    server.add_alarms(sns.Topic(theirs, "Topic"))
    return alarms_of(Template.from_stack(theirs))


def test_without_an_address_there_are_no_alarms_and_no_topic() -> None:
    assert alarms_of(template()) == {}
    assert template().find_resources("AWS::SNS::Topic") == {}


def test_the_address_gets_a_message_of_every_alarm() -> None:
    made = template(alarmEmail=EMAIL)
    [topic] = made.find_resources("AWS::SNS::Topic")
    subscription = properties(made, "AWS::SNS::Subscription")
    assert subscription == {"Endpoint": EMAIL, "Protocol": "email", "TopicArn": {"Ref": topic}}
    assert all(it["AlarmActions"] == [{"Ref": topic}] for it in alarms().values())
    assert alarms().keys() == ALWAYS | {"CertificateExpiring", "BackupMissing"}


def test_a_level_that_is_right_again_is_told_and_the_end_of_an_event_is_not() -> None:
    told = {name for name, it in alarms().items() if it.get("OKActions") == it["AlarmActions"]}
    assert alarms().keys() - told == {"BootFailed", "IndexRepaired"}


def test_cloudwatch_may_publish_to_the_topic_and_only_for_this_account() -> None:
    policy = properties(template(alarmEmail=EMAIL), "AWS::SNS::TopicPolicy")["PolicyDocument"]
    [allowed] = [it for it in policy["Statement"] if it["Effect"] == "Allow"]
    assert allowed["Principal"] == {"Service": "cloudwatch.amazonaws.com"}
    assert allowed["Condition"] == {
        "StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}
    }


def test_the_topic_is_not_encrypted_by_a_key_that_cloudwatch_may_not_use() -> None:
    topic = template(alarmEmail=EMAIL).find_resources("AWS::SNS::Topic")
    assert "KmsMasterKeyId" not in str(topic)


def test_only_tls_has_certificates_that_expire() -> None:
    assert "CertificateExpiring" not in alarms(tls="off")
    assert "CertificateExpiring" not in of_a_server(tls=ChromaTls.off())
    assert "CertificateExpiring" in of_a_server()


def test_only_backups_can_be_missing() -> None:
    assert "BackupMissing" not in alarms(backupRetentionDays="0")
    assert "BackupMissing" not in of_a_server(backup_retention=cdk.Duration.days(0))
    assert alarms()["BackupMissing"]["Threshold"] == 30


@pytest.mark.parametrize(("hours", "longest"), [(1, 4), (4, 7), (12, 15), (24, 30)])
def test_a_backup_is_missing_some_hours_after_the_next_one_was_due(
    hours: int, longest: int
) -> None:
    assert longest_backup_age(hours) == longest


@pytest.mark.parametrize(
    ("name", "metric", "comparison", "threshold", "minutes"),
    [
        ("NoHeartbeat", "Heartbeat", "LessThanThreshold", 1, 5),
        ("MemoryHigh", "MemoryUtilization", "GreaterThanThreshold", 85, 10),
        ("DiskFull", "disk_used_percent", "GreaterThanThreshold", 80, 10),
        ("BootFailed", "BootFailures", "GreaterThanThreshold", 0, 60),
        ("IndexRepaired", "IndexRepairs", "GreaterThanThreshold", 0, 60),
        ("CertificateExpiring", "CertificateDays", "LessThanThreshold", 10, 60),
        ("BackupMissing", "BackupAge", "GreaterThanThreshold", 30, 60),
    ],
)
def test_an_alarm_goes_off_beyond_its_threshold(
    name: str, metric: str, comparison: str, threshold: float, minutes: int
) -> None:
    alarm = alarms()[name]
    assert (alarm["Namespace"], alarm["MetricName"]) == ("Chroma", metric)
    assert (alarm["ComparisonOperator"], alarm["Threshold"]) == (comparison, threshold)
    assert alarm["Period"] * alarm["EvaluationPeriods"] == 60 * minutes


def test_one_error_among_few_requests_is_no_alarm() -> None:
    alarm = alarms()["ErrorsHigh"]
    [expression] = [it["Expression"] for it in alarm["Metrics"] if "Expression" in it]
    assert expression == "IF(errors >= 5, 100 * errors / requests, 0)"
    assert (alarm["Threshold"], alarm["DatapointsToAlarm"], alarm["EvaluationPeriods"]) == (1, 2, 3)


@pytest.mark.parametrize(
    ("missing", "names"),
    [
        # A server that sends nothing does not answer.
        ("breaching", {"NoHeartbeat"}),
        # What is only counted when it happens did not happen.
        ("notBreaching", {"ErrorsHigh", "BootFailed", "IndexRepaired"}),
        # What is not measured is as it was.
        ("ignore", {"MemoryHigh", "DiskFull", "CertificateExpiring", "BackupMissing"}),
    ],
)
def test_a_period_without_a_value_means_what_it_means_for_the_metric(
    missing: str, names: set[str]
) -> None:
    assert {name for name, it in alarms().items() if it["TreatMissingData"] == missing} == names


def test_each_alarm_says_under_which_heading_stands_what_to_do() -> None:
    [section] = re.findall(r"(?ms)^## When an alarm goes off\n(.*?)^## ", PAGE.read_text())
    headings = re.findall(r"(?m)^### (.+)$", section)
    named = []
    for name, alarm in alarms().items():
        [page, heading] = re.findall('"([^"]+)"', alarm["AlarmDescription"])
        assert page == "When an alarm goes off", name
        named.append(heading)
    assert sorted(named) == sorted(headings)


def test_an_address_without_monitoring_is_refused() -> None:
    with pytest.raises(SettingError, match=r"^alarmEmail=.*only with monitoring=true"):
        stack(alarmEmail=EMAIL, monitoring="false")


def test_alarms_of_a_server_without_monitoring_are_refused() -> None:
    theirs = cdk.Stack(cdk.App(), "Theirs")
    with pytest.raises(SettingError, match=r"^monitoring=None"):
        server_in(theirs).add_alarms(sns.Topic(theirs, "Topic"))
