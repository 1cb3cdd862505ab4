"""Backups of a Chroma server in S3, by the real AWS command line and a moto server."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from chroma_stack.emulator.moto_server import MotoServer
from tests.host.chroma_servers import CURRENT, ChromaServer
from tests.host.copied import contents, differences, fill
from tests.host.programs import program

TENANT = ("default_tenant",)
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def variables() -> Iterator[dict[str, str]]:
    """What leads the AWS command line to an account with a bucket."""
    program("aws")
    with MotoServer() as aws:
        variables = {**os.environ, **aws.environment, "PYTHON": sys.executable}
        subprocess.run(["aws", "s3", "mb", "s3://backups"], env=variables, check=True)
        yield variables


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChromaServer]:
    server = ChromaServer(CURRENT, tmp_path_factory.mktemp("source"))
    fill(CURRENT, server.address, records=300)
    yield server
    server.stop()


@pytest.fixture
def target(tmp_path: Path) -> Iterator[ChromaServer]:
    server = ChromaServer(CURRENT, tmp_path)
    yield server
    server.stop()


def shell(line: str, variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", line],
        env=variables,
        capture_output=True,
        text=True,
        timeout=300,
    )


def documented() -> tuple[str, str]:
    """What the page tells to run for a backup, and to restore it."""
    page = (ROOT / "docs" / "moving.md").read_text()
    section = page.partition("## How do I keep backups in S3?")[2].partition("\n## ")[0]
    out, back = re.findall(r"(?s)```\n(.*?)```", section)
    return out, back


def with_names(lines: str, server: ChromaServer) -> str:
    """The lines of the page, for this server and bucket."""
    lines, count = re.subn(r"http://192\.0\.2\.[12]:8000", f"http://{server.address}", lines)
    assert count
    return lines.replace("BUCKET", "backups").replace("python -m", '"$PYTHON" -m')


def backup(server: ChromaServer, variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return shell(with_names(documented()[0], server), variables)


def restore(server: ChromaServer, variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return shell(with_names(documented()[1], server), variables)


def test_a_backup_in_s3_is_restored(
    source: ChromaServer, target: ChromaServer, variables: dict[str, str]
) -> None:
    for done in (backup(source, variables), restore(target, variables)):
        assert done.returncode == 0, done.stderr
    assert " 0 differences, in " in done.stderr
    before, after = (contents(CURRENT, it.address, TENANT) for it in (source, target))
    assert len(before["default_tenant"]["default_database"]["articles"]["records"]) == 300
    assert not differences(before, after)


def test_a_backup_without_its_end_is_refused(
    source: ChromaServer, target: ChromaServer, variables: dict[str, str]
) -> None:
    assert backup(source, variables).returncode == 0
    [key] = set(re.findall(r"s3://BUCKET/\S+", "".join(documented())))
    key = key.replace("BUCKET", "backups")
    cut = f"set -o pipefail; aws s3 cp {key} - | head --bytes=-20 | aws s3 cp - {key}"
    assert shell(cut, variables).returncode == 0
    refused = restore(target, variables)
    assert refused.returncode == 1
    assert "Traceback" not in refused.stderr
    assert "end" in refused.stderr
