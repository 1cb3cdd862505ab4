"""Instance types, and which of them have enough memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from chroma_stack.size.costs import HOURS, INSTANCES_DATE, LIST
from chroma_stack.size.model import available

BASELINES = str(LIST["instances"]["burstable"])
"""Where AWS says what part of a vCPU a burstable type has all the time."""


@dataclass(frozen=True, kw_only=True)
class InstanceType:
    """A type of the table in ``prices.json``."""

    name: str
    """Such as ``t3.small``."""

    vcpu: int
    """How many it has."""

    gib: int
    """Its memory, as EC2 names it."""

    architecture: str
    """``x86-64``, or ``arm64`` for Graviton."""

    baseline: float | None = None
    """The part of each vCPU that it has all the time; ``None`` for all of it."""

    price: float
    """Dollars an hour."""

    date: str | None = INSTANCES_DATE
    """Of which day that is; ``None`` for now."""

    @property
    def available(self) -> float:
        """Bytes that Chroma may have on it before writes are refused."""
        return available(self.gib)

    @property
    def month(self) -> float:
        """Dollars a month."""
        return self.price * HOURS

    def surplus(self) -> float:
        """Dollars a month more when it computes all the time, which `unlimited` allows."""
        if self.baseline is None:
            return 0
        vcpu_hour = float(LIST["prices"][f"surplus vCPU, {self.architecture}"]["price"])
        return vcpu_hour * HOURS * self.vcpu * (1 - self.baseline)


TYPES: tuple[InstanceType, ...] = tuple(
    InstanceType(name=name, **it) for name, it in LIST["instances"]["types"].items()
)
"""All that the list has."""


def at_prices(prices: Mapping[str, float]) -> list[InstanceType]:
    """The types that are offered, at the prices of now, not those of the list.

    :param prices: dollars an hour by the type's name.
    """
    return [replace(it, price=prices[it.name], date=None) for it in TYPES if it.name in prices]


def choices(types: Iterable[InstanceType], needed: float) -> list[InstanceType]:
    """The cheapest type of each kind that has so much memory for Chroma; cheapest first.

    The kinds are x86-64 and Graviton, burstable and not. A burstable type that costs no less than the
    other of its architecture is left out.

    :param types: those to choose from.
    :param needed: bytes.
    """
    best: dict[tuple[str, bool], InstanceType] = {}
    for it in sorted(types, key=lambda it: (it.price, it.gib)):
        if it.available >= needed:
            best.setdefault((it.architecture, it.baseline is None), it)
    return sorted(
        (
            it
            for (architecture, fixed), it in best.items()
            if fixed or best.get((architecture, True), it).price >= it.price
        ),
        key=lambda it: it.price,
    )


def next_larger(types: Iterable[InstanceType], than: InstanceType) -> InstanceType | None:
    """The cheapest type of the same architecture with more memory.

    :param types: those to choose from.
    :param than: this one; ``None`` when it is the largest.
    """
    larger = [
        it for it in types if it.architecture == than.architecture and it.available > than.available
    ]
    return min(larger, key=lambda it: (it.price, it.gib), default=None)


def worth_it(types: Iterable[InstanceType]) -> list[InstanceType]:
    """Those for which there is no cheaper one with as much memory and the same architecture.

    :param types: those to choose from.
    """
    types = list(types)
    return [
        it
        for it in types
        if not any(
            (other.price, other.name) < (it.price, it.name)
            for other in types
            if other.architecture == it.architecture and other.gib >= it.gib
        )
    ]
