"""What reaches CloudWatch Logs: the journal of the server's units as lines of JSON in a file that the agent
follows, and the agent's configuration."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.host.journal import Journal
from tests.host.programs import HOST, wait_until

INSTANCE = "i-0123456789abcdef0"
SERVER = "Search/ChromaServer0A1B2C3D"
REQUEST = {
    "time": "2026-11-29T02:59:59Z",
    "client": "203.0.113.7",
    "user": "-",
    "method": "POST",
    "route": "/api/v2/tenants/{tenant}/databases/{database}/collections/{collection}/query",
    "path": "/api/v2/tenants/default_tenant/databases/default_database/collections/0b5c0b0e/query",
    "status": 200,
    "auth": "ok",
    "tls": "TLSv1.3",
    "bytes_in": 812,
    "bytes_out": 1930,
    "server_ms": 3,
    "total_ms": 4,
    "end": "--",
    "unlogged": "0",
}


class Logs:
    """`logs follow` with a journal of its own."""

    def __init__(self, folder: Path) -> None:
        self.journal = Journal(folder / "bin")
        self.folder = folder / "chroma"
        self.file = self.folder / "chroma.log"
        settings = folder / "settings"
        settings.write_text(f"SERVER={SERVER}\nLOG_GROUP=Search-Logs\nAUTH=token\n")
        instance = folder / "instance-id"
        instance.write_text(f"{INSTANCE}\n")
        self.environment = {
            "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
            "SETTINGS": str(settings),
            "INSTANCE_ID_FILE": str(instance),
            "PROGRAM_FOLDER": str(HOST),
            "LOGS_FOLDER": str(self.folder),
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen([HOST / "logs", "follow"], env=self.environment)

    def stop(self, kill: bool = False) -> None:
        if self._process is not None:
            (self._process.kill if kill else self._process.terminate)()
            self._process.wait(30)
            self._process = None

    def ends(self) -> int:
        assert self._process is not None
        return self._process.wait(30)

    def lines(self, count: int) -> list[dict[str, Any]]:
        """The file's lines, once there are so many, and no more of them."""

        def read() -> list[str]:
            # The last line may not be there in whole yet.
            text = self.file.read_text() if self.file.exists() else ""
            return text.rpartition("\n")[0].splitlines()

        wait_until(lambda: len(read()) >= count, f"{count} lines")
        lines = [json.loads(line) for line in read()]
        assert len(lines) == count
        return lines

    def line(self, unit: str, message: object, identifier: str | None = None) -> dict[str, Any]:
        """What becomes of one entry."""
        self.journal.say(unit, message, identifier)
        self.start()
        return self.lines(1)[0]


@pytest.fixture
def logs(tmp_path: Path) -> Iterator[Logs]:
    logs = Logs(tmp_path)
    yield logs
    logs.stop()


COMMON = {"time": "2026-11-29T03:00:01Z", "server": SERVER, "instance": INSTANCE}


def test_a_line_has_time_server_instance_and_unit_and_begins_with_the_time(logs: Logs) -> None:
    line = logs.line("chroma-credential", "credential: the proxy accepts 2 value(s) from now on")
    assert line == COMMON | {
        "unit": "chroma-credential",
        "message": "credential: the proxy accepts 2 value(s) from now on",
    }
    assert logs.file.read_text().startswith('{"time":"2026-11-29T03:00:01Z","server":')


def test_the_fields_of_a_request_are_fields_of_the_line(logs: Logs) -> None:
    line = logs.line("chroma-proxy", json.dumps(REQUEST), "haproxy")
    assert line == COMMON | {"unit": "chroma-proxy"} | REQUEST
    assert next(iter(line)) == "time"


@pytest.mark.parametrize("unit", ["chroma-status", "cloud-final", "chroma-updates"])
def test_the_fields_of_an_event_are_fields_of_the_line(logs: Logs, unit: str) -> None:
    event = {"event": "status", "answers": 1, "memory_percent": 41.5, "message": "all is well"}
    line = logs.line(unit, json.dumps(event))
    assert line == COMMON | {"unit": "boot" if unit == "cloud-final" else unit} | event


def test_the_event_of_the_shell_function_is_one(logs: Logs) -> None:
    reason = 'no "way" to C:\\ & é\n\tthe\x1b[1m last error'
    said = subprocess.run(
        ["bash", "-c", f'. {HOST}/common; event boot_failed "$1"', "bash", reason],
        env=logs.environment,
        capture_output=True,
        text=True,
        check=True,
    ).stderr
    line = logs.line("cloud-final", said.rstrip("\n"))
    assert line["event"] == "boot_failed"
    assert line["message"] == 'no "way" to C:\\ & é  the [1m last error'


def test_no_event_sets_where_a_line_comes_from(logs: Logs) -> None:
    forged = dict.fromkeys(["time", "server", "instance", "unit"], "forged")
    line = logs.line("chroma-status", json.dumps({"event": "status"} | forged))
    assert line == COMMON | {"unit": "chroma-status", "event": "status"}


@pytest.mark.parametrize(
    ("unit", "identifier"), [("chroma", "docker"), ("chroma-proxy", "haproxy")]
)
def test_what_clients_have_a_part_in_is_no_event(logs: Logs, unit: str, identifier: str) -> None:
    """What Chroma and the proxy print may hold what a client sent."""
    line = logs.line(unit, '{"event":"index_repaired","message":"m"}', identifier)
    assert "event" not in line


def test_the_repair_before_chroma_starts_is_an_event(logs: Logs) -> None:
    line = logs.line("chroma", '{"event":"index_repaired","message":"documents"}', "sh")
    assert line == COMMON | {"unit": "chroma", "event": "index_repaired", "message": "documents"}


@pytest.mark.parametrize(
    "message", ['{"event":1}', '{"no":"event"}', "{", '{"event":"a"', "[1]", "{}", "null"]
)
def test_any_other_json_is_a_message(logs: Logs, message: str) -> None:
    assert logs.line("chroma-status", message) == COMMON | {
        "unit": "chroma-status",
        "message": message,
    }


DEEP = '{"a":' * 100_000


@pytest.mark.parametrize(
    ("unit", "identifier"),
    [("chroma", "docker"), ("chroma-proxy", "haproxy"), ("chroma-status", "status")],
)
def test_json_that_is_too_deep_to_be_read_is_a_message(
    logs: Logs, unit: str, identifier: str
) -> None:
    assert logs.line(unit, DEEP, identifier)["message"].startswith(DEEP[:1000])


def test_what_chroma_prints_is_shown_as_it_is(logs: Logs) -> None:
    assert logs.line("chroma", '{"event": "status"}', "docker")["message"] == '{"event": "status"}'


@pytest.mark.parametrize(
    "fields",
    [{"__REALTIME_TIMESTAMP": "9" * 30}, {"PRIORITY": "?", "_PID": "1"}, {"MESSAGE": [999]}],
    ids=["time", "priority", "message"],
)
def test_an_entry_that_cannot_be_used_is_passed_over_for_good(
    logs: Logs, fields: dict[str, object]
) -> None:
    logs.journal.say("chroma-status", "1", **fields, UNIT="chroma-status.service")
    logs.start()
    wait_until(
        lambda: (
            (logs.folder / "cursor").exists() and "i=1;" in (logs.folder / "cursor").read_text()
        ),
        "the cursor is behind it",
    )
    logs.journal.say("chroma", "2")
    assert [it["message"] for it in logs.lines(1)] == ["2"]


def test_bytes_that_are_no_text_are_shown_as_far_as_they_can_be(logs: Logs) -> None:
    """The journal prints them as numbers."""
    assert logs.line("chroma", list(b"caf\xe9 \x1b[2mINFO"))["message"] == "caf\ufffd \x1b[2mINFO"


def test_a_long_line_is_cut_to_what_the_agent_sends_whole(logs: Logs) -> None:
    logs.line("chroma", "\x01" * 300_000)
    assert len(logs.file.read_bytes()) < 256 * 1024
    assert json.loads(logs.file.read_bytes())["message"].endswith(" (and 268000 more)")


def test_a_long_event_is_one_and_its_texts_are_cut(logs: Logs) -> None:
    line = logs.line("cloud-final", json.dumps({"event": "boot_failed", "message": "m" * 40_000}))
    assert line["event"] == "boot_failed"
    assert line["message"] == "m" * 32_000 + " (and 8000 more)"


def test_the_shell_function_keeps_an_event_within_what_journald_takes_of_a_line() -> None:
    said = subprocess.run(
        ["bash", "-c", f'. {HOST}/common; event boot_failed "$1"', "bash", '"\\' * 50_000],
        env={"PATH": os.environ["PATH"], "SETTINGS": os.devnull},
        capture_output=True,
        text=True,
        check=True,
    ).stderr
    assert json.loads(said)["message"] == '"\\' * 2_000
    assert len(said) < 48 * 1024


def test_what_systemd_says_of_each_run_of_a_timer_is_left_out_unless_it_failed(logs: Logs) -> None:
    logs.journal.say_by_systemd("chroma-health-check", "Finished Health check.")
    logs.journal.say_by_systemd("chroma-health-check", "Failed with result 'timeout'.", priority=4)
    logs.journal.say_by_systemd("chroma", "Started Chroma server.")
    logs.start()
    lines = logs.lines(2)
    assert [it["unit"] for it in lines] == ["chroma-health-check", "chroma"]


def test_the_boot_and_all_our_units_are_asked_for_from_the_beginning_of_the_boot(
    logs: Logs,
) -> None:
    logs.line("chroma", "first")
    [call] = logs.journal.calls
    assert "--boot" in call
    assert "--no-tail" in call
    for path in HOST.glob("chroma*.service"):
        assert f"--unit {path.name}" in call
    assert "--unit cloud-final.service" in call
    assert "--unit cloud-init-main.service" in call


@pytest.mark.parametrize("kill", [False, True])
def test_after_a_restart_no_line_is_there_twice_and_none_is_missing(logs: Logs, kill: bool) -> None:
    logs.journal.say("chroma", "1")
    logs.journal.say("chroma", "2")
    logs.start()
    logs.lines(2)
    logs.stop(kill)
    logs.journal.say("chroma", "3")
    logs.start()
    logs.lines(3)
    logs.journal.say("chroma", "4")
    assert [it["message"] for it in logs.lines(4)] == ["1", "2", "3", "4"]


def test_what_is_left_out_is_not_read_again_either(logs: Logs) -> None:
    logs.journal.say("chroma", "1")
    logs.journal.say_by_systemd("chroma-status", "Finished State.")
    logs.start()
    logs.lines(1)
    wait_until(lambda: "i=2;" in (logs.folder / "cursor").read_text(), "the cursor is written")


@pytest.mark.parametrize("cursor", ["s=gone;i=1", "", "\0" * 400, "nonsense"])
def test_without_a_cursor_that_the_journal_knows_the_boot_is_read(logs: Logs, cursor: str) -> None:
    logs.folder.mkdir()
    (logs.folder / "cursor").write_text(cursor)
    logs.journal.say("chroma", "1")
    logs.start()
    if cursor.startswith("s="):
        assert logs.ends() != 0
        logs.start()  # as systemd does
    assert [it["message"] for it in logs.lines(1)] == ["1"]


def test_the_file_never_takes_more_than_twice_its_size_and_no_line_is_broken(logs: Logs) -> None:
    logs.environment["LOGS_SIZE"] = "20000"
    for number in range(500):
        logs.journal.say("chroma", f"{number}")
    logs.start()
    wait_until(
        lambda: logs.file.exists() and '"499"' in logs.file.read_text(), "the last line is written"
    )
    previous = logs.folder / "chroma.log.1"
    numbers = []
    for file in (previous, logs.file):
        assert file.stat().st_size <= 20_000
        numbers += [int(json.loads(line)["message"]) for line in file.read_text().splitlines()]
    assert numbers == list(range(numbers[0], 500))
    assert sorted(it.name for it in logs.folder.iterdir()) == [
        "chroma.log",
        "chroma.log.1",
        "cursor",
    ]


def test_the_files_are_roots_alone(logs: Logs) -> None:
    logs.line("chroma", "1")
    assert logs.folder.stat().st_mode & 0o777 == 0o700
    assert {it.stat().st_mode & 0o777 for it in logs.folder.iterdir()} == {0o600}


# The agent's configuration. The keys that the agent takes, and what of each; from its documentation:
# https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch-Agent-Configuration-File-Details.html
FILE = {
    "file_path": str,
    "log_group_name": str,
    "log_stream_name": str,
    "timestamp_format": str,
    "timezone": str,
}
MEASURED = {"measurement": list, "append_dimensions": dict}
KEYS: dict[str, Any] = {
    "agent": {"metrics_collection_interval": int, "omit_hostname": bool},
    "logs": {
        "force_flush_interval": int,
        "logs_collected": {"files": {"collect_list": [FILE]}},
    },
    "metrics": {
        "namespace": str,
        "metrics_collected": {
            "mem": MEASURED,
            "swap": MEASURED,
            "disk": MEASURED | {"resources": list, "drop_device": bool},
        },
    },
}


def assert_is_as_described(found: object, described: Any) -> None:
    if isinstance(described, dict):
        assert isinstance(found, dict)
        assert set(found) == set(described)
        for name, it in found.items():
            assert_is_as_described(it, described[name])
    elif isinstance(described, list):
        assert isinstance(found, list)
        for it in found:
            assert_is_as_described(it, described[0])
    else:
        assert type(found) is described


@pytest.fixture
def configuration(logs: Logs) -> dict[str, Any]:
    said = subprocess.run(
        [HOST / "logs", "configure"], env=logs.environment, capture_output=True, check=True
    ).stdout
    found = json.loads(said)
    assert isinstance(found, dict)
    return found


def test_the_agents_configuration_has_keys_that_the_agent_takes(
    configuration: dict[str, Any],
) -> None:
    assert_is_as_described(configuration, KEYS)


def test_the_agent_sends_the_file_to_the_log_group_with_the_times_of_its_lines(
    configuration: dict[str, Any], logs: Logs
) -> None:
    [file] = configuration["logs"]["logs_collected"]["files"]["collect_list"]
    assert file["log_group_name"] == "Search-Logs"
    assert file["log_stream_name"] == "{instance_id}"  # the agent fills that in
    assert file["timezone"] == "UTC"
    assert file["file_path"] == "/var/log/chroma/chroma.log"
    default = (HOST / "logs").read_text()
    assert '"LOGS_FOLDER", "/var/log/chroma"' in default
    assert file["timestamp_format"] in default


def test_the_agents_metrics_are_this_servers(configuration: dict[str, Any]) -> None:
    collected = configuration["metrics"]["metrics_collected"]
    assert configuration["metrics"]["namespace"] == "Chroma"
    assert configuration["agent"]["omit_hostname"] is True
    assert {it["append_dimensions"]["Server"] for it in collected.values()} == {SERVER}
    assert [it["measurement"] for it in collected.values()] == [
        ["mem_used_percent"],
        ["swap_used_percent"],
        ["disk_used_percent"],
    ]
    # Without the device the metric is the same after each replacement.
    assert collected["disk"]["resources"] == ["/var/lib/chroma"]
    assert collected["disk"]["drop_device"] is True
