"""What the README says of costs: ``chroma_stack.size.costs`` times what the template makes.

Its tables come from here, by ``pages.py``.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from aws_cdk.assertions import Template

from chroma_stack.monitoring import METRICS
from chroma_stack.size import costs
from chroma_stack.size.costs import HOURS, LIST, beyond_free, free, price
from tests.unit.synthesis import launch, properties, template

HOST = Path(__file__).parents[2] / "chroma_stack" / "host"

LINE = 600
"""Bytes of a query's line in the log, and the 26 that CloudWatch adds to each:
https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/cloudwatch_limits_cwl.html"""
WORKING_HOURS = 50
"""In a week: what is left with a stop schedule for nights and weekends."""
WEEK = 168


class Row(NamedTuple):
    """A line of a table."""

    what: str
    price: str
    month: float | None
    """Dollars; ``None``: by use."""


def linked(name: str, text: str) -> str:
    """A price in words, with its source."""
    return f"[{text}]({costs.source(name)})"


def defaults() -> list[Row]:
    """What the default settings make, and what it costs."""
    made = template()
    rows = costs.server(
        launch(made)["InstanceType"],
        volume=properties(made, "AWS::EC2::Volume")["Size"],
        series=metric_count(made),
    )
    return [Row(it.what, f"[{it.price}]({it.source})", it.month) for it in rows]


def total() -> float:
    """What the defaults cost without what depends on use."""
    return sum(it.month or 0 for it in defaults())


def options() -> list[Row]:
    """What settings add to the defaults, or save."""
    alarms = alarm_metrics(template(alarmEmail="someone@example.com"))
    metrics = metric_count(template())
    running = WORKING_HOURS / WEEK
    return [
        Row(
            "ten `users`: their secrets; the call that reads the main one reads them too",
            linked("secret", f"${price('secret'):.2f} each"),
            price("secret") * 10,
        ),
        Row(
            f"`alarmEmail`: alarms on {alarms} metrics, of which an account has {free('alarm')} free",
            linked("alarm", f"${price('alarm'):.2f} each"),
            beyond_free("alarm", alarms),
        ),
        Row(
            "a dashboard; an account has three free ones, with up to 50 metrics each",
            linked("dashboard", f"${price('dashboard'):.2f}"),
            beyond_free("dashboard", 1),
        ),
        Row(
            "metrics and alarms of a server when no free ones are left",
            linked("metric", "as above"),
            price("metric") * metrics + price("alarm") * alarms,
        ),
        Row(
            "logs of 1,000,000 requests, beyond the first 5 GB, kept for a month",
            linked("log ingestion", "as above"),
            (price("log ingestion") + price("log storage")) * LINE * 1e6 / 1e9,
        ),
        Row("`monitoring=false`", "no metrics, no logs", -beyond_free("metric", metrics)),
        Row(
            f"`stopSchedule`, `startSchedule`: the instance runs {WORKING_HOURS} of {WEEK} hours a week",
            "[free](https://aws.amazon.com/autoscaling/pricing/)",
            -price("t3.small") * HOURS * (1 - running),
        ),
        Row(
            f"`maintenanceWindow`: a call a week, of which an account has {free('schedule'):,} free",
            linked("schedule", f"${price('schedule'):.2f} per million"),
            beyond_free("schedule", 52 / 12),
        ),
        Row(
            "1 GiB that is written anew all the time, daily backups kept for 7 days",
            linked("snapshot", "7 times in snapshots"),
            price("snapshot") * 7,
        ),
        Row(
            "the same with `backupSchedule=hourly`",
            linked("snapshot", "168 times in snapshots"),
            price("snapshot") * 7 * 24,
        ),
        Row(
            "`backupCopyRegion`, for each GiB that is sent there daily and kept for 7 days",
            linked("snapshot copy", f"${price('snapshot copy'):.2f} per GB")
            + f", ${price('snapshot'):.2f} per GiB-month",
            price("snapshot copy") * 365 / 12 + price("snapshot") * 7,
        ),
        Row(
            "`volumeIops=6000`",
            linked("gp3 operations", f"${price('gp3 operations')} each over 3,000"),
            price("gp3 operations") * 3000,
        ),
        Row(
            "`volumeThroughput=250`",
            linked("gp3 throughput", f"${price('gp3 throughput'):.2f} each over 125"),
            price("gp3 throughput") * 125,
        ),
    ]


def metric_count(made: Template) -> int:
    """Series of metrics that the account pays for, when each has been sent in each hour."""
    count = 0
    for found in made.find_resources("AWS::Logs::MetricFilter").values():
        pattern = found["Properties"]["FilterPattern"]
        for transformation in found["Properties"]["MetricTransformations"]:
            # By user too, which is one, the main credential's, unless there are more.
            by_status = any(it["Value"] == "$.status" for it in transformation["Dimensions"])
            count += len(re.findall(r"\$\.status = \d+", pattern)) if by_status else 1
    return count + (agent_metrics() if count else 0)


def agent_metrics() -> int:
    """Series that the agent sends."""
    return sum(not it.conditions for it in METRICS.values())


def alarm_metrics(made: Template) -> int:
    """An alarm costs as much as the number of metrics that it looks at."""
    return sum(
        max(1, len([it for it in alarm["Properties"].get("Metrics", []) if "MetricStat" in it]))
        for alarm in made.find_resources("AWS::CloudWatch::Alarm").values()
    )


def dollars(amount: float | None) -> str:
    """An amount in a table."""
    if amount is None:
        return "by use"
    return f"{'-' if amount < 0 else ''}${abs(amount):,.2f}"


SENTENCE = re.compile(r"about \$\d+ a month in us-east-1 with the default settings")
"""What the README says first."""


def sentence() -> str:
    """The same with the sum."""
    return f"about ${total():.0f} a month in {LIST['region']} with the default settings"


def with_total() -> list[Row]:
    """The defaults, and their sum."""
    return [*defaults(), Row("together", f"list prices of {LIST['date']}", total())]


def table(first: str, rows: list[Row]) -> str:
    """The rows in Markdown."""
    lines = [f"| {first} | price | a month |", "| --- | --- | --- |"]
    return "\n".join([*lines, *(f"| {a} | {b} | {dollars(c)} |" for a, b, c in rows)]) + "\n"
