"""The metric filters of the template find the lines of the log that they are for, and no other.

How a pattern finds a line is not CloudWatch's own doing here, but that of `tests/filter_patterns.py`.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from typing import Any

import pytest

from tests.filter_patterns import Datum, MetricFilter
from tests.unit.synthesis import template

SERVER = "Stack/c8d5"


@functools.cache
def filters() -> tuple[MetricFilter, ...]:
    found = template().find_resources("AWS::Logs::MetricFilter").values()
    return tuple(MetricFilter(it["Properties"]) for it in found)


def line(unit: str, **fields: Any) -> str:
    """A line of the log."""
    common = {
        "time": "2026-11-29T05:00:00Z",
        "server": SERVER,
        "instance": "i-0123456789abcdef0",
        "unit": unit,
    }
    return json.dumps(common | fields)


def request(status: int, **fields: Any) -> str:
    """The line of a request."""
    return line(
        "chroma-proxy",
        **{
            "client": "203.0.113.9:51234",
            "user": "-",
            "method": "POST",
            "route": "/api/v2/tenants/{tenant}/databases/{database}/collections/{collection}/query",
            "path": "/api/v2/tenants/t/databases/d/collections/5b1c/query",
            "status": status,
            "auth": "token",
            "tls": "TLSv1.3",
            "bytes_in": 512,
            "bytes_out": 2048,
            "server_ms": 11,
            "total_ms": 12,
            "end": "--",
            "unlogged": 0,
        }
        | fields,
    )


def made_of(text: str) -> dict[str, Datum]:
    """What all filters make of a line, by the metrics' names."""
    return {datum.name: datum for it in filters() if (datum := it.datum(text)) is not None}


def values(text: str) -> Mapping[str, float]:
    return {name: datum.value for name, datum in made_of(text).items()}


@pytest.mark.parametrize("status", [200, 201, 304, 400, 404, 409, 422])
def test_a_request_is_counted_with_its_latency(status: int) -> None:
    assert values(request(status)) == {"Requests": 1, "Latency": 12}


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_an_error_of_the_server_is_a_request_and_an_error(status: int) -> None:
    assert values(request(status)) == {"Requests": 1, "Latency": 12, "Errors": 1}


@pytest.mark.parametrize("status", [401, 403, 429, 507])
def test_a_refusal_is_counted_by_its_status_and_is_no_error(status: int) -> None:
    made = made_of(request(status))
    assert made.keys() == {"Requests", "Latency", "Refusals"}
    assert made["Refusals"].dimensions == (("Server", SERVER), ("Status", str(status)))


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


def test_the_status_of_each_minute_is_read_as_far_as_it_goes() -> None:
    assert values(line("chroma-status", **STATUS)) == {
        "Heartbeat": 1,
        "MemoryUtilization": 41.5,
        "BackupAge": 3.2,
        "CertificateDays": 61,
    }
    assert values(line("chroma-status", event="status", answers=0)) == {"Heartbeat": 0}


@pytest.mark.parametrize(
    ("event", "metric"), [("index_repaired", "IndexRepairs"), ("boot_failed", "BootFailures")]
)
def test_what_should_not_happen_is_counted(event: str, metric: str) -> None:
    assert values(line("chroma", event=event, message="what happened")) == {metric: 1}


@pytest.mark.parametrize(
    "text",
    [
        line("chroma", message="Started"),
        line("boot", event="boot_done", message="serves"),
        line("chroma-grow", event="volume_grown", message="from 24 to 34 GiB"),
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
        request(401),
        line("chroma-status", **STATUS),
        line("chroma", event="index_repaired"),
        line("boot", event="boot_failed"),
    ]
    made = [datum for text in lines for datum in made_of(text).values()]
    assert len({datum.name for datum in made}) == len(filters())
    assert {dict(datum.dimensions)["Server"] for datum in made} == {SERVER}
    assert {datum.namespace for datum in made} == {"Chroma"}
