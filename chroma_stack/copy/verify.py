"""Whether a target has what a source has, record by record."""

from __future__ import annotations

import concurrent.futures
import threading
from collections import deque
from collections.abc import Callable, Iterator

from chroma_stack.copy.files import StreamSource
from chroma_stack.copy.model import (
    Collection,
    Page,
    Readable,
    describe_difference,
    is_cosine,
    record_difference,
)
from chroma_stack.copy.work import Options, Progress, Report, workers

SHOWN = 10
"""Differences of a collection that are shown; all are counted."""


def verify(
    source: Readable | StreamSource,
    target: Readable,
    options: Options,
    progress: Progress,
    show: Callable[[str], None],
    stop: threading.Event,
) -> list[Report]:
    """Compare all collections of a source with those of the target.

    :param show: called with each of the first :data:`SHOWN` differences of a collection.
    :param stop: set when the comparison ends early.
    """
    reports = []
    with workers(options.jobs, stop) as pool:
        for collection in source.collections():
            comparison = _Comparison(source, target, collection, options, pool)
            reports.append(comparison.run(progress, show))
    source.finish()
    return reports


class _Comparison:
    """Of one collection."""

    def __init__(
        self,
        source: Readable | StreamSource,
        target: Readable,
        collection: Collection,
        options: Options,
        pool: concurrent.futures.ThreadPoolExecutor,
    ) -> None:
        self._source, self._target = source, target
        self._ours, self._options, self._pool = collection, options, pool
        self._wanted = options.destination(collection)
        self._cosine = is_cosine(collection)

    def run(self, progress: Progress, show: Callable[[str], None]) -> Report:
        report = Report(
            self._wanted.tenant, self._wanted.database, self._wanted.name, differences=0
        )

        def note(difference: str) -> None:
            report.differences = (report.differences or 0) + 1
            if report.differences <= SHOWN:
                show(f"{self._wanted.path}: {difference}")

        theirs = self._target.find(self._wanted)
        if theirs is None:
            note("it is not in the target")
            for page in self._source.pages(self._ours, self._options.batch):
                report.records += len(page.ids)
            return report
        if difference := describe_difference(self._ours, theirs):
            note(f"the source and the target differ in {difference}")
        expected = self._source.count(self._ours)
        progress(self._ours, 0, expected)
        both = 0
        for ids, found, differences in self._compare_all(theirs):
            report.records += ids
            both += found
            for difference in differences:
                note(difference)
            progress(self._ours, report.records, expected)
        for difference in self._extra(theirs, both):
            note(difference)
        return report

    def _compare_all(self, theirs: Collection) -> Iterator[tuple[int, int, list[str]]]:
        """For each page how many ids it has, how many of them both have, and what differs."""
        waiting: deque[concurrent.futures.Future[tuple[int, int, list[str]]]] = deque()

        def compare(page: Page) -> tuple[int, int, list[str]]:
            ours = page.read(page.ids)
            others = self._target.records(theirs, list(ours))
            differences = []
            for id, record in ours.items():
                if id not in others:
                    differences.append(f"the record {id!r} is not in the target")
                elif part := record_difference(record, others[id], self._cosine):
                    differences.append(f"the record {id!r} has another {part} in the target")
            return len(ours), len(others), differences

        for page in self._source.pages(self._ours, self._options.batch):
            waiting.append(self._pool.submit(compare, page))
            if len(waiting) > self._options.jobs:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    def _extra(self, theirs: Collection, both: int) -> Iterator[str]:
        """What only the target has."""
        count = self._target.count(theirs) or 0
        if count == both:
            return
        source = self._source
        if isinstance(source, StreamSource):
            # It was read, and is gone.
            yield f"the target has {count - both} records that the source does not have"
            return
        for page in self._target.pages(theirs, self._options.batch):
            have = source.present(self._ours, page.ids)
            for id in page.ids:
                if id not in have:
                    yield f"the record {id!r} is only in the target"
