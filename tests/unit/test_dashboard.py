"""The dashboard of servers."""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Callable
from typing import Any

import aws_cdk as cdk
import pytest
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_sns as sns
from aws_cdk.assertions import Template
from constructs import Construct

from chroma_stack import ChromaDashboard, ChromaMonitoring, ChromaServer, ChromaTls, SettingError
from tests.unit import synthesis
from tests.unit.synthesis import dashboard, properties

MOST_METRICS_OF_A_GRAPH = 500
"""https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/using-metric-math.html"""
MOST_WIDGETS = 500
"""https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/CloudWatch-Dashboard-Body-Structure.html"""
MOST_METRICS = 2500
"""https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/cloudwatch_limits.html"""


def servers_in(stack: cdk.Stack, count: int = 1, **options: Any) -> list[ChromaServer]:
    vpc = ec2.Vpc(stack, "Vpc", max_azs=1, nat_gateways=0)
    public = ec2.SubnetSelection(subnet_type=ec2.SubnetType.PUBLIC)
    options = {"vpc": vpc, "vpc_subnets": public, "monitoring": ChromaMonitoring(), **options}
    return [ChromaServer(stack, f"Team{number}", **options) for number in range(count)]


@functools.cache
def template(count: int = 1) -> Template:
    stack = cdk.Stack(cdk.App(), "Theirs")
    servers = servers_in(stack, count)
    servers[0].add_alarms(sns.Topic(stack, "Topic"))
    ChromaDashboard(stack, "Dashboard", servers=servers)
    return Template.from_stack(stack)


def graphs(of: Template) -> dict[str, dict[str, Any]]:
    """The properties of each graph, by its title."""
    widgets = dashboard(of)["widgets"]
    return {it["properties"]["title"]: it["properties"] for it in widgets if it["type"] == "metric"}


def visible(graph: dict[str, Any]) -> list[dict[str, Any]]:
    """What is said of each line that is drawn."""
    return [it[-1] for it in graph["metrics"] if it[-1].get("visible", True)]


@pytest.mark.parametrize("count", [1, 5])
def test_each_question_has_a_heading_and_a_row_of_graphs(count: int) -> None:
    rows = itertools.groupby(dashboard(template(count))["widgets"], key=lambda it: it["y"])
    widgets = [list(row) for _, row in rows]
    headings = [row[0]["properties"]["markdown"].splitlines()[0] for row in widgets[::2]]
    assert headings == ["## Is it up?", "## Is it slow?", "## Is it full?", "## Is it safe?"]
    for row in widgets:
        assert sum(it["width"] for it in row) == 24
        assert len({it["height"] for it in row}) == 1


@pytest.mark.parametrize("count", [1, 5])
def test_every_server_has_a_line_of_its_color_in_every_graph(count: int) -> None:
    made = graphs(template(count))
    if count == 1:
        del made["Refused requests"]
    for title, graph in made.items():
        assert len(visible(graph)) == count, title
        assert [it["color"] for it in visible(graph)] == [
            it["color"] for it in visible(made["Answers"])
        ], title


def test_several_servers_are_told_apart_by_their_names() -> None:
    for graph in graphs(template(5)).values():
        assert [it["label"] for it in visible(graph)] == [f"Team{it}" for it in range(5)]
        assert graph["legend"]["position"] == "bottom"


def test_one_servers_refusals_are_told_apart_by_their_reasons() -> None:
    labels = [it["label"] for it in visible(graphs(template())["Refused requests"])]
    assert [it[:3] for it in labels] == ["401", "403", "429", "507"]


def test_servers_of_the_same_name_are_told_apart_by_where_they_are() -> None:
    stack = cdk.Stack(cdk.App(), "Theirs")
    vpc = ec2.Vpc(stack, "Vpc", max_azs=1, nat_gateways=0)
    servers = [
        ChromaServer(Construct(stack, team), "Chroma", vpc=vpc, monitoring=ChromaMonitoring())
        for team in ("search", "support")
    ]
    ChromaDashboard(stack, "Dashboard", servers=servers)
    made = graphs(Template.from_stack(stack))
    assert [it["label"] for it in visible(made["Answers"])] == ["search", "support"]


def test_the_thresholds_are_those_of_the_alarms() -> None:
    alarms = template().find_resources("AWS::CloudWatch::Alarm")

    def threshold(name: str) -> float:
        [found] = [it for key, it in alarms.items() if name in key]
        return float(found["Properties"]["Threshold"])

    drawn = {
        title: [it["value"] for it in graph["annotations"]["horizontal"]]
        for title, graph in graphs(template()).items()
        if "annotations" in graph
    }
    assert drawn == {
        "Errors (5xx)": [threshold("ErrorsHigh")],
        "Memory of Chroma": [threshold("MemoryHigh")],
        "Data volume": [threshold("DiskFull")],
        "Last backup": [threshold("BackupMissing")],
        "Certificate": [threshold("CertificateExpiring")],
    }


def test_a_rate_is_the_same_however_long_the_periods_are() -> None:
    [line] = visible(graphs(template())["Requests"])
    assert line["expression"] == "count0 / (PERIOD(count0) / 60)"


@pytest.mark.parametrize("count", [1, 5])
def test_the_dashboard_is_within_the_limits_of_cloudwatch(count: int) -> None:
    widgets = dashboard(template(count))["widgets"]
    assert len(widgets) <= MOST_WIDGETS
    metrics = [len(it["metrics"]) for it in graphs(template(count)).values()]
    assert max(metrics) <= MOST_METRICS_OF_A_GRAPH
    assert sum(metrics) <= MOST_METRICS


def test_every_metric_of_a_computed_line_is_in_its_graph() -> None:
    for graph in graphs(template(5)).values():
        ids = [it[-1]["id"] for it in graph["metrics"] if "id" in it[-1]]
        assert len(set(ids)) == len(ids)
        computed = " ".join(it[-1].get("expression", "") for it in graph["metrics"])
        assert all(it in computed for it in ids)


def without_tls(stack: cdk.Stack) -> dict[str, Any]:
    return {"tls": ChromaTls.off()}


def without_backups(stack: cdk.Stack) -> dict[str, Any]:
    return {"backup_retention": cdk.Duration.days(0)}


@pytest.mark.parametrize(
    ("options", "missing"), [(without_tls, "Certificate"), (without_backups, "Last backup")]
)
def test_what_no_server_has_makes_no_graph_and_no_gap(
    options: Callable[[cdk.Stack], dict[str, Any]], missing: str
) -> None:
    stack = cdk.Stack(cdk.App(), "Theirs")
    ChromaDashboard(stack, "Dashboard", servers=servers_in(stack, **options(stack)))
    made = Template.from_stack(stack)
    assert graphs(template()).keys() - graphs(made).keys() == {missing}
    last_row = dashboard(made)["widgets"][-3:]
    assert [it["width"] for it in last_row] == [8, 8, 8]


def test_a_dashboard_has_the_name_that_it_is_given() -> None:
    stack = cdk.Stack(cdk.App(), "Theirs")
    ChromaDashboard(stack, "Dashboard", servers=servers_in(stack), dashboard_name="chroma")
    made = properties(Template.from_stack(stack), "AWS::CloudWatch::Dashboard")
    assert made["DashboardName"] == "chroma"
    assert "DashboardName" not in properties(template(), "AWS::CloudWatch::Dashboard")


def test_a_dashboard_of_no_server_is_refused() -> None:
    with pytest.raises(SettingError, match="at least one server"):
        ChromaDashboard(cdk.Stack(cdk.App(), "Theirs"), "Dashboard", servers=[])


def test_a_server_without_monitoring_is_refused() -> None:
    stack = cdk.Stack(cdk.App(), "Theirs")
    vpc = ec2.Vpc(stack, "Vpc", max_azs=1, nat_gateways=0)
    server = ChromaServer(stack, "Chroma", vpc=vpc)
    with pytest.raises(SettingError, match="monitoring"):
        ChromaDashboard(stack, "Dashboard", servers=[server])


def test_it_shows_servers_of_another_stack_too() -> None:
    app = cdk.App()
    theirs, other = cdk.Stack(app, "Theirs"), cdk.Stack(app, "Other")
    ChromaDashboard(other, "Dashboard", servers=servers_in(theirs))
    body = json.dumps(properties(Template.from_stack(other), "AWS::CloudWatch::Dashboard"))
    assert '"AWS::StackName"' not in body
    assert "Theirs:ExportsOutputRefAWSStackName" in body


def test_a_stack_has_a_dashboard_only_when_it_is_asked_for() -> None:
    synthesis.template().resource_count_is("AWS::CloudWatch::Dashboard", 0)
    made = graphs(synthesis.template(dashboard="true"))
    assert made.keys() == graphs(template()).keys()


def test_a_stack_without_monitoring_has_no_dashboard() -> None:
    with pytest.raises(SettingError, match="only with monitoring=true"):
        synthesis.stack(dashboard="true", monitoring="false")
