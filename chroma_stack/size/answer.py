"""From what is asked to what is needed: memory, volume, instance types, costs, and when they end."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from chroma_stack.size import costs, model
from chroma_stack.size.costs import DEFAULT_IOPS, DEFAULT_THROUGHPUT, DEFAULT_VOLUME
from chroma_stack.size.instances import InstanceType, choices, next_larger
from chroma_stack.size.model import MIB, Collection, Disk

READING = 300
"""Seconds that reading all indexes after a restart may take before more throughput is worth its
price. Meanwhile queries wait."""

MOST_THROUGHPUT = DEFAULT_IOPS // 4
"""MiB a second that a volume may have without more IOPS:
https://docs.aws.amazon.com/ebs/latest/userguide/general-purpose.html#gp3-performance"""


@dataclass(frozen=True, kw_only=True)
class Growth:
    """By how much the number of vectors grows."""

    rate: float
    """In each period; 0.1 is 10 %."""

    period: str
    """``week``, ``month`` or ``year``."""

    def periods(self, factor: float) -> float:
        """After how many it has grown by a factor.

        :param factor: at least 1.
        """
        return math.log(factor) / math.log1p(self.rate)


@dataclass(frozen=True, kw_only=True)
class Question:
    """What a server is to hold."""

    collections: Sequence[Collection]
    """Its collections."""

    document_bytes: int = 0
    """Of a record."""

    metadata_bytes: int = 0
    """Of a record."""

    threshold: int = model.SYNC_THRESHOLD
    """The collections' ``sync_threshold``."""

    @property
    def vectors(self) -> int:
        """Of all collections together."""
        return sum(it.vectors for it in self.collections)

    def times(self, factor: float) -> Question:
        """The same with so many times the vectors.

        :param factor: of each collection.
        """
        grown = [replace(it, vectors=round(it.vectors * factor)) for it in self.collections]
        return replace(self, collections=grown)

    def settled(self) -> int:
        """Bytes of memory after a restart, when every collection was queried; at most, since an index
        may be almost a ``sync_threshold`` behind."""
        return model.settled(self.collections, behind=self.threshold)

    def writing(self) -> int:
        """Bytes of memory while records are added."""
        return model.writing(
            self.collections,
            document_bytes=self.document_bytes,
            metadata_bytes=self.metadata_bytes,
            threshold=self.threshold,
        )

    def disk(self) -> Disk:
        """What it takes on the volume."""
        return model.disk(
            self.collections,
            document_bytes=self.document_bytes,
            metadata_bytes=self.metadata_bytes,
        )


@dataclass(frozen=True, kw_only=True)
class Volume:
    """The data volume to deploy."""

    gib: int
    """Its size."""

    largest: int | None
    """GiB up to which it grows by itself; ``None`` for no growth."""

    throughput: int
    """MiB a second."""

    reading: float
    """Seconds that reading all indexes takes at its throughput."""

    def settings(self) -> dict[str, str]:
        """The context keys and values that make it."""
        made = {"volumeSize": str(self.gib)}
        if self.largest is not None:
            made["maxVolumeSize"] = str(self.largest)
        if self.throughput > DEFAULT_THROUGHPUT:
            made["volumeThroughput"] = str(self.throughput)
        return made


def volume(question: Question, *, up_to: Question | None = None) -> Volume:
    """The volume that holds it; never smaller than the default one.

    :param question: what it holds.
    :param up_to: what it holds after it has grown by itself.
    """
    disk = question.disk()
    wanted = math.ceil(disk.index / MIB / READING / 125) * 125
    throughput = max(DEFAULT_THROUGHPUT, min(MOST_THROUGHPUT, wanted))
    gib = max(DEFAULT_VOLUME, disk.gib())
    return Volume(
        gib=gib,
        largest=None if up_to is None else min(model.LARGEST_VOLUME, max(gib, up_to.disk().gib())),
        throughput=throughput,
        reading=disk.index / MIB / throughput,
    )


@dataclass(frozen=True, kw_only=True)
class End:
    """When growth reaches the end of an instance's memory."""

    periods: float
    """Of the growth."""

    question: Question
    """What it holds then."""

    then: InstanceType | None
    """The next type; ``None`` when there is no larger one of its architecture."""


def end(
    question: Question, growth: Growth, instance: InstanceType, types: Sequence[InstanceType]
) -> End:
    """When an instance type becomes too small.

    :param question: what there is now, for which it has enough memory.
    :param growth: how it grows.
    :param instance: the type.
    :param types: those to choose the next one from.
    """
    low, high = 1.0, 2.0
    while question.times(high).writing() <= instance.available:
        low, high = high, high * 2
    for _ in range(30):
        middle = (low + high) / 2
        if question.times(middle).writing() <= instance.available:
            low = middle
        else:
            high = middle
    return End(
        periods=growth.periods(low),
        question=question.times(low),
        then=next_larger(types, instance),
    )


@dataclass(frozen=True, kw_only=True)
class Offer:
    """An instance type that has enough memory, and what goes with it."""

    instance: InstanceType
    """The type."""

    volume: Volume
    """Its data volume."""

    end: End | None
    """When it becomes too small; ``None`` without growth."""

    gib_month: float
    """Dollars a month for a GiB of a volume."""

    used: float
    """GiB of the volume that have data all the time."""

    def settings(self) -> dict[str, str]:
        """The context keys and values to deploy."""
        return {"instanceType": self.instance.name, **self.volume.settings()}

    def deploy(self) -> str:
        """The command that deploys it."""
        return " ".join(["npx cdk deploy", *(f"-c {k}={v}" for k, v in self.settings().items())])

    def rows(self) -> list[costs.Row]:
        """What it costs a month with everything that the stack makes."""
        return costs.server(
            self.instance.name,
            hourly=None if self.instance.date else self.instance.price,
            volume=self.volume.gib,
            gib_month=self.gib_month,
            throughput=self.volume.throughput,
            used=self.used,
        )


def offers(
    question: Question, types: Sequence[InstanceType], gib_month: float, growth: Growth | None
) -> list[Offer]:
    """What has enough memory and a volume that is large enough; cheapest first.

    :param question: what it is to hold.
    :param types: those to choose from, with their prices.
    :param gib_month: dollars a month for a GiB of a volume.
    :param growth: how it grows; ``None`` when it does not.
    """
    if volume(question).gib > model.LARGEST_VOLUME:
        return []
    found, used = [], question.disk().kept() / model.GIB
    for instance in choices(types, question.writing()):
        last = None if growth is None else end(question, growth, instance, types)
        made = volume(question, up_to=None if last is None else last.question)
        found.append(
            Offer(instance=instance, volume=made, end=last, gib_month=gib_month, used=used)
        )
    return found
