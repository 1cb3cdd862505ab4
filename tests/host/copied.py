"""Compares what two Chroma servers hold, by real clients of their releases.

    python -m tests.host.copied 0.6.3@127.0.0.1:8000 1.5.9@127.0.0.1:8001

It shares nothing with `chroma_stack.copy`, which it checks.
"""

from __future__ import annotations

import argparse
import array
import json
import math
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.host.chroma_servers import python_with_chroma

CONTENTS = Path(__file__).parent / "contents.py"
TENANTS = ("default_tenant", "a tenänt, 2")
"""Those that every server of `fill` has."""
DATABASES = ("default_database", "second.database-2")
"""Those of these tenants."""
FIELDS = ("vector", "document", "metadata", "uri")


def fill(version: str, address: str, records: int) -> None:
    """Puts a bit of everything into a server, and so many records of 16 dimensions."""
    _run(version, address, do="fill", records=records)


def contents(
    version: str,
    address: str,
    tenants: Iterable[str] = TENANTS,
    databases: Iterable[str] = DATABASES,
) -> dict[str, Any]:
    """All that a server holds in these tenants. Databases are named for 0.5, which cannot list them."""
    where = {"tenants": [*tenants], "databases": [*databases]}
    return dict(json.loads(_run(version, address, do="read", **where)))


def _run(version: str, address: str, **job: object) -> str:
    host, port = address.split(":")
    done = subprocess.run(
        [python_with_chroma(version), CONTENTS],
        input=json.dumps({"host": host, "port": int(port), **job}),
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def differences(source: Mapping[str, Any], target: Mapping[str, Any]) -> list[str]:
    """What the second of two `contents` has otherwise than the first, in words."""
    return list(_differences(source, target, ()))


def _differences(source: Any, target: Any, path: tuple[str, ...]) -> Iterator[str]:
    if len(path) == 3:
        yield from _of_collection("/".join(path), source, target)
        return
    yield from _of_names("/".join(path) or "server", source, target)
    for name in source.keys() & target.keys():
        yield from _differences(source[name], target[name], (*path, name))


def _of_names(what: str, source: Mapping[str, Any], target: Mapping[str, Any]) -> Iterator[str]:
    for words, names in (
        ("is missing", source.keys() - target.keys()),
        ("is there too", target.keys() - source.keys()),
    ):
        for name in sorted(names):
            yield f"{what}: {name!r} {words}"


def _of_collection(
    name: str, source: Mapping[str, Any], target: Mapping[str, Any]
) -> Iterator[str]:
    if source["metadata"] != target["metadata"]:
        yield f"{name}: metadata {source['metadata']} is {target['metadata']}"
    space = source["index otherwise"].get("space", "l2")
    index = {"space": space, **source["index"]}
    # The current release tells no batch size.
    there = {**target["index otherwise"], **target["index"]}
    for key in index.keys() & there.keys():
        if index[key] != there[key]:
            yield f"{name}: {key} {index[key]} is {there[key]}"
    for key in ("embedding function", "schema"):
        before, after = source[key], target[key]
        if before and after and before != after:  # else one of the releases keeps none
            yield f"{name}: {key} {before} is {after}"
    yield from _of_names(name, source["records"], target["records"])
    for key in source["records"].keys() & target["records"].keys():
        pair = source["records"][key], target["records"][key]
        for field, before, after in zip(FIELDS, *pair, strict=True):
            rounded = field == "vector" and index["space"] == "cosine"
            if before != after and not (rounded and _same_but_for_rounding(before, after)):
                yield f"{name}: {field} of {key!r:.60} {before:.100} is {after:.100}"
    for key, found in source["nearest"].items():
        yield from _of_search(
            f"{name}: nearest of {key!r:.60}", found, target["nearest"].get(key, {})
        )


def _same_but_for_rounding(one: str, other: str) -> bool:
    """Chroma normalizes vectors for its index in the space `cosine`, and when it reads one, multiplies
    it by its former length: the last bits change with each copy."""
    numbers = [array.array("f", bytes.fromhex(it)) for it in (one, other)]
    return len(numbers[0]) == len(numbers[1]) and all(
        math.isclose(*pair, rel_tol=1e-6) for pair in zip(*numbers, strict=True)
    )


def _of_search(
    what: str, source: Mapping[str, float | None], target: Mapping[str, float | None]
) -> Iterator[str]:
    """Of several that are as near, or since HNSW is approximate, two indexes of the same records may
    find others."""
    both = source.keys() & target.keys()
    if not both:
        yield f"{what}: {sorted(source)} are {sorted(target)}"
    for key in both:
        before, after = source[key], target[key]
        if before is None or after is None:  # infinite
            continue
        if not math.isclose(before, after, rel_tol=1e-3, abs_tol=1e-4):
            yield f"{what}: {key!r} has the distance {after}, not {before}"


def main() -> int:
    """Prints the differences, and exits with 1 if there are any."""
    parser = argparse.ArgumentParser(prog="python -m tests.host.copied", description=__doc__)
    parser.add_argument("source", metavar="RELEASE@HOST:PORT")
    parser.add_argument("target", metavar="RELEASE@HOST:PORT")
    parser.add_argument("--tenant", action="append", default=[])
    parser.add_argument("--database", action="append", default=[])
    chosen = parser.parse_args()
    tenants = chosen.tenant or ["default_tenant"]
    databases = chosen.database or ["default_database"]
    held = [contents(*it.split("@"), tenants, databases) for it in (chosen.source, chosen.target)]
    found = differences(*held)
    collections = [
        it
        for tenant in held[0].values()
        for database in tenant.values()
        for it in database.values()
    ]
    records = sum(len(it["records"]) for it in collections)
    print(*found, f"{len(collections)} collections, {records} records,", sep="\n", end=" ")
    print(f"{len(found)} differences")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
