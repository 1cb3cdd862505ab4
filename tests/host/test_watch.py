"""The watch by itself: what it does about a server that does not answer."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from tests.host.programs import HOST, free_port

STAND_INS = """
systemctl() { [[ $1 == show ]] && echo 0 || echo "systemctl $*"; }
replace_me() { echo "replace $1"; }
"""


class OldRelease(BaseHTTPRequestHandler):
    """Chroma before 0.6 knows the first API only."""

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/api/v1/heartbeat" else 404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def old_release() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), OldRelease) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


@pytest.fixture
def hanging() -> Iterator[int]:
    """The kernel takes the connection, and nobody answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield int(server.getsockname()[1])


def watch(root: Path, port: int, times: int = 1, up: int = 300) -> str:
    """What the last of some questions in a row leads to, `up` seconds after the server's start."""
    script = (HOST / "watch").read_text()
    common = "/opt/chroma/common"
    for here, instead in (
        (f". {common}\n", f". {HOST / 'common'}\n{STAND_INS}"),
        ("/run/chroma-silent", f"{root}/silent"),
        ("/proc/uptime", f"{root}/uptime"),
        ("/var/lib/cloud/data/instance-id", f"{root}/instance-id"),
        ("answers 8001", f"answers {port}"),
    ):
        assert here in script
        script = script.replace(here, instead)
    (root / "uptime").write_text(f"{up}.25 1.00\n")
    (root / "instance-id").write_text("i-0123456789abcdef0\n")
    (root / "settings").write_text("REGION=eu-central-1\n")
    for _ in range(times):
        done = subprocess.run(
            ["bash", "-c", script],
            env={"PATH": "/usr/bin:/bin", "SETTINGS": str(root / "settings")},
            stdout=subprocess.PIPE,
            text=True,
            timeout=60,
            check=True,
        )
    return done.stdout


def test_a_server_that_is_silent_four_times_in_a_row_is_restarted_in_good_order(
    tmp_path: Path,
) -> None:
    nobody = free_port()
    assert watch(tmp_path, nobody, times=3) == ""
    assert watch(tmp_path, nobody).endswith("systemctl restart --no-block chroma.service\n")


def test_an_answer_begins_the_count_anew(tmp_path: Path, old_release: int) -> None:
    nobody = free_port()
    watch(tmp_path, nobody, times=3)
    assert watch(tmp_path, old_release) == ""
    assert watch(tmp_path, nobody, times=3) == ""


def test_a_server_that_starts_is_left_alone_for_five_minutes(tmp_path: Path) -> None:
    assert watch(tmp_path, free_port(), times=5, up=299) == ""


def test_a_machine_on_which_nothing_helps_asks_for_another_one(tmp_path: Path) -> None:
    nobody = free_port()
    assert "replace" not in watch(tmp_path, nobody, times=39)
    assert watch(tmp_path, nobody).endswith("replace i-0123456789abcdef0\n")


def test_a_server_that_hangs_has_ten_seconds_to_answer_and_is_asked_once(
    tmp_path: Path, hanging: int
) -> None:
    """So that a question is over before the next one is due, after 15 seconds."""
    start = time.monotonic()
    watch(tmp_path, hanging)
    assert 10 <= time.monotonic() - start < 15
    assert (tmp_path / "silent").read_text() == "1\n"


def test_an_old_release_answers_by_its_own_api(tmp_path: Path, old_release: int) -> None:
    watch(tmp_path, old_release)
    assert not (tmp_path / "silent").exists()
