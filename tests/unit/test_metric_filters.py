"""The metric filters of the template find the lines that docs/monitoring.md documents, those that they are for, and no other.

How a pattern finds a line is not CloudWatch's own doing here, but that of `chroma_stack/emulator/filter_patterns.py`.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from chroma_stack.emulator.filter_patterns import Datum, MetricFilter
from tests.unit.synthesis import template

PAGE = (Path(__file__).parents[2] / "docs" / "monitoring.md").read_text()
[REQUEST] = [json.loads(it) for it in PAGE.splitlines() if it.startswith('{"time"')]
"""The request of the page."""

SERVER = REQUEST["server"]
EVENTS = re.findall(
    r"`(\w+)`", "".join(re.findall(r"(?m)^\| event \| when \|\n\|.*\n((?:\|.*\n)+)", PAGE))
)
"""What the page's table of events names."""


@functools.cache
def filters() -> tuple[MetricFilter, ...]:
    found = template().find_resources("AWS::Logs::MetricFilter").values()
    return tuple(MetricFilter(it["Properties"]) for it in found)


def line(unit: str, **fields: Any) -> str:
    """A line of the log."""
    common = {name: REQUEST[name] for name in ("time", "server", "instance")}
    return json.dumps(common | {"unit": unit} | fields)


def request(status: int, **fields: Any) -> str:
    """The line of a request, as the page has it."""
    return json.dumps(REQUEST | {"status": status, "total_ms": 12} | fields)


def made_of(text: str) -> dict[str, Datum]:
    """What all filters make of a line, by the metrics' names."""
    return {datum.name: datum for it in filters() if (datum := it.datum(text)) is not None}


def values(text: str) -> Mapping[str, float]:
    return {name: datum.value for name, datum in made_of(text).items()}


def test_the_documented_request_is_a_request() -> None:
    assert values(json.dumps(REQUEST)) == {"Requests": 1, "Latency": REQUEST["total_ms"]}


@pytest.mark.parametrize("status", [200, 201, 304, 400, 404, 409, 422])
def test_a_request_is_counted_with_its_latency(status: int) -> None:
    assert values(request(status)) == {"Requests": 1, "Latency": 12}


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_an_error_of_the_server_is_a_request_and_an_error(status: int) -> None:
    assert values(request(status)) == {"Requests": 1, "Latency": 12, "Errors": 1}


@pytest.mark.parametrize("status", [401, 403, 429, 507])
def test_a_refusal_is_counted_by_its_status_and_is_no_error(status: int) -> None:
    made = made_of(request(status, user="-"))
    assert made.keys() == {"Requests", "Latency", "Refusals"}
    assert made["Refusals"].dimensions == (("Server", SERVER), ("Status", str(status)))


@pytest.mark.parametrize(("status", "auth"), [(401, "wrong"), (403, "forbidden")])
def test_a_refusal_of_a_user_that_is_known_is_counted_by_user_too(status: int, auth: str) -> None:
    made = made_of(request(status, user="search", auth=auth))
    assert made.keys() == {"Requests", "Latency", "Refusals", "RefusalsByUser"}
    assert made["RefusalsByUser"].dimensions == (
        ("Server", SERVER),
        ("Status", str(status)),
        ("User", "search"),
    )


@pytest.mark.parametrize("status", [200, 404, 429, 500, 507])
def test_no_other_request_of_a_user_is_counted_by_user(status: int) -> None:
    assert "RefusalsByUser" not in made_of(request(status, user="search"))


def test_a_connection_that_ended_without_a_request_is_none() -> None:
    assert values(request(-1, total_ms=0)) == {}
    assert values(request(0, total_ms=-1)) == {}


def test_a_request_of_unknown_length_has_no_latency() -> None:
    assert values(request(200, total_ms=-1)) == {"Requests": 1}


STATUS = {
    "event": "status",
    "answers": 1,
    "memory_percent": 41.5,
    "disk_percent": 12.3,
    "backup_hours": 3.2,
    "certificate_days": 61,
}


def test_the_status_is_the_documented_one() -> None:
    state = PAGE.split("**The state**")[1].split("**An event**")[0]
    assert all(f"`{name}`" in state for name in STATUS)


def test_the_status_of_each_minute_is_read_as_far_as_it_goes() -> None:
    assert values(line("chroma-status", **STATUS)) == {
        "Heartbeat": 1,
        "MemoryUtilization": 41.5,
        "BackupAge": 3.2,
        "CertificateDays": 61,
    }
    assert values(line("chroma-status", event="status", answers=0)) == {"Heartbeat": 0}


COUNTED = {
    "index_repaired": "IndexRepairs",
    "index_not_repaired": "IndexRepairs",
    "boot_failed": "BootFailures",
}


def test_of_the_documented_events_those_that_should_not_happen_are_counted() -> None:
    assert len(EVENTS) >= 5
    for event in EVENTS:
        made = values(line("chroma", event=event, message="what happened"))
        assert made == ({COUNTED[event]: 1} if event in COUNTED else {}), event
    assert COUNTED.keys() <= set(EVENTS)


@pytest.mark.parametrize(
    "text",
    [
        line("chroma", message="Started"),
        line("chroma", message='{"event": "boot_failed"}'),
        # A path that a client chose is no event.
        request(-1, path='/"event":"boot_failed"'),
        "not JSON",
    ],
)
def test_any_other_line_counts_for_nothing(text: str) -> None:
    assert made_of(text) == {}


def test_every_metric_is_of_the_server_that_wrote_the_line() -> None:
    lines = [
        request(500),
        request(401, user="search"),
        line("chroma-status", **STATUS),
        line("chroma", event="index_repaired"),
        line("boot", event="boot_failed"),
    ]
    made = [datum for text in lines for datum in made_of(text).values()]
    assert len({datum.name for datum in made}) == len(filters())
    assert {dict(datum.dimensions)["Server"] for datum in made} == {SERVER}
    assert {datum.namespace for datum in made} == {"Chroma"}
