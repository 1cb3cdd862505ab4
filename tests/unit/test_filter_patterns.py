"""The evaluator of filter patterns finds what CloudWatch Logs' documentation says, and guesses nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from chroma_stack.emulator.filter_patterns import (
    Datum,
    MetricFilter,
    Pattern,
    PatternError,
    Undocumented,
)

EVENT = {
    "kind": "Started",
    "address": "203.0.113.9",
    "words": ["one", "two words"],
    "parts": [{"name": "a", "id": 1}, {"name": "b", "id": 2}],
    "nothing": None,
    "yes": True,
    "rack.name": "r",
    "owner": {"id": 1, "mail": "a@example.com"},
    "grid": [[0, 1], [4, 5]],
    "ratio": 0.001,
    "status": 404,
}
LINE = json.dumps(EVENT)


@pytest.mark.parametrize(
    "pattern",
    [
        '{ $.kind = "Started" }',
        "{ $.kind = Started }",
        '{ $.kind = "Sta*" }',
        '{ $.kind = "*art*" }',
        '{ $.kind = "*" }',
        "{ $.status = * }",
        "{$.status=404}",
        "{ $.status != 500 }",
        "{ $.status > 403 && $.status < 405 && $.status >= 404 && $.status <= 404 }",
        "{ $.ratio = 1e-3 }",
        "{ $.ratio != 1e+3 }",
        "{ $.address != 198.51.* }",
        '{ $.words[1] = "two words" }',
        "{ $.parts[1].id = 2 }",
        "{ $.grid[1][0] = 4 }",
        "{ $.['rack.name'] = \"r\" }",
        "{ $.nothing IS NULL }",
        "{ $.yes IS TRUE }",
        "{ $.missing NOT EXISTS }",
        '{ ($.owner.id = 1) && ($.owner.mail = "a@example.com") }',
        # && binds closer than ||
        '{ $.kind = "Started" || $.status = 1 && $.ratio = 1 }',
    ],
)
def test_a_line_is_found(pattern: str) -> None:
    assert Pattern(pattern).matches(LINE)


@pytest.mark.parametrize(
    "pattern",
    [
        '{ $.kind = "started" }',
        '{ $.kind = "Start" }',
        '{ $.kind != "St*" }',
        "{ $.status = 40 }",
        "{ $.missing = * }",
        "{ $.missing > 1 }",
        "{ $.kind > 1 }",
        "{ $.owner = * }",
        "{ $.words[2] = * }",
        "{ $.missing IS NULL }",
        "{ $.yes IS FALSE }",
        "{ $.kind NOT EXISTS }",
        '{ ($.kind = "Started" || $.status = 1) && $.ratio = 1 }',
        '{ ($.owner.id = 2 && $.kind = "Started") || $.words[0] = "two" }',
    ],
)
def test_a_line_is_not_found(pattern: str) -> None:
    assert not Pattern(pattern).matches(LINE)


@pytest.mark.parametrize("line", ["", "kind Started", '"Started"', "[]", '{"kind": "Sta'])
def test_a_line_that_is_no_json_object_is_never_found(line: str) -> None:
    assert not Pattern("{ $.kind NOT EXISTS || $.kind = * }").matches(line)


@pytest.mark.parametrize(
    "pattern",
    [
        "",
        "ERROR",
        "[ip, user]",
        "{ kind = 1 }",
        "{ $.kind }",
        "{ $.kind = }",
        "{ $.kind = 1",
        "{ $.kind = 1 } }",
        "{ ($.kind = 1 }",
        "{ $.kind == 1 }",
        "{ $.kind = 1 & $.status = 1 }",
        "{ $.kind EXISTS }",
        "{ $.kind IS NOT NULL }",
        '{ $.kind > "a" }',
        "{ $.kind = %Start% }",
        "{ $.words[*] = one }",
        f'{{ $.kind = "{"x" * 1024}" }}',
    ],
)
def test_what_is_no_pattern_or_is_not_handled_is_refused(pattern: str) -> None:
    with pytest.raises(PatternError):
        Pattern(pattern)


@pytest.mark.parametrize(
    "pattern",
    ["{ $.missing != 1 }", "{ $.nothing != x }", "{ $.kind != 1 }", '{ $.status = "404" }'],
)
def test_what_the_documentation_leaves_open_is_not_guessed(pattern: str) -> None:
    with pytest.raises(Undocumented):
        Pattern(pattern).matches(LINE)


def metric_filter(pattern: str = "{ $.status = * && $.kind = * }", **metric: Any) -> dict[str, Any]:
    of_ours = {"MetricNamespace": "N", "MetricName": "M", "MetricValue": "1"}
    return {"FilterPattern": pattern, "MetricTransformations": [of_ours | metric]}


def test_a_metric_filter_counts_or_takes_the_value_of_a_field() -> None:
    assert MetricFilter(metric_filter()).datum(LINE) == Datum("N", "M", (), 1, "None")
    of_field = MetricFilter(metric_filter(MetricValue="$.status", Unit="Count"))
    assert of_field.datum(LINE) == Datum("N", "M", (), 404, "Count")
    assert of_field.datum('{"status": 404}') is None


def test_a_dimension_has_the_value_of_a_field() -> None:
    dimensions = [{"Key": "Status", "Value": "$.status"}, {"Key": "Kind", "Value": "$.kind"}]
    made = MetricFilter(metric_filter(Dimensions=dimensions)).datum(LINE)
    assert made is not None
    assert made.dimensions == (("Kind", "Started"), ("Status", "404"))


@pytest.mark.parametrize(
    "metric",
    [
        {"Dimensions": [{"Key": "K", "Value": "$.kind"}], "DefaultValue": 0},
        {"Dimensions": [{"Key": "O", "Value": "$.owner.id"}]},
        {"Dimensions": [{"Key": "K", "Value": "fixed"}]},
        {"Dimensions": [{"Key": key, "Value": "$.kind"} for key in "abcd"]},
        {"MetricValue": "$.ratio"},
    ],
)
def test_a_metric_filter_that_aws_refuses_is_refused(metric: dict[str, Any]) -> None:
    with pytest.raises(PatternError):
        MetricFilter(metric_filter(**metric))


def test_a_metric_of_a_field_that_is_no_number_is_not_guessed() -> None:
    with pytest.raises(Undocumented):
        MetricFilter(metric_filter(MetricValue="$.kind")).datum(LINE)
