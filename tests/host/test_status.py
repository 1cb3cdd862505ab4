"""What `chroma-status` says of a server in its states, with a real Chroma behind a real proxy."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from tests.host.boot import RECORDED
from tests.host.chroma_servers import CURRENT, LAST_PYTHON, ChromaServer
from tests.host.journal import Journal
from tests.host.programs import HOST, free_port
from tests.host.proxy import VERIFY, Proxy

MIB = 1 << 20
COLLECTIONS = "/api/v2/tenants/default_tenant/databases/default_database/collections"
VOLUME = "vol-0123456789abcdef0"
ACTIVE = """\
Id=chroma.service
ActiveState=active
NRestarts=2
ActiveEnterTimestampMonotonic=1000000

Id=chroma-checkpoint.service
ActiveState={checkpoint}
NRestarts=0
ActiveEnterTimestampMonotonic=0

Id=chroma-logs.service
ActiveState={sending}
NRestarts=0
ActiveEnterTimestampMonotonic=0

Id=amazon-cloudwatch-agent.service
ActiveState={sending}
NRestarts=0
ActiveEnterTimestampMonotonic=0
"""
TRANSPORTS = ["tls"]


class Done(NamedTuple):
    code: int
    text: str

    @property
    def attention(self) -> list[str]:
        start = "NEEDS ATTENTION"
        return [
            it.removeprefix(start).strip() for it in self.text.splitlines() if it.startswith(start)
        ]


class Server:
    """A server on this computer, with stand-ins for systemd, the journal and AWS."""

    def __init__(self, folder: Path, make_proxy: Callable[..., Proxy]) -> None:
        self.chroma = ChromaServer(CURRENT, folder)
        subprocess.run([HOST / "indexes", "checkpoint", folder / "data"], check=True)
        self.proxy = make_proxy(self.chroma.address).start()
        self.folder = folder
        self.bin = folder / "bin"
        self.journal = Journal(self.bin)
        self.answers = folder / "answers"
        self.answers.mkdir()
        self.calls = folder / "calls"
        for name in ("systemctl", "aws"):
            self.program(name, RECORDED)
        self.settings = {
            "SERVER": "Search/Chroma",
            "REGION": "eu-west-1",
            "VERSION": CURRENT,
            "VOLUME": VOLUME,
            "TLS": "optional",
            "BACKUP_HOURS": "24",
            "LOG_GROUP": "Search-Logs",
            "CONTAINER_ADDRESS": "127.0.0.1",
        }
        self.environment = self.proxy.environment | {
            "PATH": f"{self.bin}:{os.environ['PATH']}",
            "SETTINGS": str(folder / "settings"),
            "INSTANCE_ID_FILE": str(folder / "instance-id"),
            "MOUNT": str(folder),
            "CHROMA_CGROUP": str(folder),
            "CHROMA_BACKUP": str(folder / "backup"),
            "UPTIME_FILE": str(folder / "uptime"),
            "CALLS": str(self.calls),
            "ANSWERS": str(self.answers),
            **{
                name: str(folder / name.lower())
                for name in (
                    "MAINTENANCE",
                    "DISK_FULL",
                    "NO_CHECKPOINT",
                    "CREDENTIAL_MADE",
                    "CREDENTIAL_PROBLEM",
                )
            },
        }
        (folder / "instance-id").write_text("i-0123456789abcdef0\n")
        (folder / "tls").mkdir()
        self.use_memory(400)
        made = self.post(
            "", {"name": "documents", "configuration": {"hnsw": {"sync_threshold": 3}}}
        )
        records = {"ids": ["a", "b", "c", "d"], "embeddings": [[1.0, float(it)] for it in range(4)]}
        self.post(f"/{made['id']}/add", records)
        self.reset()

    def reset(self) -> None:
        """Everything is as it should be."""
        for name in ("volume", "volume.new"):
            if (self.folder / name).is_dir():
                shutil.rmtree(self.folder / name)
        for name in (
            "maintenance",
            "disk_full",
            "volume.new",
            "no_checkpoint",
            "credential_problem",
            "backup",
            "volume",
            "calls",
        ):
            (self.folder / name).unlink(missing_ok=True)
        (self.folder / "tls" / "problem").unlink(missing_ok=True)
        for file in self.answers.iterdir():
            file.unlink()
        self.units("inactive")
        self.up(seconds=86400)
        self.aws("2026-11-28T03:00:01.123000+00:00")
        self.environment.pop("STATUS_DEADLINE", None)
        (self.folder / "credential_made").write_text(f"{int(time.time()) - 9 * 86400}\n")
        (self.folder / "settings").write_text(
            "".join(f"{name}={it}\n" for name, it in self.settings.items())
        )
        self.use_memory(400)

    def program(self, name: str, text: str) -> None:
        (self.bin / name).write_text(text)
        (self.bin / name).chmod(0o755)

    def post(self, path: str, body: object) -> Any:
        answer = httpx.post(
            f"{self.proxy.url}{COLLECTIONS}{path}",
            headers=self.proxy.right,
            json=body,
            timeout=60,
            verify=VERIFY,
        )
        return answer.raise_for_status().json()

    def units(self, checkpoint: str, sending: str = "active") -> None:
        text = ACTIVE.format(checkpoint=checkpoint, sending=sending)
        (self.answers / "systemctl-show").write_text(text)

    def up(self, seconds: int) -> None:
        (self.folder / "uptime").write_text(f"{seconds}.00 1.00\n")

    def aws(self, text: str) -> None:
        (self.answers / "aws").write_text(f"{text}\n")

    def backed_up(self, hours_ago: float) -> None:
        when = time.gmtime(time.time() - hours_ago * 3600)
        self.aws(time.strftime("%Y-%m-%dT%H:%M:%S+00:00", when))

    def use_memory(self, mib: int) -> None:
        (self.folder / "memory.stat").write_text(f"anon {mib * MIB}\n")
        (self.folder / "memory.max").write_text(f"{1000 * MIB}\n")

    def status(self, *arguments: str, **variables: str) -> Done:
        done = subprocess.run(
            [HOST / "status", *arguments],
            env=self.environment | variables,
            stdout=subprocess.PIPE,
            text=True,
            timeout=60,
        )
        return Done(done.returncode, done.stdout)

    def log(self, **variables: str) -> dict[str, Any]:
        """The line for the log."""
        done = self.status("--log", **variables)
        assert done.code == 0
        [line] = done.text.splitlines()
        found = json.loads(line)
        assert isinstance(found, dict)
        return found

    def json(self) -> dict[str, Any]:
        found = json.loads(self.status("--json").text)
        assert isinstance(found, dict)
        return found


@pytest.fixture(scope="module")
def the_server(
    tmp_path_factory: pytest.TempPathFactory, make_proxy: Callable[..., Proxy]
) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("server"), make_proxy)
    yield server
    server.chroma.stop()


@pytest.fixture
def server(the_server: Server) -> Server:
    the_server.reset()
    the_server.backed_up(hours_ago=5)
    return the_server


def test_a_healthy_server_needs_no_attention(server: Server) -> None:
    done = server.status()
    assert done.attention == [], done.text
    assert done.code == 0
    rows = dict(line.split("  ", 1) for line in done.text.splitlines())
    said = {name: it.strip() for name, it in rows.items()}
    assert said["server"] == "Search/Chroma"
    assert said["Chroma"].startswith(f"{CURRENT}, up ")
    assert said["Chroma"].endswith(", restarted 2 times")
    assert said["answers"] == "yes"
    assert said["data"] == "1 collections, 4 records"
    assert said["memory of Chroma"] == "400 of 1000 MiB in use, 40.0 %"
    assert said["credential"] == "9.0 days old"
    assert said["maintenance"] == "off"
    assert said["last backup"].endswith("; one every 24 hours")


def test_a_user_whose_credential_cannot_be_read_needs_attention(server: Server) -> None:
    sentences = [f"user {name}: the secret is empty; nobody is let in by it" for name in "ab"]
    (server.folder / "credential_problem").write_text("".join(f"{it}\n" for it in sentences))
    done = server.status()
    assert done.attention == [f"credential: {it}" for it in sentences]
    assert done.code == 1
    assert server.json()["credential_problems"] == sentences


def test_the_line_for_the_log_has_what_the_metrics_are_made_of(server: Server) -> None:
    line = server.log()
    assert (line["event"], line["answers"], line["memory_percent"]) == ("status", 1, 40.0)
    assert line["message"] == "nothing needs attention"
    assert line["backup_hours"] == pytest.approx(5, abs=0.1)
    assert line["certificate_days"] > 30
    assert 0 < line["disk_percent"] < 100
    assert {"server", "instance", "problems", "errors"}.isdisjoint(line)


def test_the_line_for_the_log_counts_no_records_and_has_the_checkpoint(server: Server) -> None:
    """A count of many takes longer than a minute leaves."""
    subprocess.run([HOST / "indexes", "checkpoint", server.folder / "data"], check=True)
    line = server.log()
    assert {"records", "collections"}.isdisjoint(line)
    assert time.time() - line["checkpoint"] < 3600


def test_what_is_not_known_is_not_said_to_be_none(server: Server) -> None:
    elsewhere = server.folder / "elsewhere"
    server.program("aws", "#!/bin/sh\nexit 1\n")
    try:
        done = server.status(CHROMA_DATA=str(elsewhere))
    finally:
        server.program("aws", RECORDED)
    rows = {line[:20].strip(): line[20:] for line in done.text.splitlines()}
    assert rows["last checkpoint"] == "not known"
    assert rows["data"] == "not known"
    assert rows["last backup"] == "not known; one every 24 hours"
    known = {"not known: checkpoint", "not known: records", "not known: backup"}
    assert known <= set(done.attention)


@pytest.mark.parametrize("state", ["activating", "inactive", "failed"])
def test_a_log_that_is_not_sent_needs_attention(server: Server, state: str) -> None:
    server.units("inactive", sending=state)
    what = "has failed" if state == "failed" else "does not run"
    units = ["chroma-logs.service", "amazon-cloudwatch-agent.service"]
    assert server.status().attention == [f"{it} {what}" for it in units]
    asked = server.calls.read_text().splitlines()
    assert any("show" in it and "amazon-cloudwatch-agent.service" in it for it in asked)
    if state != "failed":
        server.up(seconds=300)
        assert server.status().attention == [], "it may still be installed"


def test_without_monitoring_no_agent_is_looked_for_and_aws_not_asked(server: Server) -> None:
    server.settings["LOG_GROUP"] = ""
    try:
        server.reset()
        server.units("inactive", sending="inactive")
        done = server.status()
    finally:
        server.settings["LOG_GROUP"] = "Search-Logs"
    assert done.attention == []
    assert "not known without monitoring; one every 24 hours" in done.text
    calls = server.calls.read_text()
    assert "cloudwatch-agent" not in calls
    assert "describe-snapshots" not in calls


def test_a_long_state_is_still_one_line_of_the_journal(server: Server) -> None:
    """journald cuts it at 48 KiB, and no filter would read the rest."""
    too_large = " ".join(f"{it:036}" for it in range(5_000))
    (server.folder / "too-large").write_text(too_large)
    line = server.log(PROXY_TOO_LARGE=str(server.folder / "too-large"))
    assert line["answers"] == 1
    assert line["message"].startswith("not served, too large")
    assert len(json.dumps(line)) < 48 * 1024


def test_json_has_the_problems_too(server: Server) -> None:
    server.units("failed")
    found = server.json()
    assert found["problems"] == ["chroma-checkpoint.service has failed"]
    assert found["records"] == 4


def test_nothing_of_this_is_a_request_in_the_proxys_log(server: Server) -> None:
    before = len(server.proxy.log_lines())
    server.status()
    server.post("", {"name": "documents", "get_or_create": True})
    assert server.proxy.last_log_line(before + 1)["method"] == "POST"
    assert len(server.proxy.log_lines()) == before + 1


def test_a_chroma_that_does_not_answer_is_exit_2(server: Server) -> None:
    done = server.status(CONTAINER_PORT=str(free_port()))
    assert done.code == 2
    assert "Chroma does not answer" in done.attention
    assert server.log(CONTAINER_PORT=str(free_port()))["answers"] == 0


def test_a_proxy_that_does_not_answer_is_exit_2(server: Server) -> None:
    nobody = f"127.0.0.1:{free_port()}"
    done = server.status(PROXY_ADDRESS=nobody)
    assert done.code == 2
    assert "the proxy does not answer" in done.attention
    assert server.log(PROXY_ADDRESS=nobody)["answers"] == 0


def test_a_chroma_that_hangs_ends_the_wait(server: Server) -> None:
    with socket.create_server(("127.0.0.1", 0)) as hanging:
        port = str(hanging.getsockname()[1])
        done = server.status(CONTAINER_PORT=port, STATUS_DEADLINE="2")
    assert done.code == 2
    assert "not known: chroma answers" in done.attention


@pytest.mark.parametrize("name", ["systemctl", "journalctl", "aws"])
def test_a_program_that_hangs_keeps_nothing_else_from_being_said(server: Server, name: str) -> None:
    kept = (server.bin / name).read_text()
    server.program(name, "#!/bin/sh\nexec sleep 60\n")
    try:
        done = server.status(STATUS_DEADLINE="4")
    finally:
        server.program(name, kept)
    known = {"systemctl": "units", "journalctl": "errors", "aws": "backup"}
    assert done.attention == [f"not known: {known[name]}"]
    assert "4 records" in done.text
    assert done.code == 1


def test_maintenance_is_said_until_it_ends(server: Server) -> None:
    (server.folder / "maintenance").write_text(f"{int(time.time()) + 600}\n")
    done = server.status()
    assert done.code == 1
    [problem] = done.attention
    assert problem.startswith("maintenance until 20")
    (server.folder / "maintenance").write_text(f"{int(time.time()) - 1}\n")
    assert server.status().code == 0


def test_memory_that_is_almost_full_needs_attention(server: Server) -> None:
    server.use_memory(870)
    assert server.status().attention == ["Chroma uses much of its memory"]
    assert server.log()["memory_percent"] == 87.0


@pytest.mark.parametrize(
    ("name", "what"), [("disk", "the data volume"), ("memory", "Chroma's memory")]
)
def test_writes_that_are_refused_are_said(server: Server, name: str, what: str) -> None:
    def tell_proxy(state: str) -> None:
        with socket.socket(socket.AF_UNIX) as admin:
            admin.connect(str(server.proxy.admin_socket))
            admin.sendall(f"set server {name}/{name} state {state}\n".encode())
            admin.recv(1000)

    tell_proxy("maint")
    try:
        done = server.status()
    finally:
        tell_proxy("ready")
    assert done.attention == [f"writes are refused: {what} is almost full"]
    assert server.status().code == 0


def test_a_checkpoint_that_failed_is_said(server: Server) -> None:
    (server.folder / "no_checkpoint").touch()
    assert server.status().attention == [
        "the last checkpoint failed: journalctl --unit chroma-checkpoint"
    ]


def test_the_last_checkpoint_is_said(server: Server) -> None:
    subprocess.run([HOST / "indexes", "checkpoint", server.folder / "data"], check=True)
    assert time.time() - server.json()["checkpoint"] < 3600
    assert server.status().code == 0


def test_a_damaged_index_is_said_by_its_collection(server: Server) -> None:
    [pickle] = (server.folder / "data").glob("*-*/index_metadata.pickle")
    content = pickle.read_bytes()
    pickle.write_bytes(content[:-1])
    try:
        done = server.status()
    finally:
        pickle.write_bytes(content)
    assert done.code == 1
    [problem] = done.attention
    assert problem.startswith("the index of default_tenant/default_database/documents damaged: ")


def test_a_certificate_that_is_not_there_is_not_known_and_without_tls_not_asked_for(
    server: Server,
) -> None:
    gone = str(server.folder / "gone.pem")
    assert server.status(PROXY_CERTIFICATE=gone).attention == ["not known: certificate"]
    server.settings["TLS"] = "off"
    try:
        server.reset()
        assert "certificate_days" not in server.log(PROXY_CERTIFICATE=gone)
    finally:
        server.settings["TLS"] = "optional"


def test_what_the_certificate_lacks_is_said(server: Server) -> None:
    (server.folder / "tls" / "problem").write_text("the authority does not answer")
    assert server.status().attention == ["certificate: the authority does not answer"]


def test_what_the_certificate_lacks_is_read_of_a_file_only_and_not_without_end(
    server: Server,
) -> None:
    problem = server.folder / "tls" / "problem"
    problem.write_text("x" * 1_000_000)
    [said] = server.status().attention
    assert len(said) < 2000
    problem.unlink()
    os.mkfifo(problem)
    assert server.log()["message"] == "nothing needs attention"


def test_aws_is_asked_for_the_backup_once_an_hour(server: Server) -> None:
    for _ in range(3):
        server.log()
    [call] = [it for it in server.calls.read_text().splitlines() if it.startswith("aws")]
    assert "ec2 describe-snapshots --region eu-west-1" in call
    assert f"Name=volume-id,Values={VOLUME} Name=status,Values=completed" in call


def test_the_latest_of_several_backups_counts(server: Server) -> None:
    server.aws("2020-01-01T03:00:00+00:00\t2026-11-28T03:00:00.123000+00:00\t2026-11-20T03:00:00Z")
    assert server.json()["backup"] == pytest.approx(1795834800.123)


def test_a_backup_that_is_missing_needs_attention(server: Server) -> None:
    server.backed_up(hours_ago=60)
    assert server.status().attention == ["no backup for 60.0 hours, with one every 24"]


def test_while_there_is_no_backup_the_age_is_that_of_the_volume_in_this_server(
    server: Server,
) -> None:
    server.aws("")
    (server.folder / "volume").write_text("vol-restored-from 1700000000\n")
    assert server.log()["backup_hours"] == 0
    volume, since = (server.folder / "volume").read_text().split()
    assert volume == VOLUME
    assert time.time() - int(since) < 60
    (server.folder / "volume").write_text(f"{VOLUME} {int(time.time()) - 3 * 3600}\n")
    assert server.log()["backup_hours"] == pytest.approx(3, abs=0.1)
    assert "none yet; one every 24 hours" in server.status().text


@pytest.mark.parametrize(
    "kept", [f"{VOLUME} {10**400}", f"{VOLUME} inf", VOLUME, "x" * 1_000_000, "99999999999", ""]
)
def test_a_file_that_is_no_time_of_this_volume_is_replaced(server: Server, kept: str) -> None:
    server.aws("")
    (server.folder / "volume").write_text(kept)
    assert server.log()["backup_hours"] == 0
    assert (server.folder / "volume").read_text().startswith(f"{VOLUME} 1")


@pytest.mark.parametrize("name", ["volume", "volume.new"])
def test_no_folder_or_link_on_the_volume_leads_elsewhere(server: Server, name: str) -> None:
    """It may come from anybody's snapshot."""
    server.aws("")
    elsewhere = server.folder / "elsewhere.txt"
    elsewhere.write_text("untouched")
    (server.folder / name / "folder").mkdir(parents=True)
    assert server.log()["backup_hours"] == 0
    (server.folder / "volume").unlink()
    (server.folder / name).symlink_to(elsewhere)
    assert server.log()["backup_hours"] == 0
    assert (server.folder / "volume").read_text().startswith(f"{VOLUME} 1")
    assert elsewhere.read_text() == "untouched"


def test_while_aws_does_not_answer_the_age_is_kept_for_some_hours_and_then_not_known(
    server: Server,
) -> None:
    (server.answers / "aws.error").write_text("Could not connect to the endpoint URL\n")
    assert "backup_hours" not in server.log()
    file = server.folder / "backup"
    for hours, known in ((5, True), (7, False)):
        asked = time.time() - hours * 3600
        kept = {"volume": VOLUME, "asked": asked, "tried": asked, "snapshot": asked - 3600}
        file.write_text(json.dumps(kept))
        line = server.log()
        assert ("backup_hours" in line) == known
        assert ("not known: backup" in line["message"]) != known
        if known:
            assert line["backup_hours"] == pytest.approx(hours + 1, abs=0.1)
    before = server.calls.read_text().count("aws ")
    server.log()
    assert server.calls.read_text().count("aws ") == before, "it is not asked every minute"


def test_without_a_schedule_aws_is_not_asked(server: Server) -> None:
    server.settings["BACKUP_HOURS"] = ""
    try:
        server.reset()
        assert "backup_hours" not in server.log()
        assert "none by the schedule of this stack" in server.status().text
    finally:
        server.settings["BACKUP_HOURS"] = "24"
    assert "aws" not in server.calls.read_text()


def test_the_last_errors_are_shown_and_they_alone(server: Server) -> None:
    server.journal.say("chroma-credential", "the secret cannot be read", PRIORITY="3")
    server.journal.say("chroma", "ERROR chroma: disk I/O error")
    server.journal.say("chroma", "listening on 0.0.0.0:8000")
    server.journal.say("chroma-status", '{"event":"status","message":"Error"}')
    assert last_errors(server) == [
        "2 since 2026-11-29 03:00 UTC",
        "the secret cannot be read",
        "ERROR chroma: disk I/O error",
    ]


def test_an_error_is_found_behind_hours_of_lines_that_are_none(server: Server) -> None:
    """Also one with colors, or with bytes that are no text, which the journal has as numbers."""
    server.journal.file.write_text("")
    for it in ("1", "2", "3", "4"):
        server.journal.say("chroma", list(f"\x1b[31mERROR\x1b[0m caf\xe9 {it}".encode("latin-1")))
    for _ in range(2_000):
        server.journal.say("chroma-health-check", "Finished Health check.")
    count, *found = last_errors(server)
    assert count.startswith("4 since ")
    assert found == [f"ERROR  caf\ufffd {it}" for it in ("1", "2", "3", "4")]
    server.journal.say("chroma", "ERROR 5")
    server.journal.say("chroma", "ERROR 6")
    assert last_errors(server)[1:] == [*found[1:], "ERROR 5", "ERROR 6"]


def last_errors(server: Server) -> list[str]:
    """In how far back, and the errors without their time."""
    lines = [it for it in server.status().text.splitlines() if it.startswith("last errors")]
    return [it[20:].split("Z ", 1)[-1] for it in lines]


def test_the_records_of_an_old_release_are_counted_too(tmp_path: Path) -> None:
    old = ChromaServer(LAST_PYTHON, tmp_path)
    try:
        url = f"http://{old.address}{COLLECTIONS}"
        made = httpx.post(url, json={"name": "old"}, timeout=60).raise_for_status().json()
        records = {"ids": ["a", "b"], "embeddings": [[1.0, 0.0], [0.0, 1.0]]}
        httpx.post(f"{url}/{made['id']}/add", json=records, timeout=60).raise_for_status()
    finally:
        old.stop()
    said = subprocess.run(
        [HOST / "status", "--survey", "records"],
        env={"PATH": os.environ["PATH"], "MOUNT": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert json.loads(said) == {"collections": 1, "records": 2}


@pytest.mark.parametrize("arguments", [["--yaml"], ["--json", "--log"]])
def test_other_arguments_are_refused(server: Server, arguments: list[str]) -> None:
    assert server.status(*arguments).code == 64
