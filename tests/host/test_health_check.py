"""The health check by itself: what it does about a server that does not answer."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from tests.host.programs import HOST, free_port

CHECK = f"""
. {HOST}/health-check
systemctl() {{
    if [[ $1 == is-active ]]; then
        echo "$STATE"
    elif [[ $1 == show ]]; then
        echo $((($(cut -d. -f1 /proc/uptime) - UP) * 1000000))
    else
        echo "systemctl $*"
    fi
}}
aws() {{ echo "aws $*"; }}
journalctl() {{ echo "what Chroma said"; }}
# The time of a sample passes, and the container's use of the processor with it.
[[ ! -e $CHROMA_CGROUP/percent ]] || sleep() {{
    local used
    used=$(cut -d' ' -f2 "$CHROMA_CGROUP/cpu.stat")
    echo "usage_usec $((used + $1 * 10000 * $(<"$CHROMA_CGROUP/percent")))" >"$CHROMA_CGROUP/cpu.stat"
}}
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


def check(root: Path, port: int, times: int = 1, up: int = 1200, state: str = "active") -> str:
    """What the last of some checks in a row leads to, `up` seconds after the server's start."""
    (root / "log").mkdir(exist_ok=True)
    (root / "instance-id").write_text("i-0123456789abcdef0\n")
    (root / "settings").write_text("REGION=eu-central-1\n")
    environment = {
        "PATH": "/usr/bin:/bin",
        "SETTINGS": f"{root}/settings",
        "INSTANCE_ID_FILE": f"{root}/instance-id",
        "HEALTH_CHECK_FAILURES": f"{root}/failures",
        "HEALTH_CHECK_ANSWERED": f"{root}/answered",
        "MAINTENANCE": f"{root}/maintenance",
        "CHROMA_CGROUP": f"{root}/cgroup",
        "MOUNT": str(root),
        "CHROMA_URL": f"http://127.0.0.1:{port}",
        "UP": str(up),
        "STATE": state,
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


def test_a_server_that_starts_is_left_alone_for_as_long_as_a_boot_waits_for_it(
    tmp_path: Path,
) -> None:
    assert check(tmp_path, free_port(), times=45, up=1199) == ""


@pytest.mark.parametrize("state", ["inactive", "failed"])
def test_a_server_that_was_stopped_is_not_starting(tmp_path: Path, state: str) -> None:
    assert "restarting it" in check(tmp_path, free_port(), times=4, up=600, state=state)
    assert "Unhealthy" in check(tmp_path, free_port(), times=36, up=600, state=state)


def test_what_prepares_a_start_is_not_interrupted(tmp_path: Path) -> None:
    """The file system grows then, or systemd waits before it starts Chroma again."""
    assert check(tmp_path, free_port(), times=5, up=600, state="activating") == ""


def test_a_server_that_has_answered_since_its_start_is_not_starting(
    tmp_path: Path, old_release: int
) -> None:
    check(tmp_path, old_release)
    assert "restarting it" in check(tmp_path, free_port(), times=4, up=600)


@pytest.fixture
def processor(tmp_path: Path) -> Callable[[int], None]:
    """Has Chroma's container use so many percent of a processor from now on."""
    folder = tmp_path / "cgroup"
    folder.mkdir()
    (folder / "cpu.stat").write_text("usage_usec 0\n")

    def use(percent: int) -> None:
        (folder / "percent").write_text(str(percent))

    return use


def test_a_server_that_computes_is_not_taken_for_one_that_hangs(
    tmp_path: Path, old_release: int, processor: Callable[[int], None]
) -> None:
    """It uses a large index for the first time, and answers nothing until that is in its memory."""
    nobody = free_port()
    check(tmp_path, old_release)
    processor(80)
    assert "left alone" in check(tmp_path, nobody, times=5, up=600)
    assert not (tmp_path / "failures").exists()
    processor(1)
    assert "restarting it" in check(tmp_path, nobody, times=4, up=600)


def test_a_server_that_computes_without_end_is_restarted(
    tmp_path: Path, old_release: int, processor: Callable[[int], None]
) -> None:
    check(tmp_path, old_release)
    processor(100)
    last_answer = time.time() - 1200
    os.utime(tmp_path / "answered", (last_answer, last_answer))
    assert "restarting it" in check(tmp_path, free_port(), times=4, up=1300)


def test_a_server_that_is_started_again_has_the_time_of_a_start(
    tmp_path: Path, old_release: int
) -> None:
    check(tmp_path, old_release)
    an_hour_ago = time.time() - 3600
    os.utime(tmp_path / "answered", (an_hour_ago, an_hour_ago))
    assert check(tmp_path, free_port(), times=45, up=600) == ""


def test_a_server_that_ends_soon_after_each_start_leads_to_another_instance(
    tmp_path: Path,
) -> None:
    assert "Unhealthy" in check(tmp_path, free_port(), times=40, up=60)


def test_an_instance_on_which_nothing_helps_asks_for_another_one(tmp_path: Path) -> None:
    nobody = free_port()
    assert "Unhealthy" not in check(tmp_path, nobody, times=39)
    assert check(tmp_path, nobody).endswith(
        "aws autoscaling set-instance-health --instance-id i-0123456789abcdef0 "
        "--health-status Unhealthy\n"
    )
    [log] = (tmp_path / "log").glob("*-i-0123456789abcdef0-replaced.log")
    assert log.read_text() == "what Chroma said\n"


def maintenance(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """What `chroma-maintenance` says."""
    return subprocess.run(
        [str(HOST / "maintenance"), *arguments],
        env={"PATH": "/usr/bin:/bin", "MAINTENANCE": f"{root}/maintenance"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
    )


def minutes_left(said: str) -> float:
    [until] = re.findall(r"maintenance until (\S+ \S+ UTC)", said)
    end = datetime.strptime(until, "%Y-%m-%d %H:%M:%S UTC").replace(tzinfo=timezone.utc)
    return (end - datetime.now(timezone.utc)).total_seconds() / 60


def test_in_maintenance_a_stopped_server_stays_stopped(tmp_path: Path) -> None:
    nobody = free_port()
    said = maintenance(tmp_path, "on").stdout
    assert 55 < minutes_left(said) <= 60
    assert check(tmp_path, nobody, times=45) == ""
    assert "no maintenance" in maintenance(tmp_path, "off").stdout
    assert "restarting it" in check(tmp_path, nobody, times=4)


def test_maintenance_ends_by_itself(tmp_path: Path) -> None:
    assert 0 < minutes_left(maintenance(tmp_path, "on", "5").stdout) <= 5
    (tmp_path / "maintenance").write_text(f"{int(time.time()) - 1}\n")
    assert "no maintenance" in maintenance(tmp_path).stdout
    assert "restarting it" in check(tmp_path, free_port(), times=4)


@pytest.mark.parametrize(
    "arguments",
    [("on", "0"), ("on", "1441"), ("on", "an hour"), ("on", "5", "x"), ("off", "5"), ("help",)],
)
def test_what_maintenance_cannot_take_shows_its_usage(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    done = maintenance(tmp_path, *arguments)
    assert done.returncode == 2
    assert done.stdout.startswith("usage: chroma-maintenance on [MINUTES")
    assert not (tmp_path / "maintenance").exists()


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


def test_a_checkpoint_that_failed_is_said_once(tmp_path: Path) -> None:
    script = f"""
    . {HOST}/health-check
    systemctl() {{ echo "$STATE"; }}
    journalctl() {{ echo "no room for the checkpoints of documents"; }}
    watch_checkpoints
    """

    def watch(state: str) -> str:
        return subprocess.run(
            ["bash", "-c", script],
            env={
                "PATH": "/usr/bin:/bin",
                "SETTINGS": "/dev/null",
                "NO_CHECKPOINT": f"{tmp_path}/no-checkpoint",
                "STATE": state,
            },
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        ).stdout

    assert watch("inactive") == ""
    assert watch("failed") == "no checkpoint: no room for the checkpoints of documents\n"
    assert watch("activating") == watch("failed") == ""
    assert watch("inactive") == ""
    assert watch("failed") != ""


def test_collections_that_are_not_served_for_lack_of_memory_are_named(tmp_path: Path) -> None:
    def watch(too_large: str) -> str:
        (tmp_path / "too-large").write_text(too_large)
        return subprocess.run(
            ["bash", "-c", f". {HOST}/health-check; watch_memory"],
            env={
                "PATH": "/usr/bin:/bin",
                "SETTINGS": "/dev/null",
                "PROXY_TOO_LARGE": f"{tmp_path}/too-large",
            },
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        ).stdout

    assert watch("") == ""
    assert watch("1089f4b2\n5f01fc21\n").endswith("not served: 1089f4b2 5f01fc21\n")


def test_what_is_wrong_with_the_certificate_is_said_once(tmp_path: Path) -> None:
    (tmp_path / "tls").mkdir()

    def watch(problem: str) -> str:
        (tmp_path / "tls" / "problem").write_text(problem)
        return subprocess.run(
            ["bash", "-c", f". {HOST}/health-check; watch_certificate"],
            env={
                "PATH": "/usr/bin:/bin",
                "SETTINGS": "/dev/null",
                "MOUNT": str(tmp_path),
                "CERTIFICATE_PROBLEM": f"{tmp_path}/said",
            },
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        ).stdout

    assert watch("") == ""
    assert watch("the certificate has expired") == "certificate: the certificate has expired\n"
    assert watch("the certificate has expired") == ""
    assert watch("") == ""
    assert watch("the certificate has expired") != ""
