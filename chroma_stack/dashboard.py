"""A dashboard of one or several servers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from constructs import Construct

from chroma_stack import alarms
from chroma_stack.errors import SettingError
from chroma_stack.server import ChromaServer
from chroma_stack.settings import Setting, flag
from chroma_stack.tls import TlsMode

_COLUMNS = 24
"""Of a dashboard:
https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/CloudWatch-Dashboard-Body-Structure.html"""

_COLORS = (
    "#1f77b4",
    "#ff7f0e",
    "#2ca02c",
    "#9467bd",
    "#8c564b",
    "#e377c2",
    "#7f7f7f",
    "#bcbd22",
    "#17becf",
)
"""A server has the same one in each graph. Red is for the alarms' thresholds."""
_RED = "#d62728"

_REFUSALS = {
    401: "401: credential",
    403: "403: web page",
    429: "429: guessing",
    507: "507: full",
}
"""What the proxy refuses, by status."""


class _Shown(NamedTuple):
    """A server as the graphs show it."""

    server: ChromaServer
    number: int
    name: str
    color: str

    def props(self) -> dict[str, str]:
        """Those of its line in a graph."""
        return {"label": self.name, "color": self.color}

    def math(self, expression: str, **metrics: cloudwatch.IMetric) -> cloudwatch.MathExpression:
        """Its line in a graph, computed. In a graph the names are those of one server only."""
        own = {name: f"{name}{self.number}" for name in metrics}
        return cloudwatch.MathExpression(
            expression=expression.format(**own),
            using_metrics={own[name]: metric for name, metric in metrics.items()},
            label=self.name,
            color=self.color,
        )


class _Graph(NamedTuple):
    """A graph with a line, or several, for each server that has such."""

    title: str
    unit: str
    shown: Sequence[_Shown]
    lines: Callable[[_Shown], Sequence[cloudwatch.IMetric]]
    top: float | None = None
    """Of the axis, which begins at zero. ``None``: as the values are."""
    thresholds: Sequence[cloudwatch.HorizontalAnnotation] = ()

    def widget(self, width: int, height: int) -> cloudwatch.GraphWidget:
        lines = [line for it in self.shown for line in self.lines(it)]
        return cloudwatch.GraphWidget(
            title=self.title,
            left=lines,
            left_y_axis=cloudwatch.YAxisProps(
                label=self.unit, show_units=False, min=0, max=self.top
            ),
            left_annotations=list(self.thresholds),
            legend_position=cloudwatch.LegendPosition.HIDDEN
            if len(lines) == 1
            else cloudwatch.LegendPosition.BOTTOM,
            width=width,
            height=height,
        )


class ChromaDashboard(cloudwatch.Dashboard):
    """Says at a look whether servers are up, slow, full or unsafe: a row of graphs for each
    question, with a line for each server, and the thresholds of the alarms in red.

    It stays readable for up to about five servers. A server without TLS, or without backups of
    its own, has no line in the graph about these.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        servers: Sequence[ChromaServer],
        dashboard_name: str | None = None,
    ) -> None:
        """
        :param servers: the servers, each with ``monitoring``, of this stack or others of its region.
        :param dashboard_name: the name in CloudWatch. Default: one that CloudFormation makes.
        :raises SettingError: when there is no server, or one without ``monitoring``.
        """
        if not servers:
            raise SettingError("servers", "[]", "at least one server")
        super().__init__(
            scope,
            construct_id,
            dashboard_name=dashboard_name,
            default_interval=cdk.Duration.hours(3),
        )
        self._shown = shown = [
            _Shown(server, number, name, _COLORS[number % len(_COLORS)])
            for number, (server, name) in enumerate(zip(servers, _names(servers), strict=True))
        ]
        with_tls = [it for it in shown if it.server.tls.mode is not TlsMode.OFF]
        with_backups = [it for it in shown if it.server._backup_hours is not None]
        self._add_row(
            "Is it up?",
            "Where there is no point, nothing reports: the instance is stopped, or being replaced.",
            _Graph("Answers", "1: yes, 0: no", shown, _heartbeat, top=1.2),
            _Graph("Requests", "a minute", shown, _requests),
            _Graph(
                "Errors (5xx)",
                "% of requests",
                shown,
                _errors,
                thresholds=[_over(alarms.ERROR_PERCENT)],
            ),
            _Graph("Failed boots", "count", shown, _boot_failures),
        )
        self._add_row(
            "Is it slow?",
            "From a request's arrival at the proxy to the end of its answer.",
            _Graph("Latency, p50", "ms", shown, _latency("p50")),
            _Graph("Latency, p99", "ms", shown, _latency("p99")),
            _Graph("Processors", "% busy", shown, _processors, top=100),
            _Graph("Waiting for the data volume", "operations", shown, _queue),
        )
        self._add_row(
            "Is it full?",
            "Before Chroma's memory or the data volume ends, writes are refused with 507.",
            _Graph(
                "Memory of Chroma",
                "% of its limit",
                shown,
                _memory,
                100,
                [_over(alarms.MEMORY_PERCENT)],
            ),
            _Graph("Data volume", "% used", shown, _disk, 100, [_over(alarms.DISK_PERCENT)]),
            _Graph("Memory of the instance", "% used", shown, _host_memory, 100),
            _Graph("Swap", "% used", shown, _swap, 100),
        )
        refusals = _refusals_by_status if len(shown) == 1 else _refusals
        self._add_row(
            "Is it safe?",
            "Refused requests, and what protects the data: backups, TLS, and indexes in order.",
            _Graph("Refused requests", "a minute", shown, refusals),
            _Graph(
                "Last backup",
                "hours ago",
                with_backups,
                _backup_age,
                thresholds=[_over(age) for age in _longest_ages(with_backups)],
            ),
            _Graph(
                "Certificate",
                "days left",
                with_tls,
                _certificate,
                thresholds=[_under(alarms.CERTIFICATE_DAYS)],
            ),
            _Graph("Repaired indexes", "count", shown, _index_repairs),
        )

    def _add_row(self, question: str, explanation: str, *graphs: _Graph) -> None:
        self.add_widgets(
            cloudwatch.TextWidget(
                markdown=f"## {question}\n{explanation}",
                background=cloudwatch.TextWidgetBackground.TRANSPARENT,
                width=_COLUMNS,
                height=2,
            )
        )
        filled = [it for it in graphs if it.shown]
        # A legend below needs room.
        height = 5 if len(self._shown) == 1 else 6
        self.add_widgets(*(it.widget(_COLUMNS // len(filled), height) for it in filled))


def _names(servers: Sequence[ChromaServer]) -> list[str]:
    """What tells the servers apart: of their paths the parts that differ."""
    paths = [server.node.path.split("/") for server in servers]
    if len(paths) == 1:
        return paths[0][-1:]
    if len({len(path) for path in paths}) > 1:
        return ["/".join(path) for path in paths]
    different = [len(set(parts)) > 1 for parts in zip(*paths, strict=True)]
    return [
        "/".join(part for part, differs in zip(path, different, strict=True) if differs)
        for path in paths
    ]


def _over(value: float) -> cloudwatch.HorizontalAnnotation:
    return cloudwatch.HorizontalAnnotation(value=value, label=f"alarm over {value:g}", color=_RED)


def _under(value: float) -> cloudwatch.HorizontalAnnotation:
    return cloudwatch.HorizontalAnnotation(value=value, label=f"alarm under {value:g}", color=_RED)


def _longest_ages(shown: Sequence[_Shown]) -> list[int]:
    """Of backups, in hours; the schedules may differ."""
    hours = {it.server._backup_hours for it in shown}
    return sorted({alarms.longest_backup_age(it) for it in hours if it is not None})


def _heartbeat(of: _Shown) -> list[cloudwatch.IMetric]:
    return [of.server.metric_heartbeat(**of.props())]


def _a_minute(of: _Shown, metric: cloudwatch.IMetric) -> cloudwatch.MathExpression:
    """A count as a rate, which is the same however long the graph's periods are."""
    return of.math("{count} / (PERIOD({count}) / 60)", count=metric)


def _requests(of: _Shown) -> list[cloudwatch.IMetric]:
    return [_a_minute(of, of.server.metric_requests())]


def _errors(of: _Shown) -> list[cloudwatch.IMetric]:
    errors, requests = of.server.metric_errors(), of.server.metric_requests()
    return [of.math("100 * FILL({errors}, 0) / {requests}", errors=errors, requests=requests)]


def _boot_failures(of: _Shown) -> list[cloudwatch.IMetric]:
    return [of.server.metric_boot_failures(**of.props())]


def _latency(statistic: str) -> Callable[[_Shown], list[cloudwatch.IMetric]]:
    return lambda of: [of.server.metric_latency(statistic=statistic, **of.props())]


def _processors(of: _Shown) -> list[cloudwatch.IMetric]:
    return [of.server.metric_cpu_utilization(**of.props())]


def _queue(of: _Shown) -> list[cloudwatch.IMetric]:
    return [of.server.metric_volume_queue_length(**of.props())]


def _memory(of: _Shown) -> list[cloudwatch.IMetric]:
    return [of.server.metric_memory_utilization(**of.props())]


def _host_memory(of: _Shown) -> list[cloudwatch.IMetric]:
    return [of.server.metric_host_memory_utilization(**of.props())]


def _disk(of: _Shown) -> list[cloudwatch.IMetric]:
    return [of.server.metric_disk_utilization(**of.props())]


def _swap(of: _Shown) -> list[cloudwatch.IMetric]:
    return [of.server.metric_swap_utilization(**of.props())]


def _refusals(of: _Shown) -> list[cloudwatch.IMetric]:
    kinds = {f"refused{status}_": of.server.metric_refusals(status) for status in _REFUSALS}
    total = " + ".join(f"FILL({{{kind}}}, 0)" for kind in kinds)
    return [of.math(f"({total}) / (PERIOD({{{next(iter(kinds))}}}) / 60)", **kinds)]


def _refusals_by_status(of: _Shown) -> list[cloudwatch.IMetric]:
    """A line for each reason, which one server has room for."""
    lines = [
        of._replace(number=status, name=reason, color=color)
        for (status, reason), color in zip(_REFUSALS.items(), _COLORS, strict=False)
    ]
    return [
        it.math(
            "FILL({count}, 0) / (PERIOD({count}) / 60)", count=it.server.metric_refusals(it.number)
        )
        for it in lines
    ]


def _backup_age(of: _Shown) -> list[cloudwatch.IMetric]:
    return [of.server.metric_backup_age(**of.props())]


def _certificate(of: _Shown) -> list[cloudwatch.IMetric]:
    return [of.server.metric_certificate_days(**of.props())]


def _index_repairs(of: _Shown) -> list[cloudwatch.IMetric]:
    return [of.server.metric_index_repairs(**of.props())]


SETTINGS = (
    Setting(
        key="dashboard",
        only="Which graphs there are depends on other settings, which CloudFormation cannot compute.",
        option="dashboard",
        meaning="`true` adds a dashboard of the server to CloudWatch.",
        default="false",
        values=("true", "false"),
        parse=flag,
    ),
)
