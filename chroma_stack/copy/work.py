"""The copy itself: pages of records from the source to the target, several at once."""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from chroma_stack.copy.errors import CopyError
from chroma_stack.copy.model import (
    Collection,
    Page,
    Source,
    Target,
    is_cosine,
    record_difference,
)


@dataclass
class Report:
    """What became of a collection.

    :param records: how many the source gave.
    :param copied: how many of them were written; the others were in the target.
    :param differences: how many a comparison found; ``None`` without one.
    """

    tenant: str
    database: str
    name: str
    records: int = 0
    copied: int = 0
    differences: int | None = None


@dataclass(frozen=True)
class Options:
    """How to copy.

    :param batch: most records in a request.
    :param jobs: how many batches are on their way at once.
    :param resume: believe that the target's records with the same ids are the same.
    :param tenant: put everything there instead.
    :param database: likewise.
    """

    batch: int
    jobs: int = 4
    resume: bool = False
    tenant: str = ""
    database: str = ""

    def destination(self, collection: Collection) -> Collection:
        """The collection as the target is to have it."""
        return dataclasses.replace(
            collection,
            tenant=self.tenant or collection.tenant,
            database=self.database or collection.database,
        )


Progress = Callable[[Collection, int, int | None], None]
"""Called with a collection, how many of its records are done, and how many there are if known."""


@contextlib.contextmanager
def workers(jobs: int, stop: threading.Event) -> Iterator[concurrent.futures.ThreadPoolExecutor]:
    """Threads, for which nobody waits when something else fails.

    :param stop: set then.
    """
    pool = concurrent.futures.ThreadPoolExecutor(jobs)
    try:
        yield pool
    except BaseException:
        stop.set()
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()


def copy(
    source: Source,
    target: Target,
    options: Options,
    progress: Progress,
    stop: threading.Event,
) -> list[Report]:
    """Copy all collections that were chosen.

    :param stop: set when the copy ends early, for requests that wait to be sent again.
    :raises CopyError: when something cannot be copied; what was written stays.
    """
    collections = source.collections()
    for collection in collections:
        target.check(options.destination(collection))
    with workers(options.jobs, stop) as pool:
        reports = [
            _copy_collection(source, target, collection, options, progress, pool)
            for collection in collections
        ]
    source.finish()
    target.complete()
    return reports


def _copy_collection(
    source: Source,
    target: Target,
    collection: Collection,
    options: Options,
    progress: Progress,
    pool: concurrent.futures.ThreadPoolExecutor,
) -> Report:
    there, existing = target.prepare(options.destination(collection))
    report = Report(there.tenant, there.database, there.name)
    expected = source.count(collection)
    cosine = is_cosine(collection)

    def transfer(page: Page) -> tuple[int, int]:
        ids: Sequence[str] = page.ids
        if existing and options.resume:
            have = target.present(there, ids)
            ids = [it for it in ids if it not in have]
        records = page.read(ids) if ids else {}
        if existing and not options.resume:
            for id, record in target.records(there, ids).items():
                if id in records and (part := record_difference(records.pop(id), record, cosine)):
                    raise CopyError(
                        f"{there.path} in the target has a record {id!r} whose {part} differs. "
                        "With --resume, what the target has stays; or delete the collection there."
                    )
        if records:
            target.write(there, records.values())
        return len(page.ids), len(records)

    progress(collection, 0, expected)
    waiting: deque[concurrent.futures.Future[tuple[int, int]]] = deque()

    def settle(most: int) -> None:
        while len(waiting) > most:
            records, copied = waiting.popleft().result()
            report.records += records
            report.copied += copied
            progress(collection, report.records, expected)

    for page in source.pages(collection, options.batch):
        waiting.append(pool.submit(transfer, page))
        settle(options.jobs)
    settle(0)
    return report
