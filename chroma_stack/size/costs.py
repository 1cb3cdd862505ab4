"""What a server costs a month: the dated list, ``chroma_stack/prices.json``, times what it uses.

Amounts are in dollars, without taxes.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

_PACKAGE = Path(__file__).parents[1]
LIST: dict[str, Any] = json.loads((_PACKAGE / "prices.json").read_text())
"""The price list."""

HOURS = 730
"""In a month, as AWS counts."""

ROOT_VOLUME = 8
"""GiB of the root volume that the AMI brings."""

DEFAULT_VOLUME, DEFAULT_IOPS, DEFAULT_THROUGHPUT = 24, 3000, 125
"""GiB of the data volume by default, and the operations and MiB a second that a gp3 volume of any
size has for nothing, as in ``chroma_stack.storage``, which would need the CDK."""

SERIES = 18
"""Series of metrics that a server with ``monitoring`` may send, one for each status of a refusal, as
``chroma_stack.monitoring`` has them."""


class Row(NamedTuple):
    """What is paid for."""

    what: str
    """In words, with names as in Markdown."""
    price: str
    """Of a unit, in words."""
    source: str
    """Where AWS says so."""
    month: float | None
    """Dollars; ``None``: by use."""


INSTANCES_DATE = str(LIST["instances"]["date"])
"""Of which day the prices of instances are; the others are of ``LIST["date"]``."""


def price(name: str) -> float:
    """Dollars a unit, in the region of the list.

    :param name: of what, as in the list; an instance type is one.
    :raises KeyError: when it is not in the list.
    """
    types = LIST["instances"]["types"]
    return float((types if name in types else LIST["prices"])[name]["price"])


def source(name: str) -> str:
    """Where AWS says that price.

    :param name: of what, as in the list.
    """
    prices = LIST["prices"]
    return str(prices[name]["source"] if name in prices else LIST["instances"]["source"])


def beyond_free(name: str, count: float) -> float:
    """Dollars for so many, of which an account has some for nothing.

    :param name: of what.
    :param count: how many.
    """
    return price(name) * max(0.0, count - float(LIST["prices"][name].get("free", 0)))


def free(name: str) -> int:
    """How many an account has for nothing in a month.

    :param name: of what.
    """
    return int(LIST["prices"][name]["free"])


def server(
    instance_type: str,
    *,
    hourly: float | None = None,
    volume: int,
    gib_month: float | None = None,
    iops: int = DEFAULT_IOPS,
    throughput: int = DEFAULT_THROUGHPUT,
    series: int = SERIES,
    used: float | None = None,
) -> list[Row]:
    """What a server with the default settings costs, but for its size.

    :param instance_type: its type.
    :param hourly: dollars an hour for it, where they are not those of the list.
    :param volume: GiB of the data volume.
    :param gib_month: dollars for a GiB of it, where they are not those of the list.
    :param iops: of the data volume.
    :param throughput: of the data volume, in MiB a second.
    :param series: of metrics that it may send; none without ``monitoring``.
    :param used: GiB of the data volume that have data; the snapshots keep at least one copy of them.
        ``None`` when it is not known.
    """
    hour = f"${price(instance_type) if hourly is None else hourly:g} an hour"
    if hourly is None:
        hour += f" on {INSTANCES_DATE}"
        hourly = price(instance_type)
    gib_month = price("gp3") if gib_month is None else gib_month
    reads = HOURS * 3600 / _seconds_between_reads()
    rows = [
        Row(
            f"instance, `{instance_type}`",
            hour,
            source(instance_type),
            hourly * HOURS,
        ),
        Row(
            f"data volume, {volume:,} GiB gp3",
            f"${gib_month:.2f} per GiB-month",
            source("gp3"),
            gib_month * volume,
        ),
    ]
    if iops > DEFAULT_IOPS:
        each = f"${price('gp3 operations')} each over {DEFAULT_IOPS:,}"
        month = price("gp3 operations") * (iops - DEFAULT_IOPS)
        rows.append(Row(f"its {iops:,} IOPS", each, source("gp3 operations"), month))
    if throughput > DEFAULT_THROUGHPUT:
        each = f"${price('gp3 throughput'):.2f} each over {DEFAULT_THROUGHPUT}"
        month = price("gp3 throughput") * (throughput - DEFAULT_THROUGHPUT)
        rows.append(Row(f"its {throughput} MiB a second", each, source("gp3 throughput"), month))
    return [
        *rows,
        Row(
            f"root volume, {ROOT_VOLUME} GiB gp3 (the AMI's size)",
            f"${gib_month:.2f} per GiB-month",
            source("gp3"),
            gib_month * ROOT_VOLUME,
        ),
        Row(
            "public IPv4 address",
            f"${price('IPv4 address')} an hour",
            source("IPv4 address"),
            price("IPv4 address") * HOURS,
        ),
        Row("the secret", f"${price('secret'):.2f}", source("secret"), price("secret")),
        Row(
            f"{reads:,.0f} reads of it",
            f"${price('secret reads'):.2f} per 10,000",
            source("secret reads"),
            price("secret reads") * reads / 10_000,
        ),
        Row(
            f"up to {series} metrics, of which an account has {free('metric')} free",
            f"${price('metric'):.2f} each",
            source("metric"),
            beyond_free("metric", series),
        ),
        Row(
            f"logs, of which an account has {free('log ingestion')} GB free",
            f"${price('log ingestion'):.2f} per GB, ${price('log storage'):.2f} to keep one for a month",
            source("log ingestion"),
            None,
        ),
        *_snapshots(used),
    ]


def _snapshots(used: float | None) -> list[Row]:
    each, where = f"${price('snapshot'):.2f} per GiB-month", source("snapshot")
    if used is None:
        return [Row("snapshots: one of all data, and of what has changed since", each, where, None)]
    full = f"snapshots, at least one of all data, {used:,.1f} GiB"
    return [
        Row(full, each, where, price("snapshot") * used),
        Row("snapshots of what has changed since", each, where, None),
    ]


def total(rows: list[Row]) -> float:
    """Dollars of them all, without what depends on use.

    :param rows: what is paid for.
    """
    return sum(it.month or 0 for it in rows)


def _seconds_between_reads() -> int:
    timer = (_PACKAGE / "host" / "chroma-credential.timer").read_text()
    return int(re.findall(r"(?m)^OnUnitInactiveSec=(\d+)s$", timer)[0])
