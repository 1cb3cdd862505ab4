"""How much memory and disk records take in Chroma 1.5.9, and how much of an instance it may have.

The sizes are those of the structures that Chroma and its index keep, as their sources say; what is
measured is named so. ``python -m tests.bench.size`` compares the sum with the real server.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

MIB, GIB = 1 << 20, 1 << 30

RELEASE = "1.5.9"
"""The release of Chroma that was measured."""

EMPTY = 60 * MIB
"""Anonymous memory of a server without collections, measured."""

NEIGHBOURS = 16
"""Chroma's default ``max_neighbors``. https://docs.trychroma.com/docs/collections/configure"""

LOCKS = 65536 * 40
"""Bytes of the locks that each loaded index has, however small it is: ``label_op_locks_``, 65,536
mutexes of 40 bytes.
https://github.com/chroma-core/hnswlib/blob/6868102bde454dc761136e1994490133a6a026bb/hnswlib/hnswalg.h"""

PER_PLACE = 40 + 4 + 2 + 8
"""Bytes for each place of the index, used or not: a mutex, the level, the mark of a search, and the
share in the table that finds a vector by its label (the same file)."""

PER_VECTOR = 4 + 8 + 32
"""Bytes for each vector beside its levels: its length, a pointer to its links on higher levels, and
its node in the table of labels (the same file)."""

PER_BUCKET = 2 * 33
"""Bytes for each bucket of the two maps between an id and its label (``IdMap`` in
https://github.com/chroma-core/chroma/blob/1.5.9/rust/segment/src/local_hnsw.rs): a string of 24
bytes, a number, and a byte of the map itself. An eighth of the buckets stays free, and there are
always a power of two of them: https://docs.rs/hashbrown"""

WRITING = 12 * MIB
"""What a writer adds, and the allocator does not give back, beside what its requests bring. This and
the next three were measured with one writer on two processors, for 128 to 3,072 dimensions and
documents of up to 4,000 bytes."""

TIMES_OF_TEXT = 14
"""How many times their bytes the documents and metadata of a request add."""

TIMES_OF_BASE64, TIMES_OF_NUMBERS = 14, 52
"""The same for its vectors, of 4 bytes a dimension: in base64, as Chroma's Python client sends them
since 1.0.13, and as numbers in JSON, as others do. Of numbers it is a little more than the most that
was seen: with all digits of a float32, which are about 20 characters, and each request on a new
connection it was 26 to 50 times, and differed from run to run."""

REPLAYED = 1.25
"""How many times its bytes what is not in an index yet takes, beside the index: Chroma reads it from
its log when the index is first used, and the allocator keeps the memory. Measured with 20,000
records of 384 dimensions."""

BATCH = 1000
"""Records in a request, if nothing else is known."""

SYNC_THRESHOLD = 1000
"""Operations after which Chroma writes an index, unless a collection has its own number."""

ID_BYTES = 36
"""A UUID, which many clients make their ids of."""

CHROMAS_RULE = 0.245
"""Millions of vectors of 1,024 dimensions for each GiB, after one for the rest of the system:
https://docs.trychroma.com/guides/deploy/performance"""


@dataclass(frozen=True, kw_only=True)
class Collection:
    """What is known of a collection."""

    vectors: int
    """How many it has."""

    dimensions: int
    """Of each vector; a dimension is a float of 4 bytes."""

    id_bytes: int = ID_BYTES
    """Length of a record's id."""

    neighbours: int = NEIGHBOURS
    """Links of a vector on each level of the index above the lowest, which has twice as many."""

    def index(self) -> int:
        """Bytes of memory of its index, when it is loaded.

        Chroma gives it places for the next power of two of vectors, but those that nothing was
        written to take no memory except for :data:`PER_PLACE`. An id is in two maps, and reading it
        from the index's file leaves as much again with the allocator, as was measured with UUIDs.
        """
        if not self.vectors:
            return 0
        strings = 4 * max(32, _allocated(self.id_bytes))
        return round(
            LOCKS
            + self.vectors * (self.element() + self._higher_levels() + PER_VECTOR + strings)
            + _power_of_two(self.vectors) * PER_PLACE
            + _power_of_two(math.ceil(self.vectors * 8 / 7)) * PER_BUCKET
        )

    def element(self) -> int:
        """Bytes of a vector on the lowest level, in memory and in ``data_level0.bin``: the vector,
        twice :attr:`neighbours` links of 4 bytes, their number, and the label."""
        return 4 * self.dimensions + 4 * 2 * self.neighbours + 4 + 8

    def _higher_levels(self) -> float:
        """Bytes of a vector's links on higher levels: of 16 neighbours, one vector in 16 has a
        second level and one in 256 a third."""
        return _allocated(4 * self.neighbours + 4) / max(1, self.neighbours - 1)


def _allocated(size: int) -> int:
    """Bytes that the allocator takes for so many: 8 of its own, in steps of 16."""
    return (size + 8 + 15) // 16 * 16


def _power_of_two(number: int) -> int:
    return 1 << max(0, number - 1).bit_length()


def divided(vectors: int, dimensions: int, collections: int) -> list[Collection]:
    """So many vectors in collections of the same size.

    :param vectors: of all collections together.
    :param dimensions: of each vector.
    :param collections: how many.
    """
    each, rest = divmod(vectors, collections)
    return [
        Collection(vectors=each + (number < rest), dimensions=dimensions)
        for number in range(collections)
    ]


def settled(collections: Sequence[Collection], *, behind: int = 0) -> int:
    """Bytes of memory of Chroma after a start, when all of these have been queried.

    :param collections: what it holds.
    :param behind: how many records of the largest collection are not in its index yet, which are
        fewer than its ``sync_threshold``.
    """
    log = max((4 * it.dimensions * min(it.vectors, behind) for it in collections), default=0)
    return round(EMPTY + sum(it.index() for it in collections) + REPLAYED * log)


def writing(
    collections: Sequence[Collection],
    *,
    document_bytes: int = 0,
    metadata_bytes: int = 0,
    threshold: int = SYNC_THRESHOLD,
    batch: int = BATCH,
    base64: bool = False,
) -> int:
    """Bytes of memory of Chroma while records are added, and until it is restarted.

    :param collections: what it holds when all are added.
    :param document_bytes: of a record.
    :param metadata_bytes: of a record.
    :param threshold: the collections' ``sync_threshold``.
    :param batch: records in a request.
    :param base64: whether vectors are sent in base64, and not as numbers.
    """
    vector = 4 * max((it.dimensions for it in collections), default=0)
    request = vector * (TIMES_OF_BASE64 if base64 else TIMES_OF_NUMBERS)
    request += (document_bytes + metadata_bytes) * TIMES_OF_TEXT
    return settled(collections, behind=threshold) + WRITING + batch * request


VISIBLE = 1 - 0.075
"""The part of an instance's memory that its kernel has to give; the rest is the hypervisor's, the
firmware's and the kernel's own. Karpenter's default, which is on the safe side for large types:
``vmMemoryOverheadPercent`` in https://karpenter.sh/docs/reference/settings/"""

RESERVE, RESERVE_PART = 512 * MIB, 16
"""What ``host/memory`` keeps for the host: so much, or this part of the memory if that is more."""

MONITORING = 192 * MIB
"""What it keeps for the CloudWatch agent, with ``monitoring``."""

MARGIN, MARGIN_PART = 256 * MIB, 10
"""At what distance from the container's limit the proxy refuses writes: so much, or this part of
the limit if that is more."""


def available(gib: float, *, monitoring: bool = True) -> float:
    """Bytes that Chroma may have on an instance before writes are refused.

    :param gib: the memory of the instance's type.
    :param monitoring: whether the CloudWatch agent runs on it.
    """
    memory = gib * GIB * VISIBLE
    limit = memory - max(RESERVE, memory / RESERVE_PART) - monitoring * MONITORING
    return max(0, limit - max(MARGIN, limit / MARGIN_PART))


def gib_by_chromas_rule(collections: Sequence[Collection]) -> float:
    """GiB of memory by the rule of Chroma's makers, a dimension counted as in one of 1,024.

    :param collections: what the server holds.
    """
    floats = sum(it.vectors * it.dimensions for it in collections)
    return 1 + floats / 1024 / 1e6 / CHROMAS_RULE


LARGEST_VOLUME = 65536
"""GiB of the largest gp3 volume: https://docs.aws.amazon.com/ebs/latest/userguide/general-purpose.html"""

SPARE = 2 * GIB
"""Of the volume, for the copies of the image, damaged files that are kept for a week (1 GiB at most)
and the logs of boots."""

FREE = 0.15
"""The part of the volume that stays free: an alarm goes off, or the volume grows, at a tenth."""

LOGGED = 2 * 60 * 2500
"""Records that a writer may add before a checkpoint lets its log go, which is looked for once a
minute: so many a second were taken in (docs/operations.md#memory)."""


@dataclass(frozen=True, kw_only=True)
class Disk:
    """Bytes on the volume."""

    index: int
    """The files of the indexes, once."""

    database: int
    """``chroma.sqlite3`` without its log: ids, documents with their full-text index, metadata."""

    log: int
    """The most that Chroma's log, which is in the same file, takes between two checkpoints."""

    def used(self) -> int:
        """When it is full: the indexes, their checkpoints, and for moments the next ones."""
        return 3 * self.index + self.database + self.log + SPARE

    def kept(self) -> int:
        """What is on it all the time, and in each snapshot: the indexes, their checkpoints, and the
        database."""
        return 2 * self.index + self.database

    def gib(self) -> int:
        """GiB of a volume that holds it with a part :data:`FREE`."""
        return math.ceil(self.used() / (1 - FREE) / GIB)


def disk(
    collections: Sequence[Collection], *, document_bytes: int = 0, metadata_bytes: int = 0
) -> Disk:
    """What collections take on the volume.

    The files of an index are as large as its vectors, links and ids. What a record takes in
    ``chroma.sqlite3`` was measured with 2,000 to 10,000 of them. Documents take 7 to 11 times their
    bytes, since each is there twice and the full-text index has an entry for each group of three
    letters in it: of this project's own pages, pieces of 200 bytes took 1.6 KB, of 1,000 10.3 KB and
    of 4,000 26 KB, and random words as much. Metadata takes 5 times its bytes, and a row of the log
    1.6 times, since rows seldom fill their pages.

    :param collections: what they are.
    :param document_bytes: of a record.
    :param metadata_bytes: of a record.
    """
    vectors = sum(it.vectors for it in collections)
    index = sum(it.vectors * (it.element() + 12 + 2 * (it.id_bytes + 12)) for it in collections)
    text = min(11 * document_bytes, 5200 + 5.6 * document_bytes) if document_bytes else 0
    ids = sum(it.vectors * (100 + 4 * it.id_bytes) for it in collections)
    largest = max((4 * it.dimensions for it in collections), default=0)
    logged = min(vectors, LOGGED) * 1.6 * (largest + document_bytes + metadata_bytes + 200)
    return Disk(
        index=index,
        database=round(ids + vectors * (text + 5 * metadata_bytes)),
        log=round(index / 4 + logged),
    )
