"""The rig's stand-in for the CloudWatch agent, run on this computer, without a machine."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chroma_stack.emulator.aws import Aws
from chroma_stack.emulator.imds import REPOSITORY, InstanceMetadata
from chroma_stack.emulator.moto_server import MotoServer
from tests.host.programs import HOST, wait_until

AGENT = (
    REPOSITORY / "amazon-cloudwatch-agent/opt/aws/amazon-cloudwatch-agent/bin"
) / "amazon-cloudwatch-agent"
GROUP, STREAM = "a-group", "i-0123456789abcdef0"
CONFIGURATION: dict[str, Any] = {
    "agent": {"metrics_collection_interval": 60, "omit_hostname": True},
    "metrics": {
        "namespace": "Chroma",
        "metrics_collected": {
            "mem": {"measurement": ["used_percent"], "append_dimensions": {"Server": "S/1"}},
            "disk": {"measurement": ["used_percent"], "resources": ["/"], "drop_device": True},
        },
    },
    "logs": {
        "force_flush_interval": 1,
        "logs_collected": {
            "files": {
                "collect_list": [
                    {
                        "file_path": "/var/log/chroma.log",
                        "log_group_name": GROUP,
                        "log_stream_name": "{instance_id}",
                        "timestamp_format": "%Y-%m-%dT%H:%M:%SZ",
                    }
                ]
            }
        },
    },
}


def refused(config: dict[str, Any], folder: Path) -> str:
    """What the agent says of a configuration; nothing if it takes it."""
    file = folder / "agent.json"
    file.write_text(json.dumps(config))
    done = subprocess.run(
        [sys.executable, AGENT, "-schematest", file], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode == 0) == (done.stderr == "")
    return done.stderr


def test_a_configuration_that_the_agent_takes_is_taken(tmp_path: Path) -> None:
    assert refused(CONFIGURATION, tmp_path) == ""


@pytest.mark.parametrize(
    ("way", "value"),
    [
        (("agent", "metrics_collection_interval"), "60"),
        (("agent", "metrics_collection_interval"), 0),
        (("metrics", "metrics_collected", "mem", "measurement"), None),
        (("metrics", "metrics_collected", "mem", "measurement"), ["free_percent"]),
        (("metrics", "metrics_collected", "disk", "resources"), "/"),
        (("metrics", "metrics_collected"), None),
        (("metrics", "append_dimensions"), {"Server": "S/1"}),
        (("metrics", "dimensions"), {}),
        (("logs", "logs_collected", "files", "collect_list"), []),
        (("logs", "logs_collected", "files", "collect_list", 0, "file_path"), None),
        (("logs", "logs_collected", "files", "collect_list", 0, "log_group"), GROUP),
        (("logs", "logs_collected"), None),
    ],
)
def test_a_configuration_that_the_agent_refuses_is_refused(
    tmp_path: Path, way: tuple[str | int, ...], value: object
) -> None:
    config = copy.deepcopy(CONFIGURATION)
    place: Any = config
    for name in way[:-1]:
        place = place[name]
    if value is None:
        del place[way[-1]]
    else:
        place[way[-1]] = value
    assert "Invalid Json input schema: /" in refused(config, tmp_path)


@pytest.fixture
def aws() -> Iterator[Aws]:
    with MotoServer() as account:
        aws = Aws(account)
        aws.client("logs").create_log_group(logGroupName=GROUP)
        yield aws
        aws.close()


@pytest.fixture
def metadata() -> Iterator[InstanceMetadata]:
    metadata = InstanceMetadata(STREAM, "us-east-1", "")
    yield metadata
    metadata.close()


class Agent:
    """The agent at work, ended by `stop`."""

    def __init__(self, folder: Path, config: dict[str, Any], aws: Aws, imds: InstanceMetadata):
        configurations = folder / "etc" / "amazon-cloudwatch-agent.d"
        configurations.mkdir(parents=True, exist_ok=True)
        (configurations / "file_agent.json").write_text(json.dumps(config))
        self._process = subprocess.Popen(
            [sys.executable, AGENT],
            env={
                **os.environ,
                "RIG_AGENT_HOME": str(folder),
                "AWS_ENDPOINT_URL": f"http://127.0.0.1:{aws.port}",
                "AWS_EC2_METADATA_SERVICE_ENDPOINT": f"http://127.0.0.1:{imds.port}",
            },
        )

    def stop(self) -> None:
        self._process.terminate()
        assert self._process.wait(30) == 0


def test_lines_arrive_once_over_a_rotation_and_a_restart_of_the_agent(
    tmp_path: Path, aws: Aws, metadata: InstanceMetadata
) -> None:
    log = tmp_path / "chroma.log"
    config = copy.deepcopy(CONFIGURATION)
    config["logs"]["logs_collected"]["files"]["collect_list"][0]["file_path"] = str(log)
    logs = aws.client("logs")

    def shipped() -> list[str]:
        try:
            answer = logs.get_log_events(
                logGroupName=GROUP, logStreamName=STREAM, startFromHead=True
            )
        except logs.exceptions.ResourceNotFoundException:
            return []
        return [event["message"] for event in answer["events"]]

    def write(*lines: str) -> None:
        with log.open("a") as file:
            file.write("".join(lines))

    write("before the agent\n")
    agent = Agent(tmp_path, config, aws, metadata)
    wait_until(lambda: shipped() == ["before the agent"], "the first line arrives")
    write("the last of one file\n")
    log.rename(tmp_path / "chroma.log.1")
    write("the first of the next\n", "half a ")
    wait_until(lambda: len(shipped()) == 3, "the file is followed by its name")
    agent.stop()
    write("line\n")
    agent = Agent(tmp_path, config, aws, metadata)
    expected = [
        "before the agent",
        "the last of one file",
        "the first of the next",
        "half a line",
    ]
    wait_until(lambda: sorted(shipped()) == sorted(expected), "each line arrives once")
    agent.stop()
    found = aws.client("cloudwatch").list_metrics(Namespace="Chroma")["Metrics"]
    assert {
        (metric["MetricName"], tuple(sorted(its["Name"] for its in metric["Dimensions"])))
        for metric in found
    } == {("mem_used_percent", ("Server",)), ("disk_used_percent", ("fstype", "path"))}


def test_the_project_configures_it_with_what_it_takes(tmp_path: Path) -> None:
    config = json.loads((HOST / "cloudwatch-agent.json").read_text())
    assert refused(config, tmp_path) == ""
