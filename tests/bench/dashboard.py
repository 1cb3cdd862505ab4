"""`make dashboard`: the picture of a server's dashboard, as CloudWatch would show it.

    python -m tests.bench.dashboard [--record]

The widgets are those of the synthesised template, the values those of `dashboard.json`, which
`--record` writes anew: `dashboard_recording.py` says how. Written are `docs/dashboard.png` and
`dist/dashboard.html`.
"""

from __future__ import annotations

import argparse
import ast
import base64
import hashlib
import html
import io
import json
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import aws_cdk as cdk
import matplotlib as mpl
from aws_cdk import aws_ec2 as ec2
from aws_cdk.assertions import Template
from matplotlib import dates, ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from chroma_stack import ChromaDashboard, ChromaMonitoring, ChromaServer
from tests.unit import synthesis

ROOT = Path(__file__).parents[2]
RECORDED = Path(__file__).with_name("dashboard.json")
PICTURE = ROOT / "docs" / "dashboard.png"
PAGE = ROOT / "dist" / "dashboard.html"

COLUMN, ROW = 0.58, 0.42
"""Inches of a column and of a row of the dashboard's grid."""
COLUMNS = 24
GAP = 0.06
LEGEND_COLUMNS = 3
BACKGROUND, CARD, TEXT, FAINT = "#f2f3f3", "#ffffff", "#16191f", "#687078"

NAMES_OF_RESOURCES = {"Server", "AutoScalingGroupName", "VolumeId"}
"""Dimensions that say whose a metric is. The recording is of one server."""

Values = Sequence[float | None]
Widget = Mapping[str, Any]

STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.edgecolor": "#d5dbdb",
    "axes.labelcolor": FAINT,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "text.color": TEXT,
    "svg.hashsalt": "dashboard",
}


@dataclass(frozen=True)
class Recording:
    """One value for each period of each series; `None` where CloudWatch would have none."""

    start: datetime
    period: int
    about: str
    series: Mapping[str, Values]

    @staticmethod
    def read(file: Path = RECORDED) -> Recording:
        kept = json.loads(file.read_text())
        start = datetime.fromisoformat(kept["start"].replace("Z", "+00:00"))
        return Recording(start, kept["period"], kept["about"], kept["series"])

    @property
    def times(self) -> list[datetime]:
        [length] = {len(values) for values in self.series.values()}
        return [self.start + timedelta(seconds=self.period * number) for number in range(length)]


@dataclass(frozen=True)
class Line:
    """A line of a graph."""

    label: str
    color: str | None
    values: Values


def template(servers: int = 1) -> Template:
    """A stack with so many servers and their dashboard."""
    stack = cdk.Stack(cdk.App(), "Servers")
    vpc = ec2.Vpc(stack, "Vpc", max_azs=1, nat_gateways=0)
    public = ec2.SubnetSelection(subnet_type=ec2.SubnetType.PUBLIC)
    made = [
        ChromaServer(
            stack,
            "Chroma" if servers == 1 else f"Team{number + 1}",
            vpc=vpc,
            vpc_subnets=public,
            monitoring=ChromaMonitoring(),
        )
        for number in range(servers)
    ]
    ChromaDashboard(stack, "Dashboard", servers=made)
    return Template.from_stack(stack)


def key(metric: Sequence[Any]) -> str:
    """What a metric of a widget is called in the recording."""
    namespace, name, *dimensions, options = metric
    pairs = zip(dimensions[::2], dimensions[1::2], strict=True)
    further = [f"{it}={value}" for it, value in pairs if it not in NAMES_OF_RESOURCES]
    return " ".join([namespace, name, *further, options.get("stat", "Average")])


def lines(widget: Widget, recording: Recording) -> list[Line]:
    """What a graph shows.

    :raises KeyError: when there is no recording of one of its metrics.
    """
    metrics = widget["properties"]["metrics"]
    known = {it[-1]["id"]: recording.series[key(it)] for it in metrics if "id" in it[-1]}
    shown = []
    for metric in metrics:
        options = metric[-1]
        if options.get("visible", True):
            if "expression" in options:
                values = evaluate(options["expression"], known, recording.period)
            else:
                values = recording.series[key(metric)]
            shown.append(Line(options["label"], options.get("color"), values))
    return shown


def evaluate(expression: str, known: Mapping[str, Values], period: int) -> list[float | None]:
    """What CloudWatch makes of an expression, as far as the dashboard uses them:
    https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/using-metric-math.html"""
    tree = ast.parse(expression, mode="eval").body
    length = len(next(iter(known.values())))
    return [_value(tree, number, known, period) for number in range(length)]


_OPERATORS: Mapping[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


def _value(part: ast.expr, number: int, known: Mapping[str, Values], period: int) -> float | None:
    def of(it: ast.expr) -> float | None:
        return _value(it, number, known, period)

    match part:
        case ast.Constant(value=float() | int() as value):
            return float(value)
        case ast.Name(id=name):
            return known[name][number]
        case ast.BinOp(left=left, op=op, right=right):
            a, b = of(left), of(right)
            if a is None or b is None or (isinstance(op, ast.Div) and b == 0):
                return None
            return _OPERATORS[type(op)](a, b)
        case ast.Call(func=ast.Name(id="PERIOD")):
            return float(period)
        case ast.Call(func=ast.Name(id="FILL"), args=[filled, instead]):
            return of(instead) if of(filled) is None else of(filled)
        case ast.Call(func=ast.Name(id="SUM"), args=[ast.List(elts=parts)]):
            there = [it for it in map(of, parts) if it is not None]
            return sum(there) if there else None
    raise ValueError(f"not handled: {ast.unparse(part)}")


def draw(axes: Axes, widget: Widget, recording: Recording) -> None:
    """A graph as the console draws it."""
    of = widget["properties"]
    shown = lines(widget, recording)
    times = recording.times
    for line in shown:
        values = [float("nan") if it is None else it for it in line.values]
        alone = [
            it if it == it and not any(_there(values, number + step) for step in (-1, 1)) else None
            for number, it in enumerate(values)
        ]
        axes.plot(times, values, color=line.color, label=line.label, linewidth=1.3, clip_on=False)
        # A point without neighbours makes no line.
        dots = [float("nan") if it is None else it for it in alone]
        axes.plot(times, dots, color=line.color, marker=".", linestyle="none")
    axis = of.get("yAxis", {}).get("left", {})
    highest = max((it for line in shown for it in line.values if it is not None), default=0)
    for threshold in of.get("annotations", {}).get("horizontal", []):
        highest = max(highest, threshold["value"])
        axes.axhline(threshold["value"], color=threshold["color"], linewidth=0.9, linestyle="--")
        axes.annotate(
            threshold["label"],
            (0.01, threshold["value"]),
            xycoords=("axes fraction", "data"),
            xytext=(0, 2),
            textcoords="offset points",
            color=threshold["color"],
            fontsize=6.5,
        )
    axes.set_ylim(axis.get("min", 0), axis.get("max") or (highest * 1.18 or 1))
    axes.set_xlim(times[0], times[-1])
    axes.set_title(of["title"], loc="left", fontsize=9, fontweight="bold", pad=6)
    axes.set_ylabel(axis.get("label", ""), fontsize=7)
    axes.yaxis.set_major_locator(ticker.MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))
    axes.xaxis.set_major_locator(dates.AutoDateLocator(maxticks=5))
    axes.xaxis.set_major_formatter(dates.DateFormatter("%H:%M", tz=timezone.utc))
    axes.tick_params(labelsize=7, length=2)
    axes.grid(axis="y", color="#eaeded", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if has_legend(widget):
        axes.legend(
            loc="upper left",
            bbox_to_anchor=(0, -0.12),
            ncols=LEGEND_COLUMNS,
            fontsize=7,
            frameon=False,
            handlelength=1,
            columnspacing=1.2,
            borderpad=0,
            labelspacing=0.3,
        )
    if not any(it is not None for line in shown for it in line.values):
        axes.set_yticks([])
        axes.text(
            0.5, 0.5, "No data available.", transform=axes.transAxes, color=FAINT, ha="center"
        )


def has_legend(widget: Widget) -> bool:
    """Which a graph with one line does without."""
    return bool(widget["properties"].get("legend", {}).get("position") != "hidden")


def _there(values: Sequence[float], number: int) -> bool:
    return 0 <= number < len(values) and values[number] == values[number]


def place(figure: Figure, x: float, y: float, widget: Widget) -> Axes:
    """The part of a card that the graph itself takes.

    :param x: the card's first column, from the left.
    :param y: its first row, from the top.
    """
    wide, high = figure.get_size_inches()
    width, height = widget["width"], widget["height"]
    left, right, top, bottom = 0.58, 0.14, 0.34, 0.3
    if has_legend(widget):
        visible = [it for it in widget["properties"]["metrics"] if it[-1].get("visible", True)]
        bottom += 0.17 * -(-len(visible) // LEGEND_COLUMNS)
    return figure.add_axes(
        (
            (x * COLUMN + left) / wide,
            1 - ((y + height) * ROW - bottom) / high,
            (width * COLUMN - left - right) / wide,
            (height * ROW - top - bottom) / high,
        )
    )


def picture(dashboard: Mapping[str, Any], recording: Recording) -> Figure:
    """All of the dashboard, as one picture."""
    widgets = dashboard["widgets"]
    rows = max(it["y"] + it["height"] for it in widgets)
    figure = Figure((COLUMNS * COLUMN, rows * ROW), facecolor=BACKGROUND)
    wide, high = figure.get_size_inches()
    for it in widgets:
        x, y, width, height = (it[name] for name in ("x", "y", "width", "height"))
        if it["type"] == "text":
            heading, _, text = it["properties"]["markdown"].partition("\n")
            left, bottom = GAP / wide, 1 - (y + height) * ROW / high
            figure.text(
                left, bottom + 0.36 / high, heading.lstrip("# "), fontsize=15, fontweight="bold"
            )
            figure.text(left, bottom + 0.13 / high, text, fontsize=9.5, color=FAINT)
            continue
        card = mpl.patches.FancyBboxPatch(
            ((x * COLUMN + GAP) / wide, 1 - ((y + height) * ROW - GAP) / high),
            (width * COLUMN - 2 * GAP) / wide,
            (height * ROW - 2 * GAP) / high,
            boxstyle="square,pad=0",
            facecolor=CARD,
            edgecolor="#d5dbdb",
            linewidth=0.6,
            transform=figure.transFigure,
            zorder=-1,
        )
        figure.add_artist(card)
        draw(place(figure, x, y, it), it, recording)
    return figure


def page(dashboard: Mapping[str, Any], recording: Recording) -> str:
    """The dashboard as a page: what the picture shows, each graph an image that can be enlarged."""
    parts = []
    for it in dashboard["widgets"]:
        where = f"grid-column:{it['x'] + 1}/span {it['width']}"
        if it["type"] == "text":
            heading, _, text = it["properties"]["markdown"].partition("\n")
            inside = f"<h2>{html.escape(heading.lstrip('# '))}</h2><p>{html.escape(text)}</p>"
            parts.append(f'<div style="{where}">{inside}</div>')
            continue
        figure = Figure((it["width"] * COLUMN, it["height"] * ROW), facecolor=CARD)
        draw(place(figure, 0, 0, it), it, recording)
        file = io.BytesIO()
        figure.savefig(file, format="svg", metadata={"Date": None})
        data = base64.b64encode(file.getvalue()).decode()
        title = html.escape(it["properties"]["title"])
        parts.append(
            f'<a style="{where}" href="data:image/svg+xml;base64,{data}">'
            f'<img alt="{title}" src="data:image/svg+xml;base64,{data}"></a>'
        )
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Dashboard</title><style>'
        f"body{{font-family:sans-serif;background:{BACKGROUND};color:{TEXT};margin:1em}}"
        "main{display:grid;grid-template-columns:repeat(24,1fr);gap:8px}"
        f"h2,p{{margin:.2em 0}}p{{color:{FAINT}}}"
        f"img{{width:100%;background:{CARD};border:1px solid #d5dbdb}}</style>"
        f"<p>{html.escape(recording.about)}</p><main>{''.join(parts)}</main></html>\n"
    )


def digest(dashboard: Mapping[str, Any], recording: Recording) -> str:
    """Of what the picture shows; it is kept in the picture."""
    shown = json.dumps([dashboard, recording.series], sort_keys=True)
    return hashlib.sha256(shown.encode()).hexdigest()


def main() -> None:
    """Draw, after recording where that is asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.dashboard", description=__doc__)
    parser.add_argument("--record", action="store_true", help="run the benchmark before")
    if parser.parse_args().record:
        from tests.bench import dashboard_recording

        dashboard_recording.record(RECORDED)
    made, recording = synthesis.dashboard(template()), Recording.read()
    with mpl.rc_context(STYLE):
        metadata = {"Software": None, "Comment": digest(made, recording)}
        picture(made, recording).savefig(PICTURE, dpi=130, metadata=metadata)
        PAGE.parent.mkdir(exist_ok=True)
        PAGE.write_text(page(made, recording))
    print(f"Written: {PICTURE.relative_to(ROOT)}, {PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
