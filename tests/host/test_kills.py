"""What a crash costs: `make soak` kills for longer."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.host.chroma_servers import CURRENT, MIDDLE_RUST, OLDEST_RUST
from tests.host.kills import Killed


@pytest.mark.parametrize(
    ("version", "kills"), [(CURRENT, 8), (OLDEST_RUST, 4), (MIDDLE_RUST, 4)], ids=lambda it: str(it)
)
def test_no_kill_costs_anything_that_was_acknowledged(
    tmp_path: Path, version: str, kills: int
) -> None:
    killed = Killed(version, tmp_path)
    try:
        for _ in range(kills):
            killed.kill()
    finally:
        killed.close()
    print(killed.report)
