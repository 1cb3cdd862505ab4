"""The picture of the dashboard, which `make dashboard` draws from recorded data."""

from __future__ import annotations

import functools
import json
from typing import Any

import PIL.Image
import pytest

from tests.bench import dashboard as drawn
from tests.unit import synthesis

RECORDING = drawn.Recording.read()


@functools.cache
def body() -> dict[str, Any]:
    return synthesis.dashboard(drawn.template())


def graphs() -> list[dict[str, Any]]:
    return [it for it in body()["widgets"] if it["type"] == "metric"]


def test_every_metric_of_the_dashboard_has_recorded_values() -> None:
    metrics = [it for graph in graphs() for it in graph["properties"]["metrics"] if len(it) > 1]
    assert {drawn.key(it) for it in metrics} == RECORDING.series.keys()


def test_a_metric_without_recorded_values_is_an_error() -> None:
    graph = json.loads(json.dumps(graphs()[0]).replace("Heartbeat", "Unheard"))
    with pytest.raises(KeyError, match="Unheard"):
        drawn.lines(graph, RECORDING)


def test_every_series_has_a_value_for_each_period() -> None:
    assert {len(it) for it in RECORDING.series.values()} == {len(RECORDING.times)}
    assert len(RECORDING.times) > 50


def test_the_recording_shows_what_the_dashboard_is_for() -> None:
    values = {
        it["properties"]["title"]: [
            [value for value in line.values if value is not None]
            for line in drawn.lines(it, RECORDING)
        ]
        for it in graphs()
    }
    assert set(values["Answers"][0]) == {0, 1}
    assert max(values["Errors (5xx)"][0]) > 1
    assert min(map(len, values["Refused requests"])) > 0
    for title in ("Latency, p50", "Processors", "Memory of Chroma", "Data volume"):
        assert max(values[title][0]) > 0


def test_the_picture_and_the_page_show_every_widget() -> None:
    figure = drawn.picture(body(), RECORDING)
    titles = [it["properties"]["title"] for it in graphs()]
    assert [axes.get_title(loc="left") for axes in figure.axes] == titles
    page = drawn.page(body(), RECORDING)
    for title in titles:
        assert f'alt="{title}"' in page
    for question in ("Is it up?", "Is it slow?", "Is it full?", "Is it safe?"):
        assert any(question in text.get_text() for text in figure.texts)
        assert question in page


def test_the_picture_is_of_these_widgets_and_values() -> None:
    """So that whoever changes the dashboard draws it again, and looks at it."""
    with PIL.Image.open(drawn.PICTURE) as image:
        assert image.info["Comment"] == drawn.digest(body(), RECORDING), "run make dashboard"


@pytest.mark.parametrize(
    ("expression", "values"),
    [
        ("a + b", [None, 5]),
        ("a / (PERIOD(a) / 60)", [0.2, 0.4]),
        ("100 * FILL(b, 0) / a", [0, 150]),
        ("a / (a - 1)", [None, 2]),
        ("SUM([FILL(a, 0), b])", [1, 5]),
    ],
)
def test_expressions_are_computed_as_by_cloudwatch(
    expression: str, values: list[float | None]
) -> None:
    known = {"a": [1.0, 2.0], "b": [None, 3.0]}
    assert drawn.evaluate(expression, known, 300) == pytest.approx(values)


def test_an_expression_that_is_not_understood_is_an_error() -> None:
    with pytest.raises(ValueError, match="RATE"):
        drawn.evaluate("RATE(a)", {"a": [1.0]}, 300)
