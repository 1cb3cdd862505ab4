"""How far a copy is: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator

from tqdm import tqdm  # type: ignore[import-untyped]

from chroma_stack.copy.model import Collection

INTERVAL = 30
"""Seconds between two lines of the same collection."""


class Progress:
    """Shows records as they are done, on standard error."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._bar: tqdm | None = None
        self._collection: Collection | None = None
        self._done = ""
        self._said = 0.0

    @contextlib.contextmanager
    def shown(self, done: str) -> Iterator[None]:
        """While something is done.

        :param done: what becomes of records meanwhile: ``copied``, for example.
        """
        self._done, self._collection = done, None
        try:
            yield
        finally:
            self._close()

    def __call__(self, collection: Collection, records: int, expected: int | None) -> None:
        """So many records of a collection are done, out of so many if that is known."""
        if self._terminal:
            if self._bar is None or collection is not self._collection:
                self._close()
                self._bar = tqdm(desc=collection.path, total=expected, unit=" records")
            self._bar.update(records - self._bar.n)
        elif (
            collection is not self._collection
            or records == expected
            or time.monotonic() - self._said > INTERVAL
        ):
            of = "" if expected is None else f" of {expected:,}"
            print(f"{collection.path}: {records:,}{of} records {self._done}", file=sys.stderr)
            self._said = time.monotonic()
        self._collection = collection

    def write(self, line: str) -> None:
        """A line that stays, above the bar."""
        tqdm.write(line, file=sys.stderr)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
