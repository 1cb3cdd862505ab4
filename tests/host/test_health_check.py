"""The health check by itself: what it does about a server that does not answer."""

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

CHECK = f"""
. {HOST}/health-check
systemctl() {{
    if [[ $1 == show ]]; then
        echo $((($(cut -d. -f1 /proc/uptime) - UP) * 1000000))
    else
        echo "systemctl $*"
    fi
}}
aws() {{ echo "aws $*"; }}
check "$CHROMA_URL"
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
def hanging() -> Iterator[socket.socket]:
    """The kernel takes the connections, and nobody answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def waiting(server: socket.socket) -> int:
    """How many connections were made to it."""
    server.settimeout(0.1)
    for count in range(10):
        try:
            server.accept()[0].close()
        except TimeoutError:
            return count
    return 10


def check(root: Path, port: int, times: int = 1, up: int = 300) -> str:
    """What the last of some checks in a row leads to, `up` seconds after the server's start."""
    (root / "instance-id").write_text("i-0123456789abcdef0\n")
    (root / "settings").write_text("REGION=eu-central-1\n")
    environment = {
        "PATH": "/usr/bin:/bin",
        "SETTINGS": f"{root}/settings",
        "INSTANCE_ID_FILE": f"{root}/instance-id",
        "HEALTH_CHECK_FAILURES": f"{root}/failures",
        "CHROMA_URL": f"http://127.0.0.1:{port}",
        "UP": str(up),
    }
    for _ in range(times):
        done = subprocess.run(
            ["bash", "-c", CHECK],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
            timeout=60,
            check=True,
        )
    return done.stdout


def test_a_server_that_does_not_answer_four_times_in_a_row_is_restarted_in_good_order(
    tmp_path: Path,
) -> None:
    nobody = free_port()
    assert check(tmp_path, nobody, times=3) == ""
    assert check(tmp_path, nobody).endswith("systemctl restart --no-block chroma.service\n")


def test_an_answer_begins_the_count_anew(tmp_path: Path, old_release: int) -> None:
    nobody = free_port()
    check(tmp_path, nobody, times=3)
    assert check(tmp_path, old_release) == ""
    assert check(tmp_path, nobody, times=3) == ""


def test_a_server_that_starts_is_left_alone_for_five_minutes(tmp_path: Path) -> None:
    assert check(tmp_path, free_port(), times=5, up=299) == ""


def test_an_instance_on_which_nothing_helps_asks_for_another_one(tmp_path: Path) -> None:
    nobody = free_port()
    assert "Unhealthy" not in check(tmp_path, nobody, times=39)
    assert check(tmp_path, nobody).endswith(
        "aws autoscaling set-instance-health --instance-id i-0123456789abcdef0 "
        "--health-status Unhealthy\n"
    )


def test_a_server_that_hangs_has_ten_seconds_to_answer_and_is_asked_once(
    tmp_path: Path, hanging: socket.socket
) -> None:
    """So that a check is over before the next one is due, after 15 seconds."""
    start = time.monotonic()
    check(tmp_path, hanging.getsockname()[1])
    assert time.monotonic() - start >= 10
    assert waiting(hanging) == 1
    assert (tmp_path / "failures").read_text() == "1\n"


def test_an_old_release_answers_by_its_own_api(tmp_path: Path, old_release: int) -> None:
    check(tmp_path, old_release)
    assert not (tmp_path / "failures").exists()
